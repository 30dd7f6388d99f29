/* control-plane/api/yaml2json.c: an API document from YAML, as people write it, to C source that
 * holds it as JSON, as /openapi.json serves it and as tests hold answers against it. Runs while
 * building; its input is our own file, yet every surprise in it ends the build with its line.
 *
 *     yaml2json admin-api.yaml symbol api/openapi.h > out.c      the header declares symbol,
 * symbol_len
 *
 * Of YAML's core schema it takes what JSON can say: plain scalars that read as null, true, false or
 * a number are those, quoted and block scalars are strings. Anchors, aliases and tags are refused.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/json_write.h"

static void
fail(const yaml_node_t *node, const char *what)
{
    fprintf(stderr, "yaml2json: line %zu: %s\n", node != NULL ? node->start_mark.line + 1 : 0,
            what);
    exit(1);
}

/* JSON's number grammar, which is stricter than strtod's. */
static bool
is_number(const char *s)
{
    s += *s == '-';
    if (*s == '0') {
        s++;
    } else if (*s >= '1' && *s <= '9') {
        s += strspn(s, "0123456789");
    } else {
        return false;
    }
    if (*s == '.') {
        size_t digits = strspn(s + 1, "0123456789");
        if (digits == 0) {
            return false;
        }
        s += 1 + digits;
    }
    return *s == '\0';
}

static void
write_scalar(ort_jw *w, const yaml_node_t *node)
{
    const char *text = (const char *)node->data.scalar.value;
    size_t len = node->data.scalar.length;

    if (strlen(text) != len) {
        fail(node, "a NUL in a scalar");
    }
    if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) {
        ort_jw_str_n(w, text, len);
    } else if (strcmp(text, "null") == 0 || strcmp(text, "~") == 0 || len == 0) {
        ort_jw_null(w);
    } else if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
        ort_jw_bool(w, text[0] == 't');
    } else if (is_number(text)) {
        ort_jw_raw(w, text, len);
    } else {
        ort_jw_str_n(w, text, len);
    }
}

static void
write_node(ort_jw *w, yaml_document_t *doc, int index, unsigned depth)
{
    yaml_node_t *node = yaml_document_get_node(doc, index);

    if (node == NULL || depth > 64) {
        fail(node, "nested too deep");
        return;
    }
    switch (node->type) {
    case YAML_SCALAR_NODE:
        write_scalar(w, node);
        break;
    case YAML_SEQUENCE_NODE:
        ort_jw_array(w);
        for (yaml_node_item_t *i = node->data.sequence.items.start;
             i < node->data.sequence.items.top; i++) {
            write_node(w, doc, *i, depth + 1);
        }
        ort_jw_array_end(w);
        break;
    case YAML_MAPPING_NODE:
        ort_jw_object(w);
        for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top;
             p++) {
            yaml_node_t *key = yaml_document_get_node(doc, p->key);
            if (key == NULL || key->type != YAML_SCALAR_NODE) {
                fail(key, "a key that is no scalar");
                return;
            }
            ort_jw_key_n(w, (const char *)key->data.scalar.value, key->data.scalar.length);
            write_node(w, doc, p->value, depth + 1);
        }
        ort_jw_object_end(w);
        break;
    case YAML_NO_NODE:
        fail(node, "an empty node");
        break;
    }
}

/* As bytes rather than a string literal: those have a limit of 4095 characters in C17. */
static void
write_source(const ort_buf *json, const char *symbol, const char *header)
{
    printf("/* Made by yaml2json; change the YAML instead. */\n#include <stddef.h>\n"
           "#include \"%s\"\n"
           "const char %s[] = {",
           header, symbol);
    for (size_t i = 0; i < json->len; i++) {
        printf("%s%d,", i % 24 == 0 ? "\n" : "", json->data[i]);
    }
    printf("0};\nconst size_t %s_len = %zu;\n", symbol, json->len);
}

int
main(int argc, char **argv)
{
    yaml_parser_t parser;
    yaml_document_t doc;
    ort_buf json = {0};
    ort_jw w = {.buf = &json};

    if (argc != 4) {
        fprintf(stderr, "usage: yaml2json FILE SYMBOL HEADER\n");
        return 2;
    }
    FILE *in = fopen(argv[1], "rb");
    if (in == NULL || !yaml_parser_initialize(&parser)) {
        perror(argv[1]);
        return 1;
    }
    yaml_parser_set_input_file(&parser, in);
    if (!yaml_parser_load(&parser, &doc)) {
        fprintf(stderr, "yaml2json: %s:%zu: %s\n", argv[1], parser.problem_mark.line + 1,
                parser.problem != NULL ? parser.problem : "does not parse");
        return 1;
    }
    if (yaml_document_get_root_node(&doc) == NULL) {
        fail(NULL, "an empty document");
    }
    write_node(&w, &doc, 1, 0);
    if (ort_buf_check(&json) != ORT_OK) {
        fail(NULL, "out of memory");
    }
    write_source(&json, argv[2], argv[3]);
    ort_buf_fini(&json);
    yaml_document_delete(&doc);
    yaml_parser_delete(&parser);
    fclose(in);
    return fflush(stdout) == 0 ? 0 : 1;
}
