/* Answers that are sets of points: groups by a payload value, pairs of near points, samples. */
#include <stdlib.h>
#include <string.h>

#include "rest_model_ask.h"

/* --- groups --------------------------------------------------------------------------------- */

static int
descending(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return *x > *y ? -1 : *x < *y;
}

/* Whether the field holds the value, itself or in an array. */
static bool
has_value(const model_point *p, const char *path, const json_t *value)
{
    size_t i;
    json_t *v;
    bool found = false;
    json_t *values = model_flat_values(p->payload, path);
    json_array_foreach(values, i, v)
    {
        found = found || json_equal(v, value);
    }
    json_decref(values);
    return found;
}

/* The scores of the points that have the value, best first; how many. */
static size_t
scores_of_value(const ask_scores *s, const char *path, const json_t *value,
                double scores[MODEL_IDS])
{
    size_t count = 0;
    for (size_t i = 0; i < MODEL_IDS; i++) {
        if (s->in[i] && has_value(&asked.points.at[i], path, value)) {
            scores[count++] = s->ascending ? -s->score[i] : s->score[i];
        }
    }
    qsort(scores, count, sizeof scores[0], descending);
    return count;
}

/* The values that name groups, each once. */
static json_t *
group_values(const ask_scores *s, const char *path)
{
    size_t i, j;
    json_t *v, *other, *out = json_array();
    for (size_t at = 0; at < MODEL_IDS; at++) {
        json_t *values =
            s->in[at] ? model_flat_values(asked.points.at[at].payload, path) : json_array();
        json_array_foreach(values, i, v)
        {
            bool is_new = json_is_string(v) || json_is_integer(v);
            json_array_foreach(out, j, other)
            {
                is_new = is_new && !json_equal(v, other);
            }
            if (is_new) {
                json_array_append(out, v);
            }
        }
        json_decref(values);
    }
    return out;
}

/* with_lookup names the collection itself: the group's value is the id of a point, or of none. */
static void
check_lookup(const json_t *ask, const json_t *group)
{
    const json_t *lookup = json_object_get(group, "lookup");
    const model_point *p = NULL;
    for (size_t i = 0; i < MODEL_IDS; i++) {
        if (asked.points.at[i].payload != NULL &&
            json_equal(asked.points.at[i].id, json_object_get(group, "id"))) {
            p = &asked.points.at[i];
        }
    }
    if (json_object_get(ask, "with_lookup") == NULL || p == NULL) {
        if (lookup != NULL && !json_is_null(lookup)) {
            ask_differs("a lookup", ask, group, NULL);
        }
    } else if (!json_equal(json_object_get(lookup, "id"), p->id) ||
               !json_equal(json_object_get(lookup, "payload"), p->payload)) {
        ask_differs("no lookup", ask, group, p->payload);
    }
}

/* The hits of a group are the best that have its value. */
static void
check_group(const json_t *ask, const ask_scores *s, const json_t *group)
{
    double best[MODEL_IDS];
    bool seen[MODEL_IDS] = {false};
    size_t i;
    json_t *hit;
    const char *path = json_string_value(json_object_get(ask, "group_by"));
    const json_t *hits = json_object_get(group, "hits");
    const size_t size = (size_t)json_integer_value(json_object_get(ask, "group_size"));
    const size_t count = scores_of_value(s, path, json_object_get(group, "id"), best);
    if (json_array_size(hits) != (count < size ? count : size)) {
        ask_differs("size of a group", ask, group, NULL);
    }
    json_array_foreach(hits, i, hit)
    {
        const model_point *p = model_find(&asked.points, json_object_get(hit, "id"));
        const size_t at = (size_t)(p - asked.points.at);
        const double score = json_number_value(json_object_get(hit, "score"));
        if (!s->in[at] || seen[at] || !has_value(p, path, json_object_get(group, "id")) ||
            !ask_near(score, s->score[at]) || !ask_near(s->ascending ? -score : score, best[i])) {
            ask_differs("hits of a group", ask, group, NULL);
        }
        seen[at] = true;
        ask_compare_shown(ask, hit, p);
    }
    check_lookup(ask, group);
}

