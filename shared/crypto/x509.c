/* The hub's certificate authority, on libcrypto. */
#include "crypto/x509.h"

#include <inttypes.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crypto/hash.h"
#include "crypto/secret.h"

/* Clocks of machines differ a little: a certificate is good from an hour before it was made. */
#define BACKDATE_S 3600

/* Says what libcrypto said, and empties its queue, which is the thread's. */
static ort_err
fail_ssl(ort_diag *diag, ort_err err, const char *what)
{
    char text[256] = "no detail";
    const unsigned long code = ERR_peek_last_error();
    if (code != 0) {
        ERR_error_string_n(code, text, sizeof text);
    }
    ERR_clear_error();
    return ort_fail(diag, err, "%s: %s", what, text);
}

void
ort_pem_free(char *pem)
{
    if (pem != NULL) {
        ort_secret_wipe(pem, strlen(pem));
        free(pem);
    }
}

void
ort_x509_node_name(ort_node_id node, char out[ORT_X509_NAME_BYTES])
{
    char id[ORT_ID_TEXT_BYTES];
    ort_id_format(node.v, id);
    snprintf(out, ORT_X509_NAME_BYTES, "node-%s.orthant.internal", id);
}

/* A memory BIO's content as a heap string; the BIO's own copy is wiped when it held a secret. */
static ort_err
bio_text(BIO *bio, char **out, ort_diag *diag)
{
    char *data = NULL;
    const long n = BIO_get_mem_data(bio, &data);
    char *text = n > 0 ? malloc((size_t)n + 1) : NULL;
    if (text == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "PEM text");
    }
    memcpy(text, data, (size_t)n);
    text[n] = '\0';
    ort_secret_wipe(data, (size_t)n);
    *out = text;
    return ORT_OK;
}

static BIO *
bio_of(const char *pem)
{
    const size_t n = strlen(pem);
    return n <= ORT_PEM_BYTES_MAX ? BIO_new_mem_buf(pem, (int)n) : NULL;
}

static X509 *
cert_of(const char *pem)
{
    BIO *bio = bio_of(pem);
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return cert;
}

/* Passphrases are asked for on the terminal unless a callback says there is none. */
static int
no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf, (void)size, (void)rwflag, (void)arg;
    return -1;
}

static EVP_PKEY *
key_of(const char *pem)
{
    BIO *bio = bio_of(pem);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return key;
}

static ort_err
cert_text(X509 *cert, char **out, ort_diag *diag)
{
    BIO *bio = BIO_new(BIO_s_mem());
    ort_err err = bio != NULL && PEM_write_bio_X509(bio, cert) == 1
                      ? bio_text(bio, out, diag)
                      : fail_ssl(diag, ORT_ENOMEM, "write certificate");
    BIO_free(bio);
    return err;
}

static ort_err
key_text(EVP_PKEY *key, char **out, ort_diag *diag)
{
    BIO *bio = BIO_new(BIO_s_mem());
    ort_err err = bio != NULL && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1
                      ? bio_text(bio, out, diag)
                      : fail_ssl(diag, ORT_ENOMEM, "write private key");
    BIO_free(bio);
    return err;
}

static bool
set_subject(X509_NAME *name, const char *common)
{
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)"Orthant",
                                      -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common, -1,
                                      -1, 0) == 1;
}

static bool
add_extension(X509 *cert, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    const bool good = ext != NULL && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return good;
}

/* What every certificate of ours has: version 3, a random serial of 63 bits, validity. */
static bool
set_basics(X509 *cert, uint32_t days)
{
    uint64_t serial = 0;
    while (serial == 0) {
        ort_secret_random(&serial, sizeof serial);
        serial >>= 1; /* positive as ASN.1 reads it */
    }
    return X509_set_version(cert, 2) == 1 &&
           ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -BACKDATE_S) != NULL &&
           X509_time_adj_ex(X509_getm_notAfter(cert), (int)days, 0, NULL) != NULL;
}

