/* Strict mode over HTTP: each limit refuses what is over it, in words a client can act on, and lets
 * pass what is not; switched off, or never on, nothing is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/test_node.h"

static test_node node;
static test_tenant tenants[1] = {{.name = "a"}};
#define KEY (tenants[0].keys[0].token)

static int
start(void **state)
{
    (void)state;
    test_node_start(&node, tenants, 1);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    test_node_stop(&node);
    return 0;
}

static void
ask(int status, const char *part, const char *method, const char *target, const char *body)
{
    test_expect(node.port, KEY, status, part, method, target, body);
}

/* A collection `c` with points 1 to 3 and this strict mode. */
static void
with(const char *strict)
{
    char body[1024];

    test_expect(node.port, KEY, 200, "", "DELETE", "/collections/c", NULL);
    ask(200, "true", "PUT", "/collections/c",
        "{\"vectors\":{\"d\":{\"size\":2,\"distance\":\"Dot\"},"
        "\"m\":{\"size\":2,\"distance\":\"Dot\",\"multivector_config\":{\"comparator\":\"max_sim\"}"
        "}},"
        "\"sparse_vectors\":{\"s\":{}}}");
    ask(200, "completed", "PUT", "/collections/c/points?wait=true",
        "{\"points\":[{\"id\":1,\"vector\":{\"d\":[1,0]},\"payload\":{\"k\":\"a\",\"n\":1}},"
        "{\"id\":2,\"vector\":{\"d\":[0,1]},\"payload\":{\"k\":\"b\",\"n\":2}},"
        "{\"id\":3,\"vector\":{\"d\":[1,1]},\"payload\":{\"k\":\"b\",\"n\":3}}]}");
    snprintf(body, sizeof body, "{\"strict_mode_config\":%s}", strict);
    ask(200, "true", "PATCH", "/collections/c", body);
}

#define Q "/collections/c/points/query"

static void
reads_are_limited(void **state)
{
    (void)state;
    with("{\"enabled\":true,\"max_query_limit\":5,\"search_max_hnsw_ef\":100,"
         "\"search_allow_exact\":false,\"search_max_oversampling\":2.5,\"max_timeout\":10,"
         "\"search_max_batchsize\":2}");
    ask(200, "\"points\":[", "POST", Q, "{\"query\":[1,0],\"using\":\"d\",\"limit\":5}");
    ask(400,
        "Bad request: Limit exceeded 6 > 5 for \\\"limit\\\". Help: Reduce the \\\"limit\\\" "
        "parameter "
        "to or below 5.",
        "POST", Q, "{\"query\":[1,0],\"using\":\"d\",\"limit\":6}");
    ask(400, "Limit exceeded 6 > 5", "POST", Q,
        "{\"prefetch\":{\"prefetch\":[{\"query\":[1,0],\"using\":\"d\",\"limit\":6}],\"query\":[1,"
        "0],"
        "\"using\":\"d\",\"limit\":5},\"query\":{\"fusion\":\"rrf\"},\"limit\":1}");
    ask(400, "Limit exceeded 999999999 > 5", "POST", "/collections/c/points/scroll",
        "{\"limit\":999999999}");
    ask(400, "Limit exceeded 7 > 5", "POST", "/collections/c/points/search",
        "{\"vector\":{\"name\":\"d\",\"vector\":[1,0]},\"top\":7}");
    ask(400, "\\\"hnsw_ef\\\"", "POST", Q,
        "{\"query\":[1,0],\"using\":\"d\",\"limit\":5,\"params\":{\"hnsw_ef\":101}}");
    ask(400, "Exact search disabled!. Help: Set exact=false.", "POST", Q,
        "{\"query\":[1,0],\"using\":\"d\",\"limit\":5,\"params\":{\"exact\":true}}");
    ask(400, "Limit exceeded 3 > 2.5 for \\\"oversampling\\\"", "POST", Q,
        "{\"query\":[1,0],\"using\":\"d\",\"limit\":5,\"params\":{\"quantization\":{"
        "\"oversampling\":3}}}");
    ask(400, "Limit exceeded 11 > 10 for \\\"timeout\\\"", "POST", Q "?timeout=11",
        "{\"query\":[1,0],\"using\":\"d\",\"limit\":5}");
    ask(200, "points", "POST", Q "?timeout=10", "{\"query\":[1,0],\"using\":\"d\",\"limit\":5}");
    ask(400, "\\\"search batch size\\\"", "POST", Q "/batch",
        "{\"searches\":[{\"limit\":1},{\"limit\":1},{\"limit\":1}]}");
    ask(400, "Limit exceeded 6 > 5", "POST", Q "/batch",
        "{\"searches\":[{\"limit\":1},{\"limit\":6}]}");
}

