/* Opening and closing a shard. Open: map the segments, load the graphs that fit them, replay the
 * log behind the checkpoint. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "collection/allowed_internal.h"
#include "collection/payload_index_internal.h"

#define CLOSE_FOLD_BYTES (256u << 10) /* of log: less is replayed faster than it is folded */

static const ort_log log_ = {.module = "collection"};

static ort_err
open_points(dp_shard *s, bool read_only, ort_diag *diag)
{
    dp_column columns[ORT_VECTORS_PER_POINT_MAX];
    dp_points_config config;
    dp_collection_points_config(s->schema, s->tenant, s->collection, columns, &config);
    config.read_only = read_only;
    return dp_points_open(&s->points, s->data_dir, &config, diag);
}

static ort_err
open_log(dp_shard *s, dp_log_found *found, ort_diag *diag)
{
    const dp_log_mark mark = dp_points_mark(s->points);
    const dp_log_config config = {
        .tenant = s->tenant, .shard = s->collection, .epoch = mark.epoch, .folded = mark};
    return dp_log_open(&s->log, s->data_dir, &config, found, diag);
}

static ort_err
make_derived(dp_shard *s, ort_diag *diag)
{
    for (uint32_t i = 0; i < s->derived_count; i++) {
        const dp_vector_schema *v = dp_schema_peek_vector(s->schema, i);
        dp_derived *d = &s->derived[i];
        dp_column_rows rows;
        if (v->sparse && dp_sparse__new(&d->sparse) != ORT_OK) {
            return ort_fail(diag, ORT_ENOMEM, "out of memory");
        }
        if (v->sparse || v->multi) {
            continue;
        }
        const ort_err err = dp_points_rows(s->points, i, &rows);
        if (err != ORT_OK) {
            return ort_fail(diag, err, "rows of vector `%s`", v->name);
        }
        atomic_init(&d->rows.chunks, rows.chunks);
        d->rows.chunk_bits = DP_CHUNK_BITS;
        d->rows.stride_bytes = rows.stride_bytes;
        d->rows.dim = v->size;
        d->rows.elem = v->elem;
        d->rows.on_disk = v->on_disk;
        d->has_rows = true;
    }
    return ORT_OK;
}

static ort_err
replay_one(void *ctx, const dp_log_record *record, ort_diag *diag)
{
    dp_shard *s = ctx;
    dp_op_record op;
    uint32_t points;
    if (record->type != DP_RECORD_OPERATION) {
        return ort_fail(diag, ORT_EVERSION, "a log record of type %u", record->type);
    }
    ort_err err = dp_op__open(&op, record->body, record->len, diag);
    if (err == ORT_OK && !dp_op__fits(&op, s->schema)) {
        err = ort_fail(diag, ORT_ECORRUPT, "operation %llu does not fit the schema",
                       (unsigned long long)record->lsn);
    }
    err = err == ORT_OK ? dp_shard__apply(s, &op, record->lsn, &points, diag) : err;
    if (err == ORT_OK || err == ORT_ENOTFOUND) {
        s->applied_lsn = record->lsn;
        return ORT_OK;
    }
    return err;
}

static ort_err
open_files(dp_shard *s, ort_diag *diag)
{
    dp_log_found found;
    dp_points_stats stats;
    ort_err err = open_points(s, false, diag);
    err = err == ORT_OK ? open_log(s, &found, diag) : err;
    err = err == ORT_OK ? make_derived(s, diag) : err;
    err = err == ORT_OK ? dp_shard__list_all(s, diag) : err;
    if (err != ORT_OK) {
        return err;
    }
    atomic_store(&s->slot_end, dp_points_slot_end(s->points));
    dp_shard__open_graphs(s);
    const uint64_t folded = dp_points_mark(s->points).lsn;
    s->applied_lsn = folded;
    err = dp_log_replay(s->log, folded + 1, replay_one, s, diag);
    if (err != ORT_OK) {
        return err;
    }
    if (found.torn_bytes > 0) {
        ORT_LOG_INFO(&log_, "log.torn", "collection=%016llx bytes=%llu last_lsn=%llu",
                     (unsigned long long)s->collection.v, (unsigned long long)found.torn_bytes,
                     (unsigned long long)found.last_lsn);
    }
    dp_points_get_stats(s->points, &stats);
    dp_quota_settle(
        s->quota, (dp_amount){0},
        (dp_amount){.points = (int64_t)stats.live, .bytes = (int64_t)stats.logical_bytes});
    return ORT_OK;
}

