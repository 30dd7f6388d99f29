/* The graph: insert, search, filters, delete, repair, and what a file of it may hold. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "unit/index_support.h"

#define DIM 32u
#define N 3000u
#define QUERIES 60u
#define K 10u

static float *vectors; /* 2 N of them, then QUERIES */
static const float *queries;
static float *units; /* the same, of unit length: for COSINE */

typedef struct {
    test_rows rows;
    dp_hnsw *graph;
    dp_metric metric;
} fixture;

static void
make(fixture *f, dp_metric metric, dp_code code, uint32_t n)
{
    dp_hnsw_config config = {.metric = metric, .code = code};
    const float *from = metric == DP_METRIC_COSINE ? units : vectors;

    f->metric = metric;
    test_rows_init(&f->rows, DP_ELEM_F32, DIM, 2 * N);
    for (uint32_t i = 0; i < n; i++) {
        test_rows_put(&f->rows, i, from + (size_t)i * DIM);
    }
    assert_int_equal(dp_hnsw_new(&f->graph, &f->rows.view, &config, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_build(f->graph, 0, n, NULL, 1, NULL, NULL), ORT_OK);
}

static void
unmake(fixture *f)
{
    dp_hnsw_free(f->graph);
    test_rows_fini(&f->rows);
}

static double
mean_recall(fixture *f, const dp_slot_filter *filter, uint32_t slot_end, uint32_t ef)
{
    const float *ask = f->metric == DP_METRIC_COSINE ? units + (size_t)2 * N * DIM : queries;
    double sum = 0;

    for (size_t q = 0; q < QUERIES; q++) {
        dp_hit hits[K];
        size_t n = 0;

        assert_int_equal(dp_hnsw_search(f->graph, ask + q * DIM, (dp_hnsw_query){.k = K, .ef = ef},
                                        filter, hits, &n),
                         ORT_OK);
        for (size_t i = 0; i < n; i++) {
            assert_true(dp_slot_filter_passes(filter, hits[i].slot));
            assert_true(i == 0 || !dp_hit_nearer(hits[i], hits[i - 1]));
        }
        sum += test_recall(&f->rows.view, f->metric, ask + q * DIM, filter, slot_end, hits, n, K);
    }
    return sum / QUERIES;
}

static void
check_invariants(fixture *f, uint32_t nodes)
{
    dp_hnsw_report report;

    assert_int_equal(dp_hnsw_check(f->graph, &report), ORT_OK);
    assert_int_equal(report.nodes, nodes);
    assert_int_equal(report.dead_links, 0);
    assert_int_equal(report.bad_links, 0);
    assert_true(report.unreachable <= nodes / 500);
}

/* An empty graph answers nothing, a graph of one answers that one. */
static void
small_graphs_answer(void **state)
{
    fixture f;
    dp_hit hits[K];
    size_t n = 99;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, 0);
    assert_int_equal(dp_hnsw_search(f.graph, queries, (dp_hnsw_query){.k = K}, NULL, hits, &n),
                     ORT_OK);
    assert_int_equal(n, 0);
    for (uint32_t i = 0; i < 5; i++) {
        test_rows_put(&f.rows, i, vectors + (size_t)i * DIM);
        assert_int_equal(dp_hnsw_insert(f.graph, i), ORT_OK);
        assert_int_equal(dp_hnsw_insert(f.graph, i), ORT_EEXISTS);
        assert_int_equal(dp_hnsw_search(f.graph, queries, (dp_hnsw_query){.k = K}, NULL, hits, &n),
                         ORT_OK);
        assert_int_equal(n, i + 1);
    }
    assert_int_equal(dp_hnsw_search(f.graph, queries, (dp_hnsw_query){.k = 0}, NULL, hits, &n),
                     ORT_EINVAL);
    unmake(&f);
}

static void
every_metric_finds_its_neighbours(void **state)
{
    (void)state;
    for (int m = 0; m < DP_METRIC_COUNT; m++) {
        for (int code = DP_CODE_AUTO; code <= DP_CODE_NONE; code++) {
            fixture f;

            make(&f, (dp_metric)m, (dp_code)code, N);
            check_invariants(&f, N);
            assert_true(mean_recall(&f, NULL, N, 100) >= 0.97); /* clusters, m 16, ef 100 */
            unmake(&f);
        }
    }
}