/* What a call gives back at most counts, said or not; groups times their size, a matrix's rows
 * times their length. */
static void
limits_that_are_not_said_count_too(void **state)
{
    (void)state;
    with("{\"enabled\":true,\"max_query_limit\":9,\"search_allow_exact\":false}");
    ask(400, "Limit exceeded 10 > 9 for \\\"limit\\\"", "POST", Q,
        "{\"query\":[1,0],\"using\":\"d\"}");
    ask(400, "Limit exceeded 10 > 9", "POST", "/collections/c/points/scroll", "{}");
    ask(400, "Limit exceeded 30 > 9", "POST", Q "/groups",
        "{\"query\":[1,0],\"using\":\"d\",\"group_by\":\"k\"}");
    ask(200, "groups", "POST", Q "/groups",
        "{\"query\":[1,0],\"using\":\"d\",\"group_by\":\"k\",\"limit\":3}");
    ask(400, "Limit exceeded 12 > 9", "POST", "/collections/c/points/search/matrix/pairs",
        "{\"using\":\"d\",\"sample\":3,\"limit\":4}");
    ask(200, "\"id\":1", "GET", "/collections/c/points/1", NULL);
    ask(200, "\"id\":1", "POST", "/collections/c/points", "{\"ids\":[1]}");
    /* A count is exact unless it says otherwise; here it always is, and the word is all that is
     * asked for. */
    ask(400, "Exact search disabled!. Help: Set exact=false.", "POST",
        "/collections/c/points/count", "{}");
    ask(200, "\"count\":3", "POST", "/collections/c/points/count", "{\"exact\":false}");
}

/* Without links among all points a search is a scan, unless it stays with one tenant's. */
static void
scans_are_forbidden_with_exact_searches(void **state)
{
    (void)state;
    test_expect(node.port, KEY, 200, "", "DELETE", "/collections/c", NULL);
    ask(200, "true", "PUT", "/collections/c",
        "{\"vectors\":{\"\":{\"size\":2,\"distance\":\"Dot\",\"hnsw_config\":{\"m\":0,\"payload_"
        "m\":8}}"
        ",\"n\":{\"size\":2,\"distance\":\"Dot\",\"hnsw_config\":{\"m\":0}},"
        "\"full\":{\"size\":2,\"distance\":\"Dot\"}},\"sparse_vectors\":{\"s\":{}},"
        "\"strict_mode_config\":{\"enabled\":true,\"search_allow_exact\":false}}");
    ask(200, "completed", "PUT", "/collections/c/index?wait=true",
        "{\"field_name\":\"t\",\"field_schema\":{\"type\":\"keyword\",\"is_tenant\":true}}");
    ask(400,
        "Bad request: Request is forbidden because global vector indexing is disabled "
        "(hnsw_config.m = 0). Help: Use tenant-specific filter, enable global vector indexing or "
        "enable strict mode `search_allow_exact` option",
        "POST", Q, "{\"query\":[1,0]}");
    ask(400, "Request is forbidden on 'n' because global vector indexing", "POST", Q,
        "{\"query\":[1,0],\"using\":\"n\",\"filter\":{\"must\":{\"key\":\"x\",\"match\":{\"value\":"
        "1}}}}");
    ask(400,
        "Request is forbidden on 'n' because vector indexing is disabled (hnsw_config.m = 0 and "
        "hnsw_config.payload_m = 0). Help: Enable vector indexing",
        "POST", Q,
        "{\"query\":[1,0],\"using\":\"n\",\"filter\":{\"must\":{\"key\":\"t\",\"match\":{\"value\":"
        "\"a\"}}"
        "}}");
    ask(200, "points", "POST", Q,
        "{\"query\":[1,0],\"filter\":{\"must\":{\"key\":\"t\",\"match\":{\"value\":\"a\"}}}}");
    ask(200, "points", "POST", Q, "{\"query\":[1,0],\"using\":\"full\"}");
    ask(200, "points", "POST", Q, "{\"query\":{\"indices\":[1],\"values\":[1]},\"using\":\"s\"}");
    ask(200, "points", "POST", Q, "{\"query\":{\"sample\":\"random\"}}");
    ask(400, "Request is forbidden because", "POST", Q,
        "{\"prefetch\":{\"query\":[1,0]},\"query\":{\"fusion\":\"rrf\"}}");
}

