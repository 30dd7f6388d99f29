/* Scores from several examples: recommend, discover, context, feedback.
 *
 * Slots are taken a block at a time: each example is measured against the whole block (its row
 * stays in the cache, the block's rows do too), and its likenesses are folded into the block's
 * scores, so that memory does not grow with the number of examples. Pairs need the likenesses of
 * two. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "collection/measure_internal.h"

#define BLOCK 256u

/* The examples as they are compared. */
typedef struct {
    dp_shard *s;
    dp_reader *reader;
    uint32_t column;
    const dp_examples *ex;
    dp_vector *vectors; /* target (when there is one), positives, negatives */
    float **own;
    size_t count;
    ort_diag *diag;
} scorer;

static float
squash(float x)
{
    return x / (1 + fabsf(x));
}

static float
scaled(float x)
{
    return 0.5F * (squash(x) + 1);
}

static ort_err
prepare(scorer *q, const dp_vector *v)
{
    const dp_vector_schema *schema = dp_schema_peek_vector(q->s->schema, q->column);
    const ort_err err =
        dp_measure__prepare(schema, v, &q->vectors[q->count], &q->own[q->count], q->diag);
    q->count += err == ORT_OK;
    return err;
}

static ort_err
prepare_all(scorer *q)
{
    const dp_examples *ex = q->ex;
    const size_t most = (size_t)ex->positive_count + ex->negative_count + 1;
    q->vectors = calloc(most, sizeof *q->vectors);
    q->own = calloc(most, sizeof *q->own);
    if (q->vectors == NULL || q->own == NULL) {
        return ort_fail(q->diag, ORT_ENOMEM, "out of memory");
    }
    ort_err err = ex->target != NULL ? prepare(q, ex->target) : ORT_OK;
    for (uint32_t i = 0; err == ORT_OK && i < ex->positive_count; i++) {
        err = prepare(q, &ex->positive[i]);
    }
    for (uint32_t i = 0; err == ORT_OK && i < ex->negative_count; i++) {
        err = prepare(q, &ex->negative[i]);
    }
    return err;
}

/* likeness[i] of slots[i] to vector v of the list. */
static ort_err
liken(scorer *q, size_t v, const uint32_t *slots, size_t count, float *likeness)
{
    const ort_err err = dp_measure__slots(q->s, q->reader, q->column, &q->vectors[v], slots, count,
                                          likeness, q->diag);
    for (size_t i = 0; i < count; i++) {
        likeness[i] = -likeness[i];
    }
    return err;
}

/* The likest of the examples [from, from + n), for each slot. */
static ort_err
likest(scorer *q, size_t from, size_t n, const uint32_t *slots, size_t count, float *best)
{
    float likeness[BLOCK];
    ort_err err = ORT_OK;
    for (size_t i = 0; i < count; i++) {
        best[i] = -INFINITY;
    }
    for (size_t v = from; err == ORT_OK && v < from + n; v++) {
        err = liken(q, v, slots, count, likeness);
        for (size_t i = 0; err == ORT_OK && i < count; i++) {
            best[i] = likeness[i] > best[i] ? likeness[i] : best[i];
        }
    }
    return err;
}

static ort_err
by_best(scorer *q, const uint32_t *slots, size_t count, float *out)
{
    float good[BLOCK], bad[BLOCK];
    ort_err err = likest(q, 0, q->ex->positive_count, slots, count, good);
    if (err == ORT_OK) {
        err = likest(q, q->ex->positive_count, q->ex->negative_count, slots, count, bad);
    }
    for (size_t i = 0; err == ORT_OK && i < count; i++) {
        out[i] = good[i] > bad[i] ? scaled(good[i]) : -scaled(bad[i]);
    }
    return err;
}

static ort_err
by_sum(scorer *q, const uint32_t *slots, size_t count, float *out)
{
    float likeness[BLOCK];
    ort_err err = ORT_OK;
    for (size_t i = 0; i < count; i++) {
        out[i] = 0;
    }
    for (size_t v = 0; err == ORT_OK && v < q->count; v++) {
        err = liken(q, v, slots, count, likeness);
        for (size_t i = 0; err == ORT_OK && i < count; i++) {
            out[i] += v < q->ex->positive_count ? likeness[i] : -likeness[i];
        }
    }
    return err;
}

