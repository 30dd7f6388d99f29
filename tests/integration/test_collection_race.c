/* Many threads at one collection: quotas at their edge, reads beside writes, upkeep beside both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"
#include "collection_support.h"
#include "storage/io.h"

#define WRITERS 64

static const char schema[] = "{\"vectors\":{\"size\":4,\"distance\":\"Euclid\"},"
                             "\"optimizers_config\":{\"indexing_threshold\":1}}";

typedef struct {
    fixture *f;
    uint32_t number;
    atomic_uint *written, *refused;
    atomic_bool *stop;
} worker;

static ort_err
put(fixture *f, uint64_t id, uint32_t salt)
{
    char text[160];
    ort_diag diag;
    snprintf(text, sizeof text,
             "{\"points\":[{\"id\":%llu,\"vector\":[%u,%u,%u,1],\"payload\":{\"k\":%u}}]}",
             (unsigned long long)id, salt % 101, salt % 37, salt % 11, salt % 5);
    const ort_err err = try_op(f, DP_OP_UPSERT, text, NULL, &diag);
    if (err != ORT_OK && err != ORT_EQUOTA) {
        fail_msg("%s: %s", text, diag.text);
    }
    return err;
}

static void *
write_new_points(void *arg)
{
    const worker *w = arg;
    for (uint32_t i = 0; i < 8; i++) {
        /* Every second write replaces a point: its place must not be counted twice. */
        const uint64_t id = i % 2 == 0 ? w->number : 1000 + w->number * 8 + i;
        const ort_err err = put(w->f, id, i);
        atomic_fetch_add(err == ORT_OK ? w->written : w->refused, 1);
    }
    return NULL;
}

