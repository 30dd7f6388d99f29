/* data-plane/filter/evaluate_internal.h: pairs of sets under evaluation. */
#ifndef DP_EVALUATE_INTERNAL_H
#define DP_EVALUATE_INTERNAL_H
#include "filter/evaluate.h"
#include "filter/filter_internal.h"
#include "filter/payload_index_internal.h"

typedef enum { DP_SPAN_NONE, DP_SPAN_ALL, DP_SPAN_SOME } dp_span_kind;

/* A set that owns its slots; ALL stands for every live one without writing them down. */
typedef struct {
    dp_span_kind kind;
    dp_slots *set; /* SOME */
} dp_span;

typedef struct {
    dp_span sure, may;
    bool exact; /* may is the same as sure, and not set */
} dp_both;

typedef dp_place dp_eval_place;

typedef struct {
    const dp_evaluation *over;
    const dp_eval_place *place; /* NULL: the point itself */
    bool narrowed;
    ort_err err; /* the first; from then on what is given means nothing */
} dp_eval;

/* All take what they are given, and never fail but into e->err. */
void dp_both__free(dp_both b);
dp_both dp_both__open(void); /* nothing is known */
dp_both dp_both__all(void);
dp_both dp_both__none(void);
dp_both dp_both__exactly(dp_eval *e, dp_slots *set);                 /* NULL set: no memory */
dp_both dp_both__between(dp_eval *e, dp_slots *sure, dp_slots *may); /* sure NULL: none */
dp_both dp_both__and(dp_eval *e, dp_both a, dp_both b);
dp_both dp_both__or(dp_eval *e, dp_both a, dp_both b);
dp_both dp_both__not(dp_eval *e, dp_both a);

/* evaluate_field.c: conditions on a key, by the index of that key. */
dp_both dp_eval__field(dp_eval *e, const dp_field *f);
dp_both dp_eval__is_empty(dp_eval *e, const dp_path *path);
dp_both dp_eval__is_null(dp_eval *e, const dp_path *path);

/* evaluate_geo.c: a range of places, over the cells of an index. */
dp_both dp_eval__geo(dp_eval *e, const dp_payload_index *x, const dp_geo *g);
#endif /* DP_EVALUATE_INTERNAL_H */
