/* The admin API by a table: finds the verb, fills path and body, sends, shows. */
#include "cli/admin.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"
#include "cli/commands.h"

static const cli_verb *
find(const char *noun, const char *verb)
{
    for (const cli_verb *v = cli_verbs; v->noun != NULL; v++) {
        if (strcmp(v->noun, noun) == 0 && strcmp(v->verb, verb) == 0) {
            return v;
        }
    }
    return NULL;
}

static int
usage(const char *noun)
{
    fprintf(stderr, "usage:\n");
    for (const cli_verb *v = cli_verbs; v->noun != NULL; v++) {
        if (strcmp(v->noun, noun) == 0) {
            fprintf(stderr, "  orthant %s %s %s\n", noun, v->verb, v->words);
        }
    }
    return CLI_USAGE;
}

/* "/v1/tenants/%1" with the words filled in; false when one is missing. */
static bool
fill_path(ort_buf *out, const cli_verb *verb, const cli_args *args)
{
    for (const char *p = verb->path; *p != '\0'; p++) {
        if (*p != '%') {
            ort_buf_putc(out, *p);
            continue;
        }
        const int word = 1 + (*++p - '0');
        if (word >= args->word_count) {
            return false;
        }
        cli_path_segment(out, args->words[word]);
    }
    return true;
}

/* Sets body.a.b, making a when it is not there; takes the value. */
static void
set_at(json_t *body, const char *path, json_t *value)
{
    const char *dot;
    char name[64];
    while ((dot = strchr(path, '.')) != NULL) {
        snprintf(name, sizeof name, "%.*s", (int)(dot - path), path);
        json_t *inner = json_object_get(body, name);
        if (inner == NULL) {
            inner = json_object();
            json_object_set_new(body, name, inner);
        }
        body = inner;
        path = dot + 1;
    }
    json_object_set_new(body, path, value);
}

/* "90s", "15m", "12h", "30d" as milliseconds; 0: no such text. */
static uint64_t
duration_ms(const char *text)
{
    char *end;
    const unsigned long long n = strtoull(text, &end, 10);
    const uint64_t unit = strcmp(end, "s") == 0   ? 1000u
                          : strcmp(end, "m") == 0 ? 60000u
                          : strcmp(end, "h") == 0 ? 3600000u
                          : strcmp(end, "d") == 0 ? 86400000u
                                                  : 0;
    uint64_t ms;
    return isdigit((unsigned char)*text) && !__builtin_mul_overflow((uint64_t)n, unit, &ms) ? ms
                                                                                            : 0;
}

static ort_err
add_member(json_t *body, const cli_member *m, const cli_args *args, ort_diag *diag)
{
    const char *text = cli_args_get(args, m->flag);
    if (text == NULL) {
        return ORT_OK;
    }
    uint64_t n;
    if (m->type == CLI_LIST) {
        json_t *list = json_array();
        for (int i = 0; (text = cli_args_get_nth(args, m->flag, i)) != NULL; i++) {
            if (*text != '\0') { /* --region "" empties the list */
                json_array_append_new(list, json_string(text));
            }
        }
        set_at(body, m->member, list);
    } else if (m->type == CLI_NUMBER && strcmp(text, "none") == 0) {
        set_at(body, m->member, json_null());
    } else if (m->type == CLI_NUMBER) {
        const ort_err err = cli_args_u64(args, m->flag, 0, INT64_MAX, 0, &n, diag);
        if (err != ORT_OK) {
            return err;
        }
        set_at(body, m->member, json_integer((json_int_t)n));
    } else if (m->type == CLI_DURATION || m->type == CLI_EXPIRY) {
        n = duration_ms(text);
        if (n == 0 || n > INT64_MAX / 2) {
            return ort_fail(diag, ORT_EINVAL, "%s wants a time like 90s, 15m, 12h or 30d, not %s",
                            m->flag, text);
        }
        if (m->type == CLI_DURATION) {
            set_at(body, m->member, json_integer((json_int_t)(n / 1000)));
        } else {
            char moment[ORT_RFC3339_BYTES];
            ort_rfc3339_format(ort_wall_ms() + (int64_t)n, moment);
            set_at(body, m->member, json_string(moment));
        }
    } else {
        set_at(body, m->member, json_string(text));
    }
    return ORT_OK;
}