/* What one pair adds to a score, from the likenesses to both sides. */
static float
pair_term(const dp_examples *ex, uint32_t pair, float good, float bad)
{
    switch (ex->kind) {
    case DP_EXAMPLES_DISCOVER:
        return good > bad ? 1 : good < bad ? -1 : 0;
    case DP_EXAMPLES_CONTEXT:
        return squash(fminf(good - bad - FLT_EPSILON, 0));
    default:
        return ex->weights[pair] * (good - bad);
    }
}

static ort_err
by_pairs(scorer *q, const uint32_t *slots, size_t count, float *out)
{
    const dp_examples *ex = q->ex;
    const size_t first = ex->target != NULL ? 1 : 0;
    float good[BLOCK], bad[BLOCK];
    ort_err err = ORT_OK;
    for (size_t i = 0; i < count; i++) {
        out[i] = 0;
    }
    for (uint32_t p = 0; err == ORT_OK && p < ex->positive_count; p++) {
        err = liken(q, first + p, slots, count, good);
        if (err == ORT_OK) {
            err = liken(q, first + ex->positive_count + p, slots, count, bad);
        }
        for (size_t i = 0; err == ORT_OK && i < count; i++) {
            out[i] += pair_term(ex, p, good[i], bad[i]);
        }
    }
    if (err != ORT_OK || ex->target == NULL) {
        return err;
    }
    err = liken(q, 0, slots, count, good);
    for (size_t i = 0; err == ORT_OK && i < count; i++) {
        out[i] += ex->kind == DP_EXAMPLES_DISCOVER ? scaled(good[i]) : ex->a * good[i];
    }
    return err;
}

/* --- where the best ones lie --------------------------------------------------------------------
 */

/* What example i of a list weighs in the sum. */
static float
weight_of(const dp_examples *ex, uint32_t i)
{
    return ex->kind == DP_EXAMPLES_FEEDBACK ? ex->weights[i] : 1;
}

static ort_err
add_weighted(const dp_vector_schema *schema, const dp_vector *v, float weight, float *sum,
             ort_diag *diag)
{
    dp_vector unit;
    float *own;
    const ort_err err = dp_measure__prepare(schema, v, &unit, &own, diag);
    for (uint32_t i = 0; err == ORT_OK && i < schema->size; i++) {
        sum[i] += weight * unit.values[i];
    }
    free(own);
    return err;
}

/* What the examples come to: all as they weigh, the middle of those that attract (or the target),
 * and the mean way from those that repel to those that attract. */
typedef struct {
    float *sum, *base, *way;
    float weight;
} mixture;

static ort_err
mix(const dp_vector_schema *schema, const dp_examples *ex, mixture *m, ort_diag *diag)
{
    const uint32_t good = ex->positive_count, bad = ex->negative_count;
    const float each = 1 / (float)(good > 0 ? good : 1);
    ort_err err = ORT_OK;
    if (ex->target != NULL) {
        m->weight += ex->a;
        err = add_weighted(schema, ex->target, ex->a, m->sum, diag);
        err = err == ORT_OK ? add_weighted(schema, ex->target, 1, m->base, diag) : err;
    }
    for (uint32_t i = 0; err == ORT_OK && i < good; i++) {
        m->weight += weight_of(ex, i);
        err = add_weighted(schema, &ex->positive[i], weight_of(ex, i), m->sum, diag);
        err = err == ORT_OK ? add_weighted(schema, &ex->positive[i], each, m->way, diag) : err;
        if (err == ORT_OK && ex->target == NULL) {
            err = add_weighted(schema, &ex->positive[i], each, m->base, diag);
        }
    }
    for (uint32_t i = 0; err == ORT_OK && i < bad; i++) {
        m->weight -= weight_of(ex, i);
        err = add_weighted(schema, &ex->negative[i], -weight_of(ex, i), m->sum, diag);
        err = err == ORT_OK ? add_weighted(schema, &ex->negative[i], -1 / (float)bad, m->way, diag)
                            : err;
    }
    return err;
}

