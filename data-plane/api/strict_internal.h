/* A request under the check of its collection's strict mode; between the files strict*.c. */
#ifndef DP_API_STRICT_INTERNAL_H
#define DP_API_STRICT_INTERNAL_H
#include "api/api_internal.h"

typedef struct {
    dp_call *call;
    dp_schema *schema;
    const dp_strict *strict;
    bool write;
    uint64_t cost;   /* tokens of a rate */
    uint64_t points; /* that an upsert brings */
} strict_check;

/* Qdrant's form of a refusal. */
ORT_NODISCARD ort_err dp_strict__refuse(strict_check *c, const char *error, const char *help);

/* strict_filter.c: a whole filter: how many conditions, how large, and whether each key that needs
 * an index has one. What it costs is added. */
ORT_NODISCARD ort_err dp_strict__check_filter(strict_check *c, ort_json filter);

/* The variables and conditions of a formula, for indexes alike. */
ORT_NODISCARD ort_err dp_strict__check_formula(strict_check *c, ort_json expression);

/* The key that hits are gathered by wants an index that finds its values. */
ORT_NODISCARD ort_err dp_strict__check_group_by(strict_check *c, ort_json body);

/* Whether the filter asks for the value of an is_tenant field. */
bool dp_strict__names_tenant(strict_check *c, ort_json filter);
#endif /* DP_API_STRICT_INTERNAL_H */
