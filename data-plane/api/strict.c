/* Strict mode at the border: what a request asks for against the limits its collection has set.
 *
 * One walk over the body serves all calls, since the members that cost something have the same
 * names in all of them: limit, params, filter, prefetch, searches, points, operations. What is
 * malformed is passed by: whoever reads it will say so. Words and order as Qdrant's. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/api_internal.h"

typedef struct {
    dp_call *call;
    dp_schema *schema;
    const dp_strict *strict;
    bool write;
    uint64_t cost;   /* tokens of a rate */
    uint64_t points; /* that an upsert brings */
} strict_check;

static ort_err
refuse(strict_check *c, const char *error, const char *help)
{
    return ort_fail(&c->call->diag, ORT_EBADREQ, "%s. Help: %s", error, help);
}

static ort_err
check_limit(strict_check *c, const char *name, uint64_t value, uint64_t limit)
{
    char error[160], help[160];

    if (value <= limit) {
        return ORT_OK;
    }
    snprintf(error, sizeof error, "Limit exceeded %llu > %llu for \"%s\"",
             (unsigned long long)value, (unsigned long long)limit, name);
    snprintf(help, sizeof help, "Reduce the \"%s\" parameter to or below %llu.", name,
             (unsigned long long)limit);
    return refuse(c, error, help);
}

/* --- filters --------------------------------------------------------------------------------- */

/* The types of index that answer a condition, or NULL: it needs none. */
static const char *
wanted_types(ort_json condition)
{
    static const char *const geo[] = {"geo_bounding_box", "geo_radius", "geo_polygon"};
    const ort_json match = ort_json_get(condition, "match");
    const ort_json range = ort_json_get(condition, "range");

    if (ort_json_given(match)) {
        ort_json v = ort_json_get(match, "value");
        static const char *const lists[] = {"any", "except"};
        for (size_t i = 0; i < 2 && !ort_json_given(v); i++) {
            ort_json_iter it = ort_json_each(ort_json_get(match, lists[i]));
            v = ort_json_step(&it) ? it.value : v;
        }
        switch (ort_json_type_of(v)) {
        case ORT_JSON_STRING:
            return "keyword, uuid";
        case ORT_JSON_NUMBER:
            return "integer";
        case ORT_JSON_BOOL:
            return "bool";
        default:
            return ort_json_given(ort_json_get(match, "prefix")) ? "keyword" : "text";
        }
    }
    if (ort_json_given(range)) {
        for (ort_json_iter it = ort_json_each(range); ort_json_step(&it);) {
            if (ort_json_type_of(it.value) == ORT_JSON_STRING) {
                return "datetime";
            }
        }
        return "integer, float";
    }
    for (size_t i = 0; i < sizeof geo / sizeof geo[0]; i++) {
        if (ort_json_given(ort_json_get(condition, geo[i]))) {
            return "geo";
        }
    }
    return NULL;
}

static bool
field_is_indexed(strict_check *c, const char *path, const char *types)
{
    const ort_json kind =
        ort_json_get(ort_json_get(dp_schema_peek_fields(c->schema), path), "data_type");
    size_t len;
    const char *name = ort_json_str(kind, &len);

    if (name == NULL) {
        return false;
    }
    for (const char *at = types; at != NULL; at = strchr(at, ',')) {
        at += strspn(at, ", ");
        if (strcspn(at, ",") == len && strncmp(at, name, len) == 0) {
            return true;
        }
    }
    return false;
}

static ort_err
check_key(strict_check *c, ort_json condition, const char *inside)
{
    size_t len;
    const char *key = ort_json_str(ort_json_get(condition, "key"), &len);
    const char *types = wanted_types(condition);
    char path[512], error[700];
    const bool allowed =
        c->write ? c->strict->unindexed_filtering_update : c->strict->unindexed_filtering_retrieve;

    if (allowed || key == NULL || types == NULL || len + strlen(inside) >= sizeof path) {
        return ORT_OK;
    }
    snprintf(path, sizeof path, "%s%.*s", inside, (int)len, key);
    if (field_is_indexed(c, path, types)) {
        return ORT_OK;
    }
    snprintf(error, sizeof error,
             "Index required but not found for \"%s\" of one of the following types: [%s]", path,
             types);
    return refuse(c, error, "Create an index for this key or use a different filter.");
}

