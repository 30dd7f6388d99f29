/* data-plane/filter/slots.h: compressed sets of slots. The only place that knows CRoaring. */
#ifndef DP_SLOTS_H
#define DP_SLOTS_H
#include "base/buf.h"
#include "base/err.h"

/* A set of slots. Who makes one frees it; free(NULL) is allowed. Threads: any number of readers, or
 * one writer. Functions that make a set give NULL when memory ran out. CRoaring itself does not
 * check every allocation of its containers: see docs/adr/0120-*. */
typedef struct roaring_bitmap_s dp_slots;

dp_slots *dp_slots_new(void);
void dp_slots_free(dp_slots *set);
dp_slots *dp_slots_copy(const dp_slots *set);

/* From slots in ascending order, without repeats. */
dp_slots *dp_slots_of(const uint32_t *slots, size_t count);

/* From bits: slot s is bit s % 64 of words[s / 64], for s below slot_end. */
dp_slots *dp_slots_of_words(const uint64_t *words, uint32_t slot_end);

bool dp_slots_add(dp_slots *set, uint32_t slot); /* false: it was there */
void dp_slots_add_many(dp_slots *set, const uint32_t *slots, size_t count); /* in any order */
void dp_slots_remove(dp_slots *set, uint32_t slot);
bool dp_slots_has(const dp_slots *set, uint32_t slot);
uint64_t dp_slots_count(const dp_slots *set);
bool dp_slots_is_empty(const dp_slots *set);

dp_slots *dp_slots_and(const dp_slots *a, const dp_slots *b);
dp_slots *dp_slots_or(const dp_slots *a, const dp_slots *b);
dp_slots *dp_slots_minus(const dp_slots *a, const dp_slots *b);
dp_slots *dp_slots_or_many(const dp_slots *const *sets, size_t count);
void dp_slots_and_into(dp_slots *a, const dp_slots *b);
void dp_slots_or_into(dp_slots *a, const dp_slots *b);
void dp_slots_minus_into(dp_slots *a, const dp_slots *b);
uint64_t dp_slots_and_count(const dp_slots *a, const dp_slots *b);
bool dp_slots_are_equal(const dp_slots *a, const dp_slots *b);

/* Calls fn for each slot in ascending order until it returns false. */
void dp_slots_each(const dp_slots *set, bool (*fn)(void *ctx, uint32_t slot), void *ctx);

/* All slots, ascending, into out[dp_slots_count()]. */
void dp_slots_list(const dp_slots *set, uint32_t *out);

/* Sets the bits of the slots below slot_end; other bits stay. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_slots_to_words(const dp_slots *set, uint64_t *words, uint32_t slot_end);

/* Bytes it takes on its way to disk, which is about what it takes in memory. */
size_t dp_slots_bytes(const dp_slots *set);

/* Gives spare room back; after a build or a load. */
void dp_slots_trim(dp_slots *set);

/* The set as pairs of gap and run length, LEB128 integers, behind their number. Slots at or above
 * `below` are left out. It is our own form, not CRoaring's: whatever the bytes, what is decoded is
 * a sound set. */
void dp_slots_encode(const dp_slots *set, uint32_t below, ort_buf *out);

/* ORT_ECORRUPT: not what encode wrote, or a slot at or above slot_end. ORT_ENOMEM. *out is NULL. */
ORT_NODISCARD ort_err dp_slots_decode(dp_slots **out, ort_cursor *from, uint32_t slot_end);

/* The integers of it. Reading: 0, and the cursor fails, when none stands there. */
void dp_leb_put(ort_buf *out, uint64_t v);
uint64_t dp_leb_take(ort_cursor *from);
#endif /* DP_SLOTS_H */
