/* Schemas: what PUT and PATCH accept and refuse, and that the catalog's text keeps all of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "collection/schema.h"

static ort_json_doc *
json(const char *text)
{
    ort_json_doc *doc;
    assert_int_equal(ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, NULL), ORT_OK);
    return doc;
}

static dp_schema *
create(const char *text)
{
    ort_json_doc *doc = json(text);
    dp_schema *schema;
    ort_diag diag;
    if (dp_schema_parse(&schema, ort_json_root(doc), &diag) != ORT_OK) {
        fail_msg("%s: %s", text, diag.text);
    }
    ort_json_free(doc);
    return schema;
}

static void
assert_config(const dp_schema *schema, const char *part)
{
    ort_buf buf = {0};
    ort_jw w = {.buf = &buf};
    dp_schema_write_config(schema, &w);
    if (strstr(ort_buf_peek_cstr(&buf), part) == NULL) {
        fail_msg("%s is not in %s", part, buf.data);
    }
    ort_buf_fini(&buf);
}

/* The catalog is written and read at every restart: nothing may get lost on the way. */
static dp_schema *
through_the_catalog(dp_schema *schema)
{
    ort_buf buf = {0};
    ort_jw w = {.buf = &buf};
    dp_schema *again;
    dp_schema_encode(schema, &w);
    ort_json_doc *doc = json(ort_buf_peek_cstr(&buf));
    assert_int_equal(dp_schema_decode(&again, ort_json_root(doc), NULL), ORT_OK);
    ort_json_free(doc);
    ort_buf_fini(&buf);
    dp_schema_unref(schema);
    return again;
}

static void
one_unnamed_vector(void **state)
{
    dp_schema *schema = through_the_catalog(
        create("{\"vectors\":{\"size\":4,\"distance\":\"Cosine\",\"on_disk\":true,\"hnsw_config\":{"
               "\"m\":0,\"payload_m\":16}},\"junk\":1,\"shard_number\":null}"));
    (void)state;
    assert_int_equal(dp_schema_vector_count(schema), 1);
    const dp_vector_schema *v = dp_schema_peek_vector(schema, 0);
    assert_string_equal(v->name, "");
    assert_int_equal(v->size, 4);
    assert_int_equal(v->metric, DP_METRIC_COSINE);
    assert_int_equal(v->hnsw.m, 0);
    assert_int_equal(v->hnsw.value_m, 16);
    assert_true(v->hnsw.value_m_all);
    assert_int_equal(v->hnsw.ef_construct, 100);
    assert_int_equal(dp_schema_find_vector(schema, "", 0), 0);
    assert_int_equal(dp_schema_find_vector(schema, "x", 1), -1);
    assert_config(schema,
                  "\"params\":{\"vectors\":{\"size\":4,\"distance\":\"Cosine\",\"hnsw_config\":"
                  "{\"m\":0,\"payload_m\":16},\"on_disk\":true},\"shard_number\":1");
    assert_config(schema, "\"optimizer_config\":{\"deleted_threshold\":0.2");
    assert_config(schema, "\"quantization_config\":null}");
    dp_schema_unref(schema);
}

static void
named_dense_and_sparse_vectors(void **state)
{
    dp_schema *schema = through_the_catalog(create(
        "{\"vectors\":{\"\":{\"size\":2,\"distance\":\"Dot\"},\"b\":{\"size\":3,\"distance\":"
        "\"Euclid\","
        "\"datatype\":\"uint8\",\"multivector_config\":{\"comparator\":\"max_sim\"}}},"
        "\"sparse_vectors\":{\"w\":{\"modifier\":\"idf\",\"index\":{\"on_disk\":true}},\"x\":{}},"
        "\"hnsw_config\":{\"m\":8},\"optimizers_config\":{\"indexing_threshold\":100},"
        "\"metadata\":{\"a\":1},\"strict_mode_config\":{\"enabled\":true}}"));
    (void)state;
    assert_int_equal(dp_schema_vector_count(schema), 4);
    const dp_vector_schema *b = dp_schema_peek_vector(schema, 1);
    assert_true(b->multi);
    assert_int_equal(b->elem, DP_ELEM_U8);
    assert_int_equal(b->hnsw.m, 8);
    assert_int_equal(b->hnsw.indexing_threshold_kb, 100);
    assert_true(dp_schema_peek_vector(schema, 2)->idf);
    assert_true(dp_schema_peek_vector(schema, 3)->sparse);
    assert_config(schema, "\"vectors\":{\"\":{\"size\":2,\"distance\":\"Dot\"},\"b\":{");
    assert_config(schema,
                  "\"sparse_vectors\":{\"w\":{\"index\":{\"on_disk\":true},\"modifier\":\"idf\"}"
                  ",\"x\":{}}");
    assert_config(schema, "\"strict_mode_config\":{\"enabled\":true},\"metadata\":{\"a\":1}}");
    dp_schema_unref(schema);
}

