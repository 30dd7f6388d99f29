/* The log: appending, group commit, failure. */
#include "storage/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/point.h"
#include "base/thread.h"
#include "storage/io.h"
#include "storage/log_internal.h"

/* Zeros are written ahead of the records in steps that follow the size of the file, so that a small
 * log stays small: a sync that does not move the end of the file needs no journal commit (94
 * instead of 150-200 us for 4 KiB, components.md section 4). */
#define ZERO_STEP_MIN (UINT64_C(16) << 10)
#define ZERO_STEP_MAX (UINT64_C(1) << 20)

/* A large group pays for its own journal commit, and would write twice as much. */
#define ZERO_GROUP_MAX (32u << 10)

static const unsigned char ZEROS[ZERO_STEP_MIN];

static dp_log_file *
newest(dp_log *log)
{
    return &log->files[log->file_count - 1];
}

void
dp_log__lead(dp_log *log)
{
    while (log->leading) {
        pthread_cond_wait(&log->moved, &log->mutex);
    }
    log->leading = true;
}

void
dp_log__lead_end(dp_log *log)
{
    log->leading = false;
    pthread_cond_broadcast(&log->moved);
}

/* No more is ever taken. The mutex is held. */
static void
fail_for_good(dp_log *log, ort_err err, const ort_diag *why)
{
    if (log->failed == ORT_OK) {
        log->failed = err == ORT_ENOSPC ? ORT_EIO : err;
        log->failed_diag = *why;
    }
}

/* Throws out whatever is appended and not durable; their tickets belong to a term that is over. The
 * mutex is held. */
static void
roll_back(dp_log *log, ort_err err, const ort_diag *why)
{
    log->floors[log->term % DP_LOG_ROLLBACKS] = log->durable.lsn;
    log->term++;
    log->tail = log->durable;
    log->rollback_err = err;
    log->rollback_diag = *why;
    ort_buf_clear(&log->pending);
}

/* Zeros behind what was just written; without them the next syncs are slower, and that is all. */
static void
write_zeros(dp_log *log, uint64_t end)
{
    uint64_t step = end / 2;
    step = step < ZERO_STEP_MIN ? ZERO_STEP_MIN : step > ZERO_STEP_MAX ? ZERO_STEP_MAX : step;
    const uint64_t until = end + step;
    log->zero_end = end;
    while (log->zero_end < until) {
        const uint64_t n =
            until - log->zero_end < sizeof ZEROS ? until - log->zero_end : sizeof ZEROS;
        if (dp_io_write(log->fd, ZEROS, (size_t)n, log->zero_end, NULL) != ORT_OK) {
            break;
        }
        log->zero_end += n;
        log->led.zero_bytes += n;
    }
}

ort_err
dp_log__roll(dp_log *log, bool *clean_out, ort_diag *diag)
{
    char name[DP_LOG_NAME_BYTES];
    unsigned char bytes[DP_LOG_HEADER_BYTES];
    const dp_log_header header = {.tenant = log->config.tenant.v,
                                  .shard = log->config.shard.v,
                                  .first_lsn = log->durable.lsn + 1,
                                  .prev = log->durable};
    ort_err err = ORT_OK;
    int fd = -1;

    *clean_out = true;
    pthread_mutex_lock(&log->mutex);
    if (log->file_count == log->file_cap) {
        const uint32_t cap = log->file_cap == 0 ? 4 : 2 * log->file_cap;
        dp_log_file *files = realloc(log->files, cap * sizeof *files);
        if (files != NULL) {
            log->files = files;
            log->file_cap = cap;
        }
    }
    const bool room = log->file_count < log->file_cap;
    pthread_mutex_unlock(&log->mutex);
    if (!room) {
        return ort_fail(diag, ORT_ENOMEM, "list of log files");
    }
    dp_log__name(header.first_lsn, name);
    dp_log__header_encode(&header, bytes);
    err = dp_io_create(log->dir_fd, name, &fd, diag);
    if (err == ORT_OK) {
        ort_point("log.created");
        err = dp_io_write(fd, bytes, sizeof bytes, 0, diag);
    }
    if (err == ORT_OK) {
        err = dp_io_sync(fd, name, diag);
    }
    if (err == ORT_OK) {
        err = dp_io_sync(log->dir_fd, "the shard's directory", diag);
    }
    ort_point("log.rolled");
    if (err != ORT_OK) {
        /* If it came back after a crash, records of the file before would seem to be of two. */
        *clean_out = fd < 0 || (dp_io_unlink(log->dir_fd, name, NULL) == ORT_OK &&
                                dp_io_sync(log->dir_fd, "the shard's directory", NULL) == ORT_OK);
        dp_io_close(fd);
        return err;
    }
    dp_io_close(log->fd);
    log->fd = fd;
    log->zero_end = sizeof bytes;
    log->marked = false;
    pthread_mutex_lock(&log->mutex);
    log->files[log->file_count++] =
        (dp_log_file){.first_lsn = header.first_lsn, .bytes = sizeof bytes};
    pthread_mutex_unlock(&log->mutex);
    return ORT_OK;
}

