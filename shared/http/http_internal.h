/* shared/http/http_internal.h: what the files of this folder share. */
#ifndef ORT_HTTP_INTERNAL_H
#define ORT_HTTP_INTERNAL_H
#include <pthread.h>
#include <stdatomic.h>

#include "base/limits.h"
#include "base/log.h"
#include "http/http.h"

#define ORT_HTTP_LISTENERS_MAX 8u
#define ORT_HTTP_PARAMS_MAX 8u
#define ORT_HTTP_QUERY_MAX 64u
#define ORT_HTTP_SEGMENTS_MAX 16u
#define ORT_HTTP_READ_STEP (64u << 10) /* body bytes under one deadline */

/* A refused request's body up to this size is read and dropped, so that the connection lives on;
 * of a larger one only so much, and only so long, that the client gets to read its answer: closing
 * with bytes unread makes the kernel send a reset, which can overtake the answer. */
#define ORT_HTTP_DROP_BYTES (64u << 10)
#define ORT_HTTP_LINGER_BYTES (1u << 20)
#define ORT_HTTP_LINGER_MS 300u

extern const ort_log ort_http__log;

/* ---- routes (route.c) ---- */

typedef struct {
    const char *text; /* not NUL-ended */
    uint32_t len;
    bool is_param;
} ort_http__segment;

typedef struct {
    const ort_http_route *route;
    ort_http__segment segments[ORT_HTTP_SEGMENTS_MAX];
    uint32_t segment_count;
} ort_http__pattern;

typedef struct {
    ort_http__pattern *patterns;
    size_t count;
} ort_http__routes;

typedef struct {
    const char *name; /* of the pattern, not NUL-ended */
    uint32_t name_len;
    const char *value; /* decoded */
} ort_http__param;

ORT_NODISCARD ort_err ort_http__routes_init(ort_http__routes *routes, const ort_http_route *table,
                                            size_t count, ort_diag *diag);
void ort_http__routes_fini(ort_http__routes *routes);

ort_http_method ort_http__method_parse(const char *text);
const char *ort_http__method_name(ort_http_method method);

/* ---- text of a target (uri.c) ---- */

/* Decodes percent escapes of text[0..len) into out (at least len + 1 bytes). '+' becomes a space
 * where plus_is_space. ORT_EBADREQ: a broken escape, a NUL, or not UTF-8. */
ORT_NODISCARD ort_err ort_http__decode(const char *text, size_t len, bool plus_is_space, char *out,
                                       size_t *len_out);

/* ---- TLS (tls.c) ---- */

typedef struct ort_http__tls ort_http__tls;
ORT_NODISCARD ort_err ort_http__tls_new(ort_http__tls **out, const char *cert_file,
                                        const char *key_file, const char *client_ca_file,
                                        ort_diag *diag);
ORT_NODISCARD ort_err ort_http__tls_reload(ort_http__tls *tls, ort_diag *diag);
void *ort_http__tls_context(ort_http__tls *tls); /* SSL_CTX *, the tls object's */
void ort_http__tls_free(ort_http__tls *tls);

/* ---- interposed C library calls (interpose.c) ---- */

/* Until cleared with 0, poll() on this thread gives up (-1, ETIMEDOUT) at that ort_mono_ns(). */
void ort_http__io_deadline(uint64_t mono_ns);

/* From now on poll() on this thread returns 0 at once while `fd` can be read. The thread's fd is
 * borrowed until the thread ends. */
void ort_http__poll_waker(int fd);

/* ---- server and request ---- */

struct ort_http_server {
    ort_http_options options; /* defaults filled in; texts below */
    char *name, *tls_cert, *tls_key, *tls_client_ca;
    char **cors_origins;
    ort_http_listener listeners[ORT_HTTP_LISTENERS_MAX];
    ort_http__routes routes;
    ort_http__tls *tls;
    bool library_up;

    pthread_mutex_t lock;     /* guards start, stop, reload; taken alone */
    struct mg_context *civet; /* NULL unless running */
    int stop_event;           /* readable while the library is to stop */
    uint16_t ports[ORT_HTTP_LISTENERS_MAX];

    _Atomic uint32_t in_flight;
    _Atomic uint32_t connections;
    _Atomic uint64_t requests;
    _Atomic uint64_t refused;
    _Atomic int drain_phase; /* 0 serving, 1 grace, 2 refusing */
};

typedef enum {
    ORT_HTTP_BODY_NONE,
    ORT_HTTP_BODY_LENGTH,
    ORT_HTTP_BODY_CHUNKED,
} ort_http__framing;

