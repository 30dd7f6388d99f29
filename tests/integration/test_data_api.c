/* The data API over real connections: shapes, codes and wording of what clients rely on, and what
 * happens to every kind of bad input. The node is this process's own (support/test_node.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "data_api_support.h"

#define OTHER_KEY (api_tenants[1].keys[0].token)

/* Each test has a collection `c` of four dimensions, Dot, with points 1 and 2. */
static int
fresh(void **state)
{
    (void)state;
    free(test_call(node.port, KEY, 200, "DELETE", "/collections/c", NULL));
    ok("PUT", "/collections/c", "{\"vectors\":{\"size\":4,\"distance\":\"Dot\"}}",
       "\"result\":true");
    ok("PUT", "/collections/c/points?wait=true",
       "{\"points\":[{\"id\":1,\"vector\":[1,0,0,0],\"payload\":{\"city\":\"Berlin\",\"n\":1}},"
       "{\"id\":2,\"vector\":[0.15,1,0,0]}]}",
       "\"status\":\"completed\"");
    return 0;
}

static void
health_and_version_need_no_key(void **state)
{
    (void)state;
    test_expect(node.port, NULL, 200, "\"version\":\"1.18.", "GET", "/", NULL);
    test_expect(node.port, NULL, 200, "healthz check passed", "GET", "/livez", NULL);
    test_expect(node.port, NULL, 200, "all shards are ready", "GET", "/readyz", NULL);
    test_expect(node.port, NULL, 200, "orthant_search_latency_seconds", "GET", "/metrics", NULL);
    test_expect(node.port, KEY, 200, "{\"result\":{\"status\":\"disabled\"},\"status\":\"ok\"",
                "GET", "/cluster", NULL);
    test_expect(node.port, KEY, 200, "\"app\":{\"name\":\"orthant\"", "GET", "/telemetry", NULL);
}

static void
a_collection_answers_as_clients_expect(void **state)
{
    (void)state;
    ok("GET", "/collections", NULL,
       "{\"result\":{\"collections\":[{\"name\":\"c\"}]},\"status\":\"ok\"");
    ok("GET", "/collections/c/exists", NULL, "{\"result\":{\"exists\":true}");
    ok("GET", "/collections/d/exists", NULL, "{\"result\":{\"exists\":false}");
    ok("GET", "/collections/c", NULL, "\"points_count\":2");
    ok("GET", "/collections/c", NULL, "\"vectors\":{\"size\":4,\"distance\":\"Dot\"");
    bad(409,
        "{\"status\":{\"error\":\"Wrong input: Collection `c` already exists!\"},\"time\":", "PUT",
        "/collections/c", "{\"vectors\":{\"size\":4,\"distance\":\"Dot\"}}");
    bad(404,
        "{\"status\":{\"error\":\"Not found: Collection `d` doesn't exist!\"},\"time\":", "GET",
        "/collections/d", NULL);
    ok("DELETE", "/collections/d", NULL, "{\"result\":false");
    ok("DELETE", "/collections/c", NULL, "{\"result\":true");
    ok("GET", "/collections", NULL, "{\"result\":{\"collections\":[]}");
}

static void
points_come_back_as_they_went_in(void **state)
{
    (void)state;
    ok("GET", "/collections/c/points/1", NULL,
       "{\"result\":{\"id\":1,\"payload\":{\"city\":\"Berlin\",\"n\":1},\"vector\":[1.0,0.0,0.0,0."
       "0]}");
    ok("GET", "/collections/c/points/2", NULL, "\"payload\":{},\"vector\":[0.15,1.0,0.0,0.0]");
    bad(404, "Not found: Point with id 7 does not exists!", "GET", "/collections/c/points/7", NULL);
    bad(400, "Wrong input: ", "GET", "/collections/c/points/seven", NULL);
    ok("POST", "/collections/c/points", "{\"ids\":[2,1,9]}",
       "{\"result\":[{\"id\":2,\"payload\":{}},{\"id\":1,\"payload\":{\"city\":\"Berlin\",\"n\":1}}"
       "]");
    ok("POST", "/collections/c/points",
       "{\"ids\":[1],\"with_payload\":[\"n\"],\"with_vector\":true}",
       "[{\"id\":1,\"payload\":{\"n\":1},\"vector\":[1.0,0.0,0.0,0.0]}]");
    ok("POST", "/collections/c/points/count", "{}", "{\"result\":{\"count\":2}");
    ok("POST", "/collections/c/points/count",
       "{\"exact\":true,\"filter\":{\"must\":[{\"key\":\"city\",\"match\":{\"value\":\"Berlin\"}}]}"
       "}",
       "{\"count\":1}");
}

