/* What the node tells of itself: in heartbeats, and at /metrics. */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/log.h"
#include "node.h"

typedef struct {
    ort_heartbeat *beat;
    size_t cap;
    bool failed;
} usage_list;

static bool
add_usage(void *ctx, ort_tenant_id id, const dp_tenant_usage *usage)
{
    usage_list *list = ctx;
    ort_heartbeat *beat = list->beat;

    if (beat->usage_count == ORT_BEAT_USAGE_MAX) {
        return false;
    }
    if (beat->usage_count == list->cap) {
        const size_t cap = list->cap == 0 ? 64 : list->cap * 2;
        ort_usage *grown = realloc(beat->usage, cap * sizeof *grown);
        if (grown == NULL) {
            return false; /* counters are cumulative: the next beat tells it all */
        }
        beat->usage = grown;
        list->cap = cap;
    }
    beat->usage[beat->usage_count++] = (ort_usage){
        .tenant = id,
        .points = usage->points,
        .storage_bytes = usage->bytes,
        .disk_bytes = usage->disk_bytes,
        .collections = usage->collections,
        .requests = usage->requests,
        .searches = usage->searches,
        .writes = usage->writes,
        .bytes_in = usage->bytes_in,
        .bytes_out = usage->bytes_out,
    };
    return true;
}

typedef struct {
    ort_heartbeat *beat;
    size_t cap;
} key_list;

