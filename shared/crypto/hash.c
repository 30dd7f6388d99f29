/* BLAKE2b-256 and SHA-256 by libsodium. */
#include "crypto/hash.h"

#include <assert.h>
#include <sodium.h>

#include "crypto/crypto_internal.h"
#include "crypto/secret.h"

static_assert(ORT_HASH_BYTES == crypto_generichash_BYTES, "libsodium's default is ours");
static_assert(sizeof(ort_hasher) >= sizeof(crypto_generichash_state), "room for the state");
static_assert(_Alignof(ort_hasher) >= _Alignof(crypto_generichash_state), "aligned for the state");

static crypto_generichash_state *
state_of(ort_hasher *h)
{
    return (crypto_generichash_state *)(void *)h->opaque;
}

void
ort_hash_of(ort_hash *out, const void *bytes, size_t n)
{
    ort_crypto__init();
    crypto_generichash(out->b, sizeof out->b, bytes, n, NULL, 0);
}

void
ort_hasher_init(ort_hasher *h)
{
    ort_crypto__init();
    crypto_generichash_init(state_of(h), NULL, 0, ORT_HASH_BYTES);
}

void
ort_hasher_init_keyed(ort_hasher *h, const unsigned char key[ORT_HASH_BYTES])
{
    ort_crypto__init();
    crypto_generichash_init(state_of(h), key, ORT_HASH_BYTES, ORT_HASH_BYTES);
}

void
ort_hasher_put(ort_hasher *h, const void *bytes, size_t n)
{
    crypto_generichash_update(state_of(h), bytes, n);
}

void
ort_hasher_done(ort_hasher *h, ort_hash *out)
{
    crypto_generichash_final(state_of(h), out->b, sizeof out->b);
    sodium_memzero(h, sizeof *h);
}

bool
ort_hash_equal(const ort_hash *a, const ort_hash *b)
{
    return sodium_memcmp(a->b, b->b, sizeof a->b) == 0;
}

bool
ort_hash_is_zero(const ort_hash *a)
{
    return sodium_is_zero(a->b, sizeof a->b) != 0;
}

void
ort_hash_xor(ort_hash *a, const ort_hash *b)
{
    for (size_t i = 0; i < sizeof a->b; i++) {
        a->b[i] = (unsigned char)(a->b[i] ^ b->b[i]);
    }
}

void
ort_hash_format(const ort_hash *a, char out[ORT_HASH_TEXT_BYTES])
{
    ort_hex_format(a->b, sizeof a->b, out);
}

ort_err
ort_hash_parse(const char *text, size_t len, ort_hash *out)
{
    ort_hash parsed;
    const ort_err err = ort_hex_parse(text, len, parsed.b, sizeof parsed.b);
    if (err == ORT_OK) {
        *out = parsed;
    }
    return err;
}

static_assert(ORT_HASH_BYTES == crypto_hash_sha256_BYTES, "both are 32 bytes");
static_assert(sizeof(ort_sha256) >= sizeof(crypto_hash_sha256_state), "room for the state");

static crypto_hash_sha256_state *
sha256_of(ort_sha256 *h)
{
    return (crypto_hash_sha256_state *)(void *)h->opaque;
}

void
ort_sha256_init(ort_sha256 *h)
{
    ort_crypto__init();
    crypto_hash_sha256_init(sha256_of(h));
}

void
ort_sha256_put(ort_sha256 *h, const void *bytes, size_t n)
{
    crypto_hash_sha256_update(sha256_of(h), bytes, n);
}

void
ort_sha256_done(ort_sha256 *h, ort_hash *out)
{
    crypto_hash_sha256_final(sha256_of(h), out->b);
    sodium_memzero(h, sizeof *h);
}
