/* All tenants of a data directory: the map, the trash, and the janitor that closes what is idle. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/point.h"
#include "base/siphash.h"
#include "tenant/tenant_internal.h"

#define JANITOR_MS 1000
#define TRIM_AFTER 256u /* collections closed */
#define TRIM_GROWN_BYTES (UINT64_C(32) << 20)
#define TRIM_EVERY_MS 10000u

static const ort_log log_ = {"tenant"};

/* --- trash ------------------------------------------------------------------------------------ */

ort_err
dp_tenants__trash(dp_tenants *all, int from_fd, const char *path, ort_diag *diag)
{
    char name[ORT_ID_TEXT_BYTES];
    ort_err err = ORT_OK;
    bool back = false;
    ort_id_format(ort_id_random(), name);
    pthread_mutex_lock(&all->trash_lock);
    if (renameat(from_fd, path, all->trash_fd, name) != 0) {
        err =
            errno == ENOENT ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "move %s to the trash", path);
        pthread_mutex_unlock(&all->trash_lock);
        return err;
    }
    ort_point("trash.moved");
    err = ort_dir_sync(from_fd, diag);
    if (err == ORT_OK) {
        err = ort_dir_sync(all->trash_fd, diag);
    }
    if (err != ORT_OK) { /* who asks again would find it gone, and believe that it stays so */
        back = renameat(all->trash_fd, name, from_fd, path) == 0;
    }
    pthread_mutex_unlock(&all->trash_lock);
    if (back) {
        return err;
    }
    ort_point("trash.durable");
    pthread_mutex_lock(&all->lock);
    all->sweep = true;
    pthread_cond_signal(&all->wake);
    pthread_mutex_unlock(&all->lock);
    return err;
}

typedef struct {
    char text[NAME_MAX + 1];
} trash_name;

/* Names in the trash, the caller's to free. NULL: none, or no memory. What is on its way there may
 * have to go back, and is not among them. */
static trash_name *
list_trash(dp_tenants *all, size_t *count)
{
    trash_name *list = NULL;
    *count = 0;
    pthread_mutex_lock(&all->trash_lock);
    const int fd = openat(all->trash_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) {
            continue;
        }
        trash_name *grown = realloc(list, (*count + 1) * sizeof *list);
        if (grown == NULL) {
            break; /* the others wait for the next sweep */
        }
        list = grown;
        snprintf(list[(*count)++].text, sizeof list->text, "%s", d->d_name);
    }
    if (dir != NULL) {
        closedir(dir);
    } else {
        ort_fd_close(fd);
    }
    pthread_mutex_unlock(&all->trash_lock);
    return list;
}

/* Removes what is in the trash, and tells what is left; what cannot be removed now is tried again
 * later. */
