/* control-plane/fleet/fleet.c: the registry of nodes, its listeners, its numbers. */
#include "fleet/fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "crypto/x509.h"
#include "fleet/fleet_internal.h"
#include "store/nodes.h"

const ort_log cp_fleet__log = {"fleet"};

#define SUSPECT_MS 3000u
#define DEAD_MS 10000u
#define CERT_DAYS 825u

const char *
cp_health_name(cp_health health)
{
    static const char *const names[CP_HEALTH_COUNT] = {"never", "up", "suspect", "dead"};

    return names[health];
}

fleet_node *
cp_fleet__find(cp_fleet *fleet, ort_node_id id)
{
    return ort_map_get(fleet->nodes, &id.v, sizeof id.v);
}

static void
node_free(void *arg)
{
    fleet_node *node = arg;

    if (node == NULL) {
        return;
    }
    if (node->usage != NULL) {
        ort_map_free(node->usage, free);
    }
    if (node->key_used != NULL) {
        ort_map_free(node->key_used, free);
    }
    if (node->gone != NULL) {
        ort_map_free(node->gone, NULL);
    }
    free(node);
}

fleet_node *
cp_fleet__take_in(cp_fleet *fleet, ort_node_id id, const ort_sign_public *key)
{
    fleet_node *node = cp_fleet__find(fleet, id);

    if (node != NULL) {
        return node;
    }
    node = calloc(1, sizeof *node);
    if (node == NULL) {
        return NULL;
    }
    node->id = id;
    node->key = *key;
    if (ort_map_new(&node->usage) != ORT_OK || ort_map_new(&node->key_used) != ORT_OK ||
        ort_map_new(&node->gone) != ORT_OK ||
        ort_map_set(fleet->nodes, &id.v, sizeof id.v, node, NULL) != ORT_OK) {
        node_free(node);
        return NULL;
    }
    return node;
}

cp_health
cp_fleet__health(const cp_fleet *fleet, const fleet_node *node)
{
    if (node->seen_ns == 0) {
        return CP_HEALTH_NEVER;
    }
    uint64_t silent_ms = (ort_mono_ns() - node->seen_ns) / 1000000u;
    if (silent_ms < fleet->options.suspect_ms) {
        return CP_HEALTH_UP;
    }
    return silent_ms < fleet->options.dead_ms ? CP_HEALTH_SUSPECT : CP_HEALTH_DEAD;
}

typedef struct {
    cp_fleet *fleet;
    cp_tx *tx;
    ort_diag *diag;
} loader;

static ort_err
load_node(void *ctx, const cp_node *row)
{
    loader *l = ctx;
    cp_node_seen seen;
    fleet_node *node = cp_fleet__take_in(l->fleet, row->id, &row->key);

    if (node == NULL) {
        return ORT_ENOMEM;
    }
    node->is_removed = row->state == CP_NODE_REMOVED;
    node->is_ready = row->state != CP_NODE_JOINING;
    ort_err err = cp_node_seen_get(l->tx, row->id, &seen, l->diag);
    if (err == ORT_OK) {
        node->incarnation = seen.incarnation;
        node->seen_at_ms = seen.seen_at_ms;
        node->applied = (ort_table_at){.generation = seen.applied_generation,
                                       .version = seen.applied_version,
                                       .hash = seen.applied_hash};
        node->load.used_bytes = seen.used_bytes;
    }
    return err == ORT_ENOTFOUND ? ORT_OK : err;
}

ort_err
cp_fleet_new(cp_fleet **out, const cp_fleet_options *options, ort_diag *diag)
{
    cp_fleet *fleet = calloc(1, sizeof *fleet);
    loader l = {.fleet = fleet, .diag = diag};
    ort_err err = fleet != NULL ? ORT_OK : ORT_ENOMEM;

    *out = NULL;
    if (err != ORT_OK) {
        return err;
    }
    fleet->options = *options;
    fleet->options.suspect_ms = options->suspect_ms != 0 ? options->suspect_ms : SUSPECT_MS;
    fleet->options.dead_ms = options->dead_ms != 0 ? options->dead_ms : DEAD_MS;
    pthread_mutex_init(&fleet->mutex, NULL);
    ort_cond_init(&fleet->wake);
    err = ort_map_new(&fleet->nodes);
    if (err == ORT_OK) {
        err = cp_store_begin_read(options->store, &l.tx, diag);
    }
    if (err == ORT_OK) {
        err = cp_node_list(l.tx, true, (cp_page){0}, load_node, &l, diag);
    }
    cp_tx_end(l.tx);
    if (err != ORT_OK) {
        cp_fleet_free(fleet);
        return err;
    }
    *out = fleet;
    return ORT_OK;
}

