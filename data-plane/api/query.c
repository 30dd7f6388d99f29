/* Searches: the new form (points/query) and the older one (points/search), alone and in batches.
 *
 * A body becomes an array of asks; all of a request's asks go to the collection in one call, so
 * that it can compute exact ones together, and its answers come back in order, straight into the
 * answer's text. */
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/limits.h"

/* One search and what to show of it. */
typedef struct {
    dp_query query;
    dp_show show;
    dp_filter *filter;
    char *using_name;
} search_ask;

static void
ask_fini(search_ask *ask)
{
    dp_vector_fini(&ask->query.vector);
    dp_show_fini(&ask->show);
    dp_filter_free(ask->filter);
    free(ask->using_name);
}

static ort_err
unbuilt(dp_call *call, const char *what)
{
    return ort_fail(&call->diag, ORT_ENOTIMPL, "%s is not built yet", what);
}

/* A vector of a request; text that a model would have to read is a wrong request. */
static ort_err
parse_vector(dp_call *call, search_ask *ask, ort_json v)
{
    const ort_err err = dp_vector_read(&ask->query.vector, v, &call->diag);
    ask->query.kind = DP_QUERY_NEAREST;
    return err == ORT_ENOTIMPL ? ORT_EBADREQ : err;
}

/* The value of `query`, or of its `nearest`: an id, or a vector in any of its forms. */
static ort_err
parse_nearest(dp_call *call, search_ask *ask, ort_json v)
{
    const ort_json_type type = ort_json_type_of(v);

    if (type == ORT_JSON_NUMBER || type == ORT_JSON_STRING) {
        ask->query.kind = DP_QUERY_ID;
        const ort_err err = dp_point_id_read(v, &ask->query.id, &call->diag);
        return err == ORT_EINVAL ? ORT_EFORMAT : err;
    }
    return parse_vector(call, ask, v);
}

static ort_err
parse_query_member(dp_call *call, search_ask *ask, ort_json v)
{
    static const char *const later[] = {"recommend", "discover", "context",
                                        "order_by",  "fusion",   "rrf",
                                        "formula",   "sample",   "relevance_feedback"};

    if (!ort_json_given(v)) {
        ask->query.kind = DP_QUERY_NONE;
        return ORT_OK;
    }
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return parse_nearest(call, ask, v);
    }
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (ort_json_given(ort_json_get(v, later[i]))) {
            return ort_fail(&call->diag, ORT_ENOTIMPL, "query `%s` is not built yet", later[i]);
        }
    }
    const ort_json nearest = ort_json_get(v, "nearest");
    if (ort_json_given(nearest)) {
        if (ort_json_given(ort_json_get(v, "mmr"))) {
            return unbuilt(call, "query `nearest` with `mmr`");
        }
        return parse_nearest(call, ask, nearest);
    }
    return parse_vector(call, ask, v);
}

/* Copies a name out of the document, which does not end its strings with NUL. */
static ort_err
parse_using(dp_call *call, search_ask *ask, const char *key, ort_json v)
{
    size_t len;

    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    if (ort_json_type_of(v) != ORT_JSON_STRING) {
        return dp_call_bad_type(call, key, v, "a string");
    }
    const char *name = ort_json_str(v, &len);
    if (name == NULL) {
        return ORT_ENOMEM;
    }
    if (memchr(name, '\0', len) != NULL) {
        return ort_fail(&call->diag, ORT_EINVAL, "Not existing vector name error: a name with NUL");
    }
    ask->using_name = strndup(name, len);
    ask->query.using_name = ask->using_name;
    return ask->using_name != NULL ? ORT_OK : ORT_ENOMEM;
}

static ort_err
parse_params(dp_call *call, search_ask *ask, ort_json params)
{
    const ort_json ef = ort_json_get(params, "hnsw_ef");
    uint64_t hnsw_ef = 0;

    if (!ort_json_given(params)) {
        return ORT_OK;
    }
    if (ort_json_type_of(params) != ORT_JSON_OBJECT) {
        return dp_call_bad_type(call, "params", params, "struct SearchParams");
    }
    ort_err err = dp_call_get_u64(call, params, "hnsw_ef", &hnsw_ef);
    if (err == ORT_OK && ort_json_given(ef) && hnsw_ef == 0) {
        err = ort_fail(&call->diag, ORT_EVALIDATE,
                       "params.hnsw_ef: value 0 invalid, must be 1 or larger");
    }
    ask->query.hnsw_ef = hnsw_ef < ORT_TOP_K_MAX ? (uint32_t)hnsw_ef : ORT_TOP_K_MAX;
    if (err == ORT_OK) {
        err = dp_call_get_bool(call, params, "exact", &ask->query.exact);
    }
    if (err == ORT_OK) {
        err = dp_call_get_bool(call, params, "indexed_only", &ask->query.indexed_only);
    }
    return err;
}

static ort_err
parse_threshold(dp_call *call, search_ask *ask, ort_json v)
{
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    ask->query.has_threshold = true;
    return ort_json_f32(v, &ask->query.score_threshold) == ORT_OK
               ? ORT_OK
               : dp_call_bad_type(call, "score_threshold", v, "f32");
}

