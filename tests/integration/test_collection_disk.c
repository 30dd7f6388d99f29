/* A collection whose numbers run out, and one whose disk fails under it. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "collection_support.h"
#include "storage/points.h"

#define POINTS 500u

static const char schema[] =
    "{\"vectors\":{\"size\":2,\"distance\":\"Euclid\"},\"sparse_vectors\":{\"s\":{}},"
    "\"optimizers_config\":{\"indexing_threshold\":1}}";

/* Where point i stands in a round: scattered, so that a graph of them is a good one. */
static unsigned
place(unsigned i, unsigned round, unsigned axis)
{
    return (i * 2654435761u + (round + 1) * 40503u) >> (axis == 0 ? 8 : 17) & 0x3fff;
}

static void
put_all(fixture *f, unsigned round)
{
    ort_buf body = {0};
    char one[160];
    ort_buf_put(&body, "{\"points\":[", 11);
    for (unsigned i = 0; i < POINTS; i++) {
        const int n =
            snprintf(one, sizeof one,
                     "%s{\"id\":%u,\"vector\":{\"\":[%u,%u],\"s\":{\"indices\":[%u],"
                     "\"values\":[1]}},\"payload\":{\"round\":%u}}",
                     i > 0 ? "," : "", i, place(i, round, 0), place(i, round, 1), i, round);
        ort_buf_put(&body, one, (size_t)n);
    }
    ort_buf_put(&body, "]}", 3);
    do_op(f, DP_OP_UPSERT, "%s", body.data);
    ort_buf_fini(&body);
}

static void
check_all(fixture *f, unsigned round)
{
    static answer got;
    char filter[100];
    unsigned found = 0, asked = 0;
    for (unsigned i = 0; i < POINTS; i += 23, asked++) {
        const float at[2] = {(float)place(i, round, 0), (float)place(i, round, 1)};
        nearest(f, NULL, at, 2, 3, NULL, true, &got);
        assert_int_equal(got.count, 3);
        assert_true(got.at[0].id.lo == i && got.at[0].score < 1e-3f);
        nearest(f, NULL, at, 2, 3, NULL, false, &got);
        assert_int_equal(got.count, 3);
        found += got.at[0].id.lo == i;
    }
    assert_true(found * 10 >= asked * 9); /* by the graph: nearly always */
    snprintf(filter, sizeof filter, "{\"must\":[{\"key\":\"round\",\"match\":{\"value\":%u}}]}",
             round);
    assert_int_equal(count_where(f, filter), POINTS);
    assert_int_equal(count_where(f, NULL), POINTS);
}

#if ORT_CHECK
/* Twice as many writes as there are numbers, without a close; graphs and lists follow. */
static void
a_collection_outlives_its_numbers(void **state)
{
    fixture f;
    (void)state;
    const uint32_t max = 8 * DP_CHUNK_SLOTS;
    dp_points_set_slots_max(max);
    fixture_init(&f, schema, 1);
    for (unsigned round = 0; round < 2 * max / POINTS; round++) {
        put_all(&f, round);
        if (round % 8 == 7) {
            ort_diag diag = {{0}};
            if (dp_collection_checkpoint(f.c, &diag) != ORT_OK) {
                fail_msg("%s", diag.text);
            }
            check_all(&f, round);
        }
    }
    fixture_reopen(&f);
    check_all(&f, 2 * max / POINTS - 1);
    fixture_fini(&f);
    dp_points_set_slots_max(0);
}
#endif

/* The segment is cut short while it is mapped: without a guard that ends the process. */
static void
an_unreadable_segment_answers_with_an_error(void **state)
{
    fixture f;
    (void)state;
    fixture_init(&f, schema, 0);
    put_all(&f, 1);
    assert_int_equal(dp_collection_checkpoint(f.c, NULL), ORT_OK);
    fixture_reopen(&f); /* until then a part of a chunk is memory */
    check_all(&f, 1);
    const int data = openat(f.dir, "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fdopendir(data);
    assert_non_null(dir);
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        if (strncmp(d->d_name, "seg.", 4) == 0) {
            const int fd = openat(data, d->d_name, O_WRONLY | O_CLOEXEC);
            assert_int_equal(ftruncate(fd, 4096), 0);
            close(fd);
        }
    }
    closedir(dir);
    const float at[2] = {1, 1};
    const dp_query query = {
        .kind = DP_QUERY_NEAREST,
        .vector = {.kind = DP_VECTOR_DENSE, .values = at, .count = 2, .rows = 1},
        .limit = 1};
    ort_diag diag;
    bool more;
    ort_point_id next;
    static answer got;
    assert_int_equal(dp_collection_query(f.c, &query, 1, true, collect, &got, &diag), ORT_EIO);
    assert_int_equal(
        dp_collection_scroll(f.c, NULL, NULL, 10, true, collect, &got, &more, &next, &diag),
        ORT_EIO);
    assert_non_null(strstr(diag.text, "seg."));
    fixture_fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
#if ORT_CHECK
        cmocka_unit_test(a_collection_outlives_its_numbers),
#endif
        cmocka_unit_test(an_unreadable_segment_answers_with_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
