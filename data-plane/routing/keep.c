/* The applied table on disk. The bytes are described in keep.h. */
#include "routing/keep.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "routing/table_internal.h"

#define TABLE_FILE "table"
#define LOG_FILE "table.log"
#define MARK_FILE "watermark"
#define TABLE_HEAD_BYTES 24u
#define LOG_BYTES (1u << 20)
#define RECORD_HEAD_BYTES 8u
#define SLOT_BYTES 64u
#define SLOT_VERSION 2u
#define ZSTD_LEVEL 1

#define MAGIC_WORD 7u /* of MAGIC; then the version */

static const char MAGIC[8] = {'O', 'R', 'T', 'K', 'E', 'P', 'T', 1};
static const ort_log log_routing = {"routing"};

struct dp_keep {
    int dir_fd; /* borrowed */
    int log_fd;
    int mark_fd;
    uint32_t log_at; /* where the next record goes */
    unsigned mark_slot;
    ort_table_at mark;
};

/* ---- watermark ---- */

typedef enum { SLOT_BAD, SLOT_GOOD, SLOT_NEWER } slot_kind;

static slot_kind
slot_read(const unsigned char *slot, ort_table_at *out)
{
    static const unsigned char zeroes[SLOT_BYTES - 52];
    const bool versioned = memcmp(slot + 52, zeroes, sizeof zeroes) != 0;
    if (versioned && ort_get_u32(slot + 56) == ort_crc32c(0, slot, 56) &&
        ort_get_u32(slot + 52) > SLOT_VERSION) {
        return SLOT_NEWER;
    }
    if (ort_get_u32(slot + 48) != ort_crc32c(0, slot, 48) ||
        (versioned && ort_get_u32(slot + 56) != ort_crc32c(0, slot, 56))) {
        return SLOT_BAD;
    }
    out->generation = ort_get_u64(slot);
    out->version = ort_get_u64(slot + 8);
    memcpy(out->hash.b, slot + 16, sizeof out->hash.b);
    return out->version != 0 ? SLOT_GOOD : SLOT_BAD;
}

/* *damaged: something was written, and neither slot is good. */
static ort_err
mark_load(dp_keep *keep, bool *damaged, ort_diag *diag)
{
    unsigned char slots[2 * SLOT_BYTES];
    bool any = false, written = false;
    const ort_err err = ort_pread_full(keep->mark_fd, slots, sizeof slots, 0, diag);
    if (err != ORT_OK) {
        return err;
    }
    for (unsigned i = 0; i < 2; i++) {
        ort_table_at at;
        const slot_kind kind = slot_read(slots + i * SLOT_BYTES, &at);
        if (kind == SLOT_NEWER) {
            return ort_fail(diag, ORT_EVERSION, MARK_FILE ": version %u, this program reads %u",
                            ort_get_u32(slots + i * SLOT_BYTES + 52), SLOT_VERSION);
        }
        if (kind == SLOT_GOOD && (!any || ort_table_at_cmp(&at, &keep->mark) > 0)) {
            keep->mark = at;
            keep->mark_slot = i;
            any = true;
        }
    }
    for (size_t i = 0; i < sizeof slots; i++) {
        written = written || slots[i] != 0;
    }
    *damaged = written && !any;
    return ORT_OK;
}

static ort_err
mark_put(dp_keep *keep, const ort_table_at *at, ort_diag *diag)
{
    unsigned char slot[SLOT_BYTES] = {0};
    const unsigned next = 1 - keep->mark_slot;
    ort_put_u64(slot, at->generation);
    ort_put_u64(slot + 8, at->version);
    memcpy(slot + 16, at->hash.b, sizeof at->hash.b);
    ort_put_u32(slot + 48, ort_crc32c(0, slot, 48));
    ort_put_u32(slot + 52, SLOT_VERSION);
    ort_put_u32(slot + 56, ort_crc32c(0, slot, 56));
    ort_err err =
        ort_pwrite_full(keep->mark_fd, slot, sizeof slot, (uint64_t)next * SLOT_BYTES, diag);
    if (err == ORT_OK && fdatasync(keep->mark_fd) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "fdatasync " MARK_FILE);
    }
    if (err == ORT_OK) {
        keep->mark = *at;
        keep->mark_slot = next;
    }
    return err;
}

ort_table_at
dp_keep_watermark(const dp_keep *keep)
{
    return keep->mark;
}

