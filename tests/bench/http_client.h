/* tests/bench/http_client.h: the smallest HTTP/1.1 client that loads a server: one kept connection,
 * one request at a time, blocking. */
#ifndef BENCH_HTTP_CLIENT_H
#define BENCH_HTTP_CLIENT_H
#include "base/buf.h"

typedef struct {
    int fd; /* -1: not connected */
    char host[128];
    int port;
    char key[256];
    ort_buf out, in; /* in: head and body of the last answer */
    size_t body_at, body_len;
} bench_http;

/* url: http://HOST:PORT. Ends the program when it is no such URL. Connects when first used. The key
 * is sent as api-key and as bearer token: either API takes its own. */
void bench_http_init(bench_http *http, const char *url, const char *api_key);
void bench_http_fini(bench_http *http);

/* Sends one request, reads the whole answer; connects again when the server had closed. Returns the
 * status, 0 when there was no answer. The body stands at http->in.data + body_at, body_len bytes.
 */
int bench_http_call(bench_http *http, const char *method, const char *path, const char *body,
                    size_t body_len);
#endif /* BENCH_HTTP_CLIENT_H */
