/* The n-th call to the disk fails under a node that lives a life: everything that changes the disk
 * is asked of it over HTTP. For n = 1, 2, .., each time on what the one before has left. Meanwhile
 * it neither dies nor hangs and says what is wrong; afterwards, without the shim, what it answered
 * with 200 is there, what it refused is not, and the rest is whole or absent. A file whose sync has
 * failed is never given the name under which it would be believed.
 *
 * A process of its own has the shim (shim.c); it forks one for each n. What it left is looked at by
 * processes without.
 *
 *   ORT_SHIM_SECONDS  for all faults together (16): the first n of each, then some of the others
 *   ORT_SHIM_STEP=1   every n, however long it takes; 7: every seventh
 *   ORT_FAULT_SEED    other choices (1); `new`: each time */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "fault/shim.h"
#include "support/ledger.h"
#include "support/preload.h"
#include "support/scratch.h"

enum { DENSE = 5, LEAST = 2 }; /* of each fault: tried one after the other; however slow */

typedef struct {
    const char *what;
    uint32_t calls;
    int error; /* 0: half a write */
    bool lasting;
} fault;

/* From the test to the process with the shim. */
typedef struct {
    bool first, crash; /* the node is made; and ends without a close */
    uint32_t seed;
    fault fault;
    uint64_t n; /* 0: calls are counted */
} request;

static shim_control *control;
static ledger *book;
static uint64_t seed;

static uint32_t
mix(uint64_t x)
{
    x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)((x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9) >> 33);
}

static uint32_t
dice(uint32_t of)
{
    return mix(++seed) % of;
}

/* --- the life: with the shim ------------------------------------------------------------------ */

static void
change_points(const ledger_client *c)
{
    for (unsigned i = 0; i < LEDGER_GROUPS; i++) {
        ledger_write(c, i, (ledger_kind)dice(LEDGER_KINDS));
    }
}

static void
life(const test_node *node)
{
    const ledger_client c = {.l = book, .node = node, .faults = LEDGER_BROKEN},
                        other = {.l = book, .node = node, .tenant = 1, .faults = LEDGER_BROKEN};
    change_points(&c);
    ledger_checkpoint(&c, "main");
    ledger_side(&c, 0);
    ledger_side(&other, 1);
    ledger_index(&c);
    ledger_snapshot(&c, dice(LEDGER_SNAPSHOTS));
    change_points(&other);
    ledger_restore(&c);
    ledger_side(&c, 0);
    change_points(&c);
    ledger_checkpoint(&c, "main");
    ledger_backup(&other);
    ledger_side(&c, 0);
    ledger_snapshot(&other, dice(LEDGER_SNAPSHOTS));
    change_points(&other);
    if (book->tenants[2].exists.sure != 0 && !book->tenants[2].exists.open) {
        const ledger_client third = {.l = book, .node = node, .tenant = 2, .faults = LEDGER_BROKEN};
        ledger_write(&third, 0, LEDGER_UPSERT);
        ledger_delete_tenant(&third);
    }
}

static void
live(const char *dir, void *asked)
{
    const request *r = asked;
    /* Two may be open, of six that are used: they close and open all the time. */
    test_node node = {.threads = 8, .open_max = 2, .checkpoint_bytes = 32u << 10};
    seed = r->seed;
    control->calls = 0;
    test_node_open(&node, dir, book->table, LEDGER_TENANTS);
    ort_log_set_level(ORT_LOG_ERROR_ + 1); /* what the disk does is no news */
    for (unsigned t = 0; t < LEDGER_TENANTS; t++) {
        const ledger_client c = {.l = book, .node = &node, .tenant = t};
        if (book->tenants[t].exists.sure == 0) {
            ledger_begin(&c);
        }
    }
    control->error = (uint32_t)r->fault.error;
    control->lasting = r->fault.lasting;
    control->left = r->n;
    control->calls = r->fault.calls;
    if (!r->first) {
        life(&node);
    }
    if (r->crash) {
        _exit(0);
    }
    test_node_close(&node);
    _exit(0);
}

static int
serve(const char *dir, int book_fd)
{
    request r;
    const char *path = getenv(SHIM_CONTROL);
    const int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED) {
        return 1;
    }
    close(fd);
    book = ledger_of(book_fd);
    return preload_serve(dir, &r, sizeof r, live);
}

/* --- the test: without ------------------------------------------------------------------------ */

typedef struct {
    scratch place;
    char watched[128];
    preload_server server;
    int book_fd;
    unsigned step, seconds;
    uint64_t tried;
} test;

static void
start_server(test *t, const char *self)
{
    char path[160], fd_text[16];
    snprintf(path, sizeof path, "%s/control", t->place.path);
    snprintf(fd_text, sizeof fd_text, "%d", t->book_fd);
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && ftruncate(fd, sizeof *control) == 0);
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(control != MAP_FAILED);
    close(fd);
    const preload_variable set[] = {{SHIM_CONTROL, path}, {SHIM_DIR, t->watched}, {NULL, NULL}};
    assert_true(preload_start(&t->server, self, SHIM_LIBRARY, set, t->watched, fd_text));
}