static ort_err
parse_show(dp_call *call, search_ask *ask, ort_json body)
{
    ort_json vectors = ort_json_get(body, "with_vector");
    if (ort_json_type_of(vectors) == ORT_JSON_NONE) {
        vectors = ort_json_get(body, "with_vectors");
    }
    ort_err err = dp_payload_selector_parse(&ask->show.payload, ort_json_get(body, "with_payload"),
                                            false, &call->diag);
    if (err == ORT_OK) {
        dp_schema *schema = dp_collection_schema(call->collection);
        err = dp_vector_selector_parse(&ask->show.vectors, schema, vectors, false, &call->diag);
        dp_schema_unref(schema);
    }
    return err;
}

/* What both forms have in common. */
static ort_err
parse_common(dp_call *call, search_ask *ask, ort_json body)
{
    ort_err err = parse_params(call, ask, ort_json_get(body, "params"));
    if (err == ORT_OK) {
        err = parse_threshold(call, ask, ort_json_get(body, "score_threshold"));
    }
    if (err == ORT_OK) {
        err = dp_call_get_u64(call, body, "offset", &ask->query.offset);
    }
    if (err == ORT_OK && ask->query.limit == 0) {
        err = ort_fail(&call->diag, ORT_EVALIDATE, "limit: value 0 invalid, must be 1 or larger");
    }
    if (err == ORT_OK) {
        err = dp_filter_parse(&ask->filter, ort_json_get(body, "filter"), "filter", &call->diag);
        ask->query.filter = ask->filter;
    }
    return err == ORT_OK ? parse_show(call, ask, body) : err;
}

/* {query, prefetch, using, filter, params, score_threshold, limit, offset, with_*, lookup_from} */
static ort_err
parse_query(dp_call *call, search_ask *ask, ort_json body)
{
    const ort_json prefetch = ort_json_get(body, "prefetch");

    ask->query.limit = 10;
    if (ort_json_type_of(body) != ORT_JSON_OBJECT) {
        return dp_call_bad_type(call, "searches", body, "struct QueryRequest");
    }
    if (ort_json_given(prefetch) &&
        (ort_json_type_of(prefetch) != ORT_JSON_ARRAY || ort_json_count(prefetch) > 0)) {
        return unbuilt(call, "query with `prefetch`");
    }
    if (ort_json_given(ort_json_get(body, "lookup_from"))) {
        return unbuilt(call, "query with `lookup_from`");
    }
    ort_err err = parse_query_member(call, ask, ort_json_get(body, "query"));
    if (err == ORT_OK) {
        err = parse_using(call, ask, "using", ort_json_get(body, "using"));
    }
    if (err == ORT_OK) {
        err = dp_call_get_u64(call, body, "limit", &ask->query.limit);
    }
    return err == ORT_OK ? parse_common(call, ask, body) : err;
}

/* The vector of a search: an array, or {name, vector}. */
static ort_err
parse_search_vector(dp_call *call, search_ask *ask, ort_json v)
{
    if (!ort_json_given(v)) {
        return dp_call_missing(call, "vector");
    }
    const ort_json inner = ort_json_get(v, "vector");
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return parse_vector(call, ask, v);
    }
    if (!ort_json_given(inner)) {
        return ort_fail(&call->diag, ORT_EFORMAT,
                        "data did not match any variant of untagged enum NamedVectorStruct");
    }
    const ort_err err = parse_using(call, ask, "vector.name", ort_json_get(v, "name"));
    return err == ORT_OK ? parse_vector(call, ask, inner) : err;
}

/* {vector, filter, params, limit | top, offset, with_*, score_threshold} */
static ort_err
parse_search(dp_call *call, search_ask *ask, ort_json body)
{
    ort_json limit = ort_json_get(body, "limit");

    if (ort_json_type_of(body) != ORT_JSON_OBJECT) {
        return dp_call_bad_type(call, "searches", body, "struct SearchRequestInternal");
    }
    if (!ort_json_given(limit)) {
        limit = ort_json_get(body, "top");
    }
    ort_err err = parse_search_vector(call, ask, ort_json_get(body, "vector"));
    if (err == ORT_OK && !ort_json_given(limit)) {
        err = dp_call_missing(call, "limit");
    }
    if (err == ORT_OK && ort_json_u64(limit, &ask->query.limit) != ORT_OK) {
        err = dp_call_bad_type(call, "limit", limit, "usize");
    }
    return err == ORT_OK ? parse_common(call, ask, body) : err;
}

/* --- answers --------------------------------------------------------------------------------- */

typedef struct {
    dp_call *call;
    const search_ask *asks;
    bool in_object; /* {"points":[..]} rather than [..] */
    size_t open;    /* the search whose list is being written */
} score_list;

static void
list_begin(const score_list *list)
{
    if (list->in_object) {
        ort_jw_object(&list->call->w);
        ort_jw_key(&list->call->w, "points");
    }
    ort_jw_array(&list->call->w);
}

