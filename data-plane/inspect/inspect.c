/* verify, repair, dump: which directory it is, the walk over it, the words of the command line. */
#include "inspect/inspect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "collection/op.h"
#include "inspect/inspect_internal.h"
#include "storage/dump.h"
#include "storage/points.h"

void
dp_inspect__say(dp_inspect *i, const char *word, const char *format, ...)
{
    va_list args;
    (void)fprintf(i->out, "%-8s %s: ", word, i->where);
    va_start(args, format);
    (void)vfprintf(i->out, format, args);
    va_end(args);
    (void)fputc('\n', i->out);
}

size_t
dp_inspect__enter(dp_inspect *i, const char *name)
{
    const size_t before = strlen(i->where);
    snprintf(i->where + before, sizeof i->where - before, "%s%s", before > 0 ? "/" : "", name);
    return before;
}

void
dp_inspect__leave(dp_inspect *i, size_t before)
{
    i->where[before] = '\0';
}

void
dp_inspect__count(dp_inspect *i, int dir, const char *name)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        i->report->files++;
        i->report->bytes += (uint64_t)st.st_size;
    }
}

/* --- what it is ------------------------------------------------------------------------------- */

typedef struct {
    dp_place_kind kind;
    char path[PATH_MAX]; /* absolute, no links */
    int dir;
    ort_tenant_id tenant;         /* of a tenant, a collection */
    ort_collection_id collection; /* of a collection */
} place;

