/* data-plane/filter/numbers.h: an ordered map from 64-bit keys to slots; any number of slots a key,
 * any number of keys a slot. */
#ifndef DP_NUMBERS_H
#define DP_NUMBERS_H
#include "filter/slots.h"

/* Sorted blocks. A key with many slots has a block to itself, which is a compressed set and nothing
 * else; the others share blocks of pairs, each with the set of its slots beside them, so that a
 * range is the union of few sets. Threads: any number of readers, or one writer. */
typedef struct dp_numbers dp_numbers;

dp_numbers *dp_numbers_new(void); /* NULL: no memory */
void dp_numbers_free(dp_numbers *map);

/* Adding a pair that is there changes nothing. ORT_ENOMEM: nothing changed. */
ORT_NODISCARD ort_err dp_numbers_add(dp_numbers *map, int64_t key, uint32_t slot);

/* Takes the slots of `dead` out everywhere. ORT_ENOMEM: some of them may be left; go on as if none
 * had been taken. */
ORT_NODISCARD ort_err dp_numbers_sweep(dp_numbers *map, const dp_slots *dead);

/* The slots with a key of from .. to, both included; the caller's. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_numbers_range(const dp_numbers *map, int64_t from, int64_t to,
                                       dp_slots **out);

/* Whether any key of from .. to is there. */
bool dp_numbers_any(const dp_numbers *map, int64_t from, int64_t to);

/* Pairs in the map. */
uint64_t dp_numbers_count(const dp_numbers *map);
size_t dp_numbers_bytes(const dp_numbers *map);

/* Walks pairs in the order of keys, slots of one key ascending; the map must not change meanwhile.
 * Begin with dp_numbers_begin(); dp_numbers_end() gives back what the walk holds. */
typedef struct {
    const dp_numbers *map;
    bool descending;
    uint32_t block; /* under way; block count at the end */
    uint32_t at;    /* pairs of it that were told */
    uint32_t *same; /* slots of a block of one key */
    uint32_t same_block;
} dp_numbers_walk;

/* From the first pair with a key >= start (descending: <= start). */
dp_numbers_walk dp_numbers_begin(const dp_numbers *map, bool descending, int64_t start);
/* ORT_OK, ORT_ENOTFOUND: no more. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_numbers_next(dp_numbers_walk *walk, int64_t *key, uint32_t *slot);
void dp_numbers_end(dp_numbers_walk *walk);

/* Appends keys from *from on, without slots at or above `below`, until out has grown by about
 * `bytes`; *count grows by the blocks that were written, and *from goes behind them. false: there
 * is no more. dp_numbers_decode() wants the LEB128 number of blocks, then the blocks; between two
 * calls slots from `below` on may be added to the map. Decode as dp_slots_decode(). */
bool dp_numbers_encode(const dp_numbers *map, uint32_t below, int64_t *from, size_t bytes,
                       ort_buf *out, uint64_t *count);
ORT_NODISCARD ort_err dp_numbers_decode(dp_numbers **out, ort_cursor *from, uint32_t slot_end);
#endif /* DP_NUMBERS_H */
