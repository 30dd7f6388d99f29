/* The store: transactions, the op log, migrations, damage. Fault tests with kill -9 are in
 * tests/fault/test_store_kill.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "store/admin_tokens.h"
#include "store/hub.h"
#include "store/idempotency.h"
#include "store/keys.h"
#include "store/nodes.h"
#include "store/oplog.h"
#include "store/placements.h"
#include "store/plans.h"
#include "store/regions.h"
#include "store/store.h"
#include "store/tenants.h"
#include "store/usage.h"
#include "support/scratch.h"

static const cp_author author = {.actor = "operator:test", .request_id = "req-1"};

typedef struct {
    char dir[64];
    char path[96];
    cp_store *store;
} fixture;

#define OK(call)                                                            \
    do {                                                                    \
        diag.text[0] = '\0';                                                \
        const ort_err ok_err = (call);                                      \
        if (ok_err != ORT_OK) {                                             \
            fail_msg("%s: %s: %s", #call, ort_err_code(ok_err), diag.text); \
        }                                                                   \
    } while (0)

static ort_diag diag;

static void
open_store(fixture *f)
{
    OK(cp_store_open(&f->store, &(cp_store_options){.path = f->path}, &diag));
}

static int
set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    scratch_dir(f->dir, sizeof f->dir, "orthant-store");
    snprintf(f->path, sizeof f->path, "%s/hub.db", f->dir);
    open_store(f);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *f = *state;
    cp_store_close(f->store);
    scratch_remove(f->dir);
    free(f);
    return 0;
}

/* SQL from outside, as someone with the file and the sqlite3 program. */
static void
outside(fixture *f, const char *sql)
{
    sqlite3 *db;
    char *words = NULL;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &words) != SQLITE_OK) {
        fail_msg("%s: %s", sql, words);
    }
    sqlite3_close(db);
}

static void
add_region(fixture *f, const char *name)
{
    cp_tx *tx;
    cp_region row = {.created_at_ms = 1};
    snprintf(row.name, sizeof row.name, "%s", name);
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_region_put(tx, &row, &diag));
    OK(cp_tx_commit(tx, &(cp_change){.op = "region.create"}, NULL, &diag));
}

static void
add_node(fixture *f, uint64_t id, const char *region)
{
    cp_tx *tx;
    cp_node row = {.id = {id}, .weight = 100, .state = CP_NODE_READY, .joined_at_ms = 1};
    snprintf(row.name, sizeof row.name, "n%" PRIx64, id);
    snprintf(row.region, sizeof row.region, "%s", region);
    memcpy(row.key.b, &id, sizeof id);
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_node_put(tx, &row, &diag));
    OK(cp_tx_commit(tx, &(cp_change){.op = "node.join"}, NULL, &diag));
}

static ort_tenant_id
add_tenant(fixture *f, uint64_t id, const char *name)
{
    cp_tx *tx;
    cp_tenant row = {.id = {id}, .plan = "default", .created_at_ms = 1};
    snprintf(row.name, sizeof row.name, "%s", name);
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_tenant_put(tx, &row, &diag));
    assert_int_equal(row.revision, 1);
    OK(cp_tx_commit(tx, &(cp_change){.op = "tenant.create", .tenant = row.id}, NULL, &diag));
    return row.id;
}

static cp_oplog_verdict
verify(fixture *f)
{
    cp_tx *tx;
    cp_oplog_verdict verdict;
    OK(cp_store_begin_read(f->store, &tx, &diag));
    OK(cp_oplog_verify(tx, 0, NULL, &verdict, &diag));
    cp_tx_end(tx);
    return verdict;
}

static void
assert_log_tells_state(fixture *f)
{
    cp_tx *tx;
    char differ[256];
    OK(cp_store_begin_read(f->store, &tx, &diag));
    OK(cp_oplog_compare_state(tx, differ, &diag));
    assert_string_equal(differ, "");
    cp_tx_end(tx);
}

/* Whoever opens a hub for the first time finds the two plans, and version 1 tells of them. */
static void
first_start_makes_hub_and_plans(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_hub hub;
    cp_plan plan;
    OK(cp_store_begin_read(f->store, &tx, &diag));
    OK(cp_hub_get(tx, &hub, &diag));
    assert_int_equal(hub.version, 1);
    assert_int_equal(hub.generation, 1);
    assert_true(hub.hub_id != 0);
    OK(cp_plan_get(tx, "default", &plan, &diag));
    assert_int_equal(plan.limits.v[CP_LIMIT_COLLECTIONS], 100);
    assert_int_equal(plan.limits.v[CP_LIMIT_VECTORS_PER_COLLECTION], 10000000);
    assert_int_equal(plan.limits.v[CP_LIMIT_STORAGE_BYTES], 100000000000);
    assert_int_equal(plan.limits.v[CP_LIMIT_REQUESTS_PER_MINUTE], 1000);
    assert_true(plan.limits.v[CP_LIMIT_REQUESTS_PER_MINUTE_PER_KEY] == CP_UNLIMITED);
    OK(cp_plan_get(tx, "enterprise", &plan, &diag));
    assert_int_equal(plan.limits.v[CP_LIMIT_COLLECTIONS], 1000);
    assert_int_equal(plan.limits.v[CP_LIMIT_REQUESTS_PER_MINUTE], 10000);
    cp_tx_end(tx);
    assert_true(verify(f).intact);
    assert_log_tells_state(f);
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    const uint64_t id = hub.hub_id;
    cp_store_close(f->store);
    open_store(f);
    OK(cp_store_begin_read(f->store, &tx, &diag));
    OK(cp_hub_get(tx, &hub, &diag));
    assert_true(hub.hub_id == id);
    assert_int_equal(hub.version, 1);
    cp_tx_end(tx);
}

/* ---- changes and their records ---- */

typedef struct {
    uint64_t count;
    cp_oplog_record last;
    char op[64], before[4096], after[4096], actor[64], request[64];
} seen;

static ort_err
keep(void *ctx, const cp_oplog_record *record)
{
    seen *s = ctx;
    s->count++;
    s->last = *record;
    snprintf(s->op, sizeof s->op, "%s", record->op);
    snprintf(s->before, sizeof s->before, "%s", record->before);
    snprintf(s->after, sizeof s->after, "%s", record->after);
    snprintf(s->actor, sizeof s->actor, "%s", record->actor);
    snprintf(s->request, sizeof s->request, "%s", record->request_id);
    return ORT_OK;
}

static seen
last_record(fixture *f)
{
    cp_tx *tx;
    seen s = {0};
    OK(cp_store_begin_read(f->store, &tx, &diag));
    OK(cp_oplog_list(tx, &(cp_oplog_query){.newest_first = true, .limit = 1}, keep, &s, &diag));
    cp_tx_end(tx);
    return s;
}

/* A record that holds only what the caller thought of would miss rows: all that was put is there,
 * as it was and as it is, under the author's name. */
static void
a_change_records_every_row_it_touched(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_home home;
    uint64_t version;
    add_region(f, "eu");
    add_node(f, 0xa1, "eu");
    const ort_tenant_id acme = add_tenant(f, 0x1000000000000001, "acme");
    seen s = last_record(f);
    assert_string_equal(s.op, "tenant.create");
    assert_string_equal(s.actor, "operator:test");
    assert_string_equal(s.request, "req-1");
    assert_true(s.last.tenant.v == acme.v);
    assert_string_equal(s.before,
                        "{\"quotas/1000000000000001\":null,\"tenants/1000000000000001\":null}");
    assert_non_null(strstr(s.after, "\"name\":\"acme\""));
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    assert_int_equal(cp_tx_version(tx), 4);
    OK(cp_home_set(tx, acme, (ort_node_id){0xa1}, 0, &home, &diag));
    OK(cp_tx_commit(tx, &(cp_change){.op = "tenant.place", .tenant = acme, .denial = true},
                    &version, &diag));
    assert_int_equal(version, 5);
    assert_int_equal(home.epoch, 1);
    s = last_record(f);
    assert_true(s.last.denial);
    assert_non_null(strstr(s.before, "\"holders/1000000000000001:00000000000000a1\":null"));
    assert_non_null(strstr(s.after, "\"placements/1000000000000001\":{\"tenant\":"));
    assert_true(verify(f).intact);
    assert_log_tells_state(f);
}

/* A change that is given up, or changes nothing, leaves neither rows nor a version. */
static void
nothing_changed_means_no_record(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_region row = {.name = "eu"};
    uint64_t version;
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_region_put(tx, &row, &diag));
    cp_tx_end(tx);
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    assert_int_equal(cp_region_get(tx, "eu", &row, &diag), ORT_ENOTFOUND);
    OK(cp_region_put(tx, &row, &diag));
    OK(cp_region_remove(tx, "eu", &diag));
    OK(cp_tx_commit(tx, &(cp_change){.op = "region.create"}, &version, &diag));
    assert_int_equal(version, 1);
    assert_int_equal(last_record(f).last.version, 1);
}

