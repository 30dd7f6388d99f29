/* Who this node is: its keys, and how it becomes part of a hub.
 *
 * Joining trusts nobody beforehand but the join token, which an operator carried over:
 *   1. ask the join listener for the hub CA's certificate, believing no one;
 *   2. hold it against the fingerprint in the token: a man in the middle ends here;
 *   3. connect again, now checking the server by that CA, and only then send the token, signed with
 *      the node's new key and with a signing request for its TLS certificate;
 *   4. keep what the hub answers: ids, its table-signing key, the certificate, the pepper.
 * A reply lost after 3 is no harm: the control plane answers the same token again to the same key.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "crypto/x509.h"
#include "routing/agent_internal.h"
#include "routing/credential.h"

#define TLS_KEY_FILE "tls.key"
#define INCARNATION_FILE "incarnation"
#define JOIN_TIMEOUT_MS 10000u

/* A certificate with less left than this is renewed; the hub gives 90 days. */
#define RENEW_DAYS 30

static bool
is_tls(const char *url)
{
    return strncmp(url, "tls+", 4) == 0;
}

static ort_err
load_key(dp_agent *agent, ort_diag *diag)
{
    const int dir = agent->options.dir_fd;
    ort_err err = ort_sign_key_load(&agent->id.key, dir, DP_NODE_KEY_FILE, diag);
    if (err == ORT_ENOTFOUND) {
        ort_sign_key_new(&agent->id.key);
        err = ort_sign_key_save(&agent->id.key, dir, DP_NODE_KEY_FILE, diag);
    }
    return err;
}

static ort_err
load_tls_key(dp_agent *agent, ort_diag *diag)
{
    const int dir = agent->options.dir_fd;
    ort_buf pem = {0};
    ort_err err = ort_secret_file_read(dir, TLS_KEY_FILE, ORT_PEM_BYTES_MAX, &pem, diag);
    if (err == ORT_ENOTFOUND) {
        err = ort_x509_key_new(&agent->id.tls_key_pem, diag);
        if (err == ORT_OK) {
            err = ort_secret_file_write(dir, TLS_KEY_FILE, agent->id.tls_key_pem,
                                        strlen(agent->id.tls_key_pem), diag);
        }
    } else if (err == ORT_OK) {
        const char *text = ort_buf_peek_cstr(&pem);
        agent->id.tls_key_pem = text != NULL ? strdup(text) : NULL;
        err = agent->id.tls_key_pem != NULL ? ORT_OK : ort_fail(diag, ORT_ENOMEM, TLS_KEY_FILE);
    }
    ort_secret_wipe_buf(&pem);
    return err;
}

ort_err
dp_agent__identity_load(dp_agent *agent, ort_diag *diag)
{
    ort_err err = load_key(agent, diag);
    if (err == ORT_OK) {
        err = load_tls_key(agent, diag);
    }
    if (err == ORT_OK) {
        err = dp_credential_load(agent->options.dir_fd, &agent->id.key.public, &agent->id.hello,
                                 diag);
        if (err == ORT_OK) {
            agent->id.joined = true;
            dp_routes_set_pepper(agent->routes, agent->id.hello.pepper);
        }
    }
    return err == ORT_ENOTFOUND ? ORT_OK : err;
}

/* PEM texts may have been lent out: they live until the agent ends. */
static void
retire(dp_agent *agent, char *pem)
{
    dp_agent__old *old = pem != NULL ? malloc(sizeof *old) : NULL;
    if (old != NULL) { /* without memory for the note the text is leaked, and stays good */
        *old = (dp_agent__old){.pem = pem, .next = agent->old_pems};
        agent->old_pems = old;
    }
}

/* Replaces *to by a moved *from where there is one. */
static void
take_pem(dp_agent *agent, char **to, char **from)
{
    if (*from != NULL && (*to == NULL || strcmp(*to, *from) != 0)) {
        retire(agent, *to);
        *to = *from;
        *from = NULL;
    }
}

