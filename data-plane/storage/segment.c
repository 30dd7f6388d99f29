/* Segments: opened, checked, read. The writer is segment_write.c. */
#include "storage/segment.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/crc32c.h"
#include "base/limits.h"
#include "storage/chunk.h"
#include "storage/codec.h"
#include "storage/io.h"
#include "storage/segment_internal.h"

#define PRESENT_BYTES (DP_CHUNK_SLOTS / 8)
#define CHUNKS_MAX (DP_SLOTS_MAX / DP_CHUNK_SLOTS)
#define ASK_FOR_BYTES (256u << 10)

void
dp_segment_name(uint64_t id, char out[DP_SEGMENT_NAME_BYTES])
{
    snprintf(out, DP_SEGMENT_NAME_BYTES, "seg.%016" PRIx64, id);
}

static const dp_section *
find_section(const dp_segment *s, dp_section_kind kind, uint32_t column_id)
{
    for (uint32_t i = 0; i < s->section_count; i++) {
        if (s->sections[i].kind == kind && s->sections[i].column_id == column_id) {
            return &s->sections[i];
        }
    }
    return NULL;
}

static const unsigned char *
section_bytes(const dp_segment *s, const dp_section *section)
{
    return s->map + section->offset;
}

static uint32_t
crc_spans(uint64_t bytes)
{
    return (uint32_t)((bytes + DP_SEGMENT_CRC_SPAN - 1) / DP_SEGMENT_CRC_SPAN);
}

static size_t
span_bytes(const dp_section *section, uint32_t i)
{
    const uint64_t left = section->bytes - (uint64_t)i * DP_SEGMENT_CRC_SPAN;
    return left < DP_SEGMENT_CRC_SPAN ? (size_t)left : DP_SEGMENT_CRC_SPAN;
}

/* Compares one span with its checksum. Through pread where there is a file: a bad disk is an error
 * there and a signal in mapped memory.
 * room  where to; NULL: the bytes are in memory */
static ort_err
check_span(const dp_segment *s, const dp_section *section, uint32_t i, unsigned char *room,
           ort_diag *diag)
{
    const uint64_t at = (uint64_t)i * DP_SEGMENT_CRC_SPAN;
    const size_t n = span_bytes(section, i);
    const unsigned char *bytes = room != NULL ? room : section_bytes(s, section) + at;
    const unsigned char *want = s->crcs + (size_t)(section->crc_first + i) * 4;
    const ort_err err =
        room != NULL ? dp_io_read(s->fd, room, n, section->offset + at, diag) : ORT_OK;
    if (err == ORT_OK && ort_crc32c(0, bytes, n) != ort_get_u32(want)) {
        return ort_fail(diag, ORT_ECORRUPT,
                        "section %u of column %" PRIu32 ", bytes %" PRIu64 " to %" PRIu64
                        ": the checksum is wrong",
                        (unsigned)section->kind, section->column_id, section->offset + at,
                        section->offset + at + n);
    }
    return err;
}

/* For check_span(); *out NULL, and ORT_OK: none is needed. */
static ort_err
span_room(const dp_segment *s, const dp_section *section, unsigned char **out, ort_diag *diag)
{
    *out = NULL;
    if (s->fd >= 0 && section->bytes > 0) {
        *out = malloc(span_bytes(section, 0));
        if (*out == NULL) {
            return ort_fail(diag, ORT_ENOMEM, "check a segment");
        }
    }
    return ORT_OK;
}

/* Compares a section with its checksums. */
static ort_err
check_section(const dp_segment *s, const dp_section *section, dp_pace_fn pace, void *arg,
              ort_diag *diag)
{
    unsigned char *room;
    ort_err err = span_room(s, section, &room, diag);
    for (uint32_t i = 0; err == ORT_OK && i < crc_spans(section->bytes); i++) {
        err = check_span(s, section, i, room, diag);
        if (err == ORT_OK && pace != NULL && !pace(arg, span_bytes(section, i))) {
            err = ort_fail(diag, ORT_EBUSY, "stopped");
        }
    }
    free(room);
    return err;
}

static ort_err
nonsense(ort_diag *diag, const char *what)
{
    return ort_fail(diag, ORT_ECORRUPT, "%s makes no sense", what);
}

