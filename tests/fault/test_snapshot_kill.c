/* A node's tenants are killed at every named point of snapshots, backups and restores: a restore
 * has happened or has not, a snapshot is there whole or not at all, nothing is left lying about.
 * ORT_FAULT_ROUNDS says how often (48). Before that, the n-th call that changes the disk fails, for
 * n = 1, 2, ... until none does: what was asked for has not happened, and everything is as before.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/point.h"
#include "storage/io.h"
#include "support/scratch.h"
#include "tenant/snapshots.h"

#define ACME ((ort_tenant_id){0x1111111111111111})
#define POINTS 40

/* Seen by both processes. A number n is one state of the collection: all points carry it. */
typedef struct {
    int now, next; /* the state that was there, and the one a restore under way would bring */
    char point[64];
    char seen[64][64];
    int seen_count;
} shared;

static shared *both;
static int points_left;

#define MUST(cond)                                                                                \
    do {                                                                                          \
        if (!(cond)) {                                                                            \
            fprintf(stderr, "%s:%d: %s after '%s': %s\n", __func__, __LINE__, #cond, both->point, \
                    diag.text);                                                                   \
            abort();                                                                              \
        }                                                                                         \
    } while (0)

static void
stop_at_point(const char *point)
{
    if (strncmp(point, "snapshot.", 9) != 0 && strncmp(point, "restore.", 8) != 0 &&
        strncmp(point, "backup.", 7) != 0) {
        return;
    }
    if (--points_left == 0) {
        snprintf(both->point, sizeof both->point, "%s", point);
        _exit(9);
    }
}

static dp_tenants *
open_all(int dir)
{
    ort_diag diag = {""};
    dp_tenants *all;
    const dp_tenants_config config = {.idle_close_ms = 0};
    MUST(dp_tenants_open(&all, dir, &config, &diag) == ORT_OK);
    return all;
}

static ort_json_doc *
parse(const char *text)
{
    ort_diag diag = {""};
    ort_json_doc *doc;
    MUST(ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, &diag) == ORT_OK);
    return doc;
}

static void
create(dp_tenant *t, const char *name)
{
    ort_diag diag = {""};
    ort_json_doc *doc = parse("{\"vectors\":{\"size\":2,\"distance\":\"Dot\"}}");
    dp_schema *schema;
    MUST(dp_schema_parse(&schema, ort_json_root(doc), &diag) == ORT_OK);
    MUST(dp_tenant_create_collection(t, name, strlen(name), schema, &diag) == ORT_OK);
    dp_schema_unref(schema);
    ort_json_free(doc);
}

/* Brings every point of the collection into state n, in one operation. */
static void
write_state(dp_tenant *t, const char *name, int n)
{
    ort_diag diag = {""};
    ort_buf text = {0};
    dp_collection *c;
    dp_op *op;
    dp_op_result result;
    ort_buf_puts(&text, "{\"points\":[");
    for (int i = 0; i < POINTS; i++) {
        ort_buf_printf(&text, "%s{\"id\":%d,\"vector\":[%d,1],\"payload\":{\"n\":%d}}",
                       i > 0 ? "," : "", i, n, n);
    }
    ort_buf_puts(&text, "]}");
    ort_json_doc *doc = parse(ort_buf_peek_cstr(&text));
    MUST(dp_tenant_use(t, name, strlen(name), &c, &diag) == ORT_OK);
    dp_schema *schema = dp_collection_schema(c);
    MUST(dp_op_parse(&op, DP_OP_UPSERT, schema, ort_json_root(doc), &diag) == ORT_OK);
    MUST(dp_collection_apply(c, op, 0, &result, &diag) == ORT_OK);
    dp_op_free(op);
    dp_schema_unref(schema);
    dp_tenant_release(t, c);
    ort_json_free(doc);
    ort_buf_fini(&text);
}

typedef struct {
    int n, count;
    bool mixed;
} state;

