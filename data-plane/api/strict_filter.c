/* Strict mode over filters and formulas: how much they ask, and whether indexes answer it. What is
 * malformed is passed by: whoever reads it will say so. */
#include <stdio.h>
#include <string.h>

#include "api/strict_internal.h"

#define PATH_BYTES_MAX 512u

/* --- which index a condition wants -------------------------------------------------------------
 */

static const char *
wanted_by_match(ort_json match)
{
    static const char *const lists[] = {"any", "except"};
    ort_json v = ort_json_get(match, "value");
    for (size_t i = 0; i < 2 && !ort_json_given(v); i++) {
        ort_json_iter it = ort_json_each(ort_json_get(match, lists[i]));
        v = ort_json_step(&it) ? it.value : v;
    }
    switch (ort_json_type_of(v)) {
    case ORT_JSON_STRING:
        return "keyword, uuid";
    case ORT_JSON_NUMBER:
        return "integer";
    case ORT_JSON_BOOL:
        return "bool";
    default:
        return ort_json_given(ort_json_get(match, "prefix")) ? "keyword" : "text";
    }
}

/* The types of index that answer a condition, in their order; NULL: it needs none. */
static const char *
wanted_types(ort_json condition)
{
    static const char *const geo[] = {"geo_bounding_box", "geo_radius", "geo_polygon"};
    const ort_json match = ort_json_get(condition, "match");
    const ort_json range = ort_json_get(condition, "range");

    if (ort_json_given(match)) {
        return wanted_by_match(match);
    }
    if (ort_json_given(range)) {
        for (ort_json_iter it = ort_json_each(range); ort_json_step(&it);) {
            if (ort_json_type_of(it.value) == ORT_JSON_STRING) {
                return "datetime";
            }
        }
        return "float, integer";
    }
    for (size_t i = 0; i < sizeof geo / sizeof geo[0]; i++) {
        if (ort_json_given(ort_json_get(condition, geo[i]))) {
            return "geo";
        }
    }
    return NULL;
}

/* A keyword index answers prefixes, and an integer index values or ranges, where it says so. */
static bool
serves(ort_json field, const char *kind, ort_json condition)
{
    const ort_json params = ort_json_get(field, "params"), match = ort_json_get(condition, "match");
    bool says = true;
    const char *flag = NULL;
    if (strcmp(kind, "keyword") == 0 && ort_json_given(ort_json_get(match, "prefix"))) {
        flag = "prefix";
        says = false;
    } else if (strcmp(kind, "integer") == 0) {
        flag = ort_json_given(match)                              ? "lookup"
               : ort_json_given(ort_json_get(condition, "range")) ? "range"
                                                                  : NULL;
    }
    if (flag != NULL && ort_json_bool(ort_json_get(params, flag), &says) != ORT_OK) {
        says = strcmp(flag, "prefix") != 0; /* what holds unless it is said */
    }
    return says;
}

/* condition: for what the index is wanted; NONE: for any of the types. */
static bool
is_indexed(strict_check *c, const char *path, const char *types, ort_json condition)
{
    const ort_json field = ort_json_get(dp_schema_peek_fields(c->schema), path);
    const ort_json kind = ort_json_get(field, "data_type");

    for (const char *at = types; at != NULL; at = strchr(at, ',')) {
        char name[16];
        at += strspn(at, ", ");
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ","), at);
        if (ort_json_str_is(kind, name) && serves(field, name, condition)) {
            return true;
        }
    }
    return false;
}

static ort_err
want_index(strict_check *c, const char *path, const char *types, ort_json condition,
           const char *help)
{
    char error[PATH_BYTES_MAX + 200];

    if (is_indexed(c, path, types, condition)) {
        return ORT_OK;
    }
    snprintf(error, sizeof error,
             "Index required but not found for \"%s\" of one of the following types: [%s]", path,
             types);
    return dp_strict__refuse(c, error, help);
}

/* --- the walk ----------------------------------------------------------------------------------
 */

/* What a walk is for; called for each condition that is no filter, with the path of the array it is
 * nested in ("a[].", or ""). */
typedef struct walk walk;
struct walk {
    strict_check *c;
    ort_err (*fn)(walk *w, ort_json condition, const char *inside);
    uint64_t count, largest;
    const char *help;
    bool found;
};

static ort_err walk_filter(walk *w, ort_json filter, const char *inside);

