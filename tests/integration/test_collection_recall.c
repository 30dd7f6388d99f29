/* Recall of a collection's searches against its own exact scan, while points come and go, and after
 * a restart. On the first vectors of notes-384 (cosine), default parameters; skipped without it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_write.h"
#include "collection_support.h"
#include "unit/index_support.h"

#define POINTS 3000u
#define QUERIES 60u
#define K 10u

static const char schema[] = "{\"vectors\":{\"size\":384,\"distance\":\"Cosine\"},\"optimizers_"
                             "config\":{\"indexing_threshold\":1}}";

typedef struct {
    fixture f;
    float *vectors;
    size_t count;
    uint32_t dim;
} run;

static void
upsert(run *r, size_t first, size_t count, uint64_t id_offset)
{
    ort_buf buf = {0};
    ort_jw w = {.buf = &buf};
    ort_jw_object(&w);
    ort_jw_key(&w, "points");
    ort_jw_array(&w);
    for (size_t i = first; i < first + count; i++) {
        ort_jw_object(&w);
        ort_jw_key(&w, "id");
        ort_jw_u64(&w, i + id_offset);
        ort_jw_key(&w, "vector");
        ort_jw_floats(&w, r->vectors + i * r->dim, r->dim);
        ort_jw_key(&w, "payload");
        ort_jw_object(&w);
        ort_jw_key(&w, "group");
        ort_jw_u64(&w, i % 10);
        ort_jw_key(&w, "rare");
        ort_jw_bool(&w, i % 100 == 0);
        ort_jw_object_end(&w);
        ort_jw_object_end(&w);
    }
    ort_jw_array_end(&w);
    ort_jw_object_end(&w);
    do_op(&r->f, DP_OP_UPSERT, "%s", ort_buf_peek_cstr(&buf));
    ort_buf_fini(&buf);
}

/* The share of the exact answer that the walk finds; by score, so that ties do not matter. */
static double
recall(run *r, const char *filter)
{
    size_t found = 0, wanted = 0;
    answer *exact = calloc(1, sizeof *exact), *got = calloc(1, sizeof *got);
    if (exact == NULL || got == NULL) {
        fail_msg("out of memory");
        abort();
    }
    for (uint32_t q = 0; q < QUERIES; q++) {
        const float *vector = r->vectors + (POINTS + q) * r->dim;
        nearest(&r->f, NULL, vector, r->dim, K, filter, true, exact);
        nearest(&r->f, NULL, vector, r->dim, K, filter, false, got);
        assert_int_equal(exact->count, got->count);
        wanted += exact->count;
        for (size_t i = 0; i < got->count; i++) {
            found += got->at[i].score >= exact->at[exact->count - 1].score - 1e-5f;
        }
    }
    free(exact);
    free(got);
    return (double)found / (double)wanted;
}

static void
assert_recall(run *r, const char *filter, const char *when)
{
    const double is = recall(r, filter);
    printf("recall@10 %.3f %s%s%s\n", is, when, filter != NULL ? " with " : "",
           filter != NULL ? filter : "");
    if (is < 0.95) {
        fail_msg("recall@10 is %.3f %s", is, when);
    }
}

static void
wait_indexed(run *r)
{
    assert_int_equal(dp_collection_wait_indexed(r->f.c, ort_mono_ns() + UINT64_C(240000000000)),
                     ORT_OK);
}

