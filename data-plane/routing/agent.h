/* data-plane/routing/agent.h: the node's half of the push: joins, listens, verifies, keeps,
 * applies, acknowledges. Nothing of it is on the request path. */
#ifndef DP_AGENT_H
#define DP_AGENT_H
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "routing/table.h"
#include "wire/endpoint.h"
#include "wire/messages.h"

typedef struct dp_agent dp_agent;

/* Callbacks run on the agent's own thread, one at a time, and must not wait long. */
typedef struct {
    void *arg;
    /* A table has been applied and is current: both borrowed for the call. Compare, act, report:
     * tenants of new in state `deleting` (or gone from it) are to lose their data. Called once for
     * the table found on disk at start, with an empty old one. May be NULL. */
    void (*on_table)(void *arg, const dp_table *old_table, const dp_table *new_table);
    /* Fills load, usage, gone and key_used of a beat (arrays from malloc: the agent frees them).
     * May be NULL. */
    void (*collect)(void *arg, ort_heartbeat *beat);
} dp_agent_owner;

typedef struct {
    int dir_fd; /* the node's own directory, 0700: credential, table, watermark; borrowed */
    const char *join_url;    /* join listener of the control plane; needed until joined */
    const char *join_token;  /* orthjoin_...; needed until joined; may be NULL after */
    const char *control_url; /* NULL: as the control plane said at the join */
    const char *hint_url;    /* likewise */
    bool plain_ok;           /* plain ipc, inproc or loopback tcp URLs may be used: no TLS then */
    const char *name;
    const char *region;
    const char *zone;
    const char *endpoint;
    const char *forward_url; /* "" = takes no forwards */
    const char *software;
    uint64_t capacity_bytes;
    uint32_t beat_ms; /* 0 = 1000 */
    dp_agent_owner owner;
} dp_agent_options;

/* Loads credential and table from disk, sets routes to that table, and starts the loop. Works
 * without a control plane: the node then serves what it has. Not joined yet: dials join_url until
 * it is.
 *
 * ORT_ECORRUPT  credential damaged: needs an operator. A damaged table, or one older than
 *               the watermark, is not an error: it is logged, not served, and fetched again.
 * ORT_EINVAL    neither a credential nor join_url and join_token; options out of bounds
 * ORT_EIO, ORT_ENOMEM, ORT_EBUSY  *out is NULL */
ORT_NODISCARD ort_err dp_agent_start(dp_agent **out, dp_routes *routes,
                                     const dp_agent_options *options, ort_diag *diag);
void dp_agent_stop(dp_agent *agent); /* joins the threads, frees; routes keep their table */

/* Makes a beat go out at once (for instance when a tenant's data is gone). */
void dp_agent_poke(dp_agent *agent);

/* Why a table was refused: the words of the metric's label and of the nack. */
#define DP_REFUSED_TABLE(X)                                                             \
    X(DP_REFUSED_MALFORMED, "malformed") /* no envelope, does not unpack or parse */    \
    X(DP_REFUSED_SIGNATURE, "signature") /* a bit flipped, or another signer */         \
    X(DP_REFUSED_HUB, "hub")                                                            \
    X(DP_REFUSED_NODE, "node")                                                          \
    X(DP_REFUSED_OLDER, "older")     /* below what was applied: a replay */             \
    X(DP_REFUSED_SPLIT, "split")     /* same version, other hash: two control planes */ \
    X(DP_REFUSED_BASE, "base")       /* a change of something we do not have */         \
    X(DP_REFUSED_HASH, "hash")       /* applied, it is not what it said it would be */  \
    X(DP_REFUSED_INVALID, "invalid") /* an entry means nothing */                       \
    X(DP_REFUSED_STORAGE, "storage") /* could not be kept */

typedef enum {
#define X(name, word) name,
    DP_REFUSED_TABLE(X)
#undef X
        DP_REFUSED_KINDS
} dp_refused;

const char *dp_refused_word(dp_refused why);

/* Plain numbers for the metrics of the node's main. */
typedef struct {
    bool joined;
    bool split;       /* alarm: same version with another hash; applying has stopped */
    ort_node_id node; /* 0 until joined */
    uint64_t hub_id;
    ort_table_at applied;
    ort_table_at newest;   /* as last heard */
    uint64_t lag_versions; /* newest - applied */
    int64_t age_ms; /* since the control plane last confirmed that applied is newest, or since
                     * the table was issued when it never did; -1: no table */
    uint64_t applied_total;
    uint64_t duplicate_total; /* offered again, and rightly ignored */
    uint64_t refused_total[DP_REFUSED_KINDS];
    uint64_t beats_total;
    uint64_t beat_failures_total;
    uint64_t fetches_total;
    uint64_t hints_total;
    bool control_reachable; /* the last beat was answered */
} dp_agent_stats;

void dp_agent_stats_get(dp_agent *agent, dp_agent_stats *out);

/* Which hub this node belongs to, and whose signature is its: for grants. ORT_EBUSY: not joined. */
typedef struct {
    uint64_t hub_id;
    ort_node_id node;
    ort_sign_public control_key;
} dp_agent_hub;
ORT_NODISCARD ort_err dp_agent_hub_get(dp_agent *agent, dp_agent_hub *out);

/* TLS for the forward listener and client, once joined (PEMs borrowed from the agent while it
 * runs). ORT_EBUSY: not joined yet. */
ORT_NODISCARD ort_err dp_agent_tls(dp_agent *agent, ort_tls *out);

/* Offers a table from anywhere as if it had been fetched, on the caller's thread (owner callbacks
 * too); for tests and tools. ORT_EBUSY: not joined yet.
 * ORT_OK: applied, or a duplicate. Else refused, counted, and *why_out (may be NULL) says why. */
ORT_NODISCARD ort_err dp_agent_offer(dp_agent *agent, const void *envelope, size_t n,
                                     dp_refused *why_out, ort_diag *diag);
#endif /* DP_AGENT_H */
