/* shared/wire/messages.h: what nodes and the control plane say to each other, and nodes to nodes.
 *
 * Every message is one frame:
 *
 *   offset  size  field        all integers little-endian
 *        0     4  magic        "ORTW"
 *        4     1  version      1
 *        5     1  type         ort_msg_type
 *        6     1  flags        bit 0: signed; the others are 0
 *        7     1  reserved     0
 *        8     8  node_id      who sends (requests) or to whom (replies); 0 while joining
 *       16     8  incarnation  of the sender's process; 0 in replies
 *       24     8  sequence     grows with each request of an incarnation; a reply repeats it
 *       32     4  body length
 *       36     n  body
 *     36+n    64  Ed25519 signature (domain ORT_SIGN_MESSAGE) over all before it; only when signed
 *
 * Node to control: hello, heartbeat and fetch are signed with the node's key, because TLS as we get
 * it does not say which node is at the other end (crypto/x509.h). The control plane remembers the
 * highest (incarnation, sequence) of each node: a lower one is refused (a replay, or a second
 * process with a copied directory), the same one again is a resend by NNG and is answered again.
 * Replies are as trustworthy as the TLS channel they come in; tables are signed besides
 * (wire/table.h).
 *
 * Bodies are JSON, but for tables, hints and forwards. Decoders take outside bytes: every bound and
 * type is checked, unknown members are ignored, and on failure the output is empty. Texts in
 * decoded structs are printable UTF-8 without control characters and NUL-ended. */
#ifndef ORT_MESSAGES_H
#define ORT_MESSAGES_H
#include "base/buf.h"
#include "base/limits.h"
#include "crypto/sign.h"
#include "crypto/token.h"
#include "crypto/x509.h"
#include "wire/table.h"

/* Numbers leave the process: append, never change. */
typedef enum {
    ORT_MSG_ERROR = 1,           /* the reply when there is no other: ort_wire_error */
    ORT_MSG_CA = 2,              /* join listener only; unsigned, empty body */
    ORT_MSG_CA_REPLY = 3,        /* body: the hub CA's certificate, PEM */
    ORT_MSG_HELLO = 4,           /* signed by the key it carries (join) or the known one */
    ORT_MSG_HELLO_REPLY = 5,     /* */
    ORT_MSG_HEARTBEAT = 6,       /* signed */
    ORT_MSG_HEARTBEAT_REPLY = 7, /* */
    ORT_MSG_FETCH = 8,           /* signed */
    ORT_MSG_FETCH_REPLY = 9,     /* body: ort_tables_*; empty when there is nothing newer */
    ORT_MSG_HINT = 10,           /* pub/sub: who should fetch */
    ORT_MSG_FORWARD = 11,        /* node to node; body: ort_forward_* */
    ORT_MSG_FORWARD_REPLY = 12,
} ort_msg_type;

#define ORT_FRAME_HEAD_BYTES 36
#define ORT_MSG_TEXT_BYTES 64 /* names, regions, versions; with the NUL */
#define ORT_MSG_URL_BYTES 256 /* with the NUL */

/* A frame taken apart; body is borrowed from the bytes it was read from. */
typedef struct {
    ort_msg_type type;
    bool is_signed;
    ort_node_id node;
    uint64_t incarnation;
    uint64_t sequence;
    const char *body;
    size_t body_len;
} ort_frame;

/* Appends the frame to out, signed when key is not NULL. ORT_ETOOBIG, ORT_ENOMEM. */
ORT_NODISCARD ort_err ort_frame_write(const ort_frame *frame, const ort_sign_key *key,
                                      ort_buf *out);

/* ORT_EFORMAT: not a frame, of an unknown type, or bytes missing or left over. The signature is
 * not looked at: whose key to look with stands in the frame. */
ORT_NODISCARD ort_err ort_frame_read(const void *bytes, size_t n, ort_frame *out, ort_diag *diag);

/* Whether the frame in these bytes (as ort_frame_read() took them) is signed by that key. */
ORT_NODISCARD bool ort_frame_verify(const void *bytes, size_t n, const ort_sign_public *by);

/* ---- error ---- */

typedef struct {
    ort_err err;       /* travels as its stable code; an unknown code reads as ORT_EINTERNAL */
    char message[256]; /* for people */
} ort_wire_error;