static void
searches_find_the_nearest_while_points_come_and_go(void **state)
{
    static const char tenth[] = "{\"must\":[{\"key\":\"group\",\"match\":{\"value\":3}}]}";
    static const char hundredth[] = "{\"must\":[{\"key\":\"rare\",\"match\":{\"value\":true}}]}";
    run r;
    dp_collection_info info;
    (void)state;
    r.vectors = test_dataset("notes-384.base", POINTS + QUERIES, &r.count, &r.dim);
    if (r.vectors == NULL || r.count < POINTS + QUERIES) {
        free(r.vectors);
        skip();
    }
    fixture_init(&r.f, schema, 1);
    for (size_t i = 0; i < POINTS; i += 100) {
        upsert(&r, i, 100, 0);
        if (i == 1000 || i == 2000) {
            assert_recall(&r, NULL, "while indexing");
        }
    }
    wait_indexed(&r);
    dp_collection_get_info(r.f.c, &info);
    assert_int_equal(info.indexed_vectors, POINTS);
    assert_true(info.green);
    assert_recall(&r, NULL, "indexed");
    assert_recall(&r, tenth, "indexed");
    assert_recall(&r, hundredth, "indexed");

    /* A third goes, some of it comes back under other ids, some is written anew in place. */
    do_op(&r.f, DP_OP_DELETE,
          "{\"filter\":{\"must\":[{\"key\":\"group\",\"match\":{\"any\":[0,1,2]}}]}}");
    assert_recall(&r, NULL, "after deleting a third");
    upsert(&r, 0, 300, 100000);
    upsert(&r, 1500, 300, 0);
    assert_recall(&r, NULL, "after updates");
    wait_indexed(&r);
    assert_recall(&r, NULL, "indexed again");
    assert_int_equal(dp_collection_checkpoint(r.f.c, NULL), ORT_OK);
    assert_recall(&r, NULL, "after a checkpoint");

    dp_collection_get_info(r.f.c, &info);
    const uint64_t before = info.indexed_vectors;
    r.f.env.workers = NULL; /* then nothing is built: what there is was found */
    fixture_reopen(&r.f);
    dp_collection_get_info(r.f.c, &info);
    assert_int_equal(info.indexed_vectors, before);
    assert_recall(&r, NULL, "found again");
    r.f.env.workers = r.f.workers;
    fixture_reopen(&r.f);
    assert_recall(&r, NULL, "right after a restart");
    wait_indexed(&r);
    dp_collection_get_info(r.f.c, &info);
    assert_int_equal(info.indexed_vectors, before);
    assert_recall(&r, NULL, "after a restart");
    fixture_fini(&r.f);
    free(r.vectors);
}

static void
set_quantization(run *r, const char *config)
{
    ort_diag diag;
    ort_json_doc *doc;
    dp_schema *old = dp_collection_schema(r->f.c), *fresh;
    char body[160];
    snprintf(body, sizeof body, "{\"quantization_config\":%s}", config);
    assert_int_equal(ort_json_parse(&doc, body, strlen(body), (ort_json_limits){0}, &diag), ORT_OK);
    assert_int_equal(dp_schema_patch(&fresh, old, ort_json_root(doc), &diag), ORT_OK);
    ort_json_free(doc);
    dp_collection_set_schema(r->f.c, fresh);
    dp_schema_unref(old);
    dp_schema_unref(r->f.schema); /* what it is opened with the next time */
    r->f.schema = fresh;
}

/* A quantization_config that is set later changes what walks go over, not what they find. */
static void
codes_follow_the_settings(void **state)
{
    static const struct {
        const char *config;
        size_t row_bytes; /* of 384 components */
    } kinds[] = {{"{\"binary\":{}}", 60},
                 {"{\"scalar\":{\"type\":\"int8\",\"quantile\":0.99}}", 400},
                 {"{\"product\":{\"compression\":\"x32\"}}", 48},
                 {"{\"turbo\":{\"bits\":\"bits2\"}}", 108},
                 {"\"Disabled\"", 204}};
    run r;
    (void)state;
    r.vectors = test_dataset("notes-384.base", POINTS + QUERIES, &r.count, &r.dim);
    if (r.vectors == NULL || r.count < POINTS + QUERIES) {
        free(r.vectors);
        skip();
    }
    fixture_init(&r.f, schema, 1);
    for (size_t i = 0; i < 1500; i += 100) {
        upsert(&r, i, 100, 0);
    }
    wait_indexed(&r);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const uint64_t until = ort_mono_ns() + UINT64_C(240000000000);
        dp_collection_info info;
        set_quantization(&r, kinds[k].config);
        do {
            struct timespec nap = {.tv_nsec = 20000000};
            nanosleep(&nap, NULL);
            dp_collection_get_info(r.f.c, &info);
            if (ort_mono_ns() > until) {
                fail_msg("%s: %llu bytes of codes", kinds[k].config,
                         (unsigned long long)info.code_bytes);
            }
        } while (info.code_bytes != kinds[k].row_bytes * 1500);
        assert_recall(&r, NULL, kinds[k].config);
        fixture_reopen(&r.f);
        wait_indexed(&r);
        assert_recall(&r, NULL, "and after a restart");
    }
    fixture_fini(&r.f);
    free(r.vectors);
}

