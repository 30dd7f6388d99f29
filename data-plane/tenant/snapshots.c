/* Snapshots of collections, backups of tenants, and the files they are made in. */
#include "tenant/snapshots.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/point.h"
#include "storage/io.h"
#include "tenant/tenant_internal.h"

static const ort_log log_ = {"tenant"};

#define FILES_FREE_BYTES (UINT64_C(64) << 20)

/* --- who may, and for how long ---------------------------------------------------------------- */

ort_err
dp_tenant__may_go_on(void *arg, ort_diag *diag)
{
    dp_tenant *t = arg;
    dp_tenants *all = t->all;
    pthread_mutex_lock(&all->lock);
    const bool closing = all->closing;
    pthread_mutex_unlock(&all->lock);
    pthread_mutex_lock(&t->lock);
    const bool deleted = t->deleted;
    pthread_mutex_unlock(&t->lock);
    if (closing || deleted) {
        return ort_fail(diag, ORT_EBUSY,
                        deleted ? "the tenant is being deleted" : "the node is stopping");
    }
    return atomic_load(&all->disk_low)
               ? ort_fail(diag, ORT_ENOSPC, "the node's disk is almost full")
               : ORT_OK;
}

ort_err
dp_tenant__job_begin(dp_tenant *t, ort_diag *diag)
{
    const ort_err err = dp_tenant__may_go_on(t, diag);
    if (err != ORT_OK) {
        return err;
    }
    pthread_mutex_lock(&t->lock);
    const bool busy = t->snapshotting;
    t->snapshotting = true;
    pthread_mutex_unlock(&t->lock);
    if (busy) {
        return ort_fail(diag, ORT_EBUSY,
                        "another snapshot, backup or restore of this tenant is under way");
    }
    if (atomic_fetch_add(&t->all->snapshot_jobs, 1) >= DP_SNAPSHOT_JOBS_MAX) {
        dp_tenant__job_end(t);
        return ort_fail(diag, ORT_EBUSY, "%u snapshots, backups or restores run on this node",
                        DP_SNAPSHOT_JOBS_MAX);
    }
    return ORT_OK;
}

void
dp_tenant__job_end(dp_tenant *t)
{
    atomic_fetch_sub(&t->all->snapshot_jobs, 1);
    pthread_mutex_lock(&t->lock);
    t->snapshotting = false;
    pthread_mutex_unlock(&t->lock);
}

void
dp_tenants_set_disk_low(dp_tenants *all, bool low)
{
    atomic_store(&all->disk_low, low);
}

typedef struct {
    dp_tenants *all;
    void (*fn)(void *);
    void *arg;
} background;

static void *
background_main(void *arg)
{
    background b = *(background *)arg;
    free(arg);
    b.fn(b.arg);
    pthread_mutex_lock(&b.all->lock);
    b.all->background--;
    pthread_cond_broadcast(&b.all->wake);
    pthread_mutex_unlock(&b.all->lock);
    return NULL;
}