static ort_err
parse_header(dp_segment *s, ort_diag *diag)
{
    const unsigned char *h = s->map;
    if (s->map_bytes < DP_SEGMENT_HEADER_BYTES) {
        return ort_fail(diag, ORT_ECORRUPT, "the file ends in its header");
    }
    if (memcmp(h, DP_SEGMENT_MAGIC, 8) != 0) {
        return ort_fail(diag, ORT_ECORRUPT, "this is no segment");
    }
    if (ort_get_u32(h + 84) != ort_crc32c(0, h, 84)) {
        return ort_fail(diag, ORT_ECORRUPT, "the checksum of the header is wrong");
    }
    s->version = ort_get_u32(h + 8);
    if (s->version == 0 || s->version > DP_SEGMENT_VERSION) {
        return ort_fail(diag, ORT_EVERSION,
                        "segment version %" PRIu32 ", this program knows 1 to %u", s->version,
                        DP_SEGMENT_VERSION);
    }
    for (size_t i = 88; i < DP_SEGMENT_HEADER_BYTES; i++) {
        if (h[i] != 0) {
            return nonsense(diag, "the space behind the header");
        }
    }
    s->section_count = ort_get_u32(h + 12);
    s->tenant = ort_get_u64(h + 16);
    s->shard = ort_get_u64(h + 24);
    s->ref = (dp_segment_ref){
        .id = ort_get_u64(h + 32), .uid = ort_get_u64(h + 40), .file_bytes = ort_get_u64(h + 72)};
    s->chunk_count = ort_get_u32(h + 48);
    s->last_used = ort_get_u32(h + 52);
    s->order_count = ort_get_u32(h + 56);
    s->crc_count = ort_get_u32(h + 60);
    s->index_offset = ort_get_u64(h + 64);
    if (s->chunk_count == 0 || s->chunk_count > CHUNKS_MAX || s->last_used == 0 ||
        s->last_used > DP_CHUNK_SLOTS || s->section_count > DP_SEGMENT_SECTIONS_MAX ||
        s->ref.file_bytes != s->map_bytes) {
        return nonsense(diag, "the header");
    }
    s->slots = (s->chunk_count - 1) * DP_CHUNK_SLOTS + s->last_used;
    const uint64_t index_bytes =
        (uint64_t)s->section_count * DP_SEGMENT_SECTION_BYTES + (uint64_t)s->crc_count * 4;
    if (s->order_count > s->slots || s->index_offset > s->map_bytes ||
        index_bytes != s->map_bytes - s->index_offset) {
        return nonsense(diag, "the header");
    }
    if (ort_get_u32(h + 80) != ort_crc32c(0, s->map + s->index_offset, (size_t)index_bytes)) {
        return ort_fail(diag, ORT_ECORRUPT, "the checksum of the index is wrong");
    }
    s->crcs = s->map + s->index_offset + (size_t)s->section_count * DP_SEGMENT_SECTION_BYTES;
    return ORT_OK;
}

/* What a section of that kind must measure; UINT64_MAX: it depends. */
static uint64_t
want_bytes(const dp_segment *s, const dp_section *section)
{
    switch (section->kind) {
    case DP_SECTION_CHUNKS:
        return (uint64_t)s->chunk_count * 4;
    case DP_SECTION_IDS:
        return (uint64_t)s->slots * ORT_POINT_ID_BYTES;
    case DP_SECTION_VERSIONS:
    case DP_SECTION_ENDS:
        return (uint64_t)s->slots * 8;
    case DP_SECTION_ORDER:
        return (uint64_t)s->order_count * 4;
    case DP_SECTION_PRESENT:
        return (uint64_t)s->chunk_count * PRESENT_BYTES;
    case DP_SECTION_ROWS:
        return (uint64_t)s->slots * section->stride;
    case DP_SECTION_BLOCKS:
    case DP_SECTION_DATA:
        break;
    }
    return UINT64_MAX;
}

