/* Metrics and their scores, half precision, the scalar kernels (the oracle of all others), and the
 * choice of a kernel for this processor. */
#include "index/distance.h"

#include <assert.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/distance_internal.h"

size_t
dp_elem_bytes(dp_elem elem)
{
    static const size_t bytes[DP_ELEM_COUNT] = {4, 2, 1};

    assert((unsigned)elem < DP_ELEM_COUNT);
    return bytes[elem];
}

bool
dp_metric_larger_is_better(dp_metric metric)
{
    return metric == DP_METRIC_DOT || metric == DP_METRIC_COSINE;
}

float
dp_metric_score(dp_metric metric, float distance)
{
    switch (metric) {
    case DP_METRIC_DOT:
    case DP_METRIC_COSINE:
        return 0.0F - distance; /* not -distance: a score is never shown as -0 */
    case DP_METRIC_EUCLID:
        return sqrtf(distance);
    case DP_METRIC_MANHATTAN:
        break;
    }
    return distance;
}

float
dp_metric_distance(dp_metric metric, float score)
{
    switch (metric) {
    case DP_METRIC_DOT:
    case DP_METRIC_COSINE:
        return 0.0F - score;
    case DP_METRIC_EUCLID:
        return score < 0.0F ? -1.0F : score * score; /* nothing is nearer than nothing */
    case DP_METRIC_MANHATTAN:
        break;
    }
    return score;
}

int
dp_hit_compare(const void *a, const void *b)
{
    const dp_hit *x = a;
    const dp_hit *y = b;

    if (dp_hit_nearer(*x, *y)) {
        return -1;
    }
    return dp_hit_nearer(*y, *x) ? 1 : 0;
}

float
dp_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000U) << 16;
    uint32_t exponent = (half >> 10) & 0x1FU;
    uint32_t fraction = half & 0x3FFU;
    uint32_t bits;
    float out;

    if (exponent == 0x1F) {
        bits = sign | 0x7F800000U | (fraction << 13);
    } else if (exponent != 0) {
        bits = sign | ((exponent + 112) << 23) | (fraction << 13);
    } else {
        /* Subnormal, or zero: fraction units of 2^-24. */
        float magnitude = (float)fraction * 0x1p-24F;

        memcpy(&bits, &magnitude, sizeof bits);
        bits |= sign;
    }
    memcpy(&out, &bits, sizeof out);
    return out;
}

uint16_t
dp_f32_to_f16(float x)
{
    uint32_t bits;
    uint32_t sign;
    uint32_t magnitude;

    memcpy(&bits, &x, sizeof bits);
    sign = (bits >> 16) & 0x8000U;
    magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) {
        return (uint16_t)(sign | 0x7E00U); /* NaN */
    }
    if (magnitude >= 0x477FF000U) {
        return (uint16_t)(sign | 0x7C00U); /* rounds to 65536 or more */
    }
    if (magnitude < 0x38800000U) {
        /* Below 2^-14: let the addition do the rounding, its unit in the last place is 2^-24. */
        float rounded;
        uint32_t out;

        memcpy(&rounded, &magnitude, sizeof rounded);
        rounded += 0.5F;
        memcpy(&out, &rounded, sizeof out);
        return (uint16_t)(sign | (out - 0x3F000000U));
    }
    /* Rebias by -112; add half a unit less one, and one more when the kept part is odd. */
    magnitude += 0xC8000FFFU + ((magnitude >> 13) & 1);
    return (uint16_t)(sign | (magnitude >> 13));
}

void
dp_f16_from_f32(uint16_t *out, const float *in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = dp_f32_to_f16(in[i]);
    }
}

void
dp_f32_from_f16(float *out, const uint16_t *in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = dp_f16_to_f32(in[i]);
    }
}

/* Rows may stand at any address, so an element is copied out, never dereferenced. */
static inline float
load_f32(const unsigned char *row, size_t i)
{
    float x;

    memcpy(&x, row + i * 4, sizeof x);
    return x;
}

static inline float
load_f16(const unsigned char *row, size_t i)
{
    uint16_t x;

    memcpy(&x, row + i * 2, sizeof x);
    return dp_f16_to_f32(x);
}

static inline float
load_u8(const unsigned char *row, size_t i)
{
    return (float)row[i];
}

