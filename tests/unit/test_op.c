/* Operations: what requests give, what is refused, and that a record holds all of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collection/op_internal.h"

static dp_schema *schema;

static int
make_schema(void **state)
{
    static const char text[] =
        "{\"vectors\":{\"\":{\"size\":2,\"distance\":\"Cosine\"},\"u\":{\"size\":2,\"distance\":"
        "\"Euclid\""
        ",\"datatype\":\"uint8\"},\"h\":{\"size\":2,\"distance\":\"Dot\",\"datatype\":\"float16\"},"
        "\"m\":{"
        "\"size\":2,\"distance\":\"Dot\",\"multivector_config\":{\"comparator\":\"max_sim\"}}},"
        "\"sparse_vectors\":{\"s\":{}}}";
    ort_json_doc *doc;
    (void)state;
    assert_int_equal(ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, NULL), ORT_OK);
    assert_int_equal(dp_schema_parse(&schema, ort_json_root(doc), NULL), ORT_OK);
    ort_json_free(doc);
    return 0;
}

static int
drop_schema(void **state)
{
    (void)state;
    dp_schema_unref(schema);
    return 0;
}

static ort_err
parse(dp_op **out, dp_op_kind kind, const char *text, ort_diag *diag)
{
    ort_json_doc *doc;
    assert_int_equal(ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, diag), ORT_OK);
    const ort_err err = dp_op_parse(out, kind, schema, ort_json_root(doc), diag);
    ort_json_free(doc);
    return err;
}

static dp_op *
accept(dp_op_kind kind, const char *text, dp_op_record *record)
{
    dp_op *op;
    ort_diag diag;
    if (parse(&op, kind, text, &diag) != ORT_OK) {
        fail_msg("%s: %s", text, diag.text);
    }
    assert_int_equal(dp_op__open(record, op->record.data, op->record.len, &diag), ORT_OK);
    assert_true(dp_op__fits(record, schema));
    return op;
}

static void
an_upsert_holds_rows_ready_to_store(void **state)
{
    dp_op_record record;
    dp_op_point point;
    dp_op_vector v;
    float row[2];
    (void)state;
    dp_op *op = accept(DP_OP_UPSERT,
                       "{\"points\":[{\"id\":7,\"vector\":{\"\":[3,4],\"u\":[-1,300.7],\"h\":[1,2],"
                       "\"m\":[[1,2],[3,4]],\"s\":{\"indices\":[9,1],\"values\":[0.5,2]}},"
                       "\"payload\":{ \"a\" : [1, 2] }},"
                       "{\"id\":\"550E8400-e29b-41d4-a716-446655440000\",\"vector\":[0,0]}]}",
                       &record);
    assert_int_equal(record.point_count, 2);
    ort_cursor c = record.points;
    uint32_t left = record.point_count;
    assert_true(dp_op__next_point(&record, &c, &left, &point));
    assert_int_equal(point.id.lo, 7);
    assert_memory_equal(point.payload.text, "{\"a\":[1,2]}", point.payload.len);
    assert_int_equal(point.vector_count, 5);
    ort_cursor at = point.vectors;
    uint32_t n = point.vector_count;
    assert_true(dp_op__next_vector(&record, &at, &n, &v));
    memcpy(row, v.data, sizeof row);
    assert_true(row[0] > 0.5999f && row[0] < 0.6001f);
    assert_true(dp_op__next_vector(&record, &at, &n, &v));
    assert_int_equal(v.data[0], 0);
    assert_int_equal(v.data[1], 255);
    assert_true(dp_op__next_vector(&record, &at, &n, &v));
    assert_int_equal(ort_get_u16(v.data), 0x3c00);
    assert_true(dp_op__next_vector(&record, &at, &n, &v));
    assert_int_equal(v.rows, 2);
    assert_true(dp_op__next_vector(&record, &at, &n, &v));
    assert_int_equal(ort_get_u32(v.data), 1);
    assert_int_equal(ort_get_u32(v.data + 4), 9);
    assert_false(dp_op__next_vector(&record, &at, &n, &v));
    assert_true(dp_op__next_point(&record, &c, &left, &point));
    assert_true(point.id.uuid);
    assert_int_equal(point.payload.len, 0);
    assert_false(dp_op__next_point(&record, &c, &left, &point));
    dp_op_free(op);
}

static void
the_columnar_form_says_the_same(void **state)
{
    dp_op_record a, b;
    (void)state;
    dp_op *list = accept(DP_OP_UPSERT,
                         "{\"points\":[{\"id\":1,\"vector\":{\"u\":[1,2]},\"payload\":{\"x\":1}},"
                         "{\"id\":2,\"vectors\":{\"u\":[3,4]},\"payload\":null}]}",
                         &a);
    dp_op *columns = accept(DP_OP_UPSERT,
                            "{\"batch\":{\"ids\":[1,2],\"vectors\":{\"u\":[[1,2],[3,4]]},"
                            "\"payloads\":[{\"x\":1},null]}}",
                            &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.base, b.base, a.len);
    dp_op_free(list);
    dp_op_free(columns);
}

static void
targets_keys_and_names_are_kept(void **state)
{
    dp_op_record r;
    (void)state;
    dp_op *op = accept(
        DP_OP_SET_PAYLOAD,
        "{\"payload\":{\"a\":null},\"key\":\"x.y\",\"filter\":{\"must\":[ {\"has_id\":[3]} ]}}",
        &r);
    assert_int_equal(r.target, DP_TARGET_FILTER);
    assert_memory_equal(r.filter.text, "{\"must\":[{\"has_id\":[3]}]}", r.filter.len);
    assert_memory_equal(r.key.text, "x.y", r.key.len);
    assert_memory_equal(r.payload.text, "{\"a\":null}", r.payload.len);
    dp_op_free(op);
    op = accept(DP_OP_DELETE_PAYLOAD, "{\"keys\":[\"a\",\"b[].c\"],\"points\":[1,2,3]}", &r);
    assert_int_equal(r.name_count, 2);
    assert_int_equal(r.id_count, 3);
    assert_int_equal(dp_op__id(&r, 2).lo, 3);
    dp_op_free(op);
    op = accept(DP_OP_DELETE_VECTORS, "{\"vector\":[\"s\",\"\"],\"points\":[1]}", &r);
    assert_int_equal(r.column_count, 2);
    assert_int_equal(ort_get_u16(r.columns), 4);
    dp_op_free(op);
    op = accept(DP_OP_DELETE, "{\"filter\":{}}", &r);
    assert_int_equal(r.target, DP_TARGET_FILTER);
    dp_op_free(op);
}

static void
wrong_operations_are_refused(void **state)
{
    static const struct {
        dp_op_kind kind;
        const char *text;
        ort_err err;
        const char *words;
    } rows[] = {
        {DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":[1,2,3]}]}", ORT_EINVAL,
         "Vector dimension error: expected dim: 2, got 3"},
        {DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":[]}]}", ORT_EVALIDATE, "points[0]"},
        {DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":{\"zz\":[1,2]}}]}", ORT_EINVAL,
         "Not existing vector name error: zz"},
        {DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":[1,1e999]}]}", ORT_EFORMAT,
         "out of range"},
        {DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":[1,\"x\"]}]}", ORT_EFORMAT,
         "VectorStruct"},
        {DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":3}]}", ORT_EFORMAT, "VectorStruct"},
        {DP_OP_UPSERT, "{\"points\":[{\"id\":-1,\"vector\":[1,2]}]}", ORT_EFORMAT,
         "value -1 is not a valid point ID"},
        {DP_OP_UPSERT, "{\"points\":[{\"id\":\"x\",\"vector\":[1,2]}]}", ORT_EFORMAT, "point ID"},
        {DP_OP_UPSERT, "{\"points\":[{\"vector\":[1,2]}]}", ORT_EFORMAT, "missing field `id`"},
        {DP_OP_UPSERT, "{\"points\":[{\"id\":1}]}", ORT_EFORMAT, "missing field `vector`"},
        {DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":[1,2],\"payload\":3}]}", ORT_EFORMAT,
         "payload"},
        {DP_OP_UPSERT, "{\"points\":[]}", ORT_EBADREQ, "Empty update request"},
        {DP_OP_UPSERT, "{\"points\":{}}", ORT_EFORMAT, "points"},
        {DP_OP_UPSERT, "{}", ORT_EFORMAT, "PointInsertOperations"},
        {DP_OP_UPSERT, "[]", ORT_EFORMAT, "object"},
        {DP_OP_UPSERT, "{\"batch\":{\"ids\":[1,2],\"vectors\":[[1,2]]}}", ORT_EVALIDATE, "equal"},
        {DP_OP_UPSERT, "{\"batch\":{\"ids\":[1],\"vectors\":{\"u\":[]}}}", ORT_EVALIDATE, "equal"},
        {DP_OP_UPSERT, "{\"batch\":{\"ids\":[1],\"vectors\":[[1,2]],\"payloads\":[]}}",
         ORT_EVALIDATE, "equal"},
        {DP_OP_UPSERT,
         "{\"points\":[{\"id\":1,\"vector\":{\"s\":{\"indices\":[1,1],\"values\":[1,2]}}}]}",
         ORT_EVALIDATE, "unique"},
        {DP_OP_UPSERT,
         "{\"points\":[{\"id\":1,\"vector\":{\"s\":{\"indices\":[1],\"values\":[1,2]}}}]}",
         ORT_EVALIDATE, "same length"},
        {DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":{\"s\":[1,2]}}]}", ORT_EINVAL, "sparse"},
        {DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":{\"text\":\"a\",\"model\":\"b\"}}]}",
         ORT_EBADREQ, "No model"},
        {DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":[1,2]}],\"update_mode\":\"x\"}",
         ORT_EFORMAT, "update_mode"},
        {DP_OP_DELETE, "{}", ORT_EBADREQ, "points or filter"},
        {DP_OP_DELETE, "{\"points\":[1.5]}", ORT_EFORMAT, "value 1.5"},
        {DP_OP_DELETE, "{\"filter\":{\"nope\":1}}", ORT_EFORMAT, "unknown field"},
        {DP_OP_SET_PAYLOAD, "{\"points\":[1]}", ORT_EFORMAT, "missing field `payload`"},
        {DP_OP_SET_PAYLOAD, "{\"points\":[1],\"payload\":{},\"key\":\"a[\"}", ORT_EFORMAT, "path"},
        {DP_OP_DELETE_PAYLOAD, "{\"points\":[1]}", ORT_EFORMAT, "missing field `keys`"},
        {DP_OP_DELETE_VECTORS, "{\"points\":[1],\"vector\":[]}", ORT_EVALIDATE, "vector"},
        {DP_OP_DELETE_VECTORS, "{\"points\":[1],\"vector\":[\"q\"]}", ORT_EINVAL, "error: q"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ort_diag diag = {.text = ""};
        dp_op *op;
        const ort_err err = parse(&op, rows[i].kind, rows[i].text, &diag);
        if (err != rows[i].err || strstr(diag.text, rows[i].words) == NULL) {
            fail_msg("%s: %d %s", rows[i].text, err, diag.text);
        }
        assert_null(op);
    }
}

static void
a_batch_is_refused_whole(void **state)
{
    static const char good[] =
        "{\"operations\":[{\"upsert\":{\"points\":[{\"id\":1,\"vector\":[1,2]}]}},"
        "{\"clear_payload\":{\"points\":[1]}}]}";
    static const char bad[] =
        "{\"operations\":[{\"upsert\":{\"points\":[{\"id\":1,\"vector\":[1,2]}]}},"
        "{\"delete\":{}}]}";
    ort_json_doc *doc;
    dp_op **ops;
    size_t count;
    (void)state;
    assert_int_equal(ort_json_parse(&doc, good, strlen(good), (ort_json_limits){0}, NULL), ORT_OK);
    assert_int_equal(dp_op_parse_batch(&ops, &count, schema, ort_json_root(doc), NULL), ORT_OK);
    assert_int_equal(count, 2);
    assert_int_equal(dp_op_kind_of(ops[1]), DP_OP_CLEAR_PAYLOAD);
    dp_op_free(ops[0]);
    dp_op_free(ops[1]);
    free(ops);
    ort_json_free(doc);
    assert_int_equal(ort_json_parse(&doc, bad, strlen(bad), (ort_json_limits){0}, NULL), ORT_OK);
    assert_int_equal(dp_op_parse_batch(&ops, &count, schema, ort_json_root(doc), NULL),
                     ORT_EBADREQ);
    assert_null(ops);
    ort_json_free(doc);
}

/* A record comes from a disk or another node: every prefix and every flipped byte is read without
 * harm. */