/* The sum, where scores are likenesses to it. Squared distances to several points, as they weigh,
 * differ by a constant from the one to their centre; where as much repels as attracts there is
 * none, and the best lie from the middle on, away from what repels. Pairs want a point that is on
 * the right side of all of them: the farther on that way the surer, and the farther from the base.
 */
static void
put_probe(const dp_vector_schema *schema, const dp_examples *ex, const mixture *m, uint32_t probe,
          float *out)
{
    static const float steps[DP_EXAMPLES_PROBES] = {1, 4, 16};
    const bool adds_up = ex->kind == DP_EXAMPLES_SUM || ex->kind == DP_EXAMPLES_FEEDBACK;
    const bool similar = dp_metric_larger_is_better(schema->metric);
    for (uint32_t i = 0; i < schema->size; i++) {
        out[i] = adds_up && similar         ? m->sum[i]
                 : adds_up && m->weight > 0 ? m->sum[i] / m->weight
                                            : m->base[i] + steps[probe] * m->way[i];
    }
}

ort_err
dp_examples__probes(const dp_vector_schema *schema, const dp_examples *ex,
                    dp_vector out[DP_EXAMPLES_PROBES], uint32_t *count, float **own, ort_diag *diag)
{
    const size_t size = schema->size;
    *own = NULL;
    *count = ex->kind == DP_EXAMPLES_BEST                                      ? 0
             : ex->kind == DP_EXAMPLES_SUM || ex->kind == DP_EXAMPLES_FEEDBACK ? 1
                                                                               : DP_EXAMPLES_PROBES;
    if (*count == 0) {
        return ORT_OK;
    }
    float *all = calloc((3 + DP_EXAMPLES_PROBES) * size, sizeof *all);
    if (all == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    float *probes = all + 3 * size;
    mixture m = {.sum = all, .base = all + size, .way = all + 2 * size};
    const ort_err err = mix(schema, ex, &m, diag);
    if (err != ORT_OK) {
        free(all);
        return err;
    }
    for (uint32_t i = 0; i < *count; i++) {
        put_probe(schema, ex, &m, i, probes + i * size);
        out[i] = (dp_vector){
            .kind = DP_VECTOR_DENSE, .values = probes + i * size, .count = schema->size, .rows = 1};
    }
    *own = all;
    return ORT_OK;
}

float
dp_examples__bound(const dp_examples *ex, float likeness)
{
    if (likeness == -INFINITY) {
        return -INFINITY;
    }
    switch (ex->kind) {
    case DP_EXAMPLES_BEST:
        return scaled(likeness);
    case DP_EXAMPLES_DISCOVER:
        return (float)ex->positive_count + scaled(likeness);
    case DP_EXAMPLES_CONTEXT: /* right in all pairs: none is better but by rounding */
        return 2 * (float)ex->positive_count * squash(-FLT_EPSILON);
    default:
        return -INFINITY;
    }
}

/* --- scores -------------------------------------------------------------------------------------
 */

ort_err
dp_examples__score(dp_shard *s, dp_reader *reader, uint32_t column, const dp_examples *ex,
                   const uint32_t *slots, size_t count, float *out, ort_diag *diag)
{
    scorer q = {.s = s, .reader = reader, .column = column, .ex = ex, .diag = diag};
    ort_err err = prepare_all(&q);
    for (size_t at = 0; err == ORT_OK && at < count; at += BLOCK) {
        const size_t n = count - at < BLOCK ? count - at : BLOCK;
        err = ex->kind == DP_EXAMPLES_BEST  ? by_best(&q, slots + at, n, out + at)
              : ex->kind == DP_EXAMPLES_SUM ? by_sum(&q, slots + at, n, out + at)
                                            : by_pairs(&q, slots + at, n, out + at);
    }
    for (size_t i = 0; q.own != NULL && i < q.count; i++) {
        free(q.own[i]);
    }
    free(q.own);
    free(q.vectors);
    return err;
}
