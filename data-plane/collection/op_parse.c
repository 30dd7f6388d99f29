/* Reading operations from requests: checked and written as records in one pass. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "collection/bm25.h"
#include "collection/op_internal.h"
#include "collection/vector_internal.h"
#include "filter/filter.h"
#include "filter/path.h"

typedef struct {
    dp_op *op;
    ort_buf *buf; /* the record */
    const dp_schema *schema;
    ort_diag *diag;
    float *scratch; /* a row on its way to another element type */
    size_t scratch_cap;
} builder;

static ort_err
no_memory(builder *b)
{
    return ort_fail(b->diag, ORT_ENOMEM, "out of memory");
}

/* What breaks a bound is told with its place: "points[3].vector: .."; the other texts are fixed. */
static void
place_in_list(builder *b, ort_err err, const char *list, uint32_t i)
{
    if (err == ORT_EVALIDATE && b->diag != NULL) {
        char text[sizeof b->diag->text];
        snprintf(text, sizeof text, "%s[%u].%.*s", list, i, (int)sizeof text - 40, b->diag->text);
        memcpy(b->diag->text, text, sizeof text);
    }
}

/* A text with its length before it, which is known only afterwards. */
static size_t
open_text(builder *b)
{
    ort_buf_put_u32(b->buf, 0);
    return b->buf->len;
}

static void
close_text(builder *b, size_t start)
{
    if (!b->buf->failed) {
        ort_put_u32(b->buf->data + start - 4, (uint32_t)(b->buf->len - start));
    }
}

static void
put_text(builder *b, const char *text, size_t len)
{
    const size_t start = open_text(b);
    ort_buf_put(b->buf, text, len);
    close_text(b, start);
}

ort_err
dp_point_id_read(ort_json v, ort_point_id *out, ort_diag *diag)
{
    size_t len;
    const bool string = ort_json_type_of(v) == ORT_JSON_STRING;
    const char *text = string ? ort_json_str(v, &len) : ort_json_raw(v, &len);
    if (text == NULL) {
        return ort_fail(diag, ORT_EFORMAT, "missing field `id`");
    }
    /* An id that is none does not deserialize. */
    return ort_point_id_parse(text, len, !string, out, diag) == ORT_OK ? ORT_OK : ORT_EFORMAT;
}

void
dp_point_id_write(ort_jw *w, ort_point_id id)
{
    char text[ORT_POINT_ID_TEXT_BYTES];
    if (!id.uuid) {
        ort_jw_u64(w, id.lo);
    } else {
        ort_jw_str_n(w, text, ort_point_id_format(id, text));
    }
}

static ort_err
put_id(builder *b, ort_json v)
{
    unsigned char bytes[ORT_POINT_ID_BYTES];
    ort_point_id id = {0};
    const ort_err err = dp_point_id_read(v, &id, b->diag);
    if (err == ORT_OK) {
        ort_point_id_encode(id, bytes);
        ort_buf_put(b->buf, bytes, sizeof bytes);
    }
    return err;
}

/* A payload: an object, or nothing. */
static ort_err
put_payload(builder *b, ort_json v)
{
    const size_t start = open_text(b);
    ort_jw w = {.buf = b->buf};
    if (ort_json_given(v) && ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return ort_fail(b->diag, ORT_EFORMAT, "payload: expected a map");
    }
    if (ort_json_given(v) && ort_json_count(v) > 0) {
        ort_jw_value(&w, v);
    }
    if (b->buf->len - start > DP_PAYLOAD_BYTES_MAX) {
        return ort_fail(b->diag, ORT_EVALIDATE, "payload: %zu bytes are over %u",
                        b->buf->len - start, DP_PAYLOAD_BYTES_MAX);
    }
    close_text(b, start);
    return ORT_OK;
}

static ort_err
put_filter(builder *b, ort_json v, const char *where)
{
    dp_filter *filter;
    ort_err err = dp_filter_parse(&filter, v, where, b->diag);
    if (err == ORT_OK) {
        ort_buf text = {0};
        dp_filter_write_record(filter, dp_schema_fields(b->schema), &text);
        err = ort_buf_check(&text);
        if (err == ORT_OK) {
            put_text(b, text.data, text.len);
        }
        ort_buf_fini(&text);
        dp_filter_free(filter);
    }
    return err;
}

