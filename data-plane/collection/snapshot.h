/* data-plane/collection/snapshot.h: collections in one portable file, written while writers go on
 * and read back whole or not at all.
 *
 * A file holds one collection (Qdrant's snapshot calls) or all of a tenant's (backup). It names no
 * path, no slot and no node: another hub, under another name, reads the same file. What its bytes
 * are stands at the head of snapshot_file.c. Every byte of a file is an outsider's: a reader
 * believes a number only once a bound or a checksum stands behind it, and a collection is filled
 * into directories that nothing names yet. */
#ifndef DP_SNAPSHOT_H
#define DP_SNAPSHOT_H
#include "base/id.h"
#include "collection/collection.h"
#include "crypto/hash.h"

/* Numbers leave the process: append, never change. */
typedef enum {
    DP_SNAPSHOT_COLLECTION = 1, /* one collection, without its aliases */
    DP_SNAPSHOT_TENANT = 2,     /* any number, with the tenant's aliases */
} dp_snapshot_kind;

#define DP_SNAPSHOT_REGIONS_MAX 64u
#define DP_SNAPSHOT_COLLECTIONS_MAX 100000u
#define DP_SNAPSHOT_ALIASES_MAX 100000u /* of one collection */

/* What a file says of itself. */
typedef struct {
    dp_snapshot_kind kind;
    ort_tenant_id tenant; /* whose it was; a reader may belong to another */
    int64_t created_ms;   /* wall time */
    /* Where the tenant was pinned: a node elsewhere must refuse the file. None: anywhere. */
    const char *const *regions;
    size_t region_count;
} dp_snapshot_about;

typedef struct {
    uint64_t file_bytes;
    uint64_t collections, points;
    uint64_t bytes;  /* logical */
    ort_hash sha256; /* of the whole file, as sha256sum says it */
} dp_snapshot_totals;

typedef struct {
    uint64_t bytes_max; /* of the file; 0 = no limit */
    /* Asked before each block: anything but ORT_OK ends the work with that. May be NULL. */
    ort_err (*check)(void *arg, ort_diag *diag);
    void *arg;
} dp_snapshot_bounds;

/* --- writing ---------------------------------------------------------------------------------- */

/* Opaque. From dp_snapshot_writer_new() to dp_snapshot_writer_free(); one thread. */
typedef struct dp_snapshot_writer dp_snapshot_writer;

/* Begins a file in fd (empty, for writing; the caller's, stays open).
 * ORT_EIO, ORT_ENOSPC, ORT_EQUOTA (bounds.bytes_max), ORT_ENOMEM: the file is of no use; likewise
 * below. */
ORT_NODISCARD ort_err dp_snapshot_writer_new(dp_snapshot_writer **out, int fd,
                                             const dp_snapshot_about *about,
                                             const dp_snapshot_bounds *bounds, ort_diag *diag);
void dp_snapshot_writer_free(dp_snapshot_writer *writer); /* NULL is fine */

/* Writes the collection as it is at one LSN. Writers are held up for one group commit, and go on
 * while this runs; checkpoints wait for its end.
 *
 * aliases  its names besides `name`; only in a tenant's file
 *
 * ORT_EBUSY     another snapshot of the collection is being taken, or the shard takes no writes
 * ORT_ECORRUPT  the collection is damaged */
ORT_NODISCARD ort_err dp_snapshot_put(dp_snapshot_writer *writer, dp_collection *collection,
                                      const char *name, const char *const *aliases,
                                      size_t alias_count, ort_diag *diag);

/* A collection that nobody has open, as its files say at this moment. Opening it afterwards, and
 * writing to it, changes nothing of that; opening it meanwhile is not allowed. Nothing is written,
 * nothing built, nothing charged to a quota. Opaque. From dp_still_open() to dp_still_close(). */
typedef struct dp_still dp_still;

/* config  tenant, id, name, schema; the rest is not looked at
 *
 * Errors as of dp_collection_open(). */
ORT_NODISCARD ort_err dp_still_open(dp_still **out, int data_dir,
                                    const dp_collection_config *config, ort_diag *diag);
void dp_still_close(dp_still *still); /* NULL is fine */

/* As dp_snapshot_put(). */
ORT_NODISCARD ort_err dp_snapshot_put_still(dp_snapshot_writer *writer, dp_still *still,
                                            const char *name, const char *const *aliases,
                                            size_t alias_count, ort_diag *diag);

/* Ends the file and makes it durable. */
ORT_NODISCARD ort_err dp_snapshot_finish(dp_snapshot_writer *writer, dp_snapshot_totals *out,
                                         ort_diag *diag);

/* --- reading ---------------------------------------------------------------------------------- */

/* Opaque. From dp_snapshot_reader_open() to dp_snapshot_reader_close(); one thread.
 *
 *   open -> { next -> fill } ... -> next with *got false: all of the file was read and is as its
 *   end says
 *
 * ORT_EINVAL from any of them: the file is not sound; diag says what, and where. ORT_EVERSION: it
 * was written by a newer program. Whoever gets anything but ORT_OK throws away what was filled. */
typedef struct dp_snapshot_reader dp_snapshot_reader;

/* fd  for reading from byte 0 on; the caller's, stays open */
ORT_NODISCARD ort_err dp_snapshot_reader_open(dp_snapshot_reader **out, int fd,
                                              const dp_snapshot_bounds *bounds, ort_diag *diag);
void dp_snapshot_reader_close(dp_snapshot_reader *reader); /* NULL is fine */

const dp_snapshot_about *dp_snapshot_peek_about(const dp_snapshot_reader *reader);

/* A collection of the file. Borrowed until the next call of dp_snapshot_next(). */
typedef struct {
    const char *name; /* checked as one that is created */
    dp_schema *schema;
    const char *const *aliases; /* likewise checked */
    size_t alias_count;
    uint64_t points, bytes; /* what will come: exactly that, or the file is refused */
    uint64_t lsn;
} dp_snapshot_item;

/* Goes to the next collection; the one before must have been filled. */
ORT_NODISCARD ort_err dp_snapshot_next(dp_snapshot_reader *reader, dp_snapshot_item *out, bool *got,
                                       ort_diag *diag);

/* Makes the present collection in an empty directory, checkpointed and durable, its log going on at
 * the LSN of the snapshot; memory stays bounded whatever its size, by 4,096 of its points. data_dir
 * -1: checks only (but not that ids are unique).
 *
 * tenant, id  written into the files
 *
 * ORT_EIO, ORT_ENOSPC, ORT_ENOMEM, and what bounds.check says */
ORT_NODISCARD ort_err dp_snapshot_fill(dp_snapshot_reader *reader, int data_dir,
                                       ort_tenant_id tenant, ort_collection_id id, ort_diag *diag);

/* Of the whole file, once dp_snapshot_next() has said that there is no more. */
const dp_snapshot_totals *dp_snapshot_peek_totals(const dp_snapshot_reader *reader);
#endif /* DP_SNAPSHOT_H */
