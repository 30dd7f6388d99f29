/* tests/bench/load.h: threads that ask in a closed loop, and what their requests took. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H
#include <stddef.h>
#include <stdint.h>

#define BENCH_THREADS_MAX 256u

/* Microseconds, one a request. {0} is empty; release with bench_times_fini(). */
typedef struct {
    uint64_t *us;
    size_t count, cap;
} bench_times;

void bench_times_add(bench_times *times, uint64_t us); /* ends the program without memory */
void bench_times_fini(bench_times *times);

/* Of sorted ones: the one below which a share p of them lies; 0 when there are none. */
uint64_t bench_times_at(const bench_times *sorted, double p);
double bench_times_mean(const bench_times *times);

/* Runs fn(ctx, its own times) on 1 .. BENCH_THREADS_MAX threads until all return. *all: their times
 * together, sorted. Returns the seconds it took. */
typedef void (*bench_load_fn)(void *ctx, bench_times *times);
double bench_load_run(uint32_t threads, bench_load_fn fn, void *ctx, bench_times *all);
#endif /* BENCH_LOAD_H */
