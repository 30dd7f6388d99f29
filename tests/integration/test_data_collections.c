/* Collections over real connections: every member of a create comes back, patches merge, what
 * breaks a rule is told with its place; aliases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data_api_support.h"

#define C "/collections/k"

static int
fresh(void **state)
{
    (void)state;
    free(test_call(node.port, KEY, 200, "DELETE", C, NULL));
    return 0;
}

static void
everything_that_was_set_comes_back(void **state)
{
    (void)state;
    ok("PUT", C,
       "{\"vectors\":{\"size\":4,\"distance\":\"Cosine\",\"on_disk\":true,\"hnsw_config\":{\"m\":8}"
       ","
       "\"quantization_config\":{\"scalar\":{\"type\":\"int8\",\"quantile\":0.99,\"always_ram\":"
       "true}},"
       "\"datatype\":\"float16\",\"memory\":\"cold\"},\"sparse_vectors\":{\"s\":{\"index\":{\"on_"
       "disk\":"
       "false,\"full_scan_threshold\":7,\"datatype\":\"float16\"},\"modifier\":\"idf\"}},"
       "\"shard_number\":2,\"replication_factor\":1,\"write_consistency_factor\":1,\"sharding_"
       "method\":"
       "\"auto\",\"on_disk_payload\":false,\"hnsw_config\":{\"m\":12,\"ef_construct\":64,"
       "\"payload_m\":8,\"on_disk\":true,\"memory\":\"cached\"},\"optimizers_config\":{"
       "\"indexing_threshold\":5000,\"max_optimization_threads\":\"auto\"},\"wal_config\":{"
       "\"wal_capacity_mb\":1},\"quantization_config\":{\"binary\":{\"always_ram\":true,"
       "\"encoding\":"
       "\"two_bits\",\"query_encoding\":\"scalar8bits\"}},\"strict_mode_config\":{\"enabled\":"
       "false,"
       "\"max_query_limit\":100},\"metadata\":{\"x\":1,\"y\":{\"z\":2}},\"unknown\":[1],\"init_"
       "from\":"
       "null}",
       "\"result\":true");
    ok("GET", C, NULL,
       "\"config\":{\"params\":{\"vectors\":{\"size\":4,\"distance\":\"Cosine\",\"hnsw_config\":{"
       "\"m\":8},"
       "\"quantization_config\":{\"scalar\":{\"type\":\"int8\",\"quantile\":0.99,\"always_ram\":"
       "true}},"
       "\"on_disk\":true,\"datatype\":\"float16\",\"memory\":\"cold\"},\"sparse_vectors\":{\"s\":{"
       "\"index\":{\"full_scan_threshold\":7,\"on_disk\":false,\"datatype\":\"float16\"},"
       "\"modifier\":"
       "\"idf\"}},\"shard_number\":2,\"sharding_method\":\"auto\",\"replication_factor\":1,"
       "\"write_consistency_factor\":1,\"on_disk_payload\":false");
    ok("GET", C, NULL,
       "\"hnsw_config\":{\"m\":12,\"ef_construct\":64,\"full_scan_threshold\":10000");
    ok("GET", C, NULL, "\"optimizer_config\":{\"deleted_threshold\":0.2,");
    ok("GET", C, NULL, "\"indexing_threshold\":5000,");
    ok("GET", C, NULL, "\"wal_config\":{\"wal_capacity_mb\":1,\"wal_segments_ahead\":0");
    ok("GET", C, NULL,
       "\"quantization_config\":{\"binary\":{\"always_ram\":true,\"encoding\":\"two_bits\","
       "\"query_encoding\":\"scalar8bits\"}},\"strict_mode_config\":{\"enabled\":false,"
       "\"max_query_limit\":100},\"metadata\":{\"x\":1,\"y\":{\"z\":2}}}");
    ok("GET", C, NULL, "\"payload_schema\":{},\"update_queue\":{\"length\":0}");
    ok("GET", C, NULL,
       "{\"result\":{\"status\":\"green\",\"optimizer_status\":\"ok\",\"indexed_vectors_count\":0,"
       "\"points_count\":0,\"segments_count\":1,");
}

static void
what_was_not_set_is_not_shown(void **state)
{
    (void)state;
    ok("PUT", C, "{}", "true");
    ok("GET", C, NULL,
       "\"params\":{\"vectors\":{},\"shard_number\":1,\"replication_factor\":1,"
       "\"write_consistency_factor\":1,\"on_disk_payload\":true}");
    ok("GET", C, NULL, "\"quantization_config\":null}");
    ok("DELETE", C, NULL, "true");
    /* As LangChain for Python makes it. */
    ok("PUT", C,
       "{\"vectors\":{\"\":{\"size\":4,\"distance\":\"Cosine\"}},\"sparse_vectors\":{\"langchain-"
       "sparse\":"
       "{}}}",
       "true");
    ok("GET", C, NULL,
       "\"params\":{\"vectors\":{\"\":{\"size\":4,\"distance\":\"Cosine\"}},\"sparse_vectors\":{"
       "\"langchain-sparse\":{}}");
}

