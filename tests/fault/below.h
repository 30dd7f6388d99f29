/* tests/fault/below.h: what libraries have in common that are put in front of libc's calls by
 * LD_PRELOAD and look at those below one directory. Built without sanitizers; safe before main().
 */
#ifndef TESTS_FAULT_BELOW_H
#define TESTS_FAULT_BELOW_H
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BELOW_PATH_BYTES 4096

static char below[BELOW_PATH_BYTES];
static size_t below_len; /* 0: nothing is looked at */

/* dir  as realpath() gives it, or NULL. false: nothing is looked at. */
static inline bool
below_set(const char *dir)
{
    if (dir == NULL || strlen(dir) >= sizeof below) {
        return false;
    }
    strcpy(below, dir);
    below_len = strlen(below);
    return true;
}

/* The real calls are looked up at first use: other libraries' constructors may run before ours. */
#define REAL(name)                                   \
    static __typeof__(&(name)) real;                 \
    if (real == NULL) {                              \
        *(void **)(&real) = dlsym(RTLD_NEXT, #name); \
        if (real == NULL) {                          \
            abort();                                 \
        }                                            \
    }

static inline bool
path_is_below(const char *path)
{
    return strncmp(path, below, below_len) == 0 &&
           (path[below_len] == '/' || path[below_len] == '\0');
}

static inline bool
link_is_below(const char *link)
{
    char path[BELOW_PATH_BYTES];
    const ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) {
        return false;
    }
    path[n] = '\0';
    return path_is_below(path);
}

static inline bool
fd_is_below(int fd)
{
    char link[64];
    const int error = errno;
    if (below_len == 0) {
        return false;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const bool is = link_is_below(link);
    errno = error;
    return is;
}

static inline bool
name_is_below(int dir_fd, const char *name)
{
    const int error = errno;
    bool is;
    if (below_len == 0 || name == NULL) {
        return false;
    }
    if (name[0] == '/') {
        is = path_is_below(name);
    } else if (dir_fd == AT_FDCWD) {
        is = link_is_below("/proc/self/cwd");
    } else {
        is = fd_is_below(dir_fd);
    }
    errno = error;
    return is;
}

#endif /* TESTS_FAULT_BELOW_H */
