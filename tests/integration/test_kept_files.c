/* A tenant's files that older programs wrote, kept in tests/formats: this one opens them and finds
 * what was put in, and refuses what a newer one may write. And a bit that flips anywhere in any
 * file of a tenant is found or does no harm.
 *
 *   tenant-V       the directory of tenant 7e57000000000001, its catalog of format V: a collection
 *                  "docs" with every kind of vector (of it the last points only in the log), an
 *                  empty one, two aliases, a snapshot of "docs"
 *   catalog-V.json the catalog of such a directory in an older format
 *   backup-V       that tenant's backup, of format V
 *
 * `--write DIR` makes tenant-now and backup-now there with the formats of now: kept, with their
 * number for a name, when one of them gets a new version (tests/formats/README.md). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "collection/snapshot.h"
#include "support/scratch.h"
#include "tenant/snapshots.h"

#define TENANT ((ort_tenant_id){0x7e57000000000001})
#define OTHER ((ort_tenant_id){0x7e57000000000002})
#define TENANT_TEXT "7e57000000000001"
#define FORMATS "tests/formats/"
#define POINTS 30u /* upserts; see put_docs() */
#define REGION "eu-central"

static const char docs_schema[] =
    "{\"vectors\":{\"a\":{\"size\":4,\"distance\":\"Cosine\"},"
    "\"h\":{\"size\":3,\"distance\":\"Dot\",\"datatype\":\"float16\"},"
    "\"b\":{\"size\":2,\"distance\":\"Euclid\",\"datatype\":\"uint8\"},"
    "\"m\":{\"size\":2,\"distance\":\"Dot\",\"multivector_config\":{\"comparator\":\"max_sim\"}}},"
    "\"sparse_vectors\":{\"s\":{}},\"metadata\":{\"k\":\"v\"}}";
static const char plain_schema[] = "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"}}";

static void
must(ort_err err, const char *what, const ort_diag *diag)
{
    if (err != ORT_OK) {
        fail_msg("%s: %s: %s", what, ort_err_code(err), diag->text);
    }
}

static ort_json_doc *
json(const char *text)
{
    ort_json_doc *doc;
    assert_int_equal(ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, NULL), ORT_OK);
    return doc;
}

/* --- making ----------------------------------------------------------------------------------- */

static ort_err
create(dp_tenant *t, const char *name, const char *text, ort_diag *diag)
{
    ort_json_doc *doc = json(text);
    dp_schema *schema = NULL;
    ort_err err = dp_schema_parse(&schema, ort_json_root(doc), diag);
    if (err == ORT_OK) {
        err = dp_tenant_create_collection(t, name, strlen(name), schema, diag);
    }
    dp_schema_unref(schema);
    ort_json_free(doc);
    return err;
}

static ort_err
apply(dp_collection *c, dp_op_kind kind, const char *text, ort_diag *diag)
{
    dp_op *op = NULL;
    dp_op_result result;
    ort_json_doc *doc = json(text);
    dp_schema *schema = dp_collection_schema(c);
    ort_err err = dp_op_parse(&op, kind, schema, ort_json_root(doc), diag);
    if (err == ORT_OK) {
        err = dp_collection_apply(c, op, 0, &result, diag);
    }
    dp_op_free(op);
    dp_schema_unref(schema);
    ort_json_free(doc);
    return err;
}

/* Point i: every third lacks b and s, every fifth has its payload changed, every seventh is gone.
 * The last ten stand in the log alone. What expect_docs() looks for. */
