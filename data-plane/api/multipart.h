/* data-plane/api/multipart.h: one file out of a multipart/form-data body that comes in pieces
 * (RFC 7578, RFC 2046). */
#ifndef DP_MULTIPART_H
#define DP_MULTIPART_H
#include "base/buf.h"

#define DP_MULTIPART_BOUNDARY_MAX 70u     /* RFC 2046, 5.1.1 */
#define DP_MULTIPART_HEAD_MAX (16u << 10) /* fields of one part */

/* Takes a piece of the file. */
typedef ort_err (*dp_multipart_fn)(void *ctx, const void *bytes, size_t n, ort_diag *diag);

/* The caller's storage; one thread. */
typedef struct {
    char delimiter[DP_MULTIPART_BOUNDARY_MAX + 5]; /* CR LF "--" boundary */
    size_t delimiter_len;
    const char *field; /* the part that is wanted */
    dp_multipart_fn fn;
    void *ctx;
    enum {
        DP_PART_BEFORE,
        DP_PART_EDGE,
        DP_PART_HEAD,
        DP_PART_WANTED,
        DP_PART_OTHER,
        DP_PART_END
    } state;
    bool found;
    ort_buf held; /* what may yet be a delimiter, or a head that is not whole */
} dp_multipart;

/* Whether a Content-Type is multipart/form-data at all. */
bool dp_multipart_is(const char *content_type);

/* field  name of the part whose content fn shall get; borrowed
 * ORT_EBADREQ: no boundary, or a bad one */
ORT_NODISCARD ort_err dp_multipart_init(dp_multipart *m, const char *content_type,
                                        const char *field, dp_multipart_fn fn, void *ctx,
                                        ort_diag *diag);
void dp_multipart_fini(dp_multipart *m);

/* ORT_EBADREQ: not as the standard has it, or the part stands twice. ORT_ENOMEM, and what fn said.
 */
ORT_NODISCARD ort_err dp_multipart_put(dp_multipart *m, const void *bytes, size_t n,
                                       ort_diag *diag);

/* The body has ended. ORT_EBADREQ: too early, or without that part. */
ORT_NODISCARD ort_err dp_multipart_end(dp_multipart *m, ort_diag *diag);
#endif /* DP_MULTIPART_H */
