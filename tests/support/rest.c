/* tests/support/rest.c: see the header. */
#include "support/rest.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct {
    char *data;
    size_t len;
} text;

static size_t
append(char *bytes, size_t size, size_t n, void *arg)
{
    text *t = arg;
    char *grown = realloc(t->data, t->len + size * n + 1);

    if (grown == NULL) {
        return 0;
    }
    t->data = grown;
    memcpy(t->data + t->len, bytes, size * n);
    t->len += size * n;
    t->data[t->len] = '\0';
    return size * n;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
init(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

rest_reply
rest_call(const char *method, const char *url, const char *const *headers, const char *body)
{
    rest_reply reply = {0};
    text out = {calloc(1, 1), 0};
    text head = {calloc(1, 1), 0};
    struct curl_slist *list = NULL;
    bool typed = false;
    long status = 0;
    char *type = NULL;

    pthread_once(&once, init);
    CURL *curl = curl_easy_init();
    for (size_t i = 0; headers != NULL && headers[i] != NULL; i++) {
        list = curl_slist_append(list, headers[i]);
        typed = typed || strncasecmp(headers[i], "Content-Type:", 13) == 0;
    }
    if (body != NULL && !typed) {
        list = curl_slist_append(list, "Content-Type: application/json");
    }
    list = curl_slist_append(list, "Expect:");
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, append);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &out);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, append);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &head);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 120000L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    }
    if (body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    }
    if (curl_easy_perform(curl) == CURLE_OK) {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
        snprintf(reply.content_type, sizeof reply.content_type, "%s", type != NULL ? type : "");
    }
    reply.status = (int)status;
    reply.body = out.data;
    reply.body_len = out.len;
    reply.headers = head.data;
    curl_slist_free_all(list);
    curl_easy_cleanup(curl);
    return reply;
}

void
rest_reply_free(rest_reply *reply)
{
    free(reply->body);
    free(reply->headers);
    *reply = (rest_reply){0};
}

bool
rest_header(const rest_reply *reply, const char *name, char *out, size_t out_bytes)
{
    size_t n = strlen(name);

    for (const char *line = reply->headers; line != NULL && *line != '\0';) {
        size_t len = strcspn(line, "\r\n");
        if (len > n && strncasecmp(line, name, n) == 0 && line[n] == ':') {
            const char *value = line + n + 1;
            value += strspn(value, " ");
            snprintf(out, out_bytes, "%.*s", (int)(line + len - value), value);
            return true;
        }
        line += len;
        line += strspn(line, "\r\n");
    }
    return false;
}
