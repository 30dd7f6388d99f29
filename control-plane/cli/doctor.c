/* `orthant doctor`: what stands between you and a working hub, one check a line. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/output.h"

typedef struct {
    int failed;
} doctor;

static void
say(doctor *d, bool ok, const char *what, const char *detail)
{
    printf("%s  %s%s%s\n", ok ? "ok  " : "FAIL", what, *detail != '\0' ? ": " : "", detail);
    d->failed += !ok;
}

/* GETs a path; true with *reply to be ended when it answered 200. */
static bool
get(doctor *d, cli_client *client, const char *path, const char *what, cli_reply *reply)
{
    const cli_exit end = cli_client_call(
        client, (cli_request){.method = "GET", .path = path, .no_retry = true}, reply);
    say(d, end == CLI_OK, what, reply->message);
    return end == CLI_OK;
}

static void
check_nodes(doctor *d, cli_client *client)
{
    cli_reply reply;
    size_t i;
    const json_t *node;
    char what[256];
    if (get(d, client, "/v1/nodes?limit=100", "the control plane lists its nodes", &reply)) {
        const json_t *items = json_object_get(reply.json, "items");
        say(d, json_array_size(items) > 0, "there is at least one node",
            json_array_size(items) > 0 ? "" : "orthant node join-token makes one join");
        json_array_foreach(items, i, node)
        {
            const char *name = json_string_value(json_object_get(node, "name"));
            const char *health = json_string_value(json_object_get(node, "health"));
            const json_int_t lag = json_integer_value(json_object_get(node, "lag_versions"));
            snprintf(what, sizeof what, "node %s is healthy and up to date",
                     name != NULL ? name : "?");
            char detail[128] = "";
            const bool ok = health != NULL && strcmp(health, "up") == 0 && lag == 0;
            if (!ok) {
                snprintf(detail, sizeof detail, "%s, %lld versions behind",
                         health != NULL ? health : "unknown", (long long)lag);
            }
            say(d, ok, what, detail);
        }
    }
    cli_reply_fini(&reply);
}

static void
check_admin(doctor *d, const cli_context *context)
{
    cli_reply reply;
    cli_client *client = context->admin_url != NULL ? cli_client_new(context, CLI_ADMIN) : NULL;
    if (client == NULL) {
        say(d, false, "the admin API is known",
            "set ORTHANT_ADMIN_URL and ORTHANT_ADMIN_TOKEN, or orthant context set");
        return;
    }
    const bool up = get(d, client, "/healthz", "the admin API answers", &reply);
    cli_reply_fini(&reply);
    if (up) {
        const bool known = get(d, client, "/v1/whoami", "the admin token is known", &reply);
        cli_reply_fini(&reply);
        if (known) {
            check_nodes(d, client);
            get(d, client, "/v1/audit/verify", "the audit chain is whole", &reply);
            const json_t *ok = json_object_get(reply.json, "intact");
            if (ok != NULL && !json_is_true(ok)) {
                say(d, false, "the audit chain", "orthant audit verify names the row");
            }
            cli_reply_fini(&reply);
        }
    }
    cli_client_free(client);
}

static void
check_data(doctor *d, const cli_context *context)
{
    cli_reply reply;
    cli_client *client = context->url != NULL ? cli_client_new(context, CLI_DATA) : NULL;
    if (client == NULL) {
        say(d, false, "the data API is known",
            "set ORTHANT_URL and ORTHANT_API_KEY, or orthant context set");
        return;
    }
    const bool up = get(d, client, "/", "the data API answers", &reply);
    cli_reply_fini(&reply);
    if (up) {
        get(d, client, "/readyz", "the node is ready", &reply);
        cli_reply_fini(&reply);
        get(d, client, "/collections", "the API key is known and may read", &reply);
        cli_reply_fini(&reply);
    }
    cli_client_free(client);
}

int
cli_doctor_command(const cli_args *args, const cli_context *context)
{
    (void)args;
    doctor d = {0};
    check_admin(&d, context);
    check_data(&d, context);
    if (d.failed > 0) {
        printf("%d of the checks failed.\n", d.failed);
        return CLI_FAILED;
    }
    puts("All is well.");
    return CLI_OK;
}
