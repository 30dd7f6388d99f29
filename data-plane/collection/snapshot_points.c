/* A block of points: written from slots, checked as if it came from an enemy. */
#include <math.h>

#include "collection/snapshot_internal.h"

/* The head of an upsert without filter, ids, key, payload, names and columns: op_internal.h. */
static const unsigned char upsert_head[] = {DP_OP_VERSION, DP_OP_UPSERT, DP_MODE_UPSERT,
                                            DP_TARGET_POINTS};
#define EMPTY_MEMBERS 6u
#define OP_AT 8u /* of the operation in the block */
#define COUNT_AT (OP_AT + sizeof upsert_head + 4u * EMPTY_MEMBERS)

/* --- writing ---------------------------------------------------------------------------------- */

void
dp_snapshot__points_begin(ort_buf *plain)
{
    ort_buf_clear(plain);
    ort_buf_put_u64(plain, 0); /* sizes, known at the end */
    ort_buf_put(plain, upsert_head, sizeof upsert_head);
    for (uint32_t i = 0; i < EMPTY_MEMBERS + 1; i++) {
        ort_buf_put_u32(plain, 0);
    }
}

static void
put_vector(ort_buf *plain, uint32_t column, const dp_vector_schema *v, const void *data, size_t len)
{
    const size_t row = v->sparse ? 8 : (size_t)v->size * dp_elem_bytes(v->elem);
    const dp_vector_kind kind = v->sparse  ? DP_VECTOR_SPARSE
                                : v->multi ? DP_VECTOR_MULTI
                                           : DP_VECTOR_DENSE;
    ort_buf_put_u16(plain, (uint16_t)column);
    ort_buf_put_u8(plain, (uint8_t)kind);
    ort_buf_put_u8(plain, (uint8_t)(v->sparse ? DP_ELEM_F32 : v->elem));
    ort_buf_put_u32(plain, v->sparse ? (uint32_t)(len / row) : v->size);
    ort_buf_put_u32(plain, v->sparse ? 1 : (uint32_t)(len / row));
    while (!plain->failed && plain->len % 4 != 0) {
        ort_buf_put_u8(plain, 0);
    }
    ort_buf_put(plain, data, len);
}

ort_err
dp_snapshot__points_put(ort_buf *plain, ort_buf *versions, dp_shard *s, dp_reader *reader,
                        uint32_t slot, ort_diag *diag)
{
    unsigned char id[ORT_POINT_ID_BYTES];
    const char *payload;
    size_t len;
    uint16_t count = 0;
    ort_err err = dp_points_payload(reader, slot, &payload, &len, diag);
    if (err != ORT_OK) {
        return err;
    }
    ort_point_id_encode(dp_points_id(reader, slot), id);
    ort_buf_put(plain, id, sizeof id);
    ort_buf_put_u32(plain, (uint32_t)len);
    ort_buf_put(plain, payload, len);
    const size_t count_at = plain->len;
    ort_buf_put_u16(plain, 0);
    for (uint32_t c = 0; err == ORT_OK && c < s->derived_count; c++) {
        const dp_vector_schema *v = dp_schema_peek_vector(s->schema, c);
        const void *data;
        if (!dp_points_has(reader, c, slot)) {
            continue;
        }
        if (v->sparse || v->multi) {
            err = dp_points_bytes(reader, c, slot, &data, &len, diag);
        } else {
            err = dp_points_check_row(reader, c, slot, diag);
            data = dp_points_row(reader, c, slot);
            len = (size_t)v->size * dp_elem_bytes(v->elem);
        }
        if (err == ORT_OK) {
            put_vector(plain, c, v, data, len);
            count++;
        }
    }
    if (!plain->failed) {
        ort_put_u16(plain->data + count_at, count);
    }
    ort_buf_put_u64(versions, dp_points_version(reader, slot));
    return err;
}

void
dp_snapshot__points_end(ort_buf *plain, const ort_buf *versions, uint32_t count)
{
    if (!plain->failed) {
        ort_put_u32(plain->data, (uint32_t)(plain->len - OP_AT));
        ort_put_u32(plain->data + 4, count);
        ort_put_u32(plain->data + COUNT_AT, count);
    }
    ort_buf_put(plain, versions->data, versions->len);
    plain->failed = plain->failed || versions->failed;
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool
floats_are_finite(const unsigned char *data, size_t count, size_t stride)
{
    for (size_t i = 0; i < count; i++) {
        /* All ones in the exponent: infinite, or not a number. */
        if ((ort_get_u32(data + i * stride) & 0x7f800000u) == 0x7f800000u) {
            return false;
        }
    }
    return true;
}

static bool
halves_are_finite(const unsigned char *data, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if ((ort_get_u16(data + i * 2) & 0x7c00u) == 0x7c00u) {
            return false;
        }
    }
    return true;
}

