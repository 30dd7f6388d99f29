/* An ordered map from byte strings to slots: words in sorted blocks of pointers, and a directory of
 * the blocks. Finding compares about log2(words) strings; adding moves at most a block. */
#include "filter/words.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_WORDS 256u

typedef struct {
    dp_posting posting;
    uint32_t len;
    char text[];
} word;

typedef struct {
    word **words;
    uint32_t count, cap;
} block;

struct dp_words {
    block *blocks;
    uint32_t count, cap;
    uint64_t words;
};

/* --- postings -----------------------------------------------------------------------------------
 */

static void
posting_fini(dp_posting *p)
{
    if (p->count > DP_POSTING_FEW_MAX) {
        dp_slots_free(p->u.many);
    } else if (p->count > 1) {
        free(p->u.few);
    }
    p->count = 0;
}

/* A posting of sorted slots without repeats. */
static ort_err
posting_of(dp_posting *out, const uint32_t *slots, uint32_t count)
{
    *out = (dp_posting){.count = count};
    if (count == 1) {
        out->u.one = slots[0];
    } else if (count > DP_POSTING_FEW_MAX) {
        out->u.many = dp_slots_of(slots, count);
        return out->u.many != NULL ? ORT_OK : ORT_ENOMEM;
    } else if (count > 1) {
        const uint32_t cap = count <= 4 ? 4 : DP_POSTING_FEW_MAX;
        out->u.few = malloc(cap * sizeof *out->u.few);
        if (out->u.few == NULL) {
            return ORT_ENOMEM;
        }
        memcpy(out->u.few, slots, count * sizeof *slots);
    }
    return ORT_OK;
}

static ort_err
posting_add(dp_posting *p, uint32_t slot)
{
    uint32_t merged[DP_POSTING_FEW_MAX + 1];
    if (p->count > DP_POSTING_FEW_MAX) {
        p->count += dp_slots_add(p->u.many, slot);
        return ORT_OK;
    }
    const uint32_t *old = p->count == 1 ? &p->u.one : p->u.few;
    uint32_t at = p->count;
    while (at > 0 && old[at - 1] >= slot) {
        at--;
    }
    if (at < p->count && old[at] == slot) {
        return ORT_OK;
    }
    if (p->count > 1 && p->count != 4 && p->count < DP_POSTING_FEW_MAX) { /* there is room */
        memmove(p->u.few + at + 1, p->u.few + at, (p->count - at) * sizeof *p->u.few);
        p->u.few[at] = slot;
        p->count++;
        return ORT_OK;
    }
    memcpy(merged, old, at * sizeof *merged);
    merged[at] = slot;
    memcpy(merged + at + 1, old + at, (p->count - at) * sizeof *merged);
    dp_posting grown;
    const ort_err err = posting_of(&grown, merged, p->count + 1);
    if (err == ORT_OK) {
        posting_fini(p);
        *p = grown;
    }
    return err;
}

static ort_err
posting_sweep(dp_posting *p, const dp_slots *dead)
{
    uint32_t left[DP_POSTING_FEW_MAX];
    uint32_t n = 0;
    dp_posting now;
    if (p->count > DP_POSTING_FEW_MAX) {
        const uint64_t gone = dp_slots_and_count(p->u.many, dead);
        if (gone == 0) {
            return ORT_OK;
        }
        dp_slots *rest = dp_slots_minus(p->u.many, dead);
        if (rest == NULL) {
            return ORT_ENOMEM;
        }
        const uint32_t count = p->count - (uint32_t)gone;
        if (count > DP_POSTING_FEW_MAX) {
            dp_slots_free(p->u.many);
            p->u.many = rest;
            p->count = count;
            return ORT_OK;
        }
        dp_slots_list(rest, left);
        dp_slots_free(rest);
        n = count;
    } else {
        const uint32_t *old = p->count == 1 ? &p->u.one : p->u.few;
        for (uint32_t i = 0; i < p->count; i++) {
            left[n] = old[i];
            n += !dp_slots_has(dead, old[i]);
        }
        if (n == p->count) {
            return ORT_OK;
        }
    }
    const ort_err err = posting_of(&now, left, n);
    if (err == ORT_OK) {
        posting_fini(p);
        *p = now;
    }
    return err;
}

