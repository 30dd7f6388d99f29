/* control-plane/tenancy/idempotency.h: one POST, done once, however often it is sent.
 *
 *   1. before anything:  cp_replay_find() with the client's key: an answer? send it again, done
 *   2. in the change:    cp_author.before_commit calls cp_replay_keep() with the answer
 *   3. ORT_EEXISTS from the change (the same request is being done by another thread): back to 1
 *
 * Answers are kept for CP_REPLAY_HOURS, sealed (XChaCha20-Poly1305, bound to actor and key): the
 * answer to "create a key" holds the key, and the database must not. */
#ifndef CP_REPLAY_H
#define CP_REPLAY_H
#include "base/buf.h"
#include "store/idempotency.h"
#include "tenancy/tenancy.h"

#define CP_REPLAY_HOURS 24

typedef struct {
    const char *actor;
    const char *key; /* from the client: 1 .. 255 printable ASCII characters */
    const char *method;
    const char *path; /* with the query */
    const void *body;
    size_t body_len;
} cp_replay_ask;

/* ORT_OK: *status_out and body_out are the answer (the caller wipes it). ORT_ENOTFOUND: do it.
 * ORT_ECONFLICT: the key was used for another request. ORT_EVALIDATE: not a key. */
ORT_NODISCARD ort_err cp_replay_find(cp_tenancy *tenancy, const cp_replay_ask *ask,
                                     uint16_t *status_out, ort_buf *body_out, ort_diag *diag);

/* ORT_EEXISTS: kept already. ORT_ETOOBIG: over CP_IDEMPOTENCY_BODY_BYTES_MAX. */
ORT_NODISCARD ort_err cp_replay_keep(cp_tenancy *tenancy, cp_tx *tx, const cp_replay_ask *ask,
                                     uint16_t status, const void *body, size_t body_len,
                                     ort_diag *diag);
#endif /* CP_REPLAY_H */
