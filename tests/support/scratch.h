/* tests/support/scratch.h: a directory for a test, and its removal. */
#ifndef TESTS_SUPPORT_SCRATCH_H
#define TESTS_SUPPORT_SCRATCH_H
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"

typedef struct {
    int fd;
    char path[64];
} scratch;

/* Where tests put what they write: $ORT_SCRATCH, or memory if there is enough of it (a container
 * may give 64 MB). A busy disk makes thousands of syncs a matter of minutes, and what a test sees
 * of them is the same. */
static inline const char *
scratch_root(void)
{
    struct statvfs room;
    const char *root = getenv("ORT_SCRATCH");
    if (root == NULL && access("/dev/shm", W_OK) == 0 && statvfs("/dev/shm", &room) == 0 &&
        (uint64_t)room.f_bavail * room.f_frsize >= UINT64_C(2) << 30) {
        root = "/dev/shm";
    }
    return root != NULL ? root : "/tmp";
}

/* Makes a new directory, named `name` and six letters; its path goes to `out`. */
static inline void
scratch_dir(char *out, size_t bytes, const char *name)
{
    const int n = snprintf(out, bytes, "%s/%s-XXXXXX", scratch_root(), name);
    if (n < 0 || (size_t)n >= bytes || mkdtemp(out) == NULL) {
        perror(out);
        abort();
    }
}

static inline void
scratch_remove(const char *path)
{
    char parent_path[256];
    const char *slash = strrchr(path, '/');
    snprintf(parent_path, sizeof parent_path, "%.*s", (int)(slash - path), path);
    const int parent = open(parent_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0 || ort_tree_remove(parent, slash + 1, NULL) != ORT_OK) {
        perror(path);
        abort();
    }
    close(parent);
}

static inline scratch
scratch_make(void)
{
    scratch s;
    scratch_dir(s.path, sizeof s.path, "ort");
    s.fd = open(s.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.fd < 0) {
        perror(s.path);
        abort();
    }
    return s;
}

static inline void
scratch_drop(scratch *s)
{
    close(s->fd);
    scratch_remove(s->path);
}
#endif /* TESTS_SUPPORT_SCRATCH_H */
