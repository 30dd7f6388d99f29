/* Upkeep: what happens to a shard beside its requests. One job a shard at a time, on the pool that
 * the whole node shares; a job works in slices and goes back to the end of the queue after each, so
 * that a large import of one tenant leaves the others' graphs their turn.
 *
 * A round: tell the graphs of dead slots; make a graph where a vector has grown enough for one;
 * insert a slice of the tail; repair when a tenth is dead; checkpoint when the log is long. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/point.h"
#include "collection/links_internal.h"

#define NAP_NS_MAX UINT64_C(100000000)

/* Of a checkpoint, at least: see storage.md, "What it costs". */
#define CHECKPOINT_BYTES_S (UINT64_C(64) << 20)

/* The log grows no longer than this, however large the shard: what a restart replays, and what a
 * crash in a checkpoint has written again, is bounded by it. */
#define CHECKPOINT_LOG_BYTES_MAX (UINT64_C(1) << 30)

/* Full files of the log that are left plain: the next cut takes them. */
#define LOG_PLAIN_FILES 2u
#define LOG_PACK_LEVEL 1
#define RETRY_NS DP_RETRY_NS
#define RELOCATE_SLOTS 128u     /* at once: about as long as an ordinary batch of writes */
#define RELOCATE_STEPS_MAX 512u /* a checkpoint: the next one goes on */

static const ort_log log_ = {.module = "collection"};

static void run(void *arg);

/* --- scheduling ---------------------------------------------------------------------------------
 */

static bool
checkpoint_due(dp_shard *s)
{
    const uint64_t behind = dp_log_bytes_behind(s->log, dp_points_mark(s->points).lsn);
    dp_points_stats stats;
    if (behind < s->checkpoint_bytes) {
        return false;
    }
    dp_points_get_stats(s->points, &stats);
    /* Folding rewrites no more than a few times what it folds: the more there is, the longer the
     * log may grow. */
    uint64_t due = stats.disk_bytes / 4;
    due = due < CHECKPOINT_LOG_BYTES_MAX ? due : CHECKPOINT_LOG_BYTES_MAX;
    due = due > s->checkpoint_bytes ? due : s->checkpoint_bytes;
    return behind >= due && ort_mono_ns() >= atomic_load(&s->checkpoint_retry_ns) &&
           !atomic_load(&s->broken);
}

/* Only a shard whose log may grow long has such files: a large one. */
static bool
log_pack_due(dp_shard *s)
{
    return ort_mono_ns() >= atomic_load(&s->checkpoint_retry_ns) &&
           dp_log_pack_due(s->log, LOG_PLAIN_FILES);
}

bool
dp_shard__is_graphed(const dp_schema *schema, uint32_t column)
{
    const dp_vector_schema *v = dp_schema_peek_vector(schema, column);
    return !v->sparse && !v->multi && v->hnsw.indexing_threshold_kb > 0 &&
           (v->hnsw.m > 0 || dp_links__are_wanted(schema, column));
}

bool
dp_shard__wants_graph(const dp_shard *s, uint32_t column)
{
    const dp_vector_schema *v = dp_schema_peek_vector(s->schema, column);
    return dp_shard__is_graphed(s->schema, column) && s->derived[column].has_rows &&
           s->derived[column].live_count * v->size * dp_elem_bytes(v->elem) >=
               (uint64_t)v->hnsw.indexing_threshold_kb * 1024;
}

/* Slots that wait for a graph, of all vectors. */
uint64_t
dp_shard__due(dp_shard *s)
{
    const uint32_t end = atomic_load_explicit(&s->slot_end, memory_order_acquire);
    uint64_t due = 0;
    pthread_rwlock_rdlock(&s->view);
    for (uint32_t c = 0; c < s->derived_count; c++) {
        const dp_derived *d = &s->derived[c];
        if (d->graph != NULL) {
            due += end - atomic_load_explicit(&d->indexed_end, memory_order_acquire) +
                   dp_links__due(s, c);
        } else if (d->opened != NULL || dp_shard__wants_graph(s, c)) {
            due += d->live_count + (d->opened != NULL);
        }
    }
    pthread_rwlock_unlock(&s->view);
    return due;
}

