/* See tenant_support.h. */
#include "tenant_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "support/scratch.h"

void
node_start(node *n)
{
    ort_diag diag = {""};
    if (dp_tenants_open(&n->all, n->dir, &n->config, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
}

void
node_init(node *n)
{
    *n = (node){.dir = -1};
    scratch_dir(n->path, sizeof n->path, "orthant-tenant");
    n->dir = open(n->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(n->dir >= 0);
    node_start(n);
}

void
node_restart(node *n)
{
    dp_tenants_close(n->all);
    node_start(n);
}

void
node_fini(node *n)
{
    dp_tenants_close(n->all);
    close(n->dir);
    scratch_remove(n->path);
}

dp_tenant *
tenant(node *n, ort_tenant_id id)
{
    dp_tenant *t;
    ort_diag diag = {""};
    if (dp_tenants_get(n->all, id, &t, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    return t;
}

ort_json_doc *
json(const char *text)
{
    ort_json_doc *doc;
    assert_int_equal(ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, NULL), ORT_OK);
    return doc;
}

ort_err
create(dp_tenant *t, const char *name, ort_diag *diag)
{
    ort_json_doc *doc = json("{\"vectors\":{\"size\":2,\"distance\":\"Dot\"}}");
    dp_schema *schema;
    assert_int_equal(dp_schema_parse(&schema, ort_json_root(doc), NULL), ORT_OK);
    ort_json_free(doc);
    const ort_err err = dp_tenant_create_collection(t, name, strlen(name), schema, diag);
    dp_schema_unref(schema);
    return err;
}

ort_err
upsert(dp_tenant *t, const char *name, unsigned first, unsigned count, ort_diag *diag)
{
    dp_collection *c;
    ort_err err = dp_tenant_use(t, name, strlen(name), &c, diag);
    for (unsigned i = first; err == ORT_OK && i < first + count; i++) {
        char text[96];
        dp_op *op;
        dp_op_result result;
        snprintf(text, sizeof text, "{\"points\":[{\"id\":%u,\"vector\":[1,%u]}]}", i, i);
        ort_json_doc *doc = json(text);
        dp_schema *schema = dp_collection_schema(c);
        assert_int_equal(dp_op_parse(&op, DP_OP_UPSERT, schema, ort_json_root(doc), diag), ORT_OK);
        err = dp_collection_apply(c, op, 0, &result, diag);
        dp_op_free(op);
        dp_schema_unref(schema);
        ort_json_free(doc);
    }
    dp_tenant_release(t, c);
    return err;
}

uint64_t
count(dp_tenant *t, const char *name)
{
    dp_collection *c;
    uint64_t n = UINT64_MAX;
    ort_diag diag = {""};
    if (dp_tenant_use(t, name, strlen(name), &c, &diag) != ORT_OK) {
        fail_msg("%s", diag.text);
    }
    assert_int_equal(dp_collection_count(c, NULL, &n, NULL), ORT_OK);
    dp_tenant_release(t, c);
    return n;
}

void
sleep_ms(long ms)
{
    const struct timespec nap = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&nap, NULL);
}

unsigned
count_found(const node *n, const char *what)
{
    char command[256];
    unsigned found = 0;
    snprintf(command, sizeof command, "find %s/tenants -mindepth 1 %s | wc -l", n->path, what);
    FILE *in = popen(command, "r");
    assert_non_null(in);
    assert_int_equal(fscanf(in, "%u", &found), 1);
    pclose(in);
    return found;
}

void
await_closed(node *n)
{
    dp_tenants_stats stats;
    for (int i = 0; i < 2400; i++) {
        dp_tenants_get_stats(n->all, &stats);
        if (stats.collections_open == 0) {
            return;
        }
        sleep_ms(25);
    }
    fail_msg("%u collections stay open", stats.collections_open);
}
