/* The control store when the disk and the memory fail: the n-th write, fsync or allocation fails,
 * for n = 1, 2, ... until a whole round of work succeeds. After each round the database is opened
 * again without faults: the op log is whole, tells of the rows as they are, and every change that
 * was answered OK is there.
 *
 * A VFS around SQLite's own counts and fails the calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include "base/file.h"
#include "store/oplog.h"
#include "store/regions.h"
#include "store/store.h"
#include "store/tenants.h"
#include "support/scratch.h"

static ort_diag diag;

/* ---- the faulty disk ---- */

enum { WRITE = 1, SYNC = 2, TRUNCATE = 4 };

static unsigned faults;  /* kinds of call that count */
static long until_fault; /* calls that still go well; < 0: none fails */
static bool stays_broken;
static int fault_code = SQLITE_IOERR;
static bool fault_hit;

static bool
fails_now(unsigned kind)
{
    if ((faults & kind) == 0 || until_fault < 0) {
        return false;
    }
    if (until_fault > 0) {
        until_fault--;
        return false;
    }
    if (!stays_broken) {
        until_fault = -1;
    }
    fault_hit = true;
    return true;
}

typedef struct {
    sqlite3_file base;
    sqlite3_file *real;
} faulty_file;

static sqlite3_file *
real_of(sqlite3_file *file)
{
    return ((faulty_file *)(void *)file)->real;
}

static int
f_close(sqlite3_file *file)
{
    sqlite3_file *real = real_of(file);
    const int rc = real->pMethods != NULL ? real->pMethods->xClose(real) : SQLITE_OK;
    sqlite3_free(real);
    return rc;
}

static int
f_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
    return real_of(file)->pMethods->xRead(real_of(file), to, n, at);
}

/* A failing write may have done half its work. */
static int
f_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
    if (fails_now(WRITE)) {
        if (n > 1) {
            (void)real_of(file)->pMethods->xWrite(real_of(file), from, n / 2, at);
        }
        return fault_code == SQLITE_FULL ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    }
    return real_of(file)->pMethods->xWrite(real_of(file), from, n, at);
}

static int
f_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return fails_now(TRUNCATE) ? SQLITE_IOERR_TRUNCATE
                               : real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int
f_sync(sqlite3_file *file, int flags)
{
    return fails_now(SYNC) ? SQLITE_IOERR_FSYNC
                           : real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int
f_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int
f_lock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int
f_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int
f_check(sqlite3_file *file, int *out)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), out);
}

static int
f_control(sqlite3_file *file, int op, void *arg)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int
f_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int
f_device(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int
f_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    return real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, out);
}

static int
f_shm_lock(sqlite3_file *file, int at, int n, int flags)
{
    return real_of(file)->pMethods->xShmLock(real_of(file), at, n, flags);
}

static void
f_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int
f_shm_unmap(sqlite3_file *file, int remove)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_unlock,
    .xCheckReservedLock = f_check,
    .xFileControl = f_control,
    .xSectorSize = f_sector,
    .xDeviceCharacteristics = f_device,
    .xShmMap = f_shm_map,
    .xShmLock = f_shm_lock,
    .xShmBarrier = f_shm_barrier,
    .xShmUnmap = f_shm_unmap,
};

static sqlite3_vfs *real_vfs;
static sqlite3_vfs vfs;

static int
v_open(sqlite3_vfs *self, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    (void)self;
    faulty_file *f = (faulty_file *)(void *)file;
    f->base.pMethods = NULL;
    f->real = sqlite3_malloc(real_vfs->szOsFile);
    if (f->real == NULL) {
        return SQLITE_NOMEM;
    }
    memset(f->real, 0, (size_t)real_vfs->szOsFile);
    const int rc = real_vfs->xOpen(real_vfs, name, f->real, flags, out_flags);
    if (rc != SQLITE_OK) {
        sqlite3_free(f->real);
        return rc;
    }
    f->base.pMethods = &methods;
    return SQLITE_OK;
}

/* ---- the faulty memory ---- */

static sqlite3_mem_methods real_mem;
static long until_no_memory = -1;

static bool
no_memory_now(void)
{
    if (until_no_memory < 0) {
        return false;
    }
    if (until_no_memory > 0) {
        until_no_memory--;
        return false;
    }
    until_no_memory = -1;
    fault_hit = true;
    return true;
}

