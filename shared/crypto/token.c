/* Tokens: text and back, and their stored hash. */
#include "crypto/token.h"

#include <assert.h>
#include <string.h>

#include "base/crc32c.h"

#define ID_BYTES 15
#define ID_CHARS 24
#define SECRET_CHARS 32
#define CA_CHARS 32
#define CHECKSUM_CHARS 7
#define SERIAL_MAX ((UINT64_C(1) << 56) - 1)

static const char ALPHABET[] = "0123456789abcdefghjkmnpqrstvwxyz";

/* By ort_token_kind; none is the beginning of another. */
static const char *const PREFIX[] = {"orth_live_", "orth_test_", "orthop_", "orthjoin_"};

static_assert(sizeof "orthjoin_" + ID_CHARS + 1 + SECRET_CHARS + CA_CHARS + CHECKSUM_CHARS <=
                  ORT_TOKEN_TEXT_BYTES,
              "room for the longest token");

/* Five bits a character, most significant first. All our lengths but the checksum's are whole
 * multiples of 5 bytes. */
static char *
base32_put(char *out, const unsigned char *bytes, size_t n)
{
    assert(n % 5 == 0);
    for (size_t i = 0; i < n; i += 5) {
        uint64_t v = 0;
        for (size_t k = 0; k < 5; k++) {
            v = v << 8 | bytes[i + k];
        }
        for (int shift = 35; shift >= 0; shift -= 5) {
            *out++ = ALPHABET[v >> shift & 31];
        }
    }
    return out;
}

/* The value of a character, or -1: by arithmetic and not by table, because some of these characters
 * are secret and a table look-up shows in the cache. */
static int
base32_value(char c)
{
    int value = -1;
    for (int i = 0; i < 32; i++) {
        const unsigned differs = (unsigned)(unsigned char)c ^ (unsigned)(unsigned char)ALPHABET[i];
        const int mask = (int)((differs - 1) >> 31); /* 1 when equal */
        value += mask * (i + 1);
    }
    return value;
}

/* Reads n bytes (a multiple of 5) from n / 5 * 8 characters. */
static bool
base32_get(const char *text, unsigned char *out, size_t n)
{
    int bad = 0;
    for (size_t i = 0; i < n; i += 5, text += 8) {
        uint64_t v = 0;
        for (size_t k = 0; k < 8; k++) {
            const int d = base32_value(text[k]);
            bad |= d < 0;
            v = v << 5 | (uint64_t)(d & 31);
        }
        for (size_t k = 0; k < 5; k++) {
            out[i + k] = (unsigned char)(v >> (32 - 8 * k));
        }
    }
    return bad == 0;
}

static void
checksum_put(char *out, const char *text, size_t n)
{
    const uint64_t crc = ort_crc32c(0, text, n);
    for (int i = 0; i < CHECKSUM_CHARS; i++) {
        out[i] = ALPHABET[crc >> (5 * (CHECKSUM_CHARS - 1 - i)) & 31];
    }
}

static void
id_bytes(ort_key_id id, unsigned char out[ID_BYTES])
{
    for (int i = 0; i < 8; i++) {
        out[i] = (unsigned char)(id.tenant.v >> (56 - 8 * i));
    }
    for (int i = 0; i < 7; i++) {
        out[8 + i] = (unsigned char)(id.serial >> (48 - 8 * i));
    }
}

static ort_key_id
id_of_bytes(const unsigned char in[ID_BYTES])
{
    ort_key_id id = {{0}, 0};
    for (int i = 0; i < 8; i++) {
        id.tenant.v = id.tenant.v << 8 | in[i];
    }
    for (int i = 8; i < ID_BYTES; i++) {
        id.serial = id.serial << 8 | in[i];
    }
    return id;
}

void
ort_token_make(ort_token *out, ort_token_kind kind, ort_tenant_id tenant,
               const unsigned char ca[ORT_TOKEN_CA_BYTES])
{
    assert((kind == ORT_TOKEN_JOIN) == (ca != NULL));
    *out = (ort_token){.kind = kind, .id = {.tenant = tenant}};
    while (out->id.serial == 0) {
        ort_secret_random(&out->id.serial, sizeof out->id.serial);
        out->id.serial &= SERIAL_MAX;
    }
    ort_secret_random(out->secret, sizeof out->secret);
    if (ca != NULL) {
        memcpy(out->ca, ca, sizeof out->ca);
    }
}

