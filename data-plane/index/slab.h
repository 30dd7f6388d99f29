/* data-plane/index/slab.h: an array that grows while others read it and whose elements never move.
 */
#ifndef DP_SLAB_H
#define DP_SLAB_H
#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/mapped.h"

/* Chunk 0 holds the first 2^DP_SLAB_FIRST_BITS elements, every later one as many as all before it:
 * small graphs stay small, large ones have few chunks, large enough for huge pages. */
#define DP_SLAB_FIRST_BITS 10
#define DP_SLAB_CHUNKS (33 - DP_SLAB_FIRST_BITS)

typedef struct {
    /* Address of the chunk less what its first element would be away from element 0, so that
     * looking up is one load, one multiplication and one addition. 0: not there yet. */
    _Atomic(uintptr_t) biased[DP_SLAB_CHUNKS];
    size_t stride_bytes;
    _Atomic(uint32_t) mapped; /* bit c: chunk c is a private mapping of a file */
    _Atomic(ort_watch *) watches[DP_SLAB_CHUNKS]; /* of mapped chunks */
} dp_slab;
static_assert(DP_SLAB_CHUNKS <= 32, "a bit a chunk");

void dp_slab_init(dp_slab *slab, size_t stride_bytes);
void dp_slab_fini(dp_slab *slab);

/* Makes elements 0 .. index exist, new ones zeroed. One thread at a time; readers may run.
 * ORT_ENOMEM: fewer exist, none was lost. */
ORT_NODISCARD ort_err dp_slab_reserve(dp_slab *slab, uint32_t index);

/* Makes elements 0 .. count - 1 those that stand one after the other at `offset` of a file, without
 * reading any: pages come when they are touched, and what is written to them stays in memory. The
 * slab is empty; `offset` is a multiple of 4096, and so is the stride times the first chunk, so
 * that every chunk begins at a page. The file may be closed afterwards, its last page is there in
 * whole, zeros behind the last element.
 *
 * ORT_ENOTIMPL  pages of this machine are not of 4096 bytes: read it instead. ORT_ENOMEM, ORT_EIO;
 *               the slab is empty after any of them */
ORT_NODISCARD ort_err dp_slab_map(dp_slab *slab, int fd, uint64_t offset, uint32_t count,
                                  ort_diag *diag);

/* Whether a page of a mapped chunk could not be read; it is zeros then. Not beside an exchange. */
bool dp_slab_is_bad(const dp_slab *slab);

/* How the system shall treat the mapped chunks: MADV_RANDOM, MADV_SEQUENTIAL and so on. */
void dp_slab_advise(const dp_slab *slab, int advice);

/* Puts chunk c of `fresh` in the place of the slab's, and the slab's into `fresh`. Readers of the
 * slab go on in one or the other: who frees `fresh` waits for them before. Nobody writes. */
void dp_slab_exchange(dp_slab *slab, dp_slab *fresh, unsigned chunk);

/* Copies what a chunk of the slab has of the first `count` elements into memory, as the same chunk
 * of `fresh`, which has none. ORT_ENOMEM */
ORT_NODISCARD ort_err dp_slab_copy(const dp_slab *slab, dp_slab *fresh, unsigned chunk,
                                   uint32_t count);

static inline bool
dp_slab_is_mapped(const dp_slab *slab, unsigned chunk)
{
    return (atomic_load_explicit((_Atomic(uint32_t) *)&slab->mapped, memory_order_relaxed) >>
            chunk) &
           1U;
}

/* Memory of the first `count` elements, in whole pages: what lies behind them in the last chunk was
 * never touched and is not there yet. Mapped chunks count for nothing: the system takes their pages
 * back when it needs them. */
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
