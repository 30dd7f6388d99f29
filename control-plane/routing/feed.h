/* control-plane/routing/feed.h: follows the op log and keeps the tables (push.h) at what the store
 * says should be.
 *
 * One thread reads which rows the new records touched, compiles those tenants and nodes anew from
 * one snapshot, and applies them as one version. It never takes a record as a command: what a
 * record says happened is only where to look. So a record seen twice, or late, does no harm.
 *
 *   change committed ──cp_feed_changed──► waiting ──20 ms, or at once for a denial──► compile,
 * apply
 */
#ifndef CP_FEED_H
#define CP_FEED_H
#include "base/err.h"
#include "routing/push.h"
#include "store/store.h"

typedef struct cp_feed cp_feed;

typedef struct {
    cp_store *store; /* borrowed */
    cp_push *push;   /* borrowed */
    uint32_t
        coalesce_ms; /* grants wait this long for each other; UINT32_MAX = not at all. 0 = 20 */
} cp_feed_options;

/* Compiles the whole hub (about 50 us a tenant), then follows on a thread of its own.
 * ORT_EBUSY, ORT_ENOMEM, and what the store says; *out is NULL. */
ORT_NODISCARD ort_err cp_feed_start(cp_feed **out, const cp_feed_options *options, ort_diag *diag);
void cp_feed_stop(cp_feed *feed); /* joins the thread and frees; NULL is fine */

/* A change was committed: for cp_store_on_change(). ctx is the feed. Never waits. */
void cp_feed_changed(void *ctx, uint64_t version);

typedef struct {
    uint64_t compiles_total;
    uint64_t tenants_total; /* compiled, all together */
    uint64_t failures_total;
    uint64_t compile_ns_total; /* from reading the op log to tables applied */
    uint64_t wait_ns_total;    /* from the commit's notice to the begin of that */
} cp_feed_stats;

void cp_feed_stats_get(cp_feed *feed, cp_feed_stats *out);
#endif /* CP_FEED_H */
