/* Lists among the points of one value: what a repair does to them, and what must hold. */
#include <stdlib.h>
#include <string.h>

#include "index/hnsw_values_internal.h"

#define RECONNECT_ROUNDS 4
#define RECONNECT_PART 8 /* as of the graph: once this part of the points is new */
#define LIST_MAX (DP_HNSW_M_MAX * 2)

bool
dp_hnsw__is_listed(const dp_hnsw *graph, unsigned i, uint32_t slot)
{
    const dp_value_links *f = dp_hnsw__field(graph, i);
    return f != NULL && dp_value__group_of(f, slot) != 0;
}

void
dp_hnsw__unlist(dp_hnsw *graph, unsigned i, uint32_t slot)
{
    if (dp_hnsw__is_listed(graph, i, slot)) {
        dp_hnsw__write(graph, slot, DP_LEVEL_VALUES + i, NULL, 0);
        dp_value__set_group(dp_hnsw__field(graph, i), slot, 0);
    }
}

/* Keeps the live ones, in their order. */
static void
forget_dead(const dp_hnsw *graph, dp_value_group *g)
{
    uint32_t n = 0, linked = 0;
    for (uint32_t i = 0; i < g->count; i++) {
        const uint32_t slot = g->members[i];
        if (dp_hnsw__state(graph, slot) == DP_NODE_LIVE) {
            linked += i < g->linked;
            g->members[n++] = slot;
        }
    }
    g->count = n;
    g->linked = linked;
    n = 0;
    for (uint32_t i = 0; i < g->noted_count; i++) {
        if (dp_hnsw__state(graph, g->noted[i]) == DP_NODE_LIVE) {
            g->noted[n++] = g->noted[i];
        }
    }
    g->noted_count = n;
}

void
dp_hnsw__forget_dead_values(dp_hnsw *graph)
{
    for (unsigned i = 0; i < DP_HNSW_FIELDS_MAX; i++) {
        dp_value_links *f = dp_hnsw__field(graph, i);
        bool released = false;
        if (f == NULL) {
            continue;
        }
        pthread_rwlock_wrlock(&f->lock);
        for (uint32_t g = 0; g < f->group_count; g++) {
            if (!f->groups[g].used) {
                continue;
            }
            forget_dead(graph, &f->groups[g]);
            if (f->groups[g].count == 0 && f->groups[g].noted_count == 0 && !f->groups[g].mixed) {
                dp_value__release(f, g);
                released = true;
            }
        }
        if (released) {
            dp_value__rebucket(f);
        }
        pthread_rwlock_unlock(&f->lock);
    }
}

/* --- reaching ------------------------------------------------------------------------------------
 */

/* Marks in seen[], zeroed, what is reached on the level from one slot; stack has room for all. */
static void
flood(const dp_hnsw *graph, uint32_t level, uint32_t from, uint8_t *seen, uint32_t *stack)
{
    uint32_t list[LIST_MAX];
    size_t depth = 0;
    if (!seen[from]) {
        seen[from] = 1;
        stack[depth++] = from;
    }
    while (depth > 0) {
        const uint32_t n = dp_hnsw__read(graph, stack[--depth], level, list);
        for (uint32_t i = 0; i < n; i++) {
            if (!seen[list[i]]) {
                seen[list[i]] = 1;
                stack[depth++] = list[i];
            }
        }
    }
}

/* The live point with links that a group's flood begins at; UINT32_MAX: there is none. */
static uint32_t
first_of(const dp_hnsw *graph, uint32_t level, const dp_value_group *g)
{
    for (uint32_t i = 0; i < g->count; i++) {
        if (dp_hnsw__state(graph, g->members[i]) == DP_NODE_LIVE &&
            (g->count == 1 || dp_hnsw__has_links(graph, g->members[i], level))) {
            return g->members[i];
        }
    }
    return UINT32_MAX;
}

typedef struct {
    uint8_t *seen;
    uint32_t *stack;
    uint32_t slot_end;
} reach;

static ort_err
reach_new(reach *r, const dp_hnsw *graph)
{
    r->slot_end = atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_end, memory_order_acquire);
    r->seen = malloc((size_t)r->slot_end + 1);
    r->stack = malloc(((size_t)r->slot_end + 1) * sizeof *r->stack);
    return r->seen != NULL && r->stack != NULL ? ORT_OK : ORT_ENOMEM;
}

static void
reach_free(reach *r)
{
    free(r->seen);
    free(r->stack);
}

/* Live points of walkable values that their value's first one does not lead to. */
static uint32_t
flood_all(const dp_hnsw *graph, unsigned i, reach *r)
{
    const dp_value_links *f = dp_hnsw__field(graph, i);
    uint32_t lost = 0;
    memset(r->seen, 0, (size_t)r->slot_end + 1);
    for (uint32_t g = 0; g < f->group_count; g++) {
        const dp_value_group *group = &f->groups[g];
        const uint32_t from =
            group->walkable ? first_of(graph, DP_LEVEL_VALUES + i, group) : UINT32_MAX;
        if (from == UINT32_MAX) {
            continue;
        }
        flood(graph, DP_LEVEL_VALUES + i, from, r->seen, r->stack);
        for (uint32_t j = 0; j < group->count; j++) {
            lost += !r->seen[group->members[j]] &&
                    dp_hnsw__state(graph, group->members[j]) == DP_NODE_LIVE;
        }
    }
    return lost;
}