/* The mark that stands before the first group since an open: its sync may have failed when the log
 * was closed, or in an open that gave up, and then it is in memory only and a hole on the disk. */
static ort_err
mark_again(dp_log *log, uint64_t end, ort_diag *diag)
{
    unsigned char mark[DP_LOG_MARK_BYTES];
    dp_log__mark_encode(log->durable, mark);
    return dp_io_write(log->fd, mark, sizeof mark, end - sizeof mark, diag);
}

/* Writes the group and syncs it. Leader only, mutex not held. *clean_out tells, on failure, whether
 * the file is certainly as it was before. */
static ort_err
write_group(dp_log *log, uint64_t *end_out, bool *clean_out, ort_diag *diag)
{
    ort_buf *group = &log->writing;
    if (newest(log)->bytes > DP_LOG_HEADER_BYTES &&
        newest(log)->bytes + group->len > log->config.file_bytes_max) {
        /* What the old file has ahead of its records is of no more use. Should this fail, zeros at
         * the end of an older file harm nobody. */
        const ort_err cut = dp_io_truncate(log->fd, newest(log)->bytes, NULL);
        (void)cut;
        const ort_err err = dp_log__roll(log, clean_out, diag);
        if (err != ORT_OK) {
            return err;
        }
    }
    *clean_out = true;
    const uint64_t start = newest(log)->bytes;
    const uint64_t end = start + group->len;
    if (log->marked) {
        const ort_err err = mark_again(log, start, diag);
        if (err != ORT_OK) {
            return err;
        }
    }
    dp_log__group_set_synced((unsigned char *)group->data, group->len, log->durable.lsn);
    ort_point("log.group");
    ort_err err = dp_io_write(log->fd, group->data, group->len, start, diag);
    if (err != ORT_OK) {
        *clean_out = err == ORT_ENOSPC && dp_io_truncate(log->fd, start, NULL) == ORT_OK &&
                     dp_io_sync_data(log->fd, "a log file", NULL) == ORT_OK;
        log->zero_end = start;
        return err;
    }
    if (end > log->zero_end) {
        log->zero_end = end;
        if (group->len <= ZERO_GROUP_MAX) {
            write_zeros(log, end);
        }
    }
    ort_point("log.written");
    const uint64_t began_ns = ort_mono_ns();
    *clean_out = false; /* whatever fails from here on leaves bytes nobody can vouch for */
    err = dp_io_sync_data(log->fd, "a log file", diag);
    log->led.sync_ns = ort_mono_ns() - began_ns;
    ort_point("log.synced");
    *end_out = end;
    return err;
}

/* Takes what is pending and makes it durable. Leader only; the mutex is held, before and after. */
static void
flush(dp_log *log)
{
    const ort_buf taken = log->pending;
    const dp_log_mark mark = log->tail;
    ort_diag diag = {{0}};
    uint64_t end = 0;
    bool clean;

    log->pending = log->writing;
    log->writing = taken;
    log->led.zero_bytes = 0;
    log->led.sync_ns = 0;
    pthread_cond_broadcast(&log->moved); /* there is room again */
    pthread_mutex_unlock(&log->mutex);
    const ort_err err = write_group(log, &end, &clean, &diag);
    pthread_mutex_lock(&log->mutex);
    log->file_end = log->zero_end;
    log->stats.zero_bytes += log->led.zero_bytes;
    log->stats.sync_ns += log->led.sync_ns;
    if (log->led.sync_ns > log->stats.sync_ns_max) {
        log->stats.sync_ns_max = log->led.sync_ns;
    }
    if (err == ORT_OK) {
        newest(log)->bytes = end;
        log->marked = false;
        log->durable = mark;
        log->stats.groups++;
        log->stats.bytes += log->writing.len;
    } else if (clean) {
        roll_back(log, err, &diag);
    } else {
        fail_for_good(log, err, &diag);
    }
    ort_buf_clear(&log->writing);
}