ort_err
ort_x509_ca_new(const char *hub_name, uint32_t days, char **cert_pem_out, char **key_pem_out,
                ort_diag *diag)
{
    ort_err err = ORT_OK;
    char *cert_pem = NULL, *key_pem = NULL;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509V3_CTX ctx;

    *cert_pem_out = *key_pem_out = NULL;
    if (key == NULL || cert == NULL) {
        err = fail_ssl(diag, ORT_ENOMEM, "make the hub CA");
        goto done;
    }
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    if (!set_basics(cert, days) || !set_subject(X509_get_subject_name(cert), hub_name) ||
        X509_set_issuer_name(cert, X509_get_subject_name(cert)) != 1 ||
        X509_set_pubkey(cert, key) != 1 ||
        !add_extension(cert, &ctx, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !add_extension(cert, &ctx, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(cert, &ctx, NID_subject_key_identifier, "hash") ||
        X509_sign(cert, key, EVP_sha256()) <= 0) {
        err = fail_ssl(diag, ORT_EINTERNAL, "make the hub CA");
        goto done;
    }
    err = cert_text(cert, &cert_pem, diag);
    if (err == ORT_OK) {
        err = key_text(key, &key_pem, diag);
    }
    if (err == ORT_OK) {
        *cert_pem_out = cert_pem;
        *key_pem_out = key_pem;
        cert_pem = key_pem = NULL;
    }
done:
    ort_pem_free(cert_pem);
    ort_pem_free(key_pem);
    X509_free(cert);
    EVP_PKEY_free(key);
    return err;
}

ort_err
ort_x509_key_new(char **key_pem_out, ort_diag *diag)
{
    *key_pem_out = NULL;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    if (key == NULL) {
        return fail_ssl(diag, ORT_ENOMEM, "make a key");
    }
    const ort_err err = key_text(key, key_pem_out, diag);
    EVP_PKEY_free(key);
    return err;
}

ort_err
ort_x509_csr_new(const char *key_pem, char **csr_pem_out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    EVP_PKEY *key = key_of(key_pem);
    X509_REQ *req = X509_REQ_new();
    BIO *bio = BIO_new(BIO_s_mem());

    *csr_pem_out = NULL;
    /* The name is a placeholder: who issues decides on the name. */
    if (key == NULL || req == NULL || bio == NULL || X509_REQ_set_version(req, 0) != 1 ||
        !set_subject(X509_REQ_get_subject_name(req), "node") ||
        X509_REQ_set_pubkey(req, key) != 1 || X509_REQ_sign(req, key, EVP_sha256()) <= 0 ||
        PEM_write_bio_X509_REQ(bio, req) != 1) {
        err = fail_ssl(diag, ORT_EINTERNAL, "make a signing request");
    } else {
        err = bio_text(bio, csr_pem_out, diag);
    }
    BIO_free(bio);
    X509_REQ_free(req);
    EVP_PKEY_free(key);
    return err;
}

/* NNG's mbedTLS verifies nothing but what it was built for, and a foreign curve or a 16-bit RSA key
 * has no business here anyway. */
static bool
is_p256(EVP_PKEY *key)
{
    char group[32] = "";
    return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
           EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 &&
           strcmp(group, "prime256v1") == 0;
}

static X509_REQ *
csr_of(const char *pem)
{
    BIO *bio = bio_of(pem);
    X509_REQ *req = bio != NULL ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return req;
}

ort_err
ort_x509_issue(const char *ca_cert_pem, const char *ca_key_pem, const char *csr_pem,
               const char *dns_name, uint32_t days, char **cert_pem_out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    X509 *ca = cert_of(ca_cert_pem), *cert = X509_new();
    EVP_PKEY *ca_key = key_of(ca_key_pem);
    X509_REQ *req = csr_of(csr_pem);
    EVP_PKEY *key = req != NULL ? X509_REQ_get0_pubkey(req) : NULL; /* of req */
    X509V3_CTX ctx;
    char san[ORT_X509_NAME_BYTES + 8];

    *cert_pem_out = NULL;
    if (ca == NULL || ca_key == NULL || cert == NULL) {
        err = fail_ssl(diag, ORT_EINTERNAL, "the hub CA");
        goto done;
    }
    if (key == NULL || X509_REQ_verify(req, key) != 1) {
        err = fail_ssl(diag, ORT_EFORMAT, "signing request");
        goto done;
    }
    if (!is_p256(key)) {
        err = ort_fail(diag, ORT_EVALIDATE, "the signing request's key is not on P-256");
        goto done;
    }
    if (snprintf(san, sizeof san, "DNS:%s", dns_name) >= (int)sizeof san ||
        strpbrk(dns_name, ",: \n") != NULL) {
        err = ort_fail(diag, ORT_EINVAL, "certificate name %s", dns_name);
        goto done;
    }
    X509V3_set_ctx(&ctx, ca, cert, NULL, NULL, 0);
    if (!set_basics(cert, days) || !set_subject(X509_get_subject_name(cert), dns_name) ||
        X509_set_issuer_name(cert, X509_get_subject_name(ca)) != 1 ||
        X509_set_pubkey(cert, key) != 1 ||
        !add_extension(cert, &ctx, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(cert, &ctx, NID_key_usage, "critical,digitalSignature") ||
        !add_extension(cert, &ctx, NID_ext_key_usage, "serverAuth,clientAuth") ||
        !add_extension(cert, &ctx, NID_subject_alt_name, san) ||
        !add_extension(cert, &ctx, NID_subject_key_identifier, "hash") ||
        !add_extension(cert, &ctx, NID_authority_key_identifier, "keyid") ||
        X509_sign(cert, ca_key, EVP_sha256()) <= 0) {
        err = fail_ssl(diag, ORT_EINTERNAL, "issue a certificate");
        goto done;
    }
    err = cert_text(cert, cert_pem_out, diag);
done:
    X509_REQ_free(req);
    EVP_PKEY_free(ca_key);
    X509_free(cert);
    X509_free(ca);
    return err;
}

ort_err
ort_x509_check(const char *ca_cert_pem, const char *cert_pem, const char *key_pem,
               const char *dns_name, int64_t *left_days_out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    int days = 0, seconds = 0;
    X509 *ca = cert_of(ca_cert_pem), *cert = cert_of(cert_pem);
    EVP_PKEY *key = key_pem != NULL ? key_of(key_pem) : NULL;

    if (ca == NULL || cert == NULL || (key_pem != NULL && key == NULL)) {
        err = fail_ssl(diag, ORT_EAUTH, "certificate");
    } else if (X509_verify(cert, X509_get0_pubkey(ca)) != 1) {
        err = fail_ssl(diag, ORT_EAUTH, "the certificate is not of the hub's CA");
    } else if (key != NULL && X509_check_private_key(cert, key) != 1) {
        err = fail_ssl(diag, ORT_EAUTH, "the certificate is for another key");
    } else if (X509_check_host(cert, dns_name, 0, X509_CHECK_FLAG_NO_WILDCARDS, NULL) != 1) {
        err = fail_ssl(diag, ORT_EAUTH, "the certificate carries another name");
    } else if (X509_cmp_time(X509_get0_notBefore(cert), NULL) >= 0 ||
               X509_cmp_time(X509_get0_notAfter(cert), NULL) <= 0 ||
               ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) != 1) {
        err = ort_fail(diag, ORT_EAUTH, "the certificate is not valid now");
    } else if (left_days_out != NULL) {
        *left_days_out = days;
    }
    EVP_PKEY_free(key);
    X509_free(cert);
    X509_free(ca);
    return err;
}

ort_err
ort_x509_fingerprint(const char *cert_pem, unsigned char out[ORT_TOKEN_CA_BYTES], ort_diag *diag)
{
    ort_hash hash;
    unsigned char *der = NULL;
    X509 *cert = cert_of(cert_pem);
    const int n = cert != NULL ? i2d_X509(cert, &der) : -1;
    X509_free(cert);
    if (n <= 0) {
        return fail_ssl(diag, ORT_EFORMAT, "certificate");
    }
    ort_hash_of(&hash, der, (size_t)n);
    OPENSSL_free(der);
    memcpy(out, hash.b, ORT_TOKEN_CA_BYTES);
    return ORT_OK;
}
