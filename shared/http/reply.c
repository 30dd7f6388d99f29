/* Answers: our own header block, written together with the body in one call where it is small
 * enough (a second write costs a quarter of the throughput). */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "base/json_write.h"
#include "http_internal.h"

#define JOIN_BYTES_MAX (64u << 10) /* bodies up to this are copied behind their header */

static const char *
status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } table[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].status == status) {
            return table[i].text;
        }
    }
    return "Unknown";
}

/* A name is a token, a value has no control characters but the tab (RFC 9110, 5.5). */
static bool
field_sane(const char *name, const char *value)
{
    if (name[0] == '\0') {
        return false;
    }
    for (const char *p = name; *p != '\0'; p++) {
        if (*p <= ' ' || *p >= 127 || strchr("\"(),/:;<=>?@[\\]{}", *p) != NULL) {
            return false;
        }
    }
    for (const unsigned char *p = (const unsigned char *)value; *p != '\0'; p++) {
        if ((*p < ' ' && *p != '\t') || *p == 127) {
            return false;
        }
    }
    return true;
}

void
ort_http_header(ort_http_req *req, const char *name, const char *value)
{
    assert(field_sane(name, value));
    if (!field_sane(name, value)) {
        return;
    }
    ort_buf_puts(&req->fields, name);
    ort_buf_puts(&req->fields, ": ");
    ort_buf_puts(&req->fields, value);
    ort_buf_puts(&req->fields, "\r\n");
}

void
ort_http_headerf(ort_http_req *req, const char *name, const char *fmt, ...)
{
    char value[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(value, sizeof value, fmt, args);
    va_end(args);
    ort_http_header(req, name, value);
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", made once a second and thread. */
static const char *
date_text(void)
{
    static _Thread_local char text[40];
    static _Thread_local time_t made;
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = time(NULL);
    struct tm tm;

    if (now != made && gmtime_r(&now, &tm) != NULL) {
        /* Not strftime: its names follow the locale. */
        (void)snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT",
                       days[tm.tm_wday % 7], tm.tm_mday, months[tm.tm_mon % 12], tm.tm_year + 1900,
                       tm.tm_hour, tm.tm_min, tm.tm_sec);
        made = now;
    }
    return text;
}

/* Whether an answer of this status has a body at all. */
static bool
status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* Whether so many threads are taken that idle connections would keep new clients out. Each answer
 * then ends its connection: clients come back one after the other, and none waits for the sixty
 * seconds of another's keep-alive. */
static bool
crowded(const ort_http_server *server)
{
    return server->connections > server->options.threads - server->options.threads / 8;
}

/* Status line and fields. length < 0: the body's length is not known. */
static void
head_make(ort_http_req *req, ort_buf *out, int status, const char *content_type, int64_t length)
{
    if (!ort_http__body_keeps_connection(req) || req->server->drain_phase != 0 ||
        crowded(req->server)) {
        req->close_after = true;
    }
    ort_buf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\nX-Request-Id: %s\r\n", status,
                   status_text(status), date_text(), req->id);
    if (content_type != NULL) {
        ort_buf_puts(out, "Content-Type: ");
        ort_buf_puts(out, content_type);
        ort_buf_puts(out, "\r\n");
    }
    if (length >= 0 && status_has_body(status)) {
        ort_buf_printf(out, "Content-Length: %lld\r\n", (long long)length);
    } else if (length < 0) {
        if (req->http_1_0) {
            req->close_after = true; /* its end is the connection's */
        } else {
            ort_buf_puts(out, "Transfer-Encoding: chunked\r\n");
        }
    }
    if (req->close_after || req->client_closes) {
        ort_buf_puts(out, "Connection: close\r\n");
    } else if (req->http_1_0) {
        ort_buf_puts(out, "Connection: keep-alive\r\n");
    }
    ort_buf_put(out, req->fields.data, req->fields.len);
    ort_buf_puts(out, "\r\n");
    if (req->fields.failed) {
        out->failed = true;
    }
}

/* A connection on which nothing sensible can be said any more. */
static void
give_up(ort_http_req *req)
{
    req->write_failed = true;
    req->close_after = true;
    ort_http__wire_close_after(req);
}