static void
ids_of_every_right_kind(void **state)
{
    (void)state;
    ok("PUT", "/collections/c/points?wait=true",
       "{\"points\":[{\"id\":18446744073709551615,\"vector\":[1,0,0,0]},"
       "{\"id\":\"550E8400E29B41D4A716446655440000\",\"vector\":[1,0,0,0]}]}",
       "completed");
    ok("GET", "/collections/c/points/18446744073709551615", NULL, "\"id\":18446744073709551615");
    ok("GET", "/collections/c/points/urn:uuid:550e8400-e29b-41d4-a716-446655440000", NULL,
       "\"id\":\"550e8400-e29b-41d4-a716-446655440000\"");
    ok("POST", "/collections/c/points/scroll", "{\"limit\":3,\"with_payload\":false}",
       "{\"result\":{\"points\":[{\"id\":1},{\"id\":2},{\"id\":18446744073709551615}],"
       "\"next_page_offset\":\"550e8400-e29b-41d4-a716-446655440000\"}");
    ok("POST", "/collections/c/points/scroll",
       "{\"offset\":\"550e8400-e29b-41d4-a716-446655440000\",\"with_payload\":false}",
       "{\"points\":[{\"id\":\"550e8400-e29b-41d4-a716-446655440000\"}],\"next_page_offset\":"
       "null}");
}

static void
searches_old_and_new(void **state)
{
    (void)state;
    ok("POST", "/collections/c/points/query", "{\"query\":[1,0,0,0]}",
       "{\"result\":{\"points\":[{\"id\":1,\"version\":");
    ok("POST", "/collections/c/points/query", "{\"query\":[1,0,0,0],\"limit\":2}",
       "\"score\":0.15");
    ok("POST", "/collections/c/points/query", "{\"query\":1}",
       "{\"result\":{\"points\":[{\"id\":2,");
    ok("POST", "/collections/c/points/query", "{\"limit\":1,\"with_payload\":true}",
       "{\"points\":[{\"id\":1,");
    ok("POST", "/collections/c/points/query",
       "{\"query\":{\"nearest\":[0,1,0,0],\"mmr\":null},\"filter\":{},\"using\":null,\"params\":"
       "null,"
       "\"prefetch\":[],\"lookup_from\":null,\"limit\":999999999,\"with_payload\":{\"include\":["
       "\"n\"]}}",
       "{\"points\":[{\"id\":2,");
    ok("POST", "/collections/c/points/search",
       "{\"vector\":[1,0,0,0],\"top\":1,\"with_vectors\":true,\"with_payload\":true}",
       "\"payload\":{\"city\":\"Berlin\",\"n\":1},\"vector\":[1.0,0.0,0.0,0.0]}]");
    ok("POST", "/collections/c/points/search",
       "{\"vector\":[1,0,0,0],\"limit\":5,\"score_threshold\":0.5}", "{\"result\":[{\"id\":1,");
    ok("POST", "/collections/c/points/search/batch",
       "{\"searches\":[{\"vector\":[1,0,0,0],\"limit\":1,\"filter\":{\"must\":[{\"has_id\":[99]}]}}"
       ","
       "{\"vector\":[1,0,0,0],\"limit\":1}]}",
       "{\"result\":[[],[{\"id\":1,");
    ok("POST", "/collections/c/points/query/batch",
       "{\"searches\":[{\"query\":[1,0,0,0],\"limit\":1},{\"query\":[0,1,0,0],\"limit\":1},"
       "{\"query\":[0,1,0,0],\"filter\":{\"must\":[{\"has_id\":[99]}]}}]}",
       "]},{\"points\":[]}]");
    ok("POST", "/collections/c/points/query/batch", "{\"searches\":[]}", "{\"result\":[]");
    bad(404, "Not found: No point with id 9 found", "POST", "/collections/c/points/query",
        "{\"query\":9}");
}

/* Prefetch, fusion, rescoring, diversity, examples: each on four points whose answer can be seen.
 */
