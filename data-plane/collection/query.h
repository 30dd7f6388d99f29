/* data-plane/collection/query.h: what a search, a scroll, a count asks, and what comes back. */
#ifndef DP_QUERY_H
#define DP_QUERY_H
#include "base/json_read.h"
#include "base/point_id.h"
#include "collection/schema.h"
#include "filter/filter.h"
#include "filter/path.h"

/* A vector as a request gives it or as a point holds it. */
typedef enum { DP_VECTOR_NONE, DP_VECTOR_DENSE, DP_VECTOR_MULTI, DP_VECTOR_SPARSE } dp_vector_kind;

typedef struct {
    dp_vector_kind kind;
    const float *values;     /* dense: count; multi: rows * count, row by row; sparse: count */
    const uint32_t *indices; /* sparse: count, ascending */
    uint32_t count;          /* components of a row, or entries of a sparse vector */
    uint32_t rows;           /* multi only */
} dp_vector;

/* Reads array | array of arrays | {indices, values} into memory of its own; sparse entries come out
 * sorted. Release with dp_vector_fini(). {text, model} is read as bm25.h tells.
 * ORT_EFORMAT: another shape. ORT_EVALIDATE: an empty vector, repeated indices, lengths that
 * differ. ORT_EINVAL: a number that is not finite. ORT_ENOMEM. For all of these *out is {0}. */
ORT_NODISCARD ort_err dp_vector_read(dp_vector *out, ort_json v, ort_diag *diag);
void dp_vector_fini(dp_vector *vector);

/* Writes it as JSON, in the shape clients know. */
void dp_vector_write(ort_jw *w, const dp_vector *vector);

typedef enum {
    DP_QUERY_NONE,     /* no query: the filter's points in id order */
    DP_QUERY_NEAREST,  /* by `vector` */
    DP_QUERY_ID,       /* by the stored vector of point `id`, which is left out of the answer */
    DP_QUERY_EXAMPLES, /* by what several vectors say together: `examples` */
    DP_QUERY_ORDER,    /* by a payload field: `order` */
    DP_QUERY_SAMPLE,   /* any points, at random */
} dp_query_kind;

/* How several examples make one score; larger is better, whatever the metric. s(x) is the likeness
 * of a point to x as Qdrant computes with it: the dot product, or the negative distance (squared
 * for Euclid); f(x) = x/(1+|x|). */
typedef enum {
    DP_EXAMPLES_BEST,     /* best_score: (f(p)+1)/2 of the likest positive, negated for the likest
                             negative where that is likelier */
    DP_EXAMPLES_SUM,      /* sum_scores: sum of s(positive) - sum of s(negative) */
    DP_EXAMPLES_DISCOVER, /* one for each pair on whose positive side the point is, less one for
                             each other, + (f(s(target))+1)/2 */
    DP_EXAMPLES_CONTEXT,  /* sum over the pairs of f(min(s(positive) - s(negative) - epsilon, 0)) */
    DP_EXAMPLES_FEEDBACK, /* a * s(target) + sum over the pairs of weight * (s(pos) - s(neg)) */
} dp_examples_kind;

#define DP_EXAMPLES_MAX 1024u

/* Borrowed for the call, as the vectors are. */
typedef struct {
    dp_examples_kind kind;
    float a;                   /* FEEDBACK */
    const dp_vector *target;   /* DISCOVER, FEEDBACK */
    const dp_vector *positive; /* of pairs: pair i is positive[i] and negative[i] */
    const dp_vector *negative;
    const float *weights; /* FEEDBACK, of pairs */
    uint32_t positive_count, negative_count;
} dp_examples;

/* The values of a field by which points are ordered: integers and floats by size, datetimes by
 * time, uuids by their bytes. Values of other types do not count. */
typedef enum { DP_ORDER_INTEGER, DP_ORDER_FLOAT, DP_ORDER_DATETIME, DP_ORDER_UUID } dp_order_kind;

/* A value of such a field. INTEGER and DATETIME (microseconds) stand in `integer`. */
typedef struct {
    dp_order_kind kind;
    double real;
    int64_t integer;
    ort_point_id uuid;
} dp_order_value;

/* A point is answered once for each different value it has. Equal values: by id, in the same
 * direction. */
typedef struct {
    dp_order_kind kind;
    const dp_path *path; /* arrays that it leads to count by their elements */
    bool descending;
    bool has_from;       /* only values from here on, inclusive */
    dp_order_value from; /* of the field's kind; `real` counts for INTEGER when its kind is FLOAT */
} dp_order;

