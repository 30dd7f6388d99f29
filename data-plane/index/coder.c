/* Coders: their options, their bytes, and the way to each kind.
 *
 * A model as bytes, for the graph's file. All integers little-endian, floats IEEE single:
 *
 *   offset  size  field
 *        0     8  magic        "ORTCODE\1"
 *        8     4  kind         dp_code, 2 .. 5
 *       12     4  dim          components
 *       16     4  metric       dp_metric
 *       20     4  quantile     float; INT8, else 0
 *       24     4  ratio        PRODUCT, else 0
 *       28     4  bits         BINARY, ROTATED, else 0
 *       32     4  query_bits   BINARY, ROTATED, else 0
 *       36     4  error        float; see dp_coder_error()
 *       40     8  seed         ROTATED: of the rotation, else 0
 *       48        floats       INT8: 2, lower and upper clip; BINARY, ROTATED: dim, the centre;
 *                              PRODUCT: 256 a component, see coder_product.c
 *
 * What vouches for the bytes as a whole (checksum, length) is the file's. */
#include "index/coder.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "index/coder_internal.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "models are little-endian");

#define HEAD_BYTES 48u

static const unsigned char magic[8] = {'O', 'R', 'T', 'C', 'O', 'D', 'E', 1};

static const dp_coder_ops *const kinds[DP_CODE_COUNT] = {
    [DP_CODE_INT8] = &dp_coder__int8,
    [DP_CODE_PRODUCT] = &dp_coder__product,
    [DP_CODE_BINARY] = &dp_coder__bits,
    [DP_CODE_ROTATED] = &dp_coder__bits,
};

/* How many floats the model of a kind has. */
static size_t
float_count(dp_code kind, uint32_t ratio, uint32_t dim)
{
    switch (kind) {
    case DP_CODE_INT8:
        return 2;
    case DP_CODE_PRODUCT:
        return ((size_t)dim + ratio - 1) / ratio * ratio * 256; /* is_sound() saw the ratio */
    default:
        return dim;
    }
}

dp_code_options
dp_code_options_of(dp_code kind, dp_code_options given)
{
    dp_code_options o = {0};

    if (kind == DP_CODE_INT8) {
        o.quantile = given.quantile > 0.0F ? given.quantile : 1.0F;
    } else if (kind == DP_CODE_PRODUCT) {
        o.ratio = given.ratio != 0 ? given.ratio : 4;
    } else if (kind == DP_CODE_BINARY || kind == DP_CODE_ROTATED) {
        o.bits = given.bits != 0 ? given.bits : kind == DP_CODE_BINARY ? 1 : 4;
        o.query_bits = given.query_bits != 0 ? given.query_bits : 8;
    }
    return o;
}

bool
dp_code_options_equal(dp_code kind, dp_code_options a, dp_code_options b)
{
    a = dp_code_options_of(kind, a);
    b = dp_code_options_of(kind, b);
    return a.quantile == b.quantile && a.ratio == b.ratio && a.bits == b.bits &&
           a.query_bits == b.query_bits;
}

static bool
is_sound(dp_code kind, const dp_code_options *o)
{
    switch (kind) {
    case DP_CODE_INT8:
        return o->quantile >= 0.5F && o->quantile <= 1.0F;
    case DP_CODE_PRODUCT:
        return o->ratio <= 16 && o->ratio != 0 && (o->ratio & (o->ratio - 1)) == 0;
    default:
        return o->bits >= 1 && o->bits <= (kind == DP_CODE_BINARY ? 2 : 8) &&
               (o->query_bits == 1 || o->query_bits == 4 || o->query_bits == 8);
    }
}

ort_err
dp_code_options_check(dp_code kind, dp_code_options options, dp_metric metric, ort_diag *diag)
{
    if ((unsigned)kind >= DP_CODE_COUNT || (unsigned)metric >= DP_METRIC_COUNT) {
        return ort_fail(diag, ORT_EINVAL, "no such metric, element or code");
    }
    if (kind <= DP_CODE_NONE) {
        return ORT_OK;
    }
    if (metric == DP_METRIC_MANHATTAN) {
        return ort_fail(diag, ORT_EINVAL, "codes do not know the Manhattan distance");
    }
    options = dp_code_options_of(kind, options);
    return is_sound(kind, &options)
               ? ORT_OK
               : ort_fail(diag, ORT_EINVAL, "an option of the codes is out of its range");
}

