/* Links by value of a collection: made beside writes, kept by them, on disk and back; a search for
 * one value finds what an exact one finds, whatever happened before. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <fcntl.h>

#include "base/clock.h"
#include "collection/links_internal.h"
#include "collection/shard_internal.h"
#include "collection_support.h"
#include "index/scratch.h"

#define DIM 8u
#ifdef __SANITIZE_THREAD__ /* it is slow */
#define POINTS 2000u
#define LARGE 2u
#else
#define POINTS 2800u
#define LARGE 4u /* values t0, t1 and so on, of 550 points each and more */
#endif
#define SMALL 12u /* values behind them, which share the rest */
#define BATCH 400u

#define WITH(hnsw)                                                            \
    "{\"vectors\":{\"size\":8,\"distance\":\"Euclid\"},\"hnsw_config\":" hnsw \
    ",\"optimizers_config\":{\"indexing_threshold\":1}}"
static const char unlinked[] = WITH("{\"m\":0,\"payload_m\":12,\"ef_construct\":60}");
static const char linked[] = WITH("{\"ef_construct\":60}");

static uint64_t seed_ = 5;

static uint32_t
draw(uint32_t below)
{
    seed_ = seed_ * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed_ >> 33) % below;
}

static void
declare(fixture *f, const char *spec)
{
    ort_json_doc *doc = NULL;
    dp_schema *fresh, *old = dp_collection_schema(f->c);
    ort_json v = {0};
    if (spec != NULL) {
        assert_int_equal(ort_json_parse(&doc, spec, strlen(spec), (ort_json_limits){0}, NULL), 0);
        v = ort_json_root(doc);
    }
    assert_int_equal(dp_schema_set_field(&fresh, old, "t", 1, v, NULL), ORT_OK);
    dp_collection_set_schema(f->c, fresh);
    dp_schema_unref(old);
    dp_schema_unref(f->schema);
    f->schema = fresh;
    ort_json_free(doc);
}

static uint32_t
draw_value(void)
{
    const uint32_t n = draw(3 * LARGE + 2);
    return n < 3 * LARGE ? n % LARGE : LARGE + draw(SMALL);
}

static void
put_points(fixture *f, uint32_t first, uint32_t count)
{
    ort_buf text = {0};
    ort_buf_puts(&text, "{\"points\":[");
    for (uint32_t i = 0; i < count; i++) {
        ort_buf_printf(&text,
                       "%s{\"id\":%u,\"vector\":[%u,%u,%u,%u,%u,%u,%u,%u],\"payload\":{\"t\":"
                       "\"t%u\",\"n\":%u}}",
                       i > 0 ? "," : "", first + i, draw(50), draw(50), draw(50), draw(50),
                       draw(50), draw(50), draw(50), draw(50), draw_value(), draw(10));
    }
    ort_buf_puts(&text, "]}");
    do_op(f, DP_OP_UPSERT, "%s", ort_buf_peek_cstr(&text));
    ort_buf_fini(&text);
}

static void
put_all(fixture *f)
{
    for (uint32_t i = 0; i < POINTS; i += BATCH) {
        put_points(f, i, BATCH);
    }
}

static void
wait_built(fixture *f)
{
    assert_int_equal(dp_collection_wait_indexed(f->c, ort_mono_ns() + UINT64_C(60000000000)),
                     ORT_OK);
}

/* The field of the graph, when it is there. */
static bool
report(fixture *f, dp_hnsw_field_report *out)
{
    dp_shard *s = dp_collection__shard(f->c);
    uint32_t m;
    *out = (dp_hnsw_field_report){0};
    if (s->derived[0].graph == NULL || dp_hnsw_field_at(s->derived[0].graph, 0, &m) == 0) {
        return false;
    }
    assert_int_equal(
        dp_hnsw_field_check(s->derived[0].graph, dp_hnsw_field_at(s->derived[0].graph, 0, &m), out),
        ORT_OK);
    assert_int_equal(out->bad_links, 0);
    return true;
}

/* Answers under this filter, beside exact ones. Every answer has the value, none comes twice, there
 * are as many as there can be, and hardly one is missing. */
