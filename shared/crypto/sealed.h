/* shared/crypto/sealed.h: bytes that only the holder of a key can read, and nobody can change. */
#ifndef ORT_SEALED_H
#define ORT_SEALED_H
#include "base/buf.h"
#include "base/err.h"

#define ORT_SEAL_KEY_BYTES 32

/* Appends nonce (24), ciphertext and tag (16) of the n bytes to out: XChaCha20-Poly1305 with a
 * random nonce. bound[0..bound_len) is not in it but must be the same when it is opened: what the
 * bytes belong to. ORT_ENOMEM. */
ORT_NODISCARD ort_err ort_seal(const unsigned char key[ORT_SEAL_KEY_BYTES], const void *bound,
                               size_t bound_len, const void *bytes, size_t n, ort_buf *out);

/* The reverse; appends to out, which the caller wipes. ORT_ECORRUPT: changed, cut, of another key
 * or bound to something else; nothing appended. */
ORT_NODISCARD ort_err ort_unseal(const unsigned char key[ORT_SEAL_KEY_BYTES], const void *bound,
                                 size_t bound_len, const void *sealed, size_t n, ort_buf *out);
#endif /* ORT_SEALED_H */
