/* Answers of POSTs, kept sealed. */
#include "tenancy/idempotency.h"

#include <string.h>

#include "crypto/sealed.h"
#include "tenancy/tenancy_internal.h"

/* What the answer is bound to: it opens for this actor and key alone. */
static ort_err
bound_to(const cp_replay_ask *ask, ort_buf *out)
{
    ort_buf_printf(out, "orthant-replay-1 %zu %s %s", strlen(ask->actor), ask->actor, ask->key);
    return ort_buf_check(out);
}

static void
request_hash(const cp_replay_ask *ask, ort_hash *out)
{
    ort_hasher h;
    const char *const texts[] = {ask->method, ask->path};
    ort_hasher_init(&h);
    for (size_t i = 0; i < 2; i++) {
        unsigned char len[8];
        ort_put_u64(len, strlen(texts[i]));
        ort_hasher_put(&h, len, sizeof len);
        ort_hasher_put(&h, texts[i], strlen(texts[i]));
    }
    ort_hasher_put(&h, ask->body, ask->body_len);
    ort_hasher_done(&h, out);
}

static ort_err
check_key(const char *key, ort_diag *diag)
{
    const size_t len = strlen(key);
    bool fine = len > 0 && len < CP_IDEMPOTENCY_KEY_BYTES;
    for (size_t i = 0; fine && i < len; i++) {
        fine = key[i] > 0x20 && key[i] < 0x7f;
    }
    return fine ? ORT_OK
                : ort_fail(diag, ORT_EVALIDATE,
                           "Idempotency-Key must be 1 to %d printable ASCII characters",
                           CP_IDEMPOTENCY_KEY_BYTES - 1);
}

ort_err
cp_replay_find(cp_tenancy *tenancy, const cp_replay_ask *ask, uint16_t *status_out,
               ort_buf *body_out, ort_diag *diag)
{
    cp_tx *tx;
    cp_idempotency row;
    ort_hash request;
    ort_buf sealed = {0}, bound = {0};
    ort_err err = check_key(ask->key, diag);
    if (err != ORT_OK || (err = cp_store_begin_read(tenancy->o.store, &tx, diag)) != ORT_OK) {
        return err;
    }
    err = cp_idempotency_get(tx, ask->actor, ask->key, &row, &sealed, diag);
    cp_tx_end(tx);
    if (err == ORT_OK) {
        request_hash(ask, &request);
        if (!ort_hash_equal(&request, &row.request)) {
            err = ort_fail(diag, ORT_ECONFLICT,
                           "the Idempotency-Key was used for another request in the last %d hours",
                           CP_REPLAY_HOURS);
        }
    }
    if (err == ORT_OK) {
        err = bound_to(ask, &bound);
    }
    if (err == ORT_OK) {
        *status_out = row.status;
        err = ort_unseal(tenancy->o.secrets->seal, bound.data, bound.len, sealed.data, sealed.len,
                         body_out);
        if (err == ORT_ECORRUPT) {
            err = ort_fail(diag, ORT_ECORRUPT, "the kept answer cannot be opened");
        }
    }
    ort_buf_fini(&sealed);
    ort_buf_fini(&bound);
    return err;
}

ort_err
cp_replay_keep(cp_tenancy *tenancy, cp_tx *tx, const cp_replay_ask *ask, uint16_t status,
               const void *body, size_t body_len, ort_diag *diag)
{
    ort_buf sealed = {0}, bound = {0};
    cp_idempotency row = {.status = status, .created_at_ms = cp_tx_now_ms(tx)};
    ort_err err = check_key(ask->key, diag);
    if (err == ORT_OK) {
        err = bound_to(ask, &bound);
    }
    if (err == ORT_OK) {
        err = ort_seal(tenancy->o.secrets->seal, bound.data, bound.len, body, body_len, &sealed);
    }
    if (err == ORT_OK) {
        row.expires_at_ms = row.created_at_ms + CP_REPLAY_HOURS * INT64_C(3600000);
        cp_tenancy__copy(row.actor, sizeof row.actor, ask->actor);
        cp_tenancy__copy(row.key, sizeof row.key, ask->key);
        request_hash(ask, &row.request);
        err = cp_idempotency_put(tx, &row, sealed.data, sealed.len, diag);
    }
    ort_buf_fini(&sealed);
    ort_buf_fini(&bound);
    return err;
}
