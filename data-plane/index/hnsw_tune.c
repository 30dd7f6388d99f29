/* Which codes a graph's walks go over, and how deep their answers are looked at again.
 *
 * A graph begins with bytes (int8). Once there is something to learn from, the codes that were
 * asked for are trained on a sample of its rows, or, when nothing was asked for, the coarser
 * candidates of `choices`; each is filled beside the set in use (hnsw_codes.c) and tried on points
 * of the graph, looked for as if they were not there. At each ef of `step_ef`, the set must find as
 * many of the true 10 nearest as a walk of that ef over the rows, but for LOSS; the smallest
 * widening of the walk and the smallest number of candidates measured again that reach it are kept
 * with the set.
 *
 * Of those that reach it the cheapest is taken, by what a walk reads (cost_of()); half the memory
 * is worth a little time. It is done again when the graph has doubled, or when the rows that came
 * since are coded worse than those of the sample were. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/hnsw_internal.h"

static const uint32_t step_ef[DP_TUNE_STEPS] = {10, 32, 100, 320};

/* Walks of that many times ef. */
static const float widenings[] = {1.0F, 1.25F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F, 8.0F};
#define WIDENINGS (sizeof widenings / sizeof widenings[0])
#define WIDENING_FREELY 2 /* of them, for what nobody asked for */

#define TUNE_MIN 1000u /* live nodes; fewer are walked through in no time */
#define SAMPLES 128u
#define K 10u
#define TRUTH_EF 640u
#define LOSS 0.001 /* a fifth of what users are promised (half a point): samples are few */

/* Drift: this many rows were coded since, at so many times the error of the sample. */
#define DRIFT_ROWS_MIN 500u
#define DRIFT_PART 16u
#define DRIFT_TIMES 1.5

/* A coarser set is taken when it costs no more than this share of the finer one's time. */
#define WORTH 1.05

typedef struct {
    dp_code kind;
    dp_code_options options;
} choice;

static const choice choices[] = {{DP_CODE_ROTATED, {.bits = 4}}};
#define CHOICES (sizeof choices / sizeof choices[0])

typedef struct {
    uint32_t slot;
    float kth; /* distance of the K-th nearest other point, by rows */
} sample;

typedef struct {
    dp_hnsw *graph;
    const dp_hnsw_progress *progress;
    sample samples[SAMPLES];
    size_t count;
    double rows_recall[DP_TUNE_STEPS]; /* of walks over rows */
} trial;

/* The step whose figures serve a walk of this ef; less than 0: nothing was measured. */
static int
step_of(const dp_code_set *set, size_t ef)
{
    int i = 0;

    if (atomic_load_explicit((_Atomic(uint32_t) *)&set->tuned_at, memory_order_acquire) == 0) {
        return -1;
    }
    while (i + 1 < DP_TUNE_STEPS && ef > step_ef[i]) {
        i++;
    }
    return i;
}

static float
widen_at(const dp_code_set *set, int step)
{
    return atomic_load_explicit((_Atomic(float) *)&set->widen[step], memory_order_relaxed);
}

static uint32_t
depth_at(const dp_code_set *set, int step)
{
    return atomic_load_explicit((_Atomic(uint32_t) *)&set->depth[step], memory_order_relaxed);
}

size_t
dp_hnsw__widen(const dp_code_set *set, size_t ef)
{
    int i = step_of(set, ef);
    float widen = i < 0 ? 1.0F : widen_at(set, i);

    /* Between two steps, what the one that needs more needs. */
    if (i > 0 && ef < step_ef[i] && widen_at(set, i - 1) > widen) {
        widen = widen_at(set, i - 1);
    }
    return (size_t)((double)ef * (double)widen);
}

size_t
dp_hnsw__depth(const dp_code_set *set, size_t ef, uint32_t k)
{
    /* Of int8, measured on notes-384 and lexcohere-1536, k 10, ef 256: recall 0.982 and 0.997 with
     * 10, 0.9958 and 1.0000 with 13, 0.9959 and 1.0000 with 16 to 30. */
    size_t usual = DP_HNSW_DEPTH_USUAL((size_t)k);
    int i = step_of(set, ef);
    size_t learnt = 0;

    if (i >= 0) {
        /* Queries are not points of the graph and can be harder: of coarse codes look twice as
         * deep. Measured on the first 20,000 rows of notes-384, ROTATED of 1 bit, ef 40: rows find
         * 0.997, codes 0.984, twice as deep 0.997. */
        size_t times = dp_coder_is_fine(set->coder) ? 1 : 2;

        learnt = (times * depth_at(set, i) * k + K - 1) / K;
    }

    return learnt > usual ? learnt : usual;
}

