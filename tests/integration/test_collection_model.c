/* Random operations against a plain model in memory, with restarts and checkpoints in between: what
 * is stored, found, counted and charged is what the model says. ORT_SEED chooses another run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collection_support.h"

#define IDS 48
#define TAGS 3
#define NOTHING (-1)

static const char schema[] =
    "{\"vectors\":{\"v\":{\"size\":2,\"distance\":\"Euclid\"}},\"sparse_vectors\":{\"s\":{}},"
    "\"optimizers_config\":{\"indexing_threshold\":1}}";

static const char *const tags[TAGS] = {"red", "green", "blue"};

typedef struct {
    bool here;
    int n;   /* payload member n, or NOTHING */
    int tag; /* payload member tag, or NOTHING */
    bool has_v;
    int v[2];
    int s; /* weight at index 5 of the sparse vector, or NOTHING */
} model_point;

typedef struct {
    fixture f;
    model_point points[IDS];
    uint64_t seed;
} run;

static uint32_t
below(run *r, uint32_t n)
{
    r->seed = r->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(r->seed >> 33) % n;
}

static void
put_payload(ort_buf *buf, const model_point *p)
{
    ort_buf_puts(buf, "{");
    if (p->n != NOTHING) {
        ort_buf_printf(buf, "\"n\":%d%s", p->n, p->tag != NOTHING ? "," : "");
    }
    if (p->tag != NOTHING) {
        ort_buf_printf(buf, "\"tag\":\"%s\"", tags[p->tag]);
    }
    ort_buf_puts(buf, "}");
}

static void
put_vectors(ort_buf *buf, const model_point *p)
{
    ort_buf_puts(buf, "{");
    if (p->has_v) {
        ort_buf_printf(buf, "\"v\":[%d,%d]%s", p->v[0], p->v[1], p->s != NOTHING ? "," : "");
    }
    if (p->s != NOTHING) {
        ort_buf_printf(buf, "\"s\":{\"indices\":[5],\"values\":[%d]}", p->s);
    }
    ort_buf_puts(buf, "}");
}

static model_point
random_point(run *r)
{
    model_point p = {.here = true, .has_v = below(r, 5) > 0};
    p.n = below(r, 3) > 0 ? (int)below(r, 20) : NOTHING;
    p.tag = below(r, 3) > 0 ? (int)below(r, TAGS) : NOTHING;
    p.v[0] = (int)below(r, 50);
    p.v[1] = (int)below(r, 50);
    p.s = below(r, 2) > 0 ? (int)below(r, 9) + 1 : NOTHING;
    return p;
}

static void
upsert(run *r)
{
    ort_buf buf = {0};
    ort_buf_puts(&buf, "{\"points\":[");
    for (uint32_t n = 1 + below(r, 6), i = 0; i < n; i++) {
        const uint32_t id = below(r, IDS);
        const model_point p = random_point(r);
        ort_buf_printf(&buf, "%s{\"id\":%u,\"payload\":", i > 0 ? "," : "", id);
        put_payload(&buf, &p);
        ort_buf_puts(&buf, ",\"vector\":");
        put_vectors(&buf, &p);
        ort_buf_puts(&buf, "}");
        r->points[id] = p;
    }
    ort_buf_puts(&buf, "]}");
    do_op(&r->f, DP_OP_UPSERT, "%s", ort_buf_peek_cstr(&buf));
    ort_buf_fini(&buf);
}

/* Either two ids or all of a tag: the JSON of the target, and who it is. */
static void
random_target(run *r, char json[128], bool chosen[IDS])
{
    if (below(r, 2)) {
        const uint32_t a = below(r, IDS), b = below(r, IDS);
        for (uint32_t i = 0; i < IDS; i++) {
            chosen[i] = (i == a || i == b) && r->points[i].here;
        }
        snprintf(json, 128, "\"points\":[%u,%u]", a, b);
    } else {
        const int tag = (int)below(r, TAGS);
        for (uint32_t i = 0; i < IDS; i++) {
            chosen[i] = r->points[i].here && r->points[i].tag == tag;
        }
        snprintf(json, 128,
                 "\"filter\":{\"must\":[{\"key\":\"tag\",\"match\":{\"value\":\"%s\"}}]}",
                 tags[tag]);
    }
}

