/* control-plane/api/plans.c: /v1/plans. */
#include <stdio.h>

#include "api/api_internal.h"
#include "tenancy/plan.h"

static void
write_plan(ort_jw *w, const cp_plan *row)
{
    ort_jw_object(w);
    cp_write_text(w, "name", row->name);
    cp_write_text(w, "display_name", row->display);
    cp_write_limits(w, "limits", &row->limits);
    cp_write_time(w, "created_at", row->created_at_ms);
    cp_write_time(w, "updated_at", row->updated_at_ms);
    ort_jw_object_end(w);
}

static ort_err
visit(void *ctx, const cp_plan *row)
{
    cp_list *list = ctx;

    if (cp_list_take(list, row->name)) {
        write_plan(&list->w, row);
    }
    return ORT_OK;
}

static ort_err
render_list(cp_call *call, cp_tx *tx)
{
    cp_list list;
    ort_err err = cp_list_begin(&list, call, "plans");

    if (err == ORT_OK) {
        err = cp_plan_list(tx, list.page, visit, &list, &call->diag);
    }
    cp_list_end(&list);
    return err;
}

void
cp_plans_list(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render_list, NULL);
}

/* ctx: the plan's name. */
static ort_err
render(cp_call *call, cp_tx *tx)
{
    cp_plan row;
    ort_jw w = {.buf = &call->body};
    ort_err err = cp_plan_get(tx, call->ctx, &row, &call->diag);

    if (err == ORT_OK) {
        write_plan(&w, &row);
        cp_call_set_etag(call, row.revision);
        if (call->status == 201) {
            snprintf(call->location, sizeof call->location, "/v1/plans/%s", row.name);
        }
    }
    return err;
}

void
cp_plans_get(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render, cp_call_param(req, "plan"));
}

void
cp_plans_create(ort_http_req *req, void *api)
{
    static const char *const members[] = {"name", "display_name", "limits", NULL};
    char name[CP_SLUG_BYTES] = "";
    char display[CP_DISPLAY_BYTES] = "";
    cp_overrides given_limits = {0};
    cp_limits limits;
    bool has_name = false;
    bool has_limits = false;
    bool given = false;
    cp_call call;
    cp_plan row;
    ort_json body;

    if (!cp_call_begin(&call, req, api, 201, render, name)) {
        return;
    }
    ort_err err = cp_call_object(&call, members, false, &body);
    if (err == ORT_OK) {
        err = cp_body_text(&call, body, "name", name, sizeof name, &has_name);
    }
    if (err == ORT_OK) {
        err = cp_body_text(&call, body, "display_name", display, sizeof display, &given);
    }
    if (err == ORT_OK) {
        err = cp_body_limits(&call, body, "limits", &given_limits, &has_limits);
    }
    if (err == ORT_OK && (!has_name || !has_limits)) {
        err = ort_fail(&call.diag, ORT_EVALIDATE, "'%s' is missing", has_name ? "limits" : "name");
    }
    for (unsigned i = 0; i < CP_LIMIT_COUNT; i++) {
        limits.v[i] = given_limits.set[i] ? given_limits.to.v[i] : CP_UNLIMITED;
    }
    if (err == ORT_OK) {
        err = cp_plan_create(call.api->options.tenancy, &call.author, name, display, &limits, &row,
                             NULL, &call.diag);
    }
    cp_call_end(&call, err);
}

void
cp_plans_update(ort_http_req *req, void *api)
{
    static const char *const members[] = {"display_name", "limits", NULL};
    char display[CP_DISPLAY_BYTES] = "";
    cp_overrides patch = {0};
    uint64_t revision = 0;
    const uint64_t *expect = NULL;
    bool has_display = false;
    bool given = false;
    cp_call call;
    cp_plan row;
    ort_json body;

    if (!cp_call_begin(&call, req, api, 200, render, cp_call_param(req, "plan"))) {
        return;
    }
    ort_err err = cp_call_if_match(&call, &revision, &expect);
    if (err == ORT_OK) {
        err = cp_call_object(&call, members, false, &body);
    }
    if (err == ORT_OK) {
        err = cp_body_text(&call, body, "display_name", display, sizeof display, &has_display);
    }
    if (err == ORT_OK) {
        err = cp_body_limits(&call, body, "limits", &patch, &given);
    }
    if (err == ORT_OK) {
        err =
            cp_plan_update(call.api->options.tenancy, &call.author, ort_http_req_param(req, "plan"),
                           expect, has_display ? display : NULL, &patch, &row, NULL, &call.diag);
    }
    cp_call_end(&call, err);
}

void
cp_plans_delete(ort_http_req *req, void *api)
{
    uint64_t revision = 0;
    const uint64_t *expect = NULL;
    cp_call call;

    if (!cp_call_begin(&call, req, api, 204, cp_call_render_nothing, NULL)) {
        return;
    }
    ort_err err = cp_call_if_match(&call, &revision, &expect);
    if (err == ORT_OK) {
        err = cp_plan_delete(call.api->options.tenancy, &call.author,
                             ort_http_req_param(req, "plan"), expect, NULL, &call.diag);
    }
    cp_call_end(&call, err);
}
