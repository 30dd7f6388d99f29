/* tests/support/fail_alloc.h: the n-th allocation of our own code fails.
 *
 * The linker puts these functions in front of the real ones (--wrap), in what is linked into the
 * test: our modules. Shared libraries (CRoaring, zstd, ICU, SQLite, the C library itself) allocate
 * as ever. CMake: ort_fail_alloc(target). */
#ifndef TESTS_SUPPORT_FAIL_ALLOC_H
#define TESTS_SUPPORT_FAIL_ALLOC_H
#include <stdbool.h>
#include <stdint.h>

/* From here on the n-th allocation of the process fails, on whichever thread; one, and no more. */
void fail_alloc_arm(uint64_t n);

/* Back to normal. Whether it struck. */
bool fail_alloc_disarm(void);
#endif /* TESTS_SUPPORT_FAIL_ALLOC_H */
