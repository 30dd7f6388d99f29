/* The small control plane of the routing tests. */
#include "hub_harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

void
hub_init(hub *h, bool tls)
{
    static unsigned serial;
    unsigned char fingerprint[ORT_TOKEN_CA_BYTES] = {0};
    char *csr = NULL;
    *h = (hub){.hub_id = 0x4b, .generation = 1, .node = {0xa1}, .tls = tls, .cert_days = 365};
    pthread_mutex_init(&h->lock, NULL);
    ort_sign_key_new(&h->key);
    ort_secret_random(h->pepper, sizeof h->pepper);
    if (tls) {
        assert_int_equal(ort_x509_ca_new("test hub", 30, &h->ca, &h->ca_key, NULL), ORT_OK);
        assert_int_equal(ort_x509_key_new(&h->cert_key, NULL), ORT_OK);
        assert_int_equal(ort_x509_csr_new(h->cert_key, &csr, NULL), ORT_OK);
        assert_int_equal(
            ort_x509_issue(h->ca, h->ca_key, csr, ORT_X509_CONTROL_NAME, 30, &h->cert, NULL),
            ORT_OK);
        assert_int_equal(ort_x509_fingerprint(h->ca, fingerprint, NULL), ORT_OK);
        ort_pem_free(csr);
        strcpy(h->join_url, "tls+tcp://127.0.0.1:0");
        strcpy(h->control_url, "tls+tcp://127.0.0.1:0");
        strcpy(h->hint_url, "tls+tcp://127.0.0.1:0");
    } else {
        serial++;
        snprintf(h->join_url, sizeof h->join_url, "inproc://join-%u", serial);
        snprintf(h->control_url, sizeof h->control_url, "inproc://control-%u", serial);
        snprintf(h->hint_url, sizeof h->hint_url, "inproc://hint-%u", serial);
    }
    ort_token_make(&h->token_parsed, ORT_TOKEN_JOIN, (ort_tenant_id){0}, fingerprint);
    ort_token_format(&h->token_parsed, h->token);
    assert_int_equal(ort_table_new(&h->tables[0], NULL, NULL, NULL), ORT_OK);
}

static void
reply_with(ort_msg_type type, const ort_frame *ask, const ort_buf *body, ort_buf *reply)
{
    if (ort_frame_write(&(ort_frame){.type = type,
                                     .node = ask->node,
                                     .sequence = ask->sequence,
                                     .body = body->data,
                                     .body_len = body->len},
                        NULL, reply) != ORT_OK) {
        reply->failed = true;
    }
}

static void
reply_error(const ort_frame *ask, ort_err err, const char *message, ort_buf *reply)
{
    ort_buf body = {0};
    ort_wire_error e = {.err = err};
    strncpy(e.message, message, sizeof e.message - 1);
    if (ort_wire_error_encode(&e, &body) == ORT_OK) {
        reply_with(ORT_MSG_ERROR, ask, &body, reply);
    }
    ort_buf_fini(&body);
}

static ort_table_at
newest_of(const hub *h)
{
    ort_table_at at = {.generation = h->generation, .version = h->version};
    ort_table_hash(h->tables[h->version], &at.hash);
    return at;
}

/* `lock` is held. */
static void
answer_hello(hub *h, const ort_frame *ask, const void *bytes, size_t n, bool joining,
             ort_buf *reply)
{
    ort_hello m;
    ort_buf body = {0};
    if (ort_hello_decode(ask->body, ask->body_len, &m, NULL) != ORT_OK) {
        reply_error(ask, ORT_EFORMAT, "hello", reply);
        return;
    }
    h->hellos++;
    const ort_sign_public *key = h->node_known ? &h->node_key : &m.node_key;
    if (!ort_frame_verify(bytes, n, key)) {
        h->bad_signatures++;
        reply_error(ask, ORT_EAUTH, "signature", reply);
    } else if (joining && strcmp(m.join_token, h->token) != 0) {
        reply_error(ask, ORT_EDENIED, "join token", reply);
    } else {
        ort_hello_reply r = {.hub_id = h->hub_id,
                             .node = h->node,
                             .control_key = h->key.public,
                             .newest = newest_of(h),
                             .ca_pem = h->ca,
                             .has_pepper = joining};
        char name[ORT_X509_NAME_BYTES];
        char *cert = NULL;
        ort_x509_node_name(h->node, name);
        if (h->ca != NULL && m.csr_pem != NULL &&
            ort_x509_issue(h->ca, h->ca_key, m.csr_pem, name, h->cert_days, &cert, NULL) ==
                ORT_OK) {
            r.cert_pem = cert;
            h->issued++;
        }
        memcpy(r.pepper, h->pepper, sizeof r.pepper);
        strcpy(r.control_url, h->control_url);
        strcpy(r.hint_url, h->hint_url);
        h->node_key = m.node_key;
        h->node_known = true;
        h->incarnation = ask->incarnation;
        h->sequence = ask->sequence;
        if (ort_hello_reply_encode(&r, &body) == ORT_OK) {
            reply_with(ORT_MSG_HELLO_REPLY, ask, &body, reply);
        }
        ort_pem_free(cert);
    }
    ort_buf_fini(&body);
    ort_hello_fini(&m);
}

