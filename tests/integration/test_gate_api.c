/* The gate as clients meet it: keys, scopes, regions, rates, quotas, and that no call of one tenant
 * reaches another's data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "routing/forward.h"
#include "support/test_node.h"

#define CREATE "{\"vectors\":{\"size\":4,\"distance\":\"Dot\"}}"
#define POINT "{\"points\":[{\"id\":1,\"vector\":[1,0,0,0],\"payload\":{\"secret\":\"of-a\"}}]}"

/* --- keys and scopes ---------------------------------------------------------------------------
 */

static void
a_request_without_a_right_key_is_401_in_plain_text(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[] = {
        {.key_count = 3,
         .keys = {{.per_minute = 0}, {.revoked = true}, {.expires_at_ms = 1000000}}}};
    test_node_start(&node, tenants, 1);
    test_key *keys = tenants[0].keys;

    test_answer a = test_request(node.port, NULL, "GET", "/collections", NULL);
    assert_int_equal(a.status, 401);
    assert_string_equal(a.body, "Must provide an API key or an Authorization bearer token");
    char type[64];
    test_answer_field(&a, "content-type", type, sizeof type);
    assert_non_null(strstr(type, "text/plain"));
    test_answer_fini(&a);

    /* Unknown, revoked, expired, one character changed, not a key at all: one message. */
    char changed[ORT_TOKEN_TEXT_BYTES];
    strcpy(changed, keys[0].token);
    changed[40] = changed[40] == '0' ? '1' : '0';
    ort_token unknown;
    char unknown_text[ORT_TOKEN_TEXT_BYTES];
    ort_token_make(&unknown, ORT_TOKEN_LIVE, (ort_tenant_id){42}, NULL);
    ort_token_format(&unknown, unknown_text);
    char wrong_secret[ORT_TOKEN_TEXT_BYTES];
    ort_token forged = keys[0].parsed;
    forged.secret[3] ^= 1; /* with a right checksum */
    ort_token_format(&forged, wrong_secret);
    const char *wrong[] = {changed,       unknown_text, wrong_secret, keys[1].token,
                           keys[2].token, "x",          "orth_live_"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        a = test_request(node.port, wrong[i], "GET", "/collections", NULL);
        assert_int_equal(a.status, 401);
        assert_string_equal(a.body, "Invalid API key or JWT");
        test_answer_fini(&a);
    }
    free(test_call(node.port, keys[0].token, 200, "GET", "/collections", NULL));

    /* Revoked by the next table, at once. */
    keys[0].revoked = true;
    test_node_set_table(&node, tenants, 1);
    free(test_call(node.port, keys[0].token, 401, "GET", "/collections", NULL));
    test_node_stop(&node);
}

static void
a_bearer_token_is_as_good_as_the_api_key_field(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[1] = {{.name = "a"}};
    test_node_start(&node, tenants, 1);
    char request[512];
    snprintf(request, sizeof request,
             "GET /collections HTTP/1.1\r\nHost: t\r\nAuthorization: bearer %s\r\n\r\n",
             tenants[0].keys[0].token);
    const int fd = test_connect(node.port);
    assert_true(test_send(fd, request, strlen(request)));
    test_answer a = test_receive(fd, 60000);
    assert_int_equal(a.status, 200);
    test_answer_fini(&a);
    close(fd);
    test_node_stop(&node);
}

