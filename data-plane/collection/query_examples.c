/* Searches by several examples.
 *
 * Every match is scored while that is quick. Beyond, points are gathered by walks, and those are
 * scored: around each example that attracts, and around vectors made of all of them. Four times as
 * many are gathered until none that is outside can be better than the last that is answered; where
 * that is not to be had, all are scored after all if that is not too slow. */
#include <math.h>
#include <stdlib.h>

#include "collection/measure_internal.h"
#include "collection/query_internal.h"

/* Floats compared for one query. A block of rows is compared with every example while it is in the
 * cache: bench_examples sees 13 of them a nanosecond (AVX-512, one thread), so 10 ms, about what
 * the walks take, and 160 ms. */
#define SCORED_FLOATS_MAX (UINT64_C(1) << 27)
#define SCORED_AFTER_ALL (UINT64_C(1) << 31)
#define GATHERED_FLOATS_MAX (UINT64_C(1) << 29)
#define GATHER_MIN 256u    /* around each example */
#define GATHER_MAX 16384u  /* around all probes, where all can be scored after it */
#define GATHER_MORE 65536u /* and where not */
#define GATHER_MADE 4u     /* times as many around a vector that is made: it lies off the points */
#define GATHER_WALKS_MAX 64u

static uint64_t
floats_of(const dp_search *q, uint64_t slots)
{
    const dp_examples *ex = q->ask->examples;
    const uint64_t vectors = (uint64_t)ex->positive_count + ex->negative_count + 1;
    return slots * vectors * q->schema->size;
}

/* Where to look: the vectors made of the examples, then the examples themselves. */
typedef struct {
    dp_vector at[DP_EXAMPLES_PROBES + 1 + GATHER_WALKS_MAX];
    uint32_t made, count;
    float *own;
} probes;

/* The slots around probes, each once. */
typedef struct {
    uint64_t *seen; /* a bit for each slot */
    uint32_t *slots;
    size_t count;
    float outside; /* no other slot is liker than this to an example that attracts */
} gathered;

static ort_err
gather_around(dp_search *q, const probes *p, uint32_t probe, uint32_t size, gathered *g)
{
    const bool made = probe < p->made;
    dp_query ask = *q->ask;
    ask.kind = DP_QUERY_NEAREST;
    dp_search around = *q;
    around.ask = &ask;
    around.own = NULL;
    around.k = !made                                ? size
               : size < ORT_TOP_K_MAX / GATHER_MADE ? GATHER_MADE * size
                                                    : ORT_TOP_K_MAX;
    around.hits = malloc(((size_t)around.k + 1) * sizeof *around.hits);
    ort_err err = around.hits != NULL ? dp_search__take_vector(&around, &p->at[probe])
                                      : ort_fail(q->diag, ORT_ENOMEM, "out of memory");
    if (err == ORT_OK) {
        err = dp_search__find_dense(&around);
    }
    for (size_t i = 0; err == ORT_OK && i < around.count; i++) {
        const uint32_t slot = around.hits[i].slot;
        if ((g->seen[slot / 64] >> (slot % 64) & 1) == 0) {
            g->seen[slot / 64] |= UINT64_C(1) << (slot % 64);
            g->slots[g->count++] = slot;
        }
    }
    if (err == ORT_OK && !made && around.count == size &&
        -around.hits[size - 1].distance > g->outside) {
        g->outside = -around.hits[size - 1].distance;
    }
    free(around.own);
    free(around.hits);
    return err;
}

static ort_err
gather(dp_search *q, const probes *p, uint32_t size, gathered *g)
{
    const size_t most = (size_t)size * (p->count + (GATHER_MADE - 1) * p->made);
    *g = (gathered){.outside = -INFINITY};
    g->seen = calloc((size_t)dp_points_slot_end(q->s->points) / 64 + 1, sizeof *g->seen);
    g->slots = malloc((most + 1) * sizeof *g->slots);
    ort_err err = g->seen != NULL && g->slots != NULL
                      ? ORT_OK
                      : ort_fail(q->diag, ORT_ENOMEM, "out of memory");
    for (uint32_t i = 0; err == ORT_OK && i < p->count; i++) {
        err = gather_around(q, p, i, size, g);
    }
    return err;
}

