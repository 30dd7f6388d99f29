/* Shouting and listening. */
#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "wire/endpoint_internal.h"

#define PUB_QUEUE 1024u
#define SUB_QUEUE 2048u
#define SUB_BYTES_MAX (1u << 20)

/* A receive waits in slices, so that a stop is seen also when it came between two of them. */
#define SLICE_MS 500u

/* NNG counts a published message's references with atomics of its own, which the thread sanitizer
 * cannot see inside an uninstrumented library: when the sender drops the last reference, the free
 * looks like a race with the copy that another pipe's thread made. What happens in here is not
 * looked at. */
#ifdef __SANITIZE_THREAD__
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#define UNWATCHED_BEGIN() AnnotateIgnoreWritesBegin(__FILE__, __LINE__)
#define UNWATCHED_END() AnnotateIgnoreWritesEnd(__FILE__, __LINE__)
#else
#define UNWATCHED_BEGIN() ((void)0)
#define UNWATCHED_END() ((void)0)
#endif

struct ort_pub {
    nng_socket socket;
    _Atomic uint32_t pipes;
    char *url;
};

struct ort_sub {
    nng_socket socket;
    _Atomic uint32_t pipes;
    nng_aio *aio;
    atomic_bool stopped;
};

ort_err
ort_pub_open(ort_pub **out, const ort_pub_options *options, ort_diag *diag)
{
    *out = NULL;
    ort_pub *pub = calloc(1, sizeof *pub);
    if (pub == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "publisher");
    }
    int rv = nng_pub0_open(&pub->socket);
    if (rv != 0) {
        free(pub);
        return ort_endpoint__fail(diag, ORT_EIO, rv, "open a socket");
    }
    ort_err err = ort_endpoint__setup(pub->socket, 4096, &pub->pipes, diag);
    if (err == ORT_OK) {
        const uint32_t queue = options->queue_max != 0 ? options->queue_max : PUB_QUEUE;
        rv = nng_socket_set_int(pub->socket, NNG_OPT_SENDBUF, (int)queue);
        err = rv == 0 ? ort_endpoint__listen(pub->socket, options->url, options->tls,
                                             options->plain_ok, &pub->url, diag)
                      : ort_endpoint__fail(diag, ORT_EIO, rv, "set up a socket");
    }
    if (err != ORT_OK) {
        ort_pub_close(pub);
        return err;
    }
    *out = pub;
    return ORT_OK;
}

const char *
ort_pub_peek_url(const ort_pub *pub)
{
    return pub->url;
}

ort_err
ort_pub_send(ort_pub *pub, const void *bytes, size_t n)
{
    nng_msg *msg = NULL;
    int rv = nng_msg_alloc(&msg, 0);
    if (rv != 0) {
        return ORT_ENOMEM;
    }
    rv = nng_msg_append(msg, bytes, n);
    if (rv == 0) {
        UNWATCHED_BEGIN();
        rv = nng_sendmsg(pub->socket, msg, NNG_FLAG_NONBLOCK);
        UNWATCHED_END();
    }
    if (rv != 0) {
        nng_msg_free(msg);
        return rv == NNG_ENOMEM ? ORT_ENOMEM : ORT_EIO;
    }
    return ORT_OK;
}

void
ort_pub_close(ort_pub *pub)
{
    if (pub != NULL && ort_endpoint__close(pub->socket)) {
        free(pub->url);
        free(pub);
    }
}

ort_err
ort_sub_open(ort_sub **out, const ort_pub_options *options, ort_diag *diag)
{
    *out = NULL;
    ort_sub *sub = calloc(1, sizeof *sub);
    if (sub == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "subscriber");
    }
    int rv = nng_sub0_open(&sub->socket);
    if (rv != 0) {
        free(sub);
        return ort_endpoint__fail(diag, ORT_EIO, rv, "open a socket");
    }
    ort_err err = ort_endpoint__setup(
        sub->socket, options->recv_bytes_max != 0 ? options->recv_bytes_max : SUB_BYTES_MAX,
        &sub->pipes, diag);
    if (err == ORT_OK) {
        const uint32_t queue = options->queue_max != 0 ? options->queue_max : SUB_QUEUE;
        rv = nng_socket_set_int(sub->socket, NNG_OPT_RECVBUF, (int)queue);
        if (rv == 0) {
            rv = nng_socket_set(sub->socket, NNG_OPT_SUB_SUBSCRIBE, "", 0);
        }
        if (rv == 0) {
            rv = nng_aio_alloc(&sub->aio, NULL, NULL);
        }
        err = rv == 0 ? ort_endpoint__dial(sub->socket, options->url, options->tls,
                                           options->plain_ok, diag)
                      : ort_endpoint__fail(diag, ORT_EIO, rv, "set up a socket");
    }
    if (err != ORT_OK) {
        ort_sub_close(sub);
        return err;
    }
    *out = sub;
    return ORT_OK;
}

ort_err
ort_sub_recv(ort_sub *sub, uint32_t timeout_ms, ort_buf *out)
{
    const uint64_t deadline = ort_mono_ms() + timeout_ms;
    for (;;) {
        const uint64_t now = ort_mono_ms();
        const uint64_t left = now < deadline ? deadline - now : 1;
        if (atomic_load(&sub->stopped)) {
            return ORT_EIO;
        }
        nng_aio_set_timeout(sub->aio, (nng_duration)(left < SLICE_MS ? left : SLICE_MS));
        nng_recv_aio(sub->socket, sub->aio);
        nng_aio_wait(sub->aio);
        const int rv = nng_aio_result(sub->aio);
        if (rv == 0) {
            nng_msg *msg = nng_aio_get_msg(sub->aio);
            ort_buf_put(out, nng_msg_body(msg), nng_msg_len(msg));
            nng_msg_free(msg);
            return ort_buf_check(out);
        }
        if (rv != NNG_ETIMEDOUT) {
            return ORT_EIO;
        }
        if (ort_mono_ms() >= deadline) {
            return ORT_ETIMEOUT;
        }
    }
}

void
ort_sub_stop(ort_sub *sub)
{
    atomic_store(&sub->stopped, true);
    nng_aio_abort(sub->aio, NNG_ECLOSED);
}

void
ort_sub_close(ort_sub *sub)
{
    if (sub != NULL && ort_endpoint__close(sub->socket)) {
        nng_aio_free(sub->aio);
        free(sub);
    }
}
