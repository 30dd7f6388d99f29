/* A node on a file system of 64 MiB that fills up under everything it does, and is freed again:
 * what does not fit is answered with 507 and is not there, reads and searches go on, for the
 * neighbours too, deletes go on while a little room is left, and once there is room again the same
 * node takes writes, without a restart. Then it is killed, and nothing that it answered is lost.
 *
 * Needs the right to mount, or to make a namespace of its own; says so and is skipped without.
 *
 *   ORT_FAULT_ROUNDS  nodes that are filled and killed (3)
 *   ORT_FAULT_SEED    other choices (1); `new`: each time */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "support/ledger.h"
#include "support/scratch.h"

#define STEPS 16
#define PATIENCE_MS 20000 /* what could not be done is tried again after a second or two */

static ledger *book;
static uint64_t seed;
static scratch place;

static uint32_t
mix(uint64_t x)
{
    x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)((x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9) >> 33);
}

static uint32_t
dice(uint32_t of)
{
    return mix(++seed) % of;
}

static void
nap(long ms)
{
    const struct timespec t = {.tv_nsec = ms * 1000000};
    (void)nanosleep(&t, NULL);
}

/* --- the disk --------------------------------------------------------------------------------- */

static void
write_text(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        const ssize_t n = write(fd, text, strlen(text));
        (void)n; /* the mount tells */
        close(fd);
    }
}

/* A namespace where this process may mount. */
static bool
mount_small_disk(void)
{
    char map[2][32];
    snprintf(map[0], sizeof map[0], "0 %u 1", (unsigned)getuid());
    snprintf(map[1], sizeof map[1], "0 %u 1", (unsigned)getgid());
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
            return false;
        }
        write_text("/proc/self/setgroups", "deny");
        write_text("/proc/self/uid_map", map[0]);
        write_text("/proc/self/gid_map", map[1]);
    }
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("orthant", place.path, "tmpfs", 0, "size=64m,nr_inodes=2k") == 0;
}

/* Leaves so many bytes free, if there are so many; UINT64_MAX: all that the node does not have. */
static void
leave_free(uint64_t bytes)
{
    struct statvfs st;
    char path[96];
    snprintf(path, sizeof path, "%s/filler", place.path);
    (void)unlink(path);
    assert_int_equal(statvfs(place.path, &st), 0);
    const uint64_t has = (uint64_t)st.f_bavail * st.f_bsize;
    if (bytes >= has) {
        return;
    }
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (uint64_t want = has - bytes; /* the node writes beside us: some may be gone by now */
         posix_fallocate(fd, 0, (off_t)want) != 0 && want > 65536; want -= 65536) {
    }
    close(fd);
}

/* --- everything, with little room ------------------------------------------------------------- */

static void
do_something(const ledger_client *c)
{
    switch (dice(16)) {
    case 0:
        ledger_snapshot(c, dice(LEDGER_SNAPSHOTS));
        break;
    case 1:
        ledger_restore(c);
        break;
    case 2:
        ledger_index(c);
        break;
    case 3:
        ledger_checkpoint(c, "main");
        break;
    case 4:
        if (dice(3) == 0) { /* it is much work */
            ledger_wide(c);
            ledger_checkpoint(c, "wide");
        }
        break;
    case 5:
        ledger_backup(c);
        break;
    case 6:
    case 7:
        ledger_side(c, dice(LEDGER_SIDES));
        break;
    default:
        ledger_write(c, dice(LEDGER_GROUPS), (ledger_kind)dice(LEDGER_KINDS));
    }
}

static void
check_all(const test_node *node, ledger_faults faults, bool settle)
{
    for (unsigned t = 0; t < LEDGER_TENANTS; t++) {
        ledger_check(&(ledger_client){.l = book, .node = node, .tenant = t, .faults = faults},
                     settle);
    }
}

/* Somebody else takes the room away, and gives it back, at any moment. */
static void
squeeze(const test_node *node)
{
    for (int step = 0; step < STEPS; step++) {
        const ledger_client c = {.l = book, .node = node, .tenant = dice(2), .faults = LEDGER_FULL};
        const uint32_t room = dice(4);
        leave_free(room == 0 ? UINT64_MAX : room == 1 ? (uint64_t)dice(1u << (13 + dice(9))) : 0);
        for (int i = 0; i < 3; i++) {
            do_something(&c);
        }
        if (step % 8 == 7) {
            check_all(node, LEDGER_FULL, false); /* reads go on, also the third tenant's */
        }
    }
}

/* --- a tenant that fills the disk ------------------------------------------------------------- */

/* The status; a 507 says why. */
static int
call(const test_node *node, const char *method, const char *target, const char *body, size_t len)
{
    test_answer a =
        test_request_n(node->port, book->table[0].keys[0].token, method, target, body, len);
    const int status = a.status;
    if (status == 507 && strstr(a.body, "Insufficient storage: ") == NULL) {
        fail_msg("%s: %s %s: %s", book->where, method, target, a.body);
    }
    test_answer_fini(&a);
    return status;
}

