/* data-plane/api/formula_internal.h: the expression as parsing makes it and scoring walks it. */
#ifndef DP_FORMULA_INTERNAL_H
#define DP_FORMULA_INTERNAL_H
#include "api/formula.h"
#include "filter/path.h"

typedef enum {
    DP_F_CONSTANT,     /* value; also a datetime, in seconds */
    DP_F_SCORE,        /* index */
    DP_F_KEY,          /* path: a number */
    DP_F_DATETIME_KEY, /* path: a text */
    DP_F_GEO,          /* path: {lon, lat}; the distance from lon, lat in metres */
    DP_F_CONDITION,    /* filter */
    DP_F_MULT,
    DP_F_SUM,
    DP_F_NEG,
    DP_F_ABS,
    DP_F_DIV, /* two; value where has_value: what a division by zero gives */
    DP_F_SQRT,
    DP_F_POW,
    DP_F_EXP,
    DP_F_LOG10,
    DP_F_LN,
    DP_F_LIN_DECAY, /* x and maybe its target; value is lambda */
    DP_F_EXP_DECAY,
    DP_F_GAUSS_DECAY,
} dp_formula_op;

/* Children stand in a chain: `child`, then `next` of each; 0 ends it (the root is nobody's). */
typedef struct {
    dp_formula_op op;
    uint32_t child, next;
    uint64_t index;
    double value, lon, lat;
    bool has_value;
    bool every; /* the path ends in []: its values are not taken apart */
    char *key;  /* the path's text */
    dp_path *path;
    dp_filter *filter;
    dp_filter_texts *texts; /* of filter, once bound */
    ort_json otherwise;     /* the default of the key; NONE: there is none */
} dp_formula_node;

struct dp_formula {
    dp_formula_node *nodes;
    uint32_t count, cap;
    ort_json defaults;
};
#endif /* DP_FORMULA_INTERNAL_H */
