/* The YAML file, by libcyaml: it knows the shape (which keys, which of them lists), value.c knows
 * the values. Its schema is built from the program's table, all leaves being texts, so that there
 * is one parser of numbers and one wording of errors for file, environment and flags. */
#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <cyaml/cyaml.h>
#include <yaml.h>

#include "base/file.h"
#include "config_internal.h"

#define GROUPS_MAX 32u

/* What libcyaml fills: for each key one slot, and for lists a count. */
typedef struct {
    void **slots;
    uint64_t *counts;
} raw;

/* The first thing libcyaml complains about, and the innermost line of its backtrace. */
typedef struct {
    char text[256];
    unsigned line;
} complaint;

static void
complaint_take(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
    complaint *c = ctx;
    char text[256];
    const char *at;

    if (level < CYAML_LOG_ERROR) {
        return;
    }
    (void)vsnprintf(text, sizeof text, fmt, args);
    text[strcspn(text, "\n")] = '\0';
    at = strstr(text, "line: ");
    if (at != NULL && c->line == 0) {
        c->line = (unsigned)strtoul(at + 6, NULL, 10);
    } else if (at == NULL && c->text[0] == '\0' && strstr(text, "Backtrace") == NULL) {
        const char *words = strncmp(text, "Load: ", 6) == 0 ? text + 6 : text;
        (void)snprintf(c->text, sizeof c->text, "%s", words);
    }
}

static const cyaml_schema_value_t item_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 0, CYAML_UNLIMITED),
};

/* A field of libcyaml's for key `index`, called `name`. */
static cyaml_schema_field_t
leaf(const ort_config_schema *schema, size_t index, const char *name)
{
    cyaml_schema_field_t f = {.key = name, .data_offset = (uint32_t)(index * sizeof(void *))};

    if (schema->keys[index].type == ORT_CONFIG_STRINGS) {
        f.value = (cyaml_schema_value_t){CYAML_VALUE_SEQUENCE(
            CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, char *, &item_schema, 0, CYAML_UNLIMITED)};
        f.count_offset = (uint32_t)(schema->key_count * sizeof(void *) + index * sizeof(uint64_t));
        f.count_size = sizeof(uint64_t);
    } else {
        f.value = (cyaml_schema_value_t){CYAML_VALUE_STRING(
            CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, char *, 0, CYAML_UNLIMITED)};
    }
    return f;
}

/* libcyaml's schema of a program's table: "a" becomes a field, "a.b" and "a.c" fields of a map. */
typedef struct {
    cyaml_schema_field_t *fields; /* all, groups behind each other, each ended */
    char group_names[GROUPS_MAX][32];
    cyaml_schema_value_t top;
} shape;

static bool
in_group(const ort_config_key *key, const char *group, size_t len)
{
    return strncmp(key->path, group, len) == 0 && key->path[len] == '.';
}

/* Whether an earlier key of the table belongs to the same group. */
static bool
group_seen(const ort_config_schema *schema, size_t index, size_t len)
{
    for (size_t i = 0; i < index; i++) {
        if (in_group(&schema->keys[i], schema->keys[index].path, len)) {
            return true;
        }
    }
    return false;
}

static ort_err
shape_init(shape *s, const ort_config_schema *schema)
{
    size_t n = schema->key_count;
    /* At most: a field a key, a field a group, an end a group, and one end. */
    cyaml_schema_field_t *groups;
    size_t used = 0;
    size_t top = 0;
    size_t group_count = 0;

    s->fields = calloc(n + 2 * GROUPS_MAX + 1 + n + GROUPS_MAX + 1, sizeof *s->fields);
    if (s->fields == NULL) {
        return ORT_ENOMEM;
    }
    groups = s->fields + n + GROUPS_MAX + 1; /* behind the top level */
    for (size_t i = 0; i < n; i++) {
        const char *dot = strchr(schema->keys[i].path, '.');
        if (dot == NULL) {
            s->fields[top++] = leaf(schema, i, schema->keys[i].path);
            continue;
        }
        size_t len = (size_t)(dot - schema->keys[i].path);
        if (group_seen(schema, i, len) || group_count == GROUPS_MAX ||
            len >= sizeof s->group_names[0]) {
            continue;
        }
        memcpy(s->group_names[group_count], schema->keys[i].path, len);
        s->group_names[group_count][len] = '\0';
        cyaml_schema_field_t *first = &groups[used];
        for (size_t k = i; k < n; k++) {
            if (in_group(&schema->keys[k], schema->keys[i].path, len)) {
                groups[used++] = leaf(schema, k, schema->keys[k].path + len + 1);
            }
        }
        used++; /* the end: NULL key */
        s->fields[top++] = (cyaml_schema_field_t){
            .key = s->group_names[group_count++],
            .value = {.type = CYAML_MAPPING,
                      .flags = CYAML_FLAG_OPTIONAL,
                      .data_size = (uint32_t)(n * (sizeof(void *) + sizeof(uint64_t))),
                      .mapping = {.fields = first}},
        };
    }
    s->top = (cyaml_schema_value_t){
        .type = CYAML_MAPPING,
        .flags = CYAML_FLAG_POINTER,
        .data_size = (uint32_t)(n * (sizeof(void *) + sizeof(uint64_t))),
        .mapping = {.fields = s->fields},
    };
    return ORT_OK;
}

