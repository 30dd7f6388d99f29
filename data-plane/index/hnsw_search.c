/* Walks, and the search made of them.
 *
 * A walk is bound by memory: per node it reads a list of links, and the codes (or the row) of each
 * neighbour it has not met. All of these are on their way before the first is measured, and the
 * list of the next node is fetched while the pool is filled. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "index/flat.h"
#include "index/hnsw_internal.h"

/* So few matches are measured by their rows: that is exact, and as quick as anything. */
#define EXACT_MATCHES_MAX 256.0

#define SELECTIVITY_SAMPLES 256u

static inline void
prefetch_codes(const unsigned char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch(at + i);
    }
}

/* The list of a node that is likely to be followed soon. */
static inline void
prefetch_links(const dp_hnsw *graph, uint32_t slot, uint32_t level)
{
    const char *list = (const char *)dp_hnsw__links(graph, slot, level);

    __builtin_prefetch(list);
    __builtin_prefetch(list + 64);
}

/* Neighbours met and not yet measured: their places in the scratch's ids and rows. */
typedef struct {
    uint32_t *ids;
    const unsigned char **rows;
    size_t n;
} met;

/* Reads the links of a node and keeps those not met, their codes on the way. Whether a neighbour
 * was met is as good as chance, so it moves an index, not a branch. */
static void
meet_neighbours(const dp_hnsw *graph, const dp_scratch *s, const dp_slab *codes, uint32_t slot,
                uint32_t level, size_t row_bytes, met *out)
{
    const dp_link *list = dp_hnsw__links(graph, slot, level);
    uint32_t capacity = dp_hnsw__capacity(graph, level);
    uint8_t *visited = s->visited;
    uint32_t visited_count = s->visited_count;
    uint32_t *ids = out->ids;
    uint8_t epoch = s->epoch;
    size_t n = 0;

    for (uint32_t i = 0; i < capacity; i++) {
        uint32_t link = atomic_load_explicit((dp_link *)&list[i], memory_order_acquire);

        if (link == 0) {
            break;
        }
        link--;
        if (link >= visited_count) {
            continue; /* came after the walk began */
        }
        ids[n] = link;
        n += visited[link] != epoch;
        visited[link] = epoch;
    }
    for (size_t i = 0; i < n; i++) {
        out->rows[i] = dp_hnsw__peek(graph, codes, ids[i]);
        prefetch_codes(out->rows[i], row_bytes);
    }
    out->n = n;
}

/* Puts a candidate in its place; the pool has room or drops its last. Returns the place. */
static inline size_t
pool_insert(dp_candidate *pool, size_t *size, size_t max, dp_candidate c)
{
    const dp_candidate *low = pool;
    size_t left = *size;
    size_t place;

    while (left > 1) { /* halves without a branch on what is found there */
        size_t half = left / 2;

        low += low[half - 1].distance <= c.distance ? half : 0;
        left -= half;
    }
    place = (size_t)(low - pool) + (left == 1 && low->distance <= c.distance);
    if (*size < max) {
        (*size)++;
    }
    memmove(pool + place + 1, pool + place, (*size - 1 - place) * sizeof *pool);
    pool[place] = c;
    return place;
}

static inline void
measure_met(const dp_hnsw *graph, const dp_walk_query *query, const unsigned char *const *rows,
            size_t n, float *out)
{
    if (query->code != NULL) {
        query->code->measure(query->code, rows, n, out);
    } else {
        graph->distance->many(query->vector, (const void *const *)rows, n, graph->rows->dim, out);
    }
}

static inline size_t
row_bytes_of(const dp_hnsw *graph, const dp_slab *codes)
{
    size_t bytes =
        codes != NULL ? codes->stride_bytes : graph->rows->dim * dp_elem_bytes(graph->rows->elem);

    return bytes > 2048 ? 2048 : bytes; /* 32 rows of 32 lines fill the first cache already */
}

