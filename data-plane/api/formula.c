/* Formulas, evaluated for one point after the other. In doubles; rounded once, at the end. */
#include "api/formula.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/formula_internal.h"
#include "base/clock.h"
#include "base/num.h"

typedef struct {
    const dp_formula *formula;
    const dp_formula_point *point;
    ort_diag *diag;
} evaluation;

static ort_err evaluate(evaluation *e, uint32_t node, double *out);

/* A number as Rust prints it: no point where there is no fraction. */
static const char *
shown(double v, char out[ORT_NUM_TEXT_BYTES])
{
    if (!isfinite(v)) {
        snprintf(out, ORT_NUM_TEXT_BYTES, "%s", isnan(v) ? "NaN" : v > 0 ? "inf" : "-inf");
        return out;
    }
    const size_t len = ort_num_put_f64(out, v);
    if (len > 2 && strcmp(out + len - 2, ".0") == 0) {
        out[len - 2] = '\0';
    }
    return out;
}

/* ORT_OK with the value when it is finite; the rest tells how it came about. */
static ort_err
checked(evaluation *e, double v, const char *before, double a, const char *between, double b,
        double *out)
{
    char ta[ORT_NUM_TEXT_BYTES], tb[ORT_NUM_TEXT_BYTES], tv[ORT_NUM_TEXT_BYTES];
    if (isfinite(v)) {
        *out = v;
        return ORT_OK;
    }
    const bool two = strlen(between) == 1 && between[0] != ')';
    return ort_fail(e->diag, ORT_EINVAL,
                    "The expression %s%s%s%s = %s produced a non-finite number", before,
                    shown(a, ta), between, two ? shown(b, tb) : "", shown(v, tv));
}

/* --- values of payloads ------------------------------------------------------------------------
 */

/* The one value that a key leads to; more than one are none that can be used. */
typedef struct {
    ort_json value;
    uint32_t count;
    bool every;
} finding;

static bool
find_value(void *ctx, ort_json v)
{
    finding *f = ctx;
    if (f->every || ort_json_type_of(v) != ORT_JSON_ARRAY) {
        f->value = v;
        f->count++;
        return f->count < 2;
    }
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it) && f->count < 2;) {
        f->value = it.value;
        f->count++;
    }
    return f->count < 2;
}

static ort_err
no_value(evaluation *e, const dp_formula_node *n, const char *kind, const char *why)
{
    return ort_fail(e->diag, ORT_EINVAL,
                    "Expected %s value for %.100s in the payload and/or in the formula defaults. "
                    "Error: %s",
                    kind, n->key, why);
}

/* NONE: there is none, neither here nor as a default. */
static ort_json
value_of(evaluation *e, const dp_formula_node *n, bool *several)
{
    finding f = {.every = n->every};
    if (ort_json_type_of(e->point->payload) == ORT_JSON_OBJECT) {
        dp_path_each(n->path, e->point->payload, find_value, &f);
    }
    *several = f.count > 1;
    return f.count > 0 ? f.value : n->otherwise;
}

static ort_err
number_of(evaluation *e, const dp_formula_node *n, double *out)
{
    bool several;
    const ort_json v = value_of(e, n, &several);
    if (ort_json_type_of(v) == ORT_JSON_NONE) {
        return no_value(e, n, "number", "No value found in a payload nor defaults");
    }
    return !several && ort_json_f64(v, out) == ORT_OK
               ? ORT_OK
               : no_value(e, n, "number", "Value is not a number");
}

static ort_err
datetime_of(evaluation *e, const dp_formula_node *n, double *out)
{
    bool several;
    size_t len;
    int64_t micros;
    const ort_json v = value_of(e, n, &several);
    if (ort_json_type_of(v) == ORT_JSON_NONE) {
        return no_value(e, n, "datetime", "No value found in a payload nor defaults");
    }
    const char *text = several ? NULL : ort_json_str(v, &len);
    if (text == NULL) {
        return no_value(e, n, "datetime", "Value is not a string");
    }
    if (ort_rfc3339_parse(text, len, &micros) != ORT_OK) {
        return no_value(e, n, "datetime", "input contains invalid characters");
    }
    *out = (double)micros / 1e6;
    return ORT_OK;
}

/* Great-circle distance by the haversine formula on the mean radius of the earth (IUGG), as filters
 * measure it. */
static ort_err
distance_of(evaluation *e, const dp_formula_node *n, double *out)
{
    const double earth_radius_m = 6371008.8, degree = M_PI / 180;
    double lon, lat;
    bool several;
    const ort_json v = value_of(e, n, &several);
    if (ort_json_type_of(v) == ORT_JSON_NONE) {
        return no_value(e, n, "geo point", "No value found in a payload nor defaults");
    }
    if (several || ort_json_f64(ort_json_get(v, "lon"), &lon) != ORT_OK ||
        ort_json_f64(ort_json_get(v, "lat"), &lat) != ORT_OK) {
        return no_value(e, n, "geo point", "Value is not a geo point");
    }
    const double dlat = sin((lat - n->lat) * degree / 2), dlon = sin((lon - n->lon) * degree / 2);
    const double h = dlat * dlat + cos(n->lat * degree) * cos(lat * degree) * dlon * dlon;
    *out = 2 * earth_radius_m * asin(sqrt(h < 1 ? h : 1));
    return ORT_OK;
}

static double
score_of(const evaluation *e, const dp_formula_node *n)
{
    double v;
    if (n->index < e->point->score_count && !isnan(e->point->scores[n->index])) {
        return (double)e->point->scores[n->index];
    }
    return ort_json_f64(n->otherwise, &v) == ORT_OK ? v : 0;
}