/* --- several examples ------------------------------------------------------------------------ */

#define PAIRS \
    64u /* so many that scoring every point would read more than query_examples.c's bound */

static const answer *
by_examples(run *r, const dp_examples *examples, bool exact, answer *out)
{
    const dp_query query = {
        .kind = DP_QUERY_EXAMPLES, .examples = examples, .limit = K, .exact = exact};
    ort_diag diag = {""};
    out->count = 0;
    if (dp_collection_query(r->f.c, &query, 1, false, collect, out, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    return out;
}

/* Examples are rows by chance: a walk around one of them alone finds nothing that suits the others.
 */
static double
examples_recall(run *r, dp_examples_kind kind, uint32_t positive, uint32_t negative, bool target)
{
    dp_vector vectors[2 * PAIRS + 1];
    uint32_t found = 0, wanted = 0, seed = 1;
    answer *exact = calloc(1, sizeof *exact), *got = calloc(1, sizeof *got);
    for (uint32_t q = 0; q < 4; q++) {
        for (uint32_t i = 0; i < 2 * PAIRS + 1; i++) {
            seed = seed * 1664525 + 1013904223;
            const size_t row = i < 2 * PAIRS ? (seed >> 8) % POINTS : POINTS + q;
            vectors[i] = (dp_vector){.kind = DP_VECTOR_DENSE,
                                     .values = r->vectors + row * r->dim,
                                     .count = r->dim,
                                     .rows = 1};
        }
        const dp_examples examples = {.kind = kind,
                                      .target = target ? &vectors[2 * PAIRS] : NULL,
                                      .positive = vectors,
                                      .negative = vectors + PAIRS,
                                      .positive_count = positive,
                                      .negative_count = negative};
        by_examples(r, &examples, true, exact);
        by_examples(r, &examples, false, got);
        assert_int_equal(exact->count, K);
        assert_int_equal(got->count, K);
        wanted += K;
        for (size_t i = 0; i < K; i++) {
            found += got->at[i].score >= exact->at[K - 1].score - 1e-6f;
        }
    }
    free(exact);
    free(got);
    return (double)found / (double)wanted;
}

static void
examples_find_what_scoring_every_point_would(void **state)
{
    static const struct {
        const char *name;
        dp_examples_kind kind;
        uint32_t positive, negative;
        bool target;
    } forms[] = {{"sum_scores", DP_EXAMPLES_SUM, PAIRS, PAIRS - 1, false},
                 {"best_score", DP_EXAMPLES_BEST, PAIRS, PAIRS, false},
                 {"context", DP_EXAMPLES_CONTEXT, PAIRS, PAIRS, false}};
    run r;
    (void)state;
    r.vectors = test_dataset("notes-384.base", POINTS + QUERIES, &r.count, &r.dim);
    if (r.vectors == NULL || r.count < POINTS + QUERIES) {
        free(r.vectors);
        skip();
    }
    fixture_init(&r.f, schema, 1);
    for (size_t i = 0; i < POINTS; i += 500) {
        upsert(&r, i, 500, 0);
    }
    wait_indexed(&r);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const double is = examples_recall(&r, forms[i].kind, forms[i].positive, forms[i].negative,
                                          forms[i].target);
        printf("recall@10 %.3f %s\n", is, forms[i].name);
        if (is < 0.9) {
            fail_msg("%s: recall@10 is %.3f", forms[i].name, is);
        }
    }
    fixture_fini(&r.f);
    free(r.vectors);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(searches_find_the_nearest_while_points_come_and_go),
        cmocka_unit_test(codes_follow_the_settings),
        cmocka_unit_test(examples_find_what_scoring_every_point_would),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
