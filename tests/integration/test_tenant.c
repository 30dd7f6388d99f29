/* Tenants of one node: catalogs, restarts, idle closing, deletion, damage that stays with its
 * owner. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "tenant_support.h"

static bool
append_name(void *ctx, const char *name, const char *of)
{
    char *text = ctx;
    snprintf(text + strlen(text), 200 - strlen(text), "%s%s%s;", name, of != NULL ? ">" : "",
             of != NULL ? of : "");
    return true;
}

static void
assert_listed(dp_tenant *t, const char *expected)
{
    char text[200] = "";
    assert_int_equal(dp_tenant_list_collections(t, append_name, text), ORT_OK);
    assert_string_equal(text, expected);
}

/* --- tests --------------------------------------------------------------------------------------
 */

static void
two_tenants_share_a_name_and_nothing_else(void **state)
{
    node n;
    ort_diag diag;
    bool existed;
    (void)state;
    node_init(&n);
    dp_tenant *a = tenant(&n, ACME), *b = tenant(&n, GLOBEX);
    assert_int_equal(create(a, "notes", &diag), ORT_OK);
    assert_int_equal(create(b, "notes", &diag), ORT_OK);
    assert_int_equal(upsert(a, "notes", 0, 5, &diag), ORT_OK);
    assert_int_equal(upsert(b, "notes", 100, 2, &diag), ORT_OK);
    assert_int_equal(create(a, "notes", &diag), ORT_EEXISTS);
    assert_string_equal(diag.text, "Collection `notes` already exists!");
    for (int round = 0; round < 2; round++) {
        assert_int_equal(count(a, "notes"), 5);
        assert_int_equal(count(b, "notes"), 2);
        dp_tenant_unref(a);
        dp_tenant_unref(b);
        node_restart(&n);
        a = tenant(&n, ACME);
        b = tenant(&n, GLOBEX);
    }
    assert_int_equal(dp_tenant_drop_collection(a, "notes", 5, &existed, &diag), ORT_OK);
    assert_true(existed);
    assert_int_equal(dp_tenant_drop_collection(a, "notes", 5, &existed, &diag), ORT_OK);
    assert_false(existed);
    assert_listed(a, "");
    assert_listed(b, "notes;");
    assert_int_equal(count(b, "notes"), 2);
    dp_tenant_unref(a);
    dp_tenant_unref(b);
    node_fini(&n);
}

static void
aliases_lead_to_collections_and_go_with_them(void **state)
{
    node n;
    ort_diag diag;
    bool existed;
    char text[200] = "";
    (void)state;
    node_init(&n);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(upsert(t, "a", 0, 3, &diag), ORT_OK);
    ort_json_doc *doc =
        json("{\"actions\":[{\"create_alias\":{\"collection_name\":\"a\",\"alias_name\":"
             "\"x\"}},{\"rename_alias\":{\"old_alias_name\":\"x\",\"new_alias_name\":"
             "\"y\"}}]}");
    assert_int_equal(dp_tenant_change_aliases(t, ort_json_root(doc), &diag), ORT_OK);
    ort_json_free(doc);
    dp_tenant_unref(t);
    node_restart(&n);
    t = tenant(&n, ACME);
    assert_int_equal(count(t, "y"), 3);
    assert_true(dp_tenant_has_collection(t, "y", 1));
    assert_false(dp_tenant_has_collection(t, "x", 1));
    doc = json("{\"actions\":[{\"delete_alias\":{\"alias_name\":\"y\"}},{\"create_alias\":{"
               "\"collection_name\":\"nope\",\"alias_name\":\"z\"}}]}");
    assert_int_equal(dp_tenant_change_aliases(t, ort_json_root(doc), &diag), ORT_ENOTFOUND);
    ort_json_free(doc);
    assert_int_equal(count(t, "y"), 3); /* all of it or nothing */
    assert_int_equal(dp_tenant_drop_collection(t, "a", 1, &existed, &diag), ORT_OK);
    assert_int_equal(dp_tenant_list_aliases(t, NULL, 0, append_name, text, &diag), ORT_OK);
    assert_string_equal(text, "");
    dp_tenant_unref(t);
    node_fini(&n);
}

