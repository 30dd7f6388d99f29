/* verify reads every file that a node's directory has, changes none, names what is nobody's; repair
 * takes away what can be made or fetched anew. And a bit that flips in a graph or a payload index
 * costs no answer. */
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
#include <glob.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "inspect/inspect.h"
#include "tenant/snapshots.h"

#define ACME ((ort_tenant_id){0x1111111111111111})
#define POINTS 4300u /* more than a saved payload index needs */
#define WAIT_NS UINT64_C(60000000000)

typedef struct {
    char top[64];  /* of the test */
    char path[96]; /* of the node in it */
    ort_pool *workers;
    dp_tenants *all;
    char *said;
} fixture;

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
must(ort_err err, const char *what, const ort_diag *diag)
{
    if (err != ORT_OK) {
        fail_msg("%s: %s: %s", what, ort_err_code(err), diag->text);
    }
}

static void
start(fixture *f)
{
    ort_diag diag = {""};
    const dp_tenants_config config = {.collection = {.workers = f->workers}};
    const int dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir >= 0);
    must(dp_tenants_open(&f->all, dir, &config, &diag), "open", &diag);
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
put_batch(dp_collection *c, unsigned from, unsigned to)
{
    ort_buf text = {0};
    ort_json_doc *doc;
    dp_op *op;
    dp_op_result result;
    ort_diag diag = {""};
    dp_schema *schema = dp_collection_schema(c);
    ort_buf_puts(&text, "{\"points\":[");
    for (unsigned i = from; i < to; i++) {
        ort_buf_printf(&text, "%s{\"id\":%u,\"vector\":[%u,%u,%u,%u],\"payload\":{\"n\":\"%u\"}}",
                       i > from ? "," : "", i, i % 97, i % 89, i % 83, i % 79, i % 50);
    }
    ort_buf_puts(&text, "]}");
    doc = json(ort_buf_peek_cstr(&text));
    must(dp_op_parse(&op, DP_OP_UPSERT, schema, ort_json_root(doc), &diag), "parse", &diag);
    must(dp_collection_apply(c, op, 0, &result, &diag), "apply", &diag);
    dp_op_free(op);
    dp_schema_unref(schema);
    ort_json_free(doc);
    ort_buf_fini(&text);
}

/* A collection with a graph and a payload index, both saved, and a snapshot; and a second one. */
static void
fill(fixture *f)
{
    static const dp_snapshot_pin pin = {0};
    dp_tenant *t;
    dp_collection *c;
    dp_schema *schema;
    dp_snapshot_info info;
    ort_diag diag = {""};
    ort_json_doc *doc = json("{\"vectors\":{\"size\":4,\"distance\":\"Euclid\"},"
                             "\"optimizers_config\":{\"indexing_threshold\":1}}");
    ort_json_doc *field = json("\"keyword\"");
    must(dp_tenants_get(f->all, ACME, &t, &diag), "get", &diag);
    must(dp_schema_parse(&schema, ort_json_root(doc), &diag), "schema", &diag);
    must(dp_tenant_create_collection(t, "g", 1, schema, &diag), "create", &diag);
    must(dp_tenant_create_collection(t, "second", 6, schema, &diag), "create", &diag);
    must(dp_tenant_set_field(t, "g", 1, "n", 1, ort_json_root(field), &diag), "field", &diag);
    must(dp_tenant_use(t, "g", 1, &c, &diag), "use", &diag);
    for (unsigned i = 0; i < POINTS; i += 100) {
        put_batch(c, i, i + 100);
    }
    assert_int_equal(dp_collection_wait_indexed(c, ort_mono_ns() + WAIT_NS), ORT_OK);
    must(dp_collection_checkpoint(c, &diag), "checkpoint", &diag);
    must(dp_tenant_snapshot_create(t, "g", 1, &pin, &info, &diag), "snapshot", &diag);
    dp_tenant_release(t, c);
    must(dp_tenant_use(t, "second", 6, &c, &diag), "use", &diag);
    put_batch(c, 0, 10);
    dp_tenant_release(t, c);
    dp_tenant_unref(t);
    dp_schema_unref(schema);
    ort_json_free(doc);
    ort_json_free(field);
}

