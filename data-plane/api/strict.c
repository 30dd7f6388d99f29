/* Strict mode at the border: what a request asks for against the limits its collection has set.
 *
 * One walk over the body serves all calls, since the members that cost something have the same
 * names in all of them: limit, params, filter, prefetch, searches, points, operations. What is
 * malformed is passed by: whoever reads it will say so. Words and order as Qdrant's. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/strict_internal.h"
#include "base/num.h"

ort_err
dp_strict__refuse(strict_check *c, const char *error, const char *help)
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
    return dp_strict__refuse(c, error, help);
}

/* --- reads ----------------------------------------------------------------------------------- */

/* A float as Rust prints it: the shortest, no point where there is no fraction. */
static const char *
shown(float v, char out[ORT_NUM_TEXT_BYTES])
{
    const size_t len = ort_num_put_f32(out, v);
    if (len > 2 && strcmp(out + len - 2, ".0") == 0) {
        out[len - 2] = '\0';
    }
    return out;
}

static ort_err
check_oversampling(strict_check *c, double asked)
{
    const double most = c->strict->search_max_oversampling;
    char a[ORT_NUM_TEXT_BYTES], b[ORT_NUM_TEXT_BYTES], error[120], help[120];

    if (!(asked > most)) {
        return ORT_OK;
    }
    snprintf(error, sizeof error, "Limit exceeded %s > %s for \"oversampling\"",
             shown((float)asked, a), shown((float)most, b));
    snprintf(help, sizeof help, "Reduce the \"oversampling\" parameter to or below %s.", b);
    return dp_strict__refuse(c, error, help);
}

/* `exact` of a body or of its params; `absent` is what it is when it is not there. */
static ort_err
check_exact(strict_check *c, ort_json holder, bool absent)
{
    bool exact = absent;

    return !c->strict->search_allow_exact &&
                   (ort_json_bool(ort_json_get(holder, "exact"), &exact) == ORT_OK || absent) &&
                   exact
               ? dp_strict__refuse(c, "Exact search disabled!", "Set exact=false.")
               : ORT_OK;
}

static ort_err
check_params(strict_check *c, ort_json params)
{
    const dp_strict *s = c->strict;
    const ort_json given = ort_json_get(ort_json_get(params, "quantization"), "oversampling");
    uint64_t ef = 0;
    double oversampling = 0;
    ort_err err = ORT_OK;

    if (ort_json_f64(given, &oversampling) == ORT_OK) {
        err = check_oversampling(c, oversampling);
    }
    if (err == ORT_OK && ort_json_u64(ort_json_get(params, "hnsw_ef"), &ef) == ORT_OK) {
        err = check_limit(c, "hnsw_ef", ef, s->search_max_hnsw_ef);
    }
    if (err == ORT_OK) { /* the points among which words are rare are looked for like others */
        err = dp_strict__check_filter(c, ort_json_get(ort_json_get(params, "idf"), "corpus"));
    }
    return err == ORT_OK ? check_exact(c, params, false) : err;
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

/* Whether the query compares vectors, and so may have to look at all of them. */
static bool
compares_vectors(ort_json query)
{
    static const char *const others[] = {"fusion", "rrf", "order_by", "formula", "sample"};

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (ort_json_given(ort_json_get(query, others[i]))) {
            return false;
        }
    }
    return ort_json_given(query);
}

/* Without links among all points a search looks at every one of them, unless it stays within what a
 * tenant's own links connect. */