ORT_NODISCARD ort_err ort_wire_error_encode(const ort_wire_error *m, ort_buf *body);
ORT_NODISCARD ort_err ort_wire_error_decode(const char *body, size_t n, ort_wire_error *out,
                                            ort_diag *diag);

/* ---- hello: the first word of each incarnation, and again when told to ---- */

typedef struct {
    char join_token[ORT_TOKEN_TEXT_BYTES]; /* "" unless joining; secret: fini wipes it */
    char name[ORT_MSG_TEXT_BYTES];         /* what operators call the node */
    char region[ORT_MSG_TEXT_BYTES];
    char zone[ORT_MSG_TEXT_BYTES];
    char endpoint[ORT_MSG_URL_BYTES]; /* public data URL */
    char forward[ORT_MSG_URL_BYTES];  /* where other nodes forward to (NNG URL) */
    char software[ORT_MSG_TEXT_BYTES];
    uint64_t capacity_bytes;
    ort_sign_public node_key; /* the node's own; known to the control plane from the join on */
    char *csr_pem;            /* wants a TLS certificate for this request; NULL = has a good one */
    ort_table_at applied;
} ort_hello;

ORT_NODISCARD ort_err ort_hello_encode(const ort_hello *m, ort_buf *body);
ORT_NODISCARD ort_err ort_hello_decode(const char *body, size_t n, ort_hello *out, ort_diag *diag);
void ort_hello_fini(ort_hello *m);

typedef struct {
    uint64_t hub_id;
    ort_node_id node;            /* given at the join; the same ever after */
    ort_sign_public control_key; /* signs tables */
    ort_table_at newest;         /* this node's newest table */
    char *ca_pem;                /* the hub CA */
    char *cert_pem;              /* answers csr_pem; else NULL */
    bool has_pepper;             /* at the join */
    unsigned char pepper[ORT_PEPPER_BYTES];
    char control_url[ORT_MSG_URL_BYTES]; /* where to send from now on; "" = as configured */
    char hint_url[ORT_MSG_URL_BYTES];    /* where hints are published; likewise */
} ort_hello_reply;

ORT_NODISCARD ort_err ort_hello_reply_encode(const ort_hello_reply *m, ort_buf *body);
ORT_NODISCARD ort_err ort_hello_reply_decode(const char *body, size_t n, ort_hello_reply *out,
                                             ort_diag *diag);
void ort_hello_reply_fini(ort_hello_reply *m); /* wipes the pepper */

/* ---- heartbeat: each second, and at once after a table was applied or refused ---- */

/* Counters are cumulative within the incarnation, so a lost or repeated beat loses and doubles
 * nothing; points, storage_bytes (logical), disk_bytes (measured; 0 from an older node) and
 * collections are what is there now. */
typedef struct {
    ort_tenant_id tenant;
    uint64_t points;
    uint64_t storage_bytes;
    uint64_t disk_bytes;
    uint64_t collections;
    uint64_t requests;
    uint64_t searches;
    uint64_t writes;
    uint64_t bytes_in;
    uint64_t bytes_out;
} ort_usage;

typedef struct {
    ort_key_id key;
    int64_t at_ms; /* wall time of its last use */
} ort_key_used;

#define ORT_BEAT_USAGE_MAX 65536u
#define ORT_BEAT_KEYS_MAX 65536u

typedef struct {
    ort_table_at applied;
    bool has_nack; /* the last table offered was refused */
    struct {
        uint64_t version;
        ort_err err;
        char reason[ORT_MSG_TEXT_BYTES]; /* "signature", "node", "hub", "older", "base", ... */
        char path[128];                  /* what in it, where that is known */
    } nack;
    struct {
        double cpu_ratio;    /* 0 .. 1 */
        double memory_ratio; /* 0 .. 1 of what it may use */
        uint64_t disk_used_bytes;
        uint64_t disk_total_bytes;
        uint64_t queue_depth;
    } load;
    ort_usage *usage; /* heap; tenants with something to tell */
    size_t usage_count;
    ort_tenant_id *gone; /* heap; tenants in state `deleting` of which nothing is left here */
    size_t gone_count;
    ort_key_used *key_used; /* heap */
    size_t key_used_count;
} ort_heartbeat;

ORT_NODISCARD ort_err ort_heartbeat_encode(const ort_heartbeat *m, ort_buf *body);
ORT_NODISCARD ort_err ort_heartbeat_decode(const char *body, size_t n, ort_heartbeat *out,
                                           ort_diag *diag);
