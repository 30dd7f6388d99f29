/* Windows over files of the log, plain or packed. */
#include <inttypes.h>
#include <string.h>

#include "base/crc32c.h"
#include "storage/codec.h"
#include "storage/io.h"
#include "storage/log_internal.h"

#define WINDOW_BYTES (256u << 10)
#define RAW_BYTES_MAX (UINT64_C(1) << 40) /* a file is closed at 64 MiB and one record */

static const char PACK_MAGIC[8] = "ORTLGZ\0\1";

void
dp_log__pack_header_encode(const dp_log_pack_header *h, unsigned char out[DP_LOG_PACK_HEADER_BYTES])
{
    memset(out, 0, DP_LOG_PACK_HEADER_BYTES);
    memcpy(out, PACK_MAGIC, 8);
    ort_put_u32(out + 8, DP_LOG_PACK_VERSION);
    ort_put_u32(out + 12, h->block_count);
    ort_put_u64(out + 16, h->tenant);
    ort_put_u64(out + 24, h->shard);
    ort_put_u64(out + 32, h->first_lsn);
    ort_put_u64(out + 40, h->bytes);
    ort_put_u32(out + 56, h->index_crc);
    ort_put_u32(out + 60, ort_crc32c(0, out, 60));
}

ort_err
dp_log__pack_header_decode(const unsigned char in[DP_LOG_PACK_HEADER_BYTES],
                           dp_log_pack_header *out, bool *packed_out, ort_diag *diag)
{
    *packed_out = memcmp(in, PACK_MAGIC, 8) == 0;
    if (!*packed_out) {
        return ORT_OK;
    }
    if (ort_get_u32(in + 60) != ort_crc32c(0, in, 60)) {
        return ort_fail(diag, ORT_ECORRUPT, "the checksum of the packed file's header is wrong");
    }
    const uint32_t version = ort_get_u32(in + 8);
    if (version == 0 || version > DP_LOG_PACK_VERSION) {
        return ort_fail(diag, ORT_EVERSION,
                        "packed log version %" PRIu32 ", this program knows 1 to %u", version,
                        DP_LOG_PACK_VERSION);
    }
    *out = (dp_log_pack_header){
        .block_count = ort_get_u32(in + 12),
        .tenant = ort_get_u64(in + 16),
        .shard = ort_get_u64(in + 24),
        .first_lsn = ort_get_u64(in + 32),
        .bytes = ort_get_u64(in + 40),
        .index_crc = ort_get_u32(in + 56),
    };
    if (out->bytes < DP_LOG_HEADER_BYTES || out->bytes > RAW_BYTES_MAX ||
        (out->bytes + DP_LOG_PACK_BYTES - 1) / DP_LOG_PACK_BYTES != out->block_count ||
        ort_get_u64(in + 48) != 0) {
        return ort_fail(diag, ORT_ECORRUPT, "the packed file's header makes no sense");
    }
    return ORT_OK;
}

static const unsigned char *
entry_of(const dp_log_window *w, uint64_t block)
{
    return (const unsigned char *)w->index.data + block * DP_LOG_PACK_ENTRY_BYTES;
}

/* Unpacked bytes of a block. */
static size_t
raw_bytes(const dp_log_window *w, uint64_t block)
{
    const uint64_t left = w->size - block * DP_LOG_PACK_BYTES;
    return left < DP_LOG_PACK_BYTES ? (size_t)left : DP_LOG_PACK_BYTES;
}

/* Places of blocks follow from their lengths. */
static ort_err
read_index(dp_log_window *w, const dp_log_pack_header *h, uint64_t file_bytes, ort_diag *diag)
{
    const uint64_t index_bytes = (uint64_t)h->block_count * DP_LOG_PACK_ENTRY_BYTES;
    if (index_bytes > file_bytes - DP_LOG_PACK_HEADER_BYTES) {
        return ort_fail(diag, ORT_ECORRUPT, "the packed file ends in its index");
    }
    char *to = ort_buf_reserve(&w->index, (size_t)index_bytes);
    if (to == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "an index of %" PRIu64 " bytes", index_bytes);
    }
    const ort_err err = dp_io_read(w->fd, to, (size_t)index_bytes, DP_LOG_PACK_HEADER_BYTES, diag);
    if (err != ORT_OK) {
        return err;
    }
    ort_buf_commit(&w->index, (size_t)index_bytes);
    if (ort_crc32c(0, to, (size_t)index_bytes) != h->index_crc) {
        return ort_fail(diag, ORT_ECORRUPT, "the checksum of the packed file's index is wrong");
    }
    uint64_t end = DP_LOG_PACK_HEADER_BYTES + index_bytes;
    for (uint32_t i = 0; i < h->block_count; i++) {
        const uint32_t packed = ort_get_u32(entry_of(w, i));
        const uint32_t codec = ort_get_u32(entry_of(w, i) + 8);
        if (packed > raw_bytes(w, i) || codec > DP_CODEC_ZSTD ||
            ort_get_u32(entry_of(w, i) + 12) != 0) {
            return ort_fail(diag, ORT_ECORRUPT, "packed block %" PRIu32 " makes no sense", i);
        }
        end += packed;
    }
    return end == file_bytes ? ORT_OK
                             : ort_fail(diag, ORT_ECORRUPT,
                                        "the packed file has %" PRIu64 " bytes, its index says "
                                        "%" PRIu64,
                                        file_bytes, end);
}

