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
    json_t *texts[MODEL_FIELDS];       /* the parameters of those that are text indexes */
    const char *alias;                 /* a second name of the collection, or NULL */
    uint64_t seed;
    unsigned round;
} asked_state;

extern asked_state asked;

void ask_count(void);
void ask_scroll(void);
void ask_retrieve(void);
void ask_aliases(void);

/* Where a field has an index for it; else nothing is asked (rest_model_order.c). */
void ask_ordered(void);
void ask_facet(void);

/* By a vector or a point; by the mean of examples; by what several examples say together
 * (rest_model_search.c, rest_model_examples.c). */
void ask_nearest(void);
void ask_recommend(void);
void ask_examples(void);

/* Searches in several steps: fused, rescored, by a formula; and spread out (rest_model_steps.c). */
void ask_steps(void);
void ask_spread(void);

/* Hits by a payload value, pairs of near points, any points (rest_model_sets.c). */
void ask_groups(void);
void ask_matrix(void);
void ask_sample(void);

/* --- what they share ------------------------------------------------------------------------ */

/* Ends the test, showing what was asked, what came and what should have come (or NULL). */
void ask_differs(const char *what, const json_t *ask, const json_t *got, const json_t *want);

/* The member `result` of the answer, which must have this status, the caller's; NULL for an error.
 * A target that begins with COLLECTION may go by the alias. */
json_t *ask_call(int status, const char *method, const char *target, const json_t *body);

/* Equal, numbers by their value: 1.0 is 1, which it is in vectors and scores. */
bool ask_same(const json_t *a, const json_t *b);

/* Equal as far as a float goes. */
bool ask_near(double a, double b);

/* A question: {} or with a filter. */
json_t *ask_new(void);

/* Whether the point is there and the question's filter lets it through. */
bool ask_passes(const json_t *ask, const model_point *p);

/* Asks for payload and vectors in one of the ways there are; a default is never relied on. */
void ask_put_shown(json_t *ask);

/* A point of an answer has the payload and vectors that the model's has, as far as asked for. */
void ask_compare_shown(const json_t *ask, const json_t *got, const model_point *p);

/* --- searches ------------------------------------------------------------------------------- */

/* By point: the score it has, if it is among the answers when they are not cut. */
typedef struct {
    bool in[MODEL_IDS];
    double score[MODEL_IDS];
    bool ascending; /* distances: the smallest first, thresholds keep what is below */
} ask_scores;

/* Points in the order of an answer, by their place in the model. */
typedef struct {
    size_t count, at[MODEL_IDS];
    double score[MODEL_IDS];
} ask_list;

/* Asks points/query (or one of the calls that take the same) and compares: the scores are the best
 * ones behind `offset` up to `limit`, each is its point's, no point comes twice. Which of two
 * equals comes first is nobody's promise. list, when not NULL, is what came. */
void ask_hits(const json_t *ask, const ask_scores *s, ask_list *list);

/* Adds to a question with `query` what any search may have beside it, leaves in s what passes, and
 * asks. Consumes ask and query. */
void ask_query(json_t *ask, json_t *query, const model_vector *using, ask_scores *s);

/* The scores of all points there are, by their likeness to a vector. With idf: by how many of all
 * points have an index, or of those of a corpus (a filter; NULL: all). */
void ask_score_all(const model_vector *v, const json_t *query, ask_scores *s);
void ask_score_idf(const model_vector *v, const json_t *query, const json_t *corpus, ask_scores *s);

/* A point that has such a vector, or MODEL_IDS. */
uint32_t ask_point_with(const model_vector *v);
#endif /* REST_MODEL_ASK_H */
