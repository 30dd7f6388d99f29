/* What stays between requests: a state for each tenant homed here, a state for each of its keys. */
#include <assert.h>
#include <stdlib.h>

#include "gate/gate_internal.h"

static void
tenant_free(dp_gate_tenant *state)
{
    ort_map_free(state->keys, free);
    pthread_mutex_destroy(&state->mutex);
    free(state);
}

void
dp_gate__tenant_unref(dp_gate_tenant *state)
{
    if (state != NULL && atomic_fetch_sub_explicit(&state->refs, 1, memory_order_acq_rel) == 1) {
        tenant_free(state);
    }
}

static dp_gate_tenant *
tenant_new(ort_tenant_id id)
{
    dp_gate_tenant *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return NULL;
    }
    if (ort_map_new(&state->keys) != ORT_OK) {
        free(state);
        return NULL;
    }
    state->id = id;
    atomic_init(&state->refs, 1);
    pthread_mutex_init(&state->mutex, NULL);
    return state;
}

dp_gate_tenant *
dp_gate__tenant(dp_gate *gate, ort_tenant_id id)
{
    pthread_rwlock_rdlock(&gate->lock);
    dp_gate_tenant *state = ort_map_get(gate->tenants, &id.v, sizeof id.v);
    if (state != NULL) {
        atomic_fetch_add_explicit(&state->refs, 1, memory_order_relaxed);
    }
    pthread_rwlock_unlock(&gate->lock);
    if (state != NULL) {
        return state;
    }

    dp_gate_tenant *made = tenant_new(id);
    if (made == NULL) {
        return NULL;
    }
    pthread_rwlock_wrlock(&gate->lock);
    state = ort_map_get(gate->tenants, &id.v, sizeof id.v);
    if (state == NULL && ort_map_set(gate->tenants, &id.v, sizeof id.v, made, NULL) == ORT_OK) {
        state = made;
        made = NULL;
    }
    if (state != NULL) {
        atomic_fetch_add_explicit(&state->refs, 1, memory_order_relaxed);
    }
    pthread_rwlock_unlock(&gate->lock);
    dp_gate__tenant_unref(made);
    return state;
}

bool
dp_gate__key_ask(dp_gate_tenant *state, uint64_t serial, const dp_gcra_rate *rate, uint64_t mono_ns,
                 int64_t wall_ms, dp_gcra_verdict *out)
{
    pthread_mutex_lock(&state->mutex);
    dp_gate__key *key = ort_map_get(state->keys, &serial, sizeof serial);
    if (key == NULL) {
        key = calloc(1, sizeof *key);
        if (key != NULL) {
            key->serial = serial;
            if (ort_map_set(state->keys, &serial, sizeof serial, key, NULL) != ORT_OK) {
                free(key);
                key = NULL;
            }
        }
    }
    if (key != NULL) {
        atomic_store_explicit(&key->used_ms, wall_ms, memory_order_relaxed);
        *out = dp_gcra_ask(&key->gcra, rate, mono_ns);
    }
    pthread_mutex_unlock(&state->mutex);
    return key != NULL;
}

void
dp_gate__key_refund(dp_gate_tenant *state, uint64_t serial, const dp_gcra_rate *rate)
{
    pthread_mutex_lock(&state->mutex);
    dp_gate__key *key = ort_map_get(state->keys, &serial, sizeof serial);
    if (key != NULL) {
        dp_gcra_refund(&key->gcra, rate);
    }
    pthread_mutex_unlock(&state->mutex);
}

/* Takes one entry that is no longer wanted out of a map; false when all are. The map must not
 * change under a walk, so each removal starts a new one: removals are rare. */
static bool
tenant_drop_one(dp_gate *gate, const dp_table *table)
{
    size_t at = 0;
    const void *key;
    size_t len;
    void *value;
    while (ort_map_next(gate->tenants, &at, &key, &len, &value)) {
        dp_gate_tenant *state = value;
        if (dp_table_tenant(table, state->id) == NULL) {
            ort_map_take(gate->tenants, &state->id.v, sizeof state->id.v);
            dp_gate__tenant_unref(state);
            return true;
        }
    }
    return false;
}

static bool
key_drop_one(dp_gate_tenant *state, const dp_tenant_entry *entry)
{
    size_t at = 0;
    const void *name;
    size_t len;
    void *value;
    while (ort_map_next(state->keys, &at, &name, &len, &value)) {
        dp_gate__key *key = value;
        if (dp_tenant_key(entry, key->serial) == NULL) {
            ort_map_take(state->keys, &key->serial, sizeof key->serial);
            free(key);
            return true;
        }
    }
    return false;
}

void
dp_gate_prune(dp_gate *gate, const dp_table *table)
{
    pthread_rwlock_wrlock(&gate->lock);
    while (tenant_drop_one(gate, table)) {
    }
    size_t at = 0;
    const void *name;
    size_t len;
    void *value;
    while (ort_map_next(gate->tenants, &at, &name, &len, &value)) {
        dp_gate_tenant *state = value;
        const dp_tenant_entry *entry = dp_table_tenant(table, state->id);
        pthread_mutex_lock(&state->mutex);
        while (key_drop_one(state, entry)) {
        }
        pthread_mutex_unlock(&state->mutex);
    }
    pthread_rwlock_unlock(&gate->lock);
}

void
dp_gate_each_used(dp_gate *gate, dp_gate_used_fn fn, void *arg)
{
    bool go_on = true;
    size_t at = 0;
    const void *name;
    size_t len;
    void *value;

    pthread_rwlock_rdlock(&gate->lock);
    while (go_on && ort_map_next(gate->tenants, &at, &name, &len, &value)) {
        dp_gate_tenant *state = value;
        pthread_mutex_lock(&state->mutex);
        size_t key_at = 0;
        void *key_value;
        while (go_on && ort_map_next(state->keys, &key_at, &name, &len, &key_value)) {
            dp_gate__key *key = key_value;
            const int64_t used = atomic_exchange_explicit(&key->used_ms, 0, memory_order_relaxed);
            if (used != 0) {
                go_on = fn(arg, (ort_key_id){.tenant = state->id, .serial = key->serial}, used);
            }
        }
        pthread_mutex_unlock(&state->mutex);
    }
    pthread_rwlock_unlock(&gate->lock);
}
