/* Rows of homes, and of nodes that may hold a tenant's data. */
#include "store/placements.h"

#include <stdio.h>
#include <string.h>

#include "store/store_internal.h"

static void
read_home(cp__query *q, cp_home *out)
{
    out->tenant.v = cp__col_id(q, 0);
    out->home.v = cp__col_id(q, 1);
    out->epoch = cp__col_u64(q, 2);
    out->placed_at_ms = cp__col_i64(q, 3);
}

ort_err
cp_home_get(cp_tx *tx, ort_tenant_id tenant, cp_home *out, ort_diag *diag)
{
    char id[ORT_ID_TEXT_BYTES];
    cp_home row = {0};
    ort_id_format(tenant.v, id);
    cp__query q =
        cp__q(tx, "SELECT tenant, home, epoch, placed_at_ms FROM placements WHERE tenant = ?");
    cp__bind_text(&q, id);
    const bool found = cp__step(&q);
    if (found) {
        read_home(&q, &row);
    }
    const ort_err err = cp__get_end(&q, found, "home of tenant", id, diag);
    if (err == ORT_OK) {
        *out = row;
    }
    return err;
}

static ort_err
touch_holder(cp_tx *tx, const char *tenant, const char *node, ort_diag *diag)
{
    char key[2 * ORT_ID_TEXT_BYTES];
    snprintf(key, sizeof key, "%s:%s", tenant, node);
    return cp__touch(tx, CP__HOLDERS, key, diag);
}

