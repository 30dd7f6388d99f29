/* Steps that compare several vectors: diversity, and examples. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/plan_internal.h"
#include "base/limits.h"

/* --- maximal marginal relevance ----------------------------------------------------------------
 */

#define MMR_CANDIDATES_MAX 1024u
#define MMR_BYTES_MAX (64u << 20) /* of their vectors */

/* Stored vectors of the candidates, in their order; those without are left out. */
typedef struct {
    uint32_t column;
    dp_vector_schema schema; /* its name may not outlive the first callback, and is not used */
    dp_vector *vectors;
    dp_found *found; /* who they belong to */
    size_t count, cap, bytes;
} pool;

static void
pool_fini(pool *p)
{
    for (size_t i = 0; i < p->count; i++) {
        dp_vector_fini(&p->vectors[i]);
    }
    free(p->vectors);
    free(p->found);
}

static ort_err
collect_vector(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    pool *p = ctx;
    dp_vector v;
    (void)query;

    const ort_err err = dp_point_vector(view, p->column, &v);
    if (err != ORT_OK) {
        return err == ORT_ENOTFOUND ? ORT_OK : err;
    }
    p->bytes += (size_t)v.count * (v.kind == DP_VECTOR_MULTI ? v.rows : 2) * sizeof(float);
    if (p->count == p->cap || p->bytes > MMR_BYTES_MAX) {
        return ORT_OK; /* enough to choose from */
    }
    p->schema = *dp_schema_peek_vector(schema, p->column);
    if (dp_plan__copy_vector(&v, &p->vectors[p->count]) != ORT_OK) {
        return ORT_ENOMEM;
    }
    p->found[p->count++] = (dp_found){.id = view->id, .version = view->version};
    return ORT_OK;
}

static ort_err
read_pool(dp_call *call, const dp_plan__step *s, const dp_found_list *candidates, pool *p)
{
    const int column = dp_plan__vector_index(call, s);
    ort_point_id *ids = calloc(candidates->count + 1, sizeof *ids);
    p->column = column < 0 ? 0 : (uint32_t)column; /* unknown names found no candidates */
    p->cap = candidates->count;
    p->vectors = calloc(p->cap + 1, sizeof *p->vectors);
    p->found = calloc(p->cap + 1, sizeof *p->found);
    ort_err err = ids != NULL && p->vectors != NULL && p->found != NULL ? ORT_OK : ORT_ENOMEM;
    for (size_t i = 0; err == ORT_OK && i < candidates->count; i++) {
        ids[i] = candidates->items[i].id;
    }
    if (err == ORT_OK && candidates->count > 0) {
        err = dp_collection_retrieve(call->collection, ids, candidates->count, false,
                                     collect_vector, p, &call->diag);
    }
    free(ids);
    return err;
}

static bool
is_similarity(const dp_vector_schema *v)
{
    return v->sparse || dp_metric_larger_is_better(v->metric);
}

/* How alike two stored vectors are: larger is more alike, on the scale of scores. */
static double
likeness(const pool *p, size_t a, size_t b)
{
    const float score =
        dp_vector_score(&p->schema, dp_vector_distance(&p->schema, &p->vectors[a], &p->vectors[b]));
    return is_similarity(&p->schema) ? (double)score : -(double)score;
}

/* Picks, one after the other, the candidate that is near the query and unlike those picked before.
 * Carbonell & Goldstein 1998; the score that is shown stays the likeness to the query. */
static ort_err
spread(dp_call *call, const pool *p, const dp_found_list *candidates, double diversity,
       uint64_t want, dp_found_list *out)
{
    const size_t n = p->count;
    double *near = calloc(n + 1, sizeof *near);   /* to the query */
    double *alike = calloc(n + 1, sizeof *alike); /* to the nearest of those picked */
    bool *picked = calloc(n + 1, sizeof *picked);
    ort_err err = near != NULL && alike != NULL && picked != NULL ? ORT_OK : ORT_ENOMEM;

    for (size_t i = 0, c = 0; err == ORT_OK && i < n; i++, c++) {
        /* Vectors come in the candidates' order, some missing. */
        while (!ort_point_id_eq(candidates->items[c].id, p->found[i].id)) {
            c++;
        }
        p->found[i].score = candidates->items[c].score;
        near[i] =
            is_similarity(&p->schema) ? (double)p->found[i].score : -(double)p->found[i].score;
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
        err = dp_found_list_add(out, p->found[best]);
        err = err == ORT_OK ? dp_call_check_time(call) : err;
        for (size_t i = 0; i < n; i++) {
            const double d = picked[i] ? 0 : likeness(p, i, best);
            alike[i] = !picked[i] && d > alike[i] ? d : alike[i];
        }
    }
    free(near);
    free(alike);
    free(picked);
    return err;
}

