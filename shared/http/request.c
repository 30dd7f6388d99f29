/* One request from head to answer, and what hooks and handlers may ask of it. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/clock.h"
#include "base/id.h"
#include "http_internal.h"

const ort_log ort_http__log = {"http"};

/* Characters that are safe in logs, headers and JSON without a thought. */
static bool
request_id_sane(const char *text)
{
    size_t n = 0;

    for (; text[n] != '\0'; n++) {
        char c = text[n];
        bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_' || c == '.' || c == ':';
        if (!fine || n == ORT_REQUEST_ID_BYTES_MAX) {
            return false;
        }
    }
    return n > 0;
}

static void
request_id_set(ort_http_req *req)
{
    const char *given = ort_http_req_header(req, "x-request-id");

    if (given != NULL && request_id_sane(given)) {
        memcpy(req->id, given, strlen(given) + 1);
    } else {
        ort_id_format(ort_id_random(), req->id);
    }
}

void
ort_http__refuse(ort_http_req *req, ort_err err, const char *reason, const char *detail)
{
    const ort_http_hooks *hooks = &req->server->options.hooks;
    ort_diag diag;

    req->outcome.refused = reason;
    req->server->refused++;
    if (hooks->refuse != NULL) {
        hooks->refuse(req, err, detail, hooks->user);
    }
    if (!req->replied) {
        (void)ort_fail(&diag, err, "%s", detail);
        ort_http_problem(req, err, &diag);
    }
}

static void
unknown_path(ort_http_req *req)
{
    const ort_http_hooks *hooks = &req->server->options.hooks;

    if (hooks->unknown_path != NULL) {
        hooks->unknown_path(req, hooks->user);
    }
    if (!req->replied) {
        ort_http_reply(req, 404, NULL, NULL, 0);
    }
}

static void
unknown_method(ort_http_req *req, uint32_t allow)
{
    const ort_http_hooks *hooks = &req->server->options.hooks;
    char text[64] = "";

    if ((allow & 1u << ORT_HTTP_GET) != 0) {
        allow |= 1u << ORT_HTTP_HEAD;
    }
    for (unsigned m = 0; m < ORT_HTTP_OTHER; m++) {
        if ((allow & 1u << m) != 0) {
            size_t n = strlen(text);
            (void)snprintf(text + n, sizeof text - n, "%s%s", n > 0 ? ", " : "",
                           ort_http__method_name((ort_http_method)m));
        }
    }
    ort_http_header(req, "Allow", text);
    if (hooks->unknown_method != NULL) {
        hooks->unknown_method(req, hooks->user);
    }
    if (!req->replied) {
        ort_http_reply(req, 405, NULL, NULL, 0);
    }
}

/* Finds the route. false: answered. */
static bool
route(ort_http_req *req)
{
    uint32_t allow = 0;

    switch (ort_http__route_find(req, &allow)) {
    case ORT_HTTP_FOUND:
        return true;
    case ORT_HTTP_BAD_PATH:
        ort_http__refuse(
            req, ORT_EBADREQ, "bad-path",
            "the path holds a broken percent escape, a NUL or bytes that are no UTF-8");
        return false;
    case ORT_HTTP_NO_METHOD:
        unknown_method(req, allow);
        return false;
    case ORT_HTTP_NO_PATH:
    default:
        unknown_path(req);
        return false;
    }
}

static bool
overloaded(ort_http_req *req, uint32_t in_flight)
{
    bool draining = req->server->drain_phase >= 2;

    if ((req->route->flags & ORT_HTTP_ROUTE_ALWAYS) != 0 ||
        (!draining && in_flight <= req->server->options.inflight_max)) {
        return false;
    }
    ort_http_header(req, "Retry-After", "1");
    ort_http__refuse(req, ORT_EBUSY, draining ? "draining" : "overload",
                     draining ? "the server is stopping" : "too many requests are in work at once");
    return true;
}

