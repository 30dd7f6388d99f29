/* data-plane/tenant/snapshots.h: a tenant's snapshots, backups and restores.
 *
 *   tenants/<tenant id>/snapshots/<id>   a snapshot that the catalog names, or a file on its way
 *
 * Names that clients give are looked up in the catalog and never become paths: files are named by
 * random ids, and what no catalog names is swept when the tenant is next loaded. So a crash at any
 * step leaves a snapshot that is there whole or not at all, and a restore that happened or did not:
 * both are one replacement of the catalog.
 *
 * One snapshot, backup or restore of a tenant at a time, and DP_SNAPSHOT_JOBS_MAX of a node: they
 * are ORT_EBUSY beyond ("try again"). Threads: any, in every call. */
#ifndef DP_SNAPSHOTS_H
#define DP_SNAPSHOTS_H
#include "collection/snapshot.h"
#include "tenant/tenant.h"

#define DP_SNAPSHOTS_MAX 256u    /* of a tenant */
#define DP_SNAPSHOT_JOBS_MAX 4u  /* of a node at once */
#define DP_SNAPSHOT_READS_MAX 4u /* of a tenant at once: each takes a connection's thread */
#define DP_SNAPSHOT_FILES_MAX 4u /* of a tenant on their way at once: uploads, backups */
#define DP_SNAPSHOT_NAME_BYTES 128u

typedef struct {
    char name[DP_SNAPSHOT_NAME_BYTES]; /* "docs-2026-11-21-14-30-05-1f2e3d.snapshot" */
    int64_t created_ms;                /* wall time */
    uint64_t bytes;
    ort_hash sha256;
} dp_snapshot_info;

/* Where the tenant is pinned, as the routing table has it: written into the file. Borrowed. */
typedef struct {
    const char *const *regions;
    size_t region_count;
} dp_snapshot_pin;

/* --- snapshots of a collection ---------------------------------------------------------------- */

/* Takes one, consistent at one LSN, while writers go on; an alias is followed.
 * ORT_ENOTFOUND "Collection `x` doesn't exist!". ORT_EBUSY. ORT_EQUOTA: DP_SNAPSHOTS_MAX, or the
 * bytes of dp_tenant_files_max(). ORT_ENOSPC, ORT_EIO, ORT_ENOMEM: nothing is there. */
ORT_NODISCARD ort_err dp_tenant_snapshot_create(dp_tenant *t, const char *name, size_t len,
                                                const dp_snapshot_pin *pin, dp_snapshot_info *out,
                                                ort_diag *diag);

/* Oldest first. fn returns false to stop; called without a lock held. */
typedef bool (*dp_snapshot_fn)(void *ctx, const dp_snapshot_info *info);
ORT_NODISCARD ort_err dp_tenant_snapshot_list(dp_tenant *t, const char *name, size_t len,
                                              dp_snapshot_fn fn, void *ctx, ort_diag *diag);

/* A descriptor of the file, for dp_tenant_snapshot_close(); it stays readable when the snapshot is
 * deleted.
 * ORT_ENOTFOUND: no such collection, or no such snapshot of it. ORT_EBUSY: DP_SNAPSHOT_READS_MAX
 * are open. */
ORT_NODISCARD ort_err dp_tenant_snapshot_open(dp_tenant *t, const char *name, size_t len,
                                              const char *snapshot, int *fd_out,
                                              dp_snapshot_info *out, ort_diag *diag);
void dp_tenant_snapshot_close(dp_tenant *t, int fd);
ORT_NODISCARD ort_err dp_tenant_snapshot_delete(dp_tenant *t, const char *name, size_t len,
                                                const char *snapshot, ort_diag *diag);

/* --- files on their way ----------------------------------------------------------------------- */

/* A file of the tenant that goes with its handle: an upload, a backup before it is sent. Counted
 * among the tenant's physical bytes, and bounded with its snapshots by dp_tenant_files_max().
 * Holds a reference to the tenant. One thread. */
typedef struct dp_tenant_file dp_tenant_file;

