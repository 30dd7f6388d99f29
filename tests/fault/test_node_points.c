/* A node is killed at every named point there is (base/point.h): the names in the sources are
 * compared with those it was killed at, so that none is forgotten. What a node does not come to in
 * a test's time (packing its log, numbering slots anew) a single shard is killed at.
 *
 *   ORT_FAULT_ROUNDS  kills a point (1), at one of the times it is passed
 *   ORT_FAULT_SEED    other choices (1); `new`: each time */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/point.h"
#include "storage/points.h"
#include "support/ledger.h"
#include "support/scratch.h"
#include "support/shard_model.h"

enum {
    POINTS_MAX = 128,
    NAME_BYTES = 48,
    SECTIONS_MAX = 8,
    PASSES_MAX = 40,
    TRIES = 3,
    SHARD_OPS = 300
};

/* Seen by all processes. */
typedef struct {
    char name[NAME_BYTES];
    uint32_t passed[SECTIONS_MAX]; /* how often, in that part of a node's life */
    uint32_t passed_by_shard;
    uint32_t killed;
} point;

typedef struct {
    point points[POINTS_MAX];
    size_t count;
    /* The process that is to be killed. */
    char target[NAME_BYTES]; /* "": none, points are counted */
    unsigned section;        /* SECTIONS_MAX: a shard */
    _Atomic(int) left;
    /* Of the shard. */
    _Atomic(uint64_t) acked, tried;
    _Atomic(uint64_t) note, note_next; /* what stands in a file that is replaced whole */
} plan;

static plan *all;
static ledger *book;
static uint64_t seed;
static const char *place_path;

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

static point *
find_point(const char *name, size_t len)
{
    for (size_t i = 0; i < all->count; i++) {
        if (strlen(all->points[i].name) == len && memcmp(all->points[i].name, name, len) == 0) {
            return &all->points[i];
        }
    }
    return NULL;
}

/* --- the names in the sources ----------------------------------------------------------------- */

static int
read_source(const char *path, const struct stat *st, int type, struct FTW *at)
{
    static const char call[] = "ort_point(\"";
    const size_t len = strlen(path);
    (void)at;
    if (type != FTW_F || len < 2 || strcmp(path + len - 2, ".c") != 0) {
        return 0;
    }
    char *text = calloc(1, (size_t)st->st_size + 1);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fread(text, 1, (size_t)st->st_size, f), st->st_size);
    fclose(f);
    for (const char *p = strstr(text, call); p != NULL; p = strstr(p, call)) {
        p += strlen(call);
        const size_t n = strcspn(p, "\"");
        assert_true(n < NAME_BYTES && all->count < POINTS_MAX);
        if (find_point(p, n) == NULL) {
            memcpy(all->points[all->count++].name, p, n);
        }
    }
    free(text);
    return 0;
}

static void
list_points(void)
{
    assert_int_equal(nftw("data-plane", read_source, 16, FTW_PHYS), 0);
    assert_int_equal(nftw("shared", read_source, 16, FTW_PHYS), 0);
    assert_true(all->count > 40);
}

/* --- at a point ------------------------------------------------------------------------------- */

static void
on_point(const char *name)
{
    if (all->target[0] != '\0') {
        if (strcmp(name, all->target) == 0 && atomic_fetch_sub(&all->left, 1) == 1) {
            (void)kill(getpid(), SIGKILL);
        }
        return;
    }
    point *p = find_point(name, strlen(name));
    if (p == NULL) {
        fprintf(stderr, "no source has the point %s\n", name); /* a name made at run time? */
        abort();
    }
    /* Counted a little too low where threads meet: no harm. */
    if (all->section < SECTIONS_MAX) {
        p->passed[all->section]++;
    } else {
        p->passed_by_shard++;
    }
}

/* --- a node's life ---------------------------------------------------------------------------- */

static void
change_points(const ledger_client *c)
{
    for (unsigned i = 0; i < 2 * LEDGER_GROUPS; i++) {
        ledger_write(c, i % LEDGER_GROUPS, (ledger_kind)dice(LEDGER_KINDS));
    }
    ledger_checkpoint(c, "main"); /* with a graph */
    ledger_write(c, 0, LEDGER_UPSERT);
    ledger_checkpoint(c, "main");
}

static void
come_and_go(const ledger_client *c)
{
    for (unsigned i = 0; i < 4 * LEDGER_SIDES; i++) {
        ledger_side(c, i % LEDGER_SIDES);
    }
    ledger_index(c);
    ledger_index(c);
}

static void
take_and_restore(const ledger_client *c)
{
    ledger_snapshot(c, 0);
    ledger_snapshot(c, 1);
    ledger_restore(c);
    ledger_snapshot(c, dice(LEDGER_SNAPSHOTS));
}

