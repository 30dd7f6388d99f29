/* How often each value of a payload field occurs: POST /collections/{c}/facet. */
#include <stdlib.h>
#include <string.h>

#include "api/query_internal.h"
#include "base/limits.h"
#include "base/map.h"
#include "filter/path.h"

/* Different values that are counted at once when payloads are read; a field with more is no field
 * to facet on until its index is there. */
#define VALUES_MAX 200000u
#define LIMIT_MAX 65536u

/* A value as it is compared and shown: of KEYWORD and UUID the text, else the number. */
typedef struct {
    char *text;
    size_t len;
    int64_t integer;
    uint64_t count;
    uint64_t last; /* the point it was counted for last: a value counts once a point */
} hit;

typedef struct {
    dp_call *call;
    dp_path *path;
    dp_field_kind kind; /* of the index: which type of value counts */
    uint64_t limit;

    ort_map *by_value; /* what is added up value by value: text or number → hit */
    uint64_t point;
    hit *hits; /* what the index has added up: the best so far, at most twice the limit */
    size_t hit_count, hit_cap;
    ort_err err;
} counting;

static void
free_hit(void *p)
{
    hit *h = p;
    free(h->text);
    free(h);
}

/* Most frequent first; equals by value: integers as numbers, the rest as text. */
static int
compare_hits(const hit *a, const hit *b)
{
    if (a->count != b->count) {
        return a->count > b->count ? -1 : 1;
    }
    if (a->text == NULL) {
        return a->integer < b->integer ? -1 : a->integer > b->integer;
    }
    const size_t n = a->len < b->len ? a->len : b->len;
    const int c = memcmp(a->text, b->text, n);
    return c != 0 ? c : a->len < b->len ? -1 : a->len > b->len;
}

static int
by_count(const void *a, const void *b)
{
    return compare_hits(a, b);
}

static int
by_count_at(const void *a, const void *b)
{
    return compare_hits(*(hit *const *)a, *(hit *const *)b);
}

/* --- from payloads ------------------------------------------------------------------------------
 */

/* The value as the index would have it; false for one of another type. `room` is for a uuid. */
static bool
read_value(const counting *c, ort_json v, hit *out, char room[ORT_POINT_ID_TEXT_BYTES])
{
    size_t len;
    ort_point_id id;
    bool flag;
    *out = (hit){0};
    switch (c->kind) {
    case DP_FIELD_INTEGER:
        return ort_json_i64(v, &out->integer) == ORT_OK;
    case DP_FIELD_BOOL:
        if (ort_json_bool(v, &flag) != ORT_OK) {
            return false;
        }
        out->integer = flag;
        return true;
    default:
        break;
    }
    const char *text = ort_json_str(v, &len);
    if (text != NULL && c->kind == DP_FIELD_UUID) {
        if (ort_point_id_parse(text, len, false, &id, NULL) != ORT_OK) {
            return false;
        }
        len = ort_point_id_format(id, room);
        text = room;
    }
    out->text = (char *)(uintptr_t)text; /* borrowed; copied before it is kept */
    out->len = len;
    return text != NULL;
}

/* The count of a value, made when it is new; NULL: c->err says why not. */
static hit *
hit_of(counting *c, const hit *value)
{
    const void *key = value->text != NULL ? (const void *)value->text : &value->integer;
    const size_t key_len = value->text != NULL ? value->len : sizeof value->integer;
    hit *h = ort_map_get(c->by_value, key, key_len);
    if (h != NULL) {
        return h;
    }
    if (ort_map_count(c->by_value) >= VALUES_MAX) {
        c->err = ort_fail(&c->call->diag, ORT_EBADREQ,
                          "the field has more than %u different values", VALUES_MAX);
        return NULL;
    }
    h = calloc(1, sizeof *h);
    if (h != NULL) {
        *h = *value;
        h->text = value->text != NULL ? strndup(value->text, value->len) : NULL;
    }
    if (h == NULL || (value->text != NULL && h->text == NULL) ||
        ort_map_set(c->by_value, key, key_len, h, NULL) != ORT_OK) {
        free(h != NULL ? h->text : NULL);
        free(h);
        c->err = ORT_ENOMEM;
        return NULL;
    }
    return h;
}

