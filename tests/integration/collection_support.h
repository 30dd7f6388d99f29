/* tests/integration/collection_support.h: a collection in a directory of its own, for tests. */
#ifndef COLLECTION_SUPPORT_H
#define COLLECTION_SUPPORT_H
#include "collection/collection.h"

typedef struct {
    char path[64];
    int dir, index_dir;
    dp_quota *quota; /* the tenant's */
    ort_pool *workers;
    dp_schema *schema;
    dp_collection *c;
    dp_collection_env env;
    uint64_t points_max;
} fixture;

/* An open, empty collection of this schema (JSON of a PUT body). threads 0: no background work. */
void fixture_init(fixture *f, const char *schema, uint32_t threads);
void fixture_open(fixture *f);
void fixture_close(fixture *f);
void fixture_reopen(fixture *f);
void fixture_fini(fixture *f); /* with all its files */

/* Applies the operation; the result of parsing or applying, with words. */
ort_err try_op(fixture *f, dp_op_kind kind, const char *json, dp_op_result *result, ort_diag *diag);

/* The same, which must succeed; printf-style. */
void do_op(fixture *f, dp_op_kind kind, const char *fmt, ...) ORT_PRINTF(3, 4);

dp_filter *make_filter(const char *json);

/* What an answer held. Texts are copies of payloads. */
#define ANSWER_MAX 512
typedef struct {
    size_t count;
    struct {
        size_t query;
        ort_point_id id;
        float score;
        uint64_t version;
        char payload[256];
    } at[ANSWER_MAX];
} answer;
ort_err collect(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view);

uint64_t count_where(fixture *f, const char *filter);

/* The answer to one dense query. */
void nearest(fixture *f, const char *name, const float *vector, uint32_t dim, uint64_t limit,
             const char *filter, bool exact, answer *out);
#endif /* COLLECTION_SUPPORT_H */
