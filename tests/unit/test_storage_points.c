/* Points: what is put is read back, by every way, over checkpoints, merges and reopens. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "storage/io.h"
#include "support/scratch.h"
#include "support/shard_model.h"

static uint32_t
next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

static void
must(ort_err err, const ort_diag *diag)
{
    if (err != ORT_OK) {
        fail_msg("error %d: %s", (int)err, diag->text);
    }
}

static void
verify(int dir, uint64_t points)
{
    dp_verify_report report;
    ort_diag diag = {{0}};
    must(dp_storage_verify(dir, (ort_tenant_id){1}, (ort_collection_id){2}, &report, &diag), &diag);
    if (points != UINT64_MAX) {
        assert_int_equal(report.points, points);
    }
}

static void
random_operations_agree_with_a_model(void **state)
{
    (void)state;
    shard_model *m = calloc(1, sizeof *m);
    ort_diag diag = {{0}};
    for (uint64_t seed = 1; seed <= 6; seed++) {
        scratch place = scratch_make();
        uint64_t random = seed * 77;
        memset(m, 0, sizeof *m);
        must(shard_model_open(m, place.fd, &diag), &diag);
        for (int step = 0; step < 250; step++) {
            const uint32_t dice = next_random(&random) % 100;
            const uint32_t first = next_random(&random) % MODEL_IDS;
            const uint32_t count = 1 + next_random(&random) % 150;
            if (dice < 65) {
                must(shard_model_op(m, MODEL_OP_PUT, first, count, next_random(&random) | 1, &diag),
                     &diag);
            } else if (dice < 80) {
                must(shard_model_op(m, MODEL_OP_KILL, first, count * 2, 0, &diag), &diag);
            } else if (dice < 90) {
                must(shard_model_checkpoint(m, dice == 89, &diag), &diag);
            } else if (dice < 95) {
                uint32_t moved;
                must(dp_points_relocate(m->points, 500, NULL, NULL, &moved, &diag), &diag);
            } else {
                shard_model_close(m);
                must(shard_model_open(m, place.fd, &diag), &diag);
                shard_model_check(m);
            }
            if (step % 25 == 0) {
                shard_model_check(m);
            }
        }
        must(shard_model_checkpoint(m, true, &diag), &diag);
        shard_model_check(m);
        dp_points_stats stats;
        dp_points_get_stats(m->points, &stats);
        assert_true(stats.segments <= 1);
        const uint64_t live = dp_points_live_count(m->points);
        shard_model_close(m);
        verify(place.fd, live);
        must(shard_model_open(m, place.fd, &diag), &diag);
        shard_model_check(m);
        shard_model_close(m);
        scratch_drop(&place);
    }
    free(m);
}

/* Whoever holds a reader keeps what it was given, whatever is replaced meanwhile. */
static void
a_reader_keeps_rows_over_checkpoints(void **state)
{
    (void)state;
    scratch place = scratch_make();
    shard_model *m = calloc(1, sizeof *m);
    ort_diag diag = {{0}};
    must(shard_model_open(m, place.fd, &diag), &diag);
    must(shard_model_op(m, MODEL_OP_PUT, 0, MODEL_IDS, 1, &diag), &diag);
    must(shard_model_op(m, MODEL_OP_PUT, 0, MODEL_IDS, 1, &diag), &diag);
    dp_reader r;
    dp_reader_init(&r, m->points);
    uint32_t slot;
    must(dp_points_find(&r, model_id(0), &slot, &diag), &diag);
    const float *row = dp_points_row(&r, 0, slot);
    const float first = row[0];
    for (int i = 0; i < 4; i++) {
        must(shard_model_op(m, MODEL_OP_PUT, 0, MODEL_IDS, 5, &diag), &diag);
        must(shard_model_checkpoint(m, i % 2 == 1, &diag), &diag);
    }
    assert_true(row[0] == first); /* under the address sanitizer: still mapped */
    dp_reader_fini(&r);
    shard_model_check(m);
    shard_model_close(m);
    scratch_drop(&place);
    free(m);
}

static bool
hold(void *arg, uint32_t first, uint32_t count)
{
    (void)first;
    (void)count;
    return *(bool *)arg;
}

