/* The generic cell rate algorithm over one atomic word. */
#include "gate/gcra.h"

#include "base/limits.h"

#define NS_PER_S UINT64_C(1000000000)

dp_gcra_rate
dp_gcra_rate_per_minute(uint64_t per_minute)
{
    dp_gcra_rate rate = {.per_minute = per_minute};

    if (per_minute == 0) {
        return rate;
    }
    rate.gap_ns = 60 * NS_PER_S / per_minute;
    if (rate.gap_ns == 0) {
        rate.gap_ns = 1; /* over 60 billion a minute: no limit in any real sense */
    }
    rate.burst = per_minute / 20;
    if (rate.burst < DP_GCRA_BURST_MIN) {
        rate.burst = DP_GCRA_BURST_MIN;
    }
    if (rate.burst > per_minute) {
        rate.burst = per_minute;
    }
    return rate;
}

dp_gcra_verdict
dp_gcra_ask(dp_gcra *state, const dp_gcra_rate *rate, uint64_t now_ns)
{
    if (rate->per_minute == 0) {
        return (dp_gcra_verdict){.admitted = true, .left = UINT64_MAX};
    }
    const uint64_t burst_ns = rate->burst * rate->gap_ns;
    uint64_t tat = atomic_load_explicit(&state->tat_ns, memory_order_relaxed);
    for (;;) {
        /* A limit that was lowered leaves a tat far ahead of its new burst: it counts from the edge
         * of what the new limit could have let in, not from the old one's. */
        uint64_t from = tat > now_ns ? tat : now_ns;
        if (from > now_ns + burst_ns) {
            from = now_ns + burst_ns;
        }
        const uint64_t next = from + rate->gap_ns;
        if (next - now_ns > burst_ns) {
            if (from < tat) {
                /* Kept, or the arrears would be cut anew at each request and never be paid. Losing
                 * the exchange is fine: somebody else has written a nearer time. */
                atomic_compare_exchange_strong_explicit(&state->tat_ns, &tat, from,
                                                        memory_order_relaxed, memory_order_relaxed);
            }
            return (dp_gcra_verdict){
                .admitted = false,
                .left = 0,
                .retry_ns = next - now_ns - burst_ns,
                .reset_ns = from - now_ns,
            };
        }
        if (atomic_compare_exchange_weak_explicit(&state->tat_ns, &tat, next, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return (dp_gcra_verdict){
                .admitted = true,
                .left = (burst_ns - (next - now_ns)) / rate->gap_ns,
                .reset_ns = next - now_ns,
            };
        }
    }
}

void
dp_gcra_refund(dp_gcra *state, const dp_gcra_rate *rate)
{
    if (rate->per_minute != 0) {
        /* Others may have advanced it since; taking one gap off is right whatever they did. */
        atomic_fetch_sub_explicit(&state->tat_ns, rate->gap_ns, memory_order_relaxed);
    }
}

unsigned
dp_gcra_retry_after_s(uint64_t retry_ns)
{
    const uint64_t s = retry_ns / NS_PER_S + (retry_ns % NS_PER_S != 0);
    if (s < 1) {
        return 1;
    }
    return s > ORT_RETRY_AFTER_S_MAX ? ORT_RETRY_AFTER_S_MAX : (unsigned)s;
}
