/* tests/bench/run tenants: searches for the points of one value: recall@10 and time by the number
 * of values and the way they are looked for.
 *
 *   --data DIR --dataset NAME   as for `index` (default ../shared/data, notes-384)
 *   --rows N                    only the first N rows
 *   --queries N                 (default 400), each for one value, in turns
 *   --m 16 --ef-construct 100 --ef 100 --value-m 16
 *   --values N                  instead of 1000, 100, 30, 10 and 3
 *   --csv FILE                  appends rows there too
 *
 * Which point has which value: `random`, by chance, so that each value is as spread as the whole;
 * `cluster`, that of the nearest of so many rows, so that values lie together and differ in size,
 * and a query for one is far from its points as a rule.
 *
 * Ways: `links`, a walk over the value's own links; `codes`, its points one by one by their codes,
 * as they stand in its set; `general`, the graph of all points under a filter of bits, which
 * chooses between the two by itself; `rows`, its points one by one by their rows, exact. Values
 * without links (fewer than 512 points) are left out of `links`; where that are all, there is no
 * row.
 *
 * Rows: dataset,split,values,points a value (mean),way,ef,recall@10,us: microseconds of processor
 * time. Then what building took (s of processor time, one thread) and holds (bytes a point): the
 * graph of all points, the links by value beside it, and both as with m 0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/flat.h"
#include "index/hnsw_values.h"
#include "vectors.h"

#define K 10u
#define PASSES 3
#define FIELD 1u

typedef struct {
    const char *data, *dataset, *csv;
    uint32_t rows, queries, m, value_m, ef_construct, ef, values;
} options;

typedef struct {
    options o;
    bench_set set;
    dp_metric metric;
    dp_rows rows;
    dp_chunk chunk[1];
    dp_hnsw *graph;
    FILE *csv;

    const char *split;
    uint32_t values;
    uint32_t *value; /* of each row */
    uint32_t *begin; /* [values + 1] in members */
    uint32_t *members;
    uint32_t *asked; /* the value of each query */
    float *truth;    /* distance of its k-th */
    _Atomic(uint64_t) *words;
} bench;

_Noreturn static void
die(const char *what)
{
    fprintf(stderr, "bench tenants: %s\n", what);
    exit(2);
}

static void
must(ort_err err, const char *what)
{
    if (err != ORT_OK) {
        die(what);
    }
}

static void *
room(size_t count, size_t size)
{
    void *at = calloc(count + 1, size);
    if (at == NULL) {
        die("out of memory");
    }
    return at;
}

/* Time of this thread on a processor: what else runs on the machine is not in it. */
static double
processor_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
parse(options *o, int argc, char **argv)
{
    *o = (options){.data = "../shared/data",
                   .dataset = "notes-384",
                   .queries = 400,
                   .m = 16,
                   .value_m = 16,
                   .ef_construct = 100,
                   .ef = 100};
    const struct {
        const char *name;
        uint32_t *number;
        const char **text;
    } known[] = {{"--data", NULL, &o->data},       {"--dataset", NULL, &o->dataset},
                 {"--csv", NULL, &o->csv},         {"--rows", &o->rows, NULL},
                 {"--queries", &o->queries, NULL}, {"--m", &o->m, NULL},
                 {"--value-m", &o->value_m, NULL}, {"--ef-construct", &o->ef_construct, NULL},
                 {"--ef", &o->ef, NULL},           {"--values", &o->values, NULL}};
    for (int i = 1; i + 1 < argc; i += 2) {
        size_t at = 0;
        while (at < sizeof known / sizeof *known && strcmp(argv[i], known[at].name) != 0) {
            at++;
        }
        if (at == sizeof known / sizeof *known) {
            die("no such option; see the head of tests/bench/bench_tenants.c");
        }
        if (known[at].text != NULL) {
            *known[at].text = argv[i + 1];
        } else {
            *known[at].number = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        }
    }
}