/* The pool of a walk and how far it wants to look. */
typedef struct {
    dp_candidate *pool; /* nearest first */
    size_t size;
    size_t max;
    size_t at;   /* all before it were followed */
    float limit; /* nothing farther is wanted, whatever room there is */
    float bound; /* nothing that far gets in: the limit, or the last of a full pool */
    dp_walk_stop stop;
} walk_pool;

static inline void
skip_followed(walk_pool *w)
{
    while (w->at < w->size && (w->pool[w->at].slot & DP_EXPANDED) != 0) {
        w->at++;
    }
}

/* Puts what was measured into the pool. Returns whether something came before all that is still to
 * be followed. */
static inline bool
offer(const dp_hnsw *graph, walk_pool *w, uint32_t level, const met *batch, const float *distances)
{
    size_t first = w->size; /* the nearest place anything was put */
    bool ahead;

    for (size_t i = 0; i < batch->n; i++) {
        float d = distances[i];
        size_t place;

        if (!(d < w->bound)) { /* not "d >= bound": a NaN must not get in */
            continue;
        }
        place = pool_insert(w->pool, &w->size, w->max,
                            (dp_candidate){.distance = d, .slot = batch->ids[i]});
        if (place < first) {
            first = place;
            prefetch_links(graph, batch->ids[i], level); /* so far the next to be followed */
        }
        if (place < w->stop.k && w->size >= w->stop.k) {
            float kth = w->pool[w->stop.k - 1].distance;

            w->limit = w->stop.factor * (kth + w->stop.shift) - w->stop.shift;
            w->limit = w->limit > kth ? w->limit : kth; /* also for rows not of unit length */
        }
        w->bound = w->size == w->max && w->pool[w->max - 1].distance < w->limit
                       ? w->pool[w->max - 1].distance
                       : w->limit;
    }
    ahead = first <= w->at;
    w->at = ahead ? first : w->at;
    skip_followed(w);
    return ahead;
}

size_t
dp_hnsw__walk(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query, dp_candidate start,
              uint32_t level, size_t ef, dp_walk_stop stop)
{
    walk_pool w = {
        .pool = s->pool, .size = 1, .max = ef, .limit = INFINITY, .bound = INFINITY, .stop = stop};
    met batches[2] = {{s->ids, s->rows, 0},
                      {s->ids + DP_BATCH_MAX / 2, s->rows + DP_BATCH_MAX / 2, 0}};
    met *fresh = &batches[0];
    met *waiting = &batches[1];
    const dp_slab *codes = dp_hnsw__codes(s, query);
    size_t row_bytes = row_bytes_of(graph, codes);
    size_t followed = 0;
    size_t measured = 0;
    bool nearing = true; /* the last batch held something nearer than all that was known */

    assert(s->pool_max >= ef && ef > 0);
    (void)dp_scratch_visit(s, start.slot);
    w.pool[0] = start;
    for (;;) {
        met *swap;

        fresh->n = 0;
        if (w.at < w.size && w.pool[w.at].distance <= w.limit) {
            uint32_t slot = w.pool[w.at].slot;

            w.pool[w.at].slot |= DP_EXPANDED;
            skip_followed(&w);
            if (w.at < w.size) {
                prefetch_links(graph, w.pool[w.at].slot, level);
            }
            meet_neighbours(graph, s, codes, slot, level, row_bytes, fresh);
            followed++;
        } else if (waiting->n == 0) {
            break;
        }
        if (waiting->n > 0) {
            measure_met(graph, query, waiting->rows, waiting->n, s->distances);
            measured += waiting->n;
            nearing = offer(graph, &w, level, waiting, s->distances);
            waiting->n = 0;
        }
        if (nearing && fresh->n > 0) {
            measure_met(graph, query, fresh->rows, fresh->n, s->distances);
            measured += fresh->n;
            nearing = offer(graph, &w, level, fresh, s->distances);
            fresh->n = 0;
        }
        swap = fresh;
        fresh = waiting;
        waiting = swap;
    }
    for (size_t i = 0; i < w.size; i++) {
        w.pool[i].slot &= ~DP_EXPANDED;
    }
    dp_scratch_worked(s, followed, measured);
    return w.size;
}

