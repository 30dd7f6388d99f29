/* Connections, prepared statements and what SQLite's result codes mean for us. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "store/store_internal.h"

static const ort_log logger = {.module = "store"};

static const char *const pragmas_all[] = {
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF", /* a planted view or trigger runs no functions of ours */
    "PRAGMA cell_size_check = ON", /* damage is found where a page is read */
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384", /* KiB a connection */
};

ort_err
cp__sql_fail(cp__conn *conn, int rc, const char *doing, ort_diag *diag)
{
    /* What we found ourselves in a row is not what SQLite last had to say. */
    const bool its_own = conn->db != NULL && (sqlite3_errcode(conn->db) & 0xff) == (rc & 0xff);
    const char *words = its_own ? sqlite3_errmsg(conn->db) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_CONSTRAINT:
        switch (rc) {
        case SQLITE_CONSTRAINT_UNIQUE:
        case SQLITE_CONSTRAINT_PRIMARYKEY:
            return ort_fail(diag, ORT_EEXISTS, "%s: there is one already", doing);
        case SQLITE_CONSTRAINT_FOREIGNKEY:
            return ort_fail(diag, ORT_ECONFLICT,
                            "%s: refers to something that is not there, or is referred to", doing);
        default:
            /* A check that the rules should have made before: our mistake. */
            ORT_LOG_ERROR(&logger, "store.constraint", "doing=%s err=%s", doing, words);
            return ort_fail(diag, ORT_EINTERNAL, "%s: the store refused the row: %s", doing, words);
        }
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ort_fail(diag, ORT_EBUSY, "%s: the database is locked by another process", doing);
    case SQLITE_FULL:
        return ort_fail(diag, ORT_ENOSPC, "%s: no space left for the database", doing);
    case SQLITE_NOMEM:
        return ort_fail(diag, ORT_ENOMEM, "%s: out of memory", doing);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
        ORT_LOG_ERROR(&logger, "store.damaged", "doing=%s err=%s", doing, words);
        return ort_fail(diag, ORT_ECORRUPT, "%s: the database is damaged: %s", doing, words);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return ort_fail(diag, ORT_EIO, "%s: %s", doing, words);
    default:
        ORT_LOG_ERROR(&logger, "store.error", "doing=%s rc=%d err=%s", doing, rc, words);
        return ort_fail(diag, ORT_EINTERNAL, "%s: %s", doing, words);
    }
}

ort_err
cp__conn_run(cp__conn *conn, const char *sql, ort_diag *diag)
{
    char doing[48]; /* enough to know which */
    const int rc = sqlite3_exec(conn->db, sql, NULL, NULL, NULL);
    snprintf(doing, sizeof doing, "%.40s", sql);
    return rc == SQLITE_OK ? ORT_OK
                           : cp__sql_fail(conn, sqlite3_extended_errcode(conn->db), doing, diag);
}