/* --- vectors ------------------------------------------------------------------------------------
 */

/* The head of a vector; its data starts at a multiple of 4 of the record. */
static void
put_vector_head(builder *b, uint32_t column, dp_vector_kind kind, dp_elem elem, uint32_t count,
                uint32_t rows)
{
    ort_buf_put_u16(b->buf, (uint16_t)column);
    ort_buf_put_u8(b->buf, (uint8_t)kind);
    ort_buf_put_u8(b->buf, (uint8_t)elem);
    ort_buf_put_u32(b->buf, count);
    ort_buf_put_u32(b->buf, rows);
    while (!b->buf->failed && b->buf->len % 4 != 0) {
        ort_buf_put_u8(b->buf, 0);
    }
}

static ort_err
check_size(builder *b, const dp_vector_schema *s, uint32_t count)
{
    if (count == 0) {
        return ort_fail(b->diag, ORT_EVALIDATE, "vector: must not be empty");
    }
    if (count != s->size) {
        return ort_fail(b->diag, ORT_EINVAL, "Vector dimension error: expected dim: %u, got %u",
                        s->size, count);
    }
    return ORT_OK;
}

/* One row, from JSON text into the record as it will be stored. */
static ort_err
put_row(builder *b, const dp_vector_schema *s, ort_json row)
{
    float *at;
    if (!ort_json_is_numbers(row)) {
        return ort_fail(b->diag, ORT_EFORMAT,
                        "data did not match any variant of untagged enum VectorStruct");
    }
    ort_err err = check_size(b, s, ort_json_count(row));
    if (err != ORT_OK) {
        return err;
    }
    if (b->scratch_cap < s->size) {
        float *grown = realloc(b->scratch, s->size * sizeof(float));
        if (grown == NULL) {
            return no_memory(b);
        }
        b->scratch = grown;
        b->scratch_cap = s->size;
    }
    const size_t bytes = s->size * dp_elem_bytes(s->elem);
    char *to = ort_buf_reserve(b->buf, bytes);
    if (to == NULL) {
        return no_memory(b);
    }
    at = s->elem == DP_ELEM_F32 ? (float *)(void *)to : b->scratch;
    if (ort_json_floats(row, at, s->size) != ORT_OK) {
        return ort_fail(b->diag, ORT_EFORMAT, "vector: number out of range");
    }
    dp_vector__prepare(s, at, to);
    ort_buf_commit(b->buf, bytes);
    return ORT_OK;
}

static ort_err
put_dense(builder *b, uint32_t column, const dp_vector_schema *s, ort_json v)
{
    const bool one_row = ort_json_is_numbers(v) && ort_json_count(v) > 0;
    const uint32_t rows = s->multi && !one_row ? ort_json_count(v) : 1;
    ort_err err = ORT_OK;
    if (ort_json_type_of(v) != ORT_JSON_ARRAY) {
        return ort_fail(b->diag, ORT_EINVAL,
                        "Wrong kind of vector for `%s`: expected a dense vector", s->name);
    }
    if (s->multi && (uint64_t)rows * s->size > DP_MULTI_FLOATS_MAX) {
        return ort_fail(b->diag, ORT_EVALIDATE, "vector: a multivector of more than %u numbers",
                        DP_MULTI_FLOATS_MAX);
    }
    if (rows == 0) {
        return ort_fail(b->diag, ORT_EVALIDATE, "vector: must not be empty");
    }
    put_vector_head(b, column, s->multi ? DP_VECTOR_MULTI : DP_VECTOR_DENSE, s->elem, s->size,
                    rows);
    if (!s->multi || one_row) {
        return put_row(b, s, v);
    }
    for (ort_json_iter it = ort_json_each(v); err == ORT_OK && ort_json_step(&it);) {
        err = put_row(b, s, it.value);
    }
    return err;
}

