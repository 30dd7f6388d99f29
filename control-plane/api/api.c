/* control-plane/api/api.c: the route table, and who is let in. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/log.h"

static const ort_log log_ = {"api"};

/* A tenant-admin is let in where MAY_TENANT stands, and the handler asks cp_call_tenant(). */
static const ort_http_route routes[] = {
    {.method = ORT_HTTP_GET,
     .pattern = "/healthz",
     .handler = cp_hub_health,
     .flags = ORT_HTTP_ROUTE_ALWAYS,
     .tag = MAY_ANYONE},
    {.method = ORT_HTTP_GET,
     .pattern = "/livez",
     .handler = cp_hub_health,
     .flags = ORT_HTTP_ROUTE_ALWAYS,
     .tag = MAY_ANYONE},
    {.method = ORT_HTTP_GET,
     .pattern = "/readyz",
     .handler = cp_hub_ready,
     .flags = ORT_HTTP_ROUTE_ALWAYS,
     .tag = MAY_ANYONE},
    {.method = ORT_HTTP_GET,
     .pattern = "/metrics",
     .handler = cp_hub_metrics,
     .flags = ORT_HTTP_ROUTE_ALWAYS,
     .tag = MAY_LOOPBACK | READ_HUB},
#define ROUTE(verb, path, may, fn)                                            \
    {                                                                         \
        .method = ORT_HTTP_##verb, .pattern = path, .handler = fn, .tag = may \
    }
    ROUTE(GET, "/openapi.json", MAY_ANYONE, cp_hub_openapi),
    ROUTE(GET, "/v1/whoami", READ_TENANT, cp_hub_whoami),
    ROUTE(GET, "/v1/hub", READ_HUB, cp_hub_show),
    ROUTE(GET, "/v1/regions", READ_HUB, cp_regions_list),
    ROUTE(POST, "/v1/regions", CHANGE_HUB, cp_regions_create),
    ROUTE(GET, "/v1/regions/{region}", READ_HUB, cp_regions_get),
    ROUTE(DELETE, "/v1/regions/{region}", CHANGE_HUB, cp_regions_delete),
    ROUTE(GET, "/v1/nodes", READ_HUB, cp_nodes_list),
    ROUTE(GET, "/v1/nodes/{node}", READ_HUB, cp_nodes_get),
    ROUTE(PATCH, "/v1/nodes/{node}", CHANGE_HUB, cp_nodes_update),
    ROUTE(DELETE, "/v1/nodes/{node}", CHANGE_HUB, cp_nodes_delete),
    ROUTE(POST, "/v1/nodes/{node}/cordon", CHANGE_HUB, cp_nodes_cordon),
    ROUTE(POST, "/v1/nodes/{node}/uncordon", CHANGE_HUB, cp_nodes_uncordon),
    ROUTE(GET, "/v1/join-tokens", READ_HUB, cp_join_tokens_list),
    ROUTE(POST, "/v1/join-tokens", CHANGE_HUB, cp_join_tokens_create),
    ROUTE(DELETE, "/v1/join-tokens/{token}", CHANGE_HUB, cp_join_tokens_delete),
    ROUTE(GET, "/v1/plans", READ_TENANT, cp_plans_list),
    ROUTE(POST, "/v1/plans", CHANGE_HUB, cp_plans_create),
    ROUTE(GET, "/v1/plans/{plan}", READ_TENANT, cp_plans_get),
    ROUTE(PATCH, "/v1/plans/{plan}", CHANGE_HUB, cp_plans_update),
    ROUTE(DELETE, "/v1/plans/{plan}", CHANGE_HUB, cp_plans_delete),
    ROUTE(GET, "/v1/tenants", READ_HUB, cp_tenants_list),
    ROUTE(POST, "/v1/tenants", CHANGE_HUB, cp_tenants_create),
    ROUTE(GET, "/v1/tenants/{tenant}", READ_TENANT, cp_tenants_get),
    ROUTE(PATCH, "/v1/tenants/{tenant}", CHANGE_HUB, cp_tenants_update),
    ROUTE(DELETE, "/v1/tenants/{tenant}", CHANGE_HUB, cp_tenants_delete),
    ROUTE(POST, "/v1/tenants/{tenant}/suspend", CHANGE_HUB, cp_tenants_suspend),
    ROUTE(POST, "/v1/tenants/{tenant}/resume", CHANGE_HUB, cp_tenants_resume),
    ROUTE(GET, "/v1/tenants/{tenant}/quota", READ_TENANT, cp_quotas_get),
    ROUTE(PUT, "/v1/tenants/{tenant}/quota", CHANGE_HUB, cp_quotas_put),
    ROUTE(GET, "/v1/tenants/{tenant}/placement", READ_TENANT, cp_placements_get),
    ROUTE(POST, "/v1/tenants/{tenant}/grants", CHANGE_TENANT, cp_grants_create),
    ROUTE(GET, "/v1/tenants/{tenant}/usage", READ_TENANT, cp_usage_hours),
    ROUTE(GET, "/v1/tenants/{tenant}/keys", READ_TENANT, cp_keys_list),
    ROUTE(POST, "/v1/tenants/{tenant}/keys", CHANGE_TENANT, cp_keys_create),
    ROUTE(GET, "/v1/tenants/{tenant}/keys/{key}", READ_TENANT, cp_keys_get),
    ROUTE(DELETE, "/v1/tenants/{tenant}/keys/{key}", CHANGE_TENANT, cp_keys_delete),
    ROUTE(POST, "/v1/tenants/{tenant}/keys/{key}/rotate", CHANGE_TENANT, cp_keys_rotate),
    ROUTE(GET, "/v1/audit", READ_HUB, cp_audit_list),
    ROUTE(GET, "/v1/audit/verify", READ_HUB, cp_audit_check),
    ROUTE(GET, "/v1/admin-tokens", CHANGE_HUB, cp_admin_tokens_list),
    ROUTE(POST, "/v1/admin-tokens", CHANGE_HUB, cp_admin_tokens_create),
    ROUTE(DELETE, "/v1/admin-tokens/{token}", CHANGE_HUB, cp_admin_tokens_delete),
#undef ROUTE
};

