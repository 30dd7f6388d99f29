/* After a start the node knows of a tenant what its catalog says, and reads it when the tenant is
 * first asked for. Till then nobody would be told how much an idle tenant stores here. So its
 * catalog, and nothing else of it, is read soon after the start, at a pace that nobody notices;
 * being ready does not wait for it. A tenant whose collections were being written when the process
 * died has them opened and counted by this, before anybody waits for that. */
#include <time.h>

#include "base/log.h"
#include "base/thread.h"
#include "node.h"

#define PAUSE_NS 1000000L /* after each tenant: 10,000 take some 15 seconds */
#define BATCH 256u        /* tenants looked at while one table is held */
#define WAIT_NS 100000000L

static const ort_log log_ = {"node"};

static bool
nap(const dp_node_process *node, long ns)
{
    const struct timespec t = {.tv_nsec = ns};
    nanosleep(&t, NULL);
    return !atomic_load(&node->census_stop);
}

/* Reads the catalogs of the next tenants of the table of now; false: there are no more, or the node
 * stops. */
static bool
read_some(dp_node_process *node, uint64_t *at, uint64_t *read)
{
    const dp_table *table = dp_routes_acquire(node->routes);
    const dp_tenant_entry *entry = NULL;
    bool on = true;
    for (unsigned i = 0; on && i < BATCH && (entry = dp_table_next_tenant(table, at)) != NULL;
         i++) {
        dp_tenant *tenant;
        if (entry->state == DP_TENANT_DELETING || !dp_tenants_exists(node->tenants, entry->id)) {
            continue;
        }
        /* A failure is in the log, and in orthant_tenants_failed. */
        if (dp_tenants_get(node->tenants, entry->id, &tenant, NULL) == ORT_OK) {
            dp_tenant_unref(tenant);
        }
        ++*read;
        on = nap(node, PAUSE_NS);
    }
    dp_table_release(table);
    return on && entry != NULL;
}

static bool
has_table(dp_node_process *node)
{
    const dp_table *table = dp_routes_acquire(node->routes);
    const bool has = dp_table_at(table).version != 0;
    dp_table_release(table);
    return has;
}

static void *
census_main(void *arg)
{
    dp_node_process *node = arg;
    uint64_t at = 0, read = 0;
    while (!has_table(node)) {
        if (!nap(node, WAIT_NS)) {
            return NULL;
        }
    }
    while (read_some(node, &at, &read)) {
    }
    ORT_LOG_INFO(&log_, "tenants.read", "tenants=%llu", (unsigned long long)read);
    return NULL;
}

ort_err
dp_node__census_start(dp_node_process *node, ort_diag *diag)
{
    const ort_err err = ort_thread_start(&node->census, "census", census_main, node, diag);
    node->census_runs = err == ORT_OK;
    return err;
}

void
dp_node__census_stop(dp_node_process *node)
{
    if (node->census_runs) {
        atomic_store(&node->census_stop, true);
        pthread_join(node->census, NULL);
        node->census_runs = false;
    }
}
