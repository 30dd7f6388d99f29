/* control-plane/store/store.h: desired state of the hub, kept so that a crash leaves all of a
 * change or nothing of it, with its record in the op log.
 *
 * Work is done inside a transaction (cp_tx), of which there are three kinds:
 *
 *   cp_store_begin()       a change: rows are put by the typed functions of this folder; commit
 *                          writes ONE op-log record that holds every row as it was and as it is
 *                          now, and the hub's version grows by one
 *   cp_store_begin_note()  an observation: usage counters, last use, what a node reported. Not in
 *                          the op log, no new version
 *   cp_store_begin_read()  a consistent snapshot of everything at one version
 *
 * Rows that are desired state record themselves in the transaction when they are put, so no caller
 * can forget it, and state = fold(op_log) holds by construction. Nothing here knows rules (who may,
 * what is sensible): that is tenancy/. No SQL and no SQLite type leaves this folder. */
#ifndef CP_STORE_H
#define CP_STORE_H
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "store/types.h"

/* Opaque. From cp_store_open() to cp_store_close(). Threads: any. One change or note at a time (the
 * others wait in cp_store_begin), reads beside it. */
typedef struct cp_store cp_store;

/* Opaque. From a cp_store_begin*() to cp_tx_commit() or cp_tx_end(). Threads: one. A thread that
 * holds one must not begin another. */
typedef struct cp_tx cp_tx;

typedef struct {
    const char *path; /* database file; made (0600) when missing; its directory must exist */
    uint32_t readers; /* snapshots at the same time; 0 = 8 */
    uint32_t wait_ms; /* for the writer's turn, a snapshot, or a lock of another process (backup);
                         then ORT_EBUSY. 0 = 10000 */
    bool full_check;  /* read every page at open (seconds per GiB) instead of a quick look */
    bool read_only;   /* only look, also while a hub is running: no migration, no change, no note
                         (ORT_EDENIED), and no second process is kept out */
    const char *migrations; /* tests only: "0001" = stop after that one. NULL = all */
} cp_store_options;

/* Opens, brings the schema up to date (each migration in one transaction), and at the first start
 * makes the hub's row and the plans `default` and `enterprise`.
 *
 * ORT_EVERSION  the database was written by a newer program, or a migration has changed since it
 *               was applied; nothing was touched
 * ORT_ECORRUPT  not our database, or damaged; diag says what was found
 * ORT_EBUSY     another process holds it
 * ORT_EIO, ORT_ENOSPC, ORT_ENOMEM */
ORT_NODISCARD ort_err cp_store_open(cp_store **out, const cp_store_options *options,
                                    ort_diag *diag);

/* Waits for nothing: all transactions must have ended. NULL is fine. */
void cp_store_close(cp_store *store);

/* Called after each change that was committed, on the thread that committed it, with no lock of the
 * store held. Set once, before threads start. */
void cp_store_on_change(cp_store *store, void (*fn)(void *ctx, uint64_t version), void *ctx);

/* Reads every page and every foreign key. ORT_ECORRUPT: diag has the first finding. */
ORT_NODISCARD ort_err cp_store_check(cp_store *store, ort_diag *diag);

/* Writes a consistent copy of the database to `path` (must not exist) while the store goes on
 * working. The copy has the same hub_generation: who restores from it calls
 * cp_hub_bump_generation() (store/hub.h) before nodes are served. */
ORT_NODISCARD ort_err cp_store_backup(cp_store *store, const char *path, ort_diag *diag);

/* For /metrics. */
typedef struct {
    uint64_t changes_total; /* since open */
    uint64_t notes_total;
    uint64_t rollbacks_total;
    uint64_t errors_total; /* SQLite errors other than a refused constraint */
    uint64_t version;      /* newest committed */
    uint64_t file_bytes;   /* database and WAL */
    uint64_t commit_ns_total;
} cp_store_stats;
void cp_store_stats_get(cp_store *store, cp_store_stats *out);

/* ---- transactions ---- */

/* Who changes something, and why it may be replayed. Borrowed until the transaction ends. */
typedef struct {
    const char *actor; /* "operator:<token id>", "tenant-admin:<token id>", "node:<id>", "system";
                          at most CP_ACTOR_BYTES - 1 */
    const char *request_id; /* NULL or "" where there is none */

    /* Called inside the transaction, right before it commits, when all rows are put: the place to
     * store the answer under an idempotency key together with the change itself. Its failure rolls
     * all back and is what the caller of commit gets. May be NULL. */
    ort_err (*before_commit)(void *ctx, cp_tx *tx, ort_diag *diag);
    void *ctx;
} cp_author;

/* ORT_EBUSY: the turn did not come within wait_ms. *out is NULL on failure. */
ORT_NODISCARD ort_err cp_store_begin(cp_store *store, const cp_author *author, cp_tx **out,
                                     ort_diag *diag);
ORT_NODISCARD ort_err cp_store_begin_note(cp_store *store, cp_tx **out, ort_diag *diag);
ORT_NODISCARD ort_err cp_store_begin_read(cp_store *store, cp_tx **out, ort_diag *diag);

typedef struct {
    const char *op;       /* "tenant.create": noun.verb, lower case */
    ort_tenant_id tenant; /* whose record this is in the tenant's own audit; 0 = the hub's */
    bool denial; /* takes something away (revoke, suspend, lower limit, narrower pin): pushed first
                  */
} cp_change;

/* Ends the transaction, whatever it returns: tx is gone. On failure nothing has happened.
 *
 * change       what to call it; NULL for a note
 * version_out  (may be NULL) the hub's version after it. A change that changed no row writes no
 *              record and gives the version as it was */
ORT_NODISCARD ort_err cp_tx_commit(cp_tx *tx, const cp_change *change, uint64_t *version_out,
                                   ort_diag *diag);

/* Ends a read, or rolls a change or note back. NULL is fine. */
void cp_tx_end(cp_tx *tx);

/* Wall time of the transaction's begin: one moment for all its rows. */
int64_t cp_tx_now_ms(const cp_tx *tx);

/* The version this transaction sees: in a change, the one before it. */
uint64_t cp_tx_version(const cp_tx *tx);

const cp_author *cp_tx_peek_author(const cp_tx *tx); /* NULL but in a change */

/* ---- pages ----
 * Every list function walks rows in ascending order of a key that a row keeps for life, beginning
 * after `after`, and calls visit for at most `limit` rows. So pages never skip or repeat a row that
 * stays, whatever is inserted meanwhile. The row is borrowed for the call. visit returns ORT_OK to
 * go on; any other value ends the walk and is returned. visit must not write. */
typedef struct {
    const char *after; /* key of the last row seen; NULL or "" = from the start */
    uint32_t limit;    /* 0 = no bound */
} cp_page;

/* Cursors as clients see them: opaque text for a key of a list. kind ("tenants") is sealed in, so
 * that a cursor of another list is refused. */
#define CP_CURSOR_BYTES 512
void cp_cursor_format(const char *kind, const char *key, char out[CP_CURSOR_BYTES]);
/* ORT_EINVAL: not a cursor of that list. key_out has room for CP_CURSOR_BYTES. */
ORT_NODISCARD ort_err cp_cursor_parse(const char *kind, const char *text, size_t len,
                                      char key_out[CP_CURSOR_BYTES], ort_diag *diag);
#endif /* CP_STORE_H */
