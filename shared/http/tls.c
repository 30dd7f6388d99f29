/* TLS: one SSL_CTX for the whole life of a server, and the certificate it shows as a part that is
 * exchanged. Each handshake asks for the present one, so that a reload touches neither listeners
 * nor open connections, and a reload that fails leaves things as they were. */
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "http_internal.h"

struct ort_http__tls {
    char *cert_file;
    char *key_file;
    char *client_ca_file; /* or NULL */
    SSL_CTX *context;     /* what the HTTP library gets */

    pthread_mutex_t lock; /* guards `shown`; a leaf */
    SSL_CTX *shown;       /* never serves: holds certificate, key and chain, counted */
};

/* The first reason in OpenSSL's queue, and an empty queue. */
static ort_err
fail_ssl(ort_diag *diag, ort_err err, const char *what, const char *file)
{
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_reason_error_string(code);

    ort_fail(diag, err, "%s %s: %s", what, file, reason != NULL ? reason : "unknown error");
    ERR_clear_error();
    return err;
}

static ort_err
shown_load(const ort_http__tls *tls, SSL_CTX **out, ort_diag *diag)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    *out = NULL;
    ERR_clear_error();
    if (ctx == NULL) {
        return fail_ssl(diag, ORT_ENOMEM, "TLS context for", tls->cert_file);
    }
    if (SSL_CTX_use_certificate_chain_file(ctx, tls->cert_file) != 1) {
        SSL_CTX_free(ctx);
        return fail_ssl(diag, ORT_EFORMAT, "certificate", tls->cert_file);
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, tls->key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1) {
        SSL_CTX_free(ctx);
        return fail_ssl(diag, ORT_EFORMAT, "private key", tls->key_file);
    }
    if (tls->client_ca_file != NULL &&
        SSL_CTX_load_verify_locations(ctx, tls->client_ca_file, NULL) != 1) {
        SSL_CTX_free(ctx);
        return fail_ssl(diag, ORT_EFORMAT, "client authority", tls->client_ca_file);
    }
    *out = ctx;
    return ORT_OK;
}

/* Runs in each handshake, after the client's hello. 1: go on. */
static int
certificate_choose(SSL *ssl, void *arg)
{
    ort_http__tls *tls = arg;
    STACK_OF(X509) *chain = NULL;
    int ok;

    pthread_mutex_lock(&tls->lock);
    SSL_CTX *shown = tls->shown;
    SSL_CTX_up_ref(shown);
    pthread_mutex_unlock(&tls->lock);

    SSL_CTX_get0_chain_certs(shown, &chain);
    ok = SSL_use_cert_and_key(ssl, SSL_CTX_get0_certificate(shown), SSL_CTX_get0_privatekey(shown),
                              chain, 1);
    if (ok == 1 && tls->client_ca_file != NULL) {
        ok = SSL_set1_verify_cert_store(ssl, SSL_CTX_get_cert_store(shown)) == 1;
    }
    SSL_CTX_free(shown);
    return ok == 1 ? 1 : 0;
}

/* HTTP/1.1 is all we speak: said to those who ask, nothing forced on those who do not. */
static int
protocol_choose(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, ours, sizeof ours - 1, in,
                              in_len) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *
context_make(ort_http__tls *tls)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_cert_cb(ctx, certificate_choose, tls);
    SSL_CTX_set_alpn_select_cb(ctx, protocol_choose, NULL);
    if (tls->client_ca_file != NULL) {
        static const unsigned char session_context[] = "orthant";
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        /* Without this, OpenSSL refuses to resume sessions of verified clients. */
        if (SSL_CTX_set_session_id_context(ctx, session_context, sizeof session_context - 1) != 1) {
            SSL_CTX_free(ctx);
            return NULL;
        }
    }
    return ctx;
}

ort_err
ort_http__tls_new(ort_http__tls **out, const char *cert_file, const char *key_file,
                  const char *client_ca_file, ort_diag *diag)
{
    ort_err err = ORT_OK;
    ort_http__tls *tls = calloc(1, sizeof *tls);

    *out = NULL;
    if (tls == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "TLS");
    }
    pthread_mutex_init(&tls->lock, NULL);
    tls->cert_file = strdup(cert_file);
    tls->key_file = strdup(key_file);
    tls->client_ca_file = client_ca_file != NULL ? strdup(client_ca_file) : NULL;
    if (tls->cert_file == NULL || tls->key_file == NULL ||
        (client_ca_file != NULL && tls->client_ca_file == NULL)) {
        err = ort_fail(diag, ORT_ENOMEM, "TLS");
        goto done;
    }
    err = shown_load(tls, &tls->shown, diag);
    if (err != ORT_OK) {
        goto done;
    }
    tls->context = context_make(tls);
    if (tls->context == NULL) {
        err = fail_ssl(diag, ORT_ENOMEM, "TLS context for", cert_file);
        goto done;
    }
    *out = tls;
    tls = NULL;
done:
    ort_http__tls_free(tls);
    return err;
}

ort_err
ort_http__tls_reload(ort_http__tls *tls, ort_diag *diag)
{
    SSL_CTX *fresh = NULL;
    ort_err err = shown_load(tls, &fresh, diag);

    if (err != ORT_OK) {
        return err;
    }
    pthread_mutex_lock(&tls->lock);
    SSL_CTX *old = tls->shown;
    tls->shown = fresh;
    pthread_mutex_unlock(&tls->lock);
    SSL_CTX_free(old);
    return ORT_OK;
}

void *
ort_http__tls_context(ort_http__tls *tls)
{
    return tls->context;
}

void
ort_http__tls_free(ort_http__tls *tls)
{
    if (tls == NULL) {
        return;
    }
    SSL_CTX_free(tls->context);
    SSL_CTX_free(tls->shown);
    free(tls->cert_file);
    free(tls->key_file);
    free(tls->client_ca_file);
    pthread_mutex_destroy(&tls->lock);
    free(tls);
}
