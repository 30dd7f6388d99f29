/* A data node in the test's own process, and a client that can misbehave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "support/data_openapi.h"
#include "support/json_schema.h"
#include "support/scratch.h"
#include "support/test_node.h"

static void
must(ort_err err, const ort_diag *diag, const char *what)
{
    if (err != ORT_OK) {
        fail_msg("%s: %s: %s", what, ort_err_code(err), diag != NULL ? diag->text : "");
    }
}

static void
put_limit(ort_buf *out, const char *name, uint64_t v)
{
    if (v != 0) {
        ort_buf_printf(out, "\"%s\":%" PRIu64 ",", name, v);
    } else {
        ort_buf_printf(out, "\"%s\":null,", name);
    }
}

static void
put_key(ort_buf *out, test_node *node, const test_tenant *tenant, test_key *key)
{
    char id[ORT_TOKEN_ID_TEXT_BYTES];
    char hex[ORT_HASH_TEXT_BYTES];
    ort_hash hash;

    if (key->token[0] == '\0') {
        ort_token_make(&key->parsed, ORT_TOKEN_TEST, tenant->id, NULL);
        ort_token_format(&key->parsed, key->token);
    }
    if (key->revoked) {
        return;
    }
    ort_token_hash(&key->parsed, node->pepper, &hash);
    ort_hash_format(&hash, hex);
    ort_key_id_format(key->parsed.id, id);
    ort_buf_printf(out, "\"%s\":{\"hash\":\"%s\",\"scopes\":%s,\"collections\":%s,", id, hex,
                   key->scopes != NULL ? key->scopes
                                       : "[\"data:read\",\"data:write\",\"collections:manage\"]",
                   key->collections != NULL ? key->collections : "[]");
    if (key->expires_at_ms != 0) {
        ort_buf_printf(out, "\"expires_at_ms\":%" PRId64 ",", key->expires_at_ms);
    } else {
        ort_buf_puts(out, "\"expires_at_ms\":null,");
    }
    put_limit(out, "max_requests_per_minute", key->per_minute);
    out->len--; /* the comma */
    ort_buf_puts(out, "},");
}

static void
put_tenant(ort_buf *out, test_node *node, test_tenant *t)
{
    ort_buf_printf(out,
                   "\"%016" PRIx64 "\":{\"name\":\"%s\",\"state\":\"%s\",\"regions\":%s,"
                   "\"epoch\":1,\"max_stale_s\":0,\"limits\":{",
                   t->id.v, t->name != NULL ? t->name : "t", t->state != NULL ? t->state : "active",
                   t->regions != NULL ? t->regions : "[]");
    put_limit(out, "max_collections", t->max_collections);
    put_limit(out, "max_vectors_per_collection", t->max_per_collection);
    put_limit(out, "max_vectors", t->max_points);
    put_limit(out, "max_storage_bytes", t->max_bytes);
    put_limit(out, "max_requests_per_minute", t->per_minute);
    out->len--;
    ort_buf_puts(out, "},\"keys\":{");
    const size_t before = out->len;
    for (size_t i = 0; i < t->key_count; i++) {
        put_key(out, node, t, &t->keys[i]);
    }
    if (out->len > before) {
        out->len--;
    }
    ort_buf_puts(out, "}},");
}

