/* One tenant's damaged files, as clients see them: the node starts, everybody else is served, and
 * the damaged collection says 503 and which shard it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test_node.h"

#define QUERY "{\"query\":[1,0],\"limit\":1}"

static void
make(uint16_t port, const char *key, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "/collections/%s", name);
    free(test_call(port, key, 200, "PUT", path, "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"}}"));
    snprintf(path, sizeof path, "/collections/%s/points?wait=true", name);
    free(test_call(port, key, 200, "PUT", path, "{\"points\":[{\"id\":7,\"vector\":[1,0]}]}"));
}

static void
query(uint16_t port, const char *key, const char *name, int status, const char *part)
{
    char path[128];
    snprintf(path, sizeof path, "/collections/%s/points/query", name);
    test_expect(port, key, status, part, "POST", path, QUERY);
}

/* Overwrites the beginning of the one file that the pattern finds beneath the tenant. */
static void
damage(const test_node *node, ort_tenant_id id, const char *pattern)
{
    char full[256];
    glob_t found;
    snprintf(full, sizeof full, "%s/tenants/%016" PRIx64 "/%s", node->dir, id.v, pattern);
    assert_int_equal(glob(full, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    const int fd = open(found.gl_pathv[0], O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "damaged!", 8, 16), 8);
    close(fd);
    globfree(&found);
}

static void
a_damaged_collection_answers_503_and_names_its_shard(void **state)
{
    test_node node = {0};
    test_tenant tenants[2] = {{.name = "a"}, {.name = "b"}};
    (void)state;
    test_node_start(&node, tenants, 2);
    make(node.port, tenants[0].keys[0].token, "notes");
    make(node.port, tenants[1].keys[0].token, "notes");
    damage(&node, tenants[0].id, "log.*");
    test_node_restart(&node);
    const char *a = tenants[0].keys[0].token, *b = tenants[1].keys[0].token;
    query(node.port, a, "notes", 503, "shard");
    query(node.port, b, "notes", 200, "\"id\":7");
    test_expect(node.port, a, 200, "notes", "GET", "/collections", NULL); /* still listed */
    make(node.port, a, "others");                                         /* and not alone */
    query(node.port, a, "others", 200, "\"id\":7");
    test_expect(node.port, NULL, 200, "orthant_collections_failed 1", "GET", "/metrics", NULL);
    free(test_call(node.port, a, 200, "DELETE", "/collections/notes", NULL));
    query(node.port, a, "notes", 404, "doesn't exist");
    test_node_stop(&node);
}

/* Rot in a vector shows when it is read: no search answers by it, however it is asked, and the node
 * says so as it does of what cannot be opened. */
static void
a_vector_that_rotted_answers_503(void **state)
{
    test_node node = {0};
    test_tenant tenants[2] = {{.name = "a"}, {.name = "b"}};
    glob_t found;
    char full[256];
    struct stat st;
    ort_buf points = {0};
    (void)state;
    test_node_start(&node, tenants, 2);
    const char *a = tenants[0].keys[0].token, *b = tenants[1].keys[0].token;
    make(node.port, b, "notes");
    free(test_call(node.port, a, 200, "PUT", "/collections/notes",
                   "{\"vectors\":{\"size\":256,\"distance\":\"Dot\"}}"));
    ort_buf_puts(&points, "{\"points\":[");
    for (int i = 1; i <= 600; i++) { /* enough for a segment when it is closed */
        ort_buf_printf(&points, "%s{\"id\":%d,\"vector\":[%d", i > 1 ? "," : "", i, i);
        for (int k = 1; k < 256; k++) {
            ort_buf_puts(&points, ",1.5");
        }
        ort_buf_puts(&points, "]}");
    }
    ort_buf_puts(&points, "]}");
    free(test_call(node.port, a, 200, "PUT", "/collections/notes/points?wait=true",
                   ort_buf_peek_cstr(&points)));
    ort_buf_fini(&points);
    test_node_restart(&node);
    snprintf(full, sizeof full, "%s/tenants/%016" PRIx64 "/seg.*", node.dir, tenants[0].id.v);
    assert_int_equal(glob(full, 0, NULL, &found), 0);
    const int fd = open(found.gl_pathv[0], O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    float rot = 1e30f; /* rows are most of the file: its middle is one */
    assert_int_equal(pwrite(fd, &rot, sizeof rot, st.st_size / 2 / 4 * 4), sizeof rot);
    close(fd);
    globfree(&found);
    for (int again = 0; again < 2; again++) {
        test_expect(node.port, a, 503, "shard 0", "POST", "/collections/notes/points/query",
                    "{\"query\":1,\"limit\":1}");
        test_expect(node.port, a, 503, "damaged", "POST", "/collections/notes/points/scroll",
                    "{\"limit\":600,\"with_vector\":true}");
    }
    test_expect(node.port, a, 200, "\"points\":[", "POST", "/collections/notes/points/scroll",
                "{\"limit\":600}"); /* what is good is served */
    query(node.port, b, "notes", 200, "\"id\":7");
    test_expect(node.port, NULL, 200, "orthant_collections_failed 1", "GET", "/metrics", NULL);
    test_node_stop(&node);
}

static void
a_damaged_catalog_answers_503_to_its_tenant_alone(void **state)
{
    test_node node = {0};
    test_tenant tenants[2] = {{.name = "a"}, {.name = "b"}};
    (void)state;
    test_node_start(&node, tenants, 2);
    make(node.port, tenants[0].keys[0].token, "notes");
    make(node.port, tenants[1].keys[0].token, "notes");
    free(test_call(node.port, tenants[0].keys[0].token, 200, "DELETE", "/collections/notes", NULL));
    damage(&node, tenants[0].id, "catalog.json");
    test_node_restart(&node);
    /* The node that closed had nothing to write there: what was damaged stayed so. */
    query(node.port, tenants[0].keys[0].token, "notes", 503, "cannot be opened");
    query(node.port, tenants[1].keys[0].token, "notes", 200, "\"id\":7");
    test_expect(node.port, NULL, 200, "orthant_tenants_failed 1", "GET", "/metrics", NULL);
    test_node_stop(&node);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_collection_answers_503_and_names_its_shard),
        cmocka_unit_test(a_vector_that_rotted_answers_503),
        cmocka_unit_test(a_damaged_catalog_answers_503_to_its_tenant_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
