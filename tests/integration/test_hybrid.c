/* Words and vectors in one request, with nothing but the node: BM25 from text, weighed by the
 * tenant's own collection, fused with a dense search. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>

#include "support/test_node.h"

static test_node node;
static test_tenant tenants[2] = {{.name = "a"}, {.name = "b"}};

static int
start(void **state)
{
    (void)state;
    test_node_start(&node, tenants, 2);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    test_node_stop(&node);
    return 0;
}

#define KEY(t) (tenants[t].keys[0].token)

static void
ask(int tenant, int status, const char *part, const char *method, const char *target,
    const char *body)
{
    test_expect(node.port, KEY(tenant), status, part, method, target, body);
}

static void
make(int tenant)
{
    ask(tenant, 200, "result", "DELETE", "/collections/h", NULL);
    ask(tenant, 200, "true", "PUT", "/collections/h",
        "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"},\"sparse_vectors\":{\"bm25\":{\"modifier\":"
        "\"idf\"}}}");
}

static void
put(int tenant, unsigned id, const char *dense, const char *text, const char *kind)
{
    char body[512];
    snprintf(body, sizeof body,
             "{\"points\":[{\"id\":%u,\"vector\":{\"\":%s,\"bm25\":{\"text\":\"%s\",\"model\":"
             "\"qdrant/bm25\"}},\"payload\":{\"kind\":\"%s\"}}]}",
             id, dense, text, kind);
    ask(tenant, 200, "completed", "PUT", "/collections/h/points?wait=true", body);
}

/* The score of the best answer; *id_out is its id, 0 when there is none. */
static double
best(int tenant, const char *body, unsigned *id_out)
{
    char *text =
        test_call(node.port, KEY(tenant), 200, "POST", "/collections/h/points/query", body);
    json_t *answer = json_loads(text, 0, NULL);
    json_t *first = json_array_get(json_object_get(json_object_get(answer, "result"), "points"), 0);
    const double score = json_number_value(json_object_get(first, "score"));
    *id_out = (unsigned)json_integer_value(json_object_get(first, "id"));
    json_decref(answer);
    free(text);
    return score;
}

#define WORDS(text) \
    "{\"query\":{\"text\":\"" text "\",\"model\":\"Qdrant/bm25\"},\"using\":\"bm25\"}"

static void
one_request_is_a_hybrid_search(void **state)
{
    unsigned id;

    (void)state;
    make(0);
    put(0, 1, "[1,0]", "a treatise on steam engines", "book");
    put(0, 2, "[0.9,0.1]", "cooking with fire", "book");
    put(0, 3, "[0,1]", "the history of steam engines and other engines", "paper");
    best(0, WORDS("steam engine"), &id);
    assert_int_equal(id, 3); /* engines twice */
    best(0, WORDS("cook"), &id);
    assert_int_equal(id, 2); /* its stem */
    best(0,
         "{\"prefetch\":[{\"query\":[1,0],\"limit\":10},{\"query\":{\"text\":\"steam "
         "engine\",\"model\":"
         "\"qdrant/"
         "bm25\"},\"using\":\"bm25\",\"limit\":10}],\"query\":{\"fusion\":\"rrf\"},\"limit\":3}",
         &id);
    assert_int_equal(id, 1); /* first by vector, second by words */
    best(0, WORDS("the of and"), &id);
    assert_int_equal(id, 0); /* nothing but stopwords: nothing */
}

/* How rare a word is, is told by this collection alone: another tenant's flood of it changes
 * nothing. */
static void
term_statistics_stay_with_the_tenant(void **state)
{
    unsigned id;

    (void)state;
    make(0);
    make(1);
    put(0, 1, "[1,0]", "quartz", "x");
    put(0, 2, "[1,0]", "granite", "x");
    const double before = best(0, WORDS("quartz"), &id);
    assert_int_equal(id, 1);
    for (unsigned i = 1; i <= 20; i++) {
        put(1, i, "[1,0]", "quartz", "x");
    }
    const double after = best(0, WORDS("quartz"), &id);
    assert_true(before == after);
    /* In its own collection it does. */
    put(0, 3, "[1,0]", "quartz", "x");
    assert_true(best(0, WORDS("quartz"), &id) < before);
}

static void
rarity_can_be_told_by_a_part_of_the_collection(void **state)
{
    unsigned id;

    (void)state;
    make(0);
    put(0, 1, "[1,0]", "iron", "ore");
    put(0, 2, "[1,0]", "iron", "tool");
    put(0, 3, "[1,0]", "copper", "tool");
    put(0, 4, "[1,0]", "wood", "tool");
    const double all = best(0, WORDS("iron"), &id);
    const double tools =
        best(0,
             "{\"query\":{\"text\":\"iron\",\"model\":\"qdrant/bm25\"},\"using\":\"bm25\","
             "\"params\":{\"idf\":{\"corpus\":{\"must\":[{\"key\":\"kind\",\"match\":"
             "{\"value\":\"tool\"}}]}}}}",
             &id);
    /* ln((4 - 2 + 0.5) / 2.5 + 1) against ln((3 - 1 + 0.5) / 1.5 + 1). */
    assert_true(fabs(tools / all - log(1 + 2.5 / 1.5) / log(2)) < 1e-4);
    assert_true(best(0,
                     "{\"query\":{\"text\":\"iron\",\"model\":\"qdrant/bm25\"},\"using\":\"bm25\","
                     "\"params\":{\"idf\":\"global\"}}",
                     &id) == all);
    /* Its words are its own, and not those of the filter beside it, which has fewer. */
    ask(0, 200, "completed", "PUT", "/collections/h/index?wait=true",
        "{\"field_name\":\"kind\",\"field_schema\":\"text\"}");
    const double same =
        best(0,
             "{\"query\":{\"text\":\"iron\",\"model\":\"qdrant/bm25\"},\"using\":\"bm25\","
             "\"filter\":{\"must\":[{\"key\":\"kind\",\"match\":{\"text\":\"TOOL\"}}]},"
             "\"params\":{\"idf\":{\"corpus\":{\"should\":[{\"key\":\"kind\",\"match\":{\"text\":"
             "\"o\"}},"
             "{\"key\":\"kind\",\"match\":{\"text\":\"tools\"}},{\"key\":\"kind\",\"match\":{"
             "\"text_any\":"
             "\"TOOL x\"}}]}}}}",
             &id);
    assert_true(same == tools);
    ask(0, 400, "params.idf", "POST", "/collections/h/points/query",
        "{\"query\":{\"text\":\"iron\",\"model\":\"qdrant/"
        "bm25\"},\"using\":\"bm25\",\"params\":{\"idf\":7}}");
}

static void
other_models_are_refused_in_words(void **state)
{
    (void)state;
    make(0);
    ask(0, 400, "Unsupported inference model", "PUT", "/collections/h/points?wait=true",
        "{\"points\":[{\"id\":1,\"vector\":{\"bm25\":{\"text\":\"a\",\"model\":\"openai/x\"}}}]}");
    ask(0, 400, "No model turns text into the dense vector", "PUT",
        "/collections/h/points?wait=true",
        "{\"points\":[{\"id\":1,\"vector\":{\"\":{\"text\":\"a\",\"model\":\"qdrant/bm25\"}}}]}");
    ask(0, 200, "\"count\":0", "POST", "/collections/h/points/count", "{}");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_request_is_a_hybrid_search),
        cmocka_unit_test(term_statistics_stay_with_the_tenant),
        cmocka_unit_test(rarity_can_be_told_by_a_part_of_the_collection),
        cmocka_unit_test(other_models_are_refused_in_words),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
