/* tests/bench/run filter: searches under a filter: recall@10 and time by selectivity and strategy.
 *
 *   --data DIR --dataset NAME   as for `index` (default ../shared/data, all four sets)
 *   --rows N                    only the first N rows
 *   --queries N                 (default 500)
 *   --m 16 --ef-construct 100 --ef 100
 *   --peer 0                    without hnswlib
 *   --csv FILE                  appends rows there too
 *
 * Filters of 50 %, 10 %, 1 % and 0.1 %: `random`, points drawn by chance; `cluster`, those nearest
 * to one point, so that most queries find their matches far away and close together (correlated
 * against the vectors); `outside`, those farthest from it.
 *
 * Strategies: `scan`, every row is looked at and those that match measured (the plain exact scan);
 * `matches`, the matches alone, exact; `search`, what a node does: dp_hnsw_search() with the filter
 * as bits, which chooses, over the codes that dp_hnsw_tune() chose; `hnswlib`, when it was there at
 * building: its walk passes through what does not match and answers what does (0.6.2 has no
 * callback yet; points that do not match are marked deleted, which takes the same branch). `none
 * 2ef` is a search without filter at twice the ef, the goal's other bound: `search` shall be no
 * slower than the better of that and `scan`.
 *
 * The strategies take turns, PASSES times, and the best turn of each counts: what else the machine
 * does meets all of them. Rows: dataset,filter,selectivity,strategy,ef,recall@10,us, with
 * microseconds of processor time; at the end of a set a table of them, whose last column is
 * `search` over the better of `scan` and `none 2ef`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/flat.h"
#include "index/hnsw.h"
#include "peer_hnswlib.h"
#include "vectors.h"

#define K 10u
#define PASSES 5

typedef struct {
    const char *data, *dataset, *csv;
    uint32_t rows, queries, m, ef_construct, ef, peer;
} options;

typedef struct {
    options o;
    bench_set set;
    dp_metric metric;
    dp_rows rows;
    dp_chunk chunk[1];
    dp_hnsw *graph;
    bench_peer *peer;
    FILE *csv;

    const char *dataset;
    uint32_t queries;

    const char *filter;
    double share;
    _Atomic(uint64_t) *words;
    uint32_t *matches;
    uint32_t match_count;
    float *truth; /* distance of the k-th match of each query; */
    uint32_t *truth_count;
} bench;

_Noreturn static void
die(const char *what)
{
    fprintf(stderr, "bench filter: %s\n", what);
    exit(2);
}

static void
must(ort_err err, const char *what)
{
    if (err != ORT_OK) {
        die(what);
    }
}

/* Time of this thread on a processor: what else runs on the machine is not in it. */
static uint64_t
processor_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void
parse(options *o, int argc, char **argv)
{
    *o = (options){.data = "../shared/data",
                   .queries = 500,
                   .m = 16,
                   .ef_construct = 100,
                   .ef = 100,
                   .peer = 1};
    for (int i = 1; i + 1 < argc; i += 2) {
        const uint32_t n = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--data") == 0) {
            o->data = argv[i + 1];
        } else if (strcmp(argv[i], "--dataset") == 0) {
            o->dataset = argv[i + 1];
        } else if (strcmp(argv[i], "--csv") == 0) {
            o->csv = argv[i + 1];
        } else if (strcmp(argv[i], "--rows") == 0) {
            o->rows = n;
        } else if (strcmp(argv[i], "--queries") == 0) {
            o->queries = n;
        } else if (strcmp(argv[i], "--peer") == 0) {
            o->peer = n;
        } else if (strcmp(argv[i], "--m") == 0) {
            o->m = n;
        } else if (strcmp(argv[i], "--ef-construct") == 0) {
            o->ef_construct = n;
        } else if (strcmp(argv[i], "--ef") == 0) {
            o->ef = n;
        } else {
            die("no such option; see the head of tests/bench/bench_filter.c");
        }
    }
}

static const float *
query_of(const bench *b, uint32_t q)
{
    return b->set.query + (size_t)q * b->set.dim;
}

