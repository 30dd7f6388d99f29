/* Memory runs out at the n-th allocation of every reader of outside bytes, for n = 1, 2, 3, ...
 * until all goes well: each time the reader says that memory ran out, never that the bytes are bad
 * (a sound file would be thrown away, a sound request refused for ever), gives nothing, leaks
 * nothing (the leak sanitizer looks at the end), and reads the same bytes well right afterwards.
 *
 * Only allocations of our own code fail. CRoaring 0.2.66 does not check those of its containers
 * (see docs/adr/0120-*), so within it they are left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "collection/op_internal.h"
#include "collection/snapshot.h"
#include "filter/payload_index.h"
#include "index/hnsw_values.h"
#include "routing/table.h"
#include "support/fail_alloc.h"
#include "support/scratch.h"
#include "tenant/tenant.h"

static void
must(ort_err err, const ort_diag *diag)
{
    if (err != ORT_OK) {
        fail_msg("error %d: %s", (int)err, diag->text);
    }
}

/* Reads, checks that a failure gave nothing, and frees what came. */
typedef ort_err (*read_fn)(void *ctx, ort_diag *diag);

/* dispensable  so many of the allocations are such that the reader does without, and succeeds */

static void
fail_but(const char *what, read_fn read, void *ctx, unsigned dispensable)
{
    uint64_t n = 0;
    unsigned wrong = 0;
    bool struck = true;
    while (struck) {
        ort_diag diag = {""};
        fail_alloc_arm(++n);
        const ort_err err = read(ctx, &diag);
        struck = fail_alloc_disarm();
        if (struck && err == ORT_OK && dispensable > 0) {
            dispensable--;
        } else if (err != (struck ? ORT_ENOMEM : ORT_OK)) {
            print_error("%s, allocation %llu: error %d: %s\n", what, (unsigned long long)n,
                        (int)err, diag.text);
            wrong++;
        }
        must(read(ctx, &diag), &diag);
    }
    print_message("%s: %llu allocations\n", what, (unsigned long long)(n - 1));
    assert_int_equal(wrong, 0);
    assert_int_equal(dispensable, 0);
    assert_true(n > 1);
}

static void
fail_each(const char *what, read_fn read, void *ctx)
{
    fail_but(what, read, ctx, 0);
}

static ort_json_doc *
parse(const char *text)
{
    ort_json_doc *doc;
    ort_diag diag = {""};
    must(ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, &diag), &diag);
    return doc;
}

/* --- JSON ---------------------------------------------------------------------------------------
 */

/* More strings with escapes than the first growth holds, and more values. */
static const char json_text[] =
    "{\"a\":[1,2.5,-3e2,4],\"b\":[[1,2],[3,4]],\"c\":{\"\\u0064\":\"e\\n\"},\"s\":[\"\\t1\","
    "\"\\t2\","
    "\"\\t3\",\"\\t4\",\"\\t5\",\"\\t6\",\"\\t7\",\"\\t8\",\"\\t9\",\"plain\",null,true]}";

/* Once a text is parsed, nothing of it is lost for want of memory. */
static void
read_strings(ort_json v)
{
    size_t len;
    assert_true(ort_json_type_of(v) != ORT_JSON_STRING || ort_json_str(v, &len) != NULL);
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
        read_strings(it.value);
    }
}

static ort_err
read_json(void *ctx, ort_diag *diag)
{
    const ort_json_limits *limits = ctx;
    ort_json_doc *doc = (void *)&doc;
    ort_err err = ort_json_parse(&doc, json_text, sizeof json_text - 1, *limits, diag);
    assert_true((doc == NULL) == (err != ORT_OK));
    if (err == ORT_OK) {
        read_strings(ort_json_root(doc));
        assert_true(
            ort_json_str_is(ort_json_get(ort_json_get(ort_json_root(doc), "c"), "d"), "e\n"));
        ort_json_free(doc);
    }
    return err;
}

static void
json_without_memory_is_refused(void **state)
{
    (void)state;
    ort_json_limits plain = {0}, floats = {.floats = true};
    fail_each("json", read_json, &plain);
    /* Without memory for floats, arrays are read from the text when they are asked for. */
    fail_but("json with floats", read_json, &floats, 1);
}

