/* Forwarding: a connection per node, kept; a request each way in one message. */
#include "routing/forward.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "crypto/x509.h"

#define IN_FLIGHT_MAX 256u
#define IN_FLIGHT_NODE_MAX 64u
#define TIMEOUT_MS 60000u

/* NNG sends a request again when it has waited this long; longer than any forward may take, so that
 * only a lost connection makes it. */
#define RESEND_MS 600000u

/* What the home node may still need when the time it was given is up: to say so. */
#define GRACE_MS 1000u

/* A connection to one node at one URL. A node that moves gets a new one; the old one ends with the
 * last call on it. */
typedef struct {
    ort_req *req;
    char *url;
    uint32_t in_flight;
    bool retired;
} peer;

struct dp_forward {
    char *ca_pem, *cert_pem, *key_pem; /* NULL: plain */
    bool plain_ok;
    uint32_t in_flight_max, in_flight_node_max, timeout_ms;
    uint64_t incarnation; /* random: with `sequence`, names each forward for ever */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t idle;
    ort_map *peers; /* node id -> peer */
    uint64_t sequence;
    dp_forward_stats stats;
};

static void
peer_free(void *value)
{
    peer *p = value;
    if (p != NULL) {
        ort_req_close(p->req);
        free(p->url);
        free(p);
    }
}

/* Gives a place on a connection back; who leaves a retired one last closes it. */
static void
leave_peer(dp_forward *f, peer *p)
{
    pthread_mutex_lock(&f->lock);
    p->in_flight--;
    const bool last = p->retired && p->in_flight == 0;
    pthread_mutex_unlock(&f->lock);
    if (last) {
        peer_free(p);
    }
}

static bool
copy(char **to, const char *from)
{
    *to = from != NULL ? strdup(from) : NULL;
    return from == NULL || *to != NULL;
}

ort_err
dp_forward_new(dp_forward **out, const dp_forward_options *options, ort_diag *diag)
{
    *out = NULL;
    dp_forward *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "forwarding");
    }
    f->plain_ok = options->plain_ok;
    f->in_flight_max = options->in_flight_max != 0 ? options->in_flight_max : IN_FLIGHT_MAX;
    f->in_flight_node_max =
        options->in_flight_node_max != 0 ? options->in_flight_node_max : IN_FLIGHT_NODE_MAX;
    f->timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : TIMEOUT_MS;
    f->incarnation = ort_id_random();
    bool good = true;
    if (options->tls != NULL) {
        good = copy(&f->ca_pem, options->tls->ca_pem) &&
               copy(&f->cert_pem, options->tls->cert_pem) &&
               copy(&f->key_pem, options->tls->key_pem);
    }
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->idle, NULL);
    if (!good || ort_map_new(&f->peers) != ORT_OK) {
        dp_forward_free(f);
        return ort_fail(diag, ORT_ENOMEM, "forwarding");
    }
    *out = f;
    return ORT_OK;
}

