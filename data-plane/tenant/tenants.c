/* All tenants of a data directory: the map, the trash, and the janitor that closes what is idle. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "tenant/tenant_internal.h"

#define JANITOR_MS 1000

static const ort_log log_ = {"tenant"};

/* --- trash ------------------------------------------------------------------------------------ */

ort_err
dp_tenants__trash(dp_tenants *all, int from_fd, const char *path, ort_diag *diag)
{
    char name[ORT_ID_TEXT_BYTES];
    ort_id_format(ort_id_random(), name);
    if (renameat(from_fd, path, all->trash_fd, name) != 0) {
        return errno == ENOENT ? ORT_OK
                               : ort_fail_errno(diag, ORT_EIO, "move %s to the trash", path);
    }
    ort_err err = ort_dir_sync(from_fd, diag);
    if (err == ORT_OK) {
        err = ort_dir_sync(all->trash_fd, diag);
    }
    pthread_mutex_lock(&all->lock);
    all->sweep = true;
    pthread_cond_signal(&all->wake);
    pthread_mutex_unlock(&all->lock);
    return err;
}

/* Removes what is in the trash; what cannot be removed now is tried again later. */
static uint64_t
sweep(dp_tenants *all, bool remove)
{
    uint64_t left = 0;
    const int fd = openat(all->trash_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        ort_fd_close(fd);
        return 0;
    }
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        ort_diag diag = {""};
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) {
            continue;
        }
        if (!remove) {
            left++;
        } else if (ort_tree_remove(all->trash_fd, d->d_name, &diag) != ORT_OK) {
            left++;
            ORT_LOG_WARN(&log_, "trash.sweep", "entry=%s err=%s", d->d_name, diag.text);
        }
    }
    closedir(dir);
    return left;
}

/* --- the janitor ------------------------------------------------------------------------------ */

/* References to all tenants in memory, the caller's to give back; NULL when there are none or
 * memory ran out. */
static dp_tenant **
snapshot(dp_tenants *all, size_t *count)
{
    *count = 0;
    pthread_mutex_lock(&all->lock);
    const size_t n = ort_map_count(all->map);
    dp_tenant **list = n > 0 ? calloc(n, sizeof(dp_tenant *)) : NULL;
    size_t at = 0;
    for (void *v; list != NULL && ort_map_next(all->map, &at, NULL, NULL, &v);) {
        dp_tenant__ref(v);
        list[(*count)++] = v;
    }
    pthread_mutex_unlock(&all->lock);
    return list;
}

static void
give_back(dp_tenant **list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        dp_tenant_unref(list[i]);
    }
    free(list);
}

/* Sums memory over open collections; *oldest_ms becomes when the idlest one was used, UINT64_MAX
 * when all are in use. */
static uint64_t
weigh(dp_tenant *const *list, size_t count, uint64_t *oldest_ms, uint32_t *open)
{
    uint64_t bytes = 0;
    *oldest_ms = UINT64_MAX;
    *open = 0;
    for (size_t i = 0; i < count; i++) {
        dp_tenant *t = list[i];
        pthread_mutex_lock(&t->lock);
        for (size_t j = 0; t->loaded && j < t->entry_count; j++) {
            const dp_entry *e = t->entries[j];
            if (e->state == DP_ENTRY_OPEN) {
                (*open)++;
                bytes += dp_collection_memory(e->collection);
                if (e->uses == 0 && e->used_ms < *oldest_ms) {
                    *oldest_ms = e->used_ms;
                }
            }
        }
        pthread_mutex_unlock(&t->lock);
    }
    return bytes;
}

/* Whether open collections take more memory, or are more, than they may. */
static bool
is_over(const dp_tenants *all, dp_tenant *const *list, size_t count, uint64_t *oldest_ms)
{
    uint32_t open;
    const uint64_t bytes = weigh(list, count, oldest_ms, &open);
    const dp_tenants_config *c = &all->config;
    return (c->memory_budget_bytes > 0 && bytes > c->memory_budget_bytes) ||
           (c->open_max > 0 && open > c->open_max);
}

