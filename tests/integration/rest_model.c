/* Operations on a collection of plain JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rest_model.h"

#define NUMBERS 34u

/* Numbers ascending, the last ones past what a double and 32 bits hold; then UUIDs. */
void
model_init(model *m)
{
    memset(m, 0, sizeof *m);
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        if (i >= NUMBERS) {
            m->at[i].id =
                json_sprintf("%08x-0000-4000-8000-0000000000aa", 0x1fffffffu * (i - NUMBERS));
        } else if (i >= NUMBERS - 2) {
            m->at[i].id = json_integer(INT64_C(9007199254740993) + i);
        } else {
            m->at[i].id = json_integer(i);
        }
    }
}

static void
forget(model_point *p)
{
    json_decref(p->payload);
    json_decref(p->vector);
    p->payload = NULL;
    p->vector = NULL;
}

void
model_fini(model *m)
{
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        forget(&m->at[i]);
        json_decref(m->at[i].id);
    }
}

model_point *
model_find(model *m, const json_t *id)
{
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        if (json_equal(m->at[i].id, id)) {
            return &m->at[i];
        }
    }
    fail_msg("a point that nobody wrote");
    return NULL;
}

/* A sparse vector comes in any order and is kept by index. */
static json_t *
sorted(const json_t *vector)
{
    json_t *indices = json_deep_copy(json_object_get(vector, "indices"));
    json_t *values = json_deep_copy(json_object_get(vector, "values"));
    for (size_t i = 1; i < json_array_size(indices); i++) {
        for (size_t j = i; j > 0 && json_integer_value(json_array_get(indices, j - 1)) >
                                        json_integer_value(json_array_get(indices, j));
             j--) {
            json_array_insert(indices, j - 1, json_array_get(indices, j));
            json_array_remove(indices, j + 1);
            json_array_insert(values, j - 1, json_array_get(values, j));
            json_array_remove(values, j + 1);
        }
    }
    return json_pack("{s:o,s:o}", "indices", indices, "values", values);
}

static void
put_vectors(model_point *p, const json_t *vector)
{
    for (size_t i = 0; i < MODEL_VECTORS; i++) {
        const char *name = model_vectors[i].name;
        const json_t *v = json_object_get(vector, name);
        if (v != NULL) {
            const bool sparse = model_vectors[i].kind == MODEL_SPARSE;
            json_object_set_new(p->vector, name, sparse ? sorted(v) : json_deep_copy(v));
        }
    }
}

/* --- upsert --------------------------------------------------------------------------------- */

static void
upsert_one(model *m, const json_t *body, const json_t *id, const json_t *vector,
           const json_t *payload)
{
    const char *mode = json_string_value(json_object_get(body, "update_mode"));
    const json_t *filter = json_object_get(body, "update_filter");
    model_point *p = model_find(m, id);
    const bool here = p->payload != NULL;
    mode = mode != NULL ? mode : "upsert";
    if (here ? strcmp(mode, "insert_only") == 0 || !model_matches(filter, p)
             : strcmp(mode, "update_only") == 0) {
        return;
    }
    forget(p);
    p->payload = json_is_object(payload) ? json_deep_copy(payload) : json_object();
    p->vector = json_object();
    put_vectors(p, vector);
}

static void
upsert(model *m, const json_t *body)
{
    size_t i;
    json_t *item;
    const json_t *batch = json_object_get(body, "batch");
    const json_t *vectors = json_object_get(batch, "vectors");
    json_array_foreach(json_object_get(body, "points"), i, item)
    {
        upsert_one(m, body, json_object_get(item, "id"), json_object_get(item, "vector"),
                   json_object_get(item, "payload"));
    }
    json_array_foreach(json_object_get(batch, "ids"), i, item)
    {
        json_t *vector = json_object();
        for (size_t v = 0; v < MODEL_VECTORS; v++) {
            const char *name = model_vectors[v].name;
            json_object_set(vector, name, json_array_get(json_object_get(vectors, name), i));
        }
        upsert_one(m, body, item, vector, json_array_get(json_object_get(batch, "payloads"), i));
        json_decref(vector);
    }
}

/* --- payloads ------------------------------------------------------------------------------- */

