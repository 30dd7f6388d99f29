/* The node's half of the push against a small real control plane (hub_harness.h): what is lost,
 * doubled, reordered, forged or old, and what is left after a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "hub_harness.h"
#include "routing/agent.h"
#include "support/scratch.h"

#define T1 "0000000000000001"
#define T2 "0000000000000002"
#define N1 "00000000000000a1"
#define TENANT(state, epoch) \
    "{\"name\":\"t\",\"state\":\"" state "\",\"epoch\":" epoch ",\"limits\":{},\"keys\":{}}"

/* ---- a node ---- */

typedef struct {
    char dir[64];
    int dir_fd;
    dp_routes *routes;
    dp_agent *agent;
    atomic_uint tables_seen;
    atomic_uint collected;
} node;

static void
on_table(void *arg, const dp_table *old_table, const dp_table *new_table)
{
    node *n = arg;
    const ort_table_at was = dp_table_at(old_table), is = dp_table_at(new_table);
    if (ort_table_at_cmp(&was, &is) < 0) {
        atomic_fetch_add(&n->tables_seen, 1);
    }
}

static void
collect(void *arg, ort_heartbeat *beat)
{
    node *n = arg;
    atomic_fetch_add(&n->collected, 1);
    beat->load.cpu_ratio = 0.5;
    beat->usage = calloc(1, sizeof *beat->usage);
    if (beat->usage != NULL) {
        beat->usage[0].tenant.v = 1;
        beat->usage_count = 1;
    }
}

static void
node_init(node *n)
{
    *n = (node){.agent = NULL};
    scratch_dir(n->dir, sizeof n->dir, "ort-agent");
    n->dir_fd = open(n->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(n->dir_fd >= 0);
}

static ort_err
node_try(node *n, hub *h, const char *token, ort_diag *diag)
{
    const dp_agent_options o = {
        .dir_fd = n->dir_fd,
        .join_url = h->join_url,
        .join_token = token,
        .plain_ok = !h->tls,
        .name = "node-a",
        .region = "eu-central",
        .zone = "a",
        .endpoint = "http://127.0.0.1:6333",
        .forward_url = "",
        .software = "test",
        .beat_ms = 100,
        .owner = {.arg = n, .on_table = on_table, .collect = collect},
    };
    if (n->routes == NULL) {
        assert_int_equal(dp_routes_new(&n->routes), ORT_OK);
    }
    return dp_agent_start(&n->agent, n->routes, &o, diag);
}

static void
node_up(node *n, hub *h)
{
    ort_diag diag = {""};
    if (node_try(n, h, h->token, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
}

static void
node_down(node *n)
{
    dp_agent_stop(n->agent);
    dp_routes_free(n->routes);
    n->agent = NULL;
    n->routes = NULL;
}

static void
node_fini(node *n)
{
    if (n->agent != NULL) {
        node_down(n);
    }
    close(n->dir_fd);
    scratch_remove(n->dir);
}

static dp_agent_stats
stats_of(node *n)
{
    dp_agent_stats s;
    dp_agent_stats_get(n->agent, &s);
    return s;
}

/* The epoch of tenant 1 as requests see it; -1: no such tenant. */
static int64_t
epoch_of(node *n)
{
    const dp_table *t = dp_routes_acquire(n->routes);
    const dp_tenant_entry *e = dp_table_tenant(t, (ort_tenant_id){1});
    const int64_t epoch = e != NULL ? (int64_t)e->epoch : -1;
    dp_table_release(t);
    return epoch;
}

static void
wait_for(node *n, bool (*done)(const dp_agent_stats *))
{
    const uint64_t end = ort_mono_ms() + 60000;
    while (ort_mono_ms() < end) {
        const dp_agent_stats s = stats_of(n);
        if (done(&s)) {
            return;
        }
        usleep(2000);
    }
    fail_msg("waited too long");
}

static bool
is_reachable(const dp_agent_stats *s)
{
    return s->control_reachable;
}

static void
same_state(node *n, hub *h)
{
    ort_hash want;
    const dp_agent_stats s = stats_of(n);
    ort_table_hash(h->tables[h->version], &want);
    assert_true(s.applied.version == h->version);
    assert_true(ort_hash_equal(&s.applied.hash, &want));
}

/* ---- following ---- */

static void
follow(bool tls)
{
    hub h;
    node n;
    hub_init(&h, tls);
    hub_up(&h);
    node_init(&n);
    node_up(&n, &h);
    hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "1") "}}");
    hub_wait_acked(&h, 1);
    assert_int_equal(epoch_of(&n), 1);
    hub_wait_acked(&h, hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "2") "}}"));
    assert_int_equal(epoch_of(&n), 2);
    hub_wait_acked(&h, hub_change(&h, "{\"tenants\":{\"" T1 "\":null}}"));
    assert_int_equal(epoch_of(&n), -1);
    wait_for(&n, is_reachable); /* a beat may just have been too late, on a slow machine */
    const dp_agent_stats s = stats_of(&n);
    assert_true(s.joined && s.node.v == 0xa1 && s.hub_id == 0x4b);
    assert_true(s.applied_total == 3 && s.lag_versions == 0);
    assert_in_range(s.age_ms, 0, 600000); /* of this moment, not of 1970 */
    assert_int_equal(atomic_load(&n.tables_seen), 3);
    assert_true(atomic_load(&n.collected) > 0);
    assert_int_equal(h.bad_signatures, 0);

    /* The pepper came with the join: a key made at the hub is known here. */
    ort_token token;
    dp_key key = {0};
    ort_token_make(&token, ORT_TOKEN_LIVE, (ort_tenant_id){1}, NULL);
    ort_token_hash(&token, h.pepper, &key.hash);
    assert_true(dp_routes_key_matches(n.routes, &key, &token));
    ort_tls material;
    assert_int_equal(dp_agent_tls(n.agent, &material), tls ? ORT_OK : ORT_EBUSY);
    node_fini(&n);
    hub_fini(&h);
}