/* A coder with room for its floats, nothing in them. */
static ort_err
coder_new(dp_coder **out, dp_code kind, dp_code_options options, dp_metric metric, uint32_t dim,
          ort_diag *diag)
{
    dp_coder *coder;
    size_t count;

    *out = NULL;
    if ((unsigned)kind >= DP_CODE_COUNT || kinds[kind] == NULL || dim == 0 || dim > ORT_DIM_MAX ||
        (unsigned)metric >= DP_METRIC_COUNT || metric == DP_METRIC_MANHATTAN) {
        return ort_fail(diag, ORT_EINVAL, "no codes of kind %d for %u components and metric %d",
                        (int)kind, dim, (int)metric);
    }
    if (!is_sound(kind, &options)) {
        return ort_fail(diag, ORT_EINVAL, "an option of the codes is out of its range");
    }
    count = float_count(kind, options.ratio, dim);
    coder = calloc(1, sizeof *coder);
    if (coder == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for a coder");
    }
    *coder = (dp_coder){.ops = kinds[kind],
                        .kind = kind,
                        .options = options,
                        .metric = metric,
                        .dim = dim,
                        .float_count = count,
                        .model_bytes = HEAD_BYTES + count * sizeof(float)};
    coder->model = aligned_alloc(64, (coder->model_bytes + 63) / 64 * 64);
    if (coder->model == NULL) {
        free(coder);
        return ort_fail(diag, ORT_ENOMEM, "no memory for a coder");
    }
    memset(coder->model, 0, coder->model_bytes);
    coder->floats = (float *)(void *)(coder->model + HEAD_BYTES);
    *out = coder;
    return ORT_OK;
}

static void
put_u32(unsigned char *at, uint32_t v)
{
    memcpy(at, &v, sizeof v);
}

static uint32_t
get_u32(const unsigned char *at)
{
    uint32_t v;

    memcpy(&v, at, sizeof v);
    return v;
}

static float
get_f32(const unsigned char *at)
{
    float v;

    memcpy(&v, at, sizeof v);
    return v;
}

static void
write_head(dp_coder *coder)
{
    unsigned char *head = coder->model;

    memcpy(head, magic, sizeof magic);
    put_u32(head + 8, (uint32_t)coder->kind);
    put_u32(head + 12, coder->dim);
    put_u32(head + 16, (uint32_t)coder->metric);
    memcpy(head + 20, &coder->options.quantile, 4);
    put_u32(head + 24, coder->options.ratio);
    put_u32(head + 28, coder->options.bits);
    put_u32(head + 32, coder->options.query_bits);
    memcpy(head + 36, &coder->error, 4);
    memcpy(head + 40, &coder->seed, 8);
}

float
dp_coder__sample_error(const dp_coder *coder, const dp_coder_sample *sample, ort_diag *diag,
                       ort_err *err)
{
    uint32_t n = sample->count < 512 ? sample->count : 512;
    unsigned char *row = malloc(coder->row_bytes);
    float *room = malloc((coder->room_floats + coder->dim) * sizeof *room);
    double sum = 0;

    if (row == NULL || room == NULL) {
        *err = ort_fail(diag, ORT_ENOMEM, "no memory to train a coder");
        n = 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = (uint32_t)((uint64_t)i * sample->count / n);
        const float *x = sample->vector(sample->arg, at, room + coder->room_floats);
        float error = dp_coder_encode(coder, row, x, room);

        sum += isfinite(error) ? (double)error : 0;
    }
    free(row);
    free(room);
    return n == 0 ? 0 : (float)(sum / n);
}

ort_err
dp_coder_train(dp_coder **out, dp_code kind, dp_code_options options, dp_metric metric,
               uint32_t dim, const dp_coder_sample *sample, ort_diag *diag)
{
    static const dp_coder_sample nothing = {0};
    dp_coder *coder;
    ort_err err;

    sample = sample != NULL ? sample : &nothing;
    err = coder_new(&coder, kind, dp_code_options_of(kind, options), metric, dim, diag);
    *out = NULL;
    if (err != ORT_OK) {
        return err;
    }
    err = coder->ops->train(coder, sample, diag);
    if (err == ORT_OK) {
        err = coder->ops->prepare(coder, diag);
    }
    if (err == ORT_OK) {
        coder->error = dp_coder__sample_error(coder, sample, diag, &err);
    }
    if (err != ORT_OK) {
        dp_coder_free(coder);
        return err;
    }
    write_head(coder);
    *out = coder;
    return ORT_OK;
}

