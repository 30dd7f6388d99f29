/* control-plane/tenancy/key.h: rules for API keys. Errors: tenancy.h. */
#ifndef CP_KEY_H
#define CP_KEY_H
#include "store/keys.h"
#include "tenancy/tenancy.h"

#define CP_TENANT_KEYS_MAX 1000 /* live ones */
#define CP_KEY_GRACE_S_DEFAULT 86400u
#define CP_KEY_GRACE_S_MAX 2592000u /* 30 days */

typedef struct {
    const char *name; /* NULL = "" */
    bool test_env;
    unsigned scopes;                  /* 0 = all */
    const cp_texts *collections;      /* globs; NULL or empty = all */
    uint64_t max_requests_per_minute; /* 0 or CP_UNLIMITED = only the plan's bound */
    int64_t expires_at_ms;            /* 0 = never; else in the future */
} cp_key_ask;

/* token_out is shown once and stored nowhere; the caller wipes it. ORT_EQUOTA: CP_TENANT_KEYS_MAX
 * live keys are there. ORT_ECONFLICT: the tenant is being deleted. Op key.create. */
ORT_NODISCARD ort_err cp_key_create(cp_tenancy *tenancy, const cp_author *author,
                                    ort_tenant_id tenant, const cp_key_ask *ask,
                                    char token_out[ORT_TOKEN_TEXT_BYTES], cp_key *out,
                                    uint64_t *version_out, ort_diag *diag);

/* A new key like the old one; the old one works on for grace_s (or until its own expiry, where that
 * is sooner) and then no more. ORT_ECONFLICT: the old one is not live, or was rotated before. Op
 * key.rotate; a denial when grace_s is 0. */
ORT_NODISCARD ort_err cp_key_rotate(cp_tenancy *tenancy, const cp_author *author,
                                    ort_tenant_id tenant, const char *id, uint32_t grace_s,
                                    char token_out[ORT_TOKEN_TEXT_BYTES], cp_key *new_out,
                                    cp_key *old_out, uint64_t *version_out, ort_diag *diag);

/* For good, at once. Twice is fine: *version_out is then that of the hub, which includes the first.
 * Op key.revoke, a denial. */
ORT_NODISCARD ort_err cp_key_revoke(cp_tenancy *tenancy, const cp_author *author,
                                    ort_tenant_id tenant, const char *id, cp_key *out,
                                    uint64_t *version_out, ort_diag *diag);
#endif /* CP_KEY_H */
