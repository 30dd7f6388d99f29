/* shared/wire/endpoint_internal.h: what the kinds of socket share. */
#ifndef ORT_ENDPOINT_INTERNAL_H
#define ORT_ENDPOINT_INTERNAL_H
#include <nng/nng.h>

#include "wire/endpoint.h"

/* Peers of one socket; the next one is turned away. A node has one connection per socket, so this
 * is a hub of thousands of nodes with room to spare. */
#define ORT_ENDPOINT__PIPES_MAX 8192u

/* err with NNG's words behind the text. NNG_ETIMEDOUT and NNG_ENOMEM become their own errors. */
ort_err ort_endpoint__fail(ort_diag *diag, ort_err err, int rv, const char *what);

/* What every socket gets before it listens or dials: receive bound, reconnect pace, and a cap on
 * pipes counted in *pipes (which lives as long as the socket). */
ORT_NODISCARD ort_err ort_endpoint__setup(nng_socket socket, size_t recv_bytes_max,
                                          _Atomic uint32_t *pipes, ort_diag *diag);

/* Starts a listener; *url_out is a heap string with the port in it. */
ORT_NODISCARD ort_err ort_endpoint__listen(nng_socket socket, const char *url, const ort_tls *tls,
                                           bool plain_ok, char **url_out, ort_diag *diag);
/* Starts a dialer that keeps trying in the background. */
ORT_NODISCARD ort_err ort_endpoint__dial(nng_socket socket, const char *url, const ort_tls *tls,
                                         bool plain_ok, ort_diag *diag);
/* Closes a socket and waits for it, at most 5 s: NNG 1.5.2 can deadlock in there (its issue 1543),
 * and a process that is told to end has to. false: it has not come back. NNG may then still touch
 * what the socket was given (aios, callback arguments): leave that memory alone. */
ORT_NODISCARD bool ort_endpoint__close(nng_socket socket);
#endif /* ORT_ENDPOINT_INTERNAL_H */