static ort_err
put_docs(dp_collection *c, ort_diag *diag)
{
    ort_err err = ORT_OK;
    char text[512];
    for (unsigned i = 0; err == ORT_OK && i < POINTS; i++) {
        if (i == POINTS - 10) {
            err = dp_collection_checkpoint(c, diag);
        }
        snprintf(text, sizeof text,
                 "{\"points\":[{\"id\":%u,\"payload\":{\"n\":%u,\"text\":\"point \\u00e9 %u\"},"
                 "\"vector\":{\"a\":[%u,1,2,3],\"h\":[0.5,%u,1],\"m\":[[1,2],[3,%u]]%s}}]}",
                 i, i, i, i + 1, i, i,
                 i % 3 == 0 ? "" : ",\"b\":[1,200],\"s\":{\"indices\":[1,7],\"values\":[0.5,2]}");
        err = err == ORT_OK ? apply(c, DP_OP_UPSERT, text, diag) : err;
        if (err == ORT_OK && i % 5 == 0) {
            snprintf(text, sizeof text, "{\"points\":[%u],\"payload\":{\"again\":true}}", i);
            err = apply(c, DP_OP_SET_PAYLOAD, text, diag);
        }
        if (err == ORT_OK && i % 7 == 0) {
            snprintf(text, sizeof text, "{\"points\":[%u]}", i);
            err = apply(c, DP_OP_DELETE, text, diag);
        }
    }
    return err;
}

static ort_err
make_tenant(dp_tenants *all, ort_diag *diag)
{
    static const dp_snapshot_pin pin = {0};
    dp_tenant *t = NULL;
    dp_collection *c = NULL;
    dp_snapshot_info info;
    ort_err err = dp_tenants_get(all, TENANT, &t, diag);
    err = err == ORT_OK ? create(t, "docs", docs_schema, diag) : err;
    err = err == ORT_OK ? create(t, "empty", plain_schema, diag) : err;
    if (err == ORT_OK) {
        ort_json_doc *doc = json("{\"actions\":[{\"create_alias\":{\"collection_name\":\"docs\","
                                 "\"alias_name\":\"live\"}},{\"create_alias\":{\"collection_name\":"
                                 "\"empty\",\"alias_name\":\"none\"}}]}");
        err = dp_tenant_change_aliases(t, ort_json_root(doc), diag);
        ort_json_free(doc);
    }
    err = err == ORT_OK ? dp_tenant_use(t, "docs", 4, &c, diag) : err;
    err = err == ORT_OK ? put_docs(c, diag) : err;
    if (err == ORT_OK) {
        err = dp_tenant_snapshot_create(t, "docs", 4, &pin, &info, diag);
    }
    dp_tenant_release(t, c);
    dp_tenant_unref(t);
    return err;
}

static ort_err
copy_file(int from_fd, int to_dir, const char *name, ort_diag *diag)
{
    char bytes[65536];
    off_t at = 0;
    const int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ort_err err = to < 0 ? ort_fail_errno(diag, ORT_EIO, "make %s", name) : ORT_OK;
    for (ssize_t n = 1; err == ORT_OK && n > 0; at += n) {
        n = pread(from_fd, bytes, sizeof bytes, at);
        err = n < 0 ? ort_fail_errno(diag, ORT_EIO, "read")
                    : ort_write_full(to, bytes, (size_t)n, diag);
    }
    ort_fd_close(to);
    return err;
}

static dp_tenants *
open_node(int dir, ort_diag *diag)
{
    dp_tenants *all = NULL;
    const dp_tenants_config config = {0};
    must(dp_tenants_open(&all, dir, &config, diag), "open the node", diag);
    return all;
}

static int
write_sample(const char *path)
{
    static const char *const regions[] = {REGION};
    const dp_snapshot_pin pin = {.regions = regions, .region_count = 1};
    ort_diag diag = {""};
    scratch place = scratch_make();
    dp_tenants *all = NULL;
    dp_tenant *t = NULL;
    dp_tenant_file *file = NULL;
    dp_snapshot_totals totals;
    char command[512];
    const dp_tenants_config config = {0};
    const int to = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ort_err err = to < 0 ? ort_fail_errno(&diag, ORT_EIO, "%s", path)
                         : dp_tenants_open(&all, place.fd, &config, &diag);
    err = err == ORT_OK ? make_tenant(all, &diag) : err;
    err = err == ORT_OK ? dp_tenants_get(all, TENANT, &t, &diag) : err;
    err = err == ORT_OK ? dp_tenant_backup(t, &pin, &file, &totals, &diag) : err;
    if (err == ORT_OK) {
        err = copy_file(dp_tenant_file_peek_fd(file), to, "backup-now", &diag);
    }
    dp_tenant_file_free(file);
    dp_tenant_unref(t);
    dp_tenants_close(all);
    snprintf(command, sizeof command, "cp -r %s/tenants/" TENANT_TEXT " %s/tenant-now", place.path,
             path);
    if (err == ORT_OK && system(command) != 0) {
        err = ort_fail(&diag, ORT_EIO, "%s", command);
    }
    if (err != ORT_OK) {
        fprintf(stderr, "%s\n", diag.text);
    }
    ort_fd_close(to);
    scratch_drop(&place);
    return err != ORT_OK;
}