/* Groups stand in the order of their best hits, and none that is better is left out. */
static void
check_groups(const json_t *ask, const ask_scores *s, const json_t *groups)
{
    double best[1024], scores[MODEL_IDS];
    size_t count = 0, i, j;
    json_t *v, *group;
    const char *path = json_string_value(json_object_get(ask, "group_by"));
    const size_t limit = (size_t)json_integer_value(json_object_get(ask, "limit"));
    json_t *values = group_values(s, path);
    json_array_foreach(values, i, v)
    {
        (void)scores_of_value(s, path, v, scores);
        best[count++] = scores[0];
    }
    qsort(best, count, sizeof best[0], descending);
    if (json_array_size(groups) != (count < limit ? count : limit)) {
        ask_differs("number of groups", ask, groups, values);
    }
    json_array_foreach(groups, i, group)
    {
        const json_t *id = json_object_get(group, "id");
        (void)scores_of_value(s, path, id, scores);
        for (j = 0; j < i; j++) {
            if (json_equal(id, json_object_get(json_array_get(groups, j), "id"))) {
                ask_differs("a group twice", ask, groups, id);
            }
        }
        check_group(ask, s, group);
        if (!ask_near(scores[0], best[i])) {
            ask_differs("order of groups", ask, groups, values);
        }
    }
    json_decref(values);
}

void
ask_groups(void)
{
    ask_scores s;
    const model_vector *v = &model_vectors[model_below(MODEL_VECTORS)];
    json_t *ask = ask_new(), *vector = model_random_vector(v);
    ask_score_all(v, vector, &s);
    for (size_t i = 0; i < MODEL_IDS; i++) {
        s.in[i] = s.in[i] && ask_passes(ask, &asked.points.at[i]);
    }
    json_object_set_new(ask, "query", vector);
    json_object_set_new(ask, "using", json_string(v->name));
    json_object_set_new(ask, "params", json_pack("{s:b}", "exact", 1));
    json_object_set_new(ask, "group_by", json_string(model_fields[model_below(MODEL_FIELDS)].path));
    json_object_set_new(ask, "group_size", json_integer(1 + model_below(5)));
    json_object_set_new(ask, "limit", json_integer(1 + model_below(8)));
    if (model_one_in(3)) {
        json_object_set_new(ask, "with_lookup", json_string("model"));
    }
    ask_put_shown(ask);
    json_t *got = ask_call(200, "POST", COLLECTION "/points/query/groups", ask);
    check_groups(ask, &s, json_object_get(got, "groups"));
    json_decref(got);
    json_decref(ask);
}

/* --- pairs ---------------------------------------------------------------------------------- */

/* Points that pass and have the vector, by id, are all in the sample; of one there is no pair. */
static size_t
sampled(const json_t *ask, const model_vector *v, size_t at[MODEL_IDS])
{
    size_t count = 0;
    for (size_t i = 0; i < MODEL_IDS; i++) {
        const model_point *p = &asked.points.at[i];
        if (ask_passes(ask, p) && json_object_get(p->vector, v->name) != NULL) {
            at[count++] = i;
        }
    }
    return count > 1 ? count : 0;
}

/* The pairs as {a, b, score}, whichever call gave them; the caller's. */
static json_t *
pairs_of(json_t *got)
{
    size_t i;
    json_t *row, *pairs = json_array();
    const json_t *ids = json_object_get(got, "ids"), *columns = json_object_get(got, "offsets_col");
    if (ids == NULL) {
        json_decref(pairs);
        return json_incref(json_object_get(got, "pairs"));
    }
    json_array_foreach(json_object_get(got, "offsets_row"), i, row)
    {
        const size_t a = (size_t)json_integer_value(row);
        const size_t b = (size_t)json_integer_value(json_array_get(columns, i));
        json_array_append_new(pairs, json_pack("{s:O,s:O,s:O}", "a", json_array_get(ids, a), "b",
                                               json_array_get(ids, b), "score",
                                               json_array_get(json_object_get(got, "scores"), i)));
    }
    return pairs;
}

