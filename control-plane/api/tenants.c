/* control-plane/api/tenants.c: /v1/tenants. */
#include "tenancy/tenant.h"

#include <inttypes.h>
#include <stdio.h>

#include "api/api_internal.h"

static ort_err
write_tenant(cp_call *call, cp_tx *tx, ort_jw *w, const cp_tenant *row)
{
    cp_limits limits;
    cp_quota quota;
    ort_err err = cp_tenant_limits(tx, row->id, &limits, &call->diag);

    if (err == ORT_OK) {
        err = cp_quota_get(tx, row->id, &quota, &call->diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    ort_jw_object(w);
    cp_write_id(w, "id", row->id.v);
    cp_write_text(w, "name", row->name);
    cp_write_text(w, "display_name", row->display);
    cp_write_text(w, "plan", row->plan);
    cp_write_text(w, "state", cp_tenant_state_name(row->state));
    cp_write_texts(w, "regions", &row->regions);
    cp_write_u64(w, "max_stale_s", row->max_stale_s);
    cp_write_overrides(w, "overrides", &quota.overrides);
    cp_write_limits(w, "limits", &limits);
    ort_jw_key(w, "usage");
    err = cp_write_usage(call, tx, w, row->id);
    ort_jw_key(w, "placement");
    if (err == ORT_OK) {
        err = cp_write_placement(call, tx, w, row->id);
    }
    cp_write_time(w, "created_at", row->created_at_ms);
    cp_write_time(w, "updated_at", row->updated_at_ms);
    ort_jw_object_end(w);
    return err;
}

typedef struct {
    cp_list list;
    cp_tx *tx;
} tenant_list;

static ort_err
visit(void *ctx, const cp_tenant *row)
{
    tenant_list *t = ctx;
    char id[ORT_ID_TEXT_BYTES];

    ort_id_format(row->id.v, id);
    if (!cp_list_take(&t->list, id)) {
        return ORT_OK;
    }
    return write_tenant(t->list.call, t->tx, &t->list.w, row);
}

static ort_err
render_list(cp_call *call, cp_tx *tx)
{
    tenant_list t = {.tx = tx};
    ort_err err = cp_list_begin(&t.list, call, "tenants");

    if (err == ORT_OK) {
        cp_tenant_query query = {.page = t.list.page};
        err = cp_tenant_list(tx, &query, visit, &t, &call->diag);
    }
    cp_list_end(&t.list);
    return err;
}

void
cp_tenants_list(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render_list, NULL);
}

static ort_err
render_row(cp_call *call, cp_tx *tx, const cp_tenant *row)
{
    ort_jw w = {.buf = &call->body};

    cp_call_set_etag(call, row->revision);
    if (call->status == 201) {
        snprintf(call->location, sizeof call->location, "/v1/tenants/%016" PRIx64, row->id.v);
    }
    return write_tenant(call, tx, &w, row);
}

/* The tenant of the path. */
static ort_err
render(cp_call *call, cp_tx *tx)
{
    cp_tenant row;
    ort_err err = cp_call_tenant(call, tx, &row);

    return err == ORT_OK ? render_row(call, tx, &row) : err;
}

/* ctx: the new tenant's name. */
static ort_err
render_new(cp_call *call, cp_tx *tx)
{
    cp_tenant row;
    ort_err err = cp_tenant_get_by_name(tx, call->ctx, &row, &call->diag);

    return err == ORT_OK ? render_row(call, tx, &row) : err;
}

void
cp_tenants_get(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render, NULL);
}

/* Members that create and update share. */
typedef struct {
    char display[CP_DISPLAY_BYTES];
    char plan[CP_SLUG_BYTES];
    cp_texts regions;
    uint64_t max_stale_s;
    bool has_display, has_plan, has_regions, has_stale;
} facts;

static ort_err
read_facts(cp_call *call, ort_json body, facts *f)
{
    ort_err err =
        cp_body_text(call, body, "display_name", f->display, sizeof f->display, &f->has_display);

    if (err == ORT_OK) {
        err = cp_body_text(call, body, "plan", f->plan, sizeof f->plan, &f->has_plan);
    }
    if (err == ORT_OK) {
        err = cp_body_texts(call, body, "regions", &f->regions, &f->has_regions);
    }
    if (err == ORT_OK) {
        err = cp_body_u64(call, body, "max_stale_s", 0, UINT32_MAX, &f->max_stale_s, &f->has_stale);
    }
    return err;
}

