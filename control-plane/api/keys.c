/* control-plane/api/keys.c: /v1/tenants/{tenant}/keys. A token is in two answers only: those to
 * create and to rotate. */
#include "tenancy/key.h"
#include "tenancy/node.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"

#define WAIT_MS_DEFAULT 10000u
#define WAIT_MS_MAX 60000u

static void
write_key(ort_jw *w, const cp_key *row, int64_t now_ms)
{
    ort_jw_object(w);
    cp_write_text(w, "id", row->id);
    cp_write_id(w, "tenant", row->tenant.v);
    cp_write_text(w, "name", row->name);
    cp_write_text(w, "env", row->test_env ? "test" : "live");
    ort_jw_key(w, "scopes");
    ort_jw_array(w);
    for (unsigned i = 0; i < CP_SCOPE_COUNT; i++) {
        if ((row->scopes & 1u << i) != 0) {
            ort_jw_str(w, cp_scope_name(i));
        }
    }
    ort_jw_array_end(w);
    cp_write_texts(w, "collections", &row->collections);
    cp_write_text(w, "state", cp_key_state_name(row, now_ms));
    ort_jw_key(w, "max_requests_per_minute");
    if (row->max_requests_per_minute == CP_UNLIMITED) {
        ort_jw_null(w);
    } else {
        ort_jw_u64(w, row->max_requests_per_minute);
    }
    cp_write_time(w, "expires_at", row->expires_at_ms);
    cp_write_time(w, "created_at", row->created_at_ms);
    cp_write_time(w, "revoked_at", row->revoked_at_ms);
    cp_write_time(w, "last_used_at", row->last_used_ms);
    ort_jw_object_end(w);
}

typedef struct {
    cp_list list;
    int64_t now_ms;
} key_list;

static ort_err
visit(void *ctx, const cp_key *row)
{
    key_list *k = ctx;

    if (cp_list_take(&k->list, row->id)) {
        write_key(&k->list.w, row, k->now_ms);
    }
    return ORT_OK;
}

static ort_err
render_list(cp_call *call, cp_tx *tx)
{
    key_list k = {.now_ms = ort_wall_ms()};
    cp_tenant tenant;
    ort_err err = cp_list_begin(&k.list, call, "keys");

    if (err == ORT_OK) {
        err = cp_call_tenant(call, tx, &tenant);
    }
    if (err == ORT_OK) {
        err = cp_key_list(tx, tenant.id, 0, k.list.page, visit, &k, &call->diag);
    }
    cp_list_end(&k.list);
    return err;
}

void
cp_keys_list(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render_list, NULL);
}

static ort_err
render_one(cp_call *call, cp_tx *tx)
{
    ort_jw w = {.buf = &call->body};
    cp_tenant tenant;
    cp_key row;
    ort_err err = cp_call_tenant(call, tx, &tenant);

    if (err == ORT_OK) {
        err = cp_key_get(tx, tenant.id, ort_http_req_param(call->req, "key"), &row, &call->diag);
    }
    if (err == ORT_OK) {
        write_key(&w, &row, ort_wall_ms());
    }
    return err;
}

void
cp_keys_get(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render_one, NULL);
}

/* ---- create, rotate ---- */

typedef struct {
    ort_tenant_id tenant;
    char token[ORT_TOKEN_TEXT_BYTES];
    cp_key row;
} new_key;

/* The row is read again through its id, which stands in the token: so what is shown is what was
 * stored. */
static ort_err
render_new(cp_call *call, cp_tx *tx)
{
    const new_key *n = call->ctx;
    ort_jw w = {.buf = &call->body};
    char id[ORT_TOKEN_ID_TEXT_BYTES];
    cp_key row;
    ort_err err = cp_new_token_id(call, n->token, id);

    if (err != ORT_OK) {
        return err;
    }
    err = cp_key_get(tx, n->tenant, id, &row, &call->diag);
    if (err != ORT_OK) {
        return err;
    }
    snprintf(call->location, sizeof call->location, "/v1/tenants/%016" PRIx64 "/keys/%s",
             n->tenant.v, id);
    ort_jw_object(&w);
    ort_jw_key(&w, "key");
    write_key(&w, &row, ort_wall_ms());
    cp_write_text(&w, "token", n->token);
    ort_jw_object_end(&w);
    return ORT_OK;
}

