/* The wall clock jumps ten years either way, again and again: rates, quotas and what is stored do
 * not notice; a key's end is what the clock says at the moment, and nothing of it is remembered.
 * Intervals go by the monotonic clock (base/clock.h), which nobody can set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "support/test_node.h"

#define YEARS_MS(n) ((n)*INT64_C(31556952000))

static _Atomic(int64_t) jump_ms;

int64_t __real_ort_wall_ms(void);
int64_t __wrap_ort_wall_ms(void); /* the linker puts it before the real one */

int64_t
__wrap_ort_wall_ms(void)
{
    return __real_ort_wall_ms() + atomic_load(&jump_ms);
}

static const int64_t jumps[] = {YEARS_MS(10), YEARS_MS(-10), 0, YEARS_MS(-10), YEARS_MS(10), 0};
#define JUMPS (sizeof jumps / sizeof *jumps)

static test_node node;
static test_tenant tenants[2] = {{.name = "a", .key_count = 2}, {.name = "slow"}};
#define KEY(t, k) (tenants[t].keys[k].token)
#define C "/collections/c"

static int
start(void **state)
{
    (void)state;
    tenants[0].keys[1].expires_at_ms = __real_ort_wall_ms() + 3600000;
    tenants[1].per_minute = 1; /* a minute is longer than the test */
    test_node_start(&node, tenants, 2);
    free(test_call(node.port, KEY(0, 0), 200, "PUT", C,
                   "{\"vectors\":{\"size\":2,\"distance\":\"Dot\"}}"));
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    test_node_stop(&node);
    return 0;
}

static void
a_jump_gives_and_takes_no_rate(void **state)
{
    (void)state;
    int status = 200;
    for (int i = 0; i < 50 && status == 200; i++) {
        test_answer answer = test_request(node.port, KEY(1, 0), "GET", "/collections", NULL);
        status = answer.status;
        test_answer_fini(&answer);
    }
    assert_int_equal(status, 429);
    for (size_t i = 0; i < JUMPS; i++) {
        atomic_store(&jump_ms, jumps[i]);
        free(test_call(node.port, KEY(1, 0), 429, "GET", "/collections", NULL));
        free(test_call(node.port, KEY(0, 0), 200, "GET", "/collections", NULL));
    }
}

/* A key without an end works always; one with an end is past it ten years on, and only then. */
static void
a_jump_ends_no_key_for_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < JUMPS; i++) {
        atomic_store(&jump_ms, jumps[i]);
        free(test_call(node.port, KEY(0, 0), 200, "GET", "/collections", NULL));
        free(
            test_call(node.port, KEY(0, 1), jumps[i] > 0 ? 401 : 200, "GET", "/collections", NULL));
    }
}

static void
a_jump_changes_nothing_that_is_stored(void **state)
{
    (void)state;
    char text[160], part[32];
    for (size_t i = 0; i < JUMPS; i++) {
        atomic_store(&jump_ms, jumps[i]);
        (void)snprintf(text, sizeof text, "{\"points\":[{\"id\":%zu,\"vector\":[1,%zu]}]}", i, i);
        free(test_call(node.port, KEY(0, 0), 200, "PUT", C "/points?wait=true", text));
        free(test_call(node.port, KEY(0, 0), 200, "POST", C "/snapshots", ""));
        free(test_call(node.port, KEY(0, 0), 200, "POST", C "/points/query", "{\"query\":[1,2]}"));
        if (i % 3 == 1) {
            test_node_restart(&node);
            test_node_set_table(&node, tenants, 2);
        }
        (void)snprintf(part, sizeof part, "\"count\":%zu", i + 1);
        test_expect(node.port, KEY(0, 0), 200, part, "POST", C "/points/count", "{}");
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_jump_gives_and_takes_no_rate),
        cmocka_unit_test(a_jump_ends_no_key_for_good),
        cmocka_unit_test(a_jump_changes_nothing_that_is_stored),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
