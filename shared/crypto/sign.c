/* Ed25519ph signatures by libsodium, and the file a key lives in. */
#include "crypto/sign.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "crypto/crypto_internal.h"
#include "crypto/secret.h"

#define KEY_FILE_KIND "orthant-ed25519-"
#define KEY_FILE_WORD KEY_FILE_KIND "1 " /* the version */
#define KEY_FILE_BYTES (sizeof KEY_FILE_WORD - 1 + 2 * crypto_sign_SEEDBYTES + 1)

static_assert(ORT_SIGN_PUBLIC_BYTES == crypto_sign_PUBLICKEYBYTES, "sizes of libsodium");
static_assert(ORT_SIGN_BYTES == crypto_sign_BYTES, "sizes of libsodium");
static_assert(sizeof((ort_sign_key *)0)->secret == crypto_sign_SECRETKEYBYTES,
              "sizes of libsodium");

void
ort_sign_key_new(ort_sign_key *out)
{
    ort_crypto__init();
    crypto_sign_keypair(out->public.b, out->secret);
}

void
ort_sign_key_wipe(ort_sign_key *key)
{
    if (key != NULL) {
        sodium_memzero(key, sizeof *key);
    }
}

ort_err
ort_sign_key_save(const ort_sign_key *key, int dir_fd, const char *name, ort_diag *diag)
{
    unsigned char seed[crypto_sign_SEEDBYTES];
    char text[KEY_FILE_BYTES + 1];
    const size_t word = sizeof KEY_FILE_WORD - 1;
    crypto_sign_ed25519_sk_to_seed(seed, key->secret);
    memcpy(text, KEY_FILE_WORD, word);
    ort_hex_format(seed, sizeof seed, text + word);
    text[KEY_FILE_BYTES - 1] = '\n';
    const ort_err err = ort_secret_file_write(dir_fd, name, text, KEY_FILE_BYTES, diag);
    sodium_memzero(seed, sizeof seed);
    sodium_memzero(text, sizeof text);
    return err;
}

ort_err
ort_sign_key_load(ort_sign_key *out, int dir_fd, const char *name, ort_diag *diag)
{
    unsigned char seed[crypto_sign_SEEDBYTES];
    ort_buf text = {0};
    const size_t word = sizeof KEY_FILE_WORD - 1;
    ort_crypto__init();
    sodium_memzero(out, sizeof *out);
    ort_err err = ort_secret_file_read(dir_fd, name, KEY_FILE_BYTES, &text, diag);
    if (err == ORT_OK && text.len > word && text.data[word - 2] > '1' &&
        text.data[word - 2] <= '9' && memcmp(text.data, KEY_FILE_KIND, word - 2) == 0) {
        err = ort_fail(diag, ORT_EVERSION, "%s: version %c, this program reads 1", name,
                       text.data[word - 2]);
    }
    if (err == ORT_ETOOBIG ||
        (err == ORT_OK &&
         (text.len != KEY_FILE_BYTES || memcmp(text.data, KEY_FILE_WORD, word) != 0 ||
          text.data[KEY_FILE_BYTES - 1] != '\n' ||
          ort_hex_parse(text.data + word, 2 * sizeof seed, seed, sizeof seed) != ORT_OK))) {
        err = ort_fail(diag, ORT_ECORRUPT, "%s is not a key file (\"" KEY_FILE_WORD "...\")", name);
    }
    if (err == ORT_OK) {
        crypto_sign_seed_keypair(out->public.b, out->secret, seed);
    }
    sodium_memzero(seed, sizeof seed);
    ort_secret_wipe_buf(&text);
    return err;
}

static void
begin(crypto_sign_state *state, ort_sign_domain domain)
{
    const char *word = NULL;
    switch (domain) {
    case ORT_SIGN_TABLE:
        word = "orthant routing table v1";
        break;
    case ORT_SIGN_MESSAGE:
        word = "orthant node message v1";
        break;
    case ORT_SIGN_AUDIT:
        word = "orthant audit head v1";
        break;
    case ORT_SIGN_GRANT:
        word = "orthant grant v1";
        break;
    }
    assert(word != NULL);
    ort_crypto__init();
    crypto_sign_init(state);
    crypto_sign_update(state, (const unsigned char *)word, strlen(word) + 1);
}

void
ort_sign(const ort_sign_key *key, ort_sign_domain domain, const void *message, size_t n,
         ort_signature *out)
{
    crypto_sign_state state;
    begin(&state, domain);
    crypto_sign_update(&state, message, n);
    crypto_sign_final_create(&state, out->b, NULL, key->secret);
}

bool
ort_sign_verify(const ort_sign_public *by, ort_sign_domain domain, const void *message, size_t n,
                const ort_signature *signature)
{
    crypto_sign_state state;
    begin(&state, domain);
    crypto_sign_update(&state, message, n);
    /* libsodium 1.0.18 declares the signature writable here and only reads it. */
    ort_signature copy = *signature;
    return crypto_sign_final_verify(&state, copy.b, by->b) == 0;
}
