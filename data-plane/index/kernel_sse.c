/* The kernels for SSE4.1: 4 components a step, the tail through a small buffer of zeros. For
 * processors before 2013, and the virtual machines that hide what is newer. Built with its own
 * flags (CMakeLists.txt), called only where the processor has them. */
#include "index/bytes.h"
#include "index/distance_internal.h"

#if defined(__SSE4_1__)
#include <smmintrin.h>
#include <string.h>

static inline __m128
load_f32(const unsigned char *at)
{
    return _mm_loadu_ps((const float *)(const void *)at);
}

/* Halves without F16C. Exponent and fraction move to where a single has them, and a product puts
 * right the exponent's bias, which also makes subnormals normal; what was infinite or no number,
 * and is now 65536 or more, gets all bits of the exponent. */
static inline __m128
load_f16(const unsigned char *at)
{
    __m128i h = _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)(const void *)at));
    __m128i sign = _mm_slli_epi32(_mm_and_si128(h, _mm_set1_epi32(0x8000)), 16);
    __m128i magnitude = _mm_slli_epi32(_mm_and_si128(h, _mm_set1_epi32(0x7FFF)), 13);
    __m128 x = _mm_mul_ps(_mm_castsi128_ps(magnitude), _mm_set1_ps(0x1p112F));
    __m128 special = _mm_cmpge_ps(x, _mm_set1_ps(65536.0F));
    __m128 ones = _mm_and_ps(special, _mm_castsi128_ps(_mm_set1_epi32(0x7F800000)));

    return _mm_or_ps(_mm_or_ps(x, ones), _mm_castsi128_ps(sign));
}

static inline __m128
load_u8(const unsigned char *at)
{
    int four;

    memcpy(&four, at, sizeof four);
    return _mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four)));
}

static inline float
reduce(__m128 s)
{
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_shuffle_ps(s, s, 1));
    return _mm_cvtss_f32(s);
}

static inline __m128
step_dot(__m128 sum, __m128 q, __m128 x)
{
    return _mm_add_ps(sum, _mm_mul_ps(q, x));
}

static inline __m128
step_euclid(__m128 sum, __m128 q, __m128 x)
{
    __m128 d = _mm_sub_ps(q, x);

    return _mm_add_ps(sum, _mm_mul_ps(d, d));
}

static inline __m128
step_manhattan(__m128 sum, __m128 q, __m128 x)
{
    return _mm_add_ps(sum, _mm_andnot_ps(_mm_set1_ps(-0.0F), _mm_sub_ps(q, x)));
}

