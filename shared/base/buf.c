/* The growable byte buffer. */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

void
ort_buf_fini(ort_buf *buf)
{
    free(buf->data);
    *buf = (ort_buf){0};
}

char *
ort_buf_reserve(ort_buf *buf, size_t n)
{
    size_t need;
    if (buf->failed || !ort_size_add(buf->len, n, &need)) {
        buf->failed = true;
        return NULL;
    }
    if (need > buf->cap || buf->data == NULL) {
        size_t cap = buf->cap < 64 ? 64 : buf->cap;
        while (cap < need) {
            cap = cap > SIZE_MAX / 2 ? need : cap * 2;
        }
        char *grown = realloc(buf->data, cap);
        if (grown == NULL) {
            buf->failed = true;
            return NULL;
        }
        buf->data = grown;
        buf->cap = cap;
    }
    return buf->data + buf->len;
}

void
ort_buf_put(ort_buf *buf, const void *bytes, size_t n)
{
    char *at = ort_buf_reserve(buf, n);
    if (at != NULL && n > 0) {
        memcpy(at, bytes, n);
        buf->len += n;
    }
}

void
ort_buf_puts(ort_buf *buf, const char *text)
{
    ort_buf_put(buf, text, strlen(text));
}

void
ort_buf_putc(ort_buf *buf, char c)
{
    ort_buf_put(buf, &c, 1);
}

void
ort_buf_printf(ort_buf *buf, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    char *at = ort_buf_reserve(buf, 128);
    if (at != NULL) {
        const size_t room = buf->cap - buf->len;
        const int n = vsnprintf(at, room, fmt, args);
        if (n < 0) {
            buf->failed = true;
        } else if ((size_t)n < room) {
            buf->len += (size_t)n;
        } else if ((at = ort_buf_reserve(buf, (size_t)n + 1)) != NULL) {
            vsnprintf(at, (size_t)n + 1, fmt, again);
            buf->len += (size_t)n;
        }
    }
    va_end(again);
    va_end(args);
}

const char *
ort_buf_peek_cstr(ort_buf *buf)
{
    char *at = ort_buf_reserve(buf, 1);
    if (at == NULL) {
        return NULL;
    }
    *at = '\0';
    return buf->data;
}

void
ort_buf_put_u8(ort_buf *buf, uint8_t v)
{
    ort_buf_put(buf, &v, 1);
}

void
ort_buf_put_u16(ort_buf *buf, uint16_t v)
{
    unsigned char b[2];
    ort_put_u16(b, v);
    ort_buf_put(buf, b, sizeof b);
}

void
ort_buf_put_u32(ort_buf *buf, uint32_t v)
{
    unsigned char b[4];
    ort_put_u32(b, v);
    ort_buf_put(buf, b, sizeof b);
}

void
ort_buf_put_u64(ort_buf *buf, uint64_t v)
{
    unsigned char b[8];
    ort_put_u64(b, v);
    ort_buf_put(buf, b, sizeof b);
}
