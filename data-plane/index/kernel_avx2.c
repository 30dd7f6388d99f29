/* The kernels for AVX2 with FMA and F16C: 8 components a step, the tail through a small buffer of
 * zeros. Built with its own flags (CMakeLists.txt), called only where the processor has them. */
#include "index/bytes.h"
#include "index/distance_internal.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
#include <string.h>

static inline __m256
load_f32(const unsigned char *at)
{
    return _mm256_loadu_ps((const float *)(const void *)at);
}

static inline __m256
load_f16(const unsigned char *at)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)at));
}

static inline __m256
load_u8(const unsigned char *at)
{
    return _mm256_cvtepi32_ps(
        _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)at)));
}

static inline float
reduce(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

static inline __m256
step_dot(__m256 sum, __m256 q, __m256 x)
{
    return _mm256_fmadd_ps(q, x, sum);
}

static inline __m256
step_euclid(__m256 sum, __m256 q, __m256 x)
{
    __m256 d = _mm256_sub_ps(q, x);

    return _mm256_fmadd_ps(d, d, sum);
}

static inline __m256
step_manhattan(__m256 sum, __m256 q, __m256 x)
{
    __m256 sign = _mm256_set1_ps(-0.0F);

    return _mm256_add_ps(sum, _mm256_andnot_ps(sign, _mm256_sub_ps(q, x)));
}

#define KERNEL(metric, elem, elem_bytes, SIGN)                                              \
    static float metric##_##elem(const float *query, const void *row, size_t dim)           \
    {                                                                                       \
        const unsigned char *x = row;                                                       \
        const unsigned char *q = (const unsigned char *)query;                              \
        __m256 s0 = _mm256_setzero_ps();                                                    \
        __m256 s1 = s0;                                                                     \
        __m256 s2 = s0;                                                                     \
        __m256 s3 = s0;                                                                     \
        size_t i = 0;                                                                       \
                                                                                            \
        for (; i + 32 <= dim; i += 32) {                                                    \
            s0 = step_##metric(s0, load_f32(q + i * 4), load_##elem(x + i * (elem_bytes))); \
            s1 = step_##metric(s1, load_f32(q + (i + 8) * 4),                               \
                               load_##elem(x + (i + 8) * (elem_bytes)));                    \
            s2 = step_##metric(s2, load_f32(q + (i + 16) * 4),                              \
                               load_##elem(x + (i + 16) * (elem_bytes)));                   \
            s3 = step_##metric(s3, load_f32(q + (i + 24) * 4),                              \
                               load_##elem(x + (i + 24) * (elem_bytes)));                   \
        }                                                                                   \
        for (; i + 8 <= dim; i += 8) {                                                      \
            s0 = step_##metric(s0, load_f32(q + i * 4), load_##elem(x + i * (elem_bytes))); \
        }                                                                                   \
        if (i < dim) {                                                                      \
            unsigned char q_tail[32] = {0};                                                 \
            unsigned char x_tail[32] = {0};                                                 \
                                                                                            \
            memcpy(q_tail, q + i * 4, (dim - i) * 4);                                       \
            memcpy(x_tail, x + i * (elem_bytes), (dim - i) * (elem_bytes));                 \
            s1 = step_##metric(s1, load_f32(q_tail), load_##elem(x_tail));                  \
        }                                                                                   \
        return SIGN reduce(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));    \
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
    __m256 dot = _mm256_setzero_ps();
    __m256 norm = dot;
    float length2;
    size_t i = 0;

    for (; i + 8 <= dim; i += 8) {
        __m256 v = load_u8(x + i);

        dot = step_dot(dot, load_f32(q + i * 4), v);
        norm = step_dot(norm, v, v);
    }
    if (i < dim) {
        unsigned char q_tail[32] = {0};
        unsigned char x_tail[8] = {0};
        __m256 v;

        memcpy(q_tail, q + i * 4, (dim - i) * 4);
        memcpy(x_tail, x + i, dim - i);
        v = load_u8(x_tail);
        dot = step_dot(dot, load_f32(q_tail), v);
        norm = step_dot(norm, v, v);
    }
    length2 = reduce(norm);
    return length2 > 0.0F ? -reduce(dot) / __builtin_sqrtf(length2) : 0.0F;
}
DP_MANY(cosine_u8, 1)

