/* data-plane/index/bytes.h: vectors of bytes, measured as they are. */
#ifndef DP_BYTES_H
#define DP_BYTES_H
#include "index/code.h"

/* Images, SIFT, and what clients store as uint8 are integers 0..255. Their codes (code.h) are the
 * vectors themselves, so scale, offset and norm of a row need not be fetched: at 128 components
 * that is two lines of cache in the place of three. Rows of DP_ELEM_U8 are walked over where they
 * lie, without codes.
 *
 * With b a row, q a query, s = q - 128 (signed, for the processor's product of unsigned with
 * signed):
 *
 *   sum (b - q)^2 = |q|^2 + sum b (b - 128) - 2 sum b s - 128 sum b
 *
 * all of it integers, exact while dim <= DP_BYTES_DIM_MAX. */
#define DP_BYTES_DIM_MAX 32768u

/* Squared Euclidean distances of n rows of query->bytes bytes to a query of integers 0..255, by
 * query->codes and query->norm2 alone. The kernel of this processor. */
dp_code_measure_fn dp_bytes_euclid_best(void);

/* Prepares a query for rows of bytes. query->codes is given; query->measure is then the kernel.
 *
 * set       from float[dim]; false, and the query is of no use, when a component is no integer
 *           0..255
 * from_row  from another row; `padded` zeros included, see dp_code_bytes()
 * ready     of a query whose codes are there and exact (dp_code_query_set()) */
bool dp_bytes_query_set(dp_code_query *query, const float *x, size_t dim);
void dp_bytes_query_from_row(dp_code_query *query, const unsigned char *row, size_t padded);
void dp_bytes_query_ready(dp_code_query *query, size_t dim);

/* Kernels; the plain one is the oracle. */
#define DP_BYTES_KERNEL(isa)                                                                  \
    void dp_bytes_euclid__##isa(const dp_code_query *query, const unsigned char *const *rows, \
                                size_t n, float *out)
DP_BYTES_KERNEL(scalar);
DP_BYTES_KERNEL(sse);
DP_BYTES_KERNEL(avx2);
DP_BYTES_KERNEL(avxvnni);
DP_BYTES_KERNEL(evexvnni); /* only in test_kernels */
DP_BYTES_KERNEL(vnni);
DP_BYTES_KERNEL(neon);

/* row ^ 0x80 -> codes; returns the sum of squares of row. */
int32_t dp_bytes_move__scalar(int8_t *codes, const unsigned char *row, size_t n);
int32_t dp_bytes_move__vnni(int8_t *codes, const unsigned char *row, size_t n);
#endif /* DP_BYTES_H */