void
dp_forward_free(dp_forward *f)
{
    if (f == NULL) {
        return;
    }
    pthread_mutex_lock(&f->lock);
    while (f->stats.in_flight > 0) {
        pthread_cond_wait(&f->idle, &f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    if (f->peers != NULL) {
        ort_map_free(f->peers, peer_free);
    }
    pthread_cond_destroy(&f->idle);
    pthread_mutex_destroy(&f->lock);
    ort_pem_free(f->ca_pem);
    ort_pem_free(f->cert_pem);
    ort_pem_free(f->key_pem);
    free(f);
}

ort_err
dp_forward_set_tls(dp_forward *f, const ort_tls *tls)
{
    char *pems[3] = {NULL};
    ort_map *fresh = NULL;
    size_t at = 0, len;
    const void *key;
    void *value;
    if (!copy(&pems[0], tls->ca_pem) || !copy(&pems[1], tls->cert_pem) ||
        !copy(&pems[2], tls->key_pem) || ort_map_new(&fresh) != ORT_OK) {
        for (int i = 0; i < 3; i++) {
            ort_pem_free(pems[i]);
        }
        return ORT_ENOMEM;
    }
    char **const mine[3] = {&f->ca_pem, &f->cert_pem, &f->key_pem};
    pthread_mutex_lock(&f->lock);
    ort_map *old = f->peers;
    f->peers = fresh;
    for (int i = 0; i < 3; i++) {
        char *before = *mine[i];
        *mine[i] = pems[i];
        pems[i] = before;
    }
    while (ort_map_next(old, &at, &key, &len, &value)) {
        peer *p = value;
        p->retired = true;
        p->in_flight++; /* ours, until leave_peer() below: it frees those that are idle */
    }
    pthread_mutex_unlock(&f->lock);
    at = 0;
    while (ort_map_next(old, &at, &key, &len, &value)) {
        leave_peer(f, value);
    }
    ort_map_free(old, NULL);
    for (int i = 0; i < 3; i++) {
        ort_pem_free(pems[i]);
    }
    return ORT_OK;
}

/* `lock` is held. Opening does not wait for the network. */
static ort_err
peer_open(dp_forward *f, const dp_node *node, peer **out, ort_diag *diag)
{
    char name[ORT_X509_NAME_BYTES];
    ort_x509_node_name(node->id, name);
    const bool tls = strncmp(node->forward, "tls+", 4) == 0;
    const ort_tls material = {
        .ca_pem = f->ca_pem, .cert_pem = f->cert_pem, .key_pem = f->key_pem, .server_name = name};
    if (tls && f->ca_pem == NULL) {
        return ort_fail(diag, ORT_EBUSY, "the node takes TLS, and this one has no certificate");
    }
    peer *p = calloc(1, sizeof *p);
    if (p == NULL || !copy(&p->url, node->forward)) {
        free(p);
        return ort_fail(diag, ORT_ENOMEM, "forward");
    }
    const ort_req_options options = {.url = node->forward,
                                     .tls = tls ? &material : NULL,
                                     .plain_ok = f->plain_ok,
                                     .resend_ms = RESEND_MS};
    void *old = NULL;
    ort_err err = ort_req_open(&p->req, &options, diag);
    if (err == ORT_OK) {
        err = ort_map_set(f->peers, &node->id.v, sizeof node->id.v, p, &old);
    }
    if (err != ORT_OK) {
        peer_free(p);
        return err;
    }
    peer *before = old;
    if (before != NULL && before->in_flight > 0) {
        before->retired = true; /* leave() frees it */
    } else {
        peer_free(before);
    }
    *out = p;
    return ORT_OK;
}

/* Takes a place on the connection to node. NULL: *err_out says why; ORT_EBUSY: none is free. */
static peer *
enter(dp_forward *f, const dp_node *node, uint64_t *sequence, ort_err *err_out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    pthread_mutex_lock(&f->lock);
    peer *p = ort_map_get(f->peers, &node->id.v, sizeof node->id.v);
    if (node->forward[0] == '\0') {
        err = ort_fail(diag, ORT_EBUSY, "node %016" PRIx64 " takes no forwards", node->id.v);
    } else if (f->stats.in_flight >= f->in_flight_max ||
               (p != NULL && p->in_flight >= f->in_flight_node_max)) {
        err = ort_fail(diag, ORT_EBUSY, "%" PRIu64 " forwards are in flight", f->stats.in_flight);
    } else if (p == NULL || strcmp(p->url, node->forward) != 0) {
        err = peer_open(f, node, &p, diag);
    }
    if (err == ORT_OK && p != NULL) {
        p->in_flight++;
        f->stats.in_flight++;
        *sequence = ++f->sequence;
    } else {
        f->stats.refused_total++;
        p = NULL;
    }
    pthread_mutex_unlock(&f->lock);
    *err_out = err;
    return p;
}

static void
leave(dp_forward *f, peer *p, bool failed)
{
    leave_peer(f, p);
    pthread_mutex_lock(&f->lock);
    f->stats.sent_total++;
    f->stats.failed_total += failed;
    if (--f->stats.in_flight == 0) {
        pthread_cond_broadcast(&f->idle);
    }
    pthread_mutex_unlock(&f->lock);
}

/* Reads the answer, and gives its bytes to the reply. */
static ort_err
take_answer(ort_buf *bytes, ort_forward_reply *reply, ort_diag *diag)
{
    ort_frame frame;
    ort_wire_error said;
    ort_err err = ort_frame_read(bytes->data, bytes->len, &frame, diag);
    if (err == ORT_OK && frame.type == ORT_MSG_ERROR) {
        err = ort_wire_error_decode(frame.body, frame.body_len, &said, diag);
        return err != ORT_OK ? err
                             : ort_fail(diag, said.err, "the tenant's node says: %s", said.message);
    }
    if (err == ORT_OK && frame.type != ORT_MSG_FORWARD_REPLY) {
        err =
            ort_fail(diag, ORT_EFORMAT, "a forward was answered with message type %d", frame.type);
    }
    if (err == ORT_OK) {
        err = ort_forward_reply_decode(frame.body, frame.body_len, reply, diag);
    }
    if (err == ORT_OK) {
        reply->owned = bytes->data; /* what reply->body points into */
        *bytes = (ort_buf){0};
    }
    return err;
}

ort_err
dp_forward_call(dp_forward *forward, const dp_node *node, const ort_forward_request *request,
                ort_forward_reply *reply, ort_diag *diag)
{
    ort_buf body = {0}, bytes = {0}, answer = {0};
    ort_forward_request out = *request;
    uint64_t sequence = 0;
    *reply = (ort_forward_reply){0};
    if (request->hops != 0) {
        return ort_fail(diag, ORT_EINVAL, "the request has been forwarded already");
    }
    out.hops = 1;
    if (out.timeout_ms == 0 || out.timeout_ms > forward->timeout_ms) {
        out.timeout_ms = forward->timeout_ms;
    }
    ort_err err = ort_forward_request_encode(&out, &body);
    if (err != ORT_OK) {
        ort_buf_fini(&body);
        return ort_fail(diag, err, "the request does not fit a message");
    }
    peer *p = enter(forward, node, &sequence, &err, diag);
    if (p != NULL) {
        err = ort_frame_write(&(ort_frame){.type = ORT_MSG_FORWARD,
                                           .incarnation = forward->incarnation,
                                           .sequence = sequence,
                                           .body = body.data,
                                           .body_len = body.len},
                              NULL, &bytes);
        if (err == ORT_OK) {
            err = ort_req_call(p->req, bytes.data, bytes.len, out.timeout_ms + GRACE_MS, &answer,
                               diag);
        }
        if (err == ORT_OK) {
            err = take_answer(&answer, reply, diag);
        }
        leave(forward, p, err != ORT_OK);
    }
    ort_secret_wipe_buf(&body); /* the API key is among the headers */
    ort_secret_wipe_buf(&bytes);
    ort_buf_fini(&answer);
    return err;
}

void
dp_forward_stats_get(dp_forward *forward, dp_forward_stats *out)
{
    pthread_mutex_lock(&forward->lock);
    *out = forward->stats;
    pthread_mutex_unlock(&forward->lock);
}
