/* Text into tokens: parted by ICU's properties of characters (or its word breaker), made lower
 * case, folded to ASCII, looked up among the stopwords, stemmed by Snowball, measured. In this
 * order, so that a stopword is met as it is written in its list. */
#include "filter/text.h"

#include <stdlib.h>
#include <string.h>

#include <libstemmer.h>
#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>

#include "base/buf.h"

struct dp_tokenizer {
    const dp_text_options *options;
    struct sb_stemmer *stemmer;
    UBreakIterator *breaker;
    const UNormalizer2 *decompose;
    ort_buf word;    /* under way */
    UChar *wide;     /* the text for the breaker */
    int32_t *places; /* of its characters in the text; */
    size_t wide_cap;
};

ort_err
dp_tokenizer_new(dp_tokenizer **out, const dp_text_options *options)
{
    UErrorCode code = U_ZERO_ERROR;
    dp_tokenizer *t = calloc(1, sizeof *t);
    *out = NULL;
    if (t == NULL) {
        return ORT_ENOMEM;
    }
    t->options = options;
    if (options->stemmer[0] != '\0') {
        t->stemmer = sb_stemmer_new(options->stemmer, NULL);
    }
    if (options->ascii_folding) {
        t->decompose = unorm2_getNFKDInstance(&code);
    }
    if (options->kind == DP_TOKENS_MULTILINGUAL) {
        t->breaker = ubrk_open(UBRK_WORD, "", NULL, 0, &code);
    }
    if (U_FAILURE(code) || (options->stemmer[0] != '\0' && t->stemmer == NULL)) {
        dp_tokenizer_free(t);
        return ORT_ENOMEM;
    }
    *out = t;
    return ORT_OK;
}

void
dp_tokenizer_free(dp_tokenizer *t)
{
    if (t == NULL) {
        return;
    }
    if (t->stemmer != NULL) {
        sb_stemmer_delete(t->stemmer);
    }
    if (t->breaker != NULL) {
        ubrk_close(t->breaker);
    }
    ort_buf_fini(&t->word);
    free(t->wide);
    free(t->places);
    free(t);
}

/* --- characters ---------------------------------------------------------------------------------
 */

static void
put_char(ort_buf *out, UChar32 c)
{
    const uint32_t v = (uint32_t)c;
    if (v < 0x80) {
        ort_buf_put_u8(out, (uint8_t)v);
        return;
    }
    if (v < 0x800) {
        ort_buf_put_u8(out, (uint8_t)(0xc0 | v >> 6));
    } else {
        if (v < 0x10000) {
            ort_buf_put_u8(out, (uint8_t)(0xe0 | v >> 12));
        } else {
            ort_buf_put_u8(out, (uint8_t)(0xf0 | v >> 18));
            ort_buf_put_u8(out, (uint8_t)(0x80 | (v >> 12 & 0x3f)));
        }
        ort_buf_put_u8(out, (uint8_t)(0x80 | (v >> 6 & 0x3f)));
    }
    ort_buf_put_u8(out, (uint8_t)(0x80 | (v & 0x3f)));
}

/* The character at *at, which is moved behind it; -1 for a byte that begins none. (ICU's macros for
 * this do not pass our warnings.) */
static UChar32
take_char(const char *text, size_t len, size_t *at)
{
    static const UChar32 least[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *s = (const unsigned char *)text + *at;
    const size_t left = len - *at;
    const size_t more = s[0] < 0x80 ? 0 : s[0] < 0xc2 ? 4 : s[0] < 0xe0 ? 1 : s[0] < 0xf0 ? 2 : 3;
    ++*at;
    if (more == 0) {
        return s[0];
    }
    if (more == 4 || s[0] > 0xf4 || more >= left) {
        return -1;
    }
    UChar32 c = s[0] & (0x3f >> more);
    for (size_t i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return -1;
        }
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
        return -1;
    }
    *at += more;
    return c;
}

/* Letters that have no decomposition and are Latin all the same. */
static const struct {
    UChar32 from;
    const char *to;
} latin[] = {{0xdf, "ss"}, {0xc6, "AE"}, {0xe6, "ae"},  {0x152, "OE"}, {0x153, "oe"}, {0xd8, "O"},
             {0xf8, "o"},  {0x110, "D"}, {0x111, "d"},  {0x141, "L"},  {0x142, "l"},  {0xde, "Th"},
             {0xfe, "th"}, {0xd0, "D"},  {0xf0, "d"},   {0x126, "H"},  {0x127, "h"},  {0x131, "i"},
             {0x166, "T"}, {0x167, "t"}, {0x1e9e, "SS"}};

