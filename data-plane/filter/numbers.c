/* An ordered map from 64-bit keys to slots, in sorted blocks.
 *
 * Blocks are in the order of their keys, and no key stands in two blocks. A block that is full is
 * parted: a key that has a quarter of it gets a block of its own, which is never full; else it is
 * halved between two keys. */
#include "filter/numbers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PAIRS_MAX 4096u
#define OWN_BLOCK_MIN (PAIRS_MAX / 4) /* slots that make a key a block of its own */
#define SAME_CODE 1u                  /* in the file: a block of one key */
#define PAIRS_CODE 2u

typedef struct {
    int64_t first, last;
    uint32_t count, cap; /* pairs; unused in a block of one key */
    int64_t *keys;       /* sorted by key, then slot; NULL: all slots have the key `first` */
    uint32_t *slots;     /* beside keys */
    dp_slots *set;       /* every slot of the block */
} block;

struct dp_numbers {
    block *blocks;
    uint32_t count, cap;
};

dp_numbers *
dp_numbers_new(void)
{
    return calloc(1, sizeof(dp_numbers));
}

static void
block_fini(block *b)
{
    free(b->keys);
    free(b->slots);
    dp_slots_free(b->set);
    *b = (block){0};
}

void
dp_numbers_free(dp_numbers *map)
{
    if (map == NULL) {
        return;
    }
    for (uint32_t i = 0; i < map->count; i++) {
        block_fini(&map->blocks[i]);
    }
    free(map->blocks);
    free(map);
}

