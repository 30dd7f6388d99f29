/* tests/bench/run index: the graph alone, on fvecs or bvecs: recall@10 against queries a second.
 *
 *   --data DIR --dataset NAME   NAME.base, NAME.query, NAME.query.gt (default ../shared/data,
 *                               notes-384); one's own files do as well
 *   --metric l2|cos             default: l2 for bvecs, cos for fvecs
 *   --variant codes|rows|all    walk over codes (default), over rows, or one after the other
 *   --elem f32|f16|u8           how rows are stored
 *   --m 16 --ef-construct 200   as the peers' runs have it
 *   --efs 10,20,...             the ladder of ef
 *   --threads N                 build with N threads, and search with N at once (default 1)
 *   --passes 3                  timed passes an ef; the best counts
 *   --save                      also writes the graph, reads it back and times both
 *   --living                    also replaces all points twice and searches while inserting
 *   --exact                     also exact search, single and in batches of 64
 *   --rows N                    only the first N rows; true neighbours are then searched exactly
 *   --csv FILE                  appends rows there too
 *
 * Rows: impl,dataset,params,ef,recall@10,qps,p50_us,p99_us,build_s,bytes. A SUMMARY line a curve
 * goes to stderr: queries a second at recall 0.90, 0.95, 0.99, log-interpolated on the Pareto
 * front, as the peers' bench does. `bytes` is the index with the rows it keeps. */
#include <assert.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "index/flat.h"
#include "index/hnsw.h"
#include "vectors.h"

#define K 10u
#define EFS_MAX 64

typedef struct {
    const char *data;
    const char *dataset;
    const char *csv;
    const char *metric;
    const char *variant;
    const char *elem;
    uint32_t m;
    uint32_t ef_construct;
    uint32_t threads;
    uint32_t passes;
    uint32_t efs[EFS_MAX];
    uint32_t ef_count;
    uint32_t rows_max;
    bool save;
    bool living;
    bool exact;
} options;

typedef struct {
    const options *opt;
    bench_set set;
    dp_metric metric;
    dp_rows rows;
    dp_chunk chunk[1];
    unsigned char *memory;
    dp_hnsw *graph;
    double build_s;
    double bytes;
    char params[128];
    const char *impl;
    FILE *csv;
} bench;

typedef struct {
    double recall;
    double qps;
} point;

static void
die(const char *what)
{
    fprintf(stderr, "bench index: %s\n", what);
    exit(2);
}

static double
now_s(void)
{
    return (double)ort_mono_ns() / 1e9;
}

/* ---- options ---- */

static void
parse_efs(options *o, const char *text)
{
    o->ef_count = 0;
    while (*text != '\0' && o->ef_count < EFS_MAX) {
        char *end;

        o->efs[o->ef_count++] = (uint32_t)strtoul(text, &end, 10);
        text = *end == ',' ? end + 1 : end;
        if (end == text && *end != '\0') {
            die("--efs is a list of numbers");
        }
    }
}

static void
parse(options *o, int argc, char **argv)
{
    *o = (options){.data = "../shared/data",
                   .dataset = "notes-384",
                   .variant = "codes",
                   .elem = "f32",
                   .m = 16,
                   .ef_construct = 200,
                   .threads = 1,
                   .passes = 3};
    parse_efs(o, "10,12,16,20,25,32,40,50,64,80,100,128,160,200,256,320,400,512");
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        const char *value;

        if (strcmp(name, "--save") == 0) {
            o->save = true;
            continue;
        }
        if (strcmp(name, "--living") == 0) {
            o->living = true;
            continue;
        }
        if (strcmp(name, "--exact") == 0) {
            o->exact = true;
            continue;
        }
        if (i + 1 >= argc) {
            die("an option without its value; see the head of tests/bench/bench_index.c");
        }
        value = argv[++i];
        if (strcmp(name, "--data") == 0) {
            o->data = value;
        } else if (strcmp(name, "--dataset") == 0) {
            o->dataset = value;
        } else if (strcmp(name, "--csv") == 0) {
            o->csv = value;
        } else if (strcmp(name, "--metric") == 0) {
            o->metric = value;
        } else if (strcmp(name, "--variant") == 0) {
            o->variant = value;
        } else if (strcmp(name, "--elem") == 0) {
            o->elem = value;
        } else if (strcmp(name, "--m") == 0) {
            o->m = (uint32_t)strtoul(value, NULL, 10);
        } else if (strcmp(name, "--ef-construct") == 0) {
            o->ef_construct = (uint32_t)strtoul(value, NULL, 10);
        } else if (strcmp(name, "--threads") == 0) {
            o->threads = (uint32_t)strtoul(value, NULL, 10);
        } else if (strcmp(name, "--passes") == 0) {
            o->passes = (uint32_t)strtoul(value, NULL, 10);
        } else if (strcmp(name, "--rows") == 0) {
            o->rows_max = (uint32_t)strtoul(value, NULL, 10);
        } else if (strcmp(name, "--efs") == 0) {
            parse_efs(o, value);
        } else {
            die("unknown option; see the head of tests/bench/bench_index.c");
        }
    }
    o->threads = o->threads < 1 ? 1 : o->threads > 64 ? 64 : o->threads;
}

