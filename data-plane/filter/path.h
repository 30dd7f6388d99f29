/* data-plane/filter/path.h: where in a payload: a.b, a[].b, a[0], "odd key".b */
#ifndef DP_PATH_H
#define DP_PATH_H
#include "base/json_read.h"
#include "base/json_write.h"

/* A parsed path. Immutable; free(NULL) is allowed. */
typedef struct dp_path dp_path;

/* Raw keys are alphanumerics (of any script), '_' and '-'; others stand in double quotes. [] means
 * every element, [n] the n-th.
 * ORT_EFORMAT: "Invalid json path: 'text'". ORT_ENOMEM. *out is NULL for both. */
ORT_NODISCARD ort_err dp_path_parse(dp_path **out, const char *text, size_t len, ort_diag *diag);
void dp_path_free(dp_path *path);

/* Calls visit for each value that the path leads to in root (an object), in document order, until
 * it returns false. Returns false when visit did. */
bool dp_path_each(const dp_path *path, ort_json root, bool (*visit)(void *ctx, ort_json value),
                  void *ctx);

/* Which part of a payload an answer shows. {0} shows nothing; .all shows everything. */
typedef struct {
    bool all;
    dp_path **include; /* when any: these and nothing else */
    size_t include_count;
    dp_path **exclude; /* when any: everything but these */
    size_t exclude_count;
} dp_payload_selector;

/* Reads with_payload: bool | ["a","b.c"] | {"include":[..]} | {"exclude":[..]}; a missing or null
 * value gives `absent`.
 * ORT_EFORMAT: another shape, an unknown member, a bad path. ORT_EINVAL: too many. ORT_ENOMEM. For
 * all three *out is {0}. Release with dp_payload_selector_fini(). */
ORT_NODISCARD ort_err dp_payload_selector_parse(dp_payload_selector *out, ort_json v, bool absent,
                                                ort_diag *diag);
void dp_payload_selector_fini(dp_payload_selector *selector);
bool dp_payload_selector_wants(const dp_payload_selector *selector); /* anything at all */

/* Writes the selected part of the payload text as one JSON object; `{}` when nothing is left. The
 * whole payload is copied without parsing.
 * ORT_ECORRUPT: the text is not JSON. ORT_ENOMEM. */
ORT_NODISCARD ort_err dp_payload_write(const dp_payload_selector *selector, const char *payload,
                                       size_t len, ort_jw *w, ort_diag *diag);
#endif /* DP_PATH_H */