void
cp_fleet_free(cp_fleet *fleet)
{
    if (fleet == NULL) {
        return;
    }
    cp_fleet_stop(fleet);
    if (fleet->nodes != NULL) {
        ort_map_free(fleet->nodes, node_free);
    }
    pthread_cond_destroy(&fleet->wake);
    pthread_mutex_destroy(&fleet->mutex);
    free(fleet);
}

/* ---- listening ---- */

static void
answer_join(void *arg, const void *request, size_t n, ort_buf *reply)
{
    cp_fleet_answer(arg, true, request, n, reply);
}

static void
answer_control(void *arg, const void *request, size_t n, ort_buf *reply)
{
    cp_fleet_answer(arg, false, request, n, reply);
}

static bool
is_tls(const char *url)
{
    return strncmp(url, "tls+", 4) == 0;
}

/* Tests run thousands of nodes over inproc, where there is no TLS and no port. */
static ort_err
make_cert(cp_fleet *fleet, ort_diag *diag)
{
    const cp_secrets *secrets = fleet->listen.secrets;
    char *csr = NULL;
    ort_err err = ort_x509_key_new(&fleet->key_pem, diag);

    if (err == ORT_OK) {
        err = ort_x509_csr_new(fleet->key_pem, &csr, diag);
    }
    if (err == ORT_OK) {
        err = ort_x509_issue(secrets->ca_pem, secrets->ca_key_pem, csr, ORT_X509_CONTROL_NAME,
                             CERT_DAYS, &fleet->cert_pem, diag);
    }
    ort_pem_free(csr);
    return err;
}

static bool
listens_everywhere(const char *url)
{
    return strstr(url, "://0.0.0.0:") != NULL || strstr(url, "://*:") != NULL ||
           strstr(url, "://[::]:") != NULL;
}

static void
announce(char out[ORT_MSG_URL_BYTES], const char *wanted, const char *listened)
{
    if (wanted == NULL || wanted[0] == '\0') {
        wanted = listens_everywhere(listened) ? "" : listened;
    }
    snprintf(out, ORT_MSG_URL_BYTES, "%s", wanted);
}

static ort_err
open_endpoints(cp_fleet *fleet, const ort_tls *tls, ort_diag *diag)
{
    const cp_fleet_listen_options *o = &fleet->listen;
    ort_tls first = *tls;
    ort_rep_options join = {.url = o->join_url,
                            .tls = is_tls(o->join_url) ? &first : NULL,
                            .plain_ok = o->plain_ok,
                            .handler = answer_join,
                            .arg = fleet,
                            .contexts = 64,
                            .threads = 2,
                            .queue_max = 64,
                            .recv_bytes_max = 64u << 10, /* a stranger sends a hello, no more */
                            .name = "join"};
    ort_rep_options control = {.url = o->control_url,
                               .tls = is_tls(o->control_url) ? tls : NULL,
                               .plain_ok = o->plain_ok,
                               .handler = answer_control,
                               .arg = fleet,
                               /* A change of the directory brings every node at once: who finds
                                * no context waits in its own connection, nobody is refused. */
                               .contexts = o->contexts != 0 ? o->contexts : 512,
                               .queue_max = o->contexts != 0 ? o->contexts : 512,
                               .threads = o->threads,
                               .name = "control"};
    ort_pub_options hints = {
        .url = o->hint_url, .tls = is_tls(o->hint_url) ? tls : NULL, .plain_ok = o->plain_ok};

    first.any_client = true;
    ort_err err = ort_pub_open(&fleet->hints, &hints, diag);
    if (err == ORT_OK) {
        announce(fleet->announce_hint, o->announce_hint_url, ort_pub_peek_url(fleet->hints));
        err = ort_rep_open(&fleet->control, &control, diag);
    }
    if (err == ORT_OK) {
        announce(fleet->announce_control, o->announce_control_url,
                 ort_rep_peek_url(fleet->control));
        /* Last: who joins is told of the other two. */
        err = ort_rep_open(&fleet->join, &join, diag);
    }
    return err;
}

ort_err
cp_fleet_listen(cp_fleet *fleet, const cp_fleet_listen_options *options, ort_diag *diag)
{
    ort_err err = ORT_OK;

    fleet->listen = *options;
    if (is_tls(options->join_url) || is_tls(options->control_url) || is_tls(options->hint_url)) {
        err = make_cert(fleet, diag);
    }
    ort_tls tls = {
        .ca_pem = options->secrets->ca_pem, .cert_pem = fleet->cert_pem, .key_pem = fleet->key_pem};
    if (err == ORT_OK) {
        err = open_endpoints(fleet, &tls, diag);
    }
    if (err == ORT_OK) {
        err = ort_thread_start(&fleet->monitor, "fleet", cp_fleet__monitor, fleet, diag);
        fleet->monitoring = err == ORT_OK;
    }
    return err;
}