/* Many equal vectors must not cut the graph in pieces. */
static void
duplicates_leave_the_rest_reachable(void **state)
{
    fixture f;
    dp_hit hits[K];
    size_t n = 0;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, 500);
    for (uint32_t i = 500; i < 1500; i++) {
        test_rows_put(&f.rows, i, vectors);
        assert_int_equal(dp_hnsw_insert(f.graph, i), ORT_OK);
    }
    for (uint32_t i = 1; i < 500; i++) {
        assert_int_equal(dp_hnsw_search(f.graph, vectors + (size_t)i * DIM, (dp_hnsw_query){.k = 1},
                                        NULL, hits, &n),
                         ORT_OK);
        assert_true(n == 1 && hits[0].distance < 1e-6F);
    }
    unmake(&f);
}

/* Rows in another order: by distance from one of them, or (pivots > 1) all that are nearest to one
 * pivot before those of the next. */
typedef struct {
    float key;
    uint32_t row;
} order_entry;

static int
compare_entries(const void *a, const void *b)
{
    const order_entry *x = a;
    const order_entry *y = b;

    return (x->key > y->key) - (x->key < y->key);
}

static void
order_rows(order_entry *order, uint32_t pivots)
{
    for (uint32_t i = 0; i < N; i++) {
        float nearest = 0;

        order[i] = (order_entry){.key = (float)i, .row = i};
        for (uint32_t p = 0; p < pivots; p++) {
            float d = 0;

            for (uint32_t c = 0; c < DIM; c++) {
                float x = vectors[(size_t)i * DIM + c] - vectors[(size_t)p * DIM + c];

                d += x * x;
            }
            if (p == 0 || d < nearest) {
                nearest = d;
                order[i].key = pivots == 1 ? d : (float)p;
            }
        }
    }
    qsort(order, N, sizeof *order, compare_entries);
}

/* Recall at a small ef, where the graph's quality shows. */
static double
recall_in_order(const order_entry *order, uint32_t threads)
{
    fixture f;
    double recall;

    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, 0);
    for (uint32_t i = 0; i < N; i++) {
        test_rows_put(&f.rows, i, vectors + (size_t)order[i].row * DIM);
    }
    assert_int_equal(dp_hnsw_build(f.graph, 0, N, NULL, threads, NULL, NULL), ORT_OK);
    check_invariants(&f, N);
    recall = mean_recall(&f, NULL, N, 14);
    unmake(&f);
    return recall;
}

/* Imports come sorted, or one source after the other, which is the worst a naive builder can meet:
 * each row links to the last ones. And threads that build together must not miss each other. */
static void
neither_order_nor_threads_cost_recall(void **state)
{
    static const uint32_t pivots[] = {0, 1, 60};
    order_entry *order = malloc(N * sizeof *order);
    double shuffled = 0;

    (void)state;
    assert_non_null(order);
    for (size_t i = 0; i < sizeof pivots / sizeof pivots[0]; i++) {
        order_rows(order, pivots[i]);
        for (uint32_t threads = 1; threads <= 4; threads += 3) {
            const double recall = recall_in_order(order, threads);

            print_message("order by %u pivots, %u threads: recall@10 at ef 14 is %.4f\n", pivots[i],
                          threads, recall);
            shuffled = i == 0 && threads == 1 ? recall : shuffled;
            assert_true(recall >= shuffled - 0.02);
        }
    }
    free(order);
}

static bool
is_multiple(void *arg, uint32_t slot)
{
    return slot % *(const uint32_t *)arg == 0;
}

/* From "half pass" to "two pass": each uses another method, all must be right. */
static void
filters_return_what_passes_and_find_it(void **state)
{
    static const uint32_t every[] = {1, 2, 3, 5, 20, 100, 1500, 5000};
    fixture f;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, N);
    for (size_t i = 0; i < sizeof every / sizeof every[0]; i++) {
        uint32_t step = every[i];
        dp_slot_filter filter = {.match = is_multiple, .arg = &step};

        assert_true(mean_recall(&f, &filter, N, 20) >= (step <= 3 ? 0.8 : 0.95));
        /* A caller that is wrong about the share gets a right answer all the same. */
        filter.selectivity = 0.9F;
        assert_true(mean_recall(&f, &filter, N, 20) >= 0.8);
        filter.selectivity = 0.2F;
        assert_true(mean_recall(&f, &filter, N, 20) >= 0.8);
    }
    unmake(&f);
}

/* Lets so many pass: 'n' those nearest to one point, 'f' those farthest from it, 'r' by chance. */
static uint32_t
choose_matches(_Atomic(uint64_t) *words, char how, double share)
{
    static float far[N];
    uint32_t passing = 0;

    memset((void *)words, 0, (N / 64 + 1) * sizeof *words);
    for (uint32_t i = 0; i < N * DIM; i++) {
        const float d = vectors[i] - vectors[i % DIM];

        far[i / DIM] = (i % DIM == 0 ? 0 : far[i / DIM]) + d * d;
    }
    for (uint32_t slot = 0; slot < N; slot++) {
        uint32_t before = 0; /* points that come before this one */

        for (uint32_t other = 0; other < N && how != 'r'; other++) {
            before += how == 'n' ? far[other] < far[slot] : far[other] > far[slot];
        }
        if (how == 'r' ? (slot * 2654435761U) >> 8 < share * (1U << 24) : before < share * N) {
            words[slot / 64] |= UINT64_C(1) << (slot % 64);
            passing++;
        }
    }
    return passing;
}

