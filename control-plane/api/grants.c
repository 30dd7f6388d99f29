/* control-plane/api/grants.c: /v1/tenants/{tenant}/grants: leave to back a tenant up, restore or
 * clone it. The data itself goes between the client and the node, however large it is; this only
 * says which node, and signs that it may. */
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/log.h"
#include "store/nodes.h"
#include "store/placements.h"
#include "tenancy/grant.h"

static const ort_log log_ = {"api"};

typedef struct {
    ort_grant_op op;
    char from[CP_SLUG_BYTES]; /* clone: id or name of another tenant */
    ort_grant grant;
    cp_tenant tenant;
    cp_node node;
    char text[ORT_GRANT_TEXT_BYTES]; /* of the grant */
} ask;

/* A tenant that is there to be moved, and where. */
static ort_err
home_of(cp_call *call, cp_tx *tx, const cp_tenant *tenant, cp_home *home)
{
    if (tenant->state == CP_TENANT_DELETING || tenant->state == CP_TENANT_DELETED) {
        return ort_fail(&call->diag, ORT_ECONFLICT, "tenant %s is being deleted", tenant->name);
    }
    const ort_err err = cp_home_get(tx, tenant->id, home, &call->diag);
    return err == ORT_ENOTFOUND
               ? ort_fail(&call->diag, ORT_ECONFLICT, "tenant %s has no node yet", tenant->name)
               : err;
}

/* The tenant that is cloned: one that the caller may see. */
static ort_err
find_from(cp_call *call, cp_tx *tx, const char *text, cp_tenant *out)
{
    ort_err err = cp_tenant_find(tx, text, out, &call->diag);
    if (err == ORT_OK && call->who->role == CP_ROLE_TENANT_ADMIN &&
        call->who->tenant.v != out->id.v) {
        err = ORT_ENOTFOUND;
    }
    return err == ORT_ENOTFOUND ? ort_fail(&call->diag, err, "no tenant '%.63s'", text) : err;
}

/* What the grant will be for, as the store is now. */
static ort_err
look_up(cp_call *call, cp_tx *tx, ask *a)
{
    cp_tenant from;
    cp_home home, from_home;
    ort_grant *grant = &a->grant;
    ort_err err = cp_call_tenant(call, tx, &a->tenant);
    if (err == ORT_OK) {
        err = home_of(call, tx, &a->tenant, &home);
    }
    if (err == ORT_OK && a->op == ORT_GRANT_CLONE) {
        err = find_from(call, tx, a->from, &from);
        if (err == ORT_OK) {
            err = home_of(call, tx, &from, &from_home);
        }
        if (err == ORT_OK && from.id.v == a->tenant.id.v) {
            err = ort_fail(&call->diag, ORT_EVALIDATE, "'from' is the tenant itself");
        } else if (err == ORT_OK && from_home.home.v != home.home.v) {
            err = ort_fail(&call->diag, ORT_ECONFLICT,
                           "%s and %s have their homes on two nodes: back the one up and restore "
                           "the other from it",
                           from.name, a->tenant.name);
        }
        grant->from = err == ORT_OK ? from.id : (ort_tenant_id){0};
    }
    if (err == ORT_OK) {
        err = cp_node_get(tx, home.home, &a->node, &call->diag);
    }
    if (err == ORT_OK) {
        grant->op = a->op;
        grant->tenant = a->tenant.id;
        grant->node = home.home;
    }
    return err;
}

static ort_err
issue(cp_call *call, ask *a)
{
    cp_tx *tx = NULL;
    ort_err err = cp_store_begin_read(call->api->options.store, &tx, &call->diag);
    if (err == ORT_OK) {
        err = look_up(call, tx, a);
    }
    cp_tx_end(tx);
    if (err == ORT_OK) {
        err = cp_grant_issue(call->api->options.tenancy, &call->author, &a->grant, a->text, NULL,
                             &call->diag);
    }
    return err;
}

static ort_err
render(cp_call *call, cp_tx *tx)
{
    const ask *a = call->ctx;
    ort_jw w = {.buf = &call->body};
    (void)tx;
    ort_jw_object(&w);
    cp_write_text(&w, "op", ort_grant_op_name(a->grant.op));
    cp_write_id(&w, "tenant", a->tenant.id.v);
    cp_write_id(&w, "node", a->grant.node.v);
    cp_write_text(&w, "endpoint", a->node.endpoint);
    cp_write_text(&w, "grant", a->text);
    cp_write_time(&w, "expires_at", a->grant.expires_ms);
    ort_jw_object_end(&w);
    return ORT_OK;
}

void
cp_grants_create(ort_http_req *req, void *api)
{
    static const char *const members[] = {"op", "from", NULL};
    char op[16] = "";
    ask a = {.from = ""};
    bool given = false, from_given = false;
    cp_call call;
    ort_json body;

    if (!cp_call_begin(&call, req, api, 201, render, &a)) {
        return;
    }
    ort_err err = cp_call_object(&call, members, false, &body);
    if (err == ORT_OK) {
        err = cp_body_text(&call, body, "op", op, sizeof op, &given);
    }
    if (err == ORT_OK) {
        err = cp_body_text(&call, body, "from", a.from, sizeof a.from, &from_given);
    }
    if (err == ORT_OK) {
        a.op = ort_grant_op_by_name(op);
        if (a.op == 0) {
            err = ort_fail(&call.diag, ORT_EVALIDATE, "'op' is none of backup, restore, clone");
        } else if (from_given != (a.op == ORT_GRANT_CLONE)) {
            err = ort_fail(&call.diag, ORT_EVALIDATE,
                           "'from' names the tenant that is cloned, and belongs to clone alone");
        }
    }
    if (err == ORT_OK) {
        err = issue(&call, &a);
    }
    if (err == ORT_OK) {
        ORT_LOG_INFO(&log_, "grant.issued", "op=%s tenant=%s node=%s actor=%s request_id=%s",
                     ort_grant_op_name(a.op), a.tenant.name, a.node.name, call.who->actor,
                     ort_http_req_id(call.req));
    }
    cp_call_end(&call, err);
    ort_secret_wipe(a.text, sizeof a.text);
}
