/* Forwarding between two nodes: as if local, never twice, bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "crypto/x509.h"
#include "routing/forward.h"

static atomic_uint calls;
static atomic_bool held; /* /slow answers when it is let go */

/* Answers with what it was asked. */
static void
mirror(void *arg, const ort_forward_request *request, ort_forward_reply *reply, ort_buf *body_out)
{
    (void)arg;
    atomic_fetch_add(&calls, 1);
    if (strcmp(request->target, "/slow") == 0) {
        while (atomic_load(&held)) {
            usleep(2000);
        }
    }
    ort_buf_printf(body_out, "%s %s hops=%u id=%s from=%s ", request->method, request->target,
                   request->hops, request->request_id, request->remote);
    for (size_t i = 0; i < request->header_count; i++) {
        ort_buf_printf(body_out, "%s=%s ", request->headers[i].name, request->headers[i].value);
    }
    ort_buf_put(body_out, request->body, request->body_len);
    static const ort_forward_header type = {"content-type", "text/plain"};
    reply->status = 207;
    reply->headers = &type;
    reply->header_count = 1;
}

static dp_forward_server *
serve(const char *url, const ort_tls *tls, uint32_t threads, uint32_t queue_max)
{
    dp_forward_server *s = NULL;
    ort_diag diag = {""};
    const dp_forward_server_options o = {.url = url,
                                         .tls = tls,
                                         .plain_ok = tls == NULL,
                                         .threads = threads,
                                         .queue_max = queue_max,
                                         .handler = mirror};
    if (dp_forward_server_open(&s, &o, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    return s;
}

static const ort_forward_header some_headers[2] = {{"api-key", "k"}, {"accept", "*/*"}};
static const ort_forward_request some_request = {.timeout_ms = 60000,
                                                 .method = "PUT",
                                                 .target = "/collections/a?wait=true",
                                                 .request_id = "r-1",
                                                 .remote = "10.0.0.9",
                                                 .headers = some_headers,
                                                 .header_count = 2,
                                                 .body = "{}",
                                                 .body_len = 2};

static void
a_request_goes_there_and_comes_back_whole(void **state)
{
    (void)state;
    dp_forward *f = NULL;
    ort_forward_reply r;
    ort_diag diag = {""};
    dp_forward_server *s = serve("tcp://127.0.0.1:0", NULL, 4, 16);
    const dp_node home = {.id = {7}, .forward = dp_forward_server_peek_url(s)};
    const dp_forward_options o = {.plain_ok = true};
    assert_int_equal(dp_forward_new(&f, &o, NULL), ORT_OK);
    if (dp_forward_call(f, &home, &some_request, &r, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    const char want[] = "PUT /collections/a?wait=true hops=1 id=r-1 from=10.0.0.9 api-key=k "
                        "accept=*/* {}";
    assert_int_equal(r.status, 207);
    assert_int_equal(r.body_len, sizeof want - 1);
    assert_memory_equal(r.body, want, sizeof want - 1);
    assert_int_equal(r.header_count, 1);
    assert_string_equal(r.headers[0].value, "text/plain");
    ort_forward_reply_fini(&r);

    /* A body of the largest size that the API takes. */
    ort_forward_request big = some_request;
    char *body = calloc(1, ORT_BODY_BYTES_MAX);
    assert_non_null(body);
    big.body = body;
    big.body_len = ORT_BODY_BYTES_MAX;
    assert_int_equal(dp_forward_call(f, &home, &big, &r, &diag), ORT_OK);
    assert_true(r.body_len > ORT_BODY_BYTES_MAX);
    ort_forward_reply_fini(&r);
    free(body);
    dp_forward_free(f);
    dp_forward_server_close(s);
}

/* Two tables that disagree would send a request round for ever. */
static void
a_forwarded_request_is_not_forwarded_again(void **state)
{
    (void)state;
    dp_forward *f = NULL;
    ort_forward_reply r;
    dp_forward_server *s = serve("inproc://forward-loop", NULL, 1, 4);
    const dp_node home = {.id = {7}, .forward = dp_forward_server_peek_url(s)};
    const dp_node silent = {.id = {8}, .forward = ""};
    const dp_forward_options o = {.plain_ok = true};
    ort_forward_request again = some_request;
    again.hops = 1;
    atomic_store(&calls, 0);
    assert_int_equal(dp_forward_new(&f, &o, NULL), ORT_OK);
    assert_int_equal(dp_forward_call(f, &home, &again, &r, NULL), ORT_EINVAL);
    assert_int_equal(dp_forward_call(f, &silent, &some_request, &r, NULL), ORT_EBUSY);
    assert_int_equal(atomic_load(&calls), 0);
    dp_forward_free(f);
    dp_forward_server_close(s);
}

/* NNG sends a request again when the connection is lost under it: the same frame, twice. */
static void
a_frame_that_comes_twice_is_run_once(void **state)
{
    (void)state;
    ort_req *req = NULL;
    ort_buf body = {0}, frame = {0}, reply = {0};
    ort_frame read;
    ort_wire_error e;
    dp_forward_server *s = serve("inproc://forward-twice", NULL, 1, 4);
    const ort_req_options o = {.url = dp_forward_server_peek_url(s), .plain_ok = true};
    assert_int_equal(ort_req_open(&req, &o, NULL), ORT_OK);
    ort_forward_request m = some_request;
    m.hops = 1;
    assert_int_equal(ort_forward_request_encode(&m, &body), ORT_OK);
    const ort_frame ask = {.type = ORT_MSG_FORWARD,
                           .incarnation = 5,
                           .sequence = 6,
                           .body = body.data,
                           .body_len = body.len};
    assert_int_equal(ort_frame_write(&ask, NULL, &frame), ORT_OK);
    atomic_store(&calls, 0);
    assert_int_equal(ort_req_call(req, frame.data, frame.len, 60000, &reply, NULL), ORT_OK);
    assert_int_equal(ort_frame_read(reply.data, reply.len, &read, NULL), ORT_OK);
    assert_int_equal(read.type, ORT_MSG_FORWARD_REPLY);
    ort_buf_clear(&reply);
    assert_int_equal(ort_req_call(req, frame.data, frame.len, 60000, &reply, NULL), ORT_OK);
    assert_int_equal(ort_frame_read(reply.data, reply.len, &read, NULL), ORT_OK);
    assert_int_equal(read.type, ORT_MSG_ERROR);
    assert_int_equal(ort_wire_error_decode(read.body, read.body_len, &e, NULL), ORT_OK);
    assert_int_equal(e.err, ORT_ETIMEOUT);
    assert_int_equal(atomic_load(&calls), 1);
    ort_req_close(req);
    dp_forward_server_close(s);
    ort_buf_fini(&body);
    ort_buf_fini(&frame);
    ort_buf_fini(&reply);
}

typedef struct {
    dp_forward *f;
    const dp_node *home;
    atomic_uint done, busy, other;
} crowd;

static void *
one_of_many(void *arg)
{
    crowd *c = arg;
    ort_forward_reply r;
    ort_forward_request m = some_request;
    m.target = "/slow";
    const ort_err err = dp_forward_call(c->f, c->home, &m, &r, NULL);
    if (err == ORT_OK) {
        ort_forward_reply_fini(&r);
        atomic_fetch_add(&c->done, 1);
    } else {
        atomic_fetch_add(err == ORT_EBUSY ? &c->busy : &c->other, 1);
    }
    return NULL;
}

/* One slow node must not take every place: three get one, and the others hear so while those wait.
 */
static void
forwards_to_one_node_are_bounded(void **state)
{
    (void)state;
    crowd c = {0};
    pthread_t threads[12];
    dp_forward_server *s = serve("tcp://127.0.0.1:0", NULL, 8, 16);
    const dp_node home = {.id = {7}, .forward = dp_forward_server_peek_url(s)};
    const dp_forward_options o = {.plain_ok = true, .in_flight_node_max = 3};
    assert_int_equal(dp_forward_new(&c.f, &o, NULL), ORT_OK);
    c.home = &home;
    atomic_store(&held, true);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(ort_thread_start(&threads[i], "crowd", one_of_many, &c, NULL), ORT_OK);
    }
    const uint64_t until = ort_mono_ms() + 60000;
    while (atomic_load(&c.busy) < 9 && ort_mono_ms() < until) {
        usleep(2000);
    }
    atomic_store(&held, false);
    for (int i = 0; i < 12; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&c.other), 0);
    assert_int_equal(atomic_load(&c.busy), 9);
    assert_int_equal(atomic_load(&c.done), 3);
    dp_forward_stats stats;
    dp_forward_stats_get(c.f, &stats);
    assert_true(stats.in_flight == 0 && stats.refused_total == atomic_load(&c.busy));
    dp_forward_free(c.f);
    dp_forward_server_close(s);
}

/* And no more: the whole time a forward may take by itself is a minute. */
static void
a_node_that_does_not_answer_costs_its_time_and_no_more(void **state)
{
    (void)state;
    dp_forward *f = NULL;
    ort_forward_reply r;
    ort_forward_request m = some_request;
    const dp_node nobody = {.id = {7}, .forward = "tcp://127.0.0.1:1"};
    const dp_forward_options o = {.plain_ok = true};
    m.timeout_ms = 100;
    assert_int_equal(dp_forward_new(&f, &o, NULL), ORT_OK);
    const uint64_t before = ort_mono_ms();
    assert_int_equal(dp_forward_call(f, &nobody, &m, &r, NULL), ORT_ETIMEOUT);
    assert_in_range(ort_mono_ms() - before, 100, 30000);
    dp_forward_free(f);
}

/* ---- TLS: the certificate names the node, so a wrong node is not talked to ---- */

static void
issue(const char *ca, const char *ca_key, ort_node_id node, char **key, char **cert)
{
    char name[ORT_X509_NAME_BYTES];
    char *csr = NULL;
    ort_x509_node_name(node, name);
    assert_int_equal(ort_x509_key_new(key, NULL), ORT_OK);
    assert_int_equal(ort_x509_csr_new(*key, &csr, NULL), ORT_OK);
    assert_int_equal(ort_x509_issue(ca, ca_key, csr, name, 30, cert, NULL), ORT_OK);
    ort_pem_free(csr);
}

static void
a_request_for_one_node_is_not_given_to_another(void **state)
{
    (void)state;
    char *ca = NULL, *ca_key = NULL, *key[2] = {NULL}, *cert[2] = {NULL};
    char *again_key = NULL, *again_cert = NULL;
    dp_forward *f = NULL;
    ort_forward_reply r;
    ort_forward_request m = some_request;
    assert_int_equal(ort_x509_ca_new("hub", 30, &ca, &ca_key, NULL), ORT_OK);
    issue(ca, ca_key, (ort_node_id){1}, &key[0], &cert[0]);
    issue(ca, ca_key, (ort_node_id){2}, &key[1], &cert[1]);
    const ort_tls server = {.ca_pem = ca, .cert_pem = cert[1], .key_pem = key[1]};
    const ort_tls client = {.ca_pem = ca, .cert_pem = cert[0], .key_pem = key[0]};
    dp_forward_server *s = serve("tls+tcp://127.0.0.1:0", &server, 2, 4);
    const dp_node right = {.id = {2}, .forward = dp_forward_server_peek_url(s)};
    const dp_node wrong = {.id = {3}, .forward = dp_forward_server_peek_url(s)};
    const dp_forward_options o = {.tls = &client};
    assert_int_equal(dp_forward_new(&f, &o, NULL), ORT_OK);
    atomic_store(&calls, 0);
    assert_int_equal(dp_forward_call(f, &right, &m, &r, NULL), ORT_OK);
    ort_forward_reply_fini(&r);
    /* A renewed certificate: the next forward uses it, on a new connection. */
    issue(ca, ca_key, (ort_node_id){1}, &again_key, &again_cert);
    const ort_tls renewed = {.ca_pem = ca, .cert_pem = again_cert, .key_pem = again_key};
    assert_int_equal(dp_forward_set_tls(f, &renewed), ORT_OK);
    assert_int_equal(dp_forward_call(f, &right, &m, &r, NULL), ORT_OK);
    ort_forward_reply_fini(&r);
    m.timeout_ms = 100;
    assert_int_not_equal(dp_forward_call(f, &wrong, &m, &r, NULL), ORT_OK);
    assert_int_equal(atomic_load(&calls), 2);
    ort_pem_free(again_key);
    ort_pem_free(again_cert);
    dp_forward_free(f);
    dp_forward_server_close(s);
    for (int i = 0; i < 2; i++) {
        ort_pem_free(key[i]);
        ort_pem_free(cert[i]);
    }
    ort_pem_free(ca);
    ort_pem_free(ca_key);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_goes_there_and_comes_back_whole),
        cmocka_unit_test(a_forwarded_request_is_not_forwarded_again),
        cmocka_unit_test(a_frame_that_comes_twice_is_run_once),
        cmocka_unit_test(forwards_to_one_node_are_bounded),
        cmocka_unit_test(a_node_that_does_not_answer_costs_its_time_and_no_more),
        cmocka_unit_test(a_request_for_one_node_is_not_given_to_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
