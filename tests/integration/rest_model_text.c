/* Text into words, for the vocabulary of the dice: what the API says of tokenizers, written down
 * once more. Stems and stopwords are known for the words that the dice throw, and for no others. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "rest_model.h"

/* --- declarations --------------------------------------------------------------------------- */

static struct {
    const char *path;
    const json_t *params;
} declared[MODEL_FIELDS];

void
model_declare_text(const char *path, const json_t *params)
{
    size_t i = 0;
    while (declared[i].path != NULL && strcmp(declared[i].path, path) != 0) {
        i++;
    }
    declared[i].path = path;
    declared[i].params = params;
}

static const json_t *
declared_for(const char *path)
{
    for (size_t i = 0; i < MODEL_FIELDS && declared[i].path != NULL; i++) {
        if (strcmp(declared[i].path, path) == 0) {
            return declared[i].params;
        }
    }
    return NULL;
}

/* --- one word ------------------------------------------------------------------------------- */

static const char *
english_stem(const char *word)
{
    static const char *const stems[][2] = {
        {"running", "run"}, {"runs", "run"}, {"fishes", "fish"}, {"words", "word"}};
    for (size_t i = 0; i < sizeof stems / sizeof *stems; i++) {
        if (strcmp(word, stems[i][0]) == 0) {
            return stems[i][1];
        }
    }
    return word;
}

static bool
is_stopped(const json_t *params, const char *word)
{
    const json_t *stop = json_object_get(params, "stopwords");
    const json_t *custom = json_object_get(stop, "custom");
    const bool english = json_is_string(stop) || json_object_get(stop, "languages") != NULL;
    size_t i;
    json_t *v;
    json_array_foreach(custom, i, v)
    {
        if (strcmp(json_string_value(v), word) == 0) {
            return true;
        }
    }
    return english && (strcmp(word, "the") == 0 || strcmp(word, "on") == 0);
}

/* The bytes of one character. */
static size_t
char_bytes(const char *c)
{
    size_t n = 1;
    while (((unsigned char)c[n] & 0xc0) == 0x80) {
        n++;
    }
    return n;
}

static size_t
count_chars(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text += char_bytes(text)) {
        n++;
    }
    return n;
}

/* All beginnings of a word in a text, its longest one alone in a query. */
static void
add_beginnings(json_t *out, const char *word, size_t least, size_t most, bool query)
{
    size_t bytes = 0, chars = 0;
    while (word[bytes] != '\0' && chars < most) {
        bytes += char_bytes(word + bytes);
        chars++;
        const bool last = word[bytes] == '\0' || chars == most;
        if (chars >= least && (!query || last)) {
            json_array_append_new(out, json_stringn(word, bytes));
        }
    }
}

static size_t
length_of(const json_t *params, const char *name, size_t otherwise)
{
    const json_t *v = json_object_get(params, name);
    return v != NULL ? (size_t)json_integer_value(v) : otherwise;
}

static void
add_word(json_t *out, const json_t *params, const char *text, size_t len, bool query)
{
    char word[64];
    const bool keep_case = json_is_false(json_object_get(params, "lowercase"));
    const bool fold = json_is_true(json_object_get(params, "ascii_folding"));
    const size_t least = length_of(params, "min_token_len", 1);
    const size_t most = length_of(params, "max_token_len", SIZE_MAX);
    size_t n = 0;
    for (size_t i = 0; i < len && n + 2 < sizeof word; i++) {
        if (fold && text[i] == '\xc3' && text[i + 1] == '\xbc') { /* the one umlaut there is */
            word[n++] = 'u';
            i++;
        } else {
            word[n++] = keep_case ? text[i] : (char)tolower((unsigned char)text[i]);
        }
    }
    word[n] = '\0';
    if (n == 0 || is_stopped(params, word)) {
        return;
    }
    const char *token = json_object_get(params, "stemmer") != NULL ? english_stem(word) : word;
    const json_t *tokenizer = json_object_get(params, "tokenizer");
    if (tokenizer != NULL && strcmp(json_string_value(tokenizer), "prefix") == 0) {
        add_beginnings(out, token, least, most, query);
    } else if (count_chars(token) >= least && count_chars(token) <= most) {
        json_array_append_new(out, json_string(token));
    }
}

