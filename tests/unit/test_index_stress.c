/* Searches, inserts, deletes and repairs at the same time; meant for the thread sanitizer too. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "support/scratch.h"
#include "unit/index_support.h"

#define DIM 24u
#define K 10u
#ifdef ORT_TSAN /* some twenty times slower: as many changes meet on fewer points */
#define N 600u
#define RUN_MS 1000u
#else
#define N 2000u
#define RUN_MS 1500u
#endif

typedef struct {
    test_rows rows;
    dp_hnsw *graph;
    float *vectors;
    _Atomic(bool) stop;
    _Atomic(uint32_t) failures;
    _Atomic(uint64_t) searches;
    _Atomic(uint64_t) changes;
} arena;

typedef struct {
    arena *a;
    uint32_t begin;
    uint32_t end;
} part;

static void *
search_all_the_time(void *arg)
{
    arena *a = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;

    while (!atomic_load(&a->stop)) {
        const float *query = a->vectors + (test_random(&seed) % N) * DIM;
        dp_hit hits[K];
        size_t n = 0;
        ort_err err =
            dp_hnsw_search(a->graph, query, (dp_hnsw_query){.k = K, .ef = 32}, NULL, hits, &n);

        if (err != ORT_OK) {
            atomic_fetch_add(&a->failures, 1);
        }
        for (size_t i = 0; i < n; i++) {
            if (hits[i].slot >= N || (i > 0 && dp_hit_nearer(hits[i], hits[i - 1]))) {
                atomic_fetch_add(&a->failures, 1);
            }
        }
        atomic_fetch_add(&a->searches, 1);
    }
    return NULL;
}

/* Owns a range of slots: puts every row in, takes some out, puts them in again. */
static void *
change_all_the_time(void *arg)
{
    part *p = arg;
    arena *a = p->a;
    uint64_t seed = p->begin + 1;

    for (uint32_t i = p->begin; i < p->end; i++) {
        if (!dp_hnsw_has(a->graph, i) && dp_hnsw_insert(a->graph, i) != ORT_OK) {
            atomic_fetch_add(&a->failures, 1);
        }
    }
    while (!atomic_load(&a->stop)) {
        uint32_t slot = p->begin + (uint32_t)(test_random(&seed) % (p->end - p->begin));

        if (dp_hnsw_delete(a->graph, slot) != ORT_OK) {
            atomic_fetch_add(&a->failures, 1);
        }
        if (test_random(&seed) % 8 == 0 && dp_hnsw_repair(a->graph) != ORT_OK) {
            atomic_fetch_add(&a->failures, 1);
        }
        if (dp_hnsw_insert(a->graph, slot) != ORT_OK) {
            atomic_fetch_add(&a->failures, 1);
        }
        atomic_fetch_add(&a->changes, 1);
    }
    return NULL;
}

/* What upkeep does beside requests: saving, and moving between file and memory. */
static void
keep_up(arena *a, const dp_hnsw_config *config, int dir)
{
    const dp_hnsw_stamp stamp = {.owner = {1, 2}};

    if (dir < 0) {
        return;
    }
    if (config->links_on_disk) {
        assert_int_equal(dp_hnsw_save(a->graph, dir, "graph", &stamp, NULL), ORT_OK);
    } else {
        assert_int_equal(dp_hnsw_settle(a->graph, NULL), ORT_OK);
    }
}

