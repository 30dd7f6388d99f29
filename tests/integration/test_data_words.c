/* What the API says word for word, and details that clients meet only at the edges: fixed texts,
 * names, spellings of UUIDs, settings that are taken and shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/json_read.h"
#include "data_api_support.h"

#define C "/collections/w"
#define QUERY "POST", C "/points/query"
#define COUNT "POST", C "/points/count"

#define U1 "550e8400-e29b-41d4-a716-446655440000"

static int
fresh(void **state)
{
    (void)state;
    free(test_call(node.port, KEY, 200, "DELETE", C, NULL));
    ok("PUT", C, "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"}}", "\"result\":true");
    ok("PUT", C "/points?wait=true",
       "{\"points\":[{\"id\":1,\"vector\":[1,0],\"payload\":{\"u\":\"" U1 "\",\"n\":1}},"
       "{\"id\":2,\"vector\":[0,1],\"payload\":{\"u\":\"550E8400-E29B-41D4-A716-446655440000\","
       "\"n\":2}},"
       "{\"id\":3,\"vector\":[1,1],\"payload\":{\"u\":[\"{" U1 "}\",\"urn:uuid:" U1 "\"]}},"
       "{\"id\":4,\"vector\":[1,1],\"payload\":{\"u\":\"550e8400e29b41d4a716446655440000\","
       "\"list\":[{\"u\":\"550E8400E29B41D4A716446655440000\"}]}},"
       "{\"id\":5,\"vector\":[1,1],\"payload\":{\"u\":\"00000000-0000-0000-0000-00000000000A\"}},"
       "{\"id\":6,\"vector\":[1,1],\"payload\":{\"u\":\"no uuid\"}}]}",
       "completed");
    return 0;
}

/* Tools tell the API by its title, and clients what it can by its version. */
static void
the_root_names_the_api(void **state)
{
    (void)state;
    test_expect(node.port, NULL, 200,
                "{\"title\":\"qdrant - vector search engine\",\"version\":\"1.18.", "GET", "/",
                NULL);
}

static void
a_threshold_needs_scores(void **state)
{
    static const char none[] = "Bad request: A query is needed to use the score_threshold. Can't "
                               "have score_threshold without defining a query.";
    static const char ordered[] = "Bad request: Can't use score_threshold with an order_by query.";

    (void)state;
    bad(400, none, QUERY, "{\"score_threshold\":0.5}");
    bad(400, none, QUERY, "{\"score_threshold\":0.5,\"filter\":{}}");
    bad(400, none, QUERY, "{\"prefetch\":{\"score_threshold\":1},\"query\":{\"fusion\":\"rrf\"}}");
    bad(400, none, "POST", C "/points/query/batch",
        "{\"searches\":[{\"query\":[1,0]},{\"score_threshold\":1}]}");
    bad(400, none, "POST", C "/points/query/groups", "{\"score_threshold\":1,\"group_by\":\"n\"}");
    ok("PUT", C "/index?wait=true", "{\"field_name\":\"n\",\"field_schema\":\"integer\"}",
       "completed");
    bad(400, ordered, QUERY, "{\"query\":{\"order_by\":\"n\"},\"score_threshold\":1}");
    ok(QUERY, "{\"query\":{\"sample\":\"random\"},\"score_threshold\":0.1}", "points");
    ok(QUERY, "{\"query\":[1,0],\"score_threshold\":null}", "points");
}

static void
bounds_are_told_with_their_place(void **state)
{
    (void)state;
    bad(422,
        "Validation error in JSON body: [query.mmr.candidates_limit: value 16385 invalid, must be "
        "16384 or smaller]",
        QUERY, "{\"query\":{\"nearest\":[1,0],\"mmr\":{\"candidates_limit\":16385}}}");
    bad(422, "[query.positives, negatives: At least one positive or negative vector/id must be",
        QUERY, "{\"query\":{\"recommend\":{\"strategy\":\"best_score\"}}}");
    bad(422, "number of ids and vectors must be equal (2 != 1)]", "PUT", C "/points",
        "{\"batch\":{\"ids\":[1,2],\"vectors\":{\"\":[[1,0]]}}}");
    bad(422,
        "Validation error in JSON body: [searches[1].limit: value 0 invalid, must be 1 or larger]",
        "POST", C "/points/query/batch", "{\"searches\":[{},{\"limit\":0}]}");
    bad(422, "Validation error in JSON body: [points[1].vector: must", "PUT", C "/points",
        "{\"points\":[{\"id\":1,\"vector\":[1,0]},{\"id\":2,\"vector\":[]}]}");
    bad(404, "{\"error\":\"Not found: Collection nowhere not found\"}", "POST",
        C "/points/query/batch",
        "{\"searches\":[{},{\"query\":1,\"lookup_from\":{\"collection\":\"nowhere\"}}]}");
    bad(422,
        "Validation error in query parameters: [timeout: value 0 invalid, must be 1 or larger]",
        "POST", C "/points/query?timeout=0", "{}");
}

