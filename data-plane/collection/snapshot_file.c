/* A snapshot is a file of blocks, written front to back in one pass and read the same way.
 *
 *   offset  size  field          all integers little-endian
 *        0     8  magic          "ORTSNAP\1"
 *        8     4  version        1
 *       12     4  crc32c         of bytes 0..11
 *
 * then blocks, each:
 *        0     4  type           1 about, 2 collection, 3 points, 4 end
 *        4     4  stored bytes   of the zstd frame that follows
 *        8     4  plain bytes    what it unpacks to: exactly that
 *       12     4  number         of the block in the file, from 0
 *       16     4  crc32c         of bytes 0..15
 *       20     4  crc32c         of the stored bytes
 *       24     n  zstd frame
 *
 * in this order: one `about`; for each collection one `collection` and its `points` (as many as it
 * takes to make the count it names); one `end`; nothing behind it.
 *
 *   about       JSON {"kind": "collection" | "tenant", "tenant": "<id>", "created_at": ms,
 *               "regions": [".."], "software": ".."}
 *   collection  JSON {"name": "..", "schema": {..} (as in the catalog), "aliases": [".."],
 *               "lsn": n, "epoch": n, "hash": "<16 hex>" (the log's mark), "points": n, "bytes": n}
 *   points      u32 bytes of the operation, u32 points, the operation (an upsert as a log has it:
 *               op_internal.h), u64 version for each of its points
 *   end         u64 collections, u64 points, u64 logical bytes, SHA-256 of all bytes before this
 *               block
 *
 * Points are stored as operations because that decoder takes hostile bytes already: from a log,
 * from another node. The checksums find accidents; that a file was made by nobody else they cannot
 * say, so a reader checks the meaning of everything, as it does of a request. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/point.h"
#include "collection/snapshot_internal.h"
#include "storage/io.h"

static const unsigned char magic[8] = {'O', 'R', 'T', 'S', 'N', 'A', 'P', 1};

ort_err
dp_snapshot__bad(ort_diag *diag, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return ort_fail(diag, ORT_EINVAL, "snapshot: %s", text);
}

ort_err
dp_snapshot__check(const dp_snapshot_bounds *bounds, ort_diag *diag)
{
    return bounds->check != NULL ? bounds->check(bounds->arg, diag) : ORT_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

ort_err
dp_snapshot__write(dp_snapshot_writer *w, const void *bytes, size_t n, ort_diag *diag)
{
    if (w->bounds.bytes_max != 0 && w->at + n > w->bounds.bytes_max) {
        return ort_fail(diag, ORT_EQUOTA,
                        "the snapshot does not fit: %" PRIu64 " bytes are left for snapshots",
                        w->bounds.bytes_max);
    }
    const ort_err err = dp_io_write(w->fd, bytes, n, w->at, diag);
    if (err == ORT_OK) {
        ort_sha256_put(&w->digest, bytes, n);
        w->at += n;
    }
    return err;
}

ort_err
dp_snapshot__write_block(dp_snapshot_writer *w, dp_snapshot_block type, ort_diag *diag)
{
    unsigned char head[DP_SNAPSHOT_BLOCK_HEAD_BYTES] = {0};
    ort_err err = dp_snapshot__check(&w->bounds, diag);
    if (err == ORT_OK) {
        err = ort_buf_check(&w->plain);
    }
    if (err != ORT_OK) {
        return err;
    }
    if (w->plain.len > DP_SNAPSHOT_PLAIN_BYTES_MAX) {
        return ort_fail(diag, ORT_ETOOBIG, "snapshot: a block of %zu bytes", w->plain.len);
    }
    ort_buf_clear(&w->stored);
    const size_t bound = ZSTD_compressBound(w->plain.len);
    char *to = ort_buf_reserve(&w->stored, bound);
    if (to == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "snapshot");
    }
    const size_t n =
        ZSTD_compressCCtx(w->zstd, to, bound, w->plain.data, w->plain.len, DP_SNAPSHOT_LEVEL);
    if (ZSTD_isError(n)) {
        return ort_fail(diag, ORT_EINTERNAL, "zstd: %s", ZSTD_getErrorName(n));
    }
    ort_put_u32(head, type);
    ort_put_u32(head + 4, (uint32_t)n);
    ort_put_u32(head + 8, (uint32_t)w->plain.len);
    ort_put_u32(head + 12, w->sequence++);
    ort_put_u32(head + 16, ort_crc32c(0, head, 16));
    ort_put_u32(head + 20, ort_crc32c(0, to, n));
    err = dp_snapshot__write(w, head, sizeof head, diag);
    if (err == ORT_OK) {
        err = dp_snapshot__write(w, to, n, diag);
    }
    ort_buf_clear(&w->plain);
    ort_point("snapshot.block");
    return err;
}

static void
write_about(ort_buf *out, const dp_snapshot_about *about)
{
    char id[ORT_ID_TEXT_BYTES];
    ort_jw w = {.buf = out};
    ort_id_format(about->tenant.v, id);
    ort_jw_object(&w);
    ort_jw_key(&w, "kind");
    ort_jw_str(&w, about->kind == DP_SNAPSHOT_TENANT ? "tenant" : "collection");
    ort_jw_key(&w, "tenant");
    ort_jw_str(&w, id);
    ort_jw_key(&w, "created_at");
    ort_jw_i64(&w, about->created_ms);
    ort_jw_key(&w, "regions");
    ort_jw_array(&w);
    for (size_t i = 0; i < about->region_count; i++) {
        ort_jw_str(&w, about->regions[i]);
    }
    ort_jw_array_end(&w);
    ort_jw_key(&w, "software");
    ort_jw_str(&w, "orthant " ORT_VERSION);
    ort_jw_object_end(&w);
}

ort_err
dp_snapshot_writer_new(dp_snapshot_writer **out, int fd, const dp_snapshot_about *about,
                       const dp_snapshot_bounds *bounds, ort_diag *diag)
{
    unsigned char head[DP_SNAPSHOT_HEAD_BYTES] = {0};
    *out = NULL;
    dp_snapshot_writer *w = calloc(1, sizeof *w);
    if (w == NULL || (w->zstd = ZSTD_createCCtx()) == NULL) {
        free(w);
        return ort_fail(diag, ORT_ENOMEM, "snapshot");
    }
    w->fd = fd;
    w->kind = about->kind;
    w->bounds = *bounds;
    ort_sha256_init(&w->digest);
    memcpy(head, magic, sizeof magic);
    ort_put_u32(head + 8, DP_SNAPSHOT_VERSION);
    ort_put_u32(head + 12, ort_crc32c(0, head, 12));
    ort_err err = dp_snapshot__write(w, head, sizeof head, diag);
    if (err == ORT_OK) {
        write_about(&w->plain, about);
        err = dp_snapshot__write_block(w, DP_SNAPSHOT_BLOCK_ABOUT, diag);
    }
    if (err != ORT_OK) {
        dp_snapshot_writer_free(w);
        return err;
    }
    *out = w;
    return ORT_OK;
}

void
dp_snapshot_writer_free(dp_snapshot_writer *w)
{
    if (w != NULL) {
        ZSTD_freeCCtx(w->zstd);
        ort_buf_fini(&w->plain);
        ort_buf_fini(&w->stored);
        free(w);
    }
}

ort_err
dp_snapshot_finish(dp_snapshot_writer *w, dp_snapshot_totals *out, ort_diag *diag)
{
    ort_hash before;
    ort_sha256 copy = w->digest;
    ort_sha256_done(&copy, &before);
    ort_buf_clear(&w->plain);
    ort_buf_put_u64(&w->plain, w->totals.collections);
    ort_buf_put_u64(&w->plain, w->totals.points);
    ort_buf_put_u64(&w->plain, w->totals.bytes);
    ort_buf_put(&w->plain, before.b, sizeof before.b);
    ort_err err = dp_snapshot__write_block(w, DP_SNAPSHOT_BLOCK_END, diag);
    if (err == ORT_OK) {
        ort_point("snapshot.ended");
        err = dp_io_sync(w->fd, "a snapshot", diag);
    }
    if (err == ORT_OK) {
        ort_point("snapshot.synced");
        w->totals.file_bytes = w->at;
        ort_sha256_done(&w->digest, &w->totals.sha256);
        *out = w->totals;
    }
    return err;
}

/* --- reading ---------------------------------------------------------------------------------- */

