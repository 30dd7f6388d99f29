/* Calls of libc that fail when a test wants it; see shim.h. Preloaded, so it is built without
 * sanitizers, allocates nothing, and keeps to calls that are safe before main().
 *
 * openat2() has no wrapper in libc: programs make it through syscall(), which is looked at too. */
#include "shim.h"
#include "below.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static shim_control own; /* without a control file */
static shim_control *control = &own;

static uint64_t
number_of(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void
begin(void)
{
    const char *file = getenv(SHIM_CONTROL);
    if (!below_set(getenv(SHIM_DIR))) {
        return;
    }
    if (file != NULL) {
        const int fd = open(file, O_RDWR | O_CLOEXEC);
        void *at = fd >= 0 ? mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                           : MAP_FAILED;
        if (at == MAP_FAILED) {
            perror(file); /* a test that believes itself armed would prove nothing */
            abort();
        }
        close(fd);
        control = at;
    } else {
        own.calls = (uint32_t)number_of(SHIM_CALLS);
        own.error = (uint32_t)number_of(SHIM_ERROR);
        own.lasting = (uint32_t)number_of(SHIM_LASTING);
        own.left = number_of(SHIM_LEFT);
    }
}

/* --- which calls are ours --------------------------------------------------------------------- */

/* Counts a call; true: it is to fail. Whoever takes `left` from 1 is the n-th; 0 is none. */
static bool
fails(uint32_t kind)
{
    if ((control->calls & kind) == 0) {
        return false;
    }
    control->seen++;
    uint64_t left = control->left;
    while (left != 0 && !(left == 1 && control->lasting) &&
           !atomic_compare_exchange_weak(&control->left, &left, left - 1)) {
    }
    if (left != 1) {
        return false;
    }
    control->failed++;
    return true;
}

/* --- the file whose sync failed --------------------------------------------------------------- */

static bool
is_broken(const struct stat *st)
{
    return control->broken_inode != 0 && st->st_ino == control->broken_inode &&
           st->st_dev == control->broken_device;
}

static bool
fd_is_broken(int fd)
{
    struct stat st;
    return control->broken_inode != 0 && fstat(fd, &st) == 0 && is_broken(&st);
}

static void
sync_failed(int fd)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        control->broken_device = st.st_dev;
        control->broken_inode = st.st_ino;
    }
}

/* --- writing ---------------------------------------------------------------------------------- */

/* What becomes of a write of n bytes: all of it, or how much and what is said of it. */
typedef struct {
    size_t take;
    bool says_error;
} fate;

static fate
fate_of_write(int fd, size_t n)
{
    fate f = {.take = n};
    if (!fd_is_below(fd)) {
        return f;
    }
    if (fails(SHIM_WRITE)) {
        const uint32_t error = control->error;
        f.says_error = error != 0;
        f.take = error == 0 ? (n + 1) / 2 : error == EIO ? n / 2 : 0;
    }
    if (fd_is_broken(fd)) {
        control->broken_writes++;
    }
    return f;
}

static ssize_t
end_write(fate f, ssize_t did)
{
    if (f.says_error) {
        errno = (int)control->error;
        return -1;
    }
    return did;
}

ssize_t
write(int fd, const void *bytes, size_t n)
{
    REAL(write)
    const fate f = fate_of_write(fd, n);
    return end_write(f, f.take > 0 || n == 0 ? real(fd, bytes, f.take) : 0);
}

ssize_t
pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    REAL(pwrite)
    const fate f = fate_of_write(fd, n);
    return end_write(f, f.take > 0 || n == 0 ? real(fd, bytes, f.take, at) : 0);
}

ssize_t
pwrite64(int fd, const void *bytes, size_t n, off64_t at)
{
    return pwrite(fd, bytes, n, at);
}

/* Half of a vector of buffers is the first half of the buffers, or half of the only one. */
static ssize_t
write_vector(int fd, const struct iovec *parts, int count, off_t at, int flags)
{
    REAL(pwritev2)
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        n += parts[i].iov_len;
    }
    const fate f = fate_of_write(fd, n);
    if (f.take == n) {
        return end_write(f, real(fd, parts, count, at, flags));
    }
    const struct iovec half = {.iov_base = count > 0 ? parts[0].iov_base : NULL,
                               .iov_len = count > 0 && parts[0].iov_len < f.take ? parts[0].iov_len
                                                                                 : f.take};
    const bool one = count == 1 || half.iov_len == f.take;
    return end_write(
        f, f.take == 0 ? 0 : real(fd, one ? &half : parts, one ? 1 : count / 2, at, flags));
}

ssize_t
writev(int fd, const struct iovec *parts, int count)
{
    return write_vector(fd, parts, count, -1, 0); /* -1: where the file stands */
}

ssize_t
pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    return write_vector(fd, parts, count, at, 0);
}

ssize_t
pwritev64(int fd, const struct iovec *parts, int count, off64_t at)
{
    return write_vector(fd, parts, count, at, 0);
}

ssize_t
pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags)
{
    return write_vector(fd, parts, count, at, flags);
}

ssize_t
pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags)
{
    return write_vector(fd, parts, count, at, flags);
}

/* What the kinds without a half have in common: true, with errno, when this one fails. */
static bool
refused(uint32_t kind)
{
    if (!fails(kind)) {
        return false;
    }
    errno = control->error != 0 ? (int)control->error : EIO;
    return true;
}

