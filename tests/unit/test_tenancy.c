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
    snprintf(h.dir, sizeof h.dir, "/tmp/ort-tenancy-XXXXXX");
    assert_non_null(mkdtemp(h.dir));
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
    const int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(ort_tree_remove(tmp, h.dir + strlen("/tmp/"), &diag), ORT_OK);
    close(tmp);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
