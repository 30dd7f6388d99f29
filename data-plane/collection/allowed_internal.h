/* data-plane/collection/allowed_internal.h: which slots a filter lets through, remembered.
 *
 * What a slot holds never changes, so a filter's verdict on it holds for ever: a filter that comes
 * again (most do) is asked about new slots only. The first time it is asked about all live ones in
 * the order of slots, which is also the order of payload blocks: asking in the order of a graph
 * walk would unpack a block for every point it meets. */
#ifndef DP_ALLOWED_INTERNAL_H
#define DP_ALLOWED_INTERNAL_H
#include <pthread.h>
#include <stdatomic.h>

#include "collection/match_internal.h"
#include "filter/evaluate.h"

/* Verdicts as bits, for slots below slot_end; immutable and counted. Bits of dead slots mean
 * nothing: use with the live bits. */
typedef struct {
    atomic_uint refs;
    dp_slot_set set;
    _Atomic(uint64_t) *words;
    char *text; /* of the filter */
    size_t text_len;
    uint64_t used; /* when last, for the cache */
} dp_allowed;

#define DP_ALLOWED_KEPT 8u                   /* filters remembered a shard */
#define DP_ALLOWED_TEXT_BYTES_MAX (8u << 10) /* longer filters are not remembered */

struct dp_allowed_cache {
    pthread_mutex_t lock;
    dp_allowed *kept[DP_ALLOWED_KEPT];
    uint64_t clock;
};

void dp_allowed__cache_init(dp_allowed_cache *cache);
void dp_allowed__cache_fini(dp_allowed_cache *cache);
void dp_allowed__forget(dp_allowed_cache *cache); /* everything; view is held for writing */

/* A reference to the verdicts of m->filter (not empty) on every live slot; view is held for
 * reading. Errors of reading payloads, ORT_ENOMEM.
 *
 * told  what the indexes say of the filter, when they were asked already; NULL: they will be */
ort_err dp_allowed__get(dp_allowed **out, dp_allowed_cache *cache, dp_matcher *m,
                        const dp_verdict *told);

/* The same when all of it is remembered, else NULL. */
dp_allowed *dp_allowed__peek(dp_allowed_cache *cache, const dp_matcher *m);
void dp_allowed__unref(dp_allowed *allowed); /* NULL is fine */

/* Live slots that are let through: their number, and themselves (at most cap). */
uint64_t dp_allowed__count(const dp_allowed *allowed, const dp_points *points);
size_t dp_allowed__list(const dp_allowed *allowed, const dp_points *points, uint32_t *slots,
                        size_t cap);
#endif /* DP_ALLOWED_INTERNAL_H */