/* --- filters ------------------------------------------------------------------------------------
 */

/* Every kind of condition; keys and values with escapes, which take memory when they are looked at.
 */
static const char filter_text[] =
    "{\"must\":[{\"key\":\"a.b[].c\",\"match\":{\"value\":\"x\\n\"}},{\"k\\u0065y\":\"n\","
    "\"ran\\u0067"
    "e\":{\"gte\":1,\"lt\":9}},{\"key\":\"w\",\"match\":{\"any\":[\"a\",\"\\tb\",\"c\"]}},{\"key\":"
    "\"i\",\"match\":{\"except\":[1,2,3]}},{\"key\":\"t\",\"match\":{\"te\\u0078t\":\"red "
    "\\u0066ish\""
    "}},{\"key\":\"t\",\"match\":{\"phrase\":\"green sea\"}},{\"has_id\":[1,2,\"550e8400-e29b-41d4-"
    "a716-446655440000\"]},{\"has_vector\":\"\\u0076\"},{\"key\":\"d\",\"range\":{\"gt\":\"2020-01-"
    "01\\u005400:00:00Z\"}}],\"should\":[{\"nested\":{\"key\":\"o\",\"filter\":{\"must_not\":[{"
    "\"is_null\":{\"key\":\"z\"}}]}}},{\"is_empty\":{\"key\":\"y\\u0079\"}}],\"must_\\u006eot\":{"
    "\"key\":\"g\",\"geo_polygon\":{\"exterior\":{\"points\":[{\"lon\":0,\"lat\":0},{\"lon\":0,"
    "\"lat\":9},{\"lon\":9,\"lat\":9},{\"lon\":0,\"lat\":0}]},\"interiors\":[{\"points\":[{\"lon\":"
    "1,"
    "\"lat\":2},{\"lon\":1,\"lat\":3},{\"lon\":2,\"lat\":3},{\"lon\":1,\"lat\":2}]}]}},\"min_"
    "should\":"
    "{\"min_count\":1,\"conditions\":[{\"key\":\"q\",\"values_count\":{\"gt\":1}}]}}";

static ort_err
read_filter(void *ctx, ort_diag *diag)
{
    dp_filter *filter = (void *)&filter;
    dp_filter_texts *texts = (void *)&texts;
    ort_err err = dp_filter_parse_text(&filter, filter_text, sizeof filter_text - 1, diag);
    assert_true((filter == NULL) == (err != ORT_OK));
    if (err == ORT_OK) {
        err = dp_filter_bind(filter, ctx, &texts, diag);
        assert_true((texts == NULL) == (err != ORT_OK));
        dp_filter_texts_free(texts);
    }
    dp_filter_free(filter);
    return err;
}

static ort_err
read_filter_value(void *ctx, ort_diag *diag)
{
    (void)ctx;
    ort_json_doc *doc;
    dp_filter *filter = NULL;
    ort_err err =
        ort_json_parse(&doc, filter_text, sizeof filter_text - 1, (ort_json_limits){0}, diag);
    if (err == ORT_OK) {
        err = dp_filter_parse(&filter, ort_json_root(doc), "filter", diag);
        assert_true((filter == NULL) == (err != ORT_OK));
    }
    dp_filter_free(filter);
    ort_json_free(doc);
    return err;
}

static dp_fields *
make_fields(const char *text)
{
    dp_fields *fields;
    ort_diag diag = {""};
    ort_json_doc *doc = parse(text);
    must(dp_fields_parse(&fields, ort_json_root(doc), &diag), &diag);
    ort_json_free(doc);
    return fields;
}

static void
filters_without_memory_are_refused(void **state)
{
    (void)state;
    dp_fields *fields = make_fields("{\"t\":{\"data_type\":\"text\"}}");
    fail_each("filter text", read_filter, fields);
    fail_each("filter of a request", read_filter_value, NULL);
    dp_fields_unref(fields);
}

/* --- operations and schemas ---------------------------------------------------------------------
 */