static void
damaged_records_do_no_harm(void **state)
{
    dp_op_record r;
    (void)state;
    dp_op *op = accept(DP_OP_UPSERT,
                       "{\"points\":[{\"id\":7,\"vector\":{\"\":[3,4],\"m\":[[1,2],[3,4]],\"s\":{"
                       "\"indices\":[9,1],\"values\":[0.5,2]}},\"payload\":{\"a\":1}}]}",
                       &r);
    for (size_t n = 0; n < op->record.len; n++) {
        char *cut = malloc(n > 0 ? n : 1);
        assert_non_null(cut);
        memcpy(cut, op->record.data, n);
        assert_int_equal(dp_op__open(&r, cut, n, NULL), ORT_ECORRUPT);
        free(cut);
        for (int bit = 0; bit < 8; bit++) {
            op->record.data[n] = (char)(op->record.data[n] ^ (1 << bit));
            if (dp_op__open(&r, op->record.data, op->record.len, NULL) == ORT_OK) {
                (void)dp_op__fits(&r, schema);
            }
            op->record.data[n] = (char)(op->record.data[n] ^ (1 << bit));
        }
    }
    dp_op_free(op);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upsert_holds_rows_ready_to_store),
        cmocka_unit_test(the_columnar_form_says_the_same),
        cmocka_unit_test(targets_keys_and_names_are_kept),
        cmocka_unit_test(wrong_operations_are_refused),
        cmocka_unit_test(a_batch_is_refused_whole),
        cmocka_unit_test(damaged_records_do_no_harm),
    };
    return cmocka_run_group_tests(tests, make_schema, drop_schema);
}
