/* Slots numbered anew, once in some 10^9 writes: what was derived from them is made again, as by an
 * open. Graphs are built again in the background, and meanwhile what they held is scanned. */
#include <inttypes.h>

#include "base/log.h"
#include "collection/allowed_internal.h"
#include "collection/payload_index_internal.h"

static const ort_log log_ = {.module = "collection"};

/* Everything that knows a slot. view is held for writing. */
static ort_err
forget_slots(dp_shard *s, ort_diag *diag)
{
    ort_err err = ORT_OK;
    for (uint32_t i = 0; i < s->derived_count; i++) {
        dp_derived *d = &s->derived[i];
        dp_hnsw_free(d->graph);
        d->graph = NULL;
        dp_hnsw_free(d->opened);
        d->opened = NULL;
        dp_shard__note_read(s, d);
        d->graph_dirty = false;
        d->live_count = 0;
        atomic_store(&d->indexed_end, 0);
        if (d->sparse != NULL) {
            dp_sparse__free(d->sparse);
            d->sparse = NULL;
            err = dp_sparse__new(&d->sparse) == ORT_OK ? err
                                                       : ort_fail(diag, ORT_ENOMEM, "no memory");
        }
    }
    dp_allowed__forget(s->allowed);
    dp_payload__forget(s);
    pthread_mutex_lock(&s->upkeep);
    s->dead_count = 0;
    s->dead_lost = false;
    pthread_mutex_unlock(&s->upkeep);
    return err;
}

void
dp_shard__renumber(dp_shard *s)
{
    ort_diag diag = {{0}};
    pthread_mutex_lock(&s->order);
    dp_shard__wait_until_applied(s);
    pthread_rwlock_wrlock(&s->view);
    ort_err err = dp_points_renumber(s->points, &diag);
    if (err != ORT_OK) { /* there are numbers left: after the next checkpoint */
        ORT_LOG_WARN(&log_, "slots.renumber",
                     "tenant=%016" PRIx64 " collection=%016" PRIx64 " err=%s", s->tenant.v,
                     s->collection.v, diag.text);
    } else {
        err = forget_slots(s, &diag);
        err = err == ORT_OK ? dp_shard__list_all(s, &diag) : err;
        atomic_store_explicit(&s->slot_end, dp_points_slot_end(s->points), memory_order_release);
        if (err != ORT_OK) {
            dp_shard__break(s, s->applied_lsn, &diag);
        }
    }
    pthread_rwlock_unlock(&s->view);
    pthread_mutex_unlock(&s->order);
}