/* The request's body, or NULL where the method has none or on failure (*err). */
static json_t *
body_of(const cli_verb *verb, const cli_args *args, ort_err *err, ort_diag *diag)
{
    *err = ORT_OK;
    if (strcmp(verb->method, "GET") == 0 || strcmp(verb->method, "DELETE") == 0) {
        return NULL;
    }
    json_t *body = json_object();
    if (verb->name_member != NULL) {
        set_at(body, verb->name_member, json_string(args->words[args->word_count - 1]));
    }
    for (const cli_member *m = verb->members; m != NULL && m->flag != NULL && *err == ORT_OK; m++) {
        *err = add_member(body, m, args, diag);
    }
    if (*err != ORT_OK) {
        json_decref(body);
        return NULL;
    }
    const char *dot = verb->members != NULL ? strchr(verb->members->member, '.') : NULL;
    if (dot != NULL) { /* {"overrides": {}} says something too: none */
        char group[64];
        snprintf(group, sizeof group, "%.*s", (int)(dot - verb->members->member),
                 verb->members->member);
        if (json_object_get(body, group) == NULL) {
            set_at(body, group, json_object());
        }
    }
    return body;
}

static size_t
count_columns(const cli_column *columns)
{
    size_t n = 0;
    while (columns != NULL && columns[n].path != NULL) {
        n++;
    }
    return n;
}

/* Fetches all pages of a list into one array. */
static cli_exit
fetch_pages(cli_client *client, const char *path, json_t *items)
{
    ort_buf url = {0};
    cli_exit end;
    char cursor[512] = "";
    do {
        cli_reply reply;
        ort_buf_clear(&url);
        ort_buf_printf(&url, "%s%climit=100", path, strchr(path, '?') != NULL ? '&' : '?');
        if (cursor[0] != '\0') {
            ort_buf_puts(&url, "&cursor=");
            cli_path_segment(&url, cursor);
        }
        const cli_request request = {.method = "GET", .path = ort_buf_peek_cstr(&url)};
        end = cli_client_call_loud(client, request, &reply);
        json_array_extend(items, json_object_get(reply.json, "items"));
        const char *next = json_string_value(json_object_get(reply.json, "next_cursor"));
        snprintf(cursor, sizeof cursor, "%s", end == CLI_OK && next != NULL ? next : "");
        cli_reply_fini(&reply);
    } while (end == CLI_OK && cursor[0] != '\0');
    ort_buf_fini(&url);
    return end;
}

static cli_exit
list(cli_client *client, const cli_verb *verb, const char *path, cli_format format)
{
    json_t *items = json_array();
    const cli_exit end = fetch_pages(client, path, items);
    if (end == CLI_OK) {
        cli_print_list(format, items, verb->columns, count_columns(verb->columns));
    }
    json_decref(items);
    return end;
}

static void
show(const cli_verb *verb, cli_format format, const cli_reply *reply)
{
    if (reply->json != NULL && (verb->show != CLI_SHOW_DONE || format == CLI_JSON)) {
        cli_print_object(format, reply->json);
    } else if (format == CLI_TABLE) {
        puts("done");
    }
    if (verb->show == CLI_SHOW_SECRET) {
        fputs("This is the only time it is shown: keep it now.\n", stderr);
    }
}

static cli_exit
send(cli_client *client, const cli_verb *verb, const char *path, json_t *body, cli_format format)
{
    char etag[128] = "", idempotency[ORT_ID_TEXT_BYTES];
    cli_reply reply;
    cli_request request = {.method = verb->method, .path = path, .json = body};
    if (verb->etag) {
        const cli_request get = {.method = "GET", .path = path};
        const cli_exit end = cli_client_call_loud(client, get, &reply);
        snprintf(etag, sizeof etag, "%s", reply.etag);
        cli_reply_fini(&reply);
        if (end != CLI_OK) {
            return end;
        }
        request.if_match = etag;
    }
    if (strcmp(verb->method, "POST") == 0) {
        ort_id_format(ort_id_random(), idempotency);
        request.idempotency_key = idempotency;
    }
    const cli_exit end = cli_client_call_loud(client, request, &reply);
    if (end == CLI_OK) {
        show(verb, format, &reply);
    }
    cli_reply_fini(&reply);
    return end;
}

