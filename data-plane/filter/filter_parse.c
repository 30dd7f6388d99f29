/* Parsing: a request's Filter object into a tree. The object is copied as compact text first and
 * the tree points into that copy, so that a filter outlives the request and can be logged as it is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_write.h"
#include "base/limits.h"
#include "filter/filter_internal.h"

#define BLOCK_BYTES 2048u

struct dp_block {
    dp_block *next;
    size_t used, cap;
    _Alignas(16) unsigned char bytes[];
};

/* `where` is the place in the request, grown and cut as the parser goes down and up. */
typedef struct {
    dp_filter *filter;
    ort_diag *diag;
    char where[256];
    size_t where_len;
    const dp_place *place; /* inside `nested` */
    bool record;           /* what a record adds is allowed */
} parser;

static const char no_condition[] = "data did not match any variant of untagged enum Condition";

static ort_err parse_clauses(parser *p, dp_clauses *out, ort_json v);

static ort_err
no_memory(parser *p)
{
    return ort_fail(p->diag, ORT_ENOMEM, "out of memory");
}

/* Zeroed memory that lives as long as the filter; NULL when there is none. */
static void *
take(parser *p, size_t count, size_t size)
{
    size_t n;
    dp_block *block = p->filter->blocks;
    if (!ort_size_mul(count, size, &n) || !ort_size_add(n, 15, &n)) {
        return NULL;
    }
    n &= ~(size_t)15;
    if (block == NULL || block->cap - block->used < n) {
        const size_t cap = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        block = calloc(1, sizeof *block + cap);
        if (block == NULL) {
            return NULL;
        }
        block->cap = cap;
        block->next = p->filter->blocks;
        p->filter->blocks = block;
    }
    void *at = block->bytes + block->used;
    block->used += n;
    return at;
}

static size_t
enter(parser *p, const char *name, size_t index)
{
    const size_t before = p->where_len;
    const size_t room = sizeof p->where - before;
    const int n = index == SIZE_MAX ? snprintf(p->where + before, room, ".%s", name)
                                    : snprintf(p->where + before, room, ".%s[%zu]", name, index);
    p->where_len = n > 0 && (size_t)n < room ? before + (size_t)n : before;
    p->where[p->where_len] = '\0';
    return before;
}

static void
leave(parser *p, size_t before)
{
    p->where_len = before;
    p->where[before] = '\0';
}

static ort_err
malformed(parser *p)
{
    return ort_fail(p->diag, ORT_EFORMAT, "%s: %s", p->where, no_condition);
}

static ort_err
parse_path(parser *p, dp_path **out, ort_json v)
{
    dp_filter *f = p->filter;
    size_t len;
    const char *text = ort_json_str(v, &len);
    if (text == NULL) {
        return malformed(p);
    }
    if (f->path_count == f->path_cap) {
        const size_t cap = f->path_cap == 0 ? 8 : f->path_cap * 2;
        dp_path **grown = realloc(f->paths, cap * sizeof(dp_path *));
        if (grown == NULL) {
            return no_memory(p);
        }
        f->paths = grown;
        f->path_cap = cap;
    }
    const ort_err err = dp_path_parse(out, text, len, p->diag);
    if (err == ORT_OK) {
        f->paths[f->path_count++] = *out;
    }
    return err;
}

static int
order_texts(const void *a, const void *b)
{
    const dp_text *x = a, *y = b;
    return dp_text__cmp(*x, *y);
}

