/* data-plane/storage/io.h: every call to the disk goes through here, so that tests can make each of
 * them fail, stop the process between two of them, or put a disk of their own in its place. */
#ifndef DP_IO_H
#define DP_IO_H
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* As the calls of libc: -1 (map: NULL) and errno. Descriptors are whatever these calls hand out. */
typedef struct {
    /* what changes it */
    ssize_t (*pwrite)(int fd, const void *bytes, size_t n, off_t at);
    int (*fdatasync)(int fd);
    int (*fsync)(int fd); /* files and directories */
    int (*ftruncate)(int fd, off_t len);
    int (*create)(int dir_fd, const char *name, int flags); /* beneath dir_fd, 0600 */
    int (*rename)(int dir_fd, const char *from, const char *to);
    int (*unlink)(int dir_fd, const char *name);
    int (*push)(int fd, off_t at, off_t n, bool wait); /* begins writing back; promises nothing */
    /* what does not */
    int (*open)(int dir_fd, const char *name, int flags);
    void (*close)(int fd); /* -1 is fine */
    int (*dup)(int dir_fd);
    int (*size)(int fd, uint64_t *out);
    ssize_t (*pread)(int fd, void *bytes, size_t n, off_t at);
    void *(*map)(int fd, size_t n); /* for reading */
    void (*unmap)(void *at, size_t n);
    int (*list)(int dir_fd, int (*fn)(void *ctx, const char *name), void *ctx); /* 0: go on */
} dp_io;

extern const dp_io dp_io_real;

#if ORT_CHECK
/* Replaces the calls; NULL: as they were. Before threads start. */
void dp_io_set(const dp_io *io);
#endif

/* Whole writes, whatever short counts it takes. ORT_EIO, ORT_ENOSPC: a part may be written. */
ORT_NODISCARD ort_err dp_io_write(int fd, const void *bytes, size_t n, uint64_t at, ort_diag *diag);
ORT_NODISCARD ort_err dp_io_sync_data(int fd, const char *what, ort_diag *diag);
ORT_NODISCARD ort_err dp_io_sync(int fd, const char *what, ort_diag *diag);
ORT_NODISCARD ort_err dp_io_truncate(int fd, uint64_t len, ort_diag *diag);

/* Hands written bytes to the disk, and with `wait` waits until it has them: no sync, but the sync
 * that follows has less to do. A failure is that of a sync, which may not hear of it again: what
 * was written to the file is not to be believed. */
ORT_NODISCARD ort_err dp_io_push(int fd, uint64_t at, uint64_t n, bool wait, ort_diag *diag);

/* A new file, for reading and writing; what stood under that name is emptied first. */
ORT_NODISCARD ort_err dp_io_create(int dir_fd, const char *name, int *fd_out, ort_diag *diag);
ORT_NODISCARD ort_err dp_io_rename(int dir_fd, const char *from, const char *to, ort_diag *diag);

/* ORT_OK also when there is no such file. */
ORT_NODISCARD ort_err dp_io_unlink(int dir_fd, const char *name, ort_diag *diag);

/* An existing file. ORT_ENOTFOUND: there is none. */
ORT_NODISCARD ort_err dp_io_open(int dir_fd, const char *name, int flags, int *fd_out,
                                 ort_diag *diag);
void dp_io_close(int fd); /* -1 is fine */

/* Another descriptor of a directory. */
ORT_NODISCARD ort_err dp_io_dup(int dir_fd, int *fd_out, ort_diag *diag);
ORT_NODISCARD ort_err dp_io_size(int fd, uint64_t *out, const char *what, ort_diag *diag);

/* Exactly n bytes; ORT_ECORRUPT: the file ends before. */
ORT_NODISCARD ort_err dp_io_read(int fd, void *bytes, size_t n, uint64_t at, ort_diag *diag);

/* A whole file, appended. ORT_ENOTFOUND; ORT_ETOOBIG: over max_bytes. */
ORT_NODISCARD ort_err dp_io_read_file(int dir_fd, const char *name, size_t max_bytes, ort_buf *out,
                                      ort_diag *diag);

/* The first n > 0 bytes, for reading; until dp_io_unmap(). */
ORT_NODISCARD ort_err dp_io_map(int fd, size_t n, void **out, const char *what, ort_diag *diag);
void dp_io_unmap(void *at, size_t n);

/* Calls fn with each name of the directory until it returns something else than 0, which is handed
 * on. ORT_EIO. */
ORT_NODISCARD ort_err dp_io_list(int dir_fd, int (*fn)(void *ctx, const char *name), void *ctx,
                                 int *stopped_out, ort_diag *diag);
#endif /* DP_IO_H */