static void
quotas_count_closed_collections_too(void **state)
{
    node n;
    ort_diag diag;
    dp_tenant_usage usage;
    const dp_tenant_limits limits = {
        .collections_max = 2, .points_max = 10, .points_per_collection_max = 8};
    (void)state;
    node_init(&n);
    dp_tenant *t = tenant(&n, ACME);
    dp_tenant_set_limits(t, &limits);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(create(t, "b", &diag), ORT_OK);
    assert_int_equal(create(t, "c", &diag), ORT_EQUOTA);
    assert_int_equal(upsert(t, "a", 0, 9, &diag), ORT_EQUOTA);
    assert_int_equal(count(t, "a"), 8);
    dp_tenant_unref(t);
    node_restart(&n);
    t = tenant(&n, ACME);
    dp_tenant_set_limits(t, &limits);
    dp_tenant_get_usage(t, &usage); /* nothing was opened yet */
    assert_int_equal(usage.points, 8);
    assert_int_equal(usage.bytes, 8 * (17 + 8));
    assert_int_equal(usage.collections, 2);
    assert_int_equal(upsert(t, "b", 0, 3, &diag), ORT_EQUOTA);
    assert_int_equal(count(t, "b"), 2);
    assert_int_equal(dp_tenant_check_room(t, &diag), ORT_EQUOTA);
    assert_int_equal(upsert(t, "b", 0, 2, &diag), ORT_OK); /* replaces */
    bool existed;
    assert_int_equal(dp_tenant_drop_collection(t, "a", 1, &existed, &diag), ORT_OK);
    assert_int_equal(upsert(t, "b", 2, 5, &diag), ORT_OK);
    dp_tenant_unref(t);
    node_fini(&n);
}

static void
idle_collections_close_and_open_again(void **state)
{
    node n;
    ort_diag diag;
    dp_tenants_stats stats;
    (void)state;
    node_init(&n);
    n.config.idle_close_ms = 50;
    node_restart(&n);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(upsert(t, "a", 0, 4, &diag), ORT_OK);
    await_closed(&n);
    for (int i = 0; i < 100; i++) { /* it may close again before we look, on a slow machine */
        assert_int_equal(count(t, "a"), 4);
        dp_tenants_get_stats(n.all, &stats);
        if (stats.collections_open == 1) {
            break;
        }
    }
    assert_int_equal(stats.collections_open, 1);
    dp_tenant_unref(t);
    node_fini(&n);
}

static void
a_deleted_tenant_leaves_nothing_behind(void **state)
{
    node n;
    ort_diag diag;
    dp_tenants_stats stats;
    (void)state;
    node_init(&n);
    dp_tenant *a = tenant(&n, ACME), *b = tenant(&n, GLOBEX);
    assert_int_equal(create(a, "a", &diag), ORT_OK);
    assert_int_equal(create(b, "b", &diag), ORT_OK);
    assert_int_equal(upsert(a, "a", 0, 4, &diag), ORT_OK);
    assert_int_equal(upsert(b, "b", 0, 4, &diag), ORT_OK);
    assert_true(dp_tenants_exists(n.all, ACME));
    dp_tenant_unref(a);
    assert_int_equal(dp_tenants_delete(n.all, ACME, &diag), ORT_OK);
    assert_false(dp_tenants_exists(n.all, ACME));
    assert_int_equal(dp_tenants_delete(n.all, ACME, &diag), ORT_OK);
    for (int i = 0; i < 2400; i++) {
        dp_tenants_get_stats(n.all, &stats);
        if (stats.trash_left == 0) {
            break;
        }
        sleep_ms(25);
    }
    assert_int_equal(stats.trash_left, 0);
    assert_int_equal(count(b, "b"), 4);
    a = tenant(&n, ACME); /* a new one, empty */
    assert_listed(a, "");
    dp_tenant_unref(a);
    dp_tenant_unref(b);
    node_fini(&n);
}

