/* Dice. Values come from small ranges, so that random filters find some points and not all, and
 * now and then a field holds what is not its kind: nulls, other types, arrays in arrays. */
#include <stdio.h>
#include <string.h>

#include "rest_model.h"

/* The last one is never there. */
const model_field model_fields[MODEL_FIELDS] = {
    {"tag", MODEL_TAG},        {"n", MODEL_INT},        {"f", MODEL_REAL},
    {"b", MODEL_BOOL},         {"t", MODEL_TIME},       {"u", MODEL_UUID},
    {"g", MODEL_GEO},          {"w", MODEL_WORDS},      {"mix", MODEL_ANY},
    {"deep.x", MODEL_INT},     {"deep.y", MODEL_TAG},   {"deep.in.t", MODEL_TIME},
    {"objs[].x", MODEL_INT},   {"objs[].y", MODEL_TAG}, {"objs[1].x", MODEL_INT},
    {"none.at.all", MODEL_ANY}};

#define MEMBERS 9u /* that stand at the top of the payload */

static uint64_t dice;

void
model_seed(uint64_t seed)
{
    dice = seed * 0x9e3779b97f4a7c15u + 1;
}

uint32_t
model_below(uint32_t n)
{
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(dice >> 33) % n;
}

bool
model_one_in(uint32_t n)
{
    return model_below(n) == 0;
}

static int
between(int low, int high)
{
    return low + (int)model_below((uint32_t)(high - low + 1));
}

/* --- values --------------------------------------------------------------------------------- */

static json_t *
random_time(void)
{
    const int day = between(1, 4), hour = between(0, 3);
    switch (model_below(4)) {
    case 0:
        return json_sprintf("2024-01-%02d", day);
    case 1:
        return json_sprintf("2024-01-%02dT%02d:00:00+02:00", day, hour);
    case 2:
        return json_sprintf("2024-01-%02dT%02d:30:00.5Z", day, hour);
    default:
        return json_sprintf("2024-01-%02dT%02d:00:00Z", day, hour);
    }
}

static json_t *
random_place(void)
{
    static const int lons[] = {-179, -2, -1, 0, 1, 2, 3, 179};
    json_t *lon = model_one_in(2) ? json_real(lons[model_below(8)] + 0.5)
                                  : json_integer(lons[model_below(8)]);
    return json_pack("{s:o,s:i}", "lon", lon, "lat", between(-3, 3));
}

static json_t *
random_scalar(model_kind kind)
{
    static const char *const tags[] = {"red", "green", "blue", "", "gr\xc3\xbcn"};
    static const char *const words[] = {"one two three", "two", "twofold one", "three\"s\\", "On"};
    switch (kind) {
    case MODEL_TAG:
        return json_string(tags[model_below(5)]);
    case MODEL_INT:
        return model_one_in(12) ? json_integer(INT64_C(9007199254740993) + between(0, 2))
                                : json_integer(between(-3, 5));
    case MODEL_REAL:
        return model_one_in(4) ? json_integer(between(-3, 3)) : json_real(between(-12, 12) / 4.0);
    case MODEL_BOOL:
        return json_boolean(model_one_in(2));
    case MODEL_TIME:
        return random_time();
    case MODEL_UUID:
        return json_sprintf("%08d-0000-4000-8000-0000000000ff", between(0, 4));
    case MODEL_GEO:
        return random_place();
    case MODEL_WORDS:
        return json_string(words[model_below(5)]);
    default:
        return random_scalar((model_kind)model_below(MODEL_ANY));
    }
}

static json_t *
random_value(model_kind kind)
{
    json_t *list;
    switch (model_below(12)) {
    case 0:
        return json_null();
    case 1:
        return random_scalar(MODEL_ANY);
    case 2:
    case 3:
    case 4:
        list = json_array();
        for (uint32_t n = model_below(4); n > 0; n--) {
            json_array_append_new(list, model_one_in(8) ? random_value(kind) : random_scalar(kind));
        }
        return list;
    default:
        return random_scalar(kind);
    }
}

static json_t *
random_pair(void)
{
    json_t *o = json_object();
    if (!model_one_in(4)) {
        json_object_set_new(o, "x", random_value(MODEL_INT));
    }
    if (!model_one_in(4)) {
        json_object_set_new(o, "y", random_value(MODEL_TAG));
    }
    return o;
}

static json_t *
random_deep(void)
{
    json_t *deep = random_pair();
    if (model_one_in(2)) {
        json_object_set_new(deep, "in", json_pack("{s:o}", "t", random_value(MODEL_TIME)));
    }
    return deep;
}

