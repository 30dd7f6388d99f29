/* The life of a collection's files: opened on first use, announced before the first write, closed
 * when idle. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/point.h"
#include "tenant/tenant_internal.h"

static const ort_log log_ = {"tenant"};

/* --- directories ------------------------------------------------------------------------------ */

int
dp_tenant__open_folder(dp_tenant *t, const char *folder, const ort_collection_id *id)
{
    char path[DP_TENANT_PATH_BYTES];
    dp_tenant__path(t, folder, id, path);
    return ort_open_beneath(t->all->tenants_fd, path, O_RDONLY | O_DIRECTORY, 0);
}

/* Makes collections/<id> or indexes/<id> beneath the tenant, and opens it. */
ort_err
dp_tenant__make_folder(dp_tenant *t, const char *folder, ort_collection_id id, int *fd_out,
                       ort_diag *diag)
{
    char name[ORT_ID_TEXT_BYTES];
    ort_id_format(id.v, name);
    const int top = dp_tenant__open_folder(t, "", NULL);
    ort_err err = top < 0 ? ort_fail_errno(diag, ORT_EIO, "open the tenant's directory")
                          : ort_dir_make(top, folder, diag);
    ort_fd_close(top);
    const int fd = err == ORT_OK ? dp_tenant__open_folder(t, folder, NULL) : -1;
    if (err == ORT_OK) {
        err = fd < 0 ? ort_fail_errno(diag, ORT_EIO, "open %s", folder)
                     : ort_dir_make(fd, name, diag);
    }
    ort_fd_close(fd);
    *fd_out = err == ORT_OK ? dp_tenant__open_folder(t, folder, &id) : -1;
    if (err == ORT_OK && *fd_out < 0) {
        err = ort_fail_errno(diag, ORT_EIO, "open %s/%s", folder, name);
    }
    return err;
}

/* dp_collection_config.make_index_dir */
static int
make_index_dir(void *arg)
{
    const dp_entry *e = arg;
    dp_tenant *t = e->owner;
    ort_diag diag = {""};
    int fd = -1;
    pthread_mutex_lock(&t->lock);
    const bool deleted = t->deleted;
    pthread_mutex_unlock(&t->lock);
    if (!deleted && dp_tenant__make_folder(t, "indexes", e->id, &fd, &diag) != ORT_OK) {
        ORT_LOG_WARN(&log_, "collection.indexes",
                     "tenant=%016" PRIx64 " collection=%016" PRIx64 " err=%s", t->id.v, e->id.v,
                     diag.text);
    }
    return fd;
}

/* --- open ------------------------------------------------------------------------------------- */

/* Makes the names of a tenant's collections durable: a process that was killed may have made the
 * directory of one and not synced. */
static ort_err
root_entry(dp_tenant *t, dp_entry *e, ort_diag *diag)
{
    const int fd = dp_tenant__open_folder(t, "collections", NULL);
    const ort_err err =
        fd < 0 ? ort_fail_errno(diag, ORT_EIO, "open collections") : ort_dir_sync(fd, diag);
    ort_fd_close(fd);
    e->unrooted = err != ORT_OK;
    return err;
}

/* dp_collection_config.before_writes: from now on the size that the catalog tells is not the
 * collection's, and after a crash nobody knows it until it is opened. Searches alone leave the
 * catalog as it is: an fsync here would be most of what opening a small collection costs.
 *
 * Asked again while the tenant is unsure of its catalog: the one on disk may not name the
 * collection, and what is written then would be swept after a crash. */
static ort_err
before_writes(void *arg, ort_diag *diag)
{
    dp_entry *e = arg;
    dp_tenant *t = e->owner;
    ort_err err = ORT_OK;
    pthread_mutex_lock(&t->change);
    if (e->unrooted) {
        err = root_entry(t, e, diag);
    }
    if (err != ORT_OK) {
        pthread_mutex_unlock(&t->change);
        return err;
    }
    pthread_mutex_lock(&t->lock);
    const bool was_clean = e->clean;
    e->clean = false;
    pthread_mutex_unlock(&t->lock);
    if (was_clean || atomic_load(&t->unsure)) {
        err = dp_tenant__save(t, diag);
        ort_point("collection.announced");
        if (err != ORT_OK) {
            pthread_mutex_lock(&t->lock);
            e->clean = was_clean; /* nothing is written until the catalog says so */
            pthread_mutex_unlock(&t->lock);
        }
    }
    pthread_mutex_unlock(&t->change);
    return err;
}