/* Members of one level: null takes away. */
static void
merge(json_t *into, json_t *patch)
{
    const char *key;
    json_t *v;
    json_object_foreach(patch, key, v)
    {
        if (json_is_null(v)) {
            json_object_del(into, key);
        } else {
            json_object_set_new(into, key, json_deep_copy(v));
        }
    }
}

/* The object at a path of members only; what is in its way makes place. */
static json_t *
object_at(json_t *root, const char *path)
{
    char key[32];
    const size_t n = strcspn(path, ".");
    snprintf(key, sizeof key, "%.*s", (int)n, path);
    if (!json_is_object(json_object_get(root, key))) {
        json_object_set_new(root, key, json_object());
    }
    json_t *child = json_object_get(root, key);
    return path[n] == '\0' ? child : object_at(child, path + n + 1);
}

/* Paths of members and [] before the last one. */
static void
remove_at(json_t *v, const char *path)
{
    char key[32];
    size_t i;
    json_t *item;
    const size_t n = strcspn(path, ".[");
    snprintf(key, sizeof key, "%.*s", (int)n, path);
    json_t *child = json_object_get(v, key);
    if (path[n] == '\0') {
        json_object_del(v, key);
    } else if (path[n] == '.') {
        remove_at(child, path + n + 1);
    } else {
        json_array_foreach(child, i, item)
        {
            remove_at(item, path + n + strlen("[]."));
        }
    }
}

/* --- everything that changes points that are there ------------------------------------------ */

static void
change(model_point *p, const char *kind, const json_t *body)
{
    size_t i;
    json_t *item, *patch = json_object_get(body, "payload");
    const json_t *key = json_object_get(body, "key");
    if (strcmp(kind, "delete") == 0) {
        forget(p);
    } else if (strcmp(kind, "set_payload") == 0) {
        merge(key != NULL ? object_at(p->payload, json_string_value(key)) : p->payload, patch);
    } else if (strcmp(kind, "overwrite_payload") == 0) {
        json_decref(p->payload);
        p->payload = json_deep_copy(patch);
    } else if (strcmp(kind, "clear_payload") == 0) {
        json_object_clear(p->payload);
    } else if (strcmp(kind, "delete_payload") == 0) {
        json_array_foreach(json_object_get(body, "keys"), i, item)
        {
            remove_at(p->payload, json_string_value(item));
        }
    } else if (strcmp(kind, "delete_vectors") == 0) {
        json_array_foreach(json_object_get(body, "vector"), i, item)
        {
            json_object_del(p->vector, json_string_value(item));
        }
    } else {
        fail_msg("no operation %s", kind);
    }
}

/* Whom a filter finds is settled before the first of them changes. */
static bool
change_chosen(model *m, const char *kind, const json_t *body)
{
    bool chosen[MODEL_IDS] = {false}, all_here = true;
    size_t i;
    json_t *id;
    const json_t *filter = json_object_get(body, "filter");
    json_array_foreach(json_object_get(body, "points"), i, id)
    {
        const model_point *p = model_find(m, id);
        chosen[p - m->at] = p->payload != NULL;
        all_here = all_here && p->payload != NULL;
    }
    for (i = 0; i < MODEL_IDS && filter != NULL; i++) {
        chosen[i] = m->at[i].payload != NULL && model_matches(filter, &m->at[i]);
    }
    for (i = 0; i < MODEL_IDS; i++) {
        if (chosen[i]) {
            change(&m->at[i], kind, body);
        }
    }
    return all_here;
}

bool
model_apply(model *m, const char *kind, const json_t *body)
{
    bool all_here = true;
    size_t i;
    json_t *item;
    if (strcmp(kind, "upsert") == 0) {
        upsert(m, body);
        return true;
    }
    if (strcmp(kind, "update_vectors") != 0) {
        return change_chosen(m, kind, body);
    }
    json_array_foreach(json_object_get(body, "points"), i, item)
    {
        model_point *p = model_find(m, json_object_get(item, "id"));
        all_here = all_here && p->payload != NULL;
        if (p->payload != NULL) {
            put_vectors(p, json_object_get(item, "vector"));
        }
    }
    return all_here;
}
