/* Opening and closing the store, and whose turn it is.
 *
 * One connection writes, by turns; a few read beside it. SQLite would make writers wait as well,
 * but by sleeping and asking again, and a read that turns into a write fails: a turn taken before
 * BEGIN has neither. */
#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/hub.h"
#include "store/store_internal.h"

static const ort_log logger = {.module = "store"};

enum { READERS_DEFAULT = 8, READERS_MAX = 64, WAIT_MS_DEFAULT = 10000 };

/* Two control planes on one database would each push tables of their own versions, so the second
 * one stays out. A lock on a file beside it: SQLite drops its own when any descriptor of the
 * database is closed (POSIX locks), and readers from outside (a backup, `audit verify`) may come.
 */
static ort_err
take_lock(cp_store *store, ort_diag *diag)
{
    char path[sizeof store->path + 8];
    snprintf(path, sizeof path, "%s.lock", store->path);
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_fd < 0) {
        return ort_fail_errno(diag, ORT_EIO, "open %s", path);
    }
    if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? ort_fail(diag, ORT_EBUSY, "%s is in use by another control plane", store->path)
                   : ort_fail_errno(diag, ORT_EIO, "lock %s", path);
    }
    return ORT_OK;
}

/* SQLite gives -wal and -shm the mode of the database, so it is made here, readable by us alone. */
static ort_err
make_file(cp_store *store, ort_diag *diag)
{
    const int fd = open(store->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (fd < 0) {
        return ort_fail_errno(diag, ORT_EIO, "open %s", store->path);
    }
    ort_fd_close(fd);
    return ORT_OK;
}

static ort_err
run_check(cp__conn *conn, const char *sql, const char *what, ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp__query q = cp__q_on(conn, sql);
    char finding[256] = "";
    if (cp__step(&q) && strcmp(cp__col_text(&q, 0), "ok") != 0) {
        snprintf(finding, sizeof finding, "%s", cp__col_text(&q, 0));
    }
    err = cp__q_end(&q, diag);
    if (err == ORT_OK && finding[0] != '\0') {
        ORT_LOG_ERROR(&logger, "store.damaged", "check=%s finding=%s", what, finding);
        err = ort_fail(diag, ORT_ECORRUPT, "%s of the database: %s", what, finding);
    }
    return err;
}

static ort_err
check_pages(cp__conn *conn, bool full, ort_diag *diag)
{
    ort_err err = full ? run_check(conn, "PRAGMA integrity_check(1)", "full check", diag)
                       : run_check(conn, "PRAGMA quick_check(1)", "quick check", diag);
    if (err == ORT_OK && full) {
        err = run_check(conn, "PRAGMA foreign_key_check", "check of references", diag);
    }
    return err;
}

static ort_err
open_readers(cp_store *store, uint32_t count, ort_diag *diag)
{
    ort_err err = ORT_OK;
    store->readers = calloc(count, sizeof *store->readers);
    if (store->readers == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "open the store");
    }
    for (; store->reader_count < count && err == ORT_OK; store->reader_count++) {
        err = cp__conn_open(&store->readers[store->reader_count], store->path, true, store->wait_ms,
                            diag);
    }
    return err;
}

static unsigned
last_migration(const cp_store_options *options)
{
    return options->migrations != NULL ? (unsigned)strtoul(options->migrations, NULL, 10) : 0;
}

static ort_err
open_writer(cp_store *store, const cp_store_options *options, ort_diag *diag)
{
    ort_err err = take_lock(store, diag);
    if (err == ORT_OK) {
        err = make_file(store, diag);
    }
    if (err == ORT_OK) {
        err = cp__conn_open(&store->writer, store->path, false, store->wait_ms, diag);
    }
    if (err == ORT_OK) {
        err = check_pages(&store->writer, options->full_check, diag);
    }
    if (err == ORT_OK) {
        err = cp__migrate(&store->writer, last_migration(options), diag);
    }
    return err;
}

static ort_err
check_read_only(cp_store *store, const cp_store_options *options, ort_diag *diag)
{
    ort_err err = check_pages(&store->readers[0], options->full_check, diag);
    if (err == ORT_OK) {
        err = cp__migrate_check(&store->readers[0], diag);
    }
    return err;
}

