/* The life of a collection: operations, searches, listing, restarts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "collection_support.h"

static const char plain[] = "{\"vectors\":{\"size\":2,\"distance\":\"Euclid\"}}";

static const char rich[] =
    "{\"vectors\":{\"\":{\"size\":2,\"distance\":\"Cosine\"},\"u\":{\"size\":2,\"distance\":"
    "\"Manhattan\","
    "\"datatype\":\"uint8\"},\"h\":{\"size\":2,\"distance\":\"Dot\",\"datatype\":\"float16\"},"
    "\"m\":{"
    "\"size\":2,\"distance\":\"Dot\",\"multivector_config\":{\"comparator\":\"max_sim\"}}},"
    "\"sparse_vectors\":{\"s\":{},\"t\":{\"modifier\":\"idf\"}}}";

static void
assert_close(float a, float b)
{
    if (!(a - b < 1e-4f && b - a < 1e-4f)) {
        fail_msg("%g is not %g", (double)a, (double)b);
    }
}

static void
points_are_found_at_once_and_after_a_restart(void **state)
{
    fixture f;
    answer got;
    const float origin[2] = {0, 0};
    (void)state;
    fixture_init(&f, plain, 0);
    do_op(&f, DP_OP_UPSERT,
          "{\"points\":[{\"id\":1,\"vector\":[3,4],\"payload\":{\"a\":1}},{\"id\":2,\"vector\":[1,"
          "0]},"
          "{\"id\":\"550e8400-e29b-41d4-a716-446655440000\",\"vector\":[0,2]}]}");
    for (int round = 0; round < 3; round++) {
        nearest(&f, NULL, origin, 2, 10, NULL, round == 1, &got);
        assert_int_equal(got.count, 3);
        assert_int_equal(got.at[0].id.lo, 2);
        assert_close(got.at[0].score, 1);
        assert_true(got.at[1].id.uuid);
        assert_close(got.at[2].score, 5);
        assert_string_equal(got.at[2].payload, "{\"a\":1}");
        assert_string_equal(got.at[0].payload, "{}");
        assert_int_equal(count_where(&f, NULL), 3);
        assert_int_equal(count_where(&f, "{\"must\":[{\"key\":\"a\",\"match\":{\"value\":1}}]}"),
                         1);
        if (round == 1) {
            assert_int_equal(dp_collection_checkpoint(f.c, NULL), ORT_OK);
        }
        fixture_reopen(&f);
    }
    do_op(&f, DP_OP_DELETE, "{\"points\":[2,77]}");
    nearest(&f, NULL, origin, 2, 10, NULL, false, &got);
    assert_int_equal(got.count, 2);
    fixture_reopen(&f);
    assert_int_equal(count_where(&f, NULL), 2);
    fixture_fini(&f);
}

static void
an_upsert_replaces_and_versions_grow(void **state)
{
    fixture f;
    answer got;
    dp_op_result first, second;
    const float at[2] = {1, 1};
    (void)state;
    fixture_init(&f, plain, 0);
    assert_int_equal(try_op(&f, DP_OP_UPSERT,
                            "{\"points\":[{\"id\":1,\"vector\":[0,0],\"payload\":{\"a\":1}}]}",
                            &first, NULL),
                     ORT_OK);
    assert_int_equal(
        try_op(&f, DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":[1,1]}]}", &second, NULL),
        ORT_OK);
    assert_int_equal(second.operation_id, first.operation_id + 1);
    nearest(&f, NULL, at, 2, 10, NULL, true, &got);
    assert_int_equal(got.count, 1);
    assert_close(got.at[0].score, 0);
    assert_int_equal(got.at[0].version, second.operation_id);
    assert_string_equal(got.at[0].payload, "{}");
    do_op(&f, DP_OP_UPSERT,
          "{\"points\":[{\"id\":1,\"vector\":[9,9]},{\"id\":2,\"vector\":[9,9]}],"
          "\"update_mode\":\"insert_only\"}");
    do_op(&f, DP_OP_UPSERT,
          "{\"points\":[{\"id\":3,\"vector\":[9,9]}],\"update_mode\":\"update_only\"}");
    do_op(
        &f, DP_OP_UPSERT,
        "{\"points\":[{\"id\":2,\"vector\":[8,8]},{\"id\":4,\"vector\":[7,7]}],\"update_filter\":{"
        "\"must\":[{\"key\":\"nope\",\"match\":{\"value\":1}}]}}");
    nearest(&f, NULL, at, 2, 10, NULL, true, &got);
    assert_int_equal(got.count, 3);
    assert_int_equal(got.at[0].id.lo, 1);
    assert_int_equal(got.at[1].id.lo, 4);
    assert_int_equal(got.at[2].id.lo, 2);
    assert_close(got.at[2].score, 11.313708f);
    fixture_fini(&f);
}

static const char *
payload_of(fixture *f, uint64_t number)
{
    static answer got;
    const ort_point_id id = ort_point_id_of(number);
    got.count = 0;
    assert_int_equal(dp_collection_retrieve(f->c, &id, 1, true, collect, &got, NULL), ORT_OK);
    return got.count == 1 ? got.at[0].payload : "missing";
}

static void
payloads_change_as_asked(void **state)
{
    fixture f;
    ort_diag diag;
    (void)state;
    fixture_init(&f, plain, 0);
    do_op(&f, DP_OP_UPSERT,
          "{\"points\":[{\"id\":1,\"vector\":[3,4],\"payload\":{\"a\":1,\"b\":{\"c\":2}}},"
          "{\"id\":2,\"vector\":[3,4]}]}");
    do_op(&f, DP_OP_SET_PAYLOAD, "{\"points\":[1],\"payload\":{\"a\":null,\"d\":[1]}}");
    assert_string_equal(payload_of(&f, 1), "{\"b\":{\"c\":2},\"d\":[1]}");
    do_op(&f, DP_OP_SET_PAYLOAD, "{\"points\":[1],\"payload\":{\"e\":5},\"key\":\"b\"}");
    assert_string_equal(payload_of(&f, 1), "{\"d\":[1],\"b\":{\"c\":2,\"e\":5}}");
    do_op(&f, DP_OP_SET_PAYLOAD, "{\"filter\":{},\"payload\":{\"x\":1},\"key\":\"n.m\"}");
    assert_string_equal(payload_of(&f, 2), "{\"n\":{\"m\":{\"x\":1}}}");
    do_op(&f, DP_OP_DELETE_PAYLOAD, "{\"points\":[1,2],\"keys\":[\"b.c\",\"n\",\"zz\"]}");
    assert_string_equal(payload_of(&f, 1), "{\"d\":[1],\"b\":{\"e\":5}}");
    assert_string_equal(payload_of(&f, 2), "{}");
    do_op(&f, DP_OP_OVERWRITE_PAYLOAD, "{\"points\":[2],\"payload\":{\"q\":1}}");
    assert_string_equal(payload_of(&f, 2), "{\"q\":1}");
    fixture_reopen(&f);
    assert_string_equal(payload_of(&f, 1), "{\"d\":[1],\"b\":{\"e\":5}}");
    do_op(&f, DP_OP_CLEAR_PAYLOAD,
          "{\"filter\":{\"must\":[{\"key\":\"q\",\"match\":{\"value\":1}}]}}");
    assert_string_equal(payload_of(&f, 2), "{}");
    assert_int_equal(
        try_op(&f, DP_OP_SET_PAYLOAD, "{\"points\":[9,1],\"payload\":{\"y\":1}}", NULL, &diag),
        ORT_ENOTFOUND);
    assert_string_equal(diag.text, "No point with id 9 found");
    assert_string_equal(payload_of(&f, 1), "{\"d\":[1],\"b\":{\"e\":5},\"y\":1}");
    fixture_fini(&f);
}

/* Every kind of vector is stored, searched and shown. */
static void
all_kinds_of_vectors_are_searched(void **state)
{
    fixture f;
    answer got;
    ort_diag diag = {""};
    const float q[2] = {2, 0};
    const uint32_t at[2] = {3, 8};
    const float weights[2] = {1, 2};
    (void)state;
    fixture_init(&f, rich, 0);
    do_op(
        &f, DP_OP_UPSERT,
        "{\"points\":[{\"id\":1,\"vector\":{\"\":[3,4],\"u\":[1,2],\"h\":[1,2],\"m\":[[1,2],[3,0]],"
        "\"s\":{\"indices\":[3,9],\"values\":[1,1]}}},"
        "{\"id\":2,\"vector\":{\"\":[0,0],\"u\":[9,9],\"s\":{\"indices\":[8],\"values\":[0.25]}}},"
        "{\"id\":3,\"vector\":{\"h\":[5,0],\"m\":[[0,9]],\"t\":{\"indices\":[8],\"values\":[1]}}}]"
        "}");
    for (int round = 0; round < 3; round++) {
        nearest(&f, "", q, 2, 10, NULL, false, &got);
        assert_int_equal(got.count, 2);
        assert_close(got.at[0].score, 0.6f);
        assert_close(got.at[1].score, 0); /* a zero vector is stored as it is */
        nearest(&f, "u", q, 2, 10, NULL, false, &got);
        assert_int_equal(got.count, 2);
        assert_close(got.at[0].score, 3);
        nearest(&f, "h", q, 2, 10, NULL, false, &got);
        assert_int_equal(got.count, 2);
        assert_int_equal(got.at[0].id.lo, 3);
        assert_close(got.at[0].score, 10);
        nearest(&f, "m", q, 2, 10, NULL, false, &got);
        assert_int_equal(got.count, 2);
        assert_int_equal(got.at[0].id.lo, 1);
        assert_close(got.at[0].score, 6);
        dp_query sparse = {.kind = DP_QUERY_NEAREST,
                           .vector = {.kind = DP_VECTOR_SPARSE,
                                      .indices = at,
                                      .values = weights,
                                      .count = 2,
                                      .rows = 1},
                           .using_name = "s",
                           .limit = 10};
        got.count = 0;
        assert_int_equal(dp_collection_query(f.c, &sparse, 1, false, collect, &got, &diag), ORT_OK);
        assert_int_equal(got.count, 2);
        assert_close(got.at[0].score, 1);
        assert_close(got.at[1].score, 0.5f);
        const dp_query by_id = {
            .kind = DP_QUERY_ID, .id = ort_point_id_of(1), .using_name = "h", .limit = 10};
        got.count = 0;
        assert_int_equal(dp_collection_query(f.c, &by_id, 1, false, collect, &got, &diag), ORT_OK);
        assert_int_equal(got.count, 1);
        assert_int_equal(got.at[0].id.lo, 3);
        assert_close(got.at[0].score, 5);
        assert_int_equal(count_where(&f, "{\"must\":[{\"has_vector\":\"h\"}]}"), 2);
        if (round == 1) {
            assert_int_equal(dp_collection_checkpoint(f.c, NULL), ORT_OK);
        }
        fixture_reopen(&f);
    }
    do_op(&f, DP_OP_UPDATE_VECTORS, "{\"points\":[{\"id\":3,\"vector\":{\"h\":[1,0]}}]}");
    do_op(&f, DP_OP_DELETE_VECTORS, "{\"points\":[1],\"vector\":[\"m\",\"s\"]}");
    nearest(&f, "m", q, 2, 10, NULL, false, &got);
    assert_int_equal(got.count, 1);
    nearest(&f, "h", q, 2, 10, NULL, false, &got);
    assert_close(got.at[0].score, 2);
    assert_int_equal(try_op(&f, DP_OP_UPDATE_VECTORS,
                            "{\"points\":[{\"id\":7,\"vector\":{\"h\":[1,0]}}]}", NULL, &diag),
                     ORT_ENOTFOUND);
    fixture_fini(&f);
}