static ort_err
refuse(void *ctx, cp_tx *tx, ort_diag *d)
{
    (void)tx;
    return ort_fail(d, ORT_EEXISTS, "%s", (const char *)ctx);
}

/* The answer is kept with the change or neither is. */
static void
a_refusal_before_commit_rolls_all_back(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_region row = {.name = "eu"};
    const cp_author picky = {.actor = "system", .before_commit = refuse, .ctx = "kept already"};
    OK(cp_store_begin(f->store, &picky, &tx, &diag));
    OK(cp_region_put(tx, &row, &diag));
    assert_int_equal(cp_tx_commit(tx, &(cp_change){.op = "region.create"}, NULL, &diag),
                     ORT_EEXISTS);
    assert_string_equal(diag.text, "kept already");
    OK(cp_store_begin_read(f->store, &tx, &diag));
    assert_int_equal(cp_region_get(tx, "eu", &row, &diag), ORT_ENOTFOUND);
    cp_tx_end(tx);
}

/* ---- damage ---- */

/* Someone with the file drops the triggers and changes one byte of one record: verify names that
 * record, for each column. */
static void
verify_names_the_first_changed_record(void **state)
{
    fixture *f = *state;
    static const char *const edits[] = {
        "actor = 'operator:evil'",     "op = 'plan.delete'",
        "at_ms = at_ms + 1",           "before = replace(before, 'n', 'm')",
        "after = after || ' '",        "request_id = ''",
        "tenant = '00000000000000ff'", "denial = 1 - denial",
        "hash = zeroblob(32)",         "prev_hash = zeroblob(32)",
        "op = CAST(x'ff' AS TEXT)",
    };
    add_region(f, "eu");
    add_region(f, "us");
    add_region(f, "ap");
    outside(f, "DROP TRIGGER op_log_keeps_content; CREATE TABLE keep AS SELECT * FROM op_log");
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        char sql[256];
        snprintf(sql, sizeof sql, "UPDATE op_log SET %s WHERE version = 3", edits[i]);
        assert_true(verify(f).intact);
        outside(f, sql);
        const cp_oplog_verdict verdict = verify(f);
        assert_false(verdict.intact);
        assert_int_equal(verdict.bad_version, 3);
        outside(f, "UPDATE op_log SET (prev_hash, hash, at_ms, actor, op, tenant, denial, before,"
                   " after, request_id) = (SELECT prev_hash, hash, at_ms, actor, op, tenant,"
                   " denial, before, after, request_id FROM keep WHERE keep.version ="
                   " op_log.version)");
    }
    assert_true(verify(f).intact);
}

static void
verify_names_missing_records(void **state)
{
    fixture *f = *state;
    add_region(f, "eu");
    add_region(f, "us");
    add_region(f, "ap");
    outside(f, "DROP TRIGGER op_log_keeps_rows; CREATE TABLE keep AS SELECT * FROM op_log;"
               "DELETE FROM op_log WHERE version = 2");
    cp_oplog_verdict verdict = verify(f);
    assert_int_equal(verdict.bad_version, 2);
    assert_string_equal(verdict.detail, "record 2 is missing");
    outside(f, "DELETE FROM op_log; INSERT INTO op_log SELECT * FROM keep WHERE version < 3");
    verdict = verify(f);
    assert_int_equal(verdict.bad_version, 3);
    assert_string_equal(verdict.detail, "records 3 to 4 are missing at the end");
    outside(f, "DELETE FROM op_log");
    assert_int_equal(verify(f).bad_version, 1);
}

/* A row changed past the log is found by folding the log, which the chain alone cannot tell. */
static void
a_row_changed_from_outside_differs_from_the_log(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    char differ[256];
    add_region(f, "eu");
    outside(f, "UPDATE plans SET max_collections = 7 WHERE name = 'default'");
    assert_true(verify(f).intact);
    OK(cp_store_begin_read(f->store, &tx, &diag));
    OK(cp_oplog_compare_state(tx, differ, &diag));
    cp_tx_end(tx);
    assert_string_equal(differ, "plans/default is not as its last record left it");
}

/* An auditor sees that a hash was stored, and not the hash. */
static void
hashes_are_hidden_from_people(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    seen s = {0};
    cp_key key = {.id = "0123456789abcdefghjkmnpq",
                  .scopes = CP_SCOPE_DATA_READ,
                  .name = "\"hash\":\"not one\"",
                  .max_requests_per_minute = CP_UNLIMITED};
    key.tenant = add_tenant(f, 0x1000000000000001, "acme");
    memset(key.hash.b, 0x5a, sizeof key.hash.b);
    OK(cp_texts_add(&key.collections, "docs-*", 6));
    OK(cp_texts_add(&key.collections, "a\"b", 3));
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_key_put(tx, &key, &diag));
    OK(cp_tx_commit(tx, &(cp_change){.op = "key.create", .tenant = key.tenant}, NULL, &diag));
    OK(cp_store_begin_read(f->store, &tx, &diag));
    cp_oplog_query query = {.newest_first = true, .limit = 1, .for_people = true};
    OK(cp_oplog_list(tx, &query, keep, &s, &diag));
    assert_non_null(strstr(s.after, "\"hash\":\"(hidden)\""));
    assert_null(strstr(s.after, "5a5a"));
    assert_non_null(strstr(s.after, "\\\"hash\\\":\\\"not one\\\""));
    assert_non_null(strstr(s.after, "\"collections\":[\"docs-*\",\"a\\\"b\"]"));
    query.for_people = false;
    OK(cp_oplog_list(tx, &query, keep, &s, &diag));
    assert_non_null(strstr(s.after, "5a5a"));
    cp_key back;
    OK(cp_key_get(tx, key.tenant, key.id, &back, &diag));
    assert_true(cp_texts_equal(&back.collections, &key.collections));
    assert_string_equal(back.name, key.name);
    assert_memory_equal(back.hash.b, key.hash.b, 32);
    cp_tx_end(tx);
}

/* ---- rows and their refusals ---- */

#define REFUSED(call, expect, words)                 \
    do {                                             \
        assert_int_equal((call), (expect));          \
        assert_non_null(strstr(diag.text, (words))); \
    } while (0)

static void
names_are_unique_and_come_free_with_a_tombstone(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_tenant row, other = {.id = {0x1000000000000002}, .name = "acme", .plan = "default"};
    const ort_tenant_id acme = add_tenant(f, 0x1000000000000001, "acme");
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    REFUSED(cp_tenant_put(tx, &other, &diag), ORT_EEXISTS, "named acme already");
    cp_tx_end(tx);
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_tenant_find(tx, "acme", &row, &diag));
    row.state = CP_TENANT_DELETED;
    row.deleted_at_ms = 5;
    OK(cp_tenant_put(tx, &row, &diag));
    assert_int_equal(row.revision, 2);
    OK(cp_tenant_put(tx, &other, &diag));
    OK(cp_tx_commit(tx, &(cp_change){.op = "tenant.deleted"}, NULL, &diag));
    OK(cp_store_begin_read(f->store, &tx, &diag));
    OK(cp_tenant_find(tx, "acme", &row, &diag));
    assert_true(row.id.v == other.id.v);
    REFUSED(cp_tenant_find(tx, "1000000000000001", &row, &diag), ORT_ENOTFOUND, "no tenant 1000");
    OK(cp_tenant_get(tx, acme, &row, &diag));
    assert_int_equal(row.state, CP_TENANT_DELETED);
    cp_tx_end(tx);
}

