/* Exact searches: by vector, by point, by the mean of examples. Vectors are of whole numbers, so
 * that node and model agree on every sum to the last bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rest_model_ask.h"

/* --- asking --------------------------------------------------------------------------------- */

/* The older call, of the same meaning, where there is one for this question. */
static json_t *
as_older(const json_t *ask, const char **target)
{
    const json_t *query = json_object_get(ask, "query");
    json_t *recommend = json_object_get(query, "recommend");
    json_t *discover = json_object_get(query, "discover");
    if (json_is_string(query) || json_is_integer(query) || json_object_get(ask, "prefetch") ||
        (json_is_object(query) && recommend == NULL && discover == NULL &&
         json_object_get(query, "indices") == NULL && json_object_get(query, "context") == NULL)) {
        return NULL;
    }
    json_t *old = json_copy((json_t *)(uintptr_t)ask);
    if (json_is_object(query) && json_object_get(query, "indices") == NULL) {
        *target =
            recommend != NULL ? COLLECTION "/points/recommend" : COLLECTION "/points/discover";
        json_object_update(old, recommend != NULL  ? recommend
                                : discover != NULL ? discover
                                                   : (json_t *)(uintptr_t)query);
        json_object_del(old, "query");
        return old;
    }
    *target = COLLECTION "/points/search";
    json_object_set_new(
        old, "vector",
        json_pack("{s:O,s:O}", "name", json_object_get(ask, "using"), "vector", query));
    json_object_del(old, "query");
    json_object_del(old, "using");
    return old;
}

/* The points that are answered, the caller's. */
static json_t *
ask_points(const json_t *ask)
{
    const char *target;
    json_t *got, *points, *old = model_one_in(6) ? as_older(ask, &target) : NULL;
    if (old != NULL) {
        points = ask_call(200, "POST", target, old);
        json_decref(old);
        return points;
    }
    if (model_one_in(6)) {
        json_t *batch = json_pack("{s:[O,O]}", "searches", ask, ask);
        got = ask_call(200, "POST", COLLECTION "/points/query/batch", batch);
        if (!json_equal(json_array_get(got, 0), json_array_get(got, 1))) {
            ask_differs("twice in one batch", ask, json_array_get(got, 0), json_array_get(got, 1));
        }
        points = json_incref(json_object_get(json_array_get(got, 0), "points"));
        json_decref(batch);
    } else {
        got = ask_call(200, "POST", COLLECTION "/points/query", ask);
        points = json_incref(json_object_get(got, "points"));
    }
    json_decref(got);
    return points;
}

