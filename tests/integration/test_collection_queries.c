/* Queries by examples and by a payload field against a plain model in memory: random points, random
 * queries, with and without payload indexes, before and after updates, deletes and a restart.
 * Components are small whole numbers, so that what is computed is exact. ORT_SEED chooses another
 * run.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "collection_support.h"

#define POINTS 300
#define DIM 3
#define ROWS_MAX 3
#define WORDS 6 /* indices of sparse vectors */
#define EXAMPLES 6

static const char schema[] =
    "{\"vectors\":{\"d\":{\"size\":3,\"distance\":\"Dot\"},\"e\":{\"size\":3,\"distance\":"
    "\"Euclid\"},"
    "\"m\":{\"size\":3,\"distance\":\"Dot\",\"multivector_config\":{\"comparator\":\"max_sim\"}}},"
    "\"sparse_vectors\":{\"s\":{}},\"optimizers_config\":{\"indexing_threshold\":1}}";

/* One vector of any kind. */
typedef struct {
    bool here;
    uint32_t rows; /* of `m` */
    float v[ROWS_MAX * DIM];
    float words[WORDS]; /* 0: no such entry */
} model_vector;

typedef struct {
    bool here;
    model_vector d, e, m, s;
    int n[3];
    uint32_t n_count;
    int tag;
} model_point;

typedef struct {
    fixture f;
    model_point points[POINTS];
    uint64_t seed;
} run;

static uint32_t
below(run *r, uint32_t n)
{
    r->seed = r->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(r->seed >> 33) % n;
}

static model_vector
random_vector(run *r, bool sparse, uint32_t rows)
{
    model_vector v = {.here = true, .rows = rows};
    for (uint32_t i = 0; !sparse && i < rows * DIM; i++) {
        v.v[i] = (float)below(r, 7) - 3;
    }
    for (uint32_t i = 0; sparse && i < WORDS; i++) {
        v.words[i] = below(r, 2) > 0 ? (float)below(r, 5) - 2 : 0;
    }
    return v;
}

/* --- as JSON ------------------------------------------------------------------------------------
 */

static void
put_rows(ort_buf *buf, const model_vector *v, bool several)
{
    ort_buf_puts(buf, several ? "[" : "");
    for (uint32_t i = 0; i < v->rows; i++) {
        ort_buf_printf(buf, "%s[%g,%g,%g]", i > 0 ? "," : "", (double)v->v[i * DIM],
                       (double)v->v[i * DIM + 1], (double)v->v[i * DIM + 2]);
    }
    ort_buf_puts(buf, several ? "]" : "");
}

static void
put_sparse(ort_buf *buf, const model_vector *v)
{
    for (int part = 0; part < 2; part++) {
        bool first = true;
        ort_buf_puts(buf, part == 0 ? "{\"indices\":[" : "],\"values\":[");
        for (uint32_t i = 0; i < WORDS; i++) {
            if (v->words[i] != 0) {
                ort_buf_puts(buf, first ? "" : ",");
                first = false;
                if (part == 0) {
                    ort_buf_printf(buf, "%u", i);
                } else {
                    ort_buf_printf(buf, "%g", (double)v->words[i]);
                }
            }
        }
    }
    ort_buf_puts(buf, "]}");
}

static void
upsert(run *r, uint32_t id)
{
    model_point *p = &r->points[id];
    ort_buf buf = {0};
    *p = (model_point){.here = true, .n_count = below(r, 4), .tag = (int)below(r, 3)};
    p->d = random_vector(r, false, 1);
    p->e = random_vector(r, false, 1);
    p->m = below(r, 4) > 0 ? random_vector(r, false, 1 + below(r, ROWS_MAX)) : p->m;
    p->s = below(r, 4) > 0 ? random_vector(r, true, 0) : p->s;
    ort_buf_printf(&buf, "{\"points\":[{\"id\":%u,\"payload\":{\"tag\":%d,\"n\":[", id, p->tag);
    for (uint32_t i = 0; i < p->n_count; i++) {
        p->n[i] = (int)below(r, 40) - 20;
        ort_buf_printf(&buf, "%s%d", i > 0 ? "," : "", p->n[i]);
    }
    ort_buf_puts(&buf, "]},\"vector\":{\"d\":");
    put_rows(&buf, &p->d, false);
    ort_buf_puts(&buf, ",\"e\":");
    put_rows(&buf, &p->e, false);
    if (p->m.here) {
        ort_buf_puts(&buf, ",\"m\":");
        put_rows(&buf, &p->m, true);
    }
    if (p->s.here) {
        ort_buf_puts(&buf, ",\"s\":");
        put_sparse(&buf, &p->s);
    }
    ort_buf_puts(&buf, "}}]}");
    do_op(&r->f, DP_OP_UPSERT, "%s", ort_buf_peek_cstr(&buf));
    ort_buf_fini(&buf);
}

