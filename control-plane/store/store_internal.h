/* control-plane/store/store_internal.h: what the files of this folder share; the only header here
 * that knows SQLite. */
#ifndef CP_STORE_INTERNAL_H
#define CP_STORE_INTERNAL_H
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/map.h"
#include "crypto/hash.h"
#include "store/store.h"

/* ---- connections and statements (sql.c) ---- */

/* A prepared statement, kept under the address of its text: texts are string literals. `busy` while
 * a query runs it; a second query of the same text meanwhile (a visit that looks something up) gets
 * a statement of its own. */
typedef struct {
    const char *sql;
    sqlite3_stmt *stmt;
    bool busy;
} cp__stmt;

#define CP__STMTS 256 /* power of two, more than twice the statements of this folder */

typedef struct {
    sqlite3 *db;
    cp__stmt stmts[CP__STMTS];
    bool in_use; /* readers: guarded by cp_store.lock */
} cp__conn;

ORT_NODISCARD ort_err cp__conn_open(cp__conn *conn, const char *path, bool read_only,
                                    uint32_t wait_ms, ort_diag *diag);
void cp__conn_close(cp__conn *conn);

/* What SQLite's last failure on this connection means, in words. */
ort_err cp__sql_fail(cp__conn *conn, int rc, const char *doing, ort_diag *diag);

/* Runs statements without parameters and results. */
ORT_NODISCARD ort_err cp__conn_run(cp__conn *conn, const char *sql, ort_diag *diag);

/* One query, from cp__q() to cp__q_end():
 *
 *     cp__query q = cp__q(tx, "SELECT name FROM t WHERE id = ?");
 *     cp__bind_text(&q, id);
 *     while (cp__step(&q)) { ... cp__col_i64(&q, 0) ... }
 *     return cp__q_end(&q, diag);
 *
 * The first failure is kept and later calls do nothing, so only the end is checked. Parameters are
 * bound in order. Texts are borrowed until the end. */
typedef struct {
    cp__conn *conn;
    cp_tx *tx; /* NULL outside one */
    sqlite3_stmt *stmt;
    cp__stmt *slot; /* NULL: finalize stmt at the end */
    int next;
    int rc; /* SQLITE_OK, or the first failure */
} cp__query;

cp__query cp__q(cp_tx *tx, const char *sql);
cp__query cp__q_on(cp__conn *conn, const char *sql);
void cp__bind_i64(cp__query *q, int64_t v);
void cp__bind_u64(cp__query *q, uint64_t v);        /* at most INT64_MAX: more is cut to that */
void cp__bind_limit(cp__query *q, uint64_t v);      /* CP_UNLIMITED is -1 */
void cp__bind_text(cp__query *q, const char *text); /* NULL is NULL */
void cp__bind_blob(cp__query *q, const void *bytes, size_t n);
void cp__bind_id(cp__query *q, uint64_t id); /* 16 hex digits; 0 is NULL */
void cp__bind_null(cp__query *q);
bool cp__step(cp__query *q); /* true: a row */
ORT_NODISCARD ort_err cp__q_end(cp__query *q, ort_diag *diag);
/* Runs a statement that gives no rows, and ends it. */
ORT_NODISCARD ort_err cp__q_run(cp__query *q, ort_diag *diag);

int64_t cp__col_i64(cp__query *q, int column);
uint64_t cp__col_u64(cp__query *q, int column); /* negative reads as 0 */
uint64_t cp__col_limit(cp__query *q, int column);
uint64_t cp__col_id(cp__query *q, int column); /* NULL is 0 */
bool cp__col_is_null(cp__query *q, int column);
/* Borrowed until the next step. Never NULL: a NULL column is "". */
const char *cp__col_text(cp__query *q, int column);
/* Into out[size]; a longer text is damage (SQLITE_CORRUPT is kept). */
void cp__col_copy(cp__query *q, int column, char *out, size_t size);
void cp__col_blob(cp__query *q, int column, void *out, size_t n); /* exactly n bytes */
void cp__col_hash_hex(cp__query *q, int column, unsigned char out[32]);
/* The row cannot be what we wrote. */
void cp__q_damaged(cp__query *q);

/* ---- transactions (tx.c) ---- */

typedef enum { CP__READ, CP__NOTE, CP__CHANGE } cp__tx_kind;

