/* `orthant tenant backup|restore|clone`: asks the hub for leave, then talks to the tenant's node,
 * so that a tenant of any size goes straight to a file and back. */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/admin.h"
#include "cli/commands.h"
#include "crypto/hash.h"

#define TRIES_MAX 8
#define CONNECT_TIMEOUT_MS 5000L
#define STALL_S 600L /* a node that makes a large backup sends nothing until it is made */

bool
cli_is_backup_command(const cli_args *args)
{
    return args->word_count >= 2 && strcmp(args->words[0], "tenant") == 0 &&
           (strcmp(args->words[1], "backup") == 0 || strcmp(args->words[1], "restore") == 0 ||
            strcmp(args->words[1], "clone") == 0);
}

static int
usage(void)
{
    fputs("usage:\n"
          "  orthant tenant backup TENANT [FILE]\n"
          "  orthant tenant restore TENANT FILE [--replace]\n"
          "  orthant tenant clone FROM TO [--replace]\n",
          stderr);
    return CLI_USAGE;
}

static void
show(const cli_args *args, const json_t *object)
{
    cli_format format = CLI_TABLE;
    ort_diag diag;
    if (cli_format_of(args, &format, &diag) == ORT_OK) {
        cli_print_object(format, object);
    }
}

/* --- leave ------------------------------------------------------------------------------------ */

typedef struct {
    char endpoint[512];
    char grant[512];
} leave;

/* from: clone's, else NULL. Says what went wrong unless `quiet`. */
static cli_exit
ask_leave(cli_client *admin, const char *tenant, const char *op, const char *from, bool quiet,
          leave *out)
{
    ort_buf path = {0};
    cli_reply reply;
    json_t *body = json_pack("{s:s}", "op", op);
    if (from != NULL) {
        json_object_set_new(body, "from", json_string(from));
    }
    ort_buf_puts(&path, "/v1/tenants/");
    cli_path_segment(&path, tenant);
    ort_buf_puts(&path, "/grants");
    const cli_request request = {.method = "POST", .path = ort_buf_peek_cstr(&path), .json = body};
    cli_exit end = quiet ? cli_client_call(admin, request, &reply)
                         : cli_client_call_loud(admin, request, &reply);
    const char *endpoint = json_string_value(json_object_get(reply.json, "endpoint"));
    const char *grant = json_string_value(json_object_get(reply.json, "grant"));
    if (end == CLI_OK && (endpoint == NULL || grant == NULL)) {
        fputs("orthant: the hub's answer has no grant\n", stderr);
        end = CLI_FAILED;
    }
    if (end == CLI_OK) {
        snprintf(out->endpoint, sizeof out->endpoint, "%s", endpoint);
        snprintf(out->grant, sizeof out->grant, "%s", grant);
    }
    cli_reply_fini(&reply);
    json_decref(body);
    ort_buf_fini(&path);
    return end;
}

/* --- a file to and from a node ---------------------------------------------------------------- */

typedef struct {
    FILE *file;
    ort_sha256 digest;
    uint64_t bytes;
    long status;
    char sha256[ORT_HASH_TEXT_BYTES]; /* as the node says it; "": it did not */
    ort_buf said;                     /* the body of anything but a file */
    bool failed;                      /* the file could not be written */
} transfer;

static size_t
take_header(char *bytes, size_t size, size_t count, void *arg)
{
    static const char name[] = "x-orthant-sha256: ";
    transfer *t = arg;
    const size_t n = size * count, len = sizeof name - 1;
    if (n >= len + 64 && strncasecmp(bytes, name, len) == 0) {
        memcpy(t->sha256, bytes + len, 64);
        t->sha256[64] = '\0';
    }
    return n;
}

static size_t
take_body(char *bytes, size_t size, size_t count, void *arg)
{
    transfer *t = arg;
    const size_t n = size * count;
    if (t->sha256[0] == '\0') { /* an answer in words */
        if (t->said.len < 65536) {
            ort_buf_put(&t->said, bytes, n);
        }
        return n;
    }
    if (fwrite(bytes, 1, n, t->file) != n) {
        t->failed = true;
        return 0;
    }
    ort_sha256_put(&t->digest, bytes, n);
    t->bytes += n;
    return n;
}

static size_t
give_body(char *bytes, size_t size, size_t count, void *arg)
{
    transfer *t = arg;
    return fread(bytes, 1, size * count, t->file);
}

