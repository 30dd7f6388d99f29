/* The exact scan, alone and in batches through OpenBLAS. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "unit/index_support.h"

#define DIM 48u
#define N 3000u

static float *vectors;

static void
make_rows(test_rows *rows, dp_elem elem)
{
    test_rows_init(rows, elem, DIM, N);
    for (uint32_t i = 0; i < N; i++) {
        float scaled[DIM];

        for (uint32_t j = 0; j < DIM; j++) {
            scaled[j] =
                elem == DP_ELEM_U8 ? fabsf(vectors[i * DIM + j]) * 80.0F : vectors[i * DIM + j];
        }
        test_rows_put(rows, i, scaled);
    }
}

/* All distances, sorted: nothing shorter can be wrong. */
static void
brute(const test_rows *rows, dp_metric metric, const float *query, const dp_slot_filter *filter,
      dp_hit *out, size_t *n)
{
    *n = 0;
    for (uint32_t i = 0; i < N; i++) {
        if (dp_slot_filter_passes(filter, i)) {
            out[*n].slot = i;
            out[*n].distance = dp_distance_of(metric, rows->view.elem)
                                   ->one(query, dp_rows_peek(&rows->view, i), DIM);
            (*n)++;
        }
    }
    qsort(out, *n, sizeof *out, dp_hit_compare);
}

static void
scan_finds_the_k_nearest_in_order(void **state)
{
    static dp_hit want[N];

    (void)state;
    for (int m = 0; m < DP_METRIC_COUNT; m++) {
        for (int e = 0; e < DP_ELEM_COUNT; e++) {
            test_rows rows;
            dp_hit got[100];
            size_t n = 0;
            size_t all = 0;

            make_rows(&rows, (dp_elem)e);
            brute(&rows, (dp_metric)m, vectors + 77 * DIM, NULL, want, &all);
            assert_int_equal(dp_flat_search(&rows.view, (dp_metric)m, vectors + 77 * DIM, 100, 0, N,
                                            NULL, got, &n),
                             ORT_OK);
            assert_int_equal(n, 100);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(got[i].slot, want[i].slot);
                assert_true(got[i].distance == want[i].distance);
            }
            test_rows_fini(&rows);
        }
    }
}

static bool
is_third(void *arg, uint32_t slot)
{
    (void)arg;
    return slot % 3 == 0;
}

/* Bits, a callback and the range must all hold, also where words are skipped whole. */
static void
scan_returns_only_what_passes(void **state)
{
    static _Atomic(uint64_t) live[N / 64 + 1];
    static _Atomic(uint64_t) allowed[N / 64 + 1];
    dp_slot_filter filter = {.live = {live, N}, .allowed = {allowed, N}, .match = is_third};
    static dp_hit want[N];
    static dp_hit got[N];
    size_t want_n = 0;
    size_t n = 0;
    test_rows rows;

    (void)state;
    make_rows(&rows, DP_ELEM_F32);
    for (uint32_t i = 0; i < N; i++) {
        if (i % 7 != 0) {
            live[i / 64] |= UINT64_C(1) << (i % 64);
        }
        if (i / 200 % 2 == 1) {
            allowed[i / 64] |= UINT64_C(1) << (i % 64);
        }
    }
    brute(&rows, DP_METRIC_EUCLID, vectors, &filter, want, &want_n);
    assert_int_equal(
        dp_flat_search(&rows.view, DP_METRIC_EUCLID, vectors, N, 0, N, &filter, got, &n), ORT_OK);
    assert_int_equal(n, want_n);
    assert_memory_equal(got, want, n * sizeof *got);
    assert_int_equal(
        dp_flat_search(&rows.view, DP_METRIC_EUCLID, vectors, N, 200, 230, &filter, got, &n),
        ORT_OK);
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        assert_in_range(got[i].slot, 200, 229);
    }
    test_rows_fini(&rows);
}

/* The matrix product rounds otherwise than the kernels: the answers must be theirs all the same. */
static void
batches_answer_as_single_scans_do(void **state)
{
    enum { QUERIES = 20, K = 10 };
    static dp_hit got[QUERIES * K];
    size_t n[QUERIES];

    (void)state;
    for (int m = 0; m < DP_METRIC_COUNT; m++) {
        for (int e = 0; e < DP_ELEM_COUNT; e++) {
            dp_slot_filter filter = {.match = e == DP_ELEM_F16 ? is_third : NULL};
            test_rows rows;

            make_rows(&rows, (dp_elem)e);
            assert_int_equal(dp_flat_search_batch(&rows.view, (dp_metric)m, vectors, QUERIES, K, 3,
                                                  N, &filter, got, n),
                             ORT_OK);
            for (size_t q = 0; q < QUERIES; q++) {
                dp_hit want[K];
                size_t want_n = 0;

                assert_int_equal(dp_flat_search(&rows.view, (dp_metric)m, vectors + q * DIM, K, 3,
                                                N, &filter, want, &want_n),
                                 ORT_OK);
                assert_int_equal(n[q], want_n);
                for (size_t i = 0; i < want_n; i++) {
                    assert_int_equal(got[q * K + i].slot, want[i].slot);
                    assert_true(got[q * K + i].distance == want[i].distance);
                }
            }
            test_rows_fini(&rows);
        }
    }
}

/* Bounds of k, an empty range, and more asked for than there is. */
static void
edges_of_k_and_range(void **state)
{
    dp_hit got[N + 8];
    size_t n = 99;
    test_rows rows;

    (void)state;
    make_rows(&rows, DP_ELEM_F32);
    assert_int_equal(dp_flat_search(&rows.view, DP_METRIC_DOT, vectors, 0, 0, N, NULL, got, &n),
                     ORT_EINVAL);
    assert_int_equal(n, 99);
    assert_int_equal(dp_flat_search(&rows.view, DP_METRIC_DOT, vectors, 5, 10, 10, NULL, got, &n),
                     ORT_OK);
    assert_int_equal(n, 0);
    assert_int_equal(dp_flat_search(&rows.view, DP_METRIC_DOT, vectors, N + 8, 0, N, NULL, got, &n),
                     ORT_OK);
    assert_int_equal(n, N);
    test_rows_fini(&rows);
}

/* Products that overflow give NaN; the rows must still be there, last. */
static void
rows_without_a_distance_come_last(void **state)
{
    test_rows rows;
    float huge[DIM];
    dp_hit got[3];
    size_t n = 0;

    (void)state;
    test_rows_init(&rows, DP_ELEM_F32, DIM, 3);
    for (uint32_t j = 0; j < DIM; j++) {
        huge[j] = j % 2 == 0 ? 3e38F : -3e38F;
    }
    test_rows_put(&rows, 0, huge);
    test_rows_put(&rows, 1, vectors);
    test_rows_put(&rows, 2, vectors + DIM);
    assert_int_equal(dp_flat_search(&rows.view, DP_METRIC_DOT, huge, 3, 0, 3, NULL, got, &n),
                     ORT_OK);
    assert_int_equal(n, 3);
    test_rows_fini(&rows);
}

static int
setup(void **state)
{
    (void)state;
    vectors = test_clusters(1, N, DIM, 30, 0.5F);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    free(vectors);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_finds_the_k_nearest_in_order),
        cmocka_unit_test(scan_returns_only_what_passes),
        cmocka_unit_test(batches_answer_as_single_scans_do),
        cmocka_unit_test(edges_of_k_and_range),
        cmocka_unit_test(rows_without_a_distance_come_last),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
