/* The log opened and closed: what a crash left is cut, what is kept is made durable. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/point.h"
#include "base/thread.h"
#include "storage/io.h"
#include "storage/log_internal.h"

#define FILE_BYTES_DEFAULT (UINT64_C(64) << 20)
#define PENDING_BYTES_DEFAULT (UINT64_C(64) << 20)

/* Puts a mark behind the last frame and makes all before it durable. A full disk, or a file system
 * mounted read-only, costs the mark only: what must not fail is the sync. */
static ort_err
put_mark(dp_log *log, ort_diag *diag)
{
    unsigned char mark[DP_LOG_MARK_BYTES];
    dp_log_file *file = &log->files[log->file_count - 1];
    dp_log__mark_encode(log->durable, mark);
    const ort_err err = dp_io_write(log->fd, mark, sizeof mark, file->bytes, diag);
    if (err == ORT_OK) {
        file->bytes += sizeof mark;
        log->zero_end = log->zero_end > file->bytes ? log->zero_end : file->bytes;
        log->marked = true;
    } else if (dp_io_truncate(log->fd, file->bytes, diag) != ORT_OK) {
        return err;
    } else {
        log->zero_end = file->bytes;
    }
    return dp_io_sync_data(log->fd, "a log file", diag);
}

/* Removes what is not of the log any more: files below a hole below the checkpoint, and the header
 * that was being written. */
static ort_err
sweep(dp_log *log, uint32_t skip, uint64_t torn_header, ort_diag *diag)
{
    char name[DP_LOG_NAME_BYTES];
    ort_err err = ORT_OK;
    for (uint32_t i = 0; err == ORT_OK && i < skip; i++) {
        dp_log__name(log->files[i].first_lsn, name);
        err = dp_io_unlink(log->dir_fd, name, diag);
    }
    if (err == ORT_OK && torn_header != 0) {
        dp_log__name(torn_header, name);
        err = dp_io_unlink(log->dir_fd, name, diag);
        if (err == ORT_OK) {
            /* Durable before anything is written to the file before it: should this one come back,
             * that one would not be the newest, and nothing may be torn in it. */
            err = dp_io_sync(log->dir_fd, "the shard's directory", diag);
        }
    }
    log->file_count -= skip;
    if (skip > 0) {
        memmove(log->files, log->files + skip, log->file_count * sizeof *log->files);
    }
    return err;
}

/* What was read of the last group may be in memory only: a sync that fails leaves pages that look
 * written and never will be, and whoever opens next cannot tell. So they are written once more, and
 * the name is synced with them: the file itself may be what could not be. */
static ort_err
write_again(dp_log *log, uint64_t from, uint64_t end, const char *name, ort_diag *diag)
{
    enum { STEP_BYTES = 64 << 10 };
    char *bytes = malloc(STEP_BYTES);
    ort_err err =
        bytes != NULL ? ORT_OK : ort_fail(diag, ORT_ENOMEM, "write the end of %s again", name);
    while (err == ORT_OK && from < end) {
        const size_t n = end - from < STEP_BYTES ? (size_t)(end - from) : STEP_BYTES;
        err = dp_io_read(log->fd, bytes, n, from, diag);
        if (err == ORT_OK) {
            err = dp_io_write(log->fd, bytes, n, from, diag);
        }
        from += n;
    }
    free(bytes);
    if (err == ORT_OK) {
        err = dp_io_sync_data(log->fd, name, diag);
    }
    if (err == ORT_OK) {
        err = dp_io_sync(log->dir_fd, "the shard's directory", diag);
    }
    return err;
}

/* The newest file, ready for the next record. */
static ort_err
adopt_newest(dp_log *log, const dp_log_scan *scan, ort_diag *diag)
{
    char name[DP_LOG_NAME_BYTES];
    dp_log__name(log->files[log->file_count - 1].first_lsn, name);
    ort_err err = dp_io_open(log->dir_fd, name, O_RDWR, &log->fd, diag);
    if (err != ORT_OK) {
        return err == ORT_ENOTFOUND ? ORT_EIO : err; /* it was there a moment ago */
    }
    log->zero_end = scan->size;
    log->marked = scan->clean;
    if (scan->clean && scan->all_zero) {
        return ORT_OK; /* closed in good order: nothing to write, nothing to sync */
    }
    if (!scan->all_zero) {
        /* Durable before anything is written there: a disk that kept the new bytes and not the
         * truncation would show them among what is cut now. */
        err = dp_io_truncate(log->fd, scan->end, diag);
        if (err == ORT_OK) {
            err = dp_io_sync_data(log->fd, name, diag);
        }
        if (err != ORT_OK) {
            return err;
        }
        log->zero_end = scan->end;
    }
    ort_point("log.truncated");
    /* No mark before this is done: it would tell the next one to open that all was well. */
    err = write_again(log, scan->unsure, scan->end, name, diag);
    return err == ORT_OK ? put_mark(log, diag) : err;
}