bool
dp_hnsw__descend(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query, uint32_t level,
                 dp_candidate *nearest)
{
    uint64_t entry = atomic_load_explicit((_Atomic(uint64_t) *)&graph->entry, memory_order_acquire);
    const dp_slab *codes = dp_hnsw__codes(s, query);
    size_t row_bytes = row_bytes_of(graph, codes);

    if (entry == 0) {
        return false;
    }
    nearest->slot = (uint32_t)entry - 1;
    nearest->distance = INFINITY;
    dp_hnsw__measure(graph, s, query, &nearest->slot, 1, &nearest->distance);
    for (uint32_t l = (uint32_t)(entry >> 32); l > level; l--) {
        bool nearer = true;

        while (nearer) {
            uint32_t n = dp_hnsw__read(graph, nearest->slot, l, s->spare);

            nearer = false;
            for (uint32_t i = 0; i < n; i++) {
                s->rows[i] = dp_hnsw__peek(graph, codes, s->spare[i]);
                prefetch_codes(s->rows[i], row_bytes);
            }
            measure_met(graph, query, s->rows, n, s->distances);
            dp_scratch_worked(s, 1, n);
            for (uint32_t i = 0; i < n; i++) {
                if (s->distances[i] < nearest->distance) {
                    nearest->distance = s->distances[i];
                    nearest->slot = s->spare[i];
                    nearer = true;
                }
            }
        }
    }
    return true;
}

/* Insertion sort: what comes is almost in order. */
static void
sort_candidates(dp_candidate *c, size_t n)
{
    if (n > 256) {
        qsort(c, n, sizeof *c, dp_hit_compare);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        dp_candidate x = c[i];
        size_t j = i;

        while (j > 0 && dp_hit_nearer(x, c[j - 1])) {
            c[j] = c[j - 1];
            j--;
        }
        c[j] = x;
    }
}

/* How many candidates are measured again by their rows; exact codes put the right k first. */
static size_t
rerank_count(const dp_hnsw *graph, const dp_scratch *s, dp_hnsw_query ask, size_t ef)
{
    const uint32_t k = ask.k;
    const double wanted = (double)ask.oversampling * k;

    size_t count;

    if (s->code.exact && graph->metric == DP_METRIC_EUCLID &&
        atomic_load_explicit((_Atomic(uint32_t) *)&s->set->inexact, memory_order_relaxed) == 0) {
        count = (size_t)k + 1;
    } else {
        count = dp_hnsw__depth(s->set, ef, k);
    }
    return wanted > (double)count
               ? (size_t)(wanted < (double)DP_HNSW_EF_MAX ? wanted : (double)DP_HNSW_EF_MAX)
               : count;
}

#define RERANK_PART 16u

/* Measures candidates, nearest by their codes first, by their rows; the k nearest end up in front,
 * in order. A row that cannot be among them even if its codes err as much as they do is left alone.
 */
static size_t
rerank(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query, dp_candidate *c, size_t n,
       uint32_t k)
{
    const dp_code_set *set = s->set;
    size_t done = k > RERANK_PART ? k : RERANK_PART;

    done = n < done ? n : done;
    dp_hnsw__measure_rows(graph, s, query->vector, c, done);
    sort_candidates(c, done);
    for (size_t i = done; i < n; i += RERANK_PART) {
        dp_candidate part[RERANK_PART];
        size_t left = n - i < RERANK_PART ? n - i : RERANK_PART;
        size_t m = 0;

        for (size_t j = i; j < i + left; j++) {
            float slack =
                dp_coder_slack(set->coder, query->code, dp_slab_at(&set->rows, c[j].slot));

            if (!(c[j].distance - slack > c[k - 1].distance)) {
                part[m++] = c[j];
            }
        }
        dp_hnsw__measure_rows(graph, s, query->vector, part, m);
        for (size_t j = 0; j < m; j++) {
            size_t place = k;

            while (place > 0 && dp_hit_nearer(part[j], c[place - 1])) {
                place--;
            }
            if (place < k) {
                memmove(c + place + 1, c + place, (k - 1 - place) * sizeof *c);
                c[place] = part[j];
            }
        }
    }
    return n < k ? n : k;
}