static void
queries_of_several_steps(void **state)
{
    (void)state;
    ok("PUT", "/collections/c/points?wait=true",
       "{\"points\":[{\"id\":1,\"vector\":[1,0,0,0],\"payload\":{\"g\":1}},"
       "{\"id\":2,\"vector\":[0.9,0.1,0,0],\"payload\":{\"g\":1}},"
       "{\"id\":3,\"vector\":[0.5,0.5,0,0],\"payload\":{\"g\":2}},"
       "{\"id\":4,\"vector\":[0,1,0,0],\"payload\":{\"g\":2}}]}",
       "completed");
    /* By rank: 1 is first and last of two lists of four, 2 second and third ... */
    ok("POST", "/collections/c/points/query",
       "{\"prefetch\":[{\"query\":[1,0,0,0],\"limit\":2},{\"query\":[0.9,1,0,0],\"limit\":1}],"
       "\"query\":{\"fusion\":\"rrf\"},\"limit\":2,\"with_payload\":true}",
       "{\"result\":{\"points\":[{\"id\":1,\"version\":");
    ok("POST", "/collections/c/points/query",
       "{\"prefetch\":{\"query\":[1,0,0,0],\"limit\":3},\"query\":{\"fusion\":\"rrf\"},"
       "\"score_threshold\":0.3}",
       "\"score\":0.5},{\"id\":2,");
    ok("POST", "/collections/c/points/query",
       "{\"prefetch\":[{\"query\":[1,0,0,0]}],\"query\":{\"rrf\":{\"k\":60,\"weights\":[1.0]}},"
       "\"limit\":1}",
       "\"score\":0.016666668}");
    ok("POST", "/collections/c/points/query",
       "{\"prefetch\":[{\"query\":[1,0,0,0]},{\"query\":[0,1,0,0]}],\"query\":{\"fusion\":\"dbsf\"}"
       ","
       "\"limit\":1,\"filter\":{\"must\":{\"key\":\"g\",\"match\":{\"value\":2}}}}",
       "{\"points\":[{\"id\":3,");
    /* The prefetched points, in the order of another query. */
    ok("POST", "/collections/c/points/query",
       "{\"prefetch\":[{\"query\":[1,0,0,0],\"limit\":3}],\"query\":[0,1,0,0],\"limit\":1}",
       "{\"points\":[{\"id\":3,");
    /* 1 is nearest; 2 is nearly 1, so a diverse second is another. */
    ok("POST", "/collections/c/points/query",
       "{\"query\":{\"nearest\":[1,0.2,0,0],\"mmr\":{\"diversity\":0.7,\"candidates_limit\":4}},"
       "\"limit\":2,\"with_payload\":false}",
       "},{\"id\":4,");
    ok("POST", "/collections/c/points/query",
       "{\"query\":{\"recommend\":{\"positive\":[1],\"negative\":[4]}},\"limit\":1}",
       "{\"points\":[{\"id\":2,");
    ok("POST", "/collections/c/points/recommend", "{\"positive\":[1],\"negative\":[4],\"limit\":1}",
       "{\"result\":[{\"id\":2,");
    ok("POST", "/collections/c/points/query/batch",
       "{\"searches\":[{\"query\":[0,1,0,0],\"limit\":1},{\"prefetch\":{\"query\":[1,0,0,0]},"
       "\"query\":{\"fusion\":\"rrf\"},\"limit\":1}]}",
       "]},{\"points\":[{\"id\":1,");
    bad(400, "A query is needed to merge the prefetches", "POST", "/collections/c/points/query",
        "{\"prefetch\":{\"query\":[1,0,0,0]}}");
    bad(400, "cannot apply Fusion without prefetches", "POST", "/collections/c/points/query",
        "{\"query\":{\"fusion\":\"rrf\"}}");
    bad(400, "", "POST", "/collections/c/points/query",
        "{\"prefetch\":{\"query\":[1,0,0,0]},\"query\":{\"rrf\":{\"weights\":[1,2]}}}");
    bad(422, "", "POST", "/collections/c/points/query",
        "{\"query\":{\"nearest\":[1,0,0,0],\"mmr\":{\"diversity\":2}}}");
    bad(422, "", "POST", "/collections/c/points/query",
        "{\"query\":{\"recommend\":{\"negative\":[1]}}}");
}

static void
hits_are_gathered_in_groups(void **state)
{
    (void)state;
    ok("PUT", "/collections/c/points?wait=true",
       "{\"points\":[{\"id\":1,\"vector\":[1,0,0,0],\"payload\":{\"g\":\"a\"}},"
       "{\"id\":2,\"vector\":[0.9,0,0,0],\"payload\":{\"g\":[\"a\",\"b\"]}},"
       "{\"id\":3,\"vector\":[0.8,0,0,0],\"payload\":{\"g\":7}},"
       "{\"id\":4,\"vector\":[0.7,0,0,0],\"payload\":{\"g\":\"b\"}},"
       "{\"id\":5,\"vector\":[0.6,0,0,0],\"payload\":{\"g\":1.5}},"
       "{\"id\":6,\"vector\":[0.5,0,0,0]}]}",
       "completed");
    char *text = test_call(node.port, KEY, 200, "POST", "/collections/c/points/query/groups",
                           "{\"query\":[1,0,0,0],\"group_by\":\"g\",\"group_size\":2,\"limit\":3}");
    const char *a = strstr(text, "{\"groups\":[{\"id\":\"a\",\"hits\":[{\"id\":1,");
    const char *b = strstr(text, "{\"id\":\"b\",\"hits\":[{\"id\":2,");
    const char *seven = strstr(text, "{\"id\":7,\"hits\":[{\"id\":3,");
    assert_true(a != NULL && b != NULL && seven != NULL && a < b && b < seven);
    assert_null(strstr(text, "1.5"));
    free(text);
    ok("POST", "/collections/c/points/search/groups",
       "{\"vector\":[1,0,0,0],\"group_by\":\"g\",\"group_size\":999999999,\"limit\":1,"
       "\"with_payload\":true}",
       "{\"groups\":[{\"id\":\"a\",\"hits\":[{\"id\":1,");
    ok("PUT", "/collections/c/points?wait=true",
       "{\"points\":[{\"id\":7,\"vector\":[0,0,0,0],\"payload\":{\"title\":\"seven\"}}]}",
       "completed");
    ok("POST", "/collections/c/points/query/groups",
       "{\"query\":[1,0,0,0],\"group_by\":\"g\",\"limit\":10,\"with_lookup\":\"c\"}",
       "\"lookup\":{\"id\":7,\"payload\":{\"title\":\"seven\"}}");
    bad(400, "missing field `group_by`", "POST", "/collections/c/points/query/groups", "{}");
    bad(404, "Collection d not found", "POST", "/collections/c/points/query/groups",
        "{\"query\":1,\"group_by\":\"g\",\"with_lookup\":\"d\"}");
    bad(422, "", "POST", "/collections/c/points/query/groups",
        "{\"query\":1,\"group_by\":\"g\",\"group_size\":0}");
}

