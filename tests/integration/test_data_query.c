/* The query API over real connections: every kind of query on points whose answer can be computed
 * by hand, and the errors that clients know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data_api_support.h"

#define C "/collections/q"
#define QUERY "POST", C "/points/query"
#define SCROLL "POST", C "/points/scroll"

/* `q` has every kind of vector; the unnamed one is Dot, so that a likeness is seen at once. */
static int
fresh(void **state)
{
    (void)state;
    free(test_call(node.port, KEY, 200, "DELETE", C, NULL));
    ok("PUT", C,
       "{\"vectors\":{\"\":{\"size\":2,\"distance\":\"Dot\"},\"e\":{\"size\":2,\"distance\":"
       "\"Euclid\"},\"m\":{\"size\":2,\"distance\":\"Dot\",\"multivector_config\":{\"comparator\":"
       "\"max_sim\"}}},\"sparse_vectors\":{\"s\":{}}}",
       "\"result\":true");
    ok("PUT", C "/points?wait=true",
       "{\"points\":["
       "{\"id\":1,\"vector\":{\"\":[1,0],\"e\":[0,0],\"m\":[[1,0],[0,1]],\"s\":{\"indices\":[1],"
       "\"values\":[1]}},\"payload\":{\"n\":3,\"f\":0.5,\"t\":\"2024-01-01T00:00:00Z\",\"k\":\"a\","
       "\"at\":{\"lon\":13.4,\"lat\":52.5}}},"
       "{\"id\":2,\"vector\":{\"\":[0,1],\"e\":[3,4],\"m\":[[0,2]],\"s\":{\"indices\":[2],"
       "\"values\":[2]}},\"payload\":{\"n\":[1,3],\"f\":-1,\"t\":\"2024-01-02T00:00:00Z\"}},"
       "{\"id\":3,\"vector\":{\"\":[0.5,0.5],\"e\":[6,8],\"s\":{\"indices\":[1,2],\"values\":[1,1]}"
       "}"
       ",\"payload\":{\"n\":2,\"f\":7,\"t\":\"2024-01-03\"}},"
       "{\"id\":4,\"vector\":{\"\":[-1,0]},\"payload\":{\"n\":\"x\"}}]}",
       "completed");
    return 0;
}

static void
recommend_by_best_score_and_by_sums(void **state)
{
    (void)state;
    /* Likest to 1 is 3 (0.5): 0.5 * (0.5/1.5 + 1) = 2/3. */
    ok(QUERY, "{\"query\":{\"recommend\":{\"positive\":[1],\"strategy\":\"best_score\"}}}",
       "{\"result\":{\"points\":[{\"id\":3,\"version\":1,\"score\":0.6666667},{\"id\":2,");
    /* 4 is at -1 to 1 and at 0 to 2, which is a negative: -0.5; a tie goes to the negative. */
    ok(QUERY,
       "{\"query\":{\"recommend\":{\"positive\":[1],\"negative\":[2],\"strategy\":\"best_score\"}}"
       "}",
       "{\"id\":4,\"version\":1,\"score\":-0.5},{\"id\":3,\"version\":1,\"score\":-0.6666667}]");
    ok(QUERY,
       "{\"query\":{\"recommend\":{\"positive\":[[2,0]],\"negative\":[[0,3]],\"strategy\":"
       "\"sum_scores\"}}}",
       "[{\"id\":1,\"version\":1,\"score\":2.0},{\"id\":3,\"version\":1,\"score\":-0.5},{\"id\":4,"
       "\"version\":1,\"score\":-2.0},{\"id\":2,\"version\":1,\"score\":-3.0}]");
    /* Examples that push away alone. */
    ok(QUERY,
       "{\"query\":{\"recommend\":{\"negative\":[4],\"strategy\":\"best_score\"}},\"limit\":1}",
       "[{\"id\":1,\"version\":1,\"score\":-0.25}]");
    /* A likeness under Euclid is the negative square of the distance, and larger is better. */
    ok(QUERY,
       "{\"query\":{\"recommend\":{\"positive\":[1],\"strategy\":\"sum_scores\"}},\"using\":\"e\","
       "\"score_threshold\":-50}",
       "{\"points\":[{\"id\":2,\"version\":1,\"score\":-25.0}]}");
    ok(QUERY,
       "{\"query\":{\"recommend\":{\"positive\":[[[1,0]],1],\"strategy\":\"sum_scores\"}},"
       "\"using\":"
       "\"m\"}",
       "{\"points\":[{\"id\":2,\"version\":1,\"score\":2.0}]}");
    ok(QUERY,
       "{\"query\":{\"recommend\":{\"positive\":[{\"indices\":[2],\"values\":[1]}],\"negative\":[1]"
       ","
       "\"strategy\":\"sum_scores\"}},\"using\":\"s\"}",
       "[{\"id\":2,\"version\":1,\"score\":2.0},{\"id\":3,\"version\":1,\"score\":0.0}]");
    ok("POST", C "/points/recommend", "{\"negative\":[4],\"strategy\":\"best_score\",\"limit\":1}",
       "{\"result\":[{\"id\":1,\"version\":1,\"score\":-0.25}]");
    ok("POST", C "/points/recommend/batch",
       "{\"searches\":[{\"positive\":[1],\"limit\":1},{\"positive\":[2],\"limit\":1}]}",
       "{\"result\":[[{\"id\":3,");
    bad(400, "At least one positive vector ID required with this strategy", "POST",
        C "/points/recommend", "{\"negative\":[4],\"limit\":1}");
    bad(400, "At least one positive or negative", "POST", C "/points/recommend",
        "{\"strategy\":\"sum_scores\",\"limit\":1}");
    bad(422, "At least one positive or negative", QUERY,
        "{\"query\":{\"recommend\":{\"strategy\":\"best_score\"}}}");
    bad(400, "Format error", QUERY,
        "{\"query\":{\"recommend\":{\"positive\":[1],\"strategy\":\"x\"}}}");
    bad(404, "No point with id 9 found", QUERY,
        "{\"query\":{\"recommend\":{\"positive\":[1,9],\"strategy\":\"best_score\"}}}");
}

