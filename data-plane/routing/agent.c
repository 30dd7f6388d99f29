/* The agent's life and its loop. */
#include "routing/agent.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "crypto/x509.h"
#include "routing/agent_internal.h"

#define BEAT_MS 1000u
#define BEAT_TIMEOUT_MS 3000u
#define FETCH_TIMEOUT_MS 30000u
/* Between two tries: from the first to the second, doubling. A try to beat waits 3 s for a
 * connection itself, so a control plane that comes back is found at once and not at the next try.
 */
#define RETRY_MIN_MS 250u
#define JOIN_RETRY_MAX_MS 10000u
#define BEAT_RETRY_MAX_MS 1000u
/* A hello that was asked for follows at once, but not in a tight loop. */
#define REGREET_MS 50u
/* Longer than a fetch of a large table takes: sent again, it would be packed and sent twice. */
#define RESEND_MS 10000u
/* Deltas that may follow one another without a beat between them. */
#define FETCHES_IN_A_ROW 32
/* A refused table is asked for again after a while that doubles from the first to the second. */
#define HOLD_MIN_MS 1000u
#define HOLD_MAX_MS 60000u
#define HINT_WAIT_MS 5000u
#define CERTIFICATE_EVERY_MS (24u * 3600u * 1000u)

const ort_log dp_agent__log = {"routing"};

/* ---- talking ---- */

ort_err
dp_agent__call(dp_agent *agent, ort_req *req, const ort_buf *request, uint32_t timeout_ms,
               ort_buf *reply, ort_diag *diag)
{
    pthread_mutex_lock(&agent->lock);
    const bool stopping = agent->stopping;
    agent->calling = stopping ? NULL : req;
    pthread_mutex_unlock(&agent->lock);
    if (stopping) {
        return ort_fail(diag, ORT_EIO, "the agent is stopping");
    }
    const ort_err err = ort_req_call(req, request->data, request->len, timeout_ms, reply, diag);
    pthread_mutex_lock(&agent->lock);
    agent->calling = NULL;
    pthread_mutex_unlock(&agent->lock);
    return err;
}

ort_err
dp_agent__ask(dp_agent *agent, ort_req *req, ort_msg_type type, const ort_buf *body,
              uint32_t timeout_ms, ort_buf *reply, ort_frame *frame, ort_diag *diag)
{
    ort_buf request = {0};
    const ort_frame ask = {.type = type,
                           .node = agent->id.hello.node,
                           .incarnation = agent->incarnation,
                           .sequence = ++agent->sequence,
                           .body = body->data,
                           .body_len = body->len};
    ort_err err = ort_frame_write(&ask, &agent->id.key, &request);
    if (err == ORT_OK) {
        err = dp_agent__call(agent, req, &request, timeout_ms, reply, diag);
    }
    ort_secret_wipe_buf(&request); /* a hello may hold the join token */
    if (err == ORT_OK) {
        err = ort_frame_read(reply->data, reply->len, frame, diag);
    }
    if (err == ORT_OK && frame->type == ORT_MSG_ERROR) {
        ort_wire_error e;
        err = ort_wire_error_decode(frame->body, frame->body_len, &e, diag);
        if (err == ORT_OK) {
            err = ort_fail(diag, e.err, "the control plane says: %s", e.message);
        }
    }
    return err;
}

/* Where to send: configured, else as told, else (a hub without TLS) where we joined. */
static const char *
control_url(const dp_agent *agent)
{
    if (agent->options.control_url != NULL) {
        return agent->options.control_url;
    }
    return agent->id.hello.control_url[0] != '\0' ? agent->id.hello.control_url
                                                  : agent->options.join_url;
}

static const char *
hint_url(const dp_agent *agent)
{
    if (agent->options.hint_url != NULL) {
        return agent->options.hint_url;
    }
    return agent->id.hello.hint_url[0] != '\0' ? agent->id.hello.hint_url : NULL;
}

static ort_tls
control_tls(const dp_agent *agent)
{
    return (ort_tls){.ca_pem = agent->id.hello.ca_pem,
                     .cert_pem = agent->id.hello.cert_pem,
                     .key_pem = agent->id.tls_key_pem,
                     .server_name = ORT_X509_CONTROL_NAME};
}