/* The graph begins as a file. */
static void
begin_mapped(arena *a, const dp_hnsw_config *config, int dir)
{
    dp_hnsw_stamp stamp = {.owner = {1, 2}};

    assert_int_equal(dp_hnsw_build(a->graph, 0, N, NULL, 1, NULL, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_save(a->graph, dir, "graph", &stamp, NULL), ORT_OK);
    dp_hnsw_free(a->graph);
    assert_int_equal(dp_hnsw_load(&a->graph, &a->rows.view, config, dir, "graph", &stamp, NULL),
                     ORT_OK);
}

/* Asks for other codes, one after the other, and has them trained and put in place. */
static void
replace_codes(arena *a, uint32_t round)
{
    static const struct {
        dp_code kind;
        dp_code_options options;
    } asked[] = {{DP_CODE_ROTATED, {.bits = 4}},
                 {DP_CODE_BINARY, {.bits = 1}},
                 {DP_CODE_NONE, {.bits = 0}},
                 {DP_CODE_INT8, {.quantile = 0.95F, .bits = 0}},
                 {DP_CODE_AUTO, {.bits = 0}}};
    size_t i = round % (sizeof asked / sizeof asked[0]);

    if (dp_hnsw_ask_codes(a->graph, asked[i].kind, asked[i].options, NULL) != ORT_OK ||
        dp_hnsw_tune(a->graph, NULL, NULL) != ORT_OK) {
        atomic_fetch_add(&a->failures, 1);
    }
}

static void
stress(dp_code code, bool mapped, bool on_disk, bool replaced)
{
    static arena a;
    dp_hnsw_config config = {.metric = DP_METRIC_EUCLID, .code = code, .links_on_disk = on_disk};
    dp_hnsw_report report;
    char path[64];
    int dir = -1;
    pthread_t searchers[2];
    pthread_t changers[2];
    part parts[2];
    uint64_t until;
    uint32_t rounds = 0;

    memset(&a, 0, sizeof a);
    a.vectors = test_clusters(3, N, DIM, 40, 0.6F);
    test_rows_init(&a.rows, DP_ELEM_F32, DIM, N);
    for (uint32_t i = 0; i < N; i++) {
        test_rows_put(&a.rows, i, a.vectors + (size_t)i * DIM);
    }
    assert_int_equal(dp_hnsw_new(&a.graph, &a.rows.view, &config, NULL), ORT_OK);
    if (mapped) {
        scratch_dir(path, sizeof path, "ort-stress");
        dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        begin_mapped(&a, &config, dir);
    }
    for (uint32_t i = 0; i < 2; i++) {
        parts[i] = (part){.a = &a, .begin = i * (N / 2), .end = (i + 1) * (N / 2)};
        assert_int_equal(pthread_create(&changers[i], NULL, change_all_the_time, &parts[i]), 0);
        assert_int_equal(pthread_create(&searchers[i], NULL, search_all_the_time, &a), 0);
    }
    until = ort_mono_ms() + RUN_MS;
    while (ort_mono_ms() < until || atomic_load(&a.changes) < 50 || (replaced && rounds < 3)) {
        struct timespec pause = {.tv_nsec = 20000000};

        nanosleep(&pause, NULL);
        keep_up(&a, &config, dir);
        if (replaced && rounds < 8) {
            replace_codes(&a, rounds++);
        }
    }
    atomic_store(&a.stop, true);
    for (uint32_t i = 0; i < 2; i++) {
        pthread_join(changers[i], NULL);
        pthread_join(searchers[i], NULL);
    }
    print_message("%llu searches, %llu changes\n", (unsigned long long)a.searches,
                  (unsigned long long)a.changes);
    assert_int_equal(a.failures, 0);
    assert_int_equal(dp_hnsw_repair(a.graph), ORT_OK);
    assert_int_equal(dp_hnsw_check(a.graph, &report), ORT_OK);
    assert_int_equal(report.nodes, N);
    assert_int_equal(report.dead, 0);
    assert_int_equal(report.dead_links, 0);
    assert_int_equal(report.bad_links, 0);
    assert_true(report.unreachable <= N / 200);
    dp_hnsw_free(a.graph);
    test_rows_fini(&a.rows);
    free(a.vectors);
    if (dir >= 0) {
        (void)unlinkat(dir, "graph", 0);
        close(dir);
        rmdir(path);
    }
}

static void
codes_under_stress(void **state)
{
    (void)state;
    stress(DP_CODE_AUTO, false, false, false);
}

/* Walks go on over a set while another is filled and takes its place; inserts code into both. */
static void
codes_are_replaced_under_stress(void **state)
{
    (void)state;
    stress(DP_CODE_AUTO, false, false, true);
}

static void
rows_under_stress(void **state)
{
    (void)state;
    stress(DP_CODE_NONE, false, false, false);
}

/* Searches begin in the mapping and end in memory. */
static void
settling_under_stress(void **state)
{
    (void)state;
    stress(DP_CODE_AUTO, true, false, false);
}

/* Each save gives the links to the file it wrote, under the feet of walks. */
static void
links_on_disk_under_stress(void **state)
{
    (void)state;
    stress(DP_CODE_AUTO, true, true, false);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_under_stress),
        cmocka_unit_test(codes_are_replaced_under_stress),
        cmocka_unit_test(rows_under_stress),
        cmocka_unit_test(settling_under_stress),
        cmocka_unit_test(links_on_disk_under_stress),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
