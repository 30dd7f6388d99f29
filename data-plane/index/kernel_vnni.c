/* Codes by AVX-512 VNNI: 64 products of unsigned with signed bytes an instruction. Apart from
 * kernel_avx512.c so that no instruction of it slips into code for processors without VNNI. */
#include "index/bytes.h"
#include "index/distance_internal.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

int32_t
dp_code_dot__vnni(const int8_t *query, const uint8_t *code, size_t dim)
{
    __m512i s0 = _mm512_setzero_si512();
    __m512i s1 = s0;
    size_t i = 0;

    for (; i + 128 <= dim; i += 128) {
        s0 = _mm512_dpbusd_epi32(s0, _mm512_loadu_si512(code + i), _mm512_loadu_si512(query + i));
        s1 = _mm512_dpbusd_epi32(s1, _mm512_loadu_si512(code + i + 64),
                                 _mm512_loadu_si512(query + i + 64));
    }
    for (; i < dim; i += 64) {
        __mmask64 mask = dim - i >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << (dim - i)) - 1;

        s0 = _mm512_dpbusd_epi32(s0, _mm512_maskz_loadu_epi8(mask, code + i),
                                 _mm512_maskz_loadu_epi8(mask, query + i));
    }
    return _mm512_reduce_add_epi32(_mm512_add_epi32(s0, s1));
}

static inline __m128i
fold(__m512i v)
{
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));

    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* Four rows at once: the sums across a register, and the tails, are then done for four together. */
static inline __m128
measure_four(const dp_code_query *query, const unsigned char *const *rows)
{
    const unsigned char *r0 = rows[0];
    const unsigned char *r1 = rows[1];
    const unsigned char *r2 = rows[2];
    const unsigned char *r3 = rows[3];
    size_t bytes = query->bytes;
    __m512i s0 = _mm512_setzero_si512();
    __m512i s1 = s0;
    __m512i s2 = s0;
    __m512i s3 = s0;
    size_t i = 0;
    __m128i dots;
    __m128 scale;
    __m128 offset;
    __m128 norm2;
    __m128 sum;
    __m128 d;

    for (; i + 64 <= bytes; i += 64) {
        __m512i q = _mm512_load_si512(query->codes + i);

        s0 = _mm512_dpbusd_epi32(s0, _mm512_loadu_si512(r0 + i), q);
        s1 = _mm512_dpbusd_epi32(s1, _mm512_loadu_si512(r1 + i), q);
        s2 = _mm512_dpbusd_epi32(s2, _mm512_loadu_si512(r2 + i), q);
        s3 = _mm512_dpbusd_epi32(s3, _mm512_loadu_si512(r3 + i), q);
    }
    if (i < bytes) {
        __mmask64 mask = (UINT64_C(1) << (bytes - i)) - 1;
        __m512i q = _mm512_maskz_loadu_epi8(mask, query->codes + i);

        s0 = _mm512_dpbusd_epi32(s0, _mm512_maskz_loadu_epi8(mask, r0 + i), q);
        s1 = _mm512_dpbusd_epi32(s1, _mm512_maskz_loadu_epi8(mask, r1 + i), q);
        s2 = _mm512_dpbusd_epi32(s2, _mm512_maskz_loadu_epi8(mask, r2 + i), q);
        s3 = _mm512_dpbusd_epi32(s3, _mm512_maskz_loadu_epi8(mask, r3 + i), q);
    }
    dots = _mm_hadd_epi32(_mm_hadd_epi32(fold(s0), fold(s1)), _mm_hadd_epi32(fold(s2), fold(s3)));
    scale = _mm_loadu_ps((const float *)(const void *)(r0 + bytes));
    offset = _mm_loadu_ps((const float *)(const void *)(r1 + bytes));
    norm2 = _mm_loadu_ps((const float *)(const void *)(r2 + bytes));
    sum = _mm_loadu_ps((const float *)(const void *)(r3 + bytes));
    _MM_TRANSPOSE4_PS(scale, offset, norm2, sum); /* by row -> by field, in the tail's order */
    d = _mm_fmadd_ps(_mm_set1_ps(query->w_norm), norm2, _mm_set1_ps(query->base));
    d = _mm_fmadd_ps(_mm_set1_ps(query->w_sum), sum, d);
    d = _mm_fmadd_ps(_mm_set1_ps(query->w_offset), offset, d);
    return _mm_fmadd_ps(_mm_mul_ps(_mm_set1_ps(query->w_dot), scale), _mm_cvtepi32_ps(dots), d);
}