/* --- looking ---------------------------------------------------------------------------------- */

typedef struct {
    unsigned count;
    uint64_t seen;
} looked;

static bool
is_near(float a, double b)
{
    return fabs((double)a - b) < 0.002;
}

static void
expect_vectors(const dp_point_view *p, const dp_schema *schema, unsigned i)
{
    const double norm = sqrt((i + 1.0) * (i + 1.0) + 1 + 4 + 9);
    for (uint32_t k = 0; k < dp_schema_vector_count(schema); k++) {
        dp_vector v;
        const char name = dp_schema_peek_vector(schema, k)->name[0];
        if (i % 3 == 0 && (name == 'b' || name == 's')) {
            assert_false(dp_point_has_vector(p, k));
            continue;
        }
        assert_int_equal(dp_point_vector(p, k, &v), ORT_OK);
        switch (name) {
        case 'a':
            assert_true(v.count == 4 && is_near(v.values[0], (i + 1) / norm) &&
                        is_near(v.values[3], 3 / norm));
            break;
        case 'h':
            assert_true(v.count == 3 && v.values[0] == 0.5f && v.values[1] == (float)i);
            break;
        case 'b':
            assert_true(v.count == 2 && v.values[0] == 1 && v.values[1] == 200);
            break;
        case 'm':
            assert_true(v.count == 2 && v.rows == 2 && v.values[2] == 3 && v.values[3] == (float)i);
            break;
        default:
            assert_true(v.kind == DP_VECTOR_SPARSE && v.count == 2 && v.indices[1] == 7 &&
                        v.values[0] == 0.5f && v.values[1] == 2);
        }
    }
}

static ort_err
expect_point(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *p)
{
    looked *l = ctx;
    char id[ORT_POINT_ID_TEXT_BYTES], expected[128];
    (void)query;
    ort_point_id_format(p->id, id);
    const unsigned i = (unsigned)atoi(id);
    assert_true(i < POINTS && i % 7 != 0);
    snprintf(expected, sizeof expected, "{\"n\":%u,\"text\":\"point \\u00e9 %u\"%s}", i, i,
             i % 5 == 0 ? ",\"again\":true" : "");
    assert_int_equal(p->payload_len, strlen(expected));
    assert_memory_equal(p->payload, expected, p->payload_len);
    expect_vectors(p, schema, i);
    l->seen |= UINT64_C(1) << i;
    l->count++;
    return ORT_OK;
}

static void
expect_docs(dp_tenant *t, const char *name)
{
    dp_collection *c;
    looked l = {0};
    bool more;
    ort_point_id next;
    ort_diag diag = {""};
    must(dp_tenant_use(t, name, strlen(name), &c, &diag), name, &diag);
    must(dp_collection_scroll(c, NULL, NULL, 1000, true, expect_point, &l, &more, &next, &diag),
         name, &diag);
    assert_int_equal(l.count, POINTS - (POINTS + 6) / 7);
    dp_tenant_release(t, c);
}

static bool
add_name(void *ctx, const char *name, const char *of)
{
    ort_buf_printf(ctx, "%s%s%s;", name, of != NULL ? ">" : "", of != NULL ? of : "");
    return true;
}

static bool
add_snapshot(void *ctx, const dp_snapshot_info *info)
{
    ort_buf_printf(ctx, "%s %llu;", info->name, (unsigned long long)info->bytes);
    return true;
}

static void
expect_names(dp_tenant *t)
{
    ort_buf text = {0};
    ort_diag diag = {""};
    must(dp_tenant_list_collections(t, add_name, &text), "list", &diag);
    must(dp_tenant_list_aliases(t, NULL, 0, add_name, &text, &diag), "list aliases", &diag);
    assert_string_equal(ort_buf_peek_cstr(&text), "docs;empty;live>docs;none>empty;");
    ort_buf_fini(&text);
}