static void
facets_count_values(void **state)
{
    (void)state;
    ok("PUT", "/collections/c/points?wait=true",
       "{\"points\":[{\"id\":1,\"vector\":[1,0,0,0],\"payload\":{\"g\":\"a\"}},"
       "{\"id\":2,\"vector\":[1,0,0,0],\"payload\":{\"g\":[\"b\",\"b\"]}},"
       "{\"id\":3,\"vector\":[1,0,0,0],\"payload\":{\"g\":[\"b\",\"a\"]}},"
       "{\"id\":4,\"vector\":[1,0,0,0],\"payload\":{\"g\":\"c\"}}]}",
       "completed");
    bad(400, "No appropriate index for faceting", "POST", "/collections/c/facet",
        "{\"key\":\"g\"}");
    ok("PUT", "/collections/c/index?wait=true",
       "{\"field_name\":\"g\",\"field_schema\":\"keyword\"}", "completed");
    ok("POST", "/collections/c/facet", "{\"key\":\"g\",\"limit\":2}",
       "{\"result\":{\"hits\":[{\"value\":\"a\",\"count\":2},{\"value\":\"b\",\"count\":2}]}");
    ok("POST", "/collections/c/facet",
       "{\"key\":\"g\",\"filter\":{\"must\":[{\"has_id\":[2,4]}]},\"exact\":true}",
       "[{\"value\":\"b\",\"count\":1},{\"value\":\"c\",\"count\":1}]");
    /* One value however it was written, and nothing of another type. */
    ok("PUT", "/collections/c/index?wait=true", "{\"field_name\":\"u\",\"field_schema\":\"uuid\"}",
       "completed");
    ok("POST", "/collections/c/points/payload?wait=true",
       "{\"payload\":{\"u\":\"550E8400E29B41D4A716446655440000\"},\"points\":[1]}", "completed");
    ok("POST", "/collections/c/points/payload?wait=true",
       "{\"payload\":{\"u\":[\"550e8400-e29b-41d4-a716-446655440000\",\"none\",7]},\"points\":[2]}",
       "completed");
    ok("POST", "/collections/c/facet", "{\"key\":\"u\"}",
       "{\"hits\":[{\"value\":\"550e8400-e29b-41d4-a716-446655440000\",\"count\":2}]}");
}

/* A tree of prefetches is bounded in width and depth, whatever it says. */
static void
prefetch_bombs_are_refused(void **state)
{
    (void)state;
    ort_buf body = {0};
    ort_buf_puts(&body, "{\"query\":{\"fusion\":\"rrf\"},\"prefetch\":[");
    for (int i = 0; i < 500; i++) {
        ort_buf_printf(&body, "%s{\"query\":[1,0,0,0],\"limit\":999999999}", i == 0 ? "" : ",");
    }
    ort_buf_puts(&body, "]}");
    bad(400, "Bad request: ", "POST", "/collections/c/points/query", ort_buf_peek_cstr(&body));
    ort_buf_clear(&body);
    for (int i = 0; i < 60; i++) {
        ort_buf_puts(&body, "{\"query\":[1,0,0,0],\"limit\":999999999,\"prefetch\":");
    }
    ort_buf_puts(&body, "null");
    for (int i = 0; i < 60; i++) {
        ort_buf_puts(&body, "}");
    }
    ok("POST", "/collections/c/points/query", ort_buf_peek_cstr(&body), "{\"points\":[{\"id\":1,");
    ort_buf_fini(&body);
}

