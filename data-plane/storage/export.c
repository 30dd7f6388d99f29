/* Exports: the live bits of one moment, and checkpoints kept away while somebody reads by them. */
#include <stdlib.h>

#include "storage/points_internal.h"

struct dp_export {
    dp_points *points;
    dp_log_mark mark;
    uint64_t count, logical_bytes;
    uint32_t slot_end;
    uint64_t live[];
};

ort_err
dp_points_export(dp_points *p, dp_log_mark mark, dp_export **out, ort_diag *diag)
{
    *out = NULL;
    if (atomic_exchange(&p->checkpointing, true)) {
        return ort_fail(diag, ORT_EBUSY, "a checkpoint or an export is under way");
    }
    const uint32_t slot_end = atomic_load(&p->slot_end);
    const size_t words = (slot_end + 63u) / 64u;
    dp_export *view = malloc(sizeof *view + words * sizeof view->live[0]);
    if (view == NULL) {
        atomic_store(&p->checkpointing, false);
        return ort_fail(diag, ORT_ENOMEM, "an export");
    }
    view->points = p;
    view->mark = mark;
    view->count = atomic_load(&p->live_count);
    view->logical_bytes = atomic_load(&p->logical_bytes);
    view->slot_end = slot_end;
    for (size_t i = 0; i < words; i++) {
        view->live[i] = atomic_load_explicit(&p->live[i], memory_order_relaxed);
    }
    *out = view;
    return ORT_OK;
}

uint32_t
dp_export_next(const dp_export *view, uint32_t slot)
{
    if (slot >= view->slot_end) {
        return DP_SLOT_NONE;
    }
    uint64_t word = view->live[slot / 64] & UINT64_MAX << (slot % 64);
    for (uint32_t i = slot / 64;;) {
        if (word != 0) {
            return i * 64 + (uint32_t)__builtin_ctzll(word); /* none lives behind slot_end */
        }
        if (++i > (view->slot_end - 1) / 64) {
            return DP_SLOT_NONE;
        }
        word = view->live[i];
    }
}

dp_log_mark
dp_export_mark(const dp_export *view)
{
    return view->mark;
}

uint64_t
dp_export_count(const dp_export *view)
{
    return view->count;
}

uint64_t
dp_export_logical_bytes(const dp_export *view)
{
    return view->logical_bytes;
}

void
dp_export_free(dp_export *view)
{
    if (view != NULL) {
        atomic_store(&view->points->checkpointing, false);
        free(view);
    }
}