/* The snapshot of docs, over the collection "copy". */
static ort_err
restore_snapshot(dp_tenant *t, ort_diag *diag)
{
    ort_buf text = {0};
    dp_snapshot_info info;
    dp_snapshot_totals totals;
    int fd = -1;
    ort_err err = dp_tenant_snapshot_list(t, "docs", 4, add_snapshot, &text, diag);
    char *space = err == ORT_OK && text.len > 0 ? memchr(text.data, ' ', text.len) : NULL;
    if (err == ORT_OK && space == NULL) {
        err = ort_fail(diag, ORT_ENOTFOUND, "no snapshot");
    }
    if (err == ORT_OK) {
        *space = '\0';
        err = dp_tenant_snapshot_open(t, "docs", 4, text.data, &fd, &info, diag);
    }
    if (err == ORT_OK) {
        err = dp_tenant_restore_collection(t, "copy", 4, fd, REGION, &totals, diag);
        dp_tenant_snapshot_close(t, fd);
    }
    ort_buf_fini(&text);
    return err;
}

/* --- kept files ------------------------------------------------------------------------------- */

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

/* A data directory with the kept tenant; catalog: another one in the place of its own, or NULL. */
static scratch
node_of(const char *tenant_dir, const char *catalog)
{
    scratch place = scratch_make();
    run("mkdir %s/tenants && cp -r " FORMATS "%s %s/tenants/" TENANT_TEXT, place.path, tenant_dir,
        place.path);
    if (catalog != NULL) {
        run("cp " FORMATS "%s %s/tenants/" TENANT_TEXT "/catalog.json", catalog, place.path);
    }
    return place;
}

static void
opens_and_goes_on(const char *tenant_dir, const char *catalog, bool snapshots)
{
    scratch place = node_of(tenant_dir, catalog);
    ort_diag diag = {""};
    dp_tenants *all = open_node(place.fd, &diag);
    dp_tenant *t;
    dp_collection *c;
    must(dp_tenants_get(all, TENANT, &t, &diag), catalog != NULL ? catalog : tenant_dir, &diag);
    expect_names(t);
    expect_docs(t, "docs");
    expect_docs(t, "live");
    const ort_err err = restore_snapshot(t, &diag);
    if (snapshots) {
        must(err, "restore", &diag);
        expect_docs(t, "copy");
    } else {
        assert_int_equal(err, ORT_ENOTFOUND);
    }
    must(create(t, "more", plain_schema, &diag), "create", &diag); /* and the catalog is of now */
    must(dp_tenant_use(t, "empty", 5, &c, &diag), "use", &diag);
    must(apply(c, DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":[1,2]}]}", &diag), "put", &diag);
    dp_tenant_release(t, c);
    dp_tenant_unref(t);
    dp_tenants_close(all);
    all = open_node(place.fd, &diag);
    must(dp_tenants_get(all, TENANT, &t, &diag), tenant_dir, &diag);
    expect_docs(t, "docs");
    dp_tenant_unref(t);
    dp_tenants_close(all);
    scratch_drop(&place);
}

static void
tenants_of_every_format_open(void **state)
{
    (void)state;
    opens_and_goes_on("tenant-4", NULL, true);
    opens_and_goes_on("tenant-3", NULL, true);
    opens_and_goes_on("tenant-3", "catalog-2.json", true);
    opens_and_goes_on("tenant-3", "catalog-1.json", false);
}