static void
what_is_referred_to_must_be_there_and_stays(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_tenant row = {.id = {0x1000000000000001}, .name = "acme", .plan = "gold"};
    cp_node node = {.id = {7}, .name = "n", .region = "mars", .weight = 1};
    add_region(f, "eu");
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    REFUSED(cp_tenant_put(tx, &row, &diag), ORT_ENOTFOUND, "no plan gold");
    /* A failed statement ends what the transaction may become. */
    REFUSED(cp_tx_commit(tx, &(cp_change){.op = "x.y"}, NULL, &diag), ORT_EINTERNAL, "failed");
    strcpy(row.plan, "default");
    OK(cp_texts_add(&row.regions, "eu", 2));
    OK(cp_texts_add(&row.regions, "mars", 4));
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    REFUSED(cp_tenant_put(tx, &row, &diag), ORT_ENOTFOUND, "no region mars");
    cp_tx_end(tx);
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    REFUSED(cp_node_put(tx, &node, &diag), ORT_ENOTFOUND, "no region mars");
    cp_tx_end(tx);
    row.regions = (cp_texts){0};
    OK(cp_texts_add(&row.regions, "eu", 2));
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_tenant_put(tx, &row, &diag));
    OK(cp_tx_commit(tx, &(cp_change){.op = "tenant.create"}, NULL, &diag));
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    REFUSED(cp_region_remove(tx, "eu", &diag), ORT_ECONFLICT, "region eu is in use");
    cp_tx_end(tx);
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    REFUSED(cp_plan_remove(tx, "default", &diag), ORT_ECONFLICT, "plan default is in use");
    cp_tx_end(tx);
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_tenant_get(tx, row.id, &row, &diag));
    assert_true(cp_texts_has(&row.regions, "eu"));
    assert_int_equal(row.regions.count, 1);
    row.regions = (cp_texts){0};
    OK(cp_tenant_put(tx, &row, &diag));
    OK(cp_region_remove(tx, "eu", &diag));
    OK(cp_plan_remove(tx, "enterprise", &diag));
    OK(cp_tx_commit(tx, &(cp_change){.op = "tenant.update"}, NULL, &diag));
    assert_log_tells_state(f);
}

/* As the plan says, no limit, a number, zero: four things that must not become one another. */
static void
limits_are_the_plan_s_but_for_overrides(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_quota quota;
    cp_limits limits;
    cp_plan plan;
    const ort_tenant_id acme = add_tenant(f, 0x1000000000000001, "acme");
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_plan_get(tx, "default", &plan, &diag));
    OK(cp_quota_get(tx, acme, &quota, &diag));
    assert_int_equal(quota.revision, 1);
    OK(cp_tenant_limits(tx, acme, &limits, &diag));
    assert_memory_equal(&limits, &plan.limits, sizeof limits);
    quota.overrides.set[CP_LIMIT_VECTORS] = true;
    quota.overrides.to.v[CP_LIMIT_VECTORS] = CP_UNLIMITED;
    quota.overrides.set[CP_LIMIT_COLLECTIONS] = true;
    quota.overrides.to.v[CP_LIMIT_COLLECTIONS] = 0;
    quota.overrides.set[CP_LIMIT_STORAGE_BYTES] = true;
    quota.overrides.to.v[CP_LIMIT_STORAGE_BYTES] = CP_LIMIT_VALUE_MAX;
    OK(cp_quota_put(tx, &quota, &diag));
    assert_int_equal(quota.revision, 2);
    OK(cp_tenant_limits(tx, acme, &limits, &diag));
    const cp_limits expect = cp_limits_effective(&plan.limits, &quota.overrides);
    assert_memory_equal(&limits, &expect, sizeof limits);
    assert_true(limits.v[CP_LIMIT_VECTORS] == CP_UNLIMITED);
    assert_true(limits.v[CP_LIMIT_COLLECTIONS] == 0);
    assert_true(limits.v[CP_LIMIT_STORAGE_BYTES] == CP_LIMIT_VALUE_MAX);
    assert_true(cp_limits_lower(&plan.limits, &limits));
    assert_false(cp_limits_lower(&limits, &limits));
    OK(cp_tx_commit(tx, &(cp_change){.op = "quota.set", .tenant = acme}, NULL, &diag));
    assert_non_null(strstr(last_record(f).after, "\"max_vectors\":-1"));
    assert_non_null(strstr(last_record(f).after, "\"max_requests_per_minute\":null"));
}

static ort_err
count_keys(void *ctx, const cp_key *row)
{
    (void)row;
    ++*(int *)ctx;
    return ORT_OK;
}

static cp_key
add_key(fixture *f, ort_tenant_id tenant, char last, int64_t expires_ms, int64_t revoked_ms)
{
    cp_tx *tx;
    cp_key key = {.tenant = tenant,
                  .scopes = CP_SCOPES_ALL,
                  .max_requests_per_minute = 60,
                  .expires_at_ms = expires_ms,
                  .revoked_at_ms = revoked_ms};
    snprintf(key.id, sizeof key.id, "0123456789abcdefghjkmnp%c", last);
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_key_put(tx, &key, &diag));
    OK(cp_tx_commit(tx, &(cp_change){.op = "key.create", .tenant = tenant}, NULL, &diag));
    return key;
}

/* A second tenant sees nothing of the first one's keys, and cannot take an id that exists. */
static void
keys_belong_to_one_tenant(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    int count = 0;
    uint64_t live;
    const ort_tenant_id acme = add_tenant(f, 0x1000000000000001, "acme");
    const ort_tenant_id globex = add_tenant(f, 0x1000000000000002, "globex");
    cp_key key = add_key(f, acme, 'a', 0, 0);
    add_key(f, acme, 'b', 1000, 0);
    add_key(f, acme, 'c', 0, 500);
    OK(cp_store_begin_read(f->store, &tx, &diag));
    REFUSED(cp_key_get(tx, globex, key.id, &key, &diag), ORT_ENOTFOUND, "no key 0123");
    OK(cp_key_list(tx, globex, 0, (cp_page){0}, count_keys, &count, &diag));
    assert_int_equal(count, 0);
    OK(cp_key_list(tx, acme, 0, (cp_page){0}, count_keys, &count, &diag));
    assert_int_equal(count, 3);
    count = 0;
    OK(cp_key_list(tx, acme, 999, (cp_page){0}, count_keys, &count, &diag));
    assert_int_equal(count, 2);
    OK(cp_key_count(tx, acme, 1000, &live, &diag));
    assert_int_equal(live, 1);
    cp_tx_end(tx);
    key.tenant = globex;
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    REFUSED(cp_key_put(tx, &key, &diag), ORT_EEXISTS, "another tenant");
    cp_tx_end(tx);
}

/* Reports of several nodes come in any order; "last used" must not go back. And rows of dead keys
 * go, whatever stands beside them. */
static void
last_use_only_grows_and_dead_keys_are_swept(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_key key, dead;
    uint64_t swept;
    const ort_tenant_id acme = add_tenant(f, 0x1000000000000001, "acme");
    key = add_key(f, acme, 'a', 0, 0);
    dead = add_key(f, acme, 'b', 1000, 0);
    OK(cp_store_begin_note(f->store, &tx, &diag));
    OK(cp_key_used(tx, key.id, 200, &diag));
    OK(cp_key_used(tx, key.id, 100, &diag));
    OK(cp_key_used(tx, dead.id, 100, &diag));
    OK(cp_key_used(tx, "zzzzzzzzzzzzzzzzzzzzzzzz", 100, &diag));
    OK(cp_tx_commit(tx, NULL, NULL, &diag));
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_key_get(tx, acme, key.id, &key, &diag));
    assert_int_equal(key.last_used_ms, 200);
    OK(cp_key_sweep(tx, 2000, &swept, &diag));
    assert_int_equal(swept, 1);
    OK(cp_tx_commit(tx, &(cp_change){.op = "key.sweep"}, NULL, &diag));
    OK(cp_store_begin_read(f->store, &tx, &diag));
    assert_int_equal(cp_key_get(tx, acme, dead.id, &dead, &diag), ORT_ENOTFOUND);
    cp_tx_end(tx);
    assert_log_tells_state(f);
}

/* Two who both saw epoch 1 must not both move the tenant. */
static void
a_home_changes_only_from_the_epoch_that_was_seen(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_home home;
    uint64_t left;
    const ort_tenant_id acme = add_tenant(f, 0x1000000000000001, "acme");
    add_region(f, "eu");
    add_node(f, 0xa1, "eu");
    add_node(f, 0xa2, "eu");
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_home_set(tx, acme, (ort_node_id){0xa1}, 0, &home, &diag));
    REFUSED(cp_home_set(tx, acme, (ort_node_id){0xa2}, 0, &home, &diag), ORT_ESTALE, "epoch 0");
    OK(cp_home_set(tx, acme, (ort_node_id){0xa2}, 1, &home, &diag));
    REFUSED(cp_home_set(tx, acme, (ort_node_id){0xa1}, 1, &home, &diag), ORT_ESTALE, "epoch 1");
    OK(cp_tx_commit(tx, &(cp_change){.op = "tenant.move", .tenant = acme}, NULL, &diag));
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_home_get(tx, acme, &home, &diag));
    assert_int_equal(home.epoch, 2);
    assert_int_equal(home.home.v, 0xa2);
    OK(cp_holder_left(tx, acme, &left, &diag));
    assert_int_equal(left, 2);
    OK(cp_holder_gone(tx, acme, (ort_node_id){0xa1}, &diag));
    OK(cp_holder_gone(tx, acme, (ort_node_id){0xa1}, &diag));
    REFUSED(cp_holder_gone(tx, acme, (ort_node_id){0xa3}, &diag), ORT_ENOTFOUND, "never held");
    OK(cp_holder_left(tx, acme, &left, &diag));
    assert_int_equal(left, 1);
    OK(cp_tx_commit(tx, &(cp_change){.op = "tenant.gone", .tenant = acme}, NULL, &diag));
    assert_log_tells_state(f);
}

