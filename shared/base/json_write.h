/* shared/base/json_write.h: JSON text appended to a buffer; commas and escapes are its business. */
#ifndef ORT_JSON_WRITE_H
#define ORT_JSON_WRITE_H
#include <stdint.h>

#include "base/buf.h"
#include "base/json_read.h"

/* {.buf = &buf} begins. The buffer remembers a failed growth; check it once at the end. */
typedef struct {
    ort_buf *buf;
    bool comma; /* the next value needs one before it */
} ort_jw;

void ort_jw_object(ort_jw *w); /* { */
void ort_jw_object_end(ort_jw *w);
void ort_jw_array(ort_jw *w); /* [ */
void ort_jw_array_end(ort_jw *w);
void ort_jw_key(ort_jw *w, const char *key);
void ort_jw_key_n(ort_jw *w, const char *key, size_t len);

void ort_jw_str(ort_jw *w, const char *text); /* UTF-8 */
void ort_jw_str_n(ort_jw *w, const char *text, size_t len);
void ort_jw_u64(ort_jw *w, uint64_t v);
void ort_jw_i64(ort_jw *w, int64_t v);
void ort_jw_f32(ort_jw *w, float v); /* shortest decimal that reads back; null if not finite */
void ort_jw_f64(ort_jw *w, double v);
void ort_jw_bool(ort_jw *w, bool v);
void ort_jw_null(ort_jw *w);
void ort_jw_floats(ort_jw *w, const float *v, size_t n); /* [..] */

/* Text that is JSON already, as it is. */
void ort_jw_raw(ort_jw *w, const char *json, size_t len);

/* A value of a document without its white space. Numbers stay as they were written. Where a key
 * stands twice in an object, the last one is written, as maps of serde do. */
void ort_jw_value(ort_jw *w, ort_json v);
#endif /* ORT_JSON_WRITE_H */
