/* The checks of one request, in order; what each refusal says stands beside it. */
#include "gate/gate.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "crypto/token.h"
#include "gate/gate_internal.h"

static const ort_log log_gate = {"gate"};

/* Qdrant's own words: clients show them, and some look for them. */
#define TEXT_NO_KEY "Must provide an API key or an Authorization bearer token"
#define TEXT_BAD_KEY "Invalid API key or JWT"

ort_err
dp_gate_new(dp_gate **out, const dp_gate_config *config)
{
    *out = NULL;
    dp_gate *gate = calloc(1, sizeof *gate);
    if (gate == NULL) {
        return ORT_ENOMEM;
    }
    gate->config = *config;
    ort_err err = dp_admission_new(&gate->admission, config->admission);
    if (err == ORT_OK) {
        err = ort_map_new(&gate->tenants);
    }
    if (err != ORT_OK) {
        dp_admission_free(gate->admission);
        free(gate);
        return err;
    }
    pthread_rwlock_init(&gate->lock, NULL);
    *out = gate;
    return ORT_OK;
}

static void
tenant_unref(void *state)
{
    dp_gate__tenant_unref(state);
}

void
dp_gate_free(dp_gate *gate)
{
    if (gate == NULL) {
        return;
    }
    ort_map_free(gate->tenants, tenant_unref);
    dp_admission_free(gate->admission);
    pthread_rwlock_destroy(&gate->lock);
    free(gate);
}

static void refuse(dp_gate *gate, dp_gate_pass *pass, ort_err err, const char *reason,
                   const char *fmt, ...) ORT_PRINTF(5, 6);

static void
refuse(dp_gate *gate, dp_gate_pass *pass, ort_err err, const char *reason, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(pass->refusal.text, sizeof pass->refusal.text, fmt, args);
    va_end(args);
    pass->verdict = DP_GATE_REFUSED;
    pass->refusal.err = err;
    pass->refusal.reason = reason;
    pass->refusal.plain = err == ORT_EAUTH || err == ORT_EDENIED;
    if (err == ORT_EBUSY) {
        pass->refusal.retry_after_s = 1;
    }
    atomic_fetch_add_explicit(&gate->refused_total[err], 1, memory_order_relaxed);
}

/* The key in the request: the field api-key, else a bearer. NULL: there is none. */
static const char *
key_text(const dp_gate_ask *ask)
{
    if (ask->api_key != NULL && ask->api_key[0] != '\0') {
        return ask->api_key;
    }
    const char *text = ask->authorization;
    if (text == NULL || strncasecmp(text, "Bearer ", 7) != 0) {
        return NULL;
    }
    text += 7;
    while (*text == ' ') {
        text++;
    }
    return *text != '\0' ? text : NULL;
}

/* The tenant is not homed here: it goes to its home, unless its data may not pass this region. */
static void
elsewhere(dp_gate *gate, const dp_gate_ask *ask, dp_gate_pass *pass)
{
    const dp_home *home = dp_table_home(pass->table, pass->key_id.tenant);
    const dp_node *node = home != NULL ? dp_table_node(pass->table, home->home) : NULL;
    const dp_node *self = dp_table_node(pass->table, dp_table_self(pass->table));

    if (home == NULL) {
        refuse(gate, pass, ORT_EAUTH, "key", TEXT_BAD_KEY);
        return;
    }
    if (node == NULL || home->home.v == dp_table_self(pass->table).v) {
        refuse(gate, pass, ORT_EBUSY, "no-home", "Service unavailable: the tenant has no node now");
        return;
    }
    if (self == NULL || !dp_regions_allow(home->regions, home->region_count, self->region)) {
        pass->refusal.endpoint = node->endpoint;
        refuse(gate, pass, ORT_EREGION, "region",
               "Misdirected request: this tenant is pinned to other regions than %s; its endpoint "
               "is %s",
               self != NULL ? self->region : "this node's", node->endpoint);
        return;
    }
    if (ask->forwarded) {
        /* Two tables disagree for a moment. Sending it on could go round for ever. */
        refuse(gate, pass, ORT_EBUSY, "moving",
               "Service unavailable: the tenant is moving between nodes; try again");
        return;
    }
    pass->verdict = DP_GATE_FORWARD;
    pass->home = node;
}

