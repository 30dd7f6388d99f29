/* The graph's life, its bookkeeping, and the measures that all its parts share. */
#include "index/hnsw.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "index/bytes.h"
#include "index/hnsw_file.h"
#include "index/hnsw_values_internal.h"

static ort_err
check_config(const dp_rows *rows, const dp_hnsw_config *config, ort_diag *diag)
{
    if (rows->dim == 0 || rows->dim > ORT_DIM_MAX) {
        return ort_fail(diag, ORT_EINVAL, "a vector has 1 to %u components, not %u", ORT_DIM_MAX,
                        rows->dim);
    }
    if (!config->unlinked && (config->m == 1 || config->m > DP_HNSW_M_MAX)) {
        return ort_fail(diag, ORT_EINVAL, "m is 2 to %u, not %u", DP_HNSW_M_MAX, config->m);
    }
    if ((unsigned)config->metric >= DP_METRIC_COUNT || (unsigned)rows->elem >= DP_ELEM_COUNT ||
        rows->chunk_bits > 31) {
        return ort_fail(diag, ORT_EINVAL, "no such metric, element or code");
    }
    if ((size_t)rows->stride_bytes < rows->dim * dp_elem_bytes(rows->elem)) {
        return ort_fail(diag, ORT_EINVAL, "a stride of %u bytes is less than a row",
                        rows->stride_bytes);
    }
    return dp_code_options_check(config->code, config->coding, config->metric, diag);
}

/* A graph begins with bytes, which need no training; other kinds take over when there is something
 * to learn from (hnsw_codes.c). */
static ort_err
first_set(dp_hnsw *graph, ort_diag *diag)
{
    dp_coder *coder;
    dp_code_set *set;
    ort_err err;

    if (graph->code == DP_CODE_NONE) {
        return ORT_OK;
    }
    err = dp_coder_train(&coder, DP_CODE_INT8, (dp_code_options){0}, graph->metric,
                         graph->rows->dim, NULL, diag);
    if (err != ORT_OK) {
        return err;
    }
    set = dp_code_set_new(coder);
    if (set == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for a graph");
    }
    dp_hnsw__publish_set(graph, set);
    return ORT_OK;
}

dp_code
dp_hnsw__resolve(const dp_hnsw *graph, dp_code code)
{
    /* Rows of bytes are their own codes. */
    bool bytes = graph->bytes && graph->rows->elem == DP_ELEM_U8;

    return graph->metric == DP_METRIC_MANHATTAN || (code == DP_CODE_AUTO && bytes) ? DP_CODE_NONE
                                                                                   : code;
}