/* Applies to those that are there; others are reported and nothing else. */
static void
change(run *r, dp_op_kind kind, const char *head, const char *target)
{
    char text[512];
    ort_diag diag;
    snprintf(text, sizeof text, "{%s%s%s}", head, head[0] != '\0' ? "," : "", target);
    const ort_err err = try_op(&r->f, kind, text, NULL, &diag);
    if (err != ORT_OK && err != ORT_ENOTFOUND) {
        fail_msg("%s: %s", text, diag.text);
    }
}

static void
change_some(run *r)
{
    char target[128], head[128];
    bool chosen[IDS];
    const int n = (int)below(r, 20);
    const uint32_t what = below(r, 6);
    random_target(r, target, chosen);
    static const dp_op_kind kinds[] = {DP_OP_DELETE,         DP_OP_SET_PAYLOAD,
                                       DP_OP_SET_PAYLOAD,    DP_OP_OVERWRITE_PAYLOAD,
                                       DP_OP_DELETE_PAYLOAD, DP_OP_DELETE_VECTORS};
    static const char *const heads[] = {"",
                                        "\"payload\":{\"n\":%d}",
                                        "\"payload\":{\"tag\":null,\"n\":%d}",
                                        "\"payload\":{\"n\":%d}",
                                        "\"keys\":[\"n\"]",
                                        "\"vector\":[\"v\"]"};
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"");
    snprintf(head, sizeof head, heads[what], n);
    _Pragma("GCC diagnostic pop");
    change(r, kinds[what], head, target);
    for (uint32_t i = 0; i < IDS; i++) {
        model_point *p = &r->points[i];
        if (!chosen[i]) {
            continue;
        }
        p->here = what != 0;
        p->n = what == 4 ? NOTHING : what >= 1 && what <= 3 ? n : p->n;
        p->tag = what == 2 || what == 3 ? NOTHING : p->tag;
        p->has_v = what == 5 ? false : p->has_v;
    }
}

static void
update_vectors(run *r)
{
    const uint32_t id = below(r, IDS);
    const int x = (int)below(r, 50);
    ort_diag diag;
    char text[128];
    snprintf(text, sizeof text, "{\"points\":[{\"id\":%u,\"vector\":{\"v\":[%d,1]}}]}", id, x);
    const ort_err err = try_op(&r->f, DP_OP_UPDATE_VECTORS, text, NULL, &diag);
    assert_int_equal(err, r->points[id].here ? ORT_OK : ORT_ENOTFOUND);
    if (r->points[id].here) {
        r->points[id].has_v = true;
        r->points[id].v[0] = x;
        r->points[id].v[1] = 1;
    }
}

/* --- comparing ----------------------------------------------------------------------------------
 */

static void
compare_point(const model_point *p, const char *payload)
{
    ort_json_doc *doc;
    int64_t n = NOTHING;
    assert_int_equal(ort_json_parse(&doc, payload, strlen(payload), (ort_json_limits){0}, NULL),
                     ORT_OK);
    const ort_json root = ort_json_root(doc);
    if (ort_json_i64(ort_json_get(root, "n"), &n) != ORT_OK) {
        n = NOTHING;
    }
    assert_int_equal(n, p->n);
    assert_int_equal(ort_json_given(ort_json_get(root, "tag")), p->tag != NOTHING);
    if (p->tag != NOTHING) {
        assert_true(ort_json_str_is(ort_json_get(root, "tag"), tags[p->tag]));
    }
    ort_json_free(doc);
}

static void
compare_listing(run *r)
{
    answer got = {0};
    bool more;
    ort_point_id next;
    size_t at = 0;
    assert_int_equal(
        dp_collection_scroll(r->f.c, NULL, NULL, 1000, true, collect, &got, &more, &next, NULL),
        ORT_OK);
    for (uint32_t i = 0; i < IDS; i++) {
        if (r->points[i].here) {
            assert_true(at < got.count);
            assert_int_equal(got.at[at].id.lo, i);
            compare_point(&r->points[i], got.at[at].payload);
            at++;
        }
    }
    assert_int_equal(at, got.count);
    assert_int_equal(count_where(&r->f, NULL), at);
}

static bool
passes(const model_point *p, int tag)
{
    return p->here && (tag == NOTHING || p->tag == tag);
}

