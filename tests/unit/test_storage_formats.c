/* Shards that older programs wrote, kept in tests/formats/shard-V: this one opens them, goes on
 * with them, and refuses what a newer one may write. With `--write DIR` it makes such a directory
 * with the formats of now: kept when one of them gets a new version.
 *
 *   shard-1  log 1, segment 1, manifest 1
 *   shard-2  log 1, packed log 1, segment 2, manifest 2; payloads by lz4 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "support/scratch.h"
#include "support/shard_model.h"

enum { TAIL = 140 }; /* operations behind the checkpoint: three files of the log */

/* What is in every kept shard, one operation after the other. */
static ort_err
sample_op(shard_model *m, uint64_t i, ort_diag *diag)
{
    const uint16_t op = i % 7 == 3 ? MODEL_OP_KILL : MODEL_OP_PUT;
    const uint32_t count = i < 4 ? 12 : 1;
    return shard_model_op(m, op, (uint32_t)(i * 5 % 40), count, (uint32_t)(i * 100 + 1), diag);
}

static void
sample_want(shard_model *m)
{
    memset(m->points_want, 0, sizeof m->points_want);
    for (uint64_t i = 0; i < 4 + TAIL; i++) {
        const uint16_t op = i % 7 == 3 ? MODEL_OP_KILL : MODEL_OP_PUT;
        model_apply(m->points_want, i + 1, op, (uint32_t)(i * 5 % 40), i < 4 ? 12 : 1,
                    (uint32_t)(i * 100 + 1));
    }
}

static void
must(ort_err err, const char *what, const ort_diag *diag)
{
    if (err != ORT_OK) {
        fail_msg("%s: error %d: %s", what, (int)err, diag->text);
    }
}

static int
write_sample(const char *path)
{
    shard_model *m = calloc(1, sizeof *m);
    ort_diag diag = {{0}};
    bool packed = false;
    const int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ort_err err = m != NULL && dir >= 0 ? shard_model_open(m, dir, &diag) : ORT_EIO;
    for (uint64_t i = 0; err == ORT_OK && i < 4 + TAIL; i++) {
        err = sample_op(m, i, &diag);
        if (err == ORT_OK && i == 3) {
            dp_checkpoint *c;
            dp_points_set_packing(m->points, (dp_packing){.kind = DP_PACK_LZ4});
            err = dp_points_freeze(m->points, dp_log_durable(m->log), &c, &diag);
            err = err == ORT_OK ? dp_checkpoint_write(c, NULL, &diag) : err;
            dp_checkpoint_free(c);
        }
    }
    err = err == ORT_OK ? dp_log_pack(m->log, 0, 1, &packed, &diag) : err;
    if (err != ORT_OK || !packed) {
        fprintf(stderr, "%s\n", diag.text);
        free(m);
        return 1;
    }
    shard_model_close(m);
    close(dir);
    free(m);
    return 0;
}

/* A copy, since opening goes on writing. */
static scratch
copy_of(const char *path)
{
    scratch place = scratch_make();
    const int from = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(from >= 0);
    DIR *dir = fdopendir(from);
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        ort_buf bytes = {0};
        if (d->d_name[0] == '.') {
            continue;
        }
        assert_int_equal(ort_file_read(from, d->d_name, 1 << 24, &bytes, NULL), ORT_OK);
        const int fd = openat(place.fd, d->d_name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0 && ort_write_full(fd, bytes.data, bytes.len, NULL) == ORT_OK);
        close(fd);
        ort_buf_fini(&bytes);
    }
    closedir(dir);
    return place;
}

static void
verify(const scratch *place)
{
    dp_verify_report report;
    ort_diag diag = {{0}};
    must(dp_storage_verify(place->fd, (ort_tenant_id){1}, (ort_collection_id){2}, &report, &diag),
         "verify", &diag);
    assert_true(report.points > 0);
}

