/* Snapshots: a collection goes into a file while it is written to, and comes back as it was or not
 * at all. */
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
#include <ftw.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "collection/snapshot.h"
#include "collection_support.h"
#include "support/scratch.h"
#include "support/snapshot_forge.h"

static const char all_kinds[] =
    "{\"vectors\":{\"a\":{\"size\":4,\"distance\":\"Cosine\"},"
    "\"h\":{\"size\":3,\"distance\":\"Dot\",\"datatype\":\"float16\"},"
    "\"b\":{\"size\":2,\"distance\":\"Euclid\",\"datatype\":\"uint8\"},"
    "\"m\":{\"size\":2,\"distance\":\"Dot\",\"multivector_config\":{\"comparator\":\"max_sim\"}}},"
    "\"sparse_vectors\":{\"s\":{}},\"metadata\":{\"k\":\"v\"}}";
static const char one_vector[] = "{\"vectors\":{\"size\":4,\"distance\":\"Dot\"}}";

static const ort_tenant_id tenant = {0xabc};
static const ort_collection_id restored_id = {0xdef};

/* Every third point lacks something, every fifth is written twice, every seventh is gone. */
static void
put_all_kinds(fixture *f, int count)
{
    for (int i = 0; i < count; i++) {
        do_op(f, DP_OP_UPSERT,
              "{\"points\":[{\"id\":%d,\"payload\":{\"n\":%d,\"text\":\"point \\u00e9 %d\"},"
              "\"vector\":{\"a\":[%d,1,2,3],\"h\":[0.5,%d,1],\"m\":[[1,2],[3,%d]]%s}}]}",
              i, i, i, i + 1, i % 100, i,
              i % 3 == 0 ? "" : ",\"b\":[1,200],\"s\":{\"indices\":[1,7],\"values\":[0.5,2]}");
        if (i % 5 == 0) {
            do_op(f, DP_OP_SET_PAYLOAD, "{\"points\":[%d],\"payload\":{\"again\":true}}", i);
        }
        if (i % 7 == 0) {
            do_op(f, DP_OP_DELETE, "{\"points\":[%d]}", i);
        }
    }
}