static ort_err
put_sparse(builder *b, uint32_t column, const dp_vector_schema *s, ort_json v)
{
    dp_vector vector;
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return ort_fail(b->diag, ORT_EINVAL,
                        "Wrong kind of vector for `%s`: expected a sparse vector", s->name);
    }
    const ort_err err = dp_vector__is_inference(v) ? dp_bm25_read(&vector, v, false, b->diag)
                                                   : dp_vector_read(&vector, v, b->diag);
    if (err != ORT_OK) {
        return err;
    }
    put_vector_head(b, column, DP_VECTOR_SPARSE, DP_ELEM_F32, vector.count, 1);
    for (uint32_t i = 0; i < vector.count; i++) {
        ort_buf_put_u32(b->buf, vector.indices[i]);
    }
    for (uint32_t i = 0; i < vector.count; i++) {
        uint32_t bits;
        memcpy(&bits, &vector.values[i], sizeof bits);
        ort_buf_put_u32(b->buf, bits);
    }
    dp_vector_fini(&vector);
    return ORT_OK;
}

static ort_err
put_vector(builder *b, const char *name, size_t len, ort_json v)
{
    const int column = dp_schema_find_vector(b->schema, name, len);
    if (column < 0) {
        return ort_fail(b->diag, ORT_EINVAL, "Not existing vector name error: %.*s",
                        (int)(len > 200 ? 200 : len), name);
    }
    const dp_vector_schema *s = dp_schema_peek_vector(b->schema, (uint32_t)column);
    if (!s->sparse && dp_vector__is_inference(v)) {
        return ort_fail(b->diag, ORT_EBADREQ,
                        "No model turns text into the dense vector `%s`: send the vector itself",
                        s->name);
    }
    return s->sparse ? put_sparse(b, (uint32_t)column, s, v) : put_dense(b, (uint32_t)column, s, v);
}

/* The `vector` of a point: an array is the unnamed one, an object holds named ones. */
static ort_err
put_vectors(builder *b, ort_json v)
{
    const size_t start = b->buf->len;
    uint16_t count = 0;
    ort_err err = ORT_OK;
    ort_buf_put_u16(b->buf, 0);
    if (!ort_json_given(v)) {
        return ort_fail(b->diag, ORT_EFORMAT, "missing field `vector`");
    }
    if (ort_json_type_of(v) == ORT_JSON_ARRAY || dp_vector__is_inference(v)) {
        err = put_vector(b, "", 0, v);
        count = 1;
    } else if (ort_json_type_of(v) == ORT_JSON_OBJECT) {
        if (ort_json_count(v) > ORT_VECTORS_PER_POINT_MAX) {
            return ort_fail(b->diag, ORT_EVALIDATE, "vector: more than %u vectors",
                            ORT_VECTORS_PER_POINT_MAX);
        }
        for (ort_json_iter it = ort_json_each(v); err == ORT_OK && ort_json_step(&it);) {
            size_t len;
            const char *name = ort_json_str(it.key, &len);
            if (!ort_json_given(it.value)) {
                continue;
            }
            err = name != NULL ? put_vector(b, name, len, it.value) : no_memory(b);
            count++;
        }
    } else {
        return ort_fail(b->diag, ORT_EFORMAT,
                        "data did not match any variant of untagged enum VectorStruct");
    }
    if (err == ORT_OK && !b->buf->failed) {
        ort_put_u16(b->buf->data + start, count);
    }
    return err;
}

/* --- points -------------------------------------------------------------------------------------
 */

static ort_json
vector_of(ort_json point)
{
    const ort_json v = ort_json_get(point, "vector");
    return ort_json_given(v) ? v : ort_json_get(point, "vectors");
}

static ort_err
check_batch_size(builder *b, uint32_t count)
{
    if (count == 0) {
        return ort_fail(b->diag, ORT_EBADREQ, "Empty update request");
    }
    return count > ORT_BATCH_POINTS_MAX
               ? ort_fail(b->diag, ORT_EVALIDATE, "points: %u points in one request are over %u",
                          count, ORT_BATCH_POINTS_MAX)
               : ORT_OK;
}

