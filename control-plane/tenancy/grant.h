/* control-plane/tenancy/grant.h: the hub's signature under leave to move a tenant's data. */
#ifndef CP_GRANT_H
#define CP_GRANT_H
#include "tenancy/tenancy.h"
#include "wire/grant.h"

/* Fills in hub, nonce and end, and signs; op, node and tenants are the caller's. */
ORT_NODISCARD ort_err cp_grant_sign(cp_tenancy *tenancy, cp_tx *tx, ort_grant *grant,
                                    char out[ORT_GRANT_TEXT_BYTES], ort_diag *diag);
#endif /* CP_GRANT_H */
