/* A file system of 64 MiB that fills up under a shard, at any moment of writes, checkpoints and
 * packing, and is freed again: what does not fit is refused and is not there, reads go on, and once
 * there is room the same open shard takes writes again. Needs the right to mount; says so and is
 * skipped without. ORT_FAULT_ROUNDS says how often (50). */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "support/scratch.h"
#include "support/shard_model.h"

#define MUST(cond)                                                                     \
    do {                                                                               \
        if (!(cond)) {                                                                 \
            fprintf(stderr, "%s:%d: %s (%s)\n", __func__, __LINE__, #cond, diag.text); \
            abort();                                                                   \
        }                                                                              \
    } while (0)

static ort_diag diag;
static uint64_t random_state = 7;

static uint32_t
dice(uint32_t of)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % of;
}

/* Leaves so many bytes free; UINT64_MAX: all of them. */
static void
leave_free(int dir, uint64_t bytes)
{
    struct statvfs st;
    unlinkat(dir, "filler", 0);
    MUST(fstatvfs(dir, &st) == 0);
    const uint64_t has = (uint64_t)st.f_bavail * st.f_bsize;
    if (bytes >= has) {
        return;
    }
    const int fd = openat(dir, "filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    MUST(fd >= 0 && posix_fallocate(fd, 0, (off_t)(has - bytes)) == 0);
    close(fd);
}

/* A log alone, whose records are large (the model's are so small that the zeros written ahead of
 * them always have room): what is refused leaves no gap, and what comes later is taken. */
static void
fill_a_log(int parent)
{
    const dp_log_config config = {.tenant = {1}, .shard = {3}, .epoch = 1};
    static char body[300 << 10];
    uint64_t last = 0;
    unsigned refused = 0;
    dp_log *log;
    MUST(mkdirat(parent, "log", 0700) == 0);
    const int dir = openat(parent, "log", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(dir >= 0 && dp_log_open(&log, dir, &config, NULL, &diag) == ORT_OK);
    for (int i = 0; i < 60; i++) {
        dp_log_ticket ticket;
        leave_free(parent, dice(3) == 0 ? (uint64_t)dice(400u << 10) : UINT64_MAX);
        memset(body, i, sizeof body);
        MUST(dp_log_append(log, 1, body, 1 + dice(sizeof body), &ticket, &diag) == ORT_OK);
        const ort_err err = dp_log_wait(log, ticket, &diag);
        MUST(err == ORT_OK || err == ORT_ENOSPC);
        if (err == ORT_OK) {
            MUST(ticket.lsn == last + 1);
            last = ticket.lsn;
        } else {
            refused++;
        }
    }
    leave_free(parent, UINT64_MAX);
    dp_log_close(log);
    dp_log_found found;
    MUST(dp_log_verify(dir, &config, NULL, NULL, &found, &diag) == ORT_OK);
    MUST(found.last_lsn == last && refused > 0);
    printf("a log: %llu records taken, %u refused\n", (unsigned long long)last, refused);
    close(dir);
}

int
main(void)
{
    const char *env = getenv("ORT_FAULT_ROUNDS");
    const int rounds = env != NULL ? atoi(env) : 50;
    scratch place = scratch_make();
    shard_model *m = calloc(1, sizeof *m);
    unsigned refused = 0, checkpoints_refused = 0, packs_refused = 0, taken = 0;
    MUST(m != NULL);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("orthant", place.path, "tmpfs", 0, "size=64m,nr_inodes=1k") != 0) {
        printf("skipped: no right to mount a file system (%s)\n", strerror(errno));
        scratch_drop(&place);
        free(m);
        return 0;
    }
    const int dir = open(place.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(dir >= 0 && shard_model_open(m, dir, &diag) == ORT_OK);
    for (int round = 0; round < rounds; round++) {
        /* A record takes little: often there is no room at all. */
        const uint32_t room = dice(4);
        leave_free(dir, room == 0   ? UINT64_MAX
                        : room == 1 ? (uint64_t)dice(1u << (12 + dice(9)))
                                    : 0);
        for (int step = 0; step < 16; step++) {
            const uint32_t what = dice(10);
            ort_err err;
            if (what < 7) {
                err = shard_model_op(m, what == 0 ? MODEL_OP_KILL : MODEL_OP_PUT, dice(MODEL_IDS),
                                     1 + dice(300), dice(1u << 20) | 1, &diag);
                MUST(err == ORT_OK || err == ORT_ENOSPC);
                refused += err != ORT_OK;
                taken += err == ORT_OK;
            } else if (what < 9) {
                err = shard_model_checkpoint(m, what == 8, &diag);
                MUST(err == ORT_OK || err == ORT_ENOSPC);
                checkpoints_refused += err != ORT_OK;
            } else {
                bool packed;
                err = dp_log_pack(m->log, 0, 1, &packed, &diag);
                MUST(err == ORT_OK || err == ORT_ENOSPC);
                packs_refused += err != ORT_OK;
            }
        }
        if (round % 8 == 0) {
            shard_model_check(m); /* reads go on */
        }
        if (round % 10 == 9) {
            /* Room again: the next write is taken, by the shard that was refused. */
            leave_free(dir, UINT64_MAX);
            MUST(shard_model_op(m, MODEL_OP_PUT, dice(MODEL_IDS), 5, 1, &diag) == ORT_OK);
            MUST(shard_model_checkpoint(m, false, &diag) == ORT_OK);
            shard_model_check(m);
        }
        if (round % 25 == 24) { /* and a restart, on a disk that is full */
            leave_free(dir, 0);
            shard_model_close(m);
            ort_err err = shard_model_open(m, dir, &diag);
            if (err != ORT_OK) {
                MUST(err == ORT_ENOSPC);
                leave_free(dir, UINT64_MAX);
                err = shard_model_open(m, dir, &diag);
            }
            MUST(err == ORT_OK);
            shard_model_check(m);
        }
    }
    leave_free(dir, UINT64_MAX);
    shard_model_close(m);
    dp_verify_report report;
    MUST(dp_storage_verify(dir, (ort_tenant_id){1}, (ort_collection_id){2}, &report, &diag) ==
         ORT_OK);
    printf("%d rounds: %u writes taken, %u refused, %u checkpoints and %u packings refused\n",
           rounds, taken, refused, checkpoints_refused, packs_refused);
    MUST(checkpoints_refused > 0);
    fill_a_log(dir);
    close(dir);
    MUST(umount(place.path) == 0);
    scratch_drop(&place);
    free(m);
    return 0;
}
