/* data-plane/index/code.h: a byte a component, with each vector's own scale and offset. */
#ifndef DP_CODE_H
#define DP_CODE_H
#include "index/distance.h"

/* A vector x is kept as x_i ~ offset + scale * c_i with c_i in 0..255, offset its smallest
 * component and scale (largest - smallest) / 255, so that one outlier costs one vector its
 * resolution and not the whole set (as in LVQ, arXiv:2304.04759, without the centring: nothing is
 * trained, nothing drifts). A vector of integers 0..255 is kept as it is, exactly.
 *
 * A query is coded alike and then moved by 128, so that both fit the processor's product of
 * unsigned with signed bytes: q_i ~ q_offset + q_scale * s_i, s_i in -128..127. Then
 *
 *   q . x = q_offset * sum(x) + q_scale * offset * sum(s) + q_scale * scale * sum(s_i * c_i)
 *
 * of which only the last sum is new for a pair. A row of codes is also a query, by one XOR.
 *
 *   row: codes[dim], zeros to a multiple of 16, then dp_code_tail */
typedef struct {
    float scale;
    float offset;
    float norm2; /* |x|^2 as coded */
    float sum;   /* sum of x_i as coded */
} dp_code_tail;

typedef struct {
    float scale;
    float offset;
    int64_t sum;  /* of c_i */
    int64_t sum2; /* of c_i^2 */
} dp_code_stats;

/* Bytes of the codes of a row, and of the row with its tail. */
static inline size_t
dp_code_bytes(size_t dim)
{
    return (dim + 15) / 16 * 16;
}

static inline size_t
dp_code_row_bytes(size_t dim)
{
    return dp_code_bytes(dim) + sizeof(dp_code_tail);
}

typedef struct dp_code_query dp_code_query;

/* Distances of n coded rows to the query. Rows should be on their way into the cache. */
typedef void (*dp_code_measure_fn)(const dp_code_query *query, const unsigned char *const *rows,
                                   size_t n, float *out);

/* A query in codes, with the weights that make a distance of the sums above; or of another kind of
 * coder (coder.h), which uses the fields in its own way. */
struct dp_code_query {
    int8_t *codes; /* dp_code_bytes(dim) rounded up to 64, aligned to 64, the caller's */
    size_t bytes;  /* dp_code_bytes(dim); of other coders: components with their padding */
    float base;
    float w_norm;
    float w_sum;
    float w_offset;
    float w_dot;
    bool exact;    /* integers 0..255: coded without error */
    int32_t norm2; /* bytes.h: |q|^2 */

    /* Set by dp_coder_query_set() and dp_coder_query_from_row(). */
    dp_code_measure_fn measure;
    const void *model; /* what the kernel reads beside the query; of the coder */
    float reach;       /* error of a distance for each unit of a row's error */
};

/* Codes float[dim] into a row of dp_code_row_bytes(dim). Components that are not finite give a
 * useless row, not an undefined one. Returns whether the row is exact. */
bool dp_code_encode(unsigned char *row, const float *x, size_t dim);

/* Prepares a query from float[dim]; query->codes is given. Metrics: all but MANHATTAN. */
void dp_code_query_set(dp_code_query *query, dp_metric metric, const float *x, size_t dim);

/* The same from a coded row. */
void dp_code_query_from_row(dp_code_query *query, dp_metric metric, const unsigned char *row,
                            size_t dim);

dp_code_measure_fn dp_code_measure_best(void);
#endif /* DP_CODE_H */
