/* The files of a shard in words. */
#include "storage/dump.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "storage/io.h"
#include "storage/log_internal.h"
#include "storage/manifest.h"
#include "storage/segment_internal.h"

typedef struct {
    dp_describe_fn describe;
    dp_say_fn say;
    void *arg;
} dump;

static ort_err
say_line(const dump *d, ort_buf *line, ort_diag *diag)
{
    const char *text = ort_buf_peek_cstr(line);
    if (text != NULL) {
        d->say(d->arg, text);
    }
    ort_buf_fini(line);
    return text != NULL ? ORT_OK : ort_fail(diag, ORT_ENOMEM, "dump");
}

/* --- log -------------------------------------------------------------------------------------- */

static ort_err
dump_record(void *ctx, const dp_log_record *r, ort_diag *diag)
{
    const dump *d = ctx;
    ort_buf line = {0};
    ort_buf_printf(&line,
                   "{\"lsn\":%" PRIu64 ",\"epoch\":%" PRIu64 ",\"type\":%u,\"bytes\":%zu,"
                   "\"hash\":\"%016" PRIx64 "\"",
                   r->lsn, r->epoch, r->type, r->len, r->hash);
    if (d->describe != NULL) {
        d->describe(&line, r);
    }
    ort_buf_puts(&line, "}");
    return say_line(d, &line, diag);
}

/* Opens a file of the log, packed or not, and reads its header. */
static ort_err
open_log(int dir_fd, const char *name, dp_log_window *w, dp_log_header *out, ort_diag *diag)
{
    const unsigned char *head;
    size_t got;
    int fd = -1;
    *w = (dp_log_window){.fd = -1};
    ort_err err = dp_io_open(dir_fd, name, O_RDONLY, &fd, diag);
    if (err == ORT_OK) {
        err = dp_log__window_open(w, fd, name, diag);
    }
    if (err == ORT_OK) {
        err = dp_log__window_get(w, 0, DP_LOG_HEADER_BYTES, &head, &got, diag);
    }
    if (err == ORT_OK) {
        err = got < DP_LOG_HEADER_BYTES ? ort_fail(diag, ORT_ECORRUPT, "%s: no header", name)
                                        : dp_log__header_decode(head, out, diag);
    }
    return err;
}

static ort_err
dump_log(const dump *d, int dir_fd, const char *name, ort_diag *diag)
{
    dp_log_header h;
    dp_log_window w;
    ort_buf line = {0};
    dp_log_scan scan;
    ort_err err = open_log(dir_fd, name, &w, &h, diag);
    if (err == ORT_OK) {
        ort_buf_printf(&line,
                       "{\"file\":\"%s\",\"tenant\":\"%016" PRIx64 "\",\"shard\":\"%016" PRIx64
                       "\",\"first_lsn\":%" PRIu64 "}",
                       name, h.tenant, h.shard, h.first_lsn);
        err = say_line(d, &line, diag);
    }
    if (err == ORT_OK) {
        const dp_log_config config = {.tenant = {h.tenant}, .shard = {h.shard}};
        err = dp_log__scan(&w, name, &config, true, dump_record, (void *)d, &scan, diag);
    }
    if (err == ORT_OK) {
        ort_buf_printf(
            &line, "{\"end\":%" PRIu64 ",\"file_bytes\":%" PRIu64 ",\"closed_in_good_order\":%s}",
            scan.end, scan.size, scan.clean ? "true" : "false");
        err = say_line(d, &line, diag);
    }
    dp_log__window_close(&w);
    return err;
}

/* --- manifest --------------------------------------------------------------------------------- */

static uint32_t
count_live(const dp_manifest_chunk *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < DP_CHUNK_WORDS; i++) {
        n += (uint32_t)__builtin_popcountll(c->live[i]);
    }
    return n;
}

