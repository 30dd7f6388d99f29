/* Clocks and RFC 3339. Days are counted with the civil-calendar arithmetic of Howard Hinnant's
 * "chrono-compatible low-level date algorithms" (days_from_civil), proleptic Gregorian. */
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t
ort_mono_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t
ort_mono_ms(void)
{
    return ort_mono_ns() / 1000000u;
}

int64_t
ort_wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void
ort_rfc3339_format(int64_t wall_ms, char out[ORT_RFC3339_BYTES])
{
    const int64_t least = -62167219200000, most = 253402300799999; /* years 0000 and 9999 */
    wall_ms = wall_ms < least ? least : wall_ms > most ? most : wall_ms;
    int64_t ms = wall_ms % 1000;
    if (ms < 0) {
        ms += 1000;
    }
    const time_t s = (time_t)((wall_ms - ms) / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    char text[64];
    snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)ms);
    memcpy(out, text, ORT_RFC3339_BYTES - 1);
    out[ORT_RFC3339_BYTES - 1] = '\0';
}

/* Reads exactly n digits at *p, which moves behind them. */
static bool
digits(const char **p, const char *end, int n, int *out)
{
    int v = 0;
    for (int i = 0; i < n; i++, (*p)++) {
        if (*p >= end || **p < '0' || **p > '9') {
            return false;
        }
        v = v * 10 + (**p - '0');
    }
    *out = v;
    return true;
}

static bool
literal(const char **p, const char *end, char c)
{
    if (*p >= end || **p != c) {
        return false;
    }
    (*p)++;
    return true;
}

static int
month_days(int y, int m)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return m == 2 && leap ? 29 : days[m - 1];
}

static int64_t
days_from_civil(int y, int m, int d)
{
    y -= m <= 2;
    const int era = (y >= 0 ? y : y - 399) / 400;
    const int yoe = y - era * 400;
    const int doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    const int doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return (int64_t)era * 146097 + doe - 719468;
}

/* "Z", "z" or ±hh[:]mm, seconds east of UTC. */
static bool
zone(const char **p, const char *end, int *seconds_out)
{
    if (literal(p, end, 'Z') || literal(p, end, 'z')) {
        *seconds_out = 0;
        return true;
    }
    int sign = 1, h = 0, m = 0;
    if (literal(p, end, '-')) {
        sign = -1;
    } else if (!literal(p, end, '+')) {
        return false;
    }
    if (!digits(p, end, 2, &h)) {
        return false;
    }
    literal(p, end, ':');
    if (!digits(p, end, 2, &m) || h > 23 || m > 59) {
        return false;
    }
    *seconds_out = sign * (h * 3600 + m * 60);
    return true;
}

/* hh:mm[:ss[.fraction]], as microseconds of the day. */
static bool
time_of_day(const char **p, const char *end, int64_t *micros_out)
{
    int h, mi, s = 0;
    int64_t micros = 0;
    if (!digits(p, end, 2, &h) || !literal(p, end, ':') || !digits(p, end, 2, &mi)) {
        return false;
    }
    if (literal(p, end, ':')) {
        if (!digits(p, end, 2, &s)) {
            return false;
        }
        if (literal(p, end, '.')) {
            int64_t unit = 100000;
            int n = 0;
            for (; *p < end && **p >= '0' && **p <= '9'; (*p)++, n++, unit /= 10) {
                micros += unit * (**p - '0');
            }
            if (n == 0) {
                return false;
            }
        }
    }
    if (h > 23 || mi > 59 || s > 60) {
        return false;
    }
    *micros_out = ((int64_t)h * 3600 + mi * 60 + s) * 1000000 + micros;
    return true;
}

ort_err
ort_rfc3339_parse(const char *text, size_t len, int64_t *micros_out)
{
    const char *p = text, *end = text + len;
    int y, mo, d, east = 0;
    int64_t in_day = 0;
    if (!digits(&p, end, 4, &y) || !literal(&p, end, '-') || !digits(&p, end, 2, &mo) ||
        !literal(&p, end, '-') || !digits(&p, end, 2, &d) || mo < 1 || mo > 12 || d < 1 ||
        d > month_days(y, mo)) {
        return ORT_EFORMAT;
    }
    if (p < end) {
        if (!literal(&p, end, 'T') && !literal(&p, end, 't') && !literal(&p, end, ' ')) {
            return ORT_EFORMAT;
        }
        if (!time_of_day(&p, end, &in_day) || (p < end && !zone(&p, end, &east)) || p != end) {
            return ORT_EFORMAT;
        }
    }
    *micros_out = days_from_civil(y, mo, d) * 86400000000 + in_day - (int64_t)east * 1000000;
    return ORT_OK;
}
