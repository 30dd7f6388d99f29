/* `order_by`, as queries and scrolls give it: "key" or {key, direction, start_from}. */
#include <stdlib.h>
#include <string.h>

#include "api/query_internal.h"
#include "base/clock.h"

void
dp_api__order_fini(dp_api__order *order)
{
    dp_path_free(order->path);
    *order = (dp_api__order){0};
}

/* The declared index of a field, or NONE. */
ort_json
dp_api__field_of(const dp_schema *schema, const char *key, size_t len)
{
    ort_json found = {0};
    for (ort_json_iter it = ort_json_each(dp_schema_peek_fields(schema)); ort_json_step(&it);) {
        size_t n;
        const char *name = ort_json_str(it.key, &n);
        if (name != NULL && n == len && memcmp(name, key, n) == 0) {
            found = it.value;
        }
    }
    return found;
}

/* Which values the field's index keeps in order. */
static ort_err
find_kind(dp_call *call, const char *key, size_t len, dp_order_kind *out)
{
    static const struct {
        const char *name;
        dp_order_kind kind;
    } kinds[] = {{"integer", DP_ORDER_INTEGER},
                 {"float", DP_ORDER_FLOAT},
                 {"datetime", DP_ORDER_DATETIME},
                 {"uuid", DP_ORDER_UUID}};
    dp_schema *schema = dp_collection_schema(call->collection);
    const ort_json field = dp_api__field_of(schema, key, len);
    const ort_json type = ort_json_get(field, "data_type");
    bool ranged = true, known = false;

    if (ort_json_bool(ort_json_get(ort_json_get(field, "params"), "range"), &ranged) != ORT_OK) {
        ranged = true;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (ort_json_str_is(type, kinds[i].name)) {
            *out = kinds[i].kind;
            known = ranged;
        }
    }
    dp_schema_unref(schema);
    return known ? ORT_OK
                 : ort_fail(&call->diag, ORT_EINVAL,
                            "No range index for `order_by` key: `%.*s`. Please create one to use "
                            "`order_by`. Check "
                            "https://qdrant.tech/documentation/concepts/indexing/#payload-index to "
                            "see which payload schemas support Range conditions",
                            len > 100 ? 100 : (int)len, key);
}

/* A number for integers and floats, a time or its microseconds, a uuid. */
static bool
read_start(ort_json v, dp_order *order)
{
    dp_order_value *from = &order->from;
    size_t len;
    const char *text = ort_json_str(v, &len);
    from->kind = order->kind;
    switch (order->kind) {
    case DP_ORDER_INTEGER:
        if (ort_json_i64(v, &from->integer) == ORT_OK) {
            return true;
        }
        from->kind = DP_ORDER_FLOAT;
        return ort_json_f64(v, &from->real) == ORT_OK;
    case DP_ORDER_FLOAT:
        return ort_json_f64(v, &from->real) == ORT_OK;
    case DP_ORDER_DATETIME:
        return text != NULL ? ort_rfc3339_parse(text, len, &from->integer) == ORT_OK
                            : ort_json_i64(v, &from->integer) == ORT_OK;
    default:
        return text != NULL && ort_point_id_parse(text, len, false, &from->uuid, NULL) == ORT_OK;
    }
}

ort_err
dp_api__order_parse(dp_call *call, ort_json v, dp_api__order *out)
{
    const bool object = ort_json_type_of(v) == ORT_JSON_OBJECT;
    const ort_json key = object ? ort_json_get(v, "key") : v;
    const ort_json direction = ort_json_get(v, "direction"), start = ort_json_get(v, "start_from");
    size_t len;

    if (object && !ort_json_given(key)) {
        return dp_call_missing(call, "key");
    }
    const char *text = ort_json_str(key, &len);
    if (text == NULL) {
        return dp_call_bad_type(call, "order_by", key, "a payload key");
    }
    if (ort_json_str_is(direction, "desc")) {
        out->order.descending = true;
    } else if (ort_json_given(direction) && !ort_json_str_is(direction, "asc")) {
        return dp_call_bad_type(call, "order_by.direction", direction, "`asc` or `desc`");
    }
    ort_err err = dp_path_parse(&out->path, text, len, &call->diag);
    if (err == ORT_OK) {
        err = find_kind(call, text, len, &out->order.kind);
    }
    out->order.path = out->path;
    out->order.has_from = ort_json_given(start);
    if (err == ORT_OK && out->order.has_from && !read_start(start, &out->order)) {
        err = ort_fail(&call->diag, ORT_EFORMAT,
                       "order_by.start_from: data did not match any variant of untagged enum "
                       "StartFrom");
    }
    return err;
}

/* Numbers as they are, times as microseconds since 1970; a uuid is no number and shows none. */
void
dp_api__write_order_value(ort_jw *w, const dp_order_value *value)
{
    if (value == NULL || value->kind == DP_ORDER_UUID) {
        return;
    }
    ort_jw_key(w, "order_value");
    if (value->kind == DP_ORDER_FLOAT) {
        ort_jw_f64(w, value->real);
    } else {
        ort_jw_i64(w, value->integer);
    }
}
