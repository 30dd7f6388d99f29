/* Reading numbers: up to 19 significant digits are gathered in 64 bits and scaled by one power of
 * ten that a double holds exactly (10^0 .. 10^22, Clinger 1990). For a double that is the answer
 * when the digits fit 53 bits. For a float the double is off by less than 2 of its own last places,
 * so rounding it to a float is right unless it lies within a few places of the middle between two
 * floats; there, and everywhere else, the C library decides.
 *
 * Arrays of vectors are read by ort_num_take_f32(), which checks and converts in one pass, eight
 * digits at a time in one register; what is long or odd falls back on the two functions above.
 * Where each number begins hangs on where the one before ended, and a processor can do nothing
 * meanwhile: ort_num_take_f32s() looks for the commas of 64 bytes first, and then reads the numbers
 * between them, none of which waits for another. */
#include "base/num.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __x86_64__
#include <smmintrin.h>
#define WITH_SSE41 __attribute__((target("sse4.1"))) /* asked for before it is called */
#endif

static const double pow10_exact[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                     1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                     1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

const char *
ort_num_scan(const char *text, const char *end, bool *integer_out)
{
    const char *p = text;
    *integer_out = true;
    if (p < end && *p == '-') {
        p++;
    }
    if (p >= end || !is_digit(*p)) {
        return NULL;
    }
    if (*p == '0') {
        p++;
    } else {
        while (p < end && is_digit(*p)) {
            p++;
        }
    }
    if (p < end && *p == '.') {
        *integer_out = false;
        p++;
        if (p >= end || !is_digit(*p)) {
            return NULL;
        }
        while (p < end && is_digit(*p)) {
            p++;
        }
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        *integer_out = false;
        p++;
        if (p < end && (*p == '+' || *p == '-')) {
            p++;
        }
        if (p >= end || !is_digit(*p)) {
            return NULL;
        }
        while (p < end && is_digit(*p)) {
            p++;
        }
    }
    return p;
}

typedef struct {
    uint64_t digits;
    int exponent; /* of ten */
    bool negative;
    bool exact; /* all significant digits are in `digits` */
} decimal;

static decimal
gather(const char *p, const char *end)
{
    decimal d = {.exact = true};
    int room = 19; /* digits that surely fit 64 bits */
    if (*p == '-') {
        d.negative = true;
        p++;
    }
    bool fraction = false;
    for (; p < end; p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        if (!is_digit(*p)) {
            break;
        }
        if (room > 0) {
            d.digits = d.digits * 10 + (uint64_t)(*p - '0');
            room -= d.digits != 0; /* leading zeros take no room */
            d.exponent -= fraction;
        } else {
            d.exact = d.exact && *p == '0';
            d.exponent += !fraction;
        }
    }
    if (p < end) { /* e or E */
        p++;
        const bool minus = *p == '-';
        if (*p == '-' || *p == '+') {
            p++;
        }
        int e = 0;
        for (; p < end; p++) {
            if (e < 100000) {
                e = e * 10 + (*p - '0');
            }
        }
        d.exponent += minus ? -e : e;
    }
    return d;
}

/* The C library's word, on a copy that a NUL ends. */
static ort_err
by_library(const char *text, size_t len, double *f64_out, float *f32_out)
{
    char small[128], *copy = small;
    if (len >= sizeof small && (copy = malloc(len + 1)) == NULL) {
        return ORT_ENOMEM;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    bool finite;
    if (f32_out != NULL) {
        const float v = strtof(copy, NULL);
        finite = isfinite(v);
        *f32_out = finite ? v : *f32_out;
    } else {
        const double v = strtod(copy, NULL);
        finite = isfinite(v);
        *f64_out = finite ? v : *f64_out;
    }
    if (copy != small) {
        free(copy);
    }
    return finite ? ORT_OK : ORT_EINVAL;
}

static double
scale(uint64_t digits, int exponent)
{
    return exponent < 0 ? (double)digits / pow10_exact[-exponent]
                        : (double)digits * pow10_exact[exponent];
}

/* Whether rounding d, which is off by at most 3 last places, to a float is certain. */
static bool
rounds_surely(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    const uint64_t low = bits & 0x1fffffffu; /* what a float's 23 bits drop */
    return d >= 1.2e-38 && d <= 3.4e38 && (low < 0x10000000u - 4 || low > 0x10000000u + 4);
}

ort_err
ort_num_f32(const char *text, size_t len, float *out)
{
    const decimal d = gather(text, text + len);
    if (d.digits == 0 && d.exact) {
        *out = d.negative ? -0.0f : 0.0f;
        return ORT_OK;
    }
    if (d.exact && d.exponent >= -22 && d.exponent <= 22) {
        const double v = scale(d.digits, d.exponent);
        if (rounds_surely(v)) {
            *out = (float)(d.negative ? -v : v);
            return ORT_OK;
        }
    }
    return by_library(text, len, NULL, out);
}

/* Eight bytes as one number, the first in the lowest place. */
static uint64_t
load8(const char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

/* The value of eight digits, each in a byte of its own as 0..9, the first in the lowest. Pairs,
 * then fours, then eight: three multiplications (D. Lemire, "Number parsing at a gigabyte per
 * second", arXiv:2101.11408). */
static uint64_t
eight_digits(uint64_t v)
{
    v = v * 10 + (v >> 8);
    return ((v & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064) +
            ((v >> 16) & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x0000271000000001)) >>
           32;
}

/* Digits at p, at most eight of them, into *value behind those that are there; returns how many. At
 * least eight bytes can be read. */
static unsigned
take_digits(const char *p, uint64_t *value)
{
    static const uint32_t pow10[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    const uint64_t v = load8(p) ^ UINT64_C(0x3030303030303030);
    const uint64_t others = ((v + UINT64_C(0x7676767676767676)) | v) & UINT64_C(0x8080808080808080);
    const unsigned n = others != 0 ? (unsigned)__builtin_ctzll(others) / 8 : 8;

    /* What is no digit is moved out, zeros stand before the others. In two steps: 64 is too far. */
    *value = *value * pow10[n] + eight_digits(v << (4 * (8 - n)) << (4 * (8 - n)));
    return n;
}

/* Half of all components are negative: no branch that could be guessed wrong. */
static float
with_sign(float v, bool negative)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof bits);
    bits |= (uint32_t)negative << 31;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* The general way, for what the fast one does not take on. */
static const char *
take_slowly(const char *text, const char *end, float *out, bool *finite)
{
    bool integer;
    const char *stop = ort_num_scan(text, end, &integer);

    if (stop != NULL && ort_num_f32(text, (size_t)(stop - text), out) != ORT_OK) {
        *out = 0;
        *finite = false;
    }
    return stop;
}

const char *
ort_num_take_f32(const char *text, const char *end, float *out, bool *finite)
{
    const char *p = text;
    uint64_t digits = 0;
    unsigned n = 1, fraction = 0, count;

    if (end - p < 40) { /* one sign, seven digits, a point, three eights */
        return take_slowly(text, end, out, finite);
    }
    const bool negative = *p == '-';
    p += negative;
    if (is_digit(p[0]) && p[1] == '.') { /* most are so: where the rest begins is known at once */
        digits = (uint64_t)(p[0] - '0');
    } else if ((n = take_digits(p, &digits)) == 0 || n == 8 || (n > 1 && *p == '0')) {
        return take_slowly(text, end, out, finite);
    }
    count = n - (*p == '0');
    p += n;
    if (*p == '.') {
        p++;
        do {
            n = take_digits(p, &digits);
            p += n;
            fraction += n;
        } while (n == 8 && fraction < 24);
        if (fraction == 0 || fraction > 19 || count + fraction > 19) {
            return take_slowly(text, end, out, finite);
        }
    }
    if (*p == 'e' || *p == 'E' || is_digit(*p)) {
        return take_slowly(text, end, out, finite);
    }
    const double v = (double)digits / pow10_exact[fraction];
    if (digits != 0 && !rounds_surely(v)) {
        return take_slowly(text, end, out, finite);
    }
    *out = with_sign((float)v, negative);
    return p;
}

#ifdef __x86_64__
/* A bit for each comma of 64 bytes. */
WITH_SSE41 static inline uint64_t
commas_in(const char *block)
{
    const __m128i comma = _mm_set1_epi8(',');
    uint64_t bits = 0;

    for (unsigned i = 0; i < 4; i++) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(block + (size_t)16 * i));
        bits |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, comma)) << (16 * i);
    }
    return bits;
}

