/* control-plane/routing/compile.h: rows of the store become entries of tables.
 *
 * The text of an entry depends on the store's rows alone: not on the clock, not on which nodes are
 * alive. So a control plane that starts anew, or one restored from a backup, makes the same tables
 * of the same version, and nodes that have them fetch nothing. (Keys that expire stay in the
 * table until the store drops them; nodes look at the time themselves.)
 *
 * Texts are canonical: members sorted, no space (wire/table.h). */
#ifndef CP_COMPILE_H
#define CP_COMPILE_H
#include "base/buf.h"
#include "routing/push.h"
#include "store/nodes.h"
#include "store/store.h"

/* What a tenant is in the tables. Borrows from the buffers. */
typedef struct {
    ort_tenant_id id;
    ort_node_id home; /* 0: in no table (not placed, deleted, never there) */
    ort_buf entry;
    ort_buf directory;
} cp_compiled;

/* Appends to the (empty) buffers of *out. A tenant that is not there is no error: home is 0.
 * ORT_ENOMEM and whatever the store says; the caller frees the buffers either way. */
ORT_NODISCARD ort_err cp_compile_tenant(cp_tx *tx, ort_tenant_id tenant, cp_compiled *out,
                                        ort_diag *diag);
void cp_compiled_fini(cp_compiled *compiled);

/* The entry of a node, appended to out; nothing is appended for one that is removed. */
void cp_compile_node(const cp_node *node, ort_buf *out);
#endif /* CP_COMPILE_H */