#define ENTRY(kernel)                                        \
    {                                                        \
        .one = kernel, .many = kernel##_many, .name = "avx2" \
    }

const dp_distance_table dp_distance__avx2 = {
    [DP_METRIC_DOT] = {ENTRY(dot_f32), ENTRY(dot_f16), ENTRY(dot_u8)},
    [DP_METRIC_COSINE] = {ENTRY(dot_f32), ENTRY(dot_f16), ENTRY(cosine_u8)},
    [DP_METRIC_EUCLID] = {ENTRY(euclid_f32), ENTRY(euclid_f16), ENTRY(euclid_u8)},
    [DP_METRIC_MANHATTAN] = {ENTRY(manhattan_f32), ENTRY(manhattan_f16), ENTRY(manhattan_u8)},
};

void
dp_floats_from_u8__avx2(float *out, const unsigned char *in, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(out + i, load_u8(in + i));
    }
    for (; i < n; i++) {
        out[i] = (float)in[i];
    }
}

size_t
dp_flat_nearer__avx2(const float *norms, const float *products, float factor, float bound, size_t n,
                     uint16_t *at)
{
    __m256 most = _mm256_set1_ps(bound);
    __m256 f = _mm256_set1_ps(factor);
    size_t count = 0;
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        __m256 d = _mm256_fmadd_ps(f, _mm256_loadu_ps(products + i), _mm256_loadu_ps(norms + i));
        unsigned mask =
            (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(d, most, _CMP_NGT_UQ)); /* NaN gets in */

        for (; mask != 0; mask &= mask - 1) {
            at[count++] = (uint16_t)(i + (unsigned)__builtin_ctz(mask));
        }
    }
    for (; i < n; i++) {
        at[count] = (uint16_t)i;
        count += !(norms[i] + factor * products[i] > bound);
    }
    return count;
}

/* Both sides widened to 16 bits: maddubs would saturate. */
int32_t
dp_code_dot__avx2(const int8_t *query, const uint8_t *code, size_t dim)
{
    __m256i sum = _mm256_setzero_si256();
    __m128i half;
    size_t i = 0;

    for (; i + 16 <= dim; i += 16) {
        __m256i q =
            _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(query + i)));
        __m256i x =
            _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(code + i)));

        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(q, x));
    }
    half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4E));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xB1));
    return _mm_cvtsi128_si32(half) + dp_code_dot__scalar(query + i, code + i, dim - i);
}
static inline int32_t
reduce_epi32(__m256i sum)
{
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));

    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4E));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xB1));
    return _mm_cvtsi128_si32(half);
}

/* Adds the squares of 32 differences of bytes. */
static inline __m256i
bytes_step(__m256i sum, const void *row, const void *codes)
{
    __m256i b = _mm256_loadu_si256(row);
    __m256i q = _mm256_xor_si256(_mm256_loadu_si256(codes), _mm256_set1_epi8((char)0x80));
    __m256i d = _mm256_or_si256(_mm256_subs_epu8(b, q), _mm256_subs_epu8(q, b));
    __m256i low = _mm256_unpacklo_epi8(d, _mm256_setzero_si256());
    __m256i high = _mm256_unpackhi_epi8(d, _mm256_setzero_si256());

    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low, low));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(high, high));
}

DP_BYTES_KERNEL(avx2)
{
    size_t whole = query->bytes / 32 * 32;
    size_t left = query->bytes - whole;

    for (size_t r = 0; r < n; r++) {
        __m256i sum = _mm256_setzero_si256();

        for (size_t i = 0; i < whole; i += 32) {
            sum = bytes_step(sum, rows[r] + i, query->codes + i);
        }
        if (left > 0) {
            unsigned char b[32] = {0};
            unsigned char q[32];

            memset(q, 0x80, sizeof q);
            memcpy(b, rows[r] + whole, left);
            memcpy(q, query->codes + whole, left);
            sum = bytes_step(sum, b, q);
        }
        out[r] = (float)reduce_epi32(sum);
    }
}
#else
typedef int dp_kernel_avx2_unused; /* a translation unit may not be empty */
#endif