/* Puts what a walk found in order, by the rows unless the caller says otherwise, and writes the k
 * nearest. */
static size_t
answer(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query, dp_candidate *c, size_t n,
       dp_hnsw_query ask, size_t depth, dp_hit *hits)
{
    const uint32_t k = ask.k;

    if (dp_hnsw__codes(s, query) != NULL && !ask.unrescored) {
        n = rerank(graph, s, query, c, n < depth ? n : depth, k);
    } else {
        for (size_t i = 0; ask.unrescored && graph->metric == DP_METRIC_EUCLID && i < n; i++) {
            c[i].distance = c[i].distance > 0.0F ? c[i].distance : 0; /* codes can tell less */
        }
        sort_candidates(c, n);
    }
    n = n < k ? n : k;
    memcpy(hits, c, n * sizeof *hits);
    return n;
}

/* The graph's own state and the caller's filter as one predicate, for the exact scan. */
typedef struct {
    const dp_hnsw *graph;
    const dp_slot_filter *filter;
} scan_filter;

static bool
scan_passes(void *arg, uint32_t slot)
{
    const scan_filter *f = arg;

    return dp_hnsw__may_answer(f->graph, f->filter, slot);
}

static ort_err
scan(const dp_hnsw *graph, const float *vector, uint32_t k, const dp_slot_filter *filter,
     dp_hit *hits, size_t *n_out)
{
    scan_filter f = {.graph = graph, .filter = filter};
    dp_slot_filter all = {.match = scan_passes, .arg = &f};

    return dp_flat_search(
        graph->rows, graph->metric, vector, k, 0,
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_end, memory_order_acquire), &all,
        hits, n_out);
}

/* The share of live nodes that pass: what the caller says, or what a sample says. */
static double
selectivity_of(const dp_hnsw *graph, const dp_slot_filter *filter)
{
    uint32_t end =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_end, memory_order_acquire);
    uint32_t seen = 0;
    uint32_t passed = 0;
    uint64_t x = 1;

    if (filter == NULL || (filter->allowed.words == NULL && filter->match == NULL)) {
        return 1.0;
    }
    if (filter->selectivity > 0.0F) {
        return filter->selectivity < 1.0F ? (double)filter->selectivity : 1.0;
    }
    for (uint32_t i = 0; i < SELECTIVITY_SAMPLES * 4 && seen < SELECTIVITY_SAMPLES; i++) {
        uint32_t slot;

        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        slot = (uint32_t)((x >> 33) % end);
        if (dp_hnsw__state(graph, slot) == DP_NODE_LIVE) {
            seen++;
            passed += dp_slot_filter_passes(filter, slot);
        }
    }
    return seen == 0 ? 1.0 : (double)passed / (double)seen;
}

size_t
dp_hnsw__keep_answers(const dp_hnsw *graph, const dp_slot_filter *filter, dp_candidate *c, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        if (dp_hnsw__may_answer(graph, filter, c[i].slot)) {
            c[kept++] = c[i];
        }
    }
    return kept;
}

