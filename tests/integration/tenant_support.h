/* tests/integration/tenant_support.h: the tenants of a node in a directory of their own, for tests.
 */
#ifndef TENANT_SUPPORT_H
#define TENANT_SUPPORT_H
#include "tenant/tenant.h"

#define ACME ((ort_tenant_id){0x1111111111111111})
#define GLOBEX ((ort_tenant_id){0x2222222222222222})

typedef struct {
    char path[64];
    int dir;
    dp_tenants_config config;
    dp_tenants *all;
} node;

/* A directory in /tmp and its tenants; change n->config and restart for other settings. */
void node_init(node *n);
void node_start(node *n);
void node_restart(node *n);
void node_fini(node *n); /* with all its files */

/* A reference, the caller's to give back. */
dp_tenant *tenant(node *n, ort_tenant_id id);

ort_json_doc *json(const char *text);

/* A collection with a vector of two floats. */
ort_err create(dp_tenant *t, const char *name, ort_diag *diag);

/* Points first .. first + count - 1, one write each. */
ort_err upsert(dp_tenant *t, const char *name, unsigned first, unsigned count, ort_diag *diag);

/* How many points there are; opens the collection. */
uint64_t count(dp_tenant *t, const char *name);

void sleep_ms(long ms);

/* Waits until no collection is open. */
void await_closed(node *n);

/* What `find` counts beneath tenants/. */
unsigned count_found(const node *n, const char *what);
#endif /* TENANT_SUPPORT_H */
