/* data-plane/storage/codec.h: blocks of bytes, packed and unpacked. */
#ifndef DP_CODEC_H
#define DP_CODEC_H
#include <stdint.h>

#include "storage/points.h"

/* Numbers are in files: append, never change. */
typedef enum { DP_CODEC_PLAIN = 0, DP_CODEC_ZSTD = 1, DP_CODEC_LZ4 = 2 } dp_codec;
#define DP_CODEC_LAST DP_CODEC_LZ4

/* What a packing asks for, with its level: the defaults filled in. */
dp_packing dp_packing_resolve(dp_packing packing);

/* The bytes that packing n bytes can take at most. */
size_t dp_codec_bound(size_t n);

/* Packs n bytes into `to`, which has room for dp_codec_bound(n). *packed_out n and DP_CODEC_PLAIN,
 * with `to` untouched: they are best left as they are. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_codec_pack(dp_packing packing, const void *bytes, size_t n, void *to,
                                    size_t *packed_out, dp_codec *codec_out);

/* Unpacks exactly raw bytes. ORT_ECORRUPT: the packed bytes do not give them; ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_codec_unpack(dp_codec codec, const void *packed, size_t n, void *to,
                                      size_t raw);
#endif /* DP_CODEC_H */
