/* Recall on pieces of the real sets, at default parameters, against exact scans. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "unit/index_support.h"

#define BASE 4000u /* of each set; whole sets are for tests/bench */
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
        cmocka_unit_test(notes_384_by_codes),     cmocka_unit_test(notes_384_by_rows),
        cmocka_unit_test(mnist_784_by_codes),     cmocka_unit_test(lexcohere_1536_as_halves),
        cmocka_unit_test(photosift_128_as_bytes), cmocka_unit_test(photosift_128_by_manhattan),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