static ort_err
load(dp_log *log, dp_log_found *found, ort_diag *diag)
{
    uint32_t skip = 0;
    uint64_t torn_header = 0;
    dp_log_scan scan = {0};
    ort_err err = dp_log__scan_all(log->dir_fd, &log->config, NULL, NULL, &log->files,
                                   &log->file_count, &skip, &torn_header, &scan, diag);
    if (err != ORT_OK) {
        return err;
    }
    log->file_cap = log->file_count;
    err = sweep(log, skip, torn_header, diag);
    if (err != ORT_OK) {
        return err;
    }
    if (found != NULL) {
        *found = (dp_log_found){
            .first_lsn = log->file_count > 0 ? log->files[0].first_lsn : 1,
            .last_lsn = scan.last.lsn,
            .torn_bytes = scan.all_zero ? 0 : scan.size - scan.end,
            .files = log->file_count,
        };
    }
    log->durable = log->tail = scan.last;
    if (log->config.epoch < scan.last.epoch) {
        log->config.epoch = scan.last.epoch;
    }
    err = dp_io_unlink(log->dir_fd, DP_LOG_PACK_NAME, diag); /* half a packed file */
    if (err != ORT_OK) {
        return err;
    }
    if (log->file_count > 0 && scan.packed_bytes == 0) {
        err = adopt_newest(log, &scan, diag);
    } else {
        bool clean;
        err = dp_log__roll(log, &clean, diag);
    }
    log->file_end = log->zero_end;
    return err;
}

static void
destroy(dp_log *log)
{
    if (log != NULL) {
        dp_io_close(log->fd);
        dp_io_close(log->dir_fd);
        ort_buf_fini(&log->pending);
        ort_buf_fini(&log->writing);
        free(log->files);
        pthread_cond_destroy(&log->moved);
        pthread_mutex_destroy(&log->mutex);
        free(log);
    }
}

ort_err
dp_log_open(dp_log **out, int dir_fd, const dp_log_config *config, dp_log_found *found,
            ort_diag *diag)
{
    *out = NULL;
    dp_log *log = calloc(1, sizeof *log);
    if (log == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "log");
    }
    pthread_mutex_init(&log->mutex, NULL);
    ort_cond_init(&log->moved);
    log->fd = -1;
    log->term = 1;
    log->config = *config;
    if (log->config.file_bytes_max == 0) {
        log->config.file_bytes_max = FILE_BYTES_DEFAULT;
    }
    if (log->config.pending_bytes_max == 0) {
        log->config.pending_bytes_max = PENDING_BYTES_DEFAULT;
    }
    ort_err err = dp_io_dup(dir_fd, &log->dir_fd, diag);
    if (err == ORT_OK) {
        err = load(log, found, diag);
    }
    if (err != ORT_OK) {
        destroy(log);
        return err;
    }
    *out = log;
    return ORT_OK;
}

ort_err
dp_log_begin(int dir_fd, const dp_log_config *config, ort_diag *diag)
{
    char name[DP_LOG_NAME_BYTES];
    unsigned char bytes[DP_LOG_HEADER_BYTES];
    const dp_log_header header = {.tenant = config->tenant.v,
                                  .shard = config->shard.v,
                                  .first_lsn = config->folded.lsn + 1,
                                  .prev = config->folded};
    int fd = -1;
    dp_log__name(header.first_lsn, name);
    dp_log__header_encode(&header, bytes);
    ort_err err = dp_io_create(dir_fd, name, &fd, diag);
    if (err == ORT_OK) {
        err = dp_io_write(fd, bytes, sizeof bytes, 0, diag);
    }
    if (err == ORT_OK) {
        err = dp_io_sync(fd, name, diag);
    }
    if (err == ORT_OK) {
        err = dp_io_sync(dir_fd, "the shard's directory", diag);
    }
    ort_fd_close(fd);
    return err;
}

void
dp_log_close(dp_log *log)
{
    if (log == NULL) {
        return;
    }
    if (log->failed == ORT_OK && log->pending.len > 0) {
        const ort_err err =
            dp_log_wait(log, (dp_log_ticket){.lsn = log->tail.lsn, .term = log->term}, NULL);
        (void)err; /* nobody waits for these: they were never promised */
    }
    if (log->failed == ORT_OK &&
        (!log->marked || log->zero_end > log->files[log->file_count - 1].bytes)) {
        /* A closed log keeps no zeros: many small tenants share the disk. If any of this fails, the
         * next open finds a log that was not closed, which is what it is. */
        ort_err err = dp_io_truncate(log->fd, log->files[log->file_count - 1].bytes, NULL);
        log->zero_end = log->files[log->file_count - 1].bytes;
        if (err == ORT_OK && !log->marked) {
            err = put_mark(log, NULL);
        }
        (void)err;
    }
    destroy(log);
}