/* Finds whose key it is and whether it is right. false: refused, or for another node. */
static bool
identify(dp_gate *gate, const dp_gate_ask *ask, dp_gate_pass *pass)
{
    const char *text = key_text(ask);
    ort_token token;

    if (text == NULL) {
        refuse(gate, pass, ORT_EAUTH, "no-key", TEXT_NO_KEY);
        return false;
    }
    if (ort_token_parse(text, strlen(text), &token) != ORT_OK ||
        (token.kind != ORT_TOKEN_LIVE && token.kind != ORT_TOKEN_TEST)) {
        ort_token_wipe(&token);
        refuse(gate, pass, ORT_EAUTH, "key", TEXT_BAD_KEY);
        return false;
    }
    pass->key_id = token.id;
    pass->entry = dp_table_tenant(pass->table, token.id.tenant);
    pass->key = pass->entry != NULL ? dp_tenant_key(pass->entry, token.id.serial) : NULL;
    /* Asked whether or not there is such a key, so that the time taken does not tell. */
    const bool right = dp_routes_key_matches(gate->config.routes, pass->key, &token);
    ort_token_wipe(&token);
    if (pass->entry == NULL) {
        elsewhere(gate, ask, pass);
        return false;
    }
    if (!right || pass->key == NULL || ask->wall_ms >= pass->key->expires_at_ms) {
        refuse(gate, pass, ORT_EAUTH, "key", TEXT_BAD_KEY);
        return false;
    }
    return true;
}

static bool
allowed(dp_gate *gate, const dp_gate_ask *ask, dp_gate_pass *pass)
{
    const dp_tenant_entry *entry = pass->entry;

    if (entry->state != DP_TENANT_ACTIVE) {
        refuse(gate, pass, ORT_EDENIED, "tenant", "Forbidden: tenant is %s",
               entry->state == DP_TENANT_SUSPENDED ? "suspended" : "being deleted");
        return false;
    }
    if (entry->max_stale_s != 0 && gate->config.table_age_ms != NULL) {
        const int64_t age_ms = gate->config.table_age_ms(gate->config.arg);
        if (age_ms >= 0 && (uint64_t)age_ms / 1000 > entry->max_stale_s) {
            refuse(
                gate, pass, ORT_EBUSY, "stale",
                "Service unavailable: this node has not heard from the control plane for %" PRId64
                " s, and the tenant allows %" PRIu64 " s",
                age_ms / 1000, entry->max_stale_s);
            return false;
        }
    }
    if (ask->scopes_any != 0 && (pass->key->scopes & ask->scopes_any) == 0) {
        refuse(gate, pass, ORT_EDENIED, "scope", "Forbidden: this API key lacks the scope %s",
               (ask->scopes_any & DP_SCOPE_DATA_READ) != 0    ? "data:read"
               : (ask->scopes_any & DP_SCOPE_DATA_WRITE) != 0 ? "data:write"
                                                              : "collections:manage");
        return false;
    }
    if (ask->collection != NULL &&
        !dp_key_covers(pass->key, ask->collection, strlen(ask->collection))) {
        refuse(gate, pass, ORT_EDENIED, "collection",
               "Forbidden: this API key is limited to other collections");
        return false;
    }
    return true;
}

static void
note_rate(dp_gate_pass *pass, const char *policy, const dp_gcra_rate *rate,
          const dp_gcra_verdict *verdict)
{
    if (rate->per_minute == 0 || (pass->has_rate && pass->rate.left <= verdict->left)) {
        return;
    }
    pass->has_rate = true;
    pass->rate.policy = policy;
    pass->rate.per_minute = rate->per_minute;
    pass->rate.left = verdict->left;
    pass->rate.reset_s = (verdict->reset_ns + 999999999u) / 1000000000u;
}

/* A limit of 0 requests a minute admits none; GCRA's 0 means no limit, so it is told apart here. */
static bool
rate_of(uint64_t table_limit, dp_gcra_rate *out)
{
    *out = dp_gcra_rate_per_minute(table_limit == UINT64_MAX ? 0 : table_limit);
    return table_limit != 0;
}

static void
refuse_rate(dp_gate *gate, dp_gate_pass *pass, const char *whose, uint64_t per_minute,
            uint64_t retry_ns)
{
    const unsigned s = dp_gcra_retry_after_s(retry_ns);
    pass->refusal.retry_after_s = s;
    refuse(gate, pass, ORT_ERATE, "rate",
           "Rate limiting exceeded: the %s's limit of %" PRIu64
           " requests per minute is used up; retry after %u s",
           whose, per_minute, s);
}

