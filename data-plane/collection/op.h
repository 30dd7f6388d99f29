/* data-plane/collection/op.h: one change to a collection: read from a request, checked against the
 * schema, and from then on the bytes of a log record.
 *
 * There is one form of an operation: the record. Reading a request writes the record straight away
 * (floats go from JSON text into their place in it), and applying reads the record, so that what is
 * applied at once, what a restart replays and what a replica receives are the same bytes through
 * the same code. */
#ifndef DP_OP_H
#define DP_OP_H
#include "base/buf.h"
#include "base/json_read.h"
#include "base/point_id.h"
#include "collection/schema.h"

typedef enum {
    DP_OP_UPSERT = 1,            /* PUT points */
    DP_OP_DELETE = 2,            /* POST points/delete */
    DP_OP_SET_PAYLOAD = 3,       /* POST points/payload: merge */
    DP_OP_OVERWRITE_PAYLOAD = 4, /* PUT points/payload */
    DP_OP_DELETE_PAYLOAD = 5,    /* POST points/payload/delete */
    DP_OP_CLEAR_PAYLOAD = 6,     /* POST points/payload/clear */
    DP_OP_UPDATE_VECTORS = 7,    /* PUT points/vectors */
    DP_OP_DELETE_VECTORS = 8,    /* POST points/vectors/delete */
} dp_op_kind;

/* A checked operation that is not applied yet. The caller's until dp_op_free(). */
typedef struct dp_op dp_op;

/* Reads the body of the request of that kind, whole, and checks all of it: ids, dimensions, names,
 * finite numbers, filters, paths. Nothing is half accepted. Unknown members are ignored; `vectors`
 * is read as `vector`; nulls count as absent.
 *
 * ORT_EFORMAT    what does not deserialize: "Format error in JSON body" (400)
 * ORT_EVALIDATE  what breaks a bound: "Validation error in JSON body" (422): diag "field: text"
 * ORT_EINVAL     "Wrong input" (400): "Vector dimension error: expected dim: 4, got 3", "Not
 * existing vector name error: x", a bad point id
 * ORT_EBADREQ    neither or both of points and filter; a model that is not served
 * ORT_ENOMEM     as for the others, *out is NULL */
ORT_NODISCARD ort_err dp_op_parse(dp_op **out, dp_op_kind kind, const dp_schema *schema,
                                  ort_json body, ort_diag *diag);
void dp_op_free(dp_op *op);

/* The body of POST points/batch: {"operations":[{"upsert":{..}}, ..]}. Gives an array of *count_out
 * operations in their order, the caller's: each with dp_op_free(), the array with free().
 * Errors as above; then nothing is handed out. */
ORT_NODISCARD ort_err dp_op_parse_batch(dp_op ***out, size_t *count_out, const dp_schema *schema,
                                        ort_json body, ort_diag *diag);

dp_op_kind dp_op_kind_of(const dp_op *op);

/* Points it names; 0 for one that goes by a filter. For metering and cost. */
uint32_t dp_op_point_count(const dp_op *op);

/* Appends what a log record says to out, as members of a JSON object: ',"op":"upsert","points":2,
 * "ids":[1,2]'; of bytes that are no operation: ',"error":".."'. For people: payloads and vectors
 * are left out, ids end after the first eight.
 *
 * ORT_ECORRUPT, ORT_EVERSION: not an operation of ours. ORT_ENOMEM: nothing was appended; whether
 * all that was found room in out, out itself tells. */
ORT_NODISCARD ort_err dp_op_describe(const void *bytes, size_t len, ort_buf *out);

/* A point id in JSON: a number or a string holding a UUID. ORT_EFORMAT in Qdrant's words. */
ORT_NODISCARD ort_err dp_point_id_read(ort_json v, ort_point_id *out, ort_diag *diag);

/* Writes an id as JSON: a number, or a string with the hyphenated UUID. */
void dp_point_id_write(ort_jw *w, ort_point_id id);
#endif /* DP_OP_H */