static void
prepare(bench *b, const char *dataset)
{
    const options *o = &b->o;
    const dp_hnsw_config config = {.m = o->m, .ef_construct = o->ef_construct};
    bench_set_load(&b->set, o->data, dataset, o->rows, NULL);
    b->dataset = dataset;
    b->queries = o->queries < b->set.query_count ? o->queries : b->set.query_count;
    b->metric = b->set.bytes ? DP_METRIC_EUCLID : DP_METRIC_COSINE;
    b->rows = (dp_rows){
        .chunk_bits = 31, .stride_bytes = b->set.dim * 4, .dim = b->set.dim, .elem = DP_ELEM_F32};
    atomic_store(&b->rows.chunks, b->chunk);
    dp_rows_publish(&b->rows, 0, b->set.base);
    dp_hnsw_config c = config;
    c.metric = b->metric;
    must(dp_hnsw_new(&b->graph, &b->rows, &c, NULL), "no graph");
    must(dp_hnsw_build(b->graph, 0, b->set.base_count, NULL, 1, NULL, NULL), "building failed");
    must(dp_hnsw_tune(b->graph, NULL, NULL), "choosing codes failed");
    if (o->peer != 0) {
        b->peer = bench_peer_new(b->set.dim, b->set.base_count, o->m, o->ef_construct,
                                 b->metric == DP_METRIC_COSINE);
    }
    for (uint32_t i = 0; b->peer != NULL && i < b->set.base_count; i++) {
        bench_peer_add(b->peer, b->set.base + (size_t)i * b->set.dim, i);
    }
    b->words = calloc((size_t)b->set.base_count / 64 + 1, sizeof *b->words);
    b->matches = calloc((size_t)b->set.base_count + 1, sizeof *b->matches);
    b->truth = calloc((size_t)b->queries + 1, sizeof *b->truth);
    b->truth_count = calloc((size_t)b->queries + 1, sizeof *b->truth_count);
    if (b->words == NULL || b->matches == NULL || b->truth == NULL || b->truth_count == NULL) {
        die("out of memory");
    }
}

/* --- filters ------------------------------------------------------------------------------------
 */

typedef struct {
    uint32_t slot;
    double key; /* the smallest ones match */
} keyed;

static int
by_key(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    return x->key < y->key ? -1 : x->key > y->key;
}

