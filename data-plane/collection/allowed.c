/* Remembered verdicts of filters. */
#include "collection/allowed_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "collection/payload_index_internal.h"

/* Verdicts on so few new slots are asked of the points, not of the indexes. */
#define ASKED_MAX 256u

void
dp_allowed__cache_init(dp_allowed_cache *cache)
{
    *cache = (dp_allowed_cache){0};
    pthread_mutex_init(&cache->lock, NULL);
}

void
dp_allowed__cache_fini(dp_allowed_cache *cache)
{
    for (uint32_t i = 0; i < DP_ALLOWED_KEPT; i++) {
        dp_allowed__unref(cache->kept[i]);
    }
    pthread_mutex_destroy(&cache->lock);
}

void
dp_allowed__forget(dp_allowed_cache *cache)
{
    for (uint32_t i = 0; i < DP_ALLOWED_KEPT; i++) {
        dp_allowed__unref(cache->kept[i]);
        cache->kept[i] = NULL;
    }
}

void
dp_allowed__unref(dp_allowed *allowed)
{
    if (allowed != NULL &&
        atomic_fetch_sub_explicit(&allowed->refs, 1, memory_order_acq_rel) == 1) {
        free(allowed->words);
        free(allowed->text);
        free(allowed);
    }
}

static bool
is_of(const dp_allowed *allowed, const char *text, size_t len)
{
    return allowed != NULL && allowed->text_len == len && memcmp(allowed->text, text, len) == 0;
}

static dp_allowed *
find(dp_allowed_cache *cache, const char *text, size_t len)
{
    dp_allowed *found = NULL;
    pthread_mutex_lock(&cache->lock);
    for (uint32_t i = 0; i < DP_ALLOWED_KEPT; i++) {
        if (is_of(cache->kept[i], text, len)) {
            found = cache->kept[i];
            found->used = ++cache->clock;
            atomic_fetch_add_explicit(&found->refs, 1, memory_order_relaxed);
        }
    }
    pthread_mutex_unlock(&cache->lock);
    return found;
}

/* In place of what the same filter had, else of the one used longest ago. */
static void
keep(dp_allowed_cache *cache, dp_allowed *fresh)
{
    uint32_t at = 0;
    pthread_mutex_lock(&cache->lock);
    for (uint32_t i = 0; i < DP_ALLOWED_KEPT; i++) {
        if (is_of(cache->kept[i], fresh->text, fresh->text_len)) {
            at = i;
            break;
        }
        if (cache->kept[at] != NULL &&
            (cache->kept[i] == NULL || cache->kept[i]->used < cache->kept[at]->used)) {
            at = i;
        }
    }
    dp_allowed *old = cache->kept[at];
    /* Two threads may have evaluated side by side: the one that saw more stays. */
    if (is_of(old, fresh->text, fresh->text_len) && old->set.slot_end >= fresh->set.slot_end) {
        old = NULL;
    } else {
        fresh->used = ++cache->clock;
        atomic_fetch_add_explicit(&fresh->refs, 1, memory_order_relaxed);
        cache->kept[at] = fresh;
    }
    pthread_mutex_unlock(&cache->lock);
    dp_allowed__unref(old);
}

static void
allow(dp_allowed *a, uint32_t slot)
{
    const uint64_t word = atomic_load_explicit(&a->words[slot / 64], memory_order_relaxed);
    atomic_store_explicit(&a->words[slot / 64], word | UINT64_C(1) << (slot % 64),
                          memory_order_relaxed);
}

typedef struct {
    dp_allowed *allowed;
    dp_matcher *m;
} asking;

static bool
ask_slot(void *ctx, uint32_t slot)
{
    const asking *a = ctx;
    if (dp_matcher__matches(a->m, slot)) {
        allow(a->allowed, slot);
    }
    return a->m->err == ORT_OK;
}

/* All verdicts at once: from the indexes, and from the points that those leave open. */
static ort_err
fill_from(dp_allowed *a, dp_matcher *m, const dp_verdict *told)
{
    asking open = {.allowed = a, .m = m};
    static_assert(sizeof(_Atomic(uint64_t)) == sizeof(uint64_t), "words are plain words");
    /* Nobody else sees them yet. */
    const ort_err err =
        dp_slots_to_words(told->sure, (uint64_t *)(void *)a->words, a->set.slot_end);
    if (err == ORT_OK && told->maybe != NULL) {
        dp_slots_each(told->maybe, ask_slot, &open);
    }
    return err != ORT_OK ? err : m->err;
}