static void
a_removed_node_frees_its_name_and_never_its_key(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_node node, twin;
    add_region(f, "eu");
    add_node(f, 0xa1, "eu");
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_node_get_by_name(tx, "na1", &node, &diag));
    node.state = CP_NODE_REMOVED;
    OK(cp_node_put(tx, &node, &diag));
    twin = node;
    twin.id.v = 0xb1;
    twin.state = CP_NODE_JOINING;
    REFUSED(cp_node_put(tx, &twin, &diag), ORT_EEXISTS, "name (na1) or key");
    cp_tx_end(tx);
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_node_put(tx, &node, &diag));
    twin.key.b[31] = 9;
    OK(cp_node_put(tx, &twin, &diag));
    OK(cp_node_get_by_name(tx, "na1", &node, &diag));
    assert_int_equal(node.id.v, 0xb1);
    OK(cp_node_get_by_key(tx, &node.key, &node, &diag));
    assert_int_equal(node.id.v, 0xb1);
    OK(cp_tx_commit(tx, &(cp_change){.op = "node.join"}, NULL, &diag));
}

static void
an_older_incarnation_has_nothing_to_say(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    add_region(f, "eu");
    add_node(f, 0xa1, "eu");
    cp_node_seen row = {.node = {0xa1}, .incarnation = 0xf000000000000002, .seen_at_ms = 7};
    OK(cp_store_begin_note(f->store, &tx, &diag));
    OK(cp_node_seen_put(tx, &row, &diag));
    OK(cp_node_seen_put(tx, &row, &diag));
    row.incarnation = 0x0000000000000003;
    REFUSED(cp_node_seen_put(tx, &row, &diag), ORT_ESTALE, "later one");
    OK(cp_node_seen_get(tx, row.node, &row, &diag));
    assert_true(row.incarnation == 0xf000000000000002);
    const cp_usage_report report = {.tenant = {1}};
    REFUSED(cp_usage_take(tx, row.node, 5, &report, 1, &diag), ORT_ESTALE, "later one");
    OK(cp_tx_commit(tx, NULL, NULL, &diag));
}

static void
a_join_token_keeps_what_it_was_bound_to(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    uint64_t count;
    cp_join_token row = {.id = "0123456789abcdefghjkmnpq", .region = "eu", .expires_at_ms = 900};
    add_region(f, "eu");
    add_node(f, 0xa1, "eu");
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_join_token_put(tx, &row, &diag));
    OK(cp_join_token_get(tx, row.id, &row, &diag));
    assert_false(row.has_key);
    assert_int_equal(row.used_by.v, 0);
    row.has_key = true;
    row.key.b[0] = 0xab;
    row.used_by.v = 0xa1;
    row.used_at_ms = 800;
    OK(cp_join_token_put(tx, &row, &diag));
    OK(cp_tx_commit(tx, &(cp_change){.op = "node.token"}, NULL, &diag));
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_join_token_get(tx, row.id, &row, &diag));
    assert_true(row.has_key && row.key.b[0] == 0xab && row.used_by.v == 0xa1);
    OK(cp_join_token_expire(tx, 900, &count, &diag));
    assert_int_equal(count, 0);
    OK(cp_join_token_expire(tx, 901, &count, &diag));
    assert_int_equal(count, 1);
    OK(cp_tx_commit(tx, &(cp_change){.op = "node.token-sweep"}, NULL, &diag));
    assert_log_tells_state(f);
}

/* ---- pages ---- */

typedef struct {
    char keys[64][ORT_ID_TEXT_BYTES];
    uint32_t count;
} page_seen;

static ort_err
keep_tenant(void *ctx, const cp_tenant *row)
{
    page_seen *s = ctx;
    assert_true(s->count < 64);
    ort_id_format(row->id.v, s->keys[s->count++]);
    return ORT_OK;
}

/* Rows that come while a client pages, before and behind it, make it neither skip nor repeat. */
static void
pages_are_stable_under_inserts(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    page_seen s = {0};
    uint64_t next = 0x8000000000000000;
    for (uint64_t i = 1; i <= 9; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%" PRIu64, i);
        add_tenant(f, i << 60, name);
    }
    for (uint32_t before = UINT32_MAX; s.count != before;) {
        cp_tenant_query query = {.page = {.limit = 2}};
        before = s.count;
        query.page.after = s.count > 0 ? s.keys[s.count - 1] : NULL;
        OK(cp_store_begin_read(f->store, &tx, &diag));
        OK(cp_tenant_list(tx, &query, keep_tenant, &s, &diag));
        cp_tx_end(tx);
        if (s.count == before) {
            break;
        }
        char name[16];
        snprintf(name, sizeof name, "x%u", s.count);
        add_tenant(f, s.count + 1, name); /* before the cursor */
        snprintf(name, sizeof name, "y%u", s.count);
        if (s.count < 4) {
            add_tenant(f, ++next, name); /* behind it */
        }
    }
    unsigned old_rows = 0;
    for (uint32_t i = 0; i < s.count; i++) {
        assert_true(i == 0 || strcmp(s.keys[i - 1], s.keys[i]) < 0);
        old_rows += strcmp(s.keys[i] + 1, "000000000000000") == 0;
    }
    assert_int_equal(old_rows, 9);
    assert_int_equal(s.count, 10);
}

static void
tenants_are_found_by_home_plan_and_state(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_home home;
    page_seen s = {0};
    const ort_tenant_id a = add_tenant(f, 0x1000000000000001, "a");
    add_tenant(f, 0x1000000000000002, "b");
    add_region(f, "eu");
    add_node(f, 0xa1, "eu");
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_home_set(tx, a, (ort_node_id){0xa1}, 0, &home, &diag));
    OK(cp_tx_commit(tx, &(cp_change){.op = "tenant.place", .tenant = a}, NULL, &diag));
    OK(cp_store_begin_read(f->store, &tx, &diag));
    OK(cp_tenant_list(tx, &(cp_tenant_query){.home = {0xa1}}, keep_tenant, &s, &diag));
    assert_int_equal(s.count, 1);
    assert_string_equal(s.keys[0], "1000000000000001");
    OK(cp_tenant_list(tx, &(cp_tenant_query){.unplaced = true}, keep_tenant, &s, &diag));
    assert_int_equal(s.count, 2);
    assert_string_equal(s.keys[1], "1000000000000002");
    OK(cp_tenant_list(tx, &(cp_tenant_query){.plan = "enterprise"}, keep_tenant, &s, &diag));
    OK(cp_tenant_list(tx, &(cp_tenant_query){.in_state = true, .state = CP_TENANT_DELETING},
                      keep_tenant, &s, &diag));
    assert_int_equal(s.count, 2);
    OK(cp_tenant_list(tx, &(cp_tenant_query){.plan = "default"}, keep_tenant, &s, &diag));
    assert_int_equal(s.count, 4);
    cp_tx_end(tx);
}

static void
a_cursor_is_of_its_list_and_nothing_else(void **state)
{
    (void)state;
    char text[CP_CURSOR_BYTES], key[CP_CURSOR_BYTES];
    for (size_t n = 1; n < 70; n++) {
        char given[80];
        memset(given, 'k', n);
        given[n] = '\0';
        cp_cursor_format("tenants", given, text);
        OK(cp_cursor_parse("tenants", text, strlen(text), key, &diag));
        assert_string_equal(key, given);
        assert_int_equal(cp_cursor_parse("nodes", text, strlen(text), key, &diag), ORT_EINVAL);
        for (size_t cut = 0; cut < strlen(text); cut++) {
            /* A cut one is refused or is a shorter key of the same list; never read past. */
            (void)!cp_cursor_parse("tenants", text, cut, key, &diag);
        }
    }
    static const char *const bad[] = {"", "A", "====", "dGVuYW50cw", "dGVuYW50czo", "a b c", "\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        REFUSED(cp_cursor_parse("tenants", bad[i], strlen(bad[i]), key, &diag), ORT_EINVAL,
                "not a cursor");
    }
    memset(text, 'A', sizeof text);
    assert_int_equal(cp_cursor_parse("tenants", text, sizeof text, key, &diag), ORT_EINVAL);
}