/* The first block whose last key is at or above key; map->count when there is none. */
static uint32_t
find_block(const dp_numbers *map, int64_t key)
{
    uint32_t lo = 0, hi = map->count;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (map->blocks[mid].last < key) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* The first pair of a block at or above (key, slot). */
static uint32_t
find_pair(const block *b, int64_t key, uint32_t slot)
{
    uint32_t lo = 0, hi = b->count;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (b->keys[mid] < key || (b->keys[mid] == key && b->slots[mid] < slot)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* Room for `more` blocks at `at`; they are zeroed. */
static ort_err
open_gap(dp_numbers *map, uint32_t at, uint32_t more)
{
    if (map->count + more > map->cap) {
        const uint32_t cap = map->cap == 0 ? 2 + more : map->cap * 2 + more;
        block *grown = realloc(map->blocks, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        map->blocks = grown;
        map->cap = cap;
    }
    memmove(&map->blocks[at + more], &map->blocks[at], (map->count - at) * sizeof(block));
    memset(&map->blocks[at], 0, more * sizeof(block));
    map->count += more;
    return ORT_OK;
}

static void
close_gap(dp_numbers *map, uint32_t at)
{
    map->count--;
    memmove(&map->blocks[at], &map->blocks[at + 1], (map->count - at) * sizeof(block));
}

static ort_err
reserve(block *b, uint32_t cap)
{
    int64_t *keys = realloc(b->keys, cap * sizeof *keys);
    if (keys != NULL) {
        b->keys = keys;
    }
    uint32_t *slots = realloc(b->slots, cap * sizeof *slots);
    if (slots != NULL) {
        b->slots = slots;
    }
    if (keys == NULL || slots == NULL) {
        return ORT_ENOMEM;
    }
    b->cap = cap;
    return ORT_OK;
}

/* A block of the pairs [from, to) of another; one of a single key when that is worth it. */
static ort_err
block_of_pairs(block *out, const int64_t *keys, const uint32_t *slots, uint32_t count)
{
    *out = (block){.first = keys[0], .last = keys[count - 1], .count = count};
    out->set = dp_slots_new();
    if (out->set == NULL) {
        return ORT_ENOMEM;
    }
    dp_slots_add_many(out->set, slots, count);
    if (out->first == out->last && count >= OWN_BLOCK_MIN) {
        out->count = 0;
        return ORT_OK;
    }
    if (reserve(out, count > 8 ? count + count / 4 : 8) != ORT_OK) {
        block_fini(out);
        return ORT_ENOMEM;
    }
    memcpy(out->keys, keys, count * sizeof *keys);
    memcpy(out->slots, slots, count * sizeof *slots);
    return ORT_OK;
}

/* Where a full block is cut: [0, *a), [*a, *b), [*b, count); the parts may be empty but one. */
static void
choose_cuts(const block *b, uint32_t *cut_a, uint32_t *cut_b)
{
    uint32_t best = 0, begin = 0;
    *cut_a = *cut_b = 0;
    for (uint32_t i = 1; i <= b->count; i++) {
        if (i < b->count && b->keys[i] == b->keys[begin]) {
            continue;
        }
        if (i - begin >= OWN_BLOCK_MIN && i - begin > best) {
            best = i - begin;
            *cut_a = begin;
            *cut_b = i;
        }
        begin = i;
    }
    if (best > 0) {
        return;
    }
    uint32_t middle = b->count / 2;
    while (b->keys[middle] == b->keys[middle - 1]) { /* ends: no key has a quarter */
        middle++;
    }
    *cut_a = *cut_b = middle;
}

static ort_err
part(dp_numbers *map, uint32_t at)
{
    const block old = map->blocks[at];
    block parts[3] = {{0}, {0}, {0}};
    uint32_t cuts[4] = {0, 0, 0, old.count}, n = 0;
    ort_err err = ORT_OK;
    choose_cuts(&old, &cuts[1], &cuts[2]);
    for (uint32_t i = 0; err == ORT_OK && i < 3; i++) {
        if (cuts[i + 1] > cuts[i]) {
            err = block_of_pairs(&parts[n], old.keys + cuts[i], old.slots + cuts[i],
                                 cuts[i + 1] - cuts[i]);
            n += err == ORT_OK;
        }
    }
    if (err == ORT_OK && n > 1) {
        err = open_gap(map, at, n - 1);
    }
    if (err != ORT_OK) {
        for (uint32_t i = 0; i < n; i++) {
            block_fini(&parts[i]);
        }
        return err;
    }
    memcpy(&map->blocks[at], parts, n * sizeof(block));
    block dead = old;
    block_fini(&dead);
    return ORT_OK;
}

static ort_err
insert_pair(dp_numbers *map, uint32_t at, int64_t key, uint32_t slot)
{
    block *b = &map->blocks[at];
    const uint32_t place = find_pair(b, key, slot);
    if (place < b->count && b->keys[place] == key && b->slots[place] == slot) {
        return ORT_OK;
    }
    if (b->count == b->cap && reserve(b, b->cap * 2) != ORT_OK) {
        return ORT_ENOMEM;
    }
    memmove(b->keys + place + 1, b->keys + place, (b->count - place) * sizeof *b->keys);
    memmove(b->slots + place + 1, b->slots + place, (b->count - place) * sizeof *b->slots);
    b->keys[place] = key;
    b->slots[place] = slot;
    b->count++;
    b->first = b->keys[0];
    b->last = b->keys[b->count - 1];
    (void)dp_slots_add(b->set, slot);
    if (b->count >= PAIRS_MAX) {
        (void)part(map, at); /* no memory: it stays whole, and is parted at the next */
    }
    return ORT_OK;
}

static bool
takes_pairs(const dp_numbers *map, uint32_t at)
{
    return at < map->count && map->blocks[at].keys != NULL;
}

ort_err
dp_numbers_add(dp_numbers *map, int64_t key, uint32_t slot)
{
    const uint32_t at = find_block(map, key);
    if (at < map->count && map->blocks[at].first <= key && map->blocks[at].keys == NULL) {
        (void)dp_slots_add(map->blocks[at].set, slot);
        return ORT_OK;
    }
    if (takes_pairs(map, at)) {
        return insert_pair(map, at, key, slot);
    }
    if (at > 0 && takes_pairs(map, at - 1)) {
        return insert_pair(map, at - 1, key, slot);
    }
    block fresh;
    const int64_t keys[] = {key};
    const uint32_t slots[] = {slot};
    ort_err err = block_of_pairs(&fresh, keys, slots, 1);
    if (err != ORT_OK) {
        return err;
    }
    err = open_gap(map, at, 1);
    if (err != ORT_OK) {
        block_fini(&fresh);
        return err;
    }
    map->blocks[at] = fresh;
    return ORT_OK;
}

static ort_err
sweep_block(block *b, const dp_slots *dead)
{
    uint32_t n = 0;
    if (b->keys == NULL) {
        dp_slots_minus_into(b->set, dead);
        return ORT_OK;
    }
    dp_slots *set = dp_slots_minus(b->set, dead);
    if (set == NULL) {
        return ORT_ENOMEM;
    }
    for (uint32_t i = 0; i < b->count; i++) {
        if (dp_slots_has(set, b->slots[i])) {
            b->keys[n] = b->keys[i];
            b->slots[n++] = b->slots[i];
        }
    }
    dp_slots_free(b->set);
    b->set = set;
    b->count = n;
    if (n > 0) {
        b->first = b->keys[0];
        b->last = b->keys[n - 1];
    }
    return ORT_OK;
}

/* A neighbour of pairs that fits is taken in: after many deaths blocks would be left nearly empty.
 */
static bool
join_next(dp_numbers *map, uint32_t at)
{
    if (!takes_pairs(map, at) || !takes_pairs(map, at + 1)) {
        return false;
    }
    block *b = &map->blocks[at], *next = &map->blocks[at + 1];
    if (b->count + next->count > PAIRS_MAX / 2 ||
        (b->count + next->count > b->cap && reserve(b, b->count + next->count) != ORT_OK)) {
        return false;
    }
    memcpy(b->keys + b->count, next->keys, next->count * sizeof *b->keys);
    memcpy(b->slots + b->count, next->slots, next->count * sizeof *b->slots);
    b->count += next->count;
    b->last = next->last;
    dp_slots_or_into(b->set, next->set);
    block_fini(next);
    close_gap(map, at + 1);
    return true;
}

ort_err
dp_numbers_sweep(dp_numbers *map, const dp_slots *dead)
{
    for (uint32_t i = 0; i < map->count;) {
        if (dp_slots_and_count(map->blocks[i].set, dead) > 0) {
            const ort_err err = sweep_block(&map->blocks[i], dead);
            if (err != ORT_OK) {
                return err;
            }
        }
        if (dp_slots_is_empty(map->blocks[i].set)) {
            block_fini(&map->blocks[i]);
            close_gap(map, i);
        } else {
            i++;
        }
    }
    for (uint32_t i = 0; i < map->count;) {
        i += join_next(map, i) ? 0 : 1;
    }
    return ORT_OK;
}

ort_err
dp_numbers_range(const dp_numbers *map, int64_t from, int64_t to, dp_slots **out)
{
    const uint32_t begin = find_block(map, from);
    uint32_t end = begin, n = 0;
    while (from <= to && end < map->count && map->blocks[end].first <= to) {
        end++;
    }
    const dp_slots **sets = malloc((end - begin + 1) * sizeof(const dp_slots *));
    dp_slots *edges = dp_slots_new();
    *out = NULL;
    if (sets == NULL || edges == NULL) {
        free(sets);
        dp_slots_free(edges);
        return ORT_ENOMEM;
    }
    for (uint32_t i = begin; i < end; i++) {
        const block *b = &map->blocks[i];
        if (from <= b->first && b->last <= to) {
            sets[n++] = b->set;
            continue;
        }
        if (b->keys != NULL) {
            const uint32_t lo = find_pair(b, from, 0);
            const uint32_t hi = to == INT64_MAX ? b->count : find_pair(b, to + 1, 0);
            dp_slots_add_many(edges, b->slots + lo, hi > lo ? hi - lo : 0);
        }
    }
    if (n > 0 && !dp_slots_is_empty(edges)) {
        sets[n++] = edges;
    }
    if (n == 0) {
        *out = edges;
        edges = NULL;
    } else {
        *out = n == 1 ? dp_slots_copy(sets[0]) : dp_slots_or_many(sets, n);
    }
    free(sets);
    dp_slots_free(edges);
    return *out != NULL ? ORT_OK : ORT_ENOMEM;
}

bool
dp_numbers_any(const dp_numbers *map, int64_t from, int64_t to)
{
    const uint32_t at = find_block(map, from);
    if (at == map->count || map->blocks[at].first > to) {
        return false;
    }
    const block *b = &map->blocks[at];
    if (b->first >= from || b->keys == NULL) {
        return true;
    }
    return b->keys[find_pair(b, from, 0)] <= to; /* there is one: from <= last */
}

uint64_t
dp_numbers_count(const dp_numbers *map)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < map->count; i++) {
        n +=
            map->blocks[i].keys != NULL ? map->blocks[i].count : dp_slots_count(map->blocks[i].set);
    }
    return n;
}

size_t
dp_numbers_bytes(const dp_numbers *map)
{
    size_t bytes = sizeof *map + map->cap * sizeof(block);
    for (uint32_t i = 0; i < map->count; i++) {
        bytes += dp_slots_bytes(map->blocks[i].set) + (size_t)map->blocks[i].cap * 12;
    }
    return bytes;
}

/* --- walking ------------------------------------------------------------------------------------
 */

dp_numbers_walk
dp_numbers_begin(const dp_numbers *map, bool descending, int64_t start)
{
    dp_numbers_walk w = {.map = map, .descending = descending, .same_block = UINT32_MAX};
    w.block = find_block(map, start);
    if (!descending) {
        if (takes_pairs(map, w.block)) {
            w.at = find_pair(&map->blocks[w.block], start, 0);
        }
        return w;
    }
    /* Descending counts what was told from the block's end; no block is UINT32_MAX. */
    if (w.block == map->count || map->blocks[w.block].first > start) {
        w.block--;
        return w;
    }
    const block *b = &map->blocks[w.block];
    if (b->keys != NULL) {
        w.at = b->count - (start == INT64_MAX ? b->count : find_pair(b, start + 1, 0));
    }
    return w;
}

static uint32_t
block_size(const block *b)
{
    return b->keys != NULL ? b->count : (uint32_t)dp_slots_count(b->set);
}

ort_err
dp_numbers_next(dp_numbers_walk *w, int64_t *key, uint32_t *slot)
{
    while (w->block < w->map->count && w->at >= block_size(&w->map->blocks[w->block])) {
        w->block = w->descending ? w->block - 1 : w->block + 1;
        w->at = 0;
    }
    if (w->block >= w->map->count) {
        return ORT_ENOTFOUND;
    }
    const block *b = &w->map->blocks[w->block];
    const uint32_t size = block_size(b);
    const uint32_t i = w->descending ? size - 1 - w->at : w->at;
    w->at++;
    if (b->keys != NULL) {
        *key = b->keys[i];
        *slot = b->slots[i];
        return ORT_OK;
    }
    if (w->same_block != w->block) {
        free(w->same);
        w->same = malloc(size * sizeof *w->same);
        if (w->same == NULL) {
            w->same_block = UINT32_MAX;
            return ORT_ENOMEM;
        }
        dp_slots_list(b->set, w->same);
        w->same_block = w->block;
    }
    *key = b->first;
    *slot = w->same[i];
    return ORT_OK;
}

void
dp_numbers_end(dp_numbers_walk *w)
{
    free(w->same);
    w->same = NULL;
    w->same_block = UINT32_MAX;
}

/* --- on disk ------------------------------------------------------------------------------------
 *
 * LEB128 count of blocks; each block: u8 code; SAME: i64 key, a set; PAIRS: LEB128 count, then for
 * each pair the LEB128 distance of its key from the one before (the first: from INT64_MIN) and the
 * LEB128 slot. */

static void
encode_pairs(const block *b, uint32_t below, int64_t from, ort_buf *out)
{
    uint32_t n = 0;
    uint64_t before = (uint64_t)INT64_MIN;
    for (uint32_t i = 0; i < b->count; i++) {
        n += b->slots[i] < below && b->keys[i] >= from;
    }
    dp_leb_put(out, n);
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->slots[i] < below && b->keys[i] >= from) {
            dp_leb_put(out, (uint64_t)b->keys[i] - before);
            dp_leb_put(out, b->slots[i]);
            before = (uint64_t)b->keys[i];
        }
    }
}

