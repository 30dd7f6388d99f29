/* The log: order, durability, torn tails, damage, failure. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/thread.h"
#include "storage/io.h"
#include "storage/log.h"
#include "storage/log_format.h"
#include "support/scratch.h"

static const dp_log_config CONFIG = {.tenant = {7}, .shard = {9}, .epoch = 1};

static dp_log *
must_open(int dir_fd, const dp_log_config *config, dp_log_found *found)
{
    dp_log *log;
    ort_diag diag = {{0}};
    const ort_err err = dp_log_open(&log, dir_fd, config, found, &diag);
    if (err != ORT_OK) {
        fail_msg("open: %s", diag.text);
    }
    return log;
}

/* Record i has a body of its own that tells i and is i % 97 + 4 bytes long. */
static size_t
body_of(uint64_t i, unsigned char body[128])
{
    const size_t len = (size_t)(i % 97) + 4;
    for (size_t k = 0; k < len; k++) {
        body[k] = (unsigned char)(i * 31 + k * 7 + 1);
    }
    return len;
}

static void
append(dp_log *log, uint64_t i)
{
    unsigned char body[128];
    dp_log_ticket ticket;
    const size_t len = body_of(i, body);
    assert_int_equal(dp_log_append(log, 3, body, len, &ticket, NULL), ORT_OK);
    assert_int_equal(ticket.lsn, i);
    assert_int_equal(dp_log_wait(log, ticket, NULL), ORT_OK);
}

static ort_err
expect_record(void *ctx, const dp_log_record *record, ort_diag *diag)
{
    uint64_t *next = ctx;
    unsigned char body[128];
    (void)diag;
    assert_int_equal(record->lsn, *next);
    assert_int_equal(record->len, body_of(record->lsn, body));
    assert_memory_equal(record->body, body, record->len);
    assert_int_equal(record->type, 3);
    (*next)++;
    return ORT_OK;
}

/* Reads back from..last and nothing else. */
static void
expect_log(dp_log *log, uint64_t from, uint64_t last)
{
    uint64_t next = from;
    assert_int_equal(dp_log_replay(log, from, expect_record, &next, NULL), ORT_OK);
    assert_int_equal(next, last + 1);
    assert_int_equal(dp_log_durable(log).lsn, last);
}

static void
records_come_back_in_order_over_files_and_reopens(void **state)
{
    (void)state;
    scratch place = scratch_make();
    const int dir = place.fd;
    dp_log_config config = CONFIG;
    config.file_bytes_max = 4096; /* a few dozen records a file */
    for (uint64_t round = 0; round < 5; round++) {
        dp_log_found found;
        dp_log *log = must_open(dir, &config, &found);
        assert_int_equal(found.last_lsn, round * 100);
        assert_int_equal(found.torn_bytes, 0);
        for (uint64_t i = round * 100 + 1; i <= round * 100 + 100; i++) {
            append(log, i);
        }
        expect_log(log, 1, round * 100 + 100);
        expect_log(log, round * 100 + 50, round * 100 + 100);
        dp_log_close(log);
    }
    scratch_drop(&place);
}

