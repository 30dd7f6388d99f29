/* control-plane/placement/placement.h: which node holds what. Pure functions: no I/O, no clock, no
 * randomness; the same question gets the same answer in every process and version.
 *
 * Rendezvous hashing with weights: every (tenant, node) pair has a score that depends on nothing
 * else, and the highest wins. So when a node joins, only tenants that it wins move (its share of
 * the weight), and when one leaves, only its own. Score = weight / -ln(u), u a hash in (0, 1)
 * (Thaler & Ravishankar 1998; the weighting as in Schindelhauer & Schomaker 2005). */
#ifndef CP_PLACEMENT_H
#define CP_PLACEMENT_H
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"

/* A node as placement sees it. Texts are borrowed. */
typedef struct {
    ort_node_id id;
    const char *region;
    const char *zone;
    uint32_t weight; /* 1 .. 10000; 0 never wins */
    bool usable;     /* ready, healthy, not cordoned */
} cp_candidate;

/* The tenant's pin. count 0: anywhere. */
typedef struct {
    const char *const *names;
    size_t count;
} cp_region_set;

bool cp_placement_allowed(const cp_region_set *regions, const char *region);

/* The node that wins the tenant among usable candidates of its regions. Candidates may come in any
 * order. false: there is none; *out untouched. */
bool cp_placement_pick(ort_tenant_id tenant, const cp_candidate *candidates, size_t count,
                       const cp_region_set *regions, ort_node_id *out);

/* The best `want` of them, best first, no two in one zone as long as zones last (for replicas).
 * Returns how many were written to out[want]. */
size_t cp_placement_rank(ort_tenant_id tenant, const cp_candidate *candidates, size_t count,
                         const cp_region_set *regions, ort_node_id *out, size_t want);

/* Where a tenant stays: its home, when that is a candidate in its regions (also cordoned or
 * unhealthy: data does not move because of a pause), else the winner. false: neither. */
bool cp_placement_keep_or_pick(ort_tenant_id tenant, ort_node_id home,
                               const cp_candidate *candidates, size_t count,
                               const cp_region_set *regions, ort_node_id *out);
#endif /* CP_PLACEMENT_H */
