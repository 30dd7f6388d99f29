/* control-plane/fleet/fleet_answer.c: one request of a node, from outside bytes to a reply. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "crypto/x509.h"
#include "fleet/fleet_internal.h"
#include "tenancy/node.h"

#define NODE_CERT_DAYS 90u

ort_err
cp_fleet__reply(ort_msg_type type, const ort_frame *to, ort_node_id node, const ort_buf *body,
                ort_buf *reply)
{
    ort_frame frame = {.type = type,
                       .node = node,
                       .sequence = to->sequence,
                       .body = body->data,
                       .body_len = body->len};

    return ort_frame_write(&frame, NULL, reply);
}

void
cp_fleet__refuse(cp_fleet *fleet, const ort_frame *to, ort_err err, const ort_diag *diag,
                 ort_buf *reply)
{
    ort_wire_error m = {.err = err};
    ort_buf body = {0};

    snprintf(m.message, sizeof m.message, "%.*s", (int)sizeof m.message - 1, diag->text);
    pthread_mutex_lock(&fleet->mutex);
    fleet->stats.refused_total++;
    pthread_mutex_unlock(&fleet->mutex);
    ORT_LOG_WARN(&cp_fleet__log, "fleet.refused", "node=%016" PRIx64 " type=%d err=%s detail=%s",
                 to->node.v, (int)to->type, ort_err_code(err), diag->text);
    reply->len = 0;
    if (ort_wire_error_encode(&m, &body) == ORT_OK) {
        /* Should this fail, the empty reply becomes an error by itself. */
        (void)cp_fleet__reply(ORT_MSG_ERROR, to, to->node, &body, reply);
    }
    ort_buf_fini(&body);
}

fleet_word
cp_fleet__word(fleet_node *node, const ort_frame *frame)
{
    if (frame->incarnation < node->incarnation) {
        return FLEET_FENCED;
    }
    if (frame->incarnation > node->incarnation || node->incarnation == 0) {
        return FLEET_HELLO;
    }
    if (frame->sequence > node->sequence) {
        node->sequence = frame->sequence;
        return FLEET_NEW;
    }
    return node->sequence - frame->sequence < FLEET_SEQUENCE_WINDOW ? FLEET_AGAIN : FLEET_FENCED;
}

/* Whose frame it is, once its signature has verified. ORT_EAUTH says no more than it must. */
static ort_err
verify(cp_fleet *fleet, const void *request, size_t n, const ort_frame *frame, ort_diag *diag)
{
    ort_sign_public key = {{0}};
    bool known = false;
    bool removed = false;

    pthread_mutex_lock(&fleet->mutex);
    const fleet_node *node = cp_fleet__find(fleet, frame->node);
    if (node != NULL) {
        known = true;
        removed = node->is_removed;
        key = node->key;
    }
    pthread_mutex_unlock(&fleet->mutex);
    if (!frame->is_signed || !known || !ort_frame_verify(request, n, &key)) {
        return ort_fail(diag, ORT_EAUTH, "not signed by a node of this hub");
    }
    if (removed) {
        return ort_fail(diag, ORT_EDENIED, "the node was removed from the hub");
    }
    return ORT_OK;
}

static void
answer_ca(cp_fleet *fleet, const ort_frame *frame, ort_buf *reply)
{
    ort_buf body = {0};

    ort_buf_puts(&body, fleet->listen.secrets->ca_pem);
    if (ort_buf_check(&body) == ORT_OK) {
        (void)cp_fleet__reply(ORT_MSG_CA_REPLY, frame, (ort_node_id){0}, &body, reply);
    }
    ort_buf_fini(&body);
}

