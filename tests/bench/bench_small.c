/* tests/bench/bench_small.c: from which size on a graph pays.
 *
 *   tests/bench/run small [--data DIR] [--set notes-384] [--queries 300]
 *
 * For collections of more and more vectors of a data set, one query at a time (k = 10):
 *   scan   every row, exactly; `cold` from memory that no cache holds: as many copies of the rows
 *          as it takes are gone through in turn
 *   first  a pass over one-byte codes, then the best 40 measured on their rows; and what coding all
 *          rows takes, which a collection without files for codes does at each open
 *   graph  a walk as the collection does by default, its recall, and what building takes
 * The last line names the size from which the walk is at least twice as fast as the scan. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "index/code.h"
#include "index/flat.h"
#include "index/hnsw.h"
#include "vectors.h"

#define K 10u
#define FIRST 40u
#define COLD_BYTES ((size_t)512 << 20)
#define STEP 64u

typedef struct {
    bench_set set;
    unsigned queries;
    float *memory; /* copies, one behind the other */
    size_t copies;
    dp_chunk chunk[1];
    dp_rows rows; /* of the copy in use */
    uint32_t n;
    dp_hit truth[10000][K];
    double us[10000];
} bench;

static void
die(const char *what)
{
    fprintf(stderr, "bench_small: %s\n", what);
    exit(1);
}