static void
dead_chunks_go_unless_somebody_holds_them(void **state)
{
    (void)state;
    scratch place = scratch_make();
    shard_model *m = calloc(1, sizeof *m);
    ort_diag diag = {{0}};
    bool held = true;
    must(shard_model_open(m, place.fd, &diag), &diag);
    for (int i = 0; i < 6; i++) {
        must(shard_model_op(m, MODEL_OP_PUT, 0, MODEL_IDS, 5, &diag), &diag);
    }
    dp_points_stats before, after;
    for (int i = 0; i < 2; i++) {
        dp_checkpoint *c;
        const dp_checkpoint_options options = {.held = hold, .arg = &held, .merge_all = true};
        must(dp_points_freeze(m->points, dp_log_durable(m->log), &c, &diag), &diag);
        must(dp_checkpoint_write(c, &options, &diag), &diag);
        dp_checkpoint_free(c);
        dp_points_get_stats(m->points, i == 0 ? &before : &after);
        shard_model_check(m);
        held = false;
    }
    assert_int_equal(before.slots, 6 * MODEL_IDS);
    assert_true(after.slots < 2 * MODEL_IDS + DP_CHUNK_SLOTS);
    assert_true(after.disk_bytes < before.disk_bytes / 2);
    shard_model_close(m);
    verify(place.fd, MODEL_IDS);
    scratch_drop(&place);
    free(m);
}

/* What a shard of large rows keeps on disk beside what is live: a segment over 4 MiB that no
 * checkpoint takes along for its size. Dead chunks have to count from when it was written, not from
 * the checkpoint before: one at a time they were never half of what was left. */
static void
chunks_that_die_one_by_one_give_their_room_back(void **state)
{
    (void)state;
    enum { DIM = 128, CHUNKS = 12 };
    scratch place = scratch_make();
    const dp_column column = {.id = 0, .type = DP_COLUMN_F32, .dim = DIM};
    const dp_points_config config = {
        .tenant = {1}, .shard = {2}, .layout = {.columns = &column, .column_count = 1}};
    dp_points *points;
    dp_points_stats stats;
    ort_diag diag = {{0}};
    float row[DIM] = {0};
    uint64_t lsn = 0, all = 0;
    must(dp_points_open(&points, place.fd, &config, &diag), &diag);
    for (uint32_t round = 0; round < CHUNKS; round++) {
        dp_checkpoint *c;
        if (round == 0) {
            for (uint32_t i = 0; i < CHUNKS * DP_CHUNK_SLOTS; i++) {
                const dp_value value = {.data = row, .len = sizeof row};
                const dp_point_in in = {.id = ort_point_id_of(i), .version = 1, .values = &value};
                uint32_t slot, old;
                row[0] = (float)i;
                must(dp_points_put(points, &in, &slot, &old, &diag), &diag);
            }
        } else {
            for (uint32_t i = 0; i < DP_CHUNK_SLOTS; i++) {
                uint32_t slot;
                must(dp_points_kill(points,
                                    ort_point_id_of((uint64_t)(round - 1) * DP_CHUNK_SLOTS + i),
                                    &slot, &diag),
                     &diag);
            }
        }
        must(dp_points_freeze(points, (dp_log_mark){.lsn = ++lsn}, &c, &diag), &diag);
        must(dp_checkpoint_write(c, NULL, &diag), &diag);
        dp_checkpoint_free(c);
        dp_points_get_stats(points, &stats);
        all = round == 0 ? stats.disk_bytes : all;
        /* Half of it may be dead, and a chunk is on its way. */
        const uint64_t live = all / CHUNKS * (CHUNKS - round);
        if (stats.disk_bytes > 2 * live + 2 * (all / CHUNKS)) {
            fail_msg("%u of %u chunks are dead and %llu of %llu bytes are kept", round, CHUNKS,
                     (unsigned long long)stats.disk_bytes, (unsigned long long)all);
        }
    }
    assert_true(all > (UINT64_C(12) << 20));
    assert_int_equal(dp_points_live_count(points), DP_CHUNK_SLOTS);
    dp_points_close(points);
    scratch_drop(&place);
}

