/* shared/base/thread.h: named threads with a known stack, and a bounded pool of workers. */
#ifndef ORT_THREAD_H
#define ORT_THREAD_H
#include <pthread.h>
#include <stdint.h>

#include "base/err.h"

/* Starts fn(arg) on a thread of 1 MiB stack, named (cut to 15 bytes) for gdb and top. The caller
 * joins it. ORT_EBUSY: the system has no thread to give. */
ORT_NODISCARD ort_err ort_thread_start(pthread_t *out, const char *name, void *(*fn)(void *),
                                       void *arg, ort_diag *diag);

/* Condition variables on the monotonic clock; waits until mono_ns of ort_mono_ns(). */
void ort_cond_init(pthread_cond_t *cond);
bool ort_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex,
                         uint64_t mono_ns); /* false: time is up */

/* Workers that take jobs from one bounded queue, first in first out. */
typedef struct ort_pool ort_pool;

ORT_NODISCARD ort_err ort_pool_new(ort_pool **out, const char *name, uint32_t threads,
                                   uint32_t queue_max, ort_diag *diag);

/* ORT_EBUSY: the queue is full, or the pool is closing; the job will not run. */
ORT_NODISCARD ort_err ort_pool_submit(ort_pool *pool, void (*job)(void *), void *arg);

/* Jobs waiting, not counting those that run. */
uint32_t ort_pool_depth(ort_pool *pool);

/* Takes no more jobs, runs those that are queued, joins the workers. */
void ort_pool_free(ort_pool *pool);
#endif /* ORT_THREAD_H */
