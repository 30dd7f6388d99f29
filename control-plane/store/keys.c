/* Rows of API keys, and when each was last used. */
#include "store/keys.h"

#include <stdio.h>
#include <string.h>

#include "base/json_read.h"
#include "base/json_write.h"
#include "store/store_internal.h"

const char *
cp_key_state_name(const cp_key *key, int64_t now_ms)
{
    return key->revoked_at_ms != 0 ? "revoked" : cp_key_is_live(key, now_ms) ? "active" : "expired";
}

#define COLUMNS                                                                   \
    "k.id, k.tenant, k.name, k.test_env, k.hash, k.scopes, k.collections,"        \
    " k.max_requests_per_minute, k.created_by, k.created_at_ms, k.expires_at_ms," \
    " k.revoked_at_ms, k.rotated_to, k.revision, coalesce(u.last_used_ms, 0)"
#define FROM " FROM keys k LEFT JOIN key_use u ON u.id = k.id"

/* "data:read data:write", in the order of the bits. */
static void
scopes_format(unsigned scopes, char out[64])
{
    size_t at = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < CP_SCOPE_COUNT; i++) {
        if ((scopes & 1u << i) != 0) {
            at += (size_t)snprintf(out + at, 64 - at, "%s%s", at > 0 ? " " : "", cp_scope_name(i));
        }
    }
}

static void
read_scopes(cp__query *q, int column, unsigned *out)
{
    for (const char *at = cp__col_text(q, column); *at != '\0';) {
        const size_t len = strcspn(at, " ");
        const unsigned bit = cp_scope_by_name(at, len);
        if (bit == 0) {
            cp__q_damaged(q);
        }
        *out |= bit;
        at += len + (at[len] == ' ');
    }
}

static void
read_globs(cp__query *q, int column, cp_texts *out)
{
    const char *text = cp__col_text(q, column);
    ort_json_doc *doc;
    if (ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, NULL) != ORT_OK) {
        cp__q_damaged(q);
        return;
    }
    for (ort_json_iter it = ort_json_each(ort_json_root(doc)); ort_json_step(&it);) {
        size_t len;
        const char *glob = ort_json_str(it.value, &len);
        if (glob == NULL || cp_texts_add(out, glob, len) != ORT_OK) {
            cp__q_damaged(q);
        }
    }
    ort_json_free(doc);
}

static void
read_row(cp__query *q, cp_key *out)
{
    cp__col_copy(q, 0, out->id, sizeof out->id);
    out->tenant.v = cp__col_id(q, 1);
    cp__col_copy(q, 2, out->name, sizeof out->name);
    out->test_env = cp__col_i64(q, 3) != 0;
    cp__col_hash_hex(q, 4, out->hash.b);
    read_scopes(q, 5, &out->scopes);
    read_globs(q, 6, &out->collections);
    out->max_requests_per_minute = cp__col_limit(q, 7);
    cp__col_copy(q, 8, out->created_by, sizeof out->created_by);
    out->created_at_ms = cp__col_i64(q, 9);
    out->expires_at_ms = cp__col_i64(q, 10);
    out->revoked_at_ms = cp__col_i64(q, 11);
    cp__col_copy(q, 12, out->rotated_to, sizeof out->rotated_to);
    out->revision = cp__col_u64(q, 13);
    out->last_used_ms = cp__col_i64(q, 14);
}

ort_err
cp_key_get(cp_tx *tx, ort_tenant_id tenant, const char *id, cp_key *out, ort_diag *diag)
{
    cp_key row = {0};
    cp__query q = cp__q(tx, "SELECT " COLUMNS FROM " WHERE k.id = ? AND k.tenant = ?");
    cp__bind_text(&q, id);
    cp__bind_id(&q, tenant.v);
    const bool found = cp__step(&q);
    if (found) {
        read_row(&q, &row);
    }
    const ort_err err = cp__get_end(&q, found, "key", id, diag);
    if (err == ORT_OK) {
        *out = row;
    }
    return err;
}

