/* The hub's own row. Its version and head are written by commit (tx.c). */
#include "store/hub.h"

#include <string.h>

#include "store/store_internal.h"

ort_err
cp_hub_get(cp_tx *tx, cp_hub *out, ort_diag *diag)
{
    cp_hub hub = {0};
    bool found = false;
    cp__query q = cp__q(tx, "SELECT hub_id, generation, version, head, created_at_ms, bootstrapped,"
                            " secrets_print FROM hub WHERE one = 1");
    if (cp__step(&q)) {
        hub.hub_id = cp__col_id(&q, 0);
        hub.generation = cp__col_u64(&q, 1);
        hub.version = cp__col_u64(&q, 2);
        cp__col_blob(&q, 3, hub.head.b, sizeof hub.head.b);
        hub.created_at_ms = cp__col_i64(&q, 4);
        hub.bootstrapped = cp__col_i64(&q, 5) != 0;
        cp__col_copy(&q, 6, hub.secrets_print, sizeof hub.secrets_print);
        found = true;
    }
    const ort_err err = cp__get_end(&q, found, "hub", "row", diag);
    if (err == ORT_OK) {
        *out = hub;
    }
    return err;
}

ort_err
cp_hub_bump_generation(cp_tx *tx, uint64_t at_least, uint64_t *out, ort_diag *diag)
{
    cp_hub hub;
    ort_err err = cp_hub_get(tx, &hub, diag);
    if (err == ORT_OK) {
        err = cp__touch(tx, CP__HUB, "1", diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    const uint64_t next = hub.generation + 1 > at_least ? hub.generation + 1 : at_least;
    cp__query q = cp__q(tx, "UPDATE hub SET generation = ? WHERE one = 1");
    cp__bind_u64(&q, next);
    err = cp__q_run(&q, diag);
    if (err == ORT_OK) {
        *out = next;
    }
    return err;
}

ort_err
cp_hub_set_bootstrapped(cp_tx *tx, ort_diag *diag)
{
    ort_err err = cp__touch(tx, CP__HUB, "1", diag);
    if (err == ORT_OK) {
        cp__query q = cp__q(tx, "UPDATE hub SET bootstrapped = 1 WHERE one = 1");
        err = cp__q_run(&q, diag);
    }
    return err;
}

ort_err
cp_hub_set_secrets_print(cp_tx *tx, const char *print, ort_diag *diag)
{
    ort_err err = cp__touch(tx, CP__HUB, "1", diag);
    if (err == ORT_OK) {
        cp__query q = cp__q(tx, "UPDATE hub SET secrets_print = ? WHERE one = 1");
        cp__bind_text(&q, print);
        err = cp__q_run(&q, diag);
    }
    return err;
}
