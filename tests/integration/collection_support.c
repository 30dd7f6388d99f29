/* A collection in a directory of its own, for tests. */
#include "collection_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "support/scratch.h"

static ort_json_doc *
json(const char *text)
{
    ort_json_doc *doc;
    ort_diag diag;
    if (ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, &diag) != ORT_OK) {
        fail_msg("%s: %s", text, diag.text);
    }
    return doc;
}

void
fixture_init(fixture *f, const char *schema, uint32_t threads)
{
    ort_diag diag = {""};
    *f = (fixture){.c = NULL};
    scratch_dir(f->path, sizeof f->path, "orthant-collection");
    f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(f->dir >= 0);
    assert_int_equal(ort_dir_make(f->dir, "data", NULL), ORT_OK);
    assert_int_equal(ort_dir_make(f->dir, "index", NULL), ORT_OK);
    assert_int_equal(dp_quota_new(&f->quota, NULL, "tenant"), ORT_OK);
    ort_json_doc *doc = json(schema);
    if (dp_schema_parse(&f->schema, ort_json_root(doc), &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    ort_json_free(doc);
    if (threads > 0) {
        assert_int_equal(ort_pool_new(&f->workers, "upkeep", threads, 64, NULL), ORT_OK);
    }
    f->env = (dp_collection_env){.workers = f->workers};
    fixture_open(f);
}

void
fixture_open(fixture *f)
{
    const dp_collection_config config = {.tenant = {1},
                                         .id = {2},
                                         .name = "test",
                                         .schema = f->schema,
                                         .quota = f->quota,
                                         .points_max = f->points_max};
    ort_diag diag = {""};
    const int data = openat(f->dir, "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int index = openat(f->dir, "index", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dp_collection_open(&f->c, data, index, &config, &f->env, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    close(data);
    close(index);
}

void
fixture_close(fixture *f)
{
    dp_amount used;
    dp_collection_close(f->c);
    f->c = NULL;
    dp_quota_usage(f->quota, NULL, &used);
    assert_int_equal(used.points, 0);
    assert_int_equal(used.bytes, 0);
}

void
fixture_reopen(fixture *f)
{
    fixture_close(f);
    fixture_open(f);
}

void
fixture_fini(fixture *f)
{
    if (f->c != NULL) {
        fixture_close(f);
    }
    ort_pool_free(f->workers);
    dp_quota_free(f->quota);
    dp_schema_unref(f->schema);
    close(f->dir);
    scratch_remove(f->path);
}

ort_err
try_op(fixture *f, dp_op_kind kind, const char *text, dp_op_result *result, ort_diag *diag)
{
    ort_json_doc *doc = json(text);
    dp_schema *schema = dp_collection_schema(f->c);
    dp_op *op;
    dp_op_result unused;
    ort_err err = dp_op_parse(&op, kind, schema, ort_json_root(doc), diag);
    dp_schema_unref(schema);
    ort_json_free(doc);
    if (err == ORT_OK) {
        err = dp_collection_apply(f->c, op, 0, result != NULL ? result : &unused, diag);
    }
    dp_op_free(op);
    return err;
}

void
do_op(fixture *f, dp_op_kind kind, const char *fmt, ...)
{
    ort_diag diag = {""};
    char *text;
    va_list args;
    va_start(args, fmt);
    assert_true(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    if (try_op(f, kind, text, NULL, &diag) != ORT_OK) {
        fail_msg("%s: %s", text, diag.text);
    }
    free(text);
}

dp_filter *
make_filter(const char *text)
{
    ort_diag diag = {""};
    dp_filter *filter = NULL;
    if (text != NULL) {
        ort_json_doc *doc = json(text);
        if (dp_filter_parse(&filter, ort_json_root(doc), "filter", &diag) != ORT_OK) {
            fail_msg("%s: %s", text, diag.text);
        }
        ort_json_free(doc);
    }
    return filter;
}

ort_err
collect(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    answer *out = ctx;
    (void)schema;
    if (out->count < ANSWER_MAX) {
        out->at[out->count].query = query;
        out->at[out->count].id = view->id;
        out->at[out->count].score = view->score;
        out->at[out->count].version = view->version;
        snprintf(out->at[out->count].payload, sizeof out->at[0].payload, "%.*s",
                 (int)view->payload_len, view->payload != NULL ? view->payload : "");
    }
    out->count++;
    return ORT_OK;
}

uint64_t
count_where(fixture *f, const char *text)
{
    dp_filter *filter = make_filter(text);
    uint64_t count;
    ort_diag diag = {""};
    if (dp_collection_count(f->c, filter, &count, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    dp_filter_free(filter);
    return count;
}

void
nearest(fixture *f, const char *name, const float *vector, uint32_t dim, uint64_t limit,
        const char *filter_text, bool exact, answer *out)
{
    dp_filter *filter = make_filter(filter_text);
    ort_diag diag = {""};
    const dp_query query = {
        .kind = DP_QUERY_NEAREST,
        .vector = {.kind = DP_VECTOR_DENSE, .values = vector, .count = dim, .rows = 1},
        .using_name = name,
        .filter = filter,
        .limit = limit,
        .exact = exact};
    out->count = 0;
    if (dp_collection_query(f->c, &query, 1, true, collect, out, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    dp_filter_free(filter);
}
