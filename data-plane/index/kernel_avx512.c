/* The kernels for AVX-512 (F, BW, VL, DQ): 16 components a step, tails by
 * mask. Built with its own flags (CMakeLists.txt) and called only where the processor has them. */
#include "index/distance_internal.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

static inline __m512
load_f32(const unsigned char *at)
{
    return _mm512_loadu_ps(at);
}

static inline __m512
tail_f32(__mmask16 mask, const unsigned char *at)
{
    return _mm512_maskz_loadu_ps(mask, at);
}

static inline __m512
load_f16(const unsigned char *at)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)at));
}

static inline __m512
tail_f16(__mmask16 mask, const unsigned char *at)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, at));
}

static inline __m512
load_u8(const unsigned char *at)
{
    return _mm512_cvtepi32_ps(
        _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)at)));
}

static inline __m512
tail_u8(__mmask16 mask, const unsigned char *at)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, at)));
}

static inline __m512
step_dot(__m512 sum, __m512 q, __m512 x)
{
    return _mm512_fmadd_ps(q, x, sum);
}

static inline __m512
step_euclid(__m512 sum, __m512 q, __m512 x)
{
    __m512 d = _mm512_sub_ps(q, x);

    return _mm512_fmadd_ps(d, d, sum);
}

static inline __m512
step_manhattan(__m512 sum, __m512 q, __m512 x)
{
    return _mm512_add_ps(sum, _mm512_abs_ps(_mm512_sub_ps(q, x)));
}

/* Four sums, so that one step does not wait for the one before. */
#define KERNEL(metric, elem, elem_bytes, SIGN)                                              \
    static float metric##_##elem(const float *query, const void *row, size_t dim)           \
    {                                                                                       \
        const unsigned char *x = row;                                                       \
        const unsigned char *q = (const unsigned char *)query;                              \
        __m512 s0 = _mm512_setzero_ps();                                                    \
        __m512 s1 = s0;                                                                     \
        __m512 s2 = s0;                                                                     \
        __m512 s3 = s0;                                                                     \
        size_t i = 0;                                                                       \
                                                                                            \
        for (; i + 64 <= dim; i += 64) {                                                    \
            s0 = step_##metric(s0, load_f32(q + i * 4), load_##elem(x + i * (elem_bytes))); \
            s1 = step_##metric(s1, load_f32(q + (i + 16) * 4),                              \
                               load_##elem(x + (i + 16) * (elem_bytes)));                   \
            s2 = step_##metric(s2, load_f32(q + (i + 32) * 4),                              \
                               load_##elem(x + (i + 32) * (elem_bytes)));                   \
            s3 = step_##metric(s3, load_f32(q + (i + 48) * 4),                              \
                               load_##elem(x + (i + 48) * (elem_bytes)));                   \
        }                                                                                   \
        for (; i + 16 <= dim; i += 16) {                                                    \
            s0 = step_##metric(s0, load_f32(q + i * 4), load_##elem(x + i * (elem_bytes))); \
        }                                                                                   \
        if (i < dim) {                                                                      \
            __mmask16 mask = (__mmask16)((1U << (dim - i)) - 1);                            \
                                                                                            \
            s1 = step_##metric(s1, tail_f32(mask, q + i * 4),                               \
                               tail_##elem(mask, x + i * (elem_bytes)));                    \
        }                                                                                   \
        return SIGN _mm512_reduce_add_ps(                                                   \
            _mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));                   \
    }                                                                                       \
    DP_MANY(metric##_##elem, elem_bytes)

#define KERNELS(elem, elem_bytes)      \
    KERNEL(dot, elem, elem_bytes, -)   \
    KERNEL(euclid, elem, elem_bytes, ) \
    KERNEL(manhattan, elem, elem_bytes, )

KERNELS(f32, 4)
KERNELS(f16, 2)
KERNELS(u8, 1)

/* Bytes cannot be unit length: the row's norm is summed beside the product. */
static float
cosine_u8(const float *query, const void *row, size_t dim)
{
    const unsigned char *x = row;
    const unsigned char *q = (const unsigned char *)query;
    __m512 dot = _mm512_setzero_ps();
    __m512 norm = dot;
    float length2;

    for (size_t i = 0; i < dim; i += 16) {
        __mmask16 mask = (__mmask16)(dim - i >= 16 ? 0xFFFFU : (1U << (dim - i)) - 1);
        __m512 v = tail_u8(mask, x + i);

        dot = _mm512_fmadd_ps(tail_f32(mask, q + i * 4), v, dot);
        norm = _mm512_fmadd_ps(v, v, norm);
    }
    length2 = _mm512_reduce_add_ps(norm);
    return length2 > 0.0F ? -_mm512_reduce_add_ps(dot) / __builtin_sqrtf(length2) : 0.0F;
}
DP_MANY(cosine_u8, 1)

#define ENTRY(kernel)                                          \
    {                                                          \
        .one = kernel, .many = kernel##_many, .name = "avx512" \
    }

const dp_distance_table dp_distance__avx512 = {
    [DP_METRIC_DOT] = {ENTRY(dot_f32), ENTRY(dot_f16), ENTRY(dot_u8)},
    [DP_METRIC_COSINE] = {ENTRY(dot_f32), ENTRY(dot_f16), ENTRY(cosine_u8)},
    [DP_METRIC_EUCLID] = {ENTRY(euclid_f32), ENTRY(euclid_f16), ENTRY(euclid_u8)},
    [DP_METRIC_MANHATTAN] = {ENTRY(manhattan_f32), ENTRY(manhattan_f16), ENTRY(manhattan_u8)},
};

size_t
dp_flat_nearer__avx512(const float *norms, const float *products, float factor, float bound,
                       size_t n, uint16_t *at)
{
    __m512 most = _mm512_set1_ps(bound);
    __m512 f = _mm512_set1_ps(factor);
    size_t count = 0;

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 in = (__mmask16)(n - i >= 16 ? 0xFFFFU : (1U << (n - i)) - 1);
        __m512 d = _mm512_fmadd_ps(f, _mm512_maskz_loadu_ps(in, products + i),
                                   _mm512_maskz_loadu_ps(in, norms + i));
        unsigned mask = _mm512_mask_cmp_ps_mask(in, d, most, _CMP_NGT_UQ); /* NaN gets in */

        for (; mask != 0; mask &= mask - 1) {
            at[count++] = (uint16_t)(i + (unsigned)__builtin_ctz(mask));
        }
    }
    return count;
}

