/* control-plane/tenancy/tenant.h: rules for tenants, their quotas and their home. Errors:
 * tenancy.h. */
#ifndef CP_TENANT_H
#define CP_TENANT_H
#include "store/placements.h"
#include "store/tenants.h"
#include "tenancy/tenancy.h"

#define CP_TENANTS_MAX 1000000

typedef struct {
    const char *name;
    const char *display;           /* NULL = "" */
    const char *plan;              /* NULL = "default" */
    const cp_texts *regions;       /* NULL or empty = anywhere */
    const cp_overrides *overrides; /* NULL = none */
    uint32_t max_stale_s;
} cp_tenant_ask;

/* Makes it and, when a healthy node of its regions is there, places it in the same change; else it
 * waits for cp_tenant_place_pending(). A name of 16 hex digits is refused: it would read as an id.
 * Op tenant.create. */
ORT_NODISCARD ort_err cp_tenant_create(cp_tenancy *tenancy, const cp_author *author,
                                       const cp_tenant_ask *ask, cp_tenant *out,
                                       uint64_t *version_out, ort_diag *diag);

/* NULL members stay as they are. */
typedef struct {
    const char *display;
    const char *plan;
    const cp_texts *regions; /* empty = anywhere */
    const uint32_t *max_stale_s;
} cp_tenant_patch;

/* ORT_ECONFLICT: the tenant is being deleted, or its home is in none of the new regions (moving its
 * data comes first). Op tenant.update; a denial when limits fall or the pin gets narrower. */
ORT_NODISCARD ort_err cp_tenant_update(cp_tenancy *tenancy, const cp_author *author,
                                       ort_tenant_id id, const uint64_t *revision,
                                       const cp_tenant_patch *patch, cp_tenant *out,
                                       uint64_t *version_out, ort_diag *diag);

/* suspended: nodes refuse all its requests, its data stays. Twice is fine. Ops tenant.suspend (a
 * denial), tenant.resume. */
ORT_NODISCARD ort_err cp_tenant_suspend(cp_tenancy *tenancy, const cp_author *author,
                                        ort_tenant_id id, const uint64_t *revision, bool suspended,
                                        cp_tenant *out, uint64_t *version_out, ort_diag *diag);

/* Begins the removal of all its data: DELETING, with its keys and admin tokens revoked; DELETED at
 * once when no node ever held it. Twice is fine. Op tenant.delete, a denial. */
ORT_NODISCARD ort_err cp_tenant_delete(cp_tenancy *tenancy, const cp_author *author,
                                       ort_tenant_id id, const uint64_t *revision, cp_tenant *out,
                                       uint64_t *version_out, ort_diag *diag);

/* A node reports that it has nothing left of a tenant that is being deleted. When it was the last
 * one that ever held it, the tenant becomes DELETED: *done_out. A report of a tenant that is not
 * being deleted, or by a node that never held it, is ORT_ECONFLICT and changes nothing; one that
 * was taken before is ORT_OK. Ops tenant.gone, tenant.deleted. */
ORT_NODISCARD ort_err cp_tenant_gone(cp_tenancy *tenancy, ort_tenant_id id, ort_node_id node,
                                     bool *done_out, uint64_t *version_out, ort_diag *diag);

/* Replaces all overrides. Below usage is allowed: growth is blocked, nothing is removed. Op
 * quota.set, a denial when a limit falls. revision is that of the quota. */
ORT_NODISCARD ort_err cp_quota_set(cp_tenancy *tenancy, const cp_author *author, ort_tenant_id id,
                                   const uint64_t *revision, const cp_overrides *overrides,
                                   cp_quota *out, uint64_t *version_out, ort_diag *diag);

/* Gives a home to tenants that have none, where a healthy node of their regions is there: call it
 * when a node becomes ready, healthy or uncordoned. Up to 1,000 tenants a change. Op tenant.place.
 */
ORT_NODISCARD ort_err cp_tenant_place_pending(cp_tenancy *tenancy, uint64_t *placed_out,
                                              uint64_t *version_out, ort_diag *diag);
#endif /* CP_TENANT_H */