ort_err
cp__conn_open(cp__conn *conn, const char *path, bool read_only, uint32_t wait_ms, ort_diag *diag)
{
    ort_err err = ORT_OK;
    memset(conn, 0, sizeof *conn);
    /* Each connection is used by one thread at a time, which the store's own lock sees to. */
    const int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_NOFOLLOW |
                      (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
    int rc = sqlite3_open_v2(path, &conn->db, flags, NULL);
    if (rc != SQLITE_OK) {
        err = cp__sql_fail(conn, rc, path, diag);
        cp__conn_close(conn);
        return err;
    }
    sqlite3_extended_result_codes(conn->db, 1);
    sqlite3_busy_timeout(conn->db, (int)wait_ms);
    /* What a row may be: 1 MiB admin bodies, and the before and after of a large change. */
    sqlite3_limit(conn->db, SQLITE_LIMIT_LENGTH, 64 << 20);
    sqlite3_limit(conn->db, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_db_config(conn->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    for (size_t i = 0; i < sizeof pragmas_all / sizeof pragmas_all[0] && err == ORT_OK; i++) {
        err = cp__conn_run(conn, pragmas_all[i], diag);
    }
    if (err == ORT_OK && !read_only) {
        err = cp__conn_run(conn, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL", diag);
    }
    if (err != ORT_OK) {
        cp__conn_close(conn);
    }
    return err;
}

void
cp__conn_close(cp__conn *conn)
{
    for (size_t i = 0; i < CP__STMTS; i++) {
        assert(!conn->stmts[i].busy);
        sqlite3_finalize(conn->stmts[i].stmt);
    }
    if (conn->db != NULL) {
        const int rc = sqlite3_close(conn->db);
        assert(rc == SQLITE_OK); /* else a statement of ours is still open */
        (void)rc;
    }
    memset(conn, 0, sizeof *conn);
}

/* The kept statement of that text, or a free place for it; NULL: it is running, or no place. */
static cp__stmt *
find_slot(cp__conn *conn, const char *sql)
{
    size_t at = ((uintptr_t)sql >> 3) * 0x9e3779b97f4a7c15u >> 32;
    for (size_t i = 0; i < CP__STMTS; i++) {
        cp__stmt *slot = &conn->stmts[(at + i) & (CP__STMTS - 1)];
        if (slot->sql == NULL || slot->sql == sql) {
            return slot->busy ? NULL : slot;
        }
    }
    return NULL;
}

cp__query
cp__q_on(cp__conn *conn, const char *sql)
{
    cp__query q = {.conn = conn};
    cp__stmt *slot = find_slot(conn, sql);
    if (slot != NULL && slot->stmt != NULL) {
        q.stmt = slot->stmt;
    } else {
        q.rc = sqlite3_prepare_v3(conn->db, sql, -1, slot != NULL ? SQLITE_PREPARE_PERSISTENT : 0,
                                  &q.stmt, NULL);
        if (q.rc != SQLITE_OK) {
            return q;
        }
        if (slot != NULL) {
            slot->sql = sql;
            slot->stmt = q.stmt;
        }
    }
    if (slot != NULL) {
        slot->busy = true;
        q.slot = slot;
    }
    return q;
}

cp__query
cp__q(cp_tx *tx, const char *sql)
{
    cp__query q = cp__q_on(tx->conn, sql);
    q.tx = tx;
    return q;
}

static void
keep(cp__query *q, int rc)
{
    if (q->rc == SQLITE_OK) {
        q->rc = rc;
    }
}

void
cp__bind_i64(cp__query *q, int64_t v)
{
    if (q->rc == SQLITE_OK) {
        keep(q, sqlite3_bind_int64(q->stmt, ++q->next, v));
    }
}

void
cp__bind_u64(cp__query *q, uint64_t v)
{
    cp__bind_i64(q, v > INT64_MAX ? INT64_MAX : (int64_t)v);
}

void
cp__bind_limit(cp__query *q, uint64_t v)
{
    if (v == CP_UNLIMITED) {
        cp__bind_i64(q, -1);
    } else {
        cp__bind_u64(q, v);
    }
}

void
cp__bind_text(cp__query *q, const char *text)
{
    if (q->rc == SQLITE_OK) {
        keep(q, sqlite3_bind_text(q->stmt, ++q->next, text, -1, SQLITE_STATIC));
    }
}

void
cp__bind_blob(cp__query *q, const void *bytes, size_t n)
{
    if (q->rc == SQLITE_OK) {
        /* A NULL pointer would bind NULL, not an empty blob. */
        keep(q, sqlite3_bind_blob64(q->stmt, ++q->next, n > 0 ? bytes : "", n, SQLITE_STATIC));
    }
}

void
cp__bind_id(cp__query *q, uint64_t id)
{
    char text[ORT_ID_TEXT_BYTES];
    if (id == 0) {
        cp__bind_null(q);
    } else if (q->rc == SQLITE_OK) {
        ort_id_format(id, text);
        keep(q, sqlite3_bind_text(q->stmt, ++q->next, text, -1, SQLITE_TRANSIENT));
    }
}

void
cp__bind_null(cp__query *q)
{
    if (q->rc == SQLITE_OK) {
        keep(q, sqlite3_bind_null(q->stmt, ++q->next));
    }
}

bool
cp__step(cp__query *q)
{
    if (q->rc != SQLITE_OK) {
        return false;
    }
    const int rc = sqlite3_step(q->stmt);
    if (rc == SQLITE_ROW) {
        return true;
    }
    if (rc != SQLITE_DONE) {
        q->rc = rc;
    }
    return false;
}

ort_err
cp__q_end(cp__query *q, ort_diag *diag)
{
    ort_err err = ORT_OK;
    if (q->rc != SQLITE_OK) {
        /* "INSERT INTO nodes(..." says enough, and never a value: values are bound. */
        char doing[64] = "prepare";
        if (q->stmt != NULL) {
            snprintf(doing, sizeof doing, "%.40s", sqlite3_sql(q->stmt));
        }
        err = cp__sql_fail(q->conn, q->rc, doing, diag);
        if (q->tx != NULL && q->tx->kind != CP__READ) {
            q->tx->failed = true;
        }
        if (q->tx != NULL && (q->rc & 0xff) != SQLITE_CONSTRAINT) {
            atomic_fetch_add(&q->tx->store->errors, 1);
        }
    }
    if (q->slot != NULL) {
        sqlite3_reset(q->stmt);
        sqlite3_clear_bindings(q->stmt); /* the texts are the caller's */
        q->slot->busy = false;
    } else {
        sqlite3_finalize(q->stmt);
    }
    *q = (cp__query){0};
    return err;
}

ort_err
cp__q_run(cp__query *q, ort_diag *diag)
{
    while (cp__step(q)) {
    }
    return cp__q_end(q, diag);
}

int64_t
cp__col_i64(cp__query *q, int column)
{
    return sqlite3_column_int64(q->stmt, column);
}

uint64_t
cp__col_u64(cp__query *q, int column)
{
    const int64_t v = cp__col_i64(q, column);
    return v < 0 ? 0 : (uint64_t)v;
}

uint64_t
cp__col_limit(cp__query *q, int column)
{
    const int64_t v = cp__col_i64(q, column);
    return v < 0 ? CP_UNLIMITED : (uint64_t)v;
}

bool
cp__col_is_null(cp__query *q, int column)
{
    return sqlite3_column_type(q->stmt, column) == SQLITE_NULL;
}

uint64_t
cp__col_id(cp__query *q, int column)
{
    uint64_t id = 0;
    if (!cp__col_is_null(q, column)) {
        const char *text = cp__col_text(q, column);
        if (ort_id_parse(text, strlen(text), &id) != ORT_OK) {
            cp__q_damaged(q);
        }
    }
    return id;
}

const char *
cp__col_text(cp__query *q, int column)
{
    const char *text = (const char *)sqlite3_column_text(q->stmt, column);
    if (text == NULL && !cp__col_is_null(q, column)) {
        keep(q, SQLITE_NOMEM);
    }
    return text != NULL ? text : "";
}

void
cp__col_copy(cp__query *q, int column, char *out, size_t size)
{
    const char *text = cp__col_text(q, column);
    const size_t len = strlen(text);
    out[0] = '\0';
    if (len >= size) {
        cp__q_damaged(q);
    } else {
        memcpy(out, text, len + 1);
    }
}

void
cp__col_blob(cp__query *q, int column, void *out, size_t n)
{
    const void *bytes = sqlite3_column_blob(q->stmt, column);
    if (bytes == NULL || (size_t)sqlite3_column_bytes(q->stmt, column) != n) {
        memset(out, 0, n);
        cp__q_damaged(q);
    } else {
        memcpy(out, bytes, n);
    }
}

void
cp__col_hash_hex(cp__query *q, int column, unsigned char out[32])
{
    const char *text = cp__col_text(q, column);
    ort_hash hash = {{0}};
    if (ort_hash_parse(text, strlen(text), &hash) != ORT_OK) {
        cp__q_damaged(q);
    }
    memcpy(out, hash.b, 32);
}

void
cp__q_damaged(cp__query *q)
{
    keep(q, SQLITE_CORRUPT);
}

ort_err
cp__get_end(cp__query *q, bool found, const char *noun, const char *key, ort_diag *diag)
{
    const ort_err err = cp__q_end(q, diag);
    return err != ORT_OK || found ? err : ort_fail(diag, ORT_ENOTFOUND, "no %s %.64s", noun, key);
}

int64_t
cp__page_limit(cp_page page)
{
    return page.limit == 0 ? -1 : (int64_t)page.limit;
}

ort_err
cp__revision(cp_tx *tx, const char *sql, const char *key, uint64_t *out, ort_diag *diag)
{
    cp__query q = cp__q(tx, sql);
    cp__bind_text(&q, key);
    if (cp__step(&q)) {
        *out = cp__col_u64(&q, 0);
    }
    return cp__q_end(&q, diag);
}
