/* Opening records: from a request of a moment ago, from the log, from another node. All of it is
 * checked before anything is believed. */
#include "collection/op_internal.h"

static dp_op_text
read_text(ort_cursor *c)
{
    dp_op_text t = {.len = ort_cursor_u32(c)};
    t.text = ort_cursor_take(c, t.len);
    return t;
}

size_t
dp_op__vector_bytes(dp_vector_kind kind, dp_elem elem, uint32_t count, uint32_t rows)
{
    return kind == DP_VECTOR_SPARSE ? (size_t)count * 8
                                    : (size_t)count * rows * dp_elem_bytes(elem);
}

bool
dp_op__next_vector(const dp_op_record *record, ort_cursor *at, uint32_t *left, dp_op_vector *out)
{
    if (*left == 0) {
        return false;
    }
    --*left;
    out->column = ort_cursor_u16(at);
    out->kind = ort_cursor_u8(at);
    out->elem = ort_cursor_u8(at);
    out->count = ort_cursor_u32(at);
    out->rows = ort_cursor_u32(at);
    ort_cursor_take(at, (0 - (size_t)(at->at - record->base)) & 3);
    const bool sane = (out->kind == DP_VECTOR_DENSE && out->rows == 1) ||
                      (out->kind == DP_VECTOR_MULTI && out->rows >= 1) ||
                      (out->kind == DP_VECTOR_SPARSE && out->rows == 1);
    if (!sane || out->elem > DP_ELEM_U8 || out->rows > DP_MULTI_FLOATS_MAX ||
        out->count > DP_MULTI_FLOATS_MAX ||
        (uint64_t)out->rows * out->count > DP_MULTI_FLOATS_MAX) {
        at->failed = true;
        return false;
    }
    out->bytes = dp_op__vector_bytes(out->kind, out->elem, out->count, out->rows);
    out->data = ort_cursor_take(at, out->bytes);
    return !at->failed;
}

/* The vectors of a point are skipped by walking them, so that the cursor stands at the next one. */
bool
dp_op__next_point(const dp_op_record *record, ort_cursor *at, uint32_t *left, dp_op_point *out)
{
    dp_op_vector vector;
    if (*left == 0) {
        return false;
    }
    --*left;
    const unsigned char *id = ort_cursor_take(at, ORT_POINT_ID_BYTES);
    if (id == NULL || ort_point_id_decode(id, &out->id) != ORT_OK) {
        at->failed = true;
        return false;
    }
    out->payload = read_text(at);
    out->vector_count = ort_cursor_u16(at);
    out->vectors = *at;
    for (uint32_t n = out->vector_count; dp_op__next_vector(record, at, &n, &vector);) {
    }
    return !at->failed;
}

ort_point_id
dp_op__id(const dp_op_record *record, uint32_t i)
{
    ort_point_id id = {0};
    const ort_err err = ort_point_id_decode(record->ids + (size_t)i * ORT_POINT_ID_BYTES, &id);
    (void)err; /* all were read once by dp_op__open() */
    return id;
}

static bool
ids_are_sound(const dp_op_record *record)
{
    ort_point_id id;
    for (uint32_t i = 0; i < record->id_count; i++) {
        if (ort_point_id_decode(record->ids + (size_t)i * ORT_POINT_ID_BYTES, &id) != ORT_OK) {
            return false;
        }
    }
    return true;
}

static void
read_head(dp_op_record *out, ort_cursor *c)
{
    out->kind = ort_cursor_u8(c);
    out->mode = ort_cursor_u8(c);
    out->target = ort_cursor_u8(c);
    out->filter = read_text(c);
    out->id_count = ort_cursor_u32(c);
    out->ids = ort_cursor_take(c, (size_t)out->id_count * ORT_POINT_ID_BYTES);
    out->key = read_text(c);
    out->payload = read_text(c);
    out->name_count = ort_cursor_u32(c);
    out->names = *c;
    for (uint32_t i = 0; i < out->name_count && !c->failed; i++) {
        read_text(c);
    }
    out->column_count = ort_cursor_u32(c);
    out->columns = ort_cursor_take(c, (size_t)out->column_count * 2);
    out->point_count = ort_cursor_u32(c);
    out->points = *c;
}

ort_err
dp_op__open(dp_op_record *out, const void *bytes, size_t len, ort_diag *diag)
{
    ort_cursor c = ort_cursor_of(bytes, len);
    dp_op_point point;
    *out = (dp_op_record){.base = bytes, .len = len};
    const uint8_t version = ort_cursor_u8(&c);
    if (version > DP_OP_VERSION) {
        return ort_fail(diag, ORT_EVERSION, "an operation of version %u, this program knows %u",
                        version, DP_OP_VERSION);
    }
    read_head(out, &c);
    for (uint32_t left = out->point_count; dp_op__next_point(out, &c, &left, &point);) {
    }
    if (version == 0 || c.failed || ort_cursor_left(&c) != 0 || out->kind < DP_OP_UPSERT ||
        out->kind > DP_OP_DELETE_VECTORS || out->mode > DP_MODE_UPDATE_ONLY ||
        out->target > DP_TARGET_FILTER || !ids_are_sound(out)) {
        return ort_fail(diag, ORT_ECORRUPT, "a log record that is no operation");
    }
    return ORT_OK;
}

static bool
vector_fits(const dp_op_vector *v, const dp_schema *schema)
{
    if (v->column >= dp_schema_vector_count(schema)) {
        return false;
    }
    const dp_vector_schema *s = dp_schema_peek_vector(schema, v->column);
    if (s->sparse) {
        return v->kind == DP_VECTOR_SPARSE;
    }
    return v->kind == (s->multi ? DP_VECTOR_MULTI : DP_VECTOR_DENSE) && v->elem == s->elem &&
           v->count == s->size;
}

bool
dp_op__fits(const dp_op_record *record, const dp_schema *schema)
{
    ort_cursor c = record->points;
    dp_op_point point;
    dp_op_vector vector;
    for (uint32_t i = 0; i < record->column_count; i++) {
        if (ort_get_u16(record->columns + (size_t)i * 2) >= dp_schema_vector_count(schema)) {
            return false;
        }
    }
    for (uint32_t left = record->point_count; dp_op__next_point(record, &c, &left, &point);) {
        ort_cursor at = point.vectors;
        for (uint32_t n = point.vector_count; dp_op__next_vector(record, &at, &n, &vector);) {
            if (!vector_fits(&vector, schema)) {
                return false;
            }
        }
    }
    return true;
}
