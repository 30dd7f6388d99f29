/* Bringing the schema up to date.
 *
 * Each migration runs in one transaction together with the row that says so, and that row keeps the
 * hash of its text: a program whose migrations are not those that made the database would read rows
 * that mean something else, so it is refused before it reads any. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/store_internal.h"

static const ort_log logger = {.module = "store"};

/* "ORTH": in the header of the file, so that another program's database is told from ours. */
#define APPLICATION_ID 0x4f525448
#define APPLICATION_ID_TEXT "1330795592"

static ort_err
ask_number(cp__conn *conn, const char *sql, int64_t *out, ort_diag *diag)
{
    cp__query q = cp__q_on(conn, sql);
    *out = 0;
    if (cp__step(&q)) {
        *out = cp__col_i64(&q, 0);
    }
    return cp__q_end(&q, diag);
}

/* Compares what was applied with what we have. *applied_out: number of the last one. */
static ort_err
compare(cp__conn *conn, unsigned *applied_out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    unsigned expect = 1;
    cp__query q =
        cp__q_on(conn, "SELECT number, name, hash FROM schema_migrations ORDER BY number");
    while (err == ORT_OK && cp__step(&q)) {
        ort_hash stored, ours;
        const uint64_t number = cp__col_u64(&q, 0);
        cp__col_blob(&q, 2, stored.b, sizeof stored.b);
        if (number > cp__migration_count) {
            err = ort_fail(diag, ORT_EVERSION,
                           "the database was written by a newer program (it has migration %.60s,"
                           " this program knows %zu): install that version or a later one",
                           cp__col_text(&q, 1), cp__migration_count);
        } else if (number != expect) {
            err = ort_fail(diag, ORT_ECORRUPT, "migration %u is not among those applied", expect);
        } else {
            const cp__migration *m = &cp__migrations[number - 1];
            ort_hash_of(&ours, m->sql, m->sql_len);
            if (!ort_hash_equal(&stored, &ours)) {
                err = ort_fail(diag, ORT_EVERSION,
                               "migration %s is not the one this database was made with", m->name);
            }
            expect++;
        }
    }
    const ort_err end = cp__q_end(&q, err == ORT_OK ? diag : NULL);
    *applied_out = expect - 1;
    return err != ORT_OK ? err : end;
}

static ort_err
apply(cp__conn *conn, const cp__migration *m, ort_diag *diag)
{
    ort_hash hash;
    ort_err err = cp__conn_run(conn, "BEGIN IMMEDIATE", diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp__conn_run(conn, m->sql, diag);
    if (err == ORT_OK) {
        ort_hash_of(&hash, m->sql, m->sql_len);
        cp__query q = cp__q_on(conn, "INSERT INTO schema_migrations (number, name, hash,"
                                     " applied_at_ms) VALUES (?, ?, ?, ?)");
        cp__bind_i64(&q, m->number);
        cp__bind_text(&q, m->name);
        cp__bind_blob(&q, hash.b, sizeof hash.b);
        cp__bind_i64(&q, ort_wall_ms());
        err = cp__q_run(&q, diag);
    }
    if (err == ORT_OK) {
        err = cp__conn_run(conn, "COMMIT", diag);
    }
    if (err != ORT_OK) {
        /* The first failure is the one to tell. */
        if (cp__conn_run(conn, "ROLLBACK", NULL) != ORT_OK) {
            ORT_LOG_ERROR(&logger, "store.rollback-failed", "migration=%s", m->name);
        }
        ort_diag_prefix(diag, "migration %s", m->name);
        return err;
    }
    ORT_LOG_INFO(&logger, "store.migrated", "migration=%s", m->name);
    return ORT_OK;
}

/* A file without tables is ours to begin; one with tables must say that it is ours. */
static ort_err
claim(cp__conn *conn, bool *fresh_out, ort_diag *diag)
{
    int64_t id = 0, tables = 0;
    ort_err err = ask_number(conn, "PRAGMA application_id", &id, diag);
    if (err == ORT_OK) {
        err = ask_number(conn, "SELECT count(*) FROM sqlite_schema", &tables, diag);
    }
    if (err == ORT_OK && id != APPLICATION_ID && (id != 0 || tables != 0)) {
        err = ort_fail(diag, ORT_ECORRUPT, "this is not a database of an Orthant hub");
    }
    *fresh_out = err == ORT_OK && tables == 0;
    return err;
}

ort_err
cp__migrate_check(cp__conn *conn, ort_diag *diag)
{
    bool fresh;
    unsigned applied;
    ort_err err = claim(conn, &fresh, diag);
    if (err == ORT_OK && fresh) {
        err = ort_fail(diag, ORT_ECORRUPT, "this database is empty");
    }
    if (err == ORT_OK) {
        err = compare(conn, &applied, diag);
    }
    return err;
}

ort_err
cp__migrate(cp__conn *conn, unsigned up_to, ort_diag *diag)
{
    bool fresh;
    unsigned applied = 0;
    ort_err err = claim(conn, &fresh, diag);
    if (err == ORT_OK && fresh) {
        err = cp__conn_run(conn,
                           "BEGIN IMMEDIATE;"
                           "PRAGMA application_id = " APPLICATION_ID_TEXT ";"
                           "CREATE TABLE schema_migrations (number INTEGER PRIMARY KEY,"
                           " name TEXT NOT NULL, hash BLOB NOT NULL, applied_at_ms INTEGER NOT NULL"
                           ") STRICT;"
                           "COMMIT",
                           diag);
    }
    if (err == ORT_OK) {
        err = compare(conn, &applied, diag);
    }
    const size_t last = up_to != 0 ? up_to : cp__migration_count;
    for (size_t i = applied; i < last && i < cp__migration_count && err == ORT_OK; i++) {
        err = apply(conn, &cp__migrations[i], diag);
    }
    return err;
}
