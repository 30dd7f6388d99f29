/* kill -9 in the middle of transactions: rows and op log stay in step, and what was acknowledged is
 * there. (A killed process loses no page cache; what power loss adds is SQLite's own business, with
 * synchronous=FULL, and is tested in test_store_faults.c as failing fsyncs.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "store/hub.h"
#include "store/keys.h"
#include "store/oplog.h"
#include "store/store.h"
#include "store/tenants.h"
#include "support/scratch.h"

enum { ROUNDS = 40, EARLY = 15 };

static ort_diag diag;

/* One change of several rows: a tenant, its quota, two keys; or all of that again. */
static ort_err
change(cp_store *store, uint64_t i, uint64_t *version_out)
{
    static const cp_author author = {.actor = "system"};
    cp_tx *tx;
    cp_tenant tenant = {.id = {1 + i % 50}, .plan = "default", .created_at_ms = 1};
    snprintf(tenant.name, sizeof tenant.name, "t%u", (unsigned)(i % 50));
    ort_err err = cp_store_begin(store, &author, &tx, &diag);
    if (err != ORT_OK) {
        return err;
    }
    tenant.updated_at_ms = (int64_t)i;
    err = cp_tenant_put(tx, &tenant, &diag);
    for (unsigned k = 0; k < 2 && err == ORT_OK; k++) {
        cp_key key = {.tenant = tenant.id, .scopes = CP_SCOPES_ALL, .created_at_ms = (int64_t)i};
        snprintf(key.id, sizeof key.id, "%020u%04u", (unsigned)(i % 50), k);
        err = cp_key_put(tx, &key, &diag);
    }
    if (err != ORT_OK) {
        cp_tx_end(tx);
        return err;
    }
    return cp_tx_commit(tx, &(cp_change){.op = "test.change", .tenant = tenant.id}, version_out,
                        &diag);
}

/* The victim: changes for ever, and says each version it was given. */
static void
run_victim(const char *path, int acks, uint64_t from)
{
    cp_store *store;
    if (cp_store_open(&store, &(cp_store_options){.path = path, .readers = 1}, &diag) != ORT_OK) {
        _exit(2);
    }
    for (uint64_t i = from;; i++) {
        uint64_t version;
        if (change(store, i, &version) != ORT_OK ||
            write(acks, &version, sizeof version) != (ssize_t)sizeof version) {
            _exit(3);
        }
    }
}

static void
kill_9_leaves_rows_and_log_in_step(void **state)
{
    (void)state;
    char dir[64], path[96];
    uint64_t acked = 0;
    unsigned seed = 20261121; /* of the delays; scheduling does the rest */
    scratch_dir(dir, sizeof dir, "orthant-kill");
    snprintf(path, sizeof path, "%s/hub.db", dir);
    ort_log_set_level(ORT_LOG_WARN_);
    for (int round = 0; round < ROUNDS; round++) {
        int acks[2];
        assert_int_equal(pipe2(acks, O_CLOEXEC), 0);
        const pid_t victim = fork();
        assert_true(victim >= 0);
        if (victim == 0) {
            close(acks[0]);
            run_victim(path, acks[1], (uint64_t)round * 100000);
        }
        close(acks[1]);
        /* The first rounds may be killed in migrations and first rows; later ones have begun to
         * change things, however busy the machine is. */
        uint64_t version;
        if (round >= EARLY) {
            assert_int_equal(read(acks[0], &version, sizeof version), sizeof version);
            assert_true(version > acked);
            acked = version;
        }
        usleep((useconds_t)(rand_r(&seed) % 50000));
        kill(victim, SIGKILL);
        while (read(acks[0], &version, sizeof version) == (ssize_t)sizeof version) {
            assert_true(version > acked);
            acked = version;
        }
        close(acks[0]);
        int status;
        assert_int_equal(waitpid(victim, &status, 0), victim);
        assert_true(WIFSIGNALED(status)); /* not an exit: it never failed by itself */

        cp_store *store;
        cp_tx *tx;
        cp_hub hub;
        cp_oplog_verdict verdict;
        char differ[256];
        const ort_err err =
            cp_store_open(&store, &(cp_store_options){.path = path, .full_check = true}, &diag);
        if (err != ORT_OK) {
            fail_msg("round %d: %s", round, diag.text);
        }
        assert_int_equal(cp_store_begin_read(store, &tx, &diag), ORT_OK);
        assert_int_equal(cp_hub_get(tx, &hub, &diag), ORT_OK);
        /* One more than acknowledged at most: committed, and killed before it could say so. */
        assert_in_range(hub.version, acked, acked > 0 ? acked + 1 : 2);
        assert_int_equal(cp_oplog_verify(tx, 0, NULL, &verdict, &diag), ORT_OK);
        assert_true(verdict.intact);
        assert_int_equal(verdict.records, hub.version);
        assert_int_equal(cp_oplog_compare_state(tx, differ, &diag), ORT_OK);
        assert_string_equal(differ, "");
        acked = hub.version;
        cp_tx_end(tx);
        cp_store_close(store);
    }
    assert_true(acked > ROUNDS - EARLY);
    print_message("%d kills, %llu versions\n", ROUNDS, (unsigned long long)acked);
    scratch_remove(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill_9_leaves_rows_and_log_in_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