static void
averages_of_rows_and_of_sparse_vectors(void **state)
{
    (void)state;
    /* max_sim of rows (1,0), (0,1) and, turned around, (0,-2) with point 1: 1 + 1 + 0. */
    ok(QUERY,
       "{\"query\":{\"recommend\":{\"positive\":[[[1,0],[0,1]]],\"negative\":[2]}},\"using\":"
       "\"m\"}",
       "{\"points\":[{\"id\":1,\"version\":1,\"score\":2.0}]}");
    /* 2 * {1:1} - {2:2} with 3's {1:1, 2:1} is 0. */
    ok(QUERY, "{\"query\":{\"recommend\":{\"positive\":[1],\"negative\":[2]}},\"using\":\"s\"}",
       "{\"points\":[{\"id\":3,\"version\":1,\"score\":0.0}]}");
    /* Points without the vector are no examples, but must be there. */
    ok(QUERY, "{\"query\":{\"recommend\":{\"positive\":[1,4]}},\"using\":\"s\"}",
       "{\"points\":[{\"id\":3,\"version\":1,\"score\":1.0}]}");
    bad(400, "", QUERY, "{\"query\":{\"recommend\":{\"positive\":[[1,2,3]]}}}");
    bad(400, "", QUERY,
        "{\"query\":{\"recommend\":{\"positive\":[[1,2],[[1,2]]]}},\"using\":\"m\"}");
}

