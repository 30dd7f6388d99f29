/* data-plane/storage/io.h: every call that changes the disk goes through here, so that tests can
 * make each of them fail, or stop the process between two of them. */
#ifndef DP_IO_H
#define DP_IO_H
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* As the calls of libc: -1 and errno. */
typedef struct {
    ssize_t (*pwrite)(int fd, const void *bytes, size_t n, off_t at);
    int (*fdatasync)(int fd);
    int (*fsync)(int fd); /* files and directories */
    int (*ftruncate)(int fd, off_t len);
    int (*create)(int dir_fd, const char *name, int flags); /* beneath dir_fd, 0600 */
    int (*rename)(int dir_fd, const char *from, const char *to);
    int (*unlink)(int dir_fd, const char *name);
} dp_io;

extern const dp_io dp_io_real;

#if ORT_CHECK
/* Replaces the calls, and what a named point calls; NULL: as it was. Before threads start. */
void dp_io_set(const dp_io *io);
void dp_io_set_point(void (*fn)(const char *point));
void dp_io_point(const char *point);
#else
/* A named place where a crash would be interesting; nothing outside the checking builds. */
static inline void
dp_io_point(const char *point)
{
    (void)point;
}
#endif

/* Whole writes, whatever short counts it takes. ORT_EIO, ORT_ENOSPC: a part may be written. */
ORT_NODISCARD ort_err dp_io_write(int fd, const void *bytes, size_t n, uint64_t at, ort_diag *diag);
ORT_NODISCARD ort_err dp_io_sync_data(int fd, const char *what, ort_diag *diag);
ORT_NODISCARD ort_err dp_io_sync(int fd, const char *what, ort_diag *diag);
ORT_NODISCARD ort_err dp_io_truncate(int fd, uint64_t len, ort_diag *diag);

/* A new file, for reading and writing; what stood under that name is emptied first. */
ORT_NODISCARD ort_err dp_io_create(int dir_fd, const char *name, int *fd_out, ort_diag *diag);
ORT_NODISCARD ort_err dp_io_rename(int dir_fd, const char *from, const char *to, ort_diag *diag);

/* ORT_OK also when there is no such file. */
ORT_NODISCARD ort_err dp_io_unlink(int dir_fd, const char *name, ort_diag *diag);
#endif /* DP_IO_H */
