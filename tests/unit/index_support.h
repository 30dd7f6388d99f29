/* tests/unit/index_support.h: rows, sets of vectors and recall for the tests of data-plane/index.
 */
#ifndef INDEX_SUPPORT_H
#define INDEX_SUPPORT_H
#include "index/flat.h"
#include "index/hnsw.h"

/* An owner of rows that grows by chunks. */
typedef struct {
    dp_rows view;
    dp_chunk *directory;
    uint32_t chunk_count_max;
    uint32_t chunk_count;
} test_rows;

void test_rows_init(test_rows *rows, dp_elem elem, uint32_t dim, uint32_t slots_max);
void test_rows_fini(test_rows *rows);

/* Writes a row, converted to the element type; for COSINE the caller makes it unit length. */
void test_rows_put(test_rows *rows, uint32_t slot, const float *vector);

/* splitmix64: the same numbers on every machine. */
uint64_t test_random(uint64_t *state);
float test_uniform(uint64_t *state); /* in [-1, 1) */

/* n vectors around `centers` centres, as real sets are clustered; float[n * dim], free(). */
float *test_clusters(uint64_t seed, size_t n, uint32_t dim, uint32_t centers, float spread);
void test_normalize(float *vectors, size_t n, uint32_t dim);

/* The first max_n vectors of ORT_DIR_DATA/NAME.{fvecs,bvecs}.zst; NULL when the directory or the
 * file is not there. float[*n_out * *dim_out], free(). */
float *test_dataset(const char *name, size_t max_n, size_t *n_out, uint32_t *dim_out);

/* Of the k nearest by exact scan, the share that `hits` has: a hit counts when it is no farther
 * than the k-th. */
double test_recall(const dp_rows *rows, dp_metric metric, const float *query,
                   const dp_slot_filter *filter, uint32_t slot_end, const dp_hit *hits, size_t n,
                   uint32_t k);
#endif /* INDEX_SUPPORT_H */
