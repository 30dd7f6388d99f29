/* Segments: written, front to back, the header last. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/id.h"
#include "base/point.h"
#include "storage/chunk.h"
#include "storage/codec.h"
#include "storage/io.h"
#include "storage/segment_internal.h"

#define BUFFER_BYTES (256u << 10)
#define PRESENT_BYTES (DP_CHUNK_SLOTS / 8)

/* Written bytes are handed to the disk as they come, and never more than this are on the way: one
 * sync of everything at the end would stand in the way of the log's own for as long as it takes. */
#define PUSH_BYTES (UINT64_C(1) << 20)

#define NAP_NS UINT64_C(10000000)

typedef struct {
    const dp_segment_source *source;
    int fd;
    uint64_t at;     /* of the buffer's first byte in the file */
    uint64_t pushed; /* up to here the disk has them */
    uint64_t began_ns;
    ort_buf buffer;
    ort_buf index; /* sections, encoded */
    ort_buf crcs;  /* u32 each */
    uint32_t section_count;

    /* The section being written. */
    dp_section section;
    uint32_t crc;
    size_t crc_bytes; /* in the present span */

    uint32_t slots, order_count;
    uint32_t *order;
    unsigned char *ids; /* 17 * slots, for sorting */
    ort_err err;
    ort_diag *diag;
} writer;

/* Waits until so much may have been written, in naps that end soon after somebody is in a hurry. */
static void
keep_pace(const writer *w)
{
    const dp_segment_source *source = w->source;
    if (source->bytes_per_s == 0) {
        return;
    }
    const double due_s = (double)(w->at - DP_SEGMENT_HEADER_BYTES) / (double)source->bytes_per_s;
    const uint64_t due_ns = w->began_ns + (uint64_t)(due_s * 1e9);
    while (source->hurry == NULL || !atomic_load(source->hurry)) {
        const uint64_t now = ort_mono_ns();
        if (now >= due_ns) {
            return;
        }
        const struct timespec nap = {.tv_nsec =
                                         (long)(due_ns - now < NAP_NS ? due_ns - now : NAP_NS)};
        nanosleep(&nap, NULL);
    }
}

static void
flush(writer *w)
{
    if (w->err == ORT_OK && w->buffer.failed) {
        w->err = ort_fail(w->diag, ORT_ENOMEM, "write a segment");
    }
    if (w->err == ORT_OK && w->buffer.len > 0) {
        w->err = dp_io_write(w->fd, w->buffer.data, w->buffer.len, w->at, w->diag);
        w->at += w->buffer.len;
        ort_point("segment.written");
    }
    if (w->err == ORT_OK && w->buffer.len > 0) {
        w->err = dp_io_push(w->fd, w->at - w->buffer.len, w->buffer.len, false, w->diag);
        if (w->err == ORT_OK && w->at - w->pushed > PUSH_BYTES) {
            w->err = dp_io_push(w->fd, w->pushed, w->at - PUSH_BYTES - w->pushed, true, w->diag);
            w->pushed = w->at - PUSH_BYTES;
        }
        keep_pace(w);
    }
    ort_buf_clear(&w->buffer);
}

static uint64_t
position(const writer *w)
{
    return w->at + w->buffer.len;
}

static void
crc_end_span(writer *w)
{
    ort_buf_put_u32(&w->crcs, w->crc);
    w->crc = 0;
    w->crc_bytes = 0;
}

/* Bytes of the section. */
static void
put(writer *w, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    w->section.bytes += n;
    while (n > 0 && w->err == ORT_OK) {
        size_t step = DP_SEGMENT_CRC_SPAN - w->crc_bytes;
        step = step > n ? n : step;
        ort_buf_put(&w->buffer, p, step);
        w->crc = ort_crc32c(w->crc, p, step);
        w->crc_bytes += step;
        if (w->crc_bytes == DP_SEGMENT_CRC_SPAN) {
            crc_end_span(w);
        }
        if (w->buffer.len >= BUFFER_BYTES || w->buffer.failed) {
            flush(w);
        }
        p += step;
        n -= step;
    }
}

static void
pad(writer *w, uint64_t align)
{
    static const unsigned char zeros[4096];
    const size_t n = (size_t)((align - position(w) % align) % align);
    ort_buf_put(&w->buffer, zeros, n);
}

