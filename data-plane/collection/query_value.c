/* Searches under a filter that asks for one value of a field, by links among that value's points
 * (links.c) or, where they are few, by their codes: work that does not grow with other values. */
#include <stdlib.h>

#include "collection/links_internal.h"
#include "collection/query_internal.h"

/* A walk costs about as much as comparing so many codes for each candidate that it keeps. */
#define CODES_PER_EF 8u
/* As of hnsw_filter.c: more are better looked for by a walk, of any kind. */
#define SCANNED_PER_EF 64u

static uint64_t
ef_of(const dp_search *q)
{
    const uint32_t asked = q->ask->hnsw_ef != 0 ? q->ask->hnsw_ef : q->schema->hnsw.ef_construct;
    return asked > q->k ? asked : q->k;
}

static bool
is_walked(const dp_search *q, uint64_t matches)
{
    return matches > CODES_PER_EF * ef_of(q);
}

ort_err
dp_search__walk_value(dp_search *q, const dp_slot_filter *filter, const dp_links_plan *plan,
                      uint64_t count)
{
    if (plan == NULL || plan->count == 0 || !is_walked(q, count)) {
        return ORT_ENOTFOUND;
    }
    dp_hnsw_among among = plan->among;
    const uint32_t indexed = dp_search__indexed_end(q);
    among.share = (float)count / (float)plan->count;
    const ort_err err =
        dp_search__walk(q, filter, filter, &among, indexed < plan->end ? indexed : plan->end);
    const uint64_t least = count < q->k ? count : q->k;
    return err == ORT_OK && q->count < least && !q->ask->indexed_only ? ORT_ENOTFOUND : err;
}

typedef struct {
    const dp_search *q;
    dp_matcher *m;
    const dp_links_plan *plan;
    bool all; /* have the vector */
} valued;

static bool
has_value(void *arg, uint32_t slot)
{
    const valued *v = arg;
    if (v->plan->slots == NULL) {
        return dp_matcher__matches(v->m, slot);
    }
    return dp_slots_has(v->plan->slots, slot) &&
           (v->all || dp_points_has(v->q->reader, v->q->column, slot));
}

/* Few: their codes one after the other. */
static ort_err
scan_value(dp_search *q, const dp_slot_filter *live, const dp_slot_filter *tail,
           const dp_links_plan *plan)
{
    uint32_t *slots = malloc(((size_t)plan->count + 1) * sizeof *slots);
    if (slots == NULL) {
        return ort_fail(q->diag, ORT_ENOMEM, "out of memory");
    }
    dp_slots_list(plan->slots, slots);
    const dp_hnsw_among among = {.slots = slots, .slot_count = (size_t)plan->count};
    const ort_err err = dp_search__walk(q, live, tail, &among, dp_search__indexed_end(q));
    free(slots);
    return err;
}

/* Links go by a hash of the value: what is answered is asked of the value itself. */
static bool
all_have_value(const dp_search *q, valued *v)
{
    for (size_t i = 0; i < q->count; i++) {
        if (!has_value(v, q->hits[i].slot)) {
            return false;
        }
    }
    return true;
}

/* All that there are. */
static bool
is_enough(const dp_search *q, const dp_links_plan *plan)
{
    return q->count == q->k || q->ask->indexed_only ||
           (plan->slots != NULL &&
            q->count >= dp_slots_and_count(plan->slots, q->s->payload->live));
}

ort_err
dp_search__find_by_value(dp_search *q, dp_matcher *m, const dp_links_plan *plan, bool *done)
{
    valued v = {.q = q, .m = m, .plan = plan, .all = dp_search__all_have(q)};
    dp_slot_filter live = {.match = NULL};
    live.live.words = dp_points_live_words(q->s->points);
    live.live.slot_end = dp_points_slot_end(q->s->points);
    dp_slot_filter tail = live;
    ort_err err = ORT_ENOTFOUND;
    tail.match = has_value;
    tail.arg = &v;
    if (is_walked(q, plan->count)) {
        const uint32_t indexed = dp_search__indexed_end(q);
        err = dp_search__walk(q, &live, &tail, &plan->among,
                              indexed < plan->end ? indexed : plan->end);
    }
    if (err == ORT_ENOTFOUND && plan->slots != NULL && plan->count <= SCANNED_PER_EF * ef_of(q)) {
        err = scan_value(q, &live, &tail, plan);
    }
    if (err == ORT_ENOTFOUND) {
        return ORT_OK;
    }
    *done = err == ORT_OK && all_have_value(q, &v) && is_enough(q, plan);
    return err == ORT_OK ? m->err : err;
}