static void
cut_removes_whole_files_and_keeps_the_place(void **state)
{
    (void)state;
    scratch place = scratch_make();
    const int dir = place.fd;
    dp_log_config config = CONFIG;
    config.file_bytes_max = 4096;
    dp_log_found found;
    dp_log *log = must_open(dir, &config, NULL);
    for (uint64_t i = 1; i <= 300; i++) {
        append(log, i);
    }
    dp_log_reader *reader;
    assert_int_equal(dp_log_reader_open(&reader, log, 1, NULL), ORT_OK);
    assert_int_equal(dp_log_cut(log, 200, NULL), ORT_OK);
    dp_log_reader *gone;
    assert_int_equal(dp_log_reader_open(&gone, log, 1, NULL), ORT_ENOTFOUND);
    expect_log(log, 201, 300);
    dp_log_record record;
    bool got;
    assert_int_equal(dp_log_reader_next(reader, &record, &got, NULL), ORT_OK);
    assert_true(got && record.lsn == 1); /* its file is open still */
    dp_log_reader_close(reader);
    const dp_log_mark mark = dp_log_durable(log);
    dp_log_close(log);

    config.folded = (dp_log_mark){0};
    dp_log *none;
    assert_int_equal(dp_log_open(&none, dir, &config, NULL, NULL), ORT_ECORRUPT);
    config.folded = mark;
    log = must_open(dir, &config, &found);
    assert_true(found.first_lsn > 1 && found.first_lsn <= 201);
    append(log, 301);
    expect_log(log, 250, 301);
    dp_log_close(log);

    config.folded.lsn = 1000;
    assert_int_equal(dp_log_open(&none, dir, &config, NULL, NULL), ORT_ECORRUPT);
    config.folded = mark;
    config.folded.hash ^= 1;
    assert_int_equal(dp_log_open(&none, dir, &config, NULL, NULL), ORT_ECORRUPT);
    config.folded.hash ^= 1;
    config.tenant.v = 8;
    assert_int_equal(dp_log_open(&none, dir, &config, NULL, NULL), ORT_ECORRUPT);
    scratch_drop(&place);
}

/* A log of `count` records as a crash leaves it: no closing mark. Gives the bytes of its only file,
 * and where each record ends. */
static ort_buf
crashed_log(uint64_t count, uint64_t *ends)
{
    ort_buf bytes = {0};
    unsigned char header[DP_LOG_HEADER_BYTES], body[128];
    const dp_log_header h = {.tenant = 7, .shard = 9, .first_lsn = 1};
    dp_log__header_encode(&h, header);
    ort_buf_put(&bytes, header, sizeof header);
    dp_log_mark last = {0};
    for (uint64_t i = 1; i <= count; i++) {
        const size_t at = bytes.len;
        const size_t len = body_of(i, body);
        dp_log__record_put(&bytes, last, 1, 3, body, len, ort_crc32c(0, body, len));
        dp_log__group_set_synced((unsigned char *)bytes.data + at, bytes.len - at, i - 1);
        last.hash = dp_log__record_hash(last.hash, i, 1, 3, len, dp_log__body_hash(body, len));
        last.lsn = i;
        last.epoch = 1;
        ends[i] = bytes.len;
    }
    return bytes;
}

static const char FILE_NAME[] = "log.0000000000000001";

static void
put_file(int dir, const void *bytes, size_t n)
{
    const int fd = openat(dir, FILE_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ort_write_full(fd, bytes, n, NULL), ORT_OK);
    close(fd);
}

/* A crash can end the file anywhere, or leave zeros from anywhere on. What is whole stays, and the
 * log goes on behind it. */
static void
a_tail_torn_at_any_byte_is_cut(void **state)
{
    (void)state;
    scratch place = scratch_make();
    const int dir = place.fd;
    uint64_t ends[16];
    enum { COUNT = 12 };
    ort_buf whole = crashed_log(COUNT, ends);
    for (int zeros = 0; zeros < 2; zeros++) {
        for (size_t cut = 0; cut < whole.len; cut++) {
            /* Groups of one record: a bad record below the last is damage. */
            if (zeros && cut < ends[COUNT - 1] && cut >= DP_LOG_HEADER_BYTES) {
                continue;
            }
            if (zeros && cut < DP_LOG_HEADER_BYTES) {
                continue; /* no record is written before the header is durable */
            }
            ort_buf torn = {0};
            ort_buf_put(&torn, whole.data, cut);
            while (zeros && torn.len < whole.len + 4096) {
                ort_buf_putc(&torn, 0);
            }
            put_file(dir, torn.data, torn.len);
            uint64_t good = 0;
            while (good < COUNT && ends[good + 1] <= cut) {
                good++;
            }
            dp_log_found found;
            dp_log *log = must_open(dir, &CONFIG, &found);
            assert_int_equal(found.last_lsn, good);
            append(log, good + 1);
            expect_log(log, 1, good + 1);
            dp_log_close(log);
            log = must_open(dir, &CONFIG, &found);
            expect_log(log, 1, good + 1);
            dp_log_close(log);
            ort_buf_fini(&torn);
        }
    }
    ort_buf_fini(&whole);
    scratch_drop(&place);
}

