/* File descriptors run out: a node that has k left, for k = 0, 1, 2, ..., is asked for everything
 * that opens files. Each answer is right or a 503, never a 500; what was answered with 200 is there
 * when the limit is lifted, without a restart and after one; connections that could not be taken
 * are taken then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "support/test_node.h"

#define ROUNDS 24 /* more than any one request needs */
#define POINTS_A_ROUND 5

static test_node node;
static test_tenant tenants[ROUNDS]; /* one a round: none of its files is open */
static struct rlimit usual;

/* Leaves the process `spare` descriptors that it may still open. */
static void
leave(unsigned spare)
{
    int fd = 0;
    for (unsigned found = 0; found <= spare; fd++) {
        found += fcntl(fd, F_GETFD) < 0;
    }
    const struct rlimit low = {.rlim_cur = (rlim_t)(fd - 1), .rlim_max = usual.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
}

static void
lift(void)
{
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
}

/* On a connection that is open: the answer's status. */
static int
ask(int fd, const char *key, const char *method, const char *target, const char *body)
{
    char text[2048];
    const int n = snprintf(text, sizeof text,
                           "%s %s HTTP/1.1\r\nHost: x\r\napi-key: %s\r\nContent-Type: "
                           "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                           method, target, key, strlen(body), body);
    assert_true(n > 0 && (size_t)n < sizeof text);
    assert_true(test_send(fd, text, (size_t)n));
    test_answer answer = test_receive(fd, 60000);
    const int status = answer.status;
    if (status != 200 && status != 503) {
        print_error("%s %s: %d %s\n", method, target, status, answer.body);
    }
    test_answer_fini(&answer);
    return status;
}

#define KEY(t) (tenants[t].keys[0].token)
#define SCHEMA "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"}}"

static void
put_text(char out[512], int round)
{
    int n = snprintf(out, 512, "{\"points\":[");
    for (int i = 0; i < POINTS_A_ROUND; i++) {
        n += snprintf(out + n, 512 - (size_t)n,
                      "%s{\"id\":%d,\"vector\":[%d,1],\"payload\":{\"r\":%d}}", i > 0 ? "," : "", i,
                      i, round);
    }
    (void)snprintf(out + n, 512 - (size_t)n, "]}");
}

typedef struct {
    bool made, filled; /* collection new: answered with 200 */
    bool put;          /* points of the old one */
} done;

static unsigned refused;

static bool
good(int status)
{
    if (status != 200) {
        assert_int_equal(status, 503);
        refused++;
    }
    return status == 200;
}

/* Everything that opens a file. */
static done
work(int fd, int round)
{
    char text[512];
    const char *key = KEY(round);
    done d = {0};
    put_text(text, round);
    d.put = good(ask(fd, key, "PUT", "/collections/old/points?wait=true", text));
    (void)good(ask(fd, key, "POST", "/collections/old/points/query", "{\"query\":[1,2]}"));
    (void)good(ask(fd, key, "POST", "/collections/old/snapshots", ""));
    d.made = good(ask(fd, key, "PUT", "/collections/new", SCHEMA));
    d.filled = d.made && good(ask(fd, key, "PUT", "/collections/new/points?wait=true", text));
    return d;
}

/* What could not be opened is tried again after two seconds, and not by every request. */
static void
come_back(int fd, const char *key, const char *target)
{
    const struct timespec nap = {.tv_nsec = 200000000};
    int status = ask(fd, key, "POST", target, "{}");
    for (int tries = 0; tries < 300 && status != 200; tries++) {
        (void)nanosleep(&nap, NULL);
        status = ask(fd, key, "POST", target, "{}");
    }
    assert_int_equal(status, 200);
}

/* The collection holds what was put into it: all, or nothing where that was refused. */
static void
check_points(int round, const char *name, bool put)
{
    char path[96], part[32];
    snprintf(path, sizeof path, "/collections/%s/points/count", name);
    snprintf(part, sizeof part, "\"count\":%d", POINTS_A_ROUND);
    char *body = test_call(node.port, KEY(round), 200, "POST", path, "{}");
    const bool all = strstr(body, part) != NULL;
    assert_true(all || (!put && strstr(body, "\"count\":0") != NULL));
    free(body);
    snprintf(path, sizeof path, "/collections/%s/points/%d", name, POINTS_A_ROUND - 1);
    snprintf(part, sizeof part, "\"r\":%d", round);
    if (all) {
        test_expect(node.port, KEY(round), 200, part, "GET", path, NULL);
    }
}

/* Unacknowledged = whole or absent; and every collection can be written to. */
static void
check(const done *all)
{
    char text[512];
    for (int r = 0; r < ROUNDS; r++) {
        check_points(r, "old", all[r].put);
        test_answer answer = test_request(node.port, KEY(r), "PUT", "/collections/new", SCHEMA);
        assert_int_equal(answer.status, all[r].made || answer.status == 409 ? 409 : 200);
        test_answer_fini(&answer);
        check_points(r, "new", all[r].filled);
        put_text(text, r);
        free(test_call(node.port, KEY(r), 200, "PUT", "/collections/old/points?wait=true", text));
        free(test_call(node.port, KEY(r), 200, "PUT", "/collections/new/points?wait=true", text));
    }
}

static void
requests_without_descriptors_are_refused_and_come_back(void **state)
{
    (void)state;
    done all[ROUNDS] = {{0}};
    unsigned before = 0;
    test_node_restart(&node);
    const int fd = test_connect(node.port);
    assert_int_equal(ask(fd, "none", "GET", "/healthz", ""), 200); /* it is accepted */
    for (int r = 0; r < ROUNDS; r++) {
        before = refused;
        leave((unsigned)r);
        all[r] = work(fd, r);
        lift();
    }
    print_message("%u refused\n", refused);
    assert_true(before > 5);
    assert_int_equal(refused, before); /* the last round had enough of them */
    for (int r = 0; r < ROUNDS; r++) {
        come_back(fd, KEY(r), "/collections/old/points/scroll");
        if (all[r].made) {
            come_back(fd, KEY(r), "/collections/new/points/scroll");
        }
    }
    close(fd);
    check(all);
    for (int r = 0; r < ROUNDS; r++) {
        all[r] = (done){.made = true, .filled = true, .put = true};
    }
    test_node_restart(&node);
    check(all);
}

/* A connection that cannot be accepted waits, and is served when there is room. */
static void
connections_without_descriptors_wait(void **state)
{
    (void)state;
    enum { CONNECTIONS = 30 };
    int fds[CONNECTIONS];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(node.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int first = test_connect(node.port);
    assert_int_equal(ask(first, KEY(0), "GET", "/collections", ""), 200);
    for (int i = 0; i < CONNECTIONS; i++) { /* ours need no descriptor later */
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fds[i] >= 0);
    }
    leave(3);
    for (int i = 0; i < CONNECTIONS; i++) {
        assert_int_equal(connect(fds[i], (struct sockaddr *)&to, sizeof to), 0);
    }
    /* Whoever is in is served. */
    (void)good(ask(first, KEY(0), "POST", "/collections/old/points/query", "{\"query\":[1,2]}"));
    lift();
    for (int i = 0; i < CONNECTIONS; i++) {
        assert_int_equal(ask(fds[i], KEY(0), "GET", "/collections/old", ""), 200);
        close(fds[i]);
    }
    close(first);
    free(test_call(node.port, KEY(0), 200, "GET", "/collections", NULL));
}

static int
start(void **state)
{
    (void)state;
    if (getrlimit(RLIMIT_NOFILE, &usual) != 0) {
        return -1;
    }
    test_node_start(&node, tenants, ROUNDS);
    for (int r = 0; r < ROUNDS; r++) {
        free(test_call(node.port, KEY(r), 200, "PUT", "/collections/old", SCHEMA));
    }
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    lift();
    test_node_stop(&node);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_without_descriptors_are_refused_and_come_back),
        cmocka_unit_test(connections_without_descriptors_wait),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