static void
setup(fixture *f)
{
    *f = (fixture){.top = "/tmp/orthant-inspect-XXXXXX"};
    assert_non_null(mkdtemp(f->top));
    snprintf(f->path, sizeof f->path, "%s/node", f->top);
    assert_int_equal(mkdir(f->path, 0700), 0);
    run("cp -r tests/formats/node-2 %s/node && chmod 700 %s/node && chmod 600 %s/node/*", f->path,
        f->path, f->path);
    assert_int_equal(ort_pool_new(&f->workers, "upkeep", 1, 64, NULL), ORT_OK);
    start(f);
    fill(f);
    stop(f);
    run("cp -a %s %s/good", f->path, f->top);
}

/* The directory as it was made. */
static void
renew(fixture *f)
{
    if (f->all != NULL) { /* a test before failed */
        stop(f);
    }
    run("rm -rf %s && cp -a %s/good %s", f->path, f->top, f->path);
}

/* Made once: a graph takes its time under the sanitizers. */
static int
make_once(void **state)
{
    fixture *f = malloc(sizeof *f);
    if (f != NULL) {
        setup(f);
    }
    *state = f;
    return f == NULL;
}

static int
drop(void **state)
{
    fixture *f = *state;
    if (f->all != NULL) {
        stop(f);
    }
    ort_pool_free(f->workers);
    free(f->said);
    run("rm -rf %s", f->top);
    free(f);
    return 0;
}

static dp_inspect_report
inspect(fixture *f, bool repair)
{
    dp_inspect_report report = {0};
    ort_diag diag = {""};
    size_t n;
    free(f->said);
    FILE *out = open_memstream(&f->said, &n);
    const ort_err err = repair ? dp_inspect_repair(f->path, out, &report, &diag)
                               : dp_inspect_verify(f->path, out, &report, &diag);
    fclose(out);
    must(err, repair ? "repair" : "verify", &diag);
    return report;
}

/* The one file that fits the pattern beneath the node's directory. */
static void
file_of(const fixture *f, const char *pattern, char out[256])
{
    glob_t found;
    char full[256];
    snprintf(full, sizeof full, "%s/%s", f->path, pattern);
    if (glob(full, 0, NULL, &found) != 0 || found.gl_pathc != 1) {
        fail_msg("%s is not one file", full);
    }
    snprintf(out, 256, "%s", found.gl_pathv[0]);
    globfree(&found);
}

static long
size_of(const char *path)
{
    struct stat st = {.st_size = 0};
    assert_int_equal(stat(path, &st), 0);
    return (long)st.st_size;
}

