/* Usage: totals by max, hours by what a report adds. */
#include "store/usage.h"

#include <stdio.h>
#include <string.h>

#include "store/store_internal.h"

enum { HOUR_MS = 3600000 };

static const char *const meter_names[CP_METER_COUNT] = {
    [CP_METER_REQUESTS] = "requests",   [CP_METER_SEARCHES] = "searches",
    [CP_METER_WRITES] = "writes",       [CP_METER_BYTES_IN] = "bytes_in",
    [CP_METER_BYTES_OUT] = "bytes_out",
};

const char *
cp_meter_name(cp_meter meter)
{
    return (unsigned)meter < CP_METER_COUNT ? meter_names[meter] : NULL;
}

/* A node may say anything; sums of what it says must not overflow. */
static uint64_t
bounded(uint64_t v)
{
    return v > CP_LIMIT_VALUE_MAX ? CP_LIMIT_VALUE_MAX : v;
}

static uint64_t
add(uint64_t a, uint64_t b)
{
    return bounded(a + b); /* both are bounded: no wrap */
}

#define METERS "requests, searches, writes, bytes_in, bytes_out"

/* What the report adds to the stored totals; the greater of both in `total`. */
static ort_err
merge(cp_tx *tx, ort_node_id node, uint64_t incarnation, const cp_usage_report *report,
      uint64_t total[CP_METER_COUNT], uint64_t added[CP_METER_COUNT], ort_diag *diag)
{
    cp__query q = cp__q(tx, "SELECT " METERS " FROM usage_totals"
                            " WHERE tenant = ? AND node = ? AND incarnation = ?");
    cp__bind_id(&q, report->tenant.v);
    cp__bind_id(&q, node.v);
    cp__bind_id(&q, incarnation);
    const bool found = cp__step(&q);
    for (int i = 0; i < CP_METER_COUNT; i++) {
        const uint64_t old = found ? cp__col_u64(&q, i) : 0;
        const uint64_t now = bounded(report->total[i]);
        added[i] = now > old ? now - old : 0;
        total[i] = now > old ? now : old;
    }
    return cp__q_end(&q, diag);
}

static ort_err
put_totals(cp_tx *tx, ort_node_id node, uint64_t incarnation, ort_tenant_id tenant,
           const uint64_t total[CP_METER_COUNT], ort_diag *diag)
{
    cp__query q = cp__q(
        tx, "INSERT INTO usage_totals (tenant, node, incarnation, " METERS ")"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (tenant, node, incarnation) DO UPDATE SET requests = excluded.requests,"
            " searches = excluded.searches, writes = excluded.writes,"
            " bytes_in = excluded.bytes_in, bytes_out = excluded.bytes_out");
    cp__bind_id(&q, tenant.v);
    cp__bind_id(&q, node.v);
    cp__bind_id(&q, incarnation);
    for (int i = 0; i < CP_METER_COUNT; i++) {
        cp__bind_u64(&q, total[i]);
    }
    return cp__q_run(&q, diag);
}

static ort_err
put_now(cp_tx *tx, ort_node_id node, const cp_usage_report *report, ort_diag *diag)
{
    cp__query q =
        cp__q(tx, "INSERT INTO usage_now (tenant, node, collections, vectors, storage_bytes,"
                  " disk_bytes, at_ms)"
                  " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, node) DO UPDATE SET"
                  " collections = excluded.collections, vectors = excluded.vectors,"
                  " storage_bytes = excluded.storage_bytes, disk_bytes = excluded.disk_bytes,"
                  " at_ms = excluded.at_ms");
    cp__bind_id(&q, report->tenant.v);
    cp__bind_id(&q, node.v);
    cp__bind_u64(&q, bounded(report->now.collections));
    cp__bind_u64(&q, bounded(report->now.vectors));
    cp__bind_u64(&q, bounded(report->now.storage_bytes));
    cp__bind_u64(&q, bounded(report->now.disk_bytes));
    cp__bind_i64(&q, tx->now_ms);
    return cp__q_run(&q, diag);
}

