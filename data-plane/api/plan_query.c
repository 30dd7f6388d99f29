/* `query` of a step, in each of its forms. */
#include <stdlib.h>
#include <string.h>

#include "api/plan_internal.h"
#include "base/limits.h"

/* --- fusion and diversity ----------------------------------------------------------------------
 */

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
        return ort_fail(&call->diag, ORT_EBADREQ, "cannot apply Fusion without prefetches");
    }
    if (s->ask.using_name != NULL && s->ask.using_name[0] != '\0') {
        return ort_fail(&call->diag, ORT_EBADREQ,
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
    const ort_err err = dp_call_get_u64(call, mmr, "candidates_limit", &s->candidates);
    if (err == ORT_OK && ort_json_given(ort_json_get(mmr, "candidates_limit")) &&
        s->candidates > DP_PLAN_POINTS_MAX) {
        return ort_fail(&call->diag, ORT_EVALIDATE,
                        "query.mmr.candidates_limit: value %llu invalid, must be %u or smaller",
                        (unsigned long long)s->candidates, DP_PLAN_POINTS_MAX);
    }
    return err == ORT_OK && s->candidates == 0 && s->ask.query.limit > 0
               ? ort_fail(&call->diag, ORT_EVALIDATE,
                          "query.mmr.candidates_limit: value 0 invalid, must be 1 or larger")
               : err;
}

/* --- examples ----------------------------------------------------------------------------------
 */

static ort_err
check_example_count(dp_call *call, uint64_t count)
{
    return count <= DP_EXAMPLES_MAX
               ? ORT_OK
               : ort_fail(&call->diag, ORT_EBADREQ, "%llu examples, at most %u are allowed",
                          (unsigned long long)count, DP_EXAMPLES_MAX);
}

static ort_err
parse_inputs(dp_call *call, dp_plan__step *s, uint32_t *at, ort_json list)
{
    ort_err err = ORT_OK;
    for (ort_json_iter it = ort_json_each(list); err == ORT_OK && ort_json_step(&it);) {
        err = dp_plan__input_parse(call, &s->inputs[(*at)++], it.value);
    }
    return err;
}

static ort_err
parse_strategy(dp_call *call, dp_plan__step *s, ort_json v)
{
    s->kind = DP_STEP_EXAMPLES;
    if (ort_json_str_is(v, "best_score")) {
        s->examples = DP_EXAMPLES_BEST;
    } else if (ort_json_str_is(v, "sum_scores")) {
        s->examples = DP_EXAMPLES_SUM;
    } else if (!ort_json_given(v) || ort_json_str_is(v, "average_vector")) {
        s->kind = DP_STEP_RECOMMEND;
    } else {
        return dp_call_bad_type(call, "strategy", v,
                                "`average_vector`, `best_score` or `sum_scores`");
    }
    return ORT_OK;
}

/* The older call says these things with 400, and in other words. */
static ort_err
check_recommend(dp_call *call, const dp_plan__step *s, bool old_form)
{
    if (s->kind == DP_STEP_RECOMMEND && s->positive_count == 0) {
        return old_form ? ort_fail(&call->diag, ORT_EBADREQ,
                                   "At least one positive vector ID required with this strategy")
                        : ort_fail(&call->diag, ORT_EVALIDATE,
                                   "query.recommend: at least one positive example is needed");
    }
    if (s->positive_count + s->negative_count == 0) {
        return old_form
                   ? ort_fail(&call->diag, ORT_EBADREQ,
                              "At least one positive or negative vector ID required with this "
                              "strategy")
                   : ort_fail(
                         &call->diag, ORT_EVALIDATE,
                         "query.positives, negatives: At least one positive or negative vector/id "
                         "must be provided");
    }
    return ORT_OK;
}

ort_err
dp_plan__parse_recommend(dp_call *call, dp_plan__step *s, ort_json v, bool old_form)
{
    const ort_json positive = ort_json_get(v, "positive"), negative = ort_json_get(v, "negative");
    uint32_t at = 0;
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return dp_call_bad_type(call, "query.recommend", v, "struct RecommendInput");
    }
    if (ort_json_given(positive) && ort_json_type_of(positive) != ORT_JSON_ARRAY) {
        return dp_call_bad_type(call, "positive", positive, "a sequence");
    }
    if (ort_json_given(negative) && ort_json_type_of(negative) != ORT_JSON_ARRAY) {
        return dp_call_bad_type(call, "negative", negative, "a sequence");
    }
    s->positive_count = ort_json_count(positive);
    s->negative_count = ort_json_count(negative);
    ort_err err = parse_strategy(call, s, ort_json_get(v, "strategy"));
    if (err == ORT_OK) {
        err = check_recommend(call, s, old_form);
    }
    if (err == ORT_OK) {
        err = check_example_count(call, (uint64_t)s->positive_count + s->negative_count);
    }
    if (err == ORT_OK) {
        err = dp_plan__inputs_new(s, s->positive_count + s->negative_count);
    }
    err = err == ORT_OK ? parse_inputs(call, s, &at, positive) : err;
    return err == ORT_OK ? parse_inputs(call, s, &at, negative) : err;
}