ort_err
dp_tenants_background(dp_tenants *all, void (*fn)(void *), void *arg, ort_diag *diag)
{
    pthread_t thread;
    background *b = malloc(sizeof *b);
    if (b == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    *b = (background){all, fn, arg};
    pthread_mutex_lock(&all->lock);
    ort_err err = all->closing ? ort_fail(diag, ORT_EBUSY, "the node is stopping") : ORT_OK;
    all->background += err == ORT_OK;
    pthread_mutex_unlock(&all->lock);
    if (err == ORT_OK) {
        err = ort_thread_start(&thread, "snapshot", background_main, b, diag);
        if (err == ORT_OK) {
            pthread_detach(thread);
            return ORT_OK;
        }
        pthread_mutex_lock(&all->lock);
        all->background--;
        pthread_mutex_unlock(&all->lock);
    }
    free(b);
    return err;
}

/* --- files ------------------------------------------------------------------------------------ */

struct dp_tenant_file {
    dp_tenant *t;
    int fd;
    ort_collection_id id;
    uint64_t bytes; /* written through dp_tenant_file_write(), or said by who wrote to fd */
    ort_sha256 digest;
};

uint64_t
dp_tenant_files_max(dp_tenant *t)
{
    pthread_mutex_lock(&t->lock);
    const uint64_t limit = t->bytes_max;
    pthread_mutex_unlock(&t->lock);
    return limit == 0 || limit > UINT64_MAX / 4 ? UINT64_MAX : 2 * limit + FILES_FREE_BYTES;
}

/* What is left for files; t->lock is not held. */
static uint64_t
files_left(dp_tenant *t)
{
    const uint64_t max = dp_tenant_files_max(t);
    pthread_mutex_lock(&t->lock);
    uint64_t used = t->file_bytes;
    for (size_t i = 0; i < t->snaps.count; i++) {
        used += t->snaps.items[i].info.bytes;
    }
    pthread_mutex_unlock(&t->lock);
    return used < max ? max - used : 0;
}

static void
count_bytes(dp_tenant *t, uint64_t more, uint64_t less)
{
    pthread_mutex_lock(&t->lock);
    t->file_bytes += more;
    t->file_bytes -= less;
    pthread_mutex_unlock(&t->lock);
}

/* Opens snapshots/ beneath the tenant, which is made when it is not there; -1 and errno. */
static int
open_folder(dp_tenant *t, bool make)
{
    char path[DP_TENANT_PATH_BYTES];
    dp_tenant__path(t, "snapshots", NULL, path);
    int fd = ort_open_beneath(t->all->tenants_fd, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 && errno == ENOENT && make) {
        dp_tenant__path(t, "", NULL, path);
        /* A tenant that has nothing yet has no directory either. */
        const int top = ort_dir_make(t->all->tenants_fd, path, NULL) == ORT_OK
                            ? ort_open_beneath(t->all->tenants_fd, path, O_RDONLY | O_DIRECTORY, 0)
                            : -1;
        if (top >= 0 && ort_dir_make(top, "snapshots", NULL) == ORT_OK) {
            fd = ort_open_beneath(top, "snapshots", O_RDONLY | O_DIRECTORY, 0);
        }
        ort_fd_close(top);
    }
    return fd;
}

ort_err
dp_tenant_file_new(dp_tenant_file **out, dp_tenant *t, ort_diag *diag)
{
    char name[ORT_ID_TEXT_BYTES];
    *out = NULL;
    ort_err err = dp_tenant__may_go_on(t, diag);
    dp_tenant_file *f = err == ORT_OK ? calloc(1, sizeof *f) : NULL;
    if (f == NULL) {
        return err != ORT_OK ? err : ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    f->fd = -1;
    pthread_mutex_lock(&t->lock);
    if (t->file_count == DP_SNAPSHOT_FILES_MAX) {
        err = ort_fail(diag, ORT_EBUSY, "%u uploads and backups of this tenant are under way",
                       DP_SNAPSHOT_FILES_MAX);
    } else {
        t->file_count++;
    }
    pthread_mutex_unlock(&t->lock);
    if (err != ORT_OK) {
        free(f);
        return err;
    }
    f->t = t;
    dp_tenant__ref(t);
    ort_sha256_init(&f->digest);
    f->id.v = ort_id_random();
    ort_id_format(f->id.v, name);
    const int dir = open_folder(t, true);
    f->fd = dir < 0 ? -1 : ort_open_beneath(dir, name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (f->fd < 0) {
        err = ort_fail_errno(diag, ORT_EIO, "make a file for a snapshot");
    }
    ort_fd_close(dir);
    if (err != ORT_OK) {
        dp_tenant_file_free(f);
        return err;
    }
    *out = f;
    return ORT_OK;
}

static void
unlink_file(dp_tenant *t, ort_collection_id id)
{
    char name[ORT_ID_TEXT_BYTES];
    ort_id_format(id.v, name);
    const int dir = open_folder(t, false);
    if (dir >= 0 && unlinkat(dir, name, 0) != 0 && errno != ENOENT) {
        /* The next load of the tenant finds it: no catalog names it. */
        ORT_LOG_WARN(&log_, "snapshot.unlink", "tenant=%016" PRIx64 " file=%s errno=%d", t->id.v,
                     name, errno);
    }
    ort_fd_close(dir);
}

/* Ends the handle; the file goes too unless the catalog has it by now. */
static void
end_file(dp_tenant_file *f, bool keep)
{
    if (f->fd >= 0 && !keep) {
        unlink_file(f->t, f->id);
    }
    ort_fd_close(f->fd);
    pthread_mutex_lock(&f->t->lock);
    f->t->file_count--;
    f->t->file_bytes -= f->bytes;
    pthread_mutex_unlock(&f->t->lock);
    dp_tenant_unref(f->t);
    free(f);
}

void
dp_tenant_file_free(dp_tenant_file *f)
{
    if (f != NULL) {
        end_file(f, false);
    }
}

ort_err
dp_tenant_file_write(dp_tenant_file *f, const void *bytes, size_t n, ort_diag *diag)
{
    ort_err err = dp_tenant__may_go_on(f->t, diag);
    if (err == ORT_OK && n > files_left(f->t)) {
        err = ort_fail(diag, ORT_EQUOTA,
                       "snapshots and uploads of the tenant may take %" PRIu64
                       " bytes together, and more do not fit; delete snapshots",
                       dp_tenant_files_max(f->t));
    }
    if (err == ORT_OK) {
        err = dp_io_write(f->fd, bytes, n, f->bytes, diag);
    }
    if (err == ORT_OK) {
        ort_sha256_put(&f->digest, bytes, n);
        f->bytes += n;
        count_bytes(f->t, n, 0);
    }
    return err;
}

int
dp_tenant_file_peek_fd(const dp_tenant_file *f)
{
    return f->fd;
}

uint64_t
dp_tenant_file_bytes(const dp_tenant_file *f)
{
    return f->bytes;
}

void
dp_tenant_file_sha256(const dp_tenant_file *f, ort_hash *out)
{
    ort_sha256 copy = f->digest;
    ort_sha256_done(&copy, out);
}

/* Begins a snapshot in such a file. */
static ort_err
begin(dp_tenant *t, dp_snapshot_kind kind, const dp_snapshot_pin *pin, int64_t now_ms,
      dp_tenant_file **file, dp_snapshot_writer **out, ort_diag *diag)
{
    *out = NULL;
    ort_err err = dp_tenant_file_new(file, t, diag);
    if (err != ORT_OK) {
        return err;
    }
    const uint64_t left = files_left(t);
    const dp_snapshot_about about = {.kind = kind,
                                     .tenant = t->id,
                                     .created_ms = now_ms,
                                     .regions = pin->regions,
                                     .region_count = pin->region_count};
    const dp_snapshot_bounds bounds = {.bytes_max = left == UINT64_MAX ? 0 : left + (left == 0),
                                       .check = dp_tenant__may_go_on,
                                       .arg = t};
    return dp_snapshot_writer_new(out, (*file)->fd, &about, &bounds, diag);
}

static ort_err
finish(dp_tenant_file *file, dp_snapshot_writer *w, dp_snapshot_totals *totals, ort_diag *diag)
{
    const ort_err err = dp_snapshot_finish(w, totals, diag);
    if (err == ORT_OK) {
        file->bytes = totals->file_bytes;
        count_bytes(file->t, file->bytes, 0);
    }
    return err;
}

/* --- snapshots of a collection ---------------------------------------------------------------- */

ort_err
dp_snap__copy(const dp_snap_list *list, size_t room, dp_snap_list *out)
{
    *out = (dp_snap_list){.items = malloc((list->count + room + 1) * sizeof *out->items)};
    if (out->items == NULL) {
        return ORT_ENOMEM;
    }
    for (size_t i = 0; i < list->count; i++) {
        out->items[out->count++] = list->items[i];
    }
    return ORT_OK;
}

void
dp_snap__remove_of(dp_snap_list *list, ort_collection_id collection)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].collection.v != collection.v) {
            list->items[kept++] = list->items[i];
        }
    }
    list->count = kept;
}