/* Matches that lie together, near the query or far from it: walks go through what does not match,
 * over matches alone, and, where the query's own surroundings match less than the rest, from one to
 * the other. An estimate of the share that is too high keeps all of them from a scan. */
static void
filters_correlated_with_the_vectors_find_what_passes(void **state)
{
    static const struct {
        char how;
        double share;
    } cases[] = {{'r', 0.6}, {'r', 0.29}, {'n', 0.6}, {'n', 0.1}, {'f', 0.6}, {'f', 0.1}};
    static const uint32_t efs[] = {10, 40};
    static _Atomic(uint64_t) words[N / 64 + 1];
    fixture f;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, N);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint32_t passing = choose_matches(words, cases[i].how, cases[i].share);

        for (size_t e = 0; e < 4; e++) {
            const dp_slot_filter filter = {
                .allowed = {words, N}, .selectivity = e < 2 ? (float)passing / (float)N : 0.999F};
            const double recall = mean_recall(&f, &filter, N, efs[e % 2]);

            print_message("%c, %u pass: recall@10 at ef %u is %.4f\n", cases[i].how, passing,
                          efs[e % 2], recall);
            /* Of ef = k, and with a wrong estimate, only a part is asked for. */
            assert_true(recall >= (e % 2 != 0 ? 0.95 : e == 0 ? 0.85 : 0.5));
        }
    }
    unmake(&f);
}

static void
nothing_passes_nothing_comes(void **state)
{
    static _Atomic(uint64_t) none[N / 64 + 1];
    dp_slot_filter filter = {.live = {none, N}};
    fixture f;

    (void)state;
    make(&f, DP_METRIC_DOT, DP_CODE_AUTO, N);
    assert_true(mean_recall(&f, &filter, N, 20) == 1.0);
    unmake(&f);
}

/* A deleted slot is gone at once, before any repair. */
static void
deleted_slots_are_never_answered(void **state)
{
    fixture f;
    dp_hit hits[K];
    size_t n = 0;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, N);
    for (uint32_t i = 0; i < 200; i++) {
        assert_int_equal(dp_hnsw_delete(f.graph, i), ORT_OK);
        assert_int_equal(dp_hnsw_delete(f.graph, i), ORT_ENOTFOUND);
        assert_int_equal(dp_hnsw_search(f.graph, vectors + (size_t)i * DIM, (dp_hnsw_query){.k = K},
                                        NULL, hits, &n),
                         ORT_OK);
        assert_int_equal(n, K);
        for (size_t j = 0; j < n; j++) {
            assert_true(hits[j].slot > i);
        }
    }
    assert_int_equal(dp_hnsw_count(f.graph), N - 200);
    assert_int_equal(dp_hnsw_deleted(f.graph), 200);
    assert_false(dp_hnsw_has(f.graph, 5));
    unmake(&f);
}

/* The entry is the top of all levels: taking it away, again and again, to the last node, must leave
 * a graph that answers. */
static void
any_node_can_go_until_none_is_left(void **state)
{
    fixture f;
    dp_hit hits[K];
    size_t n = 0;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, 600);
    for (uint32_t left = 600; left > 0; left -= 50) {
        for (uint32_t i = 0; i < 50; i++) {
            assert_int_equal(dp_hnsw_delete(f.graph, 600 - left + i), ORT_OK);
        }
        assert_int_equal(dp_hnsw_repair(f.graph), ORT_OK);
        check_invariants(&f, left - 50);
        assert_int_equal(dp_hnsw_search(f.graph, queries, (dp_hnsw_query){.k = K}, NULL, hits, &n),
                         ORT_OK);
        assert_int_equal(n, left > 50 ? K : 0);
    }
    assert_int_equal(dp_hnsw_insert(f.graph, 3), ORT_OK);
    assert_int_equal(dp_hnsw_search(f.graph, queries, (dp_hnsw_query){.k = K}, NULL, hits, &n),
                     ORT_OK);
    assert_int_equal(n, 1);
    unmake(&f);
}

/* All points replaced twice, in the same slots: recall within a point of a fresh graph, and no more
 * memory. */