static void *listen_to_hints(void *arg);

/* Opens what is not open yet. Hints are a help, not a need: without them beats find out. */
static ort_err
connect_control(dp_agent *agent, ort_diag *diag)
{
    const ort_tls tls = control_tls(agent);
    const char *url = control_url(agent), *hints = hint_url(agent);
    ort_err err = ORT_OK;
    if (agent->control == NULL) {
        if (url == NULL) {
            return ort_fail(diag, ORT_EINVAL,
                            "neither the configuration nor the hub says where the "
                            "control plane is");
        }
        const ort_req_options o = {.url = url,
                                   .tls = strncmp(url, "tls+", 4) == 0 ? &tls : NULL,
                                   .plain_ok = agent->options.plain_ok,
                                   .resend_ms = RESEND_MS};
        err = ort_req_open(&agent->control, &o, diag);
    }
    if (err == ORT_OK && agent->hints == NULL && hints != NULL) {
        const ort_pub_options o = {.url = hints,
                                   .tls = strncmp(hints, "tls+", 4) == 0 ? &tls : NULL,
                                   .plain_ok = agent->options.plain_ok};
        err = ort_sub_open(&agent->hints, &o, diag);
        if (err == ORT_OK) {
            err = ort_thread_start(&agent->hint_thread, "hints", listen_to_hints, agent, diag);
            agent->hint_started = err == ORT_OK;
        }
        if (err != ORT_OK) {
            ORT_LOG_WARN(&dp_agent__log, "hints.unavailable", "err=%s detail=%s", ort_err_code(err),
                         diag->text);
            ort_sub_close(agent->hints);
            agent->hints = NULL;
            err = ORT_OK;
        }
    }
    return err;
}

/* Closes both connections; the hint thread ends with its own. */
static void
disconnect(dp_agent *agent)
{
    ort_req_close(agent->control);
    agent->control = NULL;
    if (agent->hint_started) {
        ort_sub_stop(agent->hints);
        pthread_join(agent->hint_thread, NULL);
        agent->hint_started = false;
    }
    ort_sub_close(agent->hints);
    agent->hints = NULL;
}

/* What the control plane says is newest; `applied` may be just that. */
static void
heard_newest(dp_agent *agent, const ort_table_at *newest)
{
    pthread_mutex_lock(&agent->lock);
    agent->stats.newest = *newest;
    agent->stats.control_reachable = true;
    if (ort_table_at_cmp(&agent->stats.applied, newest) == 0 &&
        ort_hash_equal(&agent->stats.applied.hash, &newest->hash)) {
        agent->confirmed_mono_ms = ort_mono_ms();
    }
    pthread_mutex_unlock(&agent->lock);
}

static ort_err
greet(dp_agent *agent, ort_diag *diag)
{
    ort_hello hello = {0};
    ort_hello_reply answer = {0};
    ort_buf body = {0}, reply = {0};
    ort_frame frame;
    ort_err err = dp_agent__hello_fill(agent, &hello, false, diag);
    const bool renewing = hello.csr_pem != NULL;
    if (err == ORT_OK) {
        err = ort_hello_encode(&hello, &body);
    }
    if (err == ORT_OK) {
        err = dp_agent__ask(agent, agent->control, ORT_MSG_HELLO, &body, BEAT_TIMEOUT_MS, &reply,
                            &frame, diag);
    }
    if (err == ORT_OK && frame.type != ORT_MSG_HELLO_REPLY) {
        err = ort_fail(diag, ORT_EFORMAT, "hello was answered with message type %d", frame.type);
    }
    if (err == ORT_OK) {
        err = ort_hello_reply_decode(frame.body, frame.body_len, &answer, diag);
    }
    if (err == ORT_OK) {
        heard_newest(agent, &answer.newest);
        err = dp_agent__identity_keep(agent, &answer, diag);
    }
    if (err == ORT_OK) {
        agent->greeted = true;
        if (renewing) {
            disconnect(agent); /* the next call connects with the new certificate */
        }
    }
    ort_hello_reply_fini(&answer);
    ort_hello_fini(&hello);
    ort_buf_fini(&body);
    ort_secret_wipe_buf(&reply);
    return err;
}

