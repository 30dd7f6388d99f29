/* Requests for tenants of other nodes: out to their home as they came in, and in from others. */
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/clock.h"

/* What of the request's fields its home needs. The connection's own fields stay here. */
static const char *const fields_passed[] = {"api-key", "authorization", "content-type", "accept",
                                            "user-agent"};
#define FIELDS_PASSED (sizeof fields_passed / sizeof fields_passed[0])

/* Fields of an answer that this connection writes itself. */
static bool
is_ours(const char *name)
{
    return strcasecmp(name, "content-length") == 0 || strcasecmp(name, "connection") == 0 ||
           strcasecmp(name, "transfer-encoding") == 0 || strcasecmp(name, "x-request-id") == 0 ||
           strcasecmp(name, "date") == 0;
}

static void
reply_forwarded(dp_call *call, const ort_forward_reply *reply)
{
    ort_http_answer answer = {.status = (int)reply->status};

    for (int pass = 0; pass < 2; pass++) { /* Content-Type goes first */
        for (size_t i = 0; i < reply->header_count; i++) {
            const ort_forward_header *h = &reply->headers[i];
            const bool is_type = strcasecmp(h->name, "content-type") == 0;
            if (is_type == (pass == 0) && !is_ours(h->name)) {
                ort_buf_printf(&answer.headers, "%s: %s\r\n", h->name, h->value);
            }
        }
    }
    ort_buf_put(&answer.body, reply->body, reply->body_len);
    if (ort_buf_check(&answer.headers) != ORT_OK || ort_buf_check(&answer.body) != ORT_OK) {
        dp_api__reply_error(call->req, 500, "Service internal error: out of memory");
    } else {
        ort_http_reply_answer(call->req, &answer);
    }
    ort_http_answer_fini(&answer);
}

/* The words for a home that does not answer. A write may have been done: the client cannot know,
 * and hears it. */
static void
reply_unreachable(dp_call *call, ort_err err)
{
    const ort_err as = err == ORT_ETIMEOUT ? ORT_ETIMEOUT : ORT_EBUSY;

    ort_http_header(call->req, "Retry-After", "1");
    dp_api__reply_error(
        call->req, dp_api__error_status(as),
        err == ORT_ETIMEOUT ? "Timeout: the tenant's node did not answer in time; a write may have "
                              "been done"
        : err == ORT_EBUSY  ? "Service unavailable: too many requests for the tenant's node"
                            : "Service unavailable: the tenant's node cannot be reached");
}

void
dp_api__forward(dp_call *call)
{
    ort_http_req *req = call->req;
    dp_forward *forward =
        call->api->config.forward != NULL ? call->api->config.forward(call->api->config.arg) : NULL;
    ort_forward_header headers[FIELDS_PASSED];
    ort_buf target = {0};
    ort_forward_reply reply = {0};

    if (forward == NULL) {
        reply_unreachable(call, ORT_EIO);
        return;
    }
    ort_forward_request ask = {
        .hops = ort_http_req_header(req, DP_API_FORWARDED) != NULL ? 1 : 0,
        .method = ort_http_req_method_text(req),
        .request_id = ort_http_req_id(req),
        .remote = ort_http_req_remote(req),
        .headers = headers,
    };
    const uint64_t now = ort_mono_ns();
    const uint64_t deadline = ort_http_req_deadline_ns(req);
    ask.timeout_ms = deadline > now ? (uint32_t)((deadline - now) / 1000000u) : 1;
    for (size_t i = 0; i < FIELDS_PASSED; i++) {
        const char *value = ort_http_req_header(req, fields_passed[i]);
        if (value != NULL) {
            headers[ask.header_count++] = (ort_forward_header){fields_passed[i], value};
        }
    }
    ort_buf_puts(&target, ort_http_req_path(req));
    if (ort_http_req_query_text(req)[0] != '\0') {
        ort_buf_printf(&target, "?%s", ort_http_req_query_text(req));
    }
    ask.target = ort_buf_peek_cstr(&target);
    ask.body = ort_http_req_body(req, &ask.body_len);
    ort_err err = ask.target != NULL
                      ? dp_forward_call(forward, call->pass.home, &ask, &reply, &call->diag)
                      : ORT_ENOMEM;
    if (err != ORT_OK) {
        reply_unreachable(call, err);
    } else {
        reply_forwarded(call, &reply);
        ort_forward_reply_fini(&reply);
    }
    ort_buf_fini(&target);
}

