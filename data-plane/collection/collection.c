/* A collection: its shards behind one face. There is one shard now; a second one would be chosen
 * here, by id for writes, and merged here, by score for reads. */
#include "collection/collection.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "collection/allowed_internal.h"
#include "collection/payload_index_internal.h"
#include "collection/query_internal.h"
#include "collection/shard_internal.h"

#define SHARDS 1u

static const ort_log log_ = {.module = "collection"};

struct dp_collection {
    dp_quota *quota; /* beneath the tenant's */
    ort_err (*before_writes)(void *arg, ort_diag *diag);
    const atomic_bool *ask_again;
    void *arg;
    pthread_mutex_t first;     /* before all locks of shards: one asks before_writes() at a time */
    atomic_bool written;       /* it was asked, and agreed */
    atomic_bool damaged;       /* somebody who read it met damage */
    dp_strict_bucket rates[2]; /* of reads, of writes */
    dp_shard *shards[SHARDS];
};

ort_err
dp_collection_open(dp_collection **out, int data_dir, int index_dir,
                   const dp_collection_config *config, const dp_collection_env *env, ort_diag *diag)
{
    *out = NULL;
    dp_collection *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    c->before_writes = config->before_writes;
    c->ask_again = config->ask_again;
    c->arg = config->arg;
    pthread_mutex_init(&c->first, NULL);
    dp_strict_bucket_init(&c->rates[0]);
    dp_strict_bucket_init(&c->rates[1]);
    ort_err err = dp_quota_new(&c->quota, config->quota, "collection");
    if (err == ORT_OK) {
        dp_quota_set_limits(c->quota, config->points_max, 0);
        /* Shard 0 has the collection's directories to itself: one directory less a collection. */
        err = dp_shard__open(&c->shards[0], data_dir, index_dir, config, c->quota, env, diag);
    }
    if (err != ORT_OK) {
        dp_quota_free(c->quota);
        pthread_mutex_destroy(&c->first);
        dp_strict_bucket_fini(&c->rates[0]);
        dp_strict_bucket_fini(&c->rates[1]);
        free(c);
        return err;
    }
    *out = c;
    return ORT_OK;
}

static void
close_shards(dp_collection *c, bool keep)
{
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < SHARDS; i++) {
        dp_shard__close(c->shards[i], keep);
    }
    dp_quota_free(c->quota);
    pthread_mutex_destroy(&c->first);
    dp_strict_bucket_fini(&c->rates[0]);
    dp_strict_bucket_fini(&c->rates[1]);
    free(c);
}

void
dp_collection_close(dp_collection *c)
{
    close_shards(c, true);
}

void
dp_collection_discard(dp_collection *c)
{
    close_shards(c, false);
}

dp_shard *
dp_collection__shard(dp_collection *c)
{
    return c->shards[0];
}

dp_schema *
dp_collection_schema(dp_collection *c)
{
    dp_shard *s = c->shards[0];
    pthread_rwlock_rdlock(&s->view);
    dp_schema *schema = dp_schema_ref(s->schema);
    pthread_rwlock_unlock(&s->view);
    return schema;
}

void
dp_collection_set_schema(dp_collection *c, dp_schema *schema)
{
    for (size_t i = 0; i < SHARDS; i++) {
        dp_shard *s = c->shards[i];
        pthread_rwlock_wrlock(&s->view);
        dp_schema *old = s->schema;
        s->schema = dp_schema_ref(schema);
        if (dp_schema_fields(schema) != NULL || s->payload->fields != NULL) {
            dp_payload__declare(s, dp_schema_fields(schema));
            dp_allowed__forget(s->allowed); /* text conditions may mean something else now */
        }
        pthread_rwlock_unlock(&s->view);
        dp_schema_unref(old);
        /* The rest is upkeep's: a checkpoint or a training of codes may be under way, for long. */
        atomic_store(&s->schema_changed, true);
        dp_shard__schedule(s);
    }
}

void
dp_collection_set_points_max(dp_collection *c, uint64_t points_max)
{
    dp_quota_set_limits(c->quota, points_max, 0);
}

static ort_err
announce_writes(dp_collection *c, ort_diag *diag)
{
    ort_err err = ORT_OK;
    const bool again =
        c->ask_again != NULL && atomic_load_explicit(c->ask_again, memory_order_acquire);
    if (c->before_writes == NULL ||
        (atomic_load_explicit(&c->written, memory_order_acquire) && !again)) {
        return ORT_OK;
    }
    pthread_mutex_lock(&c->first);
    if (again || !atomic_load_explicit(&c->written, memory_order_relaxed)) {
        err = c->before_writes(c->arg, diag);
        atomic_store_explicit(&c->written, err == ORT_OK, memory_order_release);
    }
    pthread_mutex_unlock(&c->first);
    return err;
}

