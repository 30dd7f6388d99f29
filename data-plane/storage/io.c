/* Calls that change the disk. */
#include "storage/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"

static int
real_create(int dir_fd, const char *name, int flags)
{
    return ort_open_beneath(dir_fd, name, flags, 0600);
}

static int
real_rename(int dir_fd, const char *from, const char *to)
{
    return renameat(dir_fd, from, dir_fd, to);
}

static int
real_unlink(int dir_fd, const char *name)
{
    return unlinkat(dir_fd, name, 0);
}

const dp_io dp_io_real = {
    .pwrite = pwrite,
    .fdatasync = fdatasync,
    .fsync = fsync,
    .ftruncate = ftruncate,
    .create = real_create,
    .rename = real_rename,
    .unlink = real_unlink,
};

#if ORT_CHECK
static const dp_io *io = &dp_io_real;
static void (*on_point)(const char *point);

void
dp_io_set(const dp_io *other)
{
    io = other != NULL ? other : &dp_io_real;
}

void
dp_io_set_point(void (*fn)(const char *point))
{
    on_point = fn;
}

void
dp_io_point(const char *point)
{
    if (on_point != NULL) {
        on_point(point);
    }
}
#else
static const dp_io *const io = &dp_io_real;
#endif

ort_err
dp_io_write(int fd, const void *bytes, size_t n, uint64_t at, ort_diag *diag)
{
    const char *p = bytes;
    while (n > 0) {
        const ssize_t did = io->pwrite(fd, p, n, (off_t)at);
        if (did < 0) {
            if (errno == EINTR || errno == EAGAIN) {
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

/* A sync that was interrupted has done nothing; any other failure may have dropped the pages. */
ort_err
dp_io_sync_data(int fd, const char *what, ort_diag *diag)
{
    while (io->fdatasync(fd) != 0) {
        if (errno != EINTR) {
            return ort_fail_errno(diag, ORT_EIO, "fdatasync %s", what);
        }
    }
    return ORT_OK;
}

ort_err
dp_io_sync(int fd, const char *what, ort_diag *diag)
{
    while (io->fsync(fd) != 0) {
        if (errno != EINTR) {
            return ort_fail_errno(diag, ORT_EIO, "fsync %s", what);
        }
    }
    return ORT_OK;
}

ort_err
dp_io_truncate(int fd, uint64_t len, ort_diag *diag)
{
    while (io->ftruncate(fd, (off_t)len) != 0) {
        if (errno != EINTR) {
            return ort_fail_errno(diag, ORT_EIO, "truncate to %llu", (unsigned long long)len);
        }
    }
    return ORT_OK;
}

ort_err
dp_io_create(int dir_fd, const char *name, int *fd_out, ort_diag *diag)
{
    *fd_out = io->create(dir_fd, name, O_RDWR | O_CREAT | O_TRUNC);
    return *fd_out >= 0 ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "create %s", name);
}

ort_err
dp_io_rename(int dir_fd, const char *from, const char *to, ort_diag *diag)
{
    return io->rename(dir_fd, from, to) == 0
               ? ORT_OK
               : ort_fail_errno(diag, ORT_EIO, "rename %s to %s", from, to);
}

ort_err
dp_io_unlink(int dir_fd, const char *name, ort_diag *diag)
{
    return io->unlink(dir_fd, name) == 0 || errno == ENOENT
               ? ORT_OK
               : ort_fail_errno(diag, ORT_EIO, "remove %s", name);
}