static void
audit_is_filtered_by_tenant_op_actor_and_time(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    const ort_tenant_id acme = add_tenant(f, 0x1000000000000001, "acme");
    add_tenant(f, 0x1000000000000002, "globex");
    add_key(f, acme, 'a', 0, 0);
    add_region(f, "eu");
    const struct {
        cp_oplog_query query;
        uint64_t count;
    } cases[] = {
        {{0}, 5},
        {{.after = 2}, 3},
        {{.after = 4, .newest_first = true}, 3},
        {{.tenant = acme}, 2},
        {{.tenant = {0x77}}, 0},
        {{.op = "tenant.create"}, 2},
        {{.op = "tenant."}, 2},
        {{.op = "tenant"}, 0},
        {{.op = "key.", .tenant = acme}, 1},
        {{.actor = "system"}, 1},
        {{.actor = "operator:test", .newest_first = true, .limit = 2}, 2},
        {{.from_ms = INT64_MAX}, 0},
        {{.to_ms = 1}, 0},
        {{.from_ms = 1, .to_ms = INT64_MAX}, 5},
    };
    OK(cp_store_begin_read(f->store, &tx, &diag));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        seen s = {0};
        OK(cp_oplog_list(tx, &cases[i].query, keep, &s, &diag));
        assert_int_equal(s.count, cases[i].count);
    }
    cp_tx_end(tx);
}

/* ---- usage ---- */

static void
take(fixture *f, uint64_t node, uint64_t incarnation, ort_tenant_id tenant, uint64_t requests,
     uint64_t points)
{
    cp_tx *tx;
    const cp_usage_report reports[] = {
        {.tenant = {0x99}, .total = {5}}, /* not there: passed over */
        {.tenant = tenant,
         .now = {.collections = 2,
                 .vectors = points,
                 .storage_bytes = 10 * points,
                 .disk_bytes = 20 * points},
         .total = {[CP_METER_REQUESTS] = requests, [CP_METER_BYTES_OUT] = 100 * requests}},
    };
    OK(cp_store_begin_note(f->store, &tx, &diag));
    OK(cp_usage_take(tx, (ort_node_id){node}, incarnation, reports, 2, &diag));
    OK(cp_tx_commit(tx, NULL, NULL, &diag));
}

static ort_err
sum_hours(void *ctx, const cp_usage_hour *row)
{
    cp_usage_hour *sum = ctx;
    for (int i = 0; i < CP_METER_COUNT; i++) {
        sum->sum[i] += row->sum[i];
    }
    sum->hour_ms = row->hour_ms;
    if (row->max.vectors > sum->max.vectors) {
        sum->max.vectors = row->max.vectors;
    }
    return ORT_OK;
}

/* Beats are lost, sent twice, and come in the wrong order; nodes restart and count from 0. The sum
 * is what was done, and the hours add up to it. */
static void
usage_is_right_whatever_happens_to_reports(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_usage usage;
    cp_usage_hour hours = {0};
    uint64_t swept;
    const ort_tenant_id acme = add_tenant(f, 0x1000000000000001, "acme");
    add_region(f, "eu");
    add_node(f, 0xa1, "eu");
    add_node(f, 0xa2, "eu");
    take(f, 0xa1, 1, acme, 10, 100);
    take(f, 0xa1, 1, acme, 30, 300);
    take(f, 0xa1, 1, acme, 20, 200); /* late */
    take(f, 0xa1, 1, acme, 30, 250); /* twice */
    take(f, 0xa2, 1, acme, 7, 1);    /* another node */
    take(f, 0xa1, 2, acme, 4, 260);  /* restarted */
    OK(cp_store_begin_read(f->store, &tx, &diag));
    OK(cp_usage_get(tx, acme, &usage, &diag));
    OK(cp_usage_list(tx, acme, 0, INT64_MAX, (cp_page){0}, sum_hours, &hours, &diag));
    assert_int_equal(usage.total[CP_METER_REQUESTS], 41);
    assert_int_equal(usage.total[CP_METER_BYTES_OUT], 4100);
    assert_int_equal(usage.now.vectors, 261);
    assert_int_equal(usage.now.storage_bytes, 2610);
    assert_int_equal(usage.now.disk_bytes, 5220);
    assert_int_equal(hours.sum[CP_METER_REQUESTS], 41);
    assert_int_equal(hours.max.vectors, 300);
    assert_int_equal(hours.hour_ms % 3600000, 0);
    char after[32];
    cp_usage_hour none = {0};
    snprintf(after, sizeof after, "%" PRId64, hours.hour_ms);
    OK(cp_usage_list(tx, acme, 0, INT64_MAX, (cp_page){.after = after}, sum_hours, &none, &diag));
    assert_int_equal(none.sum[CP_METER_REQUESTS], 0);
    REFUSED(cp_usage_list(tx, acme, 0, 1, (cp_page){.after = "x"}, sum_hours, &none, &diag),
            ORT_EINVAL, "not a cursor");
    cp_tx_end(tx);
    OK(cp_store_begin_note(f->store, &tx, &diag));
    OK(cp_node_seen_put(tx, &(cp_node_seen){.node = {0xa1}, .incarnation = 2}, &diag));
    OK(cp_usage_sweep(tx, 0, &swept, &diag));
    assert_int_equal(swept, 1);
    OK(cp_usage_sweep(tx, 0, &swept, &diag));
    assert_int_equal(swept, 0);
    OK(cp_usage_get(tx, acme, &usage, &diag));
    assert_int_equal(usage.total[CP_METER_REQUESTS], 41);
    OK(cp_tx_commit(tx, NULL, NULL, &diag));
}

/* A node that lies about its counters cannot make sums wrap around. */
static void
absurd_counters_are_cut(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_usage usage;
    const ort_tenant_id acme = add_tenant(f, 0x1000000000000001, "acme");
    add_region(f, "eu");
    add_node(f, 0xa1, "eu");
    for (uint64_t i = 1; i < 4; i++) {
        take(f, 0xa1, i, acme, UINT64_MAX, UINT64_MAX / 20);
    }
    OK(cp_store_begin_read(f->store, &tx, &diag));
    OK(cp_usage_get(tx, acme, &usage, &diag));
    assert_true(usage.total[CP_METER_REQUESTS] == CP_LIMIT_VALUE_MAX);
    assert_true(usage.now.vectors == CP_LIMIT_VALUE_MAX);
    cp_tx_end(tx);
}

/* ---- kept answers ---- */

static void
an_answer_is_kept_once_until_it_expires(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    ort_buf body = {0};
    uint64_t swept;
    cp_idempotency row = {.actor = "operator:a", .key = "k1", .status = 201}, back;
    OK(cp_store_begin_note(f->store, &tx, &diag));
    row.expires_at_ms = cp_tx_now_ms(tx) + 60000;
    OK(cp_idempotency_put(tx, &row, "sealed", 6, &diag));
    OK(cp_tx_commit(tx, NULL, NULL, &diag));
    OK(cp_store_begin_note(f->store, &tx, &diag));
    REFUSED(cp_idempotency_put(tx, &row, "other", 5, &diag), ORT_EEXISTS, "under k1 already");
    cp_tx_end(tx);
    OK(cp_store_begin_note(f->store, &tx, &diag));
    OK(cp_idempotency_get(tx, "operator:a", "k1", &back, &body, &diag));
    assert_int_equal(back.status, 201);
    assert_int_equal(body.len, 6);
    assert_memory_equal(body.data, "sealed", 6);
    assert_int_equal(cp_idempotency_get(tx, "operator:b", "k1", &back, &body, &diag),
                     ORT_ENOTFOUND);
    assert_int_equal(cp_idempotency_put(tx, &row, "", CP_IDEMPOTENCY_BODY_BYTES_MAX + 1, &diag),
                     ORT_ETOOBIG);
    strcpy(row.key, "old");
    row.expires_at_ms = cp_tx_now_ms(tx);
    OK(cp_idempotency_put(tx, &row, "", 0, &diag));
    assert_int_equal(cp_idempotency_get(tx, "operator:a", "old", &back, &body, &diag),
                     ORT_ENOTFOUND);
    OK(cp_idempotency_put(tx, &row, "again", 5, &diag)); /* the expired one makes room */
    OK(cp_idempotency_sweep(tx, cp_tx_now_ms(tx), &swept, &diag));
    assert_int_equal(swept, 1);
    OK(cp_tx_commit(tx, NULL, NULL, &diag));
    ort_buf_fini(&body);
}

