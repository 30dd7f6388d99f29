/* control-plane/fleet/fleet.h: the nodes as they are: who joins, who is alive, what they report.
 *
 *     join token ──hello──► JOINING ──first heartbeat──► READY           (rows: store/nodes.h)
 *     heard of ──► UP ──3 s silence──► SUSPECT ──10 s──► DEAD            (health: here, in memory)
 *                   ◄───────────── heartbeat ─────────────
 *
 * Health decides only where NEW tenants go. Placed tenants stay: a node that was not heard for a
 * while still serves them from the table it has.
 *
 * A node says who it is by signing its messages; TLS says that it belongs to the hub. One process
 * may speak for a node at a time: the one with the highest incarnation, the others are refused. */
#ifndef CP_FLEET_H
#define CP_FLEET_H
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "routing/push.h"
#include "store/store.h"
#include "tenancy/tenancy.h"
#include "wire/messages.h"

/* Opaque. From cp_fleet_new() to cp_fleet_free(). Threads: any. Lock order: that of the fleet,
 * then that of push; the store is never used with either held. */
typedef struct cp_fleet cp_fleet;

typedef enum {
    CP_HEALTH_NEVER, /* not heard of since this process started */
    CP_HEALTH_UP,
    CP_HEALTH_SUSPECT,
    CP_HEALTH_DEAD,
    CP_HEALTH_COUNT
} cp_health;
const char *cp_health_name(cp_health health); /* "never", "up", "suspect", "dead" */

typedef struct {
    cp_store *store;     /* borrowed */
    uint32_t suspect_ms; /* 0 = 3000 */
    uint32_t dead_ms;    /* 0 = 10000 */
} cp_fleet_options;

/* Reads the nodes there are. What the store says of a failure; *out is NULL. */
ORT_NODISCARD ort_err cp_fleet_new(cp_fleet **out, const cp_fleet_options *options, ort_diag *diag);
void cp_fleet_free(cp_fleet *fleet); /* after cp_fleet_stop(); NULL is fine */

/* What listening needs; all borrowed until cp_fleet_stop(). */
typedef struct {
    cp_tenancy *tenancy;
    cp_push *push;
    const cp_secrets *secrets;
    uint64_t hub_id;
    const char *join_url;    /* first contact: TLS, but without a client's certificate */
    const char *control_url; /* hello, heartbeat, fetch: both sides show certificates */
    const char *hint_url;    /* pub/sub */
    /* What nodes are told to dial; NULL or "" = the URLs above, with the ports that were chosen,
     * unless they listen on every address (then nodes dial what they are configured with). */
    const char *announce_control_url;
    const char *announce_hint_url;
    bool plain_ok;     /* plain ipc, inproc and loopback tcp URLs are taken */
    uint32_t flush_ms; /* usage and last-seen go to the store this often; 0 = 2000 */
    uint32_t threads;  /* of the control listener; 0 = 4 */
    uint32_t contexts; /* requests inside at once; 0 = 512 */
} cp_fleet_listen_options;

/* Makes this process's certificate, listens, and starts the monitor. ORT_EVALIDATE, ORT_EIO: a URL
 * is no good, or taken. What is open is closed by cp_fleet_stop(), also after a failure. */
ORT_NODISCARD ort_err cp_fleet_listen(cp_fleet *fleet, const cp_fleet_listen_options *options,
                                      ort_diag *diag);
/* Stops listening, ends the monitor, hands the last usage to the store. Twice is fine. */
void cp_fleet_stop(cp_fleet *fleet);

/* The URLs with the ports that were chosen; "" when not listening. Borrowed while listening. */
const char *cp_fleet_peek_join_url(cp_fleet *fleet);
const char *cp_fleet_peek_control_url(cp_fleet *fleet);
const char *cp_fleet_peek_hint_url(cp_fleet *fleet);

/* For cp_tenancy_options and cp_push_options; ctx and arg are the fleet. */
bool cp_fleet_is_healthy(void *ctx, ort_node_id node);
void cp_fleet_hint(void *arg, uint64_t generation, const ort_hint_entry *entries, size_t count);

/* Something happened that may give a home to tenants that have none (a node was uncordoned). */
void cp_fleet_poke(cp_fleet *fleet);

/* The node was removed from the hub: nothing it says counts from now on. */
void cp_fleet_remove(cp_fleet *fleet, ort_node_id node);

/* Answers a request as the listeners do. is_join: as the first-contact listener, which takes
 * nothing but ORT_MSG_CA and hellos. For tests and fuzzing. */
void cp_fleet_answer(cp_fleet *fleet, bool is_join, const void *request, size_t n, ort_buf *reply);

typedef struct {
    cp_health health;
    uint64_t incarnation;
    int64_t seen_at_ms; /* 0: never, also before this process */
    uint64_t used_bytes;
    bool has_load;
    double cpu_ratio, memory_ratio;
    uint64_t disk_used_bytes, disk_total_bytes, queue_depth;
} cp_fleet_status;

/* A node it does not know: zeroes. */
void cp_fleet_status_of(cp_fleet *fleet, ort_node_id node, cp_fleet_status *out);

typedef struct {
    uint64_t nodes[CP_HEALTH_COUNT];
    uint64_t joins_total;
    uint64_t hellos_total;
    uint64_t heartbeats_total;
    uint64_t fetches_total;
    uint64_t refused_total; /* bad frames, signatures, tokens, incarnations */
    uint64_t fenced_total;  /* of those: an older incarnation */
    uint64_t hints_total;
    uint64_t usage_failures_total; /* flushes the store did not take; tried again */
} cp_fleet_stats;

void cp_fleet_stats_get(cp_fleet *fleet, cp_fleet_stats *out);
#endif /* CP_FLEET_H */
