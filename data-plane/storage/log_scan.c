/* The log read from its beginning: at open, and by whoever verifies. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/io.h"
#include "storage/log_internal.h"

void
dp_log__name(uint64_t first_lsn, char out[DP_LOG_NAME_BYTES])
{
    snprintf(out, DP_LOG_NAME_BYTES, "log.%016" PRIx64, first_lsn);
}

static bool
parse_name(const char *name, uint64_t *lsn_out)
{
    if (strncmp(name, "log.", 4) != 0) {
        return false;
    }
    return ort_id_parse(name + 4, strlen(name + 4), lsn_out) == ORT_OK;
}

static int
file_order(const void *a, const void *b)
{
    const dp_log_file *x = a, *y = b;
    return x->first_lsn < y->first_lsn ? -1 : x->first_lsn > y->first_lsn;
}

static int
note_file(void *ctx, const char *name)
{
    dp_log_file file = {0};
    if (parse_name(name, &file.first_lsn)) {
        ort_buf_put(ctx, &file, sizeof file);
    }
    return 0;
}

ort_err
dp_log__list(int dir_fd, dp_log_file **out, uint32_t *count_out, ort_diag *diag)
{
    ort_buf list = {0};
    int stopped;

    *out = NULL;
    *count_out = 0;
    ort_err err = dp_io_list(dir_fd, note_file, &list, &stopped, diag);
    if (err == ORT_OK && list.failed) {
        err = ort_fail(diag, ORT_ENOMEM, "list of log files");
    }
    if (err != ORT_OK || list.len == 0) {
        ort_buf_fini(&list);
        return err;
    }
    *out = (dp_log_file *)(void *)list.data;
    *count_out = (uint32_t)(list.len / sizeof(dp_log_file));
    qsort(*out, *count_out, sizeof(dp_log_file), file_order);
    return ORT_OK;
}

/* Looks at the frame at `at`. Kind NONE: nothing good stands there. */
static ort_err
next_frame(dp_log_window *w, uint64_t at, const dp_log_scan *scan, dp_log_frame *frame,
           const unsigned char **bytes, ort_diag *diag)
{
    size_t got;
    frame->kind = DP_LOG_FRAME_NONE;
    ort_err err = dp_log__window_get(w, at, DP_LOG_RECORD_HEADER_BYTES, bytes, &got, diag);
    if (err != ORT_OK || got == 0) {
        return err;
    }
    const dp_log_frame seen = dp_log__frame_peek(*bytes, got);
    if (seen.kind == DP_LOG_FRAME_MARK) {
        if (seen.lsn == scan->last.lsn && seen.hash == scan->last.hash) {
            *frame = seen;
        }
        return ORT_OK;
    }
    if (seen.kind == DP_LOG_FRAME_NONE || seen.lsn != scan->last.lsn + 1) {
        return ORT_OK;
    }
    const size_t total = dp_log__record_bytes(seen.body_bytes);
    err = dp_log__window_get(w, at, total, bytes, &got, diag);
    if (err == ORT_OK && got == total && dp_log__record_check(&seen, *bytes)) {
        *frame = seen;
    }
    return err;
}

/* Every checksum of this record is right; does it belong here? */
static ort_err
check_chain(const dp_log_frame *frame, const dp_log_scan *scan, uint64_t at, ort_diag *diag)
{
    if (frame->prev_hash != scan->last.hash) {
        return ort_fail(diag, ORT_ECORRUPT,
                        "record %" PRIu64 " at byte %" PRIu64 " does not follow the one before it",
                        frame->lsn, at);
    }
    if (frame->epoch < scan->last.epoch || frame->synced >= frame->lsn) {
        return ort_fail(diag, ORT_ECORRUPT,
                        "record %" PRIu64 " at byte %" PRIu64 " contradicts itself", frame->lsn,
                        at);
    }
    return ORT_OK;
}

/* No good frame stands at scan->end: is that the end of the log? */
static ort_err
judge_end(dp_log_window *w, bool newest, dp_log_scan *scan, ort_diag *diag)
{
    const unsigned char *tail;
    size_t got;
    scan->all_zero = true;
    if (scan->end >= w->size) {
        return ORT_OK;
    }
    const ort_err err =
        dp_log__window_get(w, scan->end, (size_t)(w->size - scan->end), &tail, &got, diag);
    if (err != ORT_OK) {
        return err;
    }
    for (size_t i = 0; i < got && scan->all_zero; i++) {
        scan->all_zero = tail[i] == 0;
    }
    if (scan->all_zero) {
        return ORT_OK;
    }
    if (!newest) {
        return ort_fail(diag, ORT_ECORRUPT, "record %" PRIu64 " at byte %" PRIu64 " is damaged",
                        scan->last.lsn + 1, scan->end);
    }
    return dp_log__tail_is_torn(tail, got, scan->end, scan->last.lsn + 1, diag) ? ORT_OK
                                                                                : ORT_ECORRUPT;
}