static const char schema_text[] =
    "{\"vectors\":{\"a\":{\"size\":4,\"distance\":\"Cosine\",\"hnsw_config\":{\"m\":8}},"
    "\"m\\u0031\":"
    "{\"size\":2,\"distance\":\"Dot\",\"multivector_config\":{\"comparator\":\"max_sim\"}}},"
    "\"sparse_vectors\":{\"s\":{\"modifier\":\"idf\"}},\"metadata\":{\"k\":\"v\\n\"}}";
static const char batch_text[] =
    "{\"operations\":[{\"ups\\u0065rt\":{\"points\":[{\"id\":1,\"v\\u0065ctor\":{\"a\":[1,2,3,4],"
    "\"\\u006d1\":[[1,2],[3,4]],\"s\":{\"indices\":[1,7],\"values\":[1,2]}},\"payload\":{\"n\":"
    "\"\\n\""
    "}},{\"id\":2,\"vector\":{\"a\":[4,3,2,1]},\"payload\":{\"\\u0074\":\"t\"}}]}},{\"delete\":{"
    "\"filter\":{\"must\":[{\"key\":\"n\",\"match\":{\"value\":1}}]}}},{\"set_payload\":{"
    "\"payload\":"
    "{\"x\":{\"y\":1}},\"points\":[1],\"key\":\"a.b\"}},{\"delete_payload\":{\"keys\":[\"a\","
    "\"\\u0062"
    "\"],\"points\":[1,2]}},{\"update_vectors\":{\"points\":[{\"id\":1,\"vector\":{\"a\":[1,1,1,1]}"
    "}]}"
    "},{\"delete_vectors\":{\"points\":[1],\"vector\":[\"s\"]}},{\"clear_payload\":{\"points\":[2]}"
    "}]}";

static ort_err
read_batch(void *ctx, ort_diag *diag)
{
    ort_json_doc *doc;
    dp_op **ops = NULL;
    size_t count = 0;
    ort_err err = ort_json_parse(&doc, batch_text, sizeof batch_text - 1,
                                 (ort_json_limits){.floats = true}, diag);
    if (err == ORT_OK) {
        err = dp_op_parse_batch(&ops, &count, ctx, ort_json_root(doc), diag);
        assert_true((ops == NULL) == (err != ORT_OK));
        ort_json_free(doc);
    }
    ort_buf text = {0};
    for (size_t i = 0; i < count && ops != NULL; i++) {
        if (err == ORT_OK) {
            err = dp_op_describe(ops[i]->record.data, ops[i]->record.len, &text);
            err = err == ORT_OK ? ort_buf_check(&text) : err;
        }
        dp_op_free(ops[i]);
    }
    ort_buf_fini(&text);
    free(ops);
    return err;
}

/* Opening a record and walking it takes no memory at all. */
static void
walk_record(dp_schema *schema)
{
    ort_json_doc *doc = parse("{\"points\":[{\"id\":1,\"vector\":{\"a\":[1,2,3,4]}}]}");
    dp_op *op;
    dp_op_record record;
    dp_op_point point;
    dp_op_vector vector;
    ort_diag diag = {""};
    must(dp_op_parse(&op, DP_OP_UPSERT, schema, ort_json_root(doc), &diag), &diag);
    fail_alloc_arm(1);
    const ort_err err = dp_op__open(&record, op->record.data, op->record.len, &diag);
    ort_cursor c = record.points, at = {0};
    uint32_t left = record.point_count, vectors = 0;
    const bool got = dp_op__next_point(&record, &c, &left, &point);
    at = point.vectors;
    vectors = point.vector_count;
    const bool has = got && dp_op__next_vector(&record, &at, &vectors, &vector);
    const bool struck = fail_alloc_disarm();
    must(err, &diag);
    assert_true(has && !struck);
    dp_op_free(op);
    ort_json_free(doc);
}