/* Without VNNI: both sides widened to 16 bits, so that nothing saturates. */
int32_t
dp_code_dot__avx512(const int8_t *query, const uint8_t *code, size_t dim)
{
    __m512i sum = _mm512_setzero_si512();

    for (size_t i = 0; i < dim; i += 32) {
        __mmask32 mask = dim - i >= 32 ? 0xFFFFFFFFU : (1U << (dim - i)) - 1;
        __m512i q = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, query + i));
        __m512i x = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, code + i));

        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(q, x));
    }
    return _mm512_reduce_add_epi32(sum);
}

bool
dp_code_quantize__avx512(uint8_t *codes, const float *x, size_t dim, dp_code_stats *stats)
{
    const unsigned char *at = (const unsigned char *)x;
    __m512 least = _mm512_set1_ps(x[0]);
    __m512 most = least;
    __mmask16 broken = 0;
    __m512 offset;
    __m512 inverse;
    __m512i sum = _mm512_setzero_si512();
    __m512i sum2 = sum;
    float low;
    float high;
    bool bytes;

    for (size_t i = 0; i < dim; i += 16) {
        __mmask16 mask = (__mmask16)(dim - i >= 16 ? 0xFFFFU : (1U << (dim - i)) - 1);
        __m512 v = tail_f32(mask, at + i * 4);

        least = _mm512_mask_min_ps(least, mask, least, v);
        most = _mm512_mask_max_ps(most, mask, most, v);
        broken |= _mm512_cmp_ps_mask(v, _mm512_roundscale_ps(v, 8), _CMP_NEQ_UQ);
    }
    low = _mm512_reduce_min_ps(least);
    high = _mm512_reduce_max_ps(most);
    bytes = broken == 0 && low >= 0.0F && high <= 255.0F;
    if (bytes) {
        low = 0;
        high = 255;
    }
    stats->scale = (high - low) / 255.0F;
    stats->offset = low;
    if (!(stats->scale > 0.0F) || !__builtin_isfinite(stats->scale) ||
        !__builtin_isfinite(1.0F / stats->scale)) {
        stats->scale = 0;
        stats->offset = __builtin_isfinite(low) ? low : 0.0F;
    }
    offset = _mm512_set1_ps(stats->offset);
    inverse = _mm512_set1_ps(stats->scale > 0.0F ? 1.0F / stats->scale : 0.0F);
    for (size_t i = 0; i < dim; i += 16) {
        __mmask16 mask = (__mmask16)(dim - i >= 16 ? 0xFFFFU : (1U << (dim - i)) - 1);
        __m512 v = _mm512_mul_ps(_mm512_sub_ps(tail_f32(mask, at + i * 4), offset), inverse);
        __m512i c;

        /* max(v, 0) gives 0 for a NaN: the second operand. */
        v = _mm512_min_ps(_mm512_max_ps(v, _mm512_setzero_ps()), _mm512_set1_ps(255.0F));
        c = _mm512_maskz_mov_epi32(mask, _mm512_cvtps_epi32(v));
        _mm512_mask_cvtepi32_storeu_epi8(codes + i, mask, c);
        sum = _mm512_add_epi32(sum, c);
        sum2 = _mm512_add_epi32(sum2, _mm512_mullo_epi32(c, c));
    }
    /* 4,096 steps at most, of 65,025 each a lane: 32 bits hold them; 16 lanes need 64. */
    stats->sum = _mm512_reduce_add_epi64(
        _mm512_add_epi64(_mm512_cvtepu32_epi64(_mm512_castsi512_si256(sum)),
                         _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(sum, 1))));
    stats->sum2 = _mm512_reduce_add_epi64(
        _mm512_add_epi64(_mm512_cvtepu32_epi64(_mm512_castsi512_si256(sum2)),
                         _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(sum2, 1))));
    return bytes;
}
#else
typedef int dp_kernel_avx512_unused; /* a translation unit may not be empty */
#endif