static double
score_between(const model_vector *v, size_t a, size_t b)
{
    double like;
    model_likeness(v, json_object_get(asked.points.at[a].vector, v->name), &asked.points.at[b],
                   &like);
    return model_score(v, like);
}

/* The best partners of point `a` stand one after the other in the pairs, from *next on. */
static void
check_partners(const json_t *ask, const model_vector *v, const size_t *all, size_t count, size_t a,
               const json_t *pairs, size_t *next)
{
    double best[MODEL_IDS];
    size_t n = 0;
    const size_t limit = (size_t)json_integer_value(json_object_get(ask, "limit"));
    for (size_t i = 0; i < count; i++) {
        if (all[i] != a) {
            const double score = score_between(v, a, all[i]);
            best[n++] = model_gives_distances(v) ? -score : score;
        }
    }
    qsort(best, n, sizeof best[0], descending);
    for (size_t i = 0; i < n && i < limit; i++, ++*next) {
        const json_t *pair = json_array_get(pairs, *next);
        const double score = json_number_value(json_object_get(pair, "score"));
        if (!json_equal(json_object_get(pair, "a"), asked.points.at[a].id)) {
            ask_differs("pairs of a point", ask, pairs, asked.points.at[a].id);
        }
        const model_point *b = model_find(&asked.points, json_object_get(pair, "b"));
        if (!ask_near(model_gives_distances(v) ? -score : score, best[i]) ||
            !ask_near(score, score_between(v, a, (size_t)(b - asked.points.at)))) {
            ask_differs("pairs", ask, pairs, pair);
        }
    }
}

void
ask_matrix(void)
{
    size_t all[MODEL_IDS], next = 0;
    const model_vector *v = &model_vectors[model_below(MODEL_PLAIN_VECTORS)];
    json_t *ask = ask_new();
    const size_t count = sampled(ask, v, all);
    json_object_set_new(ask, "sample", json_integer(MODEL_IDS));
    json_object_set_new(ask, "limit", json_integer(1 + model_below(6)));
    json_object_set_new(ask, "using", json_string(v->name));
    json_t *got = ask_call(200, "POST",
                           model_one_in(2) ? COLLECTION "/points/search/matrix/pairs"
                                           : COLLECTION "/points/search/matrix/offsets",
                           ask);
    json_t *pairs = pairs_of(got);
    for (size_t i = 0; i < count; i++) {
        check_partners(ask, v, all, count, all[i], pairs, &next);
    }
    if (next != json_array_size(pairs)) {
        ask_differs("number of pairs", ask, pairs, NULL);
    }
    json_decref(pairs);
    json_decref(got);
    json_decref(ask);
}

/* --- any points ----------------------------------------------------------------------------- */

void
ask_sample(void)
{
    bool seen[MODEL_IDS] = {false};
    size_t count = 0, i;
    json_t *hit, *ask = ask_new();
    const size_t limit = 1 + model_below(MODEL_IDS);
    for (i = 0; i < MODEL_IDS; i++) {
        count += ask_passes(ask, &asked.points.at[i]);
    }
    json_object_set_new(ask, "query", json_pack("{s:s}", "sample", "random"));
    json_object_set_new(ask, "limit", json_integer((json_int_t)limit));
    ask_put_shown(ask);
    json_t *got = ask_call(200, "POST", COLLECTION "/points/query", ask);
    const json_t *points = json_object_get(got, "points");
    if (json_array_size(points) != (count < limit ? count : limit)) {
        ask_differs("number of any points", ask, points, NULL);
    }
    json_array_foreach(points, i, hit)
    {
        const model_point *p = model_find(&asked.points, json_object_get(hit, "id"));
        if (seen[p - asked.points.at] || !ask_passes(ask, p)) {
            ask_differs("any points", ask, points, hit);
        }
        seen[p - asked.points.at] = true;
        ask_compare_shown(ask, hit, p);
    }
    json_decref(got);
    json_decref(ask);
}
