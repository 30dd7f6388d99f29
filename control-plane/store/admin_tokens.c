/* Rows of admin tokens. */
#include "store/admin_tokens.h"

#include <string.h>

#include "store/store_internal.h"

#define COLUMNS                                                                              \
    "id, name, role, tenant, hash, created_by, created_at_ms, expires_at_ms, revoked_at_ms," \
    " revision"

static void
read_row(cp__query *q, cp_admin_token *out)
{
    cp__col_copy(q, 0, out->id, sizeof out->id);
    cp__col_copy(q, 1, out->name, sizeof out->name);
    const char *role = cp__col_text(q, 2);
    out->role = cp_role_by_name(role, strlen(role));
    if (out->role == CP_ROLE_COUNT) {
        cp__q_damaged(q);
    }
    out->tenant.v = cp__col_id(q, 3);
    cp__col_hash_hex(q, 4, out->hash.b);
    cp__col_copy(q, 5, out->created_by, sizeof out->created_by);
    out->created_at_ms = cp__col_i64(q, 6);
    out->expires_at_ms = cp__col_i64(q, 7);
    out->revoked_at_ms = cp__col_i64(q, 8);
    out->revision = cp__col_u64(q, 9);
}

ort_err
cp_admin_token_get(cp_tx *tx, const char *id, cp_admin_token *out, ort_diag *diag)
{
    cp_admin_token row = {0};
    cp__query q = cp__q(tx, "SELECT " COLUMNS " FROM admin_tokens WHERE id = ?");
    cp__bind_text(&q, id);
    const bool found = cp__step(&q);
    if (found) {
        read_row(&q, &row);
    }
    const ort_err err = cp__get_end(&q, found, "admin token", id, diag);
    if (err == ORT_OK) {
        *out = row;
    }
    return err;
}

ort_err
cp_admin_token_put(cp_tx *tx, cp_admin_token *row, ort_diag *diag)
{
    char hash[CP__HEX32];
    ort_hash_format(&row->hash, hash);
    ort_err err = cp__touch(tx, CP__ADMIN_TOKENS, row->id, diag);
    if (err != ORT_OK) {
        return err;
    }
    cp__query q = cp__q(tx, "INSERT INTO admin_tokens (" COLUMNS ")"
                            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (id) DO UPDATE SET"
                            " name = excluded.name, expires_at_ms = excluded.expires_at_ms,"
                            " revoked_at_ms = excluded.revoked_at_ms,"
                            " revision = admin_tokens.revision + 1");
    cp__bind_text(&q, row->id);
    cp__bind_text(&q, row->name);
    cp__bind_text(&q, cp_role_name(row->role));
    cp__bind_id(&q, row->tenant.v);
    cp__bind_text(&q, hash);
    cp__bind_text(&q, row->created_by);
    cp__bind_i64(&q, row->created_at_ms);
    cp__bind_i64(&q, row->expires_at_ms);
    cp__bind_i64(&q, row->revoked_at_ms);
    err = cp__q_run(&q, diag);
    if (err == ORT_ECONFLICT) {
        return ort_fail(diag, ORT_ENOTFOUND, "no such tenant");
    }
    if (err == ORT_OK) {
        err = cp__revision(tx, "SELECT revision FROM admin_tokens WHERE id = ?", row->id,
                           &row->revision, diag);
    }
    return err;
}

ort_err
cp_admin_token_list(cp_tx *tx, ort_tenant_id tenant, cp_page page, cp_admin_token_visit visit,
                    void *ctx, ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp__query q = cp__q(tx, "SELECT " COLUMNS " FROM admin_tokens WHERE id > ?1"
                            " AND (?2 IS NULL OR tenant = ?2) ORDER BY id LIMIT ?3");
    cp__bind_text(&q, cp__page_after(page));
    cp__bind_id(&q, tenant.v);
    cp__bind_i64(&q, cp__page_limit(page));
    while (err == ORT_OK && cp__step(&q)) {
        cp_admin_token row = {0};
        read_row(&q, &row);
        if (q.rc == SQLITE_OK) {
            err = visit(ctx, &row);
        }
    }
    const ort_err end = cp__q_end(&q, diag);
    return end != ORT_OK ? end : err;
}

ort_err
cp_admin_token_count_operators(cp_tx *tx, int64_t now_ms, uint64_t *out, ort_diag *diag)
{
    cp__query q = cp__q(tx, "SELECT count(*) FROM admin_tokens WHERE role = 'operator'"
                            " AND revoked_at_ms = 0 AND (expires_at_ms = 0 OR expires_at_ms > ?)");
    cp__bind_i64(&q, now_ms);
    if (cp__step(&q)) {
        *out = cp__col_u64(&q, 0);
    }
    return cp__q_end(&q, diag);
}
