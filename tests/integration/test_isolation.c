/* One tenant against another: every route of docs/reference/data-api.yaml, called by tenant B with
 * every name and id of tenant A. Nothing of A comes back, and nothing of A changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "support/data_openapi.h"
#include "support/test_node.h"

/* It stands in A's payloads, and in the names of its collection and its alias. */
#define MARK "only-a-knows-7f3d"
#define ID_OF_A "aaaaaaaa-7f3d-4aaa-8aaa-aaaaaaaaaaaa"

static test_node node;
static test_tenant tenants[2] = {{.name = "a"}, {.name = "b"}};
#define KEY_A (tenants[0].keys[0].token)
#define KEY_B (tenants[1].keys[0].token)

static char snapshot[256]; /* A's, by name */

static void
as(const char *key, const char *method, const char *target, const char *body)
{
    free(test_call(node.port, key, 200, method, target, body));
}

static void
make_a(void)
{
    as(KEY_A, "PUT", "/collections/" MARK,
       "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"},\"sparse_vectors\":{\"s\":{}}}");
    as(KEY_A, "PUT", "/collections/" MARK "/index?wait=true",
       "{\"field_name\":\"k\",\"field_schema\":\"keyword\"}");
    as(KEY_A, "PUT", "/collections/" MARK "/points?wait=true",
       "{\"points\":[{\"id\":424242,\"vector\":{\"\":[1,0],\"s\":{\"indices\":[1],\"values\":[1]}},"
       "\"payload\":{\"k\":\"" MARK "\"}},"
       "{\"id\":\"" ID_OF_A "\",\"vector\":{\"\":[0.5,0.5]},\"payload\":{\"k\":\"" MARK "\"}}]}");
    as(KEY_A, "POST", "/collections/aliases",
       "{\"actions\":[{\"create_alias\":{\"collection_name\":\"" MARK "\",\"alias_name\":\"" MARK
       "-alias\"}}]}");
    char *text = test_call(node.port, KEY_A, 200, "POST", "/collections/" MARK "/snapshots", NULL);
    json_t *answer = json_loads(text, 0, NULL);
    const char *name =
        json_string_value(json_object_get(json_object_get(answer, "result"), "name"));
    assert_non_null(name);
    snprintf(snapshot, sizeof snapshot, "%s", name);
    json_decref(answer);
    free(text);
}

static int
start(void **state)
{
    (void)state;
    test_node_start(&node, tenants, 2);
    make_a();
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    test_node_stop(&node);
    return 0;
}

/* All that A can see of itself, but for times. The caller's. */
static char *
sight_of_a(void)
{
    static const char *const looks[][3] = {
        {"GET", "/collections", NULL},
        {"GET", "/aliases", NULL},
        {"GET", "/collections/" MARK "/snapshots", NULL},
        {"POST", "/collections/" MARK "/points/scroll",
         "{\"limit\":100,\"with_vector\":true,\"with_payload\":true}"},
    };
    ort_buf all = {0};

    for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++) {
        char *text = test_call(node.port, KEY_A, 200, looks[i][0], looks[i][1], looks[i][2]);
        json_t *answer = json_loads(text, 0, NULL);
        char *result =
            json_dumps(json_object_get(answer, "result"), JSON_SORT_KEYS | JSON_ENCODE_ANY);
        assert_non_null(result);
        ort_buf_puts(&all, result);
        free(result);
        json_decref(answer);
        free(text);
    }
    char *copy = strdup(ort_buf_peek_cstr(&all));
    assert_non_null(copy);
    ort_buf_fini(&all);
    return copy;
}

static void
make_b(void)
{
    test_answer gone = test_request(node.port, KEY_B, "DELETE", "/collections/own", NULL);

    test_answer_fini(&gone);
    as(KEY_B, "PUT", "/collections/own",
       "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"},\"sparse_vectors\":{\"s\":{}}}");
    as(KEY_B, "PUT", "/collections/own/points?wait=true",
       "{\"points\":[{\"id\":1,\"vector\":{\"\":[1,0]},\"payload\":{\"k\":\"b\"}}]}");
}

