/* Payload indexes: declared, shown, taken away. Filters are evaluated right with and without one.
 */
#include <stdio.h>
#include <string.h>

#include "api/api_internal.h"

static void
write_result(dp_call *call, bool wait)
{
    dp_collection_info info;
    dp_collection_get_info(call->collection, &info);
    dp_api__write_update_result(&call->w, info.applied_lsn, wait);
}

ort_err
dp_api__write_newest(dp_call *call, bool wait)
{
    const ort_err err = dp_call_use_collection(call);
    if (err == ORT_OK) {
        write_result(call, wait);
    }
    return err;
}

/* The collection is opened before: one that cannot be is refused, and nothing has changed. */
static ort_err
set_field(dp_call *call, const char *field, size_t len, ort_json spec, bool wait)
{
    const char *name = ort_http_req_param(call->req, "collection");
    ort_err err = dp_call_use_collection(call);
    if (err == ORT_OK) {
        err = dp_tenant_set_field(call->pass.tenant, name, strlen(name), field, len, spec,
                                  &call->diag);
    }
    if (err == ORT_OK) {
        write_result(call, wait);
    }
    return err;
}

ort_err
dp_api__index_create(dp_call *call)
{
    ort_json body;
    bool wait = false;

    ort_err err = dp_call_write_params(call, &wait);
    if (err == ORT_OK) {
        err = dp_call_body(call, false, &body);
    }
    if (err != ORT_OK) {
        return err;
    }
    const ort_json field = ort_json_get(body, "field_name");
    const ort_json spec = ort_json_get(body, "field_schema");
    size_t len = 0;
    const char *text = ort_json_str(field, &len);
    if (!ort_json_given(field)) {
        return dp_call_missing(call, "field_name");
    }
    if (ort_json_type_of(field) != ORT_JSON_STRING) {
        return dp_call_bad_type(call, "field_name", field, "a string");
    }
    if (text == NULL) {
        return ORT_ENOMEM;
    }
    if (!ort_json_given(spec)) {
        return ort_fail(
            &call->diag, ORT_EINVAL,
            "Can't auto-detect field type, please specify `field_schema` in the request");
    }
    return set_field(call, text, len, spec, wait);
}

ort_err
dp_api__index_delete(dp_call *call)
{
    const char *field = ort_http_req_param(call->req, "field");
    bool wait = false;
    const ort_err err = dp_call_write_params(call, &wait);
    if (err != ORT_OK) {
        return err;
    }
    call->place = DP_PLACE_PATH; /* the field stands there */
    return set_field(call, field, strlen(field), (ort_json){0}, wait);
}

/* How many points carry a field is what its index says. While that is being built each point is
 * looked at; where that would be more work than this call is worth, the number of all points stands
 * there, as the bound that it is. */
#define COUNTED_VALUES_MAX 50000u

static uint64_t
count_field(dp_call *call, const char *field, size_t len, uint64_t points, uint32_t fields)
{
    ort_buf text = {0};
    ort_jw w = {.buf = &text};
    dp_filter *filter = NULL;
    uint64_t count = points;

    if (dp_collection_field_points(call->collection, field, len, &count)) {
        return count;
    }
    if (points * fields > COUNTED_VALUES_MAX) {
        return points;
    }
    ort_buf_puts(&text, "{\"must_not\":[{\"is_empty\":{\"key\":");
    ort_jw_str_n(&w, field, len);
    ort_buf_puts(&text, "}}]}");
    if (ort_buf_check(&text) != ORT_OK ||
        dp_filter_parse_text(&filter, text.data, text.len, NULL) != ORT_OK ||
        dp_collection_count(call->collection, filter, &count, NULL) != ORT_OK) {
        count = points;
    }
    dp_filter_free(filter);
    ort_buf_fini(&text);
    return count;
}

void
dp_api__write_payload_schema(dp_call *call, const dp_schema *schema, const dp_collection_info *info)
{
    const ort_json fields = dp_schema_peek_fields(schema);
    ort_jw *w = &call->w;

    ort_jw_key(w, "payload_schema");
    ort_jw_object(w);
    for (ort_json_iter it = ort_json_each(fields); ort_json_step(&it);) {
        size_t len;
        const char *field = ort_json_str(it.key, &len);
        if (field == NULL) {
            continue; /* out of memory */
        }
        const ort_json params = ort_json_get(it.value, "params");
        ort_jw_key_n(w, field, len);
        ort_jw_object(w);
        ort_jw_key(w, "data_type");
        ort_jw_value(w, ort_json_get(it.value, "data_type"));
        if (ort_json_given(params)) {
            ort_jw_key(w, "params");
            ort_jw_value(w, params);
        }
        ort_jw_key(w, "points");
        ort_jw_u64(w, count_field(call, field, len, info->points, ort_json_count(fields)));
        ort_jw_object_end(w);
    }
    ort_jw_object_end(w);
}
