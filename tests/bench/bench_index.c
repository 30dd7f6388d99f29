/* bench_index: the index alone, on files of vectors: recall against queries a second.
 *
 *   tests/bench/run index --data DIR --dataset NAME [--threads N] [--csv FILE] [--code
 * auto|none|int8]
 *                         [--m N] [--ef-construct N] [--rows N]
 *
 * Reads NAME.base and NAME.query (.fvecs: cosine, .bvecs: Euclid; plain or .zst) and, when it is
 * there, NAME.query.gt.ivecs; otherwise the true neighbours are found by an exact search first.
 * Builds each variant with one thread and, where --threads is more than 1, with that many; then,
 * for rising ef, one untimed pass over the queries (recall, warm caches) and three timed ones, of
 * which the best counts. Rows: impl,dataset,params,ef,recall@10,qps,p50_us,p99_us,build_s,bytes. An
 * id is right when it is no farther than the true 10th neighbour, so that ties count. Lines of QPS
 * at recall 0.90, 0.95 and 0.99, interpolated on the log of QPS, go to standard error. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "index/flat.h"
#include "index/hnsw.h"
#include "vectors.h"

#define K 10
#define CHUNK_BITS 12
#define EFS_MAX 24

static const uint32_t efs[] = {10, 12,  16,  20,  24,  32,  40,  48,  64,  80,
                               96, 128, 160, 192, 256, 320, 400, 512, 640, 800};
enum { EFS = sizeof efs / sizeof efs[0] };

typedef struct {
    const char *data, *dataset, *csv;
    uint32_t threads, m, ef_construct, rows;
    dp_code code;
} options;

/* The set as the index sees it: rows of floats or bytes in chunks. */
typedef struct {
    bench_set set;
    dp_rows rows;
    unsigned char *memory;
    float *truth_distance; /* of each query's true 10th neighbour */
    dp_metric metric;
} bench;

typedef struct {
    double recall, qps, p50_us, p99_us;
    uint32_t ef;
} point;

static void
die(const char *what)
{
    fprintf(stderr, "bench_index: %s\n", what);
    exit(2);
}

static const float *
query_row(const bench *b, uint32_t q)
{
    return b->set.query + (size_t)q * b->set.dim;
}

static void
fill_rows(bench *b)
{
    const uint32_t dim = b->set.dim, n = b->set.base_count;
    const dp_elem elem = b->set.bytes ? DP_ELEM_U8 : DP_ELEM_F32;
    const size_t stride = (dim * dp_elem_bytes(elem) + 63) / 64 * 64;
    const uint32_t chunks = (n >> CHUNK_BITS) + 1;
    const size_t chunk_bytes = stride << CHUNK_BITS;
    b->memory = aligned_alloc(1u << 21, (chunks * chunk_bytes + (1u << 21) - 1) >> 21 << 21);
    dp_chunk *directory = calloc(chunks, sizeof *directory);
    if (b->memory == NULL || directory == NULL) {
        die("out of memory");
    }
    atomic_init(&b->rows.chunks, directory);
    b->rows.chunk_bits = CHUNK_BITS;
    b->rows.stride_bytes = (uint32_t)stride;
    b->rows.dim = dim;
    b->rows.elem = elem;
    for (uint32_t c = 0; c < chunks; c++) {
        dp_rows_publish(&b->rows, c, b->memory + c * chunk_bytes);
    }
    for (uint32_t i = 0; i < n; i++) {
        const float *from = b->set.base + (size_t)i * dim;
        unsigned char *to = b->memory + i * stride;
        memset(to, 0, stride);
        for (uint32_t j = 0; elem == DP_ELEM_U8 && j < dim; j++) {
            to[j] = (unsigned char)from[j];
        }
        if (elem == DP_ELEM_F32) {
            memcpy(to, from, dim * sizeof(float));
        }
    }
}

/* How far each query's true 10th neighbour is: from the file, or by looking at all rows. */
static void
find_truth(bench *b)
{
    const uint32_t nq = b->set.query_count;
    dp_hit hits[K];
    size_t n;
    b->truth_distance = calloc(nq, sizeof *b->truth_distance);
    if (b->truth_distance == NULL) {
        die("out of memory");
    }
    for (uint32_t q = 0; q < nq; q++) {
        if (b->set.truth != NULL) {
            const uint32_t slot = (uint32_t)b->set.truth[(size_t)q * b->set.truth_k + K - 1];
            dp_flat_measure(&b->rows, b->metric, query_row(b, q), &slot, 1, &b->truth_distance[q]);
        } else if (dp_flat_search(&b->rows, b->metric, query_row(b, q), K, 0, b->set.base_count,
                                  NULL, hits, &n) == ORT_OK) {
            b->truth_distance[q] = hits[n - 1].distance;
        } else {
            die("exact search failed");
        }
    }
}