/* ORT_EBUSY: DP_SNAPSHOT_FILES_MAX are on their way. ORT_EIO, ORT_ENOSPC, ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_tenant_file_new(dp_tenant_file **out, dp_tenant *t, ort_diag *diag);
void dp_tenant_file_free(dp_tenant_file *file); /* NULL is fine */

/* Appends. ORT_EQUOTA: over the bound. ORT_ENOSPC: the disk is (almost) full. ORT_EIO. */
ORT_NODISCARD ort_err dp_tenant_file_write(dp_tenant_file *file, const void *bytes, size_t n,
                                           ort_diag *diag);
int dp_tenant_file_peek_fd(const dp_tenant_file *file);
uint64_t dp_tenant_file_bytes(const dp_tenant_file *file);
void dp_tenant_file_sha256(const dp_tenant_file *file, ort_hash *out); /* of what was written */

/* What snapshots and such files of a tenant may take together: twice its limit on logical bytes and
 * 64 MiB; UINT64_MAX when it has no such limit. */
uint64_t dp_tenant_files_max(dp_tenant *t);

/* --- restoring -------------------------------------------------------------------------------- */

/* Makes the collection of the file the collection `name`: in the place of the one of that name (or
 * alias; aliases and snapshots stay with the name), or as a new one. What the file says of its
 * schema counts. The file is read whole and checked before anything changes, and then everything
 * changes at once; who was reading goes on with the old one to the end of his call.
 *
 * region  of this node: a file that says it is pinned elsewhere is refused
 *
 * ORT_EINVAL   the file is not sound, or no collection's; ORT_EREGION
 * ORT_EQUOTA   it does not fit the tenant's limits: counted exactly, the old one's room included
 * ORT_EBUSY, ORT_ENOSPC, ORT_EIO, ORT_ENOMEM: as it was, as for all others */
ORT_NODISCARD ort_err dp_tenant_restore_collection(dp_tenant *t, const char *name, size_t len,
                                                   int fd, const char *region,
                                                   dp_snapshot_totals *out, ort_diag *diag);

/* Writes all collections of the tenant into one file, each consistent at an LSN of its own, closed
 * ones read from their files without being opened. */
ORT_NODISCARD ort_err dp_tenant_backup(dp_tenant *t, const dp_snapshot_pin *pin,
                                       dp_tenant_file **out, dp_snapshot_totals *totals,
                                       ort_diag *diag);

/* Makes what a backup holds (collections and aliases) all that the tenant has; snapshots stay with
 * collections of the same name. Errors as of dp_tenant_restore_collection(), and
 * ORT_ECONFLICT  the tenant has collections already, and `replace` was not said */
ORT_NODISCARD ort_err dp_tenant_restore(dp_tenant *t, int fd, const char *region, bool replace,
                                        dp_snapshot_totals *out, ort_diag *diag);

/* The node's disk is almost full: no file grows. */
void dp_tenants_set_disk_low(dp_tenants *all, bool low);

/* Runs fn(arg) on a thread of its own; dp_tenants_close() waits for it. For `wait=false`. */
ORT_NODISCARD ort_err dp_tenants_background(dp_tenants *all, void (*fn)(void *), void *arg,
                                            ort_diag *diag);

/* --- of a tenant that no process has open: for verify and repair ------------------------------ */

/* Calls fn with each snapshot that the catalog names; `file` is its name in snapshots/. All is
 * borrowed for the call; stops at its first error. Errors as of dp_catalog_read(). */
typedef ort_err (*dp_catalog_snapshot_fn)(void *ctx, ort_collection_id file,
                                          ort_collection_id collection,
                                          const dp_snapshot_info *info, ort_diag *diag);
ORT_NODISCARD ort_err dp_catalog_read_snapshots(int tenant_dir, ort_tenant_id id,
                                                dp_catalog_snapshot_fn fn, void *ctx,
                                                ort_diag *diag);

/* Takes a snapshot out of the catalog; the file stays. Errors as above, and ORT_ENOSPC. */
ORT_NODISCARD ort_err dp_catalog_forget_snapshot(int tenant_dir, ort_tenant_id id,
                                                 ort_collection_id file, ort_diag *diag);
#endif /* DP_SNAPSHOTS_H */
