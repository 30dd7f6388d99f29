/* Calls to the disk. */
#include "storage/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

static int
real_push(int fd, off_t at, off_t n, bool wait)
{
    const unsigned before = SYNC_FILE_RANGE_WAIT_BEFORE, after = SYNC_FILE_RANGE_WAIT_AFTER;
    return sync_file_range(fd, at, n, SYNC_FILE_RANGE_WRITE | (wait ? before | after : 0u));
}

static int
real_open(int dir_fd, const char *name, int flags)
{
    return ort_open_beneath(dir_fd, name, flags, 0);
}

static int
real_dup(int dir_fd)
{
    return fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
}

static int
real_size(int fd, uint64_t *out)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return -1;
    }
    *out = (uint64_t)st.st_size;
    return 0;
}

static void *
real_map(int fd, size_t n)
{
    void *at = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
    return at != MAP_FAILED ? at : NULL;
}

static void
real_unmap(void *at, size_t n)
{
    munmap(at, n);
}

static int
real_list(int dir_fd, int (*fn)(void *ctx, const char *name), void *ctx)
{
    /* Not a dup: that would share its position with every other reader of the directory. */
    const int fd = ort_open_beneath(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int stopped = 0;
    if (dir == NULL) {
        ort_fd_close(fd);
        return -1;
    }
    errno = 0;
    for (const struct dirent *d; stopped == 0 && (d = readdir(dir)) != NULL;) {
        stopped = fn(ctx, d->d_name);
        errno = 0;
    }
    const int error = errno;
    closedir(dir);
    errno = error;
    return stopped == 0 && error != 0 ? -1 : stopped;
}

const dp_io dp_io_real = {
    .pwrite = pwrite,
    .fdatasync = fdatasync,
    .fsync = fsync,
    .ftruncate = ftruncate,
    .create = real_create,
    .rename = real_rename,
    .unlink = real_unlink,
    .push = real_push,
    .open = real_open,
    .close = ort_fd_close,
    .dup = real_dup,
    .size = real_size,
    .pread = pread,
    .map = real_map,
    .unmap = real_unmap,
    .list = real_list,
};

#if ORT_CHECK
static const dp_io *io = &dp_io_real;

void
dp_io_set(const dp_io *other)
{
    io = other != NULL ? other : &dp_io_real;
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

/* Linux tells a descriptor of lost pages once, and this call counts as telling: were it not
 * believed, the sync that follows would answer that all is well. Where there is no such call there
 * is nothing to believe. */
ort_err
dp_io_push(int fd, uint64_t at, uint64_t n, bool wait, ort_diag *diag)
{
    while (io->push(fd, (off_t)at, (off_t)n, wait) != 0) {
        if (errno == ENOSYS || errno == EINVAL || errno == ESPIPE || errno == EOPNOTSUPP) {
            return ORT_OK;
        }
        if (errno != EINTR) {
            return ort_fail_errno(diag, ORT_EIO, "write back at %llu", (unsigned long long)at);
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

ort_err
dp_io_open(int dir_fd, const char *name, int flags, int *fd_out, ort_diag *diag)
{
    *fd_out = io->open(dir_fd, name, flags);
    if (*fd_out >= 0) {
        return ORT_OK;
    }
    return errno == ENOENT ? ort_fail(diag, ORT_ENOTFOUND, "there is no file %s", name)
                           : ort_fail_errno(diag, ORT_EIO, "open %s", name);
}

void
dp_io_close(int fd)
{
    io->close(fd);
}

ort_err
dp_io_dup(int dir_fd, int *fd_out, ort_diag *diag)
{
    *fd_out = io->dup(dir_fd);
    return *fd_out >= 0 ? ORT_OK
                        : ort_fail_errno(diag, ORT_EIO, "duplicate a directory descriptor");
}

ort_err
dp_io_size(int fd, uint64_t *out, const char *what, ort_diag *diag)
{
    return io->size(fd, out) == 0 ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "stat %s", what);
}

ort_err
dp_io_read(int fd, void *bytes, size_t n, uint64_t at, ort_diag *diag)
{
    char *p = bytes;
    while (n > 0) {
        const ssize_t did = io->pread(fd, p, n, (off_t)at);
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

ort_err
dp_io_read_file(int dir_fd, const char *name, size_t max_bytes, ort_buf *out, ort_diag *diag)
{
    int fd;
    uint64_t size = 0;
    ort_err err = dp_io_open(dir_fd, name, O_RDONLY, &fd, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = dp_io_size(fd, &size, name, diag);
    if (err == ORT_OK && size > max_bytes) {
        err = ort_fail(diag, ORT_ETOOBIG, "%s has %llu bytes, at most %zu are read", name,
                       (unsigned long long)size, max_bytes);
    }
    if (err == ORT_OK && size > 0) {
        char *to = ort_buf_reserve(out, (size_t)size);
        err = to == NULL ? ort_fail(diag, ORT_ENOMEM, "read %s", name)
                         : dp_io_read(fd, to, (size_t)size, 0, diag);
        if (err == ORT_OK) {
            ort_buf_commit(out, (size_t)size);
        }
    }
    dp_io_close(fd);
    return err;
}

ort_err
dp_io_map(int fd, size_t n, void **out, const char *what, ort_diag *diag)
{
    *out = io->map(fd, n);
    return *out != NULL ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "map %s", what);
}

void
dp_io_unmap(void *at, size_t n)
{
    io->unmap(at, n);
}

ort_err
dp_io_list(int dir_fd, int (*fn)(void *ctx, const char *name), void *ctx, int *stopped_out,
           ort_diag *diag)
{
    *stopped_out = io->list(dir_fd, fn, ctx);
    return *stopped_out >= 0 ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "read the shard's directory");
}
