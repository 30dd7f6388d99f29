/* The kernels for 64-bit ARM: 4 components a step, the tail through a small buffer of zeros. */
#include "index/bytes.h"
#include "index/distance_internal.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

static inline float32x4_t
load_f32(const unsigned char *at)
{
    return vreinterpretq_f32_u8(vld1q_u8(at));
}

static inline float32x4_t
load_f16(const unsigned char *at)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(at)));
}

static inline float32x4_t
load_u8(const unsigned char *at)
{
    uint32_t four;
    uint16x8_t wide;

    memcpy(&four, at, sizeof four);
    wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)));
}

static inline float32x4_t
step_dot(float32x4_t sum, float32x4_t q, float32x4_t x)
{
    return vfmaq_f32(sum, q, x);
}

static inline float32x4_t
step_euclid(float32x4_t sum, float32x4_t q, float32x4_t x)
{
    float32x4_t d = vsubq_f32(q, x);

    return vfmaq_f32(sum, d, d);
}

static inline float32x4_t
step_manhattan(float32x4_t sum, float32x4_t q, float32x4_t x)
{
    return vaddq_f32(sum, vabdq_f32(q, x));
}

#define KERNEL(metric, elem, elem_bytes, SIGN)                                              \
    static float metric##_##elem(const float *query, const void *row, size_t dim)           \
    {                                                                                       \
        const unsigned char *x = row;                                                       \
        const unsigned char *q = (const unsigned char *)query;                              \
        float32x4_t s0 = vdupq_n_f32(0);                                                    \
        float32x4_t s1 = s0;                                                                \
        size_t i = 0;                                                                       \
                                                                                            \
        for (; i + 8 <= dim; i += 8) {                                                      \
            s0 = step_##metric(s0, load_f32(q + i * 4), load_##elem(x + i * (elem_bytes))); \
            s1 = step_##metric(s1, load_f32(q + (i + 4) * 4),                               \
                               load_##elem(x + (i + 4) * (elem_bytes)));                    \
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
        return SIGN vaddvq_f32(vaddq_f32(s0, s1));                                          \
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
    float32x4_t dot = vdupq_n_f32(0);
    float32x4_t norm = dot;
    float length2;
    size_t i = 0;

    for (; i + 4 <= dim; i += 4) {
        float32x4_t v = load_u8(x + i);

        dot = step_dot(dot, load_f32(q + i * 4), v);
        norm = step_dot(norm, v, v);
    }
    if (i < dim) {
        unsigned char q_tail[16] = {0};
        unsigned char x_tail[4] = {0};
        float32x4_t v;

        memcpy(q_tail, q + i * 4, (dim - i) * 4);
        memcpy(x_tail, x + i, dim - i);
        v = load_u8(x_tail);
        dot = step_dot(dot, load_f32(q_tail), v);
        norm = step_dot(norm, v, v);
    }
    length2 = vaddvq_f32(norm);
    return length2 > 0.0F ? -vaddvq_f32(dot) / __builtin_sqrtf(length2) : 0.0F;
}
DP_MANY(cosine_u8, 1)

#define ENTRY(kernel)                                        \
    {                                                        \
        .one = kernel, .many = kernel##_many, .name = "neon" \
    }

const dp_distance_table dp_distance__neon = {
    [DP_METRIC_DOT] = {ENTRY(dot_f32), ENTRY(dot_f16), ENTRY(dot_u8)},
    [DP_METRIC_COSINE] = {ENTRY(dot_f32), ENTRY(dot_f16), ENTRY(cosine_u8)},
    [DP_METRIC_EUCLID] = {ENTRY(euclid_f32), ENTRY(euclid_f16), ENTRY(euclid_u8)},
    [DP_METRIC_MANHATTAN] = {ENTRY(manhattan_f32), ENTRY(manhattan_f16), ENTRY(manhattan_u8)},
};

int32_t
dp_code_dot__neon(const int8_t *query, const uint8_t *code, size_t dim)
{
    int32x4_t sum = vdupq_n_s32(0);
    size_t i = 0;

    for (; i + 8 <= dim; i += 8) {
        int16x8_t q = vmovl_s8(vld1_s8(query + i));
        int16x8_t x = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(code + i)));

        sum = vmlal_s16(sum, vget_low_s16(q), vget_low_s16(x));
        sum = vmlal_s16(sum, vget_high_s16(q), vget_high_s16(x));
    }
    return vaddvq_s32(sum) + dp_code_dot__scalar(query + i, code + i, dim - i);
}
/* Adds the squares of 16 differences of bytes. */
static inline uint32x4_t
bytes_step(uint32x4_t sum, const unsigned char *row, const unsigned char *codes)
{
    uint8x16_t q = veorq_u8(vld1q_u8(codes), vdupq_n_u8(0x80));
    uint8x16_t d = vabdq_u8(vld1q_u8(row), q);

    sum = vpadalq_u16(sum, vmull_u8(vget_low_u8(d), vget_low_u8(d)));
    return vpadalq_u16(sum, vmull_high_u8(d, d));
}

DP_BYTES_KERNEL(neon)
{
    const unsigned char *codes = (const unsigned char *)query->codes;
    size_t whole = query->bytes / 16 * 16;
    size_t left = query->bytes - whole;

    for (size_t r = 0; r < n; r++) {
        uint32x4_t sum = vdupq_n_u32(0);

        for (size_t i = 0; i < whole; i += 16) {
            sum = bytes_step(sum, rows[r] + i, codes + i);
        }
        if (left > 0) {
            unsigned char b[16] = {0};
            unsigned char q[16];

            memset(q, 0x80, sizeof q);
            memcpy(b, rows[r] + whole, left);
            memcpy(q, codes + whole, left);
            sum = bytes_step(sum, b, q);
        }
        out[r] = (float)(int32_t)vaddvq_u32(sum);
    }
}
#else
typedef int dp_kernel_neon_unused; /* a translation unit may not be empty */
#endif
