/* Codes and bytes by VNNI in 256 bits, for processors that have AVX-VNNI and no AVX-512. Built with
 * its own flags (CMakeLists.txt), called only where the processor has them. The same source in the
 * encoding of AVX-512VL, under names of its own, is what test_kernels runs: more machines have
 * that. */
#include "index/bytes.h"
#include "index/distance_internal.h"

#if defined(DP_AVXVNNI_AS_EVEX) && defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define DPBUSD _mm256_dpbusd_epi32
#define NAME(kernel) kernel##__evexvnni
#elif defined(__AVXVNNI__)
#define DPBUSD _mm256_dpbusd_avx_epi32
#define NAME(kernel) kernel##__avxvnni
#endif

#ifdef NAME
#include <immintrin.h>
#include <string.h>

static inline __m256i
load(const void *at)
{
    return _mm256_loadu_si256(at);
}

static inline int32_t
reduce(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
    return _mm_cvtsi128_si32(s);
}

int32_t
NAME(dp_code_dot)(const int8_t *query, const uint8_t *code, size_t dim)
{
    __m256i s0 = _mm256_setzero_si256();
    __m256i s1 = s0;
    size_t i = 0;

    for (; i + 64 <= dim; i += 64) {
        s0 = DPBUSD(s0, load(code + i), load(query + i));
        s1 = DPBUSD(s1, load(code + i + 32), load(query + i + 32));
    }
    for (; i + 32 <= dim; i += 32) {
        s0 = DPBUSD(s0, load(code + i), load(query + i));
    }
    if (i < dim) {
        unsigned char c[32] = {0};
        unsigned char q[32] = {0};

        memcpy(c, code + i, dim - i);
        memcpy(q, query + i, dim - i);
        s1 = DPBUSD(s1, load(c), load(q));
    }
    return reduce(_mm256_add_epi32(s0, s1));
}

/* See bytes.h and kernel_vnni.c. */
typedef struct {
    __m256i square;
    __m256i product;
} bytes_sum;

static inline bytes_sum
bytes_step(bytes_sum sum, __m256i b, __m256i q)
{
    sum.square = DPBUSD(sum.square, b, _mm256_xor_si256(b, _mm256_set1_epi8((char)0x80)));
    sum.product = DPBUSD(sum.product, b, q);
    sum.product = DPBUSD(sum.product, b, _mm256_set1_epi8(64));
    return sum;
}

void
NAME(dp_bytes_euclid)(const dp_code_query *query, const unsigned char *const *rows, size_t n,
                      float *out)
{
    size_t whole = query->bytes / 32 * 32;
    size_t left = query->bytes - whole;

    for (size_t r = 0; r < n; r++) {
        bytes_sum sum = {_mm256_setzero_si256(), _mm256_setzero_si256()};

        for (size_t i = 0; i < whole; i += 32) {
            sum = bytes_step(sum, load(rows[r] + i), load(query->codes + i));
        }
        if (left > 0) {
            unsigned char b[32] = {0};
            unsigned char q[32] = {0};

            memcpy(b, rows[r] + whole, left);
            memcpy(q, query->codes + whole, left);
            sum = bytes_step(sum, load(b), load(q));
        }
        sum.square = _mm256_sub_epi32(sum.square, _mm256_slli_epi32(sum.product, 1));
        /* Unsigned: it may wrap on the way, the distance itself does not. */
        out[r] = (float)(int32_t)((uint32_t)reduce(sum.square) + (uint32_t)query->norm2);
    }
}
#else
typedef int dp_kernel_avxvnni_unused; /* a translation unit may not be empty */
#endif
