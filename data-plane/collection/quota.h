/* data-plane/collection/quota.h: stored quotas that many writers never pass and that waste nothing.
 *
 * A write reserves for the worst case (every point new) before its record reaches the log, and
 * settles with what it really did once applied. Where the worst case does not fit, the write waits
 * for its turn alone and reserves what it will really add. */
#ifndef DP_QUOTA_H
#define DP_QUOTA_H
#include <stdint.h>

#include "base/err.h"

/* Points and logical bytes. The logical bytes of a point are defined by dp_point_bytes() in
 * collection/shard.h: 17 for the id, the compact payload text, and the rows as stored. */
typedef struct {
    int64_t points;
    int64_t bytes;
} dp_amount;

/* One counter: a collection's or a tenant's. {points_max, bytes_max} of 0 means no limit.
 * Threads: locks itself. */
typedef struct dp_quota dp_quota;

/* parent  also charged with everything, NULL at the top; must outlive this one
 * what    how a refusal names it: "tenant", "collection" (a literal) */
ORT_NODISCARD ort_err dp_quota_new(dp_quota **out, dp_quota *parent, const char *what);
void dp_quota_free(dp_quota *quota); /* what it used is given back to the parent */

/* A limit may fall below what is used: then growth is refused and nothing is deleted. */
void dp_quota_set_limits(dp_quota *quota, uint64_t points_max, uint64_t bytes_max);

/* Used now, and used plus held by writes under way. Either pointer may be NULL. */
void dp_quota_usage(dp_quota *quota, dp_amount *used, dp_amount *used_and_held);

/* Whether anything more fits: what the gate asks before it reads a body. ORT_EQUOTA with
 * "Insufficient storage" words otherwise. */
ORT_NODISCARD ort_err dp_quota_check(dp_quota *quota, ort_diag *diag);

/* Holds want (both >= 0) here and at every parent, or nowhere. ORT_EQUOTA: it does not fit. */
ORT_NODISCARD ort_err dp_quota_reserve(dp_quota *quota, dp_amount want, ort_diag *diag);

/* The same, but while others hold room that they may give back, waits for it until mono_ns of
 * ort_mono_ns(). The caller must hold no reservation of its own. ORT_EQUOTA, ORT_ETIMEOUT. */
ORT_NODISCARD ort_err dp_quota_reserve_wait(dp_quota *quota, dp_amount want, uint64_t mono_ns,
                                            ort_diag *diag);

/* Ends a reservation: `held` is let go and `done` (any sign) becomes used. */
void dp_quota_settle(dp_quota *quota, dp_amount held, dp_amount done);
#endif /* DP_QUOTA_H */
