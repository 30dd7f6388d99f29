/* Filters: what matches, what is refused and in which words, and agreement with a naive evaluator
 * that interprets the JSON of filter and payload directly, with another library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "filter/filter.h"
#include "filter/path.h"

static ort_err
parse(dp_filter **out, const char *text, ort_diag *diag)
{
    ort_json_doc *doc;
    assert_int_equal(ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, diag), ORT_OK);
    const ort_err err = dp_filter_parse(out, ort_json_root(doc), "filter", diag);
    ort_json_free(doc);
    return err;
}

static bool
has_named(void *ctx, const char *name)
{
    return strcmp(ctx, name) == 0;
}

static bool
matches(const char *filter_text, const char *payload)
{
    dp_filter *filter;
    ort_diag diag;
    if (parse(&filter, filter_text, &diag) != ORT_OK) {
        fail_msg("%s: %s", filter_text, diag.text);
    }
    const dp_filter_point point = {.id = ort_point_id_of(7),
                                   .payload = payload,
                                   .payload_len = strlen(payload),
                                   .has_vector = has_named,
                                   .ctx = "image"};
    const bool yes = dp_filter_match(filter, &point);
    dp_filter_free(filter);
    return yes;
}

/* One condition, one payload, the answer. */
static void
conditions_match_type_strictly(void **state)
{
    static const struct {
        const char *condition, *payload;
        bool yes;
    } rows[] = {
        {"{\"key\":\"a\",\"match\":{\"value\":1}}", "{\"a\":1}", true},
        {"{\"key\":\"a\",\"match\":{\"value\":1}}", "{\"a\":\"1\"}", false},
        {"{\"key\":\"a\",\"match\":{\"value\":\"1\"}}", "{\"a\":1}", false},
        {"{\"key\":\"a\",\"match\":{\"value\":1}}", "{\"a\":1.0}", false},
        {"{\"key\":\"a\",\"match\":{\"value\":1}}", "{\"a\":[3,2,1]}", true},
        {"{\"key\":\"a\",\"match\":{\"value\":1}}", "{\"a\":[[1]]}", false},
        {"{\"key\":\"a\",\"match\":{\"value\":true}}", "{\"a\":true}", true},
        {"{\"key\":\"a\",\"match\":{\"value\":true}}", "{\"a\":1}", false},
        {"{\"key\":\"a\",\"match\":{\"value\":9223372036854775807}}", "{\"a\":9223372036854775807}",
         true},
        {"{\"key\":\"a\",\"match\":{\"value\":9223372036854775806}}", "{\"a\":9223372036854775807}",
         false},
        {"{\"key\":\"a\",\"match\":{\"value\":\"\\u00e9\"}}", "{\"a\":\"é\"}", true},
        {"{\"key\":\"a\",\"match\":{\"any\":[]}}", "{\"a\":\"x\"}", false},
        {"{\"key\":\"a\",\"match\":{\"any\":[\"y\",\"x\"]}}", "{\"a\":\"x\"}", true},
        {"{\"key\":\"a\",\"match\":{\"any\":[3,1,2]}}", "{\"a\":[9,2]}", true},
        {"{\"key\":\"a\",\"match\":{\"any\":[3,1,2]}}", "{\"a\":4}", false},
        {"{\"key\":\"a\",\"match\":{\"except\":[]}}", "{\"a\":4}", true},
        {"{\"key\":\"a\",\"match\":{\"except\":[]}}", "{\"a\":null}", false},
        {"{\"key\":\"a\",\"match\":{\"except\":[]}}", "{}", false},
        {"{\"key\":\"a\",\"match\":{\"except\":[\"x\"]}}", "{\"a\":\"x\"}", false},
        {"{\"key\":\"a\",\"match\":{\"except\":[\"x\"]}}", "{\"a\":[\"x\",\"y\"]}", true},
        {"{\"key\":\"a\",\"match\":{\"except\":[1]}}", "{\"a\":\"x\"}", true},
        {"{\"key\":\"a\",\"match\":{\"except\":[1]}}", "{\"a\":1}", false},
        {"{\"key\":\"a\",\"match\":{\"text\":\"ell\"}}", "{\"a\":\"hello\"}", true},
        {"{\"key\":\"a\",\"match\":{\"text\":\"ELL\"}}", "{\"a\":\"hello\"}", false},
        {"{\"key\":\"a\",\"match\":{\"text\":\"\"}}", "{\"a\":\"\"}", true},
        {"{\"key\":\"a\",\"match\":{\"text_any\":\"zz ell\"}}", "{\"a\":\"hello\"}", true},
        {"{\"key\":\"a\",\"match\":{\"phrase\":\"lo w\"}}", "{\"a\":\"hello world\"}", true},
        {"{\"key\":\"a\",\"match\":{\"prefix\":\"he\"}}", "{\"a\":\"hello\"}", true},
        {"{\"key\":\"a\",\"match\":{\"prefix\":\"lo\"}}", "{\"a\":\"hello\"}", false},
        {"{\"key\":\"a\",\"range\":{\"gte\":1,\"lt\":2}}", "{\"a\":1}", true},
        {"{\"key\":\"a\",\"range\":{\"gte\":1,\"lt\":2}}", "{\"a\":2}", false},
        {"{\"key\":\"a\",\"range\":{\"gt\":1,\"lte\":2.5}}", "{\"a\":[0,2.5]}", true},
        {"{\"key\":\"a\",\"range\":{\"gt\":1,\"lte\":null}}", "{\"a\":\"2\"}", false},
        {"{\"key\":\"a\",\"range\":{\"gte\":\"2024-01-01\"}}", "{\"a\":\"2024-01-01T00:00:00Z\"}",
         true},
        {"{\"key\":\"a\",\"range\":{\"gt\":\"2024-01-01T00:00:00+01:00\"}}",
         "{\"a\":\"2023-12-31 23:00:00\"}", false},
        {"{\"key\":\"a\",\"range\":{\"gte\":\"2024-01-01\"}}", "{\"a\":1704067200}", false},
        {"{\"key\":\"a.b\",\"match\":{\"value\":1}}", "{\"a\":{\"b\":1}}", true},
        {"{\"key\":\"a.b\",\"match\":{\"value\":1}}", "{\"a\":[{\"b\":1}]}", false},
        {"{\"key\":\"a[].b\",\"match\":{\"value\":1}}", "{\"a\":[{\"b\":2},{\"b\":1}]}", true},
        {"{\"key\":\"a[1].b\",\"match\":{\"value\":2}}", "{\"a\":[{\"b\":2},{\"b\":1}]}", false},
        {"{\"key\":\"a[1]\",\"match\":{\"value\":2}}", "{\"a\":[1,2]}", true},
        {"{\"key\":\"\\\"x.y z\\\".b\",\"match\":{\"value\":1}}", "{\"x.y z\":{\"b\":1}}", true},
        {"{\"key\":\"p.0\",\"match\":{\"value\":1}}", "{\"p\":{\"0\":1}}", true},
        {"{\"key\":\"a\",\"values_count\":{\"gte\":2}}", "{\"a\":[1,2]}", true},
        {"{\"key\":\"a\",\"values_count\":{\"lt\":1}}", "{\"a\":null}", true},
        {"{\"key\":\"a\",\"values_count\":{\"lt\":1}}", "{}", true},
        {"{\"key\":\"a\",\"values_count\":{\"gte\":1,\"lte\":1}}", "{\"a\":\"x\"}", true},
        {"{\"is_empty\":{\"key\":\"a\"}}", "{}", true},
        {"{\"is_empty\":{\"key\":\"a\"}}", "{\"a\":[]}", true},
        {"{\"is_empty\":{\"key\":\"a\"}}", "{\"a\":null}", true},
        {"{\"is_empty\":{\"key\":\"a\"}}", "{\"a\":[null]}", false},
        {"{\"is_empty\":{\"key\":\"a\"}}", "{\"a\":\"\"}", false},
        {"{\"is_null\":{\"key\":\"a\"}}", "{\"a\":null}", true},
        {"{\"is_null\":{\"key\":\"a\"}}", "{\"a\":[1,null]}", true},
        {"{\"is_null\":{\"key\":\"a\"}}", "{}", false},
        {"{\"key\":\"a\",\"is_empty\":false}", "{\"a\":1}", true},
        {"{\"key\":\"a\",\"is_null\":true}", "{\"a\":null}", true},
        {"{\"has_id\":[1,7]}", "{}", true},
        {"{\"has_id\":[\"550e8400-e29b-41d4-a716-446655440000\"]}", "{}", false},
        {"{\"has_id\":[]}", "{}", false},
        {"{\"has_vector\":\"image\"}", "{}", true},
        {"{\"has_vector\":\"\"}", "{}", false},
        {"{\"nested\":{\"key\":\"a\",\"filter\":{\"must\":[{\"key\":\"b\",\"match\":{\"value\":1}},"
         "{\"key\":\"c\",\"match\":{\"value\":2}}]}}}",
         "{\"a\":[{\"b\":1,\"c\":1},{\"b\":2,\"c\":2}]}", false},
        {"{\"nested\":{\"key\":\"a[]\",\"filter\":{\"must\":[{\"key\":\"b\",\"match\":{\"value\":1}"
         "},"
         "{\"key\":\"c\",\"match\":{\"value\":2}}]}}}",
         "{\"a\":[{\"b\":1,\"c\":1},{\"b\":1,\"c\":2}]}", true},
        {"{\"nested\":{\"key\":\"a\",\"filter\":{\"must_not\":{\"key\":\"b\",\"match\":{\"value\":"
         "1}}"
         "}}}",
         "{\"a\":[{\"b\":1},{\"b\":2}]}", true},
        {"{\"slice\":{\"total\":1,\"index\":0}}", "{}", true},
        {"{\"key\":\"g\",\"geo_radius\":{\"center\":{\"lon\":13.4,\"lat\":52.5},\"radius\":1000}}",
         "{\"g\":{\"lon\":13.405,\"lat\":52.503}}", true},
        {"{\"key\":\"g\",\"geo_radius\":{\"center\":{\"lon\":13.4,\"lat\":52.5},\"radius\":1000}}",
         "{\"g\":[{\"lon\":0,\"lat\":0}]}", false},
        {"{\"key\":\"g\",\"geo_bounding_box\":{\"top_left\":{\"lon\":170,\"lat\":10},"
         "\"bottom_right\":{\"lon\":-170,\"lat\":-10}}}",
         "{\"g\":{\"lon\":179,\"lat\":0}}", true},
        {"{\"key\":\"g\",\"geo_polygon\":{\"exterior\":{\"points\":[{\"lon\":0,\"lat\":0},{\"lon\":"
         "4,"
         "\"lat\":0},{\"lon\":4,\"lat\":4},{\"lon\":0,\"lat\":4},{\"lon\":0,\"lat\":0}]},"
         "\"interiors\":[{\"points\":[{\"lon\":1,\"lat\":1},{\"lon\":3,\"lat\":1},{\"lon\":3,"
         "\"lat\":"
         "3},{\"lon\":1,\"lat\":3},{\"lon\":1,\"lat\":1}]}]}}",
         "{\"g\":{\"lon\":2,\"lat\":2}}", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char filter[1024];
        snprintf(filter, sizeof filter, "{\"must\":%s}", rows[i].condition);
        if (matches(filter, rows[i].payload) != rows[i].yes) {
            fail_msg("%s on %s", filter, rows[i].payload);
        }
        snprintf(filter, sizeof filter, "{\"must_not\":[%s]}", rows[i].condition);
        if (matches(filter, rows[i].payload) == rows[i].yes) {
            fail_msg("%s on %s", filter, rows[i].payload);
        }
    }
}

/* Clients send null for what they leave out, and an empty should for "anything". */
static void
empty_clauses_constrain_nothing(void **state)
{
    static const char *empty[] = {"{}",
                                  "{\"must\":[]}",
                                  "{\"should\":[]}",
                                  "{\"must\":null}",
                                  "{\"should\":[],\"must_not\":null,\"min_should\":null}",
                                  "null"};
    (void)state;
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        dp_filter *filter;
        assert_true(matches(empty[i], "{\"a\":1}"));
        assert_int_equal(parse(&filter, empty[i], NULL), ORT_OK);
        assert_true(dp_filter_is_empty(filter));
        dp_filter_free(filter);
    }
    assert_true(matches("{\"must\":[{\"should\":[]}]}", "{}"));
    assert_false(matches("{\"must_not\":[{}]}", "{}"));
}

