/* When a walk has seen enough.
 *
 * A fixed ef looks as far for an easy query as for a hard one. Instead, once k are found, a walk
 * drops what is farther than (1 + g) times the k-th (adaptive beam search, arXiv:2505.15636); ef
 * then only caps the pool, at twice its size. So that ef keeps its meaning, g is learnt per graph
 * and ef: the smallest g whose walks find as many of the k nearest as walks of that fixed ef do, on
 * points of the graph itself, each looked for as if it were not there.
 *
 * Distances as people think of them are Euclidean or Manhattan; EUCLID is kept squared, and COSINE
 * as -cos, where the squared distance of unit vectors is 2 - 2 cos: hence factor and shift. The
 * plain DOT product is no distance, and its walks go to the end. */
#include <math.h>
#include <stdlib.h>

#include "index/hnsw_internal.h"

static const uint32_t step_ef[DP_STOP_STEPS] = {10, 24, 64, 160, 400};
static const float reach[] = {0.00F, 0.01F, 0.02F, 0.03F, 0.04F, 0.05F, 0.06F, 0.08F,
                              0.10F, 0.12F, 0.15F, 0.18F, 0.22F, 0.27F, 0.33F, 0.40F};
#define REACHES (sizeof reach / sizeof reach[0])

#define SAMPLES 160u
#define SAMPLES_MIN 20u /* a graph that links few of its points may have fewer to walk for */
#define LEARN_MIN 1000u /* smaller graphs are walked through in no time */
#define TRUTH_EF 800u

typedef struct {
    uint32_t slot;
    float kth; /* distance of the k-th nearest other point, as a long walk found it */
} sample;

static dp_walk_stop
stop_of(const dp_hnsw *graph, float length, uint32_t k, float g)
{
    dp_walk_stop stop = {.k = k, .factor = (1 + g) * (1 + g), .shift = 0};

    if (graph->metric == DP_METRIC_COSINE) {
        stop.shift = length; /* 2 - 2 cos = 2 (1 + distance), when the query's length is 1 */
    } else if (graph->metric == DP_METRIC_MANHATTAN) {
        stop.factor = 1 + g;
    }
    return stop;
}

/* The candidate whose distance a walk's limit hangs on: the k-th; but where codes are so coarse
 * that more than usual are measured again, the last of these. */
static uint32_t
rank_of(uint32_t k, size_t depth)
{
    return depth > DP_HNSW_DEPTH_USUAL((size_t)k) ? (uint32_t)depth : k;
}

dp_walk_stop
dp_hnsw__stop(const dp_hnsw *graph, const float *vector, uint32_t k, size_t depth, size_t ef,
              size_t *pool)
{
    double want = (double)ef * DP_STOP_K / (k > DP_STOP_K ? k : DP_STOP_K);
    uint32_t i = 1;
    float length;
    float low;
    float high;
    double t;

    /* With hardly more candidates than answers there is nothing to gain. */
    if (want < step_ef[0] || ef < (size_t)k + k / 2 ||
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->stop_learnt_at, memory_order_acquire) ==
            0) {
        return DP_WALK_TO_THE_END;
    }
    while (i + 1 < DP_STOP_STEPS && want > step_ef[i]) {
        i++;
    }
    low = atomic_load_explicit((_Atomic(float) *)&graph->stop[i - 1], memory_order_relaxed);
    high = atomic_load_explicit((_Atomic(float) *)&graph->stop[i], memory_order_relaxed);
    t = log(want / step_ef[i - 1]) / log((double)step_ef[i] / step_ef[i - 1]);
    *pool *= 2;
    length = graph->metric == DP_METRIC_COSINE ? sqrtf(dp_norm2(vector, graph->rows->dim)) : 0;
    return stop_of(graph, length, rank_of(k > DP_STOP_K ? k : DP_STOP_K, depth),
                   low + (float)t * (high - low));
}

/* Whether what a walk finds says little until it is measured again. */
static bool
is_coarse(const dp_scratch *s)
{
    return s->set != NULL && dp_coder_kind(s->set->coder) != DP_CODE_INT8;
}

/* Walks for a sample as if it were not in the graph; how many of the pool (of coarse codes: of its
 * first `depth`, by their rows) are at most `kth` away, DP_STOP_K at most. *kth_out: the distance
 * of the DP_STOP_K-th. */
