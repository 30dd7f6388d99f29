/* What people read: --help, the reference page's rows, the effective values. */
#include <inttypes.h>
#include <string.h>

#include "config_internal.h"

static const char *
type_text(const ort_config_key *key)
{
    switch (key->type) {
    case ORT_CONFIG_STRING:
        return "text";
    case ORT_CONFIG_STRINGS:
        return "list";
    case ORT_CONFIG_BOOL:
        return "bool";
    case ORT_CONFIG_CHOICE:
        return "choice";
    case ORT_CONFIG_U32:
    case ORT_CONFIG_U64:
    default:
        return "number";
    }
}

void
ort_config__help(const ort_config_schema *schema, FILE *stream)
{
    (void)fprintf(stream,
                  "%s: %s\n\n"
                  "Usage: %s [--config=FILE] [--KEY=VALUE ...]\n\n"
                  "A flag wins over the environment (ORTHANT_KEY, dots as underscores), that over\n"
                  "the YAML file (--config, or ORTHANT_CONFIG), that over the default.\n\n",
                  schema->program, schema->about, schema->program);
    for (size_t i = 0; i < schema->key_count; i++) {
        const ort_config_key *key = &schema->keys[i];
        (void)fprintf(stream, "  --%s=%s%s%s%s\n      %s", key->path,
                      key->unit[0] != '\0' ? key->unit : type_text(key),
                      key->otherwise != NULL ? "" : "  (required)",
                      key->otherwise != NULL && key->otherwise[0] != '\0' ? "  default " : "",
                      key->otherwise != NULL ? key->otherwise : "", key->help);
        for (size_t k = 0; key->type == ORT_CONFIG_CHOICE && key->choices[k] != NULL; k++) {
            (void)fprintf(stream, "%s%s", k == 0 ? " One of: " : ", ", key->choices[k]);
        }
        (void)fprintf(stream, "\n");
    }
    (void)fprintf(stream, "\n  --help, --version\n");
}

void
ort_config_reference(const ort_config_schema *schema, FILE *stream)
{
    (void)fprintf(stream, "| Key | Type | Unit | Default | Range | |\n"
                          "| --- | --- | --- | --- | --- | --- |\n");
    for (size_t i = 0; i < schema->key_count; i++) {
        const ort_config_key *key = &schema->keys[i];
        (void)fprintf(stream, "| `%s` | %s | %s | ", key->path, type_text(key),
                      key->unit[0] != '\0' ? key->unit : "-");
        if (key->otherwise == NULL) {
            (void)fprintf(stream, "required | ");
        } else {
            (void)fprintf(stream, "`%s` | ", key->otherwise[0] != '\0' ? key->otherwise : "\"\"");
        }
        if (key->type == ORT_CONFIG_CHOICE) {
            for (size_t k = 0; key->choices[k] != NULL; k++) {
                (void)fprintf(stream, "%s`%s`", k > 0 ? ", " : "", key->choices[k]);
            }
        } else if (key->type == ORT_CONFIG_BOOL) {
            (void)fprintf(stream, "`true`, `false`");
        } else {
            (void)fprintf(stream, "%" PRIu64 " .. %" PRIu64 "%s", key->min, key->max,
                          key->type == ORT_CONFIG_STRING    ? " bytes of text"
                          : key->type == ORT_CONFIG_STRINGS ? " items"
                                                            : "");
        }
        (void)fprintf(stream, " | %s |\n", key->help);
    }
}

/* A text in double quotes, which YAML reads back as it was. */
static void
quoted(FILE *stream, const char *text)
{
    (void)fputc('"', stream);
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\') {
            (void)fprintf(stream, "\\%c", *p);
        } else if (*p < ' ') {
            (void)fprintf(stream, "\\x%02x", *p);
        } else {
            (void)fputc(*p, stream);
        }
    }
    (void)fputc('"', stream);
}

static void
value_dump(const ort_config_key *key, const void *config, FILE *stream)
{
    const void *at = (const char *)config + key->offset;

    switch (key->type) {
    case ORT_CONFIG_STRING:
        quoted(stream, *(char *const *)at);
        break;
    case ORT_CONFIG_STRINGS: {
        const ort_config_strings *list = at;
        (void)fputc('[', stream);
        for (uint64_t i = 0; i < list->count; i++) {
            (void)fputs(i > 0 ? ", " : "", stream);
            quoted(stream, list->items[i]);
        }
        (void)fputc(']', stream);
        break;
    }
    case ORT_CONFIG_U32:
        (void)fprintf(stream, "%" PRIu32, *(const uint32_t *)at);
        break;
    case ORT_CONFIG_U64:
        (void)fprintf(stream, "%" PRIu64, *(const uint64_t *)at);
        break;
    case ORT_CONFIG_BOOL:
        (void)fputs(*(const bool *)at ? "true" : "false", stream);
        break;
    case ORT_CONFIG_CHOICE:
    default:
        (void)fputs(key->choices[*(const uint32_t *)at], stream);
        break;
    }
}

void
ort_config_dump(const ort_config_schema *schema, const void *config, FILE *stream)
{
    char group[64] = "";

    /* The keys of a group stand together in every table. */
    for (size_t i = 0; i < schema->key_count; i++) {
        const char *path = schema->keys[i].path;
        const char *dot = strchr(path, '.');
        size_t len = dot != NULL ? (size_t)(dot - path) : 0;
        if (dot != NULL && (strlen(group) != len || strncmp(group, path, len) != 0)) {
            (void)snprintf(group, sizeof group, "%.*s", (int)len, path);
            (void)fprintf(stream, "%s:\n", group);
        }
        (void)fprintf(stream, "%s%s: ", dot != NULL ? "  " : "", dot != NULL ? dot + 1 : path);
        value_dump(&schema->keys[i], config, stream);
        (void)fputc('\n', stream);
    }
}
