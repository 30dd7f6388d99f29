/* Filters by the letter of the API: type-strict, arrays by their elements. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rest_model.h"

static void follow_member(json_t *v, const char *path, json_t *out);

/* rest: what of the path comes after the member or element v. */
static void
follow(json_t *v, const char *rest, json_t *out)
{
    size_t i;
    json_t *item;
    char *end;
    if (v == NULL) {
        return;
    }
    if (*rest == '\0') {
        json_array_append(out, v);
    } else if (*rest == '.') {
        follow_member(v, rest + 1, out);
    } else if (rest[1] == ']') {
        json_array_foreach(v, i, item)
        {
            follow(item, rest + 2, out);
        }
    } else {
        i = strtoul(rest + 1, &end, 10);
        follow(json_array_get(v, i), end + 1, out);
    }
}

static void
follow_member(json_t *v, const char *path, json_t *out)
{
    char key[32];
    const size_t n = strcspn(path, ".[");
    snprintf(key, sizeof key, "%.*s", (int)n, path);
    follow(json_object_get(v, key), path + n, out);
}

json_t *
model_values(json_t *root, const char *path)
{
    json_t *out = json_array();
    follow_member(root, path, out);
    return out;
}

json_t *
model_flat_values(json_t *root, const char *path)
{
    size_t i;
    json_t *v, *out = json_array(), *values = model_values(root, path);
    json_array_foreach(values, i, v)
    {
        if (json_is_array(v)) {
            json_array_extend(out, v);
        } else {
            json_array_append(out, v);
        }
    }
    json_decref(values);
    return out;
}

bool
model_datetime_us(const json_t *v, int64_t *us)
{
    struct tm tm = {0};
    int at = 0, zone_hours = 0, zone_minutes = 0;
    double seconds = 0;
    char sign = '+';
    const char *text = json_string_value(v);
    if (text == NULL ||
        sscanf(text, "%4d-%2d-%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &at) != 3) {
        return false;
    }
    if (text[at] == 'T') {
        int more = 0;
        if (sscanf(text + at, "T%2d:%2d:%lf%n", &tm.tm_hour, &tm.tm_min, &seconds, &more) != 3) {
            return false;
        }
        at += more;
        if (strcmp(text + at, "Z") != 0 &&
            sscanf(text + at, "%c%2d:%2d", &sign, &zone_hours, &zone_minutes) != 3) {
            return false;
        }
    } else if (text[at] != '\0') {
        return false;
    }
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    const int64_t zone_s = (int64_t)zone_hours * 3600 + (int64_t)zone_minutes * 60;
    *us = ((int64_t)timegm(&tm) - (sign == '-' ? -zone_s : zone_s)) * 1000000 +
          llround(seconds * 1e6);
    return true;
}

bool
model_lists(const json_t *list, const json_t *v)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (json_equal(item, v)) {
            return true;
        }
    }
    return false;
}

static bool
match_holds(const json_t *match, const json_t *v)
{
    const json_t *want;
    const char *text = json_string_value(v);
    if ((want = json_object_get(match, "value")) != NULL) {
        return json_equal(want, v);
    }
    if ((want = json_object_get(match, "any")) != NULL) {
        return model_lists(want, v);
    }
    if ((want = json_object_get(match, "except")) != NULL) {
        return !json_is_null(v) && !model_lists(want, v);
    }
    if ((want = json_object_get(match, "prefix")) != NULL) {
        return text != NULL &&
               strncmp(text, json_string_value(want), json_string_length(want)) == 0;
    }
    return text != NULL && model_part_holds(match, text); /* in `nested` */
}

/* Each bound that is there holds for x; of(bound) is its number. */
static bool
bounds_hold(const json_t *range, double x, double (*of)(const json_t *bound))
{
    const json_t *lt = json_object_get(range, "lt"), *gt = json_object_get(range, "gt");
    const json_t *lte = json_object_get(range, "lte"), *gte = json_object_get(range, "gte");
    return (lt == NULL || x < of(lt)) && (gt == NULL || x > of(gt)) &&
           (lte == NULL || x <= of(lte)) && (gte == NULL || x >= of(gte));
}

