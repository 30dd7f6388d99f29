/* Ids as text, and random ones. */
#include "base/id.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

void
ort_id_format(uint64_t id, char out[ORT_ID_TEXT_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    for (int i = 15; i >= 0; i--, id >>= 4) {
        out[i] = hex[id & 15];
    }
    out[16] = '\0';
}

ort_err
ort_id_parse(const char *text, size_t len, uint64_t *out)
{
    uint64_t v = 0;
    if (len != 16) {
        return ORT_EFORMAT;
    }
    for (size_t i = 0; i < 16; i++) {
        const char c = text[i];
        if (c >= '0' && c <= '9') {
            v = v << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return ORT_EFORMAT;
        }
    }
    if (v == 0) {
        return ORT_EFORMAT;
    }
    *out = v;
    return ORT_OK;
}

void
ort_random_bytes(void *out, size_t n)
{
    unsigned char *p = out;
    while (n > 0) {
        const ssize_t got = getrandom(p, n, 0);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            fputs("orthant: the kernel gives no random bytes\n", stderr);
            abort();
        }
        p += got;
        n -= (size_t)got;
    }
}

uint64_t
ort_id_random(void)
{
    uint64_t v = 0;
    while (v == 0) {
        ort_random_bytes(&v, sizeof v);
    }
    return v;
}