void ort_heartbeat_fini(ort_heartbeat *m); /* frees the arrays */

typedef struct {
    ort_table_at newest;
    bool fetch; /* there is something to fetch: newer, or the hash differs */
    bool hello; /* the control plane wants a hello (it does not know this incarnation) */
} ort_heartbeat_reply;

ORT_NODISCARD ort_err ort_heartbeat_reply_encode(const ort_heartbeat_reply *m, ort_buf *body);
ORT_NODISCARD ort_err ort_heartbeat_reply_decode(const char *body, size_t n,
                                                 ort_heartbeat_reply *out, ort_diag *diag);

/* ---- fetch ---- */

typedef struct {
    ort_table_at applied; /* deltas may start here */
    bool whole;           /* a delta was refused: send the whole table */
} ort_fetch;

ORT_NODISCARD ort_err ort_fetch_encode(const ort_fetch *m, ort_buf *body);
ORT_NODISCARD ort_err ort_fetch_decode(const char *body, size_t n, ort_fetch *out, ort_diag *diag);

/* The body of a fetch reply: envelopes in the order to apply, each a u32 length and the bytes. */
void ort_tables_put(ort_buf *body, const void *envelope, size_t n);
/* Takes the next one off the cursor; false at the end, or when the rest is no envelope (then
 * at->failed is set). */
bool ort_tables_next(ort_cursor *at, const void **envelope, size_t *n);

/* ---- hint: "fetch", to some nodes or all, over pub/sub ----
 * NNG's publisher sends every message to every subscriber and lets them sort it out, so a table in
 * there would show each node the others' key hashes, and n nodes would cost n*n messages. So the
 * tables themselves travel by fetch alone; one hint names all nodes that have something new. */

typedef struct {
    ort_node_id node;
    uint64_t version;
} ort_hint_entry;

#define ORT_HINT_NODES_MAX 16384u

/* Appends a hint body. count 0: every node should look. ORT_ETOOBIG over ORT_HINT_NODES_MAX. */
ORT_NODISCARD ort_err ort_hint_encode(uint64_t generation, const ort_hint_entry *entries,
                                      size_t count, ort_buf *body);
/* Whether the hint is meant for node: *generation_out and *version_out then (version 0: unsaid).
 * ORT_ENOTFOUND: for others. ORT_EFORMAT. */
ORT_NODISCARD ort_err ort_hint_decode(const char *body, size_t n, ort_node_id node,
                                      uint64_t *generation_out, uint64_t *version_out);

/* ---- forward: a request as it came, to the node that holds the tenant ---- */

typedef struct {
    const char *name;
    const char *value;
} ort_forward_header;

#define ORT_FORWARD_HEADER_BYTES_MAX 16384u /* all names and values of one message */
#define ORT_FORWARD_HOPS_MAX 1u             /* a forwarded request is never forwarded again */

/* Encode: everything is borrowed. Decode: texts and headers live in `arena`, body is borrowed from
 * the frame; fini frees the arena (and `owned`, where a caller put the frame's memory there). */
typedef struct {
    uint32_t hops;       /* 1 on the wire: set by the one node that forwards */
    uint32_t timeout_ms; /* what is left of the request's time */
    const char *method;  /* "POST" */
    const char *target;  /* path and query as they stood in the request line */
    const char *request_id;
    const char *remote; /* address of the client, for the log */
    const ort_forward_header *headers;
    size_t header_count;
    const char *body;
    size_t body_len;
    char *arena;
} ort_forward_request;

ORT_NODISCARD ort_err ort_forward_request_encode(const ort_forward_request *m, ort_buf *body);
ORT_NODISCARD ort_err ort_forward_request_decode(const char *body, size_t n,
                                                 ort_forward_request *out, ort_diag *diag);
void ort_forward_request_fini(ort_forward_request *m);

typedef struct {
    uint32_t status; /* 100 .. 599 */
    const ort_forward_header *headers;
    size_t header_count;
    const char *body;
    size_t body_len;
    char *arena;
    char *owned;
} ort_forward_reply;

ORT_NODISCARD ort_err ort_forward_reply_encode(const ort_forward_reply *m, ort_buf *body);
ORT_NODISCARD ort_err ort_forward_reply_decode(const char *body, size_t n, ort_forward_reply *out,
                                               ort_diag *diag);
void ort_forward_reply_fini(ort_forward_reply *m);
#endif /* ORT_MESSAGES_H */
