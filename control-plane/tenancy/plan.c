/* Rules for plans. */
#include "tenancy/plan.h"

#include <string.h>

#include "tenancy/tenancy_internal.h"

static ort_err
count_plan(void *ctx, const cp_plan *row)
{
    (void)row;
    (*(size_t *)ctx)++;
    return ORT_OK;
}

ort_err
cp_plan_create(cp_tenancy *tenancy, const cp_author *author, const char *name, const char *display,
               const cp_limits *limits, cp_plan *out, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_plan row;
    size_t count = 0;
    display = display != NULL ? display : "";
    ort_err err = cp_check_slug("plan", name, diag);
    if (err == ORT_OK) {
        err = cp_check_display("display_name", display, diag);
    }
    if (err == ORT_OK) {
        err = cp_tenancy__limits(limits, diag);
    }
    if (err != ORT_OK || (err = cp_store_begin(tenancy->o.store, author, &tx, diag)) != ORT_OK) {
        return err;
    }
    err = cp_plan_get(tx, name, &row, diag);
    if (err == ORT_OK) {
        err = ort_fail(diag, ORT_EEXISTS, "plan %s is there already", name);
    } else if (err == ORT_ENOTFOUND) {
        err = cp_plan_list(tx, (cp_page){0}, count_plan, &count, diag);
        if (err == ORT_OK && count >= CP_PLANS_MAX) {
            err = ort_fail(diag, ORT_EQUOTA, "the hub has %zu plans, %d at most", count,
                           CP_PLANS_MAX);
        }
    }
    if (err == ORT_OK) {
        row = (cp_plan){.limits = *limits,
                        .created_at_ms = cp_tx_now_ms(tx),
                        .updated_at_ms = cp_tx_now_ms(tx)};
        cp_tenancy__copy(row.name, sizeof row.name, name);
        cp_tenancy__copy(row.display, sizeof row.display, display);
        err = cp_plan_put(tx, &row, diag);
        *out = row;
    }
    return cp_tenancy__end(tx, err, &(cp_change){.op = "plan.create"}, version_out, diag);
}

ort_err
cp_plan_update(cp_tenancy *tenancy, const cp_author *author, const char *name,
               const uint64_t *revision, const char *display, const cp_overrides *patch,
               cp_plan *out, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_plan row;
    cp_change change = {.op = "plan.update"};
    ort_err err = display != NULL ? cp_check_display("display_name", display, diag) : ORT_OK;
    if (err != ORT_OK || (err = cp_store_begin(tenancy->o.store, author, &tx, diag)) != ORT_OK) {
        return err;
    }
    err = cp_plan_get(tx, name, &row, diag);
    if (err == ORT_OK) {
        err = cp_tenancy__revision("plan", revision, row.revision, diag);
    }
    if (err == ORT_OK) {
        const cp_limits before = row.limits;
        row.limits = cp_limits_effective(&before, patch);
        change.denial = cp_limits_lower(&before, &row.limits);
        err = cp_tenancy__limits(&row.limits, diag);
    }
    if (err == ORT_OK) {
        if (display != NULL) {
            cp_tenancy__copy(row.display, sizeof row.display, display);
        }
        row.updated_at_ms = cp_tx_now_ms(tx);
        err = cp_plan_put(tx, &row, diag);
        *out = row;
    }
    return cp_tenancy__end(tx, err, &change, version_out, diag);
}

ort_err
cp_plan_delete(cp_tenancy *tenancy, const cp_author *author, const char *name,
               const uint64_t *revision, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_plan row;
    if (strcmp(name, "default") == 0) {
        return ort_fail(diag, ORT_ECONFLICT,
                        "plan default stays: tenants are made on it when no plan is named");
    }
    ort_err err = cp_store_begin(tenancy->o.store, author, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_plan_get(tx, name, &row, diag);
    if (err == ORT_OK) {
        err = cp_tenancy__revision("plan", revision, row.revision, diag);
    }
    if (err == ORT_OK) {
        err = cp_plan_remove(tx, name, diag);
    }
    return cp_tenancy__end(tx, err, &(cp_change){.op = "plan.delete"}, version_out, diag);
}
