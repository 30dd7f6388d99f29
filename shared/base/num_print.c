/* Writing numbers: the fewest digits, from 1 to 9 for a float and 17 for a double, that read back
 * as the same value, and of those the nearest to it.
 *
 * Floats go the way of R. Giulietti, "The Schubfach way to render doubles" (2020): a float and the
 * two borders of what rounds to it, scaled by one power of ten into integers, tell which of four
 * candidates it is; no loop over lengths, no second reading. Doubles are rare here: the C library
 * prints and reads. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

/* digits[0..n) with the decimal point behind digits[0], times 10^exponent, as JSON text: plain from
 * 1e-5 up to 1e16, with an exponent elsewhere. */
static size_t
lay_out(char *out, bool negative, const char *digits, int n, int exponent)
{
    char *p = out;
    while (n > 1 && digits[n - 1] == '0') {
        n--;
    }
    if (negative) {
        *p++ = '-';
    }
    if (exponent >= 0 && exponent < 16) {
        for (int i = 0; i <= exponent || i < n; i++) {
            if (i == exponent + 1) {
                *p++ = '.';
            }
            *p++ = i < n ? digits[i] : '0';
        }
        if (n <= exponent + 1) {
            *p++ = '.';
            *p++ = '0';
        }
    } else if (exponent < 0 && exponent >= -5) {
        *p++ = '0';
        *p++ = '.';
        for (int i = -1; i > exponent; i--) {
            *p++ = '0';
        }
        memcpy(p, digits, (size_t)n);
        p += n;
    } else {
        *p++ = digits[0];
        if (n > 1) {
            *p++ = '.';
            memcpy(p, digits + 1, (size_t)n - 1);
            p += n - 1;
        }
        p += sprintf(p, "e%d", exponent);
    }
    *p = '\0';
    return (size_t)(p - out);
}

static size_t
put_special(char *out, double v, bool *done)
{
    *done = true;
    if (!isfinite(v)) {
        memcpy(out, "null", 5);
        return 4;
    }
    if (v == 0) {
        const char *zero = signbit(v) ? "-0.0" : "0.0";
        memcpy(out, zero, strlen(zero) + 1);
        return strlen(zero);
    }
    *done = false;
    return 0;
}

/* Splits printf's d.ddde±xx into digits and exponent. */
static int
split(const char *text, char digits[20], int *n_out)
{
    const char *p = text + (*text == '-');
    int n = 0;
    digits[n++] = *p++;
    for (; *p != 'e'; p++) {
        if (*p != '.') {
            digits[n++] = *p;
        }
    }
    *n_out = n;
    return atoi(p + 1);
}

size_t
ort_num_put_f64(char out[ORT_NUM_TEXT_BYTES], double v)
{
    bool done;
    const size_t special = put_special(out, v, &done);
    if (done) {
        return special;
    }
    char text[40], digits[20];
    int n;
    for (int precision = 0; precision <= 16; precision++) {
        /* Most numbers that people write are short, the rest need 15 to 17: skip the middle. */
        if (precision == 7) {
            precision = 14;
        }
        snprintf(text, sizeof text, "%.*e", precision, v);
        if (strtod(text, NULL) == v) {
            break;
        }
    }
    const int exponent = split(text, digits, &n);
    return lay_out(out, v < 0, digits, n, exponent);
}

/* For k = -31 .. 45: 10^k in 64 bits, cut and one added: floor(10^k * 2^(63 - floor(log2 10^k)))
 * + 1. */
#define POW10_FIRST (-31)
static const uint64_t pow10_64[] = {
    0x81ceb32c4b43fcf5, 0xa2425ff75e14fc32, 0xcad2f7f5359a3b3f, 0xfd87b5f28300ca0e,
    0x9e74d1b791e07e49, 0xc612062576589ddb, 0xf79687aed3eec552, 0x9abe14cd44753b53,
    0xc16d9a0095928a28, 0xf1c90080baf72cb2, 0x971da05074da7bef, 0xbce5086492111aeb,
    0xec1e4a7db69561a6, 0x9392ee8e921d5d08, 0xb877aa3236a4b44a, 0xe69594bec44de15c,
    0x901d7cf73ab0acda, 0xb424dc35095cd810, 0xe12e13424bb40e14, 0x8cbccc096f5088cc,
    0xafebff0bcb24aaff, 0xdbe6fecebdedd5bf, 0x89705f4136b4a598, 0xabcc77118461cefd,
    0xd6bf94d5e57a42bd, 0x8637bd05af6c69b6, 0xa7c5ac471b478424, 0xd1b71758e219652c,
    0x83126e978d4fdf3c, 0xa3d70a3d70a3d70b, 0xcccccccccccccccd, 0x8000000000000001,
    0xa000000000000001, 0xc800000000000001, 0xfa00000000000001, 0x9c40000000000001,
    0xc350000000000001, 0xf424000000000001, 0x9896800000000001, 0xbebc200000000001,
    0xee6b280000000001, 0x9502f90000000001, 0xba43b74000000001, 0xe8d4a51000000001,
    0x9184e72a00000001, 0xb5e620f480000001, 0xe35fa931a0000001, 0x8e1bc9bf04000001,
    0xb1a2bc2ec5000001, 0xde0b6b3a76400001, 0x8ac7230489e80001, 0xad78ebc5ac620001,
    0xd8d726b7177a8001, 0x878678326eac9001, 0xa968163f0a57b401, 0xd3c21bcecceda101,
    0x84595161401484a1, 0xa56fa5b99019a5c9, 0xcecb8f27f4200f3b, 0x813f3978f8940985,
    0xa18f07d736b90be6, 0xc9f2c9cd04674edf, 0xfc6f7c4045812297, 0x9dc5ada82b70b59e,
    0xc5371912364ce306, 0xf684df56c3e01bc7, 0x9a130b963a6c115d, 0xc097ce7bc90715b4,
    0xf0bdc21abb48db21, 0x96769950b50d88f5, 0xbc143fa4e250eb32, 0xeb194f8e1ae525fe,
    0x92efd1b8d0cf37bf, 0xb7abc627050305ae, 0xe596b7b0c643c71a, 0x8f7e32ce7bea5c70,
    0xb35dbf821ae4f38c,
};

