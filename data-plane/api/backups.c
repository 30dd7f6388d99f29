/* Backup, restore and clone of a whole tenant, by a grant of the hub: the file goes between this
 * node and whoever holds the grant, so that gigabytes pass through no control plane. No key of a
 * tenant opens these, and a grant opens nothing else. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/api_internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "wire/grant.h"

static const ort_log log_api = {"api"};

/* A tenant of this node for as long as the call takes. */
typedef struct {
    const dp_table *table;
    const dp_tenant_entry *entry;
    dp_tenant *tenant;
} held;

static void
let_go(held *h)
{
    dp_tenant_unref(h->tenant);
    *h = (held){0};
}

static ort_err
hold(dp_call *call, const dp_table *table, ort_tenant_id id, held *out)
{
    *out = (held){.table = table, .entry = dp_table_tenant(table, id)};
    if (out->entry == NULL) {
        /* Just made, or just moved here: the table is on its way. */
        return ort_fail(&call->diag, ORT_EBUSY, "this node does not know the tenant yet");
    }
    if (out->entry->state == DP_TENANT_DELETING) {
        return ort_fail(&call->diag, ORT_ENOTFOUND, "the tenant is being deleted");
    }
    const ort_err err = dp_tenants_get(call->api->config.tenants, id, &out->tenant, &call->diag);
    if (err == ORT_OK) {
        const dp_tenant_limits limits = dp_gate_limits(&out->entry->limits);
        dp_tenant_set_limits(out->tenant, &limits);
    }
    return err == ORT_ECORRUPT || err == ORT_EVERSION ? ORT_EBUSY : err;
}

/* --- grants ----------------------------------------------------------------------------------- */

/* Once: false when it was used before, or so many were that this one cannot be remembered. */
static bool
use_once(dp_api *api, const ort_grant *grant, int64_t now_ms)
{
    bool fresh = true;
    size_t place = DP_API_GRANTS_MAX;
    pthread_mutex_lock(&api->grants_lock);
    for (size_t i = 0; i < DP_API_GRANTS_MAX; i++) {
        if (api->grants[i].expires_ms < now_ms) {
            place = i;
        } else if (api->grants[i].nonce == grant->nonce) {
            fresh = false;
        }
    }
    fresh = fresh && place < DP_API_GRANTS_MAX;
    if (fresh) {
        api->grants[place].nonce = grant->nonce;
        api->grants[place].expires_ms = grant->expires_ms;
    }
    pthread_mutex_unlock(&api->grants_lock);
    return fresh;
}

/* Who asked with what was refused, or did not happen: the grant is good for another try. */
static void
give_back(dp_api *api, const ort_grant *grant)
{
    pthread_mutex_lock(&api->grants_lock);
    for (size_t i = 0; i < DP_API_GRANTS_MAX; i++) {
        if (api->grants[i].nonce == grant->nonce) {
            api->grants[i].expires_ms = 0;
        }
    }
    pthread_mutex_unlock(&api->grants_lock);
}

/* One text for whatever is wrong with it, but for its age, which an honest caller can mend. */
static ort_err
check_grant(dp_call *call, ort_grant_op op, ort_grant *out)
{
    const char *field = ort_http_req_header(call->req, "authorization");
    const int64_t now = ort_wall_ms();
    dp_agent_hub hub;
    dp_api *api = call->api;
    *out = (ort_grant){0};
    if (api->config.hub == NULL || api->config.hub(api->config.arg, &hub) != ORT_OK) {
        return ort_fail(&call->diag, ORT_EBUSY, "this node has not joined its hub yet");
    }
    if (field != NULL && strncasecmp(field, "Bearer ", 7) == 0) {
        field += 7;
    }
    if (field == NULL || ort_grant_parse(field, strlen(field), &hub.control_key, out) != ORT_OK ||
        out->op != op || out->hub_id != hub.hub_id || out->node.v != hub.node.v) {
        return ort_fail(&call->diag, ORT_EAUTH,
                        "this needs a grant of the hub for this node and this call "
                        "(orthant tenant backup, restore, clone)");
    }
    if (out->expires_ms < now) {
        return ort_fail(&call->diag, ORT_EAUTH, "the grant has expired: ask for another");
    }
    return use_once(api, out, now)
               ? ORT_OK
               : ort_fail(&call->diag, ORT_EAUTH, "the grant was used already: ask for another");
}

static void
log_done(dp_call *call, const ort_grant *grant, ort_err err, const dp_snapshot_totals *totals)
{
    char id[ORT_ID_TEXT_BYTES];
    ort_id_format(grant->tenant.v, id);
    ORT_LOG_INFO(&log_api, "tenant.moved",
                 "op=%s tenant=%s err=%s collections=%" PRIu64 " points=%" PRIu64
                 " file_bytes=%" PRIu64 " request=%s",
                 ort_grant_op_name(grant->op), id, ort_err_code(err), totals->collections,
                 totals->points, totals->file_bytes, ort_http_req_id(call->req));
}

/* --- the calls -------------------------------------------------------------------------------- */

static dp_snapshot_pin
pin_of(const held *h)
{
    return (dp_snapshot_pin){.regions = h->entry->regions, .region_count = h->entry->region_count};
}

