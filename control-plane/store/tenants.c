/* Rows of tenants (with their pin) and of quotas. */
#include "store/tenants.h"

#include <string.h>

#include "store/store_internal.h"

static const char *const state_names[CP_TENANT_STATE_COUNT] = {
    [CP_TENANT_ACTIVE] = "active",
    [CP_TENANT_SUSPENDED] = "suspended",
    [CP_TENANT_DELETING] = "deleting",
    [CP_TENANT_DELETED] = "deleted",
};

const char *
cp_tenant_state_name(cp_tenant_state state)
{
    return (unsigned)state < CP_TENANT_STATE_COUNT ? state_names[state] : NULL;
}

cp_tenant_state
cp_tenant_state_by_name(const char *name, size_t len)
{
    unsigned i = 0;
    while (i < CP_TENANT_STATE_COUNT &&
           (strlen(state_names[i]) != len || memcmp(state_names[i], name, len) != 0)) {
        i++;
    }
    return (cp_tenant_state)i;
}

/* Regions have no comma in their names. */
#define COLUMNS                                                                                  \
    "t.id, t.name, t.display, t.plan, t.state, t.max_stale_s, t.created_at_ms, t.updated_at_ms," \
    " t.deleted_at_ms, t.revision, (SELECT group_concat(region, ',') FROM (SELECT region FROM"   \
    " tenant_regions WHERE tenant = t.id ORDER BY region))"

static void
read_row(cp__query *q, cp_tenant *out)
{
    out->id.v = cp__col_id(q, 0);
    cp__col_copy(q, 1, out->name, sizeof out->name);
    cp__col_copy(q, 2, out->display, sizeof out->display);
    cp__col_copy(q, 3, out->plan, sizeof out->plan);
    const char *state = cp__col_text(q, 4);
    out->state = cp_tenant_state_by_name(state, strlen(state));
    if (out->state == CP_TENANT_STATE_COUNT) {
        cp__q_damaged(q);
    }
    out->max_stale_s = (uint32_t)cp__col_u64(q, 5);
    out->created_at_ms = cp__col_i64(q, 6);
    out->updated_at_ms = cp__col_i64(q, 7);
    out->deleted_at_ms = cp__col_i64(q, 8);
    out->revision = cp__col_u64(q, 9);
    for (const char *at = cp__col_text(q, 10); *at != '\0';) {
        const size_t len = strcspn(at, ",");
        if (cp_texts_add(&out->regions, at, len) != ORT_OK) {
            cp__q_damaged(q);
        }
        at += len + (at[len] == ',');
    }
}

static ort_err
one(cp__query *q, const char *key, cp_tenant *out, ort_diag *diag)
{
    const bool found = cp__step(q);
    cp_tenant row = {0};
    if (found) {
        read_row(q, &row);
    }
    const ort_err err = cp__get_end(q, found, "tenant", key, diag);
    if (err == ORT_OK) {
        *out = row;
    }
    return err;
}

ort_err
cp_tenant_get(cp_tx *tx, ort_tenant_id id, cp_tenant *out, ort_diag *diag)
{
    char text[ORT_ID_TEXT_BYTES];
    ort_id_format(id.v, text);
    cp__query q = cp__q(tx, "SELECT " COLUMNS " FROM tenants t WHERE t.id = ?");
    cp__bind_text(&q, text);
    return one(&q, text, out, diag);
}

ort_err
cp_tenant_get_by_name(cp_tx *tx, const char *name, cp_tenant *out, ort_diag *diag)
{
    cp__query q = cp__q(tx, "SELECT " COLUMNS " FROM tenants t WHERE t.name = ?"
                            " AND t.state <> 'deleted'");
    cp__bind_text(&q, name);
    return one(&q, name, out, diag);
}

ort_err
cp_tenant_find(cp_tx *tx, const char *text, cp_tenant *out, ort_diag *diag)
{
    uint64_t id;
    if (ort_id_parse(text, strlen(text), &id) != ORT_OK) {
        return cp_tenant_get_by_name(tx, text, out, diag);
    }
    cp__query q =
        cp__q(tx, "SELECT " COLUMNS " FROM tenants t WHERE t.id = ? AND t.state <> 'deleted'");
    cp__bind_text(&q, text);
    return one(&q, text, out, diag);
}

static ort_err
put_regions(cp_tx *tx, const char *id, const cp_texts *regions, ort_diag *diag)
{
    cp__query q = cp__q(tx, "DELETE FROM tenant_regions WHERE tenant = ?");
    cp__bind_text(&q, id);
    ort_err err = cp__q_run(&q, diag);
    for (const char *r = cp_texts_first(regions); r != NULL && err == ORT_OK;
         r = cp_texts_next(regions, r)) {
        q = cp__q(tx, "INSERT INTO tenant_regions (tenant, region) VALUES (?, ?)");
        cp__bind_text(&q, id);
        cp__bind_text(&q, r);
        err = cp__q_run(&q, diag);
        if (err == ORT_ECONFLICT) {
            err = ort_fail(diag, ORT_ENOTFOUND, "no region %.64s", r);
        }
    }
    return err;
}

