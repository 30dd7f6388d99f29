/* Grants as text. */
#include "wire/grant.h"

#include <string.h>

#include "base/buf.h"
#include "crypto/secret.h"

#define WORD "orthg1_"
#define WORD_BYTES (sizeof WORD - 1)
#define BODY_BYTES 49u

static const char *const names[] = {NULL, "backup", "restore", "clone"};

void
ort_grant_format(const ort_grant *g, const ort_sign_key *key, char out[ORT_GRANT_TEXT_BYTES])
{
    unsigned char bytes[ORT_GRANT_BYTES];
    ort_signature signature;
    bytes[0] = (unsigned char)g->op;
    ort_put_u64(bytes + 1, g->hub_id);
    ort_put_u64(bytes + 9, g->node.v);
    ort_put_u64(bytes + 17, g->tenant.v);
    ort_put_u64(bytes + 25, g->from.v);
    ort_put_u64(bytes + 33, (uint64_t)g->expires_ms);
    ort_put_u64(bytes + 41, g->nonce);
    ort_sign(key, ORT_SIGN_GRANT, bytes, BODY_BYTES, &signature);
    memcpy(bytes + BODY_BYTES, signature.b, sizeof signature.b);
    memcpy(out, WORD, WORD_BYTES);
    ort_hex_format(bytes, sizeof bytes, out + WORD_BYTES);
}

ort_err
ort_grant_parse(const char *text, size_t len, const ort_sign_public *by, ort_grant *out)
{
    unsigned char bytes[ORT_GRANT_BYTES];
    ort_signature signature;
    *out = (ort_grant){0};
    if (len != ORT_GRANT_TEXT_BYTES - 1 || memcmp(text, WORD, WORD_BYTES) != 0 ||
        ort_hex_parse(text + WORD_BYTES, len - WORD_BYTES, bytes, sizeof bytes) != ORT_OK) {
        return ORT_EAUTH;
    }
    memcpy(signature.b, bytes + BODY_BYTES, sizeof signature.b);
    if (!ort_sign_verify(by, ORT_SIGN_GRANT, bytes, BODY_BYTES, &signature) ||
        bytes[0] < ORT_GRANT_BACKUP || bytes[0] > ORT_GRANT_CLONE) {
        return ORT_EAUTH;
    }
    *out = (ort_grant){.op = (ort_grant_op)bytes[0],
                       .hub_id = ort_get_u64(bytes + 1),
                       .node = {ort_get_u64(bytes + 9)},
                       .tenant = {ort_get_u64(bytes + 17)},
                       .from = {ort_get_u64(bytes + 25)},
                       .expires_ms = (int64_t)ort_get_u64(bytes + 33),
                       .nonce = ort_get_u64(bytes + 41)};
    return ORT_OK;
}

const char *
ort_grant_op_name(ort_grant_op op)
{
    return op >= ORT_GRANT_BACKUP && op <= ORT_GRANT_CLONE ? names[op] : NULL;
}

ort_grant_op
ort_grant_op_by_name(const char *name)
{
    for (unsigned op = ORT_GRANT_BACKUP; op <= ORT_GRANT_CLONE; op++) {
        if (strcmp(names[op], name) == 0) {
            return (ort_grant_op)op;
        }
    }
    return (ort_grant_op)0;
}