static ort_err
write_point(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    ort_json_doc *doc;
    dp_show show = {.payload = {.all = true}};
    ort_jw w = {.buf = ctx};
    (void)query;
    assert_int_equal(ort_json_parse(&doc, "true", 4, (ort_json_limits){0}, NULL), ORT_OK);
    assert_int_equal(
        dp_vector_selector_parse(&show.vectors, schema, ort_json_root(doc), false, NULL), ORT_OK);
    ort_json_free(doc);
    ort_jw_object(&w);
    ort_jw_key(&w, "id");
    dp_point_id_write(&w, view->id);
    assert_int_equal(dp_point_write(view, schema, &show, &w, NULL), ORT_OK);
    ort_jw_object_end(&w);
    return ORT_OK;
}

static void
points_are_written_as_clients_know_them(void **state)
{
    fixture f;
    ort_buf buf = {0};
    ort_point_id ids[4] = {{.lo = 1}, {.lo = 9}, {.lo = 1}, {.lo = 2}};
    (void)state;
    fixture_init(&f, rich, 0);
    do_op(&f, DP_OP_UPSERT,
          "{\"points\":[{\"id\":1,\"vector\":{\"\":[0.6,0.8],\"u\":[1,2],\"m\":[[1,2],[3,0.5]],"
          "\"s\":{\"indices\":[9,3],\"values\":[1,2]}},\"payload\":{\"a\":0.15}},"
          "{\"id\":2,\"vector\":[1,0]}]}");
    assert_int_equal(dp_collection_retrieve(f.c, ids, 4, true, write_point, &buf, NULL), ORT_OK);
    assert_string_equal(ort_buf_peek_cstr(&buf),
                        "{\"id\":1,\"payload\":{\"a\":0.15},\"vector\":{\"\":[0.6,0.8],\"u\":[1.0,"
                        "2.0],\"m\":[[1.0,2.0],"
                        "[3.0,0.5]],\"s\":{\"indices\":[3,9],\"values\":[2.0,1.0]}}}"
                        "{\"id\":2,\"payload\":{},\"vector\":[1.0,0.0]}");
    ort_buf_fini(&buf);
    fixture_fini(&f);
}

