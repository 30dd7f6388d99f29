/* control-plane/routing/compile.c: see the header. */
#include "routing/compile.h"

#include "base/json_write.h"
#include "store/keys.h"
#include "store/placements.h"
#include "store/tenants.h"

static void
write_limit(ort_jw *w, const char *name, uint64_t v)
{
    ort_jw_key(w, name);
    if (v == CP_UNLIMITED) {
        ort_jw_null(w);
    } else {
        ort_jw_u64(w, v);
    }
}

static void
write_texts(ort_jw *w, const char *name, const cp_texts *list)
{
    ort_jw_key(w, name);
    ort_jw_array(w);
    for (const char *t = cp_texts_first(list); t != NULL; t = cp_texts_next(list, t)) {
        ort_jw_str(w, t);
    }
    ort_jw_array_end(w);
}

typedef struct {
    ort_jw *w;
    uint64_t per_key; /* the plan's bound for each key */
} key_writer;

static ort_err
write_key(void *ctx, const cp_key *key)
{
    key_writer *k = ctx;
    char hex[ORT_HASH_TEXT_BYTES];
    uint64_t rate = key->max_requests_per_minute;

    if (key->revoked_at_ms != 0) {
        return ORT_OK; /* denied by absence */
    }
    rate = rate < k->per_key ? rate : k->per_key;
    ort_hash_format(&key->hash, hex);
    ort_jw_key(k->w, key->id);
    ort_jw_object(k->w);
    write_texts(k->w, "collections", &key->collections);
    ort_jw_key(k->w, "expires_at_ms");
    if (key->expires_at_ms == 0) {
        ort_jw_null(k->w);
    } else {
        ort_jw_i64(k->w, key->expires_at_ms);
    }
    ort_jw_key(k->w, "hash");
    ort_jw_str(k->w, hex);
    write_limit(k->w, "max_requests_per_minute", rate);
    ort_jw_key(k->w, "scopes");
    ort_jw_array(k->w);
    for (unsigned i = 0; i < CP_SCOPE_COUNT; i++) {
        if ((key->scopes & 1u << i) != 0) {
            ort_jw_str(k->w, cp_scope_name(i));
        }
    }
    ort_jw_array_end(k->w);
    ort_jw_object_end(k->w);
    return ORT_OK;
}

static ort_err
write_keys(cp_tx *tx, const cp_tenant *tenant, const cp_limits *limits, ort_jw *w, ort_diag *diag)
{
    key_writer k = {.w = w, .per_key = limits->v[CP_LIMIT_REQUESTS_PER_MINUTE_PER_KEY]};
    ort_err err = ORT_OK;

    ort_jw_key(w, "keys");
    ort_jw_object(w);
    /* Nobody is let in while it is being deleted, whatever the gate would say. */
    if (tenant->state != CP_TENANT_DELETING) {
        err = cp_key_list(tx, tenant->id, 0, (cp_page){0}, write_key, &k, diag);
    }
    ort_jw_object_end(w);
    return err;
}

static ort_err
write_entry(cp_tx *tx, const cp_tenant *tenant, const cp_home *home, ort_buf *out, ort_diag *diag)
{
    ort_jw w = {.buf = out};
    cp_limits limits;
    ort_err err = cp_tenant_limits(tx, tenant->id, &limits, diag);

    if (err != ORT_OK) {
        return err;
    }
    ort_jw_object(&w);
    ort_jw_key(&w, "epoch");
    ort_jw_u64(&w, home->epoch);
    err = write_keys(tx, tenant, &limits, &w, diag);
    ort_jw_key(&w, "limits");
    ort_jw_object(&w);
    write_limit(&w, "max_collections", limits.v[CP_LIMIT_COLLECTIONS]);
    write_limit(&w, "max_requests_per_minute", limits.v[CP_LIMIT_REQUESTS_PER_MINUTE]);
    write_limit(&w, "max_storage_bytes", limits.v[CP_LIMIT_STORAGE_BYTES]);
    write_limit(&w, "max_vectors", limits.v[CP_LIMIT_VECTORS]);
    write_limit(&w, "max_vectors_per_collection", limits.v[CP_LIMIT_VECTORS_PER_COLLECTION]);
    ort_jw_object_end(&w);
    ort_jw_key(&w, "max_stale_s");
    ort_jw_u64(&w, tenant->max_stale_s);
    ort_jw_key(&w, "name");
    ort_jw_str(&w, tenant->name);
    write_texts(&w, "regions", &tenant->regions);
    ort_jw_key(&w, "state");
    ort_jw_str(&w, cp_tenant_state_name(tenant->state));
    ort_jw_object_end(&w);
    return err != ORT_OK ? err : ort_buf_check(out);
}

static ort_err
write_directory(const cp_tenant *tenant, const cp_home *home, ort_buf *out)
{
    ort_jw w = {.buf = out};
    char id[ORT_ID_TEXT_BYTES];

    ort_id_format(home->home.v, id);
    ort_jw_object(&w);
    ort_jw_key(&w, "home");
    ort_jw_str(&w, id);
    write_texts(&w, "regions", &tenant->regions);
    ort_jw_object_end(&w);
    return ort_buf_check(out);
}

ort_err
cp_compile_tenant(cp_tx *tx, ort_tenant_id id, cp_compiled *out, ort_diag *diag)
{
    cp_tenant tenant;
    cp_home home = {0};

    out->id = id;
    out->home = (ort_node_id){0};
    ort_err err = cp_tenant_get(tx, id, &tenant, diag);
    if (err == ORT_ENOTFOUND || (err == ORT_OK && tenant.state == CP_TENANT_DELETED)) {
        return ORT_OK;
    }
    if (err == ORT_OK) {
        err = cp_home_get(tx, id, &home, diag);
        if (err == ORT_ENOTFOUND) {
            return ORT_OK;
        }
    }
    if (err == ORT_OK) {
        err = write_entry(tx, &tenant, &home, &out->entry, diag);
    }
    if (err == ORT_OK) {
        err = write_directory(&tenant, &home, &out->directory);
    }
    if (err == ORT_OK) {
        out->home = home.home;
    }
    return err;
}

void
cp_compiled_fini(cp_compiled *compiled)
{
    ort_buf_fini(&compiled->entry);
    ort_buf_fini(&compiled->directory);
}

void
cp_compile_node(const cp_node *node, ort_buf *out)
{
    ort_jw w = {.buf = out};

    if (node->state == CP_NODE_REMOVED) {
        return;
    }
    ort_jw_object(&w);
    ort_jw_key(&w, "endpoint");
    ort_jw_str(&w, node->endpoint);
    ort_jw_key(&w, "forward");
    ort_jw_str(&w, node->forward);
    ort_jw_key(&w, "region");
    ort_jw_str(&w, node->region);
    ort_jw_key(&w, "zone");
    ort_jw_str(&w, node->zone);
    ort_jw_object_end(&w);
}