ort_err
dp_plan__run_mmr(dp_call *call, const dp_plan *plan, const dp_plan__scope *s,
                 const dp_found_list *among, uint64_t want, dp_found_list *out)
{
    const dp_plan__step *at = s->at;
    dp_found_list candidates = {0};
    pool p = {0};
    const uint64_t most = at->candidates < MMR_CANDIDATES_MAX ? at->candidates : MMR_CANDIDATES_MAX;

    ort_err err = dp_plan__ask_collection(call, plan, s, &at->ask.query, among, most, &candidates);
    if (err == ORT_OK) {
        err = read_pool(call, at, &candidates, &p);
    }
    if (err == ORT_OK && p.count > 0) {
        err = spread(call, &p, &candidates, (double)at->diversity, want, out);
    }
    pool_fini(&p);
    dp_found_list_fini(&candidates);
    return err;
}

/* --- recommend by an average -------------------------------------------------------------------
 */

/* The examples [from, from + n) that have a vector. */
typedef struct {
    const dp_plan__input *from;
    uint32_t n;
} example_list;

static uint32_t
present(example_list list)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < list.n; i++) {
        count += !list.from[i].missing;
    }
    return count;
}

static const dp_vector *
first_of(example_list list)
{
    for (uint32_t i = 0; i < list.n; i++) {
        if (!list.from[i].missing) {
            return &list.from[i].vector;
        }
    }
    return NULL;
}

static ort_err
kinds_differ(dp_call *call, const dp_vector *a, const dp_vector *b)
{
    if (a->kind != b->kind) {
        return ort_fail(&call->diag, ORT_EINVAL,
                        "Can't average vectors with different types: dense, sparse and "
                        "multivectors do not mix");
    }
    return ort_fail(&call->diag, ORT_EINVAL, "Vector dimension error: expected dim: %u, got %u",
                    a->count, b->count);
}

/* Adds the mean of the examples, times `factor`, to sum[dim]. */
static ort_err
add_dense(dp_call *call, example_list list, const dp_vector *like, double factor, double *sum)
{
    const uint32_t count = present(list);
    for (uint32_t i = 0; i < list.n; i++) {
        const dp_vector *v = &list.from[i].vector;
        if (list.from[i].missing) {
            continue;
        }
        if (v->kind != like->kind || v->count != like->count) {
            return kinds_differ(call, like, v);
        }
        for (uint32_t k = 0; k < v->count; k++) {
            sum[k] += factor * (double)v->values[k] / count;
        }
    }
    return ORT_OK;
}

static ort_err
average_dense(dp_call *call, example_list good, example_list bad, dp_vector *out)
{
    const dp_vector *like = first_of(good);
    double *sum = calloc((size_t)like->count + 1, sizeof *sum);
    float *values = calloc((size_t)like->count + 1, sizeof *values);
    ort_err err = sum != NULL && values != NULL ? ORT_OK : ORT_ENOMEM;
    if (err == ORT_OK) {
        err = add_dense(call, good, like, present(bad) > 0 ? 2 : 1, sum);
    }
    if (err == ORT_OK) {
        err = add_dense(call, bad, like, -1, sum);
    }
    for (uint32_t i = 0; err == ORT_OK && i < like->count; i++) {
        values[i] = (float)sum[i];
    }
    free(sum);
    if (err != ORT_OK) {
        free(values);
        return err;
    }
    *out = (dp_vector){.kind = DP_VECTOR_DENSE, .values = values, .count = like->count, .rows = 1};
    return ORT_OK;
}

/* Rows have no average: all rows of the positives, and those of the negatives turned around, as
 * Qdrant does it. */