#define KERNEL(metric, elem, elem_bytes, SIGN)                                              \
    static float metric##_##elem(const float *query, const void *row, size_t dim)           \
    {                                                                                       \
        const unsigned char *x = row;                                                       \
        const unsigned char *q = (const unsigned char *)query;                              \
        __m128 s0 = _mm_setzero_ps();                                                       \
        __m128 s1 = s0;                                                                     \
        __m128 s2 = s0;                                                                     \
        __m128 s3 = s0;                                                                     \
        size_t i = 0;                                                                       \
                                                                                            \
        for (; i + 16 <= dim; i += 16) {                                                    \
            s0 = step_##metric(s0, load_f32(q + i * 4), load_##elem(x + i * (elem_bytes))); \
            s1 = step_##metric(s1, load_f32(q + (i + 4) * 4),                               \
                               load_##elem(x + (i + 4) * (elem_bytes)));                    \
            s2 = step_##metric(s2, load_f32(q + (i + 8) * 4),                               \
                               load_##elem(x + (i + 8) * (elem_bytes)));                    \
            s3 = step_##metric(s3, load_f32(q + (i + 12) * 4),                              \
                               load_##elem(x + (i + 12) * (elem_bytes)));                   \
        }                                                                                   \
        for (; i < dim; i += 4) {                                                           \
            size_t left = dim - i < 4 ? dim - i : 4;                                        \
            unsigned char q_tail[16] = {0};                                                 \
            unsigned char x_tail[16] = {0};                                                 \
                                                                                            \
            memcpy(q_tail, q + i * 4, left * 4);                                            \
            memcpy(x_tail, x + i * (elem_bytes), left * (elem_bytes));                      \
            s1 = step_##metric(s1, load_f32(q_tail), load_##elem(x_tail));                  \
        }                                                                                   \
        return SIGN reduce(_mm_add_ps(_mm_add_ps(s0, s1), _mm_add_ps(s2, s3)));             \
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
    __m128 dot = _mm_setzero_ps();
    __m128 norm = dot;
    float length2;
    size_t i = 0;

    for (; i + 4 <= dim; i += 4) {
        __m128 v = load_u8(x + i);

        dot = step_dot(dot, load_f32(q + i * 4), v);
        norm = step_dot(norm, v, v);
    }
    if (i < dim) {
        unsigned char q_tail[16] = {0};
        unsigned char x_tail[4] = {0};
        __m128 v;

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

#define ENTRY(kernel)                                       \
    {                                                       \
        .one = kernel, .many = kernel##_many, .name = "sse" \
    }

const dp_distance_table dp_distance__sse = {
    [DP_METRIC_DOT] = {ENTRY(dot_f32), ENTRY(dot_f16), ENTRY(dot_u8)},
    [DP_METRIC_COSINE] = {ENTRY(dot_f32), ENTRY(dot_f16), ENTRY(cosine_u8)},
    [DP_METRIC_EUCLID] = {ENTRY(euclid_f32), ENTRY(euclid_f16), ENTRY(euclid_u8)},
    [DP_METRIC_MANHATTAN] = {ENTRY(manhattan_f32), ENTRY(manhattan_f16), ENTRY(manhattan_u8)},
};

static inline int32_t
reduce_epi32(__m128i sum)
{
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1));
    return _mm_cvtsi128_si32(sum);
}

/* Both sides widened to 16 bits: maddubs would saturate. */
int32_t
dp_code_dot__sse(const int8_t *query, const uint8_t *code, size_t dim)
{
    __m128i sum = _mm_setzero_si128();
    size_t i = 0;

    for (; i + 8 <= dim; i += 8) {
        __m128i q = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(query + i)));
        __m128i x = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(code + i)));

        sum = _mm_add_epi32(sum, _mm_madd_epi16(q, x));
    }
    return reduce_epi32(sum) + dp_code_dot__scalar(query + i, code + i, dim - i);
}

/* Adds the squares of 16 differences of bytes. */
static inline __m128i
bytes_step(__m128i sum, const void *row, const void *codes)
{
    __m128i b = _mm_loadu_si128(row);
    __m128i q = _mm_xor_si128(_mm_loadu_si128(codes), _mm_set1_epi8((char)0x80));
    __m128i d = _mm_or_si128(_mm_subs_epu8(b, q), _mm_subs_epu8(q, b));
    __m128i low = _mm_unpacklo_epi8(d, _mm_setzero_si128());
    __m128i high = _mm_unpackhi_epi8(d, _mm_setzero_si128());

    sum = _mm_add_epi32(sum, _mm_madd_epi16(low, low));
    return _mm_add_epi32(sum, _mm_madd_epi16(high, high));
}

DP_BYTES_KERNEL(sse)
{
    size_t whole = query->bytes / 16 * 16;
    size_t left = query->bytes - whole;

    for (size_t r = 0; r < n; r++) {
        __m128i sum = _mm_setzero_si128();

        for (size_t i = 0; i < whole; i += 16) {
            sum = bytes_step(sum, rows[r] + i, query->codes + i);
        }
        if (left > 0) {
            unsigned char b[16] = {0};
            unsigned char q[16];

            memset(q, 0x80, sizeof q);
            memcpy(b, rows[r] + whole, left);
            memcpy(q, query->codes + whole, left);
            sum = bytes_step(sum, b, q);
        }
        out[r] = (float)reduce_epi32(sum);
    }
}
#else
typedef int dp_kernel_sse_unused; /* a translation unit may not be empty */
#endif