bool
dp_numbers_encode(const dp_numbers *map, uint32_t below, int64_t *from, size_t bytes, ort_buf *out,
                  uint64_t *count)
{
    const size_t full = out->len + bytes;
    /* Blocks may have been parted or grown since: one may begin with keys that were written. */
    for (uint32_t i = find_block(map, *from); i < map->count; i++) {
        const block *b = &map->blocks[i];
        ort_buf_put_u8(out, b->keys == NULL ? SAME_CODE : PAIRS_CODE);
        if (b->keys == NULL) {
            ort_buf_put_u64(out, (uint64_t)b->first);
            dp_slots_encode(b->set, below, out);
        } else {
            encode_pairs(b, below, *from, out);
        }
        (*count)++;
        if (b->last == INT64_MAX) {
            return false;
        }
        *from = b->last + 1;
        if (out->len >= full) {
            return true;
        }
    }
    return false;
}

/* Blocks come in order, but a bad file may say otherwise: what breaks the order is refused. */
static ort_err
append_block(dp_numbers *map, block *b)
{
    if (map->count > 0 && map->blocks[map->count - 1].last >= b->first) {
        block_fini(b);
        return ORT_ECORRUPT;
    }
    const ort_err err = open_gap(map, map->count, 1);
    if (err != ORT_OK) {
        block_fini(b);
        return err;
    }
    map->blocks[map->count - 1] = *b;
    return ORT_OK;
}