/* A character that decomposes to an ASCII one and marks becomes that; another stays. */
static void
put_folded(dp_tokenizer *t, UChar32 c)
{
    UChar parts[32];
    UErrorCode code = U_ZERO_ERROR;
    if (c < 0x80) {
        put_char(&t->word, c);
        return;
    }
    for (size_t i = 0; i < sizeof latin / sizeof *latin; i++) {
        if (latin[i].from == c) {
            ort_buf_puts(&t->word, latin[i].to);
            return;
        }
    }
    if (u_charType(c) == U_NON_SPACING_MARK) {
        return; /* a letter and its accent, written as two characters */
    }
    const int32_t n = unorm2_getDecomposition(t->decompose, c, parts, 32, &code);
    if (U_FAILURE(code) || n <= 0 || parts[0] >= 0x80) {
        put_char(&t->word, c);
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        if (parts[i] < 0x80) {
            put_char(&t->word, parts[i]);
        }
    }
}

static uint32_t
count_chars(const char *text, size_t len)
{
    uint32_t n = 0;
    for (size_t i = 0; i < len; i++) {
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    }
    return n;
}

static int
order_words(const void *key, const void *item)
{
    const ort_buf *word = key;
    const char *other = *(char *const *)item;
    const size_t len = strlen(other), n = word->len < len ? word->len : len;
    const int c = n > 0 ? memcmp(word->data, other, n) : 0;
    return c != 0 ? c : word->len < len ? -1 : word->len > len;
}

static bool
is_stopped(const dp_tokenizer *t)
{
    const dp_text_options *o = t->options;
    return (o->stop_languages != 0 &&
            dp_is_stop_word(o->stop_languages, t->word.data, t->word.len)) ||
           (o->stop_word_count > 0 && bsearch(&t->word, o->stop_words, o->stop_word_count,
                                              sizeof(char *), order_words) != NULL);
}

/* Every beginning of the word, from len_min to len_max characters. */
static ort_err
tell_prefixes(const dp_text_options *o, const char *word, size_t len, bool query, dp_token_fn fn,
              void *ctx)
{
    const uint32_t least = o->len_min > 0 ? o->len_min : 1;
    uint32_t chars = 0;
    size_t at = 0;
    while (at < len && (o->len_max == 0 || chars < o->len_max)) {
        at++;
        while (at < len && ((unsigned char)word[at] & 0xc0) == 0x80) {
            at++;
        }
        chars++;
        const bool last = at == len || chars == o->len_max;
        if (chars >= least && (!query || last)) {
            const ort_err err = fn(ctx, word, at);
            if (err != ORT_OK) {
                return err;
            }
        }
    }
    return ORT_OK;
}

/* One word of the text, as it stands there. */
static ort_err
tell_word(dp_tokenizer *t, const char *text, size_t len, bool query, dp_token_fn fn, void *ctx)
{
    const dp_text_options *o = t->options;
    size_t i = 0;
    ort_buf_clear(&t->word);
    while (i < len) {
        UChar32 c = take_char(text, len, &i);
        if (c < 0) {
            continue;
        }
        c = o->lowercase ? u_tolower(c) : c;
        if (o->ascii_folding) {
            put_folded(t, c);
        } else {
            put_char(&t->word, c);
        }
    }
    if (ort_buf_check(&t->word) != ORT_OK) {
        return ORT_ENOMEM;
    }
    if (t->word.len == 0 || is_stopped(t)) {
        return ORT_OK;
    }
    const char *token = t->word.data;
    size_t token_len = t->word.len;
    if (t->stemmer != NULL && token_len <= INT32_MAX) {
        const sb_symbol *stem =
            sb_stemmer_stem(t->stemmer, (const sb_symbol *)token, (int)token_len);
        if (stem == NULL) {
            return ORT_ENOMEM;
        }
        token = (const char *)stem;
        token_len = (size_t)sb_stemmer_length(t->stemmer);
    }
    if (o->kind == DP_TOKENS_PREFIX) {
        return tell_prefixes(o, token, token_len, query, fn, ctx);
    }
    const uint32_t chars = count_chars(token, token_len);
    return token_len == 0 || chars < o->len_min || (o->len_max > 0 && chars > o->len_max)
               ? ORT_OK
               : fn(ctx, token, token_len);
}

