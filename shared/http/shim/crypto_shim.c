/* libcrypto.so for libcivetweb 1.15: the unversioned name it opens, leading to libcrypto.so.3. */
extern const char ort_crypto_shim[];
const char ort_crypto_shim[] = "libcrypto.so.3";
