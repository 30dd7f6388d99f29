/* shared/http/http.h: the HTTP front of both planes: listeners, routes, requests, answers.
 *
 * A request goes through two phases. When its head has been read and its route is known, the
 * `admit` hook decides, before a byte of the body is read, whether it may go on: keys, rates and
 * quotas are refused there for the price of a head. Then the body is read, bounded in size and
 * time, and the route's handler answers. `done` sees every request once, however it ended.
 *
 * Only this folder knows the HTTP library underneath; see README.md for what it does to tame it. */
#ifndef ORT_HTTP_H
#define ORT_HTTP_H
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Opaque. From ort_http_server_new() to ort_http_server_free(); free(NULL) is allowed.
 * Threads: every function here may be called from any thread unless it says otherwise. */
typedef struct ort_http_server ort_http_server;

/* One request, from its head to its answer. Lives for the duration of the hooks and the handler, on
 * one thread; nothing borrowed from it outlives them. */
typedef struct ort_http_req ort_http_req;

typedef enum {
    ORT_HTTP_GET, /* a GET route answers HEAD too, without the body */
    ORT_HTTP_HEAD,
    ORT_HTTP_POST,
    ORT_HTTP_PUT,
    ORT_HTTP_PATCH,
    ORT_HTTP_DELETE,
    ORT_HTTP_OPTIONS,
    ORT_HTTP_OTHER, /* a verb we have no word for: never has a route */
} ort_http_method;

/* Must answer exactly once (ort_http_reply() and its kin). One that returns without an answer is
 * our mistake: the client gets 500 and the log an error. */
typedef void (*ort_http_handler)(ort_http_req *req, void *user);

enum {
    /* Answered also over the in-flight cap and while draining: health, metrics. */
    ORT_HTTP_ROUTE_ALWAYS = 1u << 0,
    /* The body is not read before the handler: it calls ort_http_req_read() itself. */
    ORT_HTTP_ROUTE_STREAM = 1u << 1,
};

/* A line of the route table. The table and its texts stay the caller's and must outlive the
 * server; where two patterns fit a path, literal segments win over parameters, left to right. */
typedef struct {
    ort_http_method method;
    const char *pattern; /* "/collections/{name}/points/{id}": whole segments, no trailing slash */
    ort_http_handler handler;
    uint32_t flags;         /* ORT_HTTP_ROUTE_* */
    uint64_t tag;           /* the caller's: scopes, cost class ... for its admit hook */
    const void *extra;      /* the caller's */
    size_t body_bytes_max;  /* 0 = the server's body_bytes_max */
    uint32_t body_total_ms; /* 0 = the server's body_total_ms */
} ort_http_route;

/* What a request came to; for metrics and the access log. */
typedef struct {
    int status;            /* 0: the connection was lost before an answer */
    uint64_t bytes_in;     /* body bytes read */
    uint64_t bytes_out;    /* body bytes written */
    uint64_t duration_us;  /* from the end of the head to the end of the answer */
    uint64_t body_wait_us; /* of that, spent reading the body */
    const char *refused;   /* why the front itself refused ("slow-body"), or NULL */
} ort_http_outcome;

/* All are optional, all run on the request's thread. */
typedef struct {
    void *user; /* given to each of them, and to the handlers */

    /* After the head, before the body. false: it has answered; the body is not read, and when one
     * was coming the connection is closed. Not called for unknown paths and methods. */
    bool (*admit)(ort_http_req *req, void *user);

    /* Unless given: 404 with an empty body; 405 with an Allow field and an empty body. */
    void (*unknown_path)(ort_http_req *req, void *user);
    void (*unknown_method)(ort_http_req *req, void *user);

    /* The front refuses the request itself: bad framing, a body too large or too slow, overload.
     * Answer in the plane's own envelope with this err's status and text. Fields that the status
     * needs (Retry-After) are already added. Unless given: problem+json. */
    void (*refuse)(ort_http_req *req, ort_err err, const char *detail, void *user);

    /* Last: the answer is written or lost. Frees what admit put into the slot. */
    void (*done)(ort_http_req *req, const ort_http_outcome *outcome, void *user);
} ort_http_hooks;

typedef struct {
    const char *address; /* "127.0.0.1:6333"; port 0 = any free one. IPv4 */
    bool tls;
} ort_http_listener;