/* ---- what is measured ---- */

/* Walks for a sample as if it were not there; the pool is then in the scratch. 0: of no use. */
static size_t
walk_sample(const dp_hnsw *graph, dp_scratch *s, uint32_t slot, bool by_rows, size_t ef)
{
    const float *x = dp_hnsw__vector(graph, slot, s->vector);
    dp_walk_query query = {.vector = x, .code = NULL};
    dp_candidate start;
    uint32_t level;

    if (dp_scratch_pool(s, ef) != ORT_OK) {
        return 0;
    }
    if (!by_rows) {
        dp_hnsw__aim(graph, s, x, &query);
    }
    if (!dp_hnsw__enter(graph, s, &query, slot, &start, &level) || start.slot == slot) {
        return 0;
    }
    dp_scratch_forget(s);
    (void)dp_scratch_visit(s, slot);
    return dp_hnsw__walk(graph, s, &query, start, level, ef, DP_WALK_TO_THE_END);
}

/* Live slots all over the graph, with what is true of them; of the lowest level only, where no
 * descent ends. */
static void
take_samples(trial *t, dp_scratch *s)
{
    const dp_hnsw *graph = t->graph;
    uint32_t end =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_end, memory_order_acquire);
    uint64_t x = 3;

    t->count = 0;
    for (uint32_t tries = 0; tries < SAMPLES * 8 && t->count < SAMPLES; tries++) {
        uint32_t slot;

        if (dp_hnsw__is_cancelled(t->progress)) {
            return;
        }
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        slot = (uint32_t)((x >> 33) % end);
        if (dp_hnsw__state(graph, slot) == DP_NODE_LIVE && dp_hnsw__level(graph, slot) == 0 &&
            walk_sample(graph, s, slot, true, TRUTH_EF) >= K) {
            t->samples[t->count++] = (sample){.slot = slot, .kth = s->pool[K - 1].distance};
        }
    }
}

static void
measure_rows(trial *t, dp_scratch *s)
{
    for (int i = 0; i < DP_TUNE_STEPS && t->count > 0 && !dp_hnsw__is_cancelled(t->progress); i++) {
        size_t found = 0;

        for (size_t j = 0; j < t->count; j++) {
            size_t n = walk_sample(t->graph, s, t->samples[j].slot, true, step_ef[i]);

            for (size_t c = 0; c < n && c < K; c++) {
                found += s->pool[c].distance <= t->samples[j].kth;
            }
        }
        t->rows_recall[i] = (double)found / (double)(t->count * K);
    }
}

/* How many of the true nearest are among the first d + 1 candidates of a walk over codes, for each
 * d: found[DP_HNSW_EF_MAX], summed over the samples. */
static void
measure_codes(const trial *t, dp_scratch *s, size_t ef, uint32_t *found)
{
    memset(found, 0, DP_HNSW_EF_MAX * sizeof *found);
    for (size_t j = 0; j < t->count; j++) {
        uint32_t slot = t->samples[j].slot;
        size_t n = walk_sample(t->graph, s, slot, false, ef);
        uint32_t hits = 0;

        dp_hnsw__measure_rows(t->graph, s, dp_hnsw__vector(t->graph, slot, s->vector), s->pool, n);
        for (size_t d = 0; d < ef && d < DP_HNSW_EF_MAX; d++) {
            hits += d < n && s->pool[d].distance <= t->samples[j].kth;
            found[d] += hits < K ? hits : K;
        }
    }
}

/* Finds widen and depth of one step. false: no widening up to `most` reaches what rows find; then
 * they are those of the last. */
static bool
tune_step(const trial *t, dp_scratch *s, dp_code_set *set, int step, size_t most, uint32_t *found)
{
    double total = (double)(t->count * K);
    double want = t->rows_recall[step] - LOSS;

    for (size_t w = 0; w <= most && !dp_hnsw__is_cancelled(t->progress); w++) {
        size_t ef = (size_t)((float)step_ef[step] * widenings[w]);
        uint32_t enough;
        uint32_t depth = 1;

        measure_codes(t, s, ef, found);
        if ((double)found[ef - 1] / total < want && w < most) {
            continue;
        }
        /* As few as find all but a little of what this walk can give. */
        enough =
            (double)found[ef - 1] / total < want ? found[ef - 1] : (uint32_t)ceil(want * total);
        while (depth < ef && found[depth - 1] < enough) {
            depth++;
        }
        /* A longer walk is not given less than a shorter one. */
        depth = step > 0 && depth < depth_at(set, step - 1) ? depth_at(set, step - 1) : depth;
        atomic_store_explicit(&set->widen[step], widenings[w], memory_order_relaxed);
        atomic_store_explicit(&set->depth[step], depth, memory_order_relaxed);
        return (double)found[ef - 1] / total >= want;
    }
    return false;
}

