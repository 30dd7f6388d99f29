/* data-plane/filter/filter_internal.h: the tree of conditions that parsing makes and matching
 * walks.
 *
 * Strings point into the filter's own document, whose escapes are undone while parsing: matching
 * only reads, so that threads may share a filter. */
#ifndef DP_FILTER_INTERNAL_H
#define DP_FILTER_INTERNAL_H
#include "filter/field.h"
#include "filter/filter.h"
#include "filter/path_internal.h"

typedef struct dp_clauses dp_clauses;

typedef struct {
    const char *text;
    size_t len;
} dp_text;

typedef enum {
    DP_MATCH_NONE,
    DP_MATCH_STRING,
    DP_MATCH_INTEGER,
    DP_MATCH_BOOL,
    DP_MATCH_ANY_STRING, /* one of texts, sorted */
    DP_MATCH_ANY_INTEGER,
    DP_MATCH_EXCEPT_STRING,
    DP_MATCH_EXCEPT_INTEGER,
    DP_MATCH_TEXT,     /* holds texts[0] */
    DP_MATCH_TEXT_ANY, /* holds one of texts */
    DP_MATCH_PREFIX,   /* begins with texts[0] */
    DP_MATCH_PHRASE,   /* holds texts[0]; with a text index its words, in this order */
} dp_match_kind;

typedef struct {
    dp_match_kind kind;
    bool boolean;
    dp_text *texts; /* count; sorted for ANY and EXCEPT */
    int64_t *integers;
    size_t count;
    dp_text raw; /* TEXT, TEXT_ANY, PHRASE: as it was sent */
} dp_match;

typedef struct {
    bool given;
    bool datetime; /* bounds are microseconds since 1970, in the integers */
    bool has_lt, has_gt, has_lte, has_gte;
    double lt, gt, lte, gte;
    int64_t lt_us, gt_us, lte_us, gte_us;
} dp_range;

typedef struct {
    bool given;
    bool has_lt, has_gt, has_lte, has_gte;
    uint64_t lt, gt, lte, gte;
} dp_count_range;

typedef struct {
    double lon, lat;
} dp_geo_point;

typedef struct {
    dp_geo_point *points;
    size_t count;
} dp_geo_ring;

typedef enum { DP_GEO_NONE, DP_GEO_BOX, DP_GEO_RADIUS, DP_GEO_POLYGON } dp_geo_kind;

typedef struct {
    dp_geo_kind kind;
    dp_geo_point a, b; /* box: top left, bottom right; radius: centre in a */
    double radius_m;
    dp_geo_ring *rings; /* polygon: exterior, then interiors */
    size_t ring_count;
} dp_geo;

/* The checks on one key. Where a request gives several, one that holds is enough, as at Qdrant. */
typedef struct {
    dp_path *path;
    dp_match match;
    dp_range range;
    dp_geo geo;
    dp_count_range count;
    bool has_is_empty, is_empty;
    bool has_is_null, is_null;
    /* Of the conditions that a declaration settles: on text, and strings that may name a UUID;
     * DP_TEXT_NONE: none of them. */
    uint32_t text_number;
    const dp_place *place; /* of a string that may name a UUID; NULL: the point itself */
} dp_field;

#define DP_TEXT_NONE UINT32_MAX

/* The member by which a record says how its text conditions were settled. */
#define DP_FILTER_RECORD_FIELDS "$text_fields"

typedef enum {
    DP_COND_FIELD,
    DP_COND_IS_EMPTY, /* path */
    DP_COND_IS_NULL,  /* path */
    DP_COND_HAS_ID,
    DP_COND_HAS_VECTOR,
    DP_COND_NESTED, /* path to an array, clauses for its elements */
    DP_COND_SLICE,
    DP_COND_FILTER, /* clauses */
} dp_condition_kind;

typedef struct {
    dp_condition_kind kind;
    union {
        dp_field *field;
        struct {
            ort_point_id *ids; /* sorted, no repeats */
            size_t count;
        } has_id;
        const char *vector_name; /* NUL-ended */
        struct {
            uint64_t total, index;
        } slice;
    } u;
    dp_path *path;
    dp_clauses *clauses;
} dp_condition;

typedef struct {
    dp_condition *items;
    size_t count;
} dp_conditions;

/* One Filter object. Its four parts are joined by AND. */
struct dp_clauses {
    dp_conditions must, should, must_not, min_should;
    bool has_min_should;
    uint64_t min_count;
};

typedef struct dp_block dp_block;

struct dp_filter {
    char *text; /* compact JSON, what doc is a view of */
    size_t text_len;
    ort_json_doc *doc;
    dp_clauses root;
    uint32_t condition_count;
    uint32_t corner_count; /* of polygons */
    uint64_t until_ns;
    bool wants_payload; /* one of them looks at payloads */
    const char **vector_names;
    uint32_t vector_name_count, vector_name_cap;
    dp_field **text_fields; /* what a declaration settles, by text_number */
    uint32_t text_field_count, text_field_cap;
    dp_fields *own_fields; /* declarations that stand in a record; they rule its conditions */
    dp_path **paths;       /* all of the tree, to free */
    size_t path_count, path_cap;
    dp_block *blocks; /* the tree's memory */
};

/* What the condition asks by words, or NULL: as a part of the text. */
dp_text_query *dp_filter_texts_peek(const dp_filter_texts *texts, uint32_t number);

/* The strings of the condition, each UUID in its one spelling and sorted by that, where the field
 * is declared to hold UUIDs; or NULL: strings are compared as they are written. */
const dp_match *dp_filter_texts_by_value(const dp_filter_texts *texts, uint32_t number);

/* The text, or where it is a UUID in any of its forms, that in lower case with hyphens (in room).
 */
dp_text dp_text__of_uuid(dp_text text, char room[ORT_POINT_ID_TEXT_BYTES]);
int dp_text__cmp(dp_text a, dp_text b);

/* filter_match.c, for evaluation too. */
double dp_geo__distance_m(dp_geo_point a, dp_geo_point b);
bool dp_geo__polygon_holds(const dp_geo *g, dp_geo_point p);
#endif /* DP_FILTER_INTERNAL_H */