static ort_err
rescue_group(dp_hnsw *graph, dp_scratch *s, unsigned i, const dp_value_group *g, const reach *r)
{
    const uint32_t level = DP_LEVEL_VALUES + i;
    const uint32_t from = g->walkable ? first_of(graph, level, g) : UINT32_MAX;
    ort_err err = ORT_OK;
    for (uint32_t j = 0; from != UINT32_MAX && j < g->count && err == ORT_OK; j++) {
        const uint32_t slot = g->members[j];
        if (!r->seen[slot] && dp_hnsw__state(graph, slot) == DP_NODE_LIVE) {
            dp_walk_query query;
            dp_candidate start = {.slot = from};
            dp_hnsw__aim_slot(graph, s, &s->other, slot, &query);
            dp_hnsw__measure(graph, s, &query, &from, 1, &start.distance);
            err = dp_hnsw__rescue(graph, s, slot, level, start, r->seen);
        }
    }
    return err;
}

ort_err
dp_hnsw__rescue_values(dp_hnsw *graph, dp_scratch *s, unsigned i)
{
    dp_value_links *f = dp_hnsw__field(graph, i);
    reach r;
    ort_err err = f != NULL ? reach_new(&r, graph) : ORT_OK;
    if (f == NULL) {
        return ORT_OK;
    }
    f->joined = 0;
    for (int round = 0; round < RECONNECT_ROUNDS && err == ORT_OK && flood_all(graph, i, &r) > 0;
         round++) {
        for (uint32_t g = 0; g < f->group_count && err == ORT_OK; g++) {
            err = rescue_group(graph, s, i, &f->groups[g], &r);
        }
    }
    reach_free(&r);
    return err;
}

ort_err
dp_hnsw__reconnect_values(dp_hnsw *graph, unsigned i)
{
    dp_scratch *s;
    const dp_value_links *f = dp_hnsw__field(graph, i);
    /* It reads all lists: not for every slice of a build. */
    if (f == NULL || f->joined == 0 || f->joined < dp_hnsw_count(graph) / RECONNECT_PART) {
        return ORT_OK;
    }
    pthread_rwlock_wrlock(&graph->gate);
    ort_err err = dp_hnsw__take(graph, graph, &s);
    if (err == ORT_OK) {
        err = dp_hnsw__rescue_values(graph, s, i);
        dp_scratch_give(s);
    }
    pthread_rwlock_unlock(&graph->gate);
    if (graph->unlinked) {
        dp_hnsw__learn_stop(graph);
    }
    return err;
}

/* --- looking ------------------------------------------------------------------------------------
 */

static uint32_t
bad_links(const dp_hnsw *graph, const dp_value_links *f, uint32_t level, uint32_t slot)
{
    uint32_t list[LIST_MAX];
    const uint32_t n = dp_hnsw__read(graph, slot, level, list);
    uint32_t bad = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t state = dp_hnsw__state(graph, list[i]);
        bad += list[i] == slot || (state != DP_NODE_LIVE && state != DP_NODE_DEAD) ||
               dp_value__group_of(f, list[i]) != dp_value__group_of(f, slot);
        for (uint32_t j = 0; j < i; j++) {
            bad += list[j] == list[i];
        }
    }
    return bad;
}

size_t
dp_hnsw__values_bytes(const dp_hnsw *graph)
{
    const uint32_t used =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_used, memory_order_relaxed);
    size_t bytes = 0;
    for (unsigned i = 0; i < DP_HNSW_FIELDS_MAX; i++) {
        dp_value_links *f = dp_hnsw__field(graph, i);
        if (f == NULL) {
            continue;
        }
        pthread_rwlock_rdlock(&f->lock);
        bytes += sizeof *f + (size_t)f->group_cap * sizeof *f->groups +
                 (size_t)f->bucket_count * sizeof *f->buckets;
        for (uint32_t g = 0; g < f->group_count; g++) {
            bytes +=
                ((size_t)f->groups[g].cap + f->groups[g].noted_cap) * sizeof *f->groups[g].members;
        }
        pthread_rwlock_unlock(&f->lock);
        const uint32_t end = atomic_load_explicit(&f->slot_end, memory_order_relaxed);
        bytes += dp_slab_bytes(&f->links, used < end ? used : end) +
                 dp_slab_bytes(&f->group_of, used < end ? used : end);
    }
    return bytes;
}

/* With the gate held alone. */
static void
check_field(const dp_hnsw *graph, unsigned i, reach *r, dp_hnsw_field_report *out)
{
    const dp_value_links *f = dp_hnsw__field(graph, i);
    for (uint32_t g = 0; g < f->group_count; g++) {
        const dp_value_group *group = &f->groups[g];
        out->values += group->count + group->noted_count > 0;
        out->linked += group->walkable;
        out->mixed += group->mixed;
        out->points += group->count;
        out->noted += group->noted_count;
        for (uint32_t j = 0; j < group->linked; j++) {
            out->bad_links += bad_links(graph, f, DP_LEVEL_VALUES + i, group->members[j]);
        }
    }
    out->unreachable = flood_all(graph, i, r);
}

ort_err
dp_hnsw_field_check(dp_hnsw *graph, uint64_t field, dp_hnsw_field_report *out)
{
    reach r;
    *out = (dp_hnsw_field_report){0};
    pthread_rwlock_wrlock(&graph->gate);
    const unsigned at = dp_hnsw__field_of(graph, field);
    const ort_err err = at < DP_HNSW_FIELDS_MAX ? reach_new(&r, graph) : ORT_ENOTFOUND;
    if (err == ORT_OK) {
        check_field(graph, at, &r, out);
    }
    if (at < DP_HNSW_FIELDS_MAX) {
        reach_free(&r);
    }
    pthread_rwlock_unlock(&graph->gate);
    out->bytes = dp_hnsw__values_bytes(graph);
    return err;
}