static int
new_file(scratch *place, const char *name)
{
    const int fd = openat(place->fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static ort_err
write_snapshot(dp_collection *c, int fd, const dp_snapshot_bounds *bounds, dp_snapshot_totals *out,
               ort_diag *diag)
{
    static const char *const regions[] = {"eu-central"};
    const dp_snapshot_about about = {.kind = DP_SNAPSHOT_COLLECTION,
                                     .tenant = tenant,
                                     .created_ms = 1700000000000,
                                     .regions = regions,
                                     .region_count = 1};
    dp_snapshot_writer *w;
    ort_err err = dp_snapshot_writer_new(&w, fd, &about, bounds, diag);
    if (err == ORT_OK) {
        err = dp_snapshot_put(w, c, "docs", NULL, 0, diag);
        err = err == ORT_OK ? dp_snapshot_finish(w, out, diag) : err;
        dp_snapshot_writer_free(w);
    }
    return err;
}

static dp_snapshot_totals
take(fixture *f, int fd)
{
    const dp_snapshot_bounds bounds = {0};
    dp_snapshot_totals totals = {0};
    ort_diag diag = {""};
    if (write_snapshot(f->c, fd, &bounds, &totals, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    return totals;
}

/* Reads all of a file; data_dir -1 only looks. *schema_out may be NULL. */
static ort_err
read_snapshot(int fd, int data_dir, dp_schema **schema_out, dp_snapshot_totals *totals,
              ort_diag *diag)
{
    const dp_snapshot_bounds bounds = {0};
    dp_snapshot_reader *r;
    dp_snapshot_item item;
    bool got = true;
    ort_err err = dp_snapshot_reader_open(&r, fd, &bounds, diag);
    while (err == ORT_OK && got) {
        err = dp_snapshot_next(r, &item, &got, diag);
        if (err == ORT_OK && got) {
            if (schema_out != NULL) {
                *schema_out = dp_schema_ref(item.schema);
            }
            err = dp_snapshot_fill(r, data_dir, tenant, restored_id, diag);
        }
    }
    if (err == ORT_OK && totals != NULL) {
        *totals = *dp_snapshot_peek_totals(r);
    }
    dp_snapshot_reader_close(r);
    return err;
}

/* How many segments were written for the restored collection, as the number of the last one tells:
 * later ones may have taken the place of earlier ones. */
static unsigned long segments_written;

static int
count_segment(const char *path, const struct stat *stat, int kind, struct FTW *at)
{
    (void)stat;
    if (kind == FTW_F && strncmp(path + at->base, "seg.", 4) == 0) {
        const unsigned long number = strtoul(path + at->base + 4, NULL, 16);
        segments_written = number > segments_written ? number : segments_written;
    }
    return 0;
}

/* The restored collection, open. */
static dp_collection *
restore(scratch *place, int fd, dp_quota *quota)
{
    char path[sizeof place->path + 16];
    dp_schema *schema = NULL;
    dp_collection *c;
    ort_diag diag = {""};
    assert_int_equal(mkdirat(place->fd, "restored", 0700), 0);
    const int dir = openat(place->fd, "restored", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (read_snapshot(fd, dir, &schema, NULL, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    segments_written = 0; /* before it is open: from then on it writes more when it likes */
    (void)snprintf(path, sizeof path, "%s/restored", place->path);
    assert_int_equal(nftw(path, count_segment, 8, FTW_PHYS), 0);
    const dp_collection_config config = {
        .tenant = tenant, .id = restored_id, .name = "new", .schema = schema, .quota = quota};
    const dp_collection_env env = {0};
    if (dp_collection_open(&c, dir, -1, &config, &env, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    dp_schema_unref(schema);
    close(dir);
    return c;
}

static ort_buf
content(int fd)
{
    struct stat st;
    ort_buf buf = {0};
    assert_int_equal(fstat(fd, &st), 0);
    char *to = ort_buf_reserve(&buf, (size_t)st.st_size + 1);
    assert_int_equal(ort_pread_full(fd, to, (size_t)st.st_size, 0, NULL), ORT_OK);
    ort_buf_commit(&buf, (size_t)st.st_size);
    return buf;
}

/* The strongest comparison there is: a snapshot of what came out of a snapshot has the same bytes.
 * Vectors of every kind, payloads, versions, LSN, counts and schema are all in them. */
static void
a_restored_collection_makes_the_same_snapshot(void **state)
{
    (void)state;
    fixture f;
    scratch place = scratch_make();
    fixture_init(&f, all_kinds, 0);
    put_all_kinds(&f, 500);
    const int first = new_file(&place, "first"), second = new_file(&place, "second");
    const dp_snapshot_totals totals = take(&f, first);
    dp_collection_info before, after;
    dp_collection_get_info(f.c, &before);
    assert_int_equal(totals.points, before.points);
    assert_int_equal(totals.bytes, before.bytes);

    dp_collection *c = restore(&place, first, f.quota);
    dp_collection_get_info(c, &after);
    assert_int_equal(after.points, before.points);
    assert_int_equal(after.bytes, before.bytes);
    assert_int_equal(after.applied_lsn, before.applied_lsn);
    assert_int_equal(after.vectors, before.vectors);
    dp_snapshot_totals again;
    const dp_snapshot_bounds bounds = {0};
    assert_int_equal(write_snapshot(c, second, &bounds, &again, NULL), ORT_OK);
    ort_buf a = content(first), b = content(second);
    assert_int_equal(a.len, totals.file_bytes);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    assert_true(ort_hash_equal(&totals.sha256, &again.sha256));

    /* Its log goes on where the other one stood. */
    dp_op *op;
    dp_op_result result;
    ort_json_doc *doc;
    const char *body = "{\"points\":[{\"id\":1,\"vector\":{\"a\":[1,2,3,4]}}]}";
    dp_schema *schema = dp_collection_schema(c);
    assert_int_equal(ort_json_parse(&doc, body, strlen(body), (ort_json_limits){0}, NULL), ORT_OK);
    assert_int_equal(dp_op_parse(&op, DP_OP_UPSERT, schema, ort_json_root(doc), NULL), ORT_OK);
    assert_int_equal(dp_collection_apply(c, op, 0, &result, NULL), ORT_OK);
    assert_int_equal(result.operation_id, before.applied_lsn + 1);
    dp_op_free(op);
    ort_json_free(doc);
    dp_schema_unref(schema);
    ort_buf_fini(&a);
    ort_buf_fini(&b);
    dp_collection_close(c);
    close(first);
    close(second);
    fixture_fini(&f);
    scratch_drop(&place);
}

/* Several blocks, and several checkpoints on the way in: 6,000 rows of 256 floats. */
static void
a_large_collection_comes_in_by_several_checkpoints(void **state)
{
    (void)state;
    fixture f;
    scratch place = scratch_make();
    fixture_init(&f, "{\"vectors\":{\"size\":256,\"distance\":\"Euclid\"}}", 0);
    ort_buf text = {0};
    uint32_t seed = 7;
    for (int from = 0; from < 6000; from += 500) {
        ort_buf_clear(&text);
        for (int i = from; i < from + 500; i++) {
            ort_buf_printf(&text, "%s{\"id\":%d,\"payload\":{\"n\":%d},\"vector\":[",
                           i > from ? "," : "", i, i);
            for (int d = 0; d < 256; d++) {
                seed = seed * 1664525u + 1013904223u;
                ort_buf_printf(&text, "%s%u", d > 0 ? "," : "", seed >> 16);
            }
            ort_buf_puts(&text, "]}");
        }
        do_op(&f, DP_OP_UPSERT, "{\"points\":[%s]}", ort_buf_peek_cstr(&text));
    }
    do_op(&f, DP_OP_DELETE, "{\"points\":[0,1999,2000,4095,4096,5999]}");
    ort_buf_fini(&text);
    const int first = new_file(&place, "first"), second = new_file(&place, "second");
    const dp_snapshot_totals totals = take(&f, first);
    assert_int_equal(totals.points, 5994);
    dp_collection *c = restore(&place, first, f.quota);
    dp_collection_info info;
    dp_collection_get_info(c, &info);
    assert_int_equal(info.points, 5994);
    assert_true(segments_written >= 2);
    dp_snapshot_totals again;
    const dp_snapshot_bounds bounds = {0};
    assert_int_equal(write_snapshot(c, second, &bounds, &again, NULL), ORT_OK);
    assert_true(ort_hash_equal(&totals.sha256, &again.sha256));
    dp_collection_close(c);
    close(first);
    close(second);
    fixture_fini(&f);
    scratch_drop(&place);
}

static void
an_empty_collection_survives_it(void **state)
{
    (void)state;
    fixture f;
    scratch place = scratch_make();
    fixture_init(&f, one_vector, 0);
    const int fd = new_file(&place, "first");
    assert_int_equal(take(&f, fd).points, 0);
    dp_collection *c = restore(&place, fd, f.quota);
    dp_collection_info info;
    dp_collection_get_info(c, &info);
    assert_int_equal(info.points, 0);
    dp_collection_close(c);
    close(fd);
    fixture_fini(&f);
    scratch_drop(&place);
}

typedef struct {
    fixture *f;
    atomic_bool stop;
    atomic_int writes;
} writing;

/* Point i of pair p always carries the same number as its partner: one operation writes both. */
static void *
write_pairs(void *arg)
{
    writing *w = arg;
    for (int n = 1; !atomic_load(&w->stop); n++) {
        const int p = n % 200;
        do_op(w->f, DP_OP_UPSERT,
              "{\"points\":[{\"id\":%d,\"vector\":[%d,0,0,1],\"payload\":{\"n\":%d}},"
              "{\"id\":%d,\"vector\":[%d,0,0,1],\"payload\":{\"n\":%d}}]}",
              2 * p, n, n, 2 * p + 1, n, n);
        if (n % 50 == 0) {
            /* Busy: the snapshot is at its freeze, and there is one at a time. */
            const ort_err err = dp_collection_checkpoint(w->f->c, NULL);
            assert_true(err == ORT_OK || err == ORT_EBUSY);
        }
        atomic_fetch_add(&w->writes, 1);
    }
    return NULL;
}

typedef struct {
    int n[400];
    uint64_t version[400];
    size_t count;
} seen;

static ort_err
see(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    seen *s = ctx;
    answer one = {0};
    const ort_err err = collect(&one, query, schema, view);
    s->n[s->count] = atoi(strstr(one.at[0].payload, "\"n\":") + 4);
    s->version[s->count++] = one.at[0].version;
    return err;
}

/* Halves of an operation, or one that came later, would show that the view is none of one moment.
 */
static void
a_snapshot_beside_writers_is_of_one_moment(void **state)
{
    (void)state;
    fixture f;
    fixture_init(&f, one_vector, 0);
    writing w = {.f = &f};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_pairs, &w), 0);
    for (int round = 0; round < 4; round++) {
        scratch place = scratch_make();
        const int fd = new_file(&place, "first");
        const int goal = atomic_load(&w.writes) + 60;
        while (atomic_load(&w.writes) < goal) {
            usleep(1000);
        }
        const dp_snapshot_totals totals = take(&f, fd);
        dp_quota *quota;
        assert_int_equal(dp_quota_new(&quota, NULL, "tenant"), ORT_OK);
        dp_collection *c = restore(&place, fd, quota);
        dp_collection_info info;
        dp_collection_get_info(c, &info);
        seen s = {.count = 0};
        bool more;
        ort_point_id next;
        assert_int_equal(
            dp_collection_scroll(c, NULL, NULL, 400, true, see, &s, &more, &next, NULL), ORT_OK);
        assert_int_equal(s.count, totals.points);
        uint64_t newest = 0;
        for (size_t i = 0; i < s.count; i += 2) {
            assert_int_equal(s.n[i], s.n[i + 1]);
            assert_int_equal(s.version[i], s.version[i + 1]);
            newest = s.version[i] > newest ? s.version[i] : newest;
        }
        assert_int_equal(newest, info.applied_lsn); /* of which nothing is missing */
        dp_collection_close(c);
        dp_quota_free(quota);
        close(fd);
        scratch_drop(&place);
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    fixture_fini(&f);
}

/* A file cut anywhere, or with any byte changed, is refused; nothing of it is believed. */
static void
every_cut_and_every_changed_byte_is_refused(void **state)
{
    (void)state;
    fixture f;
    scratch place = scratch_make();
    fixture_init(&f, all_kinds, 0);
    put_all_kinds(&f, 12);
    const int fd = new_file(&place, "whole");
    (void)take(&f, fd);
    ort_buf whole = content(fd);
    const int bad = new_file(&place, "bad");
    for (size_t n = 0; n < whole.len; n++) {
        ort_diag diag = {""};
        assert_int_equal(ftruncate(bad, 0), 0);
        assert_int_equal(ort_pwrite_full(bad, whole.data, n, 0, NULL), ORT_OK);
        const ort_err err = read_snapshot(bad, -1, NULL, NULL, &diag);
        assert_int_equal(err, ORT_EINVAL);
        assert_int_equal(strncmp(diag.text, "snapshot: ", 10), 0);
    }
    for (size_t i = 0; i < whole.len; i++) {
        whole.data[i] = (char)(whole.data[i] ^ 0x10);
        assert_int_equal(ftruncate(bad, 0), 0);
        assert_int_equal(ort_pwrite_full(bad, whole.data, whole.len, 0, NULL), ORT_OK);
        const ort_err err = read_snapshot(bad, -1, NULL, NULL, NULL);
        assert_true(err == ORT_EINVAL || err == ORT_EVERSION);
        whole.data[i] = (char)(whole.data[i] ^ 0x10);
    }
    assert_int_equal(ort_pwrite_full(bad, whole.data, whole.len, 0, NULL), ORT_OK);
    assert_int_equal(ort_pwrite_full(bad, "x", 1, whole.len, NULL), ORT_OK);
    assert_int_equal(read_snapshot(bad, -1, NULL, NULL, NULL),
                     ORT_EINVAL); /* bytes behind its end */
    ort_buf_fini(&whole);
    close(fd);
    close(bad);
    fixture_fini(&f);
    scratch_drop(&place);
}

/* --- forged files: every checksum is right ---------------------------------------------------- */

static void
replace(ort_buf *text, const char *from, const char *to)
{
    char *at = memmem(text->data, text->len, from, strlen(from));
    assert_non_null(at);
    ort_buf out = {0};
    ort_buf_put(&out, text->data, (size_t)(at - text->data));
    ort_buf_puts(&out, to);
    ort_buf_put(&out, at + strlen(from), (size_t)(text->data + text->len - at) - strlen(from));
    ort_buf_fini(text);
    *text = out;
}

/* The bytes of float 1.25 that every vector of the forged collection begins with. */
static char *
find_float(ort_buf *plain, float v)
{
    unsigned char bytes[4];
    uint32_t bits;
    memcpy(&bits, &v, 4);
    ort_put_u32(bytes, bits);
    char *at = memmem(plain->data, plain->len, bytes, 4);
    assert_non_null(at);
    return at;
}

typedef struct {
    const char *what;
    const char *says;
    void (*change)(forgery *f);
} forged;

static void
no_change(forgery *f)
{
    (void)f;
}
static void
nan_in_a_vector(forgery *f)
{
    ort_put_u32(find_float(&f->blocks[2].plain, 1.25f), 0x7fc00000u);
}
static void
infinite_vector(forgery *f)
{
    ort_put_u32(find_float(&f->blocks[2].plain, 1.25f), 0xff800000u);
}
static void
an_id_twice(forgery *f)
{
    /* Ids are a tag and 16 bytes: point 2 becomes point 1. */
    unsigned char one[17], two[17];
    ort_buf *p = &f->blocks[2].plain;
    const ort_point_id a = ort_point_id_of(1), b = ort_point_id_of(2);
    ort_point_id_encode(a, one);
    ort_point_id_encode(b, two);
    char *at = memmem(p->data, p->len, two, sizeof two);
    assert_non_null(at);
    memcpy(at, one, sizeof one);
}
static void
another_dimension(forgery *f)
{
    replace(&f->blocks[1].plain, "\"size\":4", "\"size\":5");
}
static void
more_points_promised(forgery *f)
{
    replace(&f->blocks[1].plain, "\"points\":3", "\"points\":4");
}
static void
fewer_points_promised(forgery *f)
{
    replace(&f->blocks[1].plain, "\"points\":3", "\"points\":2");
}
static void
endless_points_promised(forgery *f)
{
    replace(&f->blocks[1].plain, "\"points\":3", "\"points\":18446744073709551615");
}
static void
fewer_bytes_promised(forgery *f)
{
    replace(&f->blocks[1].plain, "\"bytes\":", "\"bytes\":1,\"x\":");
}
static void
an_lsn_without_end(forgery *f)
{
    replace(&f->blocks[1].plain, "\"lsn\":", "\"lsn\":18446744073709551615,\"x\":");
}
static void
versions_of_the_future(forgery *f)
{
    ort_buf *p = &f->blocks[2].plain;
    ort_put_u64(p->data + p->len - 8, 99);
}
static void
a_path_for_a_name(forgery *f)
{
    replace(&f->blocks[1].plain, "\"docs\"", "\"../../etc\"");
}
static void
aliases_in_a_collection(forgery *f)
{
    replace(&f->blocks[1].plain, "\"aliases\":[]", "\"aliases\":[\"x\"]");
}
static void
a_payload_that_is_none(forgery *f)
{
    char *at = memmem(f->blocks[2].plain.data, f->blocks[2].plain.len, "{\"n\":1}", 7);
    assert_non_null(at);
    memcpy(at, "[1,2,3]", 7);
}
static void
two_collections(forgery *f)
{
    /* about, collection, points, collection, points, end */
    f->blocks[5] = f->blocks[3];
    f->count = 6;
    for (size_t i = 3; i < 5; i++) {
        f->blocks[i] = (forge_block){.type = f->blocks[i - 2].type};
        ort_buf_put(&f->blocks[i].plain, f->blocks[i - 2].plain.data, f->blocks[i - 2].plain.len);
    }
}
static void
another_operation(forgery *f)
{
    f->blocks[2].plain.data[9] = DP_OP_DELETE;
}
static void
a_point_count_without_points(forgery *f)
{
    ort_put_u32(f->blocks[2].plain.data + 4, 0xffffffffu);
}
static void
other_totals(forgery *f)
{
    ort_put_u64(f->blocks[3].plain.data + 8, 7);
}
static void
no_end(forgery *f)
{
    f->count--;
    ort_buf_fini(&f->blocks[f->count].plain);
}
static void
a_kind_nobody_knows(forgery *f)
{
    replace(&f->blocks[0].plain, "\"collection\"", "\"hub\"");
}
static void
no_tenant(forgery *f)
{
    replace(&f->blocks[0].plain, "0000000000000abc", "../../../../etc/");
}

static const forged forgeries[] = {
    {"not a number", "finite", nan_in_a_vector},
    {"infinity", "finite", infinite_vector},
    {"an id twice", "twice", an_id_twice},
    {"another dimension", "schema", another_dimension},
    {"more points promised", "less than it says", more_points_promised},
    {"fewer points promised", "more than it says", fewer_points_promised},
    {"endless points", "numbers", endless_points_promised},
    {"fewer bytes", "more than it says", fewer_bytes_promised},
    {"an LSN without end", "numbers", an_lsn_without_end},
    {"a version of the future", "LSN", versions_of_the_future},
    {"a path for a name", "name", a_path_for_a_name},
    {"aliases", "aliases", aliases_in_a_collection},
    {"a payload that is none", "payload", a_payload_that_is_none},
    {"two collections", "where a collection", two_collections},
    {"another operation", "another operation", another_operation},
    {"a count without points", "not as it is written", a_point_count_without_points},
    {"other totals", "end does not agree", other_totals},
    {"no end", "in the middle", no_end},
    {"an unknown kind", "says of itself", a_kind_nobody_knows},
    {"no tenant", "says of itself", no_tenant},
};

static ort_err
read_forged(scratch *place, const ort_buf *whole, void (*change)(forgery *), ort_diag *diag)
{
    forgery f;
    ort_buf out = {0};
    assert_true(forge_open(&f, whole->data, whole->len));
    assert_int_equal(f.count, 4);
    change(&f);
    forge_write(&f, &out);
    const int fd = new_file(place, "forged");
    assert_int_equal(ort_pwrite_full(fd, out.data, out.len, 0, NULL), ORT_OK);
    assert_int_equal(ort_tree_remove(place->fd, "into", NULL), ORT_OK);
    assert_int_equal(mkdirat(place->fd, "into", 0700), 0);
    const int dir = openat(place->fd, "into", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const ort_err err = read_snapshot(fd, dir, NULL, NULL, diag);
    close(dir);
    close(fd);
    ort_buf_fini(&out);
    forge_fini(&f);
    return err;
}

static void
forged_files_are_refused_with_the_reason(void **state)
{
    (void)state;
    fixture f;
    scratch place = scratch_make();
    fixture_init(&f, one_vector, 0);
    for (int i = 1; i <= 3; i++) {
        do_op(&f, DP_OP_UPSERT,
              "{\"points\":[{\"id\":%d,\"vector\":[1.25,2,3,4],\"payload\":{\"n\":%d}}]}", i, i);
    }
    const int fd = new_file(&place, "whole");
    (void)take(&f, fd);
    ort_buf whole = content(fd);
    ort_diag diag = {""};
    assert_int_equal(read_forged(&place, &whole, no_change, &diag), ORT_OK);
    for (size_t i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        const forged *one = &forgeries[i];
        const ort_err err = read_forged(&place, &whole, one->change, &diag);
        if (err != ORT_EINVAL || strstr(diag.text, one->says) == NULL) {
            fail_msg("%s: error %d, %s", one->what, err, diag.text);
        }
    }
    ort_buf_fini(&whole);
    close(fd);
    fixture_fini(&f);
    scratch_drop(&place);
}

/* A block that unpacks to more than it says is an error of the unpacking, not a full memory. */
static void
a_bomb_is_refused(void **state)
{
    (void)state;
    scratch place = scratch_make();
    const int fd = new_file(&place, "bomb");
    const size_t huge = 8u << 20;
    char *zeros = calloc(1, huge), *packed = malloc(ZSTD_compressBound(huge));
    const size_t n = ZSTD_compress(packed, ZSTD_compressBound(huge), zeros, huge, 3);
    unsigned char head[24] = {'O', 'R', 'T', 'S', 'N', 'A', 'P', 1, 1};
    ort_put_u32(head + 12, ort_crc32c(0, head, 12));
    assert_int_equal(ort_pwrite_full(fd, head, 16, 0, NULL), ORT_OK);
    for (int pass = 0; pass < 2; pass++) {
        memset(head, 0, sizeof head);
        ort_put_u32(head, 1);
        ort_put_u32(head + 4, (uint32_t)n);
        ort_put_u32(head + 8, pass == 0 ? 4096 : UINT32_MAX);
        ort_put_u32(head + 16, ort_crc32c(0, head, 16));
        ort_put_u32(head + 20, ort_crc32c(0, packed, n));
        assert_int_equal(ort_pwrite_full(fd, head, 24, 16, NULL), ORT_OK);
        assert_int_equal(ort_pwrite_full(fd, packed, n, 40, NULL), ORT_OK);
        ort_diag diag = {""};
        assert_int_equal(read_snapshot(fd, -1, NULL, NULL, &diag), ORT_EINVAL);
        assert_non_null(strstr(diag.text, pass == 0 ? "size" : "sane"));
    }
    free(zeros);
    free(packed);
    close(fd);
    scratch_drop(&place);
}

static void
a_file_of_a_newer_program_is_refused_as_such(void **state)
{
    (void)state;
    scratch place = scratch_make();
    const int fd = new_file(&place, "newer");
    unsigned char head[16] = {'O', 'R', 'T', 'S', 'N', 'A', 'P', 1, 2};
    ort_put_u32(head + 12, ort_crc32c(0, head, 12));
    assert_int_equal(ort_pwrite_full(fd, head, 16, 0, NULL), ORT_OK);
    ort_diag diag = {""};
    assert_int_equal(read_snapshot(fd, -1, NULL, NULL, &diag), ORT_EVERSION);
    close(fd);
    scratch_drop(&place);
}

static void
a_file_ends_at_its_bound(void **state)
{
    (void)state;
    fixture f;
    scratch place = scratch_make();
    fixture_init(&f, one_vector, 0);
    do_op(&f, DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":[1,2,3,4]}]}");
    const int fd = new_file(&place, "first");
    const dp_snapshot_bounds bounds = {.bytes_max = 300};
    dp_snapshot_totals totals;
    assert_int_equal(write_snapshot(f.c, fd, &bounds, &totals, NULL), ORT_EQUOTA);
    /* and the collection is as free as before */
    assert_int_equal(dp_collection_checkpoint(f.c, NULL), ORT_OK);
    close(fd);
    fixture_fini(&f);
    scratch_drop(&place);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_restored_collection_makes_the_same_snapshot),
        cmocka_unit_test(a_large_collection_comes_in_by_several_checkpoints),
        cmocka_unit_test(an_empty_collection_survives_it),
        cmocka_unit_test(a_snapshot_beside_writers_is_of_one_moment),
        cmocka_unit_test(every_cut_and_every_changed_byte_is_refused),
        cmocka_unit_test(forged_files_are_refused_with_the_reason),
        cmocka_unit_test(a_bomb_is_refused),
        cmocka_unit_test(a_file_of_a_newer_program_is_refused_as_such),
        cmocka_unit_test(a_file_ends_at_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
