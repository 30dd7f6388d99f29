/* bench_examples --dataset NAME --data DIR [--rows N] [--queries N]
 *
 * Recommend, discover, context and feedback over a collection so large that not every point is
 * scored (query_examples.c: SCORED_FLOATS_MAX): recall@10 against scoring all of them (`exact`), by
 * score, and the processor time of each. Examples are `near`: positives out of the nearest 50 rows
 * of a query, negatives out of the next 1,000, as a user's likes would be; or `any`: all of them
 * rows by chance. Prints one line of key=value pairs for each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_write.h"
#include "place.h"
#include "vectors.h"

#define K 10u
#define BATCH 500u
#define EXAMPLES 40u

static struct {
    const char *dataset, *data;
    uint32_t rows, queries;
} opt = {.queries = 50};

/* --- the collection ------------------------------------------------------------------------- */

typedef struct {
    bench_place in;
    bench_set set;
} place;

static void
upsert(place *p, uint32_t first, uint32_t end)
{
    ort_buf text = {0};
    ort_jw w = {.buf = &text};
    ort_jw_object(&w);
    ort_jw_key(&w, "points");
    ort_jw_array(&w);
    for (uint32_t i = first; i < end; i++) {
        ort_jw_object(&w);
        ort_jw_key(&w, "id");
        ort_jw_u64(&w, i);
        ort_jw_key(&w, "vector");
        ort_jw_floats(&w, p->set.base + (size_t)i * p->set.dim, p->set.dim);
        ort_jw_object_end(&w);
    }
    ort_jw_array_end(&w);
    ort_jw_object_end(&w);
    bench_place_upsert(&p->in, &text);
    ort_buf_fini(&text);
}

static void
fill(place *p)
{
    char schema[160];
    ort_diag diag = {{0}};
    const uint64_t start = ort_mono_ns();
    snprintf(schema, sizeof schema, "{\"vectors\":{\"size\":%u,\"distance\":\"%s\"}}", p->set.dim,
             p->set.bytes ? "Euclid" : "Cosine");
    bench_place_init(&p->in, schema);
    for (uint32_t i = 0; i < p->set.base_count; i += BATCH) {
        upsert(p, i, i + BATCH < p->set.base_count ? i + BATCH : p->set.base_count);
    }
    bench_must(dp_collection_wait_indexed(p->in.c, UINT64_MAX), &diag);
    printf("made set=%s rows=%u dim=%u seconds=%.1f\n", opt.dataset, p->set.base_count, p->set.dim,
           (double)(ort_mono_ns() - start) / 1e9);
    fflush(stdout);
}

/* --- asking --------------------------------------------------------------------------------- */

typedef struct {
    float score[K];
    uint32_t count;
} answer;

static ort_err
collect(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    answer *a = ctx;
    (void)query;
    (void)schema;
    if (a->count < K) {
        a->score[a->count++] = view->score;
    }
    return ORT_OK;
}

static double
ask(place *p, const dp_examples *examples, bool exact, answer *out)
{
    const dp_query query = {.kind = DP_QUERY_EXAMPLES,
                            .examples = examples,
                            .using_name = "",
                            .limit = K,
                            .exact = exact};
    ort_diag diag = {{0}};
    const uint64_t start = bench_cpu_ns();
    out->count = 0;
    bench_must(dp_collection_query(p->in.c, &query, 1, false, collect, out, &diag), &diag);
    return (double)(bench_cpu_ns() - start) / 1e6;
}

static uint64_t
next_random(uint64_t *state) /* splitmix64 (Steele, Lea, Flood 2014) */
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

typedef struct {
    uint32_t id[1050];
    uint32_t count;
} near_rows;

static ort_err
collect_near(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    near_rows *n = ctx;
    (void)query;
    (void)schema;
    if (n->count < sizeof n->id / sizeof n->id[0]) {
        n->id[n->count++] = (uint32_t)view->id.lo;
    }
    return ORT_OK;
}

static dp_vector
vector_of(const place *p, const float *values)
{
    return (dp_vector){.kind = DP_VECTOR_DENSE, .values = values, .count = p->set.dim, .rows = 1};
}

static void
find_near(place *p, uint32_t q, near_rows *out)
{
    ort_diag diag = {{0}};
    const dp_query query = {.kind = DP_QUERY_NEAREST,
                            .vector = vector_of(p, p->set.query + (size_t)q * p->set.dim),
                            .using_name = "",
                            .limit = sizeof out->id / sizeof out->id[0],
                            .exact = true};
    out->count = 0;
    bench_must(dp_collection_query(p->in.c, &query, 1, false, collect_near, out, &diag), &diag);
}

/* --- what is measured ------------------------------------------------------------------------ */

typedef struct {
    const char *name;
    dp_examples_kind kind;
    uint32_t positive, negative; /* pairs: as many of each */
    bool target;
} form;