/* Lists of values in a condition: match any, match except, has_id. */
static ort_err
check_condition_size(strict_check *c, ort_json condition)
{
    const ort_json match = ort_json_get(condition, "match");
    const ort_json lists[] = {ort_json_get(match, "any"), ort_json_get(match, "except"),
                              ort_json_get(condition, "has_id")};
    char error[120];

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (ort_json_count(lists[i]) > c->strict->condition_max_size) {
            snprintf(error, sizeof error, "Condition size limit reached (%u > %llu)",
                     ort_json_count(lists[i]), (unsigned long long)c->strict->condition_max_size);
            return refuse(c, error, "Reduce the number of values in the condition.");
        }
    }
    return ORT_OK;
}

static ort_err check_filter(strict_check *c, ort_json filter, const char *inside, uint64_t *count);

static ort_err
check_condition(strict_check *c, ort_json condition, const char *inside, uint64_t *count)
{
    const ort_json nested = ort_json_get(condition, "nested");
    ort_err err;

    if (ort_json_given(nested)) {
        size_t len;
        const char *key = ort_json_str(ort_json_get(nested, "key"), &len);
        char path[512];
        if (key == NULL || len + strlen(inside) + 4 > sizeof path) {
            return ORT_OK;
        }
        const bool many = len > 2 && memcmp(key + len - 2, "[]", 2) == 0;
        snprintf(path, sizeof path, "%s%.*s%s.", inside, (int)len, key, many ? "" : "[]");
        return check_filter(c, ort_json_get(nested, "filter"), path, count);
    }
    err = check_filter(c, condition, inside, count); /* a filter as a condition */
    if (err == ORT_OK && !ort_json_given(ort_json_get(condition, "must")) &&
        !ort_json_given(ort_json_get(condition, "should")) &&
        !ort_json_given(ort_json_get(condition, "must_not")) &&
        !ort_json_given(ort_json_get(condition, "min_should"))) {
        ++*count;
        err = check_condition_size(c, condition);
        err = err == ORT_OK ? check_key(c, condition, inside) : err;
    }
    return err;
}

static ort_err
check_conditions(strict_check *c, ort_json list, const char *inside, uint64_t *count)
{
    ort_err err = ORT_OK;

    if (ort_json_type_of(list) == ORT_JSON_OBJECT) {
        return check_condition(c, list, inside, count);
    }
    for (ort_json_iter it = ort_json_each(list); err == ORT_OK && ort_json_step(&it);) {
        err = check_condition(c, it.value, inside, count);
    }
    return err;
}

static ort_err
check_filter(strict_check *c, ort_json filter, const char *inside, uint64_t *count)
{
    static const char *const clauses[] = {"must", "should", "must_not"};
    ort_err err = ORT_OK;

    for (size_t i = 0; err == ORT_OK && i < sizeof clauses / sizeof clauses[0]; i++) {
        err = check_conditions(c, ort_json_get(filter, clauses[i]), inside, count);
    }
    if (err == ORT_OK) {
        const ort_json min_should = ort_json_get(filter, "min_should");
        err = check_conditions(c, ort_json_get(min_should, "conditions"), inside, count);
    }
    return err;
}

static ort_err
check_whole_filter(strict_check *c, ort_json filter)
{
    uint64_t count = 0;
    char error[120];
    ort_err err = check_filter(c, filter, "", &count);

    c->cost += count;
    if (err == ORT_OK && count > c->strict->filter_max_conditions) {
        snprintf(error, sizeof error, "Filter condition limit reached (%llu > %llu)",
                 (unsigned long long)count, (unsigned long long)c->strict->filter_max_conditions);
        err = refuse(c, error, "Reduce the amount of conditions of your filter.");
    }
    return err;
}