static void
ask_for_life(test *t, const request *r)
{
    int status = -1;
    assert_int_equal(write(t->server.to, r, sizeof *r), sizeof *r);
    assert_int_equal(read(t->server.from, &status, sizeof status), sizeof status);
    if (status != 0) {
        fail_msg("%s: the node ended with %x", book->where, status);
    }
}

/* In a process of its own, as all that have a node: threads are not forked. */
static void
look(const test *t)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        test_node node = {.threads = 4};
        test_node_open(&node, t->watched, book->table, LEDGER_TENANTS);
        for (unsigned i = 0; i < LEDGER_TENANTS; i++) {
            ledger_check(&(ledger_client){.l = book, .node = &node, .tenant = i}, true);
        }
        test_node_close(&node);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0) {
        fail_msg("%s: the check ended with %x", book->where, status);
    }
}

/* true: the n-th call failed; false: there were fewer. */
static bool
try_n(test *t, const fault *f, uint64_t n)
{
    const request r = {.crash = n % 2 == 1, .seed = dice(1u << 30), .fault = *f, .n = n};
    snprintf(book->where, sizeof book->where, "%s, call %llu, seed %u", f->what,
             (unsigned long long)n, r.seed);
    *control = (shim_control){0};
    ask_for_life(t, &r);
    const bool hit = control->failed > 0;
    assert_int_equal(control->broken_renames, 0);
    control->calls = 0;
    look(t);
    t->tried += hit;
    return hit;
}

static void
try_each_n(test *t, const fault *f, uint64_t until_ms)
{
    unsigned tried = 0;
    *control = (shim_control){0};
    request count = {.fault = *f, .seed = dice(1u << 30)};
    snprintf(book->where, sizeof book->where, "%s, no call", f->what);
    ask_for_life(t, &count);
    const uint64_t calls = control->seen;
    assert_true(calls > 0);
    const uint32_t stride = t->step > 0 ? t->step : (uint32_t)(calls / 5 + 1);
    for (uint64_t n = 1; t->step > 0 || tried < LEAST || ort_mono_ms() < until_ms;) {
        if (!try_n(t, f, n)) {
            break;
        }
        tried++;
        n += t->step > 0 ? stride : tried < DENSE ? 1 : 1 + dice(2 * stride);
    }
    print_message("%s: %u of some %llu calls failed, each in a life\n", f->what, tried,
                  (unsigned long long)calls);
    assert_true(tried > 0);
}

static void
the_nth_call_fails_and_nothing_is_lost(void **state)
{
    static const fault faults[] = {
        {"EIO from a sync", SHIM_SYNC, EIO, false},
        {"EIO from a write", SHIM_WRITE, EIO, false},
        {"ENOSPC from a write", SHIM_WRITE, ENOSPC, false},
        {"half a write", SHIM_WRITE, 0, false},
        {"EIO from a rename", SHIM_RENAME, EIO, false},
        {"ENOSPC where a name is made", SHIM_OPEN | SHIM_MAKE, ENOSPC, false},
        {"EMFILE", SHIM_OPEN, EMFILE, false},
        {"EIO from a removal", SHIM_TRUNCATE | SHIM_UNLINK, EIO, false},
        {"a disk that stays full", SHIM_WRITE | SHIM_OPEN | SHIM_MAKE, ENOSPC, true},
        {"a dead disk", SHIM_ALL, EIO, true},
    };
    enum { FAULTS = sizeof faults / sizeof faults[0] };
    test *t = *state;
    const uint64_t began = ort_mono_ms();
    snprintf(book->where, sizeof book->where, "at the beginning");
    ask_for_life(t, &(request){.first = true});
    for (unsigned i = 0; i < FAULTS; i++) {
        /* Each has its share of the time, and what the ones before it have left. */
        try_each_n(t, &faults[i], began + t->seconds * 1000u * (i + 1) / FAULTS);
    }
    print_message("%llu lives in %.1f s: %llu answers, %llu refusals, %llu errors\n",
                  (unsigned long long)t->tried, (double)(ort_mono_ms() - began) / 1000,
                  (unsigned long long)book->answered, (unsigned long long)book->refused,
                  (unsigned long long)book->failed);
}

static unsigned
number_of(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

int
main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--server") == 0) {
        return serve(argv[2], atoi(argv[3]));
    }
    test t = {.place = scratch_make()};
    void *state = &t;
    char self[4096];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) {
        return 1;
    }
    self[n] = '\0';
    t.step = number_of("ORT_SHIM_STEP", 0);
    t.seconds = number_of("ORT_SHIM_SECONDS", 16);
    seed = ledger_seed();
    printf("seed %llu\n", (unsigned long long)seed);
    book = ledger_new(&t.book_fd);
    snprintf(t.watched, sizeof t.watched, "%s/node", t.place.path);
    if (mkdirat(t.place.fd, "node", 0700) != 0) {
        return 1;
    }
    start_server(&t, self);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(the_nth_call_fails_and_nothing_is_lost, state),
    };
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    int status = -1;
    close(t.server.to);
    (void)waitpid(t.server.pid, &status, 0);
    close(t.server.from);
    close(t.book_fd);
    munmap(control, sizeof *control);
    ledger_free(book);
    scratch_drop(&t.place);
    return bad != 0 || status != 0;
}
