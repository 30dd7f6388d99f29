/* data-plane/storage/chunk.h: 4096 slots, in memory or in a segment, read alike. */
#ifndef DP_CHUNK_H
#define DP_CHUNK_H
#include "storage/segment.h"

/* Bytes of one value in memory: a payload, a bytes column's value. data NULL: none. */
typedef struct {
    const char *data;
    size_t len;
} dp_chunk_value;

/* Of a dense column: where rows and their bits stand. */
typedef struct {
    const unsigned char *rows;    /* NULL: nobody has one */
    const unsigned char *present; /* 512 bytes, little-endian words; NULL: nobody */
} dp_chunk_rows;

/* What it says never changes for a slot that was given out. Published with a release store, freed
 * when no reader can hold it. */
typedef struct dp_chunk {
    /* In a segment, from position base on. Otherwise segment is NULL, and values are in memory. */
    const dp_segment *segment;
    uint32_t base;

    const unsigned char *ids;      /* 17 bytes each */
    const unsigned char *versions; /* 8 bytes each */
    dp_chunk_value *values;        /* memory: [1 + bytes columns][4096] */

    unsigned char *map; /* memory: all of the above, and rows */
    size_t map_bytes;
    bool dropped; /* of checkpoints: the manifest has forgotten it, readers may hold it */
    struct dp_chunk_block *blocks; /* memory: what the values point into */
    size_t block_bytes;

    dp_chunk_rows columns[]; /* [dense columns] */
} dp_chunk;

/* The columns as chunks see them: dense ones and bytes ones, each numbered among their kind. */
typedef struct {
    dp_column *columns; /* as given */
    uint32_t *place;    /* [column]: among its kind */
    uint32_t *stride;   /* [column]: of dense ones */
    uint32_t count, dense_count, bytes_count;
} dp_chunk_layout;

ORT_NODISCARD ort_err dp_chunk_layout_init(dp_chunk_layout *layout, const dp_points_layout *from,
                                           ort_diag *diag);
void dp_chunk_layout_fini(dp_chunk_layout *layout);

/* Bytes of an element; of a row without padding; from row to row. */
uint32_t dp_column_elem_bytes(dp_column_type type);
uint32_t dp_column_row_bytes(const dp_column *column);
uint32_t dp_column_stride(const dp_column *column);

/* An empty chunk in memory. Pages come as they are written. */
ORT_NODISCARD ort_err dp_chunk_new(dp_chunk **out, const dp_chunk_layout *layout, ort_diag *diag);

/* Chunk `index` of a segment; borrows the segment.
 * ORT_EINVAL: a column of the segment contradicts the layout. */
ORT_NODISCARD ort_err dp_chunk_of_segment(dp_chunk **out, const dp_chunk_layout *layout,
                                          const dp_segment *segment, uint32_t index,
                                          ort_diag *diag);
void dp_chunk_free(dp_chunk *chunk); /* NULL is fine */

/* Copies bytes into the chunk; what is returned lives as long as it. NULL: no memory. Memory only.
 */
char *dp_chunk_keep(dp_chunk *chunk, const void *bytes, size_t len);

/* Writers' views of a chunk in memory. */
void dp_chunk_set(dp_chunk *chunk, uint32_t offset, ort_point_id id, uint64_t version);
unsigned char *dp_chunk_row(dp_chunk *chunk, uint32_t dense, uint32_t stride, uint32_t offset);
void dp_chunk_set_present(dp_chunk *chunk, uint32_t dense, uint32_t offset, bool present);

static inline bool
dp_chunk_has(const dp_chunk *chunk, uint32_t dense, uint32_t offset)
{
    /* Bits of other slots in this byte may be set meanwhile, never this one. */
    const unsigned char *present = chunk->columns[dense].present;
    return present != NULL &&
           (__atomic_load_n(&present[offset / 8], __ATOMIC_RELAXED) >> (offset % 8) & 1) != 0;
}
#endif /* DP_CHUNK_H */