/* What does not deserialize is told so, wherever it stands: ids, paths, rings. */
static void
what_is_malformed_is_told_so(void **state)
{
    static const char id[] =
        "Format error in JSON body: value x is not a valid point ID, valid values "
        "are either an unsigned integer or a UUID\"}";
    static const char path[] = "Format error in JSON body: Invalid json path: 'a..b'\"}";

    (void)state;
    bad(400, id, "PUT", C "/points", "{\"points\":[{\"id\":\"x\",\"vector\":[1,0]}]}");
    bad(400, id, "PUT", C "/points", "{\"batch\":{\"ids\":[\"x\"],\"vectors\":[[1,0]]}}");
    bad(400, id, "POST", C "/points/delete", "{\"points\":[\"x\"]}");
    bad(400, id, "POST", C "/points", "{\"ids\":[\"x\"]}");
    bad(400, id, "POST", C "/points/scroll", "{\"offset\":\"x\"}");
    bad(400, id, QUERY, "{\"query\":\"x\"}");
    bad(400, id, COUNT, "{\"filter\":{\"must\":[{\"has_id\":[\"x\"]}]}}");
    bad(400, path, COUNT, "{\"filter\":{\"must\":[{\"key\":\"a..b\",\"match\":{\"value\":1}}]}}");
    bad(400, path, QUERY, "{\"with_payload\":[\"a..b\"]}");
    bad(400, path, QUERY, "{\"query\":{\"order_by\":\"a..b\"}}");
    bad(400, path, "POST", C "/facet", "{\"key\":\"a..b\"}");
    bad(400, path, "POST", C "/points/query/groups", "{\"group_by\":\"a..b\"}");
    bad(400, path, "PUT", C "/index", "{\"field_name\":\"a..b\",\"field_schema\":\"keyword\"}");
    bad(400, path, "POST", C "/points/payload/delete", "{\"points\":[1],\"keys\":[\"a..b\"]}");
    bad(400, "Deserialize error in path parameters: Invalid json path: 'a..b'\"}", "DELETE",
        C "/index/a..b", NULL);
    bad(400, "Format error in JSON body: polygon invalid, the size must be at least 4, got 0",
        COUNT,
        "{\"filter\":{\"must\":[{\"key\":\"g\",\"geo_polygon\":{\"exterior\":{\"points\":[]}}}]}}");
}

/* 255 characters, however many bytes; the name stands in the path, so the path is what is wrong. */
static void
names_are_counted_in_characters(void **state)
{
    ort_buf name = {0}, target = {0};

    (void)state;
    for (int i = 0; i < 255; i++) {
        ort_buf_puts(&name, "%D1%8F");
    }
    ort_buf_printf(&target, "/collections/%s", ort_buf_peek_cstr(&name));
    ok("PUT", ort_buf_peek_cstr(&target), "{}", "\"result\":true");
    ok("GET", ort_buf_peek_cstr(&target), NULL, "\"status\":\"green\"");
    ok("DELETE", ort_buf_peek_cstr(&target), NULL, "\"result\":true");
    ort_buf_puts(&target, "x");
    bad(422, "Validation error in path parameters: [collection_name: value ", "PUT",
        ort_buf_peek_cstr(&target), "{}");
    bad(404, "Not found: Collection `", "GET", ort_buf_peek_cstr(&target), NULL);
    bad(422,
        "Validation error in path parameters: [collection_name: collection name cannot contain",
        "PUT", "/collections/a%3Ab", "{}");
    ort_buf_fini(&name);
    ort_buf_fini(&target);
}

/* What an error quotes is cut where it is long: at a character, or the answer is no JSON. */
static void
quotes_are_cut_between_characters(void **state)
{
    (void)state;
    for (int odd = 0; odd < 2; odd++) {
        ort_buf body = {0};
        ort_json_doc *doc;
        ort_buf_printf(&body, "{\"filter\":{\"%s", odd ? "a" : "");
        for (int i = 0; i < 200; i++) {
            ort_buf_puts(&body, "\xd1\x8f");
        }
        ort_buf_puts(&body, "\":1}}");
        char *answer = test_call(node.port, KEY, 400, COUNT, ort_buf_peek_cstr(&body));
        assert_int_equal(ort_json_parse(&doc, answer, strlen(answer), (ort_json_limits){0}, NULL),
                         ORT_OK);
        assert_non_null(strstr(answer, "unknown field"));
        ort_json_free(doc);
        free(answer);
        ort_buf_fini(&body);
    }
}