static void
admin_tokens_have_roles_and_owners(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    uint64_t count;
    cp_admin_token row = {.id = "0123456789abcdefghjkmnpq", .role = CP_ROLE_OPERATOR}, back;
    const ort_tenant_id acme = add_tenant(f, 0x1000000000000001, "acme");
    OK(cp_store_begin(f->store, &author, &tx, &diag));
    OK(cp_admin_token_put(tx, &row, &diag));
    cp_admin_token bound = {.id = "0123456789abcdefghjkmnpr", .role = CP_ROLE_TENANT_ADMIN};
    bound.tenant = acme;
    OK(cp_admin_token_put(tx, &bound, &diag));
    OK(cp_admin_token_count_operators(tx, 5, &count, &diag));
    assert_int_equal(count, 1);
    row.revoked_at_ms = 3;
    OK(cp_admin_token_put(tx, &row, &diag));
    OK(cp_admin_token_count_operators(tx, 5, &count, &diag));
    assert_int_equal(count, 0);
    OK(cp_admin_token_get(tx, bound.id, &back, &diag));
    assert_true(back.tenant.v == acme.v);
    assert_int_equal(back.role, CP_ROLE_TENANT_ADMIN);
    OK(cp_tx_commit(tx, &(cp_change){.op = "admin-token.create"}, NULL, &diag));
    assert_log_tells_state(f);
}

/* ---- opening ---- */

static ort_err
try_open(const char *path, cp_store_options options)
{
    cp_store *store;
    options.path = path;
    const ort_err err = cp_store_open(&store, &options, &diag);
    cp_store_close(store);
    return err;
}

/* A hub that was installed with any older version of the schema comes up to date. */
static void
every_older_schema_is_brought_up_to_date(void **state)
{
    fixture *f = *state;
    for (unsigned n = 1; n <= 6; n++) {
        char path[128], number[8];
        cp_store *store;
        cp_tx *tx;
        cp_plan plan;
        snprintf(path, sizeof path, "%s/old%u.db", f->dir, n);
        snprintf(number, sizeof number, "%04u", n);
        assert_int_equal(try_open(path, (cp_store_options){.migrations = number}), ORT_OK);
        OK(cp_store_open(&store, &(cp_store_options){.path = path, .full_check = true}, &diag));
        OK(cp_store_begin_read(store, &tx, &diag));
        OK(cp_plan_get(tx, "default", &plan, &diag));
        cp_tx_end(tx);
        OK(cp_store_check(store, &diag));
        cp_store_close(store);
    }
}

/* What is in every kept database; `--write DIR` makes one there. */
static void
add_sample(fixture *f)
{
    add_region(f, "eu");
    add_region(f, "us");
    add_node(f, 0xa1, "eu");
    const ort_tenant_id acme = add_tenant(f, 0xac, "acme");
    (void)add_tenant(f, 0x10, "globex");
    add_key(f, acme, '1', 0, 0);
    add_key(f, acme, '2', 0, 5);
}

static int
write_sample(const char *dir)
{
    fixture f = {.store = NULL};
    snprintf(f.path, sizeof f.path, "%.80s/hub.db", dir);
    open_store(&f);
    add_sample(&f);
    cp_store_close(f.store);
    return 0;
}

/* tests/formats/hub-N.db: of a program whose last migration was N, with rows and a log of its own.
 * It comes up to date, all that it said still holds, and it goes on. */
static void
kept_databases_come_up_to_date(void **state)
{
    static const unsigned kept[] = {4, 6};
    fixture *f = *state;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        char command[256];
        fixture g = {.store = NULL};
        cp_tx *tx;
        cp_tenant tenant;
        cp_node node;
        cp_oplog_verdict verdict;
        snprintf(g.path, sizeof g.path, "%s/kept%u.db", f->dir, kept[i]);
        snprintf(command, sizeof command, "zstd -q -d tests/formats/hub-%u.db.zst -o %s", kept[i],
                 g.path);
        assert_int_equal(system(command), 0);
        OK(cp_store_open(&g.store, &(cp_store_options){.path = g.path, .full_check = true}, &diag));
        OK(cp_store_begin_read(g.store, &tx, &diag));
        OK(cp_tenant_find(tx, "acme", &tenant, &diag));
        assert_true(tenant.id.v == 0xac && tenant.revision == 1);
        OK(cp_node_get(tx, (ort_node_id){0xa1}, &node, &diag));
        assert_string_equal(node.region, "eu");
        OK(cp_oplog_verify(tx, 0, NULL, &verdict, &diag));
        assert_true(verdict.intact);
        assert_int_equal(verdict.records, 8);
        cp_tx_end(tx);
        assert_log_tells_state(&g);
        add_region(&g, "asia");
        add_key(&g, tenant.id, '3', 0, 0);
        assert_true(verify(&g).intact);
        assert_log_tells_state(&g);
        cp_store_close(g.store);
    }
}

/* The older program must not write rows that mean something else to the newer one, and must leave
 * the file as it is. */
static void
a_newer_or_foreign_database_is_refused(void **state)
{
    fixture *f = *state;
    cp_store_close(f->store);
    f->store = NULL;
    outside(f,
            "INSERT INTO schema_migrations VALUES (99, '0099_from_the_future', zeroblob(32), 1)");
    REFUSED(try_open(f->path, (cp_store_options){0}), ORT_EVERSION, "0099_from_the_future");
    REFUSED(try_open(f->path, (cp_store_options){.read_only = true}), ORT_EVERSION, "newer");
    outside(f, "DELETE FROM schema_migrations WHERE number = 99");
    assert_int_equal(try_open(f->path, (cp_store_options){0}), ORT_OK);
    outside(f, "UPDATE schema_migrations SET hash = zeroblob(32) WHERE number = 2");
    REFUSED(try_open(f->path, (cp_store_options){0}), ORT_EVERSION, "0002_tenants is not the one");
    outside(f, "DELETE FROM schema_migrations WHERE number = 2");
    REFUSED(try_open(f->path, (cp_store_options){0}), ORT_ECORRUPT, "migration 2 is not among");
    outside(f, "PRAGMA application_id = 5");
    REFUSED(try_open(f->path, (cp_store_options){0}), ORT_ECORRUPT, "not a database of an Orthant");
}

static void
what_is_no_database_is_refused(void **state)
{
    fixture *f = *state;
    char path[128];
    char junk[8192];
    const int dir = open(f->dir, O_RDONLY | O_DIRECTORY);
    memset(junk, 'x', sizeof junk);
    OK(ort_file_replace(dir, "junk.db", junk, sizeof junk, 0600, &diag));
    snprintf(path, sizeof path, "%s/junk.db", f->dir);
    assert_int_equal(try_open(path, (cp_store_options){0}), ORT_ECORRUPT);
    REFUSED(try_open("/nowhere/hub.db", (cp_store_options){0}), ORT_EIO, "/nowhere/hub.db");
    snprintf(path, sizeof path, "%s/missing.db", f->dir);
    assert_int_equal(try_open(path, (cp_store_options){.read_only = true}), ORT_EIO);
    assert_int_equal(symlinkat("hub.db", dir, "link.db"), 0);
    snprintf(path, sizeof path, "%s/link.db", f->dir);
    assert_int_equal(try_open(path, (cp_store_options){0}), ORT_EIO);
    close(dir);
}

/* Two control planes would push two truths. A reader may look beside the first. */
static void
a_second_control_plane_is_kept_out(void **state)
{
    fixture *f = *state;
    cp_store *look;
    cp_tx *tx;
    REFUSED(try_open(f->path, (cp_store_options){0}), ORT_EBUSY, "another control plane");
    OK(cp_store_open(&look, &(cp_store_options){.path = f->path, .read_only = true}, &diag));
    add_region(f, "eu");
    REFUSED(cp_store_begin(look, &author, &tx, &diag), ORT_EDENIED, "only to be read");
    assert_int_equal(cp_store_begin_note(look, &tx, &diag), ORT_EDENIED);
    cp_region row;
    OK(cp_store_begin_read(look, &tx, &diag));
    OK(cp_region_get(tx, "eu", &row, &diag));
    cp_oplog_verdict verdict;
    OK(cp_oplog_verify(tx, 0, NULL, &verdict, &diag));
    assert_true(verdict.intact);
    cp_tx_end(tx);
    cp_store_close(look);
}

/* ---- many at once ---- */

enum { WRITERS = 6, CHANGES = 40 };

typedef struct {
    fixture *f;
    uint64_t who;
    uint64_t versions[CHANGES];
} writer;

