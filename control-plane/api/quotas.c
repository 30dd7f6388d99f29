/* control-plane/api/quotas.c: /v1/tenants/{tenant}/quota. */
#include "api/api_internal.h"
#include "tenancy/tenant.h"

static ort_err
render(cp_call *call, cp_tx *tx)
{
    ort_jw w = {.buf = &call->body};
    cp_tenant tenant;
    cp_quota quota;
    cp_limits limits;
    ort_err err = cp_call_tenant(call, tx, &tenant);

    if (err == ORT_OK) {
        err = cp_quota_get(tx, tenant.id, &quota, &call->diag);
    }
    if (err == ORT_OK) {
        err = cp_tenant_limits(tx, tenant.id, &limits, &call->diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    cp_call_set_etag(call, quota.revision);
    ort_jw_object(&w);
    cp_write_id(&w, "tenant", tenant.id.v);
    cp_write_text(&w, "plan", tenant.plan);
    cp_write_overrides(&w, "overrides", &quota.overrides);
    cp_write_limits(&w, "limits", &limits);
    ort_jw_key(&w, "usage");
    err = cp_write_usage(call, tx, &w, tenant.id);
    ort_jw_object_end(&w);
    return err;
}

void
cp_quotas_get(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render, NULL);
}

void
cp_quotas_put(ort_http_req *req, void *api)
{
    static const char *const members[] = {"overrides", NULL};
    cp_overrides overrides = {0};
    uint64_t revision = 0;
    const uint64_t *expect = NULL;
    ort_tenant_id id = {0};
    bool given = false;
    cp_call call;
    cp_quota row;
    ort_json body;

    if (!cp_call_begin(&call, req, api, 200, render, NULL)) {
        return;
    }
    ort_err err = cp_call_tenant_id(&call, &id);
    if (err == ORT_OK) {
        err = cp_call_if_match(&call, &revision, &expect);
    }
    if (err == ORT_OK) {
        err = cp_call_object(&call, members, false, &body);
    }
    if (err == ORT_OK) {
        err = cp_body_limits(&call, body, "overrides", &overrides, &given);
    }
    if (err == ORT_OK && !given) {
        err = ort_fail(&call.diag, ORT_EVALIDATE, "'overrides' is missing");
    }
    if (err == ORT_OK) {
        err = cp_quota_set(call.api->options.tenancy, &call.author, id, expect, &overrides, &row,
                           NULL, &call.diag);
    }
    cp_call_end(&call, err);
}
