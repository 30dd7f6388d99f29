/* shared/wire/endpoint.h: the sockets: ask and answer (req/rep), shout and listen (pub/sub).
 *
 * The only code that knows NNG. What components.md measured of Debian's 1.5.2 is built in here,
 * once: receive sizes are bounded on every socket (the default is unlimited), queues are long
 * enough for bursts, lost connections are tried again after 50 ms to 1 s, a request is sent again
 * after 2 s, every wait ends, a callback of NNG only queues work, TLS clients always check the
 * server's name. NNG does not survive fork(): daemonise first.
 *
 * URLs: tls+tcp://host:port with an ort_tls; ipc:///path and tcp://host:port only with plain_ok,
 * and tcp only to a loopback address; inproc://name likewise, for tests. Port 0 listens on a free
 * one. */
#ifndef ORT_ENDPOINT_H
#define ORT_ENDPOINT_H
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* PEM texts, borrowed for the open call. */
typedef struct {
    const char *ca_pem;   /* whom to believe; NULL only with unverified */
    const char *cert_pem; /* our own; NULL: none (a joining node) */
    const char *key_pem;
    const char *server_name; /* clients: the name the server's certificate must carry */
    bool any_client;         /* servers: clients need no certificate (the join listener) */
    bool unverified; /* clients: believe anyone; for ORT_MSG_CA alone, whose answer is checked
                      * against the fingerprint in the join token */
} ort_tls;

/* ORT_OK when a URL may be used so, for a config check. ORT_EVALIDATE says why not. */
ORT_NODISCARD ort_err ort_endpoint_check(const char *url, bool has_tls, bool plain_ok,
                                         ort_diag *diag);

/* ---- answering ---- */

typedef struct ort_rep ort_rep;

/* Answers one request: runs on a worker of the endpoint's own pool, many at once. request is
 * borrowed for the call; what is appended to reply is sent. An empty reply sends an ORT_MSG_ERROR.
 */
typedef void (*ort_rep_handler)(void *arg, const void *request, size_t n, ort_buf *reply);

typedef struct {
    const char *url;
    const ort_tls *tls; /* NULL: plain */
    bool plain_ok;
    ort_rep_handler handler;
    void *arg;
    uint32_t contexts;     /* requests that may be inside at once, waiting or running; 0 = 256 */
    uint32_t threads;      /* workers; 0 = 4 */
    uint32_t queue_max;    /* requests waiting for a worker; beyond: refused at once with
                            * ORT_MSG_ERROR unavailable; 0 = 192 */
    size_t recv_bytes_max; /* larger messages end the connection; 0 = ORT_WIRE_BYTES_MAX */
    const char *name;      /* of its threads; NULL = "rep" */
} ort_rep_options;

/* Listens. ORT_EVALIDATE: the URL or TLS material is no good. ORT_EIO: cannot listen there. */
ORT_NODISCARD ort_err ort_rep_open(ort_rep **out, const ort_rep_options *options, ort_diag *diag);

/* The URL clients dial, with the port that was chosen. Borrowed while open. */
const char *ort_rep_peek_url(const ort_rep *rep);

/* Stops taking requests, waits for the handlers that run, and frees. Not from a handler. */
void ort_rep_close(ort_rep *rep);

/* ---- asking ---- */

typedef struct ort_req ort_req;

typedef struct {
    const char *url;
    const ort_tls *tls;
    bool plain_ok;
    uint32_t resend_ms;    /* an unanswered request is sent again; 0 = 2000 */
    size_t recv_bytes_max; /* 0 = ORT_WIRE_BYTES_MAX */
} ort_req_options;

/* Does not wait for the server: it may come up later, go and come back. */
ORT_NODISCARD ort_err ort_req_open(ort_req **out, const ort_req_options *options, ort_diag *diag);

/* Sends request and appends the answer to reply. Any number of threads. The server may see a
 * request more than once (a resend): what it does must bear that.
 *
 * ORT_ETIMEOUT  no answer in time: it may have been done or not
 * ORT_ETOOBIG   request over ORT_WIRE_BYTES_MAX
 * ORT_EIO       the endpoint is closed, or NNG failed otherwise */
ORT_NODISCARD ort_err ort_req_call(ort_req *req, const void *request, size_t n, uint32_t timeout_ms,
                                   ort_buf *reply, ort_diag *diag);

/* Calls in flight end with ORT_EIO, and every later one at once. From any thread. */
void ort_req_stop(ort_req *req);
/* Stops, waits for the calls in flight, and frees. NULL is fine. */
void ort_req_close(ort_req *req);

/* ---- shouting and listening: messages may be lost; the newest are kept ---- */

typedef struct ort_pub ort_pub;
typedef struct ort_sub ort_sub;

typedef struct {
    const char *url;
    const ort_tls *tls;
    bool plain_ok;
    uint32_t queue_max;    /* messages kept per peer; 0 = 1024 (pub), 2048 (sub) */
    size_t recv_bytes_max; /* sub; 0 = 1 MiB */
} ort_pub_options;

ORT_NODISCARD ort_err ort_pub_open(ort_pub **out, const ort_pub_options *options, ort_diag *diag);
const char *ort_pub_peek_url(const ort_pub *pub);
/* Never waits. Any number of threads. ORT_OK says nothing about who got it. */
ORT_NODISCARD ort_err ort_pub_send(ort_pub *pub, const void *bytes, size_t n);
void ort_pub_close(ort_pub *pub);

ORT_NODISCARD ort_err ort_sub_open(ort_sub **out, const ort_pub_options *options, ort_diag *diag);
/* Waits for the next message and appends it to out. One thread at a time.
 * ORT_ETIMEOUT: none came. ORT_EIO: closed. */
ORT_NODISCARD ort_err ort_sub_recv(ort_sub *sub, uint32_t timeout_ms, ort_buf *out);
/* Makes a running and every later ort_sub_recv() return ORT_EIO; from any thread. */
void ort_sub_stop(ort_sub *sub);
void ort_sub_close(ort_sub *sub);
#endif /* ORT_ENDPOINT_H */