static void
counts(const char *match, int expected)
{
    char body[300], part[40];

    snprintf(body, sizeof body, "{\"filter\":{\"must\":[{\"key\":\"u\",\"match\":%s}]}}", match);
    snprintf(part, sizeof part, "\"count\":%d}", expected);
    ok(COUNT, body, part);
}

/* A UUID has one value and many spellings. Where the field is declared to hold UUIDs they are all
 * the same; before, a string is a string. */
static void
uuids_match_by_value_where_they_are_declared(void **state)
{
    static const char *const forms[] = {"\"" U1 "\"", "\"550E8400E29B41D4A716446655440000\"",
                                        "\"{550e8400-E29B-41d4-a716-446655440000}\"",
                                        "\"urn:uuid:" U1 "\""};
    char match[120];

    (void)state;
    counts("{\"value\":\"" U1 "\"}", 1);
    counts("{\"except\":[\"" U1 "\"]}", 5);
    ok("PUT", C "/index?wait=true", "{\"field_name\":\"u\",\"field_schema\":\"uuid\"}",
       "completed");
    ok("PUT", C "/index?wait=true", "{\"field_name\":\"list[].u\",\"field_schema\":\"uuid\"}",
       "completed");
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        snprintf(match, sizeof match, "{\"value\":%s}", forms[i]);
        counts(match, 4);
        snprintf(match, sizeof match, "{\"any\":[%s,\"no uuid\"]}", forms[i]);
        counts(match, 5);
        snprintf(match, sizeof match, "{\"except\":[%s]}", forms[i]);
        counts(match, 2);
    }
    counts("{\"value\":\"no uuid\"}", 1);
    counts("{\"prefix\":\"550E\"}", 1); /* of the text as it stands there */
    ok(COUNT,
       "{\"filter\":{\"must\":[{\"nested\":{\"key\":\"list\",\"filter\":{\"must\":[{\"key\":\"u\","
       "\"match\":{\"value\":\"" U1 "\"}}]}}}]}}",
       "\"count\":1}");
    ok("POST", C "/facet", "{\"key\":\"u\"}",
       "{\"hits\":[{\"value\":\"" U1 "\",\"count\":4},"
       "{\"value\":\"00000000-0000-0000-0000-00000000000a\",\"count\":1}]}");
    /* In order by value, whatever the case; a uuid is no number, so that no order_value stands
     * there. */
    ok("POST", C "/points/scroll", "{\"order_by\":\"u\",\"limit\":2,\"with_payload\":false}",
       "\"points\":[{\"id\":5},{\"id\":1}]");
    /* A write by such a filter finds the same points. */
    ok("POST", C "/points/delete?wait=true",
       "{\"filter\":{\"must\":[{\"key\":\"u\",\"match\":{\"value\":"
       "\"550E8400E29B41D4A716446655440000"
       "\"}}]}}",
       "completed");
    ok(COUNT, "{}", "\"count\":2}");
}

/* Settings without effect are told, in Qdrant's words; where there are none nothing is shown. */
static void
settings_without_effect_are_told(void **state)
{
    (void)state;
    char *answer = test_call(node.port, KEY, 200, "GET", C, NULL);
    assert_null(strstr(answer, "warnings"));
    free(answer);
    free(test_call(node.port, KEY, 200, "DELETE", C, NULL));
    ok("PUT", C,
       "{\"hnsw_config\":{\"inline_storage\":true},\"vectors\":{\"a\":{\"size\":2,\"distance\":"
       "\"Dot\"},\"m\":{\"size\":2,\"distance\":\"Dot\",\"multivector_config\":{\"comparator\":"
       "\"max_sim\"}},\"q\":{\"size\":2,\"distance\":\"Dot\",\"quantization_config\":{\"turbo\":{}}"
       "},"
       "\"off\":{\"size\":2,\"distance\":\"Dot\",\"hnsw_config\":{\"inline_storage\":false}}}}",
       "true");
    ok("GET", C, NULL,
       "\"warnings\":[{\"message\":\"The `hnsw_config.inline_storage` option for vector 'a' "
       "requires "
       "quantization to be enabled. This option will be ignored.\"},{\"message\":\"The "
       "`hnsw_config.inline_storage` option for vector 'm' is not compatible with multivectors. "
       "This "
       "option will be ignored.\"}]}");
}

