/* shared/crypto/token.h: the bearer tokens people hold, and the hashes we keep of them.
 *
 *   orth_live_<id>_<secret><checksum>      an API key of a tenant (live or test)
 *   orthop_<id>_<secret><checksum>         an admin token: operator, viewer or tenant admin
 *   orthjoin_<id>_<secret><ca><checksum>   lets one node join the hub, once
 *
 *   id        24 characters: 15 bytes, the tenant id (8, big-endian; 0 = the hub) and a serial (7)
 *   secret    32 characters: 20 random bytes
 *   ca        32 characters: 20 bytes of the hub CA's fingerprint (x509.h), so that a node knows
 *             whom it joins before it trusts anyone
 *   checksum   7 characters: CRC-32C of all text before it, so that a cut or mistyped token is told
 *             from a wrong one, and secret scanners find few false ones
 *
 * All characters are base32 of the lower-case Crockford alphabet, most significant bits first, the
 * last character padded with zero bits (the checksum has its padding in front). Tokens are shown
 * once. What is stored is ort_token_hash(): with 160 random bits there is nothing to guess, so a
 * fast keyed hash is right (0.3 us on the request path); the pepper lies outside the database. */
#ifndef ORT_TOKEN_H
#define ORT_TOKEN_H
#include "base/id.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

#define ORT_TOKEN_SECRET_BYTES 20
#define ORT_TOKEN_CA_BYTES 20
#define ORT_TOKEN_ID_TEXT_BYTES 25 /* 24 characters and a NUL */
#define ORT_TOKEN_TEXT_BYTES 128   /* room for the longest token and a NUL */

typedef enum {
    ORT_TOKEN_LIVE,  /* orth_live_ */
    ORT_TOKEN_TEST,  /* orth_test_ */
    ORT_TOKEN_ADMIN, /* orthop_ */
    ORT_TOKEN_JOIN,  /* orthjoin_ */
} ort_token_kind;

/* Holds the secret: ort_token_wipe() when done. Plain storage, nothing to free. */
typedef struct {
    ort_token_kind kind;
    ort_key_id id; /* tenant.v is 0 for what belongs to the hub; serial has 56 bits */
    unsigned char secret[ORT_TOKEN_SECRET_BYTES];
    unsigned char ca[ORT_TOKEN_CA_BYTES]; /* ORT_TOKEN_JOIN only */
} ort_token;

/* A new token with a random serial (never 0) and secret. ca is the hub CA's fingerprint for
 * ORT_TOKEN_JOIN, else NULL. */
void ort_token_make(ort_token *out, ort_token_kind kind, ort_tenant_id tenant,
                    const unsigned char ca[ORT_TOKEN_CA_BYTES]);

/* Its text with a NUL; the caller wipes out. */
void ort_token_format(const ort_token *token, char out[ORT_TOKEN_TEXT_BYTES]);

/* Reads a token from outside. ORT_EFORMAT: not a token of ours, or the checksum is wrong; *out is
 * wiped. The time taken depends on the shape of the text, never on the secret. */
ORT_NODISCARD ort_err ort_token_parse(const char *text, size_t len, ort_token *out);

void ort_token_wipe(ort_token *token);

/* What is stored and compared: BLAKE2b-256 keyed with the pepper over the 15 id bytes and the 20
 * secret bytes. */
void ort_token_hash(const ort_token *token, const unsigned char pepper[ORT_PEPPER_BYTES],
                    ort_hash *out);

/* Whether the token is the one whose hash was stored; in constant time. */
bool ort_token_matches(const ort_token *token, const unsigned char pepper[ORT_PEPPER_BYTES],
                       const ort_hash *stored);

/* The public half as text: how keys are named in tables, the admin API, logs. */
void ort_key_id_format(ort_key_id id, char out[ORT_TOKEN_ID_TEXT_BYTES]);
ORT_NODISCARD ort_err ort_key_id_parse(const char *text, size_t len, ort_key_id *out);
#endif /* ORT_TOKEN_H */