/* Looks every half second until the thing is not there any more. */
static cli_exit
wait_gone(cli_client *client, const char *path)
{
    for (;;) {
        cli_reply reply;
        const cli_exit end =
            cli_client_call(client, (cli_request){.method = "GET", .path = path}, &reply);
        if (end != CLI_OK && end != CLI_NOT_FOUND) {
            fprintf(stderr, "orthant: %s\n", reply.message);
        }
        cli_reply_fini(&reply);
        if (end != CLI_OK) {
            return end == CLI_NOT_FOUND ? CLI_OK : end;
        }
        usleep(500000);
    }
}

/* `orthant audit verify` fails when the chain does, though the request went well. */
static cli_exit
verify_audit(cli_client *client, const char *path, cli_format format)
{
    cli_reply reply;
    cli_exit end =
        cli_client_call_loud(client, (cli_request){.method = "GET", .path = path}, &reply);
    if (end == CLI_OK) {
        cli_print_object(format, reply.json);
        end = json_is_true(json_object_get(reply.json, "intact")) ? CLI_OK : CLI_FAILED;
    }
    cli_reply_fini(&reply);
    return end;
}

static cli_exit
run(const cli_verb *verb, const cli_args *args, const cli_context *context, cli_format format)
{
    ort_diag diag = {""};
    ort_err err = ORT_OK;
    ort_buf path = {0};
    char question[512] = "";
    cli_exit end = CLI_USAGE;
    json_t *body = NULL;
    cli_client *client = NULL;
    if (!fill_path(&path, verb, args) || (verb->name_member != NULL && args->word_count < 3)) {
        end = usage(verb->noun);
        goto done;
    }
    const bool wait = cli_args_get(args, "--wait") != NULL;
    if (verb->wait == CLI_WAIT_ACKED && wait) {
        ort_buf_puts(&path, "?wait=acked");
    }
    body = body_of(verb, args, &err, &diag);
    if (err != ORT_OK) {
        fprintf(stderr, "orthant: %s\n", diag.text);
        goto done;
    }
    if (verb->question != NULL) {
        snprintf(question, sizeof question, "%s %.200s?", verb->question,
                 args->words[args->word_count - 1]);
        if (!cli_confirm(args, question)) {
            end = CLI_FAILED;
            goto done;
        }
    }
    client = cli_client_new(context, CLI_ADMIN);
    if (client == NULL) {
        goto done;
    }
    const char *url = ort_buf_peek_cstr(&path);
    if (verb->show == CLI_SHOW_LIST) {
        end = list(client, verb, url, format);
    } else if (strcmp(verb->noun, "audit") == 0 && strcmp(verb->verb, "verify") == 0) {
        end = verify_audit(client, url, format);
    } else {
        end = send(client, verb, url, body, format);
        if (end == CLI_OK && verb->wait == CLI_WAIT_GONE && wait) {
            end = wait_gone(client, url);
        }
    }
done:
    cli_client_free(client);
    json_decref(body);
    ort_buf_fini(&path);
    return end;
}

int
cli_admin_command(const cli_args *args, const cli_context *context)
{
    ort_diag diag = {""};
    cli_format format;
    const char *noun = args->words[0], *word = args->word_count > 1 ? args->words[1] : "list";
    if (cli_format_of(args, &format, &diag) != ORT_OK) {
        fprintf(stderr, "orthant: %s\n", diag.text);
        return CLI_USAGE;
    }
    const cli_verb *verb = find(noun, word);
    return verb != NULL ? (int)run(verb, args, context, format) : usage(noun);
}
