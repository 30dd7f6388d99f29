/* Who may use the admin API. */
#include "tenancy/admin.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "store/hub.h"
#include "store/tenants.h"
#include "tenancy/tenancy_internal.h"

static ort_err
put_new(cp_tenancy *tenancy, cp_tx *tx, const char *actor, cp_admin_token *row,
        char token_out[ORT_TOKEN_TEXT_BYTES], ort_diag *diag)
{
    ort_token token;
    ort_token_make(&token, ORT_TOKEN_ADMIN, row->tenant, NULL);
    ort_key_id_format(token.id, row->id);
    ort_token_hash(&token, tenancy->o.secrets->pepper, &row->hash);
    ort_token_format(&token, token_out);
    ort_token_wipe(&token);
    row->created_at_ms = cp_tx_now_ms(tx);
    cp_tenancy__copy(row->created_by, sizeof row->created_by, actor);
    return cp_admin_token_put(tx, row, diag);
}

ort_err
cp_admin_bootstrap(cp_tenancy *tenancy, char token_out[ORT_TOKEN_TEXT_BYTES], ort_diag *diag)
{
    cp_tx *tx;
    cp_hub hub;
    cp_admin_token row = {.name = "bootstrap", .role = CP_ROLE_OPERATOR};
    token_out[0] = '\0';
    ort_err err = cp_store_begin(tenancy->o.store, &cp_author_system, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_hub_get(tx, &hub, diag);
    if (err == ORT_OK && hub.bootstrapped) {
        cp_tx_end(tx);
        return ORT_OK;
    }
    if (err == ORT_OK) {
        err = put_new(tenancy, tx, "system", &row, token_out, diag);
    }
    if (err == ORT_OK) {
        err = cp_hub_set_bootstrapped(tx, diag);
    }
    err = cp_tenancy__end(tx, err, &(cp_change){.op = "admin.bootstrap"}, NULL, diag);
    if (err != ORT_OK) {
        ort_secret_wipe(token_out, ORT_TOKEN_TEXT_BYTES);
    }
    return err;
}

ort_err
cp_admin_recover(cp_tenancy *tenancy, char token_out[ORT_TOKEN_TEXT_BYTES], ort_diag *diag)
{
    cp_tx *tx;
    cp_admin_token row = {.name = "recovery", .role = CP_ROLE_OPERATOR};
    token_out[0] = '\0';
    ort_err err = cp_store_begin(tenancy->o.store, &cp_author_system, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = put_new(tenancy, tx, "system", &row, token_out, diag);
    err = cp_tenancy__end(tx, err, &(cp_change){.op = "admin.recover"}, NULL, diag);
    if (err != ORT_OK) {
        ort_secret_wipe(token_out, ORT_TOKEN_TEXT_BYTES);
    }
    return err;
}

static ort_err
unknown(ort_diag *diag)
{
    return ort_fail(diag, ORT_EAUTH, "the bearer token is missing, unknown, revoked or expired");
}

ort_err
cp_admin_authenticate(cp_tenancy *tenancy, const char *text, size_t len, cp_admin *out,
                      ort_diag *diag)
{
    cp_tx *tx;
    ort_token token;
    cp_admin_token row = {0};
    char id[ORT_TOKEN_ID_TEXT_BYTES];
    if (ort_token_parse(text, len, &token) != ORT_OK || token.kind != ORT_TOKEN_ADMIN) {
        return unknown(diag);
    }
    ort_key_id_format(token.id, id);
    ort_err err = cp_store_begin_read(tenancy->o.store, &tx, diag);
    if (err != ORT_OK) {
        ort_token_wipe(&token);
        return err;
    }
    err = cp_admin_token_get(tx, id, &row, NULL);
    cp_tx_end(tx);
    /* An unknown id is compared too, with the hash of nothing. */
    const bool matches = ort_token_matches(&token, tenancy->o.secrets->pepper, &row.hash);
    ort_token_wipe(&token);
    if (err != ORT_OK && err != ORT_ENOTFOUND) {
        return ort_fail(diag, err, "read the admin tokens");
    }
    if (err != ORT_OK || !matches || !cp_admin_token_is_live(&row, ort_wall_ms())) {
        return unknown(diag);
    }
    *out = (cp_admin){.role = row.role, .tenant = row.tenant};
    cp_tenancy__copy(out->token, sizeof out->token, row.id);
    cp_tenancy__copy(out->name, sizeof out->name, row.name);
    snprintf(out->actor, sizeof out->actor, "%s:%s", cp_role_name(row.role), row.id);
    return ORT_OK;
}

ort_err
cp_admin_may_read(const cp_admin *who, ort_tenant_id tenant, ort_diag *diag)
{
    if (who->role != CP_ROLE_TENANT_ADMIN) {
        return ORT_OK;
    }
    if (tenant.v == 0) {
        return ort_fail(diag, ORT_EDENIED, "a tenant-admin reaches its own tenant only");
    }
    return tenant.v == who->tenant.v ? ORT_OK : ort_fail(diag, ORT_ENOTFOUND, "no such tenant");
}

ort_err
cp_admin_may_change(const cp_admin *who, ort_tenant_id tenant, ort_diag *diag)
{
    if (who->role == CP_ROLE_VIEWER) {
        return ort_fail(diag, ORT_EDENIED, "a viewer changes nothing");
    }
    return cp_admin_may_read(who, tenant, diag);
}

ort_err
cp_admin_token_create(cp_tenancy *tenancy, const cp_author *author, const char *name, cp_role role,
                      ort_tenant_id tenant, int64_t expires_at_ms,
                      char token_out[ORT_TOKEN_TEXT_BYTES], cp_admin_token *out,
                      uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_tenant owner;
    cp_admin_token row = {.role = role, .tenant = tenant, .expires_at_ms = expires_at_ms};
    token_out[0] = '\0';
    ort_err err = cp_check_display("name", name, diag);
    if (err == ORT_OK && role >= CP_ROLE_COUNT) {
        err = ort_fail(diag, ORT_EVALIDATE, "there is no such role");
    }
    if (err == ORT_OK && (role == CP_ROLE_TENANT_ADMIN) != (tenant.v != 0)) {
        err =
            ort_fail(diag, ORT_EVALIDATE, "tenant: a tenant-admin has one, other roles have none");
    }
    if (err != ORT_OK || (err = cp_store_begin(tenancy->o.store, author, &tx, diag)) != ORT_OK) {
        return err;
    }
    if (tenant.v != 0) {
        err = cp_tenant_get(tx, tenant, &owner, diag);
        if (err == ORT_OK && owner.state >= CP_TENANT_DELETING) {
            err = ort_fail(diag, ORT_ECONFLICT, "tenant %s is being deleted", owner.name);
        }
    }
    if (err == ORT_OK && expires_at_ms != 0 && expires_at_ms <= cp_tx_now_ms(tx)) {
        err = ort_fail(diag, ORT_EVALIDATE, "expires_at is not in the future");
    }
    if (err == ORT_OK) {
        cp_tenancy__copy(row.name, sizeof row.name, name);
        err = put_new(tenancy, tx, author->actor, &row, token_out, diag);
        *out = row;
    }
    const cp_change change = {.op = "admin-token.create", .tenant = tenant};
    err = cp_tenancy__end(tx, err, &change, version_out, diag);
    if (err != ORT_OK) {
        ort_secret_wipe(token_out, ORT_TOKEN_TEXT_BYTES);
    }
    return err;
}

ort_err
cp_admin_token_revoke(cp_tenancy *tenancy, const cp_author *author, const char *id,
                      cp_admin_token *out, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_admin_token row;
    uint64_t operators = 0;
    ort_err err = cp_store_begin(tenancy->o.store, author, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    const int64_t now = cp_tx_now_ms(tx);
    err = cp_admin_token_get(tx, id, &row, diag);
    if (err == ORT_OK && row.role == CP_ROLE_OPERATOR && cp_admin_token_is_live(&row, now)) {
        err = cp_admin_token_count_operators(tx, now, &operators, diag);
        if (err == ORT_OK && operators <= 1) {
            err = ort_fail(diag, ORT_ECONFLICT,
                           "this is the last operator token: make another one first");
        }
    }
    if (err == ORT_OK && row.revoked_at_ms == 0) {
        row.revoked_at_ms = now;
        err = cp_admin_token_put(tx, &row, diag);
    }
    if (err == ORT_OK) {
        *out = row;
    }
    /* In the tenant's own audit too, where the token was one of its admins'. */
    const cp_change change = {.op = "admin-token.revoke",
                              .tenant = err == ORT_OK ? row.tenant : (ort_tenant_id){0}};
    return cp_tenancy__end(tx, err, &change, version_out, diag);
}