/* Flips a byte in the middle of every file of its collection. */
static void
damage(const node *n, ort_tenant_id id)
{
    char command[256], text[ORT_ID_TEXT_BYTES];
    ort_id_format(id.v, text);
    snprintf(command, sizeof command, "find %s/tenants/%s -type f -size +0 ! -name 'catalog*'",
             n->path, text);
    FILE *found = popen(command, "r");
    char path[512];
    assert_non_null(found);
    while (fgets(path, sizeof path, found) != NULL) {
        path[strcspn(path, "\n")] = '\0';
        const int fd = open(path, O_RDWR | O_CLOEXEC);
        unsigned char bytes[64];
        assert_true(fd >= 0);
        assert_int_equal(pread(fd, bytes, sizeof bytes, 0), (ssize_t)sizeof bytes);
        for (size_t i = 0; i < sizeof bytes; i++) {
            bytes[i] ^= 0x5a;
        }
        assert_int_equal(pwrite(fd, bytes, sizeof bytes, 0), (ssize_t)sizeof bytes);
        close(fd);
    }
    pclose(found);
}

static void
a_damaged_collection_is_503_and_the_others_go_on(void **state)
{
    node n;
    ort_diag diag;
    dp_collection *c;
    (void)state;
    node_init(&n);
    dp_tenant *a = tenant(&n, ACME), *b = tenant(&n, GLOBEX);
    assert_int_equal(create(a, "a", &diag), ORT_OK);
    assert_int_equal(create(b, "b", &diag), ORT_OK);
    assert_int_equal(upsert(a, "a", 0, 4, &diag), ORT_OK);
    assert_int_equal(upsert(b, "b", 0, 4, &diag), ORT_OK);
    dp_tenant_unref(a);
    dp_tenant_unref(b);
    dp_tenants_close(n.all);
    damage(&n, ACME);
    node_start(&n);
    a = tenant(&n, ACME);
    b = tenant(&n, GLOBEX);
    assert_int_equal(dp_tenant_use(a, "a", 1, &c, &diag), ORT_EBUSY);
    assert_non_null(strstr(diag.text, "shard 0"));
    assert_null(c);
    assert_listed(a, "a;");
    assert_int_equal(create(a, "fresh", &diag), ORT_OK);
    assert_int_equal(upsert(a, "fresh", 0, 2, &diag), ORT_OK);
    assert_int_equal(count(b, "b"), 4);
    bool existed;
    assert_int_equal(dp_tenant_drop_collection(a, "a", 1, &existed, &diag), ORT_OK);
    assert_true(existed);
    dp_tenant_unref(a);
    dp_tenant_unref(b);
    node_fini(&n);
}

static void
a_damaged_catalog_stops_its_tenant_alone(void **state)
{
    node n;
    ort_diag diag;
    dp_tenant *a, *b = NULL;
    char text[ORT_ID_TEXT_BYTES], path[128];
    (void)state;
    node_init(&n);
    a = tenant(&n, ACME);
    assert_int_equal(create(a, "a", &diag), ORT_OK);
    dp_tenant_unref(a);
    dp_tenants_close(n.all);
    ort_id_format(ACME.v, text);
    snprintf(path, sizeof path, "%s/tenants/%s/catalog.json", n.path, text);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("{\"version\":1,\"collections\":[{]}", file);
    fclose(file);
    node_start(&n);
    assert_int_equal(dp_tenants_get(n.all, ACME, &a, &diag), ORT_ECORRUPT);
    assert_null(a);
    b = tenant(&n, GLOBEX);
    assert_int_equal(create(b, "b", &diag), ORT_OK);
    dp_tenant_unref(b);
    node_fini(&n);
}

static bool
count_told(void *ctx, ort_tenant_id id, const dp_tenant_usage *usage)
{
    (void)id;
    (void)usage;
    ++*(unsigned *)ctx;
    return true;
}

/* Ten thousand idle tenants must not be ten thousand entries of every heartbeat; and what a lost
 * one said must be said again. */
static void
only_news_are_told_and_everything_now_and_then(void **state)
{
    node n;
    ort_diag diag;
    unsigned told = 0;
    (void)state;
    node_init(&n);
    dp_tenant *a = tenant(&n, ACME), *b = tenant(&n, GLOBEX);
    assert_int_equal(create(a, "a", &diag), ORT_OK);
    dp_tenants_each_news(n.all, 1, count_told, &told);
    assert_int_equal(told, 2);
    for (uint32_t turn = 2; turn < 2 + DP_USAGE_REPEAT; turn++) {
        dp_tenants_each_news(n.all, turn, count_told, &told);
    }
    assert_int_equal(told, 4); /* each once more */
    assert_int_equal(upsert(a, "a", 0, 1, &diag), ORT_OK);
    told = 0;
    uint32_t quiet = 0; /* a turn that is neither's */
    while ((ACME.v + quiet) % DP_USAGE_REPEAT == 0 || (GLOBEX.v + quiet) % DP_USAGE_REPEAT == 0) {
        quiet++;
    }
    dp_tenants_each_news(n.all, quiet, count_told, &told);
    assert_int_equal(told, 1);
    dp_tenant_unref(a);
    dp_tenant_unref(b);
    node_fini(&n);
}

