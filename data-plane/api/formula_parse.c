/* Formulas, read from requests. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/formula_internal.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json_write.h"

typedef struct {
    dp_formula *formula;
    ort_diag *diag;
} parser;

static ort_err parse(parser *p, ort_json v, uint32_t *out);

static ort_err
no_expression(parser *p)
{
    return ort_fail(p->diag, ORT_EFORMAT,
                    "data did not match any variant of untagged enum Expression");
}

static ort_err
add_node(parser *p, dp_formula_op op, uint32_t *out)
{
    dp_formula *f = p->formula;
    if (f->count == DP_FORMULA_NODES_MAX) {
        return ort_fail(p->diag, ORT_EBADREQ, "the formula has more than %u terms",
                        DP_FORMULA_NODES_MAX);
    }
    if (f->count == f->cap) {
        const uint32_t cap = f->cap == 0 ? 16 : f->cap * 2;
        dp_formula_node *grown = realloc(f->nodes, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        f->nodes = grown;
        f->cap = cap;
    }
    f->nodes[f->count] = (dp_formula_node){.op = op};
    *out = f->count++;
    return ORT_OK;
}

/* Puts an expression behind the last child of a node; `last` is 0 before the first. */
static ort_err
add_child(parser *p, uint32_t node, ort_json v, uint32_t *last)
{
    uint32_t at;
    const ort_err err = parse(p, v, &at);
    if (err == ORT_OK) {
        if (*last == 0) {
            p->formula->nodes[node].child = at;
        } else {
            p->formula->nodes[*last].next = at;
        }
        *last = at;
    }
    return err;
}

/* The default of a payload key, by its text. */
static ort_json
default_of(ort_json defaults, const char *text, size_t len)
{
    ort_json found = {0};
    for (ort_json_iter it = ort_json_each(defaults); ort_json_step(&it);) {
        size_t n;
        const char *key = ort_json_str(it.key, &n);
        if (key != NULL && n == len && memcmp(key, text, n) == 0) {
            found = it.value;
        }
    }
    return found;
}

/* A path into payloads: a variable, or the key of a datetime or a place. */
static ort_err
put_key(parser *p, uint32_t node, const char *text, size_t len)
{
    dp_path *path;
    const ort_err err = dp_path_parse(&path, text, len, p->diag);
    if (err != ORT_OK) {
        return err == ORT_EFORMAT ? ORT_EINVAL : err; /* read when the formula is */
    }
    dp_formula_node *n = &p->formula->nodes[node];
    n->path = path;
    n->key = strndup(text, len);
    n->every = len >= 2 && memcmp(text + len - 2, "[]", 2) == 0;
    n->otherwise = default_of(p->formula->defaults, text, len);
    return n->key != NULL ? ORT_OK : ORT_ENOMEM;
}

static ort_err
put_key_value(parser *p, uint32_t node, ort_json v)
{
    size_t len;
    const char *text = ort_json_str(v, &len);
    return text != NULL ? put_key(p, node, text, len) : no_expression(p);
}

/* $score or $score[3]; nothing else begins with a dollar. */
static bool
read_score(const char *text, size_t len, uint64_t *index)
{
    static const char word[] = "$score";
    const size_t head = sizeof word - 1;
    *index = 0;
    if (len < head || memcmp(text, word, head) != 0) {
        return false;
    }
    if (len == head) {
        return true;
    }
    if (len < head + 3 || len > head + 12 || text[head] != '[' || text[len - 1] != ']') {
        return false;
    }
    for (size_t i = head + 1; i < len - 1; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        *index = *index * 10 + (uint64_t)(text[i] - '0');
    }
    return true;
}