void
cp_tenants_create(ort_http_req *req, void *api)
{
    static const char *const members[] = {"name",        "display_name", "plan", "regions",
                                          "max_stale_s", "overrides",    NULL};
    char name[CP_SLUG_BYTES] = "";
    facts f = {0};
    cp_overrides overrides = {0};
    bool given = false;
    cp_call call;
    cp_tenant row;
    ort_json body;

    if (!cp_call_begin(&call, req, api, 201, render_new, name)) {
        return;
    }
    ort_err err = cp_call_object(&call, members, false, &body);
    if (err == ORT_OK) {
        err = cp_body_text(&call, body, "name", name, sizeof name, &given);
    }
    if (err == ORT_OK && !given) {
        err = ort_fail(&call.diag, ORT_EVALIDATE, "'name' is missing");
    }
    if (err == ORT_OK) {
        err = read_facts(&call, body, &f);
    }
    if (err == ORT_OK) {
        err = cp_body_limits(&call, body, "overrides", &overrides, &given);
    }
    if (err == ORT_OK) {
        cp_tenant_ask ask = {.name = name,
                             .display = f.display,
                             .plan = f.has_plan ? f.plan : NULL,
                             .regions = &f.regions,
                             .overrides = &overrides,
                             .max_stale_s = (uint32_t)f.max_stale_s};
        err =
            cp_tenant_create(call.api->options.tenancy, &call.author, &ask, &row, NULL, &call.diag);
    }
    cp_call_end(&call, err);
}

void
cp_tenants_update(ort_http_req *req, void *api)
{
    static const char *const members[] = {"display_name", "plan", "regions", "max_stale_s", NULL};
    facts f = {0};
    uint64_t revision = 0;
    const uint64_t *expect = NULL;
    ort_tenant_id id = {0};
    cp_call call;
    cp_tenant row;
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
        err = read_facts(&call, body, &f);
    }
    if (err == ORT_OK) {
        uint32_t stale = (uint32_t)f.max_stale_s;
        cp_tenant_patch patch = {.display = f.has_display ? f.display : NULL,
                                 .plan = f.has_plan ? f.plan : NULL,
                                 .regions = f.has_regions ? &f.regions : NULL,
                                 .max_stale_s = f.has_stale ? &stale : NULL};
        err = cp_tenant_update(call.api->options.tenancy, &call.author, id, expect, &patch, &row,
                               NULL, &call.diag);
    }
    cp_call_end(&call, err);
}

/* Gone at once when no node ever held it: then there is nothing left to show. */
static ort_err
render_deleted(cp_call *call, cp_tx *tx)
{
    const ort_tenant_id *id = call->ctx;
    cp_tenant row;
    ort_err err = cp_tenant_get(tx, *id, &row, &call->diag);

    if (err == ORT_OK && row.state == CP_TENANT_DELETED) {
        call->status = 204;
        return ORT_OK;
    }
    return err == ORT_OK ? render_row(call, tx, &row) : err;
}

void
cp_tenants_delete(ort_http_req *req, void *api)
{
    uint64_t revision = 0;
    const uint64_t *expect = NULL;
    ort_tenant_id id = {0};
    cp_call call;
    cp_tenant row;

    if (!cp_call_begin(&call, req, api, 202, render_deleted, &id)) {
        return;
    }
    ort_err err = cp_call_tenant_id(&call, &id);
    if (err == ORT_OK) {
        err = cp_call_if_match(&call, &revision, &expect);
    }
    if (err == ORT_OK) {
        err = cp_tenant_delete(call.api->options.tenancy, &call.author, id, expect, &row, NULL,
                               &call.diag);
    }
    cp_call_end(&call, err);
}

static void
suspend(ort_http_req *req, void *api, bool suspended)
{
    ort_tenant_id id = {0};
    cp_call call;
    cp_tenant row;

    if (!cp_call_begin(&call, req, api, 200, render, NULL)) {
        return;
    }
    ort_err err = cp_call_tenant_id(&call, &id);
    if (err == ORT_OK) {
        err = cp_tenant_suspend(call.api->options.tenancy, &call.author, id, NULL, suspended, &row,
                                NULL, &call.diag);
    }
    cp_call_end(&call, err);
}

void
cp_tenants_suspend(ort_http_req *req, void *api)
{
    suspend(req, api, true);
}

void
cp_tenants_resume(ort_http_req *req, void *api)
{
    suspend(req, api, false);
}
