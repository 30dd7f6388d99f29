/* What a request leaves behind: counters, latencies, a line of the access log, and the per-tenant
 * numbers, bounded.
 *
 * Labels come from the route table and from statuses, never from a request's own text. A tenant is
 * no label of a histogram; the tenants' counters are shown for the most active ones and summed up
 * for the rest. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/clock.h"
#include "base/log.h"

static const ort_log log_api = {"api"};

#define TENANTS_SHOWN_MAX 200u

typedef struct {
    ort_tenant_id id;
    dp_tenant_usage usage;
} tenant_row;

typedef struct {
    tenant_row *rows;
    size_t count, cap;
    bool failed;
} tenant_rows;

static bool
add_row(void *ctx, ort_tenant_id id, const dp_tenant_usage *usage)
{
    tenant_rows *all = ctx;
    if (all->count == all->cap) {
        const size_t cap = all->cap == 0 ? 256 : all->cap * 2;
        tenant_row *rows = realloc(all->rows, cap * sizeof *rows);
        if (rows == NULL) {
            all->failed = true;
            return false;
        }
        all->rows = rows;
        all->cap = cap;
    }
    all->rows[all->count++] = (tenant_row){.id = id, .usage = *usage};
    return true;
}

static int
by_activity(const void *a, const void *b)
{
    const tenant_row *ra = a;
    const tenant_row *rb = b;
    if (ra->usage.requests != rb->usage.requests) {
        return ra->usage.requests > rb->usage.requests ? -1 : 1;
    }
    return ra->id.v < rb->id.v ? -1 : ra->id.v > rb->id.v;
}

static void
add_usage(dp_tenant_usage *to, const dp_tenant_usage *from)
{
    to->collections += from->collections;
    to->points += from->points;
    to->bytes += from->bytes;
    to->disk_bytes += from->disk_bytes;
    to->requests += from->requests;
    to->searches += from->searches;
    to->writes += from->writes;
    to->bytes_in += from->bytes_in;
    to->bytes_out += from->bytes_out;
}

typedef struct {
    ort_metric_type type;
    const char *name, *help;
    size_t offset; /* in dp_tenant_usage */
} tenant_metric;

#define OF(member) offsetof(dp_tenant_usage, member)
static const tenant_metric tenant_metrics[] = {
    {ORT_METRIC_GAUGE, "orthant_tenant_collections", "Collections of a tenant.", OF(collections)},
    {ORT_METRIC_GAUGE, "orthant_tenant_points", "Points of a tenant.", OF(points)},
    {ORT_METRIC_GAUGE, "orthant_tenant_storage_bytes", "Logical bytes of a tenant.", OF(bytes)},
    {ORT_METRIC_GAUGE, "orthant_tenant_disk_bytes", "Bytes in a tenant's files.", OF(disk_bytes)},
    {ORT_METRIC_COUNTER, "orthant_tenant_requests_total", "Requests of a tenant.", OF(requests)},
    {ORT_METRIC_COUNTER, "orthant_tenant_searches_total", "Searches of a tenant.", OF(searches)},
    {ORT_METRIC_COUNTER, "orthant_tenant_writes_total", "Writes of a tenant.", OF(writes)},
    {ORT_METRIC_COUNTER, "orthant_tenant_received_bytes_total", "Body bytes from a tenant.",
     OF(bytes_in)},
    {ORT_METRIC_COUNTER, "orthant_tenant_sent_bytes_total", "Body bytes to a tenant.",
     OF(bytes_out)},
};

static void
emit_tenant(ort_metrics_out *out, const tenant_metric *metric, const char *tenant,
            const dp_tenant_usage *usage)
{
    uint64_t value;
    memcpy(&value, (const char *)usage + metric->offset, sizeof value);
    const ort_label label = {"tenant", tenant};
    ort_metrics_emit(out, metric->type, metric->name, metric->help, &label, 1, (double)value);
}

