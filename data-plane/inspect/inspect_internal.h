/* data-plane/inspect/inspect_internal.h: what verify and repair share: the walk over a directory.
 */
#ifndef DP_INSPECT_INTERNAL_H
#define DP_INSPECT_INTERNAL_H
#include "inspect/inspect.h"
#include "storage/points.h"
#include "tenant/tenant.h"

#define DP_INSPECT_LOST "lost" /* beside what was damaged: what repair replaced */

typedef struct {
    FILE *out;
    bool repair;
    bool node_runs; /* as far as it is known */
    dp_inspect_report *report;
    char where[512]; /* of what is looked at, for lines */
} dp_inspect;

void dp_inspect__say(dp_inspect *i, const char *word, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Into a folder or file for the lines to come, and out again, with what it gave. */
size_t dp_inspect__enter(dp_inspect *i, const char *name);
void dp_inspect__leave(dp_inspect *i, size_t before);

/* Counts a file that was read. */
void dp_inspect__count(dp_inspect *i, int dir, const char *name);

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

/* snapshots.c: each file that the catalog names, read as a restore reads it. */
ORT_NODISCARD ort_err dp_inspect__snapshots(dp_inspect *i, int tenant_dir, ort_tenant_id id,
                                            ort_diag *diag);

/* node.c: the node's own files beneath its data directory. */
ORT_NODISCARD ort_err dp_inspect__node(dp_inspect *i, int root, ort_diag *diag);

/* Whether a node holds the lock of this data directory. */
bool dp_inspect__node_runs(int root);

/* --- what can be made anew -------------------------------------------------------------------- */

/* A collection that is otherwise good, as its last checkpoint left it. */
typedef struct {
    dp_inspect *inspect;
    int dir, index_dir;
    ort_tenant_id tenant;
    const dp_catalog_entry *entry;
    bool folded;       /* nothing stands in the log behind the checkpoint */
    dp_points *points; /* opened when the first file asks for them */
} dp_derived_files;

/* derived.c: graphs and payload indexes, against what they were made of.
 * folded  nothing stands in the log behind the checkpoint */
ORT_NODISCARD ort_err dp_inspect__derived(dp_inspect *i, int tenant_dir, int dir,
                                          ort_tenant_id tenant, const dp_catalog_entry *entry,
                                          bool folded, ort_diag *diag);

/* graph.c, payload.c: one file. ORT_ECORRUPT with the words when it is damaged; ORT_ESTALE,
 * ORT_EVERSION: of another state, and made anew by the next node that asks for it. */
ORT_NODISCARD ort_err dp_inspect__graph(dp_derived_files *d, const char *name, uint32_t column,
                                        ort_diag *diag);
ORT_NODISCARD ort_err dp_inspect__payload_index(dp_derived_files *d, size_t field, ort_diag *diag);

/* --- what is nobody's ------------------------------------------------------------------------- */

/* strays.c: a note on each name in dir/folder that `known` does not know. folder NULL: dir itself.
 */
typedef bool (*dp_known_fn)(void *ctx, const char *name);
ORT_NODISCARD ort_err dp_inspect__strays(dp_inspect *i, int dir, const char *folder,
                                         dp_known_fn known, void *ctx, const char *words,
                                         ort_diag *diag);

/* A dp_known_fn: ctx is a list of names, ended by NULL; name.new of each is known as well: what a
 * replacement that a crash ended leaves, and the next one writes over. */
bool dp_inspect__is_listed(void *ctx, const char *name);

/* Of the directories that have a list of their own. home: a collection's files stand in the
 * tenant's. */
ORT_NODISCARD ort_err dp_inspect__strays_of_root(dp_inspect *i, int root, ort_diag *diag);
ORT_NODISCARD ort_err dp_inspect__strays_of_tenant(dp_inspect *i, int dir, bool home,
                                                   ort_diag *diag);
ORT_NODISCARD ort_err dp_inspect__strays_of_shard(dp_inspect *i, int dir, ort_diag *diag);
#endif /* DP_INSPECT_INTERNAL_H */
