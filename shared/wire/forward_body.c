/* Forwarded requests and their answers, in binary: a body may be megabytes of vectors, and base64
 * in JSON would cost both sides more than the search.
 *
 *   request   u8 hops, u32 timeout_ms, s16 method, s16 target, s16 request id, s16 remote,
 *             headers, u32 length and body
 *   reply     u16 status, headers, u32 length and body
 *   headers   u16 count, then count times: s16 name, s16 value
 *   s16       u16 length and that many bytes, no NUL among them
 *
 * What the peer says is checked as if a stranger had said it: these texts go into a response or
 * into the same handlers as a client's own. */
#include <stdlib.h>
#include <string.h>

#include "wire/messages.h"

static void
put_s16(ort_buf *out, const char *text, size_t max, ort_err *err)
{
    const size_t len = text != NULL ? strlen(text) : 0;
    if (len > max || len > UINT16_MAX) {
        *err = ORT_ETOOBIG;
        return;
    }
    ort_buf_put_u16(out, (uint16_t)len);
    ort_buf_put(out, text, len);
}

static void
put_headers(ort_buf *out, const ort_forward_header *headers, size_t count, ort_err *err)
{
    size_t bytes = 0;
    if (count > ORT_HEADERS_MAX) {
        *err = ORT_ETOOBIG;
        return;
    }
    ort_buf_put_u16(out, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        bytes += strlen(headers[i].name) + strlen(headers[i].value);
        put_s16(out, headers[i].name, ORT_FORWARD_HEADER_BYTES_MAX, err);
        put_s16(out, headers[i].value, ORT_FORWARD_HEADER_BYTES_MAX, err);
    }
    if (bytes > ORT_FORWARD_HEADER_BYTES_MAX) {
        *err = ORT_ETOOBIG;
    }
}

static ort_err
put_body(ort_buf *out, const char *body, size_t len, ort_err err)
{
    if (err != ORT_OK || len > ORT_WIRE_BYTES_MAX - ORT_FRAME_HEAD_BYTES ||
        out->len > ORT_WIRE_BYTES_MAX - ORT_FRAME_HEAD_BYTES - len) {
        return err != ORT_OK ? err : ORT_ETOOBIG;
    }
    ort_buf_put_u32(out, (uint32_t)len);
    ort_buf_put(out, body, len);
    return ort_buf_check(out);
}

ort_err
ort_forward_request_encode(const ort_forward_request *m, ort_buf *body)
{
    ort_err err = ORT_OK;
    ort_buf_put_u8(body, (uint8_t)m->hops);
    ort_buf_put_u32(body, m->timeout_ms);
    put_s16(body, m->method, 16, &err);
    put_s16(body, m->target, ORT_URI_BYTES_MAX, &err);
    put_s16(body, m->request_id, ORT_REQUEST_ID_BYTES_MAX, &err);
    put_s16(body, m->remote, ORT_MSG_TEXT_BYTES, &err);
    put_headers(body, m->headers, m->header_count, &err);
    return put_body(body, m->body, m->body_len, err);
}

ort_err
ort_forward_reply_encode(const ort_forward_reply *m, ort_buf *body)
{
    ort_err err = m->status < 100 || m->status > 599 ? ORT_EINVAL : ORT_OK;
    ort_buf_put_u16(body, (uint16_t)m->status);
    put_headers(body, m->headers, m->header_count, &err);
    return put_body(body, m->body, m->body_len, err);
}

/* ---- reading ---- */

typedef struct {
    ort_cursor at;
    char *to; /* where texts go, in the arena */
    bool bad;
} taker;

static bool
is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c <= 0x20 || c >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", c) != NULL) {
            return false;
        }
    }
    return len > 0;
}

/* Header values, addresses: what a line can hold. */
static bool
is_line(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool
is_target(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c <= 0x20 || c == 0x7f) {
            return false;
        }
    }
    return len > 0 && text[0] == '/';
}

static const char *
take_s16(taker *t, size_t max, bool (*good)(const char *, size_t))
{
    const size_t len = ort_cursor_u16(&t->at);
    const char *text = ort_cursor_take(&t->at, len);
    if (text == NULL || len > max || !good(text, len)) {
        t->bad = true;
        return "";
    }
    char *kept = t->to;
    memcpy(kept, text, len);
    kept[len] = '\0';
    t->to += len + 1;
    return kept;
}

