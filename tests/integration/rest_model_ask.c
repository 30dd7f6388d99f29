/* Asking node and model, and holding the points of an answer against the model's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rest_model_ask.h"

asked_state asked;

/* --- asking --------------------------------------------------------------------------------- */

/* Not by print_error(), which cuts at 1 KB. */
void
ask_differs(const char *what, const json_t *ask, const json_t *got, const json_t *want)
{
    char *a = json_dumps(ask, JSON_COMPACT | JSON_ENCODE_ANY);
    char *g = json_dumps(got, JSON_COMPACT | JSON_ENCODE_ANY);
    char *w = json_dumps(want, JSON_COMPACT | JSON_ENCODE_ANY);
    fprintf(stderr, "seed %llu round %u: %s %s\nnode:  %s\nmodel: %s\n",
            (unsigned long long)asked.seed, asked.round, what, a, g != NULL ? g : "nothing",
            w != NULL ? w : "nothing");
    fail();
}

json_t *
ask_call(int status, const char *method, const char *target, const json_t *body)
{
    char aliased[256];
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    if (asked.alias != NULL && strncmp(target, COLLECTION "/", strlen(COLLECTION "/")) == 0 &&
        model_one_in(4)) {
        snprintf(aliased, sizeof aliased, "/collections/%s%s", asked.alias,
                 target + strlen(COLLECTION));
        target = aliased;
    }
    char *answer = test_call(node.port, KEY, status, method, target, text);
    json_t *whole = json_loads(answer, 0, NULL);
    json_t *result = json_incref(json_object_get(whole, "result"));
    json_decref(whole);
    free(answer);
    free(text);
    return result;
}

/* Equal, numbers by their value: 1.0 is 1, which it is in vectors and scores. */
bool
ask_same(const json_t *a, const json_t *b)
{
    const char *key;
    size_t i;
    json_t *v;
    if (json_is_number(a) && json_is_number(b)) {
        return json_number_value(a) == json_number_value(b);
    }
    if (json_is_array(a) && json_is_array(b)) {
        json_array_foreach(a, i, v)
        {
            if (!ask_same(v, json_array_get(b, i))) {
                return false;
            }
        }
        return json_array_size(a) == json_array_size(b);
    }
    if (json_is_object(a) && json_is_object(b)) {
        json_object_foreach((json_t *)(uintptr_t)a, key, v)
        {
            if (!ask_same(v, json_object_get(b, key))) {
                return false;
            }
        }
        return json_object_size(a) == json_object_size(b);
    }
    return a != NULL && b != NULL && json_equal(a, b);
}

/* What is computed here in doubles is told by the node in floats. */
bool
ask_near(double a, double b)
{
    return fabs(a - b) <= 2e-6 * (1 + fabs(b));
}

/* --- what answers show of a point ----------------------------------------------------------- */

/* Asks for payload and vectors in one of the ways there are; a default is never relied on. */
void
ask_put_shown(json_t *ask)
{
    static const char *const payload[] = {"true", "false", "[\"tag\",\"deep\"]",
                                          "{\"exclude\":[\"mix\",\"n\"]}"};
    static const char *const vector[] = {"false", "true", "[\"d\",\"m\"]", "[\"s\",\"e\"]"};
    json_object_set_new(ask, "with_payload",
                        json_loads(payload[model_below(4)], JSON_DECODE_ANY, NULL));
    json_object_set_new(ask, "with_vector",
                        json_loads(vector[model_below(4)], JSON_DECODE_ANY, NULL));
}

static bool
lists(const json_t *names, const char *name)
{
    size_t i;
    json_t *v;
    json_array_foreach(names, i, v)
    {
        if (strcmp(json_string_value(v), name) == 0) {
            return true;
        }
    }
    return false;
}

/* The members of `of` that `selector` shows; NULL for none at all. */
static json_t *
shown(json_t *of, const json_t *selector)
{
    const char *key;
    json_t *v;
    const json_t *exclude = json_object_get(selector, "exclude");
    if (json_is_false(selector)) {
        return NULL;
    }
    json_t *out = json_object();
    json_object_foreach(of, key, v)
    {
        if (json_is_true(selector) ||
            (exclude != NULL ? !lists(exclude, key) : lists(selector, key))) {
            json_object_set(out, key, v);
        }
    }
    return out;
}

