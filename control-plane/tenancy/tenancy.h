/* control-plane/tenancy/tenancy.h: the rules of desired state: what may be asked, what follows from
 * it, and that it is one change. store/ keeps rows; this folder decides which.
 *
 * Every function that changes something is one transaction with one op-log record, takes the
 * author (who, and under which request id; store/store.h), and gives the hub's version after it
 * (version_out may be NULL). A refusal says what was asked, what the bound is, and changes nothing:
 *
 *   ORT_EVALIDATE  a name, text or number out of bounds
 *   ORT_ENOTFOUND  the thing is not there, or belongs to another tenant
 *   ORT_EEXISTS    the name is taken
 *   ORT_ECONFLICT  the state does not allow it
 *   ORT_ESTALE     *revision is not the row's (If-Match); revision NULL = whatever it is
 *   ORT_EQUOTA     over a bound (keys of a tenant)
 *   ORT_EBUSY, ORT_EIO, ORT_ENOSPC, ORT_ENOMEM from the store
 *
 * Reading needs no rules: callers use store/ for it, in cp_store_begin_read(). */
#ifndef CP_TENANCY_H
#define CP_TENANCY_H
#include "crypto/sign.h"
#include "store/nodes.h"
#include "store/store.h"
#include "tenancy/secrets.h"

/* Opaque. From cp_tenancy_new() to cp_tenancy_free(). Threads: any. */
typedef struct cp_tenancy cp_tenancy;

typedef struct {
    cp_store *store;           /* outlives the tenancy */
    const cp_secrets *secrets; /* likewise */

    /* Whether the node is alive now, by its heartbeats: new tenants go nowhere else. Called inside
     * a transaction: must not wait or use the store. NULL: every ready node is taken to be. */
    bool (*node_is_healthy)(void *ctx, ort_node_id node);
    void *ctx;
} cp_tenancy_options;

/* ORT_ECORRUPT: the secrets are not those this database was made with (its token hashes and tables
 * would all be worthless): the right files must come back. */
ORT_NODISCARD ort_err cp_tenancy_new(cp_tenancy **out, const cp_tenancy_options *options,
                                     ort_diag *diag);
void cp_tenancy_free(cp_tenancy *tenancy);

/* The author of what the hub does by itself. */
extern const cp_author cp_author_system;

/* Names of regions, zones, plans, tenants: [a-z0-9-]{1,63}. `what` ("region") begins the message.
 */
ORT_NODISCARD ort_err cp_check_slug(const char *what, const char *text, ort_diag *diag);
/* Free text: at most CP_DISPLAY_BYTES - 1, no control characters; may be "". */
ORT_NODISCARD ort_err cp_check_display(const char *what, const char *text, ort_diag *diag);
/* Globs of collections: 1 .. 255 bytes of a collection's name, '*' for any run, '?' for one
 * character. */
ORT_NODISCARD ort_err cp_check_glob(const char *text, size_t len, ort_diag *diag);
#endif /* CP_TENANCY_H */
