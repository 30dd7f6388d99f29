/* The sockets: asking, shouting, TLS with every wrong certificate, and what strangers send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "crypto/x509.h"
#include "wire/endpoint.h"
#include "wire/messages.h"

/* ---- certificates: two hubs, so that "another CA" is a real one ---- */

typedef struct {
    char *ca, *ca_key;
    char *key, *cert;           /* named control.orthant.internal */
    char *node_key, *node_cert; /* named node-x */
} hub;

static hub ours, theirs;

static void
issue(hub *h, const char *name, char **key, char **cert)
{
    char *csr = NULL;
    ort_diag diag = {""};
    assert_int_equal(ort_x509_key_new(key, &diag), ORT_OK);
    assert_int_equal(ort_x509_csr_new(*key, &csr, &diag), ORT_OK);
    assert_int_equal(ort_x509_issue(h->ca, h->ca_key, csr, name, 30, cert, &diag), ORT_OK);
    ort_pem_free(csr);
}

static void
hub_make(hub *h)
{
    assert_int_equal(ort_x509_ca_new("test", 30, &h->ca, &h->ca_key, NULL), ORT_OK);
    issue(h, ORT_X509_CONTROL_NAME, &h->key, &h->cert);
    issue(h, "node-x", &h->node_key, &h->node_cert);
}

static void
hub_free(hub *h)
{
    ort_pem_free(h->ca);
    ort_pem_free(h->ca_key);
    ort_pem_free(h->key);
    ort_pem_free(h->cert);
    ort_pem_free(h->node_key);
    ort_pem_free(h->node_cert);
}

static int
make_hubs(void **state)
{
    (void)state;
    hub_make(&ours);
    hub_make(&theirs);
    return 0;
}

static int
free_hubs(void **state)
{
    (void)state;
    hub_free(&ours);
    hub_free(&theirs);
    return 0;
}

/* ---- helpers ---- */

/* How long what must happen is waited for: only what hangs takes so long. */
#define PATIENCE_MS 60000

static void
echo(void *arg, const void *request, size_t n, ort_buf *reply)
{
    atomic_uint *calls = arg;
    if (calls != NULL) {
        atomic_fetch_add(calls, 1);
    }
    ort_buf_puts(reply, "echo:");
    ort_buf_put(reply, request, n);
}

