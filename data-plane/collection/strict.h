/* data-plane/collection/strict.h: limits a tenant sets on a collection of its own (strict mode). */
#ifndef DP_STRICT_H
#define DP_STRICT_H
#include <pthread.h>

#include "base/json_read.h"

#define DP_STRICT_NO_LIMIT UINT64_MAX

/* They protect an application from itself and stand below the hub's plan limits, which know nothing
 * of them: whoever may change the collection may switch them off. */
typedef struct {
    bool enabled;
    bool unindexed_filtering_retrieve; /* allowed, as the two below; true unless forbidden */
    bool unindexed_filtering_update;
    bool search_allow_exact;
    double search_max_oversampling; /* INFINITY: no limit; the others: DP_STRICT_NO_LIMIT */
    uint64_t max_query_limit;
    uint64_t max_timeout; /* seconds */
    uint64_t search_max_hnsw_ef;
    uint64_t search_max_batchsize;
    uint64_t upsert_max_batchsize;
    uint64_t max_collection_vector_size_bytes;
    uint64_t max_collection_payload_size_bytes;
    uint64_t max_points_count;
    uint64_t max_payload_index_count;
    uint64_t read_rate_limit;  /* a minute */
    uint64_t write_rate_limit; /* a minute */
    uint64_t filter_max_conditions;
    uint64_t condition_max_size;
} dp_strict;

/* Reads strict_mode_config: a missing or null one, and null members, set nothing; unknown members
 * are left alone.
 *
 * ORT_EFORMAT    a member of another type (400)
 * ORT_EVALIDATE  "strict_mode_config.max_query_limit: value 0 invalid, must be 1 or larger" (422)
 */
ORT_NODISCARD ort_err dp_strict_read(dp_strict *out, ort_json config, ort_diag *diag);

/* A member of multivector_config or sparse_config: what it says of the vector called `name`
 * ("" = unnamed); DP_STRICT_NO_LIMIT: nothing. `config` is the strict_mode_config. */
uint64_t dp_strict_of_vector(ort_json config, const char *kind, const char *name, size_t name_len,
                             const char *member);

/* Tokens by the minute, full at first. Threads: any. */
typedef struct {
    pthread_mutex_t lock;
    double tokens;
    uint64_t at_ns; /* 0: not used yet */
} dp_strict_bucket;

void dp_strict_bucket_init(dp_strict_bucket *bucket);
void dp_strict_bucket_fini(dp_strict_bucket *bucket);

/* Takes `cost` tokens of a bucket of per_minute; more than the bucket ever holds is taken when it
 * is full, so that a large request is late and not impossible. false: not there, nothing taken,
 * *left is what there was, and *retry_s when to come again. */
bool dp_strict_bucket_take(dp_strict_bucket *bucket, uint64_t per_minute, uint64_t cost,
                           uint64_t now_ns, double *left, uint64_t *retry_s);
#endif /* DP_STRICT_H */