/* Members of every call at once: what a call does not know it ignores. */
#define COMMON                                                                                   \
    "\"ids\":[424242,\"" ID_OF_A "\"],\"limit\":100,\"with_payload\":true,\"with_vector\":true," \
    "\"using\":\"\",\"exact\":true,\"key\":\"k\",\"group_by\":\"k\",\"sample\":10,\"payload\":{" \
    "\"x\":1},"                                                                                  \
    "\"keys\":[\"k\"],\"field_name\":\"k\",\"field_schema\":\"keyword\","                        \
    "\"with_lookup\":\"" MARK "\",\"lookup_from\":{\"collection\":\"" MARK "\"}"

static const char *const bodies[] = {
    NULL,
    "{" COMMON ",\"points\":[424242,\"" ID_OF_A "\"],\"query\":424242,\"vector\":[1,0]}",
    "{" COMMON ",\"filter\":{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"" MARK
    "\"}}]},\"query\":[1,0],\"vector\":[1,0]}",
    "{" COMMON ",\"points\":[{\"id\":424242,\"vector\":[0,1],\"payload\":{\"stolen\":true}}],"
    "\"query\":{\"recommend\":{\"positive\":[424242]}},\"positive\":[424242],\"vector\":[\"s\"]}",
    "{\"searches\":[{\"limit\":5,\"with_payload\":true,\"query\":424242,\"vector\":[1,0],"
    "\"positive\":"
    "[424242],\"lookup_from\":{\"collection\":\"" MARK "\"}},{\"limit\":5,\"with_payload\":true}],"
    "\"operations\":[{\"delete\":{\"points\":[424242]}},{\"clear_payload\":{\"filter\":{}}}],"
    "\"actions\":[{\"create_alias\":{\"collection_name\":\"" MARK "\",\"alias_name\":\"mine\"}}]}",
    "{\"actions\":[{\"delete_alias\":{\"alias_name\":\"" MARK
    "-alias\"}}],\"target\":424242,\"limit\":5,"
    "\"context\":[{\"positive\":424242,\"negative\":1}],\"with_payload\":true,"
    "\"lookup_from\":{\"collection\":\"" MARK "-alias\"}}",
    "{\"actions\":[{\"rename_alias\":{\"old_alias_name\":\"" MARK
    "-alias\",\"new_alias_name\":\"mine\"}}],"
    "\"prefetch\":[{\"query\":424242,\"lookup_from\":{\"collection\":\"" MARK "\"},\"limit\":5}],"
    "\"query\":{\"fusion\":\"rrf\"},\"limit\":5,\"with_payload\":true}",
    "{\"location\":\"file:///etc/"
    "passwd\",\"vectors\":{\"size\":2,\"distance\":\"Dot\"},\"init_from\":"
    "{\"collection\":\"" MARK "\"},\"order_by\":\"k\",\"query\":{\"order_by\":\"k\"}}",
};

/* A path of the document with these in the place of its parameters. */
static void
fill(char *out, size_t cap, const char *pattern, const char *collection)
{
    size_t n = 0;

    for (const char *p = pattern; *p != '\0' && n + 300 < cap;) {
        if (*p != '{') {
            out[n++] = *p++;
            continue;
        }
        const size_t len = strcspn(p, "}") + 1;
        const char *value = strncmp(p, "{collection}", len) == 0 ? collection
                            : strncmp(p, "{snapshot}", len) == 0 ? snapshot
                            : strncmp(p, "{id}", len) == 0       ? ID_OF_A
                                                                 : "k";
        n += (size_t)snprintf(out + n, cap - n, "%s", value);
        p += len;
    }
    out[n] = '\0';
}

/* Whether an answer holds what only A's data holds. B's own requests carry the mark as a name, and
 * messages repeat them: so it is looked for where values stand, and in answers that give something.
 */
static bool
tells_of_a(const test_answer *answer)
{
    return answer->body != NULL && answer->status < 400 &&
           (strstr(answer->body, "\"k\":\"" MARK "\"") != NULL ||
            strstr(answer->body, "\"value\":\"" MARK "\"") != NULL ||
            strstr(answer->body, "\"id\":\"" MARK "\"") != NULL ||
            strstr(answer->body, ID_OF_A) != NULL || strstr(answer->body, snapshot) != NULL);
}