/* A row that this change has put or removed. */
typedef struct {
    char *name;   /* "tenants/00f1..." */
    char *before; /* JSON of the row, or "null" */
    char *after;  /* set at commit */
    unsigned table;
} cp__touched;

struct cp_tx {
    cp_store *store;
    cp__conn *conn;
    cp__tx_kind kind;
    const cp_author *author;
    int64_t now_ms;
    uint64_t version;
    ort_hash head;
    cp__touched *touched;
    size_t touched_count;
    size_t touched_cap;
    ort_map *touched_by_name; /* made when the first row is touched */
    bool failed;              /* a statement failed: commit refuses */
};

struct cp_store {
    char path[4096];
    int lock_fd;    /* keeps a second control plane out; -1: none */
    bool read_only; /* no writer: only looks */
    uint32_t wait_ms;
    cp__conn writer;
    cp__conn *readers;
    uint32_t reader_count;
    void (*on_change)(void *ctx, uint64_t version);
    void *on_change_ctx;

    pthread_mutex_t lock; /* guards writer_taken and readers[].in_use; a leaf */
    pthread_cond_t writer_free;
    pthread_cond_t reader_free;
    bool writer_taken;

    _Atomic uint64_t changes, notes, rollbacks, errors, version, commit_ns;
};

/* Must be called before a row of desired state is written, removed, or changed in any way: keeps
 * the row as it is now for the op log. key: the row's key as in the log. */
ORT_NODISCARD ort_err cp__touch(cp_tx *tx, unsigned table, const char *key, ort_diag *diag);

/* ---- tables of desired state (tables.c) ---- */

/* Numbers are ours alone; names stand in the op log: append, never change. */
enum {
    CP__HUB,
    CP__REGIONS,
    CP__NODES,
    CP__JOIN_TOKENS,
    CP__PLANS,
    CP__TENANTS,
    CP__QUOTAS,
    CP__KEYS,
    CP__PLACEMENTS,
    CP__HOLDERS,
    CP__ADMIN_TOKENS,
    CP__GRANTS,
    CP__TABLES
};

typedef struct {
    const char *name;
    const char *image; /* SQL: ?1 = key -> one text: the row as JSON */
    const char *keys;  /* SQL: all keys */
} cp__table;

extern const cp__table cp__tables[CP__TABLES];

/* "null" when there is no such row. Heap text. */
ORT_NODISCARD ort_err cp__image(cp_tx *tx, unsigned table, const char *key, char **out,
                                ort_diag *diag);

/* ---- op log (oplog.c) ---- */

/* Hash of a record from its other members. */
void cp__oplog_hash(uint64_t version, const ort_hash *prev, int64_t at_ms, const char *actor,
                    const char *op, uint64_t tenant, bool denial, const char *before,
                    const char *after, const char *request_id, ort_hash *out);

/* ---- migrations (migrate.c; the texts are made by migrations.cmake) ---- */

typedef struct {
    unsigned number;
    const char *name; /* "0001_hub_and_fleet" */
    const char *sql;
    size_t sql_len;
} cp__migration;

extern const cp__migration cp__migrations[];
extern const size_t cp__migration_count;

/* Brings the schema up to date. up_to: number of the last one to apply; 0 = all. */
ORT_NODISCARD ort_err cp__migrate(cp__conn *conn, unsigned up_to, ort_diag *diag);
/* Only looks: ORT_EVERSION, ORT_ECORRUPT as cp_store_open(). */
ORT_NODISCARD ort_err cp__migrate_check(cp__conn *conn, ort_diag *diag);

/* ---- first rows (seed.c) ---- */
ORT_NODISCARD ort_err cp__seed(cp_store *store, ort_diag *diag);

/* ---- small things ---- */

/* Common end of a get: found or ORT_ENOTFOUND with "no <noun> <key>". */
ORT_NODISCARD ort_err cp__get_end(cp__query *q, bool found, const char *noun, const char *key,
                                  ort_diag *diag);
/* -1 for "no bound": what LIMIT takes. */
int64_t cp__page_limit(cp_page page);
static inline const char *
cp__page_after(cp_page page)
{
    return page.after != NULL ? page.after : "";
}

/* Reads the revision that a put has left. */
ORT_NODISCARD ort_err cp__revision(cp_tx *tx, const char *sql, const char *key, uint64_t *out,
                                   ort_diag *diag);

#define CP__HEX32 65
#endif /* CP_STORE_INTERNAL_H */
