/* Reads without scores: one point, some points, a page of them, how many. */
#include <stdlib.h>
#include <string.h>

#include "api/query_internal.h"
#include "base/limits.h"

typedef struct {
    dp_call *call;
    const dp_show *show;
    uint64_t count;
} record_list;

/* Under the collection's read lock: memory only. */
static ort_err
write_record(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    record_list *list = ctx;
    ort_jw *w = &list->call->w;
    (void)query;

    list->count++;
    ort_jw_object(w);
    ort_jw_key(w, "id");
    dp_point_id_write(w, view->id);
    const ort_err err = dp_point_write(view, schema, list->show, w, &list->call->diag);
    dp_api__write_order_value(w, view->order);
    ort_jw_object_end(w);
    return err == ORT_OK ? dp_api__check_answer_size(list->call) : err;
}

/* with_payload and with_vector(s) of a body. */
static ort_err
parse_show(dp_call *call, ort_json body, bool payload_absent, dp_show *show)
{
    ort_json vectors = ort_json_get(body, "with_vector");
    if (ort_json_type_of(vectors) == ORT_JSON_NONE) {
        vectors = ort_json_get(body, "with_vectors");
    }
    memset(show, 0, sizeof *show);
    ort_err err = dp_payload_selector_parse(&show->payload, ort_json_get(body, "with_payload"),
                                            payload_absent, &call->diag);
    if (err == ORT_OK) {
        dp_schema *schema = dp_collection_schema(call->collection);
        err = dp_vector_selector_parse(&show->vectors, schema, vectors, false, &call->diag);
        dp_schema_unref(schema);
    }
    return err;
}

ort_err
dp_api__point_get(dp_call *call)
{
    const char *text = ort_http_req_param(call->req, "id");
    ort_point_id id;
    dp_show show = {.payload = {.all = true}, .vectors = {.all = true}};
    record_list list = {.call = call, .show = &show};

    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK && ort_point_id_parse(text, strlen(text), true, &id, NULL) != ORT_OK) {
        err = ort_fail(&call->diag, ORT_EINVAL, "Can not recognize \"%s\" as point id", text);
    }
    if (err == ORT_OK) {
        err = dp_call_use_collection(call);
    }
    if (err == ORT_OK) {
        err = dp_collection_retrieve(call->collection, &id, 1, true, write_record, &list,
                                     &call->diag);
    }
    if (err == ORT_OK && list.count == 0) {
        char shown[ORT_POINT_ID_TEXT_BYTES];
        ort_point_id_format(id, shown);
        err = ort_fail(&call->diag, ORT_ENOTFOUND, "Point with id %s does not exists!", shown);
    }
    return err;
}

static ort_err
parse_ids(dp_call *call, ort_json v, ort_point_id **out, size_t *count_out)
{
    const uint32_t count = ort_json_count(v);
    size_t n = 0;

    *out = NULL;
    if (!ort_json_given(v)) {
        return dp_call_missing(call, "ids");
    }
    if (ort_json_type_of(v) != ORT_JSON_ARRAY) {
        return dp_call_bad_type(call, "ids", v, "a sequence");
    }
    if (count > ORT_BATCH_POINTS_MAX) {
        return ort_fail(&call->diag, ORT_EBADREQ, "%u ids in one request, at most %u are allowed",
                        count, ORT_BATCH_POINTS_MAX);
    }
    ort_point_id *ids = malloc((count + 1u) * sizeof *ids);
    if (ids == NULL) {
        return ORT_ENOMEM;
    }
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
        const ort_err err = dp_point_id_read(it.value, &ids[n++], &call->diag);
        if (err != ORT_OK) {
            free(ids);
            return err;
        }
    }
    *out = ids;
    *count_out = n;
    return ORT_OK;
}

ort_err
dp_api__points_retrieve(dp_call *call)
{
    ort_json body;
    ort_point_id *ids = NULL;
    size_t count = 0;
    dp_show show = {0};
    record_list list = {.call = call, .show = &show};

    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK) {
        err = dp_call_body(call, false, &body);
    }
    if (err == ORT_OK) {
        err = parse_ids(call, ort_json_get(body, "ids"), &ids, &count);
    }
    if (err == ORT_OK) {
        err = dp_call_use_collection(call);
    }
    if (err == ORT_OK) {
        err = parse_show(call, body, true, &show);
    }
    ort_jw_array(&call->w);
    if (err == ORT_OK) {
        err = dp_collection_retrieve(call->collection, ids, count,
                                     dp_payload_selector_wants(&show.payload), write_record, &list,
                                     &call->diag);
    }
    ort_jw_array_end(&call->w);
    dp_show_fini(&show);
    free(ids);
    return err;
}

