/* Inserting many rows with several threads: each takes the next few slots of one counter. */
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "index/hnsw_internal.h"

#define BUILD_THREADS_MAX 64u
#define HELPER_NICE 10
#define BUILD_PART 64u /* slots taken at a time: little enough that all threads end together */

typedef struct {
    dp_hnsw *graph;
    const dp_slot_set *live;
    dp_hnsw_progress *progress;
    uint32_t slot_end;
    _Atomic(uint32_t) next;
    _Atomic(int) err; /* ort_err, the first that happened */
} build;

/* Helpers of all builds: several shards that grow at once share the processors that one would have.
 */
static _Atomic(uint32_t) helpers;

static bool
reserve_helper(uint32_t most)
{
    uint32_t now = atomic_load_explicit(&helpers, memory_order_relaxed);

    while (now < most) {
        if (atomic_compare_exchange_weak_explicit(&helpers, &now, now + 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

/* While searches wait, the builder sleeps `throttle` of every hundred parts of its time. */
static void
give_way(const build *b, uint64_t worked_ns)
{
    uint32_t share = b->progress == NULL
                         ? 0
                         : atomic_load_explicit(&b->progress->throttle, memory_order_relaxed);
    uint64_t sleep_ns;
    struct timespec pause;

    if (share == 0 || (b->progress->busy != NULL && !b->progress->busy(b->progress->arg))) {
        return;
    }
    share = share < 95 ? share : 95;
    sleep_ns = worked_ns * share / (100 - share);
    pause.tv_sec = (time_t)(sleep_ns / 1000000000);
    pause.tv_nsec = (long)(sleep_ns % 1000000000);
    nanosleep(&pause, NULL);
}

static ort_err
build_part(build *b, uint32_t begin, uint32_t end)
{
    for (uint32_t slot = begin; slot < end; slot++) {
        if (dp_slot_set_has(b->live, slot) && !dp_hnsw_has(b->graph, slot)) {
            ort_err err = dp_hnsw__insert(b->graph, slot);

            if (err != ORT_OK && err != ORT_EEXISTS) {
                return err;
            }
        }
    }
    return ORT_OK;
}

static void *
build_worker(void *arg)
{
    build *b = arg;

    for (;;) {
        uint32_t begin = atomic_fetch_add_explicit(&b->next, BUILD_PART, memory_order_relaxed);
        uint32_t end = b->slot_end - begin < BUILD_PART ? b->slot_end : begin + BUILD_PART;
        uint64_t at = ort_mono_ns();
        ort_err err = ORT_OK;

        if (begin >= b->slot_end || atomic_load_explicit(&b->err, memory_order_relaxed) != ORT_OK) {
            return NULL;
        }
        if (b->progress != NULL &&
            atomic_load_explicit(&b->progress->cancel, memory_order_relaxed)) {
            err = ORT_EBUSY;
        } else {
            err = build_part(b, begin, end);
        }
        if (err != ORT_OK) {
            int ok = ORT_OK;

            (void)atomic_compare_exchange_strong(&b->err, &ok, (int)err);
            return NULL;
        }
        if (b->progress != NULL) {
            atomic_fetch_add_explicit(&b->progress->done, end - begin, memory_order_relaxed);
        }
        give_way(b, ort_mono_ns() - at);
    }
}

/* A build can wait, requests cannot: on Linux the nice value is a thread's own. */
static void *
build_helper(void *arg)
{
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), HELPER_NICE);
    return build_worker(arg);
}

ort_err
dp_hnsw_build(dp_hnsw *graph, uint32_t slot_begin, uint32_t slot_end, const dp_slot_set *live,
              uint32_t threads, dp_hnsw_progress *progress, ort_diag *diag)
{
    static const dp_slot_set everything = {.words = NULL};
    pthread_t started[BUILD_THREADS_MAX];
    uint32_t count = 0;
    ort_err err;
    build b = {.graph = graph,
               .live = live != NULL ? live : &everything,
               .progress = progress,
               .slot_end = slot_end,
               .next = slot_begin,
               .err = ORT_OK};

    if (slot_begin >= slot_end) {
        return ORT_OK;
    }
    if (slot_end > DP_HNSW_SLOT_MAX) {
        return ort_fail(diag, ORT_EINVAL, "slot %u is over the bound", slot_end);
    }
    if (progress != NULL) {
        atomic_store_explicit(&progress->total, slot_end - slot_begin, memory_order_relaxed);
    }
    /* Fewer threads than wished for is slower, not wrong: the calling one always works. */
    while (count + 1 < threads && count < BUILD_THREADS_MAX && reserve_helper(threads - 1)) {
        if (ort_thread_start(&started[count], "index-build", build_helper, &b, NULL) != ORT_OK) {
            atomic_fetch_sub_explicit(&helpers, 1, memory_order_relaxed);
            break;
        }
        count++;
    }
    (void)build_worker(&b);
    for (uint32_t i = 0; i < count; i++) {
        pthread_join(started[i], NULL);
        atomic_fetch_sub_explicit(&helpers, 1, memory_order_relaxed);
    }
    err = (ort_err)atomic_load(&b.err);
    if (err == ORT_OK) {
        err = dp_hnsw__reconnect(graph);
        if (!graph->unlinked) { /* else there is nothing to walk yet */
            dp_hnsw__learn_stop(graph);
        }
    }
    if (err == ORT_EBUSY) {
        return ort_fail(diag, err, "the build was cancelled");
    }
    if (err != ORT_OK) {
        return ort_fail(diag, err, "the build stopped: %s", ort_err_code(err));
    }
    return ORT_OK;
}
