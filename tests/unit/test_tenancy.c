/* The rules of desired state, on a real store: what is allowed, what follows, what is recorded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "support/scratch.h"
#include "tenancy/admin.h"
#include "tenancy/audit.h"
#include "tenancy/idempotency.h"
#include "tenancy/key.h"
#include "tenancy/node.h"
#include "tenancy/plan.h"
#include "tenancy/region.h"
#include "tenancy/tenant.h"

typedef struct {
    char dir[64], path[96];
    int fd;
    cp_store *store;
    cp_secrets secrets;
    cp_tenancy *t;
} hub;

static hub h;
static ort_diag diag;
static const cp_author operator_ = {.actor = "operator:test", .request_id = "r-1"};

static void
open_hub(void)
{
    const cp_store_options options = {.path = h.path};
    assert_int_equal(cp_secrets_open(&h.secrets, h.fd, true, "test", &diag), ORT_OK);
    assert_int_equal(cp_store_open(&h.store, &options, &diag), ORT_OK);
    const cp_tenancy_options o = {.store = h.store, .secrets = &h.secrets};
    assert_int_equal(cp_tenancy_new(&h.t, &o, &diag), ORT_OK);
}

static void
close_hub(void)
{
    cp_tenancy_free(h.t);
    cp_store_close(h.store);
    cp_secrets_fini(&h.secrets);
}

static int
setup(void **state)
{
    (void)state;
    scratch_dir(h.dir, sizeof h.dir, "ort-tenancy");
    snprintf(h.path, sizeof h.path, "%s/control.db", h.dir);
    h.fd = open(h.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    open_hub();
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    close_hub();
    close(h.fd);
    scratch_remove(h.dir);
    return 0;
}

static ort_node_id
join(const char *region, const char *name)
{
    char token[ORT_TOKEN_TEXT_BYTES];
    cp_join_token row;
    cp_region place;
    cp_node node;
    ort_sign_key key;
    const ort_err made = cp_region_create(h.t, &operator_, region, "", &place, NULL, &diag);
    assert_true(made == ORT_OK || made == ORT_EEXISTS);
    assert_int_equal(cp_join_token_create(h.t, &operator_, region, 60, token, &row, NULL, &diag),
                     ORT_OK);
    ort_sign_key_new(&key);
    cp_node_facts facts = {.name = name,
                           .region = region,
                           .zone = "",
                           .endpoint = "http://127.0.0.1:1",
                           .forward = "ipc:///tmp/x",
                           .software = "test",
                           .key = key.public};
    assert_int_equal(cp_node_join(h.t, token, strlen(token), &facts, &node, NULL, &diag), ORT_OK);

    /* The reply was lost: the same again gives the same node; another key gets nothing. */
    cp_node again;
    assert_int_equal(cp_node_join(h.t, token, strlen(token), &facts, &again, NULL, &diag), ORT_OK);
    assert_true(again.id.v == node.id.v);
    ort_sign_key_new(&key);
    facts.key = key.public;
    assert_int_equal(cp_node_join(h.t, token, strlen(token), &facts, &again, NULL, &diag),
                     ORT_EAUTH);
    assert_int_equal(cp_node_ready(h.t, node.id, NULL, &diag), ORT_OK);
    return node.id;
}

static cp_tenant
make_tenant(const char *name, const char *region)
{
    cp_texts regions = {0};
    cp_tenant tenant;
    if (region != NULL) {
        assert_int_equal(cp_texts_add(&regions, region, strlen(region)), ORT_OK);
    }
    const cp_tenant_ask ask = {.name = name, .regions = &regions};
    assert_int_equal(cp_tenant_create(h.t, &operator_, &ask, &tenant, NULL, &diag), ORT_OK);
    return tenant;
}

static ort_node_id
home_of(ort_tenant_id id)
{
    cp_tx *tx;
    cp_home home = {0};
    assert_int_equal(cp_store_begin_read(h.store, &tx, &diag), ORT_OK);
    const ort_err err = cp_home_get(tx, id, &home, &diag);
    assert_true(err == ORT_OK || err == ORT_ENOTFOUND);
    cp_tx_end(tx);
    return home.home;
}

