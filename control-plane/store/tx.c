/* Transactions: turns, snapshots, and the op-log record that a change leaves.
 *
 * A row announces itself (cp__touch) before it is written, and the transaction keeps it as it was.
 * At commit each announced row is read again, what is equal is dropped, and the rest becomes
 * `before` and `after` of one record. The rows themselves are the only source of both, so the log
 * cannot say something else than what happened. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_write.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/store_internal.h"

static const ort_log logger = {.module = "store"};

/* What one change may touch: deleting a tenant with all its keys is the largest that rules allow.
 */
enum { TOUCHED_MAX = 65536 };

static ort_err
take_writer(cp_store *store, ort_diag *diag)
{
    const uint64_t until = ort_mono_ns() + (uint64_t)store->wait_ms * 1000000u;
    ort_err err = ORT_OK;
    pthread_mutex_lock(&store->lock);
    while (store->writer_taken && err == ORT_OK) {
        if (!ort_cond_wait_until(&store->writer_free, &store->lock, until) && store->writer_taken) {
            err = ort_fail(diag, ORT_EBUSY, "the store is busy: no turn to write within %u ms",
                           store->wait_ms);
        }
    }
    if (err == ORT_OK) {
        store->writer_taken = true;
    }
    pthread_mutex_unlock(&store->lock);
    return err;
}

static void
give_writer(cp_store *store)
{
    pthread_mutex_lock(&store->lock);
    store->writer_taken = false;
    pthread_cond_signal(&store->writer_free);
    pthread_mutex_unlock(&store->lock);
}

static cp__conn *
free_reader(cp_store *store)
{
    for (uint32_t i = 0; i < store->reader_count; i++) {
        if (!store->readers[i].in_use) {
            return &store->readers[i];
        }
    }
    return NULL;
}

static ort_err
take_reader(cp_store *store, cp__conn **out, ort_diag *diag)
{
    const uint64_t until = ort_mono_ns() + (uint64_t)store->wait_ms * 1000000u;
    ort_err err = ORT_OK;
    cp__conn *conn;
    pthread_mutex_lock(&store->lock);
    while ((conn = free_reader(store)) == NULL && err == ORT_OK) {
        if (!ort_cond_wait_until(&store->reader_free, &store->lock, until) &&
            free_reader(store) == NULL) {
            err = ort_fail(diag, ORT_EBUSY, "the store is busy: no snapshot free within %u ms",
                           store->wait_ms);
        }
    }
    if (conn != NULL) {
        conn->in_use = true;
    }
    pthread_mutex_unlock(&store->lock);
    *out = conn;
    return err;
}

static void
give_reader(cp_store *store, cp__conn *conn)
{
    pthread_mutex_lock(&store->lock);
    conn->in_use = false;
    pthread_cond_signal(&store->reader_free);
    pthread_mutex_unlock(&store->lock);
}

static void
tx_free(cp_tx *tx)
{
    for (size_t i = 0; i < tx->touched_count; i++) {
        free(tx->touched[i].name);
        free(tx->touched[i].before);
        free(tx->touched[i].after);
    }
    free(tx->touched);
    ort_map_free(tx->touched_by_name, NULL);
    if (tx->kind == CP__READ) {
        give_reader(tx->store, tx->conn);
    } else {
        give_writer(tx->store);
    }
    free(tx);
}

static ort_err
read_version(cp_tx *tx, ort_diag *diag)
{
    cp__query q = cp__q(tx, "SELECT version, head FROM hub WHERE one = 1");
    if (cp__step(&q)) {
        tx->version = cp__col_u64(&q, 0);
        cp__col_blob(&q, 1, tx->head.b, sizeof tx->head.b);
    } /* no row: the first start, the hub is being made */
    return cp__q_end(&q, diag);
}

static ort_err
begin(cp_store *store, cp__tx_kind kind, const cp_author *author, cp_tx **out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    *out = NULL;
    if (store->read_only && kind != CP__READ) {
        return ort_fail(diag, ORT_EDENIED, "the store was opened only to be read");
    }
    cp_tx *tx = calloc(1, sizeof *tx);
    if (tx == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "begin a transaction");
    }
    *tx = (cp_tx){.store = store, .kind = kind, .author = author};
    if (kind == CP__READ) {
        err = take_reader(store, &tx->conn, diag);
    } else {
        tx->conn = &store->writer;
        err = take_writer(store, diag);
    }
    if (err != ORT_OK) {
        free(tx);
        return err;
    }
    tx->now_ms = ort_wall_ms();
    err = cp__conn_run(tx->conn, kind == CP__READ ? "BEGIN" : "BEGIN IMMEDIATE", diag);
    if (err == ORT_OK) {
        err = read_version(tx, diag); /* in a read this takes the snapshot */
    }
    if (err != ORT_OK) {
        cp_tx_end(tx);
        return err;
    }
    *out = tx;
    return ORT_OK;
}