static void
discover_and_context(void **state)
{
    (void)state;
    /* 3 and 1 are on the positive side; s(target) is 0.5 and 1. */
    ok(QUERY,
       "{\"query\":{\"discover\":{\"target\":[1,0],\"context\":[{\"positive\":[1,0],\"negative\":"
       "[-1,0]}]}}}",
       "[{\"id\":1,\"version\":1,\"score\":1.75},{\"id\":3,\"version\":1,\"score\":1.6666667},"
       "{\"id\":2,\"version\":1,\"score\":0.5},{\"id\":4,\"version\":1,\"score\":-0.75}]");
    ok(QUERY, "{\"query\":{\"discover\":{\"target\":1,\"context\":null}},\"limit\":1}",
       "[{\"id\":3,\"version\":1,\"score\":0.6666667}]");
    /* 0 is best; 4 is on the wrong side by 2. */
    ok(QUERY, "{\"query\":{\"context\":{\"positive\":[1,0],\"negative\":[-1,0]}}}",
       "{\"points\":[{\"id\":1,\"version\":1,\"score\":0.0},{\"id\":3,\"version\":1,\"score\":0.0},"
       "{\"id\":2,\"version\":1,\"score\":-1.19209275e-7},{\"id\":4,\"version\":1,\"score\":-0."
       "66666");
    ok(QUERY, "{\"query\":{\"context\":[{\"positive\":1,\"negative\":4}]}}",
       "{\"points\":[{\"id\":3,\"version\":1,\"score\":0.0},{\"id\":2,");
    ok(QUERY,
       "{\"query\":{\"discover\":{\"target\":{\"indices\":[1],\"values\":[1]},\"context\":[]}},"
       "\"using\":\"s\",\"limit\":1,\"filter\":{\"must_not\":{\"has_id\":[1]}}}",
       "[{\"id\":3,\"version\":1,\"score\":0.75}]");
    ok("POST", C "/points/discover",
       "{\"target\":1,\"context\":[{\"positive\":2,\"negative\":4}],\"limit\":5}",
       "{\"result\":[{\"id\":3,\"version\":1,\"score\":1.6666667}]");
    ok("POST", C "/points/discover/batch",
       "{\"searches\":[{\"context\":[{\"positive\":1,\"negative\":4}],\"limit\":1},{\"target\":[0,"
       "1],"
       "\"limit\":1}]}",
       "{\"result\":[[{\"id\":3,\"version\":1,\"score\":0.0}],[{\"id\":2,");
    bad(400, "target and/or context_pairs must be specified", "POST", C "/points/discover",
        "{\"limit\":1}");
    bad(400, "missing field `negative`", QUERY, "{\"query\":{\"context\":[{\"positive\":1}]}}");
    bad(400, "missing field `target`", QUERY, "{\"query\":{\"discover\":{\"context\":[]}}}");
    bad(404, "No point with id 9 found", QUERY, "{\"query\":{\"discover\":{\"target\":9}}}");
    bad(404, "for point 4 not found", QUERY,
        "{\"query\":{\"discover\":{\"target\":4}},\"using\":\"e\"}");
}

static void
relevance_feedback_weighs_pairs(void **state)
{
    (void)state;
    /* One pair, (1) over (2), a difference of 0.5: 1 * s(target) + 0.5^2 * 4 * (s(1) - s(2)). */
    ok(QUERY,
       "{\"query\":{\"relevance_feedback\":{\"target\":[1,0],\"feedback\":[{\"example\":[0,1],"
       "\"score\":0.25},{\"example\":[1,0],\"score\":0.75}],\"strategy\":{\"naive\":{\"a\":1,\"b\":"
       "2,"
       "\"c\":4}}}}}",
       "[{\"id\":1,\"version\":1,\"score\":2.0},{\"id\":3,\"version\":1,\"score\":0.5},{\"id\":2,"
       "\"version\":1,\"score\":-1.0},{\"id\":4,\"version\":1,\"score\":-2.0}]");
    ok(QUERY,
       "{\"query\":{\"relevance_feedback\":{\"target\":1,\"feedback\":[{\"example\":2,\"score\":1}]"
       ","
       "\"strategy\":{\"naive\":{\"a\":2,\"b\":1,\"c\":1}}}}}",
       "{\"points\":[{\"id\":3,\"version\":1,\"score\":1.0},{\"id\":4,");
    bad(400, "FeedbackStrategy", QUERY,
        "{\"query\":{\"relevance_feedback\":{\"target\":1,\"feedback\":[],\"strategy\":{}}}}");
}

static void
index_fields(void)
{
    ok("PUT", C "/index?wait=true", "{\"field_name\":\"n\",\"field_schema\":\"integer\"}",
       "completed");
    ok("PUT", C "/index?wait=true", "{\"field_name\":\"f\",\"field_schema\":\"float\"}",
       "completed");
    ok("PUT", C "/index?wait=true", "{\"field_name\":\"t\",\"field_schema\":\"datetime\"}",
       "completed");
}