static void
close_idle(dp_tenants *all)
{
    size_t count;
    dp_tenant **list = snapshot(all, &count);
    const uint64_t now = ort_mono_ms(), age = all->config.idle_close_ms;
    for (size_t i = 0; age > 0 && now > age && i < count; i++) {
        (void)dp_tenant__close_idle(list[i], now - age);
    }
    /* Over a bound: the idlest first, a generation at a time. */
    for (uint64_t oldest; is_over(all, list, count, &oldest) && oldest != UINT64_MAX;) {
        uint32_t closed = 0;
        for (size_t i = 0; i < count; i++) {
            closed += dp_tenant__close_idle(list[i], oldest + 1);
        }
        if (closed == 0) {
            break; /* taken into use meanwhile */
        }
    }
    give_back(list, count);
}

static void *
janitor_main(void *arg)
{
    dp_tenants *all = arg;
    uint64_t due = 0;
    pthread_mutex_lock(&all->lock);
    while (!all->closing) {
        const bool dirty = all->sweep;
        all->sweep = false;
        pthread_mutex_unlock(&all->lock);
        if (dirty) {
            (void)sweep(all, true);
        }
        if (ort_mono_ms() >= due) {
            close_idle(all);
            due = ort_mono_ms() + JANITOR_MS;
        }
        pthread_mutex_lock(&all->lock);
        if (!all->closing && !all->sweep) {
            (void)ort_cond_wait_until(&all->wake, &all->lock,
                                      ort_mono_ns() + JANITOR_MS * UINT64_C(1000000));
        }
    }
    pthread_mutex_unlock(&all->lock);
    return NULL;
}

/* --- open, close ------------------------------------------------------------------------------ */

static ort_err
open_folder(dp_tenants *all, const char *name, int *fd, ort_diag *diag)
{
    const ort_err err = ort_dir_make(all->data_fd, name, diag);
    if (err != ORT_OK) {
        return err;
    }
    *fd = ort_open_beneath(all->data_fd, name, O_RDONLY | O_DIRECTORY, 0);
    return *fd >= 0 ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "open %s", name);
}

