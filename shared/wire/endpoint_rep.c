/* The answering socket: contexts of NNG feed a pool of our own.
 *
 * A context goes round in this circle; each arrow is one callback or job:
 *
 *      ┌─► RECEIVING ──on_done──► WORKING (queued, then run_job) ──► SENDING ─┐
 *      │                             └─ queue full: an error is sent ─┘       │
 *      └──────────────────────────────on_done─────────────────────────────────┘
 *
 * One aio serves both operations, because a context never does both at once. NNG's callbacks run on
 * its few threads, which also move every other byte: they hand over and return. */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "wire/endpoint_internal.h"
#include "wire/messages.h"

#define CONTEXTS 256u
#define THREADS 4u
#define QUEUE_MAX 192u

typedef enum { RECEIVING, WORKING, SENDING } context_state;

typedef struct {
    ort_rep *rep;
    nng_ctx ctx;
    nng_aio *aio;
    nng_msg *request; /* while WORKING */
    context_state state;
} context;

struct ort_rep {
    nng_socket socket;
    ort_pool *pool;
    ort_rep_handler handler;
    void *arg;
    char *url;
    _Atomic uint32_t pipes;
    uint32_t count; /* contexts that are open */
    context contexts[];
};

static void
receive(context *c)
{
    c->state = RECEIVING;
    nng_ctx_recv(c->ctx, c->aio);
}

/* Sends the bytes, or drops the request when there is no memory for them (the peer asks again). */
static void
answer(context *c, const ort_buf *reply)
{
    nng_msg *msg = NULL;
    if (reply->failed || nng_msg_alloc(&msg, 0) != 0) {
        receive(c);
        return;
    }
    if (nng_msg_append(msg, reply->data, reply->len) != 0) {
        nng_msg_free(msg);
        receive(c);
        return;
    }
    c->state = SENDING;
    nng_aio_set_msg(c->aio, msg);
    nng_ctx_send(c->ctx, c->aio);
}

static void
answer_error(context *c, ort_err err, const char *message)
{
    ort_buf body = {0}, reply = {0};
    ort_wire_error m = {.err = err};
    strncpy(m.message, message, sizeof m.message - 1);
    if (ort_wire_error_encode(&m, &body) != ORT_OK ||
        ort_frame_write(
            &(ort_frame){.type = ORT_MSG_ERROR, .body = body.data, .body_len = body.len}, NULL,
            &reply) != ORT_OK) {
        reply.failed = true;
    }
    answer(c, &reply);
    ort_buf_fini(&body);
    ort_buf_fini(&reply);
}

static void
run_job(void *arg)
{
    context *c = arg;
    ort_buf reply = {0};
    c->rep->handler(c->rep->arg, nng_msg_body(c->request), nng_msg_len(c->request), &reply);
    nng_msg_free(c->request);
    c->request = NULL;
    if (reply.failed || reply.len == 0) {
        answer_error(c, ORT_EINTERNAL, "no answer");
    } else {
        answer(c, &reply);
    }
    ort_buf_fini(&reply);
}

static void
on_done(void *arg)
{
    context *c = arg;
    const int rv = nng_aio_result(c->aio);
    if (c->state == SENDING) {
        if (rv != 0) {
            nng_msg_free(nng_aio_get_msg(c->aio)); /* ours again: it was not sent */
            nng_aio_set_msg(c->aio, NULL);
        }
        if (rv != NNG_ECLOSED && rv != NNG_ECANCELED) {
            receive(c);
        }
        return;
    }
    if (rv == NNG_ECLOSED || rv == NNG_ECANCELED) {
        return; /* ort_rep_close() */
    }
    if (rv != 0) {
        receive(c);
        return;
    }
    c->request = nng_aio_get_msg(c->aio);
    nng_aio_set_msg(c->aio, NULL);
    c->state = WORKING;
    if (ort_pool_submit(c->rep->pool, run_job, c) != ORT_OK) {
        nng_msg_free(c->request);
        c->request = NULL;
        answer_error(c, ORT_EBUSY, "too many requests are waiting; ask again later");
    }
}

ort_err
ort_rep_open(ort_rep **out, const ort_rep_options *options, ort_diag *diag)
{
    const uint32_t contexts = options->contexts != 0 ? options->contexts : CONTEXTS;
    *out = NULL;
    ort_rep *rep = calloc(1, sizeof *rep + contexts * sizeof rep->contexts[0]);
    if (rep == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "listener");
    }
    rep->handler = options->handler;
    rep->arg = options->arg;
    ort_err err = ort_pool_new(&rep->pool, options->name != NULL ? options->name : "rep",
                               options->threads != 0 ? options->threads : THREADS,
                               options->queue_max != 0 ? options->queue_max : QUEUE_MAX, diag);
    if (err != ORT_OK) {
        free(rep);
        return err;
    }
    int rv = nng_rep0_open(&rep->socket);
    if (rv != 0) {
        err = ort_endpoint__fail(diag, ORT_EIO, rv, "open a socket");
        ort_pool_free(rep->pool);
        free(rep);
        return err;
    }
    err = ort_endpoint__setup(rep->socket, options->recv_bytes_max, &rep->pipes, diag);
    for (uint32_t i = 0; err == ORT_OK && i < contexts; i++) {
        context *c = &rep->contexts[i];
        c->rep = rep;
        rv = nng_ctx_open(&c->ctx, rep->socket);
        if (rv == 0 && (rv = nng_aio_alloc(&c->aio, on_done, c)) != 0) {
            nng_ctx_close(c->ctx);
        }
        if (rv != 0) {
            err = ort_endpoint__fail(diag, ORT_EIO, rv, "open a context");
            break;
        }
        rep->count++;
        receive(c);
    }
    if (err == ORT_OK) {
        err = ort_endpoint__listen(rep->socket, options->url, options->tls, options->plain_ok,
                                   &rep->url, diag);
    }
    if (err != ORT_OK) {
        ort_rep_close(rep);
        return err;
    }
    *out = rep;
    return ORT_OK;
}

const char *
ort_rep_peek_url(const ort_rep *rep)
{
    return rep->url;
}

void
ort_rep_close(ort_rep *rep)
{
    if (rep == NULL) {
        return;
    }
    /* Nothing new comes in: every receive ends, and after the wait no callback submits any more. */
    for (uint32_t i = 0; i < rep->count; i++) {
        nng_ctx_close(rep->contexts[i].ctx);
    }
    for (uint32_t i = 0; i < rep->count; i++) {
        nng_aio_wait(rep->contexts[i].aio);
    }
    /* What runs or waits ends; its answers find a closed context and are dropped. */
    ort_pool_free(rep->pool);
    for (uint32_t i = 0; i < rep->count; i++) {
        nng_aio_wait(rep->contexts[i].aio);
        nng_aio_free(rep->contexts[i].aio);
    }
    if (ort_endpoint__close(rep->socket)) {
        free(rep->url);
        free(rep);
    }
}
