/* The plain loops of the trained coders: the oracle of the wide ones, and what runs where there are
 * none. */
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "index/coder_kernels.h"

static void
hadamard(float *x, size_t n)
{
    float scale = 1.0F / sqrtf((float)n);

    for (size_t stride = 1; stride < n; stride *= 2) {
        for (size_t i = 0; i < n; i += 2 * stride) {
            for (size_t j = i; j < i + stride; j++) {
                float a = x[j];
                float b = x[j + stride];

                x[j] = a + b;
                x[j + stride] = a - b;
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        x[i] *= scale;
    }
}

static void
rotate(float *x, size_t n, const float *factors)
{
    const float half = 0.70710678F;
    size_t power = 64;

    while (power * 2 <= n) {
        power *= 2;
    }
    for (size_t round = 0; round < DP_ROTATE_ROUNDS; round++) {
        for (size_t i = 0; i < n; i++) {
            x[i] *= factors[round * n + i];
        }
        for (size_t i = 0; power != n && i < n / 2; i++) {
            float a = x[i];
            float b = x[i + n / 2];

            x[i] = (a + b) * half;
            x[i + n / 2] = (a - b) * half;
        }
        hadamard(round % 2 == 0 ? x : x + (n - power), power);
    }
}

static dp_bits_fit
fit(const float *x, size_t n, uint32_t bits, float step, uint8_t *u)
{
    float inverse = 1.0F / step;
    float middle = (float)(1U << (bits - 1));
    float most = (float)((1U << bits) - 1);
    dp_bits_fit sum = {0};

    for (size_t i = 0; i < n; i++) {
        float t = x[i] * inverse + middle;
        float v;

        t = t > 0.0F ? t : 0.0F; /* also what is not a number */
        t = t < most ? t : most;
        u[i] = (uint8_t)t;
        v = (float)u[i] - most * 0.5F;
        sum.dot += v * x[i];
        sum.vv += v * v;
    }
    return sum;
}

static int32_t
quantize(const float *x, size_t n, float inverse, float limit, int8_t *s)
{
    int32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        float t = x[i] * inverse;

        t = t > -limit ? t : -limit;
        t = t < limit ? t : limit;
        s[i] = (int8_t)lrintf(t);
        sum += s[i];
    }
    return sum;
}

static uint32_t
component(const unsigned char *block, uint32_t bits, uint32_t i)
{
    uint32_t u = 0;

    for (uint32_t part = 8; part > 0; part /= 2) {
        if ((bits & part) == 0) {
            continue;
        }
        uint32_t each = DP_BITS_BLOCK * part / 8; /* bytes of the part */
        uint32_t byte = part == 1 ? i / 8 : i % each;
        uint32_t shift = part == 1 ? i % 8 : i / each * part;

        u = u << part | ((uint32_t)(block[byte] >> shift) & ((1U << part) - 1));
        block += each;
    }
    return u;
}

static void
measure_bits(const dp_code_query *query, const unsigned char *const *rows, size_t n, float *out,
             uint32_t bits)
{
    size_t block_bytes = DP_BITS_BLOCK / 8 * bits;
    size_t blocks = query->bytes / DP_BITS_BLOCK;

    for (size_t r = 0; r < n; r++) {
        int32_t dot = 0;

        for (size_t b = 0; b < blocks; b++) {
            for (uint32_t i = 0; i < DP_BITS_BLOCK; i++) {
                dot += (int32_t)component(rows[r] + b * block_bytes, bits, i) *
                       query->codes[b * DP_BITS_BLOCK + i];
            }
        }
        out[r] = dp_bits_finish(query, rows[r] + blocks * block_bytes, dot);
    }
}

#define MEASURE_BITS(bits)                                                                   \
    static void measure_##bits(const dp_code_query *query, const unsigned char *const *rows, \
                               size_t n, float *out)                                         \
    {                                                                                        \
        measure_bits(query, rows, n, out, bits);                                             \
    }
MEASURE_BITS(1)
MEASURE_BITS(2)
MEASURE_BITS(3)
MEASURE_BITS(4)
MEASURE_BITS(5)
MEASURE_BITS(6)
MEASURE_BITS(7)
MEASURE_BITS(8)

static uint32_t
nearest(const float *x, size_t sub, const float *centroids, const float *halves)
{
    float least = INFINITY;
    uint32_t at = 0;

    for (uint32_t c = 0; c < 256; c++) {
        float d = halves[c];

        for (size_t i = 0; i < sub; i++) {
            d -= x[i] * centroids[i * 256 + c];
        }
        if (d < least) {
            least = d;
            at = c;
        }
    }
    return at;
}

static void
table(const float *x, size_t sub, const float *centroids, bool euclid, float *out)
{
    for (uint32_t c = 0; c < 256; c++) {
        float d = 0;

        for (size_t i = 0; i < sub; i++) {
            float y = centroids[i * 256 + c];

            d += euclid ? (x[i] - y) * (x[i] - y) : -x[i] * y;
        }
        out[c] = d;
    }
}

static void
measure_product(const dp_code_query *query, const unsigned char *const *rows, size_t n, float *out)
{
    const float *tables = (const float *)(const void *)query->codes;

    for (size_t r = 0; r < n; r++) {
        float sum = 0;

        for (size_t m = 0; m < query->bytes; m++) {
            sum += tables[m * 256 + rows[r][m]];
        }
        out[r] = query->base + sum;
    }
}

const dp_coder_kernels dp_coder_kernels__scalar = {
    .rotate = rotate,
    .fit = fit,
    .quantize = quantize,
    .measure_bits = {NULL, measure_1, measure_2, measure_3, measure_4, measure_5, measure_6,
                     measure_7, measure_8},
    .nearest = nearest,
    .table = table,
    .measure_product = measure_product};

const dp_coder_kernels *
dp_coder_kernels_of_isa(dp_isa isa)
{
#if defined(__x86_64__)
    dp_isa best = dp_isa_best();

    if (isa == DP_ISA_AVX512) {
        return best == DP_ISA_AVX512 && __builtin_cpu_supports("avx512vnni")
                   ? &dp_coder_kernels__avx512
                   : NULL;
    }
    if (isa == DP_ISA_AVX2) {
        return best == DP_ISA_AVX512 || best == DP_ISA_AVX2 ? &dp_coder_kernels__avx2 : NULL;
    }
#endif
    return isa == DP_ISA_SCALAR ? &dp_coder_kernels__scalar : NULL;
}

const dp_coder_kernels *
dp_coder_kernels_best(void)
{
    const dp_coder_kernels *wide = dp_coder_kernels_of_isa(DP_ISA_AVX512);

    wide = wide != NULL ? wide : dp_coder_kernels_of_isa(DP_ISA_AVX2);
    return wide != NULL ? wide : &dp_coder_kernels__scalar;
}