/* --- the model's likeness -----------------------------------------------------------------------
 */

static float
row_likeness(char kind, const float *a, const float *b)
{
    float sum = 0;
    for (int i = 0; i < DIM; i++) {
        sum += kind == 'e' ? -(a[i] - b[i]) * (a[i] - b[i]) : a[i] * b[i];
    }
    return sum;
}

static float
likeness(char kind, const model_vector *a, const model_vector *b)
{
    float sum = 0;
    if (kind == 's') {
        for (int i = 0; i < WORDS; i++) {
            sum += a->words[i] * b->words[i];
        }
        return sum;
    }
    for (uint32_t i = 0; i < a->rows; i++) {
        float best = -INFINITY;
        for (uint32_t k = 0; k < b->rows; k++) {
            const float s = row_likeness(kind, a->v + i * DIM, b->v + k * DIM);
            best = s > best ? s : best;
        }
        sum += best;
    }
    return sum;
}

static float
squash(float x)
{
    return x / (1 + fabsf(x));
}

typedef struct {
    char kind;
    dp_examples ex;
    model_vector target, good[EXAMPLES], bad[EXAMPLES];
    float weights[EXAMPLES];
} question;

static float
expected_score(const question *q, const model_vector *v)
{
    const dp_examples *ex = &q->ex;
    float good = -INFINITY, bad = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < ex->positive_count; i++) {
        const float s = likeness(q->kind, &q->good[i], v);
        good = s > good ? s : good;
        sum += ex->kind == DP_EXAMPLES_SUM ? s : 0;
    }
    for (uint32_t i = 0; i < ex->negative_count; i++) {
        const float s = likeness(q->kind, &q->bad[i], v);
        bad = s > bad ? s : bad;
        sum -= ex->kind == DP_EXAMPLES_SUM ? s : 0;
    }
    if (ex->kind == DP_EXAMPLES_SUM) {
        return sum;
    }
    if (ex->kind == DP_EXAMPLES_BEST) {
        return good > bad ? 0.5F * (squash(good) + 1) : -0.5F * (squash(bad) + 1);
    }
    for (uint32_t i = 0; i < ex->positive_count; i++) {
        const float p = likeness(q->kind, &q->good[i], v), n = likeness(q->kind, &q->bad[i], v);
        sum += ex->kind == DP_EXAMPLES_DISCOVER  ? (float)((p > n) - (p < n))
               : ex->kind == DP_EXAMPLES_CONTEXT ? squash(fminf(p - n - FLT_EPSILON, 0))
                                                 : q->weights[i] * (p - n);
    }
    if (ex->target != NULL) {
        const float s = likeness(q->kind, &q->target, v);
        sum += ex->kind == DP_EXAMPLES_DISCOVER ? 0.5F * (squash(s) + 1) : ex->a * s;
    }
    return sum;
}

/* --- asking -------------------------------------------------------------------------------------
 */

typedef struct {
    uint32_t id;
    float score;
    int64_t value;
} got;

typedef struct {
    got list[3 * POINTS];
    size_t count;
} answers;

static ort_err
take(void *ctx, size_t query, const dp_schema *s, const dp_point_view *view)
{
    answers *a = ctx;
    (void)query;
    (void)s;
    assert_true(a->count < sizeof a->list / sizeof *a->list);
    a->list[a->count++] = (got){.id = (uint32_t)view->id.lo,
                                .score = view->score,
                                .value = view->order != NULL ? view->order->integer : 0};
    return ORT_OK;
}

