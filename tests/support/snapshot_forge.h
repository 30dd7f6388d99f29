/* tests/support/snapshot_forge.h: takes a snapshot apart and puts it together again with every
 * checksum right, as somebody would who forges one. */
#ifndef TESTS_SUPPORT_SNAPSHOT_FORGE_H
#define TESTS_SUPPORT_SNAPSHOT_FORGE_H
#include <stdlib.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "crypto/hash.h"

enum { FORGE_BLOCKS_MAX = 64 };

typedef struct {
    uint32_t type;
    ort_buf plain;
} forge_block;

typedef struct {
    forge_block blocks[FORGE_BLOCKS_MAX];
    size_t count;
} forgery;

static inline void
forge_fini(forgery *f)
{
    for (size_t i = 0; i < f->count; i++) {
        ort_buf_fini(&f->blocks[i].plain);
    }
    f->count = 0;
}

/* false: no snapshot, or too large for this. */
static inline bool
forge_open(forgery *f, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    *f = (forgery){.count = 0};
    for (size_t at = 16; at + 24 <= n && f->count < FORGE_BLOCKS_MAX;) {
        const size_t stored = ort_get_u32(p + at + 4), plain = ort_get_u32(p + at + 8);
        forge_block *b = &f->blocks[f->count];
        if (stored > n - at - 24 || plain > 1u << 20) {
            break;
        }
        b->type = ort_get_u32(p + at);
        char *to = ort_buf_reserve(&b->plain, plain + 1);
        const size_t got = ZSTD_decompress(to, plain, p + at + 24, stored);
        if (ZSTD_isError(got)) {
            ort_buf_fini(&b->plain);
            break;
        }
        ort_buf_commit(&b->plain, got);
        f->count++;
        at += 24 + stored;
    }
    return f->count > 0;
}

/* Appends the whole file to out. The last block gets the right digest when it is an end. */
static inline void
forge_write(const forgery *f, ort_buf *out)
{
    unsigned char head[24] = {'O', 'R', 'T', 'S', 'N', 'A', 'P', 1, 1};
    ort_put_u32(head + 12, ort_crc32c(0, head, 12));
    ort_buf_put(out, head, 16);
    for (size_t i = 0; i < f->count; i++) {
        const forge_block *b = &f->blocks[i];
        if (b->type == 4 && b->plain.data != NULL && b->plain.len == 56) {
            ort_sha256 h;
            ort_hash digest;
            ort_sha256_init(&h);
            ort_sha256_put(&h, out->data, out->len);
            ort_sha256_done(&h, &digest);
            memcpy(b->plain.data + 24, digest.b, sizeof digest.b);
        }
        const size_t bound = ZSTD_compressBound(b->plain.len);
        char *packed = malloc(bound);
        const size_t n = ZSTD_compress(packed, bound, b->plain.data, b->plain.len, 3);
        ort_put_u32(head, b->type);
        ort_put_u32(head + 4, (uint32_t)n);
        ort_put_u32(head + 8, (uint32_t)b->plain.len);
        ort_put_u32(head + 12, (uint32_t)i);
        ort_put_u32(head + 16, ort_crc32c(0, head, 16));
        ort_put_u32(head + 20, ort_crc32c(0, packed, n));
        ort_buf_put(out, head, 24);
        ort_buf_put(out, packed, n);
        free(packed);
    }
}
#endif /* TESTS_SUPPORT_SNAPSHOT_FORGE_H */
