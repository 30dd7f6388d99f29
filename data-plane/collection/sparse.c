/* Inverted lists: for each index that occurs, the slots and values it occurs with, in slot order.
 * A search adds up list after list in an array of one float a slot: simple, exact, and quick while
 * a shard's slots fit the cache. Lists with block-wise bounds can take its place behind the same
 * calls. */
#include "collection/sparse_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

typedef struct {
    uint32_t slot;
    float value;
} posting;

typedef struct {
    uint32_t index;
    uint32_t count, cap; /* postings; cap 0: the place in the table is free */
    uint32_t dead;
    posting *postings;
} list;

struct dp_sparse {
    list *table; /* open addressing, at most half full */
    uint32_t table_bits, used;
    uint64_t bytes;
};

ort_err
dp_sparse__new(dp_sparse **out)
{
    dp_sparse *sparse = calloc(1, sizeof *sparse);
    *out = sparse;
    return sparse != NULL ? ORT_OK : ORT_ENOMEM;
}

void
dp_sparse__free(dp_sparse *sparse)
{
    if (sparse == NULL) {
        return;
    }
    for (uint32_t i = 0; sparse->table != NULL && i >> sparse->table_bits == 0; i++) {
        free(sparse->table[i].postings);
    }
    free(sparse->table);
    free(sparse);
}

/* Fibonacci hashing. Colliding indices cost their own tenant's collection only. */
static uint32_t
place_of(const dp_sparse *sparse, uint32_t index)
{
    const uint32_t mask = (UINT32_C(1) << sparse->table_bits) - 1;
    uint32_t i = (uint32_t)((uint64_t)index * UINT64_C(0x9E3779B97F4A7C15) >> 32) & mask;
    while (sparse->table[i].cap != 0 && sparse->table[i].index != index) {
        i = (i + 1) & mask;
    }
    return i;
}

static const list *
find_list(const dp_sparse *sparse, uint32_t index)
{
    if (sparse->table == NULL) {
        return NULL;
    }
    const list *l = &sparse->table[place_of(sparse, index)];
    return l->cap != 0 ? l : NULL;
}

static ort_err
grow_table(dp_sparse *sparse)
{
    dp_sparse grown = {.table_bits = sparse->table == NULL ? 6 : sparse->table_bits + 1,
                       .used = sparse->used};
    if (grown.table_bits > 30) {
        return ORT_ENOMEM;
    }
    grown.table = calloc((size_t)1 << grown.table_bits, sizeof *grown.table);
    if (grown.table == NULL) {
        return ORT_ENOMEM;
    }
    grown.bytes = sparse->bytes + (sizeof *grown.table << grown.table_bits);
    for (uint32_t i = 0; sparse->table != NULL && i >> sparse->table_bits == 0; i++) {
        if (sparse->table[i].cap != 0) {
            grown.table[place_of(&grown, sparse->table[i].index)] = sparse->table[i];
        }
    }
    if (sparse->table != NULL) {
        grown.bytes -= sizeof *grown.table << sparse->table_bits;
    }
    free(sparse->table);
    *sparse = grown;
    return ORT_OK;
}

static ort_err
add_posting(dp_sparse *sparse, uint32_t index, posting p)
{
    if ((sparse->table == NULL || sparse->used >= UINT32_C(1) << (sparse->table_bits - 1)) &&
        grow_table(sparse) != ORT_OK) {
        return ORT_ENOMEM;
    }
    list *l = &sparse->table[place_of(sparse, index)];
    if (l->count == l->cap) {
        const uint32_t cap = l->cap == 0 ? 4 : l->cap * 2;
        posting *grown = realloc(l->postings, (size_t)cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        sparse->bytes += (uint64_t)(cap - l->cap) * sizeof *grown;
        sparse->used += l->cap == 0;
        l->index = index;
        l->postings = grown;
        l->cap = cap;
    }
    l->postings[l->count++] = p;
    return ORT_OK;
}

static float
get_f32(const unsigned char *p)
{
    const uint32_t bits = ort_get_u32(p);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

ort_err
dp_sparse__add(dp_sparse *sparse, uint32_t slot, const void *stored, uint32_t count)
{
    const unsigned char *p = stored;
    for (uint32_t i = 0; i < count; i++) {
        const posting entry = {.slot = slot, .value = get_f32(p + ((size_t)count + i) * 4)};
        const ort_err err = add_posting(sparse, ort_get_u32(p + (size_t)i * 4), entry);
        if (err != ORT_OK) {
            return err;
        }
    }
    return ORT_OK;
}

/* Keeps the live ones, in their order. */
static void
sweep(list *l, const dp_slot_set *live)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < l->count; i++) {
        if (dp_slot_set_has(live, l->postings[i].slot)) {
            l->postings[kept++] = l->postings[i];
        }
    }
    l->count = kept;
    l->dead = 0;
}

