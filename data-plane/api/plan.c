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
    free(s->weights);
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
        ort_buf_fini(&plan->excluded);
        free(plan);
    }
}

void
dp_plan__exclude(dp_plan *plan, ort_point_id id)
{
    ort_jw w = {.buf = &plan->excluded, .comma = plan->excluded.len > 0};
    dp_point_id_write(&w, id);
}

static ort_err
parse_weights(dp_call *call, dp_plan__step *s, ort_json v)
{
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    const uint32_t count = ort_json_count(v);
    if (ort_json_type_of(v) != ORT_JSON_ARRAY) {
        return dp_call_bad_type(call, "rrf.weights", v, "a sequence");
    }
    if (count != s->prefetch_count) {
        return ort_fail(&call->diag, ORT_EINVAL,
                        "RRF weights must match prefetches: %u weights, %zu "
                        "prefetches",
                        count, s->prefetch_count);
    }
    s->weights = calloc(count + 1u, sizeof *s->weights);
    if (s->weights == NULL) {
        return ORT_ENOMEM;
    }
    size_t i = 0;
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it); i++) {
        if (ort_json_f64(it.value, &s->weights[i]) != ORT_OK) {
            return dp_call_bad_type(call, "rrf.weights", it.value, "f32");
        }
        if (s->weights[i] < 0) {
            return ort_fail(&call->diag, ORT_EVALIDATE, "query.rrf.weights: must not be negative");
        }
    }
    return ORT_OK;
}

/* {"fusion":"rrf"|"dbsf"} and {"rrf":{k,weights}} */
static ort_err
parse_fusion(dp_call *call, dp_plan__step *s, ort_json fusion, ort_json rrf)
{
    uint64_t k = 2;
    s->kind = DP_STEP_RRF;
    if (s->prefetch_count == 0) {
        return ort_fail(&call->diag, ORT_EINVAL, "cannot apply Fusion without prefetches");
    }
    if (s->ask.using_name != NULL && s->ask.using_name[0] != '\0') {
        return ort_fail(&call->diag, ORT_EINVAL,
                        "Fusion queries cannot be combined with the 'using' field.");
    }
    if (ort_json_given(fusion)) {
        if (ort_json_str_is(fusion, "dbsf")) {
            s->kind = DP_STEP_DBSF;
        } else if (!ort_json_str_is(fusion, "rrf")) {
            return dp_call_bad_type(call, "query.fusion", fusion, "`rrf` or `dbsf`");
        }
    } else if (ort_json_type_of(rrf) != ORT_JSON_OBJECT) {
        return dp_call_bad_type(call, "query.rrf", rrf, "struct Rrf");
    }
    ort_err err = dp_call_get_u64(call, rrf, "k", &k);
    if (err == ORT_OK && k == 0) {
        err = ort_fail(&call->diag, ORT_EVALIDATE,
                       "query.rrf.k: value 0 invalid, must be 1 or larger");
    }
    s->rrf_k = (double)k;
    return err == ORT_OK ? parse_weights(call, s, ort_json_get(rrf, "weights")) : err;
}

static ort_err
parse_mmr(dp_call *call, dp_plan__step *s, ort_json mmr)
{
    const ort_json diversity = ort_json_get(mmr, "diversity");
    s->kind = DP_STEP_MMR;
    s->diversity = 0.5F;
    s->candidates = s->ask.query.limit;
    if (ort_json_type_of(mmr) != ORT_JSON_OBJECT) {
        return dp_call_bad_type(call, "query.mmr", mmr, "struct Mmr");
    }
    if (ort_json_given(diversity) && ort_json_f32(diversity, &s->diversity) != ORT_OK) {
        return dp_call_bad_type(call, "query.mmr.diversity", diversity, "f32");
    }
    if (!(s->diversity >= 0 && s->diversity <= 1)) {
        return ort_fail(&call->diag, ORT_EVALIDATE,
                        "query.mmr.diversity: must be between 0.0 and 1.0");
    }
    return dp_call_get_u64(call, mmr, "candidates_limit", &s->candidates);
}