/* Four bits a component in memory, halves on disk; where a quantization was asked for, that one.
 * And `memory` says where rows lie, over the older `on_disk`. */
static void
turbo4_is_halves_on_disk_and_codes_of_four_bits(void **state)
{
    dp_schema *schema = through_the_catalog(
        create("{\"vectors\":{\"a\":{\"size\":4,\"distance\":\"Dot\",\"datatype\":\"turbo4\"},"
               "\"b\":{\"size\":4,\"distance\":\"Dot\",\"datatype\":\"turbo4\",\"on_disk\":false,"
               "\"quantization_config\":{\"binary\":{}}},"
               "\"c\":{\"size\":4,\"distance\":\"Dot\",\"memory\":\"cold\",\"on_disk\":false},"
               "\"d\":{\"size\":4,\"distance\":\"Dot\",\"memory\":\"cached\",\"on_disk\":true,"
               "\"hnsw_config\":{\"memory\":\"cold\"}},"
               "\"e\":{\"size\":4,\"distance\":\"Manhattan\",\"datatype\":\"turbo4\"}}}"));
    (void)state;
    const dp_vector_schema *a = dp_schema_peek_vector(schema, 0);
    const dp_vector_schema *b = dp_schema_peek_vector(schema, 1);
    assert_true(a->elem == DP_ELEM_F16 && a->on_disk);
    assert_true(a->code == DP_CODE_ROTATED && a->coding.bits == 4);
    assert_true(b->elem == DP_ELEM_F16 && !b->on_disk);
    assert_true(b->code == DP_CODE_BINARY);
    assert_true(dp_schema_peek_vector(schema, 2)->on_disk);
    assert_false(dp_schema_peek_vector(schema, 3)->on_disk);
    assert_true(dp_schema_peek_vector(schema, 3)->hnsw.on_disk);
    assert_false(dp_schema_peek_vector(schema, 0)->hnsw.on_disk);
    assert_true(dp_schema_peek_vector(schema, 4)->code == DP_CODE_AUTO);
    assert_config(schema, "\"datatype\":\"turbo4\"");
    dp_schema_unref(schema);
}