/* The last chunk goes on growing under an export, and what it reads may be dead by then. */
static void
an_export_reads_one_moment_beside_a_writer(void **state)
{
    (void)state;
    scratch place = scratch_make();
    shard_model *m = calloc(1, sizeof *m);
    ort_diag diag = {{0}};
    must(shard_model_open(m, place.fd, &diag), &diag);
    must(shard_model_op(m, MODEL_OP_PUT, 0, MODEL_IDS, 1, &diag), &diag);
    must(shard_model_op(m, MODEL_OP_PUT, 100, 400, 3000, &diag), &diag);
    must(shard_model_op(m, MODEL_OP_KILL, 0, 50, 0, &diag), &diag);
    must(shard_model_checkpoint(m, false, &diag), &diag);
    shard_model_close(m);
    must(shard_model_open(m, place.fd, &diag), &diag);

    model_point then[MODEL_IDS];
    memcpy(then, m->points_want, sizeof then);
    dp_export *view, *second;
    dp_checkpoint *c;
    must(dp_points_export(m->points, dp_log_durable(m->log), &view, &diag), &diag);
    assert_int_equal(dp_points_export(m->points, (dp_log_mark){0}, &second, NULL), ORT_EBUSY);
    assert_int_equal(dp_points_freeze(m->points, (dp_log_mark){0}, &c, NULL), ORT_EBUSY);
    assert_int_equal(dp_export_mark(view).lsn, 3);
    assert_int_equal(dp_export_count(view), MODEL_IDS - 50);

    uint64_t seen = 0, bytes = 0;
    uint32_t moved;
    must(shard_model_op(m, MODEL_OP_KILL, 500, 1000, 0, &diag), &diag);
    must(dp_points_relocate(m->points, 1000, NULL, NULL, &moved, &diag), &diag);
    for (uint32_t slot = dp_export_next(view, 0); slot != DP_SLOT_NONE;
         slot = dp_export_next(view, slot + 1)) {
        dp_reader r;
        if (seen % 100 == 0) {
            must(shard_model_op(m, MODEL_OP_PUT, (uint32_t)seen, 30, 9000, &diag), &diag);
        }
        dp_reader_init(&r, m->points);
        uint32_t i = 0;
        while (i < MODEL_IDS && !ort_point_id_eq(model_id(i), dp_points_id(&r, slot))) {
            i++;
        }
        assert_true(i < MODEL_IDS && then[i].seed != 0);
        shard_model_check_slot(m, &r, slot, i, then[i]);
        uint64_t one;
        must(dp_points_slot_bytes(&r, slot, &one, &diag), &diag);
        bytes += one;
        seen++;
        dp_reader_fini(&r);
    }
    assert_int_equal(seen, dp_export_count(view));
    assert_int_equal(bytes, dp_export_logical_bytes(view));
    dp_export_free(view);
    must(shard_model_checkpoint(m, true, &diag), &diag);
    shard_model_check(m);
    shard_model_close(m);
    scratch_drop(&place);
    free(m);
}

/* A file that is cut short under its mapping: SIGBUS, if nobody minded. */
static void
a_page_that_cannot_be_read_is_an_error(void **state)
{
    (void)state;
    scratch place = scratch_make();
    shard_model *m = calloc(1, sizeof *m);
    ort_diag diag = {{0}};
    must(shard_model_open(m, place.fd, &diag), &diag);
    must(shard_model_op(m, MODEL_OP_PUT, 0, MODEL_IDS, 1, &diag), &diag);
    must(shard_model_checkpoint(m, true, &diag), &diag);
    must(shard_model_op(m, MODEL_OP_PUT, 5, 10, 77, &diag), &diag);
    must(dp_points_check_readable(m->points, &diag), &diag);
    const int fd = openat(place.fd, "seg.0000000000000001", O_RDWR | O_CLOEXEC);
    struct stat st;
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    ort_buf bytes = {0};
    must(ort_file_read(place.fd, "seg.0000000000000001", SIZE_MAX, &bytes, &diag), &diag);
    assert_int_equal(ftruncate(fd, 8192), 0);

    dp_reader r;
    uint32_t slot;
    dp_reader_init(&r, m->points);
    const ort_err found = dp_points_find(&r, model_id(1), &slot, NULL);
    assert_true(found == ORT_OK || found == ORT_ENOTFOUND);
    dp_reader_fini(&r);
    assert_int_equal(dp_points_check_readable(m->points, &diag), ORT_EIO);
    assert_non_null(strstr(diag.text, "seg.0000000000000001"));
    /* Nothing is written by what was read, and nothing is copied from it. */
    assert_int_not_equal(shard_model_checkpoint(m, true, NULL), ORT_OK);
    assert_int_equal(shard_model_op(m, MODEL_OP_PUT, 0, 1, 1, &diag), ORT_EIO);

    /* The disk is well again: an open finds all of it, and the write that was durable. */
    assert_int_equal(pwrite(fd, bytes.data, bytes.len, 0), (ssize_t)bytes.len);
    assert_int_equal(dp_points_check_readable(m->points, NULL), ORT_EIO);
    shard_model_close(m);
    must(shard_model_open(m, place.fd, &diag), &diag);
    shard_model_check(m);
    shard_model_close(m);
    close(fd);
    ort_buf_fini(&bytes);
    scratch_drop(&place);
    free(m);
}