static void
a_node_joins_and_follows(void **state)
{
    (void)state;
    follow(false);
}

static void
a_node_joins_and_follows_over_tls(void **state)
{
    (void)state;
    follow(true);
}

/* Hints may all be lost: the beat's answer names the newest version. */
static void
without_hints_beats_find_out(void **state)
{
    (void)state;
    hub h;
    node n;
    hub_init(&h, false);
    hub_up(&h);
    h.mute_hints = true;
    node_init(&n);
    node_up(&n, &h);
    for (int i = 0; i < 3; i++) {
        hub_wait_acked(&h, hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "1") "}}"));
    }
    assert_true(stats_of(&n).hints_total == 0);
    node_fini(&n);
    hub_fini(&h);
}

/* Thousands of hints a second, most of them about what is known already: the node ends at the
 * newest version, and has asked for tables, not for each hint. */
static void
a_flood_of_hints_costs_few_fetches(void **state)
{
    (void)state;
    hub h;
    node n;
    ort_buf hint = {0}, frame = {0};
    hub_init(&h, false);
    hub_up(&h);
    node_init(&n);
    node_up(&n, &h);
    hub_wait_acked(&h, hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "1") "}}"));
    const ort_hint_entry entry = {h.node, 1};
    assert_int_equal(ort_hint_encode(h.generation, &entry, 1, &hint), ORT_OK);
    assert_int_equal(
        ort_frame_write(&(ort_frame){.type = ORT_MSG_HINT, .body = hint.data, .body_len = hint.len},
                        NULL, &frame),
        ORT_OK);
    const uint64_t before = stats_of(&n).fetches_total;
    uint64_t last = 1;
    for (int i = 0; i < 20000; i++) {
        assert_int_equal(ort_pub_send(h.hints, frame.data, frame.len), ORT_OK);
        (void)!ort_pub_send(h.hints, frame.data, (size_t)i % frame.len); /* and cut ones */
        if (i % 1000 == 0) {
            last = hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "2") "}}");
        }
    }
    hub_wait_acked(&h, last);
    same_state(&n, &h);
    assert_in_range(stats_of(&n).fetches_total - before, 1, 60);
    ort_buf_fini(&hint);
    ort_buf_fini(&frame);
    node_fini(&n);
    hub_fini(&h);
}