/* ---- open ---- */

/* Opens a file of exactly or at least `bytes`, made of zeroes where it is not there yet. */
static ort_err
open_sized(int dir_fd, const char *name, size_t bytes, int *fd_out, ort_diag *diag)
{
    *fd_out = ort_open_beneath(dir_fd, name, O_RDWR, 0);
    if (*fd_out < 0) {
        char *zeroes = calloc(1, bytes);
        if (zeroes == NULL) {
            return ort_fail(diag, ORT_ENOMEM, "make %s", name);
        }
        const ort_err err = ort_file_replace(dir_fd, name, zeroes, bytes, 0600, diag);
        free(zeroes);
        if (err != ORT_OK) {
            return err;
        }
        *fd_out = ort_open_beneath(dir_fd, name, O_RDWR, 0);
    }
    if (*fd_out < 0) {
        return ort_fail_errno(diag, ORT_EIO, "open %s", name);
    }
    const off_t size = lseek(*fd_out, 0, SEEK_END);
    if (size < (off_t)bytes && ftruncate(*fd_out, (off_t)bytes) != 0) {
        return ort_fail_errno(diag, ORT_EIO, "lengthen %s", name);
    }
    return ORT_OK;
}

ort_err
dp_keep_open(dp_keep **out, int dir_fd, ort_diag *diag)
{
    bool damaged = false;
    *out = NULL;
    dp_keep *keep = calloc(1, sizeof *keep);
    if (keep == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "kept table");
    }
    keep->dir_fd = dir_fd;
    keep->log_fd = keep->mark_fd = -1;
    ort_err err = open_sized(dir_fd, LOG_FILE, LOG_BYTES, &keep->log_fd, diag);
    if (err == ORT_OK) {
        err = open_sized(dir_fd, MARK_FILE, 2 * SLOT_BYTES, &keep->mark_fd, diag);
    }
    if (err == ORT_OK) {
        err = mark_load(keep, &damaged, diag);
    }
    if (err == ORT_OK && damaged) {
        /* One torn slot is a crash, two are damage. The table's own position still holds. */
        ORT_LOG_ERROR(&log_routing, "table.watermark_damaged", "file=" MARK_FILE);
    }
    if (err != ORT_OK) {
        dp_keep_close(keep);
        return err;
    }
    *out = keep;
    return ORT_OK;
}

void
dp_keep_close(dp_keep *keep)
{
    if (keep != NULL) {
        ort_fd_close(keep->log_fd);
        ort_fd_close(keep->mark_fd);
        free(keep);
    }
}

/* ---- load ---- */

/* A table on its way from disk. */
typedef struct {
    ort_table *content;
    ort_table_at at;
    int64_t issued_at_ms;
} loading;

static ort_err
open_ours(const dp_keep_owner *owner, const void *envelope, size_t n, ort_table_head *head,
          ort_diag *diag)
{
    ort_err err = ort_envelope_open(envelope, n, &owner->control_key, head, diag);
    if (err == ORT_OK && (head->hub_id != owner->hub_id || head->node.v != owner->node.v)) {
        err = ort_fail(diag, ORT_EAUTH, "the kept table is of another hub or node");
    }
    return err;
}

/* Applies a body and holds it against the hash that was signed. */
static ort_err
step(loading *to, const ort_table *base, const ort_table_head *head, const ort_buf *body,
     ort_diag *diag)
{
    ort_table *next = NULL;
    ort_hash hash;
    ort_err err = ort_table_apply(&next, base, body->data, body->len, &dp_table__codec, diag);
    if (err != ORT_OK) {
        return err;
    }
    ort_table_hash(next, &hash);
    if (!ort_hash_equal(&hash, &head->at.hash)) {
        ort_table_unref(next);
        return ort_fail(diag, ORT_ECORRUPT, "the kept table's hash is not the signed one");
    }
    ort_table_unref(to->content);
    *to = (loading){.content = next, .at = head->at, .issued_at_ms = head->issued_at_ms};
    return ORT_OK;
}

