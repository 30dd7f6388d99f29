/* data-plane/gate/admission.h: who gets a processor next, fairly over tenants. */
#ifndef DP_ADMISSION_H
#define DP_ADMISSION_H
#include <stdint.h>

#include "base/err.h"

/* A fixed number of slots, about one a core, goes round robin over the tenants that wait, by
 * deficit: each tenant has an account of processor time, is served while its account is above zero,
 * and pays what its request really used. So tenants get equal shares of time, not of requests, and
 * a flood by one only lengthens its own queue.
 *
 * One slot beyond the cores is kept for tenants that have nothing running: who comes rarely does
 * not wait for another's long request to end, and the kernel shares the cores meanwhile. And where
 * another tenant came within the last second, nobody takes all cores: the last one is left for it,
 * so that it finds a processor and not only a slot. Alone, a tenant has them all.
 *
 * Shreedhar & Varghese 1995, "Efficient Fair Queueing using Deficit Round Robin"; paying after the
 * work instead of before it, because a search's cost is known only then. */
typedef struct dp_admission dp_admission;

typedef struct {
    uint32_t slots;     /* that every tenant may take; the kept one comes on top */
    uint32_t queue_max; /* requests of one tenant that may wait */
} dp_admission_config;

ORT_NODISCARD ort_err dp_admission_new(dp_admission **out, dp_admission_config config);
void dp_admission_free(dp_admission *adm); /* nobody may be inside or waiting */

/* One tenant's place in it; the caller's storage, {0} begins, under the lock of the admission. */
typedef struct dp_admission_lane {
    struct dp_admission_lane *ring_next, *ring_prev; /* lanes with somebody waiting */
    struct dp_admission_waiter *head, *tail;         /* first come, first served */
    uint32_t waiting;
    uint32_t running;
    int64_t account_ns;  /* processor time it may still use; below 0 it owes */
    uint64_t settled_ns; /* monotonic, when account_ns was last brought up to date */
} dp_admission_lane;

/* Waits for a slot until deadline_ns (monotonic).
 *
 * ORT_OK        the caller has a slot, until dp_admission_leave() with the same lane
 * ORT_EBUSY     queue_max requests of this tenant wait already
 * ORT_ETIMEOUT  the deadline came first */
ORT_NODISCARD ort_err dp_admission_enter(dp_admission *adm, dp_admission_lane *lane,
                                         uint64_t deadline_ns);

/* Gives the slot back and pays for used_ns of processor time. */
void dp_admission_leave(dp_admission *adm, dp_admission_lane *lane, uint64_t used_ns);

/* Requests that wait now, over all tenants. */
uint32_t dp_admission_depth(const dp_admission *adm);
#endif /* DP_ADMISSION_H */
