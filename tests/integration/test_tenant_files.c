/* Where a tenant's files stand: one collection in the tenant's own directory, the others beneath
 * it; how it moves there; and what is done with all of them while they are closed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/point.h"
#include "base/thread.h"
#include "storage/dump.h"
#include "tenant/snapshots.h"
#include "tenant_support.h"

#define ACME_PATH "tenants/1111111111111111"

static int
open_acme(const node *n)
{
    const int fd = openat(n->dir, ACME_PATH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void run(const node *n, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A command in ACME's directory. */
static void
run(const node *n, const char *format, ...)
{
    char line[512], command[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    snprintf(command, sizeof command, "cd %s/" ACME_PATH " && %s", n->path, line);
    assert_int_equal(system(command), 0);
}

static void
drop(dp_tenant *t, const char *name)
{
    bool existed;
    ort_diag diag = {""};
    assert_int_equal(dp_tenant_drop_collection(t, name, strlen(name), &existed, &diag), ORT_OK);
    assert_true(existed);
}

static uint64_t
times_opened(node *n)
{
    dp_tenants_stats stats;
    dp_tenants_get_stats(n->all, &stats);
    return stats.collections_opened;
}

/* --- the place -------------------------------------------------------------------------------- */

static void
the_first_collection_is_at_home_and_the_others_beneath(void **state)
{
    node n;
    ort_diag diag;
    (void)state;
    node_init(&n);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(create(t, "b", &diag), ORT_OK);
    assert_int_equal(upsert(t, "a", 0, 3, &diag), ORT_OK);
    assert_int_equal(upsert(t, "b", 0, 4, &diag), ORT_OK);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(count_found(&n, "-type d"), 3); /* the tenant's, collections, b's */
        assert_int_equal(count_found(&n, "-maxdepth 2 -name 'log.*'"), 1);
        assert_int_equal(count(t, "a"), 3);
        assert_int_equal(count(t, "b"), 4);
        dp_tenant_unref(t);
        node_restart(&n);
        t = tenant(&n, ACME);
    }
    drop(t, "a");
    assert_int_equal(count_found(&n, "-maxdepth 2 -name 'log.*'"), 0);
    assert_int_equal(create(t, "c", &diag), ORT_OK); /* the place is free again */
    assert_int_equal(upsert(t, "c", 0, 5, &diag), ORT_OK);
    assert_int_equal(count_found(&n, "-maxdepth 2 -name 'log.*'"), 1);
    dp_tenant_unref(t);
    node_restart(&n);
    t = tenant(&n, ACME);
    assert_int_equal(count(t, "b"), 4);
    assert_int_equal(count(t, "c"), 5);
    dp_tenant_unref(t);
    node_fini(&n);
}

/* Its files are still written to: another one must not come to stand among them. */
static void
the_place_is_taken_until_the_last_user_has_gone(void **state)
{
    node n;
    ort_diag diag;
    dp_collection *used;
    (void)state;
    node_init(&n);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(upsert(t, "a", 0, 3, &diag), ORT_OK);
    assert_int_equal(dp_tenant_use(t, "a", 1, &used, &diag), ORT_OK);
    drop(t, "a");
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(upsert(t, "a", 0, 2, &diag), ORT_OK);
    assert_int_equal(count_found(&n, "-path '*/collections/*/log.*'"), 1);
    uint64_t left = 0;
    assert_int_equal(dp_collection_count(used, NULL, &left, NULL), ORT_OK);
    assert_int_equal(left, 3);
    dp_tenant_release(t, used);
    assert_int_equal(count_found(&n, "-maxdepth 2 -name 'log.*'"), 0);
    assert_int_equal(create(t, "b", &diag), ORT_OK);
    assert_int_equal(upsert(t, "b", 0, 1, &diag), ORT_OK);
    assert_int_equal(count_found(&n, "-maxdepth 2 -name 'log.*'"), 1);
    assert_int_equal(count(t, "a"), 2);
    dp_tenant_unref(t);
    node_fini(&n);
}

