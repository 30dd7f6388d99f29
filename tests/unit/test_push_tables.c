/* What a node's table is, which table it is sent, and who has which: without sockets and without a
 * store. The nodes here are real ones in all but their life: they verify, apply and compare. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/thread.h"
#include "routing/push.h"

#define HUB 0x1122334455667788u

/* Hints as they went out, one entry each; node 0 is "all". */
static struct {
    uint64_t node[16384];
    size_t count;
} hinted;

static void
hint(void *arg, uint64_t generation, const ort_hint_entry *entries, size_t count)
{
    (void)arg;
    (void)generation;
    if (count == 0) {
        hinted.node[hinted.count++] = 0;
    }
    for (size_t i = 0; i < count; i++) {
        hinted.node[hinted.count++] = entries[i].node.v;
    }
}

typedef struct {
    cp_push *push;
    ort_sign_key key;
    uint64_t version;
} hub;

static cp_push *
new_push(const ort_sign_key *key, uint64_t generation)
{
    cp_push_options options = {.hub_id = HUB, .generation = generation, .key = key, .hint = hint};
    cp_push *push = NULL;

    assert_int_equal(cp_push_new(&push, &options), ORT_OK);
    return push;
}

static int
setup(void **state)
{
    hub *h = calloc(1, sizeof *h);

    ort_sign_key_new(&h->key);
    h->push = new_push(&h->key, 1);
    h->version = 10;
    hinted.count = 0;
    *state = h;
    return 0;
}

static int
teardown(void **state)
{
    hub *h = *state;

    cp_push_free(h->push);
    free(h);
    return 0;
}

static void
apply(hub *h, const cp_push_node *nodes, size_t node_count, const cp_push_tenant *tenants,
      size_t tenant_count)
{
    cp_push_change change = {.version = ++h->version,
                             .nodes = nodes,
                             .node_count = node_count,
                             .tenants = tenants,
                             .tenant_count = tenant_count};
    ort_diag diag = {0};

    assert_int_equal(cp_push_apply(h->push, &change, &diag), ORT_OK);
}

static void
add_node(hub *h, uint64_t id)
{
    cp_push_node node = {.id = {id}, .entry = "{\"region\":\"eu\"}"};

    apply(h, &node, 1, NULL, 0);
}

static void
put_tenant(hub *h, uint64_t id, uint64_t home, const char *entry, bool denial)
{
    char directory[64];
    cp_push_tenant tenant = {.id = {id},
                             .home = {home},
                             .entry = home != 0 ? entry : NULL,
                             .directory = home != 0 ? directory : NULL,
                             .denial = denial};

    snprintf(directory, sizeof directory, "{\"home\":\"%016llx\"}", (unsigned long long)home);
    apply(h, NULL, 0, &tenant, 1);
}

/* ---- a node ---- */

typedef struct {
    ort_node_id id;
    ort_table *table;
    ort_table_at at;
    unsigned wholes;
    unsigned deltas;
} node;

static void
node_fini(node *n)
{
    ort_table_unref(n->table);
}

/* Fetches, verifies, applies, compares; false when it was sent nothing. */
static bool
node_fetch(hub *h, node *n, bool whole)
{
    ort_fetch ask = {.applied = n->at, .whole = whole};
    ort_buf body = {0};
    ort_buf text = {0};
    ort_diag diag = {0};
    ort_table_head head;
    ort_table *next = NULL;
    ort_hash hash;
    const void *envelope = NULL;
    size_t len = 0;

    assert_int_equal(cp_push_fetch(h->push, n->id, &ask, &body, &diag), ORT_OK);
    ort_cursor at = ort_cursor_of(body.data, body.len);
    if (body.len == 0) {
        return false;
    }
    assert_true(ort_tables_next(&at, &envelope, &len));
    assert_int_equal(ort_envelope_open(envelope, len, &h->key.public, &head, &diag), ORT_OK);
    assert_int_equal(head.hub_id, HUB);
    assert_int_equal(head.node.v, n->id.v);
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
    assert_false(ort_tables_next(&at, &envelope, &len));
    assert_false(at.failed);
    ort_buf_fini(&body);
    ort_buf_fini(&text);
    return true;
}

