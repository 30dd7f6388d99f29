/* data-plane/collection/payload_internal.h: changes to payload text. */
#ifndef DP_PAYLOAD_INTERNAL_H
#define DP_PAYLOAD_INTERNAL_H
#include "base/buf.h"
#include "collection/op_internal.h"

/* All append the new payload to out; an empty text stands for {} on both sides.
 * ORT_ECORRUPT: the old text is not JSON. ORT_ENOMEM. */

/* Members of patch go over those of old (null removes); at key, a path, instead of the root when
 * key.len > 0: what is missing on the way there is made. */
ort_err dp_payload__merge(const char *old, size_t old_len, dp_op_text patch, dp_op_text key,
                          ort_buf *out, ort_diag *diag);

/* Without what these `count` paths lead to. */
ort_err dp_payload__delete(const char *old, size_t old_len, ort_cursor names, uint32_t count,
                           ort_buf *out, ort_diag *diag);
#endif /* DP_PAYLOAD_INTERNAL_H */