static bool
count_value(counting *c, ort_json v)
{
    char room[ORT_POINT_ID_TEXT_BYTES];
    hit value;
    if (!read_value(c, v, &value, room)) {
        return true;
    }
    hit *h = hit_of(c, &value);
    if (h != NULL && h->last != c->point) {
        h->last = c->point;
        h->count++;
    }
    return h != NULL;
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
count_payloads(counting *c, const dp_filter *filter)
{
    ort_point_id from = {0}, next = {0};
    bool begun = false, more = true;
    ort_err err = ORT_OK;

    while (err == ORT_OK && more) {
        err = dp_call_check_time(c->call);
        if (err != ORT_OK) {
            break;
        }
        err = dp_collection_scroll(c->call->collection, filter, begun ? &from : NULL, 10000, true,
                                   count_point, c, &more, &next, &c->call->diag);
        begun = true;
        from = next;
    }
    return err;
}

/* --- from the index -----------------------------------------------------------------------------
 */

static void
cut(counting *c)
{
    if (c->hit_count > 1) {
        qsort(c->hits, c->hit_count, sizeof *c->hits, by_count);
    }
    while (c->hit_count > c->limit) {
        free(c->hits[--c->hit_count].text);
    }
}

/* The index has UUIDs in one spelling, and beside them texts that are none. */
static ort_err
take_uuid(counting *c, const dp_payload_value *value, uint64_t count)
{
    char room[ORT_POINT_ID_TEXT_BYTES];
    ort_point_id id;
    if (ort_point_id_parse(value->text, value->len, false, &id, NULL) != ORT_OK) {
        return ORT_OK;
    }
    const hit one = {.text = room, .len = ort_point_id_format(id, room)};
    hit *h = hit_of(c, &one);
    if (h == NULL) {
        return c->err;
    }
    h->count += count;
    return ORT_OK;
}

static ort_err
take_counted(void *ctx, const dp_payload_value *value, uint64_t count)
{
    counting *c = ctx;
    const bool text = value->kind == DP_FIELD_KEYWORD;
    hit h = {.integer = value->integer, .count = count};
    if (c->kind == DP_FIELD_UUID) {
        return take_uuid(c, value, count);
    }
    if (c->hit_count >= 2 * c->limit) {
        cut(c);
    }
    if (c->hit_count == c->hit_cap) {
        const size_t cap = c->hit_cap == 0 ? 32 : c->hit_cap * 2;
        hit *grown = realloc(c->hits, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        c->hits = grown;
        c->hit_cap = cap;
    }
    if (text) {
        h.len = value->len;
        h.text = strndup(value->text, value->len);
        if (h.text == NULL) {
            return ORT_ENOMEM;
        }
    }
    c->hits[c->hit_count++] = h;
    return ORT_OK;
}

/* --- the answer ---------------------------------------------------------------------------------
 */

static void
write_hit(counting *c, const hit *h)
{
    ort_jw *w = &c->call->w;
    ort_jw_object(w);
    ort_jw_key(w, "value");
    if (h->text != NULL) {
        ort_jw_str_n(w, h->text, h->len);
    } else if (c->kind == DP_FIELD_BOOL) {
        ort_jw_bool(w, h->integer != 0);
    } else {
        ort_jw_i64(w, h->integer);
    }
    ort_jw_key(w, "count");
    ort_jw_u64(w, h->count);
    ort_jw_object_end(w);
}

/* What was added up, in order. */
static ort_err
write_mapped(counting *c)
{
    const size_t total = ort_map_count(c->by_value);
    hit **hits = calloc(total + 1, sizeof *hits);
    size_t at = 0, n = 0, len;
    const void *key;
    void *value;
    if (hits == NULL) {
        return ORT_ENOMEM;
    }
    while (ort_map_next(c->by_value, &at, &key, &len, &value)) {
        hits[n++] = value;
    }
    if (n > 0) {
        qsort(hits, n, sizeof *hits, by_count_at);
    }
    for (size_t i = 0; i < n && i < c->limit; i++) {
        write_hit(c, hits[i]);
    }
    free(hits);
    return ORT_OK;
}

/* The index answers where it is whole; else the payloads do. */
static ort_err
count_and_write(counting *c, const char *key, size_t len, const dp_filter *filter)
{
    ort_jw *w = &c->call->w;
    ort_err err = ort_map_new(&c->by_value);
    if (err != ORT_OK) {
        return err;
    }
    err =
        dp_collection_facet(c->call->collection, key, len, filter, take_counted, c, &c->call->diag);
    if (err == ORT_ENOTFOUND) {
        err = count_payloads(c, filter);
    }
    ort_jw_object(w);
    ort_jw_key(w, "hits");
    ort_jw_array(w);
    if (err == ORT_OK && ort_map_count(c->by_value) > 0) {
        err = write_mapped(c);
    } else if (err == ORT_OK) {
        cut(c);
        for (size_t i = 0; i < c->hit_count; i++) {
            write_hit(c, &c->hits[i]);
        }
    }
    ort_jw_array_end(w);
    ort_jw_object_end(w);
    return err;
}

/* Which kind of index the field has; facets want one of four. */
static ort_err
find_kind(dp_call *call, const char *key, size_t len, dp_field_kind *out)
{
    static const dp_field_kind kinds[] = {DP_FIELD_KEYWORD, DP_FIELD_INTEGER, DP_FIELD_BOOL,
                                          DP_FIELD_UUID};
    bool known = false;
    dp_schema *schema = dp_collection_schema(call->collection);
    const ort_json type = ort_json_get(dp_api__field_of(schema, key, len), "data_type");

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (ort_json_str_is(type, dp_field_kind_name(kinds[i]))) {
            *out = kinds[i];
            known = true;
        }
    }
    dp_schema_unref(schema);
    return known ? ORT_OK
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
    counting c = {.call = call, .limit = 10};
    ort_json body;
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
        err = dp_call_get_u64(call, body, "limit", &c.limit);
    }
    if (err == ORT_OK && c.limit == 0) {
        err = ort_fail(&call->diag, ORT_EVALIDATE, "limit: value 0 invalid, must be 1 or larger");
    }
    c.limit = c.limit < LIMIT_MAX ? c.limit : LIMIT_MAX;
    if (err == ORT_OK) {
        err = dp_path_parse(&c.path, key, len, &call->diag);
    }
    if (err == ORT_OK) {
        err = dp_call_filter(call, &filter, ort_json_get(body, "filter"), "filter");
    }
    if (err == ORT_OK) {
        err = dp_call_use_collection(call);
    }
    if (err == ORT_OK) {
        err = find_kind(call, key, len, &c.kind);
    }
    if (err == ORT_OK) {
        err = count_and_write(&c, key, len, filter);
    }
    for (size_t i = 0; i < c.hit_count; i++) {
        free(c.hits[i].text);
    }
    free(c.hits);
    ort_map_free(c.by_value, free_hit);
    dp_path_free(c.path);
    dp_filter_free(filter);
    return err;
}
