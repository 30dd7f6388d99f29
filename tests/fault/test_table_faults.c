/* A node's kept routing table when the disk and the memory fail.
 *
 * The linker puts our own write, pwrite, fsync, fdatasync, renameat, malloc, calloc and realloc in
 * front of the real ones (--wrap); they count, and the n-th fails, for n = 1, 2, ... until a whole
 * round of work goes well. A failing disk either fails once or, like a power cut, does nothing from
 * then on, the write that was under way half done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

#include "routing/keep.h"
#include "support/scratch.h"
#include "wire/messages.h"

/* ---- the faulty disk and memory ---- */

static long io_left = -1;    /* disk calls that still go well; < 0: all */
static long alloc_left = -1; /* allocations, likewise */
static bool power_cut;       /* after the first failure nothing goes well */
static int io_errno = EIO;
static bool failed; /* since arm() */

static void
arm(long io, long alloc, bool cut)
{
    io_left = io;
    alloc_left = alloc;
    power_cut = cut;
    io_errno = EIO;
    failed = false;
}

static void
disarm(void)
{
    arm(-1, -1, false);
}

static bool
io_fails(void)
{
    if (io_left < 0) {
        return false;
    }
    if (io_left > 0) {
        io_left--;
        return false;
    }
    if (!power_cut) {
        io_left = -1;
    }
    failed = true;
    errno = io_errno;
    return true;
}

static bool
alloc_fails(void)
{
    if (alloc_left < 0) {
        return false;
    }
    if (alloc_left-- > 0) {
        return false;
    }
    failed = true;
    errno = ENOMEM;
    return true;
}

ssize_t __real_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n);
ssize_t __real_pwrite(int fd, const void *bytes, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t n, off_t at);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to);
void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);

ssize_t
__wrap_write(int fd, const void *bytes, size_t n)
{
    const bool first = !failed;
    if (fd <= 2) {
        return __real_write(fd, bytes, n); /* the log */
    }
    if (io_fails()) {
        if (power_cut && first && n > 1) {
            (void)!__real_write(fd, bytes, n / 2);
        }
        errno = io_errno;
        return -1;
    }
    return __real_write(fd, bytes, n);
}

ssize_t
__wrap_pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    const bool first = !failed;
    if (io_fails()) {
        if (power_cut && first && n > 1) {
            (void)!__real_pwrite(fd, bytes, n / 2, at);
        }
        errno = io_errno;
        return -1;
    }
    return __real_pwrite(fd, bytes, n, at);
}

int
__wrap_fsync(int fd)
{
    return io_fails() ? -1 : __real_fsync(fd);
}

int
__wrap_fdatasync(int fd)
{
    return io_fails() ? -1 : __real_fdatasync(fd);
}

int
__wrap_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return io_fails() ? -1 : __real_renameat(from_fd, from, to_fd, to);
}

void *
__wrap_malloc(size_t n)
{
    return alloc_fails() ? NULL : __real_malloc(n);
}

void *
__wrap_calloc(size_t count, size_t n)
{
    return alloc_fails() ? NULL : __real_calloc(count, n);
}

void *
__wrap_realloc(void *p, size_t n)
{
    return alloc_fails() ? NULL : __real_realloc(p, n);
}

/* ---- a history of tables ---- */

#define VERSIONS 7u
#define WHOLE_AGAIN 5u /* sent as a whole table; the others are changes */

static ort_sign_key signer;
static dp_keep_owner owner;
static ort_table *tables[VERSIONS + 1];
static ort_table_head heads[VERSIONS + 1];
static ort_buf envelopes[VERSIONS + 1];

