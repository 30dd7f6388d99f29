/* tests/integration/rest_model.h: a collection as plain JSON in memory, which does what the REST
 * API says and no more: every question is answered by looking at every point. It shares no code
 * with the product. Beside it the dice: random payloads, filters and operations. */
#ifndef REST_MODEL_H
#define REST_MODEL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#define MODEL_IDS 40u

/* id: its JSON, in the order of scrolling over the array. payload NULL: there is no such point. */
typedef struct {
    json_t *id;
    json_t *payload; /* object */
    json_t *vector;  /* object, by name as in model_vectors; any may be absent */
} model_point;

typedef struct {
    model_point at[MODEL_IDS];
} model;

void model_init(model *m);
void model_fini(model *m);

/* The point of that id; ends the test when no point could have it. */
model_point *model_find(model *m, const json_t *id);

/* Does one operation of points/batch ("upsert", "set_payload", ...), with the body of the request
 * that would do it alone. false: a point it names is not there; the others are changed. */
bool model_apply(model *m, const char *kind, const json_t *body);

/* --- vectors (rest_model_vector.c) ---------------------------------------------------------- */

typedef enum { MODEL_DENSE, MODEL_SPARSE, MODEL_MULTI } model_vector_kind;

typedef enum { MODEL_DOT, MODEL_EUCLID, MODEL_MANHATTAN } model_metric;

typedef struct {
    const char *name;
    model_vector_kind kind;
    uint32_t dim;
    model_metric metric;
    bool bytes; /* whole numbers from 0 on */
    bool idf;   /* rare indices count for more; the last of them, its numbers are positive */
} model_vector;

#define MODEL_VECTORS 7u
#define MODEL_PLAIN_VECTORS 6u /* without idf */
extern const model_vector model_vectors[MODEL_VECTORS];

/* How like the point's vector is to another of its kind: larger is liker. The dot product, the
 * negative distance (Euclid's squared), or the sum over the other's rows of the likest row. false:
 * the point has no such vector, or (sparse) no index in common with the other. */
bool model_likeness(const model_vector *v, const json_t *other, const model_point *p, double *like);

/* What an answer shows for such a likeness. */
double model_score(const model_vector *v, double likeness);
bool model_gives_distances(const model_vector *v); /* of which the smaller is the better */

/* --- filters (rest_model_filter.c) ---------------------------------------------------------- */

/* filter may be NULL: everything matches. */
bool model_matches(const json_t *filter, const model_point *p);

/* What a path of members, [] and [i] leads to, as an array; the caller's. */
json_t *model_values(json_t *root, const char *path);

/* The same, with the elements of arrays in the place of the arrays. */
json_t *model_flat_values(json_t *root, const char *path);

/* Whether one of the list's elements is equal to v. */
bool model_lists(const json_t *list, const json_t *v);

/* A date and time of a form that model_random_payload() writes. */
bool model_datetime_us(const json_t *v, int64_t *us);

/* --- words (rest_model_text.c) -------------------------------------------------------------- */

/* From now on conditions on text at this path ask for words, made as these parameters of a text
 * index say (the caller's); NULL: for parts of the string. */
void model_declare_text(const char *path, const json_t *params);

/* Whether a text condition ({text} | {text_any} | {phrase}) holds for the values of a path. */
bool model_text_holds(const char *path, const json_t *match, const json_t *flat_values);

/* Text conditions that look for parts of the string whatever is declared. */
bool model_part_holds(const json_t *match, const char *text);

/* --- dice (rest_model_random.c, rest_model_random_filter.c) ---------------------------------- */

void model_seed(uint64_t seed);
uint32_t model_below(uint32_t n); /* 0 .. n - 1 */
int model_between(int low, int high);
bool model_one_in(uint32_t n);

typedef enum {
    MODEL_TAG,
    MODEL_INT,
    MODEL_REAL,
    MODEL_BOOL,
    MODEL_TIME,
    MODEL_UUID,
    MODEL_GEO,
    MODEL_WORDS,
    MODEL_ANY
} model_kind;

typedef struct {
    const char *path;
    model_kind kind; /* of most of its values */
} model_field;

#define MODEL_FIELDS 16u
extern const model_field model_fields[MODEL_FIELDS];

json_t *model_random_id(void); /* of a point that may be there */
json_t *model_random_scalar(model_kind kind);
json_t *model_random_vector(const model_vector *v);
json_t *model_random_filter(unsigned depth);
json_t *model_random_condition(unsigned depth);
json_t *model_random_text_index(void); /* a field_schema */

/* --- operations (rest_model_random_op.c) ---------------------------------------------------- */

/* *kind: which one. present_only: ids only of points that are there, where others would be an
 * error; NULL when there is none. */
json_t *model_random_operation(model *m, bool present_only, const char **kind);

/* What those are made of. */
json_t *model_random_payload(void);
json_t *model_random_pair(void); /* an object with x and y */
#endif                           /* REST_MODEL_H */