/* In a group commit the disk may take the later records and not the first. */
static void
a_group_torn_at_its_front_is_cut_whole(void **state)
{
    (void)state;
    scratch place = scratch_make();
    const int dir = place.fd;
    uint64_t ends[64];
    ort_buf bytes = crashed_log(40, ends);
    unsigned char *p = (unsigned char *)bytes.data;
    /* Records 21..40 are one group behind 20. */
    dp_log__group_set_synced(p + ends[20], bytes.len - ends[20], 20);
    const size_t sector = (ends[20] / 512 + 1) * 512;
    memset(p + sector, 0, 512);
    put_file(dir, p, bytes.len);
    dp_log_found found;
    dp_log *log = must_open(dir, &CONFIG, &found);
    assert_true(found.last_lsn >= 20 && found.last_lsn < 40);
    assert_true(found.torn_bytes > 0);
    append(log, found.last_lsn + 1);
    dp_log_close(log);

    /* The same hole where a later record calls it durable is damage. */
    dp_log__group_set_synced(p + ends[39], bytes.len - ends[39], 39);
    put_file(dir, p, bytes.len);
    ort_diag diag;
    assert_int_equal(dp_log_open(&log, dir, &CONFIG, NULL, &diag), ORT_ECORRUPT);
    assert_non_null(strstr(diag.text, "durable"));
    ort_buf_fini(&bytes);
    scratch_drop(&place);
}

/* Rot is told from tearing: also in the last record, also without a closing mark. */
static void
any_flipped_bit_is_found_and_nothing_is_lost_silently(void **state)
{
    (void)state;
    scratch place = scratch_make();
    const int dir = place.fd;
    uint64_t ends[64];
    enum { COUNT = 12 };
    ort_buf bytes = crashed_log(COUNT, ends);
    for (int closed = 0; closed < 2; closed++) {
        if (closed) {
            put_file(dir, bytes.data, bytes.len);
            dp_log_close(must_open(dir, &CONFIG, NULL));
            ort_buf_clear(&bytes);
            assert_int_equal(ort_file_read(dir, FILE_NAME, 1 << 20, &bytes, NULL), ORT_OK);
        }
        for (size_t at = 0; at < bytes.len; at++) {
            for (unsigned bit = 0; bit < 8; bit += 3) {
                bytes.data[at] = (char)(bytes.data[at] ^ (1 << bit));
                put_file(dir, bytes.data, bytes.len);
                dp_log *log;
                const ort_err err = dp_log_open(&log, dir, &CONFIG, NULL, NULL);
                if (err == ORT_OK) {
                    /* The closing mark itself, which tells nothing that is missed. */
                    if (!closed || dp_log_durable(log).lsn != COUNT) {
                        fail_msg("closed %d, byte %zu, bit %u: not found", closed, at, bit);
                    }
                    dp_log_close(log);
                } else {
                    assert_true(err == ORT_ECORRUPT || err == ORT_EVERSION);
                }
                bytes.data[at] = (char)(bytes.data[at] ^ (1 << bit));
            }
        }
    }
    ort_buf_fini(&bytes);
    scratch_drop(&place);
}

static void
a_missing_file_is_damage(void **state)
{
    (void)state;
    char name[64];
    scratch place = scratch_make();
    const int dir = place.fd;
    dp_log_config config = CONFIG;
    config.file_bytes_max = 2048;
    dp_log *log = must_open(dir, &config, NULL);
    for (uint64_t i = 1; i <= 100; i++) {
        append(log, i);
    }
    dp_log_close(log);
    uint64_t second = 2;
    for (;; second++) {
        snprintf(name, sizeof name, "log.%016llx", (unsigned long long)second);
        if (faccessat(dir, name, F_OK, 0) == 0) {
            break;
        }
    }
    assert_int_equal(unlinkat(dir, name, 0), 0);
    assert_int_equal(dp_log_open(&log, dir, &config, NULL, NULL), ORT_ECORRUPT);
    scratch_drop(&place);
}

