/* A write, from its check to its answer:
 *
 *   WAITING ──dp_log_wait()──► DURABLE ──drain()──► DONE
 *      └──────it failed──────► FAILED (taken out of the queue by its own thread)
 *
 * Writes stand in the queue in the order of their LSNs, since appending and queueing happen under
 * one lock. Whoever finds the head durable and nobody draining applies for all that are durable;
 * the others sleep until their own write is done. */
#include <time.h>

#include "base/log.h"
#include "collection/shard_internal.h"

static const ort_log log_ = {.module = "collection"};

ort_err
dp_shard__check_writable(dp_shard *s, ort_diag *diag)
{
    if (atomic_load_explicit(&s->broken, memory_order_acquire)) {
        return ort_fail(diag, ORT_EBUSY, "shard 0 of collection `%.200s` takes no writes: %.250s",
                        s->name, s->broken_why.text);
    }
    const ort_err err = dp_log_check(s->log, diag);
    return err == ORT_OK ? ORT_OK : ORT_EBUSY;
}

void
dp_shard__break(dp_shard *s, uint64_t lsn, const ort_diag *why)
{
    if (!atomic_load_explicit(&s->broken, memory_order_relaxed)) {
        s->broken_why = *why;
        atomic_store_explicit(&s->broken, true, memory_order_release);
        ORT_LOG_ERROR(&log_, "shard.broken", "tenant=%016llx collection=%016llx lsn=%llu err=%s",
                      (unsigned long long)s->tenant.v, (unsigned long long)s->collection.v,
                      (unsigned long long)lsn, why->text);
    }
}

/* Applies one durable write under view and settles its quota. */
static void
apply_one(dp_shard *s, dp_write *w)
{
    pthread_rwlock_wrlock(&s->view);
    const uint64_t live = dp_points_live_count(s->points);
    const uint64_t bytes = dp_points_logical_bytes(s->points);
    w->err = dp_shard__apply(s, w->record, w->ticket.lsn, &w->points, &w->diag);
    const dp_amount done = {
        .points = (int64_t)dp_points_live_count(s->points) - (int64_t)live,
        .bytes = (int64_t)dp_points_logical_bytes(s->points) - (int64_t)bytes,
    };
    s->applied_lsn = w->ticket.lsn;
    pthread_rwlock_unlock(&s->view);
    dp_quota_settle(s->quota, w->held, done);
    w->held = (dp_amount){0};
    if (w->err != ORT_OK && w->err != ORT_ENOTFOUND) {
        dp_shard__break(s, w->ticket.lsn, &w->diag);
    }
}

/* Applies what is durable at the head. Called with queue held, which is let go while applying. */
static void
drain(dp_shard *s)
{
    if (s->applying) {
        return;
    }
    s->applying = true;
    while (s->queue_head != NULL && s->queue_head->state == DP_WRITE_DURABLE) {
        dp_write *w = s->queue_head;
        pthread_mutex_unlock(&s->queue);
        if (atomic_load_explicit(&s->broken, memory_order_relaxed)) {
            w->err = ort_fail(&w->diag, ORT_EIO, "an operation before this one failed: %.400s",
                              s->broken_why.text);
            dp_quota_settle(s->quota, w->held, (dp_amount){0});
        } else {
            apply_one(s, w);
        }
        pthread_mutex_lock(&s->queue);
        s->queue_head = w->next;
        if (s->queue_head == NULL) {
            s->queue_tail = NULL;
        }
        w->state = DP_WRITE_DONE;
        pthread_cond_broadcast(&s->queue_changed);
    }
    s->applying = false;
}

static void
enqueue(dp_shard *s, dp_write *w)
{
    pthread_mutex_lock(&s->queue);
    if (s->queue_tail != NULL) {
        s->queue_tail->next = w;
    } else {
        s->queue_head = w;
    }
    s->queue_tail = w;
    pthread_mutex_unlock(&s->queue);
}

static void
take_out(dp_shard *s, dp_write *w)
{
    dp_write *before = NULL;
    for (dp_write *at = s->queue_head; at != w; at = at->next) {
        before = at;
    }
    if (before != NULL) {
        before->next = w->next;
    } else {
        s->queue_head = w->next;
    }
    if (s->queue_tail == w) {
        s->queue_tail = before;
    }
}

/* Durable, and so is every write ahead of it that was appended in the same term. */
static void
mark_durable(dp_shard *s, dp_write *w)
{
    for (dp_write *at = s->queue_head; at != NULL; at = at->next) {
        if (at->state == DP_WRITE_WAITING && at->ticket.term == w->ticket.term) {
            at->state = DP_WRITE_DURABLE;
        }
        if (at == w) {
            break;
        }
    }
}

