/* The gate's parts by themselves: rates, slots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "gate/admission.h"
#include "gate/gcra.h"

#define MS UINT64_C(1000000)
#define S (1000 * MS)

/* Offered ten times its limit for a minute, a tenant gets the limit and its burst, not more. */
static void
ten_times_the_rate_admits_the_rate(void **state)
{
    (void)state;
    const dp_gcra_rate rate = dp_gcra_rate_per_minute(6000);
    dp_gcra gcra = {0};
    uint64_t admitted = 0;
    const uint64_t start = 12345 * S;

    for (uint64_t at = 0; at < 60 * S; at += MS) { /* 60,000 requests */
        admitted += dp_gcra_ask(&gcra, &rate, start + at).admitted;
    }
    assert_in_range(admitted, 6000, 6000 + rate.burst);
    /* The burst is spent: from now on it is the rate alone. */
    admitted = 0;
    for (uint64_t at = 60 * S; at < 120 * S; at += MS) {
        admitted += dp_gcra_ask(&gcra, &rate, start + at).admitted;
    }
    assert_in_range(admitted, 5940, 6060);
}

/* Who waits as long as he was told gets in. */
static void
retry_after_is_enough(void **state)
{
    (void)state;
    const dp_gcra_rate rate = dp_gcra_rate_per_minute(60);
    dp_gcra gcra = {0};
    uint64_t now = S;
    dp_gcra_verdict v;

    assert_int_equal(rate.burst, DP_GCRA_BURST_MIN);
    for (unsigned i = 0; i < DP_GCRA_BURST_MIN; i++) {
        v = dp_gcra_ask(&gcra, &rate, now);
        assert_true(v.admitted);
        assert_int_equal(v.left, DP_GCRA_BURST_MIN - 1 - i);
    }
    v = dp_gcra_ask(&gcra, &rate, now);
    assert_false(v.admitted);
    assert_int_equal(v.retry_ns, S);
    assert_false(dp_gcra_ask(&gcra, &rate, now + v.retry_ns - 1).admitted);
    assert_true(dp_gcra_ask(&gcra, &rate, now + v.retry_ns).admitted);
    dp_gcra_refund(&gcra, &rate);
    assert_true(dp_gcra_ask(&gcra, &rate, now + v.retry_ns).admitted);
}

static void
retry_after_is_one_digit(void **state)
{
    (void)state;
    assert_int_equal(dp_gcra_retry_after_s(0), 1);
    assert_int_equal(dp_gcra_retry_after_s(1), 1);
    assert_int_equal(dp_gcra_retry_after_s(S), 1);
    assert_int_equal(dp_gcra_retry_after_s(S + 1), 2);
    assert_int_equal(dp_gcra_retry_after_s(3600 * S), 9);
}

/* A limit lowered from huge to tiny must not shut the tenant out for the old limit's arrears, and
 * one raised must help at once. */
static void
a_changed_limit_holds_from_now_on(void **state)
{
    (void)state;
    const dp_gcra_rate slow = dp_gcra_rate_per_minute(1);
    const dp_gcra_rate fast = dp_gcra_rate_per_minute(600000);
    dp_gcra gcra = {0};

    assert_true(dp_gcra_ask(&gcra, &slow, S).admitted);
    assert_false(dp_gcra_ask(&gcra, &slow, S).admitted);
    assert_true(dp_gcra_ask(&gcra, &fast, S + MS).admitted ||
                dp_gcra_ask(&gcra, &fast, S + 2 * MS).admitted);
    assert_true(dp_gcra_ask(&gcra, &(dp_gcra_rate){0}, S).admitted);
}

typedef struct {
    dp_gcra *gcra;
    const dp_gcra_rate *rate;
    uint64_t admitted;
} asker;

static void *
ask_many(void *arg)
{
    asker *a = arg;
    for (int i = 0; i < 20000; i++) {
        a->admitted += dp_gcra_ask(a->gcra, a->rate, S).admitted;
    }
    return NULL;
}

