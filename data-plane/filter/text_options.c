/* How a text index makes tokens, as requests say it. */
#include <stdlib.h>
#include <string.h>

#include "filter/text.h"

static const char no_variant[] =
    "field_schema: data did not match any variant of untagged enum PayloadFieldSchema";

static const struct {
    const char *name;
    dp_token_kind kind;
} tokenizers[] = {{"word", DP_TOKENS_WORD},
                  {"whitespace", DP_TOKENS_WHITESPACE},
                  {"prefix", DP_TOKENS_PREFIX},
                  {"multilingual", DP_TOKENS_MULTILINGUAL}};

/* The languages that requests may name for a stemmer: what Qdrant lists, all of them libstemmer's.
 */
static const char *const stemmers[] = {
    "arabic",  "armenian", "danish",    "dutch",   "english",   "finnish",    "french",
    "german",  "greek",    "hungarian", "italian", "norwegian", "portuguese", "romanian",
    "russian", "spanish",  "swedish",   "tamil",   "turkish"};

static ort_err
get_flag(ort_json params, const char *name, bool *out, ort_diag *diag)
{
    const ort_json v = ort_json_get(params, name);
    return !ort_json_given(v) || ort_json_bool(v, out) == ORT_OK
               ? ORT_OK
               : ort_fail(diag, ORT_EFORMAT, "%s", no_variant);
}

static ort_err
get_length(ort_json params, const char *name, uint32_t *out, ort_diag *diag)
{
    const ort_json v = ort_json_get(params, name);
    uint64_t n;
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    if (ort_json_u64(v, &n) != ORT_OK) {
        return ort_fail(diag, ORT_EFORMAT, "%s", no_variant);
    }
    *out = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    return ORT_OK;
}

static ort_err
get_tokenizer(ort_json params, dp_text_options *out, ort_diag *diag)
{
    const ort_json v = ort_json_get(params, "tokenizer");
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    for (size_t i = 0; i < sizeof tokenizers / sizeof *tokenizers; i++) {
        if (ort_json_str_is(v, tokenizers[i].name)) {
            out->kind = tokenizers[i].kind;
            return ORT_OK;
        }
    }
    return ort_fail(diag, ORT_EFORMAT, "%s", no_variant);
}

bool
dp_has_stemmer(const char *language, size_t len)
{
    for (size_t i = 0; i < sizeof stemmers / sizeof *stemmers; i++) {
        if (strlen(stemmers[i]) == len && memcmp(stemmers[i], language, len) == 0) {
            return true;
        }
    }
    return false;
}

/* {"type":"snowball","language":"english"}, the language alone, or {"type":"none"}. */
static ort_err
get_stemmer(ort_json params, dp_text_options *out, ort_diag *diag)
{
    const ort_json v = ort_json_get(params, "stemmer");
    if (!ort_json_given(v) || ort_json_str_is(ort_json_get(v, "type"), "none")) {
        return ORT_OK;
    }
    const bool object = ort_json_type_of(v) == ORT_JSON_OBJECT;
    const ort_json type = ort_json_get(v, "type");
    const ort_json language = object ? ort_json_get(v, "language") : v;
    for (size_t i = 0; i < sizeof stemmers / sizeof *stemmers; i++) {
        if ((!object || !ort_json_given(type) || ort_json_str_is(type, "snowball")) &&
            ort_json_str_is(language, stemmers[i])) {
            memcpy(out->stemmer, stemmers[i], strlen(stemmers[i]) + 1);
            return ORT_OK;
        }
    }
    return ort_fail(diag, ORT_EFORMAT, "%s", no_variant);
}

static ort_err
add_language(dp_text_options *out, ort_json v, ort_diag *diag)
{
    size_t len;
    const char *name = ort_json_str(v, &len);
    if (name == NULL) {
        return ort_fail(diag, ORT_EFORMAT, "%s", no_variant);
    }
    const uint32_t bit = dp_stop_language(name, len);
    if (bit == 0) {
        return ort_fail(diag, ORT_EFORMAT, "%s", no_variant);
    }
    out->stop_languages |= bit;
    return ORT_OK;
}