/* Tables lost, doubled, out of order, old and damaged, by a fixed seed: the end is the same. */
static void
lost_doubled_and_reordered_tables_end_in_the_same_state(void **state)
{
    (void)state;
    hub h;
    node n;
    unsigned seed = 20261121;
    hub_init(&h, false);
    hub_up(&h);
    node_init(&n);
    node_up(&n, &h);
    for (int i = 0; i < 120; i++) {
        char body[256];
        seed = seed * 1103515245u + 12345u;
        pthread_mutex_lock(&h.lock);
        h.mute_hints = (seed >> 8) % 3 == 0;
        h.lose_fetches += (seed >> 10) % 5 == 0;
        h.double_fetches += (seed >> 12) % 3 == 0;
        h.flip_fetches += i % 40 == 7;
        h.shuffle_seed = (seed >> 14) % 10 == 0 ? seed : 0;
        h.fetch_one_step = (seed >> 18) % 2 == 0;
        pthread_mutex_unlock(&h.lock);
        snprintf(body, sizeof body, "{\"tenants\":{\"%016x\":%s}}", 1 + (seed >> 20) % 20,
                 (seed >> 25) % 3 == 0 ? "null" : TENANT("active", "7"));
        hub_change(&h, body);
        usleep((seed >> 16) % 8 * 1000);
    }
    pthread_mutex_lock(&h.lock);
    h.mute_hints = false;
    h.lose_fetches = h.shuffle_seed = h.flip_fetches = 0;
    const uint64_t last = h.version;
    pthread_mutex_unlock(&h.lock);
    hub_wait_acked(&h, last);
    same_state(&n, &h);
    const dp_agent_stats s = stats_of(&n);
    assert_true(s.refused_total[DP_REFUSED_SIGNATURE] > 0);
    assert_false(s.split);
    /* And what is on disk is the same too. */
    hub_down(&h);
    node_down(&n);
    node_up(&n, &h);
    same_state(&n, &h);
    node_fini(&n);
    hub_fini(&h);
}

/* ---- refusing ---- */

static uint64_t
refusals(node *n)
{
    uint64_t total = 0;
    const dp_agent_stats s = stats_of(n);
    for (int i = 0; i < DP_REFUSED_KINDS; i++) {
        total += s.refused_total[i];
    }
    return total;
}

static void
must_refuse(node *n, const ort_buf *envelope, dp_refused want)
{
    dp_refused why = DP_REFUSED_KINDS;
    const uint64_t before = stats_of(n).refused_total[want], all = refusals(n);
    assert_int_not_equal(dp_agent_offer(n->agent, envelope->data, envelope->len, &why, NULL),
                         ORT_OK);
    if (why != want) {
        fail_msg("refused as %s, not %s", dp_refused_word(why), dp_refused_word(want));
    }
    assert_true(stats_of(n).refused_total[want] == before + 1 && refusals(n) == all + 1);
    assert_int_equal(epoch_of(n), 2); /* and serves on */
}

