/* Bytes as a snapshot: refused with words, or a collection that opens, searches and counts as it
 * says. First byte: odd, and the input is a list of blocks that get heads, checksums and a digest
 * as somebody would who forges a file; even, and it is the file. Blocks of the list: u8 type, u16
 * bytes, the plain bytes. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "collection/snapshot.h"
#include "support/scratch.h"
#include "support/snapshot_forge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TENANT ((ort_tenant_id){1})
#define ID ((ort_collection_id){2})

static scratch place;
static dp_quota *quota;

static void
assemble(const uint8_t *data, size_t size, ort_buf *out)
{
    forgery f = {.count = 0};
    ort_cursor c = ort_cursor_of(data, size);
    while (f.count < FORGE_BLOCKS_MAX) {
        const uint32_t type = ort_cursor_u8(&c);
        const uint16_t n = ort_cursor_u16(&c);
        const void *plain = ort_cursor_take(&c, n);
        if (c.failed) {
            break;
        }
        f.blocks[f.count].type = type;
        ort_buf_put(&f.blocks[f.count++].plain, plain, n);
    }
    forge_write(&f, out);
    forge_fini(&f);
}

static ort_err
keep_going(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    (void)ctx;
    (void)query;
    (void)schema;
    (void)view;
    return ORT_OK;
}

/* What was believed must be a sound collection. */
static void
open_made(int dir, const dp_snapshot_item *item)
{
    const dp_collection_config config = {
        .tenant = TENANT, .id = ID, .name = "c", .schema = item->schema, .quota = quota};
    const dp_collection_env env = {.workers = NULL};
    dp_collection *c;
    dp_collection_info info;
    ort_point_id next;
    bool more;
    ort_diag diag = {""};
    if (dp_collection_open(&c, dir, -1, &config, &env, &diag) != ORT_OK) {
        fprintf(stderr, "believed, and does not open: %s\n", diag.text);
        abort();
    }
    dp_collection_get_info(c, &info);
    if (info.points != item->points || info.bytes != item->bytes || info.applied_lsn != item->lsn ||
        dp_collection_scroll(c, NULL, NULL, 1000, true, keep_going, NULL, &more, &next, &diag) !=
            ORT_OK) {
        fprintf(stderr, "believed, and is something else: %s\n", diag.text);
        abort();
    }
    dp_collection_close(c);
}

static void
read_all(int fd)
{
    const dp_snapshot_bounds bounds = {.bytes_max = 0};
    dp_snapshot_reader *r;
    dp_snapshot_item item;
    bool got = true;
    ort_diag diag = {""};
    ort_err err = dp_snapshot_reader_open(&r, fd, &bounds, &diag);
    while (err == ORT_OK && got) {
        err = dp_snapshot_next(r, &item, &got, &diag);
        if (err == ORT_OK && got) {
            if (ort_tree_remove(place.fd, "c", NULL) != ORT_OK || mkdirat(place.fd, "c", 0700)) {
                abort();
            }
            const int dir = openat(place.fd, "c", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            err = dp_snapshot_fill(r, dir, TENANT, ID, &diag);
            if (err == ORT_OK) {
                open_made(dir, &item);
            }
            close(dir);
        }
    }
    if (err != ORT_OK && diag.text[0] == '\0') {
        abort();
    }
    dp_snapshot_reader_close(r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ort_buf file = {0};
    if (size < 1) {
        return 0;
    }
    if (quota == NULL) {
        place = scratch_make();
        if (dp_quota_new(&quota, NULL, "tenant") != ORT_OK) {
            abort();
        }
    }
    if ((data[0] & 1) != 0) {
        assemble(data + 1, size - 1, &file);
    } else {
        ort_buf_put(&file, data + 1, size - 1);
    }
    const int fd = memfd_create("snapshot", MFD_CLOEXEC);
    if (fd >= 0 && !file.failed && ort_pwrite_full(fd, file.data, file.len, 0, NULL) == ORT_OK) {
        read_all(fd);
    }
    ort_fd_close(fd);
    ort_buf_fini(&file);
    return 0;
}