static void
patches_merge(void **state)
{
    (void)state;
    ok("PUT", C,
       "{\"vectors\":{\"size\":4,\"distance\":\"Dot\",\"hnsw_config\":{\"m\":8},\"quantization_"
       "config\":{"
       "\"scalar\":{\"type\":\"int8\"}}},\"sparse_vectors\":{\"s\":{\"index\":{\"on_disk\":true}}},"
       "\"hnsw_config\":{\"m\":12},\"quantization_config\":{\"product\":{\"compression\":\"x16\"}},"
       "\"metadata\":{\"x\":1,\"y\":2}}",
       "true");
    ok("PATCH", C,
       "{\"vectors\":{\"\":{\"hnsw_config\":{\"ef_construct\":99},\"quantization_config\":"
       "\"Disabled\","
       "\"on_disk\":true}},\"sparse_vectors\":{\"s\":{\"modifier\":\"idf\"}},\"hnsw_config\":{"
       "\"ef_construct\":77},\"optimizers_config\":{\"deleted_threshold\":0.5},\"params\":{"
       "\"replication_factor\":2,\"read_fan_out_factor\":1},\"quantization_config\":\"Disabled\","
       "\"metadata\":{\"x\":null,\"w\":3},\"strict_mode_config\":{\"max_timeout\":5}}",
       "\"result\":true");
    ok("GET", C, NULL,
       "\"vectors\":{\"size\":4,\"distance\":\"Dot\",\"hnsw_config\":{\"m\":8,\"ef_construct\":99},"
       "\"on_disk\":true},\"sparse_vectors\":{\"s\":{\"index\":{\"on_disk\":true},\"modifier\":"
       "\"idf\"}},"
       "\"shard_number\":1,\"replication_factor\":2,\"write_consistency_factor\":1,"
       "\"read_fan_out_factor\":1");
    ok("GET", C, NULL, "\"hnsw_config\":{\"m\":12,\"ef_construct\":77,");
    ok("GET", C, NULL, "\"deleted_threshold\":0.5,");
    ok("GET", C, NULL,
       "\"quantization_config\":null,\"strict_mode_config\":{\"max_timeout\":5},\"metadata\":{"
       "\"y\":2,"
       "\"w\":3}}");
    /* A quantization of another kind takes the place of the old one. */
    ok("PATCH", C, "{\"quantization_config\":{\"scalar\":{\"type\":\"int8\"}}}", "true");
    ok("PATCH", C, "{\"quantization_config\":{\"turbo\":{\"bits\":\"bits2\"}}}", "true");
    ok("GET", C, NULL, "\"quantization_config\":{\"turbo\":{\"bits\":\"bits2\"}}");
    ok("PATCH", C, "{}", "true");
    bad(404, "Not found: Collection `nope` doesn't exist!", "PATCH", "/collections/nope", "{}");
    bad(400, "Wrong input: Not existing vector name error: x", "PATCH", C,
        "{\"vectors\":{\"x\":{}}}");
    bad(400, "Not existing vector name error: ", "PATCH", C, "{\"sparse_vectors\":{\"\":{}}}");
    bad(422, "ef_construct: value 1 invalid, must be 4 or larger", "PATCH", C,
        "{\"hnsw_config\":{\"ef_construct\":1}}");
    ok("GET", C, NULL, "\"hnsw_config\":{\"m\":12,\"ef_construct\":77,");
}

