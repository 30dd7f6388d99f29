/* control-plane/store/usage.h: what tenants used, from the nodes' cumulative counters.
 *
 * A node counts from 0 in each incarnation and reports totals. The store keeps the greatest total
 * of each (tenant, node, incarnation, meter): a lost, repeated or reordered report loses and
 * doubles nothing. What a report adds goes into the rollup of its hour. All of it is written in
 * notes. */
#ifndef CP_USAGE_H
#define CP_USAGE_H
#include "store/store.h"

typedef enum {
    CP_METER_REQUESTS,
    CP_METER_SEARCHES,
    CP_METER_WRITES,
    CP_METER_BYTES_IN,
    CP_METER_BYTES_OUT,
    CP_METER_COUNT
} cp_meter;
const char *cp_meter_name(cp_meter meter); /* "requests", ... */

typedef struct {
    uint64_t collections;
    uint64_t vectors;       /* points */
    uint64_t storage_bytes; /* logical: what the quota counts */
    uint64_t disk_bytes;    /* what the files take; not kept by the hour */
} cp_gauges;

typedef struct {
    ort_tenant_id tenant;
    cp_gauges now;
    uint64_t total[CP_METER_COUNT]; /* since the incarnation began */
} cp_usage_report;

/* Takes in what a node reported. Reports of tenants that are not there are passed over.
 * Cost: about 20 us a tenant; a fleet hands in at most one report of a node every few seconds. */
ORT_NODISCARD ort_err cp_usage_take(cp_tx *tx, ort_node_id node, uint64_t incarnation,
                                    const cp_usage_report *reports, size_t count, ort_diag *diag);

typedef struct {
    cp_gauges now;                  /* over the nodes that hold it, as last reported */
    uint64_t total[CP_METER_COUNT]; /* since the tenant was made */
    int64_t updated_at_ms;          /* of the last report; 0: none yet */
} cp_usage;
ORT_NODISCARD ort_err cp_usage_get(cp_tx *tx, ort_tenant_id tenant, cp_usage *out, ort_diag *diag);

typedef struct {
    ort_tenant_id tenant;
    int64_t hour_ms; /* its begin, wall time, a multiple of 3600000 */
    uint64_t sum[CP_METER_COUNT];
    cp_gauges max;
} cp_usage_hour;

typedef ort_err (*cp_usage_visit)(void *ctx, const cp_usage_hour *row);
/* Hours in [from_ms, to_ms), by hour; the page key is the hour's begin in ms as decimal text. */
ORT_NODISCARD ort_err cp_usage_list(cp_tx *tx, ort_tenant_id tenant, int64_t from_ms, int64_t to_ms,
                                    cp_page page, cp_usage_visit visit, void *ctx, ort_diag *diag);

/* Forgets hours before that time, and folds the counters of past incarnations of nodes into one row
 * each, so that restarts do not grow the table; *count_out rows removed. A note. */
ORT_NODISCARD ort_err cp_usage_sweep(cp_tx *tx, int64_t before_ms, uint64_t *count_out,
                                     ort_diag *diag);
#endif /* CP_USAGE_H */