static bool
add_key(void *ctx, ort_key_id key, int64_t wall_ms)
{
    key_list *list = ctx;
    ort_heartbeat *beat = list->beat;

    if (beat->key_used_count == ORT_BEAT_KEYS_MAX) {
        return false;
    }
    if (beat->key_used_count == list->cap) {
        const size_t cap = list->cap == 0 ? 64 : list->cap * 2;
        ort_key_used *grown = realloc(beat->key_used, cap * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        beat->key_used = grown;
        list->cap = cap;
    }
    beat->key_used[beat->key_used_count++] = (ort_key_used){.key = key, .at_ms = wall_ms};
    return true;
}

/* Tenants that are to be deleted and of which nothing is left here. */
static void
collect_gone(dp_node_process *node, ort_heartbeat *beat)
{
    const dp_table *table = dp_routes_acquire(node->routes);
    uint64_t at = 0;
    size_t count = 0;
    const dp_tenant_entry *entry;

    while ((entry = dp_table_next_tenant(table, &at)) != NULL) {
        count += entry->state == DP_TENANT_DELETING;
    }
    if (count > 0) {
        beat->gone = calloc(count, sizeof *beat->gone);
    }
    at = 0;
    while (beat->gone != NULL && (entry = dp_table_next_tenant(table, &at)) != NULL) {
        if (entry->state == DP_TENANT_DELETING && !dp_tenants_exists(node->tenants, entry->id)) {
            beat->gone[beat->gone_count++] = entry->id;
        }
    }
    dp_table_release(table);
}

void
dp_node__collect_beat(void *arg, ort_heartbeat *beat)
{
    dp_node_process *node = arg;
    ort_process_load load;
    struct statvfs fs;
    dp_gate_stats gate;
    usage_list usage = {.beat = beat};
    key_list keys = {.beat = beat};

    ort_process_load_read(&node->load_last, &load);
    dp_gate_stats_get(node->gate, &gate);
    beat->load.cpu_ratio = load.cpu_ratio;
    beat->load.memory_ratio = load.memory_limit_bytes != 0 ? (double)load.memory_usage_bytes /
                                                                 (double)load.memory_limit_bytes
                                                           : 0;
    if (fstatvfs(node->data_fd, &fs) == 0) {
        beat->load.disk_total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
        beat->load.disk_used_bytes =
            beat->load.disk_total_bytes - (uint64_t)fs.f_bavail * fs.f_frsize;
    }
    beat->load.queue_depth = gate.waiting;
    dp_tenants_each_news(node->tenants, node->beats++, add_usage, &usage);
    dp_gate_each_used(node->gate, add_key, &keys);
    collect_gone(node, beat);
}

int64_t
dp_node__table_age_ms(void *arg)
{
    dp_node_process *node = arg;
    dp_agent *agent = atomic_load(&node->agent);
    dp_agent_stats stats;

    if (agent == NULL) {
        return -1;
    }
    dp_agent_stats_get(agent, &stats);
    return stats.age_ms;
}

static void
gauge(ort_metrics_out *out, const char *name, const char *help, double value)
{
    ort_metrics_emit(out, ORT_METRIC_GAUGE, name, help, NULL, 0, value);
}

static void
counter(ort_metrics_out *out, const char *name, const char *help, uint64_t value)
{
    ort_metrics_emit(out, ORT_METRIC_COUNTER, name, help, NULL, 0, (double)value);
}

static void
emit_table(ort_metrics_out *out, const dp_agent_stats *s)
{
    gauge(out, "orthant_table_age_seconds",
          "Time since the control plane confirmed this node's routing table; -1: no table.",
          s->age_ms < 0 ? -1 : (double)s->age_ms / 1000);
    gauge(out, "orthant_table_lag_versions", "Versions between the newest table and this node's.",
          (double)s->lag_versions);
    gauge(out, "orthant_table_version", "Version of the applied routing table.",
          (double)s->applied.version);
    gauge(out, "orthant_table_generation", "Hub generation of the applied routing table.",
          (double)s->applied.generation);
    gauge(out, "orthant_table_split", "1: two control planes disagree, applying has stopped.",
          s->split);
    counter(out, "orthant_tables_applied_total", "Routing tables applied.", s->applied_total);
    for (int why = 0; why < DP_REFUSED_KINDS; why++) {
        const ort_label label = {"reason", dp_refused_word((dp_refused)why)};
        ort_metrics_emit(out, ORT_METRIC_COUNTER, "orthant_tables_refused_total",
                         "Routing tables refused; `older`, `hub`, `node`, `signature` may be an "
                         "attack.",
                         &label, 1, (double)s->refused_total[why]);
    }
}

static void
collect(ort_metrics_out *out, void *user)
{
    dp_node_process *node = user;
    dp_agent *agent = atomic_load(&node->agent);
    dp_forward *forward = atomic_load(&node->forward);

    if (agent != NULL) {
        dp_agent_stats stats;
        dp_agent_stats_get(agent, &stats);
        emit_table(out, &stats);
        gauge(out, "orthant_node_joined", "1: this node belongs to a hub.", stats.joined);
        gauge(out, "orthant_control_reachable", "1: the last heartbeat was answered.",
              stats.control_reachable);
        counter(out, "orthant_heartbeats_total", "Heartbeats sent.", stats.beats_total);
        counter(out, "orthant_heartbeat_failures_total", "Heartbeats without an answer.",
                stats.beat_failures_total);
        counter(out, "orthant_table_fetches_total", "Fetches of routing tables.",
                stats.fetches_total);
        counter(out, "orthant_table_hints_total", "Hints heard that there is a newer table.",
                stats.hints_total);
    }
    if (forward != NULL) {
        dp_forward_stats stats;
        dp_forward_stats_get(forward, &stats);
        counter(out, "orthant_forwards_total", "Requests sent to their tenant's node.",
                stats.sent_total);
        counter(out, "orthant_forward_failures_total", "Of those, without an answer.",
                stats.failed_total);
        counter(out, "orthant_forward_refusals_total", "Not sent for want of room.",
                stats.refused_total);
        gauge(out, "orthant_forwards_in_flight", "Requests at other nodes now.",
              (double)stats.in_flight);
    }
    if (node->http != NULL) {
        ort_http_stats stats;
        ort_http_server_stats(node->http, &stats);
        gauge(out, "orthant_http_in_flight", "Requests in work, body reading included.",
              stats.in_flight);
        gauge(out, "orthant_http_threads", "Connections that can be served at once.",
              stats.threads);
        gauge(out, "orthant_http_connections", "Open connections, idle or not.", stats.connections);
        counter(out, "orthant_http_refused_total", "Requests refused by the HTTP front itself.",
                stats.refused);
    }
}

ort_err
dp_node__observe_init(dp_node_process *node)
{
    const ort_err err = ort_metrics_process(node->metrics);
    return err == ORT_OK ? ort_metrics_collect(node->metrics, collect, node) : err;
}
