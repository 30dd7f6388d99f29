/* data-plane/index/coder.h: how vectors become the codes that a walk compares. */
#ifndef DP_CODER_H
#define DP_CODER_H
#include "index/code.h"

/* What a walk compares the query with. The answer is ordered by the rows themselves unless the
 * search says otherwise. Files carry these numbers. */
typedef enum {
    DP_CODE_AUTO,    /* INT8 where the metric allows it, else NONE; then what is measured as best */
    DP_CODE_NONE,    /* the rows */
    DP_CODE_INT8,    /* a byte a component, with scale and offset of each row's own (code.h) */
    DP_CODE_PRODUCT, /* a byte for each few components: the nearest of 256 centroids */
    DP_CODE_BINARY,  /* one or two bits a component, as the components come */
    DP_CODE_ROTATED  /* 1 to 8 bits a component after a random rotation, with an error bound */
} dp_code;
#define DP_CODE_COUNT 6

/* The fields that a kind has no use for are ignored; 0 is the default of each. */
typedef struct {
    float quantile; /* INT8: share of a row's components that keep their resolution, 0.5 .. 1;
                     * what lies outside is clipped. Default 1 */
    uint32_t ratio; /* PRODUCT: components a byte, 1 2 4 8 16 (x4 .. x64 of floats); default 4 */
    uint32_t bits;  /* BINARY: 1 or 2, ROTATED: 1 .. 8; defaults 1 and 4 */
    uint32_t query_bits; /* BINARY, ROTATED: of the query's components, 1 4 8; default 8 */
} dp_code_options;

/* The same options of a kind, with its defaults put in and the rest emptied. */
dp_code_options dp_code_options_of(dp_code kind, dp_code_options given);

/* Whether there are such codes for the metric. ORT_EINVAL: what is not so. AUTO and NONE always
 * are.
 */
ORT_NODISCARD ort_err dp_code_options_check(dp_code kind, dp_code_options options, dp_metric metric,
                                            ort_diag *diag);
bool dp_code_options_equal(dp_code kind, dp_code_options a, dp_code_options b);

/* A trained model and the kernels that go with it: immutable, so any number of threads may use one.
 * From dp_coder_train() or dp_coder_open() to dp_coder_free(). */
typedef struct dp_coder dp_coder;

/* Vectors to learn from. Called with i = 0 .. count - 1, any number of times; returns float[dim],
 * `room` or memory that lives until the next call. */
typedef const float *(*dp_coder_sample_fn)(void *arg, uint32_t i, float *room);
typedef struct {
    dp_coder_sample_fn vector;
    void *arg;
    uint32_t count;
} dp_coder_sample;
#define DP_CODER_SAMPLE_MAX 8192u /* more are not looked at */

/* Makes a coder. A sample is needed by PRODUCT, by INT8 with a quantile, and by BINARY and ROTATED
 * to be good; without one (count 0) those two code around the origin.
 *
 * kind  INT8, PRODUCT, BINARY or ROTATED
 *
 * ORT_EINVAL  a metric that codes do not know (MANHATTAN), an option out of its range, no sample
 *             where one is needed, a model over DP_CODER_MODEL_MAX. ORT_ENOMEM */
ORT_NODISCARD ort_err dp_coder_train(dp_coder **out, dp_code kind, dp_code_options options,
                                     dp_metric metric, uint32_t dim, const dp_coder_sample *sample,
                                     ort_diag *diag);

/* From the bytes of dp_coder_model(), each of which is checked; they may come from anywhere.
 * ORT_ECORRUPT, ORT_ENOMEM */
ORT_NODISCARD ort_err dp_coder_open(dp_coder **out, const void *model, size_t bytes,
                                    dp_metric metric, uint32_t dim, ort_diag *diag);
void dp_coder_free(dp_coder *coder);

/* What dp_coder_open() takes; borrowed, lives as long as the coder. Little-endian, the same on
 * every machine; laid out at the head of coder.c. */
#define DP_CODER_MODEL_MAX ((size_t)72 << 20)
const void *dp_coder_model(const dp_coder *coder, size_t *bytes);

dp_code dp_coder_kind(const dp_coder *coder);
dp_code_options dp_coder_options(const dp_coder *coder); /* with the defaults put in */
size_t dp_coder_row_bytes(const dp_coder *coder);        /* a multiple of 4 */

/* Memory a query needs for its codes or tables, and floats that coding needs beside it. */
size_t dp_coder_query_bytes(const dp_coder *coder);
size_t dp_coder_room_floats(const dp_coder *coder);

/* Whether two coded rows measure each other well enough to decide about links; else whoever links
 * compares the rows themselves. dp_coder_query_from_row() is for coders that say true. */
bool dp_coder_is_fine(const dp_coder *coder);

/* Mean squared error of reconstruction over the sample it was trained on; 0: nothing to compare. */
float dp_coder_error(const dp_coder *coder);

/* Codes float[dim] into row[dp_coder_row_bytes()]; room is float[dp_coder_room_floats()].
 * Components that are not finite give a useless row, not an undefined one. Returns the squared
 * error of what was kept, in the same unit as dp_coder_error(); 0: the row is exact. */
float dp_coder_encode(const dp_coder *coder, unsigned char *row, const float *x, float *room);

/* Prepares a query from float[dim]. query->codes is given: dp_coder_query_bytes() of it, aligned to
 * 64. query->measure is then the kernel to call. */
void dp_coder_query_set(const dp_coder *coder, dp_code_query *query, const float *x, float *room);

/* The same from a coded row. */
void dp_coder_query_from_row(const dp_coder *coder, dp_code_query *query, const unsigned char *row);

/* How much nearer than measured a row may be: for ROTATED the bound of RaBitQ (arXiv:2405.12497),
 * which holds for all but a few in a thousand; infinite for the other kinds, of which nobody knows.
 */
float dp_coder_slack(const dp_coder *coder, const dp_code_query *query, const unsigned char *row);
#endif /* DP_CODER_H */