static void
compare(fixture *f, const char *filter, const char *value, uint32_t queries)
{
    answer *got = calloc(1, sizeof *got), *want = calloc(1, sizeof *want);
    char part[32];
    uint32_t found = 0, all = 0;
    assert_true(got != NULL && want != NULL);
    snprintf(part, sizeof part, "\"t\":%s", value);
    for (uint32_t q = 0; q < queries; q++) {
        float query[DIM];
        for (uint32_t i = 0; i < DIM; i++) {
            query[i] = (float)draw(500) / 10;
        }
        nearest(f, "", query, DIM, 10, filter, false, got);
        nearest(f, "", query, DIM, 10, filter, true, want);
        assert_int_equal(got->count, want->count);
        for (size_t i = 0; i < got->count; i++) {
            assert_non_null(strstr(got->at[i].payload, part));
            assert_true(i == 0 || got->at[i].score >= got->at[i - 1].score);
            for (size_t j = 0; j < i; j++) {
                assert_int_not_equal(got->at[i].id.lo, got->at[j].id.lo);
            }
            found += got->at[i].score <= want->at[want->count - 1].score;
        }
        all += (uint32_t)want->count;
    }
    if (found < all - all / 20) {
        fail_msg("%s: %u of %u", filter, found, all);
    }
    free(got);
    free(want);
}

static void
compare_all(fixture *f)
{
    for (uint32_t v = 0; v < LARGE + SMALL; v++) {
        char filter[160], value[16];
        snprintf(value, sizeof value, "\"t%u\"", v);
        snprintf(filter, sizeof filter,
                 "{\"must\":[{\"key\":\"t\",\"match\":{\"value\":\"t%u\"}}]}", v);
        compare(f, filter, value, v < LARGE ? 6 : 2);
        snprintf(filter, sizeof filter,
                 "{\"must\":[{\"key\":\"n\",\"range\":{\"lt\":6}},{\"key\":\"t\",\"match\":{"
                 "\"any\":[\"t%u\"]}}]}",
                 v);
        compare(f, filter, value, v < LARGE ? 4 : 1);
    }
}

static void
values_are_searched_by_their_links(void **state)
{
    static const char *const schemas[] = {unlinked, linked};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        dp_hnsw_field_report r;
        fixture f;
        fixture_init(&f, schemas[i], 2);
        declare(&f, "{\"type\":\"keyword\",\"is_tenant\":true}");
        put_points(&f, 0, BATCH);
        compare_all(&f);
        put_all(&f);
        compare_all(&f); /* while they are made */
        wait_built(&f);
        assert_true(report(&f, &r));
        assert_int_equal(r.linked, LARGE);
        assert_int_equal(r.values, LARGE + SMALL);
        assert_int_equal(r.unreachable, 0);
        compare_all(&f);
        fixture_fini(&f);
    }
}

/* Slots are numbered anew (ADR 0110): what links knew of them is worth nothing. */
static void
links_are_made_again_for_other_slots(void **state)
{
    fixture f;
    dp_hnsw_field_report r;
    (void)state;
    fixture_init(&f, unlinked, 2);
    declare(&f, "{\"type\":\"keyword\",\"is_tenant\":true}");
    put_all(&f);
    for (uint32_t i = 0; i < POINTS; i += BATCH) {
        put_points(&f, i, BATCH); /* the first numbers are nobody's */
    }
    wait_built(&f);
    assert_int_equal(dp_collection_checkpoint(f.c, NULL), ORT_OK);
    compare_all(&f);
    dp_shard *s = dp_collection__shard(f.c);
    pthread_mutex_lock(&s->maintaining);
    dp_shard__renumber(s);
    assert_null(s->derived[0].graph);
    pthread_mutex_unlock(&s->maintaining);
    compare_all(&f);
    dp_shard__schedule(s);
    wait_built(&f);
    compare_all(&f);
    assert_true(report(&f, &r));
    assert_int_equal(r.linked, LARGE);
    assert_int_equal(r.unreachable, 0);
    fixture_reopen(&f);
    compare_all(&f);
    fixture_fini(&f);
}

