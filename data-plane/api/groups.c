/* Searches whose hits are gathered by a payload value: query/groups and search/groups.
 *
 * The best hits are asked for, four times as many each time, until the groups are full or there are
 * no more: what a group misses stands further down the list. The work is bounded by
 * DP_PLAN_POINTS_MAX hits. */
#include <stdlib.h>
#include <string.h>

#include "api/plan_internal.h"
#include "base/limits.h"
#include "base/map.h"
#include "filter/path.h"

typedef struct {
    char *value; /* as JSON: a string or an integer */
    size_t value_len;
    dp_found_list hits;
} group;

typedef struct {
    dp_call *call;
    dp_path *path;
    uint64_t limit, size;

    const dp_found_list *found; /* the hits being dealt out, best first */
    size_t at;
    group *groups;
    size_t count;
    ort_map *by_value; /* value → 1 + index */
    size_t full;
    ort_err err;
} grouping;

static void
forget_groups(grouping *g)
{
    for (size_t i = 0; i < g->count; i++) {
        free(g->groups[i].value);
        dp_found_list_fini(&g->groups[i].hits);
    }
    g->count = 0;
    g->full = 0;
    g->at = 0;
    ort_map_free(g->by_value, NULL);
    g->by_value = NULL;
}

/* One value of one hit. Only strings and integers name groups. */
static bool
take_value(grouping *g, ort_json v)
{
    size_t len;
    const char *raw = ort_json_raw(v, &len);
    const ort_json_type type = ort_json_type_of(v);

    if (type != ORT_JSON_STRING && !ort_json_is_integer(v)) {
        return true;
    }
    size_t i = (size_t)(uintptr_t)ort_map_get(g->by_value, raw, len);
    if (i == 0) {
        if (g->count == g->limit) {
            return true;
        }
        char *copy = strndup(raw, len);
        if (copy == NULL ||
            ort_map_set(g->by_value, raw, len, (void *)(uintptr_t)(g->count + 1), NULL) != ORT_OK) {
            free(copy);
            g->err = ORT_ENOMEM;
            return false;
        }
        g->groups[g->count++] = (group){.value = copy, .value_len = len};
        i = g->count;
    }
    group *to = &g->groups[i - 1];
    /* A value that stands twice in one payload is one hit. */
    if (to->hits.count < g->size &&
        (to->hits.count == 0 ||
         !ort_point_id_eq(to->hits.items[to->hits.count - 1].id, g->found->items[g->at].id))) {
        g->err = dp_found_list_add(&to->hits, g->found->items[g->at]);
        g->full += g->err == ORT_OK && to->hits.count == g->size;
    }
    return g->err == ORT_OK;
}

static bool
visit_value(void *ctx, ort_json v)
{
    if (ort_json_type_of(v) != ORT_JSON_ARRAY) {
        return take_value(ctx, v);
    }
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
        if (!take_value(ctx, it.value)) {
            return false;
        }
    }
    return true;
}

static ort_err
deal_out(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    grouping *g = ctx;
    ort_json_doc *doc = NULL;
    (void)query;
    (void)schema;

    while (g->at < g->found->count && !ort_point_id_eq(g->found->items[g->at].id, view->id)) {
        g->at++;
    }
    if (g->at == g->found->count) {
        return ORT_EINTERNAL;
    }
    if (view->payload_len == 0) {
        return ORT_OK;
    }
    const ort_err err = ort_json_parse(&doc, view->payload, view->payload_len, (ort_json_limits){0},
                                       &g->call->diag);
    if (err != ORT_OK) {
        return err == ORT_ENOMEM ? err : ORT_ECORRUPT;
    }
    dp_path_each(g->path, ort_json_root(doc), visit_value, g);
    ort_json_free(doc);
    return g->err;
}

