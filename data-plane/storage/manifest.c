/* The manifest: bytes, reading, replacing. */
#include "storage/manifest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/point.h"
#include "storage/io.h"

static const char MAGIC[8] = "ORTMAN\0\1";
#define HEADER_BYTES 96u
#define SEGMENTS_MAX 65535u
#define CHUNKS_MAX (DP_SLOTS_MAX / DP_CHUNK_SLOTS)
#define LIST_MAX 240u /* a list of more dead slots is longer than the bits */

/* 520 bytes for each of 2^19 chunks, and the segments. */
#define FILE_BYTES_MAX (512u << 20)

void
dp_manifest_fini(dp_manifest *m)
{
    free(m->segments);
    free(m->chunks);
    *m = (dp_manifest){0};
}

static void
encode_chunk(const dp_manifest_chunk *c, ort_buf *out)
{
    uint16_t dead[LIST_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->used && count <= LIST_MAX; i++) {
        if ((c->live[i / 64] >> (i % 64) & 1) == 0) {
            if (count < LIST_MAX) {
                dead[count] = (uint16_t)i;
            }
            count++;
        }
    }
    ort_buf_put_u32(out, c->chunk);
    ort_buf_put_u16(out, (uint16_t)c->segment);
    ort_buf_put_u16(out, count == 0 ? 0 : count <= LIST_MAX ? 1 : 2);
    ort_buf_put_u32(out, c->place);
    if (count > LIST_MAX) {
        for (uint32_t i = 0; i < DP_CHUNK_WORDS; i++) {
            ort_buf_put_u64(out, c->live[i]);
        }
    } else if (count > 0) {
        ort_buf_put_u16(out, (uint16_t)count);
        for (uint32_t i = 0; i < count; i++) {
            ort_buf_put_u16(out, dead[i]);
        }
    }
}

void
dp_manifest_encode(const dp_manifest *m, ort_buf *out)
{
    const size_t start = out->len;
    ort_buf_put(out, MAGIC, 8);
    ort_buf_put_u32(out, DP_MANIFEST_VERSION);
    ort_buf_put_u32(out, m->segment_count);
    ort_buf_put_u64(out, m->tenant.v);
    ort_buf_put_u64(out, m->shard.v);
    ort_buf_put_u64(out, m->generation);
    ort_buf_put_u64(out, m->mark.lsn);
    ort_buf_put_u64(out, m->mark.epoch);
    ort_buf_put_u64(out, m->mark.hash);
    ort_buf_put_u64(out, m->next_segment_id);
    ort_buf_put_u64(out, m->live_count);
    ort_buf_put_u64(out, m->logical_bytes);
    ort_buf_put_u32(out, m->slot_end);
    ort_buf_put_u32(out, m->chunk_count);
    for (uint32_t i = 0; i < m->segment_count; i++) {
        ort_buf_put_u64(out, m->segments[i].id);
        ort_buf_put_u64(out, m->segments[i].uid);
        ort_buf_put_u64(out, m->segments[i].file_bytes);
    }
    for (uint32_t i = 0; i < m->chunk_count; i++) {
        encode_chunk(&m->chunks[i], out);
    }
    if (!out->failed) {
        ort_buf_put_u32(out, ort_crc32c(0, out->data + start, out->len - start));
    }
}

static bool
decode_chunk(ort_cursor *in, uint32_t version, const dp_manifest *m, uint32_t i)
{
    dp_manifest_chunk *c = &m->chunks[i];
    c->chunk = ort_cursor_u32(in);
    c->segment = ort_cursor_u16(in);
    const uint16_t kind = ort_cursor_u16(in);
    c->place = version >= 2 ? ort_cursor_u32(in) : DP_MANIFEST_PLACE_BY_NUMBER;
    if (in->failed || kind > 2 || c->segment >= m->segment_count || c->chunk >= CHUNKS_MAX ||
        (uint64_t)c->chunk * DP_CHUNK_SLOTS >= m->slot_end ||
        (i > 0 && c->chunk <= m->chunks[i - 1].chunk)) {
        return false;
    }
    if (kind == 2) {
        for (uint32_t k = 0; k < DP_CHUNK_WORDS; k++) {
            c->live[k] = ort_cursor_u64(in);
        }
        return !in->failed;
    }
    memset(c->live, 0xff, sizeof c->live);
    const uint16_t count = kind == 1 ? ort_cursor_u16(in) : 0;
    for (uint32_t k = 0; k < count; k++) {
        const uint16_t offset = ort_cursor_u16(in);
        if (offset >= DP_CHUNK_SLOTS) {
            return false;
        }
        c->live[offset / 64] &= ~(UINT64_C(1) << (offset % 64));
    }
    return !in->failed;
}

