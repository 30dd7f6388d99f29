/* Small collections have no graph; one that grows gets it in the background, and nobody who
 * searches meanwhile misses a point or sees one twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>

#include "base/clock.h"
#include "base/thread.h"
#include "collection_support.h"

#define DIM 8u
#define ANCHORS 10u
#define OTHERS 3000u
#define BATCH 50u

/* 16 KB: crossed at 512 points of 32 bytes. */
static const char schema[] = "{\"vectors\":{\"size\":8,\"distance\":\"Euclid\"},"
                             "\"optimizers_config\":{\"indexing_threshold\":16}}";

static unsigned
graph_files(const fixture *f)
{
    unsigned n = 0;
    const int fd = openat(f->dir, "index", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    assert_non_null(list);
    for (struct dirent *d; list != NULL && (d = readdir(list)) != NULL;) {
        n += d->d_name[0] != '.';
    }
    if (list != NULL) {
        closedir(list);
    }
    return n;
}

/* Ten points at a place of their own, written again and again. */
static void
put_anchors(fixture *f)
{
    ort_buf text = {0};
    for (unsigned i = 0; i < ANCHORS; i++) {
        ort_buf_printf(&text, "%s{\"id\":%u,\"vector\":[%u,0,0,0,0,0,0,0]}", i > 0 ? "," : "", i,
                       1000 + i);
    }
    do_op(f, DP_OP_UPSERT, "{\"points\":[%s]}", ort_buf_peek_cstr(&text));
    ort_buf_fini(&text);
}

static void
put_others(fixture *f, unsigned first, unsigned count)
{
    ort_buf text = {0};
    for (unsigned i = first; i < first + count; i++) {
        ort_buf_printf(&text, "%s{\"id\":%u,\"vector\":[%u,%u,%u,%u,%u,%u,%u,%u]}",
                       i > first ? "," : "", 100 + i, i % 97, i % 89, i % 83, i % 79, i % 73,
                       i % 71, i % 67, i % 61);
    }
    do_op(f, DP_OP_UPSERT, "{\"points\":[%s]}", ort_buf_peek_cstr(&text));
    ort_buf_fini(&text);
}

typedef struct {
    fixture *f;
    atomic_bool *stop;
    pthread_t thread;
    unsigned searches, missing, twice, failed;
} searcher;

static void
search_once(searcher *s)
{
    static const float at[DIM] = {1000};
    answer *got = calloc(1, sizeof *got);
    const dp_query q = {.kind = DP_QUERY_NEAREST,
                        .vector = {.kind = DP_VECTOR_DENSE, .values = at, .count = DIM, .rows = 1},
                        .using_name = "",
                        .limit = ANCHORS};
    ort_diag diag;
    s->searches++;
    if (got == NULL || dp_collection_query(s->f->c, &q, 1, false, collect, got, &diag) != ORT_OK) {
        s->failed++;
        free(got);
        return;
    }
    for (size_t i = 0; i < got->count; i++) {
        for (size_t j = 0; j < i; j++) {
            s->twice += ort_point_id_cmp(got->at[i].id, got->at[j].id) == 0;
        }
        /* All ten, nearest first: their ids are their order. */
        s->missing += got->at[i].score != (float)i;
    }
    s->missing += got->count != ANCHORS;
    free(got);
}

static void *
search_main(void *arg)
{
    searcher *s = arg;
    while (!atomic_load(s->stop)) {
        search_once(s);
    }
    return NULL;
}

static void
crossing_the_threshold_loses_nothing_and_doubles_nothing(void **state)
{
    fixture f;
    searcher searchers[2];
    atomic_bool stop = false;
    dp_collection_info info;
    bool was_scanned = false, was_walked = false;
    (void)state;
    fixture_init(&f, schema, 1);
    put_anchors(&f);
    for (size_t i = 0; i < 2; i++) {
        searchers[i] = (searcher){.f = &f, .stop = &stop};
        assert_int_equal(
            ort_thread_start(&searchers[i].thread, "search", search_main, &searchers[i], NULL),
            ORT_OK);
    }
    for (unsigned i = 0; i < OTHERS; i += BATCH) {
        put_others(&f, i, BATCH);
        put_anchors(&f);
        dp_collection_get_info(f.c, &info);
        was_scanned = was_scanned || info.indexed_vectors == 0;
        was_walked = was_walked || info.indexed_vectors > 0;
    }
    assert_int_equal(dp_collection_wait_indexed(f.c, ort_mono_ns() + UINT64_C(240000000000)),
                     ORT_OK);
    atomic_store(&stop, true);
    for (size_t i = 0; i < 2; i++) {
        pthread_join(searchers[i].thread, NULL);
        assert_true(searchers[i].searches > 0);
        assert_int_equal(searchers[i].failed, 0);
        assert_int_equal(searchers[i].missing, 0);
        assert_int_equal(searchers[i].twice, 0);
    }
    dp_collection_get_info(f.c, &info);
    assert_true(was_scanned);
    assert_true(was_walked || info.indexed_vectors > 0);
    assert_int_equal(info.indexed_vectors, OTHERS + ANCHORS);
    searcher last = {.f = &f};
    search_once(&last);
    assert_int_equal(last.missing + last.twice + last.failed, 0);
    fixture_fini(&f);
}

/* Neither in memory nor on disk, however often it is opened and folded; and searches are exact. */
static void
below_the_threshold_there_is_no_graph(void **state)
{
    fixture f;
    dp_collection_info info;
    ort_diag diag;
    (void)state;
    fixture_init(&f, schema, 1);
    put_anchors(&f);
    put_others(&f, 0, 400);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(dp_collection_checkpoint(f.c, &diag), ORT_OK);
        assert_int_equal(dp_collection_wait_indexed(f.c, ort_mono_ns() + UINT64_C(240000000000)),
                         ORT_OK);
        dp_collection_get_info(f.c, &info);
        assert_true(info.green);
        assert_int_equal(info.indexed_vectors, 0);
        assert_int_equal(graph_files(&f), 0);
        searcher s = {.f = &f};
        search_once(&s);
        assert_int_equal(s.missing + s.twice + s.failed, 0);
        fixture_reopen(&f);
    }
    fixture_fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crossing_the_threshold_loses_nothing_and_doubles_nothing),
        cmocka_unit_test(below_the_threshold_there_is_no_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