/* *fetch_out: there is something to fetch. */
static ort_err
beat(dp_agent *agent, bool *fetch_out, ort_diag *diag)
{
    ort_heartbeat m = {0};
    ort_heartbeat_reply answer = {0};
    ort_buf body = {0}, reply = {0};
    ort_frame frame;
    if (agent->options.owner.collect != NULL) {
        agent->options.owner.collect(agent->options.owner.arg, &m);
    }
    pthread_mutex_lock(&agent->lock);
    m.applied = agent->stats.applied;
    m.has_nack = agent->has_nack;
    m.nack.version = agent->nack_version;
    m.nack.err = agent->nack_err;
    if (m.has_nack) {
        strncpy(m.nack.reason, dp_refused_word(agent->nack_why), sizeof m.nack.reason - 1);
        memcpy(m.nack.path, agent->nack_path, sizeof m.nack.path);
    }
    pthread_mutex_unlock(&agent->lock);
    ort_err err = ort_heartbeat_encode(&m, &body);
    if (err == ORT_OK) {
        err = dp_agent__ask(agent, agent->control, ORT_MSG_HEARTBEAT, &body, BEAT_TIMEOUT_MS,
                            &reply, &frame, diag);
    }
    if (err == ORT_OK && frame.type != ORT_MSG_HEARTBEAT_REPLY) {
        err = ort_fail(diag, ORT_EFORMAT, "a beat was answered with message type %d", frame.type);
    }
    if (err == ORT_OK) {
        err = ort_heartbeat_reply_decode(frame.body, frame.body_len, &answer, diag);
    }
    pthread_mutex_lock(&agent->lock);
    if (err == ORT_OK) {
        agent->stats.beats_total++;
        if (m.has_nack && agent->nack_version == m.nack.version) {
            agent->has_nack = false; /* said once is heard: the beat was answered */
        }
    } else {
        agent->stats.beat_failures_total++;
        agent->stats.control_reachable = false;
    }
    pthread_mutex_unlock(&agent->lock);
    if (err == ORT_OK) {
        heard_newest(agent, &answer.newest);
        agent->greeted = agent->greeted && !answer.hello;
        *fetch_out = answer.fetch;
    }
    ort_heartbeat_fini(&m);
    ort_buf_fini(&body);
    ort_buf_fini(&reply);
    return err;
}

static ort_table_at
position(dp_agent *agent)
{
    pthread_mutex_lock(&agent->lock);
    const ort_table_at at = agent->stats.applied;
    pthread_mutex_unlock(&agent->lock);
    return at;
}

/* Fetches once and applies what comes. *applied_out: the position has moved. */
static ort_err
fetch(dp_agent *agent, bool *applied_out, ort_diag *diag)
{
    ort_fetch ask = {.whole = agent->want_whole};
    ort_buf body = {0}, reply = {0};
    ort_frame frame;
    const void *envelope;
    size_t n;
    dp_refused why = DP_REFUSED_KINDS;
    pthread_mutex_lock(&agent->lock);
    ask.applied = agent->stats.applied;
    agent->stats.fetches_total++;
    pthread_mutex_unlock(&agent->lock);
    *applied_out = false;
    ort_err err = ort_fetch_encode(&ask, &body);
    if (err == ORT_OK) {
        err = dp_agent__ask(agent, agent->control, ORT_MSG_FETCH, &body, FETCH_TIMEOUT_MS, &reply,
                            &frame, diag);
    }
    if (err == ORT_OK && frame.type != ORT_MSG_FETCH_REPLY) {
        err = ort_fail(diag, ORT_EFORMAT, "a fetch was answered with message type %d", frame.type);
    }
    if (err == ORT_OK) {
        ort_cursor c = ort_cursor_of(frame.body, frame.body_len);
        while (err == ORT_OK && ort_tables_next(&c, &envelope, &n)) {
            err = dp_agent_offer(agent, envelope, n, &why, diag);
        }
        if (err == ORT_OK && c.failed) {
            err = ort_fail(diag, ORT_EFORMAT, "a fetch was answered with something cut");
        }
        const ort_table_at now = position(agent);
        *applied_out = ort_table_at_cmp(&ask.applied, &now) != 0;
    }
    /* A change that does not fit is followed by the whole, once; anything else waits its while. */
    const bool misfit = why == DP_REFUSED_BASE || why == DP_REFUSED_HASH;
    if (err == ORT_OK) {
        agent->want_whole = false;
        agent->fetch_hold_ms = 0;
    } else if (misfit && !ask.whole) {
        agent->want_whole = true;
    } else {
        const uint32_t twice = agent->fetch_hold_ms * 2;
        agent->fetch_hold_ms = twice < HOLD_MIN_MS   ? HOLD_MIN_MS
                               : twice > HOLD_MAX_MS ? HOLD_MAX_MS
                                                     : twice;
        agent->fetch_hold_until_ms = ort_mono_ms() + agent->fetch_hold_ms;
    }
    ort_buf_fini(&body);
    ort_buf_fini(&reply);
    return err;
}