static bool
anything_to_do(dp_shard *s)
{
    pthread_mutex_lock(&s->upkeep);
    const bool dead = s->dead_count > 0 || s->dead_lost;
    pthread_mutex_unlock(&s->upkeep);
    return dead || (s->workers != NULL && atomic_load(&s->schema_changed)) || checkpoint_due(s) ||
           log_pack_due(s) || dp_payload__is_due(s) ||
           (ort_mono_ns() >= atomic_load(&s->graph_retry_ns) &&
            (dp_shard__due(s) > 0 || dp_shard__wants_codes(s)));
}

void
dp_shard__schedule(dp_shard *s)
{
    if (s->workers == NULL || atomic_load(&s->stop)) {
        return;
    }
    pthread_mutex_lock(&s->upkeep);
    if (s->scheduled) {
        s->again = true;
        pthread_mutex_unlock(&s->upkeep);
        return;
    }
    pthread_mutex_unlock(&s->upkeep);
    if (!anything_to_do(s)) {
        return;
    }
    pthread_mutex_lock(&s->upkeep);
    /* A full queue is no loss: the next write asks again. */
    if (!s->scheduled && !atomic_load(&s->stop)) {
        s->scheduled = ort_pool_submit(s->workers, run, s) == ORT_OK;
    }
    pthread_mutex_unlock(&s->upkeep);
}

bool
dp_shard__is_idle(dp_shard *s)
{
    pthread_mutex_lock(&s->upkeep);
    const bool idle = !s->scheduled;
    pthread_mutex_unlock(&s->upkeep);
    return idle && !anything_to_do(s);
}

void
dp_shard__upkeep_stop(dp_shard *s)
{
    atomic_store(&s->stop, true);
    atomic_store(&s->building.cancel, true);
    pthread_mutex_lock(&s->upkeep);
    while (s->scheduled) {
        pthread_cond_wait(&s->upkeep_changed, &s->upkeep);
    }
    pthread_mutex_unlock(&s->upkeep);
}

/* --- dead slots ---------------------------------------------------------------------------------
 */

/* Called with view held for writing. Without a graph nobody wants to know: a graph made later takes
 * live slots only. */
void
dp_shard__note_dead(dp_shard *s, uint32_t slot)
{
    bool graphs = false;
    for (uint32_t c = 0; c < s->derived_count; c++) {
        graphs = graphs || s->derived[c].graph != NULL || s->derived[c].opened != NULL;
    }
    if (!graphs) {
        return;
    }
    pthread_mutex_lock(&s->upkeep);
    if (s->dead_count == s->dead_cap && !s->dead_lost) {
        const size_t cap = s->dead_cap == 0 ? 256 : s->dead_cap * 2;
        uint32_t *grown = realloc(s->dead, cap * sizeof *grown);
        if (grown == NULL) {
            s->dead_lost = true;
        } else {
            s->dead = grown;
            s->dead_cap = cap;
        }
    }
    if (!s->dead_lost) {
        s->dead[s->dead_count++] = slot;
    }
    pthread_mutex_unlock(&s->upkeep);
}

static void
delete_from(dp_derived *d, uint32_t slot)
{
    if (d->graph != NULL && dp_hnsw_delete(d->graph, slot) == ORT_OK) {
        d->graph_dirty = true;
    }
}

static void
tell_dead(dp_shard *s)
{
    pthread_mutex_lock(&s->upkeep);
    uint32_t *dead = s->dead;
    const size_t count = s->dead_count;
    const bool lost = s->dead_lost;
    s->dead = NULL;
    s->dead_count = s->dead_cap = 0;
    s->dead_lost = false;
    pthread_mutex_unlock(&s->upkeep);
    const uint32_t end = lost ? atomic_load(&s->slot_end) : 0;
    for (uint32_t c = 0; c < s->derived_count; c++) {
        for (size_t i = 0; i < count; i++) {
            delete_from(&s->derived[c], dead[i]);
        }
        for (uint32_t slot = 0; slot < end; slot++) {
            if (!dp_points_is_live(s->points, slot)) {
                delete_from(&s->derived[c], slot);
            }
        }
    }
    free(dead);
}

/* --- checkpoints --------------------------------------------------------------------------------
 */

