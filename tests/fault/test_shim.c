/* The n-th call to the disk fails, for n = 1, 2, ... until none does: with EIO, with ENOSPC, by
 * half a write, once or from then on, below whatever libc function the storage goes through.
 *
 * The test starts itself again with the shim in front of libc (shim.h). That server forks a worker
 * for every n, which works on a fresh shard and says through a pipe what was acknowledged, refused
 * or failed. It goes on after a failure: the open shard is read and written, closed, and opened
 * again. Then the test, which has no shim, opens what is left: acknowledged = there, refused = not
 * there, failed = whole or not there, and everything verifies.
 *
 * ORT_SHIM_STEP (4): beyond the first n, every how manieth is tried; 1 tries each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault/shim.h"
#include "support/preload.h"
#include "support/scratch.h"
#include "support/shard_model.h"

#define MUST(cond)                                                                     \
    do {                                                                               \
        if (!(cond)) {                                                                 \
            fprintf(stderr, "%s:%d: %s (%s)\n", __func__, __LINE__, #cond, diag.text); \
            abort();                                                                   \
        }                                                                              \
    } while (0)

enum {
    OPERATIONS = 90,     /* enough for a second log file (shard_model: 4 KiB each) */
    STEP_FROM = 24,      /* each n below is tried, whatever ORT_SHIM_STEP says */
    TRIED_WHEN_DEAD = 3, /* operations after a failure for good, all of which must fail */
    OPENS_MAX = 4,
    PACK_AT = 60,    /* the operation behind which a full log file is packed */
    RESTART_AT = 50, /* the operation before which the worker closes and opens, without need */
};

typedef enum {
    SAY_OPENED,  /* lsn: of the newest record */
    SAY_ACKED,   /* number, lsn */
    SAY_REFUSED, /* number: an error, and the log goes on without it */
    SAY_FAILED,  /* number: an error, and the log has failed */
    SAY_ENDED,   /* number: of waitpid(); the server's, not the worker's */
} say_what;

typedef struct {
    uint32_t what;
    uint32_t number; /* of the operation, which is all there is to know of it */
    uint64_t lsn;
    uint64_t broken_writes, broken_syncs; /* as the shim counts them */
} message;

typedef struct {
    bool close_at_end; /* or end like a crash */
} request;

static ort_diag diag;
static shim_control *control;

static uint32_t
mix(uint64_t x)
{
    x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)((x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9) >> 33);
}

typedef struct {
    uint16_t op;
    uint32_t first, count, seed;
} operation;

static operation
operation_of(uint64_t number)
{
    return (operation){.op = mix(number * 4) % 5 == 0 ? MODEL_OP_KILL : MODEL_OP_PUT,
                       .first = mix(number * 4 + 1) % MODEL_IDS,
                       .count = 1 + mix(number * 4 + 2) % 12,
                       .seed = mix(number * 4 + 3) % 1000000 | 1};
}

static void
expect(model_point *want, uint64_t lsn, uint64_t number)
{
    const operation o = operation_of(number);
    model_apply(want, lsn, o.op, o.first, o.count, o.seed);
}

/* --- the worker: with the shim ---------------------------------------------------------------- */

typedef struct {
    shard_model *model;
    int dir;
    int out;
    bool maybe; /* an operation failed, and nobody knows yet whether it is there */
    uint32_t maybe_number;
} worker;

static void
say(const worker *w, say_what what, uint32_t number, uint64_t lsn)
{
    const message m = {.what = what,
                       .number = number,
                       .lsn = lsn,
                       .broken_writes = control->broken_writes,
                       .broken_syncs = control->broken_syncs};
    MUST(write(w->out, &m, sizeof m) == (ssize_t)sizeof m);
}

static bool
is_of_the_disk(ort_err err)
{
    return err == ORT_EIO || err == ORT_ENOSPC || err == ORT_EBUSY; /* the last for EMFILE */
}