static size_t
take_headers(taker *t, ort_forward_header *headers)
{
    size_t bytes = 0;
    const size_t count = ort_cursor_u16(&t->at);
    if (count > ORT_HEADERS_MAX) {
        t->bad = true;
        return 0;
    }
    for (size_t i = 0; i < count && !t->bad; i++) {
        headers[i].name = take_s16(t, ORT_FORWARD_HEADER_BYTES_MAX, is_token);
        headers[i].value = take_s16(t, ORT_FORWARD_HEADER_BYTES_MAX, is_line);
        bytes += strlen(headers[i].name) + strlen(headers[i].value);
        t->bad = t->bad || bytes > ORT_FORWARD_HEADER_BYTES_MAX;
    }
    return count;
}

/* Room for every header and text before the body. A text costs two bytes of length on the wire and
 * one NUL here, so the encoded size bounds ours; but no more than our own bounds allow. */
static char *
arena_new(size_t n, size_t texts_max)
{
    const size_t texts = n < texts_max ? n : texts_max;
    return malloc(ORT_HEADERS_MAX * sizeof(ort_forward_header) + texts + 1);
}

/* The rest: a body that fills the message exactly. */
static bool
take_body(taker *t, const char **body, size_t *len)
{
    *len = ort_cursor_u32(&t->at);
    *body = ort_cursor_take(&t->at, *len);
    return !t->bad && !t->at.failed && ort_cursor_left(&t->at) == 0;
}

/* Texts of a request at their largest, each with its NUL. */
#define TEXTS_MAX                                                                         \
    ((size_t)2 * ORT_FORWARD_HEADER_BYTES_MAX + 2 * ORT_HEADERS_MAX + ORT_URI_BYTES_MAX + \
     ORT_REQUEST_ID_BYTES_MAX + ORT_MSG_TEXT_BYTES + 64 + ORT_FORWARD_HEADER_BYTES_MAX)

ort_err
ort_forward_request_decode(const char *body, size_t n, ort_forward_request *out, ort_diag *diag)
{
    *out = (ort_forward_request){0};
    out->arena = arena_new(n, TEXTS_MAX);
    if (out->arena == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "forwarded message");
    }
    ort_forward_header *headers = (ort_forward_header *)(void *)out->arena;
    taker t = {.at = ort_cursor_of(body, n), .to = (char *)(headers + ORT_HEADERS_MAX)};
    out->hops = ort_cursor_u8(&t.at);
    out->timeout_ms = ort_cursor_u32(&t.at);
    out->method = take_s16(&t, 16, is_token);
    out->target = take_s16(&t, ORT_URI_BYTES_MAX, is_target);
    out->request_id = take_s16(&t, ORT_REQUEST_ID_BYTES_MAX, is_line);
    out->remote = take_s16(&t, ORT_MSG_TEXT_BYTES, is_line);
    out->headers = headers;
    out->header_count = take_headers(&t, headers);
    if (!take_body(&t, &out->body, &out->body_len) || out->hops < 1 ||
        out->hops > ORT_FORWARD_HOPS_MAX) {
        ort_forward_request_fini(out);
        return ort_fail(diag, ORT_EFORMAT, "a forwarded request of %zu bytes is malformed", n);
    }
    return ORT_OK;
}

void
ort_forward_request_fini(ort_forward_request *m)
{
    free(m->arena);
    *m = (ort_forward_request){0};
}

ort_err
ort_forward_reply_decode(const char *body, size_t n, ort_forward_reply *out, ort_diag *diag)
{
    *out = (ort_forward_reply){0};
    out->arena = arena_new(n, TEXTS_MAX);
    if (out->arena == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "forwarded message");
    }
    ort_forward_header *headers = (ort_forward_header *)(void *)out->arena;
    taker t = {.at = ort_cursor_of(body, n), .to = (char *)(headers + ORT_HEADERS_MAX)};
    out->status = ort_cursor_u16(&t.at);
    out->headers = headers;
    out->header_count = take_headers(&t, headers);
    if (!take_body(&t, &out->body, &out->body_len) || out->status < 100 || out->status > 599) {
        ort_forward_reply_fini(out);
        return ort_fail(diag, ORT_EFORMAT, "a forwarded reply of %zu bytes is malformed", n);
    }
    return ORT_OK;
}

void
ort_forward_reply_fini(ort_forward_reply *m)
{
    free(m->arena);
    free(m->owned);
    *m = (ort_forward_reply){0};
}
