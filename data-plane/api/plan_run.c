/* A tree of steps, run from its leaves; its points, read once at the end. */
#include <stdlib.h>
#include <string.h>

#include "api/plan_internal.h"
#include "base/map.h"

/* --- filters that are pushed down ------------------------------------------------------------- */

static void
put_filters(ort_jw *w, const dp_plan__scope *s)
{
    if (s == NULL) {
        return;
    }
    put_filters(w, s->outer);
    /* An empty filter constrains nothing, and is no condition. */
    if (ort_json_count(s->at->filter) > 0) {
        ort_jw_value(w, s->at->filter);
    }
}

static void
put_ids(ort_jw *w, const dp_found_list *ids)
{
    ort_jw_object(w);
    ort_jw_key(w, "has_id");
    ort_jw_array(w);
    for (size_t i = 0; i < ids->count; i++) {
        dp_point_id_write(w, ids->items[i].id);
    }
    ort_jw_array_end(w);
    ort_jw_object_end(w);
}

/* All filters on the way here; or only these ids, where given: they were found under those filters.
 * `without`: and none that the request names. */
static ort_err
make_filter(dp_call *call, const dp_plan *plan, const dp_plan__scope *s, const dp_found_list *among,
            bool without, dp_filter **out)
{
    ort_buf text = {0};
    ort_jw w = {.buf = &text};

    *out = NULL;
    ort_jw_object(&w);
    ort_jw_key(&w, "must");
    ort_jw_array(&w);
    if (among != NULL) {
        put_ids(&w, among);
    } else {
        put_filters(&w, s);
    }
    ort_jw_array_end(&w);
    if (without && plan->excluded_count > 0) {
        ort_jw_key(&w, "must_not");
        ort_jw_object(&w);
        ort_jw_key(&w, "has_id");
        ort_jw_array(&w);
        for (uint32_t i = 0; i < plan->excluded_count; i++) {
            dp_point_id_write(&w, plan->excluded[i]);
        }
        ort_jw_array_end(&w);
        ort_jw_object_end(&w);
    }
    ort_jw_object_end(&w);
    ort_err err = ort_buf_check(&text);
    if (err == ORT_OK) {
        err = dp_filter_parse_text(out, text.data, text.len, &call->diag);
        dp_filter_set_until_ns(*out, ort_http_req_deadline_ns(call->req));
    }
    ort_buf_fini(&text);
    return err;
}

/* --- running ---------------------------------------------------------------------------------- */

static ort_err
collect_found(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    (void)query;
    (void)schema;
    const dp_found found = {.id = view->id, .version = view->version, .score = view->score};
    return dp_found_list_add(ctx, found);
}

/* Asks the collection with the step's own query; `want` points. */
ort_err
dp_plan__ask_collection(dp_call *call, const dp_plan *plan, const dp_plan__scope *s,
                        const dp_query *query, const dp_found_list *among, uint64_t want,
                        dp_found_list *out)
{
    dp_filter *filter = NULL;
    dp_query q = *query;

    /* Searches leave points out by themselves. */
    const bool searches = q.kind == DP_QUERY_NEAREST || q.kind == DP_QUERY_EXAMPLES;
    ort_err err = make_filter(call, plan, s, among, !searches, &filter);
    if (err == ORT_OK) {
        q.filter = filter;
        q.excluded = searches ? plan->excluded : NULL;
        q.excluded_count = searches ? plan->excluded_count : 0;
        q.limit = dp_plan__bounded(want);
        q.offset = 0;
        q.exact = q.exact || among != NULL; /* a known handful: no graph can help */
        q.until_ns = ort_http_req_deadline_ns(call->req);
        err = dp_call_query(call, &q, 1, false, collect_found, out);
    }
    dp_filter_free(filter);
    return err;
}