static ort_err
dump_manifest(const dump *d, int dir_fd, ort_diag *diag)
{
    dp_manifest m;
    uint64_t bytes;
    ort_buf line = {0};
    ort_err err = dp_manifest_read(dir_fd, &m, &bytes, diag);
    if (err == ORT_OK) {
        ort_buf_printf(&line,
                       "{\"file\":\"manifest\",\"tenant\":\"%016" PRIx64
                       "\",\"shard\":\"%016" PRIx64 "\",\"generation\":%" PRIu64 ",\"lsn\":%" PRIu64
                       ",\"epoch\":%" PRIu64 ",\"hash\":\"%016" PRIx64 "\",\"live\":%" PRIu64
                       ",\"logical_bytes\":%" PRIu64 ",\"slots\":%" PRIu32 "}",
                       m.tenant.v, m.shard.v, m.generation, m.mark.lsn, m.mark.epoch, m.mark.hash,
                       m.live_count, m.logical_bytes, m.slot_end);
        err = say_line(d, &line, diag);
    }
    for (uint32_t i = 0; err == ORT_OK && i < m.segment_count; i++) {
        ort_buf_printf(&line,
                       "{\"segment\":\"%016" PRIx64 "\",\"uid\":\"%016" PRIx64
                       "\",\"bytes\":%" PRIu64 "}",
                       m.segments[i].id, m.segments[i].uid, m.segments[i].file_bytes);
        err = say_line(d, &line, diag);
    }
    for (uint32_t i = 0; err == ORT_OK && i < m.chunk_count; i++) {
        const dp_manifest_chunk *c = &m.chunks[i];
        ort_buf_printf(
            &line, "{\"chunk\":%" PRIu32 ",\"segment\":\"%016" PRIx64 "\",\"live\":%" PRIu32 "}",
            c->chunk, m.segments[c->segment].id, count_live(c));
        err = say_line(d, &line, diag);
    }
    dp_manifest_fini(&m);
    return err;
}

/* --- segment ---------------------------------------------------------------------------------- */

/* The head, believed only where its checksum is right. */
static ort_err
read_segment_head(int dir_fd, const char *name, dp_segment_ref *ref, ort_tenant_id *tenant,
                  ort_collection_id *shard, ort_diag *diag)
{
    unsigned char head[88];
    int fd = -1;
    ort_err err = dp_io_open(dir_fd, name, O_RDONLY, &fd, diag);
    if (err == ORT_OK) {
        err = dp_io_read(fd, head, sizeof head, 0, diag);
    }
    dp_io_close(fd);
    if (err == ORT_OK && (memcmp(head, DP_SEGMENT_MAGIC, 8) != 0 ||
                          ort_crc32c(0, head, 84) != ort_get_u32(head + 84))) {
        err = ort_fail(diag, ORT_ECORRUPT, "%s: this is no segment, or its head is damaged", name);
    }
    if (err == ORT_OK) {
        tenant->v = ort_get_u64(head + 16);
        shard->v = ort_get_u64(head + 24);
        *ref = (dp_segment_ref){.id = ort_get_u64(head + 32),
                                .uid = ort_get_u64(head + 40),
                                .file_bytes = ort_get_u64(head + 72)};
    }
    return err;
}

