/* data-plane/storage/log.h: a shard's write-ahead log: commit log, replication stream and change
 * feed in one. What its bytes are stands in log_format.h, how it fails in README.md. */
#ifndef DP_LOG_H
#define DP_LOG_H
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"

/* Opaque. From dp_log_open() to dp_log_close().
 * Threads: any number in every call but open and close; the log locks itself. No thread of its own:
 * whoever waits first writes and syncs for everybody who has appended by then. */
typedef struct dp_log dp_log;

#define DP_LOG_BODY_BYTES_MAX (64u << 20) /* of one record: a request body and its overhead */

/* A place in the log: the record `lsn`, and its hash, which covers every record before it. Two logs
 * that have the same mark are equal up to there. {0} is the place before the first record. */
typedef struct {
    uint64_t lsn;
    uint64_t epoch;
    uint64_t hash;
} dp_log_mark;

typedef struct {
    ort_tenant_id tenant;       /* written into every file, checked at open */
    ort_collection_id shard;    /* likewise */
    uint64_t epoch;             /* of the records to come; at least that of the last one */
    dp_log_mark folded;         /* where the checkpoint stands: dp_points_mark(); {0} without one */
    uint64_t file_bytes_max;    /* a new file is begun beyond this; 0 = 64 MiB */
    uint64_t pending_bytes_max; /* appended but not yet written; appends wait beyond; 0 = 64 MiB */
} dp_log_config;

/* What open found, for the log line of a recovery. */
typedef struct {
    uint64_t first_lsn;  /* of the oldest record kept; last_lsn + 1 when none is */
    uint64_t last_lsn;   /* 0: none was ever written */
    uint64_t torn_bytes; /* cut behind the last whole record */
    uint32_t files;
} dp_log_found;

/* Opens the log beneath dir_fd (duplicated), or begins one when there is no file of it. Every
 * record is checked. A record that a crash tore, with whatever follows it of the same group commit,
 * is cut: no such group was answered.
 *
 * found  may be NULL
 *
 * ORT_ECORRUPT  damage that no crash explains: a bad record with synced ones behind it, a bad
 *               record that is all there, a missing file, a break in the chain, a log that ends
 *               before config.folded or begins behind it, another tenant's file. Nothing was
 * changed ORT_EVERSION  written by a newer program. Nothing was changed ORT_EIO, ORT_ENOSPC,
 * ORT_ENOMEM  *out is NULL, as for the others */
ORT_NODISCARD ort_err dp_log_open(dp_log **out, int dir_fd, const dp_log_config *config,
                                  dp_log_found *found, ort_diag *diag);

/* Begins the log of a shard that came with its points and without its records (a restored
 * snapshot): the first record of what dp_log_open() opens then follows config->folded. Durable when
 * this returns. dir_fd holds no log. ORT_EIO, ORT_ENOSPC. */
ORT_NODISCARD ort_err dp_log_begin(int dir_fd, const dp_log_config *config, ort_diag *diag);

/* Writes what is pending, marks the end as a clean one (from then on also damage to the very last
 * record is told from a torn tail), closes. NULL is fine. No other call may be under way. */
void dp_log_close(dp_log *log);

/* A record handed in. `term` tells it from another that later got the same LSN, after a full disk
 * had pushed this one out. */
typedef struct {
    uint64_t lsn;
    uint64_t term;
} dp_log_ticket;

/* Hands in a record; its bytes are copied. It is in order now and durable once dp_log_wait() says
 * so. Waits while too much is pending.
 *
 * type  the caller's, 1 .. 0xffff
 *
 * ORT_EINVAL  type 0, or over DP_LOG_BODY_BYTES_MAX
 * ORT_ENOMEM
 * ORT_EIO     the log has failed before: nothing is taken any more until it is opened again */
ORT_NODISCARD ort_err dp_log_append(dp_log *log, uint16_t type, const void *body, size_t len,
                                    dp_log_ticket *out, ort_diag *diag);

/* Returns when the record, and with it every one before, is on stable storage.
 *
 * ORT_ENOSPC  the disk was full: the record, and every one appended behind it, is not in the log
 *             and will not be; the log takes appends again, which succeed once there is room
 * ORT_EIO     a write or a sync failed: the record may be there after a reopen or not. The log has
 *             failed for good: a sync that failed is never asked again and never reported as
 *             success. While dp_log_check() says ORT_OK it is as with ORT_ENOSPC: the next file
 *             could not be begun, and nothing was written
 * ORT_EBUSY   there was no descriptor for the next file: likewise */
