/* Weighted rendezvous hashing. */
#include "placement/placement.h"

#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/siphash.h"

/* Fixed for ever: another key would move every tenant. */
#define KEY0 UINT64_C(0x6f727468616e7421)
#define KEY1 UINT64_C(0x706c6163656d656e)

bool
cp_placement_allowed(const cp_region_set *regions, const char *region)
{
    for (size_t i = 0; i < regions->count; i++) {
        if (strcmp(regions->names[i], region) == 0) {
            return true;
        }
    }
    return regions->count == 0;
}

/* weight / -ln(u), u in (0, 1) from the pair alone: the top 53 bits of the hash, and a half, so
 * that neither 0 nor 1 comes out. */
static double
score_of(ort_tenant_id tenant, const cp_candidate *c)
{
    unsigned char pair[16];
    ort_put_u64(pair, tenant.v);
    ort_put_u64(pair + 8, c->id.v);
    const uint64_t hash = ort_siphash(KEY0, KEY1, pair, sizeof pair);
    const double u = ((double)(hash >> 11) + 0.5) / 9007199254740992.0;
    return (double)c->weight / -log(u);
}

static bool
may_win(const cp_candidate *c, const cp_region_set *regions)
{
    return c->usable && c->weight > 0 && cp_placement_allowed(regions, c->region);
}

/* The best candidate whose place in `used` is not set and, where `apart` is given, whose zone none
 * of those taken has. count when there is none. Equal scores (the same node twice) go by id. */
static size_t
best_of(ort_tenant_id tenant, const cp_candidate *candidates, size_t count,
        const cp_region_set *regions, const size_t *taken, size_t taken_count, bool apart)
{
    size_t best = count;
    double best_score = -1;
    for (size_t i = 0; i < count; i++) {
        const cp_candidate *c = &candidates[i];
        bool fits = may_win(c, regions);
        for (size_t t = 0; fits && t < taken_count; t++) {
            const cp_candidate *other = &candidates[taken[t]];
            fits = other->id.v != c->id.v && !(apart && strcmp(other->region, c->region) == 0 &&
                                               strcmp(other->zone, c->zone) == 0);
        }
        if (!fits) {
            continue;
        }
        const double score = score_of(tenant, c);
        if (score > best_score || (score == best_score && c->id.v < candidates[best].id.v)) {
            best = i;
            best_score = score;
        }
    }
    return best;
}

bool
cp_placement_pick(ort_tenant_id tenant, const cp_candidate *candidates, size_t count,
                  const cp_region_set *regions, ort_node_id *out)
{
    const size_t best = best_of(tenant, candidates, count, regions, NULL, 0, false);
    if (best == count) {
        return false;
    }
    *out = candidates[best].id;
    return true;
}

/* More replicas than this nobody asks for. */
#define RANK_MAX 64

size_t
cp_placement_rank(ort_tenant_id tenant, const cp_candidate *candidates, size_t count,
                  const cp_region_set *regions, ort_node_id *out, size_t want)
{
    size_t taken[RANK_MAX], n = 0;
    bool apart = true;
    while (n < want && n < RANK_MAX) {
        const size_t best = best_of(tenant, candidates, count, regions, taken, n, apart);
        if (best == count) {
            if (!apart) {
                break;
            }
            apart = false; /* every zone has one: go on without that rule */
            continue;
        }
        taken[n] = best;
        out[n++] = candidates[best].id;
    }
    return n;
}

bool
cp_placement_keep_or_pick(ort_tenant_id tenant, ort_node_id home, const cp_candidate *candidates,
                          size_t count, const cp_region_set *regions, ort_node_id *out)
{
    for (size_t i = 0; i < count; i++) {
        if (home.v != 0 && candidates[i].id.v == home.v &&
            cp_placement_allowed(regions, candidates[i].region)) {
            *out = home;
            return true;
        }
    }
    return cp_placement_pick(tenant, candidates, count, regions, out);
}