static ort_err
parse_section(dp_segment *s, uint32_t i, ort_diag *diag)
{
    const unsigned char *p = s->map + s->index_offset + (size_t)i * DP_SEGMENT_SECTION_BYTES;
    dp_section *section = &s->sections[i];
    const uint32_t kind = ort_get_u16(p);
    if (kind < DP_SECTION_CHUNKS || kind > DP_SECTION_DATA || ort_get_u16(p + 2) != 0) {
        return nonsense(diag, "a section's kind");
    }
    section->kind = (dp_section_kind)kind;
    section->column_id = ort_get_u32(p + 4);
    section->type = ort_get_u32(p + 8);
    section->dim = ort_get_u32(p + 12);
    section->stride = ort_get_u32(p + 16);
    section->crc_first = ort_get_u32(p + 20);
    section->offset = ort_get_u64(p + 24);
    section->bytes = ort_get_u64(p + 32);
    const uint64_t align = section->kind == DP_SECTION_ROWS ? 4096 : 64;
    if (section->offset < DP_SEGMENT_HEADER_BYTES || section->offset % align != 0 ||
        section->offset > s->index_offset || section->bytes > s->index_offset - section->offset) {
        return nonsense(diag, "a section's place");
    }
    if (section->crc_first > s->crc_count ||
        crc_spans(section->bytes) > s->crc_count - section->crc_first) {
        return nonsense(diag, "a section's list of checksums");
    }
    if (section->kind == DP_SECTION_ROWS || section->kind == DP_SECTION_PRESENT) {
        const dp_column column = {.type = (dp_column_type)section->type, .dim = section->dim};
        if (section->type < DP_COLUMN_F32 || section->type > DP_COLUMN_U8 || section->dim == 0 ||
            section->dim > ORT_DIM_MAX || section->stride != dp_column_stride(&column)) {
            return nonsense(diag, "a column");
        }
    }
    const uint64_t want = want_bytes(s, section);
    if (want != UINT64_MAX && want != section->bytes) {
        return nonsense(diag, "a section's size");
    }
    for (uint32_t k = 0; k < i; k++) {
        if (s->sections[k].kind == section->kind &&
            s->sections[k].column_id == section->column_id) {
            return nonsense(diag, "a section that is there twice");
        }
    }
    return ORT_OK;
}

/* Blocks lie one behind the other, packed and unpacked. */
static ort_err
check_stream(const dp_segment *s, const dp_section *ends, ort_diag *diag)
{
    const dp_section *blocks = find_section(s, DP_SECTION_BLOCKS, ends->column_id);
    const dp_section *data = find_section(s, DP_SECTION_DATA, ends->column_id);
    if (blocks == NULL || data == NULL || blocks->bytes % DP_SEGMENT_BLOCK_BYTES != 0 ||
        blocks->bytes / DP_SEGMENT_BLOCK_BYTES > UINT32_MAX) {
        return nonsense(diag, "a stream");
    }
    const uint32_t codec_last = s->version >= 2 ? DP_CODEC_LAST : DP_CODEC_ZSTD;
    uint64_t packed = 0, unpacked = 0;
    for (uint64_t at = 0; at < blocks->bytes; at += DP_SEGMENT_BLOCK_BYTES) {
        const unsigned char *b = section_bytes(s, blocks) + at;
        const uint32_t raw = ort_get_u32(b + 20), codec = ort_get_u32(b + 28);
        if (ort_get_u64(b) != packed || ort_get_u64(b + 8) != unpacked || raw == 0 ||
            raw > DP_SEGMENT_RAW_BYTES_MAX || codec > codec_last ||
            (codec == 0 && raw != ort_get_u32(b + 16)) ||
            ort_get_u32(b + 16) > data->bytes - packed) {
            return nonsense(diag, "a block");
        }
        packed += ort_get_u32(b + 16);
        unpacked += raw;
    }
    if (packed != data->bytes) {
        return nonsense(diag, "the length of a stream");
    }
    uint64_t before = 0;
    const unsigned char *end = section_bytes(s, ends);
    for (uint32_t i = 0; i < s->slots; i++, end += 8) {
        if (ort_get_u64(end) < before) {
            return nonsense(diag, "the order of values");
        }
        before = ort_get_u64(end);
    }
    return before == unpacked ? ORT_OK : nonsense(diag, "the length of values");
}