static void
answer_beat(hub *h, const ort_frame *ask, ort_buf *reply)
{
    ort_heartbeat m;
    ort_buf body = {0};
    if (ort_heartbeat_decode(ask->body, ask->body_len, &m, NULL) != ORT_OK) {
        reply_error(ask, ORT_EFORMAT, "beat", reply);
        return;
    }
    h->beats++;
    h->acked = m.applied.version;
    if (m.has_nack) {
        h->nacks++;
        strcpy(h->last_nack, m.nack.reason);
    }
    ort_heartbeat_fini(&m);
    ort_heartbeat_reply r = {.newest = newest_of(h)};
    r.fetch = h->acked != r.newest.version;
    r.hello = ask->incarnation != h->incarnation;
    if (ort_heartbeat_reply_encode(&r, &body) == ORT_OK) {
        reply_with(ORT_MSG_HEARTBEAT_REPLY, ask, &body, reply);
    }
    ort_buf_fini(&body);
}

void
hub_envelope(hub *h, uint64_t base, uint64_t version, ort_buf *out)
{
    ort_buf body = {0};
    ort_table_head head = {.hub_id = h->hub_id,
                           .node = h->node,
                           .at = {.generation = h->generation, .version = version},
                           .base = base,
                           .issued_at_ms = ort_wall_ms()};
    ort_table_hash(h->tables[version], &head.at.hash);
    if (base != 0) {
        ort_table_hash(h->tables[base], &head.base_hash);
    }
    assert_int_equal(base != 0 ? ort_table_diff(h->tables[base], h->tables[version], &body)
                               : ort_table_write(h->tables[version], &body),
                     ORT_OK);
    assert_int_equal(ort_envelope_seal(&head, body.data, body.len, &h->key, out, NULL), ORT_OK);
    ort_buf_fini(&body);
}

static void
put_table(hub *h, uint64_t base, uint64_t version, bool flip, ort_buf *body)
{
    ort_buf envelope = {0};
    hub_envelope(h, base, version, &envelope);
    if (flip) {
        envelope.data[envelope.len / 2] ^= 4;
    }
    ort_tables_put(body, envelope.data, envelope.len);
    ort_buf_fini(&envelope);
}

static bool
use(unsigned *count)
{
    const bool now = *count > 0;
    *count -= now;
    return now;
}

static void
answer_fetch(hub *h, const ort_frame *ask, ort_buf *reply)
{
    ort_fetch m;
    ort_buf body = {0};
    if (ort_fetch_decode(ask->body, ask->body_len, &m, NULL) != ORT_OK) {
        reply_error(ask, ORT_EFORMAT, "fetch", reply);
        return;
    }
    h->fetches++;
    uint64_t to = h->version, base = m.whole ? 0 : m.applied.version;
    if (base > to || m.applied.generation != h->generation) {
        base = 0;
    }
    if (h->fetch_one_step && base != 0 && base + 1 < to) {
        to = base + 1;
    }
    h->wholes += base == 0;
    if (!use(&h->lose_fetches) && m.applied.version != to) {
        const bool flip = use(&h->flip_fetches);
        if (h->shuffle_seed != 0 && to > 1) {
            h->shuffle_seed = h->shuffle_seed * 1103515245u + 12345u;
            const uint64_t old = 1 + (h->shuffle_seed >> 8) % (to - 1);
            put_table(h, (h->shuffle_seed >> 20) % 2 ? old - 1 : 0, old, false, &body);
        } else {
            put_table(h, base, to, flip, &body);
            if (use(&h->double_fetches)) {
                put_table(h, base, to, false, &body);
            }
        }
    }
    reply_with(ORT_MSG_FETCH_REPLY, ask, &body, reply);
    ort_buf_fini(&body);
}

static void
on_request(hub *h, bool joining, const void *bytes, size_t n, ort_buf *reply)
{
    ort_frame ask;
    ort_buf ca = {0};
    if (ort_frame_read(bytes, n, &ask, NULL) != ORT_OK) {
        return;
    }
    pthread_mutex_lock(&h->lock);
    if (ask.type == ORT_MSG_CA && joining && h->ca != NULL) {
        ort_buf_puts(&ca, h->ca);
        reply_with(ORT_MSG_CA_REPLY, &ask, &ca, reply);
        ort_buf_fini(&ca);
    } else if (ask.type == ORT_MSG_HELLO) {
        answer_hello(h, &ask, bytes, n, joining, reply);
    } else if (joining || !h->node_known || !ort_frame_verify(bytes, n, &h->node_key)) {
        h->bad_signatures++;
        reply_error(&ask, ORT_EAUTH, "signature", reply);
    } else if (ask.incarnation < h->incarnation ||
               (ask.incarnation == h->incarnation && ask.sequence < h->sequence)) {
        reply_error(&ask, ORT_ESTALE, "replayed", reply);
    } else if (ask.type == ORT_MSG_HEARTBEAT) {
        h->sequence = ask.sequence;
        answer_beat(h, &ask, reply);
    } else if (ask.type == ORT_MSG_FETCH) {
        h->sequence = ask.sequence;
        answer_fetch(h, &ask, reply);
    } else {
        reply_error(&ask, ORT_EFORMAT, "type", reply);
    }
    pthread_mutex_unlock(&h->lock);
}