/* Writes that B makes under A's ids in a collection of its own give it those ids: not A's points.
 */
static bool
writes_ids(const char *method, const char *pattern)
{
    return strcmp(method, "PUT") == 0 || strstr(pattern, "/batch") != NULL;
}

static size_t
call_all(const json_t *document, const char *collection)
{
    static const char *const verbs[] = {"get", "put", "post", "patch", "delete"};
    const char *pattern;
    json_t *item;
    char path[2048];
    size_t calls = 0;

    json_object_foreach(json_object_get(document, "paths"), pattern, item)
    {
        for (size_t v = 0; v < sizeof verbs / sizeof verbs[0]; v++) {
            if (json_object_get(item, verbs[v]) == NULL) {
                continue;
            }
            char method[8];
            snprintf(method, sizeof method, "%s", verbs[v]);
            for (char *c = method; *c != '\0'; c++) {
                *c &= (char)~0x20;
            }
            for (size_t b = 0; b < sizeof bodies / sizeof bodies[0]; b++) {
                fill(path, sizeof path, pattern, collection);
                test_answer answer = test_request(node.port, KEY_B, method, path, bodies[b]);
                assert_true(answer.status >= 200 && answer.status < 600);
                assert_int_not_equal(answer.status, 500);
                if (!writes_ids(method, pattern) && tells_of_a(&answer)) {
                    fail_msg("%s %s %s: %d %.800s", method, path,
                             bodies[b] != NULL ? bodies[b] : "", answer.status, answer.body);
                }
                test_answer_fini(&answer);
                calls++;
            }
            if (strcmp(method, "GET") != 0 && strstr(path, "/points/") == NULL) {
                make_b(); /* what it has may have been taken away */
            }
        }
    }
    return calls;
}

static void
no_route_reaches_another_tenant(void **state)
{
    static const char *const collections[] = {MARK, MARK "-alias", "own"};
    json_t *document = json_loadb(test_data_openapi_json, test_data_openapi_json_len, 0, NULL);
    char *before = sight_of_a();
    size_t calls = 0;

    (void)state;
    assert_non_null(document);
    assert_non_null(strstr(before, MARK));
    make_b();
    for (size_t i = 0; i < sizeof collections / sizeof collections[0]; i++) {
        calls += call_all(document, collections[i]);
        char *after = sight_of_a();
        assert_string_equal(before, after);
        free(after);
        /* What B made under A's names is B's: gone again, so that the next round meets nothing. */
        test_answer gone = test_request(node.port, KEY_B, "DELETE", "/collections/" MARK, NULL);
        test_answer_fini(&gone);
    }
    print_message("%zu calls\n", calls);
    assert_true(calls > 1000);
    free(before);
    json_decref(document);
}

/* The tenant comes from the key and from nothing else: headers and parameters that name another. */
static void
nothing_but_the_key_names_a_tenant(void **state)
{
    char id[ORT_ID_TEXT_BYTES], path[512];

    (void)state;
    ort_id_format(tenants[0].id.v, id);
    snprintf(path, sizeof path, "/collections?tenant=%s&tenant_id=%s&x-tenant=%s", id, id, id);
    char *text = test_call(node.port, KEY_B, 200, "GET", path, NULL);
    assert_null(strstr(text, MARK));
    free(text);
    snprintf(path, sizeof path, "/collections/%s%%2Fcollections%%2F" MARK, id);
    test_answer answer = test_request(node.port, KEY_B, "GET", path, NULL);
    assert_true(answer.status >= 400);
    test_answer_fini(&answer);
    snprintf(path, sizeof path, "/collections/own/snapshots/..%%2F..%%2F%s", snapshot);
    answer = test_request(node.port, KEY_B, "GET", path, NULL);
    assert_true(answer.status >= 400);
    test_answer_fini(&answer);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_route_reaches_another_tenant),
        cmocka_unit_test(nothing_but_the_key_names_a_tenant),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