static ort_err
read_scopes(cp_call *call, ort_json body, unsigned *out)
{
    cp_texts scopes;
    bool given = false;
    ort_err err = cp_body_texts(call, body, "scopes", &scopes, &given);

    *out = 0;
    if (err != ORT_OK || !given) {
        return err;
    }
    if (scopes.count == 0) {
        return ort_fail(&call->diag, ORT_EVALIDATE, "'scopes' names none: leave it out for all");
    }
    for (const char *t = cp_texts_first(&scopes); t != NULL; t = cp_texts_next(&scopes, t)) {
        unsigned bit = cp_scope_by_name(t, strlen(t));
        if (bit == 0) {
            return ort_fail(&call->diag, ORT_EVALIDATE,
                            "'%s' is none of data:read, data:write, collections:manage", t);
        }
        *out |= bit;
    }
    return ORT_OK;
}

static ort_err
read_env(cp_call *call, ort_json body, bool *test_env)
{
    char env[8] = "live";
    bool given = false;
    ort_err err = cp_body_text(call, body, "env", env, sizeof env, &given);

    if (err == ORT_OK && strcmp(env, "live") != 0 && strcmp(env, "test") != 0) {
        err = ort_fail(&call->diag, ORT_EVALIDATE, "'env' is neither live nor test");
    }
    *test_env = env[0] == 't';
    return err;
}

/* null is no bound of its own. */
static ort_err
read_rate(cp_call *call, ort_json body, uint64_t *out)
{
    bool given = false;

    *out = CP_UNLIMITED;
    if (ort_json_type_of(ort_json_get(body, "max_requests_per_minute")) == ORT_JSON_NULL) {
        return ORT_OK;
    }
    return cp_body_u64(call, body, "max_requests_per_minute", 1, CP_LIMIT_VALUE_MAX, out, &given);
}

void
cp_keys_create(ort_http_req *req, void *api)
{
    static const char *const members[] = {
        "name", "env", "scopes", "collections", "max_requests_per_minute", "expires_at", NULL};
    char name[CP_DISPLAY_BYTES] = "";
    cp_texts collections = {0};
    cp_key_ask ask = {.name = name, .collections = &collections};
    new_key new = {0};
    bool given = false;
    cp_call call;
    ort_json body;

    if (!cp_call_begin(&call, req, api, 201, render_new, &new)) {
        return;
    }
    ort_err err = cp_call_tenant_id(&call, &new.tenant);
    if (err == ORT_OK) {
        err = cp_call_object(&call, members, true, &body);
    }
    if (err == ORT_OK) {
        err = cp_body_text(&call, body, "name", name, sizeof name, &given);
    }
    if (err == ORT_OK) {
        err = read_env(&call, body, &ask.test_env);
    }
    if (err == ORT_OK) {
        err = read_scopes(&call, body, &ask.scopes);
    }
    if (err == ORT_OK) {
        err = cp_body_texts(&call, body, "collections", &collections, &given);
    }
    if (err == ORT_OK) {
        err = read_rate(&call, body, &ask.max_requests_per_minute);
    }
    if (err == ORT_OK) {
        err = cp_body_time(&call, body, "expires_at", &ask.expires_at_ms, &given);
    }
    if (err == ORT_OK) {
        err = cp_key_create(call.api->options.tenancy, &call.author, new.tenant, &ask, new.token,
                            &new.row, NULL, &call.diag);
    }
    cp_call_end(&call, err);
    ort_secret_wipe(&new, sizeof new);
}

void
cp_keys_rotate(ort_http_req *req, void *api)
{
    static const char *const members[] = {"grace_s", NULL};
    uint64_t grace = CP_KEY_GRACE_S_DEFAULT;
    new_key new = {0};
    cp_key old;
    bool given = false;
    cp_call call;
    ort_json body;

    if (!cp_call_begin(&call, req, api, 201, render_new, &new)) {
        return;
    }
    ort_err err = cp_call_tenant_id(&call, &new.tenant);
    if (err == ORT_OK) {
        err = cp_call_object(&call, members, true, &body);
    }
    if (err == ORT_OK) {
        err = cp_body_u64(&call, body, "grace_s", 0, CP_KEY_GRACE_S_MAX, &grace, &given);
    }
    if (err == ORT_OK) {
        err = cp_key_rotate(call.api->options.tenancy, &call.author, new.tenant,
                            ort_http_req_param(req, "key"), (uint32_t)grace, new.token, &new.row,
                            &old, NULL, &call.diag);
    }
    cp_call_end(&call, err);
    ort_secret_wipe(&new, sizeof new);
}

/* ---- revoke ---- */

