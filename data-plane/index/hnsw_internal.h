/* data-plane/index/hnsw_internal.h: the graph's memory, and what its files lend each other. */
#ifndef DP_HNSW_INTERNAL_H
#define DP_HNSW_INTERNAL_H
#include <assert.h>
#include <pthread.h>
#include <sched.h>

#include "index/coder.h"
#include "index/hnsw.h"
#include "index/hnsw_values.h"
#include "index/scratch.h"
#include "index/slab.h"

/* The state of a node; the arrows are the functions that take them.
 *
 *            insert                end of insert           delete
 *   EMPTY ------------> JOINING ----------------> LIVE ------------> DEAD
 *     ^                                                                |
 *     +-------------------------- repair -----------------------------+
 *
 * Walks pass through JOINING, LIVE and DEAD nodes; answers are LIVE ones. */
typedef enum { DP_NODE_EMPTY, DP_NODE_JOINING, DP_NODE_LIVE, DP_NODE_DEAD } dp_node_state;

/* The level of a slot is drawn from the slot's number, so a slot that comes back has its old level
 * and its old place in `upper`. */
typedef struct {
    uint32_t upper; /* first of its level blocks in `upper`, less 1; written before it is linked */
    uint8_t level;
    _Atomic(uint8_t) state;
    _Atomic(uint8_t) lock; /* guards its links against other writers; readers do not look */
    uint8_t placed;        /* `upper` was given */
} dp_node;
static_assert(sizeof(dp_node) == 8, "one word a slot");

/* A list of links: slot + 1 each, ended by 0 or by the list's capacity. Any entry is valid at any
 * time; a reader that meets a list being rewritten sees some old and some new links. */
typedef _Atomic(uint32_t) dp_link;

#define DP_HNSW_SLOT_MAX UINT32_C(0x7FFFFFFE)
#define DP_HNSW_LEVEL_MAX 15u
#define DP_LEVEL_VALUES (DP_HNSW_LEVEL_MAX + 1) /* lists among points of one value, of field 0 */

#define DP_TUNE_STEPS 4
#define DP_STOP_STEPS 5
#define DP_STOP_K 10u /* the k it is learnt for; others go by ef / k */

/* A model and the rows coded by it. Published whole: a walk loads the pointer once, into its
 * scratch, and a set that was replaced is freed after dp_scratch_drain(). */
struct dp_code_set {
    dp_coder *coder; /* owned */
    dp_slab rows;
    _Atomic(uint32_t) inexact; /* 1: there was a row whose codes are not exact */

    /* What hnsw_tune.c measured. At the ef of each step: by how much
     * longer a walk over these codes must be, and how many of its candidates must be measured
     * again for k = 10, to lose nothing against a walk over rows. */
    _Atomic(uint32_t) tuned_at; /* live nodes then; 0: not measured; stored last */
    _Atomic(float) widen[DP_TUNE_STEPS];
    _Atomic(uint32_t) depth[DP_TUNE_STEPS];

    /* Errors of the rows coded since, in 1/256 of the usual one. */
    _Atomic(uint64_t) drift_sum;
    _Atomic(uint32_t) drift_count;
};

/* The lists of one field; hnsw_values_internal.h. */
typedef struct dp_value_links dp_value_links;

/* A file that was opened and not yet looked through; hnsw_file.h. */
typedef struct dp_graph_file dp_graph_file;

struct dp_hnsw {
    const dp_rows *rows;
    dp_metric metric;
    uint32_t m;
    uint32_t m0;
    uint32_t ef_construct;
    dp_code code; /* as asked for; changes with the gate alone */
    dp_code_options coding;
    _Atomic(bool) asked; /* they were, and are not there yet */
    uint64_t seed;
    double level_scale;
    const dp_distance *distance; /* rows */
    bool bytes;                  /* EUCLID, and few enough components for bytes.h */
    bool links_on_disk;
    bool unlinked;       /* no lists but those of `fields`; m and m0 are 0 */
    dp_graph_file *file; /* owned; NULL: there is none, or all of it was found sound */

