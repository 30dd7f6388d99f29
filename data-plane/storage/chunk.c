/* Chunks: memory laid out like a segment's sections. */
#include "storage/chunk.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/limits.h"

#define PAGE 4096u
#define PRESENT_BYTES (DP_CHUNK_SLOTS / 8)
#define BLOCK_BYTES_MIN 1024u
#define BLOCK_BYTES_MAX (256u << 10)

/* Values are carved out of blocks that grow with the chunk. */
typedef struct dp_chunk_block {
    struct dp_chunk_block *before;
    size_t used, cap;
    char bytes[];
} chunk_block;

uint32_t
dp_column_elem_bytes(dp_column_type type)
{
    switch (type) {
    case DP_COLUMN_F32:
        return 4;
    case DP_COLUMN_F16:
        return 2;
    case DP_COLUMN_U8:
        return 1;
    case DP_COLUMN_BYTES:
        break;
    }
    return 0;
}

uint32_t
dp_column_row_bytes(const dp_column *column)
{
    return column->dim * dp_column_elem_bytes(column->type);
}

/* Rows of 256 bytes and more begin on a cache line: the padding costs at most a fifth, a row that
 * straddles lines costs every distance a line more. Shorter ones are packed to 4 bytes. */
uint32_t
dp_column_stride(const dp_column *column)
{
    const uint32_t bytes = dp_column_row_bytes(column);
    return bytes >= 256 ? (bytes + 63) & ~63u : (bytes + 3) & ~3u;
}

ort_err
dp_chunk_layout_init(dp_chunk_layout *layout, const dp_points_layout *from, ort_diag *diag)
{
    const uint32_t n = from->column_count;
    *layout = (dp_chunk_layout){.count = n};
    if (n > DP_COLUMNS_MAX) {
        return ort_fail(diag, ORT_EINVAL, "%u columns, at most %u", n, DP_COLUMNS_MAX);
    }
    layout->columns = calloc(n + 1, sizeof *layout->columns);
    layout->place = calloc(n + 1, sizeof *layout->place);
    layout->stride = calloc(n + 1, sizeof *layout->stride);
    if (layout->columns == NULL || layout->place == NULL || layout->stride == NULL) {
        dp_chunk_layout_fini(layout);
        return ort_fail(diag, ORT_ENOMEM, "layout");
    }
    for (uint32_t i = 0; i < n; i++) {
        const dp_column *c = &from->columns[i];
        const bool bytes = c->type == DP_COLUMN_BYTES;
        bool good = bytes
                        ? c->dim == 0
                        : dp_column_elem_bytes(c->type) > 0 && c->dim >= 1 && c->dim <= ORT_DIM_MAX;
        for (uint32_t k = 0; k < i; k++) {
            good = good && from->columns[k].id != c->id;
        }
        if (!good || c->id == DP_STREAM_PAYLOAD) {
            dp_chunk_layout_fini(layout);
            return ort_fail(diag, ORT_EINVAL, "column %u: id %u, type %u, dim %u", i, c->id,
                            (unsigned)c->type, c->dim);
        }
        layout->columns[i] = *c;
        layout->place[i] = bytes ? layout->bytes_count++ : layout->dense_count++;
        layout->stride[i] = bytes ? 0 : dp_column_stride(c);
    }
    return ORT_OK;
}

void
dp_chunk_layout_fini(dp_chunk_layout *layout)
{
    free(layout->columns);
    free(layout->place);
    free(layout->stride);
    *layout = (dp_chunk_layout){0};
}

static size_t
pages(size_t n)
{
    return (n + PAGE - 1) / PAGE * PAGE;
}

static dp_chunk *
chunk_alloc(const dp_chunk_layout *layout)
{
    return calloc(1, sizeof(dp_chunk) + layout->dense_count * sizeof(dp_chunk_rows));
}

