/* shared/base/buf.h: a growable byte buffer whose failure is remembered, so that a writer checks
 * once at its end; and little-endian integers. */
#ifndef ORT_BUF_H
#define ORT_BUF_H
#include <stdint.h>
#include <string.h>

#include "base/err.h"

/* {0} is an empty buffer. After a failed growth `failed` stays set, and appends do nothing. */
typedef struct {
    char *data;
    size_t len;
    size_t cap;
    bool failed;
} ort_buf;

void ort_buf_fini(ort_buf *buf); /* frees; the buffer is empty and usable again */

/* Keeps the memory, forgets content and failure. */
static inline void
ort_buf_clear(ort_buf *buf)
{
    buf->len = 0;
    buf->failed = false;
}

/* Room for n more bytes; NULL when memory ran out. ort_buf_commit() after writing there. */
char *ort_buf_reserve(ort_buf *buf, size_t n);

static inline void
ort_buf_commit(ort_buf *buf, size_t n)
{
    buf->len += n;
}

void ort_buf_put(ort_buf *buf, const void *bytes, size_t n);
void ort_buf_puts(ort_buf *buf, const char *text);
void ort_buf_putc(ort_buf *buf, char c);
void ort_buf_printf(ort_buf *buf, const char *fmt, ...) ORT_PRINTF(2, 3);

/* The content as a C string: a NUL is kept behind it. NULL when the buffer has failed. */
const char *ort_buf_peek_cstr(ort_buf *buf);

/* ORT_ENOMEM when any append failed, else ORT_OK. */
static inline ort_err
ort_buf_check(const ort_buf *buf)
{
    return buf->failed ? ORT_ENOMEM : ORT_OK;
}

/* Integers, little-endian, any alignment. */
static inline void
ort_put_u16(void *p, uint16_t v)
{
    unsigned char *b = p;
    b[0] = (unsigned char)v;
    b[1] = (unsigned char)(v >> 8);
}

static inline void
ort_put_u32(void *p, uint32_t v)
{
    ort_put_u16(p, (uint16_t)v);
    ort_put_u16((unsigned char *)p + 2, (uint16_t)(v >> 16));
}

static inline void
ort_put_u64(void *p, uint64_t v)
{
    ort_put_u32(p, (uint32_t)v);
    ort_put_u32((unsigned char *)p + 4, (uint32_t)(v >> 32));
}

static inline uint16_t
ort_get_u16(const void *p)
{
    const unsigned char *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t
ort_get_u32(const void *p)
{
    return (uint32_t)ort_get_u16(p) | (uint32_t)ort_get_u16((const unsigned char *)p + 2) << 16;
}

static inline uint64_t
ort_get_u64(const void *p)
{
    return (uint64_t)ort_get_u32(p) | (uint64_t)ort_get_u32((const unsigned char *)p + 4) << 32;
}

void ort_buf_put_u8(ort_buf *buf, uint8_t v);
void ort_buf_put_u16(ort_buf *buf, uint16_t v);
void ort_buf_put_u32(ort_buf *buf, uint32_t v);
void ort_buf_put_u64(ort_buf *buf, uint64_t v);

/* A bounded reader over outside bytes: after the first read beyond the end `failed` is set, every
 * later read gives 0 or NULL, and one check at the end is enough. */
typedef struct {
    const unsigned char *at;
    const unsigned char *end;
    bool failed;
} ort_cursor;

static inline ort_cursor
ort_cursor_of(const void *bytes, size_t n)
{
    return (ort_cursor){.at = bytes, .end = (const unsigned char *)bytes + n};
}

static inline size_t
ort_cursor_left(const ort_cursor *c)
{
    return (size_t)(c->end - c->at);
}

/* n bytes, borrowed from what the cursor reads; NULL (and failed) when fewer are left. */
static inline const void *
ort_cursor_take(ort_cursor *c, size_t n)
{
    if (c->failed || n > ort_cursor_left(c)) {
        c->failed = true;
        return NULL;
    }
    const void *p = c->at;
    c->at += n;
    return p;
}

static inline uint8_t
ort_cursor_u8(ort_cursor *c)
{
    const unsigned char *p = ort_cursor_take(c, 1);
    return p != NULL ? *p : 0;
}

static inline uint16_t
ort_cursor_u16(ort_cursor *c)
{
    const void *p = ort_cursor_take(c, 2);
    return p != NULL ? ort_get_u16(p) : 0;
}

static inline uint32_t
ort_cursor_u32(ort_cursor *c)
{
    const void *p = ort_cursor_take(c, 4);
    return p != NULL ? ort_get_u32(p) : 0;
}

static inline uint64_t
ort_cursor_u64(ort_cursor *c)
{
    const void *p = ort_cursor_take(c, 8);
    return p != NULL ? ort_get_u64(p) : 0;
}
#endif /* ORT_BUF_H */
