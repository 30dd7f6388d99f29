/* Tables and JSON. */
#include "cli/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

ort_err
cli_format_of(const cli_args *args, cli_format *out, ort_diag *diag)
{
    const char *text = cli_args_get(args, "-o");
    if (text == NULL || strcmp(text, "table") == 0) {
        *out = CLI_TABLE;
    } else if (strcmp(text, "json") == 0) {
        *out = CLI_JSON;
    } else {
        return ort_fail(diag, ORT_EINVAL, "-o is table or json, not %s", text);
    }
    return ORT_OK;
}

const json_t *
cli_json_at(const json_t *object, const char *path)
{
    char name[64];
    while (object != NULL && *path != '\0') {
        const char *dot = strchr(path, '.');
        const size_t n = dot != NULL ? (size_t)(dot - path) : strlen(path);
        if (n >= sizeof name) {
            return NULL;
        }
        memcpy(name, path, n);
        name[n] = '\0';
        object = json_object_get(object, name);
        path += n + (dot != NULL);
    }
    return object;
}

/* A value in one cell: strings as they are, but for control characters, which could drive the
 * terminal; lists joined by commas. */
static void
put_cell(ort_buf *out, const json_t *v)
{
    size_t i;
    const json_t *item;
    switch (v != NULL ? json_typeof(v) : JSON_NULL) {
    case JSON_STRING:
        for (const char *p = json_string_value(v); *p != '\0'; p++) {
            ort_buf_putc(out, (unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p);
        }
        break;
    case JSON_INTEGER:
        ort_buf_printf(out, "%lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL:
        ort_buf_printf(out, "%g", json_real_value(v));
        break;
    case JSON_TRUE:
        ort_buf_puts(out, "yes");
        break;
    case JSON_FALSE:
        ort_buf_puts(out, "no");
        break;
    case JSON_ARRAY:
        json_array_foreach(v, i, item)
        {
            ort_buf_puts(out, i > 0 ? "," : "");
            put_cell(out, item);
        }
        if (json_array_size(v) == 0) {
            ort_buf_putc(out, '-');
        }
        break;
    case JSON_OBJECT: {
        char *text = json_dumps(v, JSON_COMPACT);
        ort_buf_puts(out, text != NULL ? text : "");
        free(text);
        break;
    }
    default:
        ort_buf_putc(out, '-');
    }
}

/* Columns of a terminal that UTF-8 text takes, near enough: its code points. */
static size_t
width_of(const char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    }
    return n;
}

#define CELL_WIDTH_MAX 60
#define COLUMNS_MAX 16

static void
print_cell(const json_t *item, const cli_column *column, size_t width, bool last)
{
    ort_buf cell = {0};
    put_cell(&cell, cli_json_at(item, column->path));
    const size_t w = width_of(cell.data, cell.len);
    fwrite(cell.data, 1, cell.len, stdout);
    printf("%*s", last ? 0 : (int)(width > w ? width - w : 0) + 2, "");
    ort_buf_fini(&cell);
}

void
cli_print_list(cli_format format, const json_t *items, const cli_column *columns,
               size_t column_count)
{
    size_t i, c, width[COLUMNS_MAX] = {0};
    const json_t *item;
    if (format == CLI_JSON) {
        json_dumpf(items, stdout, JSON_INDENT(2));
        putchar('\n');
        return;
    }
    if (json_array_size(items) == 0) {
        fputs("none\n", stderr);
        return;
    }
    for (c = 0; c < column_count && c < COLUMNS_MAX; c++) {
        width[c] = strlen(columns[c].heading);
        json_array_foreach(items, i, item)
        {
            ort_buf cell = {0};
            put_cell(&cell, cli_json_at(item, columns[c].path));
            const size_t w = width_of(cell.data, cell.len);
            width[c] = w > width[c] && w <= CELL_WIDTH_MAX ? w : width[c];
            ort_buf_fini(&cell);
        }
    }
    for (c = 0; c < column_count && c < COLUMNS_MAX; c++) {
        printf("%-*s", c + 1 < column_count ? (int)width[c] + 2 : 0, columns[c].heading);
    }
    putchar('\n');
    json_array_foreach(items, i, item)
    {
        for (c = 0; c < column_count && c < COLUMNS_MAX; c++) {
            print_cell(item, &columns[c], width[c], c + 1 == column_count);
        }
        putchar('\n');
    }
}

static void
print_members(const json_t *object, const char *prefix)
{
    const char *name;
    json_t *value;
    char path[256];
    json_object_foreach((json_t *)object, name, value)
    {
        snprintf(path, sizeof path, "%s%s%s", prefix, *prefix != '\0' ? "." : "", name);
        if (json_is_object(value) && json_object_size(value) > 0) {
            print_members(value, path);
            continue;
        }
        ort_buf cell = {0};
        put_cell(&cell, value);
        printf("%-36s %.*s\n", path, (int)cell.len, cell.data != NULL ? cell.data : "");
        ort_buf_fini(&cell);
    }
}

void
cli_print_object(cli_format format, const json_t *object)
{
    if (format == CLI_JSON || !json_is_object(object)) {
        json_dumpf(object, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
        putchar('\n');
        return;
    }
    print_members(object, "");
}

void
cli_human_count(double v, char *out, size_t cap)
{
    static const char units[] = " kMGTP";
    int unit = 0;
    while (v >= 1000 && unit < 5) {
        v /= 1000;
        unit++;
    }
    if (unit == 0) {
        snprintf(out, cap, "%.0f", v);
    } else {
        snprintf(out, cap, "%.1f %c", v, units[unit]);
    }
}