ort_err
dp_agent__identity_keep(dp_agent *agent, ort_hello_reply *reply, ort_diag *diag)
{
    ort_buf before = {0}, text = {0};
    ort_hello_reply *mine = &agent->id.hello;
    if (agent->id.joined &&
        (reply->hub_id != mine->hub_id || reply->node.v != mine->node.v ||
         memcmp(&reply->control_key, &mine->control_key, sizeof mine->control_key) != 0)) {
        return ort_fail(diag, ORT_ECONFLICT,
                        "the control plane now calls itself hub %016" PRIx64
                        " and this node %016" PRIx64 ", or signs with another key",
                        reply->hub_id, reply->node.v);
    }
    if (!agent->id.joined && !reply->has_pepper) {
        return ort_fail(diag, ORT_EFORMAT, "the answer to the join has no pepper");
    }
    pthread_mutex_lock(&agent->lock);
    ort_err err = ort_hello_reply_encode(mine, &before);
    mine->hub_id = reply->hub_id;
    mine->node = reply->node;
    mine->control_key = reply->control_key;
    take_pem(agent, &mine->ca_pem, &reply->ca_pem);
    take_pem(agent, &mine->cert_pem, &reply->cert_pem);
    if (reply->has_pepper) {
        mine->has_pepper = true;
        memcpy(mine->pepper, reply->pepper, sizeof mine->pepper);
    }
    memcpy(mine->control_url, reply->control_url, sizeof mine->control_url);
    memcpy(mine->hint_url, reply->hint_url, sizeof mine->hint_url);
    if (err == ORT_OK) {
        err = ort_hello_reply_encode(mine, &text);
    }
    pthread_mutex_unlock(&agent->lock);
    if (err == ORT_OK &&
        (text.len != before.len || memcmp(text.data, before.data, text.len) != 0)) {
        err = dp_credential_save(agent->options.dir_fd, mine, &agent->id.key.public, diag);
    }
    if (err == ORT_OK) {
        dp_routes_set_pepper(agent->routes, mine->pepper);
        pthread_mutex_lock(&agent->lock);
        agent->id.joined = true;
        agent->stats.joined = true;
        agent->stats.node = mine->node;
        agent->stats.hub_id = mine->hub_id;
        pthread_mutex_unlock(&agent->lock);
    }
    ort_secret_wipe_buf(&before);
    ort_secret_wipe_buf(&text);
    return err;
}

void
dp_agent__identity_fini(dp_agent *agent)
{
    ort_sign_key_wipe(&agent->id.key);
    ort_pem_free(agent->id.tls_key_pem);
    ort_hello_reply_fini(&agent->id.hello);
    ort_token_wipe(&agent->join_token);
    for (dp_agent__old *old = agent->old_pems, *next; old != NULL; old = next) {
        next = old->next;
        ort_pem_free(old->pem);
        free(old);
    }
}

/* One more than the last one, and at least the wall clock: a copy of the directory that starts
 * later gets a greater one too, and the control plane then knows there are two. */
ort_err
dp_agent__next_incarnation(dp_agent *agent, ort_diag *diag)
{
    ort_buf text = {0};
    char out[32];
    uint64_t last = 0;
    ort_err err = ort_file_read(agent->options.dir_fd, INCARNATION_FILE, 31, &text, diag);
    if (err == ORT_OK) {
        const char *digits = ort_buf_peek_cstr(&text);
        last = digits != NULL ? strtoull(digits, NULL, 10) : 0;
    } else if (err != ORT_ENOTFOUND) {
        ort_buf_fini(&text);
        return err;
    }
    ort_buf_fini(&text);
    const int64_t wall = ort_wall_ms();
    agent->incarnation = last + 1;
    if (wall > 0 && (uint64_t)wall > agent->incarnation) {
        agent->incarnation = (uint64_t)wall;
    }
    const int n = snprintf(out, sizeof out, "%" PRIu64 "\n", agent->incarnation);
    return ort_file_replace(agent->options.dir_fd, INCARNATION_FILE, out, (size_t)n, 0600, diag);
}

bool
dp_agent__needs_certificate(const dp_agent *agent)
{
    char name[ORT_X509_NAME_BYTES];
    int64_t days = 0;
    const ort_hello_reply *mine = &agent->id.hello;
    if (!agent->id.joined) {
        return true;
    }
    if (mine->ca_pem == NULL) {
        return false; /* a plain hub has none to give */
    }
    ort_x509_node_name(mine->node, name);
    return mine->cert_pem == NULL ||
           ort_x509_check(mine->ca_pem, mine->cert_pem, agent->id.tls_key_pem, name, &days, NULL) !=
               ORT_OK ||
           days < RENEW_DAYS;
}

static void
copy_text(char *to, size_t cap, const char *from)
{
    snprintf(to, cap, "%s", from != NULL ? from : "");
}

ort_err
dp_agent__hello_fill(dp_agent *agent, ort_hello *out, bool joining, ort_diag *diag)
{
    const dp_agent_options *o = &agent->options;
    *out = (ort_hello){.capacity_bytes = o->capacity_bytes, .node_key = agent->id.key.public};
    copy_text(out->name, sizeof out->name, o->name);
    copy_text(out->region, sizeof out->region, o->region);
    copy_text(out->zone, sizeof out->zone, o->zone);
    copy_text(out->endpoint, sizeof out->endpoint, o->endpoint);
    copy_text(out->forward, sizeof out->forward, o->forward_url);
    copy_text(out->software, sizeof out->software, o->software);
    if (joining) {
        ort_token_format(&agent->join_token, out->join_token);
    }
    pthread_mutex_lock(&agent->lock);
    out->applied = agent->stats.applied;
    pthread_mutex_unlock(&agent->lock);
    return dp_agent__needs_certificate(agent)
               ? ort_x509_csr_new(agent->id.tls_key_pem, &out->csr_pem, diag)
               : ORT_OK;
}