/* What a filter is stands before what it would take. */
static void
formulas_and_groups_want_indexes(void **state)
{
    (void)state;
    with("{\"enabled\":true,\"unindexed_filtering_retrieve\":false,\"filter_max_conditions\":1}");
    ask(400, "Filter condition limit reached (2 > 1)", "POST", "/collections/c/points/count",
        "{\"filter\":{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"b\"}},{\"has_id\":[1]}]}}");
    ask(400,
        "Index required but not found for \\\"n\\\" of one of the following types: [float, "
        "integer]."
        " Help: Create an index for this key or use a different formula expression.",
        "POST", Q,
        "{\"prefetch\":{\"query\":[1,0],\"using\":\"d\"},\"query\":{\"formula\":{\"sum\":[\"$"
        "score\","
        "{\"mult\":[2,\"n\"]}]}}}");
    ask(400,
        "\\\"k\\\" of one of the following types: [keyword, uuid]. Help: Create an index for this "
        "key or use a different formula",
        "POST", Q,
        "{\"prefetch\":{\"query\":[1,0],\"using\":\"d\"},\"query\":{\"formula\":{\"key\":\"k\","
        "\"match\":{\"value\":\"a\"}}}}");
    ask(200, "points", "POST", Q,
        "{\"prefetch\":{\"query\":[1,0],\"using\":\"d\"},\"query\":{\"formula\":{\"sum\":[\"$"
        "score\","
        "{\"has_id\":[\"550e8400-e29b-41d4-a716-446655440000\"]}]}}}");
    ask(400,
        "Index required but not found for \\\"k\\\". Help: Create an index supporting `match` for "
        "this key.",
        "POST", Q "/groups", "{\"query\":[1,0],\"using\":\"d\",\"group_by\":\"k\"}");
    ask(200, "completed", "PUT", "/collections/c/index?wait=true",
        "{\"field_name\":\"k\",\"field_schema\":\"text\"}");
    ask(400, "Index of type \\\"Text\\\" found for \\\"k\\\"", "POST", Q "/groups",
        "{\"query\":[1,0],\"using\":\"d\",\"group_by\":\"k\"}");
    ask(200, "completed", "PUT", "/collections/c/index?wait=true",
        "{\"field_name\":\"k\",\"field_schema\":\"keyword\"}");
    ask(200, "groups", "POST", Q "/groups", "{\"query\":[1,0],\"using\":\"d\",\"group_by\":\"k\"}");
    ask(400, "[keyword]", "POST", "/collections/c/points/count", /* not declared for prefixes */
        "{\"filter\":{\"must\":{\"key\":\"k\",\"match\":{\"prefix\":\"b\"}}}}");
    ask(400, "Index required", "POST", Q,
        "{\"query\":{\"indices\":[1],\"values\":[1]},\"using\":\"s\",\"params\":{\"idf\":{"
        "\"corpus\":{"
        "\"must\":{\"key\":\"z\",\"match\":{\"value\":\"b\"}}}}}}");
}

static void
filters_are_limited(void **state)
{
    (void)state;
    with("{\"enabled\":true,\"filter_max_conditions\":2,\"condition_max_size\":3}");
    ask(200, "\"count\":1", "POST", "/collections/c/points/count",
        "{\"filter\":{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"b\"}},"
        "{\"key\":\"n\",\"range\":{\"gt\":2}}]}}");
    ask(400, "Filter condition limit reached (3 > 2)", "POST", "/collections/c/points/count",
        "{\"filter\":{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"b\"}},"
        "{\"should\":[{\"key\":\"n\",\"range\":{\"gt\":2}},{\"has_id\":[1]}]}]}}");
    ask(400, "Condition size limit reached (4 > 3). Help: Reduce the size of your condition.",
        "POST", "/collections/c/points/delete?wait=true",
        "{\"filter\":{\"must\":{\"key\":\"n\",\"match\":{\"any\":[1,2,3,4]}}}}");
    ask(400, "Condition size limit reached", "POST", "/collections/c/points/scroll",
        "{\"filter\":{\"must_not\":[{\"has_id\":[1,2,3,4]}]}}");
}

