/* Searches under a filter.
 *
 *   few matches   their codes are compared one after the other, in the order of slots
 *   more          a walk over matches alone: nodes that do not pass are looked through to their
 *                 neighbours, while those that pass are few (two hops, as in ACORN-1,
 *                 arXiv:2403.04871). It begins near the query and at matches from all over the
 *                 slots, since those may lie together far from it
 *
 * and the matches one by one after all where the ways ended before the walk had seen enough: what
 * two hops do not connect is found by looking (as RACORN-1, arXiv:2607.00768, found necessary).
 *
 * A query whose own neighbourhood holds fewer matches than the whole is hard: those it looks for
 * lie at the edge of where matches are, which few links cross. Its walk keeps more candidates. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/hnsw_internal.h"

/* A scan compares codes in their order, 26 ns each at 384 dimensions, and a walk under a filter
 * about 60 candidates' worth of that for each of ef, with less recall. Measured in
 * docs/architecture/filtered-search.md. */
#define SCAN_PER_EF 64.0
/* Below this share two hops of 32 links hold too few matches to lead anywhere. */
#define TWO_HOP_SHARE_MIN 0.006
#define SEEDS 32u
/* Ways that go on from a node: no more are looked for. */
#define WAYS 12u
#define HARD_WAYS 32u
/* A hard query: so many times the candidates, and so much of the learnt reach beyond the k-th. */
#define HARD_POOL 4u
#define HARD_REACH 2.0F
#define SCAN_BATCH 512u

static inline bool
may_answer(const dp_hnsw *graph, const dp_slot_filter *filter, uint32_t slot)
{
    /* The filter's bits first: they are few and near. */
    return dp_slot_filter_passes(filter, slot) && dp_hnsw__state(graph, slot) == DP_NODE_LIVE;
}

/* A sorted list of the nearest. */
typedef struct {
    dp_candidate *at;
    size_t size, max;
} nearest;

static inline size_t
put(nearest *list, dp_candidate c)
{
    size_t lo = 0, hi = list->size;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (list->at[mid].distance <= c.distance) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (list->size < list->max) {
        list->size++;
    }
    memmove(list->at + lo + 1, list->at + lo, (list->size - 1 - lo) * sizeof *list->at);
    list->at[lo] = c;
    return lo;
}

static inline bool
has_room(const nearest *list, float distance)
{
    return list->size < list->max ? distance < INFINITY
                                  : distance < list->at[list->max - 1].distance;
}

static inline void
prefetch_links(const dp_hnsw *graph, uint32_t slot)
{
    const char *list = (const char *)dp_hnsw__links(graph, slot, 0);
    __builtin_prefetch(list);
    __builtin_prefetch(list + 64);
}

static void
prefetch_rows(const dp_hnsw *graph, const dp_slab *codes, const uint32_t *slots, size_t n)
{
    size_t bytes =
        codes != NULL ? codes->stride_bytes : graph->rows->dim * dp_elem_bytes(graph->rows->elem);
    bytes = bytes < 2048 ? bytes : 2048;
    for (size_t i = 0; i < n; i++) {
        const char *row = (const char *)dp_hnsw__peek(graph, codes, slots[i]);
        for (size_t b = 0; b < bytes; b += 64) {
            __builtin_prefetch(row + b);
        }
    }
}

/* --- one by one ---------------------------------------------------------------------------------
 */

typedef struct {
    const dp_hnsw *graph;
    dp_scratch *s;
    const dp_walk_query *query;
    nearest found;
    size_t n; /* waiting in s->ids */
    size_t measured;
} scanning;

static void
measure_waiting(scanning *scan)
{
    dp_scratch *s = scan->s;
    prefetch_rows(scan->graph, dp_hnsw__codes(s, scan->query), s->ids, scan->n < 16 ? scan->n : 16);
    dp_hnsw__measure(scan->graph, s, scan->query, s->ids, scan->n, s->distances);
    for (size_t i = 0; i < scan->n; i++) {
        if (has_room(&scan->found, s->distances[i])) {
            (void)put(&scan->found, (dp_candidate){.slot = s->ids[i], .distance = s->distances[i]});
        }
    }
    scan->measured += scan->n;
    scan->n = 0;
}

static inline void
scan_slot(scanning *scan, const dp_slot_filter *filter, uint32_t slot)
{
    if (may_answer(scan->graph, filter, slot)) {
        scan->s->ids[scan->n++] = slot;
        if (scan->n == SCAN_BATCH) {
            measure_waiting(scan);
        }
    }
}

