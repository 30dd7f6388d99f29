/* tests/bench/vectors.h: data sets of fvecs and bvecs (also .zst) in memory, with ground truth. */
#ifndef BENCH_VECTORS_H
#define BENCH_VECTORS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    float *base;    /* base_count rows of dim */
    float *query;   /* query_count rows of dim */
    int32_t *truth; /* query_count rows of truth_k ids, nearest first */
    uint32_t dim, base_count, query_count, truth_k;
    bool file_bytes; /* the file holds uint8 */
    bool bytes;      /* the metric is squared Euclid, as for files of uint8; else cosine */
} bench_set;

/* Reads NAME.base, NAME.query and NAME.query.gt from dir; ends the program with a message when
 * something is missing or damaged. At most base_max rows (0 = all). truth is NULL when there is no
 * such file, or it would be that of more rows than were read.
 *
 * metric  "l2", "cos" (rows and queries are made unit length), or NULL: as the file's type has it
 */
void bench_set_load(bench_set *set, const char *dir, const char *name, uint32_t base_max,
                    const char *metric);
void bench_set_free(bench_set *set);

/* Distance between two rows as the set's metric has it; smaller is nearer. */
float bench_set_distance(const bench_set *set, const float *a, const float *b);

/* Of the ids (n <= k), how many are no farther from query q than its true k-th neighbour: recall by
 * distance, so that ties count. */
uint32_t bench_set_hits(const bench_set *set, uint32_t q, const uint64_t *ids, uint32_t n,
                        uint32_t k);
#endif /* BENCH_VECTORS_H */
