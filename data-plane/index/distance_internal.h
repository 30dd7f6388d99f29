/* data-plane/index/distance_internal.h: the tables of kernels, one a instruction set. */
#ifndef DP_DISTANCE_INTERNAL_H
#define DP_DISTANCE_INTERNAL_H
#include "index/code.h"

/* Indexed by metric, then element. The files of sets that the compiler's target does not have
 * compile to nothing and are not referred to. */
typedef dp_distance dp_distance_table[DP_METRIC_COUNT][DP_ELEM_COUNT];

extern const dp_distance_table dp_distance__scalar;
extern const dp_distance_table dp_distance__avx2;
extern const dp_distance_table dp_distance__avx512;
extern const dp_distance_table dp_distance__neon;
extern const dp_distance_table dp_distance__sse;

/* AVX-VNNI, which __builtin_cpu_supports() of clang 14 does not know. */
bool dp_isa_has_avxvnni(void);

/* Codes: sum of query[i] * code[i], exact in 32 bits for any dim up to ORT_DIM_MAX, because
 * 128 * 255 * 65536 < 2^31. */
typedef int32_t (*dp_code_dot_fn)(const int8_t *query, const uint8_t *code, size_t dim);

/* The fastest of those below on this processor. */
dp_code_dot_fn dp_code_dot_best(void);

int32_t dp_code_dot__scalar(const int8_t *query, const uint8_t *code, size_t dim);
int32_t dp_code_dot__sse(const int8_t *query, const uint8_t *code, size_t dim);
int32_t dp_code_dot__avx2(const int8_t *query, const uint8_t *code, size_t dim);
int32_t dp_code_dot__avx512(const int8_t *query, const uint8_t *code, size_t dim);
int32_t dp_code_dot__vnni(const int8_t *query, const uint8_t *code, size_t dim);
int32_t dp_code_dot__avxvnni(const int8_t *query, const uint8_t *code, size_t dim);
int32_t dp_code_dot__evexvnni(const int8_t *query, const uint8_t *code, size_t dim);
int32_t dp_code_dot__neon(const int8_t *query, const uint8_t *code, size_t dim);

/* Codes of float[dim], not padded, with what the tail is made of. Returns whether they are exact.
 */
typedef bool (*dp_code_quantize_fn)(uint8_t *codes, const float *x, size_t dim,
                                    dp_code_stats *stats);
dp_code_quantize_fn dp_code_quantize_best(void);
bool dp_code_quantize__scalar(uint8_t *codes, const float *x, size_t dim, dp_code_stats *stats);
bool dp_code_quantize__avx512(uint8_t *codes, const float *x, size_t dim, dp_code_stats *stats);

void dp_code_measure__scalar(const dp_code_query *query, const unsigned char *const *rows, size_t n,
                             float *out);
void dp_code_measure__sse(const dp_code_query *query, const unsigned char *const *rows, size_t n,
                          float *out);
void dp_code_measure__avx2(const dp_code_query *query, const unsigned char *const *rows, size_t n,
                           float *out);
void dp_code_measure__avx512(const dp_code_query *query, const unsigned char *const *rows, size_t n,
                             float *out);
void dp_code_measure__vnni(const dp_code_query *query, const unsigned char *const *rows, size_t n,
                           float *out);
void dp_code_measure__avxvnni(const dp_code_query *query, const unsigned char *const *rows,
                              size_t n, float *out);
void dp_code_measure__neon(const dp_code_query *query, const unsigned char *const *rows, size_t n,
                           float *out);

/* For products of many queries at once (flat.c): which of n places are at most `bound` away, or no
 * number, where the distance is norms[i] + factor * products[i]; into at[n], returns how many. */
typedef size_t (*dp_flat_nearer_fn)(const float *norms, const float *products, float factor,
                                    float bound, size_t n, uint16_t *at);
dp_flat_nearer_fn dp_flat_nearer_best(void);
size_t dp_flat_nearer__scalar(const float *norms, const float *products, float factor, float bound,
                              size_t n, uint16_t *at);
size_t dp_flat_nearer__avx2(const float *norms, const float *products, float factor, float bound,
                            size_t n, uint16_t *at);
size_t dp_flat_nearer__avx512(const float *norms, const float *products, float factor, float bound,
                              size_t n, uint16_t *at);

/* Bytes as floats. */
void dp_floats_from_u8__avx2(float *out, const unsigned char *in, size_t n);

/* Every many-kernel fetches a few rows ahead, and of each row no more than the
 * processor can have under way. 8 lines is half of the line fill buffers of the smallest core we
 * know; the hardware's own stream prefetch takes over from there. */
#define DP_PREFETCH_ROWS 4
#define DP_PREFETCH_LINES 8

static inline void
dp_prefetch__row(const void *row, size_t bytes)
{
    const char *at = row;
    size_t lines = (bytes + 63) / 64;

    if (lines > DP_PREFETCH_LINES) {
        lines = DP_PREFETCH_LINES;
    }
    for (size_t i = 0; i < lines; i++) {
        __builtin_prefetch(at + i * 64);
    }
}

/* Makes NAME_many out of NAME. */
#define DP_MANY(name, elem_bytes)                                                              \
    static void name##_many(const float *query, const void *const *rows, size_t n, size_t dim, \
                            float *out)                                                        \
    {                                                                                          \
        for (size_t i = 0; i < n && i < DP_PREFETCH_ROWS; i++) {                               \
            dp_prefetch__row(rows[i], dim *(elem_bytes));                                      \
        }                                                                                      \
        for (size_t i = 0; i < n; i++) {                                                       \
            if (i + DP_PREFETCH_ROWS < n) {                                                    \
                dp_prefetch__row(rows[i + DP_PREFETCH_ROWS], dim *(elem_bytes));               \
            }                                                                                  \
            out[i] = name(query, rows[i], dim);                                                \
        }                                                                                      \
    }
#endif /* DP_DISTANCE_INTERNAL_H */
