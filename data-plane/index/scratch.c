/* The process's scratches: a table of them, each with a flag that says it is taken. */
#include "index/scratch.h"

#include <assert.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static _Atomic(dp_scratch *) table[DP_SCRATCH_MAX];
static _Atomic(bool) taken[DP_SCRATCH_MAX];

/* Where this thread found one last time: only a hint, so that threads do not meet at entry 0. */
static _Thread_local unsigned hint;
static _Atomic(unsigned) next_hint = 1;

static dp_scratch *
scratch_new(void)
{
    dp_scratch *s = calloc(1, sizeof *s);

    if (s == NULL) {
        return NULL;
    }
    s->ids = malloc(DP_BATCH_MAX * sizeof *s->ids);
    s->spare = malloc(DP_BATCH_MAX * sizeof *s->spare);
    s->rows = malloc(DP_BATCH_MAX * sizeof *s->rows);
    s->distances = malloc(DP_BATCH_MAX * sizeof *s->distances);
    if (s->ids == NULL || s->spare == NULL || s->rows == NULL || s->distances == NULL) {
        free(s->ids);
        free(s->spare);
        free((void *)s->rows);
        free(s->distances);
        free(s);
        return NULL;
    }
    return s;
}

/* Each realloc that works stands, so a failure half-way leaves a smaller but sound scratch. */
static ort_err
grow(dp_scratch *s, uint32_t slot_count, size_t dim)
{
    if (slot_count > s->visited_max) {
        size_t want = (size_t)slot_count + slot_count / 4 + 1024;
        uint8_t *visited;

        if (want > UINT32_MAX) {
            want = UINT32_MAX;
        }
        visited = calloc(want, 1);
        if (visited == NULL) {
            return ORT_ENOMEM;
        }
        free(s->visited);
        s->visited = visited;
        s->visited_max = (uint32_t)want;
        s->epoch = 0;
    }
    s->visited_count = slot_count;
    if (dim > s->dim_max) {
        float *vector = malloc(dim * sizeof *vector);
        float *other_vector = malloc(dim * sizeof *other_vector);

        if (vector == NULL || other_vector == NULL) {
            free(vector);
            free(other_vector);
            return ORT_ENOMEM;
        }
        free(s->vector);
        free(s->other_vector);
        s->vector = vector;
        s->other_vector = other_vector;
        s->dim_max = dim;
    }
    return ORT_OK;
}

ort_err
dp_scratch_code(dp_scratch *scratch, size_t query_bytes, size_t room_floats)
{
    query_bytes = (query_bytes + 63) / 64 * 64;
    if (query_bytes > scratch->code_bytes_max) {
        int8_t *code = aligned_alloc(64, query_bytes * 2);

        if (code == NULL) {
            return ORT_ENOMEM;
        }
        free(scratch->code_bytes);
        scratch->code_bytes = code;
        scratch->code_bytes_max = query_bytes;
    }
    if (room_floats > scratch->room_max) {
        float *room = aligned_alloc(64, (room_floats * sizeof *room + 63) / 64 * 64);

        if (room == NULL) {
            return ORT_ENOMEM;
        }
        free(scratch->room);
        scratch->room = room;
        scratch->room_max = room_floats;
    }
    scratch->code.codes = scratch->code_bytes;
    scratch->other.codes = scratch->code_bytes + scratch->code_bytes_max;
    return ORT_OK;
}

ort_err
dp_scratch_take(dp_scratch **out, const void *owner, uint32_t slot_count, size_t dim)
{
    dp_scratch *s = NULL;
    unsigned at = 0;
    ort_err err;

    if (hint == 0) {
        hint = atomic_fetch_add_explicit(&next_hint, 1, memory_order_relaxed) % DP_SCRATCH_MAX + 1;
    }
    for (unsigned i = 0; i < DP_SCRATCH_MAX; i++) {
        at = (hint - 1 + i) % DP_SCRATCH_MAX;
        if (!atomic_load_explicit(&taken[at], memory_order_relaxed) &&
            !atomic_exchange_explicit(&taken[at], true, memory_order_acquire)) {
            break;
        }
        if (i + 1 == DP_SCRATCH_MAX) {
            return ORT_EBUSY;
        }
    }
    hint = at + 1;
    s = atomic_load_explicit(&table[at], memory_order_acquire);
    if (s == NULL) {
        s = scratch_new();
        if (s == NULL) {
            atomic_store_explicit(&taken[at], false, memory_order_release);
            return ORT_ENOMEM;
        }
        s->at = at;
        atomic_store_explicit(&table[at], s, memory_order_release);
    }
    err = grow(s, slot_count, dim);
    if (err != ORT_OK) {
        atomic_store_explicit(&taken[at], false, memory_order_release);
        return err;
    }
    dp_scratch_forget(s);
    /* Sequentially consistent, with the loads of dp_scratch_drain(): either the drain sees this
     * walk, or this walk sees every link as it was before the drain. */
    (void)atomic_exchange_explicit(&s->owner, owner, memory_order_seq_cst);
    *out = s;
    return ORT_OK;
}

ort_err
dp_scratch_pool(dp_scratch *scratch, size_t n)
{
    if (n > scratch->pool_max) {
        dp_candidate *pool = malloc(n * sizeof *pool);

        if (pool == NULL) {
            return ORT_ENOMEM;
        }
        free(scratch->pool);
        scratch->pool = pool;
        scratch->pool_max = n;
    }
    return ORT_OK;
}

void
dp_scratch_forget(dp_scratch *scratch)
{
    if (++scratch->epoch == 0) {
        scratch->epoch = 1;
        if (scratch->visited_max > 0) {
            memset(scratch->visited, 0, scratch->visited_max);
        }
    }
}

void
dp_scratch_give(dp_scratch *scratch)
{
    unsigned at = scratch->at;

    assert(atomic_load_explicit(&table[at], memory_order_relaxed) == scratch);
    atomic_fetch_add_explicit(&scratch->runs, 1, memory_order_release);
    atomic_store_explicit(&scratch->owner, NULL, memory_order_release);
    atomic_store_explicit(&taken[at], false, memory_order_release);
}

void
dp_scratch_drain(const void *owner)
{
    for (unsigned i = 0; i < DP_SCRATCH_MAX; i++) {
        dp_scratch *s = atomic_load_explicit(&table[i], memory_order_seq_cst);
        uint64_t runs;

        if (s == NULL) {
            continue;
        }
        runs = atomic_load_explicit(&s->runs, memory_order_seq_cst);
        while (atomic_load_explicit(&s->owner, memory_order_seq_cst) == owner &&
               atomic_load_explicit(&s->runs, memory_order_acquire) == runs) {
            sched_yield();
        }
    }
}

void
dp_scratch_count(dp_scratch_counts *out)
{
    *out = (dp_scratch_counts){0, 0};
    for (unsigned i = 0; i < DP_SCRATCH_MAX; i++) {
        dp_scratch *s = atomic_load_explicit(&table[i], memory_order_acquire);

        if (s != NULL) {
            out->followed += atomic_load_explicit(&s->followed, memory_order_relaxed);
            out->measured += atomic_load_explicit(&s->measured, memory_order_relaxed);
        }
    }
}
