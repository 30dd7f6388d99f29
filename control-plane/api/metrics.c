/* control-plane/api/metrics.c: what /metrics shows of the control plane. */
#include "metrics/metrics.h"

#include "api/api_internal.h"
#include "store/nodes.h"

#define COUNTER(name, help, value) \
    ort_metrics_emit(out, ORT_METRIC_COUNTER, name, help, NULL, 0, (double)(value))
#define GAUGE(name, help, value) \
    ort_metrics_emit(out, ORT_METRIC_GAUGE, name, help, NULL, 0, (double)(value))

/* One sample a node, of one name at a time: they belong together in the text. */
typedef struct {
    cp_api *api;
    ort_metrics_out *out;
    unsigned what;
    unsigned count;
} node_samples;

/* Nodes shown one by one; a hub of thousands is looked at through the sums. */
#define NODES_SHOWN 200u

static ort_err
emit_node(void *ctx, const cp_node *row)
{
    node_samples *n = ctx;
    char id[ORT_ID_TEXT_BYTES];
    const ort_label labels[] = {{"node", id}, {"region", row->region}};
    cp_push_status at;

    if (n->count++ == NODES_SHOWN) {
        return ORT_EQUOTA;
    }
    ort_id_format(row->id.v, id);
    if (cp_push_status_of(n->api->options.push, row->id, &at) != ORT_OK) {
        return ORT_OK;
    }
    if (n->what == 0) {
        ort_metrics_emit(n->out, ORT_METRIC_GAUGE, "orthant_node_table_lag_versions",
                         "Versions a node has not applied yet.", labels, 2,
                         (double)at.lag_versions);
    } else if (n->what == 1) {
        ort_metrics_emit(n->out, ORT_METRIC_GAUGE, "orthant_node_table_lag_seconds",
                         "Age of the oldest version a node has not applied yet.", labels, 2,
                         (double)at.lag_ms / 1000.0);
    } else {
        ort_metrics_emit(n->out, ORT_METRIC_GAUGE, "orthant_node_tenants",
                         "Tenants placed on a node.", labels, 2, (double)at.tenants);
    }
    return ORT_OK;
}

static void
collect_nodes(cp_api *api, ort_metrics_out *out)
{
    cp_tx *tx = NULL;

    if (cp_store_begin_read(api->options.store, &tx, NULL) != ORT_OK) {
        return;
    }
    for (unsigned what = 0; what < 3; what++) {
        node_samples n = {.api = api, .out = out, .what = what};
        ort_err err = cp_node_list(tx, false, (cp_page){0}, emit_node, &n, NULL);
        if (err != ORT_OK && err != ORT_EQUOTA) {
            break;
        }
    }
    cp_tx_end(tx);
}

static void
collect_fleet(cp_api *api, ort_metrics_out *out)
{
    cp_fleet_stats fleet;

    cp_fleet_stats_get(api->options.fleet, &fleet);
    for (unsigned i = 0; i < CP_HEALTH_COUNT; i++) {
        const ort_label label = {"health", cp_health_name((cp_health)i)};
        ort_metrics_emit(out, ORT_METRIC_GAUGE, "orthant_nodes", "Nodes of the hub by health.",
                         &label, 1, (double)fleet.nodes[i]);
    }
    COUNTER("orthant_node_joins_total", "Nodes that joined.", fleet.joins_total);
    COUNTER("orthant_node_hellos_total", "Hellos taken.", fleet.hellos_total);
    COUNTER("orthant_node_heartbeats_total", "Heartbeats taken.", fleet.heartbeats_total);
    COUNTER("orthant_node_fetches_total", "Table fetches.", fleet.fetches_total);
    COUNTER("orthant_node_refused_total", "Messages of nodes that were refused.",
            fleet.refused_total);
    COUNTER("orthant_node_fenced_total", "Messages of replaced processes, and replays.",
            fleet.fenced_total);
    COUNTER("orthant_node_usage_failures_total", "Usage reports the store did not take.",
            fleet.usage_failures_total);
}

static void
collect_push(cp_api *api, ort_metrics_out *out)
{
    cp_push_stats push;
    cp_feed_stats feed;

    cp_push_stats_get(api->options.push, &push);
    cp_feed_stats_get(api->options.feed, &feed);
    GAUGE("orthant_table_version", "Newest version that is in the tables.",
          cp_push_version(api->options.push));
    COUNTER("orthant_table_changes_total", "Versions made.", push.applies_total);
    COUNTER("orthant_table_hints_total", "Hints sent to nodes.", push.hints_total);
    COUNTER("orthant_table_deltas_total", "Tables sent as a difference.", push.deltas_total);
    COUNTER("orthant_table_wholes_total", "Tables sent whole.", push.wholes_total);
    COUNTER("orthant_table_sent_bytes_total", "Bytes of tables sent.", push.table_bytes_total);
    GAUGE("orthant_table_largest_bytes", "Largest table sent.", push.table_bytes_max);
    COUNTER("orthant_table_nacks_total", "Tables that nodes refused.", push.nacks_total);
    COUNTER("orthant_table_oversize_total", "Tables too large to send.", push.oversize_total);
    COUNTER("orthant_table_compiles_total", "Times tables were compiled.", feed.compiles_total);
    COUNTER("orthant_table_compile_failures_total", "Times that failed.", feed.failures_total);
    COUNTER("orthant_table_compile_seconds_total", "Time spent compiling.",
            (double)feed.compile_ns_total / 1e9);
}

static void
collect_store(cp_api *api, ort_metrics_out *out)
{
    cp_store_stats store;

    cp_store_stats_get(api->options.store, &store);
    COUNTER("orthant_store_changes_total", "Changes committed.", store.changes_total);
    COUNTER("orthant_store_notes_total", "Observations committed.", store.notes_total);
    COUNTER("orthant_store_rollbacks_total", "Transactions rolled back.", store.rollbacks_total);
    COUNTER("orthant_store_errors_total", "Errors of the database.", store.errors_total);
    GAUGE("orthant_store_version", "Newest version committed.", store.version);
    GAUGE("orthant_store_file_bytes", "Database and write-ahead log on disk.", store.file_bytes);
    COUNTER("orthant_store_commit_seconds_total", "Time spent committing.",
            (double)store.commit_ns_total / 1e9);
}

static void
collect(ort_metrics_out *out, void *user)
{
    cp_api *api = user;

    collect_fleet(api, out);
    collect_push(api, out);
    collect_store(api, out);
    collect_nodes(api, out);
}

ort_err
cp_api__register_metrics(cp_api *api)
{
    return ort_metrics_collect(api->options.metrics, collect, api);
}
