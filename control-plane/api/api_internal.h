/* control-plane/api/api_internal.h: what the resources share: who asks, one call from its request
 * to its answer, members of bodies, pages. */
#ifndef CP_API_INTERNAL_H
#define CP_API_INTERNAL_H
#include "api/api.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "base/json_write.h"
#include "store/tenants.h"
#include "tenancy/admin.h"
#include "tenancy/idempotency.h"

/* What a route's tag says: which roles may call it at all. A tenant-admin is held to its own tenant
 * by cp_call_tenant(). */
#define MAY_OPERATOR 1u
#define MAY_VIEWER 2u
#define MAY_TENANT 4u
#define MAY_ANYONE 8u    /* no token */
#define MAY_LOOPBACK 16u /* no token from loopback; else the roles */

#define READ_HUB (MAY_OPERATOR | MAY_VIEWER)
#define READ_TENANT (MAY_OPERATOR | MAY_VIEWER | MAY_TENANT)
#define CHANGE_HUB MAY_OPERATOR
#define CHANGE_TENANT (MAY_OPERATOR | MAY_TENANT)

struct cp_api {
    cp_api_options options;
    ort_http_server *server;
};

/* ---- one call ---- */

typedef struct cp_call cp_call;

/* Writes the answer's body (and may set status, etag, location), reading through tx: that of the
 * change, before it commits, or a read. */
typedef ort_err (*cp_call_render)(cp_call *call, cp_tx *tx);

/* Lives on the handler's stack. */
struct cp_call {
    cp_api *api;
    ort_http_req *req;
    const cp_admin *who;
    ort_diag diag;
    ort_json_doc *doc; /* of the body, once read */

    /* For the functions of tenancy: it renders the answer inside the change and keeps it under the
     * client's Idempotency-Key. */
    cp_author author;
    cp_call_render render;
    void *ctx; /* the handler's, for render */

    int status;
    char etag[32];
    char location[160];
    ort_buf body;
    bool rendered;

    cp_replay_ask replay; /* key NULL: the client gave none */
    bool replay_lost;     /* the same request is being done by another thread */
};

/* false: it has answered already (a bad Idempotency-Key, or an answer that was kept). */
bool cp_call_begin(cp_call *call, ort_http_req *req, void *api, int status, cp_call_render render,
                   void *ctx);

/* Answers: with what was rendered when err is ORT_OK (rendering it now, where no change did), else
 * with the problem. Frees what the call holds. */
void cp_call_end(cp_call *call, ort_err err);

/* For reads: begins a read, renders, ends, answers. */
void cp_call_read(ort_http_req *req, void *api, cp_call_render render, void *ctx);

/* For answers without a body. */
ort_err cp_call_render_nothing(cp_call *call, cp_tx *tx);
/* A parameter of the path as a render's ctx; it is only read. */
void *cp_call_param(ort_http_req *req, const char *name);

/* The body as a JSON object with no members but those named (NULL-ended). An empty body is an empty
 * object when may_be_empty. ORT_EFORMAT, ORT_EVALIDATE. */
ORT_NODISCARD ort_err cp_call_object(cp_call *call, const char *const *names, bool may_be_empty,
                                     ort_json *out);

/* The tenant of the path, by id or name. A tenant-admin finds only its own. ORT_ENOTFOUND. */
ORT_NODISCARD ort_err cp_call_tenant(cp_call *call, cp_tx *tx, cp_tenant *out);
/* The same in a read of its own, for changes. */
ORT_NODISCARD ort_err cp_call_tenant_id(cp_call *call, ort_tenant_id *out);
ORT_NODISCARD ort_err cp_call_node_id(cp_call *call, ort_node_id *out);

/* The revision that If-Match names: *out is NULL for "*". ORT_EPRECOND: there is none.
 * ORT_ESTALE: no revision of ours. */
ORT_NODISCARD ort_err cp_call_if_match(cp_call *call, uint64_t *revision, const uint64_t **out);
void cp_call_set_etag(cp_call *call, uint64_t revision);

/* ---- members of bodies ---- each: ORT_EVALIDATE names the member; absent: *given false, out as it
 * was */

/* cap with the NUL; no control characters. */
ORT_NODISCARD ort_err cp_body_text(cp_call *call, ort_json object, const char *name, char *out,
                                   size_t cap, bool *given);
ORT_NODISCARD ort_err cp_body_u64(cp_call *call, ort_json object, const char *name, uint64_t min,
                                  uint64_t max, uint64_t *out, bool *given);
/* RFC 3339, or null for 0. */
ORT_NODISCARD ort_err cp_body_time(cp_call *call, ort_json object, const char *name, int64_t *ms,
                                   bool *given);
ORT_NODISCARD ort_err cp_body_texts(cp_call *call, ort_json object, const char *name, cp_texts *out,
                                    bool *given);
/* An object of limits; null is no limit. */
ORT_NODISCARD ort_err cp_body_limits(cp_call *call, ort_json object, const char *name,
                                     cp_overrides *out, bool *given);