void
ort_token_format(const ort_token *token, char out[ORT_TOKEN_TEXT_BYTES])
{
    unsigned char id[ID_BYTES];
    id_bytes(token->id, id);
    char *p = stpcpy(out, PREFIX[token->kind]);
    p = base32_put(p, id, sizeof id);
    *p++ = '_';
    p = base32_put(p, token->secret, sizeof token->secret);
    if (token->kind == ORT_TOKEN_JOIN) {
        p = base32_put(p, token->ca, sizeof token->ca);
    }
    checksum_put(p, out, (size_t)(p - out));
    p[CHECKSUM_CHARS] = '\0';
}

ort_err
ort_token_parse(const char *text, size_t len, ort_token *out)
{
    unsigned char id[ID_BYTES];
    char checksum[CHECKSUM_CHARS];
    size_t kind = 0, prefix = 0;
    ort_secret_wipe(out, sizeof *out);
    for (; kind < sizeof PREFIX / sizeof *PREFIX; kind++) {
        prefix = strlen(PREFIX[kind]);
        if (len > prefix && memcmp(text, PREFIX[kind], prefix) == 0) {
            break;
        }
    }
    if (kind == sizeof PREFIX / sizeof *PREFIX) {
        return ORT_EFORMAT;
    }
    const size_t ca = kind == ORT_TOKEN_JOIN ? CA_CHARS : 0;
    const char *p = text + prefix;
    if (len != prefix + ID_CHARS + 1 + SECRET_CHARS + ca + CHECKSUM_CHARS || p[ID_CHARS] != '_' ||
        !base32_get(p, id, sizeof id)) {
        return ORT_EFORMAT;
    }
    p += ID_CHARS + 1;
    bool good = base32_get(p, out->secret, sizeof out->secret);
    p += SECRET_CHARS;
    if (ca > 0) {
        good = base32_get(p, out->ca, sizeof out->ca) && good;
        p += CA_CHARS;
    }
    checksum_put(checksum, text, (size_t)(p - text));
    out->kind = (ort_token_kind)kind;
    out->id = id_of_bytes(id);
    if (!good || memcmp(p, checksum, sizeof checksum) != 0 || out->id.serial == 0) {
        ort_secret_wipe(out, sizeof *out);
        return ORT_EFORMAT;
    }
    return ORT_OK;
}

void
ort_token_wipe(ort_token *token)
{
    ort_secret_wipe(token, token != NULL ? sizeof *token : 0);
}

void
ort_token_hash(const ort_token *token, const unsigned char pepper[ORT_PEPPER_BYTES], ort_hash *out)
{
    static_assert(ORT_PEPPER_BYTES == ORT_HASH_BYTES, "the pepper is the key of the hash");
    unsigned char id[ID_BYTES];
    ort_hasher h;
    id_bytes(token->id, id);
    ort_hasher_init_keyed(&h, pepper);
    ort_hasher_put(&h, id, sizeof id);
    ort_hasher_put(&h, token->secret, sizeof token->secret);
    ort_hasher_done(&h, out);
}

bool
ort_token_matches(const ort_token *token, const unsigned char pepper[ORT_PEPPER_BYTES],
                  const ort_hash *stored)
{
    ort_hash mine;
    ort_token_hash(token, pepper, &mine);
    const bool same = ort_hash_equal(&mine, stored);
    ort_secret_wipe(&mine, sizeof mine);
    return same;
}

void
ort_key_id_format(ort_key_id id, char out[ORT_TOKEN_ID_TEXT_BYTES])
{
    unsigned char bytes[ID_BYTES];
    id_bytes(id, bytes);
    *base32_put(out, bytes, sizeof bytes) = '\0';
}

ort_err
ort_key_id_parse(const char *text, size_t len, ort_key_id *out)
{
    unsigned char bytes[ID_BYTES];
    if (len != ID_CHARS || !base32_get(text, bytes, sizeof bytes)) {
        return ORT_EFORMAT;
    }
    const ort_key_id id = id_of_bytes(bytes);
    if (id.serial == 0) {
        return ORT_EFORMAT;
    }
    *out = id;
    return ORT_OK;
}