ort_err
dp_snapshot__read(dp_snapshot_reader *r, void *bytes, size_t n, ort_diag *diag)
{
    if (n > r->size - r->at) {
        return dp_snapshot__bad(diag, "the file ends at byte %" PRIu64 " in the middle", r->size);
    }
    const ort_err err = ort_pread_full(r->fd, bytes, n, r->at, diag);
    if (err == ORT_OK) {
        ort_sha256_put(&r->digest, bytes, n);
        r->at += n;
    }
    return err == ORT_ECORRUPT ? ORT_EIO : err; /* it became shorter while it was read */
}

/* What the head claims, before anything is allocated for it. */
static ort_err
check_head(dp_snapshot_reader *r, const unsigned char *head, uint32_t *stored, uint32_t *plain,
           ort_diag *diag)
{
    const uint64_t at = r->at - DP_SNAPSHOT_BLOCK_HEAD_BYTES;
    const uint32_t type = ort_get_u32(head);
    *stored = ort_get_u32(head + 4);
    *plain = ort_get_u32(head + 8);
    if (ort_get_u32(head + 16) != ort_crc32c(0, head, 16)) {
        return dp_snapshot__bad(diag, "the head of the block at byte %" PRIu64 " is damaged", at);
    }
    if (ort_get_u32(head + 12) != r->sequence) {
        return dp_snapshot__bad(diag, "block %u stands where block %u should",
                                ort_get_u32(head + 12), r->sequence);
    }
    const uint32_t plain_max =
        type == DP_SNAPSHOT_BLOCK_POINTS ? DP_SNAPSHOT_PLAIN_BYTES_MAX : DP_SNAPSHOT_TEXT_BYTES_MAX;
    if (type < DP_SNAPSHOT_BLOCK_ABOUT || type > DP_SNAPSHOT_BLOCK_END || *plain > plain_max ||
        *stored > ZSTD_compressBound(*plain)) {
        return dp_snapshot__bad(diag, "the block at byte %" PRIu64 " has no sane type or size", at);
    }
    if (*stored > r->size - r->at) {
        return dp_snapshot__bad(diag, "the file ends at byte %" PRIu64 " in the middle", r->size);
    }
    r->type = type;
    return ORT_OK;
}

