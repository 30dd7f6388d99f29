/* verify, repair and dump: what is damaged is found and named, what is good is kept, and a node
 * that runs meanwhile serves it again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "inspect/inspect.h"
#include "support/scratch.h"
#include "tenant/tenant.h"

#define ACME ((ort_tenant_id){0x1111111111111111})
#define GLOBEX ((ort_tenant_id){0x2222222222222222})
#define POINTS 60u /* of each tenant's collection; the last ten only in the log */

typedef struct {
    char top[64];  /* of the test */
    char path[96]; /* of the node in it */
    dp_tenants *all;
    char *said;
} fixture;

/* --- a node's directory ----------------------------------------------------------------------- */

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void
run(const char *format, ...)
{
    char command[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static void
start(fixture *f)
{
    ort_diag diag = {""};
    const dp_tenants_config config = {.idle_close_ms = 0};
    const int dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir >= 0);
    if (dp_tenants_open(&f->all, dir, &config, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    close(dir);
}

static void
stop(fixture *f)
{
    dp_tenants_close(f->all);
    f->all = NULL;
}

static ort_json_doc *
json(const char *text)
{
    ort_json_doc *doc;
    assert_int_equal(ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, NULL), ORT_OK);
    return doc;
}

static void
apply(dp_collection *c, dp_op_kind kind, const char *text)
{
    dp_op *op;
    dp_op_result result;
    ort_diag diag = {""};
    ort_json_doc *doc = json(text);
    dp_schema *schema = dp_collection_schema(c);
    assert_int_equal(dp_op_parse(&op, kind, schema, ort_json_root(doc), &diag), ORT_OK);
    if (dp_collection_apply(c, op, 0, &result, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    dp_op_free(op);
    dp_schema_unref(schema);
    ort_json_free(doc);
}

static void
put(dp_collection *c, unsigned id)
{
    char text[160];
    snprintf(text, sizeof text,
             "{\"points\":[{\"id\":%u,\"vector\":[%u,1,2,3],\"payload\":{\"n\":\"%u and more\"}}]}",
             id, id, id);
    apply(c, DP_OP_UPSERT, text);
}

static void
fill(fixture *f, ort_tenant_id id)
{
    dp_tenant *t;
    dp_collection *c;
    dp_schema *schema;
    ort_diag diag = {""};
    ort_json_doc *doc = json("{\"vectors\":{\"size\":4,\"distance\":\"Dot\"}}");
    assert_int_equal(dp_tenants_get(f->all, id, &t, &diag), ORT_OK);
    assert_int_equal(dp_schema_parse(&schema, ort_json_root(doc), NULL), ORT_OK);
    assert_int_equal(dp_tenant_create_collection(t, "c", 1, schema, &diag), ORT_OK);
    assert_int_equal(dp_tenant_use(t, "c", 1, &c, &diag), ORT_OK);
    for (unsigned i = 0; i < POINTS; i++) {
        if (i == POINTS - 10) {
            assert_int_equal(dp_collection_checkpoint(c, &diag), ORT_OK);
        }
        put(c, i);
    }
    dp_tenant_release(t, c);
    dp_tenant_unref(t);
    dp_schema_unref(schema);
    ort_json_free(doc);
}

static void
setup(fixture *f)
{
    *f = (fixture){.all = NULL};
    scratch_dir(f->top, sizeof f->top, "orthant-inspect");
    snprintf(f->path, sizeof f->path, "%s/node", f->top);
    assert_int_equal(mkdir(f->path, 0700), 0);
    start(f);
    fill(f, ACME);
    fill(f, GLOBEX);
    stop(f);
}

static void
teardown(fixture *f)
{
    if (f->all != NULL) {
        stop(f);
    }
    free(f->said);
    run("rm -rf %s", f->top);
}

/* The one file that fits the pattern beneath ACME's directory. */
static void
file_of(const fixture *f, const char *pattern, char out[256])
{
    glob_t found;
    char full[256];
    snprintf(full, sizeof full, "%s/tenants/1111111111111111/%s", f->path, pattern);
    assert_int_equal(glob(full, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    snprintf(out, 256, "%s", found.gl_pathv[0]);
    globfree(&found);
}

static long
size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (long)st.st_size;
}

static void
flip(const char *path, long at)
{
    unsigned char byte;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* --- the three commands ----------------------------------------------------------------------- */

static dp_inspect_report
inspect(fixture *f, const char *what, const char *path)
{
    dp_inspect_report report = {0};
    ort_diag diag = {""};
    size_t n;
    free(f->said);
    FILE *out = open_memstream(&f->said, &n);
    const ort_err err = strcmp(what, "verify") == 0   ? dp_inspect_verify(path, out, &report, &diag)
                        : strcmp(what, "repair") == 0 ? dp_inspect_repair(path, out, &report, &diag)
                                                      : dp_inspect_dump(path, out, &diag);
    fclose(out);
    if (err != ORT_OK) {
        fail_msg("%s %s: %s", what, path, diag.text);
    }
    return report;
}

#define assert_said(f, words)                                    \
    do {                                                         \
        if (strstr((f)->said, words) == NULL) {                  \
            fail_msg("\"%s\" is not in:\n%s", words, (f)->said); \
        }                                                        \
    } while (0)

/* --- what the node then answers --------------------------------------------------------------- */

typedef struct {
    uint64_t seen; /* bit per id */
    unsigned count;
} seen_points;

/* A point that is there is as it was put. */
static ort_err
check_point(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *p)
{
    (void)query;
    (void)schema;
    seen_points *seen = ctx;
    char id[ORT_POINT_ID_TEXT_BYTES], expected[64];
    ort_point_id_format(p->id, id);
    const unsigned n = (unsigned)atoi(id);
    snprintf(expected, sizeof expected, "{\"n\":\"%u and more\"}", n);
    assert_int_equal(p->payload_len, strlen(expected));
    assert_memory_equal(p->payload, expected, p->payload_len);
    assert_true(n < POINTS);
    seen->seen |= UINT64_C(1) << n;
    seen->count++;
    return ORT_OK;
}

static seen_points
points_of(fixture *f, ort_tenant_id id)
{
    dp_tenant *t;
    dp_collection *c;
    seen_points seen = {0};
    bool more;
    ort_point_id next;
    ort_diag diag = {""};
    if (dp_tenants_get(f->all, id, &t, &diag) != ORT_OK ||
        dp_tenant_use(t, "c", 1, &c, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
        return seen;
    }
    const ort_err err =
        dp_collection_scroll(c, NULL, NULL, 1000, true, check_point, &seen, &more, &next, &diag);
    if (err != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    dp_tenant_usage usage;
    dp_tenant_get_usage(t, &usage);
    assert_int_equal(usage.points, seen.count);
    dp_tenant_release(t, c);
    dp_tenant_unref(t);
    return seen;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void
verify_finds_nothing_wrong_and_changes_nothing(void **state)
{
    fixture f;
    (void)state;
    setup(&f);
    run("cd %s && find . -printf '%%p %%s %%T@ %%i\\n' | sort > %s/before", f.path, f.top);
    const dp_inspect_report r = inspect(&f, "verify", f.path);
    assert_int_equal(r.damaged, 0);
    assert_int_equal(r.collections, 2);
    run("cd %s && find . -printf '%%p %%s %%T@ %%i\\n' | sort | cmp - %s/before", f.path, f.top);
    char path[256];
    file_of(&f, "", path);
    assert_int_equal(inspect(&f, "verify", path).collections, 1);
    /* without its tenant around it */
    run("mkdir %s/copy && cp %s/manifest %s/seg.* %s/log.* %s/copy", f.top, path, path, path,
        f.top);
    snprintf(path, sizeof path, "%s/copy", f.top);
    assert_int_equal(inspect(&f, "verify", path).damaged, 0);
    teardown(&f);
}

/* A flipped bit anywhere: found or harmless; afterwards every point is as it was, or named as lost;
 * and the other tenant has lost nothing. */
static void
flip_and_repair(const char *pattern, long step)
{
    fixture f;
    char path[256];
    setup(&f);
    run("cp -r %s %s/good", f.path, f.top);
    file_of(&f, pattern, path);
    const long size = size_of(path);
    unsigned found = 0, lossless = 0;
    for (long at = 0; at < size; at += step) {
        run("rm -rf %s && cp -r %s/good %s", f.path, f.top, f.path);
        flip(path, at);
        const uint64_t damaged = inspect(&f, "verify", f.path).damaged;
        if (damaged > 0) {
            found++;
            const dp_inspect_report r = inspect(&f, "repair", f.path);
            if (r.damaged != 0 || r.repaired == 0) {
                fail_msg("%s at %ld was not repaired:\n%s", pattern, at, f.said);
            }
        }
        start(&f);
        const seen_points seen = points_of(&f, ACME);
        lossless += seen.count == POINTS;
        if (damaged == 0) {
            assert_int_equal(seen.count, POINTS);
        } else if (seen.count < POINTS) {
            assert_said(&f, "lost");
        }
        assert_int_equal(points_of(&f, GLOBEX).count, POINTS);
        stop(&f);
        assert_int_equal(inspect(&f, "verify", f.path).damaged, 0);
    }
    print_message("%s: %ld bytes, %u flips found, %u of all cost nothing\n", pattern, size, found,
                  lossless);
    assert_true(found > 0);
    teardown(&f);
}

static void
a_flipped_bit_in_a_segment_costs_what_it_hit(void **state)
{
    (void)state;
    flip_and_repair("seg.*", 397);
}

static void
a_flipped_bit_in_the_manifest_costs_nothing(void **state)
{
    (void)state;
    flip_and_repair("manifest", 17);
}

static void
a_flipped_bit_in_the_log_costs_what_follows(void **state)
{
    (void)state;
    flip_and_repair("log.*", 397);
}

static void
a_flipped_bit_in_the_catalog_costs_nothing(void **state)
{
    (void)state;
    flip_and_repair("catalog.json", 53);
}

/* Whole files: gone, empty, or another's. */
static void
missing_files_are_made_anew(void **state)
{
    static const char *const patterns[] = {"manifest", "log.*", "seg.*", "catalog.json"};
    fixture f;
    char path[256];
    (void)state;
    setup(&f);
    run("cp -r %s %s/good", f.path, f.top);
    for (size_t i = 0; i < 2 * sizeof patterns / sizeof patterns[0]; i++) {
        run("rm -rf %s && cp -r %s/good %s", f.path, f.top, f.path);
        file_of(&f, patterns[i / 2], path);
        run(i % 2 == 0 ? "rm %s" : ": > %s", path);
        /* Without a manifest, and with a log that goes back to the first operation, all there is
         * stands in the log: that is how a shard begins. */
        const bool harmless = i == 0;
        assert_int_equal(inspect(&f, "verify", f.path).damaged, !harmless);
        assert_int_equal(inspect(&f, "repair", f.path).damaged, 0);
        start(&f);
        const unsigned count = points_of(&f, ACME).count;
        assert_true(!harmless || count == POINTS);
        assert_int_equal(points_of(&f, GLOBEX).count, POINTS);
        stop(&f);
        assert_int_equal(inspect(&f, "verify", f.path).damaged, 0);
    }
    teardown(&f);
}

/* The node goes on; the damaged collection says 503 and which shard, until it has been repaired
 * beside the running node. */
static void
a_running_node_serves_what_was_repaired(void **state)
{
    fixture f;
    char path[256];
    dp_tenant *t;
    dp_collection *c;
    ort_diag diag = {""};
    dp_tenants_stats stats;
    (void)state;
    setup(&f);
    file_of(&f, "manifest", path);
    flip(path, 40);
    start(&f);
    assert_int_equal(dp_tenants_get(f.all, ACME, &t, &diag), ORT_OK);
    assert_int_equal(dp_tenant_use(t, "c", 1, &c, &diag), ORT_EBUSY);
    assert_non_null(strstr(diag.text, "shard 0"));
    assert_int_equal(points_of(&f, GLOBEX).count, POINTS);
    dp_tenants_get_stats(f.all, &stats);
    assert_int_equal(stats.collections_failed, 1);
    assert_int_equal(inspect(&f, "repair", f.path).damaged, 0);
    assert_said(&f, "open"); /* the other one is not looked at */
    const uint64_t until = ort_mono_ms() + 60000;
    while (dp_tenant_use(t, "c", 1, &c, &diag) != ORT_OK && ort_mono_ms() < until) {
        const struct timespec nap = {.tv_nsec = 50000000};
        nanosleep(&nap, NULL);
    }
    assert_non_null(c);
    dp_tenant_release(t, c);
    dp_tenant_unref(t);
    assert_int_equal(points_of(&f, ACME).count, POINTS);
    dp_tenants_get_stats(f.all, &stats);
    assert_int_equal(stats.collections_failed, 0);
    teardown(&f);
}

/* An empty collection where there was one with points would be a lie. */
static void
missing_files_are_damage_not_an_empty_collection(void **state)
{
    fixture f;
    char path[256];
    dp_tenant *t;
    dp_collection *c;
    ort_diag diag = {""};
    (void)state;
    setup(&f);
    file_of(&f, "", path);
    run("cd %s && rm manifest seg.* log.*", path);
    assert_int_equal(inspect(&f, "verify", f.path).damaged, 1);
    start(&f);
    assert_int_equal(dp_tenants_get(f.all, ACME, &t, &diag), ORT_OK);
    assert_int_equal(dp_tenant_use(t, "c", 1, &c, &diag), ORT_EBUSY);
    assert_non_null(strstr(diag.text, "missing"));
    dp_tenant_unref(t);
    teardown(&f);
}

/* Nobody asks for the damaged collection; it is heard of all the same, and nothing else is. */
static void
the_scrubber_finds_what_nobody_reads(void **state)
{
    fixture f;
    char path[256];
    ort_diag diag = {""};
    dp_tenants_stats stats = {0};
    const dp_tenants_config config = {.scrub_bytes_per_s = 64u << 20};
    (void)state;
    setup(&f);
    file_of(&f, "seg.*", path);
    flip(path, size_of(path) - 200);
    const int dir = open(f.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (unsigned run_number = 0; run_number < 2; run_number++) {
        assert_int_equal(dp_tenants_open(&f.all, dir, &config, &diag), ORT_OK);
        const uint64_t until = ort_mono_ms() + 60000;
        do {
            const struct timespec nap = {.tv_nsec = 20000000};
            nanosleep(&nap, NULL);
            dp_tenants_get_stats(f.all, &stats);
        } while (stats.scrub_rounds < 2 && ort_mono_ms() < until);
        assert_true(stats.scrub_rounds >= 2);
        assert_int_equal(stats.scrub_damaged, run_number == 0);
        assert_true(stats.scrub_bytes > 2 * 10000);
        assert_int_equal(stats.collections_open, 0);
        if (run_number == 0) {
            assert_int_equal(inspect(&f, "repair", f.path).damaged, 0);
        }
        stop(&f);
    }
    close(dir);
    teardown(&f);
}

static void
dump_tells_what_stands_in_the_files(void **state)
{
    fixture f;
    char path[256];
    (void)state;
    setup(&f);
    file_of(&f, "log.*", path);
    (void)inspect(&f, "dump", path);
    assert_said(&f, "\"op\":\"upsert\",\"points\":1,\"ids\":[59]");
    file_of(&f, "", path);
    (void)inspect(&f, "dump", path);
    assert_said(&f, "\"live\":50");
    assert_said(&f, "{\"section\":\"rows\",\"column\":0,\"type\":1,\"dim\":4,");
    teardown(&f);
}

/* A collection that has nothing but links by value: ids from 1 on, so that nobody takes it for "c".
 */
static void
fill_linked(const fixture *f, ort_pool *workers)
{
    const dp_tenants_config config = {.idle_close_ms = 0, .collection = {.workers = workers}};
    const int dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ort_json_doc *doc = json("{\"vectors\":{\"size\":4,\"distance\":\"Euclid\"},\"hnsw_config\":"
                             "{\"m\":0,\"payload_m\":4},\"optimizers_config\":{"
                             "\"indexing_threshold\":1}}"),
                 *tenants = json("{\"type\":\"keyword\",\"is_tenant\":true}");
    dp_schema *plain, *schema;
    dp_tenants *all;
    dp_tenant *t;
    dp_collection *c;
    ort_diag diag;
    assert_int_equal(dp_tenants_open(&all, dir, &config, &diag), ORT_OK);
    close(dir);
    assert_int_equal(dp_schema_parse(&plain, ort_json_root(doc), NULL), ORT_OK);
    assert_int_equal(dp_schema_set_field(&schema, plain, "n", 1, ort_json_root(tenants), NULL),
                     ORT_OK);
    assert_int_equal(dp_tenants_get(all, ACME, &t, &diag), ORT_OK);
    assert_int_equal(dp_tenant_create_collection(t, "linked", 6, schema, &diag), ORT_OK);
    assert_int_equal(dp_tenant_use(t, "linked", 6, &c, &diag), ORT_OK);
    for (unsigned i = 0; i < 900; i++) {
        char text[128];
        snprintf(text, sizeof text,
                 "{\"points\":[{\"id\":%u,\"vector\":[%u,%u,%u,3],\"payload\":{\"n\":\"%u\"}}]}",
                 i + 1, i % 31, i % 37, i % 41, i % 9 / 7);
        apply(c, DP_OP_UPSERT, text);
    }
    assert_int_equal(dp_collection_wait_indexed(c, ort_mono_ns() + UINT64_C(60000000000)), ORT_OK);
    assert_int_equal(dp_collection_checkpoint(c, &diag), ORT_OK);
    dp_tenant_release(t, c);
    dp_tenant_unref(t);
    dp_tenants_close(all);
    dp_schema_unref(plain);
    dp_schema_unref(schema);
    ort_json_free(doc);
    ort_json_free(tenants);
}

/* Links by value are in the graph's file: looked through with it, and removed with it. */
static void
a_flipped_bit_in_links_by_value_is_found(void **state)
{
    fixture f;
    ort_pool *workers;
    char path[256];
    (void)state;
    setup(&f);
    assert_int_equal(ort_pool_new(&workers, "upkeep", 1, 16, NULL), ORT_OK);
    fill_linked(&f, workers);
    ort_pool_free(workers);
    assert_int_equal(inspect(&f, "verify", f.path).damaged, 0);
    file_of(&f, "indexes/*/vector-0.hnsw", path);
    flip(path, size_of(path) - 4096 - 4096); /* before the checksums: the last of the lists */
    assert_int_equal(inspect(&f, "verify", f.path).damaged, 1);
    assert_said(&f, "links by value");
    assert_int_equal(inspect(&f, "repair", f.path).repaired, 1);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(inspect(&f, "verify", f.path).damaged, 0);
    teardown(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verify_finds_nothing_wrong_and_changes_nothing),
        cmocka_unit_test(a_flipped_bit_in_a_segment_costs_what_it_hit),
        cmocka_unit_test(a_flipped_bit_in_the_manifest_costs_nothing),
        cmocka_unit_test(a_flipped_bit_in_the_log_costs_what_follows),
        cmocka_unit_test(a_flipped_bit_in_the_catalog_costs_nothing),
        cmocka_unit_test(missing_files_are_made_anew),
        cmocka_unit_test(a_running_node_serves_what_was_repaired),
        cmocka_unit_test(missing_files_are_damage_not_an_empty_collection),
        cmocka_unit_test(the_scrubber_finds_what_nobody_reads),
        cmocka_unit_test(dump_tells_what_stands_in_the_files),
        cmocka_unit_test(a_flipped_bit_in_links_by_value_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
