/* Full files of the log, packed.
 *
 *   plain ──► logz.new: blocks, index, header ──sync──► read back whole ──rename, sync──► packed
 *
 * A crash before the rename leaves a file that the next open removes; a crash behind it leaves one
 * name and either file, and both say the same. Readers that stand in the plain one keep it. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/point.h"
#include "storage/codec.h"
#include "storage/io.h"
#include "storage/log_internal.h"

/* The oldest plain file with `keep` plain full ones behind it; file_count: none. Mutex held. */
static uint32_t
candidate(const dp_log *log, uint32_t keep)
{
    uint32_t plain = 0;
    for (uint32_t i = 0; i + 1 < log->file_count; i++) {
        plain += log->files[i].packed_bytes == 0;
    }
    for (uint32_t i = 0; plain > keep && i + 1 < log->file_count; i++) {
        if (log->files[i].packed_bytes == 0) {
            return i;
        }
    }
    return log->file_count;
}

bool
dp_log_pack_due(dp_log *log, uint32_t keep)
{
    pthread_mutex_lock(&log->mutex);
    const bool due =
        log->failed == ORT_OK && !log->packing && candidate(log, keep) < log->file_count;
    pthread_mutex_unlock(&log->mutex);
    return due;
}

/* Writes the first `bytes` bytes of the window to fd. */
static ort_err
write_blocks(dp_log_window *w, uint64_t bytes, int level, int fd, ort_buf *index, uint64_t *end_out,
             ort_diag *diag)
{
    const uint64_t blocks = (bytes + DP_LOG_PACK_BYTES - 1) / DP_LOG_PACK_BYTES;
    uint64_t place = DP_LOG_PACK_HEADER_BYTES + blocks * DP_LOG_PACK_ENTRY_BYTES;
    char *room = malloc(dp_codec_bound(DP_LOG_PACK_BYTES));
    ort_err err = room != NULL ? ORT_OK : ort_fail(diag, ORT_ENOMEM, "pack the log");
    for (uint64_t at = 0; err == ORT_OK && at < bytes; at += DP_LOG_PACK_BYTES) {
        const unsigned char *raw;
        size_t got = 0, packed = 0;
        dp_codec codec = DP_CODEC_PLAIN;
        const size_t want =
            bytes - at < DP_LOG_PACK_BYTES ? (size_t)(bytes - at) : DP_LOG_PACK_BYTES;
        err = dp_log__window_get(w, at, want, &raw, &got, diag);
        if (err == ORT_OK && got != want) {
            err = ort_fail(diag, ORT_ECORRUPT, "a log file has become shorter");
        }
        if (err == ORT_OK) {
            const dp_packing packing = {.kind = DP_PACK_ZSTD, .level = level};
            err = dp_codec_pack(packing, raw, want, room, &packed, &codec);
        }
        if (err == ORT_OK) {
            const void *block = codec == DP_CODEC_PLAIN ? (const void *)raw : room;
            ort_buf_put_u32(index, (uint32_t)packed);
            ort_buf_put_u32(index, ort_crc32c(0, block, packed));
            ort_buf_put_u32(index, (uint32_t)codec);
            ort_buf_put_u32(index, 0);
            err = dp_io_write(fd, block, packed, place, diag);
            if (err == ORT_OK) {
                err = dp_io_push(fd, place, packed, false, diag);
            }
            place += packed;
        }
    }
    free(room);
    *end_out = place;
    return err;
}

/* The file under its passing name, durable. The plain one was checked, to `bytes`. */
static ort_err
write_packed(dp_log *log, dp_log_window *plain, uint64_t first_lsn, uint64_t bytes, int level,
             uint64_t *packed_bytes_out, ort_diag *diag)
{
    unsigned char head[DP_LOG_PACK_HEADER_BYTES];
    ort_buf index = {0};
    int fd = -1;
    ort_err err = dp_io_create(log->dir_fd, DP_LOG_PACK_NAME, &fd, diag);
    ort_point("pack.created");
    if (err == ORT_OK) {
        err = write_blocks(plain, bytes, level, fd, &index, packed_bytes_out, diag);
    }
    if (err == ORT_OK && index.failed) {
        err = ort_fail(diag, ORT_ENOMEM, "pack the log");
    }
    if (err == ORT_OK) {
        const dp_log_pack_header header = {.block_count =
                                               (uint32_t)(index.len / DP_LOG_PACK_ENTRY_BYTES),
                                           .index_crc = ort_crc32c(0, index.data, index.len),
                                           .tenant = log->config.tenant.v,
                                           .shard = log->config.shard.v,
                                           .first_lsn = first_lsn,
                                           .bytes = bytes};
        dp_log__pack_header_encode(&header, head);
        err = dp_io_write(fd, index.data, index.len, sizeof head, diag);
    }
    if (err == ORT_OK) {
        err = dp_io_write(fd, head, sizeof head, 0, diag);
    }
    ort_point("pack.written");
    if (err == ORT_OK) {
        err = dp_io_sync(fd, DP_LOG_PACK_NAME, diag);
    }
    ort_point("pack.synced");
    dp_io_close(fd);
    ort_buf_fini(&index);
    return err;
}