/* The last user of a collection leaves when its tenant is another one of the same id. */
static void
a_deleted_tenants_last_user_leaves_the_next_one_alone(void **state)
{
    node n;
    ort_diag diag;
    dp_collection *used;
    (void)state;
    node_init(&n);
    dp_tenant *old = tenant(&n, ACME);
    assert_int_equal(create(old, "a", &diag), ORT_OK);
    assert_int_equal(upsert(old, "a", 0, 3, &diag), ORT_OK);
    assert_int_equal(dp_tenant_use(old, "a", 1, &used, &diag), ORT_OK);
    drop(old, "a");
    assert_int_equal(dp_tenants_delete(n.all, ACME, &diag), ORT_OK);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(upsert(t, "a", 0, 2, &diag), ORT_OK);
    dp_tenant_release(old, used);
    dp_tenant_unref(old);
    dp_tenant_unref(t);
    node_restart(&n);
    t = tenant(&n, ACME);
    assert_int_equal(count(t, "a"), 2);
    dp_tenant_unref(t);
    node_fini(&n);
}

/* A crash between the catalog that names nobody and the last file's way to the trash. */
static void
files_that_nobody_is_named_for_are_swept(void **state)
{
    node n;
    ort_diag diag;
    (void)state;
    node_init(&n);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(upsert(t, "a", 0, 3, &diag), ORT_OK);
    dp_tenant_unref(t);
    node_restart(&n);
    run(&n, "mkdir %s/aside && cp log.* %s/aside", n.path, n.path);
    t = tenant(&n, ACME);
    drop(t, "a");
    dp_tenant_unref(t);
    dp_tenants_close(n.all);
    run(&n, "mv %s/aside/* .", n.path);
    node_start(&n);
    t = tenant(&n, ACME);
    assert_int_equal(count_found(&n, "-name 'log.*'"), 0);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(count(t, "a"), 0);
    dp_tenant_unref(t);
    node_fini(&n);
}

typedef struct {
    dp_tenant *t;
    atomic_bool stop;
} user;

static void *
use_and_release(void *arg)
{
    user *u = arg;
    while (!atomic_load(&u->stop)) {
        dp_collection *c;
        if (dp_tenant_use(u->t, "a", 1, &c, NULL) == ORT_OK) {
            dp_tenant_release(u->t, c);
        }
    }
    return NULL;
}

/* The catalog cannot be written, so the collection stays; and its last user, who left meanwhile,
 * must not have taken it along. */
static void
a_drop_that_fails_leaves_all_as_it_was(void **state)
{
    node n;
    user u = {.t = NULL};
    pthread_t thread;
    ort_diag diag;
    bool existed;
    (void)state;
    node_init(&n);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(upsert(t, "a", 0, 3, &diag), ORT_OK);
    run(&n, "mkdir catalog.json.new");
    u.t = t;
    assert_int_equal(ort_thread_start(&thread, "user", use_and_release, &u, NULL), ORT_OK);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(dp_tenant_drop_collection(t, "a", 1, &existed, &diag), ORT_EIO);
        assert_false(existed);
    }
    atomic_store(&u.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(count(t, "a"), 3);
    run(&n, "rmdir catalog.json.new");
    drop(t, "a");
    dp_tenant_unref(t);
    node_fini(&n);
}

/* --- older layouts ---------------------------------------------------------------------------- */

/* A catalog as format 3 had it. */
static void
make_old(int dir, const char *name)
{
    ort_buf text = {0};
    ort_diag diag = {""};
    char crc[9];
    assert_int_equal(ort_file_read(dir, name, 1u << 20, &text, &diag), ORT_OK);
    char *at = memmem(text.data, text.len, "\"format\":4", 10);
    assert_non_null(at);
    at[9] = '3';
    static const char home[] = "\"home\":true,";
    at = memmem(text.data, text.len, home, sizeof home - 1);
    if (at != NULL) {
        text.len -= sizeof home - 1;
        memmove(at, at + sizeof home - 1, text.len - (size_t)(at - (char *)text.data));
    }
    /* ...,"crc32c":"12345678"} */
    snprintf(crc, sizeof crc, "%08x", ort_crc32c(0, text.data, text.len - 21));
    memcpy((char *)text.data + text.len - 10, crc, 8);
    assert_int_equal(ort_file_replace(dir, name, text.data, text.len, 0600, &diag), ORT_OK);
    ort_buf_fini(&text);
}

