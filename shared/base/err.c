/* The error table, and diagnostics. */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifdef __clang_analyzer__ /* tests/analysis.h says what they do; here is how */
#undef ort_fail
#undef ort_fail_errno
#endif

const char *
ort_err_code(ort_err err)
{
    switch (err) {
#define X(name, number, status, code) \
    case name:                        \
        return code;
        ORT_ERR_TABLE(X)
#undef X
    }
    return "internal";
}

int
ort_err_http(ort_err err)
{
    switch (err) {
#define X(name, number, status, code) \
    case name:                        \
        return status;
        ORT_ERR_TABLE(X)
#undef X
    }
    return 500;
}

ort_err
ort_fail(ort_diag *diag, ort_err err, const char *fmt, ...)
{
    if (diag != NULL) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(diag->text, sizeof diag->text, fmt, args);
        va_end(args);
    }
    return err;
}

ort_err
ort_fail_errno(ort_diag *diag, ort_err err, const char *fmt, ...)
{
    const int cause = errno;
    if (diag != NULL) {
        char words[128];
        va_list args;
        va_start(args, fmt);
        int n = vsnprintf(diag->text, sizeof diag->text, fmt, args);
        va_end(args);
        if (n >= 0 && (size_t)n < sizeof diag->text) {
            snprintf(diag->text + n, sizeof diag->text - (size_t)n, ": %s",
                     strerror_r(cause, words, sizeof words));
        }
    }
    errno = cause;
    if (cause == ENOSPC || cause == EDQUOT) {
        return ORT_ENOSPC;
    }
    if (cause == EMFILE || cause == ENFILE) {
        return ORT_EBUSY;
    }
    return cause == ENOMEM ? ORT_ENOMEM : err;
}

void
ort_diag_prefix(ort_diag *diag, const char *fmt, ...)
{
    if (diag == NULL) {
        return;
    }
    char old[sizeof diag->text];
    memcpy(old, diag->text, sizeof old);
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(diag->text, sizeof diag->text, fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof diag->text) {
        const size_t room = sizeof diag->text - (size_t)n;
        snprintf(diag->text + n, room, ": %.*s", room > 3 ? (int)room - 3 : 0, old);
    }
}
