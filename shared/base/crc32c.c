/* CRC-32C: SSE 4.2 where the processor has it, a table elsewhere. */
#include "base/crc32c.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

static uint32_t table[256];

static uint32_t
crc_table(uint32_t crc, const unsigned char *p, size_t n)
{
    for (; n > 0; n--) {
        crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
    }
    return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t
crc_sse42(uint32_t crc, const unsigned char *p, size_t n)
{
    uint64_t wide = crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        wide = _mm_crc32_u64(wide, word);
    }
    crc = (uint32_t)wide;
    for (; n > 0; n--) {
        crc = _mm_crc32_u8(crc, *p++);
    }
    return crc;
}
#endif

static uint32_t (*update)(uint32_t, const unsigned char *, size_t) = crc_table;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
choose(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) {
            c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        }
        table[i] = c;
    }
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        update = crc_sse42;
    }
#endif
}

uint32_t
ort_crc32c(uint32_t crc, const void *bytes, size_t n)
{
    pthread_once(&once, choose);
    return ~update(~crc, bytes, n);
}