/* Of the whole collection only the value's own points are looked at: less than all of them, too. */
static void
a_search_looks_at_the_values_own_points(void **state)
{
    fixture f;
    dp_scratch_counts before, after;
    answer *got = calloc(1, sizeof *got);
    const float query[DIM] = {25, 25, 25, 25, 25, 25, 25, 25};
    (void)state;
    assert_non_null(got);
    fixture_init(&f, WITH("{\"m\":0,\"payload_m\":12,\"ef_construct\":16}"), 2);
    declare(&f, "{\"type\":\"keyword\",\"is_tenant\":true}");
    put_all(&f);
    wait_built(&f);
    dp_scratch_count(&before);
    nearest(&f, "", query, DIM, 10, "{\"must\":[{\"key\":\"t\",\"match\":{\"value\":\"t1\"}}]}",
            false, got);
    dp_scratch_count(&after);
    assert_int_equal(got->count, 10);
    assert_true(after.followed > before.followed); /* lists were walked */
    assert_true(after.measured - before.measured < 600);
    dp_scratch_count(&before);
    nearest(&f, "", query, DIM, 10, NULL, false, got); /* m: 0: a scan of rows */
    dp_scratch_count(&after);
    assert_int_equal(got->count, 10);
    assert_int_equal(after.followed, before.followed);
    free(got);
    fixture_fini(&f);
}

static void
change_some(fixture *f)
{
    for (uint32_t i = 0; i < 30; i++) {
        const uint32_t id = draw(POINTS);
        switch (draw(5)) {
        case 0:
            do_op(f, DP_OP_DELETE, "{\"points\":[%u]}", id);
            break;
        case 1:
            put_points(f, id, 1);
            break;
        case 2:
            put_points(f, id, 20);
            break;
        default: /* to another value, and sometimes to none */
            put_points(f, id, 1);
            do_op(f, DP_OP_SET_PAYLOAD, "{\"payload\":{\"t\":%s%u%s},\"points\":[%u]}",
                  i % 7 == 0 ? "" : "\"t", draw_value(), i % 7 == 0 ? "" : "\"", id);
            break;
        }
    }
    do_op(f, DP_OP_DELETE,
          "{\"filter\":{\"must\":[{\"key\":\"t\",\"match\":{\"value\":\"t%u\"}},{\"key\":\"n\","
          "\"match\":{\"value\":%u}}]}}",
          draw(LARGE), draw(10));
}

static void
points_move_between_values(void **state)
{
    fixture f;
    dp_hnsw_field_report r;
    (void)state;
    fixture_init(&f, unlinked, 2);
    declare(&f, "{\"type\":\"keyword\",\"is_tenant\":true}");
    put_all(&f);
    for (uint32_t round = 0; round < 6; round++) {
        change_some(&f);
        compare_all(&f);
        if (round % 3 == 1) {
            wait_built(&f);
            assert_int_equal(dp_collection_checkpoint(f.c, NULL), ORT_OK);
        }
        if (round % 3 == 2) {
            fixture_reopen(&f);
        }
    }
    wait_built(&f);
    assert_true(report(&f, &r));
    assert_int_equal(r.unreachable, 0);
    compare_all(&f);
    fixture_fini(&f);
}

/* Whether a search follows links. */
static bool
walks(fixture *f, const char *filter)
{
    const float query[DIM] = {25, 25, 25, 25, 25, 25, 25, 25};
    answer *got = calloc(1, sizeof *got);
    dp_scratch_counts before, after;
    assert_non_null(got);
    dp_scratch_count(&before);
    nearest(f, "", query, DIM, 10, filter, false, got);
    dp_scratch_count(&after);
    assert_int_equal(got->count, 10);
    free(got);
    return after.followed > before.followed;
}

