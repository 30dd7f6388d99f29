/* control-plane/store/grants.h: the last leave of each kind that was given for a tenant's data. */
#ifndef CP_GRANTS_H
#define CP_GRANTS_H
#include "store/store.h"

#define CP_GRANT_OP_BYTES 8

typedef struct {
    ort_tenant_id tenant;       /* key, with op */
    char op[CP_GRANT_OP_BYTES]; /* "backup", "restore", "clone" */
    ort_tenant_id source;       /* clone: whose data; else 0 */
    ort_node_id node;           /* where it is good */
    char issued_to[CP_ACTOR_BYTES];
    int64_t issued_at_ms, expires_at_ms;
} cp_grant_row;

/* In a change. ORT_ENOTFOUND: no such tenant, or no such node. */
ORT_NODISCARD ort_err cp_grant_put(cp_tx *tx, const cp_grant_row *row, ort_diag *diag);
#endif /* CP_GRANTS_H */
