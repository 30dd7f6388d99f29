/* data-plane/collection/vector_internal.h: rows on their way into the store and out of it. */
#ifndef DP_VECTOR_INTERNAL_H
#define DP_VECTOR_INTERNAL_H
#include "collection/query.h"

/* Makes a row ready to be stored: unit length for Cosine (bytes excepted: they cannot be), then
 * rounded to the element type.
 *
 * row  float[size], changed
 * out  size elements of the type; for DP_ELEM_F32 it may be row itself */
void dp_vector__prepare(const dp_vector_schema *schema, float *row, void *out);

/* Makes it unit length unless it is, or is zero: a zero vector stays as it is. */
void dp_vector__normalize(float *row, size_t n);

/* The floats of a stored row. */
void dp_vector__expand(dp_elem elem, const void *stored, size_t n, float *out);

/* A vector that is kept as bytes (sparse, or several rows), out of them.
 *
 * room  four bytes for each byte of `data`, aligned for floats; *out borrows from it */
void dp_vector__open(const dp_vector_schema *schema, const void *data, size_t len, void *room,
                     dp_vector *out);

/* {text, model} and its kin: something the server would have to compute a vector from. */
bool dp_vector__is_inference(ort_json v);
#endif /* DP_VECTOR_INTERNAL_H */
