/* data-plane/collection/snapshot_internal.h: the blocks that a snapshot is made of. */
#ifndef DP_SNAPSHOT_INTERNAL_H
#define DP_SNAPSHOT_INTERNAL_H
#include "base/buf.h"
#include "collection/op_internal.h"
#include "collection/shard_internal.h"
#include "collection/snapshot.h"

#define DP_SNAPSHOT_VERSION 1u
#define DP_SNAPSHOT_HEAD_BYTES 16u
#define DP_SNAPSHOT_BLOCK_HEAD_BYTES 24u
#define DP_SNAPSHOT_BLOCK_BYTES \
    (1u << 20) /* of points: a block ends with the point that passes it */
#define DP_SNAPSHOT_PLAIN_BYTES_MAX                                                             \
    (80u << 20)                                /* one point of any size we store, and its block \
                                                */
#define DP_SNAPSHOT_TEXT_BYTES_MAX (16u << 20) /* of a block of JSON */
#define DP_SNAPSHOT_LEVEL 3                    /* of zstd; its own default */
#define DP_SNAPSHOT_LSN_MAX (UINT64_C(1) << 62)

typedef enum {
    DP_SNAPSHOT_BLOCK_ABOUT = 1,
    DP_SNAPSHOT_BLOCK_COLLECTION = 2,
    DP_SNAPSHOT_BLOCK_POINTS = 3,
    DP_SNAPSHOT_BLOCK_END = 4,
} dp_snapshot_block;

struct dp_snapshot_writer {
    int fd;
    dp_snapshot_kind kind;
    dp_snapshot_bounds bounds;
    uint64_t at; /* bytes written */
    uint32_t sequence;
    ort_sha256 digest;
    void *zstd; /* ZSTD_CCtx */
    ort_buf plain, stored;
    dp_snapshot_totals totals;
};

struct dp_snapshot_reader {
    int fd;
    dp_snapshot_bounds bounds;
    uint64_t at, size;
    uint32_t sequence;
    ort_sha256 digest;
    ort_hash digest_before; /* of all bytes before the block at hand */
    void *zstd;             /* ZSTD_DCtx */
    ort_buf stored, plain;  /* the block at hand */
    dp_snapshot_block type;

    dp_snapshot_about about;
    const char **regions;

    dp_snapshot_item item;
    dp_log_mark mark;
    char name[ORT_COLLECTION_NAME_BYTES_MAX + 1];
    char **aliases;
    size_t alias_count;
    bool filled;
    dp_snapshot_totals totals;
};

/* Packs writer->plain into a block and writes it; plain is empty then. */
ort_err dp_snapshot__write_block(dp_snapshot_writer *w, dp_snapshot_block type, ort_diag *diag);
ort_err dp_snapshot__write(dp_snapshot_writer *w, const void *bytes, size_t n, ort_diag *diag);

/* Reads the next block into reader->plain, checked and unpacked. ORT_EINVAL: it is none. */
ort_err dp_snapshot__read_block(dp_snapshot_reader *r, ort_diag *diag);
ort_err dp_snapshot__read(dp_snapshot_reader *r, void *bytes, size_t n, ort_diag *diag);

ort_err dp_snapshot__check(const dp_snapshot_bounds *bounds, ort_diag *diag);

/* "snapshot: .." */
ort_err dp_snapshot__bad(ort_diag *diag, const char *fmt, ...) ORT_PRINTF(2, 3);

/* snapshot_points.c: a block of points.
 *
 * Begin an empty one, put points, end it; to read: check it against the schema, which gives its
 * points and logical bytes, then walk it as the operation it is. */
void dp_snapshot__points_begin(ort_buf *plain);
ort_err dp_snapshot__points_put(ort_buf *plain, ort_buf *versions, dp_shard *s, dp_reader *reader,
                                uint32_t slot, ort_diag *diag);
void dp_snapshot__points_end(ort_buf *plain, const ort_buf *versions, uint32_t count);

typedef struct {
    dp_op_record record;
    const unsigned char *versions; /* 8 bytes each */
    uint32_t count;
} dp_snapshot_points;

/* ORT_EINVAL: not a block of points, or one that no collection of this schema can hold. */
ort_err dp_snapshot__points_open(dp_snapshot_points *out, const ort_buf *plain,
                                 const dp_schema *schema, uint64_t lsn_max, ort_diag *diag);
#endif /* DP_SNAPSHOT_INTERNAL_H */
