/* Many users in one collection, as Qdrant tells people to keep them (m 0, payload_m, an is_tenant
 * index), over REST: each one's searches find what exact ones find and nobody else's points, also
 * after points changed hands and after a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "base/clock.h"
#include "data_api_support.h"

#define DIM 8u
#define USERS 5u /* of points alike: enough of each to be linked */
#define POINTS 3500u
#define BATCH 500u
#define C "/collections/shared"

static uint64_t seed_ = 17;

static uint32_t
draw(uint32_t below)
{
    seed_ = seed_ * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed_ >> 33) % below;
}

static void
put_vector(ort_buf *text)
{
    for (uint32_t i = 0; i < DIM; i++) {
        ort_buf_printf(text, "%s%u.%u", i == 0 ? "[" : ",", draw(40), draw(10));
    }
    ort_buf_puts(text, "]");
}

static void
put_points(uint32_t first, uint32_t count)
{
    ort_buf text = {0};
    ort_buf_puts(&text, "{\"points\":[");
    for (uint32_t i = first; i < first + count; i++) {
        ort_buf_printf(&text, "%s{\"id\":%u,\"payload\":{\"user\":\"u%u\",\"kind\":%u},\"vector\":",
                       i > first ? "," : "", i, i % USERS, i / USERS % 3);
        put_vector(&text);
        ort_buf_puts(&text, "}");
    }
    ort_buf_puts(&text, "]}");
    ok("PUT", C "/points?wait=true", ort_buf_peek_cstr(&text), "completed");
    ort_buf_fini(&text);
}

static void
wait_green(void)
{
    const struct timespec nap = {.tv_nsec = 20000000};
    const uint64_t until = ort_mono_ns() + UINT64_C(60000000000);
    for (;;) {
        char *body = test_call(node.port, KEY, 200, "GET", C, NULL);
        const bool green = strstr(body, "\"status\":\"green\"") != NULL;
        free(body);
        if (green) {
            return;
        }
        assert_true(ort_mono_ns() < until);
        nanosleep(&nap, NULL);
    }
}

/* The points of an answer. */
static json_t *
search(const char *vector, const char *filter, bool exact)
{
    ort_buf text = {0};
    ort_buf_printf(&text,
                   "{\"query\":%s,\"filter\":%s,\"limit\":10,\"with_payload\":true,"
                   "\"params\":{\"exact\":%s}}",
                   vector, filter, exact ? "true" : "false");
    char *body =
        test_call(node.port, KEY, 200, "POST", C "/points/query", ort_buf_peek_cstr(&text));
    json_t *answer = json_loads(body, 0, NULL);
    assert_non_null(answer);
    json_t *points = json_incref(json_object_get(json_object_get(answer, "result"), "points"));
    assert_non_null(points);
    json_decref(answer);
    free(body);
    ort_buf_fini(&text);
    return points;
}

static double
score_at(const json_t *points, size_t i)
{
    return json_number_value(json_object_get(json_array_get(points, i), "score"));
}

/* Of a user's nearest points, those that the search found; all are the user's. */
static size_t
right(const json_t *got, const json_t *want, uint32_t user)
{
    char name[16];
    size_t n = 0;
    snprintf(name, sizeof name, "u%u", user);
    assert_int_equal(json_array_size(got), json_array_size(want));
    for (size_t i = 0; i < json_array_size(got); i++) {
        const json_t *payload = json_object_get(json_array_get(got, i), "payload");
        assert_string_equal(json_string_value(json_object_get(payload, "user")), name);
        n += score_at(got, i) <= score_at(want, json_array_size(want) - 1);
    }
    return n;
}