static void *
m_malloc(int n)
{
    return no_memory_now() ? NULL : real_mem.xMalloc(n);
}

static void *
m_realloc(void *p, int n)
{
    return no_memory_now() ? NULL : real_mem.xRealloc(p, n);
}

static int
install(void **state)
{
    (void)state;
    sqlite3_mem_methods mem;
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_mem), SQLITE_OK);
    mem = real_mem;
    mem.xMalloc = m_malloc;
    mem.xRealloc = m_realloc;
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &mem), SQLITE_OK);
    /* Without this, small requests are met from pools and never fail. */
    assert_int_equal(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0), SQLITE_OK);
    real_vfs = sqlite3_vfs_find(NULL);
    vfs = *real_vfs;
    vfs.zName = "faulty";
    vfs.pNext = NULL;
    vfs.szOsFile = sizeof(faulty_file);
    vfs.xOpen = v_open;
    assert_int_equal(sqlite3_vfs_register(&vfs, 1), SQLITE_OK);
    return 0;
}

/* ---- the work ---- */

enum { STEPS = 4 };

typedef struct {
    char dir[64];
    char path[96];
    bool committed[STEPS];
} fixture;

static void
make_dir(fixture *f)
{
    *f = (fixture){.dir = ""};
    scratch_dir(f->dir, sizeof f->dir, "orthant-fault");
    snprintf(f->path, sizeof f->path, "%s/hub.db", f->dir);
}

static void
remove_dir(fixture *f)
{
    scratch_remove(f->dir);
}

static ort_err
step(cp_store *store, int i)
{
    static const cp_author author = {.actor = "system"};
    cp_tx *tx;
    cp_region region = {.created_at_ms = 1};
    cp_tenant tenant = {.id = {(uint64_t)i + 1}, .plan = "default", .created_at_ms = 1};
    ort_err err = cp_store_begin(store, &author, &tx, &diag);
    if (err != ORT_OK) {
        return err;
    }
    snprintf(region.name, sizeof region.name, "r%d", i);
    memset(region.display, 'x', sizeof region.display - 1);
    snprintf(tenant.name, sizeof tenant.name, "t%d", i);
    err = cp_texts_add(&tenant.regions, region.name, strlen(region.name));
    if (err == ORT_OK) {
        err = cp_region_put(tx, &region, &diag);
    }
    if (err == ORT_OK) {
        err = cp_tenant_put(tx, &tenant, &diag);
    }
    if (err != ORT_OK) {
        cp_tx_end(tx);
        return err;
    }
    return cp_tx_commit(tx, &(cp_change){.op = "tenant.create"}, NULL, &diag);
}

/* Does the work; whatever fails says so and the rest is tried all the same. true: no fault was
 * met. */
static bool
work(fixture *f)
{
    cp_store *store;
    fault_hit = false;
    const ort_err err = cp_store_open(
        &store, &(cp_store_options){.path = f->path, .readers = 1, .wait_ms = 20}, &diag);
    if (err != ORT_OK) {
        assert_true(fault_hit);
        assert_null(store);
        assert_true(diag.text[0] != '\0');
        return false;
    }
    for (int i = 0; i < STEPS; i++) {
        f->committed[i] = step(store, i) == ORT_OK;
    }
    cp_store_close(store);
    return !fault_hit;
}

/* Without faults: the log is whole, tells of the rows, and holds what was answered OK. */
static void
check(fixture *f)
{
    cp_store *store;
    cp_tx *tx;
    cp_oplog_verdict verdict;
    char differ[256];
    until_fault = until_no_memory = -1;
    const ort_err err =
        cp_store_open(&store, &(cp_store_options){.path = f->path, .full_check = true}, &diag);
    if (err != ORT_OK) {
        fail_msg("%s: %s", ort_err_code(err), diag.text);
    }
    assert_int_equal(cp_store_begin_read(store, &tx, &diag), ORT_OK);
    assert_int_equal(cp_oplog_verify(tx, 0, NULL, &verdict, &diag), ORT_OK);
    if (!verdict.intact) {
        fail_msg("%s", verdict.detail);
    }
    assert_int_equal(cp_oplog_compare_state(tx, differ, &diag), ORT_OK);
    assert_string_equal(differ, "");
    for (int i = 0; i < STEPS; i++) {
        cp_tenant row;
        const ort_err there = cp_tenant_get(tx, (ort_tenant_id){(uint64_t)i + 1}, &row, &diag);
        if (f->committed[i]) {
            assert_int_equal(there, ORT_OK);
            assert_int_equal(row.regions.count, 1);
        } else {
            /* Not answered OK: it may be there (the last fsync failed after the bytes were down),
             * but then whole, which compare_state has shown. */
            assert_true(there == ORT_OK || there == ORT_ENOTFOUND);
        }
    }
    cp_tx_end(tx);
    cp_store_close(store);
}

