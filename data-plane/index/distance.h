/* data-plane/index/distance.h: metrics, element types, and the kernels that measure one query
 * against rows. */
#ifndef DP_DISTANCE_H
#define DP_DISTANCE_H
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Inside the data plane a smaller distance is nearer, whatever the metric. What clients see is
 * Qdrant's score; dp_metric_score() is the one place that knows the way from one to the other.
 *
 *   metric      distance                     score           better score
 *   DOT         -(q . x)                     -distance       larger
 *   COSINE      -(q . x), both unit length   -distance       larger
 *   EUCLID      sum (q_i - x_i)^2            sqrt(distance)  smaller
 *   MANHATTAN   sum |q_i - x_i|              distance        smaller
 *
 * COSINE expects rows and queries that the collection made unit length when it took them. Rows of
 * bytes cannot be unit length: there the distance is -(q . x) / |x|, and 0 for a row of zeros. */
typedef enum { DP_METRIC_DOT, DP_METRIC_COSINE, DP_METRIC_EUCLID, DP_METRIC_MANHATTAN } dp_metric;
#define DP_METRIC_COUNT 4

/* How a component is stored: IEEE single, IEEE half, unsigned byte. Files carry these numbers. */
typedef enum { DP_ELEM_F32, DP_ELEM_F16, DP_ELEM_U8 } dp_elem;
#define DP_ELEM_COUNT 3

/* One answer: the row's slot and its distance, smaller is nearer. */
typedef struct {
    uint32_t slot;
    float distance;
} dp_hit;

/* Bytes of one component: 4, 2, 1. */
size_t dp_elem_bytes(dp_elem elem);

/* distance -> the score clients see, and back (for a score threshold). */
float dp_metric_score(dp_metric metric, float distance);
float dp_metric_distance(dp_metric metric, float score);

/* true for DOT and COSINE. */
bool dp_metric_larger_is_better(dp_metric metric);

/* The order of answers: by distance, equal distances by slot; for qsort(), and as a plain test. */
int dp_hit_compare(const void *a, const void *b);
static inline bool
dp_hit_nearer(dp_hit a, dp_hit b)
{
    return a.distance < b.distance || (a.distance == b.distance && a.slot < b.slot);
}

/* One query against one row.
 *
 * query  float[dim]
 * row    dim elements of the kernel's type; any alignment
 * dim    1 .. ORT_DIM_MAX */
typedef float (*dp_distance_fn)(const float *query, const void *row, size_t dim);

/* One query against n rows anywhere in memory; prefetches ahead of itself. out[i] belongs to
 * rows[i]. */
typedef void (*dp_distance_many_fn)(const float *query, const void *const *rows, size_t n,
                                    size_t dim, float *out);

typedef struct {
    dp_distance_fn one;
    dp_distance_many_fn many;
    const char *name; /* "avx512", "avx2", "sse", "neon", "scalar" */
} dp_distance;

/* Which instructions a kernel may use. */
typedef enum { DP_ISA_SCALAR, DP_ISA_SSE, DP_ISA_AVX2, DP_ISA_AVX512, DP_ISA_NEON } dp_isa;

/* The fastest kernel this processor runs; decided once, the same for all threads. Never NULL. */
const dp_distance *dp_distance_of(dp_metric metric, dp_elem elem);

/* The kernel of one instruction set, for tests and measurements; NULL where the processor (or the
 * compiler) does not have it. DP_ISA_SCALAR is the oracle and always there. */
const dp_distance *dp_distance_of_isa(dp_metric metric, dp_elem elem, dp_isa isa);

/* The widest set this processor has, and its name. */
dp_isa dp_isa_best(void);
const char *dp_isa_name(dp_isa isa);

/* Sum of squares of float[n]. */
float dp_norm2(const float *x, size_t n);

/* IEEE half <-> single, rounding to nearest even; overflow gives infinity. */
float dp_f16_to_f32(uint16_t half);
uint16_t dp_f32_to_f16(float x);
void dp_f16_from_f32(uint16_t *out, const float *in, size_t n);
void dp_f32_from_f16(float *out, const uint16_t *in, size_t n);
#endif /* DP_DISTANCE_H */