void
test_node_set_table(test_node *node, test_tenant *tenants, size_t count)
{
    ort_buf body = {0};
    ort_diag diag = {{0}};
    const dp_table *table;

    ort_buf_puts(&body, "{\"tenants\":{");
    size_t before = body.len;
    for (size_t i = 0; i < count; i++) {
        if (tenants[i].id.v == 0) {
            tenants[i].id.v = ort_id_random();
        }
        tenants[i].key_count = tenants[i].key_count != 0 ? tenants[i].key_count : 1;
        if (!tenants[i].elsewhere) {
            put_tenant(&body, node, &tenants[i]);
        } else {
            ort_buf scrap = {0}; /* its tokens are made all the same */
            put_tenant(&scrap, node, &tenants[i]);
            ort_buf_fini(&scrap);
        }
    }
    body.len -= body.len > before;
    ort_buf_puts(&body, "},\"directory\":{");
    before = body.len;
    for (size_t i = 0; i < count; i++) {
        ort_buf_printf(&body, "\"%016" PRIx64 "\":{\"home\":\"%016x\",\"regions\":%s},",
                       tenants[i].id.v, tenants[i].elsewhere ? TEST_OTHER : TEST_SELF,
                       tenants[i].regions != NULL ? tenants[i].regions : "[]");
    }
    body.len -= body.len > before;
    ort_buf_printf(&body,
                   "},\"nodes\":{\"%016x\":{\"region\":\"eu-central\",\"zone\":\"a\",\"endpoint\":"
                   "\"http://127.0.0.1:1\",\"forward\":\"\"},\"%016x\":{\"region\":\"us-east\","
                   "\"zone\":\"a\",\"endpoint\":\"http://us.example:6333\",\"forward\":\"%s\"}}}",
                   TEST_SELF, TEST_OTHER, "inproc://test-other");
    const ort_table_at at = {.generation = 1, .version = ++node->version};
    must(dp_table_from_body(&table, (ort_node_id){TEST_SELF}, at, ort_wall_ms(), body.data,
                            body.len, &diag),
         &diag, "table");
    ort_buf_fini(&body);
    const dp_table *held = dp_table_ref(table);
    dp_routes_set(node->routes, table);
    dp_gate_prune(node->gate, held);
    dp_table_release(held);
}

static dp_forward *
get_forward(void *arg)
{
    return ((test_node *)arg)->forward;
}

static ort_err
get_hub(void *arg, dp_agent_hub *out)
{
    *out = (dp_agent_hub){TEST_HUB, {TEST_SELF}, ((test_node *)arg)->hub_key.public};
    return ORT_OK;
}

static void
open_parts(test_node *node)
{
    ort_diag diag = {{0}};
    const dp_tenants_config tenants = {
        .collection = {.workers = node->workers, .checkpoint_bytes = node->checkpoint_bytes},
        .open_max = node->open_max};
    must(dp_tenants_open(&node->tenants, node->fd, &tenants, &diag), &diag, "tenants");
    const dp_gate_config gate = {
        .routes = node->routes,
        .tenants = node->tenants,
        .admission = {.slots = 2, .queue_max = node->queue_max != 0 ? node->queue_max : 1024},
        .body_bytes_max = 1u << 30,
        .body_bytes_tenant_max = 1u << 29,
    };
    must(dp_gate_new(&node->gate, &gate), NULL, "gate");
    const dp_api_config api = {
        .gate = node->gate,
        .tenants = node->tenants,
        .metrics = node->metrics,
        .forward = get_forward,
        .hub = get_hub,
        .arg = node,
    };
    must(dp_api_new(&node->api, &api), NULL, "api");
    const ort_http_listener listener = {.address = "127.0.0.1:0"};
    /* Nobody of this process is too slow, however busy the machine, but who wants to be. */
    const uint32_t limit_ms = node->impatient ? 500 : 600000;
    ort_http_options options = {
        .listeners = &listener,
        .listener_count = 1,
        .threads = node->threads != 0 ? node->threads : 160,
        .head_ms = limit_ms,
        .body_chunk_ms = limit_ms,
        .body_total_ms = 2 * limit_ms,
        .write_ms = limit_ms,
        .body_bytes_max = node->body_bytes_max != 0 ? node->body_bytes_max : 32u << 20,
    };
    dp_api_serve(node->api, &options);
    must(ort_http_server_new(&node->http, &options, &diag), &diag, "http new");
    must(ort_http_server_start(node->http, &diag), &diag, "http start");
    node->port = ort_http_server_port(node->http, 0);
    dp_api_set_ready(node->api, true);
}

