/* control-plane/api/audit.c: /v1/audit. */
#include "tenancy/audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"

static void
write_hash(ort_jw *w, const char *name, const ort_hash *hash)
{
    char hex[ORT_HASH_TEXT_BYTES];

    ort_hash_format(hash, hex);
    cp_write_text(w, name, hex);
}

static ort_err
visit(void *ctx, const cp_oplog_record *r)
{
    cp_list *list = ctx;
    char key[32];

    snprintf(key, sizeof key, "%" PRIu64, r->version);
    if (!cp_list_take(list, key)) {
        return ORT_OK;
    }
    ort_jw *w = &list->w;
    ort_jw_object(w);
    cp_write_u64(w, "version", r->version);
    cp_write_time(w, "at", r->at_ms);
    cp_write_text(w, "actor", r->actor);
    cp_write_text(w, "op", r->op);
    ort_jw_key(w, "tenant");
    if (r->tenant.v == 0) {
        ort_jw_null(w);
    } else {
        char id[ORT_ID_TEXT_BYTES];
        ort_id_format(r->tenant.v, id);
        ort_jw_str(w, id);
    }
    ort_jw_key(w, "denial");
    ort_jw_bool(w, r->denial);
    cp_write_text(w, "request_id", r->request_id);
    ort_jw_key(w, "before");
    ort_jw_raw(w, r->before, strlen(r->before));
    ort_jw_key(w, "after");
    ort_jw_raw(w, r->after, strlen(r->after));
    write_hash(w, "prev_hash", &r->prev_hash);
    write_hash(w, "hash", &r->hash);
    ort_jw_object_end(w);
    return ORT_OK;
}

/* Before the page begins: a filter by tenant takes its name, too, also of one that was deleted. */
static ort_err
read_filters(cp_call *call, cp_tx *tx, cp_oplog_query *query)
{
    const char *tenant = ort_http_req_query(call->req, "tenant");
    cp_tenant row;

    query->op = ort_http_req_query(call->req, "op");
    query->actor = ort_http_req_query(call->req, "actor");
    if (tenant == NULL || ort_id_parse(tenant, strlen(tenant), &query->tenant.v) == ORT_OK) {
        return ORT_OK;
    }
    ort_err err = cp_tenant_find(tx, tenant, &row, &call->diag);
    if (err == ORT_OK) {
        query->tenant = row.id;
    }
    return err;
}

static ort_err
render_list(cp_call *call, cp_tx *tx)
{
    cp_list list;
    ort_err err = cp_list_begin(&list, call, "audit");
    cp_oplog_query query = {.limit = list.page.limit, .for_people = true};

    query.after = strtoull(list.after, NULL, 10); /* our own cursor; "" is 0 */
    if (err == ORT_OK) {
        err = read_filters(call, tx, &query);
    }
    if (err == ORT_OK) {
        err = cp_oplog_list(tx, &query, visit, &list, &call->diag);
    }
    cp_list_end(&list);
    return err;
}

void
cp_audit_list(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render_list, NULL);
}

static ort_err
render_verdict(cp_call *call, cp_tx *tx)
{
    const cp_oplog_verdict *v = call->ctx;
    ort_jw w = {.buf = &call->body};

    (void)tx;
    ort_jw_object(&w);
    ort_jw_key(&w, "intact");
    ort_jw_bool(&w, v->intact);
    cp_write_u64(&w, "records", v->records);
    ort_jw_key(&w, "bad_version");
    if (v->intact) {
        ort_jw_null(&w);
    } else {
        ort_jw_u64(&w, v->bad_version);
    }
    cp_write_text(&w, "detail", v->detail);
    ort_jw_object_end(&w);
    return ORT_OK;
}

void
cp_audit_check(ort_http_req *req, void *api)
{
    cp_oplog_verdict verdict = {0};
    cp_call call;

    if (cp_call_begin(&call, req, api, 200, render_verdict, &verdict)) {
        cp_call_end(&call, cp_audit_verify(call.api->options.tenancy, NULL, &verdict, &call.diag));
    }
}
