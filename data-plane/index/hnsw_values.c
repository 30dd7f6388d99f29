/* Lists among the points of one value: their groups, and how a point comes into them. */
#include "index/hnsw_values_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- groups -------------------------------------------------------------------------------------
 */

dp_value_links *
dp_value_links_new(uint64_t field, uint32_t m)
{
    dp_value_links *f = calloc(1, sizeof *f);
    pthread_rwlockattr_t attr;
    if (f == NULL) {
        return NULL;
    }
    f->field = field;
    f->m = m;
    f->m0 = 2 * m;
    dp_slab_init(&f->links, f->m0 * sizeof(dp_link));
    dp_slab_init(&f->group_of, sizeof(dp_group_number));
    pthread_rwlockattr_init(&attr);
    /* A stream of searches must not starve who adds a point. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&f->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    return f;
}

void
dp_value_links_free(dp_value_links *f)
{
    if (f == NULL) {
        return;
    }
    for (uint32_t i = 0; i < f->group_count; i++) {
        free(f->groups[i].members);
        free(f->groups[i].noted);
    }
    free(f->groups);
    free(f->buckets);
    dp_slab_fini(&f->links);
    dp_slab_fini(&f->group_of);
    pthread_rwlock_destroy(&f->lock);
    free(f);
}

ort_err
dp_value_links_reserve(dp_value_links *f, uint32_t slot)
{
    if (slot < atomic_load_explicit(&f->slot_end, memory_order_relaxed)) {
        return ORT_OK;
    }
    const unsigned chunk = dp_slab_chunk_of(slot);
    ort_err err = dp_slab_reserve(&f->links, slot);
    err = err == ORT_OK ? dp_slab_reserve(&f->group_of, slot) : err;
    if (err == ORT_OK) {
        atomic_store_explicit(&f->slot_end, dp_slab_chunk_begin(chunk) + dp_slab_chunk_count(chunk),
                              memory_order_release);
    }
    return err;
}

/* Values are hashes as a rule, but need not be. */
static uint32_t
bucket_of(const dp_value_links *f, uint64_t value)
{
    return (uint32_t)(value * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (f->bucket_count - 1);
}

dp_value_group *
dp_value__find(const dp_value_links *f, uint64_t value)
{
    for (uint32_t i = f->bucket_count > 0 ? bucket_of(f, value) : 0;
         f->bucket_count > 0 && f->buckets[i] != 0; i = (i + 1) & (f->bucket_count - 1)) {
        dp_value_group *g = &f->groups[f->buckets[i] - 1];
        if (g->value == value) {
            return g;
        }
    }
    return NULL;
}

static void
put_bucket(dp_value_links *f, uint32_t number)
{
    uint32_t at = bucket_of(f, f->groups[number].value);
    while (f->buckets[at] != 0) {
        at = (at + 1) & (f->bucket_count - 1);
    }
    f->buckets[at] = number + 1;
}

void
dp_value__rebucket(dp_value_links *f)
{
    memset(f->buckets, 0, (size_t)f->bucket_count * sizeof *f->buckets);
    for (uint32_t i = 0; i < f->group_count; i++) {
        if (f->groups[i].used) {
            put_bucket(f, i);
        }
    }
}

static ort_err
grow_buckets(dp_value_links *f)
{
    const uint32_t count = f->bucket_count == 0 ? 64 : f->bucket_count * 2;
    uint32_t *fresh = calloc(count, sizeof *fresh);
    if (fresh == NULL) {
        return ORT_ENOMEM;
    }
    free(f->buckets);
    f->buckets = fresh;
    f->bucket_count = count;
    dp_value__rebucket(f);
    return ORT_OK;
}

static ort_err
new_place(dp_value_links *f, uint32_t *out)
{
    if (f->group_count == f->group_cap) {
        const uint32_t cap = f->group_cap == 0 ? 16 : f->group_cap * 2;
        dp_value_group *grown = realloc(f->groups, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        f->groups = grown;
        f->group_cap = cap;
    }
    *out = f->group_count++;
    return ORT_OK;
}

/* What a repair gave back, or a new one. */
static ort_err
place_for_group(dp_value_links *f, uint32_t *out)
{
    if (f->free_group == 0) {
        return new_place(f, out);
    }
    *out = f->free_group - 1;
    f->free_group = f->groups[*out].next_free;
    return ORT_OK;
}

ort_err
dp_value__group_none(dp_value_links *f, uint32_t *out)
{
    const ort_err err = new_place(f, out);
    if (err == ORT_OK) {
        f->groups[*out] = (dp_value_group){.count = 0};
    }
    return err;
}

ort_err
dp_value__group(dp_value_links *f, uint64_t value, uint32_t *out)
{
    const dp_value_group *known = dp_value__find(f, value);
    ort_err err = ORT_OK;
    if (known != NULL) {
        *out = (uint32_t)(known - f->groups);
        return ORT_OK;
    }
    pthread_rwlock_wrlock(&f->lock);
    if ((f->group_count + 1) * 2 > f->bucket_count) {
        err = grow_buckets(f);
    }
    err = err == ORT_OK ? place_for_group(f, out) : err;
    if (err == ORT_OK) {
        f->groups[*out] = (dp_value_group){.value = value, .used = true};
        put_bucket(f, *out);
    }
    pthread_rwlock_unlock(&f->lock);
    return err;
}

void
dp_value__release(dp_value_links *f, uint32_t number)
{
    dp_value_group *g = &f->groups[number];
    free(g->members);
    free(g->noted);
    *g = (dp_value_group){.next_free = f->free_group};
    f->free_group = number + 1;
}

ort_err
dp_value__append(dp_value_links *f, dp_value_group *g, uint32_t slot)
{
    if (g->count == g->cap) {
        const uint32_t cap = g->cap == 0 ? 4 : g->cap * 2;
        pthread_rwlock_wrlock(&f->lock);
        uint32_t *grown = realloc(g->members, cap * sizeof *grown);
        if (grown != NULL) {
            g->members = grown;
            g->cap = cap;
        }
        pthread_rwlock_unlock(&f->lock);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
    }
    pthread_rwlock_wrlock(&f->lock);
    g->members[g->count++] = slot;
    pthread_rwlock_unlock(&f->lock);
    return ORT_OK;
}

/* With `lock` held. */
static ort_err
note_slot(dp_value_group *g, uint32_t slot)
{
    for (uint32_t i = 0; i < g->noted_count; i++) {
        if (g->noted[i] == slot) {
            return ORT_OK; /* told of twice */
        }
    }
    if (g->mixed || g->noted_count == DP_HNSW_VALUE_NOTED_MAX) {
        g->mixed = true;
        g->walkable = false;
        return ORT_OK;
    }
    if (g->noted_count == g->noted_cap) {
        const uint32_t cap = g->noted_cap == 0 ? 4 : g->noted_cap * 2;
        uint32_t *grown = realloc(g->noted, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        g->noted = grown;
        g->noted_cap = cap;
    }
    g->noted[g->noted_count++] = slot;
    return ORT_OK;
}

ort_err
dp_value__note(dp_value_links *f, dp_value_group *g, uint32_t slot)
{
    pthread_rwlock_wrlock(&f->lock);
    const ort_err err = note_slot(g, slot);
    pthread_rwlock_unlock(&f->lock);
    return err;
}

size_t
dp_value__seeds(const dp_value_group *g, uint32_t count, uint32_t *out)
{
    const uint32_t n = count < DP_VALUE_SEEDS ? count : DP_VALUE_SEEDS;
    for (uint32_t i = 0; i < n; i++) {
        out[i] = g->members[(uint64_t)i * count / n];
    }
    return n;
}

/* --- as levels ----------------------------------------------------------------------------------
 */

dp_link *
dp_hnsw__value_links(const dp_hnsw *graph, uint32_t slot, uint32_t level)
{
    return dp_slab_at(&dp_hnsw__field(graph, level - DP_LEVEL_VALUES)->links, slot);
}

uint32_t
dp_hnsw__value_capacity(const dp_hnsw *graph, uint32_t level)
{
    return dp_hnsw__field(graph, level - DP_LEVEL_VALUES)->m0;
}

/* --- fields -------------------------------------------------------------------------------------
 */

unsigned
dp_hnsw__field_of(const dp_hnsw *graph, uint64_t field)
{
    unsigned i = 0;
    while (i < DP_HNSW_FIELDS_MAX) {
        const dp_value_links *f = dp_hnsw__field(graph, i);
        if (f != NULL && f->field == field) {
            break;
        }
        i++;
    }
    return i;
}

static dp_value_links *
find_field(const dp_hnsw *graph, uint64_t field, unsigned *at)
{
    *at = dp_hnsw__field_of(graph, field);
    return *at < DP_HNSW_FIELDS_MAX ? dp_hnsw__field(graph, *at) : NULL;
}

ort_err
dp_hnsw_field_add(dp_hnsw *graph, uint64_t field, uint32_t m, ort_diag *diag)
{
    unsigned at = 0;
    if (m < 2 || m > DP_HNSW_M_MAX || field == 0) {
        return ort_fail(diag, ORT_EINVAL, "m of a field is 2 to %u, not %u", DP_HNSW_M_MAX, m);
    }
    if (find_field(graph, field, &at) != NULL) {
        return ORT_OK;
    }
    at = 0;
    while (at < DP_HNSW_FIELDS_MAX && dp_hnsw__field(graph, at) != NULL) {
        at++;
    }
    if (at == DP_HNSW_FIELDS_MAX) {
        return ort_fail(diag, ORT_EINVAL, "a graph keeps links by %u fields at most",
                        DP_HNSW_FIELDS_MAX);
    }
    dp_value_links *f = dp_value_links_new(field, m);
    if (f == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for the links of a field");
    }
    pthread_rwlock_wrlock(&graph->gate);
    atomic_store_explicit(&graph->fields[at], f, memory_order_release);
    pthread_rwlock_unlock(&graph->gate);
    return ORT_OK;
}

void
dp_hnsw_field_drop(dp_hnsw *graph, uint64_t field)
{
    unsigned at;
    pthread_rwlock_wrlock(&graph->gate);
    dp_value_links *f = find_field(graph, field, &at);
    if (f != NULL) {
        atomic_store_explicit(&graph->fields[at], NULL, memory_order_release);
    }
    pthread_rwlock_unlock(&graph->gate);
    dp_value_links_free(f);
}

uint64_t
dp_hnsw_field_at(const dp_hnsw *graph, unsigned i, uint32_t *m)
{
    const dp_value_links *f = dp_hnsw__field(graph, i);
    *m = f != NULL ? f->m : 0;
    return f != NULL ? f->field : 0;
}

uint32_t
dp_hnsw_field_end(const dp_hnsw *graph, uint64_t field)
{
    unsigned at;
    dp_value_links *f = find_field(graph, field, &at);
    return f != NULL ? atomic_load_explicit(&f->told_end, memory_order_acquire) : 0;
}

ort_err
dp_hnsw_field_advance(dp_hnsw *graph, uint64_t field, uint32_t end)
{
    unsigned at;
    dp_value_links *f = find_field(graph, field, &at);
    if (f == NULL) {
        return ORT_OK;
    }
    atomic_store_explicit(&f->told_end, end, memory_order_release);
    return dp_hnsw__reconnect_values(graph, at);
}

uint32_t
dp_hnsw_value_points(const dp_hnsw *graph, uint64_t field, uint64_t value)
{
    unsigned at;
    dp_value_links *f = find_field(graph, field, &at);
    uint32_t count = 0;
    if (f != NULL) {
        pthread_rwlock_rdlock(&f->lock);
        const dp_value_group *g = dp_value__find(f, value);
        count = g != NULL && g->walkable ? g->count + g->noted_count : 0;
        pthread_rwlock_unlock(&f->lock);
    }
    return count;
}

void
dp_hnsw_field_rewind(dp_hnsw *graph, uint64_t field, uint32_t end)
{
    unsigned at;
    dp_value_links *f = find_field(graph, field, &at);
    if (f != NULL && atomic_load_explicit(&f->told_end, memory_order_relaxed) > end) {
        atomic_store_explicit(&f->told_end, end, memory_order_release);
    }
}

/* --- a point comes ------------------------------------------------------------------------------
 */

bool
dp_value__start(const dp_hnsw *graph, dp_scratch *s, const dp_walk_query *query, uint32_t level,
                const uint32_t *seeds, size_t n, dp_candidate *start)
{
    const dp_slab *codes = dp_hnsw__codes(s, query);
    for (size_t i = 0; i < n; i++) {
        const char *row = (const char *)dp_hnsw__peek(graph, codes, seeds[i]);
        __builtin_prefetch(row);
        __builtin_prefetch(row + 64);
        __builtin_prefetch(row + 128);
    }
    dp_hnsw__measure(graph, s, query, seeds, n, s->distances);
    dp_scratch_worked(s, 0, n);
    /* The nearest as a rule: lists are looked at one by one, as each is a wait for memory. */
    for (size_t left = n; left > 0; left--) {
        size_t at = 0;
        for (size_t i = 1; i < n; i++) {
            at = s->distances[i] < s->distances[at] ? i : at;
        }
        *start = (dp_candidate){.slot = seeds[at], .distance = s->distances[at]};
        if (n == 1 || dp_hnsw__has_links(graph, seeds[at], level)) {
            return true;
        }
        s->distances[at] = INFINITY;
    }
    return false;
}

/* Links a slot to the members before it, of which the first `count` are linked. */
static void
join(dp_hnsw *graph, dp_scratch *s, unsigned at, const dp_value_group *g, uint32_t count,
     uint32_t slot)
{
    const uint32_t level = DP_LEVEL_VALUES + at;
    uint32_t seeds[DP_VALUE_SEEDS];
    dp_walk_query query;
    dp_candidate start;
    const size_t n = dp_value__seeds(g, count, seeds);
    dp_hnsw__aim_self(graph, s, slot, &query);
    if (!dp_value__start(graph, s, &query, level, seeds, n, &start)) {
        /* The second one, or the first after all before it died. */
        if (n == 0) {
            return;
        }
        start.slot = seeds[n - 1];
        dp_hnsw__measure(graph, s, &query, &start.slot, 1, &start.distance);
    }
    dp_hnsw__join_level(graph, s, slot, level, &query, start);
}

static ort_err
take_scratch(dp_hnsw *graph, dp_scratch **out)
{
    ort_err err = dp_hnsw__take(graph, graph, out);
    if (err == ORT_OK) {
        err = dp_scratch_pool(*out, graph->ef_construct);
        if (err != ORT_OK) {
            dp_scratch_give(*out);
        }
    }
    return err;
}

/* All members that have no lists yet; where it stops the next one begins. */
static ort_err
link_members(dp_hnsw *graph, unsigned at, dp_value_links *f, dp_value_group *g)
{
    dp_scratch *s;
    ort_err err = take_scratch(graph, &s);
    if (err != ORT_OK) {
        return err;
    }
    for (; g->linked < g->count; g->linked++) {
        if (dp_hnsw__state(graph, g->members[g->linked]) == DP_NODE_LIVE) {
            join(graph, s, at, g, g->linked, g->members[g->linked]);
            f->joined++;
        }
    }
    dp_scratch_give(s);
    pthread_rwlock_wrlock(&f->lock);
    g->walkable = !g->mixed;
    pthread_rwlock_unlock(&f->lock);
    return ORT_OK;
}

/* One point of one value. */
static ort_err
add_point(dp_hnsw *graph, unsigned at, dp_value_links *f, uint64_t value, uint32_t slot)
{
    dp_scratch *s;
    uint32_t number;
    ort_err err = dp_value__group(f, value, &number);
    err = err == ORT_OK ? dp_value_links_reserve(f, slot) : err;
    if (err != ORT_OK) {
        return err;
    }
    dp_value_group *g = &f->groups[number];
    if (g->walkable) {
        err = take_scratch(graph, &s);
        if (err == ORT_OK) {
            join(graph, s, at, g, g->count, slot);
            dp_scratch_give(s);
            f->joined++;
        }
    }
    err = err == ORT_OK ? dp_value__append(f, g, slot) : err;
    if (err != ORT_OK) {
        return err;
    }
    dp_value__set_group(f, slot, number + 1);
    g->linked += g->walkable;
    return g->walkable || g->mixed || g->count < DP_HNSW_VALUE_POINTS_MIN
               ? ORT_OK
               : link_members(graph, at, f, g);
}

static ort_err
note(dp_value_links *f, uint64_t value, uint32_t slot)
{
    uint32_t number;
    const ort_err err = dp_value__group(f, value, &number);
    return err == ORT_OK ? dp_value__note(f, &f->groups[number], slot) : err;
}

/* With the gate held. */
static ort_err
value_add(dp_hnsw *graph, uint64_t field, uint32_t slot, const uint64_t *values, size_t count)
{
    unsigned at;
    dp_value_links *f = find_field(graph, field, &at);
    ort_err err = ORT_OK;
    if (f == NULL || !dp_hnsw_has(graph, slot)) {
        return ORT_ENOTFOUND;
    }
    if (dp_value__group_of(f, slot) != 0) {
        return ORT_EEXISTS;
    }
    if (count == 1) {
        return add_point(graph, at, f, values[0], slot);
    }
    for (size_t i = 0; err == ORT_OK && i < count; i++) {
        err = note(f, values[i], slot);
    }
    return err;
}

ort_err
dp_hnsw_value_add(dp_hnsw *graph, uint64_t field, uint32_t slot, const uint64_t *values,
                  size_t count)
{
    pthread_rwlock_rdlock(&graph->gate);
    const ort_err err = value_add(graph, field, slot, values, count);
    pthread_rwlock_unlock(&graph->gate);
    return err;
}