    dp_slab nodes; /* dp_node */
    dp_slab links; /* dp_link[m0], the lowest level */
    dp_slab upper; /* dp_link[m], one block a node and level above the lowest */
    _Atomic(dp_value_links *) fields[DP_HNSW_FIELDS_MAX]; /* change with the gate alone */
    _Atomic(dp_code_set *)
        set;           /* what walks go over; NULL: the rows. Replaced with the gate alone */
    dp_code_set *next; /* being filled beside it; changes with the gate alone */
    _Atomic(bool) tuning;
    _Atomic(bool) drifted;      /* rows came that the codes do not fit */
    _Atomic(uint32_t) tuned_at; /* live nodes when codes were last chosen; 0: never */
    _Atomic(size_t) set_row_bytes;
    _Atomic(size_t) set_model_bytes; /* 0: no set */

    /* Lock order: gate, grow, one node's lock. `gate` is held shared by inserts and deletes and
     * alone by repair, save and check; `grow` guards the slabs' growth, upper_count and raising
     * the entry. No thread holds two nodes' locks. */
    pthread_rwlock_t gate;
    pthread_mutex_t grow;

    _Atomic(uint32_t) slot_end;  /* slots the slabs have room for */
    _Atomic(uint32_t) slot_used; /* of those, up to the highest that ever was in the graph */
    _Atomic(uint32_t) upper_count;

    _Atomic(uint64_t) entry; /* 0: the graph is empty; else level << 32 | slot + 1 */
    _Atomic(uint32_t) live;
    _Atomic(uint32_t) dead;
    _Atomic(uint32_t) joined; /* since it was last seen to that all can be reached */

    /* How far a walk looks beyond its k-th nearest, by ef; see hnsw_stop.c. 0: not learnt. */
    _Atomic(float) stop[DP_STOP_STEPS];
    _Atomic(uint32_t) stop_learnt_at; /* live nodes when it was learnt */
    _Atomic(bool) stop_learning;
};

static inline dp_node *
dp_hnsw__node(const dp_hnsw *graph, uint32_t slot)
{
    return dp_slab_at(&graph->nodes, slot);
}

static inline uint8_t
dp_hnsw__state(const dp_hnsw *graph, uint32_t slot)
{
    return atomic_load_explicit(&dp_hnsw__node(graph, slot)->state, memory_order_acquire);
}

/* Whether a slot may be in an answer. */
static inline bool
dp_hnsw__may_answer(const dp_hnsw *graph, const dp_slot_filter *filter, uint32_t slot)
{
    return dp_hnsw__state(graph, slot) == DP_NODE_LIVE && dp_slot_filter_passes(filter, slot);
}

/* Keeps of n candidates those that may answer, in their order; how many (hnsw_search.c). */
size_t dp_hnsw__keep_answers(const dp_hnsw *graph, const dp_slot_filter *filter, dp_candidate *c,
                             size_t n);

static inline dp_value_links *
dp_hnsw__field(const dp_hnsw *graph, unsigned i)
{
    return atomic_load_explicit((_Atomic(dp_value_links *) *)&graph->fields[i],
                                memory_order_acquire);
}

/* hnsw_values.c: the same for DP_LEVEL_VALUES and on. */
dp_link *dp_hnsw__value_links(const dp_hnsw *graph, uint32_t slot, uint32_t level);
uint32_t dp_hnsw__value_capacity(const dp_hnsw *graph, uint32_t level);

static inline dp_link *
dp_hnsw__links(const dp_hnsw *graph, uint32_t slot, uint32_t level)
{
    if (level == 0) {
        return dp_slab_at(&graph->links, slot);
    }
    if (level >= DP_LEVEL_VALUES) {
        return dp_hnsw__value_links(graph, slot, level);
    }
    return dp_slab_at(&graph->upper, dp_hnsw__node(graph, slot)->upper + level - 1);
}

