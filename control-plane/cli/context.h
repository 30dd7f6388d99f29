/* control-plane/cli/context.h: where the hub is and with what right: named contexts in a file that
 * only its owner reads. */
#ifndef CLI_CONTEXT_H
#define CLI_CONTEXT_H
#include <jansson.h>

#include "cli/options.h"

/* Owned texts; NULL: not known. From, each over the one after it: flags (--admin-url,
 * --admin-token,
 * --url, --api-key), the environment (ORTHANT_ADMIN_URL, ORTHANT_ADMIN_TOKEN, ORTHANT_URL,
 * ORTHANT_API_KEY), the context (--context, ORTHANT_CONTEXT, or the current one of the file). */
typedef struct {
    char *admin_url, *admin_token;
    char *url, *api_key;
    char *ca_file; /* certificates to trust beside the system's */
} cli_context;

ORT_NODISCARD ort_err cli_context_load(cli_context *out, const cli_args *args, ort_diag *diag);
void cli_context_fini(cli_context *context);

/* `orthant context list|show|set|use|delete`. Returns the exit code. The file is
 * $ORTHANT_CONFIG, or orthant/contexts.json below $XDG_CONFIG_HOME or ~/.config; mode 0600, and a
 * file that others can read is refused. */
int cli_context_command(const cli_args *args);
#endif /* CLI_CONTEXT_H */