ort_err
dp_log__window_open(dp_log_window *w, int fd, const char *name, ort_diag *diag)
{
    unsigned char bytes[DP_LOG_PACK_HEADER_BYTES];
    dp_log_pack_header header;
    uint64_t file_bytes = 0;
    bool packed = false;
    *w = (dp_log_window){.fd = fd};
    ort_err err = dp_io_size(fd, &file_bytes, name, diag);
    w->size = file_bytes;
    if (err == ORT_OK && file_bytes >= sizeof bytes) {
        err = dp_io_read(fd, bytes, sizeof bytes, 0, diag);
        if (err == ORT_OK) {
            err = dp_log__pack_header_decode(bytes, &header, &packed, diag);
        }
    }
    if (err == ORT_OK && packed) {
        w->size = header.bytes;
        w->packed_bytes = file_bytes;
        err = read_index(w, &header, file_bytes, diag);
    }
    if (err != ORT_OK) {
        ort_diag_prefix(diag, "%s", name);
    }
    return err;
}

void
dp_log__window_close(dp_log_window *w)
{
    dp_io_close(w->fd);
    ort_buf_fini(&w->buf);
    ort_buf_fini(&w->index);
    ort_buf_fini(&w->packed);
    *w = (dp_log_window){.fd = -1};
}

/* Whole blocks from the one of `at` on, at least to at + want. */
static ort_err
unpack(dp_log_window *w, uint64_t at, size_t want, ort_diag *diag)
{
    const uint64_t first = at / DP_LOG_PACK_BYTES;
    uint64_t place = DP_LOG_PACK_HEADER_BYTES + w->index.len;
    for (uint64_t i = 0; i < first; i++) {
        place += ort_get_u32(entry_of(w, i));
    }
    w->buf_at = first * DP_LOG_PACK_BYTES;
    for (uint64_t i = first; w->buf_at + w->buf.len < at + want; i++) {
        const uint32_t packed = ort_get_u32(entry_of(w, i));
        const size_t raw = raw_bytes(w, i);
        ort_buf_clear(&w->packed);
        char *from = ort_buf_reserve(&w->packed, packed + 1u);
        char *to = ort_buf_reserve(&w->buf, raw);
        if (from == NULL || to == NULL) {
            return ort_fail(diag, ORT_ENOMEM, "unpack %zu bytes of the log", raw);
        }
        ort_err err = dp_io_read(w->fd, from, packed, place, diag);
        if (err != ORT_OK) {
            return err;
        }
        err =
            ort_crc32c(0, from, packed) == ort_get_u32(entry_of(w, i) + 4)
                ? dp_codec_unpack((dp_codec)ort_get_u32(entry_of(w, i) + 8), from, packed, to, raw)
                : ORT_ECORRUPT;
        if (err != ORT_OK) {
            return ort_fail(diag, err, "packed block %" PRIu64 " at byte %" PRIu64 " is damaged", i,
                            place);
        }
        ort_buf_commit(&w->buf, raw);
        place += packed;
    }
    return ORT_OK;
}

ort_err
dp_log__window_get(dp_log_window *w, uint64_t at, size_t want, const unsigned char **out,
                   size_t *got_out, ort_diag *diag)
{
    if (at >= w->size) {
        *out = NULL;
        *got_out = 0;
        return ORT_OK;
    }
    if (want > w->size - at) {
        want = (size_t)(w->size - at);
    }
    if (at < w->buf_at || at + want > w->buf_at + w->buf.len) {
        size_t n = want > WINDOW_BYTES ? want : WINDOW_BYTES;
        if (n > w->size - at) {
            n = (size_t)(w->size - at);
        }
        ort_buf_clear(&w->buf);
        ort_err err;
        if (w->packed_bytes != 0) {
            err = unpack(w, at, want, diag);
        } else {
            char *to = ort_buf_reserve(&w->buf, n);
            if (to == NULL) {
                return ort_fail(diag, ORT_ENOMEM, "read %zu bytes of the log", n);
            }
            err = dp_io_read(w->fd, to, n, at, diag);
            ort_buf_commit(&w->buf, err == ORT_OK ? n : 0);
            w->buf_at = at;
        }
        if (err != ORT_OK) {
            ort_buf_clear(&w->buf);
            return err;
        }
    }
    *out = (const unsigned char *)w->buf.data + (at - w->buf_at);
    *got_out = want;
    return ORT_OK;
}
