/* control-plane/cli/output.h: answers as tables for people, as JSON for programs. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H
#include <jansson.h>

#include "cli/options.h"

/* One column: where the value stands ("limits.max_vectors") and its heading. */
typedef struct {
    const char *path, *heading;
} cli_column;

typedef enum { CLI_TABLE, CLI_JSON } cli_format;

/* From -o; ORT_EINVAL for another word. */
ORT_NODISCARD ort_err cli_format_of(const cli_args *args, cli_format *out, ort_diag *diag);

/* Prints objects: one row each under headings, or the JSON array. An empty list says so (on
 * standard error, so that scripts see nothing). */
void cli_print_list(cli_format format, const json_t *items, const cli_column *columns,
                    size_t column_count);

/* Prints one object: a line a member, nested ones by their path, or the JSON. */
void cli_print_object(cli_format format, const json_t *object);

/* The value at a dotted path, or NULL; borrowed. */
const json_t *cli_json_at(const json_t *object, const char *path);

/* "1.2 G" and the like, for people. */
void cli_human_count(double v, char *out, size_t cap);
#endif /* CLI_OUTPUT_H */
