/* A node of this process's own (support/test_node.h) and its first tenant's key. */
#include "data_api_support.h"

test_node node;
test_tenant api_tenants[2] = {{.name = "a"}, {.name = "b"}};

int
api_start(void **state)
{
    (void)state;
    node.body_bytes_max = 4u << 20;
    test_node_start(&node, api_tenants, 2);
    return 0;
}

int
api_stop(void **state)
{
    (void)state;
    test_node_stop(&node);
    return 0;
}

void
ok(const char *method, const char *target, const char *body, const char *part)
{
    test_expect(node.port, KEY, 200, part, method, target, body);
}

void
bad(int status, const char *part, const char *method, const char *target, const char *body)
{
    test_expect(node.port, KEY, status, part, method, target, body);
    /* Whatever it was, it has not hurt. */
    test_expect(node.port, NULL, 200, "healthz check passed", "GET", "/healthz", NULL);
}