static void
indexes_are_declared_and_shown(void **state)
{
    (void)state;
    ok("PUT", "/collections/c/index?wait=true",
       "{\"field_name\":\"city\",\"field_schema\":\"keyword\"}", "\"status\":\"completed\"");
    ok("PUT", "/collections/c/index?wait=true",
       "{\"field_name\":\"city\",\"field_schema\":{\"type\":\"keyword\",\"is_tenant\":true}}",
       "\"status\":\"completed\"");
    ok("GET", "/collections/c", NULL,
       "\"payload_schema\":{\"city\":{\"data_type\":\"keyword\",\"params\":{\"type\":\"keyword\","
       "\"is_tenant\":true},\"points\":1}}");
    bad(400, "", "PUT", "/collections/c/index",
        "{\"field_name\":\"city\",\"field_schema\":\"words\"}");
    bad(400, "", "PUT", "/collections/c/index", "{\"field_schema\":\"keyword\"}");
    bad(404, "", "PUT", "/collections/d/index", "{\"field_name\":\"a\",\"field_schema\":\"uuid\"}");
    ok("DELETE", "/collections/c/index/city?wait=true", NULL, "completed");
    ok("DELETE", "/collections/c/index/city?wait=true", NULL, "completed");
    ok("GET", "/collections/c", NULL, "\"payload_schema\":{}");
}

static void
payloads_are_set_overwritten_deleted_cleared(void **state)
{
    (void)state;
    ok("POST", "/collections/c/points/payload?wait=true", "{\"payload\":{\"k\":2},\"points\":[1]}",
       "completed");
    ok("GET", "/collections/c/points/1", NULL, "\"payload\":{\"city\":\"Berlin\",\"n\":1,\"k\":2}");
    ok("POST", "/collections/c/points/payload/delete?wait=true",
       "{\"keys\":[\"city\"],\"filter\":{\"must\":{\"key\":\"k\",\"match\":{\"value\":2}}}}",
       "completed");
    ok("GET", "/collections/c/points/1", NULL, "\"payload\":{\"n\":1,\"k\":2}");
    ok("PUT", "/collections/c/points/payload?wait=true",
       "{\"payload\":{\"z\":null},\"points\":[1]}", "completed");
    ok("POST", "/collections/c/points/payload/clear?wait=true", "{\"points\":[1]}", "completed");
    ok("GET", "/collections/c/points/1", NULL, "\"payload\":{}");
    bad(404, "No point with id 77 found", "POST", "/collections/c/points/payload?wait=true",
        "{\"payload\":{\"k\":2},\"points\":[77]}");
    ok("POST", "/collections/c/points/payload", "{\"payload\":{\"k\":2},\"points\":[77]}",
       "\"status\":\"acknowledged\"");
}

static void
a_batch_is_applied_in_order_or_not_at_all(void **state)
{
    (void)state;
    ok("POST", "/collections/c/points/batch?wait=true",
       "{\"operations\":[{\"upsert\":{\"points\":[{\"id\":5,\"vector\":[1,1,1,1]}]}},"
       "{\"set_payload\":{\"payload\":{\"a\":1},\"points\":[5]}},{\"delete\":{\"points\":[1]}}]}",
       "\"status\":\"completed\"},{\"operation_id\":");
    ok("GET", "/collections/c/points/5", NULL, "\"payload\":{\"a\":1}");
    bad(400, "Vector dimension error: expected dim: 4, got 2", "POST",
        "/collections/c/points/batch?wait=true",
        "{\"operations\":[{\"delete\":{\"points\":[5]}},"
        "{\"upsert\":{\"points\":[{\"id\":6,\"vector\":[1,1]}]}}]}");
    ok("GET", "/collections/c/points/5", NULL, "\"payload\":{\"a\":1}");
}

static void
columnar_upsert_and_delete_by_filter(void **state)
{
    (void)state;
    ok("PUT", "/collections/c/points?wait=true",
       "{\"batch\":{\"ids\":[10,11],\"vectors\":[[1,2,3,4],[5,6,7,8]],\"payloads\":[{\"g\":1},null]"
       "}}",
       "completed");
    ok("GET", "/collections/c/points/11", NULL, "\"vector\":[5.0,6.0,7.0,8.0]");
    ok("POST", "/collections/c/points/delete?wait=true",
       "{\"filter\":{\"must\":[{\"key\":\"g\",\"match\":{\"value\":1}}]}}", "completed");
    ok("POST", "/collections/c/points/count", "{}", "{\"count\":3}");
    ok("POST", "/collections/c/points/delete?wait=true&ordering=weak", "{\"points\":[11,404]}",
       "completed");
    ok("POST", "/collections/c/points/count", "{}", "{\"count\":2}");
}

/* --- bad input ------------------------------------------------------------------------------- */

#define UPSERT "PUT", "/collections/c/points?wait=true"
#define QUERY "POST", "/collections/c/points/query"