int
ftruncate(int fd, off_t len)
{
    REAL(ftruncate)
    return fd_is_below(fd) && refused(SHIM_TRUNCATE) ? -1 : real(fd, len);
}

int
ftruncate64(int fd, off64_t len)
{
    return ftruncate(fd, len);
}

/* --- syncing ---------------------------------------------------------------------------------- */

static bool
sync_is_refused(int fd)
{
    if (!fd_is_below(fd)) {
        return false;
    }
    if (fd_is_broken(fd)) {
        control->broken_syncs++;
    }
    if (!refused(SHIM_SYNC)) {
        return false;
    }
    const int error = errno;
    sync_failed(fd);
    errno = error;
    return true;
}

int
fsync(int fd)
{
    REAL(fsync)
    return sync_is_refused(fd) ? -1 : real(fd);
}

int
fdatasync(int fd)
{
    REAL(fdatasync)
    return sync_is_refused(fd) ? -1 : real(fd);
}

int
sync_file_range(int fd, off64_t at, off64_t n, unsigned flags)
{
    REAL(sync_file_range)
    return sync_is_refused(fd) ? -1 : real(fd, at, n, flags);
}

/* --- names ------------------------------------------------------------------------------------ */

static bool
rename_is_refused(int from_fd, const char *from, int to_fd, const char *to)
{
    struct stat st;
    if (!name_is_below(from_fd, from) && !name_is_below(to_fd, to)) {
        return false;
    }
    if (refused(SHIM_RENAME)) {
        return true;
    }
    const int error = errno;
    if (control->broken_inode != 0 && fstatat(from_fd, from, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        is_broken(&st)) {
        control->broken_renames++;
    }
    errno = error;
    return false;
}

int
rename(const char *from, const char *to)
{
    REAL(rename)
    return rename_is_refused(AT_FDCWD, from, AT_FDCWD, to) ? -1 : real(from, to);
}

int
renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    REAL(renameat)
    return rename_is_refused(from_fd, from, to_fd, to) ? -1 : real(from_fd, from, to_fd, to);
}

int
renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    REAL(renameat2)
    return rename_is_refused(from_fd, from, to_fd, to) ? -1 : real(from_fd, from, to_fd, to, flags);
}

int
mkdirat(int dir_fd, const char *name, mode_t mode)
{
    REAL(mkdirat)
    return name_is_below(dir_fd, name) && refused(SHIM_MAKE) ? -1 : real(dir_fd, name, mode);
}

int
mkdir(const char *name, mode_t mode)
{
    return mkdirat(AT_FDCWD, name, mode);
}

int
linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    REAL(linkat)
    return name_is_below(to_fd, to) && refused(SHIM_MAKE) ? -1
                                                          : real(from_fd, from, to_fd, to, flags);
}

/* A removed file's inode may be given to another, and an emptied one's failed pages are gone. */
static void
mend(int dir_fd, const char *name)
{
    struct stat st;
    const int error = errno;
    if (control->broken_inode != 0 && fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        is_broken(&st)) {
        control->broken_inode = 0;
    }
    errno = error;
}

int
unlinkat(int dir_fd, const char *name, int flags)
{
    REAL(unlinkat)
    if (name_is_below(dir_fd, name)) {
        if (refused(SHIM_UNLINK)) {
            return -1;
        }
        mend(dir_fd, name);
    }
    return real(dir_fd, name, flags);
}

int
unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

/* --- opening ---------------------------------------------------------------------------------- */

static bool
open_is_refused(int dir_fd, const char *name, uint64_t flags)
{
    const bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0;
    if (!writes || (flags & O_PATH) != 0 || !name_is_below(dir_fd, name)) {
        return false;
    }
    if (refused(SHIM_OPEN)) {
        return true;
    }
    if ((flags & O_TRUNC) != 0) {
        mend(dir_fd, name);
    }
    return false;
}

static mode_t
mode_of(int flags, va_list args)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
}

#define OPEN(flags)                           \
    va_list args;                             \
    va_start(args, flags);                    \
    const mode_t mode = mode_of(flags, args); \
    va_end(args);

int
open(const char *name, int flags, ...)
{
    REAL(open)
    OPEN(flags)
    return open_is_refused(AT_FDCWD, name, (uint64_t)flags) ? -1 : real(name, flags, mode);
}

int
open64(const char *name, int flags, ...)
{
    OPEN(flags)
    return open(name, flags, mode);
}

int
openat(int dir_fd, const char *name, int flags, ...)
{
    REAL(openat)
    OPEN(flags)
    return open_is_refused(dir_fd, name, (uint64_t)flags) ? -1 : real(dir_fd, name, flags, mode);
}

int
openat64(int dir_fd, const char *name, int flags, ...)
{
    OPEN(flags)
    return openat(dir_fd, name, flags, mode);
}

int
creat(const char *name, mode_t mode)
{
    return open(name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int
creat64(const char *name, mode_t mode)
{
    return creat(name, mode);
}

/* No system call takes more than six words, and reading six where fewer were given is what libc
 * itself does. */
long
syscall(long number, ...)
{
    REAL(syscall)
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(args, long);
    }
    va_end(args);
    if (number == SYS_openat2 && a[2] != 0) {
        const struct open_how *how = (const struct open_how *)a[2];
        if (open_is_refused((int)a[0], (const char *)a[1], how->flags)) {
            return -1;
        }
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
