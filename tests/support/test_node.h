/* tests/support/test_node.h: a data node in the test's own process: every part of orthant-node but
 * the agent; its routing table is what the test says. */
#ifndef TEST_NODE_H
#define TEST_NODE_H
#include "api/api.h"
#include "crypto/token.h"

#define TEST_KEYS_MAX 8

/* A key as the table will hold it. {0} scopes: all three. */
typedef struct {
    const char *scopes;      /* JSON array text, or NULL */
    const char *collections; /* JSON array text, or NULL */
    int64_t expires_at_ms;   /* 0: never */
    uint64_t per_minute;     /* 0: no limit of its own */
    bool revoked;            /* has a token, is not in the table */

    char token[ORT_TOKEN_TEXT_BYTES]; /* filled in by test_node_start() */
    ort_token parsed;
} test_key;

typedef struct {
    ort_tenant_id id;    /* filled in when 0 */
    const char *name;    /* NULL: "t" */
    const char *state;   /* NULL: "active" */
    const char *regions; /* JSON array text; NULL: [] */
    bool elsewhere;      /* homed on the other node */
    uint64_t max_collections, max_per_collection, max_points, max_bytes, per_minute; /* 0: huge */
    test_key keys[TEST_KEYS_MAX];
    size_t key_count; /* 0: one key with everything */
} test_tenant;

typedef struct {
    char dir[64];
    int fd;
    uint16_t port;
    ort_metrics *metrics;
    ort_pool *workers;
    dp_tenants *tenants;
    dp_routes *routes;
    dp_gate *gate;
    dp_api *api;
    ort_http_server *http;
    unsigned char pepper[ORT_PEPPER_BYTES];
    ort_sign_key hub_key; /* signs grants for hub TEST_HUB and node TEST_SELF */
    uint64_t version;
    dp_forward *forward; /* the test's: set it before the first request that needs it */
    /* Options, set before the start; 0: as ever. */
    size_t body_bytes_max;
    uint32_t queue_max;
    bool impatient;            /* slow senders are cut after half a second instead of never */
    uint32_t threads;          /* of the HTTP front */
    uint32_t open_max;         /* open collections */
    uint64_t checkpoint_bytes; /* of log, after which one is made */
} test_node;

#define TEST_SELF 0x1111u
#define TEST_HUB 0x7777u
#define TEST_OTHER 0x2222u

/* Starts it on a free port of 127.0.0.1, in a new directory, in region eu-central. Ends the test
 * when anything fails. */
void test_node_start(test_node *node, test_tenant *tenants, size_t count);

/* The same in a directory that is there, which may hold what another process left. Keys are the
 * same when tenants (and the pepper, which the caller may set) are; test_node_close() leaves it
 * there. */
void test_node_open(test_node *node, const char *dir, test_tenant *tenants, size_t count);
void test_node_close(test_node *node);

/* A new table of these tenants: makes ids and tokens that are missing. */
void test_node_set_table(test_node *node, test_tenant *tenants, size_t count);

/* Closes everything but the directory, and opens it again, as a restart does. */
void test_node_restart(test_node *node);
void test_node_stop(test_node *node); /* removes the directory too */

/* --- a client ----------------------------------------------------------------------------------
 */

typedef struct {
    int status; /* 0: no answer */
    char *head; /* status line and fields */
    char *body; /* NUL-ended */
    size_t body_len;
} test_answer;

void test_answer_fini(test_answer *answer);

/* The value of a field of the answer, copied into out; "" when it is not there. */
void test_answer_field(const test_answer *answer, const char *name, char *out, size_t cap);

int test_connect(uint16_t port);

/* Sends bytes as they are, on an open connection. false: the server has closed. */
bool test_send(int fd, const void *bytes, size_t len);

/* Reads one answer, for at most timeout_ms. */
test_answer test_receive(int fd, int timeout_ms);

/* One request on a connection of its own; body may be NULL. key may be NULL. */
test_answer test_request(uint16_t port, const char *key, const char *method, const char *target,
                         const char *body);
test_answer test_request_n(uint16_t port, const char *key, const char *method, const char *target,
                           const char *body, size_t len);

/* The same, and checks the status; the body is the caller's to free(). On a surprise the body is
 * printed. */
char *test_call(uint16_t port, const char *key, int status, const char *method, const char *target,
                const char *body);

/* The same, and checks that the body contains `part` too; frees it. */
void test_expect(uint16_t port, const char *key, int status, const char *part, const char *method,
                 const char *target, const char *body);
#endif /* TEST_NODE_H */