ort_err
cp_home_set(cp_tx *tx, ort_tenant_id tenant, ort_node_id home, uint64_t expect_epoch, cp_home *out,
            ort_diag *diag)
{
    char id[ORT_ID_TEXT_BYTES], node[ORT_ID_TEXT_BYTES];
    ort_id_format(tenant.v, id);
    ort_id_format(home.v, node);
    ort_err err = cp__touch(tx, CP__PLACEMENTS, id, diag);
    if (err == ORT_OK) {
        err = touch_holder(tx, id, node, diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    cp__query q =
        expect_epoch == 0
            ? cp__q(tx, "INSERT INTO placements (home, placed_at_ms, tenant, epoch)"
                        " VALUES (?, ?, ?, 1) ON CONFLICT (tenant) DO NOTHING")
            : cp__q(tx, "UPDATE placements SET home = ?, placed_at_ms = ?, epoch = epoch + 1"
                        " WHERE tenant = ? AND epoch = ?");
    cp__bind_text(&q, node);
    cp__bind_i64(&q, tx->now_ms);
    cp__bind_text(&q, id);
    if (expect_epoch != 0) {
        cp__bind_u64(&q, expect_epoch);
    }
    err = cp__q_run(&q, diag);
    if (err == ORT_ECONFLICT) {
        return ort_fail(diag, ORT_ENOTFOUND, "no tenant %s or no node %s", id, node);
    }
    if (err == ORT_OK && sqlite3_changes(tx->conn->db) == 0) {
        return ort_fail(diag, ORT_ESTALE, "the home of tenant %s is not at epoch %llu any more", id,
                        (unsigned long long)expect_epoch);
    }
    if (err == ORT_OK) {
        q = cp__q(tx, "INSERT INTO holders (tenant, node, since_ms, gone_at_ms)"
                      " VALUES (?, ?, ?, 0) ON CONFLICT (tenant, node) DO UPDATE SET"
                      " gone_at_ms = 0, since_ms = excluded.since_ms");
        cp__bind_text(&q, id);
        cp__bind_text(&q, node);
        cp__bind_i64(&q, tx->now_ms);
        err = cp__q_run(&q, diag);
    }
    if (err == ORT_OK) {
        *out = (cp_home){
            .tenant = tenant, .home = home, .epoch = expect_epoch + 1, .placed_at_ms = tx->now_ms};
    }
    return err;
}

ort_err
cp_home_list(cp_tx *tx, ort_node_id home, cp_page page, cp_home_visit visit, void *ctx,
             ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp__query q = home.v != 0
                      ? cp__q(tx, "SELECT tenant, home, epoch, placed_at_ms FROM placements"
                                  " WHERE tenant > ?1 AND home = ?3 ORDER BY tenant LIMIT ?2")
                      : cp__q(tx, "SELECT tenant, home, epoch, placed_at_ms FROM placements"
                                  " WHERE tenant > ?1 ORDER BY tenant LIMIT ?2");
    cp__bind_text(&q, cp__page_after(page));
    cp__bind_i64(&q, cp__page_limit(page));
    if (home.v != 0) {
        cp__bind_id(&q, home.v);
    }
    while (err == ORT_OK && cp__step(&q)) {
        cp_home row;
        read_home(&q, &row);
        if (q.rc == SQLITE_OK) {
            err = visit(ctx, &row);
        }
    }
    const ort_err end = cp__q_end(&q, diag);
    return end != ORT_OK ? end : err;
}

ort_err
cp_home_count(cp_tx *tx, ort_node_id home, uint64_t *out, ort_diag *diag)
{
    cp__query q = cp__q(tx, "SELECT count(*) FROM placements WHERE home = ?");
    cp__bind_id(&q, home.v);
    if (cp__step(&q)) {
        *out = cp__col_u64(&q, 0);
    }
    return cp__q_end(&q, diag);
}

ort_err
cp_holder_gone(cp_tx *tx, ort_tenant_id tenant, ort_node_id node, ort_diag *diag)
{
    char id[ORT_ID_TEXT_BYTES], node_id[ORT_ID_TEXT_BYTES];
    ort_id_format(tenant.v, id);
    ort_id_format(node.v, node_id);
    cp__query q = cp__q(tx, "SELECT gone_at_ms FROM holders WHERE tenant = ? AND node = ?");
    cp__bind_text(&q, id);
    cp__bind_text(&q, node_id);
    const bool found = cp__step(&q);
    const bool gone = found && cp__col_i64(&q, 0) != 0;
    ort_err err = cp__q_end(&q, diag);
    if (err == ORT_OK && !found) {
        err = ort_fail(diag, ORT_ENOTFOUND, "node %s never held tenant %s", node_id, id);
    }
    if (err != ORT_OK || gone) {
        return err;
    }
    err = touch_holder(tx, id, node_id, diag);
    if (err == ORT_OK) {
        q = cp__q(tx, "UPDATE holders SET gone_at_ms = ? WHERE tenant = ? AND node = ?");
        cp__bind_i64(&q, tx->now_ms);
        cp__bind_text(&q, id);
        cp__bind_text(&q, node_id);
        err = cp__q_run(&q, diag);
    }
    return err;
}

ort_err
cp_holder_list(cp_tx *tx, ort_tenant_id tenant, cp_holder_visit visit, void *ctx, ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp__query q = cp__q(tx, "SELECT tenant, node, since_ms, gone_at_ms FROM holders"
                            " WHERE tenant = ? ORDER BY node");
    cp__bind_id(&q, tenant.v);
    while (err == ORT_OK && cp__step(&q)) {
        const cp_holder row = {.tenant = {cp__col_id(&q, 0)},
                               .node = {cp__col_id(&q, 1)},
                               .since_ms = cp__col_i64(&q, 2),
                               .gone_at_ms = cp__col_i64(&q, 3)};
        if (q.rc == SQLITE_OK) {
            err = visit(ctx, &row);
        }
    }
    const ort_err end = cp__q_end(&q, diag);
    return end != ORT_OK ? end : err;
}

ort_err
cp_holder_left(cp_tx *tx, ort_tenant_id tenant, uint64_t *out, ort_diag *diag)
{
    cp__query q = cp__q(tx, "SELECT count(*) FROM holders WHERE tenant = ? AND gone_at_ms = 0");
    cp__bind_id(&q, tenant.v);
    if (cp__step(&q)) {
        *out = cp__col_u64(&q, 0);
    }
    return cp__q_end(&q, diag);
}