static void
what_is_not_for_us_is_refused_counted_and_served_past(void **state)
{
    (void)state;
    hub h;
    node n;
    ort_buf e = {0};
    dp_refused why;
    hub_init(&h, false);
    hub_up(&h);
    node_init(&n);
    node_up(&n, &h);
    hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "1") "}}");
    hub_wait_acked(&h, 1);
    hub_wait_acked(&h, hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "2") "}}"));
    hub_down(&h); /* from here on only what is offered by hand */

    hub other = h;
    other.hub_id ^= 1;
    other.version = 3;
    hub_envelope(&other, 0, 2, &e);
    must_refuse(&n, &e, DP_REFUSED_HUB);
    other = h;
    other.node.v ^= 1;
    ort_buf_clear(&e);
    hub_envelope(&other, 0, 2, &e);
    must_refuse(&n, &e, DP_REFUSED_NODE);
    other = h;
    ort_sign_key_new(&other.key);
    ort_buf_clear(&e);
    hub_envelope(&other, 0, 2, &e);
    must_refuse(&n, &e, DP_REFUSED_SIGNATURE);

    ort_buf_clear(&e);
    hub_envelope(&h, 0, 1, &e);
    must_refuse(&n, &e, DP_REFUSED_OLDER);
    ort_buf_clear(&e);
    hub_envelope(&h, 0, 2, &e);
    assert_int_equal(dp_agent_offer(n.agent, e.data, e.len, &why, NULL), ORT_OK);
    assert_true(stats_of(&n).duplicate_total >= 1);
    for (size_t i = 0; i < e.len; i += 7) { /* any bit, wherever */
        e.data[i] ^= 16;
        assert_int_not_equal(dp_agent_offer(n.agent, e.data, e.len, &why, NULL), ORT_OK);
        assert_true(why == DP_REFUSED_SIGNATURE || why == DP_REFUSED_MALFORMED);
        e.data[i] ^= 16;
    }
    for (size_t cut = 0; cut < e.len; cut += 5) {
        assert_int_not_equal(dp_agent_offer(n.agent, e.data, cut, &why, NULL), ORT_OK);
        assert_int_equal(why, DP_REFUSED_MALFORMED);
    }

    /* Signed by the right key, and still not right. */
    hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "3") "}}");
    hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "4") "}}");
    ort_buf_clear(&e);
    hub_envelope(&h, 3, 4, &e); /* a change of something the node does not have */
    must_refuse(&n, &e, DP_REFUSED_BASE);
    ort_table *real = h.tables[2];
    h.tables[2] = h.tables[1]; /* the same base version with another content */
    ort_buf_clear(&e);
    hub_envelope(&h, 2, 3, &e);
    must_refuse(&n, &e, DP_REFUSED_BASE);
    h.tables[2] = real;
    ort_buf_clear(&e);
    const ort_table_head lying = {
        .hub_id = h.hub_id, .node = h.node, .at = {.generation = 1, .version = 9, .hash = {{1}}}};
    assert_int_equal(ort_envelope_seal(&lying, "{}", 2, &h.key, &e, NULL), ORT_OK);
    must_refuse(&n, &e, DP_REFUSED_HASH);
    ort_buf_clear(&e);
    assert_int_equal(ort_envelope_seal(&lying, "{", 1, &h.key, &e, NULL), ORT_OK);
    must_refuse(&n, &e, DP_REFUSED_MALFORMED);
    ort_buf_clear(&e);
    const char *bad = "{\"tenants\":{\"" T1 "\":{\"name\":\"t\",\"state\":\"paused\"}}}";
    assert_int_equal(ort_envelope_seal(&lying, bad, strlen(bad), &h.key, &e, NULL), ORT_OK);
    must_refuse(&n, &e, DP_REFUSED_INVALID);

    /* After all that the right one is taken. */
    ort_buf_clear(&e);
    hub_envelope(&h, 2, 4, &e);
    assert_int_equal(dp_agent_offer(n.agent, e.data, e.len, &why, NULL), ORT_OK);
    assert_int_equal(epoch_of(&n), 4);
    ort_buf_fini(&e);
    node_fini(&n);
    hub_fini(&h);
}

/* Two control planes that both think they are the one: the node keeps what it has, takes nothing
 * more of that generation, and comes back with the next. */
static void
one_version_with_two_contents_stops_the_applying(void **state)
{
    (void)state;
    hub h;
    node n;
    ort_buf e = {0};
    dp_refused why;
    hub_init(&h, false);
    hub_up(&h);
    node_init(&n);
    node_up(&n, &h);
    hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "1") "}}");
    hub_wait_acked(&h, 1);
    hub_wait_acked(&h, hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "2") "}}"));
    hub_down(&h);
    hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "3") "}}");
    hub twin = h;
    twin.tables[2] = h.tables[3];
    hub_envelope(&twin, 0, 2, &e);
    must_refuse(&n, &e, DP_REFUSED_SPLIT);
    assert_true(stats_of(&n).split);
    ort_buf_clear(&e);
    hub_envelope(&h, 2, 3, &e); /* newer, right, and of the doubtful generation */
    must_refuse(&n, &e, DP_REFUSED_SPLIT);
    h.generation = 2;
    ort_buf_clear(&e);
    hub_envelope(&h, 0, 1, &e); /* versions start again under the next generation */
    assert_int_equal(dp_agent_offer(n.agent, e.data, e.len, &why, NULL), ORT_OK);
    assert_false(stats_of(&n).split);
    assert_int_equal(epoch_of(&n), 1);
    ort_buf_fini(&e);
    node_fini(&n);
    hub_fini(&h);
}

