/* Text into weighted words. */
#include "collection/bm25.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/limits.h"
#include "filter/text.h"

typedef struct {
    double k, b, avg_len;
} weights;

typedef struct {
    uint32_t *words; /* hashes, one a token */
    size_t count, cap;
} word_list;

static uint32_t
rotate(uint32_t v, unsigned by)
{
    return v << by | v >> (32 - by);
}

/* MurmurHash3_x86_32 (A. Appleby, public domain) with seed 0. */
static uint32_t
murmur3(const unsigned char *p, size_t len)
{
    uint32_t h = 0, k;

    for (size_t left = len; left >= 4; left -= 4, p += 4) {
        k = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        h ^= rotate(k * 0xcc9e2d51u, 15) * 0x1b873593u;
        h = rotate(h, 13) * 5 + 0xe6546b64u;
    }
    k = 0;
    for (size_t i = len & 3; i > 0; i--) {
        k = k << 8 | p[i - 1];
    }
    h ^= rotate(k * 0xcc9e2d51u, 15) * 0x1b873593u;
    h ^= (uint32_t)len;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}

/* The hash as a signed number without its sign: what FastEmbed puts into its vectors. */
static uint32_t
word_index(const char *word, size_t len)
{
    const uint32_t h = murmur3((const unsigned char *)word, len);

    return h >> 31 != 0 ? 0 - h : h;
}

static ort_err
take_word(void *ctx, const char *token, size_t len)
{
    word_list *list = ctx;

    if (list->count == list->cap) {
        const size_t cap = list->cap == 0 ? 64 : list->cap * 2;
        uint32_t *grown = realloc(list->words, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        list->words = grown;
        list->cap = cap;
    }
    list->words[list->count++] = word_index(token, len);
    return ORT_OK;
}

static ort_err
get_number(ort_json options, const char *name, double least, double most, double *out,
           ort_diag *diag)
{
    const ort_json v = ort_json_get(options, name);

    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    if (ort_json_f64(v, out) != ORT_OK) {
        return ort_fail(diag, ORT_EFORMAT, "options.%s: expected a number", name);
    }
    if (!(*out >= least && *out <= most)) {
        return ort_fail(diag, ORT_EVALIDATE, "options.%s: value %g invalid, must be from %g to %g",
                        name, *out, least, most);
    }
    return ORT_OK;
}

/* The options of a text index, with the language's stemmer and stopwords where none are named. */
static void
write_text_options(ort_jw *w, ort_json options, const char *language, size_t len)
{
    static const char *const same[] = {"tokenizer", "lowercase",     "ascii_folding", "stemmer",
                                       "stopwords", "min_token_len", "max_token_len"};
    const bool none = len == 4 && memcmp(language, "none", 4) == 0;

    ort_jw_object(w);
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        const ort_json v = ort_json_get(options, same[i]);
        if (ort_json_given(v)) {
            ort_jw_key(w, same[i]);
            ort_jw_value(w, v);
        }
    }
    /* A language without a stemmer has its stopwords alone; one that has neither is refused. */
    if (!none && !ort_json_given(ort_json_get(options, "stemmer")) &&
        (dp_has_stemmer(language, len) || dp_stop_language(language, len) == 0)) {
        ort_jw_key(w, "stemmer");
        ort_jw_str_n(w, language, len);
    }
    if (!none && !ort_json_given(ort_json_get(options, "stopwords")) &&
        dp_stop_language(language, len) != 0) {
        ort_jw_key(w, "stopwords");
        ort_jw_str_n(w, language, len);
    }
    ort_jw_object_end(w);
}

static ort_err
read_text_options(dp_text_options *out, ort_json options, ort_diag *diag)
{
    ort_buf text = {0};
    ort_jw w = {.buf = &text};
    ort_json_doc *doc = NULL;
    size_t len;
    const char *language = ort_json_str(ort_json_get(options, "language"), &len);

    if (language == NULL) {
        if (ort_json_given(ort_json_get(options, "language"))) {
            return ort_fail(diag, ORT_EFORMAT, "options.language: expected a string");
        }
        language = "english";
        len = strlen(language);
    }
    write_text_options(&w, options, language, len);
    ort_err err = ort_buf_check(&text);
    if (err == ORT_OK) {
        err = ort_json_parse(&doc, text.data, text.len, (ort_json_limits){0}, diag);
    }
    if (err == ORT_OK) {
        err = dp_text_options_parse(out, ort_json_root(doc), diag);
    }
    ort_json_free(doc);
    ort_buf_fini(&text);
    return err;
}