/* A disk that breaks for good is met at steps that grow, after every single call has failed once:
 * most calls are the pages of one transaction, and there it is the same at each. ORT_FAULT_ROUNDS,
 * whatever it is, makes it every call again. */
static long
next_fault(long n, bool for_ever)
{
    return for_ever && getenv("ORT_FAULT_ROUNDS") == NULL ? n + 1 + n / 30 : n + 1;
}

static void
fail_each_disk_call(unsigned kinds, bool for_ever, int code)
{
    bool done = false;
    long rounds = 0;
    faults = kinds;
    stays_broken = for_ever;
    fault_code = code;
    for (long n = 0; !done; n = next_fault(n, for_ever)) {
        fixture f;
        assert_true(n < 5000);
        make_dir(&f);
        until_fault = n;
        done = work(&f);
        check(&f);
        remove_dir(&f);
        rounds++;
    }
    assert_true(rounds > 10); /* else the faults do not reach the store */
    print_message("%ld rounds\n", rounds);
}

static void
each_write_fails_once(void **state)
{
    (void)state;
    fail_each_disk_call(WRITE, false, SQLITE_IOERR);
}

static void
each_fsync_and_truncate_fails_once(void **state)
{
    (void)state;
    fail_each_disk_call(SYNC | TRUNCATE, false, SQLITE_IOERR);
}

static void
the_disk_breaks_for_good_at_each_call(void **state)
{
    (void)state;
    fail_each_disk_call(WRITE | SYNC | TRUNCATE, true, SQLITE_IOERR);
}

static void
the_disk_is_full_at_each_write(void **state)
{
    (void)state;
    fail_each_disk_call(WRITE, true, SQLITE_FULL);
}

/* Full now, space later: the same store goes on, and says "disk-full" meanwhile. */
static void
a_full_disk_is_said_and_passes(void **state)
{
    (void)state;
    fixture f;
    cp_store *store;
    make_dir(&f);
    until_fault = -1;
    assert_int_equal(cp_store_open(&store, &(cp_store_options){.path = f.path}, &diag), ORT_OK);
    assert_int_equal(step(store, 0), ORT_OK);
    faults = WRITE;
    stays_broken = true;
    fault_code = SQLITE_FULL;
    until_fault = 0;
    assert_int_equal(step(store, 1), ORT_ENOSPC);
    assert_non_null(strstr(diag.text, "no space left"));
    assert_int_equal(step(store, 1), ORT_ENOSPC);
    cp_tx *tx;
    cp_tenant row;
    assert_int_equal(cp_store_begin_read(store, &tx, &diag), ORT_OK); /* reads go on */
    assert_int_equal(cp_tenant_get(tx, (ort_tenant_id){1}, &row, &diag), ORT_OK);
    cp_tx_end(tx);
    until_fault = -1;
    assert_int_equal(step(store, 1), ORT_OK);
    cp_store_close(store);
    f.committed[0] = f.committed[1] = true;
    check(&f);
    remove_dir(&f);
}

static void
each_allocation_of_sqlite_fails(void **state)
{
    (void)state;
    bool done = false;
    faults = 0;
    /* Thousands of allocations go into a first start; steps that grow keep it within seconds and
     * still meet each place over the run. */
    for (long n = 0; !done; n += 1 + n / 50) {
        fixture f;
        make_dir(&f);
        until_no_memory = n;
        done = work(&f);
        check(&f);
        remove_dir(&f);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_write_fails_once),
        cmocka_unit_test(each_fsync_and_truncate_fails_once),
        cmocka_unit_test(the_disk_breaks_for_good_at_each_call),
        cmocka_unit_test(the_disk_is_full_at_each_write),
        cmocka_unit_test(a_full_disk_is_said_and_passes),
        cmocka_unit_test(each_allocation_of_sqlite_fails),
    };
    return cmocka_run_group_tests(tests, install, NULL);
}
