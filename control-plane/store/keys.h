/* control-plane/store/keys.h: API keys of tenants; only keyed hashes of them. */
#ifndef CP_KEYS_H
#define CP_KEYS_H
#include "crypto/hash.h"
#include "crypto/token.h"
#include "store/store.h"

typedef struct {
    char id[ORT_TOKEN_ID_TEXT_BYTES]; /* key: the public half, 24 characters */
    ort_tenant_id tenant;
    char name[CP_DISPLAY_BYTES];
    bool test_env; /* orth_test_ instead of orth_live_ */
    ort_hash hash;
    unsigned scopes;                  /* cp_scope bits */
    cp_texts collections;             /* globs; empty: all */
    uint64_t max_requests_per_minute; /* CP_UNLIMITED: only the plan's bound */
    char created_by[CP_ACTOR_BYTES];
    int64_t created_at_ms;
    int64_t expires_at_ms;                    /* 0: never */
    int64_t revoked_at_ms;                    /* 0: not */
    char rotated_to[ORT_TOKEN_ID_TEXT_BYTES]; /* "": not */
    int64_t last_used_ms;                     /* 0: never; an observation, not part of the row */
    uint64_t revision;
} cp_key;

/* "active", "expired" or "revoked" at that moment. */
const char *cp_key_state_name(const cp_key *key, int64_t now_ms);
static inline bool
cp_key_is_live(const cp_key *key, int64_t now_ms)
{
    return key->revoked_at_ms == 0 && (key->expires_at_ms == 0 || key->expires_at_ms > now_ms);
}

/* A key of another tenant is ORT_ENOTFOUND, as one that does not exist. */
ORT_NODISCARD ort_err cp_key_get(cp_tx *tx, ort_tenant_id tenant, const char *id, cp_key *out,
                                 ort_diag *diag);
ORT_NODISCARD ort_err cp_key_put(cp_tx *tx, cp_key *row, ort_diag *diag);

typedef ort_err (*cp_key_visit)(void *ctx, const cp_key *row);
/* By id. live_at_ms 0: all; else only those neither revoked nor expired at that time. */
ORT_NODISCARD ort_err cp_key_list(cp_tx *tx, ort_tenant_id tenant, int64_t live_at_ms, cp_page page,
                                  cp_key_visit visit, void *ctx, ort_diag *diag);
/* Neither revoked nor expired. */
ORT_NODISCARD ort_err cp_key_count(cp_tx *tx, ort_tenant_id tenant, int64_t now_ms, uint64_t *out,
                                   ort_diag *diag);

/* When the last one was used, as a node saw it: grows only. A note. An id that is not there is
 * passed over (the key was removed meanwhile). */
ORT_NODISCARD ort_err cp_key_used(cp_tx *tx, const char *id, int64_t at_ms, ort_diag *diag);

/* Removes keys that expired or were revoked before that time, so that rotation does not grow the
 * table for ever; *count_out of them. A change (`key.sweep`). */
ORT_NODISCARD ort_err cp_key_sweep(cp_tx *tx, int64_t before_ms, uint64_t *count_out,
                                   ort_diag *diag);
#endif /* CP_KEYS_H */
