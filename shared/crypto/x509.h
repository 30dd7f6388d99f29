/* shared/crypto/x509.h: the hub's own certificate authority, on OpenSSL's libcrypto.
 *
 * Why a CA at all: NNG's TLS tells us only whether the peer's certificate is good, not whose it is.
 * So a certificate means "belongs to this hub", the name in it says whom a *client* meant to reach,
 * and a node says who it is by signing its messages (wire/messages.h).
 * Why P-256: the mbedTLS in Debian's NNG knows neither Ed25519 nor TLS 1.3 (measured). */
#ifndef ORT_X509_H
#define ORT_X509_H
#include <stdint.h>

#include "base/id.h"
#include "crypto/token.h"

/* PEM texts are NUL-ended heap strings, freed by ort_pem_free() (which wipes: some are secret). */
void ort_pem_free(char *pem);

#define ORT_PEM_BYTES_MAX 16384
#define ORT_X509_NAME_BYTES 64

/* The names certificates carry (subject alternative name, DNS). */
#define ORT_X509_CONTROL_NAME "control.orthant.internal"
/* "node-<16 hex digits>.orthant.internal" */
void ort_x509_node_name(ort_node_id node, char out[ORT_X509_NAME_BYTES]);

/* A new CA: *cert_pem_out self-signed for `days`, *key_pem_out its private key (keep 0600). */
ORT_NODISCARD ort_err ort_x509_ca_new(const char *hub_name, uint32_t days, char **cert_pem_out,
                                      char **key_pem_out, ort_diag *diag);

/* A new P-256 private key; it never leaves the process that made it. */
ORT_NODISCARD ort_err ort_x509_key_new(char **key_pem_out, ort_diag *diag);

/* A signing request for that key: what a joining node sends. */
ORT_NODISCARD ort_err ort_x509_csr_new(const char *key_pem, char **csr_pem_out, ort_diag *diag);

/* A certificate for the key in the request, for both ends of TLS, named dns_name.
 * Nothing but the public key is taken from the request, and only after
 * its own signature has verified. Bytes of csr_pem are outside bytes.
 * ORT_EFORMAT: no good request. ORT_EVALIDATE: not a P-256 key. */
ORT_NODISCARD ort_err ort_x509_issue(const char *ca_cert_pem, const char *ca_key_pem,
                                     const char *csr_pem, const char *dns_name, uint32_t days,
                                     char **cert_pem_out, ort_diag *diag);

/* ORT_OK when cert_pem was issued by that CA, carries that name, belongs to key_pem (where not
 * NULL) and is valid now; *left_days_out (may be NULL) = how long it still is. ORT_EAUTH otherwise.
 */
ORT_NODISCARD ort_err ort_x509_check(const char *ca_cert_pem, const char *cert_pem,
                                     const char *key_pem, const char *dns_name,
                                     int64_t *left_days_out, ort_diag *diag);

/* The first 20 bytes of BLAKE2b-256 over the certificate's DER: what a join token pins.
 * ORT_EFORMAT: no certificate. */
ORT_NODISCARD ort_err ort_x509_fingerprint(const char *cert_pem,
                                           unsigned char out[ORT_TOKEN_CA_BYTES], ort_diag *diag);
#endif /* ORT_X509_H */