static void
wrong_schemas_are_refused(void **state)
{
    static const struct {
        const char *text;
        ort_err err;
        const char *words;
    } rows[] = {
        {"{\"vectors\":{\"size\":0,\"distance\":\"Dot\"}}", ORT_EFORMAT, "vectors.size"},
        {"{\"vectors\":{\"size\":65537,\"distance\":\"Dot\"}}", ORT_EVALIDATE,
         "vectors.size: value 65537 invalid, must be from 1 to 65536"},
        {"{\"vectors\":{\"size\":-1,\"distance\":\"Dot\"}}", ORT_EFORMAT, "size"},
        {"{\"vectors\":{\"size\":4.5,\"distance\":\"Dot\"}}", ORT_EFORMAT, "size"},
        {"{\"vectors\":{\"size\":4,\"distance\":\"dot\"}}", ORT_EFORMAT, "unknown variant \"dot\""},
        {"{\"vectors\":{\"size\":4}}", ORT_EFORMAT, "missing field `distance`"},
        {"{\"vectors\":{\"a\":{\"distance\":\"Dot\"}}}", ORT_EFORMAT, "missing field `size`"},
        {"{\"vectors\":{\"a\":4}}", ORT_EFORMAT, "VectorParams"},
        {"{\"vectors\":[]}", ORT_EFORMAT, "vectors"},
        {"[]", ORT_EFORMAT, "CreateCollection"},
        {"{\"vectors\":{\"a\":{\"size\":4,\"distance\":\"Dot\"}},\"sparse_vectors\":{\"a\":{}}}",
         ORT_EINVAL, "more than once"},
        {"{\"vectors\":{},\"sparse_vectors\":{\"\":{}}}", ORT_EVALIDATE, "vector name"},
        {"{\"vectors\":{\"size\":4,\"distance\":\"Dot\",\"hnsw_config\":{\"ef_construct\":3}}}",
         ORT_EVALIDATE, "vectors.hnsw_config.ef_construct: value 3 invalid, must be 4 or larger"},
        {"{\"vectors\":{\"size\":4,\"distance\":\"Dot\",\"datatype\":\"turbo8\"}}", ORT_EFORMAT,
         "unknown variant \"turbo8\""},
        {"{\"vectors\":{\"size\":4,\"distance\":\"Dot\",\"memory\":\"pinned\"}}", ORT_EVALIDATE,
         "not supported for dense vectors"},
        {"{\"vectors\":{},\"payload\":{\"memory\":\"pinned\"}}", ORT_EVALIDATE,
         "payload.memory: `pinned` is not supported for payloads"},
        {"{\"vectors\":{},\"payload\":{\"memory\":\"warm\"}}", ORT_EFORMAT, "unknown variant"},
        {"{\"vectors\":{},\"shard_number\":0}", ORT_EFORMAT, "nonzero"},
        {"{\"vectors\":{},\"quantization_config\":{\"x\":{}}}", ORT_EFORMAT, "quantization_config"},
        {"{\"vectors\":{},\"optimizers_config\":{\"deleted_threshold\":2}}", ORT_EVALIDATE,
         "deleted_threshold"},
        {"{\"vectors\":{},\"payload_compression\":{\"codec\":\"gzip\"}}", ORT_EFORMAT, "codec"},
        {"{\"vectors\":{},\"payload_compression\":{\"level\":1}}", ORT_EFORMAT, "codec"},
        {"{\"vectors\":{},\"payload_compression\":{\"codec\":\"lz4\",\"x\":1}}", ORT_EFORMAT,
         "no members but"},
        {"{\"vectors\":{},\"payload_compression\":{\"codec\":\"lz4\",\"level\":13}}", ORT_EVALIDATE,
         "must be from 1 to 12"},
        {"{\"vectors\":{},\"payload_compression\":{\"codec\":\"zstd\",\"level\":23}}",
         ORT_EVALIDATE, "must be from 1 to 22"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ort_json_doc *doc = json(rows[i].text);
        ort_diag diag = {.text = ""};
        dp_schema *schema;
        const ort_err err = dp_schema_parse(&schema, ort_json_root(doc), &diag);
        if (err != rows[i].err || strstr(diag.text, rows[i].words) == NULL) {
            fail_msg("%s: %d %s", rows[i].text, err, diag.text);
        }
        assert_null(schema);
        ort_json_free(doc);
    }
}

static void
a_patch_merges_and_leaves_the_old_schema_alone(void **state)
{
    dp_schema *old =
        create("{\"vectors\":{\"size\":4,\"distance\":\"Dot\",\"hnsw_config\":{\"m\":8}},"
               "\"hnsw_config\":{\"m\":32},\"metadata\":{\"a\":1,\"b\":2},"
               "\"quantization_config\":{\"scalar\":{\"type\":\"int8\"}}}");
    dp_schema *now;
    ort_json_doc *doc =
        json("{\"vectors\":{\"\":{\"hnsw_config\":{\"ef_construct\":50},\"on_disk\":true}}"
             ",\"hnsw_config\":{\"ef_construct\":64},\"metadata\":{\"a\":null,\"c\":3},"
             "\"quantization_config\":\"Disabled\",\"optimizers_config\":{"
             "\"indexing_threshold\":0},\"params\":{\"replication_factor\":2}}");
    (void)state;
    assert_int_equal(dp_schema_patch(&now, old, ort_json_root(doc), NULL), ORT_OK);
    ort_json_free(doc);
    now = through_the_catalog(now);
    const dp_vector_schema *v = dp_schema_peek_vector(now, 0);
    assert_int_equal(v->hnsw.m, 8);
    assert_int_equal(v->hnsw.ef_construct, 50);
    assert_int_equal(v->hnsw.indexing_threshold_kb, 0);
    assert_config(now, "\"metadata\":{\"b\":2,\"c\":3}");
    assert_config(now, "\"quantization_config\":null");
    assert_config(now, "\"replication_factor\":2");
    assert_config(now, "\"hnsw_config\":{\"m\":32,\"ef_construct\":64");
    assert_config(old, "\"quantization_config\":{\"scalar\"");
    dp_schema_unref(now);

    ort_diag diag;
    doc = json("{\"vectors\":{\"nope\":{}}}");
    assert_int_equal(dp_schema_patch(&now, old, ort_json_root(doc), &diag), ORT_EINVAL);
    assert_string_equal(diag.text, "Not existing vector name error: nope");
    ort_json_free(doc);
    dp_schema_unref(old);
}

static void
payload_compression_is_said_and_changed(void **state)
{
    uint32_t level;
    (void)state;
    dp_schema *schema = create("{\"vectors\":{\"size\":4,\"distance\":\"Dot\"}}");
    assert_null(dp_schema_payload_codec(schema, &level));
    dp_schema_unref(schema);
    schema = through_the_catalog(
        create("{\"vectors\":{\"size\":4,\"distance\":\"Dot\"},\"on_disk_payload\":false,"
               "\"payload_compression\":{\"codec\":\"zstd\",\"level\":19}}"));
    assert_string_equal(dp_schema_payload_codec(schema, &level), "zstd");
    assert_int_equal(level, 19);
    assert_config(schema, "\"payload_compression\":{\"codec\":\"zstd\",\"level\":19}");
    dp_schema *now;
    ort_json_doc *doc = json("{\"params\":{\"payload_compression\":{\"codec\":\"lz4\"}}}");
    assert_int_equal(dp_schema_patch(&now, schema, ort_json_root(doc), NULL), ORT_OK);
    ort_json_free(doc);
    assert_string_equal(dp_schema_payload_codec(now, &level), "lz4");
    assert_int_equal(level, 0);
    assert_config(now, "\"on_disk_payload\":false");
    dp_schema_unref(now);
    dp_schema_unref(schema);
}

static void
damaged_catalog_texts_are_refused(void **state)
{
    static const char *wrong[] = {
        "{}", "3", "{\"version\":1}", "{\"version\":1,\"vectors\":[{}]}",
        "{\"version\":1,\"vectors\":[{\"name\":\"a\",\"params\":{\"size\":0}}]}"};
    dp_schema *schema;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ort_json_doc *doc = json(wrong[i]);
        assert_int_equal(dp_schema_decode(&schema, ort_json_root(doc), NULL), ORT_ECORRUPT);
        ort_json_free(doc);
    }
    ort_json_doc *doc = json("{\"version\":2,\"vectors\":[]}");
    assert_int_equal(dp_schema_decode(&schema, ort_json_root(doc), NULL), ORT_EVERSION);
    ort_json_free(doc);
}

