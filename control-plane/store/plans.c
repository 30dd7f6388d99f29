/* Rows of plans. */
#include "store/plans.h"

#include <string.h>

#include "store/store_internal.h"

#define LIMITS                                                                     \
    "max_collections, max_vectors_per_collection, max_vectors, max_storage_bytes," \
    " max_requests_per_minute, max_requests_per_minute_per_key"
#define COLUMNS "name, display, " LIMITS ", created_at_ms, updated_at_ms, revision"
#define SET(column) column " = excluded." column

static void
read_row(cp__query *q, cp_plan *out)
{
    cp__col_copy(q, 0, out->name, sizeof out->name);
    cp__col_copy(q, 1, out->display, sizeof out->display);
    for (int i = 0; i < CP_LIMIT_COUNT; i++) {
        out->limits.v[i] = cp__col_limit(q, 2 + i);
    }
    out->created_at_ms = cp__col_i64(q, 2 + CP_LIMIT_COUNT);
    out->updated_at_ms = cp__col_i64(q, 3 + CP_LIMIT_COUNT);
    out->revision = cp__col_u64(q, 4 + CP_LIMIT_COUNT);
}

ort_err
cp_plan_get(cp_tx *tx, const char *name, cp_plan *out, ort_diag *diag)
{
    cp_plan row = {0};
    cp__query q = cp__q(tx, "SELECT " COLUMNS " FROM plans WHERE name = ?");
    cp__bind_text(&q, name);
    const bool found = cp__step(&q);
    if (found) {
        read_row(&q, &row);
    }
    const ort_err err = cp__get_end(&q, found, "plan", name, diag);
    if (err == ORT_OK) {
        *out = row;
    }
    return err;
}

ort_err
cp_plan_put(cp_tx *tx, cp_plan *row, ort_diag *diag)
{
    ort_err err = cp__touch(tx, CP__PLANS, row->name, diag);
    if (err != ORT_OK) {
        return err;
    }
    cp__query q = cp__q(
        tx,
        "INSERT INTO plans (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
        " ON CONFLICT (name) DO UPDATE SET " SET("display") ", " SET("max_collections") ", " SET(
            "m"
            "a"
            "x"
            "_"
            "v"
            "e"
            "c"
            "t"
            "o"
            "r"
            "s"
            "_"
            "p"
            "e"
            "r"
            "_"
            "c"
            "o"
            "l"
            "l"
            "e"
            "c"
            "t"
            "i"
            "o"
            "n") ", " SET("max_vectors") ", " SET("max_storage_bytes") ", " SET("max_requests_per_"
                                                                                "minute") ", " SET("max_requests_per_"
                                                                                                   "minute_per_key") ","
                                                                                                                     " " SET(
                                                                                                                         "updated_at_ms") ","
                                                                                                                                          " revision = plans.revision + 1");
    cp__bind_text(&q, row->name);
    cp__bind_text(&q, row->display);
    for (int i = 0; i < CP_LIMIT_COUNT; i++) {
        cp__bind_limit(&q, row->limits.v[i]);
    }
    cp__bind_i64(&q, row->created_at_ms);
    cp__bind_i64(&q, row->updated_at_ms);
    err = cp__q_run(&q, diag);
    if (err == ORT_OK) {
        err = cp__revision(tx, "SELECT revision FROM plans WHERE name = ?", row->name,
                           &row->revision, diag);
    }
    return err;
}

ort_err
cp_plan_remove(cp_tx *tx, const char *name, ort_diag *diag)
{
    cp_plan row;
    ort_err err = cp_plan_get(tx, name, &row, diag);
    if (err == ORT_OK) {
        err = cp__touch(tx, CP__PLANS, name, diag);
    }
    if (err == ORT_OK) {
        cp__query q = cp__q(tx, "DELETE FROM plans WHERE name = ?");
        cp__bind_text(&q, name);
        err = cp__q_run(&q, diag);
    }
    if (err == ORT_ECONFLICT) {
        err = ort_fail(diag, err,
                       "plan %s is in use: tenants (perhaps deleted ones, kept for the"
                       " audit) are on it",
                       name);
    }
    return err;
}

ort_err
cp_plan_list(cp_tx *tx, cp_page page, cp_plan_visit visit, void *ctx, ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp__query q = cp__q(tx, "SELECT " COLUMNS " FROM plans WHERE name > ? ORDER BY name LIMIT ?");
    cp__bind_text(&q, cp__page_after(page));
    cp__bind_i64(&q, cp__page_limit(page));
    while (err == ORT_OK && cp__step(&q)) {
        cp_plan row = {0};
        read_row(&q, &row);
        if (q.rc == SQLITE_OK) {
            err = visit(ctx, &row);
        }
    }
    const ort_err end = cp__q_end(&q, diag);
    return end != ORT_OK ? end : err;
}