static ort_err
load_table(const dp_keep_owner *owner, const ort_buf *file, loading *to, ort_diag *diag)
{
    ort_table_head head;
    ort_buf body = {0};
    ort_cursor c = ort_cursor_of(file->data, file->len);
    const char *magic = ort_cursor_take(&c, sizeof MAGIC);
    const uint32_t crc = ort_cursor_u32(&c);
    const unsigned char *rest = c.at;
    const size_t rest_len = ort_cursor_left(&c);
    const size_t envelope_len = ort_cursor_u32(&c), raw = ort_cursor_u32(&c),
                 packed = ort_cursor_u32(&c);
    const void *envelope = ort_cursor_take(&c, envelope_len);
    const void *state = ort_cursor_take(&c, packed);

    if (magic != NULL && memcmp(magic, MAGIC, MAGIC_WORD) == 0 &&
        (unsigned char)magic[MAGIC_WORD] > (unsigned char)MAGIC[MAGIC_WORD]) {
        return ort_fail(diag, ORT_EVERSION, TABLE_FILE ": version %u, this program reads %u",
                        (unsigned char)magic[MAGIC_WORD], (unsigned char)MAGIC[MAGIC_WORD]);
    }
    if (c.failed || ort_cursor_left(&c) != 0 || memcmp(magic, MAGIC, sizeof MAGIC) != 0 ||
        ort_crc32c(0, rest, rest_len) != crc || raw > ORT_WIRE_BYTES_MAX) {
        return ort_fail(diag, ORT_ECORRUPT, TABLE_FILE " is damaged");
    }
    ort_err err = open_ours(owner, envelope, envelope_len, &head, diag);
    if (err == ORT_OK && raw == 0) {
        err = head.base == 0 ? ort_envelope_body(envelope, envelope_len, &body, diag)
                             : ort_fail(diag, ORT_ECORRUPT, TABLE_FILE " lacks its state");
    } else if (err == ORT_OK) {
        char *at = ort_buf_reserve(&body, raw);
        const size_t did = at != NULL ? ZSTD_decompress(at, raw, state, packed) : 0;
        if (at == NULL) {
            err = ort_fail(diag, ORT_ENOMEM, "kept table");
        } else if (ZSTD_isError(did) || did != raw) {
            err = ort_fail(diag, ORT_ECORRUPT, TABLE_FILE " does not unpack");
        } else {
            ort_buf_commit(&body, raw);
        }
    }
    if (err == ORT_OK) {
        err = step(to, NULL, &head, &body, diag);
    }
    ort_buf_fini(&body);
    return err;
}

/* Follows the log as far as it leads: a torn or stale tail ends it, which the watermark judges. */
static ort_err
load_log(dp_keep *keep, const dp_keep_owner *owner, loading *to, ort_diag *diag)
{
    ort_buf log = {0}, body = {0};
    ort_err err = ort_file_read(keep->dir_fd, LOG_FILE, LOG_BYTES, &log, diag);
    ort_cursor c = ort_cursor_of(log.data, log.len);
    keep->log_at = 0;
    while (err == ORT_OK) {
        ort_table_head head;
        unsigned char field[4];
        const uint32_t len = ort_cursor_u32(&c), crc = ort_cursor_u32(&c);
        const void *envelope = ort_cursor_take(&c, len);
        ort_put_u32(field, len);
        if (c.failed || len == 0 ||
            ort_crc32c(ort_crc32c(0, field, sizeof field), envelope, len) != crc) {
            break;
        }
        const ort_err ours = open_ours(owner, envelope, len, &head, diag);
        if (ours != ORT_OK) {
            err = ours == ORT_EVERSION ? ours : ORT_OK;
            break;
        }
        if (ort_table_at_cmp(&head.at, &to->at) <= 0) {
            continue; /* from before the table file was written */
        }
        if (head.base != to->at.version || head.at.generation != to->at.generation ||
            !ort_hash_equal(&head.base_hash, &to->at.hash)) {
            break;
        }
        ort_buf_clear(&body);
        err = ort_envelope_body(envelope, len, &body, diag);
        if (err == ORT_OK) {
            err = step(to, to->content, &head, &body, diag);
        }
        if (err == ORT_OK) {
            keep->log_at = (uint32_t)(c.at - (const unsigned char *)log.data);
        }
    }
    ort_buf_fini(&body);
    ort_buf_fini(&log);
    return err;
}

/* Not signed, not ours, no JSON, ..: damage all of it. */
static ort_err
as_load_says(ort_err err)
{
    const bool other = err == ORT_OK || err == ORT_ENOMEM || err == ORT_EIO || err == ORT_EBUSY ||
                       err == ORT_EVERSION;
    return other ? err : ORT_ECORRUPT;
}