static int
ascending(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* The scores that the threshold leaves, best first; how many. */
static size_t
best_scores(const json_t *ask, const ask_scores *s, double best[MODEL_IDS])
{
    const json_t *threshold = json_object_get(ask, "score_threshold");
    const double cut = json_number_value(threshold), sign = s->ascending ? 1 : -1;
    size_t count = 0;
    for (size_t i = 0; i < MODEL_IDS; i++) {
        if (s->in[i] && (threshold == NULL || sign * s->score[i] <= sign * cut)) {
            best[count++] = sign * s->score[i];
        }
    }
    qsort(best, count, sizeof best[0], ascending);
    for (size_t i = 0; i < count; i++) {
        best[i] *= sign;
    }
    return count;
}

static json_t *
as_json(const ask_scores *s)
{
    json_t *want = json_array();
    for (size_t i = 0; i < MODEL_IDS; i++) {
        if (s->in[i]) {
            json_array_append_new(want, json_pack("[O,f]", asked.points.at[i].id, s->score[i]));
        }
    }
    return want;
}

void
ask_hits(const json_t *ask, const ask_scores *s, ask_list *list)
{
    double best[MODEL_IDS];
    bool seen[MODEL_IDS] = {false};
    size_t i;
    json_t *hit, *want = as_json(s), *points = ask_points(ask);
    const size_t offset = (size_t)json_integer_value(json_object_get(ask, "offset"));
    const size_t limit = (size_t)json_integer_value(json_object_get(ask, "limit"));
    const size_t count = best_scores(ask, s, best), left = count > offset ? count - offset : 0;
    if (json_array_size(points) != (left < limit ? left : limit)) {
        ask_differs("number of hits", ask, points, want);
    }
    json_array_foreach(points, i, hit)
    {
        const model_point *p = model_find(&asked.points, json_object_get(hit, "id"));
        const size_t at = (size_t)(p - asked.points.at);
        const double score = json_number_value(json_object_get(hit, "score"));
        if (!s->in[at] || seen[at] || !ask_near(score, s->score[at]) ||
            !ask_near(score, best[offset + i])) {
            ask_differs("hits", ask, points, want);
        }
        seen[at] = true;
        ask_compare_shown(ask, hit, p);
        if (list != NULL) {
            list->at[i] = at;
            list->score[i] = score;
        }
    }
    if (list != NULL) {
        list->count = json_array_size(points);
    }
    json_decref(want);
    json_decref(points);
}

void
ask_query(json_t *ask, json_t *query, const model_vector *using, ask_scores *s)
{
    for (size_t i = 0; i < MODEL_IDS; i++) {
        s->in[i] = s->in[i] && ask_passes(ask, &asked.points.at[i]);
    }
    json_object_set_new(ask, "query", query);
    json_object_set_new(ask, "using", json_string(using->name));
    json_object_set_new(ask, "limit", json_integer(1 + model_below(MODEL_IDS)));
    if (json_object_get(ask, "params") == NULL) {
        json_object_set_new(ask, "params", json_object());
    }
    json_object_set_new(json_object_get(ask, "params"), "exact", json_true());
    if (model_one_in(3)) {
        json_object_set_new(ask, "offset", json_integer(model_below(12)));
    }
    if (model_one_in(3)) { /* between any two scores that are not equal */
        const double threshold =
            s->ascending ? model_below(15) + 0.013 : model_between(-50, 50) + 0.013;
        json_object_set_new(ask, "score_threshold", json_real(threshold));
    }
    ask_put_shown(ask);
    ask_hits(ask, s, NULL);
    json_decref(ask);
}

static bool
has_index(const model_vector *v, const model_point *p, const json_t *index)
{
    size_t i;
    json_t *own;
    json_array_foreach(json_object_get(json_object_get(p->vector, v->name), "indices"), i, own)
    {
        if (json_equal(own, index)) {
            return true;
        }
    }
    return false;
}

/* The query's values, times the inverse document frequency of their indices. */
static json_t *
weighed(const model_vector *v, const json_t *query, const json_t *corpus)
{
    size_t i;
    json_t *index, *values = json_array();
    const json_t *plain = json_object_get(query, "values");
    json_array_foreach(json_object_get(query, "indices"), i, index)
    {
        double all = 0, with = 0;
        for (size_t at = 0; at < MODEL_IDS; at++) {
            const model_point *p = &asked.points.at[at];
            if (p->payload != NULL && model_matches(corpus, p)) {
                all += 1;
                with += has_index(v, p, index);
            }
        }
        json_array_append_new(values, json_real(json_number_value(json_array_get(plain, i)) *
                                                log((all - with + 0.5) / (with + 0.5) + 1)));
    }
    return json_pack("{s:O,s:o}", "indices", json_object_get(query, "indices"), "values", values);
}

void
ask_score_idf(const model_vector *v, const json_t *query, const json_t *corpus, ask_scores *s)
{
    json_t *by_rarity = weighed(v, query, corpus);
    for (size_t i = 0; i < MODEL_IDS; i++) {
        s->in[i] = model_likeness(v, by_rarity, &asked.points.at[i], &s->score[i]);
    }
    json_decref(by_rarity);
}

void
ask_score_all(const model_vector *v, const json_t *query, ask_scores *s)
{
    s->ascending = model_gives_distances(v);
    if (v->idf) {
        ask_score_idf(v, query, NULL, s);
        return;
    }
    for (size_t i = 0; i < MODEL_IDS; i++) {
        double like;
        s->in[i] = model_likeness(v, query, &asked.points.at[i], &like);
        s->score[i] = model_score(v, like);
    }
}

uint32_t
ask_point_with(const model_vector *v)
{
    const uint32_t start = model_below(MODEL_IDS);
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        const uint32_t at = (start + i) % MODEL_IDS;
        if (json_object_get(asked.points.at[at].vector, v->name) != NULL) {
            return at;
        }
    }
    return MODEL_IDS;
}