/* A table the node cannot live with is told to the control plane by a word, and the next good one
 * is applied. */
static void
a_refused_table_is_nacked_and_the_next_good_one_applied(void **state)
{
    (void)state;
    hub h;
    node n;
    hub_init(&h, false);
    hub_up(&h);
    node_init(&n);
    node_up(&n, &h);
    hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "1") "}}");
    hub_wait_acked(&h, 1);
    hub_change(&h, "{\"tenants\":{\"" T2 "\":{\"name\":\"\"}}}");
    const uint64_t end = ort_mono_ms() + 60000;
    unsigned nacks = 0;
    while (nacks == 0 && ort_mono_ms() < end) {
        pthread_mutex_lock(&h.lock);
        nacks = h.nacks;
        pthread_mutex_unlock(&h.lock);
        usleep(2000);
    }
    assert_true(nacks > 0);
    assert_string_equal(h.last_nack, "invalid");
    assert_int_equal(epoch_of(&n), 1);
    hub_wait_acked(
        &h, hub_change(&h, "{\"tenants\":{\"" T2 "\":null,\"" T1 "\":" TENANT("active", "3") "}}"));
    assert_int_equal(epoch_of(&n), 3);
    node_fini(&n);
    hub_fini(&h);
}

/* ---- restarting ---- */

static bool
is_beating(const dp_agent_stats *s)
{
    return s->beats_total > 0;
}

static void
a_restarted_node_serves_without_a_control_plane(void **state)
{
    (void)state;
    hub h;
    node n;
    hub_init(&h, true);
    hub_up(&h);
    node_init(&n);
    node_up(&n, &h);
    hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "1") "}}");
    hub_wait_acked(&h, 1);
    hub_wait_acked(&h, hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "2") "}}"));
    hub_wait_acked(&h, hub_change(&h, "{\"nodes\":{\"" N1 "\":{\"region\":\"eu-central\"}}}"));
    hub_down(&h);
    for (int i = 0; i < 3; i++) {
        node_down(&n);
        ort_diag diag = {""};
        assert_int_equal(node_try(&n, &h, NULL, &diag), ORT_OK); /* the token was for once */
        assert_int_equal(epoch_of(&n), 2);
        same_state(&n, &h);
        assert_in_range(stats_of(&n).age_ms, 0, 600000);
        assert_false(stats_of(&n).control_reachable);
    }
    hub_up(&h); /* and finds it again by itself */
    hub_wait_acked(&h, hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "5") "}}"));
    assert_int_equal(epoch_of(&n), 5);
    node_fini(&n);
    hub_fini(&h);
}

/* An operator restores the node's directory, but for the watermark, from last week: keys revoked
 * since would be let in. */
static void
a_table_from_before_the_watermark_is_not_served(void **state)
{
    (void)state;
    hub h;
    node n;
    ort_buf old_table = {0}, old_log = {0};
    hub_init(&h, false);
    hub_up(&h);
    node_init(&n);
    node_up(&n, &h);
    hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "1") "}}");
    hub_wait_acked(&h, 1);
    assert_int_equal(ort_file_read(n.dir_fd, "table", 1 << 20, &old_table, NULL), ORT_OK);
    assert_int_equal(ort_file_read(n.dir_fd, "table.log", 1 << 20, &old_log, NULL), ORT_OK);
    hub_wait_acked(&h, hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("suspended", "2") "}}"));
    hub_down(&h);
    node_down(&n);
    assert_int_equal(ort_file_replace(n.dir_fd, "table", old_table.data, old_table.len, 0600, NULL),
                     ORT_OK);
    assert_int_equal(ort_file_replace(n.dir_fd, "table.log", old_log.data, old_log.len, 0600, NULL),
                     ORT_OK);
    node_up(&n, &h);
    assert_int_equal(epoch_of(&n), -1);
    h.acked = 0;
    hub_up(&h);
    hub_wait_acked(&h, 2);
    assert_int_equal(epoch_of(&n), 2);
    ort_buf_fini(&old_table);
    ort_buf_fini(&old_log);
    node_fini(&n);
    hub_fini(&h);
}