static ort_err
read_schema(void *ctx, ort_diag *diag)
{
    (void)ctx;
    ort_json_doc *doc, *again = NULL;
    dp_schema *schema = NULL, *decoded = NULL;
    ort_buf text = {0};
    ort_jw w = {.buf = &text};
    ort_err err =
        ort_json_parse(&doc, schema_text, sizeof schema_text - 1, (ort_json_limits){0}, diag);
    if (err == ORT_OK) {
        err = dp_schema_parse(&schema, ort_json_root(doc), diag);
        assert_true((schema == NULL) == (err != ORT_OK));
    }
    if (err == ORT_OK) {
        dp_schema_encode(schema, &w);
        err = ort_buf_check(&text);
    }
    if (err == ORT_OK) {
        err = ort_json_parse(&again, text.data, text.len, (ort_json_limits){0}, diag);
    }
    if (err == ORT_OK) {
        err = dp_schema_decode(&decoded, ort_json_root(again), diag);
        assert_true((decoded == NULL) == (err != ORT_OK));
    }
    dp_schema_unref(decoded);
    dp_schema_unref(schema);
    ort_json_free(again);
    ort_json_free(doc);
    ort_buf_fini(&text);
    return err;
}

static dp_schema *
make_schema(void)
{
    dp_schema *schema;
    ort_diag diag = {""};
    ort_json_doc *doc = parse(schema_text);
    must(dp_schema_parse(&schema, ort_json_root(doc), &diag), &diag);
    ort_json_free(doc);
    return schema;
}

static void
operations_without_memory_are_refused(void **state)
{
    (void)state;
    dp_schema *schema = make_schema();
    fail_each("schema", read_schema, NULL);
    fail_but("operations of a batch", read_batch, schema, 1); /* floats, as above */
    walk_record(schema);
    dp_schema_unref(schema);
}

/* --- graphs -------------------------------------------------------------------------------------
 */

#define DIM 8u
#define ROWS 1500u

typedef struct {
    scratch place;
    dp_rows rows;
    dp_chunk directory[1];
    float vectors[2048 * DIM];
    dp_hnsw_config config;
} graph_world;

static ort_err
load_graph(void *ctx, ort_diag *diag)
{
    graph_world *w = ctx;
    dp_hnsw_stamp stamp = {.owner = {1, 2}, .slot_end = ROWS};
    dp_hnsw *graph = (void *)&graph;
    const ort_err err =
        dp_hnsw_load(&graph, &w->rows, &w->config, w->place.fd, "graph", &stamp, diag);
    assert_true((graph == NULL) == (err != ORT_OK));
    dp_hnsw_free(graph);
    return err;
}

/* A graph whose verification failed can be freed, and nothing else. */
static ort_err
open_and_verify_graph(void *ctx, ort_diag *diag)
{
    graph_world *w = ctx;
    dp_hnsw_stamp stamp = {.owner = {1, 2}, .slot_end = ROWS};
    dp_hnsw *graph = (void *)&graph;
    ort_err err = dp_hnsw_open(&graph, &w->rows, &w->config, w->place.fd, "graph", &stamp, diag);
    assert_true((graph == NULL) == (err != ORT_OK));
    if (err == ORT_OK) {
        err = dp_hnsw_verify(graph, NULL, diag);
    }
    if (err == ORT_OK) {
        err = dp_hnsw_settle(graph, NULL);
    }
    dp_hnsw_free(graph);
    return err;
}

/* Links by value: a value that is linked, one that is not, and points of both. */
static void
link_values(dp_hnsw *graph)
{
    static const uint64_t values[] = {1, 2};
    ort_diag diag = {""};
    must(dp_hnsw_field_add(graph, 7, 4, &diag), &diag);
    for (uint32_t slot = 0; slot < ROWS; slot++) {
        must(dp_hnsw_value_add(graph, 7, slot, &values[slot % 4 == 3], slot % 100 == 2 ? 2 : 1),
             &diag);
    }
    must(dp_hnsw_field_advance(graph, 7, ROWS), &diag);
}

static void
fail_graph(graph_world *w, const char *what, dp_code code)
{
    char name[64];
    ort_diag diag = {""};
    dp_hnsw *graph;
    const dp_hnsw_stamp stamp = {.owner = {1, 2}};
    w->config = (dp_hnsw_config){.metric = DP_METRIC_EUCLID, .m = 4, .code = code};
    must(dp_hnsw_new(&graph, &w->rows, &w->config, &diag), &diag);
    must(dp_hnsw_build(graph, 0, ROWS, NULL, 1, NULL, &diag), &diag);
    if (dp_hnsw_wants_tune(graph)) {
        must(dp_hnsw_tune(graph, NULL, &diag), &diag);
    }
    link_values(graph);
    must(dp_hnsw_save(graph, w->place.fd, "graph", &stamp, &diag), &diag);
    dp_hnsw_free(graph);
    w->config.links_on_disk = true;
    snprintf(name, sizeof name, "graph, %s, links on disk", what);
    fail_each(name, load_graph, w);
    w->config.links_on_disk = false;
    snprintf(name, sizeof name, "graph, %s, settled", what);
    fail_each(name, open_and_verify_graph, w);
}