/* Payload indexes that are worth a file, chunks that are worth compaction. */
static void
fill_and_thin(const ledger_client *c)
{
    ledger_wide(c);
    ledger_checkpoint(c, "wide");
    ledger_check(c, false); /* asks by the index */
    ledger_wide(c);
    ledger_checkpoint(c, "wide");
}

static void
back_up(const ledger_client *c)
{
    if (c->l->tenants[c->tenant].wide.sure != LEDGER_WIDE_FULL) {
        ledger_wide(c); /* more than a restore keeps in memory */
    }
    ledger_backup(c);
}

/* A restore leaves the tenant's own directory to whoever is closed next, and one may be open. */
static void
move_in(const ledger_client *c)
{
    const struct timespec nap = {.tv_nsec = 10000000};
    ledger_backup(c);
    for (unsigned i = 0; i < 12; i++) {
        ledger_write(c, i % LEDGER_GROUPS, LEDGER_UPSERT);
        ledger_side(c, i % LEDGER_SIDES);
        (void)nanosleep(&nap, NULL);
    }
}

static void
delete_a_tenant(const ledger_client *c)
{
    const ledger_client last = {.l = c->l, .node = c->node, .tenant = LEDGER_TENANTS - 1};
    if (c->l->tenants[last.tenant].exists.sure == 0) { /* also when half of it is there */
        ledger_begin(&last);
    }
    ledger_write(&last, 1, LEDGER_UPSERT);
    ledger_side(&last, 0);
    ledger_delete_tenant(&last);
}

static void (*const sections[])(const ledger_client *c) = {
    change_points, come_and_go, take_and_restore, fill_and_thin, back_up, move_in, delete_a_tenant,
};
enum { SECTIONS = sizeof sections / sizeof sections[0] };

static void
live(bool first)
{
    const bool crowded = sections[all->section] == move_in;
    test_node node = {.threads = 8, .checkpoint_bytes = 1u << 20, .open_max = crowded ? 1 : 0};
    const ledger_client c = {.l = book, .node = &node};
    test_node_open(&node, place_path, book->table, LEDGER_TENANTS);
    for (unsigned t = 0; t < LEDGER_TENANTS; t++) {
        const ledger_client each = {.l = book, .node = &node, .tenant = t};
        if (first) {
            ledger_begin(&each);
        }
        ledger_check(&each, true);
    }
    if (!first) {
        sections[all->section](&c);
        test_node_restart(&node); /* it closes, and the trash is swept */
    }
    test_node_close(&node);
    _exit(0);
}

/* --- a shard's life --------------------------------------------------------------------------- */

static int shard_dir;

static void
op_of(uint64_t lsn, uint16_t *op, uint32_t *first, uint32_t *count, uint32_t *op_seed)
{
    *op = mix(lsn * 4) % 5 == 0 ? MODEL_OP_KILL : MODEL_OP_PUT;
    *first = mix(lsn * 4 + 1) % MODEL_IDS;
    *count = 1 + mix(lsn * 4 + 2) % 40;
    *op_seed = mix(lsn * 4 + 3) % 1000000 | 1;
}

static void
open_and_check_shard(shard_model *m)
{
    ort_diag diag = {{0}};
    memset(m, 0, sizeof *m);
    if (shard_model_open(m, shard_dir, &diag) != ORT_OK) {
        fail_msg("%s: open: %s", book->where, diag.text);
    }
    assert_true(m->applied >= all->acked && m->applied <= all->tried);
    all->acked = all->tried = m->applied;
    for (uint64_t lsn = 1; lsn <= m->applied; lsn++) {
        uint16_t op;
        uint32_t first, count, op_seed;
        op_of(lsn, &op, &first, &count, &op_seed);
        model_apply(m->points_want, lsn, op, first, count, op_seed);
    }
    shard_model_check(m);
}

/* Such a file as the routing table's is: the old one or the new one. */
static void
replace_the_note(void)
{
    ort_diag diag = {{0}};
    ort_buf text = {0};
    char note[32];
    if (all->note_next != 0) {
        assert_int_equal(ort_file_read(shard_dir, "note", sizeof note, &text, &diag), ORT_OK);
        const uint64_t there = strtoull(ort_buf_peek_cstr(&text), NULL, 10);
        assert_true(text.len == 20 && (there == all->note || there == all->note_next));
        all->note = there;
    }
    const int n = snprintf(note, sizeof note, "%020llu", (unsigned long long)all->note + 1);
    all->note_next = all->note + 1;
    assert_int_equal(ort_file_replace(shard_dir, "note", note, (size_t)n, 0600, &diag), ORT_OK);
    all->note = all->note_next;
    ort_buf_fini(&text);
}