static void
filters_want_indexes(void **state)
{
    (void)state;
    with("{\"enabled\":true,\"unindexed_filtering_retrieve\":false,"
         "\"unindexed_filtering_update\":false}");
    ask(400,
        "Index required but not found for \\\"k\\\" of one of the following types: [keyword, "
        "uuid]. "
        "Help: Create an index for this key or use a different filter.",
        "POST", "/collections/c/points/count",
        "{\"filter\":{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"b\"}}]}}");
    ask(400, "\\\"a[].b\\\" of one of the following types: [float, integer]", "POST",
        "/collections/c/points/count",
        "{\"filter\":{\"must\":[{\"nested\":{\"key\":\"a\",\"filter\":{\"must\":[{\"key\":\"b\","
        "\"range\":{\"gt\":1}}]}}}]}}");
    ask(400, "Index required", "POST", "/collections/c/points/payload?wait=true",
        "{\"payload\":{\"x\":1},\"filter\":{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"b\"}}]}"
        "}");
    ask(200, "count", "POST", "/collections/c/points/count",
        "{\"filter\":{\"must\":[{\"has_id\":[1]}]}}");
    ask(200, "completed", "PUT", "/collections/c/index?wait=true",
        "{\"field_name\":\"k\",\"field_schema\":\"keyword\"}");
    ask(200, "\"count\":2", "POST", "/collections/c/points/count",
        "{\"filter\":{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"b\"}}]}}");
    ask(400, "[integer]", "POST", "/collections/c/points/count",
        "{\"filter\":{\"must\":[{\"key\":\"k\",\"match\":{\"value\":1}}]}}");
}

static void
writes_are_limited(void **state)
{
    (void)state;
    with("{\"enabled\":true,\"upsert_max_batchsize\":2,\"max_points_count\":4,"
         "\"sparse_config\":{\"s\":{\"max_length\":2}},\"multivector_config\":{\"m\":{\"max_"
         "vectors\":1}},"
         "\"max_payload_index_count\":1}");
    ask(400, "Limit exceeded 3 > 2 for \\\"update limit\\\"", "PUT",
        "/collections/c/points/vectors",
        "{\"points\":[{\"id\":1,\"vector\":{\"d\":[1,0]}},{\"id\":2,\"vector\":{\"d\":[1,0]}},"
        "{\"id\":3,\"vector\":{\"d\":[1,0]}}]}");
    ask(400, "Limit exceeded 3 > 2 for \\\"upsert limit\\\"", "PUT", "/collections/c/points",
        "{\"batch\":{\"ids\":[1,2,3],\"vectors\":{\"d\":[[1,0],[1,0],[1,0]]}}}");
    ask(400, "Max points count limit of 4 reached", "PUT", "/collections/c/points",
        "{\"points\":[{\"id\":8,\"vector\":{}},{\"id\":9,\"vector\":{}}]}");
    ask(400, "Sparse vector 's' has a limit of 2 indices", "PUT", "/collections/c/points",
        "{\"points\":[{\"id\":4,\"vector\":{\"s\":{\"indices\":[1,2,3],\"values\":[1,1,1]}}}]}");
    ask(400, "Multivector 'm' has a limit of 1 vectors", "POST", "/collections/c/points/batch",
        "{\"operations\":[{\"upsert\":{\"points\":[{\"id\":4,\"vector\":{\"m\":[[1,0],[0,1]]}}]}}]"
        "}");
    ask(200, "\"points_count\":3", "GET", "/collections/c", NULL); /* nothing half done */
    ask(200, "completed", "PUT", "/collections/c/points?wait=true",
        "{\"points\":[{\"id\":4,\"vector\":{\"s\":{\"indices\":[1,2],\"values\":[1,1]},\"m\":[[1,0]"
        "]}}]}");
    ask(400, "Max points count", "PUT", "/collections/c/points",
        "{\"points\":[{\"id\":5,\"vector\":{}}]}");
    ask(200, "completed", "POST", "/collections/c/points/delete?wait=true",
        "{\"points\":[1,2,3,4]}");
    ask(200, "completed", "PUT", "/collections/c/index?wait=true",
        "{\"field_name\":\"k\",\"field_schema\":\"keyword\"}");
    ask(200, "completed", "PUT", "/collections/c/index?wait=true",
        "{\"field_name\":\"k\",\"field_schema\":\"keyword\"}"); /* the same again */
    ask(400, "maximum number of payload indices (1)", "PUT", "/collections/c/index?wait=true",
        "{\"field_name\":\"n\",\"field_schema\":\"integer\"}");

    with("{\"enabled\":true,\"max_collection_vector_size_bytes\":24}");
    ask(400, "Max vector storage size limit of 0.000022888184MB reached!", "PUT",
        "/collections/c/points", "{\"points\":[{\"id\":5,\"vector\":{\"d\":[1,0]}}]}");
    with("{\"enabled\":true,\"max_collection_payload_size_bytes\":10}");
    ask(400, "Max payload storage size limit of 9.536743e-6MB reached!", "PUT",
        "/collections/c/points", "{\"points\":[{\"id\":5,\"vector\":{\"d\":[1,0]}}]}");
}

