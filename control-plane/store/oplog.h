/* control-plane/store/oplog.h: the record of every change; audit, deltas and a standby read it.
 *
 * hash = BLAKE2b-256 over, in this order, integers little-endian, each text after its u32 length:
 *
 *   "orthant-oplog-1" (15 bytes)  version u64  prev_hash[32]  at_ms i64  actor  op
 *   tenant u64 (0 = the hub)  denial u8  before  after  request_id
 *
 * before and after are JSON objects from "table/key" to the row (or null where there is none),
 * members sorted: {"keys/0abc...":null,"tenants/00f1...":{...}}. prev_hash of version 1 is zero. */
#ifndef CP_OPLOG_H
#define CP_OPLOG_H
#include "crypto/hash.h"
#include "store/store.h"

/* Texts are borrowed for the visit. */
typedef struct {
    uint64_t version;
    ort_hash prev_hash;
    ort_hash hash;
    int64_t at_ms;
    const char *actor;
    const char *op;
    ort_tenant_id tenant; /* 0: the hub's */
    bool denial;
    const char *before;
    const char *after;
    const char *request_id; /* "" where there was none */
} cp_oplog_record;

typedef ort_err (*cp_oplog_visit)(void *ctx, const cp_oplog_record *record);

typedef struct {
    uint64_t after; /* versions above it (ascending) or below it (newest_first; 0 = from the end) */
    bool newest_first;
    uint32_t limit;       /* 0 = no bound */
    ort_tenant_id tenant; /* only its records; 0 = all */
    const char *op;       /* only this op; NULL = all. "key." = all that begin so */
    const char *actor;    /* NULL = all */
    int64_t from_ms;      /* 0 = any time */
    int64_t to_ms;        /* exclusive; 0 = any time */
    bool for_people;      /* members "hash" of rows (keyed hashes of tokens) read "(hidden)" */
} cp_oplog_query;
ORT_NODISCARD ort_err cp_oplog_list(cp_tx *tx, const cp_oplog_query *query, cp_oplog_visit visit,
                                    void *ctx, ort_diag *diag);

/* What verification found. */
typedef struct {
    bool intact;
    uint64_t records;     /* that were read and fit */
    uint64_t bad_version; /* the first that does not fit; 0 when intact */
    ort_hash head;        /* hash of the last good one */
    char detail[256];     /* for people: what does not fit */
} cp_oplog_verdict;

/* Walks the whole chain: each record's hash, its link to the one before, no gap in versions, and
 * the end against the hub's row (a cut tail). ORT_OK also when the chain is broken: see the
 * verdict.
 *
 * expect_version, expect_head  an earlier, exported head that must still be on the chain (who can
 * write the file can write a whole new chain, but not one through a head kept elsewhere); 0, NULL
 */
ORT_NODISCARD ort_err cp_oplog_verify(cp_tx *tx, uint64_t expect_version,
                                      const ort_hash *expect_head, cp_oplog_verdict *out,
                                      ort_diag *diag);

/* The rows that records up to a version leave, compared with the tables as they are: what an op log
 * is worth as a source. ORT_OK also when they differ: *differ_out names the first row, else is "".
 */
ORT_NODISCARD ort_err cp_oplog_compare_state(cp_tx *tx, char differ_out[256], ort_diag *diag);

/* The newest version that took something away; 0: none. */
ORT_NODISCARD ort_err cp_oplog_last_denial(cp_tx *tx, uint64_t *version_out, ort_diag *diag);
#endif /* CP_OPLOG_H */