static void
opens_and_goes_on(const char *path)
{
    scratch place = copy_of(path);
    shard_model *m = calloc(1, sizeof *m);
    ort_diag diag = {{0}};
    verify(&place);
    must(shard_model_open(m, place.fd, &diag), path, &diag);
    assert_int_equal(m->applied, 4 + TAIL);
    assert_int_equal(dp_points_mark(m->points).lsn, 4);
    sample_want(m);
    shard_model_check(m);
    must(shard_model_op(m, MODEL_OP_PUT, 30, 20, 77, &diag), path, &diag);
    must(shard_model_checkpoint(m, true, &diag), path, &diag);
    shard_model_check(m);
    shard_model_close(m);
    verify(&place);
    must(shard_model_open(m, place.fd, &diag), path, &diag);
    shard_model_check(m);
    shard_model_close(m);
    scratch_drop(&place);
    free(m);
}

static void
shards_of_every_version_open(void **state)
{
    (void)state;
    opens_and_goes_on("tests/formats/shard-1");
    opens_and_goes_on("tests/formats/shard-2");
}

/* Where a file's version and its checksum stand. */
static void
raise_version(ort_buf *bytes, const char *name)
{
    unsigned char *p = (unsigned char *)bytes->data;
    ort_put_u32(p + 8, ort_get_u32(p + 8) + 7);
    if (strncmp(name, "log.", 4) == 0) {
        ort_put_u32(p + 60, ort_crc32c(0, p, 60));
    } else if (strncmp(name, "seg.", 4) == 0) {
        ort_put_u32(p + 84, ort_crc32c(0, p, 84));
    } else {
        ort_put_u32(p + bytes->len - 4, ort_crc32c(0, p, bytes->len - 4));
    }
}

/* Each file in turn says that it is newer: told apart from damage, and nothing is changed. */
static void
newer_files_are_refused_as_such(void **state)
{
    (void)state;
    scratch place = copy_of("tests/formats/shard-2");
    shard_model *m = calloc(1, sizeof *m);
    unsigned files = 0;
    DIR *dir = fdopendir(openat(place.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    assert_non_null(dir);
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        ort_buf bytes = {0}, after = {0};
        ort_diag diag = {{0}};
        dp_verify_report report;
        if (d->d_name[0] == '.') {
            continue;
        }
        assert_int_equal(ort_file_read(place.fd, d->d_name, 1 << 24, &bytes, NULL), ORT_OK);
        const int fd = openat(place.fd, d->d_name, O_RDWR | O_CLOEXEC);
        raise_version(&bytes, d->d_name);
        assert_int_equal(pwrite(fd, bytes.data, bytes.len, 0), (ssize_t)bytes.len);
        assert_int_equal(shard_model_open(m, place.fd, &diag), ORT_EVERSION);
        assert_non_null(strstr(diag.text, "version"));
        assert_non_null(strstr(diag.text, "this program knows"));
        assert_int_equal(
            dp_storage_verify(place.fd, (ort_tenant_id){1}, (ort_collection_id){2}, &report, &diag),
            ORT_EVERSION);
        assert_int_equal(ort_file_read(place.fd, d->d_name, 1 << 24, &after, NULL), ORT_OK);
        assert_int_equal(after.len, bytes.len);
        assert_memory_equal(after.data, bytes.data, bytes.len);
        ort_put_u32((unsigned char *)bytes.data + 8,
                    ort_get_u32((unsigned char *)bytes.data + 8) - 14);
        raise_version(&bytes, d->d_name);
        assert_int_equal(pwrite(fd, bytes.data, bytes.len, 0), (ssize_t)bytes.len);
        close(fd);
        ort_buf_fini(&bytes);
        ort_buf_fini(&after);
        files++;
    }
    closedir(dir);
    assert_int_equal(files, 5); /* a manifest, a segment, three of the log */
    verify(&place);
    scratch_drop(&place);
    free(m);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_of_every_version_open),
        cmocka_unit_test(newer_files_are_refused_as_such),
    };
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        return write_sample(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