static inline uint32_t
dp_hnsw__capacity(const dp_hnsw *graph, uint32_t level)
{
    if (level >= DP_LEVEL_VALUES) {
        return dp_hnsw__value_capacity(graph, level);
    }
    return level == 0 ? graph->m0 : graph->m;
}

static inline bool
dp_hnsw__has_links(const dp_hnsw *graph, uint32_t slot, uint32_t level)
{
    return atomic_load_explicit(dp_hnsw__links(graph, slot, level), memory_order_acquire) != 0;
}

static inline dp_code_set *
dp_hnsw__set(const dp_hnsw *graph)
{
    return atomic_load_explicit((_Atomic(dp_code_set *) *)&graph->set, memory_order_seq_cst);
}

/* What a walk compares with: the codes of a slot, or (NULL) its row. */
static inline const unsigned char *
dp_hnsw__peek(const dp_hnsw *graph, const dp_slab *codes, uint32_t slot)
{
    return codes != NULL ? dp_slab_at(codes, slot) : dp_rows_peek(graph->rows, slot);
}

static inline void
dp_hnsw__lock(dp_node *node)
{
    for (unsigned spins = 0; atomic_exchange_explicit(&node->lock, 1, memory_order_acquire) != 0;
         spins++) {
        if (spins > 64) {
            sched_yield(); /* the holder may not be running */
        }
    }
}

static inline void
dp_hnsw__unlock(dp_node *node)
{
    atomic_store_explicit(&node->lock, 0, memory_order_release);
}

/* Drops links to slots that there are not: a page of a mapped file can come back changed. What was
 * linked has room, and room is told of before the link. */
static inline uint32_t
dp_hnsw__within(const dp_hnsw *graph, uint32_t *slots, uint32_t n)
{
    uint32_t end =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_end, memory_order_acquire);
    uint32_t kept = 0;

    for (uint32_t i = 0; i < n; i++) {
        slots[kept] = slots[i];
        kept += slots[i] < end;
    }
    return kept;
}

/* Copies a list into slots[capacity]; returns how many. */
static inline uint32_t
dp_hnsw__read(const dp_hnsw *graph, uint32_t slot, uint32_t level, uint32_t *slots)
{
    const dp_link *list = dp_hnsw__links(graph, slot, level);
    uint32_t capacity = dp_hnsw__capacity(graph, level);
    uint32_t n = 0;

    while (n < capacity) {
        uint32_t link = atomic_load_explicit((dp_link *)&list[n], memory_order_acquire);

        if (link == 0) {
            break;
        }
        slots[n++] = link - 1;
    }
    return dp_hnsw__within(graph, slots, n);
}

/* Replaces a list; the caller holds the node's lock, or is the only one who knows the node. */
static inline void
dp_hnsw__write(const dp_hnsw *graph, uint32_t slot, uint32_t level, const uint32_t *slots,
               uint32_t n)
{
    dp_link *list = dp_hnsw__links(graph, slot, level);
    uint32_t capacity = dp_hnsw__capacity(graph, level);

    for (uint32_t i = 0; i < n; i++) {
        atomic_store_explicit(&list[i], slots[i] + 1, memory_order_release);
    }
    for (uint32_t i = n; i < capacity; i++) {
        if (atomic_load_explicit(&list[i], memory_order_relaxed) == 0) {
            break; /* behind an end there are only ends */
        }
        atomic_store_explicit(&list[i], 0, memory_order_release);
    }
}

/* dp_hnsw_is_bad() for who goes over this set (or NULL) in a scratch. */
bool dp_hnsw__is_bad(const dp_hnsw *graph, const dp_code_set *set);

/* The level drawn for a slot: P(level >= l) = m^-l. */
uint32_t dp_hnsw__level(const dp_hnsw *graph, uint32_t slot);

/* dp_hnsw_insert() without learning from it. */
ORT_NODISCARD ort_err dp_hnsw__insert(dp_hnsw *graph, uint32_t slot);

