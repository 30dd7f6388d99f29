/* Full files of the log, packed: read like before, and damage is found. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage/log.h"
#include "support/scratch.h"

#define RECORDS 900u

/* Files of some 400 KiB: two blocks each. */
static const dp_log_config CONFIG = {
    .tenant = {7}, .shard = {9}, .epoch = 1, .file_bytes_max = 400u << 10};

static size_t
body_of(uint64_t i, char body[4096])
{
    const size_t len = 100 + (size_t)(i * 7919 % 3900);
    for (size_t k = 0; k < len; k++) {
        body[k] =
            (char)("{\"city\":\"Graz\",\"number\":"[k % 24] + (k % 24 == 23 ? (int)(i % 50) : 0));
    }
    return len;
}

static void
fill(dp_log *log, uint64_t from, uint64_t to)
{
    char body[4096];
    dp_log_ticket ticket = {0};
    for (uint64_t i = from; i <= to; i++) {
        const size_t len = body_of(i, body);
        assert_int_equal(dp_log_append(log, 3, body, len, &ticket, NULL), ORT_OK);
        if (i % 10 == 0 || i == to) {
            assert_int_equal(dp_log_wait(log, ticket, NULL), ORT_OK);
        }
    }
}

static ort_err
expect_record(void *ctx, const dp_log_record *record, ort_diag *diag)
{
    uint64_t *next = ctx;
    char body[4096];
    (void)diag;
    assert_int_equal(record->lsn, *next);
    assert_int_equal(record->len, body_of(record->lsn, body));
    assert_memory_equal(record->body, body, record->len);
    (*next)++;
    return ORT_OK;
}

static void
expect_log(dp_log *log, uint64_t from, uint64_t last)
{
    uint64_t next = from;
    assert_int_equal(dp_log_replay(log, from, expect_record, &next, NULL), ORT_OK);
    assert_int_equal(next, last + 1);
}

static dp_log *
must_open(int dir_fd)
{
    dp_log *log;
    ort_diag diag = {{0}};
    if (dp_log_open(&log, dir_fd, &CONFIG, NULL, &diag) != ORT_OK) {
        fail_msg("open: %s", diag.text);
    }
    return log;
}

static uint32_t
pack_all(dp_log *log, uint32_t keep)
{
    uint32_t count = 0;
    bool packed = true;
    while (packed) {
        ort_diag diag = {{0}};
        assert_int_equal(dp_log_pack_due(log, keep), true);
        if (dp_log_pack(log, keep, 1, &packed, &diag) != ORT_OK) {
            fail_msg("pack: %s", diag.text);
        }
        count += packed;
        if (!dp_log_pack_due(log, keep)) {
            break;
        }
    }
    return count;
}

static void
packed_files_are_read_cut_and_reopened_like_plain_ones(void **state)
{
    (void)state;
    scratch place = scratch_make();
    dp_log *log = must_open(place.fd);
    fill(log, 1, RECORDS);
    const uint64_t before = dp_log_disk_bytes(log);

    /* A reader stands in the first file while it is packed. */
    dp_log_reader *reader;
    dp_log_record record;
    bool got;
    assert_int_equal(dp_log_reader_open(&reader, log, 1, NULL), ORT_OK);
    uint64_t next = 1;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(dp_log_reader_next(reader, &record, &got, NULL), ORT_OK);
        assert_true(got);
        assert_int_equal(expect_record(&next, &record, NULL), ORT_OK);
    }
    const uint32_t packed = pack_all(log, 1);
    assert_true(packed >= 3);
    assert_true(dp_log_disk_bytes(log) < before * 2 / 3);
    assert_int_equal(pack_all(log, 0), 1);
    assert_true(dp_log_disk_bytes(log) < before / 2);
    for (;;) {
        assert_int_equal(dp_log_reader_next(reader, &record, &got, NULL), ORT_OK);
        if (!got) {
            break;
        }
        assert_int_equal(expect_record(&next, &record, NULL), ORT_OK);
    }
    assert_int_equal(next, RECORDS + 1);
    dp_log_reader_close(reader);
    expect_log(log, 1, RECORDS);
    expect_log(log, RECORDS / 3, RECORDS);

    fill(log, RECORDS + 1, RECORDS + 20);
    dp_log_close(log);
    dp_log_found found;
    assert_int_equal(dp_log_verify(place.fd, &CONFIG, NULL, NULL, &found, NULL), ORT_OK);
    assert_int_equal(found.last_lsn, RECORDS + 20);
    log = must_open(place.fd);
    expect_log(log, 1, RECORDS + 20);
    assert_int_equal(dp_log_cut(log, RECORDS / 2, NULL), ORT_OK);
    expect_log(log, RECORDS / 2 + 1, RECORDS + 20);
    dp_log_close(log);
    scratch_drop(&place);
}

/* One bit at every 997th byte of a packed file. */
static void
a_flipped_bit_in_a_packed_file_is_found(void **state)
{
    (void)state;
    scratch place = scratch_make();
    dp_log *log = must_open(place.fd);
    static const char name[] = "log.0000000000000001";
    fill(log, 1, RECORDS / 3);
    assert_true(pack_all(log, 0) >= 1);
    dp_log_close(log);
    ort_buf bytes = {0};
    assert_int_equal(ort_file_read(place.fd, name, 1 << 24, &bytes, NULL), ORT_OK);
    const int fd = openat(place.fd, name, O_RDWR | O_CLOEXEC);
    for (size_t at = 0; at < bytes.len; at += at < 200 ? 1 : 997) {
        const char bad = (char)(bytes.data[at] ^ 1 << (at % 8));
        assert_int_equal(pwrite(fd, &bad, 1, (off_t)at), 1);
        const ort_err err = dp_log_verify(place.fd, &CONFIG, NULL, NULL, NULL, NULL);
        if (err != ORT_ECORRUPT && err != ORT_EVERSION) {
            fail_msg("byte %zu: %d", at, (int)err);
        }
        assert_int_equal(pwrite(fd, bytes.data + at, 1, (off_t)at), 1);
    }
    /* And cut anywhere. */
    for (size_t len = 0; len < bytes.len; len += len < 100 ? 1 : 1999) {
        assert_int_equal(ftruncate(fd, (off_t)len), 0);
        assert_int_equal(dp_log_verify(place.fd, &CONFIG, NULL, NULL, NULL, NULL), ORT_ECORRUPT);
        assert_int_equal(pwrite(fd, bytes.data, bytes.len, 0), (ssize_t)bytes.len);
    }
    assert_int_equal(dp_log_verify(place.fd, &CONFIG, NULL, NULL, NULL, NULL), ORT_OK);
    close(fd);
    ort_buf_fini(&bytes);
    scratch_drop(&place);
}

/* What is damaged is not packed, and stays where somebody can look at it. */
static void
a_damaged_file_is_not_packed(void **state)
{
    (void)state;
    scratch place = scratch_make();
    dp_log *log = must_open(place.fd);
    bool packed;
    fill(log, 1, RECORDS / 3);
    const int fd = openat(place.fd, "log.0000000000000001", O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "x", 1, 5000), 1);
    close(fd);
    assert_int_equal(dp_log_pack(log, 0, 1, &packed, NULL), ORT_ECORRUPT);
    assert_false(packed);
    assert_int_equal(faccessat(place.fd, "logz.new", F_OK, 0), -1);
    dp_log_close(log);
    scratch_drop(&place);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_files_are_read_cut_and_reopened_like_plain_ones),
        cmocka_unit_test(a_flipped_bit_in_a_packed_file_is_found),
        cmocka_unit_test(a_damaged_file_is_not_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