static void
malformed_and_truncated_json_is_refused(void **state)
{
    static const char whole[] =
        "{\"points\":[{\"id\":3,\"vector\":[1,2,3,4],\"payload\":{\"a\":\"b\"}}]}";
    (void)state;

    for (size_t len = 0; len < sizeof whole - 1; len++) {
        test_answer a = test_request_n(node.port, KEY, UPSERT, whole, len);
        if (a.status != 400 || strstr(a.body, "Format error in JSON body: ") == NULL) {
            fail_msg("prefix of %zu: %d %s", len, a.status, a.body);
        }
        test_answer_fini(&a);
    }
    bad(400, "Format error in JSON body", UPSERT, "{\"points\":[}");
    bad(400, "Format error in JSON body", UPSERT, "{} trailing");
    bad(400, "Format error in JSON body", UPSERT, "\xff\xfe");
    bad(400, "Format error in JSON body", UPSERT, "[]");
    bad(400, "Format error in JSON body", UPSERT, "7");
    bad(404, "Not found", "GET", "/collections/c/points/3", NULL);
}

static void
deep_nesting_is_refused(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    char *body = malloc(2 * DEPTH + 64);
    assert_non_null(body);
    memset(body, '[', DEPTH);
    body[DEPTH] = '\0';
    bad(400, "Format error in JSON body", UPSERT, body);
    size_t at = (size_t)sprintf(body, "{\"filter\":");
    for (int i = 0; i < 5000; i++) {
        at += (size_t)sprintf(body + at, "{\"must\":");
    }
    bad(400, "Format error in JSON body", "POST", "/collections/c/points/scroll", body);
    free(body);
}

static void
numbers_that_are_none_are_refused(void **state)
{
    (void)state;
    bad(400, "Format error", UPSERT, "{\"points\":[{\"id\":3,\"vector\":[NaN,0,0,0]}]}");
    bad(400, "Format error", UPSERT, "{\"points\":[{\"id\":3,\"vector\":[Infinity,0,0,0]}]}");
    bad(400, "", UPSERT, "{\"points\":[{\"id\":3,\"vector\":[1e999,0,0,0]}]}");
    bad(400, "", UPSERT, "{\"points\":[{\"id\":3,\"vector\":[1e39,0,0,0]}]}");
    bad(400, "", QUERY, "{\"query\":[1e999,0,0,0]}");
    bad(400, "", QUERY, "{\"query\":[1,0,0,0],\"score_threshold\":1e999}");
    ok(UPSERT, "{\"points\":[{\"id\":3,\"vector\":[1e38,1e-45,-0.0,1e-400]}]}", "completed");
}

static void
wrong_dimensions_and_types_are_refused(void **state)
{
    (void)state;
    bad(400, "Wrong input: Vector dimension error: expected dim: 4, got 3", UPSERT,
        "{\"points\":[{\"id\":3,\"vector\":[1,2,3]}]}");
    bad(400, "Vector dimension error: expected dim: 4, got 5", QUERY, "{\"query\":[1,2,3,4,5]}");
    bad(400, "Not existing vector name error", QUERY, "{\"query\":[1,2,3,4],\"using\":\"nope\"}");
    bad(400, "", UPSERT, "{\"points\":[{\"id\":3,\"vector\":\"text\"}]}");
    bad(400, "", UPSERT, "{\"points\":[{\"id\":3,\"vector\":[1,\"2\",3,4]}]}");
    bad(400, "", UPSERT, "{\"points\":[{\"id\":3,\"vector\":[1,null,3,4]}]}");
    bad(400, "", UPSERT, "{\"points\":[{\"id\":3}]}");
    bad(400, "", UPSERT, "{\"points\":{\"id\":3}}");
    bad(400, "", UPSERT, "{\"points\":[{\"id\":3,\"vector\":[1,2,3,4],\"payload\":7}]}");
    bad(400, "", QUERY, "{\"query\":[1,0,0,0],\"limit\":-1}");
    bad(400, "", QUERY, "{\"query\":[1,0,0,0],\"limit\":1.5}");
    bad(400, "", QUERY, "{\"query\":[1,0,0,0],\"limit\":\"3\"}");
    bad(422, "Validation error in JSON body: [limit: value 0 invalid, must be 1 or larger]", QUERY,
        "{\"query\":[1,0,0,0],\"limit\":0}");
    bad(400, "", QUERY, "{\"query\":[1,0,0,0],\"with_payload\":3}");
    bad(400, "", QUERY, "{\"query\":[1,0,0,0],\"params\":[]}");
    bad(400, "", "POST", "/collections/c/points/scroll", "{\"filter\":{\"mist\":[]}}");
    bad(422, "", "POST", "/collections/c/points/scroll",
        "{\"filter\":{\"must\":[{\"key\":\"a\"}]}}");
    bad(400, "Format error in JSON body: missing field `limit`", "POST",
        "/collections/c/points/search", "{\"vector\":[1,0,0,0]}");
    ok("POST", "/collections/c/points/count", "{}", "{\"count\":2}");
}