ort_err
dp_log_append(dp_log *log, uint16_t type, const void *body, size_t len, dp_log_ticket *out,
              ort_diag *diag)
{
    if (type == 0 || len > DP_LOG_BODY_BYTES_MAX) {
        return ort_fail(diag, ORT_EINVAL, "a log record of type %u with %zu bytes, at most %u",
                        type, len, DP_LOG_BODY_BYTES_MAX);
    }
    const uint32_t body_crc = ort_crc32c(0, body, len);
    const uint64_t body_hash = dp_log__body_hash(body, len);
    ort_err err = ORT_OK;

    pthread_mutex_lock(&log->mutex);
    while (log->failed == ORT_OK && log->pending.len > 0 &&
           log->pending.len + dp_log__record_bytes(len) > log->config.pending_bytes_max) {
        if (log->leading) {
            pthread_cond_wait(&log->moved, &log->mutex);
        } else {
            log->leading = true;
            flush(log);
            dp_log__lead_end(log);
        }
    }
    if (log->failed != ORT_OK) {
        err = ort_fail(diag, log->failed, "the log has failed: %s", log->failed_diag.text);
    } else {
        dp_log__record_put(&log->pending, log->tail, log->config.epoch, type, body, len, body_crc);
        if (log->pending.failed) {
            /* Nothing was added; what stood there stands. */
            log->pending.failed = false;
            err = ort_fail(diag, ORT_ENOMEM, "a log record of %zu bytes", len);
        } else {
            const uint64_t lsn = log->tail.lsn + 1;
            log->tail = (dp_log_mark){
                .lsn = lsn,
                .epoch = log->config.epoch,
                .hash = dp_log__record_hash(log->tail.hash, lsn, log->config.epoch, type, len,
                                            body_hash),
            };
            log->stats.appends++;
            *out = (dp_log_ticket){.lsn = lsn, .term = log->term};
        }
    }
    pthread_mutex_unlock(&log->mutex);
    return err;
}

/* A ticket of a term that is over: what became of it. The mutex is held. */
static ort_err
old_term(dp_log *log, dp_log_ticket ticket, ort_diag *diag)
{
    if (log->term - ticket.term > DP_LOG_ROLLBACKS) {
        return ort_fail(diag, ORT_EIO, "record %" PRIu64 " was not waited for in time", ticket.lsn);
    }
    if (ticket.lsn <= log->floors[ticket.term % DP_LOG_ROLLBACKS]) {
        return ORT_OK;
    }
    return ort_fail(diag, log->rollback_err, "the log took nothing: %s", log->rollback_diag.text);
}

ort_err
dp_log_wait(dp_log *log, dp_log_ticket ticket, ort_diag *diag)
{
    ort_err err = ORT_OK;
    pthread_mutex_lock(&log->mutex);
    for (;;) {
        if (ticket.term != log->term) {
            err = old_term(log, ticket, diag);
            break;
        }
        if (ticket.lsn <= log->durable.lsn) {
            break;
        }
        if (log->failed != ORT_OK) {
            err = ort_fail(diag, log->failed, "the log has failed: %s", log->failed_diag.text);
            break;
        }
        if (log->leading) {
            pthread_cond_wait(&log->moved, &log->mutex);
        } else {
            log->leading = true;
            flush(log);
            dp_log__lead_end(log);
        }
    }
    pthread_mutex_unlock(&log->mutex);
    return err;
}

dp_log_mark
dp_log_durable(dp_log *log)
{
    pthread_mutex_lock(&log->mutex);
    const dp_log_mark mark = log->durable;
    pthread_mutex_unlock(&log->mutex);
    return mark;
}

