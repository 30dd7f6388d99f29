/* shared/base/num.h: JSON numbers to floats and back, exactly. */
#ifndef ORT_NUM_H
#define ORT_NUM_H
#include <stdint.h>

#include "base/err.h"

/* The end of the JSON number (RFC 8259) that starts at text, or NULL when none does. *integer_out
 * tells whether it has neither fraction nor exponent. */
const char *ort_num_scan(const char *text, const char *end, bool *integer_out);

/* The value of the JSON number text[0..len), which ort_num_scan() has accepted: nearest, ties to
 * even. ORT_EINVAL: not finite in that type, *out untouched. */
ORT_NODISCARD ort_err ort_num_f32(const char *text, size_t len, float *out);
ORT_NODISCARD ort_err ort_num_f64(const char *text, size_t len, double *out);

/* Reads the JSON number that starts at text: ort_num_scan() and ort_num_f32() in one pass. Returns
 * its end, or NULL when none starts there (*out untouched). *finite is set to false, and *out to 0,
 * when it is not finite as a float; it is never set to true. */
const char *ort_num_take_f32(const char *text, const char *end, float *out, bool *finite);

/* Reads numbers of a JSON array as floats, from *text on, as long as they are of the form that
 * programs write vectors in and a comma stands behind each: at most `room` of them, into out.
 * *text is led to behind the last comma; what stands there is for ort_num_take_f32() to judge, also
 * when nothing was taken. begin .. end is the whole text. Returns how many. */
size_t ort_num_take_f32s(const char **text, const char *begin, const char *end, float *out,
                         size_t room);

/* Integers of exactly this text: no fraction, no exponent. ORT_EINVAL: something else, or outside
 * the type. */
ORT_NODISCARD ort_err ort_num_u64(const char *text, size_t len, uint64_t *out);
ORT_NODISCARD ort_err ort_num_i64(const char *text, size_t len, int64_t *out);

/* The shortest decimal that reads back as the same number, always with a point or an exponent
 * (1.0, 0.15, 1e-7). Returns the length, at most ORT_NUM_TEXT_BYTES - 1; a NUL follows. What is not
 * finite is written as null: JSON has no word for it. */
#define ORT_NUM_TEXT_BYTES 32
size_t ort_num_put_f32(char out[ORT_NUM_TEXT_BYTES], float v);
size_t ort_num_put_f64(char out[ORT_NUM_TEXT_BYTES], double v);
#endif /* ORT_NUM_H */