/* ACME as an older program left it: every collection in a directory of its own. */
static void
make_all_old(const node *n)
{
    ort_tenant_id owner;
    ort_collection_id id;
    char name[ORT_ID_TEXT_BYTES];
    const int dir = open_acme(n);
    assert_int_equal(dp_storage_owner(dir, &owner, &id, NULL), ORT_OK);
    ort_id_format(id.v, name);
    run(n, "mkdir -p collections/%s", name);
    run(n, "for f in log.* manifest seg.*; do test ! -e $f || mv $f collections/%s; done", name);
    make_old(dir, "catalog.json");
    make_old(dir, "catalog.old");
    close(dir);
}

static void
begin_old(node *n, unsigned points)
{
    ort_diag diag = {""};
    node_init(n);
    dp_tenant *t = tenant(n, ACME);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(upsert(t, "a", 0, points, &diag), ORT_OK);
    dp_collection *c;
    assert_int_equal(dp_tenant_use(t, "a", 1, &c, &diag), ORT_OK);
    assert_int_equal(dp_collection_checkpoint(c, &diag), ORT_OK);
    dp_tenant_release(t, c);
    assert_int_equal(upsert(t, "a", points, 1, &diag), ORT_OK);
    dp_tenant_unref(t);
    dp_tenants_close(n->all);
    make_all_old(n);
    assert_int_equal(count_found(n, "-type d"), 3);
}

static void
an_older_tenant_is_read_and_moves_in_when_it_closes(void **state)
{
    node n;
    ort_diag diag;
    (void)state;
    begin_old(&n, 7);
    n.config.idle_close_ms = 50;
    node_start(&n);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(count(t, "a"), 8);
    /* The `find` of the count is a fork, which holds what is locked until it is another program:
     * what could not move for that is moved after its next use. */
    for (int i = 1; i <= 2400 && count_found(&n, "-type d") > 1; i++) {
        sleep_ms(25);
        if (i % 40 == 0) {
            assert_int_equal(count(t, "a"), 8);
        }
    }
    assert_int_equal(count_found(&n, "-type d"), 1);
    assert_int_equal(count(t, "a"), 8);
    assert_int_equal(upsert(t, "a", 100, 2, &diag), ORT_OK);
    dp_tenant_unref(t);
    node_restart(&n);
    t = tenant(&n, ACME);
    assert_int_equal(count(t, "a"), 10);
    dp_tenant_unref(t);
    node_restart(&n);
    assert_int_equal(count_found(&n, "-type d"), 1);
    assert_in_range(count_found(&n, "-type f"), 1, 5);
    node_fini(&n);
}

#if ORT_CHECK
static const char *die_at;

static void
die(const char *point)
{
    if (strcmp(point, die_at) == 0) {
        _exit(9);
    }
}

/* At every moment the files are whole where the catalog says they are, or where the one before it
 * says: that is what a repair would put back. */
static void
a_crash_while_it_moves_in_loses_nothing(void **state)
{
    static const char *const points[] = {"home.linked", "home.said", "home.kept"};
    (void)state;
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        node n;
        begin_old(&n, 7);
        n.config.idle_close_ms = 20;
        const pid_t child = fork();
        if (child == 0) {
            die_at = points[i];
            ort_point_set(die);
            ort_diag diag = {""};
            dp_tenant *t;
            dp_collection *c;
            if (dp_tenants_open(&n.all, n.dir, &n.config, &diag) == ORT_OK &&
                dp_tenants_get(n.all, ACME, &t, &diag) == ORT_OK &&
                dp_tenant_use(t, "a", 1, &c, &diag) == ORT_OK) {
                dp_tenant_release(t, c);
                sleep_ms(120000);
            }
            _exit(1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 9);
        if (i > 0) { /* as if the catalog were damaged, and repaired */
            run(&n, "cp catalog.old catalog.json");
        }
        node_start(&n);
        dp_tenant *t = tenant(&n, ACME);
        assert_int_equal(count(t, "a"), 8);
        await_closed(&n);
        assert_int_equal(count(t, "a"), 8);
        dp_tenant_unref(t);
        node_fini(&n);
    }
}
#endif