/* ---- lines, by libyaml: libcyaml forgets them ---- */

static const yaml_node_t *
map_get(yaml_document_t *doc, const yaml_node_t *map, const char *name, size_t len, uint32_t *line)
{
    if (map == NULL || map->type != YAML_MAPPING_NODE) {
        return NULL;
    }
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        const yaml_node_t *key = yaml_document_get_node(doc, p->key);
        if (key != NULL && key->type == YAML_SCALAR_NODE && key->data.scalar.length == len &&
            memcmp(key->data.scalar.value, name, len) == 0) {
            *line = (uint32_t)key->start_mark.line + 1;
            return yaml_document_get_node(doc, p->value);
        }
    }
    return NULL;
}

/* Twice the same key in one map: YAML forbids it, the library takes the last. */
static const yaml_node_t *
map_doubled(yaml_document_t *doc, const yaml_node_t *map)
{
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        const yaml_node_t *key = yaml_document_get_node(doc, p->key);
        uint32_t line = 0;
        if (key != NULL && key->type == YAML_SCALAR_NODE) {
            (void)map_get(doc, map, (const char *)key->data.scalar.value, key->data.scalar.length,
                          &line);
            if (line != key->start_mark.line + 1) {
                return key;
            }
        }
    }
    return NULL;
}

static ort_err
doubled_check(yaml_document_t *doc, const char *path, ort_diag *diag)
{
    for (yaml_node_t *node = doc->nodes.start; node < doc->nodes.top; node++) {
        const yaml_node_t *key = node->type == YAML_MAPPING_NODE ? map_doubled(doc, node) : NULL;
        if (key != NULL) {
            return ort_fail(diag, ORT_EINVAL, "%s:%zu: %.64s stands here a second time", path,
                            key->start_mark.line + 1, (const char *)key->data.scalar.value);
        }
    }
    return ORT_OK;
}

/* Whether the table has this key, or (group NULL) this group. */
static bool
known(const ort_config_schema *schema, const yaml_node_t *group, const yaml_node_t *key)
{
    char path[256];

    (void)snprintf(path, sizeof path, "%s%s%s",
                   group != NULL ? (const char *)group->data.scalar.value : "",
                   group != NULL ? "." : "", (const char *)key->data.scalar.value);
    for (size_t i = 0; i < schema->key_count; i++) {
        const char *have = schema->keys[i].path;
        if (strcmp(have, path) == 0 ||
            (group == NULL && in_group(&schema->keys[i], path, strlen(path)))) {
            return true;
        }
    }
    return false;
}

/* Refuses keys that the table does not have; libcyaml would too, but is a line off at times. */
static ort_err
unknown_check(const ort_config_schema *schema, yaml_document_t *doc, const yaml_node_t *map,
              const yaml_node_t *group, const char *path, ort_diag *diag)
{
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        const yaml_node_t *key = yaml_document_get_node(doc, p->key);
        const yaml_node_t *value = yaml_document_get_node(doc, p->value);
        if (key == NULL || key->type != YAML_SCALAR_NODE || !known(schema, group, key)) {
            const bool scalar = key != NULL && key->type == YAML_SCALAR_NODE;
            return ort_fail(diag, ORT_EINVAL, "%s:%zu: unknown key %s%s%.64s", path,
                            key != NULL ? key->start_mark.line + 1 : 0,
                            group != NULL ? (const char *)group->data.scalar.value : "",
                            group != NULL ? "." : "",
                            scalar ? (const char *)key->data.scalar.value : "(not a text)");
        }
        if (group == NULL && value != NULL && value->type == YAML_MAPPING_NODE) {
            ort_err err = unknown_check(schema, doc, value, key, path, diag);
            if (err != ORT_OK) {
                return err;
            }
        }
    }
    return ORT_OK;
}

