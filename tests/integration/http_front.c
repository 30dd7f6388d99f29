/* See http_front.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "http_front.h"

http_front front;

/* ---- routes and hooks ---- */

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
    while (front.held) {
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
probe(ort_http_req *req, void *user)
{
    (void)user;
    ort_http_reply_text(req, 200, "open");
}

static void
ready(ort_http_req *req, void *user)
{
    (void)user;
    ort_http_reply_text(req, ort_http_server_draining(front.server) ? 503 : 200, "ready");
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
    {.method = ORT_HTTP_GET, .pattern = "/probe", .handler = probe, .flags = ORT_HTTP_ROUTE_ALWAYS},
};

static bool
is_probe(const ort_http_req *req)
{
    return strcmp(ort_http_req_path(req), "/probe") == 0;
}

static bool
admit(ort_http_req *req, void *user)
{
    const char *key = ort_http_req_header(req, "API-Key");

    (void)user;
    front.admits += !is_probe(req);
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
    (void)user;
    if (is_probe(req)) {
        front.probes++;
        return;
    }
    front.last_status = outcome->status;
    front.last_refused = outcome->refused;
    front.dones++;
}

static const char *const origins[] = {"https://console.example"};

ort_http_options
front_options(void)
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
        .head_ms = HTTP_NEVER_MS,
        .body_chunk_ms = HTTP_NEVER_MS,
        .body_total_ms = HTTP_NEVER_MS,
        .write_ms = HTTP_NEVER_MS,
        .keep_alive_ms = HTTP_NEVER_MS,
        .cors_origins = origins,
        .cors_origin_count = 1,
    };
}