#define WITH(rest) "{\"vectors\":{\"size\":4,\"distance\":\"Dot\"}," rest "}"
#define VECTOR(rest) "{\"vectors\":{\"size\":4,\"distance\":\"Dot\"," rest "}}"
#define QUANTIZED(rest) WITH("\"quantization_config\":" rest)

/* 400 for what serde cannot read, 422 for what breaks a bound. */
static void
creates_that_break_a_rule_are_refused(void **state)
{
    static const struct {
        int status;
        const char *body, *part;
    } bodies[] = {
        {400, "{\"vectors\":{\"size\":4,\"distance\":\"X\"}}", "unknown variant"},
        {400, "{\"vectors\":{\"size\":4}}", "missing field `distance`"},
        {400, "{\"vectors\":{\"size\":\"4\",\"distance\":\"Dot\"}}", "vectors.size"},
        {400, "{\"vectors\":{\"size\":-4,\"distance\":\"Dot\"}}", "vectors.size"},
        {400, "{\"vectors\":{\"size\":0,\"distance\":\"Dot\"}}", "nonzero"},
        {422, "{\"vectors\":{\"size\":65537,\"distance\":\"Dot\"}}", "must be from 1 to 65536"},
        {400, "{\"vectors\":[1]}", "vectors"},
        {400, VECTOR("\"datatype\":\"float64\""), "unknown variant"},
        {400, VECTOR("\"multivector_config\":{\"comparator\":\"x\"}"), "max_sim"},
        {400, VECTOR("\"memory\":\"hot\""), "unknown variant"},
        {422, VECTOR("\"memory\":\"pinned\""), "pinned"},
        {400,
         "{\"vectors\":{\"a\":{\"size\":4,\"distance\":\"Dot\"}},\"sparse_vectors\":{\"a\":{}}}",
         "used more than once"},
        {422, "{\"sparse_vectors\":{\"\":{}}}", "vector name"},
        {400, "{\"sparse_vectors\":{\"s\":{\"modifier\":\"x\"}}}", "unknown variant"},
        {400, "{\"sparse_vectors\":{\"s\":{\"index\":{\"datatype\":\"float64\"}}}}",
         "unknown variant"},
        {400, WITH("\"shard_number\":0"), "nonzero"},
        {400, WITH("\"replication_factor\":0"), "nonzero"},
        {400, WITH("\"sharding_method\":\"weird\""), "unknown variant"},
        {422, WITH("\"hnsw_config\":{\"ef_construct\":3}"), "must be 4 or larger"},
        {400, WITH("\"hnsw_config\":{\"m\":-1}"), "hnsw_config.m"},
        {400, WITH("\"hnsw_config\":{\"memory\":\"hot\"}"), "unknown variant"},
        {422, WITH("\"wal_config\":{\"wal_capacity_mb\":0}"), "must be 1 or larger"},
        {422, WITH("\"optimizers_config\":{\"deleted_threshold\":2}"), "from 0.0 to 1.0"},
        {400, WITH("\"optimizers_config\":{\"max_optimization_threads\":\"x\"}"), "threads"},
        {400, WITH("\"metadata\":[1]"), "metadata"},
        {400, QUANTIZED("{\"scalar\":{}}"), "missing field `type`"},
        {400, QUANTIZED("{\"scalar\":{\"type\":\"int4\"}}"), "unknown variant"},
        {422, QUANTIZED("{\"scalar\":{\"type\":\"int8\",\"quantile\":2}}"), "from 0.5 to 1.0"},
        {400, QUANTIZED("{\"product\":{\"compression\":\"x5\"}}"), "unknown variant"},
        {400, QUANTIZED("{\"binary\":{\"encoding\":\"three_bits\"}}"), "unknown variant"},
        {400, QUANTIZED("{\"binary\":{\"always_ram\":1}}"), "boolean"},
        {400, QUANTIZED("{\"turbo\":{\"bits\":\"bits9\"}}"), "unknown variant"},
        {400, QUANTIZED("{\"scalar\":{\"type\":\"int8\"},\"binary\":{}}"), "one of"},
        {400, QUANTIZED("7"), "one of"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        bad(bodies[i].status, bodies[i].part, "PUT", C, bodies[i].body);
    }
    ok("GET", C "/exists", NULL, "{\"exists\":false}");
    bad(422, "collection name cannot contain", "PUT", "/collections/a%3Ab", "{}");
}

static void
aliases_stand_for_their_collections(void **state)
{
    (void)state;
    ok("PUT", C, "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"}}", "true");
    ok("POST", "/collections/aliases",
       "{\"actions\":[{\"create_alias\":{\"collection_name\":\"k\",\"alias_name\":\"one\"}},"
       "{\"rename_alias\":{\"old_alias_name\":\"one\",\"new_alias_name\":\"two\"}}]}",
       "\"result\":true");
    ok("GET", "/aliases", NULL,
       "{\"result\":{\"aliases\":[{\"alias_name\":\"two\",\"collection_name\":\"k\"}]}");
    ok("GET", C "/aliases", NULL, "{\"alias_name\":\"two\",\"collection_name\":\"k\"}");
    ok("GET", "/collections/two/exists", NULL, "{\"exists\":true}");
    ok("PUT", "/collections/two/points?wait=true", "{\"points\":[{\"id\":1,\"vector\":[1,0]}]}",
       "completed");
    ok("POST", "/collections/two/points/query", "{\"query\":[1,0]}", "\"id\":1");
    bad(400, "Alias with the same name already exists", "PUT", "/collections/two", "{}");
    bad(409, "Collection `k` already exists!", "POST", "/collections/aliases",
        "{\"actions\":[{\"create_alias\":{\"collection_name\":\"k\",\"alias_name\":\"k\"}}]}");
    /* All of it or nothing. */
    bad(404, "Not found: Collection `nope` doesn't exist!", "POST", "/collections/aliases",
        "{\"actions\":[{\"delete_alias\":{\"alias_name\":\"two\"}},{\"create_alias\":{"
        "\"collection_name\":\"nope\",\"alias_name\":\"b\"}}]}");
    ok("GET", "/aliases", NULL, "\"alias_name\":\"two\"");
    bad(404, "Alias nope", "POST", "/collections/aliases",
        "{\"actions\":[{\"rename_alias\":{\"old_alias_name\":\"nope\",\"new_alias_name\":\"b\"}}]"
        "}");
    bad(400, "missing field `actions`", "POST", "/collections/aliases", "{}");
    ok("DELETE", C, NULL, "true");
    ok("GET", "/aliases", NULL, "{\"aliases\":[]}");
    ok("GET", "/collections/two/exists", NULL, "{\"exists\":false}");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(everything_that_was_set_comes_back, fresh),
        cmocka_unit_test_setup(what_was_not_set_is_not_shown, fresh),
        cmocka_unit_test_setup(patches_merge, fresh),
        cmocka_unit_test_setup(creates_that_break_a_rule_are_refused, fresh),
        cmocka_unit_test_setup(aliases_stand_for_their_collections, fresh),
    };
    return cmocka_run_group_tests(tests, api_start, api_stop);
}
