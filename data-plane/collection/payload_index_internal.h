/* data-plane/collection/payload_index_internal.h: the payload indexes of a shard: declared by the
 * schema, built in the background, kept in step by apply, asked by filters.
 *
 *   declared ──(maintenance reads every payload, or the file)──► whole ──► asked
 *        ▲                                                         │
 *        └────────── no memory, renumbered, declared anew ─────────┘
 *
 * An index is either whole, that is it holds every live slot, or nobody sees it. Until it is whole
 * filters look at payloads: slower, with the same answer. */
#ifndef DP_SHARD_PAYLOAD_INDEX_INTERNAL_H
#define DP_SHARD_PAYLOAD_INDEX_INTERNAL_H
#include "collection/match_internal.h"
#include "filter/evaluate.h"

/* One that is being made, apart from everybody. */
typedef struct {
    dp_payload_index *index;
    uint32_t from;  /* slots below came from its file */
    bool was_saved; /* it was read from its file */
} dp_payload_making;

typedef struct dp_payload_set {
    dp_fields *fields;          /* view: what the schema declares */
    dp_payload_index **indexes; /* view: the whole ones, in any order: [count] */
    size_t count;
    uint64_t change_count;   /* view: how often indexes were taken out of the next */
    dp_payload_index **gone; /* view: declared no longer; maintenance frees them: [gone_count] */
    size_t gone_count;
    dp_slots *live; /* view: every live slot, while there is any index; */
    dp_slots *dead; /* and those that died since the last sweep */

    dp_payload_making *making; /* maintaining: [making_count] */
    size_t making_count;
    uint32_t making_next;  /* slots below are in them */
    dp_fields *making_for; /* declarations they are for */

    atomic_uint asks;           /* of filters that wanted one that is not whole; wraps */
    atomic_bool asked;          /* it shall be made */
    _Atomic(uint64_t) retry_ns; /* making one failed: not again before this */
    uint64_t saved_generation;  /* maintaining: files are of this one */
} dp_payload_set;

ort_err dp_payload__new(dp_payload_set **out, dp_fields *fields);
void dp_payload__free(dp_payload_set *set); /* NULL is fine */

/* Another schema: indexes that are declared as before stay, the others answer no more. view (write)
 * held; what is being made meanwhile is begun anew. */
void dp_payload__declare(dp_shard *s, dp_fields *fields);

/* Removes what is declared no longer, with its files. maintaining held. */
void dp_payload__bury(dp_shard *s);

/* Slots are numbered anew: nothing is known any more. maintaining and view (write) held. */
void dp_payload__forget(dp_shard *s);

/* A slot was given out, or died. view (write) held. An index that cannot take it is dropped. */
void dp_payload__add(dp_shard *s, dp_reader *reader, uint32_t slot);
void dp_payload__remove(dp_shard *s, uint32_t slot);

/* --- maintenance: maintaining is held ----------------------------------------------------------
 */
bool dp_payload__is_due(dp_shard *s); /* takes view; needs no maintaining */
void dp_payload__tend(dp_shard *s);   /* a slice of what is due */
void dp_payload__save(dp_shard *s);   /* after a checkpoint */

/* --- asking: view is held ----------------------------------------------------------------------
 */

/* What the indexes say of the matcher's filter. *useful false: nothing, look at every point. */
ort_err dp_payload__evaluate(dp_matcher *m, dp_verdict *out, bool *useful);

/* The whole index of this path, or NULL; a hint is left that it is wanted. */
const dp_payload_index *dp_payload__find(dp_shard *s, const char *path, size_t len);

/* After a question, with nothing held: what it wanted and was not there is made. */
static inline void
dp_payload__schedule(dp_shard *s)
{
    if (atomic_load_explicit(&s->payload->asked, memory_order_relaxed)) {
        dp_shard__schedule(s);
    }
}

/* Bytes of all. */
size_t dp_payload__bytes(const dp_payload_set *set);
#endif /* DP_SHARD_PAYLOAD_INDEX_INTERNAL_H */
