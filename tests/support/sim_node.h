/* tests/support/sim_node.h: a data node as the control plane sees one: it joins, beats, fetches,
 * verifies and applies, over real sockets, and holds no data. Calls do what they say once; when and
 * how often is the test's. */
#ifndef ORT_TEST_SIM_NODE_H
#define ORT_TEST_SIM_NODE_H
#include "crypto/sign.h"
#include "wire/endpoint.h"
#include "wire/messages.h"
#include "wire/table.h"

typedef struct {
    const char *name;
    const char *region;
    ort_node_id id; /* 0 until joined */
    ort_sign_key key;
    ort_sign_public control_key;
    uint64_t hub_id;
    uint64_t incarnation;
    uint64_t sequence;
    char *ca_pem;
    char *cert_pem;
    char *key_pem; /* of cert_pem */
    unsigned char pepper[ORT_PEPPER_BYTES];
    char control_url[ORT_MSG_URL_BYTES];
    char hint_url[ORT_MSG_URL_BYTES];
    ort_req *req;
    ort_sub *sub;
    ort_table *table;
    ort_table_at at;
    ort_table_at newest; /* as last told */
    unsigned wholes;
    unsigned deltas;
    /* What the next beats carry; borrowed. */
    ort_usage *usage;
    size_t usage_count;
    ort_tenant_id *gone;
    size_t gone_count;
    ort_key_used *key_used;
    size_t key_used_count;
    const char *nack_reason; /* NULL: none */
    uint64_t nack_version;
} sim_node;

void sim_node_init(sim_node *n, const char *name, const char *region);
void sim_node_fini(sim_node *n);

/* Joins as a real node does: reads the CA unverified, compares it with the token, then joins over
 * verified TLS, and connects. The error of the hub's refusal. */
ort_err sim_node_join(sim_node *n, const char *join_url, const char *token);

/* Says hello again, as a process that has just started (a greater incarnation) when restarted. */
ort_err sim_node_hello(sim_node *n, bool restarted);
void sim_node_connect(sim_node *n); /* to n->control_url and n->hint_url */

/* One heartbeat. *fetch_out, *hello_out may be NULL. */
ort_err sim_node_beat(sim_node *n, bool *fetch_out, bool *hello_out);

/* Fetches; *some_out: a table came and was applied. Everything about it is asserted. */
ort_err sim_node_fetch(sim_node *n, bool whole, bool *some_out);

/* beat, fetch while told to, beat: what a node does when it hears of something new. */
void sim_node_sync(sim_node *n);

/* Waits for a hint that names this node; false: none in time. */
bool sim_node_hinted(sim_node *n, uint32_t timeout_ms);

/* Sends these bytes as they are and gives the reply's frame type, and the error when it is one. */
ort_msg_type sim_node_raw(sim_node *n, const void *bytes, size_t len, ort_err *err_out);

/* The tenant's entry in its table, or NULL; borrowed until the next fetch. */
const char *sim_node_tenant(const sim_node *n, uint64_t tenant);
const char *sim_node_directory(const sim_node *n, uint64_t tenant);

/* A signed frame of this node, as it would be sent next. */
void sim_node_frame(sim_node *n, ort_msg_type type, const ort_buf *body, ort_buf *out);
#endif /* ORT_TEST_SIM_NODE_H */
