/* Vectors of a collection added and taken away by name, over real connections: old points go on,
 * new ones have them, restarts change nothing, and writes that run meanwhile are never lost. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data_api_support.h"

#define C "/collections/v"

static int
fresh(void **state)
{
    (void)state;
    free(test_call(node.port, KEY, 200, "DELETE", C, NULL));
    ok("PUT", C, "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"},\"metadata\":{\"a\":1}}", "true");
    ok("PUT", C "/points?wait=true",
       "{\"points\":[{\"id\":1,\"vector\":[1,0],\"payload\":{\"k\":1}},{\"id\":2,\"vector\":[0,1]}]"
       "}",
       "completed");
    return 0;
}

static void
a_vector_is_added_filled_searched_and_taken_away(void **state)
{
    (void)state;
    ok("PUT", C "/vectors/b?wait=true", "{\"dense\":{\"size\":3,\"distance\":\"Euclid\"}}",
       "{\"result\":{\"operation_id\":1,\"status\":\"completed\"}");
    ok("PUT", C "/vectors/s", "{\"sparse\":{\"modifier\":\"idf\"}}", "acknowledged");
    ok("GET", C, NULL,
       "\"params\":{\"vectors\":{\"\":{\"size\":2,\"distance\":\"Dot\"},\"b\":{\"size\":3,"
       "\"distance\":"
       "\"Euclid\"}},\"sparse_vectors\":{\"s\":{\"modifier\":\"idf\"}}");
    ok("GET", C "/points/1", NULL, "\"payload\":{\"k\":1},\"vector\":[1.0,0.0]}");
    ok("PUT", C "/points/vectors?wait=true",
       "{\"points\":[{\"id\":1,\"vector\":{\"b\":[1,2,3],\"s\":{\"indices\":[7],\"values\":[0.5]}}}"
       "]}",
       "completed");
    ok("PUT", C "/points?wait=true", "{\"points\":[{\"id\":3,\"vector\":{\"b\":[1,2,4]}}]}",
       "completed");
    test_node_restart(&node);
    ok("GET", C "/points/1", NULL,
       "\"vector\":{\"\":[1.0,0.0],\"b\":[1.0,2.0,3.0],\"s\":{\"indices\":[7],\"values\":[0.5]}}}");
    ok("POST", C "/points/query", "{\"query\":[1,2,3],\"using\":\"b\"}",
       "[{\"id\":1,\"version\":2,\"score\":0.0},{\"id\":3,\"version\":3,\"score\":1.0}]");
    ok("DELETE", C "/vectors/b?wait=true", NULL, "completed");
    ok("GET", C, NULL,
       "\"params\":{\"vectors\":{\"\":{\"size\":2,\"distance\":\"Dot\"}},\"sparse_vectors\"");
    ok("GET", C "/points/1", NULL,
       "\"vector\":{\"\":[1.0,0.0],\"s\":{\"indices\":[7],\"values\":[0.5]}}}");
    ok("GET", C "/points/3", NULL, "\"vector\":{}}");
    bad(400, "Not existing vector name error: b", "POST", C "/points/query",
        "{\"query\":[1,2,3],\"using\":\"b\"}");
    bad(400, "Not existing vector name error: b", "PUT", C "/points",
        "{\"points\":[{\"id\":3,\"vector\":{\"b\":[1,2,4]}}]}");
    test_node_restart(&node);
    /* The same name again, and nothing of before comes back with it. */
    ok("PUT", C "/vectors/b", "{\"dense\":{\"size\":3,\"distance\":\"Dot\"}}", "acknowledged");
    ok("GET", C "/points/1", NULL,
       "\"vector\":{\"\":[1.0,0.0],\"s\":{\"indices\":[7],\"values\":[0.5]}}}");
    ok("POST", C "/points/count", "{\"filter\":{\"must\":{\"has_vector\":\"b\"}}}",
       "{\"count\":0}");
    ok("PUT", C "/points?wait=true", "{\"points\":[{\"id\":4,\"vector\":{\"b\":[1,1,1]}}]}",
       "completed");
    /* Other shapes find another place, and patches keep all of them. */
    ok("DELETE", C "/vectors/b?wait=true", NULL, "completed");
    ok("PUT", C "/vectors/b", "{\"dense\":{\"size\":5,\"distance\":\"Dot\"}}", "acknowledged");
    ok("PATCH", C, "{\"vectors\":{\"b\":{\"on_disk\":true}},\"metadata\":{\"b\":2}}", "true");
    test_node_restart(&node);
    ok("GET", C, NULL, "\"b\":{\"size\":5,\"distance\":\"Dot\",\"on_disk\":true}}");
    ok("GET", C, NULL, "\"metadata\":{\"a\":1,\"b\":2}");
    ok("GET", C "/points/4", NULL, "\"vector\":{}}");
}

