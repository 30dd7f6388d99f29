/* Inverted lists: for each index that occurs, the slots and values it occurs with, in slot order; a
 * long list also has the least and the greatest of its values in each window of slots it reaches
 * into.
 *
 * A search first adds up, window by window, what a slot there could score at most. It scores the
 * few most promising windows, which gives a k-th score to beat, and then goes through all others in
 * order and leaves out those that cannot beat it. Within a window the heaviest index comes first;
 * when what has been added up and what could still come stay below the k-th score, the rest of the
 * window's entries, which are those of the commonest indexes, are not read. The answer is exact.
 * (Turtle & Flood 1995 for the order of terms; Mallia, Suel, Tonellotto, "Faster Learned Sparse
 * Retrieval with Block-Max Pruning", SIGIR 2024, for bounds by ranges of documents.)
 *
 * A score is the sum in that order of indexes: by weight, then by number. */
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

#define WINDOW_BITS 7u
#define WINDOW_SLOTS (1u << WINDOW_BITS)

/* Lists shorter than this are looked through instead: most lists are, and blocks would triple them.
 */
#define BLOCKS_FROM 64u

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
    float least, greatest; /* of all that were ever in it since it was swept */
    posting *postings;
    block *blocks; /* ascending; none of a list that never reached BLOCKS_FROM */
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

static ort_err
grow_blocks(dp_sparse *sparse, list *l, uint32_t least)
{
    uint32_t cap = l->block_cap == 0 ? BLOCKS_FROM : l->block_cap * 2;
    cap = cap < least ? least : cap;
    block *grown = realloc(l->blocks, (size_t)cap * sizeof *grown);

    if (grown == NULL) {
        return ORT_ENOMEM;
    }
    sparse->bytes += (uint64_t)(cap - l->block_cap) * sizeof *grown;
    l->blocks = grown;
    l->block_cap = cap;
    return ORT_OK;
}

/* Posting `at` into the last block, or one of its own, for which there is room. */
static void
put_into_block(list *l, uint32_t at)
{
    const posting p = l->postings[at];
    const uint32_t window = p.slot >> WINDOW_BITS;

    assert(l->blocks != NULL);
    if (l->block_count == 0 || l->blocks[l->block_count - 1].window != window) {
        l->blocks[l->block_count++] = (block){window, at, p.value, p.value};
    }
    block *last = &l->blocks[l->block_count - 1];
    last->least = p.value < last->least ? p.value : last->least;
    last->greatest = p.value > last->greatest ? p.value : last->greatest;
}

/* Behind all others: slots come in their order. There is room for the posting and, in a list that
 * has blocks, for one more of them. */
static void
append(list *l, posting p)
{
    assert(l->count == 0 || l->postings[l->count - 1].slot < p.slot);
    l->least = l->count == 0 || p.value < l->least ? p.value : l->least;
    l->greatest = l->count == 0 || p.value > l->greatest ? p.value : l->greatest;
    l->postings[l->count++] = p;
    if (l->blocks != NULL) {
        put_into_block(l, l->count - 1);
    }
}

