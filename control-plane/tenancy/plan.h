/* control-plane/tenancy/plan.h: rules for plans. Errors: tenancy.h. */
#ifndef CP_PLAN_H
#define CP_PLAN_H
#include "store/plans.h"
#include "tenancy/tenancy.h"

#define CP_PLANS_MAX 256

/* Op plan.create. */
ORT_NODISCARD ort_err cp_plan_create(cp_tenancy *tenancy, const cp_author *author, const char *name,
                                     const char *display, const cp_limits *limits, cp_plan *out,
                                     uint64_t *version_out, ort_diag *diag);

/* Sets the limits that `patch` has set (and the display text, where not NULL); they count for every
 * tenant on the plan. Lowering below what a tenant uses is allowed: it blocks growth, removes
 * nothing. Op plan.update, a denial when any limit is lowered. */
ORT_NODISCARD ort_err cp_plan_update(cp_tenancy *tenancy, const cp_author *author, const char *name,
                                     const uint64_t *revision, const char *display,
                                     const cp_overrides *patch, cp_plan *out, uint64_t *version_out,
                                     ort_diag *diag);

/* ORT_ECONFLICT: a tenant is on it, or it is `default`. Op plan.delete. */
ORT_NODISCARD ort_err cp_plan_delete(cp_tenancy *tenancy, const cp_author *author, const char *name,
                                     const uint64_t *revision, uint64_t *version_out,
                                     ort_diag *diag);
#endif /* CP_PLAN_H */