static ort_err
read_header(dp_log_window *w, const dp_log_config *config, bool newest, dp_log_header *out,
            ort_diag *diag)
{
    const unsigned char *bytes;
    size_t got;
    ort_err err = dp_log__window_get(w, 0, DP_LOG_HEADER_BYTES, &bytes, &got, diag);
    if (err != ORT_OK) {
        return err;
    }
    unsigned char header[DP_LOG_HEADER_BYTES] = {0};
    memcpy(header, bytes != NULL ? bytes : header, got);
    err = got == sizeof header ? dp_log__header_decode(header, out, diag)
                               : ort_fail(diag, ORT_ECORRUPT, "the file ends in its header");
    if (err == ORT_ECORRUPT && newest && w->packed_bytes == 0 && w->size <= DP_LOG_HEADER_BYTES) {
        /* A header is synced before the first record goes behind it. What no crash can make is a
         * header that is all there and wrong. */
        size_t used = sizeof header;
        while (used > 0 && header[used - 1] == 0) {
            used--;
        }
        return used < sizeof header ? ORT_ENOTFOUND : err;
    }
    if (err == ORT_OK && (out->tenant != config->tenant.v || out->shard != config->shard.v)) {
        err = ort_fail(diag, ORT_ECORRUPT, "it belongs to tenant %016" PRIx64 ", shard %016" PRIx64,
                       out->tenant, out->shard);
    }
    return err;
}

ort_err
dp_log__scan(dp_log_window *w, const char *name, const dp_log_config *config, bool newest,
             dp_log_fn fn, void *ctx, dp_log_scan *out, ort_diag *diag)
{
    dp_log_scan scan = {0};
    ort_err err = ORT_OK;
    uint64_t synced = UINT64_MAX; /* as the group says that is being read; each says another */
    scan.size = w->size;
    scan.packed_bytes = w->packed_bytes;
    err = read_header(w, config, newest, &scan.header, diag);
    scan.last = scan.header.prev;
    scan.end = DP_LOG_HEADER_BYTES;
    while (err == ORT_OK) {
        dp_log_frame frame;
        const unsigned char *bytes;
        err = next_frame(w, scan.end, &scan, &frame, &bytes, diag);
        if (err != ORT_OK || frame.kind == DP_LOG_FRAME_NONE) {
            break;
        }
        scan.clean = frame.kind == DP_LOG_FRAME_MARK;
        if (scan.clean) {
            scan.end += DP_LOG_MARK_BYTES;
            continue;
        }
        err = check_chain(&frame, &scan, scan.end, diag);
        if (err != ORT_OK) {
            break;
        }
        if (frame.synced != synced) {
            synced = frame.synced;
            scan.unsure = scan.end;
        }
        const unsigned char *body = bytes + DP_LOG_RECORD_HEADER_BYTES;
        scan.last = (dp_log_mark){
            .lsn = frame.lsn,
            .epoch = frame.epoch,
            .hash =
                dp_log__record_hash(frame.prev_hash, frame.lsn, frame.epoch, frame.type,
                                    frame.body_bytes, dp_log__body_hash(body, frame.body_bytes)),
        };
        if (scan.last.lsn == config->folded.lsn && scan.last.hash != config->folded.hash) {
            err = ort_fail(diag, ORT_ECORRUPT,
                           "record %" PRIu64 " is not the one that the checkpoint names",
                           scan.last.lsn);
            break;
        }
        if (fn != NULL) {
            const dp_log_record record = {.lsn = frame.lsn,
                                          .epoch = frame.epoch,
                                          .prev_hash = frame.prev_hash,
                                          .hash = scan.last.hash,
                                          .type = frame.type,
                                          .body = body,
                                          .len = frame.body_bytes};
            err = fn(ctx, &record, diag);
        }
        scan.end += dp_log__record_bytes(frame.body_bytes);
    }
    if (err == ORT_OK) {
        err = judge_end(w, newest, &scan, diag);
    }
    *out = scan;
    if (err != ORT_OK && err != ORT_ENOTFOUND) {
        ort_diag_prefix(diag, "%s", name);
    }
    return err;
}