void
dp_snap__trash_of(dp_tenant *t, const dp_snap_list *list, ort_collection_id collection)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].collection.v == collection.v) {
            unlink_file(t, list->items[i].id);
        }
    }
}

/* "<what a file name may hold of the collection's name>-<UTC time>-<6 hex>.snapshot" */
static void
make_name(const char *collection, int64_t now_ms, char out[DP_SNAPSHOT_NAME_BYTES])
{
    char slug[64], when[32];
    struct tm tm;
    const time_t s = (time_t)(now_ms / 1000);
    size_t n = 0;
    for (; n < sizeof slug - 1 && collection[n] != '\0'; n++) {
        const char c = collection[n];
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '-' || c == '_';
        slug[n] = plain ? c : '_';
    }
    slug[n] = '\0';
    gmtime_r(&s, &tm);
    strftime(when, sizeof when, "%Y-%m-%d-%H-%M-%S", &tm);
    snprintf(out, DP_SNAPSHOT_NAME_BYTES, "%s-%s-%06" PRIx64 ".snapshot", slug, when,
             ort_id_random() & 0xffffff);
}

/* What a snapshot is taken of: a collection that is in use, or the files of one that is closed. */
typedef struct {
    dp_collection *open;
    dp_still *still;
    ort_collection_id id;
    char name[ORT_COLLECTION_NAME_BYTES_MAX + 1];
} snapped;

