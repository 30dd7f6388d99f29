/* data-plane/filter/text.h: text into tokens, for text indexes and for what is built on words. */
#ifndef DP_TEXT_H
#define DP_TEXT_H
#include "base/json_read.h"

typedef enum {
    DP_TOKENS_WORD,         /* runs of letters and digits */
    DP_TOKENS_WHITESPACE,   /* what stands between white space */
    DP_TOKENS_PREFIX,       /* words, and every beginning of them; a query's words stay whole */
    DP_TOKENS_MULTILINGUAL, /* words as Unicode and ICU's dictionaries part them */
} dp_token_kind;

/* How a text index makes tokens. Filled by dp_text_options_parse(). */
typedef struct {
    dp_token_kind kind;
    bool lowercase;     /* default true */
    bool ascii_folding; /* é becomes e */
    bool phrase_matching;
    uint32_t len_min, len_max; /* in characters; 0 = no bound. Others are no tokens */
    char stemmer[24];          /* a language of libstemmer's; "" = none */
    uint32_t stop_languages;   /* bits of the built-in lists */
    char **stop_words;         /* further ones, sorted */
    uint32_t stop_word_count;
} dp_text_options;

/* Reads tokenizer, lowercase, ascii_folding, phrase_matching, min_token_len, max_token_len,
 * stemmer, stopwords of an object (the parameters of a text index, the options of a BM25 model);
 * members that are not there take their defaults. Release with dp_text_options_fini().
 *
 * ORT_EFORMAT    a wrong type, an unknown tokenizer or language
 * ORT_EVALIDATE  min_token_len over max_token_len; over DP_STOP_WORDS_MAX
 * ORT_ENOMEM     as for the others, *out is {0} */
#define DP_STOP_WORDS_MAX 4096u
ORT_NODISCARD ort_err dp_text_options_parse(dp_text_options *out, ort_json params, ort_diag *diag);
void dp_text_options_fini(dp_text_options *options);

/* Whether both make the same tokens of every text, and answer phrases alike. */
bool dp_text_options_are_equal(const dp_text_options *a, const dp_text_options *b);

/* Whether there is a stemmer for a language, as requests name it. */
bool dp_has_stemmer(const char *language, size_t len);

/* The language called `name` in requests, as bit of stop_languages; 0: there is no list. */
uint32_t dp_stop_language(const char *name, size_t len);
bool dp_is_stop_word(uint32_t languages, const char *word, size_t len);

/* One thread at a time: the stemmer and the word breaker have state. options is borrowed. */
typedef struct dp_tokenizer dp_tokenizer;
ORT_NODISCARD ort_err dp_tokenizer_new(dp_tokenizer **out, const dp_text_options *options);
void dp_tokenizer_free(dp_tokenizer *tokenizer); /* NULL is fine */

/* Calls fn for each token in order, until it returns something else than ORT_OK, which is returned.
 * Text that is not UTF-8 is read as far as it is.
 *
 * query  the text is asked for, not indexed: a PREFIX tokenizer gives whole words only
 *
 * ORT_ENOMEM, or what fn returned */
typedef ort_err (*dp_token_fn)(void *ctx, const char *token, size_t len);
ORT_NODISCARD ort_err dp_tokenizer_run(dp_tokenizer *tokenizer, const char *text, size_t len,
                                       bool query, dp_token_fn fn, void *ctx);

/* What a text condition asks of a field with a text index: all words, one of them, or the words in
 * this order. Compiled from the condition's text; one thread at a time. */
typedef enum { DP_TEXT_ALL, DP_TEXT_ANY, DP_TEXT_PHRASE } dp_text_mode;
typedef struct dp_text_query dp_text_query;
ORT_NODISCARD ort_err dp_text_query_new(dp_text_query **out, const dp_text_options *options,
                                        dp_text_mode mode, const char *text, size_t len);
void dp_text_query_free(dp_text_query *query); /* NULL is fine */

uint32_t dp_text_query_count(const dp_text_query *query); /* of different words */
const char *dp_text_query_peek(const dp_text_query *query, uint32_t i, size_t *len_out);
dp_text_mode dp_text_query_mode(const dp_text_query *query);
const dp_text_options *dp_text_query_options(const dp_text_query *query);

/* A point's texts are shown one after the other: begin, each, and then whether it matches. A query
 * without words matches nothing. ORT_ENOMEM. */
void dp_text_query_begin(dp_text_query *query);
ORT_NODISCARD ort_err dp_text_query_look(dp_text_query *query, const char *text, size_t len);
bool dp_text_query_holds(const dp_text_query *query);
#endif /* DP_TEXT_H */
