/* Sets of codes of a graph: asked for, learnt, replaced, drifted from, saved and read back. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/scratch.h"
#include "unit/index_support.h"

#define DIM 48u
#define N 3000u
#define K 10u

typedef struct {
    test_rows rows;
    dp_hnsw *graph;
    float *vectors;
} fixture;

static void
make(fixture *f, dp_metric metric, dp_code code, dp_code_options options, uint32_t n)
{
    dp_hnsw_config config = {.metric = metric, .code = code, .coding = options};

    f->vectors = test_clusters(11, N, DIM, 30, 0.5F);
    if (metric == DP_METRIC_COSINE) {
        test_normalize(f->vectors, N, DIM);
    }
    test_rows_init(&f->rows, DP_ELEM_F32, DIM, N * 2);
    for (uint32_t i = 0; i < N; i++) {
        test_rows_put(&f->rows, i, f->vectors + (size_t)i * DIM);
    }
    assert_int_equal(dp_hnsw_new(&f->graph, &f->rows.view, &config, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_build(f->graph, 0, n, NULL, 1, NULL, NULL), ORT_OK);
}

static void
drop(fixture *f)
{
    dp_hnsw_free(f->graph);
    test_rows_fini(&f->rows);
    free(f->vectors);
}

static double
recall(fixture *f, dp_metric metric, dp_hnsw_query ask)
{
    double sum = 0;

    ask.k = K;
    for (uint32_t q = 0; q < 60; q++) {
        const float *query = f->vectors + (size_t)(q * 37 % N) * DIM;
        dp_hit hits[K];
        size_t n = 0;

        assert_int_equal(dp_hnsw_search(f->graph, query, ask, NULL, hits, &n), ORT_OK);
        assert_int_equal(n, K);
        sum += test_recall(&f->rows.view, metric, query, NULL, dp_hnsw_count(f->graph), hits, n, K);
    }
    return sum / 60;
}

static dp_hnsw_codes_report
codes_of(fixture *f)
{
    dp_hnsw_codes_report r;

    dp_hnsw_codes(f->graph, &r);
    return r;
}

/* Below a thousand nodes there is too little to learn from: bytes, whatever was asked for. */
static void
small_graphs_stay_with_bytes(void **state)
{
    fixture f;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_ROTATED, (dp_code_options){.bits = 2}, 500);
    assert_false(dp_hnsw_wants_tune(f.graph));
    assert_int_equal(dp_hnsw_tune(f.graph, NULL, NULL), ORT_OK);
    assert_int_equal(codes_of(&f).kind, DP_CODE_INT8);
    assert_true(recall(&f, DP_METRIC_EUCLID, (dp_hnsw_query){.ef = 64}) > 0.99);
    drop(&f);
}

/* Called off, walks go on over what there was, and it is still to be done. */
static void
a_cancelled_tune_leaves_all_as_it_was(void **state)
{
    dp_hnsw_progress progress = {.cancel = true};
    fixture f;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_BINARY, (dp_code_options){0}, N / 2);
    assert_int_equal(dp_hnsw_tune(f.graph, &progress, NULL), ORT_EBUSY);
    assert_int_equal(codes_of(&f).kind, DP_CODE_INT8);
    assert_true(dp_hnsw_wants_tune(f.graph));
    progress.cancel = false;
    assert_int_equal(dp_hnsw_tune(f.graph, &progress, NULL), ORT_OK);
    assert_int_equal(codes_of(&f).kind, DP_CODE_BINARY);
    drop(&f);
}