#if ORT_CHECK
/* More is put than there are numbers, several times over. */
static void
numbers_of_slots_never_run_out(void **state)
{
    (void)state;
    scratch place = scratch_make();
    shard_model *m = calloc(1, sizeof *m);
    ort_diag diag = {{0}};
    const uint32_t max = 16 * DP_CHUNK_SLOTS;
    uint64_t put = 0;
    unsigned renumbered = 0;
    dp_points_set_slots_max(max);
    must(shard_model_open(m, place.fd, &diag), &diag);
    while (put < (uint64_t)3 * max) {
        uint32_t moved = 1;
        for (uint32_t i = 0; i < 3; i++) {
            must(shard_model_op(m, MODEL_OP_PUT, (uint32_t)(put % 100), MODEL_IDS - 200,
                                (uint32_t)put + 1, &diag),
                 &diag);
            put += MODEL_IDS - 200;
        }
        while (moved > 0) {
            must(dp_points_relocate(m->points, 1000, NULL, NULL, &moved, &diag), &diag);
        }
        must(shard_model_checkpoint(m, renumbered % 2 == 0, &diag), &diag);
        if (dp_points_is_short_of_slots(m->points)) {
            const uint32_t end = dp_points_slot_end(m->points);
            const uint64_t generation = dp_points_generation(m->points);
            must(shard_model_op(m, MODEL_OP_PUT, 7, 20, 5, &diag), &diag); /* only in the log */
            if (renumbered++ % 2 == 0) {
                shard_model_close(m);
                must(shard_model_open(m, place.fd, &diag), &diag);
            } else {
                must(dp_points_renumber(m->points, &diag), &diag);
            }
            assert_true(dp_points_slot_end(m->points) <= end / 2 + 20);
            assert_true(dp_points_generation(m->points) > generation + 1);
            shard_model_check(m);
        }
    }
    assert_true(renumbered >= 3);
    shard_model_check(m);
    shard_model_close(m);
    dp_points_set_slots_max(0);
    scratch_drop(&place);
    free(m);
}
#endif

static void
columns_come_and_go_between_opens(void **state)
{
    (void)state;
    scratch place = scratch_make();
    static const dp_column both[] = {{.id = 1, .type = DP_COLUMN_F32, .dim = 4},
                                     {.id = 2, .type = DP_COLUMN_F16, .dim = 8}};
    const float row[4] = {1, 2, 3, 4};
    const uint16_t half[8] = {1, 2, 3};
    dp_points *points;
    ort_diag diag = {{0}};
    uint32_t slot, old;
    dp_points_config config = {
        .tenant = {1}, .shard = {2}, .layout = {.columns = both, .column_count = 1}};
    dp_checkpoint *c;

    must(dp_points_open(&points, place.fd, &config, &diag), &diag);
    const dp_value one[] = {{row, sizeof row}};
    dp_point_in in = {.id = ort_point_id_of(1), .version = 1, .values = one};
    must(dp_points_put(points, &in, &slot, &old, &diag), &diag);
    must(dp_points_freeze(points, (dp_log_mark){.lsn = 1}, &c, &diag), &diag);
    must(dp_checkpoint_write(c, NULL, &diag), &diag);
    dp_checkpoint_free(c);
    dp_points_close(points);

    config.layout.column_count = 2;
    must(dp_points_open(&points, place.fd, &config, &diag), &diag);
    const dp_value two[] = {{row, sizeof row}, {half, sizeof half}};
    in = (dp_point_in){.id = ort_point_id_of(2), .version = 2, .values = two};
    must(dp_points_put(points, &in, &slot, &old, &diag), &diag);
    dp_reader r;
    dp_reader_init(&r, points);
    must(dp_points_find(&r, ort_point_id_of(1), &slot, &diag), &diag);
    assert_memory_equal(dp_points_row(&r, 0, slot), row, sizeof row);
    assert_null(dp_points_row(&r, 1, slot));
    must(dp_points_find(&r, ort_point_id_of(2), &slot, &diag), &diag);
    assert_memory_equal(dp_points_row(&r, 1, slot), half, sizeof half);
    dp_reader_fini(&r);
    dp_points_close(points);

    static const dp_column other[] = {{.id = 1, .type = DP_COLUMN_F32, .dim = 5}};
    config.layout = (dp_points_layout){.columns = other, .column_count = 1};
    assert_int_equal(dp_points_open(&points, place.fd, &config, &diag), ORT_EINVAL);
    scratch_drop(&place);
}