/* Waits for the log's verdict, then for the write's turn. */
static ort_err
finish(dp_shard *s, dp_write *w, ort_diag *diag)
{
    const ort_err err = dp_log_wait(s->log, w->ticket, diag);
    pthread_mutex_lock(&s->queue);
    if (err != ORT_OK && w->state == DP_WRITE_WAITING) {
        take_out(s, w);
        w->state = DP_WRITE_FAILED;
        pthread_cond_broadcast(&s->queue_changed);
        drain(s); /* this one may have stood before durable ones of a later term */
        pthread_mutex_unlock(&s->queue);
        dp_quota_settle(s->quota, w->held, (dp_amount){0});
        return err;
    }
    if (w->state == DP_WRITE_WAITING) {
        mark_durable(s, w);
    }
    drain(s);
    while (w->state != DP_WRITE_DONE) {
        pthread_cond_wait(&s->queue_changed, &s->queue);
        drain(s);
    }
    pthread_mutex_unlock(&s->queue);
    if (w->err != ORT_OK && diag != NULL) {
        *diag = w->diag;
    }
    return w->err;
}

/* Nothing between append and answer: the points are what the log says. order is held, so nothing
 * comes in meanwhile. */
void
dp_shard__wait_until_applied(dp_shard *s)
{
    pthread_mutex_lock(&s->queue);
    while (s->queue_head != NULL) {
        pthread_cond_wait(&s->queue_changed, &s->queue);
    }
    pthread_mutex_unlock(&s->queue);
}

/* Holds room for the write, with order held. First for the worst case, which costs nothing; where
 * that does not fit, for what it will really add, which is known once all before it is applied. */
static ort_err
reserve(dp_shard *s, dp_write *w, uint64_t until_mono_ns, ort_diag *diag)
{
    bool bounded;
    dp_shard__worst(s, w->record, &w->held, &bounded);
    if (bounded && dp_quota_reserve(s->quota, w->held, diag) == ORT_OK) {
        return ORT_OK;
    }
    dp_shard__wait_until_applied(s);
    pthread_rwlock_rdlock(&s->view);
    ort_err err = dp_shard__plan(s, w->record, &w->held, diag);
    pthread_rwlock_unlock(&s->view);
    if (err == ORT_OK) {
        err = dp_quota_reserve_wait(s->quota, w->held,
                                    until_mono_ns != 0 ? until_mono_ns : UINT64_MAX / 2, diag);
    }
    if (err != ORT_OK) {
        w->held = (dp_amount){0};
    }
    return err;
}

static ort_err
take_order(dp_shard *s, uint64_t until_mono_ns, ort_diag *diag)
{
    if (until_mono_ns == 0) {
        pthread_mutex_lock(&s->order);
        return ORT_OK;
    }
    const struct timespec until = {.tv_sec = (time_t)(until_mono_ns / 1000000000u),
                                   .tv_nsec = (long)(until_mono_ns % 1000000000u)};
    return pthread_mutex_clocklock(&s->order, CLOCK_MONOTONIC, &until) == 0
               ? ORT_OK
               : ort_fail(diag, ORT_ETIMEOUT, "waiting for the writes before this one");
}

ort_err
dp_shard__write(dp_shard *s, const dp_op *op, uint64_t until_mono_ns, dp_op_result *out,
                ort_diag *diag)
{
    dp_op_record record;
    dp_write w = {.record = &record};
    *out = (dp_op_result){0};
    ort_err err = dp_op__open(&record, op->record.data, op->record.len, diag);
    if (err == ORT_OK) {
        pthread_rwlock_rdlock(&s->view);
        if (!dp_op__fits(&record, s->schema)) {
            err = ort_fail(diag, ORT_ECORRUPT, "the operation was made for another schema");
        }
        pthread_rwlock_unlock(&s->view);
    }
    err = err == ORT_OK ? dp_shard__check_writable(s, diag) : err;
    err = err == ORT_OK ? take_order(s, until_mono_ns, diag) : err;
    if (err != ORT_OK) {
        return err;
    }
    err = reserve(s, &w, until_mono_ns, diag);
    if (err == ORT_OK) {
        err = dp_log_append(s->log, DP_RECORD_OPERATION, op->record.data, op->record.len, &w.ticket,
                            diag);
        if (err == ORT_OK) {
            enqueue(s, &w);
        } else {
            dp_quota_settle(s->quota, w.held, (dp_amount){0});
        }
    }
    pthread_mutex_unlock(&s->order);
    if (err != ORT_OK) {
        return err;
    }
    err = finish(s, &w, diag);
    out->operation_id = w.ticket.lsn;
    out->points = w.points;
    dp_shard__schedule(s);
    return err;
}

uint64_t
dp_shard__queue_length(dp_shard *s)
{
    uint64_t n = 0;
    pthread_mutex_lock(&s->queue);
    for (const dp_write *w = s->queue_head; w != NULL; w = w->next) {
        n++;
    }
    pthread_mutex_unlock(&s->queue);
    return n;
}
