/* control-plane/store/placements.h: which node holds a tenant, and which ever did. */
#ifndef CP_PLACEMENTS_H
#define CP_PLACEMENTS_H
#include "store/store.h"

typedef struct {
    ort_tenant_id tenant; /* key */
    ort_node_id home;
    uint64_t epoch; /* 1, then + 1 with each new home */
    int64_t placed_at_ms;
} cp_home;

/* ORT_ENOTFOUND: not placed yet. */
ORT_NODISCARD ort_err cp_home_get(cp_tx *tx, ort_tenant_id tenant, cp_home *out, ort_diag *diag);

/* Gives the tenant a home. expect_epoch is what the caller saw (0: had none); when the stored one
 * differs, somebody was faster: ORT_ESTALE and nothing happens. *out = the row, epoch =
 * expect_epoch + 1. Remembers that the node holds the tenant's data. */
ORT_NODISCARD ort_err cp_home_set(cp_tx *tx, ort_tenant_id tenant, ort_node_id home,
                                  uint64_t expect_epoch, cp_home *out, ort_diag *diag);

typedef ort_err (*cp_home_visit)(void *ctx, const cp_home *row);
/* By tenant id. home 0 = all. */
ORT_NODISCARD ort_err cp_home_list(cp_tx *tx, ort_node_id home, cp_page page, cp_home_visit visit,
                                   void *ctx, ort_diag *diag);
ORT_NODISCARD ort_err cp_home_count(cp_tx *tx, ort_node_id home, uint64_t *out, ort_diag *diag);

/* ---- holders: every node that got the tenant, until it says that nothing is left ---- */

typedef struct {
    ort_tenant_id tenant;
    ort_node_id node;
    int64_t since_ms;
    int64_t gone_at_ms; /* 0: may still have data */
} cp_holder;

/* Marks that nothing is left there. ORT_ENOTFOUND: that node never held it. Twice is fine. */
ORT_NODISCARD ort_err cp_holder_gone(cp_tx *tx, ort_tenant_id tenant, ort_node_id node,
                                     ort_diag *diag);
typedef ort_err (*cp_holder_visit)(void *ctx, const cp_holder *row);
/* By node id. */
ORT_NODISCARD ort_err cp_holder_list(cp_tx *tx, ort_tenant_id tenant, cp_holder_visit visit,
                                     void *ctx, ort_diag *diag);
/* Holders that have not said so. */
ORT_NODISCARD ort_err cp_holder_left(cp_tx *tx, ort_tenant_id tenant, uint64_t *out,
                                     ort_diag *diag);
#endif /* CP_PLACEMENTS_H */