static void
on_join(void *arg, const void *bytes, size_t n, ort_buf *reply)
{
    on_request(arg, true, bytes, n, reply);
}

static void
on_control(void *arg, const void *bytes, size_t n, ort_buf *reply)
{
    on_request(arg, false, bytes, n, reply);
}

/* A port that was left a moment ago may be refused for another moment. */
/* On the same port as before it went down: one that another process may have for a moment, as its
 * own end of a connection, so it is tried for a minute. */
static ort_rep *
listen_on(hub *h, char url[160], bool any_client, ort_rep_handler handler)
{
    ort_rep *rep = NULL;
    ort_diag diag = {""};
    const ort_tls tls = {
        .ca_pem = h->ca, .cert_pem = h->cert, .key_pem = h->cert_key, .any_client = any_client};
    const ort_rep_options o = {.url = url,
                               .tls = h->tls ? &tls : NULL,
                               .plain_ok = !h->tls,
                               .handler = handler,
                               .arg = h,
                               .contexts = 16};
    for (int i = 0; i < 1200 && rep == NULL; i++) {
        if (ort_rep_open(&rep, &o, &diag) != ORT_OK) {
            usleep(50000);
        }
    }
    if (rep == NULL) {
        fail_msg("%s", diag.text);
    }
    snprintf(url, 160, "%s", ort_rep_peek_url(rep));
    return rep;
}

void
hub_up(hub *h)
{
    ort_diag diag = {""};
    const ort_tls tls = {.ca_pem = h->ca, .cert_pem = h->cert, .key_pem = h->cert_key};
    const ort_pub_options o = {
        .url = h->hint_url, .tls = h->tls ? &tls : NULL, .plain_ok = !h->tls};
    for (int i = 0; i < 1200 && h->hints == NULL; i++) {
        if (ort_pub_open(&h->hints, &o, &diag) != ORT_OK) {
            usleep(50000);
        }
    }
    if (h->hints == NULL) {
        fail_msg("%s", diag.text);
    }
    snprintf(h->hint_url, sizeof h->hint_url, "%s", ort_pub_peek_url(h->hints));
    h->control = listen_on(h, h->control_url, false, on_control);
    h->join = listen_on(h, h->join_url, true, on_join);
}

void
hub_down(hub *h)
{
    ort_rep_close(h->join);
    ort_rep_close(h->control);
    ort_pub_close(h->hints);
    h->join = h->control = NULL;
    h->hints = NULL;
}

void
hub_fini(hub *h)
{
    hub_down(h);
    for (size_t i = 0; i < HUB_VERSIONS_MAX; i++) {
        ort_table_unref(h->tables[i]);
    }
    ort_pem_free(h->ca);
    ort_pem_free(h->ca_key);
    ort_pem_free(h->cert);
    ort_pem_free(h->cert_key);
    pthread_mutex_destroy(&h->lock);
}

uint64_t
hub_change(hub *h, const char *body)
{
    ort_table *next = NULL;
    ort_buf hint = {0}, frame = {0};
    ort_diag diag = {""};
    pthread_mutex_lock(&h->lock);
    if (ort_table_apply(&next, h->tables[h->version], body, strlen(body), NULL, &diag) != ORT_OK) {
        fail_msg("%s: %s", body, diag.text);
    }
    const uint64_t version = ++h->version;
    assert_true(version < HUB_VERSIONS_MAX);
    h->tables[version] = next;
    const ort_hint_entry entry = {h->node, version};
    if (!h->mute_hints && h->hints != NULL) {
        assert_int_equal(ort_hint_encode(h->generation, &entry, 1, &hint), ORT_OK);
        assert_int_equal(
            ort_frame_write(
                &(ort_frame){.type = ORT_MSG_HINT, .body = hint.data, .body_len = hint.len}, NULL,
                &frame),
            ORT_OK);
        assert_int_equal(ort_pub_send(h->hints, frame.data, frame.len), ORT_OK);
    }
    pthread_mutex_unlock(&h->lock);
    ort_buf_fini(&hint);
    ort_buf_fini(&frame);
    return version;
}

void
hub_wait_acked(hub *h, uint64_t version)
{
    const uint64_t end = ort_mono_ms() + 60000;
    uint64_t acked = 0;
    while (ort_mono_ms() < end) {
        pthread_mutex_lock(&h->lock);
        acked = h->acked;
        pthread_mutex_unlock(&h->lock);
        if (acked == version) {
            return;
        }
        usleep(2000);
    }
    fail_msg("version %llu was not acked, the node says %llu", (unsigned long long)version,
             (unsigned long long)acked);
}