static ort_rep *
serve(ort_rep_options o)
{
    ort_rep *rep = NULL;
    ort_diag diag = {""};
    if (ort_rep_open(&rep, &o, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    return rep;
}

/* One call on a client of its own. */
static ort_err
ask(const char *url, const ort_tls *tls, const char *text, uint32_t timeout_ms, ort_buf *reply)
{
    ort_req *req = NULL;
    ort_diag diag = {""};
    /* Nothing is asked twice, however slow the answer. */
    const ort_req_options o = {
        .url = url, .tls = tls, .plain_ok = tls == NULL, .resend_ms = PATIENCE_MS};
    if (ort_req_open(&req, &o, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    const ort_err err = ort_req_call(req, text, strlen(text), timeout_ms, reply, &diag);
    ort_req_close(req);
    return err;
}

static void
nap_ms(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void
asking_is_answered_over_every_transport(void **state)
{
    (void)state;
    char ipc[64];
    snprintf(ipc, sizeof ipc, "ipc:///tmp/ort-endpoint-%d", (int)getpid());
    const ort_tls server = {.ca_pem = ours.ca, .cert_pem = ours.cert, .key_pem = ours.key};
    const ort_tls client = {.ca_pem = ours.ca,
                            .cert_pem = ours.node_cert,
                            .key_pem = ours.node_key,
                            .server_name = ORT_X509_CONTROL_NAME};
    const char *const urls[] = {"inproc://endpoint", ipc, "tcp://127.0.0.1:0",
                                "tls+tcp://127.0.0.1:0"};
    for (size_t i = 0; i < 4; i++) {
        ort_buf reply = {0};
        ort_rep *rep = serve((ort_rep_options){
            .url = urls[i], .tls = i == 3 ? &server : NULL, .plain_ok = i != 3, .handler = echo});
        assert_int_equal(
            ask(ort_rep_peek_url(rep), i == 3 ? &client : NULL, "hi", PATIENCE_MS, &reply), ORT_OK);
        assert_int_equal(reply.len, 7);
        assert_memory_equal(reply.data, "echo:hi", 7);
        ort_buf_fini(&reply);
        ort_rep_close(rep);
    }
}

/* Mutual authentication: the handler must never run for a peer without a certificate of this hub,
 * and a client must never talk to a server of another name or hub. */
static void
only_peers_of_this_hub_talk_to_each_other(void **state)
{
    (void)state;
    atomic_uint calls = 0;
    const ort_tls server = {.ca_pem = ours.ca, .cert_pem = ours.cert, .key_pem = ours.key};
    ort_rep *rep = serve((ort_rep_options){
        .url = "tls+tcp://127.0.0.1:0", .tls = &server, .handler = echo, .arg = &calls});
    const char *url = ort_rep_peek_url(rep);
    const ort_tls good = {.ca_pem = ours.ca,
                          .cert_pem = ours.node_cert,
                          .key_pem = ours.node_key,
                          .server_name = ORT_X509_CONTROL_NAME};
    ort_tls none = good, foreign = good, other_ca = good, other_name = good;
    none.cert_pem = none.key_pem = NULL;
    foreign.cert_pem = theirs.node_cert;
    foreign.key_pem = theirs.node_key;
    other_ca.ca_pem = theirs.ca;
    other_name.server_name = "node-x";
    const ort_tls *const bad[] = {&none, &foreign, &other_ca, &other_name};
    ort_buf reply = {0};
    assert_int_equal(ask(url, &good, "a", PATIENCE_MS, &reply), ORT_OK);
    for (size_t i = 0; i < 4; i++) {
        assert_int_not_equal(ask(url, bad[i], "a", 700, &reply), ORT_OK);
    }
    assert_int_equal(atomic_load(&calls), 1);
    ort_buf_clear(&reply);
    assert_int_equal(ask(url, &good, "b", PATIENCE_MS, &reply), ORT_OK); /* still standing */
    ort_rep_close(rep);
    ort_buf_fini(&reply);
}

/* The join listener: no client certificate, but the client still checks the server. */
static void
the_join_listener_takes_clients_without_certificates(void **state)
{
    (void)state;
    ort_buf reply = {0};
    const ort_tls server = {.cert_pem = ours.cert, .key_pem = ours.key, .any_client = true};
    ort_rep *rep =
        serve((ort_rep_options){.url = "tls+tcp://127.0.0.1:0", .tls = &server, .handler = echo});
    const char *url = ort_rep_peek_url(rep);
    const ort_tls blind = {.unverified = true};
    const ort_tls checked = {.ca_pem = ours.ca, .server_name = ORT_X509_CONTROL_NAME};
    const ort_tls wrong = {.ca_pem = theirs.ca, .server_name = ORT_X509_CONTROL_NAME};
    assert_int_equal(ask(url, &blind, "ca", PATIENCE_MS, &reply), ORT_OK);
    assert_int_equal(ask(url, &checked, "hello", PATIENCE_MS, &reply), ORT_OK);
    assert_int_not_equal(ask(url, &wrong, "hello", 700, &reply), ORT_OK);
    ort_rep_close(rep);
    ort_buf_fini(&reply);
}

static void
plain_is_for_loopback_and_for_who_asks(void **state)
{
    (void)state;
    assert_int_equal(ort_endpoint_check("tls+tcp://10.0.0.1:1", true, false, NULL), ORT_OK);
    assert_int_equal(ort_endpoint_check("tcp://127.0.0.1:1", false, true, NULL), ORT_OK);
    assert_int_equal(ort_endpoint_check("tcp://[::1]:1", false, true, NULL), ORT_OK);
    assert_int_equal(ort_endpoint_check("ipc:///tmp/x", false, true, NULL), ORT_OK);
    static const struct {
        const char *url;
        bool tls, plain;
    } bad[] = {
        {"tls+tcp://10.0.0.1:1", false, true},
        {"ipc:///tmp/x", false, false},
        {"tcp://127.0.0.1:1", false, false},
        {"tcp://10.0.0.1:1", false, true},
        {"tcp://127.0.0.1.evil.org:1", false, true},
        {"tcp://localhost.evil.org:1", false, true},
        {"tcp://*:1", false, true},
        {"tcp://127.0.0.1:1", true, true},
        {"http://127.0.0.1:1", false, true},
        {"", false, true},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(ort_endpoint_check(bad[i].url, bad[i].tls, bad[i].plain, NULL),
                         ORT_EVALIDATE);
    }
}

/* ---- load ---- */

typedef struct {
    ort_req *req;
    atomic_uint *bad;
} asker;

static void *
ask_many(void *arg)
{
    asker *a = arg;
    for (int i = 0; i < 200; i++) {
        char text[32];
        ort_buf reply = {0};
        const int n = snprintf(text, sizeof text, "%p-%d", (void *)&reply, i);
        if (ort_req_call(a->req, text, (size_t)n, PATIENCE_MS, &reply, NULL) != ORT_OK ||
            reply.len != (size_t)n + 5 || memcmp(reply.data + 5, text, (size_t)n) != 0) {
            atomic_fetch_add(a->bad, 1);
        }
        ort_buf_fini(&reply);
    }
    return NULL;
}

static void
calls_of_many_threads_get_their_own_answers(void **state)
{
    (void)state;
    atomic_uint bad = 0;
    ort_req *req = NULL;
    pthread_t threads[8];
    ort_rep *rep =
        serve((ort_rep_options){.url = "tcp://127.0.0.1:0", .plain_ok = true, .handler = echo});
    const ort_req_options o = {.url = ort_rep_peek_url(rep), .plain_ok = true};
    assert_int_equal(ort_req_open(&req, &o, NULL), ORT_OK);
    asker a = {req, &bad};
    for (int i = 0; i < 8; i++) {
        assert_int_equal(ort_thread_start(&threads[i], "ask", ask_many, &a, NULL), ORT_OK);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&bad), 0);
    ort_req_close(req);
    ort_rep_close(rep);
}

static atomic_bool held;
static atomic_uint begun;

/* Answers when it is let go. */
static void
slow(void *arg, const void *request, size_t n, ort_buf *reply)
{
    atomic_fetch_add(&begun, 1);
    while (atomic_load(&held)) {
        nap_ms(2);
    }
    echo(arg, request, n, reply);
}

/* Waits for so many; false when they do not come. */
static bool
reaches(atomic_uint *count, unsigned n)
{
    const uint64_t until = ort_mono_ms() + PATIENCE_MS;
    while (atomic_load(count) < n && ort_mono_ms() < until) {
        nap_ms(2);
    }
    return atomic_load(count) >= n;
}

typedef struct {
    ort_req *req;
    atomic_uint answered, refused;
} flood;

static void *
flood_one(void *arg)
{
    flood *f = arg;
    ort_buf reply = {0};
    ort_frame frame;
    ort_wire_error e;
    if (ort_req_call(f->req, "x", 1, PATIENCE_MS, &reply, NULL) == ORT_OK) {
        if (ort_frame_read(reply.data, reply.len, &frame, NULL) != ORT_OK) {
            atomic_fetch_add(&f->answered, 1);
        } else if (frame.type == ORT_MSG_ERROR &&
                   ort_wire_error_decode(frame.body, frame.body_len, &e, NULL) == ORT_OK &&
                   e.err == ORT_EBUSY) {
            atomic_fetch_add(&f->refused, 1);
        }
    }
    ort_buf_fini(&reply);
    return NULL;
}

/* A full queue is an error that the caller hears about at once, not a wait: while the one who is
 * served and the one in the queue wait, the six others know. */
static void
a_full_queue_answers_unavailable(void **state)
{
    (void)state;
    flood f = {0};
    pthread_t threads[8];
    ort_rep *rep = serve((ort_rep_options){.url = "tcp://127.0.0.1:0",
                                           .plain_ok = true,
                                           .handler = slow,
                                           .threads = 1,
                                           .queue_max = 1});
    const ort_req_options o = {
        .url = ort_rep_peek_url(rep), .plain_ok = true, .resend_ms = PATIENCE_MS};
    assert_int_equal(ort_req_open(&f.req, &o, NULL), ORT_OK);
    atomic_store(&held, true);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(ort_thread_start(&threads[i], "flood", flood_one, &f, NULL), ORT_OK);
    }
    assert_true(reaches(&f.refused, 1));
    atomic_store(&held, false);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&f.answered) + atomic_load(&f.refused), 8);
    assert_in_range(atomic_load(&f.refused), 1, 7);
    assert_true(atomic_load(&f.answered) >= 1);
    ort_req_close(f.req);
    ort_rep_close(rep);
}

/* A server that is not there yet, goes and comes back: callers wait or time out, and go on. */
static void
a_client_outlives_its_server(void **state)
{
    (void)state;
    char url[64];
    ort_buf reply = {0};
    ort_req *req = NULL;
    snprintf(url, sizeof url, "ipc:///tmp/ort-endpoint-late-%d", (int)getpid());
    const ort_req_options o = {.url = url, .plain_ok = true, .resend_ms = 200};
    assert_int_equal(ort_req_open(&req, &o, NULL), ORT_OK);
    const uint64_t before = ort_mono_ms();
    assert_int_equal(ort_req_call(req, "a", 1, 200, &reply, NULL), ORT_ETIMEOUT);
    assert_true(ort_mono_ms() - before >= 150);
    for (int round = 0; round < 3; round++) {
        ort_rep *rep =
            serve((ort_rep_options){.url = url, .plain_ok = true, .handler = echo, .contexts = 8});
        ort_buf_clear(&reply);
        assert_int_equal(ort_req_call(req, "b", 1, PATIENCE_MS, &reply, NULL), ORT_OK);
        assert_memory_equal(reply.data, "echo:b", 6);
        ort_rep_close(rep);
    }
    ort_req_close(req);
    ort_buf_fini(&reply);
}

static _Atomic pid_t caller; /* the thread below */

static void *
call_for_ever(void *arg)
{
    ort_buf reply = {0};
    atomic_store(&caller, gettid());
    const ort_err err = ort_req_call(arg, "x", 1, 60000, &reply, NULL);
    ort_buf_fini(&reply);
    return err == ORT_EIO ? NULL : arg;
}

/* Whether the caller sleeps: it waits for its answer. */
static bool
caller_sleeps(void)
{
    char path[64], text[256] = "";
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)atomic_load(&caller));
    FILE *stat = fopen(path, "r");
    if (stat != NULL) {
        (void)fread(text, 1, sizeof text - 1, stat);
        (void)fclose(stat);
    }
    return strstr(text, ") S ") != NULL;
}