/* By vector, or by the id of a point, which is then no answer itself. */
void
ask_nearest(void)
{
    ask_scores s;
    const model_vector *v = &model_vectors[model_below(MODEL_VECTORS)];
    const uint32_t by = model_one_in(3) ? ask_point_with(v) : MODEL_IDS;
    json_t *vector = by < MODEL_IDS
                         ? json_incref(json_object_get(asked.points.at[by].vector, v->name))
                         : model_random_vector(v);
    ask_score_all(v, vector, &s);
    json_t *ask = ask_new();
    if (v->idf && model_one_in(2)) {
        json_t *corpus = model_random_filter(1);
        ask_score_idf(v, vector, corpus, &s);
        json_object_set_new(ask, "params", json_pack("{s:{s:o}}", "idf", "corpus", corpus));
    }
    if (by < MODEL_IDS) {
        s.in[by] = false;
        if (model_one_in(4)) { /* it is found where it is found anyway */
            json_object_set_new(ask, "lookup_from", json_pack("{s:s}", "collection", "model"));
        }
    }
    ask_query(ask, json_incref(by < MODEL_IDS ? asked.points.at[by].id : vector), v, &s);
    json_decref(vector);
}

/* --- recommend by the mean ------------------------------------------------------------------ */

/* sum + factor * v: components, or entries that are added up by index; of rows, all of them, those
 * of negative factors turned around. */
static void
add_to_mean(const model_vector *kind, json_t *sum, const json_t *v, double factor)
{
    size_t i, j;
    json_t *row, *number;
    if (kind->kind == MODEL_MULTI) {
        json_array_foreach(v, i, row)
        {
            json_t *copy = json_array();
            json_array_foreach(row, j, number)
            {
                const double x = json_number_value(number);
                json_array_append_new(copy, json_real(factor < 0 ? -x : x));
            }
            json_array_append_new(sum, copy);
        }
        return;
    }
    for (i = 0; kind->kind == MODEL_DENSE && i < kind->dim; i++) {
        const double x = json_number_value(json_array_get(v, i));
        const double was = json_number_value(json_array_get(sum, i));
        json_array_set_new(sum, i, json_real(was + factor * x));
    }
    json_array_foreach(json_object_get(v, "indices"), i, number)
    {
        json_t *indices = json_object_get(sum, "indices"), *values = json_object_get(sum, "values");
        const double x =
            factor * json_number_value(json_array_get(json_object_get(v, "values"), i));
        for (j = 0; j < json_array_size(indices) && !json_equal(json_array_get(indices, j), number);
             j++) {
        }
        if (j == json_array_size(indices)) {
            json_array_append(indices, number);
            json_array_append_new(values, json_real(x));
        } else {
            json_array_set_new(values, j,
                               json_real(x + json_number_value(json_array_get(values, j))));
        }
    }
}

static json_t *
new_mean(const model_vector *v)
{
    json_t *mean =
        v->kind == MODEL_SPARSE ? json_pack("{s:[],s:[]}", "indices", "values") : json_array();
    for (uint32_t i = 0; v->kind == MODEL_DENSE && i < v->dim; i++) {
        json_array_append_new(mean, json_real(0));
    }
    return mean;
}

/* Adds one or two examples to the list, points or vectors, and their mean to mean; points that are
 * named are no answers. */
static void
add_examples(const model_vector *v, json_t *list, ask_scores *s, json_t *mean, double factor)
{
    const uint32_t count = 1 + model_below(2);
    for (uint32_t n = 0; n < count; n++) {
        const uint32_t at = model_one_in(3) ? MODEL_IDS : ask_point_with(v);
        const bool is_point = at < MODEL_IDS && s->in[at];
        json_t *vector = is_point
                             ? json_incref(json_object_get(asked.points.at[at].vector, v->name))
                             : model_random_vector(v);
        json_array_append(list, is_point ? asked.points.at[at].id : vector);
        add_to_mean(v, mean, vector, factor / count);
        if (is_point) {
            s->in[at] = false;
        }
        json_decref(vector);
    }
}

/* The mean of what is liked, twice, less the mean of what is not; halves are exact too. */
void
ask_recommend(void)
{
    ask_scores s, named;
    const model_vector *v = &model_vectors[model_below(MODEL_PLAIN_VECTORS)];
    json_t *positive = json_array(), *negative = json_array(), *mean = new_mean(v);
    const bool has_negative = model_one_in(2);
    memset(named.in, true, sizeof named.in);
    add_examples(v, positive, &named, mean, has_negative ? 2 : 1);
    if (has_negative) {
        add_examples(v, negative, &named, mean, -1);
    }
    ask_score_all(v, mean, &s);
    for (size_t i = 0; i < MODEL_IDS; i++) {
        s.in[i] = s.in[i] && named.in[i];
    }
    ask_query(ask_new(),
              json_pack("{s:{s:o,s:o}}", "recommend", "positive", positive, "negative", negative),
              v, &s);
    json_decref(mean);
}