ort_err
dp_snapshot__read_block(dp_snapshot_reader *r, ort_diag *diag)
{
    unsigned char head[DP_SNAPSHOT_BLOCK_HEAD_BYTES] = {0};
    uint32_t stored = 0, plain = 0;
    ort_sha256 copy = r->digest;
    ort_err err = dp_snapshot__check(&r->bounds, diag);
    ort_sha256_done(&copy, &r->digest_before);
    if (err == ORT_OK) {
        err = dp_snapshot__read(r, head, sizeof head, diag);
    }
    if (err == ORT_OK) {
        err = check_head(r, head, &stored, &plain, diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    const uint64_t at = r->at - sizeof head;
    ort_buf_clear(&r->stored);
    ort_buf_clear(&r->plain);
    char *packed = ort_buf_reserve(&r->stored, (size_t)stored + 1);
    char *to = ort_buf_reserve(&r->plain, (size_t)plain + 1);
    if (packed == NULL || to == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "snapshot");
    }
    err = dp_snapshot__read(r, packed, stored, diag);
    if (err == ORT_OK && ort_get_u32(head + 20) != ort_crc32c(0, packed, stored)) {
        err = dp_snapshot__bad(diag, "the block at byte %" PRIu64 " is damaged", at);
    }
    if (err == ORT_OK) {
        /* Room for what was promised and not a byte more: a bomb is an error of zstd. */
        const size_t n = ZSTD_decompressDCtx(r->zstd, to, plain, packed, stored);
        if (ZSTD_isError(n) || n != plain) {
            err = dp_snapshot__bad(diag,
                                   "the block at byte %" PRIu64 " does not unpack to its size", at);
        }
    }
    if (err == ORT_OK) {
        ort_buf_commit(&r->stored, stored);
        ort_buf_commit(&r->plain, plain);
        r->sequence++;
    }
    return err;
}

static ort_err
read_head(dp_snapshot_reader *r, ort_diag *diag)
{
    unsigned char head[DP_SNAPSHOT_HEAD_BYTES] = {0};
    const ort_err err = dp_snapshot__read(r, head, sizeof head, diag);
    if (err != ORT_OK) {
        return err == ORT_EINVAL ? dp_snapshot__bad(diag, "the file is too short to be one") : err;
    }
    if (memcmp(head, magic, sizeof magic) != 0) {
        return dp_snapshot__bad(diag, "the file is none of ours (Orthant's format is its own)");
    }
    if (ort_get_u32(head + 12) != ort_crc32c(0, head, 12)) {
        return dp_snapshot__bad(diag, "the head of the file is damaged");
    }
    const uint32_t version = ort_get_u32(head + 8);
    if (version > DP_SNAPSHOT_VERSION || version == 0) {
        return ort_fail(diag, ORT_EVERSION, "snapshot: format %u, this program reads %u", version,
                        DP_SNAPSHOT_VERSION);
    }
    return ORT_OK;
}

static ort_err
read_regions(dp_snapshot_reader *r, ort_json list, ort_diag *diag)
{
    const uint32_t count = ort_json_count(list);
    size_t n = 0;
    if (ort_json_type_of(list) != ORT_JSON_ARRAY || count > DP_SNAPSHOT_REGIONS_MAX) {
        return dp_snapshot__bad(diag, "its regions are no list of at most %u",
                                DP_SNAPSHOT_REGIONS_MAX);
    }
    r->regions = calloc((size_t)count + 1, sizeof *r->regions);
    for (ort_json_iter it = ort_json_each(list); r->regions != NULL && ort_json_step(&it); n++) {
        size_t len = 0;
        const char *text = ort_json_str(it.value, &len);
        r->about.region_count = n;
        if (text == NULL || len == 0 || len > ORT_NAME_BYTES_MAX || memchr(text, 0, len) != NULL) {
            return dp_snapshot__bad(diag, "a region is no name");
        }
        if ((r->regions[n] = strndup(text, len)) == NULL) {
            return ort_fail(diag, ORT_ENOMEM, "snapshot");
        }
    }
    r->about.regions = r->regions;
    r->about.region_count = n;
    return r->regions != NULL ? ORT_OK : ort_fail(diag, ORT_ENOMEM, "snapshot");
}

static ort_err
read_about(dp_snapshot_reader *r, ort_diag *diag)
{
    ort_json_doc *doc = NULL;
    size_t len = 0;
    ort_err err = dp_snapshot__read_block(r, diag);
    if (err == ORT_OK && r->type != DP_SNAPSHOT_BLOCK_ABOUT) {
        err = dp_snapshot__bad(diag, "it does not begin with what it is");
    }
    if (err == ORT_OK) {
        err = ort_json_parse(&doc, r->plain.data, r->plain.len, (ort_json_limits){0}, diag);
        err = err == ORT_OK || err == ORT_ENOMEM ? err : dp_snapshot__bad(diag, "no JSON");
    }
    if (err != ORT_OK) {
        return err;
    }
    const ort_json root = ort_json_root(doc);
    const ort_json kind = ort_json_get(root, "kind");
    const char *tenant = ort_json_str(ort_json_get(root, "tenant"), &len);
    r->about.kind = ort_json_str_is(kind, "tenant")       ? DP_SNAPSHOT_TENANT
                    : ort_json_str_is(kind, "collection") ? DP_SNAPSHOT_COLLECTION
                                                          : 0;
    if (r->about.kind == 0 || tenant == NULL ||
        ort_id_parse(tenant, len, &r->about.tenant.v) != ORT_OK ||
        ort_json_i64(ort_json_get(root, "created_at"), &r->about.created_ms) != ORT_OK) {
        err = dp_snapshot__bad(diag, "what it says of itself is not as it is written");
    } else {
        err = read_regions(r, ort_json_get(root, "regions"), diag);
    }
    ort_json_free(doc);
    return err;
}

ort_err
dp_snapshot_reader_open(dp_snapshot_reader **out, int fd, const dp_snapshot_bounds *bounds,
                        ort_diag *diag)
{
    struct stat st;
    *out = NULL;
    dp_snapshot_reader *r = calloc(1, sizeof *r);
    if (r == NULL || (r->zstd = ZSTD_createDCtx()) == NULL) {
        free(r);
        return ort_fail(diag, ORT_ENOMEM, "snapshot");
    }
    r->fd = fd;
    r->bounds = *bounds;
    r->filled = true; /* nothing is due */
    ort_sha256_init(&r->digest);
    ort_err err = fstat(fd, &st) == 0 ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "stat a snapshot");
    if (err == ORT_OK) {
        r->size = (uint64_t)st.st_size;
        err = read_head(r, diag);
    }
    if (err == ORT_OK) {
        err = read_about(r, diag);
    }
    if (err != ORT_OK) {
        dp_snapshot_reader_close(r);
        return err;
    }
    *out = r;
    return ORT_OK;
}

void
dp_snapshot_reader_close(dp_snapshot_reader *r)
{
    if (r == NULL) {
        return;
    }
    for (size_t i = 0; i < r->about.region_count && r->regions != NULL; i++) {
        free((char *)(uintptr_t)r->regions[i]);
    }
    free(r->regions);
    for (size_t i = 0; i < r->alias_count; i++) {
        free(r->aliases[i]);
    }
    free(r->aliases);
    dp_schema_unref(r->item.schema);
    ZSTD_freeDCtx(r->zstd);
    ort_buf_fini(&r->stored);
    ort_buf_fini(&r->plain);
    free(r);
}

const dp_snapshot_about *
dp_snapshot_peek_about(const dp_snapshot_reader *r)
{
    return &r->about;
}

const dp_snapshot_totals *
dp_snapshot_peek_totals(const dp_snapshot_reader *r)
{
    return &r->totals;
}
