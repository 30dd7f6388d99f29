/* The sets of codes of a graph: their life, and how one takes the place of another while walks and
 * inserts go on.
 *
 *   begin_next   the gate alone: `next` is known, inserts code into both from now on
 *   recode       the gate shared, a part at a time: what was there before is coded
 *   publish      the gate alone: `next` becomes the set
 *   drain        walks that began before have ended: the old one is freed
 *
 * A slot is coded into `next` by its insert or, when it was LIVE or DEAD already, by recode(): the
 * state is stored with release after the insert coded it, so the two never write at one time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/hnsw_internal.h"

/* Slots coded while the gate is held shared: some milliseconds. */
#define RECODE_PART 256u

dp_code_set *
dp_code_set_new(dp_coder *coder)
{
    dp_code_set *set = calloc(1, sizeof *set);

    if (set == NULL) {
        dp_coder_free(coder);
        return NULL;
    }
    set->coder = coder;
    dp_slab_init(&set->rows, dp_coder_row_bytes(coder));
    return set;
}

void
dp_code_set_free(dp_code_set *set)
{
    if (set == NULL) {
        return;
    }
    dp_slab_fini(&set->rows);
    dp_coder_free(set->coder);
    free(set);
}

/* ---- as bytes ----
 *
 *   offset  size  field            integers little-endian, floats IEEE single
 *        0     4  tuned_at         live nodes when it was measured; 0: it was not
 *        4    16  widen            4 floats, see dp_code_set; 1 .. 16
 *       20    16  depth            4 u32; 0 .. DP_HNSW_EF_MAX
 *       36        model            as coder.c writes it
 */
#define TUNE_BYTES (4u + DP_TUNE_STEPS * 8u)

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "written as it is in memory");

unsigned char *
dp_code_set_model(const dp_code_set *set, size_t *bytes)
{
    size_t model_bytes;
    const void *model = dp_coder_model(set->coder, &model_bytes);
    unsigned char *out = malloc(TUNE_BYTES + model_bytes);
    uint32_t tuned_at;

    if (out == NULL) {
        return NULL;
    }
    tuned_at = set->tuned_at;
    memcpy(out, &tuned_at, 4);
    for (int i = 0; i < DP_TUNE_STEPS; i++) {
        float widen = set->widen[i];
        uint32_t depth = set->depth[i];

        memcpy(out + 4 + 4 * i, &widen, 4);
        memcpy(out + 4 + 4 * (DP_TUNE_STEPS + i), &depth, 4);
    }
    memcpy(out + TUNE_BYTES, model, model_bytes);
    *bytes = TUNE_BYTES + model_bytes;
    return out;
}

ort_err
dp_code_set_open(dp_code_set **out, const void *blob, size_t bytes, dp_metric metric, uint32_t dim,
                 ort_diag *diag)
{
    const unsigned char *in = blob;
    float widen[DP_TUNE_STEPS];
    uint32_t depth[DP_TUNE_STEPS];
    uint32_t tuned_at;
    dp_coder *coder;
    dp_code_set *set;
    ort_err err;

    *out = NULL;
    if (bytes < TUNE_BYTES) {
        return ort_fail(diag, ORT_ECORRUPT, "the model of the codes is damaged");
    }
    memcpy(&tuned_at, in, 4);
    memcpy(widen, in + 4, sizeof widen);
    memcpy(depth, in + 4 + sizeof widen, sizeof depth);
    for (int i = 0; i < DP_TUNE_STEPS; i++) {
        if (depth[i] > DP_HNSW_EF_MAX ||
            (tuned_at != 0 && !(widen[i] >= 1.0F && widen[i] <= 16.0F))) {
            return ort_fail(diag, ORT_ECORRUPT, "what was learnt about the codes is damaged");
        }
    }
    err = dp_coder_open(&coder, in + TUNE_BYTES, bytes - TUNE_BYTES, metric, dim, diag);
    if (err != ORT_OK) {
        return err;
    }
    set = dp_code_set_new(coder);
    if (set == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for codes");
    }
    for (int i = 0; i < DP_TUNE_STEPS; i++) {
        set->widen[i] = widen[i];
        set->depth[i] = depth[i];
    }
    set->tuned_at = tuned_at;
    *out = set;
    return ORT_OK;
}

/* ---- in use ---- */

void
dp_hnsw__publish_set(dp_hnsw *graph, dp_code_set *set)
{
    size_t model = 0;

    if (set != NULL) {
        (void)dp_coder_model(set->coder, &model);
    }
    atomic_store_explicit(&graph->set_row_bytes, set != NULL ? set->rows.stride_bytes : 0,
                          memory_order_relaxed);
    atomic_store_explicit(&graph->set_model_bytes, model, memory_order_relaxed);
    atomic_store_explicit(&graph->set, set, memory_order_seq_cst);
}

size_t
dp_hnsw_code_row_bytes(const dp_hnsw *graph)
{
    return atomic_load_explicit((_Atomic(size_t) *)&graph->set_row_bytes, memory_order_relaxed);
}

size_t
dp_hnsw__codes_bytes(const dp_hnsw *graph, uint32_t count)
{
    size_t model =
        atomic_load_explicit((_Atomic(size_t) *)&graph->set_model_bytes, memory_order_relaxed);
    dp_slab rows;

    if (model == 0) {
        return 0;
    }
    /* Not the set's own: it could be replaced and freed meanwhile. */
    dp_slab_init(&rows, atomic_load_explicit((_Atomic(size_t) *)&graph->set_row_bytes,
                                             memory_order_relaxed));
    return sizeof(dp_code_set) + dp_slab_bytes(&rows, count) + model;
}

