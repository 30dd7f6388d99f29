/* data-plane/collection/match_internal.h: filters against the points of a shard. */
#ifndef DP_MATCH_INTERNAL_H
#define DP_MATCH_INTERNAL_H
#include "collection/shard_internal.h"
#include "filter/evaluate.h"

/* Asks a filter about slots, through one reader, in one thread. The first failure to read a payload
 * stays in err, and nothing matches from then on. */
typedef struct {
    dp_shard *s; /* whose indexes may be asked; NULL: points are looked at one by one */
    dp_reader *reader;
    const dp_schema *schema;
    const dp_filter *filter; /* NULL: everything matches */
    int column;              /* >= 0: the point must have this vector */
    bool record;             /* the filter is a record's, and says itself what its text means */
    bool bound;              /* `texts` is settled */
    dp_filter_texts *texts;  /* its own: dp_matcher__fini() */
    uint32_t slot;           /* under evaluation */
    uint32_t asked;          /* how many; now and then the filter's time is looked at */
    ort_err err;
    ort_diag *diag;
} dp_matcher;

void dp_matcher__fini(dp_matcher *m);

/* Settles what text conditions mean; done by itself when first needed. */
ort_err dp_matcher__bind(dp_matcher *m);

bool dp_matcher__matches(dp_matcher *m, uint32_t slot); /* of a live point */

/* The live slots that match, in no particular order: in memory for the caller to free(). */
ort_err dp_matcher__collect(dp_matcher *m, uint32_t **slots_out, size_t *count_out);

/* The same when the indexes were asked already. */
ort_err dp_matcher__collect_told(dp_matcher *m, const dp_verdict *told, uint32_t **slots_out,
                                 size_t *count_out);

ort_err dp_matcher__count(dp_matcher *m, uint64_t *out);
#endif /* DP_MATCH_INTERNAL_H */
