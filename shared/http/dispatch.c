/* Requests that came some other way: forwarded by another node, or written by a test or a fuzzer.
 * They take the same path as those of a connection, from the framing on. */
#include <stdlib.h>

#include "http_internal.h"

static const char *
message_wrong(const ort_http_message *m)
{
    if (m->method == NULL || m->target == NULL || m->target[0] != '/' ||
        strlen(m->target) > ORT_URI_BYTES_MAX) {
        return "no method, or no sane target";
    }
    if (m->header_count >= ORT_HEADERS_MAX) {
        return "too many header fields";
    }
    if (m->body_len > INT64_MAX / 2 || (m->body == NULL && m->body_len > 0)) {
        return "no sane body";
    }
    return NULL;
}

ort_err
ort_http_dispatch(ort_http_server *server, const ort_http_message *message, ort_http_answer *out,
                  ort_diag *diag)
{
    const char *wrong = message_wrong(message);
    ort_http_req *req;

    *out = (ort_http_answer){0};
    if (wrong != NULL) {
        return ort_fail(diag, ORT_EINVAL, "%s", wrong);
    }
    req = calloc(1, sizeof *req);
    if (req == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "request");
    }
    req->server = server;
    req->answer = out;
    req->method_text = message->method;
    req->method = ort_http__method_parse(message->method);
    req->remote = message->remote != NULL ? message->remote : "";
    req->memory_body = message->body;
    req->memory_left = message->body_len;
    for (size_t i = 0; i < message->header_count; i++) {
        req->headers[i].name = message->headers[2 * i];
        req->headers[i].value = message->headers[2 * i + 1];
    }
    req->header_count = (uint32_t)message->header_count;

    size_t len = strcspn(message->target, "?");
    req->query_text = message->target[len] == '?' ? message->target + len + 1 : NULL;
    while (len > 1 && message->target[len - 1] == '/') {
        len--;
    }
    memcpy(req->path, message->target, len);
    req->path[len] = '\0';

    ort_http__run(req);
    free(req);
    if (out->headers.failed || out->body.failed || out->status == 0) {
        ort_http_answer_fini(out);
        return ort_fail(diag, ORT_ENOMEM, "answer");
    }
    return ORT_OK;
}

void
ort_http_answer_fini(ort_http_answer *answer)
{
    ort_buf_fini(&answer->headers);
    ort_buf_fini(&answer->body);
    answer->status = 0;
}