/* Checks what accessors rely on without asking again. */
static ort_err
check_content(dp_segment *s, ort_diag *diag)
{
    const dp_section *need[5] = {NULL};
    for (uint32_t kind = DP_SECTION_CHUNKS; kind <= DP_SECTION_ORDER; kind++) {
        need[kind] = find_section(s, (dp_section_kind)kind, 0);
        if (need[kind] == NULL) {
            return nonsense(diag, "a segment without its sections");
        }
    }
    s->chunks = section_bytes(s, need[DP_SECTION_CHUNKS]);
    s->ids = section_bytes(s, need[DP_SECTION_IDS]);
    s->versions = section_bytes(s, need[DP_SECTION_VERSIONS]);
    s->order = section_bytes(s, need[DP_SECTION_ORDER]);
    s->numbers = calloc(s->chunk_count, sizeof *s->numbers);
    if (s->numbers == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "a segment");
    }
    for (uint32_t i = 0; i < s->chunk_count; i++) {
        s->numbers[i] = dp_segment_chunk(s, i);
        if (s->numbers[i] >= CHUNKS_MAX || (i > 0 && s->numbers[i] <= s->numbers[i - 1])) {
            return nonsense(diag, "the list of chunks");
        }
    }
    for (uint32_t i = 0; i < s->slots; i++) {
        ort_point_id id;
        if (ort_point_id_decode(s->ids + (size_t)i * ORT_POINT_ID_BYTES, &id) != ORT_OK) {
            return nonsense(diag, "an id");
        }
    }
    for (uint32_t i = 0; i < s->order_count; i++) {
        if (ort_get_u32(s->order + (size_t)i * 4) >= s->slots) {
            return nonsense(diag, "the order of ids");
        }
    }
    for (uint32_t i = 0; i < s->section_count; i++) {
        const dp_section *section = &s->sections[i];
        ort_err err = ORT_OK;
        if (section->kind == DP_SECTION_ENDS) {
            err = check_stream(s, section, diag);
        } else if (section->kind == DP_SECTION_ROWS) {
            const dp_section *present = find_section(s, DP_SECTION_PRESENT, section->column_id);
            if (present == NULL || present->type != section->type || present->dim != section->dim) {
                err = nonsense(diag, "a column");
            }
        }
        if (err != ORT_OK) {
            return err;
        }
    }
    return ORT_OK;
}

static bool
is_checked_at_open(const dp_section *section)
{
    return section->kind != DP_SECTION_ROWS && section->kind != DP_SECTION_DATA;
}

/* What open checks of a large segment is asked for at once: a mapping's own read-ahead is a few
 * hundred KB, and a disk is quick only with more than that under way. */
static void
ask_for(const dp_segment *s, const dp_section *section)
{
    const uintptr_t page = 4096;
    const uintptr_t begin = (uintptr_t)section_bytes(s, section) / page * page;
    if (s->mapped && section->bytes >= ASK_FOR_BYTES) {
        const size_t bytes = (uintptr_t)section_bytes(s, section) + section->bytes - begin;
        (void)madvise((void *)begin, bytes, /* NOLINT(performance-no-int-to-ptr) */
                      MADV_WILLNEED);
    }
}

static ort_err
parse(dp_segment *s, ort_diag *diag)
{
    ort_err err = parse_header(s, diag);
    if (err == ORT_OK) {
        s->sections = calloc(s->section_count + 1, sizeof *s->sections);
        if (s->sections == NULL) {
            ort_fail(diag, ORT_ENOMEM, "a segment");
            return ORT_ENOMEM;
        }
    }
    for (uint32_t i = 0; err == ORT_OK && i < s->section_count; i++) {
        err = parse_section(s, i, diag);
        dp_section *section = &s->sections[i];
        if (err == ORT_OK && section->kind == DP_SECTION_ROWS) {
            section->spans = calloc(crc_spans(section->bytes) / 64 + 1, sizeof *section->spans);
            err = section->spans == NULL ? ort_fail(diag, ORT_ENOMEM, "a segment") : ORT_OK;
        }
    }
    for (uint32_t i = 0; err == ORT_OK && i < s->section_count; i++) {
        if (is_checked_at_open(&s->sections[i])) {
            ask_for(s, &s->sections[i]);
        }
    }
    for (uint32_t i = 0; err == ORT_OK && i < s->section_count; i++) {
        if (is_checked_at_open(&s->sections[i])) {
            err = check_section(s, &s->sections[i], NULL, NULL, diag);
            s->sections[i].state = 1;
        }
    }
    return err == ORT_OK ? check_content(s, diag) : err;
}