static void *
write_many(void *arg)
{
    writer *w = arg;
    for (uint64_t i = 0; i < CHANGES; i++) {
        ort_diag mine;
        cp_tx *tx;
        cp_tenant row = {.id = {w->who << 32 | (i + 1)}, .plan = "default", .created_at_ms = 1};
        snprintf(row.name, sizeof row.name, "t-%" PRIu64 "-%" PRIu64, w->who, i);
        if (cp_store_begin(w->f->store, &author, &tx, &mine) != ORT_OK ||
            cp_tenant_put(tx, &row, &mine) != ORT_OK) {
            abort();
        }
        if (i % 8 == 7) {
            cp_tx_end(tx); /* some give up */
            w->versions[i] = 0;
        } else if (cp_tx_commit(tx, &(cp_change){.op = "tenant.create", .tenant = row.id},
                                &w->versions[i], &mine) != ORT_OK) {
            abort();
        }
    }
    return NULL;
}

static ort_err
count_tenant(void *ctx, const cp_tenant *row)
{
    (void)row;
    ++*(uint64_t *)ctx;
    return ORT_OK;
}

/* Each snapshot holds exactly the tenants that its version tells of: one a version. */
static void *
read_many(void *arg)
{
    fixture *f = arg;
    for (int i = 0; i < 100; i++) {
        ort_diag mine;
        cp_tx *tx;
        uint64_t tenants = 0, walked = 0;
        if (cp_store_begin_read(f->store, &tx, &mine) != ORT_OK ||
            cp_tenant_count(tx, &tenants, &mine) != ORT_OK ||
            cp_tenant_list(tx, &(cp_tenant_query){0}, count_tenant, &walked, &mine) != ORT_OK ||
            tenants != cp_tx_version(tx) - 1 || walked != tenants) {
            abort();
        }
        cp_tx_end(tx);
    }
    return NULL;
}

static void
note_version(void *ctx, uint64_t version)
{
    (void)version;
    __atomic_fetch_add((uint64_t *)ctx, 1, __ATOMIC_RELAXED);
}

/* Versions are given once each without a gap, whoever writes at the same time. */
static void
writers_take_turns_and_readers_see_whole_versions(void **state)
{
    fixture *f = *state;
    static writer writers[WRITERS];
    pthread_t threads[WRITERS + 2];
    static unsigned char taken[WRITERS * CHANGES + 2];
    uint64_t told = 0, committed = 0;
    memset(taken, 0, sizeof taken);
    /* A machine that builds beside this may take seconds for an fsync. */
    cp_store_close(f->store);
    OK(cp_store_open(&f->store, &(cp_store_options){.path = f->path, .wait_ms = 300000}, &diag));
    cp_store_on_change(f->store, note_version, &told);
    for (uint64_t i = 0; i < WRITERS; i++) {
        writers[i] = (writer){.f = f, .who = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &writers[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[WRITERS + i], NULL, read_many, f), 0);
    }
    for (int i = 0; i < WRITERS + 2; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < WRITERS; i++) {
        for (int j = 0; j < CHANGES; j++) {
            const uint64_t v = writers[i].versions[j];
            if (v != 0) {
                assert_in_range(v, 2, sizeof taken - 1);
                assert_int_equal(taken[v]++, 0);
                committed++;
            }
        }
    }
    cp_store_stats stats;
    cp_store_stats_get(f->store, &stats);
    assert_int_equal(stats.version, 1 + committed);
    assert_int_equal(told, committed);
    assert_int_equal(stats.changes_total, committed);
    assert_true(stats.file_bytes > 0);
    const cp_oplog_verdict verdict = verify(f);
    assert_true(verdict.intact);
    assert_int_equal(verdict.records, 1 + committed);
    assert_log_tells_state(f);
}

/* Nobody waits for ever: a turn that does not come is an error the caller hears about. */
static void
a_turn_that_does_not_come_is_busy(void **state)
{
    fixture *f = *state;
    cp_store_close(f->store);
    OK(cp_store_open(&f->store, &(cp_store_options){.path = f->path, .wait_ms = 50, .readers = 1},
                     &diag));
    cp_tx *tx, *second;
    OK(cp_store_begin_note(f->store, &tx, &diag));
    REFUSED(cp_store_begin(f->store, &author, &second, &diag), ORT_EBUSY, "within 50 ms");
    assert_null(second);
    cp_tx_end(tx);
    OK(cp_store_begin_read(f->store, &tx, &diag));
    REFUSED(cp_store_begin_read(f->store, &second, &diag), ORT_EBUSY, "no snapshot free");
    cp_tx_end(tx);
    OK(cp_store_begin_read(f->store, &tx, &diag));
    cp_tx_end(tx);
}

/* What a reader began with is what it sees to its end. */
static void
a_snapshot_stays_as_it_was(void **state)
{
    fixture *f = *state;
    cp_tx *tx;
    cp_region row;
    OK(cp_store_begin_read(f->store, &tx, &diag));
    add_region(f, "eu");
    assert_int_equal(cp_region_get(tx, "eu", &row, &diag), ORT_ENOTFOUND);
    assert_int_equal(cp_tx_version(tx), 1);
    cp_tx_end(tx);
}

static void
a_backup_is_a_hub_of_its_own(void **state)
{
    fixture *f = *state;
    char path[128];
    cp_store *copy;
    cp_tx *tx;
    cp_hub hub;
    uint64_t generation;
    cp_oplog_verdict verdict;
    add_region(f, "eu");
    snprintf(path, sizeof path, "%s/copy.db", f->dir);
    OK(cp_store_backup(f->store, path, &diag));
    assert_int_equal(cp_store_backup(f->store, path, &diag), ORT_EEXISTS);
    add_region(f, "us");
    OK(cp_store_open(&copy, &(cp_store_options){.path = path, .full_check = true}, &diag));
    OK(cp_store_begin(copy, &author, &tx, &diag));
    OK(cp_hub_get(tx, &hub, &diag));
    assert_int_equal(hub.version, 2);
    OK(cp_hub_bump_generation(tx, 7, &generation, &diag));
    assert_int_equal(generation, 7);
    OK(cp_hub_bump_generation(tx, 1, &generation, &diag));
    assert_int_equal(generation, 8);
    OK(cp_tx_commit(tx, &(cp_change){.op = "hub.restore"}, NULL, &diag));
    OK(cp_store_begin_read(copy, &tx, &diag));
    /* The head that was kept at the source is not on the copy's chain, nor the other way. */
    const seen elsewhere = last_record(f);
    OK(cp_oplog_verify(tx, 3, &elsewhere.last.hash, &verdict, &diag));
    assert_false(verdict.intact);
    assert_int_equal(verdict.bad_version, 3);
    OK(cp_oplog_verify(tx, 2, &hub.head, &verdict, &diag));
    assert_true(verdict.intact);
    OK(cp_oplog_verify(tx, 9, &hub.head, &verdict, &diag));
    assert_string_equal(verdict.detail, "the chain ends before the head that was kept");
    cp_tx_end(tx);
    cp_store_close(copy);
}

/* ---- state = fold(op_log), by chance ---- */

