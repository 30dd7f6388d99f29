/* Rules for tenants and their quotas. */
#include "tenancy/tenant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/admin_tokens.h"
#include "store/keys.h"
#include "store/plans.h"
#include "store/regions.h"
#include "tenancy/tenancy_internal.h"

/* The pin names regions that exist; a plan that exists. The store would refuse others too, but not
 * say which. */
static ort_err
check_regions(cp_tx *tx, const cp_texts *regions, ort_diag *diag)
{
    cp_region row;
    for (const char *t = cp_texts_first(regions); t != NULL; t = cp_texts_next(regions, t)) {
        const ort_err err = cp_region_get(tx, t, &row, diag);
        if (err != ORT_OK) {
            return err == ORT_ENOTFOUND
                       ? ort_fail(diag, ORT_EVALIDATE, "regions: there is no region %.63s", t)
                       : err;
        }
    }
    return ORT_OK;
}

static ort_err
check_plan(cp_tx *tx, const char *name, cp_plan *out, ort_diag *diag)
{
    const ort_err err = cp_plan_get(tx, name, out, diag);
    return err == ORT_ENOTFOUND
               ? ort_fail(diag, ORT_EVALIDATE, "plan: there is no plan %.63s", name)
               : err;
}

static ort_err
check_ask(const cp_tenant_ask *ask, ort_diag *diag)
{
    uint64_t id;
    ort_err err = cp_check_slug("tenant", ask->name, diag);
    if (err == ORT_OK && ort_id_parse(ask->name, strlen(ask->name), &id) == ORT_OK) {
        err = ort_fail(diag, ORT_EVALIDATE, "tenant \"%s\" would read as an id", ask->name);
    }
    if (err == ORT_OK && ask->display != NULL) {
        err = cp_check_display("display_name", ask->display, diag);
    }
    if (err == ORT_OK && ask->overrides != NULL) {
        const cp_limits none = {{0}};
        const cp_limits limits = cp_limits_effective(&none, ask->overrides);
        err = cp_tenancy__limits(&limits, diag);
    }
    return err;
}

static ort_err
check_room(cp_tx *tx, const char *name, ort_diag *diag)
{
    cp_tenant other;
    uint64_t count = 0;
    ort_err err = cp_tenant_get_by_name(tx, name, &other, diag);
    if (err == ORT_OK) {
        return ort_fail(diag, ORT_EEXISTS, "tenant %s is there already", name);
    }
    err = err == ORT_ENOTFOUND ? cp_tenant_count(tx, &count, diag) : err;
    if (err == ORT_OK && count >= CP_TENANTS_MAX) {
        err = ort_fail(diag, ORT_EQUOTA, "the hub has %llu tenants, %d at most",
                       (unsigned long long)count, CP_TENANTS_MAX);
    }
    return err;
}

static ort_err
insert_tenant(cp_tx *tx, const cp_tenant_ask *ask, cp_tenant *row, ort_diag *diag)
{
    cp_quota quota;
    ort_err err = cp_tenant_put(tx, row, diag);
    if (err == ORT_OK && ask->overrides != NULL) {
        err = cp_quota_get(tx, row->id, &quota, diag);
        if (err == ORT_OK) {
            quota.overrides = *ask->overrides;
            quota.updated_at_ms = cp_tx_now_ms(tx);
            err = cp_quota_put(tx, &quota, diag);
        }
    }
    return err;
}

ort_err
cp_tenant_create(cp_tenancy *tenancy, const cp_author *author, const cp_tenant_ask *ask,
                 cp_tenant *out, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_plan plan;
    cp_node_set nodes = {0};
    bool placed;
    const char *plan_name = ask->plan != NULL ? ask->plan : "default";
    cp_tenant row = {.id = {ort_id_random()}, .max_stale_s = ask->max_stale_s};
    ort_err err = check_ask(ask, diag);
    if (err != ORT_OK || (err = cp_store_begin(tenancy->o.store, author, &tx, diag)) != ORT_OK) {
        return err;
    }
    row.created_at_ms = row.updated_at_ms = cp_tx_now_ms(tx);
    cp_tenancy__copy(row.name, sizeof row.name, ask->name);
    cp_tenancy__copy(row.display, sizeof row.display, ask->display != NULL ? ask->display : "");
    if (ask->regions != NULL) {
        row.regions = *ask->regions;
    }
    err = check_room(tx, ask->name, diag);
    if (err == ORT_OK) {
        err = check_plan(tx, plan_name, &plan, diag);
    }
    if (err == ORT_OK) {
        cp_tenancy__copy(row.plan, sizeof row.plan, plan.name);
        err = check_regions(tx, &row.regions, diag);
    }
    if (err == ORT_OK) {
        err = insert_tenant(tx, ask, &row, diag);
    }
    if (err == ORT_OK) {
        err = cp_node_set__read(tenancy, tx, &nodes, diag);
    }
    if (err == ORT_OK) {
        err = cp_tenancy__place(tx, &nodes, &row, (ort_node_id){0}, 0, &placed, diag);
    }
    cp_node_set__fini(&nodes);
    *out = row;
    const cp_change change = {.op = "tenant.create", .tenant = row.id};
    return cp_tenancy__end(tx, err, &change, version_out, diag);
}

