/* Snapshots that a tenant keeps: each is read as a restore reads it, and is the file that the
 * catalog names: its length, its SHA-256. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "inspect/inspect_internal.h"
#include "tenant/snapshots.h"

#define FOLDER "snapshots"

typedef struct {
    dp_inspect *inspect;
    int tenant_dir, dir; /* dir -1: there is no such folder */
    ort_tenant_id tenant;
    ort_collection_id *named;
    size_t named_count;
    ort_collection_id *bad; /* of them */
    size_t bad_count;
} walk;

static ort_err
add(ort_collection_id **list, size_t *count, ort_collection_id id, ort_diag *diag)
{
    ort_collection_id *more = realloc(*list, (*count + 1) * sizeof *more);
    if (more == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "list of snapshots");
    }
    *list = more;
    more[(*count)++] = id;
    return ORT_OK;
}

/* All of the file, by the decoder that restores it; memory stays bounded. */
static ort_err
read_all(int fd, ort_tenant_id tenant, dp_snapshot_totals *out, ort_diag *diag)
{
    const dp_snapshot_bounds bounds = {0};
    dp_snapshot_reader *r = NULL;
    dp_snapshot_item item;
    bool got = true;
    ort_err err = dp_snapshot_reader_open(&r, fd, &bounds, diag);
    if (err == ORT_OK) {
        const dp_snapshot_about *about = dp_snapshot_peek_about(r);
        err = about->kind != DP_SNAPSHOT_COLLECTION || about->tenant.v != tenant.v
                  ? ort_fail(diag, ORT_EINVAL, "snapshot: it is another tenant's, or a backup")
                  : ORT_OK;
    }
    while (err == ORT_OK && got) {
        err = dp_snapshot_next(r, &item, &got, diag);
        if (err == ORT_OK && got) {
            err = dp_snapshot_fill(r, -1, tenant, (ort_collection_id){0}, diag);
        }
    }
    if (err == ORT_OK) {
        *out = *dp_snapshot_peek_totals(r);
    }
    dp_snapshot_reader_close(r);
    return err;
}

static ort_err
check(const walk *w, const char *name, const dp_snapshot_info *info, ort_diag *diag)
{
    dp_snapshot_totals totals = {0};
    const int fd = w->dir >= 0 ? ort_open_beneath(w->dir, name, O_RDONLY, 0) : -1;
    if (fd < 0) {
        return w->dir < 0 || errno == ENOENT ? ort_fail(diag, ORT_ENOTFOUND, "the file is missing")
                                             : ort_fail_errno(diag, ORT_EIO, "open");
    }
    ort_err err = read_all(fd, w->tenant, &totals, diag);
    if (err == ORT_OK &&
        (totals.file_bytes != info->bytes || !ort_hash_equal(&totals.sha256, &info->sha256))) {
        err = ort_fail(diag, ORT_EINVAL, "snapshot: it is sound, and not the one that was taken");
    }
    ort_fd_close(fd);
    return err;
}

typedef struct {
    ort_collection_id id;
    bool found;
} sought;

static ort_err
seek(void *ctx, ort_collection_id file, ort_collection_id collection, const dp_snapshot_info *info,
     ort_diag *diag)
{
    sought *s = ctx;
    (void)collection;
    (void)info;
    (void)diag;
    s->found = s->found || s->id.v == file.v;
    return ORT_OK;
}

/* A node that runs may have deleted it since the catalog was read. */
static bool
is_named_still(const walk *w, ort_collection_id id)
{
    sought s = {.id = id};
    return dp_catalog_read_snapshots(w->tenant_dir, w->tenant, seek, &s, NULL) != ORT_OK || s.found;
}

