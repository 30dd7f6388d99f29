/* Steps that look at stored vectors: diversity, and examples. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/plan_internal.h"
#include "base/limits.h"

/* Stored dense vectors of some points, in the order asked; those without are left out. */
typedef struct {
    uint32_t column;
    uint32_t dim;
    float *rows;
    dp_found *found; /* who they belong to */
    size_t count, cap;
    bool other_kind;
} row_list;

static ort_err
collect_row(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    row_list *list = ctx;
    dp_vector v;
    (void)query;
    (void)schema;

    const ort_err err = dp_point_vector(view, list->column, &v);
    if (err != ORT_OK) {
        return err == ORT_ENOTFOUND ? ORT_OK : err;
    }
    if (v.kind != DP_VECTOR_DENSE || (list->dim != 0 && v.count != list->dim)) {
        list->other_kind = true;
        return ORT_OK;
    }
    if (list->dim == 0) {
        list->dim = v.count;
        list->rows = calloc(list->cap, (size_t)v.count * sizeof *list->rows);
        list->found = calloc(list->cap, sizeof *list->found);
    }
    if (list->rows == NULL || list->found == NULL || list->count == list->cap) {
        return list->count == list->cap ? ORT_EINTERNAL : ORT_ENOMEM;
    }
    memcpy(list->rows + list->count * list->dim, v.values, (size_t)v.count * sizeof(float));
    list->found[list->count++] = (dp_found){.id = view->id, .version = view->version};
    return ORT_OK;
}

static void
row_list_fini(row_list *list)
{
    free(list->rows);
    free(list->found);
}

/* Reads the rows of `ids` for the step's vector. */
static ort_err
read_rows(dp_call *call, const dp_plan__step *s, const ort_point_id *ids, size_t count,
          row_list *list)
{
    const int column = dp_plan__vector_index(call, s);
    if (column < 0) {
        return ort_fail(&call->diag, ORT_EINVAL, "Not existing vector name error: %s",
                        s->ask.using_name != NULL ? s->ask.using_name : "");
    }
    list->column = (uint32_t)column;
    list->cap = count;
    const ort_err err =
        dp_collection_retrieve(call->collection, ids, count, false, collect_row, list, &call->diag);
    if (err == ORT_OK && list->other_kind) {
        return ort_fail(&call->diag, ORT_ENOTIMPL,
                        "this query over sparse or multi vectors is not built yet");
    }
    return err;
}

/* --- maximal marginal relevance --------------------------------------------------------------- */

/* How alike two stored vectors are: larger is more alike, in the collection's metric. */
static double
likeness(dp_metric metric, const float *a, const float *b, uint32_t dim)
{
    double sum = 0;
    for (uint32_t i = 0; i < dim; i++) {
        const double d = (double)a[i] - (double)b[i];
        sum += metric == DP_METRIC_EUCLID      ? d * d
               : metric == DP_METRIC_MANHATTAN ? fabs(d)
                                               : (double)a[i] * (double)b[i];
    }
    return metric == DP_METRIC_EUCLID ? -sqrt(sum) : metric == DP_METRIC_MANHATTAN ? -sum : sum;
}

/* Picks, one after the other, the candidate that is near the query and unlike those picked before.
 * Carbonell & Goldstein 1998; the score that is shown stays the likeness to the query. */
static ort_err
spread(dp_metric metric, const row_list *rows, const dp_found_list *candidates, double diversity,
       uint64_t want, dp_found_list *out)
{
    const size_t n = rows->count;
    double *near = calloc(n + 1, sizeof *near);   /* to the query */
    double *alike = calloc(n + 1, sizeof *alike); /* to the nearest of those picked */
    bool *picked = calloc(n + 1, sizeof *picked);
    ort_err err = near != NULL && alike != NULL && picked != NULL ? ORT_OK : ORT_ENOMEM;
    const bool similarity = metric != DP_METRIC_EUCLID && metric != DP_METRIC_MANHATTAN;

    for (size_t i = 0, c = 0; err == ORT_OK && i < n; i++, c++) {
        /* Rows come in the candidates' order, some missing. */
        while (!ort_point_id_eq(candidates->items[c].id, rows->found[i].id)) {
            c++;
        }
        rows->found[i].score = candidates->items[c].score;
        near[i] = similarity ? (double)rows->found[i].score : -(double)rows->found[i].score;
        alike[i] = -INFINITY;
    }
    for (uint64_t k = 0; err == ORT_OK && k < want && k < n; k++) {
        size_t best = n;
        double best_worth = 0;
        for (size_t i = 0; i < n; i++) {
            const double spare = k == 0 ? 0 : diversity * alike[i];
            const double worth = (1 - diversity) * near[i] - spare;
            const bool first =
                k == 0 ? best == n || near[i] > near[best] : best == n || worth > best_worth;
            if (!picked[i] && first) {
                best = i;
                best_worth = worth;
            }
        }
        picked[best] = true;
        err = dp_found_list_add(out, rows->found[best]);
        for (size_t i = 0; i < n; i++) {
            if (!picked[i]) {
                const double d = likeness(metric, rows->rows + i * rows->dim,
                                          rows->rows + best * rows->dim, rows->dim);
                alike[i] = d > alike[i] ? d : alike[i];
            }
        }
    }
    free(near);
    free(alike);
    free(picked);
    return err;
}

#define MMR_CANDIDATES_MAX 1024u