static void
answer_begin(ort_http_req *req, int status, const char *content_type)
{
    ort_http_answer *answer = req->answer;

    answer->status = status;
    if (content_type != NULL) {
        ort_buf_puts(&answer->headers, "Content-Type: ");
        ort_buf_puts(&answer->headers, content_type);
        ort_buf_puts(&answer->headers, "\r\n");
    }
    ort_buf_put(&answer->headers, req->fields.data, req->fields.len);
    if (req->fields.failed) {
        answer->headers.failed = true;
    }
}

void
ort_http_reply(ort_http_req *req, int status, const char *content_type, const void *bytes,
               size_t len)
{
    bool with_body = status_has_body(status) && req->method != ORT_HTTP_HEAD;
    ort_buf out = {0};

    assert(!req->replied);
    if (req->replied) {
        return;
    }
    req->replied = true;
    req->outcome.status = status;
    if (req->answer != NULL) {
        answer_begin(req, status, content_type);
        if (with_body) {
            ort_buf_put(&req->answer->body, bytes, len);
            req->outcome.bytes_out = len;
        }
        return;
    }
    ort_buf packed = {0};
    if (with_body && ort_http__gzip(req, content_type, bytes, len, &packed)) {
        bytes = packed.data;
        len = packed.len;
    }
    head_make(req, &out, status, content_type, (int64_t)len);
    bool joined = with_body && len <= JOIN_BYTES_MAX;
    if (joined) {
        ort_buf_put(&out, bytes, len);
    }
    if (ort_buf_check(&out) != ORT_OK || ort_http__wire_write(req, out.data, out.len) != ORT_OK ||
        (with_body && !joined && ort_http__wire_write(req, bytes, len) != ORT_OK)) {
        give_up(req);
    } else if (with_body) {
        req->outcome.bytes_out = len;
    }
    ort_buf_fini(&out);
    ort_buf_fini(&packed);
}

void
ort_http_reply_text(ort_http_req *req, int status, const char *text)
{
    ort_http_reply(req, status, "text/plain; charset=utf-8", text, strlen(text));
}

void
ort_http_reply_json(ort_http_req *req, int status, const ort_buf *json)
{
    if (ort_buf_check(json) != ORT_OK) {
        ort_http_problem(req, ORT_ENOMEM, NULL);
        return;
    }
    ort_http_reply(req, status, "application/json", json->data, json->len);
}

void
ort_http_problem_as(ort_http_req *req, int status, const char *code, const char *detail)
{
    ort_buf buf = {0};
    ort_jw w = {.buf = &buf};
    char type[128];

    (void)snprintf(type, sizeof type, "urn:orthant:error:%s", code);
    ort_jw_object(&w);
    ort_jw_key(&w, "type");
    ort_jw_str(&w, type);
    ort_jw_key(&w, "title");
    ort_jw_str(&w, status_text(status));
    ort_jw_key(&w, "status");
    ort_jw_i64(&w, status);
    ort_jw_key(&w, "code");
    ort_jw_str(&w, code);
    if (detail != NULL && detail[0] != '\0') {
        ort_jw_key(&w, "detail");
        ort_jw_str(&w, detail);
    }
    ort_jw_key(&w, "request_id");
    ort_jw_str(&w, req->id);
    ort_jw_object_end(&w);
    if (ort_buf_check(&buf) == ORT_OK) {
        ort_http_reply(req, status, "application/problem+json", buf.data, buf.len);
    } else {
        ort_http_reply(req, status, NULL, NULL, 0);
    }
    ort_buf_fini(&buf);
}

void
ort_http_problem(ort_http_req *req, ort_err err, const ort_diag *diag)
{
    ort_http_problem_as(req, ort_err_http(err), ort_err_code(err),
                        diag != NULL ? diag->text : NULL);
}

static ort_err
stream_begin(ort_http_req *req, int status, const char *content_type, int64_t length)
{
    ort_buf out = {0};
    ort_err err = ORT_OK;

    assert(!req->replied && status_has_body(status));
    req->replied = true;
    req->streaming = true;
    req->outcome.status = status;
    if (req->answer != NULL) {
        answer_begin(req, status, content_type);
        return ORT_OK;
    }
    head_make(req, &out, status, content_type, length);
    req->stream_chunked = length < 0 && !req->http_1_0;
    req->stream_left = length > 0 ? (uint64_t)length : 0;
    if (ort_buf_check(&out) != ORT_OK || ort_http__wire_write(req, out.data, out.len) != ORT_OK) {
        give_up(req);
        err = ORT_EIO;
    }
    ort_buf_fini(&out);
    return err;
}

