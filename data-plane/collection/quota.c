/* Quotas. One lock guards a whole chain (the root's), so that a reservation holds at every counter
 * or at none; the chain is two long and the work under the lock a few additions. */
#include "collection/quota.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/thread.h"

struct dp_quota {
    dp_quota *parent;
    const char *what;
    pthread_mutex_t lock; /* of the root: guards every field below in the whole tree */
    pthread_cond_t freed;
    dp_amount used, held;
    int64_t points_max, bytes_max; /* 0 = none */
};

static dp_quota *
root_of(dp_quota *quota)
{
    while (quota->parent != NULL) {
        quota = quota->parent;
    }
    return quota;
}

ort_err
dp_quota_new(dp_quota **out, dp_quota *parent, const char *what)
{
    dp_quota *quota = calloc(1, sizeof *quota);
    *out = quota;
    if (quota == NULL) {
        return ORT_ENOMEM;
    }
    quota->parent = parent;
    quota->what = what;
    pthread_mutex_init(&quota->lock, NULL);
    ort_cond_init(&quota->freed);
    return ORT_OK;
}

void
dp_quota_free(dp_quota *quota)
{
    if (quota == NULL) {
        return;
    }
    if (quota->parent != NULL) {
        dp_quota_settle(quota->parent, quota->held,
                        (dp_amount){.points = -quota->used.points, .bytes = -quota->used.bytes});
    }
    pthread_cond_destroy(&quota->freed);
    pthread_mutex_destroy(&quota->lock);
    free(quota);
}

void
dp_quota_set_limits(dp_quota *quota, uint64_t points_max, uint64_t bytes_max)
{
    dp_quota *root = root_of(quota);
    pthread_mutex_lock(&root->lock);
    quota->points_max = points_max > INT64_MAX ? INT64_MAX : (int64_t)points_max;
    quota->bytes_max = bytes_max > INT64_MAX ? INT64_MAX : (int64_t)bytes_max;
    pthread_cond_broadcast(&root->freed);
    pthread_mutex_unlock(&root->lock);
}

void
dp_quota_usage(dp_quota *quota, dp_amount *used, dp_amount *used_and_held)
{
    dp_quota *root = root_of(quota);
    pthread_mutex_lock(&root->lock);
    if (used != NULL) {
        *used = quota->used;
    }
    if (used_and_held != NULL) {
        *used_and_held = (dp_amount){.points = quota->used.points + quota->held.points,
                                     .bytes = quota->used.bytes + quota->held.bytes};
    }
    pthread_mutex_unlock(&root->lock);
}

/* The counter that refuses, or NULL. Growth of 0 always fits, also above a lowered limit. */
static dp_quota *
refuses(dp_quota *quota, dp_amount want)
{
    for (; quota != NULL; quota = quota->parent) {
        if ((want.points > 0 && quota->points_max > 0 &&
             quota->used.points + quota->held.points + want.points > quota->points_max) ||
            (want.bytes > 0 && quota->bytes_max > 0 &&
             quota->used.bytes + quota->held.bytes + want.bytes > quota->bytes_max)) {
            return quota;
        }
    }
    return NULL;
}

static ort_err
refuse(const dp_quota *by, dp_amount want, ort_diag *diag)
{
    if (by->points_max > 0 && by->used.points + by->held.points + want.points > by->points_max) {
        return ort_fail(diag, ORT_EQUOTA,
                        "%s quota: %" PRId64 " of %" PRId64 " points are used, %" PRId64
                        " more do not fit; delete points or ask for a larger plan",
                        by->what, by->used.points, by->points_max, want.points);
    }
    return ort_fail(diag, ORT_EQUOTA,
                    "%s quota: %" PRId64 " of %" PRId64 " bytes are used, %" PRId64
                    " more do not fit; delete points or ask for a larger plan",
                    by->what, by->used.bytes, by->bytes_max, want.bytes);
}

ort_err
dp_quota_check(dp_quota *quota, ort_diag *diag)
{
    dp_quota *root = root_of(quota);
    const dp_amount one = {.points = 1, .bytes = 1};
    pthread_mutex_lock(&root->lock);
    ort_err err = ORT_OK;
    for (dp_quota *q = quota; err == ORT_OK && q != NULL; q = q->parent) {
        /* What is held may yet be given back: only what is used counts here. */
        if ((q->points_max > 0 && q->used.points + one.points > q->points_max) ||
            (q->bytes_max > 0 && q->used.bytes + one.bytes > q->bytes_max)) {
            err = refuse(q, one, diag);
        }
    }
    pthread_mutex_unlock(&root->lock);
    return err;
}

static void
hold(dp_quota *quota, dp_amount want)
{
    for (; quota != NULL; quota = quota->parent) {
        quota->held.points += want.points;
        quota->held.bytes += want.bytes;
    }
}

ort_err
dp_quota_reserve(dp_quota *quota, dp_amount want, ort_diag *diag)
{
    dp_quota *root = root_of(quota);
    ort_err err = ORT_OK;
    pthread_mutex_lock(&root->lock);
    const dp_quota *by = refuses(quota, want);
    if (by != NULL) {
        err = refuse(by, want, diag);
    } else {
        hold(quota, want);
    }
    pthread_mutex_unlock(&root->lock);
    return err;
}

ort_err
dp_quota_reserve_wait(dp_quota *quota, dp_amount want, uint64_t mono_ns, ort_diag *diag)
{
    dp_quota *root = root_of(quota);
    ort_err err = ORT_OK;
    pthread_mutex_lock(&root->lock);
    for (;;) {
        const dp_quota *by = refuses(quota, want);
        if (by == NULL) {
            hold(quota, want);
            break;
        }
        /* Worth waiting for only while somebody holds room that may come back. */
        if (by->held.points == 0 && by->held.bytes == 0) {
            err = refuse(by, want, diag);
            break;
        }
        if (!ort_cond_wait_until(&root->freed, &root->lock, mono_ns)) {
            err = ort_fail(diag, ORT_ETIMEOUT, "waiting for room in the %s quota", by->what);
            break;
        }
    }
    pthread_mutex_unlock(&root->lock);
    return err;
}

void
dp_quota_settle(dp_quota *quota, dp_amount held, dp_amount done)
{
    dp_quota *root = root_of(quota);
    pthread_mutex_lock(&root->lock);
    for (; quota != NULL; quota = quota->parent) {
        quota->held.points -= held.points;
        quota->held.bytes -= held.bytes;
        quota->used.points += done.points;
        quota->used.bytes += done.bytes;
    }
    pthread_cond_broadcast(&root->freed);
    pthread_mutex_unlock(&root->lock);
}