static uint64_t
roll(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* One step of chance on a tenant, its quota, a key, its home. */
static ort_err
random_step(cp_tx *tx, uint64_t *seed)
{
    ort_err err = ORT_OK;
    const ort_tenant_id id = {1 + roll(seed) % 12};
    cp_tenant tenant;
    cp_home home;
    if (cp_tenant_get(tx, id, &tenant, NULL) != ORT_OK) {
        tenant = (cp_tenant){.id = id, .plan = "default", .created_at_ms = 5};
        snprintf(tenant.name, sizeof tenant.name, "t%" PRIu64, id.v);
        return cp_tenant_put(tx, &tenant, &diag);
    }
    switch (roll(seed) % 6) {
    case 0:
        tenant.state = (cp_tenant_state)(roll(seed) % 3);
        tenant.regions = (cp_texts){0};
        if (roll(seed) % 2 == 0) {
            err = cp_texts_add(&tenant.regions, roll(seed) % 2 == 0 ? "eu" : "us", 2);
        }
        return err != ORT_OK ? err : cp_tenant_put(tx, &tenant, &diag);
    case 1: {
        cp_quota quota;
        err = cp_quota_get(tx, id, &quota, &diag);
        const unsigned i = (unsigned)(roll(seed) % CP_LIMIT_COUNT);
        quota.overrides.set[i] = roll(seed) % 2 == 0;
        quota.overrides.to.v[i] = roll(seed) % 3 == 0 ? CP_UNLIMITED : roll(seed) % 1000;
        return err != ORT_OK ? err : cp_quota_put(tx, &quota, &diag);
    }
    case 2:
    case 3: {
        cp_key key = {.tenant = id, .scopes = 1u + (unsigned)(roll(seed) % 7)};
        snprintf(key.id, sizeof key.id, "%012" PRIu64 "%012" PRIu64, id.v, roll(seed) % 4);
        key.expires_at_ms = (int64_t)(roll(seed) % 100);
        key.max_requests_per_minute = roll(seed) % 2 == 0 ? CP_UNLIMITED : 5;
        return cp_key_put(tx, &key, &diag);
    }
    case 4: {
        uint64_t swept;
        return cp_key_sweep(tx, (int64_t)(roll(seed) % 50), &swept, &diag);
    }
    default:
        if (cp_home_get(tx, id, &home, NULL) != ORT_OK) {
            home.epoch = 0;
        }
        return cp_home_set(tx, id, (ort_node_id){0xa1 + roll(seed) % 2}, home.epoch, &home, &diag);
    }
}

static void
any_run_of_changes_leaves_what_the_log_tells(void **state)
{
    fixture *f = *state;
    uint64_t seed = 0x9e3779b97f4a7c15;
    add_region(f, "eu");
    add_region(f, "us");
    add_node(f, 0xa1, "eu");
    add_node(f, 0xa2, "us");
    for (int i = 0; i < 400; i++) {
        cp_tx *tx;
        OK(cp_store_begin(f->store, &author, &tx, &diag));
        for (uint64_t steps = 1 + roll(&seed) % 4; steps > 0; steps--) {
            OK(random_step(tx, &seed));
        }
        if (roll(&seed) % 5 == 0) {
            cp_tx_end(tx);
        } else {
            OK(cp_tx_commit(tx, &(cp_change){.op = "test.step"}, NULL, &diag));
        }
        if (i % 40 == 39) {
            assert_log_tells_state(f);
        }
    }
    assert_true(verify(f).intact);
    OK(cp_store_check(f->store, &diag));
}

/* ---- flipped bytes ---- */

static ort_err
hash_tenant(void *ctx, const cp_tenant *row)
{
    ort_hasher_put(ctx, row->name, strlen(row->name) + 1);
    ort_hasher_put(ctx, row->plan, strlen(row->plan) + 1);
    ort_hasher_put(ctx, &row->state, sizeof row->state);
    ort_hasher_put(ctx, row->regions.text, row->regions.bytes);
    return ORT_OK;
}

static ort_err
hash_plan(void *ctx, const cp_plan *row)
{
    ort_hasher_put(ctx, row->name, strlen(row->name) + 1);
    ort_hasher_put(ctx, &row->limits, sizeof row->limits);
    return ORT_OK;
}

/* What nodes would be told from this file, as one hash; false: the file says that it is damaged. */
static bool
answer_of(const char *path, ort_hash *out)
{
    cp_store *store;
    cp_tx *tx;
    cp_oplog_verdict verdict = {0};
    char differ[256] = "?";
    ort_hasher h;
    if (cp_store_open(
            &store,
            &(cp_store_options){.path = path, .read_only = true, .full_check = true, .readers = 1},
            &diag) != ORT_OK) {
        return false;
    }
    ort_hasher_init(&h);
    ort_err err = cp_store_begin_read(store, &tx, &diag);
    if (err == ORT_OK) {
        err = cp_oplog_verify(tx, 0, NULL, &verdict, &diag);
    }
    if (err == ORT_OK) {
        err = cp_oplog_compare_state(tx, differ, &diag);
    }
    if (err == ORT_OK) {
        err = cp_tenant_list(tx, &(cp_tenant_query){.with_deleted = true}, hash_tenant, &h, &diag);
    }
    if (err == ORT_OK) {
        err = cp_plan_list(tx, (cp_page){0}, hash_plan, &h, &diag);
    }
    cp_tx_end(tx);
    cp_store_close(store);
    ort_hasher_done(&h, out);
    return err == ORT_OK && verdict.intact && differ[0] == '\0';
}

/* A disk or a person changes a byte anywhere in the file: it is found when the file is looked
 * through, or it changes no answer. Never a crash, never another answer. */
static void
a_flipped_byte_is_found_or_harmless(void **state)
{
    fixture *f = *state;
    char path[128];
    ort_buf whole = {0};
    ort_hash good, now;
    unsigned found = 0, harmless = 0;
    const int dir = open(f->dir, O_RDONLY | O_DIRECTORY);
    add_region(f, "eu");
    for (uint64_t i = 1; i <= 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%" PRIu64, i);
        add_tenant(f, i << 40, name);
    }
    cp_store_close(f->store); /* folds the log into the file */
    f->store = NULL;
    OK(ort_file_read(dir, "hub.db", 16 << 20, &whole, &diag));
    ort_log_set_level(ORT_LOG_ERROR_ + 1); /* hundreds of lines that say "damaged" */
    snprintf(path, sizeof path, "%s/flipped.db", f->dir);
    assert_true(answer_of(f->path, &good));
    for (size_t at = 0; at < whole.len; at += 499) {
        whole.data[at] ^= 0x10;
        OK(ort_file_replace(dir, "flipped.db", whole.data, whole.len, 0600, &diag));
        whole.data[at] ^= 0x10;
        if (!answer_of(path, &now)) {
            found++;
        } else {
            assert_true(ort_hash_equal(&good, &now));
            harmless++;
        }
    }
    ort_log_set_level(ORT_LOG_INFO_);
    print_message("%u found, %u harmless\n", found, harmless);
    assert_true(found > 20);
    ort_buf_fini(&whole);
    close(dir);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(first_start_makes_hub_and_plans, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_change_records_every_row_it_touched, set_up, tear_down),
    cmocka_unit_test_setup_teardown(nothing_changed_means_no_record, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_refusal_before_commit_rolls_all_back, set_up, tear_down),
    cmocka_unit_test_setup_teardown(verify_names_the_first_changed_record, set_up, tear_down),
    cmocka_unit_test_setup_teardown(verify_names_missing_records, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_row_changed_from_outside_differs_from_the_log, set_up,
                                    tear_down),
    cmocka_unit_test_setup_teardown(hashes_are_hidden_from_people, set_up, tear_down),
    cmocka_unit_test_setup_teardown(names_are_unique_and_come_free_with_a_tombstone, set_up,
                                    tear_down),
    cmocka_unit_test_setup_teardown(what_is_referred_to_must_be_there_and_stays, set_up, tear_down),
    cmocka_unit_test_setup_teardown(limits_are_the_plan_s_but_for_overrides, set_up, tear_down),
    cmocka_unit_test_setup_teardown(keys_belong_to_one_tenant, set_up, tear_down),
    cmocka_unit_test_setup_teardown(last_use_only_grows_and_dead_keys_are_swept, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_home_changes_only_from_the_epoch_that_was_seen, set_up,
                                    tear_down),
    cmocka_unit_test_setup_teardown(a_removed_node_frees_its_name_and_never_its_key, set_up,
                                    tear_down),
    cmocka_unit_test_setup_teardown(an_older_incarnation_has_nothing_to_say, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_join_token_keeps_what_it_was_bound_to, set_up, tear_down),
    cmocka_unit_test_setup_teardown(pages_are_stable_under_inserts, set_up, tear_down),
    cmocka_unit_test_setup_teardown(tenants_are_found_by_home_plan_and_state, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_cursor_is_of_its_list_and_nothing_else, set_up, tear_down),
    cmocka_unit_test_setup_teardown(audit_is_filtered_by_tenant_op_actor_and_time, set_up,
                                    tear_down),
    cmocka_unit_test_setup_teardown(usage_is_right_whatever_happens_to_reports, set_up, tear_down),
    cmocka_unit_test_setup_teardown(absurd_counters_are_cut, set_up, tear_down),
    cmocka_unit_test_setup_teardown(an_answer_is_kept_once_until_it_expires, set_up, tear_down),
    cmocka_unit_test_setup_teardown(admin_tokens_have_roles_and_owners, set_up, tear_down),
    cmocka_unit_test_setup_teardown(every_older_schema_is_brought_up_to_date, set_up, tear_down),
    cmocka_unit_test_setup_teardown(kept_databases_come_up_to_date, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_newer_or_foreign_database_is_refused, set_up, tear_down),
    cmocka_unit_test_setup_teardown(what_is_no_database_is_refused, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_second_control_plane_is_kept_out, set_up, tear_down),
    cmocka_unit_test_setup_teardown(writers_take_turns_and_readers_see_whole_versions, set_up,
                                    tear_down),
    cmocka_unit_test_setup_teardown(a_turn_that_does_not_come_is_busy, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_snapshot_stays_as_it_was, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_backup_is_a_hub_of_its_own, set_up, tear_down),
    cmocka_unit_test_setup_teardown(any_run_of_changes_leaves_what_the_log_tells, set_up,
                                    tear_down),
    cmocka_unit_test_setup_teardown(a_flipped_byte_is_found_or_harmless, set_up, tear_down),
};

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        return write_sample(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