void
front_start(const ort_http_options *options)
{
    ort_diag diag = {""};

    if (ort_http_server_new(&front.server, options, &diag) != ORT_OK ||
        ort_http_server_start(front.server, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    front.port = ort_http_server_port(front.server, 0);
    assert_int_not_equal(front.port, 0);
}

int
front_up(void **state)
{
    ort_http_options o = front_options();

    (void)state;
    front_start(&o);
    return 0;
}

int
front_down(void **state)
{
    (void)state;
    front.held = false;
    if (front.server != NULL) {
        ort_http_server_stop(front.server);
    }
    ort_http_server_free(front.server);
    front.server = NULL;
    return 0;
}

void
front_wait_connections(uint32_t count)
{
    const uint64_t until = ort_mono_ms() + HTTP_PATIENCE_MS;
    ort_http_stats stats;

    for (;;) {
        ort_http_server_stats(front.server, &stats);
        if (stats.connections == count) {
            return;
        }
        if (ort_mono_ms() > until) {
            fail_msg("%u connections are open, not %u", stats.connections, count);
        }
        usleep(2000);
    }
}

void
front_wait_in_flight(uint32_t count)
{
    const uint64_t until = ort_mono_ms() + HTTP_PATIENCE_MS;
    ort_http_stats stats;

    for (;;) {
        ort_http_server_stats(front.server, &stats);
        if (stats.in_flight == count) {
            return;
        }
        if (ort_mono_ms() > until) {
            fail_msg("%u requests are in work, not %u", stats.in_flight, count);
        }
        usleep(2000);
    }
}

/* ---- client ---- */

int
dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(front.port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

void
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

void
say(int fd, const char *text)
{
    say_n(fd, text, strlen(text));
}

bool
audible(int fd, int within_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, within_ms) > 0;
}

static void
hear_more(int fd, heard *h)
{
    if (h->len == sizeof h->text - 1 || !audible(fd, HTTP_PATIENCE_MS)) {
        fail_msg("more was to come behind:\n%.600s", h->text);
    }
    ssize_t n = recv(fd, h->text + h->len, sizeof h->text - 1 - h->len, 0);
    if (n <= 0) {
        h->closed = true;
        return;
    }
    h->len += (size_t)n;
    h->text[h->len] = '\0';
}

/* The bytes of a body in chunks, all of them with their frames; 0: not whole. */
static size_t
chunks_bytes(const char *text, size_t len)
{
    size_t at = 0;

    for (;;) {
        const char *line_end = memmem(text + at, len - at, "\r\n", 2);
        if (line_end == NULL) {
            return 0;
        }
        size_t chunk = strtoul(text + at, NULL, 16);
        at = (size_t)(line_end - text) + 2 + chunk + 2;
        if (at > len) {
            return 0;
        }
        if (chunk == 0) {
            return at;
        }
    }
}

/* The bytes of the answer that text begins with; 0: not whole, or it ends with its connection. */
static size_t
answer_bytes(const char *text, size_t len, char kind)
{
    static const char length[] = "\r\nContent-Length: ";
    static const char chunked[] = "\r\nTransfer-Encoding: chunked\r\n";
    const char *head_end = memmem(text, len, "\r\n\r\n", 4);
    int status = 0;

    if (head_end == NULL) {
        return 0;
    }
    size_t head = (size_t)(head_end - text) + 4;
    (void)sscanf(text, "HTTP/1.1 %d ", &status);
    if (kind != 'G' || status == 204 || status == 304) {
        return head;
    }
    const char *field = memmem(text, head, length, sizeof length - 1);
    if (field != NULL) {
        size_t body = strtoul(field + sizeof length - 1, NULL, 10);
        return len - head >= body ? head + body : 0;
    }
    if (memmem(text, head, chunked, sizeof chunked - 1) != NULL) {
        size_t body = chunks_bytes(text + head, len - head);
        return body > 0 ? head + body : 0;
    }
    return 0;
}

/* Asks on an open connection; what comes before the answer stays heard. `at`: behind the answers
 * that were due. */
static void
hear_probe(int fd, heard *h, size_t at)
{
    static const char mark[] = "\r\nX-Request-Id: probe\r\n";

    say(fd, "GET /probe HTTP/1.1\r\n" HOST "X-Request-Id: probe\r\n\r\n");
    while (!h->closed) {
        size_t n = answer_bytes(h->text + at, h->len - at, 'G');
        if (n == 0) {
            hear_more(fd, h);
        } else if (memmem(h->text + at, n, mark, sizeof mark - 1) != NULL) {
            h->len = at;
            h->text[at] = '\0';
            return;
        } else {
            at += n; /* nobody asked for it: the test sees it */
        }
    }
}

heard *
hear(int fd, const char *answers)
{
    static heard h;
    size_t at = 0;
    char kind = '\0';

    h = (heard){.len = 0};
    while (*answers != '\0' && !h.closed) {
        size_t n = answer_bytes(h.text + at, h.len - at, *answers);
        if (n == 0) {
            hear_more(fd, &h);
            continue;
        }
        at += n;
        kind = *answers++;
    }
    if (kind == '\0' || has(&h, "Connection: close\r\n")) {
        while (!h.closed) {
            hear_more(fd, &h);
        }
    }
    if (kind != 'C' && !h.closed) {
        hear_probe(fd, &h, at);
    }
    return &h;
}

heard *
ask_for(const char *text, const char *answers)
{
    int fd = dial();

    say(fd, text);
    heard *h = hear(fd, answers);
    close(fd);
    return h;
}

heard *
ask(const char *text)
{
    return ask_for(text, strncmp(text, "HEAD ", 5) == 0 ? "H" : "G");
}

int
status_of(const heard *h)
{
    int status = 0;

    return sscanf(h->text, "HTTP/1.1 %d ", &status) == 1 ? status : 0;
}

size_t
answers_in(const heard *h)
{
    size_t n = 0;

    for (const char *p = h->text; (p = strstr(p, "HTTP/1.1 ")) != NULL; p++) {
        n++;
    }
    return n;
}

bool
has(const heard *h, const char *text)
{
    return strstr(h->text, text) != NULL;
}

void
expect(const heard *h, int status, bool closed)
{
    if (status_of(h) != status || h->closed != closed) {
        print_error("wanted %d closed=%d, heard closed=%d:\n%.600s\n", status, (int)closed,
                    (int)h->closed, h->text);
    }
    assert_int_equal(status_of(h), status);
    assert_int_equal(h->closed, closed);
}

void
expect_alive(void)
{
    expect(ask("GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 200, false);
}
