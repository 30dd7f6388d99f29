/* data-plane/collection/order_internal.h: points in the order of a payload field, or in none. */
#ifndef DP_ORDER_INTERNAL_H
#define DP_ORDER_INTERNAL_H
#include "collection/match_internal.h"
#include "filter/payload_index.h"

/* A point, for one of its values. */
typedef struct {
    dp_order_value value;
    ort_point_id id;
    uint32_t slot;
} dp_ordered;

/* The first k of these slots' values in that order: in memory for the caller to free(). Errors of
 * reading payloads, ORT_ENOMEM. */
ort_err dp_order__find(dp_reader *reader, const dp_order *order, const uint32_t *slots,
                       size_t count, size_t k, dp_ordered **out, size_t *n_out, ort_diag *diag);

/* The same from an index that holds every live slot: it is walked in order, and left as soon as
 * nothing better can come.
 *
 * allowed  a bit for each slot that passes the filter, or NULL: every live slot does */
ort_err dp_order__walk(dp_reader *reader, const dp_payload_index *index, const dp_order *order,
                       const uint64_t *allowed, size_t k, dp_ordered **out, size_t *n_out,
                       ort_diag *diag);

/* Moves k of them, any k with equal chance, to the front, in no order; k <= count. */
void dp_order__shuffle(uint32_t *slots, size_t count, size_t k);
#endif /* DP_ORDER_INTERNAL_H */
