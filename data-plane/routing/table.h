/* data-plane/routing/table.h: the routing table as the request path sees it.
 *
 * A dp_table is an immutable snapshot. dp_routes holds the current one; the agent swaps it, and a
 * request that holds a snapshot goes on seeing that one. Everything a snapshot gives out lives as
 * long as the snapshot is held. */
#ifndef DP_TABLE_H
#define DP_TABLE_H
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "crypto/token.h"
#include "wire/table.h"

typedef enum { DP_TENANT_ACTIVE, DP_TENANT_SUSPENDED, DP_TENANT_DELETING } dp_tenant_state;

/* What a key may; bits of dp_key.scopes. */
#define DP_SCOPE_DATA_READ 1u
#define DP_SCOPE_DATA_WRITE 2u
#define DP_SCOPE_COLLECTIONS_MANAGE 4u

typedef struct {
    uint64_t serial; /* with the tenant's id: its ort_key_id */
    ort_hash hash;
    uint32_t scopes;
    const char *const *collections; /* globs; none = every collection */
    size_t collection_count;
    int64_t expires_at_ms;            /* wall time; INT64_MAX = never */
    uint64_t max_requests_per_minute; /* UINT64_MAX = the tenant's alone */
} dp_key;

/* UINT64_MAX where the plan sets no limit. */
typedef struct {
    uint64_t max_collections;
    uint64_t max_vectors_per_collection;
    uint64_t max_vectors;
    uint64_t max_storage_bytes;
    uint64_t max_requests_per_minute;
} dp_limits;

/* A tenant homed on this node. */
typedef struct {
    ort_tenant_id id;
    const char *name;
    dp_tenant_state state;
    uint64_t epoch;       /* of its placement */
    uint64_t max_stale_s; /* deny when the table is older; 0 = serve for ever */
    dp_limits limits;
    const char *const *regions; /* where it is pinned; none = anywhere */
    size_t region_count;
    const dp_key *keys; /* by serial */
    size_t key_count;
} dp_tenant_entry;

/* Any tenant of the hub. */
typedef struct {
    ort_tenant_id id;
    ort_node_id home;
    const char *const *regions; /* where its data may be; none = anywhere */
    size_t region_count;
} dp_home;

typedef struct {
    ort_node_id id;
    const char *region;
    const char *zone;
    const char *endpoint; /* public data URL */
    const char *forward;  /* NNG URL; "" = takes no forwards */
} dp_node;

typedef struct dp_table dp_table;

ort_node_id dp_table_self(const dp_table *table); /* the node this table is for */
ort_table_at dp_table_at(const dp_table *table);  /* zeroes: no table yet */
int64_t dp_table_issued_at_ms(const dp_table *table);

/* NULL: not there. The tenant of a request whose key names tenant T is: dp_table_tenant(T) when T
 * is homed here; else dp_table_home(T) tells where; else nobody knows T and the key is wrong. */
const dp_tenant_entry *dp_table_tenant(const dp_table *table, ort_tenant_id id);
const dp_home *dp_table_home(const dp_table *table, ort_tenant_id id);
const dp_node *dp_table_node(const dp_table *table, ort_node_id id);

size_t dp_table_tenant_count(const dp_table *table);
/* The tenants homed here, in no order that means anything: start with *at = 0, until NULL. */
const dp_tenant_entry *dp_table_next_tenant(const dp_table *table, uint64_t *at);
const dp_node *dp_table_next_node(const dp_table *table, uint64_t *at);

/* The key with that serial; NULL: revoked or never there. Expiry is the caller's to look at. */
const dp_key *dp_tenant_key(const dp_tenant_entry *tenant, uint64_t serial);

/* Whether one of the key's globs matches the collection's name; '*' stands for any text, '?' for
 * one byte. */
bool dp_key_covers(const dp_key *key, const char *name, size_t len);

/* Whether a region is among those given; none given = anywhere. */
bool dp_regions_allow(const char *const *regions, size_t count, const char *region);

/* ---- the current table ---- */

/* Threads: any number of acquirers; one that sets (the agent). */
typedef struct dp_routes dp_routes;

ORT_NODISCARD ort_err dp_routes_new(dp_routes **out);
void dp_routes_free(dp_routes *routes); /* when nobody acquires any more */

/* The table of this moment, never NULL (an empty one before the first): about two uncontended
 * atomic additions, no lock. Give it back with dp_table_release(), on any thread. */
const dp_table *dp_routes_acquire(dp_routes *routes);
const dp_table *dp_table_ref(const dp_table *table);
void dp_table_release(const dp_table *table); /* NULL is fine */

/* Whether the token is this key: its keyed hash equals the stored one, in constant time. key NULL
 * does the same work and is false, so that an unknown key takes as long as a wrong one. False too
 * while the node has no pepper (it has not joined). */
bool dp_routes_key_matches(const dp_routes *routes, const dp_key *key, const ort_token *token);

/* For the agent, and for tests that stand in for it: body is a whole table as in wire/table.h. */
ORT_NODISCARD ort_err dp_table_from_body(const dp_table **out, ort_node_id self, ort_table_at at,
                                         int64_t issued_at_ms, const char *body, size_t len,
                                         ort_diag *diag);
void dp_routes_set(dp_routes *routes, const dp_table *table); /* takes over the reference */
void dp_routes_set_pepper(dp_routes *routes, const unsigned char pepper[ORT_PEPPER_BYTES]);
#endif /* DP_TABLE_H */