/* Opens what an entry that is CLOSING, for us alone, has on disk. The lock is of the descriptor and
 * all its copies, and whoever uses the collection while its snapshot is written wants it. */
static ort_err
open_still(dp_tenant *t, const dp_entry *e, dp_schema *schema, dp_still **out)
{
    const dp_collection_config config = {
        .tenant = t->id, .id = e->id, .name = e->name, .schema = schema};
    const int fd = dp_tenant__open_data(t, e);
    const bool locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    const ort_err err = locked ? dp_still_open(out, fd, &config, NULL) : ORT_EBUSY;
    if (locked) {
        (void)flock(fd, LOCK_UN);
    }
    ort_fd_close(fd);
    return err;
}

/* The files of a collection that is closed: it need not be opened for a snapshot, nor what is open
 * be closed for it. A search that comes now waits until its short log was read. false: it is open,
 * or not there, or its files are not as they should be: dp_tenant_use() says what. */
static bool
take_still(dp_tenant *t, const char *name, size_t len, snapped *out)
{
    pthread_mutex_lock(&t->lock);
    dp_entry *e = t->deleted ? NULL : dp_tenant__resolve(t, name, len);
    if (e == NULL || e->state != DP_ENTRY_CLOSED || e->changing || e->failed_ms != 0) {
        pthread_mutex_unlock(&t->lock);
        return false;
    }
    dp_schema *schema = dp_schema_ref(e->schema);
    out->id = e->id;
    snprintf(out->name, sizeof out->name, "%s", e->name);
    e->state = DP_ENTRY_CLOSING;
    pthread_mutex_unlock(&t->lock);
    const bool taken = open_still(t, e, schema, &out->still) == ORT_OK;
    dp_schema_unref(schema);
    pthread_mutex_lock(&t->lock);
    e->state = DP_ENTRY_CLOSED;
    pthread_cond_broadcast(&t->moved);
    const bool dropped = dp_tenant__take_dropped(t, e); /* meanwhile: what was read is still good */
    pthread_mutex_unlock(&t->lock);
    if (dropped) {
        dp_tenant__bury(t, e);
    }
    return taken;
}

/* Whatever name it was asked by. */
static ort_err
snap(dp_tenant *t, const char *name, size_t len, snapped *out, ort_diag *diag)
{
    *out = (snapped){.open = NULL};
    if (take_still(t, name, len, out)) {
        return ORT_OK;
    }
    const ort_err err = dp_tenant_use(t, name, len, &out->open, diag);
    if (err != ORT_OK) {
        return err;
    }
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->entry_count + t->dropped_count; i++) {
        const dp_entry *e = i < t->entry_count ? t->entries[i] : t->dropped[i - t->entry_count];
        if (e->collection == out->open) {
            out->id = e->id;
            snprintf(out->name, sizeof out->name, "%s", e->name);
        }
    }
    pthread_mutex_unlock(&t->lock);
    return ORT_OK;
}

static ort_err
put_snapped(dp_snapshot_writer *w, const snapped *from, const char *name,
            const char *const *aliases, size_t alias_count, ort_diag *diag)
{
    return from->still != NULL
               ? dp_snapshot_put_still(w, from->still, name, aliases, alias_count, diag)
               : dp_snapshot_put(w, from->open, name, aliases, alias_count, diag);
}