static int
rewind_body(void *arg, curl_off_t at, int origin)
{
    transfer *t = arg;
    return fseeko(t->file, (off_t)at, origin) == 0 ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
}

/* One request with a grant. upload: bytes of t->file; -1: none, and what comes is written there. */
static CURLcode
perform(const cli_context *context, const leave *by, const char *path, bool post, curl_off_t upload,
        transfer *t)
{
    CURL *curl = curl_easy_init();
    ort_buf url = {0}, auth = {0};
    struct curl_slist *headers = NULL;
    if (curl == NULL) {
        return CURLE_OUT_OF_MEMORY;
    }
    ort_buf_printf(&url, "%s%s", by->endpoint, path);
    ort_buf_printf(&auth, "Authorization: Bearer %s", by->grant);
    headers = curl_slist_append(headers, ort_buf_peek_cstr(&auth));
    headers = curl_slist_append(headers, "Content-Type: application/octet-stream");
    curl_easy_setopt(curl, CURLOPT_URL, ort_buf_peek_cstr(&url));
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STALL_S);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
    if (context->ca_file != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, context->ca_file);
    }
    if (post) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, upload);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, give_body);
        curl_easy_setopt(curl, CURLOPT_READDATA, t);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, rewind_body);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, t);
        if (upload == 0) {
            curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
        }
    }
    const CURLcode rc = curl_easy_perform(curl);
    if (rc == CURLE_OK || rc == CURLE_HTTP_RETURNED_ERROR) {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &t->status);
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    explicit_bzero(auth.data, auth.len);
    ort_buf_fini(&auth);
    ort_buf_fini(&url);
    return rc;
}

static void
say_failure(const leave *by, CURLcode rc, transfer *t)
{
    json_t *json = t->said.len > 0 ? json_loadb(t->said.data, t->said.len, 0, NULL) : NULL;
    const char *text = json_string_value(json_object_get(json_object_get(json, "status"), "error"));
    if (t->failed) {
        fprintf(stderr, "orthant: the file cannot be written: %s\n", strerror(errno));
    } else if (rc != CURLE_OK) {
        fprintf(stderr, "orthant: %s: %s\n", by->endpoint, curl_easy_strerror(rc));
    } else {
        fprintf(stderr, "orthant: %ld: %s\n", t->status, text != NULL ? text : "no further words");
    }
    json_decref(json);
}

/* Asks for leave and does it, again while the node says "later": it may not know a new tenant yet,
 * or be busy with another backup. t->file stands at the beginning of each try. */
static cli_exit
run(const cli_context *context, cli_client *admin, const char *tenant, const char *op,
    const char *from, const char *path, curl_off_t upload, transfer *t)
{
    struct timespec nap = {.tv_nsec = 300000000};
    cli_exit end = CLI_OK;
    for (int i = 1;; i++) {
        leave by;
        end = ask_leave(admin, tenant, op, from, false, &by);
        if (end != CLI_OK) {
            return end;
        }
        if (t->file != NULL && (fseeko(t->file, 0, SEEK_SET) != 0 ||
                                (upload < 0 && ftruncate(fileno(t->file), 0) != 0))) {
            fprintf(stderr, "orthant: the file: %s\n", strerror(errno));
            return CLI_FAILED;
        }
        t->status = 0;
        t->bytes = 0;
        t->sha256[0] = '\0';
        ort_buf_clear(&t->said);
        ort_sha256_init(&t->digest);
        const CURLcode rc =
            perform(context, &by, path, strcmp(op, "backup") != 0, upload < 0 ? 0 : upload, t);
        explicit_bzero(by.grant, sizeof by.grant);
        if (rc == CURLE_OK && t->status >= 200 && t->status < 300) {
            return CLI_OK;
        }
        if (t->status != 503 || i == TRIES_MAX) {
            say_failure(&by, rc, t);
            return rc != CURLE_OK && !t->failed ? CLI_UNREACHABLE
                   : t->failed                  ? CLI_FAILED
                                                : cli_exit_of_status(t->status);
        }
        nanosleep(&nap, NULL);
        nap.tv_sec += nap.tv_sec < 8 ? 1 : 0;
    }
}

/* --- the verbs -------------------------------------------------------------------------------- */

