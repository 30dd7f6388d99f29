/* deploy/haproxy/haproxy.cfg in front of the node's HTTP front: ten thousand idle keep-alive
 * connections, and a new client is served at once. Without it they would need ten thousand threads.
 * Skipped, with a message, where haproxy is not installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/http.h"

#define IDLE_WANTED 10000
#define NODE_THREADS 64
#define NODE_CONNECTIONS 48 /* of haproxy to the node; some threads are left for others */
#define BATCH 100

static ort_http_server *node;
static uint16_t proxy_port;
static pid_t proxy = -1;
static int idle_count;
static int idle[IDLE_WANTED];

static void
hello(ort_http_req *req, void *user)
{
    (void)user;
    ort_http_reply_text(req, 200, "hello");
}

static void
length(ort_http_req *req, void *user)
{
    size_t len = 0;
    char text[32];
    (void)user;
    (void)ort_http_req_body(req, &len);
    (void)snprintf(text, sizeof text, "%zu", len);
    ort_http_reply_text(req, 200, text);
}

static const ort_http_route routes[] = {
    {.method = ORT_HTTP_GET, .pattern = "/", .handler = hello},
    {.method = ORT_HTTP_GET, .pattern = "/readyz", .handler = hello},
    {.method = ORT_HTTP_POST, .pattern = "/length", .handler = length},
};

static int
dial(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* A port that was free a moment ago. */
static uint16_t
free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    close(fd);
    return ntohs(at.sin_port);
}

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

/* The status of the answer on fd, or 0 when none comes in a minute. */
static int
hear(int fd)
{
    char text[4096];
    int status = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 60000) <= 0) {
        return 0;
    }
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    if (n <= 0) {
        return 0;
    }
    text[n] = '\0';
    return sscanf(text, "HTTP/1.1 %d ", &status) == 1 ? status : 0;
}

static int
ask(int fd)
{
    return send(fd, GET, strlen(GET), MSG_NOSIGNAL) == (ssize_t)strlen(GET) ? hear(fd) : 0;
}

/* As many as the system gives descriptors to this process, which holds the clients, and to haproxy,
 * which holds their other ends and a few connections to the node. */
static int
idle_possible(void)
{
    struct rlimit limit = {40000, 40000};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        (void)getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    int possible = limit.rlim_cur > 700 ? (int)(limit.rlim_cur - 600) : 100;
    return possible < IDLE_WANTED ? possible : IDLE_WANTED;
}

static void
proxy_start(void)
{
    char bind_to[32], to[32], clients[32], connections[32];
    (void)snprintf(bind_to, sizeof bind_to, "127.0.0.1:%u", (unsigned)proxy_port);
    (void)snprintf(to, sizeof to, "127.0.0.1:%u", (unsigned)ort_http_server_port(node, 0));
    (void)snprintf(clients, sizeof clients, "%d", idle_count + 100);
    (void)snprintf(connections, sizeof connections, "%d", NODE_CONNECTIONS);
    setenv("ORTHANT_HAPROXY_BIND", bind_to, 1);
    setenv("ORTHANT_HAPROXY_NODE", to, 1);
    setenv("ORTHANT_HAPROXY_MAXCONN", clients, 1);
    setenv("ORTHANT_HAPROXY_NODE_CONN", connections, 1);
    proxy = fork();
    assert_true(proxy >= 0);
    if (proxy == 0) {
        execlp("haproxy", "haproxy", "-db", "-f", "deploy/haproxy/haproxy.cfg", (char *)NULL);
        _exit(127);
    }
    uint64_t until = ort_mono_ms() + 60000;
    for (int status = 0; status != 200;) {
        assert_true(ort_mono_ms() < until);
        usleep(50000);
        int fd = dial(proxy_port);
        if (fd >= 0) {
            status = ask(fd);
            close(fd);
        }
    }
}

