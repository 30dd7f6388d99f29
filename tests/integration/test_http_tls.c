/* TLS on the HTTP front: the shim, versions, certificates exchanged while serving. The client is
 * OpenSSL itself. */
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

#include <openssl/ssl.h>

#include "base/clock.h"
#include "http/http.h"

static char dir[] = "/tmp/ort-tls-XXXXXX";
static char cert[64], key[64], client_cert[64], client_key[64];
static ort_http_server *server;
static uint16_t tls_port, plain_port;

static void
hello(ort_http_req *req, void *user)
{
    (void)user;
    ort_http_reply_text(req, 200, ort_http_req_is_tls(req) ? "over TLS" : "plain");
}

static void
echo(ort_http_req *req, void *user)
{
    size_t len = 0;
    const char *body = ort_http_req_body(req, &len);
    (void)user;
    ort_http_reply(req, 200, "application/octet-stream", body, len);
}

static const ort_http_route routes[] = {
    {.method = ORT_HTTP_GET, .pattern = "/", .handler = hello},
    {.method = ORT_HTTP_POST, .pattern = "/echo", .handler = echo, .body_bytes_max = 8u << 20},
};

/* A self-signed certificate of this name in dir/NAME.pem and dir/NAME.key. */
static void
certificate_make(const char *file, const char *name)
{
    char command[512];
    (void)snprintf(command, sizeof command,
                   "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
                   "-subj /CN=%s -keyout %s/%s.key -out %s/%s.pem >/dev/null 2>&1",
                   name, dir, file, dir, file);
    assert_int_equal(system(command), 0);
}

static void
copy_file(const char *from, const char *to)
{
    char command[256];
    (void)snprintf(command, sizeof command, "cp %s/%s %s/%s", dir, from, dir, to);
    assert_int_equal(system(command), 0);
}

/* How long what must happen is waited for, and a limit that no test meets. */
#define PATIENCE_MS 60000
#define NEVER_MS (10u * PATIENCE_MS)