static ort_err
gather(grouping *g, const dp_found_list *found)
{
    ort_point_id *ids = calloc(found->count + 1, sizeof *ids);
    ort_err err = ids != NULL ? ort_map_new(&g->by_value) : ORT_ENOMEM;

    g->found = found;
    for (size_t i = 0; err == ORT_OK && i < found->count; i++) {
        ids[i] = found->items[i].id;
    }
    if (err == ORT_OK && found->count > 0) {
        err = dp_collection_retrieve(g->call->collection, ids, found->count, true, deal_out, g,
                                     &g->call->diag);
    }
    g->found = NULL;
    free(ids);
    return err;
}

static ort_err
find_groups(grouping *g, dp_plan *plan)
{
    for (uint64_t want = g->limit * g->size * 2;; want *= 4) {
        dp_found_list found = {0};
        want = dp_plan__bounded(want);
        ort_err err = dp_plan__find(g->call, plan, want, &found);
        if (err == ORT_OK) {
            err = gather(g, &found);
        }
        const bool complete =
            g->full == g->limit || found.count < want || want == DP_PLAN_POINTS_MAX;
        dp_found_list_fini(&found);
        if (err != ORT_OK || complete) {
            return err;
        }
        forget_groups(g);
    }
}

/* --- lookup: the point of another collection that is named like the group ----------------------
 */

typedef struct {
    char *name;
    dp_show show;
    dp_collection *collection;
} lookup;

static ort_err
parse_lookup(dp_call *call, ort_json v, lookup *out)
{
    const bool object = ort_json_type_of(v) == ORT_JSON_OBJECT;
    size_t len;
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    const char *name = ort_json_str(object ? ort_json_get(v, "collection") : v, &len);
    if (name == NULL) {
        return dp_call_bad_type(call, "with_lookup", v, "a collection's name");
    }
    /* The name stands in the body, so the gate has not seen it. */
    if (!dp_gate_covers(&call->pass, name, len)) {
        return ort_fail(&call->diag, ORT_EDENIED, "this API key is limited to other collections");
    }
    out->name = strndup(name, len);
    if (out->name == NULL) {
        return ORT_ENOMEM;
    }
    if (dp_tenant_use(call->pass.tenant, name, len, &out->collection, NULL) != ORT_OK) {
        return ort_fail(&call->diag, ORT_ENOTFOUND, "Collection %s not found", out->name);
    }
    ort_err err = dp_payload_selector_parse(&out->show.payload, ort_json_get(v, "with_payload"),
                                            true, &call->diag);
    if (err == ORT_OK) {
        dp_schema *schema = dp_collection_schema(out->collection);
        err = dp_vector_selector_parse(&out->show.vectors, schema, ort_json_get(v, "with_vectors"),
                                       false, &call->diag);
        dp_schema_unref(schema);
    }
    return err;
}

typedef struct {
    dp_call *call;
    const lookup *from;
    bool found;
} lookup_one;

static ort_err
write_looked_up(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    lookup_one *one = ctx;
    ort_jw *w = &one->call->w;
    (void)query;
    one->found = true;
    ort_jw_key(w, "lookup");
    ort_jw_object(w);
    ort_jw_key(w, "id");
    dp_point_id_write(w, view->id);
    const ort_err err = dp_point_write(view, schema, &one->from->show, w, &one->call->diag);
    ort_jw_object_end(w);
    return err;
}

static ort_err
write_lookup(dp_call *call, const lookup *from, const group *g)
{
    lookup_one one = {.call = call, .from = from};
    ort_json_doc *doc = NULL;
    ort_point_id id;
    ort_err err = ORT_OK;

    if (from->collection == NULL ||
        ort_json_parse(&doc, g->value, g->value_len, (ort_json_limits){0}, NULL) != ORT_OK) {
        return ORT_OK;
    }
    /* A value that is no id has no point. */
    if (dp_point_id_read(ort_json_root(doc), &id, NULL) == ORT_OK) {
        err = dp_collection_retrieve(from->collection, &id, 1, true, write_looked_up, &one,
                                     &call->diag);
    }
    ort_json_free(doc);
    return err;
}