static ort_err
parse_variable(parser *p, ort_json v, uint32_t *out)
{
    size_t len;
    const char *text = ort_json_str(v, &len);
    if (text == NULL) {
        return ORT_ENOMEM;
    }
    if (len == 0 || text[0] != '$') {
        const ort_err err = add_node(p, DP_F_KEY, out);
        return err == ORT_OK ? put_key(p, *out, text, len) : err;
    }
    uint64_t index;
    if (!read_score(text, len, &index)) {
        return ort_fail(p->diag, ORT_EINVAL, "Invalid reserved variable: %.*s",
                        (int)(len > 100 ? 100 : len), text);
    }
    const ort_err err = add_node(p, DP_F_SCORE, out);
    if (err == ORT_OK) {
        dp_formula_node *n = &p->formula->nodes[*out];
        n->index = index;
        n->otherwise = default_of(p->formula->defaults, text, len);
        if (!ort_json_given(n->otherwise) && index == 0) { /* both names of the first */
            const char *other = len == strlen("$score") ? "$score[0]" : "$score";
            n->otherwise = default_of(p->formula->defaults, other, strlen(other));
        }
    }
    return err;
}

static ort_err
parse_list(parser *p, uint32_t node, ort_json v)
{
    uint32_t last = 0;
    ort_err err = ORT_OK;
    if (ort_json_type_of(v) != ORT_JSON_ARRAY) {
        return no_expression(p);
    }
    for (ort_json_iter it = ort_json_each(v); err == ORT_OK && ort_json_step(&it);) {
        err = add_child(p, node, it.value, &last);
    }
    return err;
}

static ort_err
parse_two(parser *p, uint32_t node, ort_json first, ort_json second)
{
    uint32_t last = 0;
    if (!ort_json_given(first) || !ort_json_given(second)) {
        return no_expression(p);
    }
    const ort_err err = add_child(p, node, first, &last);
    return err == ORT_OK ? add_child(p, node, second, &last) : err;
}

static ort_err
parse_division(parser *p, uint32_t node, ort_json v)
{
    const ort_json otherwise = ort_json_get(v, "by_zero_default");
    if (ort_json_given(otherwise)) {
        dp_formula_node *n = &p->formula->nodes[node];
        n->has_value = true;
        if (ort_json_f64(otherwise, &n->value) != ORT_OK) {
            return no_expression(p);
        }
    }
    return parse_two(p, node, ort_json_get(v, "left"), ort_json_get(v, "right"));
}

static ort_err
parse_geo(parser *p, uint32_t node, ort_json v)
{
    const ort_json origin = ort_json_get(v, "origin");
    dp_formula_node *n = &p->formula->nodes[node];
    if (ort_json_f64(ort_json_get(origin, "lon"), &n->lon) != ORT_OK ||
        ort_json_f64(ort_json_get(origin, "lat"), &n->lat) != ORT_OK || fabs(n->lon) > 180 ||
        fabs(n->lat) > 90) {
        return no_expression(p);
    }
    return put_key_value(p, node, ort_json_get(v, "to"));
}

static ort_err
parse_datetime(parser *p, uint32_t node, ort_json v)
{
    size_t len;
    int64_t micros;
    const char *text = ort_json_str(v, &len);
    if (text == NULL || ort_rfc3339_parse(text, len, &micros) != ORT_OK) {
        return no_expression(p);
    }
    p->formula->nodes[node].op = DP_F_CONSTANT;
    p->formula->nodes[node].value = (double)micros / 1e6;
    return ORT_OK;
}