static void
min_should_counts(void **state)
{
    static const char text[] =
        "{\"min_should\":{\"conditions\":[{\"key\":\"a\",\"match\":{\"value\":1}},{\"key\":\"b\","
        "\"match\":{\"value\":1}},{\"key\":\"c\",\"match\":{\"value\":1}}],\"min_count\":2}}";
    (void)state;
    assert_true(matches(text, "{\"a\":1,\"c\":1}"));
    assert_false(matches(text, "{\"a\":1,\"c\":2}"));
}

static void
wrong_filters_are_refused_with_the_right_error(void **state)
{
    static const struct {
        const char *text;
        ort_err err;
        const char *words;
    } rows[] = {
        {"{\"must\":[{\"key\":\"a\"}]}", ORT_EVALIDATE,
         "filter.must[0]: At least one field condition must be specified"},
        {"{\"mist\":[]}", ORT_EFORMAT, "unknown field `mist`"},
        {"{\"must\":[{\"foo\":1}]}", ORT_EFORMAT, "unknown field `foo`"},
        {"[]", ORT_EFORMAT, "expected struct Filter"},
        {"{\"must\":3}", ORT_EFORMAT, "did not match any variant"},
        {"{\"must\":[[]]}", ORT_EFORMAT, "did not match any variant"},
        {"{\"must\":[{\"key\":1,\"match\":{\"value\":1}}]}", ORT_EFORMAT, "did not match"},
        {"{\"must\":[{\"key\":\"a\",\"match\":{\"value\":1.5}}]}", ORT_EFORMAT, "did not match"},
        {"{\"must\":[{\"key\":\"a\",\"match\":{}}]}", ORT_EFORMAT, "did not match"},
        {"{\"must\":[{\"key\":\"a\",\"match\":{\"any\":[1,\"x\"]}}]}", ORT_EFORMAT,
         "did not match"},
        {"{\"must\":[{\"key\":\"a\",\"match\":{\"any\":[1.5]}}]}", ORT_EFORMAT, "did not match"},
        {"{\"must\":[{\"key\":\"a\",\"range\":{\"gt\":[]}}]}", ORT_EFORMAT, "did not match"},
        {"{\"must\":[{\"key\":\"a\",\"range\":{\"gt\":\"x\"}}]}", ORT_EFORMAT, "did not match"},
        {"{\"must\":[{\"key\":\"a\",\"range\":{\"gt\":\"2024-01-01\",\"lt\":3}}]}", ORT_EFORMAT,
         "did not match"},
        {"{\"must\":[{\"key\":\"a[\",\"match\":{\"value\":1}}]}", ORT_EFORMAT,
         "Invalid json path: 'a['"},
        {"{\"must\":[{\"key\":\"a..b\",\"match\":{\"value\":1}}]}", ORT_EFORMAT,
         "Invalid json path"},
        {"{\"must\":[{\"key\":\"\",\"match\":{\"value\":1}}]}", ORT_EFORMAT, "Invalid json path"},
        {"{\"must\":[{\"key\":\"a[99999999999]\",\"match\":{\"value\":1}}]}", ORT_EFORMAT,
         "Invalid json path"},
        {"{\"must\":[{\"has_id\":[1.5]}]}", ORT_EFORMAT, "value 1.5 is not a valid point ID"},
        {"{\"must\":[{\"has_id\":[\"x\"]}]}", ORT_EFORMAT, "value x is not a valid point ID"},
        {"{\"must\":[{\"has_id\":[{}]}]}", ORT_EFORMAT, "value {} is not a valid point ID"},
        {"{\"must\":[{\"has_id\":3}]}", ORT_EFORMAT, "did not match"},
        {"{\"must\":[{\"nested\":{\"key\":\"a\"}}]}", ORT_EFORMAT, "did not match"},
        {"{\"must\":[{\"nested\":{\"key\":\"a\",\"filter\":{\"x\":1}}}]}", ORT_EFORMAT,
         "filter.must[0].nested.filter: unknown field `x`"},
        {"{\"must\":[{\"key\":\"g\",\"geo_polygon\":{\"exterior\":{\"points\":[]}}}]}", ORT_EFORMAT,
         "at least 4"},
        {"{\"must\":[{\"key\":\"g\",\"geo_radius\":{\"center\":{\"lon\":200,\"lat\":0},\"radius\":"
         "1}}"
         "]}",
         ORT_EFORMAT, "Longitude"},
        {"{\"must\":[{\"slice\":{\"total\":0,\"index\":0}}]}", ORT_EVALIDATE, "slice"},
        {"{\"min_should\":{\"conditions\":[]}}", ORT_EFORMAT, "did not match"},
        {"{\"must\":[{\"key\":\"a\",\"values_count\":{\"gt\":-1}}]}", ORT_EFORMAT, "did not match"},
        {"{\"must\":[{\"key\":\"a\",\"values_count\":{}}]}", ORT_EVALIDATE, "values_count"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ort_diag diag = {.text = ""};
        dp_filter *filter;
        const ort_err err = parse(&filter, rows[i].text, &diag);
        if (err != rows[i].err || strstr(diag.text, rows[i].words) == NULL) {
            fail_msg("%s: %d %s", rows[i].text, err, diag.text);
        }
        assert_null(filter);
    }
}

/* Ten thousand conditions side by side, and nesting as deep as JSON may be. */
static void
bombs_are_refused_quickly(void **state)
{
    ort_buf buf = {0};
    dp_filter *filter;
    ort_diag diag;
    (void)state;
    ort_buf_puts(&buf, "{\"must\":[");
    for (int i = 0; i < 10000; i++) {
        ort_buf_puts(&buf, i > 0 ? ",{\"has_id\":[1]}" : "{\"has_id\":[1]}");
    }
    ort_buf_puts(&buf, "]}");
    assert_int_equal(parse(&filter, ort_buf_peek_cstr(&buf), &diag), ORT_EVALIDATE);
    ort_buf_clear(&buf);
    for (int i = 0; i < 63; i++) {
        ort_buf_puts(&buf, "{\"must\":");
    }
    ort_buf_puts(&buf, "{}");
    for (int i = 0; i < 63; i++) {
        ort_buf_puts(&buf, "}");
    }
    assert_int_equal(parse(&filter, ort_buf_peek_cstr(&buf), &diag), ORT_OK);
    dp_filter_free(filter);
    ort_buf_fini(&buf);
}

static void
known_ids_and_text_are_told(void **state)
{
    dp_filter *filter, *again;
    const ort_point_id *ids;
    size_t count, len;
    (void)state;
    assert_int_equal(parse(&filter,
                           "{ \"must\" : [ {\"has_id\":[9,3,9]}, {\"has_vector\":\"v\"},"
                           "{\"has_id\":[1,2,3]} ] }",
                           NULL),
                     ORT_OK);
    assert_true(dp_filter_peek_ids(filter, &ids, &count));
    assert_int_equal(count, 2);
    assert_int_equal(ids[0].lo, 3);
    assert_string_equal(dp_filter_peek_vector_name(filter, 0), "v");
    assert_null(dp_filter_peek_vector_name(filter, 1));
    const char *text = dp_filter_peek_text(filter, &len);
    assert_int_equal(dp_filter_parse_text(&again, text, len, NULL), ORT_OK);
    assert_int_equal(dp_filter_condition_count(again), 3);
    dp_filter_free(again);
    dp_filter_free(filter);
}

/* --- payload selectors --------------------------------------------------------------------------
 */

static void
assert_shows(const char *selector_text, const char *payload, const char *expected)
{
    ort_json_doc *doc;
    dp_payload_selector selector;
    ort_buf buf = {0};
    ort_jw w = {.buf = &buf};
    assert_int_equal(
        ort_json_parse(&doc, selector_text, strlen(selector_text), (ort_json_limits){0}, NULL),
        ORT_OK);
    assert_int_equal(dp_payload_selector_parse(&selector, ort_json_root(doc), false, NULL), ORT_OK);
    assert_int_equal(dp_payload_write(&selector, payload, strlen(payload), &w, NULL), ORT_OK);
    assert_string_equal(ort_buf_peek_cstr(&buf), expected);
    dp_payload_selector_fini(&selector);
    ort_json_free(doc);
    ort_buf_fini(&buf);
}

static void
selectors_show_parts_of_payloads(void **state)
{
    static const char payload[] =
        "{\"a\":{\"b\":1,\"c\":2},\"d\":[{\"e\":1,\"f\":2},{\"f\":3}],\"g\":7}";
    (void)state;
    assert_shows("true", payload, payload);
    assert_shows("[\"g\"]", payload, "{\"g\":7}");
    assert_shows("[\"a.b\",\"g\"]", payload, "{\"a\":{\"b\":1},\"g\":7}");
    assert_shows("[\"nope\"]", payload, "{}");
    assert_shows("{\"include\":[\"d[].e\"]}", payload, "{\"d\":[{\"e\":1},{}]}");
    assert_shows("{\"exclude\":[\"d[].f\",\"a\"]}", payload, "{\"d\":[{\"e\":1},{}],\"g\":7}");
    assert_shows("{\"exclude\":[\"a.b\"]}", "{\"a\":{\"b\":1,\"c\":2}}", "{\"a\":{\"c\":2}}");
}

static void
wrong_selectors_are_refused(void **state)
{
    static const char *wrong[] = {
        "3",        "\"a\"", "[1]", "{\"inklude\":[]}", "{\"include\":[],\"exclude\":[]}",
        "[\"a[\"]", "{}"};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ort_json_doc *doc;
        dp_payload_selector selector;
        assert_int_equal(
            ort_json_parse(&doc, wrong[i], strlen(wrong[i]), (ort_json_limits){0}, NULL), ORT_OK);
        assert_int_not_equal(dp_payload_selector_parse(&selector, ort_json_root(doc), false, NULL),
                             ORT_OK);
        assert_false(dp_payload_selector_wants(&selector));
        ort_json_free(doc);
    }
}

