/* Rows of regions. */
#include "store/regions.h"

#include <string.h>

#include "store/store_internal.h"

#define COLUMNS "name, display, created_at_ms, revision"

static void
read_row(cp__query *q, cp_region *out)
{
    cp__col_copy(q, 0, out->name, sizeof out->name);
    cp__col_copy(q, 1, out->display, sizeof out->display);
    out->created_at_ms = cp__col_i64(q, 2);
    out->revision = cp__col_u64(q, 3);
}

ort_err
cp_region_get(cp_tx *tx, const char *name, cp_region *out, ort_diag *diag)
{
    cp_region row = {0};
    cp__query q = cp__q(tx, "SELECT " COLUMNS " FROM regions WHERE name = ?");
    cp__bind_text(&q, name);
    const bool found = cp__step(&q);
    if (found) {
        read_row(&q, &row);
    }
    const ort_err err = cp__get_end(&q, found, "region", name, diag);
    if (err == ORT_OK) {
        *out = row;
    }
    return err;
}

ort_err
cp_region_put(cp_tx *tx, cp_region *row, ort_diag *diag)
{
    ort_err err = cp__touch(tx, CP__REGIONS, row->name, diag);
    if (err != ORT_OK) {
        return err;
    }
    cp__query q = cp__q(tx, "INSERT INTO regions (" COLUMNS ") VALUES (?, ?, ?, 1)"
                            " ON CONFLICT (name) DO UPDATE SET display = excluded.display,"
                            " revision = regions.revision + 1");
    cp__bind_text(&q, row->name);
    cp__bind_text(&q, row->display);
    cp__bind_i64(&q, row->created_at_ms);
    err = cp__q_run(&q, diag);
    if (err == ORT_OK) {
        err = cp__revision(tx, "SELECT revision FROM regions WHERE name = ?", row->name,
                           &row->revision, diag);
    }
    return err;
}

ort_err
cp_region_remove(cp_tx *tx, const char *name, ort_diag *diag)
{
    cp_region row;
    ort_err err = cp_region_get(tx, name, &row, diag);
    if (err == ORT_OK) {
        err = cp__touch(tx, CP__REGIONS, name, diag);
    }
    if (err == ORT_OK) {
        cp__query q = cp__q(tx, "DELETE FROM regions WHERE name = ?");
        cp__bind_text(&q, name);
        err = cp__q_run(&q, diag);
    }
    if (err == ORT_ECONFLICT) {
        err = ort_fail(diag, err,
                       "region %s is in use: a node or a join token is in it, or a"
                       " tenant is pinned to it",
                       name);
    }
    return err;
}

ort_err
cp_region_list(cp_tx *tx, cp_page page, cp_region_visit visit, void *ctx, ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp__query q = cp__q(tx, "SELECT " COLUMNS " FROM regions WHERE name > ? ORDER BY name LIMIT ?");
    cp__bind_text(&q, cp__page_after(page));
    cp__bind_i64(&q, cp__page_limit(page));
    while (err == ORT_OK && cp__step(&q)) {
        cp_region row = {0};
        read_row(&q, &row);
        if (q.rc == SQLITE_OK) {
            err = visit(ctx, &row);
        }
    }
    const ort_err end = cp__q_end(&q, diag);
    return end != ORT_OK ? end : err;
}
