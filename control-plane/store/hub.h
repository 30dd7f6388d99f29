/* control-plane/store/hub.h: who this hub is. */
#ifndef CP_HUB_H
#define CP_HUB_H
#include "crypto/hash.h"
#include "store/store.h"

typedef struct {
    uint64_t hub_id; /* random, made at the first start */
    uint64_t
        generation; /* >= 1; grows when the hub is restored from a backup or a standby takes over */
    uint64_t version; /* of the newest change this transaction sees */
    ort_hash head;    /* hash of that change's op-log record */
    int64_t created_at_ms;
    bool bootstrapped;                       /* the first operator token has been made */
    char secrets_print[ORT_HASH_TEXT_BYTES]; /* tells which secret files belong here; "" before any
                                              */
} cp_hub;

ORT_NODISCARD ort_err cp_hub_get(cp_tx *tx, cp_hub *out, ort_diag *diag);

/* generation + 1, or to at_least when that is more (nodes may have reported a higher one). */
ORT_NODISCARD ort_err cp_hub_bump_generation(cp_tx *tx, uint64_t at_least, uint64_t *out,
                                             ort_diag *diag);

ORT_NODISCARD ort_err cp_hub_set_bootstrapped(cp_tx *tx, ort_diag *diag);

/* print: 64 hex digits that say nothing about the secrets but which they are. */
ORT_NODISCARD ort_err cp_hub_set_secrets_print(cp_tx *tx, const char *print, ort_diag *diag);
#endif /* CP_HUB_H */
