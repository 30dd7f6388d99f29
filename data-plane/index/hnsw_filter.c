/* Searches under a filter.
 *
 *   few matches   their codes are compared one after the other, in the order of slots
 *   through       where many of the nodes around the query pass: a walk through all nodes, which
 *                 ends by the distance of the k-th that passes
 *   over matches  where few do: a walk over matches alone, which looks through nodes that do not
 *                 pass to their neighbours (two hops, as in ACORN-1, arXiv:2403.04871)
 *
 * and the matches one by one after all where a walk did not find k: what two hops do not connect is
 * found by looking (as RACORN-1, arXiv:2607.00768, found necessary).
 *
 * A query whose own neighbourhood holds fewer matches than the whole is hard: those it looks for
 * lie at the edge of where matches are, which few links cross. The matches are compared one by one
 * as long as that is affordable. Else its walk goes through a few nodes around the query, and on
 * over matches: from what it met, through the nearest that do not pass, and from matches all over
 * the slots.
 *
 * What the choices hang on was measured: docs/architecture/filtered-search.md. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/hnsw_internal.h"

/* Nanoseconds of a match compared: codes come from memory line by line, wherever they lie. */
#define SCAN_ROW_NS 4.0
#define SCAN_BYTE_NS 0.065
/* What a scan may take, for each of ef, before a walk is tried: a walk takes about that, and a hard
 * query's three times as much, with less recall. */
#define SCAN_NS_PER_EF 600.0
#define HARD_SCAN_NS_PER_EF 2000.0
/* Below this share two hops of 32 links hold too few matches to lead anywhere. */
#define TWO_HOP_SHARE_MIN 0.006

/* From this share of the nodes around the query on, a walk goes through all. */
#define THROUGH_SHARE 0.3
/* How far walks look beyond their k-th match, as a part of what was learnt for walks without filter
 * (hnsw_stop.c): those find more than is needed here. */
#define THROUGH_REACH 0.45F
#define OVER_REACH 0.3F
#define HARD_REACH 0.5F
/* A walk through all that has followed so many nodes more than matches are wanted, and not found
 * these, goes on over matches, and through so many of the nodes it has not followed: of half of all
 * nodes, fewer of fewer, since more must be looked through beside each. */
#define THROUGH_SPARE 4u
#define THROUGH_MORE 120u
/* A node's failing neighbours are looked through when fewer than this part of them pass. */
#define LOOK_SHARE 0.5
#define SEEDS 64u
/* The pool of these walks over that of one without filter: the distances of what hard queries look
 * for hardly differ, and the k-th ends none. */
#define POOL_TIMES 4u
/* Nodes whose neighbours tell what passes around a query, and the part of the share of all below
 * which the query is hard: by chance hardly any is. */
#define AROUND_MAX 16u
#define HARD_SHARE 0.25

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

/* What is compared, and what is on its way: ids and rows of the scratch. */
typedef struct {
    const dp_hnsw *graph;
    dp_scratch *s;
    const dp_walk_query *query;
    const dp_slab *codes;
    size_t row_bytes;
} comparison;

static comparison
compare_with(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query)
{
    const dp_slab *codes = dp_hnsw__codes(s, query);
    const size_t bytes =
        codes != NULL ? codes->stride_bytes : graph->rows->dim * dp_elem_bytes(graph->rows->elem);
    return (comparison){.graph = graph,
                        .s = s,
                        .query = query,
                        .codes = codes,
                        .row_bytes = bytes < 2048 ? bytes : 2048};
}

/* Looks up the row of s->ids[i] and sends for it: into the second cache, since there are more of
 * them than the first has room for. */
static inline void
send_for(const comparison *c, size_t i)
{
    const unsigned char *row = dp_hnsw__peek(c->graph, c->codes, c->s->ids[i]);
    c->s->rows[i] = row;
    for (size_t b = 0; b < c->row_bytes; b += 64) {
        __builtin_prefetch(row + b, 0, 2);
    }
}