ort_err
cp_tenant_put(cp_tx *tx, cp_tenant *row, ort_diag *diag)
{
    char id[ORT_ID_TEXT_BYTES];
    ort_id_format(row->id.v, id);
    ort_err err = cp__touch(tx, CP__TENANTS, id, diag);
    if (err != ORT_OK) {
        return err;
    }
    cp__query q = cp__q(
        tx, "INSERT INTO tenants (id, name, display, plan, state, max_stale_s, created_at_ms,"
            " updated_at_ms, deleted_at_ms, revision) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
            " ON CONFLICT (id) DO UPDATE SET display = excluded.display, plan = excluded.plan,"
            " state = excluded.state, max_stale_s = excluded.max_stale_s,"
            " updated_at_ms = excluded.updated_at_ms, deleted_at_ms = excluded.deleted_at_ms,"
            " revision = tenants.revision + 1");
    cp__bind_text(&q, id);
    cp__bind_text(&q, row->name);
    cp__bind_text(&q, row->display);
    cp__bind_text(&q, row->plan);
    cp__bind_text(&q, cp_tenant_state_name(row->state));
    cp__bind_i64(&q, row->max_stale_s);
    cp__bind_i64(&q, row->created_at_ms);
    cp__bind_i64(&q, row->updated_at_ms);
    cp__bind_i64(&q, row->deleted_at_ms);
    err = cp__q_run(&q, diag);
    if (err == ORT_EEXISTS) {
        return ort_fail(diag, err, "there is a tenant named %s already", row->name);
    }
    if (err == ORT_ECONFLICT) {
        return ort_fail(diag, ORT_ENOTFOUND, "no plan %s", row->plan);
    }
    if (err == ORT_OK) {
        err = put_regions(tx, id, &row->regions, diag);
    }
    if (err == ORT_OK) {
        err =
            cp__revision(tx, "SELECT revision FROM tenants WHERE id = ?", id, &row->revision, diag);
    }
    if (err == ORT_OK && row->revision == 1) { /* new: its quota row stands beside it */
        cp_quota quota = {.tenant = row->id, .updated_at_ms = row->created_at_ms};
        err = cp_quota_put(tx, &quota, diag);
    }
    return err;
}

/* One text each, so that each gets the plan of its own index. */
#define LIST_HEAD "SELECT " COLUMNS " FROM tenants t"
#define LIST_TAIL                                                        \
    " AND (?2 OR t.state <> 'deleted') AND (?3 IS NULL OR t.state = ?3)" \
    " AND (?4 IS NULL OR t.plan = ?4)"                                   \
    " AND (NOT ?5 OR NOT EXISTS (SELECT 1 FROM placements p WHERE p.tenant = t.id))"

ort_err
cp_tenant_list(cp_tx *tx, const cp_tenant_query *query, cp_tenant_visit visit, void *ctx,
               ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp__query q =
        query->home.v != 0
            ? cp__q(tx, LIST_HEAD " JOIN placements p ON p.tenant = t.id WHERE p.tenant > ?1"
                                  " AND p.home = ?7" LIST_TAIL " ORDER BY p.tenant LIMIT ?6")
            : cp__q(tx, LIST_HEAD " WHERE t.id > ?1" LIST_TAIL " ORDER BY t.id LIMIT ?6");
    cp__bind_text(&q, cp__page_after(query->page));
    cp__bind_i64(&q, query->with_deleted);
    cp__bind_text(&q, query->in_state ? cp_tenant_state_name(query->state) : NULL);
    cp__bind_text(&q, query->plan);
    cp__bind_i64(&q, query->unplaced);
    cp__bind_i64(&q, cp__page_limit(query->page));
    if (query->home.v != 0) {
        cp__bind_id(&q, query->home.v);
    }
    while (err == ORT_OK && cp__step(&q)) {
        cp_tenant row = {0};
        read_row(&q, &row);
        if (q.rc == SQLITE_OK) {
            err = visit(ctx, &row);
        }
    }
    const ort_err end = cp__q_end(&q, diag);
    return end != ORT_OK ? end : err;
}

ort_err
cp_tenant_count(cp_tx *tx, uint64_t *out, ort_diag *diag)
{
    cp__query q = cp__q(tx, "SELECT count(*) FROM tenants WHERE state <> 'deleted'");
    if (cp__step(&q)) {
        *out = cp__col_u64(&q, 0);
    }
    return cp__q_end(&q, diag);
}

