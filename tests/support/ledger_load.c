/* Mixed load. */
#include "support/ledger_load.h"

#include <pthread.h>
#include <stdlib.h>

static uint32_t
mix(uint64_t x)
{
    x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)((x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9) >> 33);
}

typedef struct {
    ledger_client client;
    uint64_t random;
} actor;

static actor actors[LEDGER_TENANTS][2];

static uint32_t
dice(actor *a, uint32_t of)
{
    return mix(++a->random) % of;
}

/* Points, by every kind of request. */
static void *
writer(void *arg)
{
    actor *a = arg;
    for (;;) {
        ledger_write(&a->client, dice(a, LEDGER_GROUPS), (ledger_kind)dice(a, LEDGER_KINDS));
    }
    return NULL;
}

/* Everything else. A backup and its restore undo what is written in between: the last tenant has no
 * writer, and is written to here. */
static void *
keeper(void *arg)
{
    actor *a = arg;
    const bool alone = a->client.tenant == LEDGER_TENANTS - 1;
    for (;;) {
        switch (dice(a, 9)) {
        case 0:
            ledger_snapshot(&a->client, dice(a, LEDGER_SNAPSHOTS));
            break;
        case 1:
            ledger_restore(&a->client);
            break;
        case 2:
            ledger_index(&a->client);
            break;
        case 3:
            ledger_checkpoint(&a->client, "main");
            break;
        case 4:
            if (dice(a, 8) == 0) {
                ledger_wide(&a->client);
            }
            break;
        case 5:
            if (alone && dice(a, 4) == 0) {
                ledger_backup(&a->client);
            } else if (alone) {
                ledger_write(&a->client, dice(a, LEDGER_GROUPS),
                             (ledger_kind)dice(a, LEDGER_KINDS));
            }
            break;
        case 6:
            ledger_search(&a->client);
            break;
        default:
            ledger_side(&a->client, dice(a, LEDGER_SIDES));
        }
    }
    return NULL;
}

void
ledger_load_start(ledger *book, const test_node *node, uint64_t seed)
{
    for (unsigned t = 0; t < LEDGER_TENANTS; t++) {
        for (unsigned i = t == LEDGER_TENANTS - 1; i < 2; i++) {
            pthread_t thread;
            actors[t][i] = (actor){.client = {.l = book, .node = node, .tenant = t},
                                   .random = seed + t * 100 + i * 50};
            if (pthread_create(&thread, NULL, i == 0 ? writer : keeper, &actors[t][i]) != 0) {
                abort();
            }
        }
    }
}
