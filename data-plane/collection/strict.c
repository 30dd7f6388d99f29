/* Strict mode: its settings, and buckets of tokens. What is checked where stands in api/strict.c.
 */
#include "collection/strict.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

typedef enum { MEMBER_BOOL, MEMBER_COUNT, MEMBER_POSITIVE, MEMBER_FACTOR } member_kind;

static const struct {
    const char *name;
    member_kind kind;
    size_t offset;
} members[] = {
    {"enabled", MEMBER_BOOL, offsetof(dp_strict, enabled)},
    {"unindexed_filtering_retrieve", MEMBER_BOOL,
     offsetof(dp_strict, unindexed_filtering_retrieve)},
    {"unindexed_filtering_update", MEMBER_BOOL, offsetof(dp_strict, unindexed_filtering_update)},
    {"search_allow_exact", MEMBER_BOOL, offsetof(dp_strict, search_allow_exact)},
    {"search_max_oversampling", MEMBER_FACTOR, offsetof(dp_strict, search_max_oversampling)},
    {"max_query_limit", MEMBER_POSITIVE, offsetof(dp_strict, max_query_limit)},
    {"max_timeout", MEMBER_POSITIVE, offsetof(dp_strict, max_timeout)},
    {"search_max_hnsw_ef", MEMBER_COUNT, offsetof(dp_strict, search_max_hnsw_ef)},
    {"search_max_batchsize", MEMBER_COUNT, offsetof(dp_strict, search_max_batchsize)},
    {"upsert_max_batchsize", MEMBER_COUNT, offsetof(dp_strict, upsert_max_batchsize)},
    {"max_collection_vector_size_bytes", MEMBER_COUNT,
     offsetof(dp_strict, max_collection_vector_size_bytes)},
    {"max_collection_payload_size_bytes", MEMBER_COUNT,
     offsetof(dp_strict, max_collection_payload_size_bytes)},
    {"max_points_count", MEMBER_POSITIVE, offsetof(dp_strict, max_points_count)},
    {"max_payload_index_count", MEMBER_COUNT, offsetof(dp_strict, max_payload_index_count)},
    {"read_rate_limit", MEMBER_POSITIVE, offsetof(dp_strict, read_rate_limit)},
    {"write_rate_limit", MEMBER_POSITIVE, offsetof(dp_strict, write_rate_limit)},
    {"filter_max_conditions", MEMBER_COUNT, offsetof(dp_strict, filter_max_conditions)},
    {"condition_max_size", MEMBER_COUNT, offsetof(dp_strict, condition_max_size)},
};
#define MEMBERS (sizeof members / sizeof members[0])

static ort_err
wrong(ort_diag *diag, const char *name, const char *expected)
{
    return ort_fail(diag, ORT_EFORMAT, "strict_mode_config.%s: invalid type, expected %s", name,
                    expected);
}

static ort_err
read_member(dp_strict *out, size_t i, ort_json v, ort_diag *diag)
{
    char *at = (char *)out + members[i].offset;
    uint64_t n;

    if (members[i].kind == MEMBER_BOOL) {
        return ort_json_bool(v, (bool *)(void *)at) == ORT_OK
                   ? ORT_OK
                   : wrong(diag, members[i].name, "a boolean");
    }
    if (members[i].kind == MEMBER_FACTOR) {
        return ort_json_f64(v, (double *)(void *)at) == ORT_OK
                   ? ORT_OK
                   : wrong(diag, members[i].name, "f64");
    }
    if (ort_json_u64(v, &n) != ORT_OK) {
        return wrong(diag, members[i].name, "usize");
    }
    if (n == 0 && members[i].kind == MEMBER_POSITIVE) {
        return ort_fail(diag, ORT_EVALIDATE,
                        "strict_mode_config.%s: value 0 invalid, must be 1 or larger",
                        members[i].name);
    }
    memcpy(at, &n, sizeof n);
    return ORT_OK;
}

ort_err
dp_strict_read(dp_strict *out, ort_json config, ort_diag *diag)
{
    static const char *const maps[] = {"multivector_config", "sparse_config"};
    ort_err err = ORT_OK;

    *out = (dp_strict){
        .unindexed_filtering_retrieve = true,
        .unindexed_filtering_update = true,
        .search_allow_exact = true,
        .search_max_oversampling = (double)INFINITY,
    };
    for (size_t i = 0; i < MEMBERS; i++) {
        if (members[i].kind == MEMBER_COUNT || members[i].kind == MEMBER_POSITIVE) {
            memset((char *)out + members[i].offset, 0xff, sizeof(uint64_t)); /* NO_LIMIT */
        }
    }
    if (!ort_json_given(config)) {
        return ORT_OK;
    }
    if (ort_json_type_of(config) != ORT_JSON_OBJECT) {
        return ort_fail(diag, ORT_EFORMAT, "strict_mode_config: invalid type, expected an object");
    }
    for (size_t i = 0; err == ORT_OK && i < MEMBERS; i++) {
        const ort_json v = ort_json_get(config, members[i].name);
        if (ort_json_given(v)) {
            err = read_member(out, i, v, diag);
        }
    }
    for (size_t i = 0; err == ORT_OK && i < sizeof maps / sizeof maps[0]; i++) {
        const ort_json map = ort_json_get(config, maps[i]);
        if (ort_json_given(map) && ort_json_type_of(map) != ORT_JSON_OBJECT) {
            err = wrong(diag, maps[i], "a map");
        }
    }
    return err;
}

uint64_t
dp_strict_of_vector(ort_json config, const char *kind, const char *name, size_t name_len,
                    const char *member)
{
    uint64_t n = DP_STRICT_NO_LIMIT;

    for (ort_json_iter it = ort_json_each(ort_json_get(config, kind)); ort_json_step(&it);) {
        size_t len;
        const char *key = ort_json_str(it.key, &len);
        if (key != NULL && len == name_len && memcmp(key, name, len) == 0 &&
            ort_json_u64(ort_json_get(it.value, member), &n) != ORT_OK) {
            n = DP_STRICT_NO_LIMIT;
        }
    }
    return n;
}

void
dp_strict_bucket_init(dp_strict_bucket *bucket)
{
    *bucket = (dp_strict_bucket){0};
    pthread_mutex_init(&bucket->lock, NULL);
}

void
dp_strict_bucket_fini(dp_strict_bucket *bucket)
{
    pthread_mutex_destroy(&bucket->lock);
}

bool
dp_strict_bucket_take(dp_strict_bucket *bucket, uint64_t per_minute, uint64_t cost, uint64_t now_ns,
                      double *left, uint64_t *retry_s)
{
    const double most = (double)per_minute;
    const double wanted = (double)cost < most ? (double)cost : most;
    bool taken;

    pthread_mutex_lock(&bucket->lock);
    if (bucket->at_ns == 0) {
        bucket->tokens = most;
    } else if (now_ns > bucket->at_ns) {
        bucket->tokens += (double)(now_ns - bucket->at_ns) / 60e9 * most;
    }
    bucket->at_ns = now_ns != 0 ? now_ns : 1;
    bucket->tokens = bucket->tokens < most ? bucket->tokens : most;
    taken = bucket->tokens >= wanted;
    if (taken) {
        bucket->tokens -= wanted;
    } else {
        *left = bucket->tokens;
        *retry_s = (uint64_t)ceil((wanted - bucket->tokens) * 60.0 / most);
    }
    pthread_mutex_unlock(&bucket->lock);
    return taken;
}