/* Room for `slot` in every slab. Called with the gate held. */
ORT_NODISCARD ort_err dp_hnsw__reserve(dp_hnsw *graph, uint32_t slot);

/* A row as float[dim], of unit length for COSINE over bytes: float rows are returned as they are,
 * others are written to `into`. */
const float *dp_hnsw__vector(const dp_hnsw *graph, uint32_t slot, float *into);

/* A scratch that walks this graph, with the set of codes it goes over. `owner` is the graph, or
 * what else dp_scratch_drain() is to know the walk by. */
ORT_NODISCARD ort_err dp_hnsw__take(dp_hnsw *graph, const void *owner, dp_scratch **out);

/* The query of a walk. */
typedef struct {
    const float *vector; /* NULL where only codes are compared */
    dp_code_query *code; /* NULL: rows are compared, as what they are */
} dp_walk_query;

/* The query that a node's own place is looked for by: its codes where they are fine, else its row
 * against the codes of others. */
void dp_hnsw__aim_self(const dp_hnsw *graph, dp_scratch *scratch, uint32_t slot,
                       dp_walk_query *query);

/* Links a node that is in the graph on one more level, beginning at `start`, which is there. The
 * pool has room for ef_construct. */
void dp_hnsw__join_level(dp_hnsw *graph, dp_scratch *scratch, uint32_t slot, uint32_t level,
                         const dp_walk_query *query, dp_candidate start);

/* The codes that a query is compared with; NULL: the rows, be it by a query of bytes. */
static inline const dp_slab *
dp_hnsw__codes(const dp_scratch *scratch, const dp_walk_query *query)
{
    return query->code != NULL && scratch->set != NULL ? &scratch->set->rows : NULL;
}

/* Prepares a query: from floats, for a walk, into scratch->code; from a slot of the graph into
 * `code` (one of the scratch's two), to decide about links, which coarse codes are not asked for.
 */
void dp_hnsw__aim(const dp_hnsw *graph, dp_scratch *scratch, const float *vector,
                  dp_walk_query *query);
void dp_hnsw__aim_slot(const dp_hnsw *graph, dp_scratch *scratch, dp_code_query *code,
                       uint32_t slot, dp_walk_query *query);

/* Distances of the query to n slots, by codes or by rows. Uses scratch->rows. */
void dp_hnsw__measure(const dp_hnsw *graph, dp_scratch *scratch, const dp_walk_query *query,
                      const uint32_t *slots, size_t n, float *out);

/* Measures candidates again by their rows. Uses scratch->rows and scratch->distances. */
void dp_hnsw__measure_rows(const dp_hnsw *graph, dp_scratch *scratch, const float *vector,
                           dp_candidate *candidates, size_t n);

/* NONE where the graph can or need have no codes, else what is asked for. */
dp_code dp_hnsw__resolve(const dp_hnsw *graph, dp_code code);

/* A set of codes without rows; takes the coder. NULL: no memory, the coder is freed. */
dp_code_set *dp_code_set_new(dp_coder *coder);
void dp_code_set_free(dp_code_set *set);

/* Memory of the codes of so many slots. */
size_t dp_hnsw__codes_bytes(const dp_hnsw *graph, uint32_t count);

/* Makes it the set that walks go over from now on; the caller drains and frees the one before. */
void dp_hnsw__publish_set(dp_hnsw *graph, dp_code_set *set);

/* Codes a slot's row into the set, and into the next one. Called with the gate held; uses
 * scratch->vector and scratch->room. */
ORT_NODISCARD ort_err dp_hnsw__encode(dp_hnsw *graph, dp_scratch *scratch, uint32_t slot);

/* Lets the scratch's walks go over another set. */
ORT_NODISCARD ort_err dp_hnsw__go_over(const dp_hnsw *graph, dp_scratch *scratch,
                                       const dp_code_set *set);

/* Fills a set beside the one in use, by one thread at a time (graph->tuning); when that fails it is
 * still the caller's. */
ORT_NODISCARD ort_err dp_hnsw__add_next(dp_hnsw *graph, dp_code_set *next,
                                        const dp_hnsw_progress *progress);

