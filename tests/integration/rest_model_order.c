/* Points in the order of a field, and how often its values occur: what payload indexes answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rest_model_ask.h"

static bool
is_indexed(uint32_t field, const char *type)
{
    return asked.indexed[field] != NULL && strcmp(asked.indexed[field], type) == 0;
}

typedef struct {
    double real; /* what a float is ordered by; of the others, exact, integer */
    int64_t integer;
    uint32_t at;
} ordered;

#define ORDERED_MAX 2048u

static bool
read_ordered(const json_t *v, const char *type, ordered *out)
{
    out->integer = 0;
    out->real = 0;
    if (strcmp(type, "float") == 0) {
        out->real = json_number_value(v);
        return json_is_number(v);
    }
    if (strcmp(type, "integer") == 0) {
        out->integer = json_integer_value(v);
        return json_is_integer(v);
    }
    return model_datetime_us(v, &out->integer);
}

static int
compare_values(const ordered *a, const ordered *b)
{
    if (a->integer != b->integer) {
        return a->integer < b->integer ? -1 : 1;
    }
    return a->real < b->real ? -1 : a->real > b->real;
}

static int
compare_ordered(const void *a, const void *b)
{
    const ordered *x = a;
    const ordered *y = b;
    const int c = compare_values(x, y);
    return c != 0 ? c : x->at < y->at ? -1 : x->at > y->at;
}

/* Each different value of each point that passes, smallest first; how many. */
static size_t
gather(const json_t *ask, uint32_t field, ordered *list)
{
    size_t count = 0, i;
    json_t *v;
    for (uint32_t at = 0; at < MODEL_IDS; at++) {
        const size_t begin = count;
        if (!ask_passes(ask, &asked.points.at[at])) {
            continue;
        }
        json_t *values = model_flat_values(asked.points.at[at].payload, model_fields[field].path);
        json_array_foreach(values, i, v)
        {
            ordered one;
            bool is_new = read_ordered(v, asked.indexed[field], &one);
            for (size_t j = begin; j < count; j++) {
                is_new = is_new && compare_values(&list[j], &one) != 0;
            }
            if (is_new && count < ORDERED_MAX) {
                one.at = at;
                list[count++] = one;
            }
        }
        json_decref(values);
    }
    qsort(list, count, sizeof *list, compare_ordered);
    return count;
}

/* A field with an index that has an order, or MODEL_FIELDS. */
static uint32_t
ordered_field(void)
{
    const uint32_t start = model_below(MODEL_FIELDS);
    for (uint32_t i = 0; i < MODEL_FIELDS; i++) {
        const uint32_t field = (start + i) % MODEL_FIELDS;
        if (is_indexed(field, "integer") || is_indexed(field, "float") ||
            is_indexed(field, "datetime")) {
            return field;
        }
    }
    return MODEL_FIELDS;
}

static json_t *
random_start(uint32_t field)
{
    if (is_indexed(field, "datetime")) {
        return json_sprintf("2024-01-%02uT01:00:00Z", 1 + model_below(4));
    }
    return is_indexed(field, "float") ? json_real(model_below(8) / 4.0 - 1)
                                      : json_integer((json_int_t)model_below(5) - 1);
}

/* The list as it is asked for: which way around, from where, how much of it. */
static json_t *
cut_ordered(ordered *list, size_t count, uint32_t field, const json_t *order, size_t limit)
{
    json_t *want = json_array();
    const bool down = json_string_value(json_object_get(order, "direction"))[0] == 'd';
    const json_t *start = json_object_get(order, "start_from");
    ordered from;
    const bool has_from = start != NULL && read_ordered(start, asked.indexed[field], &from);
    for (size_t i = 0; i < count && json_array_size(want) < limit; i++) {
        const ordered *o = &list[down ? count - 1 - i : i];
        const int c = has_from ? compare_values(o, &from) : 0;
        if (down ? c <= 0 : c >= 0) {
            json_t *value =
                is_indexed(field, "float") ? json_real(o->real) : json_integer(o->integer);
            json_array_append_new(want, json_pack("{s:O,s:o}", "id", asked.points.at[o->at].id,
                                                  "order_value", value));
        }
    }
    return want;
}