void
cp_fleet_stop(cp_fleet *fleet)
{
    ort_rep_close(fleet->join);
    ort_rep_close(fleet->control);
    fleet->join = NULL;
    fleet->control = NULL;
    pthread_mutex_lock(&fleet->mutex);
    fleet->stopping = true;
    pthread_cond_broadcast(&fleet->wake);
    ort_pub *hints = fleet->hints;
    fleet->hints = NULL;
    pthread_mutex_unlock(&fleet->mutex);
    if (fleet->monitoring) {
        pthread_join(fleet->monitor, NULL);
        fleet->monitoring = false;
        cp_fleet__flush(fleet);
    }
    ort_pub_close(hints);
    ort_pem_free(fleet->cert_pem);
    ort_pem_free(fleet->key_pem);
    fleet->cert_pem = NULL;
    fleet->key_pem = NULL;
}

const char *
cp_fleet_peek_join_url(cp_fleet *fleet)
{
    return fleet->join != NULL ? ort_rep_peek_url(fleet->join) : "";
}

const char *
cp_fleet_peek_control_url(cp_fleet *fleet)
{
    return fleet->control != NULL ? ort_rep_peek_url(fleet->control) : "";
}

const char *
cp_fleet_peek_hint_url(cp_fleet *fleet)
{
    return fleet->hints != NULL ? ort_pub_peek_url(fleet->hints) : "";
}

void
cp_fleet_hint(void *arg, uint64_t generation, const ort_hint_entry *entries, size_t count)
{
    cp_fleet *fleet = arg;
    ort_buf body = {0};
    ort_buf frame = {0};
    ort_frame head = {.type = ORT_MSG_HINT};

    ort_err err = ort_hint_encode(generation, entries, count, &body);
    head.body = body.data;
    head.body_len = body.len;
    if (err == ORT_OK) {
        err = ort_frame_write(&head, NULL, &frame);
    }
    /* Under the lock, so that stop() cannot close it meanwhile; sending never waits. A hint that
     * is lost costs a heartbeat. */
    pthread_mutex_lock(&fleet->mutex);
    if (err == ORT_OK && fleet->hints != NULL) {
        err = ort_pub_send(fleet->hints, frame.data, frame.len);
        fleet->stats.hints_total += err == ORT_OK;
    }
    pthread_mutex_unlock(&fleet->mutex);
    if (err != ORT_OK) {
        ORT_LOG_WARN(&cp_fleet__log, "fleet.hint_failed", "err=%s", ort_err_code(err));
    }
    ort_buf_fini(&body);
    ort_buf_fini(&frame);
}

/* ---- numbers ---- */

bool
cp_fleet_is_healthy(void *ctx, ort_node_id id)
{
    cp_fleet *fleet = ctx;

    pthread_mutex_lock(&fleet->mutex);
    const fleet_node *node = cp_fleet__find(fleet, id);
    bool healthy = node != NULL && cp_fleet__health(fleet, node) == CP_HEALTH_UP;
    pthread_mutex_unlock(&fleet->mutex);
    return healthy;
}

void
cp_fleet_poke(cp_fleet *fleet)
{
    pthread_mutex_lock(&fleet->mutex);
    fleet->poked = true;
    pthread_cond_signal(&fleet->wake);
    pthread_mutex_unlock(&fleet->mutex);
}

void
cp_fleet_remove(cp_fleet *fleet, ort_node_id id)
{
    pthread_mutex_lock(&fleet->mutex);
    fleet_node *node = cp_fleet__find(fleet, id);
    if (node != NULL) {
        node->is_removed = true;
    }
    pthread_mutex_unlock(&fleet->mutex);
}

void
cp_fleet_status_of(cp_fleet *fleet, ort_node_id id, cp_fleet_status *out)
{
    *out = (cp_fleet_status){0};
    pthread_mutex_lock(&fleet->mutex);
    const fleet_node *node = cp_fleet__find(fleet, id);
    if (node != NULL) {
        *out = node->load;
        out->health = cp_fleet__health(fleet, node);
        out->incarnation = node->incarnation;
        out->seen_at_ms = node->seen_at_ms;
    }
    pthread_mutex_unlock(&fleet->mutex);
}

void
cp_fleet_stats_get(cp_fleet *fleet, cp_fleet_stats *out)
{
    size_t at = 0;
    void *value = NULL;

    pthread_mutex_lock(&fleet->mutex);
    *out = fleet->stats;
    while (ort_map_next(fleet->nodes, &at, NULL, NULL, &value)) {
        const fleet_node *node = value;
        if (!node->is_removed) {
            out->nodes[cp_fleet__health(fleet, node)]++;
        }
    }
    pthread_mutex_unlock(&fleet->mutex);
}