/* A backup into an open file, checked against the sum that the node gave. */
static cli_exit
fetch(const cli_context *context, cli_client *admin, const char *tenant, FILE *file, transfer *t)
{
    ort_hash got;
    char text[ORT_HASH_TEXT_BYTES];
    *t = (transfer){.file = file};
    cli_exit end = run(context, admin, tenant, "backup", NULL, "/tenant/backup", -1, t);
    ort_sha256_done(&t->digest, &got);
    ort_hash_format(&got, text);
    if (end == CLI_OK && strcmp(text, t->sha256) != 0) {
        fputs("orthant: what came is not what the node sent: its checksum differs\n", stderr);
        end = CLI_FAILED;
    }
    if (end == CLI_OK && (fflush(file) != 0 || fsync(fileno(file)) != 0)) {
        fprintf(stderr, "orthant: the file: %s\n", strerror(errno));
        end = CLI_FAILED;
    }
    ort_buf_fini(&t->said);
    return end;
}

static cli_exit
backup(const cli_args *args, const cli_context *context, cli_client *admin)
{
    const char *tenant = args->words[2];
    ort_buf name = {0}, part = {0};
    transfer t;
    if (args->word_count > 3) {
        ort_buf_puts(&name, args->words[3]);
    } else {
        ort_buf_printf(&name, "%s.orthant", tenant);
    }
    /* The file has its name only once it is whole. */
    ort_buf_printf(&part, "%s.part", ort_buf_peek_cstr(&name));
    const char *to = ort_buf_peek_cstr(&name), *under = ort_buf_peek_cstr(&part);
    FILE *file = fopen(under, "w+be");
    if (file == NULL) {
        fprintf(stderr, "orthant: %s: %s\n", under, strerror(errno));
        ort_buf_fini(&name);
        ort_buf_fini(&part);
        return CLI_FAILED;
    }
    (void)fchmod(fileno(file), 0600); /* it holds all of the tenant's data */
    cli_exit end = fetch(context, admin, tenant, file, &t);
    fclose(file);
    if (end == CLI_OK && rename(under, to) != 0) {
        fprintf(stderr, "orthant: %s: %s\n", to, strerror(errno));
        end = CLI_FAILED;
    }
    if (end == CLI_OK) {
        json_t *done = json_pack("{s:s,s:s,s:I,s:s}", "tenant", tenant, "file", to, "bytes",
                                 (json_int_t)t.bytes, "sha256", t.sha256);
        show(args, done);
        json_decref(done);
    } else {
        unlink(under);
    }
    ort_buf_fini(&name);
    ort_buf_fini(&part);
    return end;
}

static void
show_totals(const cli_args *args, const char *tenant, const transfer *t)
{
    json_t *json = json_loadb(t->said.data != NULL ? t->said.data : "", t->said.len, 0, NULL);
    json_t *done = json_pack("{s:s}", "tenant", tenant);
    json_t *result = json_object_get(json, "result");
    if (result != NULL) {
        json_object_update(done, result);
    }
    show(args, done);
    json_decref(done);
    json_decref(json);
}

static cli_exit
send_file(const cli_args *args, const cli_context *context, cli_client *admin, const char *tenant,
          FILE *file)
{
    struct stat st;
    transfer t = {.file = file};
    if (fstat(fileno(file), &st) != 0 || !S_ISREG(st.st_mode)) {
        fputs("orthant: the backup is no regular file\n", stderr);
        return CLI_FAILED;
    }
    const cli_exit end =
        run(context, admin, tenant, "restore", NULL,
            cli_args_get(args, "--replace") != NULL ? "/tenant/restore?replace=true"
                                                    : "/tenant/restore",
            st.st_size, &t);
    if (end == CLI_OK) {
        show_totals(args, tenant, &t);
    }
    ort_buf_fini(&t.said);
    return end;
}

static bool
may_replace(const cli_args *args, const char *tenant)
{
    char question[300];
    snprintf(question, sizeof question, "Replace all collections of tenant %.200s?", tenant);
    return cli_args_get(args, "--replace") == NULL || cli_confirm(args, question);
}

static cli_exit
restore(const cli_args *args, const cli_context *context, cli_client *admin)
{
    const char *tenant = args->words[2], *name = args->words[3];
    if (!may_replace(args, tenant)) {
        return CLI_FAILED;
    }
    FILE *file = fopen(name, "rbe");
    if (file == NULL) {
        fprintf(stderr, "orthant: %s: %s\n", name, strerror(errno));
        return CLI_FAILED;
    }
    const cli_exit end = send_file(args, context, admin, tenant, file);
    fclose(file);
    return end;
}