static ort_err
take_lock(dp_tenants *all, ort_diag *diag)
{
    all->lock_fd = ort_open_beneath(all->data_fd, "lock", O_RDWR | O_CREAT, 0600);
    if (all->lock_fd < 0) {
        return ort_fail_errno(diag, ORT_EIO, "open the lock file");
    }
    if (flock(all->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? ort_fail(diag, ORT_EBUSY, "another process uses this data directory")
                   : ort_fail_errno(diag, ORT_EIO, "lock the data directory");
    }
    return ORT_OK;
}

ort_err
dp_tenants_open(dp_tenants **out, int data_dir, const dp_tenants_config *config, ort_diag *diag)
{
    *out = NULL;
    dp_tenants *all = calloc(1, sizeof *all);
    if (all == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    all->config = *config;
    all->tenants_fd = all->trash_fd = all->lock_fd = -1;
    pthread_mutex_init(&all->lock, NULL);
    ort_cond_init(&all->wake);
    all->sweep = true; /* what a crash left */
    all->data_fd = fcntl(data_dir, F_DUPFD_CLOEXEC, 0);
    ort_err err = all->data_fd < 0 ? ort_fail_errno(diag, ORT_EIO, "the data directory")
                                   : ort_map_new(&all->map);
    if (err == ORT_OK) {
        err = take_lock(all, diag);
    }
    if (err == ORT_OK) {
        err = open_folder(all, "tenants", &all->tenants_fd, diag);
    }
    if (err == ORT_OK) {
        err = open_folder(all, "trash", &all->trash_fd, diag);
    }
    if (err == ORT_OK) {
        err = ort_thread_start(&all->janitor, "janitor", janitor_main, all, diag);
        all->janitor_runs = err == ORT_OK;
    }
    if (err != ORT_OK) {
        dp_tenants_close(all);
        return err;
    }
    *out = all;
    return ORT_OK;
}

void
dp_tenants_close(dp_tenants *all)
{
    if (all == NULL) {
        return;
    }
    if (all->janitor_runs) {
        pthread_mutex_lock(&all->lock);
        all->closing = true;
        pthread_cond_signal(&all->wake);
        pthread_mutex_unlock(&all->lock);
        pthread_join(all->janitor, NULL);
    }
    size_t at = 0;
    for (void *v; all->map != NULL && ort_map_next(all->map, &at, NULL, NULL, &v);) {
        (void)dp_tenant__close_idle(v, UINT64_MAX);
        dp_tenant_unref(v);
    }
    ort_map_free(all->map, NULL);
    ort_fd_close(all->tenants_fd);
    ort_fd_close(all->trash_fd);
    ort_fd_close(all->lock_fd);
    ort_fd_close(all->data_fd);
    pthread_cond_destroy(&all->wake);
    pthread_mutex_destroy(&all->lock);
    free(all);
}

/* --- tenants ---------------------------------------------------------------------------------- */

ort_err
dp_tenants_get(dp_tenants *all, ort_tenant_id id, dp_tenant **out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    *out = NULL;
    pthread_mutex_lock(&all->lock);
    dp_tenant *t = ort_map_get(all->map, &id.v, sizeof id.v);
    if (t == NULL) {
        err = dp_tenant__new(&t, all, id, diag);
        if (err == ORT_OK) {
            err = ort_map_set(all->map, &id.v, sizeof id.v, t, NULL);
            if (err != ORT_OK) {
                dp_tenant_unref(t);
            }
        }
    }
    if (err == ORT_OK) {
        dp_tenant__ref(t);
    }
    pthread_mutex_unlock(&all->lock);
    if (err == ORT_OK) {
        err = dp_tenant__ready(t, diag);
        if (err != ORT_OK) {
            dp_tenant_unref(t);
        } else {
            *out = t;
        }
    }
    return err;
}

ort_err
dp_tenants_delete(dp_tenants *all, ort_tenant_id id, ort_diag *diag)
{
    char name[ORT_ID_TEXT_BYTES];
    ort_id_format(id.v, name);
    pthread_mutex_lock(&all->lock);
    dp_tenant *t = ort_map_get(all->map, &id.v, sizeof id.v);
    if (t != NULL) {
        dp_tenant__ref(t);
    }
    pthread_mutex_unlock(&all->lock);
    if (t != NULL) {
        pthread_mutex_lock(&t->change); /* no catalog is being written now, nor from here on */
        pthread_mutex_lock(&t->lock);
        t->deleted = true;
        pthread_cond_broadcast(&t->moved);
        pthread_mutex_unlock(&t->lock);
        pthread_mutex_unlock(&t->change);
    }
    const ort_err err = dp_tenants__trash(all, all->tenants_fd, name, diag);
    if (err == ORT_OK && t != NULL) {
        pthread_mutex_lock(&all->lock);
        if (ort_map_get(all->map, &id.v, sizeof id.v) == t) {
            (void)ort_map_take(all->map, &id.v, sizeof id.v);
            dp_tenant_unref(t);
        }
        pthread_mutex_unlock(&all->lock);
    }
    dp_tenant_unref(t);
    return err;
}

bool
dp_tenants_exists(dp_tenants *all, ort_tenant_id id)
{
    char name[ORT_ID_TEXT_BYTES];
    ort_id_format(id.v, name);
    return faccessat(all->tenants_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void
dp_tenants_each_usage(dp_tenants *all, dp_usage_fn fn, void *ctx)
{
    size_t count;
    dp_tenant **list = snapshot(all, &count);
    for (size_t i = 0; i < count; i++) {
        dp_tenant_usage usage;
        pthread_mutex_lock(&list[i]->lock);
        const bool told = list[i]->loaded && !list[i]->deleted;
        pthread_mutex_unlock(&list[i]->lock);
        if (told) {
            dp_tenant_get_usage(list[i], &usage);
            if (!fn(ctx, list[i]->id, &usage)) {
                break;
            }
        }
    }
    give_back(list, count);
}

void
dp_tenants_get_stats(dp_tenants *all, dp_tenants_stats *out)
{
    size_t count;
    uint64_t oldest;
    dp_tenant **list = snapshot(all, &count);
    *out = (dp_tenants_stats){.tenants_known = (uint32_t)count,
                              .collections_failed = all->failed,
                              .trash_left = sweep(all, false)};
    out->memory_bytes = weigh(list, count, &oldest, &out->collections_open);
    for (size_t i = 0; i < count; i++) {
        pthread_mutex_lock(&list[i]->lock);
        for (size_t j = 0; list[i]->loaded && j < list[i]->entry_count; j++) {
            const dp_entry *e = list[i]->entries[j];
            if (e->state == DP_ENTRY_OPEN) {
                dp_collection_info info;
                dp_collection_get_info(e->collection, &info);
                out->update_queue += info.update_queue;
            }
        }
        pthread_mutex_unlock(&list[i]->lock);
    }
    give_back(list, count);
}