static void
scrolling_pages_in_id_order(void **state)
{
    fixture f;
    answer got = {0};
    bool more;
    ort_point_id next, from;
    dp_filter *odd;
    (void)state;
    fixture_init(&f, plain, 0);
    for (int i = 599; i >= 0; i--) {
        do_op(&f, DP_OP_UPSERT,
              "{\"points\":[{\"id\":%d,\"vector\":[1,%d],\"payload\":{\"odd\":%s}}]}", i, i,
              i % 2 ? "true" : "false");
    }
    odd = make_filter("{\"must\":{\"key\":\"odd\",\"match\":{\"value\":true}}}");
    assert_int_equal(
        dp_collection_scroll(f.c, odd, NULL, 100, false, collect, &got, &more, &next, NULL),
        ORT_OK);
    assert_int_equal(got.count, 100);
    assert_int_equal(got.at[99].id.lo, 199);
    assert_true(more);
    assert_int_equal(next.lo, 201);
    from = next;
    got.count = 0;
    assert_int_equal(
        dp_collection_scroll(f.c, odd, &from, UINT64_MAX, true, collect, &got, &more, &next, NULL),
        ORT_OK);
    assert_int_equal(got.count, 200);
    assert_false(more);
    const dp_query none = {.kind = DP_QUERY_NONE, .filter = odd, .limit = 3, .offset = 2};
    got.count = 0;
    assert_int_equal(dp_collection_query(f.c, &none, 1, false, collect, &got, NULL), ORT_OK);
    assert_int_equal(got.count, 3);
    assert_int_equal(got.at[0].id.lo, 5);
    dp_filter_free(odd);
    fixture_fini(&f);
}