/* --- many writers --- */

enum { WRITERS = 8, EACH = 200 };

typedef struct {
    dp_log *log;
    uint64_t lsns[EACH];
} writer;

static void *
write_many(void *arg)
{
    writer *w = arg;
    for (uint64_t i = 0; i < EACH; i++) {
        dp_log_ticket ticket;
        assert_int_equal(dp_log_append(w->log, 1, &i, sizeof i, &ticket, NULL), ORT_OK);
        assert_int_equal(dp_log_wait(w->log, ticket, NULL), ORT_OK);
        assert_true(dp_log_durable(w->log).lsn >= ticket.lsn);
        w->lsns[i] = ticket.lsn;
    }
    return NULL;
}

static void
writers_share_syncs_and_get_every_lsn_once(void **state)
{
    (void)state;
    scratch place = scratch_make();
    const int dir = place.fd;
    dp_log *log = must_open(dir, &CONFIG, NULL);
    pthread_t threads[WRITERS];
    writer *writers = calloc(WRITERS, sizeof *writers);
    char seen[WRITERS * EACH + 1] = {0};
    for (int i = 0; i < WRITERS; i++) {
        writers[i].log = log;
        assert_int_equal(ort_thread_start(&threads[i], "writer", write_many, &writers[i], NULL),
                         ORT_OK);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        for (int k = 0; k < EACH; k++) {
            assert_true(writers[i].lsns[k] >= 1 && writers[i].lsns[k] <= WRITERS * EACH);
            assert_int_equal(seen[writers[i].lsns[k]]++, 0);
        }
    }
    dp_log_stats stats;
    dp_log_get_stats(log, &stats);
    assert_int_equal(stats.appends, WRITERS * EACH);
    assert_true(stats.groups <= stats.appends);
    dp_log_close(log);
    free(writers);
    scratch_drop(&place);
}

/* --- a disk that fails --- */

static dp_io broken;
static int fail_in;   /* the n-th call from now fails */
static int fail_with; /* errno */
static bool stays_broken;

static bool
fails(void)
{
    if (fail_in > 0 && --fail_in == 0) {
        fail_in = stays_broken ? 1 : 0;
        errno = fail_with;
        return true;
    }
    return false;
}

static ssize_t
broken_pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    if (fails()) {
        /* The worst kind: a part is written. */
        const ssize_t part = pwrite(fd, bytes, n / 2, at);
        (void)part;
        errno = fail_with;
        return -1;
    }
    return pwrite(fd, bytes, n > 1000 ? 1000 : n, at); /* and short counts always */
}

static int
broken_fdatasync(int fd)
{
    return fails() ? -1 : fdatasync(fd);
}

static void
break_io(int in, int with)
{
    broken = dp_io_real;
    broken.pwrite = broken_pwrite;
    broken.fdatasync = broken_fdatasync;
    fail_in = in;
    fail_with = with;
    dp_io_set(&broken);
}

static void
a_full_disk_refuses_and_then_goes_on(void **state)
{
    (void)state;
    scratch place = scratch_make();
    const int dir = place.fd;
    dp_log *log = must_open(dir, &CONFIG, NULL);
    dp_log_ticket ticket, second;
    append(log, 1);
    break_io(1, ENOSPC);
    assert_int_equal(dp_log_append(log, 3, "lost", 4, &ticket, NULL), ORT_OK);
    assert_int_equal(dp_log_append(log, 3, "lost too", 8, &second, NULL), ORT_OK);
    ort_diag diag;
    assert_int_equal(dp_log_wait(log, second, &diag), ORT_ENOSPC);
    assert_int_equal(dp_log_wait(log, ticket, NULL), ORT_ENOSPC);
    assert_int_equal(dp_log_check(log, NULL), ORT_OK);
    for (uint64_t i = 2; i < 40; i++) {
        append(log, i);
    }
    /* The old tickets' LSNs are durable now, as other records. */
    assert_int_equal(dp_log_wait(log, second, NULL), ORT_ENOSPC);
    dp_io_set(NULL);
    dp_log_close(log);
    log = must_open(dir, &CONFIG, NULL);
    expect_log(log, 1, 39);
    dp_log_close(log);
    scratch_drop(&place);
}