static ort_err
look(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    state *s = ctx;
    const char *text = view->payload;
    const int n = text != NULL ? atoi(strstr(text, "\"n\":") + 4) : -1;
    (void)query;
    (void)schema;
    s->mixed = s->mixed || (s->count > 0 && s->n != n);
    s->n = n;
    s->count++;
    return ORT_OK;
}

/* The one state that all points are in. */
static int
read_state(dp_tenant *t, const char *name)
{
    ort_diag diag = {""};
    dp_collection *c;
    state s = {.n = -1};
    bool more;
    ort_point_id next;
    MUST(dp_tenant_use(t, name, strlen(name), &c, &diag) == ORT_OK);
    MUST(dp_collection_scroll(c, NULL, NULL, 1000, true, look, &s, &more, &next, &diag) == ORT_OK);
    dp_tenant_release(t, c);
    MUST(!s.mixed && s.count == POINTS);
    return s.n;
}

static bool
count_one(void *ctx, const dp_snapshot_info *info)
{
    dp_snapshot_info *last = ctx;
    *last = *info;
    return true;
}

/* Snapshot, change, restore; backup, change, restore; delete: again and again, until killed. */
static void
work(int dir)
{
    ort_diag diag = {""};
    dp_tenant *t;
    dp_tenants *all = open_all(dir);
    MUST(dp_tenants_get(all, ACME, &t, &diag) == ORT_OK);
    const dp_snapshot_pin pin = {.region_count = 0};
    for (;;) {
        dp_snapshot_info info;
        dp_snapshot_totals totals;
        dp_tenant_file *file;
        int fd;
        const int old = both->now;
        MUST(dp_tenant_snapshot_create(t, "docs", 4, &pin, &info, &diag) == ORT_OK);
        both->next = old + 1;
        write_state(t, "docs", old + 1);
        both->now = old + 1;
        both->next = old;
        MUST(dp_tenant_snapshot_open(t, "docs", 4, info.name, &fd, &info, &diag) == ORT_OK);
        MUST(dp_tenant_restore_collection(t, "docs", 4, fd, "", &totals, &diag) == ORT_OK);
        dp_tenant_snapshot_close(t, fd);
        both->now = old;
        MUST(read_state(t, "docs") == old);
        MUST(dp_tenant_backup(t, &pin, &file, &totals, &diag) == ORT_OK);
        both->next = old + 2;
        write_state(t, "docs", old + 2);
        both->now = old + 2;
        both->next = old;
        MUST(dp_tenant_restore(t, dp_tenant_file_peek_fd(file), "", true, &totals, &diag) ==
             ORT_OK);
        both->now = old;
        dp_tenant_file_free(file);
        MUST(dp_tenant_snapshot_delete(t, "docs", 4, info.name, &diag) == ORT_OK);
        both->next = old + 3;
        write_state(t, "docs", old + 3);
        both->now = old + 3;
    }
}

/* Entries of a folder of the tenant. */
static int
entries(int dir, const char *folder)
{
    char path[120], id[ORT_ID_TEXT_BYTES];
    int count = 0;
    ort_id_format(ACME.v, id);
    snprintf(path, sizeof path, "tenants/%s/%s", id, folder);
    const int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        count += e->d_name[0] != '.';
    }
    if (d != NULL) {
        closedir(d);
    }
    return count;
}

/* Whether a collection's files stand in the tenant's own directory. */
static int
is_one_at_home(int dir)
{
    char path[120], id[ORT_ID_TEXT_BYTES];
    ort_id_format(ACME.v, id);
    snprintf(path, sizeof path, "tenants/%s/manifest", id);
    return faccessat(dir, path, F_OK, 0) == 0;
}