/* Dead slots that a graph still walks through keep their rows. */
static bool
is_held(void *arg, uint32_t slot_first, uint32_t slot_count)
{
    dp_shard *s = arg;
    (void)slot_first;
    (void)slot_count;
    for (uint32_t c = 0; c < s->derived_count; c++) {
        if (s->derived[c].graph != NULL && dp_hnsw_deleted(s->derived[c].graph) > 0) {
            return true;
        }
    }
    pthread_mutex_lock(&s->upkeep);
    const bool untold = s->dead_count > 0 || s->dead_lost;
    pthread_mutex_unlock(&s->upkeep);
    return untold;
}

/* Dead slots hold the rows of chunks that a checkpoint could drop; saving would repair anyway. */
static void
repair_all(dp_shard *s)
{
    dp_reader reader;
    dp_reader_init(&reader, s->points);
    for (uint32_t c = 0; c < s->derived_count; c++) {
        dp_derived *d = &s->derived[c];
        if (d->graph != NULL && dp_hnsw_deleted(d->graph) > 0 &&
            dp_hnsw_repair(d->graph) == ORT_OK) {
            d->graph_dirty = true;
        }
    }
    dp_reader_fini(&reader);
}

/* Holds up writes for as long as it takes to apply what is under way: one group commit. */
static ort_err
freeze(dp_shard *s, dp_checkpoint **out, dp_log_mark *mark, ort_diag *diag)
{
    pthread_mutex_lock(&s->order);
    dp_shard__wait_until_applied(s);
    ort_err err = ORT_OK;
    if (atomic_load(&s->broken)) {
        err = ort_fail(diag, ORT_EBUSY, "the shard takes no writes");
    } else {
        *mark = dp_log_durable(s->log);
        err = dp_points_freeze(s->points, *mark, out, diag);
    }
    pthread_mutex_unlock(&s->order);
    return err;
}

/* Empties chunks that are mostly dead, so that the checkpoint drops them. In small steps: each
 * holds readers and writes up. What a crash undoes here is done again by the next checkpoint. */
static void
compact(dp_shard *s)
{
    struct timespec nap = {0};
    ort_err err = ORT_OK;
    ort_diag diag;
    uint32_t moved = 1;
    for (uint32_t step = 0; err == ORT_OK && moved > 0 && step < RELOCATE_STEPS_MAX; step++) {
        /* As long a pause as the step before took: others have at least half of the time. */
        nanosleep(&nap, NULL);
        pthread_rwlock_wrlock(&s->view);
        const uint64_t began_ns = ort_mono_ns();
        err = dp_shard__relocate(s, RELOCATE_SLOTS, &moved, &diag);
        pthread_rwlock_unlock(&s->view);
        if (moved > 0) {
            ort_point("compaction.moved");
        }
        const uint64_t took_ns = ort_mono_ns() - began_ns;
        nap.tv_nsec =
            atomic_load(&s->stop) ? 0 : (long)(took_ns < NAP_NS_MAX ? took_ns : NAP_NS_MAX);
    }
    if (err != ORT_OK) { /* the checkpoint is worth more than the room */
        ORT_LOG_WARN(&log_, "compaction.failed",
                     "tenant=%016" PRIx64 " collection=%016" PRIx64 " err=%s", s->tenant.v,
                     s->collection.v, diag.text);
    }
}

/* Bytes a second that a checkpoint may write. It writes what came in since the last one, and a few
 * times that where segments are merged; it must not take longer than the next one takes to fall
 * due, or the log would grow without end. */
static uint64_t
pace(dp_shard *s)
{
    dp_log_stats stats;
    dp_log_get_stats(s->log, &stats);
    const uint64_t now = ort_mono_ns();
    const uint64_t bytes = stats.bytes - s->paced_bytes;
    const double seconds = (double)(now - s->paced_ns) / 1e9;
    const double came = s->paced_ns != 0 && seconds > 0 ? (double)bytes / seconds : 0;
    s->paced_bytes = stats.bytes;
    s->paced_ns = now;
    return came * 4 > (double)CHECKPOINT_BYTES_S ? (uint64_t)(came * 4) : CHECKPOINT_BYTES_S;
}

void
dp_shard__follow_schema(dp_shard *s)
{
    if (!atomic_exchange(&s->schema_changed, false)) {
        return;
    }
    pthread_rwlock_rdlock(&s->view);
    dp_schema *fresh = dp_schema_ref(s->schema);
    pthread_rwlock_unlock(&s->view);
    dp_schema_unref(s->kept);
    s->kept = fresh;
    for (uint32_t c = 0; c < s->derived_count; c++) {
        dp_shard__ask_codes(s, c);
    }
    dp_points_set_packing(s->points, dp_collection_packing(fresh)); /* no checkpoint is under way */
    dp_payload__bury(s);
}

