/* Searches: the new form (points/query) and the older one (points/search), alone and in batches.
 *
 * A body becomes an array of asks; all of a request's asks go to the collection in one call, so
 * that it can compute exact ones together, and its answers come back in order, straight into the
 * answer's text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/plan.h"
#include "api/query_internal.h"
#include "base/limits.h"

void
dp_api__ask_fini(dp_api__ask *ask)
{
    dp_vector_fini(&ask->query.vector);
    dp_show_fini(&ask->show);
    dp_filter_free(ask->filter);
    dp_filter_free(ask->idf_corpus);
    free(ask->using_name);
    *ask = (dp_api__ask){0};
}

/* A vector of a request; text that a model would have to read is a wrong request. */
static ort_err
parse_vector(dp_call *call, dp_api__ask *ask, ort_json v)
{
    const ort_err err = dp_vector_read(&ask->query.vector, v, &call->diag);
    ask->query.kind = DP_QUERY_NEAREST;
    return err == ORT_ENOTIMPL ? ORT_EBADREQ : err;
}

/* The value of `query`, or of its `nearest`: an id, or a vector in any of its forms. */
ort_err
dp_api__ask_nearest(dp_call *call, dp_api__ask *ask, ort_json v)
{
    const ort_json_type type = ort_json_type_of(v);

    if (type == ORT_JSON_NUMBER || type == ORT_JSON_STRING) {
        ask->query.kind = DP_QUERY_ID;
        return dp_point_id_read(v, &ask->query.id, &call->diag);
    }
    return parse_vector(call, ask, v);
}

/* `query` of a one-step request; the other forms are plan.c's. */
static ort_err
parse_query_member(dp_call *call, dp_api__ask *ask, ort_json v)
{
    if (!ort_json_given(v)) {
        ask->query.kind = DP_QUERY_NONE;
        return ORT_OK;
    }
    const ort_json nearest = ort_json_get(v, "nearest");
    return dp_api__ask_nearest(call, ask, ort_json_given(nearest) ? nearest : v);
}

/* Copies a name out of the document, which does not end its strings with NUL. */
ort_err
dp_api__ask_using(dp_call *call, dp_api__ask *ask, const char *key, ort_json v)
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

/* params.quantization: {ignore, rescore, oversampling} */
static ort_err
parse_quantization(dp_call *call, dp_query *query, ort_json v)
{
    const ort_json oversampling = ort_json_get(v, "oversampling");
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return dp_call_bad_type(call, "params.quantization", v, "struct QuantizationSearchParams");
    }
    query->has_rescore = ort_json_given(ort_json_get(v, "rescore"));
    ort_err err = dp_call_get_bool(call, v, "ignore", &query->quantization_ignore);
    if (err == ORT_OK) {
        err = dp_call_get_bool(call, v, "rescore", &query->rescore);
    }
    if (err == ORT_OK && ort_json_given(oversampling)) {
        if (ort_json_f32(oversampling, &query->oversampling) != ORT_OK) {
            return dp_call_bad_type(call, "oversampling", oversampling, "f64");
        }
        if (!(query->oversampling >= 1)) {
            err = ort_fail(&call->diag, ORT_EVALIDATE,
                           "params.quantization.oversampling: value %g invalid, must be 1.0 or "
                           "larger",
                           (double)query->oversampling);
        }
    }
    return err;
}

/* params.acorn: {enable, max_selectivity}. Which way a filtered search goes is decided here by what
 * the filter lets through; what is asked for is checked. */
static ort_err
check_acorn(dp_call *call, ort_json v)
{
    const ort_json selectivity = ort_json_get(v, "max_selectivity");
    bool enable = false;
    double share = 0;
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return dp_call_bad_type(call, "params.acorn", v, "struct AcornSearchParams");
    }
    const ort_err err = dp_call_get_bool(call, v, "enable", &enable);
    if (err != ORT_OK || !ort_json_given(selectivity)) {
        return err;
    }
    if (ort_json_f64(selectivity, &share) != ORT_OK) {
        return dp_call_bad_type(call, "max_selectivity", selectivity, "f64");
    }
    return share >= 0 && share <= 1
               ? ORT_OK
               : ort_fail(&call->diag, ORT_EVALIDATE,
                          "params.acorn.max_selectivity: value %g invalid, must be from 0.0 to 1.0",
                          share);
}