static void
graphs_without_memory_are_not_opened(void **state)
{
    (void)state;
    graph_world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->place = scratch_make();
    w->rows = (dp_rows){.chunk_bits = 11, .stride_bytes = DIM * 4, .dim = DIM, .elem = DP_ELEM_F32};
    atomic_store(&w->rows.chunks, w->directory);
    for (size_t i = 0; i < sizeof w->vectors / sizeof w->vectors[0]; i++) {
        w->vectors[i] = (float)((uint32_t)i * 2654435761U % 1000) / 100.0F;
    }
    dp_rows_publish(&w->rows, 0, w->vectors);
    fail_graph(w, "rows", DP_CODE_NONE);
    fail_graph(w, "int8", DP_CODE_INT8);
    fail_graph(w, "products", DP_CODE_PRODUCT);
    scratch_drop(&w->place);
    free(w);
}

/* --- payload indexes ----------------------------------------------------------------------------
 */

typedef struct {
    scratch place;
    dp_fields *fields;
    size_t field;
    dp_payload_index_stamp stamp;
} payload_world;

static ort_err
load_payload_index(void *ctx, ort_diag *diag)
{
    payload_world *w = ctx;
    dp_payload_index *index = (void *)&index;
    const ort_err err =
        dp_payload_index_load(&index, w->fields, w->field, w->place.fd, &w->stamp, diag);
    assert_true((index == NULL) == (err != ORT_OK));
    dp_payload_index_free(index);
    return err;
}

static void
payload_indexes_without_memory_are_not_loaded(void **state)
{
    (void)state;
    static const char fields_text[] =
        "{\"k\":{\"data_type\":\"keyword\"},\"i\":{\"data_type\":\"integer\"},\"f\":{\"data_type\":"
        "\"float\"},\"b\":{\"data_type\":\"bool\"},\"g\":{\"data_type\":\"geo\"},\"d\":{\"data_"
        "type\":"
        "\"datetime\"},\"u\":{\"data_type\":\"uuid\"},\"t\":{\"data_type\":\"text\"}}";
    ort_diag diag = {""};
    payload_world w = {
        .place = scratch_make(),
        .fields = make_fields(fields_text),
        .stamp = {.tenant = {1}, .collection = {2}, .generation = 3, .slot_end = 400}};
    for (w.field = 0; w.field < 8; w.field++) {
        dp_payload_index *index;
        must(dp_payload_index_new(&index, w.fields, w.field), &diag);
        for (uint32_t slot = 0; slot < 400; slot++) {
            char text[512];
            snprintf(text, sizeof text,
                     "{\"k\":[\"v%u\",\"w\"],\"i\":[%u,7],\"f\":%u.5,\"b\":%s,\"g\":{\"lon\":%u,"
                     "\"lat\":%u},\"d\":\"2020-01-01T00:00:%02uZ\",\"u\":\"550e8400-e29b-41d4-a716-"
                     "44665544%04u\",\"t\":\"red fish %u\"}",
                     slot % 37, slot % 41, slot, slot % 2 == 0 ? "true" : "false", slot % 90,
                     slot % 80, slot % 60, slot, slot % 23);
            ort_json_doc *doc = parse(text);
            must(dp_payload_index_add(index, slot, ort_json_root(doc)), &diag);
            ort_json_free(doc);
        }
        must(dp_payload_index_save(index, w.place.fd, &w.stamp, &diag), &diag);
        dp_payload_index_free(index);
        fail_each(dp_fields_peek(w.fields, w.field)->name, load_payload_index, &w);
    }
    dp_fields_unref(w.fields);
    scratch_drop(&w.place);
}