static void
init_locks(dp_shard *s)
{
    pthread_rwlockattr_t attr;
    pthread_mutex_init(&s->order, NULL);
    pthread_mutex_init(&s->queue, NULL);
    pthread_cond_init(&s->queue_changed, NULL);
    pthread_mutex_init(&s->maintaining, NULL);
    pthread_mutex_init(&s->upkeep, NULL);
    pthread_cond_init(&s->upkeep_changed, NULL);
    /* glibc's default lets a stream of readers starve writers. Nobody reads within a read. */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&s->view, &attr);
    pthread_rwlockattr_destroy(&attr);
}

static void
shard_free(dp_shard *s)
{
    for (uint32_t i = 0; s->derived != NULL && i < s->derived_count; i++) {
        dp_hnsw_free(s->derived[i].graph);
        dp_hnsw_free(s->derived[i].opened);
        dp_sparse__free(s->derived[i].sparse);
    }
    dp_log_close(s->log);
    dp_points_close(s->points);
    if (s->allowed != NULL) {
        dp_allowed__cache_fini(s->allowed);
        free(s->allowed);
    }
    dp_payload__free(s->payload);
    free(s->derived);
    free(s->dead);
    dp_schema_unref(s->schema);
    dp_schema_unref(s->kept);
    ort_fd_close(s->data_dir);
    ort_fd_close(s->index_dir);
    pthread_rwlock_destroy(&s->view);
    pthread_mutex_destroy(&s->order);
    pthread_mutex_destroy(&s->queue);
    pthread_cond_destroy(&s->queue_changed);
    pthread_mutex_destroy(&s->maintaining);
    pthread_mutex_destroy(&s->upkeep);
    pthread_cond_destroy(&s->upkeep_changed);
    free(s);
}

