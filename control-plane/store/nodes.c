/* Rows of nodes, of what they last said, and of join tokens. */
#include "store/nodes.h"

#include <string.h>

#include "store/store_internal.h"

static const char *const state_names[CP_NODE_STATE_COUNT] = {
    [CP_NODE_JOINING] = "joining",
    [CP_NODE_READY] = "ready",
    [CP_NODE_CORDONED] = "cordoned",
    [CP_NODE_REMOVED] = "removed",
};

const char *
cp_node_state_name(cp_node_state state)
{
    return (unsigned)state < CP_NODE_STATE_COUNT ? state_names[state] : NULL;
}

#define COLUMNS                                                                           \
    "id, name, region, zone, endpoint, forward, software, capacity_bytes, weight, state," \
    " node_key, joined_at_ms, removed_at_ms, revision"
#define SET(column) column " = excluded." column

static void
read_row(cp__query *q, cp_node *out)
{
    out->id.v = cp__col_id(q, 0);
    cp__col_copy(q, 1, out->name, sizeof out->name);
    cp__col_copy(q, 2, out->region, sizeof out->region);
    cp__col_copy(q, 3, out->zone, sizeof out->zone);
    cp__col_copy(q, 4, out->endpoint, sizeof out->endpoint);
    cp__col_copy(q, 5, out->forward, sizeof out->forward);
    cp__col_copy(q, 6, out->software, sizeof out->software);
    out->capacity_bytes = cp__col_u64(q, 7);
    out->weight = (uint32_t)cp__col_u64(q, 8);
    const char *state = cp__col_text(q, 9);
    unsigned i = 0;
    while (i < CP_NODE_STATE_COUNT && strcmp(state_names[i], state) != 0) {
        i++;
    }
    if (i == CP_NODE_STATE_COUNT) {
        cp__q_damaged(q);
    } else {
        out->state = (cp_node_state)i;
    }
    cp__col_hash_hex(q, 10, out->key.b);
    out->joined_at_ms = cp__col_i64(q, 11);
    out->removed_at_ms = cp__col_i64(q, 12);
    out->revision = cp__col_u64(q, 13);
}

/* Ends a query of one row. */
static ort_err
one(cp__query *q, const char *key, cp_node *out, ort_diag *diag)
{
    cp_node row = {0};
    const bool found = cp__step(q);
    if (found) {
        read_row(q, &row);
    }
    const ort_err err = cp__get_end(q, found, "node", key, diag);
    if (err == ORT_OK) {
        *out = row;
    }
    return err;
}

ort_err
cp_node_get(cp_tx *tx, ort_node_id id, cp_node *out, ort_diag *diag)
{
    char text[ORT_ID_TEXT_BYTES];
    ort_id_format(id.v, text);
    cp__query q = cp__q(tx, "SELECT " COLUMNS " FROM nodes WHERE id = ?");
    cp__bind_text(&q, text);
    return one(&q, text, out, diag);
}

ort_err
cp_node_get_by_name(cp_tx *tx, const char *name, cp_node *out, ort_diag *diag)
{
    cp__query q = cp__q(tx, "SELECT " COLUMNS " FROM nodes WHERE name = ? AND state <> 'removed'");
    cp__bind_text(&q, name);
    return one(&q, name, out, diag);
}

ort_err
cp_node_get_by_key(cp_tx *tx, const ort_sign_public *key, cp_node *out, ort_diag *diag)
{
    char hex[CP__HEX32];
    ort_hex_format(key->b, sizeof key->b, hex);
    cp__query q = cp__q(tx, "SELECT " COLUMNS " FROM nodes WHERE node_key = ?");
    cp__bind_text(&q, hex);
    return one(&q, "of that key", out, diag);
}

ort_err
cp_node_put(cp_tx *tx, cp_node *row, ort_diag *diag)
{
    char id[ORT_ID_TEXT_BYTES], key[CP__HEX32];
    ort_id_format(row->id.v, id);
    ort_hex_format(row->key.b, sizeof row->key.b, key);
    ort_err err = cp__touch(tx, CP__NODES, id, diag);
    if (err != ORT_OK) {
        return err;
    }
    cp__query q = cp__q(
        tx,
        "INSERT INTO nodes (" COLUMNS ")"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
        " ON CONFLICT (id) DO UPDATE SET " SET("name") ", " SET("region") ", " SET("zone") ", " SET("endpoint") ", " SET("forward") ", " SET(
            "software") ", " SET("capacity_bytes") ", " SET("weight") ", " SET("state") ", " SET("n"
                                                                                                 "o"
                                                                                                 "d"
                                                                                                 "e"
                                                                                                 "_"
                                                                                                 "k"
                                                                                                 "e"
                                                                                                 "y") ", " SET("removed_at_ms") ","
                                                                                                                                " revision = nodes.revision + 1");
    cp__bind_text(&q, id);
    cp__bind_text(&q, row->name);
    cp__bind_text(&q, row->region);
    cp__bind_text(&q, row->zone);
    cp__bind_text(&q, row->endpoint);
    cp__bind_text(&q, row->forward);
    cp__bind_text(&q, row->software);
    cp__bind_u64(&q, row->capacity_bytes);
    cp__bind_i64(&q, row->weight);
    cp__bind_text(&q, cp_node_state_name(row->state));
    cp__bind_text(&q, key);
    cp__bind_i64(&q, row->joined_at_ms);
    cp__bind_i64(&q, row->removed_at_ms);
    err = cp__q_run(&q, diag);
    if (err == ORT_EEXISTS) {
        return ort_fail(diag, err, "there is a node of that name (%.64s) or key already",
                        row->name);
    }
    if (err == ORT_ECONFLICT) {
        return ort_fail(diag, ORT_ENOTFOUND, "no region %s", row->region);
    }
    if (err == ORT_OK) {
        err = cp__revision(tx, "SELECT revision FROM nodes WHERE id = ?", id, &row->revision, diag);
    }
    return err;
}