static void
choose(const place *p, const near_rows *near, bool by_chance, uint64_t *state, uint32_t count,
       bool positive, dp_vector *out)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t z = next_random(state);
        const uint32_t row = by_chance  ? (uint32_t)(z % p->set.base_count)
                             : positive ? near->id[z % 50]
                                        : near->id[50 + z % (near->count - 50)];
        out[i] = vector_of(p, p->set.base + (size_t)row * p->set.dim);
    }
}

static int
by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void
measure(place *p, const form *f, bool by_chance)
{
    dp_vector positive[EXAMPLES], negative[EXAMPLES];
    float weights[EXAMPLES];
    double *all_ms = calloc(opt.queries, sizeof *all_ms);
    double *some_ms = calloc(opt.queries, sizeof *some_ms), least = 1;
    uint32_t found = 0, wanted = 0;
    for (uint32_t q = 0; q < opt.queries; q++) {
        near_rows near;
        answer exact, got;
        uint64_t state = q + 1;
        uint32_t right = 0;
        find_near(p, q, &near);
        choose(p, &near, by_chance, &state, f->positive, true, positive);
        choose(p, &near, by_chance, &state, f->negative, false, negative);
        for (uint32_t i = 0; i < EXAMPLES; i++) {
            weights[i] = 0.5F;
        }
        const dp_vector target = vector_of(p, p->set.query + (size_t)q * p->set.dim);
        const dp_examples examples = {.kind = f->kind,
                                      .a = 1,
                                      .target = f->target ? &target : NULL,
                                      .positive = positive,
                                      .negative = negative,
                                      .weights = weights,
                                      .positive_count = f->positive,
                                      .negative_count = f->negative};
        all_ms[q] = ask(p, &examples, true, &exact);
        some_ms[q] = ask(p, &examples, false, &got);
        for (uint32_t i = 0; i < got.count; i++) {
            right += got.score[i] >= exact.score[K - 1] - 1e-6F;
        }
        least = right / (double)K < least ? right / (double)K : least;
        found += right;
        wanted += K;
    }
    qsort(all_ms, opt.queries, sizeof *all_ms, by_value);
    qsort(some_ms, opt.queries, sizeof *some_ms, by_value);
    printf("examples set=%s form=%s positive=%u negative=%u examples=%s recall@10=%.4f least=%.1f "
           "p50_ms=%.2f max_ms=%.2f exact_p50_ms=%.2f\n",
           opt.dataset, f->name, f->positive, f->negative, by_chance ? "any" : "near",
           (double)found / wanted, least, some_ms[opt.queries / 2], some_ms[opt.queries - 1],
           all_ms[opt.queries / 2]);
    fflush(stdout);
    free(all_ms);
    free(some_ms);
}

int
main(int argc, char **argv)
{
    static const form forms[] = {{"best_score", DP_EXAMPLES_BEST, 8, 0, false},
                                 {"best_score", DP_EXAMPLES_BEST, 5, 5, false},
                                 {"sum_scores", DP_EXAMPLES_SUM, 8, 0, false},
                                 {"sum_scores", DP_EXAMPLES_SUM, 5, 5, false},
                                 {"discover", DP_EXAMPLES_DISCOVER, 3, 3, true},
                                 {"discover", DP_EXAMPLES_DISCOVER, 6, 6, true},
                                 {"discover", DP_EXAMPLES_DISCOVER, 12, 12, true},
                                 {"discover", DP_EXAMPLES_DISCOVER, 40, 40, true},
                                 {"context", DP_EXAMPLES_CONTEXT, 3, 3, false},
                                 {"context", DP_EXAMPLES_CONTEXT, 6, 6, false},
                                 {"context", DP_EXAMPLES_CONTEXT, 12, 12, false},
                                 {"context", DP_EXAMPLES_CONTEXT, 40, 40, false},
                                 {"feedback", DP_EXAMPLES_FEEDBACK, 3, 3, true}};
    static place p;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--dataset") == 0) {
            opt.dataset = argv[i + 1];
        } else if (strcmp(argv[i], "--data") == 0) {
            opt.data = argv[i + 1];
        } else if (strcmp(argv[i], "--rows") == 0) {
            opt.rows = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--queries") == 0) {
            opt.queries = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        }
    }
    if (opt.dataset == NULL || opt.data == NULL || opt.queries == 0 || argc % 2 == 0) {
        fputs("usage: bench_examples --dataset NAME --data DIR [--rows N] [--queries N]\n", stderr);
        return 2;
    }
    bench_set_load(&p.set, opt.data, opt.dataset, opt.rows, NULL);
    fill(&p);
    for (size_t i = 0; i < 2 * sizeof forms / sizeof forms[0]; i++) {
        measure(&p, &forms[i / 2], i % 2 == 1);
    }
    bench_place_fini(&p.in);
    bench_set_free(&p.set);
    return 0;
}
