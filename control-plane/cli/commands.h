/* control-plane/cli/commands.h: what `orthant` can do; each returns its exit code. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H
#include "cli/client.h"
#include "cli/options.h"

/* region, node, plan, tenant, key, usage, audit, token, placement: words[0] is the noun. */
int cli_admin_command(const cli_args *args, const cli_context *context);

/* The body that creates a collection as --dim (otherwise `dim_otherwise`), --distance, --datatype
 * and
 * --text-vector say; the caller's. NULL, with a message, when they make none. */
json_t *cli_collection_body(const cli_args *args, uint64_t dim_otherwise);

int cli_collection_command(const cli_args *args, const cli_context *context);
int cli_query_command(const cli_args *args, const cli_context *context);
int cli_import_command(const cli_args *args, const cli_context *context);
int cli_export_command(const cli_args *args, const cli_context *context);
int cli_top_command(const cli_args *args, const cli_context *context);
/* tenant backup, restore, clone: words[0] is "tenant". */
bool cli_is_backup_command(const cli_args *args);
int cli_backup_command(const cli_args *args, const cli_context *context);

int cli_doctor_command(const cli_args *args, const cli_context *context);
int cli_completion_command(const cli_args *args);

/* A yes from a person at the terminal, or --yes; without either: false, and says how. */
bool cli_confirm(const cli_args *args, const char *question);

/* All flags that any command takes; for the parser, the help and the completion. */
extern const cli_flag cli_flags_global[];
extern const cli_flag cli_flags_admin[];
extern const cli_flag cli_flags_data[];
#endif /* CLI_COMMANDS_H */