static void
bounds_thresholds_and_offsets_hold(void **state)
{
    fixture f;
    answer got;
    ort_diag diag;
    const float q[3] = {0, 0, 0};
    (void)state;
    fixture_init(&f, plain, 0);
    for (int i = 1; i <= 20; i++) {
        do_op(&f, DP_OP_UPSERT, "{\"points\":[{\"id\":%d,\"vector\":[0,%d]}]}", i, i);
    }
    dp_query query = {.kind = DP_QUERY_NEAREST,
                      .vector = {.kind = DP_VECTOR_DENSE, .values = q, .count = 2, .rows = 1},
                      .limit = 999999999,
                      .offset = 5};
    got.count = 0;
    assert_int_equal(dp_collection_query(f.c, &query, 1, false, collect, &got, NULL), ORT_OK);
    assert_int_equal(got.count, 15);
    assert_int_equal(got.at[0].id.lo, 6);
    query.has_threshold = true;
    query.score_threshold = 8.5f;
    got.count = 0;
    assert_int_equal(dp_collection_query(f.c, &query, 1, false, collect, &got, NULL), ORT_OK);
    assert_int_equal(got.count, 3);
    query.limit = 0;
    assert_int_equal(dp_collection_query(f.c, &query, 1, false, collect, &got, &diag),
                     ORT_EVALIDATE);
    query.limit = 1;
    query.vector.count = 3;
    assert_int_equal(dp_collection_query(f.c, &query, 1, false, collect, &got, &diag), ORT_EINVAL);
    assert_string_equal(diag.text, "Vector dimension error: expected dim: 2, got 3");
    query.vector.count = 2;
    query.using_name = "nope";
    assert_int_equal(dp_collection_query(f.c, &query, 1, false, collect, &got, &diag), ORT_EINVAL);
    query.using_name = NULL;
    query.kind = DP_QUERY_ID;
    query.id = ort_point_id_of(404);
    assert_int_equal(dp_collection_query(f.c, &query, 1, false, collect, &got, &diag),
                     ORT_ENOTFOUND);
    query.kind = DP_QUERY_NONE;
    assert_int_equal(dp_collection_query(f.c, &query, 1, false, collect, &got, &diag), ORT_EBADREQ);
    fixture_fini(&f);
}