static dp_hnsw *
graph_of(bench *b, bool unlinked)
{
    const dp_hnsw_config config = {
        .metric = b->metric, .m = b->o.m, .ef_construct = b->o.ef_construct, .unlinked = unlinked};
    dp_hnsw *graph;
    must(dp_hnsw_new(&graph, &b->rows, &config, NULL), "no graph");
    must(dp_hnsw_build(graph, 0, b->set.base_count, NULL, 1, NULL, NULL), "building failed");
    return graph;
}

static void
prepare(bench *b)
{
    const options *o = &b->o;
    bench_set_load(&b->set, o->data, o->dataset, o->rows, NULL);
    b->o.queries = o->queries < b->set.query_count ? o->queries : b->set.query_count;
    b->metric = b->set.bytes ? DP_METRIC_EUCLID : DP_METRIC_COSINE;
    b->rows = (dp_rows){
        .chunk_bits = 31, .stride_bytes = b->set.dim * 4, .dim = b->set.dim, .elem = DP_ELEM_F32};
    atomic_store(&b->rows.chunks, b->chunk);
    dp_rows_publish(&b->rows, 0, b->set.base);
    const double at = processor_s();
    b->graph = graph_of(b, false);
    printf("graph of all: %.2f s\n", processor_s() - at);
    must(dp_hnsw_tune(b->graph, NULL, NULL), "no codes");
    b->value = room(b->set.base_count, sizeof *b->value);
    b->members = room(b->set.base_count, sizeof *b->members);
    b->asked = room(b->o.queries, sizeof *b->asked);
    b->truth = room(b->o.queries, sizeof *b->truth);
    b->words = room((size_t)b->set.base_count / 64 + 1, sizeof *b->words);
}

/* --- who has which value ------------------------------------------------------------------------
 */

static uint64_t
draw(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x >> 11;
}

static uint32_t
nearest_centre(const bench *b, const uint32_t *centres, const float *row)
{
    uint32_t best = 0;
    float least = 0;
    for (uint32_t v = 0; v < b->values; v++) {
        const float d =
            bench_set_distance(&b->set, row, b->set.base + (size_t)centres[v] * b->set.dim);
        if (v == 0 || d < least) {
            least = d;
            best = v;
        }
    }
    return best;
}

static void
split(bench *b, const char *how, uint32_t values)
{
    const uint32_t n = b->set.base_count;
    uint64_t x = 88172645463325252u;
    uint32_t *centres = room(values, sizeof *centres);
    b->split = how;
    b->values = values;
    free(b->begin);
    b->begin = room((size_t)values + 1, sizeof *b->begin);
    for (uint32_t v = 0; v < values; v++) {
        centres[v] = (uint32_t)(draw(&x) % n);
    }
    for (uint32_t i = 0; i < n; i++) {
        b->value[i] = how[0] == 'r'
                          ? (uint32_t)(draw(&x) % values)
                          : nearest_centre(b, centres, b->set.base + (size_t)i * b->set.dim);
        b->begin[b->value[i] + 1]++;
    }
    for (uint32_t v = 0; v < values; v++) {
        b->begin[v + 1] += b->begin[v];
    }
    uint32_t *next = room(values, sizeof *next);
    memcpy(next, b->begin, values * sizeof *next);
    for (uint32_t i = 0; i < n; i++) {
        b->members[next[b->value[i]]++] = i;
    }
    free(next);
    free(centres);
}

static void
link_values(const bench *b, dp_hnsw *graph)
{
    must(dp_hnsw_field_add(graph, FIELD, b->o.value_m, NULL), "no field");
    for (uint32_t i = 0; i < b->set.base_count; i++) {
        const uint64_t value = b->value[i] + 1;
        must(dp_hnsw_value_add(graph, FIELD, i, &value, 1), "linking failed");
        if (i % 1024 == 1023 || i + 1 == b->set.base_count) {
            must(dp_hnsw_field_advance(graph, FIELD, i + 1), "linking failed");
        }
    }
}

