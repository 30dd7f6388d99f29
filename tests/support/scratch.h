/* tests/support/scratch.h: a directory for a test, and its removal. */
#ifndef TESTS_SUPPORT_SCRATCH_H
#define TESTS_SUPPORT_SCRATCH_H
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

typedef struct {
    int fd;
    char path[64];
} scratch;

/* On $ORT_SCRATCH, or in memory: a busy disk makes thousands of syncs a matter of minutes, and what
 * a test sees of them is the same. */
static inline scratch
scratch_make(void)
{
    scratch s;
    const char *root = getenv("ORT_SCRATCH");
    snprintf(s.path, sizeof s.path, "%s/ort-XXXXXX",
             root != NULL                    ? root
             : access("/dev/shm", W_OK) == 0 ? "/dev/shm"
                                             : "/tmp");
    if (mkdtemp(s.path) == NULL || (s.fd = open(s.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        perror(s.path);
        abort();
    }
    return s;
}

static inline void
scratch_drop(scratch *s)
{
    char *slash = strrchr(s->path, '/');
    close(s->fd);
    *slash = '\0';
    const int parent = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0 || ort_tree_remove(parent, slash + 1, NULL) != ORT_OK) {
        perror(s->path);
        abort();
    }
    close(parent);
}
#endif /* TESTS_SUPPORT_SCRATCH_H */