static inline bool
dp_hnsw__is_cancelled(const dp_hnsw_progress *progress)
{
    return progress != NULL &&
           atomic_load_explicit((_Atomic(bool) *)&progress->cancel, memory_order_relaxed);
}

/* Puts the next set in the place of the one in use, or forgets it. Returns the one that nobody uses
 * any more, for the caller to free. */
dp_code_set *dp_hnsw__end_next(dp_hnsw *graph, bool replace);

/* Looks, now and then, whether rows came that the codes do not fit. Called with the gate held. */
void dp_hnsw__watch_drift(dp_hnsw *graph);

/* A set as bytes for the graph's file (malloc'd, NULL: no memory), and back, without its rows; the
 * bytes may come from anywhere. ORT_ECORRUPT, ORT_ENOMEM */
unsigned char *dp_code_set_model(const dp_code_set *set, size_t *bytes);
ORT_NODISCARD ort_err dp_code_set_open(dp_code_set **out, const void *blob, size_t bytes,
                                       dp_metric metric, uint32_t dim, ort_diag *diag);

/* Of codes of a byte, this many are enough: see hnsw_tune.c. */
#define DP_HNSW_DEPTH_USUAL(k) ((k) + (k) / 4 + 4)

/* How long a walk over this set must be to find what one of `ef` over rows finds, and how many of
 * its candidates are measured again when k are wanted. */
size_t dp_hnsw__widen(const dp_code_set *set, size_t ef);
size_t dp_hnsw__depth(const dp_code_set *set, size_t ef, uint32_t k);

/* From the entry down to `level`, each time to the nearest node found; false: the graph is empty.
 */
bool dp_hnsw__descend(const dp_hnsw *graph, dp_scratch *scratch, const dp_walk_query *query,
                      uint32_t level, dp_candidate *nearest);

/* When a walk may end before its pool is done: once k are found, nothing farther than
 * factor * (distance of the k-th + shift) - shift is kept or followed. k = 0: it may not. */
typedef struct {
    size_t k;
    float factor;
    float shift;
} dp_walk_stop;

/* Walks one level from `start`, keeping the ef nearest in scratch->pool (room for ef); returns how
 * many, nearest first, DP_EXPANDED taken off. */
size_t dp_hnsw__walk(const dp_hnsw *graph, dp_scratch *scratch, const dp_walk_query *query,
                     dp_candidate start, uint32_t level, size_t ef, dp_walk_stop stop);
#define DP_WALK_TO_THE_END ((dp_walk_stop){.k = 0})

/* The stop that keeps the recall of a fixed ef, as far as it was learnt; *pool, the size of the
 * pool of a walk that goes to the end, becomes the one it needs. `depth` candidates are measured
 * again by rows: so far the walk must go. */
dp_walk_stop dp_hnsw__stop(const dp_hnsw *graph, const float *vector, uint32_t k, size_t depth,
                           size_t ef, size_t *pool);

/* A way to where a slot of the graph is looked for: from the entry down to the lowest level, or, in
 * a graph without such links, among the points of a value that it has. False: there is none. */
bool dp_hnsw__enter(const dp_hnsw *graph, dp_scratch *scratch, const dp_walk_query *query,
                    uint32_t slot, dp_candidate *start, uint32_t *level);

/* A search under a filter: hnsw_filter.c. */
typedef struct {
    uint32_t k;
    size_t ef, pool;   /* as asked for; of a walk without filter */
    size_t depth;      /* candidates wanted */
    double share;      /* of live nodes that pass; an estimate */
    dp_walk_stop stop; /* of a walk without filter */
} dp_passing;

/* Leaves candidates that pass in scratch->pool, nearest first; *n_out of them: at least k where as
 * many match. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_hnsw__find_passing(const dp_hnsw *graph, dp_scratch *scratch,
                                            const dp_walk_query *query,
                                            const dp_slot_filter *filter, dp_passing ask,
                                            size_t *n_out);

/* The same by looking at each that passes; the pool has room for `wanted`. */
size_t dp_hnsw__scan_passing(const dp_hnsw *graph, dp_scratch *scratch, const dp_walk_query *query,
                             const dp_slot_filter *filter, size_t wanted);

