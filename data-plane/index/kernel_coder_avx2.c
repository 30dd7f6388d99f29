/* The trained coders by AVX2: codes are widened to bytes and multiplied by bytes of the query. */
#include "index/coder_kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>

#define LANES 8
#define FLIP(v, s)                                                                          \
    __builtin_shufflevector((v), (v), 0 ^ (s), 1 ^ (s), 2 ^ (s), 3 ^ (s), 4 ^ (s), 5 ^ (s), \
                            6 ^ (s), 7 ^ (s))
#include "index/kernel_coder_body.h"

static inline __m256i
load_256(const void *at)
{
    return _mm256_loadu_si256((const __m256i *)at);
}

/* 32 components of one part of a block, as bytes; which: the first or the second 32. */
static inline __attribute__((always_inline)) __m256i
widen(const unsigned char *at, uint32_t part, int which)
{
    if (part == 8) {
        return load_256(at + (which != 0 ? 32 : 0));
    }
    if (part == 4) {
        __m256i x = load_256(at);

        x = which != 0 ? _mm256_srli_epi16(x, 4) : x;
        return _mm256_and_si256(x, _mm256_set1_epi8(15));
    }
    if (part == 2) {
        __m256i x = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)at));

        x = _mm256_srlv_epi64(x, which != 0 ? _mm256_setr_epi64x(4, 4, 6, 6)
                                            : _mm256_setr_epi64x(0, 0, 2, 2));
        return _mm256_and_si256(x, _mm256_set1_epi8(3));
    }
    int32_t four;
    const __m256i spread =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201ULL);
    __m256i x;

    memcpy(&four, at + (which != 0 ? 4 : 0), sizeof four);
    x = _mm256_shuffle_epi8(_mm256_set1_epi32(four), spread);
    x = _mm256_cmpeq_epi8(_mm256_and_si256(x, bit), bit);
    return _mm256_and_si256(x, _mm256_set1_epi8(1));
}

/* Products of unsigned with signed bytes, added up. Two products of a part of at most four bits
 * fit 16 bits; those of eight do not and are widened first. */
static inline __attribute__((always_inline)) __m256i
products(__m256i u, __m256i s, uint32_t part)
{
    if (part < 8) {
        return _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1));
    }
    return _mm256_add_epi32(
        _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(u)),
                          _mm256_cvtepi8_epi16(_mm256_castsi256_si128(s))),
        _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(u, 1)),
                          _mm256_cvtepi8_epi16(_mm256_extracti128_si256(s, 1))));
}

static inline __attribute__((always_inline)) int32_t
dot_bits(const int8_t *query, const unsigned char *row, size_t padded, uint32_t bits)
{
    __m256i sum = _mm256_setzero_si256();
    __m128i half;

    for (size_t b = 0; b < padded; b += DP_BITS_BLOCK) {
        __m256i q0 = load_256(query + b);
        __m256i q1 = load_256(query + b + 32);
        uint32_t below = bits; /* bits of lower weight than the part */

        for (uint32_t part = 8; part > 0; part /= 2) {
            if ((bits & part) == 0) {
                continue;
            }
            __m256i d = _mm256_add_epi32(products(widen(row, part, 0), q0, part),
                                         products(widen(row, part, 1), q1, part));

            below -= part;
            sum = _mm256_add_epi32(sum, _mm256_slli_epi32(d, (int)below));
            row += DP_BITS_BLOCK / 8 * part;
        }
    }
    half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4E));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xB1));
    return _mm_cvtsi128_si32(half);
}

#define MEASURE_BITS(bits)                                                                   \
    static void measure_##bits(const dp_code_query *query, const unsigned char *const *rows, \
                               size_t n, float *out)                                         \
    {                                                                                        \
        for (size_t i = 0; i < n; i++) {                                                     \
            out[i] = dp_bits_finish(query, rows[i] + query->bytes / 8 * (bits),              \
                                    dot_bits(query->codes, rows[i], query->bytes, bits));    \
        }                                                                                    \
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
    const __m256i places =
        _mm256_setr_epi32(0, 256, 2 * 256, 3 * 256, 4 * 256, 5 * 256, 6 * 256, 7 * 256);

    for (size_t r = 0; r < n; r++) {
        const unsigned char *row = rows[r];
        __m256 sum = _mm256_setzero_ps();
        size_t m = 0;
        float rest;

        for (; m + 8 <= query->bytes; m += 8) {
            __m256i at = _mm256_add_epi32(
                _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(row + m))),
                places);

            sum = _mm256_add_ps(sum, _mm256_i32gather_ps(tables + m * 256, at, 4));
        }
        rest = query->base + sum_of((floats)sum);
        for (; m < query->bytes; m++) {
            rest += tables[m * 256 + row[m]];
        }
        out[r] = rest;
    }
}

const dp_coder_kernels dp_coder_kernels__avx2 = {.rotate = rotate,
                                                 .fit = fit,
                                                 .quantize = quantize,
                                                 .measure_bits = {NULL, measure_1, measure_2,
                                                                  measure_3, measure_4, measure_5,
                                                                  measure_6, measure_7, measure_8},
                                                 .nearest = nearest,
                                                 .table = table,
                                                 .measure_product = measure_product};
#else
typedef int dp_kernel_coder_avx2_unused; /* a translation unit may not be empty */
#endif