static ort_err
check_mark(const dp_keep *keep, const loading *to, ort_diag *diag)
{
    return ort_table_at_cmp(&to->at, &keep->mark) >= 0
               ? ORT_OK
               : ort_fail(diag, ORT_ESTALE,
                          "the kept table is version %" PRIu64 " of generation %" PRIu64
                          ", but version %" PRIu64 " of generation %" PRIu64 " had been applied",
                          to->at.version, to->at.generation, keep->mark.version,
                          keep->mark.generation);
}

ort_err
dp_keep_load(dp_keep *keep, const dp_keep_owner *owner, const dp_table **out, ort_diag *diag)
{
    ort_buf file = {0};
    loading to = {0};
    const size_t max = 2 * (size_t)ORT_WIRE_BYTES_MAX + TABLE_HEAD_BYTES;
    *out = NULL;
    ort_err err = ort_file_read(keep->dir_fd, TABLE_FILE, max, &file, diag);
    if (err == ORT_OK) {
        err = load_table(owner, &file, &to, diag);
        if (err == ORT_OK) {
            err = load_log(keep, owner, &to, diag);
        }
        err = as_load_says(err);
    }
    ort_buf_fini(&file);
    if (err == ORT_OK) {
        err = check_mark(keep, &to, diag);
    }
    if (err == ORT_OK && ort_table_at_cmp(&to.at, &keep->mark) > 0) {
        err = mark_put(keep, &to.at, diag); /* a crash came between the two */
    }
    if (err == ORT_OK) {
        err = dp_table__new(out, owner->node, to.at, to.issued_at_ms, to.content);
    }
    ort_table_unref(to.content);
    return err;
}

/* ---- put ---- */

/* Replaces the table file; `state` NULL when the envelope is whole. */
static ort_err
table_replace(dp_keep *keep, const void *envelope, size_t n, const ort_table *state, ort_diag *diag)
{
    ort_buf body = {0}, file = {0};
    ort_err err = ORT_OK;
    size_t packed = 0;
    if (state != NULL) {
        err = ort_table_write(state, &body);
    }
    const size_t bound = state != NULL ? ZSTD_compressBound(body.len) : 0;
    char *at = err == ORT_OK ? ort_buf_reserve(&file, TABLE_HEAD_BYTES + n + bound) : NULL;
    if (at == NULL || body.len > ORT_WIRE_BYTES_MAX) {
        err = ort_fail(diag, at == NULL ? ORT_ENOMEM : ORT_ETOOBIG, "keep a table");
        goto done;
    }
    if (state != NULL) {
        packed = ZSTD_compress(at + TABLE_HEAD_BYTES + n, bound, body.data, body.len, ZSTD_LEVEL);
        if (ZSTD_isError(packed)) {
            err = ort_fail(diag, ORT_EINTERNAL, "pack table: %s", ZSTD_getErrorName(packed));
            goto done;
        }
    }
    memcpy(at, MAGIC, sizeof MAGIC);
    ort_put_u32(at + 12, (uint32_t)n);
    ort_put_u32(at + 16, (uint32_t)body.len);
    ort_put_u32(at + 20, (uint32_t)packed);
    memcpy(at + TABLE_HEAD_BYTES, envelope, n);
    ort_put_u32(at + 8, ort_crc32c(0, at + 12, TABLE_HEAD_BYTES - 12 + n + packed));
    ort_buf_commit(&file, TABLE_HEAD_BYTES + n + packed);
    err = ort_file_replace(keep->dir_fd, TABLE_FILE, file.data, file.len, 0600, diag);
    if (err == ORT_OK) {
        keep->log_at = 0; /* what stands in the log is not newer, and is skipped */
    }
done:
    ort_buf_fini(&body);
    ort_buf_fini(&file);
    return err;
}

static ort_err
log_append(dp_keep *keep, const void *envelope, size_t n, ort_diag *diag)
{
    ort_buf record = {0};
    unsigned char field[4];
    ort_put_u32(field, (uint32_t)n);
    ort_buf_put(&record, field, sizeof field);
    ort_buf_put_u32(&record, ort_crc32c(ort_crc32c(0, field, sizeof field), envelope, n));
    ort_buf_put(&record, envelope, n);
    ort_err err = ort_buf_check(&record);
    if (err == ORT_OK) {
        err = ort_pwrite_full(keep->log_fd, record.data, record.len, keep->log_at, diag);
    }
    if (err == ORT_OK && fdatasync(keep->log_fd) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "fdatasync " LOG_FILE);
    }
    if (err == ORT_OK) {
        keep->log_at += (uint32_t)record.len;
    }
    ort_buf_fini(&record);
    return err;
}

