/* The wire: everything that knows civetweb. What the library does with a request is used up to the
 * parsed head; from there on it only moves bytes. README.md has the list of its habits. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <civetweb.h>

#include "base/clock.h"
#include "http_internal.h"

/* Whether the library took the whole head. It stops at the first line it does not understand (a
 * folded one, or the 65th) and drops what follows, silently: a Content-Length hidden there would
 * make the body look like the next request. It leaves NULs over the line end behind the last value,
 * and the blank line as CR NUL or CR LF. The head ends with CR LF, so that this never runs out of
 * the library's buffer. */
static bool
head_complete(const struct mg_request_info *info)
{
    const char *end = info->http_headers[info->num_headers - 1].value;
    size_t n = 0;

    end += strlen(end);
    while (n < 2 && end[n] == '\0') {
        n++;
    }
    return end[n] == '\r' && (end[n + 1] == '\0' || end[n + 1] == '\n');
}

/* Whether the colon stood right behind the name, as RFC 9112 (5.1) wants it: the library puts a NUL
 * over the colon, and over each space before it. */
static bool
field_tight(const struct mg_header *field)
{
    for (const char *p = field->name + strlen(field->name) + 1; p < field->value; p++) {
        if (*p == '\0') {
            return false;
        }
    }
    return true;
}

/* An option list like "keep-alive, Upgrade" holds the word. */
static bool
list_has(const char *list, const char *word)
{
    size_t len = strlen(word);

    while (*list != '\0') {
        list += strspn(list, ", \t");
        size_t n = strcspn(list, ", \t");
        if (n == len && strncasecmp(list, word, n) == 0) {
            return true;
        }
        list += n;
    }
    return false;
}

static void
persistence_read(ort_http_req *req)
{
    bool close = req->http_1_0;

    for (uint32_t i = 0; i < req->header_count; i++) {
        if (strcasecmp(req->headers[i].name, "connection") == 0) {
            if (list_has(req->headers[i].value, "close")) {
                close = true;
            } else if (list_has(req->headers[i].value, "keep-alive")) {
                close = false;
            }
        }
    }
    req->client_closes = close;
}

/* Fills req from the library's view of the head. NULL, or why the head is refused. */
static const char *
head_read(ort_http_req *req, const struct mg_request_info *info)
{
    const char *target = info->local_uri_raw != NULL ? info->local_uri_raw : info->request_uri;
    bool host = false;
    bool tight = true;

    req->method_text = info->request_method != NULL ? info->request_method : "";
    req->method = ort_http__method_parse(req->method_text);
    req->remote = info->remote_addr;
    req->is_tls = info->is_ssl != 0;
    req->query_text = info->query_string;
    req->http_1_0 = info->http_version != NULL && strcmp(info->http_version, "1.0") == 0;
    for (int i = 0; i < info->num_headers && req->header_count < ORT_HEADERS_MAX; i++) {
        req->headers[req->header_count].name = info->http_headers[i].name;
        req->headers[req->header_count].value =
            info->http_headers[i].value != NULL ? info->http_headers[i].value : "";
        tight = tight && field_tight(&info->http_headers[i]);
        host = host || strcasecmp(info->http_headers[i].name, "host") == 0;
        req->header_count++;
    }
    persistence_read(req);
    if (target == NULL || info->http_version == NULL) {
        return "no target";
    }
    size_t len = strlen(target);
    if (len + (req->query_text != NULL ? strlen(req->query_text) : 0) > ORT_URI_BYTES_MAX) {
        return "the target is too long";
    }
    if (info->num_headers >= (int)ORT_HEADERS_MAX) {
        return "more than 63 header fields";
    }
    if (!req->http_1_0 && !host) {
        return "no Host field";
    }
    /* A head without fields is one of HTTP/1.0: its connection ends with the answer, so that there
     * is nothing to smuggle. */
    if (!tight) {
        return "white space before a header's colon";
    }
    if (info->num_headers > 0 && !head_complete(info)) {
        return "a header line that is folded or has no name";
    }
    while (len > 1 && target[len - 1] == '/') {
        len--;
    }
    memcpy(req->path, target, len);
    req->path[len] = '\0';
    return NULL;
}

static int
on_request(struct mg_connection *conn)
{
    const struct mg_request_info *info = mg_get_request_info(conn);
    ort_http_req req; /* on the worker's stack of 1 MiB, see interpose.c */

    memset(&req, 0, offsetof(ort_http_req, path));
    req.path[0] = '\0';
    req.server = info->user_data;
    req.conn = conn;
    req.head_wrong = head_read(&req, info);
    ort_http__run(&req);
    ort_http__io_deadline(0);
    return req.outcome.status != 0 ? req.outcome.status : 500;
}