static ort_err
search(const dp_hnsw *graph, dp_scratch *s, const float *vector, dp_hnsw_query ask, size_t ef,
       const dp_slot_filter *filter, dp_hit *hits, size_t *n_out)
{
    static const dp_slot_filter everything = {.match = NULL};
    const uint32_t k = ask.k;
    double live = (double)dp_hnsw_count(graph);
    double nodes = live + (double)dp_hnsw_deleted(graph);
    double share = selectivity_of(graph, filter);
    dp_walk_query query = {.vector = vector, .code = NULL};
    dp_candidate start = {0};
    dp_walk_stop stop = DP_WALK_TO_THE_END;
    size_t pool = ef;
    size_t depth = k; /* of the pool, how many are looked at again */
    size_t n = 0;
    ort_err err;

    if (ask.among == NULL && share < 1.0 && share * live <= EXACT_MATCHES_MAX) {
        err = dp_scratch_pool(s, k);
        if (err == ORT_OK) {
            n = dp_hnsw__scan_passing(graph, s, &query, filter, k);
            *n_out = answer(graph, s, &query, s->pool, n, ask, k, hits);
        }
        return err;
    }
    if (!ask.by_rows) {
        dp_hnsw__aim(graph, s, vector, &query);
    }
    if (dp_hnsw__codes(s, &query) != NULL) {
        depth = rerank_count(graph, s, ask, ef);
        pool = dp_hnsw__widen(s->set, ef);
        pool = pool > depth || depth <= DP_HNSW_DEPTH_USUAL((size_t)k) ? pool : depth;
    }
    if (ask.among != NULL) {
        const dp_passing among = {.k = k, .ef = ef, .pool = pool, .depth = depth};

        err = dp_hnsw__find_among(graph, s, &query, ask.among, filter, among, &n);
        depth = ask.among->slots != NULL ? n : depth;
    } else if (share < 1.0 || graph->unlinked) {
        size_t stopped = pool;
        const dp_passing passing = {.k = k,
                                    .ef = ef,
                                    .pool = pool,
                                    .depth = depth,
                                    .share = share,
                                    .stop = dp_hnsw__stop(graph, vector, k, depth, ef, &stopped)};

        err = dp_hnsw__find_passing(graph, s, &query, filter != NULL ? filter : &everything,
                                    passing, &n);
        depth = n;
    } else {
        if (!dp_hnsw__descend(graph, s, &query, 0, &start)) {
            *n_out = 0;
            return ORT_OK;
        }
        const double longer = (double)pool * nodes / (live > 1 ? live : 1); /* past the dead */
        if (longer <= 1.02 * (double)pool) {
            stop = dp_hnsw__stop(graph, vector, k, depth, ef, &pool);
        } else {
            pool = longer < 4.0 * (double)pool ? (size_t)longer : 4 * pool;
        }
        err = dp_scratch_pool(s, pool);
        if (err == ORT_OK) {
            n = dp_hnsw__walk(graph, s, &query, start, 0, pool, stop);
            n = dp_hnsw__keep_answers(graph, filter, s->pool, n);
            if (n < k && n < (size_t)live) {
                return scan(graph, vector, k, filter, hits, n_out);
            }
        }
    }
    if (err != ORT_OK) {
        return err;
    }
    *n_out = answer(graph, s, &query, s->pool, n, ask, depth, hits);
    return ORT_OK;
}

ort_err
dp_hnsw_search(dp_hnsw *graph, const float *query, dp_hnsw_query ask, const dp_slot_filter *filter,
               dp_hit *hits, size_t *n_out)
{
    size_t ef = ask.ef != 0 ? ask.ef : graph->ef_construct;
    dp_scratch *s;
    ort_err err;

    if (ask.k == 0 || ask.k > ORT_TOP_K_MAX) {
        return ORT_EINVAL;
    }
    ef = ef < DP_HNSW_EF_MAX ? ef : DP_HNSW_EF_MAX;
    ef = ef > ask.k ? ef : ask.k;
    err = dp_hnsw__take(graph, graph, &s);
    if (err != ORT_OK) {
        return err;
    }
    if (dp_hnsw_count(graph) == 0) {
        *n_out = 0;
    } else {
        err = search(graph, s, query, ask, ef, filter, hits, n_out);
    }
    if (err == ORT_OK && dp_hnsw__is_bad(graph, s->set)) {
        err = scan(graph, query, ask.k, filter, hits, n_out); /* who knows what the walk missed */
    }
    dp_scratch_give(s);
    return err;
}
