/* shared/crypto/crypto_internal.h: what the files of this folder share. */
#ifndef ORT_CRYPTO_INTERNAL_H
#define ORT_CRYPTO_INTERNAL_H

/* libsodium's one-time start, which picks its fastest code and opens the generator: every function
 * that needs either calls this first. Aborts when the system has no randomness to give: nothing we
 * could go on to do would be safe. Any number of times, any thread. */
void ort_crypto__init(void);
#endif /* ORT_CRYPTO_INTERNAL_H */