ort_err
ort_http_stream_begin(ort_http_req *req, int status, const char *content_type)
{
    return stream_begin(req, status, content_type, -1);
}

ort_err
ort_http_stream_begin_sized(ort_http_req *req, int status, const char *content_type, uint64_t len)
{
    assert(len <= INT64_MAX);
    return stream_begin(req, status, content_type, (int64_t)len);
}

ort_err
ort_http_stream_write(ort_http_req *req, const void *bytes, size_t len)
{
    char size[24];

    assert(req->streaming);
    if (req->write_failed) {
        return ORT_EIO;
    }
    if (len == 0 || req->method == ORT_HTTP_HEAD) {
        return ORT_OK; /* a chunk of no bytes would end the answer */
    }
    req->outcome.bytes_out += len;
    req->stream_left -= len < req->stream_left ? len : req->stream_left;
    if (req->answer != NULL) {
        ort_buf_put(&req->answer->body, bytes, len);
        return ort_buf_check(&req->answer->body);
    }
    int n = snprintf(size, sizeof size, "%zx\r\n", len);
    if ((req->stream_chunked && ort_http__wire_write(req, size, (size_t)n) != ORT_OK) ||
        ort_http__wire_write(req, bytes, len) != ORT_OK ||
        (req->stream_chunked && ort_http__wire_write(req, "\r\n", 2) != ORT_OK)) {
        give_up(req);
        return ORT_EIO;
    }
    return ORT_OK;
}

void
ort_http_stream_end(ort_http_req *req)
{
    assert(req->streaming);
    req->streaming = false;
    if (req->stream_left > 0 && req->method != ORT_HTTP_HEAD) {
        give_up(req);
    }
    if (req->answer == NULL && !req->write_failed && req->stream_chunked &&
        req->method != ORT_HTTP_HEAD && ort_http__wire_write(req, "0\r\n\r\n", 5) != ORT_OK) {
        give_up(req);
    }
}

bool
ort_http_replied(const ort_http_req *req)
{
    return req->replied;
}

void
ort_http_close_after(ort_http_req *req)
{
    req->close_after = true;
}

/* Fields that this connection makes itself, or that belong to one connection only. */
static bool
field_is_ours(const char *name, size_t len)
{
    static const char *const names[] = {"content-length", "transfer-encoding", "connection",
                                        "date",           "x-request-id",      "keep-alive",
                                        "trailer",        "upgrade",           "content-type"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strlen(names[i]) == len && strncasecmp(names[i], name, len) == 0) {
            return true;
        }
    }
    return false;
}

void
ort_http_reply_answer(ort_http_req *req, const ort_http_answer *answer)
{
    const char *at = answer->headers.data;
    const char *end = at != NULL ? at + answer->headers.len : NULL;
    char type[256] = "";

    while (at != NULL && at < end) {
        const char *stop = memmem(at, (size_t)(end - at), "\r\n", 2);
        size_t len = (size_t)((stop != NULL ? stop : end) - at);
        const char *colon = memchr(at, ':', len);
        char line[1024];
        if (colon != NULL && len < sizeof line) {
            size_t name_len = (size_t)(colon - at);
            memcpy(line, at, len);
            line[len] = '\0';
            line[name_len] = '\0';
            const char *value = line + name_len + 1;
            value += strspn(value, " \t");
            if (memchr(line, '\0', len) == line + name_len && field_sane(line, value)) {
                if (strcasecmp(line, "content-type") == 0) {
                    (void)snprintf(type, sizeof type, "%s", value);
                } else if (!field_is_ours(line, name_len)) {
                    ort_http_header(req, line, value);
                }
            }
        }
        at = stop != NULL ? stop + 2 : end;
    }
    int status = answer->status >= 200 && answer->status <= 599 ? answer->status : 502;
    ort_http_reply(req, status, type[0] != '\0' ? type : NULL, answer->body.data, answer->body.len);
}
