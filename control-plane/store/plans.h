/* control-plane/store/plans.h: named sets of limits. */
#ifndef CP_PLANS_H
#define CP_PLANS_H
#include "store/store.h"

typedef struct {
    char name[CP_SLUG_BYTES]; /* key */
    char display[CP_DISPLAY_BYTES];
    cp_limits limits;
    int64_t created_at_ms;
    int64_t updated_at_ms;
    uint64_t revision; /* the ETag; written by put */
} cp_plan;

ORT_NODISCARD ort_err cp_plan_get(cp_tx *tx, const char *name, cp_plan *out, ort_diag *diag);
ORT_NODISCARD ort_err cp_plan_put(cp_tx *tx, cp_plan *row, ort_diag *diag);
/* ORT_ENOTFOUND. ORT_ECONFLICT: tenants are on it. */
ORT_NODISCARD ort_err cp_plan_remove(cp_tx *tx, const char *name, ort_diag *diag);
typedef ort_err (*cp_plan_visit)(void *ctx, const cp_plan *row);
/* By name. */
ORT_NODISCARD ort_err cp_plan_list(cp_tx *tx, cp_page page, cp_plan_visit visit, void *ctx,
                                   ort_diag *diag);
#endif /* CP_PLANS_H */