static void
scopes_and_collection_globs_hold(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[] = {{.key_count = 4,
                              .keys = {{.per_minute = 0},
                                       {.scopes = "[\"data:read\"]"},
                                       {.scopes = "[\"data:write\"]"},
                                       {.collections = "[\"pub-*\"]"}}}};
    test_node_start(&node, tenants, 1);
    const char *all = tenants[0].keys[0].token, *reader = tenants[0].keys[1].token;
    const char *writer = tenants[0].keys[2].token, *some = tenants[0].keys[3].token;

    free(test_call(node.port, all, 200, "PUT", "/collections/pub-1", CREATE));
    free(test_call(node.port, all, 200, "PUT", "/collections/own", CREATE));
    test_expect(node.port, reader, 403, "Forbidden: ", "PUT", "/collections/x", CREATE);
    test_expect(node.port, reader, 403, "data:write", "PUT", "/collections/own/points", POINT);
    free(test_call(node.port, writer, 200, "PUT", "/collections/own/points?wait=true", POINT));
    test_expect(node.port, writer, 403, "data:read", "POST", "/collections/own/points/query", "{}");
    test_expect(node.port, writer, 403, "collections:manage", "DELETE", "/collections/own", NULL);
    free(test_call(node.port, reader, 200, "POST", "/collections/own/points/query", "{}"));

    /* A key for some collections sees, reaches and makes no others, by no name. */
    char *list = test_call(node.port, some, 200, "GET", "/collections", NULL);
    assert_non_null(strstr(list, "pub-1"));
    assert_null(strstr(list, "own"));
    free(list);
    test_expect(node.port, some, 403, "Forbidden", "GET", "/collections/own", NULL);
    test_expect(node.port, some, 403, "Forbidden", "GET", "/collections/own/exists", NULL);
    test_expect(node.port, some, 403, "Forbidden", "PUT", "/collections/mine", CREATE);
    test_expect(node.port, some, 403, "Forbidden", "POST", "/collections/aliases",
                "{\"actions\":[{\"create_alias\":{\"collection_name\":\"own\",\"alias_name\":"
                "\"pub-own\"}}]}");
    free(test_call(node.port, some, 200, "POST", "/collections/pub-1/points/count", "{}"));
    test_node_stop(&node);
}

static void
a_suspended_tenant_is_403_until_it_is_resumed(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[1] = {{.name = "a"}};
    test_node_start(&node, tenants, 1);
    const char *key = tenants[0].keys[0].token;
    free(test_call(node.port, key, 200, "PUT", "/collections/c", CREATE));
    tenants[0].state = "suspended";
    test_node_set_table(&node, tenants, 1);
    test_expect(node.port, key, 403, "tenant is suspended", "GET", "/collections", NULL);
    tenants[0].state = "active";
    test_node_set_table(&node, tenants, 1);
    test_expect(node.port, key, 200, "\"name\":\"c\"", "GET", "/collections", NULL);
    test_node_stop(&node);
}

/* --- isolation ---------------------------------------------------------------------------------
 */

/* Every call there is, with every name and id of tenant A, asked by B: what comes back never holds
 * A's marker, and A's data is what it was. */