void
dp_posting_each(const dp_posting *p, bool (*fn)(void *ctx, uint32_t slot), void *ctx)
{
    if (p == NULL) {
        return;
    }
    if (p->count > DP_POSTING_FEW_MAX) {
        dp_slots_each(p->u.many, fn, ctx);
        return;
    }
    const uint32_t *slots = p->count == 1 ? &p->u.one : p->u.few;
    for (uint32_t i = 0; i < p->count && fn(ctx, slots[i]); i++) {
    }
}

void
dp_posting_into(const dp_posting *p, dp_slots *set)
{
    if (p == NULL || p->count == 0) {
        return;
    }
    if (p->count > DP_POSTING_FEW_MAX) {
        dp_slots_or_into(set, p->u.many);
        return;
    }
    dp_slots_add_many(set, p->count == 1 ? &p->u.one : p->u.few, p->count);
}

dp_slots *
dp_posting_set(const dp_posting *p)
{
    if (p != NULL && p->count > DP_POSTING_FEW_MAX) {
        return dp_slots_copy(p->u.many);
    }
    dp_slots *set = dp_slots_new();
    if (set != NULL) {
        dp_posting_into(p, set);
    }
    return set;
}

uint64_t
dp_posting_and_count(const dp_posting *p, const dp_slots *set)
{
    uint64_t n = 0;
    if (p == NULL) {
        return 0;
    }
    if (p->count > DP_POSTING_FEW_MAX) {
        return dp_slots_and_count(p->u.many, set);
    }
    const uint32_t *slots = p->count == 1 ? &p->u.one : p->u.few;
    for (uint32_t i = 0; i < p->count; i++) {
        n += dp_slots_has(set, slots[i]);
    }
    return n;
}

/* --- the map ------------------------------------------------------------------------------------
 */

dp_words *
dp_words_new(void)
{
    return calloc(1, sizeof(dp_words));
}

static void
word_free(word *w)
{
    if (w != NULL) {
        posting_fini(&w->posting);
        free(w);
    }
}

void
dp_words_free(dp_words *map)
{
    if (map == NULL) {
        return;
    }
    for (uint32_t b = 0; b < map->count; b++) {
        for (uint32_t i = 0; i < map->blocks[b].count; i++) {
            word_free(map->blocks[b].words[i]);
        }
        free(map->blocks[b].words);
    }
    free(map->blocks);
    free(map);
}

static int
compare(const word *w, const char *text, size_t len)
{
    const size_t n = w->len < len ? w->len : len;
    const int c = n > 0 ? memcmp(w->text, text, n) : 0;
    return c != 0 ? c : w->len < len ? -1 : w->len > len;
}

/* The first word at or behind text: its block and place. A place at the end of the last block means
 * none. Blocks are never empty. */
