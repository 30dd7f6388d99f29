/* The questions beside the curve: exact search, files, and a graph that is written to. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include <cblas.h>

#include "index/flat.h"
#include "index_bench.h"

/* ---- exact search ---- */

enum { BATCH = 64 };

/* What the machine multiplies when nothing is in the way: the same product, 64 queries by 1,024
 * rows, over and over in its caches. */
static double
product_rate(const bench *b, uint32_t n)
{
    enum { ROWS = 1024 };
    int dim = (int)b->set.dim;
    int rows = b->set.base_count < ROWS ? (int)b->set.base_count : ROWS;
    float *out = calloc(((size_t)n + 1) * ROWS, sizeof *out);
    double best = 0;

    for (int pass = 0; pass < 5 && out != NULL; pass++) {
        double at = bench_now_s();
        double s;
        int times = 0;

        do {
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, rows, dim, 1.0F,
                        b->set.query, dim, b->set.base, dim, 0.0F, out, rows);
            times++;
            s = bench_now_s() - at;
        } while (s < 0.2);
        s = 2e-9 * n * rows * dim * times / s;
        best = s > best ? s : best;
    }
    free(out);
    return best;
}

/* One by one, and 64 at a time through OpenBLAS, beside the machine's own matrix product. */
void
bench_exact(const bench *b)
{
    uint32_t n = b->set.query_count < BATCH ? b->set.query_count : BATCH;
    dp_hit *hits = calloc((size_t)BATCH * K, sizeof *hits);
    size_t found[BATCH];
    double at = bench_now_s();
    double single;
    double batched = 1e30;
    double rate;
    double machine;

    if (hits == NULL) {
        bench_die("out of memory");
    }
    for (uint32_t q = 0; q < n; q++) {
        if (dp_flat_search(&b->rows, b->metric, b->set.query + (size_t)q * b->set.dim, K, 0,
                           b->set.base_count, NULL, hits, found) != ORT_OK) {
            bench_die("a scan failed");
        }
    }
    single = bench_now_s() - at;
    for (int pass = 0; pass < 3; pass++) {
        at = bench_now_s();
        if (dp_flat_search_batch(&b->rows, b->metric, b->set.query, n, K, 0, b->set.base_count,
                                 NULL, hits, found) != ORT_OK) {
            bench_die("a batch failed");
        }
        batched = bench_now_s() - at < batched ? bench_now_s() - at : batched;
    }
    rate = 2e-9 * n * b->set.base_count * b->set.dim / batched;
    machine = product_rate(b, n);
    fprintf(stderr,
            "EXACT %s %s (OpenBLAS %s): %.0f queries/s one by one, %.0f in batches of %u; %.1f "
            "GFLOP/s of the product's %.1f (%.2f)\n",
            b->opt->dataset, b->opt->elem, dp_flat_blas_core(), n / single, n / batched, n, rate,
            machine, rate / machine);
    free(hits);
}

/* ---- files ---- */

void
bench_save_and_load(const bench *b, contender *c, const dp_hnsw_config *config)
{
    dp_hnsw_stamp stamp = {.owner = {1, 2}, .lsn = 3};
    int dir = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dp_hnsw *loaded = NULL;
    ort_diag diag = {{0}};
    double at = bench_now_s();
    double saved;

    if (dp_hnsw_save(c->graph, dir, "bench-index.graph", &stamp, &diag) != ORT_OK) {
        bench_die(diag.text);
    }
    saved = bench_now_s() - at;
    at = bench_now_s();
    if (dp_hnsw_load(&loaded, &b->rows, config, dir, "bench-index.graph", &stamp, &diag) !=
        ORT_OK) {
        bench_die(diag.text);
    }
    fprintf(stderr, "SAVE %s %s: written and synced in %.2f s, read in %.2f s\n", b->opt->dataset,
            c->impl, saved, bench_now_s() - at);
    (void)unlinkat(dir, "bench-index.graph", 0);
    close(dir);
    dp_hnsw_free(c->graph);
    c->graph = loaded;
}

/* ---- a graph that is written to ---- */

typedef struct {
    const bench *b;
    dp_hnsw *graph;
    _Atomic(bool) stop;
    _Atomic(uint64_t) done;
} traffic;

static void *
search_on(void *arg)
{
    traffic *t = arg;
    const bench *b = t->b;

    for (uint32_t q = 0; !atomic_load(&t->stop); q = (q + 1) % b->set.query_count) {
        dp_hit hits[K];
        size_t n = 0;

        if (dp_hnsw_search(t->graph, b->set.query + (size_t)q * b->set.dim,
                           (dp_hnsw_query){.k = K, .ef = 64}, NULL, hits, &n) != ORT_OK) {
            bench_die("a search failed");
        }
        atomic_fetch_add(&t->done, 1);
    }
    return NULL;
}