static ort_err
check_full_scan(strict_check *c, ort_json body)
{
    const ort_json using = ort_json_get(body, "using");
    uint32_t m, payload_m;
    size_t len = 0;
    char label[ORT_VECTOR_NAME_BYTES_MAX + 16] = "", error[ORT_VECTOR_NAME_BYTES_MAX + 200];
    const char *name = ort_json_str(using, &len);
    const int i = dp_schema_find_vector(c->schema, name != NULL ? name : "", len);

    if (c->strict->search_allow_exact || !compares_vectors(ort_json_get(body, "query")) || i < 0 ||
        dp_schema_peek_vector(c->schema, (uint32_t)i)->sparse) {
        return ORT_OK;
    }
    dp_schema_get_links(c->schema, (uint32_t)i, &m, &payload_m);
    if (len > 0) {
        snprintf(label, sizeof label, " on '%.*s'", (int)len, name);
    }
    if (m > 0) {
        return ORT_OK;
    }
    if (!dp_strict__names_tenant(c, ort_json_get(body, "filter"))) {
        snprintf(error, sizeof error,
                 "Request is forbidden%s because global vector indexing is disabled (hnsw_config.m "
                 "= 0)",
                 label);
        return dp_strict__refuse(c, error,
                                 "Use tenant-specific filter, enable global vector indexing or "
                                 "enable strict mode `search_allow_exact` option");
    }
    if (payload_m > 0) {
        return ORT_OK;
    }
    snprintf(error, sizeof error,
             "Request is forbidden%s because vector indexing is disabled (hnsw_config.m = 0 and "
             "hnsw_config.payload_m = 0)",
             label);
    return dp_strict__refuse(c, error,
                             "Enable vector indexing, use a prefetch query with indexed vectors or "
                             "enable strict mode `search_allow_exact` option");
}

static uint64_t
number_or(ort_json v, uint64_t otherwise)
{
    uint64_t n;
    return ort_json_u64(v, &n) == ORT_OK ? n : otherwise;
}

static uint64_t
product(uint64_t a, uint64_t b)
{
    uint64_t out;
    return __builtin_mul_overflow(a, b, &out) ? UINT64_MAX : out;
}

/* How many points a request may give back: what it says, or what holds when it says nothing.
 * false: this call has no such bound. */
static bool
asked_for(const dp_route *route, ort_json body, uint64_t *out)
{
    uint64_t limit = 10;
    const bool said = ort_json_u64(ort_json_get(body, "limit"), &limit) == ORT_OK ||
                      ort_json_u64(ort_json_get(body, "top"), &limit) == ORT_OK;

    if (route->fn == dp_api__matrix_pairs || route->fn == dp_api__matrix_offsets) {
        *out = product(said ? limit : 3, number_or(ort_json_get(body, "sample"), 10));
        return true;
    }
    if (route->fn == dp_api__query_groups) {
        *out = product(limit, number_or(ort_json_get(body, "group_size"), 3));
        return true;
    }
    *out = limit;
    return said || route->fn == dp_api__points_scroll || route->fn == dp_api__query ||
           route->fn == dp_api__query_batch;
}

/* What every request has in which points are looked for, in Qdrant's order. */
static ort_err
check_common(strict_check *c, ort_json body, uint64_t limit, bool limited)
{
    const ort_json query = ort_json_get(body, "query");
    ort_err err = ORT_OK;

    c->cost += examples_in(body) + examples_in(ort_json_get(query, "recommend")) +
               examples_in(ort_json_get(query, "discover"));
    if (ort_json_given(ort_json_get(query, "formula"))) {
        err = dp_strict__check_formula(c, ort_json_get(query, "formula"));
    }
    if (err == ORT_OK && limited) {
        err = check_limit(c, "limit", limit, c->strict->max_query_limit);
    }
    if (err == ORT_OK) {
        err = dp_strict__check_filter(c, ort_json_get(body, "filter"));
    }
    return err == ORT_OK ? check_params(c, ort_json_get(body, "params")) : err;
}

static ort_err
check_prefetch(strict_check *c, ort_json body)
{
    const ort_json prefetch = ort_json_get(body, "prefetch");
    const uint64_t limit = number_or(ort_json_get(body, "limit"), 10);
    ort_err err = ORT_OK;

    if (ort_json_type_of(prefetch) == ORT_JSON_OBJECT) {
        err = check_prefetch(c, prefetch);
    }
    for (ort_json_iter it = ort_json_each(prefetch); err == ORT_OK && ort_json_step(&it);) {
        err = ort_json_type_of(prefetch) == ORT_JSON_ARRAY ? check_prefetch(c, it.value) : err;
    }
    err = err == ORT_OK ? check_full_scan(c, body) : err;
    return err == ORT_OK ? check_common(c, body, limit, true) : err;
}

