/* The trained coders by AVX-512 with VNNI: 64 components a product, whatever their bits; four rows
 * at a time, so that the sums across a register are done for four together. */
#include "index/coder_kernels.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

#define LANES 16
#define FLIP(v, s)                                                                            \
    __builtin_shufflevector((v), (v), 0 ^ (s), 1 ^ (s), 2 ^ (s), 3 ^ (s), 4 ^ (s), 5 ^ (s),   \
                            6 ^ (s), 7 ^ (s), 8 ^ (s), 9 ^ (s), 10 ^ (s), 11 ^ (s), 12 ^ (s), \
                            13 ^ (s), 14 ^ (s), 15 ^ (s))
#include "index/kernel_coder_body.h"

/* One part of a block, as 64 bytes. */
static inline __attribute__((always_inline)) __m512i
widen(const unsigned char *at, uint32_t part)
{
    if (part == 8) {
        return _mm512_loadu_si512(at);
    }
    if (part == 4) {
        __m512i x = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)at));

        x = _mm512_srlv_epi64(x, _mm512_setr_epi64(0, 0, 0, 0, 4, 4, 4, 4));
        return _mm512_and_si512(x, _mm512_set1_epi8(15));
    }
    if (part == 2) {
        __m512i x = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)at));

        x = _mm512_srlv_epi64(x, _mm512_setr_epi64(0, 0, 2, 2, 4, 4, 6, 6));
        return _mm512_and_si512(x, _mm512_set1_epi8(3));
    }
    uint64_t mask;

    memcpy(&mask, at, sizeof mask);
    return _mm512_maskz_set1_epi8(mask, 1);
}

static inline __m128i
fold(__m512i v)
{
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));

    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* Four rows: each part has sums of its own, joined by their weights at the end. */
static inline __attribute__((always_inline)) __m128i
dots_of_four(const dp_code_query *query, const unsigned char *const *rows, uint32_t bits)
{
    const size_t padded = query->bytes;
    __m512i sums[4][4];
    __m128i folded[4];
    size_t at = 0;

    for (int p = 0; p < 4; p++) {
        for (int r = 0; r < 4; r++) {
            sums[p][r] = _mm512_setzero_si512();
        }
    }
    for (size_t b = 0; b < padded; b += DP_BITS_BLOCK) {
        __m512i q = _mm512_load_si512(query->codes + b);

#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) {
            uint32_t part = 8U >> p;

            if ((bits & part) != 0) {
#pragma GCC unroll 4
                for (int r = 0; r < 4; r++) {
                    sums[p][r] = _mm512_dpbusd_epi32(sums[p][r], widen(rows[r] + at, part), q);
                }
                at += DP_BITS_BLOCK / 8 * part;
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        __m512i sum = _mm512_setzero_si512();
        uint32_t below = bits;

#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) {
            if ((bits & (8U >> p)) != 0) {
                below -= 8U >> p;
                sum = _mm512_add_epi32(sum, _mm512_slli_epi32(sums[p][r], below));
            }
        }
        folded[r] = fold(sum);
    }
    return _mm_hadd_epi32(_mm_hadd_epi32(folded[0], folded[1]),
                          _mm_hadd_epi32(folded[2], folded[3]));
}

static inline __attribute__((always_inline)) void
measure_bits(const dp_code_query *query, const unsigned char *const *rows, size_t n, float *out,
             uint32_t bits)
{
    size_t codes_bytes = query->bytes / 8 * bits;

    for (size_t i = 0; i < n; i += 4) {
        const unsigned char *four[4];
        int32_t dots[4];

        for (size_t j = 0; j < 4; j++) {
            four[j] = rows[i + j < n ? i + j : n - 1];
        }
        _mm_storeu_si128((__m128i *)(void *)dots, dots_of_four(query, four, bits));
        for (size_t j = 0; j < 4 && i + j < n; j++) {
            out[i + j] = dp_bits_finish(query, four[j] + codes_bytes, dots[j]);
        }
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

static void
measure_product(const dp_code_query *query, const unsigned char *const *rows, size_t n, float *out)
{
    const float *tables = (const float *)(const void *)query->codes;
    const __m512i places =
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                           _mm512_set1_epi32(256));

    for (size_t r = 0; r < n; r++) {
        const unsigned char *row = rows[r];
        __m512 sum = _mm512_setzero_ps();

        for (size_t m = 0; m < query->bytes; m += 16) {
            size_t left = query->bytes - m;
            __mmask16 mask = (__mmask16)(left >= 16 ? 0xFFFFU : (1U << left) - 1);
            __m512i at =
                _mm512_add_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, row + m)), places);

            sum = _mm512_add_ps(
                sum, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, at, tables + m * 256, 4));
        }
        out[r] = query->base + _mm512_reduce_add_ps(sum);
    }
}

const dp_coder_kernels dp_coder_kernels__avx512 = {
    .rotate = rotate,
    .fit = fit,
    .quantize = quantize,
    .measure_bits = {NULL, measure_1, measure_2, measure_3, measure_4, measure_5, measure_6,
                     measure_7, measure_8},
    .nearest = nearest,
    .table = table,
    .measure_product = measure_product};
#else
typedef int dp_kernel_coder_avx512_unused; /* a translation unit may not be empty */
#endif
