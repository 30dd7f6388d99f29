/* The HTTP front and time: clients that are too slow, more of them than it serves, its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http_front.h"

/* A limit that a test meets: short, so that it is met soon. */
#define SHORT_MS 500

/* Says `piece` again and again, never silent for long, until the server answers or hangs up; fails
 * when it does neither. */
static void
drip_until_cut(int fd, const char *piece, size_t len, int pause_ms)
{
    const uint64_t until = ort_mono_ms() + HTTP_PATIENCE_MS;

    do {
        assert_true(ort_mono_ms() < until);
        say_n(fd, piece, len);
    } while (!audible(fd, pause_ms));
}

/* ---- limits ---- */

static void
half_a_head_is_cut_after_its_time(void **state)
{
    static const char *const heads[] = {"", "GET", "GET / HTTP/1.1\r\nHost: a\r\nX-Half"};
    ort_http_options o = front_options();
    int fds[3];

    (void)state;
    o.head_ms = SHORT_MS;
    front_start(&o);
    for (size_t i = 0; i < 3; i++) {
        fds[i] = dial();
        say(fds[i], heads[i]);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_not_equal(status_of(hear(fds[i], "")), 200);
        close(fds[i]);
    }
}

/* A byte of the head every 20 ms: always alive, never done. */
static void
a_slow_head_is_cut_after_its_time(void **state)
{
    ort_http_options o = front_options();

    (void)state;
    o.head_ms = SHORT_MS;
    front_start(&o);
    int fd = dial();
    say(fd, "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    drip_until_cut(fd, "a", 1, 20);
    assert_int_not_equal(status_of(hear(fd, "")), 200);
    close(fd);
}

/* The library restarts its clock with each byte; ours does not. */
static void
a_slow_body_is_cut_by_its_deadline(void **state)
{
    static const char *const framings[] = {"Content-Length: 100000\r\n\r\n",
                                           "Transfer-Encoding: chunked\r\n\r\n186A0\r\n"};
    ort_http_options o = front_options();

    (void)state;
    o.body_chunk_ms = SHORT_MS;
    front_start(&o);
    for (size_t f = 0; f < 2; f++) {
        int fd = dial();
        say(fd, "POST /echo HTTP/1.1\r\n" HOST);
        say(fd, framings[f]);
        drip_until_cut(fd, "x", 1, 20);
        expect(hear(fd, "G"), 408, true);
        assert_string_equal(front.last_refused, "slow-body");
        close(fd);
    }
    expect_alive();
}

/* Each piece in time, the whole body not: 20 KiB every 100 ms, a megabyte in all, and one second
 * for it. */
static void
a_body_is_cut_by_its_total_time(void **state)
{
    static char piece[20000];
    ort_http_options o = front_options();

    (void)state;
    o.body_total_ms = 1000;
    front_start(&o);
    memset(piece, 'x', sizeof piece);
    int fd = dial();
    const uint64_t begin = ort_mono_ms();
    say(fd, "POST /count HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\n");
    drip_until_cut(fd, piece, sizeof piece, 100);
    assert_true(ort_mono_ms() - begin >= o.body_total_ms); /* not by anything else */
    assert_int_not_equal(status_of(hear(fd, "")), 200);
    close(fd);
}

/* A client that does not read its answer must not hold a thread for long. */
static void
an_answer_nobody_reads_is_given_up(void **state)
{
    ort_http_options o = front_options();
    ort_http_stats stats;
    const int small = 4096;

    (void)state;
    o.write_ms = SHORT_MS;
    front_start(&o);
    const int dones = front.dones;
    int fd = dial();
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    say(fd, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    const uint64_t until = ort_mono_ms() + HTTP_PATIENCE_MS;
    while (front.dones == dones) {
        assert_true(ort_mono_ms() < until);
        usleep(2000);
    }
    assert_int_equal(front.last_status, 0);
    front_wait_connections(0);
    ort_http_server_stats(front.server, &stats);
    assert_int_equal(stats.in_flight, 0);
    close(fd);
    expect_alive();
}

/* Nor one that takes a little now and then: each byte restarts the library's clock, not ours. */
static void
an_answer_read_too_slowly_is_given_up(void **state)
{
    ort_http_options o = front_options();
    char bytes[512];

    (void)state;
    o.write_ms = SHORT_MS;
    front_start(&o);
    const int dones = front.dones;
    int fd = dial();
    say(fd, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    const uint64_t until = ort_mono_ms() + HTTP_PATIENCE_MS;
    while (front.dones == dones) {
        assert_true(ort_mono_ms() < until);
        (void)recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        usleep(10000);
    }
    assert_int_equal(front.last_status, 0);
    front_wait_connections(0);
    close(fd);
    expect_alive();
}

/* ---- more than is served ---- */

static void
over_the_in_flight_cap_is_503_but_health_answers(void **state)
{
    int fds[6];

    (void)state;
    front.held = true;
    for (int i = 0; i < 6; i++) {
        fds[i] = dial();
        say(fds[i], "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    }
    front_wait_in_flight(6);
    heard *h = ask("GET / HTTP/1.1\r\n" HOST "\r\n");
    expect(h, 503, false);
    assert_true(has(h, "Retry-After: 1\r\n"));
    expect(ask("GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 200, false);
    front.held = false;
    for (int i = 0; i < 6; i++) {
        expect(hear(fds[i], "G"), 200, false);
        close(fds[i]);
    }
    front_wait_in_flight(0);
    expect(ask("GET / HTTP/1.1\r\n" HOST "\r\n"), 200, false);
}

/* Idle connections may take 7 of 8 threads, 14 of 16 here: the rest go round. */
static void
idle_connections_leave_room_for_new_clients(void **state)
{
    int fds[40];
    int kept = 0;

    (void)state;
    for (int i = 0; i < 40; i++) {
        fds[i] = dial();
        say(fds[i], "GET / HTTP/1.1\r\n" HOST "\r\n");
        heard *h = hear(fds[i], "G");
        expect(h, 200, h->closed);
        assert_int_equal(h->closed, has(h, "Connection: close\r\n"));
        kept += !h->closed;
    }
    assert_int_equal(kept, 14);
    for (int i = 0; i < 40; i++) {
        close(fds[i]);
    }
}

enum { HALF = 500, SLOW = 50 };

/* Those who say half a head: each connection takes two descriptors of this process, of which a user
 * may have 1,024 and no more. */
static int
half_possible(void)
{
    struct rlimit limit = {0};

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    const int others = 2 * SLOW + 200;
    return limit.rlim_max >= 2 * HALF + (rlim_t)others ? HALF : ((int)limit.rlim_max - others) / 2;
}

/* Ten clients are served beside the crowd. Whether that was while the crowd was whole: none of it
 * had heard anything, or been cut, when the tenth had its answer. */
static bool
others_are_served_beside(const int *crowd, int half)
{
    for (int round = 0; round < 10; round++) {
        for (int i = half; i < half + SLOW; i++) {
            say(crowd[i], "x");
        }
        int fd = dial();
        say(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
        expect(hear(fd, "G"), 200, false);
        close(fd);
    }
    for (int i = 0; i < half + SLOW; i++) {
        if (audible(crowd[i], 0)) {
            return false;
        }
    }
    return true;
}

/* Five hundred clients that say half a head and fifty that send a body a byte at a time: others are
 * served meanwhile, and when their time is over all are gone. On a machine so slow that their time
 * was over before that was seen, once more with more of it. */
static void
slow_clients_in_numbers_do_not_stop_others(void **state)
{
    ort_http_options o = front_options();
    const int half = half_possible();
    int fds[HALF + SLOW];
    bool beside = false;

    (void)state;
    o.threads = 700;
    o.inflight_max = 600;
    for (uint32_t limit_ms = 2000; !beside && limit_ms <= 50000; limit_ms *= 5) {
        (void)front_down(state);
        o.head_ms = limit_ms;
        o.body_chunk_ms = limit_ms;
        o.body_total_ms = limit_ms;
        front_start(&o);
        for (int i = 0; i < half + SLOW; i++) {
            fds[i] = dial();
            say(fds[i], i < half ? "GET / HTTP/1.1\r\nHo"
                                 : "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n");
        }
        beside = others_are_served_beside(fds, half);
        front_wait_connections(0);
        for (int i = 0; i < half + SLOW; i++) {
            close(fds[i]);
        }
    }
    assert_true(beside);
}

/* ---- the end ---- */

typedef struct {
    uint32_t grace_ms;
    ort_err err;
} drain;

static void *
drain_run(void *arg)
{
    drain *d = arg;

    d->err = ort_http_server_drain(front.server, d->grace_ms, HTTP_PATIENCE_MS);
    return NULL;
}

static int
hold_one(void)
{
    front.held = true;
    int fd = dial();
    say(fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    front_wait_in_flight(1);
    return fd;
}

/* In the grace time everything is served, but readyz turns balancers away. Whether it was seen: the
 * machine may be so slow that the time is over first. `begin`: before the drain. */
static bool
grace_is_seen(uint64_t begin, uint32_t grace_ms)
{
    static heard ready;

    while (!ort_http_server_draining(front.server)) {
        usleep(2000);
    }
    ready = *ask("GET /readyz HTTP/1.1\r\n" HOST "\r\n");
    heard *h = ask("GET / HTTP/1.1\r\n" HOST "\r\n");
    if (ort_mono_ms() - begin >= grace_ms) {
        return false;
    }
    expect(&ready, 503, true);
    expect(h, 200, true);
    return true;
}

static void
drain_lets_requests_end_and_refuses_new_ones(void **state)
{
    bool seen = false;

    for (drain d = {.grace_ms = 300}; !seen && d.grace_ms <= 40000; d.grace_ms *= 5) {
        pthread_t thread;

        (void)front_down(state);
        (void)front_up(state);
        int fd = hold_one();
        const uint64_t begin = ort_mono_ms();
        assert_int_equal(pthread_create(&thread, NULL, drain_run, &d), 0);
        seen = grace_is_seen(begin, d.grace_ms);
        heard *h;
        const uint64_t until = ort_mono_ms() + HTTP_PATIENCE_MS;
        do {
            h = ask("GET / HTTP/1.1\r\n" HOST "\r\n");
            assert_true(h->closed && ort_mono_ms() < until);
        } while (status_of(h) == 200);
        expect(h, 503, true);
        front.held = false;
        h = hear(fd, "G");
        expect(h, 200, true);
        assert_true(has(h, "held"));
        close(fd);
        pthread_join(thread, NULL);
        assert_int_equal(d.err, ORT_OK);
    }
    assert_true(seen);
}

static void
drain_gives_up_after_its_time(void **state)
{
    (void)state;
    int fd = hold_one();
    assert_int_equal(ort_http_server_drain(front.server, 0, 100), ORT_ETIMEOUT);
    front.held = false;
    close(fd);
}

int
main(void)
{
#define OWN(test) cmocka_unit_test_teardown(test, front_down)
#define SERVED(test) cmocka_unit_test_setup_teardown(test, front_up, front_down)
    const struct CMUnitTest tests[] = {
        OWN(half_a_head_is_cut_after_its_time),
        OWN(a_slow_head_is_cut_after_its_time),
        OWN(a_slow_body_is_cut_by_its_deadline),
        OWN(a_body_is_cut_by_its_total_time),
        OWN(an_answer_nobody_reads_is_given_up),
        OWN(an_answer_read_too_slowly_is_given_up),
        SERVED(over_the_in_flight_cap_is_503_but_health_answers),
        SERVED(idle_connections_leave_room_for_new_clients),
        OWN(slow_clients_in_numbers_do_not_stop_others),
        OWN(drain_lets_requests_end_and_refuses_new_ones),
        SERVED(drain_gives_up_after_its_time),
    };
    return cmocka_run_group_tests_name("http and time", tests, NULL, NULL);
}