/* --- reads ----------------------------------------------------------------------------------- */

static ort_err
check_params(strict_check *c, ort_json params)
{
    const dp_strict *s = c->strict;
    uint64_t ef = 0;
    bool exact = false;
    double oversampling = 0;
    ort_err err = ORT_OK;

    if (ort_json_u64(ort_json_get(params, "hnsw_ef"), &ef) == ORT_OK) {
        err = check_limit(c, "hnsw_ef", ef, s->search_max_hnsw_ef);
    }
    if (err == ORT_OK && ort_json_bool(ort_json_get(params, "exact"), &exact) == ORT_OK && exact &&
        !s->search_allow_exact) {
        err = refuse(c, "Exact search disabled!", "Set exact=false.");
    }
    const ort_json given = ort_json_get(ort_json_get(params, "quantization"), "oversampling");
    if (err == ORT_OK && ort_json_f64(given, &oversampling) == ORT_OK &&
        oversampling > s->search_max_oversampling) {
        char error[120], help[120];
        snprintf(error, sizeof error, "Limit exceeded %g > %g for \"oversampling\"", oversampling,
                 s->search_max_oversampling);
        snprintf(help, sizeof help, "Reduce the \"oversampling\" parameter to or below %g.",
                 s->search_max_oversampling);
        err = refuse(c, error, help);
    }
    return err;
}

/* How many vectors or ids a query brings as examples. */
static uint64_t
examples_in(ort_json v)
{
    static const char *const lists[] = {"positive", "negative", "context"};
    uint64_t n = 0;

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        const ort_json list = ort_json_get(v, lists[i]);
        n += ort_json_type_of(list) == ORT_JSON_ARRAY ? ort_json_count(list) : 0;
    }
    return n;
}

/* One search, with all that it fetches before. */
static ort_err
check_read(strict_check *c, ort_json body)
{
    const ort_json prefetch = ort_json_get(body, "prefetch"), query = ort_json_get(body, "query");
    uint64_t limit;
    ort_err err = ORT_OK;

    c->cost += examples_in(body) + examples_in(ort_json_get(query, "recommend")) +
               examples_in(ort_json_get(query, "discover"));
    if (ort_json_u64(ort_json_get(body, "limit"), &limit) == ORT_OK ||
        ort_json_u64(ort_json_get(body, "top"), &limit) == ORT_OK) {
        err = check_limit(c, "limit", limit, c->strict->max_query_limit);
    }
    if (err == ORT_OK) {
        err = check_params(c, ort_json_get(body, "params"));
    }
    if (err == ORT_OK) {
        err = check_whole_filter(c, ort_json_get(body, "filter"));
    }
    if (err == ORT_OK && ort_json_type_of(prefetch) == ORT_JSON_OBJECT) {
        return check_read(c, prefetch);
    }
    for (ort_json_iter it = ort_json_each(prefetch); err == ORT_OK && ort_json_step(&it);) {
        err = check_read(c, it.value);
    }
    return err;
}

static ort_err
check_reads(strict_check *c, ort_json body)
{
    const ort_json searches = ort_json_get(body, "searches");
    ort_err err = ORT_OK;

    if (ort_json_type_of(searches) != ORT_JSON_ARRAY) {
        c->cost = 1;
        return check_read(c, body);
    }
    err = check_limit(c, "search batch size", ort_json_count(searches),
                      c->strict->search_max_batchsize);
    for (ort_json_iter it = ort_json_each(searches); err == ORT_OK && ort_json_step(&it);) {
        c->cost++;
        err = check_read(c, it.value);
    }
    return err;
}

/* --- writes ---------------------------------------------------------------------------------- */

