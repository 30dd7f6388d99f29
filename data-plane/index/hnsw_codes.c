/* The sets of codes of a graph: their life, and what replaces one by another. */
#include <stdlib.h>

#include "index/hnsw_internal.h"

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

ort_err
dp_hnsw__take(dp_hnsw *graph, const void *owner, dp_scratch **out)
{
    ort_err err = dp_scratch_take(
        out, owner, atomic_load_explicit(&graph->slot_end, memory_order_acquire), graph->rows->dim);

    if (err != ORT_OK) {
        return err;
    }
    /* After the scratch has its owner: from then on a drain waits for us. */
    (*out)->set = dp_hnsw__set(graph);
    if ((*out)->set != NULL) {
        const dp_coder *coder = (*out)->set->coder;

        err = dp_scratch_code(*out, dp_coder_query_bytes(coder), dp_coder_room_floats(coder));
    } else if (graph->bytes) {
        err = dp_scratch_code(*out, graph->rows->dim, 0);
    }
    if (err != ORT_OK) {
        dp_scratch_give(*out);
        *out = NULL;
    }
    return err;
}

void
dp_hnsw__encode(const dp_hnsw *graph, dp_scratch *scratch, dp_code_set *set, uint32_t slot)
{
    const float *x = dp_hnsw__vector(graph, slot, scratch->vector);
    float error = dp_coder_encode(set->coder, dp_slab_at(&set->rows, slot), x, scratch->room);

    if (error != 0.0F) { /* also for what is not a number */
        atomic_store_explicit(&set->inexact, 1, memory_order_relaxed);
    }
}