/* --- requests and answers ----------------------------------------------------------------------
 */

static ort_err
parse_grouping(dp_call *call, ort_json body, grouping *g)
{
    const ort_json by = ort_json_get(body, "group_by");
    size_t len;

    g->size = 3;
    g->limit = 10;
    if (!ort_json_given(by)) {
        return dp_call_missing(call, "group_by");
    }
    if (ort_json_type_of(by) != ORT_JSON_STRING) {
        return dp_call_bad_type(call, "group_by", by, "a string");
    }
    const char *text = ort_json_str(by, &len);
    if (text == NULL) {
        return ORT_ENOMEM;
    }
    ort_err err = dp_path_parse(&g->path, text, len, &call->diag);
    if (err == ORT_OK) {
        err = dp_call_get_u64(call, body, "group_size", &g->size);
    }
    if (err == ORT_OK) {
        err = dp_call_get_u64(call, body, "limit", &g->limit);
    }
    if (err == ORT_OK && (g->size == 0 || g->limit == 0)) {
        err = ort_fail(&call->diag, ORT_EVALIDATE, "%s: value 0 invalid, must be 1 or larger",
                       g->size == 0 ? "group_size" : "limit");
    }
    /* As elsewhere, a huge number is a bound and no allocation. */
    g->limit = dp_plan__bounded(g->limit);
    g->size = dp_plan__bounded(g->size);
    return err;
}

static ort_err
write_groups(grouping *g, const dp_show *show, const lookup *from)
{
    dp_call *call = g->call;
    ort_jw *w = &call->w;
    ort_err err = ORT_OK;

    ort_jw_object(w);
    ort_jw_key(w, "groups");
    ort_jw_array(w);
    for (size_t i = 0; err == ORT_OK && i < g->count; i++) {
        const group *one = &g->groups[i];
        ort_jw_object(w);
        ort_jw_key(w, "id");
        ort_jw_raw(w, one->value, one->value_len);
        ort_jw_key(w, "hits");
        err = dp_plan__write_points(call, show, one->hits.items, one->hits.count);
        if (err == ORT_OK) {
            err = write_lookup(call, from, one);
        }
        ort_jw_object_end(w);
    }
    ort_jw_array_end(w);
    ort_jw_object_end(w);
    return err;
}

static ort_err
run_groups(dp_call *call, ort_err (*parse)(dp_plan **out, dp_call *call, ort_json body))
{
    ort_json body;
    dp_plan *plan = NULL;
    grouping g = {.call = call};
    lookup from = {0};

    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK) {
        err = dp_call_body(call, false, &body);
    }
    if (err == ORT_OK) {
        err = dp_call_use_collection(call);
    }
    if (err == ORT_OK) {
        err = parse_grouping(call, body, &g);
    }
    if (err == ORT_OK) {
        err = parse(&plan, call, body);
    }
    if (err == ORT_OK) {
        err = parse_lookup(call, ort_json_get(body, "with_lookup"), &from);
    }
    if (err == ORT_OK) {
        g.groups = calloc(g.limit + 1, sizeof *g.groups);
        err = g.groups != NULL ? find_groups(&g, plan) : ORT_ENOMEM;
    }
    if (err == ORT_OK) {
        err = write_groups(&g, &plan->root.ask.show, &from);
    }
    forget_groups(&g);
    free(g.groups);
    dp_path_free(g.path);
    dp_tenant_release(call->pass.tenant, from.collection);
    dp_show_fini(&from.show);
    free(from.name);
    dp_plan_free(plan);
    return err;
}

ort_err
dp_api__query_groups(dp_call *call)
{
    return run_groups(call, dp_plan_parse);
}

ort_err
dp_api__search_groups(dp_call *call)
{
    return run_groups(call, dp_plan_parse_search);
}

ort_err
dp_api__recommend_groups(dp_call *call)
{
    return run_groups(call, dp_plan_parse_recommend);
}