static int
by_slot(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void
choose(bench *b, const char *filter, double share)
{
    const uint32_t n = b->set.base_count;
    keyed *list = malloc(((size_t)n + 1) * sizeof *list);
    uint64_t x = 88172645463325252u;
    if (list == NULL) {
        die("out of memory");
    }
    for (uint32_t i = 0; i < n; i++) {
        const float *row = b->set.base + (size_t)i * b->set.dim;
        const double far = (double)bench_set_distance(&b->set, b->set.base, row);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        list[i].slot = i;
        list[i].key = filter[0] == 'r' ? (double)(x >> 11) : filter[0] == 'c' ? far : -far;
    }
    qsort(list, n, sizeof *list, by_key);
    b->filter = filter;
    b->share = share;
    b->match_count = (uint32_t)((double)n * share);
    for (uint32_t w = 0; w <= n / 64; w++) {
        atomic_store(&b->words[w], 0);
    }
    for (uint32_t i = 0; i < b->match_count; i++) {
        const uint32_t slot = list[i].slot;
        b->matches[i] = slot;
        atomic_fetch_or(&b->words[slot / 64], UINT64_C(1) << (slot % 64));
    }
    qsort(b->matches, b->match_count, sizeof *b->matches, by_slot);
    for (uint32_t i = 0; b->peer != NULL && i < n; i++) {
        bench_peer_hide(b->peer, i, (b->words[i / 64] >> (i % 64) & 1) == 0);
    }
    free(list);
}

/* --- strategies ---------------------------------------------------------------------------------
 */

typedef size_t (*strategy)(bench *b, uint32_t q, dp_hit *hits);

static size_t
by_scan(bench *b, uint32_t q, dp_hit *hits)
{
    size_t n = 0;
    const dp_slot_filter filter = {.allowed = {.words = b->words, .slot_end = b->set.base_count}};
    must(dp_flat_search(&b->rows, b->metric, query_of(b, q), K, 0, b->set.base_count, &filter, hits,
                        &n),
         "a scan failed");
    return n;
}

static int
nearer(const void *a, const void *b)
{
    return dp_hit_compare(a, b);
}

static size_t
by_matches(bench *b, uint32_t q, dp_hit *hits)
{
    static float distances[1u << 22];
    static dp_hit all[1u << 22];
    const uint32_t n = b->match_count;
    dp_flat_measure(&b->rows, b->metric, query_of(b, q), b->matches, n, distances);
    size_t kept = 0;
    for (uint32_t i = 0; i < n; i++) { /* the k nearest by insertion */
        const dp_hit h = {.slot = b->matches[i], .distance = distances[i]};
        if (kept == K && !dp_hit_nearer(h, all[K - 1])) {
            continue;
        }
        size_t at = kept < K ? kept++ : K - 1;
        for (; at > 0 && dp_hit_nearer(h, all[at - 1]); at--) {
            all[at] = all[at - 1];
        }
        all[at] = h;
    }
    qsort(all, kept, sizeof *all, nearer);
    memcpy(hits, all, kept * sizeof *all);
    return kept;
}

static size_t
by_search(bench *b, uint32_t q, dp_hit *hits)
{
    size_t n = 0;
    const dp_slot_filter filter = {.allowed = {.words = b->words, .slot_end = b->set.base_count},
                                   .selectivity = (float)b->match_count / (float)b->set.base_count};
    must(dp_hnsw_search(b->graph, query_of(b, q), (dp_hnsw_query){.k = K, .ef = b->o.ef}, &filter,
                        hits, &n),
         "a search failed");
    return n;
}

static size_t
by_twice(bench *b, uint32_t q, dp_hit *hits)
{
    size_t n = 0;
    must(dp_hnsw_search(b->graph, query_of(b, q), (dp_hnsw_query){.k = K, .ef = 2 * b->o.ef}, NULL,
                        hits, &n),
         "a search failed");
    return n;
}

static size_t
by_peer(bench *b, uint32_t q, dp_hit *hits)
{
    uint64_t ids[K];
    size_t n = 0;
    bench_peer_search(b->peer, query_of(b, q), K, b->o.ef, ids);
    for (uint32_t i = 0; i < K; i++) {
        if (ids[i] < b->set.base_count) {
            hits[n++].slot = (uint32_t)ids[i];
        }
    }
    return n;
}

static double
right(const bench *b, uint32_t q, const dp_hit *hits, size_t n)
{
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++) {
        const float *row = b->set.base + (size_t)hits[i].slot * b->set.dim;
        const bool matches = (b->words[hits[i].slot / 64] >> (hits[i].slot % 64) & 1) != 0;
        found += matches && bench_set_distance(&b->set, query_of(b, q), row) <=
                                b->truth[q] + 1e-6F * (1 + b->truth[q]);
    }
    return b->truth_count[q] > 0 ? (double)found / b->truth_count[q] : 1;
}

/* The order of the table's columns. */
enum { NONE, SCAN, MATCHES, SEARCH, PEER, WAYS };
static const struct {
    const char *name;
    strategy run;
} ways[WAYS] = {[NONE] = {"none 2ef", by_twice},
                [SCAN] = {"scan", by_scan},
                [MATCHES] = {"matches", by_matches},
                [SEARCH] = {"search", by_search},
                [PEER] = {"hnswlib", by_peer}};

typedef struct {
    double recall, us;
} measured;

/* A scan takes the same time for every query, and hnswlib's walk goes everywhere where few match: a
 * few tell it. */
static uint32_t
queries_of(const bench *b, size_t way)
{
    const uint32_t most = way == SCAN ? 20 : way == PEER && b->share < 0.1 ? 40 : b->queries;
    return b->queries < most ? b->queries : most;
}

static double
time_of(bench *b, size_t way)
{
    const uint32_t queries = queries_of(b, way);
    dp_hit hits[K + 1];
    const uint64_t at = processor_ns();
    for (uint32_t q = 0; q < queries; q++) {
        (void)ways[way].run(b, q, hits);
    }
    return (double)(processor_ns() - at) / 1e3 / queries;
}

static double
recall_of(bench *b, size_t way)
{
    const uint32_t queries = queries_of(b, way);
    dp_hit hits[K + 1];
    double recall = 0;
    for (uint32_t q = 0; q < queries; q++) {
        const size_t n = ways[way].run(b, q, hits);
        recall += right(b, q, hits, n);
    }
    return recall / queries;
}