/* Full at first, then by the minute; a write costs its points, a read one and its conditions. */
static void
rates_are_limited(void **state)
{
    (void)state;
    with("{\"enabled\":true,\"read_rate_limit\":3,\"write_rate_limit\":2}");
    for (int i = 0; i < 3; i++) {
        ask(200, "count", "POST", "/collections/c/points/count", "{}");
    }
    ask(429, "Rate limiting exceeded: Read rate limit exceeded", "POST",
        "/collections/c/points/count", "{}");
    ask(200, "completed", "PUT", "/collections/c/points?wait=true",
        "{\"points\":[{\"id\":1,\"vector\":{}},{\"id\":2,\"vector\":{}}]}");
    ask(429,
        "Rate limiting exceeded: Write rate limit exceeded: Operation requires 1 tokens but only "
        "0.",
        "POST", "/collections/c/points/delete?wait=true", "{\"points\":[1]}");
    ask(200, "result", "GET", "/collections/c", NULL); /* no search, no write */
    /* By filter a write costs what matches, however many conditions say so. */
    with("{\"enabled\":true,\"write_rate_limit\":4}");
    ask(200, "completed", "POST", "/collections/c/points/payload?wait=true",
        "{\"payload\":{\"x\":1},\"filter\":{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"b\"}},{"
        "\"key\":"
        "\"n\",\"range\":{\"gt\":0}},{\"key\":\"n\",\"range\":{\"lt\":9}}]}}");
    ask(429, "Operation requires 3 tokens but only 2.", "POST",
        "/collections/c/points/payload/clear?wait=true", "{\"filter\":{}}");
    ask(400, "unknown field", "POST", "/collections/c/points/delete?wait=true",
        "{\"filter\":{\"odd\":1}}");
}

static void
it_can_be_switched_off_and_is_checked(void **state)
{
    (void)state;
    with("{\"enabled\":false,\"max_query_limit\":1}");
    ask(200, "points", "POST", Q, "{\"limit\":10}");
    ask(200, "\"max_query_limit\":1", "GET", "/collections/c", NULL);
    ask(200, "true", "PATCH", "/collections/c", "{\"strict_mode_config\":{\"enabled\":true}}");
    ask(400, "Limit exceeded 10 > 1", "POST", Q, "{\"limit\":10}");
    ask(200, "true", "PATCH", "/collections/c", "{\"strict_mode_config\":{\"enabled\":false}}");
    ask(200, "points", "POST", Q, "{\"limit\":10}");
    ask(422, "strict_mode_config.max_query_limit: value 0 invalid, must be 1 or larger", "PATCH",
        "/collections/c", "{\"strict_mode_config\":{\"max_query_limit\":0}}");
    ask(400, "strict_mode_config.enabled", "PATCH", "/collections/c",
        "{\"strict_mode_config\":{\"enabled\":1}}");
    ask(400, "strict_mode_config", "PUT", "/collections/x", "{\"strict_mode_config\":7}");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_are_limited),
        cmocka_unit_test(limits_that_are_not_said_count_too),
        cmocka_unit_test(scans_are_forbidden_with_exact_searches),
        cmocka_unit_test(formulas_and_groups_want_indexes),
        cmocka_unit_test(filters_are_limited),
        cmocka_unit_test(filters_want_indexes),
        cmocka_unit_test(writes_are_limited),
        cmocka_unit_test(rates_are_limited),
        cmocka_unit_test(it_can_be_switched_off_and_is_checked),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
