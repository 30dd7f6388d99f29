/* tests/integration/hub_harness.h: a small control plane built from wire/, for tests of the node's
 * half of the push. It joins nodes, keeps a table history, answers fetches with deltas or wholes,
 * and can be told to misbehave. */
#ifndef HUB_HARNESS_H
#define HUB_HARNESS_H
#include <pthread.h>

#include "crypto/x509.h"
#include "wire/endpoint.h"
#include "wire/messages.h"

#define HUB_VERSIONS_MAX 512

typedef struct {
    /* Identity. */
    uint64_t hub_id;
    uint64_t generation;
    ort_node_id node; /* the one node that joins */
    ort_sign_key key;
    char *ca, *ca_key, *cert, *cert_key;
    unsigned char pepper[ORT_PEPPER_BYTES];
    char token[ORT_TOKEN_TEXT_BYTES];
    ort_token token_parsed;
    bool tls;

    ort_rep *join, *control;
    ort_pub *hints;
    char join_url[160], control_url[160], hint_url[160];

    pthread_mutex_t lock;                /* guards all below */
    ort_table *tables[HUB_VERSIONS_MAX]; /* by version; 0 is empty */
    uint64_t version;
    ort_sign_public node_key;
    bool node_known;
    uint64_t incarnation, sequence;
    ort_heartbeat last_beat; /* arrays not kept */
    unsigned hellos, beats, fetches, wholes, bad_signatures, nacks;
    char last_nack[ORT_MSG_TEXT_BYTES];
    uint64_t acked;

    uint32_t cert_days; /* of the certificates it issues */
    unsigned issued;

    /* Misbehaviour. */
    bool mute_hints;
    unsigned lose_fetches;   /* so many fetches get no table */
    unsigned double_fetches; /* so many fetches get each table twice */
    unsigned shuffle_seed;   /* not 0: fetches get a random old envelope before the right one */
    unsigned flip_fetches;   /* so many fetches get a table with a bit flipped */
    bool fetch_one_step;     /* deltas of one version only */
} hub;

void hub_init(hub *h, bool tls); /* makes keys and the empty table */
void hub_up(hub *h);             /* listens, on the same URLs as before */
void hub_down(hub *h);           /* stops listening */
void hub_fini(hub *h);
/* Makes body (a change, as in wire/table.h) the next version and hints it; returns that version. */
uint64_t hub_change(hub *h, const char *body);
/* The envelope from version `base` (0 = whole) to `version`, with these changes to its head. */
void hub_envelope(hub *h, uint64_t base, uint64_t version, ort_buf *out);
/* Waits until the node has acked that version; fails the test after 20 s. */
void hub_wait_acked(hub *h, uint64_t version);
#endif /* HUB_HARNESS_H */