static json_t *
random_payload(void)
{
    json_t *payload = json_object();
    const uint32_t likely = 1 + model_below(4);
    for (uint32_t i = 0; i < MEMBERS; i++) {
        if (!model_one_in(1 + likely)) {
            json_object_set_new(payload, model_fields[i].path, random_value(model_fields[i].kind));
        }
    }
    if (!model_one_in(1 + likely)) {
        json_object_set_new(payload, "deep",
                            model_one_in(8) ? random_value(MODEL_ANY) : random_deep());
    }
    if (!model_one_in(1 + likely)) {
        json_t *objs = json_array();
        for (uint32_t n = model_below(4); n > 0; n--) {
            json_array_append_new(objs, model_one_in(8) ? random_scalar(MODEL_ANY) : random_pair());
        }
        json_object_set_new(payload, "objs", objs);
    }
    return payload;
}

/* --- vectors: whole numbers, so that every sum is exact ------------------------------------- */

json_t *
model_random_dense(void)
{
    json_t *v = json_array();
    for (uint32_t i = 0; i < MODEL_DIM; i++) {
        json_array_append_new(v, json_integer(between(-8, 8)));
    }
    return v;
}

/* At least one of eight indices; upwards or, as requests may, downwards. */
json_t *
model_random_sparse(void)
{
    json_t *indices = json_array(), *values = json_array();
    const uint32_t bits = 1 + model_below(255);
    const bool down = model_one_in(3);
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t index = down ? 7 - i : i;
        if (bits & (1u << index)) {
            json_array_append_new(indices, json_integer(index * index * 1000));
            json_array_append_new(values,
                                  json_integer(model_one_in(4) ? between(-4, -1) : between(1, 8)));
        }
    }
    return json_pack("{s:o,s:o}", "indices", indices, "values", values);
}

static json_t *
random_vectors(bool some)
{
    json_t *v = json_object();
    const uint32_t which = some ? 1 + model_below(3) : model_below(8);
    if (which == 1 || which > 2) {
        json_object_set_new(v, "d", model_random_dense());
    }
    if (which == 2 || which > 2) {
        json_object_set_new(v, "s", model_random_sparse());
    }
    return v;
}

/* --- filters -------------------------------------------------------------------------------- */

json_t *
model_random_id(void)
{
    static model ids;
    if (ids.at[0].id == NULL) {
        model_init(&ids);
    }
    return json_deep_copy(ids.at[model_below(MODEL_IDS)].id);
}

static json_t *
random_ids(void)
{
    json_t *ids = json_array();
    for (uint32_t n = model_below(12); n > 0; n--) {
        json_array_append_new(ids, model_random_id());
    }
    return ids;
}

/* What match takes: a string, an integer or a bool. */
static json_t *
random_matchable(model_kind kind)
{
    json_t *v = random_scalar(kind);
    while (json_is_real(v) || json_is_object(v)) {
        json_decref(v);
        v = random_scalar(model_one_in(2) ? MODEL_INT : MODEL_TAG);
    }
    return v;
}

/* All strings or all integers. */
static json_t *
random_list(model_kind kind)
{
    json_t *list = json_array();
    const bool integers = kind == MODEL_INT || (kind == MODEL_ANY && model_one_in(2));
    const model_kind of = integers                                   ? MODEL_INT
                          : kind == MODEL_UUID || kind == MODEL_TIME ? kind
                                                                     : MODEL_TAG;
    for (uint32_t n = model_below(4); n > 0; n--) {
        json_array_append_new(list, random_scalar(of));
    }
    return list;
}

static json_t *
random_match(model_kind kind)
{
    switch (model_below(4)) {
    case 0:
        return json_pack("{s:o}", "any", random_list(kind));
    case 1:
        return json_pack("{s:o}", "except", random_list(kind));
    default:
        return json_pack("{s:o}", "value", random_matchable(kind));
    }
}

/* of: what a bound is of. */
static json_t *
random_range(model_kind of)
{
    static const char *const low[] = {"gt", "gte"}, *const high[] = {"lt", "lte"};
    json_t *range = json_object();
    const uint32_t which = model_below(4);
    if (which != 0) {
        json_object_set_new(range, low[model_below(2)], random_scalar(of));
    }
    if (which != 1) {
        json_object_set_new(range, high[model_below(2)], random_scalar(of));
    }
    return range;
}

static json_t *
random_count(void)
{
    static const char *const names[] = {"gt", "gte", "lt", "lte"};
    json_t *range = json_pack("{s:i}", names[model_below(4)], between(0, 3));
    json_object_set_new(range, names[model_below(4)], json_integer(between(0, 3)));
    return range;
}

