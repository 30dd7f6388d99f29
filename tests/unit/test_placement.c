/* Placement: shares follow weights, little moves when nodes come and go, pins hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "placement/placement.h"

enum { NODES = 10, TENANTS = 20000 };

static cp_candidate nodes[NODES + 1];

/* Ids far apart, as random ones are, but the same in each run. */
static uint64_t
id_of(uint64_t i)
{
    uint64_t x = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 31;
    return x * UINT64_C(0xbf58476d1ce4e5b9) | 1;
}

static int
setup(void **state)
{
    static const char *const zones[] = {"a", "b", "c"};
    (void)state;
    for (size_t i = 0; i <= NODES; i++) {
        nodes[i] = (cp_candidate){.id = {id_of(i)},
                                  .region = i < 5 ? "eu" : "us",
                                  .zone = zones[i % 3],
                                  .weight = 100,
                                  .usable = true};
    }
    return 0;
}

static size_t
index_of(ort_node_id id)
{
    for (size_t i = 0; i <= NODES; i++) {
        if (nodes[i].id.v == id.v) {
            return i;
        }
    }
    fail();
    return 0;
}

static const cp_region_set anywhere = {0};

static size_t
home_of(uint64_t tenant, size_t count, const cp_region_set *regions)
{
    ort_node_id out = {0};
    assert_true(
        cp_placement_pick((ort_tenant_id){id_of(tenant + 1000)}, nodes, count, regions, &out));
    return index_of(out);
}

/* Each node's share may be off by five standard deviations (sqrt(n p q) = 42), no more. */
static void
shares_follow_weights(void **state)
{
    (void)state;
    size_t got[NODES] = {0};
    nodes[3].weight = 200;
    nodes[4].weight = 0;
    for (uint64_t t = 0; t < TENANTS; t++) {
        got[home_of(t, NODES, &anywhere)]++;
    }
    for (size_t i = 0; i < NODES; i++) {
        const double want = (double)TENANTS * nodes[i].weight / 1000;
        assert_true((double)got[i] > want - 300 && (double)got[i] < want + 300);
    }
    assert_int_equal(got[4], 0);
}

static void
a_joining_node_only_takes_and_a_leaving_one_only_gives(void **state)
{
    (void)state;
    size_t moved = 0;
    for (uint64_t t = 0; t < TENANTS; t++) {
        const size_t before = home_of(t, NODES, &anywhere);
        const size_t after = home_of(t, NODES + 1, &anywhere);
        assert_true(after == before || after == NODES);
        moved += after != before;
        nodes[before].usable = false;
        assert_true(home_of(t, NODES, &anywhere) != before);
        nodes[before].usable = true;
        /* Another node's absence changes nothing for this tenant. */
        nodes[(before + 1) % NODES].usable = false;
        assert_int_equal(home_of(t, NODES, &anywhere), before);
        nodes[(before + 1) % NODES].usable = true;
    }
    const double share = (double)moved / TENANTS; /* 1/11 */
    assert_true(share > 0.08 && share < 0.10);
}

static void
order_of_candidates_does_not_matter(void **state)
{
    (void)state;
    for (uint64_t t = 0; t < 100; t++) {
        const ort_node_id first = nodes[home_of(t, NODES, &anywhere)].id;
        for (size_t i = 0; i < NODES / 2; i++) {
            const cp_candidate swap = nodes[i];
            nodes[i] = nodes[NODES - 1 - i];
            nodes[NODES - 1 - i] = swap;
        }
        assert_true(nodes[home_of(t, NODES, &anywhere)].id.v == first.v);
    }
}

static void
a_pin_is_never_left(void **state)
{
    (void)state;
    const char *const eu[] = {"eu"}, *const nowhere[] = {"mars"};
    const cp_region_set pin = {.names = eu, .count = 1}, none = {.names = nowhere, .count = 1};
    ort_node_id out = {7};
    for (uint64_t t = 0; t < 1000; t++) {
        assert_string_equal(nodes[home_of(t, NODES, &pin)].region, "eu");
        assert_false(cp_placement_pick((ort_tenant_id){id_of(t)}, nodes, NODES, &none, &out));
        /* A home in a region that is no longer allowed is not kept. */
        assert_true(cp_placement_keep_or_pick((ort_tenant_id){id_of(t)}, nodes[7].id, nodes, NODES,
                                              &pin, &out));
        assert_string_equal(nodes[index_of(out)].region, "eu");
        out = (ort_node_id){7};
    }
    assert_true(out.v == 7);
}

static void
a_home_is_kept_through_pauses(void **state)
{
    (void)state;
    ort_node_id out;
    nodes[2].usable = false;
    for (uint64_t t = 0; t < 100; t++) {
        assert_true(cp_placement_keep_or_pick((ort_tenant_id){id_of(t)}, nodes[2].id, nodes, NODES,
                                              &anywhere, &out));
        assert_true(out.v == nodes[2].id.v);
    }
}

static void
replicas_stand_in_different_zones_while_there_are_some(void **state)
{
    (void)state;
    ort_node_id out[NODES];
    for (uint64_t t = 0; t < 200; t++) {
        const char *const eu[] = {"eu"};
        const cp_region_set pin = {.names = eu, .count = 1};
        assert_int_equal(
            cp_placement_rank((ort_tenant_id){id_of(t)}, nodes, NODES, &pin, out, NODES), 5);
        const char *z0 = nodes[index_of(out[0])].zone, *z1 = nodes[index_of(out[1])].zone,
                   *z2 = nodes[index_of(out[2])].zone;
        assert_true(z0 != z1 && z1 != z2 && z0 != z2);
        for (size_t i = 0; i < 5; i++) {
            for (size_t j = i + 1; j < 5; j++) {
                assert_true(out[i].v != out[j].v);
            }
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(shares_follow_weights, setup),
        cmocka_unit_test_setup(a_joining_node_only_takes_and_a_leaving_one_only_gives, setup),
        cmocka_unit_test_setup(order_of_candidates_does_not_matter, setup),
        cmocka_unit_test_setup(a_pin_is_never_left, setup),
        cmocka_unit_test_setup(a_home_is_kept_through_pauses, setup),
        cmocka_unit_test_setup(replicas_stand_in_different_zones_while_there_are_some, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
