/* Exact searches: by vector, by point, by examples. Scores are whole or half numbers, so that node
 * and model agree to the last bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rest_model_ask.h"

/* The product with a dense vector; false: the point has none. */
static bool
dense_score(const double query[MODEL_DIM], const model_point *p, double *score)
{
    const json_t *d = json_object_get(p->vector, "d");
    *score = 0;
    for (size_t i = 0; i < MODEL_DIM && d != NULL; i++) {
        *score += query[i] * json_number_value(json_array_get(d, i));
    }
    return d != NULL;
}

/* With a sparse one; false also where they have no index in common. */
static bool
sparse_score(const json_t *query, const model_point *p, double *score)
{
    size_t i, j;
    json_t *x, *y;
    bool common = false;
    const json_t *s = json_object_get(p->vector, "s");
    *score = 0;
    json_array_foreach(json_object_get(query, "indices"), i, x)
    {
        json_array_foreach(json_object_get(s, "indices"), j, y)
        {
            if (json_equal(x, y)) {
                common = true;
                *score += json_number_value(json_array_get(json_object_get(query, "values"), i)) *
                          json_number_value(json_array_get(json_object_get(s, "values"), j));
            }
        }
    }
    return common;
}

/* By point: the score it has, if it is among the answers when they are not cut. */
typedef struct {
    bool in[MODEL_IDS];
    double score[MODEL_IDS];
} scores;

static int
descending(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return *x > *y ? -1 : *x < *y;
}

/* The scores are the best ones after `offset`, each is its point's, no point comes twice. Which of
 * two equals comes first is nobody's promise. */
static void
compare_hits(const json_t *ask, const scores *s, size_t offset, size_t limit)
{
    double best[MODEL_IDS];
    bool seen[MODEL_IDS] = {false};
    size_t count = 0, i;
    json_t *hit, *want = json_array();
    for (i = 0; i < MODEL_IDS; i++) {
        if (s->in[i]) {
            best[count++] = s->score[i];
            json_array_append_new(want, json_pack("[O,f]", asked.points.at[i].id, s->score[i]));
        }
    }
    qsort(best, count, sizeof best[0], descending);
    const size_t left = count > offset ? count - offset : 0;
    json_t *got = ask_call(200, "POST", COLLECTION "/points/query", ask);
    const json_t *points = json_object_get(got, "points");
    if (json_array_size(points) != (left < limit ? left : limit)) {
        ask_differs("number of hits", ask, got, want);
    }
    json_array_foreach(points, i, hit)
    {
        const model_point *p = model_find(&asked.points, json_object_get(hit, "id"));
        const size_t at = (size_t)(p - asked.points.at);
        const double score = json_number_value(json_object_get(hit, "score"));
        if (!s->in[at] || seen[at] || score != s->score[at] || score != best[offset + i]) {
            ask_differs("hits", ask, got, want);
        }
        seen[at] = true;
        ask_compare_shown(ask, hit, p);
    }
    json_decref(want);
    json_decref(got);
}

/* Adds what any search may have beside its query, asks, and compares. s: of all points with a
 * score; consumes ask. */
static void
ask_query(json_t *ask, json_t *query, const char *using, scores *s)
{
    const size_t limit = 1 + model_below(MODEL_IDS);
    const size_t offset = model_one_in(3) ? model_below(12) : 0;
    const double threshold = (double)model_below(100) - 50;
    const bool cut = model_one_in(3);
    for (size_t i = 0; i < MODEL_IDS; i++) {
        s->in[i] =
            s->in[i] && ask_passes(ask, &asked.points.at[i]) && (!cut || s->score[i] >= threshold);
    }
    json_object_set_new(ask, "query", query);
    json_object_set_new(ask, "using", json_string(using));
    json_object_set_new(ask, "limit", json_integer((json_int_t)limit));
    json_object_set_new(ask, "params", json_pack("{s:b}", "exact", 1));
    if (offset > 0) {
        json_object_set_new(ask, "offset", json_integer((json_int_t)offset));
    }
    if (cut) {
        json_object_set_new(ask, "score_threshold", json_real(threshold));
    }
    ask_put_shown(ask);
    compare_hits(ask, s, offset, limit);
    json_decref(ask);
}

/* A point that has such a vector, or MODEL_IDS. */
static uint32_t
point_with(const char *vector)
{
    const uint32_t start = model_below(MODEL_IDS);
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        const uint32_t at = (start + i) % MODEL_IDS;
        if (json_object_get(asked.points.at[at].vector, vector) != NULL) {
            return at;
        }
    }
    return MODEL_IDS;
}

/* By vector, or by the id of a point, which is then no answer itself. */
void
ask_nearest(const char *using)
{
    scores s;
    double numbers[MODEL_DIM];
    const bool dense = using[0] == 'd';
    const uint32_t by = model_one_in(3) ? point_with(using) : MODEL_IDS;
    json_t *vector = by < MODEL_IDS
                         ? json_incref(json_object_get(asked.points.at[by].vector, using))
                     : dense ? model_random_dense()
                             : model_random_sparse();
    for (size_t i = 0; i < MODEL_DIM; i++) {
        numbers[i] = json_number_value(json_array_get(vector, i));
    }
    for (size_t i = 0; i < MODEL_IDS; i++) {
        s.in[i] = (dense ? dense_score(numbers, &asked.points.at[i], &s.score[i])
                         : sparse_score(vector, &asked.points.at[i], &s.score[i])) &&
                  i != by;
    }
    ask_query(ask_new(), json_incref(by < MODEL_IDS ? asked.points.at[by].id : vector), using, &s);
    json_decref(vector);
}

/* Adds one or two examples to the list, points or vectors, and their mean to query. */
static void
add_examples(json_t *list, scores *s, double query[MODEL_DIM], double factor)
{
    const uint32_t count = 1 + model_below(2);
    for (uint32_t n = 0; n < count; n++) {
        const uint32_t at = model_one_in(3) ? MODEL_IDS : point_with("d");
        const bool is_point = at < MODEL_IDS && s->in[at];
        json_t *d = is_point ? json_incref(json_object_get(asked.points.at[at].vector, "d"))
                             : model_random_dense();
        json_array_append(list, is_point ? asked.points.at[at].id : d);
        for (size_t i = 0; i < MODEL_DIM; i++) {
            query[i] += factor / count * json_number_value(json_array_get(d, i));
        }
        if (is_point) {
            s->in[at] = false;
        }
        json_decref(d);
    }
}

/* The mean of what is liked, twice, less the mean of what is not; halves are exact too. */
void
ask_recommend(void)
{
    scores s;
    double query[MODEL_DIM] = {0};
    json_t *positive = json_array(), *negative = json_array();
    const bool has_negative = model_one_in(2);
    memset(s.in, true, sizeof s.in);
    add_examples(positive, &s, query, has_negative ? 2 : 1);
    if (has_negative) {
        add_examples(negative, &s, query, -1);
    }
    for (size_t i = 0; i < MODEL_IDS; i++) {
        const bool has = dense_score(query, &asked.points.at[i], &s.score[i]);
        s.in[i] = s.in[i] && has;
    }
    ask_query(ask_new(),
              json_pack("{s:{s:o,s:o}}", "recommend", "positive", positive, "negative", negative),
              "d", &s);
}