static ort_err
authenticate(cp_api *api, const ort_http_req *req, cp_admin *out, ort_diag *diag)
{
    const char *field = ort_http_req_header(req, "Authorization");

    if (field == NULL || strncasecmp(field, "Bearer ", 7) != 0) {
        return ort_fail(diag, ORT_EAUTH, "this needs 'Authorization: Bearer <admin token>'");
    }
    field += 7;
    field += strspn(field, " ");
    return cp_admin_authenticate(api->options.tenancy, field, strlen(field), out, diag);
}

static uint64_t
role_bit(cp_role role)
{
    switch (role) {
    case CP_ROLE_OPERATOR:
        return MAY_OPERATOR;
    case CP_ROLE_VIEWER:
        return MAY_VIEWER;
    case CP_ROLE_TENANT_ADMIN:
        return MAY_TENANT;
    case CP_ROLE_COUNT:
        break;
    }
    return 0;
}

/* Decided for each route before a byte of the body is read. A route without a tag lets nobody in.
 */
static bool
admit(ort_http_req *req, void *user)
{
    cp_api *api = user;
    uint64_t may = ort_http_req_route(req)->tag;
    cp_admin *who = NULL;
    ort_diag diag = {0};
    ort_err err = ORT_OK;

    if ((may & MAY_ANYONE) != 0 ||
        ((may & MAY_LOOPBACK) != 0 && strncmp(ort_http_req_remote(req), "127.", 4) == 0)) {
        return true;
    }
    who = calloc(1, sizeof *who);
    err = who != NULL ? authenticate(api, req, who, &diag) : ORT_ENOMEM;
    if (err == ORT_OK && (may & role_bit(who->role)) == 0) {
        err = ort_fail(&diag, ORT_EDENIED, "the role %s may not do this", cp_role_name(who->role));
    }
    if (err != ORT_OK) {
        free(who);
        if (err == ORT_EAUTH) {
            ort_http_header(req, "WWW-Authenticate", "Bearer realm=\"orthant\"");
        }
        ort_http_problem(req, err, &diag);
        return false;
    }
    ort_http_req_set_slot(req, who);
    return true;
}

