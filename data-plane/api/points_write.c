/* Writes: the body becomes an operation, the operation a record, the record an answer. */
#include <stdlib.h>

#include "api/api_internal.h"

void
dp_api__write_update_result(ort_jw *w, uint64_t operation_id, bool wait)
{
    ort_jw_object(w);
    ort_jw_key(w, "operation_id");
    ort_jw_u64(w, operation_id);
    ort_jw_key(w, "status");
    ort_jw_str(w, wait ? "completed" : "acknowledged");
    ort_jw_object_end(w);
}

/* Who does not wait does not hear what only applying could tell: a point that is not there. All
 * else (shape, ids, dimensions, room) is known before and always told. */
static ort_err
unheard(ort_err err, bool wait)
{
    return err == ORT_ENOTFOUND && !wait ? ORT_OK : err;
}

static ort_err
write_points(dp_call *call, dp_op_kind kind)
{
    ort_json body;
    bool wait = false;
    dp_op *op = NULL;
    dp_op_result result = {0};

    ort_err err = dp_call_write_params(call, &wait);
    if (err == ORT_OK) {
        err = dp_call_body(call, false, &body);
    }
    if (err == ORT_OK) {
        err = dp_call_use_collection(call);
    }
    if (err == ORT_OK) {
        dp_schema *schema = dp_collection_schema(call->collection);
        err = dp_op_parse(&op, kind, schema, body, &call->diag);
        dp_schema_unref(schema);
    }
    if (err == ORT_OK) {
        /* The log's sync is shared by all who wait for it; a slot held here would let only as many
         * share one as there are processors. */
        dp_call_slot_leave(call);
        err = unheard(dp_collection_apply(call->collection, op, ort_http_req_deadline_ns(call->req),
                                          &result, &call->diag),
                      wait);
    }
    dp_op_free(op);
    dp_api__write_update_result(&call->w, result.operation_id, wait);
    return err;
}

ort_err
dp_api__points_upsert(dp_call *call)
{
    return write_points(call, DP_OP_UPSERT);
}

ort_err
dp_api__points_delete(dp_call *call)
{
    return write_points(call, DP_OP_DELETE);
}

ort_err
dp_api__payload_set(dp_call *call)
{
    return write_points(call, DP_OP_SET_PAYLOAD);
}

ort_err
dp_api__payload_overwrite(dp_call *call)
{
    return write_points(call, DP_OP_OVERWRITE_PAYLOAD);
}

ort_err
dp_api__payload_delete(dp_call *call)
{
    return write_points(call, DP_OP_DELETE_PAYLOAD);
}

ort_err
dp_api__payload_clear(dp_call *call)
{
    return write_points(call, DP_OP_CLEAR_PAYLOAD);
}

ort_err
dp_api__vectors_update(dp_call *call)
{
    return write_points(call, DP_OP_UPDATE_VECTORS);
}

ort_err
dp_api__vectors_delete(dp_call *call)
{
    return write_points(call, DP_OP_DELETE_VECTORS);
}

/* One after the other; the first that fails ends it. */
static ort_err
apply_each(dp_call *call, dp_op **ops, size_t count, bool wait)
{
    ort_err err = ORT_OK;

    ort_jw_array(&call->w);
    for (size_t i = 0; i < count && err == ORT_OK; i++) {
        dp_op_result result = {0};
        err =
            unheard(dp_collection_apply(call->collection, ops[i],
                                        ort_http_req_deadline_ns(call->req), &result, &call->diag),
                    wait);
        dp_api__write_update_result(&call->w, result.operation_id, wait);
    }
    ort_jw_array_end(&call->w);
    return err;
}

ort_err
dp_api__points_batch(dp_call *call)
{
    ort_json body;
    bool wait = false;
    dp_op **ops = NULL;
    size_t count = 0;

    ort_err err = dp_call_write_params(call, &wait);
    if (err == ORT_OK) {
        err = dp_call_body(call, false, &body);
    }
    if (err == ORT_OK) {
        err = dp_call_use_collection(call);
    }
    if (err == ORT_OK) {
        dp_schema *schema = dp_collection_schema(call->collection);
        err = dp_op_parse_batch(&ops, &count, schema, body, &call->diag);
        dp_schema_unref(schema);
    }
    if (err == ORT_OK) {
        dp_call_slot_leave(call);
        err = apply_each(call, ops, count, wait);
    }
    for (size_t i = 0; i < count; i++) {
        dp_op_free(ops[i]);
    }
    free(ops);
    return err;
}
