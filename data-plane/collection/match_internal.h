/* data-plane/collection/match_internal.h: filters against the points of a shard. */
#ifndef DP_MATCH_INTERNAL_H
#define DP_MATCH_INTERNAL_H
#include "collection/shard_internal.h"

/* Asks a filter about slots, through one reader, in one thread. The first failure to read a payload
 * stays in err, and nothing matches from then on. */
typedef struct {
    dp_reader *reader;
    const dp_schema *schema;
    const dp_filter *filter; /* NULL: everything matches */
    int column;              /* >= 0: the point must have this vector */
    uint32_t slot;           /* under evaluation */
    ort_err err;
    ort_diag *diag;
} dp_matcher;

bool dp_matcher__matches(dp_matcher *m, uint32_t slot); /* of a live point */

/* The live slots that match, in no particular order: in memory for the caller to free(). */
ort_err dp_matcher__collect(dp_matcher *m, uint32_t **slots_out, size_t *count_out);

ort_err dp_matcher__count(dp_matcher *m, uint64_t *out);
#endif /* DP_MATCH_INTERNAL_H */