static ort_err
join_rows(dp_call *call, example_list good, example_list bad, dp_vector *out)
{
    const dp_vector *like = first_of(good);
    const size_t dim = like->count;
    size_t rows = 0;
    const example_list lists[2] = {good, bad};
    for (size_t l = 0; l < 2; l++) {
        for (uint32_t i = 0; i < lists[l].n; i++) {
            const dp_vector *v = &lists[l].from[i].vector;
            if (lists[l].from[i].missing) {
                continue;
            }
            if (v->kind == DP_VECTOR_SPARSE || v->count != dim) {
                return kinds_differ(call, like, v);
            }
            rows += v->rows;
        }
    }
    if (rows * dim > (64u << 20) / sizeof(float)) {
        return ort_fail(&call->diag, ORT_EBADREQ, "the examples have too many rows together");
    }
    float *values = malloc((rows * dim + 1) * sizeof *values);
    if (values == NULL) {
        return ORT_ENOMEM;
    }
    size_t at = 0;
    for (size_t l = 0; l < 2; l++) {
        for (uint32_t i = 0; i < lists[l].n; i++) {
            const dp_vector *v = &lists[l].from[i].vector;
            const size_t n = lists[l].from[i].missing ? 0 : v->rows * dim;
            for (size_t k = 0; k < n; k++) {
                values[at++] = l == 0 ? v->values[k] : -v->values[k];
            }
        }
    }
    *out = (dp_vector){
        .kind = DP_VECTOR_MULTI, .values = values, .count = (uint32_t)dim, .rows = (uint32_t)rows};
    return ORT_OK;
}

typedef struct {
    uint32_t index;
    double value;
} entry;

