/* shared/base/siphash.h: the keyed hash of hash tables, and of Qdrant's `slice` filter. */
#ifndef ORT_SIPHASH_H
#define ORT_SIPHASH_H
#include <stddef.h>
#include <stdint.h>

/* SipHash-2-4 of bytes under the 128-bit key (k0, k1). Aumasson & Bernstein 2012. */
uint64_t ort_siphash(uint64_t k0, uint64_t k1, const void *bytes, size_t n);
#endif /* ORT_SIPHASH_H */
