/* Any body to any call of the data API, through routes, gate and storage: no body may crash it,
 * hang it, or make it answer 500. The first byte chooses the call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/test_node.h"

static const struct {
    const char *method, *target;
} calls[] = {
    {"PUT", "/collections/c/points?wait=true"},
    {"POST", "/collections/c/points/query"},
    {"POST", "/collections/c/points/query/batch"},
    {"POST", "/collections/c/points/query/groups"},
    {"POST", "/collections/c/points/search"},
    {"POST", "/collections/c/points/search/batch"},
    {"POST", "/collections/c/points/search/groups"},
    {"POST", "/collections/c/points/recommend"},
    {"POST", "/collections/c/points/scroll"},
    {"POST", "/collections/c/points/count"},
    {"POST", "/collections/c/points"},
    {"POST", "/collections/c/facet"},
    {"POST", "/collections/c/points/payload?wait=true"},
    {"PUT", "/collections/c/points/payload?wait=true"},
    {"POST", "/collections/c/points/payload/delete?wait=true"},
    {"PUT", "/collections/c/points/vectors?wait=true"},
    {"POST", "/collections/c/points/vectors/delete?wait=true"},
    {"POST", "/collections/c/points/batch?wait=true"},
    {"PUT", "/collections/c/index?wait=true"},
    {"PATCH", "/collections/c"},
    {"POST", "/collections/aliases"},
};

static test_node node;
static test_tenant tenant = {.max_points = 2000, .max_bytes = 8u << 20};

static int
ask(const char *method, const char *target, const char *body, size_t len)
{
    const char *headers[] = {"api-key", tenant.keys[0].token};
    const ort_http_message message = {.method = method,
                                      .target = target,
                                      .headers = headers,
                                      .header_count = 1,
                                      .body = body,
                                      .body_len = len};
    ort_http_answer answer = {0};
    const ort_err err = ort_http_dispatch(node.http, &message, &answer, NULL);
    const int status = err == ORT_OK ? answer.status : 0;
    ort_http_answer_fini(&answer);
    return status;
}

static void
begin(void)
{
    static const char create[] =
        "{\"vectors\":{\"\":{\"size\":4,\"distance\":\"Cosine\"},\"m\":{\"size\":2,\"distance\":"
        "\"Dot\",\"multivector_config\":{\"comparator\":\"max_sim\"}}},\"sparse_vectors\":{\"s\":"
        "{\"modifier\":\"idf\"}}}";
    static const char fill[] =
        "{\"points\":[{\"id\":1,\"vector\":{\"\":[1,2,3,4],\"m\":[[1,2],[3,4]],\"s\":{\"indices\":"
        "[1,7],\"values\":[1,2]}},\"payload\":{\"a\":{\"b\":[1,\"x\",null,true]},\"t\":\"2020-01-"
        "01\"}},"
        "{\"id\":\"550e8400-e29b-41d4-a716-446655440000\",\"vector\":{\"\":[4,3,2,1]}}]}";
    test_node_start(&node, &tenant, 1);
    if (ask("PUT", "/collections/c", create, sizeof create - 1) != 200 ||
        ask("PUT", "/collections/c/points?wait=true", fill, sizeof fill - 1) != 200) {
        abort();
    }
}

const char *__asan_default_options(void);

/* The storage keeps pointers in memory it maps itself, where the leak sanitizer does not look while
 * the node runs. The integration tests, which stop theirs, look for leaks. */
const char *
__asan_default_options(void)
{
    return "detect_leaks=0";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (node.http == NULL) {
        begin();
    }
    if (size == 0) {
        return 0;
    }
    const size_t i = data[0] % (sizeof calls / sizeof calls[0]);
    const int status = ask(calls[i].method, calls[i].target, (const char *)data + 1, size - 1);
    if (status < 200 || status == 500) {
        fprintf(stderr, "%s %s: %d\n", calls[i].method, calls[i].target, status);
        abort();
    }
    return 0;
}