/* The step's vector in the schema; -1: none of that name (the collection says so in its words). */
int
dp_plan__vector_index(dp_call *call, const dp_plan__step *s)
{
    const char *name = s->ask.using_name != NULL ? s->ask.using_name : "";
    dp_schema *schema = dp_collection_schema(call->collection);
    const int i = dp_schema_find_vector(schema, name, strlen(name));
    dp_schema_unref(schema);
    return i;
}

/* --- the tree --------------------------------------------------------------------------------- */

static ort_err run_step(dp_call *call, dp_plan *plan, const dp_plan__scope *s, uint64_t want,
                        dp_found_list *out);

/* Whether a larger score is better for what this step gives. */
static bool
scores_are_similarities(dp_call *call, const dp_plan__step *s)
{
    if (s->kind != DP_STEP_PLAIN && s->kind != DP_STEP_MMR && s->kind != DP_STEP_RECOMMEND) {
        return true;
    }
    const int column = dp_plan__vector_index(call, s);
    if (column < 0) {
        return true;
    }
    dp_schema *schema = dp_collection_schema(call->collection);
    const dp_vector_schema *v = dp_schema_peek_vector(schema, (uint32_t)column);
    const bool similarity =
        v->sparse || (v->metric != DP_METRIC_EUCLID && v->metric != DP_METRIC_MANHATTAN);
    dp_schema_unref(schema);
    return similarity;
}

/* Fused scores are similarities whatever went in: distances count negative. */
static ort_err
fuse(dp_call *call, const dp_plan__step *s, dp_found_list *lists, dp_found_list *out)
{
    if (s->kind == DP_STEP_RRF) {
        return dp_fuse_rrf(lists, s->prefetch_count, s->rrf_k, s->weights, out);
    }
    for (size_t l = 0; l < s->prefetch_count; l++) {
        if (!scores_are_similarities(call, &s->prefetch[l])) {
            for (size_t i = 0; i < lists[l].count; i++) {
                lists[l].items[i].score = -lists[l].items[i].score;
            }
        }
    }
    return dp_fuse_dbsf(lists, s->prefetch_count, out);
}

/* Cuts a fused list: below the threshold, behind what is wanted. */
static void
cut(const dp_plan__step *s, uint64_t want, dp_found_list *list)
{
    size_t n = 0;
    while (n < list->count && n < want &&
           (!s->ask.query.has_threshold || list->items[n].score >= s->ask.query.score_threshold)) {
        n++;
    }
    list->count = n;
}

/* Leaves each point its first place: in an order by a field it may have several. */
static ort_err
leave_firsts(dp_found_list *list)
{
    ort_map *seen;
    size_t n = 0;
    ort_err err = ort_map_new(&seen);
    for (size_t i = 0; err == ORT_OK && i < list->count; i++) {
        unsigned char key[ORT_POINT_ID_BYTES];
        ort_point_id_encode(list->items[i].id, key);
        if (ort_map_get(seen, key, sizeof key) == NULL) {
            err = ort_map_set(seen, key, sizeof key, list, NULL);
            list->items[n++] = list->items[i];
        }
    }
    list->count = n;
    ort_map_free(seen, NULL);
    return err;
}

static ort_err
run_own(dp_call *call, dp_plan *plan, const dp_plan__scope *s, const dp_found_list *among,
        uint64_t want, dp_found_list *out)
{
    ort_err err;
    switch (s->at->kind) {
    case DP_STEP_MMR:
        return dp_plan__run_mmr(call, plan, s, among, want, out);
    case DP_STEP_RECOMMEND:
        return dp_plan__run_recommend(call, plan, s, among, want, out);
    case DP_STEP_EXAMPLES:
        return dp_plan__run_examples(call, plan, s, among, want, out);
    default:
        err = dp_plan__ask_collection(call, plan, s, &s->at->ask.query, among, want, out);
        return err == ORT_OK && s->at->kind == DP_STEP_ORDER ? leave_firsts(out) : err;
    }
}