/* Radii between the distances of the grid, which are more than 10 km apart. */
static void
put_geo(json_t *condition)
{
    if (model_one_in(2)) {
        json_object_set_new(
            condition, "geo_radius",
            json_pack("{s:o,s:i}", "center", random_place(), "radius", between(1, 600) * 1000 + 7));
        return;
    }
    const int south = between(-3, 2);
    json_t *a = random_place(), *b = random_place();
    json_object_set_new(a, "lat", json_integer(south + between(1, 4)));
    json_object_set_new(b, "lat", json_integer(south));
    json_object_set_new(condition, "geo_bounding_box",
                        json_pack("{s:o,s:o}", "top_left", a, "bottom_right", b));
}

/* What would be asked of a field of this kind. */
static void
put_fitting(json_t *condition, model_kind kind)
{
    static const char *const parts[] = {"two", "one two", "three\"s", "t", "fold"};
    switch (kind) {
    case MODEL_REAL:
        json_object_set_new(condition, "range", random_range(MODEL_REAL));
        return;
    case MODEL_TIME:
        json_object_set_new(condition, "range", random_range(MODEL_TIME));
        return;
    case MODEL_GEO:
        put_geo(condition);
        return;
    case MODEL_WORDS:
        json_object_set_new(
            condition, "match",
            json_pack("{s:s}", model_one_in(2) ? "text" : "prefix", parts[model_below(5)]));
        return;
    case MODEL_INT:
        if (model_one_in(2)) {
            json_object_set_new(condition, "range",
                                random_range(model_one_in(2) ? MODEL_INT : MODEL_REAL));
            return;
        }
        break;
    default:
        break;
    }
    json_object_set_new(condition, "match", random_match(kind));
}

static json_t *
random_on(const char *path, model_kind kind)
{
    const uint32_t what = model_below(14);
    if (what < 2) {
        return json_pack("{s:{s:s}}", what == 0 ? "is_empty" : "is_null", "key", path);
    }
    json_t *condition = json_pack("{s:s}", "key", path);
    if (what < 4) {
        json_object_set_new(condition, what == 2 ? "is_empty" : "is_null",
                            json_boolean(model_one_in(2)));
    } else if (what < 6) {
        json_object_set_new(condition, "values_count", random_count());
    } else if (what < 8) {
        /* Text conditions on one field only: elsewhere a text index would change what they mean. */
        put_fitting(condition, (model_kind)model_below(MODEL_WORDS));
    } else {
        put_fitting(condition, kind);
    }
    return condition;
}

static json_t *
random_nested(void)
{
    static const char *const clauses[] = {"must", "should", "must_not"};
    json_t *filter = json_object();
    for (uint32_t n = 1 + model_below(2); n > 0; n--) {
        json_object_set_new(
            filter, clauses[model_below(3)],
            json_pack("[o,o]", random_on("x", MODEL_INT), random_on("y", MODEL_TAG)));
    }
    return json_pack("{s:{s:s,s:o}}", "nested", "key", model_one_in(2) ? "objs" : "objs[]",
                     "filter", filter);
}

static json_t *
random_condition(unsigned depth)
{
    const uint32_t what = model_below(16);
    if (what == 0) {
        return json_pack("{s:o}", "has_id", random_ids());
    }
    if (what == 1) {
        return json_pack("{s:s}", "has_vector", model_one_in(2) ? "d" : "s");
    }
    if (what == 2) {
        return random_nested();
    }
    if (what < 5 && depth > 0) {
        return model_random_filter(depth - 1);
    }
    const model_field *field = &model_fields[model_below(MODEL_FIELDS)];
    return random_on(field->path, field->kind);
}

static json_t *
random_conditions(unsigned depth, uint32_t count)
{
    json_t *list = json_array();
    for (; count > 0; count--) {
        json_array_append_new(list, random_condition(depth));
    }
    return list;
}

json_t *
model_random_filter(unsigned depth)
{
    json_t *filter = json_object();
    if (!model_one_in(3)) {
        json_object_set_new(filter, "must",
                            model_one_in(6) ? random_condition(depth)
                                            : random_conditions(depth, model_below(3)));
    }
    if (model_one_in(3)) {
        json_object_set_new(filter, "should", random_conditions(depth, model_below(4)));
    }
    if (model_one_in(3)) {
        json_object_set_new(filter, "must_not", random_conditions(depth, 1 + model_below(2)));
    }
    if (model_one_in(6)) {
        json_object_set_new(filter, "min_should",
                            json_pack("{s:o,s:i}", "conditions",
                                      random_conditions(depth, 1 + model_below(4)), "min_count",
                                      between(1, 3)));
    }
    return filter;
}

/* --- operations ----------------------------------------------------------------------------- */

static json_t *
present_id(const model *m)
{
    const uint32_t start = model_below(MODEL_IDS);
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        const model_point *p = &m->at[(start + i) % MODEL_IDS];
        if (p->payload != NULL) {
            return json_deep_copy(p->id);
        }
    }
    return NULL;
}