/* false: it does not find what rows find (or there is no memory to see, or nothing to walk). */
static bool
tune_set(trial *t, dp_scratch *s, dp_code_set *set, size_t most)
{
    uint32_t *found = t->count > 0 ? malloc(DP_HNSW_EF_MAX * sizeof *found) : NULL;
    bool reached = found != NULL && dp_hnsw__go_over(t->graph, s, set) == ORT_OK;

    for (int i = 0; i < DP_TUNE_STEPS && found != NULL && s->set == set; i++) {
        reached = tune_step(t, s, set, i, most, found) && reached;
    }
    if (found != NULL && t->count > 0 && !dp_hnsw__is_cancelled(t->progress)) {
        atomic_store_explicit(&set->tuned_at, dp_hnsw_count(t->graph), memory_order_release);
    }
    free(found);
    return reached;
}

/* Nanoseconds of a search at ef 100, by what it reads: a row costs some 9 ns and 0.085 ns a byte
 * wherever it lies (reference/ann.md, "Cost of one distance"), and a walk measures about 7 an ef.
 */
static double
cost_of(const dp_hnsw *graph, const dp_code_set *set)
{
    double rows = 150 + 7 * (double)dp_hnsw__widen(set, 100);
    double depth = (double)dp_hnsw__depth(set, 100, K);
    double row_bytes = (double)graph->rows->dim * (double)dp_elem_bytes(graph->rows->elem);
    double own = dp_coder_kind(set->coder) == DP_CODE_ROTATED ? (double)graph->rows->dim : 0;

    return rows * (9 + 0.085 * (double)dp_coder_row_bytes(set->coder)) +
           depth * (9 + 0.085 * row_bytes) + own;
}

/* ---- training ---- */

/* Live slots to learn from; the gate need not be held: rows of slots that die stay readable until a
 * repair, and the scratch holds that off its last step. */
typedef struct {
    const dp_hnsw *graph;
    uint32_t *slots;
    uint32_t count;
} learning;

static const float *
learning_vector(void *arg, uint32_t i, float *room)
{
    const learning *l = arg;

    return dp_hnsw__vector(l->graph, l->slots[i], room);
}

static ort_err
take_learning(const dp_hnsw *graph, learning *l, ort_diag *diag)
{
    uint32_t end =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_end, memory_order_acquire);
    uint64_t x = 5;

    *l = (learning){.graph = graph, .slots = malloc(DP_CODER_SAMPLE_MAX * sizeof *l->slots)};
    if (l->slots == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory to train codes");
    }
    for (uint32_t i = 0; i < 4 * DP_CODER_SAMPLE_MAX && l->count < DP_CODER_SAMPLE_MAX; i++) {
        uint32_t slot;

        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        slot = (uint32_t)((x >> 33) % end);
        if (dp_hnsw__state(graph, slot) == DP_NODE_LIVE) {
            l->slots[l->count++] = slot;
        }
    }
    return ORT_OK;
}

static ort_err
train_set(dp_hnsw *graph, const choice *c, dp_code_set **out, ort_diag *diag)
{
    dp_coder_sample from = {.vector = learning_vector};
    dp_coder *coder = NULL;
    learning l = {0};
    dp_scratch *s;
    ort_err err;

    *out = NULL;
    err = dp_hnsw__take(graph, graph, &s); /* keeps rows of slots that die from being reused */
    if (err != ORT_OK) {
        return ort_fail(diag, err, "no scratch to train codes");
    }
    err = take_learning(graph, &l, diag);
    if (err == ORT_OK) {
        from.arg = &l;
        from.count = l.count;
        err = dp_coder_train(&coder, c->kind, c->options, graph->metric, graph->rows->dim, &from,
                             diag);
    }
    free(l.slots);
    dp_scratch_give(s);
    if (err == ORT_OK) {
        *out = dp_code_set_new(coder);
        err = *out != NULL ? ORT_OK : ort_fail(diag, ORT_ENOMEM, "no memory for codes");
    }
    return err;
}

