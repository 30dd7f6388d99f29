/* How far points are from a vector: dense rows by the kernels, multivectors by max_sim, sparse
 * vectors by walking both lists of entries. */
#include "collection/measure_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collection/vector_internal.h"

static ort_err
no_memory(ort_diag *diag)
{
    return ort_fail(diag, ORT_ENOMEM, "out of memory");
}

ort_err
dp_measure__prepare(const dp_vector_schema *schema, const dp_vector *v, dp_vector *out, float **own,
                    ort_diag *diag)
{
    *own = NULL;
    if (schema->sparse != (v->kind == DP_VECTOR_SPARSE) || v->kind == DP_VECTOR_NONE ||
        (v->kind == DP_VECTOR_MULTI && !schema->multi)) {
        const bool sparse = schema->sparse != (v->kind == DP_VECTOR_SPARSE);
        return ort_fail(diag, ORT_EINVAL,
                        "Conversion between %s and regular vectors failed: vector `%s` holds %s "
                        "vectors",
                        sparse ? "sparse" : "multi", schema->name,
                        schema->sparse  ? "sparse"
                        : schema->multi ? "multi"
                                        : "dense");
    }
    *out = *v;
    if (schema->sparse) {
        return ORT_OK;
    }
    if (v->count != schema->size) {
        return ort_fail(diag, ORT_EINVAL, "Vector dimension error: expected dim: %u, got %u",
                        schema->size, v->count);
    }
    const uint32_t rows = v->kind == DP_VECTOR_MULTI ? v->rows : 1;
    const size_t n = (size_t)schema->size * rows;
    *own = malloc(n * sizeof **own);
    if (*own == NULL) {
        return no_memory(diag);
    }
    memcpy(*own, v->values, n * sizeof **own);
    for (uint32_t i = 0; i < rows && schema->metric == DP_METRIC_COSINE; i++) {
        dp_vector__normalize(*own + (size_t)i * schema->size, schema->size);
    }
    *out = (dp_vector){.kind = schema->multi ? DP_VECTOR_MULTI : DP_VECTOR_DENSE,
                       .values = *own,
                       .count = schema->size,
                       .rows = rows};
    return ORT_OK;
}

/* Bytes cannot be unit length, so Cosine over them divides by what they are long. */
static float
row_distance(const dp_vector_schema *schema, const float *a, const float *b)
{
    const float d = dp_distance_of(schema->metric, DP_ELEM_F32)->one(a, b, schema->size);
    if (schema->metric != DP_METRIC_COSINE || schema->elem != DP_ELEM_U8) {
        return d;
    }
    const float norms = dp_norm2(a, schema->size) * dp_norm2(b, schema->size);
    return norms > 0 ? d / sqrtf(norms) : 0;
}

/* Sum over a's rows of the distance to the nearest row of b. */
static float
max_sim(const dp_vector_schema *schema, const dp_vector *a, const dp_vector *b)
{
    const size_t dim = schema->size;
    const bool plain = schema->metric != DP_METRIC_COSINE || schema->elem != DP_ELEM_U8;
    const dp_distance_fn one = dp_distance_of(schema->metric, DP_ELEM_F32)->one;
    float sum = 0;
    for (uint32_t i = 0; i < a->rows; i++) {
        const float *row = a->values + i * dim;
        float best = 0;
        for (uint32_t k = 0; k < b->rows; k++) {
            const float *other = b->values + k * dim;
            const float d = plain ? one(row, other, dim) : row_distance(schema, row, other);
            best = k == 0 || d < best ? d : best;
        }
        sum += best;
    }
    return sum;
}

static float
sparse_distance(const dp_vector *a, const dp_vector *b)
{
    float dot = 0;
    for (uint32_t i = 0, k = 0; i < a->count && k < b->count;) {
        if (a->indices[i] == b->indices[k]) {
            dot += a->values[i++] * b->values[k++];
        } else if (a->indices[i] < b->indices[k]) {
            i++;
        } else {
            k++;
        }
    }
    return -dot;
}

float
dp_vector_distance(const dp_vector_schema *schema, const dp_vector *a, const dp_vector *b)
{
    if (schema->sparse) {
        return sparse_distance(a, b);
    }
    if (schema->multi) {
        return max_sim(schema, a, b);
    }
    return row_distance(schema, a->values, b->values);
}

/* The root of a sum of squares, where Euclid's rows were summed, as Qdrant takes it. */
float
dp_vector_score(const dp_vector_schema *schema, float distance)
{
    return schema->sparse ? -distance : dp_metric_score(schema->metric, distance);
}

/* Vectors that are kept as bytes, one after the other. */
static ort_err
measure_bytes(dp_reader *reader, const dp_vector_schema *schema, uint32_t column,
              const dp_vector *v, const uint32_t *slots, size_t count, float *out, ort_diag *diag)
{
    void *room = NULL;
    size_t cap = 0;
    ort_err err = ORT_OK;
    for (size_t i = 0; err == ORT_OK && i < count; i++) {
        const void *data;
        size_t len;
        err = dp_points_bytes(reader, column, slots[i], &data, &len, diag);
        if (err != ORT_OK) {
            break;
        }
        const size_t need = len * sizeof(float) + 1; /* bytes expanded to floats at most */
        if (need > cap) {
            void *grown = realloc(room, need);
            if (grown == NULL) {
                err = no_memory(diag);
                break;
            }
            room = grown;
            cap = need;
        }
        dp_vector stored;
        dp_vector__open(schema, data, len, room, &stored);
        out[i] = dp_vector_distance(schema, v, &stored);
    }
    free(room);
    return err;
}

ort_err
dp_measure__slots(dp_shard *s, dp_reader *reader, uint32_t column, const dp_vector *v,
                  const uint32_t *slots, size_t count, float *out, ort_diag *diag)
{
    const dp_vector_schema *schema = dp_schema_peek_vector(s->schema, column);
    if (schema->sparse || schema->multi) {
        return measure_bytes(reader, schema, column, v, slots, count, out, diag);
    }
    dp_flat_measure(&s->derived[column].rows, schema->metric, v->values, slots, count, out);
    return ORT_OK;
}