static int
order_integers(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static int
order_ids(const void *a, const void *b)
{
    return ort_point_id_cmp(*(const ort_point_id *)a, *(const ort_point_id *)b);
}

/* One string into m->texts. */
static ort_err
set_text(parser *p, dp_match *m, dp_match_kind kind, ort_json v)
{
    m->kind = kind;
    m->texts = take(p, 1, sizeof *m->texts);
    if (m->texts == NULL) {
        return no_memory(p);
    }
    m->texts[0].text = ort_json_str(v, &m->texts[0].len);
    m->count = 1;
    return m->texts[0].text != NULL ? ORT_OK : malformed(p);
}

static ort_err
parse_match_value(parser *p, dp_match *m, ort_json v)
{
    switch (ort_json_type_of(v)) {
    case ORT_JSON_STRING:
        return set_text(p, m, DP_MATCH_STRING, v);
    case ORT_JSON_BOOL:
        m->kind = DP_MATCH_BOOL;
        return ort_json_bool(v, &m->boolean);
    case ORT_JSON_NUMBER:
        m->kind = DP_MATCH_INTEGER;
        m->integers = take(p, 1, sizeof *m->integers);
        m->count = 1;
        if (m->integers == NULL) {
            return no_memory(p);
        }
        return ort_json_i64(v, m->integers) == ORT_OK ? ORT_OK : malformed(p);
    default:
        return malformed(p);
    }
}

/* any, except: all strings or all integers; none at all counts as strings. */
static ort_err
parse_match_list(parser *p, dp_match *m, ort_json v, bool except)
{
    const uint32_t count = ort_json_count(v);
    if (ort_json_type_of(v) != ORT_JSON_ARRAY) {
        return malformed(p);
    }
    if (count > 0 && ort_json_is_numbers(v)) {
        m->kind = except ? DP_MATCH_EXCEPT_INTEGER : DP_MATCH_ANY_INTEGER;
        m->integers = take(p, count, sizeof *m->integers);
        if (m->integers == NULL) {
            return no_memory(p);
        }
        for (ort_json_iter it = ort_json_each(v); ort_json_step(&it); m->count++) {
            if (ort_json_i64(it.value, &m->integers[m->count]) != ORT_OK) {
                return malformed(p);
            }
        }
        qsort(m->integers, m->count, sizeof *m->integers, order_integers);
        size_t n = 0; /* each value is looked up once */
        for (size_t i = 0; i < m->count; i++) {
            if (n == 0 || m->integers[i] != m->integers[n - 1]) {
                m->integers[n++] = m->integers[i];
            }
        }
        m->count = n;
        return ORT_OK;
    }
    m->kind = except ? DP_MATCH_EXCEPT_STRING : DP_MATCH_ANY_STRING;
    m->texts = take(p, count + 1, sizeof *m->texts);
    if (m->texts == NULL) {
        return no_memory(p);
    }
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it); m->count++) {
        m->texts[m->count].text = ort_json_str(it.value, &m->texts[m->count].len);
        if (m->texts[m->count].text == NULL) {
            return malformed(p);
        }
    }
    qsort(m->texts, m->count, sizeof *m->texts, order_texts);
    return ORT_OK;
}

/* The words of text_any, parted by white space. */
static ort_err
parse_text_any(parser *p, dp_match *m, ort_json v)
{
    static const char space[] = " \t\r\n\v\f";
    size_t len, words = 0;
    const char *text = ort_json_str(v, &len);
    if (text == NULL) {
        return malformed(p);
    }
    m->kind = DP_MATCH_TEXT_ANY;
    m->raw = (dp_text){.text = text, .len = len};
    m->texts = take(p, len / 2 + 1, sizeof *m->texts);
    if (m->texts == NULL) {
        return no_memory(p);
    }
    for (size_t i = 0; i < len;) {
        while (i < len && text[i] != '\0' && strchr(space, text[i]) != NULL) {
            i++;
        }
        const size_t start = i;
        while (i < len && (text[i] == '\0' || strchr(space, text[i]) == NULL)) {
            i++;
        }
        if (i > start) {
            m->texts[words++] = (dp_text){.text = text + start, .len = i - start};
        }
    }
    m->count = words;
    return ORT_OK;
}

static ort_err
parse_match(parser *p, dp_match *m, ort_json v)
{
    static const struct {
        const char *name;
        dp_match_kind kind;
    } plain[] = {{"text", DP_MATCH_TEXT}, {"phrase", DP_MATCH_PHRASE}, {"prefix", DP_MATCH_PREFIX}};
    ort_json w;
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return malformed(p);
    }
    if (ort_json_given(w = ort_json_get(v, "value"))) {
        return parse_match_value(p, m, w);
    }
    for (size_t i = 0; i < 3; i++) {
        if (ort_json_given(w = ort_json_get(v, plain[i].name))) {
            const ort_err err = set_text(p, m, plain[i].kind, w);
            m->raw = err == ORT_OK ? m->texts[0] : m->raw;
            return err;
        }
    }
    if (ort_json_given(w = ort_json_get(v, "text_any"))) {
        return parse_text_any(p, m, w);
    }
    if (ort_json_given(w = ort_json_get(v, "any"))) {
        return parse_match_list(p, m, w, false);
    }
    if (ort_json_given(w = ort_json_get(v, "except"))) {
        return parse_match_list(p, m, w, true);
    }
    return malformed(p);
}

