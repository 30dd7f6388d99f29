/* Requests of arbitrary bytes through routes, hooks, decoding and answers, without a socket: the
 * first line is method and target, then fields, an empty line, the body. */
#include <stdlib.h>
#include <string.h>

#include "http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIELDS_MAX 70

/* Touches everything a handler can ask for; what is decoded holds no NUL before its end. */
static void
look(ort_http_req *req, void *user)
{
    const char *name, *value;
    size_t len = 0;
    const char *body = ort_http_req_body(req, &len);
    ort_buf out = {0};

    (void)user;
    for (size_t i = 0; ort_http_req_query_at(req, i, &name, &value); i++) {
        ort_buf_printf(&out, "%s=%s\n", name, value);
        if (ort_http_req_query(req, name) == NULL) {
            abort();
        }
    }
    if (ort_http_req_route(req)->tag == 1 &&
        (ort_http_req_param(req, "name") == NULL || ort_http_req_param(req, "name")[0] == '\0')) {
        abort();
    }
    ort_buf_put(&out, body, len);
    ort_http_reply(req, 200, "text/plain", out.data, out.len);
    ort_buf_fini(&out);
}

static const ort_http_route routes[] = {
    {.method = ORT_HTTP_GET, .pattern = "/", .handler = look},
    {.method = ORT_HTTP_GET, .pattern = "/collections/{name}", .handler = look, .tag = 1},
    {.method = ORT_HTTP_PUT, .pattern = "/collections/{name}/points", .handler = look, .tag = 1},
    {.method = ORT_HTTP_GET, .pattern = "/collections/{name}/points/{id}", .handler = look},
    {.method = ORT_HTTP_POST, .pattern = "/collections/{name}/points/count", .handler = look},
};

static ort_http_server *
server_get(void)
{
    static ort_http_server *server;
    static const ort_http_listener listener = {.address = "127.0.0.1:0"};
    static const char *const origins[] = {"https://a.example"};
    const ort_http_options options = {
        .listeners = &listener,
        .listener_count = 1,
        .routes = routes,
        .route_count = sizeof routes / sizeof routes[0],
        .cors_origins = origins,
        .cors_origin_count = 1,
        .body_bytes_max = 1000,
    };
    if (server == NULL && ort_http_server_new(&server, &options, NULL) != ORT_OK) {
        abort();
    }
    return server;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *fields[2 * FIELDS_MAX];
    ort_http_message m = {.headers = fields};
    ort_http_answer answer;
    char *text = malloc(size + 1);
    char *at = text;

    memcpy(text, data, size);
    text[size] = '\0';
    m.method = strsep(&at, " ");
    m.target = at != NULL ? strsep(&at, "\n") : "/";
    while (at != NULL && *at != '\0' && m.header_count < FIELDS_MAX) {
        char *line = strsep(&at, "\n");
        if (line[0] == '\0') {
            break;
        }
        fields[2 * m.header_count] = strsep(&line, ":");
        fields[2 * m.header_count + 1] = line != NULL ? line : "";
        m.header_count++;
    }
    if (at != NULL) {
        m.body = at;
        m.body_len = (size_t)(text + size - at);
    }
    if (ort_http_dispatch(server_get(), &m, &answer, NULL) == ORT_OK) {
        if (answer.status < 200 || answer.status > 599) {
            abort();
        }
        ort_http_answer_fini(&answer);
    }
    free(text);
    return 0;
}
