/* The power fails under a node with mixed load, again and again: of what was not synced, any part
 * is lost, names of files and directories as well as contents. The next node first checks what is
 * there against what was answered (support/ledger.h), then goes on; the power may fail while it
 * does.
 *
 * The node's process has a library preloaded that writes every change down (journal.c); from that
 * the directory is made anew (power.c).
 *
 *   ORT_FAULT_ROUNDS  power cuts (60)
 *   ORT_FAULT_SEED    other moments, and other things lost (1); `new`: each time */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "fault/journal.h"
#include "fault/power.h"
#include "support/ledger_load.h"
#include "support/preload.h"
#include "support/scratch.h"

static ledger *book;

static uint32_t
mix(uint64_t x)
{
    x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)((x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9) >> 33);
}

/* From the test to the process with the journal. */
typedef struct {
    uint64_t seed;
    uint32_t life_us; /* after the check, or from the beginning on */
    bool first, early;
} request;

/* --- the node --------------------------------------------------------------------------------- */

static void *
die_soon(void *arg)
{
    const request *r = arg;
    const struct timespec nap = {.tv_nsec = (long)r->life_us * 1000};
    (void)nanosleep(&nap, NULL);
    (void)kill(getpid(), SIGKILL);
    return NULL;
}

static void
live(const char *dir, void *asked)
{
    request *r = asked;
    pthread_t thread;
    test_node node = {.threads = 8, .open_max = 4, .checkpoint_bytes = 32u << 10};
    if (r->early && pthread_create(&thread, NULL, die_soon, r) != 0) {
        abort();
    }
    test_node_open(&node, dir, book->table, LEDGER_TENANTS);
    for (unsigned t = 0; t < LEDGER_TENANTS; t++) {
        const ledger_client c = {.l = book, .node = &node, .tenant = t};
        if (r->first) {
            ledger_begin(&c);
        }
        ledger_check(&c, true);
    }
    book->checked++;
    ledger_load_start(book, &node, r->seed);
    if (!r->early) {
        (void)die_soon(r);
    }
    for (;;) {
        pause();
    }
}

static int
serve(const char *dir, int book_fd)
{
    request r;
    book = ledger_of(book_fd);
    return preload_serve(dir, &r, sizeof r, live);
}

/* --- the test --------------------------------------------------------------------------------- */

typedef struct {
    scratch place;
    char dir[128], journal[128];
    preload_server server;
    int book_fd, journal_fd;
    uint64_t seed;
    size_t changes, lost;
} test;

static void
start_server(test *t, const char *self)
{
    char fd_text[16];
    const preload_variable set[] = {
        {JOURNAL_FILE, t->journal}, {JOURNAL_DIR, t->dir}, {NULL, NULL}};
    snprintf(fd_text, sizeof fd_text, "%d", t->book_fd);
    assert_true(preload_start(&t->server, self, JOURNAL_LIBRARY, set, t->dir, fd_text));
}

/* Puts what the cut left in the place of what there was. */
static void
cut(test *t, power *model)
{
    struct stat st;
    assert_int_equal(fstat(t->journal_fd, &st), 0);
    void *journal = mmap(NULL, (size_t)st.st_size + 1, PROT_READ, MAP_PRIVATE, t->journal_fd, 0);
    assert_true(journal != MAP_FAILED);
    t->changes += power_replay(model, journal, (size_t)st.st_size);
    assert_int_equal(ort_tree_remove(t->place.fd, "node", NULL), ORT_OK);
    assert_int_equal(mkdirat(t->place.fd, "node", 0700), 0);
    t->lost += power_cut(model, ++t->seed, t->dir);
    munmap(journal, (size_t)st.st_size + 1);
    assert_int_equal(ftruncate(t->journal_fd, 0), 0);
}

static void
live_and_lose_power(test *t, int round)
{
    const request r = {.seed = t->seed + (uint64_t)round * 1000,
                       .life_us = mix(t->seed + (uint64_t)round * 7) % 90000,
                       .first = round == 0,
                       .early = round % 4 == 3};
    power *model = power_load(t->dir);
    int status = 0;
    snprintf(book->where, sizeof book->where, "seed %llu, round %d", (unsigned long long)t->seed,
             round);
    assert_int_equal(write(t->server.to, &r, sizeof r), sizeof r);
    assert_int_equal(read(t->server.from, &status, sizeof status), sizeof status);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        fail_msg("%s: the node ended with %x", book->where, status);
    }
    cut(t, model);
    power_free(model);
}

static void
what_was_answered_survives_a_power_cut(void **state)
{
    test *t = *state;
    const char *text = getenv("ORT_FAULT_ROUNDS");
    const int rounds = text != NULL ? atoi(text) : 60;
    const uint64_t began = ort_mono_ms(), first = t->seed;
    for (int round = 0; round < rounds; round++) {
        live_and_lose_power(t, round);
    }
    print_message("seed %llu: %d power cuts in %.1f s, %llu requests answered, %zu changes, of "
                  "which %zu were lost; %u nodes checked all\n",
                  (unsigned long long)first, rounds, (double)(ort_mono_ms() - began) / 1000,
                  (unsigned long long)book->answered, t->changes, t->lost, (unsigned)book->checked);
    assert_true(t->lost > 0 && book->checked > (unsigned)rounds / 2);
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
    t.seed = ledger_seed();
    printf("seed %llu\n", (unsigned long long)t.seed);
    book = ledger_new(&t.book_fd);
    snprintf(t.dir, sizeof t.dir, "%s/node", t.place.path);
    snprintf(t.journal, sizeof t.journal, "%s/journal", t.place.path);
    t.journal_fd = open(t.journal, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (t.journal_fd < 0 || mkdirat(t.place.fd, "node", 0700) != 0) {
        return 1;
    }
    start_server(&t, self);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(what_was_answered_survives_a_power_cut, state),
    };
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    int status = -1;
    close(t.server.to);
    (void)waitpid(t.server.pid, &status, 0);
    close(t.server.from);
    close(t.book_fd);
    close(t.journal_fd);
    ledger_free(book);
    scratch_drop(&t.place);
    return bad != 0 || status != 0;
}