static ort_err
parse_bound(parser *p, dp_range *r, ort_json v, bool *has, double *d, int64_t *us)
{
    size_t len;
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    *has = true;
    if (!r->datetime) {
        return ort_json_f64(v, d) == ORT_OK ? ORT_OK : malformed(p);
    }
    const char *text = ort_json_str(v, &len);
    return text != NULL && ort_rfc3339_parse(text, len, us) == ORT_OK ? ORT_OK : malformed(p);
}

static ort_err
parse_range(parser *p, dp_range *r, ort_json v)
{
    const ort_json lt = ort_json_get(v, "lt"), gt = ort_json_get(v, "gt");
    const ort_json lte = ort_json_get(v, "lte"), gte = ort_json_get(v, "gte");
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return malformed(p);
    }
    r->given = true;
    r->datetime =
        ort_json_type_of(lt) == ORT_JSON_STRING || ort_json_type_of(gt) == ORT_JSON_STRING ||
        ort_json_type_of(lte) == ORT_JSON_STRING || ort_json_type_of(gte) == ORT_JSON_STRING;
    ort_err err = parse_bound(p, r, lt, &r->has_lt, &r->lt, &r->lt_us);
    err = err == ORT_OK ? parse_bound(p, r, gt, &r->has_gt, &r->gt, &r->gt_us) : err;
    err = err == ORT_OK ? parse_bound(p, r, lte, &r->has_lte, &r->lte, &r->lte_us) : err;
    return err == ORT_OK ? parse_bound(p, r, gte, &r->has_gte, &r->gte, &r->gte_us) : err;
}

static ort_err
parse_count_bound(parser *p, ort_json v, bool *has, uint64_t *out)
{
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    *has = true;
    return ort_json_u64(v, out) == ORT_OK ? ORT_OK : malformed(p);
}

static ort_err
parse_count(parser *p, dp_count_range *r, ort_json v)
{
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return malformed(p);
    }
    r->given = true;
    ort_err err = parse_count_bound(p, ort_json_get(v, "lt"), &r->has_lt, &r->lt);
    err = err == ORT_OK ? parse_count_bound(p, ort_json_get(v, "gt"), &r->has_gt, &r->gt) : err;
    err = err == ORT_OK ? parse_count_bound(p, ort_json_get(v, "lte"), &r->has_lte, &r->lte) : err;
    err = err == ORT_OK ? parse_count_bound(p, ort_json_get(v, "gte"), &r->has_gte, &r->gte) : err;
    if (err == ORT_OK && !r->has_lt && !r->has_gt && !r->has_lte && !r->has_gte) {
        return ort_fail(p->diag, ORT_EVALIDATE,
                        "%s.values_count: At least one values_count constraint must be specified",
                        p->where);
    }
    return err;
}

static ort_err
parse_geo_point(parser *p, dp_geo_point *out, ort_json v)
{
    if (ort_json_f64(ort_json_get(v, "lon"), &out->lon) != ORT_OK ||
        ort_json_f64(ort_json_get(v, "lat"), &out->lat) != ORT_OK) {
        return malformed(p);
    }
    if (out->lon < -180 || out->lon > 180 || out->lat < -90 || out->lat > 90) {
        return ort_fail(p->diag, ORT_EFORMAT,
                        "Longitude must be between -180 and 180, latitude between -90 and 90");
    }
    return ORT_OK;
}

