/* control-plane/tenancy/tenancy_internal.h: what the files of this folder share. */
#ifndef CP_TENANCY_INTERNAL_H
#define CP_TENANCY_INTERNAL_H
#include "placement/placement.h"
#include "store/tenants.h"
#include "tenancy/tenancy.h"

struct cp_tenancy {
    cp_tenancy_options o;
};

/* Ends a change: commits when err is ORT_OK, rolls back otherwise. */
ORT_NODISCARD ort_err cp_tenancy__end(cp_tx *tx, ort_err err, const cp_change *change,
                                      uint64_t *version_out, ort_diag *diag);

/* ORT_ESTALE unless expected is NULL or the row's revision. */
ORT_NODISCARD ort_err cp_tenancy__revision(const char *what, const uint64_t *expected,
                                           uint64_t revision, ort_diag *diag);

/* Each limit at most CP_LIMIT_VALUE_MAX or none. ORT_EVALIDATE. */
ORT_NODISCARD ort_err cp_tenancy__limits(const cp_limits *limits, ort_diag *diag);

/* Copies a text into a row's array of `cap` bytes; its length was checked. */
void cp_tenancy__copy(char *out, size_t cap, const char *text);

/* Nodes as placement sees them, read in tx: the caller frees ->list with cp_node_set_fini(). */
typedef struct {
    cp_candidate *list;
    cp_node *rows; /* the texts' home */
    size_t count;
} cp_node_set;
ORT_NODISCARD ort_err cp_node_set__read(cp_tenancy *tenancy, cp_tx *tx, cp_node_set *out,
                                        ort_diag *diag);
void cp_node_set__fini(cp_node_set *set);

/* Places one tenant that has no home; *placed_out false: no node fits. */
ORT_NODISCARD ort_err cp_tenancy__place(cp_tx *tx, const cp_node_set *nodes,
                                        const cp_tenant *tenant, ort_node_id without,
                                        uint64_t epoch, bool *placed_out, ort_diag *diag);
#endif /* CP_TENANCY_INTERNAL_H */