static int
order_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static ort_err
add_custom(dp_text_options *out, ort_json list, ort_diag *diag)
{
    const uint32_t count = ort_json_count(list);
    if (ort_json_type_of(list) != ORT_JSON_ARRAY) {
        return ort_fail(diag, ORT_EFORMAT, "%s", no_variant);
    }
    if (count > DP_STOP_WORDS_MAX) {
        return ort_fail(diag, ORT_EVALIDATE, "stopwords.custom: %u words, at most %u are allowed",
                        count, DP_STOP_WORDS_MAX);
    }
    out->stop_words = calloc((size_t)count + 1, sizeof(char *));
    if (out->stop_words == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    for (ort_json_iter it = ort_json_each(list); ort_json_step(&it);) {
        size_t len;
        const char *word = ort_json_str(it.value, &len);
        if (word == NULL) {
            return ort_fail(diag, ORT_EFORMAT, "%s", no_variant);
        }
        out->stop_words[out->stop_word_count] = strndup(word, len);
        if (out->stop_words[out->stop_word_count] == NULL) {
            return ort_fail(diag, ORT_ENOMEM, "out of memory");
        }
        out->stop_word_count++;
    }
    qsort(out->stop_words, out->stop_word_count, sizeof(char *), order_strings);
    return ORT_OK;
}

/* "english", or {"languages":["english"],"custom":["foo"]}. */
static ort_err
get_stopwords(ort_json params, dp_text_options *out, ort_diag *diag)
{
    const ort_json v = ort_json_get(params, "stopwords");
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return add_language(out, v, diag);
    }
    const ort_json languages = ort_json_get(v, "languages"), custom = ort_json_get(v, "custom");
    ort_err err = ORT_OK;
    if (ort_json_given(languages) && ort_json_type_of(languages) != ORT_JSON_ARRAY) {
        return ort_fail(diag, ORT_EFORMAT, "%s", no_variant);
    }
    for (ort_json_iter it = ort_json_each(languages); err == ORT_OK && ort_json_step(&it);) {
        err = add_language(out, it.value, diag);
    }
    return err == ORT_OK && ort_json_given(custom) ? add_custom(out, custom, diag) : err;
}

ort_err
dp_text_options_parse(dp_text_options *out, ort_json params, ort_diag *diag)
{
    *out = (dp_text_options){.lowercase = true};
    ort_err err = get_tokenizer(params, out, diag);
    err = err == ORT_OK ? get_flag(params, "lowercase", &out->lowercase, diag) : err;
    err = err == ORT_OK ? get_flag(params, "ascii_folding", &out->ascii_folding, diag) : err;
    err = err == ORT_OK ? get_flag(params, "phrase_matching", &out->phrase_matching, diag) : err;
    err = err == ORT_OK ? get_length(params, "min_token_len", &out->len_min, diag) : err;
    err = err == ORT_OK ? get_length(params, "max_token_len", &out->len_max, diag) : err;
    err = err == ORT_OK ? get_stemmer(params, out, diag) : err;
    err = err == ORT_OK ? get_stopwords(params, out, diag) : err;
    if (err == ORT_OK && out->len_max > 0 && out->len_min > out->len_max) {
        err = ort_fail(diag, ORT_EVALIDATE,
                       "field_schema.min_token_len: value %u invalid, must be %u or less",
                       out->len_min, out->len_max);
    }
    if (err != ORT_OK) {
        dp_text_options_fini(out);
    }
    return err;
}

void
dp_text_options_fini(dp_text_options *options)
{
    for (uint32_t i = 0; i < options->stop_word_count; i++) {
        free(options->stop_words[i]);
    }
    free(options->stop_words);
    *options = (dp_text_options){0};
}

bool
dp_text_options_are_equal(const dp_text_options *a, const dp_text_options *b)
{
    if (a->kind != b->kind || a->lowercase != b->lowercase ||
        a->ascii_folding != b->ascii_folding || a->phrase_matching != b->phrase_matching ||
        a->len_min != b->len_min || a->len_max != b->len_max ||
        strcmp(a->stemmer, b->stemmer) != 0 || a->stop_languages != b->stop_languages ||
        a->stop_word_count != b->stop_word_count) {
        return false;
    }
    for (uint32_t i = 0; i < a->stop_word_count; i++) {
        if (strcmp(a->stop_words[i], b->stop_words[i]) != 0) {
            return false;
        }
    }
    return true;
}