static ort_err
condition(const evaluation *e, const dp_formula_node *n, double *out)
{
    dp_filter_point point = e->point->filter_point;
    ort_err err = ORT_OK;
    point.texts = n->texts;
    point.err = &err;
    *out = dp_filter_match(n->filter, &point) ? 1 : 0;
    return err;
}

/* --- operators ---------------------------------------------------------------------------------
 */

/* A product stops at the first zero: what comes behind it is not asked for, and may be missing. */
static ort_err
product(evaluation *e, const dp_formula_node *n, double *out)
{
    double v;
    *out = 1;
    for (uint32_t c = n->child; c != 0; c = e->formula->nodes[c].next) {
        const ort_err err = evaluate(e, c, &v);
        if (err != ORT_OK) {
            return err;
        }
        if (v == 0) {
            *out = 0;
            return ORT_OK;
        }
        *out *= v;
    }
    return ORT_OK;
}

static ort_err
sum(evaluation *e, const dp_formula_node *n, double *out)
{
    double v;
    *out = 0;
    for (uint32_t c = n->child; c != 0; c = e->formula->nodes[c].next) {
        const ort_err err = evaluate(e, c, &v);
        if (err != ORT_OK) {
            return err;
        }
        *out += v;
    }
    return ORT_OK;
}

static ort_err
quotient(evaluation *e, const dp_formula_node *n, double *out)
{
    double left, right;
    ort_err err = evaluate(e, n->child, &left);
    if (err != ORT_OK) {
        return err;
    }
    if (left == 0) {
        *out = 0;
        return ORT_OK;
    }
    err = evaluate(e, e->formula->nodes[n->child].next, &right);
    if (err != ORT_OK) {
        return err;
    }
    if (right == 0 && n->has_value) {
        *out = n->value;
        return ORT_OK;
    }
    return checked(e, left / right, "", left, "/", right, out);
}

static ort_err
power(evaluation *e, const dp_formula_node *n, double *out)
{
    double base = 0, exponent = 0;
    ort_err err = evaluate(e, n->child, &base);
    if (err == ORT_OK) {
        err = evaluate(e, e->formula->nodes[n->child].next, &exponent);
    }
    return err == ORT_OK ? checked(e, pow(base, exponent), "", base, "^", exponent, out) : err;
}

static ort_err
decay(evaluation *e, const dp_formula_node *n, double *out)
{
    const uint32_t target = e->formula->nodes[n->child].next;
    double x, at = 0;
    ort_err err = evaluate(e, n->child, &x);
    if (err == ORT_OK && target != 0) {
        err = evaluate(e, target, &at);
    }
    if (err != ORT_OK) {
        return err;
    }
    const double far = fabs(x - at);
    switch (n->op) {
    case DP_F_LIN_DECAY:
        *out = fmax(1 - n->value * far, 0);
        break;
    case DP_F_EXP_DECAY:
        *out = exp(n->value * far);
        break;
    default:
        *out = exp(n->value * far * far);
        break;
    }
    return ORT_OK;
}

/* Of one operand. */
static ort_err
unary(evaluation *e, const dp_formula_node *n, double *out)
{
    double v;
    const ort_err err = evaluate(e, n->child, &v);
    if (err != ORT_OK) {
        return err;
    }
    switch (n->op) {
    case DP_F_NEG:
        *out = -v;
        return ORT_OK;
    case DP_F_ABS:
        *out = fabs(v);
        return ORT_OK;
    case DP_F_SQRT:
        return checked(e, sqrt(v), "√", v, "", 0, out);
    case DP_F_EXP:
        return checked(e, exp(v), "exp(", v, ")", 0, out);
    case DP_F_LOG10:
        return checked(e, log10(v), "log10(", v, ")", 0, out);
    default:
        return checked(e, log(v), "ln(", v, ")", 0, out);
    }
}

static ort_err
evaluate(evaluation *e, uint32_t node, double *out)
{
    const dp_formula_node *n = &e->formula->nodes[node];
    switch (n->op) {
    case DP_F_CONSTANT:
        *out = n->value;
        return ORT_OK;
    case DP_F_SCORE:
        *out = score_of(e, n);
        return ORT_OK;
    case DP_F_KEY:
        return number_of(e, n, out);
    case DP_F_DATETIME_KEY:
        return datetime_of(e, n, out);
    case DP_F_GEO:
        return distance_of(e, n, out);
    case DP_F_CONDITION:
        return condition(e, n, out);
    case DP_F_MULT:
        return product(e, n, out);
    case DP_F_SUM:
        return sum(e, n, out);
    case DP_F_DIV:
        return quotient(e, n, out);
    case DP_F_POW:
        return power(e, n, out);
    case DP_F_LIN_DECAY:
    case DP_F_EXP_DECAY:
    case DP_F_GAUSS_DECAY:
        return decay(e, n, out);
    default:
        return unary(e, n, out);
    }
}

ort_err
dp_formula_score(const dp_formula *formula, const dp_formula_point *point, float *out,
                 ort_diag *diag)
{
    evaluation e = {.formula = formula, .point = point, .diag = diag};
    double v;
    const ort_err err = evaluate(&e, 0, &v);
    if (err != ORT_OK) {
        return err;
    }
    /* Sums and products may leave what a score can be. */
    if (!isfinite((float)v)) {
        char text[ORT_NUM_TEXT_BYTES];
        return ort_fail(diag, ORT_EINVAL,
                        "The expression formula = %s produced a non-finite number", shown(v, text));
    }
    *out = (float)v;
    return ORT_OK;
}
