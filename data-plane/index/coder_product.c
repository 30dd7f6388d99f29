/* Product codes (Jégou, Douze, Schmid 2011): a vector is cut into parts of `ratio` components, and
 * each part is kept as the number of the nearest of 256 centroids of its own, found by k-means on a
 * sample. A query is a table of distances to all centroids, and a row's distance the sum of one
 * entry a part.
 *
 *   model's floats: part by part, [ratio][256], component by component; components behind the last
 *                   of the vector are 0
 *   row:            a byte a part, zeros to a multiple of 4
 *
 * Tables over TABLES_MAX are not made: the parts are then looked up in the model itself, which is
 * slow and needs no memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/coder_internal.h"
#include "index/coder_kernels.h"

#define CENTROIDS 256u
#define ROUNDS 6
#define SAMPLE_MAX 4096u
#define SAMPLE_MIN 512u
#define SAMPLE_COMPONENTS (4096u * 1536u) /* of more, fewer vectors are looked at */
#define TABLES_MAX ((size_t)4 << 20)

typedef struct {
    const dp_coder_kernels *kernels;
    size_t parts;
    size_t sub;    /* components a part */
    float *halves; /* [parts][CENTROIDS], half the squared length of each */
} product_model;

static const product_model *
model_of(const dp_coder *coder)
{
    return coder->derived;
}

static size_t
parts_of(const dp_coder *coder)
{
    return (coder->dim + coder->options.ratio - 1) / coder->options.ratio;
}

static const float *
centroids_of(const dp_coder *coder, size_t part)
{
    return coder->floats + part * coder->options.ratio * CENTROIDS;
}

static void
halve(const float *centroids, size_t sub, float *halves)
{
    for (size_t c = 0; c < CENTROIDS; c++) {
        float sum = 0;

        for (size_t i = 0; i < sub; i++) {
            sum += centroids[i * CENTROIDS + c] * centroids[i * CENTROIDS + c];
        }
        halves[c] = sum / 2;
    }
}

/* ---- training ---- */

typedef struct {
    float *vectors; /* [count][sub] of the part being trained */
    float *sums;    /* [sub][CENTROIDS] */
    float *room;
    uint32_t counts[CENTROIDS];
    float halves[CENTROIDS];
    uint32_t count;
    size_t sub;
    uint64_t seed;
} training;

/* One of the vectors. */
static const float *
draw(training *t)
{
    t->seed = t->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return t->vectors + ((t->seed >> 32) * t->count >> 32) * t->sub;
}

static void
put_centroid(float *centroids, size_t sub, size_t c, const float *x)
{
    for (size_t i = 0; i < sub; i++) {
        centroids[i * CENTROIDS + c] = isfinite(x[i]) ? x[i] : 0;
    }
}

/* The vectors' part into t->vectors. */
static void
cut(training *t, const dp_coder *coder, const dp_coder_sample *sample, size_t part)
{
    size_t from = part * t->sub;
    size_t n = coder->dim - from < t->sub ? coder->dim - from : t->sub;

    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t at = (uint32_t)((uint64_t)i * sample->count / t->count);
        const float *x = sample->vector(sample->arg, at, t->room);
        float *to = t->vectors + i * t->sub;

        memcpy(to, x + from, n * sizeof *to);
        memset(to + n, 0, (t->sub - n) * sizeof *to);
    }
}

/* One round of k-means; a centroid that has nobody takes a vector drawn at random. */
static void
move_centroids(training *t, const dp_coder_kernels *k, float *centroids)
{
    memset(t->sums, 0, t->sub * CENTROIDS * sizeof *t->sums);
    memset(t->counts, 0, sizeof t->counts);
    halve(centroids, t->sub, t->halves);
    for (uint32_t i = 0; i < t->count; i++) {
        const float *x = t->vectors + i * t->sub;
        uint32_t c = k->nearest(x, t->sub, centroids, t->halves);

        t->counts[c]++;
        for (size_t j = 0; j < t->sub; j++) {
            t->sums[j * CENTROIDS + c] += x[j];
        }
    }
    for (size_t c = 0; c < CENTROIDS; c++) {
        if (t->counts[c] == 0) {
            put_centroid(centroids, t->sub, c, draw(t));
            continue;
        }
        for (size_t j = 0; j < t->sub; j++) {
            float mean = t->sums[j * CENTROIDS + c] / (float)t->counts[c];

            centroids[j * CENTROIDS + c] = isfinite(mean) ? mean : 0;
        }
    }
}

