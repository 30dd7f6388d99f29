/* shared/base/file.h: descriptors, whole reads and writes, atomic replacement, paths beneath a
 * directory. */
#ifndef ORT_FILE_H
#define ORT_FILE_H
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

void ort_fd_close(int fd); /* -1 is fine */

/* Whole transfers: EINTR and short counts are gone on with. ORT_EIO (or ORT_ENOSPC); a read that
 * meets the end of the file before n bytes is ORT_ECORRUPT. */
ORT_NODISCARD ort_err ort_write_full(int fd, const void *bytes, size_t n, ort_diag *diag);
ORT_NODISCARD ort_err ort_pwrite_full(int fd, const void *bytes, size_t n, uint64_t at,
                                      ort_diag *diag);
ORT_NODISCARD ort_err ort_pread_full(int fd, void *bytes, size_t n, uint64_t at, ort_diag *diag);

/* Opens `path` beneath dir_fd: no "..", no absolute path, no symbolic link anywhere on the way
 * (openat2 with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS). Every file of a tenant is opened by this
 * one. Returns the descriptor, or -1 with errno. O_CLOEXEC is added. */
int ort_open_beneath(int dir_fd, const char *path, int flags, mode_t mode);

/* mkdir -p of one path component, made durable: ORT_OK also when it is there. What could not be
 * made durable is taken away again. */
ORT_NODISCARD ort_err ort_dir_make(int dir_fd, const char *name, ort_diag *diag);

ORT_NODISCARD ort_err ort_dir_sync(int dir_fd, ort_diag *diag);

/* Appends the content of a file to out. dir_fd AT_FDCWD: a path that the operator gave, absolute
 * and through links as he likes; any other: beneath it, as ort_open_beneath(). ORT_ENOTFOUND: no
 * such file. ORT_ETOOBIG: over max_bytes. */
ORT_NODISCARD ort_err ort_file_read(int dir_fd, const char *name, size_t max_bytes, ort_buf *out,
                                    ort_diag *diag);

/* Replaces the file `name` with these bytes so that a crash leaves the old content or the new:
 * name.new is written and fsynced, renamed, and the directory is fsynced. A failure may leave
 * either: the last of these steps may be the one that failed. */
ORT_NODISCARD ort_err ort_file_replace(int dir_fd, const char *name, const void *bytes, size_t n,
                                       mode_t mode, ort_diag *diag);

/* The same without the last step, for who must tell the two apart: a failure leaves the old
 * content; ORT_OK the new, for good once ort_dir_sync() says so. */
ORT_NODISCARD ort_err ort_file_switch(int dir_fd, const char *name, const void *bytes, size_t n,
                                      mode_t mode, ort_diag *diag);

/* Removes a file, or a directory with all below it; ORT_OK when it is not there. Follows no link.
 */
ORT_NODISCARD ort_err ort_tree_remove(int dir_fd, const char *name, ort_diag *diag);
#endif /* ORT_FILE_H */
