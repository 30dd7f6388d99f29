/* control-plane/api/nodes.c: /v1/nodes: what the store knows of a node, beside what it last said.
 */
#include "store/nodes.h"

#include <string.h>

#include "api/api_internal.h"
#include "store/placements.h"
#include "tenancy/node.h"

static void
write_nack(ort_jw *w, const cp_push_status *at)
{
    ort_jw_key(w, "nack");
    if (!at->has_nack) {
        ort_jw_null(w);
        return;
    }
    ort_jw_object(w);
    cp_write_u64(w, "version", at->nack_version);
    cp_write_text(w, "code", at->nack_reason);
    cp_write_text(w, "path", at->nack_path);
    ort_jw_object_end(w);
}

static void
write_load(ort_jw *w, const cp_fleet_status *status)
{
    ort_jw_key(w, "load");
    if (!status->has_load) {
        ort_jw_null(w);
        return;
    }
    ort_jw_object(w);
    ort_jw_key(w, "cpu");
    ort_jw_f64(w, status->cpu_ratio);
    ort_jw_key(w, "memory");
    ort_jw_f64(w, status->memory_ratio);
    cp_write_u64(w, "disk_used_bytes", status->disk_used_bytes);
    cp_write_u64(w, "disk_total_bytes", status->disk_total_bytes);
    cp_write_u64(w, "queue", status->queue_depth);
    ort_jw_object_end(w);
}

static ort_err
write_node(cp_call *call, cp_tx *tx, ort_jw *w, const cp_node *row)
{
    cp_fleet_status status;
    cp_push_status at;
    uint64_t tenants = 0;
    ort_err err = cp_home_count(tx, row->id, &tenants, &call->diag);

    if (err != ORT_OK) {
        return err;
    }
    cp_fleet_status_of(call->api->options.fleet, row->id, &status);
    if (cp_push_status_of(call->api->options.push, row->id, &at) != ORT_OK) {
        memset(&at, 0, sizeof at); /* not in the tables yet: it has applied nothing */
    }
    ort_jw_object(w);
    cp_write_id(w, "id", row->id.v);
    cp_write_text(w, "name", row->name);
    cp_write_text(w, "region", row->region);
    cp_write_text(w, "zone", row->zone);
    cp_write_text(w, "endpoint", row->endpoint);
    cp_write_text(w, "forward", row->forward);
    cp_write_text(w, "state", cp_node_state_name(row->state));
    cp_write_text(w, "health", cp_health_name(status.health));
    cp_write_u64(w, "weight", row->weight);
    cp_write_u64(w, "incarnation", status.incarnation);
    cp_write_text(w, "software", row->software);
    cp_write_u64(w, "capacity_bytes", row->capacity_bytes);
    cp_write_u64(w, "used_bytes", status.used_bytes);
    cp_write_u64(w, "tenants", tenants);
    cp_write_u64(w, "applied_version", at.applied.version);
    cp_write_u64(w, "lag_versions", at.lag_versions);
    ort_jw_key(w, "lag_seconds");
    ort_jw_f64(w, (double)at.lag_ms / 1000.0);
    write_nack(w, &at);
    write_load(w, &status);
    cp_write_time(w, "last_seen_at", status.seen_at_ms);
    cp_write_time(w, "joined_at", row->joined_at_ms);
    ort_jw_object_end(w);
    return ORT_OK;
}

typedef struct {
    cp_list list;
    cp_tx *tx;
    const char *region; /* NULL: all */
} node_list;

static ort_err
visit(void *ctx, const cp_node *row)
{
    node_list *n = ctx;
    char id[ORT_ID_TEXT_BYTES];

    if (n->region != NULL && strcmp(n->region, row->region) != 0) {
        return ORT_OK;
    }
    ort_id_format(row->id.v, id);
    if (!cp_list_take(&n->list, id)) {
        return ORT_OK;
    }
    return write_node(n->list.call, n->tx, &n->list.w, row);
}