/* A call whose answer is being made, and one that found nobody there. */
static void
closing_ends_calls_in_flight(void **state)
{
    (void)state;
    ort_rep *rep =
        serve((ort_rep_options){.url = "tcp://127.0.0.1:0", .plain_ok = true, .handler = slow});
    const char *const urls[2] = {ort_rep_peek_url(rep), "tcp://127.0.0.1:1"};
    atomic_store(&held, true);
    atomic_store(&begun, 0);
    for (int i = 0; i < 2; i++) {
        ort_req *req = NULL;
        pthread_t thread;
        void *bad = NULL;
        atomic_store(&caller, 0);
        const ort_req_options o = {.url = urls[i], .plain_ok = true, .resend_ms = PATIENCE_MS};
        assert_int_equal(ort_req_open(&req, &o, NULL), ORT_OK);
        assert_int_equal(ort_thread_start(&thread, "call", call_for_ever, req, NULL), ORT_OK);
        if (i == 0) {
            assert_true(reaches(&begun, 1));
        } else {
            while (!caller_sleeps()) {
                nap_ms(2);
            }
        }
        ort_req_close(req); /* the call says that it was closed, not that its time was over */
        pthread_join(thread, &bad);
        assert_null(bad);
    }
    atomic_store(&held, false);
    ort_rep_close(rep);
}

