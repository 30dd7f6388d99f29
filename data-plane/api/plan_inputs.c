/* What queries name: vectors, and points whose vectors are meant. The vectors of points are read
 * once, all of a step together, before anything is searched. */
#include <stdlib.h>
#include <string.h>

#include "api/plan_internal.h"
#include "base/map.h"

ort_err
dp_plan__inputs_new(dp_plan__step *s, uint32_t n)
{
    s->inputs = calloc((size_t)n + 1, sizeof *s->inputs);
    s->input_count = s->inputs != NULL ? n : 0;
    return s->inputs != NULL ? ORT_OK : ORT_ENOMEM;
}

void
dp_plan__inputs_fini(dp_plan__step *s)
{
    for (uint32_t i = 0; i < s->input_count; i++) {
        dp_vector_fini(&s->inputs[i].vector);
    }
    free(s->inputs);
}

ort_err
dp_plan__input_parse(dp_call *call, dp_plan__input *input, ort_json v)
{
    dp_api__ask ask = {0};
    if (!ort_json_given(v)) {
        return dp_call_missing(call, "example");
    }
    const ort_err err = dp_api__ask_nearest(call, &ask, v);
    input->by_id = ask.query.kind == DP_QUERY_ID;
    input->id = ask.query.id;
    input->vector = ask.query.vector;
    ask.query.vector = (dp_vector){0};
    dp_api__ask_fini(&ask);
    return err;
}

/* --- reading ------------------------------------------------------------------------------------
 */

typedef struct {
    dp_call *call;
    dp_plan__step *step;
    uint32_t column;
    ort_map *by_id; /* encoded id → (void *)(1 + index of the first input of that id) */
    uint32_t *next; /* further inputs of the same id: 1 + index; 0 ends */
    bool *found;
} reading;

ort_err
dp_plan__copy_vector(const dp_vector *v, dp_vector *out)
{
    const size_t rows = v->kind == DP_VECTOR_MULTI ? v->rows : 1;
    const size_t values = (size_t)v->count * rows;
    const size_t indices = v->kind == DP_VECTOR_SPARSE ? v->count : 0;
    float *copy = malloc(values * sizeof(float) + indices * sizeof(uint32_t) + 1);
    if (copy == NULL) {
        return ORT_ENOMEM;
    }
    *out = *v;
    out->values = copy;
    memcpy(copy, v->values, values * sizeof *copy);
    if (indices > 0) {
        memcpy(copy + values, v->indices, indices * sizeof(uint32_t));
        out->indices = (const uint32_t *)(const void *)(copy + values);
    }
    return ORT_OK;
}

static ort_err
take_point(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    reading *r = ctx;
    unsigned char key[ORT_POINT_ID_BYTES];
    dp_vector v;
    (void)query;
    (void)schema;

    ort_point_id_encode(view->id, key);
    const ort_err err = dp_point_vector(view, r->column, &v);
    if (err != ORT_OK && err != ORT_ENOTFOUND) {
        return err;
    }
    for (uintptr_t i = (uintptr_t)ort_map_get(r->by_id, key, sizeof key); i != 0;
         i = r->next[i - 1]) {
        dp_plan__input *input = &r->step->inputs[i - 1];
        r->found[i - 1] = true;
        input->missing = err == ORT_ENOTFOUND;
        if (!input->missing && dp_plan__copy_vector(&v, &input->vector) != ORT_OK) {
            return ORT_ENOMEM;
        }
    }
    return ORT_OK;
}

static ort_err
find_column(dp_call *call, const dp_plan__step *s, dp_collection *from, uint32_t *out)
{
    const char *name = s->lookup.vector != NULL    ? s->lookup.vector
                       : s->ask.using_name != NULL ? s->ask.using_name
                                                   : "";
    dp_schema *schema = dp_collection_schema(from);
    const int column = dp_schema_find_vector(schema, name, strlen(name));
    dp_schema_unref(schema);
    if (column < 0) {
        return ort_fail(&call->diag, ORT_EINVAL, "Not existing vector name error: %.200s", name);
    }
    *out = (uint32_t)column;
    return ORT_OK;
}