/* Into s->distances, from 0 on. */
static inline void
compare(const comparison *c, size_t from, size_t n)
{
    dp_scratch *s = c->s;
    if (c->query->code != NULL) {
        c->query->code->measure(c->query->code, s->rows + from, n, s->distances);
    } else {
        c->graph->distance->many(c->query->vector, (const void *const *)(s->rows + from), n,
                                 c->graph->rows->dim, s->distances);
    }
}

/* --- one by one ---------------------------------------------------------------------------------
 */

/* Rows that are on their way while those before them are compared. */
#define SCAN_BATCH 32u

typedef struct {
    comparison c;
    nearest found;
    size_t fresh;   /* where the batch begins that fills: 0 or SCAN_BATCH */
    size_t n;       /* in it */
    size_t waiting; /* in the other one */
    size_t measured;
} scanning;

static void
next_batch(scanning *scan)
{
    dp_scratch *s = scan->c.s;
    const size_t from = SCAN_BATCH - scan->fresh;
    compare(&scan->c, from, scan->waiting);
    for (size_t i = 0; i < scan->waiting; i++) {
        const dp_candidate c = {.slot = s->ids[from + i], .distance = s->distances[i]};
        if (has_room(&scan->found, c.distance)) {
            (void)put(&scan->found, c);
        }
    }
    scan->measured += scan->waiting;
    scan->waiting = scan->n;
    scan->fresh = from;
    scan->n = 0;
}

static inline void
scan_slot(scanning *scan, const dp_slot_filter *filter, uint32_t slot)
{
    if (!may_answer(scan->c.graph, filter, slot)) {
        return;
    }
    scan->c.s->ids[scan->fresh + scan->n] = slot;
    send_for(&scan->c, scan->fresh + scan->n);
    if (++scan->n == SCAN_BATCH) {
        next_batch(scan);
    }
}

size_t
dp_hnsw__scan_passing(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query,
                      const dp_slot_filter *filter, size_t wanted)
{
    scanning scan = {.c = compare_with(graph, s, query), .found = {.at = s->pool, .max = wanted}};
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
    next_batch(&scan);
    next_batch(&scan);
    dp_scratch_worked(s, 0, scan.measured);
    return scan.found.size;
}

/* --- walks --------------------------------------------------------------------------------------
 */

typedef struct {
    comparison c;
    const dp_slot_filter *filter;
    uint32_t end; /* of the slots that may pass and be met */
    nearest pool; /* to be followed */
    nearest found;
    size_t at; /* of the pool: all before it were followed */
    size_t n;  /* in s->ids, to be compared */
    dp_walk_stop stop;
    bool through; /* all nodes, not matches alone */
    size_t more;  /* nodes to go on through after that */
    size_t kth;   /* the match that the limit hangs on; 0: there is none */
    float reach;  /* of what was learnt to look beyond it */
    float limit;  /* nothing farther is wanted */
    size_t followed, measured;
} walk;

/* Of these slots those that are in the set, in their order. Whether one is, is as good as chance:
 * it moves an index, not a branch. */
static inline size_t
keep_set(const dp_slot_set *set, uint32_t *slots, size_t n)
{
    size_t kept = 0;
    if (set->words == NULL) {
        return n;
    }
    for (size_t i = 0; i < n; i++) {
        const uint32_t slot = slots[i];
        const uint32_t inside = slot < set->slot_end;
        const uint64_t word = atomic_load_explicit(
            (_Atomic(uint64_t) *)&set->words[inside != 0 ? slot / 64 : 0], memory_order_relaxed);
        slots[kept] = slot;
        kept += (word >> (slot % 64)) & inside;
    }
    return kept;
}

static inline size_t
keep_matching(const dp_slot_filter *filter, uint32_t *slots, size_t n)
{
    size_t kept = 0;
    if (filter->match == NULL) {
        return n;
    }
    for (size_t i = 0; i < n; i++) {
        if (filter->match(filter->arg, slots[i])) {
            slots[kept++] = slots[i];
        }
    }
    return kept;
}

