/* control-plane/store/regions.h: legal places. */
#ifndef CP_REGIONS_H
#define CP_REGIONS_H
#include "store/store.h"

typedef struct {
    char name[CP_SLUG_BYTES]; /* key */
    char display[CP_DISPLAY_BYTES];
    int64_t created_at_ms;
    uint64_t revision; /* 1, then + 1 each time; written by put */
} cp_region;

/* ORT_ENOTFOUND: *out untouched. */
ORT_NODISCARD ort_err cp_region_get(cp_tx *tx, const char *name, cp_region *out, ort_diag *diag);

/* Inserts, or replaces the row of that name; row->revision becomes the stored one. */
ORT_NODISCARD ort_err cp_region_put(cp_tx *tx, cp_region *row, ort_diag *diag);

/* ORT_ENOTFOUND. ORT_ECONFLICT: a tenant is pinned to it, or a node stands in it. */
ORT_NODISCARD ort_err cp_region_remove(cp_tx *tx, const char *name, ort_diag *diag);

typedef ort_err (*cp_region_visit)(void *ctx, const cp_region *row);
/* By name. */
ORT_NODISCARD ort_err cp_region_list(cp_tx *tx, cp_page page, cp_region_visit visit, void *ctx,
                                     ort_diag *diag);
#endif /* CP_REGIONS_H */