static ort_err
put_point_list(builder *b, ort_json points, bool with_payload)
{
    const uint32_t count = ort_json_count(points);
    ort_err err;
    uint32_t i = 0;
    if (ort_json_type_of(points) != ORT_JSON_ARRAY) {
        return ort_fail(b->diag, ORT_EFORMAT, "points: expected a sequence");
    }
    err = check_batch_size(b, count);
    ort_buf_put_u32(b->buf, count);
    for (ort_json_iter it = ort_json_each(points); err == ORT_OK && ort_json_step(&it); i++) {
        if (ort_json_type_of(it.value) != ORT_JSON_OBJECT) {
            return ort_fail(b->diag, ORT_EFORMAT, "points[%u]: expected struct PointStruct", i);
        }
        err = put_id(b, ort_json_get(it.value, "id"));
        if (err == ORT_OK) {
            err = put_payload(b, with_payload ? ort_json_get(it.value, "payload") : (ort_json){0});
        }
        const ort_json vector = vector_of(it.value);
        if (err == ORT_OK && !with_payload && ort_json_type_of(vector) == ORT_JSON_OBJECT &&
            ort_json_count(vector) == 0) {
            err = ort_fail(b->diag, ORT_EVALIDATE,
                           "vector: must specify vectors to update for point");
        }
        err = err == ORT_OK ? put_vectors(b, vector) : err;
        place_in_list(b, err, "points", i);
    }
    b->op->point_count = count;
    return err;
}

/* Walks several lists of one batch side by side. */
typedef struct {
    ort_json_iter ids, payloads;
    bool has_payloads;
    ort_json vectors;
    ort_json_iter unnamed;
    ort_json_iter *named; /* one for each member of vectors */
    uint32_t named_count;
} columns;

static ort_err
check_lengths(builder *b, ort_json batch, uint32_t count)
{
    const ort_json vectors = ort_json_get(batch, "vectors");
    const ort_json payloads = ort_json_get(batch, "payloads");
    const uint32_t unnamed = ort_json_count(vectors);
    if (ort_json_given(payloads) &&
        (ort_json_type_of(payloads) != ORT_JSON_ARRAY || ort_json_count(payloads) != count)) {
        return ort_fail(b->diag, ORT_EVALIDATE,
                        "batch: number of ids and payloads must be equal (%u != %u)", count,
                        ort_json_count(payloads));
    }
    if (ort_json_type_of(vectors) == ORT_JSON_ARRAY) {
        return unnamed == count
                   ? ORT_OK
                   : ort_fail(b->diag, ORT_EVALIDATE,
                              "batch: number of ids and vectors must be equal (%u != %u)", count,
                              unnamed);
    }
    if (ort_json_type_of(vectors) != ORT_JSON_OBJECT ||
        ort_json_count(vectors) > ORT_VECTORS_PER_POINT_MAX) {
        return ort_fail(b->diag, ORT_EFORMAT,
                        "data did not match any variant of untagged enum BatchVectorStruct");
    }
    for (ort_json_iter it = ort_json_each(vectors); ort_json_step(&it);) {
        if (ort_json_type_of(it.value) != ORT_JSON_ARRAY || ort_json_count(it.value) != count) {
            return ort_fail(b->diag, ORT_EVALIDATE,
                            "batch: number of ids and vectors must be equal (%u != %u)", count,
                            ort_json_count(it.value));
        }
    }
    return ORT_OK;
}

static ort_err
put_named_row(builder *b, columns *c)
{
    uint32_t i = 0;
    ort_err err = ORT_OK;
    ort_buf_put_u16(b->buf, (uint16_t)c->named_count);
    for (ort_json_iter it = ort_json_each(c->vectors); err == ORT_OK && ort_json_step(&it); i++) {
        size_t len;
        const char *name = ort_json_str(it.key, &len);
        if (name == NULL || !ort_json_step(&c->named[i])) {
            return no_memory(b);
        }
        err = put_vector(b, name, len, c->named[i].value);
    }
    return err;
}

static ort_err
put_batch_rows(builder *b, columns *c, uint32_t count)
{
    const bool named = c->named != NULL;
    ort_err err = ORT_OK;
    for (uint32_t i = 0; err == ORT_OK && i < count; i++) {
        if (!ort_json_step(&c->ids) || (c->has_payloads && !ort_json_step(&c->payloads)) ||
            (!named && !ort_json_step(&c->unnamed))) {
            return ort_fail(b->diag, ORT_EFORMAT, "batch: lists of different lengths");
        }
        err = put_id(b, c->ids.value);
        err = err == ORT_OK ? put_payload(b, c->has_payloads ? c->payloads.value : (ort_json){0})
                            : err;
        if (err == ORT_OK) {
            err = named ? put_named_row(b, c) : put_vectors(b, c->unnamed.value);
        }
        place_in_list(b, err, "batch", i);
    }
    return err;
}

