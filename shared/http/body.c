/* The body: how its end is known, and how it is read within bounds of size and time.
 *
 * Framing is where requests are smuggled: two parties that disagree about where a body ends see
 * different requests. What RFC 9112 leaves to taste is refused here: two lengths, a length beside
 * chunks, a length that is not plain digits, any coding but chunked. */
#include <stdlib.h>
#include <strings.h>

#include "base/clock.h"
#include "http_internal.h"

/* Plain digits, up to 18 of them. */
static bool
length_parse(const char *text, int64_t *out)
{
    int64_t v = 0;
    size_t n = strlen(text);

    if (n == 0 || n > 18) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        v = v * 10 + (text[i] - '0');
    }
    *out = v;
    return true;
}

bool
ort_http__framing_check(ort_http_req *req, const char **detail_out)
{
    const char *length = NULL;
    const char *coding = NULL;

    if (req->conn == NULL) { /* ort_http_dispatch(): no connection, no framing */
        req->framing = req->memory_left > 0 ? ORT_HTTP_BODY_LENGTH : ORT_HTTP_BODY_NONE;
        req->content_length = (int64_t)req->memory_left;
        req->body_done = req->memory_left == 0;
        return true;
    }
    for (uint32_t i = 0; i < req->header_count; i++) {
        const char *name = req->headers[i].name;
        if (strcasecmp(name, "content-length") == 0) {
            if (length != NULL) {
                *detail_out = "more than one Content-Length field";
                return false;
            }
            length = req->headers[i].value;
        } else if (strcasecmp(name, "transfer-encoding") == 0) {
            if (coding != NULL) {
                *detail_out = "more than one Transfer-Encoding field";
                return false;
            }
            coding = req->headers[i].value;
        } else if (strcasecmp(name, "expect") == 0) {
            req->expect_continue = strcasecmp(req->headers[i].value, "100-continue") == 0;
            if (!req->expect_continue) {
                *detail_out = "an expectation other than 100-continue";
                return false;
            }
        }
    }
    if (coding != NULL) {
        if (length != NULL || req->http_1_0) {
            *detail_out = "Transfer-Encoding with Content-Length, or with HTTP/1.0";
            return false;
        }
        if (strcasecmp(coding, "chunked") != 0) {
            *detail_out = "a Transfer-Encoding other than chunked";
            return false;
        }
        req->framing = ORT_HTTP_BODY_CHUNKED;
        req->content_length = -1;
        return true;
    }
    if (length != NULL) {
        if (!length_parse(length, &req->content_length)) {
            *detail_out = "a Content-Length that is not a sane decimal number";
            return false;
        }
        if (req->content_length > 0) {
            req->framing = ORT_HTTP_BODY_LENGTH;
            return true;
        }
    }
    req->framing = ORT_HTTP_BODY_NONE;
    req->content_length = 0;
    req->body_done = true;
    req->expect_continue = false; /* nothing will come */
    return true;
}

/* One step: at most ORT_HTTP_READ_STEP bytes, under one deadline. *n_out = 0: the end. */
static ort_err
body_step(ort_http_req *req, void *bytes, size_t cap, size_t *n_out)
{
    const ort_http_options *options = &req->server->options;
    uint64_t begin = ort_mono_ns();
    uint64_t deadline = begin + (uint64_t)options->body_chunk_ms * 1000000u;
    ort_err err;

    *n_out = 0;
    if (req->body_done) {
        return ORT_OK;
    }
    if (req->body_broken) {
        return ORT_EIO;
    }
    if (cap > ORT_HTTP_READ_STEP) {
        cap = ORT_HTTP_READ_STEP;
    }
    if (req->framing == ORT_HTTP_BODY_LENGTH) {
        uint64_t left = (uint64_t)req->content_length - req->body_read;
        cap = left < cap ? (size_t)left : cap;
    }
    if (req->body_deadline_ns == 0) {
        const ort_http_route *route = req->route;
        uint64_t total_ms = route != NULL && route->body_total_ms != 0 ? route->body_total_ms
                                                                       : options->body_total_ms;
        req->body_deadline_ns = begin + total_ms * 1000000u;
    }
    if (deadline > req->body_deadline_ns) {
        deadline = req->body_deadline_ns;
    }
    if (req->expect_continue && !req->continue_sent) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        req->continue_sent = true;
        if (ort_http__wire_write(req, go_on, sizeof go_on - 1) != ORT_OK) {
            req->body_broken = true;
            return ORT_EIO;
        }
    }
    err = ort_http__wire_read(req, bytes, cap, deadline, n_out);
    req->outcome.body_wait_us += (ort_mono_ns() - begin) / 1000;
    if (err == ORT_OK && *n_out == 0 && req->framing == ORT_HTTP_BODY_LENGTH) {
        err = ORT_EBADREQ; /* ended early: only a closed connection does that */
    }
    if (err != ORT_OK) {
        req->body_broken = true;
        return err;
    }
    req->body_read += *n_out;
    req->outcome.bytes_in += *n_out;
    if (*n_out == 0 ||
        (req->framing == ORT_HTTP_BODY_LENGTH && req->body_read == (uint64_t)req->content_length)) {
        req->body_done = true;
    }
    return ORT_OK;
}