/* ---- the loop ---- */

static void *
listen_to_hints(void *arg)
{
    dp_agent *agent = arg;
    ort_buf bytes = {0};
    for (;;) {
        ort_frame frame;
        uint64_t generation = 0, version = 0;
        ort_buf_clear(&bytes);
        const ort_err err = ort_sub_recv(agent->hints, HINT_WAIT_MS, &bytes);
        if (err == ORT_EIO) {
            break;
        }
        if (err != ORT_OK || ort_frame_read(bytes.data, bytes.len, &frame, NULL) != ORT_OK ||
            frame.type != ORT_MSG_HINT) {
            continue;
        }
        pthread_mutex_lock(&agent->lock);
        if (ort_hint_decode(frame.body, frame.body_len, agent->id.hello.node, &generation,
                            &version) == ORT_OK) {
            const ort_table_at said = {.generation = generation, .version = version};
            agent->stats.hints_total++;
            if (version == 0 || ort_table_at_cmp(&said, &agent->stats.applied) > 0) {
                agent->hinted = true;
                pthread_cond_signal(&agent->wake);
            }
        }
        pthread_mutex_unlock(&agent->lock);
    }
    ort_buf_fini(&bytes);
    return NULL;
}

/* Until the time, a poke, a hint or the end. false: the end. */
static bool
wait_until(dp_agent *agent, uint64_t mono_ms, bool *poked, bool *hinted)
{
    pthread_mutex_lock(&agent->lock);
    while (!agent->stopping && !agent->poked && !agent->hinted &&
           ort_cond_wait_until(&agent->wake, &agent->lock, mono_ms * 1000000u)) {
    }
    *poked = agent->poked;
    *hinted = agent->hinted;
    agent->poked = agent->hinted = false;
    const bool go_on = !agent->stopping;
    pthread_mutex_unlock(&agent->lock);
    return go_on;
}

static bool
may_fetch(const dp_agent *agent)
{
    return ort_mono_ms() >= agent->fetch_hold_until_ms;
}

/* Fetches until there is nothing more, with a beat after each step: the ack. */
static ort_err
fetch_all(dp_agent *agent, ort_diag *diag)
{
    ort_err err = ORT_OK;
    bool more = true;
    for (int i = 0; more && i < FETCHES_IN_A_ROW && may_fetch(agent); i++) {
        bool applied = false;
        err = fetch(agent, &applied, diag);
        const bool again = agent->want_whole && err != ORT_OK;
        if (err == ORT_ETIMEOUT || err == ORT_EIO) {
            return err;
        }
        more = false;
        if (beat(agent, &more, diag) != ORT_OK) {
            return ORT_EIO;
        }
        more = (more && applied) || again;
    }
    return err;
}

/* A node runs for years and says hello at its start: the end of its certificate is looked at daily.
 */
