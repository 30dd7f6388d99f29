/* Points: what is put is read back, by every way, over checkpoints, merges and reopens. */
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_model),
        cmocka_unit_test(a_reader_keeps_rows_over_checkpoints),
        cmocka_unit_test(dead_chunks_go_unless_somebody_holds_them),
        cmocka_unit_test(columns_come_and_go_between_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