static void
node_ack(hub *h, const node *n)
{
    cp_push_acked(h->push, n->id, &n->at);
}

static bool
node_has(const node *n, ort_table_kind kind, uint64_t id, const char *text)
{
    ort_entry entry;

    return ort_section_get(ort_table_peek(n->table, kind), id, &entry) &&
           strcmp(entry.text, text) == 0;
}

static bool
wants_fetch(hub *h, const node *n)
{
    ort_table_at newest;
    bool fetch = false;

    assert_int_equal(cp_push_newest(h->push, n->id, &n->at, &newest, &fetch), ORT_OK);
    return fetch;
}

/* ---- tests ---- */

/* A tenant's keys must never be in the table of a node that does not hold it. */
static void
a_table_holds_its_own_tenants_in_full_and_others_as_a_direction(void **state)
{
    hub *h = *state;
    node a = {.id = {1}};
    node b = {.id = {2}};

    add_node(h, 1);
    add_node(h, 2);
    put_tenant(h, 100, 1, "{\"name\":\"acme\"}", false);
    assert_true(node_fetch(h, &a, false));
    assert_true(node_fetch(h, &b, false));
    assert_true(node_has(&a, ORT_TABLE_TENANTS, 100, "{\"name\":\"acme\"}"));
    assert_false(node_has(&b, ORT_TABLE_TENANTS, 100, "{\"name\":\"acme\"}"));
    assert_true(node_has(&b, ORT_TABLE_DIRECTORY, 100, "{\"home\":\"0000000000000001\"}"));
    assert_int_equal(a.wholes, 1);
    node_fini(&a);
    node_fini(&b);
}

/* 1,000 nodes would each fetch for a change of one tenant's key otherwise. */
static void
a_change_of_one_tenant_concerns_its_node_alone(void **state)
{
    hub *h = *state;
    node a = {.id = {1}};
    node b = {.id = {2}};

    add_node(h, 1);
    add_node(h, 2);
    put_tenant(h, 100, 1, "{\"v\":1}", false);
    assert_true(node_fetch(h, &a, false));
    assert_true(node_fetch(h, &b, false));
    hinted.count = 0;
    put_tenant(h, 100, 1, "{\"v\":2}", false);
    assert_int_equal(hinted.count, 1);
    assert_int_equal(hinted.node[0], 1);
    assert_true(wants_fetch(h, &a));
    assert_false(wants_fetch(h, &b));
    assert_true(node_fetch(h, &a, false));
    assert_int_equal(a.deltas, 1);
    assert_false(node_fetch(h, &b, false));
    node_fini(&a);
    node_fini(&b);
}

/* The same texts again (a plan that was touched, a record read twice) must wake nobody. */
static void
texts_that_are_there_already_change_nothing(void **state)
{
    hub *h = *state;
    node a = {.id = {1}};

    add_node(h, 1);
    put_tenant(h, 100, 1, "{\"v\":1}", false);
    assert_true(node_fetch(h, &a, false));
    hinted.count = 0;
    put_tenant(h, 100, 1, "{\"v\":1}", true);
    add_node(h, 1);
    assert_int_equal(hinted.count, 0);
    assert_false(wants_fetch(h, &a));
    node_fini(&a);
}