static inline size_t
keep_passing(const dp_slot_filter *filter, uint32_t *slots, size_t n)
{
    n = keep_set(&filter->allowed, slots, n);
    n = keep_set(&filter->live, slots, n);
    return keep_matching(filter, slots, n);
}

/* Those of a node's neighbours that pass, into slots[capacity]: dp_hnsw__read() and keep_passing()
 * in one go, since it is what a walk over matches does most. */
static inline size_t
read_passing(const walk *w, uint32_t slot, uint32_t *slots)
{
    const dp_hnsw *graph = w->c.graph;
    const dp_slot_set *set = &w->filter->allowed;
    const dp_link *list = dp_hnsw__links(graph, slot, 0);
    size_t n = 0;
    if (set->words == NULL) {
        return keep_passing(w->filter, slots, dp_hnsw__read(graph, slot, 0, slots));
    }
    for (uint32_t i = 0; i < graph->m0; i++) {
        const uint32_t link = atomic_load_explicit((dp_link *)&list[i], memory_order_acquire);
        if (link == 0) {
            break;
        }
        const uint32_t inside = link - 1 < w->end;
        const uint64_t word = atomic_load_explicit(
            (_Atomic(uint64_t) *)&set->words[inside != 0 ? (link - 1) / 64 : 0],
            memory_order_relaxed);
        slots[n] = link - 1;
        n += (word >> ((link - 1) % 64)) & inside;
    }
    return keep_matching(w->filter, slots, keep_set(&w->filter->live, slots, n));
}

/* Adds those not met to what is compared next. */
static inline void
add(walk *w, const uint32_t *slots, size_t n)
{
    dp_scratch *s = w->c.s;
    const size_t from = w->n;
    size_t to = from;
    for (size_t i = 0; i < n; i++) {
        if (slots[i] < s->visited_count) {
            s->ids[to] = slots[i];
            to += s->visited[slots[i]] != s->epoch;
            s->visited[slots[i]] = s->epoch;
        }
    }
    for (size_t i = from; i < to; i++) {
        send_for(&w->c, i);
    }
    w->n = to;
}

/* Adds the matches beside these nodes. */
static void
look_through(walk *w, const uint32_t *slots, size_t n, uint32_t *room)
{
    const dp_hnsw *graph = w->c.graph;
    for (size_t i = 0; i < n; i++) {
        prefetch_links(graph, slots[i]);
    }
    for (size_t i = 0; i < n && w->n + graph->m0 <= DP_BATCH_MAX; i++) {
        add(w, room, read_passing(w, slots[i], room));
        w->followed++;
    }
}

/* Adds what is to be compared beside a node. */
static void
meet(walk *w, uint32_t slot)
{
    dp_scratch *s = w->c.s;
    uint32_t *near = s->spare;
    const uint32_t near_count = dp_hnsw__read(w->c.graph, slot, 0, near);
    uint32_t *passing = near + near_count;
    uint32_t *failing = passing;
    size_t n = 0;
    if (w->through) {
        add(w, near, near_count);
        return;
    }
    memcpy(passing, near, near_count * sizeof *passing);
    const size_t passed = keep_passing(w->filter, passing, near_count);
    add(w, passing, passed);
    if ((double)passed >= LOOK_SHARE * near_count) {
        return;
    }
    for (uint32_t i = 0; i < near_count; i++) { /* each is looked through once */
        if (near[i] < s->visited_count) {
            failing[n] = near[i];
            n += s->visited[near[i]] != s->epoch;
            s->visited[near[i]] = s->epoch;
        }
    }
    look_through(w, failing, n, failing + n);
}