/* ---- rows ---- */

static void
put_row(bench *b, uint32_t slot, const float *v)
{
    unsigned char *row = b->memory + (size_t)slot * b->rows.stride_bytes;

    switch (b->rows.elem) {
    case DP_ELEM_F32:
        memcpy(row, v, b->rows.dim * sizeof *v);
        break;
    case DP_ELEM_F16:
        dp_f16_from_f32((uint16_t *)(void *)row, v, b->rows.dim);
        break;
    case DP_ELEM_U8:
        for (uint32_t i = 0; i < b->rows.dim; i++) {
            row[i] = (unsigned char)v[i];
        }
        break;
    }
}

static void
normalize(float *v, size_t n, uint32_t dim)
{
    for (size_t i = 0; i < n; i++) {
        float norm = sqrtf(dp_norm2(v + i * dim, dim));

        for (uint32_t j = 0; j < dim && norm > 0; j++) {
            v[i * dim + j] /= norm;
        }
    }
}

/* One chunk for all: the engine does not care. */
static void
make_rows(bench *b)
{
    const char *e = b->opt->elem;
    dp_elem elem = strcmp(e, "f16") == 0  ? DP_ELEM_F16
                   : strcmp(e, "u8") == 0 ? DP_ELEM_U8
                                          : DP_ELEM_F32;
    size_t bytes;

    b->rows.elem = elem;
    b->rows.dim = b->set.dim;
    b->rows.stride_bytes = (uint32_t)(b->set.dim * dp_elem_bytes(elem));
    b->rows.chunk_bits = 31;
    bytes = (size_t)b->rows.stride_bytes * b->set.base_count;
    b->memory = aligned_alloc((size_t)2 << 20, (bytes + ((size_t)2 << 20)) >> 21 << 21);
    if (b->memory == NULL) {
        die("out of memory");
    }
    atomic_store(&b->rows.chunks, b->chunk);
    dp_rows_publish(&b->rows, 0, b->memory);
    for (uint32_t i = 0; i < b->set.base_count; i++) {
        put_row(b, i, b->set.base + (size_t)i * b->set.dim);
    }
}

/* For a part of a set, whose file of true neighbours is that of the whole. */
static void
find_truth(bench *b)
{
    dp_hit hits[K];
    size_t n = 0;

    b->set.truth_k = K;
    b->set.truth = calloc((size_t)b->set.query_count * K, sizeof *b->set.truth);
    for (uint32_t q = 0; q < b->set.query_count && b->set.truth != NULL; q++) {
        if (dp_flat_search(&b->rows, b->metric, b->set.query + (size_t)q * b->set.dim, K, 0,
                           b->set.base_count, NULL, hits, &n) != ORT_OK ||
            n != K) {
            die("a scan failed");
        }
        for (size_t i = 0; i < K; i++) {
            b->set.truth[(size_t)q * K + i] = (int32_t)hits[i].slot;
        }
    }
    if (b->set.truth == NULL) {
        die("out of memory");
    }
}

/* ---- searching ---- */

typedef struct {
    bench *b;
    uint32_t ef;
    uint32_t first;
    uint32_t step;
    double *latency_us; /* NULL: not wanted */
    uint64_t *ids;      /* NULL: not wanted */
} sweep;

static void *
run_sweep(void *arg)
{
    sweep *s = arg;
    bench *b = s->b;

    assert(b != NULL);
    for (uint32_t q = s->first; q < b->set.query_count; q += s->step) {
        dp_hit hits[K];
        size_t n = 0;
        uint64_t at = ort_mono_ns();

        if (dp_hnsw_search(b->graph, b->set.query + (size_t)q * b->set.dim,
                           (dp_hnsw_query){.k = K, .ef = s->ef}, NULL, hits, &n) != ORT_OK) {
            die("a search failed");
        }
        if (s->latency_us != NULL) {
            s->latency_us[q] = (double)(ort_mono_ns() - at) / 1e3;
        }
        for (size_t i = 0; s->ids != NULL && i < K; i++) {
            s->ids[q * K + i] = i < n ? hits[i].slot : UINT64_MAX;
        }
    }
    return NULL;
}

