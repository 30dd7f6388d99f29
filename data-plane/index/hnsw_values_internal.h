/* data-plane/index/hnsw_values_internal.h: the lists of one field.
 *
 * To the functions that read, walk, write and repair lists a field is one more level of the graph:
 * DP_LEVEL_VALUES and the field's place. A slot has a list there when it has a group. What leads
 * from one slot to another there leads to the same group.
 *
 *            first point told of          enough points, all linked
 *   (none) ──────────────────────► few ──────────────────────────────► walkable
 *      ▲                            │ too many points with other values   │
 *      │                            └───────────────► mixed ◄─────────────┘
 *      └── repair: no point left ───────────┴─────────────────────────────┘ */
#ifndef DP_HNSW_VALUES_INTERNAL_H
#define DP_HNSW_VALUES_INTERNAL_H
#include "index/hnsw_internal.h"
#include "index/hnsw_values.h"

#define DP_VALUE_SEEDS 32u /* of a value's points, one of which a walk begins at */

/* The points of one value. */
typedef struct {
    uint64_t value;
    uint32_t *members; /* in the order in which they were told of; dead ones until a repair */
    uint32_t count, cap;
    uint32_t linked; /* the first of them that have their lists */
    uint32_t *noted; /* points that have other values too: in no list */
    uint32_t noted_count, noted_cap;
    bool walkable; /* all members have their lists, and so has who comes */
    bool mixed;
    bool used;          /* else it waits for another value, */
    uint32_t next_free; /* and this is the next that does, plus 1 */
} dp_value_group;

/* Lock order: gate, `lock`, grow. `lock` is held to read groups by searches, and to change them by
 * the one thread that may; that thread reads them without it. */
struct dp_value_links {
    uint64_t field;
    uint32_t m, m0;
    dp_slab links;              /* dp_link[m0] by slot */
    dp_slab group_of;           /* _Atomic(uint32_t) by slot: a group's number, plus 1; 0: none */
    _Atomic(uint32_t) slot_end; /* slots that these have room for */
    _Atomic(uint32_t) told_end; /* dp_hnsw_field_end() */
    uint32_t joined;            /* since it was last seen to that all can be reached */

    pthread_rwlock_t lock;
    dp_value_group *groups;
    uint32_t group_count, group_cap;
    uint32_t free_group;   /* one that waits for a value, plus 1; 0: none */
    uint32_t *buckets;     /* of a hash table by value: a group's number, plus 1 */
    uint32_t bucket_count; /* a power of two, or 0 */
};

typedef _Atomic(uint32_t) dp_group_number;

/* NULL: no memory. */
dp_value_links *dp_value_links_new(uint64_t field, uint32_t m);
void dp_value_links_free(dp_value_links *f); /* NULL is fine */

/* Room for a slot in both slabs. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_value_links_reserve(dp_value_links *f, uint32_t slot);

/* The group's number plus 1, or 0. */
static inline uint32_t
dp_value__group_of(const dp_value_links *f, uint32_t slot)
{
    if (slot >= atomic_load_explicit((_Atomic(uint32_t) *)&f->slot_end, memory_order_acquire)) {
        return 0;
    }
    return atomic_load_explicit((dp_group_number *)dp_slab_at(&f->group_of, slot),
                                memory_order_relaxed);
}

static inline void
dp_value__set_group(dp_value_links *f, uint32_t slot, uint32_t number)
{
    atomic_store_explicit((dp_group_number *)dp_slab_at(&f->group_of, slot), number,
                          memory_order_relaxed);
}

/* The group of a value, made if need be; its number into *out. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_value__group(dp_value_links *f, uint64_t value, uint32_t *out);
ORT_NODISCARD ort_err dp_value__group_none(dp_value_links *f, uint32_t *out); /* a place, unused */
dp_value_group *dp_value__find(const dp_value_links *f, uint64_t value); /* NULL: there is none */
ORT_NODISCARD ort_err dp_value__append(dp_value_links *f, dp_value_group *g, uint32_t slot);

/* Notes a slot, once; of too many the group becomes mixed. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_value__note(dp_value_links *f, dp_value_group *g, uint32_t slot);

/* Gives the place of a group without points to the next value; the table is to be made anew. */
void dp_value__release(dp_value_links *f, uint32_t number);
void dp_value__rebucket(dp_value_links *f); /* the hash table, of the groups in use */

/* Some of the first `count` members, from all over them: out[DP_VALUE_SEEDS]; how many. */
size_t dp_value__seeds(const dp_value_group *g, uint32_t count, uint32_t *out);

/* The nearest of the seeds that has links, or at least is alive. False: there is none. */
bool dp_value__start(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query,
                     uint32_t level, const uint32_t *seeds, size_t n, dp_candidate *start);

#endif /* DP_HNSW_VALUES_INTERNAL_H */
