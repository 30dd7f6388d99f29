/* Calls of libc that change a directory are written down as they are made; see journal.h. One at a
 * time, so that the order in the journal is the order on the disk. Preloaded: built without
 * sanitizers. openat2() comes through syscall(). */
#include "journal.h"
#include "below.h"

#include <linux/openat2.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static int journal = -1;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void
begin(void)
{
    const char *file = getenv(JOURNAL_FILE);
    if (file == NULL || !below_set(getenv(JOURNAL_DIR))) {
        return;
    }
    below_len = 0; /* not this one */
    journal = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
    below_len = strlen(below);
    if (journal < 0) {
        perror(file); /* a test that believes itself watched would prove nothing */
        abort();
    }
}

static void
note(const journal_record *r, const char *name, const void *data)
{
    static ssize_t (*real)(int, const struct iovec *, int);
    const int error = errno;
    const struct iovec parts[3] = {{.iov_base = (void *)(uintptr_t)r, .iov_len = sizeof *r},
                                   {.iov_base = (void *)(uintptr_t)name, .iov_len = r->name_bytes},
                                   {.iov_base = (void *)(uintptr_t)data, .iov_len = r->data_bytes}};
    const ssize_t want = (ssize_t)(sizeof *r + r->name_bytes + r->data_bytes);
    if (real == NULL) {
        *(void **)(&real) = dlsym(RTLD_NEXT, "writev");
    }
    if (real(journal, parts, 3) != want) {
        perror("journal");
        abort();
    }
    errno = error;
}

static uint64_t
inode_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* A name of a path, and the directory it is in. */
typedef struct {
    uint64_t dir;
    const char *name;
} place;

static place
place_of(int dir_fd, const char *path)
{
    char parent[BELOW_PATH_BYTES];
    struct stat st;
    const char *slash = strrchr(path, '/');
    place p = {.name = slash != NULL ? slash + 1 : path};
    if (slash == NULL) {
        p.dir = dir_fd == AT_FDCWD ? (stat(".", &st) == 0 ? st.st_ino : 0) : inode_of(dir_fd);
        return p;
    }
    snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
    p.dir = fstatat(dir_fd, parent, &st, 0) == 0 ? st.st_ino : 0;
    return p;
}

static void
note_name(journal_type type, place at, uint64_t file)
{
    const journal_record r = {
        .type = type, .dir = at.dir, .file = file, .name_bytes = (uint32_t)strlen(at.name)};
    note(&r, at.name, NULL);
}

/* --- writing ---------------------------------------------------------------------------------- */

static void
note_write(int fd, const void *bytes, ssize_t n, off_t at)
{
    if (n > 0) {
        const journal_record r = {.type = JOURNAL_WRITE,
                                  .file = inode_of(fd),
                                  .at = (uint64_t)at,
                                  .data_bytes = (uint32_t)n};
        note(&r, NULL, bytes);
    }
}

ssize_t
write(int fd, const void *bytes, size_t n)
{
    REAL(write)
    if (!fd_is_below(fd)) {
        return real(fd, bytes, n);
    }
    pthread_mutex_lock(&order);
    const off_t at = lseek(fd, 0, SEEK_CUR);
    const ssize_t did = real(fd, bytes, n);
    note_write(fd, bytes, did, at);
    pthread_mutex_unlock(&order);
    return did;
}

ssize_t
pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    REAL(pwrite)
    if (!fd_is_below(fd)) {
        return real(fd, bytes, n, at);
    }
    pthread_mutex_lock(&order);
    const ssize_t did = real(fd, bytes, n, at);
    note_write(fd, bytes, did, at);
    pthread_mutex_unlock(&order);
    return did;
}

ssize_t
pwrite64(int fd, const void *bytes, size_t n, off64_t at)
{
    return pwrite(fd, bytes, n, at);
}

/* Nobody below makes these: whoever begins to is to be written down here first. */
ssize_t
writev(int fd, const struct iovec *parts, int count)
{
    REAL(writev)
    if (fd_is_below(fd)) {
        abort();
    }
    return real(fd, parts, count);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    REAL(pwritev)
    if (fd_is_below(fd)) {
        abort();
    }
    return real(fd, parts, count, at);
}

int
ftruncate(int fd, off_t len)
{
    REAL(ftruncate)
    if (!fd_is_below(fd)) {
        return real(fd, len);
    }
    pthread_mutex_lock(&order);
    const int rc = real(fd, len);
    if (rc == 0) {
        note(&(journal_record){.type = JOURNAL_TRUNCATE, .file = inode_of(fd), .at = (uint64_t)len},
             NULL, NULL);
    }
    pthread_mutex_unlock(&order);
    return rc;
}

int
ftruncate64(int fd, off64_t len)
{
    return ftruncate(fd, len);
}

/* --- syncing ---------------------------------------------------------------------------------- */