static double
sweep_all(bench *b, uint32_t ef, double *latency_us, uint64_t *ids)
{
    pthread_t threads[64] = {0};
    sweep parts[64] = {{0}};
    double at = now_s();

    for (uint32_t t = 0; t < b->opt->threads; t++) {
        parts[t] = (sweep){b, ef, t, b->opt->threads, latency_us, ids};
        if (t > 0 && pthread_create(&threads[t], NULL, run_sweep, &parts[t]) != 0) {
            die("no thread");
        }
    }
    (void)run_sweep(&parts[0]);
    for (uint32_t t = 1; t < b->opt->threads; t++) {
        pthread_join(threads[t], NULL);
    }
    return now_s() - at;
}

static double
recall_at(bench *b, uint32_t ef, uint64_t *ids)
{
    uint64_t right = 0;

    (void)sweep_all(b, ef, NULL, ids);
    for (uint32_t q = 0; q < b->set.query_count; q++) {
        uint32_t n = K;

        while (n > 0 && ids[(size_t)q * K + n - 1] == UINT64_MAX) {
            n--;
        }
        right += bench_set_hits(&b->set, q, ids + (size_t)q * K, n, K);
    }
    return (double)right / ((double)b->set.query_count * K);
}

static int
by_number(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y ? 1 : 0;
}

static int
by_recall(const void *a, const void *b)
{
    return by_number(&((const point *)a)->recall, &((const point *)b)->recall);
}

/* Points in order of recall; only those that no later one beats count. */
static double
qps_at(const point *points, size_t n, double target)
{
    point front[EFS_MAX] = {{0}};
    size_t count = 0;
    double best = 0;

    for (size_t i = n; i-- > 0;) {
        if (points[i].qps > best) {
            best = points[i].qps;
            front[count++] = points[i];
        }
    }
    for (size_t i = count; i-- > 0;) {
        if (front[i].recall >= target) {
            double t;

            if (i + 1 == count) {
                return front[i].qps;
            }
            t = (target - front[i + 1].recall) / (front[i].recall - front[i + 1].recall);
            return exp(log(front[i + 1].qps) + t * (log(front[i].qps) - log(front[i + 1].qps)));
        }
    }
    return NAN;
}

static void
emit(bench *b, uint32_t ef, double recall, double qps, double p50, double p99)
{
    char line[512];

    (void)snprintf(line, sizeof line, "%s,%s,%s,%u,%.5f,%.1f,%.1f,%.1f,%.2f,%.0f\n", b->impl,
                   b->opt->dataset, b->params, ef, recall, qps, p50, p99, b->build_s, b->bytes);
    (void)fputs(line, stdout);
    (void)fflush(stdout);
    if (b->csv != NULL) {
        (void)fputs(line, b->csv);
    }
}

static void
curve(bench *b)
{
    uint32_t queries = b->set.query_count;
    double *latency = calloc(queries, sizeof *latency);
    uint64_t *ids = calloc((size_t)queries * K, sizeof *ids);
    point points[EFS_MAX] = {{0}};
    size_t n = 0;

    if (latency == NULL || ids == NULL) {
        die("out of memory");
    }
    for (uint32_t e = 0; e < b->opt->ef_count; e++) {
        double recall = recall_at(b, b->opt->efs[e], ids);
        double best = 1e30;

        for (uint32_t pass = 0; pass < b->opt->passes; pass++) {
            double s = sweep_all(b, b->opt->efs[e], latency, NULL);

            best = s < best ? s : best;
        }
        qsort(latency, queries, sizeof *latency, by_number);
        points[n++] = (point){recall, queries / best};
        emit(b, b->opt->efs[e], recall, queries / best, latency[queries / 2],
             latency[(size_t)queries * 99 / 100]);
        if (recall > 0.9995) {
            break;
        }
    }
    qsort(points, n, sizeof *points, by_recall);
    fprintf(
        stderr,
        "SUMMARY %-14s %-22s %-24s qps@.90=%8.0f @.95=%8.0f @.99=%8.0f build=%.1fs mem=%.1fMB\n",
        b->opt->dataset, b->impl, b->params, qps_at(points, n, 0.90), qps_at(points, n, 0.95),
        qps_at(points, n, 0.99), b->build_s, b->bytes / 1e6);
    free(latency);
    free(ids);
}

/* ---- the other questions ---- */

