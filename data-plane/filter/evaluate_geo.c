/* Places in a box, a circle or a polygon, by the cells of a Z curve: squares of the map are parted
 * until they are inside, outside, or small enough; those inside are sure, those on the edge are
 * asked point by point. All comparisons err towards the edge, by EDGE_DEGREES and EDGE_M, far more
 * than what rounding can move. */
#include <math.h>

#include "filter/evaluate_internal.h"

#define SQUARES_MAX 192u /* on the edge at once; beyond it they are left as they are */
#define EDGE_DEGREES 1e-9
#define EDGE_M 0.05
#define POLYGON_PARTED_MAX 2048u /* corners: beyond it only the polygon's box is looked at */
#define METRES_A_DEGREE 111320.0 /* of latitude, and at most of longitude */

typedef enum { OUTSIDE, EDGE, INSIDE } side;

typedef struct {
    uint32_t x, y, level; /* of 2^level times 2^level squares */
} square;

typedef struct {
    double west, east, south, north;
} box;

static box
box_of(square s)
{
    const double size = (double)(UINT64_C(1) << (DP_GEO_BITS - s.level));
    return (box){.west = dp_key__cell_lon((double)s.x * size),
                 .east = dp_key__cell_lon((double)(s.x + 1) * size),
                 .south = dp_key__cell_lat((double)s.y * size),
                 .north = dp_key__cell_lat((double)(s.y + 1) * size)};
}

static side
side_of_range(double low, double high, double from, double to)
{
    if (high < from - EDGE_DEGREES || low > to + EDGE_DEGREES) {
        return OUTSIDE;
    }
    return low > from + EDGE_DEGREES && high < to - EDGE_DEGREES ? INSIDE : EDGE;
}

static side
side_of_box(const dp_geo *g, box b)
{
    const side lat = side_of_range(b.south, b.north, g->b.lat, g->a.lat);
    side lon;
    if (g->a.lon > g->b.lon) { /* over the date line */
        const side east = side_of_range(b.west, b.east, g->a.lon, 1e9);
        const side west = side_of_range(b.west, b.east, -1e9, g->b.lon);
        lon = east > west ? east : west;
    } else {
        lon = side_of_range(b.west, b.east, g->a.lon, g->b.lon);
    }
    return lat < lon ? lat : lon;
}

/* Every place of the square is within `reach` of its middle: up the meridian, then along the
 * parallel, which is longest where it is nearest to the equator. */
static side
side_of_circle(const dp_geo *g, box b)
{
    const dp_geo_point middle = {.lon = (b.west + b.east) / 2, .lat = (b.south + b.north) / 2};
    const double reach =
        ((b.east - b.west) / 2 + (b.north - b.south) / 2) * METRES_A_DEGREE + EDGE_M;
    const double away = dp_geo__distance_m(g->a, middle);
    if (away - reach > g->radius_m) {
        return OUTSIDE;
    }
    return away + reach < g->radius_m ? INSIDE : EDGE;
}

static bool
touches(const dp_geo_ring *ring, box b)
{
    for (size_t i = 1; i < ring->count; i++) {
        const dp_geo_point p = ring->points[i - 1], q = ring->points[i];
        if (fmin(p.lon, q.lon) <= b.east + EDGE_DEGREES &&
            fmax(p.lon, q.lon) >= b.west - EDGE_DEGREES &&
            fmin(p.lat, q.lat) <= b.north + EDGE_DEGREES &&
            fmax(p.lat, q.lat) >= b.south - EDGE_DEGREES) {
            return true;
        }
    }
    return false;
}

static side
side_of_polygon(const dp_geo *g, box b)
{
    for (size_t i = 0; i < g->ring_count; i++) {
        if (touches(&g->rings[i], b)) {
            return EDGE;
        }
    }
    const dp_geo_point middle = {.lon = (b.west + b.east) / 2, .lat = (b.south + b.north) / 2};
    return dp_geo__polygon_holds(g, middle) ? INSIDE : OUTSIDE;
}