ort_err
cp_store_begin(cp_store *store, const cp_author *author, cp_tx **out, ort_diag *diag)
{
    assert(author != NULL && author->actor != NULL && author->actor[0] != '\0');
    *out = NULL;
    if (strlen(author->actor) >= CP_ACTOR_BYTES ||
        (author->request_id != NULL && strlen(author->request_id) >= CP_REQUEST_ID_BYTES)) {
        return ort_fail(diag, ORT_EINVAL, "actor or request id is too long");
    }
    return begin(store, CP__CHANGE, author, out, diag);
}

ort_err
cp_store_begin_note(cp_store *store, cp_tx **out, ort_diag *diag)
{
    return begin(store, CP__NOTE, NULL, out, diag);
}

ort_err
cp_store_begin_read(cp_store *store, cp_tx **out, ort_diag *diag)
{
    return begin(store, CP__READ, NULL, out, diag);
}

void
cp_tx_end(cp_tx *tx)
{
    if (tx == NULL) {
        return;
    }
    /* A failed statement may have rolled back already (disk full): then there is nothing to do. */
    if (sqlite3_get_autocommit(tx->conn->db) == 0) {
        ort_diag diag;
        if (cp__conn_run(tx->conn, "ROLLBACK", &diag) != ORT_OK) {
            ORT_LOG_ERROR(&logger, "store.rollback-failed", "err=%s", diag.text);
        }
    }
    if (tx->kind != CP__READ) {
        atomic_fetch_add(&tx->store->rollbacks, 1);
    }
    tx_free(tx);
}

int64_t
cp_tx_now_ms(const cp_tx *tx)
{
    return tx->now_ms;
}

uint64_t
cp_tx_version(const cp_tx *tx)
{
    return tx->version;
}

const cp_author *
cp_tx_peek_author(const cp_tx *tx)
{
    return tx->author;
}

ort_err
cp__touch(cp_tx *tx, unsigned table, const char *key, ort_diag *diag)
{
    ort_err err = ORT_OK;
    ort_buf name = {0};
    char *before = NULL;
    assert(tx->kind == CP__CHANGE); /* desired state changes in changes only */
    ort_buf_printf(&name, "%s/%s", cp__tables[table].name, key);
    const char *text = ort_buf_peek_cstr(&name);
    if (text == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "change a row");
    }
    if (tx->touched_by_name == NULL) {
        err = ort_map_new(&tx->touched_by_name);
    }
    if (err != ORT_OK || ort_map_get(tx->touched_by_name, text, name.len) != NULL) {
        goto done;
    }
    if (tx->touched_count == TOUCHED_MAX) {
        err = ort_fail(diag, ORT_ETOOBIG, "one change touches more than %d rows", TOUCHED_MAX);
        goto done;
    }
    if (tx->touched_count == tx->touched_cap) {
        const size_t cap = tx->touched_cap == 0 ? 16 : 2 * tx->touched_cap;
        cp__touched *grown = realloc(tx->touched, cap * sizeof *grown);
        if (grown == NULL) {
            err = ORT_ENOMEM;
            goto done;
        }
        tx->touched = grown;
        tx->touched_cap = cap;
    }
    err = cp__image(tx, table, key, &before, diag);
    if (err == ORT_OK) {
        /* The value only says "seen": entries move when the array grows. */
        err = ort_map_set(tx->touched_by_name, text, name.len, tx, NULL);
    }
    if (err == ORT_OK) {
        tx->touched[tx->touched_count++] =
            (cp__touched){.name = name.data, .before = before, .table = table};
        name = (ort_buf){0};
        before = NULL;
    }
done:
    if (err != ORT_OK) {
        tx->failed = true;
    }
    free(before);
    ort_buf_fini(&name);
    return err;
}

static int
by_name(const void *a, const void *b)
{
    return strcmp(((const cp__touched *)a)->name, ((const cp__touched *)b)->name);
}

/* Reads every touched row as it is now. *changed_out: how many differ; those come first, sorted. */
static ort_err
read_after(cp_tx *tx, size_t *changed_out, ort_diag *diag)
{
    size_t changed = 0;
    for (size_t i = 0; i < tx->touched_count; i++) {
        cp__touched *t = &tx->touched[i];
        const ort_err err = cp__image(tx, t->table, strchr(t->name, '/') + 1, &t->after, diag);
        if (err != ORT_OK) {
            return err;
        }
        if (strcmp(t->before, t->after) != 0) {
            const cp__touched swap = tx->touched[changed];
            tx->touched[changed++] = *t;
            *t = swap;
        }
    }
    if (changed > 1) {
        qsort(tx->touched, changed, sizeof *tx->touched, by_name);
    }
    *changed_out = changed;
    return ORT_OK;
}