static dp_segment *
segment_alloc(void)
{
    dp_segment *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->fd = -1;
        pthread_mutex_init(&s->checking, NULL);
    }
    return s;
}

ort_err
dp_segment_open(dp_segment **out, int dir_fd, const dp_segment_ref *ref, ort_tenant_id tenant,
                ort_collection_id shard, ort_diag *diag)
{
    char name[DP_SEGMENT_NAME_BYTES];
    void *map = NULL;
    uint64_t size = 0;
    ort_err err = ORT_OK;
    dp_segment *s = segment_alloc();

    *out = NULL;
    dp_segment_name(ref->id, name);
    if (s == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "%s", name);
    }
    err = dp_io_open(dir_fd, name, O_RDONLY, &s->fd, diag);
    if (err == ORT_ENOTFOUND) {
        err = ort_fail(diag, ORT_ECORRUPT, "the file is missing");
    }
    if (err == ORT_OK) {
        err = dp_io_size(s->fd, &size, "it", diag);
    }
    if (err == ORT_OK && (size != ref->file_bytes || size < DP_SEGMENT_HEADER_BYTES)) {
        err = ort_fail(diag, ORT_ECORRUPT, "%" PRIu64 " bytes, the manifest says %" PRIu64, size,
                       ref->file_bytes);
    }
    if (err == ORT_OK) {
        err = dp_io_map(s->fd, (size_t)size, &map, "it", diag);
    }
    if (err != ORT_OK) {
        goto done;
    }
    s->map = map;
    s->map_bytes = (size_t)size;
    s->mapped = true;
    err = ort_watch_begin(&s->watch, map, s->map_bytes, false, diag);
    if (err == ORT_OK) {
        err = parse(s, diag);
    }
    if (err == ORT_OK && !dp_segment_is_readable(s)) {
        err = ort_fail(diag, ORT_EIO, "the disk cannot read all of it");
    }
    if (err == ORT_OK && (s->tenant != tenant.v || s->shard != shard.v)) {
        err = ort_fail(diag, ORT_ECORRUPT, "it belongs to tenant %016" PRIx64 ", shard %016" PRIx64,
                       s->tenant, s->shard);
    }
    if (err == ORT_OK && (s->ref.id != ref->id || s->ref.uid != ref->uid)) {
        err = ort_fail(diag, ORT_ECORRUPT, "it is not the segment that the manifest names");
    }
done:
    if (err != ORT_OK) {
        ort_diag_prefix(diag, "%s", name);
        dp_segment_close(s);
        return err;
    }
    *out = s;
    return ORT_OK;
}

ort_err
dp_segment_open_bytes(dp_segment **out, const void *bytes, size_t n, ort_diag *diag)
{
    dp_segment *s = segment_alloc();
    *out = NULL;
    if (s == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "a segment");
    }
    s->map = bytes;
    s->map_bytes = n;
    const ort_err err = parse(s, diag);
    if (err != ORT_OK) {
        dp_segment_close(s);
        return err;
    }
    *out = s;
    return ORT_OK;
}

void
dp_segment_close(dp_segment *s)
{
    if (s != NULL) {
        if (s->mapped) {
            ort_watch_end(s->watch);
            dp_io_unmap((void *)(uintptr_t)s->map, s->map_bytes);
        }
        dp_io_close(s->fd);
        for (uint32_t i = 0; s->sections != NULL && i < s->section_count; i++) {
            free((void *)s->sections[i].spans);
        }
        free(s->sections);
        pthread_mutex_destroy(&s->checking);
        free(s->numbers);
        free(s);
    }
}

bool
dp_segment_is_readable(const dp_segment *s)
{
    return s->watch == NULL || !ort_watch_is_bad(s->watch);
}

dp_segment_ref
dp_segment_get_ref(const dp_segment *s)
{
    return s->ref;
}

uint64_t
dp_segment_bytes(const dp_segment *s)
{
    return s->map_bytes;
}

uint32_t
dp_segment_slots(const dp_segment *s)
{
    return s->slots;
}

