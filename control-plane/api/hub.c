/* control-plane/api/hub.c: the hub itself: health, metrics, its document, who is asking. */
#include "store/hub.h"

#include "api/api_internal.h"
#include "api/openapi.h"

void
cp_hub_health(ort_http_req *req, void *api)
{
    (void)api;
    ort_http_reply_text(req, 200, "ok\n");
}

void
cp_hub_ready(ort_http_req *req, void *user)
{
    cp_api *api = user;
    cp_tx *tx = NULL;
    cp_hub hub;
    ort_diag diag = {0};
    ort_err err = ort_http_server_draining(api->server)
                      ? ort_fail(&diag, ORT_EBUSY, "draining")
                      : cp_store_begin_read(api->options.store, &tx, &diag);

    if (err == ORT_OK) {
        err = cp_hub_get(tx, &hub, &diag);
    }
    cp_tx_end(tx);
    if (err == ORT_OK) {
        ort_http_reply_text(req, 200, "ready\n");
    } else {
        ort_http_problem(req, ORT_EBUSY, &diag);
    }
}

void
cp_hub_metrics(ort_http_req *req, void *user)
{
    cp_api *api = user;
    ort_buf text = {0};

    if (ort_metrics_write(api->options.metrics, &text) == ORT_OK) {
        ort_http_reply(req, 200, ORT_METRICS_CONTENT_TYPE, text.data, text.len);
    } else {
        ort_http_problem(req, ORT_ENOMEM, NULL);
    }
    ort_buf_fini(&text);
}

void
cp_hub_openapi(ort_http_req *req, void *api)
{
    (void)api;
    ort_http_reply(req, 200, "application/json", cp_openapi_json, cp_openapi_json_len);
}

static ort_err
render_whoami(cp_call *call, cp_tx *tx)
{
    ort_jw w = {.buf = &call->body};

    (void)tx;
    ort_jw_object(&w);
    cp_write_text(&w, "token", call->who->token);
    cp_write_text(&w, "name", call->who->name);
    cp_write_text(&w, "role", cp_role_name(call->who->role));
    ort_jw_key(&w, "tenant");
    if (call->who->role == CP_ROLE_TENANT_ADMIN) {
        char id[ORT_ID_TEXT_BYTES];
        ort_id_format(call->who->tenant.v, id);
        ort_jw_str(&w, id);
    } else {
        ort_jw_null(&w);
    }
    ort_jw_object_end(&w);
    return ORT_OK;
}

void
cp_hub_whoami(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render_whoami, NULL);
}

static ort_err
render_hub(cp_call *call, cp_tx *tx)
{
    ort_jw w = {.buf = &call->body};
    cp_hub hub;
    cp_fleet_stats fleet;
    ort_sign_public key;
    uint64_t tenants = 0;
    char hex[2 * ORT_SIGN_PUBLIC_BYTES + 1];
    ort_err err = cp_hub_get(tx, &hub, &call->diag);

    if (err == ORT_OK) {
        err = cp_tenant_count(tx, &tenants, &call->diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    cp_fleet_stats_get(call->api->options.fleet, &fleet);
    cp_push_public(call->api->options.push, &key);
    ort_hex_format(key.b, sizeof key.b, hex);
    ort_jw_object(&w);
    cp_write_id(&w, "id", hub.hub_id);
    cp_write_u64(&w, "generation", hub.generation);
    cp_write_u64(&w, "version", hub.version);
    cp_write_text(&w, "control_pubkey", hex);
    ort_jw_key(&w, "nodes");
    ort_jw_object(&w);
    for (unsigned i = 0; i < CP_HEALTH_COUNT; i++) {
        cp_write_u64(&w, cp_health_name((cp_health)i), fleet.nodes[i]);
    }
    ort_jw_object_end(&w);
    cp_write_u64(&w, "tenants", tenants);
    cp_write_text(&w, "software", call->api->options.software);
    ort_jw_object_end(&w);
    return ORT_OK;
}

void
cp_hub_show(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render_hub, NULL);
}
