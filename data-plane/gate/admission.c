/* Slots, lanes, and the ring that deals one to the other.
 *
 *   idle --enter, slot free--> running --leave--> idle
 *   idle --enter, none free--> waiting --admission__deal()--> running
 *                              waiting --deadline--> idle
 *
 * One mutex guards everything; it is held for a few list operations, never across a wait. Each
 * waiter sleeps on a condition of its own, so that a slot wakes exactly the thread it is for. */
#include "gate/admission.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/thread.h"

/* What a lane is granted each time the ring passes it: several searches' worth, so that the ring
 * need not turn for each, and little enough that a turn is short. */
#define QUANTUM_NS INT64_C(1000000)

/* The most a lane can owe: one monstrous request does not shut its tenant out for long. */
#define DEBT_NS_MAX INT64_C(200000000)

/* How long a tenant counts as being there after its last request. */
#define PRESENCE_NS UINT64_C(1000000000)

struct dp_admission_waiter {
    struct dp_admission_waiter *next, *prev;
    pthread_cond_t wake;
    bool granted;
};
typedef struct dp_admission_waiter waiter;

struct dp_admission {
    pthread_mutex_t mutex;
    dp_admission_config config;
    uint32_t running;
    _Atomic uint32_t waiting;
    dp_admission_lane *ring; /* next lane to be asked; NULL when nobody waits */

    /* The two lanes that came last; compared, never followed: a lane may be gone. */
    struct {
        const dp_admission_lane *lane;
        uint64_t came_ns;
    } recent[2];
};

ort_err
dp_admission_new(dp_admission **out, dp_admission_config config)
{
    assert(config.slots > 0 && config.queue_max > 0);
    *out = NULL;
    dp_admission *adm = calloc(1, sizeof *adm);
    if (adm == NULL) {
        return ORT_ENOMEM;
    }
    pthread_mutex_init(&adm->mutex, NULL);
    adm->config = config;
    *out = adm;
    return ORT_OK;
}

void
dp_admission_free(dp_admission *adm)
{
    if (adm == NULL) {
        return;
    }
    assert(adm->running == 0 && adm->ring == NULL);
    pthread_mutex_destroy(&adm->mutex);
    free(adm);
}

uint32_t
dp_admission_depth(const dp_admission *adm)
{
    return atomic_load_explicit(&adm->waiting, memory_order_relaxed);
}

static void
note_presence(dp_admission *adm, const dp_admission_lane *lane, uint64_t now_ns)
{
    if (adm->recent[0].lane != lane) {
        adm->recent[1] = adm->recent[0];
        adm->recent[0].lane = lane;
    }
    adm->recent[0].came_ns = now_ns;
}

static bool
others_are_present(const dp_admission *adm, const dp_admission_lane *lane, uint64_t now_ns)
{
    const int other = adm->recent[0].lane == lane ? 1 : 0;
    return adm->recent[other].lane != NULL && now_ns - adm->recent[other].came_ns < PRESENCE_NS;
}

/* Whether the lane may have a slot now. The one on top of the cores is for lanes that have nothing
 * running; and where others are present, nobody takes the last core from them. */
static bool
may_run(const dp_admission *adm, const dp_admission_lane *lane, uint64_t now_ns)
{
    const uint32_t slots = adm->config.slots;
    if (lane->running == 0) {
        return adm->running <= slots;
    }
    return adm->running < slots &&
           (lane->running + 1 < slots || !others_are_present(adm, lane, now_ns));
}

static void
ring_add(dp_admission *adm, dp_admission_lane *lane)
{
    if (adm->ring == NULL) {
        lane->ring_next = lane->ring_prev = lane;
        adm->ring = lane;
        return;
    }
    lane->ring_next = adm->ring;
    lane->ring_prev = adm->ring->ring_prev;
    lane->ring_prev->ring_next = lane;
    lane->ring_next->ring_prev = lane;
}

static void
ring_remove(dp_admission *adm, dp_admission_lane *lane)
{
    if (lane->ring_next == lane) {
        adm->ring = NULL;
    } else {
        lane->ring_prev->ring_next = lane->ring_next;
        lane->ring_next->ring_prev = lane->ring_prev;
        if (adm->ring == lane) {
            adm->ring = lane->ring_next;
        }
    }
    lane->ring_next = lane->ring_prev = NULL;
}

static void
waiter_append(dp_admission *adm, dp_admission_lane *lane, waiter *w)
{
    w->prev = lane->tail;
    w->next = NULL;
    if (lane->tail != NULL) {
        lane->tail->next = w;
    } else {
        lane->head = w;
        ring_add(adm, lane);
    }
    lane->tail = w;
    lane->waiting++;
    atomic_fetch_add_explicit(&adm->waiting, 1, memory_order_relaxed);
}