ort_err
cp_node_list(cp_tx *tx, bool with_removed, cp_page page, cp_node_visit visit, void *ctx,
             ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp__query q = cp__q(tx, "SELECT " COLUMNS " FROM nodes WHERE id > ? AND (? OR state <>"
                            " 'removed') ORDER BY id LIMIT ?");
    cp__bind_text(&q, cp__page_after(page));
    cp__bind_i64(&q, with_removed);
    cp__bind_i64(&q, cp__page_limit(page));
    while (err == ORT_OK && cp__step(&q)) {
        cp_node row = {0};
        read_row(&q, &row);
        if (q.rc == SQLITE_OK) {
            err = visit(ctx, &row);
        }
    }
    const ort_err end = cp__q_end(&q, diag);
    return end != ORT_OK ? end : err;
}

/* ---- what a node last said ---- */

ort_err
cp_node_seen_get(cp_tx *tx, ort_node_id node, cp_node_seen *out, ort_diag *diag)
{
    char id[ORT_ID_TEXT_BYTES];
    cp_node_seen row = {.node = node};
    ort_id_format(node.v, id);
    cp__query q = cp__q(tx, "SELECT incarnation, seen_at_ms, applied_generation, applied_version,"
                            " applied_hash, used_bytes FROM node_seen WHERE node = ?");
    cp__bind_text(&q, id);
    const bool found = cp__step(&q);
    if (found) {
        row.incarnation = cp__col_id(&q, 0);
        row.seen_at_ms = cp__col_i64(&q, 1);
        row.applied_generation = cp__col_u64(&q, 2);
        row.applied_version = cp__col_u64(&q, 3);
        cp__col_blob(&q, 4, row.applied_hash.b, sizeof row.applied_hash.b);
        row.used_bytes = cp__col_u64(&q, 5);
    }
    const ort_err err = cp__get_end(&q, found, "word of node", id, diag);
    if (err == ORT_OK) {
        *out = row;
    }
    return err;
}

ort_err
cp_node_seen_put(cp_tx *tx, const cp_node_seen *row, ort_diag *diag)
{
    if (row->incarnation == 0) {
        return ort_fail(diag, ORT_EINVAL, "an incarnation is not 0");
    }
    /* Incarnations are 16 hex digits here, so the texts compare as the numbers do. */
    cp__query q = cp__q(
        tx, "INSERT INTO node_seen (node, incarnation, seen_at_ms, applied_generation,"
            " applied_version, applied_hash, used_bytes) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (node) DO UPDATE SET incarnation = excluded.incarnation,"
            " seen_at_ms = excluded.seen_at_ms, applied_generation = excluded.applied_generation,"
            " applied_version = excluded.applied_version, applied_hash = excluded.applied_hash,"
            " used_bytes = excluded.used_bytes"
            " WHERE excluded.incarnation >= node_seen.incarnation");
    cp__bind_id(&q, row->node.v);
    cp__bind_id(&q, row->incarnation);
    cp__bind_i64(&q, row->seen_at_ms);
    cp__bind_u64(&q, row->applied_generation);
    cp__bind_u64(&q, row->applied_version);
    cp__bind_blob(&q, row->applied_hash.b, sizeof row->applied_hash.b);
    cp__bind_u64(&q, row->used_bytes);
    const ort_err err = cp__q_run(&q, diag);
    if (err == ORT_ECONFLICT) {
        return ort_fail(diag, ORT_ENOTFOUND, "no such node");
    }
    if (err == ORT_OK && sqlite3_changes(tx->conn->db) == 0) {
        return ort_fail(diag, ORT_ESTALE,
                        "this incarnation of the node was replaced by a later one");
    }
    return err;
}

/* ---- join tokens ---- */

#define TOKEN_COLUMNS                                                                        \
    "id, hash, region, created_by, created_at_ms, expires_at_ms, revoked_at_ms, used_at_ms," \
    " used_by, node_key, revision"