/* Every byte of the kept files that holds something: flipped, the node starts, serves either the
 * right table or none, and gets the right one from the hub. */
static void
a_damaged_table_is_never_served(void **state)
{
    (void)state;
    hub h;
    node n;
    hub_init(&h, false);
    hub_up(&h);
    node_init(&n);
    node_up(&n, &h);
    hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "1") "}}");
    hub_wait_acked(&h, 1);
    hub_wait_acked(&h, hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "2") "}}"));
    hub_down(&h);
    node_down(&n);
    static const char *const files[] = {"table", "table.log"};
    for (int f = 0; f < 2; f++) {
        ort_buf good = {0};
        assert_int_equal(ort_file_read(n.dir_fd, files[f], 2u << 20, &good, NULL), ORT_OK);
        const size_t len = f == 0 ? good.len : 300;
        for (size_t i = 0; i < len; i += 37) {
            good.data[i] ^= 1;
            assert_int_equal(ort_file_replace(n.dir_fd, files[f], good.data, good.len, 0600, NULL),
                             ORT_OK);
            good.data[i] ^= 1;
            node_up(&n, &h);
            const int64_t epoch = epoch_of(&n);
            assert_true(epoch == 2 || epoch == -1);
            node_down(&n);
        }
        assert_int_equal(ort_file_replace(n.dir_fd, files[f], good.data, good.len, 0600, NULL),
                         ORT_OK);
        ort_buf_fini(&good);
    }
    node_up(&n, &h);
    assert_int_equal(epoch_of(&n), 2);
    node_fini(&n);
    hub_fini(&h);
}

/* More changes than the log holds: it is folded into the table file and begun again, and every
 * prefix of that history can be restarted from. */
static void
the_log_is_folded_and_read_back(void **state)
{
    (void)state;
    hub h;
    node n;
    ort_buf e = {0};
    hub_init(&h, false);
    hub_up(&h);
    node_init(&n);
    node_up(&n, &h);
    hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "1") "}}");
    hub_wait_acked(&h, 1);
    hub_down(&h);
    /* Names that do not compress, so that about 30 changes fill the log of 1 MiB. */
    char *body = malloc(300 * 256);
    assert_non_null(body);
    uint64_t seed = 1;
    for (int v = 2; v <= 80; v++) {
        size_t at = (size_t)sprintf(body, "{\"directory\":{");
        for (int i = 0; i < 200; i++) {
            at += (size_t)sprintf(body + at, "%s\"%016x\":{\"home\":\"" N1 "\",\"regions\":[\"",
                                  i > 0 ? "," : "", v * 1000 + i);
            for (int k = 0; k < 4; k++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                at += (size_t)sprintf(body + at, "%013llx", (unsigned long long)(seed >> 12));
            }
            at += (size_t)sprintf(body + at, "\"]}");
        }
        sprintf(body + at, "}}");
        hub_change(&h, body);
        ort_buf_clear(&e);
        hub_envelope(&h, (uint64_t)v - 1, (uint64_t)v, &e);
        assert_int_equal(dp_agent_offer(n.agent, e.data, e.len, NULL, NULL), ORT_OK);
        if (v % 9 == 0) {
            node_down(&n);
            node_up(&n, &h);
            same_state(&n, &h);
        }
    }
    free(body);
    ort_buf_fini(&e);
    node_fini(&n);
    hub_fini(&h);
}

/* ---- joining ---- */

static bool
has_joined(const dp_agent_stats *s)
{
    return s->joined;
}

/* A server that is not the hub of the token (another CA) learns nothing, least of all the token. */
static void
a_foreign_hub_is_not_joined(void **state)
{
    (void)state;
    hub ours, theirs;
    node n;
    ort_diag diag = {""};
    hub_init(&ours, true);
    hub_init(&theirs, true);
    hub_up(&theirs);
    node_init(&n);
    assert_int_equal(node_try(&n, &theirs, ours.token, &diag), ORT_OK); /* goes on trying */
    usleep(1500000);
    assert_false(stats_of(&n).joined);
    assert_int_equal(theirs.hellos, 0);
    node_fini(&n);
    hub_fini(&ours);
    hub_fini(&theirs);
}