static void
empty_and_huge_batches(void **state)
{
    (void)state;
    bad(422, "must specify vectors to update for point", "PUT", "/collections/c/points/vectors",
        "{\"points\":[{\"id\":1,\"vector\":{}}]}");
    bad(400, "", UPSERT, "{\"points\":[]}");
    bad(400, "", UPSERT, "{}");

    enum { COUNT = 70000 };
    ort_buf body = {0};
    ort_buf_puts(&body, "{\"points\":[");
    for (int i = 0; i < COUNT; i++) {
        ort_buf_printf(&body, "%s{\"id\":%d,\"vector\":[1,2,3,4]}", i == 0 ? "" : ",", i + 100);
    }
    ort_buf_puts(&body, "]}");
    bad(422, "Validation error in JSON body: [points: ", UPSERT, ort_buf_peek_cstr(&body));
    ort_buf_clear(&body);
    ort_buf_puts(&body, "{\"searches\":[");
    for (int i = 0; i < 2000; i++) {
        ort_buf_printf(&body, "%s{\"query\":1}", i == 0 ? "" : ",");
    }
    ort_buf_puts(&body, "]}");
    bad(400, "Bad request: ", "POST", "/collections/c/points/query/batch",
        ort_buf_peek_cstr(&body));
    ort_buf_fini(&body);
    ok("POST", "/collections/c/points/count", "{}", "{\"count\":2}");
}

static void
ids_of_every_wrong_kind_are_refused(void **state)
{
    static const char *const wrong[] = {
        "-1",
        "1.0",
        "1.5",
        "1e3",
        "18446744073709551616",
        "\"\"",
        "\"1\"",
        "\"seven\"",
        "\"550e8400-e29b-41d4-a716-44665544000\"",
        "\"550e8400-e29b-41d4-a716-44665544000g\"",
        "\"../../etc/passwd\"",
        "null",
        "true",
        "[]",
        "{}",
        "\"\\u0000\"",
    };
    (void)state;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char body[256];
        snprintf(body, sizeof body, "{\"points\":[{\"id\":%s,\"vector\":[1,2,3,4]}]}", wrong[i]);
        bad(400, "\"error\"", UPSERT, body);
        snprintf(body, sizeof body, "{\"ids\":[%s]}", wrong[i]);
        bad(400, "\"error\"", "POST", "/collections/c/points", body);
        snprintf(body, sizeof body, "{\"points\":[%s]}", wrong[i]);
        bad(400, "\"error\"", "POST", "/collections/c/points/delete?wait=true", body);
    }
    bad(400, "\"error\"", "GET", "/collections/c/points/-1", NULL);
    bad(400, "\"error\"", "GET", "/collections/c/points/%2e%2e%2fx", NULL);
    ok("POST", "/collections/c/points/count", "{}", "{\"count\":2}");
}

/* Names never become paths, and odd ones are refused all the same. */
static void
names_that_look_like_paths_are_refused(void **state)
{
    static const char *const wrong[] = {
        "/collections/a%2fb", "/collections/a%5Cb", "/collections/%2e%2e", "/collections/a%3fb",
        "/collections/a%2ab", "/collections/a%3cb", "/collections/a%22b",  "/collections/a%1fb",
        "/collections/a%3Ab", "/collections/a%7Cb", "/collections/%2e",
    };
    (void)state;
    const char *create = "{\"vectors\":{\"size\":4,\"distance\":\"Dot\"}}";

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        test_answer a = test_request(node.port, KEY, "PUT", wrong[i], create);
        if (a.status != 400 && a.status != 422 && a.status != 404) {
            fail_msg("%s: %d %s", wrong[i], a.status, a.body);
        }
        test_answer_fini(&a);
    }
    /* NUL and bad UTF-8 do not get as far as a name. */
    bad(400, "", "PUT", "/collections/a%00b", create);
    bad(400, "", "PUT", "/collections/a%ff", create);
    bad(400, "", "PUT", "/collections/a%zz", create);
    char long_name[400];
    memset(long_name, 'x', sizeof long_name);
    memcpy(long_name, "/collections/", 13);
    long_name[13 + 256] = '\0';
    test_answer a = test_request(node.port, KEY, "PUT", long_name, create);
    assert_true(a.status == 400 || a.status == 422);
    test_answer_fini(&a);
    long_name[13 + 255] = '\0';
    ok("PUT", long_name, create, "\"result\":true");
    ok("DELETE", long_name, NULL, "\"result\":true");
    /* Odd but allowed: it comes back as it went in. */
    ok("PUT", "/collections/%C3%A9%20%25", create, "\"result\":true");
    ok("GET", "/collections", NULL, "{\"name\":\"\xc3\xa9 %\"}");
    ok("DELETE", "/collections/%C3%A9%20%25", NULL, "\"result\":true");
}

