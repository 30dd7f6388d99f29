/* shared/crypto/secret.h: bytes that must not be guessed, compared slowly, left in memory or read
 * by others. */
#ifndef ORT_SECRET_H
#define ORT_SECRET_H
#include "base/buf.h"
#include "base/err.h"

#define ORT_PEPPER_BYTES 32

/* n bytes for keys and tokens from libsodium's generator. */
void ort_secret_random(void *out, size_t n);

/* Zeroes memory in a way the compiler keeps. wipe_buf also frees, as ort_buf_fini() does. */
void ort_secret_wipe(void *bytes, size_t n);
void ort_secret_wipe_buf(ort_buf *buf);

/* In time that depends on n alone. */
bool ort_secret_equal(const void *a, const void *b, size_t n);

/* Lower-case hex of n bytes and a NUL into out[2 * n + 1], and back (strict; ORT_EFORMAT). */
void ort_hex_format(const void *bytes, size_t n, char *out);
ORT_NODISCARD ort_err ort_hex_parse(const char *text, size_t len, void *out, size_t n);

/* Replaces the file with these bytes (ort_file_replace), readable by the owner alone. */
ORT_NODISCARD ort_err ort_secret_file_write(int dir_fd, const char *name, const void *bytes,
                                            size_t n, ort_diag *diag);

/* Appends the file to out; the caller wipes it.
 * ORT_ENOTFOUND  no such file
 * ORT_EDENIED    group or others may read or write it, or another user owns it: said, not repaired,
 *                because the secret may have been read already */
ORT_NODISCARD ort_err ort_secret_file_read(int dir_fd, const char *name, size_t max_bytes,
                                           ort_buf *out, ort_diag *diag);
#endif /* ORT_SECRET_H */
