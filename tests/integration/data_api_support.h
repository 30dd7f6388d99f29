/* tests/integration/data_api_support.h: a node with two tenants, and short words for asking it. */
#ifndef DATA_API_SUPPORT_H
#define DATA_API_SUPPORT_H
#include "support/test_node.h"

extern test_node node;
extern test_tenant api_tenants[2];

#define KEY (api_tenants[0].keys[0].token)

/* Set up and tear down of a group of tests. */
int api_start(void **state);
int api_stop(void **state);

/* 200, and the body has `part`. */
void ok(const char *method, const char *target, const char *body, const char *part);

/* Another status; and the node goes on. */
void bad(int status, const char *part, const char *method, const char *target, const char *body);
#endif /* DATA_API_SUPPORT_H */