/* --- catalogs, snapshots, collections -----------------------------------------------------------
 */

#define TENANT ((ort_tenant_id){0xabc})
#define RESTORED ((ort_collection_id){0xdef})

typedef struct {
    scratch place;
    int tenant_dir, snapshot, base; /* base: a collection's directory with a log to replay */
    dp_quota *quota;
    dp_schema *schema;
} tenant_world;

static void
apply(dp_collection *c, dp_op_kind kind, const char *text)
{
    ort_diag diag = {""};
    dp_op *op;
    dp_op_result result;
    ort_json_doc *doc = parse(text);
    dp_schema *schema = dp_collection_schema(c);
    must(dp_op_parse(&op, kind, schema, ort_json_root(doc), &diag), &diag);
    must(dp_collection_apply(c, op, 0, &result, &diag), &diag);
    dp_op_free(op);
    dp_schema_unref(schema);
    ort_json_free(doc);
}

static void
fill(dp_collection *c)
{
    for (int i = 0; i < 60; i++) {
        char text[512];
        snprintf(
            text, sizeof text,
            "{\"points\":[{\"id\":%d,\"vector\":{\"a\":[%d,1,2,3],\"m1\":[[1,2],[3,%d]],\"s\":{"
            "\"indices\":[1,%d],\"values\":[1,2]}},\"payload\":{\"n\":%d,\"t\":\"fish\"}}]}",
            i, i, i, i + 2, i);
        apply(c, DP_OP_UPSERT, text);
    }
    apply(c, DP_OP_SET_PAYLOAD,
          "{\"payload\":{\"y\":1},\"filter\":{\"must\":[{\"key\":\"n\",\"range\":{\"lt\":9}}]}}");
    apply(c, DP_OP_DELETE, "{\"points\":[3,4]}");
}

