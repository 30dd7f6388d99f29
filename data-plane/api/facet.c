/* How often each value of a payload field occurs: POST /collections/{c}/facet. */
#include <stdlib.h>
#include <string.h>

#include "api/query_internal.h"
#include "base/limits.h"
#include "base/map.h"
#include "filter/path.h"

/* Different values that are counted at once; a field with more is no field to facet on. */
#define VALUES_MAX 200000u

typedef struct {
    char *raw; /* as JSON: a string, an integer or a boolean */
    size_t len;
    uint64_t count;
    uint64_t last; /* the point it was counted for last: a value counts once a point */
} hit;

typedef struct {
    dp_call *call;
    dp_path *path;
    const char *kind; /* of the index: which type of value counts */
    ort_map *by_raw;  /* raw → hit */
    uint64_t point;
    ort_err err;
} counting;

static void
free_hit(void *p)
{
    hit *h = p;
    free(h->raw);
    free(h);
}

static bool
count_value(counting *c, ort_json v)
{
    size_t len;
    const char *raw = ort_json_raw(v, &len);
    const ort_json_type type = ort_json_type_of(v);
    const bool counts = strcmp(c->kind, "integer") == 0 ? ort_json_is_integer(v)
                        : strcmp(c->kind, "bool") == 0  ? type == ORT_JSON_BOOL
                                                        : type == ORT_JSON_STRING;
    if (!counts) {
        return true;
    }
    hit *h = ort_map_get(c->by_raw, raw, len);
    if (h == NULL) {
        if (ort_map_count(c->by_raw) >= VALUES_MAX) {
            c->err = ort_fail(&c->call->diag, ORT_EBADREQ,
                              "the field has more than %u different values", VALUES_MAX);
            return false;
        }
        h = calloc(1, sizeof *h);
        if (h == NULL || (h->raw = strndup(raw, len)) == NULL ||
            ort_map_set(c->by_raw, raw, len, h, NULL) != ORT_OK) {
            free(h != NULL ? h->raw : NULL);
            free(h);
            c->err = ORT_ENOMEM;
            return false;
        }
        h->len = len;
    }
    if (h->last != c->point) {
        h->last = c->point;
        h->count++;
    }
    return true;
}

static bool
visit_value(void *ctx, ort_json v)
{
    if (ort_json_type_of(v) != ORT_JSON_ARRAY) {
        return count_value(ctx, v);
    }
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
        if (!count_value(ctx, it.value)) {
            return false;
        }
    }
    return true;
}

static ort_err
count_point(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    counting *c = ctx;
    ort_json_doc *doc = NULL;
    (void)query;
    (void)schema;

    c->point++;
    if (view->payload_len == 0) {
        return ORT_OK;
    }
    const ort_err err = ort_json_parse(&doc, view->payload, view->payload_len, (ort_json_limits){0},
                                       &c->call->diag);
    if (err != ORT_OK) {
        return err == ORT_ENOMEM ? err : ORT_ECORRUPT;
    }
    dp_path_each(c->path, ort_json_root(doc), visit_value, c);
    ort_json_free(doc);
    return c->err;
}

/* All matching points, a page at a time: the collection is locked for reading only so long. */
static ort_err
count_all(counting *c, const dp_filter *filter)
{
    ort_point_id from = {0}, next = {0};
    bool begun = false, more = true;
    ort_err err = ORT_OK;

    while (err == ORT_OK && more) {
        err = dp_collection_scroll(c->call->collection, filter, begun ? &from : NULL, 10000, true,
                                   count_point, c, &more, &next, &c->call->diag);
        begun = true;
        from = next;
    }
    return err;
}

/* Most frequent first; equals by value: integers as numbers, the rest as text. */
static int
by_count(const void *a, const void *b)
{
    const hit *ha = *(hit *const *)a;
    const hit *hb = *(hit *const *)b;
    if (ha->count != hb->count) {
        return ha->count > hb->count ? -1 : 1;
    }
    if (ha->raw[0] != '"' && hb->raw[0] != '"') {
        const long long na = strtoll(ha->raw, NULL, 10), nb = strtoll(hb->raw, NULL, 10);
        if (na != nb) {
            return na < nb ? -1 : 1;
        }
    }
    return strcmp(ha->raw, hb->raw);
}