static void
points_in_the_order_of_a_field(void **state)
{
    (void)state;
    bad(400,
        "Wrong input: No range index for `order_by` key: `n`. Please create one to use `order_by`. "
        "Check https://qdrant.tech/documentation/concepts/indexing/#payload-index to see which "
        "payload schemas support Range conditions",
        SCROLL, "{\"order_by\":\"n\"}");
    index_fields();
    /* A point stands there once for each value. */
    ok(SCROLL, "{\"order_by\":\"n\",\"with_payload\":false}",
       "{\"points\":[{\"id\":2,\"order_value\":1},{\"id\":3,\"order_value\":2},{\"id\":1,"
       "\"order_value\":3},{\"id\":2,\"order_value\":3}],\"next_page_offset\":null}");
    ok(SCROLL,
       "{\"order_by\":{\"key\":\"n\",\"direction\":\"desc\",\"start_from\":2},\"with_payload\":"
       "false}",
       "{\"points\":[{\"id\":3,\"order_value\":2},{\"id\":2,\"order_value\":1}]");
    ok(SCROLL,
       "{\"order_by\":{\"key\":\"n\",\"start_from\":2.5},\"with_payload\":false,\"limit\":1}",
       "{\"points\":[{\"id\":1,\"order_value\":3}]");
    ok(SCROLL, "{\"order_by\":{\"key\":\"f\",\"direction\":\"desc\"},\"with_payload\":[\"f\"]}",
       "{\"points\":[{\"id\":3,\"payload\":{\"f\":7},\"order_value\":7.0},{\"id\":1,");
    ok(SCROLL,
       "{\"order_by\":{\"key\":\"t\",\"start_from\":\"2024-01-02T00:00:00+00:00\"},\"with_"
       "payload\":"
       "false}",
       "{\"points\":[{\"id\":2,\"order_value\":1704153600000000},{\"id\":3,");
    ok(QUERY, "{\"query\":{\"order_by\":\"f\"},\"limit\":2,\"offset\":1}",
       "{\"points\":[{\"id\":1,\"version\":1,\"score\":1.0,\"order_value\":0.5},{\"id\":3,");
    ok(QUERY,
       "{\"prefetch\":{\"query\":[1,0],\"limit\":2},\"query\":{\"order_by\":{\"key\":\"n\"}}}",
       "{\"points\":[{\"id\":3,\"version\":1,\"score\":1.0,\"order_value\":2},{\"id\":1,");
    ok(QUERY, "{\"prefetch\":{\"query\":{\"order_by\":\"f\"},\"limit\":2},\"query\":[1,0]}",
       "{\"points\":[{\"id\":1,\"version\":1,\"score\":1.0},{\"id\":2,");
    bad(400, "Wrong input: Cannot use an `offset` when using `order_by`.", SCROLL,
        "{\"order_by\":\"n\",\"offset\":1}");
    bad(400, "Bad request: Can't use score_threshold with an order_by query.", QUERY,
        "{\"query\":{\"order_by\":\"n\"},\"score_threshold\":1}");
    bad(400, "StartFrom", SCROLL, "{\"order_by\":{\"key\":\"n\",\"start_from\":\"x\"}}");
    bad(400, "Format error", SCROLL, "{\"order_by\":{\"key\":\"n\",\"direction\":\"up\"}}");
    bad(400, "No range index", SCROLL, "{\"order_by\":\"k\"}");
    ok("PUT", C "/index?wait=true",
       "{\"field_name\":\"n\",\"field_schema\":{\"type\":\"integer\",\"range\":false,\"lookup\":"
       "true}}",
       "completed");
    bad(400, "No range index", SCROLL, "{\"order_by\":\"n\"}");
}

/* Every point comes up, none twice, none that the filter refuses. */
static void
points_at_random(void **state)
{
    bool seen[5] = {false};
    (void)state;
    ok(QUERY, "{\"query\":{\"sample\":\"random\"},\"limit\":100,\"offset\":7}", "\"id\":4");
    ok(QUERY, "{\"query\":{\"sample\":\"random\"},\"filter\":{\"must\":{\"has_id\":[3]}}}",
       "{\"points\":[{\"id\":3,\"version\":1,\"score\":1.0}]}");
    for (int i = 0; i < 200; i++) {
        char *text = test_call(node.port, KEY, 200, QUERY,
                               "{\"query\":{\"sample\":\"random\"},\"limit\":1}");
        const char *id = strstr(text, "\"id\":");
        assert_non_null(id);
        const int n = atoi(id + 5);
        assert_in_range(n, 1, 4);
        seen[n] = true;
        free(text);
        if (seen[1] && seen[2] && seen[3] && seen[4]) {
            break;
        }
    }
    assert_true(seen[1] && seen[2] && seen[3] && seen[4]);
    bad(400, "Format error", QUERY, "{\"query\":{\"sample\":\"all\"}}");
}

#define FORMULA(formula) "{\"prefetch\":{\"query\":[1,0]},\"query\":{\"formula\":" formula "}}"

