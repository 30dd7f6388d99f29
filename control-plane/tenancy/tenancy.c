/* What all rules share: texts, revisions, the end of a change. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/hash.h"
#include "store/hub.h"
#include "tenancy/tenancy_internal.h"

const cp_author cp_author_system = {.actor = "system"};

/* What tells these secrets from others and nothing about them: keyed with the pepper, so that only
 * who has it can compute or test it. */
static void
print_of(const cp_secrets *secrets, char out[ORT_HASH_TEXT_BYTES])
{
    static const char word[] = "orthant-secrets-1";
    ort_hasher h;
    ort_hash print;
    ort_hasher_init_keyed(&h, secrets->pepper);
    ort_hasher_put(&h, word, sizeof word);
    ort_hasher_put(&h, secrets->seal, sizeof secrets->seal);
    ort_hasher_put(&h, secrets->signing.public.b, sizeof secrets->signing.public.b);
    ort_hasher_put(&h, secrets->ca_print, sizeof secrets->ca_print);
    ort_hasher_done(&h, &print);
    ort_hash_format(&print, out);
}

/* Whether database and secrets belong together; a new database is tied to them. */
static ort_err
check_secrets(cp_tenancy *tenancy, ort_diag *diag)
{
    cp_tx *tx;
    cp_hub hub;
    char print[ORT_HASH_TEXT_BYTES];
    ort_err err = cp_store_begin(tenancy->o.store, &cp_author_system, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    print_of(tenancy->o.secrets, print);
    err = cp_hub_get(tx, &hub, diag);
    if (err == ORT_OK && hub.secrets_print[0] == '\0') {
        err = cp_hub_set_secrets_print(tx, print, diag);
    } else if (err == ORT_OK && strcmp(hub.secrets_print, print) != 0) {
        err = ort_fail(diag, ORT_ECORRUPT,
                       "the files of secrets/ are not those this database was made with");
    }
    return cp_tenancy__end(tx, err, &(cp_change){.op = "hub.secrets"}, NULL, diag);
}

ort_err
cp_tenancy_new(cp_tenancy **out, const cp_tenancy_options *options, ort_diag *diag)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    (*out)->o = *options;
    const ort_err err = check_secrets(*out, diag);
    if (err != ORT_OK) {
        cp_tenancy_free(*out);
        *out = NULL;
    }
    return err;
}

void
cp_tenancy_free(cp_tenancy *tenancy)
{
    free(tenancy);
}

ort_err
cp_tenancy__end(cp_tx *tx, ort_err err, const cp_change *change, uint64_t *version_out,
                ort_diag *diag)
{
    if (err != ORT_OK) {
        cp_tx_end(tx);
        return err;
    }
    return cp_tx_commit(tx, change, version_out, diag);
}

ort_err
cp_tenancy__revision(const char *what, const uint64_t *expected, uint64_t revision, ort_diag *diag)
{
    if (expected == NULL || *expected == revision) {
        return ORT_OK;
    }
    return ort_fail(diag, ORT_ESTALE, "the %s has changed: its revision is %llu, not %llu", what,
                    (unsigned long long)revision, (unsigned long long)*expected);
}

ort_err
cp_tenancy__limits(const cp_limits *limits, ort_diag *diag)
{
    for (int i = 0; i < CP_LIMIT_COUNT; i++) {
        if (limits->v[i] > CP_LIMIT_VALUE_MAX && limits->v[i] != CP_UNLIMITED) {
            return ort_fail(diag, ORT_EVALIDATE, "%s: %llu is over %llu",
                            cp_limit_name((cp_limit)i), (unsigned long long)limits->v[i],
                            (unsigned long long)CP_LIMIT_VALUE_MAX);
        }
    }
    return ORT_OK;
}

void
cp_tenancy__copy(char *out, size_t cap, const char *text)
{
    snprintf(out, cap, "%s", text);
}

ort_err
cp_check_slug(const char *what, const char *text, ort_diag *diag)
{
    const size_t len = strlen(text);
    if (len == 0 || len >= CP_SLUG_BYTES ||
        strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != len) {
        return ort_fail(diag, ORT_EVALIDATE,
                        "%s \"%.80s\" must be 1 to %d of the characters a-z, 0-9 and -", what, text,
                        CP_SLUG_BYTES - 1);
    }
    return ORT_OK;
}

ort_err
cp_check_display(const char *what, const char *text, ort_diag *diag)
{
    const size_t len = strlen(text);
    if (len >= CP_DISPLAY_BYTES) {
        return ort_fail(diag, ORT_EVALIDATE, "%s has %zu bytes, at most %d are taken", what, len,
                        CP_DISPLAY_BYTES - 1);
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return ort_fail(diag, ORT_EVALIDATE, "%s holds a control character", what);
        }
    }
    return ORT_OK;
}

ort_err
cp_check_glob(const char *text, size_t len, ort_diag *diag)
{
    static const char banned[] = "<>:\"/\\|";
    if (len == 0 || len > 255) {
        return ort_fail(diag, ORT_EVALIDATE, "a collection pattern has 1 to 255 bytes, not %zu",
                        len);
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || strchr(banned, text[i]) != NULL) {
            return ort_fail(diag, ORT_EVALIDATE, "a collection pattern cannot hold the byte 0x%02x",
                            (unsigned char)text[i]);
        }
    }
    return ORT_OK;
}
