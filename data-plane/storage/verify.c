/* Everything of a shard read and checked, nothing changed. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "storage/log_internal.h"
#include "storage/points_internal.h"
#include "storage/segment_internal.h"

/* The columns that a segment has, added to the list. */
static void
gather_columns(const dp_segment *s, ort_buf *columns)
{
    for (uint32_t i = 0; i < s->section_count; i++) {
        const dp_section *section = &s->sections[i];
        dp_column c = {.id = section->column_id};
        if (section->kind == DP_SECTION_ROWS) {
            c.type = (dp_column_type)section->type;
            c.dim = section->dim;
        } else if (section->kind == DP_SECTION_ENDS && section->column_id != DP_STREAM_PAYLOAD) {
            c.type = DP_COLUMN_BYTES;
        } else {
            continue;
        }
        bool known = false;
        for (size_t k = 0; k < columns->len / sizeof c; k++) {
            dp_column have;
            memcpy(&have, columns->data + k * sizeof have, sizeof have);
            known = known || have.id == c.id;
        }
        if (!known) {
            ort_buf_put(columns, &c, sizeof c);
        }
    }
}

/* What must hold between segments and manifest: every live slot is found by its id, and the logical
 * bytes add up. */
static ort_err
check_points(dp_points *p, dp_verify_report *report, ort_diag *diag)
{
    ort_err err = ORT_OK;
    uint64_t total = 0;
    dp_reader reader;
    dp_reader_init(&reader, p);
    for (uint32_t slot = dp_points_next_live(p, 0); err == ORT_OK && slot != DP_SLOT_NONE;
         slot = dp_points_next_live(p, slot + 1)) {
        uint64_t bytes = 0;
        uint32_t found;
        const char *text;
        size_t len;
        err = dp_points_find(&reader, dp_points_id(&reader, slot), &found, NULL);
        if (err != ORT_OK || found != slot) {
            err = ort_fail(diag, ORT_ECORRUPT, "slot %" PRIu32 " is live and its id is not its own",
                           slot);
            break;
        }
        err = dp_points_slot_bytes(&reader, slot, &bytes, diag);
        if (err == ORT_OK) {
            err = dp_points_payload(&reader, slot, &text, &len, diag);
        }
        total += bytes;
        report->points++;
    }
    dp_reader_fini(&reader);
    if (err == ORT_OK && total != atomic_load(&p->logical_bytes)) {
        err = ort_fail(diag, ORT_ECORRUPT,
                       "points have %" PRIu64 " logical bytes, the manifest says %" PRIu64, total,
                       atomic_load(&p->logical_bytes));
    }
    return err;
}

static ort_err
verify_segments(int dir_fd, const dp_manifest *m, ort_buf *columns, dp_pace_fn pace, void *arg,
                dp_verify_report *report, ort_diag *diag)
{
    ort_err err = ORT_OK;
    for (uint32_t i = 0; err == ORT_OK && i < m->segment_count; i++) {
        dp_segment *segment;
        err = dp_segment_open(&segment, dir_fd, &m->segments[i], m->tenant, m->shard, diag);
        if (err == ORT_OK) {
            err = dp_segment_verify_paced(segment, pace, arg, diag);
            gather_columns(segment, columns);
            report->files++;
            report->bytes += dp_segment_bytes(segment);
            dp_segment_close(segment);
        }
    }
    return err;
}

ort_err
dp_storage_verify(int dir_fd, ort_tenant_id tenant, ort_collection_id shard,
                  dp_verify_report *report, ort_diag *diag)
{
    return dp_storage_verify_paced(dir_fd, tenant, shard, NULL, NULL, report, diag);
}

ort_err
dp_storage_verify_records(int dir_fd, ort_tenant_id tenant, ort_collection_id shard, dp_log_fn fn,
                          void *ctx, ort_diag *diag)
{
    dp_manifest m;
    uint64_t bytes;
    dp_log_found found;
    ort_err err = dp_manifest_read(dir_fd, &m, &bytes, diag);
    if (err == ORT_OK || err == ORT_ENOTFOUND) {
        const dp_log_config log = {.tenant = tenant, .shard = shard, .folded = m.mark};
        err = dp_log_verify(dir_fd, &log, fn, ctx, &found, diag);
    }
    dp_manifest_fini(&m);
    return err;
}

/* Sizes of log files are told after they were read: each is bounded. */
static uint64_t
log_bytes(int dir_fd)
{
    dp_log_file *files = NULL;
    uint32_t count = 0;
    uint64_t bytes = 0;
    if (dp_log__list(dir_fd, &files, &count, NULL) != ORT_OK) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        char name[DP_LOG_NAME_BYTES];
        struct stat st;
        dp_log__name(files[i].first_lsn, name);
        bytes += fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_size : 0;
    }
    free(files);
    return bytes;
}

ort_err
dp_storage_verify_paced(int dir_fd, ort_tenant_id tenant, ort_collection_id shard, dp_pace_fn pace,
                        void *arg, dp_verify_report *report, ort_diag *diag)
{
    dp_manifest m;
    uint64_t bytes;
    ort_buf columns = {0};
    dp_points *points = NULL;

    *report = (dp_verify_report){0};
    ort_err err = dp_manifest_read(dir_fd, &m, &bytes, diag);
    if (err == ORT_OK) {
        report->files++;
        report->bytes += bytes;
        report->lsn = m.mark.lsn;
        err = verify_segments(dir_fd, &m, &columns, pace, arg, report, diag);
    } else if (err == ORT_ENOTFOUND) {
        err = ORT_OK;
    }
    if (err == ORT_OK && columns.failed) {
        err = ort_fail(diag, ORT_ENOMEM, "verify");
    }
    if (err == ORT_OK) {
        const dp_points_config config = {
            .tenant = tenant,
            .shard = shard,
            .layout = {.columns = (const dp_column *)(const void *)columns.data,
                       .column_count = (uint32_t)(columns.len / sizeof(dp_column))}};
        err = dp_points__open(&points, dir_fd, &config, &m, bytes, diag);
    }
    if (err == ORT_OK) {
        err = check_points(points, report, diag);
    }
    if (err == ORT_OK) {
        const dp_log_config log = {.tenant = tenant, .shard = shard, .folded = m.mark};
        dp_log_found found;
        err = dp_log_verify(dir_fd, &log, NULL, NULL, &found, diag);
        if (err == ORT_OK) {
            const uint64_t log_read = log_bytes(dir_fd);
            report->files += found.files;
            report->bytes += log_read;
            if (pace != NULL && !pace(arg, log_read)) {
                err = ort_fail(diag, ORT_EBUSY, "stopped");
            }
        }
    }
    dp_points_close(points);
    ort_buf_fini(&columns);
    dp_manifest_fini(&m);
    return err;
}
