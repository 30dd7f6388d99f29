/* control-plane/api/usage.c: /v1/tenants/{tenant}/usage, and what others show of it. */
#include "store/usage.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/api_internal.h"

#define DAY_MS 86400000
#define HOUR_MS 3600000

ort_err
cp_write_usage(cp_call *call, cp_tx *tx, ort_jw *w, ort_tenant_id tenant)
{
    cp_usage usage;
    ort_err err = cp_usage_get(tx, tenant, &usage, &call->diag);

    if (err == ORT_ENOTFOUND) {
        usage = (cp_usage){0};
        err = ORT_OK;
    }
    if (err != ORT_OK) {
        return err;
    }
    ort_jw_object(w);
    cp_write_u64(w, "collections", usage.now.collections);
    cp_write_u64(w, "vectors", usage.now.vectors);
    cp_write_u64(w, "storage_bytes", usage.now.storage_bytes);
    cp_write_u64(w, "disk_bytes", usage.now.disk_bytes);
    cp_write_u64(w, "requests", usage.total[CP_METER_REQUESTS]);
    cp_write_time(w, "updated_at", usage.updated_at_ms);
    ort_jw_object_end(w);
    return ORT_OK;
}

static ort_err
visit(void *ctx, const cp_usage_hour *row)
{
    cp_list *list = ctx;
    char key[32];

    snprintf(key, sizeof key, "%" PRId64, row->hour_ms);
    if (!cp_list_take(list, key)) {
        return ORT_OK;
    }
    ort_jw *w = &list->w;
    ort_jw_object(w);
    cp_write_time(w, "hour", row->hour_ms);
    for (unsigned i = 0; i < CP_METER_COUNT; i++) {
        cp_write_u64(w, cp_meter_name((cp_meter)i), row->sum[i]);
    }
    cp_write_u64(w, "vectors_max", row->max.vectors);
    cp_write_u64(w, "storage_bytes_max", row->max.storage_bytes);
    cp_write_u64(w, "collections_max", row->max.collections);
    ort_jw_object_end(w);
    return ORT_OK;
}

static ort_err
query_time(cp_call *call, const char *name, int64_t *ms)
{
    const char *text = ort_http_req_query(call->req, name);
    int64_t micros = 0;

    if (text == NULL) {
        return ORT_OK;
    }
    if (ort_rfc3339_parse(text, strlen(text), &micros) != ORT_OK) {
        return ort_fail(&call->diag, ORT_EVALIDATE, "'%s' is not an RFC 3339 time", name);
    }
    *ms = micros / 1000;
    return ORT_OK;
}

static ort_err
render(cp_call *call, cp_tx *tx)
{
    cp_tenant tenant;
    cp_list list;
    int64_t now = ort_wall_ms();
    int64_t from = (now - DAY_MS) / HOUR_MS * HOUR_MS;
    int64_t to = now;
    ort_err err = cp_list_begin(&list, call, "usage");

    if (err == ORT_OK) {
        err = cp_call_tenant(call, tx, &tenant);
    }
    if (err == ORT_OK) {
        err = query_time(call, "from", &from);
    }
    if (err == ORT_OK) {
        err = query_time(call, "to", &to);
    }
    if (err == ORT_OK) {
        err = cp_usage_list(tx, tenant.id, from, to, list.page, visit, &list, &call->diag);
    }
    cp_list_end(&list);
    return err;
}

void
cp_usage_hours(ort_http_req *req, void *api)
{
    cp_call_read(req, api, render, NULL);
}