/* ---- strangers ---- */

static int
connect_raw(const char *url)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)strtoul(strrchr(url, ':') + 1, NULL, 10));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* A good SP greeting, then a length of 2^62: must not be allocated, must end the connection, must
 * leave the others alone. */
static void
a_giant_length_from_a_stranger_is_refused(void **state)
{
    (void)state;
    atomic_uint calls = 0;
    ort_buf reply = {0};
    char in[16];
    ort_rep *rep = serve((ort_rep_options){
        .url = "tcp://127.0.0.1:0", .plain_ok = true, .handler = echo, .arg = &calls});
    const int fd = connect_raw(ort_rep_peek_url(rep));
    const unsigned char greeting[8] = {0, 'S', 'P', 0, 0, 48, 0, 0}; /* we are a REQ */
    const unsigned char length[8] = {0x40, 0, 0, 0, 0, 0, 0, 0};
    assert_int_equal(write(fd, greeting, sizeof greeting), sizeof greeting);
    assert_int_equal(read(fd, in, 8), 8);
    assert_int_equal(write(fd, length, sizeof length), sizeof length);
    assert_true(read(fd, in, sizeof in) <= 0); /* closed on us */
    close(fd);
    for (int i = 0; i < 20; i++) { /* garbage, half greetings, resets */
        const int bad = connect_raw(ort_rep_peek_url(rep));
        assert_true(write(bad, "GET / HTTP/1.1\r\n\r\n", (size_t)(i % 18) + 1) > 0);
        close(bad);
    }
    assert_int_equal(ask(ort_rep_peek_url(rep), NULL, "a", PATIENCE_MS, &reply), ORT_OK);
    assert_int_equal(atomic_load(&calls), 1);
    ort_rep_close(rep);
    ort_buf_fini(&reply);
}

