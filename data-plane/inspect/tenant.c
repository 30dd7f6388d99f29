/* A tenant: its catalog, and that catalog and directories tell of the same collections. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "inspect/inspect_internal.h"
#include "storage/dump.h"
#include "storage/points.h"

typedef struct {
    dp_inspect *inspect;
    int dir;
    ort_tenant_id id;
    ort_collection_id *named; /* by the catalog */
    size_t named_count;
    bool home_named; /* the catalog says whose files stand in the directory itself */
    char where[400];
} walk;

static void
set_where(walk *w, const char *folder, const char *name)
{
    snprintf(w->inspect->where, sizeof w->inspect->where, "%s%s%s%s%s", w->where,
             folder[0] != '\0' ? "/" : "", folder, name[0] != '\0' ? "/" : "", name);
}

static ort_err
visit_named(void *ctx, const dp_catalog_entry *e, ort_diag *diag)
{
    walk *w = ctx;
    char path[64], name[ORT_ID_TEXT_BYTES];
    ort_collection_id *more = realloc(w->named, (w->named_count + 1) * sizeof *more);
    if (more == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "list of collections");
    }
    w->named = more;
    w->named[w->named_count++] = e->id;
    ort_id_format(e->id.v, name);
    set_where(w, e->home ? "" : "collections", e->home ? "" : name);
    snprintf(path, sizeof path, "collections/%s", name);
    w->home_named = w->home_named || e->home;
    const int dir = ort_open_beneath(w->dir, e->home ? "." : path, O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0 ? errno == ENOENT : e->home && !dp_inspect__has_shard(dir)) {
        if (e->points > 0) {
            w->inspect->report->damaged++;
            dp_inspect__say(w->inspect, "damaged",
                            "the files are missing, and it had %" PRIu64 " points: restore it "
                            "from a backup, or drop the collection `%s`",
                            e->points, e->name);
        }
        ort_fd_close(dir);
        return ORT_OK; /* else it was never opened */
    }
    const ort_err err =
        dir < 0 ? ort_fail_errno(diag, ORT_EIO, "open %s", w->inspect->where)
                : dp_inspect__collection(w->inspect, w->dir, dir, w->id, e->id, e, diag);
    ort_fd_close(dir);
    return err;
}

static bool
is_named(const walk *w, const char *name)
{
    ort_collection_id id;
    bool found = false;
    if (ort_id_parse(name, strlen(name), &id.v) == ORT_OK) {
        for (size_t i = 0; i < w->named_count; i++) {
            found = found || w->named[i].v == id.v;
        }
    }
    return found;
}

/* Opens lost/ beneath the tenant, or lost/<name>. */
static ort_err
open_lost(const walk *w, const char *name, int *fd_out, ort_diag *diag)
{
    *fd_out = -1;
    ort_err err = ort_dir_make(w->dir, DP_INSPECT_LOST, diag);
    const int lost =
        err == ORT_OK ? ort_open_beneath(w->dir, DP_INSPECT_LOST, O_RDONLY | O_DIRECTORY, 0) : -1;
    if (err == ORT_OK && lost < 0) {
        err = ort_fail_errno(diag, ORT_EIO, "open " DP_INSPECT_LOST);
    }
    if (err != ORT_OK || name == NULL) {
        *fd_out = lost;
        return err;
    }
    err = ort_dir_make(lost, name, diag);
    *fd_out = err == ORT_OK ? ort_open_beneath(lost, name, O_RDONLY | O_DIRECTORY, 0) : -1;
    if (err == ORT_OK && *fd_out < 0) {
        err = ort_fail_errno(diag, ORT_EIO, "open " DP_INSPECT_LOST "/%s", name);
    }
    ort_fd_close(lost);
    return err;
}

