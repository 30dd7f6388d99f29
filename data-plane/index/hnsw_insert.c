/* Putting a node into the graph (Malkov & Yashunin 2018, algorithms 1 and 4).
 *
 * A node's own lists on all its levels are written while nobody knows it; then its neighbours are
 * told, lowest level first, each under its own lock. A walk that meets the node by any link thus
 * finds its lists, codes and row complete: links are stored with release and loaded with acquire.
 */
#include <assert.h>
#include <string.h>

#include "index/hnsw_internal.h"

/* A list being shrunk: its links, the new one, and the base. */
#define LIST_MAX (DP_HNSW_M_MAX * 2 + 2)

static inline uint32_t
mix(uint32_t slot, uint32_t base)
{
    uint32_t x = (slot ^ base * UINT32_C(0x9E3779B1)) * UINT32_C(0x85EBCA6B);

    return (x ^ x >> 15) * UINT32_C(0xC2B2AE35);
}

void
dp_hnsw__order(dp_candidate *c, size_t n, uint32_t base)
{
    /* What comes is sorted but for a few, or short. */
    for (size_t i = 1; i < n; i++) {
        dp_candidate x = c[i];
        size_t j = i;

        while (j > 0 &&
               (x.distance < c[j - 1].distance || (x.distance == c[j - 1].distance &&
                                                   mix(x.slot, base) < mix(c[j - 1].slot, base)))) {
            c[j] = c[j - 1];
            j--;
        }
        c[j] = x;
    }
}

/* A few at a time: most candidates fall to one of the first that were kept. */
bool
dp_hnsw__is_covered(const dp_hnsw *graph, dp_scratch *s, dp_candidate c, const uint32_t *kept,
                    uint32_t count)
{
    dp_walk_query query;

    if (count == 0) {
        return false;
    }
    dp_hnsw__aim_slot(graph, s, &s->other, c.slot, &query);
    for (uint32_t j = 0; j < count; j += 4) {
        uint32_t part = count - j < 4 ? count - j : 4;
        float d[4];

        dp_hnsw__measure(graph, s, &query, kept + j, part, d);
        for (uint32_t l = 0; l < part; l++) {
            if (d[l] < c.distance) {
                return true;
            }
        }
    }
    return false;
}

uint32_t
dp_hnsw__select(const dp_hnsw *graph, dp_scratch *s, const dp_candidate *candidates, size_t n,
                float self, uint32_t max, uint32_t *kept)
{
    uint32_t equals_max = max / 4 > 0 ? max / 4 : 1;
    uint32_t equals = 0;
    uint32_t count = 0;

    for (size_t i = 0; i < n && count < max; i++) {
        if (candidates[i].distance <= self) {
            if (equals < equals_max) {
                equals++;
                kept[count++] = candidates[i].slot;
            }
            continue;
        }
        /* The kept equals stand where the base stands: they cover nothing. */
        if (!dp_hnsw__is_covered(graph, s, candidates[i], kept + equals, count - equals)) {
            kept[count++] = candidates[i].slot;
        }
    }
    return count;
}

/* Tells `slot` of a new neighbour. A full list is selected anew. */
static void
link_back(dp_hnsw *graph, dp_scratch *s, uint32_t slot, uint32_t level, uint32_t fresh)
{
    dp_node *node = dp_hnsw__node(graph, slot);
    uint32_t capacity = dp_hnsw__capacity(graph, level);
    uint32_t ids[LIST_MAX];
    uint32_t kept[LIST_MAX];
    float distances[LIST_MAX];
    dp_candidate candidates[LIST_MAX];
    dp_walk_query query;
    uint32_t n;

    dp_hnsw__lock(node);
    n = dp_hnsw__read(graph, slot, level, ids);
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] == fresh) {
            dp_hnsw__unlock(node);
            return;
        }
    }
    ids[n] = fresh;
    if (n < capacity) {
        atomic_store_explicit(&dp_hnsw__links(graph, slot, level)[n], fresh + 1,
                              memory_order_release);
        dp_hnsw__unlock(node);
        return;
    }
    n++;
    ids[n] = slot; /* for the distance to itself */
    dp_hnsw__aim_slot(graph, s, &s->other, slot, &query);
    dp_hnsw__measure(graph, s, &query, ids, n + 1, distances);
    for (uint32_t i = 0; i < n; i++) {
        candidates[i] = (dp_candidate){.slot = ids[i], .distance = distances[i]};
    }
    dp_hnsw__order(candidates, n, slot);
    n = dp_hnsw__select(graph, s, candidates, n, distances[n], capacity, kept);
    dp_hnsw__write(graph, slot, level, kept, n);
    dp_hnsw__unlock(node);
}