/* A vector that a point brings, under its name. */
static ort_err
check_vector(strict_check *c, const char *name, size_t len, ort_json v)
{
    const ort_json config = dp_schema_peek_strict_config(c->schema);
    const ort_json indices = ort_json_get(v, "indices");
    const bool multi = ort_json_type_of(v) == ORT_JSON_ARRAY && !ort_json_is_numbers(v);
    char error[120];
    uint64_t most = DP_STRICT_NO_LIMIT, count = 0;

    if (multi) {
        most = dp_strict_of_vector(config, "multivector_config", name, len, "max_vectors");
        count = ort_json_count(v);
    } else if (ort_json_given(indices)) {
        most = dp_strict_of_vector(config, "sparse_config", name, len, "max_length");
        count = ort_json_count(indices);
    }
    if (count <= most) {
        return ORT_OK;
    }
    snprintf(error, sizeof error, "%s '%.*s' has a limit of %llu %s",
             multi ? "Multivector" : "Sparse vector", len > 40 ? 40 : (int)len, name,
             (unsigned long long)most, multi ? "vectors" : "indices");
    return refuse(c, error, "Reduce the size of the vector.");
}

static ort_err
check_point_vectors(strict_check *c, ort_json vectors)
{
    ort_err err = ORT_OK;

    if (ort_json_type_of(vectors) != ORT_JSON_OBJECT ||
        ort_json_given(ort_json_get(vectors, "indices"))) {
        return check_vector(c, "", 0, vectors);
    }
    for (ort_json_iter it = ort_json_each(vectors); err == ORT_OK && ort_json_step(&it);) {
        size_t len;
        const char *name = ort_json_str(it.key, &len);
        err = name != NULL ? check_vector(c, name, len, it.value) : ORT_ENOMEM;
    }
    return err;
}

static ort_err
check_columns(strict_check *c, ort_json vectors)
{
    ort_err err = ORT_OK;

    if (ort_json_type_of(vectors) == ORT_JSON_ARRAY) {
        for (ort_json_iter it = ort_json_each(vectors); err == ORT_OK && ort_json_step(&it);) {
            err = check_vector(c, "", 0, it.value);
        }
        return err;
    }
    for (ort_json_iter at = ort_json_each(vectors); err == ORT_OK && ort_json_step(&at);) {
        size_t len;
        const char *name = ort_json_str(at.key, &len);
        for (ort_json_iter it = ort_json_each(at.value);
             name != NULL && err == ORT_OK && ort_json_step(&it);) {
            err = check_vector(c, name, len, it.value);
        }
    }
    return err;
}

/* {points: [..]}, {batch: {..}} or {filter}: an upsert brings whole points, the others name some.
 */
static ort_err
check_write(strict_check *c, ort_json body, bool upsert)
{
    const ort_json points = ort_json_get(body, "points"), batch = ort_json_get(body, "batch");
    const ort_json vectors = ort_json_get(batch, "vectors");
    uint64_t brought = ort_json_count(ort_json_get(batch, "ids"));
    ort_err err = check_whole_filter(c, ort_json_get(body, "filter"));

    if (err == ORT_OK) {
        err = check_whole_filter(c, ort_json_get(body, "update_filter"));
    }
    for (ort_json_iter it = ort_json_each(points); err == ORT_OK && ort_json_step(&it);) {
        if (ort_json_type_of(it.value) == ORT_JSON_OBJECT) {
            const ort_json one = ort_json_get(it.value, "vector");
            brought++;
            err = check_point_vectors(c, ort_json_given(one) ? one
                                                             : ort_json_get(it.value, "vectors"));
        } else {
            c->cost++;
        }
    }
    if (err == ORT_OK) {
        err = check_columns(c, ort_json_given(vectors) ? vectors : ort_json_get(batch, "vector"));
    }
    c->cost += brought;
    c->points += upsert ? brought : 0;
    return err == ORT_OK && upsert
               ? check_limit(c, "upsert limit", brought, c->strict->upsert_max_batchsize)
               : err;
}