static int
make_history(void **state)
{
    (void)state;
    ort_sign_key_new(&signer);
    owner = (dp_keep_owner){.hub_id = 1, .node = {2}, .control_key = signer.public};
    assert_int_equal(ort_table_new(&tables[0], NULL, NULL, NULL), ORT_OK);
    for (unsigned v = 1; v <= VERSIONS; v++) {
        char change[256];
        ort_buf body = {0};
        const bool whole = v == 1 || v == WHOLE_AGAIN;
        snprintf(change, sizeof change,
                 "{\"tenants\":{\"%016x\":{\"name\":\"t\",\"state\":\"active\",\"epoch\":%u,"
                 "\"limits\":{},\"keys\":{}}}}",
                 1 + v % 3, v);
        assert_int_equal(
            ort_table_apply(&tables[v], tables[v - 1], change, strlen(change), NULL, NULL), ORT_OK);
        ort_table_head *h = &heads[v];
        *h = (ort_table_head){.hub_id = 1,
                              .node = {2},
                              .at = {.generation = 1, .version = v},
                              .base = whole ? 0 : v - 1};
        ort_table_hash(tables[v], &h->at.hash);
        if (!whole) {
            ort_table_hash(tables[v - 1], &h->base_hash);
        }
        assert_int_equal(whole ? ort_table_write(tables[v], &body)
                               : ort_table_diff(tables[v - 1], tables[v], &body),
                         ORT_OK);
        assert_int_equal(ort_envelope_seal(h, body.data, body.len, &signer, &envelopes[v], NULL),
                         ORT_OK);
        ort_buf_fini(&body);
    }
    return 0;
}

static int
free_history(void **state)
{
    (void)state;
    for (unsigned v = 0; v <= VERSIONS; v++) {
        ort_table_unref(tables[v]);
        ort_buf_fini(&envelopes[v]);
    }
    return 0;
}

static ort_err
put(dp_keep *keep, unsigned v)
{
    return dp_keep_put(keep, &heads[v], envelopes[v].data, envelopes[v].len, tables[v], NULL);
}

/* What a restart finds: version, or 0 when nothing may be served. The content must be that
 * version's, whatever happened. */
static uint64_t
restart(const scratch *dir)
{
    dp_keep *keep = NULL;
    const dp_table *t = NULL;
    uint64_t version = 0;
    assert_int_equal(dp_keep_open(&keep, dir->fd, NULL), ORT_OK);
    const ort_err err = dp_keep_load(keep, &owner, &t, NULL);
    if (err == ORT_OK) {
        const ort_table_at at = dp_table_at(t), mark = dp_keep_watermark(keep);
        version = at.version;
        assert_true(version >= 1 && version <= VERSIONS);
        assert_true(ort_hash_equal(&at.hash, &heads[version].at.hash));
        assert_true(mark.version == version); /* behind it was repaired, before it is refused */
        const dp_tenant_entry *e = dp_table_tenant(t, (ort_tenant_id){1 + version % 3});
        assert_non_null(e);
        assert_true(e->epoch == version);
        dp_table_release(t);
    } else {
        assert_int_equal(err, ORT_ENOTFOUND); /* never ECORRUPT or ESTALE by a crash alone */
    }
    dp_keep_close(keep);
    return version;
}

/* Every disk call in turn fails, once or for good: what was answered OK is there after a restart,
 * and nothing that is there is half of something. */
static void
disk_faults(bool cut)
{
    bool any = true;
    for (long n = 0; any; n++) {
        scratch dir = scratch_make();
        dp_keep *keep = NULL;
        uint64_t acked = 0;
        assert_true(n < 1000);
        arm(n, -1, cut);
        if (dp_keep_open(&keep, dir.fd, NULL) == ORT_OK) {
            for (unsigned v = 1; v <= VERSIONS; v++) {
                if (put(keep, v) == ORT_OK) {
                    acked = v;
                } else if (!cut && put(keep, v) == ORT_OK) { /* tried again, as the agent does */
                    acked = v;
                } else {
                    break;
                }
            }
        }
        any = failed;
        disarm();
        dp_keep_close(keep);
        const uint64_t found = restart(&dir);
        if (found < acked || found > acked + 1) {
            fail_msg("fault %ld: version %llu was kept, a restart finds %llu", n,
                     (unsigned long long)acked, (unsigned long long)found);
        }
        if (any && !cut && acked != 0) {
            assert_true(acked == VERSIONS);
        }
        scratch_drop(&dir);
    }
}

static void
a_disk_call_that_fails_once_loses_nothing(void **state)
{
    (void)state;
    disk_faults(false);
}

static void
a_power_cut_at_any_call_loses_nothing(void **state)
{
    (void)state;
    disk_faults(true);
}

