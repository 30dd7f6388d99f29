/* Blocks packed by zstd or lz4. */
#include "storage/codec.h"

#include <limits.h>
#include <lz4.h>
#include <lz4hc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* One of each a thread: making one takes longer than a block does. */
typedef struct {
    ZSTD_CCtx *packer;
    ZSTD_DCtx *unpacker;
} contexts;

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
contexts_free(void *arg)
{
    contexts *c = arg;
    ZSTD_freeCCtx(c->packer);
    ZSTD_freeDCtx(c->unpacker);
    free(c);
}

static void
key_init(void)
{
    pthread_key_create(&key, contexts_free);
}

/* NULL: no memory. */
static contexts *
mine(void)
{
    pthread_once(&once, key_init);
    contexts *c = pthread_getspecific(key);
    if (c == NULL) {
        c = calloc(1, sizeof *c);
        if (c != NULL && pthread_setspecific(key, c) != 0) {
            free(c);
            c = NULL;
        }
    }
    return c;
}

dp_packing
dp_packing_resolve(dp_packing p)
{
    if (p.kind == DP_PACK_DEFAULT) {
        p.kind = DP_PACK_ZSTD;
    }
    const int most = p.kind == DP_PACK_LZ4 ? LZ4HC_CLEVEL_MAX : ZSTD_maxCLevel();
    if (p.level <= 0) {
        p.level = DP_PACK_LEVEL_DEFAULT;
    }
    if (p.level > most) {
        p.level = most;
    }
    return p;
}

size_t
dp_codec_bound(size_t n)
{
    const size_t zstd = ZSTD_compressBound(n);
    const size_t lz4 = n <= LZ4_MAX_INPUT_SIZE ? (size_t)LZ4_compressBound((int)n) : 0;
    return zstd > lz4 ? zstd : lz4;
}

ort_err
dp_codec_pack(dp_packing p, const void *bytes, size_t n, void *to, size_t *packed_out,
              dp_codec *codec_out)
{
    size_t got = 0;
    *packed_out = n;
    *codec_out = DP_CODEC_PLAIN;
    p = dp_packing_resolve(p);
    if (p.kind == DP_PACK_NONE || n == 0) {
        return ORT_OK;
    }
    if (p.kind == DP_PACK_LZ4) {
        if (n > LZ4_MAX_INPUT_SIZE) {
            return ORT_OK;
        }
        const int room = LZ4_compressBound((int)n);
        const int did = p.level < LZ4HC_CLEVEL_MIN
                            ? LZ4_compress_default(bytes, to, (int)n, room)
                            : LZ4_compress_HC(bytes, to, (int)n, room, p.level);
        got = did > 0 ? (size_t)did : n; /* 0: no memory for its tables; plain is as good */
    } else {
        contexts *c = mine();
        if (c == NULL || (c->packer == NULL && (c->packer = ZSTD_createCCtx()) == NULL)) {
            return ORT_ENOMEM;
        }
        got = ZSTD_compressCCtx(c->packer, to, ZSTD_compressBound(n), bytes, n, p.level);
        got = ZSTD_isError(got) ? n : got;
    }
    if (got < n) {
        *packed_out = got;
        *codec_out = p.kind == DP_PACK_LZ4 ? DP_CODEC_LZ4 : DP_CODEC_ZSTD;
    }
    return ORT_OK;
}

ort_err
dp_codec_unpack(dp_codec codec, const void *packed, size_t n, void *to, size_t raw)
{
    contexts *c;
    switch (codec) {
    case DP_CODEC_PLAIN:
        if (n != raw) {
            return ORT_ECORRUPT;
        }
        if (n > 0) {
            memcpy(to, packed, n);
        }
        return ORT_OK;
    case DP_CODEC_LZ4:
        return n <= INT_MAX && raw <= INT_MAX &&
                       LZ4_decompress_safe(packed, to, (int)n, (int)raw) == (int)raw
                   ? ORT_OK
                   : ORT_ECORRUPT;
    case DP_CODEC_ZSTD:
        c = mine();
        if (c == NULL || (c->unpacker == NULL && (c->unpacker = ZSTD_createDCtx()) == NULL)) {
            return ORT_ENOMEM;
        }
        return ZSTD_decompressDCtx(c->unpacker, to, raw, packed, n) == raw ? ORT_OK : ORT_ECORRUPT;
    }
    return ORT_ECORRUPT;
}