static void
a_tenant_is_placed_within_its_pin(void **state)
{
    (void)state;
    const ort_node_id eu = join("eu", "n-eu"), us = join("us", "n-us");
    assert_true(home_of(make_tenant("acme", "eu").id).v == eu.v);
    assert_true(home_of(make_tenant("globex", "us").id).v == us.v);
    cp_texts moon = {0};
    cp_tenant out;
    assert_int_equal(cp_texts_add(&moon, "moon", 4), ORT_OK);
    const cp_tenant_ask ask = {.name = "x", .regions = &moon};
    assert_int_equal(cp_tenant_create(h.t, &operator_, &ask, &out, NULL, &diag), ORT_EVALIDATE);
    const cp_tenant_ask twice = {.name = "acme"};
    assert_int_equal(cp_tenant_create(h.t, &operator_, &twice, &out, NULL, &diag), ORT_EEXISTS);
    const cp_tenant_ask id = {.name = "0123456789abcdef"};
    assert_int_equal(cp_tenant_create(h.t, &operator_, &id, &out, NULL, &diag), ORT_EVALIDATE);
    const cp_tenant_ask bad = {.name = "../acme"};
    assert_int_equal(cp_tenant_create(h.t, &operator_, &bad, &out, NULL, &diag), ORT_EVALIDATE);
}

static void
a_tenant_without_a_node_is_placed_when_one_comes(void **state)
{
    (void)state;
    uint64_t placed;
    const cp_tenant early = make_tenant("early", NULL);
    assert_true(home_of(early.id).v == 0);
    assert_int_equal(cp_tenant_place_pending(h.t, &placed, NULL, &diag), ORT_OK);
    assert_int_equal(placed, 0);
    const ort_node_id node = join("eu", "n1");
    assert_int_equal(cp_tenant_place_pending(h.t, &placed, NULL, &diag), ORT_OK);
    assert_int_equal(placed, 1);
    assert_true(home_of(early.id).v == node.v);
}

static void
a_cordoned_node_gets_no_new_tenants(void **state)
{
    (void)state;
    cp_node node;
    const ort_node_id a = join("eu", "a"), b = join("eu", "b");
    assert_int_equal(cp_node_cordon(h.t, &operator_, a, true, &node, NULL, &diag), ORT_OK);
    for (int i = 0; i < 8; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        assert_true(home_of(make_tenant(name, NULL).id).v == b.v);
    }
    assert_int_equal(cp_node_remove(h.t, &operator_, b, false, NULL, &diag), ORT_ECONFLICT);
    assert_int_equal(cp_node_remove(h.t, &operator_, a, false, NULL, &diag), ORT_OK);
}

static void
keys_live_rotate_and_end(void **state)
{
    (void)state;
    char token[ORT_TOKEN_TEXT_BYTES], next[ORT_TOKEN_TEXT_BYTES];
    cp_key key, fresh, old;
    ort_token parsed;
    const cp_tenant tenant = make_tenant("acme", NULL), other = make_tenant("other", NULL);
    const cp_key_ask ask = {.name = "app", .scopes = CP_SCOPE_DATA_READ};
    assert_int_equal(cp_key_create(h.t, &operator_, tenant.id, &ask, token, &key, NULL, &diag),
                     ORT_OK);
    assert_int_equal(ort_token_parse(token, strlen(token), &parsed), ORT_OK);
    assert_true(parsed.id.tenant.v == tenant.id.v);
    assert_true(ort_token_matches(&parsed, h.secrets.pepper, &key.hash));

    /* Another tenant's key is as one that does not exist. */
    assert_int_equal(cp_key_revoke(h.t, &operator_, other.id, key.id, &old, NULL, &diag),
                     ORT_ENOTFOUND);
    assert_int_equal(
        cp_key_rotate(h.t, &operator_, tenant.id, key.id, 60, next, &fresh, &old, NULL, &diag),
        ORT_OK);
    assert_string_not_equal(token, next);
    assert_int_equal(fresh.scopes, CP_SCOPE_DATA_READ);
    assert_true(old.expires_at_ms > 0 && old.revoked_at_ms == 0);
    assert_int_equal(
        cp_key_rotate(h.t, &operator_, tenant.id, key.id, 60, next, &fresh, &old, NULL, &diag),
        ORT_ECONFLICT);
    assert_int_equal(next[0], 0);
    uint64_t v1, v2;
    assert_int_equal(cp_key_revoke(h.t, &operator_, tenant.id, key.id, &old, &v1, &diag), ORT_OK);
    assert_int_equal(cp_key_revoke(h.t, &operator_, tenant.id, key.id, &old, &v2, &diag), ORT_OK);
    assert_true(v1 == v2);
    const cp_key_ask past = {.expires_at_ms = 1};
    assert_int_equal(cp_key_create(h.t, &operator_, tenant.id, &past, token, &key, NULL, &diag),
                     ORT_EVALIDATE);
}