static void
let_go(dp_tenant *t, snapped *from)
{
    dp_still_close(from->still);
    dp_tenant_release(t, from->open);
    *from = (snapped){.open = NULL};
}

/* Puts a finished file into the catalog. */
static ort_err
name_file(dp_tenant *t, const dp_snap *snap, ort_diag *diag)
{
    dp_snap_list next = {0}, old = {0};
    pthread_mutex_lock(&t->change);
    pthread_mutex_lock(&t->lock);
    ort_err err = ORT_OK;
    if (t->deleted || dp_tenant__find_id(t, snap->collection) == NULL) {
        err = ort_fail(diag, ORT_ENOTFOUND, "the collection was deleted meanwhile");
    } else if (t->snaps.count >= DP_SNAPSHOTS_MAX) {
        err = ort_fail(diag, ORT_EQUOTA, "the tenant has %zu snapshots, the most there may be",
                       t->snaps.count);
    } else {
        err = dp_snap__copy(&t->snaps, 1, &next);
    }
    const dp_catalog catalog = {.entries = t->entries,
                                .entry_count = t->entry_count,
                                .aliases = &t->aliases,
                                .snaps = &next};
    pthread_mutex_unlock(&t->lock);
    if (err == ORT_OK) {
        next.items[next.count++] = *snap;
        err = dp_tenant__save_as(t, &catalog, diag);
    }
    if (err == ORT_OK) {
        pthread_mutex_lock(&t->lock);
        old = t->snaps;
        t->snaps = next;
        next = old;
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&t->change);
    free(next.items);
    return err;
}

static ort_err
create(dp_tenant *t, const char *name, size_t len, const dp_snapshot_pin *pin,
       dp_snapshot_info *out, ort_diag *diag)
{
    dp_snap made = {.info = {.created_ms = ort_wall_ms()}};
    snapped from;
    dp_tenant_file *file = NULL;
    dp_snapshot_writer *w = NULL;
    dp_snapshot_totals totals;
    ort_err err = snap(t, name, len, &from, diag);
    if (err == ORT_OK) {
        err = begin(t, DP_SNAPSHOT_COLLECTION, pin, made.info.created_ms, &file, &w, diag);
    }
    if (err == ORT_OK) {
        err = put_snapped(w, &from, from.name, NULL, 0, diag);
        made.collection = from.id;
        make_name(from.name, made.info.created_ms, made.info.name);
    }
    let_go(t, &from);
    if (err == ORT_OK) {
        err = finish(file, w, &totals, diag);
    }
    dp_snapshot_writer_free(w);
    if (err == ORT_OK) {
        made.id = file->id;
        made.info.bytes = totals.file_bytes;
        made.info.sha256 = totals.sha256;
        const int dir = open_folder(t, false);
        err = dir < 0 ? ort_fail_errno(diag, ORT_EIO, "open snapshots") : ort_dir_sync(dir, diag);
        ort_fd_close(dir);
        ort_point("snapshot.unnamed");
    }
    if (err == ORT_OK) {
        err = name_file(t, &made, diag);
        ort_point("snapshot.named");
    }
    if (file != NULL) { /* a catalog that may be the one on disk names it: the next load knows */
        end_file(file, err == ORT_OK || atomic_load(&t->unsure));
    }
    if (err == ORT_OK) {
        *out = made.info;
    }
    return err;
}

ort_err
dp_tenant_snapshot_create(dp_tenant *t, const char *name, size_t len, const dp_snapshot_pin *pin,
                          dp_snapshot_info *out, ort_diag *diag)
{
    ort_err err = dp_tenant__job_begin(t, diag);
    if (err == ORT_OK) {
        err = create(t, name, len, pin, out, diag);
        dp_tenant__job_end(t);
        (*(err == ORT_OK ? &t->all->snapshots : &t->all->snapshot_failures))++;
    }
    return err;
}

/* The collection of that name; t->lock is held. */
static ort_err
find_collection(dp_tenant *t, const char *name, size_t len, ort_collection_id *out, ort_diag *diag)
{
    const dp_entry *e = t->deleted ? NULL : dp_tenant__resolve(t, name, len);
    if (e == NULL) {
        return ort_fail(diag, ORT_ENOTFOUND, "Collection `%.*s` doesn't exist!", (int)len, name);
    }
    *out = e->id;
    return ORT_OK;
}