static ort_err
parse_ring(parser *p, dp_geo_ring *ring, ort_json v)
{
    const ort_json points = ort_json_get(v, "points");
    const uint32_t count = ort_json_count(points);
    ort_err err = ORT_OK;
    if (ort_json_type_of(points) != ORT_JSON_ARRAY) {
        return malformed(p);
    }
    if (count < 4) {
        return ort_fail(p->diag, ORT_EFORMAT,
                        "polygon invalid, the size must be at least 4, got %u", count);
    }
    /* Each point that is asked goes around all corners. */
    if (count > ORT_FILTER_CORNERS_MAX - p->filter->corner_count) {
        return ort_fail(p->diag, ORT_EVALIDATE, "%s: polygons of more than %u corners", p->where,
                        ORT_FILTER_CORNERS_MAX);
    }
    p->filter->corner_count += count;
    ring->points = take(p, count, sizeof *ring->points);
    if (ring->points == NULL) {
        return no_memory(p);
    }
    for (ort_json_iter it = ort_json_each(points); err == ORT_OK && ort_json_step(&it);) {
        err = parse_geo_point(p, &ring->points[ring->count++], it.value);
    }
    const dp_geo_point first = ring->points[0], last = ring->points[count - 1];
    if (err == ORT_OK && (first.lon < last.lon || first.lon > last.lon || first.lat < last.lat ||
                          first.lat > last.lat)) {
        return ort_fail(p->diag, ORT_EFORMAT,
                        "polygon invalid, the first and the last points should be the same to form "
                        "a closed line");
    }
    return err;
}

static ort_err
parse_polygon(parser *p, dp_geo *g, ort_json v)
{
    const ort_json interiors = ort_json_get(v, "interiors");
    g->kind = DP_GEO_POLYGON;
    if (ort_json_given(interiors) && ort_json_type_of(interiors) != ORT_JSON_ARRAY) {
        return malformed(p);
    }
    g->rings = take(p, (size_t)ort_json_count(interiors) + 1, sizeof *g->rings);
    if (g->rings == NULL) {
        return no_memory(p);
    }
    ort_err err = parse_ring(p, &g->rings[g->ring_count++], ort_json_get(v, "exterior"));
    for (ort_json_iter it = ort_json_each(interiors); err == ORT_OK && ort_json_step(&it);) {
        err = parse_ring(p, &g->rings[g->ring_count++], it.value);
    }
    return err;
}

static ort_err
parse_geo(parser *p, dp_geo *g, ort_json field)
{
    const ort_json box = ort_json_get(field, "geo_bounding_box");
    const ort_json radius = ort_json_get(field, "geo_radius");
    const ort_json polygon = ort_json_get(field, "geo_polygon");
    ort_err err = ORT_OK;
    if (ort_json_given(box)) {
        g->kind = DP_GEO_BOX;
        err = parse_geo_point(p, &g->a, ort_json_get(box, "top_left"));
        return err == ORT_OK ? parse_geo_point(p, &g->b, ort_json_get(box, "bottom_right")) : err;
    }
    if (ort_json_given(radius)) {
        g->kind = DP_GEO_RADIUS;
        if (ort_json_f64(ort_json_get(radius, "radius"), &g->radius_m) != ORT_OK) {
            return malformed(p);
        }
        return parse_geo_point(p, &g->a, ort_json_get(radius, "center"));
    }
    return ort_json_given(polygon) ? parse_polygon(p, g, polygon) : ORT_OK;
}

static ort_err
parse_flag(parser *p, ort_json v, bool *has, bool *out)
{
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    *has = true;
    return ort_json_bool(v, out) == ORT_OK ? ORT_OK : malformed(p);
}

/* Whether a declaration can settle what the condition means. Text inside `nested` asks for parts
 * of strings: no index knows which words stand in one element. */
static bool
may_be_settled(const parser *p, const dp_match *m)
{
    char room[ORT_POINT_ID_TEXT_BYTES];
    switch (m->kind) {
    case DP_MATCH_TEXT:
    case DP_MATCH_TEXT_ANY:
    case DP_MATCH_PHRASE:
        return p->place == NULL;
    case DP_MATCH_STRING:
    case DP_MATCH_ANY_STRING:
    case DP_MATCH_EXCEPT_STRING:
        for (size_t i = 0; i < m->count; i++) {
            if (dp_text__of_uuid(m->texts[i], room).text == room) {
                return true;
            }
        }
        return false;
    default:
        return false;
    }
}