static ort_err
decode_same(dp_numbers *map, ort_cursor *from, uint32_t slot_end)
{
    block b = {.first = (int64_t)ort_cursor_u64(from)};
    b.last = b.first;
    const ort_err err = dp_slots_decode(&b.set, from, slot_end);
    if (err != ORT_OK || dp_slots_is_empty(b.set)) {
        block_fini(&b);
        return err;
    }
    return append_block(map, &b);
}

static ort_err
decode_pairs(dp_numbers *map, ort_cursor *from, uint32_t slot_end)
{
    int64_t keys[PAIRS_MAX];
    uint32_t slots[PAIRS_MAX];
    uint64_t key = (uint64_t)INT64_MIN, last = 0;
    const uint64_t n = dp_leb_take(from);
    if (n > PAIRS_MAX) {
        return ORT_ECORRUPT;
    }
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t step = dp_leb_take(from), slot = dp_leb_take(from);
        const int64_t next = (int64_t)(key + step);
        if (from->failed || slot >= slot_end || step > (uint64_t)INT64_MAX - key ||
            (i > 0 && step == 0 && slot <= last)) {
            return ORT_ECORRUPT;
        }
        key += step;
        keys[i] = next;
        slots[i] = (uint32_t)slot;
        last = slot;
    }
    if (n == 0) {
        return ORT_OK;
    }
    block b;
    const ort_err err = block_of_pairs(&b, keys, slots, (uint32_t)n);
    return err == ORT_OK ? append_block(map, &b) : err;
}

ort_err
dp_numbers_decode(dp_numbers **out, ort_cursor *from, uint32_t slot_end)
{
    dp_numbers *map = dp_numbers_new();
    ort_err err = map != NULL ? ORT_OK : ORT_ENOMEM;
    *out = NULL;
    const uint64_t blocks = dp_leb_take(from);
    for (uint64_t i = 0; err == ORT_OK && i < blocks; i++) {
        const uint8_t code = ort_cursor_u8(from);
        if (code == SAME_CODE) {
            err = decode_same(map, from, slot_end);
        } else {
            err = code == PAIRS_CODE ? decode_pairs(map, from, slot_end) : ORT_ECORRUPT;
        }
    }
    if (err == ORT_OK && from->failed) {
        err = ORT_ECORRUPT;
    }
    if (err != ORT_OK) {
        dp_numbers_free(map);
        return err;
    }
    *out = map;
    return ORT_OK;
}
