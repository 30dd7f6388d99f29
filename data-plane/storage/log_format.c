/* The bytes of the log. */
#include "storage/log_format.h"

#include <inttypes.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/siphash.h"

static const char FILE_MAGIC[8] = "ORTLOG\0\1";
static const char RECORD_MAGIC[4] = "ORTR";
static const char RECORD_END[4] = "RTRO";
static const char MARK_MAGIC[4] = "ORTM";

/* Any fixed numbers: they keep this hash apart from other uses of SipHash. */
#define HASH_K0 UINT64_C(0x4f727468616e7431)
#define HASH_K1 UINT64_C(0x6c6f672e63686169)

void
dp_log__header_encode(const dp_log_header *header, unsigned char out[DP_LOG_HEADER_BYTES])
{
    memset(out, 0, DP_LOG_HEADER_BYTES);
    memcpy(out, FILE_MAGIC, 8);
    ort_put_u32(out + 8, DP_LOG_VERSION);
    ort_put_u64(out + 16, header->tenant);
    ort_put_u64(out + 24, header->shard);
    ort_put_u64(out + 32, header->first_lsn);
    ort_put_u64(out + 40, header->prev.epoch);
    ort_put_u64(out + 48, header->prev.hash);
    ort_put_u32(out + 60, ort_crc32c(0, out, 60));
}

ort_err
dp_log__header_decode(const unsigned char in[DP_LOG_HEADER_BYTES], dp_log_header *out,
                      ort_diag *diag)
{
    if (memcmp(in, FILE_MAGIC, 8) != 0) {
        return ort_fail(diag, ORT_ECORRUPT, "this is no log file");
    }
    if (ort_get_u32(in + 60) != ort_crc32c(0, in, 60)) {
        return ort_fail(diag, ORT_ECORRUPT, "the checksum of the file header is wrong");
    }
    const uint32_t version = ort_get_u32(in + 8);
    if (version != DP_LOG_VERSION) {
        return ort_fail(diag, ORT_EVERSION, "log version %" PRIu32 ", this program knows %u",
                        version, DP_LOG_VERSION);
    }
    *out = (dp_log_header){
        .tenant = ort_get_u64(in + 16),
        .shard = ort_get_u64(in + 24),
        .first_lsn = ort_get_u64(in + 32),
        .prev = {.epoch = ort_get_u64(in + 40), .hash = ort_get_u64(in + 48)},
    };
    if (out->first_lsn == 0 || ort_get_u32(in + 12) != 0 || ort_get_u32(in + 56) != 0) {
        return ort_fail(diag, ORT_ECORRUPT, "the file header makes no sense");
    }
    out->prev.lsn = out->first_lsn - 1;
    return ORT_OK;
}

dp_log_frame
dp_log__frame_peek(const unsigned char *bytes, size_t n)
{
    dp_log_frame frame = {.kind = DP_LOG_FRAME_NONE};
    if (n >= DP_LOG_MARK_BYTES && memcmp(bytes, MARK_MAGIC, 4) == 0) {
        if (ort_get_u32(bytes + 28) == ort_crc32c(0, bytes, 28)) {
            frame.kind = DP_LOG_FRAME_MARK;
            frame.lsn = ort_get_u64(bytes + 8);
            frame.hash = ort_get_u64(bytes + 16);
            frame.synced = frame.lsn;
        }
        return frame;
    }
    if (n < DP_LOG_RECORD_HEADER_BYTES || memcmp(bytes, RECORD_MAGIC, 4) != 0 ||
        ort_get_u32(bytes + 48) != ort_crc32c(0, bytes, 48)) {
        return frame;
    }
    const uint32_t type = ort_get_u32(bytes + 40);
    const uint32_t body_bytes = ort_get_u32(bytes + 4);
    if (type == 0 || type > UINT16_MAX || body_bytes > DP_LOG_BODY_BYTES_MAX) {
        return frame;
    }
    return (dp_log_frame){
        .kind = DP_LOG_FRAME_RECORD,
        .body_bytes = body_bytes,
        .body_crc = ort_get_u32(bytes + 44),
        .lsn = ort_get_u64(bytes + 8),
        .epoch = ort_get_u64(bytes + 16),
        .prev_hash = ort_get_u64(bytes + 24),
        .synced = ort_get_u64(bytes + 32),
        .type = (uint16_t)type,
    };
}

uint64_t
dp_log__body_hash(const void *body, size_t len)
{
    return ort_siphash(HASH_K0, HASH_K1, body, len);
}

uint64_t
dp_log__record_hash(uint64_t prev_hash, uint64_t lsn, uint64_t epoch, uint16_t type, size_t len,
                    uint64_t body_hash)
{
    unsigned char b[48];
    ort_put_u64(b, prev_hash);
    ort_put_u64(b + 8, lsn);
    ort_put_u64(b + 16, epoch);
    ort_put_u64(b + 24, type);
    ort_put_u64(b + 32, len);
    ort_put_u64(b + 40, body_hash);
    return ort_siphash(HASH_K0, HASH_K1, b, sizeof b);
}

bool
dp_log__record_check(const dp_log_frame *frame, const unsigned char *record)
{
    const size_t total = dp_log__record_bytes(frame->body_bytes);
    const size_t end = total - DP_LOG_END_BYTES;
    for (size_t i = DP_LOG_RECORD_HEADER_BYTES + frame->body_bytes; i < end; i++) {
        if (record[i] != 0) {
            return false;
        }
    }
    return memcmp(record + end, RECORD_END, DP_LOG_END_BYTES) == 0 &&
           ort_crc32c(0, record + DP_LOG_RECORD_HEADER_BYTES, frame->body_bytes) == frame->body_crc;
}

