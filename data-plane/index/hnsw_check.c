/* The invariants of the graph, looked at one by one. */
#include <stdlib.h>
#include <string.h>

#include "index/hnsw_internal.h"

static void
check_list(const dp_hnsw *graph, uint32_t slot, uint32_t level, uint32_t slot_end,
           dp_hnsw_report *out)
{
    uint32_t list[DP_HNSW_M_MAX * 2];
    uint32_t n = dp_hnsw__read(graph, slot, level, list);

    for (uint32_t i = 0; i < n; i++) {
        uint8_t state;

        if (list[i] >= slot_end) {
            out->dead_links++;
            continue;
        }
        state = dp_hnsw__state(graph, list[i]);
        out->dead_links += state != DP_NODE_LIVE && state != DP_NODE_DEAD;
        out->bad_links += list[i] == slot || dp_hnsw__node(graph, list[i])->level < level;
        for (uint32_t j = 0; j < i; j++) {
            out->bad_links += list[j] == list[i];
        }
    }
    if (level == 0) {
        out->degree_mean += n;
    }
}

uint32_t
dp_hnsw__flood(const dp_hnsw *graph, uint8_t *seen, uint32_t *stack)
{
    uint64_t entry = atomic_load_explicit((_Atomic(uint64_t) *)&graph->entry, memory_order_acquire);
    uint32_t slot_end =
        atomic_load_explicit((_Atomic(uint32_t) *)&graph->slot_end, memory_order_acquire);
    uint32_t list[DP_HNSW_M_MAX * 2];
    uint32_t reached = 0;
    size_t depth = 0;

    if (entry != 0) {
        stack[depth++] = (uint32_t)entry - 1;
        seen[(uint32_t)entry - 1] = 1;
    }
    while (depth > 0) {
        uint32_t slot = stack[--depth];
        uint32_t n = dp_hnsw__read(graph, slot, 0, list);

        reached += dp_hnsw__state(graph, slot) == DP_NODE_LIVE;
        for (uint32_t i = 0; i < n; i++) {
            if (list[i] < slot_end && !seen[list[i]]) {
                seen[list[i]] = 1;
                stack[depth++] = list[i];
            }
        }
    }
    return reached;
}

ort_err
dp_hnsw_check(dp_hnsw *graph, dp_hnsw_report *out)
{
    uint8_t *seen;
    uint32_t *stack;
    uint32_t slot_end;
    ort_err err = ORT_OK;

    memset(out, 0, sizeof *out);
    pthread_rwlock_wrlock(&graph->gate);
    slot_end = atomic_load_explicit(&graph->slot_end, memory_order_acquire);
    seen = calloc((size_t)slot_end + 1, 1);
    stack = malloc(((size_t)slot_end + 1) * sizeof *stack);
    if (seen == NULL || stack == NULL) {
        err = ORT_ENOMEM;
    } else {
        for (uint32_t slot = 0; slot < slot_end; slot++) {
            const dp_node *node = dp_hnsw__node(graph, slot);
            uint8_t state = dp_hnsw__state(graph, slot);

            out->dead += state == DP_NODE_DEAD;
            if (state != DP_NODE_LIVE) {
                continue;
            }
            out->nodes++;
            out->level_max = node->level > out->level_max ? node->level : out->level_max;
            for (uint32_t level = 0; level <= node->level; level++) {
                check_list(graph, slot, level, slot_end, out);
            }
        }
        out->unreachable = graph->unlinked ? 0 : out->nodes - dp_hnsw__flood(graph, seen, stack);
        out->degree_mean /= out->nodes > 0 ? out->nodes : 1;
    }
    pthread_rwlock_unlock(&graph->gate);
    free(seen);
    free(stack);
    return err;
}
