/* data-plane/tenant/tenant.h: the tenants of a node: their directories, catalogs, open collections.
 *
 *   <data dir>/
 *     tenants/<tenant id>/
 *       catalog.json              collections (id, name, schema, last known size), aliases
 *       catalog.old               the one before it
 *       manifest, seg.*, log.*    of one collection: what cannot be rebuilt
 *       collections/<id>/...      the same of the others
 *       indexes/<id>/...          what can be rebuilt; made with the first graph
 *     trash/<random id>/...       renamed here, then swept away; also after a restart */
#ifndef DP_TENANT_H
#define DP_TENANT_H
#include "base/id.h"
#include "collection/collection.h"

/* All tenants of one data directory. Threads: any number in every call but close. */
typedef struct dp_tenants dp_tenants;

/* One tenant, referenced. Opening it reads its catalog; its collections open on first use. */
typedef struct dp_tenant dp_tenant;

typedef struct {
    dp_collection_env collection;
    uint64_t memory_budget_bytes; /* of open collections; the idlest are closed over it; 0 = none */
    uint32_t open_max;            /* open collections; likewise */
    uint64_t idle_close_ms;       /* a collection unused for so long is closed; 0 = never */
    uint64_t scrub_bytes_per_s;   /* closed collections are read and checked so fast; 0 = never */
    uint64_t scrub_round_ms;      /* and again after so long */
} dp_tenants_config;

/* Takes the data directory (a lock file keeps a second process out) and starts the thread that
 * closes idle collections and sweeps the trash. data_dir is duplicated.
 * ORT_EBUSY: another process has it. ORT_EIO, ORT_ENOMEM. *out is NULL for all. */
ORT_NODISCARD ort_err dp_tenants_open(dp_tenants **out, int data_dir,
                                      const dp_tenants_config *config, ort_diag *diag);
void dp_tenants_close(dp_tenants *all); /* no reference may be out */

/* A reference to the tenant, which is made (directory, empty catalog) when it is new here: the
 * routing table, not this, decides who exists. dp_tenant_unref() gives it back.
 * ORT_ECORRUPT: its catalog is damaged; other tenants go on; it is read again every two seconds, so
 * that a repair needs no restart. ORT_EBUSY: it is being deleted.
 * ORT_EIO, ORT_ENOSPC, ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_tenants_get(dp_tenants *all, ort_tenant_id id, dp_tenant **out,
                                     ort_diag *diag);
dp_tenant *dp_tenant_ref(dp_tenant *t);
void dp_tenant_unref(dp_tenant *t); /* NULL is fine */

ort_tenant_id dp_tenant_id(const dp_tenant *t);

/* Moves all it has to the trash (one rename, durable when this returns) and forgets it; its open
 * collections take no more calls and close with their last reference; what is in the trash is swept
 * in the background. ORT_OK also when there is no such tenant. */
ORT_NODISCARD ort_err dp_tenants_delete(dp_tenants *all, ort_tenant_id id, ort_diag *diag);

/* Whether anything of the tenant is still on disk beneath tenants/: false = gone. */
bool dp_tenants_exists(dp_tenants *all, ort_tenant_id id);

/* The limits of the routing table; 0 = none. Cheap: call it at every table. */
typedef struct {
    uint32_t collections_max;
    uint64_t points_per_collection_max;
    uint64_t points_max;
    uint64_t bytes_max;
} dp_tenant_limits;
void dp_tenant_set_limits(dp_tenant *t, const dp_tenant_limits *limits);

/* What the gate asks before it reads the body of a write that may grow: ORT_EQUOTA when the stored
 * quota is used up. */
ORT_NODISCARD ort_err dp_tenant_check_room(dp_tenant *t, ort_diag *diag);

/* --- collections ---------------------------------------------------------------------------- */

/* ORT_EEXISTS: "Collection `x` already exists!". ORT_EINVAL: an alias has that name, or a bad name.
 * ORT_EQUOTA: collections_max. ORT_EIO, ORT_ENOSPC, ORT_ENOMEM: nothing is there. */
ORT_NODISCARD ort_err dp_tenant_create_collection(dp_tenant *t, const char *name, size_t len,
                                                  dp_schema *schema, ort_diag *diag);

/* Merges a PATCH body. ORT_ENOTFOUND, and the errors of dp_schema_patch(). */
ORT_NODISCARD ort_err dp_tenant_patch_collection(dp_tenant *t, const char *name, size_t len,
                                                 ort_json body, ort_diag *diag);

/* Declares an index of a payload field, or takes it away: see dp_schema_set_field().
 * ORT_ENOTFOUND, and the errors of that. */
ORT_NODISCARD ort_err dp_tenant_set_field(dp_tenant *t, const char *name, size_t len,
                                          const char *field, size_t field_len, ort_json spec,
                                          ort_diag *diag);

/* Adds a vector of that name, or takes it and what points hold of it away. Both wait until no other
 * call uses the collection, and hold new ones up meanwhile: adding closes and opens it, taking away
 * changes its points in steps before.
 *
 * until_mono_ns  how long to wait; 0 = for ever
 *
 * ORT_ENOTFOUND  no such collection. ORT_EEXISTS, ORT_EINVAL, ...: see dp_schema_add_vector()
 * ORT_ETIMEOUT   nothing was added; of a vector that was to go some points may have lost theirs */
ORT_NODISCARD ort_err dp_tenant_add_vector(dp_tenant *t, const char *name, size_t len,
                                           const char *vector, size_t vector_len, ort_json body,
                                           uint64_t until_mono_ns, ort_diag *diag);
ORT_NODISCARD ort_err dp_tenant_drop_vector(dp_tenant *t, const char *name, size_t len,
                                            const char *vector, size_t vector_len,
                                            uint64_t until_mono_ns, ort_diag *diag);

