/* CRC-32C: SSE 4.2 where the processor has it, a table elsewhere.
 *
 * The instruction answers after three cycles and can be asked every cycle: long texts are read at
 * three places at once. The register is linear in what it held and what was read, so that the sum
 * of A, B and C one behind the other is that of A moved over the zeros in the place of B, plus that
 * of B begun at 0, moved over the zeros in the place of C, plus that of C begun at 0. */
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

#define PART_BYTES 4096u /* read at each of the three places before they are put together */

static uint32_t moved[4][256]; /* what a byte of the register becomes over so many zeros */

static uint32_t
move(uint32_t crc)
{
    return moved[0][crc & 0xff] ^ moved[1][crc >> 8 & 0xff] ^ moved[2][crc >> 16 & 0xff] ^
           moved[3][crc >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t
crc_three(uint32_t crc, const unsigned char *p)
{
    uint64_t a = crc, b = 0, c = 0;
    for (size_t i = 0; i < PART_BYTES; i += 8) {
        uint64_t word[3];
        memcpy(&word[0], p + i, 8);
        memcpy(&word[1], p + PART_BYTES + i, 8);
        memcpy(&word[2], p + 2 * (size_t)PART_BYTES + i, 8);
        a = _mm_crc32_u64(a, word[0]);
        b = _mm_crc32_u64(b, word[1]);
        c = _mm_crc32_u64(c, word[2]);
    }
    return move(move((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
}

__attribute__((target("sse4.2"))) static uint32_t
crc_sse42(uint32_t crc, const unsigned char *p, size_t n)
{
    for (; n >= 3 * (size_t)PART_BYTES; n -= 3 * (size_t)PART_BYTES, p += 3 * (size_t)PART_BYTES) {
        crc = crc_three(crc, p);
    }
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

/* Each bit is moved over the zeros by reading them; a byte is the sum of its bits. */
__attribute__((target("sse4.2"))) static void
make_moved(void)
{
    for (int bit = 0; bit < 32; bit++) {
        uint64_t crc = UINT32_C(1) << bit;
        for (size_t i = 0; i < PART_BYTES; i += 8) {
            crc = _mm_crc32_u64(crc, 0);
        }
        for (uint32_t byte = 0; byte < 256; byte++) {
            moved[bit / 8][byte] ^= (byte >> bit % 8 & 1) != 0 ? (uint32_t)crc : 0;
        }
    }
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
        make_moved();
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