static ort_err
parse_recommend(dp_call *call, dp_plan__step *s, ort_json v)
{
    const ort_json strategy = ort_json_get(v, "strategy");
    s->kind = DP_STEP_RECOMMEND;
    s->positive = ort_json_get(v, "positive");
    s->negative = ort_json_get(v, "negative");
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return dp_call_bad_type(call, "query.recommend", v, "struct RecommendInput");
    }
    if (ort_json_given(strategy) && !ort_json_str_is(strategy, "average_vector")) {
        if (ort_json_str_is(strategy, "best_score") || ort_json_str_is(strategy, "sum_scores")) {
            return ort_fail(
                &call->diag, ORT_ENOTIMPL,
                "recommend with strategy `best_score` or `sum_scores` is not built yet");
        }
        return dp_call_bad_type(call, "query.recommend.strategy", strategy,
                                "`average_vector`, `best_score` or `sum_scores`");
    }
    if (ort_json_given(s->positive) && ort_json_type_of(s->positive) != ORT_JSON_ARRAY) {
        return dp_call_bad_type(call, "query.recommend.positive", s->positive, "a sequence");
    }
    if (ort_json_given(s->negative) && ort_json_type_of(s->negative) != ORT_JSON_ARRAY) {
        return dp_call_bad_type(call, "query.recommend.negative", s->negative, "a sequence");
    }
    if (ort_json_count(s->positive) == 0) {
        return ort_fail(&call->diag, ORT_EVALIDATE,
                        "query.recommend: at least one positive example is needed");
    }
    return ORT_OK;
}

static ort_err
parse_query_form(dp_call *call, dp_plan__step *s, ort_json v)
{
    static const char *const later[] = {"discover", "context", "order_by",
                                        "formula",  "sample",  "relevance_feedback"};

    if (!ort_json_given(v)) {
        return s->prefetch_count == 0
                   ? ORT_OK
                   : ort_fail(&call->diag, ORT_EBADREQ,
                              "A query is needed to merge the prefetches. Can't have prefetches "
                              "without defining a query.");
    }
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (ort_json_given(ort_json_get(v, later[i]))) {
            return ort_fail(&call->diag, ORT_ENOTIMPL, "query `%s` is not built yet", later[i]);
        }
    }
    const ort_json fusion = ort_json_get(v, "fusion"), rrf = ort_json_get(v, "rrf");
    if (ort_json_given(fusion) || ort_json_given(rrf)) {
        return parse_fusion(call, s, fusion, rrf);
    }
    const ort_json recommend = ort_json_get(v, "recommend");
    if (ort_json_given(recommend)) {
        return parse_recommend(call, s, recommend);
    }
    const ort_json nearest = ort_json_get(v, "nearest"), mmr = ort_json_get(v, "mmr");
    const ort_err err = dp_api__ask_nearest(call, &s->ask, ort_json_given(nearest) ? nearest : v);
    return err == ORT_OK && ort_json_given(mmr) ? parse_mmr(call, s, mmr) : err;
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
    if (ort_json_given(ort_json_get(body, "lookup_from"))) {
        return ort_fail(&call->diag, ORT_ENOTIMPL, "query with `lookup_from` is not built yet");
    }
    ort_err err = parse_prefetches(call, plan, s, ort_json_get(body, "prefetch"), depth);
    if (err == ORT_OK) {
        err = dp_api__ask_using(call, &s->ask, "using", ort_json_get(body, "using"));
    }
    if (err == ORT_OK) {
        err = dp_call_get_u64(call, body, "limit", &s->ask.query.limit);
    }
    if (err == ORT_OK) {
        err = parse_query_form(call, s, ort_json_get(body, "query"));
    }
    if (err == ORT_OK) {
        err = dp_api__ask_common(call, &s->ask, body);
    }
    if (err == ORT_OK && s->ask.query.kind == DP_QUERY_ID) {
        dp_plan__exclude(plan, s->ask.query.id);
    }
    return err;
}

ort_err
dp_plan_parse(dp_plan **out, dp_call *call, ort_json body)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) {
        return ORT_ENOMEM;
    }
    ort_err err = parse_step(call, *out, &(*out)->root, body, 0);
    if (err == ORT_OK) {
        err = ort_buf_check(&(*out)->excluded);
    }
    if (err != ORT_OK) {
        dp_plan_free(*out);
        *out = NULL;
    }
    return err;
}

/* {positive, negative, strategy, using, limit | top, ...}: the members of `recommend` stand in the
 * body itself. */
static ort_err
parse_old_recommend(dp_call *call, dp_plan__step *s, ort_json body)
{
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
    if (ort_json_given(ort_json_get(body, "lookup_from"))) {
        return ort_fail(&call->diag, ORT_ENOTIMPL, "recommend with `lookup_from` is not built yet");
    }
    s->filter = ort_json_get(body, "filter");
    ort_err err = dp_api__ask_using(call, &s->ask, "using", ort_json_get(body, "using"));
    if (err == ORT_OK) {
        err = parse_recommend(call, s, body);
    }
    return err == ORT_OK ? dp_api__ask_common(call, &s->ask, body) : err;
}

ort_err
dp_plan_parse_recommend(dp_plan **out, dp_call *call, ort_json body)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) {
        return ORT_ENOMEM;
    }
    const ort_err err = parse_old_recommend(call, &(*out)->root, body);
    if (err != ORT_OK) {
        dp_plan_free(*out);
        *out = NULL;
    }
    return err;
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