static ort_http_server *
serve(const char *client_ca, uint32_t head_ms, uint32_t body_chunk_ms, uint16_t *tls_out,
      uint16_t *plain_out)
{
    static const ort_http_listener listeners[] = {{.address = "127.0.0.1:0", .tls = true},
                                                  {.address = "127.0.0.1:0"}};
    ort_http_options o = {
        .listeners = listeners,
        .listener_count = 2,
        .tls_cert = cert,
        .tls_key = key,
        .tls_client_ca = client_ca,
        .routes = routes,
        .route_count = 2,
        .threads = 8,
        .head_ms = head_ms,
        .body_chunk_ms = body_chunk_ms,
        .body_total_ms = NEVER_MS,
        .keep_alive_ms = NEVER_MS,
        .write_ms = NEVER_MS,
    };
    ort_http_server *s = NULL;
    ort_diag diag = {""};
    if (ort_http_server_new(&s, &o, &diag) != ORT_OK || ort_http_server_start(s, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    *tls_out = ort_http_server_port(s, 0);
    *plain_out = ort_http_server_port(s, 1);
    return s;
}

static int
start(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(cert, sizeof cert, "%s/server.pem", dir);
    (void)snprintf(key, sizeof key, "%s/server.key", dir);
    (void)snprintf(client_cert, sizeof client_cert, "%s/client.pem", dir);
    (void)snprintf(client_key, sizeof client_key, "%s/client.key", dir);
    certificate_make("server", "first.example");
    certificate_make("client", "client.example");
    server = serve(NULL, NEVER_MS, NEVER_MS, &tls_port, &plain_port);
    return 0;
}

static int
stop(void **state)
{
    char command[64];
    (void)state;
    ort_http_server_free(server);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

/* ---- client ---- */

typedef struct {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
} wire;

static int
dial(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void
hang_up(wire *w)
{
    SSL_free(w->ssl);
    SSL_CTX_free(w->ctx);
    close(w->fd);
}

/* A handshake of exactly this version; false when it fails. */
static bool
shake(wire *w, uint16_t port, int version, bool with_certificate)
{
    w->fd = dial(port);
    w->ctx = SSL_CTX_new(TLS_client_method());
    /* Old versions need the lowest security level to be offered at all. */
    SSL_CTX_set_security_level(w->ctx, version < TLS1_2_VERSION ? 0 : 1);
    SSL_CTX_set_min_proto_version(w->ctx, version);
    SSL_CTX_set_max_proto_version(w->ctx, version);
    if (with_certificate) {
        assert_int_equal(SSL_CTX_use_certificate_file(w->ctx, client_cert, SSL_FILETYPE_PEM), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(w->ctx, client_key, SSL_FILETYPE_PEM), 1);
    }
    w->ssl = SSL_new(w->ctx);
    SSL_set_fd(w->ssl, w->fd);
    if (SSL_connect(w->ssl) != 1) {
        /* Until the server has closed too: then it has counted. */
        char rest[256];
        (void)shutdown(w->fd, SHUT_WR);
        while (recv(w->fd, rest, sizeof rest, 0) > 0) {
        }
        hang_up(w);
        return false;
    }
    return true;
}

/* One request on the connection; its answer's text, NULL when the connection failed. */
static const char *
ask(wire *w, const char *request)
{
    static char text[8192];
    if (SSL_write(w->ssl, request, (int)strlen(request)) <= 0) {
        return NULL;
    }
    int n = SSL_read(w->ssl, text, sizeof text - 1);
    if (n <= 0) {
        return NULL;
    }
    text[n] = '\0';
    return text;
}

static const char *
name_of_peer(wire *w)
{
    static char name[128];
    X509 *peer = SSL_get1_peer_certificate(w->ssl);
    assert_non_null(peer);
    X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, name, sizeof name);
    X509_free(peer);
    return name;
}

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

/* ---- tests ---- */

static void
tls_1_2_and_1_3_are_served_and_older_refused(void **state)
{
    static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION, TLS1_1_VERSION, TLS1_VERSION};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        wire w;
        bool shaken = shake(&w, tls_port, versions[i], false);
        assert_int_equal(shaken, i < 2);
        if (shaken) {
            const char *answer = ask(&w, GET);
            assert_non_null(answer);
            assert_non_null(strstr(answer, "over TLS"));
            answer = ask(&w, GET); /* the connection lives on */
            assert_non_null(answer);
            assert_non_null(strstr(answer, "HTTP/1.1 200 OK"));
            hang_up(&w);
        }
    }
}

/* The library opens "libssl.so", which only development packages have: it must be ours. */
static void
the_shim_is_what_the_library_opened(void **state)
{
    char line[1024];
    bool ours = false;
    (void)state;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps) != NULL) {
        ours = ours || strstr(line, "/lib/orthant/libssl.so\n") != NULL;
    }
    (void)fclose(maps);
    assert_true(ours);
}

static void
one_server_has_tls_and_plain_listeners(void **state)
{
    char text[2048];
    (void)state;
    int fd = dial(plain_port);
    assert_int_equal(send(fd, GET, strlen(GET), 0), strlen(GET));
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "plain"));
    close(fd);
    /* HTTP spoken to the TLS port: no answer, no harm. */
    fd = dial(tls_port);
    assert_int_equal(send(fd, GET, strlen(GET), 0), strlen(GET));
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_true(poll(&p, 1, PATIENCE_MS) > 0);
    n = recv(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    assert_null(strstr(text, "HTTP/1.1 200"));
    close(fd);
    wire w;
    assert_true(shake(&w, tls_port, TLS1_3_VERSION, false));
    hang_up(&w);
}