static void
write_images(const cp_tx *tx, size_t changed, bool after, ort_buf *out)
{
    ort_jw w = {.buf = out};
    ort_jw_object(&w);
    for (size_t i = 0; i < changed; i++) {
        const cp__touched *t = &tx->touched[i];
        const char *image = after ? t->after : t->before;
        ort_jw_key(&w, t->name);
        ort_jw_raw(&w, image, strlen(image));
    }
    ort_jw_object_end(&w);
}

static ort_err
write_record(cp_tx *tx, const cp_change *change, size_t changed, ort_diag *diag)
{
    ort_err err = ORT_OK;
    ort_buf before = {0}, after = {0};
    ort_hash hash;
    const uint64_t version = tx->version + 1;
    const char *request_id = tx->author->request_id != NULL ? tx->author->request_id : "";
    write_images(tx, changed, false, &before);
    write_images(tx, changed, true, &after);
    const char *b = ort_buf_peek_cstr(&before), *a = ort_buf_peek_cstr(&after);
    if (b == NULL || a == NULL) {
        err = ort_fail(diag, ORT_ENOMEM, "write the op log");
        goto done;
    }
    cp__oplog_hash(version, &tx->head, tx->now_ms, tx->author->actor, change->op, change->tenant.v,
                   change->denial, b, a, request_id, &hash);
    cp__query q = cp__q(tx, "INSERT INTO op_log (version, prev_hash, hash, at_ms, actor, op,"
                            " tenant, denial, before, after, request_id)"
                            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    cp__bind_u64(&q, version);
    cp__bind_blob(&q, tx->head.b, sizeof tx->head.b);
    cp__bind_blob(&q, hash.b, sizeof hash.b);
    cp__bind_i64(&q, tx->now_ms);
    cp__bind_text(&q, tx->author->actor);
    cp__bind_text(&q, change->op);
    cp__bind_id(&q, change->tenant.v);
    cp__bind_i64(&q, change->denial);
    cp__bind_text(&q, b);
    cp__bind_text(&q, a);
    cp__bind_text(&q, request_id);
    err = cp__q_run(&q, diag);
    if (err == ORT_OK) {
        q = cp__q(tx, "UPDATE hub SET version = ?, head = ? WHERE one = 1 AND version = ?");
        cp__bind_u64(&q, version);
        cp__bind_blob(&q, hash.b, sizeof hash.b);
        cp__bind_u64(&q, tx->version);
        err = cp__q_run(&q, diag);
    }
    if (err == ORT_OK) {
        /* Our turn is ours alone, so this can only be damage or a stranger in the file. */
        if (sqlite3_changes(tx->conn->db) != 1) {
            err = ort_fail(diag, ORT_ECORRUPT, "the hub's version is not %llu any more",
                           (unsigned long long)tx->version);
        } else {
            tx->version = version;
        }
    }
done:
    ort_buf_fini(&before);
    ort_buf_fini(&after);
    return err;
}

ort_err
cp_tx_commit(cp_tx *tx, const cp_change *change, uint64_t *version_out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    size_t changed = 0;
    cp_store *store = tx->store;
    assert(tx->kind != CP__READ);
    assert((tx->kind == CP__CHANGE) == (change != NULL));
    const uint64_t began = ort_mono_ns();
    if (tx->failed) {
        err = ort_fail(diag, ORT_EINTERNAL, "a failed transaction cannot be committed");
    }
    if (err == ORT_OK && change != NULL && tx->author->before_commit != NULL) {
        err = tx->author->before_commit(tx->author->ctx, tx, diag);
    }
    if (err == ORT_OK && change != NULL) {
        err = read_after(tx, &changed, diag);
    }
    if (err == ORT_OK && changed > 0) {
        err = write_record(tx, change, changed, diag);
    }
    if (err == ORT_OK) {
        err = cp__conn_run(tx->conn, "COMMIT", diag);
    }
    if (err != ORT_OK) {
        cp_tx_end(tx);
        return err;
    }
    const uint64_t version = tx->version;
    atomic_fetch_add(&store->commit_ns, ort_mono_ns() - began);
    atomic_fetch_add(change != NULL ? &store->changes : &store->notes, 1);
    if (changed > 0) {
        atomic_store(&store->version, version);
    }
    tx_free(tx); /* gives the turn on, before anyone is told */
    if (version_out != NULL) {
        *version_out = version;
    }
    if (changed > 0 && store->on_change != NULL) {
        store->on_change(store->on_change_ctx, version);
    }
    return ORT_OK;
}
