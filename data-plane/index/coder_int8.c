/* A byte a component, as code.h has it; with a quantile, each row's range is cut to what most of
 * the components of a sample need, so that a few large ones cost the others no resolution.
 *
 * The cut is learnt in deviations of a row from its own mean, and a row is never given a wider
 * range than its own. Rows of integers 0..255 are kept as they are. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/coder_internal.h"

#define ROWS_MAX 2048u
#define VALUES_MAX 262144u

/* Mean and deviation of a row's components. */
static void
spread_of(const float *x, size_t dim, double *mean, double *deviation)
{
    double sum = 0;
    double sum2 = 0;

    for (size_t i = 0; i < dim; i++) {
        sum += (double)x[i];
        sum2 += (double)x[i] * (double)x[i];
    }
    *mean = sum / (double)dim;
    sum2 = sum2 / (double)dim - *mean * *mean;
    *deviation = sum2 > 0 ? sqrt(sum2) : 0;
}

static int
compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return (x > y) - (x < y);
}

/* Components of the sample's rows, in deviations from their rows' means; how many. */
static size_t
collect(const dp_coder *coder, const dp_coder_sample *sample, float *room, float *values)
{
    uint32_t rows = sample->count < ROWS_MAX ? sample->count : ROWS_MAX;
    size_t each = VALUES_MAX / rows < coder->dim ? VALUES_MAX / rows : coder->dim;
    size_t n = 0;

    for (uint32_t i = 0; i < rows; i++) {
        uint32_t at = (uint32_t)((uint64_t)i * sample->count / rows);
        const float *x = sample->vector(sample->arg, at, room);
        double mean;
        double deviation;

        spread_of(x, coder->dim, &mean, &deviation);
        if (!(deviation > 0) || !isfinite(deviation)) {
            continue;
        }
        for (size_t j = 0; j < each; j++) {
            values[n++] = (float)(((double)x[j * coder->dim / each] - mean) / deviation);
        }
    }
    return n;
}

static ort_err
int8_train(dp_coder *coder, const dp_coder_sample *sample, ort_diag *diag)
{
    double share = (1.0 - (double)coder->options.quantile) / 2;
    float *values;
    float *room;
    size_t n;

    coder->floats[0] = 0;
    coder->floats[1] = 0;
    if (coder->options.quantile >= 1.0F) {
        return ORT_OK;
    }
    if (sample->count == 0) {
        return ort_fail(diag, ORT_EINVAL, "a quantile is learnt from a sample, and there is none");
    }
    values = malloc(VALUES_MAX * sizeof *values);
    room = malloc(coder->dim * sizeof *room);
    if (values == NULL || room == NULL) {
        free(values);
        free(room);
        return ort_fail(diag, ORT_ENOMEM, "no memory to train a coder");
    }
    n = collect(coder, sample, room, values);
    if (n > 0) {
        size_t cut = (size_t)(share * (double)n);

        qsort(values, n, sizeof *values, compare_floats);
        coder->floats[0] = values[cut];
        coder->floats[1] = values[n - 1 - cut];
    }
    free(values);
    free(room);
    return ORT_OK;
}

static ort_err
int8_prepare(dp_coder *coder, ort_diag *diag)
{
    if (coder->floats[0] > coder->floats[1]) {
        return ort_fail(diag, ORT_ECORRUPT, "the model of the codes is damaged");
    }
    coder->row_bytes = dp_code_row_bytes(coder->dim);
    coder->query_bytes = (dp_code_bytes(coder->dim) + 63) / 64 * 64;
    coder->room_floats = coder->dim;
    coder->fine = true;
    coder->measure = dp_code_measure_best();
    return ORT_OK;
}

/* x with what lies outside the row's cut moved to its edge, into room; what that costs. */
static double
clip(const dp_coder *coder, const float *x, float *room)
{
    double mean;
    double deviation;
    double lost = 0;
    float low;
    float high;

    spread_of(x, coder->dim, &mean, &deviation);
    low = (float)(mean + deviation * (double)coder->floats[0]);
    high = (float)(mean + deviation * (double)coder->floats[1]);
    for (size_t i = 0; i < coder->dim; i++) {
        room[i] = x[i] < low ? low : x[i] > high ? high : x[i];
        lost += (double)(x[i] - room[i]) * (double)(x[i] - room[i]);
    }
    return lost;
}

static float
int8_encode(const dp_coder *coder, unsigned char *row, const float *x, float *room)
{
    dp_code_tail tail;
    double lost = 0;

    /* The uncut row first: most need no more, and exact ones must not be touched. */
    if (dp_code_encode(row, x, coder->dim)) {
        return 0;
    }
    if (coder->floats[0] < coder->floats[1]) {
        lost = clip(coder, x, room);
        (void)dp_code_encode(row, room, coder->dim);
        /* The length is known better than the clipped codes tell it. */
        memcpy(&tail, row + dp_code_bytes(coder->dim), sizeof tail);
        tail.norm2 = dp_norm2(x, coder->dim);
        memcpy(row + dp_code_bytes(coder->dim), &tail, sizeof tail);
    }
    memcpy(&tail, row + dp_code_bytes(coder->dim), sizeof tail);
    /* Rounding errs by a twelfth of the squared step. */
    return (float)(lost + (double)tail.scale * (double)tail.scale * coder->dim / 12 + 1e-30);
}

static void
int8_query_set(const dp_coder *coder, dp_code_query *query, const float *x, float *room)
{
    (void)room;
    dp_code_query_set(query, coder->metric, x, coder->dim);
}

static void
int8_query_from_row(const dp_coder *coder, dp_code_query *query, const unsigned char *row)
{
    dp_code_query_from_row(query, coder->metric, row, coder->dim);
}

const dp_coder_ops dp_coder__int8 = {.train = int8_train,
                                     .prepare = int8_prepare,
                                     .encode = int8_encode,
                                     .query_set = int8_query_set,
                                     .query_from_row = int8_query_from_row};
