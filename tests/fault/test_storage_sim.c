/* A shard over a disk that forgets, one seed after the other: no threads, no clock, no real disk.
 * What happens follows from the seed alone. A failure prints it; ORT_SIM_SEED repeats it. Every run
 * has the same seeds, from 1 on: whoever wants others says so.
 *
 *   ORT_SIM_SECONDS  for so long (60)
 *   ORT_SIM_SEEDS    so many instead
 *   ORT_SIM_FIRST    from that one on; `new`: from one that no run had before
 *   ORT_SIM_SEED     that one alone
 *
 * Built without sanitizers and with chunks of 64 slots, so that thousands of seeds a minute see
 * merges, dropped chunks and renumbering. What the sanitizers would find, the same model finds
 * under them in test_storage_points and test_storage_kill. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/point.h"
#include "support/shard_model.h"
#include "support/sim_disk.h"

static uint64_t seed_now;
static uint64_t random_state;
static char last_words[512];

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "seed %llu: %s:%d: %s (%s)\n", (unsigned long long)seed_now, __func__, \
                    __LINE__, #cond, last_words);                                                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static uint32_t
dice(uint32_t of)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % of;
}

/* Every operation that was tried, by LSN: what is acknowledged is final, what is behind may be
 * there or not. */
typedef struct {
    uint16_t op;
    uint32_t first, count, seed;
} tried;

enum { OPS_MAX = 4000, GROUP_MAX = 4, STEPS = 40 };
static tried ops[OPS_MAX];
static uint64_t acked, tried_to;

/* An acknowledged operation could not be applied: as a shard does then, no writes and no
 * checkpoints until it is opened again. */
static bool broken;

static tried
make_op(void)
{
    return (tried){.op = dice(4) == 0 ? MODEL_OP_KILL : MODEL_OP_PUT,
                   .first = dice(MODEL_IDS),
                   .count = 1 + dice(dice(20) == 0 ? 200 : 12),
                   .seed = dice(1u << 20) | 1};
}

/* What the shard holds after records 1..lsn. */
static void
want_up_to(shard_model *m, uint64_t lsn)
{
    memset(m->points_want, 0, sizeof m->points_want);
    for (uint64_t i = 1; i <= lsn; i++) {
        model_apply(m->points_want, i, ops[i].op, ops[i].first, ops[i].count, ops[i].seed);
    }
}

/* Several records handed in, then one wait: a group commit. */
static void
do_group(shard_model *m)
{
    dp_log_ticket tickets[GROUP_MAX];
    const uint32_t n = 1 + dice(GROUP_MAX);
    uint32_t handed_in = 0;
    ort_diag diag;
    for (; handed_in < n; handed_in++) {
        const tried op = make_op();
        unsigned char body[12];
        ort_put_u32(body, op.first);
        ort_put_u32(body + 4, op.count);
        ort_put_u32(body + 8, op.seed);
        if (dp_log_append(m->log, op.op, body, sizeof body, &tickets[handed_in], &diag) != ORT_OK) {
            break;
        }
        MUST(tickets[handed_in].lsn == acked + handed_in + 1);
        MUST(tickets[handed_in].lsn < OPS_MAX);
        ops[tickets[handed_in].lsn] = op;
        tried_to = tickets[handed_in].lsn;
    }
    if (handed_in == 0) {
        return;
    }
    /* One wait for the last writes all of them; whoever waits later is told the same. */
    const ort_err err = dp_log_wait(m->log, tickets[handed_in - 1], &diag);
    for (uint32_t i = 0; i < handed_in; i++) {
        MUST((dp_log_wait(m->log, tickets[i], &diag) == ORT_OK) == (err == ORT_OK));
    }
    if (err != ORT_OK) {
        strcpy(last_words, diag.text);
        if (dp_log_check(m->log, NULL) == ORT_OK) {
            tried_to = acked; /* the disk was full: they are not in the log and will not be */
        }
        return;
    }
    for (uint32_t i = 0; i < handed_in; i++) {
        const tried *op = &ops[++acked];
        if (broken) {
            continue;
        }
        const ort_err applied =
            shard_model_apply(m, acked, op->op, op->first, op->count, op->seed, &diag);
        if (applied != ORT_OK) { /* what a point that dies takes away was to be read */
            strcpy(last_words, diag.text);
            MUST(sim_disk_failed() && (applied == ORT_EIO || applied == ORT_ENOSPC));
            broken = true;
        }
    }
}

/* Writers go on beside a checkpoint: between any two of its steps, a group may come in. */
static shard_model *beside;
static uint64_t renumbered, logs_packed, reopened;

static void
write_beside(const char *point)
{
    shard_model *m = beside;
    renumbered += strcmp(point, "points.renumbered") == 0;
    if (m == NULL || strncmp(point, "log.", 4) == 0 || dice(4) != 0 || acked > OPS_MAX - 100) {
        return;
    }
    beside = NULL;
    if (!sim_disk_stopped() && !broken && dp_log_check(m->log, NULL) == ORT_OK) {
        do_group(m);
    }
    beside = m;
}

static void
do_checkpoint(shard_model *m, bool merge_all)
{
    ort_diag diag = {{0}};
    beside = dice(2) == 0 ? m : NULL;
    const ort_err err = shard_model_checkpoint(m, merge_all, &diag);
    beside = NULL;
    strcpy(last_words, diag.text);
    MUST(err == ORT_OK || err == ORT_EIO || err == ORT_ENOSPC);
}

