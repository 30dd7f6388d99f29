/* Matching: a walk over the tree, evaluating conditions on the values that paths lead to.
 *
 * Values are compared type-strictly: "1" is not 1, and 1.0 is not the integer 1. A condition on an
 * array holds when it holds for one of its elements. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/siphash.h"
#include "filter/filter_internal.h"

/* One point under evaluation; the payload is parsed when the first condition asks for it. */
typedef struct {
    const dp_filter_point *point;
    ort_json_doc *doc;
    bool parsed;
} subject;

static bool clauses_match(const dp_clauses *c, subject *s, const ort_json *element);

static ort_json
payload_of(subject *s)
{
    if (!s->parsed) {
        s->parsed = true;
        const ort_err err = s->point->payload_len > 0
                                ? ort_json_parse(&s->doc, s->point->payload, s->point->payload_len,
                                                 (ort_json_limits){0}, NULL)
                                : ORT_OK;
        if (err == ORT_ENOMEM && s->point->err != NULL) {
            *s->point->err = err;
        }
    }
    return s->doc != NULL ? ort_json_root(s->doc) : (ort_json){0};
}

int
dp_text__cmp(dp_text a, dp_text b)
{
    const size_t n = a.len < b.len ? a.len : b.len;
    const int c = n > 0 ? memcmp(a.text, b.text, n) : 0;
    return c != 0 ? c : a.len < b.len ? -1 : a.len > b.len;
}

dp_text
dp_text__of_uuid(dp_text text, char room[ORT_POINT_ID_TEXT_BYTES])
{
    ort_point_id id;
    if (ort_point_id_parse(text.text, text.len, false, &id, NULL) != ORT_OK) {
        return text;
    }
    return (dp_text){.text = room, .len = ort_point_id_format(id, room)};
}

static bool
has_text(const dp_match *m, dp_text t)
{
    size_t lo = 0, hi = m->count;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int c = dp_text__cmp(m->texts[mid], t);
        if (c == 0) {
            return true;
        }
        lo = c < 0 ? mid + 1 : lo;
        hi = c < 0 ? hi : mid;
    }
    return false;
}

static bool
has_integer(const dp_match *m, int64_t v)
{
    size_t lo = 0, hi = m->count;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (m->integers[mid] == v) {
            return true;
        }
        lo = m->integers[mid] < v ? mid + 1 : lo;
        hi = m->integers[mid] < v ? hi : mid;
    }
    return false;
}

static bool
holds_text(dp_text whole, dp_text part)
{
    return part.len == 0 || memmem(whole.text, whole.len, part.text, part.len) != NULL;
}

static bool
match_text(const dp_match *m, dp_text t)
{
    switch (m->kind) {
    case DP_MATCH_STRING:
    case DP_MATCH_ANY_STRING:
        return has_text(m, t);
    case DP_MATCH_EXCEPT_STRING:
        return !has_text(m, t);
    case DP_MATCH_EXCEPT_INTEGER:
        return true;
    case DP_MATCH_TEXT:
    case DP_MATCH_PHRASE:
        return holds_text(t, m->texts[0]);
    case DP_MATCH_TEXT_ANY:
        for (size_t i = 0; i < m->count; i++) {
            if (holds_text(t, m->texts[i])) {
                return true;
            }
        }
        return false;
    case DP_MATCH_PREFIX:
        return t.len >= m->texts[0].len &&
               (m->texts[0].len == 0 || memcmp(t.text, m->texts[0].text, m->texts[0].len) == 0);
    default:
        return false;
    }
}

static bool
match_number(const dp_match *m, ort_json v)
{
    int64_t n;
    const bool integer = ort_json_i64(v, &n) == ORT_OK;
    switch (m->kind) {
    case DP_MATCH_INTEGER:
    case DP_MATCH_ANY_INTEGER:
        return integer && has_integer(m, n);
    case DP_MATCH_EXCEPT_INTEGER:
        return !integer || !has_integer(m, n);
    case DP_MATCH_EXCEPT_STRING:
        return true;
    default:
        return false;
    }
}

