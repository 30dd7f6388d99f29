/* control-plane/cli/client.h: JSON over HTTP, with patience. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H
#include <jansson.h>
#include <stdint.h>

#include "base/buf.h"
#include "cli/context.h"

/* How `orthant` ends, by kind of failure: scripts tell them apart. */
typedef enum {
    CLI_OK = 0,
    CLI_FAILED = 1,      /* anything that has no number of its own */
    CLI_USAGE = 2,       /* the command line is wrong */
    CLI_DENIED = 3,      /* 401, 403 */
    CLI_NOT_FOUND = 4,   /* 404 */
    CLI_CONFLICT = 5,    /* 409, 412, 428 */
    CLI_LIMIT = 6,       /* 429, 507 */
    CLI_UNREACHABLE = 7, /* no answer, 502, 503, 504 */
    CLI_INVALID = 8,     /* 400, 413, 422 */
    CLI_STOPPED = 130,   /* interrupted */
} cli_exit;

/* One connection kept alive to one server; for one thread. */
typedef struct cli_client cli_client;

/* Which of a context's two servers. */
typedef enum { CLI_ADMIN, CLI_DATA } cli_server;

/* NULL, with a message on standard error, when the context does not say where the server is. */
cli_client *cli_client_new(const cli_context *context, cli_server server);
void cli_client_free(cli_client *client);

typedef struct {
    long status;  /* 0: no answer */
    json_t *json; /* the body, NULL when it is no JSON */
    ort_buf body; /* the body as it came, kept when `raw` was asked for or it is no JSON */
    char etag[128];
    char message[600]; /* what went wrong, for people; "" when nothing did */
} cli_reply;

void cli_reply_fini(cli_reply *reply);

typedef struct {
    const char *method, *path; /* path from its first slash, escaped where it needs to be */
    json_t *json;              /* body, borrowed; or */
    const char *text;          /* body as JSON text, borrowed; */
    size_t text_len;
    const char *if_match; /* ETag, or NULL */
    const char *idempotency_key;
    bool no_retry;
} cli_request;

/* Sends a request and waits for its answer. 429 and 503 are tried again after Retry-After (or a
 * growing pause), a lost connection when the method may be repeated; at most 8 times, about a
 * minute. Returns the exit code of what came; the caller ends `reply` in any case. */
cli_exit cli_client_call(cli_client *client, cli_request request, cli_reply *reply);

/* The same, and on failure says on standard error what it was. */
cli_exit cli_client_call_loud(cli_client *client, cli_request request, cli_reply *reply);

/* text, escaped as one segment of a path, appended to out. */
void cli_path_segment(ort_buf *out, const char *text);

cli_exit cli_exit_of_status(long status);
#endif /* CLI_CLIENT_H */
