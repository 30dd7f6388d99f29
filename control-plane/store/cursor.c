/* Cursors: "<kind>:<key>" in base64url without padding.
 *
 * Not sealed against people: a cursor is a key of a list that its holder may read anyway. It is
 * opaque so that nobody builds on what is in it. */
#include <stdio.h>
#include <string.h>

#include "store/store.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void
cp_cursor_format(const char *kind, const char *key, char out[CP_CURSOR_BYTES])
{
    char plain[CP_CURSOR_BYTES];
    size_t at = 0;
    /* Three bytes become four: a key that long is none of ours (they have at most 64). */
    const int n = snprintf(plain, CP_CURSOR_BYTES * 3 / 4 - 4, "%s:%s", kind, key);
    const size_t len = n < 0 ? 0 : strlen(plain);
    for (size_t i = 0; i < len; i += 3) {
        const unsigned left = (unsigned)(len - i);
        const unsigned v = (unsigned)(unsigned char)plain[i] << 16 |
                           (left > 1 ? (unsigned)(unsigned char)plain[i + 1] << 8 : 0) |
                           (left > 2 ? (unsigned)(unsigned char)plain[i + 2] : 0);
        for (unsigned digit = 0; digit < (left > 2 ? 4 : left + 1); digit++) {
            out[at++] = alphabet[v >> (18 - 6 * digit) & 63];
        }
    }
    out[at] = '\0';
}

ort_err
cp_cursor_parse(const char *kind, const char *text, size_t len, char key_out[CP_CURSOR_BYTES],
                ort_diag *diag)
{
    char plain[CP_CURSOR_BYTES];
    size_t at = 0;
    unsigned bits = 0, v = 0;
    if (len == 0 || len >= CP_CURSOR_BYTES || len % 4 == 1) {
        return ort_fail(diag, ORT_EINVAL, "this is not a cursor of this list");
    }
    for (size_t i = 0; i < len; i++) {
        const char *digit = text[i] != '\0' ? strchr(alphabet, text[i]) : NULL;
        if (digit == NULL) {
            return ort_fail(diag, ORT_EINVAL, "this is not a cursor of this list");
        }
        v = v << 6 | (unsigned)(digit - alphabet);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            plain[at++] = (char)(v >> bits & 255);
        }
    }
    plain[at] = '\0';
    const size_t kind_len = strlen(kind);
    if (at <= kind_len + 1 || memcmp(plain, kind, kind_len) != 0 || plain[kind_len] != ':' ||
        memchr(plain, '\0', at) != NULL) {
        return ort_fail(diag, ORT_EINVAL, "this is not a cursor of this list");
    }
    memcpy(key_out, plain + kind_len + 1, at - kind_len);
    return ORT_OK;
}
