/* JSON over HTTP, on libcurl. */
#include "cli/client.h"

#include <curl/curl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define TRIES_MAX 8
#define CONNECT_TIMEOUT_MS 5000L
#define ANSWER_TIMEOUT_MS 120000L
#define ANSWER_BYTES_MAX (256u << 20)

struct cli_client {
    CURL *curl;
    char *base; /* without the last slash */
    char *key_header;
    char *ca_file;
};

cli_exit
cli_exit_of_status(long status)
{
    switch (status) {
    case 401:
    case 403:
        return CLI_DENIED;
    case 404:
    case 421:
        return CLI_NOT_FOUND;
    case 409:
    case 412:
    case 428:
        return CLI_CONFLICT;
    case 429:
    case 507:
        return CLI_LIMIT;
    case 0:
    case 502:
    case 503:
    case 504:
        return CLI_UNREACHABLE;
    case 400:
    case 413:
    case 422:
        return CLI_INVALID;
    default:
        return status >= 200 && status < 300 ? CLI_OK : CLI_FAILED;
    }
}

cli_client *
cli_client_new(const cli_context *context, cli_server server)
{
    const char *url = server == CLI_ADMIN ? context->admin_url : context->url;
    const char *secret = server == CLI_ADMIN ? context->admin_token : context->api_key;
    if (url == NULL) {
        fprintf(stderr,
                "orthant: where is the %s API? Give %s, set %s, or make a context "
                "(orthant help context).\n",
                server == CLI_ADMIN ? "admin" : "data",
                server == CLI_ADMIN ? "--admin-url" : "--url",
                server == CLI_ADMIN ? "ORTHANT_ADMIN_URL" : "ORTHANT_URL");
        return NULL;
    }
    cli_client *client = calloc(1, sizeof *client);
    ort_buf header = {0};
    if (secret != NULL) {
        ort_buf_printf(&header, server == CLI_ADMIN ? "Authorization: Bearer %s" : "api-key: %s",
                       secret);
    }
    if (client != NULL) {
        size_t len = strlen(url);
        while (len > 0 && url[len - 1] == '/') {
            len--;
        }
        client->base = strndup(url, len);
        client->key_header = secret != NULL ? strdup(ort_buf_peek_cstr(&header)) : NULL;
        client->ca_file = context->ca_file != NULL ? strdup(context->ca_file) : NULL;
        client->curl = curl_easy_init();
    }
    ort_buf_fini(&header);
    if (client == NULL || client->base == NULL || client->curl == NULL) {
        fputs("orthant: out of memory\n", stderr);
        cli_client_free(client);
        return NULL;
    }
    return client;
}

void
cli_client_free(cli_client *client)
{
    if (client == NULL) {
        return;
    }
    if (client->curl != NULL) {
        curl_easy_cleanup(client->curl);
    }
    if (client->key_header != NULL) {
        explicit_bzero(client->key_header, strlen(client->key_header));
    }
    free(client->key_header);
    free(client->ca_file);
    free(client->base);
    free(client);
}

void
cli_reply_fini(cli_reply *reply)
{
    json_decref(reply->json);
    ort_buf_fini(&reply->body);
    *reply = (cli_reply){0};
}

static size_t
take_body(char *bytes, size_t size, size_t count, void *arg)
{
    cli_reply *reply = arg;
    const size_t n = size * count;
    if (reply->body.len + n > ANSWER_BYTES_MAX) {
        return 0;
    }
    ort_buf_put(&reply->body, bytes, n);
    return reply->body.failed ? 0 : n;
}

/* What the answer's head says that we want. */
typedef struct {
    cli_reply *reply;
    long retry_after_s; /* -1: not said */
} head;

static size_t
take_header(char *bytes, size_t size, size_t count, void *arg)
{
    head *h = arg;
    const size_t n = size * count;
    static const char etag[] = "etag:", retry[] = "retry-after:";
    if (n > sizeof etag && strncasecmp(bytes, etag, sizeof etag - 1) == 0) {
        size_t from = sizeof etag - 1, to = n;
        while (from < to && bytes[from] == ' ') {
            from++;
        }
        while (to > from && (bytes[to - 1] == '\r' || bytes[to - 1] == '\n')) {
            to--;
        }
        snprintf(h->reply->etag, sizeof h->reply->etag, "%.*s", (int)(to - from), bytes + from);
    } else if (n > sizeof retry && strncasecmp(bytes, retry, sizeof retry - 1) == 0) {
        char digits[16];
        snprintf(digits, sizeof digits, "%.*s", (int)(n - sizeof retry + 1),
                 bytes + sizeof retry - 1);
        h->retry_after_s = strtol(digits, NULL, 10);
    }
    return n;
}