/* --- the naive evaluator ------------------------------------------------------------------------
 */

static bool naive_filter(json_t *filter, json_t *payload, uint64_t id);

static bool
naive_scalar(json_t *field, json_t *v)
{
    json_t *match = json_object_get(field, "match"), *range = json_object_get(field, "range");
    json_t *want, *item;
    size_t i;
    if (range != NULL) {
        const double d = json_is_number(v) ? json_number_value(v) : 0;
        json_t *lt = json_object_get(range, "lt"), *gte = json_object_get(range, "gte");
        return json_is_number(v) && (lt == NULL || d < json_number_value(lt)) &&
               (gte == NULL || d >= json_number_value(gte));
    }
    if ((want = json_object_get(match, "value")) != NULL) {
        return json_equal(want, v);
    }
    if ((want = json_object_get(match, "any")) != NULL) {
        json_array_foreach(want, i, item)
        {
            if (json_equal(item, v)) {
                return true;
            }
        }
        return false;
    }
    want = json_object_get(match, "except");
    json_array_foreach(want, i, item)
    {
        if (json_equal(item, v)) {
            return false;
        }
    }
    return !json_is_null(v);
}

static bool
naive_condition(json_t *c, json_t *payload, uint64_t id)
{
    json_t *part, *item;
    size_t i;
    if ((part = json_object_get(c, "has_id")) != NULL) {
        json_array_foreach(part, i, item)
        {
            if ((uint64_t)json_integer_value(item) == id) {
                return true;
            }
        }
        return false;
    }
    if ((part = json_object_get(c, "is_empty")) != NULL) {
        json_t *v = json_object_get(payload, json_string_value(json_object_get(part, "key")));
        return v == NULL || json_is_null(v) || (json_is_array(v) && json_array_size(v) == 0);
    }
    if ((part = json_object_get(c, "key")) != NULL) {
        json_t *v = json_object_get(payload, json_string_value(part));
        if (json_is_array(v)) {
            json_array_foreach(v, i, item)
            {
                if (naive_scalar(c, item)) {
                    return true;
                }
            }
            return false;
        }
        return v != NULL && naive_scalar(c, v);
    }
    return naive_filter(c, payload, id);
}