/* Microseconds of these years are exact in a double. */
static double
datetime_of(const json_t *v)
{
    int64_t us = 0;
    model_datetime_us(v, &us);
    return (double)us;
}

static bool
range_holds(const json_t *range, const json_t *v)
{
    static const char *const names[] = {"lt", "gt", "lte", "gte"};
    int64_t us;
    for (size_t i = 0; i < 4; i++) {
        if (json_is_string(json_object_get(range, names[i]))) {
            return model_datetime_us(v, &us) && bounds_hold(range, (double)us, datetime_of);
        }
    }
    return json_is_number(v) && bounds_hold(range, json_number_value(v), json_number_value);
}

static double
member(const json_t *v, const char *name)
{
    return json_number_value(json_object_get(v, name));
}

/* The angle between two directions, by the dot product of unit vectors. */
static double
metres(const json_t *a, const json_t *b)
{
    const double deg = acos(-1.0) / 180;
    const double la = member(a, "lat") * deg, lb = member(b, "lat") * deg;
    const double c =
        sin(la) * sin(lb) + cos(la) * cos(lb) * cos((member(a, "lon") - member(b, "lon")) * deg);
    return 6371008.8 * acos(c > 1 ? 1 : c < -1 ? -1 : c);
}

/* How often the ring goes around the place, by the angles under which its edges are seen. */
static bool
ring_holds(const json_t *ring, const json_t *v)
{
    size_t i;
    json_t *b;
    double turned = 0;
    const json_t *points = json_object_get(ring, "points"), *a = NULL;
    json_array_foreach(points, i, b)
    {
        if (a != NULL) {
            const double ax = member(a, "lon") - member(v, "lon");
            const double ay = member(a, "lat") - member(v, "lat");
            const double bx = member(b, "lon") - member(v, "lon");
            const double by = member(b, "lat") - member(v, "lat");
            turned += atan2(ax * by - ay * bx, ax * bx + ay * by);
        }
        a = b;
    }
    return fabs(turned) > 1;
}

static bool
polygon_holds(const json_t *polygon, const json_t *v)
{
    size_t i;
    json_t *hole;
    bool inside = ring_holds(json_object_get(polygon, "exterior"), v);
    json_array_foreach(json_object_get(polygon, "interiors"), i, hole)
    {
        inside = inside && !ring_holds(hole, v);
    }
    return inside;
}

/* A place is an object with two numbers; borders are outside. */
static bool
geo_holds(const json_t *condition, const json_t *v)
{
    const json_t *circle = json_object_get(condition, "geo_radius");
    const json_t *box = json_object_get(condition, "geo_bounding_box");
    if (!json_is_number(json_object_get(v, "lon")) || !json_is_number(json_object_get(v, "lat"))) {
        return false;
    }
    if (json_object_get(condition, "geo_polygon") != NULL) {
        return polygon_holds(json_object_get(condition, "geo_polygon"), v);
    }
    if (circle != NULL) {
        return metres(json_object_get(circle, "center"), v) < member(circle, "radius");
    }
    const json_t *a = json_object_get(box, "top_left"), *b = json_object_get(box, "bottom_right");
    const double lon = member(v, "lon"), lat = member(v, "lat");
    const double west = member(a, "lon"), east = member(b, "lon");
    const bool between = west > east ? lon > west || lon < east : lon > west && lon < east;
    return between && lat < member(a, "lat") && lat > member(b, "lat");
}

static bool
holds_for(const json_t *condition, const json_t *v)
{
    const json_t *part;
    if ((part = json_object_get(condition, "match")) != NULL) {
        return match_holds(part, v);
    }
    if ((part = json_object_get(condition, "range")) != NULL) {
        return range_holds(part, v);
    }
    return geo_holds(condition, v);
}