/* Opens the files of an entry that is OPENING; no lock is held. */
static ort_err
open_files(dp_tenant *t, dp_entry *e, dp_schema *schema, uint64_t points_max, dp_collection **out,
           ort_diag *diag)
{
    int data_fd = dp_tenant__open_data(t, e);
    ort_err err = ORT_OK;
    if (data_fd < 0 && errno == ENOENT && e->points > 0) {
        /* To begin it anew would be to answer that it is empty. */
        err = ort_fail(diag, ORT_ECORRUPT, "its files are missing, and it had %" PRIu64 " points",
                       e->points);
    } else if (data_fd < 0 && errno == ENOENT) { /* it is new */
        err = dp_tenant__make_data(t, e, &data_fd, diag);
    } else if (data_fd < 0) {
        err = ort_fail_errno(diag, ORT_EIO, "open its directory");
    } else {
        e->unrooted = e->unrooted || (e->points == 0 && !e->home);
    }
    /* Held for as long as the collection has the descriptor: a repair waits for that, and the
     * other way round. */
    if (err == ORT_OK && flock(data_fd, LOCK_EX | LOCK_NB) != 0) {
        err = errno == EWOULDBLOCK
                  ? ort_fail(diag, ORT_EBUSY, "another process works on its files: a repair?")
                  : ort_fail_errno(diag, ORT_EIO, "lock its directory");
    }
    const int index_fd = err == ORT_OK ? dp_tenant__open_folder(t, "indexes", &e->id) : -1;
    if (err == ORT_OK) {
        const dp_collection_config config = {.tenant = t->id,
                                             .id = e->id,
                                             .name = e->name,
                                             .schema = schema,
                                             .quota = t->quota,
                                             .points_max = points_max,
                                             .before_writes = before_writes,
                                             .ask_again = &t->unsure,
                                             .make_index_dir = make_index_dir,
                                             .arg = e};
        err = dp_collection_open(out, data_fd, index_fd, &config, &t->all->config.collection, diag);
    }
    ort_fd_close(data_fd);
    ort_fd_close(index_fd);
    return err;
}

/* CLOSED -> OPENING -> OPEN, or back. t->lock is held, let go meanwhile, held again. */
static ort_err
open_entry(dp_tenant *t, dp_entry *e, ort_diag *diag)
{
    const uint64_t now = ort_mono_ms();
    if (e->failed_ms != 0 && now - e->failed_ms < DP_TENANT_RETRY_MS) {
        return ort_fail(diag, e->failed_err, "%s", e->failure.text);
    }
    dp_collection *c = NULL;
    dp_schema *schema = dp_schema_ref(e->schema);
    const uint64_t points_max = t->points_per_collection_max;
    e->state = DP_ENTRY_OPENING;
    pthread_mutex_unlock(&t->lock);

    ort_err err = open_files(t, e, schema, points_max, &c, diag);
    pthread_mutex_lock(&t->lock);
    if (e->failed_ms != 0) {
        t->all->failed--;
        e->failed_ms = 0;
    }
    if (err == ORT_OK) {
        /* The open collection has charged its true size: the charge of the closed one goes. */
        dp_entry__uncharge(t, e);
        e->collection = c;
        e->state = DP_ENTRY_OPEN;
        e->times_opened++;
        t->all->opened++;
        e->used_ms = ort_mono_ms();
        dp_tenants__note_open(t->all, e);
        if (e->schema != schema) { /* patched meanwhile */
            dp_collection_set_schema(c, e->schema);
        }
        dp_collection_set_points_max(c, t->points_per_collection_max);
    } else {
        char id[ORT_ID_TEXT_BYTES], tenant[ORT_ID_TEXT_BYTES];
        ort_id_format(e->id.v, id);
        ort_id_format(t->id.v, tenant);
        ORT_LOG_ERROR(&log_, "collection.open_failed", "tenant=%s collection=%s code=%s err=%s",
                      tenant, id, ort_err_code(err), diag != NULL ? diag->text : "");
        t->all->failed++;
        e->failed_ms = ort_mono_ms();
        /* A new one wants room for its log. Whatever else it is, the collection is out of order. */
        e->failed_err = err == ORT_ENOSPC ? ORT_ENOSPC : ORT_EBUSY;
        (void)ort_fail(&e->failure, err, "Collection `%s` (shard %s) is not available: %.350s",
                       e->name, id, diag != NULL ? diag->text : "");
        if (diag != NULL) {
            *diag = e->failure;
        }
        e->state = DP_ENTRY_CLOSED;
        err = e->failed_err;
    }
    pthread_cond_broadcast(&t->moved);
    dp_schema_unref(schema);
    return err;
}