/* Reads everything there is, and tells whether anything of it was refused. */
static ort_err
read_all(dp_points *points)
{
    ort_err worst = ORT_OK;
    dp_reader r;
    dp_reader_init(&r, points);
    for (uint32_t c = 0; c < 3; c += 2) {
        const ort_err err = dp_points_check_rows(&r, c, NULL);
        worst = worst == ORT_OK ? err : worst;
    }
    for (uint32_t s = dp_points_next_live(points, 0); s != DP_SLOT_NONE;
         s = dp_points_next_live(points, s + 1)) {
        const char *payload;
        const void *bytes;
        size_t len;
        ort_err err = dp_points_payload(&r, s, &payload, &len, NULL);
        worst = worst == ORT_OK ? err : worst;
        err = dp_points_bytes(&r, 1, s, &bytes, &len, NULL);
        worst = worst == ORT_OK ? err : worst;
    }
    dp_reader_fini(&r);
    return worst;
}

/* One bit at every 97th byte of every file: verification finds it, and so does whoever reads; or it
 * stands where nothing is read, and all is as it was. */
static void
a_flipped_bit_in_any_file_is_found_or_harmless(void **state)
{
    (void)state;
    scratch place = scratch_make();
    shard_model *m = calloc(1, sizeof *m);
    ort_diag diag = {{0}};
    must(shard_model_open(m, place.fd, &diag), &diag);
    must(shard_model_op(m, MODEL_OP_PUT, 0, 250, 1, &diag), &diag);
    must(shard_model_op(m, MODEL_OP_KILL, 50, 20, 0, &diag), &diag);
    must(shard_model_checkpoint(m, true, &diag), &diag);
    must(shard_model_op(m, MODEL_OP_PUT, 60, 100, 77, &diag), &diag);
    shard_model_close(m);

    static const char *const prefixes[] = {"manifest", "seg.", "log."};
    unsigned found = 0, harmless = 0;
    for (size_t k = 0; k < 3; k++) {
        DIR *dir = fdopendir(openat(place.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        char name[256] = "";
        for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
            if (strncmp(d->d_name, prefixes[k], strlen(prefixes[k])) == 0) {
                snprintf(name, sizeof name, "%s", d->d_name);
            }
        }
        closedir(dir);
        ort_buf bytes = {0};
        must(ort_file_read(place.fd, name, 1 << 24, &bytes, &diag), &diag);
        for (size_t at = k; at < bytes.len; at += 97) {
            const int fd = openat(place.fd, name, O_WRONLY | O_CLOEXEC);
            const char bad = (char)(bytes.data[at] ^ 1 << (at % 8));
            assert_int_equal(pwrite(fd, &bad, 1, (off_t)at), 1);
            dp_verify_report report;
            const ort_err verified = dp_storage_verify(place.fd, (ort_tenant_id){1},
                                                       (ort_collection_id){2}, &report, &diag);
            assert_true(verified == ORT_OK || verified == ORT_ECORRUPT || verified == ORT_EVERSION);
            const ort_err opened = shard_model_open(m, place.fd, &diag);
            if (verified == ORT_OK) {
                assert_int_equal(opened, ORT_OK);
                shard_model_check(m);
                harmless++;
            } else {
                assert_true(opened != ORT_OK || read_all(m->points) == ORT_ECORRUPT);
                found++;
            }
            if (opened == ORT_OK) {
                shard_model_close(m);
            }
            /* An open that went well may have moved on. */
            assert_int_equal(ftruncate(fd, (off_t)bytes.len), 0);
            assert_int_equal(pwrite(fd, bytes.data, bytes.len, 0), (ssize_t)bytes.len);
            close(fd);
        }
        ort_buf_fini(&bytes);
    }
    print_message("%u found, %u harmless\n", found, harmless);
    assert_true(found > harmless);
    scratch_drop(&place);
    free(m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_model),
        cmocka_unit_test(a_reader_keeps_rows_over_checkpoints),
        cmocka_unit_test(dead_chunks_go_unless_somebody_holds_them),
        cmocka_unit_test(chunks_that_die_one_by_one_give_their_room_back),
        cmocka_unit_test(an_export_reads_one_moment_beside_a_writer),
        cmocka_unit_test(a_page_that_cannot_be_read_is_an_error),
#if ORT_CHECK
        cmocka_unit_test(numbers_of_slots_never_run_out),
#endif
        cmocka_unit_test(columns_come_and_go_between_opens),
        cmocka_unit_test(a_flipped_bit_in_any_file_is_found_or_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
