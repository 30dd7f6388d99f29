/* data-plane/collection/query_internal.h: answers of one shard. */
#ifndef DP_QUERY_INTERNAL_H
#define DP_QUERY_INTERNAL_H
#include "collection/shard_internal.h"

ort_err dp_query__answer(dp_shard *s, const dp_query *queries, size_t count, bool want_payload,
                         dp_point_fn fn, void *ctx, ort_diag *diag);

/* Calls fn for up to limit matching points in id order, from *from on; the caller holds view.
 * *more and *next: the one behind. */
ort_err dp_query__list(dp_shard *s, dp_reader *reader, const dp_filter *filter,
                       const ort_point_id *from, uint64_t limit,
                       ort_err (*fn)(void *ctx, dp_id_slot at), void *ctx, bool *more,
                       ort_point_id *next, ort_diag *diag);

ort_err dp_query__retrieve(dp_shard *s, const ort_point_id *ids, size_t count, bool want_payload,
                           dp_point_fn fn, void *ctx, ort_diag *diag);
ort_err dp_query__scroll(dp_shard *s, const dp_filter *filter, const ort_point_id *from,
                         uint64_t limit, bool want_payload, dp_point_fn fn, void *ctx, bool *more,
                         ort_point_id *next, ort_diag *diag);
ort_err dp_query__count(dp_shard *s, const dp_filter *filter, uint64_t *out, ort_diag *diag);

/* --- facet.c: see dp_collection_facet() and dp_collection_field_points() */
ort_err dp_query__facet(dp_shard *s, const char *field, size_t len, const dp_filter *filter,
                        dp_facet_fn fn, void *ctx, ort_diag *diag);
bool dp_query__field_points(dp_shard *s, const char *field, size_t len, uint64_t *out);
#endif /* DP_QUERY_INTERNAL_H */