/* One pair. */
static ort_err
parse_pair(dp_call *call, dp_plan__step *s, uint32_t pair, ort_json v)
{
    const ort_json positive = ort_json_get(v, "positive"), negative = ort_json_get(v, "negative");
    const uint32_t first = s->has_target ? 1 : 0;
    if (!ort_json_given(positive) || !ort_json_given(negative)) {
        return dp_call_missing(call, ort_json_given(positive) ? "negative" : "positive");
    }
    const ort_err err = dp_plan__input_parse(call, &s->inputs[first + pair], positive);
    return err == ORT_OK
               ? dp_plan__input_parse(call, &s->inputs[first + s->positive_count + pair], negative)
               : err;
}

/* The pairs of a context, one or many, behind the target if there is one. */
static ort_err
parse_pairs(dp_call *call, dp_plan__step *s, ort_json target, ort_json v)
{
    const bool one = ort_json_type_of(v) == ORT_JSON_OBJECT;
    const uint32_t count = !ort_json_given(v) ? 0 : one ? 1 : ort_json_count(v);
    uint32_t pair = 0;
    if (ort_json_given(v) && !one && ort_json_type_of(v) != ORT_JSON_ARRAY) {
        return dp_call_bad_type(call, "query.context", v, "pairs of examples");
    }
    s->kind = DP_STEP_EXAMPLES;
    s->positive_count = count;
    s->negative_count = count;
    ort_err err = check_example_count(call, 2 * (uint64_t)count);
    if (err == ORT_OK) {
        err = dp_plan__inputs_new(s, 2 * count + (s->has_target ? 1 : 0));
    }
    if (err == ORT_OK && s->has_target) {
        err = dp_plan__input_parse(call, &s->inputs[0], target);
    }
    if (err == ORT_OK && one) {
        return parse_pair(call, s, 0, v);
    }
    for (ort_json_iter it = ort_json_each(v); err == ORT_OK && ort_json_step(&it);) {
        err = parse_pair(call, s, pair++, it.value);
    }
    return err;
}

ort_err
dp_plan__parse_discover(dp_call *call, dp_plan__step *s, ort_json v)
{
    const ort_json target = ort_json_get(v, "target");
    if (!ort_json_given(target)) {
        return dp_call_missing(call, "target");
    }
    s->examples = DP_EXAMPLES_DISCOVER;
    s->has_target = true;
    return parse_pairs(call, s, target, ort_json_get(v, "context"));
}

ort_err
dp_plan__parse_context(dp_call *call, dp_plan__step *s, ort_json v)
{
    s->examples = DP_EXAMPLES_CONTEXT;
    return parse_pairs(call, s, (ort_json){0}, v);
}

/* {"naive": {a, b, c}} */
static ort_err
parse_feedback_strategy(dp_call *call, dp_plan__step *s, ort_json v)
{
    const ort_json naive = ort_json_get(v, "naive");
    if (ort_json_f32(ort_json_get(naive, "a"), &s->a) != ORT_OK ||
        ort_json_f32(ort_json_get(naive, "b"), &s->b) != ORT_OK ||
        ort_json_f32(ort_json_get(naive, "c"), &s->c) != ORT_OK) {
        return ort_fail(&call->diag, ORT_EFORMAT,
                        "query.relevance_feedback.strategy: data did not match any variant of "
                        "untagged enum FeedbackStrategy");
    }
    return ORT_OK;
}

/* {target, feedback: [{example, score}], strategy}: all examples stand as positives here; running
 * makes pairs of them. */
