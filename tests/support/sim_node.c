/* tests/support/sim_node.c: see the header. */
#include "support/sim_node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "crypto/x509.h"

#define CALL_MS 60000

void
sim_node_init(sim_node *n, const char *name, const char *region)
{
    *n = (sim_node){.name = name, .region = region, .incarnation = 1};
    ort_sign_key_new(&n->key);
}

static void
disconnect(sim_node *n)
{
    ort_req_close(n->req);
    ort_sub_close(n->sub);
    n->req = NULL;
    n->sub = NULL;
}

void
sim_node_fini(sim_node *n)
{
    disconnect(n);
    ort_pem_free(n->ca_pem);
    ort_pem_free(n->cert_pem);
    ort_pem_free(n->key_pem);
    ort_table_unref(n->table);
    *n = (sim_node){0};
}

static bool
is_tls(const char *url)
{
    return strncmp(url, "tls+", 4) == 0;
}

static ort_req *
open_req(const char *url, const ort_tls *tls)
{
    ort_req_options options = {.url = url, .tls = is_tls(url) ? tls : NULL, .plain_ok = true};
    ort_req *req = NULL;
    ort_diag diag = {0};

    if (ort_req_open(&req, &options, &diag) != ORT_OK) {
        fail_msg("%s: %s", url, diag.text);
    }
    return req;
}

void
sim_node_connect(sim_node *n)
{
    ort_tls tls = {.ca_pem = n->ca_pem,
                   .cert_pem = n->cert_pem,
                   .key_pem = n->key_pem,
                   .server_name = ORT_X509_CONTROL_NAME};
    ort_pub_options sub = {
        .url = n->hint_url, .tls = is_tls(n->hint_url) ? &tls : NULL, .plain_ok = true};
    ort_diag diag = {0};

    disconnect(n);
    n->req = open_req(n->control_url, &tls);
    if (ort_sub_open(&n->sub, &sub, &diag) != ORT_OK) {
        fail_msg("%s: %s", n->hint_url, diag.text);
    }
}

void
sim_node_frame(sim_node *n, ort_msg_type type, const ort_buf *body, ort_buf *out)
{
    ort_frame frame = {.type = type,
                       .is_signed = true,
                       .node = n->id,
                       .incarnation = n->incarnation,
                       .sequence = ++n->sequence,
                       .body = body->data,
                       .body_len = body->len};

    assert_int_equal(ort_frame_write(&frame, &n->key, out), ORT_OK);
}

/* Calls and takes the reply apart; an ORT_MSG_ERROR becomes its error. */
static ort_err
call(ort_req *req, const ort_buf *request, ort_msg_type want, ort_buf *reply, ort_frame *frame)
{
    ort_diag diag = {0};
    ort_wire_error error;
    ort_err err = ort_req_call(req, request->data, request->len, CALL_MS, reply, &diag);

    if (err != ORT_OK) {
        return err;
    }
    assert_int_equal(ort_frame_read(reply->data, reply->len, frame, &diag), ORT_OK);
    if (frame->type == ORT_MSG_ERROR) {
        assert_int_equal(ort_wire_error_decode(frame->body, frame->body_len, &error, &diag),
                         ORT_OK);
        return error.err;
    }
    assert_int_equal(frame->type, want);
    return ORT_OK;
}

static ort_err
say_hello(sim_node *n, ort_req *req, const char *token, const char *csr)
{
    ort_hello hello = {.capacity_bytes = 1u << 30, .node_key = n->key.public, .applied = n->at};
    ort_hello_reply answer = {0};
    ort_buf body = {0};
    ort_buf request = {0};
    ort_buf reply = {0};
    ort_frame frame;
    ort_diag diag = {0};

    snprintf(hello.join_token, sizeof hello.join_token, "%s", token);
    snprintf(hello.name, sizeof hello.name, "%s", n->name);
    snprintf(hello.region, sizeof hello.region, "%s", n->region);
    snprintf(hello.zone, sizeof hello.zone, "a");
    snprintf(hello.endpoint, sizeof hello.endpoint, "http://127.0.0.1:1");
    snprintf(hello.forward, sizeof hello.forward, "tls+tcp://127.0.0.1:2");
    snprintf(hello.software, sizeof hello.software, "sim");
    hello.csr_pem = csr != NULL ? strdup(csr) : NULL;
    assert_int_equal(ort_hello_encode(&hello, &body), ORT_OK);
    sim_node_frame(n, ORT_MSG_HELLO, &body, &request);
    ort_err err = call(req, &request, ORT_MSG_HELLO_REPLY, &reply, &frame);
    if (err == ORT_OK) {
        assert_int_equal(ort_hello_reply_decode(frame.body, frame.body_len, &answer, &diag),
                         ORT_OK);
        n->id = answer.node;
        n->hub_id = answer.hub_id;
        n->control_key = answer.control_key;
        n->newest = answer.newest;
        if (answer.cert_pem != NULL) {
            ort_pem_free(n->cert_pem);
            n->cert_pem = strdup(answer.cert_pem);
        }
        if (answer.has_pepper) {
            memcpy(n->pepper, answer.pepper, sizeof n->pepper);
        }
        snprintf(n->control_url, sizeof n->control_url, "%s", answer.control_url);
        snprintf(n->hint_url, sizeof n->hint_url, "%s", answer.hint_url);
    }
    ort_hello_reply_fini(&answer);
    ort_hello_fini(&hello);
    ort_buf_fini(&body);
    ort_buf_fini(&request);
    ort_buf_fini(&reply);
    return err;
}

