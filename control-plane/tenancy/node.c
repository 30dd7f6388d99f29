/* Rules for nodes and the tokens they join with. */
#include "tenancy/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/placements.h"
#include "store/regions.h"
#include "store/tenants.h"
#include "tenancy/tenancy_internal.h"

#define WEIGHT_NORMAL 100u
#define WEIGHT_MAX 10000u

ort_err
cp_join_token_create(cp_tenancy *tenancy, const cp_author *author, const char *region,
                     uint32_t ttl_s, char token_out[ORT_TOKEN_TEXT_BYTES], cp_join_token *out,
                     uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_region place;
    ort_token token;
    cp_join_token row = {0};
    token_out[0] = '\0';
    if (ttl_s == 0 || ttl_s > CP_JOIN_TTL_S_MAX) {
        return ort_fail(diag, ORT_EVALIDATE, "ttl_s must be 1 to %u, not %u", CP_JOIN_TTL_S_MAX,
                        ttl_s);
    }
    ort_err err = cp_store_begin(tenancy->o.store, author, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_region_get(tx, region, &place, diag);
    if (err == ORT_OK) {
        ort_token_make(&token, ORT_TOKEN_JOIN, (ort_tenant_id){0}, tenancy->o.secrets->ca_print);
        ort_key_id_format(token.id, row.id);
        ort_token_hash(&token, tenancy->o.secrets->pepper, &row.hash);
        ort_token_format(&token, token_out);
        ort_token_wipe(&token);
        cp_tenancy__copy(row.region, sizeof row.region, place.name);
        cp_tenancy__copy(row.created_by, sizeof row.created_by, author->actor);
        row.created_at_ms = cp_tx_now_ms(tx);
        row.expires_at_ms = row.created_at_ms + (int64_t)ttl_s * 1000;
        err = cp_join_token_put(tx, &row, diag);
        *out = row;
    }
    err = cp_tenancy__end(tx, err, &(cp_change){.op = "node.token"}, version_out, diag);
    if (err != ORT_OK) {
        ort_secret_wipe(token_out, ORT_TOKEN_TEXT_BYTES);
    }
    return err;
}

ort_err
cp_join_token_revoke(cp_tenancy *tenancy, const cp_author *author, const char *id,
                     uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_join_token row;
    ort_err err = cp_store_begin(tenancy->o.store, author, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_join_token_get(tx, id, &row, diag);
    if (err == ORT_OK && row.revoked_at_ms == 0) {
        row.revoked_at_ms = cp_tx_now_ms(tx);
        err = cp_join_token_put(tx, &row, diag);
    }
    return cp_tenancy__end(tx, err, &(cp_change){.op = "node.token-revoke"}, version_out, diag);
}

static ort_err
check_text(const char *what, const char *text, size_t cap, ort_diag *diag)
{
    if (strlen(text) >= cap) {
        return ort_fail(diag, ORT_EVALIDATE, "%s has %zu bytes, at most %zu are taken", what,
                        strlen(text), cap - 1);
    }
    return cp_check_display(what, text, diag);
}

static ort_err
check_facts(const cp_node_facts *f, ort_diag *diag)
{
    ort_err err = f->name[0] == '\0' ? ort_fail(diag, ORT_EVALIDATE, "a node needs a name")
                                     : cp_check_display("name", f->name, diag);
    if (err == ORT_OK) {
        err = cp_check_slug("region", f->region, diag);
    }
    if (err == ORT_OK && f->zone[0] != '\0') {
        err = cp_check_slug("zone", f->zone, diag);
    }
    if (err == ORT_OK) {
        err = check_text("endpoint", f->endpoint, CP_URL_BYTES, diag);
    }
    if (err == ORT_OK && strncmp(f->endpoint, "http://", 7) != 0 &&
        strncmp(f->endpoint, "https://", 8) != 0) {
        err = ort_fail(diag, ORT_EVALIDATE, "endpoint \"%.100s\" is neither http:// nor https://",
                       f->endpoint);
    }
    if (err == ORT_OK) {
        err = check_text("forward", f->forward, CP_URL_BYTES, diag);
    }
    if (err == ORT_OK) {
        err = check_text("software", f->software, CP_SOFTWARE_BYTES, diag);
    }
    if (err == ORT_OK && f->capacity_bytes > CP_LIMIT_VALUE_MAX) {
        err = ort_fail(diag, ORT_EVALIDATE, "capacity_bytes is over %llu",
                       (unsigned long long)CP_LIMIT_VALUE_MAX);
    }
    return err;
}

/* What a node says of itself, put into its row. */
static void
take_facts(cp_node *row, const cp_node_facts *f)
{
    cp_tenancy__copy(row->zone, sizeof row->zone, f->zone[0] != '\0' ? f->zone : "default");
    cp_tenancy__copy(row->endpoint, sizeof row->endpoint, f->endpoint);
    cp_tenancy__copy(row->forward, sizeof row->forward, f->forward);
    cp_tenancy__copy(row->software, sizeof row->software, f->software);
    row->capacity_bytes = f->capacity_bytes;
}

static ort_err
bad_token(ort_diag *diag)
{
    return ort_fail(diag, ORT_EAUTH, "the join token is unknown, used, revoked or expired");
}

static ort_err
count_node(void *ctx, const cp_node *row)
{
    (void)row;
    (*(size_t *)ctx)++;
    return ORT_OK;
}

/* The token's row, when this node may join with it; *again when it did before. */
static ort_err
check_token(cp_tenancy *tenancy, cp_tx *tx, const ort_token *token, const cp_node_facts *facts,
            cp_join_token *row, bool *again, ort_diag *diag)
{
    char id[ORT_TOKEN_ID_TEXT_BYTES];
    const int64_t now = cp_tx_now_ms(tx);
    ort_key_id_format(token->id, id);
    const ort_err err = cp_join_token_get(tx, id, row, NULL);
    if (err != ORT_OK) {
        return err == ORT_ENOTFOUND ? bad_token(diag) : ort_fail(diag, err, "read the join token");
    }
    *again =
        row->used_by.v != 0 && row->has_key && memcmp(&row->key, &facts->key, sizeof row->key) == 0;
    if (!ort_token_matches(token, tenancy->o.secrets->pepper, &row->hash) ||
        (!*again &&
         (row->used_at_ms != 0 || row->revoked_at_ms != 0 || row->expires_at_ms <= now))) {
        return bad_token(diag);
    }
    if (strcmp(row->region, facts->region) != 0) {
        return ort_fail(diag, ORT_EREGION, "the join token is for region %s, the node says %s",
                        row->region, facts->region);
    }
    return ORT_OK;
}

static ort_err
insert_node(cp_tx *tx, cp_join_token *token, const cp_node_facts *facts, cp_node *row,
            ort_diag *diag)
{
    size_t count = 0;
    cp_node other;
    ort_err err = cp_node_list(tx, false, (cp_page){0}, count_node, &count, diag);
    if (err == ORT_OK && count >= CP_NODES_MAX) {
        return ort_fail(diag, ORT_EQUOTA, "the hub has %zu nodes, %d at most", count, CP_NODES_MAX);
    }
    if (err == ORT_OK) {
        err = cp_node_get_by_name(tx, facts->name, &other, NULL);
        if (err == ORT_OK) {
            return ort_fail(diag, ORT_EEXISTS, "a node is called %s already", facts->name);
        }
        err = cp_node_get_by_key(tx, &facts->key, &other, NULL);
        if (err == ORT_OK) {
            return ort_fail(diag, ORT_EEXISTS, "a node with this key is known already");
        }
        err = err == ORT_ENOTFOUND ? ORT_OK : ort_fail(diag, err, "read the nodes");
    }
    if (err == ORT_OK) {
        *row = (cp_node){.id = {ort_id_random()},
                         .weight = WEIGHT_NORMAL,
                         .state = CP_NODE_JOINING,
                         .key = facts->key,
                         .joined_at_ms = cp_tx_now_ms(tx)};
        cp_tenancy__copy(row->name, sizeof row->name, facts->name);
        cp_tenancy__copy(row->region, sizeof row->region, facts->region);
        take_facts(row, facts);
        err = cp_node_put(tx, row, diag);
    }
    if (err == ORT_OK) {
        token->used_at_ms = cp_tx_now_ms(tx);
        token->used_by = row->id;
        token->has_key = true;
        token->key = facts->key;
        err = cp_join_token_put(tx, token, diag);
    }
    return err;
}

ort_err
cp_node_join(cp_tenancy *tenancy, const char *token_text, size_t token_len,
             const cp_node_facts *facts, cp_node *out, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    ort_token token;
    cp_join_token row;
    bool again = false;
    if (ort_token_parse(token_text, token_len, &token) != ORT_OK || token.kind != ORT_TOKEN_JOIN) {
        return bad_token(diag);
    }
    /* The author is named by the token: the node has no id until the change is made. */
    char id[ORT_TOKEN_ID_TEXT_BYTES], actor[CP_ACTOR_BYTES];
    ort_key_id_format(token.id, id);
    snprintf(actor, sizeof actor, "join:%s", id);
    const cp_author author = {.actor = actor};
    ort_err err = check_facts(facts, diag);
    if (err == ORT_OK) {
        err = cp_store_begin(tenancy->o.store, &author, &tx, diag);
    }
    if (err != ORT_OK) {
        ort_token_wipe(&token);
        return err;
    }
    err = check_token(tenancy, tx, &token, facts, &row, &again, diag);
    ort_token_wipe(&token);
    if (err == ORT_OK) {
        err = again ? cp_node_get(tx, row.used_by, out, diag)
                    : insert_node(tx, &row, facts, out, diag);
    }
    if (err == ORT_OK && out->state == CP_NODE_REMOVED) {
        err = ort_fail(diag, ORT_EDENIED, "the node was removed from the hub");
    }
    return cp_tenancy__end(tx, err, &(cp_change){.op = "node.join"}, version_out, diag);
}

/* Begins a change of one node that is not removed. */
static ort_err
begin_change(cp_tenancy *tenancy, const cp_author *author, ort_node_id id, cp_tx **tx, cp_node *row,
             ort_diag *diag)
{
    ort_err err = cp_store_begin(tenancy->o.store, author, tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_node_get(*tx, id, row, diag);
    if (err == ORT_OK && row->state == CP_NODE_REMOVED) {
        err = ort_fail(diag, ORT_ENOTFOUND, "the node was removed");
    }
    if (err != ORT_OK) {
        cp_tx_end(*tx);
        *tx = NULL;
    }
    return err;
}

static bool
facts_differ(const cp_node *a, const cp_node *b)
{
    return strcmp(a->zone, b->zone) != 0 || strcmp(a->endpoint, b->endpoint) != 0 ||
           strcmp(a->forward, b->forward) != 0 || strcmp(a->software, b->software) != 0 ||
           a->capacity_bytes != b->capacity_bytes;
}

ort_err
cp_node_hello(cp_tenancy *tenancy, ort_node_id id, const cp_node_facts *facts, cp_node *out,
              uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_node row;
    char actor[CP_ACTOR_BYTES], id_text[ORT_ID_TEXT_BYTES];
    ort_id_format(id.v, id_text);
    snprintf(actor, sizeof actor, "node:%s", id_text);
    const cp_author author = {.actor = actor};
    ort_err err = check_facts(facts, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = begin_change(tenancy, &author, id, &tx, &row, diag);
    if (err != ORT_OK) {
        return err == ORT_ENOTFOUND ? ORT_EDENIED : err; /* removed, or never one of ours */
    }
    if (memcmp(&row.key, &facts->key, sizeof row.key) != 0) {
        err = ort_fail(diag, ORT_EDENIED, "the node's key is not the one on record");
    } else if (strcmp(row.region, facts->region) != 0) {
        err = ort_fail(diag, ORT_EREGION, "the node joined in region %s and now says %s",
                       row.region, facts->region);
    } else if (strcmp(row.name, facts->name) != 0) {
        err = ort_fail(diag, ORT_EVALIDATE, "the node joined as %s and now says %s", row.name,
                       facts->name);
    }
    if (err == ORT_OK) {
        const cp_node before = row;
        take_facts(&row, facts);
        if (facts_differ(&before, &row)) {
            err = cp_node_put(tx, &row, diag);
        }
        *out = row;
    }
    return cp_tenancy__end(tx, err, &(cp_change){.op = "node.hello"}, version_out, diag);
}

ort_err
cp_node_ready(cp_tenancy *tenancy, ort_node_id id, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_node row;
    ort_err err = begin_change(tenancy, &cp_author_system, id, &tx, &row, diag);
    if (err != ORT_OK) {
        return err;
    }
    if (row.state == CP_NODE_JOINING) {
        row.state = CP_NODE_READY;
        err = cp_node_put(tx, &row, diag);
    }
    return cp_tenancy__end(tx, err, &(cp_change){.op = "node.ready"}, version_out, diag);
}

ort_err
cp_node_cordon(cp_tenancy *tenancy, const cp_author *author, ort_node_id id, bool cordoned,
               cp_node *out, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_node row;
    ort_err err = begin_change(tenancy, author, id, &tx, &row, diag);
    if (err != ORT_OK) {
        return err;
    }
    const cp_node_state to = cordoned ? CP_NODE_CORDONED : CP_NODE_READY;
    /* One that is joining is not cordoned, and is not ready before its first heartbeat. */
    if (row.state != to && !(row.state == CP_NODE_JOINING && !cordoned)) {
        row.state = to;
        err = cp_node_put(tx, &row, diag);
    }
    *out = row;
    const cp_change change = {.op = cordoned ? "node.cordon" : "node.uncordon"};
    return cp_tenancy__end(tx, err, &change, version_out, diag);
}

ort_err
cp_node_set_weight(cp_tenancy *tenancy, const cp_author *author, ort_node_id id, uint32_t weight,
                   cp_node *out, uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_node row;
    if (weight == 0 || weight > WEIGHT_MAX) {
        return ort_fail(diag, ORT_EVALIDATE, "weight must be 1 to %u, not %u", WEIGHT_MAX, weight);
    }
    ort_err err = begin_change(tenancy, author, id, &tx, &row, diag);
    if (err != ORT_OK) {
        return err;
    }
    if (row.weight != weight) {
        row.weight = weight;
        err = cp_node_put(tx, &row, diag);
    }
    *out = row;
    return cp_tenancy__end(tx, err, &(cp_change){.op = "node.weight"}, version_out, diag);
}

/* Tenants gathered by a walk, which must not write itself. */
typedef struct {
    cp_tenant *rows;
    size_t count, cap;
} tenant_list;

static ort_err
take_tenant(void *ctx, const cp_tenant *row)
{
    tenant_list *list = ctx;
    if (list->count == list->cap) {
        const size_t cap = list->cap == 0 ? 16 : list->cap * 2;
        cp_tenant *grown = realloc(list->rows, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        list->rows = grown;
        list->cap = cap;
    }
    list->rows[list->count++] = *row;
    return ORT_OK;
}

/* A tenant of a lost node: its data there is gone, and it begins anew, empty, elsewhere. */
static ort_err
move_empty(cp_tx *tx, const cp_node_set *nodes, cp_tenant *tenant, ort_node_id lost, ort_diag *diag)
{
    cp_home home;
    bool placed = true;
    uint64_t left = 0;
    ort_err err = cp_holder_gone(tx, tenant->id, lost, diag);
    if (err == ORT_OK && tenant->state == CP_TENANT_DELETING) {
        err = cp_holder_left(tx, tenant->id, &left, diag);
        if (err == ORT_OK && left == 0) {
            tenant->state = CP_TENANT_DELETED;
            tenant->regions = (cp_texts){0}; /* a tombstone pins nothing */
            tenant->deleted_at_ms = cp_tx_now_ms(tx);
            err = cp_tenant_put(tx, tenant, diag);
        }
        return err;
    }
    if (err == ORT_OK) {
        err = cp_home_get(tx, tenant->id, &home, diag);
    }
    if (err == ORT_OK) {
        err = cp_tenancy__place(tx, nodes, tenant, lost, home.epoch, &placed, diag);
    }
    if (err == ORT_OK && !placed) {
        err = ort_fail(diag, ORT_ECONFLICT, "no other node can take tenant %s", tenant->name);
    }
    return err;
}

static ort_err
empty_node(cp_tenancy *tenancy, cp_tx *tx, ort_node_id id, bool lose_data, ort_diag *diag)
{
    cp_node_set nodes = {0};
    tenant_list list = {0};
    const cp_tenant_query query = {.home = id};
    ort_err err = cp_tenant_list(tx, &query, take_tenant, &list, diag);
    if (err == ORT_OK && list.count > 0 && !lose_data) {
        err = ort_fail(diag, ORT_ECONFLICT, "%zu tenants are placed on the node, %s among them",
                       list.count, list.rows[0].name);
    }
    if (err == ORT_OK && list.count > 0) {
        err = cp_node_set__read(tenancy, tx, &nodes, diag);
    }
    for (size_t i = 0; err == ORT_OK && i < list.count; i++) {
        err = move_empty(tx, &nodes, &list.rows[i], id, diag);
    }
    cp_node_set__fini(&nodes);
    free(list.rows);
    return err;
}

ort_err
cp_node_remove(cp_tenancy *tenancy, const cp_author *author, ort_node_id id, bool lose_data,
               uint64_t *version_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_node row;
    ort_err err = begin_change(tenancy, author, id, &tx, &row, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = empty_node(tenancy, tx, id, lose_data, diag);
    if (err == ORT_OK) {
        row.state = CP_NODE_REMOVED;
        row.removed_at_ms = cp_tx_now_ms(tx);
        err = cp_node_put(tx, &row, diag);
    }
    const cp_change change = {.op = "node.remove", .denial = true};
    return cp_tenancy__end(tx, err, &change, version_out, diag);
}