ort_err
cp_key_put(cp_tx *tx, cp_key *row, ort_diag *diag)
{
    char hash[CP__HEX32], scopes[64];
    ort_buf globs = {0};
    ort_jw w = {.buf = &globs};
    ort_hash_format(&row->hash, hash);
    scopes_format(row->scopes, scopes);
    ort_jw_array(&w);
    for (const char *g = cp_texts_first(&row->collections); g != NULL;
         g = cp_texts_next(&row->collections, g)) {
        ort_jw_str(&w, g);
    }
    ort_jw_array_end(&w);
    const char *globs_text = ort_buf_peek_cstr(&globs);
    ort_err err = globs_text == NULL ? ort_fail(diag, ORT_ENOMEM, "put a key")
                                     : cp__touch(tx, CP__KEYS, row->id, diag);
    if (err != ORT_OK) {
        ort_buf_fini(&globs);
        return err;
    }
    cp__query q = cp__q(
        tx, "INSERT INTO keys (id, tenant, name, test_env, hash, scopes, collections,"
            " max_requests_per_minute, created_by, created_at_ms, expires_at_ms, revoked_at_ms,"
            " rotated_to, revision) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name, scopes = excluded.scopes,"
            " collections = excluded.collections,"
            " max_requests_per_minute = excluded.max_requests_per_minute,"
            " expires_at_ms = excluded.expires_at_ms, revoked_at_ms = excluded.revoked_at_ms,"
            " rotated_to = excluded.rotated_to, revision = keys.revision + 1"
            " WHERE keys.tenant = excluded.tenant");
    cp__bind_text(&q, row->id);
    cp__bind_id(&q, row->tenant.v);
    cp__bind_text(&q, row->name);
    cp__bind_i64(&q, row->test_env);
    cp__bind_text(&q, hash);
    cp__bind_text(&q, scopes);
    cp__bind_text(&q, globs_text);
    cp__bind_limit(&q, row->max_requests_per_minute);
    cp__bind_text(&q, row->created_by);
    cp__bind_i64(&q, row->created_at_ms);
    cp__bind_i64(&q, row->expires_at_ms);
    cp__bind_i64(&q, row->revoked_at_ms);
    cp__bind_text(&q, row->rotated_to);
    err = cp__q_run(&q, diag);
    ort_buf_fini(&globs);
    if (err == ORT_ECONFLICT) {
        return ort_fail(diag, ORT_ENOTFOUND, "no such tenant");
    }
    if (err == ORT_OK && sqlite3_changes(tx->conn->db) == 0) {
        return ort_fail(diag, ORT_EEXISTS, "key %s belongs to another tenant", row->id);
    }
    if (err == ORT_OK) {
        err = cp__revision(tx, "SELECT revision FROM keys WHERE id = ?", row->id, &row->revision,
                           diag);
    }
    return err;
}

ort_err
cp_key_list(cp_tx *tx, ort_tenant_id tenant, int64_t live_at_ms, cp_page page, cp_key_visit visit,
            void *ctx, ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp__query q = cp__q(tx, "SELECT " COLUMNS FROM " WHERE k.tenant = ?1 AND k.id > ?2"
                            " AND (?3 = 0 OR (k.revoked_at_ms = 0 AND (k.expires_at_ms = 0 OR"
                            " k.expires_at_ms > ?3))) ORDER BY k.id LIMIT ?4");
    cp__bind_id(&q, tenant.v);
    cp__bind_text(&q, cp__page_after(page));
    cp__bind_i64(&q, live_at_ms);
    cp__bind_i64(&q, cp__page_limit(page));
    while (err == ORT_OK && cp__step(&q)) {
        cp_key row = {0};
        read_row(&q, &row);
        if (q.rc == SQLITE_OK) {
            err = visit(ctx, &row);
        }
    }
    const ort_err end = cp__q_end(&q, diag);
    return end != ORT_OK ? end : err;
}

ort_err
cp_key_count(cp_tx *tx, ort_tenant_id tenant, int64_t now_ms, uint64_t *out, ort_diag *diag)
{
    cp__query q = cp__q(tx, "SELECT count(*) FROM keys WHERE tenant = ?1 AND revoked_at_ms = 0"
                            " AND (expires_at_ms = 0 OR expires_at_ms > ?2)");
    cp__bind_id(&q, tenant.v);
    cp__bind_i64(&q, now_ms);
    if (cp__step(&q)) {
        *out = cp__col_u64(&q, 0);
    }
    return cp__q_end(&q, diag);
}

ort_err
cp_key_used(cp_tx *tx, const char *id, int64_t at_ms, ort_diag *diag)
{
    cp__query q = cp__q(tx, "INSERT INTO key_use (id, last_used_ms)"
                            " SELECT id, ?2 FROM keys WHERE id = ?1"
                            " ON CONFLICT (id) DO UPDATE SET last_used_ms = excluded.last_used_ms"
                            " WHERE excluded.last_used_ms > key_use.last_used_ms");
    cp__bind_text(&q, id);
    cp__bind_i64(&q, at_ms);
    return cp__q_run(&q, diag);
}

ort_err
cp_key_sweep(cp_tx *tx, int64_t before_ms, uint64_t *count_out, ort_diag *diag)
{
#define DEAD                                                                 \
    "(SELECT id FROM keys WHERE (revoked_at_ms <> 0 AND revoked_at_ms < ?1)" \
    " OR (expires_at_ms <> 0 AND expires_at_ms < ?1) ORDER BY id LIMIT 10000)"
    ort_err err = ORT_OK;
    *count_out = 0;
    cp__query q = cp__q(tx, "SELECT id FROM " DEAD);
    cp__bind_i64(&q, before_ms);
    while (err == ORT_OK && cp__step(&q)) {
        err = cp__touch(tx, CP__KEYS, cp__col_text(&q, 0), diag);
        ++*count_out;
    }
    const ort_err end = cp__q_end(&q, err == ORT_OK ? diag : NULL);
    if (err == ORT_OK) {
        err = end;
    }
    if (err == ORT_OK) {
        q = cp__q(tx, "DELETE FROM key_use WHERE id IN " DEAD);
        cp__bind_i64(&q, before_ms);
        err = cp__q_run(&q, diag);
    }
    if (err == ORT_OK) {
        q = cp__q(tx, "DELETE FROM keys WHERE id IN " DEAD);
        cp__bind_i64(&q, before_ms);
        err = cp__q_run(&q, diag);
    }
    return err;
#undef DEAD
}
