/* shared/base/crc32c.h: the Castagnoli checksum of every file and record we write. */
#ifndef ORT_CRC32C_H
#define ORT_CRC32C_H
#include <stddef.h>
#include <stdint.h>

/* CRC-32C of bytes, continuing `crc` (0 to begin): crc(a+b) == crc(crc(a), b). Uses the processor's
 * instruction where there is one. RFC 3720, appendix B.4. */
uint32_t ort_crc32c(uint32_t crc, const void *bytes, size_t n);
#endif /* ORT_CRC32C_H */
