/* data-plane/index/kernel_coder_body.h: the loops over floats of the trained coders, written once
 * for vectors of LANES floats and compiled with each instruction set's flags by kernel_coder_*.c,
 * which define LANES and FLIP(v, s): lane i becomes lane i ^ s. Not for anybody else. */
#include <string.h>

#include "index/coder_kernels.h"

typedef float floats __attribute__((vector_size(LANES * 4)));
typedef int32_t ints __attribute__((vector_size(LANES * 4)));
typedef uint8_t bytes __attribute__((vector_size(LANES)));
typedef int8_t signed_bytes __attribute__((vector_size(LANES)));

static inline floats
load(const float *at)
{
    floats v;

    memcpy(&v, at, sizeof v);
    return v;
}

static inline void
store(float *at, floats v)
{
    memcpy(at, &v, sizeof v);
}

static inline floats
all(float x)
{
    return (floats){0} + x;
}

static inline floats
choose(ints mask, floats yes, floats no)
{
    return (floats)(((ints)yes & mask) | ((ints)no & ~mask));
}

static inline float
sum_of(floats v)
{
    float sum = 0;

    for (int i = 0; i < LANES; i++) {
        sum += v[i];
    }
    return sum;
}

/* -1 in the lanes of which bit s is set, else 1. */
static inline floats
signs_of(int s)
{
    floats v = {0};

    for (int i = 0; i < LANES; i++) {
        v[i] = (i & s) != 0 ? -1.0F : 1.0F;
    }
    return v;
}

static void
hadamard(float *x, size_t n)
{
    const floats scale = all(1.0F / __builtin_sqrtf((float)n));

    for (size_t i = 0; i < n; i += LANES) {
        floats v = load(x + i) * scale;

        v = v * signs_of(1) + FLIP(v, 1);
        v = v * signs_of(2) + FLIP(v, 2);
        v = v * signs_of(4) + FLIP(v, 4);
#if LANES > 8
        v = v * signs_of(8) + FLIP(v, 8);
#endif
        store(x + i, v);
    }
    for (size_t stride = LANES; stride < n; stride *= 2) {
        for (size_t i = 0; i < n; i += 2 * stride) {
            for (size_t j = i; j < i + stride; j += LANES) {
                floats a = load(x + j);
                floats b = load(x + j + stride);

                store(x + j, a + b);
                store(x + j + stride, a - b);
            }
        }
    }
}

static void
rotate(float *x, size_t n, const float *factors)
{
    const floats half = all(0.70710678F);
    size_t power = 64;

    while (power * 2 <= n) {
        power *= 2;
    }
    for (size_t round = 0; round < DP_ROTATE_ROUNDS; round++) {
        const float *f = factors + round * n;

        for (size_t i = 0; power == n && i < n; i += LANES) {
            store(x + i, load(x + i) * load(f + i));
        }
        for (size_t i = 0; power != n && i < n / 2; i += LANES) {
            floats a = load(x + i) * load(f + i) * half;
            floats b = load(x + i + n / 2) * load(f + i + n / 2) * half;

            store(x + i, a + b);
            store(x + i + n / 2, a - b);
        }
        hadamard(round % 2 == 0 ? x : x + (n - power), power);
    }
}

static dp_bits_fit
fit(const float *x, size_t n, uint32_t bits, float step, uint8_t *u)
{
    const floats inverse = all(1.0F / step);
    const floats middle = all((float)(1U << (bits - 1)));
    const floats most = all((float)((1U << bits) - 1));
    floats dot = all(0);
    floats vv = all(0);

    for (size_t i = 0; i < n; i += LANES) {
        floats r = load(x + i);
        floats t = r * inverse + middle;
        floats v;
        ints whole;
        bytes b;

        t = choose(t > all(0), t, all(0)); /* also what is not a number */
        t = choose(t < most, t, most);
        whole = __builtin_convertvector(t, ints);
        b = __builtin_convertvector(whole, bytes);
        memcpy(u + i, &b, sizeof b);
        v = __builtin_convertvector(whole, floats) - most * 0.5F;
        dot += v * r;
        vv += v * v;
    }
    return (dp_bits_fit){.dot = sum_of(dot), .vv = sum_of(vv)};
}

static int32_t
quantize(const float *x, size_t n, float inverse, float limit, int8_t *s)
{
    /* Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low bits.
     */
    const floats big = all(12582912.0F);
    const floats top = all(limit);
    ints sum = {0};

    for (size_t i = 0; i < n; i += LANES) {
        floats t = load(x + i) * inverse;
        ints whole;
        signed_bytes b;

        t = choose(t > -top, t, -top);
        t = choose(t < top, t, top);
        whole = __builtin_convertvector((t + big) - big, ints);
        b = __builtin_convertvector(whole, signed_bytes);
        memcpy(s + i, &b, sizeof b);
        sum += whole;
    }
    int32_t total = 0;

    for (int i = 0; i < LANES; i++) {
        total += sum[i];
    }
    return total;
}

static uint32_t
nearest(const float *x, size_t sub, const float *centroids, const float *halves)
{
    floats least = all(__builtin_inff());
    ints at = {0};
    ints place;
    uint32_t best = 0;

    for (int i = 0; i < LANES; i++) {
        place[i] = i;
    }
    for (size_t c = 0; c < 256; c += LANES) {
        floats d = load(halves + c);
        ints nearer;

        for (size_t i = 0; i < sub; i++) {
            d -= load(centroids + i * 256 + c) * x[i];
        }
        nearer = d < least;
        least = choose(nearer, d, least);
        at = (place & nearer) | (at & ~nearer);
        place += LANES;
    }
    for (uint32_t i = 1; i < LANES; i++) {
        if (least[i] < least[best] || (least[i] == least[best] && at[i] < at[best])) {
            best = i;
        }
    }
    return (uint32_t)at[best];
}

static void
table(const float *x, size_t sub, const float *centroids, bool euclid, float *out)
{
    for (size_t c = 0; c < 256; c += LANES) {
        floats d = all(0);

        for (size_t i = 0; i < sub; i++) {
            floats y = load(centroids + i * 256 + c);

            d += euclid ? (y - x[i]) * (y - x[i]) : -(y * x[i]);
        }
        store(out + c, d);
    }
}