/* How many to gather around each probe at first. */
static uint32_t
first_size(const dp_search *q, const probes *p)
{
    const uint64_t each = floats_of(q, p->count + (GATHER_MADE - 1) * p->made);
    const uint64_t fit = SCORED_FLOATS_MAX / (each > 0 ? each : 1);
    const uint32_t size = fit < GATHER_MIN ? (uint32_t)fit : GATHER_MIN;
    return size < q->k ? q->k : size;
}

/* *sure: what was found is the best, as far as walks are right. */
static ort_err
find_around(dp_search *q, const probes *p, uint64_t most, bool *sure)
{
    const uint64_t walks = p->count + (GATHER_MADE - 1) * p->made;
    *sure = false;
    if (most < GATHER_MORE && walks * first_size(q, p) > most) {
        return ORT_OK; /* so many are wanted that scoring all is no more work */
    }
    for (uint32_t size = first_size(q, p);; size *= 4) {
        gathered g;
        ort_err err = gather(q, p, size, &g);
        if (err == ORT_OK) {
            err = dp_search__measure(q, g.slots, g.count);
        }
        const uint64_t next = floats_of(q, 4 * (uint64_t)g.count);
        const float bound = dp_examples__bound(q->ask->examples, g.outside);
        free(g.seen);
        free(g.slots);
        *sure = err == ORT_OK && q->count > 0 && -q->hits[q->count - 1].distance >= bound;
        if (err != ORT_OK || *sure || 4 * walks * size > most || next > GATHERED_FLOATS_MAX) {
            return err;
        }
    }
}

static ort_err
find_gathered(dp_search *q, uint64_t most, bool *sure)
{
    const dp_examples *ex = q->ask->examples;
    probes *p = calloc(1, sizeof *p);
    *sure = false;
    if (p == NULL) {
        return ort_fail(q->diag, ORT_ENOMEM, "out of memory");
    }
    ort_err err = dp_examples__probes(q->schema, ex, p->at, &p->made, &p->own, q->diag);
    p->count = p->made;
    if (ex->target != NULL) {
        p->at[p->count++] = *ex->target;
    }
    /* On the right side of its own pair a point near a positive example may be far from the target.
     */
    const bool by_target = ex->kind == DP_EXAMPLES_DISCOVER;
    for (uint32_t i = 0; i < ex->positive_count && i < GATHER_WALKS_MAX && !by_target; i++) {
        p->at[p->count++] = ex->positive[i];
    }
    err = err == ORT_OK ? find_around(q, p, most, sure) : err;
    free(p->own);
    free(p);
    return err;
}

ort_err
dp_search__find_by_examples(dp_search *q)
{
    const dp_examples *ex = q->ask->examples;
    const bool attracted = ex->target != NULL || ex->positive_count > 0;
    const bool walks = !q->schema->sparse && !q->schema->multi && attracted && !q->ask->exact &&
                       q->s->derived[q->column].graph != NULL;
    dp_matcher m = dp_search__matcher(q);
    m.column = (int)q->column;
    uint32_t *slots = NULL;
    size_t count = (size_t)q->s->derived[q->column].live_count;
    const bool counted = dp_filter_is_empty(m.filter);
    bool sure = false;
    ort_err err = counted ? ORT_OK : dp_search__candidates(q->s, &m, &slots, &count);
    if (err == ORT_OK && walks && floats_of(q, count) > SCORED_FLOATS_MAX) {
        const bool too_many = floats_of(q, count) > SCORED_AFTER_ALL;
        err = find_gathered(q, too_many ? GATHER_MORE : GATHER_MAX, &sure);
        sure = sure || too_many;
    }
    if (err == ORT_OK && !sure) {
        err = counted ? dp_search__candidates(q->s, &m, &slots, &count) : ORT_OK;
        err = err == ORT_OK ? dp_search__measure(q, slots, count) : err;
    }
    free(slots);
    return err;
}
