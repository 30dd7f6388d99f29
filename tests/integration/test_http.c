/* The HTTP front over real sockets: what clients may send, and what hostile ones do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "http/http.h"

/* ---- the server under test ---- */

static ort_http_server *server;
static uint16_t port;
static _Atomic int admits, dones;
static _Atomic int last_status;
static _Atomic bool held;
static const char *_Atomic last_refused;

static void
echo(ort_http_req *req, void *user)
{
    size_t len = 0;
    const char *body = ort_http_req_body(req, &len);

    (void)user;
    ort_http_reply(req, 200, "application/octet-stream", body, len);
}

/* Tells what the front made of the request, one "key=value" a line. */
static void
tell(ort_http_req *req, void *user)
{
    ort_buf out = {0};
    const char *name, *value;
    static const char *const params[] = {"name", "id"};

    (void)user;
    ort_buf_printf(&out, "method=%s\npath=%s\npattern=%s\n", ort_http_req_method_text(req),
                   ort_http_req_path(req), ort_http_req_route(req)->pattern);
    for (size_t i = 0; i < 2; i++) {
        const char *v = ort_http_req_param(req, params[i]);
        if (v != NULL) {
            ort_buf_printf(&out, "%s=%s\n", params[i], v);
        }
    }
    for (size_t i = 0; ort_http_req_query_at(req, i, &name, &value); i++) {
        ort_buf_printf(&out, "?%s=%s\n", name, value);
    }
    ort_http_header(req, "X-Tell", "yes");
    ort_http_reply(req, 200, "text/plain", out.data, out.len);
    ort_buf_fini(&out);
}

static void
many(ort_http_req *req, void *user)
{
    (void)user;
    assert_int_equal(ort_http_stream_begin(req, 200, "text/plain"), ORT_OK);
    for (int i = 0; i < 1000; i++) {
        if (ort_http_stream_write(req, "0123456789", 10) != ORT_OK) {
            break;
        }
    }
    ort_http_stream_end(req);
}

/* An answer of known length in two pieces; with ?short=1 the second one never comes. */
static void
sized(ort_http_req *req, void *user)
{
    (void)user;
    assert_int_equal(ort_http_stream_begin_sized(req, 200, "text/plain", 20), ORT_OK);
    assert_int_equal(ort_http_stream_write(req, "0123456789", 10), ORT_OK);
    if (ort_http_req_query(req, "short") == NULL) {
        assert_int_equal(ort_http_stream_write(req, "abcdefghij", 10), ORT_OK);
    }
    ort_http_stream_end(req);
}

static void
big(ort_http_req *req, void *user)
{
    size_t len = 16u << 20;
    char *bytes = malloc(len);

    (void)user;
    memset(bytes, 'b', len);
    ort_http_reply(req, 200, "application/octet-stream", bytes, len);
    free(bytes);
}

/* 3,000 bytes that pack well, or as many as `n` says. */
static void
vectors(ort_http_req *req, void *user)
{
    const char *wanted = ort_http_req_query(req, "n");
    const size_t len = wanted != NULL ? (size_t)atoi(wanted) : 3000;
    char bytes[4096];

    (void)user;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = "[0.125,0.25],"[i % 13];
    }
    ort_http_reply(req, 200, "application/json", bytes, len <= sizeof bytes ? len : sizeof bytes);
}

/* Answers when `held` is let go. */
static void
hold(ort_http_req *req, void *user)
{
    (void)user;
    while (held) {
        usleep(2000);
    }
    ort_http_reply_text(req, 200, "held");
}

static void
silent(ort_http_req *req, void *user)
{
    (void)req;
    (void)user;
}

/* Sums a body without keeping it. */
static void
count(ort_http_req *req, void *user)
{
    char bytes[1000];
    char text[32];
    size_t n = 0;
    size_t sum = 0;

    (void)user;
    do {
        if (ort_http_req_read(req, bytes, sizeof bytes, &n) != ORT_OK) {
            ort_http_problem(req, ORT_EBADREQ, NULL);
            return;
        }
        sum += n;
    } while (n > 0);
    (void)snprintf(text, sizeof text, "%zu", sum);
    ort_http_reply_text(req, 200, text);
}

/* About 300 KiB of stack: more than the library's workers have by themselves. */
static void
deep(ort_http_req *req, void *user)
{
    volatile char frame[300u << 10];

    (void)user;
    for (size_t i = 0; i < sizeof frame; i += 4096) {
        frame[i] = 1;
    }
    ort_http_reply_text(req, 200, frame[0] == 1 ? "deep" : "?");
}

static void
ready(ort_http_req *req, void *user)
{
    (void)user;
    ort_http_reply_text(req, ort_http_server_draining(server) ? 503 : 200, "ready");
}

static const ort_http_route routes[] = {
    {.method = ORT_HTTP_POST, .pattern = "/echo", .handler = echo, .body_bytes_max = 200000},
    {.method = ORT_HTTP_GET, .pattern = "/", .handler = tell},
    {.method = ORT_HTTP_GET, .pattern = "/collections/{name}", .handler = tell},
    {.method = ORT_HTTP_PUT, .pattern = "/collections/{name}", .handler = tell},
    {.method = ORT_HTTP_GET, .pattern = "/collections/{name}/points/{id}", .handler = tell},
    {.method = ORT_HTTP_GET, .pattern = "/collections/{name}/points/count", .handler = tell},
    {.method = ORT_HTTP_GET, .pattern = "/many", .handler = many},
    {.method = ORT_HTTP_GET, .pattern = "/sized", .handler = sized},
    {.method = ORT_HTTP_GET, .pattern = "/big", .handler = big},
    {.method = ORT_HTTP_GET, .pattern = "/vectors", .handler = vectors},
    {.method = ORT_HTTP_GET, .pattern = "/hold", .handler = hold},
    {.method = ORT_HTTP_GET, .pattern = "/silent", .handler = silent},
    {.method = ORT_HTTP_GET, .pattern = "/deep", .handler = deep},
    {.method = ORT_HTTP_POST,
     .pattern = "/count",
     .handler = count,
     .flags = ORT_HTTP_ROUTE_STREAM,
     .body_bytes_max = 1u << 20},
    {.method = ORT_HTTP_GET,
     .pattern = "/readyz",
     .handler = ready,
     .flags = ORT_HTTP_ROUTE_ALWAYS},
};

