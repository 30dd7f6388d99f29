/* data-plane/storage/repair.h: makes of a damaged shard one that opens, with all of it that is
 * good. */
#ifndef DP_REPAIR_H
#define DP_REPAIR_H
#include "storage/points.h"

/* A line for people about what was done, or is lost. */
typedef void (*dp_say_fn)(void *arg, const char *line);

typedef struct {
    bool changed;
    uint64_t points_kept, points_lost; /* of segments, when these were written anew */
    uint64_t records_lost;             /* of the log, that are known of */
} dp_repair_report;

/* Checks everything as dp_storage_verify() does; what is damaged is made anew from what is good:
 *   a segment   its points whose rows, values and payload all have the right checksum go into a new
 *               one; the ids of the others are said
 *   manifest    of every id in the segments the newest version counts. Points that were deleted
 *               after their segment was written, and whose delete the log has no more, come back
 *   log         its records behind the checkpoint, as far as they follow one another, go into a new
 *               file; those behind a gap are said
 * Nothing is destroyed: what is replaced is moved to the directory `lost` beside it, for the
 * operator to look at and remove. The new files are whole and durable before the manifest is
 * replaced; a repair that was interrupted is begun again. No process may have the shard open.
 *
 * Graphs of the shard are of no use afterwards when *report says that it changed.
 *
 * ORT_EVERSION   written by a newer program: nothing was done
 * ORT_ECORRUPT   it belongs to another tenant or shard, or is still damaged afterwards
 * ORT_EIO, ORT_ENOSPC, ORT_ENOMEM */
ORT_NODISCARD ort_err dp_storage_repair(int dir_fd, ort_tenant_id tenant, ort_collection_id shard,
                                        dp_say_fn say, void *arg, dp_repair_report *report,
                                        ort_diag *diag);
#endif /* DP_REPAIR_H */
