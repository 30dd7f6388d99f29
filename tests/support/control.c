/* tests/support/control.c: see the header. */
#include "support/control.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "support/json_schema.h"
#include "support/process.h"
#include "support/scratch.h"

#define START_MS 60000
#define ARGS_MAX 32

static void
dump(const char *path)
{
    FILE *f = fopen(path, "r");
    char line[2100];

    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        fputs(line, stderr);
    }
    if (f != NULL) {
        fclose(f);
    }
}

static void
take(json_t *line, const char *name, char *out, size_t out_bytes)
{
    const char *text = json_string_value(json_object_get(line, name));

    assert_non_null(text);
    snprintf(out, out_bytes, "%s", text);
}

static void
read_token(control *c, const char *out_path)
{
    char line[512];

    if (c->token[0] != '\0') {
        return;
    }
    assert_true(process_wait_line(c->pid, out_path, "orthop_", START_MS, line, sizeof line));
    snprintf(c->token, sizeof c->token, "%s", strstr(line, "orthop_"));
}

static void
read_openapi(control *c)
{
    char url[256];

    if (c->openapi != NULL) {
        return;
    }
    snprintf(url, sizeof url, "%s/openapi.json", c->url);
    rest_reply reply = rest_call("GET", url, NULL, NULL);
    assert_int_equal(reply.status, 200);
    c->openapi = json_loadb(reply.body, reply.body_len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(c->openapi);
    rest_reply_free(&reply);
}

void
control_start(control *c, const char *const *args)
{
    char data[300];
    char out_path[300];
    char err_path[300];
    char line[4096];
    const char *argv[ARGS_MAX] = {data,
                                  "--admin.listen=127.0.0.1:0",
                                  "--hub.listen=tls+tcp://127.0.0.1:0",
                                  "--hub.publish=tls+tcp://127.0.0.1:0",
                                  "--hub.control=tls+tcp://127.0.0.1:0",
                                  "--admin.drain_grace_ms=0"};
    size_t n = 6;

    if (c->dir[0] == '\0') {
        scratch_dir(c->dir, sizeof c->dir, "orthant-test");
    }
    c->starts++;
    snprintf(data, sizeof data, "--data_dir=%s/control", c->dir);
    snprintf(out_path, sizeof out_path, "%s/control.out.%u", c->dir, c->starts);
    snprintf(err_path, sizeof err_path, "%s/control.err.%u", c->dir, c->starts);
    for (size_t i = 0; args != NULL && args[i] != NULL && n + 1 < ARGS_MAX; i++) {
        argv[n++] = args[i];
    }
    argv[n] = NULL;
    c->pid = process_start("orthant-control", argv, out_path, err_path);
    if (!process_wait_line(c->pid, err_path, "\"started\"", START_MS, line, sizeof line)) {
        dump(err_path);
        fail_msg("orthant-control did not start");
    }
    json_t *started = json_loads(line, 0, NULL);
    assert_non_null(started);
    char port[16];
    take(started, "admin_port", port, sizeof port);
    take(started, "join", c->join_url, sizeof c->join_url);
    take(started, "control", c->control_url, sizeof c->control_url);
    take(started, "hints", c->hint_url, sizeof c->hint_url);
    json_decref(started);
    snprintf(c->url, sizeof c->url, "http://127.0.0.1:%s", port);
    read_token(c, out_path);
    read_openapi(c);
}

void
control_stop(control *c)
{
    int status = process_end(c->pid, SIGTERM, START_MS);

    c->pid = 0;
    if (!(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
        char err_path[300];
        snprintf(err_path, sizeof err_path, "%s/control.err.%u", c->dir, c->starts);
        dump(err_path);
        fail_msg("orthant-control ended with status %x", (unsigned)status);
    }
}

void
control_kill(control *c)
{
    (void)process_end(c->pid, SIGKILL, 5000);
    c->pid = 0;
}

void
control_remove(control *c)
{
    if (c->pid != 0) {
        control_stop(c);
    }
    json_decref(c->openapi);
    test_dir_remove(c->dir);
}

control_reply
control_call(control *c, const char *method, const char *path, const char *token,
             const char *const *headers, const char *body)
{
    control_reply reply = {0};
    char url[1024];
    char field[256];
    const char *all[16] = {field};
    char why[1024];
    char bare[512];
    size_t n = 1;

    snprintf(url, sizeof url, "%s%s", c->url, path);
    snprintf(field, sizeof field, "Authorization: Bearer %s", token != NULL ? token : c->token);
    if (token != NULL && token[0] == '\0') {
        n = 0;
    }
    for (size_t i = 0; headers != NULL && headers[i] != NULL && n < 15; i++) {
        all[n++] = headers[i];
    }
    all[n] = NULL;
    reply.rest = rest_call(method, url, all, body);
    reply.status = reply.rest.status;
    if (reply.status == 0) {
        fail_msg("%s %s: no answer", method, path);
    }
    snprintf(bare, sizeof bare, "%.*s", (int)strcspn(path, "?"), path);
    if (!openapi_answer_fits(c->openapi, method, bare, reply.status, reply.rest.content_type,
                             reply.rest.body, reply.rest.body_len, why, sizeof why)) {
        fail_msg("%s %s: %d %s\ndoes not fit the document: %s", method, path, reply.status,
                 reply.rest.body, why);
    }
    assert_true(rest_header(&reply.rest, "X-Request-Id", bare, sizeof bare));
    c->answers++;
    (void)rest_header(&reply.rest, "ETag", reply.etag, sizeof reply.etag);
    reply.json = json_loadb(reply.rest.body, reply.rest.body_len, 0, NULL);
    const char *code = json_string_value(json_object_get(reply.json, "code"));
    snprintf(reply.code, sizeof reply.code, "%s", code != NULL ? code : "");
    return reply;
}

void
control_reply_free(control_reply *reply)
{
    json_decref(reply->json);
    rest_reply_free(&reply->rest);
    *reply = (control_reply){0};
}

json_t *
control_json(control *c, const char *method, const char *path, const char *body, int status)
{
    control_reply reply = control_call(c, method, path, NULL, NULL, body);

    if (reply.status != status) {
        fail_msg("%s %s: %d, not %d: %s", method, path, reply.status, status, reply.rest.body);
    }
    json_t *json = json_incref(reply.json);
    control_reply_free(&reply);
    return json;
}

void
control_refused(control *c, const char *method, const char *path, const char *token,
                const char *body, int status, const char *code)
{
    control_reply reply = control_call(c, method, path, token, NULL, body);

    if (reply.status != status || strcmp(reply.code, code) != 0) {
        fail_msg("%s %s: %d %s, not %d %s: %s", method, path, reply.status, reply.code, status,
                 code, reply.rest.body);
    }
    control_reply_free(&reply);
}
