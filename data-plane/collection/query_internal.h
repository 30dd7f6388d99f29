/* data-plane/collection/query_internal.h: answers of one shard. */
#ifndef DP_QUERY_INTERNAL_H
#define DP_QUERY_INTERNAL_H
#include "collection/links_internal.h"
#include "collection/vector_internal.h"

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

/* One query being answered. */
typedef struct {
    dp_shard *s;
    dp_reader *reader;
    const dp_query *ask;
    uint32_t column;
    const dp_vector_schema *schema;
    dp_filter_texts *texts; /* what the filter's text conditions mean; for all matchers */
    dp_vector vector;       /* what to compare with; values may be `own` */
    float *own;
    uint32_t skip; /* a slot that is no answer, or DP_SLOT_NONE */
    uint32_t k;    /* hits to find, with those that are skipped */
    dp_hit *hits;  /* [k] */
    size_t count;
    ort_diag *diag;
} dp_search;

/* --- query.c */

/* Every live point has this vector, so nobody needs to ask. */
bool dp_search__all_have(const dp_search *q);

uint32_t dp_search__indexed_end(const dp_search *q); /* slots below are in the graph */

/* Over the graph, or what `among` says of it. Slots from `indexed` on are scanned, which has a
 * filter of its own. */
ort_err dp_search__walk(dp_search *q, const dp_slot_filter *filter,
                        const dp_slot_filter *tail_filter, const dp_hnsw_among *among,
                        uint32_t indexed);

/* Checks a request's vector against the column and makes it what is compared: q->vector, q->own. */
ort_err dp_search__take_vector(dp_search *q, const dp_vector *v);

/* A matcher for the query's filter and for points that have the vector. */
dp_matcher dp_search__matcher(const dp_search *q);

/* The live slots that match, in memory for the caller to free(). A filter's verdicts are taken from
 * what is remembered of it, unless it names ids. */
ort_err dp_search__candidates(dp_shard *s, dp_matcher *m, uint32_t **slots, size_t *count);

/* Leaves in q->hits the k nearest of these slots, which all have the vector; with examples, the
 * best by their scores. ORT_ETIMEOUT: the request's deadline. */
ort_err dp_search__measure(dp_search *q, const uint32_t *slots, size_t count);

/* Leaves in q->hits the k nearest to q->vector, as the plan at the top of query.c says. */
ort_err dp_search__find_dense(dp_search *q);

/* --- query_examples.c: leaves in q->hits the k best by the examples' scores */
ort_err dp_search__find_by_examples(dp_search *q);

/* --- query_value.c */

/* All points of one value match, and nothing else does. *done false: others must find them.
 * m  of the filter: asked about points where the field's index is not there */
ort_err dp_search__find_by_value(dp_search *q, dp_matcher *m, const dp_links_plan *plan,
                                 bool *done);

/* The filter's matches, `count` of them, are looked for among the points of one value that all of
 * them have. ORT_ENOTFOUND: no, in the graph as a whole. */
ort_err dp_search__walk_value(dp_search *q, const dp_slot_filter *filter, const dp_links_plan *plan,
                              uint64_t count);

/* --- facet.c: see dp_collection_facet() and dp_collection_field_points() */
ort_err dp_query__facet(dp_shard *s, const char *field, size_t len, const dp_filter *filter,
                        dp_facet_fn fn, void *ctx, ort_diag *diag);
bool dp_query__field_points(dp_shard *s, const char *field, size_t len, uint64_t *out);
#endif /* DP_QUERY_INTERNAL_H */