/* Numbers the conditions that a declaration settles. */
static ort_err
note_text(parser *p, dp_field *f)
{
    dp_filter *filter = p->filter;
    f->text_number = DP_TEXT_NONE;
    if (!may_be_settled(p, &f->match)) {
        return ORT_OK;
    }
    f->place = p->place;
    if (filter->text_field_count == filter->text_field_cap) {
        const uint32_t cap = filter->text_field_cap == 0 ? 4 : filter->text_field_cap * 2;
        dp_field **grown = realloc(filter->text_fields, cap * sizeof(dp_field *));
        if (grown == NULL) {
            return no_memory(p);
        }
        filter->text_fields = grown;
        filter->text_field_cap = cap;
    }
    f->text_number = filter->text_field_count;
    filter->text_fields[filter->text_field_count++] = f;
    return ORT_OK;
}

static ort_err
parse_field(parser *p, dp_condition *c, ort_json v)
{
    const ort_json match = ort_json_get(v, "match"), range = ort_json_get(v, "range");
    const ort_json count = ort_json_get(v, "values_count");
    dp_field *f = take(p, 1, sizeof *f);
    if (f == NULL) {
        return no_memory(p);
    }
    c->kind = DP_COND_FIELD;
    c->u.field = f;
    ort_err err = parse_path(p, &f->path, ort_json_get(v, "key"));
    if (err == ORT_OK && ort_json_given(match)) {
        err = parse_match(p, &f->match, match);
    }
    err = err == ORT_OK ? note_text(p, f) : err;
    if (err == ORT_OK && ort_json_given(range)) {
        err = parse_range(p, &f->range, range);
    }
    err = err == ORT_OK ? parse_geo(p, &f->geo, v) : err;
    if (err == ORT_OK && ort_json_given(count)) {
        err = parse_count(p, &f->count, count);
    }
    if (err == ORT_OK) {
        err = parse_flag(p, ort_json_get(v, "is_empty"), &f->has_is_empty, &f->is_empty);
    }
    if (err == ORT_OK) {
        err = parse_flag(p, ort_json_get(v, "is_null"), &f->has_is_null, &f->is_null);
    }
    if (err == ORT_OK && f->match.kind == DP_MATCH_NONE && !f->range.given &&
        f->geo.kind == DP_GEO_NONE && !f->count.given && !f->has_is_empty && !f->has_is_null) {
        return ort_fail(p->diag, ORT_EVALIDATE,
                        "%s: At least one field condition must be specified", p->where);
    }
    return err;
}

static ort_err
parse_id(parser *p, ort_json v, ort_point_id *out)
{
    size_t len;
    const bool string = ort_json_type_of(v) == ORT_JSON_STRING;
    const char *text = string ? ort_json_str(v, &len) : ort_json_raw(v, &len);
    if (text == NULL) {
        return no_memory(p);
    }
    return ort_point_id_parse(text, len, !string, out, p->diag) == ORT_OK ? ORT_OK : ORT_EFORMAT;
}

static ort_err
parse_has_id(parser *p, dp_condition *c, ort_json list)
{
    const uint32_t count = ort_json_count(list);
    size_t n = 0;
    if (ort_json_type_of(list) != ORT_JSON_ARRAY) {
        return malformed(p);
    }
    ort_point_id *ids = take(p, (size_t)count + 1, sizeof *ids);
    if (ids == NULL) {
        return no_memory(p);
    }
    for (ort_json_iter it = ort_json_each(list); ort_json_step(&it);) {
        const ort_err err = parse_id(p, it.value, &ids[n++]);
        if (err != ORT_OK) {
            return err;
        }
    }
    qsort(ids, n, sizeof *ids, order_ids);
    size_t unique = 0;
    for (size_t i = 0; i < n; i++) {
        if (unique == 0 || !ort_point_id_eq(ids[unique - 1], ids[i])) {
            ids[unique++] = ids[i];
        }
    }
    c->kind = DP_COND_HAS_ID;
    c->u.has_id.ids = ids;
    c->u.has_id.count = unique;
    return ORT_OK;
}

