/* Cross-origin requests (the Fetch standard): allowed for the origins the operator names, and
 * nothing said at all when none is named. */
#include <strings.h>

#include "http_internal.h"

static const char *
origin_allowed(const ort_http_req *req, const char *origin)
{
    const ort_http_server *server = req->server;

    for (size_t i = 0; i < server->options.cors_origin_count; i++) {
        if (strcmp(server->cors_origins[i], "*") == 0) {
            return "*";
        }
        if (strcmp(server->cors_origins[i], origin) == 0) {
            return server->cors_origins[i];
        }
    }
    return NULL;
}

/* A list of field names: what browsers send there is nothing else. */
static bool
names_sane(const char *text)
{
    return strlen(text) <= 512 &&
           text[strspn(
               text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_, ")] == '\0';
}

bool
ort_http__cors(ort_http_req *req)
{
    const char *origin = ort_http_req_header(req, "origin");
    const char *allowed;

    if (req->server->options.cors_origin_count == 0) {
        return false;
    }
    ort_http_header(req, "Vary", "Origin");
    allowed = origin != NULL ? origin_allowed(req, origin) : NULL;
    if (allowed == NULL) {
        return false;
    }
    ort_http_header(req, "Access-Control-Allow-Origin", allowed);
    if (req->method != ORT_HTTP_OPTIONS ||
        ort_http_req_header(req, "access-control-request-method") == NULL) {
        ort_http_header(req, "Access-Control-Expose-Headers",
                        "ETag, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id");
        return false;
    }
    const char *names = ort_http_req_header(req, "access-control-request-headers");
    ort_http_header(req, "Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE");
    if (names != NULL && names_sane(names)) {
        ort_http_header(req, "Access-Control-Allow-Headers", names);
    }
    ort_http_header(req, "Access-Control-Max-Age", "600");
    ort_http_reply(req, 204, NULL, NULL, 0);
    return true;
}
