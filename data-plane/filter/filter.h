/* data-plane/filter/filter.h: a filter expression over a point: parse once, match many. */
#ifndef DP_FILTER_H
#define DP_FILTER_H
#include "base/json_read.h"
#include "base/point_id.h"
#include "filter/field.h"

/* An immutable tree of conditions, and the compact JSON text it came from (which is how it stands
 * in a log record). From dp_filter_parse() to dp_filter_free(); free(NULL) is allowed. Threads: any
 * number may match at once. */
typedef struct dp_filter dp_filter;

/* Parses Qdrant's Filter object: must, should, must_not (array, one condition, or null),
 * min_should. Bounds: ORT_JSON_DEPTH_MAX of nesting (filters and `nested` together),
 * ORT_FILTER_CONDITIONS_MAX conditions, ORT_FILTER_CORNERS_MAX corners and ORT_FILTER_BYTES_MAX
 * bytes in all.
 *
 * v      a value of a request body; it is not needed after the call. Missing or null gives a filter
 *        without constraint, as `{}` and `should: []` do
 * where  how errors name its place: "filter"
 *
 * ORT_OK         *out is the caller's
 * ORT_EFORMAT    what Qdrant cannot deserialize: an unknown member of a Filter, a wrong type, a bad
 *                id, path or geo ring (400)
 * ORT_EVALIDATE  a field condition without a check, and what else breaks a bound (422); diag is
 *                "filter.must[0]: text"
 * ORT_ENOMEM     as for the others, *out is NULL */
ORT_NODISCARD ort_err dp_filter_parse(dp_filter **out, ort_json v, const char *where,
                                      ort_diag *diag);

/* The same from text that dp_filter_write_record() or dp_filter_peek_text() gave: still checked. */
ORT_NODISCARD ort_err dp_filter_parse_text(dp_filter **out, const char *text, size_t len,
                                           ort_diag *diag);

void dp_filter_free(dp_filter *filter);

/* Until when it is worth asking it of points (0, at first: for ever): whoever asks many looks at
 * this now and then, and gives up with ORT_ETIMEOUT. Set before it is used; NULL is fine. */
void dp_filter_set_until_ns(dp_filter *filter, uint64_t mono_ns);
uint64_t dp_filter_until_ns(const dp_filter *filter);

/* The filter as compact JSON. Lives as long as the filter. */
const char *dp_filter_peek_text(const dp_filter *filter, size_t *len_out);

/* Whether it constrains nothing: every point matches. NULL counts as such. */
bool dp_filter_is_empty(const dp_filter *filter);

/* Conditions in all, for costs and strict mode. */
uint32_t dp_filter_condition_count(const dp_filter *filter);

/* Whether any condition looks at payloads: ids, vectors and slices do not. */
bool dp_filter_wants_payload(const dp_filter *filter);

/* The vector names that has_vector conditions ask for: walk with i = 0, 1, ... until NULL. */
const char *dp_filter_peek_vector_name(const dp_filter *filter, uint32_t i);

/* --- conditions on text --------------------------------------------------------------------------
 *
 * `text`, `text_any` and `phrase` ask for parts of a string where the field has no text index, and
 * for words where it has one, whether that index is built or not. Which of the two is settled when
 * the filter meets a schema: here. A record carries what was settled when it was written, so that
 * its replay does not hang on the schema of that day. */

/* The words that a filter asks for. One thread at a time. NULL stands for none. */
typedef struct dp_filter_texts dp_filter_texts;

/* Settles the text conditions of the filter by the declared fields (NULL: none), or, for a filter
 * that was read from a record, by what stands there. The filter is borrowed; a reference to fields
 * is kept. *out NULL, and ORT_OK: no condition asks for words.
 * ORT_EVALIDATE: a condition has too many words. ORT_ENOMEM. *out is NULL. */
ORT_NODISCARD ort_err dp_filter_bind(const dp_filter *filter, dp_fields *fields,
                                     dp_filter_texts **out, ort_diag *diag);
void dp_filter_texts_free(dp_filter_texts *texts); /* NULL is fine */

/* Whether any condition could be settled by a declaration. */
bool dp_filter_has_texts(const dp_filter *filter);

/* Appends the filter as a log record holds it: its text, and the declarations that its text
 * conditions were settled by, as one more member. */
void dp_filter_write_record(const dp_filter *filter, const dp_fields *fields, ort_buf *out);

/* A point, as far as filters look at it. */
typedef struct {
    ort_point_id id;
    const char *payload; /* JSON object text, parsed at most once and only if a condition asks; an
                            empty text stands for {} */
    size_t payload_len;
    bool (*has_vector)(void *ctx, const char *name); /* NULL: it has none */
    void *ctx;
    dp_filter_texts *texts; /* of this filter; NULL: text conditions ask for parts of strings */
    ort_err *err; /* set to ORT_ENOMEM when the payload could not be parsed for want of memory: what
                     the match says means nothing then. May be NULL */
} dp_filter_point;

/* Whether the point matches; a NULL filter matches all. A payload that is no JSON object (it was
 * checked at write, so this is damage) matches as {} does.
 * Deterministic: the same filter and point give the same answer on every node and in every replay.
 */
bool dp_filter_match(const dp_filter *filter, const dp_filter_point *point);

/* When the filter can match no other points than a known list (has_id in must), that list, sorted
 * and without repeats, and true. Lets "delete these ids" and its kin skip the scan; the list still
 * has to be matched. */
bool dp_filter_peek_ids(const dp_filter *filter, const ort_point_id **ids_out, size_t *count_out);
#endif /* DP_FILTER_H */