/* 0 and NULL mean the default in brackets. Texts are copied. */
typedef struct {
    const char *name; /* of threads and in logs ["http"] */
    const ort_http_listener *listeners;
    size_t listener_count;     /* 1 .. 8 */
    bool allow_plain;          /* plain HTTP also on addresses that are not loopback */
    const char *tls_cert;      /* PEM file, certificate and chain; needed by TLS listeners */
    const char *tls_key;       /* PEM file */
    const char *tls_client_ca; /* PEM file: clients must show a certificate of this authority */

    const ort_http_route *routes;
    size_t route_count;
    ort_http_hooks hooks;

    /* One thread serves one connection for as long as it is open, idle or not: threads is the
     * number of connections served at once. When more than 7 of 8 are taken, each answer closes its
     * connection, so that idle ones leave room for new clients. Further ones wait, up to queue_max,
     * then in the kernel's backlog, until a connection closes. */
    uint32_t threads;       /* [64] */
    uint32_t queue_max;     /* accepted, waiting for a thread [threads / 4, at least 64] */
    uint32_t inflight_max;  /* requests in work at once; more get 503 [threads] */
    uint32_t keep_alive_ms; /* an idle connection is closed after this [60 000] */
    uint32_t head_ms;       /* a request's head must be complete within this [10 000] */
    uint32_t request_ms;    /* the request's deadline, counted from its head [60 000] */
    uint32_t body_chunk_ms; /* each 64 KiB of a body must come within this [10 000] */
    uint32_t body_total_ms; /* and the whole body within this [60 000] */
    /* Each 64 KiB of an answer must be taken within this, and some of it within head_ms [30 000].
     */
    uint32_t write_ms;
    size_t body_bytes_max;           /* [ORT_ADMIN_BODY_BYTES_MAX] */
    const char *const *cors_origins; /* allowed origins ("https://console.example"), or "*" */
    size_t cors_origin_count;        /* 0: no CORS fields at all */
} ort_http_options;

/* Checks options, route table and certificate, and opens nothing yet.
 *
 * ORT_EINVAL  an option is out of range, plain HTTP off loopback without allow_plain, a bad or
 *             doubled pattern; ORT_EIO, ORT_EFORMAT: certificate or key; *out is NULL */
ORT_NODISCARD ort_err ort_http_server_new(ort_http_server **out, const ort_http_options *options,
                                          ort_diag *diag);

/* Binds and serves. ORT_EIO: an address cannot be bound (diag names it); nothing is left open. */
ORT_NODISCARD ort_err ort_http_server_start(ort_http_server *server, ort_diag *diag);

/* The port a listener is bound to, after start; 0 for an index that is none. */
uint16_t ort_http_server_port(const ort_http_server *server, size_t listener_index);

/* Reads the certificate files again. New connections get the new certificate, open ones keep
 * theirs. On an error (as for new) the old certificate stays in use. */
ORT_NODISCARD ort_err ort_http_server_reload_tls(ort_http_server *server, ort_diag *diag);

/* Ends service gently, for a stop without errors at clients. First, for grace_ms, everything is
 * still served, while ort_http_server_draining() is true (so that readyz says 503 and balancers
 * turn away) and each answer closes its connection. Then new requests get 503, and those in work
 * have wait_ms to end. ORT_ETIMEOUT: some had not. */
ORT_NODISCARD ort_err ort_http_server_drain(ort_http_server *server, uint32_t grace_ms,
                                            uint32_t wait_ms);
bool ort_http_server_draining(const ort_http_server *server);

/* Closes listeners and connections and joins the threads. A request in work loses its connection:
 * drain first. Not from a handler. */
void ort_http_server_stop(ort_http_server *server);
void ort_http_server_free(ort_http_server *server); /* stops it when it runs */

typedef struct {
    uint32_t in_flight;   /* requests in work, body reading included */
    uint32_t threads;     /* connections that can be served at once */
    uint32_t connections; /* open, idle or not */
    uint64_t requests;    /* begun since start */
    uint64_t refused;     /* of those, refused by the front itself */
} ort_http_stats;

void ort_http_server_stats(const ort_http_server *server, ort_http_stats *out);

/* ---- the request ---------------------------------------------------------------------------- */

ort_http_method ort_http_req_method(const ort_http_req *req);
const char *ort_http_req_method_text(const ort_http_req *req); /* as sent */

/* The path as sent: not decoded, without query and trailing slash. For logs and forwarding. */
const char *ort_http_req_path(const ort_http_req *req);
const char *ort_http_req_query_text(const ort_http_req *req); /* behind '?', as sent; "" if none */

/* The matched line of the table; NULL inside unknown_path and unknown_method, and in done for
 * those. Its pattern is what metrics are labelled with, never the path. */
const ort_http_route *ort_http_req_route(const ort_http_req *req);

/* A parameter of the pattern, percent-decoded once. It holds no NUL and is valid UTF-8 (a path that
 * says otherwise is refused before); it may hold '/', "..": names are checked by who uses them.
 * NULL: the pattern has no such parameter. */
const char *ort_http_req_param(const ort_http_req *req, const char *name);

/* A query parameter (the first of that name), decoded as a parameter is, '+' being a space; NULL
 * when it is not there, "" when it has no value. */
const char *ort_http_req_query(ort_http_req *req, const char *name);

/* Walks all query parameters: index = 0, 1 ... until false. */
bool ort_http_req_query_at(ort_http_req *req, size_t index, const char **name, const char **value);

/* A header field, its name in any case; NULL when it is not there. A field that stands twice: the
 * first one. */
const char *ort_http_req_header(const ort_http_req *req, const char *name);
bool ort_http_req_header_at(const ort_http_req *req, size_t index, const char **name,
                            const char **value);

/* The body: whole, NUL-ended behind its end, "" when there is none. Not in admit. A handler may
 * take it over: then it frees it, and the request's body is empty. */