static void
begin(writer *w, dp_section_kind kind, uint32_t column_id, const dp_column *column)
{
    pad(w, kind == DP_SECTION_ROWS ? 4096 : 64);
    w->section = (dp_section){.kind = kind,
                              .column_id = column_id,
                              .crc_first = (uint32_t)(w->crcs.len / 4),
                              .offset = position(w)};
    if (column != NULL) {
        w->section.type = (uint32_t)column->type;
        w->section.dim = column->dim;
        w->section.stride = dp_column_stride(column);
    }
}

static void
end(writer *w)
{
    if (w->crc_bytes > 0) {
        crc_end_span(w);
    }
    ort_buf_put_u16(&w->index, (uint16_t)w->section.kind);
    ort_buf_put_u16(&w->index, 0);
    ort_buf_put_u32(&w->index, w->section.column_id);
    ort_buf_put_u32(&w->index, w->section.type);
    ort_buf_put_u32(&w->index, w->section.dim);
    ort_buf_put_u32(&w->index, w->section.stride);
    ort_buf_put_u32(&w->index, w->section.crc_first);
    ort_buf_put_u64(&w->index, w->section.offset);
    ort_buf_put_u64(&w->index, w->section.bytes);
    w->section_count++;
}

static uint32_t
used_of(const writer *w, uint32_t index)
{
    return index + 1 == w->source->chunk_count ? w->source->last_used : DP_CHUNK_SLOTS;
}

/* Walks every slot of the source with its position. */
#define EACH_SLOT(w, i, s, slot)                                                  \
    for (uint32_t i = 0; i < (w)->source->chunk_count && (w)->err == ORT_OK; i++) \
        for (uint32_t s = 0, slot = (w)->source->chunks[i] * DP_CHUNK_SLOTS;      \
             s < used_of(w, i) && (w)->err == ORT_OK; s++, slot++)

static void
write_dense(writer *w, uint32_t column)
{
    const dp_column *c = &w->source->columns[column];
    const uint32_t stride = dp_column_stride(c);
    unsigned char bits[PRESENT_BYTES];
    bool any = false;

    for (uint32_t i = 0; i < w->source->chunk_count && !any; i++) {
        for (uint32_t s = 0; s < used_of(w, i) && !any; s++) {
            any =
                dp_points_has(w->source->reader, column, w->source->chunks[i] * DP_CHUNK_SLOTS + s);
        }
    }
    if (!any) {
        return;
    }
    unsigned char *zeros = calloc(1, stride);
    if (zeros == NULL) {
        w->err = ort_fail(w->diag, ORT_ENOMEM, "a row");
        return;
    }
    begin(w, DP_SECTION_ROWS, c->id, c);
    EACH_SLOT(w, i, s, slot)
    {
        const void *row = dp_points_row(w->source->reader, column, slot);
        put(w, row != NULL ? row : zeros, stride);
    }
    end(w);
    free(zeros);
    begin(w, DP_SECTION_PRESENT, c->id, c);
    for (uint32_t i = 0; i < w->source->chunk_count; i++) {
        memset(bits, 0, sizeof bits);
        for (uint32_t s = 0; s < used_of(w, i); s++) {
            if (dp_points_has(w->source->reader, column,
                              w->source->chunks[i] * DP_CHUNK_SLOTS + s)) {
                bits[s / 8] |= (unsigned char)(1u << (s % 8));
            }
        }
        put(w, bits, sizeof bits);
    }
    end(w);
}

static int
id_order(const void *a, const void *b, void *ctx)
{
    const writer *w = ctx;
    ort_point_id x = {0}, y = {0};
    const ort_err ex =
        ort_point_id_decode(w->ids + (size_t) * (const uint32_t *)a * ORT_POINT_ID_BYTES, &x);
    const ort_err ey =
        ort_point_id_decode(w->ids + (size_t) * (const uint32_t *)b * ORT_POINT_ID_BYTES, &y);
    (void)ex; /* encoded a moment ago */
    (void)ey;
    return ort_point_id_cmp(x, y);
}

