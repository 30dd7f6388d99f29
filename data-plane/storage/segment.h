/* data-plane/storage/segment.h: an immutable file of whole chunks, written once and then mapped.
 *
 * File `seg.<id, 16 hex digits>`. All integers little-endian. n is the number of slots in it: all
 * chunks are full but the last, which may hold fewer. A slot's position p in the file is its
 * chunk's place in CHUNKS times 4096 plus the slot's low 12 bits.
 *
 *   header    0   8  magic         "ORTSEG\0\1"
 *             8   4  version       2
 *            12   4  section_count
 *            16   8  tenant_id
 *            24   8  shard_id
 *            32   8  segment_id
 *            40   8  uid           random; the manifest names it too
 *            48   4  chunk_count   1 ..
 *            52   4  last_used     slots of the last chunk, 1 .. 4096
 *            56   4  order_count   slots that were live when it was written
 *            60   4  crc_count     checksums in the index
 *            64   8  index_offset
 *            72   8  file_bytes
 *            80   4  index_crc32c
 *            84   4  crc32c        of bytes 0..83
 *            88      zeros up to 4096
 *
 *   sections, each at a multiple of 64, rows at a multiple of 4096:
 *     1 CHUNKS          4 * chunk_count   numbers of the chunks, ascending
 *     2 IDS            17 * n             ids, as base/point_id.h encodes them
 *     3 VERSIONS        8 * n
 *     4 ORDER           4 * order_count   positions in the order of their ids
 *     5 PRESENT(c)    512 * chunk_count   bit p: the point has a row in dense column c
 *     6 ROWS(c)    stride * n             rows of dense column c
 *     7 ENDS(s)         8 * n             where the slot's bytes end in stream s, unpacked
 *     8 BLOCKS(s)      32 * blocks        offset u64 in DATA, start u64 unpacked, packed u32,
 *                                         unpacked u32, crc32c u32 of the packed bytes, codec u32
 *                                         (0 plain, 1 zstd; 2 lz4, since
 *                                         version 2)
 *     9 DATA(s)                           packed blocks, one behind the other
 *     Stream 0 is the payload; stream c + 1 is the bytes column c. In a bytes column each value has
 *     one byte before it, so that an empty value is told from none: 1. A value never crosses
 * blocks. A column without any value has no sections.
 *
 *   index     section_count times:
 *             0   2  kind
 *             2   2  zero
 *             4   4  column id (5..9: of the stream; the payload's is 0xffffffff)
 *             8   4  column type   5, 6: dp_column_type
 *            12   4  dim           likewise
 *            16   4  stride        6
 *            20   4  first of its checksums in the list below
 *            24   8  offset
 *            32   8  bytes
 *             then crc_count u32: CRC-32C of each MiB of each section, in their order
 *
 * The index is checked at open, and so are all sections but ROWS and DATA; ROWS are checked when
 * dp_segment_check_rows() is asked, blocks of DATA each time they are unpacked. No offset or count
 * is believed before it was compared with the size of the file. */
#ifndef DP_SEGMENT_H
#define DP_SEGMENT_H
#include "base/buf.h"
#include "storage/points.h"

#define DP_SEGMENT_VERSION 2u
#define DP_SEGMENT_HEADER_BYTES 4096u
#define DP_SEGMENT_SECTION_BYTES 40u
#define DP_SEGMENT_BLOCK_BYTES 32u
#define DP_SEGMENT_CRC_SPAN (1u << 20)
#define DP_SEGMENT_SECTIONS_MAX (5u + 5u * (DP_COLUMNS_MAX + 1u))
#define DP_STREAM_PAYLOAD UINT32_MAX /* its column id */

typedef enum {
    DP_SECTION_CHUNKS = 1,
    DP_SECTION_IDS = 2,
    DP_SECTION_VERSIONS = 3,
    DP_SECTION_ORDER = 4,
    DP_SECTION_PRESENT = 5,
    DP_SECTION_ROWS = 6,
    DP_SECTION_ENDS = 7,
    DP_SECTION_BLOCKS = 8,
    DP_SECTION_DATA = 9,
} dp_section_kind;

typedef struct {
    dp_section_kind kind;
    uint32_t column_id;
    uint32_t type, dim, stride;
    uint32_t crc_first;
    uint64_t offset, bytes;
    _Atomic(int) state;       /* of ROWS: dp_section_state */
    _Atomic(uint64_t) *spans; /* likewise: a bit for each that was found good */
} dp_section;

typedef enum { DP_SECTION_UNCHECKED, DP_SECTION_GOOD, DP_SECTION_BAD } dp_section_state;

/* Rows of a dense column in a segment; NULL pointers: the column is not in it. */
typedef struct {
    const unsigned char *rows, *present;
    uint32_t stride;
} dp_segment_column;

/* Opaque. Immutable once open. Threads: any number. */
typedef struct dp_segment dp_segment;

#define DP_SEGMENT_NAME_BYTES 32u
void dp_segment_name(uint64_t id, char out[DP_SEGMENT_NAME_BYTES]);

typedef struct {
    uint64_t id, uid, file_bytes;
} dp_segment_ref;