/* A full disk refuses new files, and a revocation still comes into force: its place is there. */
static void
a_full_disk_does_not_keep_a_change_out(void **state)
{
    (void)state;
    scratch dir = scratch_make();
    dp_keep *keep = NULL;
    assert_int_equal(dp_keep_open(&keep, dir.fd, NULL), ORT_OK);
    assert_int_equal(put(keep, 1), ORT_OK);
    /* write() makes new files, pwrite() fills what is allocated: only the first meets the limit. */
    arm(0, -1, false);
    io_errno = ENOSPC;
    assert_int_equal(put(keep, WHOLE_AGAIN), ORT_ENOSPC);
    disarm();
    assert_int_equal(put(keep, 2), ORT_OK);
    dp_keep_close(keep);
    assert_true(restart(&dir) == 2);
    scratch_drop(&dir);
}

/* ---- memory ---- */

/* Applying a change without the n-th allocation: refused, the base as it was, nothing leaked (the
 * leak sanitizer looks at the end). */
static void
a_change_without_memory_leaves_the_table_as_it_was(void **state)
{
    (void)state;
    ort_buf body = {0};
    const dp_table *base = NULL;
    ort_hash before, after;
    assert_int_equal(ort_table_write(tables[VERSIONS], &body), ORT_OK);
    bool any = true;
    for (long n = 0; any; n++) {
        assert_true(n < 10000);
        arm(-1, n, false);
        const ort_err err = dp_table_from_body(&base, (ort_node_id){2}, heads[VERSIONS].at, 0,
                                               body.data, body.len, NULL);
        any = failed;
        disarm();
        assert_true(err == (any ? ORT_ENOMEM : ORT_OK));
        assert_true((base == NULL) == any);
    }
    dp_table_release(base);

    ort_table_hash(tables[1], &before);
    any = true;
    for (long n = 0; any; n++) {
        ort_table *out = NULL;
        ort_buf change = {0};
        assert_true(n < 10000);
        assert_int_equal(ort_table_diff(tables[1], tables[VERSIONS], &change), ORT_OK);
        arm(-1, n, false);
        const ort_err err = ort_table_apply(&out, tables[1], change.data, change.len, NULL, NULL);
        any = failed;
        disarm();
        assert_true(err == (any ? ORT_ENOMEM : ORT_OK));
        ort_table_hash(tables[1], &after);
        assert_true(ort_hash_equal(&before, &after));
        ort_table_unref(out);
        ort_buf_fini(&change);
    }
    ort_buf_fini(&body);
}

static void
messages_without_memory_are_refused_and_leak_nothing(void **state)
{
    (void)state;
    ort_usage usage[2] = {{.tenant = {1}}, {.tenant = {2}}};
    ort_tenant_id gone[1] = {{3}};
    const ort_heartbeat beat = {.usage = usage, .usage_count = 2, .gone = gone, .gone_count = 1};
    const ort_hello_reply reply = {
        .hub_id = 1, .node = {2}, .ca_pem = (char[]){"ca"}, .cert_pem = (char[]){"cert"}};
    ort_buf beat_body = {0}, reply_body = {0};
    assert_int_equal(ort_heartbeat_encode(&beat, &beat_body), ORT_OK);
    assert_int_equal(ort_hello_reply_encode(&reply, &reply_body), ORT_OK);
    bool any = true;
    for (long n = 0; any; n++) {
        ort_heartbeat b;
        ort_hello_reply r;
        assert_true(n < 1000);
        arm(-1, n, false);
        const ort_err one = ort_heartbeat_decode(beat_body.data, beat_body.len, &b, NULL);
        any = failed;
        assert_true(one == (any ? ORT_ENOMEM : ORT_OK));
        arm(-1, n, false);
        const ort_err two = ort_hello_reply_decode(reply_body.data, reply_body.len, &r, NULL);
        any = any || failed;
        assert_true(two == (failed ? ORT_ENOMEM : ORT_OK));
        disarm();
        ort_heartbeat_fini(&b);
        ort_hello_reply_fini(&r);
    }
    ort_buf_fini(&beat_body);
    ort_buf_fini(&reply_body);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_call_that_fails_once_loses_nothing),
        cmocka_unit_test(a_power_cut_at_any_call_loses_nothing),
        cmocka_unit_test(a_full_disk_does_not_keep_a_change_out),
        cmocka_unit_test(a_change_without_memory_leaves_the_table_as_it_was),
        cmocka_unit_test(messages_without_memory_are_refused_and_leak_nothing),
    };
    return cmocka_run_group_tests(tests, make_history, free_history);
}
