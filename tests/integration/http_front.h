/* tests/integration/http_front.h: an HTTP front with routes for tests, and a client that says
 * exactly what it is told. No test here depends on how fast the machine is: an answer is whole by
 * its framing, a connection is open because it answers once more, and waits end by what happens. */
#ifndef HTTP_FRONT_H
#define HTTP_FRONT_H
#include <stdatomic.h>

#include "http/http.h"

/* How long what must happen is waited for: only what hangs takes so long. */
#define HTTP_PATIENCE_MS 60000

/* Longer than any wait: a limit of the front that a test must not meet. */
#define HTTP_NEVER_MS (10u * HTTP_PATIENCE_MS)

typedef struct {
    ort_http_server *server;
    uint16_t port;
    _Atomic int admits, dones, last_status; /* of hooks; the client's own questions not counted */
    const char *_Atomic last_refused;
    _Atomic int probes; /* the client's own questions */
    _Atomic bool held;  /* /hold answers when it is let go */
} http_front;

extern http_front front;

/* 16 threads, 6 requests in work, and no limit in time that a test meets. */
ort_http_options front_options(void);
void front_start(const ort_http_options *options);

/* Set up and tear down. */
int front_up(void **state);   /* with front_options() */
int front_down(void **state); /* also when none runs */

/* Waits for so many open connections, or requests in work. */
void front_wait_connections(uint32_t count);
void front_wait_in_flight(uint32_t count);

/* ---- client ---- */

typedef struct {
    char text[70000]; /* all that came, NUL-ended */
    size_t len;
    bool closed; /* by the server */
} heard;

int dial(void);
void say_n(int fd, const char *bytes, size_t len);
void say(int fd, const char *text);

/* Whether something can be heard, or the end, within so long. */
bool audible(int fd, int within_ms);

/* Hears as many answers as there are letters: G with the body its framing says, H (to HEAD)
 * without, C a "100 Continue"; all until the server closes for "". Behind an answer that does not
 * announce the end of the connection, the client finds out by a question of its own (/probe)
 * whether it is open; not behind C. The result is good until the next call. */
heard *hear(int fd, const char *answers);

/* One request on a connection of its own, and its answer; the second for several requests. */
heard *ask(const char *text);
heard *ask_for(const char *text, const char *answers);

int status_of(const heard *h);
size_t answers_in(const heard *h);
bool has(const heard *h, const char *text);
void expect(const heard *h, int status, bool closed);

/* Any new client is served: no test may leave the server in a bad state. */
void expect_alive(void);

#define HOST "Host: a\r\n"
#endif /* HTTP_FRONT_H */