/* midpoint and scale become one number: what the distance is multiplied by. */
static ort_err
read_lambda(parser *p, uint32_t node, ort_json v)
{
    const ort_json given_midpoint = ort_json_get(v, "midpoint");
    const ort_json given_scale = ort_json_get(v, "scale");
    float midpoint = 0.5F, scale = 1;
    dp_formula_node *n = &p->formula->nodes[node];
    if ((ort_json_given(given_midpoint) && ort_json_f32(given_midpoint, &midpoint) != ORT_OK) ||
        (ort_json_given(given_scale) && ort_json_f32(given_scale, &scale) != ORT_OK)) {
        return no_expression(p);
    }
    const double m = (double)midpoint, s = (double)scale;
    if (n->op == DP_F_LIN_DECAY && !(m >= 0 && m <= 1)) {
        return ort_fail(p->diag, ORT_EINVAL,
                        "Validation failed: Linear decay midpoint should be in the range [0.0, "
                        "1.0], got %g.",
                        m);
    }
    if (n->op != DP_F_LIN_DECAY && !(m > 0 && m < 1)) {
        return ort_fail(p->diag, ORT_EINVAL,
                        "Validation failed: Decay midpoint should be in the range (0.0, 1.0), got "
                        "%g.",
                        m);
    }
    if (!(s > 0)) {
        return ort_fail(p->diag, ORT_EINVAL,
                        "Validation failed: Decay scale should be non-zero positive, got %g.", s);
    }
    n->value = n->op == DP_F_LIN_DECAY   ? (1 - m) / s
               : n->op == DP_F_EXP_DECAY ? log(m) / s
                                         : log(m) / (s * s);
    return ORT_OK;
}

static ort_err
parse_decay(parser *p, uint32_t node, ort_json v)
{
    const ort_json x = ort_json_get(v, "x"), target = ort_json_get(v, "target");
    uint32_t last = 0;
    if (!ort_json_given(x)) {
        return no_expression(p);
    }
    ort_err err = read_lambda(p, node, v);
    err = err == ORT_OK ? add_child(p, node, x, &last) : err;
    return err == ORT_OK && ort_json_given(target) ? add_child(p, node, target, &last) : err;
}

/* Anything else of an object is a condition: the filter that has it alone. */
static ort_err
parse_condition(parser *p, ort_json v, uint32_t *out)
{
    ort_buf text = {0};
    ort_jw w = {.buf = &text};
    ort_err err = add_node(p, DP_F_CONDITION, out);
    ort_jw_object(&w);
    ort_jw_key(&w, "must");
    ort_jw_value(&w, v);
    ort_jw_object_end(&w);
    err = err == ORT_OK ? ort_buf_check(&text) : err;
    if (err == ORT_OK) {
        err = dp_filter_parse_text(&p->formula->nodes[*out].filter, text.data, text.len, p->diag);
    }
    ort_buf_fini(&text);
    return err;
}

static const struct {
    const char *name;
    dp_formula_op op;
} operators[] = {
    {"mult", DP_F_MULT},
    {"sum", DP_F_SUM},
    {"neg", DP_F_NEG},
    {"abs", DP_F_ABS},
    {"div", DP_F_DIV},
    {"sqrt", DP_F_SQRT},
    {"pow", DP_F_POW},
    {"exp", DP_F_EXP},
    {"log10", DP_F_LOG10},
    {"ln", DP_F_LN},
    {"geo_distance", DP_F_GEO},
    {"datetime", DP_F_CONSTANT},
    {"datetime_key", DP_F_DATETIME_KEY},
    {"lin_decay", DP_F_LIN_DECAY},
    {"exp_decay", DP_F_EXP_DECAY},
    {"gauss_decay", DP_F_GAUSS_DECAY},
};

static ort_err
parse_operator(parser *p, uint32_t node, ort_json v)
{
    uint32_t last = 0;
    switch (p->formula->nodes[node].op) {
    case DP_F_MULT:
    case DP_F_SUM:
        return parse_list(p, node, v);
    case DP_F_DIV:
        return parse_division(p, node, v);
    case DP_F_POW:
        return parse_two(p, node, ort_json_get(v, "base"), ort_json_get(v, "exponent"));
    case DP_F_GEO:
        return parse_geo(p, node, v);
    case DP_F_CONSTANT:
        return parse_datetime(p, node, v);
    case DP_F_DATETIME_KEY:
        return put_key_value(p, node, v);
    case DP_F_LIN_DECAY:
    case DP_F_EXP_DECAY:
    case DP_F_GAUSS_DECAY:
        return parse_decay(p, node, v);
    default:
        return add_child(p, node, v, &last);
    }
}