static int
start(void **state)
{
    static const ort_http_listener listener = {.address = "127.0.0.1:0"};
    ort_http_options o = {.listeners = &listener,
                          .listener_count = 1,
                          .routes = routes,
                          .route_count = sizeof routes / sizeof routes[0],
                          .threads = NODE_THREADS};
    ort_diag diag = {""};

    (void)state;
    if (system("command -v haproxy >/dev/null 2>&1") != 0) {
        return 0; /* the test says so */
    }
    idle_count = idle_possible();
    proxy_port = free_port();
    if (ort_http_server_new(&node, &o, &diag) != ORT_OK ||
        ort_http_server_start(node, &diag) != ORT_OK) {
        print_error("%s\n", diag.text);
        return -1;
    }
    proxy_start();
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    if (proxy > 0) {
        kill(proxy, SIGTERM);
        (void)waitpid(proxy, NULL, 0);
    }
    for (int i = 0; i < idle_count; i++) {
        if (idle[i] > 0) {
            close(idle[i]);
        }
    }
    ort_http_server_free(node);
    return 0;
}

static void
ten_thousand_idle_clients_leave_room_for_a_new_one(void **state)
{
    ort_http_stats stats;

    (void)state;
    if (node == NULL) {
        print_message("haproxy is not installed (package haproxy): skipped\n");
        skip();
    }
    uint64_t begin = ort_mono_ms();
    for (int from = 0; from < idle_count; from += BATCH) {
        int to = from + BATCH < idle_count ? from + BATCH : idle_count;
        for (int i = from; i < to; i++) {
            idle[i] = dial(proxy_port);
            assert_true(idle[i] > 0);
            assert_int_equal(send(idle[i], GET, strlen(GET), MSG_NOSIGNAL), strlen(GET));
        }
        for (int i = from; i < to; i++) {
            assert_int_equal(hear(idle[i]), 200);
        }
    }
    print_message("%d idle connections, opened in %llu ms\n", idle_count,
                  (unsigned long long)(ort_mono_ms() - begin));
    ort_http_server_stats(node, &stats);
    print_message("the node has %u connections open, of %u threads\n", stats.connections,
                  stats.threads);
    assert_true(stats.connections <= NODE_CONNECTIONS + 2); /* and health checks */

    uint64_t worst = 0;
    for (int i = 0; i < 20; i++) {
        begin = ort_mono_ms();
        int fd = dial(proxy_port);
        assert_int_equal(ask(fd), 200);
        uint64_t took = ort_mono_ms() - begin;
        worst = took > worst ? took : worst;
        close(fd);
    }
    print_message("a new client is served in %llu ms at worst\n", (unsigned long long)worst);
    /* The idle ones are still there. */
    for (int i = 0; i < idle_count; i += 97) {
        assert_int_equal(ask(idle[i]), 200);
    }
    /* Room for the next test. */
    for (int i = 0; i < idle_count && i < NODE_THREADS * 4; i++) {
        close(idle[i]);
        idle[i] = 0;
    }
}

/* Half a body, and then silence: the node never hears of it. */
static void
slow_senders_do_not_reach_the_node(void **state)
{
    enum { SLOW = NODE_THREADS * 2 };
    int fds[SLOW];
    ort_http_stats stats;

    (void)state;
    if (node == NULL) {
        skip();
    }
    for (int i = 0; i < SLOW; i++) {
        static const char half[] =
            "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf";
        fds[i] = dial(proxy_port);
        assert_true(fds[i] > 0);
        assert_int_equal(send(fds[i], half, sizeof half - 1, MSG_NOSIGNAL), sizeof half - 1);
    }
    usleep(300000);
    ort_http_server_stats(node, &stats);
    assert_true(stats.in_flight <= 1);
    int fd = dial(proxy_port);
    assert_int_equal(ask(fd), 200);
    close(fd);
    for (int i = 0; i < SLOW; i++) {
        close(fds[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_idle_clients_leave_room_for_a_new_one),
        cmocka_unit_test(slow_senders_do_not_reach_the_node),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
