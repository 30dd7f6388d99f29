/* A collection into a snapshot: the view of one moment, read slot by slot beside its writers. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/point.h"
#include "collection/snapshot_internal.h"

#define SLOTS_A_READER 4096u /* then a new one: old memory waits for a reader */
#define EXPORT_TRIES 200u
#define EXPORT_NAP_NS 25000000

/* Holds writes up for as long as it takes to apply what is under way. A checkpoint that runs is
 * waited for, but not for ever: it ends within its own time. */
static ort_err
take_view(dp_shard *s, const dp_snapshot_bounds *bounds, dp_schema **schema, dp_export **out,
          ort_diag *diag)
{
    const struct timespec nap = {.tv_nsec = EXPORT_NAP_NS};
    ort_err err = ORT_OK;
    *schema = NULL;
    for (uint32_t i = 0; i < EXPORT_TRIES; i++) {
        pthread_mutex_lock(&s->order);
        dp_shard__wait_until_applied(s);
        err = dp_shard__check_writable(s, diag);
        const bool broken = err != ORT_OK;
        if (!broken) {
            err = dp_points_export(s->points, dp_log_durable(s->log), out, diag);
        }
        if (err == ORT_OK) {
            pthread_rwlock_rdlock(&s->view);
            *schema = dp_schema_ref(s->schema);
            pthread_rwlock_unlock(&s->view);
        }
        pthread_mutex_unlock(&s->order);
        if (err != ORT_EBUSY || broken) {
            break;
        }
        const ort_err stop = dp_snapshot__check(bounds, diag);
        if (stop != ORT_OK) {
            return stop;
        }
        nanosleep(&nap, NULL);
    }
    return err;
}

static void
write_item(ort_buf *out, const dp_schema *schema, const dp_export *view, const char *name,
           const char *const *aliases, size_t alias_count)
{
    const dp_log_mark mark = dp_export_mark(view);
    char hash[17];
    ort_jw w = {.buf = out};
    snprintf(hash, sizeof hash, "%016" PRIx64, mark.hash);
    ort_buf_clear(out);
    ort_jw_object(&w);
    ort_jw_key(&w, "name");
    ort_jw_str(&w, name);
    ort_jw_key(&w, "schema");
    dp_schema_encode(schema, &w);
    ort_jw_key(&w, "aliases");
    ort_jw_array(&w);
    for (size_t i = 0; i < alias_count; i++) {
        ort_jw_str(&w, aliases[i]);
    }
    ort_jw_array_end(&w);
    ort_jw_key(&w, "lsn");
    ort_jw_u64(&w, mark.lsn);
    ort_jw_key(&w, "epoch");
    ort_jw_u64(&w, mark.epoch);
    ort_jw_key(&w, "hash");
    ort_jw_str(&w, hash);
    ort_jw_key(&w, "points");
    ort_jw_u64(&w, dp_export_count(view));
    ort_jw_key(&w, "bytes");
    ort_jw_u64(&w, dp_export_logical_bytes(view));
    ort_jw_object_end(&w);
}

typedef struct {
    dp_snapshot_writer *w;
    dp_shard *s;
    dp_reader reader;
    ort_buf versions;
    uint32_t in_block, in_reader;
} export_run;

static ort_err
end_block(export_run *run, ort_diag *diag)
{
    if (run->in_block == 0) {
        return ORT_OK;
    }
    dp_snapshot__points_end(&run->w->plain, &run->versions, run->in_block);
    run->in_block = 0;
    ort_buf_clear(&run->versions);
    const ort_err err = dp_snapshot__write_block(run->w, DP_SNAPSHOT_BLOCK_POINTS, diag);
    dp_snapshot__points_begin(&run->w->plain);
    return err;
}

