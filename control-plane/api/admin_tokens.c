/* control-plane/api/admin_tokens.c: /v1/admin-tokens. */
#include <stdio.h>
#include <string.h>

#include "api/api_internal.h"

static void
write_token(ort_jw *w, const cp_admin_token *row, int64_t now_ms)
{
    const char *state = row->revoked_at_ms != 0               ? "revoked"
                        : cp_admin_token_is_live(row, now_ms) ? "active"
                                                              : "expired";

    ort_jw_object(w);
    cp_write_text(w, "id", row->id);
    cp_write_text(w, "name", row->name);
    cp_write_text(w, "role", cp_role_name(row->role));
    ort_jw_key(w, "tenant");
    if (row->tenant.v == 0) {
        ort_jw_null(w);
    } else {
        char id[ORT_ID_TEXT_BYTES];
        ort_id_format(row->tenant.v, id);
        ort_jw_str(w, id);
    }
    cp_write_text(w, "state", state);
    cp_write_time(w, "expires_at", row->expires_at_ms);
    cp_write_time(w, "created_at", row->created_at_ms);
    ort_jw_object_end(w);
}

static ort_err
visit(void *ctx, const cp_admin_token *row)
{
    cp_list *list = ctx;

    if (cp_list_take(list, row->id)) {
        write_token(&list->w, row, ort_wall_ms());
    }
    return ORT_OK;
}

static ort_err
render_list(cp_call *call, cp_tx *tx)
{
    cp_list list;
    ort_err err = cp_list_begin(&list, call, "admin-tokens");

    if (err == ORT_OK) {
        err = cp_admin_token_list(tx, (ort_tenant_id){0}, list.page, visit, &list, &call->diag);
    }
    cp_list_end(&list);
    return err;
}

void
cp_admin_tokens_list(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render_list, NULL);
}

typedef struct {
    char token[ORT_TOKEN_TEXT_BYTES];
    cp_admin_token row;
} new_token;

static ort_err
render_new(cp_call *call, cp_tx *tx)
{
    const new_token *n = call->ctx;
    ort_jw w = {.buf = &call->body};
    char id[ORT_TOKEN_ID_TEXT_BYTES];
    cp_admin_token row;
    ort_err err = cp_new_token_id(call, n->token, id);

    if (err != ORT_OK) {
        return err;
    }
    err = cp_admin_token_get(tx, id, &row, &call->diag);
    if (err == ORT_OK) {
        snprintf(call->location, sizeof call->location, "/v1/admin-tokens/%s", id);
        ort_jw_object(&w);
        ort_jw_key(&w, "admin_token");
        write_token(&w, &row, ort_wall_ms());
        cp_write_text(&w, "token", n->token);
        ort_jw_object_end(&w);
    }
    return err;
}

static ort_err
find_tenant(cp_call *call, const char *text, ort_tenant_id *out)
{
    cp_tx *tx = NULL;
    cp_tenant tenant = {0};
    ort_err err = cp_store_begin_read(call->api->options.store, &tx, &call->diag);

    if (err == ORT_OK) {
        err = cp_tenant_find(tx, text, &tenant, &call->diag);
    }
    cp_tx_end(tx);
    if (err == ORT_ENOTFOUND) {
        err = ort_fail(&call->diag, ORT_EVALIDATE, "no tenant '%s'", text);
    }
    if (err == ORT_OK) {
        *out = tenant.id;
    }
    return err;
}

void
cp_admin_tokens_create(ort_http_req *req, void *api)
{
    static const char *const members[] = {"name", "role", "tenant", "expires_at", NULL};
    char name[CP_DISPLAY_BYTES] = "";
    char role_name[32] = "";
    char tenant_text[CP_SLUG_BYTES] = "";
    int64_t expires_at_ms = 0;
    ort_tenant_id tenant = {0};
    cp_role role = CP_ROLE_COUNT;
    new_token new = {0};
    bool given = false;
    bool has_tenant = false;
    cp_call call;
    ort_json body;

    if (!cp_call_begin(&call, req, api, 201, render_new, &new)) {
        return;
    }
    ort_err err = cp_call_object(&call, members, false, &body);
    if (err == ORT_OK) {
        err = cp_body_text(&call, body, "name", name, sizeof name, &given);
    }
    if (err == ORT_OK) {
        err = cp_body_text(&call, body, "role", role_name, sizeof role_name, &given);
    }
    if (err == ORT_OK) {
        role = cp_role_by_name(role_name, strlen(role_name));
        if (role == CP_ROLE_COUNT) {
            err = ort_fail(&call.diag, ORT_EVALIDATE,
                           "'role' is none of operator, viewer, tenant-admin");
        }
    }
    if (err == ORT_OK) {
        err = cp_body_text(&call, body, "tenant", tenant_text, sizeof tenant_text, &has_tenant);
    }
    if (err == ORT_OK && has_tenant != (role == CP_ROLE_TENANT_ADMIN)) {
        err = ort_fail(&call.diag, ORT_EVALIDATE,
                       "'tenant' goes with the role tenant-admin, and only with it");
    }
    if (err == ORT_OK) {
        err = cp_body_time(&call, body, "expires_at", &expires_at_ms, &given);
    }
    if (err == ORT_OK && has_tenant) {
        err = find_tenant(&call, tenant_text, &tenant);
    }
    if (err == ORT_OK) {
        err = cp_admin_token_create(call.api->options.tenancy, &call.author, name, role, tenant,
                                    expires_at_ms, new.token, &new.row, NULL, &call.diag);
    }
    cp_call_end(&call, err);
    ort_secret_wipe(&new, sizeof new);
}

void
cp_admin_tokens_delete(ort_http_req *req, void *api)
{
    cp_admin_token row;
    cp_call call;

    if (cp_call_begin(&call, req, api, 204, cp_call_render_nothing, NULL)) {
        cp_call_end(&call, cp_admin_token_revoke(call.api->options.tenancy, &call.author,
                                                 ort_http_req_param(req, "token"), &row, NULL,
                                                 &call.diag));
    }
}
