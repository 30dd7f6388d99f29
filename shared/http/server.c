/* The server's life: options, start, reload, drain, stop. */
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include <arpa/inet.h>

#include "base/clock.h"
#include "http_internal.h"

static uint32_t
or_else(uint32_t v, uint32_t otherwise)
{
    return v != 0 ? v : otherwise;
}

static void
defaults_fill(ort_http_options *o)
{
    o->name = o->name != NULL ? o->name : "http";
    o->threads = or_else(o->threads, 64);
    o->queue_max = or_else(o->queue_max, o->threads / 4 > 64 ? o->threads / 4 : 64);
    o->inflight_max = or_else(o->inflight_max, o->threads);
    o->keep_alive_ms = or_else(o->keep_alive_ms, 60000);
    o->head_ms = or_else(o->head_ms, 10000);
    o->request_ms = or_else(o->request_ms, 60000);
    o->body_chunk_ms = or_else(o->body_chunk_ms, 10000);
    o->body_total_ms = or_else(o->body_total_ms, 60000);
    o->write_ms = or_else(o->write_ms, 30000);
    if (o->body_bytes_max == 0) {
        o->body_bytes_max = ORT_ADMIN_BODY_BYTES_MAX;
    }
}

/* "a.b.c.d:port". The Debian build of the library has no IPv6. */
static ort_err
address_check(const ort_http_listener *listener, bool allow_plain, ort_diag *diag)
{
    char host[64];
    struct in_addr addr;
    const char *colon = listener->address != NULL ? strrchr(listener->address, ':') : NULL;
    char *end = NULL;

    if (colon == NULL || colon == listener->address ||
        (size_t)(colon - listener->address) >= sizeof host) {
        return ort_fail(diag, ORT_EINVAL, "listener %s: not an address of the form 127.0.0.1:6333",
                        listener->address != NULL ? listener->address : "(none)");
    }
    memcpy(host, listener->address, (size_t)(colon - listener->address));
    host[colon - listener->address] = '\0';
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (inet_pton(AF_INET, host, &addr) != 1 || colon[1] < '0' || colon[1] > '9' || *end != '\0' ||
        port > 65535) {
        return ort_fail(diag, ORT_EINVAL, "listener %s: not an IPv4 address and port",
                        listener->address);
    }
    if (!listener->tls && !allow_plain && ntohl(addr.s_addr) >> 24 != 127) {
        return ort_fail(diag, ORT_EINVAL,
                        "listener %s: plain HTTP is only served on loopback; give a certificate, "
                        "or allow it (allow_plain)",
                        listener->address);
    }
    return ORT_OK;
}

/* A copy of text in *out (NULL stays NULL). false: no memory. */
static bool
copy(char **out, const char *text)
{
    *out = text != NULL ? strdup(text) : NULL;
    return text == NULL || *out != NULL;
}

static ort_err
options_copy(ort_http_server *server, const ort_http_options *options, ort_diag *diag)
{
    ort_http_options *o = &server->options;

    *o = *options;
    defaults_fill(o);
    if (o->listener_count < 1 || o->listener_count > ORT_HTTP_LISTENERS_MAX) {
        return ort_fail(diag, ORT_EINVAL, "%zu listeners; 1 .. %u are possible", o->listener_count,
                        ORT_HTTP_LISTENERS_MAX);
    }
    if (o->threads > 65000 || o->cors_origin_count > 256) {
        return ort_fail(diag, ORT_EINVAL, "threads %u (to 65000) or %zu origins (to 256)",
                        o->threads, o->cors_origin_count);
    }
    server->cors_origins = calloc(o->cors_origin_count + 1, sizeof *server->cors_origins);
    bool fine = server->cors_origins != NULL && copy(&server->name, o->name) &&
                copy(&server->tls_cert, o->tls_cert) && copy(&server->tls_key, o->tls_key) &&
                copy(&server->tls_client_ca, o->tls_client_ca);
    for (size_t i = 0; fine && i < o->cors_origin_count; i++) {
        fine = copy(&server->cors_origins[i], options->cors_origins[i]);
    }
    for (size_t i = 0; fine && i < o->listener_count; i++) {
        ort_err err = address_check(&options->listeners[i], o->allow_plain, diag);
        if (err != ORT_OK) {
            return err;
        }
        server->listeners[i].tls = options->listeners[i].tls;
        char *address = NULL;
        fine = copy(&address, options->listeners[i].address);
        server->listeners[i].address = address;
    }
    if (!fine) {
        return ort_fail(diag, ORT_ENOMEM, "HTTP server");
    }
    /* The caller's texts may be gone tomorrow. */
    o->name = server->name;
    o->listeners = server->listeners;
    o->tls_cert = o->tls_key = o->tls_client_ca = NULL;
    o->cors_origins = NULL;
    return ORT_OK;
}