/* Notes the line of each key. *empty_out: the file holds no value at all. */
static ort_err
lines_read(const ort_config_schema *schema, const char *path, const ort_buf *file, uint32_t *lines,
           bool *empty_out, ort_diag *diag)
{
    yaml_parser_t parser;
    yaml_document_t doc;
    ort_err err = ORT_OK;

    if (yaml_parser_initialize(&parser) != 1) {
        return ort_fail(diag, ORT_ENOMEM, "%s", path);
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)file->data, file->len);
    if (yaml_parser_load(&parser, &doc) != 1) {
        err = ort_fail(diag, ORT_EFORMAT, "%s:%zu: %s", path, parser.problem_mark.line + 1,
                       parser.problem != NULL ? parser.problem : "not YAML");
        yaml_parser_delete(&parser);
        return err;
    }
    const yaml_node_t *root = yaml_document_get_root_node(&doc);
    *empty_out = root == NULL || (root->type == YAML_SCALAR_NODE && root->data.scalar.length == 0);
    if (!*empty_out && root->type != YAML_MAPPING_NODE) {
        err = ort_fail(diag, ORT_EINVAL, "%s:1: not a map of keys and values", path);
    }
    if (err == ORT_OK && !*empty_out) {
        err = unknown_check(schema, &doc, root, NULL, path, diag);
    }
    for (size_t i = 0; err == ORT_OK && !*empty_out && i < schema->key_count; i++) {
        const char *name = schema->keys[i].path;
        const char *dot = strchr(name, '.');
        uint32_t unused = 0;
        if (dot == NULL) {
            (void)map_get(&doc, root, name, strlen(name), &lines[i]);
        } else {
            const yaml_node_t *group = map_get(&doc, root, name, (size_t)(dot - name), &unused);
            (void)map_get(&doc, group, dot + 1, strlen(dot + 1), &lines[i]);
        }
    }
    if (err == ORT_OK) {
        err = doubled_check(&doc, path, diag);
    }
    yaml_document_delete(&doc);
    yaml_parser_delete(&parser);
    return err;
}

/* ---- values ---- */

static ort_err
values_load(const ort_config_schema *schema, const char *path, const ort_buf *file,
            ort_config__values *out, ort_diag *diag)
{
    complaint c = {.text = ""};
    const cyaml_config_t config = {
        .log_fn = complaint_take,
        .log_ctx = &c,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_ERROR,
        .flags = CYAML_CFG_DEFAULT,
    };
    shape s = {0};
    void *data = NULL;
    size_t n = schema->key_count;

    if (shape_init(&s, schema) != ORT_OK) {
        return ort_fail(diag, ORT_ENOMEM, "%s", path);
    }
    cyaml_err_t got =
        cyaml_load_data((const uint8_t *)file->data, file->len, &config, &s.top, &data, NULL);
    if (got != CYAML_OK) {
        free(s.fields);
        return ort_fail(diag, ORT_EINVAL, "%s:%u: %s", path, c.line,
                        c.text[0] != '\0' ? c.text : cyaml_strerror(got));
    }
    ort_err err = ORT_OK;
    raw r = {.slots = data, .counts = (uint64_t *)((char *)data + n * sizeof(void *))};
    for (size_t i = 0; err == ORT_OK && i < n; i++) {
        /* An empty list is given, but has no memory of its own. */
        if (r.slots[i] == NULL &&
            (out->lines[i] == 0 || schema->keys[i].type != ORT_CONFIG_STRINGS)) {
            continue;
        }
        if (schema->keys[i].type == ORT_CONFIG_STRINGS) {
            char **items = r.slots[i];
            ort_config_strings *list = &out->lists[i];
            list->items = calloc((size_t)r.counts[i] + 1, sizeof *list->items);
            for (uint64_t k = 0; list->items != NULL && items != NULL && k < r.counts[i]; k++) {
                list->items[k] = strdup(items[k]);
                list->count = k + 1;
                err = list->items[k] == NULL ? ORT_ENOMEM : err;
            }
            err = list->items == NULL ? ORT_ENOMEM : err;
        } else {
            out->text[i] = strdup(r.slots[i]);
            err = out->text[i] == NULL ? ORT_ENOMEM : ORT_OK;
        }
    }
    (void)cyaml_free(&config, &s.top, data, 0);
    free(s.fields);
    return err == ORT_OK ? ORT_OK : ort_fail(diag, err, "%s", path);
}

void
ort_config__values_fini(const ort_config_schema *schema, ort_config__values *values)
{
    for (size_t i = 0; i < schema->key_count; i++) {
        if (values->text != NULL) {
            free(values->text[i]);
        }
        if (values->lists != NULL) {
            for (uint64_t k = 0; k < values->lists[i].count; k++) {
                free(values->lists[i].items[k]);
            }
            free(values->lists[i].items);
        }
    }
    free(values->text);
    free(values->lists);
    free(values->lines);
    *values = (ort_config__values){0};
}

ort_err
ort_config__file_read(const ort_config_schema *schema, const char *path, ort_config__values *out,
                      ort_diag *diag)
{
    ort_buf file = {0};
    bool empty = false;
    ort_err err;

    *out = (ort_config__values){
        .text = calloc(schema->key_count, sizeof *out->text),
        .lists = calloc(schema->key_count, sizeof *out->lists),
        .lines = calloc(schema->key_count, sizeof *out->lines),
    };
    if (out->text == NULL || out->lists == NULL || out->lines == NULL) {
        ort_config__values_fini(schema, out);
        return ort_fail(diag, ORT_ENOMEM, "%s", path);
    }
    err = ort_file_read(AT_FDCWD, path, ORT_CONFIG_FILE_BYTES_MAX, &file, diag);
    if (err == ORT_OK) {
        err = lines_read(schema, path, &file, out->lines, &empty, diag);
    }
    if (err == ORT_OK && !empty) {
        err = values_load(schema, path, &file, out, diag);
    }
    ort_buf_fini(&file);
    if (err != ORT_OK) {
        ort_config__values_fini(schema, out);
    }
    return err;
}