ort_err
dp_tenant_snapshot_list(dp_tenant *t, const char *name, size_t len, dp_snapshot_fn fn, void *ctx,
                        ort_diag *diag)
{
    dp_snap_list list = {0};
    ort_collection_id id;
    pthread_mutex_lock(&t->lock);
    ort_err err = find_collection(t, name, len, &id, diag);
    if (err == ORT_OK) {
        err = dp_snap__copy(&t->snaps, 0, &list);
    }
    pthread_mutex_unlock(&t->lock);
    for (size_t i = 0; err == ORT_OK && i < list.count; i++) {
        if (list.items[i].collection.v == id.v && !fn(ctx, &list.items[i].info)) {
            break;
        }
    }
    free(list.items);
    return err;
}

/* The snapshot of that name; t->lock is held. */
static ort_err
find_snap(dp_tenant *t, const char *name, size_t len, const char *snapshot, dp_snap *out,
          ort_diag *diag)
{
    ort_collection_id id;
    const ort_err err = find_collection(t, name, len, &id, diag);
    for (size_t i = 0; err == ORT_OK && i < t->snaps.count; i++) {
        if (t->snaps.items[i].collection.v == id.v &&
            strcmp(t->snaps.items[i].info.name, snapshot) == 0) {
            *out = t->snaps.items[i];
            return ORT_OK;
        }
    }
    return err != ORT_OK ? err
                         : ort_fail(diag, ORT_ENOTFOUND, "Snapshot `%.200s` not found", snapshot);
}

ort_err
dp_tenant_snapshot_open(dp_tenant *t, const char *name, size_t len, const char *snapshot,
                        int *fd_out, dp_snapshot_info *out, ort_diag *diag)
{
    dp_snap snap = {.id = {0}};
    char file[ORT_ID_TEXT_BYTES];
    *fd_out = -1;
    pthread_mutex_lock(&t->lock);
    ort_err err = find_snap(t, name, len, snapshot, &snap, diag);
    if (err == ORT_OK && t->read_count == DP_SNAPSHOT_READS_MAX) {
        err = ort_fail(diag, ORT_EBUSY, "%u downloads of this tenant's snapshots are under way",
                       DP_SNAPSHOT_READS_MAX);
    }
    t->read_count += err == ORT_OK;
    pthread_mutex_unlock(&t->lock);
    if (err != ORT_OK) {
        return err;
    }
    ort_id_format(snap.id.v, file);
    const int dir = open_folder(t, false);
    *fd_out = dir < 0 ? -1 : ort_open_beneath(dir, file, O_RDONLY, 0);
    err = *fd_out >= 0      ? ORT_OK
          : errno == ENOENT ? ort_fail(diag, ORT_ENOTFOUND, "Snapshot `%.200s` not found", snapshot)
                            : ort_fail_errno(diag, ORT_EIO, "open a snapshot");
    ort_fd_close(dir);
    if (err != ORT_OK) {
        dp_tenant_snapshot_close(t, -1);
    }
    *out = snap.info;
    return err;
}

void
dp_tenant_snapshot_close(dp_tenant *t, int fd)
{
    ort_fd_close(fd);
    pthread_mutex_lock(&t->lock);
    t->read_count--;
    pthread_mutex_unlock(&t->lock);
}

ort_err
dp_tenant_snapshot_delete(dp_tenant *t, const char *name, size_t len, const char *snapshot,
                          ort_diag *diag)
{
    dp_snap snap = {.id = {0}};
    dp_snap_list next = {0};
    pthread_mutex_lock(&t->change);
    pthread_mutex_lock(&t->lock);
    ort_err err = find_snap(t, name, len, snapshot, &snap, diag);
    if (err == ORT_OK) {
        err = dp_snap__copy(&t->snaps, 0, &next);
    }
    const dp_catalog catalog = {.entries = t->entries,
                                .entry_count = t->entry_count,
                                .aliases = &t->aliases,
                                .snaps = &next};
    pthread_mutex_unlock(&t->lock);
    for (size_t i = 0; err == ORT_OK && i < next.count; i++) {
        if (next.items[i].id.v == snap.id.v) {
            memmove(next.items + i, next.items + i + 1, (--next.count - i) * sizeof *next.items);
            break;
        }
    }
    if (err == ORT_OK) {
        err = dp_tenant__save_as(t, &catalog, diag);
    }
    if (err == ORT_OK) {
        pthread_mutex_lock(&t->lock);
        const dp_snap_list old = t->snaps;
        t->snaps = next;
        next = old;
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&t->change);
    free(next.items);
    if (err == ORT_OK) {
        ort_point("snapshot.deleted");
        unlink_file(t, snap.id);
    }
    return err;
}

