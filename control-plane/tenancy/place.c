/* Homes for tenants: the store's nodes put before placement's pure functions. */
#include <stdlib.h>
#include <string.h>

#include "store/placements.h"
#include "tenancy/tenancy_internal.h"
#include "tenancy/tenant.h"

#define PLACE_BATCH 1000

typedef struct {
    cp_node_set *set;
    size_t cap;
} node_reader;

static ort_err
take_node(void *ctx, const cp_node *row)
{
    node_reader *r = ctx;
    if (r->set->count == r->cap) {
        const size_t cap = r->cap == 0 ? 16 : r->cap * 2;
        cp_node *grown = realloc(r->set->rows, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        r->set->rows = grown;
        r->cap = cap;
    }
    r->set->rows[r->set->count++] = *row;
    return ORT_OK;
}

ort_err
cp_node_set__read(cp_tenancy *tenancy, cp_tx *tx, cp_node_set *out, ort_diag *diag)
{
    *out = (cp_node_set){0};
    node_reader reader = {.set = out};
    ort_err err = cp_node_list(tx, false, (cp_page){0}, take_node, &reader, diag);
    if (err == ORT_OK && out->count > 0) {
        out->list = calloc(out->count, sizeof *out->list);
        if (out->list == NULL) {
            cp_node_set__fini(out);
            return ort_fail(diag, ORT_ENOMEM, "out of memory");
        }
    }
    for (size_t i = 0; err == ORT_OK && i < out->count; i++) {
        const cp_node *row = &out->rows[i];
        const cp_tenancy_options *o = &tenancy->o;
        out->list[i] = (cp_candidate){
            .id = row->id,
            .region = row->region,
            .zone = row->zone,
            .weight = row->weight,
            .usable = row->state == CP_NODE_READY &&
                      (o->node_is_healthy == NULL || o->node_is_healthy(o->ctx, row->id)),
        };
    }
    if (err != ORT_OK) {
        cp_node_set__fini(out);
    }
    return err;
}

void
cp_node_set__fini(cp_node_set *set)
{
    free(set->list);
    free(set->rows);
    *set = (cp_node_set){0};
}

ort_err
cp_tenancy__place(cp_tx *tx, const cp_node_set *nodes, const cp_tenant *tenant, ort_node_id without,
                  uint64_t epoch, bool *placed_out, ort_diag *diag)
{
    const char *names[CP_TEXTS_MAX];
    cp_region_set regions = {.names = names};
    cp_home home;
    ort_node_id winner;
    *placed_out = false;
    for (const char *t = cp_texts_first(&tenant->regions); t != NULL;
         t = cp_texts_next(&tenant->regions, t)) {
        names[regions.count++] = t;
    }
    for (size_t i = 0; i < nodes->count; i++) {
        if (nodes->list[i].id.v == without.v) {
            nodes->list[i].usable = false;
        }
    }
    if (!cp_placement_pick(tenant->id, nodes->list, nodes->count, &regions, &winner)) {
        return ORT_OK;
    }
    const ort_err err = cp_home_set(tx, tenant->id, winner, epoch, &home, diag);
    *placed_out = err == ORT_OK;
    return err;
}

/* Tenants without a home, copied out: the walk must not write. */
typedef struct {
    cp_tenant *rows;
    size_t count;
} tenant_batch;

static ort_err
take_tenant(void *ctx, const cp_tenant *row)
{
    tenant_batch *batch = ctx;
    batch->rows[batch->count++] = *row;
    return ORT_OK;
}

/* Those of one page that may be placed: active and suspended ones. */
static ort_err
place_batch(cp_tx *tx, const cp_node_set *nodes, const tenant_batch *batch, uint64_t *placed,
            ort_diag *diag)
{
    ort_err err = ORT_OK;
    for (size_t i = 0; i < batch->count && err == ORT_OK; i++) {
        bool one = false;
        if (batch->rows[i].state != CP_TENANT_DELETING) {
            err = cp_tenancy__place(tx, nodes, &batch->rows[i], (ort_node_id){0}, 0, &one, diag);
        }
        *placed += one;
    }
    return err;
}

ort_err
cp_tenant_place_pending(cp_tenancy *tenancy, uint64_t *placed_out, uint64_t *version_out,
                        ort_diag *diag)
{
    cp_tx *tx;
    cp_node_set nodes = {0};
    char after[ORT_ID_TEXT_BYTES] = "";
    tenant_batch batch = {.rows = calloc(PLACE_BATCH, sizeof(cp_tenant))};
    *placed_out = 0;
    ort_err err = batch.rows != NULL ? ORT_OK : ort_fail(diag, ORT_ENOMEM, "out of memory");
    /* A page a change, by id, so that tenants that no node takes are passed over. */
    do {
        uint64_t placed = 0;
        batch.count = 0;
        if (err != ORT_OK ||
            (err = cp_store_begin(tenancy->o.store, &cp_author_system, &tx, diag)) != ORT_OK) {
            break;
        }
        const cp_tenant_query query = {.page = {.after = after, .limit = PLACE_BATCH},
                                       .unplaced = true};
        err = cp_node_set__read(tenancy, tx, &nodes, diag);
        if (err == ORT_OK) {
            err = cp_tenant_list(tx, &query, take_tenant, &batch, diag);
        }
        if (err == ORT_OK) {
            err = place_batch(tx, &nodes, &batch, &placed, diag);
        }
        cp_node_set__fini(&nodes);
        err = cp_tenancy__end(tx, err, &(cp_change){.op = "tenant.place"}, version_out, diag);
        if (err == ORT_OK) {
            *placed_out += placed;
        }
        if (batch.count > 0) {
            ort_id_format(batch.rows[batch.count - 1].id.v, after);
        }
    } while (err == ORT_OK && batch.count == PLACE_BATCH);
    free(batch.rows);
    return err;
}