static void
denials_are_hinted_before_grants(void **state)
{
    hub *h = *state;

    for (uint64_t id = 1; id <= 3; id++) {
        add_node(h, id);
        put_tenant(h, 100 + id, id, "{\"v\":1}", false);
    }
    hinted.count = 0;
    cp_push_tenant both[] = {{.id = {101},
                              .home = {1},
                              .entry = "{\"v\":2}",
                              .directory = "{\"home\":\"0000000000000001\"}"},
                             {.id = {102},
                              .home = {2},
                              .entry = "{\"v\":2}",
                              .directory = "{\"home\":\"0000000000000002\"}"},
                             {.id = {103},
                              .home = {3},
                              .entry = "{\"v\":2}",
                              .directory = "{\"home\":\"0000000000000003\"}",
                              .denial = true}};
    apply(h, NULL, 0, both, 3);
    assert_int_equal(hinted.count, 3);
    assert_int_equal(hinted.node[0], 3);
    cp_push_status status;
    assert_int_equal(cp_push_status_of(h->push, (ort_node_id){3}, &status), ORT_OK);
    assert_int_equal(status.deny_version, h->version);
    assert_int_equal(cp_push_status_of(h->push, (ort_node_id){1}, &status), ORT_OK);
    assert_int_equal(status.deny_version, 0);
}

/* Whatever a node misses, the next fetch brings it to where everyone is. */
static void
any_version_kept_is_a_base_and_an_older_one_gets_the_whole(void **state)
{
    hub *h = *state;
    node slow = {.id = {1}};
    node fast = {.id = {1}};
    char text[32];

    add_node(h, 1);
    put_tenant(h, 100, 1, "{\"v\":0}", false);
    assert_true(node_fetch(h, &slow, false));
    for (unsigned i = 1; i < CP_PUSH_OWN_MAX - 2; i++) {
        snprintf(text, sizeof text, "{\"v\":%u}", i);
        put_tenant(h, 100, 1, text, false);
        assert_true(node_fetch(h, &fast, false));
    }
    assert_true(node_fetch(h, &slow, false));
    assert_int_equal(slow.deltas, 1);
    assert_true(ort_hash_equal(&slow.at.hash, &fast.at.hash));
    for (unsigned i = 0; i < CP_PUSH_OWN_MAX + 5; i++) {
        snprintf(text, sizeof text, "{\"w\":%u}", i);
        put_tenant(h, 100, 1, text, false);
    }
    assert_true(node_fetch(h, &slow, false));
    assert_int_equal(slow.wholes, 2);
    assert_true(node_has(&slow, ORT_TABLE_TENANTS, 100, text));
    node_fini(&slow);
    node_fini(&fast);
}

/* A plan's limit changes every entry: 64 versions of that must not be 64 copies of the hub. */
static void
large_changes_leave_a_short_history(void **state)
{
    hub *h = *state;
    enum { TENANTS = 600 };
    cp_push_tenant *tenants = calloc(TENANTS, sizeof *tenants);
    node slow = {.id = {1}};
    node near = {.id = {1}};
    char text[32];

    add_node(h, 1);
    for (int round = 0; round < 5; round++) {
        snprintf(text, sizeof text, "{\"v\":%d}", round);
        for (uint64_t i = 0; i < TENANTS; i++) {
            tenants[i] = (cp_push_tenant){.id = {100 + i},
                                          .home = {1},
                                          .entry = text,
                                          .directory = "{\"home\":\"0000000000000001\"}"};
        }
        apply(h, NULL, 0, tenants, TENANTS);
        if (round == 0) {
            assert_true(node_fetch(h, &slow, false));
        } else if (round == 3) {
            assert_true(node_fetch(h, &near, false));
        }
    }
    assert_true(node_fetch(h, &near, false));
    assert_int_equal(near.deltas, 1);
    assert_true(node_fetch(h, &slow, false));
    assert_int_equal(slow.wholes, 2);
    node_fini(&slow);
    node_fini(&near);
    free(tenants);
}

/* Moves, removals, additions and fetches in any order: every node ends with the same. Fixed seed.
 */