/* Of a walk's pool, what may become a neighbour of `slot`: live, and not the slot itself. */
static size_t
keep_live(const dp_hnsw *graph, dp_candidate *c, size_t n, uint32_t slot)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        uint8_t state = dp_hnsw__state(graph, c[i].slot);

        if (c[i].slot != slot && state != DP_NODE_DEAD && state != DP_NODE_EMPTY) {
            c[kept++] = c[i];
        }
    }
    return kept;
}

/* Finds and writes the node's own list on a level where nobody knows it yet. Returns the nearest
 * node found. */
static dp_candidate
write_list(dp_hnsw *graph, dp_scratch *s, uint32_t slot, uint32_t level, uint32_t max,
           const dp_walk_query *query, dp_candidate start)
{
    uint32_t kept[LIST_MAX];
    const bool by_rows = query->vector != NULL && query->code != NULL;
    const dp_walk_query fine = {.vector = query->vector, .code = by_rows ? NULL : query->code};
    dp_candidate nearest;
    float self;
    size_t n;

    dp_hnsw__measure(graph, s, &fine, &slot, 1, &self);
    dp_scratch_forget(s);
    n = dp_hnsw__walk(graph, s, query, start, level, graph->ef_construct, DP_WALK_TO_THE_END);
    nearest = s->pool[0];
    n = keep_live(graph, s->pool, n, slot);
    if (by_rows) {
        dp_hnsw__measure_rows(graph, s, query->vector, s->pool, n);
    }
    dp_hnsw__order(s->pool, n, slot);
    n = dp_hnsw__select(graph, s, s->pool, n, self, max, kept);
    dp_hnsw__write(graph, slot, level, kept, (uint32_t)n);
    return nearest;
}

static void
tell_neighbours(dp_hnsw *graph, dp_scratch *s, uint32_t slot, uint32_t level)
{
    uint32_t ids[LIST_MAX];
    uint32_t n = dp_hnsw__read(graph, slot, level, ids);

    for (uint32_t i = 0; i < n; i++) {
        link_back(graph, s, ids[i], level, slot);
    }
}

void
dp_hnsw__join_level(dp_hnsw *graph, dp_scratch *s, uint32_t slot, uint32_t level,
                    const dp_walk_query *query, dp_candidate start)
{
    (void)write_list(graph, s, slot, level, dp_hnsw__capacity(graph, level) / 2, query, start);
    tell_neighbours(graph, s, slot, level);
}

/* Places for the links above the lowest level; kept by the slot for ever. */
static ort_err
reserve_upper(dp_hnsw *graph, dp_node *node, uint32_t level)
{
    uint32_t first;
    ort_err err;

    node->level = (uint8_t)level;
    if (level == 0 || node->placed != 0) {
        return ORT_OK;
    }
    pthread_mutex_lock(&graph->grow);
    first = atomic_load_explicit(&graph->upper_count, memory_order_relaxed);
    err = dp_slab_reserve(&graph->upper, first + level - 1);
    if (err == ORT_OK) {
        node->upper = first;
        node->placed = 1;
        atomic_store_explicit(&graph->upper_count, first + level, memory_order_relaxed);
    }
    pthread_mutex_unlock(&graph->grow);
    return err;
}

static uint64_t
pack_entry(uint32_t slot, uint32_t level)
{
    return (uint64_t)level << 32 | (slot + 1);
}

void
dp_hnsw__aim_self(const dp_hnsw *graph, dp_scratch *s, uint32_t slot, dp_walk_query *query)
{
    dp_hnsw__aim_slot(graph, s, &s->code, slot, query);
    if (query->code == NULL) {
        dp_hnsw__aim(graph, s, dp_hnsw__vector(graph, slot, s->vector), query);
    }
}