/* The tenant that a clone goes to, on the plan and in the regions of the other, when it is new. */
static cli_exit
make_target(cli_client *admin, const char *from, const char *to)
{
    ort_buf path = {0};
    cli_reply reply;
    ort_buf_puts(&path, "/v1/tenants/");
    cli_path_segment(&path, to);
    cli_exit end = cli_client_call(
        admin, (cli_request){.method = "GET", .path = ort_buf_peek_cstr(&path)}, &reply);
    cli_reply_fini(&reply);
    if (end != CLI_NOT_FOUND) {
        ort_buf_fini(&path);
        return CLI_OK; /* there, or the next call says why not */
    }
    ort_buf_clear(&path);
    ort_buf_puts(&path, "/v1/tenants/");
    cli_path_segment(&path, from);
    end = cli_client_call_loud(
        admin, (cli_request){.method = "GET", .path = ort_buf_peek_cstr(&path)}, &reply);
    if (end == CLI_OK) {
        json_t *body =
            json_pack("{s:s,s:O,s:O,s:O}", "name", to, "plan", json_object_get(reply.json, "plan"),
                      "regions", json_object_get(reply.json, "regions"), "overrides",
                      json_object_get(reply.json, "overrides"));
        cli_reply_fini(&reply);
        end = cli_client_call_loud(
            admin, (cli_request){.method = "POST", .path = "/v1/tenants", .json = body}, &reply);
        json_decref(body);
    }
    cli_reply_fini(&reply);
    ort_buf_fini(&path);
    return end;
}

/* A file without a name: gone with this process, whatever becomes of it. tmpfile() would put it
 * into /tmp, which is often small. */
static FILE *
open_temporary(void)
{
    const char *dir = getenv("TMPDIR");
    ort_buf name = {0};
    FILE *file = NULL;
    ort_buf_printf(&name, "%s/orthant-XXXXXX", dir != NULL && dir[0] != '\0' ? dir : "/tmp");
    char *path =
        ort_buf_check(&name) == ORT_OK ? (char *)(uintptr_t)ort_buf_peek_cstr(&name) : NULL;
    const int fd = path != NULL ? mkostemp(path, O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)unlink(path);
        file = fdopen(fd, "w+b");
    }
    if (fd >= 0 && file == NULL) {
        close(fd);
    }
    ort_buf_fini(&name);
    return file;
}

/* By way of this machine, for homes on two nodes. */
static cli_exit
carry(const cli_args *args, const cli_context *context, cli_client *admin, const char *from,
      const char *to)
{
    transfer t;
    FILE *file = open_temporary();
    if (file == NULL) {
        fprintf(stderr, "orthant: a temporary file: %s\n", strerror(errno));
        return CLI_FAILED;
    }
    cli_exit end = fetch(context, admin, from, file, &t);
    if (end == CLI_OK) {
        end = send_file(args, context, admin, to, file);
    }
    fclose(file);
    return end;
}

static cli_exit
clone_tenant(const cli_args *args, const cli_context *context, cli_client *admin)
{
    const char *from = args->words[2], *to = args->words[3];
    transfer t = {.file = NULL};
    leave probe;
    if (!may_replace(args, to)) {
        return CLI_FAILED;
    }
    cli_exit end = make_target(admin, from, to);
    if (end == CLI_OK && ask_leave(admin, to, "clone", from, true, &probe) == CLI_CONFLICT) {
        return carry(args, context, admin, from, to);
    }
    if (end == CLI_OK) {
        end = run(context, admin, to, "clone", from,
                  cli_args_get(args, "--replace") != NULL ? "/tenant/clone?replace=true"
                                                          : "/tenant/clone",
                  -1, &t);
    }
    if (end == CLI_OK) {
        show_totals(args, to, &t);
    }
    ort_buf_fini(&t.said);
    return end;
}

int
cli_backup_command(const cli_args *args, const cli_context *context)
{
    const char *verb = args->word_count >= 2 ? args->words[1] : "";
    const bool is_backup = strcmp(verb, "backup") == 0;
    if (!cli_is_backup_command(args) || args->word_count < (is_backup ? 3 : 4) ||
        args->word_count > 4) {
        return usage();
    }
    cli_client *admin = cli_client_new(context, CLI_ADMIN);
    if (admin == NULL) {
        return CLI_USAGE;
    }
    const cli_exit end = is_backup                      ? backup(args, context, admin)
                         : strcmp(verb, "restore") == 0 ? restore(args, context, admin)
                                                        : clone_tenant(args, context, admin);
    cli_client_free(admin);
    return (int)end;
}