static void
write_snapshot(tenant_world *w, dp_collection *c)
{
    static const char *const regions[] = {"eu-central", "eu-west"};
    static const char *const aliases[] = {"alias", "another"};
    const dp_snapshot_about about = {.kind = DP_SNAPSHOT_TENANT,
                                     .tenant = TENANT,
                                     .created_ms = 1700000000000,
                                     .regions = regions,
                                     .region_count = 2};
    const dp_snapshot_bounds bounds = {0};
    dp_snapshot_writer *writer;
    dp_snapshot_totals totals;
    ort_diag diag = {""};
    w->snapshot = openat(w->place.fd, "snapshot", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(w->snapshot >= 0);
    must(dp_snapshot_writer_new(&writer, w->snapshot, &about, &bounds, &diag), &diag);
    must(dp_snapshot_put(writer, c, "docs", aliases, 2, &diag), &diag);
    must(dp_snapshot_finish(writer, &totals, &diag), &diag);
    dp_snapshot_writer_free(writer);
}

/* A tenant with a collection, aliases, a declared field and a snapshot. */
static tenant_world
make_tenant(void)
{
    tenant_world w = {.place = scratch_make()};
    dp_tenants *all;
    dp_tenant *t;
    dp_collection *c;
    ort_diag diag = {""};
    char id[ORT_ID_TEXT_BYTES], path[64];
    const dp_tenants_config config = {.idle_close_ms = 0};
    w.schema = make_schema();
    must(dp_tenants_open(&all, w.place.fd, &config, &diag), &diag);
    must(dp_tenants_get(all, TENANT, &t, &diag), &diag);
    ort_json_doc *aliases = parse(
        "{\"actions\":[{\"create_alias\":{\"collection_name\":\"docs\",\"alias_name\":\"al\"}}]}");
    ort_json_doc *field = parse("\"keyword\"");
    must(dp_tenant_create_collection(t, "docs", 4, w.schema, &diag), &diag);
    must(dp_tenant_create_collection(t, "more", 4, w.schema, &diag), &diag);
    must(dp_tenant_change_aliases(t, ort_json_root(aliases), &diag), &diag);
    must(dp_tenant_set_field(t, "docs", 4, "t", 1, ort_json_root(field), &diag), &diag);
    must(dp_tenant_use(t, "docs", 4, &c, &diag), &diag);
    fill(c);
    write_snapshot(&w, c);
    dp_tenant_release(t, c);
    ort_json_free(aliases);
    ort_json_free(field);
    dp_tenant_unref(t);
    dp_tenants_close(all);
    ort_id_format(TENANT.v, id);
    snprintf(path, sizeof path, "tenants/%s", id);
    w.tenant_dir = openat(w.place.fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(w.tenant_dir >= 0);
    must(dp_quota_new(&w.quota, NULL, "tenant"), &diag);
    return w;
}

static void
drop_tenant(tenant_world *w)
{
    dp_quota_free(w->quota);
    dp_schema_unref(w->schema);
    close(w->snapshot);
    close(w->tenant_dir);
    scratch_drop(&w->place);
}

static ort_err
count_entry(void *ctx, const dp_catalog_entry *entry, ort_diag *diag)
{
    (void)diag;
    *(size_t *)ctx += entry->schema != NULL;
    return ORT_OK;
}

static ort_err
read_catalog(void *ctx, ort_diag *diag)
{
    tenant_world *w = ctx;
    size_t count = 0;
    const ort_err err =
        dp_catalog_read(w->tenant_dir, "catalog.json", TENANT, count_entry, &count, diag);
    assert_int_equal(count, err == ORT_OK ? 2 : 0);
    return err;
}

static int
fresh_directory(tenant_world *w)
{
    ort_diag diag = {""};
    must(ort_tree_remove(w->place.fd, "fresh", &diag), &diag);
    assert_int_equal(mkdirat(w->place.fd, "fresh", 0700), 0);
    const int dir = openat(w->place.fd, "fresh", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir >= 0);
    return dir;
}

static ort_err
read_snapshot(void *ctx, ort_diag *diag)
{
    tenant_world *w = ctx;
    const dp_snapshot_bounds bounds = {0};
    dp_snapshot_reader *r = (void *)&r;
    dp_snapshot_item item;
    bool got = true;
    ort_err err = dp_snapshot_reader_open(&r, w->snapshot, &bounds, diag);
    assert_true((r == NULL) == (err != ORT_OK));
    while (err == ORT_OK && got) {
        err = dp_snapshot_next(r, &item, &got, diag);
        if (err == ORT_OK && got) {
            const int dir = fresh_directory(w);
            err = dp_snapshot_fill(r, dir, TENANT, RESTORED, diag);
            close(dir);
        }
    }
    dp_snapshot_reader_close(r);
    return err;
}

static ort_err
open_collection(void *ctx, ort_diag *diag)
{
    tenant_world *w = ctx;
    const dp_collection_config config = {
        .tenant = TENANT, .id = {7}, .name = "c", .schema = w->schema, .quota = w->quota};
    const dp_collection_env env = {.workers = NULL};
    dp_collection *c = (void *)&c;
    const ort_err err = dp_collection_open(&c, w->base, -1, &config, &env, diag);
    (void)fail_alloc_disarm(); /* reading ends here */
    assert_true((c == NULL) == (err != ORT_OK));
    if (err == ORT_OK) {
        dp_collection_info info;
        dp_collection_get_info(c, &info);
        assert_int_equal(info.points, 58);
        dp_collection_close(c);
    }
    return err;
}

/* A log that is replayed at every open: a close writes no checkpoint where there are no workers. */
static void
make_log(tenant_world *w)
{
    const dp_collection_config config = {
        .tenant = TENANT, .id = {7}, .name = "c", .schema = w->schema, .quota = w->quota};
    const dp_collection_env env = {.workers = NULL};
    dp_collection *c;
    ort_diag diag = {""};
    assert_int_equal(mkdirat(w->place.fd, "base", 0700), 0);
    w->base = openat(w->place.fd, "base", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(dp_collection_open(&c, w->base, -1, &config, &env, &diag), &diag);
    fill(c);
    dp_collection_close(c);
}

static void
tenants_files_without_memory_are_refused(void **state)
{
    (void)state;
    tenant_world w = make_tenant();
    fail_each("catalog", read_catalog, &w);
    /* A checkpoint that cannot plan merges of segments, of which there are none here, does without.
     */
    fail_but("snapshot", read_snapshot, &w, 3);
    make_log(&w);
    fail_each("log of a collection", open_collection, &w);
    close(w.base);
    drop_tenant(&w);
}

/* --- routing tables -----------------------------------------------------------------------------
 */

typedef struct {
    ort_sign_key signer;
    ort_buf envelope;
} table_world;

static ort_err
read_envelope(void *ctx, ort_diag *diag)
{
    table_world *w = ctx;
    ort_table_head head;
    ort_buf body = {0};
    ort_table *plain = NULL;
    const dp_table *table = NULL;
    ort_err err =
        ort_envelope_open(w->envelope.data, w->envelope.len, &w->signer.public, &head, diag);
    if (err == ORT_OK) {
        err = ort_envelope_body(w->envelope.data, w->envelope.len, &body, diag);
    }
    if (err == ORT_OK) {
        err = ort_table_apply(&plain, NULL, body.data, body.len, NULL, diag);
        assert_true((plain == NULL) == (err != ORT_OK));
    }
    if (err == ORT_OK) {
        err = dp_table_from_body(&table, head.node, head.at, 0, body.data, body.len, diag);
        assert_true((table == NULL) == (err != ORT_OK));
    }
    dp_table_release(table);
    ort_table_unref(plain);
    ort_buf_fini(&body);
    return err;
}

static void
routing_tables_without_memory_are_refused(void **state)
{
    (void)state;
    static const char body[] =
        "{\"tenants\":{\"0000000000000001\":{\"name\":\"a\",\"state\":\"active\",\"epoch\":1,"
        "\"regions\":[\"eu-central\",\"eu-west\"],\"limits\":{\"max_vectors\":9},\"keys\":{%s}}},"
        "\"directory\":{\"0000000000000001\":{\"home\":\"0000000000000002\",\"regions\":[\"eu-"
        "central\""
        "]}},\"nodes\":{\"0000000000000002\":{\"region\":\"eu-central\",\"zone\":\"a\","
        "\"endpoint\":"
        "\"http://x\",\"forward\":\"\"}}}";
    char key[512], hash_text[ORT_HASH_TEXT_BYTES], id_text[ORT_TOKEN_ID_TEXT_BYTES];
    unsigned char pepper[ORT_PEPPER_BYTES] = {1};
    table_world w = {.envelope = {0}};
    ort_token token;
    ort_hash hash;
    ort_table *table;
    ort_buf text = {0}, written = {0};
    ort_diag diag = {""};
    ort_sign_key_new(&w.signer);
    ort_token_make(&token, ORT_TOKEN_TEST, (ort_tenant_id){1}, NULL);
    ort_token_hash(&token, pepper, &hash);
    ort_hash_format(&hash, hash_text);
    ort_key_id_format(token.id, id_text);
    snprintf(key, sizeof key,
             "\"%s\":{\"hash\":\"%s\",\"scopes\":[\"data:read\"],\"collections\":[\"d*\",\"e\"],"
             "\"expires_at_ms\":null,\"max_requests_per_minute\":null}",
             id_text, hash_text);
    ort_buf_printf(&text, body, key);
    must(ort_table_apply(&table, NULL, text.data, text.len, NULL, &diag), &diag);
    must(ort_table_write(table, &written), &diag);
    ort_table_head head = {.hub_id = 1, .node = {2}, .at = {.generation = 1, .version = 1}};
    ort_table_hash(table, &head.at.hash);
    must(ort_envelope_seal(&head, written.data, written.len, &w.signer, &w.envelope, &diag), &diag);
    fail_each("envelope of a routing table", read_envelope, &w);
    ort_table_unref(table);
    ort_buf_fini(&text);
    ort_buf_fini(&written);
    ort_buf_fini(&w.envelope);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_without_memory_is_refused),
        cmocka_unit_test(filters_without_memory_are_refused),
        cmocka_unit_test(operations_without_memory_are_refused),
        cmocka_unit_test(graphs_without_memory_are_not_opened),
        cmocka_unit_test(payload_indexes_without_memory_are_not_loaded),
        cmocka_unit_test(tenants_files_without_memory_are_refused),
        cmocka_unit_test(routing_tables_without_memory_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
