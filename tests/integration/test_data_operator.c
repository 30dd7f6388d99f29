/* Calls that at Qdrant are for whoever runs the server: what a tenant is shown of its own, and how
 * the rest is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "data_api_support.h"

static int
fresh(void **state)
{
    (void)state;
    free(test_call(node.port, KEY, 200, "DELETE", "/collections/c", NULL));
    ok("PUT", "/collections/c", "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"}}", "true");
    ok("PUT", "/collections/c/points?wait=true", "{\"points\":[{\"id\":1,\"vector\":[1,0]}]}",
       "completed");
    return 0;
}

static void
a_collection_looks_as_on_a_server_of_its_own(void **state)
{
    (void)state;
    ok("GET", "/collections/c/cluster", NULL,
       "{\"result\":{\"peer_id\":0,\"shard_count\":1,\"local_shards\":[{\"shard_id\":0,\"points_"
       "count\":1,"
       "\"state\":\"Active\"}],\"remote_shards\":[],\"shard_transfers\":[]},\"status\":\"ok\"");
    ok("GET", "/collections/c/optimizations", NULL,
       "{\"result\":{\"summary\":{\"queued_optimizations\":0,\"queued_segments\":0,\"queued_"
       "points\":0,"
       "\"idle_segments\":");
    ok("GET", "/collections/c/memory", NULL, "{\"result\":{\"total\":{\"disk_bytes\":");
    ok("GET", "/issues", NULL, "{\"result\":{\"issues\":[]}");
    ok("DELETE", "/issues", NULL, "{\"result\":true");
    bad(404, "Collection `d` doesn't exist!", "GET", "/collections/d/cluster", NULL);
    /* Not even the number of another tenant's points. */
    test_expect(node.port, api_tenants[1].keys[0].token, 404, "doesn't exist", "GET",
                "/collections/c/cluster", NULL);
    test_expect(node.port, api_tenants[1].keys[0].token, 404, "doesn't exist", "GET",
                "/collections/c/memory", NULL);
}

static void
what_is_the_operators_is_refused_in_words(void **state)
{
    static const struct {
        const char *method, *path;
        int status;
    } calls[] = {
        {"POST", "/cluster/recover", 405},
        {"DELETE", "/cluster/peer/1", 405},
        {"GET", "/cluster/telemetry", 405},
        {"POST", "/collections/c/cluster", 405},
        {"GET", "/collections/c/shards", 405},
        {"PUT", "/collections/c/shards", 405},
        {"POST", "/collections/c/shards/delete", 405},
        {"GET", "/quotas", 403},
        {"PUT", "/quotas", 403},
        {"GET", "/logger", 403},
        {"POST", "/logger", 403},
        {"GET", "/audit/logs", 403},
        {"GET", "/profiler/slow_requests", 403},
        {"GET", "/stacktrace", 403},
        {"GET", "/debugger", 403},
        {"PATCH", "/debugger", 403},
    };
    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        bad(calls[i].status, "{\"status\":{\"error\":\"", calls[i].method, calls[i].path,
            calls[i].method[0] == 'P' ? "{}" : NULL);
    }
    bad(405, "Distributed mode disabled", "PUT", "/collections/c/shards", "{\"shard_key\":\"a\"}");
    bad(403, "Forbidden: /quotas is for the operator of the hub", "GET", "/quotas", NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_collection_looks_as_on_a_server_of_its_own, fresh),
        cmocka_unit_test_setup(what_is_the_operators_is_refused_in_words, fresh),
    };
    return cmocka_run_group_tests(tests, api_start, api_stop);
}
