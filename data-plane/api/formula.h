/* data-plane/api/formula.h: scores computed by an expression of a request, over what a point has:
 * its scores in the prefetches, its payload, whether conditions hold for it. */
#ifndef DP_FORMULA_H
#define DP_FORMULA_H
#include "base/json_read.h"
#include "filter/filter.h"

/* Nodes of one expression. */
#define DP_FORMULA_NODES_MAX 1024u

/* Immutable. From dp_formula_parse() to dp_formula_free(); free(NULL) is allowed. It borrows from
 * the request's document. Threads: one at a time. */
typedef struct dp_formula dp_formula;

/* Reads {"formula": expression, "defaults": {variable: value}}. An expression is a number, a
 * variable ("$score", "$score[1]", or a path into the payload), a condition (1 where it holds, else
 * 0), or one of mult, sum, neg, abs, div, sqrt, pow, exp, log10, ln, geo_distance, datetime,
 * datetime_key, lin_decay, exp_decay, gauss_decay.
 *
 * ORT_EFORMAT  not an expression. ORT_EVALIDATE: a default for a score that is no number, a bad
 * variable there. ORT_EINVAL: a bad variable or path, a decay out of its bounds. ORT_EBADREQ: more
 * than DP_FORMULA_NODES_MAX nodes. ORT_ENOMEM. *out is NULL for all. */
ORT_NODISCARD ort_err dp_formula_parse(dp_formula **out, ort_json v, ort_diag *diag);
void dp_formula_free(dp_formula *formula);

/* Settles what its conditions on texts mean, by the declared fields (NULL: none); before the first
 * score. ORT_EVALIDATE, ORT_ENOMEM: see dp_filter_bind(). */
ORT_NODISCARD ort_err dp_formula_bind(dp_formula *formula, dp_fields *fields, ort_diag *diag);

/* Whether it looks at payloads at all: in variables, keys or conditions. */
bool dp_formula_wants_payload(const dp_formula *formula);

/* A point, as far as formulas look at it. */
typedef struct {
    const float *scores; /* in prefetch i; NaN: it is not there */
    size_t score_count;
    ort_json payload; /* NONE: {} */
    dp_filter_point filter_point;
} dp_formula_point;

/* The score of one point.
 * ORT_EINVAL: "Expected number value for x in the payload and/or in the formula defaults. ..", "The
 * expression 1/0 = inf produced a non-finite number". ORT_ENOMEM: a condition could not be asked.
 */
ORT_NODISCARD ort_err dp_formula_score(const dp_formula *formula, const dp_formula_point *point,
                                       float *out, ort_diag *diag);
#endif /* DP_FORMULA_H */