static bool
within_rates(dp_gate *gate, const dp_gate_ask *ask, dp_gate_pass *pass)
{
    dp_gcra_rate key_rate, tenant_rate;
    dp_gcra_verdict verdict = {0};
    const uint64_t key_limit = pass->key->max_requests_per_minute;
    const uint64_t tenant_limit = pass->entry->limits.max_requests_per_minute;

    if (!rate_of(key_limit, &key_rate) || !rate_of(tenant_limit, &tenant_rate)) {
        refuse_rate(gate, pass, key_limit == 0 ? "key" : "tenant", 0, UINT64_MAX);
        return false;
    }
    if (!dp_gate__key_ask(pass->state, pass->key_id.serial, &key_rate, ask->mono_ns, ask->wall_ms,
                          &verdict)) {
        refuse(gate, pass, ORT_ENOMEM, "memory", "Service internal error: out of memory");
        return false;
    }
    note_rate(pass, "key", &key_rate, &verdict);
    if (!verdict.admitted) {
        refuse_rate(gate, pass, "key", key_limit, verdict.retry_ns);
        return false;
    }
    verdict = dp_gcra_ask(&pass->state->gcra, &tenant_rate, ask->mono_ns);
    note_rate(pass, "tenant", &tenant_rate, &verdict);
    if (!verdict.admitted) {
        dp_gate__key_refund(pass->state, pass->key_id.serial, &key_rate);
        refuse_rate(gate, pass, "tenant", tenant_limit, verdict.retry_ns);
        return false;
    }
    return true;
}

/* Adds n to a counter that may not pass max; one request alone may, or it could never be served. */
static bool
take_bytes(_Atomic uint64_t *counter, uint64_t n, uint64_t max)
{
    const uint64_t before = atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
    if (before != 0 && before + n > max) {
        atomic_fetch_sub_explicit(counter, n, memory_order_relaxed);
        return false;
    }
    return true;
}

static bool
take_body(dp_gate *gate, const dp_gate_ask *ask, dp_gate_pass *pass)
{
    const uint64_t n = ask->body_bytes >= 0 ? (uint64_t)ask->body_bytes : ask->body_bytes_likely;
    if (n == 0) {
        return true;
    }
    if (!take_bytes(&pass->state->body_bytes, n, gate->config.body_bytes_tenant_max)) {
        refuse(gate, pass, ORT_EBUSY, "bytes",
               "Service unavailable: this tenant has %" PRIu64
               " bytes of requests in work already; send fewer at once",
               gate->config.body_bytes_tenant_max);
        return false;
    }
    if (!take_bytes(&gate->body_bytes, n, gate->config.body_bytes_max)) {
        atomic_fetch_sub_explicit(&pass->state->body_bytes, n, memory_order_relaxed);
        refuse(gate, pass, ORT_EBUSY, "bytes", "Service unavailable: the node is overloaded");
        return false;
    }
    pass->body_bytes = n;
    return true;
}

dp_tenant_limits
dp_gate_limits(const dp_limits *limits)
{
    dp_tenant_limits out = {0};
    if (limits->max_collections != UINT64_MAX) {
        out.collections_max =
            limits->max_collections < UINT32_MAX ? (uint32_t)limits->max_collections : UINT32_MAX;
    }
    if (limits->max_vectors_per_collection != UINT64_MAX) {
        out.points_per_collection_max = limits->max_vectors_per_collection;
    }
    if (limits->max_vectors != UINT64_MAX) {
        out.points_max = limits->max_vectors;
    }
    if (limits->max_storage_bytes != UINT64_MAX) {
        out.bytes_max = limits->max_storage_bytes;
    }
    return out;
}