/* The value of 16 digits, each in a byte of its own as 0..9: pairs, fours, eights. */
WITH_SSE41 static inline uint64_t
sixteen_digits(__m128i v)
{
    const __m128i tens = _mm_set1_epi16(0x010a), hundreds = _mm_set1_epi32(0x00010064);
    const __m128i myriads = _mm_set1_epi32(0x00012710);
    const __m128i fours = _mm_madd_epi16(_mm_maddubs_epi16(v, tens), hundreds);
    const __m128i eights = _mm_madd_epi16(_mm_packus_epi32(fours, fours), myriads);
    const uint64_t both = (uint64_t)_mm_cvtsi128_si64(eights);

    return (both & UINT32_MAX) * 100000000u + (both >> 32);
}

/* One digit or two before the last sixteen: doubles that were floats are written so. */
static inline bool
take_lead(const char *at, size_t count, uint64_t *digits)
{
    const unsigned a = (unsigned char)at[0] - (unsigned)'0';
    const unsigned b = count == 2 ? (unsigned char)at[1] - (unsigned)'0' : 0;

    *digits += (count == 2 ? a * 10 + b : a) * UINT64_C(10000000000000000);
    return a <= 9 && b <= 9;
}

/* "d.ddd", "ddd", each with a sign or without, of up to 16 digits in all, or 18 behind "0.": [from,
 * to). 16 bytes before `to` can be read: the digits stand at their end, whatever their number, and
 * what stands before them is masked out. false: another form, or one that rounds unsurely. */
