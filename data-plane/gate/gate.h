/* data-plane/gate/gate.h: who is this, may it, is there room: asked once a request, before its body
 * is read. */
#ifndef DP_GATE_H
#define DP_GATE_H
#include "gate/admission.h"
#include "gate/gcra.h"
#include "routing/table.h"
#include "tenant/tenant.h"

/* Opaque. From dp_gate_new() to dp_gate_free(); free(NULL) is allowed. Threads: any number.
 * Lock order: the gate's map, then one tenant's keys; neither is held while anything else waits. */
typedef struct dp_gate dp_gate;

/* What the gate remembers of a tenant between requests: rates, its lane, what it has in work.
 * Counted; it outlives a table that no longer has the tenant by its last request. */
typedef struct dp_gate_tenant dp_gate_tenant;

typedef struct {
    dp_routes *routes;   /* borrowed */
    dp_tenants *tenants; /* borrowed */
    dp_admission_config admission;
    uint64_t body_bytes_max;        /* of all bodies in work on this node at once */
    uint64_t body_bytes_tenant_max; /* of one tenant's */
    /* How old this node's table is, for tenants that will not be served from an old one; negative:
     * not known. May be NULL. */
    int64_t (*table_age_ms)(void *arg);
    void *arg;
} dp_gate_config;

ORT_NODISCARD ort_err dp_gate_new(dp_gate **out, const dp_gate_config *config);
void dp_gate_free(dp_gate *gate); /* no pass may be out */

/* A request, as far as its head tells. Texts are borrowed for the call. */
typedef struct {
    const char *api_key;       /* the field `api-key`, or NULL */
    const char *authorization; /* the field `Authorization`, or NULL: used when api_key is NULL */
    uint32_t scopes_any;       /* DP_SCOPE_*: one of these must be the key's; 0: any key will do */
    const char *collection;    /* named in the path, or NULL */
    bool grows;                /* may need room: refused while the stored quota is used up */
    bool stores;               /* changes anything: limits are brought up to date first */
    int64_t body_bytes;        /* declared; -1: not known, body_bytes_likely is counted */
    uint64_t body_bytes_likely;
    bool forwarded; /* came from another node: goes no further */
    uint64_t mono_ns;
    int64_t wall_ms;
} dp_gate_ask;

typedef enum {
    DP_GATE_HERE,    /* this node answers */
    DP_GATE_FORWARD, /* `home` answers: send it there */
    DP_GATE_REFUSED, /* answer with `refusal` */
} dp_gate_verdict;

/* Everything it points to lives until dp_gate_leave(). */
typedef struct {
    dp_gate_verdict verdict;
    const dp_table *table;
    ort_key_id key_id; /* zeroes when the key was not read */

    /* HERE, and REFUSED from the rate limit on. */
    const dp_tenant_entry *entry;
    const dp_key *key;
    dp_gate_tenant *state;
    dp_tenant *tenant;
    uint64_t body_bytes; /* counted for this request */

    const dp_node *home; /* FORWARD */

    bool has_rate; /* the tightest limit, for the RateLimit fields */
    struct {
        const char *policy; /* "tenant" or "key" */
        uint64_t per_minute, left, reset_s;
    } rate;

    struct {
        ort_err err;            /* its HTTP status answers */
        bool plain;             /* as plain text, not in Qdrant's envelope */
        unsigned retry_after_s; /* 0: no such field */
        const char *endpoint;   /* EREGION: where to go instead, or NULL */
        const char *reason;     /* a word for metrics: "key", "scope", "rate" ... */
        char text[400];         /* the whole message */
    } refusal;
} dp_gate_pass;

/* Decides. Fills pass whatever the verdict; each pass ends with dp_gate_leave(). A key that is not
 * known does the same work as one whose secret is wrong, and both hear the same words.
 *
 * Refusals, in the order they are looked for: 401 no key, not a key, unknown, wrong, expired · 421
 * pinned elsewhere · 403 suspended, scope, collection · 429 rate of the key, then of the tenant ·
 * 503 too many bytes in work, storage not to be opened · 507 stored quota used up. */
void dp_gate_ask_pass(dp_gate *gate, const dp_gate_ask *ask, dp_gate_pass *pass);
void dp_gate_leave(dp_gate *gate, dp_gate_pass *pass);

/* A slot to compute in, for a pass that is HERE; see admission.h. ORT_EBUSY, ORT_ETIMEOUT. */
ORT_NODISCARD ort_err dp_gate_slot_enter(dp_gate *gate, dp_gate_pass *pass, uint64_t deadline_ns);
void dp_gate_slot_leave(dp_gate *gate, dp_gate_pass *pass, uint64_t used_ns);

/* Whether the key of this pass may touch that collection: for names that stand in bodies and
 * lists. */
bool dp_gate_covers(const dp_gate_pass *pass, const char *name, size_t len);

/* The routing table's limits in the words of tenant/, where 0 is none. */
dp_tenant_limits dp_gate_limits(const dp_limits *limits);

/* While the disk is low, growing writes are refused with 507; changed alarms are logged. */
void dp_gate_set_disk_low(dp_gate *gate, bool low);

/* The routing table of now, for calls that are let in by something else than a key; the caller
 * gives it back with dp_table_release(). */
const dp_table *dp_gate_table(dp_gate *gate);

/* Forgets tenants and keys that the table no longer has. After each new table. */
void dp_gate_prune(dp_gate *gate, const dp_table *table);

/* Keys used since they were last told, for the heartbeat. fn returns false to stop. */
typedef bool (*dp_gate_used_fn)(void *arg, ort_key_id key, int64_t wall_ms);
void dp_gate_each_used(dp_gate *gate, dp_gate_used_fn fn, void *arg);

typedef struct {
    uint32_t waiting;           /* for a slot */
    uint64_t body_bytes;        /* in work */
    uint32_t tenants;           /* remembered */
    uint64_t refused_total[32]; /* by ort_err */
} dp_gate_stats;
void dp_gate_stats_get(dp_gate *gate, dp_gate_stats *out);

/* Requests that wait for a slot: of the stats, what can be asked all the time. */
uint32_t dp_gate_waiting(const dp_gate *gate);
#endif /* DP_GATE_H */