ort_err
dp_collection_apply(dp_collection *c, const dp_op *op, uint64_t until_mono_ns, dp_op_result *out,
                    ort_diag *diag)
{
    const ort_err err = announce_writes(c, diag);
    if (err != ORT_OK) {
        *out = (dp_op_result){0};
        return err;
    }
    return dp_shard__write(c->shards[0], op, until_mono_ns, out, diag);
}

ort_err
dp_collection_apply_all(dp_collection *c, dp_op *const *ops, size_t count, uint64_t until_mono_ns,
                        dp_op_result *results, ort_err *errs, ort_diag *diag)
{
    ort_err err = ORT_OK;
    for (size_t i = 0; i < count; i++) {
        results[i] = (dp_op_result){0};
        errs[i] = err == ORT_OK ? dp_collection_apply(c, ops[i], until_mono_ns, &results[i], diag)
                                : ORT_EBUSY;
        err = err == ORT_OK ? errs[i] : err;
    }
    return err;
}

/* Damage that only reading shows, in a payload or a vector: said as is what an open finds. Once to
 * the log, and kept for the metric. */
static ort_err
tell_damage(dp_collection *c, ort_err err, ort_diag *diag)
{
    const dp_shard *s = c->shards[0];
    ort_diag why = {""};
    if (err != ORT_ECORRUPT) {
        return err;
    }
    if (diag != NULL) {
        why = *diag;
    }
    if (!atomic_exchange(&c->damaged, true)) {
        ORT_LOG_ERROR(&log_, "collection.damaged",
                      "tenant=%016" PRIx64 " collection=%016" PRIx64 " err=%s", s->tenant.v,
                      s->collection.v, why.text);
    }
    return ort_fail(diag, ORT_EBUSY, "Collection `%.200s` (shard 0) is not available: %.200s",
                    s->name, why.text);
}

ort_err
dp_collection_query(dp_collection *c, const dp_query *queries, size_t count, bool want_payload,
                    dp_point_fn fn, void *ctx, ort_diag *diag)
{
    if (count == 0 || count > ORT_BATCH_QUERIES_MAX) {
        return ort_fail(diag, ORT_EVALIDATE, "searches: must have 1 to %u", ORT_BATCH_QUERIES_MAX);
    }
    const ort_err err = dp_query__answer(c->shards[0], queries, count, want_payload, fn, ctx, diag);
    if (dp_shard__pages_went_bad(c->shards[0])) {
        dp_shard__schedule(c->shards[0]); /* a graph may have to be made anew */
    }
    return tell_damage(c, err, diag);
}

ort_err
dp_collection_retrieve(dp_collection *c, const ort_point_id *ids, size_t count, bool want_payload,
                       dp_point_fn fn, void *ctx, ort_diag *diag)
{
    return tell_damage(c, dp_query__retrieve(c->shards[0], ids, count, want_payload, fn, ctx, diag),
                       diag);
}

ort_err
dp_collection_scroll(dp_collection *c, const dp_filter *filter, const ort_point_id *from,
                     uint64_t limit, bool want_payload, dp_point_fn fn, void *ctx, bool *has_next,
                     ort_point_id *next, ort_diag *diag)
{
    const uint64_t most = limit < ORT_SCROLL_MAX ? limit : ORT_SCROLL_MAX;
    return tell_damage(c,
                       dp_query__scroll(c->shards[0], filter, from, most, want_payload, fn, ctx,
                                        has_next, next, diag),
                       diag);
}

ort_err
dp_collection_count(dp_collection *c, const dp_filter *filter, uint64_t *out, ort_diag *diag)
{
    return tell_damage(c, dp_query__count(c->shards[0], filter, out, diag), diag);
}

ort_err
dp_collection_facet(dp_collection *c, const char *field, size_t len, const dp_filter *filter,
                    dp_facet_fn fn, void *ctx, ort_diag *diag)
{
    return dp_query__facet(c->shards[0], field, len, filter, fn, ctx, diag);
}

bool
dp_collection_field_points(dp_collection *c, const char *field, size_t len, uint64_t *out)
{
    return dp_query__field_points(c->shards[0], field, len, out);
}