static size_t
count_of(const json_t *v)
{
    return json_is_array(v) ? json_array_size(v) : !json_is_null(v);
}

static bool
all_empty(const json_t *values)
{
    size_t i;
    json_t *v;
    json_array_foreach(values, i, v)
    {
        if (count_of(v) > 0) {
            return false;
        }
    }
    return true;
}

static bool
any_null(const json_t *values)
{
    size_t i, j;
    json_t *v, *item;
    json_array_foreach(values, i, v)
    {
        if (json_is_null(v)) {
            return true;
        }
        json_array_foreach(v, j, item)
        {
            if (json_is_null(item)) {
                return true;
            }
        }
    }
    return false;
}

static bool
any_count(const json_t *values, const json_t *range)
{
    size_t i;
    json_t *v;
    if (json_array_size(values) == 0) {
        return bounds_hold(range, 0, json_number_value);
    }
    json_array_foreach(values, i, v)
    {
        if (bounds_hold(range, (double)count_of(v), json_number_value)) {
            return true;
        }
    }
    return false;
}

static bool
any_value(const json_t *values, const json_t *condition)
{
    size_t i, j;
    json_t *v, *item;
    json_array_foreach(values, i, v)
    {
        if (!json_is_array(v) && holds_for(condition, v)) {
            return true;
        }
        json_array_foreach(v, j, item)
        {
            if (holds_for(condition, item)) {
                return true;
            }
        }
    }
    return false;
}

static bool
field_matches(const json_t *condition, const json_t *values)
{
    const json_t *part;
    if ((part = json_object_get(condition, "values_count")) != NULL) {
        return any_count(values, part);
    }
    if ((part = json_object_get(condition, "is_empty")) != NULL) {
        return all_empty(values) == json_is_true(part);
    }
    if ((part = json_object_get(condition, "is_null")) != NULL) {
        return any_null(values) == json_is_true(part);
    }
    return any_value(values, condition);
}

/* --- what looks at ids ----------------------------------------------------------------------- */

static uint64_t
rotated(uint64_t v, unsigned by)
{
    return v << by | v >> (64 - by);
}

static void
sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotated(v[1], 13) ^ v[0];
    v[3] = rotated(v[3], 16) ^ v[2];
    v[0] = rotated(v[0], 32) + v[3];
    v[2] += v[1];
    v[3] = rotated(v[3], 21) ^ v[0];
    v[1] = rotated(v[1], 17) ^ v[2];
    v[2] = rotated(v[2], 32);
}