static ort_err
read_words(word_list *out, ort_json options, const char *text, size_t len, bool query,
           ort_diag *diag)
{
    dp_text_options how;
    dp_tokenizer *tokenizer = NULL;

    ort_err err = read_text_options(&how, options, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = dp_tokenizer_new(&tokenizer, &how);
    if (err == ORT_OK) {
        err = dp_tokenizer_run(tokenizer, text, len, query, take_word, out);
    }
    dp_tokenizer_free(tokenizer);
    dp_text_options_fini(&how);
    return err;
}

static int
order_words(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* Counts equal words, which makes the entries of a sparse vector, sorted. */
static ort_err
weigh(dp_vector *out, word_list *list, const weights *w, bool query, ort_diag *diag)
{
    uint32_t different = 0;

    if (list->count > 0) {
        qsort(list->words, list->count, sizeof *list->words, order_words);
    }
    for (size_t i = 0; i < list->count; i++) {
        different += i == 0 || list->words[i] != list->words[i - 1];
    }
    if (different > ORT_SPARSE_NNZ_MAX) {
        return ort_fail(diag, ORT_EVALIDATE, "text: %u different words are over %u", different,
                        ORT_SPARSE_NNZ_MAX);
    }
    float *values = malloc(((size_t)different + 1) * (sizeof(float) + sizeof(uint32_t)));
    if (values == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    uint32_t *indices = (uint32_t *)(void *)(values + different), n = 0;
    const double norm = w->k * (1 - w->b + w->b * (double)list->count / w->avg_len);
    for (size_t i = 0, end; i < list->count; i = end) {
        for (end = i; end < list->count && list->words[end] == list->words[i]; end++) {
        }
        const double tf = (double)(end - i);
        indices[n] = list->words[i];
        values[n++] = query ? 1.0f : (float)(tf * (w->k + 1) / (tf + norm));
    }
    *out = (dp_vector){
        .kind = DP_VECTOR_SPARSE, .values = values, .indices = indices, .count = n, .rows = 1};
    return ORT_OK;
}

ort_err
dp_bm25_read(dp_vector *out, ort_json v, bool query, ort_diag *diag)
{
    const ort_json options = ort_json_get(v, "options");
    weights w = {.k = 1.2, .b = 0.75, .avg_len = 256};
    word_list list = {0};
    size_t len, model_len;
    const char *text = ort_json_str(ort_json_get(v, "text"), &len);
    const char *model = ort_json_str(ort_json_get(v, "model"), &model_len);

    *out = (dp_vector){0};
    if (model == NULL || model_len != strlen("qdrant/bm25") ||
        strncasecmp(model, "qdrant/bm25", model_len) != 0) {
        return ort_fail(diag, ORT_EBADREQ,
                        "Unsupported inference model `%.*s`: `qdrant/bm25` is built in, others are "
                        "not served",
                        (int)(model == NULL     ? 0
                              : model_len > 100 ? 100
                                                : model_len),
                        model != NULL ? model : "");
    }
    if (text == NULL) {
        return ort_fail(diag, ORT_EFORMAT, "text: expected a string");
    }
    if (ort_json_given(options) && ort_json_type_of(options) != ORT_JSON_OBJECT) {
        return ort_fail(diag, ORT_EFORMAT, "options: expected an object");
    }
    ort_err err = get_number(options, "k", 0, 1000, &w.k, diag);
    err = err == ORT_OK ? get_number(options, "b", 0, 1, &w.b, diag) : err;
    err = err == ORT_OK ? get_number(options, "avg_len", 1, 1e9, &w.avg_len, diag) : err;
    err = err == ORT_OK ? read_words(&list, options, text, len, query, diag) : err;
    err = err == ORT_OK ? weigh(out, &list, &w, query, diag) : err;
    free(list.words);
    return err;
}
