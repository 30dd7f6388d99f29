/* Inverted lists: for each index that occurs, the slots and values it occurs with, in slot order,
 * and for each window of slots that a list reaches into, the least and the greatest of its values
 * there.
 *
 * A search first adds up those bounds: what a slot of a window could score at most. Then it visits
 * the windows from the most promising on, adding up list after list in an array that stays in the
 * nearest cache, and ends where no window left can better the k-th score. Entries of other windows
 * are never touched; the answer is exact. (Mallia, Suel, Tonellotto, "Faster Learned Sparse
 * Retrieval with Block-Max Pruning", SIGIR 2024; windows here are slots as they came, in their
 * order.)
 *
 * The bound of a window is added up in the order in which its slots' scores are, from addends that
 * are not less; rounding is monotonous, so it holds to the last bit. */
#include "collection/sparse_internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

typedef struct {
    uint32_t slot;
    float value;
} posting;

/* Slots of a window: its scores take 2 KiB. */
#define WINDOW_BITS 9u
#define WINDOW_SLOTS (1u << WINDOW_BITS)

/* What a list has in one window. */
typedef struct {
    uint32_t window; /* slot >> WINDOW_BITS */
    uint32_t begin;  /* of its postings; they end where the next block's begin */
    float least, greatest;
} block;