ORT_NODISCARD ort_err dp_log_wait(dp_log *log, dp_log_ticket ticket, ort_diag *diag);

/* The newest durable record. */
dp_log_mark dp_log_durable(dp_log *log);

/* Why the log takes nothing any more (ORT_OK: it does), with the words in diag. */
ORT_NODISCARD ort_err dp_log_check(dp_log *log, ort_diag *diag);

/* Records from the next append on carry this epoch. ORT_ESTALE: lower than the present one. */
ORT_NODISCARD ort_err dp_log_set_epoch(dp_log *log, uint64_t epoch, ort_diag *diag);

/* A record as it stands in the log; body is borrowed until the reader's next step. */
typedef struct {
    uint64_t lsn;
    uint64_t epoch;
    uint64_t prev_hash;
    uint64_t hash;
    uint16_t type;
    const unsigned char *body;
    size_t len;
} dp_log_record;

/* Reads durable records in order, for recovery, replicas and the change feed. The caller's storage;
 * one thread. A reader keeps the files it stands in readable, also while the log is cut. */
typedef struct dp_log_reader dp_log_reader;

/* ORT_ENOTFOUND: record from_lsn was cut already. from_lsn may be one past the last. */
ORT_NODISCARD ort_err dp_log_reader_open(dp_log_reader **out, dp_log *log, uint64_t from_lsn,
                                         ort_diag *diag);

/* *got false: no further durable record now; ask again later. ORT_ECORRUPT, ORT_EIO: the bytes have
 * gone bad since. ORT_ENOTFOUND: the log was cut beyond this reader. */
ORT_NODISCARD ort_err dp_log_reader_next(dp_log_reader *reader, dp_log_record *record, bool *got,
                                         ort_diag *diag);
void dp_log_reader_close(dp_log_reader *reader); /* NULL is fine */

/* Waits until a record behind `lsn` is durable; false: not until mono_ns, or the log failed. */
bool dp_log_wait_behind(dp_log *log, uint64_t lsn, uint64_t mono_ns);

/* Calls fn with every durable record from from_lsn on; stops at its first error and returns it. */
typedef ort_err (*dp_log_fn)(void *ctx, const dp_log_record *record, ort_diag *diag);
ORT_NODISCARD ort_err dp_log_replay(dp_log *log, uint64_t from_lsn, dp_log_fn fn, void *ctx,
                                    ort_diag *diag);

/* Removes whole files whose records are all at or below lsn (of a checkpoint that is on disk). The
 * newest file stays: it knows where the log stands. To let it be removed too, a new one is begun
 * when the newest holds nothing but such records and is no longer small. */
ORT_NODISCARD ort_err dp_log_cut(dp_log *log, uint64_t lsn, ort_diag *diag);

/* Packs the oldest file that is full, plain, and behind at least `keep` other full ones that are
 * plain: what is likely to be cut soon is not worth it. Writers are held up for a rename and a sync
 * of the directory. *packed_out false: there was none. One at a time, beside anybody.
 *
 * ORT_ECORRUPT  the file is damaged: it stays as it is
 * ORT_EIO, ORT_ENOSPC, ORT_ENOMEM, ORT_EBUSY (somebody is at it) likewise */
ORT_NODISCARD ort_err dp_log_pack(dp_log *log, uint32_t keep, int level, bool *packed_out,
                                  ort_diag *diag);

/* Whether dp_log_pack() would find one. */
bool dp_log_pack_due(dp_log *log, uint32_t keep);

/* Bytes of records behind `lsn`, for deciding when to checkpoint; roughly, by files. And what the
 * files take on disk. */
uint64_t dp_log_bytes_behind(dp_log *log, uint64_t lsn);
uint64_t dp_log_disk_bytes(dp_log *log);

typedef struct {
    uint64_t appends;    /* records */
    uint64_t groups;     /* writes, each with one sync */
    uint64_t bytes;      /* of records, as written */
    uint64_t zero_bytes; /* written ahead of them */
    uint64_t sync_ns;    /* time in fdatasync, summed */
    uint64_t sync_ns_max;
} dp_log_stats;
void dp_log_get_stats(dp_log *log, dp_log_stats *out);

/* Reads and checks every file beneath dir_fd and changes nothing. fn, where not NULL, gets each
 * record. Errors as of dp_log_open(). */
ORT_NODISCARD ort_err dp_log_verify(int dir_fd, const dp_log_config *config, dp_log_fn fn,
                                    void *ctx, dp_log_found *found, ort_diag *diag);
#endif /* DP_LOG_H */