static void
close_parts(test_node *node)
{
    ort_http_server_free(node->http);
    dp_api_free(node->api);
    dp_gate_free(node->gate);
    dp_tenants_close(node->tenants);
}

void
test_node_start(test_node *node, test_tenant *tenants, size_t count)
{
    char dir[sizeof node->dir];
    scratch_dir(dir, sizeof dir, "orthant-test");
    ort_random_bytes(node->pepper, sizeof node->pepper);
    test_node_open(node, dir, tenants, count);
}

void
test_node_open(test_node *node, const char *dir, test_tenant *tenants, size_t count)
{
    ort_diag diag = {{0}};

    ort_log_set_level(ORT_LOG_WARN_);
    snprintf(node->dir, sizeof node->dir, "%s", dir);
    node->fd = open(node->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(node->fd >= 0);
    ort_sign_key_new(&node->hub_key);
    must(ort_metrics_new(&node->metrics), NULL, "metrics");
    must(ort_pool_new(&node->workers, "build", 1, 1024, &diag), &diag, "pool");
    must(dp_routes_new(&node->routes), NULL, "routes");
    dp_routes_set_pepper(node->routes, node->pepper);
    open_parts(node);
    test_node_set_table(node, tenants, count);
}

void
test_node_restart(test_node *node)
{
    close_parts(node);
    ort_metrics_free(node->metrics); /* its collectors look into what has just gone */
    must(ort_metrics_new(&node->metrics), NULL, "metrics");
    open_parts(node);
}

void
test_node_close(test_node *node)
{
    close_parts(node);
    dp_routes_free(node->routes);
    ort_pool_free(node->workers);
    ort_metrics_free(node->metrics);
    ort_fd_close(node->fd);
}

void
test_node_stop(test_node *node)
{
    test_node_close(node);
    scratch_remove(node->dir);
    memset(node, 0, sizeof *node);
}

/* --- the client ------------------------------------------------------------------------------ */

void
test_answer_fini(test_answer *answer)
{
    free(answer->head);
    free(answer->body);
    memset(answer, 0, sizeof *answer);
}

void
test_answer_field(const test_answer *answer, const char *name, char *out, size_t cap)
{
    const size_t len = strlen(name);
    out[0] = '\0';
    for (const char *line = answer->head; line != NULL && *line != '\0';) {
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            const char *value = line + len + 1;
            value += *value == ' ';
            snprintf(out, cap, "%.*s", (int)strcspn(value, "\r\n"), value);
            return;
        }
        line = strstr(line, "\r\n");
        line = line != NULL ? line + 2 : NULL;
    }
}

