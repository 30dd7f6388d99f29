/* The collection that is at home: most tenants have one collection, and its files stand in the
 * tenant's own directory, beside the catalog. A directory is an inode, a block and a look-up at
 * each cold search, and thousands of tenants have two less of each this way.
 *
 *   nobody ──dp_home__take(), a collection is made or restored──► taken ──buried──► nobody
 *      │                                                            ▲
 *      └──dp_home__settle(), one was closed in collections/<id>─────┘
 *
 * The catalog says who it is ("home"). Files of a shard that stand there while it names nobody are
 * what a crash left: dp_tenant__load() trashes them. A collection moves in by links, so that at
 * every moment the files are whole where the catalog says they are:
 *
 *   link all ──sync──► catalog.json says "home" ──► catalog.old, too ──► collections/<id> trashed
 *    │ crash: links are trashed  │ crash: collections/<id> is an orphan
 *
 * The catalog before this one says so as well before anything goes, because a repair may put it
 * back. A catalog that could not be saved may be on the disk all the same: then both places stay as
 * they are until the next load. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/point.h"
#include "storage/points.h"
#include "tenant/tenant_internal.h"

#define GONE "gone" /* files on their way to the trash */

static const ort_log log_ = {"tenant"};

/* --- the directory ---------------------------------------------------------------------------- */

/* Calls fn with each name until it returns false. False: that, or the directory cannot be listed.
 */
static bool
each_name(int dir_fd, bool (*fn)(void *ctx, const char *name), void *ctx)
{
    const int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    bool ok = dir != NULL;
    if (dir == NULL) {
        ort_fd_close(fd);
        return false;
    }
    for (const struct dirent *d; ok && (d = readdir(dir)) != NULL;) {
        ok = strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 || fn(ctx, d->d_name);
    }
    closedir(dir);
    return ok;
}

static bool
note_file(void *ctx, const char *name)
{
    *(bool *)ctx = dp_storage_has_name(name);
    return !*(bool *)ctx;
}

bool
dp_home__has_files(int tenant_fd)
{
    bool found = false;
    (void)each_name(tenant_fd, note_file, &found);
    return found;
}

int
dp_tenant__open_data(dp_tenant *t, const dp_entry *e)
{
    if (!e->home) {
        return dp_tenant__open_folder(t, "collections", &e->id);
    }
    const int fd = dp_tenant__open_folder(t, "", NULL);
    /* Only of what had points it matters whether its files are there; else they are made. */
    if (fd >= 0 && e->points > 0 && !dp_home__has_files(fd)) {
        ort_fd_close(fd);
        errno = ENOENT;
        return -1;
    }
    return fd;
}

ort_err
dp_tenant__make_data(dp_tenant *t, const dp_entry *e, int *fd_out, ort_diag *diag)
{
    if (!e->home) {
        return dp_tenant__make_folder(t, "collections", e->id, fd_out, diag);
    }
    const ort_err err = dp_tenant__make_folders(t, diag);
    *fd_out = err == ORT_OK ? dp_tenant__open_folder(t, "", NULL) : -1;
    return err == ORT_OK && *fd_out < 0 ? ort_fail_errno(diag, ORT_EIO, "open its directory") : err;
}

void
dp_home__take(dp_tenant *t, dp_entry *e)
{
    e->home = !t->home_taken;
    t->home_taken = true;
}

/* --- out -------------------------------------------------------------------------------------- */

typedef struct {
    int from, to; /* to -1: the name is removed */
} moving;

static bool
move_out(void *ctx, const char *name)
{
    const moving *m = ctx;
    if (!dp_storage_has_name(name)) {
        return true;
    }
    return m->to >= 0 ? renameat(m->from, name, m->to, name) == 0 : unlinkat(m->from, name, 0) == 0;
}

/* One name after the other into a directory, and that to the trash: straight into the trash they
 * would be swept beneath our hands. The next load goes on where a crash comes between. */