static ort_err
put_batch(builder *b, ort_json batch)
{
    const ort_json ids = ort_json_get(batch, "ids"), payloads = ort_json_get(batch, "payloads");
    const uint32_t count = ort_json_count(ids);
    uint32_t i = 0;
    columns c = {.ids = ort_json_each(ids),
                 .payloads = ort_json_each(payloads),
                 .has_payloads = ort_json_given(payloads),
                 .vectors = ort_json_get(batch, "vectors")};
    if (ort_json_type_of(ids) != ORT_JSON_ARRAY) {
        return ort_fail(b->diag, ORT_EFORMAT, "batch: missing field `ids`");
    }
    ort_err err = check_batch_size(b, count);
    err = err == ORT_OK ? check_lengths(b, batch, count) : err;
    if (err != ORT_OK) {
        return err;
    }
    c.unnamed = ort_json_each(c.vectors);
    if (ort_json_type_of(c.vectors) == ORT_JSON_OBJECT) {
        c.named_count = ort_json_count(c.vectors);
        c.named = calloc((size_t)c.named_count + 1, sizeof *c.named);
        if (c.named == NULL) {
            return no_memory(b);
        }
        for (ort_json_iter it = ort_json_each(c.vectors); ort_json_step(&it); i++) {
            c.named[i] = ort_json_each(it.value);
        }
    }
    ort_buf_put_u32(b->buf, count);
    err = put_batch_rows(b, &c, count);
    free(c.named);
    b->op->point_count = count;
    return err;
}

/* --- the rest of a record -----------------------------------------------------------------------
 */

static ort_err
put_ids(builder *b, ort_json points)
{
    const uint32_t count = ort_json_count(points);
    if (ort_json_type_of(points) != ORT_JSON_ARRAY) {
        return ort_fail(b->diag, ORT_EFORMAT, "points: expected a sequence");
    }
    ort_err err = check_batch_size(b, count);
    ort_buf_put_u32(b->buf, count);
    for (ort_json_iter it = ort_json_each(points); err == ORT_OK && ort_json_step(&it);) {
        err = put_id(b, it.value);
    }
    b->op->point_count = count;
    return err;
}

/* Whom the operation is for: points by id go before a filter, as at Qdrant. */
static ort_err
put_target(builder *b, ort_json body)
{
    const ort_json points = ort_json_get(body, "points"), filter = ort_json_get(body, "filter");
    if (ort_json_given(points)) {
        ort_buf_put_u8(b->buf, DP_TARGET_IDS);
        put_text(b, "", 0);
        return put_ids(b, points);
    }
    if (!ort_json_given(filter)) {
        return ort_fail(b->diag, ORT_EBADREQ,
                        "Invalid input: either list of points or filter must be provided");
    }
    ort_buf_put_u8(b->buf, DP_TARGET_FILTER);
    const ort_err err = put_filter(b, filter, "filter");
    ort_buf_put_u32(b->buf, 0);
    return err;
}

static ort_err
put_path(builder *b, ort_json v)
{
    dp_path *path;
    size_t len;
    const char *text = ort_json_str(v, &len);
    if (text == NULL) {
        return ort_fail(b->diag, ORT_EFORMAT, "key: expected a string");
    }
    const ort_err err = dp_path_parse(&path, text, len, b->diag);
    if (err == ORT_OK) {
        put_text(b, text, len);
        dp_path_free(path);
    }
    return err;
}

/* key, payload, names, columns and points of an operation that has none of these. */
static void
put_nothing(builder *b, unsigned fields)
{
    while (fields-- > 0) {
        ort_buf_put_u32(b->buf, 0);
    }
}

static ort_err
put_set_payload(builder *b, ort_json body)
{
    const ort_json key = ort_json_get(body, "key"), payload = ort_json_get(body, "payload");
    ort_err err = put_target(b, body);
    if (err == ORT_OK && ort_json_given(key)) {
        err = put_path(b, key);
    } else {
        put_nothing(b, 1);
    }
    if (err == ORT_OK && !ort_json_given(payload)) {
        err = ort_fail(b->diag, ORT_EFORMAT, "missing field `payload`");
    }
    err = err == ORT_OK ? put_payload(b, payload) : err;
    put_nothing(b, 3);
    return err;
}