static bool
admit(ort_http_req *req, void *user)
{
    const char *key = ort_http_req_header(req, "API-Key");

    (void)user;
    admits++;
    if (key != NULL && strcmp(key, "bad") == 0) {
        ort_http_header(req, "Retry-After", "3");
        ort_http_problem_as(req, 429, "rate-limited", "too fast");
        return false;
    }
    return true;
}

static void
done(ort_http_req *req, const ort_http_outcome *outcome, void *user)
{
    (void)req;
    (void)user;
    last_status = outcome->status;
    last_refused = outcome->refused;
    dones++;
}

static const char *const origins[] = {"https://console.example"};

static ort_http_options
options(void)
{
    static const ort_http_listener listener = {.address = "127.0.0.1:0"};
    return (ort_http_options){
        .listeners = &listener,
        .listener_count = 1,
        .routes = routes,
        .route_count = sizeof routes / sizeof routes[0],
        .hooks = {.admit = admit, .done = done},
        .threads = 16,
        .inflight_max = 6,
        .head_ms = 1000,
        .body_chunk_ms = 500,
        .body_total_ms = 1500,
        .write_ms = 700,
        .keep_alive_ms = 3000,
        .cors_origins = origins,
        .cors_origin_count = 1,
    };
}

static int
start(void **state)
{
    ort_http_options o = options();
    ort_diag diag = {""};

    (void)state;
    if (ort_http_server_new(&server, &o, &diag) != ORT_OK ||
        ort_http_server_start(server, &diag) != ORT_OK) {
        print_error("%s\n", diag.text);
        return -1;
    }
    port = ort_http_server_port(server, 0);
    return port == 0 ? -1 : 0;
}

static int
stop(void **state)
{
    (void)state;
    ort_http_server_stop(server);
    ort_http_server_free(server);
    server = NULL;
    return 0;
}

/* ---- a client that says exactly what it is told ---- */

typedef struct {
    char text[70000]; /* all that came, NUL-ended */
    size_t len;
    bool closed; /* by the server */
    uint64_t ms;
} heard;

static int
dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void
say_n(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return; /* the server has hung up: the test looks at what was heard */
        }
        bytes += n;
        len -= (size_t)n;
    }
}

static void
say(int fd, const char *text)
{
    say_n(fd, text, strlen(text));
}

/* Hears until the server closes, or is quiet for quiet_ms; for 150 ms when an answer has begun that
 * does not announce the end of the connection. */
static heard *
hear(int fd, int quiet_ms)
{
    static heard h;
    uint64_t begin = ort_mono_ms();

    h = (heard){.len = 0};
    while (h.len < sizeof h.text - 1) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        bool ends = h.len == 0 || strstr(h.text, "Connection: close\r\n") != NULL;
        if (poll(&p, 1, !ends && quiet_ms > 150 ? 150 : quiet_ms) <= 0) {
            break;
        }
        ssize_t n = recv(fd, h.text + h.len, sizeof h.text - 1 - h.len, 0);
        if (n <= 0) {
            h.closed = true;
            break;
        }
        h.len += (size_t)n;
        h.text[h.len] = '\0';
    }
    h.ms = ort_mono_ms() - begin;
    return &h;
}

/* One request on a connection of its own, and what was heard. */
static heard *
ask(const char *text)
{
    int fd = dial();
    say(fd, text);
    heard *h = hear(fd, 3000);
    close(fd);
    return h;
}

static int
status_of(const heard *h)
{
    int status = 0;
    return sscanf(h->text, "HTTP/1.1 %d ", &status) == 1 ? status : 0;
}

static size_t
answers_in(const heard *h)
{
    size_t n = 0;
    for (const char *p = h->text; (p = strstr(p, "HTTP/1.1 ")) != NULL; p++) {
        n++;
    }
    return n;
}

static bool
has(const heard *h, const char *text)
{
    return strstr(h->text, text) != NULL;
}

static void
expect(const heard *h, int status, bool closed)
{
    if (status_of(h) != status || h->closed != closed) {
        print_error("wanted %d closed=%d, heard closed=%d:\n%.600s\n", status, (int)closed,
                    (int)h->closed, h->text);
    }
    assert_int_equal(status_of(h), status);
    assert_int_equal(h->closed, closed);
}

/* Any new client is served: no test may leave the server in a bad state. */
static void
expect_alive(void)
{
    expect(ask("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"), 200, false);
}

#define HOST "Host: a\r\n"

/* ---- well-behaved clients ---- */

static void
paths_and_queries_are_decoded_once(void **state)
{
    (void)state;
    heard *h =
        ask("GET /collections/a%2Fb%2541/points/7?wait=true&x=%20+y&empty=&flag HTTP/1.1\r\n" HOST
            "\r\n");
    expect(h, 200, false);
    assert_true(has(h, "path=/collections/a%2Fb%2541/points/7\n"));
    assert_true(has(h, "pattern=/collections/{name}/points/{id}\n"));
    assert_true(has(h, "\nname=a/b%41\nid=7\n"));
    assert_true(has(h, "?wait=true\n?x=  y\n?empty=\n?flag=\n"));
    assert_true(has(h, "X-Tell: yes\r\n"));
    assert_true(has(h, "\r\nX-Request-Id: "));
}

