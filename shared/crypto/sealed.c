/* Sealed bytes. */
#include "crypto/sealed.h"

#include <sodium.h>

#include "crypto/crypto_internal.h"

enum {
    NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
    TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES,
};

ort_err
ort_seal(const unsigned char key[ORT_SEAL_KEY_BYTES], const void *bound, size_t bound_len,
         const void *bytes, size_t n, ort_buf *out)
{
    size_t total;
    ort_crypto__init();
    if (!ort_size_add(n, NONCE + TAG, &total)) {
        return ORT_ENOMEM;
    }
    unsigned char *at = (unsigned char *)ort_buf_reserve(out, total);
    if (at == NULL) {
        return ORT_ENOMEM;
    }
    randombytes_buf(at, NONCE);
    unsigned long long written;
    crypto_aead_xchacha20poly1305_ietf_encrypt(at + NONCE, &written, bytes, n, bound, bound_len,
                                               NULL, at, key);
    ort_buf_commit(out, NONCE + (size_t)written);
    return ORT_OK;
}

ort_err
ort_unseal(const unsigned char key[ORT_SEAL_KEY_BYTES], const void *bound, size_t bound_len,
           const void *sealed, size_t n, ort_buf *out)
{
    const unsigned char *from = sealed;
    ort_crypto__init();
    if (n < NONCE + TAG) {
        return ORT_ECORRUPT;
    }
    unsigned char *at = (unsigned char *)ort_buf_reserve(out, n - NONCE - TAG + 1);
    if (at == NULL) {
        return ORT_ENOMEM;
    }
    unsigned long long written;
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(at, &written, NULL, from + NONCE, n - NONCE,
                                                   bound, bound_len, from, key) != 0) {
        return ORT_ECORRUPT;
    }
    ort_buf_commit(out, (size_t)written);
    return ORT_OK;
}