static void
random_changes_and_lost_fetches_end_in_the_same_state(void **state)
{
    hub *h = *state;
    node nodes[4] = {{.id = {1}}, {.id = {2}}, {.id = {3}}, {.id = {4}}};
    char text[64];

    srand(20261121);
    for (uint64_t id = 1; id <= 4; id++) {
        add_node(h, id);
    }
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t tenant = 100 + (uint64_t)(rand() % 40);
        uint64_t home = (uint64_t)(rand() % 5);
        snprintf(text, sizeof text, "{\"v\":%d}", rand() % 50);
        put_tenant(h, tenant, home, text, rand() % 3 == 0);
        node *n = &nodes[rand() % 4];
        if (rand() % 4 == 0) {
            (void)node_fetch(h, n, rand() % 20 == 0);
            node_ack(h, n);
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        node fresh = {.id = nodes[i].id};
        (void)node_fetch(h, &nodes[i], false);
        assert_true(node_fetch(h, &fresh, true));
        assert_true(ort_hash_equal(&fresh.at.hash, &nodes[i].at.hash));
        assert_false(wants_fetch(h, &nodes[i]));
        node_fini(&nodes[i]);
        node_fini(&fresh);
    }
}

/* A control plane that starts anew knows no older versions; a fleet that has all must not fetch
 * 1,000 whole tables for it. */
static void
after_a_restart_a_node_that_has_it_all_gets_an_empty_difference(void **state)
{
    hub *h = *state;
    node a = {.id = {1}};
    cp_push_node row = {.id = {1}, .entry = "{\"region\":\"eu\"}"};
    cp_push_tenant tenant = {.id = {100},
                             .home = {1},
                             .entry = "{\"v\":1}",
                             .directory = "{\"home\":\"0000000000000001\"}"};

    add_node(h, 1);
    put_tenant(h, 100, 1, "{\"v\":1}", false);
    assert_true(node_fetch(h, &a, false));
    cp_push_free(h->push);
    h->push = new_push(&h->key, 1);
    h->version += 7;
    apply(h, &row, 1, &tenant, 1);
    cp_push_status status;
    node_ack(h, &a);
    assert_int_equal(cp_push_status_of(h->push, a.id, &status), ORT_OK);
    assert_int_equal(status.lag_versions, 0);
    assert_true(node_fetch(h, &a, false));
    assert_int_equal(a.deltas, 1);
    assert_int_equal(a.at.version, h->version);
    node_fini(&a);
}

/* envoy #10046: a refused configuration, sent again for ever. */
static void
a_refused_whole_table_is_not_offered_again_until_it_changes(void **state)
{
    hub *h = *state;
    node a = {.id = {1}};

    add_node(h, 1);
    put_tenant(h, 100, 1, "{\"v\":1}", false);
    assert_true(wants_fetch(h, &a));
    ort_table_at bad;
    bool fetch = false;
    assert_int_equal(cp_push_newest(h->push, a.id, &a.at, &bad, &fetch), ORT_OK);
    /* It fetched the whole table, and its codec refused an entry. */
    node victim = {.id = {1}};
    assert_true(node_fetch(h, &victim, false));
    cp_push_nacked(h->push, a.id, bad.version, "invalid", "tenants/64");
    assert_false(wants_fetch(h, &a));
    assert_false(node_fetch(h, &a, false));
    cp_push_status status;
    assert_int_equal(cp_push_status_of(h->push, a.id, &status), ORT_OK);
    assert_true(status.has_nack);
    assert_string_equal(status.nack_reason, "invalid");
    put_tenant(h, 100, 1, "{\"v\":2}", false);
    assert_true(wants_fetch(h, &a));
    assert_true(node_fetch(h, &a, false));
    node_ack(h, &a);
    assert_int_equal(cp_push_status_of(h->push, a.id, &status), ORT_OK);
    assert_false(status.has_nack);
    node_fini(&a);
    node_fini(&victim);
}

static void
a_refused_difference_is_followed_by_the_whole(void **state)
{
    hub *h = *state;
    node a = {.id = {1}};

    add_node(h, 1);
    put_tenant(h, 100, 1, "{\"v\":1}", false);
    assert_true(node_fetch(h, &a, false));
    put_tenant(h, 100, 1, "{\"v\":2}", false);
    node b = {.id = {1}, .table = ort_table_ref(a.table), .at = a.at};
    assert_true(node_fetch(h, &b, false));
    assert_int_equal(b.deltas, 1);
    cp_push_nacked(h->push, a.id, b.at.version, "hash", "");
    assert_true(wants_fetch(h, &a));
    assert_true(node_fetch(h, &a, false));
    assert_int_equal(a.wholes, 2);
    node_fini(&a);
    node_fini(&b);
}