ort_err
dp_coder_open(dp_coder **out, const void *model, size_t bytes, dp_metric metric, uint32_t dim,
              ort_diag *diag)
{
    const unsigned char *head = model;
    dp_code_options o;
    dp_coder *coder = NULL;
    ort_err err;

    *out = NULL;
    if (bytes < HEAD_BYTES || memcmp(head, magic, sizeof magic) != 0 || get_u32(head + 12) != dim ||
        get_u32(head + 16) != (uint32_t)metric || get_u32(head + 8) < DP_CODE_INT8 ||
        get_u32(head + 8) >= DP_CODE_COUNT) {
        return ort_fail(diag, ORT_ECORRUPT, "the model of the codes is damaged");
    }
    o = (dp_code_options){.quantile = get_f32(head + 20),
                          .ratio = get_u32(head + 24),
                          .bits = get_u32(head + 28),
                          .query_bits = get_u32(head + 32)};
    err = coder_new(&coder, (dp_code)get_u32(head + 8), o, metric, dim, diag);
    if (err != ORT_OK) {
        return err == ORT_EINVAL ? ort_fail(diag, ORT_ECORRUPT, "the model of the codes is damaged")
                                 : err;
    }
    if (bytes != coder->model_bytes) {
        dp_coder_free(coder);
        return ort_fail(diag, ORT_ECORRUPT, "the model of the codes is damaged");
    }
    memcpy(coder->model, head, bytes);
    coder->error = get_f32(head + 36);
    memcpy(&coder->seed, head + 40, sizeof coder->seed);
    for (size_t i = 0; i < coder->float_count && err == ORT_OK; i++) {
        err = isfinite(coder->floats[i]) ? ORT_OK : ORT_ECORRUPT;
    }
    if (err == ORT_OK && !(coder->error >= 0.0F && isfinite(coder->error))) {
        err = ORT_ECORRUPT;
    }
    if (err == ORT_OK) {
        err = coder->ops->prepare(coder, diag);
    } else {
        err = ort_fail(diag, err, "the model of the codes is damaged");
    }
    if (err != ORT_OK) {
        dp_coder_free(coder);
        return err;
    }
    *out = coder;
    return ORT_OK;
}

void
dp_coder_free(dp_coder *coder)
{
    if (coder == NULL) {
        return;
    }
    free(coder->model);
    free(coder->derived);
    free(coder);
}

const void *
dp_coder_model(const dp_coder *coder, size_t *bytes)
{
    *bytes = coder->model_bytes;
    return coder->model;
}

dp_code
dp_coder_kind(const dp_coder *coder)
{
    return coder->kind;
}

dp_code_options
dp_coder_options(const dp_coder *coder)
{
    return coder->options;
}

size_t
dp_coder_row_bytes(const dp_coder *coder)
{
    return coder->row_bytes;
}

size_t
dp_coder_query_bytes(const dp_coder *coder)
{
    return coder->query_bytes;
}

size_t
dp_coder_room_floats(const dp_coder *coder)
{
    return coder->room_floats;
}

bool
dp_coder_is_fine(const dp_coder *coder)
{
    return coder->fine;
}

float
dp_coder_error(const dp_coder *coder)
{
    return coder->error;
}

float
dp_coder_encode(const dp_coder *coder, unsigned char *row, const float *x, float *room)
{
    return coder->ops->encode(coder, row, x, room);
}

void
dp_coder_query_set(const dp_coder *coder, dp_code_query *query, const float *x, float *room)
{
    query->measure = coder->measure;
    query->model = coder;
    query->reach = 0;
    coder->ops->query_set(coder, query, x, room);
}

void
dp_coder_query_from_row(const dp_coder *coder, dp_code_query *query, const unsigned char *row)
{
    assert(coder->fine);
    query->measure = coder->measure;
    query->model = coder;
    query->reach = 0;
    coder->ops->query_from_row(coder, query, row);
}

float
dp_coder_slack(const dp_coder *coder, const dp_code_query *query, const unsigned char *row)
{
    return coder->ops->slack != NULL ? coder->ops->slack(coder, query, row) : INFINITY;
}
