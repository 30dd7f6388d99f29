/* What is common to all sockets: URLs, TLS, bounds. */
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/thread.h"
#include "wire/endpoint_internal.h"

/* A peer that went away is dialled again after 50 ms, then more and more slowly up to 1 s: by NNG's
 * defaults (1 s at once and for ever) a restart of the control plane took 417 ms to be noticed,
 * with 20/500 it took 101 ms (components.md). */
#define RECONNECT_MIN_MS 50
#define RECONNECT_MAX_MS 1000

ort_err
ort_endpoint__fail(ort_diag *diag, ort_err err, int rv, const char *what)
{
    if (rv == NNG_ETIMEDOUT) {
        err = ORT_ETIMEOUT;
    } else if (rv == NNG_ENOMEM) {
        err = ORT_ENOMEM;
    }
    return ort_fail(diag, err, "%s: %s", what, nng_strerror(rv));
}

static bool
starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* 127.0.0.0/8 in four decimal numbers, ::1, or the name that means them. */
static bool
is_loopback(const char *host)
{
    const size_t len = strcspn(host, "/");
    char text[64], tail;
    unsigned a, b, c, port;
    if (len >= sizeof text) {
        return false;
    }
    memcpy(text, host, len);
    text[len] = '\0';
    return sscanf(text, "127.%3u.%3u.%3u:%5u%c", &a, &b, &c, &port, &tail) == 4 ||
           sscanf(text, "localhost:%5u%c", &port, &tail) == 1 ||
           sscanf(text, "[::1]:%5u%c", &port, &tail) == 1;
}

ort_err
ort_endpoint_check(const char *url, bool has_tls, bool plain_ok, ort_diag *diag)
{
    if (strlen(url) >= NNG_MAXADDRLEN) {
        return ort_fail(diag, ORT_EVALIDATE, "the URL is longer than %d bytes", NNG_MAXADDRLEN - 1);
    }
    if (starts_with(url, "tls+tcp://")) {
        return has_tls ? ORT_OK
                       : ort_fail(diag, ORT_EVALIDATE, "%s wants certificates, and there are none",
                                  url);
    }
    if (has_tls) {
        return ort_fail(diag, ORT_EVALIDATE, "%s cannot carry TLS; tls+tcp://host:port can", url);
    }
    const bool local = starts_with(url, "ipc://") || starts_with(url, "inproc://");
    const bool tcp = starts_with(url, "tcp://");
    if (!local && !tcp) {
        return ort_fail(diag, ORT_EVALIDATE, "%s is none of tls+tcp://, tcp://, ipc://, inproc://",
                        url);
    }
    if (tcp && !is_loopback(url + strlen("tcp://"))) {
        return ort_fail(diag, ORT_EVALIDATE,
                        "%s is not TLS: plain tcp:// is for loopback addresses only", url);
    }
    if (!plain_ok) {
        return ort_fail(diag, ORT_EVALIDATE, "%s is not TLS, and plain was not asked for", url);
    }
    return ORT_OK;
}

static void
on_pipe(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    _Atomic uint32_t *pipes = arg;
    if (ev == NNG_PIPE_EV_ADD_PRE) {
        if (atomic_fetch_add(pipes, 1) >= ORT_ENDPOINT__PIPES_MAX) {
            nng_pipe_close(pipe);
        }
    } else if (ev == NNG_PIPE_EV_REM_POST) {
        atomic_fetch_sub(pipes, 1);
    }
}

ort_err
ort_endpoint__setup(nng_socket socket, size_t recv_bytes_max, _Atomic uint32_t *pipes,
                    ort_diag *diag)
{
    int rv = nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ,
                                 recv_bytes_max != 0 ? recv_bytes_max : ORT_WIRE_BYTES_MAX);
    if (rv == 0) {
        rv = nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS);
    }
    if (rv == 0) {
        rv = nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS);
    }
    if (rv == 0) {
        rv = nng_pipe_notify(socket, NNG_PIPE_EV_ADD_PRE, on_pipe, (void *)pipes);
    }
    if (rv == 0) {
        rv = nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, on_pipe, (void *)pipes);
    }
    return rv == 0 ? ORT_OK : ort_endpoint__fail(diag, ORT_EIO, rv, "set up a socket");
}

/* *out NULL when tls is. */
static ort_err
tls_config(const ort_tls *tls, nng_tls_mode mode, nng_tls_config **out, ort_diag *diag)
{
    nng_tls_config *config = NULL;
    const bool server = mode == NNG_TLS_MODE_SERVER;
    *out = NULL;
    if (tls == NULL) {
        return ORT_OK;
    }
    if ((tls->cert_pem == NULL) != (tls->key_pem == NULL) || (server && tls->cert_pem == NULL) ||
        (tls->ca_pem == NULL && !(server ? tls->any_client : tls->unverified)) ||
        (!server && !tls->unverified && tls->server_name == NULL)) {
        return ort_fail(diag, ORT_EVALIDATE,
                        "TLS wants a certificate with its key, a CA, and on clients a server name");
    }
    int rv = nng_tls_config_alloc(&config, mode);
    if (rv == 0) {
        /* Nothing older; mbedTLS 2.28 has nothing newer. */
        rv = nng_tls_config_version(config, NNG_TLS_1_2, NNG_TLS_1_2);
    }
    if (rv == 0 && tls->ca_pem != NULL) {
        rv = nng_tls_config_ca_chain(config, tls->ca_pem, NULL);
    }
    if (rv == 0 && tls->cert_pem != NULL) {
        rv = nng_tls_config_own_cert(config, tls->cert_pem, tls->key_pem, NULL);
    }
    if (rv == 0 && !server && tls->server_name != NULL) {
        /* Without this call NNG checks no name at all (components.md). */
        rv = nng_tls_config_server_name(config, tls->server_name);
    }
    if (rv == 0) {
        rv = nng_tls_config_auth_mode(config, (server ? tls->any_client : tls->unverified)
                                                  ? NNG_TLS_AUTH_MODE_NONE
                                                  : NNG_TLS_AUTH_MODE_REQUIRED);
    }
    if (rv != 0) {
        if (config != NULL) {
            nng_tls_config_free(config);
        }
        return ort_endpoint__fail(diag, ORT_EVALIDATE, rv, "TLS material");
    }
    *out = config;
    return ORT_OK;
}