/* A disk that was full is not full for ever. */
static void
a_table_that_could_not_be_stored_is_offered_again_after_a_pause(void **state)
{
    hub *h = *state;
    node a = {.id = {1}};
    ort_table_at newest;
    bool fetch = false;

    add_node(h, 1);
    assert_int_equal(cp_push_newest(h->push, a.id, &a.at, &newest, &fetch), ORT_OK);
    const uint64_t begin = ort_mono_ms();
    cp_push_nacked(h->push, a.id, newest.version, "storage", "");
    const bool at_once = wants_fetch(h, &a);
    assert_true(!at_once || ort_mono_ms() - begin >= 1000); /* the pause is a second */
    uint64_t until = ort_mono_ms() + 60000;
    while (!wants_fetch(h, &a) && ort_mono_ms() < until) {
        struct timespec nap = {.tv_nsec = 20000000};
        nanosleep(&nap, NULL);
    }
    assert_true(node_fetch(h, &a, false));
    node_fini(&a);
}

typedef struct {
    hub *h;
    node *n;
} late;

static void *
fetch_later(void *arg)
{
    late *l = arg;
    struct timespec nap = {.tv_nsec = 30000000};

    nanosleep(&nap, NULL);
    assert_true(node_fetch(l->h, l->n, false));
    node_ack(l->h, l->n);
    return NULL;
}

static void
a_wait_ends_when_every_holder_has_applied_the_version(void **state)
{
    hub *h = *state;
    node a = {.id = {1}};
    node b = {.id = {2}};
    cp_push_ack acks[8];
    size_t count = 0;
    pthread_t thread;
    late l = {h, &a};

    add_node(h, 1);
    add_node(h, 2);
    put_tenant(h, 100, 1, "{\"keys\":1}", false);
    assert_true(node_fetch(h, &a, false));
    assert_true(node_fetch(h, &b, false));
    node_ack(h, &a);
    node_ack(h, &b);
    put_tenant(h, 100, 1, "{\"keys\":0}", true);
    assert_int_equal(
        cp_push_wait_acked(h->push, h->version, (ort_tenant_id){100}, 5, acks, 8, &count),
        ORT_ETIMEOUT);
    assert_int_equal(count, 1);
    assert_false(acks[0].acked);
    assert_int_equal(ort_thread_start(&thread, "late", fetch_later, &l, NULL), ORT_OK);
    assert_int_equal(
        cp_push_wait_acked(h->push, h->version, (ort_tenant_id){100}, 60000, acks, 8, &count),
        ORT_OK);
    pthread_join(thread, NULL);
    assert_int_equal(count, 1);
    assert_int_equal(acks[0].node.v, 1);
    assert_true(acks[0].acked);
    assert_true(acks[0].at_ms > 0);
    node_fini(&a);
    node_fini(&b);
}

/* A tenant that has just moved is still served by the node it came from, until that one knows. */
static void
a_wait_counts_the_node_that_held_the_tenant_before(void **state)
{
    hub *h = *state;
    node a = {.id = {1}};
    node b = {.id = {2}};
    cp_push_ack acks[8];
    size_t count = 0;

    add_node(h, 1);
    add_node(h, 2);
    put_tenant(h, 100, 1, "{\"v\":1}", false);
    assert_true(node_fetch(h, &a, false));
    node_ack(h, &a);
    put_tenant(h, 100, 2, "{\"v\":1}", true);
    assert_true(node_fetch(h, &b, false));
    node_ack(h, &b);
    assert_int_equal(
        cp_push_wait_acked(h->push, h->version, (ort_tenant_id){100}, 5, acks, 8, &count),
        ORT_ETIMEOUT);
    assert_int_equal(count, 2);
    assert_true(node_fetch(h, &a, false));
    node_ack(h, &a);
    assert_int_equal(
        cp_push_wait_acked(h->push, h->version, (ort_tenant_id){100}, 60000, acks, 8, &count),
        ORT_OK);
    assert_int_equal(count, 1); /* b alone holds it now */
    node_fini(&a);
    node_fini(&b);
}

