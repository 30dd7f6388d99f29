/* `orthant top`: the fleet and its busiest tenants, again and again. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/output.h"

static atomic_bool stopped;

static void
on_signal(int number)
{
    (void)number;
    atomic_store(&stopped, true);
}

static const cli_column node_columns[] = {
    {"name", "NODE"},
    {"region", "REGION"},
    {"state", "STATE"},
    {"health", "HEALTH"},
    {"applied_version", "TABLE"},
    {"lag_versions", "LAG"},
    {"lag_seconds", "LAG S"},
    {"tenants", "TENANTS"},
    {"used_bytes", "USED"},
    {"capacity_bytes", "CAPACITY"},
};

static const cli_column tenant_columns[] = {
    {"name", "TENANT"},
    {"state", "STATE"},
    {"plan", "PLAN"},
    {"usage.vectors", "VECTORS"},
    {"limits.max_vectors", "OF"},
    {"usage.storage_bytes", "BYTES"},
    {"limits.max_storage_bytes", "OF"},
    {"usage.disk_bytes", "ON DISK"},
    {"usage.requests", "REQUESTS"},
};

static cli_exit
show(cli_client *client, const char *path, const cli_column *columns, size_t count,
     cli_format format)
{
    cli_reply reply;
    const cli_exit end =
        cli_client_call_loud(client, (cli_request){.method = "GET", .path = path}, &reply);
    if (end == CLI_OK) {
        cli_print_list(format, json_object_get(reply.json, "items"), columns, count);
    }
    cli_reply_fini(&reply);
    return end;
}

int
cli_top_command(const cli_args *args, const cli_context *context)
{
    ort_diag diag = {""};
    cli_format format;
    uint64_t interval_s, rounds;
    if (cli_format_of(args, &format, &diag) != ORT_OK ||
        cli_args_u64(args, "--interval", 1, 3600, 2, &interval_s, &diag) != ORT_OK ||
        cli_args_u64(args, "--rounds", 1, UINT64_MAX, isatty(STDOUT_FILENO) ? UINT64_MAX : 1,
                     &rounds, &diag) != ORT_OK) {
        fprintf(stderr, "orthant: %s\n", diag.text);
        return CLI_USAGE;
    }
    cli_client *client = cli_client_new(context, CLI_ADMIN);
    if (client == NULL) {
        return CLI_USAGE;
    }
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    cli_exit end = CLI_OK;
    for (uint64_t i = 0; i < rounds && end == CLI_OK && !atomic_load(&stopped); i++) {
        if (i > 0) {
            sleep((unsigned)interval_s);
        }
        if (isatty(STDOUT_FILENO)) {
            fputs("\033[H\033[2J", stdout);
        }
        end = show(client, "/v1/nodes?limit=100", node_columns,
                   sizeof node_columns / sizeof node_columns[0], format);
        if (end == CLI_OK) {
            putchar('\n');
            end = show(client, "/v1/tenants?limit=100", tenant_columns,
                       sizeof tenant_columns / sizeof tenant_columns[0], format);
        }
        fflush(stdout);
    }
    cli_client_free(client);
    return end;
}