/* params.idf: "global", or {corpus: filter}: the points among which words are rare or not. */
static ort_err
parse_idf(dp_call *call, dp_api__ask *ask, ort_json v)
{
    const ort_json corpus = ort_json_get(v, "corpus");

    if (!ort_json_given(v) || ort_json_str_is(v, "global")) {
        return ORT_OK;
    }
    if (ort_json_type_of(corpus) != ORT_JSON_OBJECT) {
        return dp_call_bad_type(call, "params.idf", v, "`global` or {corpus: filter}");
    }
    const ort_err err = dp_call_filter(call, &ask->idf_corpus, corpus, "params.idf.corpus");
    ask->query.idf_corpus = ask->idf_corpus;
    return err;
}

static ort_err
parse_params(dp_call *call, dp_api__ask *ask, ort_json params)
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
    if (err == ORT_OK) {
        err = parse_quantization(call, &ask->query, ort_json_get(params, "quantization"));
    }
    if (err == ORT_OK) {
        err = parse_idf(call, ask, ort_json_get(params, "idf"));
    }
    return err == ORT_OK ? check_acorn(call, ort_json_get(params, "acorn")) : err;
}

static ort_err
parse_threshold(dp_call *call, dp_api__ask *ask, ort_json v)
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
parse_show(dp_call *call, dp_api__ask *ask, ort_json body)
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
ort_err
dp_api__ask_common(dp_call *call, dp_api__ask *ask, ort_json body)
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
        err = dp_call_filter(call, &ask->filter, ort_json_get(body, "filter"), "filter");
        ask->query.filter = ask->filter;
    }
    return err == ORT_OK ? parse_show(call, ask, body) : err;
}

/* A threshold is for scores that compare vectors or are made of such. */
ort_err
dp_api__ask_check_threshold(dp_call *call, const dp_api__ask *ask, bool has_query, bool ordered)
{
    if (!ask->query.has_threshold || (has_query && !ordered)) {
        return ORT_OK;
    }
    return ort_fail(&call->diag, ORT_EBADREQ, "%s",
                    ordered ? "Can't use score_threshold with an order_by query."
                            : "A query is needed to use the score_threshold. Can't have "
                              "score_threshold without defining a query.");
}

/* {query, using, filter, params, score_threshold, limit, offset, with_*} */
static ort_err
parse_query(dp_call *call, dp_api__ask *ask, ort_json body)
{
    ask->query.limit = 10;
    ort_err err = parse_query_member(call, ask, ort_json_get(body, "query"));
    if (err == ORT_OK) {
        err = dp_api__ask_using(call, ask, "using", ort_json_get(body, "using"));
    }
    if (err == ORT_OK) {
        err = dp_call_get_u64(call, body, "limit", &ask->query.limit);
    }
    if (err == ORT_OK) {
        err = dp_api__ask_common(call, ask, body);
    }
    return err == ORT_OK
               ? dp_api__ask_check_threshold(call, ask, ask->query.kind != DP_QUERY_NONE, false)
               : err;
}

/* The vector of a search: an array, or {name, vector}. */
static ort_err
parse_search_vector(dp_call *call, dp_api__ask *ask, ort_json v)
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
    const ort_err err = dp_api__ask_using(call, ask, "vector.name", ort_json_get(v, "name"));
    return err == ORT_OK ? parse_vector(call, ask, inner) : err;
}

/* {vector, filter, params, limit | top, offset, with_*, score_threshold} */
ort_err
dp_api__ask_search(dp_call *call, dp_api__ask *ask, ort_json body)
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
    return err == ORT_OK ? dp_api__ask_common(call, ask, body) : err;
}

/* --- answers --------------------------------------------------------------------------------- */

ort_err
dp_api__check_answer_size(dp_call *call)
{
    if (call->out.len > DP_API_ANSWER_BYTES_MAX) {
        return ort_fail(&call->diag, ORT_EBADREQ,
                        "the answer is larger than %u bytes: ask for fewer points or less of them",
                        DP_API_ANSWER_BYTES_MAX);
    }
    return ORT_OK;
}

