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
    snprintf(f->dir, sizeof f->dir, "/tmp/orthant-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
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
    const int fd = open("/tmp", O_RDONLY | O_DIRECTORY);
    assert_int_equal(ort_tree_remove(fd, f->dir + 5, NULL), ORT_OK);
    close(fd);
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

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(first_start_makes_hub_and_plans, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_change_records_every_row_it_touched, set_up, tear_down),
    cmocka_unit_test_setup_teardown(nothing_changed_means_no_record, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_refusal_before_commit_rolls_all_back, set_up, tear_down),
    cmocka_unit_test_setup_teardown(verify_names_the_first_changed_record, set_up, tear_down),
    cmocka_unit_test_setup_teardown(verify_names_missing_records, set_up, tear_down),
    cmocka_unit_test_setup_teardown(a_row_changed_from_outside_differs_from_the_log, set_up,
                                    tear_down),
};

int
main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