static void
check(int dir)
{
    ort_diag diag = {""};
    dp_tenant *t;
    dp_snapshot_info last = {.bytes = 0};
    dp_snapshot_totals totals;
    dp_tenants *all = open_all(dir);
    MUST(dp_tenants_get(all, ACME, &t, &diag) == ORT_OK);
    const int n = read_state(t, "docs");
    MUST(n == both->now || n == both->next);
    both->now = n;
    MUST(read_state(t, "still") == 1);
    MUST(entries(dir, "collections") + is_one_at_home(dir) == 2);
    MUST(dp_tenant_snapshot_list(t, "docs", 4, count_one, &last, &diag) == ORT_OK);
    const int named = entries(dir, "snapshots");
    MUST((last.bytes > 0) == (named > 0));
    /* What is listed can be restored; then it goes, so that the next round begins with none. */
    while (last.bytes > 0) {
        int fd;
        MUST(dp_tenant_snapshot_open(t, "docs", 4, last.name, &fd, &last, &diag) == ORT_OK);
        MUST(dp_tenant_restore_collection(t, "copy", 4, fd, "", &totals, &diag) == ORT_OK);
        dp_tenant_snapshot_close(t, fd);
        MUST(read_state(t, "copy") >= 0);
        bool existed;
        MUST(dp_tenant_drop_collection(t, "copy", 4, &existed, &diag) == ORT_OK && existed);
        MUST(dp_tenant_snapshot_delete(t, "docs", 4, last.name, &diag) == ORT_OK);
        last.bytes = 0;
        MUST(dp_tenant_snapshot_list(t, "docs", 4, count_one, &last, &diag) == ORT_OK);
    }
    MUST(entries(dir, "snapshots") == 0);
    dp_tenant_usage usage;
    dp_tenant_get_usage(t, &usage);
    MUST(usage.points == 2 * POINTS && usage.collections == 2);
    dp_tenant_unref(t);
    dp_tenants_close(all);
}

/* --- the n-th call fails ---------------------------------------------------------------------- */

static atomic_int calls_left; /* the call that makes it 0 fails; negative: none does */
static int fail_with;

static bool
fails_now(void)
{
    if (atomic_load(&calls_left) < 0 || atomic_fetch_sub(&calls_left, 1) != 1) {
        return false;
    }
    errno = fail_with;
    return true;
}

static ssize_t
bad_pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    return fails_now() ? -1 : dp_io_real.pwrite(fd, bytes, n, at);
}
static int
bad_fdatasync(int fd)
{
    return fails_now() ? -1 : dp_io_real.fdatasync(fd);
}
static int
bad_fsync(int fd)
{
    return fails_now() ? -1 : dp_io_real.fsync(fd);
}
static int
bad_ftruncate(int fd, off_t len)
{
    return fails_now() ? -1 : dp_io_real.ftruncate(fd, len);
}
static int
bad_create(int dir_fd, const char *name, int flags)
{
    return fails_now() ? -1 : dp_io_real.create(dir_fd, name, flags);
}
static int
bad_rename(int dir_fd, const char *from, const char *to)
{
    return fails_now() ? -1 : dp_io_real.rename(dir_fd, from, to);
}
/* What changes the disk for good; removals may go on, as nothing is promised of them. */
static dp_io
failing_io(void)
{
    dp_io io = dp_io_real;
    io.pwrite = bad_pwrite;
    io.fdatasync = bad_fdatasync;
    io.fsync = bad_fsync;
    io.ftruncate = bad_ftruncate;
    io.create = bad_create;
    io.rename = bad_rename;
    return io;
}

typedef enum { SNAPSHOT, RESTORE, BACKUP, STEPS } step;

static ort_err
try_step(dp_tenant *t, step what, int fd, ort_diag *diag)
{
    const dp_snapshot_pin pin = {.region_count = 0};
    dp_snapshot_info info;
    dp_snapshot_totals totals;
    dp_tenant_file *file = NULL;
    ort_err err = ORT_OK;
    switch (what) {
    case SNAPSHOT:
        return dp_tenant_snapshot_create(t, "docs", 4, &pin, &info, diag);
    case RESTORE:
        return dp_tenant_restore_collection(t, "docs", 4, fd, "", &totals, diag);
    default:
        err = dp_tenant_backup(t, &pin, &file, &totals, diag);
        dp_tenant_file_free(file);
        return err;
    }
}