typedef struct {
    dp_call *call;
    const dp_api__ask *asks;
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
    return err == ORT_OK ? dp_api__check_answer_size(list->call) : err;
}

/* Asks the collection for all of them at once. */
static ort_err
answer(dp_call *call, dp_api__ask *asks, size_t count, bool in_object)
{
    score_list list = {.call = call, .asks = asks, .in_object = in_object};
    bool want_payload = false;
    dp_query *queries = calloc(count, sizeof *queries);

    if (queries == NULL) {
        return ORT_ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        queries[i] = asks[i].query;
        queries[i].until_ns = ort_http_req_deadline_ns(call->req);
        want_payload = want_payload || dp_payload_selector_wants(&asks[i].show.payload);
    }
    list_begin(&list);
    const ort_err err = dp_call_query(call, queries, count, want_payload, write_scored, &list);
    list_go(&list, count - 1);
    list_end(&list);
    free(queries);
    return err;
}

static ort_err
check_object(dp_call *call, ort_json body)
{
    return ort_json_type_of(body) == ORT_JSON_OBJECT
               ? ORT_OK
               : dp_call_bad_type(call, "searches", body, "a JSON object");
}

/* Parameters, body, collection: what all four calls begin with. */
static ort_err
begin(dp_call *call, ort_json *body)
{
    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK) {
        err = dp_call_body(call, false, body);
    }
    return err == ORT_OK ? dp_call_use_collection(call) : err;
}

/* One search of the new form, in as many steps as it needs. */
static ort_err
run_query(dp_call *call, ort_json body)
{
    if (dp_plan_needed(body)) {
        dp_plan *plan = NULL;
        ort_err err = dp_plan_parse(&plan, call, body);
        if (err == ORT_OK) {
            err = dp_plan_answer(call, plan, true);
        }
        dp_plan_free(plan);
        return err;
    }
    dp_api__ask ask = {0};
    ort_err err = parse_query(call, &ask, body);
    if (err == ORT_OK) {
        err = answer(call, &ask, 1, true);
    }
    dp_api__ask_fini(&ask);
    return err;
}

ort_err
dp_api__query(dp_call *call)
{
    ort_json body;
    const ort_err err = begin(call, &body);
    return err == ORT_OK ? run_query(call, body) : err;
}

ort_err
dp_api__search(dp_call *call)
{
    ort_json body;
    dp_api__ask ask = {0};

    ort_err err = begin(call, &body);
    if (err == ORT_OK) {
        err = dp_api__ask_search(call, &ask, body);
    }
    if (err == ORT_OK) {
        err = answer(call, &ask, 1, false);
    }
    dp_api__ask_fini(&ask);
    return err;
}

static ort_err
check_searches(dp_call *call, ort_json searches)
{
    if (!ort_json_given(searches)) {
        return dp_call_missing(call, "searches");
    }
    if (ort_json_type_of(searches) != ORT_JSON_ARRAY) {
        return dp_call_bad_type(call, "searches", searches, "a sequence");
    }
    if (ort_json_count(searches) > ORT_BATCH_QUERIES_MAX) {
        return ort_fail(&call->diag, ORT_EBADREQ,
                        "%u searches in one batch, at most %u are allowed",
                        ort_json_count(searches), ORT_BATCH_QUERIES_MAX);
    }
    return ORT_OK;
}

/* What breaks a bound is told with its place; the other texts are fixed. */
static void
place_in_batch(dp_call *call, ort_err err, size_t i)
{
    char text[sizeof call->diag.text];

    if (err == ORT_EVALIDATE) {
        snprintf(text, sizeof text, "searches[%zu].%.*s", i, (int)sizeof text - 40,
                 call->diag.text);
        memcpy(call->diag.text, text, sizeof text);
    }
}

