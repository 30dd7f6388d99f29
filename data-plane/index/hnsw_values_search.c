/* Searches among the points of one value, and among points that the caller names.
 *
 * A value's lists have no levels: a walk begins at the nearest of a few of its points, from all
 * over them, and is otherwise the walk of any search. What else a filter asks is asked of what the
 * walk found, which then has to find so many times more. */
#include <math.h>
#include <string.h>

#include "index/hnsw_values_internal.h"

/* Of a value's points fewer pass: let somebody else find them. */
#define SHARE_MIN 0.2
#define SCAN_BATCH 128u

/* Puts a candidate into a sorted list of at most max, of which the last may fall out. */
static size_t
put(dp_candidate *list, size_t size, size_t max, dp_candidate c)
{
    size_t low = 0, high = size;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (list[mid].distance <= c.distance) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    size += size < max;
    memmove(list + low + 1, list + low, (size - 1 - low) * sizeof *list);
    list[low] = c;
    return size;
}

/* Compares slots by their codes, and puts the nearest that may answer among the `kept` sorted ones
 * of the pool; of at most max. Returns how many there are then. */
static size_t
offer(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query, const dp_slot_filter *filter,
      const uint32_t *slots, size_t count, size_t kept, size_t max)
{
    const uint32_t end =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_end, memory_order_acquire);
    const dp_slab *codes = dp_hnsw__codes(s, query);
    size_t measured = 0;
    for (size_t i = 0; i < count;) {
        size_t n = 0;
        for (; i < count && n < SCAN_BATCH; i++) {
            if (slots[i] < end && dp_hnsw__may_answer(graph, filter, slots[i])) {
                s->ids[n++] = slots[i];
                __builtin_prefetch(dp_hnsw__peek(graph, codes, slots[i]));
            }
        }
        dp_hnsw__measure(graph, s, query, s->ids, n, s->distances);
        measured += n;
        for (size_t j = 0; j < n; j++) {
            const dp_candidate c = {.slot = s->ids[j], .distance = s->distances[j]};
            if (kept < max ? c.distance < INFINITY : c.distance < s->pool[kept - 1].distance) {
                kept = put(s->pool, kept, max, c);
            }
        }
    }
    dp_scratch_worked(s, 0, measured);
    return kept;
}

/* Some points of a walkable value, and those that are in no list; 0: it is none. */
static size_t
seeds_of(dp_value_links *f, uint64_t value, uint32_t *seeds,
         uint32_t noted[DP_HNSW_VALUE_NOTED_MAX], uint32_t *noted_count)
{
    size_t n = 0;
    pthread_rwlock_rdlock(&f->lock);
    const dp_value_group *g = dp_value__find(f, value);
    if (g != NULL && g->walkable) {
        n = dp_value__seeds(g, g->count, seeds);
        *noted_count = g->noted_count;
        for (uint32_t i = 0; i < g->noted_count; i++) {
            noted[i] = g->noted[i];
        }
    }
    pthread_rwlock_unlock(&f->lock);
    return n;
}

static ort_err
walk_value(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query,
           const dp_hnsw_among *among, const dp_slot_filter *filter, dp_passing ask, size_t *n_out)
{
    uint32_t seeds[DP_VALUE_SEEDS], noted[DP_HNSW_VALUE_NOTED_MAX], noted_count = 0;
    const unsigned at = dp_hnsw__field_of(graph, among->field);
    const double share = among->share > 0 && among->share < 1 ? (double)among->share : 1;
    if (at == DP_HNSW_FIELDS_MAX || share < SHARE_MIN) {
        return ORT_ENOTFOUND;
    }
    const size_t n = seeds_of(dp_hnsw__field(graph, at), among->value, seeds, noted, &noted_count);
    const uint32_t level = DP_LEVEL_VALUES + at;
    dp_candidate start;
    if (n == 0 || !dp_value__start(graph, s, query, level, seeds, n, &start)) {
        return ORT_ENOTFOUND;
    }
    /* As if so many more were wanted, of which the filter lets through what was asked for; and past
     * the dead. */
    const double nodes = (double)dp_hnsw_count(graph) + (double)dp_hnsw_deleted(graph);
    const double more = nodes / ((double)dp_hnsw_count(graph) + 1) / share;
    size_t pool = (size_t)((double)ask.pool * more);
    dp_walk_stop stop;
    if (more < 1.02) {
        pool = ask.pool;
        stop = dp_hnsw__stop(graph, query->vector, ask.k, ask.depth, ask.ef, &pool);
    } else {
        const uint32_t k = (uint32_t)ceil(ask.k * more);
        const size_t ef = (size_t)((double)ask.ef * more);
        stop =
            dp_hnsw__stop(graph, query->vector, k, (size_t)((double)ask.depth * more), ef, &pool);
    }
    const ort_err err = dp_scratch_pool(s, pool);
    if (err == ORT_OK) {
        dp_scratch_forget(s);
        *n_out = dp_hnsw__walk(graph, s, query, start, level, pool, stop);
        *n_out = dp_hnsw__keep_answers(graph, filter, s->pool, *n_out);
        *n_out = offer(graph, s, query, filter, noted, noted_count, *n_out, pool);
    }
    return err;
}

/* The best of the slots by their codes. */
static ort_err
scan_slots(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query,
           const dp_hnsw_among *among, const dp_slot_filter *filter, size_t wanted, size_t *n_out)
{
    const ort_err err = dp_scratch_pool(s, wanted);
    if (err == ORT_OK) {
        *n_out = offer(graph, s, query, filter, among->slots, among->slot_count, 0, wanted);
    }
    return err;
}

ort_err
dp_hnsw__find_among(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query,
                    const dp_hnsw_among *among, const dp_slot_filter *filter, dp_passing ask,
                    size_t *n_out)
{
    *n_out = 0;
    if (among->slots == NULL) {
        return walk_value(graph, s, query, among, filter, ask, n_out);
    }
    /* Codes put the right ones almost in front: a scan may look again at more of them. */
    const size_t usual = dp_hnsw__codes(s, query) != NULL ? 4 * (size_t)ask.k + 16 : ask.k;
    return scan_slots(graph, s, query, among, filter, ask.depth > usual ? ask.depth : usual, n_out);
}

bool
dp_hnsw__enter(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query, uint32_t slot,
               dp_candidate *start, uint32_t *level)
{
    uint32_t seeds[DP_VALUE_SEEDS];
    *level = 0;
    if (!graph->unlinked) {
        return dp_hnsw__descend(graph, s, query, 0, start);
    }
    for (unsigned i = 0; i < DP_HNSW_FIELDS_MAX; i++) {
        dp_value_links *f = dp_hnsw__field(graph, i);
        const uint32_t number = f != NULL ? dp_value__group_of(f, slot) : 0;
        size_t n = 0;
        if (number == 0) {
            continue;
        }
        pthread_rwlock_rdlock(&f->lock);
        if (f->groups[number - 1].walkable) {
            n = dp_value__seeds(&f->groups[number - 1], f->groups[number - 1].count, seeds);
        }
        pthread_rwlock_unlock(&f->lock);
        *level = DP_LEVEL_VALUES + i;
        if (n > 0 && dp_value__start(graph, s, query, *level, seeds, n, start)) {
            return true;
        }
    }
    return false;
}