void
dp_code_measure__vnni(const dp_code_query *query, const unsigned char *const *rows, size_t n,
                      float *out)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        _mm_storeu_ps(out + i, measure_four(query, rows + i));
    }
    if (i < n) {
        const unsigned char *last[4];
        float four[4];

        for (size_t j = 0; j < 4; j++) {
            last[j] = rows[i + j < n ? i + j : n - 1];
        }
        _mm_storeu_ps(four, measure_four(query, last));
        for (size_t j = 0; i + j < n; j++) {
            out[i + j] = four[j];
        }
    }
}
/* See bytes.h. In one register: sum b (b - 128) - 2 (sum b s + sum 64 b). It may wrap on the way,
 * but not at the end: it is the distance less |q|^2. */
typedef struct {
    __m512i square;
    __m512i product;
} bytes_sum;

static inline void
bytes_step(bytes_sum *sum, __m512i b, __m512i q)
{
    __m512i moved = _mm512_xor_si512(b, _mm512_set1_epi8((char)0x80));

    sum->square = _mm512_dpbusd_epi32(sum->square, b, moved);
    sum->product = _mm512_dpbusd_epi32(sum->product, b, q);
    sum->product = _mm512_dpbusd_epi32(sum->product, b, _mm512_set1_epi8(64));
}

static inline __m128i
bytes_fold(const bytes_sum *sum)
{
    return fold(_mm512_sub_epi32(sum->square, _mm512_slli_epi32(sum->product, 1)));
}

static inline __m128
bytes_four(const dp_code_query *query, const unsigned char *const *rows)
{
    const unsigned char *r0 = rows[0];
    const unsigned char *r1 = rows[1];
    const unsigned char *r2 = rows[2];
    const unsigned char *r3 = rows[3];
    size_t bytes = query->bytes;
    bytes_sum s0 = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    bytes_sum s1 = s0;
    bytes_sum s2 = s0;
    bytes_sum s3 = s0;
    size_t i = 0;
    __m128i d;

    for (; i + 64 <= bytes; i += 64) {
        __m512i q = _mm512_load_si512(query->codes + i);

        bytes_step(&s0, _mm512_loadu_si512(r0 + i), q);
        bytes_step(&s1, _mm512_loadu_si512(r1 + i), q);
        bytes_step(&s2, _mm512_loadu_si512(r2 + i), q);
        bytes_step(&s3, _mm512_loadu_si512(r3 + i), q);
    }
    if (i < bytes) {
        __mmask64 mask = (UINT64_C(1) << (bytes - i)) - 1;
        __m512i q = _mm512_maskz_loadu_epi8(mask, query->codes + i);

        bytes_step(&s0, _mm512_maskz_loadu_epi8(mask, r0 + i), q);
        bytes_step(&s1, _mm512_maskz_loadu_epi8(mask, r1 + i), q);
        bytes_step(&s2, _mm512_maskz_loadu_epi8(mask, r2 + i), q);
        bytes_step(&s3, _mm512_maskz_loadu_epi8(mask, r3 + i), q);
    }
    d = _mm_hadd_epi32(_mm_hadd_epi32(bytes_fold(&s0), bytes_fold(&s1)),
                       _mm_hadd_epi32(bytes_fold(&s2), bytes_fold(&s3)));
    return _mm_cvtepi32_ps(_mm_add_epi32(d, _mm_set1_epi32(query->norm2)));
}

DP_BYTES_KERNEL(vnni)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        _mm_storeu_ps(out + i, bytes_four(query, rows + i));
    }
    if (i < n) {
        const unsigned char *last[4];

        for (size_t j = 0; j < 4; j++) {
            last[j] = rows[i + j < n ? i + j : n - 1];
        }
        _mm_mask_storeu_ps(out + i, (__mmask8)((1U << (n - i)) - 1), bytes_four(query, last));
    }
}
/* sum b^2 = sum b (b - 128) + 128 sum b. */
int32_t
dp_bytes_move__vnni(int8_t *codes, const unsigned char *row, size_t n)
{
    __m512i sum = _mm512_setzero_si512();

    for (size_t i = 0; i < n; i += 64) {
        __mmask64 mask = n - i >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << (n - i)) - 1;
        __m512i b = _mm512_maskz_loadu_epi8(mask, row + i);
        __m512i moved = _mm512_xor_si512(b, _mm512_set1_epi8((char)0x80));

        _mm512_mask_storeu_epi8(codes + i, mask, moved);
        sum = _mm512_dpbusd_epi32(sum, b, moved);
        sum = _mm512_dpbusd_epi32(sum, b, _mm512_set1_epi8(64));
        sum = _mm512_dpbusd_epi32(sum, b, _mm512_set1_epi8(64));
    }
    return _mm512_reduce_add_epi32(sum);
}
#else
typedef int dp_kernel_vnni_unused; /* a translation unit may not be empty */
#endif
