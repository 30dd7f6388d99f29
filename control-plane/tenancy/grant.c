/* Grants: what they say is what the store says now; that they were given, the op log. */
#include "tenancy/grant.h"

#include <stdio.h>

#include "store/grants.h"
#include "store/hub.h"
#include "store/placements.h"
#include "tenancy/tenancy_internal.h"

static ort_err
check_home(cp_tx *tx, ort_tenant_id tenant, ort_node_id node, ort_diag *diag)
{
    cp_home home;
    const ort_err err = cp_home_get(tx, tenant, &home, diag);
    return err == ORT_OK && home.home.v == node.v
               ? ORT_OK
               : ort_fail(diag, ORT_ECONFLICT, "the tenant has just moved: ask again");
}

static ort_err
note(cp_tx *tx, const cp_author *author, const ort_grant *grant, ort_diag *diag)
{
    cp_grant_row row = {.tenant = grant->tenant,
                        .source = grant->from,
                        .node = grant->node,
                        .issued_at_ms = cp_tx_now_ms(tx),
                        .expires_at_ms = grant->expires_ms};
    snprintf(row.op, sizeof row.op, "%s", ort_grant_op_name(grant->op));
    cp_tenancy__copy(row.issued_to, sizeof row.issued_to, author->actor);
    return cp_grant_put(tx, &row, diag);
}

ort_err
cp_grant_issue(cp_tenancy *tenancy, const cp_author *author, ort_grant *grant,
               char out[ORT_GRANT_TEXT_BYTES], uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_hub hub;
    out[0] = '\0';
    ort_err err = cp_store_begin(tenancy->o.store, author, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_hub_get(tx, &hub, diag);
    if (err == ORT_OK) {
        err = check_home(tx, grant->tenant, grant->node, diag);
    }
    if (err == ORT_OK && grant->op == ORT_GRANT_CLONE) {
        err = check_home(tx, grant->from, grant->node, diag);
    }
    if (err == ORT_OK) {
        grant->hub_id = hub.hub_id;
        grant->expires_ms = cp_tx_now_ms(tx) + ORT_GRANT_TTL_MS;
        ort_secret_random(&grant->nonce, sizeof grant->nonce);
        ort_grant_format(grant, &tenancy->o.secrets->signing, out);
        err = note(tx, author, grant, diag);
    }
    const cp_change change = {.op = "grant.issue", .tenant = grant->tenant};
    err = cp_tenancy__end(tx, err, &change, version_out, diag);
    if (err != ORT_OK) {
        ort_secret_wipe(out, ORT_GRANT_TEXT_BYTES);
    }
    return err;
}