/* maintaining is held. */
static ort_err
checkpoint(dp_shard *s, ort_diag *diag)
{
    const dp_checkpoint_options options = {
        .held = is_held, .arg = s, .bytes_per_s = pace(s), .hurry = &s->stop};
    dp_checkpoint *cp = NULL;
    dp_log_mark mark = {0};
    dp_shard__follow_schema(s);
    dp_shard__adopt_graphs(s, NULL); /* else what is written now makes their files stale */
    compact(s);
    tell_dead(s);
    repair_all(s);
    ort_err err = freeze(s, &cp, &mark, diag);
    if (err == ORT_OK) {
        err = dp_checkpoint_write(cp, &options, diag);
    }
    dp_checkpoint_free(cp);
    if (err == ORT_OK) {
        /* Graphs first: losing them costs a rebuild, a longer log costs nothing. */
        dp_shard__save_graphs(s);
        ort_point("checkpoint.graphs");
        dp_payload__save(s);
        ort_point("checkpoint.saved");
        err = dp_log_cut(s->log, mark.lsn, diag);
    }
    if (err == ORT_OK && dp_points_is_short_of_slots(s->points)) {
        dp_shard__renumber(s);
    }
    return err;
}

ort_err
dp_shard__checkpoint(dp_shard *s, ort_diag *diag)
{
    pthread_mutex_lock(&s->maintaining);
    const ort_err err = checkpoint(s, diag);
    pthread_mutex_unlock(&s->maintaining);
    return err;
}

/* --- the job ------------------------------------------------------------------------------------
 */

static void
round_of_work(dp_shard *s)
{
    pthread_mutex_lock(&s->maintaining);
    dp_shard__follow_schema(s);
    atomic_store(&s->bad_pages, ort_watch_bad_pages());
    dp_shard__adopt_graphs(s, &s->building);
    tell_dead(s);
    if (!atomic_load(&s->stop)) {
        dp_payload__tend(s);
    }
    for (uint32_t c = 0; c < s->derived_count && !atomic_load(&s->stop); c++) {
        dp_shard__tend_graph(s, c);
        dp_shard__settle_graph(s, c);
    }
    if (!atomic_load(&s->stop) && checkpoint_due(s)) {
        ort_diag diag;
        if (checkpoint(s, &diag) != ORT_OK) {
            ORT_LOG_WARN(&log_, "checkpoint.failed",
                         "tenant=%016" PRIx64 " collection=%016" PRIx64 " err=%s", s->tenant.v,
                         s->collection.v, diag.text);
            atomic_store(&s->checkpoint_retry_ns, ort_mono_ns() + RETRY_NS);
        }
    }
    if (!atomic_load(&s->stop) && log_pack_due(s)) {
        ort_diag diag;
        bool packed;
        if (dp_log_pack(s->log, LOG_PLAIN_FILES, LOG_PACK_LEVEL, &packed, &diag) != ORT_OK) {
            ORT_LOG_WARN(&log_, "log.pack",
                         "tenant=%016" PRIx64 " collection=%016" PRIx64 " err=%s", s->tenant.v,
                         s->collection.v, diag.text);
            atomic_store(&s->checkpoint_retry_ns, ort_mono_ns() + RETRY_NS);
        }
    }
    pthread_mutex_unlock(&s->maintaining);
}

static void
run(void *arg)
{
    dp_shard *s = arg;
    for (;;) {
        if (!atomic_load(&s->stop)) {
            round_of_work(s);
        }
        const bool more = !atomic_load(&s->stop) && anything_to_do(s);
        pthread_mutex_lock(&s->upkeep);
        if ((more || s->again) && !atomic_load(&s->stop)) {
            s->again = false;
            const bool queued = ort_pool_submit(s->workers, run, s) == ORT_OK;
            pthread_mutex_unlock(&s->upkeep);
            if (queued) {
                return;
            }
            continue; /* the queue is full, or closing: go on here */
        }
        s->scheduled = false;
        pthread_cond_broadcast(&s->upkeep_changed);
        pthread_mutex_unlock(&s->upkeep);
        return;
    }
}