WITH_SSE41 static inline bool
take_simple(const char *from, const char *to, float *out)
{
    static const uint64_t pow10[] = {1,
                                     10,
                                     100,
                                     1000,
                                     10000,
                                     100000,
                                     1000000,
                                     10000000,
                                     100000000,
                                     1000000000,
                                     10000000000,
                                     100000000000,
                                     1000000000000,
                                     10000000000000,
                                     100000000000000,
                                     1000000000000000,
                                     10000000000000000};
    static const unsigned char window[32] = {0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
                                             0,   0,   0,   0,   0,   255, 255, 255, 255, 255, 255,
                                             255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    const bool negative = *from == '-';
    const char *body = from + negative;
    const size_t len = (size_t)(to - body); /* of nothing, or less: very long */
    const bool point = body[1] == '.';
    const size_t count = len - (point ? 2 : 0);
    const size_t tail = count < 16 ? count : 16;
    const unsigned first = (unsigned char)body[0] - (unsigned)'0';

    if (count - 1 >= 18 || first > 9 || (!point && first == 0 && len > 1)) {
        return false;
    }
    const __m128i mask = _mm_loadu_si128((const __m128i *)(const void *)(window + tail));
    const __m128i text = _mm_loadu_si128((const __m128i *)(const void *)(to - 16));
    const __m128i v = _mm_and_si128(_mm_sub_epi8(text, _mm_set1_epi8('0')), mask);
    const __m128i over = _mm_subs_epu8(v, _mm_set1_epi8(9));
    if (!_mm_testz_si128(over, over)) {
        return false;
    }
    uint64_t digits = sixteen_digits(v);
    if (count > 16) {
        if (!point || first > 0 || !take_lead(body + 2, count - 16, &digits)) {
            return false;
        }
    }
    digits += point ? first * pow10[tail] : 0;
    const double d = (double)(int64_t)digits / pow10_exact[point ? count : 0];
    if (digits != 0 && !rounds_surely(d)) {
        return false;
    }
    *out = with_sign((float)d, negative);
    return true;
}

WITH_SSE41 static size_t
take_f32s(const char **text, const char *end, float *out, size_t room)
{
    const char *from = *text, *block = from;
    size_t n = 0;

    /* A number and its comma are two bytes at least. What stands behind a comma may be looked at.
     */
    for (; end - block > 64 && room - n >= 32; block += 64) {
        for (uint64_t commas = commas_in(block); commas != 0; commas &= commas - 1) {
            const char *to = block + __builtin_ctzll(commas);
            if (!take_simple(from + (*from == ' '), to, &out[n])) {
                *text = from;
                return n;
            }
            n++;
            from = to + 1;
        }
    }
    *text = from;
    return n;
}

size_t
ort_num_take_f32s(const char **text, const char *begin, const char *end, float *out, size_t room)
{
    return *text - begin >= 16 && __builtin_cpu_supports("sse4.1") ? take_f32s(text, end, out, room)
                                                                   : 0;
}
#else
size_t
ort_num_take_f32s(const char **text, const char *begin, const char *end, float *out, size_t room)
{
    (void)text;
    (void)begin;
    (void)end;
    (void)out;
    (void)room;
    return 0;
}
#endif

ort_err
ort_num_f64(const char *text, size_t len, double *out)
{
    const decimal d = gather(text, text + len);
    if (d.exact && d.digits <= 1ull << 53 && d.exponent >= -22 && d.exponent <= 22) {
        const double v = scale(d.digits, d.exponent);
        *out = d.negative ? -v : v;
        return ORT_OK;
    }
    return by_library(text, len, out, NULL);
}

ort_err
ort_num_u64(const char *text, size_t len, uint64_t *out)
{
    uint64_t v = 0;
    if (len == 0) {
        return ORT_EINVAL;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(text[i]) || __builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v)) {
            return ORT_EINVAL;
        }
    }
    *out = v;
    return ORT_OK;
}

ort_err
ort_num_i64(const char *text, size_t len, int64_t *out)
{
    uint64_t v;
    const bool negative = len > 0 && text[0] == '-';
    if (ort_num_u64(text + negative, len - negative, &v) != ORT_OK ||
        v > (uint64_t)INT64_MAX + negative) {
        return ORT_EINVAL;
    }
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return ORT_OK;
}