uint32_t
dp_segment_chunk_count(const dp_segment *s)
{
    return s->chunk_count;
}

uint32_t
dp_segment_chunk(const dp_segment *s, uint32_t index)
{
    return ort_get_u32(s->chunks + (size_t)index * 4);
}

uint32_t
dp_segment_chunk_now(const dp_segment *s, uint32_t index)
{
    return s->numbers[index];
}

void
dp_segment_forget_chunks(dp_segment *s)
{
    memset(s->numbers, 0xff, s->chunk_count * sizeof *s->numbers);
}

void
dp_segment_set_chunk(dp_segment *s, uint32_t index, uint32_t number)
{
    s->numbers[index] = number;
}

uint32_t
dp_segment_chunk_used(const dp_segment *s, uint32_t index)
{
    return index + 1 == s->chunk_count ? s->last_used : DP_CHUNK_SLOTS;
}

const unsigned char *
dp_segment_ids(const dp_segment *s)
{
    return s->ids;
}

const unsigned char *
dp_segment_versions(const dp_segment *s)
{
    return s->versions;
}

ort_err
dp_segment_column_of(const dp_segment *s, const dp_column *column, dp_segment_column *out,
                     ort_diag *diag)
{
    *out = (dp_segment_column){0};
    const dp_section *rows = find_section(s, DP_SECTION_ROWS, column->id);
    if (rows == NULL) {
        return ORT_OK;
    }
    if (rows->type != (uint32_t)column->type || rows->dim != column->dim) {
        return ort_fail(diag, ORT_EINVAL,
                        "column %" PRIu32 " has type %" PRIu32 " and dim %" PRIu32
                        " in segment %016" PRIx64 ", the layout says %u and %" PRIu32,
                        column->id, rows->type, rows->dim, s->ref.id, (unsigned)column->type,
                        column->dim);
    }
    const dp_section *present = find_section(s, DP_SECTION_PRESENT, column->id);
    *out = (dp_segment_column){.rows = section_bytes(s, rows),
                               .present = section_bytes(s, present),
                               .stride = rows->stride};
    return ORT_OK;
}

uint32_t
dp_segment_order_count(const dp_segment *s)
{
    return s->order_count;
}

dp_id_slot
dp_segment_order(const dp_segment *s, uint32_t rank)
{
    const uint32_t p = ort_get_u32(s->order + (size_t)rank * 4);
    const uint32_t number = s->numbers[p / DP_CHUNK_SLOTS];
    dp_id_slot out = {.slot = number == UINT32_MAX ? DP_SLOT_NONE
                                                   : number * DP_CHUNK_SLOTS + p % DP_CHUNK_SLOTS};
    const ort_err err = ort_point_id_decode(s->ids + (size_t)p * ORT_POINT_ID_BYTES, &out.id);
    (void)err; /* checked at open */
    return out;
}