static void
a_node_without_a_good_token_does_not_start(void **state)
{
    (void)state;
    hub h;
    node n;
    ort_diag diag = {""};
    hub_init(&h, false);
    node_init(&n);
    assert_int_equal(node_try(&n, &h, NULL, &diag), ORT_EINVAL);
    h.token[20] = h.token[20] == 'a' ? 'b' : 'a';
    assert_int_equal(node_try(&n, &h, h.token, &diag), ORT_EINVAL);
    assert_null(strstr(diag.text, h.token)); /* secrets stay out of messages */
    dp_routes_free(n.routes);
    node_fini(&n);
    hub_fini(&h);
}

/* A certificate that ends soon is renewed by the hello of the next start, and the connection goes
 * on with the new one; one that has long to go is not. */
static void
a_certificate_is_renewed_before_it_ends(void **state)
{
    (void)state;
    hub h;
    node n;
    hub_init(&h, true);
    h.cert_days = 20;
    hub_up(&h);
    node_init(&n);
    node_up(&n, &h);
    hub_wait_acked(&h, hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "1") "}}"));
    node_down(&n);
    pthread_mutex_lock(&h.lock);
    h.cert_days = 365;
    const unsigned before = h.issued;
    pthread_mutex_unlock(&h.lock);
    for (unsigned i = 0; i < 2; i++) {
        node_up(&n, &h);
        hub_wait_acked(&h, hub_change(&h, "{\"tenants\":{\"" T1 "\":" TENANT("active", "2") "}}"));
        pthread_mutex_lock(&h.lock);
        assert_int_equal(h.issued, before + 1);
        pthread_mutex_unlock(&h.lock);
        node_down(&n);
    }
    node_fini(&n);
    hub_fini(&h);
}

/* The hub comes up after the node, and forgets the node's incarnation while it runs. */
static void
a_node_waits_for_the_hub_and_greets_again_when_asked(void **state)
{
    (void)state;
    hub h;
    node n;
    hub_init(&h, false);
    node_init(&n);
    node_up(&n, &h);
    usleep(300000);
    assert_false(stats_of(&n).joined);
    hub_up(&h);
    wait_for(&n, has_joined);
    wait_for(&n, is_beating);
    pthread_mutex_lock(&h.lock);
    const unsigned hellos = h.hellos;
    h.incarnation = 0;
    pthread_mutex_unlock(&h.lock);
    const uint64_t end = ort_mono_ms() + 60000;
    unsigned now = hellos;
    while (now == hellos && ort_mono_ms() < end) {
        usleep(5000);
        pthread_mutex_lock(&h.lock);
        now = h.hellos;
        pthread_mutex_unlock(&h.lock);
    }
    assert_true(now > hellos);
    node_fini(&n);
    hub_fini(&h);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_joins_and_follows),
        cmocka_unit_test(a_node_joins_and_follows_over_tls),
        cmocka_unit_test(without_hints_beats_find_out),
        cmocka_unit_test(a_flood_of_hints_costs_few_fetches),
        cmocka_unit_test(lost_doubled_and_reordered_tables_end_in_the_same_state),
        cmocka_unit_test(what_is_not_for_us_is_refused_counted_and_served_past),
        cmocka_unit_test(one_version_with_two_contents_stops_the_applying),
        cmocka_unit_test(a_refused_table_is_nacked_and_the_next_good_one_applied),
        cmocka_unit_test(a_restarted_node_serves_without_a_control_plane),
        cmocka_unit_test(a_table_from_before_the_watermark_is_not_served),
        cmocka_unit_test(a_damaged_table_is_never_served),
        cmocka_unit_test(the_log_is_folded_and_read_back),
        cmocka_unit_test(a_foreign_hub_is_not_joined),
        cmocka_unit_test(a_node_without_a_good_token_does_not_start),
        cmocka_unit_test(a_certificate_is_renewed_before_it_ends),
        cmocka_unit_test(a_node_waits_for_the_hub_and_greets_again_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
