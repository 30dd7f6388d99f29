/* OpenBLAS, and the two things to know about Debian's 0.3.21 (reference/components.md, 8): which
 * kernel it picks, and that only the pthread build may be called from several threads. */
#include <cblas.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/flat_internal.h"

void
dp_flat__products(const float *queries, size_t query_count, const float *rows, size_t row_count,
                  size_t dim, size_t row_stride, float *out)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)query_count, (int)row_count, (int)dim,
                1.0F, queries, (int)dim, rows, (int)row_stride, 0.0F, out, (int)row_count);
}

const char *
dp_flat_blas_core(void)
{
    return openblas_get_corename();
}

/* The kernel set that fits what the processor has, or NULL to leave the choice alone. */
static const char *
wanted_core(void)
{
#if defined(__x86_64__)
    switch (dp_isa_best()) {
    case DP_ISA_AVX512:
        return "SkylakeX";
    case DP_ISA_AVX2:
        return "Haswell";
    default:
        break;
    }
#endif
    return NULL;
}

/* Kernel sets of OpenBLAS 0.3.21 that use at least what the wanted one does. */
static bool
good_enough(const char *core, const char *wanted)
{
    static const char *const wide[] = {"SkylakeX", "Cooperlake", "SapphireRapids"};
    static const char *const middle[] = {"Haswell", "Zen"};

    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        if (strcasecmp(core, wide[i]) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof middle / sizeof middle[0]; i++) {
        if (strcmp(wanted, "Haswell") == 0 && strcasecmp(core, middle[i]) == 0) {
            return true;
        }
    }
    return false;
}

void
dp_flat_blas_prepare(char **argv)
{
    const char *wanted = wanted_core();

    /* A value that is there is the operator's, or our own of the first round. */
    if (wanted != NULL && getenv("OPENBLAS_CORETYPE") == NULL &&
        !good_enough(openblas_get_corename(), wanted)) {
        setenv("OPENBLAS_CORETYPE", wanted, 1);
        setenv("OPENBLAS_NUM_THREADS", "1", 0);
        execv("/proc/self/exe", argv);
        /* No /proc, or no right to execute: slower products are better than no program. */
    }
    openblas_set_num_threads(1);
}