static bool
match_one(const dp_match *m, ort_json v)
{
    const bool except = m->kind == DP_MATCH_EXCEPT_STRING || m->kind == DP_MATCH_EXCEPT_INTEGER;
    bool b;
    dp_text t;
    switch (ort_json_type_of(v)) {
    case ORT_JSON_STRING:
        t.text = ort_json_str(v, &t.len);
        return t.text != NULL && match_text(m, t);
    case ORT_JSON_NUMBER:
        return match_number(m, v);
    case ORT_JSON_BOOL:
        return m->kind == DP_MATCH_BOOL ? ort_json_bool(v, &b) == ORT_OK && b == m->boolean
                                        : except;
    case ORT_JSON_ARRAY:
    case ORT_JSON_OBJECT:
        return except;
    default:
        return false;
    }
}

/* Strings of a field that is declared to hold UUIDs. */
static bool
match_value(const dp_match *m, ort_json v)
{
    char room[ORT_POINT_ID_TEXT_BYTES];
    dp_text t;
    if (ort_json_type_of(v) != ORT_JSON_STRING) {
        return match_one(m, v);
    }
    t.text = ort_json_str(v, &t.len);
    return t.text != NULL && match_text(m, dp_text__of_uuid(t, room));
}

static bool
range_one(const dp_range *r, ort_json v)
{
    if (r->datetime) {
        size_t len;
        int64_t us;
        const char *text = ort_json_str(v, &len);
        return text != NULL && ort_rfc3339_parse(text, len, &us) == ORT_OK &&
               (!r->has_lt || us < r->lt_us) && (!r->has_gt || us > r->gt_us) &&
               (!r->has_lte || us <= r->lte_us) && (!r->has_gte || us >= r->gte_us);
    }
    double d;
    return ort_json_f64(v, &d) == ORT_OK && (!r->has_lt || d < r->lt) &&
           (!r->has_gt || d > r->gt) && (!r->has_lte || d <= r->lte) &&
           (!r->has_gte || d >= r->gte);
}

static double
radians(double degrees)
{
    return degrees * (M_PI / 180.0);
}

/* Great-circle distance by the haversine formula on the mean radius of the earth (IUGG). */
double
dp_geo__distance_m(dp_geo_point a, dp_geo_point b)
{
    const double earth_radius_m = 6371008.8;
    const double dlat = sin(radians(b.lat - a.lat) / 2), dlon = sin(radians(b.lon - a.lon) / 2);
    const double h = dlat * dlat + cos(radians(a.lat)) * cos(radians(b.lat)) * dlon * dlon;
    return 2 * earth_radius_m * asin(sqrt(h < 1 ? h : 1));
}

static bool
box_holds(const dp_geo *g, dp_geo_point p)
{
    const bool lat = g->b.lat < p.lat && p.lat < g->a.lat;
    const bool lon = g->a.lon > g->b.lon /* over the date line */
                         ? p.lon > g->a.lon || p.lon < g->b.lon
                         : g->a.lon < p.lon && p.lon < g->b.lon;
    return lat && lon;
}

/* Even-odd rule: a ray to the east crosses the ring an odd number of times. */
static bool
ring_holds(const dp_geo_ring *ring, dp_geo_point p)
{
    bool inside = false;
    for (size_t i = 1; i < ring->count; i++) {
        const dp_geo_point a = ring->points[i - 1], b = ring->points[i];
        if ((a.lat > p.lat) != (b.lat > p.lat) &&
            p.lon < (b.lon - a.lon) * (p.lat - a.lat) / (b.lat - a.lat) + a.lon) {
            inside = !inside;
        }
    }
    return inside;
}

bool
dp_geo__polygon_holds(const dp_geo *g, dp_geo_point p)
{
    if (!ring_holds(&g->rings[0], p)) {
        return false;
    }
    for (size_t i = 1; i < g->ring_count; i++) {
        if (ring_holds(&g->rings[i], p)) {
            return false;
        }
    }
    return true;
}