static void
measure(bench *b, measured out[WAYS])
{
    const size_t end = b->peer != NULL ? WAYS : PEER;
    for (size_t w = 0; w < end; w++) {
        out[w] = (measured){.recall = recall_of(b, w), .us = 1e30};
    }
    for (uint32_t pass = 0; pass < PASSES; pass++) {
        for (size_t w = 0; w < end; w++) {
            const double us = time_of(b, w);
            out[w].us = us < out[w].us ? us : out[w].us;
        }
    }
    for (size_t w = 0; w < end; w++) {
        char line[256];
        snprintf(line, sizeof line, "%s,%s,%g,%s,%u,%.4f,%.1f\n", b->dataset, b->filter, b->share,
                 ways[w].name, b->o.ef, out[w].recall, out[w].us);
        fputs(line, stdout);
        fflush(stdout);
        if (b->csv != NULL) {
            fputs(line, b->csv);
        }
    }
}

static void
find_truth(bench *b)
{
    dp_hit hits[K + 1];
    for (uint32_t q = 0; q < b->queries; q++) {
        const size_t n = by_matches(b, q, hits);
        b->truth_count[q] = (uint32_t)n;
        b->truth[q] = 0;
        for (size_t i = 0; i < n; i++) { /* in the measure that recall is counted by */
            const float d = bench_set_distance(&b->set, query_of(b, q),
                                               b->set.base + (size_t)hits[i].slot * b->set.dim);
            b->truth[q] = d > b->truth[q] || i == 0 ? d : b->truth[q];
        }
    }
}

static const char *const filters[] = {"random", "cluster", "outside"};
static const double shares[] = {0.5, 0.1, 0.01, 0.001};
#define FILTERS (sizeof filters / sizeof filters[0])
#define SHARES (sizeof shares / sizeof shares[0])

static void
print_table(const bench *b, measured all[FILTERS][SHARES][WAYS])
{
    printf("\n%s, %u rows, %u queries, m %u, ef_construct %u, ef %u, k %u\n\n", b->dataset,
           b->set.base_count, b->queries, b->o.m, b->o.ef_construct, b->o.ef, K);
    printf(
        "| filter | share | search: recall@10, us | plain exact scan, us | matches by rows, us | "
        "no filter at 2 ef, us | hnswlib: recall@10, us | search / bound |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (size_t f = 0; f < FILTERS; f++) {
        for (size_t s = 0; s < SHARES; s++) {
            const measured *m = all[f][s];
            const double bound = m[NONE].us < m[SCAN].us ? m[NONE].us : m[SCAN].us;
            char peer[64] = "not built in";
            if (b->peer != NULL) {
                snprintf(peer, sizeof peer, "%.3f, %.1f", m[PEER].recall, m[PEER].us);
            }
            printf("| %s | %g %% | %.3f, %.1f | %.1f | %.1f | %.1f | %s | %.2f |\n", filters[f],
                   100 * shares[s], m[SEARCH].recall, m[SEARCH].us, m[SCAN].us, m[MATCHES].us,
                   m[NONE].us, peer, m[SEARCH].us / bound);
        }
    }
    printf("\n");
    fflush(stdout);
}

static void
finish(bench *b)
{
    dp_hnsw_free(b->graph);
    if (b->peer != NULL) {
        bench_peer_free(b->peer);
    }
    bench_set_free(&b->set);
    free((void *)b->words);
    free(b->matches);
    free(b->truth);
    free(b->truth_count);
}

static void
run_set(const options *o, const char *dataset, FILE *csv)
{
    static bench b;
    static measured all[FILTERS][SHARES][WAYS];
    b = (bench){.o = *o, .csv = csv};
    prepare(&b, dataset);
    for (size_t f = 0; f < FILTERS; f++) {
        for (size_t s = 0; s < SHARES; s++) {
            choose(&b, filters[f], shares[s]);
            find_truth(&b);
            measure(&b, all[f][s]);
        }
    }
    print_table(&b, all);
    finish(&b);
}

int
main(int argc, char **argv)
{
    static const char *const sets[] = {"notes-384", "mnist-784", "photosift-128", "lexcohere-1536"};
    options o;
    dp_flat_blas_prepare(argv);
    parse(&o, argc, argv);
    FILE *csv = o.csv != NULL ? fopen(o.csv, "ae") : NULL;
    if (o.dataset != NULL) {
        run_set(&o, o.dataset, csv);
    }
    for (size_t i = 0; o.dataset == NULL && i < sizeof sets / sizeof sets[0]; i++) {
        run_set(&o, sets[i], csv);
    }
    if (csv != NULL) {
        (void)fclose(csv);
    }
    return 0;
}
