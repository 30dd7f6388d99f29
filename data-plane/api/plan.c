/* Requests of several steps, parsed into a tree. */
#include "api/plan.h"

#include <stdlib.h>
#include <string.h>

#include "api/plan_internal.h"
#include "base/limits.h"

bool
dp_plan_needed(ort_json body)
{
    const ort_json prefetch = ort_json_get(body, "prefetch");
    const ort_json query = ort_json_get(body, "query");

    if (ort_json_given(ort_json_get(body, "lookup_from"))) {
        return true;
    }
    if (ort_json_given(prefetch) &&
        (ort_json_type_of(prefetch) != ORT_JSON_ARRAY || ort_json_count(prefetch) > 0)) {
        return true;
    }
    if (ort_json_type_of(query) != ORT_JSON_OBJECT) {
        return false;
    }
    if (ort_json_given(ort_json_get(query, "nearest"))) {
        return ort_json_given(ort_json_get(query, "mmr"));
    }
    /* {indices, values} and what a model would read are vectors; every other object is a form. */
    return !ort_json_given(ort_json_get(query, "indices")) &&
           !ort_json_given(ort_json_get(query, "model"));
}

/* --- parsing --------------------------------------------------------------------------------- */

static void
step_fini(dp_plan__step *s)
{
    dp_api__ask_fini(&s->ask);
    dp_api__order_fini(&s->order);
    dp_formula_free(s->formula);
    dp_plan__inputs_fini(s);
    free(s->weights);
    if (s->lookup.collection != NULL) {
        dp_tenant_release(s->lookup.tenant, s->lookup.collection);
    }
    free(s->lookup.vector);
    for (size_t i = 0; i < s->prefetch_count; i++) {
        step_fini(&s->prefetch[i]);
    }
    free(s->prefetch);
}

void
dp_plan_free(dp_plan *plan)
{
    if (plan != NULL) {
        step_fini(&plan->root);
        free(plan->excluded);
        free(plan);
    }
}

ort_err
dp_plan__exclude(dp_plan *plan, ort_point_id id)
{
    if (plan->excluded_count == plan->excluded_cap) {
        const uint32_t cap = plan->excluded_cap == 0 ? 16 : plan->excluded_cap * 2;
        ort_point_id *grown = realloc(plan->excluded, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        plan->excluded = grown;
        plan->excluded_cap = cap;
    }
    plan->excluded[plan->excluded_count++] = id;
    return ORT_OK;
}

static int
compare_ids(const void *a, const void *b)
{
    return ort_point_id_cmp(*(const ort_point_id *)a, *(const ort_point_id *)b);
}

/* As the collection wants them. */
static void
sort_excluded(dp_plan *plan)
{
    uint32_t n = 0;
    if (plan->excluded_count > 1) {
        qsort(plan->excluded, plan->excluded_count, sizeof *plan->excluded, compare_ids);
    }
    for (uint32_t i = 0; i < plan->excluded_count; i++) {
        if (i == 0 || !ort_point_id_eq(plan->excluded[i], plan->excluded[n - 1])) {
            plan->excluded[n++] = plan->excluded[i];
        }
    }
    plan->excluded_count = n;
}

/* A name of the body, to be ended with NUL. */
static ort_err
take_name(dp_call *call, const char *key, ort_json v, char **out)
{
    size_t len;
    const char *text = ort_json_str(v, &len);
    if (text == NULL) {
        return dp_call_bad_type(call, key, v, "a string");
    }
    *out = strndup(text, len);
    return *out != NULL ? ORT_OK : ORT_ENOMEM;
}

/* {"collection": name, "vector": name?}. The tenant's own, and only what the key reaches: the name
 * stands in the body, so the gate has not seen it. */
static ort_err
parse_lookup(dp_call *call, dp_plan__step *s, ort_json v)
{
    const ort_json name = ort_json_get(v, "collection"), vector = ort_json_get(v, "vector");
    size_t len;
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return dp_call_bad_type(call, "lookup_from", v, "struct LookupLocation");
    }
    const char *text = ort_json_str(name, &len);
    if (text == NULL) {
        return dp_call_bad_type(call, "lookup_from.collection", name, "a string");
    }
    if (!dp_gate_covers(&call->pass, text, len)) {
        return ort_fail(&call->diag, ORT_EDENIED, "this API key is limited to other collections");
    }
    s->lookup.tenant = call->pass.tenant;
    if (dp_tenant_use(call->pass.tenant, text, len, &s->lookup.collection, NULL) != ORT_OK) {
        s->lookup.collection = NULL;
        return ort_fail(&call->diag, ORT_ENOTFOUND, "Collection %.*s not found",
                        (int)(len > 255 ? 255 : len), text);
    }
    return ort_json_given(vector) ? take_name(call, "lookup_from.vector", vector, &s->lookup.vector)
                                  : ORT_OK;
}