static ort_err
put_hour(cp_tx *tx, const cp_usage_report *report, const uint64_t added[CP_METER_COUNT],
         ort_diag *diag)
{
#define ADD(column) column " = usage_hours." column " + excluded." column
#define MAX(column) column " = max(usage_hours." column ", excluded." column ")"
    cp__query q =
        cp__q(tx,
              "INSERT INTO usage_hours (tenant, hour_ms, " METERS ", collections_max, vectors_max,"
              " storage_bytes_max) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
              " ON CONFLICT (tenant, hour_ms) DO UPDATE SET " ADD("requests") ", " ADD("searches") ", " ADD("writes") ", " ADD(
                  "bytes_in") ", " ADD("bytes_out") ", " MAX("collections_max") ", " MAX("vectors_"
                                                                                         "max") ","
                                                                                                " " MAX(
                                                                                                    "storage_bytes_max"));
    cp__bind_id(&q, report->tenant.v);
    cp__bind_i64(&q, tx->now_ms - tx->now_ms % HOUR_MS);
    for (int i = 0; i < CP_METER_COUNT; i++) {
        cp__bind_u64(&q, added[i]);
    }
    cp__bind_u64(&q, bounded(report->now.collections));
    cp__bind_u64(&q, bounded(report->now.vectors));
    cp__bind_u64(&q, bounded(report->now.storage_bytes));
    return cp__q_run(&q, diag);
#undef ADD
#undef MAX
}

static ort_err
tenant_is_there(cp_tx *tx, ort_tenant_id tenant, bool *out, ort_diag *diag)
{
    cp__query q = cp__q(tx, "SELECT 1 FROM tenants WHERE id = ?");
    cp__bind_id(&q, tenant.v);
    *out = cp__step(&q);
    return cp__q_end(&q, diag);
}

/* A process that was replaced must not be counted on top of the sum that it went into. */
static ort_err
check_incarnation(cp_tx *tx, ort_node_id node, uint64_t incarnation, ort_diag *diag)
{
    uint64_t stored = 0;
    if (incarnation == 0) {
        return ort_fail(diag, ORT_EINVAL, "an incarnation is not 0");
    }
    cp__query q = cp__q(tx, "SELECT incarnation FROM node_seen WHERE node = ?");
    cp__bind_id(&q, node.v);
    if (cp__step(&q)) {
        stored = cp__col_id(&q, 0);
    }
    const ort_err err = cp__q_end(&q, diag);
    return err == ORT_OK && incarnation < stored
               ? ort_fail(diag, ORT_ESTALE,
                          "this incarnation of the node was replaced by a later one")
               : err;
}

ort_err
cp_usage_take(cp_tx *tx, ort_node_id node, uint64_t incarnation, const cp_usage_report *reports,
              size_t count, ort_diag *diag)
{
    ort_err err = check_incarnation(tx, node, incarnation, diag);
    for (size_t i = 0; i < count && err == ORT_OK; i++) {
        const cp_usage_report *r = &reports[i];
        uint64_t total[CP_METER_COUNT], added[CP_METER_COUNT];
        bool there;
        err = tenant_is_there(tx, r->tenant, &there, diag);
        if (err != ORT_OK || !there) {
            continue;
        }
        err = merge(tx, node, incarnation, r, total, added, diag);
        if (err == ORT_OK) {
            err = put_totals(tx, node, incarnation, r->tenant, total, diag);
        }
        if (err == ORT_OK) {
            err = put_now(tx, node, r, diag);
        }
        if (err == ORT_OK) {
            err = put_hour(tx, r, added, diag);
        }
    }
    return err == ORT_ECONFLICT ? ort_fail(diag, ORT_ENOTFOUND, "no such node") : err;
}

ort_err
cp_usage_get(cp_tx *tx, ort_tenant_id tenant, cp_usage *out, ort_diag *diag)
{
    cp_usage sum = {0};
    cp__query q = cp__q(tx, "SELECT collections, vectors, storage_bytes, disk_bytes, at_ms"
                            " FROM usage_now WHERE tenant = ?");
    cp__bind_id(&q, tenant.v);
    while (cp__step(&q)) {
        sum.now.collections = add(sum.now.collections, cp__col_u64(&q, 0));
        sum.now.vectors = add(sum.now.vectors, cp__col_u64(&q, 1));
        sum.now.storage_bytes = add(sum.now.storage_bytes, cp__col_u64(&q, 2));
        sum.now.disk_bytes = add(sum.now.disk_bytes, cp__col_u64(&q, 3));
        const int64_t at_ms = cp__col_i64(&q, 4);
        sum.updated_at_ms = at_ms > sum.updated_at_ms ? at_ms : sum.updated_at_ms;
    }
    ort_err err = cp__q_end(&q, diag);
    if (err != ORT_OK) {
        return err;
    }
    q = cp__q(tx, "SELECT " METERS " FROM usage_totals WHERE tenant = ?");
    cp__bind_id(&q, tenant.v);
    while (cp__step(&q)) {
        for (int i = 0; i < CP_METER_COUNT; i++) {
            sum.total[i] = add(sum.total[i], cp__col_u64(&q, i));
        }
    }
    err = cp__q_end(&q, diag);
    if (err == ORT_OK) {
        *out = sum;
    }
    return err;
}

