/* The node's own pages: version, health, metrics, and the little a tenant may see of a cluster. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/api_internal.h"

ort_err
dp_api__root(dp_call *call)
{
    ort_buf out = {0};
    ort_jw w = {.buf = &out};

    ort_jw_object(&w);
    ort_jw_key(&w, "title");
    ort_jw_str(&w, "qdrant - vector search engine"); /* some tools tell the API by it */
    ort_jw_key(&w, "version");
    ort_jw_str(&w, DP_API_QDRANT_VERSION);
    ort_jw_key(&w, "orthant_version");
    ort_jw_str(&w, ORT_VERSION);
    ort_jw_object_end(&w);
    ort_http_reply_json(call->req, 200, &out);
    ort_buf_fini(&out);
    return ORT_OK;
}

ort_err
dp_api__healthz(dp_call *call)
{
    ort_http_reply_text(call->req, 200, "healthz check passed");
    return ORT_OK;
}

ort_err
dp_api__readyz(dp_call *call)
{
    const bool ready =
        atomic_load(&call->api->ready) && !ort_http_server_draining(ort_http_req_server(call->req));
    ort_http_reply_text(call->req, ready ? 200 : 503,
                        ready ? "all shards are ready" : "some shards are not ready");
    return ORT_OK;
}

/* Numbers about the node, not about any tenant who may ask: to be had on the machine itself, or
 * where the operator has opened them. */
ort_err
dp_api__metrics(dp_call *call)
{
    ort_buf out = {0};
    const char *remote = ort_http_req_remote(call->req);

    if (!call->api->config.metrics_public && strncmp(remote, "127.", 4) != 0) {
        ort_http_reply_text(call->req, 403,
                            "Forbidden: /metrics answers on loopback only (http.metrics_public)");
        return ORT_OK;
    }
    const ort_err err = ort_metrics_write(call->api->config.metrics, &out);
    if (err == ORT_OK) {
        ort_http_reply(call->req, 200, ORT_METRICS_CONTENT_TYPE, out.data, out.len);
    }
    ort_buf_fini(&out);
    return err;
}

/* A tenant sees one endpoint, whatever is behind it. Some clients ask this as their heartbeat. */
ort_err
dp_api__cluster(dp_call *call)
{
    ort_jw_object(&call->w);
    ort_jw_key(&call->w, "status");
    ort_jw_str(&call->w, "disabled");
    ort_jw_object_end(&call->w);
    return ORT_OK;
}

ort_err
dp_api__telemetry(dp_call *call)
{
    ort_jw *w = &call->w;
    char id[ORT_ID_TEXT_BYTES];
    dp_tenant_usage usage;

    ort_id_format(dp_tenant_id(call->pass.tenant).v, id);
    dp_tenant_get_usage(call->pass.tenant, &usage);
    ort_jw_object(w);
    ort_jw_key(w, "id");
    ort_jw_str(w, id);
    ort_jw_key(w, "app");
    ort_jw_object(w);
    ort_jw_key(w, "name");
    ort_jw_str(w, "orthant");
    ort_jw_key(w, "version");
    ort_jw_str(w, DP_API_QDRANT_VERSION);
    ort_jw_key(w, "jwt_rbac");
    ort_jw_bool(w, false);
    ort_jw_object_end(w);
    ort_jw_key(w, "collections");
    ort_jw_object(w);
    ort_jw_key(w, "number_of_collections");
    ort_jw_u64(w, usage.collections);
    ort_jw_object_end(w);
    ort_jw_object_end(w);
    return ORT_OK;
}
