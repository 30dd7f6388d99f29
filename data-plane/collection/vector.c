/* Vectors between JSON, requests and stored rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collection/bm25.h"
#include "collection/op_internal.h"
#include "collection/vector_internal.h"

/* Unit length is judged in double, and a row within a millionth of it is left alone, so that what a
 * client reads and writes back stays the same bit by bit. */
void
dp_vector__normalize(float *row, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)row[i] * (double)row[i];
    }
    if (!(sum > 0) || fabs(sum - 1) < 1e-6) {
        return;
    }
    const double by = 1 / sqrt(sum);
    for (size_t i = 0; i < n; i++) {
        row[i] = (float)(row[i] * by);
    }
}

static uint8_t
to_byte(float v)
{
    return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)v;
}

void
dp_vector__prepare(const dp_vector_schema *schema, float *row, void *out)
{
    const size_t n = schema->size;
    if (schema->metric == DP_METRIC_COSINE && schema->elem != DP_ELEM_U8) {
        dp_vector__normalize(row, n);
    }
    switch (schema->elem) {
    case DP_ELEM_F32:
        if (out != (void *)row) {
            memcpy(out, row, n * sizeof *row);
        }
        break;
    case DP_ELEM_F16:
        dp_f16_from_f32(out, row, n);
        break;
    case DP_ELEM_U8:
        for (size_t i = 0; i < n; i++) {
            ((uint8_t *)out)[i] = to_byte(row[i]);
        }
        break;
    }
}

void
dp_vector__expand(dp_elem elem, const void *stored, size_t n, float *out)
{
    switch (elem) {
    case DP_ELEM_F32:
        memcpy(out, stored, n * sizeof *out);
        break;
    case DP_ELEM_F16:
        dp_f32_from_f16(out, stored, n);
        break;
    case DP_ELEM_U8:
        for (size_t i = 0; i < n; i++) {
            out[i] = ((const uint8_t *)stored)[i];
        }
        break;
    }
}

void
dp_vector__open(const dp_vector_schema *schema, const void *data, size_t len, void *room,
                dp_vector *out)
{
    if (schema->sparse) {
        const uint32_t count = (uint32_t)(len / 8);
        memcpy(room, data, len);
        *out = (dp_vector){.kind = DP_VECTOR_SPARSE,
                           .indices = room,
                           .values = (const float *)room + count,
                           .count = count,
                           .rows = 1};
        return;
    }
    const size_t floats = len / dp_elem_bytes(schema->elem);
    dp_vector__expand(schema->elem, data, floats, room);
    *out = (dp_vector){.kind = DP_VECTOR_MULTI,
                       .values = room,
                       .count = schema->size,
                       .rows = (uint32_t)(floats / schema->size)};
}

bool
dp_vector__is_inference(ort_json v)
{
    return ort_json_type_of(v) == ORT_JSON_OBJECT &&
           ort_json_type_of(ort_json_get(v, "model")) == ORT_JSON_STRING &&
           (ort_json_given(ort_json_get(v, "text")) || ort_json_given(ort_json_get(v, "image")) ||
            ort_json_given(ort_json_get(v, "object")));
}

static ort_err
wrong_shape(ort_diag *diag)
{
    return ort_fail(diag, ORT_EFORMAT, "data did not match any variant of untagged enum Vector");
}

static ort_err
read_dense(dp_vector *out, ort_json v, ort_diag *diag)
{
    const uint32_t count = ort_json_count(v);
    if (count == 0 || count > DP_MULTI_FLOATS_MAX) {
        return ort_fail(diag, ORT_EVALIDATE, "vector: must have 1 to %u numbers",
                        DP_MULTI_FLOATS_MAX);
    }
    float *values = malloc(count * sizeof *values);
    if (values == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    if (ort_json_floats(v, values, count) != ORT_OK) {
        free(values);
        return ort_fail(diag, ORT_EFORMAT, "vector: number out of range");
    }
    *out = (dp_vector){.kind = DP_VECTOR_DENSE, .values = values, .count = count, .rows = 1};
    return ORT_OK;
}

static ort_err
read_multi(dp_vector *out, ort_json v, ort_diag *diag)
{
    const uint32_t rows = ort_json_count(v);
    uint32_t dim = 0, i = 0;
    float *values = NULL;
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it); i++) {
        const uint32_t count = ort_json_count(it.value);
        if (!ort_json_is_numbers(it.value)) {
            free(values);
            return wrong_shape(diag);
        }
        if (i == 0 && count > 0 && (uint64_t)count * rows <= DP_MULTI_FLOATS_MAX) {
            dim = count;
            values = malloc((size_t)dim * rows * sizeof *values);
            if (values == NULL) {
                return ort_fail(diag, ORT_ENOMEM, "out of memory");
            }
        }
        if (values == NULL || count != dim) {
            free(values);
            return ort_fail(diag, ORT_EVALIDATE,
                            "vector: the rows of a multivector must be of one size, not empty");
        }
        if (ort_json_floats(it.value, values + (size_t)i * dim, dim) != ORT_OK) {
            free(values);
            return ort_fail(diag, ORT_EFORMAT, "vector: number out of range");
        }
    }
    *out = (dp_vector){.kind = DP_VECTOR_MULTI, .values = values, .count = dim, .rows = rows};
    return ORT_OK;
}