static ort_err
read_ca(sim_node *n, const char *join_url)
{
    ort_tls tls = {.unverified = true};
    ort_req *req = open_req(join_url, &tls);
    ort_frame ask = {.type = ORT_MSG_CA};
    ort_frame frame;
    ort_buf request = {0};
    ort_buf reply = {0};

    assert_int_equal(ort_frame_write(&ask, NULL, &request), ORT_OK);
    ort_err err = call(req, &request, ORT_MSG_CA_REPLY, &reply, &frame);
    if (err == ORT_OK) {
        ort_pem_free(n->ca_pem);
        n->ca_pem = strndup(frame.body, frame.body_len);
    }
    ort_req_close(req);
    ort_buf_fini(&request);
    ort_buf_fini(&reply);
    return err;
}

ort_err
sim_node_join(sim_node *n, const char *join_url, const char *token_text)
{
    unsigned char fingerprint[ORT_TOKEN_CA_BYTES];
    ort_token token;
    char *csr = NULL;
    ort_diag diag = {0};
    ort_err err = read_ca(n, join_url);

    if (err != ORT_OK) {
        return err;
    }
    if (ort_token_parse(token_text, strlen(token_text), &token) == ORT_OK) {
        assert_int_equal(ort_x509_fingerprint(n->ca_pem, fingerprint, &diag), ORT_OK);
        err = memcmp(token.ca, fingerprint, sizeof fingerprint) == 0 ? ORT_OK : ORT_EAUTH;
    }
    if (err == ORT_OK) {
        ort_tls tls = {.ca_pem = n->ca_pem, .server_name = ORT_X509_CONTROL_NAME};
        ort_req *req = open_req(join_url, &tls);
        if (n->key_pem == NULL) {
            assert_int_equal(ort_x509_key_new(&n->key_pem, &diag), ORT_OK);
        }
        assert_int_equal(ort_x509_csr_new(n->key_pem, &csr, &diag), ORT_OK);
        n->id.v = 0;
        err = say_hello(n, req, token_text, csr);
        ort_req_close(req);
    }
    if (err == ORT_OK) {
        sim_node_connect(n);
    }
    ort_pem_free(csr);
    return err;
}

ort_err
sim_node_hello(sim_node *n, bool restarted)
{
    if (restarted) {
        n->incarnation++;
        n->sequence = 0;
    }
    return say_hello(n, n->req, "", NULL);
}

ort_err
sim_node_beat(sim_node *n, bool *fetch_out, bool *hello_out)
{
    ort_heartbeat beat = {.applied = n->at,
                          .load = {.cpu_ratio = 0.25,
                                   .memory_ratio = 0.5,
                                   .disk_used_bytes = 4096,
                                   .disk_total_bytes = 1u << 20,
                                   .queue_depth = 1},
                          .usage = n->usage,
                          .usage_count = n->usage_count,
                          .gone = n->gone,
                          .gone_count = n->gone_count,
                          .key_used = n->key_used,
                          .key_used_count = n->key_used_count};
    ort_heartbeat_reply answer = {0};
    ort_buf body = {0};
    ort_buf request = {0};
    ort_buf reply = {0};
    ort_frame frame;
    ort_diag diag = {0};

    if (n->nack_reason != NULL) {
        beat.has_nack = true;
        beat.nack.version = n->nack_version;
        beat.nack.err = ORT_EVALIDATE;
        snprintf(beat.nack.reason, sizeof beat.nack.reason, "%s", n->nack_reason);
        snprintf(beat.nack.path, sizeof beat.nack.path, "tenants/x");
    }
    assert_int_equal(ort_heartbeat_encode(&beat, &body), ORT_OK);
    sim_node_frame(n, ORT_MSG_HEARTBEAT, &body, &request);
    ort_err err = call(n->req, &request, ORT_MSG_HEARTBEAT_REPLY, &reply, &frame);
    if (err == ORT_OK) {
        assert_int_equal(ort_heartbeat_reply_decode(frame.body, frame.body_len, &answer, &diag),
                         ORT_OK);
        n->newest = answer.newest;
        if (fetch_out != NULL) {
            *fetch_out = answer.fetch;
        }
        if (hello_out != NULL) {
            *hello_out = answer.hello;
        }
    }
    ort_buf_fini(&body);
    ort_buf_fini(&request);
    ort_buf_fini(&reply);
    return err;
}