ort_err
dp_keep_put(dp_keep *keep, const ort_table_head *head, const void *envelope, size_t n,
            const ort_table *after, ort_diag *diag)
{
    ort_err err;
    if (head->base == 0) {
        err = table_replace(keep, envelope, n, NULL, diag);
    } else if (n + RECORD_HEAD_BYTES > LOG_BYTES - keep->log_at) {
        err = table_replace(keep, envelope, n, after, diag);
    } else {
        err = log_append(keep, envelope, n, diag);
    }
    return err == ORT_OK ? mark_put(keep, &head->at, diag) : err;
}

/* ---- inspection ---- */

/* The checksum and the lengths, without an owner to hold it against. */
static ort_err
check_table_bytes(const ort_buf *file, ort_diag *diag)
{
    ort_cursor c = ort_cursor_of(file->data, file->len);
    const char *magic = ort_cursor_take(&c, sizeof MAGIC);
    const uint32_t crc = ort_cursor_u32(&c);
    return magic != NULL && !c.failed && memcmp(magic, MAGIC, sizeof MAGIC) == 0 &&
                   ort_crc32c(0, c.at, ort_cursor_left(&c)) == crc
               ? ORT_OK
               : ort_fail(diag, ORT_ECORRUPT, TABLE_FILE " is damaged");
}

static ort_err
verify_table(dp_keep *keep, const dp_keep_owner *owner, dp_keep_report *out, ort_diag *diag)
{
    ort_buf file = {0};
    loading to = {0};
    const size_t max = 2 * (size_t)ORT_WIRE_BYTES_MAX + TABLE_HEAD_BYTES;
    ort_err err = ort_file_read(keep->dir_fd, TABLE_FILE, max, &file, diag);
    if (err == ORT_OK) {
        out->files++;
        out->bytes += file.len;
        err = owner == NULL ? check_table_bytes(&file, diag) : load_table(owner, &file, &to, diag);
    }
    if (err == ORT_OK && owner != NULL) {
        err = load_log(keep, owner, &to, diag);
        out->table = to.at;
        if (err == ORT_OK) {
            err = check_mark(keep, &to, diag);
        }
    }
    ort_table_unref(to.content);
    ort_buf_fini(&file);
    return err == ORT_ENOTFOUND || err == ORT_ESTALE ? err : as_load_says(err);
}

ort_err
dp_keep_verify(int dir_fd, const dp_keep_owner *owner, dp_keep_report *out, ort_diag *diag)
{
    dp_keep keep = {.dir_fd = dir_fd, .log_fd = -1};
    struct stat st;
    ort_err err = ORT_OK;
    *out = (dp_keep_report){0};
    keep.mark_fd = ort_open_beneath(dir_fd, MARK_FILE, O_RDONLY, 0);
    if (keep.mark_fd >= 0) {
        out->files++;
        out->bytes += 2 * (uint64_t)SLOT_BYTES;
        err = mark_load(&keep, &out->mark_damaged, diag);
        out->mark = keep.mark;
    }
    if (err == ORT_ECORRUPT) { /* too short: as if both slots were bad */
        out->mark_damaged = true;
        err = ORT_OK;
    }
    if (fstatat(dir_fd, LOG_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        out->files++;
        out->bytes += (uint64_t)st.st_size;
    }
    if (err == ORT_OK) {
        err = verify_table(&keep, owner, out, diag);
    }
    if (err == ORT_ENOTFOUND) { /* nothing was kept, or somebody removed it: a node fetches it */
        err = ORT_OK;
    }
    ort_fd_close(keep.mark_fd);
    return err;
}

ort_err
dp_keep_remove(int dir_fd, bool mark, ort_diag *diag)
{
    ort_err err = ort_tree_remove(dir_fd, mark ? MARK_FILE : TABLE_FILE, diag);
    if (err == ORT_OK && !mark) {
        err = ort_tree_remove(dir_fd, LOG_FILE, diag);
    }
    return err == ORT_OK ? ort_dir_sync(dir_fd, diag) : err;
}