struct ort_http_req {
    ort_http_server *server;
    struct mg_connection *conn; /* NULL for ort_http_dispatch() */
    ort_http_answer *answer;    /* where such a request's answer goes */

    ort_http_method method;
    const char *method_text;
    const char *head_wrong; /* why the head is refused, or NULL */
    const char *query_text;
    const char *remote;
    const ort_http_route *route;
    ort_http__param params[ORT_HTTP_PARAMS_MAX];
    uint32_t param_count;

    uint32_t header_count;
    uint32_t query_count;
    bool query_parsed;
    bool is_tls;
    bool http_1_0;

    size_t decoded_len;

    ort_http__framing framing;
    int64_t content_length; /* LENGTH: declared */
    uint64_t body_read;     /* bytes taken from the connection */
    uint64_t body_max;
    uint64_t body_deadline_ns;
    bool body_done;   /* nothing is left to read on the connection */
    bool body_broken; /* cannot go on reading: close */
    bool expect_continue;
    bool continue_sent;
    const char *memory_body; /* dispatch: borrowed */
    size_t memory_left;
    char *body;
    size_t body_len;

    char id[ORT_REQUEST_ID_BYTES_MAX + 1];
    uint64_t begin_ns;
    uint64_t deadline_ns;
    void *slot;

    ort_buf fields; /* header lines added by the handler */
    bool replied;
    bool streaming;
    bool stream_chunked;
    uint64_t stream_left; /* of a sized one */
    bool close_after;
    bool client_closes; /* by its Connection field or its version */
    bool write_failed;
    ort_http_outcome outcome;

    /* From here on only read as far as the counts above say: 20 KiB that are not cleared for each
     * request (`path` is the first). */
    char path[ORT_URI_BYTES_MAX + 1];
    struct {
        const char *name;
        const char *value;
    } headers[ORT_HEADERS_MAX], query[ORT_HTTP_QUERY_MAX];
    /* Decoded texts. A target of n bytes decodes to at most n, and each piece brings its NUL in
     * place of a separator, so that path and query together fit. */
    char decoded[ORT_URI_BYTES_MAX + 2 + ORT_HTTP_PARAMS_MAX + ORT_HTTP_QUERY_MAX * 2];
};

/* Runs a request whose head is filled in, to its end. (request.c) */
void ort_http__run(ort_http_req *req);

/* The front's own refusal; closes the connection when the framing is in doubt. (request.c) */
void ort_http__refuse(ort_http_req *req, ort_err err, const char *reason, const char *detail);

/* Body (body.c). */
ORT_NODISCARD bool ort_http__framing_check(ort_http_req *req, const char **detail_out);
ORT_NODISCARD ort_err ort_http__body_slurp(ort_http_req *req, ort_diag *diag);
void ort_http__body_drop(ort_http_req *req);
bool ort_http__body_keeps_connection(const ort_http_req *req);

/* The wire below (civet.c). read: ORT_OK with *n_out = 0 at the end of the body. */
ORT_NODISCARD ort_err ort_http__wire_read(ort_http_req *req, void *bytes, size_t cap,
                                          uint64_t deadline_ns, size_t *n_out);
ORT_NODISCARD ort_err ort_http__wire_write(ort_http_req *req, const void *bytes, size_t len);
void ort_http__wire_close_after(ort_http_req *req);
ORT_NODISCARD ort_err ort_http__wire_start(ort_http_server *server, ort_diag *diag);
void ort_http__wire_stop(ort_http_server *server);
ORT_NODISCARD ort_err ort_http__wire_library_up(bool tls, ort_diag *diag);
void ort_http__wire_library_down(void);

/* gzip.c: packs a body into `out` when the client asks for that and it pays, and adds the fields
 * that say so; false: send it as it is. */
bool ort_http__gzip(ort_http_req *req, const char *content_type, const void *bytes, size_t len,
                    ort_buf *out);

/* Unpacks the body when it came packed. ORT_EBADREQ: no gzip, or another coding; ORT_ETOOBIG. */
ORT_NODISCARD ort_err ort_http__gunzip(ort_http_req *req, ort_diag *diag);

/* CORS (cors.c). true: it was a preflight, and it is answered. */
bool ort_http__cors(ort_http_req *req);

/* Method and route of the path; fills params. true: a route matches. When only the method does not
 * fit, *allow_out (may be NULL) gets the methods that would. (route.c) */
typedef enum {
    ORT_HTTP_FOUND,
    ORT_HTTP_NO_PATH,
    ORT_HTTP_NO_METHOD,
    ORT_HTTP_BAD_PATH
} ort_http__match;
ort_http__match ort_http__route_find(ort_http_req *req, uint32_t *allow_out);
#endif /* ORT_HTTP_INTERNAL_H */