/* The words of a failure: problem+json's detail, Qdrant's status.error, or the body's start. */
static void
explain(cli_reply *reply)
{
    if (reply->status >= 200 && reply->status < 300) {
        return;
    }
    const char *text = json_string_value(json_object_get(reply->json, "detail"));
    if (text == NULL) {
        text = json_string_value(json_object_get(json_object_get(reply->json, "status"), "error"));
    }
    if (text == NULL) {
        text = json_string_value(json_object_get(reply->json, "title"));
    }
    if (text == NULL && reply->body.len > 0 && reply->json == NULL) {
        text = ort_buf_peek_cstr(&reply->body);
    }
    const char *code = json_string_value(json_object_get(reply->json, "code"));
    const char *id = json_string_value(json_object_get(reply->json, "request_id"));
    snprintf(reply->message, sizeof reply->message, "%ld%s%s: %.400s%s%s%s", reply->status,
             code != NULL ? " " : "", code != NULL ? code : "",
             text != NULL ? text : "no further words", id != NULL ? " (request " : "",
             id != NULL ? id : "", id != NULL ? ")" : "");
}

/* One attempt. Returns libcurl's verdict; reply->status is 0 without an answer. */
static CURLcode
attempt(cli_client *client, const cli_request *request, const char *body, size_t body_len,
        cli_reply *reply, long *retry_after_s)
{
    char header[300];
    struct curl_slist *headers = NULL;
    ort_buf url = {0};
    head h = {.reply = reply, .retry_after_s = -1};
    CURL *curl = client->curl;

    cli_reply_fini(reply);
    ort_buf_printf(&url, "%s%s", client->base, request->path);
    headers = curl_slist_append(headers, "Accept: application/json");
    headers = curl_slist_append(headers, "Expect:");
    if (body != NULL) {
        headers = curl_slist_append(headers, "Content-Type: application/json");
    }
    if (client->key_header != NULL) {
        headers = curl_slist_append(headers, client->key_header);
    }
    if (request->if_match != NULL) {
        snprintf(header, sizeof header, "If-Match: %s", request->if_match);
        headers = curl_slist_append(headers, header);
    }
    if (request->idempotency_key != NULL) {
        snprintf(header, sizeof header, "Idempotency-Key: %s", request->idempotency_key);
        headers = curl_slist_append(headers, header);
    }
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, ort_buf_peek_cstr(&url));
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, ANSWER_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, reply);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &h);
    if (client->ca_file != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_file);
    }
    if (body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_len);
    }
    const CURLcode rc = curl_easy_perform(curl);
    if (rc == CURLE_OK) {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply->status);
        reply->json = json_loadb(reply->body.data != NULL ? reply->body.data : "", reply->body.len,
                                 JSON_DECODE_ANY, NULL);
        explain(reply);
    } else {
        snprintf(reply->message, sizeof reply->message, "%s: %s", client->base,
                 curl_easy_strerror(rc));
    }
    *retry_after_s = h.retry_after_s;
    curl_slist_free_all(headers);
    ort_buf_fini(&url);
    return rc;
}

static void
pause_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* A request that may be sent again though its first fate is not known. */
static bool
repeatable(const cli_request *request)
{
    return strcmp(request->method, "POST") != 0 || request->idempotency_key != NULL;
}

cli_exit
cli_client_call(cli_client *client, cli_request request, cli_reply *reply)
{
    char *text = request.json != NULL ? json_dumps(request.json, JSON_COMPACT) : NULL;
    const char *body = text != NULL ? text : request.text;
    const size_t len = text != NULL ? strlen(text) : request.text_len;
    long pause = 200, after_s = -1;
    *reply = (cli_reply){0};
    for (int i = 1;; i++) {
        const CURLcode rc = attempt(client, &request, body, len, reply, &after_s);
        /* A refused connection was never a request; any other loss may have been one. */
        const bool lost = rc == CURLE_COULDNT_CONNECT || (rc != CURLE_OK && repeatable(&request));
        const bool later = reply->status == 429 || reply->status == 503;
        if (request.no_retry || i == TRIES_MAX || (!lost && !later)) {
            break;
        }
        pause_ms(after_s > 0 && after_s < 60 ? after_s * 1000 : pause);
        pause = pause < 8000 ? pause * 2 : pause;
    }
    free(text);
    return cli_exit_of_status(reply->status);
}

cli_exit
cli_client_call_loud(cli_client *client, cli_request request, cli_reply *reply)
{
    const cli_exit end = cli_client_call(client, request, reply);
    if (end != CLI_OK) {
        fprintf(stderr, "orthant: %s\n", reply->message);
    }
    return end;
}

void
cli_path_segment(ort_buf *out, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        const bool plain = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') ||
                           (*p >= 'A' && *p <= 'Z') || strchr("-_.~", *p) != NULL;
        if (plain) {
            ort_buf_putc(out, (char)*p);
        } else {
            const char three[3] = {'%', hex[*p >> 4], hex[*p & 15]};
            ort_buf_put(out, three, 3);
        }
    }
}