const char *ort_http_req_body(const ort_http_req *req, size_t *len_out);
char *ort_http_req_take_body(ort_http_req *req, size_t *len_out);

/* The body's declared length, or -1 when it comes in chunks. */
int64_t ort_http_req_content_length(const ort_http_req *req);

/* The next bytes of a streamed body (ORT_HTTP_ROUTE_STREAM): *n_out in 1 .. cap, or 0 at its end.
 * ORT_ETIMEOUT, ORT_ETOOBIG, ORT_EBADREQ (bad chunks), ORT_EIO: the connection closes after the
 * answer. */
ORT_NODISCARD ort_err ort_http_req_read(ort_http_req *req, void *bytes, size_t cap, size_t *n_out);

const char *ort_http_req_id(const ort_http_req *req);     /* X-Request-Id: the client's if sane */
const char *ort_http_req_remote(const ort_http_req *req); /* "192.0.2.7", of the peer */
bool ort_http_req_is_tls(const ort_http_req *req);
uint64_t ort_http_req_begin_ns(const ort_http_req *req); /* ort_mono_ns() at the end of the head */
uint64_t ort_http_req_deadline_ns(const ort_http_req *req); /* as ort_mono_ns() */
void ort_http_req_set_deadline_ns(ort_http_req *req, uint64_t mono_ns);

/* One pointer that travels with the request: what admit found out, for the handler. */
void ort_http_req_set_slot(ort_http_req *req, void *slot);
void *ort_http_req_slot(const ort_http_req *req);
ort_http_server *ort_http_req_server(const ort_http_req *req);

/* ---- the answer ----------------------------------------------------------------------------- */

/* Adds a field to the answer to come. A name or value with control characters is our mistake
 * (asserted); text from outside goes in only after a check. A second call with the same name adds a
 * second field. */
void ort_http_header(ort_http_req *req, const char *name, const char *value);
void ort_http_headerf(ort_http_req *req, const char *name, const char *fmt, ...) ORT_PRINTF(3, 4);

/* Answers. content_type may be NULL (no body, or none wanted). For HEAD the body is counted, not
 * sent; 204 and 304 carry none. The client being gone is no error: done is told. */
void ort_http_reply(ort_http_req *req, int status, const char *content_type, const void *bytes,
                    size_t len);
void ort_http_reply_text(ort_http_req *req, int status, const char *text); /* text/plain */

/* Answers with application/json from a buffer; a buffer that has failed answers 500. */
void ort_http_reply_json(ort_http_req *req, int status, const ort_buf *json);

/* RFC 9457 application/problem+json: type, title, status, code, detail, request_id. diag may be
 * NULL. The first takes status and code from err, the second from its arguments. */
void ort_http_problem(ort_http_req *req, ort_err err, const ort_diag *diag);
void ort_http_problem_as(ort_http_req *req, int status, const char *code, const char *detail);

/* An answer of unknown length: begin, write as often as wanted, end. ORT_EIO: the client is gone or
 * too slow; go on to end all the same. */
ORT_NODISCARD ort_err ort_http_stream_begin(ort_http_req *req, int status,
                                            const char *content_type);
/* The same for an answer whose length is known: exactly that must be written, or the connection
 * closes, so that the client sees that something is missing. */
ORT_NODISCARD ort_err ort_http_stream_begin_sized(ort_http_req *req, int status,
                                                  const char *content_type, uint64_t len);
ORT_NODISCARD ort_err ort_http_stream_write(ort_http_req *req, const void *bytes, size_t len);
void ort_http_stream_end(ort_http_req *req);

bool ort_http_replied(const ort_http_req *req); /* an answer has begun */

/* The connection closes after this answer. */
void ort_http_close_after(ort_http_req *req);

/* ---- a request that did not come over HTTP --------------------------------------------------- */

/* A request as another process received it (forwarding), or a test wrote it. Borrowed. */
typedef struct {
    const char *method;         /* "POST" */
    const char *target;         /* path and query as sent: "/collections/a/points?wait=true" */
    const char *remote;         /* NULL = "" */
    const char *const *headers; /* name, value, name, value ... */
    size_t header_count;        /* pairs */
    const void *body;
    size_t body_len;
} ort_http_message;

typedef struct {
    int status;
    ort_buf headers; /* "Name: value\r\n" ..., Content-Type first, without Content-Length */
    ort_buf body;
} ort_http_answer;

/* Runs the request through the server's routes, hooks and handlers on the calling thread, as if it
 * had come over a connection; works also on a server that was never started. The answer is the
 * caller's (ort_http_answer_fini). ORT_EINVAL: no sane request; ORT_ENOMEM. */
ORT_NODISCARD ort_err ort_http_dispatch(ort_http_server *server, const ort_http_message *message,
                                        ort_http_answer *out, ort_diag *diag);
void ort_http_answer_fini(ort_http_answer *answer);

/* Passes on an answer that another process gave: its status, fields (as in ort_http_answer, each
 * checked again) and body. */
void ort_http_reply_answer(ort_http_req *req, const ort_http_answer *answer);
#endif /* ORT_HTTP_H */
