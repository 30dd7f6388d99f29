/* The credential: the control plane's answer to the join as it came (wire/messages.c), and
 *
 *   ..,"format":2,"node_key":"<64 hex>","crc32c":"<8 hex>"}   of all before the comma; the last
 *                                                             bytes of the file
 *
 * Format 1 was the answer alone: a bit that flipped in the pepper had every key refused, and
 * nothing said why. node_key does for node.key, 32 random bytes, what a checksum would. */
#include "routing/credential.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/json_read.h"
#include "crypto/secret.h"

#define FORMAT 2u
#define BYTES_MAX 65536u
#define TAIL ",\"crc32c\":\"" /* then 8 digits, a quote, a brace */
#define TAIL_BYTES (sizeof TAIL - 1 + 10)
#define HOW_TO_GO_ON \
    "restore it from a backup, or remove it and join the node again with a new token"

ort_err
dp_credential_save(int dir_fd, const ort_hello_reply *mine, const ort_sign_public *node_key,
                   ort_diag *diag)
{
    char hex[2 * sizeof node_key->b + 1];
    ort_buf text = {0};
    ort_err err = ort_hello_reply_encode(mine, &text);
    ort_hex_format(node_key->b, sizeof node_key->b, hex);
    if (err == ORT_OK) {
        text.len--; /* its brace */
        ort_buf_printf(&text, ",\"format\":%u,\"node_key\":\"%s\"", FORMAT, hex);
        err = ort_buf_check(&text);
    }
    if (err == ORT_OK) {
        const uint32_t crc = ort_crc32c(0, text.data, text.len);
        ort_buf_printf(&text, TAIL "%08" PRIx32 "\"}", crc);
        err = ort_buf_check(&text);
    }
    if (err == ORT_OK) {
        err = ort_secret_file_write(dir_fd, DP_CREDENTIAL_FILE, text.data, text.len, diag);
    }
    ort_secret_wipe_buf(&text);
    return err;
}

static bool
sum_is_right(const ort_buf *text)
{
    char expected[TAIL_BYTES + 1];
    if (text->len <= TAIL_BYTES) {
        return false;
    }
    const size_t body = text->len - TAIL_BYTES;
    snprintf(expected, sizeof expected, TAIL "%08" PRIx32 "\"}", ort_crc32c(0, text->data, body));
    return memcmp(text->data + body, expected, TAIL_BYTES) == 0;
}

/* ORT_ECORRUPT without words: the caller has them. */
static ort_err
check(const ort_buf *text, const ort_sign_public *node_key, ort_diag *diag)
{
    ort_sign_public key = {{0}};
    ort_json_doc *doc = NULL;
    uint64_t format = 1;
    size_t len = 0;
    ort_err err = ort_json_parse(&doc, text->data, text->len, (ort_json_limits){0}, NULL);
    if (err != ORT_OK) {
        return err == ORT_ENOMEM ? err : ORT_ECORRUPT;
    }
    const ort_json field = ort_json_get(ort_json_root(doc), "format");
    if (ort_json_type_of(field) != ORT_JSON_NONE && ort_json_u64(field, &format) != ORT_OK) {
        err = ORT_ECORRUPT;
    } else if (format > FORMAT) {
        err = ort_fail(diag, ORT_EVERSION,
                       DP_CREDENTIAL_FILE ": format %" PRIu64 ", this program reads %u", format,
                       FORMAT);
    } else if (format > 1) {
        const char *hex = ort_json_str(ort_json_get(ort_json_root(doc), "node_key"), &len);
        err = sum_is_right(text) && hex != NULL &&
                      ort_hex_parse(hex, len, key.b, sizeof key.b) == ORT_OK
                  ? ORT_OK
                  : ORT_ECORRUPT;
        if (err == ORT_OK && node_key != NULL && memcmp(&key, node_key, sizeof key) != 0) {
            err = ort_fail(diag, ORT_ECORRUPT,
                           DP_NODE_KEY_FILE
                           " is not the key that this node joined with: restore it from a backup, "
                           "or remove it and " DP_CREDENTIAL_FILE " and join again");
        }
    } else {
        /* Format 1 had no sum; a file that is of format 2 but for the word has one. */
        err = memmem(text->data, text->len, "crc32c", 6) == NULL ? ORT_OK : ORT_ECORRUPT;
    }
    ort_json_free(doc);
    return err;
}

ort_err
dp_credential_load(int dir_fd, const ort_sign_public *node_key, ort_hello_reply *out,
                   ort_diag *diag)
{
    ort_buf text = {0};
    ort_diag why = {""};
    *out = (ort_hello_reply){0};
    ort_err err = ort_secret_file_read(dir_fd, DP_CREDENTIAL_FILE, BYTES_MAX, &text, &why);
    if (err == ORT_OK) {
        err = check(&text, node_key, &why);
    }
    if (err == ORT_OK) {
        err = ort_hello_reply_decode(text.data, text.len, out, NULL);
        if (err != ORT_OK || !out->has_pepper) {
            ort_hello_reply_fini(out);
            err = err == ORT_ENOMEM ? err : ORT_ECORRUPT;
        }
    }
    if (err == ORT_ECORRUPT && why.text[0] == '\0') {
        (void)ort_fail(&why, err, DP_CREDENTIAL_FILE " is damaged: " HOW_TO_GO_ON);
    }
    if (err != ORT_OK && diag != NULL) {
        *diag = why;
    }
    ort_secret_wipe_buf(&text);
    return err;
}
