/* Requests that ask for the world: each ends in a clear error or in bounded work, and the node
 * answers the next one. What must not happen is a crash, a 500, or memory that grows with the wish.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/buf.h"
#include "support/test_node.h"

#define POINTS 3000

static test_node node;
static test_tenant tenants[2] = {{.name = "a"}, {.name = "b"}};
#define KEY (tenants[0].keys[0].token)
#define NEIGHBOUR (tenants[1].keys[0].token)
#define C "/collections/c"

/* --- memory -------------------------------------------------------------------------------------
 *
 * What is allocated and not freed, in this process: the node and the test, whose bodies are the
 * largest part. */

#ifdef __SANITIZE_ADDRESS__
/* Of the run-time library; gcc has no header for it. */
size_t __sanitizer_get_current_allocated_bytes(void);
static size_t
live_bytes(void)
{
    return __sanitizer_get_current_allocated_bytes();
}
#else
static size_t
live_bytes(void)
{
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}
#endif

/* A request may take: its body, the values found in it, a filter's tree made of that, an answer. */
#define PEAK_BYTES_MAX ((size_t)192 << 20)
/* Caches that fill once: connections, compressors, threads' scratches. */
#define KEPT_BYTES_MAX ((size_t)16 << 20)

static size_t live_before;
static atomic_size_t peak;
static atomic_bool watching;
static pthread_t watcher, other;