/* Sixteen exact searches go through one matrix product: the answers are those of each alone. */
static void
a_batch_answers_as_its_searches_alone(void **state)
{
    fixture f;
    answer together = {0}, alone;
    float vectors[16][2];
    dp_query queries[16];
    (void)state;
    fixture_init(&f, plain, 0);
    for (int i = 0; i < 300; i++) {
        do_op(&f, DP_OP_UPSERT, "{\"points\":[{\"id\":%d,\"vector\":[%d,%d]}]}", i, i * 37 % 101,
              i * 53 % 97);
    }
    for (int i = 0; i < 16; i++) {
        vectors[i][0] = (float)(i * 7);
        vectors[i][1] = (float)(i * 5) + 0.5f;
        queries[i] = (dp_query){
            .kind = DP_QUERY_NEAREST,
            .vector = {.kind = DP_VECTOR_DENSE, .values = vectors[i], .count = 2, .rows = 1},
            .limit = 3 + (uint64_t)i % 5,
            .exact = true};
    }
    assert_int_equal(dp_collection_query(f.c, queries, 16, false, collect, &together, NULL),
                     ORT_OK);
    size_t at = 0;
    for (size_t i = 0; i < 16; i++) {
        nearest(&f, NULL, vectors[i], 2, queries[i].limit, NULL, true, &alone);
        for (size_t j = 0; j < alone.count; j++, at++) {
            assert_int_equal(together.at[at].query, i);
            assert_int_equal(together.at[at].id.lo, alone.at[j].id.lo);
            assert_close(together.at[at].score, alone.at[j].score);
        }
    }
    assert_int_equal(at, together.count);
    fixture_fini(&f);
}

static void
sizes_are_counted_exactly(void **state)
{
    fixture f;
    dp_collection_info info;
    dp_amount used;
    (void)state;
    fixture_init(&f, rich, 0);
    do_op(
        &f, DP_OP_UPSERT,
        "{\"points\":[{\"id\":1,\"vector\":{\"\":[3,4],\"u\":[1,2],\"h\":[1,2],\"m\":[[1,2],[3,0]],"
        "\"s\":{\"indices\":[3,9],\"values\":[1,1]}},\"payload\":{ \"a\" : 1 }}]}");
    dp_collection_get_info(f.c, &info);
    /* id 17, payload 7, f32 2x4, u8 2, f16 2x2, multi 2x2x4, sparse 2x8 */
    assert_int_equal(info.bytes, 17 + 7 + 8 + 2 + 4 + 16 + 16);
    assert_int_equal(info.points, 1);
    assert_int_equal(info.vectors, 5);
    dp_quota_usage(f.quota, &used, NULL);
    assert_int_equal(used.bytes, info.bytes);
    fixture_reopen(&f);
    dp_quota_usage(f.quota, &used, NULL);
    assert_int_equal(used.bytes, info.bytes);
    do_op(&f, DP_OP_DELETE, "{\"filter\":{\"must\":[]}}");
    dp_quota_usage(f.quota, &used, NULL);
    assert_int_equal(used.bytes, 0);
    assert_int_equal(used.points, 0);
    fixture_fini(&f);
}

