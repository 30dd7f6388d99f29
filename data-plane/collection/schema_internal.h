/* data-plane/collection/schema_internal.h: the two halves of a schema: its text and what it means.
 *
 * The text is the truth: one JSON object, which stands in the catalog and comes back as the schema.
 * Creating and patching write a new text, and both end in dp_schema__from_text().
 *
 *   {"version":1,
 *    "single":true,                             vectors was one object, not a map of names
 *    "vectors":[{"name":"","params":{"size":4,"distance":"Cosine",..}},
 *               {"name":"words","sparse":true,"params":{"modifier":"idf"}},
 *               {"dropped":true,"name":"old","params":{..}}],   a place that is kept
 *    "params":{"shard_number":1,..},            as set, each of the rest too
 *    "hnsw_config":{..},"optimizers_config":{..},"wal_config":{..},"quantization_config":{..},
 *    "strict_mode_config":{..},"metadata":{..},
 *    "payload_schema":{"field":{"data_type":"keyword","params":{..}}}} */
#ifndef DP_SCHEMA_INTERNAL_H
#define DP_SCHEMA_INTERNAL_H
#include "collection/schema.h"

#define DP_SCHEMA_VERSION 1u

/* Takes buf's content, whatever happens; `where` names it in errors. ORT_ECORRUPT, ORT_EVERSION,
 * ORT_ENOMEM. */
ort_err dp_schema__from_text(dp_schema **out, ort_buf *buf, ort_diag *diag);

/* Writes the parameters of one vector, out of {"dense": {..}} or {"sparse": {..}}. The errors of
 * dp_schema_parse(). */
ort_err dp_schema__put_params(ort_jw *w, bool sparse, ort_json body, ort_diag *diag);

/* The text as a view; lives as long as the schema. */
ort_json dp_schema__view(const dp_schema *schema);
#endif /* DP_SCHEMA_INTERNAL_H */