/* SipHash-2-4 (Aumasson, Bernstein 2012) under a zero key, of whole words of eight bytes. */
static uint64_t
sip_hash(const uint64_t *words, size_t count)
{
    uint64_t v[4] = {0x736f6d6570736575, 0x646f72616e646f6d, 0x6c7967656e657261,
                     0x7465646279746573};
    for (size_t i = 0; i <= count; i++) {
        const uint64_t word = i < count ? words[i] : (uint64_t)count * 8 << 56;
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (size_t i = 0; i < 4; i++) {
        sip_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* A number's eight bytes, the lowest first, or the sixteen of a UUID as they are written. */
static bool
is_in_slice(const json_t *slice, const json_t *id)
{
    uint64_t words[2] = {(uint64_t)json_integer_value(id), 0};
    const char *text = json_string_value(id);
    for (unsigned at = 0; text != NULL && *text != '\0'; text++) {
        if (*text != '-') {
            const char digit[2] = {*text, '\0'};
            words[at / 16] |= (uint64_t)strtoul(digit, NULL, 16)
                              << (at % 16 / 2 * 8 + (at % 2 == 0 ? 4 : 0));
            at++;
        }
    }
    return sip_hash(words, text != NULL ? 2 : 1) %
               (uint64_t)json_integer_value(json_object_get(slice, "total")) ==
           (uint64_t)json_integer_value(json_object_get(slice, "index"));
}

static bool matches(const json_t *filter, const model_point *p, json_t *root);

/* The array is named with or without the brackets. */
static bool
nested_matches(const json_t *nested, const model_point *p, json_t *root)
{
    size_t i, j;
    json_t *v, *item;
    bool found = false;
    char path[64];
    const char *key = json_string_value(json_object_get(nested, "key"));
    snprintf(path, sizeof path, "%.*s", (int)strcspn(key, "["), key);
    json_t *values = model_values(root, path);
    json_array_foreach(values, i, v)
    {
        json_array_foreach(v, j, item)
        {
            found = found ||
                    (json_is_object(item) && matches(json_object_get(nested, "filter"), p, item));
        }
    }
    json_decref(values);
    return found;
}

static bool
key_matches(const json_t *c, const char *path, const model_point *p, json_t *root)
{
    const json_t *match = json_object_get(c, "match");
    const bool words = json_object_get(match, "text") != NULL ||
                       json_object_get(match, "text_any") != NULL ||
                       json_object_get(match, "phrase") != NULL;
    /* Within `nested` no index is asked what text means. */
    const bool by_text = words && root == p->payload;
    json_t *values = by_text ? model_flat_values(root, path) : model_values(root, path);
    const bool holds = by_text ? model_text_holds(path, match, values) : field_matches(c, values);
    json_decref(values);
    return holds;
}

static bool
condition_matches(const json_t *c, const model_point *p, json_t *root)
{
    const json_t *part;
    if ((part = json_object_get(c, "has_id")) != NULL) {
        return model_lists(part, p->id);
    }
    if ((part = json_object_get(c, "has_vector")) != NULL) {
        return json_object_get(p->vector, json_string_value(part)) != NULL;
    }
    if ((part = json_object_get(c, "nested")) != NULL) {
        return nested_matches(part, p, root);
    }
    if ((part = json_object_get(c, "slice")) != NULL) {
        return is_in_slice(part, p->id);
    }
    if ((part = json_object_get(c, "key")) != NULL) {
        return key_matches(c, json_string_value(part), p, root);
    }
    const json_t *empty = json_object_get(c, "is_empty"), *null = json_object_get(c, "is_null");
    if (empty != NULL || null != NULL) {
        part = json_object_get(empty != NULL ? empty : null, "key");
        json_t *values = model_values(root, json_string_value(part));
        const bool holds = empty != NULL ? all_empty(values) : any_null(values);
        json_decref(values);
        return holds;
    }
    return matches(c, p, root);
}

/* How many of a clause match, which may be one condition by itself. */
static size_t
matching(const json_t *clause, const model_point *p, json_t *root, size_t *of)
{
    size_t i, found = 0;
    json_t *c;
    *of = json_is_array(clause) ? json_array_size(clause) : clause != NULL;
    if (json_is_object(clause)) {
        return condition_matches(clause, p, root);
    }
    json_array_foreach(clause, i, c)
    {
        found += condition_matches(c, p, root);
    }
    return found;
}

/* root: the payload, or the element that a nested filter looks at. */
static bool
matches(const json_t *filter, const model_point *p, json_t *root)
{
    size_t of;
    const json_t *min = json_object_get(filter, "min_should");
    if (matching(json_object_get(filter, "must"), p, root, &of) < of ||
        matching(json_object_get(filter, "must_not"), p, root, &of) > 0 ||
        (matching(json_object_get(filter, "should"), p, root, &of) == 0 && of > 0)) {
        return false;
    }
    return min == NULL || matching(json_object_get(min, "conditions"), p, root, &of) >=
                              (size_t)json_integer_value(json_object_get(min, "min_count"));
}

bool
model_matches(const json_t *filter, const model_point *p)
{
    return filter == NULL || matches(filter, p, p->payload);
}