static ort_err
check_writes(strict_check *c, ort_json body)
{
    const ort_json operations = ort_json_get(body, "operations");
    ort_err err = ORT_OK;

    if (ort_json_type_of(operations) != ORT_JSON_ARRAY) {
        return check_write(c, body, c->call->route->fn == dp_api__points_upsert);
    }
    for (ort_json_iter at = ort_json_each(operations); err == ORT_OK && ort_json_step(&at);) {
        for (ort_json_iter it = ort_json_each(at.value); err == ORT_OK && ort_json_step(&it);) {
            err = check_write(c, it.value, ort_json_str_is(it.key, "upsert"));
        }
    }
    return err;
}

static ort_err
check_size(strict_check *c, const char *what, uint64_t bytes, uint64_t limit)
{
    char error[120];

    if (bytes < limit) {
        return ORT_OK;
    }
    snprintf(error, sizeof error, "Max %s storage size limit of %lluMB reached!", what,
             (unsigned long long)(limit >> 20));
    return refuse(c, error,
                  "Delete some points to free up resources or increase the limit in strict mode.");
}

/* Whether an upsert may add to what is there. Against what is there now: two at once may both pass,
 * since this protects from mistakes; what must be exact is the plan's quota. */
static ort_err
check_room(strict_check *c)
{
    const dp_strict *s = c->strict;
    dp_collection_info info;
    char error[120];

    if (c->points == 0) {
        return ORT_OK;
    }
    dp_collection_get_info(c->call->collection, &info);
    if (info.points >= s->max_points_count || c->points > s->max_points_count - info.points) {
        snprintf(error, sizeof error, "Max points count limit of %llu reached",
                 (unsigned long long)s->max_points_count);
        return refuse(c, error, "Delete some points or increase the limit in strict mode.");
    }
    const uint64_t rest = info.bytes - info.vector_bytes;
    const uint64_t payload = rest > 17 * info.points ? rest - 17 * info.points : 0;
    const ort_err err =
        check_size(c, "vector", info.vector_bytes, s->max_collection_vector_size_bytes);
    return err == ORT_OK ? check_size(c, "payload", payload, s->max_collection_payload_size_bytes)
                         : err;
}

/* --- all of it ------------------------------------------------------------------------------- */

static ort_err
check_timeout(strict_check *c)
{
    const char *text = ort_http_req_query(c->call->req, "timeout");
    uint64_t s = 0;

    for (; text != NULL && *text >= '0' && *text <= '9' && s < UINT32_MAX; text++) {
        s = s * 10 + (uint64_t)(*text - '0');
    }
    return check_limit(c, "timeout", s, c->strict->max_timeout);
}

static ort_err
spend(strict_check *c)
{
    const uint64_t rate = c->write ? c->strict->write_rate_limit : c->strict->read_rate_limit;
    uint64_t retry_s = 0;

    if (rate == DP_STRICT_NO_LIMIT) {
        return ORT_OK;
    }
    const ort_err err = dp_collection_spend(c->call->collection, c->write, rate,
                                            c->cost > 0 ? c->cost : 1, &retry_s, &c->call->diag);
    if (err == ORT_ERATE) {
        ort_http_headerf(c->call->req, "Retry-After", "%llu", (unsigned long long)retry_s);
    }
    return err;
}

ort_err
dp_api__check_strict(dp_call *call)
{
    dp_schema *schema = dp_collection_schema(call->collection);
    strict_check c = {
        .call = call,
        .schema = schema,
        .strict = dp_schema_peek_strict(schema),
        .write = call->route->meter == DP_METER_WRITE,
    };
    const ort_json body = call->doc != NULL ? ort_json_root(call->doc) : (ort_json){0};
    ort_err err = ORT_OK;

    if (c.strict != NULL && (call->route->scopes_any & DP_SCOPE_COLLECTIONS_MANAGE) == 0) {
        err = check_timeout(&c);
        if (err == ORT_OK) {
            err = c.write ? check_writes(&c, body) : check_reads(&c, body);
        }
        if (err == ORT_OK) {
            err = check_room(&c);
        }
        if (err == ORT_OK) {
            err = spend(&c);
        }
    }
    dp_schema_unref(schema);
    return err;
}