static void
run_seed(uint64_t seed)
{
    static shard_model model;
    shard_model *m = &model;
    ort_diag diag = {{0}};

    seed_now = seed;
    random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    acked = tried_to = 0;
    broken = false;
    last_words[0] = '\0';
    memset(m, 0, sizeof *m);
    sim_disk_start(seed);
    const uint32_t rounds = 3 + dice(6);
    for (uint32_t round = 0; round < rounds; round++) {
        sim_disk_crash_in(dice(3) == 0 ? 1 + dice(12) : 1 + dice(400));
        if (dice(3) == 0) {
            sim_disk_fail_in(1 + dice(200), dice(2) == 0 ? EIO : ENOSPC);
        }
        ort_err err = shard_model_open(m, sim_disk_dir(), &diag);
        if (err != ORT_OK) {
            strcpy(last_words, diag.text);
            MUST(err == ORT_EIO || err == ORT_ENOSPC); /* never damage */
            MUST(sim_disk_stopped() || sim_disk_failed());
        } else {
            const uint64_t there = m->applied;
            broken = false;
            MUST(there >= acked && there <= tried_to);
            acked = tried_to = there; /* found, so it is for good */
            want_up_to(m, there);
            shard_model_check(m);
            for (uint32_t step = 0; step < STEPS && !sim_disk_stopped() && !broken; step++) {
                const uint32_t what = dice(22);
                if (what < 14) {
                    do_group(m);
                } else if (what < 18 && dp_log_check(m->log, NULL) == ORT_OK) {
                    do_checkpoint(m, what == 17);
                    if (!broken && (dp_points_is_short_of_slots(m->points) ||
                                    (dice(20) == 0 && dp_points_slot_end(m->points) > 2000))) {
                        MUST(dp_points_renumber(m->points, &diag) == ORT_OK);
                        shard_model_check(m);
                    }
                } else if (what == 18) {
                    uint32_t moved;
                    err = dp_points_relocate(m->points, 300, NULL, NULL, &moved, &diag);
                    MUST(err == ORT_OK || sim_disk_failed());
                } else if (what >= 20) {
                    bool packed;
                    err = dp_log_pack(m->log, dice(3), 1, &packed, &diag);
                    logs_packed += packed;
                    MUST(err == ORT_OK || err == ORT_EIO || err == ORT_ENOSPC);
                } else if (what == 19 && dice(3) == 0) {
                    shard_model_check(m);
                }
                if (acked > OPS_MAX - 2 * GROUP_MAX) {
                    break;
                }
            }
            if (!sim_disk_stopped() && sim_disk_failed() && round + 1 < rounds && dice(2) == 0) {
                /* Opened again by a system that still has in memory what it could not write. */
                reopened++;
                shard_model_close(m);
                continue;
            }
            if (!sim_disk_stopped() && dice(2) == 0) {
                shard_model_close(m); /* in good order */
            } else {
                sim_disk_stop();
                shard_model_close(m);
            }
        }
        sim_disk_stop();
        sim_disk_restart();
    }

    /* In the end, on a disk that works: all there, and every checksum right. */
    const ort_err err = shard_model_open(m, sim_disk_dir(), &diag);
    strcpy(last_words, diag.text);
    MUST(err == ORT_OK);
    MUST(m->applied >= acked && m->applied <= tried_to);
    want_up_to(m, m->applied);
    shard_model_check(m);
    MUST(shard_model_checkpoint(m, true, &diag) == ORT_OK);
    const uint64_t live = dp_points_live_count(m->points);
    shard_model_close(m);
    dp_verify_report report;
    const ort_err verified = dp_storage_verify(sim_disk_dir(), (ort_tenant_id){1},
                                               (ort_collection_id){2}, &report, &diag);
    strcpy(last_words, diag.text);
    MUST(verified == ORT_OK && report.points == live);
    sim_disk_end();
}

/* Whatever aborts, here or in the model, says at which seed. */
static void
name_the_seed(int sig)
{
    char text[80];
    /* The process is lost anyway, and text is all it leaves.
     * NOLINTNEXTLINE(bugprone-signal-handler) */
    const int n = snprintf(text, sizeof text, "storage simulation: failed with ORT_SIM_SEED=%llu\n",
                           (unsigned long long)seed_now);
    const ssize_t ignored = write(STDERR_FILENO, text, (size_t)n);
    (void)ignored;
    signal(sig, SIG_DFL);
    raise(sig);
}

int
main(void)
{
    const char *one = getenv("ORT_SIM_SEED"), *many = getenv("ORT_SIM_SEEDS");
    const char *first = getenv("ORT_SIM_FIRST"), *budget = getenv("ORT_SIM_SECONDS");
    signal(SIGABRT, name_the_seed);
    signal(SIGSEGV, name_the_seed);
    signal(SIGBUS, name_the_seed);
    ort_point_set(write_beside);
    if (one != NULL) {
        run_seed(strtoull(one, NULL, 10));
        return 0;
    }
    const uint64_t began = ort_mono_ns();
    const uint64_t seconds = budget != NULL ? strtoull(budget, NULL, 10) : 60;
    /* 100 seeds a millisecond: never the same again. */
    const uint64_t from = first == NULL               ? 1
                          : strcmp(first, "new") == 0 ? (uint64_t)ort_wall_ms() * 100
                                                      : strtoull(first, NULL, 10);
    uint64_t count = 0;
    while (many != NULL ? count < strtoull(many, NULL, 10)
                        : ort_mono_ns() - began < seconds * UINT64_C(1000000000)) {
        run_seed(from + count++);
    }
    printf("%llu seeds in %.1f s, %llu times renumbered, %llu log files packed, %llu times opened "
           "again without a restart\n",
           (unsigned long long)count, (double)(ort_mono_ns() - began) / 1e9,
           (unsigned long long)renumbered, (unsigned long long)logs_packed,
           (unsigned long long)reopened);
    return 0;
}