bool
dp_home__trash(dp_tenant *t)
{
    ort_diag diag = {""};
    moving m = {.from = dp_tenant__open_folder(t, "", NULL), .to = -1};
    if (m.from < 0) {
        return errno == ENOENT; /* the tenant was deleted */
    }
    /* Asked when its directory is open: what stands there now may be a new tenant's of that id. */
    pthread_mutex_lock(&t->lock);
    const bool deleted = t->deleted;
    pthread_mutex_unlock(&t->lock);
    if (deleted) {
        ort_fd_close(m.from);
        return true;
    }
    bool ok = mkdirat(m.from, GONE, 0700) == 0 || errno == EEXIST;
    m.to = ok ? openat(m.from, GONE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    ok = m.to >= 0 && each_name(m.from, move_out, &m);
    if (!ok) {
        (void)ort_fail_errno(&diag, ORT_EIO, "move files to " GONE);
    }
    ok = ok && dp_tenants__trash(t->all, m.from, GONE, &diag) == ORT_OK;
    if (!ok) {
        ORT_LOG_WARN(&log_, "collection.trash", "tenant=%016" PRIx64 " err=%s", t->id.v, diag.text);
    }
    ort_fd_close(m.from);
    ort_fd_close(m.to);
    return ok;
}

void
dp_home__sweep(dp_tenant *t)
{
    const int top = t->home_taken ? -1 : dp_tenant__open_folder(t, "", NULL);
    if (top >= 0 &&
        (dp_home__has_files(top) || faccessat(top, GONE, F_OK, AT_SYMLINK_NOFOLLOW) == 0)) {
        t->home_taken = !dp_home__trash(t);
    }
    ort_fd_close(top);
}

/* --- in --------------------------------------------------------------------------------------- */

static bool
link_one(void *ctx, const char *name)
{
    const moving *m = ctx;
    /* What a repair put aside, or nobody knows, belongs to the directory that it is in. */
    return dp_storage_has_name(name) && linkat(m->from, name, m->to, name, 0) == 0;
}

/* Links all files of a closed collection into the tenant's directory, durably.
 *
 * later  set when somebody has them locked: it may be tried after the next close */
static bool
link_all(const moving *m, bool *later)
{
    moving there = *m, back = {.from = m->to, .to = -1};
    *later = flock(m->from, LOCK_EX | LOCK_NB) != 0; /* a repair, or a process that is forked */
    if (*later || dp_home__has_files(m->to)) {
        return false; /* what ought to be nothing is not ours to remove */
    }
    if (each_name(m->from, link_one, &there) && ort_dir_sync(m->to, NULL) == ORT_OK) {
        return true;
    }
    (void)each_name(m->to, move_out, &back);
    return false;
}

/* The closed collection that may move in; it is CLOSING from here on. */
static dp_entry *
claim(dp_tenant *t)
{
    dp_entry *found = NULL;
    pthread_mutex_lock(&t->lock);
    const bool may = t->may_settle && t->loaded && !t->deleted && !t->home_taken;
    t->may_settle = false;
    for (size_t i = 0; may && found == NULL && i < t->entry_count; i++) {
        dp_entry *e = t->entries[i];
        found = e->state == DP_ENTRY_CLOSED && !e->stays && !e->changing ? e : NULL;
    }
    if (found != NULL) {
        found->state = DP_ENTRY_CLOSING;
    }
    pthread_mutex_unlock(&t->lock);
    return found;
}

static bool
is_closing(dp_tenants *all)
{
    pthread_mutex_lock(&all->lock);
    const bool closing = all->closing;
    pthread_mutex_unlock(&all->lock);
    return closing;
}

/* The catalog, and the one before it, with the entry at home. */
static bool
say_so(dp_tenant *t, dp_entry *e)
{
    ort_diag diag = {""};
    pthread_mutex_lock(&t->lock);
    e->home = t->home_taken = true;
    pthread_mutex_unlock(&t->lock);
    ort_err err = dp_tenant__save(t, &diag);
    if (err == ORT_OK) {
        ort_point("home.said");
        err = dp_tenant__save(t, &diag);
    }
    if (err == ORT_OK) {
        return true;
    }
    ORT_LOG_WARN(&log_, "tenant.catalog", "tenant=%016" PRIx64 " err=%s", t->id.v, diag.text);
    pthread_mutex_lock(&t->lock);
    e->home = false; /* the place is taken by links that the next load may need or trash */
    pthread_mutex_unlock(&t->lock);
    /* One of the two may say otherwise, for good: nothing is written before one says so, too. */
    atomic_store(&t->unsure, true);
    return false;
}

static bool
move_in(dp_tenant *t, dp_entry *e, bool *later)
{
    char name[ORT_ID_TEXT_BYTES];
    moving m = {.from = dp_tenant__open_folder(t, "collections", &e->id), .to = -1};
    m.to = m.from >= 0 ? dp_tenant__open_folder(t, "", NULL) : -1;
    bool moved = m.to >= 0 && link_all(&m, later);
    ort_point("home.linked");
    moved = moved && say_so(t, e);
    ort_point("home.kept");
    if (moved) {
        const int folder = dp_tenant__open_folder(t, "collections", NULL);
        ort_diag diag = {""};
        ort_id_format(e->id.v, name);
        if (folder < 0 || dp_tenants__trash(t->all, folder, name, &diag) != ORT_OK) {
            /* The next load of this tenant finds it again. */
            ORT_LOG_WARN(&log_, "collection.trash", "collection=%s err=%s", name, diag.text);
        }
        ort_fd_close(folder);
        (void)unlinkat(m.to, "collections", AT_REMOVEDIR); /* when it is empty */
    }
    ort_fd_close(m.from);
    ort_fd_close(m.to);
    return moved;
}

bool
dp_home__settle(dp_tenant *t)
{
    /* Not on the way out: a stop is waited for, and this can be done after the next use. */
    dp_entry *e = is_closing(t->all) ? NULL : claim(t);
    if (e == NULL) {
        return false;
    }
    bool later = false;
    const bool moved = move_in(t, e, &later);
    pthread_mutex_lock(&t->lock);
    e->stays = !moved && !later;
    t->unsaved = t->unsaved && !moved;
    e->state = DP_ENTRY_CLOSED;
    pthread_cond_broadcast(&t->moved);
    pthread_mutex_unlock(&t->lock);
    return moved;
}