static ort_err
visit(void *ctx, ort_collection_id file, ort_collection_id collection, const dp_snapshot_info *info,
      ort_diag *diag)
{
    walk *w = ctx;
    dp_inspect *i = w->inspect;
    char name[ORT_ID_TEXT_BYTES];
    ort_diag why = {""};
    (void)collection;
    ort_id_format(file.v, name);
    ort_err err = add(&w->named, &w->named_count, file, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = check(w, name, info, &why);
    if (err == ORT_ENOTFOUND && !is_named_still(w, file)) {
        return ORT_OK;
    }
    dp_inspect__count(i, w->dir, name);
    if (err == ORT_OK || err == ORT_ENOMEM) {
        return err == ORT_OK ? ORT_OK : ort_fail(diag, err, "%s", why.text);
    }
    const size_t before = dp_inspect__enter(i, name);
    i->report->damaged++;
    dp_inspect__say(i, "damaged", "%s is no use any more: %s", info->name, why.text);
    dp_inspect__leave(i, before);
    return i->repair && err != ORT_EVERSION ? add(&w->bad, &w->bad_count, file, diag) : ORT_OK;
}

/* It cannot be made anew, only taken anew. The catalog is the node's while one runs: it would name
 * the snapshot again. */
static ort_err
let_go(walk *w, ort_collection_id id, ort_diag *diag)
{
    dp_inspect *i = w->inspect;
    char name[ORT_ID_TEXT_BYTES];
    int lost = -1;
    ort_id_format(id.v, name);
    const size_t before = dp_inspect__enter(i, name);
    ort_err err = ORT_OK;
    if (i->node_runs) {
        dp_inspect__say(i, "damaged", "a node runs: delete the snapshot by its API");
        dp_inspect__leave(i, before);
        return ORT_OK;
    }
    err = dp_catalog_forget_snapshot(w->tenant_dir, w->tenant, id, diag);
    if (err == ORT_OK && w->dir >= 0) {
        err = ort_dir_make(w->tenant_dir, DP_INSPECT_LOST, diag);
        lost = err == ORT_OK
                   ? ort_open_beneath(w->tenant_dir, DP_INSPECT_LOST, O_RDONLY | O_DIRECTORY, 0)
                   : -1;
        if (err == ORT_OK && lost < 0) {
            err = ort_fail_errno(diag, ORT_EIO, "open " DP_INSPECT_LOST);
        }
        if (err == ORT_OK && renameat(w->dir, name, lost, name) != 0 && errno != ENOENT) {
            err = ort_fail_errno(diag, ORT_EIO, "move %s to " DP_INSPECT_LOST, name);
        }
        err = err == ORT_OK ? ort_dir_sync(lost, diag) : err;
        err = err == ORT_OK ? ort_dir_sync(w->dir, diag) : err;
        ort_fd_close(lost);
    }
    if (err == ORT_OK) {
        i->report->damaged--;
        i->report->repaired++;
        dp_inspect__say(i, "repaired",
                        "taken out of the catalog; what is left of it is in " DP_INSPECT_LOST "/%s",
                        name);
    }
    dp_inspect__leave(i, before);
    return err;
}

static bool
is_named(void *ctx, const char *name)
{
    const walk *w = ctx;
    ort_collection_id id;
    bool found = false;
    if (ort_id_parse(name, strlen(name), &id.v) == ORT_OK) {
        for (size_t i = 0; i < w->named_count; i++) {
            found = found || w->named[i].v == id.v;
        }
    }
    return found;
}

ort_err
dp_inspect__snapshots(dp_inspect *i, int tenant_dir, ort_tenant_id id, ort_diag *diag)
{
    walk w = {.inspect = i, .tenant_dir = tenant_dir, .tenant = id};
    w.dir = ort_open_beneath(tenant_dir, FOLDER, O_RDONLY | O_DIRECTORY, 0);
    const size_t before = dp_inspect__enter(i, FOLDER);
    ort_err err = dp_catalog_read_snapshots(tenant_dir, id, visit, &w, diag);
    for (size_t k = 0; err == ORT_OK && k < w.bad_count; k++) {
        err = let_go(&w, w.bad[k], diag);
    }
    if (err == ORT_OK && w.dir >= 0) {
        err = dp_inspect__strays(i, w.dir, NULL, is_named, &w,
                                 "no catalog names it: an upload or a backup on its way, or what a "
                                 "crash left of one, which a node will sweep away",
                                 diag);
    }
    dp_inspect__leave(i, before);
    ort_fd_close(w.dir);
    free(w.named);
    free(w.bad);
    return err;
}