/* Files of a shard in the tenant's own directory that no catalog names; likewise. */
static ort_err
visit_home_orphan(walk *w, bool keep, ort_diag *diag)
{
    ort_tenant_id tenant;
    ort_collection_id id = {0};
    char name[ORT_ID_TEXT_BYTES];
    struct dirent **names = NULL;
    int lost = -1;
    if (w->home_named || !dp_inspect__has_shard(w->dir)) {
        return ORT_OK;
    }
    set_where(w, "", "");
    w->inspect->report->notes++;
    if (!keep) {
        dp_inspect__say(w->inspect, "note",
                        "no catalog names the collection whose files are here: a node will sweep "
                        "them away");
        return ORT_OK;
    }
    if (dp_storage_owner(w->dir, &tenant, &id, NULL) != ORT_OK) {
        id.v = 0; /* no file says */
    }
    ort_id_format(id.v, name);
    ort_err err = open_lost(w, name, &lost, diag);
    const int count = err == ORT_OK ? scandirat(w->dir, ".", &names, NULL, alphasort) : 0;
    if (count < 0) {
        err = ort_fail_errno(diag, ORT_EIO, "list the directory");
    }
    for (int i = 0; i < count; i++) {
        if (err == ORT_OK && dp_storage_has_name(names[i]->d_name) &&
            renameat(w->dir, names[i]->d_name, lost, names[i]->d_name) != 0) {
            err = ort_fail_errno(diag, ORT_EIO, "move %s to " DP_INSPECT_LOST, names[i]->d_name);
        }
        free(names[i]);
    }
    free(names);
    err = err == ORT_OK ? ort_dir_sync(lost, diag) : err;
    err = err == ORT_OK ? ort_dir_sync(w->dir, diag) : err;
    ort_fd_close(lost);
    dp_inspect__say(w->inspect, "lost",
                    "name and schema are not known; its files are in " DP_INSPECT_LOST "/%s", name);
    return err;
}

static bool
is_named_index(void *ctx, const char *name)
{
    return is_named(ctx, name);
}

/* Directories that no catalog names. A node sweeps them: they are what a crash left of a collection
 * that was being made or dropped. Unless the catalog has just been put back from an older one: then
 * they may be what is missing in it, and are moved where no node looks. */
static ort_err
visit_orphans(walk *w, bool keep, ort_diag *diag)
{
    const int fd = ort_open_beneath(w->dir, "collections", O_RDONLY | O_DIRECTORY, 0);
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    ort_err err = ORT_OK;
    if (list == NULL) {
        err = errno == ENOENT ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "open collections");
        ort_fd_close(fd);
        return err;
    }
    for (struct dirent *d; err == ORT_OK && (d = readdir(list)) != NULL;) {
        if (d->d_name[0] == '.' || is_named(w, d->d_name)) {
            continue;
        }
        set_where(w, "collections", d->d_name);
        w->inspect->report->notes++;
        if (!keep) {
            dp_inspect__say(w->inspect, "note", "no catalog names it: a node will sweep it away");
            continue;
        }
        int lost;
        err = open_lost(w, NULL, &lost, diag);
        if (err == ORT_OK && renameat(fd, d->d_name, lost, d->d_name) != 0) {
            err = ort_fail_errno(diag, ORT_EIO, "move %s to " DP_INSPECT_LOST, d->d_name);
        }
        err = err == ORT_OK ? ort_dir_sync(lost, diag) : err;
        err = err == ORT_OK ? ort_dir_sync(fd, diag) : err;
        ort_fd_close(lost);
        dp_inspect__say(w->inspect, "lost",
                        "name and schema are not known; its files are in " DP_INSPECT_LOST "/%s",
                        d->d_name);
    }
    closedir(list);
    return err;
}

/* The catalog before the damaged one takes its place. What the last change was (a collection made,
 * dropped, changed; an alias) is lost. */
static ort_err
restore_catalog(walk *w, ort_diag *diag)
{
    ort_buf text = {0};
    ort_diag why = {""};
    ort_err err = dp_catalog_read(w->dir, DP_CATALOG_SPARE, w->id, NULL, NULL, &why);
    if (err != ORT_OK) {
        dp_inspect__say(w->inspect, "damaged",
                        "the catalog cannot be repaired, as the one before it (%s): restore the "
                        "tenant from a backup",
                        err == ORT_ENOTFOUND ? "there is none" : why.text);
        return ORT_ENOTFOUND;
    }
    err = ort_file_read(w->dir, DP_CATALOG_SPARE, SIZE_MAX / 2, &text, diag);
    if (err == ORT_OK) {
        (void)renameat(w->dir, DP_CATALOG_NAME, w->dir, DP_CATALOG_NAME ".damaged");
        err = ort_file_replace(w->dir, DP_CATALOG_NAME, text.data, text.len, 0600, diag);
    }
    if (err == ORT_OK) { /* what it says of sizes is older than they are */
        err = dp_catalog_forget_sizes(w->dir, w->id, NULL, diag);
    }
    ort_buf_fini(&text);
    if (err == ORT_OK) {
        w->inspect->report->damaged--;
        w->inspect->report->repaired++;
        dp_inspect__say(w->inspect, "repaired",
                        "from " DP_CATALOG_SPARE ": the last change of a collection or alias may "
                        "be undone; the damaged one is " DP_CATALOG_NAME ".damaged");
    }
    return err;
}

