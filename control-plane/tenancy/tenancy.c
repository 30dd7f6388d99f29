/* What all rules share: texts, revisions, the end of a change. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/sealed.h"
#include "store/idempotency.h"
#include "tenancy/tenancy_internal.h"

const cp_author cp_author_system = {.actor = "system"};

/* A sealed word that only these secrets open, kept in the database under a key of the hub's own. */
#define PAIR_ACTOR "system"
#define PAIR_KEY "secrets-of-this-database"
#define PAIR_WORD "orthant-pair-1"
#define FOR_EVER INT64_C(253402300799000) /* the end of year 9999 */

static void
pair_key(const cp_secrets *secrets, ort_hash *out)
{
    ort_hasher h;
    ort_hasher_init_keyed(&h, secrets->pepper);
    ort_hasher_put(&h, secrets->seal, sizeof secrets->seal);
    ort_hasher_put(&h, &secrets->signing.public, sizeof secrets->signing.public);
    ort_hasher_done(&h, out);
}

static ort_err
write_pair(cp_tenancy *tenancy, const ort_hash *key, ort_diag *diag)
{
    cp_tx *tx;
    ort_buf sealed = {0};
    cp_idempotency row = {.actor = PAIR_ACTOR, .key = PAIR_KEY, .expires_at_ms = FOR_EVER};
    ort_err err =
        ort_seal(key->b, PAIR_KEY, strlen(PAIR_KEY), PAIR_WORD, strlen(PAIR_WORD), &sealed);
    if (err == ORT_OK) {
        err = cp_store_begin_note(tenancy->o.store, &tx, diag);
    }
    if (err == ORT_OK) {
        row.created_at_ms = cp_tx_now_ms(tx);
        err = cp_idempotency_put(tx, &row, sealed.data, sealed.len, diag);
        err = cp_tenancy__end(tx, err, NULL, NULL, diag);
    }
    ort_buf_fini(&sealed);
    return err;
}

/* Whether database and secrets belong together; a new database is tied to them. */
static ort_err
check_pair(cp_tenancy *tenancy, ort_diag *diag)
{
    cp_tx *tx;
    cp_idempotency row;
    ort_hash key;
    ort_buf sealed = {0}, word = {0};
    pair_key(tenancy->o.secrets, &key);
    ort_err err = cp_store_begin_read(tenancy->o.store, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_idempotency_get(tx, PAIR_ACTOR, PAIR_KEY, &row, &sealed, diag);
    cp_tx_end(tx);
    if (err == ORT_ENOTFOUND) {
        err = write_pair(tenancy, &key, diag);
    } else if (err == ORT_OK) {
        err = ort_unseal(key.b, PAIR_KEY, strlen(PAIR_KEY), sealed.data, sealed.len, &word);
        if (err == ORT_ECORRUPT) {
            err = ort_fail(diag, err,
                           "the files of secrets/ are not those this database was made with");
        }
    }
    ort_secret_wipe(&key, sizeof key);
    ort_buf_fini(&sealed);
    ort_buf_fini(&word);
    return err;
}

ort_err
cp_tenancy_new(cp_tenancy **out, const cp_tenancy_options *options, ort_diag *diag)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    (*out)->o = *options;
    const ort_err err = check_pair(*out, diag);
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