/* The library's own refusals: heads it cannot parse or that came too slowly. There is no request
 * to speak of, so the answer is bare. */
static int
on_http_error(struct mg_connection *conn, int status, const char *message)
{
    const struct mg_request_info *info = mg_get_request_info(conn);
    ort_http_server *server = info != NULL ? info->user_data : NULL;
    char out[160];

    (void)message;
    if (server != NULL) {
        server->refused++;
    }
    int n = snprintf(out, sizeof out,
                     "HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status,
                     status == 408   ? "Request Timeout"
                     : status >= 500 ? "Error"
                                     : "Bad Request");
    (void)mg_write(conn, out, (size_t)n);
    mg_disable_connection_keep_alive(conn);
    return 0;
}

/* Whether this worker's connection is in server->connections: a worker has one at a time. */
static _Thread_local bool counted;

static int
on_connection(const struct mg_connection *conn, void **conn_data)
{
    ort_http_server *server = mg_get_user_data(mg_get_context(conn));

    *conn_data = NULL;
    counted = true;
    server->connections++;
    return 0;
}

/* Also runs for connections that on_connection never saw: those whose TLS handshake failed. */
static void
on_connection_closed(const struct mg_connection *conn)
{
    ort_http_server *server = mg_get_user_data(mg_get_context(conn));

    if (counted) {
        server->connections--;
        counted = false;
    }
}

/* The library's words about itself; most are about a client that misbehaves. */
static int
on_log(const struct mg_connection *conn, const char *message)
{
    (void)conn;
    ORT_LOG_DEBUG(&ort_http__log, "http.library", "message=%s", message);
    return 1;
}

static int
on_tls_context(void **context, void *user)
{
    ort_http_server *server = user;

    if (*context == NULL) {
        *context = ort_http__tls_context(server->tls);
    }
    return 1; /* made and freed by us */
}

ort_err
ort_http__wire_read(ort_http_req *req, void *bytes, size_t cap, uint64_t deadline_ns, size_t *n_out)
{
    *n_out = 0;
    if (req->conn == NULL) {
        size_t n = req->memory_left < cap ? req->memory_left : cap;
        if (n > 0) {
            memcpy(bytes, req->memory_body, n);
            req->memory_body += n;
            req->memory_left -= n;
        }
        *n_out = n;
        return ORT_OK;
    }
    ort_http__io_deadline(deadline_ns);
    int n = mg_read(req->conn, bytes, cap);
    ort_http__io_deadline(0);
    if (n > 0) {
        /* Fewer bytes than a declared length leaves room for: the sender stalled or is gone. */
        if (req->framing == ORT_HTTP_BODY_LENGTH && (size_t)n < cap) {
            return ort_mono_ns() >= deadline_ns ? ORT_ETIMEOUT : ORT_EIO;
        }
        *n_out = (size_t)n;
        return ORT_OK;
    }
    if (ort_mono_ns() >= deadline_ns) {
        return ORT_ETIMEOUT;
    }
    return n == 0 ? ORT_OK : ORT_EBADREQ;
}

ort_err
ort_http__wire_write(ort_http_req *req, const void *bytes, size_t len)
{
    const char *at = bytes;

    assert(req->conn != NULL);
    while (len > 0) {
        size_t step = len < ORT_HTTP_READ_STEP * 2 ? len : ORT_HTTP_READ_STEP;
        ort_http__io_deadline(ort_mono_ns() + (uint64_t)req->server->options.write_ms * 1000000u);
        int n = mg_write(req->conn, at, step);
        ort_http__io_deadline(0);
        if (n < 0 || (size_t)n != step) {
            return ORT_EIO;
        }
        at += step;
        len -= step;
    }
    return ORT_OK;
}

void
ort_http__wire_close_after(ort_http_req *req)
{
    if (req->conn != NULL) {
        mg_disable_connection_keep_alive(req->conn);
    }
}

ort_err
ort_http__wire_library_up(bool tls, ort_diag *diag)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    unsigned got;

    /* TLS needs libssl.so and libcrypto.so by these very names: ours, found by the DT_RPATH of the
     * executable (shim/). */
    pthread_mutex_lock(&lock);
    got = mg_init_library(tls ? MG_FEATURES_TLS : MG_FEATURES_DEFAULT);
    pthread_mutex_unlock(&lock);
    if (tls && (got & MG_FEATURES_TLS) == 0) {
        return ort_fail(diag, ORT_EIO,
                        "the HTTP library cannot load TLS: lib/orthant/libssl.so beside the "
                        "program's directory is missing");
    }
    return ORT_OK;
}