static void
write_ids(writer *w)
{
    unsigned char bytes[8];
    uint32_t p = 0;
    bool sorted = true;

    w->ids = malloc((size_t)w->slots * ORT_POINT_ID_BYTES);
    w->order = malloc((size_t)w->slots * sizeof *w->order);
    if (w->ids == NULL || w->order == NULL) {
        w->err = ort_fail(w->diag, ORT_ENOMEM, "ids of %" PRIu32 " slots", w->slots);
        return;
    }
    begin(w, DP_SECTION_IDS, 0, NULL);
    EACH_SLOT(w, i, s, slot)
    {
        unsigned char *id = w->ids + (size_t)p * ORT_POINT_ID_BYTES;
        ort_point_id_encode(dp_points_id(w->source->reader, slot), id);
        put(w, id, ORT_POINT_ID_BYTES);
        if (w->source->live(w->source->ctx, slot)) {
            w->order[w->order_count] = p;
            if (w->order_count > 0 &&
                id_order(&w->order[w->order_count - 1], &w->order[w->order_count], w) >= 0) {
                sorted = false;
            }
            w->order_count++;
        }
        p++;
    }
    end(w);
    begin(w, DP_SECTION_VERSIONS, 0, NULL);
    EACH_SLOT(w, i, s, slot)
    {
        ort_put_u64(bytes, dp_points_version(w->source->reader, slot));
        put(w, bytes, 8);
    }
    end(w);
    if (!sorted) {
        qsort_r(w->order, w->order_count, sizeof *w->order, id_order, w);
    }
    begin(w, DP_SECTION_ORDER, 0, NULL);
    for (uint32_t i = 0; i < w->order_count; i++) {
        ort_put_u32(bytes, w->order[i]);
        put(w, bytes, 4);
    }
    end(w);
    begin(w, DP_SECTION_CHUNKS, 0, NULL);
    for (uint32_t i = 0; i < w->source->chunk_count; i++) {
        ort_put_u32(bytes, w->source->chunks[i]);
        put(w, bytes, 4);
    }
    end(w);
}

typedef struct {
    ort_buf raw, packed, blocks, ends;
    uint64_t packed_total, raw_total;
} stream;

static void
close_block(writer *w, stream *st)
{
    if (st->raw.len == 0 || w->err != ORT_OK) {
        return;
    }
    const char *bytes = st->raw.data;
    size_t n = st->raw.len;
    dp_codec codec = DP_CODEC_PLAIN;
    ort_buf_clear(&st->packed);
    char *to = ort_buf_reserve(&st->packed, dp_codec_bound(n));
    if (to == NULL ||
        dp_codec_pack(w->source->packing, st->raw.data, st->raw.len, to, &n, &codec) != ORT_OK) {
        w->err = ort_fail(w->diag, ORT_ENOMEM, "pack a block");
        return;
    }
    bytes = codec != DP_CODEC_PLAIN ? to : bytes;
    ort_buf_put_u64(&st->blocks, st->packed_total);
    ort_buf_put_u64(&st->blocks, st->raw_total - st->raw.len);
    ort_buf_put_u32(&st->blocks, (uint32_t)n);
    ort_buf_put_u32(&st->blocks, (uint32_t)st->raw.len);
    ort_buf_put_u32(&st->blocks, ort_crc32c(0, bytes, n));
    ort_buf_put_u32(&st->blocks, (uint32_t)codec);
    put(w, bytes, n);
    st->packed_total += n;
    ort_buf_clear(&st->raw);
}

/* column UINT32_MAX: the payload. */
static void
put_value(writer *w, stream *st, uint32_t column, uint32_t slot)
{
    const void *data = NULL;
    size_t len = 0;
    const bool payload = column == UINT32_MAX;
    if (w->source->live(w->source->ctx, slot)) {
        const char *text;
        w->err = payload ? dp_points_payload(w->source->reader, slot, &text, &len, w->diag)
                         : dp_points_bytes(w->source->reader, column, slot, &data, &len, w->diag);
        if (w->err != ORT_OK) {
            return;
        }
        data = payload ? text : data;
        if (!payload && data != NULL) {
            ort_buf_put_u8(&st->raw, 1);
            st->raw_total++;
        }
        ort_buf_put(&st->raw, data, len);
        st->raw_total += len;
    }
    ort_buf_put_u64(&st->ends, st->raw_total);
    if (st->raw.failed || st->ends.failed || st->blocks.failed) {
        w->err = ort_fail(w->diag, ORT_ENOMEM, "values of a segment");
    }
    if (st->raw.len >= DP_SEGMENT_RAW_BYTES) {
        close_block(w, st);
    }
}

