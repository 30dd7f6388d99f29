/* The asking socket: a context a call. */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/thread.h"
#include "wire/endpoint_internal.h"

#define RESEND_MS 2000u

typedef struct call call;
struct call {
    nng_aio *aio;
    call *next;
};

struct ort_req {
    nng_socket socket;
    _Atomic uint32_t pipes;
    pthread_mutex_t lock; /* guards what follows; under it NNG operations begin and are aborted */
    pthread_cond_t idle;
    bool closing;
    call *calls; /* in flight */
};

ort_err
ort_req_open(ort_req **out, const ort_req_options *options, ort_diag *diag)
{
    *out = NULL;
    ort_req *req = calloc(1, sizeof *req);
    if (req == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "client");
    }
    int rv = nng_req0_open(&req->socket);
    if (rv != 0) {
        free(req);
        return ort_endpoint__fail(diag, ORT_EIO, rv, "open a socket");
    }
    ort_err err = ort_endpoint__setup(req->socket, options->recv_bytes_max, &req->pipes, diag);
    if (err == ORT_OK) {
        const uint32_t resend = options->resend_ms != 0 ? options->resend_ms : RESEND_MS;
        rv = nng_socket_set_ms(req->socket, NNG_OPT_REQ_RESENDTIME, (nng_duration)resend);
        err = rv == 0 ? ort_endpoint__dial(req->socket, options->url, options->tls,
                                           options->plain_ok, diag)
                      : ort_endpoint__fail(diag, ORT_EIO, rv, "set up a socket");
    }
    if (err != ORT_OK) {
        if (ort_endpoint__close(req->socket)) {
            free(req);
        }
        return err;
    }
    pthread_mutex_init(&req->lock, NULL);
    ort_cond_init(&req->idle);
    *out = req;
    return ORT_OK;
}

/* false: closing, and the call must not begin. */
static bool
enter(ort_req *req, call *c)
{
    pthread_mutex_lock(&req->lock);
    const bool open = !req->closing;
    if (open) {
        c->next = req->calls;
        req->calls = c;
    }
    pthread_mutex_unlock(&req->lock);
    return open;
}

static void
leave(ort_req *req, call *c)
{
    pthread_mutex_lock(&req->lock);
    for (call **at = &req->calls; *at != NULL; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    if (req->calls == NULL) {
        pthread_cond_broadcast(&req->idle);
    }
    pthread_mutex_unlock(&req->lock);
}

/* What is left of the time, at least 1 ms: 0 would mean "do not wait at all". */
static nng_duration
left_ms(uint64_t deadline)
{
    const uint64_t now = ort_mono_ms();
    return now < deadline ? (nng_duration)(deadline - now) : 1;
}

/* Starts one operation, unless the end has come: under the lock, so that an abort finds it either
 * not begun, and it never begins, or begun, and ends it. */
static int
run_one(ort_req *req, nng_ctx ctx, nng_aio *aio, void (*operation)(nng_ctx, nng_aio *),
        uint64_t deadline)
{
    nng_aio_set_timeout(aio, left_ms(deadline));
    pthread_mutex_lock(&req->lock);
    const bool open = !req->closing;
    if (open) {
        operation(ctx, aio);
    }
    pthread_mutex_unlock(&req->lock);
    if (!open) {
        return NNG_ECLOSED;
    }
    nng_aio_wait(aio);
    return nng_aio_result(aio);
}

/* Sends and only then receives. Waiting for the send matters: cancelling a receive while its send
 * is pending crashes NNG 1.5.2 (its issue 1702). */
static int
exchange(ort_req *req, nng_ctx ctx, nng_aio *aio, nng_msg *msg, uint64_t deadline, nng_msg **reply)
{
    nng_aio_set_msg(aio, msg);
    int rv = run_one(req, ctx, aio, nng_ctx_send, deadline);
    if (rv != 0) {
        nng_msg_free(msg); /* NNG owns a message only after a send succeeds */
        return rv;
    }
    nng_aio_set_msg(aio, NULL);
    rv = run_one(req, ctx, aio, nng_ctx_recv, deadline);
    if (rv == 0) {
        *reply = nng_aio_get_msg(aio);
    }
    return rv;
}

ort_err
ort_req_call(ort_req *req, const void *request, size_t n, uint32_t timeout_ms, ort_buf *reply,
             ort_diag *diag)
{
    const uint64_t deadline = ort_mono_ms() + timeout_ms;
    call c = {0};
    nng_ctx ctx = NNG_CTX_INITIALIZER;
    nng_msg *msg = NULL, *answer = NULL;
    ort_err err = ORT_OK;

    if (n > ORT_WIRE_BYTES_MAX) {
        return ort_fail(diag, ORT_ETOOBIG, "a message of %zu bytes, at most %u travel", n,
                        ORT_WIRE_BYTES_MAX);
    }
    int rv = nng_aio_alloc(&c.aio, NULL, NULL);
    if (rv != 0) {
        return ort_endpoint__fail(diag, ORT_ENOMEM, rv, "call");
    }
    if (!enter(req, &c)) {
        nng_aio_free(c.aio);
        return ort_fail(diag, ORT_EIO, "the client is closed");
    }
    rv = nng_msg_alloc(&msg, 0);
    if (rv == 0 && (rv = nng_msg_append(msg, request, n)) != 0) {
        nng_msg_free(msg);
    }
    if (rv == 0 && (rv = nng_ctx_open(&ctx, req->socket)) != 0) {
        nng_msg_free(msg);
    }
    if (rv == 0) {
        rv = exchange(req, ctx, c.aio, msg, deadline, &answer);
        nng_ctx_close(ctx);
    }
    if (rv != 0) {
        err = ort_endpoint__fail(diag, ORT_EIO, rv, "call");
    } else {
        ort_buf_put(reply, nng_msg_body(answer), nng_msg_len(answer));
        nng_msg_free(answer);
        err = ort_buf_check(reply);
    }
    leave(req, &c);
    nng_aio_free(c.aio);
    return err;
}

/* Under the lock. */
static void
abort_calls(ort_req *req)
{
    req->closing = true;
    for (call *c = req->calls; c != NULL; c = c->next) {
        nng_aio_abort(c->aio, NNG_ECLOSED);
    }
}

void
ort_req_stop(ort_req *req)
{
    pthread_mutex_lock(&req->lock);
    abort_calls(req);
    pthread_mutex_unlock(&req->lock);
}

void
ort_req_close(ort_req *req)
{
    if (req == NULL) {
        return;
    }
    pthread_mutex_lock(&req->lock);
    abort_calls(req);
    while (req->calls != NULL) {
        pthread_cond_wait(&req->idle, &req->lock);
    }
    pthread_mutex_unlock(&req->lock);
    if (!ort_endpoint__close(req->socket)) {
        return;
    }
    pthread_cond_destroy(&req->idle);
    pthread_mutex_destroy(&req->lock);
    free(req);
}
