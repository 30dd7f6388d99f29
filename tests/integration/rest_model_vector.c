/* Vectors of every kind, compared by the letter: whole and half numbers, so that sums are exact. */
#include <math.h>
#include <string.h>

#include "rest_model.h"

const model_vector model_vectors[MODEL_VECTORS] = {
    {.name = "d", .kind = MODEL_DENSE, .dim = 3},
    {.name = "s", .kind = MODEL_SPARSE},
    {.name = "m", .kind = MODEL_MULTI, .dim = 2},
    {.name = "e", .kind = MODEL_DENSE, .dim = 2, .metric = MODEL_EUCLID},
    {.name = "h", .kind = MODEL_DENSE, .dim = 2, .metric = MODEL_MANHATTAN},
    {.name = "b", .kind = MODEL_DENSE, .dim = 3, .bytes = true},
    {.name = "i", .kind = MODEL_SPARSE, .idf = true}};

static double
number_at(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

static double
row_likeness(const model_vector *v, const json_t *a, const json_t *b)
{
    double sum = 0;
    for (size_t i = 0; i < v->dim; i++) {
        const double x = number_at(a, i), y = number_at(b, i);
        sum += v->metric == MODEL_EUCLID      ? -(x - y) * (x - y)
               : v->metric == MODEL_MANHATTAN ? -fabs(x - y)
                                              : x * y;
    }
    return sum;
}

static double
multi_likeness(const model_vector *v, const json_t *a, const json_t *b)
{
    size_t i, j;
    json_t *x, *y;
    double sum = 0;
    json_array_foreach(a, i, x)
    {
        double best = -INFINITY;
        json_array_foreach(b, j, y)
        {
            best = fmax(best, row_likeness(v, x, y));
        }
        sum += best;
    }
    return sum;
}

static bool
sparse_likeness(const json_t *a, const json_t *b, double *like)
{
    size_t i, j;
    json_t *x, *y;
    bool common = false;
    json_array_foreach(json_object_get(a, "indices"), i, x)
    {
        json_array_foreach(json_object_get(b, "indices"), j, y)
        {
            if (json_equal(x, y)) {
                common = true;
                *like += number_at(json_object_get(a, "values"), i) *
                         number_at(json_object_get(b, "values"), j);
            }
        }
    }
    return common;
}

bool
model_likeness(const model_vector *v, const json_t *other, const model_point *p, double *like)
{
    const json_t *own = json_object_get(p->vector, v->name);
    *like = 0;
    if (own == NULL) {
        return false;
    }
    if (v->kind == MODEL_SPARSE) {
        return sparse_likeness(other, own, like);
    }
    *like = v->kind == MODEL_MULTI ? multi_likeness(v, other, own) : row_likeness(v, other, own);
    return true;
}

double
model_score(const model_vector *v, double likeness)
{
    return v->metric == MODEL_EUCLID      ? sqrt(-likeness)
           : v->metric == MODEL_MANHATTAN ? -likeness
                                          : likeness;
}

bool
model_gives_distances(const model_vector *v)
{
    return v->metric != MODEL_DOT;
}