static bool
exists(int dir, const char *name)
{
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The id that a component of the path is, counted from its end; false: it is none. */
static bool
id_in_path(const char *path, unsigned from_end, uint64_t *out)
{
    const char *end = path + strlen(path), *begin = end;
    for (unsigned i = 0; i <= from_end; i++) {
        end = i == 0 ? end : begin - 1;
        begin = end;
        while (begin > path && begin[-1] != '/') {
            begin--;
        }
        if (begin == path) {
            return false;
        }
    }
    return ort_id_parse(begin, (size_t)(end - begin), out) == ORT_OK;
}

bool
dp_inspect__has_shard(int dir)
{
    const int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    bool found = false;
    for (const struct dirent *d; !found && list != NULL && (d = readdir(list)) != NULL;) {
        found = dp_storage_has_name(d->d_name);
    }
    if (list != NULL) {
        closedir(list);
    } else {
        ort_fd_close(fd);
    }
    return found;
}

/* .../tenants/<id>: also without its catalog. */
static bool
is_among_tenants(const char *path)
{
    static const char parent[] = "/tenants/";
    const char *slash = strrchr(path, '/');
    const size_t len = sizeof parent - 1;
    return slash != NULL && (size_t)(slash + 1 - path) >= len &&
           memcmp(slash + 1 - len, parent, len) == 0;
}

static ort_err
find_place(const char *path, place *out, ort_diag *diag)
{
    *out = (place){.dir = -1};
    if (realpath(path, out->path) == NULL) {
        return ort_fail_errno(diag, errno == ENOENT ? ORT_ENOTFOUND : ORT_EIO, "%s", path);
    }
    out->dir = open(out->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (out->dir < 0) {
        return ort_fail_errno(diag, ORT_EIO, "open %s", path);
    }
    if (exists(out->dir, "tenants")) {
        out->kind = DP_PLACE_ROOT;
        return ORT_OK;
    }
    if (exists(out->dir, DP_CATALOG_NAME) || exists(out->dir, "collections") ||
        is_among_tenants(out->path)) {
        out->kind = DP_PLACE_TENANT;
        return id_in_path(out->path, 0, &out->tenant.v)
                   ? ORT_OK
                   : ort_fail(diag, ORT_EINVAL, "%s: a tenant's directory is named by its id",
                              path);
    }
    out->kind = DP_PLACE_COLLECTION;
    /* .../<tenant>/collections/<collection>; a copy elsewhere says itself whose it is. */
    if (id_in_path(out->path, 0, &out->collection.v) && id_in_path(out->path, 2, &out->tenant.v)) {
        return ORT_OK;
    }
    const ort_err err = dp_storage_owner(out->dir, &out->tenant, &out->collection, diag);
    return err == ORT_ENOTFOUND
               ? ort_fail(diag, ORT_EINVAL,
                          "%s is no data directory, nor a tenant's, nor a collection's", path)
               : err;
}

/* --- the walk --------------------------------------------------------------------------------- */

static ort_err
walk_root(dp_inspect *i, int root, ort_diag *diag)
{
    i->where[0] = '\0';
    i->node_runs = dp_inspect__node_runs(root);
    ort_err err = dp_inspect__node(i, root, diag);
    if (err == ORT_OK) {
        err = dp_inspect__strays_of_root(i, root, diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    const int fd = ort_open_beneath(root, "tenants", O_RDONLY | O_DIRECTORY, 0);
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    if (list == NULL) {
        err = ort_fail_errno(diag, ORT_EIO, "open tenants");
        ort_fd_close(fd);
        return err;
    }
    for (struct dirent *d; err == ORT_OK && (d = readdir(list)) != NULL;) {
        ort_tenant_id id;
        if (d->d_name[0] == '.') {
            continue;
        }
        snprintf(i->where, sizeof i->where, "tenants/%s", d->d_name);
        if (ort_id_parse(d->d_name, strlen(d->d_name), &id.v) != ORT_OK) {
            i->report->notes++;
            dp_inspect__say(i, "note", "this is no tenant's name");
            continue;
        }
        const int dir = ort_open_beneath(fd, d->d_name, O_RDONLY | O_DIRECTORY, 0);
        if (dir < 0) {
            i->report->damaged++;
            dp_inspect__say(i, "damaged", "it cannot be opened: %s", strerror(errno));
            continue;
        }
        err = dp_inspect__tenant(i, dir, id, diag);
        ort_fd_close(dir);
    }
    closedir(list);
    return err;
}

static ort_err
walk_tenant(dp_inspect *i, const place *at, ort_diag *diag)
{
    const int root = openat(at->dir, "../..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    i->node_runs = root >= 0 && dp_inspect__node_runs(root);
    ort_fd_close(root);
    return dp_inspect__tenant(i, at->dir, at->tenant, diag);
}

typedef struct {
    ort_collection_id id;
    dp_inspect *inspect;
    const place *at;
    int tenant_dir;
    bool found;
} one_of_tenant;

static ort_err
visit_one(void *ctx, const dp_catalog_entry *e, ort_diag *diag)
{
    one_of_tenant *o = ctx;
    if (e->id.v != o->id.v) {
        return ORT_OK;
    }
    o->found = true;
    return dp_inspect__collection(o->inspect, o->tenant_dir, o->at->dir, o->at->tenant, o->id, e,
                                  diag);
}

/* With what its tenant's catalog says of it, where it stands in a tenant's directory. */
static ort_err
walk_collection(dp_inspect *i, const place *at, ort_diag *diag)
{
    uint64_t in_path = 0;
    one_of_tenant o = {.id = at->collection, .inspect = i, .at = at, .tenant_dir = -1};
    ort_err err = ORT_OK;
    if (id_in_path(at->path, 2, &in_path) && in_path == at->tenant.v) {
        o.tenant_dir = openat(at->dir, "../..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (o.tenant_dir >= 0) {
        err = dp_catalog_read(o.tenant_dir, DP_CATALOG_NAME, at->tenant, visit_one, &o, diag);
    }
    if (!o.found) {
        err = dp_inspect__collection(i, o.tenant_dir, at->dir, at->tenant, at->collection, NULL,
                                     diag);
    }
    ort_fd_close(o.tenant_dir);
    return err;
}

static ort_err
inspect(const char *path, FILE *out, bool repair, dp_inspect_report *report, ort_diag *diag)
{
    place at;
    dp_inspect i = {.out = out, .repair = repair, .report = report};
    *report = (dp_inspect_report){0};
    ort_err err = find_place(path, &at, diag);
    if (err == ORT_OK) {
        snprintf(i.where, sizeof i.where, "%.*s", (int)sizeof i.where - 1, path);
        err = at.kind == DP_PLACE_ROOT     ? walk_root(&i, at.dir, diag)
              : at.kind == DP_PLACE_TENANT ? walk_tenant(&i, &at, diag)
                                           : walk_collection(&i, &at, diag);
    }
    ort_fd_close(at.dir);
    return err;
}

ort_err
dp_inspect_verify(const char *path, FILE *out, dp_inspect_report *report, ort_diag *diag)
{
    return inspect(path, out, false, report, diag);
}

ort_err
dp_inspect_repair(const char *path, FILE *out, dp_inspect_report *report, ort_diag *diag)
{
    return inspect(path, out, true, report, diag);
}

/* --- dump ------------------------------------------------------------------------------------- */

static void
print_line(void *arg, const char *line)
{
    (void)fprintf(arg, "%s\n", line);
}

static void
describe(ort_buf *out, const dp_log_record *record)
{
    const ort_err err = dp_op_describe(record->body, record->len, out);
    (void)err; /* it is in the words */
}

static ort_err
dump_dir(int dir, FILE *out, ort_diag *diag)
{
    struct dirent **names = NULL;
    ort_err err = ORT_OK;
    const int count = scandirat(dir, ".", &names, NULL, alphasort);
    if (count < 0) {
        return ort_fail_errno(diag, ORT_EIO, "list the directory");
    }
    for (int i = 0; i < count; i++) {
        const char *name = names[i]->d_name;
        const bool ours = strcmp(name, "manifest") == 0 || strncmp(name, "seg.", 4) == 0 ||
                          strncmp(name, "log.", 4) == 0; /* else half a file */
        ort_diag why = {""};
        const ort_err one =
            ours ? dp_storage_dump(dir, name, describe, print_line, out, &why) : ORT_OK;
        if (one != ORT_OK && err == ORT_OK) { /* the others may be good */
            err = ort_fail(diag, one, "%s: %s", name, why.text);
        }
        free(names[i]);
    }
    free(names);
    return err;
}

ort_err
dp_inspect_dump(const char *path, FILE *out, ort_diag *diag)
{
    char full[PATH_MAX];
    struct stat st;
    if (realpath(path, full) == NULL || stat(full, &st) != 0) {
        return ort_fail_errno(diag, errno == ENOENT ? ORT_ENOTFOUND : ORT_EIO, "%s", path);
    }
    char *slash = strrchr(full, '/');
    const bool is_dir = S_ISDIR(st.st_mode);
    if (!is_dir) {
        *slash = '\0';
    }
    const int dir =
        open(is_dir || full[0] != '\0' ? full : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return ort_fail_errno(diag, ORT_EIO, "open %s", full);
    }
    const ort_err err = is_dir ? dump_dir(dir, out, diag)
                               : dp_storage_dump(dir, slash + 1, describe, print_line, out, diag);
    ort_fd_close(dir);
    return err;
}

/* --- command line ----------------------------------------------------------------------------- */

bool
dp_inspect_is_command(const char *word)
{
    return strcmp(word, "verify") == 0 || strcmp(word, "repair") == 0 || strcmp(word, "dump") == 0;
}

int
dp_inspect_main(int argc, char *const *argv, FILE *out)
{
    dp_inspect_report r = {0};
    ort_diag diag = {""};
    if (argc != 3 || argv[2][0] == '-') {
        (void)fprintf(stderr, "usage: orthant-node verify DIR | repair DIR | dump FILE|DIR\n"
                              "DIR is a node's data directory, a tenant's or a collection's.\n");
        return 2;
    }
    if (strcmp(argv[1], "dump") == 0) {
        const ort_err err = dp_inspect_dump(argv[2], out, &diag);
        if (err != ORT_OK) {
            (void)fprintf(stderr, "orthant-node: %s\n", diag.text);
        }
        return err == ORT_OK ? 0 : err == ORT_ECORRUPT ? 1 : err == ORT_EINVAL ? 2 : 3;
    }
    const bool repair = strcmp(argv[1], "repair") == 0;
    const ort_err err = repair ? dp_inspect_repair(argv[2], out, &r, &diag)
                               : dp_inspect_verify(argv[2], out, &r, &diag);
    (void)fprintf(out,
                  "%" PRIu64 " collections, %" PRIu64 " files, %" PRIu64 " bytes: %" PRIu64
                  " damaged, %" PRIu64 " repaired, %" PRIu64 " notes\n",
                  r.collections, r.files, r.bytes, r.damaged, r.repaired, r.notes);
    if (err != ORT_OK) {
        (void)fprintf(stderr, "orthant-node: %s: %s\n", ort_err_code(err), diag.text);
        return err == ORT_EINVAL ? 2 : 3;
    }
    return r.damaged == 0 ? 0 : 1;
}
