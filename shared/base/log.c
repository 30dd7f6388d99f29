/* JSON log lines. */
#include "base/log.h"

#include <ctype.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define LINE_BYTES 2048

static _Atomic int least = ORT_LOG_INFO_;

static const char *const names[] = {"debug", "info", "warn", "error"};

void
ort_log_set_level(ort_log_level level)
{
    atomic_store_explicit(&least, (int)level, memory_order_relaxed);
}

bool
ort_log_enabled(ort_log_level level)
{
    return (int)level >= atomic_load_explicit(&least, memory_order_relaxed);
}

ort_err
ort_log_level_parse(const char *text, ort_log_level *out)
{
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (ort_log_level)i;
            return ORT_OK;
        }
    }
    return ORT_EINVAL;
}

typedef struct {
    char text[LINE_BYTES];
    size_t len;
} line;

/* Room is always kept for the closing quote, brace and newline. */
static void
put_raw(line *l, const char *s, size_t n)
{
    if (l->len + n <= LINE_BYTES - 4) {
        memcpy(l->text + l->len, s, n);
        l->len += n;
    }
}

static void
put_escaped(line *l, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\') {
            const char two[2] = {'\\', (char)c};
            put_raw(l, two, 2);
        } else if (c < 0x20 || c >= 0x7f) {
            char six[8];
            snprintf(six, sizeof six, "\\u%04x", c);
            put_raw(l, six, 6);
        } else {
            put_raw(l, s + i, 1);
        }
    }
}

static void
put_member(line *l, const char *key, size_t key_len, const char *value, size_t value_len)
{
    put_raw(l, ",\"", 2);
    put_escaped(l, key, key_len);
    put_raw(l, "\":\"", 3);
    put_escaped(l, value, value_len);
    put_raw(l, "\"", 1);
}

/* The length of "word" when s starts with word=, else 0. */
static size_t
key_len(const char *s)
{
    size_t n = 0;
    while (islower((unsigned char)s[n]) || isdigit((unsigned char)s[n]) || s[n] == '_') {
        n++;
    }
    return s[n] == '=' ? n : 0;
}

static void
put_pairs(line *l, const char *s)
{
    while (*s != '\0') {
        const size_t k = key_len(s);
        const char *value = k > 0 ? s + k + 1 : s;
        const char *end = value;
        while (*end != '\0' && !(*end == ' ' && key_len(end + 1) > 0)) {
            end++;
        }
        if (k > 0) {
            put_member(l, s, k, value, (size_t)(end - value));
        } else {
            put_member(l, "msg", 3, value, (size_t)(end - value));
        }
        s = *end == ' ' ? end + 1 : end;
    }
}

void
ort_log_write(const ort_log *log, ort_log_level level, const char *event, const char *fmt, ...)
{
    char body[LINE_BYTES], time[ORT_RFC3339_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(body, sizeof body, fmt, args);
    va_end(args);

    line l = {.len = 0};
    ort_rfc3339_format(ort_wall_ms(), time);
    put_raw(&l, "{\"time\":\"", 9);
    put_raw(&l, time, sizeof time - 1);
    put_raw(&l, "\"", 1);
    put_member(&l, "level", 5, names[level], strlen(names[level]));
    put_member(&l, "module", 6, log->module, strlen(log->module));
    put_member(&l, "event", 5, event, strlen(event));
    put_pairs(&l, body);
    memcpy(l.text + l.len, "}\n", 2);
    /* A line that cannot be written has nowhere to be reported. */
    const ssize_t ignored = write(STDERR_FILENO, l.text, l.len + 2);
    (void)ignored;
}
