/* tests/integration/rest_model_ask.h: random questions to the node, answered by the model as well;
 * a difference ends the test. Each takes what it asks for from the dice of rest_model.h. */
#ifndef REST_MODEL_ASK_H
#define REST_MODEL_ASK_H
#include "data_api_support.h"
#include "rest_model.h"

#define COLLECTION "/collections/model"

/* The one run that is on: one thread, one collection. */
typedef struct {
    model points;
    const char *indexed[MODEL_FIELDS]; /* the type of each field's payload index now, or NULL */
    uint64_t seed;
    unsigned round;
} asked_state;

extern asked_state asked;

void ask_count(void);
void ask_scroll(void);
void ask_retrieve(void);

/* Where a field has an index for it; else nothing is asked (rest_model_order.c). */
void ask_ordered(void);
void ask_facet(void);

/* using: "d" or "s" (rest_model_search.c). */
void ask_nearest(const char *using);
void ask_recommend(void);

/* --- what they share ------------------------------------------------------------------------ */

/* Ends the test, showing what was asked, what came and what should have come (or NULL). */
void ask_differs(const char *what, const json_t *ask, const json_t *got, const json_t *want);

/* The member `result` of the answer, which must have this status, the caller's; NULL for an error.
 */
json_t *ask_call(int status, const char *method, const char *target, const json_t *body);

/* Equal, numbers by their value: 1.0 is 1, which it is in vectors and scores. */
bool ask_same(const json_t *a, const json_t *b);

/* A question: {} or with a filter. */
json_t *ask_new(void);

/* Whether the point is there and the question's filter lets it through. */
bool ask_passes(const json_t *ask, const model_point *p);

/* Asks for payload and vectors in one of the ways there are; a default is never relied on. */
void ask_put_shown(json_t *ask);

/* A point of an answer has the payload and vectors that the model's has, as far as asked for. */
void ask_compare_shown(const json_t *ask, const json_t *got, const model_point *p);
#endif /* REST_MODEL_ASK_H */
