/* The scrubber beside a node that works: what it finds is damage, what moves under it is not. Also
 * under the thread sanitizer. */
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
#include <glob.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "tenant/snapshots.h"
#include "tenant_support.h"

static const dp_snapshot_pin pin;

/* Waits for `rounds` more rounds; gives what the last one found. */
static uint64_t
scrubbed(node *n, uint64_t rounds)
{
    dp_tenants_stats stats;
    dp_tenants_get_stats(n->all, &stats);
    const uint64_t wanted = stats.scrub_rounds + rounds, until = ort_mono_ms() + 60000;
    while (stats.scrub_rounds < wanted) {
        assert_true(ort_mono_ms() < until);
        sleep_ms(20);
        dp_tenants_get_stats(n->all, &stats);
    }
    return stats.scrub_damaged;
}

static void
flip_in(const node *n, const char *pattern)
{
    glob_t found;
    char full[256];
    struct stat st = {.st_size = 0};
    unsigned char byte = 0;
    snprintf(full, sizeof full, "%s/tenants/1111111111111111/%s", n->path, pattern);
    assert_int_equal(glob(full, 0, NULL, &found), 0);
    const int fd = open(found.gl_pathv[0], O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    assert_int_equal(pread(fd, &byte, 1, st.st_size / 2), 1);
    byte ^= 0x20;
    assert_int_equal(pwrite(fd, &byte, 1, st.st_size / 2), 1);
    close(fd);
    globfree(&found);
}

/* Nobody downloads it until it is needed: then it must not be too late. */
static void
a_snapshot_that_rots_is_heard_of(void **state)
{
    node n;
    dp_snapshot_info info;
    ort_diag diag = {""};
    (void)state;
    node_init(&n);
    dp_tenant *t = tenant(&n, ACME);
    assert_int_equal(create(t, "docs", &diag), ORT_OK);
    assert_int_equal(upsert(t, "docs", 1, 50, &diag), ORT_OK);
    assert_int_equal(dp_tenant_snapshot_create(t, "docs", 4, &pin, &info, &diag), ORT_OK);
    dp_tenant_unref(t);
    n.config.scrub_bytes_per_s = 64u << 20;
    node_restart(&n);
    assert_int_equal(scrubbed(&n, 2), 0);
    flip_in(&n, "snapshots/*");
    assert_int_equal(scrubbed(&n, 2), 1);
    t = tenant(&n, ACME);
    assert_int_equal(dp_tenant_snapshot_delete(t, "docs", 4, info.name, &diag), ORT_OK);
    dp_tenant_unref(t);
    assert_int_equal(scrubbed(&n, 2), 0);
    node_fini(&n);
}

typedef struct {
    node *n;
    atomic_bool stop;
    unsigned rounds;
} worker;

/* Makes, fills, photographs, closes and drops collections. */
static void *
work(void *arg)
{
    worker *w = arg;
    ort_diag diag = {""};
    for (; !atomic_load(&w->stop); w->rounds++) {
        char name[16];
        bool existed;
        dp_snapshot_info info;
        dp_tenant *t = tenant(w->n, w->rounds % 2 == 0 ? ACME : GLOBEX);
        snprintf(name, sizeof name, "c%u", w->rounds % 3);
        const ort_err made = create(t, name, &diag);
        assert_true(made == ORT_OK || made == ORT_EEXISTS);
        assert_int_equal(upsert(t, name, w->rounds, 20, &diag), ORT_OK);
        if (w->rounds % 4 == 1) {
            assert_int_equal(dp_tenant_snapshot_create(t, name, strlen(name), &pin, &info, &diag),
                             ORT_OK);
        }
        if (w->rounds % 7 == 6) {
            assert_int_equal(dp_tenant_drop_collection(t, name, strlen(name), &existed, &diag),
                             ORT_OK);
        }
        dp_tenant_unref(t);
        sleep_ms(2);
    }
    return NULL;
}

/* Files that are written, checkpointed, closed and dropped while they are read are no damage. */
static void
what_moves_under_the_scrubber_is_no_damage(void **state)
{
    node n;
    pthread_t thread;
    (void)state;
    node_init(&n);
    n.config.scrub_bytes_per_s = UINT64_C(1) << 30;
    n.config.idle_close_ms = 5;
    node_restart(&n);
    worker w = {.n = &n};
    assert_int_equal(pthread_create(&thread, NULL, work, &w), 0);
    for (unsigned i = 0; i < 25; i++) {
        assert_int_equal(scrubbed(&n, 1), 0);
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    print_message("%u rounds of work beside 25 of the scrubber\n", w.rounds);
    assert_true(w.rounds > 10);
    node_fini(&n);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_that_rots_is_heard_of),
        cmocka_unit_test(what_moves_under_the_scrubber_is_no_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