static ort_err
parse_has_vector(parser *p, dp_condition *c, ort_json v)
{
    dp_filter *f = p->filter;
    size_t len;
    const char *text = ort_json_str(v, &len);
    if (text == NULL || memchr(text, '\0', len) != NULL) {
        return malformed(p);
    }
    char *name = take(p, len + 1, 1);
    if (name == NULL) {
        return no_memory(p);
    }
    memcpy(name, text, len);
    if (f->vector_name_count == f->vector_name_cap) {
        const uint32_t cap = f->vector_name_cap == 0 ? 4 : f->vector_name_cap * 2;
        const char **grown = realloc(f->vector_names, cap * sizeof(const char *));
        if (grown == NULL) {
            return no_memory(p);
        }
        f->vector_names = grown;
        f->vector_name_cap = cap;
    }
    f->vector_names[f->vector_name_count++] = name;
    c->kind = DP_COND_HAS_VECTOR;
    c->u.vector_name = name;
    return ORT_OK;
}

static ort_err
parse_nested(parser *p, dp_condition *c, ort_json v)
{
    const ort_json filter = ort_json_get(v, "filter");
    size_t len;
    const char *text = ort_json_str(ort_json_get(v, "key"), &len);
    if (text == NULL || ort_json_type_of(filter) != ORT_JSON_OBJECT) {
        return malformed(p);
    }
    c->kind = DP_COND_NESTED;
    c->clauses = take(p, 1, sizeof *c->clauses);
    if (c->clauses == NULL) {
        return no_memory(p);
    }
    ort_err err = parse_path(p, &c->path, ort_json_get(v, "key"));
    /* "a[]" and "a" mean the same: the elements of a are visited by matching itself. */
    if (err == ORT_OK && c->path->steps[c->path->count - 1].kind == DP_STEP_ALL) {
        c->path->count--;
    }
    dp_place *place = take(p, 1, sizeof *place);
    if (err != ORT_OK || place == NULL) {
        return err != ORT_OK ? err : no_memory(p);
    }
    const size_t before = enter(p, "nested.filter", SIZE_MAX);
    *place = (dp_place){.outer = p->place, .path = c->path};
    p->place = place;
    err = parse_clauses(p, c->clauses, filter);
    p->place = place->outer;
    leave(p, before);
    return err;
}

static ort_err
parse_slice(parser *p, dp_condition *c, ort_json v)
{
    c->kind = DP_COND_SLICE;
    if (ort_json_u64(ort_json_get(v, "total"), &c->u.slice.total) != ORT_OK ||
        ort_json_u64(ort_json_get(v, "index"), &c->u.slice.index) != ORT_OK) {
        return malformed(p);
    }
    if (c->u.slice.total == 0 || c->u.slice.index >= c->u.slice.total) {
        return ort_fail(p->diag, ORT_EVALIDATE, "%s.slice.index: must be below total", p->where);
    }
    return ORT_OK;
}

/* Which kind of condition the object is, in the order in which Qdrant tries them. */
static ort_err
parse_condition(parser *p, dp_condition *c, ort_json v)
{
    ort_json w;
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return malformed(p);
    }
    if (++p->filter->condition_count > ORT_FILTER_CONDITIONS_MAX) {
        return ort_fail(p->diag, ORT_EVALIDATE, "%s: a filter of more than %u conditions", p->where,
                        ORT_FILTER_CONDITIONS_MAX);
    }
    if (ort_json_given(ort_json_get(v, "key"))) {
        p->filter->wants_payload = true;
        return parse_field(p, c, v);
    }
    if (ort_json_given(w = ort_json_get(v, "is_empty"))) {
        p->filter->wants_payload = true;
        c->kind = DP_COND_IS_EMPTY;
        return parse_path(p, &c->path, ort_json_get(w, "key"));
    }
    if (ort_json_given(w = ort_json_get(v, "is_null"))) {
        p->filter->wants_payload = true;
        c->kind = DP_COND_IS_NULL;
        return parse_path(p, &c->path, ort_json_get(w, "key"));
    }
    if (ort_json_given(w = ort_json_get(v, "has_id"))) {
        return parse_has_id(p, c, w);
    }
    if (ort_json_given(w = ort_json_get(v, "has_vector"))) {
        return parse_has_vector(p, c, w);
    }
    if (ort_json_given(w = ort_json_get(v, "nested"))) {
        p->filter->wants_payload = true;
        return parse_nested(p, c, w);
    }
    if (ort_json_given(w = ort_json_get(v, "slice"))) {
        return parse_slice(p, c, w);
    }
    c->kind = DP_COND_FILTER;
    c->clauses = take(p, 1, sizeof *c->clauses);
    return c->clauses != NULL ? parse_clauses(p, c->clauses, v) : no_memory(p);
}