static bool
geo_one(const dp_geo *g, ort_json v)
{
    dp_geo_point p;
    if (ort_json_f64(dp_json_member(v, "lon", 3), &p.lon) != ORT_OK ||
        ort_json_f64(dp_json_member(v, "lat", 3), &p.lat) != ORT_OK) {
        return false;
    }
    switch (g->kind) {
    case DP_GEO_BOX:
        return box_holds(g, p);
    case DP_GEO_RADIUS:
        return dp_geo__distance_m(g->a, p) < g->radius_m;
    case DP_GEO_POLYGON:
        return dp_geo__polygon_holds(g, p);
    default:
        return false;
    }
}

/* Words are looked for in all strings of the point together; what they came to is asked at the end.
 * Without memory for it the point does not match. */
static bool
look_for_words(dp_text_query *words, ort_json v)
{
    size_t len;
    const char *text = ort_json_type_of(v) == ORT_JSON_STRING ? ort_json_str(v, &len) : NULL;
    return text != NULL && dp_text_query_look(words, text, len) == ORT_OK &&
           dp_text_query_holds(words);
}

/* How a declaration settles the condition; both NULL: not at all. */
typedef struct {
    dp_text_query *words; /* in place of field->match, which asks for words */
    const dp_match *by_value;
} settled;

static bool
match_holds(const dp_field *f, settled how, ort_json v)
{
    return how.words != NULL      ? look_for_words(how.words, v)
           : how.by_value != NULL ? match_value(how.by_value, v)
                                  : f->match.kind != DP_MATCH_NONE && match_one(&f->match, v);
}

static bool
field_holds_for(const dp_field *f, settled how, ort_json v)
{
    return match_holds(f, how, v) || (f->range.given && range_one(&f->range, v)) ||
           (f->geo.kind != DP_GEO_NONE && geo_one(&f->geo, v));
}

static bool
count_holds(const dp_count_range *r, uint64_t n)
{
    return (!r->has_lt || n < r->lt) && (!r->has_gt || n > r->gt) && (!r->has_lte || n <= r->lte) &&
           (!r->has_gte || n >= r->gte);
}

static uint64_t
values_in(ort_json v)
{
    switch (ort_json_type_of(v)) {
    case ORT_JSON_ARRAY:
        return ort_json_count(v);
    case ORT_JSON_NULL:
    case ORT_JSON_NONE:
        return 0;
    default:
        return 1;
    }
}

static bool
is_empty_value(ort_json v)
{
    return values_in(v) == 0;
}

static bool
holds_null(ort_json v)
{
    if (ort_json_type_of(v) == ORT_JSON_ARRAY) {
        for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
            if (ort_json_type_of(it.value) == ORT_JSON_NULL) {
                return true;
            }
        }
        return false;
    }
    return ort_json_type_of(v) == ORT_JSON_NULL;
}

/* What a walk over the values of one path learns. */
typedef struct {
    const dp_field *field; /* NULL: only empty and null are asked */
    settled how;
    bool any_value, all_empty, any_null, holds, count_holds;
} field_walk;

static bool
visit_value(void *ctx, ort_json v)
{
    field_walk *w = ctx;
    w->any_value = true;
    w->all_empty = w->all_empty && is_empty_value(v);
    w->any_null = w->any_null || holds_null(v);
    if (w->field == NULL) {
        return true;
    }
    if (!w->holds && ort_json_type_of(v) == ORT_JSON_ARRAY) {
        for (ort_json_iter it = ort_json_each(v); !w->holds && ort_json_step(&it);) {
            w->holds = field_holds_for(w->field, w->how, it.value);
        }
    } else if (!w->holds) {
        w->holds = field_holds_for(w->field, w->how, v);
    }
    w->count_holds =
        w->count_holds || (w->field->count.given && count_holds(&w->field->count, values_in(v)));
    return true;
}

static field_walk
walk_field(const dp_path *path, const dp_field *field, settled how, ort_json root)
{
    field_walk w = {.field = field, .how = how, .all_empty = true};
    if (how.words != NULL) {
        dp_text_query_begin(how.words);
    }
    dp_path_each(path, root, visit_value, &w);
    return w;
}

static bool
field_matches(const dp_field *f, const subject *s, ort_json root)
{
    const settled how = {dp_filter_texts_peek(s->point->texts, f->text_number),
                         dp_filter_texts_by_value(s->point->texts, f->text_number)};
    const field_walk w = walk_field(f->path, f, how, root);
    return w.holds || w.count_holds ||
           (!w.any_value && f->count.given && count_holds(&f->count, 0)) ||
           (f->has_is_empty && w.all_empty == f->is_empty) ||
           (f->has_is_null && w.any_null == f->is_null);
}