/* One search. Everything in it is borrowed for the call. */
typedef struct {
    dp_query_kind kind;
    dp_vector vector;             /* NEAREST */
    ort_point_id id;              /* ID */
    const dp_examples *examples;  /* EXAMPLES */
    const dp_order *order;        /* ORDER */
    const ort_point_id *excluded; /* NEAREST, ID, EXAMPLES: no answers; ascending */
    uint32_t excluded_count;
    const char *using_name;  /* which vector; NULL = "" */
    const dp_filter *filter; /* NULL = all */
    uint64_t limit,
        offset; /* any value: what exceeds ORT_TOP_K_MAX in sum is cut, never allocated */
    bool has_threshold;
    float score_threshold; /* keeps >= for similarities and EXAMPLES, <= for distances */
    uint32_t hnsw_ef;      /* 0 = the default */
    bool exact;            /* scan, whatever the graph would say */
    bool indexed_only;
    const dp_filter *idf_corpus; /* sparse with idf: words are rare or not among these points;
                                    NULL: among all of the collection */
    bool quantization_ignore;    /* params.quantization: measure the rows themselves */
    bool has_rescore, rescore;
    float oversampling; /* >= 1; 0 = not asked for */
    uint64_t until_ns;  /* when comparing one by one ends with ORT_ETIMEOUT; 0 = never */
} dp_query;

/* A point of an answer. What it points to lives until the callback returns. */
typedef struct {
    ort_point_id id;
    uint64_t version;            /* LSN of the operation that last changed it */
    float score;                 /* where nothing was compared: 1 in a query, 0 in a listing */
    const dp_order_value *order; /* in an answer by order: what put the point here; else NULL */
    const char *payload;         /* compact JSON object text; NULL unless asked for */
    size_t payload_len;
    void *opaque; /* for dp_point_vector() */
} dp_point_view;

/* Vector i of the schema, as this point holds it: floats whatever the datatype. The memory is the
 * view's own and is overwritten by the next call for the same point's vector i.
 * ORT_ENOTFOUND: the point has none. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_point_vector(const dp_point_view *view, uint32_t i, dp_vector *out);

/* Whether the point has vector i of the schema. */
bool dp_point_has_vector(const dp_point_view *view, uint32_t i);

/* How far two vectors of one column are from each other, smaller is nearer; dp_metric_score() of it
 * is the score (for sparse ones: its negative). Both as points hold them or unit length for Cosine.
 * Thread-safe. */
float dp_vector_distance(const dp_vector_schema *schema, const dp_vector *a, const dp_vector *b);
float dp_vector_score(const dp_vector_schema *schema, float distance);

/* Which vectors an answer shows, by column. */
typedef struct {
    bool all;
    uint64_t columns[ORT_VECTORS_PER_POINT_MAX / 64]; /* bit i: vector i of the schema */
} dp_vector_selector;

/* Reads with_vector: bool | [names]; a missing or null value gives `absent`.
 * ORT_EFORMAT: another shape. ORT_EINVAL: "Not existing vector name error: X". */
ORT_NODISCARD ort_err dp_vector_selector_parse(dp_vector_selector *out, const dp_schema *schema,
                                               ort_json v, bool absent, ort_diag *diag);
bool dp_vector_selector_wants(const dp_vector_selector *selector, uint32_t i);

/* What to show of the points of an answer. */
typedef struct {
    dp_payload_selector payload;
    dp_vector_selector vectors;
} dp_show;
void dp_show_fini(dp_show *show);

/* Writes the members "payload" and "vector" of a point into an open object, as `show` says; neither
 * when neither is wanted. `schema` is that of the answer (dp_answer below, or the callback's).
 * ORT_ECORRUPT, ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_point_write(const dp_point_view *view, const dp_schema *schema,
                                     const dp_show *show, ort_jw *w, ort_diag *diag);

/* Called for each point of an answer, in its order, while the collection is locked for reading:
 * write to memory, never to a socket, and call nothing of this collection but dp_point_vector() and
 * dp_point_write() (a reader that came again would wait behind a writer that waits for it). Another
 * return than ORT_OK ends the call with that error.
 *
 * query  which query of the batch, 0 .. n-1
 * schema the one the point was written under */
typedef ort_err (*dp_point_fn)(void *ctx, size_t query, const dp_schema *schema,
                               const dp_point_view *view);
#endif /* DP_QUERY_H */