static uint32_t
walk_sample(const dp_hnsw *graph, dp_scratch *s, uint32_t slot, size_t ef, size_t depth,
            dp_walk_stop stop, float kth, float *kth_out)
{
    dp_walk_query query;
    dp_candidate start;
    uint32_t found = 0;
    uint32_t level;
    size_t n;

    *kth_out = INFINITY;
    dp_hnsw__aim(graph, s, dp_hnsw__vector(graph, slot, s->vector), &query);
    if (!dp_hnsw__enter(graph, s, &query, slot, &start, &level)) {
        return 0;
    }
    dp_scratch_forget(s);
    if (start.slot != slot) {
        (void)dp_scratch_visit(s, slot); /* met already: never put into the pool, never followed */
    }
    n = dp_hnsw__walk(graph, s, &query, start, level, ef, stop);
    if (is_coarse(s)) {
        n = n < depth ? n : depth;
        dp_hnsw__measure_rows(graph, s, query.vector, s->pool, n);
        qsort(s->pool, n, sizeof *s->pool, dp_hit_compare);
    }
    while (found < DP_STOP_K && found < n && s->pool[found].distance <= kth) {
        found++;
    }
    *kth_out = n >= DP_STOP_K ? s->pool[DP_STOP_K - 1].distance : INFINITY;
    return found;
}

/* Of a search of this ef, with this reach; less than 0: to the end. */
static uint32_t
recall_of(const dp_hnsw *graph, dp_scratch *s, const sample *samples, size_t n, size_t ef, float g)
{
    size_t depth = s->set != NULL ? dp_hnsw__depth(s->set, ef, DP_STOP_K) : DP_STOP_K;
    size_t pool = s->set != NULL ? dp_hnsw__widen(s->set, ef) : ef;
    dp_walk_stop stop = DP_WALK_TO_THE_END;
    uint32_t sum = 0;
    float kth;

    if (g >= 0) {
        stop = stop_of(graph, 1, rank_of(DP_STOP_K, depth), g);
        pool *= 2;
    }
    pool = pool < TRUTH_EF ? pool : TRUTH_EF;
    for (size_t i = 0; i < n; i++) {
        sum += walk_sample(graph, s, samples[i].slot, pool, depth, stop, samples[i].kth, &kth);
    }
    return sum;
}

/* Live slots all over the graph; one that a descent ends at is of no use and left out. */
static size_t
take_samples(const dp_hnsw *graph, dp_scratch *s, sample *samples)
{
    uint32_t end =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_end, memory_order_acquire);
    uint64_t x = 1;
    size_t n = 0;

    for (uint32_t tries = 0; tries < SAMPLES * 8 && n < SAMPLES; tries++) {
        uint32_t slot;
        float kth = INFINITY;

        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        slot = (uint32_t)((x >> 33) % end);
        if (dp_hnsw__state(graph, slot) != DP_NODE_LIVE) {
            continue;
        }
        (void)walk_sample(graph, s, slot, TRUTH_EF, TRUTH_EF, DP_WALK_TO_THE_END, 0, &kth);
        if (isfinite(kth)) {
            samples[n++] = (sample){.slot = slot, .kth = kth};
        }
    }
    return n;
}

/* The smallest reach, by bisection, that finds as much as the fixed ef, but for a quarter of a
 * point: the last few of so few samples are chance. */
static float
learn_step(const dp_hnsw *graph, dp_scratch *s, const sample *samples, size_t n, uint32_t ef)
{
    uint32_t want = recall_of(graph, s, samples, n, ef, -1);
    uint32_t slack = (uint32_t)(n * DP_STOP_K / 400);
    size_t low = 0;
    size_t high = REACHES - 1;

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (recall_of(graph, s, samples, n, ef, reach[mid]) + slack >= want) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return reach[low];
}

static void
learn(dp_hnsw *graph)
{
    float learnt[DP_STOP_STEPS];
    sample samples[SAMPLES] = {{0}};
    dp_scratch *s;
    size_t n;

    if (dp_hnsw__take(graph, graph, &s) != ORT_OK) {
        return;
    }
    if (dp_scratch_pool(s, TRUTH_EF) == ORT_OK) {
        n = take_samples(graph, s, samples);
        for (int i = 0; n >= SAMPLES_MIN && i < DP_STOP_STEPS; i++) {
            learnt[i] = learn_step(graph, s, samples, n, step_ef[i]);
            if (i > 0 && learnt[i] < learnt[i - 1]) {
                learnt[i] = learnt[i - 1];
            }
            atomic_store_explicit(&graph->stop[i], learnt[i], memory_order_relaxed);
        }
        if (n >= SAMPLES_MIN) {
            atomic_store_explicit(&graph->stop_learnt_at,
                                  atomic_load_explicit(&graph->live, memory_order_relaxed),
                                  memory_order_release);
        }
    }
    dp_scratch_give(s);
}

void
dp_hnsw__learn_stop(dp_hnsw *graph)
{
    uint32_t live = atomic_load_explicit(&graph->live, memory_order_relaxed);
    uint32_t last = atomic_load_explicit(&graph->stop_learnt_at, memory_order_relaxed);
    bool idle = false;

    if (live < LEARN_MIN || live / 2 < last || graph->metric == DP_METRIC_DOT ||
        !atomic_compare_exchange_strong(&graph->stop_learning, &idle, true)) {
        return;
    }
    learn(graph);
    atomic_store(&graph->stop_learning, false);
}
