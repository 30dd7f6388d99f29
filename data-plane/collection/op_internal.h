/* data-plane/collection/op_internal.h: the bytes of an operation, written by op_parse.c and read by
 * op_read.c.
 *
 *   size  field            all integers little-endian
 *      1  version          1
 *      1  kind             dp_op_kind
 *      1  mode             of an upsert: 0 upsert, 1 insert only, 2 update only
 *      1  target           0 none (the points below), 1 ids, 2 filter
 *    4+n  filter           compact JSON: the target, or an upsert's update_filter; 0 bytes = none
 *   4+17n ids              of the target
 *    4+n  key              path that a payload is set at; 0 bytes = none
 *    4+n  payload          compact JSON object; 0 bytes = none
 *      4  names            count; then each 4+n: paths to delete from payloads
 *    4+2n columns          vectors to delete
 *      4  points           count; then each:
 *            17  id
 *           4+n  payload   0 bytes = none
 *             2  vectors   count; then each:
 *                   2  column
 *                   1  kind   dp_vector_kind
 *                   1  elem   dp_elem
 *                   4  count  components of a row, or sparse entries
 *                   4  rows   1 but for multivectors
 *                 0-3  zeros  up to a multiple of 4 from the start of the record
 *                      data   rows as they are stored (unit length for Cosine); sparse: u32
 * indices, ascending, then f32 values
 *
 * Vectors are made ready before they are logged, so that a replay copies bytes and computes
 * nothing. */
#ifndef DP_OP_INTERNAL_H
#define DP_OP_INTERNAL_H
#include "base/buf.h"
#include "collection/op.h"
#include "collection/query.h"

#define DP_OP_VERSION 1u
#define DP_MULTI_FLOATS_MAX (1u << 20) /* of one multivector, as at Qdrant */
#define DP_PAYLOAD_BYTES_MAX (16u << 20)

typedef enum { DP_MODE_UPSERT, DP_MODE_INSERT_ONLY, DP_MODE_UPDATE_ONLY } dp_upsert_mode;
typedef enum { DP_TARGET_POINTS, DP_TARGET_IDS, DP_TARGET_FILTER } dp_op_target;

struct dp_op {
    dp_op_kind kind;
    uint32_t point_count;
    ort_buf record;
};

typedef struct {
    const char *text;
    uint32_t len;
} dp_op_text;

/* A record, opened. Everything is borrowed from its bytes. */
typedef struct {
    const unsigned char *base;
    size_t len;
    dp_op_kind kind;
    dp_upsert_mode mode;
    dp_op_target target;
    dp_op_text filter, key, payload;
    const unsigned char *ids; /* 17 bytes each */
    uint32_t id_count;
    uint32_t name_count;
    ort_cursor names;
    const unsigned char *columns; /* 2 bytes each */
    uint32_t column_count;
    uint32_t point_count;
    ort_cursor points;
} dp_op_record;

typedef struct {
    ort_point_id id;
    dp_op_text payload;
    uint32_t vector_count;
    ort_cursor vectors;
} dp_op_point;

typedef struct {
    uint32_t column;
    dp_vector_kind kind;
    dp_elem elem;
    uint32_t count, rows;
    const unsigned char *data;
    size_t bytes;
} dp_op_vector;

/* Opens a record and walks all of it once, so that the walks below cannot fail. Any bytes will do.
 * ORT_ECORRUPT: not a record. ORT_EVERSION: of a newer program. */
ort_err dp_op__open(dp_op_record *out, const void *bytes, size_t len, ort_diag *diag);

/* Whether every vector fits its column of this schema. */
bool dp_op__fits(const dp_op_record *record, const dp_schema *schema);

/* Steps of a walk over an opened record; false at the end. */
bool dp_op__next_point(const dp_op_record *record, ort_cursor *at, uint32_t *left,
                       dp_op_point *out);
bool dp_op__next_vector(const dp_op_record *record, ort_cursor *at, uint32_t *left,
                        dp_op_vector *out);
ort_point_id dp_op__id(const dp_op_record *record, uint32_t i);

/* Bytes of a row or of sparse entries as they are stored. */
size_t dp_op__vector_bytes(dp_vector_kind kind, dp_elem elem, uint32_t count, uint32_t rows);
#endif /* DP_OP_INTERNAL_H */
