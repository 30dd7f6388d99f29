/* data-plane/filter/evaluate.h: a filter over all points at once, by the indexes there are. */
#ifndef DP_EVALUATE_H
#define DP_EVALUATE_H
#include "filter/filter.h"
#include "filter/payload_index.h"

/* What a filter is evaluated over. Borrowed for the call; nothing of it may change meanwhile. */
typedef struct {
    dp_payload_index *const *indexes; /* [index_count]; each holds every live slot */
    size_t index_count;
    const dp_slots *live;
    const dp_filter_texts *texts; /* dp_filter_bind() of the filter; NULL: there are none */

    /* The live slot of an id; false: there is none. NULL: cannot be asked. */
    bool (*find)(void *ctx, ort_point_id id, uint32_t *slot);
    /* Whether points have the vector: 1 all live ones, 0 none, -1 not known. NULL: not known. */
    int (*has_vector)(void *ctx, const char *name);
    void *ctx;
} dp_evaluation;

/* Which points match: all of `sure`, maybe some more of `maybe` (those still to be asked one by
 * one, disjoint from sure), no others. Both hold live slots only. */
typedef struct {
    dp_slots *sure;
    dp_slots *maybe;   /* NULL: none, the answer is exact */
    uint64_t min, max; /* matches, bounds: |sure|, |sure| + |maybe| */
    uint64_t expected; /* a guess between */
    bool narrowed;     /* an index took part: maybe is not simply everything */
} dp_verdict;

/* Release with dp_verdict_fini(). ORT_ENOMEM: *out is {0}. */
ORT_NODISCARD ort_err dp_filter_evaluate(const dp_filter *filter, const dp_evaluation *over,
                                         dp_verdict *out);
void dp_verdict_fini(dp_verdict *verdict);

/* A value that every match has in a field. Borrowed from the filter. */
typedef struct {
    const dp_path *path;
    dp_payload_value value; /* KEYWORD (any string), INTEGER or BOOL */
    bool alone;             /* and every point that has it matches */
} dp_filter_value;

/* The i-th of those that the filter asks for, be it in a filter within it; false: there are no
 * more. */
bool dp_filter_peek_value(const dp_filter *filter, size_t i, dp_filter_value *out);

/* Whether every condition on a payload field has a declared index that serves it, as strict mode
 * asks; otherwise the first key that has none, borrowed from the filter. */
bool dp_filter_is_indexed(const dp_filter *filter, const dp_fields *fields, const char **key_out,
                          dp_field_kind *wanted_out);
#endif /* DP_EVALUATE_H */