static void
formulas_score_what_was_prefetched(void **state)
{
    (void)state;
    ok(QUERY, FORMULA("{\"sum\":[\"$score\",{\"key\":\"k\",\"match\":{\"value\":\"a\"}}]}"),
       "{\"points\":[{\"id\":1,\"version\":1,\"score\":2.0},{\"id\":3,\"version\":1,\"score\":0."
       "5}");
    ok(QUERY,
       "{\"prefetch\":[{\"query\":[1,0],\"limit\":1},{\"query\":[0,1],\"limit\":1}],\"query\":{"
       "\"formula\":{\"sum\":[{\"mult\":[2,\"$score[0]\"]},\"$score[1]\",\"f\"]},\"defaults\":{"
       "\"$score[1]\":10}}}",
       "{\"points\":[{\"id\":1,\"version\":1,\"score\":12.5},{\"id\":2,\"version\":1,\"score\":0.0}"
       "]}");
    ok(QUERY, FORMULA("{\"neg\":{\"abs\":{\"div\":{\"left\":\"$score\",\"right\":{\"sqrt\":4}}}}}"),
       "{\"points\":[{\"id\":2,\"version\":1,\"score\":");
    ok(QUERY,
       FORMULA(
           "{\"sum\":[{\"pow\":{\"base\":2,\"exponent\":3}},{\"exp\":0},{\"log10\":100},{\"ln\":1},"
           "{\"div\":{\"left\":1,\"right\":0,\"by_zero_default\":4}}]}"),
       "\"score\":15.0}");
    /* A product ends at its first zero, a quotient at a zero above. */
    ok(QUERY, FORMULA("{\"mult\":[0,\"nowhere\"]}"), "\"score\":0.0}");
    ok(QUERY, FORMULA("{\"div\":{\"left\":0,\"right\":0}}"), "\"score\":0.0}");
    ok(QUERY,
       "{\"prefetch\":{\"filter\":{\"must\":{\"has_id\":[1,2]}}},\"query\":{\"formula\":{"
       "\"geo_distance\":{\"origin\":{\"lon\":13.4,\"lat\":52.5},\"to\":\"at\"}},\"defaults\":{"
       "\"at\":"
       "{\"lon\":13.4,\"lat\":53.5}}}}",
       "{\"points\":[{\"id\":2,\"version\":1,\"score\":111195.08},{\"id\":1,\"version\":1,"
       "\"score\":0.0}");
    /* A day away is a half. */
    ok(QUERY,
       "{\"prefetch\":{\"filter\":{\"must\":{\"has_id\":[1,2,3]}}},\"query\":{\"formula\":{"
       "\"exp_decay\":{\"x\":{\"datetime_key\":\"t\"},\"target\":{\"datetime\":\"2024-01-01\"},"
       "\"scale\":86400}}}}",
       "[{\"id\":1,\"version\":1,\"score\":1.0},{\"id\":2,\"version\":1,\"score\":0.5},{\"id\":3,"
       "\"version\":1,\"score\":0.25}]");
    ok(QUERY, FORMULA("{\"lin_decay\":{\"x\":1,\"scale\":4,\"midpoint\":0}}"), "\"score\":0.75}");
    ok(QUERY, FORMULA("{\"gauss_decay\":{\"x\":2,\"scale\":1,\"midpoint\":0.5}}"),
       "\"score\":0.0625}");
    ok(QUERY,
       "{\"prefetch\":{\"query\":[1,0]},\"query\":{\"formula\":\"$score\"},\"score_threshold\":0.5,"
       "\"limit\":1,\"offset\":1}",
       "{\"points\":[{\"id\":3,\"version\":1,\"score\":0.5}]}");
    /* A text index settles what a match of text means, here as in filters. */
    ok("POST", C "/points/payload?wait=true",
       "{\"payload\":{\"w\":\"quick brown fox\"},\"points\":[1]}", "completed");
    ok(QUERY, FORMULA("{\"key\":\"w\",\"match\":{\"text\":\"fox quick\"}}"),
       "{\"id\":1,\"version\":2,\"score\":0.0}");
    ok("PUT", C "/index?wait=true", "{\"field_name\":\"w\",\"field_schema\":\"text\"}",
       "completed");
    ok(QUERY, FORMULA("{\"key\":\"w\",\"match\":{\"text\":\"fox quick\"}}"),
       "{\"id\":1,\"version\":2,\"score\":1.0}");
    ok(QUERY, FORMULA("{\"has_vector\":\"e\"}"), "{\"id\":4,\"version\":1,\"score\":0.0}]");
}

