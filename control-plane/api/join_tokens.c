/* control-plane/api/join_tokens.c: /v1/join-tokens. */
#include "api/api_internal.h"
#include "tenancy/node.h"

static const char *
state_of(const cp_join_token *row, int64_t now_ms)
{
    if (row->used_at_ms != 0) {
        return "used";
    }
    if (row->revoked_at_ms != 0) {
        return "revoked";
    }
    return row->expires_at_ms <= now_ms ? "expired" : "open";
}

static ort_err
visit(void *ctx, const cp_join_token *row)
{
    cp_list *list = ctx;

    if (!cp_list_take(list, row->id)) {
        return ORT_OK;
    }
    ort_jw *w = &list->w;
    ort_jw_object(w);
    cp_write_text(w, "id", row->id);
    cp_write_text(w, "region", row->region);
    cp_write_text(w, "state", state_of(row, ort_wall_ms()));
    ort_jw_key(w, "node");
    if (row->used_by.v == 0) {
        ort_jw_null(w);
    } else {
        char id[ORT_ID_TEXT_BYTES];
        ort_id_format(row->used_by.v, id);
        ort_jw_str(w, id);
    }
    cp_write_time(w, "created_at", row->created_at_ms);
    cp_write_time(w, "expires_at", row->expires_at_ms);
    ort_jw_object_end(w);
    return ORT_OK;
}

static ort_err
render_list(cp_call *call, cp_tx *tx)
{
    cp_list list;
    ort_err err = cp_list_begin(&list, call, "join-tokens");

    if (err == ORT_OK) {
        err = cp_join_token_list(tx, list.page, visit, &list, &call->diag);
    }
    cp_list_end(&list);
    return err;
}

void
cp_join_tokens_list(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render_list, NULL);
}

typedef struct {
    char token[ORT_TOKEN_TEXT_BYTES];
    cp_join_token row;
} new_token;

static ort_err
render_new(cp_call *call, cp_tx *tx)
{
    const new_token *n = call->ctx;
    ort_jw w = {.buf = &call->body};
    char id[ORT_TOKEN_ID_TEXT_BYTES];
    cp_join_token row;
    ort_err err = cp_new_token_id(call, n->token, id);

    if (err != ORT_OK) {
        return err;
    }
    err = cp_join_token_get(tx, id, &row, &call->diag);
    if (err == ORT_OK) {
        ort_jw_object(&w);
        cp_write_text(&w, "id", row.id);
        cp_write_text(&w, "token", n->token);
        cp_write_text(&w, "region", row.region);
        cp_write_time(&w, "expires_at", row.expires_at_ms);
        ort_jw_object_end(&w);
    }
    return err;
}

void
cp_join_tokens_create(ort_http_req *req, void *api)
{
    static const char *const members[] = {"region", "ttl_s", NULL};
    char region[CP_SLUG_BYTES] = "";
    uint64_t ttl = CP_JOIN_TTL_S_DEFAULT;
    new_token new = {0};
    bool given = false;
    bool has_region = false;
    cp_call call;
    ort_json body;

    if (!cp_call_begin(&call, req, api, 201, render_new, &new)) {
        return;
    }
    ort_err err = cp_call_object(&call, members, false, &body);
    if (err == ORT_OK) {
        err = cp_body_text(&call, body, "region", region, sizeof region, &has_region);
    }
    if (err == ORT_OK && !has_region) {
        err = ort_fail(&call.diag, ORT_EVALIDATE, "'region' is missing");
    }
    if (err == ORT_OK) {
        err = cp_body_u64(&call, body, "ttl_s", 1, CP_JOIN_TTL_S_MAX, &ttl, &given);
    }
    if (err == ORT_OK) {
        err = cp_join_token_create(call.api->options.tenancy, &call.author, region, (uint32_t)ttl,
                                   new.token, &new.row, NULL, &call.diag);
    }
    cp_call_end(&call, err);
    ort_secret_wipe(&new, sizeof new);
}

void
cp_join_tokens_delete(ort_http_req *req, void *api)
{
    cp_call call;

    if (cp_call_begin(&call, req, api, 204, cp_call_render_nothing, NULL)) {
        cp_call_end(&call,
                    cp_join_token_revoke(call.api->options.tenancy, &call.author,
                                         ort_http_req_param(req, "token"), NULL, &call.diag));
    }
}