/* No secret may be found in the database or its log, whatever was made. */
static void
the_database_holds_no_secret(void **state)
{
    (void)state;
    char token[ORT_TOKEN_TEXT_BYTES], admin[ORT_TOKEN_TEXT_BYTES], path[128];
    cp_key key;
    const cp_tenant tenant = make_tenant("acme", NULL);
    const cp_key_ask ask = {.name = "app"};
    assert_int_equal(cp_key_create(h.t, &operator_, tenant.id, &ask, token, &key, NULL, &diag),
                     ORT_OK);
    assert_int_equal(cp_admin_bootstrap(h.t, admin, &diag), ORT_OK);
    assert_true(admin[0] != '\0');
    static const char *const files[] = {"", "-wal"};
    for (size_t i = 0; i < 2; i++) {
        ort_buf bytes = {0};
        snprintf(path, sizeof path, "control.db%s", files[i]);
        assert_int_equal(ort_file_read(h.fd, path, 64u << 20, &bytes, &diag), ORT_OK);
        const char *secret = token + strlen("orth_live_") + 25, *admin_secret = admin + 8 + 25;
        assert_null(memmem(bytes.data, bytes.len, secret, 32));
        assert_null(memmem(bytes.data, bytes.len, admin_secret, 32));
        ort_buf_fini(&bytes);
    }
    assert_int_equal(cp_admin_bootstrap(h.t, admin, &diag), ORT_OK);
    assert_int_equal(admin[0], 0);
}

static void
deletion_ends_with_the_last_holder(void **state)
{
    (void)state;
    bool done;
    cp_tenant out;
    char token[ORT_TOKEN_TEXT_BYTES];
    cp_key key;
    const ort_node_id node = join("eu", "n1"), stranger = join("eu", "n2");
    const cp_tenant tenant = make_tenant("acme", NULL);
    const ort_node_id home = home_of(tenant.id);
    const ort_node_id away = home.v == node.v ? stranger : node;
    assert_int_equal(cp_tenant_gone(h.t, tenant.id, home, &done, NULL, &diag), ORT_ECONFLICT);
    assert_int_equal(
        cp_tenant_delete(h.t, &operator_, tenant.id, &(uint64_t){99}, &out, NULL, &diag),
        ORT_ESTALE);
    assert_int_equal(
        cp_tenant_delete(h.t, &operator_, tenant.id, &tenant.revision, &out, NULL, &diag), ORT_OK);
    assert_int_equal(out.state, CP_TENANT_DELETING);
    assert_int_equal(
        cp_key_create(h.t, &operator_, tenant.id, &(cp_key_ask){0}, token, &key, NULL, &diag),
        ORT_ECONFLICT);
    assert_int_equal(cp_tenant_gone(h.t, tenant.id, away, &done, NULL, &diag), ORT_ECONFLICT);
    assert_int_equal(cp_tenant_gone(h.t, tenant.id, home, &done, NULL, &diag), ORT_OK);
    assert_true(done);
    assert_int_equal(cp_tenant_gone(h.t, tenant.id, home, &done, NULL, &diag), ORT_OK);
    /* The name is free again. */
    assert_true(make_tenant("acme", NULL).id.v != tenant.id.v);
}

static void
limits_come_from_plan_and_overrides(void **state)
{
    (void)state;
    cp_plan plan;
    cp_quota quota;
    cp_limits limits;
    cp_tx *tx;
    const cp_tenant tenant = make_tenant("acme", NULL);
    cp_overrides o = {0};
    o.set[CP_LIMIT_VECTORS] = true;
    o.to.v[CP_LIMIT_VECTORS] = 5;
    assert_int_equal(cp_quota_set(h.t, &operator_, tenant.id, NULL, &o, &quota, NULL, &diag),
                     ORT_OK);
    assert_int_equal(
        cp_quota_set(h.t, &operator_, tenant.id, &(uint64_t){77}, &o, &quota, NULL, &diag),
        ORT_ESTALE);
    cp_overrides patch = {0};
    patch.set[CP_LIMIT_COLLECTIONS] = true;
    patch.to.v[CP_LIMIT_COLLECTIONS] = 3;
    assert_int_equal(
        cp_plan_update(h.t, &operator_, "default", NULL, NULL, &patch, &plan, NULL, &diag), ORT_OK);
    assert_int_equal(cp_store_begin_read(h.store, &tx, &diag), ORT_OK);
    assert_int_equal(cp_tenant_limits(tx, tenant.id, &limits, &diag), ORT_OK);
    cp_tx_end(tx);
    assert_true(limits.v[CP_LIMIT_VECTORS] == 5);
    assert_true(limits.v[CP_LIMIT_COLLECTIONS] == 3);
    assert_true(limits.v[CP_LIMIT_REQUESTS_PER_MINUTE] == 1000);
    assert_int_equal(cp_plan_delete(h.t, &operator_, "default", NULL, NULL, &diag), ORT_ECONFLICT);
    assert_int_equal(cp_plan_delete(h.t, &operator_, "enterprise", NULL, NULL, &diag), ORT_OK);
}

