/* data-plane/index/scratch.h: what one walk needs, kept from walk to walk. */
#ifndef DP_SCRATCH_H
#define DP_SCRATCH_H
#include <stdatomic.h>

#include "index/code.h"
#include "index/rows.h"

#define DP_SCRATCH_MAX 1024u /* walks at one time in this process */

/* A slot met by a walk. The top bit of `slot` says that its links were followed: hence slots below
 * DP_HNSW_SLOT_MAX. */
typedef dp_hit dp_candidate;
typedef struct dp_code_set dp_code_set;
#define DP_EXPANDED UINT32_C(0x80000000)

/* Scratches belong to the process, not to a graph: a node with ten thousand graphs needs as many as
 * it has threads. A thread takes one, uses it alone, and gives it back; no lock is held. */
typedef struct dp_scratch {
    /* Which graph is being walked, and how many walks there were: what dp_scratch_drain() watches.
     */
    _Atomic(const void *) owner;
    _Atomic(uint64_t) runs;

    /* Since the process began; written by who has it, read by anyone. */
    _Atomic(uint64_t) followed; /* lists of links read */
    _Atomic(uint64_t) measured; /* distances */

    /* visited[slot] == epoch: met by this walk. No clearing, but once in 255 walks. */
    uint8_t *visited;
    uint32_t visited_count; /* slots that this walk may meet; others are passed over */
    uint32_t visited_max;   /* room for as many */
    uint8_t epoch;

    dp_candidate *pool; /* candidates, nearest first */
    size_t pool_max;

    uint32_t *ids; /* a few thousand each, see DP_BATCH_MAX */
    const unsigned char **rows;
    float *distances;
    uint32_t *spare; /* ids of links, when `ids` is in use */

    const dp_code_set *set; /* the codes that this walk goes over; NULL: rows */
    dp_code_query code;     /* the query in codes */
    dp_code_query other;    /* a second one, for distances between rows */
    int8_t *code_bytes;     /* of both */
    size_t code_bytes_max;
    float *room; /* for coding */
    size_t room_max;
    float *vector; /* a row as floats */
    float *other_vector;
    size_t dim_max;
    unsigned at; /* its place in the table */
} dp_scratch;

/* Room of ids, rows, distances and spare: neighbours of neighbours of one node. */
#define DP_BATCH_MAX 4096u

/* Takes a scratch for a walk of `owner` over slots below slot_count and vectors of dim. Its
 * visited set is empty. ORT_EBUSY: DP_SCRATCH_MAX are in use; ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_scratch_take(dp_scratch **out, const void *owner, uint32_t slot_count,
                                      size_t dim);

/* Room for two queries of so many bytes and for coding; what is in there is lost. */
ORT_NODISCARD ort_err dp_scratch_code(dp_scratch *scratch, size_t query_bytes, size_t room_floats);

/* Room for n candidates; what is in there is lost. */
ORT_NODISCARD ort_err dp_scratch_pool(dp_scratch *scratch, size_t n);

/* Empties the visited set. */
void dp_scratch_forget(dp_scratch *scratch);

void dp_scratch_give(dp_scratch *scratch);

/* Waits until every walk of `owner` that runs now has ended. */
void dp_scratch_drain(const void *owner);

/* What all walks of this process have done so far. */
typedef struct {
    uint64_t followed;
    uint64_t measured;
} dp_scratch_counts;
void dp_scratch_count(dp_scratch_counts *out);

/* Adds to them; no other thread writes. */
static inline void
dp_scratch_worked(dp_scratch *scratch, size_t followed, size_t measured)
{
    atomic_store_explicit(&scratch->followed,
                          atomic_load_explicit(&scratch->followed, memory_order_relaxed) + followed,
                          memory_order_relaxed);
    atomic_store_explicit(&scratch->measured,
                          atomic_load_explicit(&scratch->measured, memory_order_relaxed) + measured,
                          memory_order_relaxed);
}

/* Marks; false when it was marked, or is beyond what the walk knows. */
static inline bool
dp_scratch_visit(dp_scratch *scratch, uint32_t slot)
{
    if (slot >= scratch->visited_count || scratch->visited[slot] == scratch->epoch) {
        return false;
    }
    scratch->visited[slot] = scratch->epoch;
    return true;
}
#endif /* DP_SCRATCH_H */
