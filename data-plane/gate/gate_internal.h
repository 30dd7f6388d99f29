/* What the gate remembers of tenants and keys; between gate.c and remember.c. */
#ifndef DP_GATE_INTERNAL_H
#define DP_GATE_INTERNAL_H
#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "gate/gate.h"

/* One key that was shown and right. Only such keys get one, so outsiders cannot make us grow. */
typedef struct {
    uint64_t serial;
    dp_gcra gcra;
    _Atomic int64_t used_ms; /* wall time of the last use; 0: told, and not used since */
} dp_gate__key;

struct dp_gate_tenant {
    ort_tenant_id id;
    _Atomic uint32_t refs; /* one is the map's */
    dp_gcra gcra;
    dp_admission_lane lane;
    _Atomic uint64_t body_bytes;
    pthread_mutex_t mutex; /* guards keys */
    ort_map *keys;         /* serial → dp_gate__key, which lives as long as this tenant */
};

struct dp_gate {
    dp_gate_config config;
    dp_admission *admission;
    pthread_rwlock_t lock; /* guards tenants */
    ort_map *tenants;      /* tenant id → dp_gate_tenant */
    _Atomic uint64_t body_bytes;
    atomic_bool disk_low;
    _Atomic uint64_t refused_total[32];
};

/* The tenant's state, made on first use; one reference for the caller. NULL: no memory. */
dp_gate_tenant *dp_gate__tenant(dp_gate *gate, ort_tenant_id id);
void dp_gate__tenant_unref(dp_gate_tenant *state);

/* Counts one use of a key at wall_ms, and asks its own rate limit (per_minute 0: it has none).
 * false: no memory, nothing was asked. */
bool dp_gate__key_ask(dp_gate_tenant *state, uint64_t serial, const dp_gcra_rate *rate,
                      uint64_t mono_ns, int64_t wall_ms, dp_gcra_verdict *out);
void dp_gate__key_refund(dp_gate_tenant *state, uint64_t serial, const dp_gcra_rate *rate);
#endif /* DP_GATE_INTERNAL_H */