/* ---- choosing ---- */

static bool
has_drifted(const dp_code_set *set, uint32_t live)
{
    uint32_t n = atomic_load_explicit((_Atomic(uint32_t) *)&set->drift_count, memory_order_relaxed);
    uint64_t sum = atomic_load_explicit((_Atomic(uint64_t) *)&set->drift_sum, memory_order_relaxed);

    return n >= DRIFT_ROWS_MIN && n >= live / DRIFT_PART &&
           (double)sum / 256 > DRIFT_TIMES * (double)n;
}

bool
dp_hnsw_wants_tune(const dp_hnsw *graph)
{
    uint32_t live = dp_hnsw_count(graph);
    uint32_t last =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->tuned_at, memory_order_relaxed);

    if (atomic_load_explicit((_Atomic(bool) *)&graph->tuning, memory_order_relaxed)) {
        return false;
    }
    if (atomic_load_explicit((_Atomic(bool) *)&graph->asked, memory_order_relaxed)) {
        return live >= TUNE_MIN;
    }
    if (atomic_load_explicit((_Atomic(size_t) *)&graph->set_row_bytes, memory_order_relaxed) == 0 ||
        live < TUNE_MIN) {
        return false;
    }
    return last == 0 || live / 2 >= last ||
           atomic_load_explicit((_Atomic(bool) *)&graph->drifted, memory_order_relaxed);
}

void
dp_hnsw__watch_drift(dp_hnsw *graph)
{
    const dp_code_set *set = dp_hnsw__set(graph);

    if (set != NULL && has_drifted(set, atomic_load_explicit(&graph->live, memory_order_relaxed))) {
        atomic_store_explicit(&graph->drifted, true, memory_order_relaxed);
    }
}

/* tune_set() with a scratch of its own. */
static bool
measure_set(trial *t, dp_code_set *set, size_t most)
{
    dp_scratch *s;
    bool reached;

    if (dp_hnsw__take(t->graph, t->graph, &s) != ORT_OK) {
        return false;
    }
    reached = tune_set(t, s, set, most);
    dp_scratch_give(s);
    return reached;
}

/* Trains and fills what is chosen, measures it against the set in use, whose cost is *cost, and
 * puts it in its place when it is better, or when it must be. */
static ort_err
try_choice(trial *t, const choice *c, bool must, double *cost, bool *taken, ort_diag *diag)
{
    dp_hnsw *graph = t->graph;
    dp_code_set *set;
    bool reached;
    ort_err err = train_set(graph, c, &set, diag);

    *taken = false;
    if (err != ORT_OK) {
        return err;
    }
    err = dp_hnsw__add_next(graph, set, t->progress);
    if (err != ORT_OK) {
        dp_code_set_free(set);
        return ort_fail(diag, err, "the codes could not be filled");
    }
    reached = measure_set(t, set, must ? WIDENINGS - 1 : WIDENING_FREELY);
    if (dp_hnsw__is_cancelled(t->progress)) {
        dp_code_set_free(dp_hnsw__end_next(graph, false));
        return ort_fail(diag, ORT_EBUSY, "the choice of codes was cancelled");
    }
    *taken = must || (reached && cost_of(graph, set) <= WORTH * *cost);
    *cost = *taken ? cost_of(graph, set) : *cost;
    dp_code_set_free(dp_hnsw__end_next(graph, *taken));
    return ORT_OK;
}

static ort_err
tune_auto(trial *t, ort_diag *diag)
{
    static const choice bytes = {.kind = DP_CODE_INT8};
    dp_hnsw *graph = t->graph;
    dp_code_set *set = dp_hnsw__set(graph); /* nobody else replaces it: graph->tuning */
    const bool by_bytes = set != NULL && dp_coder_kind(set->coder) == DP_CODE_INT8;
    double cost = INFINITY;
    bool taken = false;
    ort_err err = ORT_OK;

    /* Bytes are what the others are compared with. They need no training: the set stays. */
    if (by_bytes) {
        (void)measure_set(t, set, WIDENINGS - 1);
        cost = cost_of(graph, set);
    }
    /* Bytes that are the vectors themselves leave nothing to look at again. */
    if (by_bytes && graph->metric == DP_METRIC_EUCLID &&
        atomic_load_explicit(&set->inexact, memory_order_relaxed) == 0) {
        return ORT_OK;
    }
    for (size_t i = 0; i < CHOICES && err == ORT_OK; i++) {
        bool one = false;

        err = try_choice(t, &choices[i], false, &cost, &one, diag);
        taken = taken || one;
    }
    if (err == ORT_OK && !by_bytes && !taken) {
        err = try_choice(t, &bytes, true, &cost, &taken, diag);
    }
    return err;
}