static ort_err
put_delete_payload(builder *b, ort_json body)
{
    const ort_json keys = ort_json_get(body, "keys");
    ort_err err = put_target(b, body);
    if (err == ORT_OK && ort_json_type_of(keys) != ORT_JSON_ARRAY) {
        err = ort_fail(b->diag, ORT_EFORMAT, "missing field `keys`");
    }
    put_nothing(b, 2);
    ort_buf_put_u32(b->buf, ort_json_count(keys));
    for (ort_json_iter it = ort_json_each(keys); err == ORT_OK && ort_json_step(&it);) {
        err = put_path(b, it.value);
    }
    put_nothing(b, 2);
    return err;
}

static ort_err
put_delete_vectors(builder *b, ort_json body)
{
    ort_json names = ort_json_get(body, "vector");
    if (!ort_json_given(names)) {
        names = ort_json_get(body, "vectors");
    }
    ort_err err = put_target(b, body);
    if (err == ORT_OK && ort_json_type_of(names) != ORT_JSON_ARRAY) {
        err = ort_fail(b->diag, ORT_EFORMAT, "missing field `vector`");
    }
    if (err == ORT_OK && ort_json_count(names) == 0) {
        err = ort_fail(b->diag, ORT_EVALIDATE, "vector: must have at least 1 name");
    }
    put_nothing(b, 3);
    ort_buf_put_u32(b->buf, ort_json_count(names));
    for (ort_json_iter it = ort_json_each(names); err == ORT_OK && ort_json_step(&it);) {
        size_t len;
        const char *name = ort_json_str(it.value, &len);
        const int column = name != NULL ? dp_schema_find_vector(b->schema, name, len) : -1;
        if (column < 0) {
            return ort_fail(b->diag, ORT_EINVAL, "Not existing vector name error: %.*s",
                            name == NULL ? 0 : (int)(len > 200 ? 200 : len),
                            name == NULL ? "" : name);
        }
        ort_buf_put_u16(b->buf, (uint16_t)column);
    }
    put_nothing(b, 1);
    return err;
}

/* Upserts and vector updates: points, maybe only where a filter holds. */
static ort_err
put_points_operation(builder *b, ort_json body)
{
    const ort_json filter = ort_json_get(body, "update_filter");
    const ort_json batch = ort_json_get(body, "batch");
    ort_err err = ORT_OK;
    ort_buf_put_u8(b->buf, DP_TARGET_POINTS);
    if (ort_json_given(filter)) {
        err = put_filter(b, filter, "update_filter");
    } else {
        put_nothing(b, 1);
    }
    put_nothing(b, 5);
    if (err != ORT_OK) {
        return err;
    }
    if (b->op->kind == DP_OP_UPSERT && ort_json_given(batch)) {
        return put_batch(b, batch);
    }
    if (!ort_json_given(ort_json_get(body, "points"))) {
        return ort_fail(b->diag, ORT_EFORMAT,
                        "data did not match any variant of untagged enum PointInsertOperations");
    }
    return put_point_list(b, ort_json_get(body, "points"), b->op->kind == DP_OP_UPSERT);
}

static ort_err
put_mode(builder *b, ort_json body)
{
    const ort_json mode = ort_json_get(body, "update_mode");
    static const char *const names[] = {"upsert", "insert_only", "update_only"};
    if (b->op->kind != DP_OP_UPSERT || !ort_json_given(mode)) {
        ort_buf_put_u8(b->buf, DP_MODE_UPSERT);
        return ORT_OK;
    }
    for (uint8_t i = 0; i < 3; i++) {
        if (ort_json_str_is(mode, names[i])) {
            ort_buf_put_u8(b->buf, i);
            return ORT_OK;
        }
    }
    return ort_fail(b->diag, ORT_EFORMAT,
                    "update_mode: unknown variant, expected one of `upsert`, `insert_only`, "
                    "`update_only`");
}

