/* data-plane/routing/forward.h: requests for tenants of other nodes go to their home node over NNG
 * and come back as if they had been answered here. */
#ifndef DP_FORWARD_H
#define DP_FORWARD_H
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "routing/table.h"
#include "wire/endpoint.h"
#include "wire/messages.h"

/* ---- the asking side ---- */

/* Connections to other nodes, made on first use and kept. Threads: any number. */
typedef struct dp_forward dp_forward;

typedef struct {
    const ort_tls *tls; /* our certificate and the hub CA, copied; NULL: plain */
    bool plain_ok;
    uint32_t in_flight_max;      /* forwards at once; beyond: ORT_EBUSY; 0 = 256 */
    uint32_t in_flight_node_max; /* to one node, so that one slow node does not take all; 0 = 64 */
    uint32_t timeout_ms;         /* the longest a forward may take; 0 = 60000 */
} dp_forward_options;

ORT_NODISCARD ort_err dp_forward_new(dp_forward **out, const dp_forward_options *options,
                                     ort_diag *diag);
void dp_forward_free(dp_forward *forward); /* waits for those in flight */

/* Uses another certificate from now on: forwards in flight end on the connections they have, later
 * ones make new ones. From any thread. ORT_ENOMEM: everything is as it was. */
ORT_NODISCARD ort_err dp_forward_set_tls(dp_forward *forward, const ort_tls *tls);

/* Sends request to node and gives its answer; ort_forward_reply_fini() on success. request->hops is
 * what it came with (0 from a client); the reply's memory is its own.
 *
 * ORT_EINVAL    hops: it has been forwarded already, tables disagree; answer 503 and let the client
 *               come again. Never forwarded twice.
 * ORT_EBUSY     too many in flight, or the node takes no forwards
 * ORT_ETIMEOUT  no answer in time; a write may have been done
 * ORT_EIO, ORT_EFORMAT, ORT_ETOOBIG  the node is out of reach, or answered nonsense */
ORT_NODISCARD ort_err dp_forward_call(dp_forward *forward, const dp_node *node,
                                      const ort_forward_request *request, ort_forward_reply *reply,
                                      ort_diag *diag);

typedef struct {
    uint64_t sent_total;
    uint64_t failed_total;
    uint64_t refused_total; /* for want of room */
    uint64_t in_flight;
} dp_forward_stats;
void dp_forward_stats_get(dp_forward *forward, dp_forward_stats *out);

/* ---- the answering side ---- */

typedef struct dp_forward_server dp_forward_server;

/* Runs the request through the same gate and handlers as a local one, and fills reply: status,
 * headers (in memory that reply->arena holds and free() takes, or static) and body appended to
 * body_out (reply->body is set from it). request is borrowed for the call. Runs on a worker of the
 * server; must end by request->timeout_ms. */
typedef void (*dp_forward_handler)(void *arg, const ort_forward_request *request,
                                   ort_forward_reply *reply, ort_buf *body_out);

typedef struct {
    const char *url;
    const ort_tls *tls;
    bool plain_ok;
    uint32_t threads;   /* 0 = 16 */
    uint32_t queue_max; /* 0 = 256 */
    dp_forward_handler handler;
    void *arg;
} dp_forward_server_options;

ORT_NODISCARD ort_err dp_forward_server_open(dp_forward_server **out,
                                             const dp_forward_server_options *options,
                                             ort_diag *diag);
const char *dp_forward_server_peek_url(const dp_forward_server *server);
void dp_forward_server_close(dp_forward_server *server);
#endif /* DP_FORWARD_H */
