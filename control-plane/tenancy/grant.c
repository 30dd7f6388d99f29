/* Grants are made of what the store says now; nothing of them is kept. */
#include "tenancy/grant.h"

#include "store/hub.h"
#include "tenancy/tenancy_internal.h"

ort_err
cp_grant_sign(cp_tenancy *tenancy, cp_tx *tx, ort_grant *grant, char out[ORT_GRANT_TEXT_BYTES],
              ort_diag *diag)
{
    cp_hub hub;
    const ort_err err = cp_hub_get(tx, &hub, diag);
    if (err != ORT_OK) {
        return err;
    }
    grant->hub_id = hub.hub_id;
    grant->expires_ms = cp_tx_now_ms(tx) + ORT_GRANT_TTL_MS;
    ort_secret_random(&grant->nonce, sizeof grant->nonce);
    ort_grant_format(grant, &tenancy->o.secrets->signing, out);
    return ORT_OK;
}