static ort_err
parse_feedback(dp_call *call, dp_plan__step *s, ort_json v)
{
    const ort_json target = ort_json_get(v, "target"), feedback = ort_json_get(v, "feedback");
    uint32_t at = 1;
    s->kind = DP_STEP_EXAMPLES;
    s->examples = DP_EXAMPLES_FEEDBACK;
    s->has_target = true;
    if (!ort_json_given(target)) {
        return dp_call_missing(call, "target");
    }
    if (ort_json_type_of(feedback) != ORT_JSON_ARRAY) {
        return ort_json_given(feedback) ? dp_call_bad_type(call, "feedback", feedback, "a sequence")
                                        : dp_call_missing(call, "feedback");
    }
    s->positive_count = ort_json_count(feedback);
    ort_err err = check_example_count(call, s->positive_count);
    if (err == ORT_OK) {
        err = parse_feedback_strategy(call, s, ort_json_get(v, "strategy"));
    }
    if (err == ORT_OK) {
        err = dp_plan__inputs_new(s, s->positive_count + 1);
    }
    if (err == ORT_OK) {
        err = dp_plan__input_parse(call, &s->inputs[0], target);
    }
    for (ort_json_iter it = ort_json_each(feedback); err == ORT_OK && ort_json_step(&it); at++) {
        const ort_json score = ort_json_get(it.value, "score");
        err = dp_plan__input_parse(call, &s->inputs[at], ort_json_get(it.value, "example"));
        if (err == ORT_OK && ort_json_f32(score, &s->inputs[at].score) != ORT_OK) {
            err = ort_json_given(score) ? dp_call_bad_type(call, "score", score, "f32")
                                        : dp_call_missing(call, "score");
        }
    }
    return err;
}

/* --- queries without vectors -------------------------------------------------------------------
 */

static ort_err
parse_formula(dp_call *call, dp_plan__step *s, ort_json v)
{
    s->kind = DP_STEP_FORMULA;
    if (s->prefetch_count == 0) {
        return ort_fail(&call->diag, ORT_EBADREQ, "cannot apply Formula without prefetches");
    }
    return dp_formula_parse(&s->formula, v, &call->diag);
}

static ort_err
parse_sample(dp_call *call, dp_plan__step *s, ort_json v)
{
    s->kind = DP_STEP_SAMPLE;
    s->ask.query.kind = DP_QUERY_SAMPLE;
    return ort_json_str_is(v, "random") ? ORT_OK
                                        : dp_call_bad_type(call, "query.sample", v, "`random`");
}

static ort_err
parse_order(dp_call *call, dp_plan__step *s, ort_json v)
{
    const ort_err err = dp_api__order_parse(call, v, &s->order);
    s->kind = DP_STEP_ORDER;
    s->ask.query.kind = DP_QUERY_ORDER;
    s->ask.query.order = &s->order.order;
    return err;
}

/* --- which form --------------------------------------------------------------------------------
 */

static ort_err
parse_nearest(dp_call *call, dp_plan__step *s, ort_json v)
{
    const ort_json nearest = ort_json_get(v, "nearest"), mmr = ort_json_get(v, "mmr");
    ort_err err = dp_plan__inputs_new(s, 1);
    if (err == ORT_OK) {
        err = dp_plan__input_parse(call, &s->inputs[0], ort_json_given(nearest) ? nearest : v);
    }
    return err == ORT_OK && ort_json_given(mmr) ? parse_mmr(call, s, mmr) : err;
}

ort_err
dp_plan__parse_query(dp_call *call, dp_plan__step *s, ort_json v)
{
    if (!ort_json_given(v)) {
        return s->prefetch_count == 0
                   ? ORT_OK
                   : ort_fail(&call->diag, ORT_EBADREQ,
                              "A query is needed to merge the prefetches. Can't have prefetches "
                              "without defining a query.");
    }
    const ort_json fusion = ort_json_get(v, "fusion"), rrf = ort_json_get(v, "rrf");
    if (ort_json_given(fusion) || ort_json_given(rrf)) {
        return parse_fusion(call, s, fusion, rrf);
    }
    ort_json form = ort_json_get(v, "recommend");
    if (ort_json_given(form)) {
        return dp_plan__parse_recommend(call, s, form, false);
    }
    if (ort_json_given(form = ort_json_get(v, "discover"))) {
        return dp_plan__parse_discover(call, s, form);
    }
    if (ort_json_given(form = ort_json_get(v, "context"))) {
        return dp_plan__parse_context(call, s, form);
    }
    if (ort_json_given(form = ort_json_get(v, "order_by"))) {
        return parse_order(call, s, form);
    }
    if (ort_json_given(ort_json_get(v, "formula"))) {
        return parse_formula(call, s, v);
    }
    if (ort_json_given(form = ort_json_get(v, "sample"))) {
        return parse_sample(call, s, form);
    }
    if (ort_json_given(form = ort_json_get(v, "relevance_feedback"))) {
        return parse_feedback(call, s, form);
    }
    return parse_nearest(call, s, v);
}