/* Drops it and its aliases: gone from the catalog when this returns, from disk soon after.
 * *existed tells whether there was one; an alias is not followed. */
ORT_NODISCARD ort_err dp_tenant_drop_collection(dp_tenant *t, const char *name, size_t len,
                                                bool *existed, ort_diag *diag);

/* Opens the collection of that name or alias, if it is not open, and keeps it open until
 * dp_tenant_release().
 * ORT_ENOTFOUND  "Collection `x` doesn't exist!"
 * ORT_EBUSY      its files are damaged or cannot be read: diag names the shard; the others go on
 * ORT_ENOSPC     it is new, and the disk has no room for its log */
ORT_NODISCARD ort_err dp_tenant_use(dp_tenant *t, const char *name, size_t len, dp_collection **out,
                                    ort_diag *diag);
void dp_tenant_release(dp_tenant *t, dp_collection *c); /* NULL is fine */

/* Whether a collection or an alias has that name. */
bool dp_tenant_has_collection(dp_tenant *t, const char *name, size_t len);

/* Names in order. fn returns false to stop. Called without a lock held. */
typedef bool (*dp_name_fn)(void *ctx, const char *name, const char *of);
ORT_NODISCARD ort_err dp_tenant_list_collections(dp_tenant *t, dp_name_fn fn, void *ctx);

/* Aliases with their collection as `of`; only those of one collection when `collection` is given.
 * ORT_ENOTFOUND: no such collection. */
ORT_NODISCARD ort_err dp_tenant_list_aliases(dp_tenant *t, const char *collection, size_t len,
                                             dp_name_fn fn, void *ctx, ort_diag *diag);

/* The body of POST /collections/aliases, all of it or nothing.
 * ORT_EEXISTS: an alias named like a collection. ORT_ENOTFOUND: no such collection or alias. */
ORT_NODISCARD ort_err dp_tenant_change_aliases(dp_tenant *t, ort_json body, ort_diag *diag);

/* --- metering ------------------------------------------------------------------------------- */

typedef struct {
    /* Gauges; of closed collections as last known. */
    uint64_t collections, points, bytes, disk_bytes;
    /* Since the start of this process. */
    uint64_t requests, searches, writes, bytes_in, bytes_out;
} dp_tenant_usage;

void dp_tenant_get_usage(dp_tenant *t, dp_tenant_usage *out);

typedef enum { DP_METER_REQUEST, DP_METER_SEARCH, DP_METER_WRITE } dp_meter;

/* Counts one request. Any thread, no lock. */
void dp_tenant_meter(dp_tenant *t, dp_meter what, uint64_t bytes_in, uint64_t bytes_out);

/* Every tenant that has something here, open or not: for the heartbeat. fn returns false to stop.
 */
typedef bool (*dp_usage_fn)(void *ctx, ort_tenant_id id, const dp_tenant_usage *usage);
void dp_tenants_each_usage(dp_tenants *all, dp_usage_fn fn, void *ctx);

/* Of those, the ones of which something has changed since this told of them, and each of the others
 * once in DP_USAGE_REPEAT calls, so that what was lost on the way comes again. An idle tenant then
 * costs a heartbeat next to nothing. One thread. turn: grows by one a call. */
#define DP_USAGE_REPEAT 60u
void dp_tenants_each_news(dp_tenants *all, uint32_t turn, dp_usage_fn fn, void *ctx);

typedef struct {
    uint32_t tenants_known, tenants_failed; /* in memory; of them, with a damaged catalog */
    uint32_t collections_open, collections_failed;
    uint64_t collections_opened;                       /* since start */
    uint64_t memory_bytes;                             /* of open collections */
    uint64_t trash_left;                               /* entries */
    uint64_t update_queue;                             /* writes waiting, all collections */
    uint32_t snapshot_jobs;                            /* running: snapshots, backups, restores */
    uint64_t snapshots, restores, snapshot_failures;   /* since start; backups count as snapshots */
    uint64_t scrub_bytes, scrub_rounds, scrub_damaged; /* read; ended; of the last or this round */
} dp_tenants_stats;
void dp_tenants_get_stats(dp_tenants *all, dp_tenants_stats *out);

/* --- catalogs of tenants that no process has open: for verify and repair -----------------------
 */

#define DP_CATALOG_NAME "catalog.json"
#define DP_CATALOG_SPARE "catalog.old"

typedef struct {
    ort_collection_id id;
    const char *name;
    const dp_schema *schema;
    bool home;              /* its files are in the tenant's directory, not in collections/<id> */
    bool clean;             /* the two sizes hold; else only the collection itself knows */
    uint64_t points, bytes; /* as last closed */
} dp_catalog_entry;

/* Reads a catalog beneath a tenant's directory and calls fn (may be NULL) with each collection, in
 * their order; all is borrowed for the call; stops at its first error.
 * ORT_ENOTFOUND: no such file. ORT_ECORRUPT, ORT_EVERSION, ORT_EIO, ORT_ENOMEM. */
typedef ort_err (*dp_catalog_fn)(void *ctx, const dp_catalog_entry *entry, ort_diag *diag);
ORT_NODISCARD ort_err dp_catalog_read(int tenant_dir, const char *file, ort_tenant_id id,
                                      dp_catalog_fn fn, void *ctx, ort_diag *diag);

/* Notes in the catalog that the sizes of a collection (NULL: of all) are not known: the next use of
 * the tenant opens it and counts. Errors as above, and ORT_ENOSPC. */
ORT_NODISCARD ort_err dp_catalog_forget_sizes(int tenant_dir, ort_tenant_id id,
                                              const ort_collection_id *collection, ort_diag *diag);
#endif /* DP_TENANT_H */
