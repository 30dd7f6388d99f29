/* data-plane/index/coder_internal.h: what the kinds of coders share. */
#ifndef DP_CODER_INTERNAL_H
#define DP_CODER_INTERNAL_H
#include "index/coder.h"

/* One kind. `prepare` takes floats of the model that the caller wrote or checked to be finite, and
 * derives the rest of the coder from them; it may refuse them with ORT_ECORRUPT. */
typedef struct {
    /* Fills coder->floats[coder->float_count]. */
    ort_err (*train)(dp_coder *coder, const dp_coder_sample *sample, ort_diag *diag);
    ort_err (*prepare)(dp_coder *coder, ort_diag *diag);
    float (*encode)(const dp_coder *coder, unsigned char *row, const float *x, float *room);
    void (*query_set)(const dp_coder *coder, dp_code_query *query, const float *x, float *room);
    void (*query_from_row)(const dp_coder *coder, dp_code_query *query, const unsigned char *row);
    float (*slack)(const dp_coder *coder, const dp_code_query *query, const unsigned char *row);
} dp_coder_ops;

struct dp_coder {
    const dp_coder_ops *ops;
    dp_code kind;
    dp_code_options options;
    dp_metric metric;
    uint32_t dim;
    bool fine;
    float error;
    size_t row_bytes;
    size_t query_bytes;
    size_t room_floats;
    dp_code_measure_fn measure;
    uint64_t seed;

    unsigned char *model; /* owned; the head and the floats of coder.c */
    size_t model_bytes;
    float *floats; /* in `model` */
    size_t float_count;

    void *derived; /* owned, one block: what `prepare` made of the floats */
};

extern const dp_coder_ops dp_coder__bits; /* BINARY, ROTATED */
extern const dp_coder_ops dp_coder__int8;
extern const dp_coder_ops dp_coder__product;

/* The mean of coder's encoding errors over the sample. */
float dp_coder__sample_error(const dp_coder *coder, const dp_coder_sample *sample, ort_diag *diag,
                             ort_err *err);
#endif /* DP_CODER_INTERNAL_H */
