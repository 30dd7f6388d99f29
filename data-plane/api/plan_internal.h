/* The tree of a request of several steps; between plan.c, plan_run.c and plan_vectors.c. */
#ifndef DP_API_PLAN_INTERNAL_H
#define DP_API_PLAN_INTERNAL_H
#include "api/plan.h"
#include "api/query_internal.h"

typedef enum {
    DP_STEP_PLAIN, /* a vector, an id, or none: what the collection answers */
    DP_STEP_RRF,
    DP_STEP_DBSF,
    DP_STEP_MMR,       /* nearest, then spread out */
    DP_STEP_RECOMMEND, /* nearest to a vector made of examples */
} dp_plan__kind;

typedef struct dp_plan__step dp_plan__step;
struct dp_plan__step {
    dp_plan__kind kind;
    dp_api__ask ask;
    ort_json filter; /* as sent: it is pushed down into the leaves */
    dp_plan__step *prefetch;
    size_t prefetch_count;

    double rrf_k;
    double *weights; /* NULL: 1 each */
    float diversity;
    uint64_t candidates;
    ort_json positive, negative; /* of a recommend dp_plan__step */
};

struct dp_plan {
    dp_plan__step root;
    size_t steps;
    ort_buf excluded; /* ids named anywhere in the request, as JSON, comma-separated */
};

/* The filters from the root down to a step. */
typedef struct dp_plan__scope {
    const struct dp_plan__scope *outer;
    const dp_plan__step *at;
} dp_plan__scope;

static inline uint64_t
dp_plan__bounded(uint64_t n)
{
    return n < DP_PLAN_POINTS_MAX ? n : DP_PLAN_POINTS_MAX;
}

/* An id that the request names: no point of that id is answered. */
void dp_plan__exclude(dp_plan *plan, ort_point_id id);

/* The step's vector in the schema; -1: there is none of that name. */
int dp_plan__vector_index(dp_call *call, const dp_plan__step *s);

/* Asks the collection with `query` for `want` points under all filters of the scope, and only among
 * these where they are given. */
ORT_NODISCARD ort_err dp_plan__ask_collection(dp_call *call, const dp_plan *plan,
                                              const dp_plan__scope *s, const dp_query *query,
                                              const dp_found_list *among, uint64_t want,
                                              dp_found_list *out);

/* Runs the tree for up to `want` points, best first. */
ORT_NODISCARD ort_err dp_plan__find(dp_call *call, dp_plan *plan, uint64_t want,
                                    dp_found_list *out);

/* Writes these points as one array. */
ORT_NODISCARD ort_err dp_plan__write_points(dp_call *call, const dp_show *show,
                                            const dp_found *found, size_t count);

/* plan_vectors.c: the steps that look at stored vectors. */
ORT_NODISCARD ort_err dp_plan__run_mmr(dp_call *call, const dp_plan *plan, const dp_plan__scope *s,
                                       const dp_found_list *among, uint64_t want,
                                       dp_found_list *out);
ORT_NODISCARD ort_err dp_plan__run_recommend(dp_call *call, dp_plan *plan, const dp_plan__scope *s,
                                             const dp_found_list *among, uint64_t want,
                                             dp_found_list *out);
#endif /* DP_API_PLAN_INTERNAL_H */