/* Compares what was added and puts each where it belongs. */
static void
offer(walk *w)
{
    const dp_scratch *s = w->c.s;
    compare(&w->c, 0, w->n);
    w->measured += w->n;
    for (size_t i = 0; i < w->n; i++) {
        const dp_candidate c = {.slot = s->ids[i], .distance = s->distances[i]};
        if (!(c.distance < w->limit) || !has_room(&w->pool, c.distance)) {
            continue; /* not "distance >= limit": a NaN must not get in */
        }
        const size_t place = put(&w->pool, c);
        if (place <= w->at) {
            w->at = place;
            prefetch_links(w->c.graph, c.slot);
        }
        if (has_room(&w->found, c.distance) && may_answer(w->c.graph, w->filter, c.slot)) {
            (void)put(&w->found, c);
            if (w->kth > 0 && w->found.size >= w->kth) {
                const float kth = w->found.at[w->kth - 1].distance;
                const float factor = 1 + (w->stop.factor - 1) * w->reach;
                const float reach = factor * (kth + w->stop.shift) - w->stop.shift;
                w->limit = reach > kth ? reach : kth;
            }
        }
    }
    w->n = 0;
}

/* Adds matches from all over the slots. */
static void
seed(walk *w)
{
    const _Atomic(uint64_t) *words = w->filter->allowed.words;
    const uint32_t count = (w->end + 63) / 64;
    uint32_t next = 0;
    if (words == NULL) {
        return;
    }
    for (uint32_t i = 0; i < SEEDS; i++) {
        uint32_t at = (uint32_t)((uint64_t)i * count / SEEDS);
        for (at = at > next ? at : next; at < count; at++) {
            const uint64_t bits =
                atomic_load_explicit((_Atomic(uint64_t) *)&words[at], memory_order_relaxed);
            const uint32_t slot = at * 64 + (uint32_t)__builtin_ctzll(bits | UINT64_C(1) << 63);
            if (bits != 0 && may_answer(w->c.graph, w->filter, slot)) {
                add(w, &slot, 1);
                break;
            }
        }
        next = at + 1;
    }
}

/* From here on over matches: of the nodes that do not pass, the nearest ones stay to be looked
 * through. */
static void
turn_to_matches(walk *w)
{
    size_t kept = 0, more = 0;
    for (size_t i = 0; i < w->pool.size; i++) {
        const dp_candidate c = w->pool.at[i];
        const bool passes = dp_slot_filter_passes(w->filter, c.slot & ~DP_EXPANDED);
        if (passes || ((c.slot & DP_EXPANDED) == 0 && more++ < w->more)) {
            w->pool.at[kept++] = c;
        }
    }
    w->pool.size = kept;
    w->at = 0;
    w->through = false;
    w->kth = w->stop.k;
    w->reach = HARD_REACH;
    w->limit = INFINITY;
    seed(w);
    offer(w);
}

/* Walks until nothing that is left can matter. Returns whether it ended because it had enough, not
 * because the ways ended. */
static bool
go(walk *w, dp_candidate start)
{
    w->limit = INFINITY;
    add(w, &start.slot, 1);
    offer(w);
    for (;;) {
        if (w->through && w->found.size < w->found.max &&
            w->followed >= w->found.max + THROUGH_SPARE) {
            turn_to_matches(w);
        }
        while (w->at < w->pool.size && (w->pool.at[w->at].slot & DP_EXPANDED) != 0) {
            w->at++;
        }
        if (w->at == w->pool.size || w->pool.at[w->at].distance > w->limit) {
            break;
        }
        const uint32_t slot = w->pool.at[w->at].slot;
        w->pool.at[w->at].slot |= DP_EXPANDED;
        w->followed++;
        if (w->at + 1 < w->pool.size) {
            prefetch_links(w->c.graph, w->pool.at[w->at + 1].slot & ~DP_EXPANDED);
        }
        meet(w, slot);
        offer(w);
    }
    dp_scratch_worked(w->c.s, w->followed, w->measured);
    return w->limit < INFINITY || w->pool.size == w->pool.max;
}

/* Share of the nodes around a node that pass; no more of them are looked at once it is plain that
 * enough do. */
