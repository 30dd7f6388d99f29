/* data-plane/node.h: one data-plane process: its parts, and the order in which they come and go. */
#ifndef DP_NODE_H
#define DP_NODE_H
#include <pthread.h>

#include <stdatomic.h>

#include "api/api.h"
#include "config/node_config.h"
#include "gate/gate.h"
#include "routing/agent.h"

#define DP_NODE_SOFTWARE "orthant-node " ORT_VERSION

/* Parts are listed in the order they are made; they go in the reverse one. NULL: not there (yet).
 * Threads: made and unmade by the main thread alone; forward is published to request threads. */
typedef struct {
    ort_node_config config;
    int data_fd; /* config.data_dir */
    int node_fd; /* config.data_dir/node: credential and table, 0700 */
    ort_metrics *metrics;
    ort_pool *workers;
    dp_tenants *tenants;
    dp_routes *routes;
    dp_gate *gate;
    pthread_mutex_t gate_lock; /* index builds look at the gate, and outlive it */
    dp_api *api;
    ort_http_server *http;
    dp_agent *_Atomic agent;
    _Atomic(dp_forward *) forward;
    dp_forward_server *forward_server;
    const char *forward_cert; /* the certificate both use; the agent's; NULL: none */

    pthread_t census;
    bool census_runs;
    atomic_bool census_stop;

    uint32_t beats;             /* told so far; the agent's thread alone */
    ort_process_last load_last; /* of heartbeats; the agent's thread alone */
    atomic_bool table_changed;  /* set by the agent, answered by the main thread */
    char endpoint[256];
    uint64_t capacity_bytes;
} dp_node_process;

/* --- report.c: what the node tells the control plane and Prometheus --------------------------- */

/* A dp_agent_owner's collect. */
void dp_node__collect_beat(void *node, ort_heartbeat *beat);

/* How old the table is, for the gate; -1: not known. */
int64_t dp_node__table_age_ms(void *node);

ORT_NODISCARD ort_err dp_node__observe_init(dp_node_process *node);

/* --- census.c: catalogs are read in the background after a start ------------------------------ */
ORT_NODISCARD ort_err dp_node__census_start(dp_node_process *node, ort_diag *diag);
void dp_node__census_stop(dp_node_process *node);

#endif /* DP_NODE_H */