static bool
is_filter(ort_json condition)
{
    return ort_json_given(ort_json_get(condition, "must")) ||
           ort_json_given(ort_json_get(condition, "should")) ||
           ort_json_given(ort_json_get(condition, "must_not")) ||
           ort_json_given(ort_json_get(condition, "min_should"));
}

static ort_err
walk_condition(walk *w, ort_json condition, const char *inside)
{
    const ort_json nested = ort_json_get(condition, "nested");

    if (!ort_json_given(nested)) {
        return is_filter(condition) ? walk_filter(w, condition, inside)
                                    : w->fn(w, condition, inside);
    }
    size_t len;
    const char *key = ort_json_str(ort_json_get(nested, "key"), &len);
    char path[PATH_BYTES_MAX];
    if (key == NULL || len + strlen(inside) + 4 > sizeof path) {
        return ORT_OK;
    }
    const bool many = len > 2 && memcmp(key + len - 2, "[]", 2) == 0;
    snprintf(path, sizeof path, "%s%.*s%s.", inside, (int)len, key, many ? "" : "[]");
    return walk_filter(w, ort_json_get(nested, "filter"), path);
}

static ort_err
walk_list(walk *w, ort_json list, const char *inside)
{
    ort_err err = ORT_OK;

    if (ort_json_type_of(list) == ORT_JSON_OBJECT) {
        return walk_condition(w, list, inside);
    }
    for (ort_json_iter it = ort_json_each(list); err == ORT_OK && ort_json_step(&it);) {
        err = walk_condition(w, it.value, inside);
    }
    return err;
}

static ort_err
walk_filter(walk *w, ort_json filter, const char *inside)
{
    static const char *const clauses[] = {"must", "should", "must_not"};
    ort_err err = ORT_OK;

    for (size_t i = 0; err == ORT_OK && i < sizeof clauses / sizeof clauses[0]; i++) {
        err = walk_list(w, ort_json_get(filter, clauses[i]), inside);
    }
    const ort_json min_should = ort_json_get(filter, "min_should");
    return err == ORT_OK ? walk_list(w, ort_json_get(min_should, "conditions"), inside) : err;
}

/* --- what it is walked for ---------------------------------------------------------------------
 */

/* Lists of values in a condition: match any, match except, has_id. */
static ort_err
count_condition(walk *w, ort_json condition, const char *inside)
{
    const ort_json match = ort_json_get(condition, "match");
    const ort_json lists[] = {ort_json_get(match, "any"), ort_json_get(match, "except"),
                              ort_json_get(condition, "has_id")};
    (void)inside;

    w->count++;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        const uint64_t n = ort_json_count(lists[i]);
        w->largest = n > w->largest ? n : w->largest;
    }
    return ORT_OK;
}

static ort_err
check_key(walk *w, ort_json condition, const char *inside)
{
    size_t len;
    const char *key = ort_json_str(ort_json_get(condition, "key"), &len);
    const char *types = wanted_types(condition);
    char path[PATH_BYTES_MAX];

    if (key == NULL || types == NULL || len + strlen(inside) >= sizeof path) {
        return ORT_OK;
    }
    snprintf(path, sizeof path, "%s%.*s", inside, (int)len, key);
    return want_index(w->c, path, types, condition, w->help);
}

static bool
must_be_indexed(const strict_check *c)
{
    return !(c->write ? c->strict->unindexed_filtering_update
                      : c->strict->unindexed_filtering_retrieve);
}

/* First what it is, then what it would take: a filter that is too large is not told to get an
 * index.
 */
ort_err
dp_strict__check_filter(strict_check *c, ort_json filter)
{
    walk w = {.c = c,
              .fn = count_condition,
              .help = "Create an index for this key or use a different filter."};
    const dp_strict *s = c->strict;
    char error[120];
    ort_err err = walk_filter(&w, filter, "");

    c->cost += c->write ? 0 : w.count; /* a write costs the points it touches */
    if (err == ORT_OK && w.count > s->filter_max_conditions) {
        snprintf(error, sizeof error, "Filter condition limit reached (%llu > %llu)",
                 (unsigned long long)w.count, (unsigned long long)s->filter_max_conditions);
        return dp_strict__refuse(c, error, "Reduce the amount of conditions of your filter.");
    }
    if (err == ORT_OK && w.largest > s->condition_max_size) {
        snprintf(error, sizeof error, "Condition size limit reached (%llu > %llu)",
                 (unsigned long long)w.largest, (unsigned long long)s->condition_max_size);
        return dp_strict__refuse(c, error, "Reduce the size of your condition.");
    }
    w.fn = check_key;
    return err == ORT_OK && must_be_indexed(c) ? walk_filter(&w, filter, "") : err;
}