static void
replacing_all_points_twice_costs_no_recall_and_no_memory(void **state)
{
    fixture f;
    fixture fresh;
    size_t bytes;
    double after;
    double before;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, N);
    bytes = dp_hnsw_bytes(f.graph);
    for (uint32_t round = 0; round < 2; round++) {
        const float *source = vectors + (round == 0 ? (size_t)N * DIM : 0);

        for (uint32_t begin = 0; begin < N; begin += 150) {
            for (uint32_t i = begin; i < begin + 150; i++) {
                assert_int_equal(dp_hnsw_delete(f.graph, i), ORT_OK);
            }
            assert_int_equal(dp_hnsw_repair(f.graph), ORT_OK);
            for (uint32_t i = begin; i < begin + 150; i++) {
                test_rows_put(&f.rows, i, source + (size_t)i * DIM);
                assert_int_equal(dp_hnsw_insert(f.graph, i), ORT_OK);
            }
        }
        check_invariants(&f, N);
    }
    assert_int_equal(dp_hnsw_bytes(f.graph), bytes);
    make(&fresh, DP_METRIC_EUCLID, DP_CODE_AUTO, N);
    after = mean_recall(&f, NULL, N, 16);
    before = mean_recall(&fresh, NULL, N, 16);
    print_message("recall@10 at ef 16: fresh %.4f, after two replacements %.4f\n", before, after);
    assert_true(after >= before - 0.01);
    unmake(&f);
    unmake(&fresh);
}

/* ---- files ---- */

static void
bounds_of_the_configuration(void **state)
{
    test_rows rows;
    dp_hnsw *graph = NULL;
    dp_hnsw_config too_many = {.m = DP_HNSW_M_MAX + 1};
    dp_hnsw_config one = {.m = 1};
    dp_hnsw_config codes = {.metric = DP_METRIC_MANHATTAN, .code = DP_CODE_INT8};

    (void)state;
    test_rows_init(&rows, DP_ELEM_F32, DIM, 10);
    assert_int_equal(dp_hnsw_new(&graph, &rows.view, &too_many, NULL), ORT_EINVAL);
    assert_int_equal(dp_hnsw_new(&graph, &rows.view, &one, NULL), ORT_EINVAL);
    assert_int_equal(dp_hnsw_new(&graph, &rows.view, &codes, NULL), ORT_EINVAL);
    rows.view.dim = 0;
    assert_int_equal(dp_hnsw_new(&graph, &rows.view, &(dp_hnsw_config){.m = 0}, NULL), ORT_EINVAL);
    assert_null(graph);
    test_rows_fini(&rows);
}

/* A cancelled build keeps what it has and says so. */
static void
a_build_reports_and_can_be_cancelled(void **state)
{
    fixture f;
    dp_hnsw_progress progress = {.cancel = true};

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, 100);
    for (uint32_t i = 100; i < N; i++) {
        test_rows_put(&f.rows, i, vectors + (size_t)i * DIM);
    }
    assert_int_equal(dp_hnsw_build(f.graph, 0, N, NULL, 1, &progress, NULL), ORT_EBUSY);
    assert_int_equal(dp_hnsw_count(f.graph), 100);
    progress.cancel = false;
    assert_int_equal(dp_hnsw_build(f.graph, 0, N, NULL, 2, &progress, NULL), ORT_OK);
    assert_int_equal(progress.done, N);
    assert_int_equal(progress.total, N);
    assert_int_equal(dp_hnsw_count(f.graph), N);
    check_invariants(&f, N);
    unmake(&f);
}

static int
setup(void **state)
{
    (void)state;
    vectors = test_clusters(2, 2 * N + QUERIES, DIM, 60, 0.7F);
    queries = vectors + (size_t)2 * N * DIM;
    units = test_clusters(2, 2 * N + QUERIES, DIM, 60, 0.7F);
    test_normalize(units, 2 * N + QUERIES, DIM);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    free(vectors);
    free(units);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_graphs_answer),
        cmocka_unit_test(every_metric_finds_its_neighbours),
        cmocka_unit_test(duplicates_leave_the_rest_reachable),
        cmocka_unit_test(neither_order_nor_threads_cost_recall),
        cmocka_unit_test(filters_return_what_passes_and_find_it),
        cmocka_unit_test(filters_correlated_with_the_vectors_find_what_passes),
        cmocka_unit_test(nothing_passes_nothing_comes),
        cmocka_unit_test(deleted_slots_are_never_answered),
        cmocka_unit_test(any_node_can_go_until_none_is_left),
        cmocka_unit_test(replacing_all_points_twice_costs_no_recall_and_no_memory),
        cmocka_unit_test(bounds_of_the_configuration),
        cmocka_unit_test(a_build_reports_and_can_be_cancelled),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
