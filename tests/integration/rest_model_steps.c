/* Searches in several steps. Each step is asked by itself before it stands in another, under all
 * filters that would come down to it: what is made of it is then told by what the node has said
 * there, down to the order of equals. */
#include <math.h>
#include <string.h>

#include "rest_model_ask.h"

#define PREFETCHES_MAX 3u

static json_t *random_step(unsigned depth, const json_t *outer, ask_list *found);

/* Asks the step alone: its own filter and the outer one. s holds what it should find. */
static void
ask_alone(const json_t *step, const json_t *outer, ask_scores *s, ask_list *found)
{
    json_t *alone = json_copy((json_t *)(uintptr_t)step);
    json_t *filters = json_array();
    if (outer != NULL) {
        json_array_append(filters, (json_t *)(uintptr_t)outer);
    }
    if (json_object_get(step, "filter") != NULL) {
        json_array_append(filters, json_object_get(step, "filter"));
    }
    json_object_set_new(alone, "filter", json_pack("{s:o}", "must", filters));
    for (size_t i = 0; i < MODEL_IDS; i++) {
        s->in[i] = s->in[i] && ask_passes(alone, &asked.points.at[i]);
    }
    ask_put_shown(alone);
    ask_hits(alone, s, found);
    json_decref(alone);
}

static json_t *
new_step(void)
{
    json_t *step = model_one_in(2) ? json_object() : ask_new();
    json_object_set_new(step, "limit", json_integer(1 + model_below(MODEL_IDS)));
    json_object_set_new(step, "params", json_pack("{s:b}", "exact", 1));
    return step;
}

/* Nearest to a vector. */
static void
make_nearest(json_t *step, ask_scores *s)
{
    const model_vector *v = &model_vectors[model_below(MODEL_VECTORS)];
    json_t *vector = model_random_vector(v);
    ask_score_all(v, vector, s);
    json_object_set_new(step, "query", vector);
    json_object_set_new(step, "using", json_string(v->name));
}

/* Whether what this step gives is better the smaller it is. */
static bool
gives_distances(const json_t *step)
{
    const json_t *using = json_object_get(step, "using");
    bool distances = false;
    for (size_t i = 0; i < MODEL_VECTORS && using != NULL; i++) {
        distances = distances || (strcmp(json_string_value(using), model_vectors[i].name) == 0 &&
                                  model_gives_distances(&model_vectors[i]));
    }
    return distances;
}

/* --- fusion --------------------------------------------------------------------------------- */

static void
add_rrf(ask_scores *s, const ask_list *list, double k, double weight)
{
    for (size_t i = 0; i < list->count; i++) {
        s->in[list->at[i]] = true;
        s->score[list->at[i]] += weight > 0 ? 1 / ((double)(i + 1) / weight + k - 1) : 0;
    }
}

static void
add_dbsf(ask_scores *s, const ask_list *list, bool distances)
{
    double mean = 0, squares = 0;
    const double n = (double)list->count, sign = distances ? -1 : 1;
    for (size_t i = 0; i < list->count; i++) {
        mean += sign * list->score[i] / n;
    }
    for (size_t i = 0; i < list->count; i++) {
        squares += pow(sign * list->score[i] - mean, 2);
    }
    const double sd = n > 1 ? sqrt(squares / (n - 1)) : 0;
    for (size_t i = 0; i < list->count; i++) {
        s->in[list->at[i]] = true;
        s->score[list->at[i]] +=
            sd > 0 ? (sign * list->score[i] - (mean - 3 * sd)) / (6 * sd) : 0.5;
    }
}

static void
make_fusion(json_t *step, const ask_list *lists, ask_scores *s)
{
    size_t i;
    json_t *prefetch;
    const json_t *all = json_object_get(step, "prefetch");
    if (model_one_in(2)) {
        json_array_foreach(all, i, prefetch)
        {
            add_dbsf(s, &lists[i], gives_distances(prefetch));
        }
        json_object_set_new(step, "query", json_pack("{s:s}", "fusion", "dbsf"));
        return;
    }
    const int k = model_one_in(2) ? 2 : model_between(1, 60);
    const bool weighted = model_one_in(2);
    json_t *weights = json_array();
    json_array_foreach(all, i, prefetch)
    {
        const double weight = weighted ? model_below(5) / 2.0 : 1;
        json_array_append_new(weights, json_real(weight));
        add_rrf(s, &lists[i], k, weight);
    }
    json_t *rrf = json_pack("{s:i}", "k", k);
    if (weighted) {
        json_object_set(rrf, "weights", weights);
    }
    json_object_set_new(step, "query",
                        k == 2 && !weighted ? json_pack("{s:s}", "fusion", "rrf")
                                            : json_pack("{s:O}", "rrf", rrf));
    json_decref(rrf);
    json_decref(weights);
}

/* --- other ways on from what prefetches found ------------------------------------------------- */