static ort_err
put_body(builder *b, ort_json body)
{
    if (ort_json_type_of(body) != ORT_JSON_OBJECT) {
        return ort_fail(b->diag, ORT_EFORMAT, "expected an object");
    }
    ort_buf_put_u8(b->buf, DP_OP_VERSION);
    ort_buf_put_u8(b->buf, (uint8_t)b->op->kind);
    ort_err err = put_mode(b, body);
    if (err != ORT_OK) {
        return err;
    }
    switch (b->op->kind) {
    case DP_OP_UPSERT:
    case DP_OP_UPDATE_VECTORS:
        return put_points_operation(b, body);
    case DP_OP_SET_PAYLOAD:
    case DP_OP_OVERWRITE_PAYLOAD:
        return put_set_payload(b, body);
    case DP_OP_DELETE_PAYLOAD:
        return put_delete_payload(b, body);
    case DP_OP_DELETE_VECTORS:
        return put_delete_vectors(b, body);
    case DP_OP_DELETE:
    case DP_OP_CLEAR_PAYLOAD:
        break;
    }
    err = put_target(b, body);
    put_nothing(b, 5);
    return err;
}

ort_err
dp_op_parse(dp_op **out, dp_op_kind kind, const dp_schema *schema, ort_json body, ort_diag *diag)
{
    *out = NULL;
    dp_op *op = calloc(1, sizeof *op);
    if (op == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    op->kind = kind;
    builder b = {.op = op, .buf = &op->record, .schema = schema, .diag = diag};
    ort_err err = put_body(&b, body);
    free(b.scratch);
    if (err == ORT_OK && ort_buf_check(&op->record) != ORT_OK) {
        err = ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    if (err != ORT_OK) {
        dp_op_free(op);
        return err;
    }
    *out = op;
    return ORT_OK;
}

void
dp_op_free(dp_op *op)
{
    if (op != NULL) {
        ort_buf_fini(&op->record);
        free(op);
    }
}

dp_op_kind
dp_op_kind_of(const dp_op *op)
{
    return op->kind;
}

uint32_t
dp_op_point_count(const dp_op *op)
{
    return op->point_count;
}

/* --- batches of operations ----------------------------------------------------------------------
 */

static const struct {
    const char *name;
    dp_op_kind kind;
} operations[] = {
    {"upsert", DP_OP_UPSERT},
    {"delete", DP_OP_DELETE},
    {"set_payload", DP_OP_SET_PAYLOAD},
    {"overwrite_payload", DP_OP_OVERWRITE_PAYLOAD},
    {"delete_payload", DP_OP_DELETE_PAYLOAD},
    {"clear_payload", DP_OP_CLEAR_PAYLOAD},
    {"update_vectors", DP_OP_UPDATE_VECTORS},
    {"delete_vectors", DP_OP_DELETE_VECTORS},
};

static ort_err
parse_operation(dp_op **out, const dp_schema *schema, ort_json v, ort_diag *diag)
{
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        const ort_json body = ort_json_get(v, operations[i].name);
        if (ort_json_given(body)) {
            return dp_op_parse(out, operations[i].kind, schema, body, diag);
        }
    }
    *out = NULL;
    return ort_fail(diag, ORT_EFORMAT,
                    "data did not match any variant of untagged enum UpdateOperation");
}

ort_err
dp_op_parse_batch(dp_op ***out, size_t *count_out, const dp_schema *schema, ort_json body,
                  ort_diag *diag)
{
    const ort_json list = ort_json_get(body, "operations");
    ort_err err = ORT_OK;
    size_t n = 0;
    *out = NULL;
    *count_out = 0;
    if (ort_json_type_of(list) != ORT_JSON_ARRAY) {
        return ort_fail(diag, ORT_EFORMAT, "missing field `operations`");
    }
    if (ort_json_count(list) > ORT_BATCH_POINTS_MAX) {
        return ort_fail(diag, ORT_EVALIDATE, "operations: more than %u", ORT_BATCH_POINTS_MAX);
    }
    dp_op **ops = calloc((size_t)ort_json_count(list) + 1, sizeof(dp_op *));
    if (ops == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    for (ort_json_iter it = ort_json_each(list); err == ORT_OK && ort_json_step(&it);) {
        err = parse_operation(&ops[n], schema, it.value, diag);
        n += err == ORT_OK;
    }
    if (err != ORT_OK) {
        while (n > 0) {
            dp_op_free(ops[--n]);
        }
        free(ops);
        return err;
    }
    *out = ops;
    *count_out = n;
    return ORT_OK;
}