static bool
sparse_is_sound(const dp_op_vector *v)
{
    const size_t n = v->count;
    for (size_t i = 1; i < n; i++) {
        if (ort_get_u32(v->data + i * 4) <= ort_get_u32(v->data + (i - 1) * 4)) {
            return false;
        }
    }
    return n <= ORT_SPARSE_NNZ_MAX && floats_are_finite(v->data + n * 4, n, 4);
}

static bool
vector_is_sound(const dp_op_vector *v)
{
    if (v->kind == DP_VECTOR_SPARSE) {
        return sparse_is_sound(v);
    }
    const size_t n = (size_t)v->count * v->rows;
    return v->elem == DP_ELEM_F32   ? floats_are_finite(v->data, n, 4)
           : v->elem == DP_ELEM_F16 ? halves_are_finite(v->data, n)
                                    : true;
}

static ort_err
check_payload(const dp_op_text *payload, bool *sound)
{
    ort_json_doc *doc = NULL;
    *sound = payload->len == 0;
    if (*sound) {
        return ORT_OK;
    }
    const ort_err err =
        payload->len <= DP_PAYLOAD_BYTES_MAX
            ? ort_json_parse(&doc, payload->text, payload->len, (ort_json_limits){0}, NULL)
            : ORT_ETOOBIG;
    *sound = err == ORT_OK && ort_json_type_of(ort_json_root(doc)) == ORT_JSON_OBJECT;
    ort_json_free(doc);
    return err == ORT_ENOMEM ? err : ORT_OK;
}

static ort_err
check_point(const dp_op_record *record, const dp_op_point *point, ort_diag *diag)
{
    ort_cursor at = point->vectors;
    dp_op_vector v;
    int last = -1;
    bool sound;
    char id[ORT_POINT_ID_TEXT_BYTES];
    if (check_payload(&point->payload, &sound) != ORT_OK) {
        return ort_fail(diag, ORT_ENOMEM, "snapshot");
    }
    const char *wrong = sound ? NULL : "its payload is no JSON object";
    for (uint32_t n = point->vector_count;
         wrong == NULL && dp_op__next_vector(record, &at, &n, &v);) {
        if ((int)v.column <= last) {
            wrong = "a vector stands twice";
        } else if (!vector_is_sound(&v)) {
            wrong = "a vector holds what is no finite number, or indices out of order";
        }
        last = (int)v.column;
    }
    if (wrong == NULL) {
        return ORT_OK;
    }
    ort_point_id_format(point->id, id);
    return dp_snapshot__bad(diag, "point %s: %s", id, wrong);
}

ort_err
dp_snapshot__points_open(dp_snapshot_points *out, const ort_buf *plain, const dp_schema *schema,
                         uint64_t lsn_max, ort_diag *diag)
{
    ort_cursor c = ort_cursor_of(plain->data, plain->len);
    dp_op_point point;
    const uint32_t op_bytes = ort_cursor_u32(&c);
    out->count = ort_cursor_u32(&c);
    const void *op = ort_cursor_take(&c, op_bytes);
    out->versions = ort_cursor_take(&c, (size_t)out->count * 8);
    if (c.failed || ort_cursor_left(&c) != 0 || out->count == 0 ||
        dp_op__open(&out->record, op, op_bytes, NULL) != ORT_OK) {
        return dp_snapshot__bad(diag, "a block of points is not as it is written");
    }
    const dp_op_record *r = &out->record;
    if (op_bytes < COUNT_AT - OP_AT || memcmp(op, upsert_head, sizeof upsert_head) != 0 ||
        r->filter.len != 0 || r->id_count != 0 || r->key.len != 0 || r->payload.len != 0 ||
        r->name_count != 0 || r->column_count != 0 || r->point_count != out->count) {
        return dp_snapshot__bad(diag, "a block of points is another operation");
    }
    if (!dp_op__fits(r, schema)) {
        return dp_snapshot__bad(diag, "a point has vectors that the collection's schema has not");
    }
    for (uint32_t i = 0; i < out->count; i++) {
        if (ort_get_u64(out->versions + (size_t)i * 8) > lsn_max) {
            return dp_snapshot__bad(diag, "a point's version is behind the snapshot's LSN");
        }
    }
    ort_err err = ORT_OK;
    ort_cursor at = r->points;
    for (uint32_t left = r->point_count;
         err == ORT_OK && dp_op__next_point(r, &at, &left, &point);) {
        err = check_point(r, &point, diag);
    }
    return err;
}