/* JSON's own bound on nesting bounds the recursion. */
static ort_err
parse(parser *p, ort_json v, uint32_t *out)
{
    float constant;
    switch (ort_json_type_of(v)) {
    case ORT_JSON_NUMBER:
        if (ort_json_f32(v, &constant) != ORT_OK) {
            return no_expression(p);
        }
        const ort_err err = add_node(p, DP_F_CONSTANT, out);
        if (err == ORT_OK) {
            p->formula->nodes[*out].value = (double)constant;
        }
        return err;
    case ORT_JSON_STRING:
        return parse_variable(p, v, out);
    case ORT_JSON_OBJECT:
        break;
    default:
        return no_expression(p);
    }
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        const ort_json operand = ort_json_get(v, operators[i].name);
        if (ort_json_given(operand)) {
            const ort_err err = add_node(p, operators[i].op, out);
            return err == ORT_OK ? parse_operator(p, *out, operand) : err;
        }
    }
    return parse_condition(p, v, out);
}

static ort_err
check_defaults(ort_json defaults, ort_diag *diag)
{
    if (ort_json_given(defaults) && ort_json_type_of(defaults) != ORT_JSON_OBJECT) {
        return ort_fail(diag, ORT_EFORMAT, "query.defaults: invalid type, expected a map");
    }
    for (ort_json_iter it = ort_json_each(defaults); ort_json_step(&it);) {
        size_t len;
        uint64_t index;
        dp_path *path = NULL;
        const char *key = ort_json_str(it.key, &len);
        if (key == NULL) {
            return ORT_ENOMEM;
        }
        const bool reserved = len > 0 && key[0] == '$';
        const ort_err err = reserved ? ORT_OK : dp_path_parse(&path, key, len, NULL);
        dp_path_free(path);
        if (err == ORT_ENOMEM) {
            return err;
        }
        if (err != ORT_OK || (reserved && !read_score(key, len, &index))) {
            return ort_fail(diag, ORT_EVALIDATE, "query.defaults: Invalid payload variable: %.*s",
                            (int)(len > 100 ? 100 : len), key);
        }
        if (reserved && ort_json_type_of(it.value) != ORT_JSON_NUMBER) {
            return ort_fail(diag, ORT_EVALIDATE, "query.defaults: Score default must be a number");
        }
    }
    return ORT_OK;
}

ort_err
dp_formula_parse(dp_formula **out, ort_json v, ort_diag *diag)
{
    const ort_json formula = ort_json_get(v, "formula");
    uint32_t root;
    *out = NULL;
    dp_formula *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return ORT_ENOMEM;
    }
    f->defaults = ort_json_get(v, "defaults");
    parser p = {.formula = f, .diag = diag};
    ort_err err = check_defaults(f->defaults, diag);
    err = err == ORT_OK ? parse(&p, formula, &root) : err;
    if (err != ORT_OK) {
        dp_formula_free(f);
        return err;
    }
    *out = f;
    return ORT_OK;
}

void
dp_formula_free(dp_formula *formula)
{
    if (formula == NULL) {
        return;
    }
    for (uint32_t i = 0; i < formula->count; i++) {
        dp_path_free(formula->nodes[i].path);
        dp_filter_texts_free(formula->nodes[i].texts);
        dp_filter_free(formula->nodes[i].filter);
        free(formula->nodes[i].key);
    }
    free(formula->nodes);
    free(formula);
}

ort_err
dp_formula_bind(dp_formula *formula, dp_fields *fields, ort_diag *diag)
{
    ort_err err = ORT_OK;
    for (uint32_t i = 0; err == ORT_OK && i < formula->count; i++) {
        dp_formula_node *n = &formula->nodes[i];
        if (n->filter != NULL && n->texts == NULL) {
            err = dp_filter_bind(n->filter, fields, &n->texts, diag);
        }
    }
    return err;
}

bool
dp_formula_wants_payload(const dp_formula *formula)
{
    for (uint32_t i = 0; i < formula->count; i++) {
        if (formula->nodes[i].path != NULL || formula->nodes[i].filter != NULL) {
            return true;
        }
    }
    return false;
}