/* All threads ask at one instant: exactly the burst gets in, whoever wins the exchange. */
static void
racing_threads_share_one_burst(void **state)
{
    (void)state;
    const dp_gcra_rate rate = dp_gcra_rate_per_minute(100000);
    dp_gcra gcra = {0};
    asker askers[8];
    pthread_t threads[8];
    uint64_t admitted = 0;

    for (int i = 0; i < 8; i++) {
        askers[i] = (asker){&gcra, &rate, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, ask_many, &askers[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        admitted += askers[i].admitted;
    }
    assert_int_equal(admitted, rate.burst);
}

static void
a_slot_is_given_back_and_a_full_queue_refuses(void **state)
{
    (void)state;
    dp_admission *adm;
    dp_admission_lane a = {0}, b = {0}, c = {0};

    assert_int_equal(dp_admission_new(&adm, (dp_admission_config){.slots = 1, .queue_max = 1}), 0);
    assert_int_equal(dp_admission_enter(adm, &a, 0), ORT_OK);
    /* a has one running: the kept slot is not for it, but it is for b, and then for nobody. */
    assert_int_equal(dp_admission_enter(adm, &a, 0), ORT_ETIMEOUT);
    assert_int_equal(dp_admission_enter(adm, &b, 0), ORT_OK);
    assert_int_equal(dp_admission_enter(adm, &c, 0), ORT_ETIMEOUT);
    assert_int_equal(dp_admission_depth(adm), 0);
    dp_admission_leave(adm, &a, 1000);
    assert_int_equal(dp_admission_enter(adm, &c, 0), ORT_OK);
    dp_admission_leave(adm, &b, 0);
    dp_admission_leave(adm, &c, 0);
    dp_admission_free(adm);
}

/* Nobody takes the last core from somebody who was there in the last second; alone, all are his. */
static void
where_others_are_present_one_core_is_left(void **state)
{
    (void)state;
    dp_admission *adm;
    dp_admission_lane a = {0}, b = {0};
    bool refused = false;

    assert_int_equal(dp_admission_new(&adm, (dp_admission_config){.slots = 2, .queue_max = 9}), 0);
    for (int i = 0; i < 60 && !refused; i++) {
        const uint64_t begin = ort_mono_ns();
        assert_int_equal(dp_admission_enter(adm, &b, 0), ORT_OK);
        dp_admission_leave(adm, &b, 0);
        assert_int_equal(dp_admission_enter(adm, &a, 0), ORT_OK);
        refused = dp_admission_enter(adm, &a, 0) == ORT_ETIMEOUT;
        if (!refused) { /* only on a machine that stood still for a second: once more */
            assert_true(ort_mono_ns() - begin >= 1 * S);
            dp_admission_leave(adm, &a, 0);
            dp_admission_leave(adm, &a, 0);
        }
    }
    assert_true(refused);
    assert_int_equal(dp_admission_enter(adm, &b, 0), ORT_OK);
    dp_admission_leave(adm, &b, 0);
    const struct timespec gone = {.tv_sec = 1, .tv_nsec = 50 * 1000 * 1000};
    nanosleep(&gone, NULL);
    assert_int_equal(dp_admission_enter(adm, &a, 0), ORT_OK);
    dp_admission_leave(adm, &a, 0);
    dp_admission_leave(adm, &a, 0);
    dp_admission_free(adm);
}

enum { WAITS = 1000 };

typedef struct {
    dp_admission *adm;
    dp_admission_lane *lane;
    uint64_t cost_ns;
    atomic_bool *stop;
    _Atomic uint64_t worked_ns;
    uint64_t waited_ns[WAITS]; /* the first ones */
    size_t waits;
    uint64_t refused;
    int pause_us;
} worker;

static void *
work(void *arg)
{
    worker *w = arg;
    while (!atomic_load(w->stop)) {
        const uint64_t before = ort_mono_ns();
        const ort_err err = dp_admission_enter(w->adm, w->lane, before + 60 * S);
        if (err != ORT_OK) {
            w->refused++;
            continue;
        }
        const uint64_t waited = ort_mono_ns() - before;
        if (w->waits < WAITS) {
            w->waited_ns[w->waits++] = waited;
        }
        /* The slot is held, no processor is burnt: what is tested is who gets it. */
        const struct timespec nap = {.tv_nsec = (long)w->cost_ns};
        nanosleep(&nap, NULL);
        const uint64_t used = ort_mono_ns() - before - waited;
        w->worked_ns += used;
        dp_admission_leave(w->adm, w->lane, used);
        if (w->pause_us > 0) {
            const struct timespec rest = {.tv_nsec = w->pause_us * 1000L};
            nanosleep(&rest, NULL);
        }
    }
    return NULL;
}

static void
sleep_ms(long ms)
{
    const struct timespec nap = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&nap, NULL);
}

/* Neither has had much more than the other. The kept slot favours neither: both always have
 * something running. */
static bool
equal_time(worker *workers, int count, int first_of_second)
{
    uint64_t worked[2] = {0};

    for (int i = 0; i < count; i++) {
        worked[i < first_of_second ? 0 : 1] += atomic_load(&workers[i].worked_ns);
    }
    return worked[0] * 10 < worked[1] * 14 && worked[1] * 10 < worked[0] * 14;
}

/* One tenant comes with fifteen threads and long requests, the other with three and short ones:
 * both get the same time, and neither queue is refused. A machine that stands still gives the
 * requests of one moment seconds more: then it takes longer until it is equal again. */
static void
two_greedy_tenants_get_equal_time(void **state)
{
    (void)state;
    enum { THREADS = 18 };
    dp_admission *adm;
    dp_admission_lane lanes[2] = {0};
    static worker workers[THREADS];
    pthread_t threads[THREADS];
    atomic_bool stop = false;
    bool equal = false;

    assert_int_equal(dp_admission_new(&adm, (dp_admission_config){.slots = 2, .queue_max = 64}), 0);
    for (int i = 0; i < THREADS; i++) {
        const int who = i < 15 ? 0 : 1;
        workers[i] = (worker){
            .adm = adm, .lane = &lanes[who], .cost_ns = who == 0 ? 3 * MS : MS, .stop = &stop};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 60 && !equal; i++) {
        sleep_ms(800);
        equal = equal_time(workers, THREADS, 15);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].refused, 0);
    }
    assert_true(equal);
    dp_admission_free(adm);
}