/* Runs the prefetches of a step: lists[prefetch_count], the caller's to free with free_lists(). */
static ort_err
run_prefetches(dp_call *call, dp_plan *plan, const dp_plan__scope *s, dp_found_list **lists_out)
{
    const dp_plan__step *at = s->at;
    dp_found_list *lists = calloc(at->prefetch_count, sizeof *lists);
    ort_err err = lists != NULL ? ORT_OK : ORT_ENOMEM;
    for (size_t i = 0; err == ORT_OK && i < at->prefetch_count; i++) {
        const dp_plan__scope inner = {.outer = s, .at = &at->prefetch[i]};
        err = run_step(call, plan, &inner, dp_plan__bounded(at->prefetch[i].ask.query.limit),
                       &lists[i]);
    }
    *lists_out = lists;
    return err;
}

static void
free_lists(dp_found_list *lists, size_t count)
{
    for (size_t i = 0; lists != NULL && i < count; i++) {
        dp_found_list_fini(&lists[i]);
    }
    free(lists);
}

static ort_err
run_step(dp_call *call, dp_plan *plan, const dp_plan__scope *s, uint64_t want, dp_found_list *out)
{
    const dp_plan__step *at = s->at;
    const size_t count = at->prefetch_count;
    dp_found_list *lists = NULL, among = {0};

    if (count == 0) {
        return run_own(call, plan, s, NULL, want, out);
    }
    ort_err err = run_prefetches(call, plan, s, &lists);
    if (err == ORT_OK && (at->kind == DP_STEP_RRF || at->kind == DP_STEP_DBSF)) {
        err = fuse(call, at, lists, out);
        cut(at, want, out);
    } else if (err == ORT_OK && at->kind == DP_STEP_FORMULA) {
        err = dp_plan__run_formula(call, at, lists, out);
        cut(at, want, out);
    } else if (err == ORT_OK) {
        /* Fusing by rank is the shortest way to the set of them all. */
        err = dp_fuse_rrf(lists, count, 2, NULL, &among);
        if (err == ORT_OK && among.count > 0) {
            err = run_own(call, plan, s, &among, want, out);
        }
    }
    dp_found_list_fini(&among);
    free_lists(lists, count);
    return err;
}

/* --- the answer ------------------------------------------------------------------------------- */

typedef struct {
    dp_call *call;
    const dp_show *show;
    const dp_found *at, *end;
} shown_list;

/* Points come back in the order asked, some gone meanwhile. */
static ort_err
write_found(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    shown_list *list = ctx;
    ort_jw *w = &list->call->w;
    (void)query;

    while (list->at < list->end && !ort_point_id_eq(list->at->id, view->id)) {
        list->at++;
    }
    if (list->at == list->end) {
        return ORT_EINTERNAL;
    }
    ort_jw_object(w);
    ort_jw_key(w, "id");
    dp_point_id_write(w, view->id);
    ort_jw_key(w, "version");
    ort_jw_u64(w, view->version);
    ort_jw_key(w, "score");
    ort_jw_f32(w, list->at->score);
    const ort_err err = dp_point_write(view, schema, list->show, w, &list->call->diag);
    ort_jw_object_end(w);
    return err == ORT_OK ? dp_api__check_answer_size(list->call) : err;
}

ort_err
dp_plan__write_points(dp_call *call, const dp_show *show, const dp_found *found, size_t count)
{
    if (count == 0) {
        ort_jw_array(&call->w);
        ort_jw_array_end(&call->w);
        return ORT_OK;
    }
    shown_list list = {.call = call, .show = show, .at = found, .end = found + count};
    ort_point_id *ids = calloc(count, sizeof *ids);
    if (ids == NULL) {
        return ORT_ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        ids[i] = found[i].id;
    }
    ort_jw_array(&call->w);
    const ort_err err = dp_collection_retrieve(call->collection, ids, count,
                                               dp_payload_selector_wants(&show->payload),
                                               write_found, &list, &call->diag);
    ort_jw_array_end(&call->w);
    free(ids);
    return err;
}