/* The collection is in state 1 and a file of state 1 is at hand; a failed restore leaves state 2.
 */
static int
fail_each_call(int dir)
{
    ort_diag diag = {""};
    dp_tenant *t;
    dp_snapshot_info info;
    int fd, failed = 0;
    const dp_io io = failing_io();
    dp_tenants *all = open_all(dir);
    MUST(dp_tenants_get(all, ACME, &t, &diag) == ORT_OK);
    const dp_snapshot_pin pin = {.region_count = 0};
    MUST(dp_tenant_snapshot_create(t, "docs", 4, &pin, &info, &diag) == ORT_OK);
    MUST(dp_tenant_snapshot_open(t, "docs", 4, info.name, &fd, &info, &diag) == ORT_OK);
    dp_io_set(&io);
    for (int round = 0; round < 2 * STEPS; round++) {
        const step what = (step)(round % STEPS);
        fail_with = round < STEPS ? ENOSPC : EIO;
        write_state(t, "docs", 2);
        for (int n = 1;; n++) {
            const int files = entries(dir, "snapshots");
            atomic_store(&calls_left, n);
            const ort_err err = try_step(t, what, fd, &diag);
            const bool met = atomic_exchange(&calls_left, -1) <= 0;
            if (!met) {
                MUST(err == ORT_OK);
                break;
            }
            /* A call that fails behind the switch is of what was replaced: no harm. */
            const bool done = err == ORT_OK && what == RESTORE;
            MUST(done || err == ORT_EIO || err == ORT_ENOSPC);
            MUST(read_state(t, "docs") == (done ? 1 : 2) && read_state(t, "still") == 1);
            MUST(entries(dir, "snapshots") == files);
            if (done) {
                write_state(t, "docs", 2);
            }
            failed++;
        }
        MUST(read_state(t, "docs") == (what == RESTORE ? 1 : 2));
    }
    dp_io_set(NULL);
    dp_tenant_snapshot_close(t, fd);
    write_state(t, "docs", 1);
    dp_tenant_unref(t);
    dp_tenants_close(all);
    return failed;
}

static void
remember_point(void)
{
    for (int i = 0; i < both->seen_count; i++) {
        if (strcmp(both->seen[i], both->point) == 0) {
            return;
        }
    }
    if (both->seen_count < 64) {
        snprintf(both->seen[both->seen_count++], 64, "%s", both->point);
    }
}

int
main(void)
{
    const char *env = getenv("ORT_FAULT_ROUNDS");
    const int rounds = env != NULL ? atoi(env) : 48;
    ort_diag diag = {""};
    scratch place = scratch_make();
    both = mmap(NULL, sizeof *both, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(both != MAP_FAILED);
    ort_log_set_level(ORT_LOG_WARN_);
    dp_tenant *t;
    dp_tenants *all = open_all(place.fd);
    MUST(dp_tenants_get(all, ACME, &t, &diag) == ORT_OK);
    create(t, "docs");
    create(t, "still");
    write_state(t, "docs", 1);
    write_state(t, "still", 1);
    dp_tenant_unref(t);
    dp_tenants_close(all);
    both->now = both->next = 1;
    const int failed = fail_each_call(place.fd);
    check(place.fd);
    for (int round = 0; round < rounds; round++) {
        both->point[0] = '\0';
        const pid_t child = fork();
        MUST(child >= 0);
        if (child == 0) {
            points_left = 1 + round % 40; /* a round of work passes some thirty */
            ort_point_set(stop_at_point);
            work(place.fd);
        }
        int status;
        MUST(waitpid(child, &status, 0) == child);
        MUST(WIFEXITED(status) && WEXITSTATUS(status) == 9);
        remember_point();
        check(place.fd);
    }
    printf("%d calls failed in turn; %d rounds, killed at %d named points:", failed, rounds,
           both->seen_count);
    for (int i = 0; i < both->seen_count; i++) {
        printf(" %s", both->seen[i]);
    }
    printf("\n");
    scratch_drop(&place);
    return 0;
}