/* One search, with all that it fetches before. */
static ort_err
check_read(strict_check *c, ort_json body)
{
    const ort_json prefetch = ort_json_get(body, "prefetch");
    const dp_route *route = c->call->route;
    const bool one = ort_json_type_of(prefetch) == ORT_JSON_OBJECT;
    uint64_t limit;
    ort_err err = one ? check_prefetch(c, prefetch) : ORT_OK;

    for (ort_json_iter it = ort_json_each(prefetch); !one && err == ORT_OK && ort_json_step(&it);) {
        err = check_prefetch(c, it.value);
    }
    if (err == ORT_OK && !one && ort_json_count(prefetch) == 0) {
        err = check_full_scan(c, body);
    }
    if (err == ORT_OK && route->fn == dp_api__query_groups) {
        err = dp_strict__check_group_by(c, body);
    }
    const bool limited = asked_for(route, body, &limit);
    if (err == ORT_OK) {
        err = check_common(c, body, limit, limited);
    }
    if (err == ORT_OK && (route->fn == dp_api__points_count || route->fn == dp_api__facet)) {
        err = check_exact(c, body, route->fn == dp_api__points_count);
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
    return dp_strict__refuse(c, error, "Reduce the size of the vector.");
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

/* What a write by filter costs: the points it would touch. */
static ort_err
cost_of_matches(strict_check *c, ort_json filter)
{
    dp_filter *parsed;
    uint64_t count = 0;

    if (!ort_json_given(filter) || c->strict->write_rate_limit == DP_STRICT_NO_LIMIT ||
        dp_call_filter(c->call, &parsed, filter, "filter") != ORT_OK) {
        return ORT_OK; /* what is malformed is told by whoever reads it next */
    }
    const ort_err err = dp_collection_count(c->call->collection, parsed, &count, &c->call->diag);
    dp_filter_free(parsed);
    c->cost += count;
    return err;
}

typedef enum { BRINGS_NOTHING, BRINGS_POINTS, BRINGS_VECTORS } what_it_brings;

/* {points: [..]}, {batch: {..}} or {filter}: an upsert brings whole points, an update vectors; the
 * others name points. */
static ort_err
check_write(strict_check *c, ort_json body, what_it_brings what)
{
    const ort_json points = ort_json_get(body, "points"), batch = ort_json_get(body, "batch");
    const ort_json vectors = ort_json_get(batch, "vectors");
    uint64_t brought = ort_json_count(ort_json_get(batch, "ids"));
    ort_err err = dp_strict__check_filter(c, ort_json_get(body, "filter"));

    if (err == ORT_OK && !ort_json_given(points)) {
        err = cost_of_matches(c, ort_json_get(body, "filter"));
    }
    if (err == ORT_OK) {
        err = dp_strict__check_filter(c, ort_json_get(body, "update_filter"));
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
    c->points += what == BRINGS_POINTS ? brought : 0;
    return err == ORT_OK && what != BRINGS_NOTHING
               ? check_limit(c, what == BRINGS_POINTS ? "upsert limit" : "update limit", brought,
                             c->strict->upsert_max_batchsize)
               : err;
}

static ort_err
check_writes(strict_check *c, ort_json body)
{
    const ort_json operations = ort_json_get(body, "operations");
    ort_err err = ORT_OK;

    if (ort_json_type_of(operations) != ORT_JSON_ARRAY) {
        return check_write(c, body,
                           c->call->route->fn == dp_api__points_upsert    ? BRINGS_POINTS
                           : c->call->route->fn == dp_api__vectors_update ? BRINGS_VECTORS
                                                                          : BRINGS_NOTHING);
    }
    for (ort_json_iter at = ort_json_each(operations); err == ORT_OK && ort_json_step(&at);) {
        for (ort_json_iter it = ort_json_each(at.value); err == ORT_OK && ort_json_step(&it);) {
            err = check_write(c, it.value,
                              ort_json_str_is(it.key, "upsert")           ? BRINGS_POINTS
                              : ort_json_str_is(it.key, "update_vectors") ? BRINGS_VECTORS
                                                                          : BRINGS_NOTHING);
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
    char mb[ORT_NUM_TEXT_BYTES];
    snprintf(error, sizeof error, "Max %s storage size limit of %sMB reached!", what,
             shown((float)limit / (1024.0F * 1024.0F), mb));
    return dp_strict__refuse(
        c, error, "Delete some points to free up resources or increase the limit in strict mode.");
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
        return dp_strict__refuse(c, error,
                                 "Delete some points or increase the limit in strict mode.");
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