/* An expression over the score that is never negative: no two great numbers cancel each other. */
static json_t *
random_expression(unsigned depth)
{
    static const char *const decays[] = {"lin_decay", "exp_decay", "gauss_decay"};
    json_t *x = depth == 0 ? json_pack("{s:s}", "abs", "$score") : random_expression(depth - 1);
    switch (depth == 0 ? 0 : model_below(9)) {
    case 1:
        return json_pack("{s:[o,f]}", "sum", x, model_below(8) / 4.0);
    case 2:
        return json_pack("{s:[f,o]}", "mult", model_below(8) / 4.0, x);
    case 3:
        return json_pack("{s:{s:f,s:{s:[i,o]}}}", "div", "left", model_below(8) / 2.0, "right",
                         "sum", 1, x);
    case 4:
        return json_pack("{s:o}", "sqrt", x);
    case 5:
        return json_pack("{s:{s:o,s:f}}", "pow", "base", x, "exponent", (1 + model_below(3)) / 2.0);
    case 6:
        return json_pack("{s:{s:[o,i]}}", model_one_in(2) ? "ln" : "log10", "sum", x, 1);
    case 7:
        return json_pack("{s:{s:o}}", "exp", "neg", x);
    case 8:
        return json_pack("{s:{s:o,s:f,s:f,s:f}}", decays[model_below(3)], "x", x, "target",
                         model_below(20) / 2.0, "scale", 1 + model_below(40) / 4.0, "midpoint",
                         (1 + model_below(3)) / 4.0);
    default:
        return x;
    }
}

static double
number(const json_t *o, const char *name)
{
    return json_number_value(json_object_get(o, name));
}

static double evaluated(const json_t *e, double score);

/* How much is left of 1 at this distance from the target: the midpoint at `scale`. */
static double
decayed(const char *kind, const json_t *decay, double score)
{
    const double scale = number(decay, "scale"), middle = number(decay, "midpoint");
    const double far =
        fabs(evaluated(json_object_get(decay, "x"), score) - number(decay, "target")) / scale;
    return strcmp(kind, "lin_decay") == 0   ? fmax(0, 1 - (1 - middle) * far)
           : strcmp(kind, "exp_decay") == 0 ? pow(middle, far)
                                            : pow(middle, far * far);
}

static double
evaluated_call(const char *name, const json_t *of, double score)
{
    size_t i;
    json_t *item;
    double all = strcmp(name, "mult") == 0;
    if (json_is_array(of)) {
        json_array_foreach(of, i, item)
        {
            const double x = evaluated(item, score);
            all = strcmp(name, "mult") == 0 ? all * x : all + x;
        }
        return all;
    }
    if (strcmp(name, "div") == 0) {
        return evaluated(json_object_get(of, "left"), score) /
               evaluated(json_object_get(of, "right"), score);
    }
    if (strcmp(name, "pow") == 0) {
        return pow(evaluated(json_object_get(of, "base"), score), number(of, "exponent"));
    }
    if (strstr(name, "decay") != NULL) {
        return decayed(name, of, score);
    }
    const double x = evaluated(of, score);
    return strcmp(name, "abs") == 0    ? fabs(x)
           : strcmp(name, "neg") == 0  ? -x
           : strcmp(name, "sqrt") == 0 ? sqrt(x)
           : strcmp(name, "exp") == 0  ? exp(x)
           : strcmp(name, "ln") == 0   ? log(x)
                                       : log10(x);
}

static double
evaluated(const json_t *e, double score)
{
    if (json_is_number(e)) {
        return json_number_value(e);
    }
    if (json_is_string(e)) {
        return score;
    }
    void *call = json_object_iter((json_t *)(uintptr_t)e);
    return evaluated_call(json_object_iter_key(call), json_object_iter_value(call), score);
}

/* An expression over the score of the first prefetch, and something more where a condition holds.
 */
static void
make_formula(json_t *step, const ask_list *lists, size_t count, ask_scores *s)
{
    const double more = model_between(0, 9);
    json_t *condition = model_random_condition(1), *expression = random_expression(model_below(5));
    json_t *filter = json_pack("{s:[O]}", "must", condition);
    for (size_t l = 0; l < count; l++) {
        for (size_t i = 0; i < lists[l].count; i++) {
            const size_t at = lists[l].at[i];
            s->in[at] = true;
            s->score[at] += l == 0 ? lists[l].score[i] : 0;
        }
    }
    for (size_t i = 0; i < MODEL_IDS; i++) {
        const bool holds = s->in[i] && model_matches(filter, &asked.points.at[i]);
        s->score[i] = evaluated(expression, s->score[i]) + (holds ? more : 0);
    }
    json_object_set_new(step, "query",
                        json_pack("{s:{s:[o,{s:[f,o]}]},s:{s:i}}", "formula", "sum", expression,
                                  "mult", more, condition, "defaults", "$score", 0));
    json_decref(filter);
}

/* Another vector tells the order of what was found. */
static void
make_rescore(json_t *step, const ask_list *lists, size_t count, ask_scores *s)
{
    bool found[MODEL_IDS] = {false};
    for (size_t l = 0; l < count; l++) {
        for (size_t i = 0; i < lists[l].count; i++) {
            found[lists[l].at[i]] = true;
        }
    }
    make_nearest(step, s);
    for (size_t i = 0; i < MODEL_IDS; i++) {
        s->in[i] = s->in[i] && found[i];
    }
}

