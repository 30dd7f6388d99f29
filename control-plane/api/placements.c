/* control-plane/api/placements.c: /v1/tenants/{tenant}/placement, and what others show of it. */
#include "store/placements.h"

#include "api/api_internal.h"
#include "store/nodes.h"

static void
write_or_null(ort_jw *w, const char *name, const char *text)
{
    ort_jw_key(w, name);
    if (text == NULL) {
        ort_jw_null(w);
    } else {
        ort_jw_str(w, text);
    }
}

ort_err
cp_write_placement(cp_call *call, cp_tx *tx, ort_jw *w, ort_tenant_id tenant)
{
    cp_home home = {0};
    cp_node node = {0};
    cp_fleet_status status = {0};
    char id[ORT_ID_TEXT_BYTES];
    ort_err err = cp_home_get(tx, tenant, &home, &call->diag);
    bool placed = err == ORT_OK;

    if (placed) {
        err = cp_node_get(tx, home.home, &node, &call->diag);
        cp_fleet_status_of(call->api->options.fleet, home.home, &status);
        ort_id_format(home.home.v, id);
    } else if (err == ORT_ENOTFOUND) {
        err = ORT_OK;
    }
    if (err != ORT_OK) {
        return err;
    }
    ort_jw_object(w);
    cp_write_id(w, "tenant", tenant.v);
    write_or_null(w, "node", placed ? id : NULL);
    write_or_null(w, "region", placed ? node.region : NULL);
    write_or_null(w, "zone", placed ? node.zone : NULL);
    write_or_null(w, "endpoint", placed ? node.endpoint : NULL);
    write_or_null(w, "health", placed ? cp_health_name(status.health) : NULL);
    cp_write_u64(w, "epoch", home.epoch);
    ort_jw_object_end(w);
    return ORT_OK;
}

static ort_err
render(cp_call *call, cp_tx *tx)
{
    ort_jw w = {.buf = &call->body};
    cp_tenant tenant;
    ort_err err = cp_call_tenant(call, tx, &tenant);

    return err == ORT_OK ? cp_write_placement(call, tx, &w, tenant.id) : err;
}

void
cp_placements_get(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render, NULL);
}
