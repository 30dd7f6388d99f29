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

int
model_between(int low, int high)
{
    return low + (int)model_below((uint32_t)(high - low + 1));
}

/* --- values --------------------------------------------------------------------------------- */

static json_t *
random_time(void)
{
    const int day = model_between(1, 4), hour = model_between(0, 3);
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
    return json_pack("{s:o,s:i}", "lon", lon, "lat", model_between(-3, 3));
}

json_t *
model_random_scalar(model_kind kind)
{
    static const char *const tags[] = {"red", "green", "blue", "", "gr\xc3\xbcn"};
    static const char *const words[] = {
        "one two three", "two",        "twofold one",
        "three\"x\\",    "On",         "The green-fish runs",
        "Two ONE",       "two two on", "running fishes, gr\xc3\xbcn"};
    switch (kind) {
    case MODEL_TAG:
        return json_string(tags[model_below(5)]);
    case MODEL_INT:
        return model_one_in(12) ? json_integer(INT64_C(9007199254740993) + model_between(0, 2))
                                : json_integer(model_between(-3, 5));
    case MODEL_REAL:
        return model_one_in(4) ? json_integer(model_between(-3, 3))
                               : json_real(model_between(-12, 12) / 4.0);
    case MODEL_BOOL:
        return json_boolean(model_one_in(2));
    case MODEL_TIME:
        return random_time();
    case MODEL_UUID:
        return json_sprintf("%08d-0000-4000-8000-0000000000ff", model_between(0, 4));
    case MODEL_GEO:
        return random_place();
    case MODEL_WORDS:
        return json_string(words[model_below(9)]);
    default:
        return model_random_scalar((model_kind)model_below(MODEL_ANY));
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
        return model_random_scalar(MODEL_ANY);
    case 2:
    case 3:
    case 4:
        list = json_array();
        for (uint32_t n = model_below(4); n > 0; n--) {
            json_array_append_new(list,
                                  model_one_in(8) ? random_value(kind) : model_random_scalar(kind));
        }
        return list;
    default:
        return model_random_scalar(kind);
    }
}

json_t *
model_random_pair(void)
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
    json_t *deep = model_random_pair();
    if (model_one_in(2)) {
        json_object_set_new(deep, "in", json_pack("{s:o}", "t", random_value(MODEL_TIME)));
    }
    return deep;
}

json_t *
model_random_payload(void)
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
            json_array_append_new(objs, model_one_in(8) ? model_random_scalar(MODEL_ANY)
                                                        : model_random_pair());
        }
        json_object_set_new(payload, "objs", objs);
    }
    return payload;
}

/* --- vectors: whole numbers, so that every sum is exact ------------------------------------- */

static json_t *
random_row(const model_vector *v)
{
    json_t *row = json_array();
    for (uint32_t i = 0; i < v->dim; i++) {
        json_array_append_new(row, json_integer(model_between(v->bytes ? 0 : -8, 8)));
    }
    return row;
}

/* At least one of eight indices; upwards or, as requests may, downwards. */
static json_t *
random_sparse(bool positive)
{
    json_t *indices = json_array(), *values = json_array();
    const uint32_t bits = 1 + model_below(255);
    const bool down = model_one_in(3);
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t index = down ? 7 - i : i;
        if (bits & (1u << index)) {
            json_array_append_new(indices, json_integer(index * index * 1000));
            json_array_append_new(values,
                                  json_integer(!positive && model_one_in(4) ? model_between(-4, -1)
                                                                            : model_between(1, 8)));
        }
    }
    return json_pack("{s:o,s:o}", "indices", indices, "values", values);
}

json_t *
model_random_vector(const model_vector *v)
{
    if (v->kind == MODEL_SPARSE) {
        return random_sparse(v->idf);
    }
    if (v->kind == MODEL_DENSE) {
        return random_row(v);
    }
    json_t *rows = json_array();
    for (uint32_t n = 1 + model_below(3); n > 0; n--) {
        json_array_append_new(rows, random_row(v));
    }
    return rows;
}

json_t *
model_random_id(void)
{
    static model ids;
    if (ids.at[0].id == NULL) {
        model_init(&ids);
    }
    return json_deep_copy(ids.at[model_below(MODEL_IDS)].id);
}
