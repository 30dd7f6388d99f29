/* control-plane/api/call.c: one call, from its request to its answer.
 *
 * A change is rendered inside its transaction, right before it commits: the answer shows exactly
 * what the change left, and where the client gave an Idempotency-Key it is kept in the same
 * transaction, so that a repeat after a crash finds either both or neither. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"

/* What is kept under an Idempotency-Key: the fields that matter, then the body. */
static void
pack_answer(const cp_call *call, ort_buf *out)
{
    ort_buf_printf(out, "%s\n%s\n", call->etag, call->location);
    ort_buf_put(out, call->body.data, call->body.len);
}

static void
send_answer(ort_http_req *req, int status, const char *etag, const char *location, const char *body,
            size_t len)
{
    if (etag[0] != '\0') {
        ort_http_header(req, "ETag", etag);
    }
    if (location[0] != '\0') {
        ort_http_header(req, "Location", location);
    }
    /* Answers are about desired state, some hold secrets: nobody between keeps them. */
    ort_http_header(req, "Cache-Control", "no-store");
    if (len == 0) {
        ort_http_reply(req, status, NULL, NULL, 0);
    } else {
        ort_http_reply(req, status, "application/json", body, len);
    }
}

/* true: there was a kept answer, and it has been sent. */
static bool
replay(cp_call *call, ort_err *err)
{
    ort_buf kept = {0};
    uint16_t status = 0;
    bool sent = false;

    *err = cp_replay_find(call->api->options.tenancy, &call->replay, &status, &kept, &call->diag);
    const char *etag = *err == ORT_OK ? ort_buf_peek_cstr(&kept) : NULL;
    char *end = etag != NULL ? memchr(kept.data, '\n', kept.len) : NULL;
    char *end2 =
        end != NULL ? memchr(end + 1, '\n', kept.len - (size_t)(end + 1 - kept.data)) : NULL;
    if (end2 != NULL) {
        *end = '\0';
        *end2 = '\0';
        ort_http_header(call->req, "Idempotency-Replayed", "true");
        send_answer(call->req, status, etag, end + 1, end2 + 1,
                    kept.len - (size_t)(end2 + 1 - kept.data));
        sent = true;
    } else if (*err == ORT_OK) {
        *err = ort_fail(&call->diag, ORT_ECORRUPT, "the answer kept under this key is damaged");
    }
    ort_secret_wipe_buf(&kept);
    return sent;
}

static ort_err
before_commit(void *ctx, cp_tx *tx, ort_diag *diag)
{
    cp_call *call = ctx;
    ort_buf kept = {0};
    ort_err err = call->render(call, tx);

    if (err != ORT_OK) {
        *diag = call->diag;
        return err;
    }
    call->rendered = true;
    if (call->replay.key == NULL) {
        return ORT_OK;
    }
    pack_answer(call, &kept);
    err = ort_buf_check(&kept);
    if (err == ORT_OK) {
        err = cp_replay_keep(call->api->options.tenancy, tx, &call->replay, (uint16_t)call->status,
                             kept.data, kept.len, diag);
        call->replay_lost = err == ORT_EEXISTS;
    }
    ort_secret_wipe_buf(&kept);
    return err;
}

static void
call_fini(cp_call *call)
{
    ort_secret_wipe_buf(&call->body);
    ort_json_free(call->doc);
}

static void
send_problem(cp_call *call, ort_err err)
{
    ort_http_problem(call->req, err, &call->diag);
    call_fini(call);
}

bool
cp_call_begin(cp_call *call, ort_http_req *req, void *api, int status, cp_call_render render,
              void *ctx)
{
    const char *key = NULL;
    ort_err err = ORT_OK;

    *call = (cp_call){.api = api,
                      .req = req,
                      .who = ort_http_req_slot(req),
                      .status = status,
                      .render = render,
                      .ctx = ctx};
    call->author = (cp_author){.actor = call->who->actor,
                               .request_id = ort_http_req_id(req),
                               .before_commit = before_commit,
                               .ctx = call};
    if (ort_http_req_method(req) == ORT_HTTP_POST) {
        key = ort_http_req_header(req, "Idempotency-Key");
    }
    if (key == NULL) {
        return true;
    }
    call->replay = (cp_replay_ask){.actor = call->who->actor,
                                   .key = key,
                                   .method = ort_http_req_method_text(req),
                                   .path = ort_http_req_path(req)};
    call->replay.body = ort_http_req_body(req, &call->replay.body_len);
    if (replay(call, &err)) {
        call_fini(call);
        return false;
    }
    if (err == ORT_ENOTFOUND) {
        call->diag = (ort_diag){0};
        return true;
    }
    if (err == ORT_ECONFLICT) {
        ort_http_problem_as(req, 422, "idempotency-mismatch",
                            "this Idempotency-Key was used for another request");
        call_fini(call);
    } else {
        send_problem(call, err);
    }
    return false;
}

static ort_err
render_in_read(cp_call *call)
{
    cp_tx *tx = NULL;
    ort_err err = cp_store_begin_read(call->api->options.store, &tx, &call->diag);

    if (err == ORT_OK) {
        err = call->render(call, tx);
    }
    cp_tx_end(tx);
    return err;
}

