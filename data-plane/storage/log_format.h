/* data-plane/storage/log_format.h: the bytes of the log, in memory and without files.
 *
 * A log is files `log.<first LSN, 16 hex digits>`. A file is a header, then frames, then zeros that
 * were written ahead. All integers are little-endian; everything begins at a multiple of 8.
 *
 *   header   0   8  magic       "ORTLOG\0\1"
 *            8   4  version     1
 *           12   4  zero
 *           16   8  tenant_id
 *           24   8  shard_id
 *           32   8  first_lsn   of the records here
 *           40   8  prev_epoch  of record first_lsn - 1
 *           48   8  prev_hash   likewise; 0 at the beginning
 *           56   4  zero
 *           60   4  crc32c      of bytes 0..59
 *
 *   record   0   4  magic       "ORTR"
 *            4   4  body_bytes  0 .. DP_LOG_BODY_BYTES_MAX
 *            8   8  lsn         one more than the record before
 *           16   8  epoch       not below that of the record before
 *           24   8  prev_hash   hash of the record before
 *           32   8  synced      the last LSN that was durable when this was written
 *           40   4  type        1 .. 0xffff
 *           44   4  body_crc32c
 *           48   4  crc32c      of bytes 0..47
 *           52   n  body
 *                p  zeros, so that the whole is a multiple of 8
 *                4  end         "RTRO"
 *
 *   mark     0   4  magic       "ORTM": the log was closed in good order, or recovered, here
 *            4   4  zero
 *            8   8  lsn         of the record before, all of which is durable
 *           16   8  hash        likewise
 *           24   4  zero
 *           28   4  crc32c      of bytes 0..27
 *
 * A file that is full may be packed: the same name, and the same bytes in blocks of 256 KiB, up to
 * the last frame. It never is the newest.
 *
 *   packed   0   8  magic       "ORTLGZ\0\1"
 *            8   4  version     1
 *           12   4  block_count
 *           16   8  tenant_id
 *           24   8  shard_id
 *           32   8  first_lsn
 *           40   8  bytes       unpacked
 *           48   8  zero
 *           56   4  index_crc32c
 *           60   4  crc32c      of bytes 0..59
 *           64      index: 16 bytes a block: packed u32, crc32c u32 of the packed bytes, codec u32
 *                   (0 plain, 1 zstd), zero u32
 *                   blocks, one behind the other
 *
 * The hash of a record is SipHash-2-4, under a fixed key, of its prev_hash, lsn, epoch, type,
 * length and the SipHash of its body. It links records, also across files and replicas; it is no
 * defence against somebody who can write the disk.
 *
 * Torn or rotten. `synced` and marks say what a crash cannot have touched: a bad frame at an LSN
 * that a later frame calls durable is damage. Behind the last such word only the bytes themselves
 * can tell. They were zeros before the write, and a write that is cut leaves zeros: to the end of
 * the file, or in whole sectors. So a bad record without a missing sector, and with its end mark,
 * was written whole and has rotted since. */
#ifndef DP_LOG_FORMAT_H
#define DP_LOG_FORMAT_H
#include "storage/log.h"

#define DP_LOG_PACK_NAME "logz.new" /* while it is written */
#define DP_LOG_PACK_HEADER_BYTES 64u
#define DP_LOG_PACK_ENTRY_BYTES 16u
#define DP_LOG_PACK_VERSION 1u
#ifndef DP_LOG_PACK_BYTES /* the simulation has short files */
#define DP_LOG_PACK_BYTES (256u << 10)
#endif

#define DP_LOG_HEADER_BYTES 64u
#define DP_LOG_RECORD_HEADER_BYTES 52u
#define DP_LOG_END_BYTES 4u
#define DP_LOG_MARK_BYTES 32u
#define DP_LOG_SECTOR_BYTES 512u
#define DP_LOG_VERSION 1u

/* Bytes of a record with such a body. */
static inline size_t
dp_log__record_bytes(size_t body_bytes)
{
    return (DP_LOG_RECORD_HEADER_BYTES + body_bytes + DP_LOG_END_BYTES + 7) & ~(size_t)7;
}

typedef struct {
    uint64_t tenant, shard, first_lsn;
    dp_log_mark prev; /* lsn = first_lsn - 1 */
} dp_log_header;

void dp_log__header_encode(const dp_log_header *header, unsigned char out[DP_LOG_HEADER_BYTES]);

/* ORT_ECORRUPT, ORT_EVERSION; diag without the file's name. */
ORT_NODISCARD ort_err dp_log__header_decode(const unsigned char in[DP_LOG_HEADER_BYTES],
                                            dp_log_header *out, ort_diag *diag);

typedef enum { DP_LOG_FRAME_NONE, DP_LOG_FRAME_RECORD, DP_LOG_FRAME_MARK } dp_log_frame_kind;

typedef struct {
    dp_log_frame_kind kind;
    uint32_t body_bytes;
    uint32_t body_crc;
    uint64_t lsn, epoch, prev_hash, synced;
    uint16_t type;
    uint64_t hash; /* marks only */
} dp_log_frame;

/* Reads what a frame says of itself: NONE when these n bytes do not begin with a frame's header
 * whose checksum is right. A body is not looked at. */
dp_log_frame dp_log__frame_peek(const unsigned char *bytes, size_t n);

uint64_t dp_log__body_hash(const void *body, size_t len);
uint64_t dp_log__record_hash(uint64_t prev_hash, uint64_t lsn, uint64_t epoch, uint16_t type,
                             size_t len, uint64_t body_hash);

/* Whether the record's body, padding and end, given whole, are right. */
bool dp_log__record_check(const dp_log_frame *frame, const unsigned char *record);

/* Appends a record; `synced` is set at the write. body_crc and what it hashed come from outside the
 * lock. */
void dp_log__record_put(ort_buf *out, dp_log_mark prev, uint64_t epoch, uint16_t type,
                        const void *body, size_t len, uint32_t body_crc);

/* Sets `synced` in every record of a group. */
void dp_log__group_set_synced(unsigned char *group, size_t n, uint64_t synced);

void dp_log__mark_encode(dp_log_mark at, unsigned char out[DP_LOG_MARK_BYTES]);

/* The rest of a file from its first bad frame on: rotten, or what a crash can leave?
 *
 * tail  everything from the bad frame to the end of the file
 * at    where in the file that is: sectors count from the file's beginning
 * lsn   of the record that should stand there
 * why   words for people when it is rotten */
bool dp_log__tail_is_torn(const unsigned char *tail, size_t n, uint64_t at, uint64_t lsn,
                          ort_diag *why);
#endif /* DP_LOG_FORMAT_H */