ort_err
cp_usage_list(cp_tx *tx, ort_tenant_id tenant, int64_t from_ms, int64_t to_ms, cp_page page,
              cp_usage_visit visit, void *ctx, ort_diag *diag)
{
    ort_err err = ORT_OK;
    long long after = from_ms - 1;
    if (page.after != NULL && page.after[0] != '\0') {
        int used = 0;
        long long hour;
        if (sscanf(page.after, "%18lld%n", &hour, &used) != 1 || page.after[used] != '\0') {
            return ort_fail(diag, ORT_EINVAL, "this is not a cursor of this list");
        }
        after = hour > after ? hour : after;
    }
    cp__query q = cp__q(tx, "SELECT hour_ms, " METERS ", collections_max, vectors_max,"
                            " storage_bytes_max FROM usage_hours WHERE tenant = ? AND hour_ms > ?"
                            " AND hour_ms < ? ORDER BY hour_ms LIMIT ?");
    cp__bind_id(&q, tenant.v);
    cp__bind_i64(&q, after);
    cp__bind_i64(&q, to_ms);
    cp__bind_i64(&q, cp__page_limit(page));
    while (err == ORT_OK && cp__step(&q)) {
        cp_usage_hour row = {.tenant = tenant, .hour_ms = cp__col_i64(&q, 0)};
        for (int i = 0; i < CP_METER_COUNT; i++) {
            row.sum[i] = cp__col_u64(&q, 1 + i);
        }
        row.max.collections = cp__col_u64(&q, 1 + CP_METER_COUNT);
        row.max.vectors = cp__col_u64(&q, 2 + CP_METER_COUNT);
        row.max.storage_bytes = cp__col_u64(&q, 3 + CP_METER_COUNT);
        if (q.rc == SQLITE_OK) {
            err = visit(ctx, &row);
        }
    }
    const ort_err end = cp__q_end(&q, diag);
    return end != ORT_OK ? end : err;
}

/* Past incarnations of a node whose present one is known; 0 is their sum. */
#define PAST                                                                                       \
    " FROM usage_totals t JOIN node_seen s ON s.node = t.node WHERE t.incarnation < s.incarnation" \
    " AND t.incarnation > '0000000000000000'"

ort_err
cp_usage_sweep(cp_tx *tx, int64_t before_ms, uint64_t *count_out, ort_diag *diag)
{
    uint64_t removed = 0;
    cp__query q = cp__q(tx, "DELETE FROM usage_hours WHERE hour_ms < ?");
    cp__bind_i64(&q, before_ms);
    ort_err err = cp__q_run(&q, diag);
    if (err != ORT_OK) {
        return err;
    }
    removed += (uint64_t)sqlite3_changes(tx->conn->db);
#define SUM(column) "sum(t." column ")"
#define ADD(column) column " = usage_totals." column " + excluded." column
    q = cp__q(tx, "INSERT INTO usage_totals (tenant, node, incarnation, " METERS ")"
                  " SELECT t.tenant, t.node, '0000000000000000', " SUM("requests") ", " SUM(
                      "searches") ", " SUM("writes") ", " SUM("bytes_in") ", " SUM("bytes_out") PAST
              " GROUP BY t.tenant, t.node"
              " ON CONFLICT (tenant, node, incarnation) DO UPDATE SET " ADD("requests") ", " ADD(
                  "searches") ", " ADD("writes") ", " ADD("bytes_in") ", " ADD("bytes_out"));
    err = cp__q_run(&q, diag);
    if (err != ORT_OK) {
        return err;
    }
    q = cp__q(tx, "DELETE FROM usage_totals WHERE incarnation > '0000000000000000' AND incarnation"
                  " < (SELECT s.incarnation FROM node_seen s WHERE s.node = usage_totals.node)");
    err = cp__q_run(&q, diag);
    if (err == ORT_OK) {
        *count_out = removed + (uint64_t)sqlite3_changes(tx->conn->db);
    }
    return err;
#undef SUM
#undef ADD
}