ort_err
dp_chunk_new(dp_chunk **out, const dp_chunk_layout *layout, ort_diag *diag)
{
    const size_t values = (size_t)(1 + layout->bytes_count) * DP_CHUNK_SLOTS;
    size_t at = pages(values * sizeof(dp_chunk_value));
    const size_t ids_at = at;
    at += pages((size_t)DP_CHUNK_SLOTS * ORT_POINT_ID_BYTES);
    const size_t versions_at = at;
    at += (size_t)DP_CHUNK_SLOTS * 8;
    const size_t present_at = at;
    at += pages((size_t)layout->dense_count * PRESENT_BYTES);
    size_t total = at;
    for (uint32_t i = 0; i < layout->count; i++) {
        total += pages((size_t)DP_CHUNK_SLOTS * layout->stride[i]);
    }

    *out = NULL;
    dp_chunk *chunk = chunk_alloc(layout);
    void *map = chunk == NULL ? MAP_FAILED
                              : mmap(NULL, total, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        free(chunk);
        return ort_fail(diag, ORT_ENOMEM, "a chunk of %zu bytes", total);
    }
    chunk->map = map;
    chunk->map_bytes = total;
    chunk->values = (dp_chunk_value *)map;
    chunk->ids = chunk->map + ids_at;
    chunk->versions = chunk->map + versions_at;
    for (uint32_t i = 0; i < layout->count; i++) {
        if (layout->stride[i] != 0) {
            const uint32_t dense = layout->place[i];
            chunk->columns[dense].present = chunk->map + present_at + dense * PRESENT_BYTES;
            chunk->columns[dense].rows = chunk->map + at;
            at += pages((size_t)DP_CHUNK_SLOTS * layout->stride[i]);
        }
    }
    *out = chunk;
    return ORT_OK;
}

ort_err
dp_chunk_of_segment(dp_chunk **out, const dp_chunk_layout *layout, const dp_segment *segment,
                    uint32_t index, ort_diag *diag)
{
    *out = NULL;
    dp_chunk *chunk = chunk_alloc(layout);
    if (chunk == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "a chunk");
    }
    chunk->segment = segment;
    chunk->base = index * DP_CHUNK_SLOTS;
    chunk->ids = dp_segment_ids(segment) + (size_t)chunk->base * ORT_POINT_ID_BYTES;
    chunk->versions = dp_segment_versions(segment) + (size_t)chunk->base * 8;
    for (uint32_t i = 0; i < layout->count; i++) {
        if (layout->columns[i].type == DP_COLUMN_BYTES) {
            continue;
        }
        dp_segment_column column;
        const ort_err err = dp_segment_column_of(segment, &layout->columns[i], &column, diag);
        if (err != ORT_OK) {
            free(chunk);
            return err;
        }
        if (column.rows != NULL) {
            dp_chunk_rows *rows = &chunk->columns[layout->place[i]];
            rows->rows = column.rows + (size_t)chunk->base * column.stride;
            rows->present = column.present + (size_t)index * PRESENT_BYTES;
        }
    }
    *out = chunk;
    return ORT_OK;
}

void
dp_chunk_free(dp_chunk *chunk)
{
    if (chunk == NULL) {
        return;
    }
    if (chunk->map != NULL) {
        munmap(chunk->map, chunk->map_bytes);
    }
    while (chunk->blocks != NULL) {
        chunk_block *before = chunk->blocks->before;
        free(chunk->blocks);
        chunk->blocks = before;
    }
    free(chunk);
}

char *
dp_chunk_keep(dp_chunk *chunk, const void *bytes, size_t len)
{
    chunk_block *b = chunk->blocks;
    if (b == NULL || b->cap - b->used < len) {
        size_t cap = b == NULL ? BLOCK_BYTES_MIN : 2 * b->cap;
        cap = cap > BLOCK_BYTES_MAX ? BLOCK_BYTES_MAX : cap;
        cap = cap < len ? len : cap;
        b = malloc(sizeof *b + cap);
        if (b == NULL) {
            return NULL;
        }
        *b = (chunk_block){.before = chunk->blocks, .cap = cap};
        chunk->blocks = b;
        chunk->block_bytes += sizeof *b + cap;
    }
    char *to = b->bytes + b->used;
    if (len > 0) {
        memcpy(to, bytes, len);
    }
    b->used += len;
    return to;
}

void
dp_chunk_set(dp_chunk *chunk, uint32_t offset, ort_point_id id, uint64_t version)
{
    ort_point_id_encode(id, (unsigned char *)chunk->ids + (size_t)offset * ORT_POINT_ID_BYTES);
    ort_put_u64((unsigned char *)chunk->versions + (size_t)offset * 8, version);
}

unsigned char *
dp_chunk_row(dp_chunk *chunk, uint32_t dense, uint32_t stride, uint32_t offset)
{
    return (unsigned char *)chunk->columns[dense].rows + (size_t)offset * stride;
}

void
dp_chunk_set_present(dp_chunk *chunk, uint32_t dense, uint32_t offset, bool present)
{
    unsigned char *byte = (unsigned char *)chunk->columns[dense].present + offset / 8;
    const unsigned char bit = (unsigned char)(1u << (offset % 8));
    const unsigned char was = __atomic_load_n(byte, __ATOMIC_RELAXED);
    __atomic_store_n(byte, (unsigned char)(present ? was | bit : was & ~bit), __ATOMIC_RELAXED);
}