static bool
holds(const json_t *list, const json_t *v)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (json_equal(item, v)) {
            return true;
        }
    }
    return false;
}

/* Each once; some may not be there unless that is asked for. */
static json_t *
some_ids(const model *m, bool present_only, uint32_t max)
{
    json_t *ids = json_array();
    for (uint32_t n = 1 + model_below(max); n > 0; n--) {
        json_t *id = present_only || !model_one_in(6) ? present_id(m) : model_random_id();
        if (id != NULL && !holds(ids, id)) {
            json_array_append(ids, id);
        }
        json_decref(id);
    }
    return ids;
}

static void
put_target(json_t *body, const model *m, bool present_only)
{
    if (model_one_in(4)) {
        json_object_set_new(body, "filter", model_random_filter(1));
    } else {
        json_object_set_new(body, "points", some_ids(m, present_only, 4));
    }
}

static json_t *
random_upsert(void)
{
    static const char *const modes[] = {"upsert", "insert_only", "update_only"};
    json_t *ids = json_array(), *points = json_array(), *body;
    for (uint32_t n = 1 + model_below(6); n > 0; n--) {
        json_t *id = model_random_id();
        if (!holds(ids, id) || model_one_in(3)) { /* the last one of two stays */
            json_array_append(ids, id);
            json_array_append_new(points,
                                  json_pack("{s:O,s:o,s:o}", "id", id, "vector",
                                            random_vectors(false), "payload", random_payload()));
        }
        json_decref(id);
    }
    if (model_one_in(4)) {
        json_t *d = json_array(), *s = json_array(), *payloads = json_array();
        for (size_t i = 0; i < json_array_size(ids); i++) {
            json_array_append_new(d, model_random_dense());
            json_array_append_new(s, model_random_sparse());
            json_array_append_new(payloads, model_one_in(6) ? json_null() : random_payload());
        }
        body = json_pack("{s:{s:O,s:{s:o,s:o},s:o}}", "batch", "ids", ids, "vectors", "d", d, "s",
                         s, "payloads", payloads);
    } else {
        body = json_pack("{s:O}", "points", points);
    }
    json_decref(ids);
    json_decref(points);
    if (model_one_in(3)) {
        json_object_set_new(body, "update_mode", json_string(modes[model_below(3)]));
    }
    if (model_one_in(8)) {
        json_object_set_new(body, "update_filter", model_random_filter(1));
    }
    return body;
}

static json_t *
random_update_vectors(const model *m, bool present_only)
{
    size_t i;
    json_t *id, *ids = some_ids(m, present_only, 4), *points = json_array();
    json_array_foreach(ids, i, id)
    {
        json_array_append_new(points,
                              json_pack("{s:O,s:o}", "id", id, "vector", random_vectors(true)));
    }
    json_decref(ids);
    return json_pack("{s:o}", "points", points);
}

static json_t *
random_patch(const model *m, bool present_only, bool at_key)
{
    json_t *body = json_object();
    if (at_key && model_one_in(3)) {
        json_object_set_new(body, "key", json_string(model_one_in(2) ? "deep" : "deep.in"));
        json_object_set_new(body, "payload", random_pair());
    } else {
        json_object_set_new(body, "payload", random_payload());
    }
    put_target(body, m, present_only);
    return body;
}

static json_t *
random_removal(const model *m, bool present_only)
{
    static const char *const paths[] = {"tag",    "n",         "mix",     "deep",
                                        "deep.x", "deep.in.t", "objs[].x"};
    json_t *body = json_pack("{s:[s]}", "keys", paths[model_below(7)]);
    if (model_one_in(2)) {
        json_array_append_new(json_object_get(body, "keys"), json_string(paths[model_below(7)]));
    }
    put_target(body, m, present_only);
    return body;
}

json_t *
model_random_operation(model *m, bool present_only, const char **kind)
{
    json_t *body, *id = present_id(m);
    const uint32_t what = id != NULL ? model_below(18) : 0;
    json_decref(id);
    if (what < 8) {
        *kind = "upsert";
        return random_upsert();
    }
    if (what < 11) {
        *kind = "set_payload";
        return random_patch(m, present_only, true);
    }
    if (what == 11) {
        *kind = "overwrite_payload";
        return random_patch(m, present_only, false);
    }
    if (what == 12) {
        *kind = "delete_payload";
        return random_removal(m, present_only);
    }
    if (what < 15) {
        *kind = "update_vectors";
        return random_update_vectors(m, present_only);
    }
    body = json_object();
    put_target(body, m, present_only);
    *kind = what == 15 ? "clear_payload" : what == 16 ? "delete" : "delete_vectors";
    if (what == 17) {
        json_object_set_new(body, "vector",
                            model_one_in(2) ? json_pack("[s]", "d") : json_pack("[s,s]", "d", "s"));
    }
    return body;
}