ort_err
ort_http_req_read(ort_http_req *req, void *bytes, size_t cap, size_t *n_out)
{
    ort_err err = body_step(req, bytes, cap, n_out);

    if (err == ORT_OK && req->body_read > req->body_max) {
        req->body_broken = true;
        *n_out = 0;
        return ORT_ETOOBIG;
    }
    return err;
}

ort_err
ort_http__body_slurp(ort_http_req *req, ort_diag *diag)
{
    size_t cap = 0;

    if (req->framing == ORT_HTTP_BODY_LENGTH && (uint64_t)req->content_length > req->body_max) {
        return ort_fail(diag, ORT_ETOOBIG, "a body of %lld bytes is over the limit of %llu",
                        (long long)req->content_length, (unsigned long long)req->body_max);
    }
    while (!req->body_done) {
        size_t n = 0;
        /* Memory follows what has come, not what was promised; +1 for the NUL. */
        if (cap - req->body_len < 2) {
            size_t want = cap == 0 ? ORT_HTTP_READ_STEP / 4 : cap * 2;
            if (req->framing == ORT_HTTP_BODY_LENGTH && want > (size_t)req->content_length + 1) {
                want = (size_t)req->content_length + 1;
            }
            char *grown = realloc(req->body, want + 1);
            if (grown == NULL) {
                return ort_fail(diag, ORT_ENOMEM, "no memory for a body of %zu bytes", want);
            }
            req->body = grown;
            cap = want + 1;
        }
        ort_err err = body_step(req, req->body + req->body_len, cap - req->body_len - 1, &n);
        if (err == ORT_ETIMEOUT) {
            return ort_fail(diag, err, "the body came too slowly: %llu bytes so far",
                            (unsigned long long)req->body_read);
        }
        if (err != ORT_OK) {
            return ort_fail(diag, err, "the body ended before its end, or its chunks are broken");
        }
        req->body_len += n;
        if (req->body_len > req->body_max) {
            return ort_fail(diag, ORT_ETOOBIG, "the body is over the limit of %llu bytes",
                            (unsigned long long)req->body_max);
        }
    }
    if (req->body != NULL) {
        req->body[req->body_len] = '\0';
    }
    return ORT_OK;
}

/* Whether what is left of an unwanted body is so little that the connection can live on. */
bool
ort_http__body_keeps_connection(const ort_http_req *req)
{
    if (req->body_done) {
        return true;
    }
    /* Who asked for 100-continue and got an answer may send the body or not: nobody can know. */
    return !req->body_broken && req->framing == ORT_HTTP_BODY_LENGTH &&
           (uint64_t)req->content_length - req->body_read <= ORT_HTTP_DROP_BYTES &&
           (!req->expect_continue || req->continue_sent);
}

/* After the answer: reads and drops what is left of a body, within the bounds above. */
void
ort_http__body_drop(ort_http_req *req)
{
    char bytes[4096];
    uint64_t limit = req->body_read + ORT_HTTP_LINGER_BYTES;
    size_t n = 0;

    if (req->conn == NULL || (req->expect_continue && !req->continue_sent)) {
        return;
    }
    req->continue_sent = true;
    req->body_deadline_ns = ort_mono_ns() + ORT_HTTP_LINGER_MS * 1000000ull;
    while (!req->body_done && !req->body_broken && req->body_read < limit) {
        if (body_step(req, bytes, sizeof bytes, &n) != ORT_OK) {
            return;
        }
    }
}