/* An array of conditions, one alone, or null. */
static ort_err
parse_conditions(parser *p, dp_conditions *out, const char *name, ort_json v)
{
    ort_err err = ORT_OK;
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    const bool list = ort_json_type_of(v) == ORT_JSON_ARRAY;
    out->items = take(p, list ? (size_t)ort_json_count(v) + 1 : 1, sizeof *out->items);
    if (out->items == NULL) {
        return no_memory(p);
    }
    if (!list) {
        const size_t before = enter(p, name, SIZE_MAX);
        err = parse_condition(p, &out->items[out->count++], v);
        leave(p, before);
        return err;
    }
    for (ort_json_iter it = ort_json_each(v); err == ORT_OK && ort_json_step(&it);) {
        const size_t before = enter(p, name, out->count);
        err = parse_condition(p, &out->items[out->count++], it.value);
        leave(p, before);
    }
    return err;
}

static ort_err
parse_min_should(parser *p, dp_clauses *out, ort_json v)
{
    const ort_json conditions = ort_json_get(v, "conditions");
    if (!ort_json_given(v)) {
        return ORT_OK;
    }
    if (ort_json_type_of(conditions) != ORT_JSON_ARRAY ||
        ort_json_u64(ort_json_get(v, "min_count"), &out->min_count) != ORT_OK) {
        return malformed(p);
    }
    out->has_min_should = true;
    const size_t before = enter(p, "min_should", SIZE_MAX);
    const ort_err err = parse_conditions(p, &out->min_should, "conditions", conditions);
    leave(p, before);
    return err;
}

static ort_err
check_members(parser *p, ort_json v)
{
    static const char *const known[] = {"should", "min_should", "must", "must_not"};
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
        bool found = false;
        for (size_t i = 0; i < 4; i++) {
            found = found || ort_json_str_is(it.key, known[i]);
        }
        found = found || (p->record && ort_json_str_is(it.key, DP_FILTER_RECORD_FIELDS));
        if (!found) {
            size_t len;
            const char *key = ort_json_str(it.key, &len);
            if (key == NULL) {
                return no_memory(p);
            }
            return ort_fail(p->diag, ORT_EFORMAT,
                            "%s: unknown field `%.*s`, expected one of `should`, `min_should`, "
                            "`must`, `must_not`",
                            p->where, len > 100 ? 100 : (int)len, key);
        }
    }
    return ORT_OK;
}

static ort_err
parse_clauses(parser *p, dp_clauses *out, ort_json v)
{
    if (ort_json_type_of(v) != ORT_JSON_OBJECT) {
        return ort_fail(p->diag, ORT_EFORMAT, "%s: expected struct Filter", p->where);
    }
    ort_err err = check_members(p, v);
    err = err == ORT_OK ? parse_conditions(p, &out->should, "should", ort_json_get(v, "should"))
                        : err;
    err = err == ORT_OK ? parse_min_should(p, out, ort_json_get(v, "min_should")) : err;
    err = err == ORT_OK ? parse_conditions(p, &out->must, "must", ort_json_get(v, "must")) : err;
    return err == ORT_OK
               ? parse_conditions(p, &out->must_not, "must_not", ort_json_get(v, "must_not"))
               : err;
}

