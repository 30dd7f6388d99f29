/* Collections: list, create, get, patch, delete, exists. */
#include <string.h>

#include "api/api_internal.h"

static bool
list_one(void *ctx, const char *name, const char *of)
{
    dp_call *call = ctx;
    ort_jw *w = &call->w;
    (void)of;

    if (dp_gate_covers(&call->pass, name, strlen(name))) {
        ort_jw_object(w);
        ort_jw_key(w, "name");
        ort_jw_str(w, name);
        ort_jw_object_end(w);
    }
    return true;
}

ort_err
dp_api__collections_list(dp_call *call)
{
    ort_jw_object(&call->w);
    ort_jw_key(&call->w, "collections");
    ort_jw_array(&call->w);
    const ort_err err = dp_tenant_list_collections(call->pass.tenant, list_one, call);
    ort_jw_array_end(&call->w);
    ort_jw_object_end(&call->w);
    return err;
}

ort_err
dp_api__collection_create(dp_call *call)
{
    const char *name = ort_http_req_param(call->req, "collection");
    ort_json body;
    dp_schema *schema = NULL;

    ort_err err = dp_call_read_params(call); /* timeout */
    if (err == ORT_OK) {
        err = dp_call_body(call, true, &body);
    }
    if (err == ORT_OK) {
        call->place = DP_PLACE_PATH;
        err = dp_collection_name_check(name, strlen(name), &call->diag);
    }
    if (err == ORT_OK) {
        call->place = DP_PLACE_BODY;
        err = dp_schema_parse(&schema, body, &call->diag);
    }
    if (err == ORT_OK) {
        if (call->pass.entry->limits.max_collections == 0) {
            err = ort_fail(&call->diag, ORT_EQUOTA, "the tenant's quota of collections is 0");
        } else {
            dp_call_slot_leave(call); /* what follows waits for the disk */
            err = dp_tenant_create_collection(call->pass.tenant, name, strlen(name), schema,
                                              &call->diag);
        }
    }
    dp_schema_unref(schema);
    ort_jw_bool(&call->w, true);
    return err;
}

static void
write_status(ort_jw *w, const dp_collection_info *info)
{
    ort_jw_key(w, "status");
    ort_jw_str(w, info->error != NULL ? "red" : info->green ? "green" : "yellow");
    ort_jw_key(w, "optimizer_status");
    if (info->error == NULL) {
        ort_jw_str(w, "ok");
    } else {
        ort_jw_object(w);
        ort_jw_key(w, "error");
        ort_jw_str(w, info->error);
        ort_jw_object_end(w);
    }
}

ort_err
dp_api__collection_get(dp_call *call)
{
    ort_jw *w = &call->w;
    dp_collection_info info;

    const ort_err err = dp_call_use_collection(call);
    if (err != ORT_OK) {
        return err;
    }
    dp_schema *schema = dp_collection_schema(call->collection);
    dp_collection_get_info(call->collection, &info);
    ort_jw_object(w);
    write_status(w, &info);
    ort_jw_key(w, "indexed_vectors_count");
    ort_jw_u64(w, info.indexed_vectors);
    ort_jw_key(w, "points_count");
    ort_jw_u64(w, info.points);
    ort_jw_key(w, "segments_count");
    ort_jw_u64(w, info.segments);
    ort_jw_key(w, "config");
    dp_schema_write_config(schema, w);
    dp_api__write_payload_schema(call, schema, &info);
    ort_jw_key(w, "update_queue");
    ort_jw_object(w);
    ort_jw_key(w, "length");
    ort_jw_u64(w, info.update_queue);
    ort_jw_object_end(w);
    dp_schema_write_warnings(schema, w);
    ort_jw_object_end(w);
    dp_schema_unref(schema);
    return ORT_OK;
}

ort_err
dp_api__collection_patch(dp_call *call)
{
    const char *name = ort_http_req_param(call->req, "collection");
    ort_json body;

    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK) {
        err = dp_call_body(call, true, &body);
    }
    if (err == ORT_OK) {
        err = dp_tenant_patch_collection(call->pass.tenant, name, strlen(name), body, &call->diag);
    }
    ort_jw_bool(&call->w, true);
    return err;
}

ort_err
dp_api__collection_delete(dp_call *call)
{
    const char *name = ort_http_req_param(call->req, "collection");
    bool existed = false;

    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK) {
        dp_call_slot_leave(call);
        err =
            dp_tenant_drop_collection(call->pass.tenant, name, strlen(name), &existed, &call->diag);
    }
    ort_jw_bool(&call->w, existed);
    return err;
}

ort_err
dp_api__collection_exists(dp_call *call)
{
    const char *name = ort_http_req_param(call->req, "collection");

    ort_jw_object(&call->w);
    ort_jw_key(&call->w, "exists");
    ort_jw_bool(&call->w, dp_tenant_has_collection(call->pass.tenant, name, strlen(name)));
    ort_jw_object_end(&call->w);
    return ORT_OK;
}