/* A point of an answer has the payload and vectors that the model's has. */
void
ask_compare_shown(const json_t *ask, const json_t *got, const model_point *p)
{
    json_t *payload = shown(p->payload, json_object_get(ask, "with_payload"));
    json_t *vector = shown(p->vector, json_object_get(ask, "with_vector"));
    const json_t *had = json_object_get(got, "payload");
    if ((payload != NULL || had != NULL) && !json_equal(payload, had)) {
        ask_differs("payload of", ask, got, payload);
    }
    had = json_object_get(got, "vector");
    if ((vector != NULL || had != NULL) && !ask_same(vector, had)) {
        ask_differs("vectors of", ask, got, vector);
    }
    json_decref(payload);
    json_decref(vector);
}

/* {} or with a filter. */
json_t *
ask_new(void)
{
    json_t *ask = json_object();
    if (!model_one_in(5)) {
        json_object_set_new(ask, "filter", model_random_filter(2));
    }
    return ask;
}

bool
ask_passes(const json_t *ask, const model_point *p)
{
    return p->payload != NULL && model_matches(json_object_get(ask, "filter"), p);
}

/* --- reading points ------------------------------------------------------------------------- */

void
ask_count(void)
{
    json_int_t n = 0;
    json_t *ask = ask_new();
    json_object_set_new(ask, "exact", json_true());
    json_t *got = ask_call(200, "POST", COLLECTION "/points/count", ask);
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        n += ask_passes(ask, &asked.points.at[i]);
    }
    json_t *want = json_pack("{s:I}", "count", n);
    if (!json_equal(got, want)) {
        ask_differs("count", ask, got, want);
    }
    json_decref(want);
    json_decref(got);
    json_decref(ask);
}

void
ask_scroll(void)
{
    json_t *ask = ask_new(), *want = json_array();
    const json_t *next = NULL;
    const uint32_t limit = 1 + model_below(MODEL_IDS), from = model_below(2 * MODEL_IDS);
    uint32_t i = 0;
    json_object_set_new(ask, "limit", json_integer(limit));
    ask_put_shown(ask);
    if (from < MODEL_IDS) {
        json_object_set(ask, "offset", asked.points.at[from].id);
        i = from;
    }
    json_t *got = ask_call(200, "POST", COLLECTION "/points/scroll", ask);
    const json_t *points = json_object_get(got, "points");
    for (; i < MODEL_IDS && next == NULL; i++) {
        if (!ask_passes(ask, &asked.points.at[i])) {
            continue;
        }
        if (json_array_size(want) == limit) {
            next = asked.points.at[i].id;
            break;
        }
        json_array_append(want, asked.points.at[i].id);
        const json_t *point = json_array_get(points, json_array_size(want) - 1);
        if (!json_equal(json_object_get(point, "id"), asked.points.at[i].id)) {
            ask_differs("scroll", ask, got, want);
        }
        ask_compare_shown(ask, point, &asked.points.at[i]);
    }
    const json_t *offset = json_object_get(got, "next_page_offset");
    if (json_array_size(points) != json_array_size(want) ||
        (next != NULL ? !json_equal(offset, next) : !json_is_null(offset))) {
        ask_differs("end of scroll", ask, got, want);
    }
    json_decref(want);
    json_decref(got);
    json_decref(ask);
}

void
ask_retrieve(void)
{
    size_t i;
    json_t *point, *ids = json_array(), *ask;
    uint32_t want = 0;
    for (uint32_t at = model_below(5); at < MODEL_IDS; at += 1 + model_below(5)) {
        json_array_append(ids, asked.points.at[at].id);
        want += asked.points.at[at].payload != NULL;
    }
    ask = json_pack("{s:o}", "ids", ids);
    ask_put_shown(ask);
    json_t *got = ask_call(200, "POST", COLLECTION "/points", ask);
    json_array_foreach(got, i, point)
    {
        const model_point *p = model_find(&asked.points, json_object_get(point, "id"));
        if (p->payload == NULL) {
            ask_differs("retrieve", ask, point, NULL);
        }
        ask_compare_shown(ask, point, p);
    }
    if (json_array_size(got) != want) {
        ask_differs("retrieve", ask, got, NULL);
    }
    json_decref(got);
    json_decref(ask);
}

void
ask_aliases(void)
{
    json_t *got = ask_call(200, "GET", "/aliases", NULL);
    json_t *want = asked.alias != NULL ? json_pack("{s:[{s:s,s:s}]}", "aliases", "alias_name",
                                                   asked.alias, "collection_name", "model")
                                       : json_pack("{s:[]}", "aliases");
    if (!json_equal(got, want)) {
        ask_differs("aliases", NULL, got, want);
    }
    json_decref(want);
    json_decref(got);
}