typedef struct {
    uint32_t index;
    float value;
} entry;

static int
order_entries(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Fills entries[count], sorted. */
static ort_err
read_entries(entry *entries, ort_json indices, ort_json values, uint32_t count, ort_diag *diag)
{
    ort_json_iter v = ort_json_each(values);
    uint32_t i = 0;
    for (ort_json_iter it = ort_json_each(indices); ort_json_step(&it) && ort_json_step(&v); i++) {
        uint64_t index;
        if (ort_json_u64(it.value, &index) != ORT_OK || index > UINT32_MAX) {
            return ort_fail(diag, ORT_EFORMAT, "indices: expected an unsigned 32-bit integer");
        }
        if (ort_json_f32(v.value, &entries[i].value) != ORT_OK) {
            return ort_fail(diag, ORT_EFORMAT, "values: number out of range");
        }
        entries[i].index = (uint32_t)index;
    }
    qsort(entries, count, sizeof *entries, order_entries);
    for (i = 1; i < count; i++) {
        if (entries[i].index == entries[i - 1].index) {
            return ort_fail(diag, ORT_EVALIDATE, "indices: must be unique");
        }
    }
    return ORT_OK;
}

static ort_err
read_sparse(dp_vector *out, ort_json v, ort_diag *diag)
{
    const ort_json indices = ort_json_get(v, "indices"), values = ort_json_get(v, "values");
    const uint32_t count = ort_json_count(indices);
    if (!ort_json_is_numbers(indices) || !ort_json_is_numbers(values)) {
        return wrong_shape(diag);
    }
    if (count != ort_json_count(values)) {
        return ort_fail(diag, ORT_EVALIDATE, "values: must be the same length as indices");
    }
    if (count > ORT_SPARSE_NNZ_MAX) {
        return ort_fail(diag, ORT_EVALIDATE, "indices: %u entries are over %u", count,
                        ORT_SPARSE_NNZ_MAX);
    }
    entry *entries = calloc((size_t)count + 1, sizeof *entries);
    float *floats = malloc(((size_t)count + 1) * (sizeof(float) + sizeof(uint32_t)));
    if (entries == NULL || floats == NULL) {
        free(entries);
        free(floats);
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    const ort_err err = read_entries(entries, indices, values, count, diag);
    if (err == ORT_OK) {
        uint32_t *at = (uint32_t *)(void *)(floats + count);
        for (uint32_t i = 0; i < count; i++) {
            floats[i] = entries[i].value;
            at[i] = entries[i].index;
        }
        *out = (dp_vector){
            .kind = DP_VECTOR_SPARSE, .values = floats, .indices = at, .count = count, .rows = 1};
        floats = NULL;
    }
    free(entries);
    free(floats);
    return err;
}

ort_err
dp_vector_read(dp_vector *out, ort_json v, ort_diag *diag)
{
    *out = (dp_vector){0};
    if (dp_vector__is_inference(v)) {
        return dp_bm25_read(out, v, true, diag);
    }
    if (ort_json_is_numbers(v)) {
        return read_dense(out, v, diag);
    }
    switch (ort_json_type_of(v)) {
    case ORT_JSON_ARRAY:
        return read_multi(out, v, diag);
    case ORT_JSON_OBJECT:
        return read_sparse(out, v, diag);
    default:
        return wrong_shape(diag);
    }
}

/* A sparse vector's indices stand in the memory of its values. */
void
dp_vector_fini(dp_vector *vector)
{
    free((float *)(uintptr_t)vector->values);
    *vector = (dp_vector){0};
}

void
dp_vector_write(ort_jw *w, const dp_vector *vector)
{
    switch (vector->kind) {
    case DP_VECTOR_NONE:
        ort_jw_null(w);
        break;
    case DP_VECTOR_DENSE:
        ort_jw_floats(w, vector->values, vector->count);
        break;
    case DP_VECTOR_MULTI:
        ort_jw_array(w);
        for (uint32_t i = 0; i < vector->rows; i++) {
            ort_jw_floats(w, vector->values + (size_t)i * vector->count, vector->count);
        }
        ort_jw_array_end(w);
        break;
    case DP_VECTOR_SPARSE:
        ort_jw_object(w);
        ort_jw_key(w, "indices");
        ort_jw_array(w);
        for (uint32_t i = 0; i < vector->count; i++) {
            ort_jw_u64(w, vector->indices[i]);
        }
        ort_jw_array_end(w);
        ort_jw_key(w, "values");
        ort_jw_floats(w, vector->values, vector->count);
        ort_jw_object_end(w);
        break;
    }
}
