/* data-plane/api/api.h: the data API: Qdrant's REST calls over the tenants of a node. */
#ifndef DP_API_H
#define DP_API_H
#include "gate/gate.h"
#include "http/http.h"
#include "metrics/metrics.h"
#include "routing/agent.h"
#include "routing/forward.h"
#include "tenant/tenant.h"

/* Opaque. From dp_api_new() to dp_api_free(); free(NULL) is allowed. The HTTP server that serves
 * it is freed first. Threads: any number. */
typedef struct dp_api dp_api;

/* What it borrows; all of it outlives the API. */
typedef struct {
    dp_gate *gate;
    dp_tenants *tenants;
    ort_metrics *metrics;
    bool metrics_public; /* /metrics answers off loopback too */
    /* Where requests for tenants of other nodes go; called per request, so that it may come up
     * after the API. May be NULL, and may give NULL: then this node forwards nothing. */
    dp_forward *(*forward)(void *arg);
    /* Whose grants open backup and restore; ORT_EBUSY: not known yet. NULL: nobody's. */
    ort_err (*hub)(void *arg, dp_agent_hub *out);
    void *arg;
} dp_api_config;

ORT_NODISCARD ort_err dp_api_new(dp_api **out, const dp_api_config *config);
void dp_api_free(dp_api *api);

/* Fills in routes, route_count and hooks of a server's options. */
void dp_api_serve(dp_api *api, ort_http_options *options);

/* Whether this node can answer: it has a table. readyz says 503 until then, and while the server
 * drains. */
void dp_api_set_ready(dp_api *api, bool ready);

/* A dp_forward_handler whose arg is the ort_http_server that serves the API: a request that came
 * from another node goes through the same gate and handlers as a local one. */
void dp_api_answer_forward(void *server, const ort_forward_request *request,
                           ort_forward_reply *reply, ort_buf *body_out);
#endif /* DP_API_H */
