/* Payload fields of a schema. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collection/schema.h"

static dp_schema *
schema_of(const char *text)
{
    ort_json_doc *doc;
    dp_schema *schema;
    assert_int_equal(ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, NULL), 0);
    assert_int_equal(dp_schema_parse(&schema, ort_json_root(doc), NULL), 0);
    ort_json_free(doc);
    return schema;
}

/* Sets a field and takes over the schema. */
static ort_err
set(dp_schema **schema, const char *field, const char *spec, ort_diag *diag)
{
    ort_json_doc *doc = NULL;
    ort_json v = {0};
    dp_schema *fresh;
    if (spec != NULL) {
        assert_int_equal(ort_json_parse(&doc, spec, strlen(spec), (ort_json_limits){0}, NULL), 0);
        v = ort_json_root(doc);
    }
    const ort_err err = dp_schema_set_field(&fresh, *schema, field, strlen(field), v, diag);
    ort_json_free(doc);
    if (err == ORT_OK) {
        dp_schema_unref(*schema);
        *schema = fresh;
    } else {
        assert_null(fresh);
    }
    return err;
}

static void
assert_fields(const dp_schema *schema, const char *expected)
{
    size_t len;
    const char *raw = ort_json_raw(dp_schema_peek_fields(schema), &len);
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(raw, expected, len);
}

static void
fields_are_declared_replaced_and_taken_away(void **state)
{
    (void)state;
    dp_schema *schema =
        schema_of("{\"vectors\":{\"size\":4,\"distance\":\"Dot\"},\"metadata\":{\"a\":1}}");

    assert_int_equal(ort_json_type_of(dp_schema_peek_fields(schema)), ORT_JSON_NONE);
    assert_int_equal(set(&schema, "a.b", "\"keyword\"", NULL), ORT_OK);
    assert_int_equal(set(&schema, "n", "{\"type\":\"integer\",\"range\":false,\"x\":1}", NULL),
                     ORT_OK);
    assert_fields(schema, "{\"a.b\":{\"data_type\":\"keyword\"},\"n\":{\"data_type\":\"integer\","
                          "\"params\":{\"type\":\"integer\",\"range\":false,\"x\":1}}}");
    assert_int_equal(set(&schema, "a.b", "\"uuid\"", NULL), ORT_OK);
    assert_int_equal(set(&schema, "n", NULL, NULL), ORT_OK);
    assert_int_equal(set(&schema, "not-there", NULL, NULL), ORT_OK);
    assert_fields(schema, "{\"a.b\":{\"data_type\":\"uuid\"}}");
    dp_schema_unref(schema);
}

static void
what_is_no_index_is_refused(void **state)
{
    (void)state;
    ort_diag diag;
    dp_schema *schema = schema_of("{\"vectors\":{\"size\":4,\"distance\":\"Dot\"}}");

    assert_int_equal(set(&schema, "a", "\"keywords\"", &diag), ORT_EFORMAT);
    assert_int_equal(set(&schema, "a", "{}", &diag), ORT_EFORMAT);
    assert_int_equal(set(&schema, "a", "7", &diag), ORT_EFORMAT);
    assert_int_equal(set(&schema, "a[", "\"keyword\"", &diag), ORT_EFORMAT);
    assert_int_equal(set(&schema, "", "\"keyword\"", &diag), ORT_EFORMAT);
    assert_int_equal(
        set(&schema, "a", "{\"type\":\"integer\",\"lookup\":false,\"range\":false}", &diag),
        ORT_EVALIDATE);
    assert_int_equal(ort_json_type_of(dp_schema_peek_fields(schema)), ORT_JSON_NONE);
    dp_schema_unref(schema);
}

/* Fields are no members of a PATCH body: it must neither lose them nor bring some in. */
static void
a_patch_keeps_the_fields(void **state)
{
    (void)state;
    dp_schema *schema = schema_of("{\"vectors\":{\"size\":4,\"distance\":\"Dot\"}}");
    dp_schema *fresh;
    ort_json_doc *doc;
    const char *body = "{\"metadata\":{\"m\":1},\"payload_schema\":{\"evil\":1}}";

    assert_int_equal(set(&schema, "a", "\"geo\"", NULL), ORT_OK);
    assert_int_equal(ort_json_parse(&doc, body, strlen(body), (ort_json_limits){0}, NULL), 0);
    assert_int_equal(dp_schema_patch(&fresh, schema, ort_json_root(doc), NULL), ORT_OK);
    assert_fields(fresh, "{\"a\":{\"data_type\":\"geo\"}}");
    ort_json_free(doc);

    /* Nor does going through the catalog. */
    ort_buf buf = {0};
    ort_jw w = {.buf = &buf};
    dp_schema *again;
    dp_schema_encode(fresh, &w);
    assert_int_equal(ort_json_parse(&doc, buf.data, buf.len, (ort_json_limits){0}, NULL), 0);
    assert_int_equal(dp_schema_decode(&again, ort_json_root(doc), NULL), ORT_OK);
    assert_fields(again, "{\"a\":{\"data_type\":\"geo\"}}");
    ort_json_free(doc);
    ort_buf_fini(&buf);
    dp_schema_unref(again);
    dp_schema_unref(fresh);
    dp_schema_unref(schema);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_declared_replaced_and_taken_away),
        cmocka_unit_test(what_is_no_index_is_refused),
        cmocka_unit_test(a_patch_keeps_the_fields),
    };
    return cmocka_run_group_tests_name("schema_field", tests, NULL, NULL);
}
