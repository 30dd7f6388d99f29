/* Rules for API keys. */
#include "tenancy/key.h"

#include <string.h>

#include "store/tenants.h"
#include "tenancy/tenancy_internal.h"

static ort_err
check_ask(const cp_key_ask *ask, ort_diag *diag)
{
    ort_err err = ask->name != NULL ? cp_check_display("name", ask->name, diag) : ORT_OK;
    if (err == ORT_OK && (ask->scopes & ~CP_SCOPES_ALL) != 0) {
        err = ort_fail(diag, ORT_EVALIDATE, "scopes: there is no such scope");
    }
    for (const char *t = ask->collections != NULL ? cp_texts_first(ask->collections) : NULL;
         t != NULL && err == ORT_OK; t = cp_texts_next(ask->collections, t)) {
        err = cp_check_glob(t, strlen(t), diag);
    }
    if (err == ORT_OK && ask->max_requests_per_minute > CP_LIMIT_VALUE_MAX &&
        ask->max_requests_per_minute != CP_UNLIMITED) {
        err = ort_fail(diag, ORT_EVALIDATE, "max_requests_per_minute is over %llu",
                       (unsigned long long)CP_LIMIT_VALUE_MAX);
    }
    return err;
}

/* The tenant may have new keys: it is there, not on its way out, and below its bound. */
static ort_err
check_tenant(cp_tx *tx, ort_tenant_id id, ort_diag *diag)
{
    cp_tenant tenant;
    uint64_t live = 0;
    ort_err err = cp_tenant_get(tx, id, &tenant, diag);
    if (err == ORT_OK && tenant.state == CP_TENANT_DELETED) {
        err = ort_fail(diag, ORT_ENOTFOUND, "no such tenant");
    } else if (err == ORT_OK && tenant.state == CP_TENANT_DELETING) {
        err = ort_fail(diag, ORT_ECONFLICT, "tenant %s is being deleted", tenant.name);
    }
    if (err == ORT_OK) {
        err = cp_key_count(tx, id, cp_tx_now_ms(tx), &live, diag);
    }
    if (err == ORT_OK && live >= CP_TENANT_KEYS_MAX) {
        err = ort_fail(diag, ORT_EQUOTA, "the tenant has %llu live keys, %d at most",
                       (unsigned long long)live, CP_TENANT_KEYS_MAX);
    }
    return err;
}

/* Makes the secret of a row whose other members stand, and puts it. */
static ort_err
put_new(cp_tenancy *tenancy, cp_tx *tx, const cp_author *author, cp_key *row,
        char token_out[ORT_TOKEN_TEXT_BYTES], ort_diag *diag)
{
    ort_token token;
    ort_token_make(&token, row->test_env ? ORT_TOKEN_TEST : ORT_TOKEN_LIVE, row->tenant, NULL);
    ort_key_id_format(token.id, row->id);
    ort_token_hash(&token, tenancy->o.secrets->pepper, &row->hash);
    ort_token_format(&token, token_out);
    ort_token_wipe(&token);
    row->created_at_ms = cp_tx_now_ms(tx);
    row->revoked_at_ms = 0;
    row->rotated_to[0] = '\0';
    row->last_used_ms = 0;
    row->revision = 0;
    cp_tenancy__copy(row->created_by, sizeof row->created_by, author->actor);
    return cp_key_put(tx, row, diag);
}

