/* Evaluation by sets. Each condition gives two: slots that surely match and slots that may; and,
 * or, not work on both, so that a filter of which an index knows only a part is narrowed by that
 * part, and what is left open is asked of the points themselves, once.
 *
 *            sure                may
 *   a and b  sure a & sure b     may a & may b
 *   a or b   sure a | sure b     may a | may b
 *   not a    live - may a        live - sure a
 *
 * Sets may hold dead slots until the end, where they are taken out. */
#include "filter/evaluate.h"

#include <stdlib.h>

#include "filter/evaluate_internal.h"
#include "filter/filter_internal.h"

#define MIN_SHOULD_STEPS_MAX 4096u /* set operations for one min_should: beyond it stays open */

/* --- sets that are often none or all ------------------------------------------------------------
 */

static dp_span
span_take(dp_eval *e, dp_slots *set)
{
    if (set == NULL) {
        e->err = ORT_ENOMEM;
        return (dp_span){.kind = DP_SPAN_NONE};
    }
    return (dp_span){.kind = DP_SPAN_SOME, .set = set};
}

static void
span_free(dp_span s)
{
    if (s.kind == DP_SPAN_SOME) {
        dp_slots_free(s.set);
    }
}

static dp_span
span_copy(dp_eval *e, dp_span s)
{
    return s.kind == DP_SPAN_SOME ? span_take(e, dp_slots_copy(s.set)) : s;
}

/* Both take their arguments. */
static dp_span
span_and(dp_span a, dp_span b)
{
    if (a.kind == DP_SPAN_NONE || b.kind == DP_SPAN_ALL) {
        span_free(b);
        return a;
    }
    if (b.kind == DP_SPAN_NONE || a.kind == DP_SPAN_ALL) {
        span_free(a);
        return b;
    }
    dp_slots_and_into(a.set, b.set);
    span_free(b);
    return a;
}

static dp_span
span_or(dp_span a, dp_span b)
{
    if (a.kind == DP_SPAN_ALL || b.kind == DP_SPAN_NONE) {
        span_free(b);
        return a;
    }
    if (b.kind == DP_SPAN_ALL || a.kind == DP_SPAN_NONE) {
        span_free(a);
        return b;
    }
    dp_slots_or_into(a.set, b.set);
    span_free(b);
    return a;
}

static dp_span
span_not(dp_eval *e, dp_span a)
{
    switch (a.kind) {
    case DP_SPAN_NONE:
        return (dp_span){.kind = DP_SPAN_ALL};
    case DP_SPAN_ALL:
        return (dp_span){.kind = DP_SPAN_NONE};
    default:
        break;
    }
    const dp_span rest = span_take(e, dp_slots_minus(e->over->live, a.set));
    span_free(a);
    return rest;
}

void
dp_both__free(dp_both b)
{
    span_free(b.sure);
    if (!b.exact) {
        span_free(b.may);
    }
}

dp_both
dp_both__open(void)
{
    return (dp_both){.sure = {.kind = DP_SPAN_NONE}, .may = {.kind = DP_SPAN_ALL}};
}

dp_both
dp_both__all(void)
{
    return (dp_both){.sure = {.kind = DP_SPAN_ALL}, .exact = true};
}

dp_both
dp_both__none(void)
{
    return (dp_both){.sure = {.kind = DP_SPAN_NONE}, .exact = true};
}

dp_both
dp_both__exactly(dp_eval *e, dp_slots *set)
{
    return (dp_both){.sure = span_take(e, set), .exact = true};
}

dp_both
dp_both__between(dp_eval *e, dp_slots *sure, dp_slots *may)
{
    dp_both b = {.sure = {.kind = DP_SPAN_NONE}, .may = span_take(e, may)};
    if (sure != NULL) {
        b.sure = span_take(e, sure);
    }
    return b;
}

/* An exact one with its `may` as a set of its own. */
static dp_both
split(dp_eval *e, dp_both b)
{
    if (b.exact) {
        b.may = span_copy(e, b.sure);
        b.exact = false;
    }
    return b;
}