static uint64_t
sweep(dp_tenants *all, bool remove)
{
    size_t count;
    trash_name *list = list_trash(all, &count);
    uint64_t left = count;
    for (size_t i = 0; remove && i < count; i++) {
        ort_diag diag = {""};
        if (ort_tree_remove(all->trash_fd, list[i].text, &diag) != ORT_OK) {
            ORT_LOG_WARN(&log_, "trash.sweep", "entry=%s err=%s", list[i].text, diag.text);
        } else {
            left--;
            ort_point("trash.swept");
        }
    }
    free(list);
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

/* --- what is open ----------------------------------------------------------------------------- */

void
dp_tenants__note_open(dp_tenants *all, dp_entry *e)
{
    pthread_mutex_lock(&all->open_lock);
    e->open_listed = true;
    e->open_before = NULL;
    e->open_next = all->open_first;
    if (e->open_next != NULL) {
        e->open_next->open_before = e;
    }
    all->open_first = e;
    all->open_count++;
    const bool crowded = all->config.open_max > 0 && all->open_count > all->config.open_max;
    pthread_mutex_unlock(&all->open_lock);
    if (crowded) {
        atomic_store(&all->crowded, true);
        pthread_cond_signal(&all->wake);
    }
}

void
dp_tenants__note_closed(dp_tenants *all, dp_entry *e)
{
    pthread_mutex_lock(&all->open_lock);
    if (e->open_listed) {
        if (e->open_before != NULL) {
            e->open_before->open_next = e->open_next;
        } else {
            all->open_first = e->open_next;
        }
        if (e->open_next != NULL) {
            e->open_next->open_before = e->open_before;
        }
        e->open_listed = false;
        all->open_count--;
    }
    pthread_mutex_unlock(&all->open_lock);
}

/* An open collection as it was a moment ago. */
typedef struct {
    dp_tenant *tenant; /* a reference */
    ort_collection_id id;
    uint64_t used_ms;
    uint64_t memory_bytes, update_queue;
    bool damaged;
} open_one;

/* A reference to a tenant that may be losing its last one at this moment. */
static bool
try_ref(dp_tenant *t)
{
    uint32_t refs = atomic_load(&t->refs);
    while (refs > 0) {
        if (atomic_compare_exchange_weak(&t->refs, &refs, refs + 1)) {
            return true;
        }
    }
    return false;
}

static int
by_use(const void *a, const void *b)
{
    const open_one *x = a, *y = b;
    return (x->used_ms > y->used_ms) - (x->used_ms < y->used_ms);
}

/* All that is open, the idlest first; the caller's to give back. NULL: nothing, or no memory. */
static open_one *
list_open(dp_tenants *all, size_t *count)
{
    *count = 0;
    pthread_mutex_lock(&all->open_lock);
    open_one *list = all->open_count > 0 ? calloc(all->open_count, sizeof *list) : NULL;
    for (const dp_entry *e = all->open_first; list != NULL && e != NULL; e = e->open_next) {
        if (try_ref(e->owner)) {
            list[(*count)++] = (open_one){.tenant = e->owner, .id = e->id, .used_ms = e->used_ms};
        }
    }
    pthread_mutex_unlock(&all->open_lock);
    for (size_t i = 0; i < *count; i++) {
        dp_tenant *t = list[i].tenant;
        pthread_mutex_lock(&t->lock);
        const dp_entry *e = t->loaded ? dp_tenant__find_id(t, list[i].id) : NULL;
        if (e != NULL && e->state == DP_ENTRY_OPEN) {
            dp_collection_info info;
            dp_collection_get_info(e->collection, &info);
            list[i].update_queue = info.update_queue;
            list[i].damaged = info.damaged;
            list[i].memory_bytes = dp_collection_memory(e->collection);
        }
        pthread_mutex_unlock(&t->lock);
    }
    if (*count > 0) {
        qsort(list, *count, sizeof *list, by_use);
    }
    return list;
}

static void
give_open_back(open_one *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        dp_tenant_unref(list[i].tenant);
    }
    free(list);
}

/* Pages of this process in memory, in bytes; 0: not known. */
static uint64_t
resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f != NULL) {
        if (fscanf(f, "%*u %llu", &pages) != 1) {
            pages = 0;
        }
        (void)fclose(f);
    }
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The allocator keeps what thousands of collections were made of, in pieces between what stays, and
 * each of its arenas what the largest requests took: once many have closed, or the process has
 * grown, whole pages of it go back to the system. */
static void
give_memory_back(dp_tenants *all, size_t closed)
{
    const uint64_t now = ort_mono_ms();
    all->closed_since += closed;
    if (all->closed_since < TRIM_AFTER) {
        if (now < all->trim_due_ms) {
            return;
        }
        all->trim_due_ms = now + TRIM_EVERY_MS;
        const uint64_t resident = resident_bytes();
        all->trimmed_bytes = resident < all->trimmed_bytes ? resident : all->trimmed_bytes;
        if (resident < all->trimmed_bytes + TRIM_GROWN_BYTES) {
            return;
        }
    }
    all->closed_since = 0;
    (void)malloc_trim(0);
    all->trimmed_bytes = resident_bytes();
}

