/* data-plane/index/flat_internal.h: the k nearest seen so far. */
#ifndef DP_FLAT_INTERNAL_H
#define DP_FLAT_INTERNAL_H
#include "index/flat.h"

/* A heap of at most k hits with the farthest on top. */
typedef struct {
    dp_hit *hits; /* room for k, the caller's */
    size_t count;
    size_t k;
} dp_top;

/* What a new hit must be nearer than. */
static inline float
dp_top_bound(const dp_top *top)
{
    return top->count < top->k ? __builtin_inff() : top->hits[0].distance;
}

void dp_top_offer(dp_top *top, dp_hit hit);

/* Nearest first; the heap is none any more. */
void dp_top_sort(dp_top *top);

/* Calls into OpenBLAS stay in blas.c: out[query_count * row_count] = queries . rows^T. */
void dp_flat__products(const float *queries, size_t query_count, const float *rows,
                       size_t row_count, size_t dim, size_t row_stride, float *out);
#endif /* DP_FLAT_INTERNAL_H */