static void
seek(const dp_words *map, const char *text, size_t len, uint32_t *block_out, uint32_t *at_out)
{
    uint32_t lo = 0, hi = map->count;
    while (lo < hi) { /* the first block whose last word is not before text */
        const uint32_t mid = lo + (hi - lo) / 2;
        const block *b = &map->blocks[mid];
        if (compare(b->words[b->count - 1], text, len) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    *block_out = lo;
    *at_out = 0;
    if (lo == map->count) {
        return;
    }
    const block *b = &map->blocks[lo];
    uint32_t first = 0, end = b->count;
    while (first < end) {
        const uint32_t mid = first + (end - first) / 2;
        if (compare(b->words[mid], text, len) < 0) {
            first = mid + 1;
        } else {
            end = mid;
        }
    }
    *at_out = first;
}

const dp_posting *
dp_words_find(const dp_words *map, const char *text, size_t len)
{
    uint32_t b, at;
    seek(map, text, len, &b, &at);
    if (b == map->count || compare(map->blocks[b].words[at], text, len) != 0) {
        return NULL;
    }
    return &map->blocks[b].words[at]->posting;
}

static ort_err
add_block(dp_words *map, uint32_t at)
{
    if (map->count == map->cap) {
        const uint32_t cap = map->cap == 0 ? 4 : map->cap * 2;
        block *grown = realloc(map->blocks, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        map->blocks = grown;
        map->cap = cap;
    }
    memmove(&map->blocks[at + 1], &map->blocks[at], (map->count - at) * sizeof(block));
    map->blocks[at] = (block){0};
    map->count++;
    return ORT_OK;
}

static ort_err
grow_block(block *b)
{
    const uint32_t cap = b->cap == 0 ? 8 : b->cap * 2;
    word **grown = realloc(b->words, cap * sizeof(word *));
    if (grown == NULL) {
        return ORT_ENOMEM;
    }
    b->words = grown;
    b->cap = cap;
    return ORT_OK;
}

/* Parts a full block. Words that come in ascending order leave full blocks behind, not half ones.
 */
static ort_err
part(dp_words *map, uint32_t at, uint32_t place)
{
    const uint32_t keep = place == map->blocks[at].count && at + 1 == map->count
                              ? map->blocks[at].count - 1
                              : map->blocks[at].count / 2;
    ort_err err = add_block(map, at + 1);
    if (err != ORT_OK) {
        return err;
    }
    block *b = &map->blocks[at], *next = &map->blocks[at + 1];
    next->words = malloc(BLOCK_WORDS * sizeof(word *));
    if (next->words == NULL) {
        map->count--;
        memmove(next, next + 1, (map->count - at - 1) * sizeof *next);
        return ORT_ENOMEM;
    }
    next->cap = BLOCK_WORDS;
    next->count = b->count - keep;
    memcpy(next->words, b->words + keep, next->count * sizeof(word *));
    b->count = keep;
    return ORT_OK;
}

/* A place for a new word: room in the block it belongs to. */
static ort_err
make_room(dp_words *map, uint32_t *b, uint32_t *at)
{
    ort_err err = ORT_OK;
    if (*b == map->count) { /* behind all: into the last block, or the very first */
        if (map->count == 0) {
            err = add_block(map, 0);
        }
        if (err != ORT_OK) {
            return err;
        }
        *b = map->count - 1;
        *at = map->blocks[*b].count;
    }
    if (map->blocks[*b].count >= BLOCK_WORDS) {
        err = part(map, *b, *at);
        if (err == ORT_OK && *at > map->blocks[*b].count) {
            *at -= map->blocks[*b].count;
            ++*b;
        }
    }
    if (err == ORT_OK && map->blocks[*b].count == map->blocks[*b].cap) {
        err = grow_block(&map->blocks[*b]);
    }
    return err;
}

/* An empty block is none. */
static void
drop_empty_last(dp_words *map)
{
    while (map->count > 0 && map->blocks[map->count - 1].count == 0) {
        free(map->blocks[--map->count].words);
    }
}

static ort_err
insert_word(dp_words *map, const char *text, size_t len, uint32_t b, uint32_t at,
            const dp_posting *posting)
{
    word *w = malloc(sizeof *w + len);
    ort_err err = w != NULL ? make_room(map, &b, &at) : ORT_ENOMEM;
    if (err != ORT_OK) {
        free(w);
        drop_empty_last(map);
        return err;
    }
    w->posting = *posting;
    w->len = (uint32_t)len;
    memcpy(w->text, text, len);
    block *to = &map->blocks[b];
    memmove(to->words + at + 1, to->words + at, (to->count - at) * sizeof(word *));
    to->words[at] = w;
    to->count++;
    map->words++;
    return ORT_OK;
}

ort_err
dp_words_add(dp_words *map, const char *text, size_t len, uint32_t slot)
{
    uint32_t b, at;
    seek(map, text, len, &b, &at);
    if (b < map->count && compare(map->blocks[b].words[at], text, len) == 0) {
        return posting_add(&map->blocks[b].words[at]->posting, slot);
    }
    const dp_posting posting = {.count = 1, .u.one = slot};
    return insert_word(map, text, len, b, at, &posting);
}

ort_err
dp_words_sweep(dp_words *map, const dp_slots *dead)
{
    uint32_t blocks = 0;
    ort_err err = ORT_OK;
    for (uint32_t i = 0; i < map->count; i++) {
        block *b = &map->blocks[i];
        uint32_t n = 0;
        for (uint32_t j = 0; j < b->count; j++) {
            if (err == ORT_OK) {
                err = posting_sweep(&b->words[j]->posting, dead);
            }
            if (b->words[j]->posting.count == 0) {
                word_free(b->words[j]);
                map->words--;
            } else {
                b->words[n++] = b->words[j];
            }
        }
        b->count = n;
        block *before = blocks > 0 ? &map->blocks[blocks - 1] : NULL;
        if (before != NULL && before->count + n <= before->cap &&
            before->count + n <= BLOCK_WORDS / 2) { /* joined: blocks stay half full */
            memcpy(before->words + before->count, b->words, n * sizeof(word *));
            before->count += n;
            n = 0;
        }
        if (n == 0) {
            free(b->words);
        } else {
            map->blocks[blocks++] = *b;
        }
    }
    map->count = blocks;
    return err;
}

uint64_t
dp_words_count(const dp_words *map)
{
    return map->words;
}

size_t
dp_words_bytes(const dp_words *map)
{
    size_t bytes = sizeof *map + map->cap * sizeof(block);
    for (uint32_t b = 0; b < map->count; b++) {
        bytes += map->blocks[b].cap * sizeof(word *);
        for (uint32_t i = 0; i < map->blocks[b].count; i++) {
            const word *w = map->blocks[b].words[i];
            bytes += sizeof *w + w->len + 16; /* what malloc adds */
            bytes += w->posting.count > DP_POSTING_FEW_MAX ? dp_slots_bytes(w->posting.u.many)
                     : w->posting.count > 4                ? DP_POSTING_FEW_MAX * 4 + 16
                     : w->posting.count > 1                ? 4 * 4 + 16
                                                           : 0;
        }
    }
    return bytes;
}

dp_words_walk
dp_words_seek(const dp_words *map, const char *text, size_t len)
{
    dp_words_walk w = {.map = map};
    seek(map, text, len, &w.block, &w.at);
    return w;
}

bool
dp_words_next(dp_words_walk *walk, const char **text, size_t *len, const dp_posting **posting)
{
    if (walk->block < walk->map->count && walk->at == walk->map->blocks[walk->block].count) {
        walk->block++;
        walk->at = 0;
    }
    if (walk->block >= walk->map->count) {
        return false;
    }
    const word *w = walk->map->blocks[walk->block].words[walk->at++];
    *text = w->text;
    *len = w->len;
    *posting = &w->posting;
    return true;
}

dp_slots *
dp_words_prefix(const dp_words *map, const char *text, size_t len)
{
    const char *at;
    size_t n;
    const dp_posting *posting;
    dp_slots *set = dp_slots_new();
    dp_words_walk walk = dp_words_seek(map, text, len);
    while (set != NULL && dp_words_next(&walk, &at, &n, &posting) && n >= len &&
           (len == 0 || memcmp(at, text, len) == 0)) {
        dp_posting_into(posting, set);
    }
    return set;
}

/* --- on disk ------------------------------------------------------------------------------------
 *
 * LEB128 count of words; each: LEB128 length, bytes, a set. Words that lost all slots to `below`
 * stand there with an empty set, and are left out when read. */

static void
encode_posting(const dp_posting *posting, uint32_t below, ort_buf *out)
{
    if (posting->count > DP_POSTING_FEW_MAX) {
        dp_slots_encode(posting->u.many, below, out);
        return;
    }
    const uint32_t *slots = posting->count == 1 ? &posting->u.one : posting->u.few;
    uint32_t n = 0, at = 0;
    for (uint32_t i = 0; i < posting->count; i++) {
        n += slots[i] < below && (i == 0 || slots[i] != slots[i - 1] + 1);
    }
    dp_leb_put(out, n);
    for (uint32_t i = 0, end; i < posting->count && slots[i] < below; i = end) {
        for (end = i + 1;
             end < posting->count && slots[end] == slots[end - 1] + 1 && slots[end] < below;) {
            end++;
        }
        dp_leb_put(out, slots[i] - at);
        dp_leb_put(out, end - i);
        at = slots[end - 1] + 1;
    }
}

void
dp_words_encode(const dp_words *map, uint32_t below, const char *after, size_t after_len,
                size_t bytes, ort_buf *out, uint64_t *count, const char **last, size_t *last_len)
{
    const char *text;
    size_t len;
    const dp_posting *posting;
    const size_t full = out->len + bytes;
    dp_words_walk walk = dp_words_seek(map, after != NULL ? after : "", after_len);
    *last = NULL;
    while (dp_words_next(&walk, &text, &len, &posting)) {
        if (after != NULL && len == after_len && memcmp(text, after, len) == 0) {
            continue; /* the seek is at it again */
        }
        dp_leb_put(out, len);
        ort_buf_put(out, text, len);
        encode_posting(posting, below, out);
        (*count)++;
        if (out->len >= full) {
            *last = text;
            *last_len = len;
            return;
        }
    }
}

static ort_err
decode_word(dp_words *map, ort_cursor *from, uint32_t slot_end)
{
    const uint64_t len = dp_leb_take(from);
    const char *text = len <= UINT32_MAX ? ort_cursor_take(from, (size_t)len) : NULL;
    dp_slots *set;
    dp_posting posting = {0};
    if (text == NULL) {
        return ORT_ECORRUPT;
    }
    if (map->count > 0) {
        const block *b = &map->blocks[map->count - 1];
        if (compare(b->words[b->count - 1], text, (size_t)len) >= 0) {
            return ORT_ECORRUPT;
        }
    }
    ort_err err = dp_slots_decode(&set, from, slot_end);
    if (err != ORT_OK) {
        return err;
    }
    const uint64_t count = dp_slots_count(set);
    if (count > DP_POSTING_FEW_MAX) {
        dp_slots_trim(set);
        posting = (dp_posting){.count = (uint32_t)count, .u.many = set};
        set = NULL;
    } else if (count > 0) {
        uint32_t slots[DP_POSTING_FEW_MAX];
        dp_slots_list(set, slots);
        err = posting_of(&posting, slots, (uint32_t)count);
    }
    dp_slots_free(set);
    if (err == ORT_OK && count > 0) {
        err = insert_word(map, text, (size_t)len, map->count, 0, &posting);
        if (err != ORT_OK) {
            posting_fini(&posting);
        }
    }
    return err;
}

ort_err
dp_words_decode(dp_words **out, ort_cursor *from, uint32_t slot_end)
{
    dp_words *map = dp_words_new();
    ort_err err = map != NULL ? ORT_OK : ORT_ENOMEM;
    *out = NULL;
    const uint64_t words = dp_leb_take(from);
    for (uint64_t i = 0; err == ORT_OK && i < words; i++) {
        err = decode_word(map, from, slot_end);
    }
    if (err == ORT_OK && from->failed) {
        err = ORT_ECORRUPT;
    }
    if (err != ORT_OK) {
        dp_words_free(map);
        return err;
    }
    *out = map;
    return ORT_OK;
}
