/* The first rows of a hub, as its first change: so the op log tells everything from the start. */
#include <string.h>

#include "base/log.h"
#include "store/plans.h"
#include "store/store_internal.h"

static const ort_log logger = {.module = "store"};

/* GB and TB are decimal. max_vectors of `default` is what 100 GB hold at about 1 KB a point (256
 * floats); where vectors are longer, the bytes are the bound that is met first. */
static const cp_plan plans[] = {
    {.name = "default",
     .display = "Default",
     .limits = {{[CP_LIMIT_COLLECTIONS] = 100,
                 [CP_LIMIT_VECTORS_PER_COLLECTION] = 10000000,
                 [CP_LIMIT_VECTORS] = 100000000,
                 [CP_LIMIT_STORAGE_BYTES] = 100000000000,
                 [CP_LIMIT_REQUESTS_PER_MINUTE] = 1000,
                 [CP_LIMIT_REQUESTS_PER_MINUTE_PER_KEY] = CP_UNLIMITED}}},
    {.name = "enterprise",
     .display = "Enterprise",
     .limits = {{[CP_LIMIT_COLLECTIONS] = 1000,
                 [CP_LIMIT_VECTORS_PER_COLLECTION] = 100000000,
                 [CP_LIMIT_VECTORS] = 1000000000,
                 [CP_LIMIT_STORAGE_BYTES] = 1000000000000,
                 [CP_LIMIT_REQUESTS_PER_MINUTE] = 10000,
                 [CP_LIMIT_REQUESTS_PER_MINUTE_PER_KEY] = CP_UNLIMITED}}},
};

static ort_err
make_hub(cp_tx *tx, ort_diag *diag)
{
    static const unsigned char zero[ORT_HASH_BYTES];
    ort_err err = cp__touch(tx, CP__HUB, "1", diag);
    if (err != ORT_OK) {
        return err;
    }
    cp__query q = cp__q(tx, "INSERT INTO hub (one, hub_id, generation, version, head,"
                            " created_at_ms, bootstrapped, secrets_print)"
                            " VALUES (1, ?, 1, 0, ?, ?, 0, '')");
    cp__bind_id(&q, ort_id_random());
    cp__bind_blob(&q, zero, sizeof zero);
    cp__bind_i64(&q, tx->now_ms);
    return cp__q_run(&q, diag);
}

ort_err
cp__seed(cp_store *store, ort_diag *diag)
{
    static const cp_author author = {.actor = "system"};
    bool made = false;
    cp_tx *tx;
    uint64_t version = 0;
    ort_err err = cp_store_begin(store, &author, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    cp__query q = cp__q(tx, "SELECT version FROM hub WHERE one = 1");
    if (cp__step(&q)) {
        version = cp__col_u64(&q, 0);
        made = true;
    }
    err = cp__q_end(&q, diag);
    if (err != ORT_OK || made) {
        atomic_store(&store->version, version);
        cp_tx_end(tx);
        return err;
    }
    err = make_hub(tx, diag);
    for (size_t i = 0; i < sizeof plans / sizeof plans[0] && err == ORT_OK; i++) {
        cp_plan plan = plans[i];
        plan.created_at_ms = plan.updated_at_ms = tx->now_ms;
        err = cp_plan_put(tx, &plan, diag);
    }
    if (err != ORT_OK) {
        cp_tx_end(tx);
        return err;
    }
    err = cp_tx_commit(tx, &(cp_change){.op = "hub.create"}, &version, diag);
    if (err == ORT_OK) {
        ORT_LOG_INFO(&logger, "store.hub-made", "version=%llu", (unsigned long long)version);
    }
    return err;
}
