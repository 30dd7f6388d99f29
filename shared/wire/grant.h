/* shared/wire/grant.h: leave to move a tenant's data, given by the control plane, checked by a node
 * without asking it.
 *
 *   "orthg1_" and hex of:
 *   offset  size  field        all integers little-endian
 *        0     1  op           ort_grant_op
 *        1     8  hub_id
 *        9     8  node_id      the only one that may act on it
 *       17     8  tenant_id
 *       25     8  from_id      clone: whose data; else 0
 *       33     8  expires_ms   wall time
 *       41     8  nonce        once: a node remembers those that have not expired
 *       49    64  Ed25519 signature (domain ORT_SIGN_GRANT) over bytes 0 .. 48
 *
 * It carries no key of a tenant and opens no other call: who holds one can do that one thing, at
 * that node, once, within minutes. */
#ifndef ORT_GRANT_H
#define ORT_GRANT_H
#include "base/id.h"
#include "crypto/sign.h"

/* Numbers leave the process: append, never change. */
typedef enum {
    ORT_GRANT_BACKUP = 1,
    ORT_GRANT_RESTORE = 2,
    ORT_GRANT_CLONE = 3,
} ort_grant_op;

#define ORT_GRANT_TTL_MS 600000 /* to begin: what is under way when it ends goes on */
#define ORT_GRANT_BYTES (49u + ORT_SIGN_BYTES)
#define ORT_GRANT_TEXT_BYTES (7u + 2u * ORT_GRANT_BYTES + 1u) /* with the NUL */

typedef struct {
    ort_grant_op op;
    uint64_t hub_id;
    ort_node_id node;
    ort_tenant_id tenant, from;
    int64_t expires_ms;
    uint64_t nonce;
} ort_grant;

void ort_grant_format(const ort_grant *grant, const ort_sign_key *key,
                      char out[ORT_GRANT_TEXT_BYTES]);

/* Any text will do. ORT_EAUTH: no grant, or not signed by that key; *out is zero then. What it is
 * for, and until when, is the caller's to look at. */
ORT_NODISCARD ort_err ort_grant_parse(const char *text, size_t len, const ort_sign_public *by,
                                      ort_grant *out);

/* "backup", "restore", "clone"; NULL: no such op. The reverse gives 0 for no such word. */
const char *ort_grant_op_name(ort_grant_op op);
ort_grant_op ort_grant_op_by_name(const char *name);
#endif /* ORT_GRANT_H */