static ort_err
decode_body(ort_cursor *in, uint32_t version, dp_manifest *m, ort_diag *diag)
{
    /* The counts are outside numbers: what follows must be able to hold so many. */
    if (m->segment_count > SEGMENTS_MAX || m->slot_end > DP_SLOTS_MAX ||
        m->segment_count > ort_cursor_left(in) / 24 || m->chunk_count > ort_cursor_left(in) / 8) {
        return ort_fail(diag, ORT_ECORRUPT, "the counts make no sense");
    }
    m->segments = calloc((size_t)m->segment_count + 1, sizeof *m->segments);
    m->chunks = calloc((size_t)m->chunk_count + 1, sizeof *m->chunks);
    if (m->segments == NULL || m->chunks == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "a manifest");
    }
    for (uint32_t i = 0; i < m->segment_count; i++) {
        m->segments[i].id = ort_cursor_u64(in);
        m->segments[i].uid = ort_cursor_u64(in);
        m->segments[i].file_bytes = ort_cursor_u64(in);
        if (m->segments[i].id >= m->next_segment_id ||
            (i > 0 && m->segments[i].id <= m->segments[i - 1].id)) {
            return ort_fail(diag, ORT_ECORRUPT, "the list of segments makes no sense");
        }
    }
    for (uint32_t i = 0; i < m->chunk_count; i++) {
        if (!decode_chunk(in, version, m, i)) {
            return ort_fail(diag, ORT_ECORRUPT, "the list of chunks makes no sense");
        }
    }
    if (in->failed || ort_cursor_left(in) != 0) {
        return ort_fail(diag, ORT_ECORRUPT, "its length makes no sense");
    }
    return ORT_OK;
}

ort_err
dp_manifest_decode(const void *bytes, size_t n, dp_manifest *out, ort_diag *diag)
{
    const unsigned char *p = bytes;
    *out = (dp_manifest){0};
    if (n < HEADER_BYTES + 4 || memcmp(p, MAGIC, 8) != 0) {
        return ort_fail(diag, ORT_ECORRUPT, "this is no manifest");
    }
    if (ort_get_u32(p + n - 4) != ort_crc32c(0, p, n - 4)) {
        return ort_fail(diag, ORT_ECORRUPT, "the checksum is wrong");
    }
    ort_cursor in = ort_cursor_of(p + 8, n - 12);
    const uint32_t version = ort_cursor_u32(&in);
    if (version == 0 || version > DP_MANIFEST_VERSION) {
        return ort_fail(diag, ORT_EVERSION,
                        "manifest version %" PRIu32 ", this program knows 1 to %u", version,
                        DP_MANIFEST_VERSION);
    }
    out->segment_count = ort_cursor_u32(&in);
    out->tenant.v = ort_cursor_u64(&in);
    out->shard.v = ort_cursor_u64(&in);
    out->generation = ort_cursor_u64(&in);
    out->mark.lsn = ort_cursor_u64(&in);
    out->mark.epoch = ort_cursor_u64(&in);
    out->mark.hash = ort_cursor_u64(&in);
    out->next_segment_id = ort_cursor_u64(&in);
    out->live_count = ort_cursor_u64(&in);
    out->logical_bytes = ort_cursor_u64(&in);
    out->slot_end = ort_cursor_u32(&in);
    out->chunk_count = ort_cursor_u32(&in);
    const ort_err err = decode_body(&in, version, out, diag);
    if (err != ORT_OK) {
        dp_manifest_fini(out);
    }
    return err;
}

ort_err
dp_manifest_read(int dir_fd, dp_manifest *out, uint64_t *bytes_out, ort_diag *diag)
{
    ort_buf bytes = {0};
    *out = (dp_manifest){0};
    ort_err err = dp_io_read_file(dir_fd, DP_MANIFEST_NAME, FILE_BYTES_MAX, &bytes, diag);
    if (err == ORT_OK) {
        err = dp_manifest_decode(bytes.data, bytes.len, out, diag);
        if (err != ORT_OK) {
            ort_diag_prefix(diag, DP_MANIFEST_NAME);
        }
    } else if (err == ORT_ETOOBIG) {
        err = ORT_ECORRUPT;
    }
    *bytes_out = bytes.len;
    ort_buf_fini(&bytes);
    return err;
}

ort_err
dp_manifest_replace(int dir_fd, const dp_manifest *manifest, uint64_t *bytes_out,
                    bool *switched_out, ort_diag *diag)
{
    static const char fresh[] = DP_MANIFEST_NAME ".new";
    ort_buf bytes = {0};
    int fd = -1;

    *switched_out = false;
    dp_manifest_encode(manifest, &bytes);
    ort_err err = bytes.failed ? ort_fail(diag, ORT_ENOMEM, "a manifest") : ORT_OK;
    if (err == ORT_OK) {
        err = dp_io_create(dir_fd, fresh, &fd, diag);
    }
    if (err == ORT_OK) {
        ort_point("manifest.created");
        err = dp_io_write(fd, bytes.data, bytes.len, 0, diag);
    }
    if (err == ORT_OK) {
        ort_point("manifest.written");
        err = dp_io_sync(fd, fresh, diag);
    }
    dp_io_close(fd);
    if (err == ORT_OK) {
        ort_point("manifest.synced");
        *switched_out = true;
        err = dp_io_rename(dir_fd, fresh, DP_MANIFEST_NAME, diag);
    }
    if (err == ORT_OK) {
        ort_point("manifest.renamed");
        err = dp_io_sync(dir_fd, "the shard's directory", diag);
    }
    if (err == ORT_OK) {
        ort_point("manifest.durable");
    }
    *bytes_out = bytes.len;
    ort_buf_fini(&bytes);
    return err;
}