static void
a_greater_generation_makes_every_table_whole_again(void **state)
{
    hub *h = *state;
    node a = {.id = {1}};

    add_node(h, 1);
    assert_true(node_fetch(h, &a, false));
    hinted.count = 0;
    cp_push_set_generation(h->push, 2);
    assert_int_equal(hinted.count, 1);
    assert_int_equal(hinted.node[0], 0);
    assert_true(wants_fetch(h, &a));
    assert_true(node_fetch(h, &a, false));
    assert_int_equal(a.wholes, 2);
    assert_int_equal(a.at.generation, 2);
    node_fini(&a);
}

static void
a_removed_node_has_no_table(void **state)
{
    hub *h = *state;
    ort_fetch ask = {0};
    ort_buf body = {0};
    cp_push_node gone = {.id = {1}};

    add_node(h, 1);
    add_node(h, 2);
    put_tenant(h, 100, 1, "{\"v\":1}", false);
    apply(h, &gone, 1, NULL, 0);
    assert_int_equal(cp_push_fetch(h->push, (ort_node_id){1}, &ask, &body, NULL), ORT_ENOTFOUND);
    node b = {.id = {2}};
    assert_true(node_fetch(h, &b, false));
    assert_int_equal(ort_section_count(ort_table_peek(b.table, ORT_TABLE_NODES)), 1);
    node_fini(&b);
    ort_buf_fini(&body);
}

static void
lag_counts_the_versions_that_concern_the_node(void **state)
{
    hub *h = *state;
    node a = {.id = {1}};
    cp_push_status status;

    add_node(h, 1);
    add_node(h, 2);
    put_tenant(h, 100, 1, "{\"v\":1}", false);
    put_tenant(h, 200, 2, "{\"v\":1}", false);
    assert_true(node_fetch(h, &a, false));
    node_ack(h, &a);
    put_tenant(h, 100, 1, "{\"v\":2}", false); /* its own */
    put_tenant(h, 200, 2, "{\"v\":2}", false); /* another's */
    put_tenant(h, 300, 2, "{\"v\":1}", false); /* the directory: everyone's */
    assert_int_equal(cp_push_status_of(h->push, a.id, &status), ORT_OK);
    assert_int_equal(status.lag_versions, 2);
    assert_true(node_fetch(h, &a, false));
    node_ack(h, &a);
    assert_int_equal(cp_push_status_of(h->push, a.id, &status), ORT_OK);
    assert_int_equal(status.lag_versions, 0);
    assert_int_equal(status.lag_ms, 0);
    node_fini(&a);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_table_holds_its_own_tenants_in_full_and_others_as_a_direction),
        TEST(a_change_of_one_tenant_concerns_its_node_alone),
        TEST(texts_that_are_there_already_change_nothing),
        TEST(denials_are_hinted_before_grants),
        TEST(any_version_kept_is_a_base_and_an_older_one_gets_the_whole),
        TEST(large_changes_leave_a_short_history),
        TEST(random_changes_and_lost_fetches_end_in_the_same_state),
        TEST(after_a_restart_a_node_that_has_it_all_gets_an_empty_difference),
        TEST(a_refused_whole_table_is_not_offered_again_until_it_changes),
        TEST(a_refused_difference_is_followed_by_the_whole),
        TEST(a_table_that_could_not_be_stored_is_offered_again_after_a_pause),
        TEST(a_wait_ends_when_every_holder_has_applied_the_version),
        TEST(a_wait_counts_the_node_that_held_the_tenant_before),
        TEST(a_greater_generation_makes_every_table_whole_again),
        TEST(a_removed_node_has_no_table),
        TEST(lag_counts_the_versions_that_concern_the_node),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
