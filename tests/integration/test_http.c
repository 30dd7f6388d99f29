/* The HTTP front over real sockets: what clients may send, and what hostile ones do. What takes its
 * time is in test_http_time.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/json_read.h"
#include "http_front.h"

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
        assert_string_equal(front.last_refused, "bad-path");
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
    h = ask_for("HEAD /many HTTP/1.1\r\n" HOST "\r\nGET /readyz HTTP/1.1\r\n" HOST "\r\n", "HG");
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
    h = ask_for("HEAD /vectors HTTP/1.1\r\n" HOST "Accept-Encoding: gzip\r\n\r\n"
                "GET /vectors HTTP/1.1\r\n" HOST "Accept-Encoding: gzip\r\n\r\n",
                "HG");
    assert_int_equal(answers_in(h), 2);
}

/* "hello, hello, hello: a body in gzip" */
static const unsigned char packed_body[] = {
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9,
    0xd7, 0x51, 0xc8, 0x40, 0xa2, 0xac, 0x14, 0x12, 0x15, 0x92, 0xf2, 0x53, 0x2a, 0x15, 0x32,
    0xf3, 0x14, 0xd2, 0xab, 0x32, 0x0b, 0x00, 0x1e, 0x2e, 0x1b, 0x93, 0x23, 0x00, 0x00, 0x00};

/* A request whose body is those bytes. */
static heard *
send_packed(const char *coding, const unsigned char *body, size_t len)
{
    char head[200];
    int fd = dial();
    snprintf(head, sizeof head,
             "POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: %s\r\nContent-Length: %zu\r\n\r\n",
             coding, len);
    say(fd, head);
    say_n(fd, (const char *)body, len);
    heard *h = hear(fd, "G");
    close(fd);
    return h;
}

/* A packed body is unpacked before anybody sees it, and only as far as a body may be long: what it
 * says of its length is checked before it costs anything. */
static void
packed_bodies_are_unpacked_within_their_bound(void **state)
{
    unsigned char bent[sizeof packed_body];
    static const char *const others[] = {"br", "deflate", "zstd", "gzip, gzip"};

    (void)state;
    heard *h = send_packed("gzip", packed_body, sizeof packed_body);
    expect(h, 200, false);
    assert_true(has(h, "hello, hello, hello: a body in gzip"));
    assert_true(has(send_packed("X-Gzip", packed_body, sizeof packed_body), "a body in gzip"));
    assert_int_equal(status_of(send_packed("identity", (const unsigned char *)"plain", 5)), 200);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(status_of(send_packed(others[i], packed_body, sizeof packed_body)), 400);
    }
    for (size_t cut = 1; cut < sizeof packed_body; cut += 9) {
        assert_int_equal(status_of(send_packed("gzip", packed_body, cut)), 400);
    }
    for (size_t at = 0; at < sizeof packed_body; at += 4) {
        memcpy(bent, packed_body, sizeof bent);
        bent[at] ^= 0x40;
        const int status = status_of(send_packed("gzip", bent, sizeof bent));
        /* Header fields that say nothing may be anything; a length may be over the limit. */
        assert_true(status == 400 || status == 413 || (status == 200 && at < 10));
    }
    memcpy(bent, packed_body, sizeof bent);
    memcpy(bent + sizeof bent - 4, "\x00\x80\x00\x00",
           4); /* 32 KiB: as far as so few bytes can go */
    assert_int_equal(status_of(send_packed("gzip", bent, sizeof bent)), 400);
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
    heard *h = ask_for("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nfirst"
                       "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                       "6\r\nsecond\r\n0\r\n\r\n"
                       "GET /collections/third HTTP/1.1\r\n" HOST "\r\n",
                       "GGG");
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
    heard *h = hear(fd, "C");
    assert_string_equal(h->text, "HTTP/1.1 100 Continue\r\n\r\n");
    say(fd, "hello");
    h = hear(fd, "G");
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
    heard *h = hear(fd, "G");
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
        int before = front.admits;
        (void)snprintf(text, sizeof text, "POST /echo HTTP/1.1\r\n" HOST "%s\r\nhello", bad[i]);
        heard *h = ask(text);
        if (status_of(h) / 100 != 4 || !h->closed) {
            print_error("accepted: %s", bad[i]);
        }
        /* The library itself has 411 for some of them. */
        expect(h, status_of(h) == 411 ? 411 : 400, true);
        assert_int_equal(answers_in(h), 1); /* the body is not taken for a request */
        assert_int_equal(front.admits, before);
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
        heard *h = hear(fd, "");
        close(fd);
        if (status_of(h) != 400 && status_of(h) != 408) {
            print_error("accepted: %s\n", bad[i]);
        }
        assert_true(status_of(h) == 400 || status_of(h) == 408);
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
a_body_that_stops_is_refused_and_closed(void **state)
{
    (void)state;
    int fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\nhalf");
    shutdown(fd, SHUT_WR);
    heard *h = hear(fd, "");
    assert_true(status_of(h) == 400 || status_of(h) == 408);
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
    assert_true(has(h, "Connection: close\r\n"));
    /* In chunks nobody knows before. */
    memset(piece, 'x', sizeof piece);
    int fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n493E0\r\n");
    say_n(fd, piece, sizeof piece);
    h = hear(fd, "G");
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
    close(fd);
    /* One that listens while it sends hears it. */
    fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "api-key: bad\r\nContent-Length: 1073741824\r\n\r\nabc");
    heard *h = hear(fd, "G");
    expect(h, 429, true);
    assert_true(has(h, "Connection: close\r\n"));
    close(fd);
}