static void
watch_certificate(dp_agent *agent)
{
    const uint64_t now = ort_mono_ms();
    if (now - agent->certificate_seen_ms >= CERTIFICATE_EVERY_MS) {
        agent->certificate_seen_ms = now;
        if (dp_agent__needs_certificate(agent)) {
            agent->greeted = false;
        }
    }
}

/* One round: greets if need be, beats, fetches. */
static ort_err
round_of(dp_agent *agent, bool hinted, ort_diag *diag)
{
    bool wanted = hinted;
    watch_certificate(agent);
    ort_err err = connect_control(agent, diag);
    if (err == ORT_OK && !agent->greeted) {
        err = greet(agent, diag);
        if (err == ORT_OK) {
            err = connect_control(agent, diag); /* a new certificate closes the old connection */
        }
    }
    if (err == ORT_OK && !hinted) {
        err = beat(agent, &wanted, diag);
    }
    if (err == ORT_OK && wanted && agent->greeted) {
        const ort_err fetched = fetch_all(agent, diag);
        if (fetched == ORT_ETIMEOUT || fetched == ORT_EIO) {
            err = fetched; /* what was refused has been counted and said */
        }
    }
    return err;
}

/* Joins if need be. false: the agent is to stop. */
static bool
join(dp_agent *agent)
{
    uint32_t wait_ms = RETRY_MIN_MS;
    while (!agent->id.joined) {
        ort_diag diag = {""};
        bool poked, hinted;
        ort_err err = dp_agent__join(agent, &diag);
        if (err == ORT_OK) {
            ORT_LOG_INFO(&dp_agent__log, "hub.joined", "hub=%016" PRIx64 " node=%016" PRIx64,
                         agent->id.hello.hub_id, agent->id.hello.node.v);
            err = dp_agent__keep_open(agent, &diag);
            if (err == ORT_OK) {
                return true;
            }
        }
        ORT_LOG_WARN(&dp_agent__log, "hub.join_failed", "err=%s detail=%s", ort_err_code(err),
                     diag.text);
        if (!wait_until(agent, ort_mono_ms() + wait_ms, &poked, &hinted)) {
            return false;
        }
        wait_ms = wait_ms * 2 < JOIN_RETRY_MAX_MS ? wait_ms * 2 : JOIN_RETRY_MAX_MS;
    }
    return true;
}

/* How things stand with the control plane, as last logged: an outage is one event, not one a
 * second. */
typedef enum { CONTROL_FINE, CONTROL_SILENT, CONTROL_REFUSES } control_state;

static control_state
log_state(const dp_agent *agent, control_state before, ort_err err, const ort_diag *diag)
{
    const control_state now = err == ORT_OK                           ? CONTROL_FINE
                              : err == ORT_ETIMEOUT || err == ORT_EIO ? CONTROL_SILENT
                                                                      : CONTROL_REFUSES;
    if (now == before) {
        return now;
    }
    if (now == CONTROL_FINE) {
        ORT_LOG_INFO(&dp_agent__log, "control.reachable", "url=%s", control_url(agent));
    } else if (now == CONTROL_SILENT) {
        ORT_LOG_WARN(&dp_agent__log, "control.unreachable", "err=%s detail=%s", ort_err_code(err),
                     diag->text);
    } else {
        /* Removed, or another process speaks for this node: it serves on, and hears no more of
         * revocations. Somebody has to look. */
        ORT_LOG_ERROR(&dp_agent__log, "control.refuses", "err=%s detail=%s", ort_err_code(err),
                      diag->text);
    }
    return now;
}