static void
read_token(cp__query *q, cp_join_token *out)
{
    cp__col_copy(q, 0, out->id, sizeof out->id);
    cp__col_hash_hex(q, 1, out->hash.b);
    cp__col_copy(q, 2, out->region, sizeof out->region);
    cp__col_copy(q, 3, out->created_by, sizeof out->created_by);
    out->created_at_ms = cp__col_i64(q, 4);
    out->expires_at_ms = cp__col_i64(q, 5);
    out->revoked_at_ms = cp__col_i64(q, 6);
    out->used_at_ms = cp__col_i64(q, 7);
    out->used_by.v = cp__col_id(q, 8);
    out->has_key = !cp__col_is_null(q, 9);
    if (out->has_key) {
        cp__col_hash_hex(q, 9, out->key.b);
    }
    out->revision = cp__col_u64(q, 10);
}

ort_err
cp_join_token_get(cp_tx *tx, const char *id, cp_join_token *out, ort_diag *diag)
{
    cp_join_token row = {0};
    cp__query q = cp__q(tx, "SELECT " TOKEN_COLUMNS " FROM join_tokens WHERE id = ?");
    cp__bind_text(&q, id);
    const bool found = cp__step(&q);
    if (found) {
        read_token(&q, &row);
    }
    const ort_err err = cp__get_end(&q, found, "join token", id, diag);
    if (err == ORT_OK) {
        *out = row;
    }
    return err;
}

ort_err
cp_join_token_put(cp_tx *tx, cp_join_token *row, ort_diag *diag)
{
    char hash[CP__HEX32], key[CP__HEX32];
    ort_hash_format(&row->hash, hash);
    ort_hex_format(row->key.b, sizeof row->key.b, key);
    ort_err err = cp__touch(tx, CP__JOIN_TOKENS, row->id, diag);
    if (err != ORT_OK) {
        return err;
    }
    cp__query q = cp__q(
        tx,
        "INSERT INTO join_tokens (" TOKEN_COLUMNS ")"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
        " ON CONFLICT (id) DO UPDATE SET " SET("expires_at_ms") ", " SET("revoked_at_ms") ", " SET(
            "used_at_ms") ", " SET("used_by") ", " SET("node_key") ", revision = "
                                                                   "join_tokens.revision + 1");
    cp__bind_text(&q, row->id);
    cp__bind_text(&q, hash);
    cp__bind_text(&q, row->region);
    cp__bind_text(&q, row->created_by);
    cp__bind_i64(&q, row->created_at_ms);
    cp__bind_i64(&q, row->expires_at_ms);
    cp__bind_i64(&q, row->revoked_at_ms);
    cp__bind_i64(&q, row->used_at_ms);
    cp__bind_id(&q, row->used_by.v);
    if (row->has_key) {
        cp__bind_text(&q, key);
    } else {
        cp__bind_null(&q);
    }
    err = cp__q_run(&q, diag);
    if (err == ORT_ECONFLICT) {
        return ort_fail(diag, ORT_ENOTFOUND, "no region %s", row->region);
    }
    if (err == ORT_OK) {
        err = cp__revision(tx, "SELECT revision FROM join_tokens WHERE id = ?", row->id,
                           &row->revision, diag);
    }
    return err;
}

ort_err
cp_join_token_expire(cp_tx *tx, int64_t before_ms, uint64_t *count_out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    *count_out = 0;
    cp__query q = cp__q(tx, "SELECT id FROM join_tokens WHERE expires_at_ms < ? LIMIT 10000");
    cp__bind_i64(&q, before_ms);
    while (err == ORT_OK && cp__step(&q)) {
        err = cp__touch(tx, CP__JOIN_TOKENS, cp__col_text(&q, 0), diag);
        ++*count_out;
    }
    const ort_err end = cp__q_end(&q, err == ORT_OK ? diag : NULL);
    if (err != ORT_OK || end != ORT_OK) {
        return err != ORT_OK ? err : end;
    }
    q = cp__q(tx, "DELETE FROM join_tokens WHERE id IN (SELECT id FROM join_tokens"
                  " WHERE expires_at_ms < ? LIMIT 10000)");
    cp__bind_i64(&q, before_ms);
    return cp__q_run(&q, diag);
}

ort_err
cp_join_token_list(cp_tx *tx, cp_page page, cp_join_token_visit visit, void *ctx, ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp__query q = cp__q(tx, "SELECT " TOKEN_COLUMNS " FROM join_tokens WHERE id > ? ORDER BY id"
                            " LIMIT ?");
    cp__bind_text(&q, cp__page_after(page));
    cp__bind_i64(&q, cp__page_limit(page));
    while (err == ORT_OK && cp__step(&q)) {
        cp_join_token row = {0};
        read_token(&q, &row);
        if (q.rc == SQLITE_OK) {
            err = visit(ctx, &row);
        }
    }
    const ort_err end = cp__q_end(&q, diag);
    return end != ORT_OK ? end : err;
}
