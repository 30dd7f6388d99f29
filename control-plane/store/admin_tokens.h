/* control-plane/store/admin_tokens.h: bearer tokens of the admin API; only keyed hashes of them. */
#ifndef CP_ADMIN_TOKENS_H
#define CP_ADMIN_TOKENS_H
#include "crypto/hash.h"
#include "crypto/token.h"
#include "store/store.h"

typedef struct {
    char id[ORT_TOKEN_ID_TEXT_BYTES]; /* key */
    char name[CP_DISPLAY_BYTES];
    cp_role role;
    ort_tenant_id tenant; /* of a tenant-admin; else 0 */
    ort_hash hash;
    char created_by[CP_ACTOR_BYTES];
    int64_t created_at_ms;
    int64_t expires_at_ms; /* 0: never */
    int64_t revoked_at_ms; /* 0: not */
    uint64_t revision;
} cp_admin_token;

static inline bool
cp_admin_token_is_live(const cp_admin_token *t, int64_t now_ms)
{
    return t->revoked_at_ms == 0 && (t->expires_at_ms == 0 || t->expires_at_ms > now_ms);
}

ORT_NODISCARD ort_err cp_admin_token_get(cp_tx *tx, const char *id, cp_admin_token *out,
                                         ort_diag *diag);
ORT_NODISCARD ort_err cp_admin_token_put(cp_tx *tx, cp_admin_token *row, ort_diag *diag);
typedef ort_err (*cp_admin_token_visit)(void *ctx, const cp_admin_token *row);
/* By id. tenant 0 = all. */
ORT_NODISCARD ort_err cp_admin_token_list(cp_tx *tx, ort_tenant_id tenant, cp_page page,
                                          cp_admin_token_visit visit, void *ctx, ort_diag *diag);
/* Operators that are live: the last one cannot be revoked. */
ORT_NODISCARD ort_err cp_admin_token_count_operators(cp_tx *tx, int64_t now_ms, uint64_t *out,
                                                     ort_diag *diag);
#endif /* CP_ADMIN_TOKENS_H */