static void
admin_tokens_reach_what_their_role_says(void **state)
{
    (void)state;
    char boot[ORT_TOKEN_TEXT_BYTES], token[ORT_TOKEN_TEXT_BYTES];
    cp_admin who;
    cp_admin_token row;
    const cp_tenant a = make_tenant("a", NULL), b = make_tenant("b", NULL);
    assert_int_equal(cp_admin_bootstrap(h.t, boot, &diag), ORT_OK);
    assert_int_equal(cp_admin_authenticate(h.t, boot, strlen(boot), &who, &diag), ORT_OK);
    assert_int_equal(who.role, CP_ROLE_OPERATOR);
    assert_int_equal(cp_admin_token_revoke(h.t, &operator_, who.token, &row, NULL, &diag),
                     ORT_ECONFLICT);
    assert_int_equal(cp_admin_token_create(h.t, &operator_, "ta", CP_ROLE_TENANT_ADMIN, a.id, 0,
                                           token, &row, NULL, &diag),
                     ORT_OK);
    assert_int_equal(cp_admin_authenticate(h.t, token, strlen(token), &who, &diag), ORT_OK);
    assert_int_equal(cp_admin_may_change(&who, a.id, &diag), ORT_OK);
    assert_int_equal(cp_admin_may_read(&who, b.id, &diag), ORT_ENOTFOUND);
    assert_int_equal(cp_admin_may_read(&who, (ort_tenant_id){0}, &diag), ORT_EDENIED);
    token[strlen(token) - 9] ^= 1;
    assert_int_equal(cp_admin_authenticate(h.t, token, strlen(token), &who, &diag), ORT_EAUTH);
    assert_int_equal(cp_admin_token_revoke(h.t, &operator_, row.id, &row, NULL, &diag), ORT_OK);
    token[strlen(token) - 9] ^= 1;
    assert_int_equal(cp_admin_authenticate(h.t, token, strlen(token), &who, &diag), ORT_EAUTH);
}

static ort_err
keep_answer(void *ctx, cp_tx *tx, ort_diag *d)
{
    return cp_replay_keep(h.t, tx, ctx, 201, "{\"secret\":1}", 12, d);
}

static void
a_repeated_post_gets_the_first_answer(void **state)
{
    (void)state;
    cp_region region;
    uint16_t status;
    ort_buf body = {0};
    cp_replay_ask ask = {.actor = "operator:test",
                         .key = "k1",
                         .method = "POST",
                         .path = "/v1/regions",
                         .body = "x",
                         .body_len = 1};
    const cp_author author = {.actor = "operator:test", .before_commit = keep_answer, .ctx = &ask};
    assert_int_equal(cp_replay_find(h.t, &ask, &status, &body, &diag), ORT_ENOTFOUND);
    assert_int_equal(cp_region_create(h.t, &author, "eu", "", &region, NULL, &diag), ORT_OK);
    assert_int_equal(cp_replay_find(h.t, &ask, &status, &body, &diag), ORT_OK);
    assert_int_equal(status, 201);
    assert_memory_equal(body.data, "{\"secret\":1}", 12);
    ask.body = "y";
    assert_int_equal(cp_replay_find(h.t, &ask, &status, &body, &diag), ORT_ECONFLICT);
    ask.actor = "operator:other";
    assert_int_equal(cp_replay_find(h.t, &ask, &status, &body, &diag), ORT_ENOTFOUND);
    ort_buf_fini(&body);
}

static void
a_database_with_other_secrets_is_refused(void **state)
{
    (void)state;
    close_hub();
    assert_int_equal(ort_tree_remove(h.fd, "secrets", &diag), ORT_OK);
    const cp_store_options options = {.path = h.path};
    cp_tenancy *t;
    assert_int_equal(cp_secrets_open(&h.secrets, h.fd, false, "test", &diag), ORT_ENOTFOUND);
    assert_int_equal(cp_secrets_open(&h.secrets, h.fd, true, "test", &diag), ORT_OK);
    assert_int_equal(cp_store_open(&h.store, &options, &diag), ORT_OK);
    const cp_tenancy_options o = {.store = h.store, .secrets = &h.secrets};
    assert_int_equal(cp_tenancy_new(&t, &o, &diag), ORT_ECORRUPT);
    assert_null(t);
    h.t = NULL;
}

