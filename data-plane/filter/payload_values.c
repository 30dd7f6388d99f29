/* The values of an index, in their order: facets and ordered walks. */
#include <stdlib.h>
#include <string.h>

#include "filter/payload_index.h"
#include "filter/payload_index_internal.h"

static dp_payload_value
number_value(dp_field_kind kind, int64_t key)
{
    dp_payload_value v = {.kind = kind, .integer = key};
    if (kind == DP_FIELD_FLOAT) {
        v.number = dp_key__to_float(key);
    }
    return v;
}

static ort_err
facet_words(const dp_payload_index *x, const dp_slots *among,
            ort_err (*fn)(void *ctx, const dp_payload_value *value, uint64_t count), void *ctx)
{
    dp_payload_value v = {.kind = x->field->kind};
    const dp_posting *posting;
    dp_words_walk walk = dp_words_seek(x->words, "", 0);
    ort_err err = ORT_OK;
    while (err == ORT_OK && dp_words_next(&walk, &v.text, &v.len, &posting)) {
        const uint64_t n = dp_posting_and_count(posting, among);
        err = n > 0 ? fn(ctx, &v, n) : ORT_OK;
    }
    return err;
}

static ort_err
facet_numbers(const dp_payload_index *x, const dp_slots *among,
              ort_err (*fn)(void *ctx, const dp_payload_value *value, uint64_t count), void *ctx)
{
    dp_numbers_walk walk = dp_numbers_begin(x->numbers, false, INT64_MIN);
    int64_t key = 0, next;
    uint64_t n = 0;
    uint32_t slot;
    ort_err err;
    while ((err = dp_numbers_next(&walk, &next, &slot)) == ORT_OK) {
        if (n > 0 && next != key) {
            const dp_payload_value v = number_value(x->field->kind, key);
            err = fn(ctx, &v, n);
            n = 0;
            if (err != ORT_OK) {
                break;
            }
        }
        key = next;
        n += dp_slots_has(among, slot);
    }
    dp_numbers_end(&walk);
    if (err == ORT_ENOTFOUND) {
        const dp_payload_value v = number_value(x->field->kind, key);
        err = n > 0 ? fn(ctx, &v, n) : ORT_OK;
    }
    return err;
}

ort_err
dp_payload_index_facet(const dp_payload_index *x, const dp_slots *among,
                       ort_err (*fn)(void *ctx, const dp_payload_value *value, uint64_t count),
                       void *ctx)
{
    switch (x->field->kind) {
    case DP_FIELD_KEYWORD:
    case DP_FIELD_UUID:
        return facet_words(x, among, fn, ctx);
    case DP_FIELD_INTEGER:
    case DP_FIELD_BOOL:
        return facet_numbers(x, among, fn, ctx);
    default:
        return ORT_OK;
    }
}

/* --- ordered walks ------------------------------------------------------------------------------
 *
 * Words have no step backwards, so a descending walk over them lists the words first. */

typedef struct {
    const char *text;
    size_t len;
    const dp_posting *posting;
} told_word;

struct dp_payload_walk {
    const dp_payload_index *index;
    dp_numbers_walk numbers;
    told_word *words; /* in the order they are told; */
    size_t word_count, word_at;
    uint32_t *slots; /* of the word under way */
    size_t slot_count, slot_at;
};

static ort_err
list_words(dp_payload_walk *w, bool descending, const dp_payload_value *start)
{
    const dp_words *map = w->index->words;
    dp_words_walk walk = start != NULL && !descending ? dp_words_seek(map, start->text, start->len)
                                                      : dp_words_seek(map, "", 0);
    told_word at;
    w->words = malloc((size_t)(dp_words_count(map) + 1) * sizeof *w->words);
    if (w->words == NULL) {
        return ORT_ENOMEM;
    }
    while (dp_words_next(&walk, &at.text, &at.len, &at.posting)) {
        if (start != NULL && descending) {
            const size_t n = at.len < start->len ? at.len : start->len;
            const int c = n > 0 ? memcmp(at.text, start->text, n) : 0;
            if (c > 0 || (c == 0 && at.len > start->len)) {
                break;
            }
        }
        w->words[w->word_count++] = at;
    }
    for (size_t i = 0; descending && i < w->word_count / 2; i++) {
        const told_word swap = w->words[i];
        w->words[i] = w->words[w->word_count - 1 - i];
        w->words[w->word_count - 1 - i] = swap;
    }
    return ORT_OK;
}

ort_err
dp_payload_walk_new(dp_payload_walk **out, const dp_payload_index *index, bool descending,
                    const dp_payload_value *start)
{
    dp_payload_walk *w = calloc(1, sizeof *w);
    ort_err err = ORT_OK;
    *out = NULL;
    if (w == NULL) {
        return ORT_ENOMEM;
    }
    w->index = index;
    if (index->words != NULL) {
        err = list_words(w, descending, start);
    } else {
        int64_t key = descending ? INT64_MAX : INT64_MIN;
        if (start != NULL) {
            key = index->field->kind == DP_FIELD_FLOAT ? dp_key__of_float(start->number)
                                                       : start->integer;
        }
        w->numbers = dp_numbers_begin(index->numbers, descending, key);
    }
    if (err != ORT_OK) {
        dp_payload_walk_free(w);
        return err;
    }
    *out = w;
    return ORT_OK;
}

typedef struct {
    uint32_t *slots;
    size_t count;
} slot_list;

static bool
list_slot(void *ctx, uint32_t slot)
{
    slot_list *l = ctx;
    l->slots[l->count++] = slot;
    return true;
}

static ort_err
next_word(dp_payload_walk *w)
{
    const told_word *word = &w->words[w->word_at++];
    free(w->slots);
    w->slots = malloc((word->posting->count + 1) * sizeof *w->slots);
    w->slot_at = w->slot_count = 0;
    if (w->slots == NULL) {
        return ORT_ENOMEM;
    }
    slot_list list = {.slots = w->slots};
    dp_posting_each(word->posting, list_slot, &list);
    w->slot_count = list.count;
    return ORT_OK;
}

ort_err
dp_payload_walk_next(dp_payload_walk *w, dp_payload_value *value, uint32_t *slot)
{
    const dp_field_kind kind = w->index->field->kind;
    if (w->index->words == NULL) {
        int64_t key;
        const ort_err err = dp_numbers_next(&w->numbers, &key, slot);
        if (err == ORT_OK) {
            *value = number_value(kind, key);
        }
        return err;
    }
    while (w->slot_at == w->slot_count) {
        if (w->word_at == w->word_count) {
            return ORT_ENOTFOUND;
        }
        const ort_err err = next_word(w);
        if (err != ORT_OK) {
            return err;
        }
    }
    const told_word *word = &w->words[w->word_at - 1];
    *value = (dp_payload_value){.kind = kind, .text = word->text, .len = word->len};
    *slot = w->slots[w->slot_at++];
    return ORT_OK;
}

void
dp_payload_walk_free(dp_payload_walk *w)
{
    if (w == NULL) {
        return;
    }
    if (w->index->words == NULL) {
        dp_numbers_end(&w->numbers);
    }
    free(w->words);
    free(w->slots);
    free(w);
}