static void
what_cannot_be_added_or_taken_away_is_told(void **state)
{
    (void)state;
    bad(404, "Collection `x` doesn't exist!", "PUT", "/collections/x/vectors/b", "{\"sparse\":{}}");
    bad(400, "Format error", "PUT", C "/vectors/b", "{}");
    bad(400, "Format error", "PUT", C "/vectors/b", "{\"dense\":{\"size\":2}}");
    bad(400, "Format error", "PUT", C "/vectors/b",
        "{\"dense\":{\"size\":0,\"distance\":\"Dot\"}}");
    bad(422, "65537", "PUT", C "/vectors/b", "{\"dense\":{\"size\":65537,\"distance\":\"Dot\"}}");
    bad(400, "Not existing vector name error: b", "DELETE", C "/vectors/b", NULL);
    ok("PUT", C "/vectors/b", "{\"sparse\":{}}", "acknowledged");
    bad(409, "Wrong input: Vector `b` already exists!", "PUT", C "/vectors/b",
        "{\"dense\":{\"size\":2,\"distance\":\"Dot\"}}");
    test_expect(node.port, api_tenants[1].keys[0].token, 404, "doesn't exist", "DELETE",
                C "/vectors/b", NULL);
}

static atomic_bool stop_writing;
static atomic_int written;

static void *
write_on(void *arg)
{
    (void)arg;
    for (int i = 0; !atomic_load(&stop_writing); i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"points\":[{\"id\":%d,\"vector\":[1,1]}]}", 100 + i);
        test_answer a = test_request(node.port, KEY, "PUT", C "/points?wait=true", body);
        if (a.status == 200) {
            atomic_store(&written, i + 1);
        }
        test_answer_fini(&a);
    }
    return NULL;
}

static void
writes_go_on_while_vectors_come_and_go(void **state)
{
    pthread_t writer;
    char want[64];
    (void)state;
    atomic_store(&stop_writing, false);
    atomic_store(&written, 0);
    assert_int_equal(pthread_create(&writer, NULL, write_on, NULL), 0);
    for (int i = 0; i < 4; i++) {
        ok("PUT", C "/vectors/t", "{\"dense\":{\"size\":2,\"distance\":\"Dot\"}}", "acknowledged");
        ok("PUT", C "/points?wait=true", "{\"points\":[{\"id\":3,\"vector\":{\"t\":[1,2]}}]}",
           "completed");
        ok("DELETE", C "/vectors/t", NULL, "acknowledged");
    }
    atomic_store(&stop_writing, true);
    pthread_join(writer, NULL);
    snprintf(want, sizeof want, "{\"count\":%d}", atomic_load(&written) + 3);
    ok("POST", C "/points/count", "{}", want);
    assert_true(atomic_load(&written) > 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_vector_is_added_filled_searched_and_taken_away, fresh),
        cmocka_unit_test_setup(what_cannot_be_added_or_taken_away_is_told, fresh),
        cmocka_unit_test_setup(writes_go_on_while_vectors_come_and_go, fresh),
    };
    return cmocka_run_group_tests(tests, api_start, api_stop);
}