static ort_err
put_slot(export_run *run, uint32_t slot, ort_diag *diag)
{
    const ort_err err =
        dp_snapshot__points_put(&run->w->plain, &run->versions, run->s, &run->reader, slot, diag);
    run->in_block++;
    if (++run->in_reader == SLOTS_A_READER) {
        run->in_reader = 0;
        dp_reader_fini(&run->reader);
        dp_reader_init(&run->reader, run->s->points);
    }
    if (err == ORT_OK && run->w->plain.len >= DP_SNAPSHOT_BLOCK_BYTES) {
        return end_block(run, diag);
    }
    return err;
}

static ort_err
put_points(dp_snapshot_writer *w, dp_shard *s, const dp_export *view, ort_diag *diag)
{
    export_run run = {.w = w, .s = s};
    ort_err err = ORT_OK;
    uint64_t count = 0;
    dp_reader_init(&run.reader, s->points);
    dp_snapshot__points_begin(&w->plain);
    for (uint32_t slot = dp_export_next(view, 0); err == ORT_OK && slot != DP_SLOT_NONE;
         slot = dp_export_next(view, slot + 1)) {
        err = put_slot(&run, slot, diag);
        count++;
    }
    if (err == ORT_OK) {
        err = end_block(&run, diag);
    }
    dp_reader_fini(&run.reader);
    ort_buf_fini(&run.versions);
    ort_buf_clear(&w->plain);
    if (err == ORT_OK && count != dp_export_count(view)) {
        err = ort_fail(diag, ORT_ECORRUPT,
                       "shard 0 of collection `%.200s`: %" PRIu64 " points, and %" PRIu64
                       " were counted",
                       s->name, count, dp_export_count(view));
    }
    return err;
}

static ort_err
put_view(dp_snapshot_writer *w, dp_shard *s, const dp_schema *schema, const dp_export *view,
         const char *name, const char *const *aliases, size_t alias_count, ort_diag *diag)
{
    write_item(&w->plain, schema, view, name, aliases, alias_count);
    ort_err err = dp_snapshot__write_block(w, DP_SNAPSHOT_BLOCK_COLLECTION, diag);
    if (err == ORT_OK) {
        err = put_points(w, s, view, diag);
    }
    if (err == ORT_OK) {
        w->totals.collections++;
        w->totals.points += dp_export_count(view);
        w->totals.bytes += dp_export_logical_bytes(view);
    }
    return err;
}

ort_err
dp_snapshot_put(dp_snapshot_writer *w, dp_collection *collection, const char *name,
                const char *const *aliases, size_t alias_count, ort_diag *diag)
{
    dp_shard *s = dp_collection__shard(collection);
    dp_schema *schema = NULL;
    dp_export *view = NULL;
    ort_err err = take_view(s, &w->bounds, &schema, &view, diag);
    if (err == ORT_OK) {
        ort_point("snapshot.view");
        err = put_view(w, s, schema, view, name, aliases, alias_count, diag);
    }
    dp_export_free(view);
    dp_schema_unref(schema);
    return err;
}

/* --- of a closed collection --------------------------------------------------------------------
 */

struct dp_still {
    dp_shard *shard;
    dp_log_mark mark;
};

ort_err
dp_still_open(dp_still **out, int data_dir, const dp_collection_config *config, ort_diag *diag)
{
    dp_still *still = calloc(1, sizeof *still);
    *out = NULL;
    if (still == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    const ort_err err = dp_shard__open_still(&still->shard, data_dir, config, &still->mark, diag);
    if (err != ORT_OK) {
        free(still);
        return err;
    }
    *out = still;
    return ORT_OK;
}

void
dp_still_close(dp_still *still)
{
    if (still != NULL) {
        dp_shard__close(still->shard, false);
        free(still);
    }
}

ort_err
dp_snapshot_put_still(dp_snapshot_writer *w, dp_still *still, const char *name,
                      const char *const *aliases, size_t alias_count, ort_diag *diag)
{
    dp_export *view = NULL;
    dp_shard *s = still->shard;
    ort_err err = dp_points_export(s->points, still->mark, &view, diag);
    if (err == ORT_OK) {
        err = put_view(w, s, s->schema, view, name, aliases, alias_count, diag);
    }
    dp_export_free(view);
    return err;
}