/* value * 2^shift * 10^k / 2^64 and more, as that table has it; the last bit says whether anything
 * was cut off, so that comparisons with it are exact. */
static uint32_t
scale_to_odd(uint64_t power, uint32_t value)
{
    /* A product of 96 bits in two halves. */
    const uint64_t low = (power & UINT32_MAX) * value;
    const uint64_t rest = (power >> 32) * value + (low >> 32);
    const uint32_t high = (uint32_t)(rest >> 32), middle = (uint32_t)rest;

    return high | (middle > 1);
}

/* v / 2^bits, rounded down. */
static int
floor_shift(int v, unsigned bits)
{
    return v >= 0 ? v >> bits : -((-v + (1 << bits) - 1) >> bits);
}

typedef struct {
    uint32_t digits;
    int exponent; /* of ten */
} shortest;

/* Of a positive, finite float in its bits. */
static shortest
shortest_of(uint32_t bits)
{
    const uint32_t fraction = bits & 0x7fffffu, biased = bits >> 23;
    const uint32_t c = biased != 0 ? fraction | 0x800000u : fraction;
    const int q = (biased != 0 ? (int)biased : 1) - 150; /* the value is c * 2^q */

    if (q <= 0 && q > -24 && (c & ((1u << -q) - 1)) == 0) {
        return (shortest){c >> -q, 0}; /* an integer */
    }
    /* Below a power of two the floats stand twice as close. An even c owns its borders. */
    const bool closer = fraction == 0 && biased > 1;
    const uint32_t odd = c & 1;
    const int k =
        floor_shift(q * 1262611 - (closer ? 524031 : 0), 22); /* floor(log10 of the gap) */
    const int shift = q + floor_shift(-k * 1741647, 19) + 1;
    const uint64_t power = pow10_64[-k - POW10_FIRST];
    const uint32_t value = scale_to_odd(power, (4 * c) << shift);
    const uint32_t lower = scale_to_odd(power, (4 * c - 2 + closer) << shift) + odd;
    const uint32_t upper = scale_to_odd(power, (4 * c + 2) << shift) - odd;
    const uint32_t s = value / 4;

    if (s >= 10) { /* one digit less, when one of the two neighbours lies within */
        const uint32_t t = s / 10;
        const bool below = lower <= 40 * t, above = 40 * t + 40 <= upper;

        if (below != above) {
            return (shortest){t + above, k + 1};
        }
    }
    const bool below = lower <= 4 * s, above = 4 * s + 4 <= upper;
    if (below != above) {
        return (shortest){s + above, k};
    }
    const uint32_t middle = 4 * s + 2;
    return (shortest){s + (value > middle || (value == middle && (s & 1) != 0)), k};
}

size_t
ort_num_put_f32(char out[ORT_NUM_TEXT_BYTES], float v)
{
    bool done;
    const size_t special = put_special(out, (double)v, &done);
    uint32_t bits;

    if (done) {
        return special;
    }
    memcpy(&bits, &v, sizeof bits);
    const shortest d = shortest_of(bits & 0x7fffffffu);
    char digits[10] = {0};
    int n = 0;
    for (uint32_t rest = d.digits; rest != 0; rest /= 10) {
        n++;
    }
    assert(n > 0); /* only zero has none */
    uint32_t rest = d.digits;
    for (int i = n; i-- > 0; rest /= 10) {
        digits[i] = (char)('0' + rest % 10);
    }
    return lay_out(out, v < 0, digits, n, d.exponent + n - 1);
}