/* Searches a second of the one searching thread, while `work` runs for `seconds` at least. */
static double
rate_during(traffic *t, double *seconds, void (*work)(const bench *b, dp_hnsw *graph))
{
    double at = bench_now_s();

    atomic_store(&t->done, 0);
    if (work != NULL) {
        work(t->b, t->graph);
    } else {
        sleep(3);
    }
    *seconds = bench_now_s() - at;
    return (double)atomic_load(&t->done) / *seconds;
}

static void
insert_other_half(const bench *b, dp_hnsw *graph)
{
    for (uint32_t i = b->set.base_count / 2; i < b->set.base_count; i++) {
        if (dp_hnsw_insert(graph, i) != ORT_OK) {
            bench_die("insert");
        }
    }
}

/* Replaces all points twice, a twentieth at a time. Rows come back into the slots they left. */
static void
replace_all_twice(const bench *b, dp_hnsw *graph)
{
    uint32_t n = b->set.base_count;

    for (uint32_t part = 0; part < 40; part++) {
        uint32_t begin = (uint32_t)((uint64_t)n * (part % 20) / 20);
        uint32_t end = (uint32_t)((uint64_t)n * (part % 20 + 1) / 20);

        for (uint32_t i = begin; i < end; i++) {
            if (dp_hnsw_delete(graph, i) != ORT_OK) {
                bench_die("delete");
            }
        }
        if (dp_hnsw_repair(graph) != ORT_OK) {
            bench_die("repair");
        }
        for (uint32_t i = begin; i < end; i++) {
            if (dp_hnsw_insert(graph, i) != ORT_OK) {
                bench_die("insert");
            }
        }
    }
}

/* One thread inserts the second half of the rows into a graph of the first as fast as it can, while
 * another searches. At rest is the mean of before and after, because the graph grows meanwhile. */
static void
insert_and_search(const bench *b, const contender *c, const dp_hnsw_config *config)
{
    traffic t = {.b = b};
    pthread_t searcher;
    ort_diag diag = {{0}};
    double before;
    double busy;
    double after;
    double s;
    double inserting;
    uint32_t half = b->set.base_count - b->set.base_count / 2;

    if (dp_hnsw_new(&t.graph, &b->rows, config, &diag) != ORT_OK ||
        dp_hnsw_build(t.graph, 0, b->set.base_count / 2, NULL, b->opt->build_threads, NULL,
                      &diag) != ORT_OK) {
        bench_die(diag.text);
    }
    if (pthread_create(&searcher, NULL, search_on, &t) != 0) {
        bench_die("no thread");
    }
    before = rate_during(&t, &s, NULL);
    busy = rate_during(&t, &inserting, insert_other_half);
    after = rate_during(&t, &s, NULL);
    atomic_store(&t.stop, true);
    pthread_join(searcher, NULL);
    fprintf(stderr,
            "INSERTING %s %s: %.0f inserts/s; searches/s (ef 64) at rest %.0f and %.0f, meanwhile "
            "%.0f (%.2f)\n",
            b->opt->dataset, c->impl, half / inserting, before, after, busy,
            2 * busy / (before + after));
    dp_hnsw_free(t.graph);
}

void
bench_live_on(const bench *b, contender *c, const dp_hnsw_config *config)
{
    size_t bytes = dp_hnsw_bytes(c->graph);
    traffic t = {.b = b, .graph = c->graph};
    pthread_t searcher;
    dp_hnsw_report report;
    double fresh[2] = {bench_recall(b, c, 16), bench_recall(b, c, 64)};
    double rest;
    double busy;
    double s;

    insert_and_search(b, c, config);
    if (pthread_create(&searcher, NULL, search_on, &t) != 0) {
        bench_die("no thread");
    }
    rest = rate_during(&t, &s, NULL);
    busy = rate_during(&t, &s, replace_all_twice);
    atomic_store(&t.stop, true);
    pthread_join(searcher, NULL);
    fprintf(stderr,
            "LIVING %s %s: %.0f replaced/s; searches/s at rest %.0f, meanwhile %.0f (%.2f)\n",
            b->opt->dataset, c->impl, 2.0 * b->set.base_count / s, rest, busy, busy / rest);
    if (dp_hnsw_check(c->graph, &report) != ORT_OK) {
        bench_die("check");
    }
    fprintf(stderr,
            "LIVING %s %s: recall@10 fresh %.4f (ef 16) %.4f (ef 64), after replacing all twice "
            "%.4f %.4f; bytes %zu -> %zu; degree %.1f unreachable %u dead links %u\n",
            b->opt->dataset, c->impl, fresh[0], fresh[1], bench_recall(b, c, 16),
            bench_recall(b, c, 64), bytes, dp_hnsw_bytes(c->graph), report.degree_mean,
            report.unreachable, report.dead_links);
}