/* Steps 1 and 2: the CA that the token names. */
static ort_err
fetch_ca(dp_agent *agent, char **ca_out, ort_diag *diag)
{
    ort_req *req = NULL;
    ort_buf body = {0}, reply = {0};
    ort_frame frame;
    unsigned char fingerprint[ORT_TOKEN_CA_BYTES];
    const ort_tls tls = {.unverified = true};
    const ort_req_options options = {
        .url = agent->options.join_url, .tls = &tls, .recv_bytes_max = 2u * ORT_PEM_BYTES_MAX};
    *ca_out = NULL;
    ort_err err = ort_req_open(&req, &options, diag);
    if (err == ORT_OK) {
        err = ort_frame_write(&(ort_frame){.type = ORT_MSG_CA}, NULL, &body);
    }
    if (err == ORT_OK) {
        err = dp_agent__call(agent, req, &body, JOIN_TIMEOUT_MS, &reply, diag);
    }
    if (err == ORT_OK) {
        err = ort_frame_read(reply.data, reply.len, &frame, diag);
    }
    if (err == ORT_OK && (frame.type != ORT_MSG_CA_REPLY || frame.body_len > ORT_PEM_BYTES_MAX ||
                          memchr(frame.body, 0, frame.body_len) != NULL)) {
        err = ort_fail(diag, ORT_EFORMAT, "the join listener did not answer with its CA");
    }
    if (err == ORT_OK) {
        *ca_out = strndup(frame.body, frame.body_len);
        err = *ca_out != NULL ? ort_x509_fingerprint(*ca_out, fingerprint, diag) : ORT_ENOMEM;
    }
    if (err == ORT_OK && memcmp(fingerprint, agent->join_token.ca, sizeof fingerprint) != 0) {
        err = ort_fail(diag, ORT_EAUTH, "the server at %s is not the hub that the join token names",
                       agent->options.join_url);
    }
    if (err != ORT_OK) {
        free(*ca_out);
        *ca_out = NULL;
    }
    ort_req_close(req);
    ort_buf_fini(&body);
    ort_buf_fini(&reply);
    return err;
}

/* The answer has to be one we can live with before it is kept. */
static ort_err
check_join_reply(dp_agent *agent, const ort_hello_reply *reply, const char *ca_pem, ort_diag *diag)
{
    char name[ORT_X509_NAME_BYTES];
    if (ca_pem == NULL) {
        return ORT_OK;
    }
    if (reply->ca_pem == NULL || reply->cert_pem == NULL) {
        return ort_fail(diag, ORT_EFORMAT, "the answer to the join has no certificate");
    }
    ort_x509_node_name(reply->node, name);
    return ort_x509_check(ca_pem, reply->cert_pem, agent->id.tls_key_pem, name, NULL, diag);
}

ort_err
dp_agent__join(dp_agent *agent, ort_diag *diag)
{
    char *ca = NULL;
    ort_req *req = NULL;
    ort_buf body = {0}, reply = {0};
    ort_frame frame;
    ort_hello hello = {0};
    ort_hello_reply answer = {0};
    ort_err err = ORT_OK;
    const bool tls = is_tls(agent->options.join_url);

    if (tls) {
        err = fetch_ca(agent, &ca, diag);
    }
    const ort_tls checked = {.ca_pem = ca, .server_name = ORT_X509_CONTROL_NAME};
    const ort_req_options options = {.url = agent->options.join_url,
                                     .tls = tls ? &checked : NULL,
                                     .plain_ok = agent->options.plain_ok,
                                     .recv_bytes_max = 1u << 20};
    if (err == ORT_OK) {
        err = ort_req_open(&req, &options, diag);
    }
    if (err == ORT_OK) {
        err = dp_agent__hello_fill(agent, &hello, true, diag);
    }
    if (err == ORT_OK) {
        err = ort_hello_encode(&hello, &body);
    }
    if (err == ORT_OK) {
        err =
            dp_agent__ask(agent, req, ORT_MSG_HELLO, &body, JOIN_TIMEOUT_MS, &reply, &frame, diag);
    }
    if (err == ORT_OK && frame.type != ORT_MSG_HELLO_REPLY) {
        err = ort_fail(diag, ORT_EFORMAT, "the join was answered with message type %d", frame.type);
    }
    if (err == ORT_OK) {
        err = ort_hello_reply_decode(frame.body, frame.body_len, &answer, diag);
    }
    if (err == ORT_OK) {
        err = check_join_reply(agent, &answer, ca, diag);
    }
    if (err == ORT_OK) {
        err = dp_agent__identity_keep(agent, &answer, diag);
    }
    if (err == ORT_OK) {
        ort_token_wipe(&agent->join_token);
        agent->has_token = false;
    }
    ort_hello_reply_fini(&answer);
    ort_hello_fini(&hello);
    ort_req_close(req);
    ort_secret_wipe_buf(&body);
    ort_secret_wipe_buf(&reply);
    free(ca);
    return err;
}