/* turbo4 is taken, shown, searched and read back; halves are what it is read back as. */
static void
turbo4_vectors_are_searched_and_read_back(void **state)
{
    (void)state;
    free(test_call(node.port, KEY, 200, "DELETE", C, NULL));
    ok("PUT", C,
       "{\"vectors\":{\"i\":{\"size\":4,\"distance\":\"Cosine\",\"datatype\":\"turbo4\"},\"e\":{"
       "\"size\":4,\"distance\":\"Euclid\",\"datatype\":\"turbo4\",\"quantization_config\":{"
       "\"binary\":{\"always_ram\":true}}}}}",
       "true");
    ok("GET", C, NULL, "\"datatype\":\"turbo4\"");
    ok("PUT", C "/points?wait=true",
       "{\"points\":[{\"id\":1,\"vector\":{\"i\":[0.6,0,0.8,0],\"e\":[1,2,3,4]}},"
       "{\"id\":2,\"vector\":{\"i\":[0,1,0,0],\"e\":[-1,0.5,8,9]}}]}",
       "completed");
    ok(QUERY, "{\"query\":[0,2,0,0],\"using\":\"i\",\"limit\":1}",
       "[{\"id\":2,\"version\":1,\"score\":1.0}]");
    ok(QUERY, "{\"query\":[1,2,3,4],\"using\":\"e\",\"limit\":1,\"with_vector\":[\"e\"]}",
       "[{\"id\":1,\"version\":1,\"score\":0.0,\"vector\":{\"e\":[1.0,2.0,3.0,4.0]}}]");
}

static void
stopwords_of_every_language_are_taken(void **state)
{
    static const char *const languages[] = {
        "arabic",   "azerbaijani", "basque",   "bengali",   "catalan",    "chinese",
        "danish",   "dutch",       "english",  "finnish",   "french",     "german",
        "greek",    "hebrew",      "hinglish", "hungarian", "indonesian", "italian",
        "japanese", "kazakh",      "nepali",   "norwegian", "portuguese", "romanian",
        "russian",  "slovene",     "spanish",  "swedish",   "tajik",      "turkish"};
    char body[200];

    (void)state;
    for (size_t i = 0; i < sizeof languages / sizeof *languages; i++) {
        snprintf(
            body, sizeof body,
            "{\"field_name\":\"t%zu\",\"field_schema\":{\"type\":\"text\",\"stopwords\":\"%s\"}}",
            i, languages[i]);
        ok("PUT", C "/index?wait=true", body, "completed");
    }
    bad(400, "Format error in JSON body: field_schema: data did not match any variant", "PUT",
        C "/index",
        "{\"field_name\":\"t\",\"field_schema\":{\"type\":\"text\",\"stopwords\":\"klingon\"}}");
    ok("PUT", C "/index?wait=true",
       "{\"field_name\":\"s\",\"field_schema\":{\"type\":\"text\",\"stopwords\":{\"languages\":["
       "\"turkish\",\"greek\"],\"custom\":[\"deniz\"]}}}",
       "completed");
    ok("PUT", C "/points?wait=true",
       "{\"points\":[{\"id\":9,\"vector\":[1,0],\"payload\":{\"s\":\"deniz ve kara\"}}]}",
       "completed");
    ok(COUNT, "{\"filter\":{\"must\":[{\"key\":\"s\",\"match\":{\"text\":\"kara\"}}]}}",
       "\"count\":1}");
    ok(COUNT, "{\"filter\":{\"must\":[{\"key\":\"s\",\"match\":{\"text\":\"ve\"}}]}}",
       "\"count\":0}");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_root_names_the_api),
        cmocka_unit_test_setup(a_threshold_needs_scores, fresh),
        cmocka_unit_test_setup(bounds_are_told_with_their_place, fresh),
        cmocka_unit_test_setup(what_is_malformed_is_told_so, fresh),
        cmocka_unit_test(names_are_counted_in_characters),
        cmocka_unit_test_setup(quotes_are_cut_between_characters, fresh),
        cmocka_unit_test_setup(uuids_match_by_value_where_they_are_declared, fresh),
        cmocka_unit_test_setup(settings_without_effect_are_told, fresh),
        cmocka_unit_test_setup(turbo4_vectors_are_searched_and_read_back, fresh),
        cmocka_unit_test_setup(stopwords_of_every_language_are_taken, fresh),
    };
    return cmocka_run_group_tests(tests, api_start, api_stop);
}