void
cp_fleet_answer(cp_fleet *fleet, bool is_join, const void *request, size_t n, ort_buf *reply)
{
    ort_frame frame = {0};
    ort_diag diag = {0};
    ort_err err = ort_frame_read(request, n, &frame, &diag);

    if (err != ORT_OK) {
        cp_fleet__refuse(fleet, &frame, err, &diag, reply);
        return;
    }
    if (is_join && frame.type == ORT_MSG_CA) {
        answer_ca(fleet, &frame, reply);
        return;
    }
    if (frame.type == ORT_MSG_HELLO) {
        cp_fleet__hello(fleet, is_join, request, n, &frame, reply);
        return;
    }
    if (is_join || (frame.type != ORT_MSG_HEARTBEAT && frame.type != ORT_MSG_FETCH)) {
        err = ort_fail(&diag, ORT_EVALIDATE, "message type %d is not taken here", (int)frame.type);
    } else {
        err = verify(fleet, request, n, &frame, &diag);
    }
    if (err != ORT_OK) {
        cp_fleet__refuse(fleet, &frame, err, &diag, reply);
    } else if (frame.type == ORT_MSG_HEARTBEAT) {
        cp_fleet__heartbeat(fleet, &frame, reply);
    } else {
        cp_fleet__fetch(fleet, &frame, reply);
    }
}

/* ---- hello ---- */

static cp_node_facts
facts_of(const ort_hello *m)
{
    return (cp_node_facts){.name = m->name,
                           .region = m->region,
                           .zone = m->zone,
                           .endpoint = m->endpoint,
                           .forward = m->forward,
                           .software = m->software,
                           .capacity_bytes = m->capacity_bytes,
                           .key = m->node_key};
}

/* A node of this hub already: the key on record decides, not the one in the message. */
static ort_err
hello_known(cp_fleet *fleet, const void *request, size_t n, const ort_frame *frame,
            const ort_hello *m, cp_node *row, ort_diag *diag)
{
    cp_node_facts facts = facts_of(m);
    uint64_t version = 0;
    ort_err err = verify(fleet, request, n, frame, diag);

    if (err != ORT_OK) {
        return err;
    }
    pthread_mutex_lock(&fleet->mutex);
    const fleet_node *node = cp_fleet__find(fleet, frame->node);
    bool fenced = node != NULL && (frame->incarnation < node->incarnation ||
                                   (frame->incarnation == node->incarnation &&
                                    frame->sequence + FLEET_SEQUENCE_WINDOW <= node->sequence));
    fleet->stats.fenced_total += fenced;
    pthread_mutex_unlock(&fleet->mutex);
    if (fenced) {
        return ort_fail(diag, ORT_ESTALE, "another process speaks for this node");
    }
    return cp_node_hello(fleet->listen.tenancy, frame->node, &facts, row, &version, diag);
}

static ort_err
hello_join(cp_fleet *fleet, const void *request, size_t n, const ort_frame *frame,
           const ort_hello *m, cp_node *row, ort_diag *diag)
{
    cp_node_facts facts = facts_of(m);
    uint64_t version = 0;

    /* The signature proves that who holds the token holds the key it is bound to from now on. */
    if (!frame->is_signed || !ort_frame_verify(request, n, &m->node_key)) {
        return ort_fail(diag, ORT_EAUTH, "the hello is not signed by the key it carries");
    }
    ort_err err = cp_node_join(fleet->listen.tenancy, m->join_token, strlen(m->join_token), &facts,
                               row, &version, diag);
    if (err == ORT_OK) {
        pthread_mutex_lock(&fleet->mutex);
        err = cp_fleet__take_in(fleet, row->id, &row->key) != NULL ? ORT_OK : ORT_ENOMEM;
        fleet->stats.joins_total++;
        pthread_mutex_unlock(&fleet->mutex);
        ORT_LOG_INFO(&cp_fleet__log, "fleet.joined", "node=%016" PRIx64 " name=%s region=%s",
                     row->id.v, row->name, row->region);
    }
    return err;
}

/* The incarnation that says hello is the one from now on; written down before it is answered, so
 * that the older one stays out after a restart of ours, too. */
