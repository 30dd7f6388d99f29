/* shared/base/json_read.h: a read-only view over JSON text.
 *
 * Made for request bodies full of vectors, and for payloads that are kept as text. Parsing checks
 * the whole document (RFC 8259, UTF-8, depth, size) and notes where values stand, 16 bytes each; an
 * array of nothing but numbers is one note, however long, and its numbers are read from the text
 * when asked for, straight into the caller's floats. Integers are exact over all 64 bits. */
#ifndef ORT_JSON_READ_H
#define ORT_JSON_READ_H
#include <stdint.h>

#include "base/err.h"

typedef struct ort_json_doc ort_json_doc;

/* A value of a document; lives as long as the document. Pass it by value. */
typedef struct {
    ort_json_doc *doc;
    uint32_t at;     /* place of its note */
    uint32_t number; /* inside a packed array: 1 + offset of the number's text; else 0 */
} ort_json;

typedef enum {
    ORT_JSON_NONE, /* a member that is not there */
    ORT_JSON_NULL,
    ORT_JSON_BOOL,
    ORT_JSON_NUMBER,
    ORT_JSON_STRING,
    ORT_JSON_ARRAY,
    ORT_JSON_OBJECT,
} ort_json_type;

typedef struct {
    uint32_t depth_max; /* of nesting; 0 = ORT_JSON_DEPTH_MAX */
    uint32_t notes_max; /* of values kept; 0 = 4 million (64 MiB) */

    /* The text is full of vectors: arrays of numbers are turned into floats in the pass that checks
     * them, which costs 4 bytes a number and makes ort_json_floats() a copy. */
    bool floats;
} ort_json_limits;

/* Parses text[0..len), which is borrowed until ort_json_free().
 *
 * ORT_EFORMAT  not JSON, or nested too deep; diag in serde_json's words, with line and column:
 *              "expected value at line 1 column 5"
 * ORT_ETOOBIG  more values than limits allow, or a text of 4 GiB
 * ORT_ENOMEM   *out is NULL, as for the others */
ORT_NODISCARD ort_err ort_json_parse(ort_json_doc **out, const char *text, size_t len,
                                     ort_json_limits limits, ort_diag *diag);
void ort_json_free(ort_json_doc *doc);

ort_json ort_json_root(ort_json_doc *doc);
ort_json_type ort_json_type_of(ort_json v);

/* Neither missing nor null: what a request means by "given". */
bool ort_json_given(ort_json v);

/* Members of an object, elements of an array; 0 for anything else. */
uint32_t ort_json_count(ort_json v);

/* The member called key (the last, where a key stands twice), or a value of type NONE, as for
 * anything that is no object. */
ort_json ort_json_get(ort_json object, const char *key);

/* The value's text as it stands in the document, borrowed from it. */
const char *ort_json_raw(ort_json v, size_t *len_out);

/* A string's content, borrowed until the document is freed, not NUL-ended and maybe holding NULs.
 * NULL: no string. */
const char *ort_json_str(ort_json v, size_t *len_out);
bool ort_json_str_is(ort_json v, const char *text);

/* ORT_EINVAL, and *out untouched: another type, or a number the type cannot hold (1.0 and 1e3 are
 * no integers). */
ORT_NODISCARD ort_err ort_json_bool(ort_json v, bool *out);
ORT_NODISCARD ort_err ort_json_u64(ort_json v, uint64_t *out);
ORT_NODISCARD ort_err ort_json_i64(ort_json v, int64_t *out);
ORT_NODISCARD ort_err ort_json_f32(ort_json v, float *out);
ORT_NODISCARD ort_err ort_json_f64(ort_json v, double *out);
bool ort_json_is_integer(ort_json v); /* a number written without fraction and exponent */

/* Whether v is an array of numbers alone (the empty one too). */
bool ort_json_is_numbers(ort_json v);

/* Reads the ort_json_count(v) numbers of such an array into out[cap].
 * ORT_EINVAL: not such an array, more than cap, or a number that is not finite as a float: out is
 * partly written. */
ORT_NODISCARD ort_err ort_json_floats(ort_json v, float *out, size_t cap);

/* Walks an array or object (nothing else has steps):
 *     for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) { ... it.key ... it.value } */
typedef struct {
    ort_json key; /* objects only */
    ort_json value;
    ort_json container;
    uint32_t left;
    uint32_t next;
} ort_json_iter;

ort_json_iter ort_json_each(ort_json container);
bool ort_json_step(ort_json_iter *it);
#endif /* ORT_JSON_READ_H */