static void
run_all(fixture *f, uint32_t count, void *(*fn)(void *), atomic_uint *written, atomic_uint *refused,
        atomic_bool *stop)
{
    pthread_t threads[WRITERS];
    worker workers[WRITERS];
    for (uint32_t i = 0; i < count; i++) {
        workers[i] =
            (worker){.f = f, .number = i, .written = written, .refused = refused, .stop = stop};
        assert_int_equal(ort_thread_start(&threads[i], "writer", fn, &workers[i], NULL), ORT_OK);
    }
    for (uint32_t i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* 64 writers at the edge: never above the quota, and every free place is used. */
static void
a_quota_of_points_is_exact_under_64_writers(void **state)
{
    (void)state;
    for (uint64_t limit = 60; limit <= 260; limit += 100) {
        fixture f;
        atomic_uint written = 0, refused = 0;
        dp_amount used;
        fixture_init(&f, schema, 0);
        dp_quota_set_limits(f.quota, limit, 0);
        run_all(&f, WRITERS, write_new_points, &written, &refused, NULL);
        dp_quota_usage(f.quota, &used, NULL);
        assert_int_equal(used.points, limit);
        assert_int_equal(count_where(&f, NULL), limit);
        assert_int_equal(written + refused, WRITERS * 8);
        assert_true(refused > 0);
        /* Replacing and deleting go on working. */
        assert_int_equal(put(&f, 5000, 1), ORT_EQUOTA);
        do_op(&f, DP_OP_DELETE, "{\"filter\":{\"must\":[{\"key\":\"k\",\"range\":{\"gte\":0}}]}}");
        assert_int_equal(put(&f, 5000, 1), ORT_OK);
        fixture_fini(&f);
    }
}

static void
a_quota_of_bytes_is_exact_under_64_writers(void **state)
{
    const int64_t one = 17 + 16 + 7; /* id, four floats, {"k":n} */
    fixture f;
    atomic_uint written = 0, refused = 0;
    dp_amount used;
    (void)state;
    fixture_init(&f, schema, 0);
    dp_quota_set_limits(f.quota, 0, (uint64_t)(one * 100 + one / 2));
    run_all(&f, WRITERS, write_new_points, &written, &refused, NULL);
    dp_quota_usage(f.quota, &used, NULL);
    assert_int_equal(used.bytes, one * 100);
    fixture_fini(&f);
}

/* A batch that does not fit as a whole is refused as a whole; what replaces needs no place. */
static void
a_full_collection_still_takes_replacements(void **state)
{
    fixture f;
    ort_diag diag;
    (void)state;
    fixture_init(&f, schema, 0);
    dp_collection_set_points_max(f.c, 3);
    do_op(&f, DP_OP_UPSERT,
          "{\"points\":[{\"id\":1,\"vector\":[1,2,3,4]},{\"id\":2,\"vector\":[1,2,3,4]}]}");
    assert_int_equal(
        try_op(&f, DP_OP_UPSERT,
               "{\"points\":[{\"id\":3,\"vector\":[1,2,3,4]},{\"id\":4,\"vector\":[1,2,3,4]}]}",
               NULL, &diag),
        ORT_EQUOTA);
    assert_non_null(strstr(diag.text, "collection quota: 2 of 3 points"));
    assert_int_equal(count_where(&f, NULL), 2);
    do_op(&f, DP_OP_UPSERT,
          "{\"points\":[{\"id\":1,\"vector\":[1,2,3,4]},{\"id\":3,\"vector\":[1,2,3,4]},{\"id\":2,"
          "\"vector\":"
          "[1,2,3,4]},{\"id\":3,\"vector\":[1,2,3,4]}]}");
    assert_int_equal(count_where(&f, NULL), 3);
    fixture_fini(&f);
}

/* --- reads beside writes ------------------------------------------------------------------------
 */

/* Writes pairs (n, n + 1000) in one operation, and deletes them so: no reader may see half. */
static void *
write_pairs(void *arg)
{
    const worker *w = arg;
    for (uint32_t i = 0; i < 120; i++) {
        const uint32_t id = w->number * 16 + i % 16;
        if (i % 3 == 2) {
            do_op(w->f, DP_OP_DELETE, "{\"points\":[%u,%u]}", id, id + 1000);
        } else {
            do_op(w->f, DP_OP_UPSERT,
                  "{\"points\":[{\"id\":%u,\"vector\":[%u,1,2,3],\"payload\":{\"pair\":%u}},"
                  "{\"id\":%u,\"vector\":[%u,1,2,4],\"payload\":{\"pair\":%u}}]}",
                  id, i, id, id + 1000, i, id);
        }
    }
    atomic_fetch_add(w->written, 1);
    return NULL;
}

static void *
read_pairs(void *arg)
{
    const worker *w = arg;
    uint32_t turn = 0;
    while (!atomic_load(w->stop)) {
        char filter[96];
        answer *got = calloc(1, sizeof *got);
        const float q[4] = {(float)(turn % 100), 1, 2, 3};
        assert_non_null(got);
        snprintf(filter, sizeof filter, "{\"must\":[{\"key\":\"pair\",\"match\":{\"value\":%u}}]}",
                 turn++ % 64);
        const uint64_t count = count_where(w->f, filter);
        if (count != 0 && count != 2) {
            fail_msg("a reader saw %llu of a pair", (unsigned long long)count);
        }
        nearest(w->f, NULL, q, 4, 10, turn % 2 ? filter : NULL, false, got);
        for (size_t i = 1; i < got->count; i++) {
            if (got->at[i].score < got->at[i - 1].score) {
                fail_msg("hits out of order");
            }
        }
        free(got);
    }
    return NULL;
}

static void
readers_see_whole_operations(void **state)
{
    enum { READERS = 3, PAIR_WRITERS = 4 };
    fixture f;
    atomic_uint written = 0;
    atomic_bool stop = false;
    pthread_t readers[READERS];
    worker w = {.f = &f, .stop = &stop};
    (void)state;
    fixture_init(&f, schema, 2);
    f.env.checkpoint_bytes = 16384;
    fixture_reopen(&f);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(ort_thread_start(&readers[i], "reader", read_pairs, &w, NULL), ORT_OK);
    }
    run_all(&f, PAIR_WRITERS, write_pairs, &written, NULL, &stop);
    atomic_store(&stop, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
    }
    assert_int_equal(written, PAIR_WRITERS);
    assert_int_equal(dp_collection_wait_indexed(f.c, ort_mono_ns() + UINT64_C(240000000000)),
                     ORT_OK);
    const uint64_t before = count_where(&f, NULL);
    fixture_reopen(&f);
    assert_int_equal(count_where(&f, NULL), before);
    fixture_fini(&f);
}

#if ORT_CHECK
/* --- a checkpoint that takes its time ----------------------------------------------------------
 */

static atomic_bool disk_is_stuck, disk_was_asked;

static int
fsync_later(int fd)
{
    atomic_store(&disk_was_asked, true);
    while (atomic_load(&disk_is_stuck)) {
        const struct timespec nap = {.tv_nsec = 1000000};
        nanosleep(&nap, NULL);
    }
    return dp_io_real.fsync(fd);
}

static void *
checkpoint_now(void *arg)
{
    fixture *f = arg;
    assert_int_equal(dp_collection_checkpoint(f->c, NULL), ORT_OK);
    return NULL;
}

/* The schema is that of the next call, whatever upkeep is busy with, and upkeep follows. */
static void
a_new_schema_does_not_wait_for_a_checkpoint(void **state)
{
    static const char patch[] = "{\"optimizers_config\":{\"indexing_threshold\":77}}";
    fixture f;
    pthread_t thread;
    ort_json_doc *doc;
    dp_schema *fresh;
    dp_io slow = dp_io_real;
    (void)state;
    slow.fsync = fsync_later;
    dp_io_set(&slow);
    fixture_init(&f, schema, 1);
    for (uint32_t i = 0; i < 50; i++) {
        assert_int_equal(put(&f, i, i), ORT_OK);
    }
    atomic_store(&disk_was_asked, false);
    atomic_store(&disk_is_stuck, true);
    assert_int_equal(ort_thread_start(&thread, "checkpoint", checkpoint_now, &f, NULL), ORT_OK);
    while (!atomic_load(&disk_was_asked)) {
        const struct timespec nap = {.tv_nsec = 1000000};
        nanosleep(&nap, NULL);
    }
    assert_int_equal(ort_json_parse(&doc, patch, strlen(patch), (ort_json_limits){0}, NULL), 0);
    assert_int_equal(dp_schema_patch(&fresh, f.schema, ort_json_root(doc), NULL), ORT_OK);
    dp_collection_set_schema(f.c, fresh); /* for ever, if it waited */
    dp_schema *now = dp_collection_schema(f.c);
    assert_ptr_equal(now, fresh);
    dp_schema_unref(now);
    atomic_store(&disk_is_stuck, false);
    pthread_join(thread, NULL);
    assert_int_equal(dp_collection_wait_indexed(f.c, ort_mono_ns() + UINT64_C(240000000000)),
                     ORT_OK);
    dp_schema_unref(f.schema);
    f.schema = fresh;
    ort_json_free(doc);
    fixture_fini(&f);
    dp_io_set(NULL);
}
#endif

/* --- the first searches after an open ----------------------------------------------------------
 */

enum { WIDE_POINTS = 700, WIDE_DIM = 128, SEARCHERS = 6 };

static void
wide_vector(uint32_t seed, float *out)
{
    for (uint32_t i = 0; i < WIDE_DIM; i++) {
        seed = seed * 1664525u + 1013904223u;
        out[i] = (float)(seed >> 20);
    }
}

static ort_err
count_point(void *ctx, size_t query, const dp_schema *s, const dp_point_view *view)
{
    (void)query;
    (void)s;
    (void)view;
    ++*(uint32_t *)ctx;
    return ORT_OK;
}

/* Its answer came through the graph: nobody has more rows to scan than points in it. */
static void *
search_at_once(void *arg)
{
    fixture *f = arg;
    float vector[WIDE_DIM];
    uint32_t found = 0;
    dp_collection_info info;
    const dp_query query = {
        .kind = DP_QUERY_NEAREST,
        .vector = {.kind = DP_VECTOR_DENSE, .values = vector, .count = WIDE_DIM, .rows = 1},
        .using_name = "",
        .limit = 10};
    ort_diag diag = {""};
    wide_vector(7, vector);
    if (dp_collection_query(f->c, &query, 1, false, count_point, &found, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    assert_int_equal(found, 10);
    dp_collection_get_info(f->c, &info);
    assert_int_equal(info.indexed_vectors, WIDE_POINTS);
    return NULL;
}

static void
put_wide(fixture *f)
{
    ort_buf text = {0};
    float vector[WIDE_DIM];
    ort_buf_puts(&text, "{\"points\":[");
    for (uint32_t p = 0; p < WIDE_POINTS; p++) {
        wide_vector(p, vector);
        ort_buf_printf(&text, "%s{\"id\":%u,\"vector\":", p > 0 ? "," : "", p);
        for (uint32_t i = 0; i < WIDE_DIM; i++) {
            ort_buf_printf(&text, "%c%.0f", i > 0 ? ',' : '[', (double)vector[i]);
        }
        ort_buf_puts(&text, "]}");
    }
    ort_buf_puts(&text, "]}");
    ort_diag diag;
    if (try_op(f, DP_OP_UPSERT, ort_buf_peek_cstr(&text), NULL, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    ort_buf_fini(&text);
}

/* Where rows are many, the first searches after an open wait until the graph's file was looked
 * through, or one of them does that, instead of scanning all rows beside it. */
static void
first_searches_wait_for_a_large_graph(void **state)
{
    fixture f;
    pthread_t threads[SEARCHERS];
    (void)state;
    fixture_init(&f,
                 "{\"vectors\":{\"size\":128,\"distance\":\"Euclid\"},"
                 "\"hnsw_config\":{\"m\":8,\"ef_construct\":16},"
                 "\"optimizers_config\":{\"indexing_threshold\":1}}",
                 1);
    put_wide(&f);
    assert_int_equal(dp_collection_wait_indexed(f.c, ort_mono_ns() + UINT64_C(60000000000)),
                     ORT_OK);
    for (int round = 0; round < 10; round++) {
        fixture_reopen(&f);
        for (int i = 0; i < SEARCHERS; i++) {
            assert_int_equal(ort_thread_start(&threads[i], "search", search_at_once, &f, NULL),
                             ORT_OK);
        }
        for (int i = 0; i < SEARCHERS; i++) {
            pthread_join(threads[i], NULL);
        }
    }
    fixture_fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quota_of_points_is_exact_under_64_writers),
        cmocka_unit_test(a_quota_of_bytes_is_exact_under_64_writers),
        cmocka_unit_test(a_full_collection_still_takes_replacements),
        cmocka_unit_test(readers_see_whole_operations),
        cmocka_unit_test(first_searches_wait_for_a_large_graph),
#if ORT_CHECK
        cmocka_unit_test(a_new_schema_does_not_wait_for_a_checkpoint),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
