/* tests/support/json_schema.c: see the header. Plain recursion over both trees. */
#include "support/json_schema.h"

#include <math.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const json_t *document;
    char *why;
    size_t why_bytes;
    char path[512];
    unsigned depth;
} check;

static bool fits(check *c, const json_t *schema, const json_t *value);

__attribute__((format(printf, 2, 3))) static bool
refuse(check *c, const char *fmt, ...)
{
    va_list args;
    int n = snprintf(c->why, c->why_bytes, "%s: ", c->path[0] != '\0' ? c->path : "/");

    va_start(args, fmt);
    if (n > 0 && (size_t)n < c->why_bytes) {
        vsnprintf(c->why + n, c->why_bytes - (size_t)n, fmt, args);
    }
    va_end(args);
    return false;
}

static const json_t *
resolve(check *c, const char *ref)
{
    const json_t *at = c->document;

    if (strncmp(ref, "#/", 2) != 0) {
        return NULL;
    }
    for (ref += 2; *ref != '\0';) {
        size_t n = strcspn(ref, "/");
        char name[128];
        if (n >= sizeof name) {
            return NULL;
        }
        memcpy(name, ref, n);
        name[n] = '\0';
        at = json_object_get(at, name);
        ref += n + (ref[n] == '/');
    }
    return at;
}

/* The schema itself, or what its $ref leads to (siblings of $ref here are annotations). */
static const json_t *
deref(check *c, const json_t *schema)
{
    for (int hops = 0; hops < 16; hops++) {
        const char *ref = json_string_value(json_object_get(schema, "$ref"));
        if (ref == NULL) {
            return schema;
        }
        schema = resolve(c, ref);
    }
    return NULL;
}

static bool
is_type(const json_t *value, const char *type)
{
    if (strcmp(type, "integer") == 0) {
        return json_is_integer(value) ||
               (json_is_real(value) && json_real_value(value) == floor(json_real_value(value)));
    }
    if (strcmp(type, "number") == 0) {
        return json_is_number(value);
    }
    return (strcmp(type, "string") == 0 && json_is_string(value)) ||
           (strcmp(type, "object") == 0 && json_is_object(value)) ||
           (strcmp(type, "array") == 0 && json_is_array(value)) ||
           (strcmp(type, "boolean") == 0 && json_is_boolean(value)) ||
           (strcmp(type, "null") == 0 && json_is_null(value));
}

static bool
check_type(check *c, const json_t *type, const json_t *value)
{
    if (json_is_string(type)) {
        return is_type(value, json_string_value(type)) ||
               refuse(c, "is no %s", json_string_value(type));
    }
    for (size_t i = 0; i < json_array_size(type); i++) {
        if (is_type(value, json_string_value(json_array_get(type, i)))) {
            return true;
        }
    }
    return refuse(c, "is of none of the types allowed");
}

static bool
check_object(check *c, const json_t *schema, const json_t *value)
{
    const json_t *properties = json_object_get(schema, "properties");
    const json_t *others = json_object_get(schema, "additionalProperties");
    const json_t *required = json_object_get(schema, "required");
    const char *name;
    json_t *member;
    size_t path_len = strlen(c->path);

    for (size_t i = 0; i < json_array_size(required); i++) {
        name = json_string_value(json_array_get(required, i));
        if (json_object_get(value, name) == NULL) {
            return refuse(c, "lacks '%s'", name);
        }
    }
    json_object_foreach((json_t *)value, name, member)
    {
        const json_t *rule = json_object_get(properties, name);
        if (rule == NULL) {
            rule = others;
        }
        if (json_is_false(rule)) {
            return refuse(c, "has '%s', which the schema does not know", name);
        }
        if (rule == NULL || json_is_true(rule)) {
            continue;
        }
        snprintf(c->path + path_len, sizeof c->path - path_len, "/%s", name);
        if (!fits(c, rule, member)) {
            return false;
        }
        c->path[path_len] = '\0';
    }
    return true;
}