/* A small refused body is dropped, so that a rate-limited client keeps its connection. */
static void
an_early_refusal_keeps_the_connection_when_little_is_left(void **state)
{
    (void)state;
    heard *h =
        ask_for("POST /echo HTTP/1.1\r\n" HOST "api-key: bad\r\nContent-Length: 5\r\n\r\nhello"
                "GET /collections/next HTTP/1.1\r\n" HOST "\r\n",
                "GG");
    expect(h, 429, false);
    assert_int_equal(answers_in(h), 2);
    assert_true(has(h, "name=next"));
}

/* ---- set-up ---- */

static void
nothing(ort_http_req *req, void *user)
{
    (void)req;
    (void)user;
}

static void
new_refuses_what_cannot_work(void **state)
{
    static const ort_http_route doubled[] = {
        {.method = ORT_HTTP_GET, .pattern = "/a/{x}", .handler = nothing},
        {.method = ORT_HTTP_GET, .pattern = "/a/{y}", .handler = nothing},
    };
    static const ort_http_route malformed = {
        .method = ORT_HTTP_GET, .pattern = "a", .handler = nothing};
    ort_http_listener listener = {.address = "0.0.0.0:0"};
    ort_http_options o = front_options();
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
    o = front_options();
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
    ort_http_options o = front_options();
    ort_http_server *s = NULL;
    ort_diag diag = {""};

    (void)state;
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", (unsigned)front.port);
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
    assert_int_equal(ort_http_dispatch(front.server, &m, &answer, NULL), ORT_OK);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.body.len, 5);
    assert_memory_equal(answer.body.data, "hello", 5);
    ort_http_answer_fini(&answer);
    m.headers = bad_key;
    m.header_count = 1;
    assert_int_equal(ort_http_dispatch(front.server, &m, &answer, NULL), ORT_OK);
    assert_int_equal(answer.status, 429);
    assert_non_null(strstr(ort_buf_peek_cstr(&answer.headers), "Retry-After: 3\r\n"));
    ort_http_answer_fini(&answer);
    m.method = "GET";
    m.target = "/many";
    m.header_count = 0;
    m.body_len = 0;
    assert_int_equal(ort_http_dispatch(front.server, &m, &answer, NULL), ORT_OK);
    assert_int_equal(answer.body.len, 10000);
    ort_http_answer_fini(&answer);
    m.target = "no slash";
    assert_int_equal(ort_http_dispatch(front.server, &m, &answer, NULL), ORT_EINVAL);
}

static void
open_connections_are_counted(void **state)
{
    int fds[5];

    (void)state;
    front_wait_connections(
        0); /* those of the tests before are closed, and counted a little longer */
    for (int i = 0; i < 5; i++) {
        fds[i] = dial();
        say(fds[i], "GET / HTTP/1.1\r\n" HOST "\r\n");
        expect(hear(fds[i], "G"), 200, false);
    }
    front_wait_connections(5);
    front_wait_in_flight(0);
    for (int i = 0; i < 5; i++) {
        close(fds[i]);
    }
    front_wait_connections(0);
}

/* Every request is seen by done exactly once, however it ended. */
static void
done_sees_every_request_once(void **state)
{
    ort_http_stats before, after;

    (void)state;
    front_wait_connections(0); /* nothing of other tests is still to be seen */
    ort_http_server_stats(front.server, &before);
    const int dones = front.dones;
    const int probes = front.probes;
    (void)ask("GET /nowhere HTTP/1.1\r\n" HOST "\r\n");
    (void)ask("GET /collections/%zz HTTP/1.1\r\n" HOST "\r\n");
    (void)ask("POST /echo HTTP/1.1\r\n" HOST "Expect: x\r\n\r\n");
    (void)ask("GET / HTTP/1.1\r\n" HOST "\r\n");
    front_wait_connections(0);
    ort_http_server_stats(front.server, &after);
    assert_int_equal(front.dones - dones, 4);
    assert_int_equal(after.requests - before.requests, 4 + front.probes - probes);
    assert_int_equal(after.in_flight, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_and_queries_are_decoded_once),
        cmocka_unit_test(literal_segments_win_over_parameters),
        cmocka_unit_test(dot_segments_are_not_resolved),
        cmocka_unit_test(bad_paths_are_refused),
        cmocka_unit_test(unknown_paths_and_methods),
        cmocka_unit_test(head_answers_as_get_without_body),
        cmocka_unit_test(answers_are_packed_for_who_takes_it),
        cmocka_unit_test(packed_bodies_are_unpacked_within_their_bound),
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
        cmocka_unit_test(a_body_that_stops_is_refused_and_closed),
        cmocka_unit_test(a_body_over_the_limit_is_refused_unread),
        cmocka_unit_test(an_early_refusal_does_not_swallow_the_body),
        cmocka_unit_test(an_early_refusal_keeps_the_connection_when_little_is_left),
        cmocka_unit_test(new_refuses_what_cannot_work),
        cmocka_unit_test(a_taken_port_is_named),
        cmocka_unit_test(dispatch_runs_a_request_without_a_connection),
        cmocka_unit_test(open_connections_are_counted),
        cmocka_unit_test(done_sees_every_request_once),
    };
    return cmocka_run_group_tests_name("http", tests, front_up, front_down);
}