/* Takes text, whatever happens. */
static ort_err
parse_own_text(dp_filter **out, char *text, size_t len, const char *where, bool record,
               ort_diag *diag)
{
    dp_filter *filter = calloc(1, sizeof *filter);
    *out = NULL;
    if (filter == NULL) {
        free(text);
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    filter->text = text;
    filter->text_len = len;
    parser p = {.filter = filter, .diag = diag, .record = record};
    const int n = snprintf(p.where, sizeof p.where, "%s", where);
    p.where_len = n > 0 && (size_t)n < sizeof p.where ? (size_t)n : strlen(p.where);

    ort_err err = ort_json_parse(&filter->doc, text, len, (ort_json_limits){0}, diag);
    err = err == ORT_OK ? parse_clauses(&p, &filter->root, ort_json_root(filter->doc)) : err;
    if (err == ORT_OK && record) {
        const ort_json root = ort_json_root(filter->doc);
        err =
            dp_fields_parse(&filter->own_fields, ort_json_get(root, DP_FILTER_RECORD_FIELDS), diag);
    }
    if (err != ORT_OK) {
        dp_filter_free(filter);
        return err;
    }
    *out = filter;
    return ORT_OK;
}

ort_err
dp_filter_parse(dp_filter **out, ort_json v, const char *where, ort_diag *diag)
{
    ort_buf buf = {0};
    ort_jw w = {.buf = &buf};
    size_t len = 0;
    *out = NULL;
    if (ort_json_given(v) && ort_json_raw(v, &len) != NULL && len > ORT_FILTER_BYTES_MAX) {
        return ort_fail(diag, ORT_EVALIDATE, "%s: %zu bytes are over %u", where, len,
                        ORT_FILTER_BYTES_MAX);
    }
    if (ort_json_given(v)) {
        ort_jw_value(&w, v);
    } else {
        ort_jw_raw(&w, "{}", 2);
    }
    if (ort_buf_check(&buf) != ORT_OK) {
        ort_buf_fini(&buf);
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    return parse_own_text(out, buf.data, buf.len, where, false, diag);
}

ort_err
dp_filter_parse_text(dp_filter **out, const char *text, size_t len, ort_diag *diag)
{
    char *copy = malloc(len + 1);
    *out = NULL;
    if (copy == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    memcpy(copy, text, len);
    return parse_own_text(out, copy, len, "filter", true, diag);
}

void
dp_filter_free(dp_filter *filter)
{
    if (filter == NULL) {
        return;
    }
    for (size_t i = 0; i < filter->path_count; i++) {
        dp_path_free(filter->paths[i]);
    }
    for (dp_block *b = filter->blocks, *next; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    free(filter->paths);
    free(filter->vector_names);
    free(filter->text_fields);
    dp_fields_unref(filter->own_fields);
    ort_json_free(filter->doc);
    free(filter->text);
    free(filter);
}

void
dp_filter_set_until_ns(dp_filter *filter, uint64_t mono_ns)
{
    if (filter != NULL) {
        filter->until_ns = mono_ns;
    }
}

uint64_t
dp_filter_until_ns(const dp_filter *filter)
{
    return filter != NULL ? filter->until_ns : 0;
}

const char *
dp_filter_peek_text(const dp_filter *filter, size_t *len_out)
{
    *len_out = filter->text_len;
    return filter->text;
}

bool
dp_filter_is_empty(const dp_filter *filter)
{
    return filter == NULL || (filter->condition_count == 0 && !filter->root.has_min_should);
}

uint32_t
dp_filter_condition_count(const dp_filter *filter)
{
    return filter != NULL ? filter->condition_count : 0;
}

bool
dp_filter_wants_payload(const dp_filter *filter)
{
    return filter != NULL && filter->wants_payload;
}

const char *
dp_filter_peek_vector_name(const dp_filter *filter, uint32_t i)
{
    return filter != NULL && i < filter->vector_name_count ? filter->vector_names[i] : NULL;
}

bool
dp_filter_peek_ids(const dp_filter *filter, const ort_point_id **ids_out, size_t *count_out)
{
    bool found = false;
    for (size_t i = 0; filter != NULL && i < filter->root.must.count; i++) {
        const dp_condition *c = &filter->root.must.items[i];
        if (c->kind == DP_COND_HAS_ID && (!found || c->u.has_id.count < *count_out)) {
            *ids_out = c->u.has_id.ids;
            *count_out = c->u.has_id.count;
            found = true;
        }
    }
    return found;
}