static void
every_change_is_on_the_chain(void **state)
{
    (void)state;
    cp_oplog_verdict verdict;
    char head[CP_AUDIT_HEAD_BYTES], differ[256];
    cp_tx *tx;
    keys_live_rotate_and_end(NULL);
    assert_int_equal(cp_audit_head(h.t, head, &diag), ORT_OK);
    (void)make_tenant("later", NULL);
    assert_int_equal(cp_audit_verify(h.t, head, &verdict, &diag), ORT_OK);
    assert_true(verdict.intact);
    assert_true(verdict.records >= 5);
    head[strlen(head) - 1] ^= 1;
    assert_int_not_equal(cp_audit_verify(h.t, head, &verdict, &diag), ORT_OK);
    assert_int_equal(cp_store_begin_read(h.store, &tx, &diag), ORT_OK);
    assert_int_equal(cp_oplog_compare_state(tx, differ, &diag), ORT_OK);
    assert_string_equal(differ, "");
    cp_tx_end(tx);
}

static uint64_t
version_now(void)
{
    cp_store_stats stats;
    cp_store_stats_get(h.store, &stats);
    return stats.version;
}

/* Clients send again what they are not sure of. The second time must be fine, tell the same, and
 * leave no record: audit would show a change that was none, and every node would be woken. */
static void
asking_twice_changes_once(void **state)
{
    (void)state;
    char token[ORT_TOKEN_TEXT_BYTES];
    uint64_t first, second;
    cp_node node;
    cp_key key;
    cp_admin_token admin;
    cp_join_token ticket;
    bool done;
    const ort_node_id id = join("eu", "n1");
    cp_tenant tenant = make_tenant("acme", "eu");
    assert_int_equal(
        cp_key_create(h.t, &operator_, tenant.id, &(cp_key_ask){0}, token, &key, NULL, &diag),
        ORT_OK);
    assert_int_equal(cp_admin_token_create(h.t, &operator_, "v", CP_ROLE_VIEWER, (ort_tenant_id){0},
                                           0, token, &admin, NULL, &diag),
                     ORT_OK);
    assert_int_equal(cp_join_token_create(h.t, &operator_, "eu", 60, token, &ticket, NULL, &diag),
                     ORT_OK);
#define TWICE(call)                             \
    do {                                        \
        uint64_t *v = &first;                   \
        const uint64_t before = version_now();  \
        assert_int_equal((call), ORT_OK);       \
        v = &second;                            \
        assert_int_equal((call), ORT_OK);       \
        assert_int_equal(first, before + 1);    \
        assert_int_equal(second, first);        \
        assert_int_equal(version_now(), first); \
    } while (0)
    TWICE(cp_node_cordon(h.t, &operator_, id, true, &node, v, &diag));
    TWICE(cp_node_cordon(h.t, &operator_, id, false, &node, v, &diag));
    TWICE(cp_node_set_weight(h.t, &operator_, id, 50, &node, v, &diag));
    TWICE(cp_tenant_suspend(h.t, &operator_, tenant.id, NULL, true, &tenant, v, &diag));
    TWICE(cp_tenant_suspend(h.t, &operator_, tenant.id, NULL, false, &tenant, v, &diag));
    TWICE(cp_key_revoke(h.t, &operator_, tenant.id, key.id, &key, v, &diag));
    TWICE(cp_admin_token_revoke(h.t, &operator_, admin.id, &admin, v, &diag));
    TWICE(cp_join_token_revoke(h.t, &operator_, ticket.id, v, &diag));
    TWICE(cp_tenant_delete(h.t, &operator_, tenant.id, NULL, &tenant, v, &diag));
    TWICE(cp_tenant_gone(h.t, tenant.id, id, &done, v, &diag));
    assert_true(done);
#undef TWICE
    const uint64_t before = version_now();
    assert_int_equal(cp_node_ready(h.t, id, NULL, &diag), ORT_OK);
    assert_int_equal(version_now(), before);
}

#define REFUSED(call, expect, words)                                    \
    do {                                                                \
        diag.text[0] = '\0';                                            \
        assert_int_equal((call), (expect));                             \
        if (strstr(diag.text, (words)) == NULL) {                       \
            fail_msg("\"%s\" does not say \"%s\"", diag.text, (words)); \
        }                                                               \
    } while (0)