/* A tenant has a catalog before it has a collection. */
static bool
has_collections(int dir)
{
    const int fd = ort_open_beneath(dir, "collections", O_RDONLY | O_DIRECTORY, 0);
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    bool any = dp_inspect__has_shard(dir);
    for (struct dirent *d; list != NULL && (d = readdir(list)) != NULL;) {
        any = any || d->d_name[0] != '.';
    }
    if (list != NULL) {
        closedir(list);
    } else {
        ort_fd_close(fd);
    }
    return any;
}

/* The catalog before the present one is there for a repair alone: that it is of no use is worth a
 * word, and no more, since the next change of the catalog replaces it. */
static void
check_spare(const walk *w)
{
    dp_inspect *i = w->inspect;
    ort_diag why = {""};
    const ort_err err = dp_catalog_read(w->dir, DP_CATALOG_SPARE, w->id, NULL, NULL, &why);
    if (err == ORT_ENOTFOUND) {
        return;
    }
    dp_inspect__count(i, w->dir, DP_CATALOG_SPARE);
    if (err != ORT_OK) {
        const size_t before = dp_inspect__enter(i, DP_CATALOG_SPARE);
        i->report->notes++;
        dp_inspect__say(i, "note", "no repair could use it: %s", why.text);
        dp_inspect__leave(i, before);
    }
}

ort_err
dp_inspect__tenant(dp_inspect *i, int dir, ort_tenant_id id, ort_diag *diag)
{
    walk w = {.inspect = i, .dir = dir, .id = id};
    ort_diag why = {""};
    bool restored = false;
    snprintf(w.where, sizeof w.where, "%.*s", (int)sizeof w.where - 1, i->where);
    ort_err err = dp_catalog_read(dir, DP_CATALOG_NAME, id, NULL, NULL, &why);
    dp_inspect__count(i, dir, DP_CATALOG_NAME);
    check_spare(&w);
    if (err == ORT_ENOTFOUND && !has_collections(dir)) {
        return ORT_OK; /* a crash came before its first collection */
    }
    if (err == ORT_ENOTFOUND) {
        (void)ort_fail(&why, ORT_ECORRUPT, DP_CATALOG_NAME " is missing");
    }
    if (err != ORT_OK) {
        set_where(&w, DP_CATALOG_NAME, "");
        i->report->damaged++;
        dp_inspect__say(i, "damaged", "%s", why.text);
        if (i->repair && err != ORT_EVERSION) {
            err = restore_catalog(&w, diag);
            restored = err == ORT_OK;
        }
        if (!restored) {
            return err == ORT_ENOTFOUND || err == ORT_ECORRUPT || err == ORT_EVERSION ? ORT_OK
                                                                                      : err;
        }
    }
    err = dp_catalog_read(dir, DP_CATALOG_NAME, id, visit_named, &w, diag);
    if (err == ORT_OK) {
        err = visit_home_orphan(&w, restored, diag);
    }
    if (err == ORT_OK) {
        err = visit_orphans(&w, restored, diag);
    }
    snprintf(i->where, sizeof i->where, "%s", w.where);
    if (err == ORT_OK) {
        err =
            dp_inspect__strays(i, dir, "indexes", is_named_index, &w,
                               "no catalog names its collection: a node will sweep it away", diag);
    }
    if (err == ORT_OK) {
        err = dp_inspect__snapshots(i, dir, id, diag);
    }
    if (err == ORT_OK) {
        err = dp_inspect__strays_of_tenant(i, dir, w.home_named, diag);
    }
    free(w.named);
    return err;
}
