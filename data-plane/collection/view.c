/* Points as answers show them. */
#include <stdlib.h>
#include <string.h>

#include "collection/vector_internal.h"
#include "collection/view_internal.h"

ort_err
dp_viewer__show(dp_viewer *v, size_t query, uint32_t slot, float score)
{
    dp_point_view view = {.id = dp_points_id(v->reader, slot),
                          .version = dp_points_version(v->reader, slot),
                          .score = score,
                          .order = v->order,
                          .opaque = v};
    v->slot = slot;
    if (v->want_payload) {
        const ort_err err =
            dp_points_payload(v->reader, slot, &view.payload, &view.payload_len, v->diag);
        if (err != ORT_OK) {
            return err;
        }
        if (view.payload_len == 0) {
            view.payload = "{}";
            view.payload_len = 2;
        }
    }
    return v->fn(v->ctx, query, v->s->schema, &view);
}

void
dp_viewer__fini(dp_viewer *v)
{
    for (uint32_t i = 0; i < ORT_VECTORS_PER_POINT_MAX; i++) {
        free(v->scratch[i].bytes);
    }
}

static void *
scratch(dp_viewer *v, uint32_t i, size_t bytes)
{
    if (v->scratch[i].cap < bytes) {
        void *grown = realloc(v->scratch[i].bytes, bytes);
        if (grown == NULL) {
            return NULL;
        }
        v->scratch[i].bytes = grown;
        v->scratch[i].cap = bytes;
    }
    return v->scratch[i].bytes;
}

/* Sparse vectors and multivectors, out of their bytes. */
static ort_err
read_bytes(dp_viewer *v, const dp_vector_schema *schema, uint32_t i, dp_vector *out)
{
    const void *data;
    size_t len;
    const ort_err err = dp_points_bytes(v->reader, i, v->slot, &data, &len, v->diag);
    if (err != ORT_OK) {
        return err;
    }
    void *room = scratch(v, i, len * sizeof(float) + 1);
    if (room == NULL) {
        return ORT_ENOMEM;
    }
    dp_vector__open(schema, data, len, room, out);
    return ORT_OK;
}

bool
dp_point_has_vector(const dp_point_view *view, uint32_t i)
{
    const dp_viewer *v = view->opaque;
    return dp_points_has(v->reader, i, v->slot);
}

ort_err
dp_point_vector(const dp_point_view *view, uint32_t i, dp_vector *out)
{
    dp_viewer *v = view->opaque;
    const dp_vector_schema *schema = dp_schema_peek_vector(v->s->schema, i);
    *out = (dp_vector){0};
    if (!dp_points_has(v->reader, i, v->slot)) {
        return ORT_ENOTFOUND;
    }
    if (schema->sparse || schema->multi) {
        return read_bytes(v, schema, i, out);
    }
    const ort_err err = dp_points_check_row(v->reader, i, v->slot, v->diag);
    if (err != ORT_OK) {
        return err;
    }
    const void *row = dp_points_row(v->reader, i, v->slot);
    float *floats = scratch(v, i, schema->size * sizeof *floats);
    if (floats == NULL) {
        return ORT_ENOMEM;
    }
    dp_vector__expand(schema->elem, row, schema->size, floats);
    *out = (dp_vector){.kind = DP_VECTOR_DENSE, .values = floats, .count = schema->size, .rows = 1};
    return ORT_OK;
}

/* --- selectors and JSON -------------------------------------------------------------------------
 */

ort_err
dp_vector_selector_parse(dp_vector_selector *out, const dp_schema *schema, ort_json v, bool absent,
                         ort_diag *diag)
{
    *out = (dp_vector_selector){0};
    if (!ort_json_given(v)) {
        out->all = absent;
        return ORT_OK;
    }
    if (ort_json_bool(v, &out->all) == ORT_OK) {
        return ORT_OK;
    }
    if (ort_json_type_of(v) != ORT_JSON_ARRAY) {
        return ort_fail(diag, ORT_EFORMAT,
                        "data did not match any variant of untagged enum WithVector");
    }
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
        size_t len;
        const char *name = ort_json_str(it.value, &len);
        if (name == NULL) {
            return ort_fail(diag, ORT_EFORMAT,
                            "data did not match any variant of untagged enum WithVector");
        }
        const int i = dp_schema_find_vector(schema, name, len);
        if (i < 0) {
            return ort_fail(diag, ORT_EINVAL, "Not existing vector name error: %.*s",
                            (int)(len > 200 ? 200 : len), name);
        }
        out->columns[i / 64] |= UINT64_C(1) << (i % 64);
    }
    return ORT_OK;
}

bool
dp_vector_selector_wants(const dp_vector_selector *selector, uint32_t i)
{
    return selector->all || (selector->columns[i / 64] >> (i % 64) & 1) != 0;
}

static bool
wants_any(const dp_vector_selector *selector)
{
    bool any = selector->all;
    for (size_t i = 0; i < sizeof selector->columns / sizeof *selector->columns; i++) {
        any = any || selector->columns[i] != 0;
    }
    return any;
}

void
dp_show_fini(dp_show *show)
{
    dp_payload_selector_fini(&show->payload);
    *show = (dp_show){0};
}

/* The unnamed vector stands alone as an array; as soon as there is another, all have names. */
static ort_err
write_vectors(const dp_point_view *view, const dp_schema *schema,
              const dp_vector_selector *selector, ort_jw *w)
{
    const uint32_t count = dp_schema_vector_count(schema);
    const int unnamed = dp_schema_find_vector(schema, "", 0);
    const dp_viewer *v = view->opaque;
    dp_vector vector;
    uint32_t shown = 0;
    ort_err err = ORT_OK;
    for (uint32_t i = 0; i < count; i++) {
        shown += dp_vector_selector_wants(selector, i) && dp_points_has(v->reader, i, v->slot);
    }
    ort_jw_key(w, "vector");
    if (shown == 1 && unnamed >= 0 && dp_vector_selector_wants(selector, (uint32_t)unnamed) &&
        dp_points_has(v->reader, (uint32_t)unnamed, v->slot)) {
        err = dp_point_vector(view, (uint32_t)unnamed, &vector);
        if (err == ORT_OK) {
            dp_vector_write(w, &vector);
        }
        return err;
    }
    ort_jw_object(w);
    for (uint32_t i = 0; i < count; i++) {
        if (!dp_vector_selector_wants(selector, i)) {
            continue;
        }
        err = dp_point_vector(view, i, &vector);
        if (err == ORT_OK) {
            ort_jw_key(w, dp_schema_peek_vector(schema, i)->name);
            dp_vector_write(w, &vector);
        } else if (err != ORT_ENOTFOUND) {
            return err;
        }
    }
    ort_jw_object_end(w);
    return ORT_OK;
}

ort_err
dp_point_write(const dp_point_view *view, const dp_schema *schema, const dp_show *show, ort_jw *w,
               ort_diag *diag)
{
    ort_err err = ORT_OK;
    if (dp_payload_selector_wants(&show->payload) && view->payload != NULL) {
        ort_jw_key(w, "payload");
        err = dp_payload_write(&show->payload, view->payload, view->payload_len, w, diag);
    }
    if (err == ORT_OK && wants_any(&show->vectors)) {
        err = write_vectors(view, schema, &show->vectors, w);
    }
    return err != ORT_OK ? err : ort_buf_check(w->buf);
}
