/* control-plane/tenancy/node.h: rules for nodes: joining, cordoning, removing. Errors: tenancy.h.
 */
#ifndef CP_NODE_H
#define CP_NODE_H
#include "store/nodes.h"
#include "tenancy/tenancy.h"

#define CP_NODES_MAX 4096
#define CP_JOIN_TTL_S_DEFAULT 3600u
#define CP_JOIN_TTL_S_MAX 604800u

/* A token for one node, in one region. token_out is shown once; the caller wipes it.
 * Op node.token. */
ORT_NODISCARD ort_err cp_join_token_create(cp_tenancy *tenancy, const cp_author *author,
                                           const char *region, uint32_t ttl_s,
                                           char token_out[ORT_TOKEN_TEXT_BYTES], cp_join_token *out,
                                           uint64_t *version_out, ort_diag *diag);
/* Revoking twice is fine. Op node.token-revoke. */
ORT_NODISCARD ort_err cp_join_token_revoke(cp_tenancy *tenancy, const cp_author *author,
                                           const char *id, uint64_t *version_out, ort_diag *diag);

/* What a node says of itself, from outside: all of it is checked here. */
typedef struct {
    const char *name;
    const char *region;
    const char *zone;     /* "" = "default" */
    const char *endpoint; /* http:// or https:// */
    const char *forward;  /* NNG URL */
    const char *software;
    uint64_t capacity_bytes;
    ort_sign_public key;
} cp_node_facts;

/* Makes a node of who holds the token and the key (the caller has verified the hello's signature by
 * facts->key). The token is used up and bound to the key in the same change; the same token with
 * the same key again gives the same node (the reply was lost), with another key ORT_EAUTH.
 *
 * ORT_EAUTH      no such token, or used, revoked, expired: one message for all
 * ORT_EREGION    the token is for another region
 * ORT_EEXISTS    a node of that name or key is there
 * Op node.join, author "node:<id>". The node is JOINING. */
ORT_NODISCARD ort_err cp_node_join(cp_tenancy *tenancy, const char *token, size_t token_len,
                                   const cp_node_facts *facts, cp_node *out, uint64_t *version_out,
                                   ort_diag *diag);

/* A known node says hello (the caller has verified its signature by the key on record): takes in
 * changed addresses, zone, software and capacity; name and region must be those of its join.
 * ORT_EDENIED: it was removed. ORT_EREGION: it says another region. Op node.hello, when anything
 * has changed. */
ORT_NODISCARD ort_err cp_node_hello(cp_tenancy *tenancy, ort_node_id id, const cp_node_facts *facts,
                                    cp_node *out, uint64_t *version_out, ort_diag *diag);

/* Its first heartbeat came: JOINING becomes READY; any other state stays. Op node.ready. */
ORT_NODISCARD ort_err cp_node_ready(cp_tenancy *tenancy, ort_node_id id, uint64_t *version_out,
                                    ort_diag *diag);

/* Takes no more new tenants; what it holds stays. Twice is fine. Ops node.cordon, node.uncordon. */
ORT_NODISCARD ort_err cp_node_cordon(cp_tenancy *tenancy, const cp_author *author, ort_node_id id,
                                     bool cordoned, cp_node *out, uint64_t *version_out,
                                     ort_diag *diag);

/* 1 .. 10000. Op node.weight. Placed tenants stay where they are. */
ORT_NODISCARD ort_err cp_node_set_weight(cp_tenancy *tenancy, const cp_author *author,
                                         ort_node_id id, uint32_t weight, cp_node *out,
                                         uint64_t *version_out, ort_diag *diag);

/* Takes the node out of the hub for good: it is denied from then on. ORT_ECONFLICT while tenants
 * are placed on it, unless lose_data: then they are placed anew, EMPTY, on other nodes (for a node
 * that is lost anyway; ORT_ECONFLICT when there is none to take one of them). Op node.remove, a
 * denial. */
ORT_NODISCARD ort_err cp_node_remove(cp_tenancy *tenancy, const cp_author *author, ort_node_id id,
                                     bool lose_data, uint64_t *version_out, ort_diag *diag);
#endif /* CP_NODE_H */
