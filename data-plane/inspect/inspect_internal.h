/* data-plane/inspect/inspect_internal.h: what verify and repair share: the walk over a directory.
 */
#ifndef DP_INSPECT_INTERNAL_H
#define DP_INSPECT_INTERNAL_H
#include "inspect/inspect.h"
#include "tenant/tenant.h"

typedef struct {
    FILE *out;
    bool repair;
    dp_inspect_report *report;
    char where[512]; /* of what is looked at, for lines */
} dp_inspect;

void dp_inspect__say(dp_inspect *i, const char *word, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* collection.c: one collection; schema NULL: not known. The directory is locked meanwhile.
 * tenant_dir  of its tenant, -1: not known
 * expected    what the catalog tells of it, or NULL */
ORT_NODISCARD ort_err dp_inspect__collection(dp_inspect *i, int tenant_dir, int dir,
                                             ort_tenant_id tenant, ort_collection_id id,
                                             const dp_catalog_entry *expected, ort_diag *diag);

/* inspect.c: whether a shard's files stand in the directory. */
bool dp_inspect__has_shard(int dir);

/* tenant.c: its catalog and all its collections. */
ORT_NODISCARD ort_err dp_inspect__tenant(dp_inspect *i, int dir, ort_tenant_id id, ort_diag *diag);

/* graph.c: the graphs of a collection that is otherwise good, against its rows. */
ORT_NODISCARD ort_err dp_inspect__graphs(dp_inspect *i, int tenant_dir, int dir,
                                         ort_tenant_id tenant, const dp_catalog_entry *entry,
                                         ort_diag *diag);
#endif /* DP_INSPECT_INTERNAL_H */