static void
collect_tenants(ort_metrics_out *out, void *user)
{
    dp_api *api = user;
    tenant_rows all = {0};
    dp_tenant_usage other = {0};

    dp_tenants_each_usage(api->config.tenants, add_row, &all);
    if (all.count > 0) {
        qsort(all.rows, all.count, sizeof *all.rows, by_activity);
    }
    const size_t shown = all.count < TENANTS_SHOWN_MAX ? all.count : TENANTS_SHOWN_MAX;
    for (size_t i = shown; i < all.count; i++) {
        add_usage(&other, &all.rows[i].usage);
    }
    for (size_t m = 0; m < sizeof tenant_metrics / sizeof tenant_metrics[0]; m++) {
        for (size_t i = 0; i < shown; i++) {
            char id[ORT_ID_TEXT_BYTES];
            ort_id_format(all.rows[i].id.v, id);
            emit_tenant(out, &tenant_metrics[m], id, &all.rows[i].usage);
        }
        emit_tenant(out, &tenant_metrics[m], "_other", &other);
    }
    free(all.rows);
}

static void
emit(ort_metrics_out *out, ort_metric_type type, const char *name, const char *help, uint64_t value)
{
    ort_metrics_emit(out, type, name, help, NULL, 0, (double)value);
}

static void
collect_node(ort_metrics_out *out, void *user)
{
    dp_api *api = user;
    dp_gate_stats gate;
    dp_tenants_stats tenants;

    dp_gate_stats_get(api->config.gate, &gate);
    dp_tenants_get_stats(api->config.tenants, &tenants);
    emit(out, ORT_METRIC_GAUGE, "orthant_request_queue_depth",
         "Requests waiting for a processor slot.", gate.waiting);
    emit(out, ORT_METRIC_GAUGE, "orthant_request_body_bytes",
         "Declared bytes of the request bodies in work.", gate.body_bytes);
    emit(out, ORT_METRIC_GAUGE, "orthant_update_queue_depth", "Writes waiting for their turn.",
         tenants.update_queue);
    emit(out, ORT_METRIC_GAUGE, "orthant_tenants_known", "Tenants whose catalog is open.",
         tenants.tenants_known);
    emit(out, ORT_METRIC_GAUGE, "orthant_tenants_failed",
         "Of them, with a catalog that cannot be read: an operator should look.",
         tenants.tenants_failed);
    emit(out, ORT_METRIC_GAUGE, "orthant_collections_open", "Collections that are open.",
         tenants.collections_open);
    emit(out, ORT_METRIC_COUNTER, "orthant_collections_opened_total",
         "Collections opened since the start.", tenants.collections_opened);
    emit(out, ORT_METRIC_GAUGE, "orthant_collections_failed",
         "Collections that could not be opened: an operator should look.",
         tenants.collections_failed);
    emit(out, ORT_METRIC_GAUGE, "orthant_collections_memory_bytes",
         "Rough memory of the open collections.", tenants.memory_bytes);
    emit(out, ORT_METRIC_GAUGE, "orthant_trash_entries", "Deleted directories not yet swept.",
         tenants.trash_left);
    emit(out, ORT_METRIC_GAUGE, "orthant_snapshot_jobs",
         "Snapshots, backups and restores that run now.", tenants.snapshot_jobs);
    emit(out, ORT_METRIC_COUNTER, "orthant_snapshots_total",
         "Snapshots of collections and backups of tenants made.", tenants.snapshots);
    emit(out, ORT_METRIC_COUNTER, "orthant_restores_total",
         "Collections and tenants restored from such a file.", tenants.restores);
    emit(out, ORT_METRIC_COUNTER, "orthant_snapshot_failures_total",
         "Snapshots, backups and restores that were begun and failed, or were refused.",
         tenants.snapshot_failures);
    emit(out, ORT_METRIC_COUNTER, "orthant_scrub_bytes_total",
         "Bytes of closed collections read and checked in the background.", tenants.scrub_bytes);
    emit(out, ORT_METRIC_COUNTER, "orthant_scrub_rounds_total",
         "Times that all of them had been checked.", tenants.scrub_rounds);
    emit(out, ORT_METRIC_GAUGE, "orthant_scrub_damaged",
         "Collections and catalogs found damaged in the last round: the log names them.",
         tenants.scrub_damaged);
    for (size_t err = 0; err < sizeof gate.refused_total / sizeof gate.refused_total[0]; err++) {
        if (gate.refused_total[err] != 0) {
            const ort_label label = {"code", ort_err_code((ort_err)err)};
            ort_metrics_emit(out, ORT_METRIC_COUNTER, "orthant_gate_refusals_total",
                             "Requests refused at their head.", &label, 1,
                             (double)gate.refused_total[err]);
        }
    }
}