static void
names_follow_one_rule(void **state)
{
    static const char *wrong[] = {"",   "a/b", "a\\b", "a:b", "a\"b", "a*",
                                  "a?", "<",   "a|b",  ".",   ".."};
    char longest[257];
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(dp_collection_name_check(wrong[i], strlen(wrong[i]), NULL), ORT_EVALIDATE);
    }
    memset(longest, 'a', sizeof longest);
    assert_int_equal(dp_collection_name_check(longest, 255, NULL), ORT_OK);
    assert_int_equal(dp_collection_name_check(longest, 256, NULL), ORT_EVALIDATE);
    assert_int_equal(dp_collection_name_check("a\0b", 3, NULL), ORT_EVALIDATE);
    assert_int_equal(dp_collection_name_check("näme %2e", 9, NULL), ORT_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_unnamed_vector),
        cmocka_unit_test(named_dense_and_sparse_vectors),
        cmocka_unit_test(turbo4_is_halves_on_disk_and_codes_of_four_bits),
        cmocka_unit_test(wrong_schemas_are_refused),
        cmocka_unit_test(a_patch_merges_and_leaves_the_old_schema_alone),
        cmocka_unit_test(payload_compression_is_said_and_changed),
        cmocka_unit_test(damaged_catalog_texts_are_refused),
        cmocka_unit_test(names_follow_one_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
