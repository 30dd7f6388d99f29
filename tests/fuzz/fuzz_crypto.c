/* What strangers hand to crypto/: tokens in headers, key ids in paths, signing requests of nodes
 * that want to join. A token that is taken is written the same again; a certificate that is issued
 * belongs to our CA and carries our name, whatever the request said. */
#include <stdlib.h>
#include <string.h>

#include "crypto/token.h"
#include "crypto/x509.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void
fuzz_token(const char *text, size_t len)
{
    ort_token token;
    ort_key_id id;
    char again[ORT_TOKEN_TEXT_BYTES];
    if (ort_token_parse(text, len, &token) == ORT_OK) {
        ort_token_format(&token, again);
        must(strlen(again) == len && memcmp(again, text, len) == 0);
    }
    if (ort_key_id_parse(text, len, &id) == ORT_OK) {
        ort_key_id_format(id, again);
        must(strlen(again) == len && memcmp(again, text, len) == 0);
    }
}

static void
fuzz_request(const char *text, size_t len)
{
    static char *ca, *ca_key;
    char *cert = NULL, *csr = malloc(len + 1);
    must(csr != NULL);
    memcpy(csr, text, len);
    csr[len] = '\0';
    if (ca == NULL) {
        must(ort_x509_ca_new("fuzz", 30, &ca, &ca_key, NULL) == ORT_OK);
    }
    if (ort_x509_issue(ca, ca_key, csr, "node-1.x", 30, &cert, NULL) == ORT_OK) {
        must(ort_x509_check(ca, cert, NULL, "node-1.x", NULL, NULL) == ORT_OK);
    } else {
        must(cert == NULL);
    }
    ort_pem_free(cert);
    free(csr);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char fingerprint[ORT_TOKEN_CA_BYTES];
    fuzz_token((const char *)data, size);
    fuzz_request((const char *)data, size);
    char *text = malloc(size + 1);
    must(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    (void)!ort_x509_fingerprint(text, fingerprint, NULL);
    free(text);
    return 0;
}