static double
recall_at(const bench *b, dp_hnsw *graph, uint32_t ef)
{
    uint64_t right = 0;
    for (uint32_t q = 0; q < b->set.query_count; q++) {
        dp_hit hits[K];
        float distances[K];
        uint32_t slots[K];
        size_t n;
        const dp_hnsw_query ask = {.k = K, .ef = ef};
        if (dp_hnsw_search(graph, query_row(b, q), ask, NULL, hits, &n) != ORT_OK) {
            die("search failed");
        }
        for (size_t i = 0; i < n; i++) {
            slots[i] = hits[i].slot;
        }
        dp_flat_measure(&b->rows, b->metric, query_row(b, q), slots, n, distances);
        for (size_t i = 0; i < n; i++) {
            /* Two sums of floats in another order differ in their last places. */
            right += distances[i] <= b->truth_distance[q] + 1e-6f * fabsf(b->truth_distance[q]);
        }
    }
    return (double)right / (double)K / (double)b->set.query_count;
}

typedef struct {
    const bench *b;
    dp_hnsw *graph;
    uint32_t ef, first, step;
    uint64_t *ns; /* one a query */
} searcher;

static void *
search_main(void *arg)
{
    searcher *s = arg;
    dp_hit hits[K];
    size_t n;
    for (uint32_t q = s->first; q < s->b->set.query_count; q += s->step) {
        const uint64_t start = ort_mono_ns();
        const dp_hnsw_query ask = {.k = K, .ef = s->ef};
        if (dp_hnsw_search(s->graph, query_row(s->b, q), ask, NULL, hits, &n) != ORT_OK) {
            die("search failed");
        }
        s->ns[q] = ort_mono_ns() - start;
    }
    return NULL;
}

static int
by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

#define THREADS_MAX 64

/* One timed pass over all queries by so many threads; seconds. */
static double
pass(const bench *b, dp_hnsw *graph, uint32_t ef, uint32_t threads, uint64_t *ns)
{
    pthread_t ids[THREADS_MAX];
    searcher s[THREADS_MAX];
    const uint64_t start = ort_mono_ns();
    for (uint32_t t = 0; t < threads; t++) {
        s[t] = (searcher){.b = b, .graph = graph, .ef = ef, .first = t, .step = threads, .ns = ns};
        if (threads == 1) {
            search_main(&s[t]);
        } else if (pthread_create(&ids[t], NULL, search_main, &s[t]) != 0) {
            die("no thread");
        }
    }
    for (uint32_t t = 0; threads > 1 && t < threads; t++) {
        pthread_join(ids[t], NULL);
    }
    return (double)(ort_mono_ns() - start) / 1e9;
}

static point
measure(const bench *b, dp_hnsw *graph, uint32_t ef, uint32_t threads)
{
    const uint32_t nq = b->set.query_count;
    point p = {.ef = ef, .recall = recall_at(b, graph, ef)};
    uint64_t *ns = calloc(nq, sizeof *ns);
    if (ns == NULL) {
        die("out of memory");
    }
    for (int i = 0; i < 3; i++) {
        const double seconds = pass(b, graph, ef, threads, ns);
        if ((double)nq / seconds > p.qps) {
            p.qps = (double)nq / seconds;
            qsort(ns, nq, sizeof *ns, by_value);
            const size_t middle = nq / 2, high = (size_t)nq * 99 / 100;
            p.p50_us = (double)ns[middle] / 1000;
            p.p99_us = (double)ns[high] / 1000;
        }
    }
    free(ns);
    return p;
}

/* QPS where the curve crosses this recall: interpolated in log QPS over the Pareto front; NAN when
 * it never gets there. */
static double
qps_at(const point *points, size_t count, double recall)
{
    const point *low = NULL, *high = NULL;
    for (size_t i = 0; i < count; i++) {
        if (points[i].recall >= recall) {
            high = high == NULL || points[i].qps > high->qps ? &points[i] : high;
        } else {
            low = low == NULL || points[i].recall > low->recall ? &points[i] : low;
        }
    }
    if (high == NULL) {
        return NAN;
    }
    if (low == NULL || low->qps <= high->qps) {
        return high->qps;
    }
    const double t = (recall - low->recall) / (high->recall - low->recall);
    return exp(log(low->qps) + t * (log(high->qps) - log(low->qps)));
}

static void
curve(const bench *b, const options *o, dp_hnsw *graph, const char *impl, double build_s, FILE *csv,
      uint32_t threads)
{
    point points[EFS];
    size_t count = 0;
    for (size_t i = 0; i < EFS; i++) {
        const point p = points[count++] = measure(b, graph, efs[i], threads);
        fprintf(csv, "%s,%s,\"M=%u efC=%u threads=%u\",%u,%.5f,%.1f,%.1f,%.1f,%.2f,%zu\n", impl,
                o->dataset, o->m, o->ef_construct, threads, p.ef, p.recall, p.qps, p.p50_us,
                p.p99_us, build_s, dp_hnsw_bytes(graph));
        fflush(csv);
        if (p.recall > 0.9995) {
            break;
        }
    }
    fprintf(stderr,
            "SUMMARY %s %s threads=%u qps@.90=%.0f @.95=%.0f @.99=%.0f build=%.2fs index=%.1fMB\n",
            o->dataset, impl, threads, qps_at(points, count, 0.90), qps_at(points, count, 0.95),
            qps_at(points, count, 0.99), build_s, (double)dp_hnsw_bytes(graph) / 1e6);
}