/* false: the disk does not let it. */
static bool
worker_open(worker *w)
{
    /* Whoever opens reads what is there and vouches for it anew. */
    control->broken_inode = control->broken_writes = control->broken_syncs = 0;
    const uint64_t last = w->model->applied;
    ort_err err = ORT_EIO;
    for (int i = 0; i < OPENS_MAX && err != ORT_OK; i++) {
        err = shard_model_open(w->model, w->dir, &diag);
        MUST(err == ORT_OK || is_of_the_disk(err));
    }
    if (err != ORT_OK) {
        return false;
    }
    if (w->maybe && w->model->applied == last + 1) {
        expect(w->model->points_want, last + 1, w->maybe_number);
    } else {
        MUST(w->model->applied == last);
    }
    w->maybe = false;
    control->broken_inode = control->broken_writes = control->broken_syncs = 0;
    say(w, SAY_OPENED, 0, w->model->applied);
    shard_model_check(w->model);
    return true;
}

static void
keep_up(worker *w, uint32_t number)
{
    bool packed;
    ort_err err = ORT_OK;
    if (number % 16 == 15) {
        err = shard_model_checkpoint(w->model, number % 32 == 31, &diag);
    } else if (number == PACK_AT) {
        err = dp_log_pack(w->model->log, 0, 1, &packed, &diag);
    }
    MUST(err == ORT_OK || is_of_the_disk(err));
}

/* false: the log has failed. */
static bool
worker_operate(worker *w, uint32_t number)
{
    const operation o = operation_of(number);
    const uint64_t before = w->model->applied;
    const ort_err err = shard_model_op(w->model, o.op, o.first, o.count, o.seed, &diag);
    const bool failed = dp_log_check(w->model->log, &diag) != ORT_OK;
    MUST(err == ORT_OK || (is_of_the_disk(err) && w->model->applied == before));
    MUST(!failed || err == ORT_EIO);
    say(w,
        err == ORT_OK ? SAY_ACKED
        : failed      ? SAY_FAILED
                      : SAY_REFUSED,
        number, w->model->applied);
    return !failed;
}

static void
work(worker *w, request r)
{
    uint32_t dead = 0;
    bool open = worker_open(w);
    for (uint32_t number = 0; open && number < OPERATIONS; number++) {
        const bool goes_on = worker_operate(w, number);
        MUST(dead == 0 || !goes_on);
        if (!goes_on && dead++ == 0) {
            w->maybe = true;
            w->maybe_number = number;
        }
        keep_up(w, number);
        if (dead > TRIED_WHEN_DEAD || number == RESTART_AT) {
            shard_model_check(w->model); /* reads go on */
            shard_model_close(w->model);
            open = worker_open(w);
            dead = 0;
        }
    }
    if (open) {
        shard_model_check(w->model);
        if (r.close_at_end) {
            shard_model_close(w->model);
        }
    }
}

/* Takes requests on descriptor 0 and works them off, each in a process and says so on 1. */
static int
serve(const char *dir)
{
    request r;
    const char *path = getenv(SHIM_CONTROL);
    MUST(path != NULL);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(fd >= 0 && control != MAP_FAILED);
    close(fd);
    while (read(0, &r, sizeof r) == (ssize_t)sizeof r) {
        worker w = {.out = 1};
        const pid_t child = fork();
        MUST(child >= 0);
        if (child == 0) {
            w.model = calloc(1, sizeof *w.model);
            w.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            MUST(w.model != NULL && w.dir >= 0);
            work(&w, r);
            _exit(0);
        }
        int status;
        MUST(waitpid(child, &status, 0) == child);
        say(&w, SAY_ENDED, (uint32_t)status, 0);
    }
    munmap(control, sizeof *control);
    return 0;
}

/* --- the test: without ------------------------------------------------------------------------ */

typedef struct {
    scratch place;
    char watched[128];
    preload_server server;
    unsigned step;
    /* What was said of the shard of this n. */
    uint32_t number_of[OPERATIONS + 2]; /* by LSN */
    uint64_t last;                      /* LSN of what was acknowledged, or found at an open */
    bool maybe;
    uint32_t maybe_number;
    bool opened;
} test;

static void
start_server(test *t, const char *self)
{
    char path[160];
    snprintf(path, sizeof path, "%s/control", t->place.path);
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    MUST(fd >= 0 && ftruncate(fd, sizeof *control) == 0);
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(control != MAP_FAILED);
    close(fd);
    const preload_variable set[] = {{SHIM_CONTROL, path}, {SHIM_DIR, t->watched}, {NULL, NULL}};
    MUST(preload_start(&t->server, self, SHIM_LIBRARY, set, t->watched, NULL));
}