/* A refusal has its code, says what was asked, and leaves no record. */
static void
refusals_say_what_and_change_nothing(void **state)
{
    (void)state;
    cp_region region;
    cp_plan plan;
    cp_quota quota;
    cp_key key;
    cp_tenant tenant, other;
    char token[ORT_TOKEN_TEXT_BYTES], long_name[80];
    cp_limits limits = {{0}};
    cp_overrides overrides = {.set = {true}, .to = {{CP_LIMIT_VALUE_MAX + 1}}};
    const uint64_t wrong = 77;
    memset(long_name, 'a', sizeof long_name);
    long_name[64] = '\0';
    join("eu", "n1");
    tenant = make_tenant("acme", "eu");
    const uint64_t before = version_now();
    static const char *const bad_names[] = {"", "A", "a b", "a/b", "..", "a\n", "\xc3\xa9", "a_b"};
    for (size_t i = 0; i < sizeof bad_names / sizeof bad_names[0]; i++) {
        REFUSED(cp_region_create(h.t, &operator_, bad_names[i], "", &region, NULL, &diag),
                ORT_EVALIDATE, "region");
        REFUSED(cp_tenant_create(h.t, &operator_, &(cp_tenant_ask){.name = bad_names[i]}, &other,
                                 NULL, &diag),
                ORT_EVALIDATE, "tenant");
        REFUSED(cp_plan_create(h.t, &operator_, bad_names[i], "", &limits, &plan, NULL, &diag),
                ORT_EVALIDATE, "plan");
    }
    REFUSED(cp_region_create(h.t, &operator_, long_name, "", &region, NULL, &diag), ORT_EVALIDATE,
            "1 to 63");
    REFUSED(cp_region_create(h.t, &operator_, "eu", "", &region, NULL, &diag), ORT_EEXISTS, "eu");
    REFUSED(cp_region_create(h.t, &operator_, "us", "a\nb", &region, NULL, &diag), ORT_EVALIDATE,
            "control character");
    REFUSED(cp_region_delete(h.t, &operator_, "eu", NULL, &diag), ORT_ECONFLICT, "in use");
    REFUSED(cp_region_delete(h.t, &operator_, "mars", NULL, &diag), ORT_ENOTFOUND, "mars");
    REFUSED(
        cp_tenant_create(h.t, &operator_, &(cp_tenant_ask){.name = "acme"}, &other, NULL, &diag),
        ORT_EEXISTS, "acme");
    REFUSED(cp_tenant_create(h.t, &operator_, &(cp_tenant_ask){.name = "0123456789abcdef"}, &other,
                             NULL, &diag),
            ORT_EVALIDATE, "read as an id");
    REFUSED(cp_tenant_create(h.t, &operator_, &(cp_tenant_ask){.name = "b", .plan = "gold"}, &other,
                             NULL, &diag),
            ORT_EVALIDATE, "no plan gold");
    cp_texts mars = {0};
    assert_int_equal(cp_texts_add(&mars, "mars", 4), ORT_OK);
    REFUSED(cp_tenant_create(h.t, &operator_, &(cp_tenant_ask){.name = "b", .regions = &mars},
                             &other, NULL, &diag),
            ORT_EVALIDATE, "no region mars");
    REFUSED(cp_tenant_suspend(h.t, &operator_, tenant.id, &wrong, true, &other, NULL, &diag),
            ORT_ESTALE, "not 77");
    REFUSED(cp_tenant_delete(h.t, &operator_, tenant.id, &wrong, &other, NULL, &diag), ORT_ESTALE,
            "not 77");
    REFUSED(cp_tenant_delete(h.t, &operator_, (ort_tenant_id){5}, NULL, &other, NULL, &diag),
            ORT_ENOTFOUND, "no tenant");
    REFUSED(cp_quota_set(h.t, &operator_, tenant.id, &wrong, &overrides, &quota, NULL, &diag),
            ORT_EVALIDATE, "max_collections");
    overrides.to.v[0] = 5;
    REFUSED(cp_quota_set(h.t, &operator_, tenant.id, &wrong, &overrides, &quota, NULL, &diag),
            ORT_ESTALE, "not 77");
    REFUSED(
        cp_plan_update(h.t, &operator_, "default", &wrong, NULL, &overrides, &plan, NULL, &diag),
        ORT_ESTALE, "not 77");
    REFUSED(cp_plan_delete(h.t, &operator_, "default", NULL, NULL, &diag), ORT_ECONFLICT, "stays");
    REFUSED(cp_plan_delete(h.t, &operator_, "gold", NULL, NULL, &diag), ORT_ENOTFOUND, "gold");
    REFUSED(cp_key_create(h.t, &operator_, tenant.id, &(cp_key_ask){.scopes = 8}, token, &key, NULL,
                          &diag),
            ORT_EVALIDATE, "scope");
    REFUSED(cp_key_create(h.t, &operator_, tenant.id, &(cp_key_ask){.expires_at_ms = 5}, token,
                          &key, NULL, &diag),
            ORT_EVALIDATE, "future");
    cp_texts globs = {0};
    assert_int_equal(cp_texts_add(&globs, "../x", 4), ORT_OK);
    REFUSED(cp_key_create(h.t, &operator_, tenant.id, &(cp_key_ask){.collections = &globs}, token,
                          &key, NULL, &diag),
            ORT_EVALIDATE, "0x2f");
    REFUSED(cp_key_create(h.t, &operator_, (ort_tenant_id){5}, &(cp_key_ask){0}, token, &key, NULL,
                          &diag),
            ORT_ENOTFOUND, "no tenant");
    assert_string_equal(token, "");
    REFUSED(cp_key_revoke(h.t, &operator_, tenant.id, "nope", &key, NULL, &diag), ORT_ENOTFOUND,
            "nope");
    assert_int_equal(version_now(), before);
}