static void
large_bodies_pass_both_ways(void **state)
{
    size_t len = 3u << 20;
    char *body = malloc(len);
    char head[128];
    size_t got = 0;
    wire w;

    (void)state;
    for (size_t i = 0; i < len; i++) {
        body[i] = (char)('a' + i % 23);
    }
    assert_true(shake(&w, tls_port, TLS1_3_VERSION, false));
    (void)snprintf(head, sizeof head,
                   "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", len);
    assert_true(SSL_write(w.ssl, head, (int)strlen(head)) > 0);
    assert_int_equal(SSL_write(w.ssl, body, (int)len), len);
    static char piece[65536];
    char *back = malloc(len + sizeof piece);
    bool in_body = false;
    while (got < len) {
        int n = SSL_read(w.ssl, piece, sizeof piece);
        assert_true(n > 0);
        char *at = piece;
        if (!in_body) {
            at = memmem(piece, (size_t)n, "\r\n\r\n", 4);
            assert_non_null(at);
            at += 4;
            in_body = true;
        }
        size_t part = (size_t)(piece + n - at);
        memcpy(back + got, at, part);
        got += part;
    }
    assert_int_equal(got, len);
    assert_memory_equal(back, body, len);
    free(body);
    free(back);
    hang_up(&w);
}

/* New connections see the new certificate, an open one is not touched, a bad pair changes nothing.
 */
static void
certificates_are_exchanged_while_serving(void **state)
{
    wire old, fresh;
    ort_diag diag = {""};

    (void)state;
    assert_true(shake(&old, tls_port, TLS1_3_VERSION, false));
    assert_string_equal(name_of_peer(&old), "first.example");
    assert_non_null(ask(&old, GET));

    certificate_make("next", "second.example");
    copy_file("next.pem", "server.pem"); /* the old key with the new certificate: no pair */
    assert_int_equal(ort_http_server_reload_tls(server, &diag), ORT_EFORMAT);
    assert_non_null(strstr(diag.text, "server.key"));
    assert_true(shake(&fresh, tls_port, TLS1_3_VERSION, false));
    assert_string_equal(name_of_peer(&fresh), "first.example");
    hang_up(&fresh);

    copy_file("next.key", "server.key");
    assert_int_equal(ort_http_server_reload_tls(server, &diag), ORT_OK);
    assert_true(shake(&fresh, tls_port, TLS1_2_VERSION, false));
    assert_string_equal(name_of_peer(&fresh), "second.example");
    assert_non_null(ask(&fresh, GET));
    hang_up(&fresh);
    assert_non_null(ask(&old, GET));
    hang_up(&old);

    assert_int_equal(unlink(cert), 0);
    assert_int_equal(ort_http_server_reload_tls(server, &diag), ORT_EFORMAT);
    copy_file("next.pem", "server.pem");
}

/* The clock of ours that cuts slow bodies works below TLS too. */
static void
a_slow_body_is_cut_over_tls(void **state)
{
    uint16_t port = 0;
    uint16_t unused = 0;
    wire w;
    (void)state;
    ort_http_server *s = serve(NULL, NEVER_MS, 500, &port, &unused);
    assert_true(shake(&w, port, TLS1_3_VERSION, false));
    const char *head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    assert_true(SSL_write(w.ssl, head, (int)strlen(head)) > 0);
    uint64_t begin = ort_mono_ms();
    struct pollfd p = {.fd = w.fd, .events = POLLIN};
    char text[2048];
    /* The two session tickets of TLS 1.3 come first. */
    int n = 0;
    while (ort_mono_ms() - begin < PATIENCE_MS) {
        (void)SSL_write(w.ssl, "x", 1);
        if (poll(&p, 1, 20) > 0) {
            n = SSL_read(w.ssl, text, sizeof text - 1);
            break;
        }
    }
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "HTTP/1.1 408"));
    hang_up(&w);
    ort_http_server_free(s);
}