static void
hear(test *t, const message *m)
{
    switch ((say_what)m->what) {
    case SAY_OPENED:
        if (m->lsn != t->last) {
            MUST(t->maybe && m->lsn == t->last + 1);
            t->number_of[++t->last] = t->maybe_number;
        }
        t->maybe = false;
        t->opened = true;
        break;
    case SAY_ACKED:
        MUST(!t->maybe && m->lsn == t->last + 1);
        /* Nothing is promised in a file whose sync failed, and none is synced a second time. */
        MUST(m->broken_writes == 0 && m->broken_syncs == 0);
        t->number_of[++t->last] = m->number;
        break;
    case SAY_REFUSED:
        MUST(!t->maybe);
        break;
    case SAY_FAILED:
        if (!t->maybe) {
            t->maybe = true;
            t->maybe_number = m->number;
        }
        break;
    case SAY_ENDED:
    default:
        MUST(m->number == 0);
    }
}

/* What is left of the shard, read by a process whose calls go well. */
static void
check_what_is_left(test *t, shard_model *m)
{
    const int dir = open(t->watched, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const operation more = operation_of(OPERATIONS);
    dp_verify_report report;
    memset(m, 0, sizeof *m);
    MUST(dir >= 0);
    if (t->opened) {
        MUST(dp_storage_verify(dir, (ort_tenant_id){1}, (ort_collection_id){2}, &report, &diag) ==
             ORT_OK);
    }
    MUST(shard_model_open(m, dir, &diag) == ORT_OK);
    if (t->maybe && m->applied == t->last + 1) {
        t->number_of[++t->last] = t->maybe_number;
    }
    MUST(m->applied == t->last);
    for (uint64_t lsn = 1; lsn <= t->last; lsn++) {
        expect(m->points_want, lsn, t->number_of[lsn]);
    }
    shard_model_check(m);
    MUST(shard_model_op(m, more.op, more.first, more.count, more.seed, &diag) == ORT_OK);
    MUST(shard_model_checkpoint(m, true, &diag) == ORT_OK);
    shard_model_check(m);
    shard_model_close(m);
    MUST(dp_storage_verify(dir, (ort_tenant_id){1}, (ort_collection_id){2}, &report, &diag) ==
         ORT_OK);
    close(dir);
}

typedef struct {
    const char *what;
    uint32_t calls;
    int error; /* 0: half a write */
    bool lasting;
} fault;

/* true: the n-th call failed; false: there were fewer. */
static bool
try_n(test *t, shard_model *m, const fault *f, uint64_t n)
{
    message said = {0};
    const request r = {.close_at_end = n % 2 == 0};
    t->last = 0;
    t->maybe = t->opened = false;
    snprintf(diag.text, sizeof diag.text, "%s, call %llu", f->what, (unsigned long long)n);
    MUST(mkdir(t->watched, 0700) == 0);
    *control = (shim_control){0};
    control->calls = f->calls;
    control->error = (uint32_t)f->error;
    control->lasting = f->lasting;
    control->left = n;
    MUST(write(t->server.to, &r, sizeof r) == (ssize_t)sizeof r);
    do {
        MUST(read(t->server.from, &said, sizeof said) == (ssize_t)sizeof said);
        hear(t, &said);
    } while (said.what != SAY_ENDED);
    const bool hit = control->failed > 0;
    control->calls = 0;
    check_what_is_left(t, m);
    MUST(hit || t->last == OPERATIONS);
    MUST(ort_tree_remove(t->place.fd, "shard", &diag) == ORT_OK);
    return hit;
}

static void
try_each_n(void **state, const fault *f)
{
    test *t = *state;
    shard_model *m = calloc(1, sizeof *m);
    unsigned tried = 0;
    MUST(m != NULL);
    for (uint64_t n = 1;; n += n < STEP_FROM ? 1 : t->step) {
        if (!try_n(t, m, f, n)) {
            break;
        }
        tried++;
    }
    print_message("%s: %u calls failed, each in its run\n", f->what, tried);
    MUST(tried > 0);
    free(m);
}

/* A disk that fails has taken any part of a write: nothing may be believed of that group. */
static void
a_failed_write_is_whole_or_absent(void **state)
{
    try_each_n(state, &(fault){.what = "EIO from a write", .calls = SHIM_WRITE, .error = EIO});
}

/* The record is refused and its number given out again: the next must not be taken for it. */
static void
a_full_disk_refuses_and_takes_writes_again(void **state)
{
    try_each_n(state, &(fault){.what = "ENOSPC", .calls = SHIM_WRITE, .error = ENOSPC});
}

static void
a_disk_that_stays_full_keeps_what_it_has(void **state)
{
    try_each_n(state, &(fault){.what = "ENOSPC that stays",
                               .calls = SHIM_WRITE,
                               .error = ENOSPC,
                               .lasting = true});
}

/* A short count is no error: the rest is written, at its place. */
static void
half_a_write_is_completed(void **state)
{
    try_each_n(state, &(fault){.what = "half a write", .calls = SHIM_WRITE});
}

/* The system tells of lost pages once: whoever asks again is told that all is well. */
static void
a_failed_sync_is_believed_for_good(void **state)
{
    try_each_n(state, &(fault){.what = "EIO from a sync", .calls = SHIM_SYNC, .error = EIO});
}

static void
a_failed_rename_leaves_the_old_file(void **state)
{
    try_each_n(state, &(fault){.what = "EIO from a rename", .calls = SHIM_RENAME, .error = EIO});
}

static void
a_file_that_cannot_be_made_is_done_without(void **state)
{
    try_each_n(state, &(fault){.what = "EMFILE from an open", .calls = SHIM_OPEN, .error = EMFILE});
    try_each_n(state, &(fault){.what = "ENOSPC from an open", .calls = SHIM_OPEN, .error = ENOSPC});
}

/* What cannot be cut off or removed is still there at the next open. */
static void
what_cannot_be_removed_does_no_harm(void **state)
{
    try_each_n(
        state,
        &(fault){.what = "EIO from a removal", .calls = SHIM_TRUNCATE | SHIM_UNLINK, .error = EIO});
}

/* Also what undoes a failure fails. */
static void
a_dead_disk_loses_nothing_acknowledged(void **state)
{
    try_each_n(state, &(fault){.what = "a dead disk",
                               .calls = SHIM_WRITE | SHIM_SYNC | SHIM_RENAME | SHIM_OPEN |
                                        SHIM_TRUNCATE | SHIM_UNLINK,
                               .error = EIO,
                               .lasting = true});
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--server") == 0) {
        return serve(argv[2]);
    }
    test t = {.place = scratch_make()};
    void *state = &t;
    char self[4096];
    const char *step = getenv("ORT_SHIM_STEP");
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    MUST(n > 0);
    self[n] = '\0';
    t.step = step != NULL && atoi(step) > 0 ? (unsigned)atoi(step) : 4;
    snprintf(t.watched, sizeof t.watched, "%s/shard", t.place.path);
    start_server(&t, self);

#define FAULT_TEST(name) cmocka_unit_test_prestate(name, state)
    const struct CMUnitTest tests[] = {
        FAULT_TEST(a_failed_write_is_whole_or_absent),
        FAULT_TEST(a_full_disk_refuses_and_takes_writes_again),
        FAULT_TEST(a_disk_that_stays_full_keeps_what_it_has),
        FAULT_TEST(half_a_write_is_completed),
        FAULT_TEST(a_failed_sync_is_believed_for_good),
        FAULT_TEST(a_failed_rename_leaves_the_old_file),
        FAULT_TEST(a_file_that_cannot_be_made_is_done_without),
        FAULT_TEST(what_cannot_be_removed_does_no_harm),
        FAULT_TEST(a_dead_disk_loses_nothing_acknowledged),
    };
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    int status = -1;
    close(t.server.to);
    MUST(waitpid(t.server.pid, &status, 0) == t.server.pid);
    close(t.server.from);
    munmap(control, sizeof *control);
    scratch_drop(&t.place);
    return bad != 0 || status != 0;
}
