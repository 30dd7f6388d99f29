/* Rules for regions. */
#include "tenancy/region.h"

#include "tenancy/tenancy_internal.h"

static ort_err
count_region(void *ctx, const cp_region *row)
{
    (void)row;
    (*(size_t *)ctx)++;
    return ORT_OK;
}

ort_err
cp_region_create(cp_tenancy *tenancy, const cp_author *author, const char *name,
                 const char *display, cp_region *out, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_region row;
    size_t count = 0;
    ort_err err = cp_check_slug("region", name, diag);
    if (err == ORT_OK) {
        err = cp_check_display("display_name", display, diag);
    }
    if (err != ORT_OK || (err = cp_store_begin(tenancy->o.store, author, &tx, diag)) != ORT_OK) {
        return err;
    }
    err = cp_region_get(tx, name, &row, diag);
    if (err == ORT_OK) {
        err = ort_fail(diag, ORT_EEXISTS, "region %s is there already", name);
    } else if (err == ORT_ENOTFOUND) {
        err = cp_region_list(tx, (cp_page){0}, count_region, &count, diag);
        if (err == ORT_OK && count >= CP_REGIONS_MAX) {
            err = ort_fail(diag, ORT_EQUOTA, "the hub has %zu regions, %d at most", count,
                           CP_REGIONS_MAX);
        }
    }
    if (err == ORT_OK) {
        row = (cp_region){.created_at_ms = cp_tx_now_ms(tx)};
        cp_tenancy__copy(row.name, sizeof row.name, name);
        cp_tenancy__copy(row.display, sizeof row.display, display);
        err = cp_region_put(tx, &row, diag);
        *out = row;
    }
    return cp_tenancy__end(tx, err, &(cp_change){.op = "region.create"}, version_out, diag);
}

ort_err
cp_region_delete(cp_tenancy *tenancy, const cp_author *author, const char *name,
                 uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    ort_err err = cp_store_begin(tenancy->o.store, author, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_region_remove(tx, name, diag);
    return cp_tenancy__end(tx, err, &(cp_change){.op = "region.delete"}, version_out, diag);
}