/* One graph goes from kind to kind, to none and back, and each answers as well. */
static void
other_codes_can_be_asked_for(void **state)
{
    static const struct {
        dp_code kind;
        dp_code_options options;
    } asked[] = {{DP_CODE_ROTATED, {.bits = 4}}, {DP_CODE_NONE, {.bits = 0}},
                 {DP_CODE_BINARY, {.bits = 1}},  {DP_CODE_ROTATED, {.bits = 7}},
                 {DP_CODE_ROTATED, {.bits = 3}}, {DP_CODE_INT8, {.bits = 0}},
                 {DP_CODE_NONE, {.bits = 0}},    {DP_CODE_AUTO, {.bits = 0}}};
    static const dp_metric metrics[] = {DP_METRIC_EUCLID, DP_METRIC_COSINE};

    (void)state;
    for (size_t m = 0; m < 2; m++) {
        fixture f;

        make(&f, metrics[m], DP_CODE_AUTO, (dp_code_options){0}, N / 2);
        for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
            assert_int_equal(dp_hnsw_ask_codes(f.graph, asked[i].kind, asked[i].options, NULL),
                             ORT_OK);
            assert_true(dp_hnsw_wants_tune(f.graph));
            assert_int_equal(dp_hnsw_tune(f.graph, NULL, NULL), ORT_OK);
            assert_false(dp_hnsw_wants_tune(f.graph));
            assert_true(asked[i].kind == DP_CODE_AUTO || codes_of(&f).kind == asked[i].kind);
            assert_true(recall(&f, metrics[m], (dp_hnsw_query){.ef = 64}) > 0.99);
        }
        /* The same again is no change. */
        assert_int_equal(dp_hnsw_ask_codes(f.graph, DP_CODE_AUTO, (dp_code_options){0}, NULL),
                         ORT_OK);
        assert_false(dp_hnsw_wants_tune(f.graph));
        assert_int_equal(
            dp_hnsw_ask_codes(f.graph, DP_CODE_ROTATED, (dp_code_options){.bits = 9}, NULL),
            ORT_EINVAL);
        drop(&f);
    }
}

/* Rows that come from elsewhere are coded worse; that is seen, and mended by training anew. */
static void
drift_is_seen_and_followed(void **state)
{
    fixture f;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_ROTATED, (dp_code_options){.bits = 2}, 2000);
    assert_int_equal(dp_hnsw_tune(f.graph, NULL, NULL), ORT_OK);
    for (uint32_t i = 2000; i < 2700; i++) { /* as before: nothing to do */
        assert_int_equal(dp_hnsw_insert(f.graph, i), ORT_OK);
    }
    assert_false(dp_hnsw_wants_tune(f.graph));
    for (uint32_t i = 2700; i < N; i++) { /* far away */
        float *x = f.vectors + (size_t)i * DIM;

        for (uint32_t j = 0; j < DIM; j++) {
            x[j] += 40.0F;
        }
        test_rows_put(&f.rows, i, x);
    }
    for (uint32_t i = 2700; i < N; i++) {
        assert_int_equal(dp_hnsw_insert(f.graph, i), ORT_OK);
    }
    assert_true(dp_hnsw_count(f.graph) < 4000); /* it has not doubled */
    assert_true(dp_hnsw_wants_tune(f.graph));
    assert_int_equal(dp_hnsw_tune(f.graph, NULL, NULL), ORT_OK);
    assert_false(dp_hnsw_wants_tune(f.graph));
    assert_true(recall(&f, DP_METRIC_EUCLID, (dp_hnsw_query){.ef = 64}) > 0.98);
    drop(&f);
}

/* What a search may ask of codes: none at all, their own distances, a deeper second look. */
static void
a_search_can_say_how_codes_are_used(void **state)
{
    const dp_hnsw_query by_rows = {.k = K, .ef = 64, .by_rows = true};
    const dp_hnsw_query plain = {.k = K, .ef = 64, .unrescored = true};
    dp_hit exact[K];
    dp_hit coded[K];
    size_t n = 0;
    fixture f;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_BINARY, (dp_code_options){.bits = 1}, N / 2);
    assert_int_equal(dp_hnsw_tune(f.graph, NULL, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_search(f.graph, f.vectors, by_rows, NULL, exact, &n), ORT_OK);
    assert_true(exact[0].distance == 0.0F);
    assert_int_equal(dp_hnsw_search(f.graph, f.vectors, plain, NULL, coded, &n), ORT_OK);
    assert_int_equal(n, K);
    for (size_t i = 1; i < K; i++) { /* in the order of codes, which is another one */
        assert_false(dp_hit_nearer(coded[i], coded[i - 1]));
    }
    assert_memory_not_equal(exact, coded, sizeof exact);
    assert_true(recall(&f, DP_METRIC_EUCLID, by_rows) > 0.99);
    assert_true(recall(&f, DP_METRIC_EUCLID, (dp_hnsw_query){.ef = 16, .oversampling = 20}) >=
                recall(&f, DP_METRIC_EUCLID, (dp_hnsw_query){.ef = 16}));
    assert_true(recall(&f, DP_METRIC_EUCLID, (dp_hnsw_query){.ef = 16, .oversampling = 1e30F}) >
                0.98);
    drop(&f);
}