/* From a head that is sane to the handler's answer. */
static void
serve(ort_http_req *req, uint32_t in_flight)
{
    const ort_http_options *options = &req->server->options;
    ort_diag diag = {""};

    if (ort_http__cors(req) || !route(req) || overloaded(req, in_flight)) {
        return;
    }
    if (options->hooks.admit != NULL && !options->hooks.admit(req, options->hooks.user)) {
        if (!req->replied) {
            ORT_LOG_ERROR(&ort_http__log, "http.no_answer", "where=admit route=%s request=%s",
                          req->route->pattern, req->id);
        }
        return;
    }
    req->body_max =
        req->route->body_bytes_max != 0 ? req->route->body_bytes_max : options->body_bytes_max;
    if ((req->route->flags & ORT_HTTP_ROUTE_STREAM) == 0) {
        ort_err err = ort_http__body_slurp(req, &diag);
        err = err == ORT_OK ? ort_http__gunzip(req, &diag) : err;
        if (err != ORT_OK) {
            const char *reason = err == ORT_ETIMEOUT  ? "slow-body"
                                 : err == ORT_ETOOBIG ? "large-body"
                                 : err == ORT_ENOMEM  ? "no-memory"
                                                      : "broken-body";
            ort_http__refuse(req, err == ORT_EIO ? ORT_EBADREQ : err, reason, diag.text);
            return;
        }
    }
    req->route->handler(req, options->hooks.user);
}

static void
finish(ort_http_req *req)
{
    const ort_http_hooks *hooks = &req->server->options.hooks;

    if (req->streaming) {
        ort_http_stream_end(req);
    }
    if (!req->replied) {
        ORT_LOG_ERROR(&ort_http__log, "http.no_answer", "route=%s request=%s",
                      req->route != NULL ? req->route->pattern : "-", req->id);
        ort_http_problem(req, ORT_EINTERNAL, NULL);
    }
    if (!req->body_done) {
        ort_http__body_drop(req);
    }
    if (!req->body_done || req->write_failed) {
        req->close_after = true;
    }
    if (req->close_after || req->client_closes) {
        ort_http__wire_close_after(req);
    }
    if (req->write_failed) {
        req->outcome.status = 0;
    }
    req->outcome.duration_us = (ort_mono_ns() - req->begin_ns) / 1000;
    if (hooks->done != NULL) {
        hooks->done(req, &req->outcome, hooks->user);
    }
    ORT_LOG_DEBUG(&ort_http__log, "http.request",
                  "method=%s route=%s status=%d us=%" PRIu64 " request=%s", req->method_text,
                  req->route != NULL ? req->route->pattern : "-", req->outcome.status,
                  req->outcome.duration_us, req->id);
    free(req->body);
    ort_buf_fini(&req->fields);
}

void
ort_http__run(ort_http_req *req)
{
    ort_http_server *server = req->server;
    uint32_t in_flight = ++server->in_flight;
    const char *detail = "";

    server->requests++;
    req->begin_ns = ort_mono_ns();
    req->deadline_ns = req->begin_ns + (uint64_t)server->options.request_ms * 1000000u;
    request_id_set(req);
    if (req->head_wrong != NULL) {
        detail = req->head_wrong;
    }
    if (req->head_wrong != NULL || !ort_http__framing_check(req, &detail)) {
        req->body_broken = true;
        req->close_after = true;
        ort_http__refuse(req, ORT_EBADREQ, "bad-framing", detail);
    } else {
        serve(req, in_flight);
    }
    finish(req);
    server->in_flight--;
}

/* ---- accessors ---- */

ort_http_method
ort_http_req_method(const ort_http_req *req)
{
    return req->method;
}

const char *
ort_http_req_method_text(const ort_http_req *req)
{
    return req->method_text;
}

const char *
ort_http_req_path(const ort_http_req *req)
{
    return req->path;
}

const char *
ort_http_req_query_text(const ort_http_req *req)
{
    return req->query_text != NULL ? req->query_text : "";
}

const ort_http_route *
ort_http_req_route(const ort_http_req *req)
{
    return req->route;
}

const char *
ort_http_req_param(const ort_http_req *req, const char *name)
{
    size_t len = strlen(name);

    for (uint32_t i = 0; i < req->param_count; i++) {
        if (req->params[i].name_len == len && memcmp(req->params[i].name, name, len) == 0) {
            return req->params[i].value;
        }
    }
    return NULL;
}

