/* Numbers.
 *
 * Reading: up to 19 significant digits are gathered in 64 bits and scaled by one power of ten that
 * a double holds exactly (10^0 .. 10^22, Clinger 1990). For a double that is the answer when the
 * digits fit 53 bits. For a float the double is off by less than 2 of its own last places, so
 * rounding it to a float is right unless it lies within a few places of the middle between two
 * floats; there, and everywhere else, the C library decides.
 *
 * Writing: the fewest digits, from 1 to 9 for a float and 17 for a double, that read back as the
 * same value. The candidates for a float are made and checked in double arithmetic. */
#include "base/num.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* The slow, sure way for a float: the C library prints and reads. */
static size_t
put_f32_slowly(char *out, float v)
{
    char text[40], digits[20];
    int n;
    for (int precision = 0; precision <= 8; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, (double)v);
        if (strtof(text, NULL) == v) {
            break;
        }
    }
    const int exponent = split(text, digits, &n);
    return lay_out(out, v < 0, digits, n, exponent);
}

size_t
ort_num_put_f32(char out[ORT_NUM_TEXT_BYTES], float v)
{
    bool done;
    const size_t special = put_special(out, (double)v, &done);
    if (done) {
        return special;
    }
    const double a = fabs((double)v);
    if (a < 1e-12 || a > 1e13) {
        return put_f32_slowly(out, v);
    }
    int exponent = (int)floor(log10(a)); /* may be one off next to a power of ten: checked below */
    for (int n = 1; n <= 9; n++) {
        const int shift = n - 1 - exponent; /* a * 10^shift has n digits before its point */
        const double scaled = shift >= 0 ? a * pow10_exact[shift] : a / pow10_exact[-shift];
        const uint64_t w = (uint64_t)(scaled + 0.5);
        const double back = scale(w, -shift);
        if ((float)back != (float)a || !rounds_surely(back)) {
            continue;
        }
        char digits[24];
        const int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)w);
        return lay_out(out, v < 0, digits, len, exponent + len - n);
    }
    return put_f32_slowly(out, v);
}