/* Without a payload index, which nobody makes there, points are asked themselves. */
static void
links_are_found_again(void **state)
{
    fixture f;
    dp_hnsw_field_report before, after;
    (void)state;
    fixture_init(&f, unlinked, 2);
    declare(&f, "{\"type\":\"keyword\",\"is_tenant\":true}");
    put_all(&f);
    wait_built(&f);
    assert_true(report(&f, &before));
    fixture_close(&f);
    ort_pool *workers = f.env.workers;
    f.env.workers = NULL; /* nobody to make them */
    fixture_open(&f);
    assert_true(report(&f, &after));
    assert_int_equal(after.points, before.points);
    assert_int_equal(after.linked, before.linked);
    compare_all(&f);
    assert_true(walks(&f, "{\"must\":[{\"key\":\"t\",\"match\":{\"value\":\"t0\"}}]}"));
    fixture_close(&f);
    f.env.workers = workers;
    fixture_open(&f);
    wait_built(&f);
    compare_all(&f); /* and by the payload index that there is now */
    assert_true(report(&f, &after));
    assert_int_equal(after.points, before.points);
    fixture_close(&f);
    assert_int_equal(unlinkat(f.dir, "index/vector-0.hnsw", 0), 0);
    fixture_open(&f);
    compare_all(&f);
    wait_built(&f);
    assert_true(report(&f, &after));
    assert_int_equal(after.points, before.points);
    assert_int_equal(after.linked, before.linked);
    compare_all(&f);
    fixture_fini(&f);
}