static void
formulas_say_what_is_wrong(void **state)
{
    (void)state;
    bad(400, "cannot apply Formula without prefetches", QUERY, "{\"query\":{\"formula\":1}}");
    bad(400,
        "Wrong input: Expected number value for nowhere in the payload and/or in the formula "
        "defaults. Error: No value found in a payload nor defaults",
        QUERY, FORMULA("\"nowhere\""));
    bad(400, "Error: Value is not a number", QUERY, FORMULA("\"n\""));
    bad(400, "Expected geo point value for k", QUERY,
        "{\"prefetch\":{\"filter\":{\"must\":{\"has_id\":[1]}}},\"query\":{\"formula\":{"
        "\"geo_distance\":{\"origin\":{\"lon\":1,\"lat\":1},\"to\":\"k\"}}}}");
    bad(400, "Wrong input: The expression 1/0 = inf produced a non-finite number", QUERY,
        FORMULA("{\"div\":{\"left\":1,\"right\":0}}"));
    bad(400, "The expression √-4 = ", QUERY, FORMULA("{\"sqrt\":-4}"));
    bad(400, "The expression ln(0) = -inf produced", QUERY, FORMULA("{\"ln\":0}"));
    bad(400, "produced a non-finite number", QUERY, FORMULA("{\"exp\":10000}"));
    bad(400, "Decay midpoint should be in the range (0.0, 1.0), got 1.", QUERY,
        FORMULA("{\"exp_decay\":{\"x\":1,\"midpoint\":1}}"));
    bad(400, "Decay scale should be non-zero positive", QUERY,
        FORMULA("{\"lin_decay\":{\"x\":1,\"scale\":0}}"));
    bad(400, "Invalid reserved variable: $nothing", QUERY, FORMULA("\"$nothing\""));
    bad(400, "Format error", QUERY, FORMULA("{\"sum\":1}"));
    bad(400, "Format error", QUERY, FORMULA("[1]"));
    bad(400, "Format error", QUERY, FORMULA("{\"unknown\":1}"));
    bad(422, "Score default must be a number", QUERY,
        "{\"prefetch\":{\"query\":[1,0]},\"query\":{\"formula\":1,\"defaults\":{\"$score\":\"x\"}}"
        "}");
    ort_buf body = {0};
    ort_buf_puts(&body, "{\"prefetch\":{\"query\":[1,0]},\"query\":{\"formula\":{\"sum\":[");
    for (int i = 0; i < 2000; i++) {
        ort_buf_printf(&body, "%s\"$score\"", i > 0 ? "," : "");
    }
    ort_buf_puts(&body, "]}}}");
    bad(400, "the formula has more than 1024 terms", QUERY, ort_buf_peek_cstr(&body));
    ort_buf_fini(&body);
}

static void
vectors_of_another_collection(void **state)
{
    (void)state;
    free(test_call(node.port, KEY, 200, "DELETE", "/collections/other", NULL));
    ok("PUT", "/collections/other",
       "{\"vectors\":{\"v\":{\"size\":2,\"distance\":\"Dot\"},\"w\":{\"size\":3,\"distance\":"
       "\"Dot\"}}}",
       "true");
    ok("PUT", "/collections/other/points?wait=true",
       "{\"points\":[{\"id\":1,\"vector\":{\"v\":[0,1]}},{\"id\":7,\"vector\":{\"v\":[-2,0],\"w\":"
       "[1,2,3]}}]}",
       "completed");
    /* Point 1 there is none of here: it stays in the answer. */
    ok(QUERY,
       "{\"query\":1,\"lookup_from\":{\"collection\":\"other\",\"vector\":\"v\"},\"limit\":1}",
       "{\"points\":[{\"id\":2,\"version\":1,\"score\":1.0}]}");
    ok(QUERY,
       "{\"query\":{\"recommend\":{\"positive\":[7]}},\"lookup_from\":{\"collection\":\"other\","
       "\"vector\":\"v\"},\"limit\":1}",
       "{\"points\":[{\"id\":4,\"version\":1,\"score\":2.0}]}");
    ok(QUERY,
       "{\"prefetch\":{\"query\":{\"discover\":{\"target\":7,\"context\":[]}},\"lookup_from\":{"
       "\"collection\":\"other\",\"vector\":\"v\"},\"limit\":1},\"query\":[1,0]}",
       "{\"points\":[{\"id\":4,\"version\":1,\"score\":-1.0}]}");
    ok("POST", C "/points/recommend",
       "{\"positive\":[7],\"limit\":1,\"lookup_from\":{\"collection\":\"other\",\"vector\":\"v\"}}",
       "{\"result\":[{\"id\":4,");
    bad(404, "Not found: Collection nowhere not found", QUERY,
        "{\"query\":1,\"lookup_from\":{\"collection\":\"nowhere\"}}");
    bad(400, "Not existing vector name error: x", QUERY,
        "{\"query\":1,\"lookup_from\":{\"collection\":\"other\",\"vector\":\"x\"}}");
    bad(400, "Vector dimension error: expected dim: 2, got 3", QUERY,
        "{\"query\":7,\"lookup_from\":{\"collection\":\"other\",\"vector\":\"w\"}}");
    bad(404, "No point with id 2 found", QUERY,
        "{\"query\":2,\"lookup_from\":{\"collection\":\"other\",\"vector\":\"v\"}}");
    ok("DELETE", "/collections/other", NULL, "true");
}

