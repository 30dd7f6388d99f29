/* data-plane/storage/manifest.h: which segments are the shard, and which of their slots live.
 *
 * File `manifest`, replaced whole. All integers little-endian.
 *
 *     0   8  magic            "ORTMAN\0\1"
 *     8   4  version          2
 *    12   4  segment_count
 *    16   8  tenant_id
 *    24   8  shard_id
 *    32   8  generation       grows with every manifest
 *    40   8  mark.lsn         the record up to which the log is folded in
 *    48   8  mark.epoch
 *    56   8  mark.hash
 *    64   8  next_segment_id
 *    72   8  live_count
 *    80   8  logical_bytes    of live points
 *    88   4  slot_end
 *    92   4  chunk_count
 *    96      segments: id u64, uid u64, file_bytes u64
 *            chunks, ascending: number u32, segment u16 (place in the list above), kind u16,
 *              place u32 (of the chunk in that segment; version 1 has none: it is the place of the
 *              chunk with this number), then
 *              kind 0  all slots live
 *              kind 1  count u16, the offsets of the dead slots, u16 each, ascending
 *              kind 2  512 bytes, a bit per slot, set = live
 *     end-4 4  crc32c         of all before
 *
 * A chunk can be in several segments (while it was not full, checkpoints wrote it again); the
 * manifest says which one counts, and which number it has: chunks are numbered anew, in the same
 * order, when numbers run short (renumber.c). Their segments keep the numbers of before. */
#ifndef DP_MANIFEST_H
#define DP_MANIFEST_H
#include "storage/segment.h"

#define DP_MANIFEST_VERSION 2u
#define DP_MANIFEST_PLACE_BY_NUMBER UINT32_MAX
#define DP_MANIFEST_NAME "manifest"
#define DP_CHUNK_WORDS (DP_CHUNK_SLOTS / 64)

typedef struct {
    uint32_t chunk;
    uint32_t segment;              /* place in segments */
    uint32_t place;                /* in that segment; or DP_MANIFEST_PLACE_BY_NUMBER */
    uint32_t used;                 /* not in the file: known from the segment; encode needs it */
    uint64_t live[DP_CHUNK_WORDS]; /* decode sets bits up to the chunk's end, for kinds 0 and 1 */
} dp_manifest_chunk;

typedef struct {
    ort_tenant_id tenant;
    ort_collection_id shard;
    uint64_t generation;
    dp_log_mark mark;
    uint64_t next_segment_id;
    uint64_t live_count, logical_bytes;
    uint32_t slot_end;
    uint32_t segment_count, chunk_count;
    dp_segment_ref *segments;
    dp_manifest_chunk *chunks;
} dp_manifest;

void dp_manifest_fini(dp_manifest *manifest);

/* Appends the file's bytes; ask ort_buf_check(). */
void dp_manifest_encode(const dp_manifest *manifest, ort_buf *out);

/* ORT_ECORRUPT, ORT_EVERSION, ORT_ENOMEM: *out is empty. */
ORT_NODISCARD ort_err dp_manifest_decode(const void *bytes, size_t n, dp_manifest *out,
                                         ort_diag *diag);

/* Reads the file. ORT_ENOTFOUND: there is none. */
ORT_NODISCARD ort_err dp_manifest_read(int dir_fd, dp_manifest *out, uint64_t *bytes_out,
                                       ort_diag *diag);

/* Replaces the file. *switched_out: the new one may be what a crash would leave, also when this
 * fails: nothing that the old or the new one names may be removed then. */
ORT_NODISCARD ort_err dp_manifest_replace(int dir_fd, const dp_manifest *manifest,
                                          uint64_t *bytes_out, bool *switched_out, ort_diag *diag);
#endif /* DP_MANIFEST_H */