/* The k-th nearest of the model is as far as the k-th hit; ids may differ where distances tie. */
static void
compare_search(run *r, int tag, bool exact)
{
    answer got;
    char filter[128];
    const float q[2] = {(float)below(r, 50), (float)below(r, 50)};
    float want[IDS] = {0};
    size_t n = 0;
    snprintf(filter, sizeof filter, "{\"must\":[{\"key\":\"tag\",\"match\":{\"value\":\"%s\"}}]}",
             tag != NOTHING ? tags[tag] : "");
    for (uint32_t i = 0; i < IDS; i++) {
        const model_point *p = &r->points[i];
        if (!passes(p, tag) || !p->has_v) {
            continue;
        }
        const float dx = (float)p->v[0] - q[0], dy = (float)p->v[1] - q[1];
        const float d = dx * dx + dy * dy;
        size_t at = n++;
        for (; at > 0 && want[at - 1] > d; at--) {
            want[at] = want[at - 1];
        }
        want[at] = d;
    }
    nearest(&r->f, "v", q, 2, 10, tag != NOTHING ? filter : NULL, exact, &got);
    assert_int_equal(got.count, n < 10 ? n : 10);
    for (size_t i = 0; i < got.count; i++) {
        const float squared = got.at[i].score * got.at[i].score;
        assert_true(squared - want[i] < 0.01f && want[i] - squared < 0.01f);
    }
}

static void
compare_sparse(run *r)
{
    static const uint32_t index = 5;
    static const float one = 1;
    answer got = {0};
    size_t n = 0;
    const dp_query query = {.kind = DP_QUERY_NEAREST,
                            .vector = {.kind = DP_VECTOR_SPARSE,
                                       .indices = &index,
                                       .values = &one,
                                       .count = 1,
                                       .rows = 1},
                            .using_name = "s",
                            .limit = 100};
    assert_int_equal(dp_collection_query(r->f.c, &query, 1, false, collect, &got, NULL), ORT_OK);
    for (uint32_t i = 0; i < IDS; i++) {
        n += r->points[i].here && r->points[i].s != NOTHING;
    }
    assert_int_equal(got.count, n);
    for (size_t i = 0; i < got.count; i++) {
        assert_int_equal((int)got.at[i].score, r->points[got.at[i].id.lo].s);
        assert_true(i == 0 || got.at[i].score <= got.at[i - 1].score);
    }
}

static void
compare_sizes(run *r)
{
    dp_amount used;
    int64_t points = 0, bytes = 0;
    for (uint32_t i = 0; i < IDS; i++) {
        const model_point *p = &r->points[i];
        if (p->here) {
            ort_buf buf = {0};
            put_payload(&buf, p);
            points++;
            bytes += 17 + (p->has_v ? 8 : 0) + (p->s != NOTHING ? 8 : 0) +
                     (buf.len > 2 ? (int64_t)buf.len : 0);
            ort_buf_fini(&buf);
        }
    }
    dp_quota_usage(r->f.quota, &used, NULL);
    assert_int_equal(used.points, points);
    assert_int_equal(used.bytes, bytes);
}

static void
compare(run *r)
{
    compare_listing(r);
    compare_search(r, NOTHING, true);
    compare_search(r, (int)below(r, TAGS), below(r, 2));
    compare_sparse(r);
    compare_sizes(r);
}

static void
random_operations_agree_with_a_model(void **state)
{
    const char *seed = getenv("ORT_SEED");
    run r = {.seed = seed != NULL ? strtoull(seed, NULL, 10) : 7};
    (void)state;
    fixture_init(&r.f, schema, 1);
    for (int step = 0; step < 1500; step++) {
        const uint32_t what = below(&r, 12);
        if (what < 5) {
            upsert(&r);
        } else if (what < 10) {
            change_some(&r);
        } else {
            update_vectors(&r);
        }
        if (step % 16 == 0) {
            compare(&r);
        }
        if (below(&r, 100) == 0) {
            assert_int_equal(dp_collection_checkpoint(r.f.c, NULL), ORT_OK);
        }
        if (below(&r, 150) == 0) {
            fixture_reopen(&r.f);
            compare(&r);
        }
    }
    fixture_fini(&r.f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