/* The URL with the port that the system chose in place of 0. */
static char *
url_with_port(const char *url, nng_listener listener)
{
    int port = 0;
    char *out = NULL;
    const char *colon = strrchr(url, ':');
    if (strstr(url, "tcp://") == NULL || colon == NULL || strcmp(colon, ":0") != 0 ||
        nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port) != 0) {
        return strdup(url);
    }
    return asprintf(&out, "%.*s:%d", (int)(colon - url), url, port) < 0 ? NULL : out;
}

ort_err
ort_endpoint__listen(nng_socket socket, const char *url, const ort_tls *tls, bool plain_ok,
                     char **url_out, ort_diag *diag)
{
    nng_listener listener = NNG_LISTENER_INITIALIZER;
    nng_tls_config *config = NULL;
    *url_out = NULL;
    ort_err err = ort_endpoint_check(url, tls != NULL, plain_ok, diag);
    if (err == ORT_OK) {
        err = tls_config(tls, NNG_TLS_MODE_SERVER, &config, diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    int rv = nng_listener_create(&listener, socket, url);
    if (rv == 0 && config != NULL) {
        rv = nng_listener_set_ptr(listener, NNG_OPT_TLS_CONFIG, config);
    }
    if (rv == 0) {
        rv = nng_listener_start(listener, 0);
    }
    if (config != NULL) {
        nng_tls_config_free(config); /* the listener holds its own reference */
    }
    if (rv != 0) {
        err = ort_endpoint__fail(diag, ORT_EIO, rv, "listen");
        ort_diag_prefix(diag, "%s", url);
        return err;
    }
    *url_out = url_with_port(url, listener);
    return *url_out != NULL ? ORT_OK : ort_fail(diag, ORT_ENOMEM, "listen");
}

ort_err
ort_endpoint__dial(nng_socket socket, const char *url, const ort_tls *tls, bool plain_ok,
                   ort_diag *diag)
{
    nng_dialer dialer = NNG_DIALER_INITIALIZER;
    nng_tls_config *config = NULL;
    ort_err err = ort_endpoint_check(url, tls != NULL, plain_ok, diag);
    if (err == ORT_OK) {
        err = tls_config(tls, NNG_TLS_MODE_CLIENT, &config, diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    int rv = nng_dialer_create(&dialer, socket, url);
    if (rv == 0 && config != NULL) {
        rv = nng_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, config);
    }
    if (rv == 0) {
        rv = nng_dialer_start(dialer, NNG_FLAG_NONBLOCK);
    }
    if (config != NULL) {
        nng_tls_config_free(config);
    }
    if (rv != 0) {
        err = ort_endpoint__fail(diag, ORT_EIO, rv, "dial");
        ort_diag_prefix(diag, "%s", url);
    }
    return err;
}

#define CLOSE_WAIT_NS UINT64_C(5000000000)

/* The library takes sockets apart on one thread: while one hangs there, those behind it do too, and
 * a stop should not wait for each of them. */
#define CLOSE_WAIT_BEHIND_NS UINT64_C(500000000)
static atomic_uint stuck;

/* Shared by who closes and who waits; the last one frees it. */
typedef struct {
    nng_socket socket;
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    bool done;
    bool abandoned;
} closing;

static void
closing_free(closing *c)
{
    pthread_cond_destroy(&c->done_cond);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static void *
close_main(void *arg)
{
    closing *c = arg;
    nng_close(c->socket);
    pthread_mutex_lock(&c->lock);
    c->done = true;
    const bool mine = c->abandoned;
    pthread_cond_signal(&c->done_cond);
    pthread_mutex_unlock(&c->lock);
    if (mine) {
        atomic_fetch_sub(&stuck, 1);
        closing_free(c);
    }
    return NULL;
}

bool
ort_endpoint__close(nng_socket socket)
{
    static const ort_log log = {"wire"};
    pthread_t thread;
    closing *c = calloc(1, sizeof *c);
    if (c == NULL) {
        nng_close(socket);
        return true;
    }
    c->socket = socket;
    pthread_mutex_init(&c->lock, NULL);
    ort_cond_init(&c->done_cond);
    if (ort_thread_start(&thread, "close", close_main, c, NULL) != ORT_OK) {
        closing_free(c);
        nng_close(socket);
        return true;
    }
    const uint64_t end =
        ort_mono_ns() + (atomic_load(&stuck) == 0 ? CLOSE_WAIT_NS : CLOSE_WAIT_BEHIND_NS);
    pthread_mutex_lock(&c->lock);
    while (!c->done && ort_cond_wait_until(&c->done_cond, &c->lock, end)) {
    }
    const bool done = c->done;
    c->abandoned = !done;
    atomic_fetch_add(&stuck, !done);
    pthread_mutex_unlock(&c->lock);
    if (done) {
        pthread_join(thread, NULL);
        closing_free(c);
    } else {
        pthread_detach(thread);
        ORT_LOG_ERROR(&log, "socket.close_stuck", "socket=%u", socket.id);
    }
    return done;
}