/* Puts 600 points with one upsert; vector i is (i, i * 7 % 13, 1, 0). */
static void
put_points(fixture *f)
{
    static char text[1 << 17];
    size_t len = (size_t)snprintf(text, sizeof text, "{\"points\":[");

    for (int i = 0; i < 600; i++) {
        len +=
            (size_t)snprintf(text + len, sizeof text - len, "%s{\"id\":%d,\"vector\":[%d,%d,1,0]}",
                             i > 0 ? "," : "", i, i, i * 7 % 13);
    }
    (void)snprintf(text + len, sizeof text - len, "]}");
    do_op(f, DP_OP_UPSERT, "%s", text);
}

static void
expect_nearest(fixture *f)
{
    for (int i = 0; i < 600; i += 29) {
        const float q[4] = {(float)i, (float)(i * 7 % 13), 1, 0};
        answer got;

        nearest(f, "", q, 4, 3, NULL, false, &got);
        assert_int_equal(got.count, 3);
        assert_int_equal(got.at[0].id.lo, i);
    }
}

static void
wait_for_graph(fixture *f, uint64_t indexed)
{
    dp_collection_info info;

    assert_int_equal(dp_collection_wait_indexed(f->c, ort_mono_ns() + UINT64_C(240000000000)),
                     ORT_OK);
    dp_collection_get_info(f->c, &info);
    assert_int_equal(info.indexed_vectors, indexed);
}

static void
flip(fixture *f, off_t at)
{
    unsigned char byte;
    const int fd = openat(f->dir, "index/vector-0.hnsw", O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Searches must not see it: not while the file is looked through, not after it was given up. */
static void
a_damaged_graph_is_scanned_around_and_built_anew(void **state)
{
    fixture f;
    dp_collection_info info;
    (void)state;
    fixture_init(&f,
                 "{\"vectors\":{\"size\":4,\"distance\":\"Euclid\"},"
                 "\"hnsw_config\":{\"on_disk\":true},"
                 "\"optimizers_config\":{\"indexing_threshold\":1}}",
                 2);
    put_points(&f);
    wait_for_graph(&f, 600);
    expect_nearest(&f);
    fixture_close(&f);
    for (off_t at = 0; at < 100000; at += 9001) { /* head, nodes, links, codes, checksums */
        flip(&f, at);
        fixture_open(&f);
        expect_nearest(&f);
        wait_for_graph(&f, 600);
        expect_nearest(&f);
        fixture_close(&f);
    }
    f.env.workers = NULL; /* the last one was saved again, and is found */
    fixture_open(&f);
    dp_collection_get_info(f.c, &info);
    assert_int_equal(info.indexed_vectors, 600);
    expect_nearest(&f);
    fixture_fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_are_found_at_once_and_after_a_restart),
        cmocka_unit_test(an_upsert_replaces_and_versions_grow),
        cmocka_unit_test(payloads_change_as_asked),
        cmocka_unit_test(all_kinds_of_vectors_are_searched),
        cmocka_unit_test(points_are_written_as_clients_know_them),
        cmocka_unit_test(scrolling_pages_in_id_order),
        cmocka_unit_test(bounds_thresholds_and_offsets_hold),
        cmocka_unit_test(a_batch_answers_as_its_searches_alone),
        cmocka_unit_test(sizes_are_counted_exactly),
        cmocka_unit_test(a_damaged_graph_is_scanned_around_and_built_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