/* Lists the inputs that are ids, each id once. */
static ort_err
list_ids(reading *r, ort_point_id *ids, size_t *count)
{
    ort_err err = ORT_OK;
    for (uint32_t i = 0; err == ORT_OK && i < r->step->input_count; i++) {
        const dp_plan__input *input = &r->step->inputs[i];
        unsigned char key[ORT_POINT_ID_BYTES];
        if (!input->by_id) {
            continue;
        }
        ort_point_id_encode(input->id, key);
        const uintptr_t first = (uintptr_t)ort_map_get(r->by_id, key, sizeof key);
        if (first == 0) {
            ids[(*count)++] = input->id;
        }
        r->next[i] = (uint32_t)first;
        err = ort_map_set(r->by_id, key, sizeof key, (void *)(uintptr_t)(i + 1), NULL);
    }
    return err;
}

/* Points that are not there end the request; vectors that are not there end it where there is
 * nothing to do without: recommend goes by its other examples. */
static ort_err
check_found(reading *r)
{
    const dp_plan__step *s = r->step;
    const bool may_miss = s->kind == DP_STEP_RECOMMEND ||
                          (s->kind == DP_STEP_EXAMPLES &&
                           (s->examples == DP_EXAMPLES_BEST || s->examples == DP_EXAMPLES_SUM));
    for (uint32_t i = 0; i < s->input_count; i++) {
        char text[ORT_POINT_ID_TEXT_BYTES];
        if (!s->inputs[i].by_id) {
            continue;
        }
        ort_point_id_format(s->inputs[i].id, text);
        if (!r->found[i]) {
            return ort_fail(&r->call->diag, ORT_ENOTFOUND, "No point with id %s found", text);
        }
        if (s->inputs[i].missing && !may_miss) {
            return ort_fail(&r->call->diag, ORT_ENOTFOUND,
                            "Vector with name \"%s\" for point %s not found",
                            s->ask.using_name != NULL ? s->ask.using_name : "", text);
        }
    }
    return ORT_OK;
}

static ort_err
read_step(dp_call *call, dp_plan__step *s)
{
    dp_collection *from = s->lookup.collection != NULL ? s->lookup.collection : call->collection;
    reading r = {.call = call, .step = s};
    size_t count = 0;
    ort_point_id *ids = calloc((size_t)s->input_count + 1, sizeof *ids);
    r.next = calloc((size_t)s->input_count + 1, sizeof *r.next);
    r.found = calloc((size_t)s->input_count + 1, sizeof *r.found);
    ort_err err =
        ids != NULL && r.next != NULL && r.found != NULL ? ort_map_new(&r.by_id) : ORT_ENOMEM;
    err = err == ORT_OK ? list_ids(&r, ids, &count) : err;
    if (err == ORT_OK && count > 0) {
        err = find_column(call, s, from, &r.column);
        if (err == ORT_OK) {
            err = dp_collection_retrieve(from, ids, count, false, take_point, &r, &call->diag);
        }
        err = err == ORT_OK ? check_found(&r) : err;
    }
    ort_map_free(r.by_id, NULL);
    free(ids);
    free(r.next);
    free(r.found);
    return err;
}

static ort_err
resolve_step(dp_call *call, dp_plan__step *s)
{
    ort_err err = s->input_count > 0 ? read_step(call, s) : ORT_OK;
    if (err == ORT_OK && s->input_count > 0 &&
        (s->kind == DP_STEP_PLAIN || s->kind == DP_STEP_MMR)) {
        s->ask.query.kind = DP_QUERY_NEAREST;
        s->ask.query.vector = s->inputs[0].vector; /* the ask frees it from here on */
        s->inputs[0].vector = (dp_vector){0};
    }
    for (size_t i = 0; err == ORT_OK && i < s->prefetch_count; i++) {
        err = resolve_step(call, &s->prefetch[i]);
    }
    return err;
}

ort_err
dp_plan__resolve(dp_call *call, dp_plan *plan)
{
    if (plan->resolved) {
        return ORT_OK;
    }
    plan->resolved = true;
    return resolve_step(call, &plan->root);
}
