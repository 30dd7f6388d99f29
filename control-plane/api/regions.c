/* control-plane/api/regions.c: /v1/regions. */
#include <stdio.h>

#include "api/api_internal.h"
#include "tenancy/region.h"

static void
write_region(ort_jw *w, const cp_region *row)
{
    ort_jw_object(w);
    cp_write_text(w, "name", row->name);
    cp_write_text(w, "display_name", row->display);
    cp_write_time(w, "created_at", row->created_at_ms);
    ort_jw_object_end(w);
}

static ort_err
visit(void *ctx, const cp_region *row)
{
    cp_list *list = ctx;

    if (cp_list_take(list, row->name)) {
        write_region(&list->w, row);
    }
    return ORT_OK;
}

static ort_err
render_list(cp_call *call, cp_tx *tx)
{
    cp_list list;
    ort_err err = cp_list_begin(&list, call, "regions");

    if (err == ORT_OK) {
        err = cp_region_list(tx, list.page, visit, &list, &call->diag);
    }
    cp_list_end(&list);
    return err;
}

void
cp_regions_list(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render_list, NULL);
}

/* ctx: the region's name. */
static ort_err
render(cp_call *call, cp_tx *tx)
{
    cp_region row;
    ort_jw w = {.buf = &call->body};
    ort_err err = cp_region_get(tx, call->ctx, &row, &call->diag);

    if (err == ORT_OK) {
        write_region(&w, &row);
        if (call->status == 201) {
            snprintf(call->location, sizeof call->location, "/v1/regions/%s", row.name);
        }
    }
    return err;
}

void
cp_regions_create(ort_http_req *req, void *api)
{
    static const char *const members[] = {"name", "display_name", NULL};
    char name[CP_SLUG_BYTES] = "";
    char display[CP_DISPLAY_BYTES] = "";
    bool given = false;
    cp_call call;
    cp_region row;
    ort_json body;

    if (!cp_call_begin(&call, req, api, 201, render, name)) {
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
        err = cp_body_text(&call, body, "display_name", display, sizeof display, &given);
    }
    if (err == ORT_OK) {
        err = cp_region_create(call.api->options.tenancy, &call.author, name, display, &row, NULL,
                               &call.diag);
    }
    cp_call_end(&call, err);
}

void
cp_regions_get(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render, cp_call_param(req, "region"));
}

void
cp_regions_delete(ort_http_req *req, void *api)
{
    cp_call call;

    if (cp_call_begin(&call, req, api, 204, cp_call_render_nothing, NULL)) {
        cp_call_end(&call, cp_region_delete(call.api->options.tenancy, &call.author,
                                            ort_http_req_param(req, "region"), NULL, &call.diag));
    }
}