/* --- at rest ---------------------------------------------------------------------------------- */

static ino_t
catalog_inode(const node *n, ort_tenant_id id)
{
    char path[128], text[ORT_ID_TEXT_BYTES];
    struct stat st;
    ort_id_format(id.v, text);
    snprintf(path, sizeof path, "%s/tenants/%s/catalog.json", n->path, text);
    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

/* An fsync at the first search of every small collection would be most of what it costs. */
static void
searches_leave_the_catalog_alone(void **state)
{
    node n;
    ort_diag diag;
    (void)state;
    node_init(&n);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(upsert(t, "a", 0, 4, &diag), ORT_OK);
    dp_tenant_unref(t);
    node_restart(&n);
    const ino_t before = catalog_inode(&n, ACME);
    t = tenant(&n, ACME);
    assert_int_equal(count(t, "a"), 4);
    dp_tenant_unref(t);
    node_restart(&n);
    assert_int_equal(catalog_inode(&n, ACME), before);
    t = tenant(&n, ACME);
    assert_int_equal(upsert(t, "a", 4, 1, &diag), ORT_OK);
    assert_int_not_equal(catalog_inode(&n, ACME), before);
    dp_tenant_unref(t);
    node_fini(&n);
}

/* The files of a node as kill -9 would leave them now, as another node's. */
static void
fork_files(const node *from, node *to)
{
    char command[256];
    node_init(to);
    dp_tenants_close(to->all);
    snprintf(command, sizeof command, "cp -r %s/. %s/", from->path, to->path);
    assert_int_equal(system(command), 0);
    to->config = from->config;
    node_start(to);
}

/* The catalog's sizes may be believed after a crash only where nothing was written since. */
static void
sizes_are_right_after_a_crash(void **state)
{
    node n, crashed;
    ort_diag diag;
    dp_tenant_usage usage;
    (void)state;
    node_init(&n);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(create(t, "closed", &diag), ORT_OK);
    assert_int_equal(create(t, "read", &diag), ORT_OK);
    assert_int_equal(create(t, "written", &diag), ORT_OK);
    assert_int_equal(upsert(t, "closed", 0, 2, &diag), ORT_OK);
    assert_int_equal(upsert(t, "read", 0, 4, &diag), ORT_OK);
    assert_int_equal(upsert(t, "written", 0, 1, &diag), ORT_OK);
    dp_tenant_unref(t);
    node_restart(&n);
    t = tenant(&n, ACME);
    assert_int_equal(count(t, "read"), 4);
    assert_int_equal(upsert(t, "written", 1, 7, &diag), ORT_OK);
    fork_files(&n, &crashed);
    dp_tenant *c = tenant(&crashed, ACME);
    dp_tenant_get_usage(c, &usage);
    assert_int_equal(usage.points, 2 + 4 + 8);
    assert_int_equal(count(c, "written"), 8);
    dp_tenant_unref(c);
    dp_tenant_unref(t);
    node_fini(&crashed);
    node_fini(&n);
}

/* Inodes are what many small tenants run out of first. */
static void
a_small_tenant_at_rest_is_few_files(void **state)
{
    node n;
    ort_diag diag;
    (void)state;
    node_init(&n);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    for (unsigned i = 0; i < 4; i++) { /* opened and closed again and again, it stays so */
        assert_int_equal(upsert(t, "a", i, 5, &diag), ORT_OK);
        dp_tenant_unref(t);
        node_restart(&n);
        t = tenant(&n, ACME);
    }
    assert_int_equal(count(t, "a"), 8);
    dp_tenant_unref(t);
    node_restart(&n);
    assert_in_range(count_found(&n, "-type f"), 1, 5);
    assert_int_equal(count_found(&n, "-type d"), 1);
    node_fini(&n);
}

/* One over the bound closes the one that was idle for longest, and no other. */
static void
the_idlest_close_when_too_many_are_open(void **state)
{
    node n;
    ort_diag diag;
    dp_tenants_stats stats;
    char name[2] = "a";
    (void)state;
    node_init(&n);
    n.config.open_max = 3;
    node_restart(&n);
    dp_tenant *t = tenant(&n, ACME);
    for (name[0] = 'a'; name[0] <= 'f'; name[0]++) {
        assert_int_equal(create(t, name, &diag), ORT_OK);
        assert_int_equal(upsert(t, name, 0, 1, &diag), ORT_OK);
        sleep_ms(5); /* "when used" is in milliseconds */
    }
    for (int i = 0; i < 6000; i++) {
        dp_tenants_get_stats(n.all, &stats);
        if (stats.collections_open <= 3) {
            break;
        }
        sleep_ms(10);
    }
    assert_int_equal(stats.collections_open, 3);
    assert_int_equal(count(t, "f"), 1); /* open already */
    assert_int_equal(count(t, "d"), 1);
    dp_tenants_get_stats(n.all, &stats);
    assert_int_equal(stats.collections_open, 3);
    dp_tenant_unref(t);
    node_fini(&n);
}

static void
a_second_process_is_kept_out(void **state)
{
    node n;
    dp_tenants *second;
    ort_diag diag;
    (void)state;
    node_init(&n);
    assert_int_equal(dp_tenants_open(&second, n.dir, &n.config, &diag), ORT_EBUSY);
    assert_null(second);
    node_fini(&n);
}

/* Uses, idle closing, drops and lists at once: what thread sanitizer looks at. */
typedef struct {
    node *n;
    unsigned number;
} churn;

static void *
churn_main(void *arg)
{
    const churn *w = arg;
    ort_diag diag;
    char name[16];
    snprintf(name, sizeof name, "c%u", w->number % 3);
    for (unsigned i = 0; i < 40; i++) {
        dp_tenant *t = tenant(w->n, w->number % 2 ? ACME : GLOBEX);
        const ort_err made = create(t, name, &diag);
        assert_true(made == ORT_OK || made == ORT_EEXISTS);
        const ort_err wrote = upsert(t, name, i, 1, &diag);
        assert_true(wrote == ORT_OK || wrote == ORT_ENOTFOUND || wrote == ORT_EBUSY);
        if (i % 10 == 9) {
            bool existed;
            assert_int_equal(dp_tenant_drop_collection(t, name, strlen(name), &existed, &diag),
                             ORT_OK);
        }
        dp_tenant_unref(t);
    }
    return NULL;
}

static void
many_threads_use_drop_and_close(void **state)
{
    enum { THREADS = 6 };
    node n;
    pthread_t threads[THREADS];
    churn work[THREADS];
    (void)state;
    node_init(&n);
    n.config.idle_close_ms = 1;
    node_restart(&n);
    for (unsigned i = 0; i < THREADS; i++) {
        work[i] = (churn){.n = &n, .number = i};
        assert_int_equal(ort_thread_start(&threads[i], "churn", churn_main, &work[i], NULL),
                         ORT_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    node_fini(&n);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_tenants_share_a_name_and_nothing_else),
        cmocka_unit_test(aliases_lead_to_collections_and_go_with_them),
        cmocka_unit_test(quotas_count_closed_collections_too),
        cmocka_unit_test(idle_collections_close_and_open_again),
        cmocka_unit_test(a_deleted_tenant_leaves_nothing_behind),
        cmocka_unit_test(a_damaged_collection_is_503_and_the_others_go_on),
        cmocka_unit_test(a_damaged_catalog_stops_its_tenant_alone),
        cmocka_unit_test(a_second_process_is_kept_out),
        cmocka_unit_test(only_news_are_told_and_everything_now_and_then),
        cmocka_unit_test(searches_leave_the_catalog_alone),
        cmocka_unit_test(sizes_are_right_after_a_crash),
        cmocka_unit_test(a_small_tenant_at_rest_is_few_files),
        cmocka_unit_test(the_idlest_close_when_too_many_are_open),
        cmocka_unit_test(many_threads_use_drop_and_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
