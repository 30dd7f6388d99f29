/* Rows of kept answers. */
#include "store/idempotency.h"

#include <string.h>

#include "store/store_internal.h"

ort_err
cp_idempotency_get(cp_tx *tx, const char *actor, const char *key, cp_idempotency *out,
                   ort_buf *body_out, ort_diag *diag)
{
    cp_idempotency row = {0};
    cp__query q = cp__q(tx, "SELECT actor, client_key, request, status, created_at_ms,"
                            " expires_at_ms, body FROM idempotency"
                            " WHERE actor = ? AND client_key = ? AND expires_at_ms > ?");
    cp__bind_text(&q, actor);
    cp__bind_text(&q, key);
    cp__bind_i64(&q, tx->now_ms);
    const bool found = cp__step(&q);
    if (found) {
        cp__col_copy(&q, 0, row.actor, sizeof row.actor);
        cp__col_copy(&q, 1, row.key, sizeof row.key);
        cp__col_blob(&q, 2, row.request.b, sizeof row.request.b);
        row.status = (uint16_t)cp__col_u64(&q, 3);
        row.created_at_ms = cp__col_i64(&q, 4);
        row.expires_at_ms = cp__col_i64(&q, 5);
        const void *body = sqlite3_column_blob(q.stmt, 6);
        const int len = sqlite3_column_bytes(q.stmt, 6);
        if (body != NULL && len > 0) {
            ort_buf_put(body_out, body, (size_t)len);
        }
    }
    const ort_err err = cp__get_end(&q, found, "answer kept under", key, diag);
    if (err != ORT_OK) {
        return err;
    }
    *out = row;
    return ort_buf_check(body_out);
}

ort_err
cp_idempotency_put(cp_tx *tx, const cp_idempotency *row, const void *body, size_t body_len,
                   ort_diag *diag)
{
    if (body_len > CP_IDEMPOTENCY_BODY_BYTES_MAX) {
        return ort_fail(diag, ORT_ETOOBIG, "an answer of %zu bytes is not kept, at most %d are",
                        body_len, CP_IDEMPOTENCY_BODY_BYTES_MAX);
    }
    cp__query q = cp__q(tx, "DELETE FROM idempotency WHERE actor = ? AND client_key = ?"
                            " AND expires_at_ms <= ?");
    cp__bind_text(&q, row->actor);
    cp__bind_text(&q, row->key);
    cp__bind_i64(&q, tx->now_ms);
    ort_err err = cp__q_run(&q, diag);
    if (err != ORT_OK) {
        return err;
    }
    q = cp__q(tx, "INSERT INTO idempotency (actor, client_key, request, status, body,"
                  " created_at_ms, expires_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)");
    cp__bind_text(&q, row->actor);
    cp__bind_text(&q, row->key);
    cp__bind_blob(&q, row->request.b, sizeof row->request.b);
    cp__bind_i64(&q, row->status);
    cp__bind_blob(&q, body, body_len);
    cp__bind_i64(&q, row->created_at_ms);
    cp__bind_i64(&q, row->expires_at_ms);
    err = cp__q_run(&q, diag);
    return err == ORT_EEXISTS
               ? ort_fail(diag, err, "an answer is kept under %.64s already", row->key)
               : err;
}

ort_err
cp_idempotency_sweep(cp_tx *tx, int64_t now_ms, uint64_t *count_out, ort_diag *diag)
{
    cp__query q = cp__q(tx, "DELETE FROM idempotency WHERE expires_at_ms <= ?");
    cp__bind_i64(&q, now_ms);
    const ort_err err = cp__q_run(&q, diag);
    if (err == ORT_OK) {
        *count_out = (uint64_t)sqlite3_changes(tx->conn->db);
    }
    return err;
}