ort_err
dp_plan__find(dp_call *call, dp_plan *plan, uint64_t want, dp_found_list *out)
{
    const dp_plan__scope root = {.at = &plan->root};
    const ort_err err = dp_plan__resolve(call, plan);
    return err == ORT_OK ? run_step(call, plan, &root, dp_plan__bounded(want), out) : err;
}

/* --- an answer in the order of a field ----------------------------------------------------------
 */

/* A point may stand there several times, so it is written as it is found. */
static ort_err
write_ordered(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    const shown_list *list = ctx;
    ort_jw *w = &list->call->w;
    (void)query;
    ort_jw_object(w);
    ort_jw_key(w, "id");
    dp_point_id_write(w, view->id);
    ort_jw_key(w, "version");
    ort_jw_u64(w, view->version);
    ort_jw_key(w, "score");
    ort_jw_f32(w, view->score);
    const ort_err err = dp_point_write(view, schema, list->show, w, &list->call->diag);
    dp_api__write_order_value(w, view->order);
    ort_jw_object_end(w);
    return err == ORT_OK ? dp_api__check_answer_size(list->call) : err;
}

static ort_err
ask_ordered(dp_call *call, const dp_plan *plan, const dp_found_list *among)
{
    const dp_plan__step *at = &plan->root;
    const dp_plan__scope root = {.at = at};
    shown_list list = {.call = call, .show = &at->ask.show};
    dp_query q = at->ask.query;
    dp_filter *filter = NULL;

    ort_err err = make_filter(call, plan, &root, among, true, &filter);
    if (err == ORT_OK) {
        q.filter = filter;
        err = dp_call_query(call, &q, 1, dp_payload_selector_wants(&at->ask.show.payload),
                            write_ordered, &list);
    }
    dp_filter_free(filter);
    return err;
}

static ort_err
answer_ordered(dp_call *call, dp_plan *plan)
{
    const dp_plan__scope root = {.at = &plan->root};
    const size_t count = plan->root.prefetch_count;
    dp_found_list *lists = NULL, among = {0};
    ort_err err = dp_plan__resolve(call, plan);

    if (err == ORT_OK && count > 0) {
        err = run_prefetches(call, plan, &root, &lists);
        err = err == ORT_OK ? dp_fuse_rrf(lists, count, 2, NULL, &among) : err;
        free_lists(lists, count);
    }
    ort_jw_array(&call->w);
    if (err == ORT_OK && (count == 0 || among.count > 0)) {
        err = ask_ordered(call, plan, count > 0 ? &among : NULL);
    }
    ort_jw_array_end(&call->w);
    dp_found_list_fini(&among);
    return err;
}

static ort_err
answer_found(dp_call *call, dp_plan *plan)
{
    const dp_query *q = &plan->root.ask.query;
    dp_found_list found = {0};
    /* Of points at random there is no page but the first. */
    const bool pages = plan->root.kind != DP_STEP_SAMPLE || plan->root.prefetch_count > 0;
    const uint64_t offset = pages ? dp_plan__bounded(q->offset) : 0;

    ort_err err = dp_plan__find(call, plan, dp_plan__bounded(q->limit) + offset, &found);
    if (err == ORT_OK) {
        const size_t from = offset < found.count ? (size_t)offset : found.count;
        const size_t count = found.count - from < q->limit ? found.count - from : (size_t)q->limit;
        /* An empty list has no items to point behind. */
        err = dp_plan__write_points(call, &plan->root.ask.show,
                                    count > 0 ? found.items + from : NULL, count);
    }
    dp_found_list_fini(&found);
    return err;
}

ort_err
dp_plan_answer(dp_call *call, dp_plan *plan, bool in_object)
{
    if (in_object) {
        ort_jw_object(&call->w);
        ort_jw_key(&call->w, "points");
    }
    const ort_err err =
        plan->root.kind == DP_STEP_ORDER ? answer_ordered(call, plan) : answer_found(call, plan);
    if (in_object) {
        ort_jw_object_end(&call->w);
    }
    return err;
}