static void
save_and_load(bench *b, const dp_hnsw_config *config)
{
    dp_hnsw_stamp stamp = {.owner = {1, 2}, .lsn = 3};
    int dir = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dp_hnsw *loaded = NULL;
    ort_diag diag = {{0}};
    double at = now_s();
    double saved;

    if (dp_hnsw_save(b->graph, dir, "bench-index.graph", &stamp, &diag) != ORT_OK) {
        die(diag.text);
    }
    saved = now_s() - at;
    at = now_s();
    if (dp_hnsw_load(&loaded, &b->rows, config, dir, "bench-index.graph", &stamp, &diag) !=
        ORT_OK) {
        die(diag.text);
    }
    fprintf(stderr, "SAVE %s %s: written and synced in %.2f s, read in %.2f s\n", b->opt->dataset,
            b->impl, saved, now_s() - at);
    (void)unlinkat(dir, "bench-index.graph", 0);
    close(dir);
    dp_hnsw_free(b->graph);
    b->graph = loaded;
}

typedef struct {
    bench *b;
    _Atomic(bool) stop;
    _Atomic(uint64_t) done;
} traffic;

static void *
search_on(void *arg)
{
    traffic *t = arg;
    bench *b = t->b;

    for (uint32_t q = 0; !atomic_load(&t->stop); q = (q + 1) % b->set.query_count) {
        dp_hit hits[K];
        size_t n = 0;

        if (dp_hnsw_search(b->graph, b->set.query + (size_t)q * b->set.dim,
                           (dp_hnsw_query){.k = K, .ef = 64}, NULL, hits, &n) != ORT_OK) {
            die("a search failed");
        }
        atomic_fetch_add(&t->done, 1);
    }
    return NULL;
}

/* Replaces all points twice, a twentieth at a time, while one thread searches: what it costs the
 * searches, and what it leaves of the recall. Rows come back into the slots they left. */
static void
live_on(bench *b)
{
    uint32_t n = b->set.base_count;
    uint64_t *ids = calloc((size_t)b->set.query_count * K, sizeof *ids);
    size_t bytes = dp_hnsw_bytes(b->graph);
    traffic t = {.b = b};
    pthread_t searcher;
    dp_hnsw_report report;
    double rest;
    double busy;
    double at;
    double before[2];
    double after[2];

    before[0] = recall_at(b, 16, ids);
    before[1] = recall_at(b, 64, ids);
    if (pthread_create(&searcher, NULL, search_on, &t) != 0) {
        die("no thread");
    }
    at = now_s();
    sleep(2);
    rest = (double)atomic_load(&t.done) / (now_s() - at);
    atomic_store(&t.done, 0);
    at = now_s();
    for (int round = 0; round < 2; round++) {
        for (uint32_t part = 0; part < 20; part++) {
            uint32_t begin = (uint32_t)((uint64_t)n * part / 20);
            uint32_t end = (uint32_t)((uint64_t)n * (part + 1) / 20);

            for (uint32_t i = begin; i < end; i++) {
                if (dp_hnsw_delete(b->graph, i) != ORT_OK) {
                    die("delete");
                }
            }
            if (dp_hnsw_repair(b->graph) != ORT_OK) {
                die("repair");
            }
            for (uint32_t i = begin; i < end; i++) {
                if (dp_hnsw_insert(b->graph, i) != ORT_OK) {
                    die("insert");
                }
            }
        }
    }
    busy = (double)atomic_load(&t.done) / (now_s() - at);
    fprintf(stderr,
            "LIVING %s %s: %.0f replaced/s; searches/s at rest %.0f, meanwhile %.0f (%.2f)\n",
            b->opt->dataset, b->impl, 2.0 * n / (now_s() - at), rest, busy, busy / rest);
    atomic_store(&t.stop, true);
    pthread_join(searcher, NULL);
    after[0] = recall_at(b, 16, ids);
    after[1] = recall_at(b, 64, ids);
    if (dp_hnsw_check(b->graph, &report) != ORT_OK) {
        die("check");
    }
    fprintf(stderr,
            "LIVING %s %s: recall@10 fresh %.4f (ef 16) %.4f (ef 64), after replacing all twice "
            "%.4f %.4f; bytes %zu -> %zu; degree %.1f unreachable %u dead links %u\n",
            b->opt->dataset, b->impl, before[0], before[1], after[0], after[1], bytes,
            dp_hnsw_bytes(b->graph), report.degree_mean, report.unreachable, report.dead_links);
    free(ids);
}