/* A search among some: hnsw_values_search.c. Leaves candidates that pass in scratch->pool, nearest
 * first; *n_out of them. ORT_ENOTFOUND: the value's points are not linked. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_hnsw__find_among(const dp_hnsw *graph, dp_scratch *scratch,
                                          const dp_walk_query *query, const dp_hnsw_among *among,
                                          const dp_slot_filter *filter, dp_passing ask,
                                          size_t *n_out);

/* Learns it anew when the graph grew enough since the last time. Called without the gate; never
 * fails, at worst nothing is learnt. */
void dp_hnsw__learn_stop(dp_hnsw *graph);

/* Nearest first; equally near ones in an order that is another one for every base, so that of many
 * equal vectors not the same few are everybody's neighbours. */
void dp_hnsw__order(dp_candidate *candidates, size_t n, uint32_t base);

/* Whether one of these is nearer to the candidate than the base it was measured from. */
bool dp_hnsw__is_covered(const dp_hnsw *graph, dp_scratch *scratch, dp_candidate c,
                         const uint32_t *kept, uint32_t count);

/* Of candidates in that order, keeps those that no kept one is nearer to than the base is (Malkov &
 * Yashunin, algorithm 4), at most `max`, and at most a quarter of that of vectors equal to the
 * base: a list full of equals would lead nowhere else. `self` is the distance of the base to
 * itself. Returns how many; kept[] are slots. */
uint32_t dp_hnsw__select(const dp_hnsw *graph, dp_scratch *scratch, const dp_candidate *candidates,
                         size_t n, float self, uint32_t max, uint32_t *kept);

/* Marks in seen[slot_end], zeroed, what the lowest level reaches from the entry; stack has room for
 * slot_end slots. Returns how many of it are live. */
uint32_t dp_hnsw__flood(const dp_hnsw *graph, uint8_t *seen, uint32_t *stack);

/* --- hnsw_values*.c. The gate is held alone, but for reconnect_values, which takes it. */

/* The place of a field; DP_HNSW_FIELDS_MAX: it is not kept. */
unsigned dp_hnsw__field_of(const dp_hnsw *graph, uint64_t field);
size_t dp_hnsw__values_bytes(const dp_hnsw *graph); /* memory of all fields; any thread */

/* Whether a slot has a list of field i. */
bool dp_hnsw__is_listed(const dp_hnsw *graph, unsigned i, uint32_t slot);

void dp_hnsw__unlist(dp_hnsw *graph, unsigned i, uint32_t slot); /* empties it, for good */

/* No walk begins at a dead one from now on. */
void dp_hnsw__forget_dead_values(dp_hnsw *graph);

/* Every point of a walkable value can be met. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_hnsw__rescue_values(dp_hnsw *graph, dp_scratch *scratch, unsigned i);

/* The same, when enough have joined since the last time. */
ORT_NODISCARD ort_err dp_hnsw__reconnect_values(dp_hnsw *graph, unsigned i);

/* hnsw_repair.c: gives a node of the level that cannot be reached a link from one near it that can.
 * The walk that looks for those begins at `start`. */
ORT_NODISCARD ort_err dp_hnsw__rescue(dp_hnsw *graph, dp_scratch *scratch, uint32_t slot,
                                      uint32_t level, dp_candidate start, const uint8_t *reached);

/* dp_hnsw_repair() for who holds the gate alone. */
ORT_NODISCARD ort_err dp_hnsw__repair(dp_hnsw *graph);

/* When enough nodes have joined since the last time: takes the gate alone and gives a link to every
 * live node that no walk can meet. */
ORT_NODISCARD ort_err dp_hnsw__reconnect(dp_hnsw *graph);
#endif /* DP_HNSW_INTERNAL_H */