static int
by_index(const void *a, const void *b)
{
    const entry *x = a;
    const entry *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Entries of all examples, weighted, then summed by index. */
static ort_err
average_sparse(dp_call *call, example_list good, example_list bad, dp_vector *out)
{
    const example_list lists[2] = {good, bad};
    const double factors[2] = {(present(bad) > 0 ? 2.0 : 1.0) / present(good),
                               present(bad) > 0 ? -1.0 / present(bad) : 0};
    size_t total = 0, n = 0;
    for (size_t l = 0; l < 2; l++) {
        for (uint32_t i = 0; i < lists[l].n; i++) {
            const dp_vector *v = &lists[l].from[i].vector;
            if (!lists[l].from[i].missing && v->kind != DP_VECTOR_SPARSE) {
                return kinds_differ(call, first_of(good), v);
            }
            total += lists[l].from[i].missing ? 0 : v->count;
        }
    }
    entry *all = calloc(total + 1, sizeof *all);
    float *values = malloc((total + 1) * (sizeof(float) + sizeof(uint32_t)));
    if (all == NULL || values == NULL) {
        free(all);
        free(values);
        return ORT_ENOMEM;
    }
    for (size_t l = 0; l < 2; l++) {
        for (uint32_t i = 0; i < lists[l].n; i++) {
            const dp_vector *v = &lists[l].from[i].vector;
            for (uint32_t k = 0; !lists[l].from[i].missing && k < v->count; k++) {
                all[n++] = (entry){v->indices[k], factors[l] * (double)v->values[k]};
            }
        }
    }
    qsort(all, n, sizeof *all, by_index);
    uint32_t *indices = (uint32_t *)(void *)(values + total);
    uint32_t count = 0;
    for (size_t i = 0; i < n;) {
        double sum = 0;
        const uint32_t index = all[i].index;
        for (; i < n && all[i].index == index; i++) {
            sum += all[i].value;
        }
        indices[count] = index;
        values[count++] = (float)sum;
    }
    free(all);
    *out = (dp_vector){
        .kind = DP_VECTOR_SPARSE, .values = values, .indices = indices, .count = count, .rows = 1};
    return ORT_OK;
}

/* Twice the mean of what is liked less the mean of what is not, or the mean of what is liked alone.
 */
ort_err
dp_plan__run_recommend(dp_call *call, dp_plan *plan, const dp_plan__scope *s,
                       const dp_found_list *among, uint64_t want, dp_found_list *out)
{
    const dp_plan__step *at = s->at;
    const example_list good = {at->inputs, at->positive_count};
    const example_list bad = {at->inputs + at->positive_count, at->negative_count};
    const dp_vector *like = first_of(good);
    dp_query query = at->ask.query;
    if (like == NULL) {
        return ort_fail(&call->diag, ORT_EINVAL,
                        "Positive vectors should not be empty with `average` strategy");
    }
    query.kind = DP_QUERY_NEAREST;
    ort_err err = like->kind == DP_VECTOR_SPARSE  ? average_sparse(call, good, bad, &query.vector)
                  : like->kind == DP_VECTOR_MULTI ? join_rows(call, good, bad, &query.vector)
                                                  : average_dense(call, good, bad, &query.vector);
    if (err == ORT_OK) {
        err = dp_plan__ask_collection(call, plan, s, &query, among, want, out);
        dp_vector_fini(&query.vector);
    }
    return err;
}

/* --- scored by several examples ----------------------------------------------------------------
 */

static void
take_vectors(example_list list, dp_vector *out, uint32_t *count)
{
    for (uint32_t i = 0; i < list.n; i++) {
        if (!list.from[i].missing) {
            out[(*count)++] = list.from[i].vector; /* borrowed */
        }
    }
}

/* An example and its rating; equal ones stay in the request's order. */
typedef struct {
    float score;
    uint32_t at;
} rating;

static int
by_score(const void *a, const void *b)
{
    const rating *x = a;
    const rating *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    return x->at < y->at ? -1 : x->at > y->at;
}

#define FEEDBACK_PAIRS_MAX 3u

/* The best rated with the worst, the second with the last but one, and so on: three pairs at most.
 * What a pair weighs is its difference in rating, to the power of b, times c. */
static ort_err
make_pairs(const dp_plan__step *s, dp_examples *ex, dp_vector *vectors, float *weights)
{
    const uint32_t n = s->positive_count;
    const uint32_t pairs = n / 2 < FEEDBACK_PAIRS_MAX ? n / 2 : FEEDBACK_PAIRS_MAX;
    rating *rated = calloc((size_t)n + 1, sizeof *rated);
    if (rated == NULL) {
        return ORT_ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        rated[i] = (rating){s->inputs[1 + i].score, 1 + i};
    }
    if (n > 0) {
        qsort(rated, n, sizeof *rated, by_score);
    }
    for (uint32_t i = 0; i < pairs; i++) {
        const rating good = rated[i], bad = rated[n - 1 - i];
        vectors[i] = s->inputs[good.at].vector;
        vectors[pairs + i] = s->inputs[bad.at].vector;
        weights[i] = powf(good.score - bad.score, s->b) * s->c;
    }
    free(rated);
    ex->positive_count = pairs;
    ex->negative_count = pairs;
    ex->positive = vectors;
    ex->negative = vectors + pairs;
    ex->weights = weights;
    ex->a = s->a;
    return ORT_OK;
}

ort_err
dp_plan__run_examples(dp_call *call, dp_plan *plan, const dp_plan__scope *s,
                      const dp_found_list *among, uint64_t want, dp_found_list *out)
{
    const dp_plan__step *at = s->at;
    const dp_plan__input *first = at->inputs + (at->has_target ? 1 : 0);
    const example_list good = {first, at->positive_count};
    const example_list bad = {first + at->positive_count, at->negative_count};
    dp_examples ex = {.kind = at->examples,
                      .target = at->has_target ? &at->inputs[0].vector : NULL};
    dp_vector *vectors = calloc((size_t)at->input_count + 1, sizeof *vectors);
    float weights[FEEDBACK_PAIRS_MAX] = {0};
    dp_query query = at->ask.query;
    ort_err err = vectors != NULL ? ORT_OK : ORT_ENOMEM;

    if (err == ORT_OK && at->examples == DP_EXAMPLES_FEEDBACK) {
        err = make_pairs(at, &ex, vectors, weights);
    } else if (err == ORT_OK) {
        take_vectors(good, vectors, &ex.positive_count);
        take_vectors(bad, vectors + ex.positive_count, &ex.negative_count);
        ex.positive = vectors;
        ex.negative = vectors + ex.positive_count;
    }
    if (err == ORT_OK) {
        query.kind = DP_QUERY_EXAMPLES;
        query.examples = &ex;
        err = dp_plan__ask_collection(call, plan, s, &query, among, want, out);
    }
    free(vectors);
    return err;
}
