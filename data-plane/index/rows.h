/* data-plane/index/rows.h: how the index sees vectors that somebody else keeps. */
#ifndef DP_ROWS_H
#define DP_ROWS_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "index/distance.h"

/* A chunk holds 2^chunk_bits rows, one after the other, and never moves while the view lives. */
typedef _Atomic(const unsigned char *) dp_chunk;

/* Rows of one vector, addressed by slot. The owner (storage, collection, a test) fills it and keeps
 * it, and its chunks, until nothing that was given it is left.
 *
 * The owner may go on adding while readers run: it writes the row, then publishes a new chunk with
 * dp_rows_publish() (or, when the directory is full, a larger directory with a release store to
 * `chunks`, keeping the old one until every reader is gone), and only then tells anybody the slot.
 * A row does not change while its slot is in a graph or in a range that is being scanned. */
typedef struct {
    _Atomic(dp_chunk *) chunks; /* directory: chunks[slot >> chunk_bits] */
    uint32_t chunk_bits;        /* log2 of the rows in a chunk, 0 .. 31 */
    uint32_t stride_bytes;      /* from one row to the next, >= dim * dp_elem_bytes(elem) */
    uint32_t dim;               /* components, 1 .. ORT_DIM_MAX */
    dp_elem elem;
    bool on_disk; /* mapped, and not meant to stay in memory: see dp_rows_fetch() */
} dp_rows;

/* Before n rows are read one after the other: where they are on disk, asks the system for all that
 * are not in memory, without waiting. Only a hint. */
void dp_rows_fetch(const dp_rows *rows, const unsigned char *const *at, size_t n);

/* Makes chunk number `index` visible to readers. */
static inline void
dp_rows_publish(dp_rows *rows, uint32_t index, const void *chunk)
{
    dp_chunk *directory = atomic_load_explicit(&rows->chunks, memory_order_relaxed);
    atomic_store_explicit(&directory[index], (const unsigned char *)chunk, memory_order_release);
}

/* The row of a slot whose chunk was published; borrowed, valid as long as the view. */
static inline const unsigned char *
dp_rows_peek(const dp_rows *rows, uint32_t slot)
{
    dp_chunk *directory =
        atomic_load_explicit((_Atomic(dp_chunk *) *)&rows->chunks, memory_order_acquire);
    const unsigned char *chunk =
        atomic_load_explicit(&directory[slot >> rows->chunk_bits], memory_order_acquire);

    return chunk +
           (size_t)(slot & ((UINT32_C(1) << rows->chunk_bits) - 1)) * (size_t)rows->stride_bytes;
}

/* A set of slots as bits, borrowed for a call; the owner may set and clear bits meanwhile. Slot s
 * is bit s % 64 of words[s / 64]; slots from slot_end on are not in it. words NULL: every slot is
 * in it. */
typedef struct {
    const _Atomic(uint64_t) *words;
    uint32_t slot_end;
} dp_slot_set;

static inline bool
dp_slot_set_has(const dp_slot_set *set, uint32_t slot)
{
    if (set->words == NULL) {
        return true;
    }
    if (slot >= set->slot_end) {
        return false;
    }
    return (atomic_load_explicit((_Atomic(uint64_t) *)&set->words[slot / 64],
                                 memory_order_relaxed) >>
            (slot % 64)) &
           1;
}

/* Which slots a search may return. All three must agree; an empty one agrees with everything, so
 * `{0}`, or a NULL pointer to it, means no filter. Walks pass through slots that do not match. */
typedef struct {
    dp_slot_set live;    /* rows that exist: the storage's live bitmap */
    dp_slot_set allowed; /* rows that a filter lets through, when they are known as bits */
    bool (*match)(void *arg, uint32_t slot); /* or a question per slot; any thread of the search */
    void *arg;

    /* Estimated share of the live slots that `allowed` and `match` let through, in (0, 1]; 0 = not
     * known. Only the choice of method hangs on it, never whether the answer is right. */
    float selectivity;
} dp_slot_filter;

static inline bool
dp_slot_filter_passes(const dp_slot_filter *filter, uint32_t slot)
{
    return filter == NULL ||
           (dp_slot_set_has(&filter->live, slot) && dp_slot_set_has(&filter->allowed, slot) &&
            (filter->match == NULL || filter->match(filter->arg, slot)));
}
#endif /* DP_ROWS_H */