/* Decodes one side of a query pair; a broken one is left out: no handler asks for it then. */
static const char *
query_piece(ort_http_req *req, const char *text, size_t len)
{
    char *out = req->decoded + req->decoded_len;
    size_t n = 0;

    if (len + 1 > sizeof req->decoded - req->decoded_len ||
        ort_http__decode(text, len, true, out, &n) != ORT_OK) {
        return NULL;
    }
    req->decoded_len += n + 1;
    return out;
}

static void
query_parse(ort_http_req *req)
{
    const char *at = ort_http_req_query_text(req);

    req->query_parsed = true;
    while (*at != '\0' && req->query_count < ORT_HTTP_QUERY_MAX) {
        size_t len = strcspn(at, "&");
        const char *equals = memchr(at, '=', len);
        size_t name_len = equals != NULL ? (size_t)(equals - at) : len;
        if (name_len > 0) {
            const char *name = query_piece(req, at, name_len);
            const char *value =
                equals != NULL ? query_piece(req, equals + 1, len - name_len - 1) : "";
            if (name != NULL && value != NULL) {
                req->query[req->query_count].name = name;
                req->query[req->query_count].value = value;
                req->query_count++;
            }
        }
        at += len + (at[len] == '&');
    }
}

const char *
ort_http_req_query(ort_http_req *req, const char *name)
{
    if (!req->query_parsed) {
        query_parse(req);
    }
    for (uint32_t i = 0; i < req->query_count; i++) {
        if (strcmp(req->query[i].name, name) == 0) {
            return req->query[i].value;
        }
    }
    return NULL;
}

bool
ort_http_req_query_at(ort_http_req *req, size_t index, const char **name, const char **value)
{
    if (!req->query_parsed) {
        query_parse(req);
    }
    if (index >= req->query_count) {
        return false;
    }
    *name = req->query[index].name;
    *value = req->query[index].value;
    return true;
}

const char *
ort_http_req_header(const ort_http_req *req, const char *name)
{
    for (uint32_t i = 0; i < req->header_count; i++) {
        if (strcasecmp(req->headers[i].name, name) == 0) {
            return req->headers[i].value;
        }
    }
    return NULL;
}

bool
ort_http_req_header_at(const ort_http_req *req, size_t index, const char **name, const char **value)
{
    if (index >= req->header_count) {
        return false;
    }
    *name = req->headers[index].name;
    *value = req->headers[index].value;
    return true;
}

const char *
ort_http_req_body(const ort_http_req *req, size_t *len_out)
{
    if (len_out != NULL) {
        *len_out = req->body_len;
    }
    return req->body != NULL ? req->body : "";
}

char *
ort_http_req_take_body(ort_http_req *req, size_t *len_out)
{
    char *body = req->body;

    *len_out = req->body_len;
    req->body = NULL;
    req->body_len = 0;
    return body;
}

int64_t
ort_http_req_content_length(const ort_http_req *req)
{
    return req->content_length;
}

const char *
ort_http_req_id(const ort_http_req *req)
{
    return req->id;
}

const char *
ort_http_req_remote(const ort_http_req *req)
{
    return req->remote;
}

bool
ort_http_req_is_tls(const ort_http_req *req)
{
    return req->is_tls;
}

uint64_t
ort_http_req_begin_ns(const ort_http_req *req)
{
    return req->begin_ns;
}

uint64_t
ort_http_req_deadline_ns(const ort_http_req *req)
{
    return req->deadline_ns;
}

void
ort_http_req_set_deadline_ns(ort_http_req *req, uint64_t mono_ns)
{
    req->deadline_ns = mono_ns;
}

void
ort_http_req_set_slot(ort_http_req *req, void *slot)
{
    req->slot = slot;
}

void *
ort_http_req_slot(const ort_http_req *req)
{
    return req->slot;
}

ort_http_server *
ort_http_req_server(const ort_http_req *req)
{
    return req->server;
}