static void
no_call_of_one_tenant_reaches_another(void **state)
{
    static const struct {
        const char *method, *target, *body;
    } calls[] = {
        {"GET", "/collections", NULL},
        {"GET", "/collections/c", NULL},
        {"GET", "/collections/c/exists", NULL},
        {"GET", "/aliases", NULL},
        {"GET", "/collections/c/aliases", NULL},
        {"GET", "/telemetry", NULL},
        {"GET", "/collections/c/points/1", NULL},
        {"POST", "/collections/c/points", "{\"ids\":[1],\"with_vector\":true}"},
        {"POST", "/collections/c/points/scroll", "{\"with_vector\":true}"},
        {"POST", "/collections/c/points/count", "{}"},
        {"POST", "/collections/c/points/query", "{\"query\":[1,0,0,0],\"with_payload\":true}"},
        {"POST", "/collections/c/points/query", "{\"query\":1,\"with_payload\":true}"},
        {"POST", "/collections/c/points/query",
         "{\"query\":1,\"lookup_from\":{\"collection\":\"c\"},\"with_payload\":true}"},
        {"POST", "/collections/c/points/query/batch",
         "{\"searches\":[{\"query\":[1,0,0,0],\"with_payload\":true}]}"},
        {"POST", "/collections/c/points/search",
         "{\"vector\":[1,0,0,0],\"limit\":9,\"with_payload\":true}"},
        {"POST", "/collections/c/points/search/batch",
         "{\"searches\":[{\"vector\":[1,0,0,0],\"limit\":9,\"with_payload\":true}]}"},
        {"POST", "/collections/alias-of-a/points/scroll", "{}"},
        {"POST", "/collections/c/points/payload?wait=true",
         "{\"payload\":{\"secret\":\"b\"},\"points\":[1]}"},
        {"PUT", "/collections/c/points/payload?wait=true",
         "{\"payload\":{\"secret\":\"b\"},\"points\":[1]}"},
        {"POST", "/collections/c/points/payload/delete?wait=true",
         "{\"keys\":[\"secret\"],\"points\":[1]}"},
        {"POST", "/collections/c/points/payload/clear?wait=true", "{\"filter\":{}}"},
        {"PUT", "/collections/c/points/vectors?wait=true",
         "{\"points\":[{\"id\":1,\"vector\":[9,9,9,9]}]}"},
        {"POST", "/collections/c/points/delete?wait=true", "{\"points\":[1]}"},
        {"POST", "/collections/c/points/delete?wait=true", "{\"filter\":{}}"},
        {"POST", "/collections/c/points/batch?wait=true",
         "{\"operations\":[{\"delete\":{\"points\":[1]}}]}"},
        {"PATCH", "/collections/c", "{\"metadata\":{\"x\":1}}"},
        {"POST", "/collections/aliases",
         "{\"actions\":[{\"delete_alias\":{\"alias_name\":\"alias-of-a\"}}]}"},
        {"DELETE", "/collections/c", NULL},
    };
    (void)state;

    /* Once where B has nothing, and once where B has a collection of the same name. */
    for (int has_own = 0; has_own < 2; has_own++) {
        test_node node = {0};
        test_tenant tenants[2] = {{.name = "a"}, {.name = "b"}};
        test_node_start(&node, tenants, 2);
        const char *a = tenants[0].keys[0].token, *b = tenants[1].keys[0].token;
        free(test_call(node.port, a, 200, "PUT", "/collections/c", CREATE));
        free(test_call(node.port, a, 200, "PUT", "/collections/c/points?wait=true", POINT));
        free(test_call(node.port, a, 200, "POST", "/collections/aliases",
                       "{\"actions\":[{\"create_alias\":{\"collection_name\":\"c\",\"alias_name\":"
                       "\"alias-of-a\"}}]}"));
        if (has_own) {
            free(test_call(node.port, b, 200, "PUT", "/collections/c", CREATE));
        }
        for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
            test_answer answer =
                test_request(node.port, b, calls[i].method, calls[i].target, calls[i].body);
            if (answer.status == 0 || answer.status >= 500) {
                if (answer.status != 501) {
                    fail_msg("%s %s: %d", calls[i].method, calls[i].target, answer.status);
                }
            }
            if (strstr(answer.body, "of-a") != NULL && strstr(calls[i].target, "alias") == NULL &&
                strstr(answer.body, "alias-of-a") == NULL) {
                fail_msg("%s %s: %s", calls[i].method, calls[i].target, answer.body);
            }
            assert_null(strstr(answer.body, "\"secret\":\"of-a\""));
            test_answer_fini(&answer);
        }
        test_expect(
            node.port, a, 200,
            "{\"result\":{\"id\":1,\"payload\":{\"secret\":\"of-a\"},\"vector\":[1.0,0.0,0.0,"
            "0.0]}",
            "GET", "/collections/alias-of-a/points/1", NULL);
        test_node_stop(&node);
    }
}

/* --- rates -------------------------------------------------------------------------------------
 */

static void
over_its_rate_a_tenant_hears_429_and_when_to_come_back(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[] = {{.per_minute = 60}, {.name = "calm"}};
    test_node_start(&node, tenants, 2);
    const char *key = tenants[0].keys[0].token;
    char value[128];
    unsigned admitted = 0;
    test_answer a;

    const uint64_t begin = ort_mono_ms();
    for (;;) {
        a = test_request(node.port, key, "GET", "/collections", NULL);
        if (a.status != 200) {
            break;
        }
        test_answer_field(&a, "ratelimit-policy", value, sizeof value);
        assert_string_equal(value, "\"tenant\";q=60;w=60");
        test_answer_fini(&a);
        admitted++;
        assert_true(ort_mono_ms() - begin < 60000);
    }
    /* Ten at once, and one for each second that this took. */
    assert_in_range(admitted, 10, 11 + (ort_mono_ms() - begin) / 1000);
    assert_int_equal(a.status, 429);
    assert_non_null(strstr(a.body, "{\"status\":{\"error\":\"Rate limiting exceeded: "));
    test_answer_field(&a, "retry-after", value, sizeof value);
    assert_string_equal(value, "1");
    test_answer_field(&a, "ratelimit", value, sizeof value);
    assert_non_null(strstr(value, "\"tenant\";r=0;t="));
    test_answer_fini(&a);
    free(test_call(node.port, tenants[1].keys[0].token, 200, "GET", "/collections", NULL));
    sleep(1);
    free(test_call(node.port, key, 200, "GET", "/collections", NULL));
    test_node_stop(&node);
}