/* The page's own members: limit, offset. */
static ort_err
parse_page(dp_call *call, ort_json body, uint64_t *limit, bool *has_from, ort_point_id *from)
{
    const ort_json offset = ort_json_get(body, "offset");

    *limit = 10;
    *has_from = ort_json_given(offset);
    ort_err err = dp_call_get_u64(call, body, "limit", limit);
    if (err == ORT_OK && *limit == 0) {
        err = ort_fail(&call->diag, ORT_EVALIDATE, "limit: value 0 invalid, must be 1 or larger");
    }
    if (err == ORT_OK && *has_from) {
        err = dp_point_id_read(offset, from, &call->diag);
    }
    if (err == ORT_OK && *has_from && ort_json_given(ort_json_get(body, "order_by"))) {
        err =
            ort_fail(&call->diag, ORT_EINVAL,
                     "Cannot use an `offset` when using `order_by`. The alternative for paging "
                     "is to use `order_by.start_from` and a filter to exclude the IDs that you've "
                     "already seen for the `order_by.start_from` value");
    }
    return err;
}

/* In the order of a field: one page, and no next. */
static ort_err
scroll_ordered(dp_call *call, ort_json by, const dp_filter *filter, uint64_t limit,
               record_list *list)
{
    dp_api__order order = {0};
    ort_err err = dp_api__order_parse(call, by, &order);
    if (err == ORT_OK) {
        const dp_query query = {
            .kind = DP_QUERY_ORDER, .order = &order.order, .filter = filter, .limit = limit};
        err = dp_call_query(call, &query, 1, dp_payload_selector_wants(&list->show->payload),
                            write_record, list);
    }
    dp_api__order_fini(&order);
    return err;
}

ort_err
dp_api__points_scroll(dp_call *call)
{
    ort_json body, by = {0};
    uint64_t limit;
    bool has_from = false, has_next = false;
    ort_point_id from = {0}, next = {0};
    dp_filter *filter = NULL;
    dp_show show = {0};
    record_list list = {.call = call, .show = &show};

    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK) {
        err = dp_call_body(call, true, &body);
    }
    if (err == ORT_OK) {
        by = ort_json_get(body, "order_by");
        err = parse_page(call, body, &limit, &has_from, &from);
    }
    if (err == ORT_OK) {
        err = dp_call_filter(call, &filter, ort_json_get(body, "filter"), "filter");
    }
    if (err == ORT_OK) {
        err = dp_call_use_collection(call);
    }
    if (err == ORT_OK) {
        err = parse_show(call, body, true, &show);
    }
    ort_jw_object(&call->w);
    ort_jw_key(&call->w, "points");
    ort_jw_array(&call->w);
    if (err == ORT_OK && ort_json_given(by)) {
        err = scroll_ordered(call, by, filter, limit, &list);
    } else if (err == ORT_OK) {
        err = dp_collection_scroll(call->collection, filter, has_from ? &from : NULL, limit,
                                   dp_payload_selector_wants(&show.payload), write_record, &list,
                                   &has_next, &next, &call->diag);
    }
    ort_jw_array_end(&call->w);
    ort_jw_key(&call->w, "next_page_offset");
    if (err == ORT_OK && has_next) {
        dp_point_id_write(&call->w, next);
    } else {
        ort_jw_null(&call->w);
    }
    ort_jw_object_end(&call->w);
    dp_show_fini(&show);
    dp_filter_free(filter);
    return err;
}

ort_err
dp_api__points_count(dp_call *call)
{
    ort_json body;
    bool exact = true; /* the count is always exact here: `exact: false` allows, not demands */
    uint64_t count = 0;
    dp_filter *filter = NULL;

    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK) {
        err = dp_call_body(call, true, &body);
    }
    if (err == ORT_OK) {
        err = dp_call_get_bool(call, body, "exact", &exact);
    }
    if (err == ORT_OK) {
        err = dp_call_filter(call, &filter, ort_json_get(body, "filter"), "filter");
    }
    if (err == ORT_OK) {
        err = dp_call_use_collection(call);
    }
    if (err == ORT_OK) {
        err = dp_collection_count(call->collection, filter, &count, &call->diag);
    }
    ort_jw_object(&call->w);
    ort_jw_key(&call->w, "count");
    ort_jw_u64(&call->w, count);
    ort_jw_object_end(&call->w);
    dp_filter_free(filter);
    return err;
}
