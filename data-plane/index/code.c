/* Coding, and the plain loops beside the fast kernels. */
#include "index/code.h"

#include <math.h>
#include <string.h>

#include "index/distance_internal.h"

/* The range of a vector and whether it is made of integers 0..255. */
static void
range_of(const float *x, size_t dim, float *low, float *high, bool *bytes)
{
    float least = x[0];
    float most = x[0];
    bool whole = true;

    for (size_t i = 0; i < dim; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    if (least >= 0.0F && most <= 255.0F) {
        for (size_t i = 0; i < dim && whole; i++) {
            whole = x[i] == (float)(int32_t)x[i];
        }
    } else {
        whole = false;
    }
    *low = least;
    *high = most;
    *bytes = whole;
}

bool
dp_code_quantize__scalar(uint8_t *codes, const float *x, size_t dim, dp_code_stats *stats)
{
    float low;
    float high;
    float inverse;
    bool bytes;

    range_of(x, dim, &low, &high, &bytes);
    if (bytes) {
        low = 0;
        high = 255;
    }
    stats->scale = (high - low) / 255.0F;
    stats->offset = low;
    if (!(stats->scale > 0.0F) || !isfinite(stats->scale) || !isfinite(1.0F / stats->scale)) {
        stats->scale = 0; /* all components alike, or not numbers */
        stats->offset = isfinite(low) ? low : 0.0F;
    }
    inverse = stats->scale > 0.0F ? 1.0F / stats->scale : 0.0F;
    stats->sum = 0;
    stats->sum2 = 0;
    for (size_t i = 0; i < dim; i++) {
        float scaled = (x[i] - stats->offset) * inverse;
        long rounded = scaled >= 255.0F ? 255 : scaled > 0.0F ? lrintf(scaled) : 0;

        codes[i] = (uint8_t)rounded;
        stats->sum += rounded;
        stats->sum2 += rounded * rounded;
    }
    return bytes;
}

dp_code_quantize_fn
dp_code_quantize_best(void)
{
#if defined(__x86_64__)
    if (dp_isa_best() == DP_ISA_AVX512) {
        return dp_code_quantize__avx512;
    }
#endif
    return dp_code_quantize__scalar;
}

bool
dp_code_encode(unsigned char *row, const float *x, size_t dim)
{
    dp_code_stats s;
    dp_code_tail tail;
    size_t bytes = dp_code_bytes(dim);
    bool exact;
    double offset;
    double scale;

    exact = dp_code_quantize_best()(row, x, dim, &s);
    memset(row + dim, 0, bytes - dim);
    offset = (double)s.offset;
    scale = (double)s.scale;
    tail.scale = s.scale;
    tail.offset = s.offset;
    tail.sum = (float)(offset * (double)dim + scale * (double)s.sum);
    tail.norm2 = (float)(offset * offset * (double)dim + 2 * offset * scale * (double)s.sum +
                         scale * scale * (double)s.sum2);
    memcpy(row + bytes, &tail, sizeof tail);
    return exact;
}

/* offset, scale, sum of s_i, |q|^2 -> the weights. */
static void
weigh(dp_code_query *query, dp_metric metric, double offset, double scale, double sum, double norm2)
{
    double sign = metric == DP_METRIC_EUCLID ? -2 : -1;

    query->base = metric == DP_METRIC_EUCLID ? (float)norm2 : 0.0F;
    query->w_norm = metric == DP_METRIC_EUCLID ? 1.0F : 0.0F;
    query->w_sum = (float)(sign * offset);
    query->w_offset = (float)(sign * scale * sum);
    query->w_dot = (float)(sign * scale);
}

static void
move_by_128(int8_t *codes, const unsigned char *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        codes[i] = (int8_t)(from[i] ^ 0x80);
    }
}

void
dp_code_query_set(dp_code_query *query, dp_metric metric, const float *x, size_t dim)
{
    dp_code_stats s;
    double offset;
    double scale;
    double norm2;

    query->bytes = dp_code_bytes(dim);
    query->exact = dp_code_quantize_best()((uint8_t *)query->codes, x, dim, &s);
    move_by_128(query->codes, (const unsigned char *)query->codes, dim);
    memset(query->codes + dim, 0, query->bytes - dim);
    offset = (double)s.offset;
    scale = (double)s.scale;
    norm2 = offset * offset * (double)dim + 2 * offset * scale * (double)s.sum +
            scale * scale * (double)s.sum2;
    weigh(query, metric, offset + 128 * scale, scale, (double)s.sum - 128.0 * (double)dim, norm2);
}

void
dp_code_query_from_row(dp_code_query *query, dp_metric metric, const unsigned char *row, size_t dim)
{
    dp_code_tail tail;
    double offset;
    double scale;
    double sum = 0;

    query->bytes = dp_code_bytes(dim);
    query->exact = false;
    memcpy(&tail, row + query->bytes, sizeof tail);
    move_by_128(query->codes, row, query->bytes);
    memset(query->codes + dim, 0, query->bytes - dim);
    offset = (double)tail.offset;
    scale = (double)tail.scale;
    if (scale > 0) {
        sum = ((double)tail.sum - offset * (double)dim) / scale;
    }
    weigh(query, metric, offset + 128 * scale, scale, sum - 128.0 * (double)dim,
          (double)tail.norm2);
}

/* One pair; the order of operations is that of the wide kernels. */
static float
combine(const dp_code_query *query, const dp_code_tail *tail, int32_t dot)
{
    float d = query->base + query->w_norm * tail->norm2;

    d += query->w_sum * tail->sum;
    d += query->w_offset * tail->offset;
    return d + query->w_dot * tail->scale * (float)dot;
}

#define MEASURE(isa)                                                                            \
    void dp_code_measure__##isa(const dp_code_query *query, const unsigned char *const *rows,   \
                                size_t n, float *out)                                           \
    {                                                                                           \
        for (size_t i = 0; i < n; i++) {                                                        \
            dp_code_tail tail;                                                                  \
                                                                                                \
            memcpy(&tail, rows[i] + query->bytes, sizeof tail);                                 \
            out[i] =                                                                            \
                combine(query, &tail, dp_code_dot__##isa(query->codes, rows[i], query->bytes)); \
        }                                                                                       \
    }

MEASURE(scalar)
#if defined(__x86_64__)
MEASURE(sse)
MEASURE(avx2)
MEASURE(avxvnni)
MEASURE(avx512)
#elif defined(__aarch64__)
MEASURE(neon)
#endif

dp_code_measure_fn
dp_code_measure_best(void)
{
#if defined(__x86_64__)
    switch (dp_isa_best()) {
    case DP_ISA_AVX512:
        return __builtin_cpu_supports("avx512vnni") ? dp_code_measure__vnni
                                                    : dp_code_measure__avx512;
    case DP_ISA_AVX2:
        return dp_isa_has_avxvnni() ? dp_code_measure__avxvnni : dp_code_measure__avx2;
    case DP_ISA_SSE:
        return dp_code_measure__sse;
    default:
        break;
    }
#elif defined(__aarch64__)
    return dp_code_measure__neon;
#endif
    return dp_code_measure__scalar;
}