void
cp_call_end(cp_call *call, ort_err err)
{
    if (call->replay_lost && replay(call, &err)) {
        call_fini(call);
        return;
    }
    if (err == ORT_OK && !call->rendered) {
        /* Nothing had to change (suspending what is suspended): there was no commit to render in.
         */
        err = render_in_read(call);
    }
    if (err == ORT_OK) {
        err = ort_buf_check(&call->body);
    }
    if (err != ORT_OK) {
        send_problem(call, err);
        return;
    }
    send_answer(call->req, call->status, call->etag, call->location, call->body.data,
                call->body.len);
    call_fini(call);
}

void
cp_call_read(ort_http_req *req, void *api, cp_call_render render, void *ctx)
{
    cp_call call;

    if (cp_call_begin(&call, req, api, 200, render, ctx)) {
        cp_call_end(&call, ORT_OK);
    }
}

ort_err
cp_call_render_nothing(cp_call *call, cp_tx *tx)
{
    (void)call;
    (void)tx;
    return ORT_OK;
}

void *
cp_call_param(ort_http_req *req, const char *name)
{
    union {
        const char *in;
        void *out;
    } u = {.in = ort_http_req_param(req, name)};

    return u.out;
}

/* ---- request ---- */

static bool
is_known(const char *const *names, const char *name, size_t len)
{
    for (size_t i = 0; names[i] != NULL; i++) {
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0) {
            return true;
        }
    }
    return false;
}

ort_err
cp_call_object(cp_call *call, const char *const *names, bool may_be_empty, ort_json *out)
{
    size_t len = 0;
    const char *text = ort_http_req_body(call->req, &len);

    if (len == 0 && may_be_empty) {
        text = "{}";
        len = 2;
    }
    ort_err err =
        ort_json_parse(&call->doc, text, len, (ort_json_limits){.notes_max = 65536}, &call->diag);
    if (err != ORT_OK) {
        return err;
    }
    *out = ort_json_root(call->doc);
    if (ort_json_type_of(*out) != ORT_JSON_OBJECT) {
        return ort_fail(&call->diag, ORT_EVALIDATE, "the body is not a JSON object");
    }
    for (ort_json_iter it = ort_json_each(*out); ort_json_step(&it);) {
        const char *name = ort_json_str(it.key, &len);
        if (name == NULL || !is_known(names, name, len)) {
            return ort_fail(&call->diag, ORT_EVALIDATE, "unknown member '%.*s'",
                            (int)(len < 64 ? len : 64), name != NULL ? name : "");
        }
    }
    return ORT_OK;
}

ort_err
cp_call_tenant(cp_call *call, cp_tx *tx, cp_tenant *out)
{
    const char *text = ort_http_req_param(call->req, "tenant");
    ort_err err = cp_tenant_find(tx, text, out, &call->diag);

    if (err == ORT_OK && call->who->role == CP_ROLE_TENANT_ADMIN &&
        call->who->tenant.v != out->id.v) {
        err = ORT_ENOTFOUND;
    }
    if (err == ORT_ENOTFOUND) {
        /* One text for one that is not there and one that is not yours. */
        return ort_fail(&call->diag, err, "no tenant '%.63s'", text);
    }
    return err;
}

ort_err
cp_call_tenant_id(cp_call *call, ort_tenant_id *out)
{
    cp_tx *tx = NULL;
    cp_tenant tenant;
    ort_err err = cp_store_begin_read(call->api->options.store, &tx, &call->diag);

    if (err == ORT_OK) {
        err = cp_call_tenant(call, tx, &tenant);
    }
    cp_tx_end(tx);
    if (err == ORT_OK) {
        *out = tenant.id;
    }
    return err;
}

ort_err
cp_call_node_id(cp_call *call, ort_node_id *out)
{
    const char *text = ort_http_req_param(call->req, "node");

    if (ort_id_parse(text, strlen(text), &out->v) != ORT_OK) {
        return ort_fail(&call->diag, ORT_ENOTFOUND, "no node '%.63s'", text);
    }
    return ORT_OK;
}

ort_err
cp_call_if_match(cp_call *call, uint64_t *revision, const uint64_t **out)
{
    const char *text = ort_http_req_header(call->req, "If-Match");
    char *end = NULL;

    *out = revision;
    if (text == NULL) {
        return ort_fail(&call->diag, ORT_EPRECOND,
                        "this needs If-Match with the ETag that the change is based on");
    }
    if (strcmp(text, "*") == 0) {
        *out = NULL;
        return ORT_OK;
    }
    if (text[0] == '"' && isdigit((unsigned char)text[1])) {
        *revision = strtoull(text + 1, &end, 10);
        if (strcmp(end, "\"") == 0) {
            return ORT_OK;
        }
    }
    return ort_fail(&call->diag, ORT_ESTALE, "If-Match is not an ETag of this resource");
}

void
cp_call_set_etag(cp_call *call, uint64_t revision)
{
    snprintf(call->etag, sizeof call->etag, "\"%" PRIu64 "\"", revision);
}

ort_err
cp_new_token_id(cp_call *call, const char *text, char id_out[ORT_TOKEN_ID_TEXT_BYTES])
{
    ort_token token;

    if (ort_token_parse(text, strlen(text), &token) != ORT_OK) {
        return ort_fail(&call->diag, ORT_EINTERNAL, "the new token has no text");
    }
    ort_key_id_format(token.id, id_out);
    ort_token_wipe(&token);
    return ORT_OK;
}