static box
bounds_of(const dp_geo_ring *ring)
{
    box b = {.west = 1e9, .east = -1e9, .south = 1e9, .north = -1e9};
    for (size_t i = 0; i < ring->count; i++) {
        b.west = fmin(b.west, ring->points[i].lon);
        b.east = fmax(b.east, ring->points[i].lon);
        b.south = fmin(b.south, ring->points[i].lat);
        b.north = fmax(b.north, ring->points[i].lat);
    }
    return b;
}

/* With very many corners: inside the box of the outer ring, maybe. */
static side
side_of_bounds(const box *bounds, box b)
{
    const side lon = side_of_range(b.west, b.east, bounds->west, bounds->east);
    const side lat = side_of_range(b.south, b.north, bounds->south, bounds->north);
    return lon == OUTSIDE || lat == OUTSIDE ? OUTSIDE : EDGE;
}

typedef struct {
    dp_eval *e;
    const dp_payload_index *index;
    const dp_geo *geo;
    bool large; /* a polygon of very many corners */
    box bounds;
    dp_slots *sure, *may;
} search;

static side
side_of(const search *s, square at)
{
    const box b = box_of(at);
    if (s->large) {
        return side_of_bounds(&s->bounds, b);
    }
    switch (s->geo->kind) {
    case DP_GEO_BOX:
        return side_of_box(s->geo, b);
    case DP_GEO_RADIUS:
        return side_of_circle(s->geo, b);
    default:
        return side_of_polygon(s->geo, b);
    }
}

/* The keys of a square are one range: that is what the curve is for. */
static int64_t
first_key(square at)
{
    const uint32_t shift = DP_GEO_BITS - at.level;
    return dp_key__of_cell(at.x << shift, at.y << shift);
}

static int64_t
last_key(square at)
{
    return first_key(at) + ((INT64_C(1) << (2 * (DP_GEO_BITS - at.level))) - 1);
}

static void
add_square(search *s, square at, dp_slots *to)
{
    dp_slots *found;
    const ort_err err = dp_numbers_range(s->index->numbers, first_key(at), last_key(at), &found);
    if (err != ORT_OK) {
        s->e->err = err;
        return;
    }
    dp_slots_or_into(to, found);
    dp_slots_free(found);
}

/* Level by level, so that all squares on the edge are of one size when their number ends it. */
static void
look(search *s)
{
    square now[SQUARES_MAX], next[SQUARES_MAX * 4];
    size_t count = 1;
    now[0] = (square){0};
    while (count > 0 && s->e->err == ORT_OK) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++) {
            for (uint32_t q = 0; q < 4; q++) {
                const square part = {.x = now[i].x * 2 + (q & 1),
                                     .y = now[i].y * 2 + (q >> 1),
                                     .level = now[i].level + 1};
                const side where = side_of(s, part);
                if (where == INSIDE) {
                    add_square(s, part, s->sure);
                } else if (where == EDGE &&
                           dp_numbers_any(s->index->numbers, first_key(part), last_key(part))) {
                    next[n++] = part;
                }
            }
        }
        const bool last = n > SQUARES_MAX || (n > 0 && next[0].level == DP_GEO_BITS - 6);
        for (size_t i = 0; i < n; i++) {
            if (last) {
                add_square(s, next[i], s->may);
            } else {
                now[i] = next[i];
            }
        }
        count = last ? 0 : n;
    }
}

dp_both
dp_eval__geo(dp_eval *e, const dp_payload_index *x, const dp_geo *g)
{
    search s = {.e = e, .index = x, .geo = g, .sure = dp_slots_new()};
    size_t corners = 0;
    for (size_t i = 0; i < g->ring_count; i++) {
        corners += g->rings[i].count;
    }
    s.large = corners > POLYGON_PARTED_MAX;
    if (s.large) {
        s.bounds = bounds_of(&g->rings[0]);
    }
    s.may = dp_slots_copy(x->has[DP_HAS_OTHER]); /* places off the map */
    if (s.sure == NULL || s.may == NULL) {
        dp_slots_free(s.sure);
        dp_slots_free(s.may);
        e->err = ORT_ENOMEM;
        return dp_both__none();
    }
    look(&s);
    dp_slots_or_into(s.may, s.sure);
    return dp_both__between(e, s.sure, s.may);
}