static void
query_parameters_are_checked(void **state)
{
    const char *body = "{\"points\":[{\"id\":3,\"vector\":[1,2,3,4]}]}";
    (void)state;
    bad(400, "Deserialize error in query parameters: ", "PUT", "/collections/c/points?wait=maybe",
        body);
    bad(400, "Deserialize error in query parameters: ", "PUT",
        "/collections/c/points?ordering=never", body);
    bad(422,
        "Validation error in query parameters: [timeout: value 0 invalid, must be 1 or larger]",
        "POST", "/collections/c/points/query?timeout=0", "{}");
    bad(400, "Deserialize error in query parameters: ", "POST",
        "/collections/c/points/query?consistency=some", "{}");
    ok("POST", "/collections/c/points/query?consistency=quorum&timeout=3", "{}", "\"points\"");
    ok("POST", "/collections/c/points/query?consistency=&unknown=1", "{}", "\"points\"");
}

static void
a_body_over_the_limit_is_refused(void **state)
{
    (void)state;
    const size_t len = 5u << 20;
    char *body = malloc(len + 1);
    assert_non_null(body);
    memset(body, ' ', len);
    body[len] = '\0';
    test_answer a = test_request_n(node.port, KEY, UPSERT, body, len);
    assert_int_equal(a.status, 400);
    assert_non_null(strstr(a.body, "Payload error: "));
    test_answer_fini(&a);
    free(body);
    bad(400, "", UPSERT, "{");
}

static void
unknown_methods_and_paths(void **state)
{
    (void)state;
    test_answer a = test_request(node.port, KEY, "GET", "/nothing/here", NULL);
    assert_int_equal(a.status, 404);
    assert_int_equal(a.body_len, 0);
    test_answer_fini(&a);
    a = test_request(node.port, KEY, "DELETE", "/collections/c/points/query", NULL);
    assert_int_equal(a.status, 405);
    test_answer_fini(&a);
    a = test_request(node.port, KEY, "BREW", "/collections/c", NULL);
    assert_in_range(a.status, 400, 501);
    test_answer_fini(&a);
}

/* A body that comes a byte at a time, and one that never comes: both end within the limits, and
 * hold nobody up meanwhile. */
static void
slow_and_half_open_senders_are_cut(void **state)
{
    (void)state;
    char head[512];
    node.impatient = true;
    test_node_restart(&node);
    snprintf(
        head, sizeof head,
        "PUT /collections/c/points HTTP/1.1\r\nHost: t\r\napi-key: %s\r\nContent-Length: 100000\r\n"
        "\r\n",
        KEY);
    const int silent = test_connect(node.port);
    const int half = test_connect(node.port);
    const int slow = test_connect(node.port);
    assert_true(test_send(silent, "GET / HT", 8));
    assert_true(test_send(half, head, strlen(head)));
    assert_true(test_send(slow, head, strlen(head)));
    const uint64_t begin = ort_mono_ms();
    bool cut = false;
    while (!cut && ort_mono_ms() - begin < 60000) {
        const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
        nanosleep(&pause, NULL);
        char peek;
        cut = !test_send(slow, " ", 1) || recv(slow, &peek, 1, MSG_DONTWAIT | MSG_PEEK) > 0;
        ok("GET", "/collections/c", NULL, "\"points_count\":2");
    }
    assert_true(cut);
    test_answer a = test_receive(half, 60000);
    assert_true(a.status == 0 || (a.status >= 400 && a.status < 500));
    test_answer_fini(&a);
    a = test_receive(silent, 60000);
    assert_true(a.status == 0 || a.status == 400 || a.status == 408);
    test_answer_fini(&a);
    close(silent);
    close(half);
    close(slow);
    node.impatient = false;
    test_node_restart(&node);
}

int
main(void)
{
#define T(test) cmocka_unit_test_setup(test, fresh)
    const struct CMUnitTest tests[] = {
        T(health_and_version_need_no_key),
        T(a_collection_answers_as_clients_expect),
        T(points_come_back_as_they_went_in),
        T(ids_of_every_right_kind),
        T(searches_old_and_new),
        T(queries_of_several_steps),
        T(hits_are_gathered_in_groups),
        T(facets_count_values),
        T(prefetch_bombs_are_refused),
        T(indexes_are_declared_and_shown),
        T(payloads_are_set_overwritten_deleted_cleared),
        T(a_batch_is_applied_in_order_or_not_at_all),
        T(columnar_upsert_and_delete_by_filter),
        T(malformed_and_truncated_json_is_refused),
        T(deep_nesting_is_refused),
        T(numbers_that_are_none_are_refused),
        T(wrong_dimensions_and_types_are_refused),
        T(empty_and_huge_batches),
        T(ids_of_every_wrong_kind_are_refused),
        T(names_that_look_like_paths_are_refused),
        T(query_parameters_are_checked),
        T(a_body_over_the_limit_is_refused),
        T(unknown_methods_and_paths),
        T(slow_and_half_open_senders_are_cut),
    };
    return cmocka_run_group_tests_name("data_api", tests, api_start, api_stop);
}