static void
live_as_shard(void)
{
    shard_model *m = calloc(1, sizeof *m);
    ort_diag diag = {{0}};
    bool packed;
    open_and_check_shard(m);
    replace_the_note();
    for (int i = 0; i < SHARD_OPS; i++) {
        uint16_t op;
        uint32_t first, count, op_seed;
        const uint64_t lsn = m->applied + 1;
        op_of(lsn, &op, &first, &count, &op_seed);
        all->tried = lsn;
        assert_int_equal(shard_model_op(m, op, first, count, op_seed, &diag), ORT_OK);
        all->acked = lsn;
        if (i == 20) {
            assert_int_equal(shard_model_checkpoint(m, true, &diag), ORT_OK);
            assert_int_equal(dp_points_renumber(m->points, &diag), ORT_OK);
        } else if (i == 40) {
            assert_int_equal(shard_model_checkpoint(m, false, &diag), ORT_OK);
        } else if (i == SHARD_OPS - 1) { /* of files that no checkpoint has cut */
            assert_int_equal(dp_log_pack(m->log, 0, 1, &packed, &diag), ORT_OK);
        }
    }
    _exit(0); /* without a close */
}

/* --- killing ---------------------------------------------------------------------------------- */

/* Runs one life; true: it was killed at the point. */
static bool
run_life(const char *target, unsigned section, int pass, bool first)
{
    snprintf(all->target, sizeof all->target, "%s", target);
    snprintf(book->where, sizeof book->where, "seed %llu, after '%s' in part %u",
             (unsigned long long)seed, target, section);
    all->section = section;
    all->left = pass;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        ort_point_set(on_point);
        if (section < SECTIONS_MAX) {
            live(first);
        } else {
            live_as_shard();
        }
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!killed && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
        fail_msg("%s: the process ended with %x", book->where, status);
    }
    return killed;
}

/* The parts of a node's life that come to the point, and the shard's. */
static unsigned
list_sections(const point *p, unsigned fit[SECTIONS_MAX + 1])
{
    unsigned count = 0;
    for (unsigned s = 0; s < SECTIONS; s++) {
        if (p->passed[s] > 0) {
            fit[count++] = s;
        }
    }
    if (p->passed_by_shard > 0 || count == 0) {
        fit[count++] = SECTIONS_MAX;
    }
    return count;
}

/* What is done depends on what was done before, and on threads: the n-th time may not come, nor the
 * first. */
static void
kill_at(point *p)
{
    unsigned fit[SECTIONS_MAX + 1];
    const unsigned count = list_sections(p, fit);
    if (count == 0) {
        abort(); /* there is always the shard */
    }
    const unsigned begin = dice(count > 1 ? count - 1 : 1); /* the node before the shard */
    for (unsigned i = 0; i < TRIES * count; i++) {
        const unsigned section = fit[(begin + i) % count];
        const uint32_t passed = section < SECTIONS_MAX ? p->passed[section] : 1;
        const uint32_t most = passed < PASSES_MAX ? passed : PASSES_MAX;
        if (run_life(p->name, section, most > 1 && i == 0 ? 1 + (int)dice(most) : 1, false)) {
            p->killed++;
            return;
        }
    }
    fail_msg("%s: never came to '%s'", book->where, p->name);
}

static void
a_kill_at_any_named_point_loses_nothing(void **state)
{
    const char *rounds = getenv("ORT_FAULT_ROUNDS");
    const uint64_t began = ort_mono_ms();
    (void)state;
    list_points();
    assert_false(run_life("", 0, 0, true));
    for (size_t i = 0; i < all->count; i++) { /* what it has only once does not count */
        memset(all->points[i].passed, 0, sizeof all->points[i].passed);
    }
    for (unsigned s = 0; s < SECTIONS; s++) { /* counting */
        assert_false(run_life("", s, 0, false));
    }
    assert_false(run_life("", SECTIONS_MAX, 0, false));
    assert_false(run_life("", SECTIONS_MAX, 0, false)); /* one that has something to open */
    for (int round = 0; round < (rounds != NULL ? atoi(rounds) : 1); round++) {
        for (size_t i = 0; i < all->count; i++) {
            kill_at(&all->points[i]);
        }
    }
    for (unsigned s = 0; s < SECTIONS; s++) { /* and what the last one left */
        assert_false(run_life("", s, 0, false));
    }
    assert_false(run_life("", SECTIONS_MAX, 0, false));
    print_message("killed at %zu named points in %.1f s:", all->count,
                  (double)(ort_mono_ms() - began) / 1000);
    for (size_t i = 0; i < all->count; i++) {
        print_message(" %s", all->points[i].name);
        assert_true(all->points[i].killed > 0);
    }
    print_message("\n");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_at_any_named_point_loses_nothing),
    };
    scratch place = scratch_make();
    place_path = place.path;
    seed = ledger_seed();
    printf("seed %llu\n", (unsigned long long)seed);
    book = ledger_new(NULL);
    all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED || mkdirat(place.fd, "shard", 0700) != 0) {
        return 1;
    }
    shard_dir = openat(place.fd, "shard", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int bad = cmocka_run_group_tests(tests, NULL, NULL);
    close(shard_dir);
    ledger_free(book);
    munmap(all, sizeof *all);
    scratch_drop(&place);
    return bad;
}