/* Whatever is wrong with a join token, the answer is the same; only its region is told, to who
 * holds a good one. */
static void
a_bad_join_token_gets_one_answer(void **state)
{
    (void)state;
    char good[ORT_TOKEN_TEXT_BYTES], revoked[ORT_TOKEN_TEXT_BYTES], forged[ORT_TOKEN_TEXT_BYTES];
    cp_join_token row;
    cp_region region;
    cp_node node;
    ort_token fresh;
    ort_sign_key key;
    const char *answer = "the join token is unknown, used, revoked or expired";
    assert_int_equal(cp_region_create(h.t, &operator_, "eu", "", &region, NULL, &diag), ORT_OK);
    assert_int_equal(cp_region_create(h.t, &operator_, "us", "", &region, NULL, &diag), ORT_OK);
    ort_sign_key_new(&key);
    cp_node_facts facts = {.name = "n1",
                           .region = "eu",
                           .zone = "",
                           .endpoint = "http://127.0.0.1:1",
                           .forward = "ipc:///tmp/x",
                           .software = "test",
                           .key = key.public};
    assert_int_equal(cp_join_token_create(h.t, &operator_, "eu", 60, revoked, &row, NULL, &diag),
                     ORT_OK);
    assert_int_equal(cp_join_token_revoke(h.t, &operator_, row.id, NULL, &diag), ORT_OK);
    assert_int_equal(cp_join_token_create(h.t, &operator_, "eu", 60, good, &row, NULL, &diag),
                     ORT_OK);
    ort_token_make(&fresh, ORT_TOKEN_JOIN, (ort_tenant_id){0}, h.secrets.ca_print);
    ort_token_format(&fresh, forged); /* well formed, and never given out */
    const char *const bad[] = {"", "orthjoin_x", revoked, forged, good + 1};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        REFUSED(cp_node_join(h.t, bad[i], strlen(bad[i]), &facts, &node, NULL, &diag), ORT_EAUTH,
                answer);
    }
    facts.region = "us";
    REFUSED(cp_node_join(h.t, good, strlen(good), &facts, &node, NULL, &diag), ORT_EREGION,
            "for region eu");
    facts.region = "eu";
    facts.endpoint = "file:///etc/passwd";
    REFUSED(cp_node_join(h.t, good, strlen(good), &facts, &node, NULL, &diag), ORT_EVALIDATE,
            "endpoint");
    facts.endpoint = "https://n1.example";
    assert_int_equal(cp_node_join(h.t, good, strlen(good), &facts, &node, NULL, &diag), ORT_OK);
    facts.zone = "b"; /* a hello brings news, another key does not */
    assert_int_equal(cp_node_hello(h.t, node.id, &facts, &node, NULL, &diag), ORT_OK);
    assert_string_equal(node.zone, "b");
    const uint64_t before = version_now();
    assert_int_equal(cp_node_hello(h.t, node.id, &facts, &node, NULL, &diag), ORT_OK);
    assert_int_equal(version_now(), before);
    facts.key.b[0] ^= 1;
    REFUSED(cp_node_hello(h.t, node.id, &facts, &node, NULL, &diag), ORT_EDENIED, "key");
    facts.key.b[0] ^= 1;
    assert_int_equal(cp_node_remove(h.t, &operator_, node.id, false, NULL, &diag), ORT_OK);
    REFUSED(cp_node_hello(h.t, node.id, &facts, &node, NULL, &diag), ORT_EDENIED, "removed");
    REFUSED(cp_node_join(h.t, good, strlen(good), &facts, &node, NULL, &diag), ORT_EDENIED,
            "removed");
}

/* A node with tenants goes only when the operator says that their data may be lost; then they stand
 * empty on another node of their pin, at the next epoch. */
static void
a_node_with_tenants_is_removed_only_when_told(void **state)
{
    (void)state;
    const ort_node_id n1 = join("eu", "n1");
    const cp_tenant acme = make_tenant("acme", "eu");
    assert_true(home_of(acme.id).v == n1.v);
    REFUSED(cp_node_remove(h.t, &operator_, n1, false, NULL, &diag), ORT_ECONFLICT, "acme");
    REFUSED(cp_node_remove(h.t, &operator_, n1, true, NULL, &diag), ORT_ECONFLICT, "no other");
    join("us", "n2"); /* outside the pin */
    REFUSED(cp_node_remove(h.t, &operator_, n1, true, NULL, &diag), ORT_ECONFLICT, "no other");
    const ort_node_id n3 = join("eu", "n3");
    assert_int_equal(cp_node_remove(h.t, &operator_, n1, true, NULL, &diag), ORT_OK);
    assert_true(home_of(acme.id).v == n3.v);
}