uint32_t
dp_segment_seek(const dp_segment *s, ort_point_id id)
{
    uint32_t low = 0, high = s->order_count;
    while (low < high) {
        const uint32_t mid = low + (high - low) / 2;
        const uint32_t p = ort_get_u32(s->order + (size_t)mid * 4);
        ort_point_id at = {0};
        const ort_err err = ort_point_id_decode(s->ids + (size_t)p * ORT_POINT_ID_BYTES, &at);
        (void)err; /* checked at open */
        if (ort_point_id_cmp(at, id) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

ort_err
dp_segment_locate(const dp_segment *s, uint32_t column_id, uint32_t p, dp_segment_place *out,
                  ort_diag *diag)
{
    *out = (dp_segment_place){0};
    const dp_section *ends = find_section(s, DP_SECTION_ENDS, column_id);
    if (ends == NULL) {
        return ORT_OK;
    }
    const unsigned char *e = section_bytes(s, ends) + (size_t)p * 8;
    const uint64_t end = ort_get_u64(e);
    const uint64_t start = p == 0 ? 0 : ort_get_u64(e - 8);
    if (start == end) {
        return ORT_OK;
    }
    const dp_section *blocks = find_section(s, DP_SECTION_BLOCKS, column_id);
    const unsigned char *b = section_bytes(s, blocks);
    uint32_t low = 0, high = (uint32_t)(blocks->bytes / DP_SEGMENT_BLOCK_BYTES) - 1;
    while (low < high) {
        const uint32_t mid = low + (high - low + 1) / 2;
        if (ort_get_u64(b + (size_t)mid * DP_SEGMENT_BLOCK_BYTES + 8) <= start) {
            low = mid;
        } else {
            high = mid - 1;
        }
    }
    b += (size_t)low * DP_SEGMENT_BLOCK_BYTES;
    const uint64_t at = start - ort_get_u64(b + 8);
    if (end - start > ort_get_u32(b + 20) || at > ort_get_u32(b + 20) - (end - start)) {
        return ort_fail(diag, ORT_ECORRUPT,
                        "segment %016" PRIx64 ": a value of column %" PRIu32 " leaves its block",
                        s->ref.id, column_id);
    }
    *out = (dp_segment_place){.block = low, .at = (uint32_t)at, .len = (uint32_t)(end - start)};
    return ORT_OK;
}

ort_err
dp_segment_unpack(const dp_segment *s, uint32_t column_id, uint32_t block, ort_buf *out,
                  ort_diag *diag)
{
    const dp_section *blocks = find_section(s, DP_SECTION_BLOCKS, column_id);
    const dp_section *data = find_section(s, DP_SECTION_DATA, column_id);
    const unsigned char *b = section_bytes(s, blocks) + (size_t)block * DP_SEGMENT_BLOCK_BYTES;
    const unsigned char *packed = section_bytes(s, data) + ort_get_u64(b);
    const uint32_t packed_bytes = ort_get_u32(b + 16), raw = ort_get_u32(b + 20);

    ort_buf_clear(out);
    char *to = ort_buf_reserve(out, raw);
    if (to == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "a block of %" PRIu32 " bytes", raw);
    }
    const ort_err err =
        ort_crc32c(0, packed, packed_bytes) == ort_get_u32(b + 24)
            ? dp_codec_unpack((dp_codec)ort_get_u32(b + 28), packed, packed_bytes, to, raw)
            : ORT_ECORRUPT;
    if (err == ORT_ENOMEM) {
        return ort_fail(diag, err, "unpack a block");
    }
    if (err != ORT_OK) {
        return ort_fail(diag, ORT_ECORRUPT,
                        "segment %016" PRIx64 ": block %" PRIu32 " of column %" PRIu32
                        " is damaged",
                        s->ref.id, block, column_id);
    }
    ort_buf_commit(out, raw);
    return ORT_OK;
}

/* Notes what a check of a whole section or of a span found; what cannot be read now may be later.
 */
static ort_err
note_check(const dp_segment *s, dp_section *section, ort_err err, ort_diag *diag)
{
    if (err == ORT_ECORRUPT) {
        atomic_store_explicit(&section->state, DP_SECTION_BAD, memory_order_release);
    }
    if (err != ORT_OK) {
        ort_diag_prefix(diag, "seg.%016" PRIx64, s->ref.id);
    }
    return err;
}

/* ORT_OK: all of it is good. ORT_ENOTFOUND: not known yet. */
static ort_err
what_is_known(const dp_segment *s, const dp_section *section, ort_diag *diag)
{
    switch (atomic_load_explicit(&section->state, memory_order_acquire)) {
    case DP_SECTION_GOOD:
        return ORT_OK;
    case DP_SECTION_BAD:
        return ort_fail(diag, ORT_ECORRUPT,
                        "seg.%016" PRIx64 ": rows of column %" PRIu32 " are damaged", s->ref.id,
                        section->column_id);
    default:
        return ORT_ENOTFOUND;
    }
}

ort_err
dp_segment_check_rows(dp_segment *s, uint32_t column_id, ort_diag *diag)
{
    for (uint32_t i = 0; i < s->section_count; i++) {
        dp_section *section = &s->sections[i];
        if (section->kind != DP_SECTION_ROWS || section->column_id != column_id) {
            continue;
        }
        ort_err err = what_is_known(s, section, diag);
        if (err == ORT_ENOTFOUND) {
            /* One looks, and the others that come meanwhile wait for what it finds. */
            pthread_mutex_lock(&s->checking);
            err = what_is_known(s, section, diag);
            if (err == ORT_ENOTFOUND) {
                err = check_section(s, section, NULL, NULL, diag);
                if (err == ORT_OK) {
                    atomic_store_explicit(&section->state, DP_SECTION_GOOD, memory_order_release);
                }
                err = note_check(s, section, err, diag);
            }
            pthread_mutex_unlock(&s->checking);
        }
        if (err != ORT_OK) {
            return err;
        }
    }
    return ORT_OK;
}

static ort_err
check_spans(const dp_segment *s, dp_section *section, uint64_t from, uint64_t to, ort_diag *diag)
{
    unsigned char *room = NULL;
    ort_err err = ORT_OK;
    for (uint64_t i = from / DP_SEGMENT_CRC_SPAN; err == ORT_OK && i * DP_SEGMENT_CRC_SPAN < to;
         i++) {
        _Atomic(uint64_t) *word = &section->spans[i / 64];
        const uint64_t bit = UINT64_C(1) << (i % 64);
        if ((atomic_load_explicit(word, memory_order_acquire) & bit) != 0) {
            continue;
        }
        if (room == NULL) {
            err = span_room(s, section, &room, diag);
        }
        if (err == ORT_OK) {
            err = note_check(s, section, check_span(s, section, (uint32_t)i, room, diag), diag);
        }
        if (err == ORT_OK) {
            atomic_fetch_or_explicit(word, bit, memory_order_release);
        }
    }
    free(room);
    return err;
}

ort_err
dp_segment_check_at(const dp_segment *s, const void *bytes, size_t n, ort_diag *diag)
{
    const uintptr_t at = (uintptr_t)bytes;
    for (uint32_t i = 0; i < s->section_count; i++) {
        dp_section *section = &s->sections[i];
        const uintptr_t begin = (uintptr_t)section_bytes(s, section);
        if (section->kind != DP_SECTION_ROWS || at < begin || at - begin >= section->bytes) {
            continue;
        }
        const ort_err err = what_is_known(s, section, diag);
        return err != ORT_ENOTFOUND ? err
                                    : check_spans(s, section, at - begin, at - begin + n, diag);
    }
    return ORT_OK;
}

/* Every value of a stream can be reached. */
static ort_err
verify_stream(const dp_segment *s, const dp_section *ends, ort_diag *diag)
{
    ort_buf buf = {0};
    ort_err err = ORT_OK;
    const dp_section *blocks = find_section(s, DP_SECTION_BLOCKS, ends->column_id);
    for (uint32_t i = 0; err == ORT_OK && i < blocks->bytes / DP_SEGMENT_BLOCK_BYTES; i++) {
        err = dp_segment_unpack(s, ends->column_id, i, &buf, diag);
    }
    for (uint32_t i = 0; err == ORT_OK && i < s->slots; i++) {
        dp_segment_place place;
        err = dp_segment_locate(s, ends->column_id, i, &place, diag);
    }
    ort_buf_fini(&buf);
    return err;
}

ort_err
dp_segment_verify(dp_segment *s, ort_diag *diag)
{
    return dp_segment_verify_paced(s, NULL, NULL, diag);
}

ort_err
dp_segment_verify_paced(dp_segment *s, dp_pace_fn pace, void *arg, ort_diag *diag)
{
    ort_err err = ORT_OK;
    for (uint32_t i = 0; err == ORT_OK && i < s->section_count; i++) {
        const dp_section *section = &s->sections[i];
        err = check_section(s, section, pace, arg, diag);
        if (err == ORT_OK && section->kind == DP_SECTION_ENDS) {
            err = verify_stream(s, section, diag);
        }
    }
    for (uint32_t i = 1; err == ORT_OK && i < s->order_count; i++) {
        if (ort_point_id_cmp(dp_segment_order(s, i - 1).id, dp_segment_order(s, i).id) >= 0) {
            err = ort_fail(diag, ORT_ECORRUPT, "ids are out of order at %" PRIu32, i);
        }
    }
    if (!dp_segment_is_readable(s)) {
        err = ort_fail(diag, ORT_EIO, "the disk cannot read all of it");
    }
    if (err != ORT_OK) {
        ort_diag_prefix(diag, "seg.%016" PRIx64, s->ref.id);
    }
    return err;
}