static int
by_size(const void *x, const void *y)
{
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static double
median(bench *b)
{
    qsort(b->us, b->queries, sizeof *b->us, by_size);
    return b->us[b->queries / 2];
}

static const float *
query_of(const bench *b, unsigned i)
{
    return b->set.query + (size_t)(i % b->set.query_count) * b->set.dim;
}

static void
use_copy(bench *b, size_t copy)
{
    dp_rows_publish(&b->rows, 0, b->memory + copy * b->n * b->set.dim);
}

static void
make_rows(bench *b)
{
    const size_t bytes = (size_t)b->n * b->set.dim * sizeof(float);
    b->copies = bytes > 0 ? COLD_BYTES / bytes + 1 : 1;
    free(b->memory);
    b->memory = aligned_alloc(64, (b->copies * bytes + 63) / 64 * 64);
    if (b->memory == NULL) {
        die("out of memory");
    }
    for (size_t i = 0; i < b->copies; i++) {
        memcpy(b->memory + i * b->n * b->set.dim, b->set.base, bytes);
    }
    b->rows = (dp_rows){.chunk_bits = 31,
                        .stride_bytes = b->set.dim * (uint32_t)sizeof(float),
                        .dim = b->set.dim,
                        .elem = DP_ELEM_F32};
    atomic_store(&b->rows.chunks, b->chunk);
    use_copy(b, 0);
}

static double
scan(bench *b, dp_metric metric, bool cold)
{
    for (unsigned i = 0; i < b->queries; i++) {
        size_t got;
        use_copy(b, cold && b->copies > 0 ? i % b->copies : 0);
        const uint64_t begin = ort_mono_ns();
        if (dp_flat_search(&b->rows, metric, query_of(b, i), K, 0, b->n, NULL, b->truth[i], &got) !=
            ORT_OK) {
            die("a scan failed");
        }
        b->us[i] = (double)(ort_mono_ns() - begin) / 1e3;
    }
    use_copy(b, 0);
    return median(b);
}

/* The nearest FIRST by their codes, then by their rows; into hits[K]. */
static void
two_passes(const bench *b, dp_metric metric, const unsigned char *codes, const float *query,
           int8_t *room, dp_hit *all, dp_hit hits[K])
{
    const size_t row_bytes = dp_code_row_bytes(b->set.dim);
    const dp_code_measure_fn measure = dp_code_measure_best();
    dp_code_query q = {.codes = room};
    uint32_t slots[FIRST];
    float exact[FIRST], out[STEP];
    size_t kept = 0;
    dp_code_query_set(&q, metric, query, b->set.dim);
    for (uint32_t at = 0; at < b->n; at += STEP) {
        const unsigned char *rows[STEP];
        const uint32_t count = b->n - at < STEP ? b->n - at : STEP;
        for (uint32_t i = 0; i < count; i++) {
            rows[i] = codes + (size_t)(at + i) * row_bytes;
        }
        measure(&q, rows, count, out);
        for (uint32_t i = 0; i < count; i++) {
            const dp_hit hit = {.slot = at + i, .distance = out[i]};
            if (kept == FIRST && !dp_hit_nearer(hit, all[FIRST - 1])) {
                continue;
            }
            size_t place = kept < FIRST ? kept++ : FIRST - 1; /* few get here */
            for (; place > 0 && dp_hit_nearer(hit, all[place - 1]); place--) {
                all[place] = all[place - 1];
            }
            all[place] = hit;
        }
    }
    for (size_t i = 0; i < kept; i++) {
        slots[i] = all[i].slot;
    }
    dp_flat_measure(&b->rows, metric, query, slots, kept, exact);
    for (size_t i = 0; i < kept; i++) {
        all[i] = (dp_hit){.slot = slots[i], .distance = exact[i]};
    }
    qsort(all, kept, sizeof *all, dp_hit_compare);
    memcpy(hits, all, K * sizeof *hits);
}

static double
recall(const bench *b, dp_hit hits[][K])
{
    unsigned found = 0;
    for (unsigned i = 0; i < b->queries; i++) {
        for (unsigned j = 0; j < K; j++) {
            const float last = b->truth[i][K - 1].distance; /* a similarity's is below 0 */
            found += hits[i][j].distance <= last + 1e-5F * fabsf(last) + 1e-7F;
        }
    }
    return (double)found / (b->queries * K);
}

static void
first_pass(bench *b, dp_metric metric, double *encode_ms, double *us, double *found)
{
    static dp_hit hits[10000][K];
    const size_t row_bytes = dp_code_row_bytes(b->set.dim);
    unsigned char *codes = malloc(row_bytes * b->n + 1);
    int8_t *room = aligned_alloc(64, (dp_code_bytes(b->set.dim) + 63) / 64 * 64);
    dp_hit all[FIRST];
    if (codes == NULL || room == NULL) {
        die("out of memory");
    }
    const uint64_t begin = ort_mono_ns();
    for (uint32_t i = 0; i < b->n; i++) {
        (void)dp_code_encode(codes + i * row_bytes, b->set.base + (size_t)i * b->set.dim,
                             b->set.dim);
    }
    *encode_ms = (double)(ort_mono_ns() - begin) / 1e6;
    for (unsigned i = 0; i < b->queries; i++) {
        const uint64_t at = ort_mono_ns();
        two_passes(b, metric, codes, query_of(b, i), room, all, hits[i]);
        b->us[i] = (double)(ort_mono_ns() - at) / 1e3;
    }
    *us = median(b);
    *found = recall(b, hits);
    free(codes);
    free(room);
}

static void
graph(bench *b, dp_metric metric, double *build_s, double *us, double *found, double *mb)
{
    static dp_hit hits[10000][K];
    const dp_hnsw_config config = {.metric = metric, .seed = 7};
    dp_hnsw_progress progress = {0};
    dp_hnsw *g;
    ort_diag diag = {""};
    if (dp_hnsw_new(&g, &b->rows, &config, &diag) != ORT_OK) {
        die(diag.text);
    }
    const uint64_t begin = ort_mono_ns();
    if (dp_hnsw_build(g, 0, b->n, NULL, 1, &progress, &diag) != ORT_OK) {
        die(diag.text);
    }
    *build_s = (double)(ort_mono_ns() - begin) / 1e9;
    for (unsigned i = 0; i < b->queries; i++) {
        size_t got = 0;
        const uint64_t at = ort_mono_ns();
        if (dp_hnsw_search(g, query_of(b, i), (dp_hnsw_query){.k = K}, NULL, hits[i], &got) !=
                ORT_OK ||
            got != K) {
            die("a walk failed");
        }
        b->us[i] = (double)(ort_mono_ns() - at) / 1e3;
    }
    *us = median(b);
    *found = recall(b, hits);
    *mb = (double)dp_hnsw_bytes(g) / 1e6;
    dp_hnsw_free(g);
}

int
main(int argc, char **argv)
{
    static bench b = {.queries = 300};
    const char *data = getenv("ORT_DATA_DIR"), *name = "notes-384";
    dp_flat_blas_prepare(argv);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--data") == 0) {
            data = argv[i + 1];
        } else if (strcmp(argv[i], "--set") == 0) {
            name = argv[i + 1];
        } else if (strcmp(argv[i], "--queries") == 0) {
            b.queries = (unsigned)strtoul(argv[i + 1], NULL, 10);
        } else {
            die("--data DIR, --set NAME, --queries N");
        }
    }
    if (b.queries < 10 || b.queries > 10000) {
        die("10 to 10000 queries");
    }
    bench_set_load(&b.set, data != NULL ? data : "../shared/data", name, 32000, NULL);
    const dp_metric metric = b.set.bytes ? DP_METRIC_EUCLID : DP_METRIC_COSINE;
    double pays_kb = 0;
    printf("# %s, %s, %u queries, k=%u\n", name, b.set.bytes ? "Euclid" : "Cosine", b.queries, K);
    printf("rows kb scan_us scan_cold_us first_us first_recall encode_ms graph_us graph_recall "
           "build_s graph_mb\n");
    for (b.n = 500; b.n <= b.set.base_count; b.n *= 2) {
        double encode_ms, first_us, first_recall, build_s, graph_us, graph_recall, mb;
        const double kb = (double)b.n * b.set.dim * sizeof(float) / 1024;
        make_rows(&b);
        const double cold_us = scan(&b, metric, true), scan_us = scan(&b, metric, false);
        first_pass(&b, metric, &encode_ms, &first_us, &first_recall);
        graph(&b, metric, &build_s, &graph_us, &graph_recall, &mb);
        printf("%u %.0f %.0f %.0f %.0f %.3f %.1f %.0f %.3f %.2f %.1f\n", b.n, kb, scan_us, cold_us,
               first_us, first_recall, encode_ms, graph_us, graph_recall, build_s, mb);
        fflush(stdout);
        pays_kb = pays_kb == 0 && scan_us > 2 * graph_us ? kb : pays_kb;
    }
    printf("set=%s graph_pays_from_kb=%.0f\n", name, pays_kb);
    bench_set_free(&b.set);
    free(b.memory);
    return 0;
}