/* ---- writing ---- */

void cp_write_id(ort_jw *w, const char *name, uint64_t id); /* 16 hex digits */
void cp_write_text(ort_jw *w, const char *name, const char *text);
void cp_write_u64(ort_jw *w, const char *name, uint64_t v);
void cp_write_time(ort_jw *w, const char *name, int64_t ms); /* 0: null */
void cp_write_texts(ort_jw *w, const char *name, const cp_texts *texts);
void cp_write_limits(ort_jw *w, const char *name, const cp_limits *limits);
void cp_write_overrides(ort_jw *w, const char *name, const cp_overrides *overrides);

/* ---- pages ---- */

typedef struct {
    cp_call *call;
    const char *kind; /* of its cursors */
    ort_jw w;
    cp_page page; /* to list with: asks for one row more than is shown */
    char after[CP_CURSOR_BYTES];
    char last[CP_CURSOR_BYTES]; /* key of the last row shown */
    uint32_t limit;
    uint32_t count;
    bool more;
} cp_list;

/* Reads limit and cursor, and begins {"items":[. */
ORT_NODISCARD ort_err cp_list_begin(cp_list *list, cp_call *call, const char *kind);
/* For each row, with its key: true: write it to list->w; false: it is that of the next page. */
bool cp_list_take(cp_list *list, const char *key);
/* ],"next_cursor":..}. */
void cp_list_end(cp_list *list);

/* ---- resources: one file each ---- */

void cp_hub_health(ort_http_req *req, void *api);
void cp_hub_ready(ort_http_req *req, void *api);
void cp_hub_metrics(ort_http_req *req, void *api);
void cp_hub_openapi(ort_http_req *req, void *api);
void cp_hub_whoami(ort_http_req *req, void *api);
void cp_hub_show(ort_http_req *req, void *api);
void cp_regions_list(ort_http_req *req, void *api);
void cp_regions_create(ort_http_req *req, void *api);
void cp_regions_get(ort_http_req *req, void *api);
void cp_regions_delete(ort_http_req *req, void *api);
void cp_nodes_list(ort_http_req *req, void *api);
void cp_nodes_get(ort_http_req *req, void *api);
void cp_nodes_update(ort_http_req *req, void *api);
void cp_nodes_delete(ort_http_req *req, void *api);
void cp_nodes_cordon(ort_http_req *req, void *api);
void cp_nodes_uncordon(ort_http_req *req, void *api);
void cp_join_tokens_list(ort_http_req *req, void *api);
void cp_join_tokens_create(ort_http_req *req, void *api);
void cp_join_tokens_delete(ort_http_req *req, void *api);
void cp_plans_list(ort_http_req *req, void *api);
void cp_plans_create(ort_http_req *req, void *api);
void cp_plans_get(ort_http_req *req, void *api);
void cp_plans_update(ort_http_req *req, void *api);
void cp_plans_delete(ort_http_req *req, void *api);
void cp_tenants_list(ort_http_req *req, void *api);
void cp_tenants_create(ort_http_req *req, void *api);
void cp_tenants_get(ort_http_req *req, void *api);
void cp_tenants_update(ort_http_req *req, void *api);
void cp_tenants_delete(ort_http_req *req, void *api);
void cp_tenants_suspend(ort_http_req *req, void *api);
void cp_tenants_resume(ort_http_req *req, void *api);
void cp_quotas_get(ort_http_req *req, void *api);
void cp_quotas_put(ort_http_req *req, void *api);
void cp_placements_get(ort_http_req *req, void *api);
void cp_grants_create(ort_http_req *req, void *api);
void cp_usage_hours(ort_http_req *req, void *api);
void cp_keys_list(ort_http_req *req, void *api);
void cp_keys_create(ort_http_req *req, void *api);
void cp_keys_get(ort_http_req *req, void *api);
void cp_keys_delete(ort_http_req *req, void *api);
void cp_keys_rotate(ort_http_req *req, void *api);
void cp_audit_list(ort_http_req *req, void *api);
void cp_audit_check(ort_http_req *req, void *api);
void cp_admin_tokens_list(ort_http_req *req, void *api);
void cp_admin_tokens_create(ort_http_req *req, void *api);
void cp_admin_tokens_delete(ort_http_req *req, void *api);

/* Parts of representations that several resources show. */
ort_err cp_write_usage(cp_call *call, cp_tx *tx, ort_jw *w, ort_tenant_id tenant);
ort_err cp_write_placement(cp_call *call, cp_tx *tx, ort_jw *w, ort_tenant_id tenant);

/* The id in a token that was just made, under which its row is read again: what is shown is what
 * was stored. ORT_EINTERNAL: there is no token. */
ORT_NODISCARD ort_err cp_new_token_id(cp_call *call, const char *text,
                                      char id_out[ORT_TOKEN_ID_TEXT_BYTES]);

ort_err cp_api__register_metrics(cp_api *api);
#endif /* CP_API_INTERNAL_H */