/* Begins a change of one tenant: its row, of the revision that was asked for. */
static ort_err
begin_change(cp_tenancy *tenancy, const cp_author *author, ort_tenant_id id,
             const uint64_t *revision, cp_tx **tx, cp_tenant *row, ort_diag *diag)
{
    ort_err err = cp_store_begin(tenancy->o.store, author, tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_tenant_get(*tx, id, row, diag);
    if (err == ORT_OK && row->state == CP_TENANT_DELETED) {
        err = ort_fail(diag, ORT_ENOTFOUND, "no such tenant");
    }
    if (err == ORT_OK) {
        err = cp_tenancy__revision("tenant", revision, row->revision, diag);
    }
    if (err != ORT_OK) {
        cp_tx_end(*tx);
        *tx = NULL;
    }
    return err;
}

static ort_err
not_deleting(const cp_tenant *row, ort_diag *diag)
{
    return row->state == CP_TENANT_DELETING
               ? ort_fail(diag, ORT_ECONFLICT, "tenant %s is being deleted", row->name)
               : ORT_OK;
}

/* The home stays in the new pin, or there is none yet. */
static ort_err
check_home(cp_tx *tx, const cp_tenant *row, const cp_texts *regions, ort_diag *diag)
{
    cp_home home;
    cp_node node;
    ort_err err = cp_home_get(tx, row->id, &home, diag);
    if (err != ORT_OK || regions->count == 0) {
        return err == ORT_ENOTFOUND ? ORT_OK : err;
    }
    err = cp_node_get(tx, home.home, &node, diag);
    if (err == ORT_OK && !cp_texts_has(regions, node.region)) {
        err = ort_fail(
            diag, ORT_ECONFLICT,
            "the tenant's data is in region %s, which the new pin leaves out: move it first",
            node.region);
    }
    return err;
}

/* Whether every region of the new pin was allowed before, and one is allowed no more. */
static bool
is_narrower(const cp_texts *old, const cp_texts *fresh)
{
    if (fresh->count == 0) {
        return false;
    }
    for (const char *t = cp_texts_first(old); t != NULL; t = cp_texts_next(old, t)) {
        if (!cp_texts_has(fresh, t)) {
            return true;
        }
    }
    return old->count == 0;
}

static ort_err
change_plan(cp_tx *tx, cp_tenant *row, const char *name, bool *denial, ort_diag *diag)
{
    cp_plan old, fresh;
    cp_quota quota;
    ort_err err = check_plan(tx, name, &fresh, diag);
    if (err == ORT_OK) {
        err = cp_plan_get(tx, row->plan, &old, diag);
    }
    if (err == ORT_OK) {
        err = cp_quota_get(tx, row->id, &quota, diag);
    }
    if (err == ORT_OK) {
        const cp_limits from = cp_limits_effective(&old.limits, &quota.overrides);
        const cp_limits to = cp_limits_effective(&fresh.limits, &quota.overrides);
        *denial = *denial || cp_limits_lower(&from, &to);
        cp_tenancy__copy(row->plan, sizeof row->plan, fresh.name);
    }
    return err;
}

static ort_err
apply_patch(cp_tx *tx, cp_tenant *row, const cp_tenant_patch *patch, bool *denial, ort_diag *diag)
{
    ort_err err = not_deleting(row, diag);
    if (err == ORT_OK && patch->plan != NULL) {
        err = change_plan(tx, row, patch->plan, denial, diag);
    }
    if (err == ORT_OK && patch->regions != NULL) {
        err = check_regions(tx, patch->regions, diag);
        if (err == ORT_OK) {
            err = check_home(tx, row, patch->regions, diag);
        }
        *denial = *denial || is_narrower(&row->regions, patch->regions);
        row->regions = *patch->regions;
    }
    if (err == ORT_OK && patch->display != NULL) {
        cp_tenancy__copy(row->display, sizeof row->display, patch->display);
    }
    if (err == ORT_OK && patch->max_stale_s != NULL) {
        row->max_stale_s = *patch->max_stale_s;
    }
    return err;
}

ort_err
cp_tenant_update(cp_tenancy *tenancy, const cp_author *author, ort_tenant_id id,
                 const uint64_t *revision, const cp_tenant_patch *patch, cp_tenant *out,
                 uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_tenant row;
    cp_change change = {.op = "tenant.update", .tenant = id};
    ort_err err =
        patch->display != NULL ? cp_check_display("display_name", patch->display, diag) : ORT_OK;
    if (err != ORT_OK ||
        (err = begin_change(tenancy, author, id, revision, &tx, &row, diag)) != ORT_OK) {
        return err;
    }
    err = apply_patch(tx, &row, patch, &change.denial, diag);
    if (err == ORT_OK) {
        row.updated_at_ms = cp_tx_now_ms(tx);
        err = cp_tenant_put(tx, &row, diag);
        *out = row;
    }
    return cp_tenancy__end(tx, err, &change, version_out, diag);
}

ort_err
cp_tenant_suspend(cp_tenancy *tenancy, const cp_author *author, ort_tenant_id id,
                  const uint64_t *revision, bool suspended, cp_tenant *out, uint64_t *version_out,
                  ort_diag *diag)
{
    cp_tx *tx;
    cp_tenant row;
    ort_err err = begin_change(tenancy, author, id, revision, &tx, &row, diag);
    if (err != ORT_OK) {
        return err;
    }
    const cp_tenant_state to = suspended ? CP_TENANT_SUSPENDED : CP_TENANT_ACTIVE;
    const cp_change change = {
        .op = suspended ? "tenant.suspend" : "tenant.resume", .tenant = id, .denial = suspended};
    err = not_deleting(&row, diag);
    if (err == ORT_OK && row.state != to) {
        row.state = to;
        row.updated_at_ms = cp_tx_now_ms(tx);
        err = cp_tenant_put(tx, &row, diag);
    }
    *out = row;
    return cp_tenancy__end(tx, err, &change, version_out, diag);
}

/* Rows gathered by a walk, which must not write itself. */
typedef struct {
    cp_key *keys;
    cp_admin_token *tokens;
    size_t count, cap;
} gathered;

static ort_err
take_key(void *ctx, const cp_key *row)
{
    gathered *g = ctx;
    if (g->count == g->cap) {
        const size_t cap = g->cap == 0 ? 16 : g->cap * 2;
        cp_key *grown = realloc(g->keys, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        g->keys = grown;
        g->cap = cap;
    }
    g->keys[g->count++] = *row;
    return ORT_OK;
}

static ort_err
take_token(void *ctx, const cp_admin_token *row)
{
    gathered *g = ctx;
    if (g->count == g->cap) {
        const size_t cap = g->cap == 0 ? 16 : g->cap * 2;
        cp_admin_token *grown = realloc(g->tokens, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        g->tokens = grown;
        g->cap = cap;
    }
    g->tokens[g->count++] = *row;
    return ORT_OK;
}

static ort_err
revoke_all(cp_tx *tx, ort_tenant_id id, ort_diag *diag)
{
    gathered keys = {0}, tokens = {0};
    ort_err err = cp_key_list(tx, id, 0, (cp_page){0}, take_key, &keys, diag);
    for (size_t i = 0; err == ORT_OK && i < keys.count; i++) {
        if (keys.keys[i].revoked_at_ms == 0) {
            keys.keys[i].revoked_at_ms = cp_tx_now_ms(tx);
            err = cp_key_put(tx, &keys.keys[i], diag);
        }
    }
    if (err == ORT_OK) {
        err = cp_admin_token_list(tx, id, (cp_page){0}, take_token, &tokens, diag);
    }
    for (size_t i = 0; err == ORT_OK && i < tokens.count; i++) {
        if (tokens.tokens[i].revoked_at_ms == 0) {
            tokens.tokens[i].revoked_at_ms = cp_tx_now_ms(tx);
            err = cp_admin_token_put(tx, &tokens.tokens[i], diag);
        }
    }
    free(keys.keys);
    free(tokens.tokens);
    return err;
}

/* DELETED when no holder is left. */
static ort_err
finish_when_empty(cp_tx *tx, cp_tenant *row, bool *done, ort_diag *diag)
{
    uint64_t left = 0;
    ort_err err = cp_holder_left(tx, row->id, &left, diag);
    *done = err == ORT_OK && left == 0;
    if (*done) {
        row->state = CP_TENANT_DELETED;
        row->regions = (cp_texts){0}; /* a tombstone pins nothing: its regions may go */
        row->deleted_at_ms = cp_tx_now_ms(tx);
    }
    return err;
}

ort_err
cp_tenant_delete(cp_tenancy *tenancy, const cp_author *author, ort_tenant_id id,
                 const uint64_t *revision, cp_tenant *out, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_tenant row;
    bool done;
    ort_err err = begin_change(tenancy, author, id, revision, &tx, &row, diag);
    if (err != ORT_OK) {
        return err;
    }
    if (row.state != CP_TENANT_DELETING) {
        row.state = CP_TENANT_DELETING;
        row.updated_at_ms = cp_tx_now_ms(tx);
        err = revoke_all(tx, id, diag);
        if (err == ORT_OK) {
            err = finish_when_empty(tx, &row, &done, diag);
        }
        if (err == ORT_OK) {
            err = cp_tenant_put(tx, &row, diag);
        }
    }
    *out = row;
    const cp_change change = {.op = "tenant.delete", .tenant = id, .denial = true};
    return cp_tenancy__end(tx, err, &change, version_out, diag);
}

ort_err
cp_tenant_gone(cp_tenancy *tenancy, ort_tenant_id id, ort_node_id node, bool *done_out,
               uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_tenant row;
    char actor[CP_ACTOR_BYTES], node_id[ORT_ID_TEXT_BYTES];
    ort_id_format(node.v, node_id);
    snprintf(actor, sizeof actor, "node:%s", node_id);
    const cp_author author = {.actor = actor};
    *done_out = false;
    ort_err err = cp_store_begin(tenancy->o.store, &author, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_tenant_get(tx, id, &row, diag);
    if (err == ORT_OK && row.state == CP_TENANT_DELETED) {
        *done_out = true;
        if (version_out != NULL) {
            *version_out = cp_tx_version(tx);
        }
        cp_tx_end(tx);
        return ORT_OK;
    }
    if (err == ORT_ENOTFOUND || (err == ORT_OK && row.state != CP_TENANT_DELETING)) {
        err = ort_fail(diag, ORT_ECONFLICT, "the tenant is not being deleted");
    }
    if (err == ORT_OK) {
        err = cp_holder_gone(tx, id, node, diag);
        err = err == ORT_ENOTFOUND ? ort_fail(diag, ORT_ECONFLICT, "the node never held the tenant")
                                   : err;
    }
    if (err == ORT_OK) {
        err = finish_when_empty(tx, &row, done_out, diag);
    }
    if (err == ORT_OK && *done_out) {
        row.updated_at_ms = cp_tx_now_ms(tx);
        err = cp_tenant_put(tx, &row, diag);
    }
    const cp_change change = {.op = *done_out ? "tenant.deleted" : "tenant.gone", .tenant = id};
    err = cp_tenancy__end(tx, err, &change, version_out, diag);
    *done_out = *done_out && err == ORT_OK;
    return err;
}

ort_err
cp_quota_set(cp_tenancy *tenancy, const cp_author *author, ort_tenant_id id,
             const uint64_t *revision, const cp_overrides *overrides, cp_quota *out,
             uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_tenant row;
    cp_plan plan;
    cp_quota quota;
    cp_change change = {.op = "quota.set", .tenant = id};
    const cp_limits none = {{0}}, asked = cp_limits_effective(&none, overrides);
    ort_err err = cp_tenancy__limits(&asked, diag);
    if (err != ORT_OK ||
        (err = begin_change(tenancy, author, id, NULL, &tx, &row, diag)) != ORT_OK) {
        return err;
    }
    err = not_deleting(&row, diag);
    if (err == ORT_OK) {
        err = cp_quota_get(tx, id, &quota, diag);
    }
    if (err == ORT_OK) {
        err = cp_tenancy__revision("quota", revision, quota.revision, diag);
    }
    if (err == ORT_OK) {
        err = cp_plan_get(tx, row.plan, &plan, diag);
    }
    if (err == ORT_OK) {
        const cp_limits from = cp_limits_effective(&plan.limits, &quota.overrides);
        const cp_limits to = cp_limits_effective(&plan.limits, overrides);
        change.denial = cp_limits_lower(&from, &to);
        quota.overrides = *overrides;
        quota.updated_at_ms = cp_tx_now_ms(tx);
        err = cp_quota_put(tx, &quota, diag);
        *out = quota;
    }
    return cp_tenancy__end(tx, err, &change, version_out, diag);
}
