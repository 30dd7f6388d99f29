/* tests/support/preload.h: a library put in front of what this process executes next. */
#ifndef TESTS_SUPPORT_PRELOAD_H
#define TESTS_SUPPORT_PRELOAD_H
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* LD_PRELOAD parts its names at spaces, and a path may hold some: it gets the name, and
 * LD_LIBRARY_PATH, which does not, the directory. */
static inline bool
preload_set(const char *library)
{
    char dir[4096];
    const char *slash = strrchr(library, '/');
    const int n = snprintf(dir, sizeof dir, "%.*s", (int)(slash - library), library);
    return n > 0 && (size_t)n < sizeof dir && setenv("LD_LIBRARY_PATH", dir, 1) == 0 &&
           setenv("LD_PRELOAD", slash + 1, 1) == 0;
}
#endif /* TESTS_SUPPORT_PRELOAD_H */