/* A file from the list, scanned. */
static ort_err
scan_one(int dir_fd, dp_log_file *file, const dp_log_config *config, bool newest, dp_log_fn fn,
         void *ctx, dp_log_scan *out, ort_diag *diag)
{
    char name[DP_LOG_NAME_BYTES];
    dp_log__name(file->first_lsn, name);
    int fd;
    dp_log_window w = {.fd = -1};
    ort_err err = dp_io_open(dir_fd, name, O_RDONLY, &fd, diag);
    if (err != ORT_OK) {
        return err == ORT_ENOTFOUND ? ORT_EIO : err; /* it was there a moment ago */
    }
    *out = (dp_log_scan){0};
    err = dp_log__window_open(&w, fd, name, diag);
    if (err == ORT_OK) {
        err = dp_log__scan(&w, name, config, newest, fn, ctx, out, diag);
    }
    dp_log__window_close(&w);
    file->bytes = out->end;
    file->packed_bytes = out->packed_bytes;
    if (err == ORT_OK && out->header.first_lsn != file->first_lsn) {
        err = ort_fail(diag, ORT_ECORRUPT, "%s begins with record %" PRIu64, name,
                       out->header.first_lsn);
    }
    return err;
}

ort_err
dp_log__scan_all(int dir_fd, const dp_log_config *config, dp_log_fn fn, void *ctx,
                 dp_log_file **files_out, uint32_t *count_out, uint32_t *skip_out,
                 uint64_t *torn_header_out, dp_log_scan *newest_out, ort_diag *diag)
{
    dp_log_file *files;
    uint32_t count, skip = 0;
    dp_log_scan before = {0}, scan = {0};
    ort_err err = dp_log__list(dir_fd, &files, &count, diag);

    *files_out = NULL;
    *torn_header_out = 0;
    for (uint32_t i = 0; err == ORT_OK && i < count; i++) {
        err = scan_one(dir_fd, &files[i], config, i + 1 == count, fn, ctx, &scan, diag);
        if (err == ORT_ENOTFOUND) {
            /* Nothing was ever answered out of this file. */
            *torn_header_out = files[i].first_lsn;
            count--;
            scan = before;
            err = ORT_OK;
            break;
        }
        if (err != ORT_OK) {
            break;
        }
        const bool follows = scan.header.prev.lsn == before.last.lsn &&
                             scan.header.prev.hash == before.last.hash &&
                             scan.header.prev.epoch == before.last.epoch;
        if (i > 0 && !follows) {
            /* Files below the checkpoint are removed one by one, in no promised order: a hole there
             * is no loss. */
            if (files[i].first_lsn > config->folded.lsn + 1) {
                err = ort_fail(diag, ORT_ECORRUPT,
                               "the log has records up to %" PRIu64 " and then from %" PRIu64
                               " on: what was between them is missing",
                               before.last.lsn, files[i].first_lsn);
            }
            skip = i;
        }
        before = scan;
    }
    if (err == ORT_OK && count > 0 && files[skip].first_lsn > config->folded.lsn + 1) {
        err =
            ort_fail(diag, ORT_ECORRUPT,
                     "the log begins with record %" PRIu64 " and the checkpoint ends with %" PRIu64
                     ": what was between them is missing",
                     files[skip].first_lsn, config->folded.lsn);
    }
    if (err == ORT_OK && scan.last.lsn < config->folded.lsn) {
        err = ort_fail(diag, ORT_ECORRUPT,
                       "the log ends with record %" PRIu64 " and the checkpoint with %" PRIu64,
                       scan.last.lsn, config->folded.lsn);
    }
    if (err != ORT_OK) {
        free(files);
        return err;
    }
    *files_out = files;
    *count_out = count;
    *skip_out = skip;
    *newest_out = scan;
    return ORT_OK;
}

ort_err
dp_log_verify(int dir_fd, const dp_log_config *config, dp_log_fn fn, void *ctx, dp_log_found *found,
              ort_diag *diag)
{
    dp_log_file *files;
    uint32_t count, skip;
    uint64_t torn_header;
    dp_log_scan scan = {0};
    const ort_err err =
        dp_log__scan_all(dir_fd, config, fn, ctx, &files, &count, &skip, &torn_header, &scan, diag);
    if (err == ORT_OK && found != NULL) {
        *found = (dp_log_found){
            .first_lsn = count > skip ? files[skip].first_lsn : 1,
            .last_lsn = scan.last.lsn,
            .torn_bytes = scan.all_zero ? 0 : scan.size - scan.end,
            .files = count,
        };
    }
    if (err == ORT_OK) {
        free(files);
    }
    return err;
}