void
ort_http__wire_library_down(void)
{
    (void)mg_exit_library();
}

/* "127.0.0.1:6333,127.0.0.1:6334s" */
static void
ports_text(const ort_http_server *server, ort_buf *out)
{
    for (size_t i = 0; i < server->options.listener_count; i++) {
        ort_buf_printf(out, "%s%s%s", i > 0 ? "," : "", server->listeners[i].address,
                       server->listeners[i].tls ? "s" : "");
    }
}

static ort_err
ports_learn(ort_http_server *server, ort_diag *diag)
{
    struct mg_server_port ports[ORT_HTTP_LISTENERS_MAX];
    int n = mg_get_server_ports(server->civet, (int)ORT_HTTP_LISTENERS_MAX, ports);

    if (n != (int)server->options.listener_count) {
        return ort_fail(diag, ORT_EIO, "of %zu listeners %d are open",
                        server->options.listener_count, n);
    }
    for (int i = 0; i < n; i++) {
        server->ports[i] = (uint16_t)ports[i].port;
    }
    return ORT_OK;
}

/* The library's own thread, which accepts connections, is of type 0. */
static void *
on_thread(const struct mg_context *civet, int thread_type)
{
    const ort_http_server *server = mg_get_user_data(civet);

    if (thread_type == 0) {
        ort_http__poll_waker(server->stop_event);
    }
    return NULL;
}

ort_err
ort_http__wire_start(ort_http_server *server, ort_diag *diag)
{
    static const struct mg_callbacks plain = {
        .begin_request = on_request,
        .http_error = on_http_error,
        .log_message = on_log,
        .init_thread = on_thread,
        .init_connection = on_connection,
        .connection_closed = on_connection_closed,
    };
    const ort_http_options *o = &server->options;
    struct mg_callbacks callbacks = plain;
    char threads[16], queue[16], keep_alive[16], head[16];
    char text[256] = "";
    unsigned code = 0;
    ort_buf ports = {0};
    ort_err err;

    if (server->tls != NULL) {
        callbacks.external_ssl_ctx = on_tls_context;
    }
    ports_text(server, &ports);
    (void)snprintf(threads, sizeof threads, "%u", o->threads);
    (void)snprintf(queue, sizeof queue, "%u", o->queue_max);
    (void)snprintf(keep_alive, sizeof keep_alive, "%u", o->keep_alive_ms);
    (void)snprintf(head, sizeof head, "%u", o->head_ms);
    const char *settings[] = {
        "listening_ports",
        ort_buf_peek_cstr(&ports),
        "num_threads",
        threads,
        "connection_queue",
        queue,
        "listen_backlog",
        "1024",
        "enable_keep_alive",
        "yes",
        "keep_alive_timeout_ms",
        keep_alive,
        "request_timeout_ms",
        head,
        "tcp_nodelay",
        "1",
        "decode_url",
        "no",
        "enable_directory_listing",
        "no",
        "access_control_allow_origin",
        "",
        NULL,
    };
    struct mg_init_data init = {
        .callbacks = &callbacks, .user_data = server, .configuration_options = settings};
    struct mg_error_data error = {.code = &code, .text = text, .text_buffer_size = sizeof text};

    if (settings[1] == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "listeners");
    }
    server->stop_event = eventfd(0, EFD_CLOEXEC);
    if (server->stop_event < 0) {
        ort_buf_fini(&ports);
        return ort_fail(diag, ORT_EIO, "an event to stop by: %s", strerror(errno));
    }
    errno = 0;
    server->civet = mg_start2(&init, &error);
    if (server->civet == NULL) {
        (void)close(server->stop_event);
        err = ort_fail(diag, ORT_EIO, "cannot listen on %s: %s", settings[1],
                       text[0] != '\0' ? text : "the HTTP library gives no reason");
    } else {
        err = ports_learn(server, diag);
        if (err != ORT_OK) {
            ort_http__wire_stop(server);
        }
    }
    ort_buf_fini(&ports);
    return err;
}

void
ort_http__wire_stop(ort_http_server *server)
{
    (void)eventfd_write(server->stop_event, 1);
    mg_stop(server->civet);
    (void)close(server->stop_event);
    server->civet = NULL;
    server->connections = 0;
}
