/* Approximate search over REST against plain arrays in memory: upserts, updates, deletes by id and
 * by filter, payload indexes that come and go, restarts; after each, what walks of the graph find
 * is held against a scan of the arrays. A walk may miss some; over 40 queries it finds 95 of 100.
 *
 * ORT_RECALL_ROUNDS: how many rounds (6). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "data_api_support.h"

#define IDS 3000u
#define DIM 16u
#define CLUSTERS 40u
#define K 10u
#define QUERIES 40u
#define LEAST 0.95

static struct {
    bool there;
    float vector[DIM];
    uint32_t group; /* 0 .. 99 */
} points[IDS];

static float centres[CLUSTERS][DIM];
static uint64_t dice = 11;

static uint32_t
below(uint32_t n)
{
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(dice >> 33) % n;
}

/* Quarters, which JSON and floats carry exactly, around one of the centres. */
static void
random_vector(float out[DIM])
{
    const float *centre = centres[below(CLUSTERS)];
    for (uint32_t i = 0; i < DIM; i++) {
        out[i] = centre[i] + ((float)below(81) - 40) / 4;
    }
}

static void
make_centres(void)
{
    for (uint32_t c = 0; c < CLUSTERS; c++) {
        for (uint32_t i = 0; i < DIM; i++) {
            centres[c][i] = (float)below(60) - 30;
        }
    }
}

static void
put_vector(ort_buf *out, const float v[DIM])
{
    for (uint32_t i = 0; i < DIM; i++) {
        ort_buf_printf(out, "%s%.2f", i > 0 ? "," : "[", (double)v[i]);
    }
    ort_buf_puts(out, "]");
}

/* --- changes -------------------------------------------------------------------------------- */

static void
upsert(uint32_t first, uint32_t count)
{
    ort_buf body = {0};
    ort_buf_puts(&body, "{\"points\":[");
    for (uint32_t id = first; id < first + count && id < IDS; id++) {
        random_vector(points[id].vector);
        points[id].there = true;
        points[id].group = below(100);
        ort_buf_printf(&body,
                       "%s{\"id\":%u,\"payload\":{\"group\":%u},\"vector\":", id > first ? "," : "",
                       id, points[id].group);
        put_vector(&body, points[id].vector);
        ort_buf_puts(&body, "}");
    }
    ort_buf_puts(&body, "]}");
    ok("PUT", "/collections/walked/points?wait=true", ort_buf_peek_cstr(&body), "completed");
    ort_buf_fini(&body);
}

static void
delete_groups(uint32_t from, uint32_t to)
{
    char body[160];
    for (uint32_t id = 0; id < IDS; id++) {
        points[id].there = points[id].there && !(points[id].group >= from && points[id].group < to);
    }
    snprintf(body, sizeof body,
             "{\"filter\":{\"must\":[{\"key\":\"group\",\"range\":{\"gte\":%u,\"lt\":%u}}]}}", from,
             to);
    ok("POST", "/collections/walked/points/delete?wait=true", body, "completed");
}

static void
delete_ids(uint32_t first, uint32_t step)
{
    ort_buf body = {0};
    ort_buf_puts(&body, "{\"points\":[");
    for (uint32_t id = first; id < IDS; id += step) {
        points[id].there = false;
        ort_buf_printf(&body, "%s%u", id > first ? "," : "", id);
    }
    ort_buf_puts(&body, "]}");
    ok("POST", "/collections/walked/points/delete?wait=true", ort_buf_peek_cstr(&body),
       "completed");
    ort_buf_fini(&body);
}

/* --- questions ------------------------------------------------------------------------------ */

static float
distance2(const float a[DIM], const float b[DIM])
{
    float sum = 0;
    for (uint32_t i = 0; i < DIM; i++) {
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    }
    return sum;
}