static void *
run(void *arg)
{
    dp_agent *agent = arg;
    const uint32_t every = agent->options.beat_ms != 0 ? agent->options.beat_ms : BEAT_MS;
    uint32_t wait_ms = RETRY_MIN_MS;
    bool poked = true, hinted = false;
    control_state state = CONTROL_FINE;
    if (!join(agent)) {
        return NULL;
    }
    uint64_t due = ort_mono_ms();
    do {
        ort_diag diag = {""};
        const bool is_due = ort_mono_ms() >= due || poked;
        const ort_err err = round_of(agent, hinted && !is_due, &diag);
        state = log_state(agent, state, err, &diag);
        if (err == ORT_OK) {
            wait_ms = RETRY_MIN_MS;
            due = !agent->greeted ? ort_mono_ms() + REGREET_MS
                  : is_due        ? ort_mono_ms() + every
                                  : due;
        } else {
            due = ort_mono_ms() + wait_ms;
            wait_ms = wait_ms * 2 < BEAT_RETRY_MAX_MS ? wait_ms * 2 : BEAT_RETRY_MAX_MS;
        }
    } while (wait_until(agent, due, &poked, &hinted));
    return NULL;
}

/* ---- life ---- */

/* Keeps a copy of an option's text. */
static const char *
keep_text(dp_agent *agent, const char *text, ort_err *err)
{
    if (text == NULL || *err != ORT_OK) {
        return NULL;
    }
    char *copy = strdup(text);
    if (copy == NULL) {
        *err = ORT_ENOMEM;
        return NULL;
    }
    agent->texts[agent->text_count++] = copy;
    return copy;
}

static ort_err
check_options(dp_agent *agent, const dp_agent_options *o, ort_diag *diag)
{
    const struct {
        const char *name, *text;
        size_t cap;
    } needed[] = {
        {"name", o->name, ORT_MSG_TEXT_BYTES},
        {"region", o->region, ORT_MSG_TEXT_BYTES},
        {"endpoint", o->endpoint, ORT_MSG_URL_BYTES},
    };
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (needed[i].text == NULL || needed[i].text[0] == '\0' ||
            strlen(needed[i].text) >= needed[i].cap) {
            return ort_fail(diag, ORT_EINVAL, "%s must have 1 to %zu bytes", needed[i].name,
                            needed[i].cap - 1);
        }
    }
    const char *const urls[] = {o->join_url, o->control_url, o->hint_url};
    for (size_t i = 0; i < 3; i++) {
        const bool tls = urls[i] != NULL && strncmp(urls[i], "tls+", 4) == 0;
        if (urls[i] != NULL && ort_endpoint_check(urls[i], tls, o->plain_ok, diag) != ORT_OK) {
            return ORT_EINVAL;
        }
    }
    if (o->join_token != NULL) {
        if (ort_token_parse(o->join_token, strlen(o->join_token), &agent->join_token) != ORT_OK ||
            agent->join_token.kind != ORT_TOKEN_JOIN) {
            return ort_fail(diag, ORT_EINVAL, "the join token is cut or mistyped (orthjoin_...)");
        }
        agent->has_token = true;
    }
    return ORT_OK;
}

static ort_err
copy_options(dp_agent *agent, const dp_agent_options *o)
{
    ort_err err = ORT_OK;
    agent->options = *o;
    agent->options.join_token = NULL; /* parsed, and wiped once used */
    agent->options.join_url = keep_text(agent, o->join_url, &err);
    agent->options.control_url = keep_text(agent, o->control_url, &err);
    agent->options.hint_url = keep_text(agent, o->hint_url, &err);
    agent->options.name = keep_text(agent, o->name, &err);
    agent->options.region = keep_text(agent, o->region, &err);
    agent->options.zone = keep_text(agent, o->zone, &err);
    agent->options.endpoint = keep_text(agent, o->endpoint, &err);
    agent->options.forward_url = keep_text(agent, o->forward_url, &err);
    agent->options.software = keep_text(agent, o->software, &err);
    return err;
}

static void
agent_free(dp_agent *agent)
{
    dp_keep_close(agent->keep);
    dp_agent__identity_fini(agent);
    for (size_t i = 0; i < agent->text_count; i++) {
        free(agent->texts[i]);
    }
    pthread_cond_destroy(&agent->wake);
    pthread_mutex_destroy(&agent->lock);
    pthread_mutex_destroy(&agent->applying);
    free(agent);
}

