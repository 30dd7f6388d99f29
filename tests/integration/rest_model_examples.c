/* Searches by what several examples say together: best_score, sum_scores, discover, context,
 * feedback. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "rest_model_ask.h"

#define EXAMPLES_MAX 4u

/* Vectors, of the request or of points that it names. */
typedef struct {
    const model_vector *v;
    json_t *vectors[EXAMPLES_MAX];
    size_t count;
} examples;

static double
squash(double x)
{
    return x / (1 + fabs(x));
}

static double
scaled(double x)
{
    return 0.5 * (squash(x) + 1);
}

/* Of points that have the vector; sparse ones are alike by 0 when they share no index. */
static double
likeness_to(const examples *e, size_t i, const model_point *p)
{
    double like;
    model_likeness(e->v, e->vectors[i], p, &like);
    return like;
}

/* One more, and how the request writes it; a point that is named is no answer. */
static json_t *
add_example(examples *e, ask_scores *s)
{
    const uint32_t at = model_one_in(3) ? MODEL_IDS : ask_point_with(e->v);
    if (at == MODEL_IDS) {
        e->vectors[e->count++] = model_random_vector(e->v);
        return json_incref(e->vectors[e->count - 1]);
    }
    e->vectors[e->count++] = json_incref(json_object_get(asked.points.at[at].vector, e->v->name));
    s->in[at] = false;
    return json_incref(asked.points.at[at].id);
}

static json_t *
add_some(examples *e, ask_scores *s, uint32_t count)
{
    json_t *list = json_array();
    for (; count > 0; count--) {
        json_array_append_new(list, add_example(e, s));
    }
    return list;
}

static void
forget(examples *e)
{
    for (size_t i = 0; i < e->count; i++) {
        json_decref(e->vectors[i]);
    }
}

/* --- recommend ------------------------------------------------------------------------------ */

static double
recommended(const examples *good, const examples *bad, const model_point *p, bool best)
{
    double good_most = -INFINITY, bad_most = -INFINITY, sum = 0;
    for (size_t i = 0; i < good->count; i++) {
        const double like = likeness_to(good, i, p);
        good_most = fmax(good_most, like);
        sum += like;
    }
    for (size_t i = 0; i < bad->count; i++) {
        const double like = likeness_to(bad, i, p);
        bad_most = fmax(bad_most, like);
        sum -= like;
    }
    if (!best) {
        return sum;
    }
    return good_most > bad_most ? scaled(good_most) : -scaled(bad_most);
}

/* Of the two lists one may be empty. */
static json_t *
recommend(examples *good, examples *bad, ask_scores *s)
{
    const bool best = model_one_in(2);
    const uint32_t liked = model_below(3);
    json_t *positive = add_some(good, s, liked);
    json_t *negative = add_some(bad, s, (liked == 0) + model_below(2));
    for (size_t i = 0; i < MODEL_IDS; i++) {
        s->score[i] = recommended(good, bad, &asked.points.at[i], best);
    }
    return json_pack("{s:{s:o,s:o,s:s}}", "recommend", "positive", positive, "negative", negative,
                     "strategy", best ? "best_score" : "sum_scores");
}

/* --- pairs ---------------------------------------------------------------------------------- */

/* target: the last of the good ones when there are more of those. */
static double
by_pairs(const examples *good, const examples *bad, const model_point *p)
{
    const bool has_target = good->count > bad->count;
    double sum = has_target ? scaled(likeness_to(good, good->count - 1, p)) : 0;
    for (size_t i = 0; i < bad->count; i++) {
        const double better = likeness_to(good, i, p) - likeness_to(bad, i, p);
        sum += !has_target  ? squash(fmin(better - (double)FLT_EPSILON, 0))
               : better > 0 ? 1
               : better < 0 ? -1
                            : 0;
    }
    return sum;
}

static json_t *
pairs(examples *good, examples *bad, ask_scores *s)
{
    json_t *context = json_array(), *target = NULL;
    for (uint32_t n = 1 + model_below(3); n > 0; n--) {
        json_t *positive = add_example(good, s);
        json_array_append_new(
            context, json_pack("{s:o,s:o}", "positive", positive, "negative", add_example(bad, s)));
    }
    if (model_one_in(2)) {
        target = add_example(good, s);
    }
    for (size_t i = 0; i < MODEL_IDS; i++) {
        s->score[i] = by_pairs(good, bad, &asked.points.at[i]);
    }
    return target != NULL
               ? json_pack("{s:{s:o,s:o}}", "discover", "target", target, "context", context)
               : json_pack("{s:o}", "context", context);
}

/* --- feedback ------------------------------------------------------------------------------- */

/* The best rated with the worst, the second best with the second worst: two pairs of four. */
static json_t *
feedback(examples *rated, ask_scores *s)
{
    const double a = model_between(-4, 8) / 4.0, b = model_between(0, 2),
                 c = model_between(1, 4) / 4.0;
    const uint32_t count = model_below(5);
    examples target = {.v = rated->v};
    json_t *list = json_array(), *wanted = add_example(&target, s);
    for (uint32_t i = 0; i < count; i++) { /* the best one first */
        json_t *example = add_example(rated, s);
        json_array_append_new(
            list, json_pack("{s:o,s:f}", "example", example, "score", (double)(count - i) / 4));
    }
    for (size_t i = 0; i < MODEL_IDS; i++) {
        const model_point *p = &asked.points.at[i];
        s->score[i] = a * likeness_to(&target, 0, p);
        for (uint32_t k = 0; k < count / 2; k++) {
            const double apart = (double)(count - 1 - 2 * k) / 4;
            s->score[i] += pow(apart, b) * c *
                           (likeness_to(rated, k, p) - likeness_to(rated, count - 1 - k, p));
        }
    }
    forget(&target);
    return json_pack("{s:{s:o,s:o,s:{s:{s:f,s:f,s:f}}}}", "relevance_feedback", "target", wanted,
                     "feedback", list, "strategy", "naive", "a", a, "b", b, "c", c);
}

void
ask_examples(void)
{
    ask_scores s = {.ascending = false};
    const model_vector *v = &model_vectors[model_below(MODEL_PLAIN_VECTORS)];
    examples good = {.v = v}, bad = {.v = v};
    for (size_t i = 0; i < MODEL_IDS; i++) {
        s.in[i] = json_object_get(asked.points.at[i].vector, v->name) != NULL;
    }
    const uint32_t form = model_below(5);
    json_t *query = form < 2   ? recommend(&good, &bad, &s)
                    : form < 4 ? pairs(&good, &bad, &s)
                               : feedback(&good, &s);
    ask_query(ask_new(), query, v, &s);
    forget(&good);
    forget(&bad);
}