size_t
dp_hnsw__scan_passing(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query,
                      const dp_slot_filter *filter, size_t wanted)
{
    scanning scan = {
        .graph = graph, .s = s, .query = query, .found = {.at = s->pool, .max = wanted}};
    uint32_t end =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_end, memory_order_acquire);
    const _Atomic(uint64_t) *words = filter->allowed.words;
    if (words == NULL) {
        for (uint32_t slot = 0; slot < end; slot++) {
            scan_slot(&scan, filter, slot);
        }
    } else {
        end = end < filter->allowed.slot_end ? end : filter->allowed.slot_end;
        for (uint32_t w = 0; w < (end + 63) / 64; w++) {
            uint64_t bits =
                atomic_load_explicit((_Atomic(uint64_t) *)&words[w], memory_order_relaxed);
            for (; bits != 0; bits &= bits - 1) {
                const uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(bits);
                if (slot < end) {
                    scan_slot(&scan, filter, slot);
                }
            }
        }
    }
    measure_waiting(&scan);
    dp_scratch_worked(s, 0, scan.measured);
    return scan.found.size;
}

/* --- walks --------------------------------------------------------------------------------------
 */

typedef struct {
    const dp_hnsw *graph;
    dp_scratch *s;
    const dp_walk_query *query;
    const dp_slot_filter *filter;
    nearest pool; /* to be followed */
    nearest found;
    size_t at; /* of the pool: all before it were followed */
    dp_walk_stop stop;
    size_t ways; /* from a node, that are enough */
    float reach; /* of what was learnt to look beyond the k-th */
    float limit; /* nothing farther is wanted */
    size_t followed, measured;
} walk;

/* Neighbours not met before that pass; while those are few, also neighbours of the ones that do
 * not. Into s->ids. */
static size_t
meet(walk *w, uint32_t slot)
{
    dp_scratch *s = w->s;
    const uint32_t near_count = dp_hnsw__read(w->graph, slot, 0, s->spare);
    uint32_t *far = s->spare + near_count;
    size_t n = 0, failed = 0;
    for (uint32_t i = 0; i < near_count; i++) {
        const uint32_t near = s->spare[i];
        if (!dp_scratch_visit(s, near)) {
            continue; /* followed, or looked through, on its own account */
        }
        if (may_answer(w->graph, w->filter, near)) {
            s->ids[n++] = near;
        } else {
            s->spare[failed++] = near; /* i is never behind it */
        }
    }
    if (n >= w->ways) {
        return n;
    }
    for (size_t i = 0; i < failed; i++) {
        prefetch_links(w->graph, s->spare[i]);
    }
    for (size_t i = 0; i < failed && n < w->ways; i++) {
        const uint32_t far_count = dp_hnsw__read(w->graph, s->spare[i], 0, far);
        for (uint32_t j = 0; j < far_count; j++) {
            if (may_answer(w->graph, w->filter, far[j]) && dp_scratch_visit(s, far[j])) {
                s->ids[n++] = far[j];
            }
        }
        w->followed++;
    }
    return n;
}

/* Measures s->ids[0..n) and puts each where it belongs. */
static void
offer(walk *w, size_t n, bool all_pass)
{
    dp_scratch *s = w->s;
    prefetch_rows(w->graph, dp_hnsw__codes(s, w->query), s->ids, n);
    dp_hnsw__measure(w->graph, s, w->query, s->ids, n, s->distances);
    w->measured += n;
    for (size_t i = 0; i < n; i++) {
        const dp_candidate c = {.slot = s->ids[i], .distance = s->distances[i]};
        if (!(c.distance < w->limit)) {
            continue;
        }
        if (has_room(&w->pool, c.distance)) {
            const size_t place = put(&w->pool, c);
            w->at = place < w->at ? place : w->at;
        }
        if (has_room(&w->found, c.distance) &&
            (all_pass || may_answer(w->graph, w->filter, c.slot))) {
            (void)put(&w->found, c);
            if (w->stop.k > 0 && w->found.size >= w->stop.k) {
                const float kth = w->found.at[w->stop.k - 1].distance;
                const float factor = 1 + (w->stop.factor - 1) * w->reach;
                const float reach = factor * (kth + w->stop.shift) - w->stop.shift;
                w->limit = reach > kth ? reach : kth;
            }
        }
    }
}

