/* Reading durable records while the log goes on. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "storage/io.h"
#include "storage/log_internal.h"

struct dp_log_reader {
    dp_log *log;
    dp_log_window window;
    uint64_t at;         /* of the next frame in this file */
    uint64_t next_lsn;   /* of the next record to give */
    uint64_t seen_lsn;   /* of the record before `at` */
    uint64_t window_lsn; /* what was durable when the window was last begun */
    char name[DP_LOG_NAME_BYTES];
};

/* Stands at the beginning of the file whose first record is first_lsn. */
static ort_err
enter_file(dp_log_reader *r, uint64_t first_lsn, ort_diag *diag)
{
    dp_log__name(first_lsn, r->name);
    int fd;
    const ort_err err = dp_io_open(r->log->dir_fd, r->name, O_RDONLY, &fd, diag);
    if (err != ORT_OK) {
        return err == ORT_ENOTFOUND
                   ? ort_fail(diag, err, "record %" PRIu64 " was cut from the log", r->next_lsn)
                   : err;
    }
    dp_log__window_close(&r->window);
    const ort_err opened = dp_log__window_open(&r->window, fd, r->name, diag);
    if (opened != ORT_OK) {
        return opened;
    }
    r->at = DP_LOG_HEADER_BYTES;
    r->seen_lsn = first_lsn - 1;
    return ORT_OK;
}

static ort_err
damaged(const dp_log_reader *r, ort_diag *diag)
{
    return ort_fail(diag, ORT_ECORRUPT, "%s: record %" PRIu64 " at byte %" PRIu64 " is damaged",
                    r->name, r->seen_lsn + 1, r->at);
}

/* The bytes at r->at. A writer that begins another file cuts the zeros behind the last record of
 * this one off: a window that was to reach into them is read again, and so far only. */
static ort_err
get(dp_log_reader *r, size_t want, const unsigned char **bytes, size_t *n, ort_diag *diag)
{
    for (;;) {
        const uint64_t size = r->window.size;
        ort_err err = dp_log__window_get(&r->window, r->at, want, bytes, n, diag);
        if (err != ORT_ECORRUPT || r->window.packed_bytes != 0) {
            return err;
        }
        const ort_err sized = dp_io_size(r->window.fd, &r->window.size, r->name, diag);
        if (sized != ORT_OK || r->window.size >= size) {
            return sized != ORT_OK ? sized : err;
        }
    }
}

/* Reads what stands at r->at, up to a record. *got false: this file holds no more. */
static ort_err
read_frame(dp_log_reader *r, dp_log_frame *frame, const unsigned char **bytes, bool *got,
           ort_diag *diag)
{
    size_t n;
    *got = false;
    ort_err err = r->window.packed_bytes != 0
                      ? ORT_OK
                      : dp_io_size(r->window.fd, &r->window.size, r->name, diag); /* it grows */
    if (err != ORT_OK) {
        return err;
    }
    for (;;) {
        err = get(r, DP_LOG_RECORD_HEADER_BYTES, bytes, &n, diag);
        if (err != ORT_OK || n < 4 || ort_get_u32(*bytes) == 0) {
            return err;
        }
        *frame = dp_log__frame_peek(*bytes, n);
        if (frame->kind == DP_LOG_FRAME_MARK) {
            r->at += DP_LOG_MARK_BYTES;
            continue;
        }
        if (frame->kind == DP_LOG_FRAME_NONE || frame->lsn != r->seen_lsn + 1) {
            return damaged(r, diag);
        }
        const size_t total = dp_log__record_bytes(frame->body_bytes);
        if (frame->lsn >= r->next_lsn) {
            err = get(r, total, bytes, &n, diag);
            if (err != ORT_OK) {
                return err;
            }
            if (n != total || !dp_log__record_check(frame, *bytes)) {
                return damaged(r, diag);
            }
        }
        r->at += total;
        r->seen_lsn = frame->lsn;
        if (frame->lsn >= r->next_lsn) {
            *got = true;
            return ORT_OK;
        }
    }
}

ort_err
dp_log_reader_open(dp_log_reader **out, dp_log *log, uint64_t from_lsn, ort_diag *diag)
{
    *out = NULL;
    dp_log_reader *r = calloc(1, sizeof *r);
    if (r == NULL) {
        ort_fail(diag, ORT_ENOMEM, "log reader");
        return ORT_ENOMEM;
    }
    *r = (dp_log_reader){.log = log, .window = {.fd = -1}, .next_lsn = from_lsn};
    pthread_mutex_lock(&log->mutex);
    uint64_t first_lsn = 0;
    for (uint32_t i = 0; i < log->file_count && log->files[i].first_lsn <= from_lsn; i++) {
        first_lsn = log->files[i].first_lsn;
    }
    pthread_mutex_unlock(&log->mutex);
    const ort_err err =
        first_lsn == 0
            ? ort_fail(diag, ORT_ENOTFOUND, "record %" PRIu64 " was cut from the log", from_lsn)
            : enter_file(r, first_lsn, diag);
    if (err != ORT_OK) {
        dp_log_reader_close(r);
        return err;
    }
    *out = r;
    return ORT_OK;
}

ort_err
dp_log_reader_next(dp_log_reader *r, dp_log_record *record, bool *got, ort_diag *diag)
{
    dp_log_frame frame = {.kind = DP_LOG_FRAME_NONE};
    const unsigned char *bytes = NULL;
    *got = false;
    const uint64_t durable = dp_log_durable(r->log).lsn;
    if (r->next_lsn > durable) {
        return ORT_OK;
    }
    if (r->next_lsn > r->window_lsn) {
        /* What was read ahead then was zeros, or half a group. */
        ort_buf_clear(&r->window.buf);
        r->window_lsn = durable;
    }
    ort_err err = read_frame(r, &frame, &bytes, got, diag);
    if (err == ORT_OK && !*got) {
        /* It is durable and not in this file: it is the first of the next one. */
        err = r->seen_lsn + 1 != r->next_lsn ? damaged(r, diag) : enter_file(r, r->next_lsn, diag);
        if (err == ORT_OK) {
            err = read_frame(r, &frame, &bytes, got, diag);
        }
        if (err == ORT_OK && !*got) {
            err = damaged(r, diag);
        }
    }
    if (err != ORT_OK || bytes == NULL) {
        *got = false;
        return err;
    }
    const unsigned char *body = bytes + DP_LOG_RECORD_HEADER_BYTES;
    *record = (dp_log_record){
        .lsn = frame.lsn,
        .epoch = frame.epoch,
        .prev_hash = frame.prev_hash,
        .hash = dp_log__record_hash(frame.prev_hash, frame.lsn, frame.epoch, frame.type,
                                    frame.body_bytes, dp_log__body_hash(body, frame.body_bytes)),
        .type = frame.type,
        .body = body,
        .len = frame.body_bytes,
    };
    r->next_lsn = frame.lsn + 1;
    return ORT_OK;
}

void
dp_log_reader_close(dp_log_reader *r)
{
    if (r != NULL) {
        dp_log__window_close(&r->window);
        free(r);
    }
}

ort_err
dp_log_replay(dp_log *log, uint64_t from_lsn, dp_log_fn fn, void *ctx, ort_diag *diag)
{
    dp_log_reader *reader;
    ort_err err = dp_log_reader_open(&reader, log, from_lsn, diag);
    while (err == ORT_OK) {
        dp_log_record record;
        bool got;
        err = dp_log_reader_next(reader, &record, &got, diag);
        if (err != ORT_OK || !got) {
            break;
        }
        err = fn(ctx, &record, diag);
    }
    dp_log_reader_close(reader);
    return err;
}