/* The body of a refused write is never read: the answer is there before it has been sent. */
static void
a_refusal_comes_before_the_body(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[1] = {{.name = "a"}};
    test_node_start(&node, tenants, 1);
    const char head[] = "PUT /collections/c/points HTTP/1.1\r\nHost: t\r\napi-key: wrong\r\n"
                        "Content-Length: 1000000\r\n\r\n";
    const int fd = test_connect(node.port);
    assert_true(test_send(fd, head, sizeof head - 1));
    test_answer a = test_receive(fd, 60000);
    assert_int_equal(a.status, 401);
    test_answer_fini(&a);
    close(fd);
    test_node_stop(&node);
}

/* --- quotas ------------------------------------------------------------------------------------
 */

typedef struct {
    test_node *node;
    const char *key;
    int id;
    atomic_int *accepted;
    atomic_int *refused;
    atomic_int *other;
} quota_writer;

static void *
write_until_full(void *arg)
{
    quota_writer *w = arg;
    for (int i = 0; i < 10; i++) {
        char body[256];
        snprintf(body, sizeof body, "{\"points\":[{\"id\":%d,\"vector\":[1,0,0,0]}]}",
                 w->id * 100 + i);
        test_answer a =
            test_request(w->node->port, w->key, "PUT", "/collections/c/points?wait=true", body);
        atomic_fetch_add(a.status == 200   ? w->accepted
                         : a.status == 507 ? w->refused
                                           : w->other,
                         1);
        test_answer_fini(&a);
    }
    return NULL;
}