/* ---- pub/sub ---- */

static void
what_is_shouted_is_heard_and_a_stop_ends_the_listening(void **state)
{
    (void)state;
    ort_pub *pub = NULL;
    ort_sub *sub = NULL;
    ort_buf got = {0};
    const ort_pub_options listen_to = {.url = "tcp://127.0.0.1:0", .plain_ok = true};
    assert_int_equal(ort_pub_open(&pub, &listen_to, NULL), ORT_OK);
    const ort_pub_options dial = {.url = ort_pub_peek_url(pub), .plain_ok = true};
    assert_int_equal(ort_sub_open(&sub, &dial, NULL), ORT_OK);
    /* Who is not connected yet misses what is said: say it until it is heard. */
    ort_err err = ORT_ETIMEOUT;
    for (int i = 0; i < 200 && err == ORT_ETIMEOUT; i++) {
        assert_int_equal(ort_pub_send(pub, "news", 4), ORT_OK);
        err = ort_sub_recv(sub, 50, &got);
    }
    assert_int_equal(err, ORT_OK);
    assert_memory_equal(got.data, "news", 4);
    ort_sub_stop(sub);
    assert_int_equal(ort_sub_recv(sub, PATIENCE_MS, &got), ORT_EIO);
    ort_sub_close(sub);
    ort_pub_close(pub);
    ort_buf_fini(&got);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asking_is_answered_over_every_transport),
        cmocka_unit_test(only_peers_of_this_hub_talk_to_each_other),
        cmocka_unit_test(the_join_listener_takes_clients_without_certificates),
        cmocka_unit_test(plain_is_for_loopback_and_for_who_asks),
        cmocka_unit_test(calls_of_many_threads_get_their_own_answers),
        cmocka_unit_test(a_full_queue_answers_unavailable),
        cmocka_unit_test(a_client_outlives_its_server),
        cmocka_unit_test(closing_ends_calls_in_flight),
        cmocka_unit_test(a_giant_length_from_a_stranger_is_refused),
        cmocka_unit_test(what_is_shouted_is_heard_and_a_stop_ends_the_listening),
    };
    return cmocka_run_group_tests(tests, make_hubs, free_hubs);
}