/* A graph read back walks over the codes it had, with what was learnt about them. */
static void
codes_survive_a_file(void **state)
{
    static const struct {
        dp_code kind;
        dp_code_options options;
    } asked[] = {{DP_CODE_ROTATED, {.bits = 4}},
                 {DP_CODE_BINARY, {.bits = 2}},
                 {DP_CODE_INT8, {.quantile = 0.98F, .bits = 0}},
                 {DP_CODE_PRODUCT, {.ratio = 8}},
                 {DP_CODE_AUTO, {.bits = 0}}};
    char path[64];
    int dir;

    (void)state;
    scratch_dir(path, sizeof path, "ort-codes");
    dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir >= 0);
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        dp_hnsw_config config = {
            .metric = DP_METRIC_EUCLID, .code = asked[i].kind, .coding = asked[i].options};
        dp_hnsw_stamp stamp = {.owner = {1, 2}};
        dp_hnsw_codes_report before;
        dp_hnsw_codes_report after;
        dp_hnsw *again = NULL;
        dp_hit a[K];
        dp_hit b[K];
        size_t n = 0;
        size_t m = 0;
        fixture f;

        make(&f, DP_METRIC_EUCLID, asked[i].kind, asked[i].options, N / 2);
        assert_int_equal(dp_hnsw_tune(f.graph, NULL, NULL), ORT_OK);
        assert_int_equal(dp_hnsw_save(f.graph, dir, "graph", &stamp, NULL), ORT_OK);
        assert_int_equal(dp_hnsw_load(&again, &f.rows.view, &config, dir, "graph", &stamp, NULL),
                         ORT_OK);
        dp_hnsw_codes(f.graph, &before);
        dp_hnsw_codes(again, &after);
        assert_true(before.kind == after.kind && before.row_bytes == after.row_bytes &&
                    before.depth == after.depth && before.widen == after.widen);
        assert_false(dp_hnsw_wants_tune(again));
        for (uint32_t q = 0; q < 20; q++) {
            const float *query = f.vectors + (size_t)q * 100 * DIM;

            assert_int_equal(
                dp_hnsw_search(f.graph, query, (dp_hnsw_query){.k = K, .ef = 40}, NULL, a, &n),
                ORT_OK);
            assert_int_equal(
                dp_hnsw_search(again, query, (dp_hnsw_query){.k = K, .ef = 40}, NULL, b, &m),
                ORT_OK);
            assert_true(n == m && memcmp(a, b, n * sizeof a[0]) == 0);
        }
        dp_hnsw_free(again);
        /* Other settings: the links serve them, the codes are trained anew. */
        config.coding = (dp_code_options){.bits = 1, .quantile = 0.7F};
        assert_int_equal(dp_hnsw_load(&again, &f.rows.view, &config, dir, "graph", &stamp, NULL),
                         ORT_OK);
        assert_true(dp_hnsw_wants_tune(again) == (config.code != DP_CODE_AUTO));
        dp_hnsw_free(again);
        config.code = before.kind == DP_CODE_BINARY ? DP_CODE_ROTATED : DP_CODE_BINARY;
        assert_int_equal(dp_hnsw_load(&again, &f.rows.view, &config, dir, "graph", &stamp, NULL),
                         ORT_OK);
        assert_true(dp_hnsw_wants_tune(again));
        assert_int_equal(dp_hnsw_tune(again, NULL, NULL), ORT_OK);
        dp_hnsw_codes(again, &after);
        assert_int_equal(after.kind, config.code);
        dp_hnsw_free(again);
        drop(&f);
    }
    assert_int_equal(unlinkat(dir, "graph", 0), 0);
    close(dir);
    assert_int_equal(rmdir(path), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_graphs_stay_with_bytes),
        cmocka_unit_test(a_cancelled_tune_leaves_all_as_it_was),
        cmocka_unit_test(other_codes_can_be_asked_for),
        cmocka_unit_test(drift_is_seen_and_followed),
        cmocka_unit_test(a_search_can_say_how_codes_are_used),
        cmocka_unit_test(codes_survive_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