static void
apply(sim_node *n, const void *envelope, size_t len)
{
    ort_table_head head;
    ort_table *next = NULL;
    ort_buf text = {0};
    ort_hash hash;
    ort_diag diag = {0};

    assert_int_equal(ort_envelope_open(envelope, len, &n->control_key, &head, &diag), ORT_OK);
    assert_int_equal(head.hub_id, n->hub_id);
    assert_int_equal(head.node.v, n->id.v);
    assert_true(ort_table_at_cmp(&head.at, &n->at) > 0 || head.base == 0);
    if (head.base != 0) {
        assert_int_equal(head.base, n->at.version);
        assert_true(ort_hash_equal(&head.base_hash, &n->at.hash));
        n->deltas++;
    } else {
        n->wholes++;
    }
    assert_int_equal(ort_envelope_body(envelope, len, &text, &diag), ORT_OK);
    assert_int_equal(
        ort_table_apply(&next, head.base != 0 ? n->table : NULL, text.data, text.len, NULL, &diag),
        ORT_OK);
    ort_table_hash(next, &hash);
    assert_true(ort_hash_equal(&hash, &head.at.hash));
    ort_table_unref(n->table);
    n->table = next;
    n->at = head.at;
    ort_buf_fini(&text);
}

ort_err
sim_node_fetch(sim_node *n, bool whole, bool *some_out)
{
    ort_fetch ask = {.applied = n->at, .whole = whole};
    ort_buf body = {0};
    ort_buf request = {0};
    ort_buf reply = {0};
    ort_frame frame;
    const void *envelope = NULL;
    size_t len = 0;

    *some_out = false;
    assert_int_equal(ort_fetch_encode(&ask, &body), ORT_OK);
    sim_node_frame(n, ORT_MSG_FETCH, &body, &request);
    ort_err err = call(n->req, &request, ORT_MSG_FETCH_REPLY, &reply, &frame);
    if (err == ORT_OK) {
        ort_cursor at = ort_cursor_of(frame.body, frame.body_len);
        while (ort_tables_next(&at, &envelope, &len)) {
            apply(n, envelope, len);
            *some_out = true;
        }
        assert_false(at.failed);
    }
    ort_buf_fini(&body);
    ort_buf_fini(&request);
    ort_buf_fini(&reply);
    return err;
}

void
sim_node_sync(sim_node *n)
{
    bool fetch = false;
    bool some = false;

    assert_int_equal(sim_node_beat(n, &fetch, NULL), ORT_OK);
    while (fetch) {
        assert_int_equal(sim_node_fetch(n, false, &some), ORT_OK);
        assert_int_equal(sim_node_beat(n, &fetch, NULL), ORT_OK);
    }
}

bool
sim_node_hinted(sim_node *n, uint32_t timeout_ms)
{
    uint64_t until = ort_mono_ms() + timeout_ms;
    bool mine = false;

    while (!mine && ort_mono_ms() < until) {
        ort_buf message = {0};
        ort_frame frame;
        uint64_t generation = 0;
        uint64_t version = 0;
        uint64_t now = ort_mono_ms();
        if (ort_sub_recv(n->sub, until > now ? (uint32_t)(until - now) : 1, &message) == ORT_OK &&
            ort_frame_read(message.data, message.len, &frame, NULL) == ORT_OK &&
            frame.type == ORT_MSG_HINT) {
            mine =
                ort_hint_decode(frame.body, frame.body_len, n->id, &generation, &version) == ORT_OK;
        }
        ort_buf_fini(&message);
    }
    return mine;
}

ort_msg_type
sim_node_raw(sim_node *n, const void *bytes, size_t len, ort_err *err_out)
{
    ort_buf reply = {0};
    ort_frame frame = {0};
    ort_wire_error error = {0};
    ort_diag diag = {0};

    assert_int_equal(ort_req_call(n->req, bytes, len, CALL_MS, &reply, &diag), ORT_OK);
    assert_int_equal(ort_frame_read(reply.data, reply.len, &frame, &diag), ORT_OK);
    if (frame.type == ORT_MSG_ERROR) {
        assert_int_equal(ort_wire_error_decode(frame.body, frame.body_len, &error, &diag), ORT_OK);
    }
    *err_out = error.err;
    ort_msg_type type = frame.type;
    ort_buf_fini(&reply);
    return type;
}

static const char *
entry_of(const sim_node *n, ort_table_kind kind, uint64_t id)
{
    ort_entry entry;

    return n->table != NULL && ort_section_get(ort_table_peek(n->table, kind), id, &entry)
               ? entry.text
               : NULL;
}

const char *
sim_node_tenant(const sim_node *n, uint64_t tenant)
{
    return entry_of(n, ORT_TABLE_TENANTS, tenant);
}

const char *
sim_node_directory(const sim_node *n, uint64_t tenant)
{
    return entry_of(n, ORT_TABLE_DIRECTORY, tenant);
}
