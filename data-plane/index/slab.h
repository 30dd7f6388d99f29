/* data-plane/index/slab.h: an array that grows while others read it and whose elements never move.
 */
#ifndef DP_SLAB_H
#define DP_SLAB_H
#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

/* Chunk 0 holds the first 2^DP_SLAB_FIRST_BITS elements, every later one as many as all before it:
 * small graphs stay small, large ones have few chunks, large enough for huge pages. */
#define DP_SLAB_FIRST_BITS 10
#define DP_SLAB_CHUNKS (33 - DP_SLAB_FIRST_BITS)

typedef struct {
    /* Address of the chunk less what its first element would be away from element 0, so that
     * looking up is one load, one multiplication and one addition. 0: not there yet. */
    _Atomic(uintptr_t) biased[DP_SLAB_CHUNKS];
    size_t stride_bytes;
} dp_slab;

void dp_slab_init(dp_slab *slab, size_t stride_bytes);
void dp_slab_fini(dp_slab *slab);

/* Makes elements 0 .. index exist, new ones zeroed. One thread at a time; readers may run.
 * ORT_ENOMEM: fewer exist, none was lost. */
ORT_NODISCARD ort_err dp_slab_reserve(dp_slab *slab, uint32_t index);

/* Memory of the first `count` elements, in whole pages: what lies behind them in the last chunk was
 * never touched and is not there yet. */
size_t dp_slab_bytes(const dp_slab *slab, uint32_t count);

static inline unsigned
dp_slab_chunk_of(uint32_t index)
{
    uint32_t high = index >> DP_SLAB_FIRST_BITS;

    return high == 0 ? 0 : 32U - (unsigned)__builtin_clz(high);
}

/* Elements of a chunk, and the first of them. */
static inline uint32_t
dp_slab_chunk_begin(unsigned chunk)
{
    return chunk == 0 ? 0 : UINT32_C(1) << (DP_SLAB_FIRST_BITS + chunk - 1);
}

static inline uint32_t
dp_slab_chunk_count(unsigned chunk)
{
    return chunk == 0 ? UINT32_C(1) << DP_SLAB_FIRST_BITS : dp_slab_chunk_begin(chunk);
}

/* index must exist. */
static inline void *
dp_slab_at(const dp_slab *slab, uint32_t index)
{
    uintptr_t base = atomic_load_explicit(
        (_Atomic(uintptr_t) *)&slab->biased[dp_slab_chunk_of(index)], memory_order_acquire);

    return (void *)(base + (uintptr_t)index * slab->stride_bytes);
}
#endif /* DP_SLAB_H */