static void
list_end(const score_list *list)
{
    ort_jw_array_end(&list->call->w);
    if (list->in_object) {
        ort_jw_object_end(&list->call->w);
    }
}

/* Brings the text to the list of search i: those in between found nothing. */
static void
list_go(score_list *list, size_t i)
{
    while (list->open < i) {
        list_end(list);
        list_begin(list);
        list->open++;
    }
}

static ort_err
write_scored(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    score_list *list = ctx;
    ort_jw *w = &list->call->w;

    list_go(list, query);
    ort_jw_object(w);
    ort_jw_key(w, "id");
    dp_point_id_write(w, view->id);
    ort_jw_key(w, "version");
    ort_jw_u64(w, view->version);
    ort_jw_key(w, "score");
    ort_jw_f32(w, view->score);
    const ort_err err = dp_point_write(view, schema, &list->asks[query].show, w, &list->call->diag);
    ort_jw_object_end(w);
    if (err == ORT_OK && list->call->out.len > DP_API_ANSWER_BYTES_MAX) {
        return ort_fail(&list->call->diag, ORT_EBADREQ,
                        "the answer is larger than %u bytes: ask for fewer points or less of them",
                        DP_API_ANSWER_BYTES_MAX);
    }
    return err;
}

/* Asks the collection for all of them at once. */
static ort_err
answer(dp_call *call, search_ask *asks, size_t count, bool in_object)
{
    score_list list = {.call = call, .asks = asks, .in_object = in_object};
    bool want_payload = false;
    dp_query *queries = calloc(count, sizeof *queries);

    if (queries == NULL) {
        return ORT_ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        queries[i] = asks[i].query;
        want_payload = want_payload || dp_payload_selector_wants(&asks[i].show.payload);
    }
    list_begin(&list);
    const ort_err err = dp_collection_query(call->collection, queries, count, want_payload,
                                            write_scored, &list, &call->diag);
    list_go(&list, count - 1);
    list_end(&list);
    free(queries);
    return err;
}

typedef ort_err (*parse_fn)(dp_call *call, search_ask *ask, ort_json body);

static ort_err
run_one(dp_call *call, parse_fn parse, bool in_object)
{
    ort_json body;
    search_ask ask = {0};

    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK) {
        err = dp_call_body(call, false, &body);
    }
    if (err == ORT_OK) {
        err = dp_call_use_collection(call);
    }
    if (err == ORT_OK) {
        err = parse(call, &ask, body);
    }
    if (err == ORT_OK) {
        err = answer(call, &ask, 1, in_object);
    }
    ask_fini(&ask);
    return err;
}

static ort_err
parse_all(dp_call *call, parse_fn parse, ort_json searches, search_ask **out, size_t *count_out)
{
    const uint32_t count = ort_json_count(searches);

    if (!ort_json_given(searches)) {
        return dp_call_missing(call, "searches");
    }
    if (ort_json_type_of(searches) != ORT_JSON_ARRAY) {
        return dp_call_bad_type(call, "searches", searches, "a sequence");
    }
    if (count > ORT_BATCH_QUERIES_MAX) {
        return ort_fail(&call->diag, ORT_EBADREQ,
                        "%u searches in one batch, at most %u are allowed", count,
                        ORT_BATCH_QUERIES_MAX);
    }
    *out = calloc(count + 1u, sizeof **out);
    if (*out == NULL) {
        return ORT_ENOMEM;
    }
    *count_out = count;
    size_t i = 0;
    for (ort_json_iter it = ort_json_each(searches); ort_json_step(&it); i++) {
        const ort_err err = parse(call, &(*out)[i], it.value);
        if (err != ORT_OK) {
            ort_diag_prefix(&call->diag, "searches[%zu]", i);
            return err;
        }
    }
    return ORT_OK;
}

static ort_err
run_batch(dp_call *call, parse_fn parse, bool in_object)
{
    ort_json body;
    search_ask *asks = NULL;
    size_t count = 0;

    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK) {
        err = dp_call_body(call, false, &body);
    }
    if (err == ORT_OK) {
        err = dp_call_use_collection(call);
    }
    if (err == ORT_OK) {
        err = parse_all(call, parse, ort_json_get(body, "searches"), &asks, &count);
    }
    ort_jw_array(&call->w);
    if (err == ORT_OK && count > 0) {
        err = answer(call, asks, count, in_object);
    }
    ort_jw_array_end(&call->w);
    for (size_t i = 0; i < count; i++) {
        ask_fini(&asks[i]);
    }
    free(asks);
    return err;
}

ort_err
dp_api__query(dp_call *call)
{
    return run_one(call, parse_query, true);
}

ort_err
dp_api__query_batch(dp_call *call)
{
    return run_batch(call, parse_query, true);
}

ort_err
dp_api__search(dp_call *call)
{
    return run_one(call, parse_search, false);
}

ort_err
dp_api__search_batch(dp_call *call)
{
    return run_batch(call, parse_search, false);
}