/* --- ways ---------------------------------------------------------------------------------------
 */

typedef size_t (*way)(bench *b, uint32_t q, dp_hit *hits);

static const float *
query_of(const bench *b, uint32_t q)
{
    return b->set.query + (size_t)q * b->set.dim;
}

static uint32_t
count_of(const bench *b, uint32_t v)
{
    return b->begin[v + 1] - b->begin[v];
}

static size_t
by_links(bench *b, uint32_t q, dp_hit *hits)
{
    const dp_hnsw_among among = {.field = FIELD, .value = b->asked[q] + 1};
    size_t n = 0;
    const ort_err err =
        dp_hnsw_search(b->graph, query_of(b, q),
                       (dp_hnsw_query){.k = K, .ef = b->o.ef, .among = &among}, NULL, hits, &n);
    must(err == ORT_ENOTFOUND ? ORT_OK : err, "a search failed");
    return n;
}

static size_t
by_codes(bench *b, uint32_t q, dp_hit *hits)
{
    const dp_hnsw_among among = {.slots = b->members + b->begin[b->asked[q]],
                                 .slot_count = count_of(b, b->asked[q])};
    size_t n = 0;
    must(dp_hnsw_search(b->graph, query_of(b, q),
                        (dp_hnsw_query){.k = K, .ef = b->o.ef, .among = &among}, NULL, hits, &n),
         "a search failed");
    return n;
}

/* The filter's bits are there before: who remembers them has them so. */
static size_t
by_general(bench *b, uint32_t q, dp_hit *hits)
{
    const dp_slot_filter filter = {.allowed = {.words = b->words, .slot_end = b->set.base_count},
                                   .selectivity =
                                       (float)count_of(b, b->asked[q]) / (float)b->set.base_count};
    size_t n = 0;
    must(dp_hnsw_search(b->graph, query_of(b, q), (dp_hnsw_query){.k = K, .ef = b->o.ef}, &filter,
                        hits, &n),
         "a search failed");
    return n;
}

static size_t
by_rows(bench *b, uint32_t q, dp_hit *hits)
{
    static float distances[1u << 22];
    const uint32_t *slots = b->members + b->begin[b->asked[q]];
    const uint32_t n = count_of(b, b->asked[q]);
    size_t kept = 0;
    dp_flat_measure(&b->rows, b->metric, query_of(b, q), slots, n, distances);
    for (uint32_t i = 0; i < n; i++) { /* the k nearest by insertion */
        const dp_hit h = {.slot = slots[i], .distance = distances[i]};
        if (kept == K && !dp_hit_nearer(h, hits[K - 1])) {
            continue;
        }
        size_t at = kept < K ? kept++ : K - 1;
        for (; at > 0 && dp_hit_nearer(h, hits[at - 1]); at--) {
            hits[at] = hits[at - 1];
        }
        hits[at] = h;
    }
    return kept;
}

static void
set_bits(bench *b, uint32_t v, bool on)
{
    for (uint32_t i = b->begin[v]; i < b->begin[v + 1]; i++) {
        const uint32_t slot = b->members[i];
        const uint64_t bit = UINT64_C(1) << (slot % 64);
        if (on) {
            atomic_fetch_or(&b->words[slot / 64], bit);
        } else {
            atomic_fetch_and(&b->words[slot / 64], ~bit);
        }
    }
}

static double
recall_of(const bench *b, uint32_t q, const dp_hit *hits, size_t n)
{
    const uint32_t count = count_of(b, b->asked[q]);
    const uint32_t wanted = count < K ? count : K;
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++) {
        const float *row = b->set.base + (size_t)hits[i].slot * b->set.dim;
        found += b->value[hits[i].slot] == b->asked[q] &&
                 bench_set_distance(&b->set, query_of(b, q), row) <=
                     b->truth[q] + 1e-6F * (1 + b->truth[q]);
    }
    return (double)found / wanted;
}