static int
sync_and_note(int fd, int (*real)(int fd))
{
    if (!fd_is_below(fd)) {
        return real(fd);
    }
    pthread_mutex_lock(&order);
    const int rc = real(fd);
    if (rc == 0) {
        note(&(journal_record){.type = JOURNAL_SYNC, .file = inode_of(fd)}, NULL, NULL);
    }
    pthread_mutex_unlock(&order);
    return rc;
}

int
fsync(int fd)
{
    REAL(fsync)
    return sync_and_note(fd, real);
}

int
fdatasync(int fd)
{
    REAL(fdatasync)
    return sync_and_note(fd, real);
}

/* --- names ------------------------------------------------------------------------------------ */

int
renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    REAL(renameat)
    if (!name_is_below(from_fd, from) && !name_is_below(to_fd, to)) {
        return real(from_fd, from, to_fd, to);
    }
    pthread_mutex_lock(&order);
    const place a = place_of(from_fd, from), b = place_of(to_fd, to);
    const int rc = real(from_fd, from, to_fd, to);
    if (rc == 0) {
        const journal_record r = {.type = JOURNAL_RENAME,
                                  .dir = a.dir,
                                  .to_dir = b.dir,
                                  .name_bytes = (uint32_t)strlen(a.name),
                                  .data_bytes = (uint32_t)strlen(b.name)};
        note(&r, a.name, b.name);
    }
    pthread_mutex_unlock(&order);
    return rc;
}

int
rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int
linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    REAL(linkat)
    struct stat st;
    if (!name_is_below(to_fd, to)) {
        return real(from_fd, from, to_fd, to, flags);
    }
    pthread_mutex_lock(&order);
    const int rc = real(from_fd, from, to_fd, to, flags);
    const int error = errno;
    if (rc == 0 && fstatat(to_fd, to, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        note_name(JOURNAL_LINK, place_of(to_fd, to), st.st_ino);
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return rc;
}

int
mkdirat(int dir_fd, const char *name, mode_t mode)
{
    REAL(mkdirat)
    struct stat st;
    if (!name_is_below(dir_fd, name)) {
        return real(dir_fd, name, mode);
    }
    pthread_mutex_lock(&order);
    const int rc = real(dir_fd, name, mode);
    const int error = errno;
    if (rc == 0 && fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        note_name(JOURNAL_MKDIR, place_of(dir_fd, name), st.st_ino);
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return rc;
}

int
mkdir(const char *name, mode_t mode)
{
    return mkdirat(AT_FDCWD, name, mode);
}

int
unlinkat(int dir_fd, const char *name, int flags)
{
    REAL(unlinkat)
    if (!name_is_below(dir_fd, name)) {
        return real(dir_fd, name, flags);
    }
    pthread_mutex_lock(&order);
    const place at = place_of(dir_fd, name);
    const int rc = real(dir_fd, name, flags);
    if (rc == 0) {
        note_name(JOURNAL_UNLINK, at, 0);
    }
    pthread_mutex_unlock(&order);
    return rc;
}

int
unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

/* --- opening ---------------------------------------------------------------------------------- */

typedef struct {
    int dir_fd;
    const char *name;
    uint64_t flags;
    bool was_there;
} opening;

/* Locks when it may change something. */
static bool
before_open(opening *o)
{
    struct stat st;
    const int error = errno;
    if ((o->flags & (O_CREAT | O_TRUNC)) == 0 || (o->flags & O_PATH) != 0 ||
        (o->flags & O_TMPFILE) == O_TMPFILE || !name_is_below(o->dir_fd, o->name)) {
        return false;
    }
    pthread_mutex_lock(&order);
    o->was_there = fstatat(o->dir_fd, o->name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    errno = error;
    return true;
}

static void
after_open(const opening *o, int fd)
{
    const int error = errno;
    if (fd >= 0 && !o->was_there) {
        note_name(JOURNAL_CREATE, place_of(o->dir_fd, o->name), inode_of(fd));
    } else if (fd >= 0 && (o->flags & O_TRUNC) != 0) {
        note(&(journal_record){.type = JOURNAL_TRUNCATE, .file = inode_of(fd)}, NULL, NULL);
    }
    pthread_mutex_unlock(&order);
    errno = error;
}

int
openat(int dir_fd, const char *name, int flags, ...)
{
    REAL(openat)
    opening o = {.dir_fd = dir_fd, .name = name, .flags = (uint64_t)flags};
    va_list args;
    va_start(args, flags);
    const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (!before_open(&o)) {
        return real(dir_fd, name, flags, mode);
    }
    const int fd = real(dir_fd, name, flags, mode);
    after_open(&o, fd);
    return fd;
}

int
open(const char *name, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return openat(AT_FDCWD, name, flags, mode);
}

int
open64(const char *name, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return openat(AT_FDCWD, name, flags, mode);
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
        opening o = {.dir_fd = (int)a[0],
                     .name = (const char *)a[1],
                     .flags = ((const struct open_how *)a[2])->flags};
        if (before_open(&o)) {
            const long fd = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
            after_open(&o, (int)fd);
            return fd;
        }
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
