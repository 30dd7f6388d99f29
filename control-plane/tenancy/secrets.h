/* control-plane/tenancy/secrets.h: what must never stand in the database: files of mode 0600 in the
 * data directory's `secrets/`.
 *
 *   pepper       64 hex digits and a newline: keys the hashes of tokens; nodes get it at their join
 *   seal         64 hex digits and a newline: seals kept answers (idempotency.h)
 *   signing      the hub's Ed25519 key: signs tables and exported audit heads (crypto/sign.h)
 *   ca.key       private key of the hub's certificate authority, PEM
 *   ca.pem       its certificate (public, kept beside its key)
 *
 * A database belongs to its secrets: cp_tenancy_new() checks that. So back up both, apart. */
#ifndef CP_SECRETS_H
#define CP_SECRETS_H
#include "crypto/secret.h"
#include "crypto/sign.h"
#include "crypto/token.h"

#define CP_SEAL_BYTES 32
#define CP_CA_DAYS 3650u

typedef struct {
    unsigned char pepper[ORT_PEPPER_BYTES];
    unsigned char seal[CP_SEAL_BYTES];
    ort_sign_key signing;
    char *ca_pem;                               /* certificate, heap */
    char *ca_key_pem;                           /* heap, wiped when freed */
    unsigned char ca_print[ORT_TOKEN_CA_BYTES]; /* what join tokens pin */
} cp_secrets;

/* Loads `secrets/` beneath data_fd. may_create: what is missing is made (a hub's first start; also
 * when that one was cut short).
 *
 * ORT_ENOTFOUND  a file is missing and may not be made
 * ORT_EDENIED    others may read a file: its content counts as known, see docs/how-to
 * ORT_ECORRUPT   a file is not what it should be
 * ORT_EIO, ORT_ENOSPC, ORT_ENOMEM; *out is wiped and empty then */
ORT_NODISCARD ort_err cp_secrets_open(cp_secrets *out, int data_fd, bool may_create,
                                      const char *hub_name, ort_diag *diag);
void cp_secrets_fini(cp_secrets *secrets); /* wipes */
#endif                                     /* CP_SECRETS_H */