static ort_err
adopt(cp_fleet *fleet, const ort_frame *frame, const cp_node *row, const ort_table_at *applied,
      ort_diag *diag)
{
    cp_tx *tx = NULL;
    cp_node_seen seen = {.node = row->id,
                         .incarnation = frame->incarnation,
                         .seen_at_ms = ort_wall_ms(),
                         .applied_generation = applied->generation,
                         .applied_version = applied->version,
                         .applied_hash = applied->hash};
    bool replaced = false;

    ort_err err = cp_store_begin_note(fleet->options.store, &tx, diag);
    if (err == ORT_OK) {
        err = cp_node_seen_put(tx, &seen, diag);
    }
    if (err == ORT_OK) {
        err = cp_tx_commit(tx, NULL, NULL, diag);
        tx = NULL;
    }
    cp_tx_end(tx);
    if (err != ORT_OK) {
        return err;
    }
    pthread_mutex_lock(&fleet->mutex);
    fleet_node *node = cp_fleet__find(fleet, row->id);
    if (node == NULL || frame->incarnation < node->incarnation) {
        err = ort_fail(diag, ORT_ESTALE, "another process speaks for this node");
    } else {
        if (frame->incarnation > node->incarnation) {
            replaced = cp_fleet__health(fleet, node) == CP_HEALTH_UP && node->incarnation != 0;
            node->incarnation = frame->incarnation;
            node->sequence = 0;
        }
        node->sequence = frame->sequence > node->sequence ? frame->sequence : node->sequence;
        node->is_ready = row->state != CP_NODE_JOINING;
        node->applied = *applied;
        node->seen_ns = ort_mono_ns();
        node->seen_at_ms = seen.seen_at_ms;
        fleet->stats.hellos_total++;
        cp_fleet__check_restored(fleet, row->id, applied);
    }
    pthread_mutex_unlock(&fleet->mutex);
    if (replaced) {
        ORT_LOG_WARN(&cp_fleet__log, "fleet.replaced", "node=%016" PRIx64 " incarnation=%" PRIu64,
                     row->id.v, frame->incarnation);
    }
    return err;
}

static ort_err
fill_reply(cp_fleet *fleet, const cp_node *row, const ort_hello *m, bool joined,
           ort_hello_reply *out, ort_diag *diag)
{
    const cp_secrets *secrets = fleet->listen.secrets;
    char name[ORT_X509_NAME_BYTES];
    bool fetch = false;
    ort_err err = ORT_OK;

    out->hub_id = fleet->listen.hub_id;
    out->node = row->id;
    out->control_key = secrets->signing.public;
    memcpy(out->control_url, fleet->announce_control, sizeof out->control_url);
    memcpy(out->hint_url, fleet->announce_hint, sizeof out->hint_url);
    out->ca_pem = strdup(secrets->ca_pem);
    if (out->ca_pem == NULL) {
        return ORT_ENOMEM;
    }
    if (joined) {
        out->has_pepper = true;
        memcpy(out->pepper, secrets->pepper, sizeof out->pepper);
    }
    if (m->csr_pem != NULL) {
        ort_x509_node_name(row->id, name);
        err = ort_x509_issue(secrets->ca_pem, secrets->ca_key_pem, m->csr_pem, name, NODE_CERT_DAYS,
                             &out->cert_pem, diag);
    }
    if (err == ORT_OK) {
        err = cp_push_newest(fleet->listen.push, row->id, &m->applied, &out->newest, &fetch);
        /* A node that has just joined is in the tables as soon as the feed has seen it. */
        err = err == ORT_ENOTFOUND ? ORT_OK : err;
    }
    return err;
}

void
cp_fleet__hello(cp_fleet *fleet, bool is_join, const void *request, size_t n,
                const ort_frame *frame, ort_buf *reply)
{
    ort_hello m = {0};
    ort_hello_reply answer = {0};
    ort_buf body = {0};
    cp_node row;
    ort_diag diag = {0};
    ort_err err = ort_hello_decode(frame->body, frame->body_len, &m, &diag);
    bool joins = frame->node.v == 0;

    if (err == ORT_OK && joins && !is_join) {
        err = ort_fail(&diag, ORT_EVALIDATE, "joining is done at the join address");
    }
    if (err == ORT_OK) {
        err = joins ? hello_join(fleet, request, n, frame, &m, &row, &diag)
                    : hello_known(fleet, request, n, frame, &m, &row, &diag);
    }
    if (err == ORT_OK) {
        err = adopt(fleet, frame, &row, &m.applied, &diag);
    }
    if (err == ORT_OK) {
        cp_push_hello(fleet->listen.push, row.id);
        cp_push_acked(fleet->listen.push, row.id, &m.applied);
        err = fill_reply(fleet, &row, &m, joins, &answer, &diag);
    }
    if (err == ORT_OK) {
        err = ort_hello_reply_encode(&answer, &body);
    }
    if (err == ORT_OK) {
        err = cp_fleet__reply(ORT_MSG_HELLO_REPLY, frame, row.id, &body, reply);
    }
    if (err != ORT_OK) {
        cp_fleet__refuse(fleet, frame, err, &diag, reply);
    }
    ort_secret_wipe_buf(&body);
    ort_hello_reply_fini(&answer);
    ort_hello_fini(&m);
}