/* What a failed sync left on the disk nobody knows, and asking again would say "fine". */
static void
a_failed_sync_is_final(void **state)
{
    (void)state;
    scratch place = scratch_make();
    const int dir = place.fd;
    dp_log *log = must_open(dir, &CONFIG, NULL);
    dp_log_ticket ticket;
    append(log, 1);
    break_io(0, 0);
    broken.pwrite = dp_io_real.pwrite;
    fail_with = EIO;
    fail_in = 1;
    assert_int_equal(dp_log_append(log, 3, "x", 1, &ticket, NULL), ORT_OK);
    assert_int_equal(dp_log_wait(log, ticket, NULL), ORT_EIO);
    assert_int_equal(dp_log_wait(log, ticket, NULL), ORT_EIO);
    assert_int_equal(dp_log_append(log, 3, "y", 1, &ticket, NULL), ORT_EIO);
    assert_int_equal(dp_log_check(log, NULL), ORT_EIO);
    dp_io_set(NULL);
    dp_log_close(log);
    dp_log_found found;
    log = must_open(dir, &CONFIG, &found);
    assert_true(found.last_lsn == 1 || found.last_lsn == 2);
    dp_log_close(log);
    scratch_drop(&place);
}

/* Whatever fails, in whatever way: what was answered OK is there, nothing else is believed. */
static void
the_nth_call_fails_for_every_n(void **state)
{
    (void)state;
    static const int kinds[] = {EIO, ENOSPC};
    for (size_t kind = 0; kind < 2; kind++) {
        for (int n = 1; n < 60; n++) {
            scratch place = scratch_make();
            const int dir = place.fd;
            dp_log_config config = CONFIG;
            config.file_bytes_max = 1024;
            dp_log *log = must_open(dir, &config, NULL);
            uint64_t acked = 0;
            break_io(n, kinds[kind]);
            for (uint64_t i = 0; i < 20; i++) {
                unsigned char body[128];
                dp_log_ticket ticket;
                const size_t len = body_of(acked + 1, body);
                if (dp_log_append(log, 3, body, len, &ticket, NULL) == ORT_OK &&
                    dp_log_wait(log, ticket, NULL) == ORT_OK) {
                    acked++;
                    assert_int_equal(ticket.lsn, acked);
                }
            }
            dp_io_set(NULL);
            if (kinds[kind] == ENOSPC && dp_log_check(log, NULL) == ORT_OK) {
                append(log, acked + 1);
                acked++;
            }
            dp_log_close(log);
            dp_log_found found;
            log = must_open(dir, &config, &found);
            assert_true(found.last_lsn == acked || found.last_lsn == acked + 1);
            expect_log(log, 1, found.last_lsn);
            dp_log_close(log);
            scratch_drop(&place);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back_in_order_over_files_and_reopens),
        cmocka_unit_test(cut_removes_whole_files_and_keeps_the_place),
        cmocka_unit_test(a_tail_torn_at_any_byte_is_cut),
        cmocka_unit_test(a_group_torn_at_its_front_is_cut_whole),
        cmocka_unit_test(any_flipped_bit_is_found_and_nothing_is_lost_silently),
        cmocka_unit_test(a_missing_file_is_damage),
        cmocka_unit_test(writers_share_syncs_and_get_every_lsn_once),
        cmocka_unit_test(a_full_disk_refuses_and_then_goes_on),
        cmocka_unit_test(a_failed_sync_is_final),
        cmocka_unit_test(the_nth_call_fails_for_every_n),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