static void
measure(bench *b, const char *name, way run)
{
    dp_hit hits[K + 1];
    double recall = 0, us = 0;
    uint32_t asked = 0;
    for (uint32_t q = 0; q < b->o.queries; q++) {
        double best = 1e30;
        size_t n = 0;
        set_bits(b, b->asked[q], true);
        for (uint32_t pass = 0; pass < PASSES; pass++) {
            const double at = processor_s();
            n = run(b, q, hits);
            const double took = (processor_s() - at) * 1e6;
            best = took < best ? took : best;
        }
        set_bits(b, b->asked[q], false);
        if (n > 0) { /* else the value has no links */
            us += best;
            recall += recall_of(b, q, hits, n);
            asked++;
        }
    }
    if (asked == 0) {
        return;
    }
    char line[256];
    snprintf(line, sizeof line, "%s,%s,%u,%u,%s,%u,%.4f,%.1f\n", b->o.dataset, b->split, b->values,
             b->set.base_count / b->values, name, b->o.ef, recall / asked, us / asked);
    fputs(line, stdout);
    fflush(stdout);
    if (b->csv != NULL) {
        fputs(line, b->csv);
    }
}

/* Every query asks for a value, each value as often as others; the k-th nearest of it is the
 * truth. */
static void
ask(bench *b)
{
    dp_hit hits[K + 1];
    for (uint32_t q = 0; q < b->o.queries; q++) {
        uint32_t v = q % b->values;
        while (count_of(b, v) == 0) {
            v = (v + 1) % b->values;
        }
        b->asked[q] = v;
        const size_t n = by_rows(b, q, hits);
        b->truth[q] = 0;
        for (size_t i = 0; i < n; i++) { /* in the measure that recall is counted by */
            const float d = bench_set_distance(&b->set, query_of(b, q),
                                               b->set.base + (size_t)hits[i].slot * b->set.dim);
            b->truth[q] = d > b->truth[q] || i == 0 ? d : b->truth[q];
        }
    }
}

static void
one_split(bench *b, const char *how, uint32_t values)
{
    dp_hnsw_field_report report;
    split(b, how, values);
    double at = processor_s();
    link_values(b, b->graph);
    const double beside = processor_s() - at;
    ask(b);
    measure(b, "links", by_links);
    measure(b, "codes", by_codes);
    measure(b, "general", by_general);
    measure(b, "rows", by_rows);
    must(dp_hnsw_field_check(b->graph, FIELD, &report), "no report");
    dp_hnsw_field_drop(b->graph, FIELD);
    const double all = (double)dp_hnsw_bytes(b->graph) / b->set.base_count;
    at = processor_s();
    dp_hnsw *alone = graph_of(b, true);
    link_values(b, alone);
    printf("linked %u of %u values, unreachable %u, bad links %u; links %.2f s, %.0f B a point; "
           "graph of all %.0f B; m 0: %.2f s, %.0f B\n",
           report.linked, report.values, report.unreachable, report.bad_links, beside,
           (double)report.bytes / b->set.base_count, all, processor_s() - at,
           (double)dp_hnsw_bytes(alone) / b->set.base_count);
    dp_hnsw_free(alone);
}

int
main(int argc, char **argv)
{
    static const uint32_t counts[] = {1000, 100, 30, 10, 3};
    static bench b;
    dp_flat_blas_prepare(argv);
    parse(&b.o, argc, argv);
    b.csv = b.o.csv != NULL ? fopen(b.o.csv, "ae") : NULL;
    prepare(&b);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (b.o.values == 0 || i == 0) {
            const uint32_t values = b.o.values != 0 ? b.o.values : counts[i];
            one_split(&b, "random", values);
            one_split(&b, "cluster", values);
        }
    }
    if (b.csv != NULL) {
        (void)fclose(b.csv);
    }
    dp_hnsw_free(b.graph);
    bench_set_free(&b.set);
    return 0;
}