static void
waiter_remove(dp_admission *adm, dp_admission_lane *lane, waiter *w)
{
    if (w->prev != NULL) {
        w->prev->next = w->next;
    } else {
        lane->head = w->next;
    }
    if (w->next != NULL) {
        w->next->prev = w->prev;
    } else {
        lane->tail = w->prev;
    }
    lane->waiting--;
    atomic_fetch_sub_explicit(&adm->waiting, 1, memory_order_relaxed);
    if (lane->head == NULL) {
        ring_remove(adm, lane);
    }
}

/* A lane that comes back from idleness keeps no credit, and time has paid its debt. */
static void
lane_settle(dp_admission_lane *lane, uint64_t now_ns)
{
    const uint64_t idle_ns = now_ns - lane->settled_ns;
    lane->settled_ns = now_ns;
    if (lane->account_ns >= 0 || idle_ns >= (uint64_t)DEBT_NS_MAX) {
        lane->account_ns = 0;
        return;
    }
    lane->account_ns += (int64_t)idle_ns;
    if (lane->account_ns > 0) {
        lane->account_ns = 0;
    }
}

/* For the kept slot: of the lanes that have nothing running, the one that owes least. Nothing is
 * granted here: who uses it pays like everybody, by waiting longer for the other slots. */
static dp_admission_lane *
ring_pick_guest(dp_admission *adm)
{
    dp_admission_lane *best = NULL;
    dp_admission_lane *lane = adm->ring;
    do {
        if (lane->running == 0 && (best == NULL || lane->account_ns > best->account_ns)) {
            best = lane;
        }
        lane = lane->ring_next;
    } while (lane != adm->ring);
    return best;
}

/* The lane whose turn it is, of those that may run; NULL when none may. Each full turn of the ring
 * grants every lane in it the same time, also those that may not run just now; turns that would
 * bring nobody above zero are taken in one step. */
static dp_admission_lane *
ring_pick(dp_admission *adm, uint64_t now_ns)
{
    for (;;) {
        int64_t turns = INT64_MAX;
        dp_admission_lane *lane = adm->ring;
        do {
            if (may_run(adm, lane, now_ns)) {
                if (lane->account_ns > 0) {
                    return lane;
                }
                const int64_t needs = -lane->account_ns / QUANTUM_NS + 1;
                turns = needs < turns ? needs : turns;
            }
            lane = lane->ring_next;
        } while (lane != adm->ring);
        if (turns == INT64_MAX) {
            return NULL;
        }
        do {
            lane->account_ns += turns * QUANTUM_NS;
            lane = lane->ring_next;
        } while (lane != adm->ring);
    }
}

/* Hands free slots to those who wait. */
static void
admission__deal(dp_admission *adm, uint64_t now_ns)
{
    while (adm->ring != NULL && adm->running <= adm->config.slots) {
        dp_admission_lane *lane =
            adm->running < adm->config.slots ? ring_pick(adm, now_ns) : ring_pick_guest(adm);
        if (lane == NULL) {
            return;
        }
        waiter *w = lane->head;
        adm->ring = lane->ring_next; /* one request a turn: accounts decide over longer times */
        waiter_remove(adm, lane, w);
        lane->running++;
        adm->running++;
        w->granted = true;
        pthread_cond_signal(&w->wake);
    }
}

ort_err
dp_admission_enter(dp_admission *adm, dp_admission_lane *lane, uint64_t deadline_ns)
{
    ort_err err = ORT_OK;
    const uint64_t now_ns = ort_mono_ns();

    pthread_mutex_lock(&adm->mutex);
    note_presence(adm, lane, now_ns);
    if (lane->running == 0 && lane->head == NULL) {
        lane_settle(lane, now_ns);
    }
    if (lane->head == NULL && may_run(adm, lane, now_ns) &&
        (adm->ring == NULL || lane->running == 0)) {
        lane->running++;
        adm->running++;
    } else if (lane->waiting >= adm->config.queue_max) {
        err = ORT_EBUSY;
    } else {
        waiter w = {.granted = false};
        ort_cond_init(&w.wake);
        waiter_append(adm, lane, &w);
        admission__deal(adm, now_ns);
        while (!w.granted && ort_cond_wait_until(&w.wake, &adm->mutex, deadline_ns)) {
        }
        if (!w.granted) {
            waiter_remove(adm, lane, &w);
            err = ORT_ETIMEOUT;
        }
        pthread_cond_destroy(&w.wake);
    }
    pthread_mutex_unlock(&adm->mutex);
    return err;
}

void
dp_admission_leave(dp_admission *adm, dp_admission_lane *lane, uint64_t used_ns)
{
    pthread_mutex_lock(&adm->mutex);
    assert(lane->running > 0 && adm->running > 0);
    lane->running--;
    adm->running--;
    lane->account_ns -= used_ns < (uint64_t)DEBT_NS_MAX ? (int64_t)used_ns : DEBT_NS_MAX;
    if (lane->account_ns < -DEBT_NS_MAX) {
        lane->account_ns = -DEBT_NS_MAX;
    }
    lane->settled_ns = ort_mono_ns();
    admission__deal(adm, lane->settled_ns);
    pthread_mutex_unlock(&adm->mutex);
}