static void
expect(const test_node *node, int status, const char *method, const char *target, const char *body)
{
    assert_int_equal(call(node, method, target, body, body != NULL ? strlen(body) : 0), status);
}

#define BULK "/collections/bulk"

static void
fill_by_itself(const test_node *node)
{
    enum { BYTES = 1 << 20 };
    static char pad[BYTES + 1]; /* nothing that a codec makes small */
    ort_buf body = {0};
    int status = 200;
    unsigned taken = 0;
    leave_free(UINT64_MAX);
    expect(node, 200, "PUT", BULK, "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"}}");
    for (int i = 0; i < BYTES; i++) {
        pad[i] = (char)('0' + dice(64)); /* to 'o': with a backslash, which goes */
        pad[i] = pad[i] == '\\' ? '!' : pad[i];
    }
    while (status == 200 && taken < 200) {
        ort_buf_clear(&body);
        ort_buf_printf(&body, "{\"points\":[{\"id\":%u,\"vector\":[1,2],\"payload\":{\"pad\":\"",
                       taken);
        ort_buf_puts(&body, pad + dice(BYTES / 8));
        ort_buf_puts(&body, "\"}}]}");
        status = call(node, "PUT", BULK "/points?wait=true", body.data, body.len);
        taken += status == 200;
    }
    assert_int_equal(status, 507);
    assert_true(taken > 5);
    ort_buf_fini(&body);
    check_all(node, LEDGER_FULL, false);
    expect(node, 200, "POST", BULK "/points/query", "{\"query\":[1,2],\"limit\":3}");
    expect(node, 200, "POST", BULK "/points/delete?wait=true", "{\"points\":[1,2,3]}");
    expect(node, 200, "DELETE", BULK, NULL);
}

/* Room again: everything that is not in doubt works, soon, and nobody has to start it anew. */
static void
recover(const test_node *node)
{
    const ledger_client c = {.l = book, .node = node, .faults = LEDGER_FULL};
    const uint64_t until = ort_mono_ms() + PATIENCE_MS;
    leave_free(UINT64_MAX);
    uint64_t before;
    do {
        nap(50);
        before = book->refused + book->failed;
        for (unsigned g = 0; g < LEDGER_GROUPS; g++) {
            ledger_write(&c, g, LEDGER_UPSERT);
        }
        for (unsigned i = 0; i < 3; i++) {
            ledger_side(&c, 0);
        }
        ledger_checkpoint(&c, "main");
        ledger_restore(&c);
    } while (book->refused + book->failed != before && ort_mono_ms() < until);
    assert_true(book->refused + book->failed == before);
    check_all(node, LEDGER_FULL, false);
}

static void
live(bool first)
{
    test_node node = {.threads = 8, .checkpoint_bytes = 256u << 10};
    test_node_open(&node, place.path, book->table, LEDGER_TENANTS);
    for (unsigned t = 0; first && t < LEDGER_TENANTS; t++) {
        ledger_begin(&(ledger_client){.l = book, .node = &node, .tenant = t});
    }
    check_all(&node, LEDGER_NO_FAULTS, true);
    squeeze(&node);
    fill_by_itself(&node);
    recover(&node);
    squeeze(&node);
    (void)kill(getpid(), SIGKILL);
}

static void
a_full_disk_refuses_writes_and_recovers(void **state)
{
    const char *text = getenv("ORT_FAULT_ROUNDS");
    const int rounds = text != NULL ? atoi(text) : 3;
    const uint64_t began = ort_mono_ms();
    (void)state;
    for (int round = 0; round < rounds; round++) {
        snprintf(book->where, sizeof book->where, "seed %llu, round %d", (unsigned long long)seed,
                 round);
        leave_free(UINT64_MAX);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            seed += (uint64_t)round * 100000;
            live(round == 0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
            fail_msg("%s: the node ended with %x", book->where, status);
        }
    }
    print_message("%d nodes in %.1f s: %llu requests answered, %llu refused\n", rounds,
                  (double)(ort_mono_ms() - began) / 1000, (unsigned long long)book->answered,
                  (unsigned long long)book->refused);
    assert_true(book->refused > 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_refuses_writes_and_recovers),
    };
    place = scratch_make();
    if (!mount_small_disk()) {
        printf("skipped: no right to mount a file system (%s)\n", strerror(errno));
        scratch_drop(&place);
        return 0;
    }
    seed = ledger_seed();
    printf("seed %llu\n", (unsigned long long)seed);
    book = ledger_new(NULL);
    const int bad = cmocka_run_group_tests(tests, NULL, NULL);
    ledger_free(book);
    (void)umount(place.path);
    scratch_drop(&place);
    return bad;
}
