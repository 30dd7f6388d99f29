/* data-plane/storage/repair_internal.h: what the parts of a repair share. */
#ifndef DP_REPAIR_INTERNAL_H
#define DP_REPAIR_INTERNAL_H
#include <stdio.h>

#include "storage/manifest.h"
#include "storage/repair.h"

#define DP_REPAIR_LOST "lost"    /* what was replaced */
#define DP_REPAIR_WORK "repair"  /* what is being made */
#define DP_REPAIR_NAMED_MAX 200u /* ids said one by one; the rest is counted */

typedef struct {
    int dir_fd, lost_fd, work_fd; /* the latter two: -1 until needed */
    ort_tenant_id tenant;
    ort_collection_id shard;
    dp_say_fn say;
    void *arg;
    dp_repair_report *report;
} dp_repair;

/* Says a line, as printf. */
#define DP_REPAIR_LINE_BYTES 1024
#define dp_repair__say(r, ...)                                    \
    do {                                                          \
        char say_line_[DP_REPAIR_LINE_BYTES];                     \
        (void)snprintf(say_line_, sizeof say_line_, __VA_ARGS__); \
        (r)->say((r)->arg, say_line_);                            \
    } while (0)

/* Moves a file of the shard to `lost`; ORT_OK also when there is none. */
ORT_NODISCARD ort_err dp_repair__put_aside(dp_repair *r, const char *name, ort_diag *diag);

/* Calls fn with every name in the shard's directory that begins with prefix; stops at an error. */
typedef ort_err (*dp_repair_name_fn)(void *ctx, const char *name, ort_diag *diag);
ORT_NODISCARD ort_err dp_repair__each(dp_repair *r, const char *prefix, dp_repair_name_fn fn,
                                      void *ctx, ort_diag *diag);

/* repair_points.c: new segments and a new manifest from what is good of the old ones.
 * m     the manifest, or NULL when it is lost
 * mark  for a lost manifest: where the log goes on behind the segments */
ORT_NODISCARD ort_err dp_repair__points(dp_repair *r, const dp_manifest *m, const dp_log_mark *mark,
                                        ort_diag *diag);

/* The greatest version in any segment; 0: there is none. */
ORT_NODISCARD ort_err dp_repair__newest_version(dp_repair *r, uint64_t *out, ort_diag *diag);

/* repair_log.c: a log of the records that follow `mark`. */
ORT_NODISCARD ort_err dp_repair__log(dp_repair *r, dp_log_mark mark, ort_diag *diag);

/* The record `lsn` or, when the log has it no more, the last one before the log begins. {0}: the
 * log begins with the first record there ever was; or it is gone. */
ORT_NODISCARD ort_err dp_repair__mark(dp_repair *r, uint64_t lsn, dp_log_mark *out, ort_diag *diag);
#endif /* DP_REPAIR_INTERNAL_H */