/* ---- heartbeat ---- */

/* Counters are totals, so the newest report of a tenant says all that the ones before said. */
static void
keep_usage(fleet_node *node, const ort_heartbeat *beat)
{
    for (size_t i = 0; i < beat->usage_count; i++) {
        const ort_usage *u = &beat->usage[i];
        cp_usage_report *r = ort_map_get(node->usage, &u->tenant.v, sizeof u->tenant.v);
        if (r == NULL) {
            r = calloc(1, sizeof *r);
            if (r == NULL ||
                ort_map_set(node->usage, &u->tenant.v, sizeof u->tenant.v, r, NULL) != ORT_OK) {
                free(r); /* the next beat says it again */
                continue;
            }
        }
        *r = (cp_usage_report){.tenant = u->tenant,
                               .now = {.collections = u->collections,
                                       .vectors = u->points,
                                       .storage_bytes = u->storage_bytes,
                                       .disk_bytes = u->disk_bytes}};
        r->total[CP_METER_REQUESTS] = u->requests;
        r->total[CP_METER_SEARCHES] = u->searches;
        r->total[CP_METER_WRITES] = u->writes;
        r->total[CP_METER_BYTES_IN] = u->bytes_in;
        r->total[CP_METER_BYTES_OUT] = u->bytes_out;
    }
}

static void
keep_key_used(fleet_node *node, const ort_heartbeat *beat)
{
    int64_t now = ort_wall_ms();

    for (size_t i = 0; i < beat->key_used_count; i++) {
        char id[ORT_TOKEN_ID_TEXT_BYTES];
        /* A node whose clock runs ahead must not make a key look used in the future. */
        int64_t at = beat->key_used[i].at_ms < now ? beat->key_used[i].at_ms : now;
        ort_key_id_format(beat->key_used[i].key, id);
        int64_t *kept = ort_map_get(node->key_used, id, sizeof id - 1);
        if (kept == NULL) {
            kept = malloc(sizeof *kept);
            if (kept == NULL ||
                ort_map_set(node->key_used, id, sizeof id - 1, kept, NULL) != ORT_OK) {
                free(kept);
                continue;
            }
            *kept = at;
        }
        *kept = at > *kept ? at : *kept;
    }
}

/* Lock held. */
static void
take_in_beat(cp_fleet *fleet, fleet_node *node, const ort_heartbeat *beat)
{
    node->seen_ns = ort_mono_ns();
    node->seen_at_ms = ort_wall_ms();
    node->seen_dirty = true;
    node->applied = beat->applied;
    node->load = (cp_fleet_status){.has_load = true,
                                   .cpu_ratio = beat->load.cpu_ratio,
                                   .memory_ratio = beat->load.memory_ratio,
                                   .disk_used_bytes = beat->load.disk_used_bytes,
                                   .disk_total_bytes = beat->load.disk_total_bytes,
                                   .queue_depth = beat->load.queue_depth,
                                   .used_bytes = beat->load.disk_used_bytes};
    keep_usage(node, beat);
    keep_key_used(node, beat);
    for (size_t i = 0; i < beat->gone_count; i++) {
        /* One that finds no memory comes again with the next beat. */
        if (ort_map_set(node->gone, &beat->gone[i].v, sizeof beat->gone[i].v, (void *)1, NULL) ==
            ORT_OK) {
            fleet->work_due = true;
        }
    }
    if (!node->is_ready) {
        node->ready_due = true;
        fleet->work_due = true;
    }
    if (fleet->work_due || node->shown != CP_HEALTH_UP) {
        pthread_cond_signal(&fleet->wake);
    }
    cp_fleet__check_restored(fleet, node->id, &beat->applied);
}

