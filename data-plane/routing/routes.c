/* The current table: one pointer that readers follow while the agent swaps it.
 *
 * A reader has to get from "the pointer says T" to "I hold T" without T going away in between. It
 * announces itself in a counter, takes its reference, and leaves the counter again: a few
 * instructions. Who swaps waits, after the swap, until each counter has once been seen at zero:
 * from then on nobody can be between the two steps with the old pointer, and the old table's own
 * reference can be dropped. Counters are many, each on its own cache line, so that readers on
 * different cores do not fight over one.
 *
 * Not a lock: a read-write lock took 140 ns with two readers contending (components.md), and a
 * writer would wait for every long search. Not liburcu: this is all we need of it. */
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "routing/table_internal.h"

#define STRIPES 32u

typedef struct {
    _Alignas(64) atomic_uint readers;
} stripe;

/* Peppers are few (one, unless a hub was made anew under a running node) and kept until the end, so
 * that a reader needs no count. */
typedef struct pepper pepper;
struct pepper {
    unsigned char bytes[ORT_PEPPER_BYTES];
    pepper *older;
};

struct dp_routes {
    stripe stripes[STRIPES];
    _Atomic(dp_table *) current;
    _Atomic(pepper *) pepper;
};

static atomic_uint threads_seen;
static _Thread_local unsigned my_stripe; /* 1 + index; 0 = not chosen */

static stripe *
stripe_of_thread(dp_routes *routes)
{
    if (my_stripe == 0) {
        my_stripe = 1 + atomic_fetch_add_explicit(&threads_seen, 1, memory_order_relaxed) % STRIPES;
    }
    return &routes->stripes[my_stripe - 1];
}

ort_err
dp_routes_new(dp_routes **out)
{
    const dp_table *empty = NULL;
    *out = NULL;
    dp_routes *routes = aligned_alloc(64, sizeof *routes);
    if (routes == NULL) {
        return ORT_ENOMEM;
    }
    memset(routes, 0, sizeof *routes);
    const ort_err err =
        dp_table_from_body(&empty, (ort_node_id){0}, (ort_table_at){0}, 0, "{}", 2, NULL);
    if (err != ORT_OK) {
        free(routes);
        return err;
    }
    atomic_init(&routes->current, (dp_table *)(uintptr_t)empty);
    *out = routes;
    return ORT_OK;
}

void
dp_routes_free(dp_routes *routes)
{
    if (routes == NULL) {
        return;
    }
    dp_table_release(atomic_load(&routes->current));
    for (pepper *p = atomic_load(&routes->pepper), *older; p != NULL; p = older) {
        older = p->older;
        ort_secret_wipe(p, sizeof *p);
        free(p);
    }
    free(routes);
}

const dp_table *
dp_routes_acquire(dp_routes *routes)
{
    stripe *s = stripe_of_thread(routes);
    /* Sequentially consistent: the announcement must be seen before the pointer is read, against
     * the writer's swap before its look at the counters. */
    atomic_fetch_add(&s->readers, 1);
    const dp_table *table = dp_table_ref(atomic_load(&routes->current));
    atomic_fetch_sub_explicit(&s->readers, 1, memory_order_release);
    return table;
}

void
dp_routes_set(dp_routes *routes, const dp_table *table)
{
    const dp_table *old = atomic_exchange(&routes->current, (dp_table *)(uintptr_t)table);
    for (unsigned i = 0; i < STRIPES; i++) {
        while (atomic_load(&routes->stripes[i].readers) != 0) {
            sched_yield();
        }
    }
    dp_table_release(old);
}

void
dp_routes_set_pepper(dp_routes *routes, const unsigned char bytes[ORT_PEPPER_BYTES])
{
    pepper *now = atomic_load(&routes->pepper);
    if (now != NULL && ort_secret_equal(now->bytes, bytes, sizeof now->bytes)) {
        return;
    }
    pepper *p = malloc(sizeof *p);
    if (p == NULL) {
        abort(); /* 40 bytes at the start of a node: nothing would work from here on */
    }
    memcpy(p->bytes, bytes, sizeof p->bytes);
    p->older = now;
    atomic_store(&routes->pepper, p);
}

bool
dp_routes_key_matches(const dp_routes *routes, const dp_key *key, const ort_token *token)
{
    static const ort_hash none = {{0}};
    static const unsigned char no_pepper[ORT_PEPPER_BYTES] = {0};
    const pepper *p = atomic_load(&((dp_routes *)(uintptr_t)routes)->pepper);
    const bool same = ort_token_matches(token, p != NULL ? p->bytes : no_pepper,
                                        key != NULL ? &key->hash : &none);
    return same && key != NULL && p != NULL;
}
