/* bench_multi [--points N] [--rows N] [--dim N] [--query-rows N] [--queries N]
 *
 * What max_sim over a whole collection costs, and what it costs over 100 points that a dense vector
 * found before, as a prefetch does: microseconds of processor time a query, and how many of the
 * whole scan's best ten are among the second one's. Points are made: each has a topic out of 500,
 * its rows lie around the topic, and its dense vector is their mean. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "place.h"

#define K 10u
#define CANDIDATES 100u
#define TOPICS 500u
#define BATCH 100u

static struct {
    uint32_t points, rows, dim, query_rows, queries;
} opt = {20000, 32, 128, 16, 50};

static float *topics; /* TOPICS rows of dim */

static float
about_normal(uint64_t *state)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) { /* splitmix64 (Steele, Lea, Flood 2014) */
        uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        z ^= z >> 31;
        sum += (float)(z >> 40) / 16777216.0F - 0.5F;
    }
    return sum * 1.732F;
}

/* rows * dim numbers, each row of unit length, and their mean. */
static void
make_rows(uint64_t seed, uint32_t rows, float *out, float *mean)
{
    const float *topic = topics + seed * 7919 % TOPICS * opt.dim;
    memset(mean, 0, opt.dim * sizeof *mean);
    for (uint32_t r = 0; r < rows; r++) {
        float *row = out + (size_t)r * opt.dim, norm = 0;
        for (uint32_t i = 0; i < opt.dim; i++) {
            row[i] = topic[i] + about_normal(&seed);
            norm += row[i] * row[i];
        }
        for (uint32_t i = 0; i < opt.dim; i++) {
            row[i] /= sqrtf(norm);
            mean[i] += row[i] / (float)rows;
        }
    }
}

static void
put_points(bench_place *p, uint32_t first, uint32_t end, float *rows, float *mean)
{
    ort_buf text = {0};
    ort_jw w = {.buf = &text};
    ort_jw_object(&w);
    ort_jw_key(&w, "points");
    ort_jw_array(&w);
    for (uint32_t id = first; id < end; id++) {
        make_rows(id, opt.rows, rows, mean);
        ort_jw_object(&w);
        ort_jw_key(&w, "id");
        ort_jw_u64(&w, id);
        ort_jw_key(&w, "vector");
        ort_jw_object(&w);
        ort_jw_key(&w, "mean");
        ort_jw_floats(&w, mean, opt.dim);
        ort_jw_key(&w, "rows");
        ort_jw_array(&w);
        for (uint32_t r = 0; r < opt.rows; r++) {
            ort_jw_floats(&w, rows + (size_t)r * opt.dim, opt.dim);
        }
        ort_jw_array_end(&w);
        ort_jw_object_end(&w);
        ort_jw_object_end(&w);
    }
    ort_jw_array_end(&w);
    ort_jw_object_end(&w);
    bench_place_upsert(p, &text);
    ort_buf_fini(&text);
}

typedef struct {
    uint64_t id[CANDIDATES];
    uint32_t count;
} answer;

static ort_err
collect(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    answer *a = ctx;
    (void)query;
    (void)schema;
    a->id[a->count++] = view->id.lo;
    return ORT_OK;
}

static void
ask(bench_place *p, const char *name, const dp_vector *vector, const dp_filter *filter,
    uint32_t limit, answer *out)
{
    const dp_query query = {.kind = DP_QUERY_NEAREST,
                            .vector = *vector,
                            .using_name = name,
                            .filter = filter,
                            .limit = limit};
    ort_diag diag = {{0}};
    out->count = 0;
    bench_must(dp_collection_query(p->c, &query, 1, false, collect, out, &diag), &diag);
}

static dp_filter *
filter_of(const answer *found)
{
    ort_buf text = {0};
    ort_diag diag = {{0}};
    dp_filter *filter;
    ort_buf_puts(&text, "{\"must\":[{\"has_id\":[");
    for (uint32_t i = 0; i < found->count; i++) {
        ort_buf_printf(&text, "%s%llu", i > 0 ? "," : "", (unsigned long long)found->id[i]);
    }
    ort_buf_puts(&text, "]}]}");
    bench_must(dp_filter_parse_text(&filter, text.data, text.len, &diag), &diag);
    ort_buf_fini(&text);
    return filter;
}

