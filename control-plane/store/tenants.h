/* control-plane/store/tenants.h: customers, and what limits each has beside its plan. */
#ifndef CP_TENANTS_H
#define CP_TENANTS_H
#include "store/store.h"

/*   ACTIVE ◄──resume── SUSPENDED          any ──delete──► DELETING ──last `gone`──► DELETED
 *      └─────suspend──────►
 * DELETING: nodes remove its data. DELETED: a tombstone for the audit; the name is free again. */
typedef enum {
    CP_TENANT_ACTIVE,
    CP_TENANT_SUSPENDED,
    CP_TENANT_DELETING,
    CP_TENANT_DELETED,
    CP_TENANT_STATE_COUNT
} cp_tenant_state;
const char *cp_tenant_state_name(cp_tenant_state state); /* "active", ... */
/* CP_TENANT_STATE_COUNT: no state is called so. */
cp_tenant_state cp_tenant_state_by_name(const char *name, size_t len);

typedef struct {
    ort_tenant_id id;         /* key */
    char name[CP_SLUG_BYTES]; /* unique among those not deleted; never changes */
    char display[CP_DISPLAY_BYTES];
    char plan[CP_SLUG_BYTES];
    cp_tenant_state state;
    cp_texts regions;     /* the pin; empty: anywhere */
    uint32_t max_stale_s; /* how old a node's table may be before it stops serving; 0 = for ever */
    int64_t created_at_ms;
    int64_t updated_at_ms;
    int64_t deleted_at_ms; /* when the last node had acked; 0: not deleted */
    uint64_t revision;     /* the ETag; written by put */
} cp_tenant;

/* Also finds deleting and deleted ones. */
ORT_NODISCARD ort_err cp_tenant_get(cp_tx *tx, ort_tenant_id id, cp_tenant *out, ort_diag *diag);
/* Only those not deleted. */
ORT_NODISCARD ort_err cp_tenant_get_by_name(cp_tx *tx, const char *name, cp_tenant *out,
                                            ort_diag *diag);
/* An id (16 hex digits) or a name, as paths of the API have it; not the deleted ones. A text of 16
 * hex digits is an id: no tenant may be named so. */
ORT_NODISCARD ort_err cp_tenant_find(cp_tx *tx, const char *text, cp_tenant *out, ort_diag *diag);

/* Inserts (with an empty quota row beside it) or replaces. ORT_EEXISTS: another has the name.
 * ORT_ENOTFOUND: no such plan or region. */
ORT_NODISCARD ort_err cp_tenant_put(cp_tx *tx, cp_tenant *row, ort_diag *diag);

typedef ort_err (*cp_tenant_visit)(void *ctx, const cp_tenant *row);

typedef struct {
    cp_page page; /* by id (16 hex digits) */
    bool with_deleted;
    const char *plan; /* only those on it; NULL = all */
    ort_node_id home; /* only those placed there; 0 = all */
    bool unplaced;    /* only those without a home */
    bool in_state;    /* only those in `state` */
    cp_tenant_state state;
} cp_tenant_query;
ORT_NODISCARD ort_err cp_tenant_list(cp_tx *tx, const cp_tenant_query *query, cp_tenant_visit visit,
                                     void *ctx, ort_diag *diag);
/* Not counting deleted ones. */
ORT_NODISCARD ort_err cp_tenant_count(cp_tx *tx, uint64_t *out, ort_diag *diag);

/* ---- quotas: overrides, with a revision (ETag) of their own ---- */

typedef struct {
    ort_tenant_id tenant; /* key */
    cp_overrides overrides;
    int64_t updated_at_ms;
    uint64_t revision;
} cp_quota;

/* There is one for every tenant. */
ORT_NODISCARD ort_err cp_quota_get(cp_tx *tx, ort_tenant_id tenant, cp_quota *out, ort_diag *diag);
ORT_NODISCARD ort_err cp_quota_put(cp_tx *tx, cp_quota *row, ort_diag *diag);

/* Plan and overrides put together, in one read. ORT_ENOTFOUND: no such tenant. */
ORT_NODISCARD ort_err cp_tenant_limits(cp_tx *tx, ort_tenant_id tenant, cp_limits *out,
                                       ort_diag *diag);
#endif /* CP_TENANTS_H */