static char heard[ORT_TOKEN_TEXT_BYTES];

static ort_err
hear_answer(void *ctx, cp_tx *tx, ort_diag *d)
{
    (void)tx;
    (void)d;
    const char *token = ctx;
    snprintf(heard, sizeof heard, "%s", token);
    return ORT_OK;
}

static ort_err
lose_answer(void *ctx, cp_tx *tx, ort_diag *d)
{
    (void)ctx;
    (void)tx;
    return ort_fail(d, ORT_EEXISTS, "another thread kept its answer first");
}

/* The answer is written from the outputs inside the change, so they must stand by then; and when it
 * cannot be kept there is no key either. */
static void
the_answer_is_kept_with_the_change(void **state)
{
    (void)state;
    char token[ORT_TOKEN_TEXT_BYTES];
    cp_key key;
    const cp_tenant acme = make_tenant("acme", NULL);
    const cp_author keeps = {.actor = "operator:a", .before_commit = hear_answer, .ctx = token};
    const cp_author loses = {.actor = "operator:a", .before_commit = lose_answer};
    assert_int_equal(
        cp_key_create(h.t, &keeps, acme.id, &(cp_key_ask){0}, token, &key, NULL, &diag), ORT_OK);
    assert_true(token[0] != '\0');
    assert_string_equal(heard, token);
    REFUSED(cp_key_create(h.t, &loses, acme.id, &(cp_key_ask){0}, token, &key, NULL, &diag),
            ORT_EEXISTS, "kept its answer");
    assert_string_equal(token, "");
    cp_tx *tx;
    uint64_t live;
    assert_int_equal(cp_store_begin_read(h.store, &tx, &diag), ORT_OK);
    assert_int_equal(cp_key_count(tx, acme.id, 1, &live, &diag), ORT_OK);
    assert_int_equal(live, 1);
    cp_tx_end(tx);
}

/* Who can write to the data directory is never locked out, and the audit shows it. */
static void
a_lost_operator_token_is_replaced(void **state)
{
    (void)state;
    char first[ORT_TOKEN_TEXT_BYTES], again[ORT_TOKEN_TEXT_BYTES];
    cp_admin who;
    assert_int_equal(cp_admin_bootstrap(h.t, first, &diag), ORT_OK);
    assert_int_equal(cp_admin_bootstrap(h.t, again, &diag), ORT_OK);
    assert_string_equal(again, "");
    assert_int_equal(cp_admin_recover(h.t, again, &diag), ORT_OK);
    assert_int_equal(cp_admin_authenticate(h.t, again, strlen(again), &who, &diag), ORT_OK);
    assert_int_equal(who.role, CP_ROLE_OPERATOR);
    assert_string_equal(who.name, "recovery");
    assert_int_equal(cp_admin_authenticate(h.t, first, strlen(first), &who, &diag), ORT_OK);
}

/* `orthant audit verify` on a file, also beside a running hub. */
static void
a_file_is_verified_beside_the_running_hub(void **state)
{
    (void)state;
    cp_oplog_verdict verdict;
    (void)make_tenant("acme", NULL);
    assert_int_equal(cp_audit_verify_file(h.path, &verdict, &diag), ORT_OK);
    assert_true(verdict.intact);
    assert_int_equal(verdict.records, version_now());
    REFUSED(cp_audit_verify_file("/nowhere.db", &verdict, &diag), ORT_EIO, "/nowhere.db");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_tenant_is_placed_within_its_pin, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tenant_without_a_node_is_placed_when_one_comes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_cordoned_node_gets_no_new_tenants, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_live_rotate_and_end, setup, teardown),
        cmocka_unit_test_setup_teardown(the_database_holds_no_secret, setup, teardown),
        cmocka_unit_test_setup_teardown(deletion_ends_with_the_last_holder, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_come_from_plan_and_overrides, setup, teardown),
        cmocka_unit_test_setup_teardown(admin_tokens_reach_what_their_role_says, setup, teardown),
        cmocka_unit_test_setup_teardown(a_repeated_post_gets_the_first_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_database_with_other_secrets_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(every_change_is_on_the_chain, setup, teardown),
        cmocka_unit_test_setup_teardown(asking_twice_changes_once, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals_say_what_and_change_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bad_join_token_gets_one_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_node_with_tenants_is_removed_only_when_told, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_answer_is_kept_with_the_change, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_operator_token_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_is_verified_beside_the_running_hub, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