ort_err
cp_store_open(cp_store **out, const cp_store_options *options, ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp_store *store = calloc(1, sizeof *store);
    const uint32_t readers = options->readers == 0            ? READERS_DEFAULT
                             : options->readers > READERS_MAX ? READERS_MAX
                                                              : options->readers;
    *out = NULL;
    if (store == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "open the store");
    }
    store->lock_fd = -1;
    store->wait_ms = options->wait_ms != 0 ? options->wait_ms : WAIT_MS_DEFAULT;
    pthread_mutex_init(&store->lock, NULL);
    ort_cond_init(&store->writer_free);
    ort_cond_init(&store->reader_free);
    if ((size_t)snprintf(store->path, sizeof store->path, "%s", options->path) >=
        sizeof store->path) {
        err = ort_fail(diag, ORT_EINVAL, "the path of the database is too long");
        goto done;
    }
    store->read_only = options->read_only;
    if (!store->read_only) {
        err = open_writer(store, options, diag);
    }
    if (err == ORT_OK) {
        err = open_readers(store, readers, diag);
    }
    if (err == ORT_OK && store->read_only) {
        err = check_read_only(store, options, diag);
    } else if (err == ORT_OK && last_migration(options) == 0) {
        err = cp__seed(store, diag);
    }
    if (err == ORT_OK) {
        *out = store;
        store = NULL;
    }
done:
    cp_store_close(store);
    if (err != ORT_OK) {
        ort_diag_prefix(diag, "%s", options->path);
    }
    return err;
}

void
cp_store_close(cp_store *store)
{
    if (store == NULL) {
        return;
    }
    assert(!store->writer_taken);
    for (uint32_t i = 0; i < store->reader_count; i++) {
        assert(!store->readers[i].in_use);
        cp__conn_close(&store->readers[i]);
    }
    free(store->readers);
    cp__conn_close(&store->writer);
    pthread_cond_destroy(&store->writer_free);
    pthread_cond_destroy(&store->reader_free);
    pthread_mutex_destroy(&store->lock);
    ort_fd_close(store->lock_fd);
    free(store);
}

void
cp_store_on_change(cp_store *store, void (*fn)(void *ctx, uint64_t version), void *ctx)
{
    store->on_change = fn;
    store->on_change_ctx = ctx;
}

ort_err
cp_store_check(cp_store *store, ort_diag *diag)
{
    cp_tx *tx;
    ort_err err = cp_store_begin_read(store, &tx, diag);
    if (err == ORT_OK) {
        err = check_pages(tx->conn, true, diag);
    }
    cp_tx_end(tx);
    return err;
}

ort_err
cp_store_backup(cp_store *store, const char *path, ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp_tx *tx = NULL;
    cp__conn to = {0};
    sqlite3_backup *backup = NULL;
    /* O_EXCL: never over a file that is there, and never through a link. */
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return ort_fail_errno(diag, errno == EEXIST ? ORT_EEXISTS : ORT_EIO, "make %s", path);
    }
    /* A snapshot is held, so the copy is of one version however long it takes. */
    err = cp_store_begin_read(store, &tx, diag);
    if (err != ORT_OK) {
        goto done;
    }
    int rc = sqlite3_open_v2(path, &to.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK) {
        backup = sqlite3_backup_init(to.db, "main", tx->conn->db, "main");
        rc = backup != NULL ? sqlite3_backup_step(backup, -1) : sqlite3_errcode(to.db);
        sqlite3_backup_finish(backup);
    }
    if (rc != SQLITE_DONE) {
        err = cp__sql_fail(&to, rc, "backup", diag);
    }
    cp__conn_close(&to);
    if (err == ORT_OK && fsync(fd) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "fsync %s", path);
    }
done:
    cp_tx_end(tx);
    if (err != ORT_OK) {
        unlink(path);
    }
    ort_fd_close(fd);
    return err;
}

void
cp_store_stats_get(cp_store *store, cp_store_stats *out)
{
    struct stat st;
    char wal[sizeof store->path + 8];
    *out = (cp_store_stats){
        .changes_total = atomic_load(&store->changes),
        .notes_total = atomic_load(&store->notes),
        .rollbacks_total = atomic_load(&store->rollbacks),
        .errors_total = atomic_load(&store->errors),
        .version = atomic_load(&store->version),
        .commit_ns_total = atomic_load(&store->commit_ns),
    };
    snprintf(wal, sizeof wal, "%s-wal", store->path);
    if (stat(store->path, &st) == 0) {
        out->file_bytes = (uint64_t)st.st_size;
    }
    if (stat(wal, &st) == 0) {
        out->file_bytes += (uint64_t)st.st_size;
    }
}
