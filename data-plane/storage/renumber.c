/* Slots numbered anew.
 *
 * Slots are given out in order and never twice, so that whoever knows a slot can trust it. Chunks
 * that died leave holes. When half of all numbers are behind us and most of them are holes, the
 * holes are closed: chunks get the numbers 0, 1, 2, .. in the order that they had. */
#include <sched.h>
#include <stdlib.h>

#include "base/point.h"
#include "storage/points_internal.h"

/* Generations of manifests grow one at a time; this many no shard ever has. So what is saved under
 * the generation of a renumbering that a crash took back is never mistaken for something else. */
#define GENERATION_STEP (UINT64_C(1) << 32)

#define GONE UINT32_MAX

#if ORT_CHECK
static uint32_t slots_max = DP_SLOTS_MAX;

void
dp_points_set_slots_max(uint32_t max)
{
    slots_max = max != 0 && max < DP_SLOTS_MAX ? max : DP_SLOTS_MAX;
}
#else
static const uint32_t slots_max = DP_SLOTS_MAX;
#endif

uint32_t
dp_points__slots_max(void)
{
    return slots_max;
}

static uint32_t
chunk_end_of(const dp_points *p)
{
    const uint64_t end = atomic_load(&p->slot_end);
    return (uint32_t)((end + DP_CHUNK_SLOTS - 1) / DP_CHUNK_SLOTS);
}

bool
dp_points__is_sparse(const dp_points *p)
{
    const uint32_t end = atomic_load(&p->slot_end);
    uint64_t chunks = 0;
    if (end <= slots_max / 2) {
        return false;
    }
    for (uint32_t i = 0; i < chunk_end_of(p); i++) {
        chunks += dp_points__chunk(p, i) != NULL;
    }
    return chunks * DP_CHUNK_SLOTS <= end / 2;
}

bool
dp_points_is_short_of_slots(const dp_points *p)
{
    return atomic_load(&p->slot_end) / 3 >= slots_max / 4 && dp_points__is_sparse(p);
}

/* New numbers; renamed[end] is one past the last. */
static uint32_t *
plan(const dp_points *p, uint32_t end)
{
    uint32_t *renamed = malloc((end + 1u) * sizeof *renamed);
    uint32_t next = 0;
    for (uint32_t i = 0; renamed != NULL && i < end; i++) {
        renamed[i] = dp_points__chunk(p, i) != NULL ? next++ : GONE;
    }
    if (renamed != NULL) {
        renamed[end] = next;
    }
    return renamed;
}

/* A bound of slots: what is below it stays below. */
static uint32_t
rename_bound(const uint32_t *renamed, uint32_t end, uint32_t bound)
{
    uint32_t below = 0;
    for (uint32_t i = 0; i < end && i < bound / DP_CHUNK_SLOTS; i++) {
        below += renamed[i] != GONE;
    }
    return below * DP_CHUNK_SLOTS + bound % DP_CHUNK_SLOTS;
}

/* The tree with new slots; ids whose chunk is gone are dead and left out. */
static ort_err
rename_tree(const dp_id_tree *tree, const uint32_t *renamed, dp_id_tree **out)
{
    dp_id_slot at;
    *out = NULL;
    ort_err err = tree != NULL ? dp_id_tree_new(out) : ORT_OK;
    if (err != ORT_OK || tree == NULL) {
        return err;
    }
    for (dp_id_tree_place place = dp_id_tree_seek(tree, NULL);
         err == ORT_OK && dp_id_tree_peek(place, &at); dp_id_tree_step(&place)) {
        const uint32_t chunk = renamed[at.slot / DP_CHUNK_SLOTS];
        if (chunk != GONE) {
            err = dp_id_tree_set(*out, at.id, chunk * DP_CHUNK_SLOTS + at.slot % DP_CHUNK_SLOTS);
        }
    }
    if (err != ORT_OK) {
        dp_id_tree_free(*out);
        *out = NULL;
    }
    return err;
}

