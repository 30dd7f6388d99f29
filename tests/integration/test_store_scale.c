/* 100,000 tenants in one store (20,000 under sanitizers): pages, look-ups and changes cost what
 * they cost with ten.
 *
 * What a thing costs is the processor's time, measured in readings of the whole table, so that it
 * says the same on any machine, however busy. The bounds are far above what is seen, and tell an
 * index that is not used (each page, look-up or change reads the whole table) from one that is.
 * Figures in milliseconds are in docs/architecture/control-plane.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "store/keys.h"
#include "store/nodes.h"
#include "store/oplog.h"
#include "store/placements.h"
#include "store/regions.h"
#include "store/tenants.h"
#include "store/usage.h"
#include "support/scratch.h"

#ifdef ORT_CHECK
enum { TENANTS = 20000 }; /* sanitizers: filling 100,000 takes minutes on a busy machine */
#else
enum { TENANTS = 100000 };
#endif
enum { BATCH = 500, NODES = 8, PAGE = 100 };

static char dir[64];
static cp_store *store;
static ort_diag diag;
static const cp_author author = {.actor = "system"};

#define OK(call)                                  \
    do {                                          \
        const ort_err ok_err = (call);            \
        if (ok_err != ORT_OK) {                   \
            fail_msg("%s: %s", #call, diag.text); \
        }                                         \
    } while (0)

static ort_tenant_id
id_of(uint64_t i)
{
    return (ort_tenant_id){(i + 1) * 0x9e3779b97f4a7c15u | 1}; /* spread, as random ids are */
}

static void
fill_one(cp_tx *tx, uint64_t i)
{
    cp_home home;
    cp_tenant row = {.id = id_of(i)};
    cp_key key = {.tenant = row.id, .scopes = CP_SCOPES_ALL};
    strcpy(row.plan, i % 2 == 0 ? "default" : "enterprise");
    snprintf(row.name, sizeof row.name, "t%u", (unsigned)i);
    snprintf(key.id, sizeof key.id, "%024u", (unsigned)i);
    OK(cp_texts_add(&row.regions, "eu", 2));
    OK(cp_tenant_put(tx, &row, &diag));
    OK(cp_key_put(tx, &key, &diag));
    OK(cp_home_set(tx, row.id, (ort_node_id){1 + i % NODES}, 0, &home, &diag));
}

static int
fill(void **state)
{
    (void)state;
    char path[96];
    cp_tx *tx;
    ort_log_set_level(ORT_LOG_WARN_);
    scratch_dir(dir, sizeof dir, "orthant-scale");
    snprintf(path, sizeof path, "%s/hub.db", dir);
    OK(cp_store_open(&store, &(cp_store_options){.path = path}, &diag));
    OK(cp_store_begin(store, &author, &tx, &diag));
    OK(cp_region_put(tx, &(cp_region){.name = "eu"}, &diag));
    for (uint64_t n = 1; n <= NODES; n++) {
        cp_node node = {.id = {n}, .region = "eu", .weight = 100, .state = CP_NODE_READY};
        snprintf(node.name, sizeof node.name, "n%u", (unsigned)n);
        node.key.b[0] = (unsigned char)n;
        OK(cp_node_put(tx, &node, &diag));
    }
    OK(cp_tx_commit(tx, &(cp_change){.op = "test.fleet"}, NULL, &diag));
    for (uint64_t i = 0; i < TENANTS; i += BATCH) {
        OK(cp_store_begin(store, &author, &tx, &diag));
        for (uint64_t j = i; j < i + BATCH; j++) {
            fill_one(tx, j);
        }
        OK(cp_tx_commit(tx, &(cp_change){.op = "test.fill"}, NULL, &diag));
    }
    return 0;
}

static int
sweep(void **state)
{
    (void)state;
    cp_store_close(store);
    scratch_remove(dir);
    return 0;
}

typedef struct {
    uint64_t count;
    char last[ORT_ID_TEXT_BYTES];
} walked;

static ort_err
see(void *ctx, const cp_tenant *row)
{
    walked *w = ctx;
    char id[ORT_ID_TEXT_BYTES];
    ort_id_format(row->id.v, id);
    assert_true(strcmp(id, w->last) > 0);
    memcpy(w->last, id, sizeof id);
    w->count++;
    return ORT_OK;
}

/* Processor time of this thread. */
static uint64_t
cpu_us(void)
{
    struct timespec t;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* What it costs to walk the tenants of a query, and how many they are; every page is a request of
 * its own, with its own snapshot. */
static uint64_t
walk(cp_tenant_query query, uint32_t page, uint64_t *count_out)
{
    walked w = {0};
    uint64_t before;
    const uint64_t began = cpu_us();
    query.page.limit = page;
    do {
        cp_tx *tx;
        before = w.count;
        char after[ORT_ID_TEXT_BYTES];
        memcpy(after, w.last, sizeof after);
        query.page.after = after;
        OK(cp_store_begin_read(store, &tx, &diag));
        OK(cp_tenant_list(tx, &query, see, &w, &diag));
        cp_tx_end(tx);
    } while (w.count == before + page);
    *count_out = w.count;
    return cpu_us() - began;
}

static uint64_t whole_us; /* one reading of the whole table */

static void
costs_less_than(const char *what, uint64_t us, unsigned readings)
{
    print_message("%s: %.2f readings of the table (%llu us)\n", what, (double)us / (double)whole_us,
                  (unsigned long long)us);
    assert_true(us < readings * whole_us);
}

/* All pages together cost about one reading; it would be one each. */
static void
every_page_is_quick_also_the_last(void **state)
{
    (void)state;
    uint64_t count;
    whole_us = walk((cp_tenant_query){0}, TENANTS + 1, &count);
    assert_int_equal(count, TENANTS);
    costs_less_than("200 pages", walk((cp_tenant_query){0}, PAGE, &count), 10);
    assert_int_equal(count, TENANTS);
    costs_less_than("pages of a node", walk((cp_tenant_query){.home = {3}}, PAGE, &count), 10);
    assert_int_equal(count, TENANTS / NODES);
    costs_less_than("pages of a plan", walk((cp_tenant_query){.plan = "enterprise"}, PAGE, &count),
                    10);
    assert_int_equal(count, TENANTS / 2);
}

static void
look_ups_and_changes_do_not_grow_with_the_hub(void **state)
{
    (void)state;
    cp_tx *tx;
    cp_tenant row;
    cp_key key;
    cp_limits limits;
    enum { TIMES = 1000, CHANGES = 50 };
    uint64_t began = cpu_us();
    OK(cp_store_begin_read(store, &tx, &diag));
    for (uint64_t i = 0; i < TIMES; i++) {
        char name[CP_SLUG_BYTES], id[ORT_TOKEN_ID_TEXT_BYTES];
        const uint64_t at = i * 97 % TENANTS;
        snprintf(name, sizeof name, "t%u", (unsigned)at);
        snprintf(id, sizeof id, "%024u", (unsigned)at);
        OK(cp_tenant_find(tx, name, &row, &diag));
        assert_true(row.id.v == id_of(at).v);
        OK(cp_tenant_limits(tx, row.id, &limits, &diag));
        OK(cp_key_get(tx, row.id, id, &key, &diag));
    }
    cp_tx_end(tx);
    costs_less_than("tenant, limits and key, 1,000 times", cpu_us() - began, 10);
    began = cpu_us();
    for (uint64_t i = 0; i < CHANGES; i++) {
        OK(cp_store_begin(store, &author, &tx, &diag));
        OK(cp_tenant_get(tx, id_of(i), &row, &diag));
        row.updated_at_ms++;
        OK(cp_tenant_put(tx, &row, &diag));
        OK(cp_tx_commit(tx, &(cp_change){.op = "tenant.update", .tenant = row.id}, NULL, &diag));
    }
    costs_less_than("50 changes", cpu_us() - began, 10);
}

/* A whole fleet's usage in one note, as it comes every few seconds. */
static void
usage_of_a_thousand_tenants_is_one_note(void **state)
{
    (void)state;
    cp_tx *tx;
    enum { REPORTS = 1000 };
    static cp_usage_report reports[REPORTS];
    for (uint64_t i = 0; i < REPORTS; i++) {
        reports[i] = (cp_usage_report){.tenant = id_of(i), .now = {1, i, i, i}, .total = {i, i}};
    }
    const uint64_t began = cpu_us();
    OK(cp_store_begin_note(store, &tx, &diag));
    OK(cp_usage_take(tx, (ort_node_id){1}, 7, reports, REPORTS, &diag));
    OK(cp_tx_commit(tx, NULL, NULL, &diag));
    costs_less_than("1,000 reports", cpu_us() - began, 10);
}

static void
the_chain_is_walked_whole(void **state)
{
    (void)state;
    cp_tx *tx;
    cp_oplog_verdict verdict;
    const uint64_t began = ort_mono_ms();
    OK(cp_store_begin_read(store, &tx, &diag));
    OK(cp_oplog_verify(tx, 0, NULL, &verdict, &diag));
    cp_tx_end(tx);
    print_message("%llu records of %d rows: %llu ms\n", (unsigned long long)verdict.records,
                  4 * BATCH, (unsigned long long)(ort_mono_ms() - began));
    assert_true(verdict.intact);
}

/* A restart is a gap in which nothing can be changed: it looks at every page of the file, but does
 * not read what is in it row by row. */
static void
a_restart_is_quick(void **state)
{
    (void)state;
    char path[96];
    cp_store_stats stats;
    snprintf(path, sizeof path, "%s/hub.db", dir);
    cp_store_stats_get(store, &stats);
    cp_store_close(store);
    const uint64_t began = cpu_us();
    OK(cp_store_open(&store, &(cp_store_options){.path = path}, &diag));
    print_message("%llu MB: ", (unsigned long long)(stats.file_bytes / 1000000));
    costs_less_than("a restart", cpu_us() - began, 20);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_page_is_quick_also_the_last),
        cmocka_unit_test(look_ups_and_changes_do_not_grow_with_the_hub),
        cmocka_unit_test(usage_of_a_thousand_tenants_is_one_note),
        cmocka_unit_test(the_chain_is_walked_whole),
        cmocka_unit_test(a_restart_is_quick),
    };
    return cmocka_run_group_tests(tests, fill, sweep);
}