static void
compare(void)
{
    static const char and_not[] =
        "{\"must\":[{\"key\":\"user\",\"match\":{\"value\":\"u%u\"}}],\"must_not\":[{\"key\":"
        "\"kind\",\"match\":{\"value\":1}}]}";
    static const char *const filters[] = {
        "{\"must\":[{\"key\":\"user\",\"match\":{\"value\":\"u%u\"}}]}",
        "{\"must\":{\"key\":\"user\",\"match\":{\"any\":[\"u%u\"]}}}",
        "{\"must\":[{\"must\":[{\"key\":\"user\",\"match\":{\"value\":\"u%u\"}}]}]}",
        and_not,
        "{\"should\":[{\"key\":\"user\",\"match\":{\"value\":\"u%u\"}}]}",
    };
    size_t found = 0, all = 0;
    for (uint32_t i = 0; i < 10 * USERS; i++) {
        ort_buf vector = {0};
        char filter[256];
        put_vector(&vector);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(filter, sizeof filter, filters[i % 5], i / 5 % USERS);
#pragma GCC diagnostic pop
        json_t *got = search(ort_buf_peek_cstr(&vector), filter, false);
        json_t *want = search(ort_buf_peek_cstr(&vector), filter, true);
        found += right(got, want, i / 5 % USERS);
        all += json_array_size(want);
        json_decref(got);
        json_decref(want);
        ort_buf_fini(&vector);
    }
    assert_true(found >= all - all / 20);
}

static void
each_user_finds_their_own(void **state)
{
    (void)state;
    ok("PUT", C,
       "{\"vectors\":{\"size\":8,\"distance\":\"Euclid\"},\"hnsw_config\":{\"m\":0,\"payload_m\":"
       "16},\"optimizers_config\":{\"indexing_threshold\":1}}",
       "true");
    ok("PUT", C "/index?wait=true",
       "{\"field_name\":\"user\",\"field_schema\":{\"type\":\"keyword\",\"is_tenant\":true}}",
       "completed");
    for (uint32_t i = 0; i < POINTS; i += BATCH) {
        put_points(i, BATCH);
    }
    compare(); /* while links are made */
    wait_green();
    compare();
    ok("GET", C, NULL, "\"hnsw_config\":{\"m\":0,");
    ok("GET", C, NULL, "\"indexed_vectors_count\":3500");
}

/* Payload operations and deletes take points from one user to another. */
static void
points_change_hands(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 60; i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"payload\":{\"user\":\"u%u\"},\"points\":[%u,%u,%u]}",
                 draw(USERS), draw(POINTS), draw(POINTS), draw(POINTS));
        ok("POST", C "/points/payload?wait=true", body, "completed");
    }
    ok("POST", C "/points/delete?wait=true",
       "{\"filter\":{\"must\":[{\"key\":\"user\",\"match\":{\"value\":\"u2\"}},{\"key\":\"kind\","
       "\"match\":{\"value\":0}}]}}",
       "completed");
    compare();
    wait_green();
    compare();
}

static void
a_restart_changes_nothing(void **state)
{
    (void)state;
    test_node_restart(&node);
    compare();
    wait_green();
    compare();
}

/* Without a filter: an exact scan, so equal to one. */
static void
a_search_without_a_filter_is_exact(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 10; i++) {
        ort_buf vector = {0};
        put_vector(&vector);
        json_t *got = search(ort_buf_peek_cstr(&vector), "null", false);
        json_t *want = search(ort_buf_peek_cstr(&vector), "null", true);
        assert_true(json_equal(got, want));
        json_decref(got);
        json_decref(want);
        ort_buf_fini(&vector);
    }
}

/* Links among all points can be asked for later, and given up again. */
static void
links_among_all_come_and_go(void **state)
{
    (void)state;
    ok("PATCH", C, "{\"hnsw_config\":{\"m\":16}}", "true");
    compare();
    wait_green();
    compare();
    ok("PATCH", C, "{\"hnsw_config\":{\"m\":0}}", "true");
    wait_green();
    compare();
    a_search_without_a_filter_is_exact(state);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_user_finds_their_own),
        cmocka_unit_test(points_change_hands),
        cmocka_unit_test(a_restart_changes_nothing),
        cmocka_unit_test(a_search_without_a_filter_is_exact),
        cmocka_unit_test(links_among_all_come_and_go),
    };
    return cmocka_run_group_tests(tests, api_start, api_stop);
}