static void
unknown_path(ort_http_req *req, void *user)
{
    (void)user;
    ort_http_problem_as(req, 404, "not-found", "no such resource");
}

static void
unknown_method(ort_http_req *req, void *user)
{
    (void)user;
    ort_http_problem_as(req, 405, "method-not-allowed", "the resource does not take this method");
}

static void
done(ort_http_req *req, const ort_http_outcome *outcome, void *user)
{
    cp_api *api = user;
    const ort_http_route *route = ort_http_req_route(req);
    cp_admin *who = ort_http_req_slot(req);
    const char *pattern = route != NULL ? route->pattern : "(none)";
    char status[4] = "0";
    const ort_label labels[] = {{"method", route != NULL ? ort_http_req_method_text(req) : "OTHER"},
                                {"route", pattern},
                                {"status", status}};

    if (outcome->status >= 100 && outcome->status <= 999) {
        status[0] = (char)('0' + outcome->status / 100);
        status[1] = (char)('0' + outcome->status / 10 % 10);
        status[2] = (char)('0' + outcome->status % 10);
        status[3] = '\0';
    }
    ort_counter_add(ort_metrics_counter(api->options.metrics, "orthant_admin_requests_total",
                                        "Admin API requests by route and status.", labels, 3),
                    1);
    ort_histogram_observe(
        ort_metrics_histogram(api->options.metrics, "orthant_admin_request_duration_seconds",
                              "Time from the end of a request's head to the end of its answer.",
                              NULL, 0, labels, 2),
        (double)outcome->duration_us / 1e6);
    if (route == NULL || (route->flags & ORT_HTTP_ROUTE_ALWAYS) == 0) {
        ORT_LOG_INFO(&log_, "request",
                     "method=%s path=%s status=%d duration_us=%llu actor=%s remote=%s "
                     "request_id=%s",
                     ort_http_req_method_text(req), ort_http_req_path(req), outcome->status,
                     (unsigned long long)outcome->duration_us, who != NULL ? who->actor : "-",
                     ort_http_req_remote(req), ort_http_req_id(req));
    }
    ort_http_req_set_slot(req, NULL);
    free(who);
}

ort_err
cp_api_new(cp_api **out, const cp_api_options *options, ort_diag *diag)
{
    cp_api *api = calloc(1, sizeof *api);
    ort_err err = ORT_OK;

    *out = NULL;
    if (api == NULL) {
        return ORT_ENOMEM;
    }
    api->options = *options;
    ort_http_options http = options->http;
    http.name = "admin";
    http.routes = routes;
    http.route_count = sizeof routes / sizeof *routes;
    http.body_bytes_max = ORT_ADMIN_BODY_BYTES_MAX;
    http.hooks = (ort_http_hooks){.user = api,
                                  .admit = admit,
                                  .unknown_path = unknown_path,
                                  .unknown_method = unknown_method,
                                  .done = done};
    err = ort_http_server_new(&api->server, &http, diag);
    if (err == ORT_OK) {
        err = cp_api__register_metrics(api);
    }
    if (err != ORT_OK) {
        cp_api_free(api);
        return err;
    }
    *out = api;
    return ORT_OK;
}

ort_http_server *
cp_api_peek_server(cp_api *api)
{
    return api->server;
}

void
cp_api_free(cp_api *api)
{
    if (api == NULL) {
        return;
    }
    ort_http_server_free(api->server);
    free(api);
}
