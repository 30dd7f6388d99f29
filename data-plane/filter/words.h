/* data-plane/filter/words.h: an ordered map from byte strings to slots: keywords, tokens. */
#ifndef DP_WORDS_H
#define DP_WORDS_H
#include "filter/slots.h"

/* Slots of one word. Most words of a text, and most ids, stand in few points: those are kept as
 * numbers, and as a compressed set from DP_POSTING_FEW_MAX on. */
#define DP_POSTING_FEW_MAX 16u
typedef struct {
    uint32_t count;
    union {
        uint32_t one;   /* count 1 */
        uint32_t *few;  /* count 2 .. DP_POSTING_FEW_MAX: sorted */
        dp_slots *many; /* more */
    } u;
} dp_posting;

/* Threads: any number of readers, or one writer. */
typedef struct dp_words dp_words;

dp_words *dp_words_new(void); /* NULL: no memory */
void dp_words_free(dp_words *map);

/* Adding a slot that is there changes nothing. ORT_ENOMEM: nothing changed. */
ORT_NODISCARD ort_err dp_words_add(dp_words *map, const char *text, size_t len, uint32_t slot);

/* As dp_numbers_sweep(). */
ORT_NODISCARD ort_err dp_words_sweep(dp_words *map, const dp_slots *dead);

/* The posting of a word, or NULL; until the map changes. */
const dp_posting *dp_words_find(const dp_words *map, const char *text, size_t len);

uint64_t dp_words_count(const dp_words *map); /* different words */
size_t dp_words_bytes(const dp_words *map);

/* A set of its own. NULL: no memory. A NULL posting is empty. */
dp_slots *dp_posting_set(const dp_posting *posting);
void dp_posting_into(const dp_posting *posting, dp_slots *set); /* adds its slots */
uint64_t dp_posting_and_count(const dp_posting *posting, const dp_slots *set);
void dp_posting_each(const dp_posting *posting, bool (*fn)(void *ctx, uint32_t slot), void *ctx);

/* Walks words in the order of their bytes. The map must not change meanwhile. */
typedef struct {
    const dp_words *map;
    uint32_t block, at;
} dp_words_walk;

/* At the first word at or behind text; that which dp_words_next() gives first. */
dp_words_walk dp_words_seek(const dp_words *map, const char *text, size_t len);
bool dp_words_next(dp_words_walk *walk, const char **text, size_t *len, const dp_posting **posting);

/* The slots of all words that begin with this. NULL: no memory. */
dp_slots *dp_words_prefix(const dp_words *map, const char *text, size_t len);

/* Appends words behind `after` (NULL: from the first), without slots at or above `below`, until out
 * has grown by about `bytes`; *count grows by theirs. *last: the last of them, in the map, or NULL:
 * there is no more. dp_words_decode() wants the LEB128 number of words, then the words; between two
 * calls words, and slots from `below` on, may be added to the map. Decode as dp_slots_decode(). */
void dp_words_encode(const dp_words *map, uint32_t below, const char *after, size_t after_len,
                     size_t bytes, ort_buf *out, uint64_t *count, const char **last,
                     size_t *last_len);
ORT_NODISCARD ort_err dp_words_decode(dp_words **out, ort_cursor *from, uint32_t slot_end);
#endif /* DP_WORDS_H */