/* Opens the tenant and looks whether a write has any chance. */
static void
has_room(dp_gate *gate, const dp_gate_ask *ask, dp_gate_pass *pass)
{
    ort_diag diag = {{0}};
    const dp_limits *limits = &pass->entry->limits;
    ort_err err = dp_tenants_get(gate->config.tenants, pass->entry->id, &pass->tenant, &diag);

    if (err != ORT_OK) {
        /* Damage to one tenant is that tenant's trouble: 503, and the details go to the log. */
        ORT_LOG_WARN(&log_gate, "tenant.unavailable", "tenant=%016" PRIx64 " err=%s detail=%s",
                     pass->entry->id.v, ort_err_code(err), diag.text);
        refuse(gate, pass, ORT_EBUSY, "storage",
               "Service unavailable: the tenant's data cannot be opened on this node");
        return;
    }
    if (ask->stores) {
        const dp_tenant_limits now = dp_gate_limits(limits);
        dp_tenant_set_limits(pass->tenant, &now);
    }
    if (!ask->grows) {
        return;
    }
    if (atomic_load_explicit(&gate->disk_low, memory_order_relaxed)) {
        refuse(gate, pass, ORT_ENOSPC, "disk",
               "Insufficient storage: the node's disk is nearly full; deletes and reads go on");
        return;
    }
    if (limits->max_vectors == 0 || limits->max_vectors_per_collection == 0 ||
        limits->max_storage_bytes == 0) {
        refuse(gate, pass, ORT_EQUOTA, "quota",
               "Insufficient storage: the tenant's quota is 0: nothing can be stored");
        return;
    }
    err = dp_tenant_check_room(pass->tenant, &diag);
    if (err != ORT_OK) {
        static const char prefix[] = "Insufficient storage: ";
        const bool has = strncmp(diag.text, prefix, sizeof prefix - 1) == 0;
        refuse(gate, pass, ORT_EQUOTA, "quota", "%s%s", has ? "" : prefix, diag.text);
    }
}

void
dp_gate_ask_pass(dp_gate *gate, const dp_gate_ask *ask, dp_gate_pass *pass)
{
    memset(pass, 0, sizeof *pass);
    pass->verdict = DP_GATE_HERE;
    pass->table = dp_routes_acquire(gate->config.routes);
    if (!identify(gate, ask, pass) || !allowed(gate, ask, pass)) {
        return;
    }
    pass->state = dp_gate__tenant(gate, pass->entry->id);
    if (pass->state == NULL) {
        refuse(gate, pass, ORT_ENOMEM, "memory", "Service internal error: out of memory");
        return;
    }
    if (within_rates(gate, ask, pass) && take_body(gate, ask, pass)) {
        has_room(gate, ask, pass);
    }
}

void
dp_gate_leave(dp_gate *gate, dp_gate_pass *pass)
{
    dp_tenant_unref(pass->tenant);
    if (pass->body_bytes != 0) {
        atomic_fetch_sub_explicit(&pass->state->body_bytes, pass->body_bytes, memory_order_relaxed);
        atomic_fetch_sub_explicit(&gate->body_bytes, pass->body_bytes, memory_order_relaxed);
    }
    dp_gate__tenant_unref(pass->state);
    dp_table_release(pass->table);
    memset(pass, 0, sizeof *pass);
}

const dp_table *
dp_gate_table(dp_gate *gate)
{
    return dp_routes_acquire(gate->config.routes);
}

void
dp_gate_set_disk_low(dp_gate *gate, bool low)
{
    if (atomic_exchange(&gate->disk_low, low) != low) {
        if (low) {
            ORT_LOG_ERROR(&log_gate, "disk.low", "writes=refused");
        } else {
            ORT_LOG_INFO(&log_gate, "disk.enough", "writes=taken");
        }
    }
}

ort_err
dp_gate_slot_enter(dp_gate *gate, dp_gate_pass *pass, uint64_t deadline_ns)
{
    assert(pass->state != NULL);
    return dp_admission_enter(gate->admission, &pass->state->lane, deadline_ns);
}

void
dp_gate_slot_leave(dp_gate *gate, dp_gate_pass *pass, uint64_t used_ns)
{
    dp_admission_leave(gate->admission, &pass->state->lane, used_ns);
}

bool
dp_gate_covers(const dp_gate_pass *pass, const char *name, size_t len)
{
    return pass->key != NULL && dp_key_covers(pass->key, name, len);
}

uint32_t
dp_gate_waiting(const dp_gate *gate)
{
    return dp_admission_depth(gate->admission);
}

void
dp_gate_stats_get(dp_gate *gate, dp_gate_stats *out)
{
    memset(out, 0, sizeof *out);
    out->waiting = dp_admission_depth(gate->admission);
    out->body_bytes = atomic_load_explicit(&gate->body_bytes, memory_order_relaxed);
    pthread_rwlock_rdlock(&gate->lock);
    out->tenants = (uint32_t)ort_map_count(gate->tenants);
    pthread_rwlock_unlock(&gate->lock);
    for (size_t i = 0; i < 32; i++) {
        out->refused_total[i] = atomic_load_explicit(&gate->refused_total[i], memory_order_relaxed);
    }
}
