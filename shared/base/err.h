/* shared/base/err.h: one table of errors, and where their words for people go. */
#ifndef ORT_ERR_H
#define ORT_ERR_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#define ORT_NODISCARD __attribute__((warn_unused_result))
#define ORT_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/* Name, number, HTTP status, stable code. Numbers and codes leave the process: append, never
 * change. */
#define ORT_ERR_TABLE(X)                                                       \
    X(ORT_OK, 0, 200, "ok")                                                    \
    X(ORT_EINVAL, 1, 400, "invalid") /* parses, but means nothing */           \
    X(ORT_ENOMEM, 2, 500, "out-of-memory")                                     \
    X(ORT_EIO, 3, 500, "io")                                                   \
    X(ORT_EQUOTA, 4, 507, "quota")                                             \
    X(ORT_ERATE, 5, 429, "rate-limited")                                       \
    X(ORT_ENOTFOUND, 6, 404, "not-found")                                      \
    X(ORT_EEXISTS, 7, 409, "exists")                                           \
    X(ORT_EFORMAT, 8, 400, "malformed") /* does not parse */                   \
    X(ORT_ECORRUPT, 9, 500, "corrupt")                                         \
    X(ORT_EVALIDATE, 10, 422, "validation") /* parses, breaks a bound */       \
    X(ORT_EAUTH, 11, 401, "unauthenticated")                                   \
    X(ORT_EDENIED, 12, 403, "forbidden")                                       \
    X(ORT_ESTALE, 13, 412, "stale") /* If-Match or an epoch is behind */       \
    X(ORT_EPRECOND, 14, 428, "precondition-required")                          \
    X(ORT_EREGION, 15, 421, "wrong-region")                                    \
    X(ORT_EBUSY, 16, 503, "unavailable") /* overloaded, draining, not ready */ \
    X(ORT_ETIMEOUT, 17, 408, "timeout")                                        \
    X(ORT_ETOOBIG, 18, 413, "too-large")                                       \
    X(ORT_ENOTIMPL, 19, 501, "not-implemented")                                \
    X(ORT_EINTERNAL, 20, 500, "internal")                                      \
    X(ORT_EBADREQ, 21, 400, "bad-request") /* strict mode and its kin */       \
    X(ORT_EMETHOD, 22, 405, "method-not-allowed")                              \
    X(ORT_ECONFLICT, 23, 409, "conflict") /* the state does not allow it */    \
    X(ORT_EVERSION, 24, 500, "version")   /* written by a newer program */     \
    X(ORT_ENOSPC, 25, 507, "disk-full")

typedef enum {
#define X(name, number, status, code) name = number,
    ORT_ERR_TABLE(X)
#undef X
} ort_err;

/* The stable code ("not-found") of an error; "internal" for a number that is not in the table. */
const char *ort_err_code(ort_err err);

/* The HTTP status an error answers with by default. */
int ort_err_http(ort_err err);

/* Detail for people: the caller owns it, the failing function writes it, whoever handles the error
 * shows it. The first writer wins nothing: the last write stands. */
typedef struct {
    char text[512];
} ort_diag;

/* Writes the message (cut at the size of diag) and returns err, so that a failure is one line:
 * `return ort_fail(diag, ORT_EINVAL, "limit %u is over %u", got, max);`  diag may be NULL. */
ort_err ort_fail(ort_diag *diag, ort_err err, const char *fmt, ...) ORT_PRINTF(3, 4);

/* The same, with ": " and the text of errno behind it. Whatever err says, ENOSPC and EDQUOT become
 * ORT_ENOSPC, ENOMEM becomes ORT_ENOMEM, and EMFILE and ENFILE become ORT_EBUSY: a process without
 * descriptors has found no damage, and will have some again. errno is left as it was. */
ort_err ort_fail_errno(ort_diag *diag, ort_err err, const char *fmt, ...) ORT_PRINTF(3, 4);

/* Puts "where: " before what diag says; nothing when diag is NULL. */
void ort_diag_prefix(ort_diag *diag, const char *fmt, ...) ORT_PRINTF(2, 3);

/* Size arithmetic on outside numbers. false: the result does not fit, *out untouched. */
ORT_NODISCARD static inline bool
ort_size_mul(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) {
        return false;
    }
    *out = r;
    return true;
}

ORT_NODISCARD static inline bool
ort_size_add(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) {
        return false;
    }
    *out = r;
    return true;
}
#endif /* ORT_ERR_H */