/* --- a text --------------------------------------------------------------------------------- */

static bool
is_inside(char c, bool whitespace)
{
    return whitespace ? !isspace((unsigned char)c)
                      : isalnum((unsigned char)c) || ((unsigned char)c & 0x80) != 0;
}

static json_t *
tokens(const json_t *params, const char *text, bool query)
{
    json_t *out = json_array();
    const json_t *tokenizer = json_object_get(params, "tokenizer");
    const bool space = tokenizer != NULL && strcmp(json_string_value(tokenizer), "whitespace") == 0;
    for (size_t at = 0; text[at] != '\0';) {
        size_t n = 0;
        while (text[at + n] != '\0' && is_inside(text[at + n], space)) {
            n++;
        }
        add_word(out, params, text + at, n, query);
        at += n > 0 ? n : 1;
    }
    return out;
}

static bool
follow_each_other(const json_t *text, const json_t *phrase)
{
    const size_t n = json_array_size(phrase);
    for (size_t at = 0; n > 0 && at + n <= json_array_size(text); at++) {
        size_t same = 0;
        while (same < n &&
               json_equal(json_array_get(text, at + same), json_array_get(phrase, same))) {
            same++;
        }
        if (same == n) {
            return true;
        }
    }
    return false;
}

static bool
words_hold(const json_t *wanted, const json_t *there, bool any)
{
    size_t i, found = 0;
    json_t *v;
    json_array_foreach(wanted, i, v)
    {
        found += model_lists(there, v);
    }
    return found > 0 && (any || found == json_array_size(wanted));
}

bool
model_part_holds(const json_t *match, const char *text)
{
    char word[64];
    const json_t *any = json_object_get(match, "text_any");
    const json_t *all = json_object_get(match, "text");
    if (any == NULL) {
        all = all != NULL ? all : json_object_get(match, "phrase");
        return strstr(text, json_string_value(all)) != NULL;
    }
    for (const char *at = json_string_value(any); *at != '\0';) {
        const size_t n = strcspn(at, " ");
        snprintf(word, sizeof word, "%.*s", (int)n, at);
        if (n > 0 && strstr(text, word) != NULL) {
            return true;
        }
        at += n > 0 ? n : 1;
    }
    return false;
}

/* By words: all strings of the point together, but a phrase stands in one. */
bool
model_text_holds(const char *path, const json_t *match, const json_t *flat_values)
{
    size_t i;
    json_t *v;
    const json_t *params = declared_for(path);
    const json_t *any = json_object_get(match, "text_any");
    const json_t *phrase = json_object_get(match, "phrase");
    const bool by_words =
        params != NULL &&
        (phrase == NULL || json_is_true(json_object_get(params, "phrase_matching")));
    const json_t *asked = any != NULL      ? any
                          : phrase != NULL ? phrase
                                           : json_object_get(match, "text");
    json_t *wanted = tokens(params, json_string_value(asked), true), *there = json_array();
    bool holds = false;
    json_array_foreach(flat_values, i, v)
    {
        if (json_is_string(v) && !by_words) {
            holds = holds || model_part_holds(match, json_string_value(v));
        } else if (json_is_string(v)) {
            json_t *here = tokens(params, json_string_value(v), false);
            holds = holds || (phrase != NULL && follow_each_other(here, wanted));
            json_array_extend(there, here);
            json_decref(here);
        }
    }
    if (by_words && phrase == NULL) {
        holds = words_hold(wanted, there, any != NULL);
    }
    json_decref(wanted);
    json_decref(there);
    return holds;
}
