/* One tenant: its life, limits and meters. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "tenant/tenant_internal.h"

static const ort_log log_ = {"tenant"};

ort_err
dp_tenant__new(dp_tenant **out, dp_tenants *all, ort_tenant_id id, ort_diag *diag)
{
    *out = NULL;
    dp_tenant *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    if (dp_quota_new(&t->quota, NULL, "tenant") != ORT_OK) {
        free(t);
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    t->all = all;
    t->id = id;
    atomic_init(&t->refs, 1);
    pthread_mutex_init(&t->change, NULL);
    pthread_mutex_init(&t->lock, NULL);
    ort_cond_init(&t->moved);
    *out = t;
    return ORT_OK;
}

void
dp_tenant__ref(dp_tenant *t)
{
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
}

dp_tenant *
dp_tenant_ref(dp_tenant *t)
{
    dp_tenant__ref(t);
    return t;
}

void
dp_tenant_unref(dp_tenant *t)
{
    if (t == NULL || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    /* A deleted tenant's collections that were in use till now. Its files are in the trash. */
    for (size_t i = 0; i < t->entry_count; i++) {
        if (t->all != NULL) { /* else its catalog was only read */
            dp_tenants__note_closed(t->all, t->entries[i]);
        }
        dp_collection_discard(t->entries[i]->collection);
        dp_entry__free(t->entries[i]);
    }
    if (t->all != NULL && t->failed_ms != 0) {
        t->all->failed_tenants--;
    }
    free(t->failure);
    free(t->entries);
    free(t->dropped);
    dp_alias__clear(&t->aliases);
    free(t->snaps.items);
    dp_quota_free(t->quota);
    pthread_cond_destroy(&t->moved);
    pthread_mutex_destroy(&t->lock);
    pthread_mutex_destroy(&t->change);
    free(t);
}

/* Remembers that the catalog could not be read, or that it can again; t->lock is held. A damaged
 * tenant may be asked for thousands of times a second: it is read, and told of, now and then. */
static void
note_load(dp_tenant *t, ort_err err, const ort_diag *why)
{
    if (err == ORT_OK) {
        if (t->failed_ms != 0) {
            t->all->failed_tenants--;
        }
        t->failed_ms = 0;
        free(t->failure);
        t->failure = NULL;
        return;
    }
    if (t->failed_ms == 0) {
        t->all->failed_tenants++;
    }
    t->failed_ms = ort_mono_ms();
    t->failed_err = err;
    t->failure = t->failure != NULL ? t->failure : malloc(sizeof *t->failure);
    if (t->failure != NULL) {
        *t->failure = *why;
    }
    char id[ORT_ID_TEXT_BYTES];
    ort_id_format(t->id.v, id);
    ORT_LOG_ERROR(&log_, "tenant.open_failed", "tenant=%s code=%s err=%s", id, ort_err_code(err),
                  why->text);
}

/* The remembered failure while it is young; t->lock is held. */
static ort_err
recent_failure(const dp_tenant *t, ort_diag *diag)
{
    if (t->failed_ms == 0 || ort_mono_ms() - t->failed_ms >= DP_TENANT_RETRY_MS) {
        return ORT_OK;
    }
    return ort_fail(diag, t->failed_err, "%s", t->failure != NULL ? t->failure->text : "");
}

ort_err
dp_tenant__ready(dp_tenant *t, ort_diag *diag)
{
    ort_diag why = {""};
    pthread_mutex_lock(&t->lock);
    const bool loaded = t->loaded;
    ort_err err = loaded ? ORT_OK : recent_failure(t, diag);
    pthread_mutex_unlock(&t->lock);
    if (loaded || err != ORT_OK) {
        return err;
    }
    pthread_mutex_lock(&t->change);
    pthread_mutex_lock(&t->lock);
    const bool late = t->loaded;
    err = late ? ORT_OK : recent_failure(t, diag);
    pthread_mutex_unlock(&t->lock);
    if (!late && err == ORT_OK) {
        err = dp_tenant__load(t, &why);
        pthread_mutex_lock(&t->lock);
        t->loaded = err == ORT_OK;
        for (size_t i = 0; err != ORT_OK && i < t->entry_count; i++) {
            dp_entry__free(t->entries[i]);
        }
        if (err != ORT_OK) {
            t->entry_count = 0;
            t->home_taken = false;
            dp_alias__clear(&t->aliases);
            free(t->snaps.items);
            t->snaps = (dp_snap_list){0};
        }
        note_load(t, err, &why);
        pthread_mutex_unlock(&t->lock);
        if (err != ORT_OK && diag != NULL) {
            *diag = why;
        }
    }
    pthread_mutex_unlock(&t->change);
    return err;
}

ort_tenant_id
dp_tenant_id(const dp_tenant *t)
{
    return t->id;
}

void
dp_tenant_set_limits(dp_tenant *t, const dp_tenant_limits *limits)
{
    dp_quota_set_limits(t->quota, limits->points_max, limits->bytes_max);
    pthread_mutex_lock(&t->lock);
    t->collections_max = limits->collections_max;
    t->bytes_max = limits->bytes_max;
    if (t->points_per_collection_max != limits->points_per_collection_max) {
        t->points_per_collection_max = limits->points_per_collection_max;
        for (size_t i = 0; i < t->entry_count; i++) {
            if (t->entries[i]->state == DP_ENTRY_OPEN) {
                dp_collection_set_points_max(t->entries[i]->collection,
                                             limits->points_per_collection_max);
            }
        }
    }
    pthread_mutex_unlock(&t->lock);
}

ort_err
dp_tenant_check_room(dp_tenant *t, ort_diag *diag)
{
    return dp_quota_check(t->quota, diag);
}

void
dp_tenant_meter(dp_tenant *t, dp_meter what, uint64_t bytes_in, uint64_t bytes_out)
{
    atomic_fetch_add_explicit(&t->requests, 1, memory_order_relaxed);
    if (what == DP_METER_SEARCH) {
        atomic_fetch_add_explicit(&t->searches, 1, memory_order_relaxed);
    } else if (what == DP_METER_WRITE) {
        atomic_fetch_add_explicit(&t->writes, 1, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&t->bytes_in, bytes_in, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->bytes_out, bytes_out, memory_order_relaxed);
}

void
dp_tenant_get_usage(dp_tenant *t, dp_tenant_usage *out)
{
    dp_amount used = {0};
    *out = (dp_tenant_usage){
        .requests = atomic_load_explicit(&t->requests, memory_order_relaxed),
        .searches = atomic_load_explicit(&t->searches, memory_order_relaxed),
        .writes = atomic_load_explicit(&t->writes, memory_order_relaxed),
        .bytes_in = atomic_load_explicit(&t->bytes_in, memory_order_relaxed),
        .bytes_out = atomic_load_explicit(&t->bytes_out, memory_order_relaxed),
    };
    dp_quota_usage(t->quota, &used, NULL);
    out->points = used.points > 0 ? (uint64_t)used.points : 0;
    out->bytes = used.bytes > 0 ? (uint64_t)used.bytes : 0;
    pthread_mutex_lock(&t->lock);
    out->collections = t->entry_count;
    for (size_t i = 0; i < t->entry_count; i++) {
        out->disk_bytes += t->entries[i]->disk_bytes;
    }
    for (size_t i = 0; i < t->snaps.count; i++) {
        out->disk_bytes += t->snaps.items[i].info.bytes;
    }
    out->disk_bytes += t->file_bytes;
    pthread_mutex_unlock(&t->lock);
}