static ort_err
product_train(dp_coder *coder, const dp_coder_sample *sample, ort_diag *diag)
{
    const dp_coder_kernels *k = dp_coder_kernels_best();
    uint32_t most = SAMPLE_COMPONENTS / coder->dim;
    training t = {.sub = coder->options.ratio, .seed = 9};
    ort_err err = ORT_OK;

    if (sample->count == 0) {
        return ort_fail(diag, ORT_EINVAL, "product codes are learnt from a sample");
    }
    most = most > SAMPLE_MIN ? most : SAMPLE_MIN;
    most = most < SAMPLE_MAX ? most : SAMPLE_MAX;
    t.count = sample->count < most ? sample->count : most;
    t.vectors = malloc(t.count * t.sub * sizeof *t.vectors);
    t.sums = malloc(t.sub * CENTROIDS * sizeof *t.sums);
    t.room = malloc(coder->dim * sizeof *t.room);
    if (t.vectors == NULL || t.sums == NULL || t.room == NULL) {
        err = ort_fail(diag, ORT_ENOMEM, "no memory to train a coder");
    }
    for (size_t part = 0; part < parts_of(coder) && err == ORT_OK; part++) {
        float *centroids = coder->floats + part * t.sub * CENTROIDS;

        cut(&t, coder, sample, part);
        for (size_t c = 0; c < CENTROIDS; c++) {
            put_centroid(centroids, t.sub, c,
                         t.vectors + (size_t)((uint64_t)c * t.count / CENTROIDS) * t.sub);
        }
        for (int round = 0; round < ROUNDS; round++) {
            move_centroids(&t, k, centroids);
        }
    }
    free(t.vectors);
    free(t.sums);
    free(t.room);
    return err;
}

/* ---- in use ---- */

/* Without tables: each part's centroid is read where it lies, of a query of floats. */
static void
measure_decoded(const dp_code_query *query, const unsigned char *const *rows, size_t n, float *out)
{
    const dp_coder *coder = query->model;
    const product_model *m = model_of(coder);
    const float *x = (const float *)(const void *)query->codes;
    const bool euclid = coder->metric == DP_METRIC_EUCLID;

    for (size_t r = 0; r < n; r++) {
        float sum = 0;

        for (size_t i = 0; i < m->parts * m->sub; i++) {
            float y = coder->floats[i * CENTROIDS + rows[r][i / m->sub]];

            sum += euclid ? (x[i] - y) * (x[i] - y) : -x[i] * y;
        }
        out[r] = sum;
    }
}

static ort_err
product_prepare(dp_coder *coder, ort_diag *diag)
{
    size_t parts = parts_of(coder);
    size_t head = (sizeof(product_model) + 63) / 64 * 64;
    size_t tables = parts * CENTROIDS * sizeof(float);
    unsigned char *block = aligned_alloc(64, head + tables);
    product_model *m = (void *)block;

    if (block == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for a coder");
    }
    *m = (product_model){.kernels = dp_coder_kernels_best(),
                         .parts = parts,
                         .sub = coder->options.ratio,
                         .halves = (float *)(void *)(block + head)};
    coder->derived = block;
    for (size_t part = 0; part < parts; part++) {
        halve(centroids_of(coder, part), m->sub, m->halves + part * CENTROIDS);
    }
    coder->row_bytes = (parts + 3) / 4 * 4;
    coder->query_bytes = tables <= TABLES_MAX ? tables : parts * m->sub * sizeof(float);
    coder->room_floats = m->sub;
    coder->fine = false;
    coder->measure = tables <= TABLES_MAX ? m->kernels->measure_product : measure_decoded;
    return ORT_OK;
}

/* A part of x; the last one may end behind it and is then completed in room. */
static const float *
part_of(const dp_coder *coder, const float *x, size_t part, float *room)
{
    size_t sub = coder->options.ratio;
    size_t from = part * sub;

    if (from + sub <= coder->dim) {
        return x + from;
    }
    memset(room, 0, sub * sizeof *room);
    memcpy(room, x + from, (coder->dim - from) * sizeof *room);
    return room;
}

static float
product_encode(const dp_coder *coder, unsigned char *row, const float *x, float *room)
{
    const product_model *m = model_of(coder);
    double lost = 0;

    memset(row, 0, coder->row_bytes);
    for (size_t part = 0; part < m->parts; part++) {
        const float *at = part_of(coder, x, part, room);
        const float *centroids = centroids_of(coder, part);
        uint32_t c = m->kernels->nearest(at, m->sub, centroids, m->halves + part * CENTROIDS);

        row[part] = (unsigned char)c;
        for (size_t i = 0; i < m->sub; i++) {
            double d = (double)at[i] - (double)centroids[i * CENTROIDS + c];

            lost += d * d;
        }
    }
    return (float)lost;
}

static void
product_query_set(const dp_coder *coder, dp_code_query *query, const float *x, float *room)
{
    const product_model *m = model_of(coder);
    float *tables = (float *)(void *)query->codes;

    query->bytes = m->parts;
    query->exact = false;
    query->base = 0;
    if (coder->measure == measure_decoded) {
        memset(tables, 0, coder->query_bytes);
        memcpy(tables, x, coder->dim * sizeof *tables);
        return;
    }
    for (size_t part = 0; part < m->parts; part++) {
        m->kernels->table(part_of(coder, x, part, room), m->sub, centroids_of(coder, part),
                          coder->metric == DP_METRIC_EUCLID, tables + part * CENTROIDS);
    }
}

const dp_coder_ops dp_coder__product = {.train = product_train,
                                        .prepare = product_prepare,
                                        .encode = product_encode,
                                        .query_set = product_query_set};
