/* Rows of grants. */
#include "store/grants.h"

#include <stdio.h>

#include "store/store_internal.h"

ort_err
cp_grant_put(cp_tx *tx, const cp_grant_row *row, ort_diag *diag)
{
    char tenant[ORT_ID_TEXT_BYTES], node[ORT_ID_TEXT_BYTES];
    char key[ORT_ID_TEXT_BYTES + CP_GRANT_OP_BYTES];
    ort_id_format(row->tenant.v, tenant);
    ort_id_format(row->node.v, node);
    snprintf(key, sizeof key, "%s:%s", tenant, row->op);
    ort_err err = cp__touch(tx, CP__GRANTS, key, diag);
    if (err != ORT_OK) {
        return err;
    }
    cp__query q = cp__q(tx, "INSERT INTO grants (tenant, op, source, node, issued_to, issued_at_ms,"
                            " expires_at_ms, revision) VALUES (?, ?, ?, ?, ?, ?, ?, 1)"
                            " ON CONFLICT (tenant, op) DO UPDATE SET source = excluded.source,"
                            " node = excluded.node, issued_to = excluded.issued_to,"
                            " issued_at_ms = excluded.issued_at_ms,"
                            " expires_at_ms = excluded.expires_at_ms,"
                            " revision = grants.revision + 1");
    cp__bind_text(&q, tenant);
    cp__bind_text(&q, row->op);
    cp__bind_id(&q, row->source.v);
    cp__bind_text(&q, node);
    cp__bind_text(&q, row->issued_to);
    cp__bind_i64(&q, row->issued_at_ms);
    cp__bind_i64(&q, row->expires_at_ms);
    err = cp__q_run(&q, diag);
    return err == ORT_ECONFLICT
               ? ort_fail(diag, ORT_ENOTFOUND, "no tenant %s or no node %s", tenant, node)
               : err;
}