static ort_err
find_tenant(walk *w, ort_json condition, const char *inside)
{
    char path[PATH_BYTES_MAX];
    size_t len;
    bool tenant = false;
    const char *key = ort_json_str(ort_json_get(condition, "key"), &len);
    if (key != NULL && len + strlen(inside) < sizeof path) {
        snprintf(path, sizeof path, "%s%.*s", inside, (int)len, key);
        const ort_json field = ort_json_get(dp_schema_peek_fields(w->c->schema), path);
        const ort_json v = ort_json_get(ort_json_get(field, "params"), "is_tenant");
        w->found = w->found || (ort_json_bool(v, &tenant) == ORT_OK && tenant);
    }
    return ORT_OK;
}

bool
dp_strict__names_tenant(strict_check *c, ort_json filter)
{
    walk w = {.c = c, .fn = find_tenant};
    return walk_filter(&w, filter, "") == ORT_OK && w.found;
}

/* --- formulas -----------------------------------------------------------------------------------
 */

static const char formula_help[] =
    "Create an index for this key or use a different formula expression.";

static ort_err
want_for_formula(strict_check *c, ort_json key, const char *types)
{
    size_t len;
    char path[PATH_BYTES_MAX];
    const char *text = ort_json_str(key, &len);
    if (text == NULL || len >= sizeof path || (len > 0 && text[0] == '$')) {
        return ORT_OK;
    }
    snprintf(path, sizeof path, "%.*s", (int)len, text);
    return want_index(c, path, types, (ort_json){0}, formula_help);
}

/* JSON's own bound on nesting bounds the recursion. */
static ort_err
check_expression(strict_check *c, ort_json v)
{
    static const char *const free_of_keys[] = {"datetime", "has_id",   "has_vector",
                                               "slice",    "is_empty", "is_null"};
    const ort_json geo = ort_json_get(v, "geo_distance"), at = ort_json_get(v, "datetime_key");
    walk w = {.c = c, .fn = check_key, .help = formula_help};
    ort_err err = ORT_OK;

    if (ort_json_type_of(v) == ORT_JSON_STRING) {
        return want_for_formula(c, v, "float, integer");
    }
    if (ort_json_given(geo)) {
        return want_for_formula(c, ort_json_get(geo, "to"), "geo");
    }
    if (ort_json_given(at)) {
        return want_for_formula(c, at, "datetime");
    }
    for (size_t i = 0; i < sizeof free_of_keys / sizeof free_of_keys[0]; i++) {
        if (ort_json_given(ort_json_get(v, free_of_keys[i]))) {
            return ORT_OK;
        }
    }
    if (ort_json_given(ort_json_get(v, "key")) || ort_json_given(ort_json_get(v, "nested")) ||
        is_filter(v)) {
        return walk_condition(&w, v, "");
    }
    for (ort_json_iter it = ort_json_each(v); err == ORT_OK && ort_json_step(&it);) {
        err = check_expression(c, it.value);
    }
    return err;
}

ort_err
dp_strict__check_formula(strict_check *c, ort_json expression)
{
    return must_be_indexed(c) ? check_expression(c, expression) : ORT_OK;
}

/* --- groups -------------------------------------------------------------------------------------
 */

ort_err
dp_strict__check_group_by(strict_check *c, ort_json body)
{
    static const char help[] = "Create an index supporting `match` for this key.";
    char path[PATH_BYTES_MAX], error[PATH_BYTES_MAX + 120];
    size_t len, n;
    const char *key = ort_json_str(ort_json_get(body, "group_by"), &len);

    if (key == NULL || len >= sizeof path || !must_be_indexed(c)) {
        return ORT_OK;
    }
    snprintf(path, sizeof path, "%.*s", (int)len, key);
    const ort_json field = ort_json_get(dp_schema_peek_fields(c->schema), path);
    const char *kind = ort_json_str(ort_json_get(field, "data_type"), &n);
    if (kind == NULL) {
        snprintf(error, sizeof error, "Index required but not found for \"%s\"", path);
        return dp_strict__refuse(c, error, help);
    }
    if (is_indexed(c, path, "keyword, integer, uuid, bool", (ort_json){0})) {
        return ORT_OK;
    }
    snprintf(error, sizeof error, "Index of type \"%c%.*s\" found for \"%s\"", kind[0] - 'a' + 'A',
             (int)n - 1, kind + 1, path);
    return dp_strict__refuse(c, error, help);
}
