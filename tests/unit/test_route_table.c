/* What the request path sees of a routing table: look-ups, refusals, the swap under readers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <inttypes.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/thread.h"
#include "routing/table.h"

#define T1 "0000000000000001"
#define N1 "00000000000000a1"
#define H64 "00000000000000000000000000000000000000000000000000000000000000ff"

/* The id of a key of tenant 1, as text. */
static const char *
key_text(uint64_t serial)
{
    static char text[4][ORT_TOKEN_ID_TEXT_BYTES];
    static int at;
    char *out = text[at++ % 4];
    ort_key_id_format((ort_key_id){{1}, serial}, out);
    return out;
}

static ort_err
load(const dp_table **out, const char *body, ort_diag *diag)
{
    return dp_table_from_body(out, (ort_node_id){0xa1}, (ort_table_at){.version = 7}, 5, body,
                              strlen(body), diag);
}

static void
every_field_of_an_entry_is_found_again(void **state)
{
    (void)state;
    char body[4096];
    const dp_table *t = NULL;
    ort_diag diag = {""};
    snprintf(body, sizeof body,
             "{\"tenants\":{\"" T1 "\":{\"name\":\"acme\",\"state\":\"suspended\","
             "\"regions\":[\"eu-central\",\"eu-west\"],\"epoch\":3,\"max_stale_s\":60,"
             "\"limits\":{\"max_collections\":100,\"max_vectors\":0},\"keys\":{"
             "\"%s\":{\"hash\":\"" H64 "\",\"scopes\":[\"data:read\",\"future\"],"
             "\"collections\":[\"docs*\"],\"expires_at_ms\":9,\"max_requests_per_minute\":5},"
             "\"%s\":{\"hash\":\"" H64 "\",\"scopes\":[\"data:write\",\"collections:manage\"],"
             "\"collections\":[],\"expires_at_ms\":null,\"max_requests_per_minute\":null}}}},"
             "\"directory\":{\"" T1 "\":{\"home\":\"" N1 "\",\"regions\":[\"eu-central\"]}},"
             "\"nodes\":{\"" N1 "\":{\"region\":\"eu-central\",\"zone\":\"a\","
             "\"endpoint\":\"http://h:1\",\"forward\":\"tls+tcp://h:2\"}}}",
             key_text(20), key_text(10));
    if (load(&t, body, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    assert_true(dp_table_self(t).v == 0xa1 && dp_table_at(t).version == 7);
    assert_true(dp_table_issued_at_ms(t) == 5);
    const dp_tenant_entry *e = dp_table_tenant(t, (ort_tenant_id){1});
    assert_non_null(e);
    assert_string_equal(e->name, "acme");
    assert_int_equal(e->state, DP_TENANT_SUSPENDED);
    assert_true(e->epoch == 3 && e->max_stale_s == 60);
    assert_true(e->limits.max_collections == 100 && e->limits.max_vectors == 0);
    assert_true(e->limits.max_storage_bytes == UINT64_MAX);
    assert_int_equal(e->region_count, 2);
    assert_true(dp_regions_allow(e->regions, e->region_count, "eu-west"));
    assert_false(dp_regions_allow(e->regions, e->region_count, "us-east"));
    assert_true(dp_regions_allow(NULL, 0, "us-east"));

    const dp_key *k = dp_tenant_key(e, 20), *other = dp_tenant_key(e, 10);
    assert_non_null(k);
    assert_non_null(other);
    assert_null(dp_tenant_key(e, 15));
    assert_int_equal(k->scopes, DP_SCOPE_DATA_READ);
    assert_true(k->expires_at_ms == 9 && k->max_requests_per_minute == 5 && k->hash.b[31] == 0xff);
    assert_int_equal(other->scopes, DP_SCOPE_DATA_WRITE | DP_SCOPE_COLLECTIONS_MANAGE);
    assert_true(other->expires_at_ms == INT64_MAX);
    assert_true(other->max_requests_per_minute == UINT64_MAX);
    assert_true(dp_key_covers(k, "docs-2026", 9));
    assert_false(dp_key_covers(k, "doc", 3));
    assert_true(dp_key_covers(other, "anything", 8));

    const dp_home *home = dp_table_home(t, (ort_tenant_id){1});
    const dp_node *node = dp_table_node(t, home->home);
    assert_string_equal(node->forward, "tls+tcp://h:2");
    assert_string_equal(node->region, "eu-central");
    assert_null(dp_table_home(t, (ort_tenant_id){2}));
    uint64_t at = 0;
    assert_ptr_equal(dp_table_next_tenant(t, &at), e);
    assert_null(dp_table_next_tenant(t, &at));
    dp_table_release(t);
}

/* What an entry says is looked at before any of the table is used: each of these is refused whole.
 */
static void
an_entry_that_means_nothing_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}",
        "{\"name\":\"a\",\"state\":\"paused\",\"limits\":{},\"keys\":{}}",
        "{\"name\":\"a\",\"limits\":{},\"keys\":{}}",
        "{\"name\":\"a\",\"state\":\"active\",\"keys\":{}}",
        "{\"name\":\"a\",\"state\":\"active\",\"limits\":{}}",
        "{\"name\":\"\",\"state\":\"active\",\"limits\":{},\"keys\":{}}",
        "{\"name\":\"a\\n\",\"state\":\"active\",\"limits\":{},\"keys\":{}}",
        "{\"name\":1,\"state\":\"active\",\"limits\":{},\"keys\":{}}",
        "{\"name\":\"a\",\"state\":\"active\",\"limits\":{\"max_vectors\":-1},\"keys\":{}}",
        "{\"name\":\"a\",\"state\":\"active\",\"limits\":{},\"keys\":[]}",
        "{\"name\":\"a\",\"state\":\"active\",\"limits\":{},\"keys\":{\"k\":{}}}",
        "{\"name\":\"a\",\"state\":\"active\",\"regions\":\"eu\",\"limits\":{},\"keys\":{}}",
        "{\"name\":\"a\",\"state\":\"active\",\"regions\":[1],\"limits\":{},\"keys\":{}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char body[512];
        const dp_table *t = NULL;
        snprintf(body, sizeof body, "{\"tenants\":{\"" T1 "\":%s}}", bad[i]);
        if (load(&t, body, NULL) != ORT_EVALIDATE) {
            fail_msg("taken: %s", bad[i]);
        }
        assert_null(t);
    }
    const dp_table *t = NULL;
    char body[512], other[ORT_TOKEN_ID_TEXT_BYTES];
    /* A key of another tenant under this one would let that other in. */
    ort_key_id_format((ort_key_id){{2}, 1}, other);
    snprintf(body, sizeof body,
             "{\"tenants\":{\"" T1 "\":{\"name\":\"a\",\"state\":\"active\",\"limits\":{},"
             "\"keys\":{\"%s\":{\"hash\":\"" H64 "\",\"scopes\":[]}}}}}",
             other);
    assert_int_equal(load(&t, body, NULL), ORT_EVALIDATE);
    assert_int_equal(load(&t, "{\"directory\":{\"" T1 "\":{\"home\":\"x\"}}}", NULL),
                     ORT_EVALIDATE);
    assert_int_equal(load(&t, "{\"nodes\":{\"" N1 "\":{\"zone\":\"a\"}}}", NULL), ORT_EVALIDATE);
}