static uint32_t
in_both(const answer *a, const answer *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        for (uint32_t k = 0; k < b->count; k++) {
            n += a->id[i] == b->id[k];
        }
    }
    return n;
}

static void
measure(bench_place *p, float *rows, float *mean)
{
    double whole_us = 0, after_us = 0;
    uint32_t found = 0, wanted = 0;
    for (uint32_t q = 0; q < opt.queries; q++) {
        answer whole, near, after;
        make_rows((UINT64_C(1) << 40) + q, opt.query_rows, rows, mean);
        const dp_vector many = {
            .kind = DP_VECTOR_MULTI, .values = rows, .count = opt.dim, .rows = opt.query_rows};
        const dp_vector one = {
            .kind = DP_VECTOR_DENSE, .values = mean, .count = opt.dim, .rows = 1};
        uint64_t start = bench_cpu_ns();
        ask(p, "rows", &many, NULL, K, &whole);
        whole_us += (double)(bench_cpu_ns() - start) / 1e3 / opt.queries;
        start = bench_cpu_ns();
        ask(p, "mean", &one, NULL, CANDIDATES, &near);
        dp_filter *filter = filter_of(&near);
        ask(p, "rows", &many, filter, K, &after);
        after_us += (double)(bench_cpu_ns() - start) / 1e3 / opt.queries;
        dp_filter_free(filter);
        found += in_both(&whole, &after);
        wanted += whole.count;
    }
    printf("multi points=%u rows=%u dim=%u query_rows=%u whole_us=%.0f after_prefetch_us=%.0f "
           "of_the_best_ten=%.3f\n",
           opt.points, opt.rows, opt.dim, opt.query_rows, whole_us, after_us,
           (double)found / wanted);
}

int
main(int argc, char **argv)
{
    const struct {
        const char *name;
        uint32_t *value;
    } options[] = {{"--points", &opt.points},
                   {"--rows", &opt.rows},
                   {"--dim", &opt.dim},
                   {"--query-rows", &opt.query_rows},
                   {"--queries", &opt.queries}};
    char schema[256];
    bench_place p;
    ort_diag diag = {{0}};
    uint64_t seed = 3;
    for (int i = 1; i + 1 < argc; i += 2) {
        for (size_t k = 0; k < sizeof options / sizeof options[0]; k++) {
            if (strcmp(argv[i], options[k].name) == 0) {
                *options[k].value = (uint32_t)strtoul(argv[i + 1], NULL, 10);
            }
        }
    }
    if (argc % 2 == 0 || opt.points == 0 || opt.rows == 0 || opt.dim == 0 || opt.queries == 0 ||
        opt.query_rows == 0) {
        fputs("usage: bench_multi [--points N] [--rows N] [--dim N] [--query-rows N] "
              "[--queries N]\n",
              stderr);
        return 2;
    }
    const uint32_t most = opt.rows > opt.query_rows ? opt.rows : opt.query_rows;
    float *rows = calloc((size_t)most * opt.dim, sizeof *rows);
    float *mean = calloc(opt.dim, sizeof *mean);
    topics = calloc((size_t)TOPICS * opt.dim, sizeof *topics);
    if (rows == NULL || mean == NULL || topics == NULL) {
        return 1;
    }
    for (size_t i = 0; i < (size_t)TOPICS * opt.dim; i++) {
        topics[i] = about_normal(&seed);
    }
    snprintf(schema, sizeof schema,
             "{\"vectors\":{\"mean\":{\"size\":%u,\"distance\":\"Cosine\"},\"rows\":{\"size\":%u,"
             "\"distance\":\"Cosine\",\"multivector_config\":{\"comparator\":\"max_sim\"}}}}",
             opt.dim, opt.dim);
    bench_place_init(&p, schema);
    for (uint32_t id = 0; id < opt.points; id += BATCH) {
        put_points(&p, id, id + BATCH < opt.points ? id + BATCH : opt.points, rows, mean);
    }
    bench_must(dp_collection_wait_indexed(p.c, UINT64_MAX), &diag);
    bench_must(dp_collection_checkpoint(p.c, &diag), &diag);
    measure(&p, rows, mean);
    bench_place_fini(&p);
    free(rows);
    free(mean);
    free(topics);
    return 0;
}