static ort_err
tune(trial *t, const choice *asked, ort_diag *diag)
{
    double cost = INFINITY;
    bool taken;
    dp_scratch *s;
    ort_err err;

    if (asked->kind == DP_CODE_NONE) {
        dp_code_set_free(dp_hnsw__end_next(t->graph, true));
        return ORT_OK;
    }
    err = dp_hnsw__take(t->graph, t->graph, &s);
    if (err != ORT_OK) {
        return ort_fail(diag, err, "no scratch to try codes");
    }
    take_samples(t, s);
    measure_rows(t, s);
    dp_scratch_give(s);
    if (asked->kind == DP_CODE_AUTO && t->count == 0) {
        return ORT_OK; /* no links yet: bytes do */
    }
    return asked->kind == DP_CODE_AUTO ? tune_auto(t, diag)
                                       : try_choice(t, asked, true, &cost, &taken, diag);
}

ort_err
dp_hnsw_ask_codes(dp_hnsw *graph, dp_code code, dp_code_options options, ort_diag *diag)
{
    ort_err err = dp_code_options_check(code, options, graph->metric, diag);
    bool same;

    if (err != ORT_OK) {
        return err;
    }
    code = dp_hnsw__resolve(graph, code);
    /* Most calls change nothing, and need not stop the inserts. */
    pthread_rwlock_rdlock(&graph->gate);
    same = code == graph->code && dp_code_options_equal(code, options, graph->coding);
    pthread_rwlock_unlock(&graph->gate);
    if (same) {
        return ORT_OK;
    }
    pthread_rwlock_wrlock(&graph->gate);
    if (code != graph->code || !dp_code_options_equal(code, options, graph->coding)) {
        graph->code = code;
        graph->coding = options;
        atomic_store_explicit(&graph->asked, true, memory_order_relaxed);
    }
    pthread_rwlock_unlock(&graph->gate);
    return ORT_OK;
}

ort_err
dp_hnsw_tune(dp_hnsw *graph, dp_hnsw_progress *progress, ort_diag *diag)
{
    trial *t;
    choice asked;
    bool idle = false;
    ort_err err;

    if (dp_hnsw_count(graph) < TUNE_MIN ||
        !atomic_compare_exchange_strong(&graph->tuning, &idle, true)) {
        return ORT_OK;
    }
    pthread_rwlock_rdlock(&graph->gate);
    asked = (choice){.kind = graph->code, .options = graph->coding};
    atomic_store_explicit(&graph->asked, false, memory_order_relaxed);
    pthread_rwlock_unlock(&graph->gate);
    t = calloc(1, sizeof *t);
    if (t == NULL) {
        err = ort_fail(diag, ORT_ENOMEM, "no memory to try codes");
    } else {
        t->graph = graph;
        t->progress = progress;
        err = tune(t, &asked, diag);
    }
    free(t);
    if (err == ORT_OK) {
        atomic_store_explicit(&graph->drifted, false, memory_order_relaxed);
        atomic_store_explicit(&graph->tuned_at, dp_hnsw_count(graph), memory_order_relaxed);
        /* How far walks reach was learnt on other codes. */
        atomic_store_explicit(&graph->stop_learnt_at, 0, memory_order_release);
        dp_hnsw__learn_stop(graph);
    }
    if (err != ORT_OK) {
        atomic_store_explicit(&graph->asked, true, memory_order_relaxed);
    }
    atomic_store(&graph->tuning, false);
    return err;
}

void
dp_hnsw_codes(dp_hnsw *graph, dp_hnsw_codes_report *out)
{
    const dp_code_set *set;

    *out = (dp_hnsw_codes_report){.kind = DP_CODE_NONE};
    pthread_rwlock_rdlock(&graph->gate);
    set = dp_hnsw__set(graph);
    if (set != NULL) {
        *out = (dp_hnsw_codes_report){.kind = dp_coder_kind(set->coder),
                                      .options = dp_coder_options(set->coder),
                                      .row_bytes = dp_coder_row_bytes(set->coder),
                                      .tuned = step_of(set, 100) >= 0,
                                      .widen = (float)dp_hnsw__widen(set, 100) / 100.0F,
                                      .depth = (uint32_t)dp_hnsw__depth(set, 100, K)};
    }
    pthread_rwlock_unlock(&graph->gate);
}