dp_both
dp_both__and(dp_eval *e, dp_both a, dp_both b)
{
    if (a.exact && b.exact) {
        a.sure = span_and(a.sure, b.sure);
        return a;
    }
    a = split(e, a);
    b = split(e, b);
    a.sure = span_and(a.sure, b.sure);
    a.may = span_and(a.may, b.may);
    return a;
}

dp_both
dp_both__or(dp_eval *e, dp_both a, dp_both b)
{
    if (a.exact && b.exact) {
        a.sure = span_or(a.sure, b.sure);
        return a;
    }
    a = split(e, a);
    b = split(e, b);
    a.sure = span_or(a.sure, b.sure);
    a.may = span_or(a.may, b.may);
    return a;
}

dp_both
dp_both__not(dp_eval *e, dp_both a)
{
    if (a.exact) {
        a.sure = span_not(e, a.sure);
        return a;
    }
    const dp_span sure = span_not(e, a.may);
    a.may = span_not(e, a.sure);
    a.sure = sure;
    return a;
}

/* --- conditions ---------------------------------------------------------------------------------
 */

static dp_both eval_clauses(dp_eval *e, const dp_clauses *c);

static int
order_slots(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static dp_both
eval_ids(dp_eval *e, const dp_condition *c)
{
    size_t n = 0;
    if (e->over->find == NULL) {
        return dp_both__open();
    }
    uint32_t *slots = malloc((c->u.has_id.count + 1) * sizeof *slots);
    if (slots == NULL) {
        e->err = ORT_ENOMEM;
        return dp_both__none();
    }
    for (size_t i = 0; i < c->u.has_id.count; i++) {
        n += e->over->find(e->over->ctx, c->u.has_id.ids[i], &slots[n]);
    }
    qsort(slots, n, sizeof *slots, order_slots);
    const dp_both b = dp_both__exactly(e, dp_slots_of(slots, n));
    free(slots);
    e->narrowed = true;
    return b;
}

static dp_both
eval_vector(dp_eval *e, const dp_condition *c)
{
    const int has =
        e->over->has_vector != NULL ? e->over->has_vector(e->over->ctx, c->u.vector_name) : -1;
    return has == 1 ? dp_both__all() : has == 0 ? dp_both__none() : dp_both__open();
}

/* An element of the array matches: then the point has, somewhere, each leaf that made it match. The
 * other way round nothing follows. */
static dp_both
eval_nested(dp_eval *e, const dp_condition *c)
{
    const dp_eval_place place = {.outer = e->place, .path = c->path};
    const dp_eval_place *before = e->place;
    e->place = &place;
    dp_both b = split(e, eval_clauses(e, c->clauses));
    e->place = before;
    span_free(b.sure);
    b.sure = (dp_span){.kind = DP_SPAN_NONE};
    return b;
}

static dp_both
eval_condition(dp_eval *e, const dp_condition *c)
{
    if (e->err != ORT_OK) {
        return dp_both__none();
    }
    switch (c->kind) {
    case DP_COND_FIELD:
        return dp_eval__field(e, c->u.field);
    case DP_COND_IS_EMPTY:
        return dp_eval__is_empty(e, c->path);
    case DP_COND_IS_NULL:
        return dp_eval__is_null(e, c->path);
    case DP_COND_HAS_ID:
        return eval_ids(e, c);
    case DP_COND_HAS_VECTOR:
        return eval_vector(e, c);
    case DP_COND_NESTED:
        return eval_nested(e, c);
    case DP_COND_SLICE:
        return dp_both__open();
    default:
        return eval_clauses(e, c->clauses);
    }
}

static dp_both
eval_all(dp_eval *e, const dp_conditions *list)
{
    dp_both b = dp_both__all();
    for (size_t i = 0; i < list->count; i++) {
        b = dp_both__and(e, b, eval_condition(e, &list->items[i]));
    }
    return b;
}

static dp_both
eval_any(dp_eval *e, const dp_conditions *list)
{
    dp_both b = dp_both__none();
    for (size_t i = 0; i < list->count; i++) {
        b = dp_both__or(e, b, eval_condition(e, &list->items[i]));
    }
    return b;
}

static dp_both
copy_both(dp_eval *e, const dp_both *b)
{
    dp_both c = {.sure = span_copy(e, b->sure), .exact = b->exact};
    if (!b->exact) {
        c.may = span_copy(e, b->may);
    }
    return c;
}

/* reached[j]: at least j of the conditions so far. */
static dp_both
eval_enough(dp_eval *e, const dp_conditions *list, uint64_t wanted)
{
    if (wanted == 0 || wanted > list->count || wanted * list->count > MIN_SHOULD_STEPS_MAX) {
        return wanted == 0            ? dp_both__all()
               : wanted > list->count ? dp_both__none()
                                      : dp_both__open();
    }
    dp_both *reached = calloc((size_t)wanted + 1, sizeof *reached);
    if (reached == NULL) {
        e->err = ORT_ENOMEM;
        return dp_both__none();
    }
    reached[0] = dp_both__all();
    for (uint64_t j = 1; j <= wanted; j++) {
        reached[j] = dp_both__none();
    }
    for (size_t i = 0; i < list->count; i++) {
        const dp_both hit = eval_condition(e, &list->items[i]);
        for (uint64_t j = wanted; j > 0; j--) {
            const dp_both more = dp_both__and(e, copy_both(e, &reached[j - 1]), copy_both(e, &hit));
            reached[j] = dp_both__or(e, reached[j], more);
        }
        dp_both__free(hit);
    }
    const dp_both b = reached[wanted];
    for (uint64_t j = 0; j < wanted; j++) {
        dp_both__free(reached[j]);
    }
    free(reached);
    return b;
}

static dp_both
eval_clauses(dp_eval *e, const dp_clauses *c)
{
    dp_both b = eval_all(e, &c->must);
    if (c->must_not.count > 0) {
        /* Of an element nothing is known from what its point has not. */
        if (e->place == NULL) {
            b = dp_both__and(e, b, dp_both__not(e, eval_any(e, &c->must_not)));
        } else {
            b = dp_both__and(e, b, dp_both__open());
        }
    }
    if (c->should.count > 0) {
        b = dp_both__and(e, b, eval_any(e, &c->should));
    }
    if (c->has_min_should) {
        b = dp_both__and(e, b, eval_enough(e, &c->min_should, c->min_count));
    }
    return b;
}

/* --- the whole ----------------------------------------------------------------------------------
 */

static dp_slots *
living(dp_eval *e, dp_span s)
{
    switch (s.kind) {
    case DP_SPAN_NONE:
        return dp_slots_new();
    case DP_SPAN_ALL:
        return dp_slots_copy(e->over->live);
    default:
        dp_slots_and_into(s.set, e->over->live);
        return s.set;
    }
}

ort_err
dp_filter_evaluate(const dp_filter *filter, const dp_evaluation *over, dp_verdict *out)
{
    dp_eval e = {.over = over};
    *out = (dp_verdict){0};
    dp_both b = filter != NULL ? eval_clauses(&e, &filter->root) : dp_both__all();
    if (e.err != ORT_OK) {
        dp_both__free(b);
        return e.err;
    }
    out->narrowed = e.narrowed;
    out->sure = living(&e, b.sure);
    if (!b.exact) {
        out->maybe = living(&e, b.may);
        if (out->sure != NULL && out->maybe != NULL) {
            dp_slots_minus_into(out->maybe, out->sure);
        }
    }
    if (out->sure == NULL || (!b.exact && out->maybe == NULL)) {
        dp_verdict_fini(out);
        return ORT_ENOMEM;
    }
    if (out->maybe != NULL && dp_slots_is_empty(out->maybe)) {
        dp_slots_free(out->maybe);
        out->maybe = NULL;
    }
    out->min = dp_slots_count(out->sure);
    const uint64_t open = out->maybe != NULL ? dp_slots_count(out->maybe) : 0;
    out->max = out->min + open;
    out->expected = out->min + open / 2; /* nothing better is known without asking points */
    return ORT_OK;
}

void
dp_verdict_fini(dp_verdict *v)
{
    dp_slots_free(v->sure);
    dp_slots_free(v->maybe);
    *v = (dp_verdict){0};
}
