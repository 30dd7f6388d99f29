/* control-plane/tenancy/grant.h: the hub's signature under leave to move a tenant's data. */
#ifndef CP_GRANT_H
#define CP_GRANT_H
#include "tenancy/tenancy.h"
#include "wire/grant.h"

/* Fills in hub, nonce and end, and signs; op, node and tenants are the caller's. That it was given,
 * and to whom, is in the op log when this returns. Op grant.issue.
 * ORT_ECONFLICT: the tenant, or the one that is cloned, is not at that node any more. */
ORT_NODISCARD ort_err cp_grant_issue(cp_tenancy *tenancy, const cp_author *author, ort_grant *grant,
                                     char out[ORT_GRANT_TEXT_BYTES], uint64_t *version_out,
                                     ort_diag *diag);
#endif /* CP_GRANT_H */
