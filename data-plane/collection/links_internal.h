/* data-plane/collection/links_internal.h: graph links among points of one value of a field.
 *
 *   schema ──(declare)──► fields of the graph ──(tend: payloads read, values told)──► walked
 *
 * A field is one number to the graph, a value another: hashes. What a slot holds never changes, so
 * a slot is told of once; a payload that changes makes a new slot. */
#ifndef DP_LINKS_INTERNAL_H
#define DP_LINKS_INTERNAL_H
#include "collection/payload_index_internal.h"
#include "index/hnsw_values.h"

/* Whether a vector shall have links by value. maintaining or view is held. */
bool dp_links__are_wanted(const dp_schema *schema, uint32_t column);

/* --- maintenance: maintaining is held, view is not */

/* Sees to it that the graph keeps links by the fields that the schema says, and no others. */
void dp_links__declare(dp_shard *s, uint32_t column);

/* Tells the graph of a slice of the slots that it has; how many slots are left. */
uint32_t dp_links__tend(dp_shard *s, uint32_t column);

/* Slots from here on are told of again. */
void dp_links__forget_from(dp_hnsw *graph, uint32_t slot);

/* Slots that are in the graph and wait to be told of. view is held. */
uint64_t dp_links__due(const dp_shard *s, uint32_t column);

/* --- searches: view is held */

/* How a filter that asks for a value may be searched. */
typedef struct {
    dp_hnsw_among among;   /* the value; no share, no slots */
    const dp_slots *slots; /* that have the value, dead ones too; NULL: the field's index is not
                            * there yet, ask the points themselves */
    dp_slots *own;
    uint64_t count; /* of them */
    uint32_t end;   /* slots from here on are not linked yet */
    bool alone;     /* nothing else is asked: they are the matches */
} dp_links_plan;

/* False: no value that the filter asks for has links of its own. Of several, the one with the
 * fewest points. Release with fini. */
bool dp_links__plan(dp_shard *s, uint32_t column, const dp_filter *filter, dp_links_plan *out);
void dp_links__plan_fini(dp_links_plan *plan);
#endif /* DP_LINKS_INTERNAL_H */
