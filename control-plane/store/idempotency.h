/* control-plane/store/idempotency.h: answers of POSTs, kept under the key the client chose.
 *
 * The record is put inside the change it belongs to (cp_author.before_commit): either both are
 * there or none is, so a retry after a crash is done exactly once. The body is sealed by the caller
 * (tenancy/idempotency.h): the answer to "create a key" holds the key. */
#ifndef CP_IDEMPOTENCY_H
#define CP_IDEMPOTENCY_H
#include "base/buf.h"
#include "crypto/hash.h"
#include "store/store.h"

#define CP_IDEMPOTENCY_KEY_BYTES 256 /* with the NUL */
#define CP_IDEMPOTENCY_BODY_BYTES_MAX 65536

typedef struct {
    char actor[CP_ACTOR_BYTES];         /* key, first part */
    char key[CP_IDEMPOTENCY_KEY_BYTES]; /* key, second part */
    ort_hash request;                   /* of method, path and body */
    uint16_t status;
    int64_t created_at_ms;
    int64_t expires_at_ms;
} cp_idempotency;

/* ORT_ENOTFOUND: none, or expired. The stored body is appended to body_out. */
ORT_NODISCARD ort_err cp_idempotency_get(cp_tx *tx, const char *actor, const char *key,
                                         cp_idempotency *out, ort_buf *body_out, ort_diag *diag);
/* ORT_EEXISTS: there is one that has not expired (two requests at once: the second loses and is
 * answered from the first). ORT_ETOOBIG. */
ORT_NODISCARD ort_err cp_idempotency_put(cp_tx *tx, const cp_idempotency *row, const void *body,
                                         size_t body_len, ort_diag *diag);
/* A note. */
ORT_NODISCARD ort_err cp_idempotency_sweep(cp_tx *tx, int64_t now_ms, uint64_t *count_out,
                                           ort_diag *diag);
#endif /* CP_IDEMPOTENCY_H */