static void
note_nack(cp_fleet *fleet, fleet_node *node, const ort_heartbeat *beat)
{
    bool news = false;

    cp_push_nacked(fleet->listen.push, node->id, beat->nack.version, beat->nack.reason,
                   beat->nack.path);
    pthread_mutex_lock(&fleet->mutex);
    news = node->nack_version != beat->nack.version;
    node->nack_version = beat->nack.version;
    pthread_mutex_unlock(&fleet->mutex);
    if (news) {
        ORT_LOG_ERROR(&cp_fleet__log, "fleet.nack",
                      "node=%016" PRIx64 " version=%" PRIu64 " reason=%s path=%s err=%s",
                      node->id.v, beat->nack.version, beat->nack.reason, beat->nack.path,
                      ort_err_code(beat->nack.err));
    }
}

void
cp_fleet__heartbeat(cp_fleet *fleet, const ort_frame *frame, ort_buf *reply)
{
    ort_heartbeat beat = {0};
    ort_heartbeat_reply answer = {0};
    ort_buf body = {0};
    ort_diag diag = {0};
    fleet_word word = FLEET_FENCED;
    ort_err err = ort_heartbeat_decode(frame->body, frame->body_len, &beat, &diag);

    if (err != ORT_OK) {
        cp_fleet__refuse(fleet, frame, err, &diag, reply);
        return;
    }
    pthread_mutex_lock(&fleet->mutex);
    /* Nodes are never dropped from the registry while it listens: the pointer stays good. */
    fleet_node *node = cp_fleet__find(fleet, frame->node);
    word = cp_fleet__word(node, frame);
    fleet->stats.heartbeats_total++;
    fleet->stats.fenced_total += word == FLEET_FENCED;
    if (word == FLEET_NEW) {
        take_in_beat(fleet, node, &beat);
    }
    pthread_mutex_unlock(&fleet->mutex);
    if (word == FLEET_FENCED) {
        err = ort_fail(&diag, ORT_ESTALE, "another process speaks for this node, or a replay");
    } else if (word == FLEET_NEW) {
        cp_push_acked(fleet->listen.push, frame->node, &beat.applied);
        if (beat.has_nack) {
            note_nack(fleet, node, &beat);
        }
    }
    if (err == ORT_OK) {
        answer.hello = word == FLEET_HELLO;
        err = cp_push_newest(fleet->listen.push, frame->node, &beat.applied, &answer.newest,
                             &answer.fetch);
        err = err == ORT_ENOTFOUND ? ORT_OK : err; /* not in the tables yet */
    }
    if (err == ORT_OK) {
        err = ort_heartbeat_reply_encode(&answer, &body);
    }
    if (err == ORT_OK) {
        err = cp_fleet__reply(ORT_MSG_HEARTBEAT_REPLY, frame, frame->node, &body, reply);
    }
    if (err != ORT_OK) {
        cp_fleet__refuse(fleet, frame, err, &diag, reply);
    }
    ort_buf_fini(&body);
    ort_heartbeat_fini(&beat);
}

void
cp_fleet__fetch(cp_fleet *fleet, const ort_frame *frame, ort_buf *reply)
{
    ort_fetch ask = {0};
    ort_buf body = {0};
    ort_diag diag = {0};
    ort_err err = ort_fetch_decode(frame->body, frame->body_len, &ask, &diag);

    if (err == ORT_OK) {
        pthread_mutex_lock(&fleet->mutex);
        fleet_node *node = cp_fleet__find(fleet, frame->node);
        fleet_word word = cp_fleet__word(node, frame);
        fleet->stats.fetches_total++;
        fleet->stats.fenced_total += word == FLEET_FENCED;
        pthread_mutex_unlock(&fleet->mutex);
        if (word == FLEET_FENCED || word == FLEET_HELLO) {
            err = ort_fail(&diag, ORT_ESTALE, "another process speaks for this node, or a replay");
        }
    }
    if (err == ORT_OK) {
        err = cp_push_fetch(fleet->listen.push, frame->node, &ask, &body, &diag);
        err = err == ORT_ENOTFOUND ? ORT_OK : err; /* not in the tables yet: nothing to send */
    }
    if (err == ORT_OK) {
        err = cp_fleet__reply(ORT_MSG_FETCH_REPLY, frame, frame->node, &body, reply);
    }
    if (err != ORT_OK) {
        cp_fleet__refuse(fleet, frame, err, &diag, reply);
    }
    ort_buf_fini(&body);
}