static void
literal_segments_win_over_parameters(void **state)
{
    (void)state;
    heard *h = ask("GET /collections/a/points/count/ HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 200, false);
    assert_true(has(h, "pattern=/collections/{name}/points/count\n"));
    h = ask("GET / HTTP/1.1\r\n" HOST "\r\n");
    assert_true(has(h, "pattern=/\n"));
}

/* Nothing is cleaned away: a dot segment is a name like any other, which no collection has. */
static void
dot_segments_are_not_resolved(void **state)
{
    (void)state;
    heard *h = ask("GET /many/../collections/%2e%2e HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 404, false);
    h = ask("GET /collections/%2e%2e HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 200, false);
    assert_true(has(h, "\nname=..\n"));
}

static void
bad_paths_are_refused(void **state)
{
    static const char *const bad[] = {
        "/collections/%00", "/collections/a%0",    "/collections/%zz",
        "/collections/%ff", "/collections/%c0%af", "/collections/%ed%a0%80",
        "/collections/%",   "/collections/a%00b",  "/collections/%f5%80%80%80"};
    char text[200];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        (void)snprintf(text, sizeof text, "GET %s HTTP/1.1\r\n" HOST "\r\n", bad[i]);
        expect(ask(text), 400, false);
        assert_string_equal(last_refused, "bad-path");
    }
}

static void
unknown_paths_and_methods(void **state)
{
    (void)state;
    heard *h = ask("GET /nowhere HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 404, false);
    assert_true(has(h, "Content-Length: 0\r\n"));
    h = ask("DELETE /collections/a HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 405, false);
    assert_true(has(h, "Allow: GET, HEAD, PUT\r\n"));
    expect(ask("BREW /many HTTP/1.1\r\n" HOST "\r\n"), 400, true);
    expect(ask("TRACE /many HTTP/1.1\r\n" HOST "\r\n"), 400, true);
    expect(ask("GET /collections//points/1 HTTP/1.1\r\n" HOST "\r\n"), 404, false);
}

static void
head_answers_as_get_without_body(void **state)
{
    (void)state;
    heard *h = ask("HEAD /collections/a HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 200, false);
    assert_true(has(h, "Content-Length: "));
    assert_false(has(h, "Content-Length: 0\r\n"));
    assert_false(has(h, "pattern="));
    h = ask("HEAD /many HTTP/1.1\r\n" HOST "\r\nGET /readyz HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(answers_in(h), 2);
}

/* A client says what it takes, in any order and with weights; a wrong reading sends it bytes it
 * cannot read. */
static void
answers_are_packed_for_who_takes_it(void **state)
{
    static const struct {
        const char *field;
        bool packed;
    } cases[] = {
        {"", false},
        {"Accept-Encoding: gzip\r\n", true},
        {"Accept-Encoding: gzip, deflate, br\r\n", true},
        {"Accept-Encoding: br;q=1.0, GZIP;q=0.8, *;q=0.1\r\n", true},
        {"Accept-Encoding: *\r\n", true},
        {"Accept-Encoding: x-gzip\r\n", true},
        {"Accept-Encoding: gzip;q=0\r\n", false},
        {"Accept-Encoding: gzip;q=0.000, *\r\n", false},
        {"Accept-Encoding: *;q=0, gzip\r\n", true},
        {"Accept-Encoding: *;q=0\r\n", false},
        {"Accept-Encoding: identity\r\n", false},
        {"Accept-Encoding: gzipped, mygzip\r\n", false},
        {"Accept-Encoding: ,,;;,\r\n", false},
        {"Accept-Encoding: gzip;q=0.001\r\n", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char request[256];
        snprintf(request, sizeof request, "GET /vectors HTTP/1.1\r\n" HOST "%s\r\n",
                 cases[i].field);
        heard *h = ask(request);
        expect(h, 200, false);
        if (has(h, "Content-Encoding: gzip\r\n") != cases[i].packed) {
            fail_msg("%s", cases[i].field);
        }
        assert_true(has(h, "Vary: Accept-Encoding\r\n"));
        assert_int_equal(has(h, "Content-Length: 3000\r\n"), !cases[i].packed);
        assert_int_equal(has(h, "[0.125,0.25],[0.125,0.25],[0.125,0.25],[0.125"), !cases[i].packed);
    }
    heard *h = ask("GET /vectors?n=900 HTTP/1.1\r\n" HOST "Accept-Encoding: gzip\r\n\r\n");
    assert_false(has(h, "Content-Encoding"));
    h = ask("HEAD /vectors HTTP/1.1\r\n" HOST "Accept-Encoding: gzip\r\n\r\n"
            "GET /vectors HTTP/1.1\r\n" HOST "Accept-Encoding: gzip\r\n\r\n");
    assert_int_equal(answers_in(h), 2);
}

static void
request_ids_are_taken_when_sane_and_made_otherwise(void **state)
{
    (void)state;
    heard *h = ask("GET / HTTP/1.1\r\n" HOST "X-Request-Id: my-id.1\r\n\r\n");
    assert_true(has(h, "X-Request-Id: my-id.1\r\n"));
    h = ask("GET / HTTP/1.1\r\n" HOST "X-Request-Id: <script>\r\n\r\n");
    assert_false(has(h, "<script>"));
    assert_true(has(h, "X-Request-Id: "));
    h = ask(
        "GET / HTTP/1.1\r\n" HOST "X-Request-Id: "
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n");
    assert_false(has(h, "aaaa"));
}

static void
pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    heard *h = ask("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nfirst"
                   "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                   "6\r\nsecond\r\n0\r\n\r\n"
                   "GET /collections/third HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(answers_in(h), 3);
    const char *first = strstr(h->text, "first");
    const char *second = strstr(h->text, "second");
    const char *third = strstr(h->text, "third");
    assert_true(first != NULL && second > first && third > second);
    assert_false(h->closed);
}

static void
chunked_bodies_and_chunked_answers(void **state)
{
    (void)state;
    heard *h = ask("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                   "4\r\nabcd\r\nA\r\n0123456789\r\n0\r\n\r\n");
    expect(h, 200, false);
    assert_true(has(h, "\r\n\r\nabcd0123456789"));
    h = ask("GET /many HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 200, false);
    assert_true(has(h, "Transfer-Encoding: chunked\r\n"));
    assert_true(has(h, "a\r\n0123456789\r\n"));
    assert_non_null(strstr(h->text, "\r\n0\r\n\r\n"));
    h = ask("GET /many HTTP/1.0\r\n\r\n");
    expect(h, 200, true); /* 1.0 has no chunks: the end of the connection ends the answer */
    assert_false(has(h, "chunked"));

    h = ask("GET /sized HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 200, false);
    assert_true(has(h, "Content-Length: 20\r\n"));
    assert_false(has(h, "chunked"));
    assert_true(has(h, "\r\n\r\n0123456789abcdefghij"));
    h = ask("HEAD /sized?short=1 HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 200, false);
    h = ask("GET /sized?short=1 HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 200, true); /* cut: what was promised and is missing is seen */
}

static void
http_1_0_and_connection_close(void **state)
{
    (void)state;
    expect(ask("GET / HTTP/1.0\r\n\r\n"), 200, true);
    expect(ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), 200, false);
    heard *h = ask("GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    expect(h, 200, true);
    assert_true(has(h, "Connection: close\r\n"));
}

static void
expect_100_continue_is_answered(void **state)
{
    (void)state;
    int fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    heard *h = hear(fd, 200);
    assert_string_equal(h->text, "HTTP/1.1 100 Continue\r\n\r\n");
    say(fd, "hello");
    h = hear(fd, 300);
    expect(h, 200, false);
    assert_true(has(h, "\r\n\r\nhello"));
    close(fd);
}

/* A client that waits for 100 must hear the refusal instead, and nothing is read after it. */
static void
expect_100_continue_is_not_answered_when_refused(void **state)
{
    (void)state;
    heard *h = ask("POST /echo HTTP/1.1\r\n" HOST
                   "api-key: bad\r\nContent-Length: 500\r\nExpect: 100-continue\r\n\r\n");
    expect(h, 429, true);
    assert_false(has(h, "100 Continue"));
    assert_true(has(h, "Retry-After: 3\r\n"));
}

static void
streamed_bodies_reach_the_handler_in_pieces(void **state)
{
    static char body[300000];
    char head[200];

    (void)state;
    memset(body, 's', sizeof body);
    int fd = dial();
    (void)snprintf(head, sizeof head, "POST /count HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n",
                   sizeof body);
    say(fd, head);
    say_n(fd, body, sizeof body);
    heard *h = hear(fd, 500);
    expect(h, 200, false);
    assert_true(has(h, "\r\n\r\n300000"));
    close(fd);
}

static void
cross_origin_answers_name_the_origin_only_when_allowed(void **state)
{
    (void)state;
    heard *h = ask("OPTIONS /collections/a HTTP/1.1\r\n" HOST
                   "Origin: https://console.example\r\nAccess-Control-Request-Method: PUT\r\n"
                   "Access-Control-Request-Headers: api-key, content-type\r\n\r\n");
    expect(h, 204, false);
    assert_true(has(h, "Access-Control-Allow-Origin: https://console.example\r\n"));
    assert_true(has(h, "Access-Control-Allow-Headers: api-key, content-type\r\n"));
    h = ask("OPTIONS /collections/a HTTP/1.1\r\n" HOST
            "Origin: https://evil.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n");
    expect(h, 405, false);
    assert_false(has(h, "Access-Control-Allow"));
    h = ask("GET / HTTP/1.1\r\n" HOST "Origin: https://console.example\r\n\r\n");
    assert_true(has(h, "Access-Control-Allow-Origin: https://console.example\r\n"));
    assert_true(has(h, "Vary: Origin\r\n"));
}

static void
problems_are_rfc_9457(void **state)
{
    ort_json_doc *doc = NULL;
    uint64_t status = 0;

    (void)state;
    heard *h = ask("POST /echo HTTP/1.1\r\n" HOST
                   "api-key: bad\r\nX-Request-Id: r1\r\nContent-Length: 0\r\n\r\n");
    expect(h, 429, false);
    assert_true(has(h, "Content-Type: application/problem+json\r\n"));
    const char *body = strstr(h->text, "\r\n\r\n") + 4;
    assert_int_equal(ort_json_parse(&doc, body, strlen(body), (ort_json_limits){0}, NULL), ORT_OK);
    ort_json root = ort_json_root(doc);
    assert_true(ort_json_str_is(ort_json_get(root, "type"), "urn:orthant:error:rate-limited"));
    assert_true(ort_json_str_is(ort_json_get(root, "code"), "rate-limited"));
    assert_true(ort_json_str_is(ort_json_get(root, "detail"), "too fast"));
    assert_true(ort_json_str_is(ort_json_get(root, "request_id"), "r1"));
    assert_int_equal(ort_json_u64(ort_json_get(root, "status"), &status), ORT_OK);
    assert_int_equal(status, 429);
    ort_json_free(doc);
}

static void
a_handler_without_an_answer_is_a_500(void **state)
{
    (void)state;
    expect(ask("GET /silent HTTP/1.1\r\n" HOST "\r\n"), 500, false);
}

/* The library's own workers have 100 KiB: without the interposed call this crashes. */
static void
workers_have_a_stack_of_one_mebibyte(void **state)
{
    (void)state;
    expect(ask("GET /deep HTTP/1.1\r\n" HOST "\r\n"), 200, false);
}

/* ---- hostile clients ---- */

static void
lengths_that_lie_or_disagree_are_refused(void **state)
{
    static const char *const bad[] = {
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 50\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 9999999999999999999\r\n",
        "Content-Length:\r\n",
        "Content-Length : 5\r\n",
        "Expect: something\r\n",
        "X: 1\r\n  folded\r\nContent-Length: 5\r\n",
        "X: 1\r\n\tfolded\r\nContent-Length: 5\r\n",
        ": no name\r\nContent-Length: 5\r\n",
    };
    char text[300];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int before = admits;
        (void)snprintf(text, sizeof text, "POST /echo HTTP/1.1\r\n" HOST "%s\r\nhello", bad[i]);
        heard *h = ask(text);
        if (status_of(h) / 100 != 4 || !h->closed) {
            print_error("accepted: %s", bad[i]);
        }
        /* The library itself has 411 for some of them. */
        expect(h, status_of(h) == 411 ? 411 : 400, true);
        assert_int_equal(answers_in(h), 1); /* the body is not taken for a request */
        assert_int_equal(admits, before);
    }
    expect_alive();
}

static void
chunks_that_lie_are_refused(void **state)
{
    static const char *const bad[] = {"-5\r\nhello\r\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n",
                                      "zz\r\nhello\r\n0\r\n\r\n", "FFFFFFFFFFFFFFFFFF\r\nhello",
                                      "5;ext=1\r\nhello\r\nx\r\n"};
    char text[300];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        (void)snprintf(text, sizeof text,
                       "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n%s",
                       bad[i]);
        int fd = dial();
        say(fd, text);
        shutdown(fd, SHUT_WR);
        heard *h = hear(fd, 2500);
        close(fd);
        if (status_of(h) != 400 && status_of(h) != 408) {
            print_error("accepted: %s\n", bad[i]);
        }
        assert_true(status_of(h) == 400 || status_of(h) == 408);
        assert_true(h->closed);
        assert_int_equal(answers_in(h), 1);
    }
    expect_alive();
}

static void
too_many_or_too_large_headers_are_refused(void **state)
{
    static char text[40000];

    (void)state;
    for (int n = 50; n <= 100; n += 10) {
        size_t len = (size_t)snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" HOST);
        for (int i = 0; i < n; i++) {
            len += (size_t)snprintf(text + len, sizeof text - len, "H%d: v\r\n", i);
        }
        (void)snprintf(text + len, sizeof text - len, "\r\n");
        expect(ask(text), n <= 60 ? 200 : 400, n > 60);
    }
    size_t len = (size_t)snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" HOST "X: ");
    memset(text + len, 'x', 20000);
    (void)snprintf(text + len + 20000, sizeof text - len - 20000, "\r\n\r\n");
    heard *h = ask(text);
    assert_true(h->closed && status_of(h) != 200);
    len = (size_t)snprintf(text, sizeof text, "GET /");
    memset(text + len, 'x', 5000);
    (void)snprintf(text + len + 5000, sizeof text - len - 5000, " HTTP/1.1\r\n" HOST "\r\n");
    expect(ask(text), 400, true);
    expect(ask("GET / HTTP/1.1\r\n\r\n"), 400, true); /* no Host */
    expect_alive();
}

static void
half_a_head_is_cut_after_its_time(void **state)
{
    static const char *const heads[] = {"", "GET", "GET / HTTP/1.1\r\nHost: a\r\nX-Half"};

    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        int fd = dial();
        say(fd, heads[i]);
        heard *h = hear(fd, 5000);
        assert_true(h->closed);
        assert_true(h->ms < 4500);
        assert_int_not_equal(status_of(h), 200);
        close(fd);
    }
}

/* One byte of the head every 100 ms: always alive, never done. */
static void
a_slow_head_is_cut_after_its_time(void **state)
{
    const char *head = "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    uint64_t begin = ort_mono_ms();

    (void)state;
    int fd = dial();
    for (const char *p = head; *p != '\0'; p++) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        say_n(fd, p, 1);
        if (poll(&readable, 1, 100) > 0) {
            break; /* an answer or the end */
        }
    }
    assert_true(ort_mono_ms() - begin < 4500);
    heard *h = hear(fd, 1000);
    assert_true(h->closed);
    close(fd);
}

/* The library restarts its clock with each byte; ours does not. */
static void
a_slow_body_is_cut_by_its_deadline(void **state)
{
    static const char *const framings[] = {"Content-Length: 1000\r\n",
                                           "Transfer-Encoding: chunked\r\n"};

    (void)state;
    for (size_t f = 0; f < 2; f++) {
        int fd = dial();
        say(fd, "POST /echo HTTP/1.1\r\n" HOST);
        say(fd, framings[f]);
        say(fd, f == 0 ? "\r\n" : "\r\n3E8\r\n");
        uint64_t begin = ort_mono_ms();
        bool cut = false;
        for (int i = 0; i < 40 && !cut; i++) {
            struct pollfd readable = {.fd = fd, .events = POLLIN};
            say(fd, "x");
            cut = poll(&readable, 1, 100) > 0;
        }
        assert_true(cut);
        assert_true(ort_mono_ms() - begin < 3500);
        heard *h = hear(fd, 2000);
        expect(h, 408, true);
        assert_string_equal(last_refused, "slow-body");
        close(fd);
    }
    expect_alive();
}

/* Each piece in time, the whole body not: 64 KiB every 300 ms under a limit of 1.5 s. */
static void
a_body_is_cut_by_its_total_time(void **state)
{
    static char piece[20000];

    (void)state;
    memset(piece, 'x', sizeof piece);
    int fd = dial();
    say(fd, "POST /count HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\n");
    uint64_t begin = ort_mono_ms();
    bool cut = false;
    for (int i = 0; i < 40 && !cut; i++) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        say_n(fd, piece, sizeof piece);
        cut = poll(&readable, 1, 300) > 0;
    }
    assert_true(cut);
    assert_true(ort_mono_ms() - begin >= 1200 && ort_mono_ms() - begin < 3000);
    assert_int_not_equal(status_of(hear(fd, 1000)), 200);
    close(fd);
}

static void
a_body_that_stops_is_refused_and_closed(void **state)
{
    (void)state;
    int fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\nhalf");
    shutdown(fd, SHUT_WR);
    heard *h = hear(fd, 2500);
    assert_true(status_of(h) == 400 || status_of(h) == 408);
    assert_true(h->closed);
    close(fd);
    fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\nhalf");
    close(fd); /* gone: nothing to hear, nothing may hang */
    expect_alive();
}

static void
a_body_over_the_limit_is_refused_unread(void **state)
{
    static char piece[300000];

    (void)state;
    heard *h = ask("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 200001\r\n\r\n");
    expect(h, 413, true);
    assert_true(h->ms < 2000 && has(h, "Connection: close\r\n"));
    /* In chunks nobody knows before. */
    memset(piece, 'x', sizeof piece);
    int fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n493E0\r\n");
    say_n(fd, piece, sizeof piece);
    h = hear(fd, 2000);
    expect(h, 413, true);
    assert_true(has(h, "Connection: close\r\n"));
    close(fd);
    expect_alive();
}

/* A key that is refused costs its head: the gigabyte behind it is not read, and the client gets to
 * hear why. */
static void
an_early_refusal_does_not_swallow_the_body(void **state)
{
    static char piece[1u << 16];
    uint64_t begin = ort_mono_ms();
    size_t sent = 0;

    (void)state;
    int fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "api-key: bad\r\nContent-Length: 1073741824\r\n\r\n");
    while (sent < (1u << 30)) {
        ssize_t n = send(fd, piece, sizeof piece, MSG_NOSIGNAL);
        if (n <= 0) {
            break;
        }
        sent += (size_t)n;
    }
    assert_true(sent < (64u << 20));
    assert_true(ort_mono_ms() - begin < 5000);
    close(fd);
    /* One that listens while it sends hears it. */
    fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "api-key: bad\r\nContent-Length: 1073741824\r\n\r\nabc");
    heard *h = hear(fd, 3000);
    expect(h, 429, true);
    assert_true(has(h, "Connection: close\r\n"));
    close(fd);
}

/* A small refused body is dropped, so that a rate-limited client keeps its connection. */
static void
an_early_refusal_keeps_the_connection_when_little_is_left(void **state)
{
    (void)state;
    heard *h = ask("POST /echo HTTP/1.1\r\n" HOST "api-key: bad\r\nContent-Length: 5\r\n\r\nhello"
                   "GET /collections/next HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 429, false);
    assert_int_equal(answers_in(h), 2);
    assert_true(has(h, "name=next"));
}

/* A client that does not read its answer must not hold a thread for long. */
static void
an_answer_nobody_reads_is_given_up(void **state)
{
    ort_http_stats stats;

    (void)state;
    int fd = dial();
    int small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    say(fd, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    uint64_t until = ort_mono_ms() + 6000;
    usleep(100000);
    do {
        usleep(20000);
        ort_http_server_stats(server, &stats);
    } while (stats.in_flight > 0 && ort_mono_ms() < until);
    assert_int_equal(stats.in_flight, 0);
    assert_int_equal(last_status, 0);
    close(fd);
    expect_alive();
}

/* ---- overload and stop ---- */

static void
over_the_in_flight_cap_is_503_but_health_answers(void **state)
{
    int fds[6];

    (void)state;
    held = true;
    for (int i = 0; i < 6; i++) {
        fds[i] = dial();
        say(fds[i], "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    }
    usleep(150000);
    heard *h = ask("GET / HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 503, false);
    assert_true(has(h, "Retry-After: 1\r\n"));
    expect(ask("GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 200, false);
    held = false;
    for (int i = 0; i < 6; i++) {
        expect(hear(fds[i], 300), 200, false);
        close(fds[i]);
    }
    expect(ask("GET / HTTP/1.1\r\n" HOST "\r\n"), 200, false);
}

static void *
drain(void *arg)
{
    ort_err *err = arg;
    *err = ort_http_server_drain(server, 300, 3000);
    return NULL;
}

static void
drain_lets_requests_end_and_refuses_new_ones(void **state)
{
    pthread_t thread;
    ort_err err = ORT_EINTERNAL;

    (void)state;
    held = true;
    int fd = dial();
    say(fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    usleep(100000);
    assert_int_equal(pthread_create(&thread, NULL, drain, &err), 0);
    usleep(100000);
    /* In the grace time everything is served, but readyz turns balancers away. */
    expect(ask("GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 503, true);
    expect(ask("GET / HTTP/1.1\r\n" HOST "\r\n"), 200, true);
    usleep(400000);
    expect(ask("GET / HTTP/1.1\r\n" HOST "\r\n"), 503, true);
    held = false;
    heard *h = hear(fd, 1000);
    expect(h, 200, true);
    assert_true(has(h, "held"));
    close(fd);
    pthread_join(thread, NULL);
    assert_int_equal(err, ORT_OK);
}

static void
drain_gives_up_after_its_time(void **state)
{
    (void)state;
    held = true;
    int fd = dial();
    say(fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    usleep(100000);
    assert_int_equal(ort_http_server_drain(server, 0, 100), ORT_ETIMEOUT);
    held = false;
    close(fd);
}

/* Idle connections may take 7 of 8 threads, 14 of 16 here: the rest go round. */
static void
idle_connections_leave_room_for_new_clients(void **state)
{
    int fds[40];
    int kept = 0;

    (void)state;
    for (int i = 0; i < 40; i++) {
        fds[i] = dial();
        say(fds[i], "GET / HTTP/1.1\r\n" HOST "\r\n");
        heard *h = hear(fds[i], 2000);
        expect(h, 200, h->closed);
        assert_int_equal(h->closed, has(h, "Connection: close\r\n"));
        kept += !h->closed;
    }
    assert_int_equal(kept, 14);
    for (int i = 0; i < 40; i++) {
        close(fds[i]);
    }
}

/* Five hundred clients that say half a head and fifty that send a body a byte at a time: others are
 * served meanwhile, and when their time is over all are gone. */
static void
slow_clients_in_numbers_do_not_stop_others(void **state)
{
    enum { HALF = 500, SLOW = 50 };
    static const ort_http_listener listener = {.address = "127.0.0.1:0"};
    ort_http_options o = options();
    int fds[HALF + SLOW];
    ort_http_stats stats;
    ort_diag diag = {""};

    (void)state;
    o.listeners = &listener;
    o.threads = 700;
    o.inflight_max = 600;
    o.head_ms = 3000;
    o.body_chunk_ms = 3000;
    o.body_total_ms = 3000;
    assert_int_equal(ort_http_server_new(&server, &o, &diag), ORT_OK);
    assert_int_equal(ort_http_server_start(server, &diag), ORT_OK);
    port = ort_http_server_port(server, 0);
    for (int i = 0; i < HALF + SLOW; i++) {
        fds[i] = dial();
        say(fds[i], i < HALF ? "GET / HTTP/1.1\r\nHo"
                             : "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n");
    }
    uint64_t begin = ort_mono_ms();
    for (int round = 0; round < 10; round++) {
        for (int i = HALF; i < HALF + SLOW; i++) {
            say(fds[i], "x");
        }
        int fd = dial();
        uint64_t asked = ort_mono_ms();
        say(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_true(poll(&p, 1, 2000) > 0);
        assert_true(ort_mono_ms() - asked < 500);
        close(fd);
        usleep(50000);
    }
    do {
        usleep(50000);
        ort_http_server_stats(server, &stats);
    } while (stats.connections > 0 && ort_mono_ms() - begin < 20000);
    assert_int_equal(stats.connections, 0);
    for (int i = 0; i < HALF + SLOW; i++) {
        close(fds[i]);
    }
}

/* ---- set-up ---- */

static void
new_refuses_what_cannot_work(void **state)
{
    static const ort_http_route doubled[] = {
        {.method = ORT_HTTP_GET, .pattern = "/a/{x}", .handler = echo},
        {.method = ORT_HTTP_GET, .pattern = "/a/{y}", .handler = echo},
    };
    static const ort_http_route malformed = {
        .method = ORT_HTTP_GET, .pattern = "a", .handler = echo};
    ort_http_listener listener = {.address = "0.0.0.0:0"};
    ort_http_options o = options();
    ort_http_server *s = NULL;
    ort_diag diag = {""};

    (void)state;
    o.listeners = &listener;
    assert_int_equal(ort_http_server_new(&s, &o, &diag), ORT_EINVAL);
    assert_non_null(strstr(diag.text, "loopback"));
    o.allow_plain = true;
    assert_int_equal(ort_http_server_new(&s, &o, &diag), ORT_OK);
    ort_http_server_free(s);
    listener.address = "localhost:1";
    assert_int_equal(ort_http_server_new(&s, &o, &diag), ORT_EINVAL);
    listener.address = "127.0.0.1:70000";
    assert_int_equal(ort_http_server_new(&s, &o, &diag), ORT_EINVAL);
    listener = (ort_http_listener){.address = "127.0.0.1:0", .tls = true};
    assert_int_equal(ort_http_server_new(&s, &o, &diag), ORT_EINVAL);
    o = options();
    o.routes = doubled;
    o.route_count = 2;
    assert_int_equal(ort_http_server_new(&s, &o, &diag), ORT_EINVAL);
    o.routes = &malformed;
    o.route_count = 1;
    assert_int_equal(ort_http_server_new(&s, &o, &diag), ORT_EINVAL);
    assert_null(s);
}

static void
a_taken_port_is_named(void **state)
{
    char address[32];
    ort_http_listener listener = {.address = address};
    ort_http_options o = options();
    ort_http_server *s = NULL;
    ort_diag diag = {""};

    (void)state;
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)port);
    o.listeners = &listener;
    assert_int_equal(ort_http_server_new(&s, &o, &diag), ORT_OK);
    assert_int_equal(ort_http_server_start(s, &diag), ORT_EIO);
    assert_non_null(strstr(diag.text, address));
    ort_http_server_free(s);
}

static void
dispatch_runs_a_request_without_a_connection(void **state)
{
    static const char *const headers[] = {"api-key", "good", "Content-Length", "77"};
    static const char *const bad_key[] = {"api-key", "bad"};
    ort_http_answer answer;
    ort_http_message m = {.method = "POST",
                          .target = "/echo?x=1",
                          .headers = headers,
                          .header_count = 2,
                          .body = "hello",
                          .body_len = 5};

    (void)state;
    assert_int_equal(ort_http_dispatch(server, &m, &answer, NULL), ORT_OK);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.body.len, 5);
    assert_memory_equal(answer.body.data, "hello", 5);
    ort_http_answer_fini(&answer);
    m.headers = bad_key;
    m.header_count = 1;
    assert_int_equal(ort_http_dispatch(server, &m, &answer, NULL), ORT_OK);
    assert_int_equal(answer.status, 429);
    assert_non_null(strstr(ort_buf_peek_cstr(&answer.headers), "Retry-After: 3\r\n"));
    ort_http_answer_fini(&answer);
    m.method = "GET";
    m.target = "/many";
    m.header_count = 0;
    m.body_len = 0;
    assert_int_equal(ort_http_dispatch(server, &m, &answer, NULL), ORT_OK);
    assert_int_equal(answer.body.len, 10000);
    ort_http_answer_fini(&answer);
    m.target = "no slash";
    assert_int_equal(ort_http_dispatch(server, &m, &answer, NULL), ORT_EINVAL);
}

static void
open_connections_are_counted(void **state)
{
    ort_http_stats before, with, after;
    int fds[5];

    (void)state;
    usleep(100000);
    ort_http_server_stats(server, &before);
    for (int i = 0; i < 5; i++) {
        fds[i] = dial();
        say(fds[i], "GET / HTTP/1.1\r\n" HOST "\r\n");
        expect(hear(fds[i], 1000), 200, false);
    }
    ort_http_server_stats(server, &with);
    assert_int_equal(with.connections, before.connections + 5);
    assert_int_equal(with.in_flight, 0);
    for (int i = 0; i < 5; i++) {
        close(fds[i]);
    }
    usleep(200000);
    ort_http_server_stats(server, &after);
    assert_int_equal(after.connections, before.connections);
}

/* Every request is seen by done exactly once, however it ended. */
static void
done_sees_every_request_once(void **state)
{
    ort_http_stats before, after;

    (void)state;
    usleep(50000);
    ort_http_server_stats(server, &before);
    int dones_before = dones;
    (void)ask("GET /nowhere HTTP/1.1\r\n" HOST "\r\n");
    (void)ask("GET /collections/%zz HTTP/1.1\r\n" HOST "\r\n");
    (void)ask("POST /echo HTTP/1.1\r\n" HOST "Expect: x\r\n\r\n");
    (void)ask("GET / HTTP/1.1\r\n" HOST "\r\n");
    usleep(50000);
    ort_http_server_stats(server, &after);
    assert_int_equal(dones - dones_before, 4);
    assert_int_equal(after.requests - before.requests, 4);
    assert_int_equal(after.in_flight, 0);
}

int
main(void)
{
#define SERVED(test) cmocka_unit_test_setup_teardown(test, start, stop)
    const struct CMUnitTest shared[] = {
        cmocka_unit_test(paths_and_queries_are_decoded_once),
        cmocka_unit_test(literal_segments_win_over_parameters),
        cmocka_unit_test(dot_segments_are_not_resolved),
        cmocka_unit_test(bad_paths_are_refused),
        cmocka_unit_test(unknown_paths_and_methods),
        cmocka_unit_test(head_answers_as_get_without_body),
        cmocka_unit_test(answers_are_packed_for_who_takes_it),
        cmocka_unit_test(request_ids_are_taken_when_sane_and_made_otherwise),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(chunked_bodies_and_chunked_answers),
        cmocka_unit_test(http_1_0_and_connection_close),
        cmocka_unit_test(expect_100_continue_is_answered),
        cmocka_unit_test(expect_100_continue_is_not_answered_when_refused),
        cmocka_unit_test(streamed_bodies_reach_the_handler_in_pieces),
        cmocka_unit_test(cross_origin_answers_name_the_origin_only_when_allowed),
        cmocka_unit_test(problems_are_rfc_9457),
        cmocka_unit_test(a_handler_without_an_answer_is_a_500),
        cmocka_unit_test(workers_have_a_stack_of_one_mebibyte),
        cmocka_unit_test(lengths_that_lie_or_disagree_are_refused),
        cmocka_unit_test(chunks_that_lie_are_refused),
        cmocka_unit_test(too_many_or_too_large_headers_are_refused),
        cmocka_unit_test(half_a_head_is_cut_after_its_time),
        cmocka_unit_test(a_slow_head_is_cut_after_its_time),
        cmocka_unit_test(a_slow_body_is_cut_by_its_deadline),
        cmocka_unit_test(a_body_is_cut_by_its_total_time),
        cmocka_unit_test(a_body_that_stops_is_refused_and_closed),
        cmocka_unit_test(a_body_over_the_limit_is_refused_unread),
        cmocka_unit_test(an_early_refusal_does_not_swallow_the_body),
        cmocka_unit_test(an_early_refusal_keeps_the_connection_when_little_is_left),
        cmocka_unit_test(an_answer_nobody_reads_is_given_up),
        cmocka_unit_test(over_the_in_flight_cap_is_503_but_health_answers),
        cmocka_unit_test(new_refuses_what_cannot_work),
        cmocka_unit_test(a_taken_port_is_named),
        cmocka_unit_test(dispatch_runs_a_request_without_a_connection),
        cmocka_unit_test(open_connections_are_counted),
        cmocka_unit_test(done_sees_every_request_once),
    };
    const struct CMUnitTest alone[] = {
        SERVED(drain_lets_requests_end_and_refuses_new_ones),
        SERVED(drain_gives_up_after_its_time),
        SERVED(idle_connections_leave_room_for_new_clients),
        cmocka_unit_test_teardown(slow_clients_in_numbers_do_not_stop_others, stop),
    };
    int failed = cmocka_run_group_tests_name("http", shared, start, stop);
    failed += cmocka_run_group_tests_name("http drain", alone, NULL, NULL);
    return failed;
}