/* --- backup ----------------------------------------------------------------------------------- */

/* Collections and their aliases as they were called at one moment. */
typedef struct {
    char *name;
    char **aliases;
    size_t alias_count;
} backed_up;

static void
free_names(backed_up *list, size_t count)
{
    for (size_t i = 0; list != NULL && i < count; i++) {
        for (size_t j = 0; j < list[i].alias_count; j++) {
            free(list[i].aliases[j]);
        }
        free(list[i].aliases);
        free(list[i].name);
    }
    free(list);
}

static ort_err
copy_names(dp_tenant *t, backed_up **out, size_t *count)
{
    ort_err err = ORT_OK;
    pthread_mutex_lock(&t->lock);
    *count = t->entry_count;
    backed_up *list = calloc(t->entry_count + 1, sizeof *list);
    for (size_t i = 0; list != NULL && err == ORT_OK && i < t->entry_count; i++) {
        list[i].name = strdup(t->entries[i]->name);
        list[i].aliases = calloc(t->aliases.count + 1, sizeof(char *));
        err = list[i].name == NULL || list[i].aliases == NULL ? ORT_ENOMEM : ORT_OK;
        for (size_t j = 0; err == ORT_OK && j < t->aliases.count; j++) {
            if (t->aliases.items[j].collection.v == t->entries[i]->id.v) {
                char *copy = strdup(t->aliases.items[j].name);
                err = copy == NULL ? ORT_ENOMEM : ORT_OK;
                list[i].aliases[list[i].alias_count] = copy;
                list[i].alias_count += copy != NULL;
            }
        }
    }
    pthread_mutex_unlock(&t->lock);
    *out = list;
    return list == NULL ? ORT_ENOMEM : err;
}

static ort_err
put_one(dp_tenant *t, dp_snapshot_writer *w, const backed_up *one, ort_diag *diag)
{
    snapped from;
    ort_err err = snap(t, one->name, strlen(one->name), &from, diag);
    if (err == ORT_ENOTFOUND) {
        return ORT_OK; /* dropped since the names were read */
    }
    if (err == ORT_OK) {
        err = put_snapped(w, &from, one->name, (const char *const *)one->aliases, one->alias_count,
                          diag);
    }
    let_go(t, &from);
    return err;
}

static ort_err
backup(dp_tenant *t, const dp_snapshot_pin *pin, dp_tenant_file **file, dp_snapshot_totals *totals,
       ort_diag *diag)
{
    dp_snapshot_writer *w = NULL;
    backed_up *list = NULL;
    size_t count = 0;
    ort_err err = copy_names(t, &list, &count);
    if (err == ORT_OK) {
        err = begin(t, DP_SNAPSHOT_TENANT, pin, ort_wall_ms(), file, &w, diag);
    }
    for (size_t i = 0; err == ORT_OK && i < count; i++) {
        err = put_one(t, w, &list[i], diag);
        ort_point("backup.collection");
    }
    if (err == ORT_OK) {
        err = finish(*file, w, totals, diag);
    }
    dp_snapshot_writer_free(w);
    free_names(list, count);
    return err;
}

ort_err
dp_tenant_backup(dp_tenant *t, const dp_snapshot_pin *pin, dp_tenant_file **out,
                 dp_snapshot_totals *totals, ort_diag *diag)
{
    *out = NULL;
    ort_err err = dp_tenant__job_begin(t, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = backup(t, pin, out, totals, diag);
    dp_tenant__job_end(t);
    (*(err == ORT_OK ? &t->all->snapshots : &t->all->snapshot_failures))++;
    if (err != ORT_OK) {
        dp_tenant_file_free(*out);
        *out = NULL;
    }
    return err;
}