static ort_err
dump_segment(const dump *d, int dir_fd, const char *name, ort_diag *diag)
{
    static const char *const kinds[] = {"",        "chunks", "ids",  "versions", "order",
                                        "present", "rows",   "ends", "blocks",   "data"};
    dp_segment_ref ref;
    ort_tenant_id tenant;
    ort_collection_id shard;
    dp_segment *s = NULL;
    ort_buf line = {0};
    ort_err err = read_segment_head(dir_fd, name, &ref, &tenant, &shard, diag);
    if (err == ORT_OK) {
        err = dp_segment_open(&s, dir_fd, &ref, tenant, shard, diag);
    }
    if (err == ORT_OK) {
        ort_buf_printf(&line,
                       "{\"file\":\"%s\",\"tenant\":\"%016" PRIx64 "\",\"shard\":\"%016" PRIx64
                       "\",\"uid\":\"%016" PRIx64 "\",\"bytes\":%" PRIu64 ",\"chunks\":%" PRIu32
                       ",\"slots\":%" PRIu32 ",\"live_when_written\":%" PRIu32 "}",
                       name, tenant.v, shard.v, ref.uid, ref.file_bytes, s->chunk_count, s->slots,
                       s->order_count);
        err = say_line(d, &line, diag);
    }
    for (uint32_t i = 0; err == ORT_OK && i < s->section_count; i++) {
        const dp_section *x = &s->sections[i];
        ort_buf_printf(&line, "{\"section\":\"%s\"", kinds[x->kind]);
        if (x->kind >= DP_SECTION_PRESENT && x->column_id != DP_STREAM_PAYLOAD) {
            ort_buf_printf(&line, ",\"column\":%" PRIu32, x->column_id);
        }
        if (x->kind == DP_SECTION_ROWS) {
            ort_buf_printf(&line, ",\"type\":%" PRIu32 ",\"dim\":%" PRIu32, x->type, x->dim);
        }
        ort_buf_printf(&line, ",\"offset\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", x->offset,
                       x->bytes);
        err = say_line(d, &line, diag);
    }
    dp_segment_close(s);
    return err;
}

/* --- any -------------------------------------------------------------------------------------- */

ort_err
dp_storage_dump(int dir_fd, const char *name, dp_describe_fn describe, dp_say_fn say, void *arg,
                ort_diag *diag)
{
    const dump d = {describe, say, arg};
    if (strcmp(name, DP_MANIFEST_NAME) == 0) {
        return dump_manifest(&d, dir_fd, diag);
    }
    if (strncmp(name, "log.", 4) == 0) {
        return dump_log(&d, dir_fd, name, diag);
    }
    if (strncmp(name, "seg.", 4) == 0) {
        return dump_segment(&d, dir_fd, name, diag);
    }
    return ort_fail(diag, ORT_EINVAL, "%s is no file of a shard (manifest, log.*, seg.*)", name);
}

static ort_err
owner_of_file(int dir_fd, const char *name, ort_tenant_id *tenant, ort_collection_id *shard)
{
    ort_err err = ORT_ENOTFOUND;
    if (strncmp(name, "log.", 4) == 0) {
        dp_log_header h;
        dp_log_window w;
        err = open_log(dir_fd, name, &w, &h, NULL);
        dp_log__window_close(&w);
        if (err == ORT_OK) {
            tenant->v = h.tenant;
            shard->v = h.shard;
        }
    } else if (strncmp(name, "seg.", 4) == 0) {
        dp_segment_ref ref;
        err = read_segment_head(dir_fd, name, &ref, tenant, shard, NULL);
    }
    return err;
}

ort_err
dp_storage_owner(int dir_fd, ort_tenant_id *tenant, ort_collection_id *shard, ort_diag *diag)
{
    dp_manifest m;
    uint64_t bytes;
    ort_err err = dp_manifest_read(dir_fd, &m, &bytes, NULL);
    if (err == ORT_OK) {
        *tenant = m.tenant;
        *shard = m.shard;
        dp_manifest_fini(&m);
        return ORT_OK;
    }
    const int fd = ort_open_beneath(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        ort_fd_close(fd);
        return ort_fail_errno(diag, ORT_EIO, "list the directory");
    }
    err = ORT_ENOTFOUND;
    for (struct dirent *d; err != ORT_OK && (d = readdir(dir)) != NULL;) {
        err = owner_of_file(dir_fd, d->d_name, tenant, shard);
    }
    closedir(dir);
    return err == ORT_OK ? ORT_OK : ort_fail(diag, ORT_ENOTFOUND, "no file here says whose it is");
}
