/* JSON text. */
#include "base/json_write.h"

#include <string.h>

#include "base/num.h"

static void
before_value(ort_jw *w)
{
    if (w->comma) {
        ort_buf_putc(w->buf, ',');
    }
    w->comma = true;
}

static void
open_with(ort_jw *w, char c)
{
    before_value(w);
    ort_buf_putc(w->buf, c);
    w->comma = false;
}

static void
close_with(ort_jw *w, char c)
{
    ort_buf_putc(w->buf, c);
    w->comma = true;
}

void
ort_jw_object(ort_jw *w)
{
    open_with(w, '{');
}

void
ort_jw_object_end(ort_jw *w)
{
    close_with(w, '}');
}

void
ort_jw_array(ort_jw *w)
{
    open_with(w, '[');
}

void
ort_jw_array_end(ort_jw *w)
{
    close_with(w, ']');
}

static void
put_string(ort_buf *buf, const char *text, size_t len)
{
    ort_buf_putc(buf, '"');
    size_t plain = 0; /* start of the run that needs no escape */
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        ort_buf_put(buf, text + plain, i - plain);
        plain = i + 1;
        static const char from[] = "\b\f\n\r\t\"\\", to[] = "bfnrt\"\\";
        const char *found = c != '\0' ? strchr(from, c) : NULL;
        if (found != NULL) {
            const char two[2] = {'\\', to[found - from]};
            ort_buf_put(buf, two, 2);
        } else {
            ort_buf_printf(buf, "\\u%04x", c);
        }
    }
    ort_buf_put(buf, text + plain, len - plain);
    ort_buf_putc(buf, '"');
}

void
ort_jw_key_n(ort_jw *w, const char *key, size_t len)
{
    before_value(w);
    put_string(w->buf, key, len);
    ort_buf_putc(w->buf, ':');
    w->comma = false;
}

void
ort_jw_key(ort_jw *w, const char *key)
{
    ort_jw_key_n(w, key, strlen(key));
}

void
ort_jw_str_n(ort_jw *w, const char *text, size_t len)
{
    before_value(w);
    put_string(w->buf, text, len);
}

void
ort_jw_str(ort_jw *w, const char *text)
{
    ort_jw_str_n(w, text, strlen(text));
}

void
ort_jw_u64(ort_jw *w, uint64_t v)
{
    char digits[20];
    size_t at = sizeof digits;

    before_value(w);
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v != 0);
    ort_buf_put(w->buf, digits + at, sizeof digits - at);
}

void
ort_jw_i64(ort_jw *w, int64_t v)
{
    before_value(w);
    ort_buf_printf(w->buf, "%lld", (long long)v);
}

void
ort_jw_f32(ort_jw *w, float v)
{
    before_value(w);
    char *at = ort_buf_reserve(w->buf, ORT_NUM_TEXT_BYTES);
    if (at != NULL) {
        ort_buf_commit(w->buf, ort_num_put_f32(at, v));
    }
}

void
ort_jw_f64(ort_jw *w, double v)
{
    before_value(w);
    char *at = ort_buf_reserve(w->buf, ORT_NUM_TEXT_BYTES);
    if (at != NULL) {
        ort_buf_commit(w->buf, ort_num_put_f64(at, v));
    }
}

void
ort_jw_bool(ort_jw *w, bool v)
{
    before_value(w);
    ort_buf_puts(w->buf, v ? "true" : "false");
}

void
ort_jw_null(ort_jw *w)
{
    before_value(w);
    ort_buf_puts(w->buf, "null");
}

void
ort_jw_floats(ort_jw *w, const float *v, size_t n)
{
    ort_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        ort_jw_f32(w, v[i]);
    }
    ort_jw_array_end(w);
}

void
ort_jw_raw(ort_jw *w, const char *json, size_t len)
{
    before_value(w);
    ort_buf_put(w->buf, json, len);
}

/* Whether a later member of the same object has this one's key. */
static bool
shadowed(const ort_json_iter *it)
{
    size_t len, other_len;
    const char *key = ort_json_str(it->key, &len);
    for (ort_json_iter later = *it; ort_json_step(&later);) {
        const char *other = ort_json_str(later.key, &other_len);
        if (key != NULL && other != NULL && len == other_len && memcmp(key, other, len) == 0) {
            return true;
        }
    }
    return false;
}

/* Checking each key against all later ones is quadratic: past this many members a repeated key is
 * kept as it came (reading takes the last one either way). */
#define SHADOW_CHECK_MAX 64

void
ort_jw_value(ort_jw *w, ort_json v)
{
    const ort_json_type type = ort_json_type_of(v);
    size_t len;
    if (type == ORT_JSON_ARRAY) {
        ort_jw_array(w);
        for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
            ort_jw_value(w, it.value);
        }
        ort_jw_array_end(w);
    } else if (type == ORT_JSON_OBJECT) {
        const bool check = ort_json_count(v) <= SHADOW_CHECK_MAX;
        ort_jw_object(w);
        for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
            if (check && shadowed(&it)) {
                continue;
            }
            const char *key = ort_json_str(it.key, &len);
            if (key == NULL) {
                w->buf->failed = true;
                return;
            }
            ort_jw_key_n(w, key, len);
            ort_jw_value(w, it.value);
        }
        ort_jw_object_end(w);
    } else if (type == ORT_JSON_NONE) {
        ort_jw_null(w);
    } else {
        const char *raw = ort_json_raw(v, &len);
        ort_jw_raw(w, raw, len);
    }
}