static ort_err
write_hits(counting *c, uint64_t limit)
{
    const size_t total = ort_map_count(c->by_raw);
    hit **hits = calloc(total + 1, sizeof *hits);
    size_t at = 0, n = 0, len;
    const void *key;
    void *value;
    ort_jw *w = &c->call->w;

    if (hits == NULL) {
        return ORT_ENOMEM;
    }
    while (ort_map_next(c->by_raw, &at, &key, &len, &value)) {
        hits[n++] = value;
    }
    if (n > 0) {
        qsort(hits, n, sizeof *hits, by_count);
    }
    ort_jw_object(w);
    ort_jw_key(w, "hits");
    ort_jw_array(w);
    for (size_t i = 0; i < n && i < limit; i++) {
        ort_jw_object(w);
        ort_jw_key(w, "value");
        ort_jw_raw(w, hits[i]->raw, hits[i]->len);
        ort_jw_key(w, "count");
        ort_jw_u64(w, hits[i]->count);
        ort_jw_object_end(w);
    }
    ort_jw_array_end(w);
    ort_jw_object_end(w);
    free(hits);
    return ORT_OK;
}

/* Which kind of index the field has; facets want one of four. */
static ort_err
find_kind(dp_call *call, const char *key, size_t len, const char **out)
{
    static const char *const kinds[] = {"keyword", "integer", "bool", "uuid"};
    dp_schema *schema = dp_collection_schema(call->collection);
    const ort_json type = ort_json_get(dp_api__field_of(schema, key, len), "data_type");

    *out = NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (ort_json_str_is(type, kinds[i])) {
            *out = kinds[i];
        }
    }
    dp_schema_unref(schema);
    return *out != NULL
               ? ORT_OK
               : ort_fail(&call->diag, ORT_EINVAL,
                          "No appropriate index for faceting: `%.*s`. Please create one to facet "
                          "on this field. Check "
                          "https://qdrant.tech/documentation/concepts/indexing/#payload-index to "
                          "see which payload schemas support Match conditions",
                          len > 100 ? 100 : (int)len, key);
}

ort_err
dp_api__facet(dp_call *call)
{
    counting c = {.call = call};
    ort_json body;
    uint64_t limit = 10;
    size_t len = 0;
    const char *key = NULL;
    dp_filter *filter = NULL;

    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK) {
        err = dp_call_body(call, false, &body);
    }
    if (err == ORT_OK) {
        key = ort_json_str(ort_json_get(body, "key"), &len);
        err = key != NULL ? ORT_OK : dp_call_missing(call, "key");
    }
    if (err == ORT_OK) {
        err = dp_call_get_u64(call, body, "limit", &limit);
    }
    if (err == ORT_OK && limit == 0) {
        err = ort_fail(&call->diag, ORT_EVALIDATE, "limit: value 0 invalid, must be 1 or larger");
    }
    if (err == ORT_OK) {
        err = dp_path_parse(&c.path, key, len, &call->diag);
    }
    if (err == ORT_OK) {
        err = dp_filter_parse(&filter, ort_json_get(body, "filter"), "filter", &call->diag);
    }
    if (err == ORT_OK) {
        err = dp_call_use_collection(call);
    }
    if (err == ORT_OK) {
        err = find_kind(call, key, len, &c.kind);
    }
    if (err == ORT_OK) {
        err = ort_map_new(&c.by_raw);
    }
    if (err == ORT_OK) {
        err = count_all(&c, filter);
    }
    if (err == ORT_OK) {
        err = write_hits(&c, limit);
    }
    ort_map_free(c.by_raw, free_hit);
    dp_path_free(c.path);
    dp_filter_free(filter);
    return err;
}