ort_err
dp_api__backup(dp_call *call)
{
    const dp_table *table = NULL;
    ort_grant grant;
    held h = {0};
    dp_tenant_file *file = NULL;
    dp_snapshot_totals totals = {0};
    ort_err err = check_grant(call, ORT_GRANT_BACKUP, &grant);
    if (err != ORT_OK) {
        return err;
    }
    table = dp_gate_table(call->api->config.gate);
    err = hold(call, table, grant.tenant, &h);
    if (err == ORT_OK) {
        const dp_snapshot_pin pin = pin_of(&h);
        err = dp_tenant_backup(h.tenant, &pin, &file, &totals, &call->diag);
    }
    if (err == ORT_OK) {
        char sha256[ORT_HASH_TEXT_BYTES], name[ORT_ID_TEXT_BYTES + 16];
        ort_hash_format(&totals.sha256, sha256);
        ort_id_format(grant.tenant.v, name);
        strcat(name, ".orthant");
        ort_http_header(call->req, "X-Orthant-Sha256", sha256);
        ort_http_headerf(call->req, "X-Orthant-Collections", "%" PRIu64, totals.collections);
        ort_http_headerf(call->req, "X-Orthant-Points", "%" PRIu64, totals.points);
        dp_api__send_file(call, dp_tenant_file_peek_fd(file), totals.file_bytes, name);
    } else {
        give_back(call->api, &grant);
    }
    dp_tenant_file_free(file);
    log_done(call, &grant, err, &totals);
    let_go(&h);
    dp_table_release(table);
    return err;
}

static ort_err
read_replace(dp_call *call, bool *out)
{
    const char *text = ort_http_req_query(call->req, "replace");
    *out = text != NULL && strcmp(text, "true") == 0;
    if (text != NULL && !*out && strcmp(text, "false") != 0) {
        call->place = DP_PLACE_QUERY;
        return ort_fail(&call->diag, ORT_EFORMAT, "replace: neither `true` nor `false`");
    }
    return ORT_OK;
}

static void
reply_totals(dp_call *call, const dp_snapshot_totals *totals)
{
    ort_buf out = {0};
    ort_jw w = {.buf = &out};
    ort_jw_object(&w);
    ort_jw_key(&w, "result");
    ort_jw_object(&w);
    ort_jw_key(&w, "collections");
    ort_jw_u64(&w, totals->collections);
    ort_jw_key(&w, "points");
    ort_jw_u64(&w, totals->points);
    ort_jw_key(&w, "bytes");
    ort_jw_u64(&w, totals->bytes);
    ort_jw_object_end(&w);
    ort_jw_key(&w, "status");
    ort_jw_str(&w, "ok");
    ort_jw_key(&w, "time");
    dp_api__write_time(&w, call->req);
    ort_jw_object_end(&w);
    ort_http_reply_json(call->req, 200, &out);
    ort_buf_fini(&out);
}

/* The end of a restore or a clone. */
static ort_err
end(dp_call *call, const ort_grant *grant, ort_err err, const dp_snapshot_totals *totals)
{
    log_done(call, grant, err, totals);
    if (err != ORT_OK) {
        give_back(call->api, grant);
        return err;
    }
    reply_totals(call, totals);
    return ORT_OK;
}

ort_err
dp_api__restore(dp_call *call)
{
    const dp_table *table = NULL;
    ort_grant grant;
    held h = {0};
    dp_tenant_file *file = NULL;
    dp_snapshot_totals totals = {0};
    bool replace = false;
    ort_err err = check_grant(call, ORT_GRANT_RESTORE, &grant);
    if (err != ORT_OK) {
        return err;
    }
    table = dp_gate_table(call->api->config.gate);
    err = read_replace(call, &replace);
    if (err == ORT_OK) {
        err = hold(call, table, grant.tenant, &h);
    }
    if (err == ORT_OK) {
        err = dp_tenant_file_new(&file, h.tenant, &call->diag);
    }
    if (err == ORT_OK) {
        err = dp_api__receive_file(call, file);
    }
    if (err == ORT_OK) {
        err = dp_tenant_restore(h.tenant, dp_tenant_file_peek_fd(file), dp_api__region(table),
                                replace, &totals, &call->diag);
    }
    dp_tenant_file_free(file);
    err = end(call, &grant, err, &totals);
    let_go(&h);
    dp_table_release(table);
    return err;
}

ort_err
dp_api__clone(dp_call *call)
{
    const dp_table *table = NULL;
    ort_grant grant;
    held from = {0}, to = {0};
    dp_tenant_file *file = NULL;
    dp_snapshot_totals totals = {0};
    bool replace = false;
    ort_err err = check_grant(call, ORT_GRANT_CLONE, &grant);
    if (err != ORT_OK) {
        return err;
    }
    table = dp_gate_table(call->api->config.gate);
    err = read_replace(call, &replace);
    if (err == ORT_OK) {
        err = hold(call, table, grant.from, &from);
    }
    if (err == ORT_OK) {
        err = hold(call, table, grant.tenant, &to);
    }
    if (err == ORT_OK) {
        const dp_snapshot_pin pin = pin_of(&from);
        err = dp_tenant_backup(from.tenant, &pin, &file, &totals, &call->diag);
    }
    if (err == ORT_OK) {
        err = dp_tenant_restore(to.tenant, dp_tenant_file_peek_fd(file), dp_api__region(table),
                                replace, &totals, &call->diag);
    }
    dp_tenant_file_free(file);
    err = end(call, &grant, err, &totals);
    let_go(&from);
    let_go(&to);
    dp_table_release(table);
    return err;
}