/* ---- quotas ---- */

#define LIMITS                                                                     \
    "max_collections, max_vectors_per_collection, max_vectors, max_storage_bytes," \
    " max_requests_per_minute, max_requests_per_minute_per_key"
#define SET(column) column " = excluded." column

ort_err
cp_quota_get(cp_tx *tx, ort_tenant_id tenant, cp_quota *out, ort_diag *diag)
{
    char id[ORT_ID_TEXT_BYTES];
    cp_quota row = {.tenant = tenant};
    ort_id_format(tenant.v, id);
    cp__query q =
        cp__q(tx, "SELECT " LIMITS ", updated_at_ms, revision FROM quotas WHERE tenant = ?");
    cp__bind_text(&q, id);
    const bool found = cp__step(&q);
    if (found) {
        for (int i = 0; i < CP_LIMIT_COUNT; i++) {
            row.overrides.set[i] = !cp__col_is_null(&q, i);
            row.overrides.to.v[i] = row.overrides.set[i] ? cp__col_limit(&q, i) : 0;
        }
        row.updated_at_ms = cp__col_i64(&q, CP_LIMIT_COUNT);
        row.revision = cp__col_u64(&q, CP_LIMIT_COUNT + 1);
    }
    const ort_err err = cp__get_end(&q, found, "tenant", id, diag);
    if (err == ORT_OK) {
        *out = row;
    }
    return err;
}

ort_err
cp_quota_put(cp_tx *tx, cp_quota *row, ort_diag *diag)
{
    char id[ORT_ID_TEXT_BYTES];
    ort_id_format(row->tenant.v, id);
    ort_err err = cp__touch(tx, CP__QUOTAS, id, diag);
    if (err != ORT_OK) {
        return err;
    }
    cp__query q = cp__q(
        tx,
        "INSERT INTO quotas (tenant, " LIMITS ", updated_at_ms, revision)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (tenant) DO UPDATE SET " SET(
            "ma"
            "x_"
            "co"
            "ll"
            "ec"
            "ti"
            "on"
            "s") ", " SET("max_vectors_per_collection") ", " SET("max_vectors") ", " SET("max_"
                                                                                         "storage_"
                                                                                         "bytes") ", " SET("max_requests_per_"
                                                                                                           "minute") ", " SET("max"
                                                                                                                              "_re"
                                                                                                                              "que"
                                                                                                                              "sts"
                                                                                                                              "_pe"
                                                                                                                              "r_"
                                                                                                                              "min"
                                                                                                                              "ute"
                                                                                                                              "_pe"
                                                                                                                              "r_"
                                                                                                                              "ke"
                                                                                                                              "y") ", " SET("updated_at_ms") ", revision = quotas.revision + 1");
    cp__bind_text(&q, id);
    for (int i = 0; i < CP_LIMIT_COUNT; i++) {
        if (row->overrides.set[i]) {
            cp__bind_limit(&q, row->overrides.to.v[i]);
        } else {
            cp__bind_null(&q);
        }
    }
    cp__bind_i64(&q, row->updated_at_ms);
    err = cp__q_run(&q, diag);
    if (err == ORT_ECONFLICT) {
        return ort_fail(diag, ORT_ENOTFOUND, "no tenant %s", id);
    }
    if (err == ORT_OK) {
        err = cp__revision(tx, "SELECT revision FROM quotas WHERE tenant = ?", id, &row->revision,
                           diag);
    }
    return err;
}

ort_err
cp_tenant_limits(cp_tx *tx, ort_tenant_id tenant, cp_limits *out, ort_diag *diag)
{
    char id[ORT_ID_TEXT_BYTES];
    cp_limits limits;
    ort_id_format(tenant.v, id);
    cp__query q =
        cp__q(tx, "SELECT coalesce(q.max_collections, p.max_collections),"
                  " coalesce(q.max_vectors_per_collection, p.max_vectors_per_collection),"
                  " coalesce(q.max_vectors, p.max_vectors),"
                  " coalesce(q.max_storage_bytes, p.max_storage_bytes),"
                  " coalesce(q.max_requests_per_minute, p.max_requests_per_minute),"
                  " coalesce(q.max_requests_per_minute_per_key, p.max_requests_per_minute_per_key)"
                  " FROM tenants t JOIN plans p ON p.name = t.plan JOIN quotas q ON q.tenant = t.id"
                  " WHERE t.id = ?");
    cp__bind_text(&q, id);
    const bool found = cp__step(&q);
    for (int i = 0; found && i < CP_LIMIT_COUNT; i++) {
        limits.v[i] = cp__col_limit(&q, i);
    }
    const ort_err err = cp__get_end(&q, found, "tenant", id, diag);
    if (err == ORT_OK) {
        *out = limits;
    }
    return err;
}
