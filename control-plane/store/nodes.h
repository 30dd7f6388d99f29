/* control-plane/store/nodes.h: data-plane processes, the tokens they join with, and what they last
 * said. */
#ifndef CP_NODES_H
#define CP_NODES_H
#include "crypto/hash.h"
#include "crypto/sign.h"
#include "crypto/token.h"
#include "store/store.h"

/*   (join token) ──join──► JOINING ──first heartbeat──► READY ◄──uncordon── CORDONED
 *                                                         └────cordon────────►
 *   any ──remove──► REMOVED (kept for audit; its id and key never come back) */
typedef enum {
    CP_NODE_JOINING,
    CP_NODE_READY,
    CP_NODE_CORDONED, /* serves what it has, gets no new tenants */
    CP_NODE_REMOVED,
    CP_NODE_STATE_COUNT
} cp_node_state;
const char *cp_node_state_name(cp_node_state state); /* "joining", "ready", "cordoned", "removed" */

typedef struct {
    ort_node_id id;              /* key */
    char name[CP_DISPLAY_BYTES]; /* unique among nodes not removed */
    char region[CP_SLUG_BYTES];
    char zone[CP_SLUG_BYTES];
    char endpoint[CP_URL_BYTES]; /* public data URL */
    char forward[CP_URL_BYTES];  /* NNG URL for other nodes */
    char software[CP_SOFTWARE_BYTES];
    uint64_t capacity_bytes;
    uint32_t weight; /* share of new tenants among nodes, 1 .. 10000; 100 is normal */
    cp_node_state state;
    ort_sign_public key; /* unique; who signs with it is this node */
    int64_t joined_at_ms;
    int64_t removed_at_ms; /* 0: not removed */
    uint64_t revision;
} cp_node;

ORT_NODISCARD ort_err cp_node_get(cp_tx *tx, ort_node_id id, cp_node *out, ort_diag *diag);
/* Among those not removed. */
ORT_NODISCARD ort_err cp_node_get_by_name(cp_tx *tx, const char *name, cp_node *out,
                                          ort_diag *diag);
/* Among all: a removed node's key stays known. */
ORT_NODISCARD ort_err cp_node_get_by_key(cp_tx *tx, const ort_sign_public *key, cp_node *out,
                                         ort_diag *diag);

/* Inserts or replaces. ORT_EEXISTS: another node has that name or key. ORT_ENOTFOUND: no such
 * region. */
ORT_NODISCARD ort_err cp_node_put(cp_tx *tx, cp_node *row, ort_diag *diag);

typedef ort_err (*cp_node_visit)(void *ctx, const cp_node *row);
/* By id (16 hex digits). */
ORT_NODISCARD ort_err cp_node_list(cp_tx *tx, bool with_removed, cp_page page, cp_node_visit visit,
                                   void *ctx, ort_diag *diag);

/* ---- what a node last said: an observation, neither in the op log nor part of a version ---- */

typedef struct {
    ort_node_id node;
    uint64_t incarnation;
    int64_t seen_at_ms;
    uint64_t applied_generation;
    uint64_t applied_version;
    ort_hash applied_hash;
    uint64_t used_bytes;
} cp_node_seen;

ORT_NODISCARD ort_err cp_node_seen_get(cp_tx *tx, ort_node_id node, cp_node_seen *out,
                                       ort_diag *diag);
/* In a note (or a change). A lower incarnation than the stored one is ORT_ESTALE: it belongs to a
 * process that was replaced, or to a copy of the node's directory. */
ORT_NODISCARD ort_err cp_node_seen_put(cp_tx *tx, const cp_node_seen *row, ort_diag *diag);

/* ---- join tokens ---- */

typedef struct {
    char id[ORT_TOKEN_ID_TEXT_BYTES]; /* key: the token's public half */
    ort_hash hash;
    char region[CP_SLUG_BYTES]; /* the only region it may be used in */
    char created_by[CP_ACTOR_BYTES];
    int64_t created_at_ms;
    int64_t expires_at_ms;
    int64_t revoked_at_ms; /* 0: not */
    int64_t used_at_ms;    /* 0: not yet */
    ort_node_id used_by;   /* the node it made; 0: none yet */
    bool has_key; /* bound at its first use: only this key may use it again (a lost reply) */
    ort_sign_public key;
    uint64_t revision;
} cp_join_token;

ORT_NODISCARD ort_err cp_join_token_get(cp_tx *tx, const char *id, cp_join_token *out,
                                        ort_diag *diag);
ORT_NODISCARD ort_err cp_join_token_put(cp_tx *tx, cp_join_token *row, ort_diag *diag);
/* Drops tokens that expired before that time; *count_out of them. */
ORT_NODISCARD ort_err cp_join_token_expire(cp_tx *tx, int64_t before_ms, uint64_t *count_out,
                                           ort_diag *diag);
typedef ort_err (*cp_join_token_visit)(void *ctx, const cp_join_token *row);
/* By id. */
ORT_NODISCARD ort_err cp_join_token_list(cp_tx *tx, cp_page page, cp_join_token_visit visit,
                                         void *ctx, ort_diag *diag);
#endif /* CP_NODES_H */
