/* data-plane/collection/view_internal.h: points on their way to a callback. */
#ifndef DP_VIEW_INTERNAL_H
#define DP_VIEW_INTERNAL_H
#include "collection/shard_internal.h"

/* Shows points of one shard, under its view lock, through one reader. The caller's storage; ends
 * with dp_viewer__fini(). */
typedef struct {
    dp_shard *s;
    dp_reader *reader;
    bool want_payload;
    dp_point_fn fn;
    void *ctx;
    ort_diag *diag;
    const dp_order_value *order; /* of the next point shown, in an answer by order */
    uint32_t slot;               /* being shown */
    struct {
        void *bytes;
        size_t cap;
    } scratch[ORT_VECTORS_PER_POINT_MAX]; /* vector i of the point being shown, expanded */
} dp_viewer;

ort_err dp_viewer__show(dp_viewer *v, size_t query, uint32_t slot, float score);
void dp_viewer__fini(dp_viewer *v);
#endif /* DP_VIEW_INTERNAL_H */