/* An id that any step names is no answer of any other. */
static void
named_points_are_left_out_everywhere(void **state)
{
    (void)state;
    ok(QUERY, "{\"prefetch\":[{\"query\":1},{\"query\":[1,0]}],\"query\":{\"fusion\":\"rrf\"}}",
       "{\"points\":[{\"id\":3,");
    ok(QUERY,
       "{\"prefetch\":{\"prefetch\":{\"query\":{\"recommend\":{\"positive\":[1]}}},\"query\":[1,0]}"
       ","
       "\"query\":{\"context\":[{\"positive\":3,\"negative\":2}]}}",
       "{\"points\":[{\"id\":4,\"version\":1,\"score\":-0.3333");
}

static void
matrices_of_samples(void **state)
{
    (void)state;
    ok("POST", C "/points/search/matrix/pairs",
       "{\"sample\":10,\"limit\":1,\"filter\":{\"must\":{\"has_id\":[1,3,4]}}}",
       "{\"result\":{\"pairs\":[{\"a\":1,\"b\":3,\"score\":0.5},{\"a\":3,\"b\":1,\"score\":0.5},{"
       "\"a\":4,"
       "\"b\":3,\"score\":-0.5}]}");
    ok("POST", C "/points/search/matrix/offsets", "{\"using\":\"e\",\"limit\":2}",
       "{\"result\":{\"offsets_row\":[0,0,1,1,2,2],\"offsets_col\":[1,2,0,2,1,0],\"scores\":[5.0,"
       "10.0,"
       "5.0,5.0,5.0,10.0],\"ids\":[1,2,3]}");
    ok("POST", C "/points/search/matrix/pairs", "{\"using\":\"s\",\"limit\":1}",
       "{\"a\":3,\"b\":2,\"score\":2.0}");
    ok("POST", C "/points/search/matrix/pairs", "{\"using\":\"m\",\"limit\":1}",
       "{\"pairs\":[{\"a\":1,\"b\":2,\"score\":2.0},{\"a\":2,\"b\":1,\"score\":2.0}]}");
    ok("POST", C "/points/search/matrix/offsets",
       "{\"sample\":999999999,\"limit\":999999999,\"filter\":{\"must\":{\"has_id\":[1]}}}",
       "{\"offsets_row\":[],\"offsets_col\":[],\"scores\":[],\"ids\":[]}");
    bad(422, "sample: value 1 invalid, must be 2 or larger", "POST",
        C "/points/search/matrix/pairs", "{\"sample\":1}");
    bad(400, "Not existing vector name error: x", "POST", C "/points/search/matrix/pairs",
        "{\"using\":\"x\"}");
}

/* Diversity counts for every kind of vector. */
static void
spread_over_rows_and_sparse_vectors(void **state)
{
    (void)state;
    ok(QUERY,
       "{\"query\":{\"nearest\":{\"indices\":[1,2],\"values\":[1,0.6]},\"mmr\":{\"diversity\":0.9}}"
       ","
       "\"using\":\"s\",\"limit\":2}",
       "[{\"id\":3,");
    ok(QUERY, "{\"query\":{\"nearest\":[[1,0],[0,1]],\"mmr\":{\"diversity\":0.1}},\"using\":\"m\"}",
       "{\"points\":[{\"id\":1,\"version\":1,\"score\":2.0},{\"id\":2,\"version\":1,\"score\":2.0}]"
       "}");
    ok(QUERY, "{\"query\":{\"nearest\":1,\"mmr\":{}},\"using\":\"e\",\"limit\":1}",
       "{\"points\":[{\"id\":2,\"version\":1,\"score\":5.0}]}");
    bad(404, "for point 4 not found", QUERY, "{\"query\":4,\"using\":\"e\"}");
    bad(422, "query.mmr.candidates_limit: value 0 invalid", QUERY,
        "{\"query\":{\"nearest\":1,\"mmr\":{\"candidates_limit\":0}}}");
}