ort_err
cp_key_create(cp_tenancy *tenancy, const cp_author *author, ort_tenant_id tenant,
              const cp_key_ask *ask, char token_out[ORT_TOKEN_TEXT_BYTES], cp_key *out,
              uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_key row = {.tenant = tenant,
                  .test_env = ask->test_env,
                  .scopes = ask->scopes != 0 ? ask->scopes : CP_SCOPES_ALL,
                  .max_requests_per_minute = ask->max_requests_per_minute != 0
                                                 ? ask->max_requests_per_minute
                                                 : CP_UNLIMITED,
                  .expires_at_ms = ask->expires_at_ms};
    token_out[0] = '\0';
    ort_err err = check_ask(ask, diag);
    if (err != ORT_OK || (err = cp_store_begin(tenancy->o.store, author, &tx, diag)) != ORT_OK) {
        return err;
    }
    cp_tenancy__copy(row.name, sizeof row.name, ask->name != NULL ? ask->name : "");
    if (ask->collections != NULL) {
        row.collections = *ask->collections;
    }
    err = check_tenant(tx, tenant, diag);
    if (err == ORT_OK && ask->expires_at_ms != 0 && ask->expires_at_ms <= cp_tx_now_ms(tx)) {
        err = ort_fail(diag, ORT_EVALIDATE, "expires_at is not in the future");
    }
    if (err == ORT_OK) {
        err = put_new(tenancy, tx, author, &row, token_out, diag);
        *out = row;
    }
    const cp_change change = {.op = "key.create", .tenant = tenant};
    err = cp_tenancy__end(tx, err, &change, version_out, diag);
    if (err != ORT_OK) {
        ort_secret_wipe(token_out, ORT_TOKEN_TEXT_BYTES);
    }
    return err;
}

ort_err
cp_key_rotate(cp_tenancy *tenancy, const cp_author *author, ort_tenant_id tenant, const char *id,
              uint32_t grace_s, char token_out[ORT_TOKEN_TEXT_BYTES], cp_key *new_out,
              cp_key *old_out, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_key old, row;
    token_out[0] = '\0';
    if (grace_s > CP_KEY_GRACE_S_MAX) {
        return ort_fail(diag, ORT_EVALIDATE, "grace_s: %u is over %u", grace_s, CP_KEY_GRACE_S_MAX);
    }
    ort_err err = cp_store_begin(tenancy->o.store, author, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    const int64_t now = cp_tx_now_ms(tx), ends = now + (int64_t)grace_s * 1000;
    err = cp_key_get(tx, tenant, id, &old, diag);
    if (err == ORT_OK && !cp_key_is_live(&old, now)) {
        err = ort_fail(diag, ORT_ECONFLICT, "the key is %s", cp_key_state_name(&old, now));
    } else if (err == ORT_OK && old.rotated_to[0] != '\0') {
        err = ort_fail(diag, ORT_ECONFLICT, "the key was rotated to %s before", old.rotated_to);
    }
    if (err == ORT_OK) {
        err = check_tenant(tx, tenant, diag);
    }
    if (err == ORT_OK) {
        row = old;
        err = put_new(tenancy, tx, author, &row, token_out, diag);
    }
    if (err == ORT_OK) {
        if (grace_s == 0) {
            old.revoked_at_ms = now;
        } else if (old.expires_at_ms == 0 || old.expires_at_ms > ends) {
            old.expires_at_ms = ends;
        }
        cp_tenancy__copy(old.rotated_to, sizeof old.rotated_to, row.id);
        err = cp_key_put(tx, &old, diag);
        *new_out = row;
        *old_out = old;
    }
    const cp_change change = {.op = "key.rotate", .tenant = tenant, .denial = grace_s == 0};
    err = cp_tenancy__end(tx, err, &change, version_out, diag);
    if (err != ORT_OK) {
        ort_secret_wipe(token_out, ORT_TOKEN_TEXT_BYTES);
    }
    return err;
}

ort_err
cp_key_revoke(cp_tenancy *tenancy, const cp_author *author, ort_tenant_id tenant, const char *id,
              cp_key *out, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_key row;
    ort_err err = cp_store_begin(tenancy->o.store, author, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_key_get(tx, tenant, id, &row, diag);
    if (err == ORT_OK && row.revoked_at_ms == 0) {
        row.revoked_at_ms = cp_tx_now_ms(tx);
        err = cp_key_put(tx, &row, diag);
    }
    if (err == ORT_OK) {
        *out = row;
    }
    const cp_change change = {.op = "key.revoke", .tenant = tenant, .denial = true};
    return cp_tenancy__end(tx, err, &change, version_out, diag);
}