int
test_connect(uint16_t port)
{
    const int one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

bool
test_send(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len > 0) {
        const ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

/* Reads more into buf; false at the end, on an error and when the time is up. */
static bool
read_more(int fd, ort_buf *buf, uint64_t until_ms)
{
    const uint64_t now = ort_mono_ms();
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (now >= until_ms || poll(&p, 1, (int)(until_ms - now)) <= 0) {
        return false;
    }
    char *at = ort_buf_reserve(buf, 65536);
    const ssize_t n = recv(fd, at, 65536, 0);
    if (n <= 0) {
        return false;
    }
    ort_buf_commit(buf, (size_t)n);
    return true;
}

test_answer
test_receive(int fd, int timeout_ms)
{
    test_answer answer = {0};
    ort_buf buf = {0};
    const uint64_t until = ort_mono_ms() + (uint64_t)timeout_ms;
    char *end = NULL;

    while (end == NULL && read_more(fd, &buf, until)) {
        assert_non_null(ort_buf_peek_cstr(&buf));
        end = strstr(buf.data, "\r\n\r\n");
    }
    if (end == NULL) {
        ort_buf_fini(&buf);
        return answer;
    }
    const size_t head_len = (size_t)(end - buf.data) + 4;
    answer.head = strndup(buf.data, head_len);
    answer.status = atoi(answer.head + strlen("HTTP/1.1 "));
    char length[32];
    test_answer_field(&answer, "content-length", length, sizeof length);
    const size_t want = (size_t)strtoull(length, NULL, 10);
    while (buf.len - head_len < want && read_more(fd, &buf, until)) {
    }
    answer.body_len = buf.len - head_len < want ? buf.len - head_len : want;
    answer.body = malloc(answer.body_len + 1);
    assert_non_null(answer.body);
    memcpy(answer.body, buf.data + head_len, answer.body_len);
    answer.body[answer.body_len] = '\0';
    ort_buf_fini(&buf);
    return answer;
}

test_answer
test_request_n(uint16_t port, const char *key, const char *method, const char *target,
               const char *body, size_t len)
{
    ort_buf out = {0};
    const int fd = test_connect(port);

    ort_buf_printf(&out, "%s %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n", method, target);
    if (key != NULL) {
        ort_buf_printf(&out, "api-key: %s\r\n", key);
    }
    if (body != NULL) {
        ort_buf_printf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", len);
    }
    ort_buf_puts(&out, "\r\n");
    if (body != NULL) {
        ort_buf_put(&out, body, len);
    }
    test_send(fd, out.data, out.len); /* a refusal may come before we have sent it all */
    ort_buf_fini(&out);
    const test_answer answer = test_receive(fd, 30000);
    close(fd);
    return answer;
}

test_answer
test_request(uint16_t port, const char *key, const char *method, const char *target,
             const char *body)
{
    return test_request_n(port, key, method, target, body, body != NULL ? strlen(body) : 0);
}

/* Every answer is one that docs/reference/data-api.yaml allows; but for paths and methods that are
 * not in it, which are refused without a body or in words. */
static void
check_document(const char *method, const char *target, const test_answer *answer)
{
    static json_t *document;
    char path[2048], type[128], why[512];

    if (document == NULL) {
        document = json_loadb(test_data_openapi_json, test_data_openapi_json_len, 0, NULL);
        assert_non_null(document);
    }
    const size_t path_len = strcspn(target, "?");
    if (answer->status == 405 || (answer->status == 404 && answer->body_len == 0) ||
        path_len >= sizeof path) {
        return;
    }
    snprintf(path, sizeof path, "%.*s", (int)path_len, target);
    if (path_len > 1 && path[path_len - 1] == '/') {
        path[path_len - 1] = '\0'; /* taken, and not written down */
    }
    test_answer_field(answer, "content-type", type, sizeof type);
    if (!openapi_answer_fits(document, method, path, answer->status, type, answer->body,
                             answer->body_len, why, sizeof why)) {
        fail_msg("%s %s: %d %.800s\ndoes not fit docs/reference/data-api.yaml: %s", method, target,
                 answer->status, answer->body, why);
    }
}

char *
test_call(uint16_t port, const char *key, int status, const char *method, const char *target,
          const char *body)
{
    test_answer answer = test_request(port, key, method, target, body);
    if (answer.status != status) {
        fail_msg("%s %s %.200s: %d instead of %d: %.800s", method, target, body != NULL ? body : "",
                 answer.status, status, answer.body != NULL ? answer.body : "");
    }
    check_document(method, target, &answer);
    char *text = answer.body;
    answer.body = NULL;
    test_answer_fini(&answer);
    return text;
}

void
test_expect(uint16_t port, const char *key, int status, const char *part, const char *method,
            const char *target, const char *body)
{
    char *text = test_call(port, key, status, method, target, body);
    if (strstr(text, part) == NULL) {
        fail_msg("%s %s %.200s: no \"%s\" in %.800s", method, target, body != NULL ? body : "",
                 part, text);
    }
    free(text);
}
