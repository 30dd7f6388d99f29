/* Contexts: one JSON file, {"current": name, "contexts": {name: {admin_url, ...}}}. */
#include "cli/context.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "cli/client.h"
#include "cli/output.h"

static const struct {
    const char *member, *flag, *variable;
} fields[] = {
    {"admin_url", "--admin-url", "ORTHANT_ADMIN_URL"},
    {"admin_token", "--admin-token", "ORTHANT_ADMIN_TOKEN"},
    {"url", "--url", "ORTHANT_URL"},
    {"api_key", "--api-key", "ORTHANT_API_KEY"},
    {"ca_file", "--ca-file", "ORTHANT_CA_FILE"},
};
enum { FIELDS = sizeof fields / sizeof fields[0] };

/* The file's directory and name; false when no home is known. */
static bool
file_path(char *dir, size_t cap, char *name, size_t name_cap)
{
    const char *file = getenv("ORTHANT_CONFIG"), *xdg = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    int n;
    if (file != NULL && *file != '\0') {
        const char *slash = strrchr(file, '/');
        n = snprintf(dir, cap, "%.*s", slash != NULL ? (int)(slash - file + 1) : 2,
                     slash != NULL ? file : "./");
        file = slash != NULL ? slash + 1 : file;
    } else {
        file = "contexts.json";
        if (xdg != NULL && *xdg != '\0') {
            n = snprintf(dir, cap, "%s/orthant", xdg);
        } else if (home != NULL && *home != '\0') {
            n = snprintf(dir, cap, "%s/.config/orthant", home);
        } else {
            return false;
        }
    }
    return n > 0 && (size_t)n < cap && snprintf(name, name_cap, "%s", file) < (int)name_cap;
}

/* The file's content; {} when there is none. NULL, with a message, when it cannot be used. */
static json_t *
load_file(ort_diag *diag)
{
    char dir[1024], name[256], path[1300];
    if (!file_path(dir, sizeof dir, name, sizeof name)) {
        return json_object();
    }
    snprintf(path, sizeof path, "%s/%s", dir, name);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return json_object();
        }
        (void)ort_fail_errno(diag, ORT_EIO, "%s", path);
        return NULL;
    }
    json_t *json = NULL;
    json_error_t error;
    if (fstat(fd, &st) != 0) {
        (void)ort_fail_errno(diag, ORT_EIO, "%s", path);
    } else if ((st.st_mode & 077) != 0) {
        (void)ort_fail(diag, ORT_EDENIED, "%s holds keys and others can read it: chmod 600 %s",
                       path, path);
    } else if ((json = json_loadfd(fd, 0, &error)) == NULL || !json_is_object(json)) {
        json_decref(json);
        json = NULL;
        (void)ort_fail(diag, ORT_EFORMAT, "%s is not the JSON of a context file", path);
    }
    close(fd);
    return json;
}

/* mkdir -p, for the user's own configuration directory. */
static void
make_dirs(const char *dir)
{
    char path[1024];
    snprintf(path, sizeof path, "%s", dir);
    for (char *p = path + 1; *p != '\0'; p++) {
        if (*p == '/') {
            *p = '\0';
            mkdir(path, 0700);
            *p = '/';
        }
    }
    mkdir(path, 0700);
}

static ort_err
save_file(const json_t *json, ort_diag *diag)
{
    char dir[1024], name[256];
    if (!file_path(dir, sizeof dir, name, sizeof name)) {
        return ort_fail(diag, ORT_EINVAL, "neither HOME nor ORTHANT_CONFIG is set");
    }
    make_dirs(dir);
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return ort_fail_errno(diag, ORT_EIO, "%s", dir);
    }
    char *text = json_dumps(json, JSON_INDENT(2));
    const ort_err err = text == NULL ? ort_fail(diag, ORT_ENOMEM, "out of memory")
                                     : ort_file_replace(fd, name, text, strlen(text), 0600, diag);
    free(text);
    close(fd);
    return err;
}

static char **
field_of(cli_context *context, int i)
{
    char **const places[FIELDS] = {&context->admin_url, &context->admin_token, &context->url,
                                   &context->api_key, &context->ca_file};
    return places[i];
}

ort_err
cli_context_load(cli_context *out, const cli_args *args, ort_diag *diag)
{
    *out = (cli_context){0};
    json_t *file = load_file(diag);
    if (file == NULL) {
        return ORT_EINVAL;
    }
    ort_err err = ORT_OK;
    const char *named = cli_args_get(args, "--context"), *name = named;
    if (name == NULL) {
        name = getenv("ORTHANT_CONTEXT");
    }
    if (name == NULL) {
        name = json_string_value(json_object_get(file, "current"));
    }
    const json_t *context =
        name != NULL ? json_object_get(json_object_get(file, "contexts"), name) : NULL;
    if (named != NULL && context == NULL) {
        err = ort_fail(diag, ORT_ENOTFOUND, "no context is called %s", named);
    }
    for (int i = 0; i < FIELDS && err == ORT_OK; i++) {
        const char *value = cli_args_get(args, fields[i].flag);
        if (value == NULL && named == NULL) {
            value = getenv(fields[i].variable);
        }
        if (value == NULL) {
            value = json_string_value(json_object_get(context, fields[i].member));
        }
        if (value != NULL && *value != '\0' && (*field_of(out, i) = strdup(value)) == NULL) {
            err = ort_fail(diag, ORT_ENOMEM, "out of memory");
        }
    }
    json_decref(file);
    if (err != ORT_OK) {
        cli_context_fini(out);
    }
    return err;
}