/* --- closed ----------------------------------------------------------------------------------- */

static bool
count_name(void *ctx, const char *name, const char *of)
{
    (void)name;
    (void)of;
    ++*(unsigned *)ctx;
    return true;
}

/* A backup of all that is closed, restored to another tenant. */
static void
back_up(node *n, dp_tenant *t, uint64_t points)
{
    ort_diag diag = {""};
    dp_tenant_file *file;
    dp_snapshot_totals totals;
    const dp_snapshot_pin pin = {.region_count = 0};
    const uint64_t opened = times_opened(n);
    if (dp_tenant_backup(t, &pin, &file, &totals, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    assert_int_equal(totals.points, points);
    assert_int_equal(times_opened(n), opened);
    dp_tenant *copy = tenant(n, GLOBEX);
    if (dp_tenant_restore(copy, dp_tenant_file_peek_fd(file), "", true, &totals, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    dp_tenant_file_free(file);
    assert_int_equal(times_opened(n), opened);
    assert_int_equal(count(copy, "a") + count(copy, "b"), points);
    dp_tenant_unref(copy);
}

/* Ten thousand closed tenants are backed up every night: to open each would drive out what is in
 * use, and take its memory. */
static void
what_is_closed_is_listed_counted_backed_up_and_deleted_closed(void **state)
{
    node n;
    ort_diag diag;
    dp_tenant_usage usage;
    dp_snapshot_info info;
    unsigned names = 0;
    const dp_snapshot_pin pin = {.region_count = 0};
    const dp_tenant_limits limits = {.points_max = 12};
    (void)state;
    node_init(&n);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(create(t, "a", &diag), ORT_OK);
    assert_int_equal(create(t, "b", &diag), ORT_OK);
    assert_int_equal(upsert(t, "a", 0, 7, &diag), ORT_OK); /* in the log */
    assert_int_equal(upsert(t, "b", 0, 5, &diag), ORT_OK);
    dp_collection *c;
    assert_int_equal(dp_tenant_use(t, "b", 1, &c, &diag), ORT_OK);
    assert_int_equal(dp_collection_checkpoint(c, &diag), ORT_OK); /* in a segment */
    dp_tenant_release(t, c);
    dp_tenant_unref(t);
    node_restart(&n);

    t = tenant(&n, ACME);
    dp_tenant_set_limits(t, &limits);
    assert_int_equal(dp_tenant_list_collections(t, count_name, &names), ORT_OK);
    assert_int_equal(names, 2);
    dp_tenant_get_usage(t, &usage);
    assert_int_equal(usage.points, 12);
    assert_int_equal(dp_tenant_check_room(t, &diag), ORT_EQUOTA);
    if (dp_tenant_snapshot_create(t, "b", 1, &pin, &info, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    assert_int_equal(times_opened(&n), 0);
    back_up(&n, t, 12);
    const uint64_t opened = times_opened(&n); /* of the copy */
    drop(t, "b");
    dp_tenant_get_usage(t, &usage);
    assert_int_equal(usage.points, 7);
    assert_int_equal(dp_tenants_delete(n.all, ACME, &diag), ORT_OK);
    assert_false(dp_tenants_exists(n.all, ACME));
    assert_int_equal(times_opened(&n), opened);
    dp_tenant_unref(t);
    node_fini(&n);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_collection_is_at_home_and_the_others_beneath),
        cmocka_unit_test(the_place_is_taken_until_the_last_user_has_gone),
        cmocka_unit_test(a_deleted_tenants_last_user_leaves_the_next_one_alone),
        cmocka_unit_test(files_that_nobody_is_named_for_are_swept),
        cmocka_unit_test(a_drop_that_fails_leaves_all_as_it_was),
        cmocka_unit_test(an_older_tenant_is_read_and_moves_in_when_it_closes),
#if ORT_CHECK
        cmocka_unit_test(a_crash_while_it_moves_in_loses_nothing),
#endif
        cmocka_unit_test(what_is_closed_is_listed_counted_backed_up_and_deleted_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