ort_err
dp_hnsw_new(dp_hnsw **out, const dp_rows *rows, const dp_hnsw_config *config, ort_diag *diag)
{
    dp_hnsw *graph;
    pthread_rwlockattr_t attr;
    ort_err err;

    *out = NULL;
    err = check_config(rows, config, diag);
    if (err != ORT_OK) {
        return err;
    }
    graph = calloc(1, sizeof *graph);
    if (graph == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for a graph");
    }
    graph->rows = rows;
    graph->metric = config->metric;
    graph->unlinked = config->unlinked;
    graph->m = config->unlinked ? 0 : config->m != 0 ? config->m : DP_HNSW_M_DEFAULT;
    graph->m0 = graph->m * 2;
    graph->ef_construct =
        config->ef_construct != 0 ? config->ef_construct : DP_HNSW_EF_CONSTRUCT_DEFAULT;
    if (graph->ef_construct > DP_HNSW_EF_MAX) {
        graph->ef_construct = DP_HNSW_EF_MAX;
    }
    graph->seed = config->seed;
    graph->level_scale = graph->unlinked ? 0.0 : 1.0 / log((double)graph->m);
    graph->coding = config->coding;
    graph->links_on_disk = config->links_on_disk;
    graph->distance = dp_distance_of(graph->metric, rows->elem);
    graph->bytes = graph->metric == DP_METRIC_EUCLID && rows->dim <= DP_BYTES_DIM_MAX;
    graph->code = dp_hnsw__resolve(graph, config->code);
    dp_slab_init(&graph->nodes, sizeof(dp_node));
    dp_slab_init(&graph->links, graph->m0 * sizeof(dp_link));
    dp_slab_init(&graph->upper, graph->m * sizeof(dp_link));
    pthread_rwlockattr_init(&attr);
    /* A repair or a save must not starve behind a stream of inserts. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&graph->gate, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&graph->grow, NULL);
    err = first_set(graph, diag);
    if (err != ORT_OK) {
        dp_hnsw_free(graph);
        return err;
    }
    *out = graph;
    return ORT_OK;
}

void
dp_hnsw_free(dp_hnsw *graph)
{
    if (graph == NULL) {
        return;
    }
    dp_graph_file_close(graph->file);
    dp_slab_fini(&graph->nodes);
    dp_slab_fini(&graph->links);
    dp_code_set_free(dp_hnsw__set(graph));
    dp_slab_fini(&graph->upper);
    for (unsigned i = 0; i < DP_HNSW_FIELDS_MAX; i++) {
        dp_value_links_free(dp_hnsw__field(graph, i));
    }
    pthread_rwlock_destroy(&graph->gate);
    pthread_mutex_destroy(&graph->grow);
    free(graph);
}

bool
dp_hnsw_is_unlinked(const dp_hnsw *graph)
{
    return graph->unlinked;
}

uint32_t
dp_hnsw_count(const dp_hnsw *graph)
{
    return atomic_load_explicit((_Atomic(uint32_t) *)&graph->live, memory_order_relaxed);
}

uint32_t
dp_hnsw_deleted(const dp_hnsw *graph)
{
    return atomic_load_explicit((_Atomic(uint32_t) *)&graph->dead, memory_order_relaxed);
}

bool
dp_hnsw_wants_repair(const dp_hnsw *graph)
{
    uint32_t dead = dp_hnsw_deleted(graph);

    return dead > 64 && dead > dp_hnsw_count(graph) / 10;
}

bool
dp_hnsw_has(const dp_hnsw *graph, uint32_t slot)
{
    return slot <
               atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_end, memory_order_acquire) &&
           dp_hnsw__state(graph, slot) == DP_NODE_LIVE;
}

size_t
dp_hnsw_bytes(const dp_hnsw *graph)
{
    uint32_t count =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_used, memory_order_relaxed);
    uint32_t upper =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->upper_count, memory_order_relaxed);

    return sizeof *graph + dp_slab_bytes(&graph->nodes, count) +
           dp_slab_bytes(&graph->links, count) + dp_hnsw__codes_bytes(graph, count) +
           dp_slab_bytes(&graph->upper, upper) + dp_hnsw__values_bytes(graph);
}

uint32_t
dp_hnsw__level(const dp_hnsw *graph, uint32_t slot)
{
    /* splitmix64 (Steele, Lea, Flood 2014) of the slot. */
    uint64_t x = graph->seed + ((uint64_t)slot + 1) * UINT64_C(0x9E3779B97F4A7C15);
    double u;
    double level;

    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    x ^= x >> 31;
    u = ((double)(x >> 11) + 1.0) * 0x1p-53; /* in (0, 1] */
    level = -log(u) * graph->level_scale;
    return level >= (double)DP_HNSW_LEVEL_MAX ? DP_HNSW_LEVEL_MAX : (uint32_t)level;
}