static void
flip(const char *path, long at)
{
    unsigned char byte = 0;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 0x04;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* --- verify ----------------------------------------------------------------------------------- */

/* In a child whose mount of the directory takes no writes. 77: this machine gives no such mount. */
static int
verify_on_a_read_only_mount(const fixture *f)
{
    int status;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dp_inspect_report report;
        FILE *null = fopen("/dev/null", "we");
        if (null == NULL || unshare(CLONE_NEWNS) != 0 ||
            mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount(f->path, f->path, NULL, MS_BIND, NULL) != 0 ||
            mount(NULL, f->path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) != 0) {
            _exit(77);
        }
        const ort_err err = dp_inspect_verify(f->path, null, &report, NULL);
        _exit(err == ORT_OK && report.damaged == 0 && report.notes == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void
verify_reads_every_file_and_changes_none(void **state)
{
    fixture *f = *state;
    char path[256];
    ort_buf text = {0};
    renew(f);
    file_of(f, "tenants/*/indexes/*/vector-0.hnsw", path); /* they are there to be read */
    file_of(f, "tenants/*/indexes/*/payload-*.pidx", path);
    file_of(f, "tenants/*/snapshots/*", path);
    run("cd %s && (find . -printf '%%p %%s %%T@ %%C@ %%i\\n'; find . -type f -exec sha256sum {} +) "
        "| "
        "sort > %s/before",
        f->path, f->top);
    const dp_inspect_report r = inspect(f, false);
    if (r.damaged != 0 || r.notes != 0) {
        fail_msg("%s", f->said);
    }
    assert_int_equal(r.collections, 2);
    run("cd %s && (find . -printf '%%p %%s %%T@ %%C@ %%i\\n'; find . -type f -exec sha256sum {} +) "
        "| "
        "sort | cmp - %s/before",
        f->path, f->top);
    /* Each was read but the lock, which is empty. */
    run("cd %s && find . -type f ! -name lock | wc -l > %s/count", f->path, f->top);
    snprintf(path, sizeof path, "%s/count", f->top);
    assert_int_equal(ort_file_read(AT_FDCWD, path, 64, &text, NULL), ORT_OK);
    assert_int_equal(r.files, atoi(ort_buf_peek_cstr(&text)));
    const int mounted = verify_on_a_read_only_mount(f);
    if (mounted == 77) {
        print_message("no read-only mount here: %s\n", strerror(errno));
    }
    assert_true(mounted == 0 || mounted == 77);
    ort_buf_fini(&text);
}

/* What stands there and is nobody's is named, and left alone by repair as well. */
static void
strays_are_named_and_stay(void **state)
{
    static const char *const places[] = {"",
                                         "node/",
                                         "trash/",
                                         "tenants/",
                                         "tenants/1111111111111111/",
                                         "tenants/1111111111111111/collections/",
                                         "tenants/1111111111111111/snapshots/",
                                         "tenants/1111111111111111/indexes/"};
    fixture *f = *state;
    char path[256];
    renew(f);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        run("mkdir -p %s/%s && echo x > %s/%sstray", f->path, places[i], f->path, places[i]);
    }
    file_of(f, "tenants/*/collections/????????????????", path);
    run("echo x > %s/stray && echo x > %s/seg.00000000000000ff", path, path);
    file_of(f, "tenants/*/indexes/????????????????", path);
    run("echo x > %s/vector-7.hnsw", path);
    for (int pass = 0; pass < 3; pass++) {
        const dp_inspect_report r = inspect(f, pass == 1);
        if (r.damaged != 0 || r.repaired != 0 || r.notes != sizeof places / sizeof *places + 3) {
            fail_msg("%llu notes:\n%s", (unsigned long long)r.notes, f->said);
        }
    }
}

/* A node that runs writes in place: its own files are left alone, and a backup on its way is a
 * note.
 */
static void
a_running_node_is_looked_at_beside_it(void **state)
{
    fixture *f = *state;
    renew(f);
    start(f);
    const dp_inspect_report r = inspect(f, false);
    assert_int_equal(r.damaged, 0);
    assert_non_null(strstr(f->said, "a node runs on them"));
    stop(f);
}

/* --- repair ----------------------------------------------------------------------------------- */

static bool
count_name(void *ctx, const dp_snapshot_info *info)
{
    (void)info;
    (*(unsigned *)ctx)++;
    return true;
}

static unsigned
snapshots_of(fixture *f)
{
    dp_tenant *t;
    unsigned n = 0;
    ort_diag diag = {""};
    must(dp_tenants_get(f->all, ACME, &t, &diag), "get", &diag);
    must(dp_tenant_snapshot_list(t, "g", 1, count_name, &n, &diag), "list", &diag);
    dp_tenant_unref(t);
    return n;
}

static void
what_is_derived_is_taken_away_and_a_bad_snapshot_too(void **state)
{
    static const struct {
        const char *pattern;
        bool repairable;
    } files[] = {
        {"tenants/*/indexes/*/vector-0.hnsw", true},
        {"tenants/*/indexes/*/payload-*.pidx", true},
        {"tenants/*/snapshots/*", true},
        {"node/table", true},
        {"node/table.log", true},
        {"node/credential", false},
        {"node/node.key", false},
    };
    fixture *f = *state;
    char path[256];
    renew(f);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        for (int k = 0; k < 2; k++) {
            renew(f);
            file_of(f, files[i].pattern, path);
            flip(path, k == 0 ? 20 : (size_of(path) - 2) * 2 / 3);
            dp_inspect_report r = inspect(f, false);
            if (r.damaged != 1) {
                fail_msg("%s flipped (%d): %llu damaged:\n%s", files[i].pattern, k,
                         (unsigned long long)r.damaged, f->said);
            }
            r = inspect(f, true);
            if (r.damaged != !files[i].repairable || r.repaired != files[i].repairable) {
                fail_msg("%s was not repaired:\n%s", files[i].pattern, f->said);
            }
            r = inspect(f, false);
            if (r.damaged != !files[i].repairable) {
                fail_msg("%s after its repair:\n%s", files[i].pattern, f->said);
            }
        }
    }
    renew(f);
    file_of(f, "node/watermark", path);
    flip(path, 9);
    assert_int_equal(inspect(f, false).damaged, 0); /* the other slot holds */
    flip(path, 64 + 9);
    assert_int_equal(inspect(f, false).damaged, 1);
    assert_int_equal(inspect(f, true).damaged, 0);
    assert_int_equal(inspect(f, false).damaged, 0);

    renew(f); /* a snapshot that is gone, and one beside a node that runs */
    file_of(f, "tenants/*/snapshots/*", path);
    flip(path, 100);
    start(f);
    assert_int_equal(snapshots_of(f), 1);
    assert_int_equal(inspect(f, true).damaged, 1);
    assert_non_null(strstr(f->said, "delete the snapshot by its API"));
    stop(f);
    run("rm %s", path);
    assert_int_equal(inspect(f, false).damaged, 1);
    assert_int_equal(inspect(f, true).damaged, 0);
    start(f);
    assert_int_equal(snapshots_of(f), 0);
    stop(f);
}

/* --- flipped bits in what is derived ---------------------------------------------------------- */

static ort_err
tell_hit(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *p)
{
    char id[ORT_POINT_ID_TEXT_BYTES];
    (void)query;
    (void)schema;
    ort_point_id_format(p->id, id);
    ort_buf_printf(ctx, "%s %a;", id, (double)p->score);
    return ORT_OK;
}

/* Nearest points through the graph, and counts through the payload index, once both are read (or
 * made anew). */
static void
tell(fixture *f, ort_buf *out)
{
    dp_tenant *t;
    dp_collection *c;
    ort_diag diag = {""};
    must(dp_tenants_get(f->all, ACME, &t, &diag), "get", &diag);
    must(dp_tenant_use(t, "g", 1, &c, &diag), "use", &diag);
    assert_int_equal(dp_collection_wait_indexed(c, ort_mono_ns() + WAIT_NS), ORT_OK);
    for (unsigned i = 0; i < 10; i++) {
        char text[128];
        uint64_t n;
        dp_filter *filter;
        const float near[] = {(float)(i * 9), (float)(i * 8), (float)(i * 7), (float)(i * 6)};
        const dp_query query = {
            .kind = DP_QUERY_NEAREST,
            .vector = {.kind = DP_VECTOR_DENSE, .values = near, .count = 4, .rows = 1},
            .limit = 3,
            .hnsw_ef = 512};
        must(dp_collection_query(c, &query, 1, false, tell_hit, out, &diag), "query", &diag);
        snprintf(text, sizeof text, "{\"must\":[{\"key\":\"n\",\"match\":{\"value\":\"%u\"}}]}",
                 i * 5);
        must(dp_filter_parse_text(&filter, text, strlen(text), &diag), "filter", &diag);
        must(dp_collection_count(c, filter, &n, &diag), "count", &diag);
        ort_buf_printf(out, "%llu\n", (unsigned long long)n);
        dp_filter_free(filter);
    }
    dp_tenant_release(t, c);
    dp_tenant_unref(t);
}

/* Five places of each file, and a cut. ORT_FLIP_STEP=97 tries every 97th byte. */
static void
a_flipped_bit_in_a_graph_or_a_payload_index_costs_no_answer(void **state)
{
    static const char *const patterns[] = {"tenants/*/indexes/*/vector-0.hnsw",
                                           "tenants/*/indexes/*/payload-*.pidx"};
    const char *env = getenv("ORT_FLIP_STEP");
    fixture *f = *state;
    char path[256];
    ort_buf whole = {0};
    renew(f);
    start(f);
    tell(f, &whole);
    stop(f);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        file_of(f, patterns[i], path);
        const long size = size_of(path);
        const long step = env != NULL ? atol(env) : size / 6 + 1;
        unsigned flips = 0;
        for (long at = step / 2; at < size; at += step, flips++) {
            ort_buf text = {0};
            renew(f);
            file_of(f, patterns[i], path);
            if (flips % 6 == 5) {
                assert_int_equal(truncate(path, at), 0);
            } else {
                flip(path, at);
            }
            start(f);
            tell(f, &text);
            stop(f);
            if (text.len != whole.len || memcmp(text.data, whole.data, text.len) != 0) {
                fail_msg("%s at %ld: other answers", patterns[i], at);
            }
            assert_int_equal(inspect(f, false).damaged, 0); /* it was made anew */
            ort_buf_fini(&text);
        }
    }
    ort_buf_fini(&whole);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verify_reads_every_file_and_changes_none),
        cmocka_unit_test(strays_are_named_and_stay),
        cmocka_unit_test(a_running_node_is_looked_at_beside_it),
        cmocka_unit_test(what_is_derived_is_taken_away_and_a_bad_snapshot_too),
        cmocka_unit_test(a_flipped_bit_in_a_graph_or_a_payload_index_costs_no_answer),
    };
    return cmocka_run_group_tests(tests, make_once, drop);
}