static int
by_value(const void *a, const void *b)
{
    const float *x = a;
    const float *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* The squared distance of the k-th nearest of those in groups below `groups`; *count: how many
 * there are at most K. */
static float
kth_nearest(const float query[DIM], uint32_t groups, uint32_t *count)
{
    static float all[IDS];
    uint32_t n = 0;
    for (uint32_t id = 0; id < IDS; id++) {
        if (points[id].there && points[id].group < groups) {
            all[n++] = distance2(query, points[id].vector);
        }
    }
    qsort(all, n, sizeof all[0], by_value);
    *count = n < K ? n : K;
    return n > 0 ? all[*count - 1] : 0;
}

static uint32_t
right_ones(const float query[DIM], uint32_t groups, uint32_t *wanted)
{
    ort_buf body = {0};
    uint32_t right = 0;
    size_t i;
    json_t *hit;
    const float kth = kth_nearest(query, groups, wanted);
    ort_buf_puts(&body, "{\"limit\":10,\"query\":");
    put_vector(&body, query);
    if (groups < 100) {
        ort_buf_printf(&body, ",\"filter\":{\"must\":[{\"key\":\"group\",\"range\":{\"lt\":%u}}]}",
                       groups);
    }
    ort_buf_puts(&body, "}");
    char *text = test_call(node.port, KEY, 200, "POST", "/collections/walked/points/query",
                           ort_buf_peek_cstr(&body));
    json_t *answer = json_loads(text, 0, NULL);
    const json_t *hits = json_object_get(json_object_get(answer, "result"), "points");
    assert_int_equal(json_array_size(hits), *wanted);
    json_array_foreach(hits, i, hit)
    {
        const uint32_t id = (uint32_t)json_integer_value(json_object_get(hit, "id"));
        assert_true(id < IDS && points[id].there && points[id].group < groups);
        right += distance2(query, points[id].vector) <= kth;
    }
    json_decref(answer);
    free(text);
    ort_buf_fini(&body);
    return right;
}

static void
assert_recall(const char *when)
{
    static const uint32_t shares[] = {100, 50, 10, 1};
    for (size_t s = 0; s < sizeof shares / sizeof *shares; s++) {
        uint32_t right = 0, wanted = 0;
        for (uint32_t q = 0; q < QUERIES; q++) {
            float query[DIM];
            uint32_t of;
            random_vector(query);
            right += right_ones(query, shares[s], &of);
            wanted += of;
        }
        if (wanted > 0 && right < LEAST * wanted) {
            fail_msg("recall %.3f %s, of %u %%", right / (double)wanted, when, shares[s]);
        }
    }
}

static void
wait_green(void)
{
    for (int i = 0; i < 4800; i++) {
        char *text = test_call(node.port, KEY, 200, "GET", "/collections/walked", NULL);
        const bool green = strstr(text, "\"status\":\"green\"") != NULL;
        free(text);
        if (green) {
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    fail_msg("not green after four minutes");
}

static void
walks_find_nearly_what_a_scan_does(void **state)
{
    const char *text = getenv("ORT_RECALL_ROUNDS");
    const uint32_t rounds = text != NULL ? (uint32_t)strtoul(text, NULL, 10) : 6;
    (void)state;
    make_centres();
    ok("PUT", "/collections/walked",
       "{\"vectors\":{\"size\":16,\"distance\":\"Euclid\"},"
       "\"optimizers_config\":{\"indexing_threshold\":1}}",
       "true");
    for (uint32_t first = 0; first < IDS; first += 500) {
        upsert(first, 500);
    }
    assert_recall("while it is built");
    wait_green();
    char *info = test_call(node.port, KEY, 200, "GET", "/collections/walked", NULL);
    assert_non_null(strstr(info, "\"indexed_vectors_count\":3000"));
    free(info);
    for (uint32_t round = 0; round < rounds; round++) {
        switch (round % 6) {
        case 0:
            assert_recall("in the graph");
            ok("PUT", "/collections/walked/index?wait=true",
               "{\"field_name\":\"group\",\"field_schema\":\"integer\"}", "completed");
            break;
        case 1:
            delete_groups(20, 45);
            break;
        case 2:
            upsert(below(IDS - 600), 600);
            break;
        case 3:
            delete_ids(below(5), 5);
            upsert(below(IDS - 300), 300);
            break;
        case 4:
            test_node_restart(&node);
            break;
        default:
            ok("DELETE", "/collections/walked/index/group?wait=true", NULL, "completed");
            upsert(0, 900);
            wait_green();
            break;
        }
        assert_recall(round % 6 == 4 ? "after a restart" : "after changes");
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(walks_find_nearly_what_a_scan_does, api_start, api_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
