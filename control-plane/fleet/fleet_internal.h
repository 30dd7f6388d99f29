/* control-plane/fleet/fleet_internal.h: what the files of the fleet share. */
#ifndef CP_FLEET_INTERNAL_H
#define CP_FLEET_INTERNAL_H
#include <pthread.h>

#include "base/log.h"
#include "base/map.h"
#include "fleet/fleet.h"
#include "store/usage.h"
#include "wire/endpoint.h"

extern const ort_log cp_fleet__log;

/* Requests of one node may pass each other on the way (a fetch and a heartbeat on two contexts):
 * one that is this far behind the newest is a replay. */
#define FLEET_SEQUENCE_WINDOW 64u

typedef struct {
    ort_node_id id;
    ort_sign_public key;
    bool is_removed;
    bool is_ready; /* its row says READY or CORDONED */
    uint64_t incarnation;
    uint64_t sequence; /* the highest of that incarnation */
    uint64_t seen_ns;  /* ort_mono_ns() of its last word; 0: never */
    int64_t seen_at_ms;
    cp_health shown; /* as last logged */
    ort_table_at applied;
    uint64_t nack_version; /* as last logged */
    cp_fleet_status load;  /* its load members only */

    /* Waiting for the monitor to hand it to the store. */
    bool seen_dirty;
    bool ready_due;
    ort_map *usage;    /* tenant id → cp_usage_report * (heap), of this incarnation */
    ort_map *key_used; /* key id text → int64_t * (heap) */
    ort_map *gone;     /* tenant id → (void *)1 */
} fleet_node;

struct cp_fleet {
    cp_fleet_options options;
    cp_fleet_listen_options listen;
    char *cert_pem;
    char *key_pem; /* of cert_pem; never leaves memory */
    ort_rep *join;
    ort_rep *control;
    ort_pub *hints;
    pthread_t monitor;
    bool monitoring;
    char announce_control[ORT_MSG_URL_BYTES];
    char announce_hint[ORT_MSG_URL_BYTES];

    pthread_mutex_t mutex; /* guards the rest */
    pthread_cond_t wake;   /* the monitor's */
    bool stopping;
    bool poked;     /* look for tenants without a home */
    bool work_due;  /* ready_due or gone somewhere */
    ort_map *nodes; /* ort_node_id.v → fleet_node */
    cp_fleet_stats stats;
    uint64_t generation_asked; /* a node had that one (or a newer version of ours): restored */
};

fleet_node *cp_fleet__find(cp_fleet *fleet, ort_node_id id); /* lock held */
/* Makes it when it is not there. Lock held. NULL: no memory. */
fleet_node *cp_fleet__take_in(cp_fleet *fleet, ort_node_id id, const ort_sign_public *key);
cp_health cp_fleet__health(const cp_fleet *fleet, const fleet_node *node); /* lock held */

/* Whether (incarnation, sequence) of a verified frame may act for the node. Lock held.
 *   FLEET_NEW     go on, it is the newest word
 *   FLEET_AGAIN   a resend, or passed on the way by a newer one: answer, but take nothing in
 *   FLEET_HELLO   of an incarnation that has not said hello
 *   FLEET_FENCED  of an incarnation that was replaced, or a replay */
typedef enum { FLEET_NEW, FLEET_AGAIN, FLEET_HELLO, FLEET_FENCED } fleet_word;
fleet_word cp_fleet__word(fleet_node *node, const ort_frame *frame);

/* Appends a reply frame. */
ort_err cp_fleet__reply(ort_msg_type type, const ort_frame *to, ort_node_id node,
                        const ort_buf *body, ort_buf *reply);
/* The same for a failure, counted and logged. */
void cp_fleet__refuse(cp_fleet *fleet, const ort_frame *to, ort_err err, const ort_diag *diag,
                      ort_buf *reply);

void cp_fleet__hello(cp_fleet *fleet, bool is_join, const void *request, size_t n,
                     const ort_frame *frame, ort_buf *reply);
void cp_fleet__heartbeat(cp_fleet *fleet, const ort_frame *frame, ort_buf *reply);
void cp_fleet__fetch(cp_fleet *fleet, const ort_frame *frame, ort_buf *reply);

/* A verified node has a table that we never made: the store came from a backup. Lock held. */
void cp_fleet__check_restored(cp_fleet *fleet, ort_node_id node, const ort_table_at *applied);

void *cp_fleet__monitor(void *fleet);
void cp_fleet__flush(cp_fleet *fleet); /* usage, last seen, last used → store */
#endif                                 /* CP_FLEET_INTERNAL_H */
