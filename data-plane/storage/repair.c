/* Repair of a shard: what is damaged is found, put aside, and made anew from what is good. */
#include "storage/repair.h"

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
#include "storage/io.h"
#include "storage/log_internal.h"
#include "storage/repair_internal.h"

ort_err
dp_repair__put_aside(dp_repair *r, const char *name, ort_diag *diag)
{
    if (r->lost_fd < 0) {
        const ort_err err = ort_dir_make(r->dir_fd, DP_REPAIR_LOST, diag);
        if (err != ORT_OK) {
            return err;
        }
        r->lost_fd = ort_open_beneath(r->dir_fd, DP_REPAIR_LOST, O_RDONLY | O_DIRECTORY, 0);
        if (r->lost_fd < 0) {
            return ort_fail_errno(diag, ORT_EIO, "open " DP_REPAIR_LOST);
        }
    }
    /* Of an earlier repair there may be a file of that name: it stays, too. */
    char to[300];
    struct stat st;
    snprintf(to, sizeof to, "%s", name);
    for (unsigned n = 1; fstatat(r->lost_fd, to, &st, AT_SYMLINK_NOFOLLOW) == 0; n++) {
        snprintf(to, sizeof to, "%s.%u", name, n);
    }
    if (renameat(r->dir_fd, name, r->lost_fd, to) != 0 && errno != ENOENT) {
        return ort_fail_errno(diag, ORT_EIO, "move %s to " DP_REPAIR_LOST, name);
    }
    const ort_err err = ort_dir_sync(r->lost_fd, diag);
    return err == ORT_OK ? ort_dir_sync(r->dir_fd, diag) : err;
}

ort_err
dp_repair__each(dp_repair *r, const char *prefix, dp_repair_name_fn fn, void *ctx, ort_diag *diag)
{
    ort_err err = ORT_OK;
    const int fd = ort_open_beneath(r->dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        err = ort_fail_errno(diag, ORT_EIO, "list the directory");
        ort_fd_close(fd);
        return err;
    }
    for (struct dirent *d; err == ORT_OK && (d = readdir(dir)) != NULL;) {
        if (strncmp(d->d_name, prefix, strlen(prefix)) == 0) {
            err = fn(ctx, d->d_name, diag);
        }
    }
    closedir(dir);
    return err;
}

static ort_err
note_one(void *ctx, const char *name, ort_diag *diag)
{
    (void)name;
    (void)diag;
    *(bool *)ctx = true;
    return ORT_OK;
}

/* Whether a manifest should be there: segments are, or the log does not begin with record 1. */
static ort_err
is_manifest_missing(dp_repair *r, bool *out, ort_diag *diag)
{
    dp_log_file *files = NULL;
    uint32_t count = 0;
    *out = false;
    ort_err err = dp_repair__each(r, "seg.", note_one, out, diag);
    if (err == ORT_OK) {
        err = dp_log__list(r->dir_fd, &files, &count, diag);
    }
    if (err == ORT_OK) {
        *out = count > 0 ? files[0].first_lsn > 1 : *out;
        free(files);
    }
    return err;
}

/* Whether a segment of the manifest is not as it should be; says which. */
static bool
are_segments_bad(dp_repair *r, const dp_manifest *m)
{
    bool bad = false;
    for (uint32_t i = 0; i < m->segment_count; i++) {
        dp_segment *segment;
        ort_diag why = {""};
        ort_err err =
            dp_segment_open(&segment, r->dir_fd, &m->segments[i], r->tenant, r->shard, &why);
        if (err == ORT_OK) {
            err = dp_segment_verify(segment, &why);
            dp_segment_close(segment);
        }
        if (err != ORT_OK) {
            dp_repair__say(r, "damaged: %s", why.text);
            bad = true;
        }
    }
    return bad;
}

/* Segments and manifest; *mark becomes where the log has to go on. */
static ort_err
repair_points(dp_repair *r, dp_log_mark *mark, ort_diag *diag)
{
    dp_manifest m = {0};
    uint64_t bytes;
    ort_diag why = {""};
    bool missing = false;
    ort_err err = dp_manifest_read(r->dir_fd, &m, &bytes, &why);
    if (err == ORT_ENOTFOUND) {
        err = is_manifest_missing(r, &missing, diag);
        if (err == ORT_OK && !missing) {
            *mark = (dp_log_mark){0};
            return ORT_OK; /* younger than its first checkpoint */
        }
        ort_fail(&why, ORT_ENOTFOUND, "the manifest is missing");
    } else if (err == ORT_OK && (m.tenant.v != r->tenant.v || m.shard.v != r->shard.v)) {
        err = ort_fail(diag, ORT_ECORRUPT,
                       "the manifest belongs to tenant %016" PRIx64 ", shard %016" PRIx64,
                       m.tenant.v, m.shard.v);
        dp_manifest_fini(&m);
        return err;
    } else if (err == ORT_OK) {
        *mark = m.mark;
        if (are_segments_bad(r, &m)) {
            err = dp_repair__points(r, &m, mark, diag);
        }
        dp_manifest_fini(&m);
        return err;
    } else if (err == ORT_ECORRUPT) {
        missing = true;
    }
    if (!missing) {
        if (diag != NULL) {
            *diag = why;
        }
        return err;
    }
    dp_repair__say(r,
                   "damaged: %s; it is made anew from the segments, and points that were deleted "
                   "since may come back",
                   why.text);
    uint64_t newest;
    err = dp_repair__newest_version(r, &newest, diag);
    if (err == ORT_OK) {
        err = dp_repair__mark(r, newest, mark, diag);
    }
    return err == ORT_OK ? dp_repair__points(r, NULL, mark, diag) : err;
}

static ort_err
repair_all(dp_repair *r, ort_diag *diag)
{
    dp_log_mark mark;
    dp_verify_report whole;
    dp_log_found found;
    ort_diag why = {""};
    ort_err err = repair_points(r, &mark, diag);
    if (err != ORT_OK) {
        return err;
    }
    const dp_log_config log = {.tenant = r->tenant, .shard = r->shard, .folded = mark};
    err = dp_log_verify(r->dir_fd, &log, NULL, NULL, &found, &why);
    if (err == ORT_ECORRUPT) {
        dp_repair__say(r, "damaged: %s", why.text);
        err = dp_repair__log(r, mark, diag);
    } else if (err != ORT_OK && diag != NULL) {
        *diag = why;
    }
    if (err == ORT_OK) {
        err = dp_storage_verify(r->dir_fd, r->tenant, r->shard, &whole, diag);
    }
    return err;
}

ort_err
dp_storage_repair(int dir_fd, ort_tenant_id tenant, ort_collection_id shard, dp_say_fn say,
                  void *arg, dp_repair_report *report, ort_diag *diag)
{
    dp_verify_report verified;
    dp_repair r = {.dir_fd = dir_fd,
                   .lost_fd = -1,
                   .work_fd = -1,
                   .tenant = tenant,
                   .shard = shard,
                   .say = say,
                   .arg = arg,
                   .report = report};
    *report = (dp_repair_report){0};
    ort_err err = dp_storage_verify(dir_fd, tenant, shard, &verified, diag);
    if (err == ORT_ECORRUPT || err == ORT_EIO || err == ORT_ENOTFOUND) {
        report->changed = true;
        err = repair_all(&r, diag);
    }
    ort_fd_close(r.lost_fd);
    ort_fd_close(r.work_fd);
    return err;
}