/* Links a node whose memory, codes and state (JOINING) are there. Cannot fail. */
static void
join(dp_hnsw *graph, dp_scratch *s, uint32_t slot, uint32_t level)
{
    uint64_t entry = atomic_load_explicit(&graph->entry, memory_order_acquire);
    bool raises = entry == 0 || (uint32_t)(entry >> 32) < level;
    dp_walk_query query;
    dp_candidate start;

    /* The first node, and one that tops all others, go in alone among their kind: else two could
     * each become the entry of a level that the other does not know. */
    if (raises) {
        pthread_mutex_lock(&graph->grow);
        entry = atomic_load_explicit(&graph->entry, memory_order_acquire);
    }
    if (entry != 0) {
        uint32_t top = (uint32_t)(entry >> 32) < level ? (uint32_t)(entry >> 32) : level;

        dp_hnsw__aim_self(graph, s, slot, &query);
        (void)dp_hnsw__descend(graph, s, &query, top, &start);
        for (uint32_t l = top + 1; l-- > 0;) {
            start = write_list(graph, s, slot, l, graph->m, &query, start);
        }
        atomic_store_explicit(&dp_hnsw__node(graph, slot)->state, DP_NODE_LIVE,
                              memory_order_release);
        for (uint32_t l = 0; l <= top; l++) {
            tell_neighbours(graph, s, slot, l);
        }
    }
    atomic_store_explicit(&dp_hnsw__node(graph, slot)->state, DP_NODE_LIVE, memory_order_release);
    if (raises) {
        entry = atomic_load_explicit(&graph->entry, memory_order_relaxed);
        if (entry == 0 || (uint32_t)(entry >> 32) < level) {
            atomic_store_explicit(&graph->entry, pack_entry(slot, level), memory_order_release);
        }
        pthread_mutex_unlock(&graph->grow);
    }
}

/* EMPTY -> JOINING. */
static bool
claim(dp_node *node)
{
    uint8_t empty = DP_NODE_EMPTY;

    return atomic_compare_exchange_strong_explicit(&node->state, &empty, DP_NODE_JOINING,
                                                   memory_order_acq_rel, memory_order_relaxed);
}

/* With the gate held. */
static ort_err
insert(dp_hnsw *graph, uint32_t slot)
{
    uint32_t level = dp_hnsw__level(graph, slot);
    dp_scratch *s;
    dp_node *node;
    ort_err err;

    err = dp_hnsw__reserve(graph, slot);
    if (err != ORT_OK) {
        return err;
    }
    node = dp_hnsw__node(graph, slot);
    if (!claim(node)) {
        return ORT_EEXISTS;
    }
    err = dp_hnsw__take(graph, graph, &s);
    if (err == ORT_OK) {
        err = dp_scratch_pool(s, graph->ef_construct);
        if (err == ORT_OK) {
            err = reserve_upper(graph, node, level);
        }
        if (err == ORT_OK) {
            err = dp_hnsw__encode(graph, s, slot);
        }
        if (err == ORT_OK) {
            if (graph->unlinked) {
                atomic_store_explicit(&node->state, DP_NODE_LIVE, memory_order_release);
            } else {
                join(graph, s, slot, level);
            }
            atomic_fetch_add_explicit(&graph->live, 1, memory_order_relaxed);
            if (atomic_fetch_add_explicit(&graph->joined, 1, memory_order_relaxed) % 64 == 0) {
                dp_hnsw__watch_drift(graph);
            }
        }
        dp_scratch_give(s);
    }
    if (err != ORT_OK) {
        atomic_store_explicit(&node->state, DP_NODE_EMPTY, memory_order_release);
    }
    return err;
}

ort_err
dp_hnsw__insert(dp_hnsw *graph, uint32_t slot)
{
    ort_err err;

    if (slot > DP_HNSW_SLOT_MAX) {
        return ORT_EINVAL;
    }
    if (slot < atomic_load_explicit(&graph->slot_end, memory_order_acquire) &&
        dp_hnsw__state(graph, slot) == DP_NODE_DEAD) {
        err = dp_hnsw_repair(graph);
        if (err != ORT_OK) {
            return err;
        }
    }
    pthread_rwlock_rdlock(&graph->gate);
    err = insert(graph, slot);
    pthread_rwlock_unlock(&graph->gate);
    return err;
}

ort_err
dp_hnsw_insert(dp_hnsw *graph, uint32_t slot)
{
    ort_err err = dp_hnsw__insert(graph, slot);

    if (err == ORT_OK && !graph->unlinked) {
        dp_hnsw__learn_stop(graph);
    }
    return err;
}