/* Matches from all over the slots. */
static size_t
seed(walk *w)
{
    dp_scratch *s = w->s;
    const _Atomic(uint64_t) *words = w->filter->allowed.words;
    const uint32_t end =
        atomic_load_explicit((_Atomic(uint32_t) *)&w->graph->slot_end, memory_order_acquire);
    const uint32_t count =
        ((end < w->filter->allowed.slot_end ? end : w->filter->allowed.slot_end) + 63) / 64;
    size_t n = 0;
    if (words == NULL) {
        return 0;
    }
    for (uint32_t i = 0, next = 0; i < SEEDS; i++) {
        uint32_t at = (uint32_t)((uint64_t)i * count / SEEDS);
        for (at = at > next ? at : next; at < count; at++) {
            const uint64_t bits =
                atomic_load_explicit((_Atomic(uint64_t) *)&words[at], memory_order_relaxed);
            const uint32_t slot = at * 64 + (uint32_t)__builtin_ctzll(bits | UINT64_C(1) << 63);
            if (bits != 0 && may_answer(w->graph, w->filter, slot)) {
                s->ids[n] = slot;
                n += dp_scratch_visit(s, slot);
                break;
            }
        }
        next = at + 1;
    }
    return n;
}

/* Walks until nothing that is left can matter. Returns whether it ended because it had enough, not
 * because the ways ended. */
static bool
go(walk *w, dp_candidate start)
{
    (void)dp_scratch_visit(w->s, start.slot);
    w->s->ids[0] = start.slot;
    w->limit = INFINITY;
    offer(w, 1, false);
    offer(w, seed(w), true);
    for (;;) {
        while (w->at < w->pool.size && (w->pool.at[w->at].slot & DP_EXPANDED) != 0) {
            w->at++;
        }
        if (w->at == w->pool.size) {
            break;
        }
        if (w->pool.at[w->at].distance > w->limit) {
            break;
        }
        const uint32_t slot = w->pool.at[w->at].slot;
        w->pool.at[w->at].slot |= DP_EXPANDED;
        w->followed++;
        if (w->at + 1 < w->pool.size) {
            prefetch_links(w->graph, w->pool.at[w->at + 1].slot & ~DP_EXPANDED);
        }
        const size_t n = meet(w, slot);
        offer(w, n, true);
    }
    dp_scratch_worked(w->s, w->followed, w->measured);
    return w->limit < INFINITY || w->pool.size == w->pool.max;
}

/* Whether fewer of the nodes around the query pass than of all. */
static bool
is_hard(const dp_hnsw *graph, dp_scratch *s, const dp_slot_filter *filter, double share,
        uint32_t start)
{
    const uint32_t near_count = dp_hnsw__read(graph, start, 0, s->spare);
    uint32_t *far = s->spare + near_count;
    uint32_t seen = near_count, passed = 0;
    for (uint32_t i = 0; i < near_count; i++) {
        passed += dp_slot_filter_passes(filter, s->spare[i]);
    }
    for (uint32_t i = 0; i < near_count && i < 3; i++) {
        const uint32_t far_count = dp_hnsw__read(graph, s->spare[i], 0, far);
        for (uint32_t j = 0; j < far_count; j++) {
            passed += dp_slot_filter_passes(filter, far[j]);
        }
        seen += far_count;
    }
    return (double)passed < share * seen / 2;
}

ort_err
dp_hnsw__find_passing(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query,
                      const dp_slot_filter *filter, dp_passing ask, size_t *n_out)
{
    const double matches = ask.share * (double)dp_hnsw_count(graph);
    /* Codes put the right ones almost in front: a scan may look again at more of them. */
    const size_t scanned = dp_hnsw__codes(s, query) != NULL && ask.depth < 4 * (size_t)ask.k + 16
                               ? 4 * (size_t)ask.k + 16
                               : ask.depth;
    const size_t found = ask.depth > ask.stop.k ? ask.depth : ask.stop.k;
    dp_candidate start;
    *n_out = 0;
    if (matches > SCAN_PER_EF * (double)ask.ef && ask.share >= TWO_HOP_SHARE_MIN &&
        dp_hnsw__descend(graph, s, query, 0, &start)) {
        const bool hard = is_hard(graph, s, filter, ask.share, start.slot);
        const size_t pool = hard ? HARD_POOL * ask.pool : ask.pool;
        const ort_err err = dp_scratch_pool(s, pool + found);
        if (err != ORT_OK) {
            return err;
        }
        walk w = {.graph = graph,
                  .s = s,
                  .query = query,
                  .filter = filter,
                  .stop = ask.stop,
                  .ways = hard ? HARD_WAYS : WAYS,
                  .reach = hard ? HARD_REACH : 1,
                  .pool = {.at = s->pool, .max = pool},
                  .found = {.at = s->pool + pool, .max = found}};
        if (go(&w, start) && w.found.size >= ask.k) {
            memmove(s->pool, w.found.at, w.found.size * sizeof *w.found.at);
            *n_out = w.found.size;
            return ORT_OK;
        }
    }
    const ort_err err = dp_scratch_pool(s, scanned);
    if (err == ORT_OK) {
        *n_out = dp_hnsw__scan_passing(graph, s, query, filter, scanned);
    }
    return err;
}