/* A step with prefetches, or none; what it finds under the filters around it. */
static json_t *
random_step(unsigned depth, const json_t *outer, ask_list *found)
{
    ask_scores s = {.ascending = false};
    ask_list lists[PREFETCHES_MAX];
    json_t *step = new_step();
    if (depth == 0) {
        make_nearest(step, &s);
        ask_alone(step, outer, &s, found);
        return step;
    }
    const uint32_t count = 1 + model_below(PREFETCHES_MAX);
    json_t *prefetch = json_array(), *filters = json_array();
    if (outer != NULL) {
        json_array_append(filters, (json_t *)(uintptr_t)outer);
    }
    if (json_object_get(step, "filter") != NULL) {
        json_array_append(filters, json_object_get(step, "filter"));
    }
    json_t *inner = json_pack("{s:o}", "must", filters);
    for (uint32_t i = 0; i < count; i++) {
        json_array_append_new(prefetch,
                              random_step(depth > 1 ? model_below(depth) : 0, inner, &lists[i]));
    }
    json_decref(inner);
    json_object_set_new(step, "prefetch", prefetch);
    const uint32_t way = model_below(6);
    if (way == 0) {
        make_formula(step, lists, count, &s);
    } else if (way == 1) {
        make_rescore(step, lists, count, &s);
    } else {
        make_fusion(step, lists, &s);
    }
    ask_alone(step, outer, &s, found);
    return step;
}

void
ask_steps(void)
{
    ask_list found;
    json_decref(random_step(1 + model_below(3), NULL, &found));
}

/* --- diversity ------------------------------------------------------------------------------ */

/* The likeness of two points' own vectors, on the scale of scores. */
static double
alike(const model_vector *v, size_t a, size_t b)
{
    double like;
    model_likeness(v, json_object_get(asked.points.at[a].vector, v->name), &asked.points.at[b],
                   &like);
    return model_gives_distances(v) ? -model_score(v, like) : model_score(v, like);
}

/* Every point in turn is the best one to add, or as good. */
static void
check_spread(const json_t *ask, const model_vector *v, const ask_scores *s, const json_t *points,
             double diversity)
{
    size_t n;
    json_t *hit;
    size_t picked[MODEL_IDS];
    bool is_picked[MODEL_IDS] = {false};
    json_array_foreach(points, n, hit)
    {
        const model_point *p = model_find(&asked.points, json_object_get(hit, "id"));
        double best = -INFINITY, own = 0;
        picked[n] = (size_t)(p - asked.points.at);
        for (size_t i = 0; i < MODEL_IDS; i++) {
            double nearest = -INFINITY;
            for (size_t j = 0; j < n; j++) {
                nearest = fmax(nearest, alike(v, i, picked[j]));
            }
            const double near = s->ascending ? -s->score[i] : s->score[i];
            const double worth = n == 0 ? near : (1 - diversity) * near - diversity * nearest;
            if (s->in[i] && !is_picked[i]) {
                best = fmax(best, worth);
            }
            own = i == picked[n] ? worth : own;
        }
        if (!s->in[picked[n]] || is_picked[picked[n]] || !ask_near(own, best) ||
            !ask_near(json_number_value(json_object_get(hit, "score")), s->score[picked[n]])) {
            ask_differs("spread out", ask, points, hit);
        }
        is_picked[picked[n]] = true;
        ask_compare_shown(ask, hit, p);
    }
}

/* Maximal marginal relevance over all points that pass. */
void
ask_spread(void)
{
    ask_scores s;
    size_t count = 0;
    const model_vector *v = &model_vectors[model_below(MODEL_PLAIN_VECTORS)];
    const double diversity = model_below(5) / 4.0;
    const size_t limit = 1 + model_below(MODEL_IDS);
    json_t *ask = new_step(), *vector = model_random_vector(v);
    ask_score_all(v, vector, &s);
    for (size_t i = 0; i < MODEL_IDS; i++) {
        s.in[i] = s.in[i] && ask_passes(ask, &asked.points.at[i]);
        count += s.in[i];
    }
    json_object_set_new(ask, "query",
                        json_pack("{s:o,s:{s:f,s:i}}", "nearest", vector, "mmr", "diversity",
                                  diversity, "candidates_limit", MODEL_IDS));
    json_object_set_new(ask, "using", json_string(v->name));
    json_object_set_new(ask, "limit", json_integer((json_int_t)limit));
    ask_put_shown(ask);
    json_t *got = ask_call(200, "POST", COLLECTION "/points/query", ask);
    const json_t *points = json_object_get(got, "points");
    if (json_array_size(points) != (count < limit ? count : limit)) {
        ask_differs("number of hits", ask, points, NULL);
    }
    check_spread(ask, v, &s, points, diversity);
    json_decref(got);
    json_decref(ask);
}
