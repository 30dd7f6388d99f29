/* Recall on pieces of the real sets, at default parameters, against exact scans. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "unit/index_support.h"

#define BASE 4000u /* of each set; whole sets are for tests/bench */
#define KINDS_BASE 1600u
#define QUERIES 100u
#define K 10u
#define RECALL_MIN 0.95 /* at m 16, ef_construct 100, ef 100: the bound */

static void
recall_of(const char *set, dp_metric metric, dp_elem elem, dp_code code)
{
    char name[64];
    uint32_t dim = 0;
    size_t n = 0;
    size_t query_count = 0;
    float *base;
    float *queries;
    test_rows rows;
    dp_hnsw *graph;
    dp_hnsw_report report;
    dp_hnsw_config config = {.metric = metric, .code = code};
    double sum = 0;

    (void)snprintf(name, sizeof name, "%s.base", set);
    base = test_dataset(name, BASE, &n, &dim);
    (void)snprintf(name, sizeof name, "%s.query", set);
    queries = base != NULL ? test_dataset(name, QUERIES, &query_count, &dim) : NULL;
    if (queries == NULL) {
        free(base);
        print_message("SKIP %s: not in ORT_DATA_DIR\n", set);
        skip();
        return; /* skip() does not come back, but nothing says so */
    }
    if (metric == DP_METRIC_COSINE) {
        test_normalize(base, n, dim);
        test_normalize(queries, query_count, dim);
    }
    test_rows_init(&rows, elem, dim, (uint32_t)n);
    for (uint32_t i = 0; i < n; i++) {
        test_rows_put(&rows, i, base + (size_t)i * dim);
    }
    assert_int_equal(dp_hnsw_new(&graph, &rows.view, &config, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_build(graph, 0, (uint32_t)n, NULL, 1, NULL, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_count(graph), n);
    for (size_t q = 0; q < query_count; q++) {
        dp_hit hits[K];
        size_t found = 0;

        assert_int_equal(
            dp_hnsw_search(graph, queries + q * dim, (dp_hnsw_query){.k = K}, NULL, hits, &found),
            ORT_OK);
        assert_int_equal(found, K);
        sum +=
            test_recall(&rows.view, metric, queries + q * dim, NULL, (uint32_t)n, hits, found, K);
    }
    assert_int_equal(dp_hnsw_check(graph, &report), ORT_OK);
    print_message("%s metric %d elem %d code %d: recall@10 %.4f, degree %.1f, unreachable %u\n",
                  set, (int)metric, (int)elem, (int)code, sum / (double)query_count,
                  report.degree_mean, report.unreachable);
    assert_int_equal(report.dead_links, 0);
    assert_int_equal(report.bad_links, 0);
    assert_true(sum / (double)query_count >= RECALL_MIN);
    dp_hnsw_free(graph);
    test_rows_fini(&rows);
    free(base);
    free(queries);
}

/* ---- kinds of codes ---- */

static const struct {
    dp_code kind;
    dp_code_options options;
} asked[] = {{DP_CODE_NONE, {.bits = 0}},    {DP_CODE_AUTO, {.bits = 0}},
             {DP_CODE_INT8, {.bits = 0}},    {DP_CODE_INT8, {.quantile = 0.99F, .bits = 0}},
             {DP_CODE_BINARY, {.bits = 1}},  {DP_CODE_ROTATED, {.bits = 1}},
             {DP_CODE_ROTATED, {.bits = 2}}, {DP_CODE_PRODUCT, {.ratio = 1}},
             {DP_CODE_PRODUCT, {.ratio = 4}}};
#define ASKED (sizeof asked / sizeof asked[0])

static double
recall_at(dp_hnsw *graph, const test_rows *rows, dp_metric metric, const float *queries,
          uint32_t ef)
{
    double sum = 0;

    for (size_t q = 0; q < QUERIES; q++) {
        const float *query = queries + q * rows->view.dim;
        dp_hit hits[K];
        size_t found = 0;

        assert_int_equal(
            dp_hnsw_search(graph, query, (dp_hnsw_query){.k = K, .ef = ef}, NULL, hits, &found),
            ORT_OK);
        sum += test_recall(&rows->view, metric, query, NULL, dp_hnsw_count(graph), hits, found, K);
    }
    return sum / QUERIES;
}

/* The same graph, walked over rows and then over codes of each kind, finds within half a point as
 * much at equal ef. A third of the rows comes after the codes took over, so that linking by coarse
 * codes is in it. */
static void
kinds_of(const char *set, dp_metric metric, size_t step)
{
    static const uint32_t efs[] = {16, 48, 128};
    char name[64];
    uint32_t dim = 0;
    size_t n = 0;
    size_t query_count = 0;
    double by_rows[3] = {0};
    float *base;
    float *queries;
    test_rows rows;

    (void)snprintf(name, sizeof name, "%s.base", set);
    base = test_dataset(name, KINDS_BASE, &n, &dim);
    (void)snprintf(name, sizeof name, "%s.query", set);
    queries = base != NULL ? test_dataset(name, QUERIES, &query_count, &dim) : NULL;
    if (queries == NULL) {
        free(base);
        print_message("SKIP %s: not in ORT_DATA_DIR\n", set);
        skip();
        return;
    }
    if (metric == DP_METRIC_COSINE) {
        test_normalize(base, n, dim);
        test_normalize(queries, query_count, dim);
    }
    test_rows_init(&rows, DP_ELEM_F32, dim, (uint32_t)n);
    for (uint32_t i = 0; i < n; i++) {
        test_rows_put(&rows, i, base + (size_t)i * dim);
    }
    for (size_t a = 0; a < ASKED; a += step) {
        dp_hnsw_config config = {
            .metric = metric, .code = asked[a].kind, .coding = asked[a].options};
        dp_hnsw_codes_report codes;
        dp_hnsw *graph;
        double recall[3];

        assert_int_equal(dp_hnsw_new(&graph, &rows.view, &config, NULL), ORT_OK);
        assert_int_equal(dp_hnsw_build(graph, 0, (uint32_t)n * 2 / 3, NULL, 1, NULL, NULL), ORT_OK);
        assert_true(dp_hnsw_wants_tune(graph) == (config.code != DP_CODE_NONE));
        assert_int_equal(dp_hnsw_tune(graph, NULL, NULL), ORT_OK);
        assert_false(dp_hnsw_wants_tune(graph));
        assert_int_equal(dp_hnsw_build(graph, 0, (uint32_t)n, NULL, 1, NULL, NULL), ORT_OK);
        dp_hnsw_codes(graph, &codes);
        assert_true(asked[a].kind == DP_CODE_AUTO || codes.kind == asked[a].kind);
        for (size_t e = 0; e < 3; e++) {
            recall[e] = recall_at(graph, &rows, metric, queries, efs[e]);
            by_rows[e] = a == 0 ? recall[e] : by_rows[e];
        }
        print_message("%s kind %d bits %u: %zu bytes a row, widened %.2f, %u looked at again; "
                      "recall@10 %.4f %.4f %.4f\n",
                      set, (int)codes.kind, codes.options.bits, codes.row_bytes,
                      (double)codes.widen, codes.depth, recall[0], recall[1], recall[2]);
        for (size_t e = 0; e < 3; e++) {
            assert_true(recall[e] >= by_rows[e] - 0.005);
        }
        dp_hnsw_free(graph);
    }
    test_rows_fini(&rows);
    free(base);
    free(queries);
}

static void
kinds_of_codes_on_notes_384(void **state)
{
    (void)state;
    kinds_of("notes-384", DP_METRIC_COSINE, 1);
}

static void
kinds_of_codes_on_photosift_128(void **state)
{
    (void)state;
    kinds_of("photosift-128", DP_METRIC_EUCLID, 2);
}

static void
notes_384_by_codes(void **state)
{
    (void)state;
    recall_of("notes-384", DP_METRIC_COSINE, DP_ELEM_F32, DP_CODE_AUTO);
}

static void
notes_384_by_rows(void **state)
{
    (void)state;
    recall_of("notes-384", DP_METRIC_COSINE, DP_ELEM_F32, DP_CODE_NONE);
}

static void
mnist_784_by_codes(void **state)
{
    (void)state;
    recall_of("mnist-784", DP_METRIC_EUCLID, DP_ELEM_F32, DP_CODE_AUTO);
}

static void
lexcohere_1536_as_halves(void **state)
{
    (void)state;
    recall_of("lexcohere-1536", DP_METRIC_COSINE, DP_ELEM_F16, DP_CODE_AUTO);
}

static void
photosift_128_as_bytes(void **state)
{
    (void)state;
    recall_of("photosift-128", DP_METRIC_EUCLID, DP_ELEM_U8, DP_CODE_AUTO);
}

static void
photosift_128_by_manhattan(void **state)
{
    (void)state;
    recall_of("photosift-128", DP_METRIC_MANHATTAN, DP_ELEM_F32, DP_CODE_AUTO);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notes_384_by_codes),
        cmocka_unit_test(notes_384_by_rows),
        cmocka_unit_test(mnist_784_by_codes),
        cmocka_unit_test(lexcohere_1536_as_halves),
        cmocka_unit_test(photosift_128_as_bytes),
        cmocka_unit_test(photosift_128_by_manhattan),
        cmocka_unit_test(kinds_of_codes_on_notes_384),
        cmocka_unit_test(kinds_of_codes_on_photosift_128),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