static ort_err
render_list(cp_call *call, cp_tx *tx)
{
    node_list n = {.tx = tx, .region = ort_http_req_query(call->req, "region")};
    ort_err err = cp_list_begin(&n.list, call, "nodes");

    if (n.region != NULL) {
        n.list.page.limit = 0; /* rows of other regions do not count; there are at most 4,096 */
    }
    if (err == ORT_OK) {
        err = cp_node_list(tx, false, n.list.page, visit, &n, &call->diag);
    }
    cp_list_end(&n.list);
    return err;
}

void
cp_nodes_list(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render_list, NULL);
}

static ort_err
render(cp_call *call, cp_tx *tx)
{
    ort_jw w = {.buf = &call->body};
    ort_node_id id;
    cp_node row;
    ort_err err = cp_call_node_id(call, &id);

    if (err == ORT_OK) {
        err = cp_node_get(tx, id, &row, &call->diag);
    }
    if (err == ORT_OK && row.state == CP_NODE_REMOVED) {
        err = ort_fail(&call->diag, ORT_ENOTFOUND, "the node was removed");
    }
    return err == ORT_OK ? write_node(call, tx, &w, &row) : err;
}

void
cp_nodes_get(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render, NULL);
}

void
cp_nodes_update(ort_http_req *req, void *api)
{
    static const char *const members[] = {"weight", NULL};
    uint64_t weight = 0;
    bool given = false;
    ort_node_id id = {0};
    cp_call call;
    cp_node row;
    ort_json body;

    if (!cp_call_begin(&call, req, api, 200, render, NULL)) {
        return;
    }
    ort_err err = cp_call_node_id(&call, &id);
    if (err == ORT_OK) {
        err = cp_call_object(&call, members, false, &body);
    }
    if (err == ORT_OK) {
        err = cp_body_u64(&call, body, "weight", 1, 10000, &weight, &given);
    }
    if (err == ORT_OK && given) {
        err = cp_node_set_weight(call.api->options.tenancy, &call.author, id, (uint32_t)weight,
                                 &row, NULL, &call.diag);
    }
    cp_call_end(&call, err);
}

static void
cordon(ort_http_req *req, void *api, bool cordoned)
{
    ort_node_id id = {0};
    cp_call call;
    cp_node row;

    if (!cp_call_begin(&call, req, api, 200, render, NULL)) {
        return;
    }
    ort_err err = cp_call_node_id(&call, &id);
    if (err == ORT_OK) {
        err = cp_node_cordon(call.api->options.tenancy, &call.author, id, cordoned, &row, NULL,
                             &call.diag);
    }
    if (err == ORT_OK && !cordoned) {
        cp_fleet_poke(call.api->options.fleet);
    }
    cp_call_end(&call, err);
}

void
cp_nodes_cordon(ort_http_req *req, void *api)
{
    cordon(req, api, true);
}

void
cp_nodes_uncordon(ort_http_req *req, void *api)
{
    cordon(req, api, false);
}

void
cp_nodes_delete(ort_http_req *req, void *api)
{
    const char *lose = ort_http_req_query(req, "lose_data");
    ort_node_id id = {0};
    cp_call call;

    if (!cp_call_begin(&call, req, api, 204, cp_call_render_nothing, NULL)) {
        return;
    }
    ort_err err = cp_call_node_id(&call, &id);
    if (err == ORT_OK && lose != NULL && strcmp(lose, "true") != 0 && strcmp(lose, "false") != 0) {
        err = ort_fail(&call.diag, ORT_EVALIDATE, "lose_data is neither true nor false");
    }
    if (err == ORT_OK) {
        err = cp_node_remove(call.api->options.tenancy, &call.author, id,
                             lose != NULL && strcmp(lose, "true") == 0, NULL, &call.diag);
    }
    if (err == ORT_OK) {
        cp_fleet_remove(call.api->options.fleet, id);
    }
    cp_call_end(&call, err);
}