/* Reads a file from its first record to its last. */
static ort_err
check_file(dp_log *log, const char *name, dp_log_window *w, dp_log_scan *out, ort_diag *diag)
{
    const dp_log_config any = {.tenant = log->config.tenant, .shard = log->config.shard};
    int fd = -1;
    ort_err err = dp_io_open(log->dir_fd, name, O_RDONLY, &fd, diag);
    *w = (dp_log_window){.fd = -1};
    if (err == ORT_OK) {
        err = dp_log__window_open(w, fd, name, diag);
    }
    if (err == ORT_OK) {
        err = dp_log__scan(w, name, &any, false, NULL, NULL, out, diag);
    }
    return err;
}

/* Puts the packed file in the place of the plain one, if that is still there. */
static ort_err
put_in_place(dp_log *log, uint64_t first_lsn, uint64_t packed_bytes, bool *done_out, ort_diag *diag)
{
    char name[DP_LOG_NAME_BYTES];
    ort_err err = ORT_OK;
    dp_log__name(first_lsn, name);
    pthread_mutex_lock(&log->mutex);
    dp_log__lead(log); /* no cut meanwhile: it would come back */
    uint32_t at = 0;
    while (at < log->file_count && log->files[at].first_lsn != first_lsn) {
        at++;
    }
    if (at + 1 < log->file_count) {
        pthread_mutex_unlock(&log->mutex);
        err = dp_io_rename(log->dir_fd, DP_LOG_PACK_NAME, name, diag);
        ort_point("pack.renamed");
        *done_out = err == ORT_OK;
        if (err == ORT_OK) {
            /* Should this fail, either file may be what a crash leaves. */
            err = dp_io_sync(log->dir_fd, "the shard's directory", diag);
        }
        ort_point("pack.durable");
        pthread_mutex_lock(&log->mutex);
        if (*done_out) {
            log->files[at].packed_bytes = packed_bytes;
        }
    }
    dp_log__lead_end(log);
    pthread_mutex_unlock(&log->mutex);
    return err;
}

static ort_err
pack(dp_log *log, uint64_t first_lsn, int level, bool *done_out, ort_diag *diag)
{
    char name[DP_LOG_NAME_BYTES];
    dp_log_window plain, packed = {.fd = -1};
    dp_log_scan before = {0}, after = {0};
    uint64_t packed_bytes = 0;
    dp_log__name(first_lsn, name);
    ort_err err = check_file(log, name, &plain, &before, diag);
    if (err == ORT_OK) {
        err = write_packed(log, &plain, first_lsn, before.end, level, &packed_bytes, diag);
        if (err == ORT_OK) {
            err = check_file(log, DP_LOG_PACK_NAME, &packed, &after, diag);
        }
        if (err == ORT_OK && (after.last.lsn != before.last.lsn ||
                              after.last.hash != before.last.hash || after.end != before.end)) {
            err = ort_fail(diag, ORT_ECORRUPT, "%s: packed, it is another", name);
        }
        if (err == ORT_OK) {
            err = put_in_place(log, first_lsn, packed_bytes, done_out, diag);
        }
        if (!*done_out) {
            const ort_err gone = dp_io_unlink(log->dir_fd, DP_LOG_PACK_NAME, NULL);
            (void)gone; /* the next open tries again */
        }
    }
    dp_log__window_close(&plain);
    dp_log__window_close(&packed);
    return err;
}

ort_err
dp_log_pack(dp_log *log, uint32_t keep, int level, bool *packed_out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    uint64_t first_lsn = 0;
    *packed_out = false;
    pthread_mutex_lock(&log->mutex);
    const uint32_t at = candidate(log, keep);
    if (log->packing) {
        err = ort_fail(diag, ORT_EBUSY, "the log is being packed");
    } else if (log->failed == ORT_OK && at < log->file_count) {
        first_lsn = log->files[at].first_lsn;
        log->packing = true;
    }
    pthread_mutex_unlock(&log->mutex);
    if (first_lsn == 0) {
        return err;
    }
    err = pack(log, first_lsn, level, packed_out, diag);
    pthread_mutex_lock(&log->mutex);
    log->packing = false;
    pthread_mutex_unlock(&log->mutex);
    return err;
}
