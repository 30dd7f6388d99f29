/* data-plane/routing/agent_internal.h: the agent's parts.
 *
 * Two threads. The agent's own does all talking and applying; the hint thread only listens and
 * wakes it. Lock order: `applying` before `lock`.
 *
 *            no credential                        hello answered
 *   JOINING ───────────────► (join_url) ─► GREETING ───────────► BEATING ─┐ each second, after each
 *      agent_join.c            agent.c: greet()   ▲    beat(), fetch_all() ◄┘ table, when poked
 *                                                 └── the control plane says `hello` ──┘ */
#ifndef DP_AGENT_INTERNAL_H
#define DP_AGENT_INTERNAL_H
#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "routing/agent.h"
#include "routing/keep.h"
#include "wire/endpoint.h"

/* Who this node is: made at its first start, completed by the join. */
typedef struct {
    ort_sign_key key;      /* file node.key */
    char *tls_key_pem;     /* file tls.key */
    bool joined;           /* file credential: the rest */
    ort_hello_reply hello; /* as the control plane said it */
} dp_agent__identity;

typedef struct dp_agent__old dp_agent__old;
struct dp_agent__old { /* PEM texts that dp_agent_tls() may have lent */
    char *pem;
    dp_agent__old *next;
};

struct dp_agent {
    dp_routes *routes;
    dp_agent_options options; /* its texts are copies */
    char *texts[16];          /* those copies */
    size_t text_count;
    ort_token join_token; /* wiped once joined */
    bool has_token;

    pthread_t thread, hint_thread;
    bool thread_started, hint_started;
    uint64_t incarnation;
    uint64_t sequence; /* of the agent's thread */
    ort_req *control;  /* likewise */
    ort_sub *hints;    /* opened by the agent's thread before the hint thread starts */
    bool greeted;
    uint64_t certificate_seen_ms; /* monotonic: when its end was last looked at */
    bool want_whole;              /* the next fetch asks for all */
    uint64_t fetch_hold_until_ms; /* monotonic: a refused table is not asked for at once again */
    uint32_t fetch_hold_ms;

    pthread_mutex_t applying; /* one table at a time; guards `keep` */
    dp_keep *keep;            /* NULL until joined */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t wake;
    bool stopping;
    ort_req *calling; /* a call is in flight on it: stop ends it */
    bool poked;       /* beat now */
    bool hinted;      /* fetch now */
    dp_agent__identity id;
    dp_agent__old *old_pems;
    dp_agent_stats stats;
    uint64_t confirmed_mono_ms; /* applied was newest then; 0: never heard */
    int64_t issued_at_ms;
    bool has_nack;
    uint64_t nack_version;
    ort_err nack_err;
    dp_refused nack_why;
    char nack_path[128];
};

extern const ort_log dp_agent__log;

/* agent_join.c: loads or makes keys, loads the credential. ORT_ECORRUPT, ORT_EDENIED. */
ORT_NODISCARD ort_err dp_agent__identity_load(dp_agent *agent, ort_diag *diag);
/* Keeps what a hello reply says (join or later) and takes it over. */
ORT_NODISCARD ort_err dp_agent__identity_keep(dp_agent *agent, ort_hello_reply *reply,
                                              ort_diag *diag);
/* One try to join. ORT_EAUTH and ORT_EDENIED: the token is no good. */
ORT_NODISCARD ort_err dp_agent__join(dp_agent *agent, ort_diag *diag);
void dp_agent__identity_fini(dp_agent *agent);
/* Whether the next hello should ask for a TLS certificate: there is none, or it ends soon. */
bool dp_agent__needs_certificate(const dp_agent *agent);
/* Greater than that of every earlier start. */
ORT_NODISCARD ort_err dp_agent__next_incarnation(dp_agent *agent, ort_diag *diag);
/* Fills what a hello says of this node; a signing request too when one is needed. fini after. */
ORT_NODISCARD ort_err dp_agent__hello_fill(dp_agent *agent, ort_hello *out, bool joining,
                                           ort_diag *diag);

/* agent.c: ort_req_call() that ends when the agent is stopped. */
ORT_NODISCARD ort_err dp_agent__call(dp_agent *agent, ort_req *req, const ort_buf *request,
                                     uint32_t timeout_ms, ort_buf *reply, ort_diag *diag);
/* agent.c: a request of the agent's thread on `req`, signed; the reply's frame is borrowed from
 * reply. An ORT_MSG_ERROR becomes its error. */
ORT_NODISCARD ort_err dp_agent__ask(dp_agent *agent, ort_req *req, ort_msg_type type,
                                    const ort_buf *body, uint32_t timeout_ms, ort_buf *reply,
                                    ort_frame *frame, ort_diag *diag);

/* agent_apply.c: opens `keep` and serves what is in it, once the node has an identity. */
ORT_NODISCARD ort_err dp_agent__keep_open(dp_agent *agent, ort_diag *diag);
#endif /* DP_AGENT_INTERNAL_H */