typedef struct {
    uint32_t index;
    uint32_t count, cap; /* postings; cap 0: the place in the table is free */
    uint32_t dead;
    uint32_t block_count, block_cap;
    posting *postings;
    block *blocks; /* ascending */
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
        free(sparse->table[i].blocks);
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
grow_postings(dp_sparse *sparse, list *l, uint32_t index)
{
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
    return ORT_OK;
}

/* Room for one more block; it has none to begin with. */
static ort_err
grow_blocks(dp_sparse *sparse, list *l)
{
    const uint32_t cap = l->block_cap == 0 ? 1 : l->block_cap * 2;
    block *grown = realloc(l->blocks, (size_t)cap * sizeof *grown);

    if (grown == NULL) {
        return ORT_ENOMEM;
    }
    sparse->bytes += (uint64_t)(cap - l->block_cap) * sizeof *grown;
    l->blocks = grown;
    l->block_cap = cap;
    return ORT_OK;
}

/* Behind all others: slots come in their order. There is room for both. */
static void
append(list *l, posting p)
{
    const uint32_t window = p.slot >> WINDOW_BITS;

    assert(l->count == 0 || l->postings[l->count - 1].slot < p.slot);
    if (l->block_count == 0 || l->blocks[l->block_count - 1].window != window) {
        l->blocks[l->block_count++] = (block){window, l->count, p.value, p.value};
    }
    block *last = &l->blocks[l->block_count - 1];
    last->least = p.value < last->least ? p.value : last->least;
    last->greatest = p.value > last->greatest ? p.value : last->greatest;
    l->postings[l->count++] = p;
}

static ort_err
add_posting(dp_sparse *sparse, uint32_t index, posting p)
{
    if ((sparse->table == NULL || sparse->used >= UINT32_C(1) << (sparse->table_bits - 1)) &&
        grow_table(sparse) != ORT_OK) {
        return ORT_ENOMEM;
    }
    list *l = &sparse->table[place_of(sparse, index)];
    if ((l->count == l->cap && grow_postings(sparse, l, index) != ORT_OK) ||
        (l->block_count == l->block_cap && grow_blocks(sparse, l) != ORT_OK)) {
        return ORT_ENOMEM;
    }
    append(l, p);
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

/* Keeps the live ones, in their order, with bounds of their own. Never more than there were. */
static void
sweep(list *l, const dp_slot_set *live)
{
    const uint32_t count = l->count;

    l->count = 0;
    l->block_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const posting p = l->postings[i];
        if (dp_slot_set_has(live, p.slot)) {
            append(l, p);
        }
    }
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

/* A list that the query asks for. */
typedef struct {
    const list *list;
    float weight;
} term;

typedef struct {
    float bound;
    uint32_t window;
} candidate;

static int
most_promising_first(const void *a, const void *b)
{
    const candidate *x = a, *y = b;

    if (x->bound != y->bound) {
        return x->bound > y->bound ? -1 : 1;
    }
    return x->window < y->window ? -1 : x->window > y->window;
}

/* The most an entry of the block can add. A slot that the list does not have gets nothing. */
static float
most_of(const term *t, const block *b)
{
    const float x = t->weight * b->least, y = t->weight * b->greatest;
    const float most = x > y ? x : y;

    return most > 0 ? most : 0;
}

/* The windows that any list reaches into, with their bounds, most promising first. */
static ort_err
find_windows(const term *terms, uint32_t term_count, uint32_t window_count, candidate **out,
             uint32_t *count_out)
{
    float *bounds = calloc((size_t)window_count + 1, sizeof *bounds);
    unsigned char *reached = calloc((size_t)window_count + 1, 1);
    candidate *found = NULL;
    uint32_t n = 0;

    for (uint32_t i = 0; bounds != NULL && reached != NULL && i < term_count; i++) {
        const list *l = terms[i].list;
        for (uint32_t j = 0; j < l->block_count && l->blocks[j].window < window_count; j++) {
            const uint32_t w = l->blocks[j].window;
            bounds[w] += most_of(&terms[i], &l->blocks[j]);
            n += !reached[w];
            reached[w] = 1;
        }
    }
    if (bounds != NULL && reached != NULL) {
        found = malloc(((size_t)n + 1) * sizeof *found);
    }
    n = 0;
    for (uint32_t w = 0; found != NULL && w < window_count; w++) {
        if (reached[w]) {
            found[n++] = (candidate){bounds[w], w};
        }
    }
    if (n > 0) {
        qsort(found, n, sizeof *found, most_promising_first);
    }
    free(bounds);
    free(reached);
    *out = found;
    *count_out = n;
    return found != NULL ? ORT_OK : ORT_ENOMEM;
}

/* The block of a window, or NULL. */
static const block *
find_block(const list *l, uint32_t window)
{
    uint32_t low = 0, high = l->block_count;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (l->blocks[middle].window < window) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < l->block_count && l->blocks[low].window == window ? &l->blocks[low] : NULL;
}

/* Scores the slots of a window and offers them. Returns how many entries it read. */
static uint64_t
visit(const term *terms, uint32_t term_count, uint32_t window, const dp_slot_filter *filter,
      uint32_t k, dp_hit *hits, size_t *n)
{
    float scores[WINDOW_SLOTS];
    uint64_t met[WINDOW_SLOTS / 64] = {0};
    const uint32_t first = window << WINDOW_BITS;
    uint64_t read = 0;

    for (uint32_t i = 0; i < term_count; i++) {
        const list *l = terms[i].list;
        const block *b = find_block(l, window);
        if (b == NULL) {
            continue;
        }
        const uint32_t end = b + 1 < l->blocks + l->block_count ? b[1].begin : l->count;
        read += end - b->begin;
        for (uint32_t j = b->begin; j < end; j++) {
            const uint32_t at = l->postings[j].slot - first;
            const uint64_t bit = UINT64_C(1) << (at % 64);
            const float more = terms[i].weight * l->postings[j].value;
            scores[at] = (met[at / 64] & bit) != 0 ? scores[at] + more : more;
            met[at / 64] |= bit;
        }
    }
    for (uint32_t w = 0; w < WINDOW_SLOTS / 64; w++) {
        for (uint64_t bits = met[w]; bits != 0; bits &= bits - 1) {
            const uint32_t at = w * 64 + (uint32_t)__builtin_ctzll(bits);
            const dp_hit hit = {.slot = first + at, .distance = -scores[at]};
            if ((*n < k || dp_hit_nearer(hit, hits[0])) &&
                dp_slot_filter_passes(filter, hit.slot)) {
                offer(hits, n, k, hit);
            }
        }
    }
    return read;
}

ort_err
dp_sparse__search(const dp_sparse *sparse, const dp_vector *query, uint64_t idf_points,
                  uint32_t slot_end, const dp_slot_filter *filter, uint32_t k, dp_hit *hits,
                  size_t *n_out, uint64_t *read_out)
{
    const uint32_t window_count = (slot_end >> WINDOW_BITS) + 1;
    term *terms = malloc(((size_t)query->count + 1) * sizeof *terms);
    candidate *windows = NULL;
    uint32_t term_count = 0, count = 0;
    uint64_t read = 0;
    size_t n = 0;

    *n_out = 0;
    if (terms == NULL) {
        return ORT_ENOMEM;
    }
    for (uint32_t i = 0; i < query->count; i++) {
        const list *l = find_list(sparse, query->indices[i]);
        if (l != NULL) {
            const float idf = idf_points > 0 ? idf_of(l, idf_points) : 1;
            terms[term_count++] = (term){l, query->values[i] * idf};
        }
    }
    const ort_err err = find_windows(terms, term_count, window_count, &windows, &count);
    for (uint32_t i = 0; err == ORT_OK && i < count; i++) {
        if (n == k && windows[i].bound < -hits[0].distance) {
            break; /* nor can any behind it */
        }
        read += visit(terms, term_count, windows[i].window, filter, k, hits, &n);
    }
    if (n > 0) {
        qsort(hits, n, sizeof *hits, dp_hit_compare);
    }
    *n_out = n;
    if (read_out != NULL) {
        *read_out = read;
    }
    free(windows);
    free(terms);
    return err;
}

uint64_t
dp_sparse__bytes(const dp_sparse *sparse)
{
    return sparse->bytes;
}