static ort_err
tls_prepare(ort_http_server *server, ort_diag *diag)
{
    bool wanted = false;

    for (size_t i = 0; i < server->options.listener_count; i++) {
        wanted = wanted || server->listeners[i].tls;
    }
    if (wanted) {
        if (server->tls_cert == NULL || server->tls_key == NULL) {
            return ort_fail(diag, ORT_EINVAL,
                            "a TLS listener needs a certificate file and a key file");
        }
        ort_err err = ort_http__tls_new(&server->tls, server->tls_cert, server->tls_key,
                                        server->tls_client_ca, diag);
        if (err != ORT_OK) {
            return err;
        }
    }
    ort_err err = ort_http__wire_library_up(wanted, diag);
    server->library_up = err == ORT_OK;
    return err;
}

ort_err
ort_http_server_new(ort_http_server **out, const ort_http_options *options, ort_diag *diag)
{
    ort_http_server *server = calloc(1, sizeof *server);
    ort_err err;

    *out = NULL;
    if (server == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "HTTP server");
    }
    pthread_mutex_init(&server->lock, NULL);
    err = options_copy(server, options, diag);
    if (err == ORT_OK) {
        err = ort_http__routes_init(&server->routes, options->routes, options->route_count, diag);
    }
    if (err == ORT_OK) {
        err = tls_prepare(server, diag);
    }
    if (err != ORT_OK) {
        ort_http_server_free(server);
        return err;
    }
    *out = server;
    return ORT_OK;
}

ort_err
ort_http_server_start(ort_http_server *server, ort_diag *diag)
{
    ort_err err;

    /* A client that closes early must not end the process: OpenSSL writes without MSG_NOSIGNAL. */
    (void)signal(SIGPIPE, SIG_IGN);
    pthread_mutex_lock(&server->lock);
    if (server->civet != NULL) {
        err = ort_fail(diag, ORT_ECONFLICT, "the server runs already");
    } else {
        server->drain_phase = 0;
        err = ort_http__wire_start(server, diag);
    }
    pthread_mutex_unlock(&server->lock);
    for (size_t i = 0; err == ORT_OK && i < server->options.listener_count; i++) {
        ORT_LOG_INFO(&ort_http__log, "http.listening", "server=%s address=%s port=%u tls=%d",
                     server->name, server->listeners[i].address, (unsigned)server->ports[i],
                     (int)server->listeners[i].tls);
    }
    return err;
}

uint16_t
ort_http_server_port(const ort_http_server *server, size_t listener_index)
{
    return listener_index < server->options.listener_count ? server->ports[listener_index] : 0;
}

ort_err
ort_http_server_reload_tls(ort_http_server *server, ort_diag *diag)
{
    ort_err err = ORT_OK;

    pthread_mutex_lock(&server->lock);
    if (server->tls != NULL) {
        err = ort_http__tls_reload(server->tls, diag);
    }
    pthread_mutex_unlock(&server->lock);
    if (err == ORT_OK && server->tls != NULL) {
        ORT_LOG_INFO(&ort_http__log, "http.tls_reloaded", "server=%s", server->name);
    }
    return err;
}

static void
sleep_ms(uint32_t ms)
{
    struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

    while (nanosleep(&wait, &wait) != 0) {
    }
}

ort_err
ort_http_server_drain(ort_http_server *server, uint32_t grace_ms, uint32_t wait_ms)
{
    int serving = 0;

    (void)atomic_compare_exchange_strong(&server->drain_phase, &serving, 1);
    if (grace_ms > 0) {
        sleep_ms(grace_ms);
    }
    server->drain_phase = 2;
    uint64_t until = ort_mono_ms() + wait_ms;
    while (server->in_flight > 0) {
        if (ort_mono_ms() >= until) {
            ORT_LOG_WARN(&ort_http__log, "http.drain_timeout", "server=%s in_flight=%u",
                         server->name, (unsigned)server->in_flight);
            return ORT_ETIMEOUT;
        }
        sleep_ms(5);
    }
    return ORT_OK;
}

bool
ort_http_server_draining(const ort_http_server *server)
{
    return server->drain_phase != 0;
}

void
ort_http_server_stop(ort_http_server *server)
{
    pthread_mutex_lock(&server->lock);
    if (server->civet != NULL) {
        ort_http__wire_stop(server);
        ORT_LOG_INFO(&ort_http__log, "http.stopped", "server=%s", server->name);
    }
    pthread_mutex_unlock(&server->lock);
}

void
ort_http_server_free(ort_http_server *server)
{
    if (server == NULL) {
        return;
    }
    ort_http_server_stop(server);
    if (server->library_up) {
        ort_http__wire_library_down();
    }
    ort_http__tls_free(server->tls);
    ort_http__routes_fini(&server->routes);
    for (size_t i = 0; i < ORT_HTTP_LISTENERS_MAX; i++) {
        free((void *)(uintptr_t)server->listeners[i].address);
    }
    for (size_t i = 0; server->cors_origins != NULL && i < server->options.cors_origin_count; i++) {
        free(server->cors_origins[i]);
    }
    free(server->cors_origins);
    free(server->name);
    free(server->tls_cert);
    free(server->tls_key);
    free(server->tls_client_ca);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

void
ort_http_server_stats(const ort_http_server *server, ort_http_stats *out)
{
    *out = (ort_http_stats){
        .in_flight = server->in_flight,
        .threads = server->options.threads,
        .connections = server->connections,
        .requests = server->requests,
        .refused = server->refused,
    };
}
