/* One search as a request gives it: what query.c, plan.c and groups.c share. */
#ifndef DP_API_QUERY_INTERNAL_H
#define DP_API_QUERY_INTERNAL_H
#include "api/api_internal.h"

/* A search and what to show of its points. {0} is empty; dp_api__ask_fini() in any state. */
typedef struct {
    dp_query query;
    dp_show show;
    dp_filter *filter;
    dp_filter *idf_corpus;
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

/* ORT_EBADREQ: a score_threshold where no query gives scores to compare with it. */
ORT_NODISCARD ort_err dp_api__ask_check_threshold(dp_call *call, const dp_api__ask *ask,
                                                  bool has_query, bool ordered);

/* A whole body of points/search: {vector, filter, params, limit | top, ...}. */
ORT_NODISCARD ort_err dp_api__ask_search(dp_call *call, dp_api__ask *ask, ort_json body);

/* `order_by`. {0} is empty; dp_api__order_fini() in any state. The collection is in use. */
typedef struct {
    dp_order order;
    dp_path *path;
} dp_api__order;

void dp_api__order_fini(dp_api__order *order);

/* ORT_EINVAL: no range index for that key. ORT_EFORMAT: another shape. */
ORT_NODISCARD ort_err dp_api__order_parse(dp_call *call, ort_json v, dp_api__order *out);

/* Writes the member `order_value` of a point's open object; nothing for NULL. */
void dp_api__write_order_value(ort_jw *w, const dp_order_value *value);

/* The declared index of a payload field; NONE: there is none. Lives as long as the schema. */
ort_json dp_api__field_of(const dp_schema *schema, const char *key, size_t len);

/* ORT_EBADREQ when the answer has grown beyond what we make in memory. */
ORT_NODISCARD ort_err dp_api__check_answer_size(dp_call *call);
#endif /* DP_API_QUERY_INTERNAL_H */