static int
by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Who comes now and then gets the kept slot at once, however long the other's queue is: as a rule,
 * for there is always a moment in which the machine runs somebody else. */
static void
a_rare_guest_does_not_wait_for_a_flood(void **state)
{
    (void)state;
    enum { THREADS = 21 };
    dp_admission *adm;
    dp_admission_lane flood = {0}, guest = {0};
    static worker workers[THREADS];
    pthread_t threads[THREADS];
    atomic_bool stop = false;

    assert_int_equal(dp_admission_new(&adm, (dp_admission_config){.slots = 2, .queue_max = 64}), 0);
    for (int i = 0; i < THREADS; i++) {
        const bool is_guest = i == THREADS - 1;
        workers[i] = (worker){.adm = adm,
                              .lane = is_guest ? &guest : &flood,
                              .cost_ns = is_guest ? MS : 50 * MS,
                              .stop = &stop,
                              .pause_us = is_guest ? 2000 : 0};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    sleep_ms(700);
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    uint64_t held_ns = 0, requests = 0;
    for (int i = 0; i < THREADS - 1; i++) {
        held_ns += workers[i].worked_ns;
        requests += workers[i].waits;
    }
    worker *w = &workers[THREADS - 1];
    assert_true(w->waits > 0 && requests > 0);
    qsort(w->waited_ns, w->waits, sizeof *w->waited_ns, by_size);
    /* Next to nothing of the time that each of the flood's requests holds its slot. */
    assert_true(w->waited_ns[w->waits / 2] < held_ns / requests / 10);
    dp_admission_free(adm);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_times_the_rate_admits_the_rate),
        cmocka_unit_test(retry_after_is_enough),
        cmocka_unit_test(retry_after_is_one_digit),
        cmocka_unit_test(a_changed_limit_holds_from_now_on),
        cmocka_unit_test(racing_threads_share_one_burst),
        cmocka_unit_test(a_slot_is_given_back_and_a_full_queue_refuses),
        cmocka_unit_test(where_others_are_present_one_core_is_left),
        cmocka_unit_test(two_greedy_tenants_get_equal_time),
        cmocka_unit_test(a_rare_guest_does_not_wait_for_a_flood),
    };
    return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