static ort_err
room_for(const dp_hnsw *graph, dp_scratch *s, const dp_code_set *set, const dp_code_set *next)
{
    size_t query_bytes = set != NULL    ? dp_coder_query_bytes(set->coder)
                         : graph->bytes ? graph->rows->dim
                                        : 0;
    size_t room = set != NULL ? dp_coder_room_floats(set->coder) : 0;

    if (next != NULL && dp_coder_room_floats(next->coder) > room) {
        room = dp_coder_room_floats(next->coder);
    }
    return dp_scratch_code(s, query_bytes, room);
}

ort_err
dp_hnsw__take(dp_hnsw *graph, const void *owner, dp_scratch **out)
{
    ort_err err = dp_scratch_take(
        out, owner, atomic_load_explicit(&graph->slot_end, memory_order_acquire), graph->rows->dim);

    if (err != ORT_OK) {
        return err;
    }
    /* After the scratch has its owner: from then on a drain waits for us. */
    err = dp_hnsw__go_over(graph, *out, dp_hnsw__set(graph));
    if (err != ORT_OK) {
        dp_scratch_give(*out);
        *out = NULL;
    }
    return err;
}

ort_err
dp_hnsw__go_over(const dp_hnsw *graph, dp_scratch *scratch, const dp_code_set *set)
{
    scratch->set = set;
    return room_for(graph, scratch, set, NULL);
}

static void
encode(const dp_hnsw *graph, dp_scratch *s, dp_code_set *set, uint32_t slot)
{
    const float *x = dp_hnsw__vector(graph, slot, s->vector);
    float error = dp_coder_encode(set->coder, dp_slab_at(&set->rows, slot), x, s->room);
    float usual = dp_coder_error(set->coder);

    if (error != 0.0F) { /* also for what is not a number */
        atomic_store_explicit(&set->inexact, 1, memory_order_relaxed);
    }
    if (usual > 0.0F) {
        float share = error / usual;

        share = share < 1000.0F ? share : 1000.0F; /* false for a NaN */
        atomic_fetch_add_explicit(&set->drift_sum, (uint64_t)(share * 256.0F),
                                  memory_order_relaxed);
        atomic_fetch_add_explicit(&set->drift_count, 1, memory_order_relaxed);
    }
}

ort_err
dp_hnsw__encode(dp_hnsw *graph, dp_scratch *scratch, uint32_t slot)
{
    dp_code_set *set = dp_hnsw__set(graph);
    ort_err err = room_for(graph, scratch, set, graph->next);

    if (err == ORT_OK && set != NULL) {
        encode(graph, scratch, set, slot);
    }
    if (err == ORT_OK && graph->next != NULL) {
        encode(graph, scratch, graph->next, slot);
    }
    return err;
}

/* ---- replacing ---- */

static ort_err
begin_next(dp_hnsw *graph, dp_code_set *next)
{
    uint32_t end;
    ort_err err = ORT_OK;

    pthread_rwlock_wrlock(&graph->gate);
    end = atomic_load_explicit(&graph->slot_end, memory_order_acquire);
    if (end > 0) {
        err = dp_slab_reserve(&next->rows, end - 1);
    }
    if (err == ORT_OK) {
        graph->next = next;
    }
    pthread_rwlock_unlock(&graph->gate);
    return err;
}

/* Codes what was in the graph before `next` was known. */
static ort_err
recode(dp_hnsw *graph, dp_code_set *next, const dp_hnsw_progress *progress)
{
    uint32_t end = atomic_load_explicit(&graph->slot_end, memory_order_acquire);
    dp_scratch *s = NULL;
    ort_err err;

    for (uint32_t begin = 0; begin < end; begin += RECODE_PART) {
        uint32_t stop = end - begin < RECODE_PART ? end : begin + RECODE_PART;

        if (dp_hnsw__is_cancelled(progress)) {
            return ORT_EBUSY;
        }
        pthread_rwlock_rdlock(&graph->gate);
        err = dp_hnsw__take(graph, &graph->next, &s);
        err = err == ORT_OK ? room_for(graph, s, s->set, next) : err;
        for (uint32_t slot = begin; slot < stop && err == ORT_OK; slot++) {
            uint8_t state = dp_hnsw__state(graph, slot);

            if (state == DP_NODE_LIVE || state == DP_NODE_DEAD) {
                encode(graph, s, next, slot);
            }
        }
        if (s != NULL) {
            dp_scratch_give(s);
        }
        pthread_rwlock_unlock(&graph->gate);
        if (err != ORT_OK) {
            return err;
        }
    }
    return ORT_OK;
}

ort_err
dp_hnsw__add_next(dp_hnsw *graph, dp_code_set *next, const dp_hnsw_progress *progress)
{
    ort_err err = begin_next(graph, next);

    if (err != ORT_OK) {
        return err;
    }
    err = recode(graph, next, progress);
    if (err != ORT_OK) {
        dp_hnsw__end_next(graph, false);
    } else {
        /* What is drift is counted from here. */
        atomic_store_explicit(&next->drift_sum, 0, memory_order_relaxed);
        atomic_store_explicit(&next->drift_count, 0, memory_order_relaxed);
    }
    return err;
}

dp_code_set *
dp_hnsw__end_next(dp_hnsw *graph, bool replace)
{
    dp_code_set *out;

    pthread_rwlock_wrlock(&graph->gate);
    out = graph->next;
    if (replace) {
        out = dp_hnsw__set(graph);
        dp_hnsw__publish_set(graph, graph->next);
    }
    graph->next = NULL;
    pthread_rwlock_unlock(&graph->gate);
    if (replace) {
        dp_scratch_drain(graph);
    }
    return out;
}