/* One step each: all together, so that exact ones are computed together. */
static ort_err
run_together(dp_call *call, ort_json searches, bool old_form)
{
    const uint32_t count = ort_json_count(searches);
    dp_api__ask *asks = calloc(count + 1u, sizeof *asks);
    size_t parsed = 0;
    ort_err err = asks != NULL ? ORT_OK : ORT_ENOMEM;

    for (ort_json_iter it = ort_json_each(searches); err == ORT_OK && ort_json_step(&it);
         parsed++) {
        err = check_object(call, it.value);
        if (err == ORT_OK) {
            err = old_form ? dp_api__ask_search(call, &asks[parsed], it.value)
                           : parse_query(call, &asks[parsed], it.value);
        }
        if (err != ORT_OK) {
            place_in_batch(call, err, parsed);
        }
    }
    if (err == ORT_OK && count > 0) {
        err = answer(call, asks, count, !old_form);
    }
    for (size_t i = 0; asks != NULL && i < count; i++) {
        dp_api__ask_fini(&asks[i]);
    }
    free(asks);
    return err;
}

/* Some need several steps: one after the other. */
static ort_err
run_one_by_one(dp_call *call, ort_json searches)
{
    ort_err err = ORT_OK;
    size_t i = 0;
    for (ort_json_iter it = ort_json_each(searches); err == ORT_OK && ort_json_step(&it); i++) {
        err = check_object(call, it.value);
        if (err == ORT_OK) {
            err = run_query(call, it.value);
        }
        if (err != ORT_OK) {
            place_in_batch(call, err, i);
        }
    }
    return err;
}

static ort_err
run_batch(dp_call *call, bool old_form)
{
    ort_json body;
    bool several_steps = false;

    ort_err err = begin(call, &body);
    const ort_json searches = err == ORT_OK ? ort_json_get(body, "searches") : (ort_json){0};
    if (err == ORT_OK) {
        err = check_searches(call, searches);
    }
    if (err != ORT_OK) {
        return err;
    }
    for (ort_json_iter it = ort_json_each(searches); ort_json_step(&it);) {
        several_steps = several_steps || (!old_form && dp_plan_needed(it.value));
    }
    ort_jw_array(&call->w);
    err = several_steps ? run_one_by_one(call, searches) : run_together(call, searches, old_form);
    ort_jw_array_end(&call->w);
    return err;
}

/* The older calls that take several steps to parse and one to run. */
typedef ort_err (*parse_fn)(dp_plan **out, dp_call *call, ort_json body);

static ort_err
run_old(dp_call *call, ort_json body, parse_fn parse)
{
    dp_plan *plan = NULL;
    ort_err err = parse(&plan, call, body);
    if (err == ORT_OK) {
        err = dp_plan_answer(call, plan, false);
    }
    dp_plan_free(plan);
    return err;
}

static ort_err
run_old_batch(dp_call *call, parse_fn parse)
{
    ort_json body;
    size_t i = 0;

    ort_err err = begin(call, &body);
    const ort_json searches = err == ORT_OK ? ort_json_get(body, "searches") : (ort_json){0};
    if (err == ORT_OK) {
        err = check_searches(call, searches);
    }
    if (err != ORT_OK) {
        return err;
    }
    ort_jw_array(&call->w);
    for (ort_json_iter it = ort_json_each(searches); err == ORT_OK && ort_json_step(&it); i++) {
        err = check_object(call, it.value);
        if (err == ORT_OK) {
            err = run_old(call, it.value, parse);
        }
        if (err != ORT_OK) {
            place_in_batch(call, err, i);
        }
    }
    ort_jw_array_end(&call->w);
    return err;
}

ort_err
dp_api__recommend(dp_call *call)
{
    ort_json body;
    const ort_err err = begin(call, &body);
    return err == ORT_OK ? run_old(call, body, dp_plan_parse_recommend) : err;
}

ort_err
dp_api__recommend_batch(dp_call *call)
{
    return run_old_batch(call, dp_plan_parse_recommend);
}

ort_err
dp_api__discover(dp_call *call)
{
    ort_json body;
    const ort_err err = begin(call, &body);
    return err == ORT_OK ? run_old(call, body, dp_plan_parse_discover) : err;
}

ort_err
dp_api__discover_batch(dp_call *call)
{
    return run_old_batch(call, dp_plan_parse_discover);
}

ort_err
dp_api__query_batch(dp_call *call)
{
    return run_batch(call, false);
}

ort_err
dp_api__search_batch(dp_call *call)
{
    return run_batch(call, true);
}