/* Splits "Name: value\r\n" lines, copied into `text`, into headers. */
static size_t
split_fields(char *text, ort_forward_header *headers, size_t max)
{
    size_t count = 0;
    char *line = text;
    char *end;
    while (count < max && (end = strstr(line, "\r\n")) != NULL) {
        char *colon = strchr(line, ':');
        *end = '\0';
        if (colon != NULL && colon < end) {
            *colon = '\0';
            char *value = colon + 1;
            while (*value == ' ') {
                value++;
            }
            headers[count++] = (ort_forward_header){line, value};
        }
        line = end + 2;
    }
    return count;
}

#define FIELDS_ANSWERED 32u

/* Moves an answer into a reply: fields into one arena, the body to where the caller wants it. */
static bool
fill_reply(ort_http_answer *answer, ort_forward_reply *reply, ort_buf *body_out)
{
    const char *fields = ort_buf_peek_cstr(&answer->headers);
    const size_t len = fields != NULL ? strlen(fields) : 0;
    char *arena = malloc(FIELDS_ANSWERED * sizeof *reply->headers + len + 1);

    if (arena == NULL) {
        return false;
    }
    ort_forward_header *headers = (ort_forward_header *)(void *)arena;
    char *text = arena + FIELDS_ANSWERED * sizeof *headers;
    if (len != 0) {
        memcpy(text, fields, len);
    }
    text[len] = '\0';
    reply->arena = arena;
    reply->headers = headers;
    reply->header_count = split_fields(text, headers, FIELDS_ANSWERED);
    reply->status = (uint32_t)answer->status;
    ort_buf_put(body_out, answer->body.data, answer->body.len);
    return !body_out->failed;
}

void
dp_api_answer_forward(void *server, const ort_forward_request *request, ort_forward_reply *reply,
                      ort_buf *body_out)
{
    enum { PAIRS_MAX = 16 };
    const char *headers[2 * PAIRS_MAX];
    size_t pairs = 0;
    ort_http_answer answer = {0};
    ort_diag diag = {{0}};

    headers[2 * pairs] = DP_API_FORWARDED;
    headers[2 * pairs++ + 1] = "1";
    headers[2 * pairs] = "x-request-id";
    headers[2 * pairs++ + 1] = request->request_id;
    for (size_t i = 0; i < request->header_count && pairs < PAIRS_MAX; i++) {
        /* Only what we would pass on ourselves, whatever the other node sent. */
        for (size_t f = 0; f < FIELDS_PASSED; f++) {
            if (strcasecmp(request->headers[i].name, fields_passed[f]) == 0) {
                headers[2 * pairs] = request->headers[i].name;
                headers[2 * pairs++ + 1] = request->headers[i].value;
                break;
            }
        }
    }
    const ort_http_message message = {
        .method = request->method,
        .target = request->target,
        .remote = request->remote,
        .headers = headers,
        .header_count = pairs,
        .body = request->body,
        .body_len = request->body_len,
    };
    ort_err err = ort_http_dispatch(server, &message, &answer, &diag);
    if (err != ORT_OK || !fill_reply(&answer, reply, body_out)) {
        static const char failed[] =
            "{\"status\":{\"error\":\"Service internal error: forwarded request failed\"},"
            "\"time\":0.0}";
        ort_buf_clear(body_out);
        ort_buf_put(body_out, failed, sizeof failed - 1);
        reply->status = 500;
        reply->header_count = 0;
    }
    ort_http_answer_fini(&answer);
}
