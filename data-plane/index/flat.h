/* data-plane/index/flat.h: exact search by looking at every row. */
#ifndef DP_FLAT_H
#define DP_FLAT_H
#include "index/rows.h"

/* The k nearest of the rows [slot_begin, slot_end) that pass the filter, nearest first, equal
 * distances by slot. For the tail that is not in a graph yet, for `exact`, and for filters that let
 * little through. All functions here: any number of threads.
 *
 * query   float[dim]
 * filter  may be NULL; slots that no chunk holds must not pass it
 * hits    dp_hit[k], the caller's
 *
 * ORT_OK      *n_out entries written, k or fewer
 * ORT_EINVAL  k is 0 or over ORT_TOP_K_MAX; outputs untouched, as for ORT_ENOMEM */
ORT_NODISCARD ort_err dp_flat_search(const dp_rows *rows, dp_metric metric, const float *query,
                                     uint32_t k, uint32_t slot_begin, uint32_t slot_end,
                                     const dp_slot_filter *filter, dp_hit *hits, size_t *n_out);

/* The same for query_count queries at once, through one matrix product a block of rows where that
 * pays (from DP_FLAT_BLAS_MIN queries on; not for MANHATTAN); the k answers are then measured again
 * by the kernels, so that distances are those of dp_flat_search().
 *
 * queries  float[query_count * dim]
 * hits     dp_hit[query_count * k]: query i has its answers from hits[i * k]
 * n_out    size_t[query_count] */
#define DP_FLAT_BLAS_MIN 8u
ORT_NODISCARD ort_err dp_flat_search_batch(const dp_rows *rows, dp_metric metric,
                                           const float *queries, size_t query_count, uint32_t k,
                                           uint32_t slot_begin, uint32_t slot_end,
                                           const dp_slot_filter *filter, dp_hit *hits,
                                           size_t *n_out);

/* Distances of given slots, in their order: out[i] belongs to slots[i]. */
void dp_flat_measure(const dp_rows *rows, dp_metric metric, const float *query,
                     const uint32_t *slots, size_t n, float *out);

/* OpenBLAS 0.3.21 takes its SSE3 kernels on processors it does not know, five times slower, and
 * reads OPENBLAS_CORETYPE only while it is loaded. Call first in main(): when the kernel it chose
 * does not use what the processor has, sets the variable and executes the program again with the
 * same arguments (at most once); otherwise returns. Also holds OpenBLAS to one thread a call. */
void dp_flat_blas_prepare(char **argv);

/* The kernel OpenBLAS chose ("SkylakeX"), for the log. */
const char *dp_flat_blas_core(void);
#endif /* DP_FLAT_H */
