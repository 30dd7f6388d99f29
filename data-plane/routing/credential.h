/* data-plane/routing/credential.h: what a node keeps of its joining, in `node/credential`. */
#ifndef DP_CREDENTIAL_H
#define DP_CREDENTIAL_H
#include "base/err.h"
#include "wire/messages.h"

#define DP_CREDENTIAL_FILE "credential"
#define DP_NODE_KEY_FILE "node.key"

/* Replaces the file, readable by its owner alone. node_key is the one that the node joined with. */
ORT_NODISCARD ort_err dp_credential_save(int dir_fd, const ort_hello_reply *mine,
                                         const ort_sign_public *node_key, ort_diag *diag);

/* Reads it back; *out is for ort_hello_reply_fini(), and empty on failure.
 *
 * node_key  of node.key, held against the one in the file; NULL: not compared
 *
 * ORT_ENOTFOUND  this node never joined. ORT_EDENIED: others can read it. ORT_ECORRUPT: damaged, or
 *                node.key is another one. ORT_EVERSION: a newer program wrote it */
ORT_NODISCARD ort_err dp_credential_load(int dir_fd, const ort_sign_public *node_key,
                                         ort_hello_reply *out, ort_diag *diag);
#endif /* DP_CREDENTIAL_H */