static void
write_stream(writer *w, uint32_t column)
{
    const uint32_t id = column == UINT32_MAX ? DP_STREAM_PAYLOAD : w->source->columns[column].id;
    stream st = {0};
    begin(w, DP_SECTION_DATA, id, NULL);
    EACH_SLOT(w, i, s, slot)
    {
        put_value(w, &st, column, slot);
    }
    close_block(w, &st);
    if (w->err == ORT_OK && st.blocks.failed) {
        w->err = ort_fail(w->diag, ORT_ENOMEM, "blocks of a segment");
    }
    if (w->err == ORT_OK && st.raw_total > 0) {
        end(w);
        begin(w, DP_SECTION_BLOCKS, id, NULL);
        put(w, st.blocks.data, st.blocks.len);
        end(w);
        begin(w, DP_SECTION_ENDS, id, NULL);
        put(w, st.ends.data, st.ends.len);
        end(w);
    }
    ort_buf_fini(&st.raw);
    ort_buf_fini(&st.packed);
    ort_buf_fini(&st.blocks);
    ort_buf_fini(&st.ends);
}

/* Index, then the header, which makes a segment of it. */
static void
write_index(writer *w, dp_segment_ref *ref)
{
    unsigned char h[DP_SEGMENT_HEADER_BYTES] = {0};
    const dp_segment_source *source = w->source;
    const uint64_t index_offset = position(w);
    const uint32_t crc_count = (uint32_t)(w->crcs.len / 4);

    if (w->index.failed || w->crcs.failed) {
        w->err = ort_fail(w->diag, ORT_ENOMEM, "index of a segment");
        return;
    }
    ort_buf_put(&w->buffer, w->index.data, w->index.len);
    ort_buf_put(&w->buffer, w->crcs.data, w->crcs.len);
    uint32_t crc = ort_crc32c(0, w->index.data, w->index.len);
    crc = ort_crc32c(crc, w->crcs.data, w->crcs.len);
    *ref = (dp_segment_ref){
        .id = source->segment_id, .uid = ort_id_random(), .file_bytes = position(w)};
    flush(w);
    memcpy(h, DP_SEGMENT_MAGIC, 8);
    ort_put_u32(h + 8, DP_SEGMENT_VERSION);
    ort_put_u32(h + 12, w->section_count);
    ort_put_u64(h + 16, source->tenant.v);
    ort_put_u64(h + 24, source->shard.v);
    ort_put_u64(h + 32, ref->id);
    ort_put_u64(h + 40, ref->uid);
    ort_put_u32(h + 48, source->chunk_count);
    ort_put_u32(h + 52, source->last_used);
    ort_put_u32(h + 56, w->order_count);
    ort_put_u32(h + 60, crc_count);
    ort_put_u64(h + 64, index_offset);
    ort_put_u64(h + 72, ref->file_bytes);
    ort_put_u32(h + 80, crc);
    ort_put_u32(h + 84, ort_crc32c(0, h, 84));
    if (w->err == ORT_OK) {
        w->err = dp_io_write(w->fd, h, sizeof h, 0, w->diag);
    }
    if (w->err == ORT_OK) {
        w->err = dp_io_sync(w->fd, "a segment", w->diag);
    }
}

ort_err
dp_segment_write(int dir_fd, const dp_segment_source *source, dp_segment_ref *ref_out,
                 ort_diag *diag)
{
    char name[DP_SEGMENT_NAME_BYTES];
    writer w = {.source = source,
                .fd = -1,
                .at = DP_SEGMENT_HEADER_BYTES,
                .pushed = DP_SEGMENT_HEADER_BYTES,
                .began_ns = ort_mono_ns(),
                .slots = (source->chunk_count - 1) * DP_CHUNK_SLOTS + source->last_used,
                .diag = diag};

    dp_segment_name(source->segment_id, name);
    w.err = dp_io_create(dir_fd, name, &w.fd, diag);
    if (w.err == ORT_OK) {
        write_ids(&w);
    }
    for (uint32_t i = 0; w.err == ORT_OK && i < source->column_count; i++) {
        if (source->columns[i].type == DP_COLUMN_BYTES) {
            write_stream(&w, i);
        } else {
            write_dense(&w, i);
        }
    }
    if (w.err == ORT_OK) {
        write_stream(&w, UINT32_MAX);
    }
    if (w.err == ORT_OK) {
        write_index(&w, ref_out);
    }
    dp_io_close(w.fd);
    ort_buf_fini(&w.buffer);
    ort_buf_fini(&w.index);
    ort_buf_fini(&w.crcs);
    free(w.order);
    free(w.ids);
    if (w.err != ORT_OK) {
        ort_diag_prefix(diag, "%s", name);
    }
    return w.err;
}