void
dp_log__record_put(ort_buf *out, dp_log_mark prev, uint64_t epoch, uint16_t type, const void *body,
                   size_t len, uint32_t body_crc)
{
    const size_t total = dp_log__record_bytes(len);
    unsigned char *p = (unsigned char *)ort_buf_reserve(out, total);
    if (p == NULL) {
        return;
    }
    memcpy(p, RECORD_MAGIC, 4);
    ort_put_u32(p + 4, (uint32_t)len);
    ort_put_u64(p + 8, prev.lsn + 1);
    ort_put_u64(p + 16, epoch);
    ort_put_u64(p + 24, prev.hash);
    ort_put_u64(p + 32, 0);
    ort_put_u32(p + 40, type);
    ort_put_u32(p + 44, body_crc);
    ort_put_u32(p + 48, 0);
    if (len > 0) {
        memcpy(p + DP_LOG_RECORD_HEADER_BYTES, body, len);
    }
    memset(p + DP_LOG_RECORD_HEADER_BYTES + len, 0,
           total - DP_LOG_RECORD_HEADER_BYTES - len - DP_LOG_END_BYTES);
    memcpy(p + total - DP_LOG_END_BYTES, RECORD_END, DP_LOG_END_BYTES);
    ort_buf_commit(out, total);
}

void
dp_log__group_set_synced(unsigned char *group, size_t n, uint64_t synced)
{
    for (size_t at = 0; at < n; at += dp_log__record_bytes(ort_get_u32(group + at + 4))) {
        ort_put_u64(group + at + 32, synced);
        ort_put_u32(group + at + 48, ort_crc32c(0, group + at, 48));
    }
}

void
dp_log__mark_encode(dp_log_mark at, unsigned char out[DP_LOG_MARK_BYTES])
{
    memset(out, 0, DP_LOG_MARK_BYTES);
    memcpy(out, MARK_MAGIC, 4);
    ort_put_u64(out + 8, at.lsn);
    ort_put_u64(out + 16, at.hash);
    ort_put_u32(out + 28, ort_crc32c(0, out, 28));
}

/* Whether a sector that begins before `end` lacks bytes which a record of `end` bytes has: none of
 * them there, or zeros from some byte on (the system took a write in two parts, and the disk kept
 * the sector as it was between them). A record may hold a few zeros at such a place by itself; what
 * is cut are 8 bytes at least: frames begin at multiples of 8 in the file and in the memory that is
 * written, and a write is cut where a page of either ends. */
#define MISSING_BYTES_MIN 8u

static bool
lacks_a_sector(const unsigned char *tail, size_t n, uint64_t at, size_t end)
{
    for (size_t i = 0; i < end && i < n;) {
        size_t next = i + DP_LOG_SECTOR_BYTES - (size_t)((at + i) % DP_LOG_SECTOR_BYTES);
        next = next > n ? n : next;
        size_t zeros = next;
        while (zeros > i && tail[zeros - 1] == 0) {
            zeros--;
        }
        if (zeros < end && (zeros == i || next - zeros >= MISSING_BYTES_MIN)) {
            return true;
        }
        i = next;
    }
    return false;
}

bool
dp_log__tail_is_torn(const unsigned char *tail, size_t n, uint64_t at, uint64_t lsn, ort_diag *why)
{
    for (size_t i = 8; i + DP_LOG_MARK_BYTES <= n; i += 8) {
        if (tail[i] != 'O') {
            continue;
        }
        const dp_log_frame later = dp_log__frame_peek(tail + i, n - i);
        if (later.kind != DP_LOG_FRAME_NONE && later.lsn >= lsn && later.synced >= lsn) {
            ort_fail(why, ORT_ECORRUPT,
                     "record %" PRIu64 " at byte %" PRIu64 " is damaged, and byte %" PRIu64
                     " says that it was durable",
                     lsn, at, at + i);
            return false;
        }
    }
    size_t used = n;
    while (used > 0 && tail[used - 1] == 0) {
        used--;
    }
    const dp_log_frame frame = dp_log__frame_peek(tail, n);
    if (frame.kind == DP_LOG_FRAME_MARK) {
        ort_fail(why, ORT_ECORRUPT,
                 "the mark at byte %" PRIu64 " belongs to record %" PRIu64 ", not to %" PRIu64, at,
                 frame.lsn, lsn - 1);
        return false;
    }
    if (frame.kind == DP_LOG_FRAME_RECORD) {
        const size_t total = dp_log__record_bytes(frame.body_bytes);
        if (used < total || lacks_a_sector(tail, n, at, total)) {
            return true;
        }
        ort_fail(why, ORT_ECORRUPT,
                 "record %" PRIu64 " at byte %" PRIu64 " was written whole and is damaged", lsn,
                 at);
        return false;
    }
    /* Its length is not known: it tells of the header alone. */
    if (used < DP_LOG_RECORD_HEADER_BYTES ||
        lacks_a_sector(tail, n, at, DP_LOG_RECORD_HEADER_BYTES)) {
        return true;
    }
    ort_fail(why, ORT_ECORRUPT,
             "the header of record %" PRIu64 " at byte %" PRIu64 " was written and is damaged", lsn,
             at);
    return false;
}
