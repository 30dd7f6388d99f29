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
#define MODEL_DIM 3u

/* id: its JSON, in the order of scrolling over the array. payload NULL: there is no such point. */
typedef struct {
    json_t *id;
    json_t *payload; /* object */
    json_t *vector;  /* object: "d" numbers, "s" {indices, values} by index; either may be absent */
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

/* --- filters (rest_model_filter.c) ---------------------------------------------------------- */

/* filter may be NULL: everything matches. */
bool model_matches(const json_t *filter, const model_point *p);

/* What a path of members, [] and [i] leads to, as an array; the caller's. */
json_t *model_values(json_t *root, const char *path);

/* A date and time of a form that model_random_payload() writes. */
bool model_datetime_us(const json_t *v, int64_t *us);

/* --- dice (rest_model_random.c) ------------------------------------------------------------- */

void model_seed(uint64_t seed);
uint32_t model_below(uint32_t n); /* 0 .. n - 1 */
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
json_t *model_random_dense(void);
json_t *model_random_sparse(void);
json_t *model_random_filter(unsigned depth);

/* *kind: which one. present_only: ids only of points that are there, where others would be an
 * error; NULL when there is none. */
json_t *model_random_operation(model *m, bool present_only, const char **kind);
#endif /* REST_MODEL_H */
