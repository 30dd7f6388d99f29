/* A writer process is killed, at random and at every kind of named point; what it had acknowledged
 * is there, what it had not is there whole or not at all. ORT_FAULT_ROUNDS says how often (40). */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "base/point.h"
#include "support/scratch.h"
#include "support/shard_model.h"

/* Seen by both processes. */
typedef struct {
    _Atomic(uint64_t) acked, tried, checkpoints;
    char point[64]; /* where it stopped itself */
} shared;

static shared *both;
static int points_left;

#define MUST(cond)                                                     \
    do {                                                               \
        if (!(cond)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #cond); \
            abort();                                                   \
        }                                                              \
    } while (0)

static uint32_t
mix(uint64_t x)
{
    x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)((x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9) >> 33);
}

/* The operation of an LSN: both processes know it. */
static void
op_of(uint64_t lsn, uint16_t *op, uint32_t *first, uint32_t *count, uint32_t *seed)
{
    *op = mix(lsn * 4) % 5 == 0 ? MODEL_OP_KILL : MODEL_OP_PUT;
    *first = mix(lsn * 4 + 1) % MODEL_IDS;
    *count = 1 + mix(lsn * 4 + 2) % 80;
    *seed = mix(lsn * 4 + 3) % 1000000 | 1;
}

static void
stop_at_point(const char *point)
{
    if (--points_left == 0) {
        strncpy(both->point, point, sizeof both->point - 1);
        _exit(9);
    }
}

static void
write_until_killed(int dir)
{
    shard_model *m = calloc(1, sizeof *m);
    ort_diag diag = {{0}};
    if (shard_model_open(m, dir, &diag) != ORT_OK) {
        fprintf(stderr, "open: %s\n", diag.text);
        abort();
    }
    for (;;) {
        uint16_t op;
        uint32_t first, count, seed;
        const uint64_t lsn = m->applied + 1;
        op_of(lsn, &op, &first, &count, &seed);
        both->tried = lsn;
        MUST(shard_model_op(m, op, first, count, seed, &diag) == ORT_OK);
        both->acked = lsn;
        if (lsn % 13 == 0) {
            MUST(shard_model_checkpoint(m, lsn % 5 == 0, &diag) == ORT_OK);
            both->checkpoints++;
        }
    }
}

static void
check(int dir, shard_model *m)
{
    ort_diag diag = {{0}};
    memset(m, 0, sizeof *m);
    if (shard_model_open(m, dir, &diag) != ORT_OK) {
        fprintf(stderr, "after '%s': %s\n", both->point, diag.text);
        abort();
    }
    MUST(m->applied >= both->acked && m->applied <= both->tried);
    for (uint64_t lsn = 1; lsn <= m->applied; lsn++) {
        uint16_t op;
        uint32_t first, count, seed;
        op_of(lsn, &op, &first, &count, &seed);
        model_apply(m->points_want, lsn, op, first, count, seed);
    }
    shard_model_check(m);
    shard_model_close(m);
    dp_verify_report report;
    MUST(dp_storage_verify(dir, (ort_tenant_id){1}, (ort_collection_id){2}, &report, &diag) ==
         ORT_OK);
}

int
main(void)
{
    const char *env = getenv("ORT_FAULT_ROUNDS");
    const int rounds = env != NULL ? atoi(env) : 40;
    scratch place = scratch_make();
    shard_model *m = calloc(1, sizeof *m);
    both = mmap(NULL, sizeof *both, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(both != MAP_FAILED && m != NULL);
    int at_points = 0;
    for (int round = 0; round < rounds; round++) {
        both->point[0] = '\0';
        const pid_t child = fork();
        MUST(child >= 0);
        if (child == 0) {
            if (round % 2 == 0) {
                points_left = 1 + (int)(mix((uint64_t)round) % 150);
                ort_point_set(stop_at_point);
            }
            write_until_killed(place.fd);
        }
        if (round % 2 == 1) {
            const struct timespec nap = {.tv_nsec = (long)(mix((uint64_t)round) % 120) * 1000000};
            nanosleep(&nap, NULL);
            kill(child, SIGKILL);
        }
        int status;
        MUST(waitpid(child, &status, 0) == child);
        MUST(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 9);
        at_points += both->point[0] != '\0';
        check(place.fd, m);
    }
    printf("%d rounds, %d at named points: %llu operations acknowledged, %llu checkpoints\n",
           rounds, at_points, (unsigned long long)both->acked,
           (unsigned long long)both->checkpoints);
    scratch_drop(&place);
    free(m);
    return 0;
}
