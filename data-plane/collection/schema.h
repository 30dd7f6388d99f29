/* data-plane/collection/schema.h: what a collection is made of: its vectors and its settings. */
#ifndef DP_SCHEMA_H
#define DP_SCHEMA_H
#include "base/json_read.h"
#include "base/json_write.h"
#include "base/limits.h"
#include "collection/strict.h"
#include "filter/field.h"
#include "index/coder.h"

/* Graph settings as they take effect for one vector: its own, over the collection's, over the
 * defaults. */
#define DP_FULL_SCAN_THRESHOLD_KB 10000u /* the default */
typedef struct {
    uint32_t m;       /* 0: no links but those by value */
    uint32_t value_m; /* of links among points of one value (hnsw_values.h); 0: there are none */
    bool value_m_all; /* by all indexed fields that may have them; else by is_tenant ones */
    uint32_t ef_construct;
    uint32_t full_scan_threshold_kb; /* below this many KB of rows a search scans */
    uint32_t indexing_threshold_kb;  /* below this many KB of rows no graph is built; 0: never */
    bool on_disk;                    /* links stay in the graph's file */
} dp_hnsw_settings;

/* One vector of the schema. Borrowed from it. */
typedef struct {
    const char *name; /* "" is the unnamed one */
    bool dropped;     /* taken away: its place is kept, its name finds nothing */
    bool sparse;
    bool multi;            /* dense only: a point holds several rows, compared by max_sim */
    bool idf;              /* sparse only: modifier */
    uint32_t size;         /* dense only: components */
    dp_metric metric;      /* dense only; sparse compares by dot product */
    dp_elem elem;          /* dense only: how a component is stored */
    bool on_disk;          /* dense only: rows are fetched from disk, not kept in memory */
    dp_hnsw_settings hnsw; /* dense only */
    dp_code code;          /* dense only: AUTO without a quantization_config */
    dp_code_options coding;
} dp_vector_schema;

/* Below this a scan answers within a tenth of a millisecond from the cache and a third from memory,
 * which is what the rest of a request takes; a graph would cost a third of the rows in memory, a
 * file, and half a second of a processor to build (tests/bench/run small; ADR 0115). */
#define DP_INDEXING_THRESHOLD_KB_DEFAULT 4000u

/* Immutable and counted: a change makes a new one, so that readers keep what they began with. The
 * order of vectors never changes for the life of a collection: vector i is column i of its points.
 * Threads: any number of readers. */
typedef struct dp_schema dp_schema;

dp_schema *dp_schema_ref(dp_schema *schema);
void dp_schema_unref(dp_schema *schema); /* NULL is fine */

/* The body of PUT /collections/{name}.
 *
 * ORT_EFORMAT    what does not deserialize: size 0, unknown distance or datatype, wrong types (400)
 * ORT_EVALIDATE  what breaks a bound: size 65537, ef_construct 3; diag "vectors.size: value 65537
 *                invalid, must be from 1 to 65536" (422)
 * ORT_EINVAL     sparse and dense vectors of one name and the like (400)
 * ORT_ENOMEM     as for the others, *out is NULL */
ORT_NODISCARD ort_err dp_schema_parse(dp_schema **out, ort_json body, ort_diag *diag);

/* The body of PATCH /collections/{name}, merged over `old`: diffs of vectors by name ("" =
 * unnamed), "Disabled" removes a quantization, a null of metadata removes its key. Errors as above;
 * ORT_EINVAL: "Not existing vector name error: X". `old` is untouched. */
ORT_NODISCARD ort_err dp_schema_patch(dp_schema **out, const dp_schema *old, ort_json body,
                                      ort_diag *diag);

/* To and from the JSON text of the catalog. Decode refuses what encode does not write. */
void dp_schema_encode(const dp_schema *schema, ort_jw *w);
ORT_NODISCARD ort_err dp_schema_decode(dp_schema **out, ort_json v, ort_diag *diag);

