/* Threads in a closed loop. */
#include "load.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

void
bench_times_add(bench_times *times, uint64_t us)
{
    if (times->count == times->cap) {
        times->cap = times->cap == 0 ? 4096 : times->cap * 2;
        times->us = realloc(times->us, times->cap * sizeof *times->us);
        if (times->us == NULL) {
            abort();
        }
    }
    times->us[times->count++] = us;
}

void
bench_times_fini(bench_times *times)
{
    free(times->us);
    *times = (bench_times){0};
}

uint64_t
bench_times_at(const bench_times *sorted, double p)
{
    return sorted->count == 0 ? 0 : sorted->us[(size_t)((double)(sorted->count - 1) * p)];
}

double
bench_times_mean(const bench_times *times)
{
    double sum = 0;
    for (size_t i = 0; i < times->count; i++) {
        sum += (double)times->us[i];
    }
    return times->count > 0 ? sum / (double)times->count : 0;
}

static int
by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

typedef struct {
    pthread_t thread;
    bench_load_fn fn;
    void *ctx;
    bench_times times;
} worker;

static void *
worker_main(void *arg)
{
    worker *w = arg;
    w->fn(w->ctx, &w->times);
    return NULL;
}

double
bench_load_run(uint32_t threads, bench_load_fn fn, void *ctx, bench_times *all)
{
    worker *workers = calloc(threads, sizeof *workers);
    const uint64_t start = ort_mono_ns();
    if (workers == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < threads; i++) {
        workers[i] = (worker){.fn = fn, .ctx = ctx};
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0) {
            abort();
        }
    }
    for (uint32_t i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    const double seconds = (double)(ort_mono_ns() - start) / 1e9;
    *all = (bench_times){0};
    for (uint32_t i = 0; i < threads; i++) {
        for (size_t k = 0; k < workers[i].times.count; k++) {
            bench_times_add(all, workers[i].times.us[k]);
        }
        bench_times_fini(&workers[i].times);
    }
    if (all->count > 1) {
        qsort(all->us, all->count, sizeof *all->us, by_value);
    }
    free(workers);
    return seconds;
}