typedef struct {
    cp_key row;
    uint64_t version;
    uint64_t begin_ns; /* right before the change */
    bool waited;
    bool complete;
    cp_push_ack *acks;
    size_t ack_count;
} revocation;

static void
write_acks(ort_jw *w, const revocation *r)
{
    ort_jw_key(w, "acks");
    ort_jw_array(w);
    for (size_t i = 0; i < r->ack_count; i++) {
        const cp_push_ack *ack = &r->acks[i];
        ort_jw_object(w);
        cp_write_id(w, "node", ack->node.v);
        ort_jw_key(w, "acked");
        ort_jw_bool(w, ack->acked);
        cp_write_time(w, "at", ack->acked ? ack->at_ms : 0);
        ort_jw_key(w, "after_ms");
        if (!ack->acked) {
            ort_jw_null(w);
        } else {
            uint64_t ns = ack->mono_ns > r->begin_ns ? ack->mono_ns - r->begin_ns : 0;
            uint64_t us = ns / 1000u; /* whole microseconds: three decimals of a millisecond */
            ort_jw_f64(w, (double)us / 1000.0);
        }
        ort_jw_object_end(w);
    }
    ort_jw_array_end(w);
}

static void
write_revocation(cp_call *call, const revocation *r)
{
    ort_jw w = {.buf = &call->body};

    ort_jw_object(&w);
    ort_jw_key(&w, "key");
    write_key(&w, &r->row, ort_wall_ms());
    cp_write_u64(&w, "version", r->version);
    ort_jw_key(&w, "complete");
    ort_jw_bool(&w, r->complete);
    write_acks(&w, r);
    ort_jw_object_end(&w);
}

/* After the change: nothing is kept of this one under a key, so there is nothing to render in it.
 */
static ort_err
wait_acked(cp_call *call, ort_tenant_id tenant, uint32_t timeout_ms, revocation *r)
{
    r->waited = true;
    r->acks = calloc(CP_NODES_MAX, sizeof *r->acks);
    if (r->acks == NULL) {
        return ORT_ENOMEM;
    }
    ort_err err = cp_push_wait_acked(call->api->options.push, r->version, tenant, timeout_ms,
                                     r->acks, CP_NODES_MAX, &r->ack_count);
    r->complete = err == ORT_OK;
    return err == ORT_ETIMEOUT ? ORT_OK : err;
}

static ort_err
read_wait(cp_call *call, bool *wait, uint32_t *timeout_ms)
{
    const char *mode = ort_http_req_query(call->req, "wait");
    const char *timeout = ort_http_req_query(call->req, "timeout_ms");

    *wait = mode != NULL && strcmp(mode, "acked") == 0;
    *timeout_ms = WAIT_MS_DEFAULT;
    if (mode != NULL && !*wait && strcmp(mode, "none") != 0) {
        return ort_fail(&call->diag, ORT_EVALIDATE, "wait is neither acked nor none");
    }
    if (timeout != NULL) {
        char *end = NULL;
        unsigned long v = strtoul(timeout, &end, 10);
        if (timeout[0] < '0' || timeout[0] > '9' || *end != '\0' || v < 1 || v > WAIT_MS_MAX) {
            return ort_fail(&call->diag, ORT_EVALIDATE, "timeout_ms is not a number of 1 to %u",
                            WAIT_MS_MAX);
        }
        *timeout_ms = (uint32_t)v;
    }
    return ORT_OK;
}

void
cp_keys_delete(ort_http_req *req, void *api)
{
    revocation r = {0};
    ort_tenant_id tenant = {0};
    uint32_t timeout_ms = 0;
    bool wait = false;
    cp_call call;

    if (!cp_call_begin(&call, req, api, 200, cp_call_render_nothing, NULL)) {
        return;
    }
    ort_err err = read_wait(&call, &wait, &timeout_ms);
    if (err == ORT_OK) {
        err = cp_call_tenant_id(&call, &tenant);
    }
    r.begin_ns = ort_mono_ns();
    if (err == ORT_OK) {
        err = cp_key_revoke(call.api->options.tenancy, &call.author, tenant,
                            ort_http_req_param(req, "key"), &r.row, &r.version, &call.diag);
    }
    if (err == ORT_OK && wait) {
        err = wait_acked(&call, tenant, timeout_ms, &r);
    }
    if (err == ORT_OK) {
        write_revocation(&call, &r);
    }
    free(r.acks);
    cp_call_end(&call, err);
}