/* A list that has become long gets its blocks, one that has them room for one more. */
static ort_err
prepare_blocks(dp_sparse *sparse, list *l)
{
    if (l->blocks == NULL && l->count + 1 < BLOCKS_FROM) {
        return ORT_OK;
    }
    const bool first = l->blocks == NULL;
    if (l->block_count == l->block_cap && grow_blocks(sparse, l, l->count + 1) != ORT_OK) {
        return ORT_ENOMEM;
    }
    assert(l->blocks != NULL);
    for (uint32_t i = 0; first && i < l->count; i++) {
        put_into_block(l, i);
    }
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
    if ((l->count == l->cap && grow_postings(sparse, l, index) != ORT_OK) ||
        prepare_blocks(sparse, l) != ORT_OK) {
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

/* Points of the corpus that have the list's index. */
static uint64_t
document_frequency(const list *l, const dp_sparse_idf *idf, const dp_slot_set *live)
{
    uint64_t n = 0;

    if (idf->corpus == NULL) {
        return l->count - (l->dead < l->count ? l->dead : l->count);
    }
    for (uint32_t i = 0; i < l->count; i++) {
        const uint32_t slot = l->postings[i].slot;
        n += dp_slot_set_has(idf->corpus, slot) && dp_slot_set_has(live, slot);
    }
    return n;
}

/* As of BM25 in its everywhere positive form. */
static float
idf_of(const list *l, const dp_sparse_idf *idf, const dp_slot_set *live)
{
    const double df = (double)document_frequency(l, idf, live);
    const double n = (double)idf->points > df ? (double)idf->points : df;
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
    uint32_t index;
    uint32_t cursor; /* of the pass through all windows: a block, or a posting of a short list */
} term;

typedef struct {
    term *terms;
    uint32_t term_count;
    float *bounds; /* of windows: what a slot of it could score at most; -INFINITY: not reached */
    uint32_t window_count;
    const dp_slot_filter *filter;
    dp_hit *hits;
    uint32_t k;
    size_t n;
    uint64_t read; /* entries */
} sparse_search;

/* The most that a value between these can add. A slot that the list does not have gets nothing. */
static float
most_of(float weight, float least, float greatest)
{
    const float x = weight * least, y = weight * greatest;
    const float most = x > y ? x : y;

    return most > 0 ? most : 0;
}

/* What comes first adds most, so that the rest can be left out soonest. */
static int
heaviest_first(const void *a, const void *b)
{
    const term *x = a, *y = b;
    const float mx = most_of(x->weight, x->list->least, x->list->greatest);
    const float my = most_of(y->weight, y->list->least, y->list->greatest);

    if (mx != my) {
        return mx > my ? -1 : 1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

static void
add_bound(sparse_search *s, uint32_t window, float most)
{
    s->bounds[window] = s->bounds[window] == -INFINITY ? most : s->bounds[window] + most;
}

static void
add_bounds(sparse_search *s, const term *t)
{
    const list *l = t->list;

    if (l->blocks == NULL) {
        for (uint32_t i = 0, end; i < l->count; i = end) {
            const uint32_t window = l->postings[i].slot >> WINDOW_BITS;
            for (end = i; end < l->count && l->postings[end].slot >> WINDOW_BITS == window; end++) {
            }
            if (window < s->window_count) {
                add_bound(s, window, most_of(t->weight, l->least, l->greatest));
            }
        }
        return;
    }
    for (uint32_t i = 0; i < l->block_count && l->blocks[i].window < s->window_count; i++) {
        add_bound(s, l->blocks[i].window,
                  most_of(t->weight, l->blocks[i].least, l->blocks[i].greatest));
    }
}

/* What a term has in a window. */
typedef struct {
    const posting *begin, *end;
    float most;
} piece;

static piece
piece_of(const term *t, uint32_t window, uint32_t at)
{
    const list *l = t->list;

    if (l->blocks == NULL) {
        uint32_t end = at;
        while (end < l->count && l->postings[end].slot >> WINDOW_BITS == window) {
            end++;
        }
        return (piece){l->postings + at, l->postings + end,
                       most_of(t->weight, l->least, l->greatest)};
    }
    if (at >= l->block_count || l->blocks[at].window != window) {
        return (piece){0};
    }
    const block *b = &l->blocks[at];
    const uint32_t end = at + 1 < l->block_count ? b[1].begin : l->count;
    return (piece){l->postings + b->begin, l->postings + end,
                   most_of(t->weight, b->least, b->greatest)};
}

static uint32_t
window_at(const list *l, uint32_t i)
{
    return l->blocks != NULL ? l->blocks[i].window : l->postings[i].slot >> WINDOW_BITS;
}

/* The first block, or posting of a short list, at or behind a window. */
static uint32_t
seek(const list *l, uint32_t window)
{
    uint32_t low = 0, high = l->blocks != NULL ? l->block_count : l->count;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (window_at(l, middle) < window) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The same, forward from where the term stands. */
static uint32_t
advance(term *t, uint32_t window)
{
    const uint32_t end = t->list->blocks != NULL ? t->list->block_count : t->list->count;

    while (t->cursor < end && window_at(t->list, t->cursor) < window) {
        t->cursor++;
    }
    return t->cursor;
}

/* Whether nothing in reach of `most` can be among the answers. Sums are rounded in another order
 * than scores: a little is given in. */
static bool
is_beaten(const sparse_search *s, float most)
{
    return s->n == s->k && most + 1e-5f * fabsf(most) < -s->hits[0].distance;
}

static void
offer_window(sparse_search *s, uint32_t first, const float *scores, const uint64_t *met)
{
    for (uint32_t w = 0; w < WINDOW_SLOTS / 64; w++) {
        for (uint64_t bits = met[w]; bits != 0; bits &= bits - 1) {
            const uint32_t at = w * 64 + (uint32_t)__builtin_ctzll(bits);
            const dp_hit hit = {.slot = first + at, .distance = -scores[at]};
            if ((s->n < s->k || dp_hit_nearer(hit, s->hits[0])) &&
                dp_slot_filter_passes(s->filter, hit.slot)) {
                offer(s->hits, &s->n, s->k, hit);
            }
        }
    }
}

/* Scores the slots of a window, as far as they could still be answers, and offers them. */
static void
visit(sparse_search *s, uint32_t window, bool in_order)
{
    float scores[WINDOW_SLOTS] = {0}, highest = 0;
    uint64_t met[WINDOW_SLOTS / 64] = {0};
    const uint32_t first = window << WINDOW_BITS;
    float rest = s->bounds[window];

    for (uint32_t i = 0; i < s->term_count; i++) {
        term *t = &s->terms[i];
        const piece p = piece_of(t, window, in_order ? advance(t, window) : seek(t->list, window));
        if (p.begin == p.end) {
            continue;
        }
        if (is_beaten(s, highest + rest)) {
            return;
        }
        s->read += (uint64_t)(p.end - p.begin);
        for (const posting *at = p.begin; at < p.end; at++) {
            const uint32_t place = at->slot - first;
            scores[place] += t->weight * at->value;
            met[place / 64] |= UINT64_C(1) << (place % 64);
            highest = scores[place] > highest ? scores[place] : highest;
        }
        rest = rest > p.most ? rest - p.most : 0;
        rest += 1e-6f * s->bounds[window]; /* what subtracting may have lost */
    }
    offer_window(s, first, scores, met);
}

/* The windows to begin with: those of the highest bounds. */
#define FIRST_WINDOWS 8u

static uint32_t
most_promising(const sparse_search *s, uint32_t *windows)
{
    uint32_t n = 0;

    for (uint32_t w = 0; w < s->window_count; w++) {
        if (s->bounds[w] == -INFINITY ||
            (n == FIRST_WINDOWS && s->bounds[w] <= s->bounds[windows[n - 1]])) {
            continue;
        }
        uint32_t at = n < FIRST_WINDOWS ? n++ : n - 1;
        for (; at > 0 && s->bounds[windows[at - 1]] < s->bounds[w]; at--) {
            windows[at] = windows[at - 1];
        }
        windows[at] = w;
    }
    return n;
}

static void
visit_all(sparse_search *s)
{
    uint32_t windows[FIRST_WINDOWS];
    const uint32_t n = most_promising(s, windows);

    for (uint32_t i = 0; i < n; i++) {
        visit(s, windows[i], false);
        s->bounds[windows[i]] = -INFINITY; /* done */
    }
    for (uint32_t w = 0; w < s->window_count; w++) {
        if (s->bounds[w] != -INFINITY && !is_beaten(s, s->bounds[w])) {
            visit(s, w, true);
        }
    }
}

ort_err
dp_sparse__search(const dp_sparse *sparse, const dp_vector *query, const dp_sparse_idf *idf,
                  uint32_t slot_end, const dp_slot_filter *filter, uint32_t k, dp_hit *hits,
                  size_t *n_out, uint64_t *read_out)
{
    sparse_search s = {
        .window_count = (slot_end >> WINDOW_BITS) + 1, .filter = filter, .hits = hits, .k = k};

    *n_out = 0;
    s.terms = malloc(((size_t)query->count + 1) * sizeof *s.terms);
    s.bounds = malloc(s.window_count * sizeof *s.bounds);
    if (s.terms == NULL || s.bounds == NULL) {
        free(s.terms);
        free(s.bounds);
        return ORT_ENOMEM;
    }
    for (uint32_t w = 0; w < s.window_count; w++) {
        s.bounds[w] = -INFINITY;
    }
    for (uint32_t i = 0; i < query->count; i++) {
        const list *l = find_list(sparse, query->indices[i]);
        if (l != NULL && l->count > 0) {
            const float rarity = idf != NULL ? idf_of(l, idf, &filter->live) : 1;
            s.terms[s.term_count++] = (term){l, query->values[i] * rarity, query->indices[i], 0};
        }
    }
    if (s.term_count > 0) {
        qsort(s.terms, s.term_count, sizeof *s.terms, heaviest_first);
    }
    for (uint32_t i = 0; i < s.term_count; i++) {
        add_bounds(&s, &s.terms[i]);
    }
    visit_all(&s);
    if (s.n > 0) {
        qsort(hits, s.n, sizeof *hits, dp_hit_compare);
    }
    *n_out = s.n;
    if (read_out != NULL) {
        *read_out = s.read;
    }
    free(s.terms);
    free(s.bounds);
    return ORT_OK;
}

uint64_t
dp_sparse__bytes(const dp_sparse *sparse)
{
    return sparse->bytes;
}