/* Opens and maps it, checks all but rows and data.
 * ORT_ECORRUPT, ORT_EVERSION, ORT_EIO, ORT_ENOMEM; diag names the file. */
ORT_NODISCARD ort_err dp_segment_open(dp_segment **out, int dir_fd, const dp_segment_ref *ref,
                                      ort_tenant_id tenant, ort_collection_id shard,
                                      ort_diag *diag);
void dp_segment_close(dp_segment *segment); /* NULL is fine */

/* False: the disk could not give a page of it since it was opened, and zeros were read instead. For
 * good; ask after reading and before believing. */
bool dp_segment_is_readable(const dp_segment *segment);

/* The same over bytes in memory, which are borrowed: for tests of the decoder. */
ORT_NODISCARD ort_err dp_segment_open_bytes(dp_segment **out, const void *bytes, size_t n,
                                            ort_diag *diag);

dp_segment_ref dp_segment_get_ref(const dp_segment *segment);
uint64_t dp_segment_bytes(const dp_segment *segment);

/* Slots in it, and the number of its chunk at `index`: as the file says, and as the manifest does.
 */
uint32_t dp_segment_slots(const dp_segment *segment);
uint32_t dp_segment_chunk_count(const dp_segment *segment);
uint32_t dp_segment_chunk(const dp_segment *segment, uint32_t index);
uint32_t dp_segment_chunk_now(const dp_segment *segment, uint32_t index);

/* The manifest's word: no number is known but those that are set from then on. Before readers. */
void dp_segment_forget_chunks(dp_segment *segment);
void dp_segment_set_chunk(dp_segment *segment, uint32_t index, uint32_t number);
uint32_t dp_segment_chunk_used(const dp_segment *segment, uint32_t index);

/* By position. */
const unsigned char *dp_segment_ids(const dp_segment *segment);      /* 17 bytes each */
const unsigned char *dp_segment_versions(const dp_segment *segment); /* 8 bytes each */

/* ORT_EINVAL: the column is there with another type or dim. */
ORT_NODISCARD ort_err dp_segment_column_of(const dp_segment *segment, const dp_column *column,
                                           dp_segment_column *out, ort_diag *diag);

/* The ids that were live when it was written, in their order: how many, and the one at rank. Slot
 * DP_SLOT_NONE: of a chunk that the manifest has elsewhere, or not at all. */
uint32_t dp_segment_order_count(const dp_segment *segment);
dp_id_slot dp_segment_order(const dp_segment *segment, uint32_t rank);

/* The rank of the first id at or behind `id`. */
uint32_t dp_segment_seek(const dp_segment *segment, ort_point_id id);

/* Where the bytes of position p stand in a stream: block and place in it. *len_out 0 and block
 * untouched: no bytes. ORT_ECORRUPT: a value crosses blocks. */
typedef struct {
    uint32_t block;
    uint32_t at, len;
} dp_segment_place;
ORT_NODISCARD ort_err dp_segment_locate(const dp_segment *segment, uint32_t column_id, uint32_t p,
                                        dp_segment_place *out, ort_diag *diag);

/* Unpacks a block into `out` (cleared first). ORT_ECORRUPT, ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_segment_unpack(const dp_segment *segment, uint32_t column_id,
                                        uint32_t block, ort_buf *out, ort_diag *diag);

/* Compares the rows of a column with their checksums, once; and everything, every time, with
 * `order` and ends checked too: for verification. */
ORT_NODISCARD ort_err dp_segment_check_rows(dp_segment *segment, uint32_t column_id,
                                            ort_diag *diag);

/* The same for a few bytes of rows, by the spans that they stand in, each once. Bytes that are no
 * rows of it are no business of this. */
ORT_NODISCARD ort_err dp_segment_check_at(const dp_segment *segment, const void *bytes, size_t n,
                                          ort_diag *diag);
ORT_NODISCARD ort_err dp_segment_verify(dp_segment *segment, ort_diag *diag);
ORT_NODISCARD ort_err dp_segment_verify_paced(dp_segment *segment, dp_pace_fn pace, void *arg,
                                              ort_diag *diag);

/* --- writing ------------------------------------------------------------------------------- */

/* What goes in, asked for chunk by chunk. */
typedef struct {
    ort_tenant_id tenant;
    ort_collection_id shard;
    uint64_t segment_id;
    dp_packing packing;
    const dp_column *columns;
    uint32_t column_count;
    const uint32_t *chunks; /* ascending */
    uint32_t chunk_count;
    uint32_t last_used;
    bool (*live)(void *ctx, uint32_t slot); /* dead slots keep id and rows, and no bytes */
    dp_reader *reader;                      /* where all else is read */
    uint64_t bytes_per_s;                   /* 0: no bound */
    const atomic_bool *hurry;               /* NULL, or: when true, no bound any more */
    void *ctx;
} dp_segment_source;

/* Writes the file and makes it durable (the directory is the caller's). *bytes_out of it.
 * ORT_EIO, ORT_ENOSPC, ORT_ENOMEM, ORT_ECORRUPT (of what was read): the file may be there in part.
 */
ORT_NODISCARD ort_err dp_segment_write(int dir_fd, const dp_segment_source *source,
                                       dp_segment_ref *ref_out, ort_diag *diag);
#endif /* DP_SEGMENT_H */
