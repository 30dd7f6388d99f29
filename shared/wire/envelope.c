/* What a table travels and is kept in.
 *
 *   offset  size  field          all integers little-endian
 *        0     8  magic          "ORTTAB\0\1"
 *        8     8  hub_id
 *       16     8  generation
 *       24     8  node_id        the one node it is for
 *       32     8  version
 *       40     8  base           version the body is a change from; 0 = whole
 *       48    32  base_hash      state hash of that base; zeroes when whole
 *       80    32  hash           state hash after applying
 *      112     8  issued_at_ms   wall time
 *      120     4  raw_len        bytes of the body's JSON, at most ORT_WIRE_BYTES_MAX
 *      124     4  packed_len
 *      128     n  body           one zstd frame
 *    128+n    64  signature      Ed25519ph, domain ORT_SIGN_TABLE, over all before it
 *
 * There is one way to write each table, and every byte is under the signature: the encoding is its
 * own canonical form. The node id in it keeps a table from being replayed to another node. */
#include <string.h>
#include <zstd.h>

#include "base/limits.h"
#include "wire/table.h"

static const char MAGIC[8] = {'O', 'R', 'T', 'T', 'A', 'B', 0, 1};

#define HEAD_BYTES 128u
#define RAW_LEN_AT 120u
#define PACKED_LEN_AT 124u

/* Level 1: 4.8 MB of tables pack to 1.4 MB in 56 ms already with zlib's fastest, and it is the
 * control plane that packs for every node. */
#define ZSTD_LEVEL 1

ort_err
ort_envelope_seal(const ort_table_head *head, const char *body, size_t len, const ort_sign_key *key,
                  ort_buf *out, ort_diag *diag)
{
    ort_signature sig;
    const size_t start = out->len, bound = ZSTD_compressBound(len);
    if (len > ORT_WIRE_BYTES_MAX) {
        return ort_fail(diag, ORT_ETOOBIG, "the table's body has %zu bytes, at most %u travel", len,
                        ORT_WIRE_BYTES_MAX);
    }
    char *at = ort_buf_reserve(out, HEAD_BYTES + bound + sizeof sig.b);
    if (at == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "table envelope");
    }
    const size_t packed = ZSTD_compress(at + HEAD_BYTES, bound, body, len, ZSTD_LEVEL);
    if (ZSTD_isError(packed)) {
        return ort_fail(diag, ORT_EINTERNAL, "pack table: %s", ZSTD_getErrorName(packed));
    }
    if (HEAD_BYTES + packed + sizeof sig.b > ORT_WIRE_BYTES_MAX) {
        return ort_fail(diag, ORT_ETOOBIG, "the table has %zu bytes packed, at most %u travel",
                        packed, ORT_WIRE_BYTES_MAX);
    }
    memcpy(at, MAGIC, sizeof MAGIC);
    ort_put_u64(at + 8, head->hub_id);
    ort_put_u64(at + 16, head->at.generation);
    ort_put_u64(at + 24, head->node.v);
    ort_put_u64(at + 32, head->at.version);
    ort_put_u64(at + 40, head->base);
    memcpy(at + 48, head->base_hash.b, ORT_HASH_BYTES);
    memcpy(at + 80, head->at.hash.b, ORT_HASH_BYTES);
    ort_put_u64(at + 112, (uint64_t)head->issued_at_ms);
    ort_put_u32(at + RAW_LEN_AT, (uint32_t)len);
    ort_put_u32(at + PACKED_LEN_AT, (uint32_t)packed);
    ort_buf_commit(out, HEAD_BYTES + packed);
    ort_sign(key, ORT_SIGN_TABLE, out->data + start, HEAD_BYTES + packed, &sig);
    ort_buf_put(out, sig.b, sizeof sig.b);
    return ort_buf_check(out);
}

ort_err
ort_envelope_open(const void *bytes, size_t n, const ort_sign_public *by, ort_table_head *out,
                  ort_diag *diag)
{
    ort_signature sig;
    const unsigned char *p = bytes;
    if (n > sizeof MAGIC && memcmp(p, MAGIC, sizeof MAGIC - 1) == 0 && p[7] > MAGIC[7]) {
        return ort_fail(diag, ORT_EVERSION,
                        "the table envelope has version %u, this program reads %d", p[7], MAGIC[7]);
    }
    if (n < HEAD_BYTES + sizeof sig.b || n > ORT_WIRE_BYTES_MAX ||
        memcmp(p, MAGIC, sizeof MAGIC) != 0) {
        return ort_fail(diag, ORT_EFORMAT, "these %zu bytes are no table envelope", n);
    }
    if (ort_get_u32(p + PACKED_LEN_AT) != n - HEAD_BYTES - sizeof sig.b ||
        ort_get_u32(p + RAW_LEN_AT) > ORT_WIRE_BYTES_MAX) {
        return ort_fail(diag, ORT_EFORMAT, "the table envelope's lengths do not agree");
    }
    memcpy(sig.b, p + n - sizeof sig.b, sizeof sig.b);
    if (!ort_sign_verify(by, ORT_SIGN_TABLE, p, n - sizeof sig.b, &sig)) {
        return ort_fail(diag, ORT_EAUTH, "the table is not signed by this hub's control plane");
    }
    *out = (ort_table_head){
        .hub_id = ort_get_u64(p + 8),
        .node = {ort_get_u64(p + 24)},
        .at = {.generation = ort_get_u64(p + 16), .version = ort_get_u64(p + 32)},
        .base = ort_get_u64(p + 40),
        .issued_at_ms = (int64_t)ort_get_u64(p + 112),
    };
    memcpy(out->base_hash.b, p + 48, ORT_HASH_BYTES);
    memcpy(out->at.hash.b, p + 80, ORT_HASH_BYTES);
    return ORT_OK;
}

ort_err
ort_envelope_body(const void *bytes, size_t n, ort_buf *out, ort_diag *diag)
{
    const unsigned char *p = bytes;
    if (n < HEAD_BYTES + ORT_SIGN_BYTES ||
        ort_get_u32(p + PACKED_LEN_AT) != n - HEAD_BYTES - ORT_SIGN_BYTES ||
        ort_get_u32(p + RAW_LEN_AT) > ORT_WIRE_BYTES_MAX) {
        return ort_fail(diag, ORT_EFORMAT, "the table envelope's lengths do not agree");
    }
    const size_t raw = ort_get_u32(p + RAW_LEN_AT);
    char *at = ort_buf_reserve(out, raw + 1);
    if (at == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "table body");
    }
    const size_t did = ZSTD_decompress(at, raw, p + HEAD_BYTES, n - HEAD_BYTES - ORT_SIGN_BYTES);
    if (ZSTD_isError(did) || did != raw) {
        return ort_fail(diag, ORT_EFORMAT, "the table's body does not unpack");
    }
    ort_buf_commit(out, raw);
    return ORT_OK;
}