void
dp_sparse__remove(dp_sparse *sparse, const dp_slot_set *live, const void *stored, uint32_t count)
{
    const unsigned char *p = stored;
    for (uint32_t i = 0; sparse->table != NULL && i < count; i++) {
        list *l = &sparse->table[place_of(sparse, ort_get_u32(p + (size_t)i * 4))];
        if (l->cap == 0) {
            continue;
        }
        l->dead++;
        if (l->dead > 16 && l->dead > l->count / 2) {
            sweep(l, live);
        }
    }
}

/* As of BM25 in its everywhere positive form. */
static float
idf_of(const list *l, uint64_t points)
{
    const double df = (double)(l->count - (l->dead < l->count ? l->dead : l->count));
    const double n = (double)points > df ? (double)points : df;
    return (float)log((n - df + 0.5) / (df + 0.5) + 1);
}

/* A binary heap whose root is the worst hit kept. */
static void
sift_down(dp_hit *heap, size_t n)
{
    size_t i = 0;
    for (;;) {
        size_t worst = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2; child++) {
            if (child < n && dp_hit_nearer(heap[worst], heap[child])) {
                worst = child;
            }
        }
        if (worst == i) {
            return;
        }
        const dp_hit t = heap[i];
        heap[i] = heap[worst];
        heap[worst] = t;
        i = worst;
    }
}

static void
offer(dp_hit *heap, size_t *n, uint32_t k, dp_hit hit)
{
    if (*n == k) {
        if (dp_hit_nearer(hit, heap[0])) {
            heap[0] = hit;
            sift_down(heap, *n);
        }
        return;
    }
    size_t i = (*n)++;
    heap[i] = hit;
    while (i > 0 && dp_hit_nearer(heap[(i - 1) / 2], heap[i])) {
        const dp_hit t = heap[i];
        heap[i] = heap[(i - 1) / 2];
        heap[(i - 1) / 2] = t;
        i = (i - 1) / 2;
    }
}

ort_err
dp_sparse__search(const dp_sparse *sparse, const dp_vector *query, uint64_t idf_points,
                  uint32_t slot_end, const dp_slot_filter *filter, uint32_t k, dp_hit *hits,
                  size_t *n_out)
{
    const size_t words = ((size_t)slot_end + 63) / 64;
    float *scores = calloc((size_t)slot_end + 1, sizeof *scores);
    uint64_t *met = calloc(words + 1, sizeof *met);
    size_t n = 0;
    *n_out = 0;
    if (scores == NULL || met == NULL) {
        free(scores);
        free(met);
        return ORT_ENOMEM;
    }
    for (uint32_t i = 0; i < query->count; i++) {
        const list *l = find_list(sparse, query->indices[i]);
        if (l == NULL) {
            continue;
        }
        const float weight =
            idf_points > 0 ? query->values[i] * idf_of(l, idf_points) : query->values[i];
        for (uint32_t j = 0; j < l->count; j++) {
            const posting p = l->postings[j];
            scores[p.slot] += weight * p.value;
            met[p.slot / 64] |= UINT64_C(1) << (p.slot % 64);
        }
    }
    for (size_t w = 0; w < words; w++) {
        for (uint64_t bits = met[w]; bits != 0; bits &= bits - 1) {
            const uint32_t slot = (uint32_t)(w * 64) + (uint32_t)__builtin_ctzll(bits);
            const dp_hit hit = {.slot = slot, .distance = -scores[slot]};
            if ((n < k || dp_hit_nearer(hit, hits[0])) && dp_slot_filter_passes(filter, slot)) {
                offer(hits, &n, k, hit);
            }
        }
    }
    qsort(hits, n, sizeof *hits, dp_hit_compare);
    *n_out = n;
    free(scores);
    free(met);
    return ORT_OK;
}

uint64_t
dp_sparse__bytes(const dp_sparse *sparse)
{
    return sparse->bytes;
}
