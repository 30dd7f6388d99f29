/* control-plane/cli/admin.h: the nouns and verbs of the admin API, as a table. */
#ifndef CLI_ADMIN_H
#define CLI_ADMIN_H
#include <stdbool.h>

#include "cli/output.h"

/* How a flag becomes a member of the request's body. */
typedef enum {
    CLI_TEXT,
    CLI_NUMBER, /* "none" is null */
    CLI_LIST,
    CLI_DURATION, /* 30d -> seconds */
    CLI_EXPIRY,   /* 30d -> that moment from now, RFC 3339 */
} cli_member_type;

typedef struct {
    const char *flag, *member; /* member: a dotted path in the body */
    cli_member_type type;
} cli_member;

typedef enum {
    CLI_SHOW_OBJECT,
    CLI_SHOW_LIST,   /* {"items": [..], "next_cursor"}: all pages are fetched */
    CLI_SHOW_SECRET, /* an object whose secret is shown only now: say so */
    CLI_SHOW_DONE,   /* nothing but that it is done */
} cli_show;

/* What --wait does. */
typedef enum {
    CLI_NO_WAIT,
    CLI_WAIT_ACKED, /* asks for ?wait=acked */
    CLI_WAIT_GONE,  /* looks until the thing is not found any more */
} cli_wait;

typedef struct {
    const char *noun, *verb;
    const char *method;
    const char *path;        /* "/v1/tenants/%1/keys/%2": %n is the n-th word behind the verb */
    const char *words;       /* what those words are called, for the help: "TENANT KEY" */
    const char *name_member; /* the body's member that the last word goes to, or NULL */
    const cli_member *members;
    const cli_column *columns;
    cli_show show;
    bool etag; /* fetch the ETag first and send If-Match */
    cli_wait wait;
    const char *question; /* asked before it is done, or NULL; %s is the first word */
    const char *help;
} cli_verb;

/* Ends with noun NULL. */
extern const cli_verb cli_verbs[];
#endif /* CLI_ADMIN_H */