ort_err
dp_log_check(dp_log *log, ort_diag *diag)
{
    pthread_mutex_lock(&log->mutex);
    const ort_err err =
        log->failed == ORT_OK ? ORT_OK : ort_fail(diag, log->failed, "%s", log->failed_diag.text);
    pthread_mutex_unlock(&log->mutex);
    return err;
}

ort_err
dp_log_set_epoch(dp_log *log, uint64_t epoch, ort_diag *diag)
{
    ort_err err = ORT_OK;
    pthread_mutex_lock(&log->mutex);
    if (epoch < log->config.epoch) {
        err = ort_fail(diag, ORT_ESTALE, "epoch %" PRIu64 " is behind %" PRIu64, epoch,
                       log->config.epoch);
    } else {
        log->config.epoch = epoch;
    }
    pthread_mutex_unlock(&log->mutex);
    return err;
}

bool
dp_log_wait_behind(dp_log *log, uint64_t lsn, uint64_t mono_ns)
{
    pthread_mutex_lock(&log->mutex);
    while (log->durable.lsn <= lsn && log->failed == ORT_OK) {
        if (!ort_cond_wait_until(&log->moved, &log->mutex, mono_ns)) {
            break;
        }
    }
    const bool moved = log->durable.lsn > lsn;
    pthread_mutex_unlock(&log->mutex);
    return moved;
}

/* The newest file is replaced by an empty one only when that gives something back. */
#define CUT_NEWEST_BYTES (UINT64_C(64) << 10)

ort_err
dp_log_cut(dp_log *log, uint64_t lsn, ort_diag *diag)
{
    ort_err err = ORT_OK;
    pthread_mutex_lock(&log->mutex);
    dp_log__lead(log);
    if (log->failed == ORT_OK && log->durable.lsn <= lsn && log->pending.len == 0 &&
        newest(log)->bytes > CUT_NEWEST_BYTES) {
        pthread_mutex_unlock(&log->mutex);
        bool clean;
        ort_diag why = {{0}};
        err = dp_log__roll(log, &clean, &why);
        pthread_mutex_lock(&log->mutex);
        log->file_end = log->zero_end;
        if (err != ORT_OK && !clean) {
            fail_for_good(log, err, &why);
        }
        if (err != ORT_OK) {
            ort_fail(diag, err, "%s", why.text);
        }
    }
    while (err == ORT_OK && log->file_count > 1 && log->files[1].first_lsn <= lsn + 1) {
        char name[DP_LOG_NAME_BYTES];
        dp_log__name(log->files[0].first_lsn, name);
        log->file_count--;
        for (uint32_t i = 0; i < log->file_count; i++) {
            log->files[i] = log->files[i + 1];
        }
        pthread_mutex_unlock(&log->mutex);
        err = dp_io_unlink(log->dir_fd, name, diag);
        ort_point("log.cut");
        pthread_mutex_lock(&log->mutex);
    }
    dp_log__lead_end(log);
    pthread_mutex_unlock(&log->mutex);
    return err;
}

uint64_t
dp_log_bytes_behind(dp_log *log, uint64_t lsn)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&log->mutex);
    for (uint32_t i = log->file_count; i-- > 0;) {
        if (log->durable.lsn <= lsn) {
            break;
        }
        bytes += log->files[i].bytes;
        if (log->files[i].first_lsn <= lsn + 1) {
            break;
        }
    }
    pthread_mutex_unlock(&log->mutex);
    return bytes;
}

uint64_t
dp_log_disk_bytes(dp_log *log)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&log->mutex);
    for (uint32_t i = 0; i < log->file_count; i++) {
        bytes += log->files[i].packed_bytes != 0 ? log->files[i].packed_bytes : log->files[i].bytes;
    }
    if (log->file_end > newest(log)->bytes) {
        bytes += log->file_end - newest(log)->bytes;
    }
    pthread_mutex_unlock(&log->mutex);
    return bytes;
}

void
dp_log_get_stats(dp_log *log, dp_log_stats *out)
{
    pthread_mutex_lock(&log->mutex);
    *out = log->stats;
    pthread_mutex_unlock(&log->mutex);
}
