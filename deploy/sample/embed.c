/* Hashed features of words. */
#include "embed.h"

#include <ctype.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/siphash.h"

#define WORD_BYTES_MAX 40

/* A feature's hash and how often it was seen; a multiset kept sorted by hash. */
typedef struct {
    uint64_t hash;
    double count;
} feature;

typedef struct {
    feature *items;
    size_t count, cap;
} feature_list;

struct embed_corpus {
    feature_list document_counts; /* sorted by hash, each once */
    size_t documents;
};

ort_err
embed_corpus_new(embed_corpus **out)
{
    *out = calloc(1, sizeof **out);
    return *out != NULL ? ORT_OK : ORT_ENOMEM;
}

void
embed_corpus_free(embed_corpus *corpus)
{
    if (corpus != NULL) {
        free(corpus->document_counts.items);
        free(corpus);
    }
}

static ort_err
push(feature_list *list, uint64_t hash, double count)
{
    if (list->count == list->cap) {
        const size_t cap = list->cap == 0 ? 256 : list->cap * 2;
        feature *grown = realloc(list->items, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        list->items = grown;
        list->cap = cap;
    }
    list->items[list->count++] = (feature){.hash = hash, .count = count};
    return ORT_OK;
}

static int
by_hash(const void *a, const void *b)
{
    const uint64_t x = ((const feature *)a)->hash, y = ((const feature *)b)->hash;
    return (x > y) - (x < y);
}

/* Sorts, and joins what has the same hash. */
static void
fold(feature_list *list)
{
    size_t kept = 0;
    if (list->count == 0) {
        return;
    }
    qsort(list->items, list->count, sizeof *list->items, by_hash);
    for (size_t i = 1; i < list->count; i++) {
        if (list->items[i].hash == list->items[kept].hash) {
            list->items[kept].count += list->items[i].count;
        } else {
            list->items[++kept] = list->items[i];
        }
    }
    list->count = kept + 1;
}

/* Words that stand everywhere and tell nothing. */
static bool
is_stop_word(const char *word, size_t len)
{
    static const char *const words[] = {
        "a",    "an",   "and", "are",  "as",   "at",  "be",   "by",   "can", "do", "for",
        "from", "how",  "in",  "is",   "it",   "its", "no",   "not",  "of",  "on", "or",
        "so",   "that", "the", "then", "this", "to",  "what", "when", "with"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strlen(words[i]) == len && memcmp(words[i], word, len) == 0) {
            return true;
        }
    }
    return false;
}

/* The next word at *p: ASCII letters lower-cased, digits and every byte of UTF-8 as they are. 0 at
 * the end. */
static size_t
next_word(const char **p, const char *end, char word[WORD_BYTES_MAX])
{
    size_t n = 0;
    while (*p < end && !isalnum((unsigned char)**p) && (unsigned char)**p < 0x80) {
        (*p)++;
    }
    for (; *p < end && (isalnum((unsigned char)**p) || (unsigned char)**p >= 0x80); (*p)++) {
        if (n < WORD_BYTES_MAX) {
            word[n++] = (char)tolower((unsigned char)**p);
        }
    }
    return n;
}

/* The word without its English ending, so that "revoked" is "revoke" is "revoking". Crude on
 * purpose: what matters is that all forms of a word end up alike. */
static size_t
stem_len(const char *word, size_t n)
{
    static const char *const endings[] = {"ings", "ing", "edly", "ed", "es", "s", "e"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        const size_t e = strlen(endings[i]);
        if (n >= e + 3 && memcmp(word + n - e, endings[i], e) == 0) {
            return n - e;
        }
    }
    return n;
}

/* A pair of neighbours tells more than either word but is rare: it may not outweigh them. */
#define PAIR_WEIGHT 0.5

static ort_err
features_of(const char *text, size_t len, feature_list *out)
{
    const char *p = text, *end = text + len;
    char word[WORD_BYTES_MAX];
    uint64_t before = 0;
    ort_err err = ORT_OK;
    for (size_t n; err == ORT_OK && (n = next_word(&p, end, word)) > 0;) {
        if (n < 2 || is_stop_word(word, n)) {
            continue;
        }
        const uint64_t hash = ort_siphash(1, 0, word, stem_len(word, n));
        err = push(out, hash, 1);
        if (err == ORT_OK && before != 0) {
            const uint64_t pair[2] = {before, hash};
            err = push(out, ort_siphash(2, 0, pair, sizeof pair), PAIR_WEIGHT);
        }
        before = hash;
    }
    fold(out);
    return err;
}

ort_err
embed_corpus_add(embed_corpus *corpus, const char *text, size_t len)
{
    feature_list features = {0};
    ort_err err = features_of(text, len, &features);
    for (size_t i = 0; err == ORT_OK && i < features.count; i++) {
        err = push(&corpus->document_counts, features.items[i].hash, 1);
    }
    fold(&corpus->document_counts);
    corpus->documents++;
    free(features.items);
    return err;
}

static double
idf(const embed_corpus *corpus, uint64_t hash)
{
    const feature want = {.hash = hash};
    const feature_list *list = &corpus->document_counts;
    const feature *found =
        list->count == 0 ? NULL : bsearch(&want, list->items, list->count, sizeof want, by_hash);
    const double n = found != NULL ? found->count : 0;
    return log(1 + ((double)corpus->documents - n + 0.5) / (n + 0.5));
}

ort_err
embed_text(const embed_corpus *corpus, const char *text, size_t len, float out[EMBED_DIM])
{
    feature_list features = {0};
    double sum[EMBED_DIM] = {0}, norm = 0;
    const ort_err err = features_of(text, len, &features);
    if (err == ORT_OK) {
        for (size_t i = 0; i < features.count; i++) {
            const feature *f = &features.items[i];
            const double kind = f->count < 1 ? f->count : 1 + log(f->count);
            const double weight = kind * idf(corpus, f->hash);
            sum[f->hash % EMBED_DIM] += f->hash >> 63 ? -weight : weight;
        }
        for (size_t i = 0; i < EMBED_DIM; i++) {
            norm += sum[i] * sum[i];
        }
        norm = norm > 0 ? sqrt(norm) : 1;
        for (size_t i = 0; i < EMBED_DIM; i++) {
            out[i] = (float)(sum[i] / norm);
        }
    }
    free(features.items);
    return err;
}
