/* data-plane/collection/measure_internal.h: how far points are from a vector of any kind. */
#ifndef DP_MEASURE_INTERNAL_H
#define DP_MEASURE_INTERNAL_H
#include "collection/shard_internal.h"

/* Checks that a request's vector fits the column, and makes what it is compared as: rows in memory
 * of its own, unit length for Cosine, one row for a multivector that was given as one.
 *
 * out   borrows from *own, or (sparse) from v
 * own   for the caller to free()
 *
 * ORT_EINVAL: in Qdrant's words. ORT_ENOMEM. *own is NULL for both. */
ort_err dp_measure__prepare(const dp_vector_schema *schema, const dp_vector *v, dp_vector *out,
                            float **own, ort_diag *diag);

/* Distances of slots that have the column from a prepared vector: out[i] belongs to slots[i]. */
ort_err dp_measure__slots(dp_shard *s, dp_reader *reader, uint32_t column, const dp_vector *v,
                          const uint32_t *slots, size_t count, float *out, ort_diag *diag);

/* The scores that examples give to slots that have the column; as for one vector. */
ort_err dp_examples__score(dp_shard *s, dp_reader *reader, uint32_t column, const dp_examples *ex,
                           const uint32_t *slots, size_t count, float *out, ort_diag *diag);

/* Vectors around which the best points for all examples together are, where those are not around
 * one of them: none for BEST, one for SUM and FEEDBACK. Of dense vectors.
 *
 * out   borrows from *own
 * own   for the caller to free()
 *
 * ORT_EINVAL, ORT_ENOMEM: *own is NULL */
#define DP_EXAMPLES_PROBES 3u
ort_err dp_examples__probes(const dp_vector_schema *schema, const dp_examples *ex,
                            dp_vector out[DP_EXAMPLES_PROBES], uint32_t *count, float **own,
                            ort_diag *diag);

/* What a point can score at most that is liker than `likeness` to no target and to no positive
 * example; -INFINITY, which says that there is no such point, gives -INFINITY. */
float dp_examples__bound(const dp_examples *ex, float likeness);
#endif /* DP_MEASURE_INTERNAL_H */
