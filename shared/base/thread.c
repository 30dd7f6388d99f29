/* Threads and the worker pool. */
#include "base/thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

#define STACK_BYTES (1u << 20)

typedef struct {
    void *(*fn)(void *);
    void *arg;
    char name[16];
} start_args;

static void *
start_main(void *arg)
{
    start_args a = *(start_args *)arg;
    free(arg);
    pthread_setname_np(pthread_self(), a.name);
    return a.fn(a.arg);
}

ort_err
ort_thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *arg, ort_diag *diag)
{
    start_args *a = calloc(1, sizeof *a);
    if (a == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "thread %s", name);
    }
    *a = (start_args){.fn = fn, .arg = arg};
    strncpy(a->name, name, sizeof a->name - 1);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    const int rc = pthread_create(out, &attr, start_main, a);
    pthread_attr_destroy(&attr);
    if (rc != 0) {
        free(a);
        errno = rc;
        return ort_fail_errno(diag, ORT_EBUSY, "start thread %s", name);
    }
    return ORT_OK;
}

void
ort_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

bool
ort_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t mono_ns)
{
    const struct timespec until = {.tv_sec = (time_t)(mono_ns / 1000000000u),
                                   .tv_nsec = (long)(mono_ns % 1000000000u)};
    return pthread_cond_timedwait(cond, mutex, &until) != ETIMEDOUT;
}

typedef struct {
    void (*fn)(void *);
    void *arg;
} pool_job;

struct ort_pool {
    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t wake;
    pool_job *ring;
    uint32_t cap, head, count;
    bool closing;
    uint32_t threads;
    pthread_t thread[];
};

static void *
pool_main(void *arg)
{
    ort_pool *pool = arg;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (pool->count == 0 && !pool->closing) {
            pthread_cond_wait(&pool->wake, &pool->mutex);
        }
        if (pool->count == 0) {
            break;
        }
        const pool_job job = pool->ring[pool->head];
        pool->head = (pool->head + 1) % pool->cap;
        pool->count--;
        pthread_mutex_unlock(&pool->mutex);
        job.fn(job.arg);
        pthread_mutex_lock(&pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

ort_err
ort_pool_new(ort_pool **out, const char *name, uint32_t threads, uint32_t queue_max, ort_diag *diag)
{
    *out = NULL;
    ort_pool *pool = calloc(1, sizeof *pool + threads * sizeof pool->thread[0]);
    pool_job *ring = calloc(queue_max, sizeof *ring);
    if (pool == NULL || ring == NULL) {
        free(pool);
        free(ring);
        return ort_fail(diag, ORT_ENOMEM, "pool %s", name);
    }
    pthread_mutex_init(&pool->mutex, NULL);
    ort_cond_init(&pool->wake);
    pool->ring = ring;
    pool->cap = queue_max;
    for (; pool->threads < threads; pool->threads++) {
        const ort_err err =
            ort_thread_start(&pool->thread[pool->threads], name, pool_main, pool, diag);
        if (err != ORT_OK) {
            ort_pool_free(pool);
            return err;
        }
    }
    *out = pool;
    return ORT_OK;
}

ort_err
ort_pool_submit(ort_pool *pool, void (*job)(void *), void *arg)
{
    ort_err err = ORT_EBUSY;
    pthread_mutex_lock(&pool->mutex);
    if (!pool->closing && pool->count < pool->cap) {
        pool->ring[(pool->head + pool->count) % pool->cap] = (pool_job){.fn = job, .arg = arg};
        pool->count++;
        pthread_cond_signal(&pool->wake);
        err = ORT_OK;
    }
    pthread_mutex_unlock(&pool->mutex);
    return err;
}

uint32_t
ort_pool_depth(ort_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    const uint32_t n = pool->count;
    pthread_mutex_unlock(&pool->mutex);
    return n;
}

void
ort_pool_free(ort_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 0; i < pool->threads; i++) {
        pthread_join(pool->thread[i], NULL);
    }
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->ring);
    free(pool);
}