/* No point that the request names is answered; points of other collections are none of it. */
static ort_err
exclude_inputs(dp_call *call, dp_plan *plan, const dp_plan__step *s)
{
    ort_err err = ORT_OK;
    for (uint32_t i = 0; err == ORT_OK && i < s->input_count; i++) {
        if (s->inputs[i].by_id && dp_plan__names_own_points(call, s)) {
            err = dp_plan__exclude(plan, s->inputs[i].id);
        }
    }
    return err;
}

static ort_err parse_step(dp_call *call, dp_plan *plan, dp_plan__step *s, ort_json body,
                          uint32_t depth);

static ort_err
parse_prefetches(dp_call *call, dp_plan *plan, dp_plan__step *s, ort_json v, uint32_t depth)
{
    const bool list = ort_json_type_of(v) == ORT_JSON_ARRAY;
    const size_t count = !ort_json_given(v) ? 0 : list ? ort_json_count(v) : 1;

    if (count == 0) {
        return ORT_OK;
    }
    if (depth >= ORT_PREFETCH_DEPTH_MAX) {
        return ort_fail(&call->diag, ORT_EBADREQ, "prefetches are nested deeper than %u",
                        ORT_PREFETCH_DEPTH_MAX);
    }
    if (plan->steps + count > DP_PLAN_STEPS_MAX) {
        return ort_fail(&call->diag, ORT_EBADREQ, "more than %u prefetches in one request",
                        DP_PLAN_STEPS_MAX);
    }
    s->prefetch = calloc(count, sizeof *s->prefetch);
    if (s->prefetch == NULL) {
        return ORT_ENOMEM;
    }
    s->prefetch_count = count;
    if (!list) {
        return parse_step(call, plan, &s->prefetch[0], v, depth + 1);
    }
    ort_err err = ORT_OK;
    size_t i = 0;
    for (ort_json_iter it = ort_json_each(v); err == ORT_OK && ort_json_step(&it); i++) {
        err = parse_step(call, plan, &s->prefetch[i], it.value, depth + 1);
    }
    return err;
}

static ort_err
parse_step(dp_call *call, dp_plan *plan, dp_plan__step *s, ort_json body, uint32_t depth)
{
    plan->steps++;
    s->ask.query.limit = 10;
    s->filter = ort_json_get(body, "filter");
    if (ort_json_type_of(body) != ORT_JSON_OBJECT) {
        return dp_call_bad_type(call, "prefetch", body, "struct Prefetch");
    }
    ort_err err = parse_prefetches(call, plan, s, ort_json_get(body, "prefetch"), depth);
    if (err == ORT_OK) {
        err = parse_lookup(call, s, ort_json_get(body, "lookup_from"));
    }
    if (err == ORT_OK) {
        err = dp_api__ask_using(call, &s->ask, "using", ort_json_get(body, "using"));
    }
    if (err == ORT_OK) {
        err = dp_call_get_u64(call, body, "limit", &s->ask.query.limit);
    }
    if (err == ORT_OK) {
        err = dp_plan__parse_query(call, s, ort_json_get(body, "query"));
    }
    if (err == ORT_OK) {
        err = dp_api__ask_common(call, &s->ask, body);
    }
    if (err == ORT_OK) {
        err = dp_api__ask_check_threshold(
            call, &s->ask, ort_json_given(ort_json_get(body, "query")), s->kind == DP_STEP_ORDER);
    }
    return err == ORT_OK ? exclude_inputs(call, plan, s) : err;
}

