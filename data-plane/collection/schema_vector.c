/* Vectors of a schema, added and taken away by name.
 *
 * Vector i is column i of the points for ever, so that records of the log mean the same on every
 * replay: a new vector goes to the end, and one that is taken away leaves its place, without its
 * name, for one of the same shape. */
#include <string.h>

#include "collection/schema_internal.h"

#define NOWHERE UINT32_MAX

/* The members of `was` but the vectors, which the caller writes. */
static void
copy_rest(ort_jw *w, ort_json was, bool single)
{
    for (ort_json_iter it = ort_json_each(was); ort_json_step(&it);) {
        size_t len;
        const char *key = ort_json_str(it.key, &len);
        if (key == NULL || ort_json_str_is(it.key, "vectors") ||
            (!single && ort_json_str_is(it.key, "single"))) {
            continue;
        }
        ort_jw_key_n(w, key, len);
        ort_jw_value(w, it.value);
    }
}

/* {"dense": {..}} or {"sparse": {..}}: the vector's entry in the text. */
static ort_err
put_new(ort_jw *w, const char *name, size_t len, ort_json body, ort_diag *diag)
{
    const ort_json dense = ort_json_get(body, "dense"), sparse = ort_json_get(body, "sparse");
    if (ort_json_given(dense) == ort_json_given(sparse)) {
        return ort_fail(diag, ORT_EFORMAT,
                        "data did not match any variant of untagged enum VectorNameConfig: one of "
                        "`dense`, `sparse`");
    }
    ort_jw_object(w);
    ort_jw_key(w, "name");
    ort_jw_str_n(w, name, len);
    if (ort_json_given(sparse)) {
        ort_jw_key(w, "sparse");
        ort_jw_bool(w, true);
    }
    ort_jw_key(w, "params");
    const ort_err err = dp_schema__put_params(w, ort_json_given(sparse), body, diag);
    ort_jw_object_end(w);
    return err;
}

/* A text with the new vector at the end, or in the place `at`. */
static ort_err
build(dp_schema **out, const dp_schema *old, const char *name, size_t len, ort_json body,
      uint32_t at, ort_diag *diag)
{
    const ort_json was = dp_schema__view(old);
    ort_buf buf = {0};
    ort_jw w = {.buf = &buf};
    ort_err err = ORT_OK;
    uint32_t i = 0;
    ort_jw_object(&w);
    copy_rest(&w, was, ort_json_given(ort_json_get(body, "sparse")));
    ort_jw_key(&w, "vectors");
    ort_jw_array(&w);
    const ort_json vectors = ort_json_get(was, "vectors");
    for (ort_json_iter it = ort_json_each(vectors); err == ORT_OK && ort_json_step(&it); i++) {
        if (i == at) {
            err = put_new(&w, name, len, body, diag);
        } else {
            ort_jw_value(&w, it.value);
        }
    }
    if (err == ORT_OK && at == NOWHERE) {
        err = put_new(&w, name, len, body, diag);
    }
    ort_jw_array_end(&w);
    ort_jw_object_end(&w);
    if (err != ORT_OK) {
        ort_buf_fini(&buf);
        return err;
    }
    return dp_schema__from_text(out, &buf, diag);
}

/* A place that was left, for a vector that is stored in the same shape. */
static uint32_t
find_place(const dp_schema *old, const dp_vector_schema *fresh)
{
    for (uint32_t i = 0; i < dp_schema_vector_count(old); i++) {
        const dp_vector_schema *v = dp_schema_peek_vector(old, i);
        if (v->dropped && v->sparse == fresh->sparse && v->multi == fresh->multi &&
            v->size == fresh->size && v->elem == fresh->elem) {
            return i;
        }
    }
    return NOWHERE;
}

ort_err
dp_schema_add_vector(dp_schema **out, const dp_schema *old, const char *name, size_t len,
                     ort_json body, ort_diag *diag)
{
    dp_schema *longer;
    *out = NULL;
    ort_err err = dp_vector_name_check(name, len, diag);
    if (err != ORT_OK) {
        return err;
    }
    if (dp_schema_find_vector(old, name, len) >= 0) {
        return ort_fail(diag, ORT_EEXISTS, "Vector `%.*s` already exists!", (int)len, name);
    }
    err = build(&longer, old, name, len, body, NOWHERE, diag);
    if (err != ORT_OK) {
        return err;
    }
    const uint32_t count = dp_schema_vector_count(longer);
    const uint32_t place = find_place(old, dp_schema_peek_vector(longer, count - 1));
    if (place == NOWHERE) {
        *out = longer;
        return ORT_OK;
    }
    dp_schema_unref(longer);
    return build(out, old, name, len, body, place, diag);
}

ort_err
dp_schema_drop_vector(dp_schema **out, const dp_schema *old, const char *name, size_t len,
                      ort_diag *diag)
{
    const int at = dp_schema_find_vector(old, name, len);
    const ort_json was = dp_schema__view(old);
    ort_buf buf = {0};
    ort_jw w = {.buf = &buf};
    uint32_t i = 0;
    *out = NULL;
    if (at < 0) {
        return ort_fail(diag, ORT_EINVAL, "Not existing vector name error: %.*s",
                        (int)(len > 200 ? 200 : len), name);
    }
    ort_jw_object(&w);
    copy_rest(&w, was, false);
    ort_jw_key(&w, "vectors");
    ort_jw_array(&w);
    const ort_json vectors = ort_json_get(was, "vectors");
    for (ort_json_iter it = ort_json_each(vectors); ort_json_step(&it); i++) {
        if (i != (uint32_t)at) {
            ort_jw_value(&w, it.value);
            continue;
        }
        ort_jw_object(&w);
        ort_jw_key(&w, "dropped");
        ort_jw_bool(&w, true);
        for (ort_json_iter m = ort_json_each(it.value); ort_json_step(&m);) {
            size_t n;
            const char *key = ort_json_str(m.key, &n);
            if (key != NULL) {
                ort_jw_key_n(&w, key, n);
                ort_jw_value(&w, m.value);
            }
        }
        ort_jw_object_end(&w);
    }
    ort_jw_array_end(&w);
    ort_jw_object_end(&w);
    return dp_schema__from_text(out, &buf, diag);
}
