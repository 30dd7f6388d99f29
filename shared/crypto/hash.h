/* shared/crypto/hash.h: BLAKE2b-256, plain, keyed and in parts; SHA-256 where others ask for it. */
#ifndef ORT_HASH_H
#define ORT_HASH_H
#include <stdint.h>

#include "base/err.h"

#define ORT_HASH_BYTES 32
#define ORT_HASH_TEXT_BYTES 65 /* 64 lower-case hex digits and a NUL */

typedef struct {
    unsigned char b[ORT_HASH_BYTES];
} ort_hash;

/* out = BLAKE2b-256(bytes[0..n)). RFC 7693. */
void ort_hash_of(ort_hash *out, const void *bytes, size_t n);

/* The same in parts: init, put as often as wanted, done once. The state is wiped by done. */
typedef struct {
    _Alignas(64) unsigned char opaque[384];
} ort_hasher;

void ort_hasher_init(ort_hasher *h);
/* Keyed: what only a holder of the 32 bytes at key can compute. */
void ort_hasher_init_keyed(ort_hasher *h, const unsigned char key[ORT_HASH_BYTES]);
void ort_hasher_put(ort_hasher *h, const void *bytes, size_t n);
void ort_hasher_done(ort_hasher *h, ort_hash *out);

/* In constant time. */
bool ort_hash_equal(const ort_hash *a, const ort_hash *b);
bool ort_hash_is_zero(const ort_hash *a);

/* a ^= b: the hash of a set is the exclusive or of its members' hashes, so that one entry can be
 * put in or taken out without reading the others. Finds accidents, not adversaries: what is hashed
 * this way is signed besides. */
void ort_hash_xor(ort_hash *a, const ort_hash *b);

void ort_hash_format(const ort_hash *a, char out[ORT_HASH_TEXT_BYTES]);
/* Exactly 64 lower-case hex digits. ORT_EFORMAT otherwise, *out untouched. */
ORT_NODISCARD ort_err ort_hash_parse(const char *text, size_t len, ort_hash *out);
/* SHA-256 (FIPS 180-4) in parts, for checksums that other programs compute too (sha256sum, Qdrant's
 * clients). done wipes the state; a copy of the state may be ended while the first goes on. */
typedef struct {
    _Alignas(8) unsigned char opaque[128];
} ort_sha256;

void ort_sha256_init(ort_sha256 *h);
void ort_sha256_put(ort_sha256 *h, const void *bytes, size_t n);
void ort_sha256_done(ort_sha256 *h, ort_hash *out);
#endif /* ORT_HASH_H */