static void
collect_stages(ort_metrics_out *out, void *user)
{
    static const char *const names[DP_STAGE_COUNT] = {"gate", "wait",   "json",
                                                      "plan", "search", "answer"};
    dp_api *api = user;

    for (size_t i = 0; i < DP_STAGE_COUNT; i++) {
        const ort_label label = {"stage", names[i]};
        const uint64_t ns = atomic_load_explicit(&api->search_stage_ns[i], memory_order_relaxed);
        ort_metrics_emit(out, ORT_METRIC_COUNTER, "orthant_search_stage_seconds_total",
                         "Where the time of answered searches went.", &label, 1, (double)ns / 1e9);
    }
}

void
dp_api__observe_stages(dp_call *call, int status)
{
    if (status != 200 || call->route->meter != DP_METER_SEARCH) {
        return;
    }
    dp_call_stage(call, call->stage);
    for (size_t i = 0; i < DP_STAGE_COUNT; i++) {
        atomic_fetch_add_explicit(&call->api->search_stage_ns[i], call->stage_ns[i],
                                  memory_order_relaxed);
    }
}

ort_err
dp_api__observe_init(dp_api *api)
{
    ort_metrics *m = api->config.metrics;

    api->search_seconds = ort_metrics_histogram(
        m, "orthant_search_latency_seconds",
        "Time of a search, from the end of its body to its answer.", NULL, 0, NULL, 0);
    api->write_seconds = ort_metrics_histogram(
        m, "orthant_write_latency_seconds",
        "Time of a write, from the end of its body to its answer.", NULL, 0, NULL, 0);
    api->read_seconds = ort_metrics_histogram(
        m, "orthant_read_latency_seconds",
        "Time of any other call, from the end of its body to its answer.", NULL, 0, NULL, 0);
    ort_err err = ort_metrics_collect(m, collect_node, api);
    if (err == ORT_OK) {
        err = ort_metrics_collect(m, collect_stages, api);
    }
    return err == ORT_OK ? ort_metrics_collect(m, collect_tenants, api) : err;
}

void
dp_api__observe(dp_api *api, const ort_http_req *req, const ort_http_outcome *outcome)
{
    const ort_http_route *line = ort_http_req_route(req);
    const dp_route *route = line != NULL ? line->extra : NULL;
    char status[8];

    snprintf(status, sizeof status, "%d", outcome->status);
    const ort_label labels[] = {
        {"method", line != NULL ? ort_http_req_method_text(req) : "_other"},
        {"route", line != NULL ? line->pattern : "_unknown"},
        {"status", status},
    };
    ort_counter_add(ort_metrics_counter(api->config.metrics, "orthant_http_requests_total",
                                        "Requests answered by the data API.", labels, 3),
                    1);
    if (route != NULL && outcome->status == 200 && (route->flags & DP_ROUTE_PUBLIC) == 0) {
        ort_histogram *seconds = route->meter == DP_METER_SEARCH  ? api->search_seconds
                                 : route->meter == DP_METER_WRITE ? api->write_seconds
                                                                  : api->read_seconds;
        const uint64_t us = outcome->duration_us > outcome->body_wait_us
                                ? outcome->duration_us - outcome->body_wait_us
                                : 0;
        ort_histogram_observe(seconds, (double)us * 1e-6);
    }
    ORT_LOG_DEBUG(&log_api, "http.access",
                  "request=%s remote=%s method=%s route=%s status=%d in=%" PRIu64 " out=%" PRIu64
                  " us=%" PRIu64 " body_us=%" PRIu64 " refused=%s",
                  ort_http_req_id(req), ort_http_req_remote(req), labels[0].value, labels[1].value,
                  outcome->status, outcome->bytes_in, outcome->bytes_out, outcome->duration_us,
                  outcome->body_wait_us, outcome->refused != NULL ? outcome->refused : "-");
}
