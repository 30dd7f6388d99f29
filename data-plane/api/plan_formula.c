/* The step that scores by an expression: the points that its prefetches found, with their scores
 * there, and their payloads where the expression looks at them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/plan_internal.h"
#include "base/map.h"

typedef struct {
    dp_call *call;
    const dp_plan__step *step;
    ort_map *by_id; /* encoded id → 1 + row of scores */
    float *scores;  /* [rows][prefetches], NaN where a prefetch has not found the point */
    ort_point_id *ids;
    size_t count;
    const dp_schema *schema;   /* of the point being scored */
    const dp_point_view *view; /* likewise */
    dp_found_list *out;
} scoring;

/* Notes one point of list l. Points beyond the bound are left out, from the lists' ends. */
static ort_err
note(scoring *g, size_t l, const dp_found *found)
{
    unsigned char key[ORT_POINT_ID_BYTES];
    ort_err err = ORT_OK;
    ort_point_id_encode(found->id, key);
    size_t row = (size_t)(uintptr_t)ort_map_get(g->by_id, key, sizeof key);
    if (row == 0 && g->count < DP_PLAN_POINTS_MAX) {
        g->ids[g->count++] = found->id;
        row = g->count;
        err = ort_map_set(g->by_id, key, sizeof key, (void *)(uintptr_t)row, NULL);
    }
    if (row > 0) {
        g->scores[(row - 1) * g->step->prefetch_count + l] = found->score;
    }
    return err;
}

/* Gives each found point a row of scores: the best of all lists first. */
static ort_err
gather(scoring *g, const dp_found_list *lists)
{
    const size_t width = g->step->prefetch_count;
    size_t longest = 0, total = 0;
    for (size_t l = 0; l < width; l++) {
        longest = lists[l].count > longest ? lists[l].count : longest;
        total += lists[l].count;
    }
    const size_t most = total < DP_PLAN_POINTS_MAX ? total : DP_PLAN_POINTS_MAX;
    g->scores = malloc((most * width + 1) * sizeof *g->scores);
    g->ids = calloc(most + 1, sizeof *g->ids);
    ort_err err = g->scores != NULL && g->ids != NULL ? ort_map_new(&g->by_id) : ORT_ENOMEM;
    for (size_t i = 0; err == ORT_OK && i < most * width; i++) {
        g->scores[i] = NAN;
    }
    for (size_t i = 0; err == ORT_OK && i < longest; i++) {
        for (size_t l = 0; err == ORT_OK && l < width; l++) {
            err = i < lists[l].count ? note(g, l, &lists[l].items[i]) : ORT_OK;
        }
    }
    return err;
}

static bool
has_vector(void *ctx, const char *name)
{
    const scoring *g = ctx;
    const int column = dp_schema_find_vector(g->schema, name, strlen(name));
    return column >= 0 && dp_point_has_vector(g->view, (uint32_t)column);
}

static ort_err
score_point(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    scoring *g = ctx;
    unsigned char key[ORT_POINT_ID_BYTES];
    ort_json_doc *doc = NULL;
    dp_found found = {.id = view->id, .version = view->version};
    (void)query;

    ort_point_id_encode(view->id, key);
    const size_t row = (size_t)(uintptr_t)ort_map_get(g->by_id, key, sizeof key);
    if (row == 0) {
        return ORT_EINTERNAL;
    }
    g->schema = schema;
    g->view = view;
    dp_formula_point point = {.scores = g->scores + (row - 1) * g->step->prefetch_count,
                              .score_count = g->step->prefetch_count,
                              .filter_point = {.id = view->id,
                                               .payload = view->payload,
                                               .payload_len = view->payload_len,
                                               .has_vector = has_vector,
                                               .ctx = g}};
    ort_err err = ORT_OK;
    if (view->payload_len > 0) {
        err = ort_json_parse(&doc, view->payload, view->payload_len, (ort_json_limits){0},
                             &g->call->diag);
        if (err != ORT_OK) {
            return err == ORT_ENOMEM ? err : ORT_ECORRUPT;
        }
        point.payload = ort_json_root(doc);
    }
    err = dp_formula_score(g->step->formula, &point, &found.score, &g->call->diag);
    ort_json_free(doc);
    return err == ORT_OK ? dp_found_list_add(g->out, found) : err;
}

static int
best_first(const void *a, const void *b)
{
    const dp_found *x = a;
    const dp_found *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    return ort_point_id_cmp(x->id, y->id);
}

ort_err
dp_plan__run_formula(dp_call *call, const dp_plan__step *s, const dp_found_list *lists,
                     dp_found_list *out)
{
    scoring g = {.call = call, .step = s, .out = out};
    dp_schema *schema = dp_collection_schema(call->collection);
    ort_err err = dp_formula_bind(s->formula, dp_schema_fields(schema), &call->diag);
    dp_schema_unref(schema);
    err = err == ORT_OK ? gather(&g, lists) : err;
    if (err == ORT_OK && g.count > 0) {
        err = dp_collection_retrieve(call->collection, g.ids, g.count,
                                     dp_formula_wants_payload(s->formula), score_point, &g,
                                     &call->diag);
    }
    if (err == ORT_OK && out->count > 0) {
        qsort(out->items, out->count, sizeof *out->items, best_first);
    }
    ort_map_free(g.by_id, NULL);
    free(g.scores);
    free(g.ids);
    return err;
}