static bool
naive_filter(json_t *filter, json_t *payload, uint64_t id)
{
    json_t *item, *should = json_object_get(filter, "should");
    size_t i;
    bool any = json_array_size(should) == 0;
    json_array_foreach(json_object_get(filter, "must"), i, item)
    {
        if (!naive_condition(item, payload, id)) {
            return false;
        }
    }
    json_array_foreach(json_object_get(filter, "must_not"), i, item)
    {
        if (naive_condition(item, payload, id)) {
            return false;
        }
    }
    json_array_foreach(should, i, item)
    {
        any = any || naive_condition(item, payload, id);
    }
    return any;
}

static uint64_t seed = 20260101;

static uint32_t
below(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static json_t *
random_scalar(void)
{
    static const char *words[] = {"red", "green", "blue", ""};
    switch (below(5)) {
    case 0:
        return json_integer(below(4));
    case 1:
        return json_real(below(8) / 2.0 + 0.25);
    case 2:
        return json_boolean(below(2));
    case 3:
        return json_null();
    default:
        return json_string(words[below(4)]);
    }
}

static json_t *
random_payload(void)
{
    static const char *keys[] = {"a", "b", "c"};
    json_t *payload = json_object();
    for (size_t i = 0; i < 3; i++) {
        if (below(4) == 0) {
            continue;
        }
        json_t *v = below(3) == 0 ? json_array() : random_scalar();
        for (uint32_t n = json_is_array(v) ? below(4) : 0; n > 0; n--) {
            json_array_append_new(v, random_scalar());
        }
        json_object_set_new(payload, keys[i], v);
    }
    return payload;
}

static json_t *
random_list(void)
{
    json_t *list = json_array();
    const bool strings = below(2);
    for (uint32_t n = below(3); n > 0; n--) {
        json_array_append_new(list, strings ? json_string(below(2) ? "red" : "blue")
                                            : json_integer(below(4)));
    }
    return list;
}

static json_t *random_filter(int depth);

static json_t *
random_condition(int depth)
{
    static const char *keys[] = {"a", "b", "c", "d"};
    const char *key = keys[below(4)];
    switch (below(depth > 0 ? 7 : 6)) {
    case 0:
        return json_pack("{s:s,s:{s:s}}", "key", key, "match", "value", below(2) ? "red" : "green");
    case 1:
        return json_pack("{s:s,s:{s:i}}", "key", key, "match", "value", (int)below(4));
    case 2:
        return json_pack("{s:s,s:{s:o}}", "key", key, "match", below(2) ? "any" : "except",
                         random_list());
    case 3:
        return json_pack("{s:s,s:{s:f,s:i}}", "key", key, "range", "gte", below(4) / 2.0, "lt",
                         (int)below(4));
    case 4:
        return json_pack("{s:{s:s}}", "is_empty", "key", key);
    case 5:
        return json_pack("{s:[i,i]}", "has_id", (int)below(5), (int)below(5));
    default:
        return random_filter(depth - 1);
    }
}

static json_t *
random_filter(int depth)
{
    static const char *clauses[] = {"must", "should", "must_not"};
    json_t *filter = json_object();
    for (size_t i = 0; i < 3; i++) {
        if (below(2)) {
            json_t *list = json_array();
            for (uint32_t n = below(3); n > 0; n--) {
                json_array_append_new(list, random_condition(depth));
            }
            json_object_set_new(filter, clauses[i], list);
        }
    }
    return filter;
}

static void
random_filters_agree_with_a_naive_evaluator(void **state)
{
    uint32_t yes = 0;
    (void)state;
    for (int round = 0; round < 4000; round++) {
        json_t *filter_json = random_filter(3);
        char *filter_text = json_dumps(filter_json, 0);
        dp_filter *filter;
        ort_diag diag;
        if (parse(&filter, filter_text, &diag) != ORT_OK) {
            fail_msg("%s: %s", filter_text, diag.text);
        }
        for (int i = 0; i < 8; i++) {
            json_t *payload_json = random_payload();
            char *payload = json_dumps(payload_json, 0);
            const uint64_t id = below(5);
            const dp_filter_point point = {
                .id = ort_point_id_of(id), .payload = payload, .payload_len = strlen(payload)};
            const bool got = dp_filter_match(filter, &point);
            if (got != naive_filter(filter_json, payload_json, id)) {
                fail_msg("seed %d: %s on %s (id %u) gave %d", round, filter_text, payload,
                         (unsigned)id, got);
            }
            yes += got;
            free(payload);
            json_decref(payload_json);
        }
        dp_filter_free(filter);
        free(filter_text);
        json_decref(filter_json);
    }
    assert_in_range(yes, 4000, 28000); /* the generator makes filters that tell points apart */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditions_match_type_strictly),
        cmocka_unit_test(empty_clauses_constrain_nothing),
        cmocka_unit_test(min_should_counts),
        cmocka_unit_test(wrong_filters_are_refused_with_the_right_error),
        cmocka_unit_test(bombs_are_refused_quickly),
        cmocka_unit_test(known_ids_and_text_are_told),
        cmocka_unit_test(selectors_show_parts_of_payloads),
        cmocka_unit_test(wrong_selectors_are_refused),
        cmocka_unit_test(random_filters_agree_with_a_naive_evaluator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