/* From chunk to chunk, front to back: nothing is overwritten that is still to be moved. */
static void
move_chunks(dp_points *p, const uint32_t *renamed, uint32_t end)
{
    for (uint32_t i = 0; i < end; i++) {
        const uint32_t to = renamed[i];
        if (to == GONE || to == i) {
            continue;
        }
        atomic_store(&p->chunks[to], atomic_load(&p->chunks[i]));
        atomic_store(&p->chunks[i], NULL);
        for (uint32_t k = 0; k < p->layout.dense_count; k++) {
            atomic_store(&p->rows[k][to], atomic_load(&p->rows[k][i]));
            atomic_store(&p->rows[k][i], NULL);
        }
        for (uint32_t k = 0; k < DP_CHUNK_WORDS; k++) {
            atomic_store(&p->live[to * DP_CHUNK_WORDS + k],
                         atomic_load(&p->live[i * DP_CHUNK_WORDS + k]));
            atomic_store(&p->live[i * DP_CHUNK_WORDS + k], 0);
        }
        if (i < p->owner_cap) {
            p->owner[to] = p->owner[i];
            p->owner[i] = (dp_owner){0};
        }
    }
}

static void
rename_segments(dp_points *p, const uint32_t *renamed, uint32_t end)
{
    const dp_segment_list *list = atomic_load(&p->segments);
    for (uint32_t i = 0; i < list->count; i++) {
        dp_segment_forget_chunks(list->items[i]);
    }
    for (uint32_t i = 0; i < renamed[end] && i < p->owner_cap; i++) {
        if (p->owner[i].segment != NULL) {
            dp_segment_set_chunk(p->owner[i].segment, p->owner[i].place, i);
        }
    }
}

/* Waits until what readers might hold is gone: chunks on their way out know their numbers. */
static bool
is_quiet(dp_points *p)
{
    for (int tries = 0; tries < 1000; tries++) {
        dp_points__reclaim(p);
        if (atomic_load(&p->retired_count) == 0) {
            return true;
        }
        sched_yield();
    }
    return false;
}

static ort_err
renumber(dp_points *p, ort_diag *diag)
{
    const uint32_t end = chunk_end_of(p);
    dp_id_tree *ids = NULL, *frozen = NULL;
    uint32_t *renamed = plan(p, end);
    if (renamed == NULL || rename_tree(p->ids, renamed, &ids) != ORT_OK ||
        rename_tree(p->frozen, renamed, &frozen) != ORT_OK) {
        dp_id_tree_free(ids);
        free(renamed);
        return ort_fail(diag, ORT_ENOMEM, "new numbers");
    }
    pthread_rwlock_wrlock(&p->lock);
    if (end < DP_CHUNKS_MAX && dp_points__chunk(p, end) != NULL) {
        dp_chunk_free(dp_points__chunk(p, end)); /* of a put that failed: nobody knows it */
        atomic_store(&p->chunks[end], NULL);
        for (uint32_t k = 0; k < p->layout.dense_count; k++) {
            atomic_store(&p->rows[k][end], NULL);
        }
    }
    move_chunks(p, renamed, end);
    rename_segments(p, renamed, end);
    dp_id_tree *old_ids = p->ids, *old_frozen = p->frozen;
    p->ids = ids;
    p->frozen = frozen;
    p->tail_sealed = rename_bound(renamed, end, p->tail_sealed);
    atomic_store(&p->slot_end, rename_bound(renamed, end, atomic_load(&p->slot_end)));
    p->relocate_chunk = 0;
    atomic_fetch_add(&p->changes, 1);
    pthread_mutex_lock(&p->mark_mutex);
    p->sealed_end = rename_bound(renamed, end, p->sealed_end);
    p->generation += GENERATION_STEP;
    pthread_mutex_unlock(&p->mark_mutex);
    pthread_rwlock_unlock(&p->lock);
    dp_id_tree_free(old_ids);
    dp_id_tree_free(old_frozen);
    free(renamed);
    ort_point("points.renumbered");
    return ORT_OK;
}

ort_err
dp_points_renumber(dp_points *p, ort_diag *diag)
{
    if (atomic_exchange(&p->checkpointing, true)) {
        return ort_fail(diag, ORT_EBUSY, "a checkpoint or an export is under way");
    }
    const ort_err err =
        is_quiet(p) ? renumber(p, diag) : ort_fail(diag, ORT_EBUSY, "somebody reads old chunks");
    atomic_store(&p->checkpointing, false);
    return err;
}
