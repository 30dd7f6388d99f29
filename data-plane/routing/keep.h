/* data-plane/routing/keep.h: the applied table on disk, so that a node serves after its own restart
 * with the control plane gone.
 *
 * Three files beneath the node's directory:
 *
 *   table       replaced atomically. All integers little-endian:
 *        0     8  magic         "ORTKEPT" and the version: 1
 *        8     4  crc32c        of all that follows
 *       12     4  envelope_len
 *       16     4  raw_len       bytes of the state's JSON; 0: the envelope is a whole table
 *       20     4  packed_len
 *       24     n  envelope      as it came, signed (wire/envelope.c)
 *     24+n     m  state         zstd: the whole table's body, when the envelope is a change
 *
 *   table.log   changes since, 1 MiB preallocated and written over and over:
 *        0     4  len           0 = nothing more
 *        4     4  crc32c        of the len field and the bytes
 *        8     n  envelope      its own magic has its version (wire/envelope.c)
 *
 *   watermark   two slots of 64 bytes, written in turn, the greater good one counts:
 *        0     8  generation
 *        8     8  version
 *       16    32  hash
 *       48     4  crc32c        of bytes 0..47
 *       52     4  version       2; version 1 had zeroes from here on
 *       56     4  crc32c        of bytes 0..55
 *       60     4  zero
 *
 * Why a log: the directory names every tenant of the hub, 8 MB at 100,000; written and fsynced
 * whole at each change of a key it would be most of what a node does. Why preallocated: a node
 * whose disk is full must still be able to keep a revocation, and so to apply it. Why a state
 * without its own signature is believed: the envelope beside it is signed and names the state's
 * hash. A record is skipped when it is not newer than what is there, so the log needs no
 * truncation. */
#ifndef DP_KEEP_H
#define DP_KEEP_H
#include "base/err.h"
#include "routing/table.h"
#include "wire/table.h"

typedef struct dp_keep dp_keep;

/* Who may have signed it, and for whom. */
typedef struct {
    uint64_t hub_id;
    ort_node_id node;
    ort_sign_public control_key;
} dp_keep_owner;

/* Opens or makes the files; loads nothing yet. dir_fd is borrowed until close.
 * ORT_EVERSION: a newer program wrote the watermark. What it forbids must not be forgotten, so the
 * node does not go on without it. */
ORT_NODISCARD ort_err dp_keep_open(dp_keep **out, int dir_fd, ort_diag *diag);
void dp_keep_close(dp_keep *keep); /* NULL is fine */

/* The greatest position ever applied; zeroes: none. */
ort_table_at dp_keep_watermark(const dp_keep *keep);

/* Reads what was kept.
 * ORT_OK         *out is the table to serve
 * ORT_ENOTFOUND  nothing was kept
 * ORT_ECORRUPT   damaged, or not signed for this owner; ORT_ESTALE: older than the watermark, so
 * that serving it might let revoked keys in; ORT_EVERSION: a newer program wrote it. All three:
 * fetch anew. */
ORT_NODISCARD ort_err dp_keep_load(dp_keep *keep, const dp_keep_owner *owner, const dp_table **out,
                                   ort_diag *diag);

/* Makes a table that has been verified durable, then the watermark. `after` is the state it leads
 * to; head says whether the envelope is whole. On failure what was kept before is still there. */
ORT_NODISCARD ort_err dp_keep_put(dp_keep *keep, const ort_table_head *head, const void *envelope,
                                  size_t n, const ort_table *after, ort_diag *diag);

/* What dp_keep_verify() saw. */
typedef struct {
    uint64_t files, bytes;
    ort_table_at table, mark; /* zeroes: none, or not known */
    bool mark_damaged;        /* both slots: the node goes by the table's own position */
} dp_keep_report;

/* Reads all three and changes nothing; no node may be running on them.
 *
 * owner  NULL: not known; checksums are compared and no signature
 *
 * ORT_OK also when there is no table; out->table is zero then. ORT_ECORRUPT, ORT_ESTALE,
 * ORT_EVERSION: as above, diag says of which file */
ORT_NODISCARD ort_err dp_keep_verify(int dir_fd, const dp_keep_owner *owner, dp_keep_report *out,
                                     ort_diag *diag);

/* What dp_keep_verify() found bad is removed: a node without a table fetches one. */
ORT_NODISCARD ort_err dp_keep_remove(int dir_fd, bool mark, ort_diag *diag);
#endif /* DP_KEEP_H */