/* Writes the object `config` of GET /collections/{name}: params, hnsw_config, optimizer_config,
 * wal_config, quantization_config, and strict_mode_config and metadata when they were set. */
void dp_schema_write_config(const dp_schema *schema, ort_jw *w);

/* Writes the member `warnings`, where there are any: settings that have no effect as they stand. */
void dp_schema_write_warnings(const dp_schema *schema, ort_jw *w);

/* Declares an index of a payload field (a path), or with a value of type NONE takes it away; `old`
 * is untouched. Filters need no index and give the same with it; it is what clients see as
 * payload_schema. Declaring again replaces.
 *
 * ORT_EFORMAT: spec is neither a kind's name nor {"type": kind, ..}. ORT_EVALIDATE: an integer
 * index with neither lookup nor range. ORT_EFORMAT: a bad path. ORT_EBADREQ: over
 * DP_SCHEMA_FIELDS_MAX. */
#define DP_SCHEMA_FIELDS_MAX 256u
ORT_NODISCARD ort_err dp_schema_set_field(dp_schema **out, const dp_schema *old, const char *field,
                                          size_t len, ort_json spec, ort_diag *diag);

/* The declared fields: {"field": {"data_type": "keyword", "params": {..}}}; NONE when there are
 * none. Lives as long as the schema. */
ort_json dp_schema_peek_fields(const dp_schema *schema);

/* The strict mode; NULL when it is off. And the strict_mode_config as it was set. Both live as long
 * as the schema. */
const dp_strict *dp_schema_peek_strict(const dp_schema *schema);
ort_json dp_schema_peek_strict_config(const dp_schema *schema);

/* How payloads are packed on disk: "none", "lz4", "zstd", or NULL when it was not said; level 0
 * likewise. */
const char *dp_schema_payload_codec(const dp_schema *schema, uint32_t *level_out);

/* With a vector more: {"dense": {size, distance, ..}} or {"sparse": {..}}; `old` is untouched.
 * ORT_EEXISTS: there is one of that name. Otherwise the errors of dp_schema_parse().
 * Its column is new to points that are open: they must be opened again. */
ORT_NODISCARD ort_err dp_schema_add_vector(dp_schema **out, const dp_schema *old, const char *name,
                                           size_t len, ort_json body, ort_diag *diag);

/* With a vector less, which no point may hold any more.
 * ORT_EINVAL: "Not existing vector name error: X". ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_schema_drop_vector(dp_schema **out, const dp_schema *old, const char *name,
                                            size_t len, ort_diag *diag);

/* The declared fields as filters and indexes take them, or NULL; the schema keeps the reference. */
dp_fields *dp_schema_fields(const dp_schema *schema);

/* hnsw_config of vector i as it was set: links among all points, and among those of one value;
 * where nothing was said of the latter they are as many. */
void dp_schema_get_links(const dp_schema *schema, uint32_t i, uint32_t *m, uint32_t *payload_m);

/* Columns, those of vectors that were dropped included. */
uint32_t dp_schema_vector_count(const dp_schema *schema);
const dp_vector_schema *dp_schema_peek_vector(const dp_schema *schema, uint32_t i);

/* The index of the vector called name ("" = unnamed), or -1. */
int dp_schema_find_vector(const dp_schema *schema, const char *name, size_t len);

/* A collection's name when it is created: 1..255 characters of UTF-8, none of <>:"/\|?*, NUL and
 * control 0x1f, and not "." or ".."; names never become paths (directories are named by id), so
 * this is Qdrant's rule and no safety net. ORT_EVALIDATE: diag in Qdrant's words. */
ORT_NODISCARD ort_err dp_collection_name_check(const char *name, size_t len, ort_diag *diag);

/* A vector's name: 1..200 bytes. ORT_EVALIDATE otherwise. */
ORT_NODISCARD ort_err dp_vector_name_check(const char *name, size_t len, ort_diag *diag);

/* "Cosine", "Dot", "Euclid", "Manhattan": how requests and answers name a metric. */
const char *dp_metric_name(dp_metric metric);
#endif /* DP_SCHEMA_H */