/* Closes what has been idle for long; and, while more is open or held than may be, the idlest. */
static void
close_idle(dp_tenants *all)
{
    const dp_tenants_config *c = &all->config;
    size_t count;
    open_one *list = list_open(all, &count);
    const uint64_t now = ort_mono_ms();
    const uint64_t old_ms =
        c->idle_close_ms > 0 && now > c->idle_close_ms ? now - c->idle_close_ms : 0;
    uint64_t bytes = 0;
    size_t open = count;
    for (size_t i = 0; i < count; i++) {
        bytes += list[i].memory_bytes;
    }
    for (size_t i = 0; i < count; i++) {
        const bool over = (c->memory_budget_bytes > 0 && bytes > c->memory_budget_bytes) ||
                          (c->open_max > 0 && open > c->open_max);
        if (!over && list[i].used_ms >= old_ms) {
            break;
        }
        /* What was used since it was listed stays: it is not the idlest any more. */
        if (dp_tenant__close_one(list[i].tenant, list[i].id, list[i].used_ms + 1)) {
            bytes -= list[i].memory_bytes;
            open--;
        }
    }
    for (size_t i = 0; i < count; i++) {
        dp_tenant__save_sizes(list[i].tenant);
    }
    give_open_back(list, count);
    give_memory_back(all, count - open);
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
        if (atomic_exchange(&all->crowded, false) || ort_mono_ms() >= due) {
            close_idle(all);
            due = ort_mono_ms() + JANITOR_MS;
        }
        pthread_mutex_lock(&all->lock);
        if (!all->closing && !all->sweep && !atomic_load(&all->crowded)) {
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
    pthread_mutex_init(&all->open_lock, NULL);
    pthread_mutex_init(&all->trash_lock, NULL);
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
    if (err == ORT_OK) { /* a process that was killed may have made them and not synced */
        err = ort_dir_sync(all->data_fd, diag);
    }
    if (err == ORT_OK) {
        err = ort_thread_start(&all->janitor, "janitor", janitor_main, all, diag);
        all->janitor_runs = err == ORT_OK;
    }
    if (err == ORT_OK) {
        err = dp_scrub__start(&all->scrub, all, diag);
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
    pthread_mutex_lock(&all->lock);
    all->closing = true; /* background work gives up at its next block */
    while (all->background > 0) {
        pthread_cond_wait(&all->wake, &all->lock);
    }
    pthread_mutex_unlock(&all->lock);
    dp_scrub__stop(all->scrub);
    if (all->janitor_runs) {
        pthread_mutex_lock(&all->lock);
        all->closing = true;
        pthread_cond_signal(&all->wake);
        pthread_mutex_unlock(&all->lock);
        pthread_join(all->janitor, NULL);
    }
    size_t at = 0;
    for (void *v; all->map != NULL && ort_map_next(all->map, &at, NULL, NULL, &v);) {
        dp_tenant__close_all(v);
        dp_tenant_unref(v);
    }
    ort_map_free(all->map, NULL);
    ort_fd_close(all->tenants_fd);
    ort_fd_close(all->trash_fd);
    ort_fd_close(all->lock_fd);
    ort_fd_close(all->data_fd);
    pthread_cond_destroy(&all->wake);
    pthread_mutex_destroy(&all->open_lock);
    pthread_mutex_destroy(&all->trash_lock);
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
    ort_point("tenant.deleting");
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

/* false: it is not loaded yet, or is being deleted. */
static bool
usage_of(dp_tenant *t, dp_tenant_usage *out)
{
    pthread_mutex_lock(&t->lock);
    const bool told = t->loaded && !t->deleted;
    pthread_mutex_unlock(&t->lock);
    if (told) {
        dp_tenant_get_usage(t, out);
    }
    return told;
}

void
dp_tenants_each_usage(dp_tenants *all, dp_usage_fn fn, void *ctx)
{
    size_t count;
    dp_tenant **list = snapshot(all, &count);
    for (size_t i = 0; i < count; i++) {
        dp_tenant_usage usage;
        if (usage_of(list[i], &usage) && !fn(ctx, list[i]->id, &usage)) {
            break;
        }
    }
    give_back(list, count);
}

/* Never 0: that is a tenant that was not told of yet. */
static uint64_t
digest(const dp_tenant_usage *u)
{
    const uint64_t of[] = {u->collections, u->points, u->bytes,    u->requests,
                           u->searches,    u->writes, u->bytes_in, u->bytes_out};
    return ort_siphash(0, 0, of, sizeof of) | 1; /* nobody else chooses these numbers */
}

void
dp_tenants_each_news(dp_tenants *all, uint32_t turn, dp_usage_fn fn, void *ctx)
{
    size_t count;
    dp_tenant **list = snapshot(all, &count);
    for (size_t i = 0; i < count; i++) {
        dp_tenant *t = list[i];
        dp_tenant_usage usage;
        if (!usage_of(t, &usage)) {
            continue;
        }
        const uint64_t now = digest(&usage);
        if (now == t->told && (t->id.v + turn) % DP_USAGE_REPEAT != 0) {
            continue;
        }
        if (!fn(ctx, t->id, &usage)) {
            break; /* the next call begins with what is new again */
        }
        t->told = now;
    }
    give_back(list, count);
}

void
dp_tenants_get_stats(dp_tenants *all, dp_tenants_stats *out)
{
    size_t count;
    pthread_mutex_lock(&all->lock);
    const uint32_t known = (uint32_t)ort_map_count(all->map);
    pthread_mutex_unlock(&all->lock);
    *out = (dp_tenants_stats){.tenants_known = known,
                              .tenants_failed = all->failed_tenants,
                              .collections_failed = all->failed,
                              .collections_opened = all->opened,
                              .snapshot_jobs = all->snapshot_jobs,
                              .snapshots = all->snapshots,
                              .restores = all->restores,
                              .snapshot_failures = all->snapshot_failures,
                              .trash_left = sweep(all, false)};
    dp_scrub__stats(all->scrub, out);
    open_one *list = list_open(all, &count);
    out->collections_open = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        out->memory_bytes += list[i].memory_bytes;
        out->update_queue += list[i].update_queue;
        out->collections_failed += list[i].damaged;
    }
    give_open_back(list, count);
}