static void
globs_match_as_people_expect(void **state)
{
    (void)state;
    static const struct {
        const char *glob, *name;
        bool match;
    } cases[] = {
        {"*", "", true},          {"*", "x", true},         {"a*", "a", true},
        {"a*", "ba", false},      {"*a", "bba", true},      {"*a", "ab", false},
        {"a*c", "abbc", true},    {"a*c", "abcd", false},   {"a?c", "abc", true},
        {"a?c", "ac", false},     {"", "", true},           {"", "a", false},
        {"*a*b*", "xaxbx", true}, {"*a*b*", "xbxa", false}, {"abc", "abc", true},
        {"abc", "ABC", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const dp_key key = {.collections = &cases[i].glob, .collection_count = 1};
        if (dp_key_covers(&key, cases[i].name, strlen(cases[i].name)) != cases[i].match) {
            fail_msg("%s %s", cases[i].glob, cases[i].name);
        }
    }
    /* The worst case of backtracking stays a product of lengths. */
    char glob[201], name[256];
    for (int i = 0; i < 200; i += 2) {
        memcpy(glob + i, "*a", 2);
    }
    glob[200] = '\0';
    memset(name, 'a', sizeof name);
    name[255] = 'b';
    const char *const globs[] = {glob};
    const dp_key key = {.collections = globs, .collection_count = 1};
    assert_false(dp_key_covers(&key, name, sizeof name));
}

static void
a_token_is_its_key_only_with_the_pepper(void **state)
{
    (void)state;
    unsigned char pepper[ORT_PEPPER_BYTES];
    ort_token token, wrong;
    dp_key key = {0};
    dp_routes *routes = NULL;
    ort_secret_random(pepper, sizeof pepper);
    ort_token_make(&token, ORT_TOKEN_LIVE, (ort_tenant_id){1}, NULL);
    ort_token_make(&wrong, ORT_TOKEN_LIVE, (ort_tenant_id){1}, NULL);
    ort_token_hash(&token, pepper, &key.hash);
    assert_int_equal(dp_routes_new(&routes), ORT_OK);
    assert_false(dp_routes_key_matches(routes, &key, &token));
    dp_routes_set_pepper(routes, pepper);
    assert_true(dp_routes_key_matches(routes, &key, &token));
    assert_false(dp_routes_key_matches(routes, &key, &wrong));
    assert_false(dp_routes_key_matches(routes, NULL, &token));
    dp_routes_free(routes);
}

/* ---- the swap: every snapshot a reader gets is one whole table ---- */

typedef struct {
    dp_routes *routes;
    atomic_bool stop;
    atomic_uint mixed;
    atomic_ulong reads;
} swap_test;

/* Table number v says v in three places. */
static const dp_table *
numbered(uint64_t v)
{
    char body[512];
    const dp_table *t = NULL;
    snprintf(body, sizeof body,
             "{\"tenants\":{\"" T1 "\":{\"name\":\"t%" PRIu64
             "\",\"state\":\"active\",\"epoch\":%" PRIu64
             ",\"limits\":{},\"keys\":{}}},\"nodes\":{\"" N1 "\":{\"region\":\"r%" PRIu64 "\"}}}",
             v, v, v);
    const ort_err err = dp_table_from_body(&t, (ort_node_id){1}, (ort_table_at){.version = v}, 0,
                                           body, strlen(body), NULL);
    assert_int_equal(err, ORT_OK);
    return t;
}

static void *
read_tables(void *arg)
{
    swap_test *s = arg;
    while (!atomic_load(&s->stop)) {
        const dp_table *t = dp_routes_acquire(s->routes);
        const uint64_t v = dp_table_at(t).version;
        const dp_tenant_entry *e = dp_table_tenant(t, (ort_tenant_id){1});
        const dp_node *n = dp_table_node(t, (ort_node_id){0xa1});
        char want[32];
        snprintf(want, sizeof want, "t%" PRIu64, v);
        if (e == NULL || n == NULL || e->epoch != v || strcmp(e->name, want) != 0 ||
            strcmp(n->region + 1, want + 1) != 0) {
            atomic_fetch_add(&s->mixed, 1);
        }
        atomic_fetch_add(&s->reads, 1);
        dp_table_release(t);
    }
    return NULL;
}

static void
readers_see_the_old_table_or_the_new_one_and_never_a_mix(void **state)
{
    (void)state;
    swap_test s = {0};
    pthread_t threads[4];
    assert_int_equal(dp_routes_new(&s.routes), ORT_OK);
    dp_routes_set(s.routes, numbered(1));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ort_thread_start(&threads[i], "reader", read_tables, &s, NULL), ORT_OK);
    }
    for (uint64_t v = 2; v < 500; v++) {
        dp_routes_set(s.routes, numbered(v));
    }
    while (atomic_load(&s.reads) < 1000) {
        sched_yield();
    }
    atomic_store(&s.stop, true);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&s.mixed), 0);
    dp_routes_free(s.routes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_of_an_entry_is_found_again),
        cmocka_unit_test(an_entry_that_means_nothing_is_refused),
        cmocka_unit_test(globs_match_as_people_expect),
        cmocka_unit_test(a_token_is_its_key_only_with_the_pepper),
        cmocka_unit_test(readers_see_the_old_table_or_the_new_one_and_never_a_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