ort_err
dp_plan_parse(dp_plan **out, dp_call *call, ort_json body)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) {
        return ORT_ENOMEM;
    }
    ort_err err = parse_step(call, *out, &(*out)->root, body, 0);
    sort_excluded(*out);
    if (err != ORT_OK) {
        dp_plan_free(*out);
        *out = NULL;
    }
    return err;
}

/* What the older calls have in common: their members stand in the body itself. */
static ort_err
parse_old(dp_call *call, dp_plan *plan, ort_json body,
          ort_err (*form)(dp_call *call, dp_plan__step *s, ort_json v))
{
    dp_plan__step *s = &plan->root;
    ort_json limit = ort_json_get(body, "limit");
    if (!ort_json_given(limit)) {
        limit = ort_json_get(body, "top");
    }
    if (!ort_json_given(limit)) {
        return dp_call_missing(call, "limit");
    }
    if (ort_json_u64(limit, &s->ask.query.limit) != ORT_OK) {
        return dp_call_bad_type(call, "limit", limit, "usize");
    }
    s->filter = ort_json_get(body, "filter");
    ort_err err = parse_lookup(call, s, ort_json_get(body, "lookup_from"));
    if (err == ORT_OK) {
        err = dp_api__ask_using(call, &s->ask, "using", ort_json_get(body, "using"));
    }
    if (err == ORT_OK) {
        err = form(call, s, body);
    }
    if (err == ORT_OK) {
        err = exclude_inputs(call, plan, s);
    }
    return err == ORT_OK ? dp_api__ask_common(call, &s->ask, body) : err;
}

static ort_err
new_old(dp_plan **out, dp_call *call, ort_json body,
        ort_err (*form)(dp_call *call, dp_plan__step *s, ort_json v))
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) {
        return ORT_ENOMEM;
    }
    ort_err err = parse_old(call, *out, body, form);
    sort_excluded(*out);
    if (err != ORT_OK) {
        dp_plan_free(*out);
        *out = NULL;
    }
    return err;
}

/* {positive, negative, strategy, ...} */
static ort_err
old_recommend(dp_call *call, dp_plan__step *s, ort_json body)
{
    return dp_plan__parse_recommend(call, s, body, true);
}

/* {target, context, ...}: without a target the context alone is searched for. */
static ort_err
old_discover(dp_call *call, dp_plan__step *s, ort_json body)
{
    const ort_json target = ort_json_get(body, "target"), context = ort_json_get(body, "context");
    if (ort_json_given(target)) {
        return dp_plan__parse_discover(call, s, body);
    }
    if (ort_json_count(context) == 0) {
        return ort_fail(&call->diag, ORT_EBADREQ, "target and/or context_pairs must be specified");
    }
    return dp_plan__parse_context(call, s, context);
}

ort_err
dp_plan_parse_recommend(dp_plan **out, dp_call *call, ort_json body)
{
    return new_old(out, call, body, old_recommend);
}

ort_err
dp_plan_parse_discover(dp_plan **out, dp_call *call, ort_json body)
{
    return new_old(out, call, body, old_discover);
}

ort_err
dp_plan_parse_search(dp_plan **out, dp_call *call, ort_json body)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) {
        return ORT_ENOMEM;
    }
    (*out)->root.filter = ort_json_get(body, "filter");
    const ort_err err = dp_api__ask_search(call, &(*out)->root.ask, body);
    if (err != ORT_OK) {
        dp_plan_free(*out);
        *out = NULL;
    }
    return err;
}
