/* Files. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/point.h"

#define TREE_DEPTH_MAX 32

void
ort_fd_close(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

ort_err
ort_write_full(int fd, const void *bytes, size_t n, ort_diag *diag)
{
    const char *p = bytes;
    while (n > 0) {
        const ssize_t did = write(fd, p, n);
        if (did < 0) {
            if (errno == EINTR) {
                continue;
            }
            return ort_fail_errno(diag, ORT_EIO, "write");
        }
        p += did;
        n -= (size_t)did;
    }
    return ORT_OK;
}

ort_err
ort_pwrite_full(int fd, const void *bytes, size_t n, uint64_t at, ort_diag *diag)
{
    const char *p = bytes;
    while (n > 0) {
        const ssize_t did = pwrite(fd, p, n, (off_t)at);
        if (did < 0) {
            if (errno == EINTR) {
                continue;
            }
            return ort_fail_errno(diag, ORT_EIO, "write at %llu", (unsigned long long)at);
        }
        p += did;
        n -= (size_t)did;
        at += (uint64_t)did;
    }
    return ORT_OK;
}

ort_err
ort_pread_full(int fd, void *bytes, size_t n, uint64_t at, ort_diag *diag)
{
    char *p = bytes;
    while (n > 0) {
        const ssize_t did = pread(fd, p, n, (off_t)at);
        if (did < 0) {
            if (errno == EINTR) {
                continue;
            }
            return ort_fail_errno(diag, ORT_EIO, "read at %llu", (unsigned long long)at);
        }
        if (did == 0) {
            return ort_fail(diag, ORT_ECORRUPT, "the file ends at %llu, %zu bytes short",
                            (unsigned long long)at, n);
        }
        p += did;
        n -= (size_t)did;
        at += (uint64_t)did;
    }
    return ORT_OK;
}

int
ort_open_beneath(int dir_fd, const char *path, int flags, mode_t mode)
{
    const struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = (flags & O_CREAT) != 0 ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    long fd;
    do {
        fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
    } while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return (int)fd;
}

ort_err
ort_dir_sync(int dir_fd, ort_diag *diag)
{
    return fsync(dir_fd) == 0 ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "fsync a directory");
}

ort_err
ort_dir_make(int dir_fd, const char *name, ort_diag *diag)
{
    if (mkdirat(dir_fd, name, 0700) != 0) {
        return errno == EEXIST ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "make directory %s", name);
    }
    ort_point("dir.made");
    const ort_err err = ort_dir_sync(dir_fd, diag);
    if (err != ORT_OK) {
        /* Who asks again would find it there and believe that it stays. */
        (void)unlinkat(dir_fd, name, AT_REMOVEDIR);
    }
    return err;
}

ort_err
ort_file_read(int dir_fd, const char *name, size_t max_bytes, ort_buf *out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    struct stat st;
    const int fd = dir_fd == AT_FDCWD ? open(name, O_RDONLY | O_CLOEXEC)
                                      : ort_open_beneath(dir_fd, name, O_RDONLY, 0);
    if (fd < 0) {
        return ort_fail_errno(diag, errno == ENOENT ? ORT_ENOTFOUND : ORT_EIO, "open %s", name);
    }
    if (fstat(fd, &st) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "stat %s", name);
    } else if (!S_ISREG(st.st_mode)) {
        err = ort_fail(diag, ORT_EIO, "%s is not a regular file", name);
    } else if ((uint64_t)st.st_size > max_bytes) {
        err = ort_fail(diag, ORT_ETOOBIG, "%s has %lld bytes, at most %zu are read", name,
                       (long long)st.st_size, max_bytes);
    } else {
        char *at = ort_buf_reserve(out, (size_t)st.st_size);
        err = at == NULL ? ort_fail(diag, ORT_ENOMEM, "read %s", name)
                         : ort_pread_full(fd, at, (size_t)st.st_size, 0, diag);
        if (err == ORT_OK) {
            ort_buf_commit(out, (size_t)st.st_size);
        }
    }
    ort_fd_close(fd);
    return err;
}

ort_err
ort_file_switch(int dir_fd, const char *name, const void *bytes, size_t n, mode_t mode,
                ort_diag *diag)
{
    char fresh[NAME_MAX + 1];
    if (snprintf(fresh, sizeof fresh, "%s.new", name) >= (int)sizeof fresh) {
        return ort_fail(diag, ORT_EINVAL, "file name %s is too long", name);
    }
    const int fd = ort_open_beneath(dir_fd, fresh, O_WRONLY | O_CREAT | O_TRUNC, mode);
    if (fd < 0) {
        return ort_fail_errno(diag, ORT_EIO, "create %s", fresh);
    }
    ort_err err = ort_write_full(fd, bytes, n, diag);
    if (err == ORT_OK && fsync(fd) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "fsync %s", fresh);
    }
    ort_fd_close(fd);
    ort_point("file.written");
    if (err == ORT_OK && renameat(dir_fd, fresh, dir_fd, name) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "rename %s", fresh);
    }
    if (err != ORT_OK) {
        unlinkat(dir_fd, fresh, 0);
    }
    return err;
}

ort_err
ort_file_replace(int dir_fd, const char *name, const void *bytes, size_t n, mode_t mode,
                 ort_diag *diag)
{
    const ort_err err = ort_file_switch(dir_fd, name, bytes, n, mode, diag);
    ort_point("file.renamed");
    return err == ORT_OK ? ort_dir_sync(dir_fd, diag) : err;
}

static ort_err
tree_remove(int dir_fd, const char *name, int depth, ort_diag *diag)
{
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT) {
        return ORT_OK;
    }
    if (errno != EISDIR && errno != EPERM) {
        return ort_fail_errno(diag, ORT_EIO, "remove %s", name);
    }
    if (depth >= TREE_DEPTH_MAX) {
        return ort_fail(diag, ORT_EIO, "%s lies too deep to remove", name);
    }
    const int fd = ort_open_beneath(dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        ort_fd_close(fd);
        return ort_fail_errno(diag, ORT_EIO, "open directory %s", name);
    }
    ort_err err = ORT_OK;
    for (struct dirent *d; err == ORT_OK && (d = readdir(dir)) != NULL;) {
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0) {
            err = tree_remove(fd, d->d_name, depth + 1, diag);
        }
    }
    closedir(dir);
    if (err == ORT_OK && unlinkat(dir_fd, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        err = ort_fail_errno(diag, ORT_EIO, "remove directory %s", name);
    }
    return err;
}

ort_err
ort_tree_remove(int dir_fd, const char *name, ort_diag *diag)
{
    return tree_remove(dir_fd, name, 0, diag);
}