ort_err
dp_agent_start(dp_agent **out, dp_routes *routes, const dp_agent_options *options, ort_diag *diag)
{
    ort_diag own = {""};
    diag = diag != NULL ? diag : &own;
    *out = NULL;
    dp_agent *agent = calloc(1, sizeof *agent);
    if (agent == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "agent");
    }
    agent->routes = routes;
    pthread_mutex_init(&agent->lock, NULL);
    pthread_mutex_init(&agent->applying, NULL);
    ort_cond_init(&agent->wake);
    ort_err err = check_options(agent, options, diag);
    if (err == ORT_OK) {
        err = copy_options(agent, options);
    }
    if (err == ORT_OK) {
        err = dp_agent__identity_load(agent, diag);
    }
    if (err == ORT_OK) {
        err = dp_agent__next_incarnation(agent, diag);
    }
    if (err == ORT_OK && agent->id.joined) {
        agent->stats.joined = true;
        agent->stats.node = agent->id.hello.node;
        agent->stats.hub_id = agent->id.hello.hub_id;
        err = dp_agent__keep_open(agent, diag);
    } else if (err == ORT_OK && (!agent->has_token || agent->options.join_url == NULL)) {
        err = ort_fail(diag, ORT_EINVAL,
                       "this node has not joined a hub: it needs the join URL and a join token "
                       "(orthant node token create)");
    }
    if (err == ORT_OK) {
        err = ort_thread_start(&agent->thread, "agent", run, agent, diag);
        agent->thread_started = err == ORT_OK;
    }
    if (err != ORT_OK) {
        agent_free(agent);
        return err;
    }
    *out = agent;
    return ORT_OK;
}

void
dp_agent_stop(dp_agent *agent)
{
    if (agent == NULL) {
        return;
    }
    pthread_mutex_lock(&agent->lock);
    agent->stopping = true;
    if (agent->calling != NULL) {
        ort_req_stop(agent->calling);
    }
    pthread_cond_signal(&agent->wake);
    pthread_mutex_unlock(&agent->lock);
    pthread_join(agent->thread, NULL);
    disconnect(agent);
    agent_free(agent);
}

void
dp_agent_poke(dp_agent *agent)
{
    pthread_mutex_lock(&agent->lock);
    agent->poked = true;
    pthread_cond_signal(&agent->wake);
    pthread_mutex_unlock(&agent->lock);
}

void
dp_agent_stats_get(dp_agent *agent, dp_agent_stats *out)
{
    pthread_mutex_lock(&agent->lock);
    *out = agent->stats;
    const ort_table_at *a = &out->applied, *n = &out->newest;
    out->lag_versions = a->generation == n->generation && n->version > a->version
                            ? n->version - a->version
                        : a->generation < n->generation ? n->version
                                                        : 0;
    if (agent->confirmed_mono_ms != 0) {
        out->age_ms = (int64_t)(ort_mono_ms() - agent->confirmed_mono_ms);
    } else if (a->version != 0) {
        const int64_t age = ort_wall_ms() - agent->issued_at_ms;
        out->age_ms = age > 0 ? age : 0;
    } else {
        out->age_ms = -1;
    }
    pthread_mutex_unlock(&agent->lock);
}

ort_err
dp_agent_hub_get(dp_agent *agent, dp_agent_hub *out)
{
    ort_err err = ORT_EBUSY;
    pthread_mutex_lock(&agent->lock);
    if (agent->id.joined) {
        *out = (dp_agent_hub){agent->id.hello.hub_id, agent->id.hello.node,
                              agent->id.hello.control_key};
        err = ORT_OK;
    }
    pthread_mutex_unlock(&agent->lock);
    return err;
}

ort_err
dp_agent_tls(dp_agent *agent, ort_tls *out)
{
    ort_err err = ORT_EBUSY;
    pthread_mutex_lock(&agent->lock);
    if (agent->id.joined && agent->id.hello.ca_pem != NULL && agent->id.hello.cert_pem != NULL) {
        *out = (ort_tls){.ca_pem = agent->id.hello.ca_pem,
                         .cert_pem = agent->id.hello.cert_pem,
                         .key_pem = agent->id.tls_key_pem};
        err = ORT_OK;
    }
    pthread_mutex_unlock(&agent->lock);
    return err;
}