ort_err
dp_plan__run_mmr(dp_call *call, const dp_plan *plan, const dp_plan__scope *s,
                 const dp_found_list *among, uint64_t want, dp_found_list *out)
{
    const dp_plan__step *at = s->at;
    dp_found_list candidates = {0};
    row_list rows = {0};
    const uint64_t pool = at->candidates < MMR_CANDIDATES_MAX ? at->candidates : MMR_CANDIDATES_MAX;

    ort_err err = dp_plan__ask_collection(call, plan, s, &at->ask.query, among, pool, &candidates);
    ort_point_id *ids = calloc(candidates.count + 1, sizeof *ids);
    if (err == ORT_OK && ids == NULL) {
        err = ORT_ENOMEM;
    }
    for (size_t i = 0; err == ORT_OK && i < candidates.count; i++) {
        ids[i] = candidates.items[i].id;
    }
    if (err == ORT_OK && candidates.count > 0) {
        err = read_rows(call, at, ids, candidates.count, &rows);
    }
    if (err == ORT_OK && rows.count > 0) {
        dp_schema *schema = dp_collection_schema(call->collection);
        const dp_metric metric = dp_schema_peek_vector(schema, rows.column)->metric;
        dp_schema_unref(schema);
        err = spread(metric, &rows, &candidates, (double)at->diversity, want, out);
    }
    free(ids);
    row_list_fini(&rows);
    dp_found_list_fini(&candidates);
    return err;
}

/* --- recommend -------------------------------------------------------------------------------- */

/* Adds the mean of the examples, times `factor`, to sum[dim]; makes sum when it is NULL. */
static ort_err
add_examples(dp_call *call, dp_plan *plan, const dp_plan__step *s, ort_json examples, double factor,
             double **sum, uint32_t *dim)
{
    const uint32_t count = ort_json_count(examples);
    ort_err err = ORT_OK;

    if (count > ORT_BATCH_QUERIES_MAX) {
        return ort_fail(&call->diag, ORT_EBADREQ, "%u examples, at most %u are allowed", count,
                        ORT_BATCH_QUERIES_MAX);
    }
    for (ort_json_iter it = ort_json_each(examples); err == ORT_OK && ort_json_step(&it);) {
        dp_api__ask example = {0};
        row_list rows = {0};
        const float *values = NULL;
        uint32_t n = 0;
        err = dp_api__ask_nearest(call, &example, it.value);
        if (err == ORT_OK && example.query.kind == DP_QUERY_ID) {
            dp_plan__exclude(plan, example.query.id);
            err = read_rows(call, s, &example.query.id, 1, &rows);
            if (err == ORT_OK && rows.count == 0) {
                char id[ORT_POINT_ID_TEXT_BYTES];
                ort_point_id_format(example.query.id, id);
                err = ort_fail(&call->diag, ORT_ENOTFOUND, "No point with id %s found", id);
            }
            values = rows.rows;
            n = rows.dim;
        } else if (err == ORT_OK && example.query.vector.kind == DP_VECTOR_DENSE) {
            values = example.query.vector.values;
            n = example.query.vector.count;
        } else if (err == ORT_OK) {
            err = ort_fail(&call->diag, ORT_ENOTIMPL,
                           "recommend over sparse or multi vectors is not built yet");
        }
        if (err == ORT_OK && *sum == NULL) {
            *dim = n;
            *sum = calloc((size_t)n + 1, sizeof **sum);
            err = *sum != NULL ? ORT_OK : ORT_ENOMEM;
        }
        if (err == ORT_OK && n != *dim) {
            err = ort_fail(&call->diag, ORT_EINVAL,
                           "Vector dimension error: expected dim: %u, got %u", *dim, n);
        }
        for (uint32_t i = 0; err == ORT_OK && i < n; i++) {
            (*sum)[i] += factor * (double)values[i] / count;
        }
        row_list_fini(&rows);
        dp_api__ask_fini(&example);
    }
    return err;
}

/* average_vector: twice the mean of what is liked less the mean of what is not, or the mean of what
 * is liked alone. */
ort_err
dp_plan__run_recommend(dp_call *call, dp_plan *plan, const dp_plan__scope *s,
                       const dp_found_list *among, uint64_t want, dp_found_list *out)
{
    const dp_plan__step *at = s->at;
    const bool has_negative = ort_json_count(at->negative) > 0;
    double *sum = NULL;
    float *values = NULL;
    uint32_t dim = 0;

    ort_err err = add_examples(call, plan, at, at->positive, has_negative ? 2 : 1, &sum, &dim);
    if (err == ORT_OK && has_negative) {
        err = add_examples(call, plan, at, at->negative, -1, &sum, &dim);
    }
    if (err == ORT_OK) {
        values = calloc((size_t)dim + 1, sizeof *values);
        err = values != NULL ? ORT_OK : ORT_ENOMEM;
    }
    if (err == ORT_OK) {
        for (uint32_t i = 0; i < dim; i++) {
            values[i] = (float)sum[i];
        }
        dp_query query = at->ask.query;
        query.kind = DP_QUERY_NEAREST;
        query.vector =
            (dp_vector){.kind = DP_VECTOR_DENSE, .values = values, .count = dim, .rows = 1};
        err = dp_plan__ask_collection(call, plan, s, &query, among, want, out);
    }
    free(values);
    free(sum);
    return err;
}
