/* data-plane/api/plan.h: queries of several steps: prefetches, fusion, rescoring, diversity,
 * examples, groups. The one-step query (most of them) does not come here: query.c answers it
 * directly.
 *
 * A step gives a list of (id, score). Leaves ask the collection; a step with prefetches fuses their
 * lists, or scores their points again with its own query. The points of the final list are read
 * once, at the end, with what the request wants to see of them. Between the steps points may
 * change: the answer is that of no single moment, as everywhere in this API. */
#ifndef DP_API_PLAN_H
#define DP_API_PLAN_H
#include "api/api_internal.h"

/* Steps in all of one request, however nested; and points a step may hand on. */
#define DP_PLAN_STEPS_MAX 128u
#define DP_PLAN_POINTS_MAX 16384u

/* A parsed request of several steps. From dp_plan_parse() to dp_plan_free(); free(NULL) is allowed.
 */
typedef struct dp_plan dp_plan;

/* Whether a body of points/query needs more than one step. */
bool dp_plan_needed(ort_json body);

/* Errors as for the one-step query. */
ORT_NODISCARD ort_err dp_plan_parse(dp_plan **out, dp_call *call, ort_json body);
void dp_plan_free(dp_plan *plan);

/* The older form: {vector, filter, limit, ..}; one step. */
ORT_NODISCARD ort_err dp_plan_parse_search(dp_plan **out, dp_call *call, ort_json body);

/* The older recommend: {positive, negative, strategy, ..}; one step. */
ORT_NODISCARD ort_err dp_plan_parse_recommend(dp_plan **out, dp_call *call, ort_json body);

/* The older discover: {target, context, ..}; one step. */
ORT_NODISCARD ort_err dp_plan_parse_discover(dp_plan **out, dp_call *call, ort_json body);

/* Runs it and writes {"points":[..]}, or the bare array of the older calls. */
ORT_NODISCARD ort_err dp_plan_answer(dp_call *call, dp_plan *plan, bool in_object);

/* A point that was found. */
typedef struct {
    ort_point_id id;
    uint64_t version;
    float score;
} dp_found;

typedef struct {
    dp_found *items;
    size_t count, cap;
} dp_found_list;

void dp_found_list_fini(dp_found_list *list);
ORT_NODISCARD ort_err dp_found_list_add(dp_found_list *list, dp_found item);

/* Reciprocal rank fusion of `count` lists, each best first: a point's score is the sum over the
 * lists it is in of 1/((position + 1)/weight + k - 1), positions from 0. weights may be NULL: 1
 * each. Cormack, Clarke, Buettcher 2009, in the form Qdrant serves. */
ORT_NODISCARD ort_err dp_fuse_rrf(const dp_found_list *lists, size_t count, double k,
                                  const double *weights, dp_found_list *out);

/* Distribution-based score fusion: each list's scores become (s - (mean - 3 sd)) / (6 sd) with the
 * sample's sd, 0.5 where that has no meaning, and are summed. */
ORT_NODISCARD ort_err dp_fuse_dbsf(const dp_found_list *lists, size_t count, dp_found_list *out);
#endif /* DP_API_PLAN_H */