void
cli_context_fini(cli_context *context)
{
    for (int i = 0; i < FIELDS; i++) {
        char **place = field_of(context, i);
        if (*place != NULL) {
            explicit_bzero(*place, strlen(*place));
            free(*place);
        }
    }
    *context = (cli_context){0};
}

/* The file's contexts, made if they are not there; borrowed from file. */
static json_t *
contexts_of(json_t *file)
{
    json_t *contexts = json_object_get(file, "contexts");
    if (!json_is_object(contexts)) {
        contexts = json_object();
        json_object_set_new(file, "contexts", contexts);
    }
    return contexts;
}

static void
list(json_t *file)
{
    const char *name, *current = json_string_value(json_object_get(file, "current"));
    json_t *context;
    json_object_foreach(contexts_of(file), name, context)
    {
        const char *url = json_string_value(json_object_get(context, "admin_url"));
        const char *data = json_string_value(json_object_get(context, "url"));
        const bool in_use = current != NULL && strcmp(current, name) == 0;
        printf("%c %-20s admin %-32s data %s\n", in_use ? '*' : ' ', name, url != NULL ? url : "-",
               data != NULL ? data : "-");
    }
}

/* Secrets are shown by their first characters only. */
static void
show(const char *name, const json_t *context)
{
    printf("%s\n", name);
    for (int i = 0; i < FIELDS; i++) {
        const char *value = json_string_value(json_object_get(context, fields[i].member));
        const bool secret = strstr(fields[i].member, "key") || strstr(fields[i].member, "token");
        if (value != NULL) {
            printf("  %-12s %.*s%s\n", fields[i].member, secret ? 14 : 512, value,
                   secret ? "…" : "");
        }
    }
}

static ort_err
set(json_t *file, const char *name, const cli_args *args, ort_diag *diag)
{
    json_t *context = json_object_get(contexts_of(file), name);
    if (context == NULL) {
        context = json_object();
        json_object_set_new(contexts_of(file), name, context);
    }
    for (int i = 0; i < FIELDS; i++) {
        const char *value = cli_args_get(args, fields[i].flag);
        if (value == NULL && json_object_get(context, fields[i].member) == NULL) {
            value = getenv(fields[i].variable);
        }
        if (value != NULL) {
            json_object_set_new(context, fields[i].member, json_string(value));
        }
    }
    if (json_object_get(file, "current") == NULL) {
        json_object_set_new(file, "current", json_string(name));
    }
    return save_file(file, diag);
}

int
cli_context_command(const cli_args *args)
{
    ort_diag diag = {""};
    ort_err err = ORT_OK;
    const char *verb = args->word_count > 1 ? args->words[1] : "list";
    const char *name = args->word_count > 2 ? args->words[2] : NULL;
    json_t *file = load_file(&diag);
    if (file == NULL) {
        fprintf(stderr, "orthant: %s\n", diag.text);
        return CLI_FAILED;
    }
    const json_t *context = name != NULL ? json_object_get(contexts_of(file), name) : NULL;
    if (strcmp(verb, "list") == 0) {
        list(file);
    } else if (name == NULL) {
        err = ort_fail(&diag, ORT_EINVAL, "usage: orthant context list|show|set|use|delete NAME");
    } else if (strcmp(verb, "set") == 0) {
        err = set(file, name, args, &diag);
    } else if (context == NULL) {
        err = ort_fail(&diag, ORT_ENOTFOUND, "no context is called %s", name);
    } else if (strcmp(verb, "show") == 0) {
        show(name, context);
    } else if (strcmp(verb, "use") == 0) {
        json_object_set_new(file, "current", json_string(name));
        err = save_file(file, &diag);
    } else if (strcmp(verb, "delete") == 0) {
        json_object_del(contexts_of(file), name);
        err = save_file(file, &diag);
    } else {
        err = ort_fail(&diag, ORT_EINVAL, "orthant context has no %s", verb);
    }
    json_decref(file);
    if (err != ORT_OK) {
        fprintf(stderr, "orthant: %s\n", diag.text);
    }
    return err == ORT_OK          ? CLI_OK
           : err == ORT_ENOTFOUND ? CLI_NOT_FOUND
           : err == ORT_EINVAL    ? CLI_USAGE
                                  : CLI_FAILED;
}