/* Sums in double: an oracle should not have the rounding of the order it happens to add in. */
#define SCALAR(metric, elem, elem_bytes, STEP, FINISH)                            \
    static float metric##_##elem(const float *query, const void *row, size_t dim) \
    {                                                                             \
        const unsigned char *bytes = row;                                         \
        double sum = 0;                                                           \
        double norm = 0;                                                          \
                                                                                  \
        for (size_t i = 0; i < dim; i++) {                                        \
            double q = (double)query[i];                                          \
            double x = (double)load_##elem(bytes, i);                             \
                                                                                  \
            STEP;                                                                 \
        }                                                                         \
        (void)norm;                                                               \
        return (float)(FINISH);                                                   \
    }                                                                             \
    DP_MANY(metric##_##elem, elem_bytes)

#define SCALAR_ELEM(elem, elem_bytes)                               \
    SCALAR(dot, elem, elem_bytes, sum += q * x, -sum)               \
    SCALAR(euclid, elem, elem_bytes, sum += (q - x) * (q - x), sum) \
    SCALAR(manhattan, elem, elem_bytes, sum += fabs(q - x), sum)

/* cppcheck-suppress unknownMacro */
SCALAR_ELEM(f32, 4)
SCALAR_ELEM(f16, 2)
SCALAR_ELEM(u8, 1)
SCALAR(cosine, u8, 1, (sum += q * x, norm += x * x), norm > 0 ? -sum / sqrt(norm) : 0)

#define ENTRY(kernel)                                          \
    {                                                          \
        .one = kernel, .many = kernel##_many, .name = "scalar" \
    }

const dp_distance_table dp_distance__scalar = {
    [DP_METRIC_DOT] = {ENTRY(dot_f32), ENTRY(dot_f16), ENTRY(dot_u8)},
    [DP_METRIC_COSINE] = {ENTRY(dot_f32), ENTRY(dot_f16), ENTRY(cosine_u8)},
    [DP_METRIC_EUCLID] = {ENTRY(euclid_f32), ENTRY(euclid_f16), ENTRY(euclid_u8)},
    [DP_METRIC_MANHATTAN] = {ENTRY(manhattan_f32), ENTRY(manhattan_f16), ENTRY(manhattan_u8)},
};

int32_t
dp_code_dot__scalar(const int8_t *query, const uint8_t *code, size_t dim)
{
    int32_t sum = 0;

    for (size_t i = 0; i < dim; i++) {
        sum += (int32_t)query[i] * (int32_t)code[i];
    }
    return sum;
}

static bool
has_isa(dp_isa isa)
{
    switch (isa) {
    case DP_ISA_SCALAR:
        return true;
#if defined(__x86_64__)
    case DP_ISA_SSE:
        return __builtin_cpu_supports("sse4.1");
    case DP_ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case DP_ISA_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#elif defined(__aarch64__)
    case DP_ISA_NEON:
        return true;
#endif
    default:
        return false;
    }
}

dp_isa
dp_isa_best(void)
{
    if (has_isa(DP_ISA_AVX512)) {
        return DP_ISA_AVX512;
    }
    if (has_isa(DP_ISA_AVX2)) {
        return DP_ISA_AVX2;
    }
    if (has_isa(DP_ISA_SSE)) {
        return DP_ISA_SSE;
    }
    return has_isa(DP_ISA_NEON) ? DP_ISA_NEON : DP_ISA_SCALAR;
}

bool
dp_isa_has_avxvnni(void)
{
#if defined(__x86_64__)
    unsigned a;
    unsigned b;
    unsigned c;
    unsigned d;

    return has_isa(DP_ISA_AVX2) && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 &&
           (a & (1U << 4)) != 0;
#else
    return false;
#endif
}

const char *
dp_isa_name(dp_isa isa)
{
    static const char *const names[] = {"scalar", "sse", "avx2", "avx512", "neon"};

    return (unsigned)isa < sizeof names / sizeof names[0] ? names[isa] : "?";
}

const dp_distance *
dp_distance_of_isa(dp_metric metric, dp_elem elem, dp_isa isa)
{
    const dp_distance_table *table = NULL;

    assert((unsigned)metric < DP_METRIC_COUNT && (unsigned)elem < DP_ELEM_COUNT);
    if (!has_isa(isa)) {
        return NULL;
    }
    switch (isa) {
    case DP_ISA_SCALAR:
        table = &dp_distance__scalar;
        break;
#if defined(__x86_64__)
    case DP_ISA_SSE:
        table = &dp_distance__sse;
        break;
    case DP_ISA_AVX2:
        table = &dp_distance__avx2;
        break;
    case DP_ISA_AVX512:
        table = &dp_distance__avx512;
        break;
#elif defined(__aarch64__)
    case DP_ISA_NEON:
        table = &dp_distance__neon;
        break;
#endif
    default:
        return NULL;
    }
    return &(*table)[metric][elem];
}

const dp_distance *
dp_distance_of(dp_metric metric, dp_elem elem)
{
    return dp_distance_of_isa(metric, elem, dp_isa_best());
}

dp_code_dot_fn
dp_code_dot_best(void)
{
#if defined(__x86_64__)
    if (has_isa(DP_ISA_AVX512)) {
        return __builtin_cpu_supports("avx512vnni") ? dp_code_dot__vnni : dp_code_dot__avx512;
    }
    if (has_isa(DP_ISA_AVX2)) {
        return dp_isa_has_avxvnni() ? dp_code_dot__avxvnni : dp_code_dot__avx2;
    }
    if (has_isa(DP_ISA_SSE)) {
        return dp_code_dot__sse;
    }
#elif defined(__aarch64__)
    return dp_code_dot__neon;
#endif
    return dp_code_dot__scalar;
}

float
dp_norm2(const float *x, size_t n)
{
    return 0.0F - dp_distance_of(DP_METRIC_DOT, DP_ELEM_F32)->one(x, x, n);
}
