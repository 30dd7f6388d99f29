/* One writer, many readers, checkpoints and compaction, all at once: nobody sees a hole. Made for
 * the thread sanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/thread.h"
#include "storage/points.h"
#include "support/scratch.h"

enum { IDS = 2000, DIM = 16, READERS = 3 };

/* Ids below KEEP are updated and never killed: each must be found at any moment. */
enum { KEEP = 1000 };

static dp_points *points;
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(bool) stop;
static _Atomic(uint64_t) reads;

#define MUST(cond)                                                     \
    do {                                                               \
        if (!(cond)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #cond); \
            abort();                                                   \
        }                                                              \
    } while (0)

static void
put(uint64_t id, uint64_t version)
{
    float row[DIM];
    char payload[64];
    for (unsigned i = 0; i < DIM; i++) {
        row[i] = (float)id;
    }
    const int len = snprintf(payload, sizeof payload, "%llu/%llu", (unsigned long long)id,
                             (unsigned long long)version);
    const dp_value value = {row, sizeof row};
    const dp_point_in in = {.id = ort_point_id_of(id),
                            .version = version,
                            .payload = {payload, (size_t)len},
                            .values = &value};
    uint32_t slot, old;
    MUST(dp_points_put(points, &in, &slot, &old, NULL) == ORT_OK);
}

static void
check_slot(dp_reader *r, uint32_t slot, uint64_t id)
{
    char want[64];
    const char *payload;
    size_t len;
    const float *row = dp_points_row(r, 0, slot);
    MUST(row != NULL && row[0] == (float)id && row[DIM - 1] == (float)id);
    MUST(dp_points_payload(r, slot, &payload, &len, NULL) == ORT_OK);
    const int n = snprintf(want, sizeof want, "%llu/%llu", (unsigned long long)id,
                           (unsigned long long)dp_points_version(r, slot));
    /* A slot that died meanwhile may have lost its payload to a merge. */
    MUST((len == (size_t)n && memcmp(payload, want, len) == 0) ||
         (len == 0 && !dp_points_is_live(points, slot)));
}

static void *
read_on(void *arg)
{
    uint64_t random = (uintptr_t)arg;
    while (!atomic_load(&stop)) {
        dp_reader r;
        dp_reader_init(&r, points);
        for (int i = 0; i < 20; i++) {
            random = random * UINT64_C(6364136223846793005) + 1;
            const uint64_t id = (random >> 33) % KEEP;
            uint32_t slot;
            MUST(dp_points_find(&r, ort_point_id_of(id), &slot, NULL) == ORT_OK);
            check_slot(&r, slot, id);
        }
        dp_id_slot page[64];
        size_t n;
        const ort_point_id from = ort_point_id_of((random >> 33) % (KEEP - 100));
        MUST(dp_points_scroll(&r, &from, false, page, 64, &n, NULL) == ORT_OK);
        MUST(n == 64);
        for (size_t i = 0; i < n; i++) {
            MUST(page[i].id.lo == from.lo + i);
            check_slot(&r, page[i].slot, page[i].id.lo);
        }
        dp_reader_fini(&r);
        atomic_fetch_add(&reads, 1);
    }
    return NULL;
}

static void *
checkpoint_on(void *arg)
{
    uint64_t lsn = 0;
    (void)arg;
    while (!atomic_load(&stop)) {
        dp_checkpoint *c;
        const dp_checkpoint_options options = {.merge_all = lsn % 3 == 0};
        pthread_mutex_lock(&writing);
        MUST(dp_points_freeze(points, (dp_log_mark){.lsn = ++lsn}, &c, NULL) == ORT_OK);
        pthread_mutex_unlock(&writing);
        MUST(dp_checkpoint_write(c, &options, NULL) == ORT_OK);
        dp_checkpoint_free(c);
    }
    return NULL;
}

static void
readers_writer_and_checkpoints_get_along(void **state)
{
    (void)state;
    static const dp_column column = {.id = 1, .type = DP_COLUMN_F32, .dim = DIM};
    const dp_points_config config = {
        .tenant = {1}, .shard = {2}, .layout = {.columns = &column, .column_count = 1}};
    scratch place = scratch_make();
    pthread_t threads[READERS + 1];
    assert_int_equal(dp_points_open(&points, place.fd, &config, NULL), ORT_OK);
    uint64_t version = 1;
    for (uint64_t id = 0; id < IDS; id++) {
        put(id, version++);
    }
    for (uintptr_t i = 0; i < READERS; i++) {
        assert_int_equal(ort_thread_start(&threads[i], "reader", read_on, (void *)(i + 1), NULL),
                         ORT_OK);
    }
    assert_int_equal(ort_thread_start(&threads[READERS], "checkpoint", checkpoint_on, NULL, NULL),
                     ORT_OK);
    const uint64_t until = ort_mono_ns() + UINT64_C(2500000000);
    uint64_t random = 5;
    while (ort_mono_ns() < until || atomic_load(&reads) == 0) {
        pthread_mutex_lock(&writing);
        for (int i = 0; i < 50; i++) {
            random = random * UINT64_C(6364136223846793005) + 1;
            const uint64_t id = (random >> 33) % IDS;
            uint32_t old;
            if (id >= KEEP && random >> 63) {
                MUST(dp_points_kill(points, ort_point_id_of(id), &old, NULL) == ORT_OK);
            } else {
                put(id, version++);
            }
        }
        uint32_t moved;
        MUST(dp_points_relocate(points, 40, NULL, NULL, &moved, NULL) == ORT_OK);
        pthread_mutex_unlock(&writing);
    }
    atomic_store(&stop, true);
    for (int i = 0; i <= READERS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_true(atomic_load(&reads) > 0);
    dp_points_close(points);
    scratch_drop(&place);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_writer_and_checkpoints_get_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