/* --- parting ------------------------------------------------------------------------------------
 */

/* An accent, or the vowel sign of a script that writes vowels around its letters. */
static bool
is_mark(UChar32 c)
{
    const int8_t type = u_charType(c);
    return type == U_NON_SPACING_MARK || type == U_COMBINING_SPACING_MARK;
}

static ort_err
part_by_property(dp_tokenizer *t, const char *text, size_t len, bool query, dp_token_fn fn,
                 void *ctx)
{
    const bool space = t->options->kind == DP_TOKENS_WHITESPACE;
    size_t i = 0, begin = SIZE_MAX;
    while (i < len) {
        const size_t at = i;
        const UChar32 c = take_char(text, len, &i);
        /* Marks belong to the letter before them. */
        const bool inside = c >= 0 && (space ? !u_isUWhiteSpace(c)
                                             : u_isalnum(c) || (is_mark(c) && begin != SIZE_MAX));
        if (inside && begin == SIZE_MAX) {
            begin = at;
        } else if (!inside && begin != SIZE_MAX) {
            const ort_err err = tell_word(t, text + begin, at - begin, query, fn, ctx);
            if (err != ORT_OK) {
                return err;
            }
            begin = SIZE_MAX;
        }
    }
    return begin != SIZE_MAX ? tell_word(t, text + begin, len - begin, query, fn, ctx) : ORT_OK;
}

/* The text in UTF-16, and where each unit stands in the text. */
static ort_err
widen(dp_tokenizer *t, const char *text, size_t len, int32_t *count_out)
{
    int32_t n = 0;
    if (len > INT32_MAX / 2) {
        return ORT_ETOOBIG;
    }
    if (len + 1 > t->wide_cap) {
        free(t->wide);
        free(t->places);
        t->wide = malloc((len + 1) * sizeof *t->wide);
        t->places = malloc((len + 1) * sizeof *t->places);
        t->wide_cap = t->wide != NULL && t->places != NULL ? len + 1 : 0;
        if (t->wide_cap == 0) {
            return ORT_ENOMEM;
        }
    }
    for (size_t i = 0; i < len;) {
        const int32_t at = (int32_t)i;
        UChar32 c = take_char(text, len, &i);
        c = c < 0 ? ' ' : c;
        t->places[n] = at;
        if (c > 0xffff) {
            t->places[n + 1] = at;
            t->wide[n++] = U16_LEAD(c);
            t->wide[n++] = U16_TRAIL(c);
        } else {
            t->wide[n++] = (UChar)c;
        }
    }
    t->places[n] = (int32_t)len;
    *count_out = n;
    return ORT_OK;
}

static ort_err
part_by_breaker(dp_tokenizer *t, const char *text, size_t len, bool query, dp_token_fn fn,
                void *ctx)
{
    UErrorCode code = U_ZERO_ERROR;
    int32_t n = 0;
    ort_err err = widen(t, text, len, &n);
    if (err != ORT_OK) {
        return err;
    }
    ubrk_setText(t->breaker, t->wide, n, &code);
    if (U_FAILURE(code)) {
        return ORT_ENOMEM;
    }
    int32_t begin = ubrk_first(t->breaker);
    for (int32_t end = ubrk_next(t->breaker); err == ORT_OK && end != UBRK_DONE;
         begin = end, end = ubrk_next(t->breaker)) {
        if (ubrk_getRuleStatus(t->breaker) >= UBRK_WORD_NONE_LIMIT) { /* no space, no sign */
            err = tell_word(t, text + t->places[begin], (size_t)(t->places[end] - t->places[begin]),
                            query, fn, ctx);
        }
    }
    return err;
}

ort_err
dp_tokenizer_run(dp_tokenizer *t, const char *text, size_t len, bool query, dp_token_fn fn,
                 void *ctx)
{
    return t->breaker != NULL ? part_by_breaker(t, text, len, query, fn, ctx)
                              : part_by_property(t, text, len, query, fn, ctx);
}