static ort_err
ask_all(dp_allowed *a, dp_matcher *m, uint32_t from)
{
    const dp_points *points = m->reader->points;
    for (uint32_t slot = dp_points_next_live(points, from); slot < a->set.slot_end;
         slot = dp_points_next_live(points, slot + 1)) {
        if (dp_matcher__matches(m, slot)) {
            allow(a, slot);
        }
        if (m->err != ORT_OK) {
            break;
        }
    }
    return m->err;
}

/* The verdicts of before, if any, with those on the slots since; `told` NULL: not asked yet. */
static ort_err
extend(dp_allowed **out, const dp_allowed *before, dp_matcher *m, const dp_verdict *told,
       const char *text, size_t len)
{
    const dp_points *points = m->reader->points;
    const uint32_t end = dp_points_slot_end(points);
    dp_allowed *a = calloc(1, sizeof *a);
    if (a == NULL) {
        return ORT_ENOMEM;
    }
    atomic_init(&a->refs, 1);
    a->words = calloc((size_t)end / 64 + 1, sizeof *a->words);
    a->text = malloc(len + 1);
    if (a->words == NULL || a->text == NULL) {
        dp_allowed__unref(a);
        return ORT_ENOMEM;
    }
    memcpy(a->text, text, len);
    a->text_len = len;
    a->set = (dp_slot_set){.words = a->words, .slot_end = end};
    const uint32_t known = before != NULL ? before->set.slot_end : 0;
    for (uint32_t w = 0; known > 0 && w <= (known - 1) / 64; w++) {
        atomic_init(&a->words[w], atomic_load_explicit(&before->words[w], memory_order_relaxed));
    }
    ort_err err = ORT_OK;
    dp_verdict own = {0};
    bool useful = told != NULL;
    if (told == NULL && end - known > ASKED_MAX) {
        err = dp_payload__evaluate(m, &own, &useful);
        told = &own;
    }
    if (err == ORT_OK) {
        err = useful ? fill_from(a, m, told) : ask_all(a, m, known);
    }
    dp_verdict_fini(&own);
    if (err != ORT_OK) {
        dp_allowed__unref(a);
        return err;
    }
    *out = a;
    return ORT_OK;
}

dp_allowed *
dp_allowed__peek(dp_allowed_cache *cache, const dp_matcher *m)
{
    size_t len;
    const char *text = dp_filter_peek_text(m->filter, &len);
    dp_allowed *found = len <= DP_ALLOWED_TEXT_BYTES_MAX ? find(cache, text, len) : NULL;
    if (found != NULL && found->set.slot_end != dp_points_slot_end(m->reader->points)) {
        dp_allowed__unref(found);
        return NULL;
    }
    return found;
}

ort_err
dp_allowed__get(dp_allowed **out, dp_allowed_cache *cache, dp_matcher *m, const dp_verdict *told)
{
    const int column = m->column;
    size_t len;
    const char *text = dp_filter_peek_text(m->filter, &len);
    const bool kept = len <= DP_ALLOWED_TEXT_BYTES_MAX;
    dp_allowed *before = kept ? find(cache, text, len) : NULL;
    *out = NULL;
    if (before != NULL && before->set.slot_end == dp_points_slot_end(m->reader->points)) {
        *out = before;
        return ORT_OK;
    }
    m->column = -1; /* a verdict of the filter alone */
    const ort_err err = extend(out, before, m, told, text, len);
    m->column = column;
    if (err == ORT_OK && kept) {
        keep(cache, *out);
    }
    dp_allowed__unref(before);
    return err;
}

/* The allowed and live slots of one word. */
static uint64_t
word_of(const dp_allowed *a, const _Atomic(uint64_t) *live, uint32_t w)
{
    return atomic_load_explicit(&a->words[w], memory_order_relaxed) &
           atomic_load_explicit((_Atomic(uint64_t) *)(uintptr_t)&live[w], memory_order_relaxed);
}

uint64_t
dp_allowed__count(const dp_allowed *allowed, const dp_points *points)
{
    const _Atomic(uint64_t) *live = dp_points_live_words(points);
    uint64_t n = 0;
    for (uint32_t w = 0; w < (allowed->set.slot_end + 63) / 64; w++) {
        n += (uint64_t)__builtin_popcountll(word_of(allowed, live, w));
    }
    return n;
}

size_t
dp_allowed__list(const dp_allowed *allowed, const dp_points *points, uint32_t *slots, size_t cap)
{
    const _Atomic(uint64_t) *live = dp_points_live_words(points);
    size_t n = 0;
    for (uint32_t w = 0; w < (allowed->set.slot_end + 63) / 64; w++) {
        for (uint64_t bits = word_of(allowed, live, w); bits != 0 && n < cap; bits &= bits - 1) {
            slots[n++] = w * 64 + (uint32_t)__builtin_ctzll(bits);
        }
    }
    return n;
}
