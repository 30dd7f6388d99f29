/* shared/crypto/sign.h: Ed25519 signatures, one domain a purpose. */
#ifndef ORT_SIGN_H
#define ORT_SIGN_H
#include "base/err.h"

#define ORT_SIGN_PUBLIC_BYTES 32
#define ORT_SIGN_BYTES 64

typedef struct {
    unsigned char b[ORT_SIGN_PUBLIC_BYTES];
} ort_sign_public;

typedef struct {
    unsigned char b[ORT_SIGN_BYTES];
} ort_signature;

/* Both halves. Wipe with ort_sign_key_wipe(); nothing to free. */
typedef struct {
    ort_sign_public public;
    unsigned char secret[64];
} ort_sign_key;

/* What a signature is for. A signature of one domain verifies in no other, so a signed heartbeat
 * can never pass as a table. Numbers and words (in sign.c) leave the process: append, never change.
 */
typedef enum {
    ORT_SIGN_TABLE = 1,   /* a routing table, by the control plane */
    ORT_SIGN_MESSAGE = 2, /* hello, heartbeat, fetch, by a node */
    ORT_SIGN_AUDIT = 3,   /* an exported head of the audit chain, by the control plane */
    ORT_SIGN_GRANT = 4,   /* leave to move a tenant's data (wire/grant.h), by the control plane */
} ort_sign_domain;

void ort_sign_key_new(ort_sign_key *out);
void ort_sign_key_wipe(ort_sign_key *key);

/* The key file: a line "orthant-ed25519-1 <64 hex digits of the seed>", mode 0600.
 * load: ORT_ENOTFOUND, ORT_EDENIED (others may read it), ORT_ECORRUPT; *out is wiped then. */
ORT_NODISCARD ort_err ort_sign_key_save(const ort_sign_key *key, int dir_fd, const char *name,
                                        ort_diag *diag);
ORT_NODISCARD ort_err ort_sign_key_load(ort_sign_key *out, int dir_fd, const char *name,
                                        ort_diag *diag);

/* Ed25519ph (RFC 8032) over the domain's word, a NUL and the message: prehashed, so that a table of
 * megabytes is read once and copied never. */
void ort_sign(const ort_sign_key *key, ort_sign_domain domain, const void *message, size_t n,
              ort_signature *out);
ORT_NODISCARD bool ort_sign_verify(const ort_sign_public *by, ort_sign_domain domain,
                                   const void *message, size_t n, const ort_signature *signature);
#endif /* ORT_SIGN_H */