ort_err
dp_tenant_use(dp_tenant *t, const char *name, size_t len, dp_collection **out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    *out = NULL;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        dp_entry *e = t->deleted ? NULL : dp_tenant__resolve(t, name, len);
        if (e == NULL) {
            err = ort_fail(diag, ORT_ENOTFOUND, "Collection `%.*s` doesn't exist!", (int)len, name);
            break;
        }
        if (e->changing) {
            pthread_cond_wait(&t->moved, &t->lock);
            continue;
        }
        if (e->state == DP_ENTRY_OPEN) {
            e->uses++;
            e->used_ms = ort_mono_ms();
            *out = e->collection;
            break;
        }
        if (e->state == DP_ENTRY_CLOSED) {
            err = open_entry(t, e, diag);
            if (dp_tenant__take_dropped(t, e)) {
                pthread_mutex_unlock(&t->lock);
                dp_tenant__bury(t, e);
                pthread_mutex_lock(&t->lock);
            } else if (err != ORT_OK && !e->dropped) {
                break;
            }
            continue; /* as it is called now, if it still is */
        }
        pthread_cond_wait(&t->moved, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return err;
}

void
dp_tenant_release(dp_tenant *t, dp_collection *c)
{
    if (c == NULL) {
        return;
    }
    dp_entry *last = NULL;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->entry_count + t->dropped_count; i++) {
        dp_entry *e = i < t->entry_count ? t->entries[i] : t->dropped[i - t->entry_count];
        if (e->collection == c) {
            assert(e->uses > 0);
            e->uses--;
            e->used_ms = ort_mono_ms();
            last = dp_tenant__take_dropped(t, e) ? e : NULL;
            break;
        }
    }
    pthread_mutex_unlock(&t->lock);
    if (last != NULL) {
        dp_tenant__bury(t, last);
    }
}

bool
dp_tenant__close_entry(dp_tenant *t, dp_entry *e)
{
    if (e->state != DP_ENTRY_OPEN || e->uses > 0 || e->dropped) {
        return false;
    }
    e->state = DP_ENTRY_CLOSING;
    dp_collection *c = e->collection;
    pthread_mutex_unlock(&t->lock);

    dp_collection_info info;
    dp_collection_get_info(c, &info);
    /* Charged before the collection takes its own charge back: for a moment twice, never not. */
    dp_quota_settle(t->quota, (dp_amount){0},
                    (dp_amount){(int64_t)info.points, (int64_t)info.bytes});
    dp_collection_close(c);

    pthread_mutex_lock(&t->lock);
    dp_tenants__note_closed(t->all, e);
    t->may_settle = t->may_settle || (!e->home && !e->stays && !t->home_taken);
    t->unsaved = t->unsaved || !e->clean || e->points != info.points || e->bytes != info.bytes;
    e->collection = NULL;
    e->points = info.points;
    e->bytes = info.bytes;
    e->disk_bytes = info.disk_bytes;
    e->charged = true;
    e->clean = info.error == NULL; /* else what is on disk may differ from what was counted */
    e->state = DP_ENTRY_CLOSED;
    pthread_cond_broadcast(&t->moved);
    return true;
}

/* Closes it if it is idle, and buries it when it was dropped meanwhile; t->lock is held, and let go
 * meanwhile when true comes back. */
static bool
close_if_idle(dp_tenant *t, dp_entry *e, uint64_t before_ms)
{
    if (e->used_ms >= before_ms || !dp_tenant__close_entry(t, e)) {
        return false;
    }
    if (dp_tenant__take_dropped(t, e)) {
        pthread_mutex_unlock(&t->lock);
        dp_tenant__bury(t, e);
        pthread_mutex_lock(&t->lock);
    }
    return true;
}

bool
dp_tenant__close_one(dp_tenant *t, ort_collection_id id, uint64_t before_ms)
{
    pthread_mutex_lock(&t->lock);
    dp_entry *e = t->loaded ? dp_tenant__find_id(t, id) : NULL;
    const bool closed = e != NULL && close_if_idle(t, e, before_ms);
    pthread_mutex_unlock(&t->lock);
    return closed;
}

void
dp_tenant__close_all(dp_tenant *t)
{
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; t->loaded && i < t->entry_count;) {
        /* The lock was let go: the entries may be others. */
        i = close_if_idle(t, t->entries[i], UINT64_MAX) ? 0 : i + 1;
    }
    pthread_mutex_unlock(&t->lock);
    dp_tenant__save_sizes(t);
}

void
dp_tenant__save_sizes(dp_tenant *t)
{
    ort_diag diag = {""};
    pthread_mutex_lock(&t->change);
    if (dp_home__settle(t)) { /* that saved them, too */
        pthread_mutex_unlock(&t->change);
        return;
    }
    pthread_mutex_lock(&t->lock);
    const bool unsaved = t->unsaved && !t->deleted;
    t->unsaved = false;
    pthread_mutex_unlock(&t->lock);
    if (unsaved && dp_tenant__save(t, &diag) != ORT_OK) {
        /* Tried again with the next collection that closes; till then a start counts anew. */
        ORT_LOG_WARN(&log_, "tenant.catalog", "tenant=%016" PRIx64 " err=%s", t->id.v, diag.text);
        pthread_mutex_lock(&t->lock);
        t->unsaved = true;
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&t->change);
}