/* A handshake that fails is no connection: a count below zero would look like a crowd. */
static void
failed_handshakes_are_not_counted(void **state)
{
    ort_http_stats stats;
    wire w;
    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_false(shake(&w, tls_port, TLS1_1_VERSION, false));
    }
    /* Those of the tests before may be counted a little longer than they are open. One below zero
     * would be four thousand million. */
    const uint64_t until = ort_mono_ms() + PATIENCE_MS;
    do {
        usleep(2000);
        ort_http_server_stats(server, &stats);
    } while (stats.connections != 0 && ort_mono_ms() < until);
    assert_int_equal(stats.connections, 0);
}

/* A thread waits for a handshake only so long, or a few silent clients would stop the server. */
static void
silent_handshakes_are_cut(void **state)
{
    int fds[12];
    uint16_t port = 0;
    uint16_t unused = 0;
    wire w;
    (void)state;
    ort_http_server *s = serve(NULL, 1000, NEVER_MS, &port, &unused);
    for (int i = 0; i < 12; i++) { /* more than there are threads */
        fds[i] = dial(port);
        if (i % 2 == 0) {
            assert_int_equal(send(fds[i], "\x16\x03\x01", 3, MSG_NOSIGNAL), 3);
        }
    }
    /* On a slow machine this client's own head may come too late: others after it are served. */
    const uint64_t until = ort_mono_ms() + PATIENCE_MS;
    bool served = false;
    while (!served && ort_mono_ms() < until) {
        if (shake(&w, port, TLS1_3_VERSION, false)) {
            served = ask(&w, GET) != NULL;
            hang_up(&w);
        }
    }
    assert_true(served);
    for (int i = 0; i < 12; i++) {
        close(fds[i]);
    }
    ort_http_server_free(s);
}

static void
clients_without_the_wanted_certificate_are_refused(void **state)
{
    uint16_t port = 0;
    uint16_t unused = 0;
    wire w;

    (void)state;
    ort_http_server *s = serve(client_cert, NEVER_MS, NEVER_MS, &port, &unused);
    assert_true(shake(&w, port, TLS1_3_VERSION, true));
    assert_non_null(ask(&w, GET));
    hang_up(&w);
    assert_false(shake(&w, port, TLS1_2_VERSION, false));
    /* In TLS 1.3 the client learns of it with its first read. */
    if (shake(&w, port, TLS1_3_VERSION, false)) {
        assert_null(ask(&w, GET));
        hang_up(&w);
    }
    ort_http_server_free(s);
}

static void
new_refuses_bad_certificate_files(void **state)
{
    static const ort_http_listener listener = {.address = "127.0.0.1:0", .tls = true};
    ort_http_options o = {.listeners = &listener,
                          .listener_count = 1,
                          .tls_cert = "/nonexistent.pem",
                          .tls_key = key,
                          .routes = routes,
                          .route_count = 1};
    ort_http_server *s = NULL;
    ort_diag diag = {""};
    (void)state;
    assert_int_equal(ort_http_server_new(&s, &o, &diag), ORT_EFORMAT);
    assert_non_null(strstr(diag.text, "/nonexistent.pem"));
    o.tls_cert = client_cert; /* not of this key */
    assert_int_equal(ort_http_server_new(&s, &o, &diag), ORT_EFORMAT);
    assert_null(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tls_1_2_and_1_3_are_served_and_older_refused),
        cmocka_unit_test(the_shim_is_what_the_library_opened),
        cmocka_unit_test(one_server_has_tls_and_plain_listeners),
        cmocka_unit_test(large_bodies_pass_both_ways),
        cmocka_unit_test(certificates_are_exchanged_while_serving),
        cmocka_unit_test(a_slow_body_is_cut_over_tls),
        cmocka_unit_test(failed_handshakes_are_not_counted),
        cmocka_unit_test(silent_handshakes_are_cut),
        cmocka_unit_test(clients_without_the_wanted_certificate_are_refused),
        cmocka_unit_test(new_refuses_bad_certificate_files),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
