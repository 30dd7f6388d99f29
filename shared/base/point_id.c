/* Point ids: text, bytes, order. */
#include "base/point_id.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/id.h"
#include "base/siphash.h"

static uint64_t hash_key[2];

static void
hash_key_init(void)
{
    ort_random_bytes(hash_key, sizeof hash_key);
}

int
ort_point_id_cmp(ort_point_id a, ort_point_id b)
{
    if (a.uuid != b.uuid) {
        return a.uuid ? 1 : -1;
    }
    if (a.hi != b.hi) {
        return a.hi < b.hi ? -1 : 1;
    }
    return a.lo < b.lo ? -1 : a.lo > b.lo;
}

uint64_t
ort_point_id_hash(ort_point_id id)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    unsigned char bytes[ORT_POINT_ID_BYTES];
    pthread_once(&once, hash_key_init);
    ort_point_id_encode(id, bytes);
    return ort_siphash(hash_key[0], hash_key[1], bytes, sizeof bytes);
}

static bool
parse_digits(const char *text, size_t len, uint64_t *out)
{
    uint64_t v = 0;
    if (len == 0 || len > 20) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v)) {
            return false;
        }
    }
    *out = v;
    return true;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* 32 hex digits, either bare or with the four hyphens at their places. */
static bool
parse_uuid(const char *text, size_t len, ort_point_id *out)
{
    uint64_t half[2] = {0, 0};
    unsigned digits = 0;
    const bool hyphens = len == 36;
    if (len != 32 && !hyphens) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (hyphens && (i == 8 || i == 13 || i == 18 || i == 23)) {
            if (text[i] != '-') {
                return false;
            }
            continue;
        }
        const int digit = hex_digit(text[i]);
        if (digit < 0) {
            return false;
        }
        half[digits / 16] = half[digits / 16] << 4 | (uint64_t)digit;
        digits++;
    }
    *out = (ort_point_id){.hi = half[0], .lo = half[1], .uuid = true};
    return true;
}

ort_err
ort_point_id_parse(const char *text, size_t len, bool digits, ort_point_id *out, ort_diag *diag)
{
    uint64_t number;
    if (digits && parse_digits(text, len, &number)) {
        *out = ort_point_id_of(number);
        return ORT_OK;
    }
    const char *uuid = text;
    size_t uuid_len = len;
    if (len == 38 && text[0] == '{' && text[37] == '}') {
        uuid++;
        uuid_len = 36;
    } else if (len == 45 && memcmp(text, "urn:uuid:", 9) == 0) {
        uuid += 9;
        uuid_len = 36;
    }
    if (parse_uuid(uuid, uuid_len, out)) {
        return ORT_OK;
    }
    return ort_fail(diag, ORT_EINVAL,
                    "value %.*s is not a valid point ID, valid values are either an unsigned "
                    "integer or a UUID",
                    len > 100 ? 100 : (int)len, text);
}

size_t
ort_point_id_format(ort_point_id id, char out[ORT_POINT_ID_TEXT_BYTES])
{
    int n;
    if (!id.uuid) {
        n = snprintf(out, ORT_POINT_ID_TEXT_BYTES, "%llu", (unsigned long long)id.lo);
    } else {
        n = snprintf(out, ORT_POINT_ID_TEXT_BYTES, "%08llx-%04llx-%04llx-%04llx-%012llx",
                     (unsigned long long)(id.hi >> 32), (unsigned long long)(id.hi >> 16 & 0xffff),
                     (unsigned long long)(id.hi & 0xffff), (unsigned long long)(id.lo >> 48),
                     (unsigned long long)(id.lo & 0xffffffffffff));
    }
    return (size_t)n;
}

void
ort_point_id_encode(ort_point_id id, unsigned char out[ORT_POINT_ID_BYTES])
{
    memset(out, 0, ORT_POINT_ID_BYTES);
    if (!id.uuid) {
        ort_put_u64(out + 1, id.lo);
        return;
    }
    out[0] = 1;
    for (unsigned i = 0; i < 8; i++) {
        out[1 + i] = (unsigned char)(id.hi >> (56 - 8 * i));
        out[9 + i] = (unsigned char)(id.lo >> (56 - 8 * i));
    }
}

ort_err
ort_point_id_decode(const unsigned char in[ORT_POINT_ID_BYTES], ort_point_id *out)
{
    if (in[0] == 0) {
        *out = ort_point_id_of(ort_get_u64(in + 1));
        return ort_get_u64(in + 9) == 0 ? ORT_OK : ORT_ECORRUPT;
    }
    if (in[0] != 1) {
        return ORT_ECORRUPT;
    }
    ort_point_id id = {.uuid = true};
    for (unsigned i = 0; i < 8; i++) {
        id.hi = id.hi << 8 | in[1 + i];
        id.lo = id.lo << 8 | in[9 + i];
    }
    *out = id;
    return ORT_OK;
}
