/* One search as a request gives it: what query.c, plan.c and groups.c share. */
#ifndef DP_API_QUERY_INTERNAL_H
#define DP_API_QUERY_INTERNAL_H
#include "api/api_internal.h"

/* A search and what to show of its points. {0} is empty; dp_api__ask_fini() in any state. */
typedef struct {
    dp_query query;
    dp_show show;
    dp_filter *filter;
    char *using_name;
} dp_api__ask;

void dp_api__ask_fini(dp_api__ask *ask);

/* The value of `query` where it is an id or a vector, or of its `nearest`. */
ORT_NODISCARD ort_err dp_api__ask_nearest(dp_call *call, dp_api__ask *ask, ort_json v);

/* `using`, and the `name` of a named vector. */
ORT_NODISCARD ort_err dp_api__ask_using(dp_call *call, dp_api__ask *ask, const char *key,
                                        ort_json v);

/* limit, offset, filter, params, score_threshold, with_payload, with_vector: what every form has.
 */
ORT_NODISCARD ort_err dp_api__ask_common(dp_call *call, dp_api__ask *ask, ort_json body);

/* A whole body of points/search: {vector, filter, params, limit | top, ...}. */
ORT_NODISCARD ort_err dp_api__ask_search(dp_call *call, dp_api__ask *ask, ort_json body);

/* ORT_EBADREQ when the answer has grown beyond what we make in memory. */
ORT_NODISCARD ort_err dp_api__check_answer_size(dp_call *call);
#endif /* DP_API_QUERY_INTERNAL_H */