/* The file ends with what is kept by value. */
static void
a_damaged_file_is_made_anew(void **state)
{
    fixture f;
    (void)state;
    fixture_init(&f, unlinked, 2);
    declare(&f, "{\"type\":\"keyword\",\"is_tenant\":true}");
    put_all(&f);
    wait_built(&f);
    fixture_close(&f);
    for (int i = 0; i < 2; i++) {
        dp_hnsw_field_report r;
        unsigned char byte;
        const int fd = openat(f.dir, "index/vector-0.hnsw", O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        const off_t end = lseek(fd, 0, SEEK_END);
        const off_t at = end - 4096 * (off_t)(1 + i * 24) - 1000;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
        fixture_open(&f);
        compare_all(&f);
        wait_built(&f);
        compare_all(&f);
        assert_true(report(&f, &r));
        assert_int_equal(r.linked, LARGE);
        fixture_close(&f);
    }
    fixture_fini(&f);
}

/* A point of two values is found under both. */
static void
values_of_arrays_are_found(void **state)
{
    fixture f;
    const float query[DIM] = {500, 500, 500, 500, 500, 500, 500, 500};
    answer *got = calloc(1, sizeof *got);
    dp_hnsw_field_report r;
    (void)state;
    assert_non_null(got);
    fixture_init(&f, linked, 2);
    declare(&f, "{\"type\":\"keyword\",\"is_tenant\":true}");
    put_all(&f);
    do_op(&f, DP_OP_UPSERT,
          "{\"points\":[{\"id\":90000,\"vector\":[500,500,500,500,500,500,500,500],\"payload\":{"
          "\"t\":[\"t0\",\"t9\",\"t0\"]}},{\"id\":90001,\"vector\":[501,500,500,500,500,500,500,"
          "500],\"payload\":{\"t\":[\"t1\",\"t1\"]}}]}");
    for (int pass = 0; pass < 2; pass++) {
        nearest(&f, "", query, DIM, 1, "{\"must\":[{\"key\":\"t\",\"match\":{\"value\":\"t0\"}}]}",
                false, got);
        assert_int_equal(got->at[0].id.lo, 90000);
        nearest(&f, "", query, DIM, 1, "{\"must\":[{\"key\":\"t\",\"match\":{\"value\":\"t9\"}}]}",
                false, got);
        assert_int_equal(got->at[0].id.lo, 90000);
        nearest(&f, "", query, DIM, 1, "{\"must\":[{\"key\":\"t\",\"match\":{\"value\":\"t1\"}}]}",
                false, got);
        assert_int_equal(got->at[0].id.lo, 90001);
        wait_built(&f);
    }
    assert_true(report(&f, &r));
    assert_int_equal(r.linked, LARGE);
    assert_int_equal(r.noted, 2);
    fixture_reopen(&f);
    wait_built(&f);
    nearest(&f, "", query, DIM, 1, "{\"must\":[{\"key\":\"t\",\"match\":{\"value\":\"t0\"}}]}",
            false, got);
    assert_int_equal(got->at[0].id.lo, 90000);
    free(got);
    fixture_fini(&f);
}

static void
fields_are_declared_and_taken_away(void **state)
{
    fixture f;
    dp_hnsw_field_report r;
    (void)state;
    fixture_init(&f, linked, 2);
    put_all(&f);
    declare(&f, "\"keyword\""); /* without payload_m only tenants have links */
    wait_built(&f);
    assert_false(report(&f, &r));
    declare(&f, "{\"type\":\"keyword\",\"is_tenant\":true}");
    wait_built(&f);
    assert_true(report(&f, &r));
    assert_int_equal(r.linked, LARGE);
    compare_all(&f);
    declare(&f, "{\"type\":\"keyword\",\"is_tenant\":true,\"enable_hnsw\":false}");
    put_points(&f, 0, 1);
    wait_built(&f);
    compare_all(&f);
    assert_false(report(&f, &r));
    declare(&f, NULL);
    compare_all(&f);
    fixture_fini(&f);
}

/* m: 0 has no graph at all, until there is a field to link by; and of a field that is no tenant's,
 * with payload_m. */
static void
without_a_field_there_is_no_graph(void **state)
{
    fixture f;
    dp_hnsw_field_report r;
    (void)state;
    fixture_init(&f, unlinked, 2);
    put_all(&f);
    wait_built(&f);
    assert_null(dp_collection__shard(f.c)->derived[0].graph);
    declare(&f, "\"keyword\"");
    wait_built(&f);
    assert_true(report(&f, &r));
    assert_int_equal(r.linked, LARGE);
    compare_all(&f);
    declare(&f, NULL);
    put_points(&f, 0, 1);
    wait_built(&f);
    assert_null(dp_collection__shard(f.c)->derived[0].graph);
    compare_all(&f);
    fixture_fini(&f);
}

/* --- kill -9 -------------------------------------------------------------------------------------
 */

/* Writes, links and folds until it is killed. */
static void
live_until_killed(fixture *f, uint64_t seed)
{
    seed_ = seed;
    assert_int_equal(ort_pool_new(&f->workers, "upkeep", 2, 64, NULL), ORT_OK);
    f->env.workers = f->workers;
    f->env.checkpoint_bytes = 64u << 10;
    fixture_open(f);
    for (;;) {
        change_some(f);
        if (draw(6) == 0) {
            assert_int_equal(dp_collection_checkpoint(f->c, NULL), ORT_OK);
        }
    }
}

static void
what_was_killed_is_right_again(void **state)
{
    const char *rounds = getenv("ORT_FAULT_ROUNDS");
    const int count = rounds != NULL ? atoi(rounds) : 3;
    fixture f;
    (void)state;
    fixture_init(&f, unlinked, 0); /* no threads before the fork */
    declare(&f, "{\"type\":\"keyword\",\"is_tenant\":true}");
    put_all(&f);
    fixture_close(&f);
    for (int i = 0; i < count; i++) {
        const struct timespec nap = {.tv_nsec = (long)(100 + draw(600)) * 1000000};
        const pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            live_until_killed(&f, (uint64_t)i * 977 + 1);
            _exit(1);
        }
        nanosleep(&nap, NULL);
        assert_int_equal(kill(pid, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        f.env.checkpoint_bytes = 0;
        fixture_open(&f); /* no threads: as it was found */
        compare_all(&f);
        fixture_close(&f);
        assert_int_equal(ort_pool_new(&f.workers, "upkeep", 2, 64, NULL), ORT_OK);
        f.env.workers = f.workers;
        fixture_open(&f);
        compare_all(&f);
        wait_built(&f); /* and now by payload index and links */
        dp_hnsw_field_report r;
        assert_true(report(&f, &r));
        assert_int_equal(r.unreachable, 0);
        compare_all(&f);
        fixture_close(&f);
        ort_pool_free(f.workers);
        f.workers = f.env.workers = NULL;
    }
    fixture_fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_killed_is_right_again), /* first: it forks */
        cmocka_unit_test(values_are_searched_by_their_links),
        cmocka_unit_test(a_search_looks_at_the_values_own_points),
        cmocka_unit_test(points_move_between_values),
        cmocka_unit_test(links_are_found_again),
        cmocka_unit_test(links_are_made_again_for_other_slots),
        cmocka_unit_test(a_damaged_file_is_made_anew),
        cmocka_unit_test(values_of_arrays_are_found),
        cmocka_unit_test(fields_are_declared_and_taken_away),
        cmocka_unit_test(without_a_field_there_is_no_graph),
    };
#ifdef __SANITIZE_THREAD__
    cmocka_set_test_filter("points_move_*");
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
