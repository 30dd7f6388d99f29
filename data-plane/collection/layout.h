/* data-plane/collection/layout.h: how storage keeps the points of a schema; for whoever opens the
 * files of a collection. */
#ifndef DP_COLLECTION_LAYOUT_H
#define DP_COLLECTION_LAYOUT_H
#include "collection/schema.h"
#include "storage/points.h"

/* How payloads are packed, as the schema says. */
dp_packing dp_collection_packing(const dp_schema *schema);

/* How a shard of that schema keeps its points; columns is the caller's and *out points into it. */
void dp_collection_points_config(const dp_schema *schema, ort_tenant_id tenant,
                                 ort_collection_id id, dp_column columns[ORT_VECTORS_PER_POINT_MAX],
                                 dp_points_config *out);
#endif /* DP_COLLECTION_LAYOUT_H */
