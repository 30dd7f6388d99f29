/* Dice: filters of every kind of condition, and declarations of text indexes. */
#include "rest_model.h"

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
    json_t *v = model_random_scalar(kind);
    while (json_is_real(v) || json_is_object(v)) {
        json_decref(v);
        v = model_random_scalar(model_one_in(2) ? MODEL_INT : MODEL_TAG);
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
        json_array_append_new(list, model_random_scalar(of));
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
        json_object_set_new(range, low[model_below(2)], model_random_scalar(of));
    }
    if (which != 1) {
        json_object_set_new(range, high[model_below(2)], model_random_scalar(of));
    }
    return range;
}

static json_t *
random_count(void)
{
    static const char *const names[] = {"gt", "gte", "lt", "lte"};
    json_t *range = json_pack("{s:i}", names[model_below(4)], model_between(0, 3));
    json_object_set_new(range, names[model_below(4)], json_integer(model_between(0, 3)));
    return range;
}

/* A triangle whose corners and sides lie between the grid's places, and perhaps another cut out. */
static json_t *
random_ring(int reach)
{
    json_t *ring = json_array();
    const double lon = model_between(-4, 2) + 0.31, lat = model_between(-4, 1) + 0.37;
    const double corners[4][2] = {
        {lon, lat}, {lon + reach + 0.17, lat + 0.29}, {lon + 0.23, lat + reach + 0.11}, {lon, lat}};
    for (size_t i = 0; i < 4; i++) {
        json_array_append_new(ring,
                              json_pack("{s:f,s:f}", "lon", corners[i][0], "lat", corners[i][1]));
    }
    return json_pack("{s:o}", "points", ring);
}

static json_t *
random_polygon(void)
{
    json_t *polygon = json_pack("{s:o}", "exterior", random_ring(model_between(2, 6)));
    if (model_one_in(2)) {
        json_object_set_new(polygon, "interiors",
                            json_pack("[o]", random_ring(model_between(1, 3))));
    }
    return polygon;
}

/* Radii between the distances of the grid, which are more than 10 km apart. */
static void
put_geo(json_t *condition)
{
    if (model_one_in(3)) {
        json_object_set_new(condition, "geo_polygon", random_polygon());
        return;
    }
    if (model_one_in(2)) {
        json_object_set_new(condition, "geo_radius",
                            json_pack("{s:o,s:i}", "center", model_random_scalar(MODEL_GEO),
                                      "radius", model_between(1, 600) * 1000 + 7));
        return;
    }
    const int south = model_between(-3, 2);
    json_t *a = model_random_scalar(MODEL_GEO), *b = model_random_scalar(MODEL_GEO);
    json_object_set_new(a, "lat", json_integer(south + model_between(1, 4)));
    json_object_set_new(b, "lat", json_integer(south));
    json_object_set_new(condition, "geo_bounding_box",
                        json_pack("{s:o,s:o}", "top_left", a, "bottom_right", b));
}

static json_t *
random_text_match(void)
{
    static const char *const ways[] = {"text", "text_any", "phrase", "prefix"};
    static const char *const texts[] = {"two",        "one two",   "three\"x", "t",
                                        "fold",       "the fish",  "Run",      "gr",
                                        "grun",       "two two",   "TWO one",  "green fish",
                                        "green-fish", "fish runs", "on",       "gr\xc3\xbcn run"};
    return json_pack("{s:s}", ways[model_below(4)], texts[model_below(16)]);
}

/* What would be asked of a field of this kind. */
static void
put_fitting(json_t *condition, model_kind kind)
{
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
        json_object_set_new(condition, "match", random_text_match());
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
        put_fitting(condition, (model_kind)model_below(MODEL_ANY));
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

json_t *
model_random_condition(unsigned depth)
{
    const uint32_t what = model_below(16);
    if (what == 0) {
        return json_pack("{s:o}", "has_id", random_ids());
    }
    if (what == 1) {
        return json_pack("{s:s}", "has_vector", model_vectors[model_below(MODEL_VECTORS)].name);
    }
    if (what == 2) {
        return random_nested();
    }
    if (what == 15) {
        const int total = model_between(1, 5);
        return json_pack("{s:{s:i,s:i}}", "slice", "total", total, "index",
                         model_between(0, total - 1));
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
        json_array_append_new(list, model_random_condition(depth));
    }
    return list;
}

json_t *
model_random_filter(unsigned depth)
{
    json_t *filter = json_object();
    if (!model_one_in(3)) {
        json_object_set_new(filter, "must",
                            model_one_in(6) ? model_random_condition(depth)
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
                                      model_between(1, 3)));
    }
    return filter;
}

/* --- text indexes --------------------------------------------------------------------------- */

json_t *
model_random_text_index(void)
{
    static const char *const tokenizers[] = {"word", "whitespace", "prefix", "multilingual"};
    static const char *const stops[] = {"\"english\"", "{\"languages\":[\"english\"]}",
                                        "{\"custom\":[\"two\",\"fish\"]}",
                                        "{\"languages\":[\"english\"],\"custom\":[\"run\"]}"};
    json_t *index = json_pack("{s:s,s:s}", "type", "text", "tokenizer", tokenizers[model_below(4)]);
    if (model_one_in(3)) {
        json_object_set_new(index, "lowercase", json_boolean(model_one_in(2)));
    }
    if (model_one_in(2)) {
        json_object_set_new(index, "phrase_matching", json_true());
    }
    if (model_one_in(3)) {
        json_object_set_new(index, "ascii_folding", json_true());
    }
    if (model_one_in(4)) {
        json_object_set_new(index, "min_token_len", json_integer(model_between(1, 3)));
    }
    if (model_one_in(4)) {
        json_object_set_new(index, "max_token_len", json_integer(model_between(3, 6)));
    }
    if (model_one_in(3)) {
        json_object_set_new(index, "stopwords",
                            json_loads(stops[model_below(4)], JSON_DECODE_ANY, NULL));
    }
    if (model_one_in(3)) {
        json_object_set_new(index, "stemmer",
                            json_pack("{s:s,s:s}", "type", "snowball", "language", "english"));
    }
    return index;
}