static void
run_variant(const bench *b, const options *o, dp_code code, FILE *csv)
{
    static const char *const names[] = {"orthant-auto", "orthant-rows", "orthant-int8"};
    ort_diag diag = {""};
    const dp_hnsw_config config = {
        .metric = b->metric, .m = o->m, .ef_construct = o->ef_construct, .code = code, .seed = 1};
    for (uint32_t threads = 1;; threads = o->threads) {
        dp_hnsw *graph;
        dp_hnsw_progress progress = {0};
        const dp_slot_set all = {.words = NULL, .slot_end = b->set.base_count};
        if (dp_hnsw_new(&graph, &b->rows, &config, &diag) != ORT_OK) {
            die(diag.text);
        }
        const uint64_t start = ort_mono_ns();
        if (dp_hnsw_build(graph, 0, b->set.base_count, &all, threads, &progress, &diag) != ORT_OK) {
            die(diag.text);
        }
        const double build_s = (double)(ort_mono_ns() - start) / 1e9;
        curve(b, o, graph, names[code], build_s, csv, threads);
        dp_hnsw_free(graph);
        if (threads >= o->threads) {
            break;
        }
    }
}

static void
measure_exact(const bench *b, const options *o, FILE *csv)
{
    dp_hit hits[K];
    size_t n;
    const uint32_t nq = b->set.query_count < 200 ? b->set.query_count : 200;
    const uint64_t start = ort_mono_ns();
    for (uint32_t q = 0; q < nq; q++) {
        if (dp_flat_search(&b->rows, b->metric, query_row(b, q), K, 0, b->set.base_count, NULL,
                           hits, &n) != ORT_OK) {
            die("exact search failed");
        }
    }
    const double us = (double)(ort_mono_ns() - start) / 1000 / nq;
    fprintf(csv, "orthant-exact,%s,\"\",0,1.00000,%.1f,%.1f,%.1f,0.00,0\n", o->dataset, 1e6 / us,
            us, us);
}

static bool
read_options(options *o, int argc, char **argv)
{
    static const char *const codes[] = {"auto", "none", "int8"};
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        uint32_t *number = strcmp(argv[i], "--threads") == 0        ? &o->threads
                           : strcmp(argv[i], "--m") == 0            ? &o->m
                           : strcmp(argv[i], "--ef-construct") == 0 ? &o->ef_construct
                           : strcmp(argv[i], "--rows") == 0         ? &o->rows
                                                                    : NULL;
        const char **text = strcmp(argv[i], "--data") == 0      ? &o->data
                            : strcmp(argv[i], "--dataset") == 0 ? &o->dataset
                            : strcmp(argv[i], "--csv") == 0     ? &o->csv
                                                                : NULL;
        if (value == NULL) {
            return false;
        }
        if (number != NULL) {
            *number = (uint32_t)strtoul(value, NULL, 10);
        } else if (text != NULL) {
            *text = value;
        } else if (strcmp(argv[i], "--code") == 0) {
            int code = 0;
            while (code < 3 && strcmp(codes[code], value) != 0) {
                code++;
            }
            if (code == 3) {
                return false;
            }
            o->code = (dp_code)code;
        } else {
            return false;
        }
    }
    return o->data != NULL && o->dataset != NULL && o->threads >= 1 && o->threads <= THREADS_MAX;
}

int
main(int argc, char **argv)
{
    options o = {.threads = 1, .m = 16, .ef_construct = 200, .code = DP_CODE_AUTO};
    dp_flat_blas_prepare(argv);
    if (!read_options(&o, argc, argv)) {
        fputs("usage: tests/bench/run index --data DIR --dataset NAME [--threads N] [--csv FILE] "
              "[--code auto|none|int8] [--m N] [--ef-construct N] [--rows N]\n",
              stderr);
        return 2;
    }
    FILE *csv = stdout;
    if (o.csv != NULL && (csv = fopen(o.csv, "a")) == NULL) {
        perror(o.csv);
        return 2;
    }
    if (fseek(csv, 0, SEEK_END) != 0 || ftell(csv) <= 0) {
        fputs("impl,dataset,params,ef,recall@10,qps,p50_us,p99_us,build_s,bytes\n", csv);
    }
    static bench b;
    bench_set_load(&b.set, o.data, o.dataset, o.rows);
    b.metric = b.set.bytes ? DP_METRIC_EUCLID : DP_METRIC_COSINE;
    fill_rows(&b);
    find_truth(&b);
    measure_exact(&b, &o, csv);
    run_variant(&b, &o, o.code, csv);
    if (csv != stdout) {
        fclose(csv);
    }
    return 0;
}