/* One by one, and 64 at a time through OpenBLAS, beside the machine's own matrix product. */
static void
exact(bench *b)
{
    enum { BATCH = 64 };
    uint32_t n = b->set.query_count < BATCH ? b->set.query_count : BATCH;
    dp_hit *hits = calloc((size_t)BATCH * K, sizeof *hits);
    size_t found[BATCH];
    double at = now_s();
    double single;
    double batched = 1e30;

    for (uint32_t q = 0; q < n; q++) {
        if (dp_flat_search(&b->rows, b->metric, b->set.query + (size_t)q * b->set.dim, K, 0,
                           b->set.base_count, NULL, hits, found) != ORT_OK) {
            die("a scan failed");
        }
    }
    single = now_s() - at;
    for (int pass = 0; pass < 3; pass++) {
        at = now_s();
        if (dp_flat_search_batch(&b->rows, b->metric, b->set.query, n, K, 0, b->set.base_count,
                                 NULL, hits, found) != ORT_OK) {
            die("a batch failed");
        }
        batched = now_s() - at < batched ? now_s() - at : batched;
    }
    fprintf(stderr,
            "EXACT %s (OpenBLAS %s): %.0f queries/s one by one, %.0f in batches of %u, %.1f "
            "GFLOP/s\n",
            b->opt->dataset, dp_flat_blas_core(), n / single, n / batched, n,
            2e-9 * n * b->set.base_count * b->set.dim / batched);
    free(hits);
}

static void
run_variant(bench *b, dp_code code)
{
    dp_hnsw_config config = {
        .metric = b->metric, .m = b->opt->m, .ef_construct = b->opt->ef_construct, .code = code};
    dp_hnsw_report report;
    ort_diag diag = {{0}};
    double at;

    b->impl = code == DP_CODE_NONE ? "orthant-rows" : "orthant";
    if (dp_hnsw_new(&b->graph, &b->rows, &config, &diag) != ORT_OK) {
        die(diag.text);
    }
    at = now_s();
    if (dp_hnsw_build(b->graph, 0, b->set.base_count, NULL, b->opt->threads, NULL, &diag) !=
        ORT_OK) {
        die(diag.text);
    }
    b->build_s = now_s() - at;
    b->bytes =
        (double)dp_hnsw_bytes(b->graph) + (double)b->rows.stride_bytes * (double)b->set.base_count;
    (void)snprintf(b->params, sizeof b->params, "M=%u efC=%u %s threads=%u", b->opt->m,
                   b->opt->ef_construct, b->opt->elem, b->opt->threads);
    if (dp_hnsw_check(b->graph, &report) != ORT_OK) {
        die("check");
    }
    fprintf(stderr, "GRAPH %s %s: build %.2f s, %.1f MB, degree %.1f, unreachable %u\n",
            b->opt->dataset, b->impl, b->build_s, b->bytes / 1e6, report.degree_mean,
            report.unreachable);
    if (b->opt->save) {
        save_and_load(b, &config);
    }
    curve(b);
    if (b->opt->living) {
        live_on(b);
    }
    dp_hnsw_free(b->graph);
    b->graph = NULL;
}

int
main(int argc, char **argv)
{
    options opt;
    bench b = {.opt = &opt};

    dp_flat_blas_prepare(argv);
    parse(&opt, argc, argv);
    bench_set_load(&b.set, opt.data, opt.dataset, opt.rows_max);
    if (opt.metric != NULL) {
        b.set.bytes = strcmp(opt.metric, "l2") == 0; /* the set's own distance follows */
    }
    b.metric = b.set.bytes ? DP_METRIC_EUCLID : DP_METRIC_COSINE;
    if (b.metric == DP_METRIC_COSINE) {
        normalize(b.set.base, b.set.base_count, b.set.dim);
        normalize(b.set.query, b.set.query_count, b.set.dim);
    }
    make_rows(&b);
    if (b.set.truth == NULL) {
        find_truth(&b);
    }
    if (opt.csv != NULL) {
        b.csv = fopen(opt.csv, "ae");
        if (b.csv == NULL) {
            die("cannot write the CSV file");
        }
    }
    (void)puts("impl,dataset,params,ef,recall@10,qps,p50_us,p99_us,build_s,bytes");
    if (opt.exact) {
        exact(&b);
    }
    if (strcmp(opt.variant, "rows") != 0) {
        run_variant(&b, DP_CODE_AUTO);
    }
    if (strcmp(opt.variant, "codes") != 0) {
        run_variant(&b, DP_CODE_NONE);
    }
    if (b.csv != NULL) {
        (void)fclose(b.csv);
    }
    free(b.memory);
    bench_set_free(&b.set);
    return 0;
}