static void
ask(run *r, const dp_query *query, answers *out)
{
    ort_diag diag = {""};
    out->count = 0;
    if (dp_collection_query(r->f.c, query, 1, false, take, out, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
}

static dp_vector
borrow(char kind, const model_vector *v, uint32_t indices[WORDS], float values[WORDS])
{
    if (kind != 's') {
        return (dp_vector){.kind = kind == 'm' ? DP_VECTOR_MULTI : DP_VECTOR_DENSE,
                           .values = v->v,
                           .count = DIM,
                           .rows = v->rows};
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < WORDS; i++) {
        if (v->words[i] != 0) {
            indices[n] = i;
            values[n++] = v->words[i];
        }
    }
    return (dp_vector){
        .kind = DP_VECTOR_SPARSE, .indices = indices, .values = values, .count = n, .rows = 1};
}

static const model_vector *
vector_of(const model_point *p, char kind)
{
    return kind == 'd' ? &p->d : kind == 'e' ? &p->e : kind == 'm' ? &p->m : &p->s;
}

static int
falling(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return x > y ? -1 : x < y;
}

/* The scores of an answer are the best there are, and each is that of its point. */
static void
compare_scores(run *r, const question *q, int tag, const answers *have, size_t limit)
{
    float want[POINTS];
    size_t n = 0;
    for (uint32_t i = 0; i < POINTS; i++) {
        const model_vector *v = vector_of(&r->points[i], q->kind);
        if (r->points[i].here && v->here && (tag < 0 || r->points[i].tag == tag)) {
            want[n++] = expected_score(q, v);
        }
    }
    qsort(want, n, sizeof *want, falling);
    assert_int_equal(have->count, n < limit ? n : limit);
    for (size_t i = 0; i < have->count; i++) {
        const model_vector *v = vector_of(&r->points[have->list[i].id], q->kind);
        assert_true(fabsf(have->list[i].score - want[i]) < 1e-5F);
        assert_true(fabsf(have->list[i].score - expected_score(q, v)) < 1e-5F);
    }
}

static void
ask_by_examples(run *r)
{
    static const char kinds[] = "dems";
    static const dp_examples_kind forms[] = {DP_EXAMPLES_BEST, DP_EXAMPLES_SUM,
                                             DP_EXAMPLES_DISCOVER, DP_EXAMPLES_CONTEXT,
                                             DP_EXAMPLES_FEEDBACK};
    question q = {.kind = kinds[below(r, 4)], .ex = {.kind = forms[below(r, 5)]}};
    dp_vector target, good[EXAMPLES], bad[EXAMPLES];
    uint32_t indices[2 * EXAMPLES + 1][WORDS];
    float values[2 * EXAMPLES + 1][WORDS];
    char filter_text[64];
    answers have;
    const bool pairs = q.ex.kind != DP_EXAMPLES_BEST && q.ex.kind != DP_EXAMPLES_SUM;
    const int tag = (int)below(r, 4) - 1;

    q.ex.positive_count = below(r, EXAMPLES + 1);
    q.ex.negative_count = pairs ? q.ex.positive_count : below(r, EXAMPLES + 1);
    if (!pairs && q.ex.positive_count + q.ex.negative_count == 0) {
        q.ex.positive_count = 1;
    }
    for (uint32_t i = 0; i < EXAMPLES; i++) {
        const uint32_t rows = q.kind == 'm' ? 1 + below(r, ROWS_MAX) : 1;
        q.good[i] = random_vector(r, q.kind == 's', rows);
        q.bad[i] = random_vector(r, q.kind == 's', rows);
        q.weights[i] = (float)below(r, 4);
        good[i] = borrow(q.kind, &q.good[i], indices[i], values[i]);
        bad[i] = borrow(q.kind, &q.bad[i], indices[EXAMPLES + i], values[EXAMPLES + i]);
    }
    q.target = random_vector(r, q.kind == 's', 1);
    target = borrow(q.kind, &q.target, indices[2 * EXAMPLES], values[2 * EXAMPLES]);
    q.ex.positive = good;
    q.ex.negative = bad;
    q.ex.weights = q.weights;
    q.ex.a = 2;
    q.ex.target =
        q.ex.kind == DP_EXAMPLES_DISCOVER || q.ex.kind == DP_EXAMPLES_FEEDBACK ? &target : NULL;
    snprintf(filter_text, sizeof filter_text,
             tag < 0 ? "{}" : "{\"must\":{\"key\":\"tag\",\"match\":{\"value\":%d}}}", tag);
    dp_filter *filter = make_filter(filter_text);
    const char name[2] = {q.kind, '\0'};
    const dp_query query = {.kind = DP_QUERY_EXAMPLES,
                            .examples = &q.ex,
                            .using_name = name,
                            .filter = filter,
                            .limit = 1 + below(r, POINTS)};
    ask(r, &query, &have);
    compare_scores(r, &q, tag, &have, query.limit);
    dp_filter_free(filter);
}

/* --- orders -------------------------------------------------------------------------------------
 */

static int
rising(const void *a, const void *b)
{
    const got *x = a;
    const got *y = b;
    if (x->value != y->value) {
        return x->value < y->value ? -1 : 1;
    }
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Every different value of every point that passes, in order. */
static void
expect_order(const run *r, const dp_order *order, int tag, answers *out)
{
    out->count = 0;
    for (uint32_t i = 0; i < POINTS; i++) {
        const model_point *p = &r->points[i];
        for (uint32_t k = 0; p->here && (tag < 0 || p->tag == tag) && k < p->n_count; k++) {
            bool again = false;
            for (uint32_t before = 0; before < k; before++) {
                again = again || p->n[before] == p->n[k];
            }
            const bool reached =
                !order->has_from || (order->descending ? p->n[k] <= order->from.integer
                                                       : p->n[k] >= order->from.integer);
            if (!again && reached) {
                out->list[out->count++] = (got){.id = i, .value = p->n[k]};
            }
        }
    }
    qsort(out->list, out->count, sizeof *out->list, rising);
    for (size_t i = 0; order->descending && i < out->count / 2; i++) {
        const got swap = out->list[i];
        out->list[i] = out->list[out->count - 1 - i];
        out->list[out->count - 1 - i] = swap;
    }
}

static void
ask_by_order(run *r)
{
    dp_path *path;
    char filter_text[64];
    answers have, want;
    const int tag = (int)below(r, 4) - 1;
    assert_int_equal(dp_path_parse(&path, "n", 1, NULL), ORT_OK);
    dp_order order = {.path = path, .descending = below(r, 2) > 0, .has_from = below(r, 2) > 0};
    order.from.integer = (int64_t)below(r, 44) - 22;
    snprintf(filter_text, sizeof filter_text,
             tag < 0 ? "{}" : "{\"must\":{\"key\":\"tag\",\"match\":{\"value\":%d}}}", tag);
    dp_filter *filter = make_filter(filter_text);
    const dp_query query = {.kind = DP_QUERY_ORDER,
                            .order = &order,
                            .filter = filter,
                            .limit = 1 + below(r, 2 * POINTS),
                            .offset = below(r, 3) > 0 ? 0 : below(r, 100)};
    ask(r, &query, &have);
    expect_order(r, &order, tag, &want);
    const size_t from = query.offset < want.count ? (size_t)query.offset : want.count;
    const size_t n = want.count - from < query.limit ? want.count - from : (size_t)query.limit;
    assert_int_equal(have.count, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(have.list[i].id, want.list[from + i].id);
        assert_int_equal(have.list[i].value, want.list[from + i].value);
    }
    dp_filter_free(filter);
    dp_path_free(path);
}

/* A sample has no point twice, none that does not pass, and as many as it can. */
static void
ask_for_sample(run *r)
{
    static const char text[] = "{\"must\":{\"key\":\"tag\",\"match\":{\"value\":1}}}";
    bool seen[POINTS] = {false};
    size_t there = 0;
    answers have;
    dp_filter *filter = make_filter(text);
    const dp_query query = {
        .kind = DP_QUERY_SAMPLE, .filter = filter, .limit = 1 + below(r, POINTS)};
    ask(r, &query, &have);
    for (uint32_t i = 0; i < POINTS; i++) {
        there += r->points[i].here && r->points[i].tag == 1;
    }
    assert_int_equal(have.count, there < query.limit ? there : query.limit);
    for (size_t i = 0; i < have.count; i++) {
        const uint32_t id = have.list[i].id;
        assert_true(r->points[id].here && r->points[id].tag == 1 && !seen[id]);
        seen[id] = true;
    }
    dp_filter_free(filter);
}

typedef struct {
    uint64_t counts[64]; /* of value i - 20 */
    int64_t last;
    bool any;
} facet_answer;

static ort_err
take_facet(void *ctx, const dp_payload_value *value, uint64_t count)
{
    facet_answer *a = ctx;
    assert_true(!a->any || value->integer > a->last);
    assert_in_range(value->integer + 20, 0, 63);
    assert_true(count > 0);
    a->any = true;
    a->last = value->integer;
    a->counts[value->integer + 20] = count;
    return ORT_OK;
}

/* The index counts what the model counts. */
static void
ask_for_facet(run *r)
{
    facet_answer have = {.any = false};
    uint64_t want[64] = {0}, points = 0, told = 0;
    const int tag = (int)below(r, 3);
    char text[64];
    snprintf(text, sizeof text, "{\"must\":{\"key\":\"tag\",\"match\":{\"value\":%d}}}", tag);
    dp_filter *filter = make_filter(text);
    assert_int_equal(dp_collection_facet(r->f.c, "n", 1, filter, take_facet, &have, NULL), ORT_OK);
    for (uint32_t i = 0; i < POINTS; i++) {
        const model_point *p = &r->points[i];
        points += p->here && p->n_count > 0;
        for (int v = -20; v < 20 && p->here && p->tag == tag; v++) {
            bool has = false;
            for (uint32_t k = 0; k < p->n_count; k++) {
                has = has || p->n[k] == v;
            }
            want[v + 20] += has;
        }
    }
    assert_memory_equal(have.counts, want, sizeof want);
    assert_true(dp_collection_field_points(r->f.c, "n", 1, &told));
    assert_int_equal(told, points);
    assert_int_equal(dp_collection_facet(r->f.c, "nowhere", 7, filter, take_facet, &have, NULL),
                     ORT_ENOTFOUND);
    dp_filter_free(filter);
}

static void
declare(run *r, const char *field, const char *kind)
{
    ort_json_doc *doc;
    dp_schema *old = dp_collection_schema(r->f.c), *fresh;
    assert_int_equal(ort_json_parse(&doc, kind, strlen(kind), (ort_json_limits){0}, NULL), ORT_OK);
    assert_int_equal(
        dp_schema_set_field(&fresh, old, field, strlen(field), ort_json_root(doc), NULL), ORT_OK);
    dp_collection_set_schema(r->f.c, fresh);
    dp_schema_unref(r->f.schema);
    r->f.schema = fresh;
    dp_schema_unref(old);
    ort_json_free(doc);
}

static void
ask_all(run *r, int times)
{
    for (int i = 0; i < times; i++) {
        ask_by_examples(r);
        ask_by_order(r);
        ask_for_sample(r);
    }
}

static void
answers_are_those_of_the_model(void **state)
{
    (void)state;
    run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    const char *seed = getenv("ORT_SEED");
    r->seed = seed != NULL ? strtoull(seed, NULL, 10) : 20261121;
    print_message("ORT_SEED=%llu\n", (unsigned long long)r->seed);
    fixture_init(&r->f, schema, 1);
    for (uint32_t i = 0; i < POINTS; i++) {
        upsert(r, i);
    }
    ask_all(r, 60);
    declare(r, "n", "\"integer\"");
    declare(r, "tag", "\"integer\"");
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 40; i++) {
            const uint32_t id = below(r, POINTS);
            if (below(r, 3) > 0) {
                upsert(r, id);
            } else {
                do_op(&r->f, DP_OP_DELETE, "{\"points\":[%u]}", id);
                r->points[id].here = false;
            }
        }
        ask_all(r, 15);
        assert_int_equal(dp_collection_wait_indexed(r->f.c, ort_mono_ns() + UINT64_C(240000000000)),
                         ORT_OK);
        ask_all(r, 30);
        ask_for_facet(r);
        if (round % 2 == 1) {
            fixture_reopen(&r->f);
        }
    }
    fixture_fini(&r->f);
    free(r);
}

#define MANY 10000u
#define VALUES 997u

static uint32_t
value_of(uint32_t id)
{
    return id * 7919u % VALUES;
}

/* Where many points pass a filter, the index is walked and the filter is asked as bits. */
static void
an_order_over_many_matches_is_walked(void **state)
{
    (void)state;
    run *r = calloc(1, sizeof *r);
    answers have;
    dp_path *path;
    assert_non_null(r);
    fixture_init(&r->f, schema, 1);
    for (uint32_t from = 0; from < MANY; from += 1000) {
        ort_buf buf = {0};
        for (uint32_t i = from; i < from + 1000; i++) {
            ort_buf_printf(&buf, "%s{\"id\":%u,\"vector\":{},\"payload\":{\"n\":%u,\"odd\":%s}}",
                           i > from ? "," : "", i, value_of(i), i % 2 > 0 ? "true" : "false");
        }
        do_op(&r->f, DP_OP_UPSERT, "{\"points\":[%s]}", ort_buf_peek_cstr(&buf));
        ort_buf_fini(&buf);
    }
    declare(r, "n", "\"integer\"");
    assert_int_equal(dp_collection_wait_indexed(r->f.c, ort_mono_ns() + UINT64_C(240000000000)),
                     ORT_OK);
    assert_int_equal(dp_path_parse(&path, "n", 1, NULL), ORT_OK);
    dp_filter *filter = make_filter("{\"must\":{\"key\":\"odd\",\"match\":{\"value\":true}}}");
    const dp_order order = {
        .path = path, .descending = true, .has_from = true, .from = {.integer = 500}};
    const dp_query query = {
        .kind = DP_QUERY_ORDER, .order = &order, .filter = filter, .limit = 200, .offset = 3};
    ask(r, &query, &have);
    assert_int_equal(have.count, 200);
    size_t at = 0;
    uint32_t skipped = 0;
    for (uint32_t value = 501; value-- > 0 && at < 200;) {
        for (uint32_t id = MANY; id-- > 0 && at < 200;) {
            if (id % 2 == 0 || value_of(id) != value || skipped++ < 3) {
                continue;
            }
            assert_int_equal(have.list[at].id, id);
            assert_int_equal(have.list[at].value, value);
            at++;
        }
    }
    dp_filter_free(filter);
    dp_path_free(path);
    fixture_fini(&r->f);
    free(r);
}

/* What has no graph is compared one by one, and may be more than a request's time is worth. */
static void
comparisons_end_at_the_deadline(void **state)
{
    static const float row[DIM] = {1, 2, 3};
    const dp_vector multi = {.kind = DP_VECTOR_MULTI, .values = row, .count = DIM, .rows = 1};
    const dp_vector dense = {.kind = DP_VECTOR_DENSE, .values = row, .count = DIM, .rows = 1};
    const dp_examples examples = {.kind = DP_EXAMPLES_SUM, .positive = &dense, .positive_count = 1};
    dp_query queries[] = {
        {.kind = DP_QUERY_NEAREST, .vector = multi, .using_name = "m", .limit = 5},
        {.kind = DP_QUERY_EXAMPLES, .examples = &examples, .using_name = "d", .limit = 5},
    };
    fixture f;
    (void)state;
    fixture_init(&f, schema, 0);
    do_op(&f, DP_OP_UPSERT, "{\"points\":[{\"id\":1,\"vector\":{\"d\":[1,1,1],\"m\":[[1,1,1]]}}]}");
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        answer *a = calloc(1, sizeof *a);
        ort_diag diag = {""};
        queries[i].until_ns = 1;
        assert_int_equal(dp_collection_query(f.c, &queries[i], 1, false, collect, a, &diag),
                         ORT_ETIMEOUT);
        assert_non_null(strstr(diag.text, "took too long"));
        queries[i].until_ns = ort_mono_ns() + UINT64_C(60000000000);
        assert_int_equal(dp_collection_query(f.c, &queries[i], 1, false, collect, a, &diag),
                         ORT_OK);
        assert_int_equal(a->count, 1);
        free(a);
    }
    fixture_fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(answers_are_those_of_the_model),
                                       cmocka_unit_test(an_order_over_many_matches_is_walked),
                                       cmocka_unit_test(comparisons_end_at_the_deadline)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
