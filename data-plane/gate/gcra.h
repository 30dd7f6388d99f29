/* data-plane/gate/gcra.h: rate limits, one word of state each. */
#ifndef DP_GCRA_H
#define DP_GCRA_H
#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

/* The generic cell rate algorithm (ITU-T I.371, the virtual scheduling form). The state is the
 * theoretical arrival time of the next request, on the monotonic clock; {0} is a limit with its
 * whole burst free. Any number of threads. */
typedef struct {
    _Atomic uint64_t tat_ns;
} dp_gcra;

typedef struct {
    uint64_t per_minute; /* requests; 0 = no limit */
    uint64_t gap_ns;     /* between two requests in the long run */
    uint64_t burst;      /* requests that may come at once after a rest */
} dp_gcra_rate;

/* The least burst of any limit: a page that fires a handful of calls at once is no flood. */
#define DP_GCRA_BURST_MIN 10u

/* A limit in requests per minute. Its burst is three seconds' worth of it (a twentieth), at least
 * DP_GCRA_BURST_MIN and at most the limit itself: over any minute at most per_minute + burst get
 * in, and per_minute in the long run. */
dp_gcra_rate dp_gcra_rate_per_minute(uint64_t per_minute);

typedef struct {
    bool admitted;
    uint64_t left;     /* requests that could follow at once */
    uint64_t retry_ns; /* refused: until one would be admitted */
    uint64_t reset_ns; /* until the whole burst is free again */
} dp_gcra_verdict;

/* Asks for one request at now_ns (ort_mono_ns()). A refusal costs nothing. */
dp_gcra_verdict dp_gcra_ask(dp_gcra *state, const dp_gcra_rate *rate, uint64_t now_ns);

/* Takes back one admitted request that another limit then refused. */
void dp_gcra_refund(dp_gcra *state, const dp_gcra_rate *rate);

/* Retry-After in whole seconds, rounded up, 1..ORT_RETRY_AFTER_S_MAX: clients read one digit. */
unsigned dp_gcra_retry_after_s(uint64_t retry_ns);
#endif /* DP_GCRA_H */
