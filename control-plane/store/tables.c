/* Each table of desired state as the op log sees it: a name, and its rows as JSON.
 *
 * The images are the format of the op log. Whoever adds a column by a migration adds it here at the
 * end of the object and writes one change (`hub.migrate`) that touches every row, so that
 * state = fold(op_log) goes on to hold. A keyed hash is called "hash" in every image: readers of
 * the audit get it hidden by that name. */
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

/* In the tables -1 is "no limit"; people read null. */
#define NO_LIMIT(column) " '" column "', nullif(" column ", -1),"
#define PLAN_LIMITS                        \
    NO_LIMIT("max_collections")            \
    NO_LIMIT("max_vectors_per_collection") \
    NO_LIMIT("max_vectors")                \
    NO_LIMIT("max_storage_bytes")          \
    NO_LIMIT("max_requests_per_minute")    \
    NO_LIMIT("max_requests_per_minute_per_key")

/* A quota says three things: as the plan says (null), no limit (-1), a number. */
#define OVERRIDE(column) " '" column "', " column ","
#define QUOTA_LIMITS                       \
    OVERRIDE("max_collections")            \
    OVERRIDE("max_vectors_per_collection") \
    OVERRIDE("max_vectors")                \
    OVERRIDE("max_storage_bytes")          \
    OVERRIDE("max_requests_per_minute")    \
    OVERRIDE("max_requests_per_minute_per_key")

const cp__table cp__tables[CP__TABLES] = {
    [CP__HUB] = {"hub",
                 "SELECT json_object('hub_id', hub_id, 'generation', generation,"
                 " 'created_at_ms', created_at_ms, 'bootstrapped', bootstrapped,"
                 " 'secrets_print', secrets_print) FROM hub WHERE one = ?",
                 "SELECT CAST(one AS TEXT) FROM hub"},
    [CP__REGIONS] = {"regions",
                     "SELECT json_object('name', name, 'display', display,"
                     " 'created_at_ms', created_at_ms, 'revision', revision)"
                     " FROM regions WHERE name = ?",
                     "SELECT name FROM regions"},
    [CP__NODES] = {"nodes",
                   "SELECT json_object('id', id, 'name', name, 'region', region, 'zone', zone,"
                   " 'endpoint', endpoint, 'forward', forward, 'software', software,"
                   " 'capacity_bytes', capacity_bytes, 'weight', weight, 'state', state,"
                   " 'node_key', node_key, 'joined_at_ms', joined_at_ms,"
                   " 'removed_at_ms', removed_at_ms, 'revision', revision)"
                   " FROM nodes WHERE id = ?",
                   "SELECT id FROM nodes"},
    [CP__JOIN_TOKENS] = {"join_tokens",
                         "SELECT json_object('id', id, 'hash', hash, 'region', region,"
                         " 'created_by', created_by, 'created_at_ms', created_at_ms,"
                         " 'expires_at_ms', expires_at_ms, 'revoked_at_ms', revoked_at_ms,"
                         " 'used_at_ms', used_at_ms, 'used_by', used_by, 'node_key', node_key,"
                         " 'revision', revision) FROM join_tokens WHERE id = ?",
                         "SELECT id FROM join_tokens"},
    [CP__PLANS] = {"plans",
                   "SELECT json_object('name', name, 'display', display," PLAN_LIMITS
                   " 'created_at_ms', created_at_ms, 'updated_at_ms', updated_at_ms,"
                   " 'revision', revision) FROM plans WHERE name = ?",
                   "SELECT name FROM plans"},
    [CP__TENANTS] = {"tenants",
                     "SELECT json_object('id', id, 'name', name, 'display', display,"
                     " 'plan', plan, 'state', state, 'max_stale_s', max_stale_s,"
                     " 'regions', (SELECT json_group_array(region) FROM (SELECT region"
                     " FROM tenant_regions WHERE tenant = tenants.id ORDER BY region)),"
                     " 'created_at_ms', created_at_ms, 'updated_at_ms', updated_at_ms,"
                     " 'deleted_at_ms', deleted_at_ms, 'revision', revision)"
                     " FROM tenants WHERE id = ?",
                     "SELECT id FROM tenants"},
    [CP__QUOTAS] = {"quotas",
                    "SELECT json_object('tenant', tenant," QUOTA_LIMITS
                    " 'updated_at_ms', updated_at_ms, 'revision', revision)"
                    " FROM quotas WHERE tenant = ?",
                    "SELECT tenant FROM quotas"},
    [CP__KEYS] = {"keys",
                  "SELECT json_object('id', id, 'tenant', tenant, 'name', name,"
                  " 'test_env', test_env, 'hash', hash, 'scopes', scopes,"
                  " 'collections', json(collections),"
                  " 'max_requests_per_minute', nullif(max_requests_per_minute, -1),"
                  " 'created_by', created_by, 'created_at_ms', created_at_ms,"
                  " 'expires_at_ms', expires_at_ms, 'revoked_at_ms', revoked_at_ms,"
                  " 'rotated_to', rotated_to, 'revision', revision) FROM keys WHERE id = ?",
                  "SELECT id FROM keys"},
    [CP__PLACEMENTS] = {"placements",
                        "SELECT json_object('tenant', tenant, 'home', home, 'epoch', epoch,"
                        " 'placed_at_ms', placed_at_ms) FROM placements WHERE tenant = ?",
                        "SELECT tenant FROM placements"},
    [CP__HOLDERS] = {"holders",
                     "SELECT json_object('tenant', tenant, 'node', node, 'since_ms', since_ms,"
                     " 'gone_at_ms', gone_at_ms) FROM holders WHERE tenant || ':' || node = ?1"
                     " AND tenant = substr(?1, 1, 16)",
                     "SELECT tenant || ':' || node FROM holders"},
    [CP__ADMIN_TOKENS] = {"admin_tokens",
                          "SELECT json_object('id', id, 'name', name, 'role', role,"
                          " 'tenant', tenant, 'hash', hash, 'created_by', created_by,"
                          " 'created_at_ms', created_at_ms, 'expires_at_ms', expires_at_ms,"
                          " 'revoked_at_ms', revoked_at_ms, 'revision', revision)"
                          " FROM admin_tokens WHERE id = ?",
                          "SELECT id FROM admin_tokens"},
    [CP__GRANTS] = {"grants",
                    "SELECT json_object('tenant', tenant, 'op', op, 'source', source,"
                    " 'node', node, 'issued_to', issued_to, 'issued_at_ms', issued_at_ms,"
                    " 'expires_at_ms', expires_at_ms, 'revision', revision)"
                    " FROM grants WHERE tenant = substr(?1, 1, 16) AND op = substr(?1, 18)",
                    "SELECT tenant || ':' || op FROM grants"},
};

ort_err
cp__image(cp_tx *tx, unsigned table, const char *key, char **out, ort_diag *diag)
{
    char *image = NULL;
    cp__query q = cp__q(tx, cp__tables[table].image);
    cp__bind_text(&q, key);
    const char *text = cp__step(&q) ? cp__col_text(&q, 0) : "null";
    image = strdup(text);
    const ort_err err = cp__q_end(&q, diag);
    if (err != ORT_OK) {
        free(image);
        return err;
    }
    if (image == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "read a row");
    }
    *out = image;
    return ORT_OK;
}
