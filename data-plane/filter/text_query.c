/* What a text condition asks, over tokens. */
#include "filter/text.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define QUERY_WORDS_MAX 1024u /* of one condition; more are an error */

typedef struct {
    uint32_t at, len; /* in `bytes` */
} span;

struct dp_text_query {
    const dp_text_options *options;
    dp_tokenizer *tokenizer;
    dp_text_mode mode;
    ort_buf bytes;
    span *words; /* different ones, sorted: `count` */
    uint32_t count;
    uint32_t *order; /* PHRASE: the words as they follow each other, as numbers of `words` */
    uint32_t order_count;
    bool *found; /* ANY, ALL: by word */
    uint32_t found_count;
    uint32_t *recent; /* PHRASE: the last order_count tokens of the text; UINT32_MAX: no word */
    uint64_t seen;    /* PHRASE: tokens of the text so far */
    bool holds;
};

static int
compare(const dp_text_query *q, span w, const char *token, size_t len)
{
    const size_t n = w.len < len ? w.len : len;
    const int c = n > 0 ? memcmp(q->bytes.data + w.at, token, n) : 0;
    return c != 0 ? c : w.len < len ? -1 : w.len > len;
}

/* The place of a token among the words, or where it would stand. */
static uint32_t
find(const dp_text_query *q, const char *token, size_t len, bool *there)
{
    uint32_t lo = 0, hi = q->count;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (compare(q, q->words[mid], token, len) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    *there = lo < q->count && compare(q, q->words[lo], token, len) == 0;
    return lo;
}

/* Words beyond the bound change nothing: the condition is then refused as a whole by its caller. */
static ort_err
add_word(void *ctx, const char *token, size_t len)
{
    dp_text_query *q = ctx;
    bool there;
    if (q->order_count == QUERY_WORDS_MAX) {
        return ORT_ETOOBIG;
    }
    uint32_t at = find(q, token, len, &there);
    if (!there) {
        const span word = {.at = (uint32_t)q->bytes.len, .len = (uint32_t)len};
        ort_buf_put(&q->bytes, token, len);
        if (ort_buf_check(&q->bytes) != ORT_OK) {
            return ORT_ENOMEM;
        }
        memmove(q->words + at + 1, q->words + at, (q->count - at) * sizeof *q->words);
        q->words[at] = word;
        q->count++;
        for (uint32_t i = 0; i < q->order_count; i++) {
            q->order[i] += q->order[i] >= at;
        }
    }
    q->order[q->order_count++] = at;
    return ORT_OK;
}

ort_err
dp_text_query_new(dp_text_query **out, const dp_text_options *options, dp_text_mode mode,
                  const char *text, size_t len)
{
    dp_text_query *q = calloc(1, sizeof *q);
    *out = NULL;
    if (q == NULL) {
        return ORT_ENOMEM;
    }
    q->options = options;
    q->mode = mode;
    q->words = malloc(QUERY_WORDS_MAX * sizeof *q->words);
    q->order = malloc(QUERY_WORDS_MAX * sizeof *q->order);
    q->recent = malloc(QUERY_WORDS_MAX * sizeof *q->recent);
    q->found = calloc(QUERY_WORDS_MAX, sizeof *q->found);
    ort_err err = q->words != NULL && q->order != NULL && q->recent != NULL && q->found != NULL
                      ? dp_tokenizer_new(&q->tokenizer, options)
                      : ORT_ENOMEM;
    err = err == ORT_OK ? dp_tokenizer_run(q->tokenizer, text, len, true, add_word, q) : err;
    if (err != ORT_OK) {
        dp_text_query_free(q);
        return err;
    }
    *out = q;
    return ORT_OK;
}

void
dp_text_query_free(dp_text_query *q)
{
    if (q == NULL) {
        return;
    }
    dp_tokenizer_free(q->tokenizer);
    ort_buf_fini(&q->bytes);
    free(q->words);
    free(q->order);
    free(q->recent);
    free(q->found);
    free(q);
}

uint32_t
dp_text_query_count(const dp_text_query *q)
{
    return q->count;
}

const char *
dp_text_query_peek(const dp_text_query *q, uint32_t i, size_t *len_out)
{
    *len_out = q->words[i].len;
    return q->bytes.data + q->words[i].at;
}

dp_text_mode
dp_text_query_mode(const dp_text_query *q)
{
    return q->mode;
}

const dp_text_options *
dp_text_query_options(const dp_text_query *q)
{
    return q->options;
}

void
dp_text_query_begin(dp_text_query *q)
{
    memset(q->found, 0, q->count * sizeof *q->found);
    q->found_count = 0;
    q->holds = false;
}

/* The last tokens in a ring; whether they are the phrase is asked when its last word comes. */
static void
follow_phrase(dp_text_query *q, uint32_t word)
{
    const uint32_t n = q->order_count;
    q->recent[q->seen++ % n] = word;
    if (q->seen < n || word != q->order[n - 1]) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (q->recent[(q->seen - n + i) % n] != q->order[i]) {
            return;
        }
    }
    q->holds = true;
}

static ort_err
look_at(void *ctx, const char *token, size_t len)
{
    dp_text_query *q = ctx;
    bool there;
    const uint32_t at = find(q, token, len, &there);
    if (q->mode == DP_TEXT_PHRASE) {
        follow_phrase(q, there ? at : UINT32_MAX);
    } else if (there && !q->found[at]) {
        q->found[at] = true;
        q->found_count++;
        q->holds = q->mode == DP_TEXT_ANY || q->found_count == q->count;
    }
    return ORT_OK;
}

ort_err
dp_text_query_look(dp_text_query *q, const char *text, size_t len)
{
    if (q->holds || q->count == 0) {
        return ORT_OK;
    }
    q->seen = 0;
    return dp_tokenizer_run(q->tokenizer, text, len, false, look_at, q);
}

bool
dp_text_query_holds(const dp_text_query *q)
{
    return q->holds;
}