static void
backups_of_every_format_are_restored(void **state)
{
    (void)state;
    for (int version = 1; version <= 1; version++) {
        scratch place = scratch_make();
        ort_diag diag = {""};
        dp_snapshot_totals totals;
        dp_tenants *all = open_node(place.fd, &diag);
        dp_tenant *t;
        char name[64];
        snprintf(name, sizeof name, FORMATS "backup-%d", version);
        const int fd = open(name, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        must(dp_tenants_get(all, OTHER, &t, &diag), "get", &diag);
        assert_int_equal(dp_tenant_restore(t, fd, "ap-south", false, &totals, &diag), ORT_EREGION);
        must(dp_tenant_restore(t, fd, REGION, false, &totals, &diag), name, &diag);
        assert_int_equal(totals.collections, 2);
        expect_names(t);
        expect_docs(t, "live");
        close(fd);
        dp_tenant_unref(t);
        dp_tenants_close(all);
        scratch_drop(&place);
    }
}

/* --- newer files ------------------------------------------------------------------------------ */

/* In the text of the kept catalog, its checksum set right again. */
static ort_buf
catalog_with(const char *from, const char *to)
{
    ort_buf text = {0}, out = {0};
    assert_int_equal(ort_file_read(AT_FDCWD, FORMATS "tenant-4/catalog.json", 1 << 20, &text, NULL),
                     ORT_OK);
    const char *at = memmem(text.data, text.len, from, strlen(from));
    const char *tail = memmem(text.data, text.len, ",\"crc32c\"", 9);
    assert_true(at != NULL && tail != NULL);
    ort_buf_put(&out, text.data, (size_t)(at - text.data));
    ort_buf_puts(&out, to);
    ort_buf_put(&out, at + strlen(from), (size_t)(tail - at) - strlen(from));
    ort_buf_printf(&out, ",\"crc32c\":\"%08x\"}", ort_crc32c(0, out.data, out.len));
    ort_buf_fini(&text);
    return out;
}

/* Said as such, with both numbers, by the tenant alone, and nothing is touched. */
static void
newer_catalogs_are_refused_as_such(void **state)
{
    static const struct {
        const char *from, *to, *says;
    } rows[] = {
        {"\"format\":4", "\"format\":5", "format 5, this program reads 4"},
        {"\"schema\":{\"version\":1", "\"schema\":{\"version\":2",
         "version 2, this program knows 1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        scratch place = node_of("tenant-4", NULL);
        const int dir = openat(place.fd, "tenants/" TENANT_TEXT, O_RDONLY | O_DIRECTORY);
        ort_buf newer = catalog_with(rows[i].from, rows[i].to), after = {0};
        ort_diag diag = {""};
        dp_tenant *t = NULL;
        assert_int_equal(ort_file_replace(dir, "catalog.json", newer.data, newer.len, 0600, NULL),
                         ORT_OK);
        run("cd %s/tenants && find . -type f -exec sha256sum {} + | sort > %s/before", place.path,
            place.path);
        dp_tenants *all = open_node(place.fd, &diag);
        assert_int_equal(dp_tenants_get(all, TENANT, &t, &diag), ORT_EVERSION);
        assert_non_null(strstr(diag.text, rows[i].says));
        assert_non_null(strstr(diag.text, "catalog.json"));
        must(dp_tenants_get(all, OTHER, &t, &diag), "another tenant", &diag);
        dp_tenant_unref(t);
        dp_tenants_close(all);
        run("cd %s/tenants && find . -type f -exec sha256sum {} + | sort | cmp - %s/before",
            place.path, place.path);
        close(dir);
        ort_buf_fini(&newer);
        ort_buf_fini(&after);
        scratch_drop(&place);
    }
}

static void
a_newer_backup_is_refused_as_such(void **state)
{
    (void)state;
    scratch place = scratch_make();
    ort_buf bytes = {0};
    ort_diag diag = {""};
    dp_snapshot_totals totals;
    dp_tenant *t;
    assert_int_equal(ort_file_read(AT_FDCWD, FORMATS "backup-1", 1 << 20, &bytes, NULL), ORT_OK);
    unsigned char *head = (unsigned char *)bytes.data;
    ort_put_u32(head + 8, 2);
    ort_put_u32(head + 12, ort_crc32c(0, head, 12));
    const int fd = openat(place.fd, "newer", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ort_write_full(fd, bytes.data, bytes.len, NULL), ORT_OK);
    dp_tenants *all = open_node(place.fd, &diag);
    must(dp_tenants_get(all, OTHER, &t, &diag), "get", &diag);
    assert_int_equal(dp_tenant_restore(t, fd, REGION, false, &totals, &diag), ORT_EINVAL);
    assert_non_null(strstr(diag.text, "format 2, this program reads 1"));
    dp_tenant_unref(t);
    dp_tenants_close(all);
    close(fd);
    ort_buf_fini(&bytes);
    scratch_drop(&place);
}

/* --- flipped bits ----------------------------------------------------------------------------- */

typedef struct {
    ort_buf *out;
    dp_show show;
} told;

static ort_err
tell_point(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *p)
{
    told *to = ctx;
    char id[ORT_POINT_ID_TEXT_BYTES];
    ort_jw w = {.buf = to->out};
    (void)query;
    ort_point_id_format(p->id, id);
    ort_buf_printf(to->out, "%s v%llu %a ", id, (unsigned long long)p->version, (double)p->score);
    ort_jw_object(&w);
    const ort_err err = dp_point_write(p, schema, &to->show, &w, NULL);
    ort_jw_object_end(&w);
    ort_buf_putc(to->out, '\n');
    return err;
}

/* All that a tenant can be asked for one collection: its points, a search, a count by a filter. */
static ort_err
tell_collection(dp_tenant *t, const char *name, ort_buf *out, ort_diag *diag)
{
    static const float near[] = {1, 1, 2, 3};
    static const char condition[] = "{\"must\":[{\"key\":\"n\",\"range\":{\"gt\":4}}]}";
    told to = {.out = out, .show = {.payload = {.all = true}, .vectors = {.all = true}}};
    dp_collection *c = NULL;
    dp_filter *filter = NULL;
    uint64_t n = 0;
    bool more;
    ort_point_id next;
    ort_err err = dp_tenant_use(t, name, strlen(name), &c, diag);
    if (err == ORT_OK) {
        err = dp_collection_scroll(c, NULL, NULL, 1000, true, tell_point, &to, &more, &next, diag);
    }
    if (err == ORT_OK && strcmp(name, "docs") == 0) {
        const dp_query query = {
            .kind = DP_QUERY_NEAREST,
            .vector = {.kind = DP_VECTOR_DENSE, .values = near, .count = 4, .rows = 1},
            .using_name = "a",
            .limit = 5};
        err = dp_collection_query(c, &query, 1, true, tell_point, &to, diag);
    }
    err =
        err == ORT_OK ? dp_filter_parse_text(&filter, condition, sizeof condition - 1, diag) : err;
    err = err == ORT_OK ? dp_collection_count(c, filter, &n, diag) : err;
    ort_buf_printf(out, "%s: %llu\n", name, (unsigned long long)n);
    dp_filter_free(filter);
    dp_tenant_release(t, c);
    return err;
}

/* Everything, or why not: what was not given must have been refused. */
static ort_err
tell_tenant(const scratch *place, ort_buf *out, ort_diag *diag)
{
    dp_tenants *all = open_node(place->fd, diag);
    dp_tenant *t = NULL;
    dp_tenant_usage usage;
    ort_err err = dp_tenants_get(all, TENANT, &t, diag);
    err = err == ORT_OK ? dp_tenant_list_collections(t, add_name, out) : err;
    err = err == ORT_OK ? dp_tenant_list_aliases(t, NULL, 0, add_name, out, diag) : err;
    err = err == ORT_OK ? dp_tenant_snapshot_list(t, "docs", 4, add_snapshot, out, diag) : err;
    err = err == ORT_OK ? tell_collection(t, "docs", out, diag) : err;
    err = err == ORT_OK ? tell_collection(t, "empty", out, diag) : err;
    if (err == ORT_OK) {
        dp_tenant_get_usage(t, &usage);
        ort_buf_printf(out, "%llu points, %llu bytes\n", (unsigned long long)usage.points,
                       (unsigned long long)usage.bytes);
        err = restore_snapshot(t, diag);
    }
    err = err == ORT_OK ? tell_collection(t, "copy", out, diag) : err;
    dp_tenant_unref(t);
    dp_tenants_close(all);
    return err;
}

static void
flip(const char *path, off_t at)
{
    unsigned char byte = 0;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= (unsigned char)(1u << (at / 97 % 8)); /* every bit has its turn */
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Every 97th byte of every file of the tenant's directory: whoever asks for everything is told of
 * the damage, or gets what he would have got without it. */
static void
a_flipped_bit_in_any_file_is_found_or_does_no_harm(void **state)
{
    (void)state;
    scratch place = scratch_make(), work = scratch_make();
    ort_buf whole = {0}, list = {0};
    ort_diag diag = {""};
    dp_tenants *all = open_node(place.fd, &diag);
    unsigned flips = 0, found = 0;
    must(make_tenant(all, &diag), "make", &diag);
    dp_tenants_close(all);
    run("mkdir %s/good && cp -r %s/tenants %s/good/", work.path, place.path, work.path);
    must(tell_tenant(&place, &whole, &diag), "tell", &diag);
    run("cd %s/good && find tenants -type f ! -name catalog.old | sort > %s/list", work.path,
        work.path);
    assert_int_equal(ort_file_read(work.fd, "list", 1 << 16, &list, NULL), ORT_OK);
    for (char *name = strtok((char *)(uintptr_t)ort_buf_peek_cstr(&list), "\n"); name != NULL;
         name = strtok(NULL, "\n")) {
        struct stat st = {.st_size = 0};
        char path[256];
        unsigned found_here = 0, flips_here = 0;
        snprintf(path, sizeof path, "%s/good/%s", work.path, name);
        assert_int_equal(stat(path, &st), 0);
        for (off_t at = 0; at < st.st_size; at += 97) {
            ort_buf text = {0};
            run("rm -rf %s/tenants %s/trash && cp -r %s/good/tenants %s/", place.path, place.path,
                work.path, place.path);
            snprintf(path, sizeof path, "%s/%s", place.path, name);
            flip(path, at);
            if (tell_tenant(&place, &text, &diag) != ORT_OK) {
                found_here++;
            } else if (text.len == 0 || text.len != whole.len ||
                       memcmp(text.data, whole.data, text.len) != 0) {
                fail_msg("%s, byte %lld: other answers, and no error:\n%s", name, (long long)at,
                         ort_buf_peek_cstr(&text));
            }
            flips_here++;
            ort_buf_fini(&text);
        }
        print_message("%s: %u of %u flips were found\n", name, found_here, flips_here);
        flips += flips_here;
        found += found_here;
    }
    assert_true(flips > 60 && found > flips / 2);
    ort_buf_fini(&whole);
    ort_buf_fini(&list);
    scratch_drop(&place);
    scratch_drop(&work);
}

/* A backup that rots on its shelf: refused whole, and what the tenant has stays. */
static void
a_flipped_bit_in_a_backup_is_found(void **state)
{
    (void)state;
    scratch place = scratch_make();
    ort_buf bytes = {0};
    ort_diag diag = {""};
    dp_snapshot_totals totals;
    dp_tenants *all = open_node(place.fd, &diag);
    dp_tenant *t;
    assert_int_equal(ort_file_read(AT_FDCWD, FORMATS "backup-1", 1 << 20, &bytes, NULL), ORT_OK);
    const int fd = openat(place.fd, "backup", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ort_write_full(fd, bytes.data, bytes.len, NULL), ORT_OK);
    must(make_tenant(all, &diag), "make", &diag);
    must(dp_tenants_get(all, TENANT, &t, &diag), "get", &diag);
    for (size_t at = 0; at < bytes.len; at += 97) {
        const char bad = (char)(bytes.data[at] ^ (1 << (at / 97 % 8)));
        assert_int_equal(pwrite(fd, &bad, 1, (off_t)at), 1);
        assert_int_equal(dp_tenant_restore(t, fd, REGION, true, &totals, &diag), ORT_EINVAL);
        assert_int_equal(pwrite(fd, bytes.data + at, 1, (off_t)at), 1);
    }
    expect_names(t);
    expect_docs(t, "docs");
    must(dp_tenant_restore(t, fd, REGION, true, &totals, &diag), "the good one", &diag);
    dp_tenant_unref(t);
    dp_tenants_close(all);
    close(fd);
    ort_buf_fini(&bytes);
    scratch_drop(&place);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tenants_of_every_format_open),
        cmocka_unit_test(backups_of_every_format_are_restored),
        cmocka_unit_test(newer_catalogs_are_refused_as_such),
        cmocka_unit_test(a_newer_backup_is_refused_as_such),
        cmocka_unit_test(a_flipped_bit_in_any_file_is_found_or_does_no_harm),
        cmocka_unit_test(a_flipped_bit_in_a_backup_is_found),
    };
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        return write_sample(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
