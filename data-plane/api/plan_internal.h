/* The tree of a request of several steps; between the files plan*.c. */
#ifndef DP_API_PLAN_INTERNAL_H
#define DP_API_PLAN_INTERNAL_H
#include "api/formula.h"
#include "api/plan.h"
#include "api/query_internal.h"

typedef enum {
    DP_STEP_PLAIN, /* none: in id order; or a vector, its own or that of a point */
    DP_STEP_RRF,
    DP_STEP_DBSF,
    DP_STEP_MMR,       /* nearest, then spread out */
    DP_STEP_RECOMMEND, /* nearest to a vector made of examples */
    DP_STEP_EXAMPLES,  /* scored by several examples */
    DP_STEP_ORDER,     /* by a payload field */
    DP_STEP_SAMPLE,    /* at random */
    DP_STEP_FORMULA,   /* scored by an expression over the prefetches' scores and payloads */
} dp_plan__kind;

/* What a query names: a vector, or the point whose vector is meant. */
typedef struct {
    bool by_id;
    bool missing; /* after resolving: the point has no such vector */
    ort_point_id id;
    dp_vector vector; /* ours; after resolving also of points */
    float score;      /* of feedback */
} dp_plan__input;

/* lookup_from: where points named by id are found; collection NULL: in the one that is asked. */
typedef struct {
    dp_tenant *tenant; /* who gave the collection */
    dp_collection *collection;
    char *vector; /* its name there; NULL: that of `using` */
} dp_plan__lookup;

typedef struct dp_plan__step dp_plan__step;
struct dp_plan__step {
    dp_plan__kind kind;
    dp_api__ask ask;
    ort_json filter; /* as sent: it is pushed down into the leaves */
    dp_plan__step *prefetch;
    size_t prefetch_count;

    dp_plan__input *inputs; /* the target (when has_target), the positives, the negatives */
    uint32_t input_count, positive_count, negative_count;
    bool has_target;
    dp_plan__lookup lookup;

    double rrf_k;
    double *weights; /* NULL: 1 each */
    float diversity;
    uint64_t candidates;
    dp_examples_kind examples;
    float a, b, c; /* of feedback */
    dp_api__order order;
    dp_formula *formula;
};

struct dp_plan {
    dp_plan__step root;
    size_t steps;
    ort_point_id *excluded; /* named anywhere in the request; ascending once it is parsed */
    uint32_t excluded_count, excluded_cap;
    bool resolved;
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
ORT_NODISCARD ort_err dp_plan__exclude(dp_plan *plan, ort_point_id id);

/* plan_query.c: reads `query` of a step, in each of its forms. */
ORT_NODISCARD ort_err dp_plan__parse_query(dp_call *call, dp_plan__step *s, ort_json v);

/* The same of the older calls, whose members stand in the body itself. */
ORT_NODISCARD ort_err dp_plan__parse_recommend(dp_call *call, dp_plan__step *s, ort_json v,
                                               bool old_form);
ORT_NODISCARD ort_err dp_plan__parse_discover(dp_call *call, dp_plan__step *s, ort_json v);
ORT_NODISCARD ort_err dp_plan__parse_context(dp_call *call, dp_plan__step *s, ort_json v);

/* plan_inputs.c: makes room for n inputs; reads one; reads the vectors of those that are ids, in
 * all steps of the plan. ORT_ENOTFOUND: "No point with id N found". */
ORT_NODISCARD ort_err dp_plan__inputs_new(dp_plan__step *s, uint32_t n);
ORT_NODISCARD ort_err dp_plan__input_parse(dp_call *call, dp_plan__input *input, ort_json v);
ORT_NODISCARD ort_err dp_plan__resolve(dp_call *call, dp_plan *plan);
void dp_plan__inputs_fini(dp_plan__step *s);

/* A copy in one piece, as dp_vector_fini() frees it. */
ORT_NODISCARD ort_err dp_plan__copy_vector(const dp_vector *v, dp_vector *out);

/* Whether points that this step names by id are points of the collection that is asked. */
static inline bool
dp_plan__names_own_points(const dp_call *call, const dp_plan__step *s)
{
    return s->lookup.collection == NULL || s->lookup.collection == call->collection;
}

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

/* plan_vectors.c: the steps that compare several vectors. */
ORT_NODISCARD ort_err dp_plan__run_mmr(dp_call *call, const dp_plan *plan, const dp_plan__scope *s,
                                       const dp_found_list *among, uint64_t want,
                                       dp_found_list *out);
ORT_NODISCARD ort_err dp_plan__run_recommend(dp_call *call, dp_plan *plan, const dp_plan__scope *s,
                                             const dp_found_list *among, uint64_t want,
                                             dp_found_list *out);
ORT_NODISCARD ort_err dp_plan__run_examples(dp_call *call, dp_plan *plan, const dp_plan__scope *s,
                                            const dp_found_list *among, uint64_t want,
                                            dp_found_list *out);

/* plan_formula.c: scores what the prefetches gave (at most DP_PLAN_POINTS_MAX points). */
ORT_NODISCARD ort_err dp_plan__run_formula(dp_call *call, const dp_plan__step *s,
                                           const dp_found_list *lists, dp_found_list *out);
#endif /* DP_API_PLAN_INTERNAL_H */
