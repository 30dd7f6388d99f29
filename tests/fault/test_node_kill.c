/* A node is killed with SIGKILL at a random moment of mixed load of several tenants, again and
 * again, on one directory. The next one first checks what is there against what was answered
 * (support/ledger.h), then goes on.
 *
 *   ORT_FAULT_ROUNDS  kills (400; tests/fault/kill9.test.mjs kills the program itself beside)
 *   ORT_FAULT_SEED    other moments (1); `new`: each time */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "support/ledger_load.h"
#include "support/scratch.h"

#define CHECK_S_MAX \
    120 /* a start and a check of everything: under a second, but for a busy machine */
#define RESTART_EVERY 16

static ledger *book;

static uint32_t
mix(uint64_t x)
{
    x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)((x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9) >> 33);
}

static void
check_all(const test_node *node, bool settle)
{
    for (unsigned t = 0; t < LEDGER_TENANTS; t++) {
        ledger_check(&(ledger_client){.l = book, .node = node, .tenant = t}, settle);
    }
}

static void
run_until_killed(const char *dir, int round, uint64_t seed)
{
    test_node node = {.threads = 8, .open_max = 6, .checkpoint_bytes = 64u << 10};
    test_node_open(&node, dir, book->table, LEDGER_TENANTS);
    if (round == 0) {
        for (unsigned t = 0; t < LEDGER_TENANTS; t++) {
            ledger_begin(&(ledger_client){.l = book, .node = &node, .tenant = t});
        }
    }
    check_all(&node, true);
    if (round % RESTART_EVERY == 0) { /* and all of it again, after a close in good order */
        test_node_restart(&node);
        check_all(&node, true);
    }
    book->checked = (uint32_t)round + 1;
    ledger_load_start(book, &node, seed + (uint64_t)round * 1000);
    for (;;) {
        pause();
    }
}

/* Waits until the node has checked what is there. false: it has died of it. */
static bool
wait_for_check(pid_t child, int round)
{
    const struct timespec nap = {.tv_nsec = 500000};
    const uint64_t until = ort_mono_ms() + CHECK_S_MAX * 1000u;
    while (book->checked <= (uint32_t)round && ort_mono_ms() < until) {
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            info.si_pid != 0) {
            return false;
        }
        (void)nanosleep(&nap, NULL);
    }
    return book->checked > (uint32_t)round;
}

static void
kill_at_random(const char *dir, int round, uint64_t seed)
{
    snprintf(book->where, sizeof book->where, "seed %llu, round %d", (unsigned long long)seed,
             round);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        run_until_killed(dir, round, seed);
    }
    if (wait_for_check(child, round)) {
        const uint32_t us = mix(seed + (uint64_t)round * 7) % 70000;
        const struct timespec nap = {.tv_nsec = (long)us * 1000};
        (void)nanosleep(&nap, NULL);
        (void)kill(child, SIGKILL);
    } else {
        (void)kill(child, SIGABRT); /* it hangs, or is dead */
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        fail_msg("%s: the node ended by itself: %d", book->where, status);
    }
}

static void
kills_under_load_lose_nothing(void **state)
{
    const char *rounds_text = getenv("ORT_FAULT_ROUNDS");
    const int rounds = rounds_text != NULL ? atoi(rounds_text) : 400;
    const uint64_t seed = ledger_seed();
    (void)state;
    scratch place = scratch_make();
    const uint64_t began = ort_mono_ms();
    book = ledger_new(NULL);
    for (int round = 0; round < rounds; round++) {
        kill_at_random(place.path, round, seed);
    }
    print_message("seed %llu: %d kills in %.1f s, %llu requests answered\n",
                  (unsigned long long)seed, rounds, (double)(ort_mono_ms() - began) / 1000,
                  (unsigned long long)book->answered);
    assert_true(book->answered > (uint64_t)rounds * 10);
    ledger_free(book);
    scratch_drop(&place);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kills_under_load_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