static double
share_around(const dp_hnsw *graph, dp_scratch *s, const dp_slot_filter *filter, uint32_t start)
{
    const uint32_t near_count = dp_hnsw__read(graph, start, 0, s->spare);
    uint32_t *far = s->spare + 2 * (size_t)near_count;
    memcpy(s->spare + near_count, s->spare, near_count * sizeof *s->spare);
    size_t passed = keep_passing(filter, s->spare + near_count, near_count);
    size_t seen = near_count;
    for (uint32_t i = 0; i < near_count && i < AROUND_MAX; i++) {
        if (i >= 2 && (double)passed >= THROUGH_SHARE * (double)seen) {
            break;
        }
        const uint32_t far_count = dp_hnsw__read(graph, s->spare[i], 0, far);
        passed += keep_passing(filter, far, far_count);
        seen += far_count;
    }
    return seen > 0 ? (double)passed / (double)seen : 0;
}

static ort_err
walk_from(const comparison *c, const dp_slot_filter *filter, dp_passing ask, dp_candidate start,
          double around, size_t *n_out)
{
    dp_scratch *s = c->s;
    const bool hard = around < HARD_SHARE * ask.share;
    const bool through = hard || around >= THROUGH_SHARE;
    const size_t found = ask.depth > ask.stop.k ? ask.depth : ask.stop.k;
    /* Without a limit the pool's size ends the walk: it holds as many matches as one without filter
     * holds nodes. */
    const double times = ask.stop.k > 0 || hard ? POOL_TIMES : through ? 1 / around : 1;
    const size_t pool = (size_t)(times * (double)ask.pool);
    const ort_err err = dp_scratch_pool(s, pool + found);
    if (err != ORT_OK) {
        return err;
    }
    /* Codes that are not quite exact hang the limit on a few more than k, so that enough are
     * measured again (hnsw_stop.c). Through all nodes many more than those are met anyway. */
    const bool enough = through && ask.stop.k > ask.k && ask.stop.k < 2 * (size_t)ask.k;
    walk w = {.c = *c,
              .filter = filter,
              .end = s->visited_count,
              .stop = ask.stop,
              .kth = enough ? ask.k : ask.stop.k,
              .through = through,
              .more = (size_t)(THROUGH_MORE * (ask.share < 0.5 ? 2 * ask.share : 1)),
              .reach = through ? THROUGH_REACH : OVER_REACH,
              .pool = {.at = s->pool, .max = pool},
              .found = {.at = s->pool + pool, .max = found}};
    if (filter->allowed.words != NULL && filter->allowed.slot_end < w.end) {
        w.end = filter->allowed.slot_end;
    }
    if (go(&w, start) && w.found.size >= ask.k) {
        memmove(s->pool, w.found.at, w.found.size * sizeof *w.found.at);
        *n_out = w.found.size;
    }
    return ORT_OK;
}

ort_err
dp_hnsw__find_passing(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query,
                      const dp_slot_filter *filter, dp_passing ask, size_t *n_out)
{
    const comparison c = compare_with(graph, s, query);
    const double scan_ns = ask.share * (double)dp_hnsw_count(graph) *
                           (SCAN_ROW_NS + SCAN_BYTE_NS * (double)c.row_bytes);
    dp_candidate start;
    ort_err err = ORT_OK;
    *n_out = 0;
    if (scan_ns > SCAN_NS_PER_EF * (double)ask.ef && ask.share >= TWO_HOP_SHARE_MIN &&
        dp_hnsw__descend(graph, s, query, 0, &start)) {
        const double around = share_around(graph, s, filter, start.slot);
        const bool hard = around < HARD_SHARE * ask.share;
        if (!hard || scan_ns > HARD_SCAN_NS_PER_EF * (double)ask.ef) {
            err = walk_from(&c, filter, ask, start, around, n_out);
        }
    }
    if (err != ORT_OK || *n_out > 0) {
        return err;
    }
    err = dp_scratch_pool(s, ask.depth);
    if (err == ORT_OK) {
        *n_out = dp_hnsw__scan_passing(graph, s, query, filter, ask.depth);
    }
    return err;
}
