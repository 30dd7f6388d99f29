/* control-plane/tenancy/admin.h: who may use the admin API. Errors: tenancy.h.
 *
 * Today by bearer token. Sign-in with a password ends in the same cp_admin: a session will carry
 * one, so nothing behind cp_admin_authenticate() changes when console/ brings it. */
#ifndef CP_ADMIN_H
#define CP_ADMIN_H
#include "store/admin_tokens.h"
#include "tenancy/tenancy.h"

/* Who asks, once known. */
typedef struct {
    char token[ORT_TOKEN_ID_TEXT_BYTES];
    char name[CP_DISPLAY_BYTES];
    cp_role role;
    ort_tenant_id tenant;       /* of a tenant-admin; else 0 */
    char actor[CP_ACTOR_BYTES]; /* for cp_author: "operator:<token id>" */
} cp_admin;

/* At the first start of a hub: makes the first operator token. token_out is "" ever after; print it
 * once, and wipe it. Op admin.bootstrap. */
ORT_NODISCARD ort_err cp_admin_bootstrap(cp_tenancy *tenancy, char token_out[ORT_TOKEN_TEXT_BYTES],
                                         ort_diag *diag);

/* A further operator token for who lost all of them and can write to the data directory (which is
 * more than any token gives). token_out is shown once. Op admin.recover. */
ORT_NODISCARD ort_err cp_admin_recover(cp_tenancy *tenancy, char token_out[ORT_TOKEN_TEXT_BYTES],
                                       ort_diag *diag);

/* ORT_EAUTH: not a live token; the message is the same whatever is wrong with it, and so is the
 * time taken. */
ORT_NODISCARD ort_err cp_admin_authenticate(cp_tenancy *tenancy, const char *text, size_t len,
                                            cp_admin *out, ort_diag *diag);

/* Whether that caller may read or change what belongs to this tenant (0: to the hub). ORT_EDENIED
 * for a role that may not; ORT_ENOTFOUND for a tenant-admin and another's tenant, so that it cannot
 * tell whether there is one. */
ORT_NODISCARD ort_err cp_admin_may_read(const cp_admin *who, ort_tenant_id tenant, ort_diag *diag);
ORT_NODISCARD ort_err cp_admin_may_change(const cp_admin *who, ort_tenant_id tenant,
                                          ort_diag *diag);

/* tenant: of a tenant-admin, else 0. expires_at_ms 0 = never. token_out is shown once. Op
 * admin-token.create. */
ORT_NODISCARD ort_err cp_admin_token_create(cp_tenancy *tenancy, const cp_author *author,
                                            const char *name, cp_role role, ort_tenant_id tenant,
                                            int64_t expires_at_ms,
                                            char token_out[ORT_TOKEN_TEXT_BYTES],
                                            cp_admin_token *out, uint64_t *version_out,
                                            ort_diag *diag);

/* ORT_ECONFLICT: it is the last live operator token. Twice is fine. Op admin-token.revoke. */
ORT_NODISCARD ort_err cp_admin_token_revoke(cp_tenancy *tenancy, const cp_author *author,
                                            const char *id, cp_admin_token *out,
                                            uint64_t *version_out, ort_diag *diag);
#endif /* CP_ADMIN_H */