/* 64 writers and one quota: it is never passed and every free place is used. */
static void
sixty_four_writers_fill_a_quota_exactly(void **state)
{
    (void)state;
    enum { WRITERS = 64, QUOTA = 300 };
    test_node node = {0};
    test_tenant tenants[] = {{.max_points = QUOTA}};
    test_node_start(&node, tenants, 1);
    const char *key = tenants[0].keys[0].token;
    quota_writer writers[WRITERS];
    pthread_t threads[WRITERS];
    atomic_int accepted = 0, refused = 0, other = 0;

    free(test_call(node.port, key, 200, "PUT", "/collections/c", CREATE));
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (quota_writer){&node, key, i + 1, &accepted, &refused, &other};
        assert_int_equal(pthread_create(&threads[i], NULL, write_until_full, &writers[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(other, 0);
    assert_int_equal(accepted, QUOTA);
    assert_int_equal(refused, WRITERS * 10 - QUOTA);
    test_expect(node.port, key, 200, "{\"count\":300}", "POST", "/collections/c/points/count",
                "{}");

    /* Full: the words, and what still works. */
    test_expect(node.port, key, 507, "Insufficient storage: ", "PUT",
                "/collections/c/points?wait=true", POINT);
    free(test_call(node.port, key, 200, "POST", "/collections/c/points/query", "{}"));
    free(test_call(node.port, key, 200, "POST", "/collections/c/points/delete?wait=true",
                   "{\"points\":[100,101,102]}"));
    test_node_restart(&node);
    test_node_set_table(&node, tenants, 1);
    free(test_call(node.port, key, 200, "PUT", "/collections/c/points?wait=true", POINT));
    test_expect(node.port, key, 507, "Insufficient storage: ", "PUT",
                "/collections/c/points?wait=true",
                "{\"points\":[{\"id\":2,\"vector\":[1,0,0,0]},{\"id\":3,\"vector\":[1,0,0,0]},"
                "{\"id\":4,\"vector\":[1,0,0,0]}]}");
    test_expect(node.port, key, 200, "{\"count\":298}", "POST", "/collections/c/points/count",
                "{}");
    test_node_stop(&node);
}

static void
the_number_of_collections_is_a_quota(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[] = {{.max_collections = 2}};
    test_node_start(&node, tenants, 1);
    const char *key = tenants[0].keys[0].token;
    free(test_call(node.port, key, 200, "PUT", "/collections/a", CREATE));
    free(test_call(node.port, key, 200, "PUT", "/collections/b", CREATE));
    test_expect(node.port, key, 507, "Insufficient storage: ", "PUT", "/collections/c", CREATE);
    free(test_call(node.port, key, 200, "DELETE", "/collections/a", NULL));
    free(test_call(node.port, key, 200, "PUT", "/collections/c", CREATE));
    test_node_stop(&node);
}

/* --- regions and forwarding --------------------------------------------------------------------
 */

static void
a_tenant_pinned_elsewhere_is_421_with_its_endpoint(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[] = {{.elsewhere = true, .regions = "[\"us-east\"]"}};
    test_node_start(&node, tenants, 1);
    test_expect(node.port, tenants[0].keys[0].token, 421, "http://us.example:6333", "GET",
                "/collections", NULL);
    test_node_stop(&node);
}

/* What another node would do with it: this very API, over the forward server. */
static void
a_request_for_another_node_is_answered_as_if_local(void **state)
{
    (void)state;
    test_node here = {0}, home = {0};
    test_tenant elsewhere[] = {{.elsewhere = true}};
    ort_diag diag = {{0}};

    test_node_start(&here, elsewhere, 1);
    /* The same tenant and key, at home. Peppers must agree, as within one hub. */
    test_tenant at_home[] = {elsewhere[0]};
    at_home[0].elsewhere = false;
    test_node_start(&home, at_home, 1);
    memcpy(home.pepper, here.pepper, sizeof home.pepper);
    dp_routes_set_pepper(home.routes, home.pepper);
    test_node_set_table(&home, at_home, 1);

    dp_forward_server *server = NULL;
    const dp_forward_server_options server_options = {.url = "inproc://test-other",
                                                      .plain_ok = true,
                                                      .handler = dp_api_answer_forward,
                                                      .arg = home.http};
    assert_int_equal(dp_forward_server_open(&server, &server_options, &diag), ORT_OK);
    const dp_forward_options options = {.plain_ok = true, .timeout_ms = 5000};
    assert_int_equal(dp_forward_new(&here.forward, &options, &diag), ORT_OK);

    const char *key = elsewhere[0].keys[0].token;
    free(test_call(here.port, key, 200, "PUT", "/collections/c", CREATE));
    free(test_call(here.port, key, 200, "PUT", "/collections/c/points?wait=true", POINT));
    test_expect(here.port, key, 200, "\"secret\":\"of-a\"", "GET", "/collections/c/points/1", NULL);
    test_expect(home.port, key, 200, "\"secret\":\"of-a\"", "GET", "/collections/c/points/1", NULL);
    test_expect(here.port, key, 404, "Not found: Collection `d` doesn't exist!", "GET",
                "/collections/d", NULL);
    /* The home's gate has the last word. */
    at_home[0].keys[0].revoked = true;
    test_node_set_table(&home, at_home, 1);
    test_expect(here.port, key, 401, "Invalid API key or JWT", "GET", "/collections/c", NULL);

    dp_forward_free(here.forward);
    here.forward = NULL;
    dp_forward_server_close(server);
    test_expect(here.port, key, 503, "Service unavailable: ", "GET", "/collections/c", NULL);
    test_node_stop(&home);
    test_node_stop(&here);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_without_a_right_key_is_401_in_plain_text),
        cmocka_unit_test(a_bearer_token_is_as_good_as_the_api_key_field),
        cmocka_unit_test(scopes_and_collection_globs_hold),
        cmocka_unit_test(a_suspended_tenant_is_403_until_it_is_resumed),
        cmocka_unit_test(no_call_of_one_tenant_reaches_another),
        cmocka_unit_test(over_its_rate_a_tenant_hears_429_and_when_to_come_back),
        cmocka_unit_test(a_refusal_comes_before_the_body),
        cmocka_unit_test(sixty_four_writers_fill_a_quota_exactly),
        cmocka_unit_test(the_number_of_collections_is_a_quota),
        cmocka_unit_test(a_tenant_pinned_elsewhere_is_421_with_its_endpoint),
        cmocka_unit_test(a_request_for_another_node_is_answered_as_if_local),
    };
    return cmocka_run_group_tests_name("gate_api", tests, NULL, NULL);
}