/* Multivectors under Euclid: the root of the sum of squares, as Qdrant answers. */
static void
rows_under_euclid(void **state)
{
    (void)state;
    free(test_call(node.port, KEY, 200, "DELETE", "/collections/r", NULL));
    ok("PUT", "/collections/r",
       "{\"vectors\":{\"size\":2,\"distance\":\"Euclid\",\"multivector_config\":{\"comparator\":"
       "\"max_sim\"}}}",
       "true");
    ok("PUT", "/collections/r/points?wait=true",
       "{\"points\":[{\"id\":1,\"vector\":[[0,3],[9,9]]}]}", "completed");
    ok("POST", "/collections/r/points/query", "{\"query\":[[0,0],[4,3]]}", "\"score\":5.0}");
    ok("DELETE", "/collections/r", NULL, "true");
}

static void
groups_of_every_form(void **state)
{
    (void)state;
    ok("POST", C "/points/recommend/groups",
       "{\"positive\":[1],\"strategy\":\"best_score\",\"group_by\":\"n\",\"limit\":5,\"group_"
       "size\":1}",
       "{\"result\":{\"groups\":[{\"id\":2,\"hits\":[{\"id\":3,\"version\":1,\"score\":0.6666667}]"
       "}");
    ok("POST", C "/points/query/groups",
       "{\"query\":{\"discover\":{\"target\":[1,0],\"context\":[]}},\"group_by\":\"k\"}",
       "{\"groups\":[{\"id\":\"a\",\"hits\":[{\"id\":1,");
}

/* What a search may be told beside its vector. */
static void
search_params_are_checked(void **state)
{
    (void)state;
    ok(QUERY,
       "{\"query\":[1,0],\"limit\":1,\"params\":{\"quantization\":{\"ignore\":false,\"rescore\":"
       "true,"
       "\"oversampling\":2.0},\"acorn\":{\"enable\":true,\"max_selectivity\":0.4},\"exact\":true,"
       "\"indexed_only\":false,\"hnsw_ef\":128}}",
       "{\"points\":[{\"id\":1,");
    bad(422, "params.hnsw_ef: value 0 invalid", QUERY,
        "{\"query\":[1,0],\"params\":{\"hnsw_ef\":0}}");
    bad(422, "oversampling: value 0.5 invalid, must be 1.0 or larger", QUERY,
        "{\"query\":[1,0],\"params\":{\"quantization\":{\"oversampling\":0.5}}}");
    bad(400, "Format error", QUERY,
        "{\"query\":[1,0],\"params\":{\"quantization\":{\"ignore\":\"x\"}}}");
    bad(422, "max_selectivity: value 2 invalid", QUERY,
        "{\"query\":[1,0],\"params\":{\"acorn\":{\"max_selectivity\":2}}}");
}

/* Sixty-four prefetches, one in the other, each in a list: run; one more is one too many. */
static void
prefetches_nest_to_the_bound(void **state)
{
    (void)state;
    for (int depth = 64; depth <= 65; depth++) {
        ort_buf body = {0};
        for (int i = 0; i < depth; i++) {
            ort_buf_puts(&body, "{\"query\":[1,0],\"prefetch\":[");
        }
        ort_buf_puts(&body, "{\"query\":[1,0]}");
        for (int i = 0; i < depth; i++) {
            ort_buf_puts(&body, "]}");
        }
        if (depth == 64) {
            ok(QUERY, ort_buf_peek_cstr(&body), "{\"points\":[{\"id\":1,");
        } else {
            bad(400, "nested deeper than 64", QUERY, ort_buf_peek_cstr(&body));
        }
        ort_buf_fini(&body);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(recommend_by_best_score_and_by_sums, fresh),
        cmocka_unit_test_setup(averages_of_rows_and_of_sparse_vectors, fresh),
        cmocka_unit_test_setup(discover_and_context, fresh),
        cmocka_unit_test_setup(relevance_feedback_weighs_pairs, fresh),
        cmocka_unit_test_setup(points_in_the_order_of_a_field, fresh),
        cmocka_unit_test_setup(points_at_random, fresh),
        cmocka_unit_test_setup(formulas_score_what_was_prefetched, fresh),
        cmocka_unit_test_setup(formulas_say_what_is_wrong, fresh),
        cmocka_unit_test_setup(vectors_of_another_collection, fresh),
        cmocka_unit_test_setup(named_points_are_left_out_everywhere, fresh),
        cmocka_unit_test_setup(matrices_of_samples, fresh),
        cmocka_unit_test_setup(spread_over_rows_and_sparse_vectors, fresh),
        cmocka_unit_test_setup(rows_under_euclid, fresh),
        cmocka_unit_test_setup(groups_of_every_form, fresh),
        cmocka_unit_test_setup(search_params_are_checked, fresh),
        cmocka_unit_test_setup(prefetches_nest_to_the_bound, fresh),
    };
    return cmocka_run_group_tests(tests, api_start, api_stop);
}