ort_err
dp_hnsw__reserve(dp_hnsw *graph, uint32_t slot)
{
    uint32_t used = atomic_load_explicit(&graph->slot_used, memory_order_relaxed);
    dp_code_set *set = dp_hnsw__set(graph); /* nobody replaces it: the gate is held */
    ort_err err = ORT_OK;

    while (used <= slot &&
           !atomic_compare_exchange_weak_explicit(&graph->slot_used, &used, slot + 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
    if (slot < atomic_load_explicit(&graph->slot_end, memory_order_acquire)) {
        return ORT_OK;
    }
    pthread_mutex_lock(&graph->grow);
    if (slot >= atomic_load_explicit(&graph->slot_end, memory_order_relaxed)) {
        unsigned chunk = dp_slab_chunk_of(slot);

        err = graph->unlinked ? ORT_OK : dp_slab_reserve(&graph->links, slot);
        if (err == ORT_OK && set != NULL) {
            err = dp_slab_reserve(&set->rows, slot);
        }
        if (err == ORT_OK && graph->next != NULL) {
            err = dp_slab_reserve(&graph->next->rows, slot);
        }
        if (err == ORT_OK) {
            err = dp_slab_reserve(&graph->nodes, slot);
        }
        if (err == ORT_OK) {
            atomic_store_explicit(&graph->slot_end,
                                  dp_slab_chunk_begin(chunk) + dp_slab_chunk_count(chunk),
                                  memory_order_release);
        }
    }
    pthread_mutex_unlock(&graph->grow);
    return err;
}

const float *
dp_hnsw__vector(const dp_hnsw *graph, uint32_t slot, float *into)
{
    const unsigned char *row = dp_rows_peek(graph->rows, slot);
    size_t dim = graph->rows->dim;

    switch (graph->rows->elem) {
    case DP_ELEM_F32:
        if (((uintptr_t)row & (sizeof(float) - 1)) == 0) {
            return (const float *)(const void *)row;
        }
        memcpy(into, row, dim * sizeof(float));
        break;
    case DP_ELEM_F16:
        for (size_t i = 0; i < dim; i++) {
            uint16_t half;

            memcpy(&half, row + i * 2, sizeof half);
            into[i] = dp_f16_to_f32(half);
        }
        break;
    case DP_ELEM_U8:
        for (size_t i = 0; i < dim; i++) {
            into[i] = (float)row[i];
        }
        if (graph->metric == DP_METRIC_COSINE) {
            float norm2 = dp_norm2(into, dim);
            float inverse = norm2 > 0.0F ? 1.0F / sqrtf(norm2) : 0.0F;

            for (size_t i = 0; i < dim; i++) {
                into[i] *= inverse;
            }
        }
        break;
    }
    return into;
}

/* Whether codes are the vectors themselves, so far. */
static bool
is_exact(const dp_code_set *set)
{
    return dp_coder_kind(set->coder) == DP_CODE_INT8 &&
           atomic_load_explicit((_Atomic(uint32_t) *)&set->inexact, memory_order_relaxed) == 0;
}

void
dp_hnsw__aim(const dp_hnsw *graph, dp_scratch *scratch, const float *vector, dp_walk_query *query)
{
    const dp_code_set *set = scratch->set;
    uint32_t dim = graph->rows->dim;

    query->vector = vector;
    query->code = NULL;
    if (set != NULL) {
        query->code = &scratch->code;
        dp_coder_query_set(set->coder, query->code, vector, scratch->room);
        if (graph->bytes && query->code->exact && is_exact(set)) {
            dp_bytes_query_ready(query->code, dim);
        }
    } else if (graph->bytes && graph->rows->elem == DP_ELEM_U8 &&
               dp_bytes_query_set(&scratch->code, vector, dim)) {
        query->code = &scratch->code;
    }
}

void
dp_hnsw__aim_slot(const dp_hnsw *graph, dp_scratch *scratch, dp_code_query *code, uint32_t slot,
                  dp_walk_query *query)
{
    const dp_code_set *set = scratch->set;

    query->vector = NULL;
    query->code = code;
    if (set != NULL && dp_coder_is_fine(set->coder)) {
        const unsigned char *row = dp_slab_at(&set->rows, slot);

        if (graph->bytes && is_exact(set)) {
            dp_bytes_query_from_row(code, row, dp_code_bytes(graph->rows->dim));
        } else {
            dp_coder_query_from_row(set->coder, code, row);
        }
    } else if (set == NULL && graph->bytes && graph->rows->elem == DP_ELEM_U8) {
        dp_bytes_query_from_row(code, dp_rows_peek(graph->rows, slot), graph->rows->dim);
    } else {
        query->code = NULL;
        query->vector = dp_hnsw__vector(graph, slot, scratch->other_vector);
    }
}

void
dp_hnsw__measure(const dp_hnsw *graph, dp_scratch *scratch, const dp_walk_query *query,
                 const uint32_t *slots, size_t n, float *out)
{
    const dp_slab *codes = dp_hnsw__codes(scratch, query);

    for (size_t i = 0; i < n; i++) {
        scratch->rows[i] = dp_hnsw__peek(graph, codes, slots[i]);
    }
    if (query->code != NULL) {
        query->code->measure(query->code, scratch->rows, n, out);
    } else {
        graph->distance->many(query->vector, (const void *const *)scratch->rows, n,
                              graph->rows->dim, out);
    }
}

void
dp_hnsw__measure_rows(const dp_hnsw *graph, dp_scratch *scratch, const float *vector,
                      dp_candidate *candidates, size_t n)
{
    for (size_t i = 0; i < n; i += DP_BATCH_MAX) {
        size_t part = n - i < DP_BATCH_MAX ? n - i : DP_BATCH_MAX;

        for (size_t j = 0; j < part; j++) {
            scratch->rows[j] = dp_rows_peek(graph->rows, candidates[i + j].slot);
        }
        dp_rows_fetch(graph->rows, scratch->rows, part);
        graph->distance->many(vector, (const void *const *)scratch->rows, part, graph->rows->dim,
                              scratch->distances);
        for (size_t j = 0; j < part; j++) {
            candidates[i + j].distance = scratch->distances[j];
        }
    }
}

ort_err
dp_hnsw_delete(dp_hnsw *graph, uint32_t slot)
{
    uint8_t live = DP_NODE_LIVE;
    ort_err err = ORT_ENOTFOUND;

    pthread_rwlock_rdlock(&graph->gate);
    if (slot < atomic_load_explicit(&graph->slot_end, memory_order_acquire) &&
        atomic_compare_exchange_strong_explicit(&dp_hnsw__node(graph, slot)->state, &live,
                                                DP_NODE_DEAD, memory_order_acq_rel,
                                                memory_order_relaxed)) {
        atomic_fetch_add_explicit(&graph->dead, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&graph->live, 1, memory_order_relaxed);
        err = ORT_OK;
    }
    pthread_rwlock_unlock(&graph->gate);
    return err;
}
