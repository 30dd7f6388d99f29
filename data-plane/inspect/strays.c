/* Files that nobody wrote, or nobody needs any more: named, never touched. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "inspect/inspect_internal.h"
#include "storage/manifest.h"
#include "storage/segment.h"

#define UNKNOWN                                                                                    \
    "no file that anything names: of a checkpoint that was cut off, which the next open removes, " \
    "or of whoever put it there"

static const char *const root_names[] = {"lock", "node", "scrub", "tenants", "trash", NULL};
static const char *const shard_names[] = {DP_INSPECT_LOST, NULL};
static const char *const tenant_names[] = {DP_CATALOG_NAME,
                                           DP_CATALOG_SPARE,
                                           "catalog.json.damaged", /* a repair's */
                                           "collections",
                                           "indexes",
                                           "snapshots",
                                           "gone", /* on its way to the trash: tenant/home.c */
                                           DP_INSPECT_LOST,
                                           NULL};

bool
dp_inspect__is_listed(void *ctx, const char *name)
{
    const char *const *names = ctx;
    for (size_t i = 0; names[i] != NULL; i++) {
        const size_t n = strlen(names[i]);
        if (strncmp(name, names[i], n) == 0 && (name[n] == '\0' || strcmp(name + n, ".new") == 0)) {
            return true;
        }
    }
    return false;
}

ort_err
dp_inspect__strays(dp_inspect *i, int dir, const char *folder, dp_known_fn known, void *ctx,
                   const char *words, ort_diag *diag)
{
    struct dirent **names = NULL;
    const int fd = folder == NULL ? openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                                  : ort_open_beneath(dir, folder, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) {
        return errno == ENOENT ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "open %s", i->where);
    }
    const int count = scandirat(fd, ".", &names, NULL, alphasort);
    ort_fd_close(fd);
    if (count < 0) {
        return ort_fail_errno(diag, ORT_EIO, "list %s", i->where);
    }
    const size_t before = folder != NULL ? dp_inspect__enter(i, folder) : strlen(i->where);
    for (int k = 0; k < count; k++) {
        const char *name = names[k]->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !known(ctx, name)) {
            const size_t above = dp_inspect__enter(i, name);
            i->report->notes++;
            dp_inspect__say(i, "note", "%s", words);
            dp_inspect__leave(i, above);
        }
        free(names[k]);
    }
    free(names);
    dp_inspect__leave(i, before);
    return ORT_OK;
}

static bool
is_nothing(void *ctx, const char *name)
{
    (void)ctx;
    (void)name;
    return false;
}

ort_err
dp_inspect__strays_of_root(dp_inspect *i, int root, ort_diag *diag)
{
    ort_err err = dp_inspect__strays(i, root, NULL, dp_inspect__is_listed,
                                     (void *)(uintptr_t)root_names, UNKNOWN, diag);
    if (err == ORT_OK) {
        err = dp_inspect__strays(i, root, "trash", is_nothing, NULL,
                                 "deleted: a node removes it in the background", diag);
    }
    return err;
}

static bool
is_of_shard(const dp_manifest *m, const char *name)
{
    char segment[DP_SEGMENT_NAME_BYTES];
    for (uint32_t i = 0; i < m->segment_count; i++) {
        dp_segment_name(m->segments[i].id, segment);
        if (strcmp(name, segment) == 0) {
            return true;
        }
    }
    return strncmp(name, "seg.", 4) != 0 && dp_storage_has_name(name);
}

/* What is known beside the files of a shard. */
typedef struct {
    const char *const *names;
    const dp_manifest *manifest; /* NULL: whatever is a shard's by its name is somebody's */
} expected;

static bool
is_expected(void *ctx, const char *name)
{
    const expected *e = ctx;
    return dp_inspect__is_listed((void *)(uintptr_t)e->names, name) ||
           (e->manifest != NULL ? is_of_shard(e->manifest, name) : dp_storage_has_name(name));
}

static ort_err
strays(dp_inspect *i, int dir, const char *const *names, bool shard, ort_diag *diag)
{
    dp_manifest m = {.segment_count = 0};
    uint64_t bytes;
    const ort_err err = shard ? dp_manifest_read(dir, &m, &bytes, NULL) : ORT_ENOTFOUND;
    /* One that is damaged was told of: nobody knows then whose a segment is. */
    const expected known = {
        .names = names, .manifest = shard && (err == ORT_OK || err == ORT_ENOTFOUND) ? &m : NULL};
    const ort_err did =
        dp_inspect__strays(i, dir, NULL, is_expected, (void *)(uintptr_t)&known, UNKNOWN, diag);
    dp_manifest_fini(&m);
    return did;
}

ort_err
dp_inspect__strays_of_tenant(dp_inspect *i, int dir, bool home, ort_diag *diag)
{
    return strays(i, dir, tenant_names, home, diag);
}

ort_err
dp_inspect__strays_of_shard(dp_inspect *i, int dir, ort_diag *diag)
{
    return strays(i, dir, shard_names, true, diag);
}