static bool
id_is_listed(const dp_condition *c, ort_point_id id)
{
    size_t lo = 0, hi = c->u.has_id.count;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int cmp = ort_point_id_cmp(c->u.has_id.ids[mid], id);
        if (cmp == 0) {
            return true;
        }
        lo = cmp < 0 ? mid + 1 : lo;
        hi = cmp < 0 ? hi : mid;
    }
    return false;
}

/* A public contract of Qdrant's: SipHash-2-4 under a zero key of the 8 little-endian bytes of a
 * number, or the 16 bytes of a UUID. */
static bool
in_slice(const dp_condition *c, ort_point_id id)
{
    unsigned char bytes[ORT_POINT_ID_BYTES];
    ort_point_id_encode(id, bytes);
    return ort_siphash(0, 0, bytes + 1, id.uuid ? 16 : 8) % c->u.slice.total == c->u.slice.index;
}

typedef struct {
    const dp_clauses *clauses;
    subject *s;
    bool found;
} nested_walk;

static bool
visit_array(void *ctx, ort_json v)
{
    nested_walk *w = ctx;
    if (ort_json_type_of(v) != ORT_JSON_ARRAY) {
        return true;
    }
    for (ort_json_iter it = ort_json_each(v); !w->found && ort_json_step(&it);) {
        w->found = ort_json_type_of(it.value) == ORT_JSON_OBJECT &&
                   clauses_match(w->clauses, w->s, &it.value);
    }
    return !w->found;
}

static bool
condition_matches(const dp_condition *c, subject *s, const ort_json *element)
{
    nested_walk nested;
    switch (c->kind) {
    case DP_COND_HAS_ID:
        return id_is_listed(c, s->point->id);
    case DP_COND_SLICE:
        return in_slice(c, s->point->id);
    case DP_COND_HAS_VECTOR:
        return s->point->has_vector != NULL &&
               s->point->has_vector(s->point->ctx, c->u.vector_name);
    case DP_COND_FILTER:
        return clauses_match(c->clauses, s, element);
    default:
        break;
    }
    const ort_json root = element != NULL ? *element : payload_of(s);
    switch (c->kind) {
    case DP_COND_FIELD:
        return field_matches(c->u.field, s, root);
    case DP_COND_IS_EMPTY:
        return walk_field(c->path, NULL, (settled){0}, root).all_empty;
    case DP_COND_IS_NULL:
        return walk_field(c->path, NULL, (settled){0}, root).any_null;
    default:
        nested = (nested_walk){.clauses = c->clauses, .s = s};
        dp_path_each(c->path, root, visit_array, &nested);
        return nested.found;
    }
}

static bool
all_match(const dp_conditions *list, subject *s, const ort_json *element, bool wanted)
{
    for (size_t i = 0; i < list->count; i++) {
        if (condition_matches(&list->items[i], s, element) != wanted) {
            return false;
        }
    }
    return true;
}

static bool
enough_match(const dp_conditions *list, subject *s, const ort_json *element, uint64_t wanted)
{
    uint64_t found = 0;
    for (size_t i = 0; found < wanted && i < list->count; i++) {
        found += condition_matches(&list->items[i], s, element);
    }
    return found >= wanted;
}

/* An empty `should` constrains nothing. Depth is bounded by that of JSON documents. */
static bool
clauses_match(const dp_clauses *c, subject *s, const ort_json *element)
{
    return all_match(&c->must, s, element, true) && all_match(&c->must_not, s, element, false) &&
           (c->should.count == 0 || enough_match(&c->should, s, element, 1)) &&
           (!c->has_min_should || enough_match(&c->min_should, s, element, c->min_count));
}

bool
dp_filter_match(const dp_filter *filter, const dp_filter_point *point)
{
    if (dp_filter_is_empty(filter)) {
        return true;
    }
    subject s = {.point = point};
    const bool matches = clauses_match(&filter->root, &s, NULL);
    ort_json_free(s.doc);
    return matches;
}