static void
count_vectors(dp_shard *s, dp_collection_info *out)
{
    pthread_rwlock_rdlock(&s->view);
    for (uint32_t i = 0; i < s->derived_count; i++) {
        const dp_derived *d = &s->derived[i];
        out->vectors += d->live_count;
        out->vector_bytes +=
            d->has_rows ? d->live_count * d->rows.dim * dp_elem_bytes(d->rows.elem) : 0;
        if (d->sparse != NULL) {
            out->indexed_vectors += d->live_count;
        } else if (d->graph != NULL) {
            const uint64_t in_graph = dp_hnsw_count(d->graph);
            out->indexed_vectors += in_graph < d->live_count ? in_graph : d->live_count;
            out->code_bytes += dp_hnsw_code_row_bytes(d->graph) * in_graph;
        }
    }
    out->applied_lsn = s->applied_lsn;
    pthread_rwlock_unlock(&s->view);
}

void
dp_collection_get_info(dp_collection *c, dp_collection_info *out)
{
    *out = (dp_collection_info){.green = true, .damaged = atomic_load(&c->damaged)};
    for (size_t i = 0; i < SHARDS; i++) {
        dp_shard *s = c->shards[i];
        dp_points_stats stats;
        dp_points_get_stats(s->points, &stats);
        out->points += stats.live;
        out->bytes += stats.logical_bytes;
        out->disk_bytes += stats.disk_bytes + dp_log_disk_bytes(s->log);
        out->segments += stats.segments + (stats.tail_slots > 0 || stats.segments == 0);
        out->update_queue += dp_shard__queue_length(s);
        out->green = out->green && (s->workers == NULL || dp_shard__due(s) == 0);
        out->error = atomic_load(&s->broken) ? s->broken_why.text : out->error;
        count_vectors(s, out);
    }
}

ort_err
dp_collection_spend(dp_collection *c, bool write, uint64_t per_minute, uint64_t cost,
                    uint64_t *retry_s, ort_diag *diag)
{
    double left = 0;
    if (dp_strict_bucket_take(&c->rates[write], per_minute, cost, ort_mono_ns(), &left, retry_s)) {
        return ORT_OK;
    }
    return ort_fail(diag, ORT_ERATE,
                    "%s rate limit exceeded: Operation requires %llu tokens but only %.1f were "
                    "available. Retry after %llus",
                    write ? "Write" : "Read", (unsigned long long)cost, left,
                    (unsigned long long)*retry_s);
}

uint64_t
dp_collection_memory(dp_collection *c)
{
    uint64_t bytes = sizeof *c;
    for (size_t i = 0; i < SHARDS; i++) {
        dp_shard *s = c->shards[i];
        dp_points_stats stats;
        dp_points_get_stats(s->points, &stats);
        uint64_t on_disk = 0; /* rows that nobody expects to find in memory */
        bytes += sizeof *s + stats.memory_bytes;
        pthread_rwlock_rdlock(&s->view);
        for (uint32_t j = 0; j < s->derived_count; j++) {
            const dp_derived *d = &s->derived[j];
            bytes += d->graph != NULL ? dp_hnsw_bytes(d->graph) : 0;
            bytes += d->sparse != NULL ? dp_sparse__bytes(d->sparse) : 0;
            on_disk += d->rows.on_disk ? d->live_count * d->rows.stride_bytes : 0;
        }
        bytes += stats.mapped_bytes > on_disk ? stats.mapped_bytes - on_disk : 0;
        bytes += dp_payload__bytes(s->payload);
        pthread_rwlock_unlock(&s->view);
    }
    return bytes;
}

ort_err
dp_collection_checkpoint(dp_collection *c, ort_diag *diag)
{
    ort_err err = ORT_OK;
    for (size_t i = 0; err == ORT_OK && i < SHARDS; i++) {
        err = dp_shard__checkpoint(c->shards[i], diag);
    }
    return err;
}

ort_err
dp_collection_wait_indexed(dp_collection *c, uint64_t until_mono_ns)
{
    const struct timespec nap = {.tv_nsec = 2000000};
    for (;;) {
        bool idle = true;
        for (size_t i = 0; i < SHARDS; i++) {
            idle = idle && dp_shard__is_idle(c->shards[i]);
            if (!idle) {
                dp_shard__schedule(c->shards[i]);
            }
        }
        if (idle) {
            return ORT_OK;
        }
        if (ort_mono_ns() >= until_mono_ns) {
            return ORT_ETIMEOUT;
        }
        nanosleep(&nap, NULL);
    }
}