static bool
check_array(check *c, const json_t *schema, const json_t *value)
{
    const json_t *items = json_object_get(schema, "items");
    const json_t *min = json_object_get(schema, "minItems");
    const json_t *max = json_object_get(schema, "maxItems");
    size_t n = json_array_size(value);
    size_t path_len = strlen(c->path);

    if ((min != NULL && (json_int_t)n < json_integer_value(min)) ||
        (max != NULL && (json_int_t)n > json_integer_value(max))) {
        return refuse(c, "has %zu items", n);
    }
    for (size_t i = 0; items != NULL && i < n; i++) {
        snprintf(c->path + path_len, sizeof c->path - path_len, "/%zu", i);
        if (!fits(c, items, json_array_get(value, i))) {
            return false;
        }
        c->path[path_len] = '\0';
    }
    return true;
}

static bool
check_string(check *c, const json_t *schema, const json_t *value)
{
    const json_t *min = json_object_get(schema, "minLength");
    const json_t *max = json_object_get(schema, "maxLength");
    const char *pattern = json_string_value(json_object_get(schema, "pattern"));
    size_t n = json_string_length(value);
    regex_t re;

    if ((min != NULL && (json_int_t)n < json_integer_value(min)) ||
        (max != NULL && (json_int_t)n > json_integer_value(max))) {
        return refuse(c, "has %zu bytes", n);
    }
    if (pattern != NULL) {
        if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0) {
            return refuse(c, "the schema's pattern '%s' does not compile", pattern);
        }
        bool ok = regexec(&re, json_string_value(value), 0, NULL, 0) == 0;
        regfree(&re);
        if (!ok) {
            return refuse(c, "'%s' does not match %s", json_string_value(value), pattern);
        }
    }
    return true;
}

static bool
check_number(check *c, const json_t *schema, const json_t *value)
{
    const json_t *min = json_object_get(schema, "minimum");
    const json_t *max = json_object_get(schema, "maximum");
    double v = json_number_value(value);

    if ((min != NULL && v < json_number_value(min)) ||
        (max != NULL && v > json_number_value(max))) {
        return refuse(c, "%g is out of range", v);
    }
    return true;
}

static bool
check_choices(check *c, const json_t *schema, const json_t *value)
{
    static const char *const words[] = {"oneOf", "anyOf", "allOf"};

    for (size_t w = 0; w < 3; w++) {
        const json_t *list = json_object_get(schema, words[w]);
        size_t n = json_array_size(list);
        size_t good = 0;
        size_t path_len = strlen(c->path);
        if (list == NULL) {
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            good += fits(c, json_array_get(list, i), value);
            c->path[path_len] = '\0';
        }
        if ((w == 0 && good != 1) || (w == 1 && good == 0) || (w == 2 && good != n)) {
            return refuse(c, "fits %zu of %zu schemas of %s", good, n, words[w]);
        }
    }
    return true;
}

static bool
check_enum(check *c, const json_t *schema, const json_t *value)
{
    const json_t *list = json_object_get(schema, "enum");
    const json_t *constant = json_object_get(schema, "const");

    if (constant != NULL && !json_equal(constant, value)) {
        return refuse(c, "is not the one value allowed");
    }
    if (list == NULL) {
        return true;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_equal(json_array_get(list, i), value)) {
            return true;
        }
    }
    return refuse(c, "'%s' is none of the words allowed",
                  json_is_string(value) ? json_string_value(value) : "(no string)");
}

static bool
check_keywords(check *c, const json_t *schema)
{
    static const char *const known[] = {"type",
                                        "enum",
                                        "const",
                                        "required",
                                        "properties",
                                        "items",
                                        "minItems",
                                        "maxItems",
                                        "minLength",
                                        "maxLength",
                                        "additionalProperties",
                                        "pattern",
                                        "minimum",
                                        "maximum",
                                        "oneOf",
                                        "anyOf",
                                        "allOf",
                                        "$ref",
                                        "description",
                                        "format",
                                        "default",
                                        "title",
                                        "examples"};
    const char *name;
    json_t *unused;

    json_object_foreach((json_t *)schema, name, unused)
    {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(name, known[i]) != 0) {
            i++;
        }
        if (i == sizeof known / sizeof *known) {
            return refuse(c, "the schema uses '%s', which this validator does not know", name);
        }
    }
    return true;
}