static void *
watch(void *arg)
{
    (void)arg;
    while (atomic_load(&watching)) {
        const size_t now = live_bytes();
        if (now > atomic_load(&peak)) {
            atomic_store(&peak, now);
        }
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return NULL;
}

/* A tenant beside, who asks small things all the time and is always answered. */
static atomic_uint neighbour_asked;

static void *
neighbour(void *arg)
{
    (void)arg;
    while (atomic_load(&watching)) {
        free(test_call(node.port, NEIGHBOUR, 200, "POST", C "/points/query",
                       "{\"query\":[1,0],\"limit\":3}"));
        atomic_fetch_add(&neighbour_asked, 1);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return NULL;
}

static int
start(void **state)
{
    ort_buf body = {0};

    (void)state;
    node.body_bytes_max = 16u << 20;
    test_node_start(&node, tenants, 2);
    free(test_call(node.port, NEIGHBOUR, 200, "PUT", C,
                   "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"}}"));
    free(test_call(node.port, NEIGHBOUR, 200, "PUT", C "/points?wait=true",
                   "{\"points\":[{\"id\":1,\"vector\":[1,0]}]}"));
    free(test_call(node.port, KEY, 200, "PUT", C,
                   "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"}}"));
    for (int first = 0; first < POINTS; first += 1000) {
        ort_buf_clear(&body);
        ort_buf_puts(&body, "{\"points\":[");
        for (int i = first; i < first + 1000; i++) {
            ort_buf_printf(
                &body,
                "%s{\"id\":%d,\"vector\":[%d,1],\"payload\":{\"k\":\"value-%d\",\"n\":%d,\"g\":[%d,"
                "%d],"
                "\"at\":{\"lon\":%d.5,\"lat\":1},\"text\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\"}}",
                i > first ? "," : "", i, i % 17, i, i, i, i + 1, i % 90);
        }
        ort_buf_puts(&body, "]}");
        free(
            test_call(node.port, KEY, 200, "PUT", C "/points?wait=true", ort_buf_peek_cstr(&body)));
    }
    free(test_call(node.port, KEY, 200, "PUT", C "/index?wait=true",
                   "{\"field_name\":\"k\",\"field_schema\":\"keyword\"}"));
    free(test_call(node.port, KEY, 200, "PUT", C "/index?wait=true",
                   "{\"field_name\":\"n\",\"field_schema\":\"integer\"}"));
    ort_buf_fini(&body);
    live_before = live_bytes();
    atomic_store(&watching, true);
    assert_int_equal(pthread_create(&watcher, NULL, watch, NULL), 0);
    assert_int_equal(pthread_create(&other, NULL, neighbour, NULL), 0);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    test_node_stop(&node);
    return 0;
}

/* Any answer but a failure of the server's own; least and most say which. */
static void
within(int least, int most, const char *method, const char *target, const char *body)
{
    test_answer answer = test_request(node.port, KEY, method, target, body);

    if (answer.status < least || answer.status > most) {
        fail_msg("%s %s %.120s: %d %.300s", method, target, body, answer.status,
                 answer.body != NULL ? answer.body : "");
    }
    test_answer_fini(&answer);
    test_expect(node.port, NULL, 200, "healthz", "GET", "/healthz", NULL);
}

static void
endless_limits_are_cut(void **state)
{
    (void)state;
    within(200, 200, "POST", C "/points/query", "{\"query\":[1,0],\"limit\":999999999}");
    within(200, 200, "POST", C "/points/query",
           "{\"query\":[1,0],\"limit\":999999999,\"offset\":999999999999}");
    within(200, 200, "POST", C "/points/query", "{\"limit\":18446744073709551615}");
    within(200, 200, "POST", C "/points/search", "{\"vector\":[1,0],\"limit\":999999999}");
    within(200, 200, "POST", C "/points/scroll", "{\"limit\":999999999}");
    within(200, 200, "POST", C "/points/scroll", "{\"limit\":999999999,\"order_by\":\"n\"}");
    within(200, 200, "POST", C "/facet", "{\"key\":\"k\",\"limit\":999999999}");
    within(200, 200, "POST", C "/points/query/groups",
           "{\"query\":[1,0],\"group_by\":\"g\",\"limit\":999999999,\"group_size\":999999999}");
    within(200, 400, "POST", C "/points/search/matrix/pairs",
           "{\"sample\":999999999,\"limit\":999999999}");
    within(200, 200, "POST", C "/points/query",
           "{\"prefetch\":[{\"query\":[1,0],\"limit\":999999999},{\"query\":[0,1],\"limit\":"
           "999999999}],"
           "\"query\":{\"fusion\":\"rrf\"},\"limit\":999999999}");
    within(422, 422, "POST", C "/points/query",
           "{\"query\":{\"nearest\":[1,0],\"mmr\":{\"candidates_limit\":999999999}},\"limit\":5}");
    within(200, 200, "POST", C "/points/query",
           "{\"query\":{\"nearest\":[1,0],\"mmr\":{}},\"limit\":999999999}");
    within(200, 200, "POST", C "/points/query",
           "{\"query\":[1,0],\"params\":{\"hnsw_ef\":999999999},\"limit\":5}");
    within(200, 200, "POST", C "/points/query",
           "{\"query\":{\"sample\":\"random\"},\"limit\":999999999}");
}

/* The same text many times. */
static char *
repeated(const char *before, const char *part, const char *between, int times, const char *after)
{
    ort_buf buf = {0};

    ort_buf_puts(&buf, before);
    for (int i = 0; i < times; i++) {
        ort_buf_puts(&buf, i > 0 ? between : "");
        ort_buf_puts(&buf, part);
    }
    ort_buf_puts(&buf, after);
    char *copy = strdup(ort_buf_peek_cstr(&buf));
    assert_non_null(copy);
    ort_buf_fini(&buf);
    return copy;
}

static void
with(int least, int most, const char *target, char *body)
{
    within(least, most, "POST", target, body);
    free(body);
}

static char *
nested(const char *open, int times, const char *middle, const char *close)
{
    char *head = repeated("", open, "", times, middle), *all = repeated(head, close, "", times, "");

    free(head);
    return all;
}

static void
depth_and_breadth_are_bounded(void **state)
{
    (void)state;
    with(400, 422, C "/points/count", nested("{\"filter\":{\"must\":[", 10000, "1", "]}}"));
    with(400, 422, C "/points/query", nested("{\"prefetch\":{\"x\":1,", 10000, "\"y\":1", "}}"));
    with(400, 422, C "/points/query",
         nested("{\"prefetch\":", 70, "{\"query\":[1,0]}", ",\"query\":[1,0]}"));
    with(400, 422, C "/points/query",
         repeated("{\"query\":{\"fusion\":\"rrf\"},\"prefetch\":[",
                  "{\"query\":[1,0],\"limit\":1000000}", ",", 10000, "]}"));
    with(200, 422, C "/points/count",
         repeated("{\"filter\":{\"should\":[", "{\"key\":\"n\",\"match\":{\"value\":1}}", ",",
                  100000, "]}}"));
    with(200, 422, C "/points/query/batch",
         repeated("{\"searches\":[", "{\"query\":[1,0],\"limit\":1000000}", ",", 100000, "]}"));
    with(200, 422, C "/points/query",
         nested("{\"query\":{\"formula\":{\"sum\":[", 5000, "1", "]}}}"));
    with(
        200, 422, C "/points/query",
        repeated("{\"prefetch\":{\"query\":[1,0],\"limit\":1000},\"query\":{\"formula\":{\"sum\":[",
                 "{\"mult\":[\"$score\",2]}", ",", 50000, "]}}}"));
}

static void
long_lists_are_bounded(void **state)
{
    (void)state;
    with(200, 422, C "/points", repeated("{\"ids\":[", "7", ",", 1000000, "]}"));
    with(200, 422, C "/points/count",
         repeated("{\"filter\":{\"must\":[{\"has_id\":[", "7", ",", 1000000, "]}]}}"));
    with(422, 422, C "/points/count",
         repeated("{\"filter\":{\"must\":[{\"has_id\":[", "1234567", ",", 1100000, "]}]}}"));
    with(200, 422, C "/points/count",
         repeated("{\"filter\":{\"must\":[{\"key\":\"n\",\"match\":{\"any\":[", "7", ",", 1000000,
                  "]}}]}}"));
    with(200, 422, C "/points/scroll",
         repeated("{\"limit\":100,\"with_payload\":[", "\"a.b.c[].d\"", ",", 100000, "]}"));
    with(200, 422, C "/points/recommend",
         repeated("{\"limit\":5,\"positive\":[", "7", ",", 100000, "]}"));
    with(200, 422, C "/points/query",
         repeated("{\"query\":{\"context\":[", "{\"positive\":7,\"negative\":8}", ",", 50000,
                  "]}}"));
    with(200, 422, "/collections/aliases",
         repeated("{\"actions\":[",
                  "{\"create_alias\":{\"collection_name\":\"c\",\"alias_name\":\"x\"}}", ",", 50000,
                  "]}"));
}

/* A filter may be as costly as it likes: the request ends when it said it would. */
static void
filters_end_at_the_deadline(void **state)
{
    (void)state;
    char *body =
        repeated("{\"filter\":{\"min_should\":{\"min_count\":4000000000,\"conditions\":[",
                 "{\"key\":\"text\",\"match\":{\"text\":\"aaaaaaaaaaaac\"}}", ",", 4000, "]}}}");
    for (int i = 0; i < 3; i++) {
        static const char *const targets[] = {
            C "/points/count?timeout=1", C "/points/scroll?timeout=1", C "/points/query?timeout=1"};
        test_answer answer = test_request(node.port, KEY, "POST", targets[i], body);
        assert_true(answer.status == 200 || answer.status == 408); /* a fast machine may be done */
        if (answer.status == 408) {
            assert_non_null(strstr(answer.body, "Timeout: "));
        }
        test_answer_fini(&answer);
    }
    free(body);
}

static void
heavy_conditions_are_bounded(void **state)
{
    (void)state;
    /* A ring of 300,000 corners around every point, and one of as many as may be. */
    with(422, 422, C "/points/count",
         repeated("{\"filter\":{\"must\":[{\"key\":\"at\",\"geo_polygon\":{\"exterior\":{"
                  "\"points\":[{\"lon\":0,"
                  "\"lat\":0},",
                  "{\"lon\":80,\"lat\":80}", ",", 300000, ",{\"lon\":0,\"lat\":0}]}}}]}}"));
    with(200, 200, C "/points/count",
         repeated("{\"filter\":{\"must\":[{\"key\":\"at\",\"geo_polygon\":{\"exterior\":{"
                  "\"points\":[{\"lon\":0,"
                  "\"lat\":0},",
                  "{\"lon\":80,\"lat\":80}", ",", 16382, ",{\"lon\":0,\"lat\":0}]}}}]}}"));
    /* What makes a backtracking matcher run for ever. */
    with(200, 422, C "/points/count",
         repeated("{\"filter\":{\"must\":[{\"key\":\"text\",\"match\":{\"text\":\"", "a", "",
                  200000, "b\"}}]}}"));
    with(200, 422, C "/points/count",
         repeated("{\"filter\":{\"must\":[{\"key\":\"", "text[].", "", 5000,
                  "x\",\"match\":{\"value\":\"a\"}}]}}"));
    with(200, 422, C "/points/query",
         repeated(
             "{\"limit\":3,\"filter\":{\"min_should\":{\"min_count\":4000000000,\"conditions\":[",
             "{\"is_empty\":{\"key\":\"x\"}}", ",", 200, "]}}}"));
}

/* Over all of the above: what was taken has been given back, at no moment did the node hold more
 * than a few of the largest requests are worth, and the tenant beside was answered throughout. */
static void
memory_stayed_flat_and_the_neighbour_was_served(void **state)
{
    (void)state;
    atomic_store(&watching, false);
    pthread_join(watcher, NULL);
    pthread_join(other, NULL);
    const size_t after = live_bytes();
    print_message("live bytes: %zu before, %zu after, %zu at most; the neighbour asked %u times\n",
                  live_before, after, atomic_load(&peak), atomic_load(&neighbour_asked));
    assert_true(after < live_before + KEPT_BYTES_MAX);
    assert_true(atomic_load(&peak) < live_before + PEAK_BYTES_MAX);
    assert_true(atomic_load(&neighbour_asked) > 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endless_limits_are_cut),
        cmocka_unit_test(depth_and_breadth_are_bounded),
        cmocka_unit_test(long_lists_are_bounded),
        cmocka_unit_test(filters_end_at_the_deadline),
        cmocka_unit_test(heavy_conditions_are_bounded),
        cmocka_unit_test(memory_stayed_flat_and_the_neighbour_was_served),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