/* A shard without its files. */
static ort_err
shard_new(dp_shard **out, int data_dir, const dp_collection_config *config, ort_diag *diag)
{
    dp_shard *s = calloc(1, sizeof *s);
    *out = s;
    if (s == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    init_locks(s);
    s->schema = dp_schema_ref(config->schema);
    s->kept = dp_schema_ref(config->schema);
    s->tenant = config->tenant;
    s->collection = config->id;
    snprintf(s->name, sizeof s->name, "%s", config->name);
    atomic_init(&s->bad_pages, ort_watch_bad_pages());
    s->index_dir = -1;
    s->data_dir = fcntl(data_dir, F_DUPFD_CLOEXEC, 0);
    s->derived_count = dp_schema_vector_count(s->schema);
    s->derived = calloc((size_t)s->derived_count + 1, sizeof *s->derived);
    s->allowed = malloc(sizeof *s->allowed);
    if (s->allowed != NULL) {
        dp_allowed__cache_init(s->allowed);
    }
    if (s->data_dir < 0) {
        return ort_fail_errno(diag, ORT_EIO, "duplicate a directory");
    }
    if (s->derived == NULL || s->allowed == NULL ||
        dp_payload__new(&s->payload, dp_schema_fields(s->schema)) != ORT_OK) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    return ORT_OK;
}

/* Hands out what was opened, or takes it down. */
static ort_err
end_open(dp_shard **out, dp_shard *s, const dp_collection_config *config, ort_err err,
         ort_diag *diag)
{
    *out = err == ORT_OK ? s : NULL;
    if (err != ORT_OK && s != NULL) {
        ort_diag_prefix(diag, "shard 0 of collection `%.200s`", config->name);
        shard_free(s);
    }
    return err;
}

ort_err
dp_shard__open(dp_shard **out, int data_dir, int index_dir, const dp_collection_config *config,
               dp_quota *quota, const dp_collection_env *env, ort_diag *diag)
{
    dp_shard *s;
    ort_err err = shard_new(&s, data_dir, config, diag);
    if (err == ORT_OK) {
        s->quota = quota;
        s->workers = env->workers;
        s->build_threads = env->build_threads > 0 ? env->build_threads : 1;
        s->building.busy = env->busy;
        s->building.arg = env->arg;
        atomic_init(&s->building.throttle, DP_BUILD_THROTTLE);
        s->checkpoint_bytes =
            env->checkpoint_bytes > 0 ? env->checkpoint_bytes : DP_CHECKPOINT_BYTES_DEFAULT;
        s->index_dir = index_dir >= 0 ? fcntl(index_dir, F_DUPFD_CLOEXEC, 0) : -1;
        s->make_index_dir = config->make_index_dir;
        s->index_arg = config->arg;
        err = open_files(s, diag);
    }
    err = end_open(out, s, config, err, diag);
    if (err == ORT_OK) {
        dp_shard__schedule(s);
    }
    return err;
}

/* What a checkpoint has folded in is known already. */
typedef struct {
    dp_shard *s;
    dp_log_mark last;
} still_replay;

static ort_err
replay_behind(void *ctx, const dp_log_record *record, ort_diag *diag)
{
    still_replay *r = ctx;
    if (record->lsn <= r->last.lsn) {
        return ORT_OK;
    }
    r->last = (dp_log_mark){.lsn = record->lsn, .epoch = record->epoch, .hash = record->hash};
    return replay_one(r->s, record, diag);
}

ort_err
dp_shard__open_still(dp_shard **out, int data_dir, const dp_collection_config *config,
                     dp_log_mark *mark_out, ort_diag *diag)
{
    dp_shard *s;
    ort_err err = shard_new(&s, data_dir, config, diag);
    if (err == ORT_OK) {
        err = open_points(s, true, diag);
    }
    err = err == ORT_OK ? make_derived(s, diag) : err;
    err = err == ORT_OK ? dp_shard__list_all(s, diag) : err;
    if (err == ORT_OK) {
        still_replay r = {.s = s, .last = dp_points_mark(s->points)};
        const dp_log_config log = {
            .tenant = s->tenant, .shard = s->collection, .epoch = r.last.epoch, .folded = r.last};
        dp_log_found found;
        atomic_store(&s->slot_end, dp_points_slot_end(s->points));
        s->applied_lsn = r.last.lsn;
        err = dp_log_verify(s->data_dir, &log, replay_behind, &r, &found, diag);
        *mark_out = r.last;
    }
    return end_open(out, s, config, err, diag);
}

/* Folds what would take long to replay, and what a graph needs to be of use again. */
static void
fold(dp_shard *s)
{
    ort_diag diag;
    bool graphs = false;
    for (uint32_t i = 0; i < s->derived_count; i++) {
        graphs = graphs || (s->derived[i].graph != NULL && s->derived[i].graph_dirty);
    }
    const uint64_t behind = dp_log_bytes_behind(s->log, dp_points_mark(s->points).lsn);
    if ((graphs || behind >= CLOSE_FOLD_BYTES) && !atomic_load(&s->broken) &&
        dp_shard__checkpoint(s, &diag) != ORT_OK) {
        ORT_LOG_WARN(&log_, "checkpoint.failed", "collection=%016llx err=%s",
                     (unsigned long long)s->collection.v, diag.text);
    }
}

void
dp_shard__close(dp_shard *s, bool keep)
{
    if (s == NULL) {
        return;
    }
    dp_shard__upkeep_stop(s);
    if (keep) {
        fold(s);
    }
    shard_free(s);
}
