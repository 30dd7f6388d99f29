/* tests/analysis.h: what clang-tidy is told before each file (tests/run, analysis); never compiled.
 *
 * The analyser sees one file at a time, and would follow every ort_fail() into a success. It is
 * told here what err.c does: a failure stays the one it was given. */
#ifndef ORT_ANALYSIS_H
#define ORT_ANALYSIS_H
#if __has_include("base/err.h")
#include "base/err.h"

static inline ort_err
ort_analysis_failed(ort_err said, ort_err err)
{
    (void)said;
    return err;
}
#define ort_fail(diag, err, ...) ort_analysis_failed((ort_fail)(diag, err, __VA_ARGS__), (err))
#define ort_fail_errno(diag, err, ...) \
    ort_analysis_failed((ort_fail_errno)(diag, err, __VA_ARGS__), (err))
#endif
#endif /* ORT_ANALYSIS_H */