static bool
fits(check *c, const json_t *schema, const json_t *value)
{
    bool ok = true;

    schema = deref(c, schema);
    if (schema == NULL) {
        return refuse(c, "the schema has a $ref to nothing");
    }
    if (json_is_true(schema)) {
        return true;
    }
    if (++c->depth > 64) {
        return refuse(c, "nested too deep");
    }
    ok = check_keywords(c, schema) && check_enum(c, schema, value) &&
         check_choices(c, schema, value);
    if (ok && json_object_get(schema, "type") != NULL) {
        ok = check_type(c, json_object_get(schema, "type"), value);
    }
    if (ok && json_is_object(value)) {
        ok = check_object(c, schema, value);
    } else if (ok && json_is_array(value)) {
        ok = check_array(c, schema, value);
    } else if (ok && json_is_string(value)) {
        ok = check_string(c, schema, value);
    } else if (ok && json_is_number(value)) {
        ok = check_number(c, schema, value);
    }
    c->depth--;
    return ok;
}

bool
json_schema_fits(const json_t *document, const json_t *schema, const json_t *value, char *why,
                 size_t why_bytes)
{
    check c = {.document = document, .why = why, .why_bytes = why_bytes};

    return fits(&c, schema, value);
}

/* "/v1/tenants/acme" against "/v1/tenants/{tenant}". Counts literal segments, so that a literal
 * path wins over one with a parameter; -1 is no match. */
static int
match_path(const char *pattern, const char *path)
{
    int literal = 0;

    while (*pattern == '/' && *path == '/') {
        size_t p = strcspn(pattern + 1, "/");
        size_t n = strcspn(path + 1, "/");
        if (pattern[1] == '{') {
            if (n == 0) {
                return -1;
            }
        } else if (p != n || memcmp(pattern + 1, path + 1, n) != 0) {
            return -1;
        } else {
            literal++;
        }
        pattern += 1 + p;
        path += 1 + n;
    }
    return *pattern == '\0' && *path == '\0' ? literal : -1;
}

static const json_t *
find_operation(const json_t *document, const char *method, const char *path)
{
    const char *pattern;
    json_t *item;
    const json_t *best = NULL;
    int best_literal = -1;
    char verb[16];
    size_t i = 0;

    for (; method[i] != '\0' && i + 1 < sizeof verb; i++) {
        verb[i] = (char)(method[i] | 0x20);
    }
    verb[i] = '\0';
    json_object_foreach(json_object_get(document, "paths"), pattern, item)
    {
        int literal = match_path(pattern, path);
        if (literal > best_literal) {
            best_literal = literal;
            best = item;
        }
    }
    return json_object_get(best, verb);
}

bool
openapi_answer_fits(const json_t *document, const char *method, const char *path, int status,
                    const char *content_type, const char *body, size_t body_len, char *why,
                    size_t why_bytes)
{
    check c = {.document = document, .why = why, .why_bytes = why_bytes};
    const json_t *operation = find_operation(document, method, path);
    const json_t *responses = json_object_get(operation, "responses");
    char code[8];
    char type[128];

    if (operation == NULL) {
        return refuse(&c, "%s %s is not in the document", method, path);
    }
    snprintf(code, sizeof code, "%d", status);
    const json_t *response = json_object_get(responses, code);
    if (response == NULL && status >= 400) {
        response = json_object_get(responses, "default");
    }
    if (response == NULL) {
        return refuse(&c, "%s %s may not answer %d", method, path, status);
    }
    response = deref(&c, response);
    const json_t *content = json_object_get(response, "content");
    if (content == NULL) {
        return body_len == 0 || refuse(&c, "%d has a body, and should have none", status);
    }
    snprintf(type, sizeof type, "%.*s", (int)strcspn(content_type != NULL ? content_type : "", ";"),
             content_type != NULL ? content_type : "");
    const json_t *media = json_object_get(content, type);
    if (media == NULL) {
        return refuse(&c, "%d is of type '%s', which the document does not allow", status, type);
    }
    if (strstr(type, "json") == NULL) {
        return true;
    }
    json_error_t err;
    json_t *value = json_loadb(body, body_len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &err);
    if (value == NULL && json_error_code(&err) == json_error_numeric_overflow) {
        /* Ids reach 2^64 - 1, jansson's integers 2^63 - 1. */
        value =
            json_loadb(body, body_len,
                       JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &err);
    }
    if (value == NULL) {
        return refuse(&c, "the body is no JSON: %s", err.text);
    }
    bool ok = fits(&c, json_object_get(media, "schema"), value);
    json_decref(value);
    return ok;
}