void
ask_ordered(void)
{
    static ordered list[ORDERED_MAX];
    size_t i;
    json_t *point, *ask = ask_new(), *bare = json_array();
    const uint32_t field = ordered_field(), limit = 1 + model_below(60);
    if (field == MODEL_FIELDS) {
        json_decref(ask);
        json_decref(bare);
        return;
    }
    json_t *order = json_pack("{s:s,s:s}", "key", model_fields[field].path, "direction",
                              model_one_in(2) ? "asc" : "desc");
    if (model_one_in(2)) {
        json_object_set_new(order, "start_from", random_start(field));
    }
    const bool scrolls = model_one_in(2);
    json_object_set_new(ask, "limit", json_integer(limit));
    ask_put_shown(ask);
    if (scrolls) {
        json_object_set(ask, "order_by", order);
    } else {
        json_object_set_new(ask, "query", json_pack("{s:O}", "order_by", order));
    }
    json_t *got = ask_call(200, "POST",
                           scrolls ? COLLECTION "/points/scroll" : COLLECTION "/points/query", ask);
    json_t *want = cut_ordered(list, gather(ask, field, list), field, order, limit);
    json_array_foreach(json_object_get(got, "points"), i, point)
    {
        ask_compare_shown(ask, point, model_find(&asked.points, json_object_get(point, "id")));
        json_array_append_new(bare,
                              json_pack("{s:O,s:O}", "id", json_object_get(point, "id"),
                                        "order_value", json_object_get(point, "order_value")));
    }
    if (!ask_same(bare, want)) {
        ask_differs("order_by", ask, bare, want);
    }
    json_decref(order);
    json_decref(want);
    json_decref(bare);
    json_decref(got);
    json_decref(ask);
}

/* --- facets --------------------------------------------------------------------------------- */

/* Of the strings that the dice throw. */
static bool
is_uuid(const json_t *v)
{
    return json_is_string(v) && json_string_length(v) == 36;
}

static bool
counts_in(const json_t *v, const char *type)
{
    return strcmp(type, "uuid") == 0      ? is_uuid(v)
           : strcmp(type, "keyword") == 0 ? json_is_string(v)
           : strcmp(type, "integer") == 0 ? json_is_integer(v)
                                          : json_is_boolean(v);
}

static int
compare_facet_values(const json_t *a, const json_t *b)
{
    if (json_is_string(a)) {
        return strcmp(json_string_value(a), json_string_value(b));
    }
    const json_int_t x = json_is_integer(a) ? json_integer_value(a) : json_is_true(a);
    const json_int_t y = json_is_integer(b) ? json_integer_value(b) : json_is_true(b);
    return x < y ? -1 : x > y;
}

/* Whether hit a stands before b: the most frequent first. */
static bool
facet_before(const json_t *a, const json_t *b)
{
    const json_int_t x = json_integer_value(json_object_get(a, "count"));
    const json_int_t y = json_integer_value(json_object_get(b, "count"));
    return x != y
               ? x > y
               : compare_facet_values(json_object_get(a, "value"), json_object_get(b, "value")) < 0;
}

static void
add_to_facet(json_t *hits, const json_t *values, const char *type)
{
    size_t i, j;
    json_t *v, *hit;
    json_array_foreach(values, i, v)
    {
        json_t *found = NULL;
        bool again = !counts_in(v, type); /* or it has been counted for this point */
        for (j = 0; j < i; j++) {
            again = again || json_equal(v, json_array_get(values, j));
        }
        json_array_foreach(hits, j, hit)
        {
            found = json_equal(json_object_get(hit, "value"), v) ? hit : found;
        }
        if (!again && found != NULL) {
            json_object_set_new(
                found, "count",
                json_integer(json_integer_value(json_object_get(found, "count")) + 1));
        } else if (!again) {
            json_array_append_new(hits, json_pack("{s:O,s:i}", "value", v, "count", 1));
        }
    }
}

static json_t *
first_hits(const json_t *hits, size_t limit)
{
    size_t i;
    json_t *hit, *out = json_array();
    json_array_foreach(hits, i, hit)
    {
        size_t at = 0;
        while (at < json_array_size(out) && facet_before(json_array_get(out, at), hit)) {
            at++;
        }
        json_array_insert(out, at, hit);
    }
    while (json_array_size(out) > limit) {
        json_array_remove(out, json_array_size(out) - 1);
    }
    return out;
}

void
ask_facet(void)
{
    const uint32_t field = model_below(MODEL_FIELDS);
    const uint32_t limit = 1 + model_below(12);
    if (!is_indexed(field, "keyword") && !is_indexed(field, "integer") &&
        !is_indexed(field, "bool") && !is_indexed(field, "uuid")) {
        return;
    }
    json_t *ask = ask_new(), *hits = json_array();
    json_object_set_new(ask, "key", json_string(model_fields[field].path));
    json_object_set_new(ask, "limit", json_integer(limit));
    json_object_set_new(ask, "exact", json_true());
    json_t *got = ask_call(200, "POST", COLLECTION "/facet", ask);
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        if (ask_passes(ask, &asked.points.at[i])) {
            json_t *values =
                model_flat_values(asked.points.at[i].payload, model_fields[field].path);
            add_to_facet(hits, values, asked.indexed[field]);
            json_decref(values);
        }
    }
    json_t *want = first_hits(hits, limit);
    if (!json_equal(json_object_get(got, "hits"), want)) {
        ask_differs(asked.indexed[field], ask, got, want);
    }
    json_decref(want);
    json_decref(hits);
    json_decref(got);
    json_decref(ask);
}
