/* data-plane/collection/sparse_internal.h: inverted lists over one sparse vector of a shard.
 *
 * In memory only, made anew from the points at open. Readers and the writer are kept apart by the
 * shard's view lock. */
#ifndef DP_SPARSE_INTERNAL_H
#define DP_SPARSE_INTERNAL_H
#include <stdint.h>

#include "base/err.h"
#include "collection/query.h"
#include "index/rows.h"

typedef struct dp_sparse dp_sparse;

ort_err dp_sparse__new(dp_sparse **out);
void dp_sparse__free(dp_sparse *sparse);

/* `stored` is the vector as points keep it: count u32 indices, count f32 values. ORT_ENOMEM: part
 * of it may be listed; the shard is broken. */
ort_err dp_sparse__add(dp_sparse *sparse, uint32_t slot, const void *stored, uint32_t count);

/* The point of this slot is dead: its entries no longer count. They are skipped by the live bits
 * and swept when they are half of a list. */
void dp_sparse__remove(dp_sparse *sparse, const dp_slot_set *live, const void *stored,
                       uint32_t count);

/* What the words of a query weigh by: how rare they are among some points. */
typedef struct {
    uint64_t points;           /* how many; at least 1 */
    const dp_slot_set *corpus; /* which, among live ones; NULL: all of the shard's */
} dp_sparse_idf;

/* The k best by dot product with the query (sorted indices) among slots that pass, as hits whose
 * distance is -score. Only points that share an index with the query are answers.
 * idf: how to weigh the query by inverse document frequency; NULL: not at all.
 * *read_out: entries read, for measuring; may be NULL. */
ort_err dp_sparse__search(const dp_sparse *sparse, const dp_vector *query, const dp_sparse_idf *idf,
                          uint32_t slot_end, const dp_slot_filter *filter, uint32_t k, dp_hit *hits,
                          size_t *n_out, uint64_t *read_out);

uint64_t dp_sparse__bytes(const dp_sparse *sparse);
#endif /* DP_SPARSE_INTERNAL_H */
