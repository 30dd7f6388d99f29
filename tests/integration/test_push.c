/* The push, end to end: a real orthant-control, nodes simulated over real TLS sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/thread.h"
#include "crypto/token.h"
#include "support/control.h"
#include "support/sim_node.h"

/* How long what must happen is waited for: only what hangs takes so long. */
#define PATIENCE_MS 60000

/* The longest a request may wait for acknowledgements. */
#define ACK_MS_MAX 30000

typedef struct {
    control c;
    sim_node a; /* eu */
    sim_node b; /* us */
} hub;

static void
nap_ms(long ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

static void
make_region(hub *h, const char *name)
{
    char body[64];

    snprintf(body, sizeof body, "{\"name\":\"%s\"}", name);
    json_decref(control_json(&h->c, "POST", "/v1/regions", body, 201));
}

static void
join_token(hub *h, const char *region, char out[160])
{
    char body[64];

    snprintf(body, sizeof body, "{\"region\":\"%s\"}", region);
    json_t *json = control_json(&h->c, "POST", "/v1/join-tokens", body, 201);
    snprintf(out, 160, "%s", json_string_value(json_object_get(json, "token")));
    json_decref(json);
}

static void
join(hub *h, sim_node *n)
{
    char token[160];

    join_token(h, n->region, token);
    assert_int_equal(sim_node_join(n, h->c.join_url, token), ORT_OK);
    sim_node_sync(n);
}

static uint64_t
make_tenant(hub *h, const char *name, const char *region)
{
    char body[160];
    uint64_t id = 0;

    snprintf(body, sizeof body, "{\"name\":\"%s\",\"regions\":[\"%s\"]}", name, region);
    json_t *json = control_json(&h->c, "POST", "/v1/tenants", body, 201);
    const char *text = json_string_value(json_object_get(json, "id"));
    assert_int_equal(ort_id_parse(text, strlen(text), &id), ORT_OK);
    json_decref(json);
    return id;
}

static void
make_key(hub *h, const char *tenant, char id[32], char token[160])
{
    char path[128];

    snprintf(path, sizeof path, "/v1/tenants/%s/keys", tenant);
    json_t *json = control_json(&h->c, "POST", path, "{}", 201);
    snprintf(id, 32, "%s", json_string_value(json_object_get(json_object_get(json, "key"), "id")));
    snprintf(token, 160, "%s", json_string_value(json_object_get(json, "token")));
    json_decref(json);
}

/* Nodes reach their newest table. */
static void
wait_table(sim_node *n, uint64_t tenant, const char *part, bool there)
{
    uint64_t until = ort_mono_ms() + PATIENCE_MS;

    for (;;) {
        const char *text = sim_node_tenant(n, tenant);
        if (text != NULL && (strstr(text, part) != NULL) == there) {
            return;
        }
        if (ort_mono_ms() > until) {
            fail_msg("'%s' %s after a minute: %s", part, there ? "is not there" : "is there",
                     text != NULL ? text : "(no entry)");
        }
        sim_node_sync(n);
        nap_ms(5);
    }
}

static int
setup(void **state)
{
    hub *h = calloc(1, sizeof *h);

    control_start(&h->c, NULL);
    make_region(h, "eu");
    make_region(h, "us");
    sim_node_init(&h->a, "node-a", "eu");
    sim_node_init(&h->b, "node-b", "us");
    *state = h;
    return 0;
}

static int
teardown(void **state)
{
    hub *h = *state;

    sim_node_fini(&h->a);
    sim_node_fini(&h->b);
    control_remove(&h->c);
    free(h);
    return 0;
}

/* ---- joining ---- */

static void
a_node_joins_once_with_its_token_and_is_listed(void **state)
{
    hub *h = *state;
    char token[160];

    join_token(h, "eu", token);
    assert_int_equal(sim_node_join(&h->a, h->c.join_url, token), ORT_OK);
    sim_node_sync(&h->a);
    sim_node_sync(&h->a);
    json_t *json = control_json(&h->c, "GET", "/v1/nodes", NULL, 200);
    json_t *node = json_array_get(json_object_get(json, "items"), 0);
    assert_string_equal(json_string_value(json_object_get(node, "health")), "up");
    assert_int_equal(json_integer_value(json_object_get(node, "lag_versions")), 0);
    assert_true(json_integer_value(json_object_get(node, "applied_version")) > 0);
    json_decref(json);

    /* The same token in other hands. */
    sim_node thief;
    sim_node_init(&thief, "thief", "eu");
    assert_int_equal(sim_node_join(&thief, h->c.join_url, token), ORT_EAUTH);
    sim_node_fini(&thief);
    /* By the same node it is a reply that was lost: the same id. */
    ort_node_id id = h->a.id;
    assert_int_equal(sim_node_join(&h->a, h->c.join_url, token), ORT_OK);
    assert_int_equal(h->a.id.v, id.v);
}

static void
tokens_that_are_foreign_cut_or_for_another_region_let_nobody_in(void **state)
{
    hub *h = *state;
    char token[160];
    ort_token foreign;
    char text[ORT_TOKEN_TEXT_BYTES];
    unsigned char ca[ORT_TOKEN_CA_BYTES];
    sim_node n;

    join_token(h, "us", token);
    sim_node_init(&n, "node-x", "eu");
    assert_int_equal(sim_node_join(&n, h->c.join_url, token), ORT_EREGION);
    sim_node_fini(&n);

    /* Well formed, with this hub's fingerprint, but never issued by it. */
    assert_int_equal(ort_token_parse(token, strlen(token), &foreign), ORT_OK);
    memcpy(ca, foreign.ca, sizeof ca);
    ort_token_make(&foreign, ORT_TOKEN_JOIN, (ort_tenant_id){0}, ca);
    ort_token_format(&foreign, text);
    sim_node_init(&n, "node-y", "us");
    assert_int_equal(sim_node_join(&n, h->c.join_url, text), ORT_EAUTH);
    token[strlen(token) - 3] = '\0';
    assert_int_equal(sim_node_join(&n, h->c.join_url, token), ORT_EAUTH);
    sim_node_fini(&n);
}

/* ---- tables ---- */

static void
a_tenant_made_before_any_node_is_placed_when_one_joins(void **state)
{
    hub *h = *state;
    uint64_t acme = make_tenant(h, "acme", "eu");

    join(h, &h->b); /* of another region: not this one */
    nap_ms(300);
    sim_node_sync(&h->b);
    assert_null(sim_node_tenant(&h->b, acme));
    join(h, &h->a);
    wait_table(&h->a, acme, "\"acme\"", true);
    json_t *json = control_json(&h->c, "GET", "/v1/tenants/acme/placement", NULL, 200);
    assert_string_equal(json_string_value(json_object_get(json, "region")), "eu");
    json_decref(json);
    sim_node_sync(&h->b);
    assert_non_null(sim_node_directory(&h->b, acme));
}

static void
a_new_key_is_hinted_at_and_its_hash_travels_to_the_home_node_alone(void **state)
{
    hub *h = *state;
    char id[32];
    char text[160];
    ort_token token;
    ort_hash hash;
    char hex[ORT_HASH_TEXT_BYTES];

    join(h, &h->a);
    join(h, &h->b);
    uint64_t acme = make_tenant(h, "acme", "eu");
    wait_table(&h->a, acme, "\"acme\"", true);
    while (sim_node_hinted(&h->a, 100)) {
    }
    make_key(h, "acme", id, text);
    assert_true(sim_node_hinted(&h->a, PATIENCE_MS));
    sim_node_sync(&h->a);
    assert_int_equal(ort_token_parse(text, strlen(text), &token), ORT_OK);
    ort_token_hash(&token, h->a.pepper, &hash);
    ort_hash_format(&hash, hex);
    assert_non_null(strstr(sim_node_tenant(&h->a, acme), hex));
    sim_node_sync(&h->b);
    assert_null(sim_node_tenant(&h->b, acme));
    assert_null(strstr(sim_node_directory(&h->b, acme), id));
}

/* A node that does what nodes do, until told to stop. */
typedef struct {
    sim_node *node;
    atomic_bool *stop;
} life;

static void *
live(void *arg)
{
    life *l = arg;

    while (!atomic_load(l->stop)) {
        (void)sim_node_hinted(l->node, 200);
        sim_node_sync(l->node);
    }
    return NULL;
}

static int
by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

/* A revocation that waits is answered when the node has it, and not before. How long that takes is
 * printed here and measured by tests/bench/bench_revoke.c. */
static void
a_revocation_waits_for_the_nodes(void **state)
{
    hub *h = *state;
    enum { ROUNDS = 10 };
    double ms[ROUNDS];
    atomic_bool stop = false;
    pthread_t thread;
    char id[32];
    char token[160];
    char path[160];

    join(h, &h->a);
    join(h, &h->b);
    uint64_t acme = make_tenant(h, "acme", "eu");
    wait_table(&h->a, acme, "\"acme\"", true);
    life l = {&h->a, &stop};
    assert_int_equal(ort_thread_start(&thread, "node", live, &l, NULL), ORT_OK);
    for (int i = 0; i < ROUNDS; i++) {
        make_key(h, "acme", id, token);
        nap_ms(60); /* grants wait 20 ms for each other: let the node have it first */
        snprintf(path, sizeof path, "/v1/tenants/acme/keys/%s?wait=acked&timeout_ms=%d", id,
                 ACK_MS_MAX);
        json_t *json = control_json(&h->c, "DELETE", path, NULL, 200);
        assert_true(json_is_true(json_object_get(json, "complete")));
        json_t *acks = json_object_get(json, "acks");
        assert_int_equal(json_array_size(acks), 1);
        json_t *ack = json_array_get(acks, 0);
        char node[ORT_ID_TEXT_BYTES];
        ort_id_format(h->a.id.v, node);
        assert_string_equal(json_string_value(json_object_get(ack, "node")), node);
        assert_true(json_is_string(json_object_get(ack, "at")));
        ms[i] = json_number_value(json_object_get(ack, "after_ms"));
        json_decref(json);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    sim_node_sync(&h->a);
    assert_null(strstr(sim_node_tenant(&h->a, acme), id));
    qsort(ms, ROUNDS, sizeof ms[0], by_value);
    print_message("revoke to ack, %d rounds: p50 %.1f ms, max %.1f ms\n", ROUNDS, ms[ROUNDS / 2],
                  ms[ROUNDS - 1]);
    assert_true(ms[0] > 0.0);
}

/* Revoking is done whether nodes answer or not; only the answer differs. */
static void
a_revocation_with_a_silent_node_says_that_it_is_not_complete(void **state)
{
    hub *h = *state;
    char id[32];
    char token[160];
    char path[160];

    join(h, &h->a);
    uint64_t acme = make_tenant(h, "acme", "eu");
    wait_table(&h->a, acme, "\"acme\"", true);
    make_key(h, "acme", id, token);
    wait_table(&h->a, acme, id, true);
    snprintf(path, sizeof path, "/v1/tenants/acme/keys/%s?wait=acked&timeout_ms=300", id);
    json_t *json = control_json(&h->c, "DELETE", path, NULL, 200);
    assert_true(json_is_false(json_object_get(json, "complete")));
    json_t *ack = json_array_get(json_object_get(json, "acks"), 0);
    assert_true(json_is_false(json_object_get(ack, "acked")));
    json_decref(json);
    wait_table(&h->a, acme, id, false);
    snprintf(path, sizeof path, "/v1/tenants/acme/keys/%s?wait=acked&timeout_ms=%d", id,
             ACK_MS_MAX);
    json = control_json(&h->c, "DELETE", path, NULL, 200);
    assert_true(json_is_true(json_object_get(json, "complete")));
    json_decref(json);
}

static void
suspending_and_lowering_a_limit_reach_the_table(void **state)
{
    hub *h = *state;

    join(h, &h->a);
    uint64_t acme = make_tenant(h, "acme", "eu");
    wait_table(&h->a, acme, "\"state\":\"active\"", true);
    json_decref(control_json(&h->c, "POST", "/v1/tenants/acme/suspend", NULL, 200));
    wait_table(&h->a, acme, "\"state\":\"suspended\"", true);
    json_decref(control_json(&h->c, "POST", "/v1/tenants/acme/resume", NULL, 200));
    wait_table(&h->a, acme, "\"state\":\"active\"", true);
    const char *any[] = {"If-Match: *", NULL};
    control_reply reply = control_call(&h->c, "PUT", "/v1/tenants/acme/quota", NULL, any,
                                       "{\"overrides\":{\"max_vectors\":5}}");
    assert_int_equal(reply.status, 200);
    control_reply_free(&reply);
    wait_table(&h->a, acme, "\"max_vectors\":5,", true);
    reply = control_call(&h->c, "PATCH", "/v1/plans/default", NULL, any,
                         "{\"limits\":{\"max_collections\":3}}");
    assert_int_equal(reply.status, 200);
    control_reply_free(&reply);
    wait_table(&h->a, acme, "\"max_collections\":3,", true);
}

/* ---- who speaks for a node ---- */

static void
a_second_process_with_a_higher_incarnation_fences_the_first(void **state)
{
    hub *h = *state;

    join(h, &h->a);
    sim_node copy = h->a; /* a copied directory: the same key and id */
    copy.req = NULL;
    copy.sub = NULL;
    copy.table = NULL;
    copy.ca_pem = strdup(h->a.ca_pem);
    copy.cert_pem = strdup(h->a.cert_pem);
    copy.key_pem = strdup(h->a.key_pem);
    copy.at = (ort_table_at){0};
    sim_node_connect(&copy);
    assert_int_equal(sim_node_hello(&copy, true), ORT_OK);
    sim_node_sync(&copy);
    assert_int_equal(sim_node_beat(&h->a, NULL, NULL), ORT_ESTALE);
    assert_int_equal(sim_node_hello(&h->a, false), ORT_ESTALE);
    bool some = false;
    assert_int_equal(sim_node_fetch(&h->a, false, &some), ORT_ESTALE);
    assert_int_equal(sim_node_beat(&copy, NULL, NULL), ORT_OK);
    sim_node_fini(&copy);
}

static void
replays_forgeries_and_garbage_are_refused(void **state)
{
    hub *h = *state;
    ort_err err = ORT_OK;
    ort_buf body = {0};
    ort_buf old = {0};
    ort_heartbeat beat = {0};

    join(h, &h->a);
    assert_int_equal(ort_heartbeat_encode(&beat, &body), ORT_OK);
    sim_node_frame(&h->a, ORT_MSG_HEARTBEAT, &body, &old);
    for (int i = 0; i < 70; i++) {
        assert_int_equal(sim_node_beat(&h->a, NULL, NULL), ORT_OK);
    }
    assert_int_equal(sim_node_raw(&h->a, old.data, old.len, &err), ORT_MSG_ERROR);
    assert_int_equal(err, ORT_ESTALE);

    /* One bit of the body: the signature does not hold. */
    ort_buf frame = {0};
    sim_node_frame(&h->a, ORT_MSG_HEARTBEAT, &body, &frame);
    frame.data[ORT_FRAME_HEAD_BYTES + 2] ^= 1;
    assert_int_equal(sim_node_raw(&h->a, frame.data, frame.len, &err), ORT_MSG_ERROR);
    assert_int_equal(err, ORT_EAUTH);
    assert_int_equal(sim_node_raw(&h->a, "garbage", 7, &err), ORT_MSG_ERROR);
    assert_int_equal(err, ORT_EFORMAT);
    assert_int_equal(sim_node_raw(&h->a, old.data, ORT_FRAME_HEAD_BYTES - 1, &err), ORT_MSG_ERROR);

    /* Another node's name over its own key. */
    ort_node_id mine = h->a.id;
    h->a.id.v ^= 2;
    assert_int_equal(sim_node_beat(&h->a, NULL, NULL), ORT_EAUTH);
    h->a.id = mine;
    assert_int_equal(sim_node_beat(&h->a, NULL, NULL), ORT_OK);
    ort_buf_fini(&frame);
    ort_buf_fini(&old);
    ort_buf_fini(&body);
}

/* ---- health, deletion, usage ---- */

static bool
is_health(hub *h, const char *health)
{
    char path[64];
    char id[ORT_ID_TEXT_BYTES];

    ort_id_format(h->a.id.v, id);
    snprintf(path, sizeof path, "/v1/nodes/%s", id);
    json_t *json = control_json(&h->c, "GET", path, NULL, 200);
    bool is = strcmp(json_string_value(json_object_get(json, "health")), health) == 0;
    json_decref(json);
    return is;
}

static void
wait_dead(hub *h)
{
    const uint64_t until = ort_mono_ms() + PATIENCE_MS;

    while (!is_health(h, "dead")) {
        assert_true(ort_mono_ms() < until);
        nap_ms(20);
    }
}

/* The node has just been heard. Whether it is seen up, then suspect, and then dead without a beat
 * between: on a slow machine one of them may be over before it is looked at. */
static bool
falls_silent(hub *h)
{
    if (!is_health(h, "up")) {
        return false;
    }
    while (is_health(h, "up")) {
        nap_ms(20);
    }
    if (!is_health(h, "suspect")) {
        return false;
    }
    wait_dead(h);
    return true;
}

static void
reconnect(hub *h)
{
    snprintf(h->a.control_url, sizeof h->a.control_url, "%s", h->c.control_url);
    snprintf(h->a.hint_url, sizeof h->a.hint_url, "%s", h->c.hint_url);
    sim_node_connect(&h->a);
    sim_node_sync(&h->a);
}

static void
a_silent_node_is_suspect_then_dead_and_gets_no_new_tenants(void **state)
{
    hub *h = *state;
    bool seen = false;

    join(h, &h->a);
    for (unsigned suspect_ms = 500; !seen && suspect_ms <= 12500; suspect_ms *= 5) {
        char suspect[40], dead[40];
        const char *const quick[] = {suspect, dead, NULL};
        snprintf(suspect, sizeof suspect, "--hub.suspect_ms=%u", suspect_ms);
        snprintf(dead, sizeof dead, "--hub.dead_ms=%u", 2 * suspect_ms);
        control_stop(&h->c);
        control_start(&h->c, quick);
        reconnect(h);
        seen = falls_silent(h);
    }
    assert_true(seen);
    uint64_t acme = make_tenant(h, "acme", "eu");
    json_t *json = control_json(&h->c, "GET", "/v1/tenants/acme/placement", NULL, 200);
    assert_true(json_is_null(json_object_get(json, "node")));
    json_decref(json);
    /* Heard again, it is up and gets what waits for it. */
    const uint64_t until = ort_mono_ms() + PATIENCE_MS;
    do {
        assert_true(ort_mono_ms() < until);
        sim_node_sync(&h->a);
    } while (!is_health(h, "up"));
    wait_table(&h->a, acme, "\"acme\"", true);
}

static void
a_tenant_is_deleted_when_every_node_has_reported_it_gone(void **state)
{
    hub *h = *state;
    const char *any[] = {"If-Match: *", NULL};

    join(h, &h->a);
    uint64_t acme = make_tenant(h, "acme", "eu");
    wait_table(&h->a, acme, "\"acme\"", true);
    control_reply reply = control_call(&h->c, "DELETE", "/v1/tenants/acme", NULL, any, NULL);
    assert_int_equal(reply.status, 202);
    control_reply_free(&reply);
    wait_table(&h->a, acme, "\"state\":\"deleting\"", true);
    assert_non_null(strstr(sim_node_tenant(&h->a, acme), "\"keys\":{}"));
    json_t *json = control_json(&h->c, "GET", "/v1/tenants/acme", NULL, 200);
    assert_string_equal(json_string_value(json_object_get(json, "state")), "deleting");
    json_decref(json);
    ort_tenant_id gone[] = {{acme}};
    h->a.gone = gone;
    h->a.gone_count = 1;
    const uint64_t until = ort_mono_ms() + PATIENCE_MS;
    do {
        sim_node_sync(&h->a);
        nap_ms(10);
    } while (sim_node_tenant(&h->a, acme) != NULL && ort_mono_ms() < until);
    assert_null(sim_node_tenant(&h->a, acme));
    assert_null(sim_node_directory(&h->a, acme));
    control_refused(&h->c, "GET", "/v1/tenants/acme", NULL, NULL, 404, "not-found");
    /* The name is free again. */
    (void)make_tenant(h, "acme", "eu");
}

/* Beats until the store has the usage that the node tells of a tenant. */
static void
beat_until_used(hub *h, const char *tenant)
{
    const uint64_t until = ort_mono_ms() + PATIENCE_MS;
    char path[64];
    bool used = false;

    snprintf(path, sizeof path, "/v1/tenants/%s/quota", tenant);
    while (!used) {
        assert_true(ort_mono_ms() < until);
        assert_int_equal(sim_node_beat(&h->a, NULL, NULL), ORT_OK);
        json_t *json = control_json(&h->c, "GET", path, NULL, 200);
        used = json_integer_value(json_object_get(json_object_get(json, "usage"), "requests")) > 0;
        json_decref(json);
        nap_ms(50);
    }
}

static void
usage_and_last_use_reach_the_store_and_repeats_add_nothing(void **state)
{
    hub *h = *state;
    char id[32];
    char text[160];
    char path[128];
    ort_token token;

    join(h, &h->a);
    uint64_t acme = make_tenant(h, "acme", "eu");
    uint64_t globex = make_tenant(h, "globex", "eu");
    wait_table(&h->a, globex, "\"globex\"", true);
    make_key(h, "acme", id, text);
    assert_int_equal(ort_token_parse(text, strlen(text), &token), ORT_OK);
    ort_usage usage[] = {{.tenant = {acme},
                          .points = 7,
                          .storage_bytes = 1000,
                          .disk_bytes = 3000,
                          .collections = 2,
                          .requests = 50,
                          .searches = 30,
                          .writes = 20,
                          .bytes_in = 500,
                          .bytes_out = 600},
                         {.tenant = {globex}, .requests = 1}};
    ort_key_used used[] = {{.key = token.id, .at_ms = ort_wall_ms()}};
    h->a.usage = usage;
    h->a.usage_count = 1;
    h->a.key_used = used;
    h->a.key_used_count = 1;
    beat_until_used(h, "acme");
    json_t *json = control_json(&h->c, "GET", "/v1/tenants/acme/quota", NULL, 200);
    json_t *now = json_object_get(json, "usage");
    assert_int_equal(json_integer_value(json_object_get(now, "vectors")), 7);
    assert_int_equal(json_integer_value(json_object_get(now, "storage_bytes")), 1000);
    assert_int_equal(json_integer_value(json_object_get(now, "disk_bytes")), 3000);
    assert_int_equal(json_integer_value(json_object_get(now, "collections")), 2);
    json_decref(json);
    /* The same totals again, and again after a restart of the control plane. What comes with them
     * is in the store when they are. */
    control_kill(&h->c);
    control_start(&h->c, NULL);
    reconnect(h);
    h->a.usage_count = 2;
    beat_until_used(h, "globex");
    json = control_json(&h->c, "GET", "/v1/tenants/acme/usage", NULL, 200);
    json_t *hour = json_array_get(json_object_get(json, "items"), 0);
    assert_int_equal(json_integer_value(json_object_get(hour, "requests")), 50);
    assert_int_equal(json_integer_value(json_object_get(hour, "searches")), 30);
    assert_int_equal(json_integer_value(json_object_get(hour, "bytes_out")), 600);
    json_decref(json);
    snprintf(path, sizeof path, "/v1/tenants/acme/keys/%s", id);
    json = control_json(&h->c, "GET", path, NULL, 200);
    assert_true(json_is_string(json_object_get(json, "last_used_at")));
    json_decref(json);
}

/* ---- restart, restore ---- */

static void
after_kill_minus_nine_a_node_that_has_it_all_fetches_no_whole_table(void **state)
{
    hub *h = *state;

    join(h, &h->a);
    uint64_t acme = make_tenant(h, "acme", "eu");
    wait_table(&h->a, acme, "\"acme\"", true);
    unsigned wholes = h->a.wholes;
    control_kill(&h->c);
    control_start(&h->c, NULL);
    reconnect(h);
    assert_int_equal(h->a.wholes, wholes);
    json_decref(control_json(&h->c, "POST", "/v1/tenants/acme/suspend", NULL, 200));
    wait_table(&h->a, acme, "\"suspended\"", true);
    assert_int_equal(h->a.wholes, wholes);
}

static void
a_table_the_hub_never_made_is_taken_as_a_restored_backup(void **state)
{
    hub *h = *state;

    join(h, &h->a);
    assert_int_equal(h->a.at.generation, 1);
    h->a.at.version += 1000; /* as if the store were older than the node */
    bool fetch = false;
    const uint64_t until = ort_mono_ms() + PATIENCE_MS;
    while (!(fetch && h->a.newest.generation == 2) && ort_mono_ms() < until) {
        assert_int_equal(sim_node_beat(&h->a, &fetch, NULL), ORT_OK);
        nap_ms(10);
    }
    assert_int_equal(h->a.newest.generation, 2);
    sim_node_sync(&h->a);
    assert_int_equal(h->a.at.generation, 2);
    json_t *json = control_json(&h->c, "GET", "/v1/hub", NULL, 200);
    assert_int_equal(json_integer_value(json_object_get(json, "generation")), 2);
    json_decref(json);
}

static void
a_refused_table_is_shown_and_not_offered_again(void **state)
{
    hub *h = *state;
    bool fetch = false;
    char path[64];
    char id[ORT_ID_TEXT_BYTES];

    join(h, &h->a);
    ort_table_at before = h->a.at;
    uint64_t acme = make_tenant(h, "acme", "eu");
    const uint64_t until = ort_mono_ms() + PATIENCE_MS;
    while (!fetch && ort_mono_ms() < until) {
        assert_int_equal(sim_node_beat(&h->a, &fetch, NULL), ORT_OK);
        nap_ms(10);
    }
    bool some = false;
    assert_int_equal(sim_node_fetch(&h->a, true, &some), ORT_OK);
    assert_true(some);
    /* It took the whole table and did not like it. */
    h->a.nack_version = h->a.at.version;
    h->a.nack_reason = "invalid";
    ort_table_at refused = h->a.at;
    h->a.at = before;
    assert_int_equal(sim_node_beat(&h->a, &fetch, NULL), ORT_OK);
    assert_int_equal(sim_node_beat(&h->a, &fetch, NULL), ORT_OK);
    assert_false(fetch);
    ort_id_format(h->a.id.v, id);
    snprintf(path, sizeof path, "/v1/nodes/%s", id);
    json_t *json = control_json(&h->c, "GET", path, NULL, 200);
    json_t *nack = json_object_get(json, "nack");
    assert_string_equal(json_string_value(json_object_get(nack, "code")), "invalid");
    assert_int_equal((uint64_t)json_integer_value(json_object_get(nack, "version")),
                     refused.version);
    json_decref(json);
    /* Content that is new is offered. */
    json_decref(control_json(&h->c, "POST", "/v1/tenants/acme/suspend", NULL, 200));
    h->a.nack_reason = NULL;
    wait_table(&h->a, acme, "\"suspended\"", true);
}

static void
a_removed_node_is_denied(void **state)
{
    hub *h = *state;
    char path[64];
    char id[ORT_ID_TEXT_BYTES];

    join(h, &h->a);
    ort_id_format(h->a.id.v, id);
    snprintf(path, sizeof path, "/v1/nodes/%s", id);
    json_decref(control_json(&h->c, "DELETE", path, NULL, 204));
    assert_int_equal(sim_node_beat(&h->a, NULL, NULL), ORT_EDENIED);
    assert_int_equal(sim_node_hello(&h->a, true), ORT_EDENIED);
    control_refused(&h->c, "GET", path, NULL, NULL, 404, "not-found");
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_node_joins_once_with_its_token_and_is_listed),
        TEST(tokens_that_are_foreign_cut_or_for_another_region_let_nobody_in),
        TEST(a_tenant_made_before_any_node_is_placed_when_one_joins),
        TEST(a_new_key_is_hinted_at_and_its_hash_travels_to_the_home_node_alone),
        TEST(a_revocation_waits_for_the_nodes),
        TEST(a_revocation_with_a_silent_node_says_that_it_is_not_complete),
        TEST(suspending_and_lowering_a_limit_reach_the_table),
        TEST(a_second_process_with_a_higher_incarnation_fences_the_first),
        TEST(replays_forgeries_and_garbage_are_refused),
        TEST(a_silent_node_is_suspect_then_dead_and_gets_no_new_tenants),
        TEST(a_tenant_is_deleted_when_every_node_has_reported_it_gone),
        TEST(usage_and_last_use_reach_the_store_and_repeats_add_nothing),
        TEST(after_kill_minus_nine_a_node_that_has_it_all_fetches_no_whole_table),
        TEST(a_table_the_hub_never_made_is_taken_as_a_restored_backup),
        TEST(a_refused_table_is_shown_and_not_offered_again),
        TEST(a_removed_node_is_denied),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
