/* Sparse search over inverted lists with window bounds: `tests/bench/run sparse [--points N]`.
 *
 * Documents of words drawn by Zipf's law (exponent 1.07, 50,000 words, 20 to 120 words each),
 * weighed as BM25 weighs them; queries of 2, 5 and 12 words. Prints for each: microseconds a query,
 * the share of the lists' entries that was read, and the time of adding up all entries (the plain
 * way), in one run. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "collection/sparse_internal.h"

#define WORDS 50000u
#define QUERIES 400u
#define K 10u

static uint64_t seed = 88172645463325252u;
static double cumulated[WORDS];

static double
next_uniform(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (double)(seed >> 11) / 9007199254740992.0;
}

static uint32_t
next_word(void)
{
    const double u = next_uniform() * cumulated[WORDS - 1];
    uint32_t low = 0, high = WORDS - 1;

    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (cumulated[middle] < u) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int
order_words(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* The plain way: every list, whole. */
typedef struct {
    uint32_t slot;
    float value;
} entry;

typedef struct {
    entry *entries;
    uint32_t count, cap;
} plain_list;

static plain_list plain[WORDS];

static void
add_plain(uint32_t word, uint32_t slot, float value)
{
    plain_list *l = &plain[word];

    if (l->count == l->cap) {
        l->cap = l->cap == 0 ? 8 : l->cap * 2;
        l->entries = realloc(l->entries, l->cap * sizeof *l->entries);
        if (l->entries == NULL) {
            abort();
        }
    }
    l->entries[l->count++] = (entry){slot, value};
}

static void
add_document(dp_sparse *sparse, uint32_t slot)
{
    uint32_t words[120], indices[120], n = 0;
    float values[120];
    const uint32_t len = 20 + (uint32_t)(next_uniform() * 100);
    ort_buf stored = {0};

    for (uint32_t i = 0; i < len; i++) {
        words[i] = next_word();
    }
    qsort(words, len, sizeof words[0], order_words);
    const double norm = 1.2 * (0.25 + 0.75 * len / 70.0);
    for (uint32_t i = 0, end; i < len; i = end) {
        for (end = i; end < len && words[end] == words[i]; end++) {
        }
        indices[n] = words[i];
        values[n] = (float)((end - i) * 2.2 / ((end - i) + norm));
        add_plain(words[i], slot, values[n]);
        n++;
    }
    for (uint32_t i = 0; i < n; i++) {
        ort_buf_put_u32(&stored, indices[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        ort_buf_put_u32(&stored, bits);
    }
    if (dp_sparse__add(sparse, slot, stored.data, n) != ORT_OK) {
        abort();
    }
    ort_buf_fini(&stored);
}

static float *scores;

/* Adds up everything, then takes the best score; returns it. */
static float
search_plain(const dp_vector *query, uint32_t points, uint64_t *entries)
{
    float best = 0;

    memset(scores, 0, points * sizeof *scores);
    for (uint32_t q = 0; q < query->count; q++) {
        const plain_list *l = &plain[query->indices[q]];
        const float idf = (float)log((points - l->count + 0.5) / (l->count + 0.5) + 1);
        *entries += l->count;
        for (uint32_t i = 0; i < l->count; i++) {
            scores[l->entries[i].slot] += idf * query->values[q] * l->entries[i].value;
        }
    }
    for (uint32_t s = 0; s < points; s++) {
        best = scores[s] > best ? scores[s] : best;
    }
    return best;
}

static void
measure(const dp_sparse *sparse, uint32_t points, uint32_t words)
{
    static uint32_t indices[QUERIES][16];
    static const float ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    static float found[QUERIES];
    dp_hit hits[K];
    const dp_slot_filter none = {0};
    const dp_sparse_idf idf = {.points = points};
    uint64_t read = 0, entries = 0;
    size_t n = 0, wrong = 0;

    for (uint32_t q = 0; q < QUERIES; q++) {
        for (uint32_t i = 0; i < words;) { /* all different */
            indices[q][i] = next_word();
            bool again = false;
            for (uint32_t j = 0; j < i; j++) {
                again = again || indices[q][j] == indices[q][i];
            }
            i += !again;
        }
        qsort(indices[q], words, sizeof indices[q][0], order_words);
    }
    uint64_t begin = ort_mono_ns();
    for (uint32_t q = 0; q < QUERIES; q++) {
        const dp_vector query = {.kind = DP_VECTOR_SPARSE,
                                 .indices = indices[q],
                                 .values = ones,
                                 .count = words,
                                 .rows = 1};
        uint64_t r = 0;
        if (dp_sparse__search(sparse, &query, &idf, points, &none, K, hits, &n, &r) != ORT_OK) {
            abort();
        }
        read += r;
        found[q] = n > 0 ? -hits[0].distance : 0;
    }
    const double us = (double)(ort_mono_ns() - begin) / 1e3 / QUERIES;
    begin = ort_mono_ns();
    for (uint32_t q = 0; q < QUERIES; q++) {
        const dp_vector query = {.kind = DP_VECTOR_SPARSE,
                                 .indices = indices[q],
                                 .values = ones,
                                 .count = words,
                                 .rows = 1};
        const float best = search_plain(&query, points, &entries);
        wrong += fabsf(best - found[q]) > 1e-4f * best;
    }
    const double plain_us = (double)(ort_mono_ns() - begin) / 1e3 / QUERIES;
    printf("sparse points=%u words=%u us=%.1f read_share=%.3f plain_us=%.1f ratio=%.1f wrong=%zu\n",
           points, words, us, (double)read / (double)entries, plain_us, plain_us / us, wrong);
}

int
main(int argc, char **argv)
{
    const uint32_t points = argc == 3 && strcmp(argv[1], "--points") == 0
                                ? (uint32_t)strtoul(argv[2], NULL, 10)
                                : 200000;
    const uint32_t words[] = {2, 5, 12};
    dp_sparse *sparse;
    double sum = 0;

    if (points == 0 || (argc != 1 && argc != 3)) {
        fputs("usage: bench_sparse [--points N]\n", stderr);
        return 2;
    }
    for (uint32_t i = 0; i < WORDS; i++) {
        sum += 1 / pow(i + 1.0, 1.07);
        cumulated[i] = sum;
    }
    scores = calloc(points, sizeof *scores);
    if (scores == NULL || dp_sparse__new(&sparse) != ORT_OK) {
        return 1;
    }
    const uint64_t begin = ort_mono_ns();
    for (uint32_t s = 0; s < points; s++) {
        add_document(sparse, s);
    }
    printf("built points=%u seconds=%.1f list_bytes=%llu\n", points,
           (double)(ort_mono_ns() - begin) / 1e9, (unsigned long long)dp_sparse__bytes(sparse));
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        measure(sparse, points, words[i]);
    }
    return 0;
}
