/* Dice: operations on points, alone or in a batch. */
#include "rest_model.h"

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

/* At least one of them where `some`. */
static json_t *
random_vectors(bool some)
{
    json_t *out = json_object();
    const uint32_t first = model_below(MODEL_VECTORS);
    for (uint32_t i = 0; i < MODEL_VECTORS; i++) {
        const model_vector *v = &model_vectors[i];
        if (some ? i == first || model_one_in(3) : !model_one_in(5)) {
            json_object_set_new(out, v->name, model_random_vector(v));
        }
    }
    return out;
}

/* The points of an upsert by columns, which have all vectors. */
static json_t *
random_columns(json_t *ids)
{
    json_t *vectors = json_object(), *payloads = json_array();
    for (uint32_t v = 0; v < MODEL_VECTORS; v++) {
        json_object_set_new(vectors, model_vectors[v].name, json_array());
    }
    for (size_t i = 0; i < json_array_size(ids); i++) {
        for (uint32_t v = 0; v < MODEL_VECTORS; v++) {
            json_array_append_new(json_object_get(vectors, model_vectors[v].name),
                                  model_random_vector(&model_vectors[v]));
        }
        json_array_append_new(payloads, model_one_in(6) ? json_null() : model_random_payload());
    }
    return json_pack("{s:{s:O,s:o,s:o}}", "batch", "ids", ids, "vectors", vectors, "payloads",
                     payloads);
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
            json_array_append_new(points, json_pack("{s:O,s:o,s:o}", "id", id, "vector",
                                                    random_vectors(false), "payload",
                                                    model_random_payload()));
        }
        json_decref(id);
    }
    if (model_one_in(4)) {
        body = random_columns(ids);
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
        json_object_set_new(body, "payload", model_random_pair());
    } else {
        json_object_set_new(body, "payload", model_random_payload());
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
        json_t *names = json_array();
        for (uint32_t n = 1 + model_below(2); n > 0; n--) {
            json_array_append_new(names,
                                  json_string(model_vectors[model_below(MODEL_VECTORS)].name));
        }
        json_object_set_new(body, "vector", names);
    }
    return body;
}
