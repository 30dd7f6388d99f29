/* control-plane/routing/push.h: every node's newest table, the tables before it, and who has which.
 *
 * A table is three sections (wire/table.h). Two of them, directory and nodes, are the same for all
 * nodes and held once; each node has its own section of tenants. Sections are immutable and share
 * what did not change, so the last PUSH_SHARED_MAX versions of the one and PUSH_OWN_MAX of each
 * other are kept (fewer where changes were large), and a node that stands at any of them gets the
 * difference; another gets the whole. Tables are put together, signed and sent only when a node
 * fetches; a change itself costs the sections it touches and one hint.
 *
 * A version is the store's version of the change; a node's table has the greatest version that
 * touched it. */
#ifndef CP_PUSH_H
#define CP_PUSH_H
#include <stdint.h>

#include "base/buf.h"
#include "base/id.h"
#include "crypto/sign.h"
#include "wire/messages.h"
#include "wire/table.h"

#define CP_PUSH_SHARED_MAX 1024u
#define CP_PUSH_OWN_MAX 64u

/* Opaque. From cp_push_new() to cp_push_free(); free(NULL) is allowed.
 * Threads: cp_push_apply() and cp_push_set_generation() by one at a time (the compiler); all
 * others by any number. Lock order: nothing is called with its lock held. */
typedef struct cp_push cp_push;

typedef struct {
    uint64_t hub_id;
    uint64_t generation;     /* >= 1 */
    const ort_sign_key *key; /* signs tables; copied */

    /* Tells nodes that there is something new; count 0 is "all". Must not wait. NULL: nobody is
     * told (heartbeats find out). */
    void (*hint)(void *arg, uint64_t generation, const ort_hint_entry *entries, size_t count);
    void *arg;
} cp_push_options;

ORT_NODISCARD ort_err cp_push_new(cp_push **out, const cp_push_options *options);
void cp_push_free(cp_push *push);
void cp_push_public(const cp_push *push, ort_sign_public *out); /* verifies its tables */

/* ---- what should be ---- */

/* A tenant as it should be from now on. Texts are canonical entry texts (compile.h), borrowed. */
typedef struct {
    ort_tenant_id id;
    ort_node_id home;      /* 0: no node holds it (then entry is NULL) */
    const char *entry;     /* for its home; NULL: no longer in any table */
    const char *directory; /* for all; NULL: nobody knows it */
    bool denial;           /* something that was allowed no longer is */
} cp_push_tenant;

typedef struct {
    ort_node_id id;
    const char *entry; /* NULL: the node has been removed; it has no table any more */
} cp_push_node;

typedef struct {
    uint64_t version; /* of the store, after the changes; greater than that of the call before, but
                         for a state put together in parts before the first node is served */
    const cp_push_node *nodes;
    size_t node_count;
    const cp_push_tenant *tenants;
    size_t tenant_count;
} cp_push_change;

/* Makes these changes the newest state, all at once, and hints the nodes they touch: those of
 * denials first. Texts equal to what is there change nothing and wake nobody. A tenant without a
 * known home is in no node's table.
 * ORT_ENOMEM, ORT_EVALIDATE (an entry too long): nothing has changed. */
ORT_NODISCARD ort_err cp_push_apply(cp_push *push, const cp_push_change *change, ort_diag *diag);

/* The store's version that tables include: that of the last apply. */
uint64_t cp_push_version(cp_push *push);

/* After a restore: versions start again under a greater generation, whole tables go out. */
void cp_push_set_generation(cp_push *push, uint64_t generation);
uint64_t cp_push_generation(cp_push *push);

/* ---- what is ---- */

/* A node says where it stands (hello, heartbeat). Wakes who waits for acks. */
void cp_push_acked(cp_push *push, ort_node_id node, const ort_table_at *applied);

/* A node refused a table. That same content is not offered to it again, with two exceptions: a
 * refused difference is followed by the whole, and a node that could not store it is asked again
 * after a pause that doubles from 1 s to 60 s. */
void cp_push_nacked(cp_push *push, ort_node_id node, uint64_t version, const char *reason,
                    const char *path);

/* Forgets a refusal: the node has started anew and may think otherwise. */
void cp_push_hello(cp_push *push, ort_node_id node);

/* The node's newest table; *fetch_out: it should fetch (differs from applied, and not refused).
 * ORT_ENOTFOUND: no such node. */
ORT_NODISCARD ort_err cp_push_newest(cp_push *push, ort_node_id node, const ort_table_at *applied,
                                     ort_table_at *newest_out, bool *fetch_out);

/* Appends the body of a fetch reply: one envelope, or nothing when the node has the newest or has
 * refused it. ORT_ENOTFOUND: no such node. ORT_ETOOBIG: the table does not fit a message; logged
 * with its bytes and its largest tenant. */
ORT_NODISCARD ort_err cp_push_fetch(cp_push *push, ort_node_id node, const ort_fetch *ask,
                                    ort_buf *body, ort_diag *diag);

typedef struct {
    ort_table_at applied;
    ort_table_at newest;
    uint64_t lag_versions;
    uint64_t lag_ms; /* age of the oldest version it lacks */
    bool has_nack;
    uint64_t nack_version;
    char nack_reason[ORT_MSG_TEXT_BYTES];
    char nack_path[128];
    uint64_t tenants;       /* in its table */
    uint64_t deny_version;  /* the newest denial in its table */
    uint64_t deny_acked_ms; /* wall time at which it had applied that; 0: not yet */
} cp_push_status;

/* ORT_ENOTFOUND: no such node. */
ORT_NODISCARD ort_err cp_push_status_of(cp_push *push, ort_node_id node, cp_push_status *out);

typedef struct {
    ort_node_id node;
    bool acked;
    int64_t at_ms;    /* wall time of its ack */
    uint64_t mono_ns; /* the same as ort_mono_ns() */
} cp_push_ack;

/* Waits until every node whose table holds the tenant, or held it in a version the node may still
 * be serving from, has applied the store's `version` (or all that concerns it up to there).
 *
 * acks_out   the caller's array of cap
 * ORT_OK        all have; ORT_ETIMEOUT: time is up; *count_out entries either way
 * ORT_ETOOBIG   more nodes than cap */
ORT_NODISCARD ort_err cp_push_wait_acked(cp_push *push, uint64_t version, ort_tenant_id tenant,
                                         uint32_t timeout_ms, cp_push_ack *acks_out, size_t cap,
                                         size_t *count_out);

/* Ends all waits at once, now and later: the process is stopping. */
void cp_push_stop_waits(cp_push *push);

typedef struct {
    uint64_t applies_total; /* changes made */
    uint64_t hints_total;
    uint64_t deltas_total; /* tables sent as a difference, and */
    uint64_t wholes_total;
    uint64_t table_bytes_total; /* envelopes, all together */
    uint64_t table_bytes_max;   /* the largest of them */
    uint64_t nacks_total;
    uint64_t oversize_total;
} cp_push_stats;

void cp_push_stats_get(cp_push *push, cp_push_stats *out);
#endif /* CP_PUSH_H */
